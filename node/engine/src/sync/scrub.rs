//! A look at the own rows: what a bug or a hand took out of the store is noticed here, and comes back from
//! others.
//!
//! A comparison trusts its own index: an address that the feed does not know is not compared, and a
//! head says what is here although the bytes may be gone. So the rows are looked at, slice by slice: all of
//! them soon after the start, since it is while nothing runs that most damage is done, and after that one
//! slice beside each comparison. An address that the feed lost gets a new number; one whose bytes are
//! missing is left out of comparisons, so that the other side sends it again.

use std::collections::BTreeSet;
use std::ops::Bound;

use golix::Ghid;
use golix::persister::Stored;

use crate::effect::Effect;
use crate::limits;
use crate::shelf;
use crate::sync::{Feed, Holdings};
use crate::timer::Timer;
use crate::turn::Turn;
use crate::view::{Table, Time, ViewError};

/// Where addresses are found that belong into the feed, and the first byte of such rows if there are
/// others: what is held and who holds it, what is gone, what ended static bindings, what this account
/// deleted.
const SOURCES: [(Table, Option<u8>); 4] = [
    (Table::Holders, None),
    (Table::HighWater, None),
    (Table::Graves, None),
    (Table::Deletions, Some(0)),
];

/// How far it has come, and what it found.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    source: usize,
    after: Vec<u8>,
    last: Option<Time>,
    /// Every source was passed once.
    passed: bool,
    /// The timer for the next slice runs.
    goes_on: bool,
    /// The root of the account, which belongs into no feed where it came before there was one.
    root: Option<Ghid>,
    broken: BTreeSet<Ghid>,
    /// Where the last look at those ended, if it did not come to all of them.
    looked_again: Option<Ghid>,
}

/// What one look may cost.
struct Budget {
    rows: usize,
    bytes: usize,
}

impl Scrub {
    /// One for a device of an account.
    pub(crate) fn of_account(root: Ghid) -> Self {
        Self { root: Some(root), ..Self::default() }
    }

    /// Whether bytes of an address are missing here.
    pub(crate) fn is_broken(&self, address: &Ghid) -> bool {
        self.broken.contains(address)
    }

    /// A comparison begins, or is answered: looks at the next rows.
    pub(crate) fn look(
        &mut self,
        turn: &mut Turn<'_>,
        feed: &mut Feed,
        holdings: Holdings,
    ) -> Result<(), ViewError> {
        let now = turn.now();
        if self.last.is_some_and(|last| now.since(last) < limits::SCRUB_PAUSE) {
            return Ok(());
        }
        self.look_at_slice(turn, feed, holdings)?;
        self.go_on(turn);
        Ok(())
    }

    /// The timer came.
    pub(crate) fn due(
        &mut self,
        turn: &mut Turn<'_>,
        feed: &mut Feed,
        holdings: Holdings,
    ) -> Result<(), ViewError> {
        self.goes_on = false;
        self.look_at_slice(turn, feed, holdings)?;
        self.go_on(turn);
        Ok(())
    }

    /// Sets the timer for the next slice, if it is not to wait for the next comparison.
    pub(crate) fn go_on(&mut self, turn: &mut Turn<'_>) {
        let ends = self.passed && self.looked_again.is_none();
        if !ends && !std::mem::replace(&mut self.goes_on, true) {
            let at = turn.now() + limits::SCRUB_INTERVAL;
            turn.effect(Effect::SetTimer { timer: Timer::Scrub, at });
        }
    }

    fn look_at_slice(
        &mut self,
        turn: &mut Turn<'_>,
        feed: &mut Feed,
        holdings: Holdings,
    ) -> Result<(), ViewError> {
        self.last = Some(turn.now());
        let mut budget = Budget { rows: limits::SCRUB_ROWS, bytes: limits::SCRUB_BYTES };
        self.look_at_broken(turn, &mut budget)?;
        // Each table once, and the one in which it began twice.
        for _ in 0..=SOURCES.len() {
            if budget.rows == 0 || budget.bytes == 0 {
                break;
            }
            self.look_at_source(turn, feed, holdings, &mut budget)?;
            if budget.rows == 0 || budget.bytes == 0 {
                break;
            }
            self.source = (self.source + 1) % SOURCES.len();
            self.passed |= self.source == 0;
            self.after.clear();
        }
        Ok(())
    }

