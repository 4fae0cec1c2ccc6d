//! The manifest: which states of its own objects the account knows of. A device that has nothing but a
//! password notices by it that a persister serves an old state.
//!
//! It travels in the account's pieces (`pieces.rs`): the piece of a bucket lists the objects whose
//! addresses begin with its number. It is sealed and signed with the piece, and lags: what a device pushes
//! is listed within [`MANIFEST_DELAY`](limits::MANIFEST_DELAY). A state that is older than the one
//! listed is old for certain; a newer one only came since.
//!
//! ```text
//! number of entries u32 | entries: first 16 bytes of the address's hash | counter 8
//! ```

use std::collections::BTreeMap;

use golix::Ghid;
use golix::persister::Head;

use crate::effect::Effect;
use crate::engine::Engine;
use crate::limits;
use crate::shelf;
use crate::timer::Timer;
use crate::turn::{Turn, key};
use crate::version_vector;
use crate::view::{Table, ViewError};

/// The beginning of an address's hash. Nobody else's addresses are looked up by it.
type Tag = [u8; 16];

const ENTRY: usize = 24;

/// What one piece lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Manifest(BTreeMap<Tag, u64>);

impl Manifest {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4 + self.0.len() * ENTRY);
        bytes.extend_from_slice(&(self.0.len() as u32).to_be_bytes());
        for (tag, counter) in &self.0 {
            bytes.extend_from_slice(tag);
            bytes.extend_from_slice(&counter.to_be_bytes());
        }
        bytes
    }

    /// Reads what [`Manifest::encode`] wrote, and what is left behind it.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let len = (u32::from_be_bytes(*len) as usize).checked_mul(ENTRY)?;
        let (entries, rest) = rest.split_at_checked(len)?;
        let mut listed = BTreeMap::new();
        for entry in entries.chunks_exact(ENTRY) {
            let (tag, counter) = entry.split_first_chunk::<16>()?;
            listed.insert(*tag, u64::from_be_bytes(counter.try_into().ok()?));
        }
        Some((Self(listed), rest))
    }

    fn counter(&self, address: &Ghid) -> Option<u64> {
        self.0.get(&tag(address)).copied()
    }
}

impl Engine {
    /// This device wrote an object of its account: it is listed in a while, together with others.
    pub(crate) fn list_soon(&mut self, turn: &mut Turn<'_>, address: &Ghid) {
        self.list_bucket(turn, bucket(address));
    }

    fn list_bucket(&mut self, turn: &mut Turn<'_>, bucket: u8) {
        if self.pieces.unlisted.is_empty() {
            let at = turn.now() + limits::MANIFEST_DELAY;
            turn.effect(Effect::SetTimer { timer: Timer::Manifest, at });
        }
        self.pieces.unlisted.insert(bucket);
    }

    /// Lists what moved, a few pieces at a time.
    pub(crate) fn list_due(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        for _ in 0..limits::MANIFEST_PIECES {
            let Some(bucket) = self.pieces.unlisted.pop_first() else {
                return Ok(());
            };
            // Unless a piece that was written meanwhile lists it already.
            let before = self.listed_in(turn, bucket)?;
            if self.manifest(turn, bucket, &before)? != before {
                self.write_piece(turn, bucket)?;
            }
        }
        if !self.pieces.unlisted.is_empty() {
            let at = turn.now() + limits::MANIFEST_PAUSE;
            turn.effect(Effect::SetTimer { timer: Timer::Manifest, at });
        }
        Ok(())
    }

    /// What the next piece of a bucket lists: what is here, and what the last one lists and is not here.
    pub(super) fn manifest(
        &self,
        turn: &Turn<'_>,
        bucket: u8,
        before: &Manifest,
    ) -> Result<Manifest, ViewError> {
        let mut listed = BTreeMap::new();
        for (address, head) in self.own_heads(turn, bucket)? {
            let known = before.counter(&address).unwrap_or_default();
            listed.insert(tag(&address), known.max(head.counter));
        }
        for (tag, counter) in &before.0 {
            // What is no longer here was deleted, or it is not here yet.
            let prefix = key(&[&[self.me.as_bytes()[0]], tag]);
            let was_here = !turn.prefixed(Table::HighWater, &prefix, 1)?.is_empty();
            if !was_here {
                listed.entry(*tag).or_insert(*counter);
            }
        }
        Ok(Manifest(listed))
    }

    /// Another device listed less than this one knows of what it wrote itself.
    pub(super) fn list_what_is_missing(
        &mut self,
        turn: &mut Turn<'_>,
        bucket: u8,
        theirs: &Manifest,
    ) -> Result<(), ViewError> {
        let slot = self.config.slot;
        let missing = self.own_heads(turn, bucket)?.into_iter().any(|(address, head)| {
            version_vector::slot(head.counter) == slot
                && theirs.counter(&address).is_none_or(|listed| listed < head.counter)
        });
        if missing {
            self.list_bucket(turn, bucket);
        }
        Ok(())
    }

    /// Whether an object of ours is here in a state that is older than one the account knows of.
    pub(crate) fn is_old(
        &mut self,
        turn: &mut Turn<'_>,
        address: &Ghid,
    ) -> Result<bool, ViewError> {
        let Some(head) = shelf::head(turn, address)?.filter(|head| head.binder == self.me) else {
            return Ok(false);
        };
        let listed = self.listed_in(turn, bucket(address))?.counter(address);
        Ok(listed.is_some_and(|listed| listed > head.counter))
    }

    fn listed_in(&mut self, turn: &mut Turn<'_>, bucket: u8) -> Result<Manifest, ViewError> {
        Ok(self.piece(turn, bucket)?.map(|piece| piece.manifest).unwrap_or_default())
    }

    /// Own dynamic objects of a bucket; the account's pieces are none.
    fn own_heads(&self, turn: &Turn<'_>, bucket: u8) -> Result<Vec<(Ghid, Head)>, ViewError> {
        // All addresses of an account's objects have hashes of one kind.
        let prefix = [self.me.as_bytes()[0], bucket];
        let mut own = Vec::new();
        for (row, value) in turn.prefixed(Table::Heads, &prefix, usize::MAX >> 1)? {
            let (Ok(address), Some(head)) = (Ghid::from_bytes(&row), Head::decode(&value)) else {
                return Err(ViewError("the head of a binding is damaged".into()));
            };
            let is_piece = self.pieces.bucket_of(&address).is_some();
            if head.binder == self.me && !head.debound && !is_piece {
                own.push((address, head));
            }
        }
        Ok(own)
    }
}

fn tag(address: &Ghid) -> Tag {
    let bytes = address.as_bytes();
    std::array::from_fn(|at| bytes[at + 1])
}

fn bucket(address: &Ghid) -> u8 {
    address.as_bytes()[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_reads_back_and_half_of_one_does_not() {
        let address = |number: u8| Ghid::of(&[number]);
        let listed = (0..3).map(|number| (tag(&address(number)), u64::from(number) << 8 | 1));
        let manifest = Manifest(listed.collect());
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes), Some((manifest.clone(), &[][..])));
        assert_eq!(manifest.counter(&address(2)), Some(2 << 8 | 1));
        assert_eq!(manifest.counter(&address(7)), None);
        for len in 0..bytes.len() {
            assert_eq!(Manifest::decode(&bytes[..len]), None, "{len}");
        }
        assert_eq!(Manifest::decode(&[u8::MAX; 64]), None);
    }
}
