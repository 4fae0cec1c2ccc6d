//! How account records travel between the devices of an account.
//!
//! Records are divided into 256 buckets by the first byte of their blinded names, and each bucket is
//! the state of a dynamic object of the account, its *piece*: the sealed rows as they are stored. A
//! change rewrites one piece, some kilobytes. A device that receives a piece takes the rows that are
//! newer than its own, and gives up those that were forgotten there: which are not in it although its
//! writer had seen them (`seen.rs`). If its own are newer, or not there yet, it writes the piece again. So
//! all devices end with the same rows, whoever was away and whichever frame won, and nothing is lost: the
//! rows are the truth, the pieces only carry them.
//!
//! ```text
//! version 3 | seen: length u16, entries 9 each | manifest | rows: key 32 | length u32 | sealed row
//! ```
//!
//! Version 2 has no manifest (`manifest.rs`), version 1 nothing of what was seen either.

use std::collections::{BTreeMap, BTreeSet};

use golix::Ghid;
use golix::object::{DynamicBinding, StaticBinding};
use hypergolix_ipc::ApiId;

use super::manifest::Manifest;
use super::{Account, Seen};
use crate::content::Content;
use crate::effect::Effect;
use crate::engine::{Engine, News};
use crate::keyring::{Keyring, Merged, Record, Stamped};
use crate::limits;
use crate::shelf;
use crate::timer::Timer;
use crate::turn::Turn;
use crate::version_vector::VersionVector;
use crate::view::{Row, Table, ViewError};

const VERSION: u8 = 3;
/// Without a manifest.
const VERSION_SEEN: u8 = 2;
const KEY_LEN: usize = 32;

/// The pieces of an account.
pub(crate) struct Pieces {
    addresses: Vec<Ghid>,
    buckets: BTreeMap<Ghid, u8>,
    /// Changed since their pieces were written.
    dirty: BTreeSet<u8>,
    /// Own objects of these moved since their manifests were written.
    pub(super) unlisted: BTreeSet<u8>,
}

impl Pieces {
    pub(crate) fn new(account: &Account) -> Self {
        let suite = account.suite();
        let me = account.fingerprint();
        let addresses: Vec<Ghid> = (0..=u8::MAX)
            .map(|bucket| DynamicBinding::dynamic_address(suite, &me, &account.piece_birth(bucket)))
            .collect();
        let buckets = addresses.iter().copied().zip(0..=u8::MAX).collect();
        Self { addresses, buckets, dirty: BTreeSet::new(), unlisted: BTreeSet::new() }
    }

    /// Which bucket's piece an address is.
    pub(crate) fn bucket_of(&self, address: &Ghid) -> Option<u8> {
        self.buckets.get(address).copied()
    }

    /// The addresses of all pieces, also of those that nothing was written to yet.
    pub(crate) fn addresses(&self) -> &[Ghid] {
        &self.addresses
    }
}

impl Engine {
    /// Records changed in this turn: their pieces are written soon, together.
    pub(crate) fn note_changed_records(&mut self, turn: &mut Turn<'_>) {
        let changed = turn.take_buckets();
        self.write_soon(turn, changed);
    }

    fn write_soon(&mut self, turn: &mut Turn<'_>, buckets: BTreeSet<u8>) {
        if buckets.is_empty() {
            return;
        }
        if self.pieces.dirty.is_empty() {
            let at = turn.now() + limits::PIECES_DELAY;
            turn.effect(Effect::SetTimer { timer: Timer::Pieces, at });
        }
        self.pieces.dirty.extend(buckets);
    }

    /// Writes the pieces of all buckets that changed.
    pub(crate) fn write_pieces(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        for bucket in std::mem::take(&mut self.pieces.dirty) {
            self.write_piece(turn, bucket)?;
        }
        Ok(())
    }

    /// Writes every piece that lags behind its records: what a stop came between.
    pub(crate) fn check_pieces(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        let mut lag = BTreeSet::new();
        for bucket in 0..=u8::MAX {
            let rows = Keyring::bucket(turn, bucket)?;
            let piece = self.piece(turn, bucket)?.map(|piece| piece.rows);
            if piece.unwrap_or_default() != rows {
                lag.insert(bucket);
            }
        }
        self.write_soon(turn, lag);
        Ok(())
    }

    pub(super) fn piece(
        &mut self,
        turn: &mut Turn<'_>,
        bucket: u8,
    ) -> Result<Option<Piece>, ViewError> {
        let address = self.pieces.addresses[usize::from(bucket)];
        let resolved = self.resolve_any(turn, &address)?;
        Ok(resolved.and_then(|resolved| Piece::decode(&resolved.content.state)))
    }

