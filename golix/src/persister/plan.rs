//! `Plan`: everything that one admission changes and announces.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::Ghid;
use crate::object::Verified;

use super::frames::Head;
use super::view::{Mark, Stored, View};

/// What one admission does. Apply all changes, in order, in one transaction; then tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Rows to write and to delete, in order.
    pub changes: Vec<Change>,
    /// What subscribers hear of, in order, once the changes are durable.
    pub notices: Vec<Notice>,
    /// The object was stored already: no changes, no notices, and still a positive answer.
    pub already: bool,
}

impl Plan {
    /// Whether it leaves work for [`collect_more`](super::collect_more).
    #[must_use]
    pub fn leaves_work(&self) -> bool {
        let work = |change: &Change| matches!(change, Change::PutPending(row) if row.is_work());
        self.changes.iter().any(work)
    }
}

/// One row written or deleted. Deleting a row that is not there is no error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Objects: address to packed bytes.
    PutObject {
        /// The object's own address (a frame's frame address); of a second, third and fourth request
        /// of one address a [`variant_address`](super::variant_address).
        ghid: Ghid,
        /// The packed object.
        bytes: Arc<[u8]>,
    },
    /// Objects: the row goes.
    DropObject {
        /// The key of its row.
        ghid: Ghid,
    },
    /// Heads: dynamic address to head.
    PutHead {
        /// The dynamic address.
        dynamic: Ghid,
        /// The new head.
        head: Head,
    },
    /// Heads: the row goes.
    DropHead {
        /// The dynamic address.
        dynamic: Ghid,
    },
    /// Holders: the row (target, holder) comes.
    Hold {
        /// What is held.
        target: Ghid,
        /// A static binding, or a dynamic address.
        holder: Ghid,
    },
    /// Holders: the row (target, holder) goes.
    Release {
        /// What was held.
        target: Ghid,
        /// A static binding, or a dynamic address.
        holder: Ghid,
    },
    /// Debindings: the row (target, debinding) comes.
    PutDebinding {
        /// What is debound.
        target: Ghid,
        /// The debinding's address.
        debinding: Ghid,
    },
    /// Debindings: the row (target, debinding) goes.
    DropDebinding {
        /// What was debound.
        target: Ghid,
        /// The debinding's address.
        debinding: Ghid,
    },
    /// High water: dynamic address to the newest frame ever accepted, in place of what was there.
    /// Never deleted by a plan.
    HighWater {
        /// The dynamic address.
        dynamic: Ghid,
        /// The newest frame, and whose it was.
        mark: Mark,
    },
    /// Requests: the row (recipient, request) comes.
    PutRequest {
        /// Whom it is for.
        recipient: Ghid,
        /// The key of the request's row among the objects.
        request: Ghid,
    },
    /// Requests: the row (recipient, request) goes.
    DropRequest {
        /// Whom it was for.
        recipient: Ghid,
        /// The key of the request's row among the objects.
        request: Ghid,
    },
    /// Pending: the row [`Pending::key`] comes, with the value [`Pending::value`].
    PutPending(Pending),
    /// Pending: the row [`Pending::key`] goes.
    DropPending(Pending),
}

/// A row that the rules keep for later: work that one plan had no room for, or a debinding whose
/// target is still unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pending {
    /// See whether anything still holds this container or debound dynamic address.
    Collect {
        /// A container's or a dynamic address.
        address: Ghid,
    },
    /// Drop the debindings of this target that are not its owner's.
    Disprove {
        /// The address debound.
        target: Ghid,
    },
    /// Tell subscribers of the dynamic bindings that point at this newly stored target.
    Announce {
        /// A container's or a dynamic address.
        target: Ghid,
        /// The last holder already told. The row's value; not part of its key.
        after: Ghid,
    },
    /// A debinding of an unknown target. No work: it counts against its debinder's quota.
    Unproven {
        /// Who debinds.
        debinder: Ghid,
        /// The debinding's address.
        debinding: Ghid,
    },
}

impl Pending {
    /// The first key byte of rows that are no work; all work sorts before it.
    pub const UNPROVEN: u8 = 0x10;

