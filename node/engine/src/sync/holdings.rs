//! What a device holds of an address, as others ask for it.

use std::collections::BTreeMap;

use golix::object::{Debinding, StaticBinding};
use golix::persister::Stored;
use golix::{Ghid, Suite};
use sha2::{Digest, Sha512};

use crate::message::Packed;
use crate::shelf;
use crate::sync::Feed;
use crate::turn::{Turn, key};
use crate::view::{Table, ViewError};

/// Debindings of one target that go into a bundle; an owner has only one.
const DEBINDINGS_MAX: usize = 4;

/// Ended static bindings of one address that go into a bundle.
const GRAVES_MAX: usize = 8;

/// Debindings of debindings that go into a bundle.
const CHAIN_MAX: usize = 16;

/// Whose device it is. Only that makes a difference to what it can say of an address.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holdings {
    /// One account's: it knows the addresses of its own bindings without having them.
    Account { suite: Suite, me: Ghid },
    /// A persister's: it remembers which debindings ended static bindings.
    Persister,
}

/// How much of what belongs to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// For those who follow it: its bindings and its container, or what took it away.
    State,
    /// For those who know nothing yet: the identities of its authors as well.
    Readable,
    /// For those who store it as we do: also who else holds it, and who no longer does.
    Everything,
}

impl Holdings {
    /// What an event about an address contains.
    pub(super) fn event_detail(self, to_mirror: bool) -> Detail {
        match (self, to_mirror) {
            (Self::Account { .. }, false) => Detail::State,
            // Another device of the account may not know whom it follows yet.
            (Self::Account { .. }, true) | (Self::Persister, false) => Detail::Readable,
            (Self::Persister, true) => Detail::Everything,
        }
    }

    /// Everything that makes an address readable to somebody who has its key, in the order in
    /// which it has to be admitted: (identity), bindings, container; or what took it away. Empty
    /// if there is nothing here. Frames that lost come last: without their containers, they are
    /// taken only beside the one that won.
    pub(crate) fn bundle(
        self,
        turn: &Turn<'_>,
        address: &Ghid,
        detail: Detail,
    ) -> Result<Vec<Packed>, ViewError> {
        let mut bundle = Bundle { turn, detail, objects: Vec::new() };
        if detail == Detail::Everything {
            self.ended(&mut bundle, address)?;
        }
        if let Some(head) = shelf::head(turn, address)? {
            bundle.identity(&head.binder)?;
            bundle.object(&head.frame)?;
            bundle.object(&head.target)?;
            for fork in &head.forks {
                bundle.object(fork)?;
            }
            if head.debound {
                bundle.debindings(address)?;
            }
            if detail == Detail::Everything {
                bundle.static_holders(address)?;
            }
            return Ok(bundle.objects);
        }
        match shelf::bytes(turn, address)?.as_deref().and_then(Stored::read) {
            Some(Stored::Container { author }) if shelf::is_object(turn, address)? => {
                bundle.identity(&author)?;
                bundle.static_holders(address)?;
                bundle.object(address)?;
                // Somebody else holds it: its author's other devices hear all the same that it is deleted.
                if matches!(self, Self::Persister) && detail == Detail::Readable {
                    for debinding in graves(turn, address)? {
                        bundle.object(&debinding)?;
                    }
                }
            }
            Some(Stored::Container { .. }) | None => {
                bundle.debindings(address)?;
                // A static object goes when its binding is debound, which has an own address.
                match self {
                    Self::Account { suite, me } => {
                        bundle.debindings(&StaticBinding::address_of(suite, &me, address))?;
                    }
                    Self::Persister if detail != Detail::Everything => {
                        for debinding in graves(turn, address)? {
                            bundle.object(&debinding)?;
                        }
                    }
                    Self::Persister => {}
                }
            }
            Some(Stored::Request { recipient, .. }) if detail == Detail::Everything => {
                bundle.identity(&recipient)?;
                bundle.object(address)?;
            }
            // Requests are handed over in the mail, and to nobody else.
            Some(Stored::Request { .. }) => {}
            Some(_) => bundle.object(address)?,
        }
        Ok(bundle.objects)
    }

