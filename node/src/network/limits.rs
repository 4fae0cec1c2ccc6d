//! Maxima of the network: connections, streams, bytes, rates, times.
//!
//! Sources: the threat model's table of limits that no library sets for us, and measurements on
//! one machine; a number that is a guess says so.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hypergolix_engine::message::Message;

/// Established connections that others opened.
pub const CONNECTIONS_IN: u32 = 128;

/// Established connections that we opened.
pub const CONNECTIONS_OUT: u32 = 64;

/// Connections in their handshake, each way.
pub const CONNECTIONS_PENDING: u32 = 64;

/// Connections to one peer. Two in the long run; two more so that a peer that restarted gets in
/// while its dead connections are still counted.
pub const CONNECTIONS_PER_PEER: u32 = 4;

/// Resident memory of the process, bytes, above which new connections are refused.
pub const MEMORY_MAX: usize = 256 * 1024 * 1024;

/// Substreams of one connection.
pub const STREAMS_MAX: usize = 64;

/// Unread bytes of one TCP connection: 256 KiB for each substream, and 16 MiB for those that need more.
pub const YAMUX_WINDOW: usize = 32 * 1024 * 1024;

/// What a frame takes beside its data until it is read, bytes: its entry in a queue that doubles, and
/// an allocation.
pub const FRAME_OVERHEAD: usize = 96;

/// What the unread frames of one connection may take.
pub const UNREAD_BYTES: usize = 24 * 1024 * 1024;

/// What all connections together may take, each for unread frames and for messages that arrive.
pub const ARRIVING_BYTES: usize = 64 * 1024 * 1024;

/// What messages that wait to be written may take, over all links: one part in so many of the
/// process's memory, no less than [`QUEUED_MIN`].
pub const QUEUED_SHARE: usize = 4;
/// See [`QUEUED_SHARE`].
pub const QUEUED_MIN: usize = 64 * 1024 * 1024;

/// One origin takes one part in so many of the places for connections that others open.
pub const PLACES_SHARE: usize = 2;

/// Further places for devices that we dialled for a link before.
pub const PLACES_RESERVED: usize = 32;

/// Such devices that are remembered.
pub const PLACES_KNOWN: usize = 1_024;

/// Unread bytes of one QUIC connection.
pub const QUIC_WINDOW: u32 = 8 * 1024 * 1024;

/// New inbound connections of one address prefix: at once.
pub const INBOUND_BURST: u32 = 20;

/// New inbound connections of one address prefix: a second.
pub const INBOUND_RATE: u32 = 5;

/// Address prefixes whose rate is remembered.
pub const PREFIXES_MAX: usize = 1_024;

/// Bytes queued for one link; more closes it.
pub const QUEUE_BYTES: usize = 32 * 1024 * 1024;

/// Bytes of small messages gathered for one write.
pub const WRITE_BATCH: usize = 64 * 1024;

/// Bytes read at once; also what a length prefix alone can make us allocate.
pub const READ_CHUNK: usize = 64 * 1024;

/// Bytes of received messages that wait for the node, over all links. One message always fits.
pub const INBOX_BYTES: usize = 32 * 1024 * 1024;

/// Objects taken from one link at once. An honest catch-up of 10,000 objects passes undelayed.
pub const INGEST_BURST_OBJECTS: u32 = 20_000;

/// Objects taken from one link a second after that: reading slows down, nothing is dropped. Five
/// times the threat model's figure, so that one device may push at the speed of its disk; the
/// cost is about 5 % of a core for signatures.
pub const INGEST_OBJECTS: u32 = 1_000;

/// Bytes taken from one link at once.
pub const INGEST_BURST_BYTES: u32 = 128 * 1024 * 1024;

/// Bytes taken from one link a second after that. Three times the threat model's figure: states
/// of 10 MiB should cross a LAN at a few a second.
pub const INGEST_BYTES: u32 = 32 * 1024 * 1024;

/// Slowest sender inside one message, bytes a second, after [`FRAME_GRACE`].
pub const FRAME_RATE: usize = 16 * 1024;

/// Time that a message may take whatever its length.
pub const FRAME_GRACE: Duration = Duration::from_secs(10);

/// How long a peer that misbehaved is refused.
pub const REFUSED_FOR: Duration = Duration::from_secs(600);

/// Peers that are refused at one time; the one to be forgiven soonest gives way.
pub const REFUSED_MAX: usize = 1_024;

