//! The distributed hash table: its settings, and the records that this device keeps for others.
//!
//! Kademlia as libp2p has it, under a protocol name of our own. Only route records are kept
//! (`hypergolix_engine::route`), and each is checked before it is stored; provider records of the
//! library are refused. What is kept is bounded in total, for each device that brought it and for each
//! address prefix that it came from, ends with its lifetime, and survives a restart in a file:
//!
//! ```text
//! "hgxdht1\0" | record: key 32 | until u64 | source u8 length, peer id | prefix u8 length, text |
//! own u8 | value u32 length, bytes | … | first 32 bytes of SHA-512 of everything before
//! ```
//!
//! The file is written anew, whole or not at all; losing it costs what publishers bring again in hours.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hypergolix_engine::account::Keys;
use hypergolix_engine::route::{self, Refusal, Subject};
use libp2p::kad::store::{self, RecordStore};
use libp2p::kad::{self, ProviderRecord, Record, RecordKey, StoreInserts};
use libp2p::{PeerId, StreamProtocol};
use sha2::{Digest, Sha512};

use super::limits::{self, RECORD_PACES_MAX, TokenBucket};

/// Name of our DHT.
pub(super) const KAD_PROTOCOL: StreamProtocol = StreamProtocol::new("/hgx/kad/1");

/// Time that one lookup may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause between looks at the own neighbourhood.
const BOOTSTRAP_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Paths of a lookup that share no device, so that one hostile device spoils one of them.
const PATHS: NonZeroUsize = NonZeroUsize::new(3).expect("not zero");

/// Longest packet of the DHT: one record and the addresses of twenty devices.
const PACKET_MAX: usize = 64 * 1024;

const MAGIC: &[u8; 8] = b"hgxdht1\0";
const CHECKSUM: usize = 32;

/// Whether a device takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DhtMode {
    /// No.
    #[default]
    Off,
    /// It asks, and keeps records for others once it knows that it can be reached.
    Auto,
    /// It only asks.
    Client,
    /// It keeps records for others.
    Server,
}

/// The settings.
#[derive(Debug, Clone, Default)]
pub struct DhtConfig {
    /// Whether to take part.
    pub mode: DhtMode,
    /// Where records are kept over a restart; in memory without.
    pub file: Option<PathBuf>,
    /// Where the port is kept that is listened on, so that it is the same after a restart.
    pub port_file: Option<PathBuf>,
    /// How much is kept.
    pub caps: RecordCaps,
    /// What to say of ourselves.
    pub presences: Vec<Presence>,
}

/// How much is kept for others. Guesses, except where a source is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordCaps {
    /// Records. The library's own store keeps 1,024.
    pub records: usize,
    /// Bytes of their values.
    pub bytes: usize,
    /// Records that one device brought.
    pub of_device: usize,
    /// Records that devices of one address prefix brought (IPv4 /24, IPv6 /48), together.
    pub of_prefix: usize,
}

impl Default for RecordCaps {
    fn default() -> Self {
        Self { records: 4_096, bytes: 4 << 20, of_device: 64, of_prefix: 512 }
    }
}

impl RecordCaps {
    /// Of servers.
    pub const SERVER: Self =
        Self { records: 65_536, bytes: 64 << 20, of_device: 256, of_prefix: 4_096 };
}

/// Something that can be found at this device.
#[derive(Clone)]
pub struct Presence {
    /// What.
    pub subject: Subject,
    /// Signs it, if it is an identity.
    pub keys: Option<Keys>,
}

impl std::fmt::Debug for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Presence({:?})", self.subject)
    }
}

/// The DHT at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DhtStatus {
    /// How we take part.
    pub mode: DhtMode,
    /// Whether we keep records for others now.
    pub serves: bool,
    /// Devices in the routing table.
    pub peers: usize,
    /// Records that are kept for others, and their bytes.
    pub records: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Records that were refused since the start.
    pub refused: u64,
    /// Records whose signatures were looked at since the start.
    pub checked: u64,
    /// Subjects that can be found at this device.
    pub presences: usize,
    /// Of these, those that the DHT took.
    pub published: usize,
    /// Lookups under way.
    pub finds: usize,
}

