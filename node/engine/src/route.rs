//! Route records: where the devices of an identity, of an account or of whoever publishes an address
//! are to be found, in the words of a distributed hash table that may not read them.
//!
//! A record lies under a key that only those can compute who know the address it is about, and a new
//! one every day. Whoever stores it sees that its writer knew that address, and nothing else. What is
//! inside is sealed under the same address, and names the devices that an identity vouches for.
//!
//! ```text
//! spot     Ed25519 seed 32 | seal 32 = HKDF-SHA-512(address, label | kind u8 | epoch u32)
//! key      SHA-512(label | Ed25519 public key)[..32]
//! value    1 to 8 of: length u16 | entry
//! entry    version 1 | epoch u32 | Ed25519 public key 32 | tag 16 | stamp u64 | nonce 12 |
//!          AES-256-GCM(seal, nonce, aad = the 61 bytes up to the nonce) | Ed25519 signature 64
//! sealed   hosts | identity: length u16, GIDC | signature: length u16, bytes | zeros, to a multiple
//!          of 256
//! hosts    device and its addresses, then u8 persisters and theirs:
//!          length u8, peer id | u8 addresses | (length u8, multiaddr)*
//! ```
//!
//! The identity signs `kind | address | epoch | stamp | hosts`. Numbers are big-endian, epochs days and
//! stamps milliseconds since 1970; of two entries with one tag the larger stamp wins. Reference:
//! docs/network.md.

use std::collections::BTreeMap;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use golix::{Ghid, Identity};
use hkdf::Hkdf;
use sha2::{Digest, Sha512};

use crate::account::Keys;

/// Milliseconds of an epoch: a day.
pub const EPOCH: u64 = 24 * 3600 * 1000;

/// Longest entry, bytes: two RSA keys of suite 1, a signature, and some addresses.
pub const ENTRY_MAX: usize = 4_096;

/// Entries of one record: devices that serve one address.
pub const ENTRIES_MAX: usize = 8;

/// Longest record, bytes.
pub const RECORD_MAX: usize = ENTRIES_MAX * (2 + ENTRY_MAX);

/// How long an entry counts, milliseconds after its stamp.
pub const LIFETIME: u64 = 24 * 3600 * 1000;

/// How far a stamp may lie in the future, milliseconds: clocks differ.
pub const SKEW_MAX: u64 = 3600 * 1000;

/// Around the change of an epoch, this long before and after, both are asked; milliseconds.
pub const NEIGHBOUR_ASKED: u64 = 2 * 3600 * 1000;

/// An epoch's last milliseconds in which the next one is written too; longer than writers pause.
pub const NEIGHBOUR_WRITTEN: u64 = 4 * 3600 * 1000;

/// Addresses of one host.
pub const ADDRESSES_MAX: usize = 8;

/// Persisters of one route.
pub const PERSISTERS_MAX: usize = 4;

/// Longest multiaddr or peer id, bytes.
const NAME_MAX: usize = 128;

const VERSION: u8 = 1;
const LABEL_SPOT: &[u8] = b"hypergolix route spot\0";
const LABEL_KEY: &[u8] = b"hypergolix route key\0";
const LABEL_ENTRY: &[u8] = b"hypergolix route entry\0";
const LABEL_TAG: &[u8] = b"hypergolix route tag\0";
const LABEL_ROUTE: &str = "hypergolix route";

/// Bytes before the nonce.
const HEAD: usize = 1 + 4 + 32 + 16 + 8;
const NONCE: usize = 12;
const SIGNATURE: usize = 64;
/// Sealed bytes are a multiple of this, so that their number says little.
const PADDING: usize = 256;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// An identity: its devices and persisters. Signed by it.
    Identity(Ghid),
    /// An account's root object: who serves it. What they serve proves itself.
    Root(Ghid),
    /// An address that somebody publishes on purpose. What they serve proves itself.
    Published(Ghid),
}

