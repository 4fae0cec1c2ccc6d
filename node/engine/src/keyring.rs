//! Account records: small facts of the account, each sealed on its own.
//!
//! Row key: `kind 1 | HMAC-SHA-512(index key, kind | name)[..31]`, so that a stolen disk does not
//! show names. Value: `salt 16 | AES-256-GCM(HKDF(seal key, salt | row key), version 1 | forgotten 1 |
//! stamp u64 | name length u16 | name | body)`. A change rewrites one row.
//!
//! The devices of an account exchange these rows as they are (`account/pieces.rs`); of two rows with
//! one key the larger stamp wins. A record that is forgotten is gone: what a device has seen says that it
//! was there (`account/seen.rs`). Earlier versions left an empty one behind.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use golix::Ghid;
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::Sha512;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::account::{Seen, slot_of};
use crate::turn::Turn;
use crate::view::{Row, Table, ViewError};

/// What a record is about. The discriminant is part of the disk format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Record {
    /// Address to the secret or chain key received for it.
    Secret = 1,
    /// Own dynamic address to a chain key close to its newest frame.
    Checkpoint = 2,
    /// Application token to its startup object.
    Token = 3,
    /// A share that waits for an application.
    Share = 4,
    /// An address that is followed, and the identity it is followed at.
    Follow = 5,
    /// A frame of ours that lost against another device's: the object's address and the state.
    Lost = 6,
    /// An own object and somebody it is shared with.
    Recipient = 7,
    /// Own dynamic address to its epochs (`sharing/revocation.rs`).
    Epochs = 8,
    /// Address to the chain key of the epoch that comes next; takes the place of the secret with the
    /// first frame that it opens.
    NextSecret = 9,
    /// An address that this device publishes.
    Published = 10,
    /// An identity to where its devices were last, as far as this device knows: `length u16 | route`
    /// each.
    Route = 11,
    /// A share that is owed (`sharing/promises.rs`), under a random name.
    Owed = 12,
}

impl Record {
    /// What the devices of an account share; the rest each keeps for itself.
    const TRAVELLING: [Self; 8] = [
        Self::Secret,
        Self::Token,
        Self::Share,
        Self::Follow,
        Self::Recipient,
        Self::Epochs,
        Self::NextSecret,
        Self::Owed,
    ];

    fn travels(self) -> bool {
        Self::TRAVELLING.contains(&self)
    }

    /// The kind of a row.
    pub(crate) fn of_row(row: &[u8]) -> Option<Self> {
        Self::TRAVELLING.into_iter().find(|kind| row.first() == Some(&(*kind as u8)))
    }
}

/// Layout of a sealed record.
const VERSION: u8 = 1;
/// Version, forgotten, stamp, length of the name.
const HEAD: usize = 1 + 1 + 8 + 2;

/// Meta row: the number of the last change of a record that travels.
const META_CLOCK: &[u8] = b"account clock";

/// A record's name and body.
type Named = (Vec<u8>, Zeroizing<Vec<u8>>);

/// An address and two bodies of its record.
type TwoBodies = (Ghid, Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>);

/// A record as it is sealed: when it was written, whether it was forgotten, name and body.
#[derive(Clone)]
pub(crate) struct Stamped {
    /// Number of the change in its highest bits, device slot in the lowest 8: of two, the larger wins,
    /// on every device alike.
    pub(crate) stamp: u64,
    pub(crate) forgotten: bool,
    pub(crate) name: Vec<u8>,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

/// What became of another device's record.
pub(crate) enum Merged {
    /// It is the newer one, and written here now.
    Taken(Box<Stamped>),
    /// Both are the same.
    Same,
    /// Ours is the newer one, or it was forgotten here.
    Ours,
    /// Theirs does not open.
    Damaged,
}

/// Seals and opens account records.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Keyring {
    index: [u8; 32],
    seal: [u8; 32],
    #[zeroize(skip)]
    slot: u8,
}