    pub(super) fn write_piece(&mut self, turn: &mut Turn<'_>, bucket: u8) -> Result<(), ViewError> {
        let address = self.pieces.addresses[usize::from(bucket)];
        let listed = self.piece(turn, bucket)?.map(|piece| piece.manifest).unwrap_or_default();
        let manifest = self.manifest(turn, bucket, &listed)?;
        let seen = Seen::load(turn, bucket)?;
        let content = Content {
            epoch: 0,
            dynamic: true,
            private: None,
            legroom: 0,
            api: ApiId::ZERO,
            seen: VersionVector::default(),
            again: false,
            state: Piece { seen, manifest, rows: Keyring::bucket(turn, bucket)? }.encode().into(),
        };
        let (step, before) = match shelf::head(turn, &address)? {
            Some(head) => ((head.counter >> 8) + 1, vec![head.target, head.birth]),
            None => (1, vec![self.account.piece_birth(bucket)]),
        };
        let chain = self.own_chain(turn, &address, step)?;
        let (frame, container) = self.seal_step(turn, &chain, address, &content, &before);
        for object in [frame, container] {
            if let Err(rejection) = self.store(turn, &object)? {
                turn.log("a piece of the account cannot be written", rejection.to_string());
                return Ok(());
            }
        }
        Self::wrote(turn, &address)
    }

    /// A piece has a new frame. Ours say nothing new; another device's may.
    pub(crate) fn piece_changed(
        &mut self,
        turn: &mut Turn<'_>,
        address: Ghid,
        bucket: u8,
    ) -> Result<(), ViewError> {
        let own = shelf::head(turn, &address)?
            .is_none_or(|head| head.counter & 0xff == u64::from(self.config.slot));
        if !own {
            self.arrived_pieces.insert(bucket);
        }
        Ok(())
    }

    /// Takes what other devices wrote, once frames and containers are both here.
    pub(crate) fn merge_pieces(&mut self, turn: &mut Turn<'_>) -> Result<(), ViewError> {
        for bucket in std::mem::take(&mut self.arrived_pieces) {
            let Some(theirs) = self.piece(turn, bucket)? else {
                continue;
            };
            let mut ours: BTreeMap<Vec<u8>, Vec<u8>> =
                Keyring::bucket(turn, bucket)?.into_iter().collect();
            // Changes that this device never made: another one has its slot.
            self.list_what_is_missing(turn, bucket, &theirs.manifest)?;
            let slot = self.config.slot;
            if theirs.seen.last(slot) > Seen::load(turn, bucket)?.last(slot) {
                self.change_slot(turn)?;
            } else {
                Self::slot_is_settled(turn)?;
            }
            let seen = Seen::load(turn, bucket)?;
            let mut joined = theirs.seen.clone();
            let (mut again, mut whole) = (false, true);
            for (row, sealed) in theirs.rows {
                ours.remove(&row);
                let Some(kind) = Record::of_row(&row) else {
                    continue;
                };
                let before = match kind {
                    Record::Epochs => turn.get(Table::Account, &row)?,
                    _ => None,
                };
                match self.keyring.merge(turn, &row, &sealed, &seen)? {
                    Merged::Taken(record) => {
                        joined.note(record.stamp);
                        self.record_arrived(turn, kind, &record)?;
                    }
                    Merged::Same => continue,
                    Merged::Ours => again = true,
                    Merged::Damaged => (again, whole) = (true, false),
                }
                if let Some(before) = before
                    && let Some((object, before, theirs)) =
                        self.keyring.both(&row, &before, &sealed)?
                {
                    self.merge_epochs(turn, object, &before, &theirs)?;
                }
            }
            for (row, sealed) in ours {
                let Some(kind) = Record::of_row(&row) else {
                    continue;
                };
                match self.keyring.give_up(turn, &row, &sealed, &theirs.seen)? {
                    // That device did not know that this one holds it.
                    Some(record) if kind == Record::Secret && self.holds(turn, &record.name)? => {
                        self.keyring.put(turn, kind, &record.name, &record.body)?;
                        again = true;
                    }
                    Some(record) => self.record_arrived(turn, kind, &record)?,
                    None => again = true,
                }
            }
            // After what arrived, which may have written more.
            let seen = Seen::load(turn, bucket)?;
            joined.join(&seen);
            // What does not open was not seen.
            if whole && joined != seen {
                joined.save(turn, bucket);
            }
            if again {
                self.write_soon(turn, BTreeSet::from([bucket]));
            }
        }
        Ok(())
    }