/// A device, and where to dial it: a peer id's bytes, and multiaddrs' bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// The device's network key.
    pub device: Vec<u8>,
    /// At most [`ADDRESSES_MAX`].
    pub addresses: Vec<Vec<u8>>,
}

/// Where one device says that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The device itself.
    pub host: Host,
    /// Persisters that it uses, at most [`PERSISTERS_MAX`].
    pub persisters: Vec<Host>,
    /// When it said so, milliseconds since 1970.
    pub stamp: u64,
}

/// Longest encoding of a [`Route`], bytes.
pub const ROUTE_MAX: usize =
    8 + 1 + (1 + PERSISTERS_MAX) * (1 + NAME_MAX + 1 + ADDRESSES_MAX * (1 + NAME_MAX));

impl Route {
    /// `stamp u64 | hosts`, as in the file's header.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.stamp.to_be_bytes().to_vec();
        bytes.extend_from_slice(&write_hosts(self));
        bytes
    }

    /// Reads that; nothing may be left over.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (stamp, hosts) = bytes.split_first_chunk::<8>()?;
        let mut reader = Reader(hosts);
        let (host, persisters) = read_hosts(&mut reader)?;
        let whole = reader.0.is_empty();
        whole.then(|| Self { host, persisters, stamp: u64::from_be_bytes(*stamp) })
    }

    /// Whether two say the same, whenever they said it.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.host == other.host && self.persisters == other.persisters
    }
}

/// Which rule a record breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Longer than [`RECORD_MAX`], or an entry longer than [`ENTRY_MAX`], or too many of them.
    #[error("the record is too long")]
    TooLong,
    /// Not entries.
    #[error("the record is malformed")]
    Malformed,
    /// It lies under a key that is not its own.
    #[error("the record belongs under another key")]
    Foreign,
    /// The signature does not fit.
    #[error("the record is forged")]
    Forged,
    /// Too old, or of an epoch that is over.
    #[error("the record has expired")]
    Expired,
    /// Of a time that is yet to come.
    #[error("the record is from the future")]
    Future,
    /// Not newer than what is known.
    #[error("the record is not newer")]
    Replayed,
    /// The record has as many entries as it may, of other devices.
    #[error("the record is full")]
    Full,
}

/// The epoch of a moment, milliseconds since 1970.
pub fn epoch_of(now: u64) -> u32 {
    u32::try_from(now / EPOCH).unwrap_or(u32::MAX)
}

/// The epochs in which to look for a record now.
pub fn epochs_asked(now: u64) -> Vec<u32> {
    let epoch = epoch_of(now);
    let mut epochs = vec![epoch];
    if now % EPOCH < NEIGHBOUR_ASKED {
        epochs.extend(epoch.checked_sub(1));
    } else if now % EPOCH >= EPOCH - NEIGHBOUR_ASKED {
        epochs.push(epoch.saturating_add(1));
    }
    epochs
}

/// The epochs for which to write a record now.
pub fn epochs_written(now: u64) -> Vec<u32> {
    let epoch = epoch_of(now);
    let mut epochs = vec![epoch];
    if now % EPOCH >= EPOCH - NEIGHBOUR_WRITTEN {
        epochs.push(epoch.saturating_add(1));
    }
    epochs
}

/// Where the records of a subject lie in one epoch, and what opens them.
struct Spot {
    signing: SigningKey,
    seal: [u8; 32],
}

impl Subject {
    /// The key of its record in an epoch.
    pub fn key(&self, epoch: u32) -> [u8; 32] {
        key_of(self.spot(epoch).signing.verifying_key().as_bytes())
    }

    /// The address that it is about.
    pub fn address(&self) -> Ghid {
        match self {
            Self::Identity(address) | Self::Root(address) | Self::Published(address) => *address,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Identity(_) => 1,
            Self::Root(_) => 2,
            Self::Published(_) => 3,
        }
    }