    /// What was missing may be here. Takes a part of the rows that may be looked at, so that others are
    /// looked at as well.
    fn look_at_broken(&mut self, turn: &Turn<'_>, budget: &mut Budget) -> Result<(), ViewError> {
        let start = self.looked_again.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.broken.range((start, Bound::Unbounded));
        let next: Vec<Ghid> = next.take(limits::SCRUB_AGAIN + 1).copied().collect();
        self.looked_again = None;
        for (number, address) in next.iter().enumerate() {
            if number == limits::SCRUB_AGAIN || budget.bytes == 0 {
                self.looked_again = number.checked_sub(1).map(|last| next[last]);
                break;
            }
            budget.rows = budget.rows.saturating_sub(1);
            if is_whole(turn, address, budget)? {
                self.broken.remove(address);
            }
        }
        Ok(())
    }

    fn look_at_source(
        &mut self,
        turn: &mut Turn<'_>,
        feed: &mut Feed,
        holdings: Holdings,
        budget: &mut Budget,
    ) -> Result<(), ViewError> {
        let (table, kind) = SOURCES[self.source];
        let first = kind.map_or_else(Vec::new, |kind| vec![kind]);
        let end = kind.map_or_else(|| vec![u8::MAX; 2 * Ghid::LEN + 1], |kind| vec![kind + 1]);
        let start = if self.after.is_empty() {
            first.clone()
        } else {
            [self.after.as_slice(), &[0]].concat()
        };
        for (row, _) in turn.range(table, &start, &end, budget.rows)? {
            let ghid = |from: usize| {
                row.get(from..from + Ghid::LEN).and_then(|bytes| Ghid::from_bytes(bytes).ok())
            };
            let mut address = ghid(first.len());
            let mut by = None;
            if table == Table::Holders
                && let (Some(target), Some(holder)) = (address, ghid(Ghid::LEN))
            {
                (address, by) = held(turn, &target, &holder)?;
            }
            budget.rows -= 1;
            self.after = row;
            let Some(address) = address.filter(|it| Some(*it) != self.root) else { continue };
            if !Feed::is_sound(turn, &address)? {
                let by = by.filter(|_| matches!(holdings, Holdings::Persister));
                feed.touch_by(turn, &address, by)?;
            }
            if self.broken.len() < limits::SCRUB_BROKEN && !is_whole(turn, &address, budget)? {
                self.broken.insert(address);
            }
            if budget.rows == 0 || budget.bytes == 0 {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What object a hold is about, and whose: the dynamic object that holds, or the static one that is
/// held. None if that has a row of its own.
fn held(
    turn: &Turn<'_>,
    target: &Ghid,
    holder: &Ghid,
) -> Result<(Option<Ghid>, Option<Ghid>), ViewError> {
    if let Some(head) = shelf::head(turn, holder)? {
        return Ok((Some(*holder), Some(head.binder)));
    }
    if shelf::head(turn, target)?.is_some() {
        return Ok((None, None));
    }
    Ok(match shelf::bytes(turn, holder)?.as_deref().and_then(Stored::read) {
        Some(Stored::StaticBinding { binder, .. }) => (Some(*target), Some(binder)),
        _ => (None, None),
    })
}

/// Whether the bytes are here that an address needs to be read: its newest frame and its container.
fn is_whole(turn: &Turn<'_>, address: &Ghid, budget: &mut Budget) -> Result<bool, ViewError> {
    let needed = match shelf::head(turn, address)? {
        Some(head) => vec![head.frame, head.target],
        None if shelf::holders(turn, address, 1)?.is_empty() => Vec::new(),
        None => vec![*address],
    };
    for ghid in needed {
        match turn.size(Table::Objects, ghid.as_bytes())? {
            Some(size) => budget.bytes = budget.bytes.saturating_sub(size),
            // A dynamic object may hold another one.
            None if shelf::head(turn, &ghid)?.is_some() => {}
            None => return Ok(false),
        }
    }
    Ok(true)
}