/// How long a connection lives without a link.
pub const IDLE_CONNECTION: Duration = Duration::from_secs(15);

/// A link that lived this long was a good one: its loss is answered at once.
pub const LINK_STABLE: Duration = Duration::from_secs(10);

/// A new connection of a peer whose link is younger than this is one too many: both dialled.
/// Later it means that the peer lost the link and we did not notice.
pub const LINK_FRESH: Duration = Duration::from_secs(1);

/// Addresses that are remembered.
pub const ADDRESSES_MAX: usize = 256;

/// Addresses of one peer.
pub const ADDRESSES_PER_PEER: usize = 8;

/// Peers never connected to that one IP address may announce.
pub const STRANGERS_PER_HOST: usize = 16;

/// Dials at one time.
pub const DIALS_MAX: usize = 16;

/// A dial takes at most this long when every address is on the LAN.
pub const DIAL_LAN: Duration = Duration::from_secs(2);

/// A dial takes at most this long otherwise.
pub const DIAL_WAN: Duration = Duration::from_secs(10);

/// Dials of one attempt to reach a peer: TCP, QUIC, and addresses heard of meanwhile.
pub const DIALS_PER_ATTEMPT: usize = 4;

/// Outside the LAN: how long direct addresses are tried before a relay's.
pub const RELAY_PAUSE: Duration = Duration::from_millis(500);

/// From hearing of a device at a relay to dialling it there: both sides have to learn how they are
/// seen from outside first, or the hole punching has nothing to go by.
pub const RELAY_HINT_DELAY: Duration = Duration::from_millis(1_500);

/// A relayed link that has not become direct by then is tried with the roles exchanged: behind
/// some pairs of routers only one of the two sides can be the one that calls.
pub const EXCHANGE_ROLES: Duration = Duration::from_millis(1_500);

/// A relayed link that stays so is punched again after each of these pauses. The link moves to the
/// connection that this takes, so there are few.
pub const EXCHANGES_AGAIN: [Duration; 3] =
    [Duration::from_secs(8), Duration::from_secs(12), Duration::from_secs(60)];

/// Outside the LAN a second connection of a link younger than this is the other result of the same
/// attempt.
pub const LINK_FRESH_WAN: Duration = Duration::from_secs(3);

/// Devices to reach that may wait for the network's task.
pub const REACH_QUEUE: usize = 256;

/// Hosts that the configuration, the LAN or an earlier connection vouches for.
pub const TRUSTED_HOSTS: usize = 1_024;

/// Relayed connections that wait for an exchange of roles.
pub const EXCHANGES_MAX: usize = 256;

/// What a persister relays for devices that cannot reach each other. The library's defaults, 128
/// KiB and two minutes, are meant for hole punching alone; a link between two symmetric NATs
/// stays on the relay for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLimits {
    /// Devices that may be reached through it.
    pub reservations: usize,
    /// Circuits at one time.
    pub circuits: usize,
    /// Of one device: less than a connection has substreams.
    pub circuits_per_peer: usize,
    /// How long a circuit lasts; its devices open another.
    pub duration: Duration,
    /// Bytes of a circuit, both ways together; the same.
    pub bytes: u64,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            reservations: 4_096,
            circuits: 1_024,
            circuits_per_peer: 48,
            duration: Duration::from_secs(3_600),
            bytes: 1 << 30,
        }
    }
}

/// Head start of TCP over QUIC: on a LAN a message over TCP takes 30 us, over QUIC 106 us.
pub const TCP_HEAD_START: Duration = Duration::from_millis(300);

/// mDNS: time between queries.
pub const MDNS_QUERY: Duration = Duration::from_secs(5);

/// mDNS: how long an answer holds.
pub const MDNS_TTL: Duration = Duration::from_secs(60);

/// mDNS: entries after which the responder is made anew; the library bounds nothing.
pub const MDNS_ENTRIES: usize = 1_024;

/// Beacons heard from one IP address a second; the same number at once.
pub const BEACONS_PER_HOST: u32 = 16;

/// Network interfaces that a beacon is sent on.
pub const INTERFACES_MAX: usize = 32;

/// Subjects that one device may be found for in the DHT: itself, its account, what it publishes.
pub const PRESENCES_MAX: usize = 1_002;

/// Lookups in the DHT at one time; more wait.
pub const FINDS_MAX: usize = 8;

/// Records being written into the DHT at one time.
pub const PUTS_MAX: usize = 4;