    fn spot(&self, epoch: u32) -> Spot {
        let hkdf = Hkdf::<Sha512>::new(None, self.address().as_bytes());
        let mut okm = [0; 64];
        hkdf.expand_multi_info(&[LABEL_SPOT, &[self.kind()], &epoch.to_be_bytes()], &mut okm)
            .expect("64 bytes are one block");
        let (seed, seal) = okm.split_at(32);
        Spot {
            signing: SigningKey::from_bytes(seed.try_into().expect("32 bytes")),
            seal: seal.try_into().expect("32 bytes"),
        }
    }

    /// What the identity signs.
    fn statement(&self, epoch: u32, stamp: u64, hosts: &[u8]) -> Vec<u8> {
        let mut statement = vec![self.kind()];
        statement.extend_from_slice(self.address().as_bytes());
        statement.extend_from_slice(&epoch.to_be_bytes());
        statement.extend_from_slice(&stamp.to_be_bytes());
        statement.extend_from_slice(hosts);
        statement
    }

    /// Makes the record of one device for an epoch. `nonce` is random. Records of identities need
    /// their keys; a signature of suite 1 takes 15 ms.
    pub fn seal(&self, epoch: u32, route: &Route, keys: Option<&Keys>, nonce: [u8; 12]) -> Vec<u8> {
        let spot = self.spot(epoch);
        let mut plain = write_hosts(route);
        let (identity, signature) = match keys {
            Some(keys) => keys.vouch(LABEL_ROUTE, &self.statement(epoch, route.stamp, &plain)),
            None => (Vec::new(), Vec::new()),
        };
        for part in [identity, signature] {
            plain.extend_from_slice(&(part.len() as u16).to_be_bytes());
            plain.extend_from_slice(&part);
        }
        plain.resize(plain.len().next_multiple_of(PADDING), 0);

        let mut entry = vec![VERSION];
        entry.extend_from_slice(&epoch.to_be_bytes());
        entry.extend_from_slice(spot.signing.verifying_key().as_bytes());
        entry.extend_from_slice(&tag(&spot.seal, &route.host.device));
        entry.extend_from_slice(&route.stamp.to_be_bytes());
        let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(spot.seal));
        let sealed = cipher
            .encrypt(&Nonce::from(nonce), Payload { msg: &plain, aad: &entry })
            .expect("some kilobytes are far below the cipher's limit");
        entry.extend_from_slice(&nonce);
        entry.extend_from_slice(&sealed);
        let signature = spot.signing.sign(&signed(&entry));
        entry.extend_from_slice(&signature.to_bytes());
        write_record(&[&entry])
    }

    /// What a record of an epoch says: verified entries only, so whatever is made up is left out.
    pub fn open(&self, epoch: u32, record: &[u8], now: u64) -> Vec<Route> {
        let spot = self.spot(epoch);
        let key = key_of(spot.signing.verifying_key().as_bytes());
        let Ok(entries) = read_record(record) else { return Vec::new() };
        let open = |bytes: &[u8]| {
            let entry = Entry::check(&key, bytes, now).ok()?;
            (entry.epoch == epoch).then(|| self.open_entry(&spot, &entry))?
        };
        entries.into_iter().filter_map(open).collect()
    }

    fn open_entry(&self, spot: &Spot, entry: &Entry<'_>) -> Option<Route> {
        let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(spot.seal));
        let nonce: [u8; NONCE] = entry.nonce.try_into().ok()?;
        let payload = Payload { msg: entry.sealed, aad: entry.head };
        let plain = cipher.decrypt(&Nonce::from(nonce), payload).ok()?;
        let mut reader = Reader(&plain);
        let (host, persisters) = read_hosts(&mut reader)?;
        let hosts = &plain[..plain.len() - reader.0.len()];
        let identity = reader.long()?;
        let signature = reader.long()?;
        if reader.0.iter().any(|byte| *byte != 0) || tag(&spot.seal, &host.device) != entry.tag {
            return None;
        }
        if let Self::Identity(address) = self {
            let identity = Identity::from_bytes(identity).ok()?;
            let statement = self.statement(entry.epoch, entry.stamp, hosts);
            let vouched = identity.ghid() == *address
                && identity.verify_statement(LABEL_ROUTE, &statement, signature);
            if !vouched {
                return None;
            }
        }
        Some(Route { host, persisters, stamp: entry.stamp })
    }
}