impl Keyring {
    pub(crate) fn new(account_key: &[u8; 32], slot: u8) -> Self {
        Self {
            index: derive(account_key, b"hypergolix record index\0", &[]),
            seal: derive(account_key, b"hypergolix record seal\0", &[]),
            slot,
        }
    }

    /// The slot of this device.
    pub(crate) fn slot(&self) -> u8 {
        self.slot
    }

    pub(crate) fn get(
        &self,
        turn: &Turn<'_>,
        kind: Record,
        name: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>, ViewError> {
        let row = self.row(kind, name);
        match turn.get(Table::Account, &row)? {
            Some(sealed) => {
                let record = self.open(&row, &sealed)?;
                Ok((!record.forgotten).then_some(record.body))
            }
            None => Ok(None),
        }
    }

    /// Writes a record.
    pub(crate) fn put(
        &self,
        turn: &mut Turn<'_>,
        kind: Record,
        name: &[u8],
        body: &[u8],
    ) -> Result<(), ViewError> {
        let row = self.row(kind, name);
        let stamp = if kind.travels() { self.next_stamp(turn)? } else { 0 };
        let body = Zeroizing::new(body.to_vec());
        let record = Stamped { stamp, forgotten: false, name: name.to_vec(), body };
        let sealed = self.seal(turn, &row, &record);
        turn.put(Table::Account, row.clone(), sealed);
        if kind.travels() {
            let mut seen = Seen::load(turn, bucket(&row))?;
            seen.note(stamp);
            seen.save(turn, bucket(&row));
            turn.touch_bucket(bucket(&row));
        }
        Ok(())
    }

    /// Writes what every device finds out by itself into a record that is here: no change that others have
    /// to hear of, or one that was taken elsewhere meanwhile would come back.
    pub(crate) fn amend(
        &self,
        turn: &mut Turn<'_>,
        kind: Record,
        name: &[u8],
        body: &[u8],
    ) -> Result<(), ViewError> {
        let row = self.row(kind, name);
        if let Some(sealed) = turn.get(Table::Account, &row)? {
            let record = Stamped {
                body: Zeroizing::new(body.to_vec()),
                forgotten: false,
                ..self.open(&row, &sealed)?
            };
            let sealed = self.seal(turn, &row, &record);
            turn.put(Table::Account, row, sealed);
        }
        Ok(())
    }

    /// Forgets a record. Other devices see from the piece that it is gone.
    pub(crate) fn forget(
        &self,
        turn: &mut Turn<'_>,
        kind: Record,
        name: &[u8],
    ) -> Result<(), ViewError> {
        let row = self.row(kind, name);
        let Some(sealed) = turn.get(Table::Account, &row)? else {
            return Ok(());
        };
        if kind.travels() {
            // Rows of earlier versions came without a word of what was seen.
            let mut seen = Seen::load(turn, bucket(&row))?;
            seen.note(self.open(&row, &sealed)?.stamp);
            seen.save(turn, bucket(&row));
            turn.touch_bucket(bucket(&row));
        }
        turn.delete(Table::Account, row);
        Ok(())
    }

    /// A number larger than that of every record seen so far.
    fn next_stamp(&self, turn: &mut Turn<'_>) -> Result<u64, ViewError> {
        let next = clock(turn)? + 1;
        turn.put(Table::Meta, META_CLOCK, next.to_be_bytes());
        Ok(next << 8 | u64::from(self.slot))
    }

    /// Takes another device's record if it is newer than ours, or new; `seen` is what this device has seen
    /// of its bucket.
    pub(crate) fn merge(
        &self,
        turn: &mut Turn<'_>,
        row: &[u8],
        sealed: &[u8],
        seen: &Seen,
    ) -> Result<Merged, ViewError> {
        let Ok(theirs) = self.open(row, sealed) else {
            return Ok(Merged::Damaged);
        };
        let ours = match turn.get(Table::Account, row)? {
            Some(sealed) => Some(self.open(row, &sealed)?),
            None => None,
        };
        match ours {
            Some(ours) if ours.stamp == theirs.stamp => return Ok(Merged::Same),
            Some(ours) if ours.stamp > theirs.stamp => return Ok(Merged::Ours),
            // It was here, and was forgotten.
            None if seen.has(theirs.stamp) => return Ok(Merged::Ours),
            Some(_) | None => {}
        }
        if theirs.stamp >> 8 > clock(turn)? {
            turn.put(Table::Meta, META_CLOCK, (theirs.stamp >> 8).to_be_bytes());
        }
        turn.put(Table::Account, row, sealed);
        Ok(Merged::Taken(Box::new(theirs)))
    }

    /// The bodies of two rows of one key about an address, if both open and say different things.
    pub(crate) fn both(
        &self,
        row: &[u8],
        ours: &[u8],
        theirs: &[u8],
    ) -> Result<Option<TwoBodies>, ViewError> {
        let ours = self.open(row, ours)?;
        let Ok(theirs) = self.open(row, theirs) else {
            return Ok(None);
        };
        let differ = !ours.forgotten && !theirs.forgotten && ours.body != theirs.body;
        let address = Ghid::from_bytes(&ours.name).ok().filter(|_| differ);
        Ok(address.map(|address| (address, ours.body, theirs.body)))
    }

    /// Gives up a record that another device's piece lacks, if that device has seen it: it was forgotten
    /// there. Returns it as it was.
    pub(crate) fn give_up(
        &self,
        turn: &mut Turn<'_>,
        row: &[u8],
        sealed: &[u8],
        theirs: &Seen,
    ) -> Result<Option<Stamped>, ViewError> {
        let ours = self.open(row, sealed)?;
        if !theirs.has(ours.stamp) {
            return Ok(None);
        }
        turn.delete(Table::Account, row);
        Ok(Some(Stamped { forgotten: true, ..ours }))
    }

    /// Stamps records anew that `before` signed, whose slot is another device's: those of the buckets
    /// that nobody else has yet.
    pub(crate) fn stamp_anew(
        &self,
        turn: &mut Turn<'_>,
        before: u8,
        buckets: &[u8],
    ) -> Result<(), ViewError> {
        for bucket in buckets {
            for (row, sealed) in Self::bucket(turn, *bucket)? {
                let record = self.open(&row, &sealed)?;
                if let Some(kind) = Record::of_row(&row)
                    && slot_of(record.stamp) == before
                    && !record.forgotten
                {
                    self.put(turn, kind, &record.name, &record.body)?;
                }
            }
        }
        Ok(())
    }

    /// Every record of a kind: name and body.
    pub(crate) fn all(&self, turn: &Turn<'_>, kind: Record) -> Result<Vec<Named>, ViewError> {
        let mut all = Vec::new();
        for (row, sealed) in turn.prefixed(Table::Account, &[kind as u8], usize::MAX >> 1)? {
            let record = self.open(&row, &sealed)?;
            if !record.forgotten {
                all.push((record.name, record.body));
            }
        }
        Ok(all)
    }

    /// The rows of a bucket, as they are stored.
    pub(crate) fn bucket(turn: &Turn<'_>, bucket: u8) -> Result<Vec<Row>, ViewError> {
        let mut rows = Vec::new();
        for kind in Record::TRAVELLING {
            rows.extend(turn.prefixed(Table::Account, &[kind as u8, bucket], usize::MAX >> 1)?);
        }
        Ok(rows)
    }

    /// What a request is sealed with whose parts are in a record: the same on every device.
    pub(crate) fn randomness_of_a_request(&self, parts: &[&[u8]]) -> [u8; 64] {
        derive(&self.seal, b"hypergolix owed request\0", parts)
    }

    fn row(&self, kind: Record, name: &[u8]) -> Vec<u8> {
        let mut mac = Hmac::<Sha512>::new_from_slice(&self.index).expect("any length will do");
        mac.update(&[kind as u8]);
        mac.update(name);
        let digest = mac.finalize().into_bytes();
        let mut row = Vec::with_capacity(32);
        row.push(kind as u8);
        row.extend_from_slice(&digest[..31]);
        row
    }

    fn cipher(&self, salt: &[u8], row: &[u8]) -> (Aes256Gcm, [u8; 12]) {
        let okm: Zeroizing<[u8; 44]> =
            Zeroizing::new(derive(&self.seal, b"hypergolix record\0", &[salt, row]));
        let key: [u8; 32] = okm[..32].try_into().expect("32 bytes");
        let nonce = okm[32..].try_into().expect("12 bytes");
        (Aes256Gcm::new(&Key::<Aes256Gcm>::from(key)), nonce)
    }

    fn seal(&self, turn: &mut Turn<'_>, row: &[u8], record: &Stamped) -> Vec<u8> {
        let salt: [u8; 16] = turn.random();
        let (name, body) = (&record.name, &record.body);
        let mut plain = Zeroizing::new(Vec::with_capacity(HEAD + name.len() + body.len()));
        plain.push(VERSION);
        plain.push(u8::from(record.forgotten));
        plain.extend_from_slice(&record.stamp.to_be_bytes());
        plain.extend_from_slice(&(name.len() as u16).to_be_bytes());
        plain.extend_from_slice(name);
        plain.extend_from_slice(body);
        let (cipher, nonce) = self.cipher(&salt, row);
        let sealed = cipher
            .encrypt(&Nonce::from(nonce), Payload { msg: plain.as_slice(), aad: row })
            .expect("a record is far below the cipher's limit");
        [&salt[..], &sealed].concat()
    }

    fn open(&self, row: &[u8], sealed: &[u8]) -> Result<Stamped, ViewError> {
        let damaged = || ViewError("an account record does not open".into());
        let (salt, sealed) = sealed.split_at_checked(16).ok_or_else(damaged)?;
        let (cipher, nonce) = self.cipher(salt, row);
        let plain = Zeroizing::new(
            cipher
                .decrypt(&Nonce::from(nonce), Payload { msg: sealed, aad: row })
                .map_err(|_| damaged())?,
        );
        let (head, rest) = plain.split_at_checked(HEAD).ok_or_else(damaged)?;
        if head[0] != VERSION || head[1] > 1 {
            return Err(damaged());
        }
        let stamp = u64::from_be_bytes(head[2..10].try_into().expect("8 bytes"));
        let len = usize::from(u16::from_be_bytes([head[10], head[11]]));
        let (name, body) = rest.split_at_checked(len).ok_or_else(damaged)?;
        Ok(Stamped {
            stamp,
            forgotten: head[1] == 1,
            name: name.to_vec(),
            body: Zeroizing::new(body.to_vec()),
        })
    }
}

/// The number of the last change of a record that travels.
fn clock(turn: &Turn<'_>) -> Result<u64, ViewError> {
    match turn.get(Table::Meta, META_CLOCK)? {
        Some(row) => row
            .try_into()
            .map(u64::from_be_bytes)
            .map_err(|_| ViewError("the clock of the account is damaged".into())),
        None => Ok(0),
    }
}

/// Which bucket a row belongs to: its records travel together.
pub(crate) fn bucket(row: &[u8]) -> u8 {
    row.get(1).copied().unwrap_or(0)
}

/// HKDF-Expand over a uniform key: `label | parts`.
pub(crate) fn derive<const N: usize>(key: &[u8; 32], label: &[u8], parts: &[&[u8]]) -> [u8; N] {
    // A uniform 32-byte key is stretched to the 64 bytes that Expand asks for by Extract.
    let hkdf = Hkdf::<Sha512>::new(None, key);
    let mut info = vec![label];
    info.extend_from_slice(parts);
    let mut okm = [0; N];
    hkdf.expand_multi_info(&info, &mut okm).expect("shorter than 255 blocks");
    okm
}