/// Announcements of one device: at once, and a second. An honest one makes forty a second.
pub const SOURCE_BURST: u32 = 128;
/// See [`SOURCE_BURST`].
pub const SOURCE_RATE: u32 = 64;

/// Announcements that one device passes on to us: at once, and a second. A guess; whoever makes up
/// sources passes them on itself.
pub const FORWARDER_BURST: u32 = 1_024;
/// See [`FORWARDER_BURST`].
pub const FORWARDER_RATE: u32 = 512;

/// Devices that pass announcements on and whose pace is remembered.
pub const FORWARDERS_MAX: usize = 1_024;

/// Announcing devices that are remembered.
pub const SOURCES_MAX: usize = 1_024;

/// Authors of one announcing device whose last counter is remembered, 24 bytes each.
pub const TAGS_PER_SOURCE: usize = 128;

/// Servers that are visited at one time because of what they announced.
pub const VISITS_MAX: usize = 24;

/// How long a visited server stays connected: more may follow.
pub const VISIT: Duration = Duration::from_secs(60);

/// How long an orderly stop may take to send what is queued.
pub const SHUTDOWN: Duration = Duration::from_secs(1);

/// Records that one device brings into the DHT here: at once, and a second. An honest one with
/// [`PRESENCES_MAX`] subjects brings two a second, four in the last hours of a day.
pub const RECORDS_BURST: u32 = 64;
/// See [`RECORDS_BURST`].
pub const RECORDS_RATE: u32 = 16;

/// The same for all devices of one address prefix (IPv4 /24, IPv6 /48) together: 32 honest ones that
/// publish all they may, and 3 % of a core for signatures.
pub const PREFIX_RECORDS_BURST: u32 = 512;
/// See [`PREFIX_RECORDS_BURST`].
pub const PREFIX_RECORDS_RATE: u32 = 128;

/// Devices, and prefixes, of which it is remembered how many records they brought.
pub const RECORD_PACES_MAX: usize = 1_024;

/// A budget that refills with time. Counts in any unit.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenBucket {
    capacity: f64,
    per_second: f64,
    level: f64,
    at: Instant,
}

impl TokenBucket {
    /// Full at `now`.
    pub(super) fn new(capacity: u32, per_second: u32, now: Instant) -> Self {
        let capacity = f64::from(capacity);
        Self { capacity, per_second: f64::from(per_second), level: capacity, at: now }
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + elapsed * self.per_second).min(self.capacity);
        self.at = now;
    }

    /// Takes one, if there is one.
    pub(super) fn try_take(&mut self, now: Instant) -> bool {
        self.refill(now);
        if self.level < 1.0 {
            return false;
        }
        self.level -= 1.0;
        true
    }

    /// Takes `amount`, going into debt if need be; the answer is how long to wait.
    pub(super) fn take(&mut self, amount: u32, now: Instant) -> Duration {
        self.refill(now);
        self.level -= f64::from(amount);
        if self.level >= 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(-self.level / self.per_second)
        }
    }

    /// Whether nothing of it is missing.
    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.level >= self.capacity
    }
}

/// One bucket per address prefix (IPv4 /32, IPv6 /56), of at most [`PREFIXES_MAX`] prefixes.
#[derive(Debug)]
pub(super) struct PrefixLimiter {
    capacity: u32,
    per_second: u32,
    buckets: HashMap<IpAddr, TokenBucket>,
}

impl PrefixLimiter {
    pub(super) fn new(capacity: u32, per_second: u32) -> Self {
        Self { capacity, per_second, buckets: HashMap::new() }
    }

    /// Whether one more is allowed. When too many prefixes are busy, a new one is not.
    pub(super) fn allow(&mut self, address: IpAddr, now: Instant) -> bool {
        let prefix = prefix(address);
        if !self.buckets.contains_key(&prefix) && self.buckets.len() >= PREFIXES_MAX {
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
            if self.buckets.len() >= PREFIXES_MAX {
                return false;
            }
        }
        let (capacity, per_second) = (self.capacity, self.per_second);
        self.buckets
            .entry(prefix)
            .or_insert_with(|| TokenBucket::new(capacity, per_second, now))
            .try_take(now)
    }
}

/// What counts as one address.
pub(super) fn prefix(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6((v6.to_bits() & !((1 << 72) - 1)).into()),
        },
    }
}

/// What one link may bring in.
#[derive(Debug)]
pub(super) struct Ingest {
    objects: TokenBucket,
    bytes: TokenBucket,
}