/// Checks a record as those do who store it: every entry, and that it belongs under `key`. The answer
/// is when the last of its entries ends to count.
///
/// # Errors
/// [`Refusal`].
pub fn check(key: &[u8], record: &[u8], now: u64) -> Result<u64, Refusal> {
    let mut until = 0;
    for entry in read_record(record)? {
        until = until.max(Entry::check(key, entry, now)?.stamp + LIFETIME);
    }
    Ok(until)
}

/// Puts the entries of a new record into the one that is stored: what they say afterwards.
///
/// # Errors
/// [`Refusal`]; then nothing changes.
pub fn merge(key: &[u8], stored: Option<&[u8]>, new: &[u8], now: u64) -> Result<Vec<u8>, Refusal> {
    let mut entries: BTreeMap<[u8; 16], (u64, &[u8])> = BTreeMap::new();
    for bytes in stored.map(read_record).transpose()?.into_iter().flatten() {
        if let Ok(entry) = Entry::read(bytes)
            && entry.stamp + LIFETIME > now
        {
            entries.insert(entry.tag, (entry.stamp, bytes));
        }
    }
    let mut changed = Err(Refusal::Replayed);
    for bytes in read_record(new)? {
        let entry = Entry::check(key, bytes, now)?;
        match entries.get(&entry.tag) {
            Some((stamp, _)) if *stamp >= entry.stamp => continue,
            None if entries.len() >= ENTRIES_MAX => {
                changed = changed.or(Err(Refusal::Full));
                continue;
            }
            Some(_) | None => {}
        }
        entries.insert(entry.tag, (entry.stamp, bytes));
        changed = Ok(());
    }
    changed?;
    let entries: Vec<&[u8]> = entries.into_values().map(|(_, bytes)| bytes).collect();
    Ok(write_record(&entries))
}

/// One entry, read and not yet believed.
struct Entry<'a> {
    head: &'a [u8],
    epoch: u32,
    public: [u8; 32],
    tag: [u8; 16],
    stamp: u64,
    nonce: &'a [u8],
    sealed: &'a [u8],
    signed: &'a [u8],
    signature: [u8; SIGNATURE],
}

impl<'a> Entry<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        let (signed, signature) =
            bytes.split_last_chunk::<SIGNATURE>().ok_or(Refusal::Malformed)?;
        let mut reader = Reader(signed);
        let mut parts = || {
            let head = reader.0.get(..HEAD)?;
            let version = reader.take(1)?;
            let epoch = u32::from_be_bytes(reader.take(4)?.try_into().ok()?);
            let public = reader.take(32)?.try_into().ok()?;
            let tag = reader.take(16)?.try_into().ok()?;
            let stamp = u64::from_be_bytes(reader.take(8)?.try_into().ok()?);
            let nonce = reader.take(NONCE)?;
            let sealed = reader.0;
            let signature = *signature;
            (version == [VERSION]).then_some(Self {
                head,
                epoch,
                public,
                tag,
                stamp,
                nonce,
                sealed,
                signed,
                signature,
            })
        };
        parts().ok_or(Refusal::Malformed)
    }

    /// In this order of cost: shape, key, time, signature.
    fn check(key: &[u8], bytes: &'a [u8], now: u64) -> Result<Self, Refusal> {
        let entry = Self::read(bytes)?;
        if key_of(&entry.public) != *key {
            return Err(Refusal::Foreign);
        }
        if entry.stamp > now + SKEW_MAX || entry.epoch > epoch_of(now).saturating_add(1) {
            return Err(Refusal::Future);
        }
        if entry.stamp.saturating_add(LIFETIME) <= now
            || entry.epoch.saturating_add(1) < epoch_of(now)
        {
            return Err(Refusal::Expired);
        }
        let public = VerifyingKey::from_bytes(&entry.public).map_err(|_| Refusal::Forged)?;
        let signature = Signature::from_bytes(&entry.signature);
        public
            .verify_strict(&self::signed(entry.signed), &signature)
            .map_err(|_| Refusal::Forged)?;
        Ok(entry)
    }
}

