//! What the writer of a state had seen of those before it: a version vector over device slots.
//!
//! A frame names only the state before it, and nodes are told of the newest one only. So whether a
//! device that was away wrote beside another one or after it, some states ago, is told by this.

use std::collections::BTreeMap;

/// Slots that are remembered: 257 bytes at most.
const SLOTS_MAX: usize = 32;

/// Of each device slot, the last counter that was seen. A counter ends with its slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct VersionVector(BTreeMap<u8, u64>);

impl VersionVector {
    /// Whether the state with this counter, and so everything that its device wrote before, was seen.
    pub(crate) fn includes(&self, counter: u64) -> bool {
        self.0.get(&slot(counter)).is_some_and(|seen| *seen >= counter)
    }

    /// The state with this counter was seen.
    pub(crate) fn note(&mut self, counter: u64) {
        let seen = self.0.entry(slot(counter)).or_default();
        *seen = counter.max(*seen);
        if self.0.len() > SLOTS_MAX
            && let Some(oldest) =
                self.0.iter().min_by_key(|(_, seen)| **seen).map(|(slot, _)| *slot)
        {
            self.0.remove(&oldest);
        }
    }

    /// Forgets a slot.
    pub(crate) fn forget(&mut self, slot: u8) {
        self.0.remove(&slot);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn counters(&self) -> impl Iterator<Item = u64> {
        self.0.values().copied()
    }

    /// `count u8 | counter u64 each`.
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.push(u8::try_from(self.0.len()).expect("a few slots"));
        for counter in self.counters() {
            bytes.extend_from_slice(&counter.to_be_bytes());
        }
    }

    /// Reads it from the front of `bytes`, and returns the rest as well.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (count, rest) = bytes.split_first()?;
        let (counters, rest) = rest.split_at_checked(usize::from(*count) * 8)?;
        let mut read = Self::default();
        for counter in counters.chunks_exact(8) {
            read.note(u64::from_be_bytes(counter.try_into().ok()?));
        }
        (read.0.len() == usize::from(*count)).then_some((read, rest))
    }
}

/// The slot of the device that signed a counter.
pub(crate) fn slot(counter: u64) -> u8 {
    (counter & 0xff) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_includes_what_came_before_it_from_the_same_device() {
        let mut seen = VersionVector::default();
        seen.note(5 << 8 | 1);
        seen.note(3 << 8 | 1);
        assert!(seen.includes(5 << 8 | 1) && seen.includes(4 << 8 | 1));
        assert!(!seen.includes(6 << 8 | 1) && !seen.includes(1 << 8 | 2));
    }

    #[test]
    fn it_reads_back_and_is_bounded() {
        let mut seen = VersionVector::default();
        for slot in 0..=u8::MAX {
            seen.note(u64::from(slot) << 8 | u64::from(slot));
        }
        let mut bytes = Vec::new();
        seen.encode(&mut bytes);
        assert_eq!(bytes.len(), 257);
        bytes.push(9);
        let (read, rest) = VersionVector::decode(&bytes).expect("whole");
        assert_eq!((&read, rest), (&seen, &[9][..]));
        assert!(read.includes(255 << 8 | 255) && !read.includes(1 << 8 | 1), "the latest stay");
        assert!(VersionVector::decode(&bytes[..200]).is_none());
        assert!(
            VersionVector::decode(&[2, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 2, 1]).is_none()
        );
    }
}