/// Small messages count as a quarter of an object.
const UNITS_PER_OBJECT: u32 = 4;

/// Addresses, tags or ids that count as one object.
const LIST_ITEMS_PER_OBJECT: usize = 16;

impl Ingest {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            objects: TokenBucket::new(
                INGEST_BURST_OBJECTS * UNITS_PER_OBJECT,
                INGEST_OBJECTS * UNITS_PER_OBJECT,
                now,
            ),
            bytes: TokenBucket::new(INGEST_BURST_BYTES, INGEST_BYTES, now),
        }
    }

    /// How long to wait before `message` of `len` bytes is passed on.
    pub(super) fn take(&mut self, message: &Message, len: usize, now: Instant) -> Duration {
        let bytes = u32::try_from(len).unwrap_or(u32::MAX);
        self.objects.take(units(message), now).max(self.bytes.take(bytes, now))
    }
}

fn units(message: &Message) -> u32 {
    let objects = match message {
        Message::Publish { objects, .. }
        | Message::Object { objects, .. }
        | Message::Event { objects, .. } => objects.len(),
        Message::Interests { tags } => tags.len() / LIST_ITEMS_PER_OBJECT,
        Message::Seek { identities } => identities.len() / LIST_ITEMS_PER_OBJECT,
        Message::Located { devices } => devices.len() / LIST_ITEMS_PER_OBJECT,
        Message::Subscribe { addresses, .. }
        | Message::Unsubscribe { addresses }
        | Message::Addresses { addresses, .. }
        | Message::Exists { addresses, .. } => addresses.len() / LIST_ITEMS_PER_OBJECT,
        Message::Need { ids } => ids.len() / LIST_ITEMS_PER_OBJECT,
        Message::Proof { .. }
        | Message::Route { .. }
        | Message::Reconcile { .. }
        | Message::Mirror { .. }
        | Message::Subscriptions { .. }
        | Message::Bindings { .. }
        | Message::Owned { .. }
        | Message::Debindings { .. } => 1,
        Message::Hello { .. }
        | Message::Own { .. }
        | Message::Following { .. }
        | Message::Published { .. }
        | Message::Get { .. }
        | Message::Existing { .. }
        | Message::Disconnect { .. }
        | Message::Register { .. }
        | Message::Registered { .. }
        | Message::Refused { .. }
        | Message::EventAck { .. }
        | Message::Ping { .. }
        | Message::Pong { .. } => 0,
    };
    1 + UNITS_PER_OBJECT * objects as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_allows_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(10, 5, start);
        assert_eq!((0..20).filter(|_| bucket.try_take(start)).count(), 10);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..20).filter(|_| bucket.try_take(later)).count(), 5);
        assert_eq!(bucket.take(10, later), Duration::from_secs(2));
    }

    #[test]
    fn ten_thousand_objects_pass_undelayed_and_a_flood_is_slowed() {
        let now = Instant::now();
        let mut ingest = Ingest::new(now);
        let message = Message::Publish { id: 0, objects: vec![serde_bytes_of(300); 50] };
        for _ in 0..200 {
            assert_eq!(ingest.take(&message, 16_000, now), Duration::ZERO);
        }
        let waits: Vec<_> = (0..400).map(|_| ingest.take(&message, 16_000, now)).collect();
        assert!(waits.last().is_some_and(|wait| *wait > Duration::from_secs(5)));
    }

    fn serde_bytes_of(len: usize) -> hypergolix_engine::message::Packed {
        hypergolix_engine::message::Packed::from(vec![0; len])
    }

    #[test]
    fn prefixes_are_limited_one_by_one_and_bounded_in_number() {
        let now = Instant::now();
        let mut limiter = PrefixLimiter::new(2, 1);
        let first: IpAddr = "10.0.0.1".parse().unwrap();
        assert!(limiter.allow(first, now) && limiter.allow(first, now));
        assert!(!limiter.allow(first, now));
        assert!(limiter.allow("10.0.0.2".parse().unwrap(), now));
        // Addresses of one /56 share a bucket.
        assert!(limiter.allow("2001:db8:0:100::1".parse().unwrap(), now));
        assert!(limiter.allow("2001:db8:0:1ff::2".parse().unwrap(), now));
        assert!(!limiter.allow("2001:db8:0:101::3".parse().unwrap(), now));
        for host in 0..5_000_u32 {
            limiter.allow(IpAddr::V4(host.into()), now);
        }
        assert!(limiter.buckets.len() <= PREFIXES_MAX);
    }
}