fn key_of(public: &[u8; 32]) -> [u8; 32] {
    let digest = Sha512::new().chain_update(LABEL_KEY).chain_update(public).finalize();
    digest[..32].try_into().expect("32 of 64 bytes")
}

/// Tells the devices of a record apart for those who may not know them.
fn tag(seal: &[u8; 32], device: &[u8]) -> [u8; 16] {
    let digest = Sha512::new().chain_update(LABEL_TAG).chain_update(seal).chain_update(device);
    digest.finalize()[..16].try_into().expect("16 of 64 bytes")
}

fn signed(entry: &[u8]) -> Vec<u8> {
    [LABEL_ENTRY, entry].concat()
}

fn write_record(entries: &[&[u8]]) -> Vec<u8> {
    let mut record = Vec::new();
    for entry in entries {
        record.extend_from_slice(&(entry.len() as u16).to_be_bytes());
        record.extend_from_slice(entry);
    }
    record
}

fn read_record(record: &[u8]) -> Result<Vec<&[u8]>, Refusal> {
    if record.len() > RECORD_MAX {
        return Err(Refusal::TooLong);
    }
    let mut entries = Vec::new();
    let mut reader = Reader(record);
    while !reader.0.is_empty() {
        let entry = reader.long().ok_or(Refusal::Malformed)?;
        if entry.len() > ENTRY_MAX || entries.len() >= ENTRIES_MAX {
            return Err(Refusal::TooLong);
        }
        entries.push(entry);
    }
    if entries.is_empty() { Err(Refusal::Malformed) } else { Ok(entries) }
}

fn write_hosts(route: &Route) -> Vec<u8> {
    let mut bytes = Vec::new();
    let host = |bytes: &mut Vec<u8>, host: &Host| {
        let short = |bytes: &mut Vec<u8>, part: &[u8]| {
            bytes.push(part.len() as u8);
            bytes.extend_from_slice(part);
        };
        short(bytes, &host.device);
        let fits = |address: &&Vec<u8>| address.len() <= NAME_MAX;
        let addresses: Vec<_> = host.addresses.iter().filter(fits).take(ADDRESSES_MAX).collect();
        bytes.push(addresses.len() as u8);
        for address in addresses {
            short(bytes, address);
        }
    };
    host(&mut bytes, &route.host);
    let persisters = &route.persisters[..route.persisters.len().min(PERSISTERS_MAX)];
    bytes.push(persisters.len() as u8);
    for persister in persisters {
        host(&mut bytes, persister);
    }
    bytes
}