    /// The debindings that ended static bindings of an address, and those that ended these.
    fn ended(self, bundle: &mut Bundle<'_, '_>, address: &Ghid) -> Result<(), ViewError> {
        match self {
            Self::Account { suite, me } => {
                let binding = StaticBinding::address_of(suite, &me, address);
                bundle.chain(suite, &me, &binding)
            }
            Self::Persister => {
                for debinding in graves(bundle.turn, address)? {
                    let Some(bytes) = shelf::bytes(bundle.turn, &debinding)? else { continue };
                    if let Some((suite, Stored::Debinding { debinder, target })) = outline(&bytes) {
                        bundle.identity(&debinder)?;
                        bundle.chain(suite, &debinder, &target)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// One item an address: its newest frame, its container, or what took it away.
    pub(crate) fn items(
        self,
        turn: &Turn<'_>,
        addresses: impl IntoIterator<Item = Ghid>,
    ) -> Result<BTreeMap<[u8; 32], Ghid>, ViewError> {
        let mut items = BTreeMap::new();
        for address in addresses {
            if let Some(state) = self.state(turn, &address)? {
                items.insert(item(&address, &state), address);
            }
        }
        Ok(items)
    }

    /// Who binds an address, or took it away; of a static object its author.
    pub(crate) fn owner(turn: &Turn<'_>, address: &Ghid) -> Result<Option<Ghid>, ViewError> {
        if let Some(head) = shelf::head(turn, address)? {
            return Ok(Some(head.binder));
        }
        if let Some(debinding) = shelf::debindings(turn, address, 1)?.first() {
            let stored = shelf::bytes(turn, debinding)?.as_deref().and_then(Stored::read);
            return Ok(match stored {
                Some(Stored::Debinding { debinder, .. }) => Some(debinder),
                _ => None,
            });
        }
        Ok(match shelf::bytes(turn, address)?.as_deref().and_then(Stored::read) {
            Some(Stored::Container { author }) => Some(author),
            _ => None,
        })
    }

    pub(super) fn state(self, turn: &Turn<'_>, address: &Ghid) -> Result<Option<Ghid>, ViewError> {
        if let Some(head) = shelf::head(turn, address)? {
            if head.debound {
                // Held here although its owner let it go: both sides know the debinding.
                return Ok(shelf::debindings(turn, address, 1)?.first().copied());
            }
            return Ok(Some(head.frame));
        }
        if shelf::is_object(turn, address)? {
            return Ok(Some(*address));
        }
        if let Some(debinding) = shelf::debindings(turn, address, 1)?.first() {
            return Ok(Some(*debinding));
        }
        match self {
            Self::Account { suite, me } if Feed::knows(turn, address)? => {
                let binding = StaticBinding::address_of(suite, &me, address);
                let gone = Debinding::address_of(suite, &me, &binding);
                Ok(shelf::bytes(turn, &gone)?.map(|_| gone))
            }
            Self::Account { .. } => Ok(shelf::identity(turn, address)?.map(|_| *address)),
            Self::Persister => {
                if let Some(debinding) = graves(turn, address)?.first() {
                    return Ok(Some(*debinding));
                }
                // An identity, or a request.
                Ok(shelf::bytes(turn, address)?.map(|_| *address))
            }
        }
    }
}

/// The debindings that ended static bindings of an address, as far as they are still stored.
fn graves(turn: &Turn<'_>, address: &Ghid) -> Result<Vec<Ghid>, ViewError> {
    let mut found = Vec::new();
    for (row, _) in turn.prefixed(Table::Graves, address.as_bytes(), 2 * GRAVES_MAX)? {
        let debinding = row
            .get(Ghid::LEN..)
            .and_then(|second| Ghid::from_bytes(second).ok())
            .ok_or_else(|| ViewError("a row of the graves is damaged".into()))?;
        if found.len() < GRAVES_MAX && shelf::bytes(turn, &debinding)?.is_some() {
            found.push(debinding);
        }
    }
    Ok(found)
}

/// Remembers that a debinding ended a static binding of an address; whether that is news.
pub(crate) fn bury(
    turn: &mut Turn<'_>,
    address: &Ghid,
    debinding: &Ghid,
) -> Result<bool, ViewError> {
    let row = key(&[address.as_bytes(), debinding.as_bytes()]);
    let news = turn.get(Table::Graves, &row)?.is_none();
    turn.put(Table::Graves, row, []);
    Ok(news)
}

/// Suite and outer fields of stored bytes.
fn outline(bytes: &[u8]) -> Option<(Suite, Stored)> {
    // GIDC and the like: magic 4, version 4, suite 1.
    Some((Suite::from_code(*bytes.get(8)?)?, Stored::read(bytes)?))
}

pub(super) fn item(address: &Ghid, state: &Ghid) -> [u8; 32] {
    let digest = Sha512::new().chain_update(address).chain_update(state).finalize();
    digest[..32].try_into().expect("32 of 64 bytes")
}

struct Bundle<'t, 'v> {
    turn: &'t Turn<'v>,
    detail: Detail,
    objects: Vec<Packed>,
}

impl Bundle<'_, '_> {
    fn object(&mut self, ghid: &Ghid) -> Result<(), ViewError> {
        if let Some(bytes) = shelf::bytes(self.turn, ghid)? {
            let bytes = Packed::from(bytes);
            if !self.objects.contains(&bytes) {
                self.objects.push(bytes);
            }
        }
        Ok(())
    }

    fn identity(&mut self, ghid: &Ghid) -> Result<(), ViewError> {
        if self.detail == Detail::State { Ok(()) } else { self.object(ghid) }
    }

    fn static_holders(&mut self, target: &Ghid) -> Result<(), ViewError> {
        for (holder, binder) in shelf::static_holders(self.turn, target)? {
            self.identity(&binder)?;
            self.object(&holder)?;
        }
        Ok(())
    }

    fn debindings(&mut self, target: &Ghid) -> Result<(), ViewError> {
        for debinding in shelf::debindings(self.turn, target, DEBINDINGS_MAX)? {
            let bytes = shelf::bytes(self.turn, &debinding)?;
            if let Some(Stored::Debinding { debinder, .. }) =
                bytes.as_deref().and_then(Stored::read)
            {
                self.identity(&debinder)?;
            }
            self.object(&debinding)?;
        }
        Ok(())
    }

    /// The debinding of `target` by its owner, that debinding's, and so on: the last one first,
    /// because each allows or ends the one before.
    fn chain(&mut self, suite: Suite, owner: &Ghid, target: &Ghid) -> Result<(), ViewError> {
        let mut stored = Vec::new();
        let mut next = Debinding::address_of(suite, owner, target);
        let mut missing = 0;
        // Of two neighbours at least one is stored, up to the end.
        while missing < 2 && stored.len() < CHAIN_MAX {
            if shelf::bytes(self.turn, &next)?.is_some() {
                stored.push(next);
                missing = 0;
            } else {
                missing += 1;
            }
            next = Debinding::address_of(suite, owner, &next);
        }
        stored.iter().rev().try_for_each(|debinding| self.object(debinding))
    }
}