    /// Whether this account holds what a record is about: its owner may have let it go.
    fn holds(&self, turn: &Turn<'_>, name: &[u8]) -> Result<bool, ViewError> {
        let Ok(address) = Ghid::from_bytes(name) else {
            return Ok(false);
        };
        let hold = StaticBinding::address_of(self.account.suite(), &self.me, &address);
        Ok(shelf::bytes(turn, &hold)?.is_some())
    }

    /// What is in memory follows a record of another device.
    fn record_arrived(
        &mut self,
        turn: &mut Turn<'_>,
        kind: Record,
        record: &Stamped,
    ) -> Result<(), ViewError> {
        let address = |bytes: &[u8]| Ghid::from_bytes(bytes).ok();
        match kind {
            Record::Secret => {
                if let Some(address) = address(&record.name) {
                    self.chains.forget(&address);
                    self.contents.forget(&address);
                    self.arrived.insert(address);
                }
            }
            Record::Share => {
                let body = (!record.forgotten).then_some(&record.body[..]);
                self.merge_share(turn, &record.name, body)?;
            }
            Record::Follow => {
                if let Some((followed, source)) = record.name.split_at_checked(Ghid::LEN)
                    && let (Some(followed), Some(source)) = (address(followed), address(source))
                {
                    if record.forgotten {
                        self.unfollowed(turn, followed, source);
                    } else {
                        self.followed(turn, followed, source);
                    }
                }
            }
            // Looked up when they are needed.
            Record::Epochs | Record::NextSecret => {
                if let (Record::Epochs, Some(object)) = (kind, address(&record.name)) {
                    self.epochs_to_check.insert(object);
                }
                if let Some(address) = address(&record.name) {
                    self.chains.forget(&address);
                    self.contents.forget(&address);
                    // What was opened before its record came has been told.
                    if !self.early_epochs.contains_key(&address) {
                        self.news.push(News::Updated(address, None));
                    }
                }
            }
            Record::Recipient => {
                if record.forgotten {
                    self.recipient_gone(turn, &record.name)?;
                }
            }
            Record::Owed => {
                let body = (!record.forgotten).then_some(&record.body[..]);
                self.promise_arrived(turn, &record.name, body)?;
            }
            Record::Token
            | Record::Checkpoint
            | Record::Lost
            | Record::Published
            | Record::Route => {}
        }
        Ok(())
    }
}

/// What is in a piece.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Piece {
    seen: Seen,
    pub(super) manifest: Manifest,
    rows: Vec<Row>,
}

impl Piece {
    fn encode(&self) -> Vec<u8> {
        let seen = self.seen.encode();
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&(seen.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&seen);
        bytes.extend_from_slice(&self.manifest.encode());
        for (key, value) in &self.rows {
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(&(value.len() as u32).to_be_bytes());
            bytes.extend_from_slice(value);
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, mut rest) = bytes.split_first()?;
        let mut piece = Self::default();
        match version {
            1 => {}
            VERSION | VERSION_SEEN => {
                let (len, after) = rest.split_first_chunk::<2>()?;
                let (seen, after) =
                    after.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
                piece.seen = Seen::decode(seen)?;
                rest = after;
                if version == VERSION {
                    (piece.manifest, rest) = Manifest::decode(rest)?;
                }
            }
            _ => return None,
        }
        while !rest.is_empty() {
            let (key, after) = rest.split_at_checked(KEY_LEN)?;
            let (len, after) = after.split_first_chunk::<4>()?;
            let (value, after) = after.split_at_checked(u32::from_be_bytes(*len) as usize)?;
            piece.rows.push((key.to_vec(), value.to_vec()));
            rest = after;
        }
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_reads_back_and_half_of_one_does_not() {
        let mut seen = Seen::default();
        seen.note(7 << 8 | 3);
        let manifest = Manifest::default();
        let piece = Piece {
            seen,
            manifest,
            rows: vec![(vec![1; 32], vec![2; 100]), (vec![3; 32], vec![])],
        };
        let bytes = piece.encode();
        assert_eq!(Piece::decode(&bytes), Some(piece.clone()));
        assert_eq!(Piece::decode(&Piece::default().encode()), Some(Piece::default()));
        let whole = [16, 16 + 32 + 4 + 100, bytes.len()];
        for len in 0..bytes.len() {
            assert_eq!(Piece::decode(&bytes[..len]).is_some(), whole.contains(&len), "{len}");
        }
        assert_eq!(Piece::decode(&[&[9], &bytes[1..]].concat()), None);
        // As earlier versions wrote it.
        assert_eq!(
            Piece::decode(&[&[2], &bytes[1..12], &bytes[16..]].concat()),
            Some(piece.clone())
        );
        let before = Piece { seen: Seen::default(), ..piece };
        assert_eq!(Piece::decode(&[&[1], &bytes[16..]].concat()), Some(before));
    }
}