    /// The row's key: a kind byte (01 collect, 02 disprove, 03 announce, 10 unproven), the address,
    /// and for `Unproven` the debinding's address.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        let (kind, first, second) = match self {
            Self::Collect { address } => (0x01, address, None),
            Self::Disprove { target } => (0x02, target, None),
            Self::Announce { target, .. } => (0x03, target, None),
            Self::Unproven { debinder, debinding } => (Self::UNPROVEN, debinder, Some(debinding)),
        };
        let mut key = vec![kind];
        key.extend_from_slice(first.as_bytes());
        if let Some(second) = second {
            key.extend_from_slice(second.as_bytes());
        }
        key
    }

    /// The row's value: `after` for `Announce`, else empty.
    #[must_use]
    pub fn value(&self) -> Vec<u8> {
        match self {
            Self::Announce { after, .. } => after.as_bytes().to_vec(),
            Self::Collect { .. } | Self::Disprove { .. } | Self::Unproven { .. } => Vec::new(),
        }
    }

    /// Reads a row; `None` if it is not one of ours.
    #[must_use]
    pub fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let (kind, rest) = key.split_first()?;
        if *kind == Self::UNPROVEN {
            let (debinder, debinding) = rest.split_at_checked(Ghid::LEN)?;
            let debinder = Ghid::from_bytes(debinder).ok()?;
            let debinding = Ghid::from_bytes(debinding).ok()?;
            return value.is_empty().then_some(Self::Unproven { debinder, debinding });
        }
        let address = Ghid::from_bytes(rest).ok()?;
        match kind {
            0x01 if value.is_empty() => Some(Self::Collect { address }),
            0x02 if value.is_empty() => Some(Self::Disprove { target: address }),
            0x03 => Some(Self::Announce { target: address, after: Ghid::from_bytes(value).ok()? }),
            _ => None,
        }
    }

    /// Whether [`collect_more`](super::collect_more) has something to do for this row.
    #[must_use]
    pub fn is_work(&self) -> bool {
        !matches!(self, Self::Unproven { .. })
    }
}

/// What a subscriber hears of. [`Notice::topic`] says whose subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Notice {
    /// A dynamic binding has a new head, and its target is stored.
    Updated {
        /// The dynamic address.
        dynamic: Ghid,
        /// The new head's frame address.
        frame: Ghid,
    },
    /// A static binding, a dynamic binding or a container is no longer here.
    Gone {
        /// A static binding's, a dynamic or a container's address.
        address: Ghid,
        /// The debinding that removed it; `None` for a container, which goes with its last holder.
        debinding: Option<Ghid>,
    },
    /// A request came in.
    Request {
        /// Whom it is for.
        recipient: Ghid,
        /// The key of its row: its address, or a [`variant_address`](super::variant_address).
        request: Ghid,
    },
    /// The recipient debound a request: all of this address are gone.
    RequestGone {
        /// Whom it was for.
        recipient: Ghid,
        /// Its address.
        request: Ghid,
        /// The debinding that removed it.
        debinding: Ghid,
    },
    /// Something began to hold a target, stored or not.
    Bound {
        /// What is held.
        target: Ghid,
        /// A static binding, or a dynamic address.
        binding: Ghid,
    },
}

/// A plan being made: the view with the changes so far on top.
pub(super) struct Draft<'v, V> {
    view: &'v V,
    plan: Plan,
    objects: BTreeMap<Ghid, Option<Stored>>,
    heads: BTreeMap<Ghid, Option<Head>>,
    /// (target, holder) to whether it holds.
    holds: BTreeMap<(Ghid, Ghid), bool>,
    /// Addresses that may have lost their last holder.
    pub(super) released: VecDeque<Ghid>,
}

impl<'v, V: View> Draft<'v, V> {
    pub(super) fn new(view: &'v V) -> Self {
        Self {
            view,
            plan: Plan::default(),
            objects: BTreeMap::new(),
            heads: BTreeMap::new(),
            holds: BTreeMap::new(),
            released: VecDeque::new(),
        }
    }

