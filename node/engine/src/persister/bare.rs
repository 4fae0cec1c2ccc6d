//! Identities that nothing here belongs to. They cost nothing to make, so the last
//! [`IDENTITIES_BARE`](limits::IDENTITIES_BARE) are kept, and those that somebody is linked as.
//!
//! Every identity that comes waits in a line; when the line is too long, its oldest ones are looked at.
//! Who stores something, is known to the operator or has mail stays; with each further identity a few are
//! looked at, so the line may be longer for a while.
//!
//! Rows of [`Table::Users`]: `2 | number 8` → identity.

use golix::Ghid;

use super::Persister;
use super::users::User;
use crate::limits;
use crate::pace::Pace;
use crate::shelf;
use crate::turn::{Turn, key};
use crate::view::{Table, Time, ViewError};

const BARE: u8 = 2;

/// The line.
#[derive(Debug)]
pub(super) struct Bare {
    next: u64,
    len: usize,
    /// Of all links together that did not register: another link costs nothing either.
    strangers: Pace,
}

/// What becomes of the oldest one.
enum Fate {
    /// It is kept for good.
    Stays,
    /// It is looked at again later.
    Waits,
    /// It is forgotten.
    Goes,
}

impl Bare {
    pub(super) fn open(turn: &Turn<'_>) -> Result<Self, ViewError> {
        let rows = turn.prefixed(Table::Users, &[BARE], usize::MAX >> 1)?;
        let next = match rows.last() {
            Some((row, _)) => number(row)? + 1,
            None => 0,
        };
        Ok(Self { next, len: rows.len(), strangers: Pace::default() })
    }

    /// Whether one more may come now that nobody who registered brings.
    pub(super) fn may_come(&mut self, now: Time) -> bool {
        self.strangers.try_spend(now, limits::IDENTITIES_OF_STRANGERS)
    }

    fn add(&mut self, turn: &mut Turn<'_>, identity: &Ghid) {
        turn.put(Table::Users, key(&[&[BARE], &self.next.to_be_bytes()]), identity.as_bytes());
        self.next += 1;
        self.len += 1;
    }
}

impl Persister {
    /// An identity was stored that was not here before.
    pub(super) fn identity_came(
        &mut self,
        turn: &mut Turn<'_>,
        identity: &Ghid,
    ) -> Result<(), ViewError> {
        self.bare.add(turn, identity);
        if self.bare.len <= limits::IDENTITIES_BARE {
            return Ok(());
        }
        for (row, value) in turn.prefixed(Table::Users, &[BARE], limits::IDENTITIES_LOOKED_AT)? {
            let oldest = Ghid::from_bytes(&value).map_err(|_| damaged())?;
            let fate = if oldest == *identity { Fate::Waits } else { self.fate(turn, &oldest)? };
            turn.delete(Table::Users, row);
            self.bare.len = self.bare.len.saturating_sub(1);
            match fate {
                Fate::Stays => {}
                Fate::Waits => self.bare.add(turn, &oldest),
                Fate::Goes => {
                    turn.delete(Table::Objects, oldest.as_bytes());
                    self.feed.forget(turn, &oldest)?;
                }
            }
            if self.bare.len <= limits::IDENTITIES_BARE {
                break;
            }
        }
        Ok(())
    }

    fn fate(&self, turn: &Turn<'_>, identity: &Ghid) -> Result<Fate, ViewError> {
        if User::load(turn, identity)? != User::default() {
            return Ok(Fate::Stays);
        }
        let linked = self.links.proved_by_somebody(identity);
        if linked || !shelf::requests(turn, identity, 1)?.is_empty() {
            return Ok(Fate::Waits);
        }
        // Somebody holds it by its address, as one may hold anything.
        let held = !shelf::holders(turn, identity, 1)?.is_empty();
        Ok(if held { Fate::Stays } else { Fate::Goes })
    }
}

fn number(row: &[u8]) -> Result<u64, ViewError> {
    let number = row.get(1..).and_then(|number| number.try_into().ok());
    number.map(u64::from_be_bytes).ok_or_else(damaged)
}

fn damaged() -> ViewError {
    ViewError("the list of identities is damaged".into())
}
