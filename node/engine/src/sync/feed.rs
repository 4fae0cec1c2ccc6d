//! The feed: every change of an address gets the next number; an address keeps only its last.
//!
//! The feed is the queue of all followers at once: bounded by the number of objects, durable, and
//! a follower who lags skips intermediate states by itself.

use std::collections::BTreeMap;

use golix::Ghid;

use crate::limits;
use crate::turn::{Turn, key};
use crate::view::{Table, ViewError};

/// Meta row: the epoch, drawn when the store was made.
pub(crate) const META_EPOCH: &[u8] = b"feed epoch";

/// Meta row of a persister: the number at which its feed went on when it was started last.
pub(crate) const META_GIVEN_OUT: &[u8] = b"feed given out";

pub(crate) struct Feed {
    epoch: u64,
    /// The number of the last change. In a node its row always exists, because only a newer change of
    /// the same address removes one; so the counter needs no row of its own.
    last: u64,
    /// The last changes as the store has them: all followers ask for these.
    recent: BTreeMap<u64, (Ghid, Option<Ghid>)>,
    /// Every change after this number is in `recent`.
    complete_after: u64,
}

/// A change of an address: its number, the address, and at a persister who made it.
pub(crate) type Change = (u64, Ghid, Option<Ghid>);

impl Feed {
    pub(crate) fn open(turn: &mut Turn<'_>) -> Result<Self, ViewError> {
        let epoch = if let Some(row) = turn.get(Table::Meta, META_EPOCH)? {
            number(&row)?
        } else {
            let epoch = u64::from_be_bytes(turn.random()).max(1);
            turn.put(Table::Meta, META_EPOCH, epoch.to_be_bytes());
            epoch
        };
        let last = Self::find_last(turn)?;
        Ok(Self { epoch, last, recent: BTreeMap::new(), complete_after: last })
    }

    /// As [`Feed::open`], with numbers that were never given out before, also if what they were given
    /// out for did not become durable.
    pub(crate) fn open_anew(turn: &mut Turn<'_>) -> Result<Self, ViewError> {
        let mut feed = Self::open(turn)?;
        let given_out = match turn.get(Table::Meta, META_GIVEN_OUT)? {
            Some(row) => number(&row)?,
            None => 0,
        };
        // Every life begins at a row of its own, so whatever it gave out lies between two of them.
        feed.last = feed.last.max(given_out).saturating_add(limits::FEED_LEAP);
        feed.complete_after = feed.last;
        turn.put(Table::Meta, META_GIVEN_OUT, feed.last.to_be_bytes());
        Ok(feed)
    }

    fn find_last(turn: &Turn<'_>) -> Result<u64, ViewError> {
        let (mut low, mut high) = (0_u64, u64::MAX);
        // Invariant: a row at or after `low` exists or low = 0; none exists after `high`.
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            match turn.range(Table::Feed, &middle.to_be_bytes(), &[u8::MAX; 9], 1)?.first() {
                Some((row, _)) => low = number(row)?,
                None => high = middle - 1,
            }
        }
        Ok(low)
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// An address changed.
    pub(crate) fn touch(&mut self, turn: &mut Turn<'_>, address: &Ghid) -> Result<(), ViewError> {
        self.touch_by(turn, address, None)
    }

    /// An address changed, by what an identity did.
    pub(crate) fn touch_by(
        &mut self,
        turn: &mut Turn<'_>,
        address: &Ghid,
        by: Option<Ghid>,
    ) -> Result<(), ViewError> {
        if let Some(row) = turn.get(Table::FeedIndex, address.as_bytes())? {
            self.recent.remove(&number(&row)?);
            turn.delete(Table::Feed, row);
        }
        self.last += 1;
        self.recent.insert(self.last, (*address, by));
        if self.recent.len() > limits::FEED_RECENT
            && let Some((oldest, _)) = self.recent.pop_first()
        {
            self.complete_after = oldest;
        }
        let row = self.last.to_be_bytes();
        let value = match &by {
            Some(by) => key(&[address.as_bytes(), by.as_bytes()]),
            None => address.as_bytes().to_vec(),
        };
        turn.put(Table::Feed, row, value);
        turn.put(Table::FeedIndex, address.as_bytes(), row);
        Ok(())
    }