/// The behaviour, unless it is switched off.
pub(super) fn behaviour(local: PeerId, config: &DhtConfig) -> Option<kad::Behaviour<Records>> {
    if config.mode == DhtMode::Off {
        return None;
    }
    let records = Records::open(local, config.caps, config.file.clone(), now());
    let mut kad = kad::Behaviour::with_config(local, records, settings());
    kad.set_mode(match config.mode {
        DhtMode::Off | DhtMode::Auto => None,
        DhtMode::Client => Some(kad::Mode::Client),
        DhtMode::Server => Some(kad::Mode::Server),
    });
    Some(kad)
}

fn settings() -> kad::Config {
    let mut settings = kad::Config::new(KAD_PROTOCOL);
    settings
        .disjoint_query_paths(true)
        .set_parallelism(PATHS)
        .set_query_timeout(QUERY_TIMEOUT)
        .set_record_filtering(StoreInserts::FilterBoth)
        // Whoever a record is about writes it again; nobody else prolongs or spreads it.
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_record_ttl(Some(Duration::from_millis(route::LIFETIME)))
        .set_caching(kad::Caching::Disabled)
        // Only who said in `identify` that it serves, and where.
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_periodic_bootstrap_interval(Some(BOOTSTRAP_INTERVAL))
        .set_max_packet_size(PACKET_MAX);
    settings
}

/// Milliseconds since 1970, as this machine has it.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    value: Vec<u8>,
    /// When the last of its entries ends to count, milliseconds since 1970.
    until: u64,
    /// Who brought it first, and from where.
    source: PeerId,
    prefix: String,
    /// Written by this device.
    own: bool,
}

/// Records of others, and our own.
pub(super) struct Records {
    local: PeerId,
    caps: RecordCaps,
    kept: HashMap<RecordKey, Kept>,
    of_device: HashMap<PeerId, usize>,
    of_prefix: HashMap<String, usize>,
    bytes: usize,
    /// Of these, our own: records and bytes.
    own: (usize, usize),
    file: Option<PathBuf>,
    changed: bool,
    refused: u64,
    checked: u64,
    paces: Paces,
}

