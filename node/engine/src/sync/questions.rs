//! Questions about what is stored, which either side of a link may ask.

use std::ops::Bound;

use golix::Ghid;
use golix::object::Kind;
use golix::persister::Stored;

use crate::input::LinkId;
use crate::message::{Address, LIST_MAX, Message};
use crate::shelf;
use crate::sync::Links;
use crate::turn::{Turn, after_prefix, key};
use crate::view::{Table, ViewError};

impl Links {
    /// Answers one; other messages are none.
    pub(crate) fn question(
        &mut self,
        turn: &mut Turn<'_>,
        link: LinkId,
        message: Message,
    ) -> Result<(), ViewError> {
        let answer = match message {
            Message::Subscriptions { id, after } => {
                let Some(state) = self.get(link) else {
                    return Ok(());
                };
                let from = match after {
                    Some(Address(after)) => Bound::Excluded(after),
                    None => Bound::Unbounded,
                };
                list(id, state.subscribed.range((from, Bound::Unbounded)).copied())
            }
            Message::Bindings { id, address: Address(address) } => {
                list(id, bindings(turn, &address)?)
            }
            Message::Debindings { id, address: Address(address) } => {
                list(id, shelf::debindings(turn, &address, LIST_MAX + 1)?)
            }
            Message::Owned { id, identity: Address(identity), after } => {
                // The list of what somebody has is nobody else's business.
                let proven = self.get(link).is_some_and(|state| state.proven.contains(&identity));
                let after = after.map(|Address(after)| after);
                list(id, if proven { owned(turn, &identity, after)? } else { Vec::new() })
            }
            Message::Exists { id, addresses } => {
                let exists = |Address(address): &Address| exists(turn, address);
                let exist = addresses.iter().map(exists).collect::<Result<_, _>>()?;
                Message::Existing { id, exist }
            }
            Message::Disconnect { id } => {
                if let Some(state) = self.get_mut(link) {
                    state.subscribed.clear();
                    state.unknown.clear();
                    state.needed.clear();
                    state.own.clear();
                    state.mirrors = false;
                    state.follows_own = false;
                }
                list(id, [])
            }
            _ => return Ok(()),
        };
        self.send(turn, link, answer);
        Ok(())
    }
}

fn list(id: u32, addresses: impl IntoIterator<Item = Ghid>) -> Message {
    let mut addresses = addresses.into_iter().map(Address);
    let first: Vec<Address> = addresses.by_ref().take(LIST_MAX).collect();
    Message::Addresses { id, addresses: first, more: addresses.next().is_some() }
}

/// Static before dynamic, the author's own first in each group (Golix wire reference, 11.1).
fn bindings(turn: &Turn<'_>, target: &Ghid) -> Result<Vec<Ghid>, ViewError> {
    let author = match shelf::head(turn, target)? {
        Some(head) => Some(head.binder),
        None => match shelf::bytes(turn, target)?.as_deref().and_then(Stored::read) {
            Some(Stored::Container { author }) => Some(author),
            _ => None,
        },
    };
    let mut ranked = Vec::new();
    for holder in shelf::holders(turn, target, LIST_MAX + 1)? {
        let (dynamic, binder) = match shelf::head(turn, &holder)? {
            Some(head) => (true, Some(head.binder)),
            None => match shelf::bytes(turn, &holder)?.as_deref().and_then(Stored::read) {
                Some(Stored::StaticBinding { binder, .. }) => (false, Some(binder)),
                _ => (false, None),
            },
        };
        ranked.push((dynamic, binder.is_none() || binder != author, holder));
    }
    ranked.sort_unstable();
    Ok(ranked.into_iter().map(|(.., holder)| holder).collect())
}

/// What an identity binds, at a persister.
fn owned(turn: &Turn<'_>, owner: &Ghid, after: Option<Ghid>) -> Result<Vec<Ghid>, ViewError> {
    let start = match &after {
        Some(after) => key(&[owner.as_bytes(), after.as_bytes(), &[0]]),
        None => owner.as_bytes().to_vec(),
    };
    turn.range(Table::Owned, &start, &after_prefix(owner.as_bytes()), LIST_MAX + 1)?
        .into_iter()
        .map(|(row, _)| {
            row.get(Ghid::LEN..)
                .and_then(|address| Ghid::from_bytes(address).ok())
                .ok_or_else(|| ViewError("a row of what somebody owns is damaged".into()))
        })
        .collect()
}

/// Requests count as unknown: only their recipients hear of them.
fn exists(turn: &Turn<'_>, address: &Ghid) -> Result<bool, ViewError> {
    if shelf::head(turn, address)?.is_some() {
        return Ok(true);
    }
    let stored = shelf::bytes(turn, address)?.as_deref().and_then(Stored::read);
    Ok(stored.is_some_and(|stored| stored.kind() != Kind::Request))
}
