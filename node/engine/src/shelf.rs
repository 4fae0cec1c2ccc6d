//! Golix objects in the engine's tables: the rules' view of a turn, and their plans as rows.
//!
//! One deviation from a row for each change: the high-water mark of a living binding *is* its
//! head, so a row of its own is written only when the head goes. It saves a write for each push.

use golix::object::{Kind, Object, Unverified, Verified};
use golix::persister::{self, Change, Head, Mark, Pending, Plan, Rejection, Stored};
use golix::{Ghid, Identity};

use crate::turn::{Turn, key};
use crate::view::{Table, View, ViewError};

/// Static bindings of one container that are looked at: its author's, ours, and of those who share.
const STATIC_HOLDERS_MAX: usize = 16;

/// Asks the rules, and stages what they plan.
pub(crate) fn admit(
    turn: &mut Turn<'_>,
    object: &Verified,
) -> Result<Result<Plan, Rejection>, ViewError> {
    admit_watched(turn, object, Unproven::Counted, &mut |_, _| Ok(()))
}

/// Looks at each change before it is staged.
pub(crate) type Watch<'w> = dyn FnMut(&mut Turn<'_>, &Change) -> Result<(), ViewError> + 'w;

/// What bounds the debindings of unknown targets that one debinder may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unproven {
    /// The rules of Golix: a small number, because anybody can upload them.
    Counted,
    /// Whoever asks has a bound of its own.
    Free,
}

/// As [`admit`], while `watch` looks on.
pub(crate) fn admit_watched(
    turn: &mut Turn<'_>,
    object: &Verified,
    unproven: Unproven,
    watch: &mut Watch<'_>,
) -> Result<Result<Plan, Rejection>, ViewError> {
    let mut plan = match persister::admit(object, &Rows(turn, unproven))? {
        Ok(plan) => plan,
        Err(rejection) => return Ok(Err(rejection)),
    };
    apply(turn, &plan.changes, watch)?;
    // A plan is bounded; what it had no room for is done at once here, also in bounded steps.
    let mut leaves_work = plan.leaves_work();
    while leaves_work {
        let more = persister::collect_more(&Rows(turn, unproven), persister::limits::STEPS_MAX)?;
        apply(turn, &more.changes, watch)?;
        leaves_work = !more.changes.is_empty();
        plan.notices.extend(more.notices);
    }
    Ok(Ok(plan))
}

/// Puts the bytes of a frame back that its head names and that are missing; false if it is another
/// frame, or here. The rules go by the head, and take such a frame for known.
pub(crate) fn put_back(turn: &mut Turn<'_>, object: &Verified) -> Result<bool, ViewError> {
    let Object::DynamicBinding(frame) = object.object() else {
        return Ok(false);
    };
    let named = head(turn, &frame.dynamic())?
        .is_some_and(|head| head.frames().any(|it| it == frame.ghid()));
    if !named || bytes(turn, &frame.ghid())?.is_some() {
        return Ok(false);
    }
    turn.put(Table::Objects, frame.ghid().as_bytes(), &object.shared_bytes()[..]);
    Ok(true)
}

/// Whether an object is here, and what belongs to it: a frame without its head is not.
pub(crate) fn has(turn: &Turn<'_>, object: &Unverified) -> Result<bool, ViewError> {
    if bytes(turn, &object.ghid())?.is_none() {
        return Ok(false);
    }
    if object.kind() != Kind::DynamicBinding {
        return Ok(true);
    }
    match object.clone().assume_verified().object() {
        Object::DynamicBinding(frame) => Ok(head(turn, &frame.dynamic())?.is_some()),
        _ => Ok(true),
    }
}

pub(crate) fn head(turn: &Turn<'_>, dynamic: &Ghid) -> Result<Option<Head>, ViewError> {
    decode_head(turn.get(Table::Heads, dynamic.as_bytes())?)
}

/// Whether a dynamic binding was here and is gone.
pub(crate) fn was_dropped(turn: &Turn<'_>, dynamic: &Ghid) -> Result<bool, ViewError> {
    let key = dynamic.as_bytes();
    Ok(turn.get(Table::HighWater, key)?.is_some() && turn.get(Table::Heads, key)?.is_none())
}

/// As [`head`], from a bare view.
pub(crate) fn stored_head(view: &dyn View, dynamic: &Ghid) -> Result<Option<Head>, ViewError> {
    decode_head(view.get(Table::Heads, dynamic.as_bytes())?)
}

pub(crate) fn bytes(turn: &Turn<'_>, ghid: &Ghid) -> Result<Option<Vec<u8>>, ViewError> {
    turn.get(Table::Objects, ghid.as_bytes())
}

