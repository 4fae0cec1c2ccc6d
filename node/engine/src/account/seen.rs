//! What a device has seen of the records of one bucket: of each device of the account the last change.
//!
//! A device has all earlier changes of a bucket by the same device too, since pieces carry whole buckets. So
//! a record that is here and not in another's piece was either forgotten there, if that has seen it, or has
//! not come there yet. Nothing has to be left behind where a record was, however many there were.
//!
//! Meta row `seen ` and the bucket: `slot 1 | number of the change 8` each, ascending.

use std::collections::BTreeMap;

use crate::turn::{Turn, key};
use crate::view::{Table, ViewError};

const ENTRY_LEN: usize = 9;

const PREFIX: &[u8] = b"seen ";

/// The last change by each device slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen(BTreeMap<u8, u64>);

impl Seen {
    pub(crate) fn load(turn: &Turn<'_>, bucket: u8) -> Result<Self, ViewError> {
        match turn.get(Table::Meta, &row(bucket))? {
            Some(row) => Self::decode(&row).ok_or_else(damaged),
            None => Ok(Self::default()),
        }
    }

    /// Of all buckets of which anything was seen.
    pub(crate) fn all(turn: &Turn<'_>) -> Result<Vec<Self>, ViewError> {
        turn.prefixed(Table::Meta, PREFIX, usize::from(u8::MAX) + 1)?
            .into_iter()
            .map(|(_, row)| Self::decode(&row).ok_or_else(damaged))
            .collect()
    }

    pub(crate) fn save(&self, turn: &mut Turn<'_>, bucket: u8) {
        turn.put(Table::Meta, row(bucket), self.encode());
    }

    /// The last change by a slot; 0 if none was seen.
    pub(crate) fn last(&self, slot: u8) -> u64 {
        self.0.get(&slot).copied().unwrap_or_default()
    }

    /// Whether the change with this stamp was seen.
    pub(crate) fn has(&self, stamp: u64) -> bool {
        self.0.get(&slot_of(stamp)).is_some_and(|number| *number >= stamp >> 8)
    }

    pub(crate) fn note(&mut self, stamp: u64) {
        let number = self.0.entry(slot_of(stamp)).or_default();
        *number = (*number).max(stamp >> 8);
    }

    /// What either has seen.
    pub(crate) fn join(&mut self, other: &Self) {
        for (slot, number) in &other.0 {
            self.note(number << 8 | u64::from(*slot));
        }
    }

    /// A slot turned out to be another device's.
    pub(crate) fn forget(&mut self, slot: u8) {
        self.0.remove(&slot);
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = u8> {
        self.0.keys().copied()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let entries = self
            .0
            .iter()
            .flat_map(|(slot, number)| std::iter::once(*slot).chain(number.to_be_bytes()));
        entries.collect()
    }

    /// `None` if it is not exactly that.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut seen = BTreeMap::new();
        for entry in bytes.chunks(ENTRY_LEN) {
            let (slot, number) = entry.split_first()?;
            let number = u64::from_be_bytes(number.try_into().ok()?);
            if number >> 56 != 0 || seen.last_key_value().is_some_and(|(last, _)| last >= slot) {
                return None;
            }
            seen.insert(*slot, number);
        }
        Some(Self(seen))
    }
}

/// The device that made a change.
pub(crate) fn slot_of(stamp: u64) -> u8 {
    (stamp & 0xff) as u8
}

fn row(bucket: u8) -> Vec<u8> {
    key(&[PREFIX, &[bucket]])
}

fn damaged() -> ViewError {
    ViewError("what was seen of account records is damaged".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_joined_and_reads_back() {
        let (mut one, mut other) = (Seen::default(), Seen::default());
        one.note(5 << 8 | 1);
        one.note(3 << 8 | 1);
        other.note(4 << 8 | 1);
        other.note((9 << 8) + 200);
        assert!(one.has(5 << 8 | 1) && one.has(1 << 8 | 1));
        assert!(!one.has(6 << 8 | 1) && !one.has((1 << 8) + 200));
        one.join(&other);
        assert!(one.has(5 << 8 | 1) && one.has((9 << 8) + 200));
        let bytes = one.encode();
        assert_eq!(bytes.len(), 18);
        assert_eq!(Seen::decode(&bytes), Some(one));
        for wrong in
            [&bytes[..17], &[&bytes[9..], &bytes[..9]].concat(), &[1, 1, 0, 0, 0, 0, 0, 0, 0]]
        {
            assert_eq!(Seen::decode(wrong), None);
        }
    }
}