    /// Nothing is known of an address any more.
    pub(crate) fn forget(&mut self, turn: &mut Turn<'_>, address: &Ghid) -> Result<(), ViewError> {
        if let Some(row) = turn.get(Table::FeedIndex, address.as_bytes())? {
            self.recent.remove(&number(&row)?);
            turn.delete(Table::Feed, row);
            turn.delete(Table::FeedIndex, address.as_bytes());
        }
        Ok(())
    }

    /// An address that followers may have heard of changed.
    pub(crate) fn touch_if_known(
        &mut self,
        turn: &mut Turn<'_>,
        address: &Ghid,
    ) -> Result<(), ViewError> {
        if Self::knows(turn, address)? { self.touch(turn, address) } else { Ok(()) }
    }

    /// The address whose last change has this number.
    pub(crate) fn at(turn: &Turn<'_>, seq: u64) -> Result<Option<Ghid>, ViewError> {
        let row = turn.get(Table::Feed, &seq.to_be_bytes())?;
        row.map(|row| changed(&row).map(|(address, _)| address)).transpose()
    }

    /// Whether an address has a number, and the number belongs to it.
    pub(crate) fn is_sound(turn: &Turn<'_>, address: &Ghid) -> Result<bool, ViewError> {
        match Self::place(turn, address)? {
            Some(seq) => Ok(Self::at(turn, seq)?.as_ref() == Some(address)),
            None => Ok(false),
        }
    }

    pub(crate) fn knows(turn: &Turn<'_>, address: &Ghid) -> Result<bool, ViewError> {
        Ok(Self::place(turn, address)?.is_some())
    }

    /// The number of the last change of an address.
    pub(crate) fn place(turn: &Turn<'_>, address: &Ghid) -> Result<Option<u64>, ViewError> {
        turn.get(Table::FeedIndex, address.as_bytes())?.map(|row| number(&row)).transpose()
    }

    /// Every address that ever changed, in ascending order.
    pub(crate) fn addresses(turn: &Turn<'_>) -> Result<Vec<Ghid>, ViewError> {
        turn.prefixed(Table::FeedIndex, &[], usize::MAX >> 1)?
            .into_iter()
            .map(|(row, _)| {
                Ghid::from_bytes(&row)
                    .map_err(|_| ViewError("a row of the feed's index is damaged".into()))
            })
            .collect()
    }

    /// Addresses that ever changed, behind `after`, in ascending order.
    pub(crate) fn addresses_after(
        turn: &Turn<'_>,
        after: Option<&Ghid>,
        limit: usize,
    ) -> Result<Vec<Ghid>, ViewError> {
        let start = after.map_or_else(Vec::new, |after| key(&[after.as_bytes(), &[0]]));
        turn.range(Table::FeedIndex, &start, &[u8::MAX; Ghid::LEN + 1], limit)?
            .into_iter()
            .map(|(row, _)| {
                Ghid::from_bytes(&row)
                    .map_err(|_| ViewError("a row of the feed's index is damaged".into()))
            })
            .collect()
    }

    /// Changes after number `after`, oldest first.
    pub(crate) fn after(
        &self,
        turn: &Turn<'_>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Change>, ViewError> {
        if after >= self.complete_after {
            let recent = self.recent.range(after.saturating_add(1)..).take(limit);
            return Ok(recent.map(|(seq, (address, by))| (*seq, *address, *by)).collect());
        }
        let start = after.saturating_add(1).to_be_bytes();
        turn.range(Table::Feed, &start, &[u8::MAX; 9], limit)?
            .into_iter()
            .map(|(row, value)| {
                let (address, by) = changed(&value)?;
                Ok((number(&row)?, address, by))
            })
            .collect()
    }
}

/// The address of a row, and who changed it.
fn changed(row: &[u8]) -> Result<(Ghid, Option<Ghid>), ViewError> {
    let ghid = |bytes: &[u8]| {
        Ghid::from_bytes(bytes).map_err(|_| ViewError("a row of the feed is damaged".into()))
    };
    let (address, by) = row.split_at_checked(Ghid::LEN).unwrap_or((row, &[]));
    Ok((ghid(address)?, if by.is_empty() { None } else { Some(ghid(by)?) }))
}

fn number(row: &[u8]) -> Result<u64, ViewError> {
    row.try_into()
        .map(u64::from_be_bytes)
        .map_err(|_| ViewError("a number of the feed is damaged".into()))
}