/// The target vector of a stored frame.
pub(crate) fn targets(turn: &Turn<'_>, frame: &Ghid) -> Result<Option<Vec<Ghid>>, ViewError> {
    let parsed = bytes(turn, frame)?.and_then(|bytes| Unverified::parse(&bytes).ok());
    Ok(parsed.and_then(|frame| match frame.assume_verified().object() {
        Object::DynamicBinding(frame) => Some(frame.targets().to_vec()),
        _ => None,
    }))
}

pub(crate) fn identity(turn: &Turn<'_>, ghid: &Ghid) -> Result<Option<Identity>, ViewError> {
    Ok(bytes(turn, ghid)?.and_then(|bytes| Identity::from_stored(&bytes).ok()))
}

/// The identity of a message, if it is stored here byte for byte: then it was verified before.
pub(crate) fn identity_of(
    turn: &Turn<'_>,
    object: &Unverified,
) -> Result<Option<Identity>, ViewError> {
    Ok(bytes(turn, &object.ghid())?
        .filter(|stored| stored == object.bytes())
        .and_then(|stored| Identity::from_stored(&stored).ok()))
}

/// Who holds `target`, at most `limit` of them.
pub(crate) fn holders(
    turn: &Turn<'_>,
    target: &Ghid,
    limit: usize,
) -> Result<Vec<Ghid>, ViewError> {
    second_halves(turn, Table::Holders, target, None, limit)
}

/// The static bindings that hold a container, with their binders; at most [`STATIC_HOLDERS_MAX`].
pub(crate) fn static_holders(
    turn: &Turn<'_>,
    container: &Ghid,
) -> Result<Vec<(Ghid, Ghid)>, ViewError> {
    let mut found = Vec::new();
    // Dynamic bindings may hold it too, by their dynamic addresses.
    for holder in holders(turn, container, 2 * STATIC_HOLDERS_MAX)? {
        if let Some(Stored::StaticBinding { binder, .. }) =
            bytes(turn, &holder)?.as_deref().and_then(Stored::read)
            && found.len() < STATIC_HOLDERS_MAX
        {
            found.push((holder, binder));
        }
    }
    Ok(found)
}

/// Whether an address stands for an object: a dynamic one, or a container that a static binding
/// holds. A container that is only the state of a dynamic object is none.
pub(crate) fn is_object(turn: &Turn<'_>, address: &Ghid) -> Result<bool, ViewError> {
    if head(turn, address)?.is_some() {
        return Ok(true);
    }
    let container = bytes(turn, address)?.as_deref().and_then(Stored::read);
    Ok(matches!(container, Some(Stored::Container { .. }))
        && !static_holders(turn, address)?.is_empty())
}

/// The debindings of `target`, at most `limit` of them.
pub(crate) fn debindings(
    turn: &Turn<'_>,
    target: &Ghid,
    limit: usize,
) -> Result<Vec<Ghid>, ViewError> {
    second_halves(turn, Table::Debindings, target, None, limit)
}

/// The requests that wait for an identity, at most `limit` of them.
pub(crate) fn requests(
    turn: &Turn<'_>,
    recipient: &Ghid,
    limit: usize,
) -> Result<Vec<Ghid>, ViewError> {
    second_halves(turn, Table::Requests, recipient, None, limit)
}

fn apply(turn: &mut Turn<'_>, changes: &[Change], watch: &mut Watch<'_>) -> Result<(), ViewError> {
    for change in changes {
        watch(turn, change)?;
        match change {
            Change::PutObject { ghid, bytes } => {
                turn.put(Table::Objects, ghid.as_bytes(), &bytes[..]);
            }
            Change::DropObject { ghid } => turn.delete(Table::Objects, ghid.as_bytes()),
            Change::PutHead { dynamic, head } => {
                turn.put(Table::Heads, dynamic.as_bytes(), head.encode());
            }
            Change::DropHead { dynamic } => {
                if let Some(mark) = high_water(turn, dynamic)? {
                    turn.put(Table::HighWater, dynamic.as_bytes(), mark.encode());
                }
                turn.delete(Table::Heads, dynamic.as_bytes());
            }
            Change::Hold { target, holder } => {
                turn.put(Table::Holders, pair(target, holder), []);
            }
            Change::Release { target, holder } => {
                turn.delete(Table::Holders, pair(target, holder));
            }
            Change::PutDebinding { target, debinding } => {
                turn.put(Table::Debindings, pair(target, debinding), []);
            }
            Change::DropDebinding { target, debinding } => {
                turn.delete(Table::Debindings, pair(target, debinding));
            }
            Change::HighWater { dynamic, mark } => {
                if high_water(turn, dynamic)? != Some(*mark) {
                    let will_be_head = changes.iter().any(|change| {
                        matches!(change, Change::PutHead { dynamic: other, head }
                            if other == dynamic && head.mark() == *mark)
                    });
                    if !will_be_head {
                        turn.put(Table::HighWater, dynamic.as_bytes(), mark.encode());
                    }
                }
            }
            Change::PutRequest { recipient, request } => {
                turn.put(Table::Requests, pair(recipient, request), []);
            }
            Change::DropRequest { recipient, request } => {
                turn.delete(Table::Requests, pair(recipient, request));
            }
            Change::PutPending(pending) => {
                turn.put(Table::Pending, pending.key(), pending.value());
            }
            Change::DropPending(pending) => turn.delete(Table::Pending, pending.key()),
        }
    }
    Ok(())
}