impl Records {
    /// Reads the file, if there is one that is whole.
    pub(super) fn open(local: PeerId, caps: RecordCaps, file: Option<PathBuf>, now: u64) -> Self {
        let mut new = Self {
            local,
            caps,
            kept: HashMap::new(),
            of_device: HashMap::new(),
            of_prefix: HashMap::new(),
            bytes: 0,
            own: (0, 0),
            file,
            changed: false,
            refused: 0,
            checked: 0,
            paces: Paces::default(),
        };
        if let Some(path) = new.file.clone() {
            match read_file(&path, caps) {
                Ok(records) => {
                    for (key, kept) in records {
                        if kept.until > now && new.has_room(&kept.source, &kept.prefix, 0) {
                            new.insert(key, kept);
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(%error, "the records of the DHT cannot be read"),
            }
        }
        new.changed = false;
        new
    }

    /// Whether one more record of a device is looked at: others are dropped unread, so that nobody
    /// buys our signature checks with replays.
    pub(super) fn allows(&mut self, source: PeerId, from: Option<IpAddr>, at: Instant) -> bool {
        let allowed = self.paces.allow(source, from.map(prefix).unwrap_or_default(), at);
        self.refused += u64::from(!allowed);
        allowed
    }

    /// Takes a record that a device brought, if it is one and there is room.
    pub(super) fn admit(
        &mut self,
        record: &Record,
        source: PeerId,
        from: Option<IpAddr>,
        now: u64,
    ) -> Result<(), Refusal> {
        let result = self.try_admit(record, source, from, now);
        if result.is_err() {
            self.refused += 1;
        }
        result
    }

    fn try_admit(
        &mut self,
        record: &Record,
        source: PeerId,
        from: Option<IpAddr>,
        now: u64,
    ) -> Result<(), Refusal> {
        let key = record.key.as_ref();
        let stored = self.kept.get(&record.key);
        // What is stored was verified: the same bytes under the same key are nothing new.
        if stored.is_some_and(|kept| says_nothing_new(&kept.value, &record.value)) {
            return Err(Refusal::Replayed);
        }
        self.checked += 1;
        let value =
            route::merge(key, stored.map(|kept| kept.value.as_slice()), &record.value, now)?;
        let until = route::check(key, &record.value, now)?;
        let until = stored.map_or(until, |kept| kept.until.max(until));
        // A record may grow, as far as there is room.
        let grows = |kept: &Kept| value.len().saturating_sub(kept.value.len());
        let has_room = |this: &Self| {
            let kept = this.kept.get(&record.key).filter(|kept| !kept.own);
            kept.is_none_or(|kept| grows(kept) == 0 || this.bytes + grows(kept) <= this.caps.bytes)
        };
        if !has_room(self) {
            self.expire(now);
        }
        if !has_room(self) {
            return Err(Refusal::Full);
        }
        if let Some(kept) = self.kept.get_mut(&record.key) {
            self.bytes = self.bytes - kept.value.len() + value.len();
            if kept.own {
                self.own.1 = self.own.1 - kept.value.len() + value.len();
            }
            (kept.value, kept.until) = (value, until);
            self.changed = true;
            return Ok(());
        }
        let prefix = from.map(prefix).unwrap_or_default();
        if !self.has_room(&source, &prefix, value.len()) {
            self.expire(now);
        }
        if !self.has_room(&source, &prefix, value.len())
            && !self.make_room(&record.key, &source, &prefix, value.len())
        {
            return Err(Refusal::Full);
        }
        self.insert(record.key.clone(), Kept { value, until, source, prefix, own: false });
        Ok(())
    }

    fn is_within_shares(&self, source: &PeerId, prefix: &str) -> bool {
        self.of_device.get(source).is_none_or(|count| *count < self.caps.of_device)
            && self.of_prefix.get(prefix).is_none_or(|count| *count < self.caps.of_prefix)
    }

    fn has_room(&self, source: &PeerId, prefix: &str, len: usize) -> bool {
        self.is_within_shares(source, prefix)
            && self.kept.len() < self.caps.records
            && self.bytes + len <= self.caps.bytes
    }

    /// The record farthest from us gives way to one that is nearer: others keep it, too.
    fn make_room(&mut self, key: &RecordKey, source: &PeerId, prefix: &str, len: usize) -> bool {
        if !self.is_within_shares(source, prefix) {
            return false;
        }
        let local = kad::KBucketKey::from(self.local);
        let distance = |key: &RecordKey| local.distance(&kad::KBucketKey::from(key.clone()));
        let others = self.kept.iter().filter(|(_, kept)| !kept.own);
        let Some(farthest) = others.map(|(key, _)| key).max_by_key(|key| distance(key)).cloned()
        else {
            return false;
        };
        if distance(&farthest) <= distance(key) {
            return false;
        }
        self.take_out(&farthest);
        self.kept.len() < self.caps.records && self.bytes + len <= self.caps.bytes
    }

    fn insert(&mut self, key: RecordKey, kept: Kept) {
        self.take_out(&key);
        self.bytes += kept.value.len();
        if kept.own {
            self.own = (self.own.0 + 1, self.own.1 + kept.value.len());
        } else {
            *self.of_device.entry(kept.source).or_default() += 1;
            *self.of_prefix.entry(kept.prefix.clone()).or_default() += 1;
        }
        self.kept.insert(key, kept);
        self.changed = true;
    }

    fn take_out(&mut self, key: &RecordKey) {
        let Some(kept) = self.kept.remove(key) else { return };
        self.bytes -= kept.value.len();
        self.changed = true;
        if kept.own {
            self.own = (self.own.0 - 1, self.own.1 - kept.value.len());
            return;
        }
        if let Some(count) = self.of_device.get_mut(&kept.source) {
            *count -= 1;
            if *count == 0 {
                self.of_device.remove(&kept.source);
            }
        }
        if let Some(count) = self.of_prefix.get_mut(&kept.prefix) {
            *count -= 1;
            if *count == 0 {
                self.of_prefix.remove(&kept.prefix);
            }
        }
    }

    /// Forgets what ended to count.
    pub(super) fn expire(&mut self, now: u64) {
        let over = self.kept.iter().filter(|(_, kept)| kept.until <= now);
        let over: Vec<RecordKey> = over.map(|(key, _)| key.clone()).collect();
        for key in over {
            self.take_out(&key);
        }
    }

    /// Records kept for others, and their bytes.
    pub(super) fn kept(&self) -> (usize, usize) {
        (self.kept.len() - self.own.0, self.bytes - self.own.1)
    }

    /// Records refused since the start.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Records whose signatures were looked at since the start.
    pub(super) fn checked(&self) -> u64 {
        self.checked
    }

    /// What to write into which file, if anything changed since this was asked.
    pub(super) fn take_changed(&mut self) -> Option<(PathBuf, Vec<u8>)> {
        let path = self.file.clone()?;
        if !std::mem::replace(&mut self.changed, false) {
            return None;
        }
        let mut bytes = MAGIC.to_vec();
        for (key, kept) in &self.kept {
            let Ok(key) = <[u8; 32]>::try_from(key.as_ref()) else { continue };
            bytes.extend_from_slice(&key);
            bytes.extend_from_slice(&kept.until.to_be_bytes());
            for name in [kept.source.to_bytes().as_slice(), kept.prefix.as_bytes()] {
                bytes.push(name.len() as u8);
                bytes.extend_from_slice(name);
            }
            bytes.push(u8::from(kept.own));
            bytes.extend_from_slice(&(kept.value.len() as u32).to_be_bytes());
            bytes.extend_from_slice(&kept.value);
        }
        let digest = Sha512::digest(&bytes);
        bytes.extend_from_slice(&digest[..CHECKSUM]);
        Some((path, bytes))
    }
}

/// Writes the file: whole or not at all, mode 0600.
pub(super) fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// The port of the last time, if there was one.
pub(super) fn read_port(path: &Path) -> Option<u16> {
    let text = fs::read_to_string(path).ok()?;
    text.trim().parse().ok().filter(|port| *port != 0)
}

fn read_file(path: &Path, caps: RecordCaps) -> io::Result<Vec<(RecordKey, Kept)>> {
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it is damaged");
    // Beside its value a record has less than this.
    let longest = caps.bytes + caps.records * 256 + 4_096;
    if fs::metadata(path)?.len() > longest as u64 {
        return Err(damaged());
    }
    let bytes = fs::read(path)?;
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM>().ok_or_else(damaged)?;
    if Sha512::digest(body)[..CHECKSUM] != checksum[..] {
        return Err(damaged());
    }
    let mut rest = body.strip_prefix(MAGIC).ok_or_else(damaged)?;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let mut read = || {
            let mut take = |len: usize| {
                let (part, after) = rest.split_at_checked(len)?;
                rest = after;
                Some(part)
            };
            let key = RecordKey::new(&take(32)?);
            let until = u64::from_be_bytes(take(8)?.try_into().ok()?);
            let len = usize::from(take(1)?[0]);
            let source = PeerId::from_bytes(take(len)?).ok()?;
            let len = usize::from(take(1)?[0]);
            let prefix = String::from_utf8(take(len)?.to_vec()).ok()?;
            let own = take(1)?[0] != 0;
            let len = u32::from_be_bytes(take(4)?.try_into().ok()?) as usize;
            let value = take(len)?.to_vec();
            Some((key, Kept { value, until, source, prefix, own }))
        };
        records.push(read().ok_or_else(damaged)?);
    }
    Ok(records)
}

/// The entries of a record, with their lengths; `None` where it ends within one.
fn entries(mut record: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        let len = record.first_chunk::<2>()?;
        let part = record.split_at_checked(2 + usize::from(u16::from_be_bytes(*len)));
        record = part.map_or(&[], |(_, rest)| rest);
        Some(part.map(|(entry, _)| entry))
    })
}