    pub(super) fn view(&self) -> &'v V {
        self.view
    }

    pub(super) fn finish(self) -> Plan {
        self.plan
    }

    pub(super) fn object(&self, ghid: &Ghid) -> Result<Option<Stored>, V::Error> {
        match self.objects.get(ghid) {
            Some(known) => Ok(*known),
            None => self.view.object(ghid),
        }
    }

    pub(super) fn head(&self, dynamic: &Ghid) -> Result<Option<Head>, V::Error> {
        match self.heads.get(dynamic) {
            Some(known) => Ok(known.clone()),
            None => self.view.head(dynamic),
        }
    }

    /// Whether anything holds `target`.
    pub(super) fn is_held(&self, target: &Ghid) -> Result<bool, V::Error> {
        let lowest = Ghid::from_address([0; 64]);
        let ours = || {
            let of_target = |(key, _): &(&(Ghid, Ghid), &bool)| key.0 == *target;
            self.holds.range((*target, lowest)..).take_while(of_target)
        };
        if ours().any(|(_, holds)| *holds) {
            return Ok(true);
        }
        // One more than was released here: if the view knows that many, one of them still holds.
        let stored = self.view.holders(target, None, ours().count().saturating_add(1))?;
        Ok(stored.iter().any(|holder| !self.holds.contains_key(&(*target, *holder))))
    }

    pub(super) fn put_object(&mut self, object: &Verified) {
        self.put_object_at(object.ghid(), object);
    }

    /// Stores an object under another key than its address.
    pub(super) fn put_object_at(&mut self, ghid: Ghid, object: &Verified) {
        let bytes = object.shared_bytes();
        self.objects.insert(ghid, Stored::read(object.bytes()));
        self.plan.changes.push(Change::PutObject { ghid, bytes });
    }

    pub(super) fn drop_object(&mut self, ghid: Ghid) {
        self.objects.insert(ghid, None);
        self.plan.changes.push(Change::DropObject { ghid });
    }

    pub(super) fn put_head(&mut self, dynamic: Ghid, head: Head) {
        self.heads.insert(dynamic, Some(head.clone()));
        self.plan.changes.push(Change::PutHead { dynamic, head });
    }

    pub(super) fn drop_head(&mut self, dynamic: Ghid) {
        self.heads.insert(dynamic, None);
        self.plan.changes.push(Change::DropHead { dynamic });
    }

    pub(super) fn hold(&mut self, target: Ghid, holder: Ghid) {
        self.holds.insert((target, holder), true);
        self.plan.changes.push(Change::Hold { target, holder });
        self.notify(Notice::Bound { target, binding: holder });
    }

    /// Lets go, and remembers that `target` may have to be collected.
    pub(super) fn release(&mut self, target: Ghid, holder: Ghid) {
        self.holds.insert((target, holder), false);
        self.plan.changes.push(Change::Release { target, holder });
        self.released.push_back(target);
    }

    pub(super) fn set_high_water(&mut self, dynamic: Ghid, mark: Mark) {
        self.plan.changes.push(Change::HighWater { dynamic, mark });
    }

    /// Any change that later steps of the same plan need not see.
    pub(super) fn change(&mut self, change: Change) {
        self.plan.changes.push(change);
    }

    pub(super) fn notify(&mut self, notice: Notice) {
        self.plan.notices.push(notice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_rows_survive_their_stored_form_and_work_sorts_first() {
        let [a, b] = [Ghid::of(b"a"), Ghid::of(b"b")];
        let rows = [
            Pending::Collect { address: a },
            Pending::Disprove { target: a },
            Pending::Announce { target: a, after: b },
            Pending::Unproven { debinder: a, debinding: b },
        ];
        for row in rows {
            assert_eq!(Pending::decode(&row.key(), &row.value()), Some(row));
            assert_eq!(row.is_work(), row.key() < vec![Pending::UNPROVEN]);
            assert_eq!(Pending::decode(&row.key()[1..], &row.value()), None);
            assert_eq!(Pending::decode(&row.key(), b"x"), None);
            assert_eq!(Pending::decode(&[], &[]), None);
        }
    }
}