fn pair(first: &Ghid, second: &Ghid) -> Vec<u8> {
    key(&[first.as_bytes(), second.as_bytes()])
}

fn decode_head(row: Option<Vec<u8>>) -> Result<Option<Head>, ViewError> {
    match row {
        Some(row) => Head::decode(&row)
            .map(Some)
            .ok_or_else(|| ViewError("the head of a binding is damaged".into())),
        None => Ok(None),
    }
}

fn high_water(turn: &Turn<'_>, dynamic: &Ghid) -> Result<Option<Mark>, ViewError> {
    if let Some(head) = head(turn, dynamic)? {
        return Ok(Some(head.mark()));
    }
    turn.get(Table::HighWater, dynamic.as_bytes())?
        .map(|row| {
            Mark::decode(&row).ok_or_else(|| ViewError("a high-water mark is damaged".into()))
        })
        .transpose()
}

fn second_halves(
    turn: &Turn<'_>,
    table: Table,
    first: &Ghid,
    after: Option<&Ghid>,
    limit: usize,
) -> Result<Vec<Ghid>, ViewError> {
    let start = match after {
        // The first key after `first | after` is that key with a zero byte behind it.
        Some(after) => key(&[first.as_bytes(), after.as_bytes(), &[0]]),
        None => first.as_bytes().to_vec(),
    };
    let end = crate::turn::after_prefix(first.as_bytes());
    turn.range(table, &start, &end, limit)?
        .into_iter()
        .map(|(row, _)| {
            row.get(Ghid::LEN..)
                .and_then(|second| Ghid::from_bytes(second).ok())
                .ok_or_else(|| ViewError("a pair of addresses is damaged".into()))
        })
        .collect()
}

/// The rules' view of a turn.
struct Rows<'t, 'v>(&'t Turn<'v>, Unproven);

impl persister::View for Rows<'_, '_> {
    type Error = ViewError;

    fn object(&self, ghid: &Ghid) -> Result<Option<Stored>, ViewError> {
        match bytes(self.0, ghid)? {
            Some(bytes) => Stored::read(&bytes)
                .map(Some)
                .ok_or_else(|| ViewError("a stored object is damaged".into())),
            None => Ok(None),
        }
    }

    fn head(&self, dynamic: &Ghid) -> Result<Option<Head>, ViewError> {
        head(self.0, dynamic)
    }

    fn holders(
        &self,
        target: &Ghid,
        after: Option<&Ghid>,
        limit: usize,
    ) -> Result<Vec<Ghid>, ViewError> {
        second_halves(self.0, Table::Holders, target, after, limit)
    }

    fn debindings(
        &self,
        target: &Ghid,
        after: Option<&Ghid>,
        limit: usize,
    ) -> Result<Vec<Ghid>, ViewError> {
        second_halves(self.0, Table::Debindings, target, after, limit)
    }

    fn high_water(&self, dynamic: &Ghid) -> Result<Option<Mark>, ViewError> {
        high_water(self.0, dynamic)
    }

    fn requests(
        &self,
        recipient: &Ghid,
        after: Option<&Ghid>,
        limit: usize,
    ) -> Result<Vec<Ghid>, ViewError> {
        second_halves(self.0, Table::Requests, recipient, after, limit)
    }

    fn unproven(&self, debinder: &Ghid, limit: usize) -> Result<usize, ViewError> {
        if self.1 == Unproven::Free {
            return Ok(0);
        }
        let prefix = key(&[&[Pending::UNPROVEN], debinder.as_bytes()]);
        Ok(self.0.prefixed(Table::Pending, &prefix, limit)?.len())
    }

    fn pending(&self, limit: usize) -> Result<Vec<Pending>, ViewError> {
        self.0
            .range(Table::Pending, &[], &[Pending::UNPROVEN], limit)?
            .into_iter()
            .map(|(row, value)| {
                Pending::decode(&row, &value)
                    .ok_or_else(|| ViewError("a row of pending work is damaged".into()))
            })
            .collect()
    }
}