/// Whether every entry of `new` is in `stored`, byte for byte.
fn says_nothing_new(stored: &[u8], new: &[u8]) -> bool {
    new.len() > 2
        && new.len() <= stored.len()
        && entries(new).all(|entry| entry.is_some() && entries(stored).any(|kept| kept == entry))
}

/// How many records devices and prefixes may bring, of at most [`RECORD_PACES_MAX`] each.
#[derive(Default)]
struct Paces {
    of_device: HashMap<PeerId, TokenBucket>,
    of_prefix: HashMap<String, TokenBucket>,
}

impl Paces {
    /// The device's own first: alone it takes little of what its prefix may bring.
    fn allow(&mut self, source: PeerId, prefix: String, at: Instant) -> bool {
        let device = (limits::RECORDS_BURST, limits::RECORDS_RATE);
        let network = (limits::PREFIX_RECORDS_BURST, limits::PREFIX_RECORDS_RATE);
        take(&mut self.of_device, source, device, at)
            && take(&mut self.of_prefix, prefix, network, at)
    }
}

/// Takes one of a name's. When too many names are busy, a new one gets nothing.
fn take<K: Eq + std::hash::Hash>(
    buckets: &mut HashMap<K, TokenBucket>,
    name: K,
    (burst, rate): (u32, u32),
    at: Instant,
) -> bool {
    if !buckets.contains_key(&name) && buckets.len() >= RECORD_PACES_MAX {
        buckets.retain(|_, bucket| !bucket.is_full(at));
        if buckets.len() >= RECORD_PACES_MAX {
            return false;
        }
    }
    buckets.entry(name).or_insert_with(|| TokenBucket::new(burst, rate, at)).try_take(at)
}