fn read_hosts(reader: &mut Reader<'_>) -> Option<(Host, Vec<Host>)> {
    let host = |reader: &mut Reader<'_>| {
        let device = reader.short()?.to_vec();
        let count = usize::from(reader.take(1)?[0]);
        if count > ADDRESSES_MAX {
            return None;
        }
        let addresses: Option<Vec<_>> =
            (0..count).map(|_| reader.short().map(<[u8]>::to_vec)).collect();
        Some(Host { device, addresses: addresses? })
    };
    let own = host(reader)?;
    let count = usize::from(reader.take(1)?[0]);
    if count > PERSISTERS_MAX {
        return None;
    }
    let persisters: Option<Vec<_>> = (0..count).map(|_| host(reader)).collect();
    Some((own, persisters?))
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(part)
    }

    fn short(&mut self) -> Option<&'a [u8]> {
        let len = usize::from(self.take(1)?[0]);
        if len <= NAME_MAX { self.take(len) } else { None }
    }

    fn long(&mut self) -> Option<&'a [u8]> {
        let len = u16::from_be_bytes(self.take(2)?.try_into().ok()?);
        self.take(usize::from(len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{self, ScryptCost};
    use crate::view::Entropy;
    use golix::Suite;

    struct Counting(u8);

    impl Entropy for Counting {
        fn fill(&mut self, bytes: &mut [u8]) {
            for byte in bytes {
                self.0 = self.0.wrapping_mul(5).wrapping_add(17);
                *byte = self.0;
            }
        }
    }

    /// Noon of some day.
    const NOON: u64 = 20_000 * EPOCH + EPOCH / 2;

    fn keys(seed: u8) -> (Keys, Ghid) {
        let (account, _, _) = account::create(
            "a password of tests",
            Suite::Suite3,
            ScryptCost::LOWEST,
            &mut Counting(seed),
        )
        .expect("a good password");
        (account.keys(), account.fingerprint())
    }

    fn route(device: u8, stamp: u64) -> Route {
        let address = vec![4, 127, 0, 0, 1, 6, 0, device];
        Route {
            host: Host { device: vec![device; 38], addresses: vec![address.clone()] },
            persisters: vec![Host { device: vec![9; 38], addresses: vec![address] }],
            stamp,
        }
    }

    #[test]
    fn who_knows_the_identity_reads_what_it_signed() {
        let (keys, me) = keys(1);
        let subject = Subject::Identity(me);
        let epoch = epoch_of(NOON);
        let record = subject.seal(epoch, &route(3, NOON), Some(&keys), [7; 12]);
        assert!(record.len() < 1_024, "{}", record.len());
        assert_eq!(subject.open(epoch, &record, NOON), [route(3, NOON)]);
        assert_eq!(check(&subject.key(epoch), &record, NOON), Ok(NOON + LIFETIME));
        // Nobody else does, and nothing in it is the same the next day.
        assert!(Subject::Root(me).open(epoch, &record, NOON).is_empty());
        assert!(Subject::Identity(Ghid::of(b"else")).open(epoch, &record, NOON).is_empty());
        let tomorrow = subject.seal(epoch + 1, &route(3, NOON), Some(&keys), [8; 12]);
        assert_ne!(subject.key(epoch), subject.key(epoch + 1));
        assert_ne!(record[7..55], tomorrow[7..55], "public key and tag");
        for part in me.as_bytes().windows(16) {
            assert!(!record.windows(16).any(|window| window == part));
        }
    }

    #[test]
    fn what_is_wrong_is_refused_and_changes_nothing() {
        let (keys, me) = keys(2);
        let (strangers, _) = self::keys(3);
        let subject = Subject::Identity(me);
        let (epoch, now) = (epoch_of(NOON), NOON);
        let key = subject.key(epoch);
        let good = subject.seal(epoch, &route(1, now), Some(&keys), [1; 12]);
        let refused = |record: &[u8], now: u64| check(&key, record, now).expect_err("wrong");

        // Forged: by somebody else, or a single bit.
        let forged = subject.seal(epoch, &route(1, now), Some(&strangers), [1; 12]);
        assert!(check(&key, &forged, now).is_ok(), "who stores it cannot tell");
        assert!(subject.open(epoch, &forged, now).is_empty(), "who reads it can");
        let unsigned = subject.seal(epoch, &route(1, now), None, [1; 12]);
        assert!(subject.open(epoch, &unsigned, now).is_empty());
        for bit in 16..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&key, &bad, now).is_err(), "bit {bit}");
            assert!(subject.open(epoch, &bad, now).is_empty(), "bit {bit}");
            assert!(merge(&key, Some(&good), &bad, now).is_err());
        }
        // Expired, of the future, of another key, too long, not whole.
        assert_eq!(refused(&good, now + LIFETIME), Refusal::Expired);
        assert!(subject.open(epoch, &good, now + LIFETIME).is_empty());
        assert_eq!(refused(&good, now - 2 * SKEW_MAX), Refusal::Future);
        let other = subject.key(epoch + 1);
        assert_eq!(check(&other, &good, now), Err(Refusal::Foreign));
        let old = Subject::Identity(me).seal(epoch - 2, &route(1, now), Some(&keys), [1; 12]);
        assert_eq!(check(&subject.key(epoch - 2), &old, now), Err(Refusal::Expired));
        assert_eq!(refused(&vec![0; RECORD_MAX + 1], now), Refusal::TooLong);
        let long = write_record(&[&vec![1; ENTRY_MAX + 1]]);
        assert_eq!(refused(&long, now), Refusal::TooLong);
        assert_eq!(refused(&good[..good.len() - 1], now), Refusal::Malformed);
        assert_eq!(refused(&[], now), Refusal::Malformed);
        let many = good.repeat(ENTRIES_MAX + 1);
        assert_eq!(refused(&many, now), Refusal::TooLong);
        for len in 0..good.len() {
            assert!(check(&key, &good[..len], now).is_err());
        }
    }

    #[test]
    fn the_newest_entry_of_each_device_is_kept() {
        let (keys, me) = keys(4);
        let subject = Subject::Identity(me);
        let (epoch, now) = (epoch_of(NOON), NOON);
        let key = subject.key(epoch);
        let make =
            |device, stamp| subject.seal(epoch, &route(device, stamp), Some(&keys), [device; 12]);
        let mut stored = merge(&key, None, &make(1, now), now).expect("new");
        assert_eq!(merge(&key, Some(&stored), &make(1, now), now), Err(Refusal::Replayed));
        assert_eq!(merge(&key, Some(&stored), &make(1, now - 1), now), Err(Refusal::Replayed));
        for device in 2..=ENTRIES_MAX as u8 {
            stored = merge(&key, Some(&stored), &make(device, now), now).expect("room");
        }
        assert_eq!(merge(&key, Some(&stored), &make(9, now), now), Err(Refusal::Full));
        stored = merge(&key, Some(&stored), &make(1, now + 1), now).expect("newer");
        let mut routes = subject.open(epoch, &stored, now);
        routes.sort_by_key(|route| route.host.device.clone());
        assert_eq!(routes.len(), ENTRIES_MAX);
        assert_eq!(routes[0], route(1, now + 1));
        // What ended to count gives way.
        let later = now + LIFETIME;
        let stored = merge(&key, Some(&stored), &make(9, later), later).expect("room again");
        let left = subject.open(epoch, &stored, later);
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn a_route_comes_back_whole_or_not_at_all() {
        let mut route = route(1, NOON);
        let persister =
            Host { device: vec![2; 38], addresses: vec![vec![3; NAME_MAX]; ADDRESSES_MAX] };
        route.persisters = vec![persister; PERSISTERS_MAX];
        let bytes = route.encode();
        assert!(bytes.len() <= ROUTE_MAX);
        assert_eq!(Route::decode(&bytes), Some(route));
        for len in 0..bytes.len() {
            assert_eq!(Route::decode(&bytes[..len]), None);
        }
        assert_eq!(Route::decode(&[&bytes[..], &[0]].concat()), None);
    }

    #[test]
    fn neighbours_are_asked_and_written_around_midnight() {
        let midnight = 20_000 * EPOCH;
        assert_eq!(epochs_asked(NOON), [20_000]);
        assert_eq!(epochs_asked(midnight), [20_000, 19_999]);
        assert_eq!(epochs_asked(midnight - 1), [19_999, 20_000]);
        assert_eq!(epochs_written(NOON), [20_000]);
        assert_eq!(epochs_written(midnight - 1), [19_999, 20_000]);
    }
}