/// The prefix that shares a cap: IPv4 /24, IPv6 /48.
fn prefix(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            format!("{a}.{b}.{c}")
        }
        IpAddr::V6(ip) => {
            let [a, b, c, ..] = ip.segments();
            format!("{a:x}:{b:x}:{c:x}")
        }
    }
}

impl RecordStore for Records {
    type RecordsIter<'a> = std::vec::IntoIter<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        let kept = self.kept.get(key)?;
        let left = Duration::from_millis(kept.until.checked_sub(now())?);
        Some(Cow::Owned(Record {
            key: key.clone(),
            value: kept.value.clone(),
            publisher: None,
            expires: Instant::now().checked_add(left),
        }))
    }

    /// Only for our own; what others bring passes [`Records::admit`].
    fn put(&mut self, record: Record) -> store::Result<()> {
        let now = now();
        let stored = self.kept.get(&record.key).map(|kept| kept.value.as_slice());
        let value = match route::merge(record.key.as_ref(), stored, &record.value, now) {
            Ok(value) => value,
            // Full of other devices, or said before: it is sent all the same.
            Err(Refusal::Full | Refusal::Replayed) => return Ok(()),
            Err(_) => return Err(store::Error::ValueTooLarge),
        };
        let Ok(until) = route::check(record.key.as_ref(), &record.value, now) else {
            return Err(store::Error::ValueTooLarge);
        };
        let kept = Kept { value, until, source: self.local, prefix: String::new(), own: true };
        self.insert(record.key, kept);
        Ok(())
    }

    fn remove(&mut self, key: &RecordKey) {
        self.take_out(key);
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        let records: Vec<_> = self.kept.keys().filter_map(|key| self.get(key)).collect();
        records.into_iter()
    }

    fn add_provider(&mut self, _: ProviderRecord) -> store::Result<()> {
        Err(store::Error::MaxProvidedKeys)
    }

    fn providers(&self, _: &RecordKey) -> Vec<ProviderRecord> {
        Vec::new()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, _: &RecordKey, _: &PeerId) {}
}

/// Devices of one public address prefix in one bucket of the routing table (threats.md A3).
const PREFIX_PER_BUCKET: usize = 2;

/// Whether an address counts for [`PREFIX_PER_BUCKET`], and its prefix.
fn public_prefix(address: &libp2p::Multiaddr) -> Option<String> {
    let ip = super::address_book::ip_of(address)?;
    (!super::address_book::is_lan(ip)).then(|| prefix(ip))
}

/// Whether a bucket of the routing table takes an address: not when [`PREFIX_PER_BUCKET`] other
/// devices in it, whose addresses are given, have one of the same public prefix.
pub(super) fn has_room_for<'a, A>(
    address: &libp2p::Multiaddr,
    others: impl Iterator<Item = A>,
) -> bool
where
    A: IntoIterator<Item = &'a libp2p::Multiaddr>,
{
    let Some(prefix) = public_prefix(address) else { return true };
    let same =
        |addresses: A| addresses.into_iter().filter_map(public_prefix).any(|other| other == prefix);
    others.filter_map(|addresses| same(addresses).then_some(())).count() < PREFIX_PER_BUCKET
}

/// Subjects that one device may be found for.
pub(super) const PRESENCES_MAX: usize = limits::PRESENCES_MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use golix::Ghid;
    use hypergolix_engine::route::{Host, Route};

    fn record(number: u32, now: u64) -> Record {
        let subject = Subject::Root(Ghid::of(&number.to_be_bytes()));
        let host = Host { device: vec![7; 38], addresses: vec![vec![4, 127, 0, 0, 1]] };
        let route = Route { host, persisters: Vec::new(), stamp: now };
        let epoch = route::epoch_of(now);
        let value = subject.seal(epoch, &route, None, [number as u8; 12]);
        Record::new(subject.key(epoch).to_vec(), value)
    }

    const CAPS: RecordCaps =
        RecordCaps { records: 200, bytes: 1 << 20, of_device: 10, of_prefix: 40 };

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([203, 0, 113, last])
    }

    #[test]
    fn a_flood_from_one_device_or_one_prefix_fills_its_share() {
        let mut records = Records::open(PeerId::random(), CAPS, None, now());
        let flooder = PeerId::random();
        let taken = (0..100).filter(|number| {
            records.admit(&record(*number, now()), flooder, Some(ip(1)), now()).is_ok()
        });
        assert_eq!(taken.count(), CAPS.of_device);
        // Sybils: a new device for each record, from one prefix.
        let taken = (100..300).filter(|number| {
            let from = Some(ip(*number as u8));
            records.admit(&record(*number, now()), PeerId::random(), from, now()).is_ok()
        });
        assert_eq!(taken.count(), CAPS.of_prefix - CAPS.of_device);
        // Others still get in.
        let elsewhere = Some(IpAddr::from([198, 51, 100, 1]));
        assert!(records.admit(&record(999, now()), PeerId::random(), elsewhere, now()).is_ok());
        assert_eq!(records.kept().0, CAPS.of_prefix + 1);
        assert_eq!(records.refused(), 90 + 170);
    }

    #[test]
    fn what_is_stored_is_recognised_before_its_signature_is_checked() {
        let mut records = Records::open(PeerId::random(), CAPS, None, now());
        let source = PeerId::random();
        let at = now();
        let subject = Subject::Root(Ghid::of(b"replayed"));
        let of_device = |device: u8, stamp: u64| {
            let host = Host { device: vec![device; 38], addresses: Vec::new() };
            let route = Route { host, persisters: Vec::new(), stamp };
            let epoch = route::epoch_of(at);
            let value = subject.seal(epoch, &route, None, [device; 12]);
            Record::new(subject.key(epoch).to_vec(), value)
        };
        let admit =
            |records: &mut Records, record: &Record| records.admit(record, source, Some(ip(1)), at);
        let (one, two) = (of_device(1, at), of_device(2, at));
        assert_eq!(admit(&mut records, &one), Ok(()));
        assert_eq!(admit(&mut records, &two), Ok(()));
        assert_eq!(records.checked(), 2);
        // Each of two devices, and what those send who read both.
        let both = records.get(&one.key).unwrap().into_owned();
        for record in [&one, &two, &both] {
            for _ in 0..1_000 {
                assert_eq!(admit(&mut records, record), Err(Refusal::Replayed));
            }
        }
        assert_eq!(records.checked(), 2);
        // What is new in one byte is looked at, and so is the same under another key.
        let mut forged = one.clone();
        *forged.value.last_mut().unwrap() ^= 1;
        assert_eq!(admit(&mut records, &forged), Err(Refusal::Forged));
        let elsewhere = Record { key: RecordKey::new(&[0; 32]), ..one.clone() };
        assert_eq!(admit(&mut records, &elsewhere), Err(Refusal::Foreign));
        for cut in [1, 2, 3, one.value.len() - 1] {
            let cut = Record { value: one.value[..cut].to_vec(), ..one.clone() };
            admit(&mut records, &cut).unwrap_err();
        }
        assert_eq!(admit(&mut records, &of_device(1, at + 1)), Ok(()));
        assert_eq!(records.checked(), 2 + 2 + 4 + 1);
    }

    #[test]
    fn records_have_a_pace_that_honest_devices_do_not_reach() {
        let mut records = Records::open(PeerId::random(), CAPS, None, now());
        let start = Instant::now();
        let after = |seconds: f64| start + Duration::from_secs_f64(seconds);
        // 2,100 a second of one device, for ten seconds.
        let flooder = PeerId::random();
        let looked_at = (0..21_000).filter(|number| {
            records.allows(flooder, Some(ip(1)), after(f64::from(*number) / 2_100.0))
        });
        let most = limits::RECORDS_BURST + 10 * limits::RECORDS_RATE;
        assert!(looked_at.count() <= most as usize);
        // Beside it, in the same prefix, a device that begins anew with all that one may publish: two a
        // second, for two days each.
        let honest = PeerId::random();
        let all = 2 * limits::PRESENCES_MAX as u32;
        let looked_at = (0..all).filter(|number| {
            let at = after(10.0 + f64::from(number / 4));
            let flood = (0..100).filter(|_| records.allows(flooder, Some(ip(1)), at)).count();
            assert!(flood <= most as usize);
            records.allows(honest, Some(ip(2)), at)
        });
        assert_eq!(looked_at.count(), all as usize);
        // A new device for each record: its network has a pace, too.
        let later = after(10_000.0);
        let looked_at = (0..21_000).filter(|number| {
            let at = later + Duration::from_secs_f64(f64::from(*number) / 2_100.0);
            records.allows(PeerId::random(), Some(ip(3)), at)
        });
        let most = limits::PREFIX_RECORDS_BURST + 10 * limits::PREFIX_RECORDS_RATE;
        assert!(looked_at.count() <= most as usize);
        assert!(records.paces.of_device.len() <= RECORD_PACES_MAX);
        let elsewhere = (0..5_000_u32).filter(|number| {
            let from = Some(IpAddr::from((0x0800_0000 + (number << 8)).to_be_bytes()));
            records.allows(PeerId::random(), from, after(20_000.0))
        });
        assert_eq!(elsewhere.count(), RECORD_PACES_MAX);
        assert!(records.paces.of_device.len() <= RECORD_PACES_MAX);
        assert!(records.paces.of_prefix.len() <= RECORD_PACES_MAX);
    }

    #[test]
    fn the_paths_of_a_lookup_share_no_device() {
        let settings = format!("{:?}", settings());
        assert!(settings.contains("disjoint_query_paths: true"), "{settings}");
        assert!(settings.contains("parallelism: 3"), "{settings}");
    }

    #[test]
    fn a_bucket_has_two_devices_of_one_public_prefix() {
        let address = |text: &str| text.parse::<libp2p::Multiaddr>().unwrap();
        let room = |new: &str, others: &[&str]| {
            let others: Vec<[libp2p::Multiaddr; 1]> =
                others.iter().map(|text| [address(text)]).collect();
            has_room_for(&address(new), others.iter())
        };
        let new = "/ip4/8.8.8.1/tcp/1";
        assert!(room(new, &["/ip4/8.8.8.2/tcp/1", "/ip4/8.8.9.3/tcp/1", "/ip4/9.8.8.4/tcp/1"]));
        assert!(!room(new, &["/ip4/8.8.8.2/tcp/1", "/ip4/8.8.8.2/udp/2/quic-v1"]));
        let new = "/ip6/2001:db9:1:2::1/tcp/1";
        assert!(!room(new, &["/ip6/2001:db9:1:3::1/tcp/1", "/ip6/2001:db9:1:4::1/tcp/1"]));
        assert!(room(new, &["/ip6/2001:db9:2::1/tcp/1", "/ip6/2001:db9:3::1/tcp/1"]));
        // A LAN, and tests, are one network.
        for host in ["127.0.0.1", "192.168.1.1", "10.0.0.1"] {
            let same = format!("/ip4/{host}/tcp/1");
            assert!(room(&same, &[same.as_str(); 20]), "{host}");
        }
    }

    #[test]
    fn records_that_are_renewed_do_not_outgrow_the_room() {
        let caps = RecordCaps { bytes: 100_000, of_device: 200, of_prefix: 200, ..CAPS };
        let mut records = Records::open(PeerId::random(), caps, None, now());
        let source = PeerId::random();
        // One record says where all devices of an account are.
        let of_device = |number: u32, device: u8| {
            let subject = Subject::Root(Ghid::of(&number.to_be_bytes()));
            let host = Host { device: vec![device; 38], addresses: vec![vec![4; 100]] };
            let route = Route { host, persisters: Vec::new(), stamp: now() };
            let epoch = route::epoch_of(now());
            let value = subject.seal(epoch, &route, None, [device; 12]);
            Record::new(subject.key(epoch).to_vec(), value)
        };
        for number in 0..100 {
            records.admit(&of_device(number, 1), source, Some(ip(1)), now()).unwrap();
        }
        let before = records.kept();
        let mut grown = 0;
        for device in 2..=8 {
            let admitted = |number: &u32| {
                records.admit(&of_device(*number, device), source, Some(ip(1)), now()).is_ok()
            };
            grown += (0..100).filter(admitted).count();
        }
        assert!((1..700).contains(&grown), "{grown} of 700, {before:?}");
        assert_eq!(records.kept().0, 100);
        assert!(records.kept().1 > before.1 && records.kept().1 <= caps.bytes);
    }

    #[test]
    fn the_nearest_records_are_kept_when_there_is_no_room() {
        let local = PeerId::random();
        let mut records = Records::open(local, CAPS, None, now());
        let all: Vec<Record> = (0..500).map(|number| record(number, now())).collect();
        for (number, record) in all.iter().enumerate() {
            let from = Some(IpAddr::from([10, number as u8, (number >> 8) as u8, 1]));
            let _ = records.admit(record, PeerId::random(), from, now());
        }
        let (count, bytes) = records.kept();
        assert_eq!(count, CAPS.records);
        assert!(bytes <= CAPS.bytes);
        let local = kad::KBucketKey::from(local);
        let mut nearest: Vec<_> = all.iter().map(|record| record.key.clone()).collect();
        nearest.sort_by_key(|key| local.distance(&kad::KBucketKey::from(key.clone())));
        assert!(nearest[..CAPS.records].iter().all(|key| records.get(key).is_some()));
    }

    #[test]
    fn records_survive_a_restart_and_a_damaged_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dht.records");
        let local = PeerId::random();
        let open = |now| Records::open(local, CAPS, Some(path.clone()), now);
        let mut records = open(now());
        assert!(records.take_changed().is_none());
        for number in 0..20 {
            let source = PeerId::random();
            records.admit(&record(number, now()), source, Some(ip(1)), now()).unwrap();
        }
        let (to, bytes) = records.take_changed().expect("changed");
        keep(&to, &bytes).unwrap();
        assert!(records.take_changed().is_none(), "once");
        let again = open(now());
        assert_eq!(again.kept, records.kept);
        assert_eq!(again.of_prefix, records.of_prefix);
        assert_eq!(again.bytes, records.bytes);
        assert_eq!(open(now() + route::LIFETIME + 1).kept(), (0, 0), "over");
        let mut bad = fs::read(&path).unwrap();
        bad[100] ^= 1;
        fs::write(&path, bad).unwrap();
        assert_eq!(open(now()).kept(), (0, 0));
    }

    #[test]
    fn what_is_no_route_record_changes_nothing() {
        let mut records = Records::open(PeerId::random(), CAPS, None, now());
        let source = PeerId::random();
        let good = record(1, now());
        records.admit(&good, source, Some(ip(1)), now()).unwrap();
        let before = records.kept.clone();
        let mut foreign = record(2, now());
        foreign.key = good.key.clone();
        let mut forged = record(3, now());
        let last = forged.value.len() - 1;
        forged.value[last] ^= 1;
        let mut long = record(4, now());
        long.value.resize(route::RECORD_MAX + 1, 0);
        let mut text = record(5, now());
        text.value = b"anything".to_vec();
        let old = record(6, now() - route::LIFETIME);
        for (bad, why) in [
            (&foreign, Refusal::Foreign),
            (&forged, Refusal::Forged),
            (&long, Refusal::TooLong),
            (&text, Refusal::Malformed),
            (&old, Refusal::Expired),
            (&good, Refusal::Replayed),
        ] {
            assert_eq!(records.admit(bad, source, Some(ip(1)), now()), Err(why));
        }
        assert_eq!(records.kept, before);
    }
}
