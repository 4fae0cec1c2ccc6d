//! Where connections come from, and what each origin may hold of memory that all of them share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libp2p::core::ConnectedPoint;
use libp2p::{Multiaddr, PeerId};
use tokio_util::sync::CancellationToken;

use super::address_book::ip_of;
use super::dial_filter::is_circuit;
use super::limits::{self, prefix};
use super::nat::relay_of;

/// Who answers for a connection: making devices costs nothing, addresses do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Origin {
    /// An IPv4 address, or the first 56 bits of an IPv6 address.
    Prefix(IpAddr),
    /// A relay: it does not say who is behind it, and bounds what it carries.
    Relay(Option<PeerId>),
    /// No address of a kind that we listen on.
    Unknown,
}

impl Origin {
    /// Of a connection to or from `address`; through a relay, of the circuit's.
    pub(super) fn at(address: &Multiaddr) -> Self {
        if is_circuit(address) {
            return Self::Relay(relay_of(address));
        }
        ip_of(address).map_or(Self::Unknown, |ip| Self::Prefix(prefix(ip)))
    }

    /// Of a connection that others opened. The address of who comes through a relay is a bare peer
    /// id; ours names the relay.
    pub(super) fn inbound(local: &Multiaddr, remote: &Multiaddr) -> Self {
        Self::at(if is_circuit(local) { local } else { remote })
    }

    /// Of any connection.
    pub(super) fn of(point: &ConnectedPoint) -> Self {
        match point {
            ConnectedPoint::Dialer { address, .. } => Self::at(address),
            ConnectedPoint::Listener { local_addr, send_back_addr } => {
                Self::inbound(local_addr, send_back_addr)
            }
        }
    }
}

/// Memory that holds bytes of or for others. When it is full, the largest holding of the origin that
/// holds most gives way.
#[derive(Debug)]
pub(super) struct Pool {
    max: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    next: u64,
    holdings: HashMap<u64, Entry>,
    evicted_at: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    origin: Origin,
    bytes: usize,
    evicted: CancellationToken,
}

/// Bytes that one connection or link has in a [`Pool`].
#[derive(Debug)]
pub(super) struct Holding {
    pool: Arc<Pool>,
    id: u64,
    bytes: AtomicUsize,
    evicted: CancellationToken,
}

/// Less is not counted, so that the usual traffic takes no lock.
const STEP: usize = 16 * 1024;

/// How long somebody waits for room before the largest holding gives way, and the pause between two of
/// these.
const PATIENCE: Duration = Duration::from_secs(2);
const EVICT_AGAIN: Duration = Duration::from_millis(250);

/// How often it is looked whether there is room.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Pool {
    /// Room for `max` bytes.
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, held: Mutex::default() })
    }

    /// An empty holding.
    pub(super) fn hold(self: &Arc<Self>, origin: Origin) -> Holding {
        let evicted = CancellationToken::new();
        let mut held = self.held();
        let id = held.next;
        held.next += 1;
        held.holdings.insert(id, Entry { origin, bytes: 0, evicted: evicted.clone() });
        Holding { pool: Arc::clone(self), id, bytes: AtomicUsize::new(0), evicted }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Who was evicted holds nothing.
    fn set(&mut self, id: u64, bytes: usize) {
        if let Some(entry) = self.holdings.get_mut(&id) {
            self.total = self.total - entry.bytes + bytes;
            entry.bytes = bytes;
        }
    }

    fn evict(&mut self) {
        let mut origins: HashMap<Origin, usize> = HashMap::new();
        for entry in self.holdings.values() {
            *origins.entry(entry.origin).or_default() += entry.bytes;
        }
        let largest = |(_, entry): &(&u64, &Entry)| (origins[&entry.origin], entry.bytes);
        let id = self.holdings.iter().max_by_key(largest).map(|(id, _)| *id);
        if let Some(entry) = id.and_then(|id| self.holdings.remove(&id)) {
            tracing::debug!(origin = ?entry.origin, bytes = entry.bytes, "held too much");
            self.total -= entry.bytes;
            entry.evicted.cancel();
        }
    }
}

impl Holding {
    /// Holds so many bytes from now on, at somebody's expense if need be.
    pub(super) fn set(&self, bytes: usize) {
        let Some(bytes) = self.changed(bytes) else { return };
        let mut held = self.pool.held();
        held.set(self.id, bytes);
        while held.total > self.pool.max && !held.holdings.is_empty() {
            held.evict();
        }
    }

    /// The same, but waits for room before. Cancel-safe.
    pub(super) async fn wait_and_set(&self, bytes: usize) {
        let Some(bytes) = self.changed(bytes) else { return };
        let begun = Instant::now();
        loop {
            {
                let mut held = self.pool.held();
                let now = Instant::now();
                let before = held.holdings.get(&self.id).map_or(0, |entry| entry.bytes);
                let again = held.evicted_at.is_none_or(|at| now - at > EVICT_AGAIN);
                if held.total - before + bytes > self.pool.max && begun + PATIENCE < now && again {
                    held.evicted_at = Some(now);
                    held.evict();
                }
                let before = held.holdings.get(&self.id).map_or(0, |entry| entry.bytes);
                if held.total - before + bytes <= self.pool.max {
                    held.set(self.id, bytes);
                    return;
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Cancelled when this has to be let go of.
    pub(super) fn evicted(&self) -> &CancellationToken {
        &self.evicted
    }

    /// What is to be written down, in steps.
    fn changed(&self, bytes: usize) -> Option<usize> {
        let bytes = bytes / STEP * STEP;
        (self.bytes.swap(bytes, Ordering::Relaxed) != bytes).then_some(bytes)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut held = self.pool.held();
        held.set(self.id, 0);
        held.holdings.remove(&self.id);
    }
}

/// The pools of a network.
#[derive(Debug)]
pub(super) struct Pools {
    /// What arrived on substreams and was not read.
    pub(super) unread: Arc<Pool>,
    /// Messages of links that arrive.
    pub(super) reading: Arc<Pool>,
    /// Messages that wait to be written to links.
    pub(super) queued: Arc<Pool>,
}

impl Pools {
    /// For a process that may take so much memory.
    pub(super) fn new(memory_max: usize) -> Self {
        let queued = (memory_max / limits::QUEUED_SHARE).max(limits::QUEUED_MIN);
        Self {
            unread: Pool::new(limits::ARRIVING_BYTES),
            reading: Pool::new(limits::ARRIVING_BYTES),
            queued: Pool::new(queued),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(number: u8) -> Origin {
        Origin::Prefix([10, 0, 0, number].into())
    }

    #[test]
    fn whose_address_holds_most_gives_way() {
        let pool = Pool::new(10 * STEP);
        let honest = pool.hold(origin(1));
        honest.set(4 * STEP);
        let hostile: Vec<_> = (0..6).map(|_| pool.hold(origin(2))).collect();
        hostile[..5].iter().for_each(|holding| holding.set(STEP));
        hostile[5].set(2 * STEP);
        assert!(hostile[5].evicted().is_cancelled(), "the largest one of the heaviest origin");
        assert!(hostile[..5].iter().chain([&honest]).all(|it| !it.evicted().is_cancelled()));
        hostile[5].set(100 * STEP);
        assert!(!honest.evicted().is_cancelled(), "who was evicted counts no more");
        drop(hostile);
        honest.set(10 * STEP);
        assert!(!honest.evicted().is_cancelled(), "what is dropped is free");
    }

    #[tokio::test]
    async fn who_waits_gets_room_when_others_let_go_or_do_not() {
        let pool = Pool::new(10 * STEP);
        let [one, other] = [1, 2].map(|number| pool.hold(origin(number)));
        one.set(10 * STEP);
        let letting_go = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            one.set(0);
        };
        tokio::join!(other.wait_and_set(STEP), letting_go);
        assert!(!one.evicted().is_cancelled());
    }

    #[test]
    fn origins_are_prefixes_and_relays() {
        let at = |text: &str| Origin::at(&text.parse().expect("an address"));
        assert_eq!(at("/ip4/10.0.0.1/tcp/1"), at("/ip4/10.0.0.1/udp/2/quic-v1"));
        assert_ne!(at("/ip4/10.0.0.1/tcp/1"), at("/ip4/10.0.0.2/tcp/1"));
        assert_eq!(at("/ip6/fd00::1/tcp/1"), at("/ip6/fd00:0:0:ff::1/tcp/1"));
        assert_ne!(at("/ip6/fd00::1/tcp/1"), at("/ip6/fd00:0:0:100::1/tcp/1"));
        let relay = PeerId::random();
        let circuit = format!("/ip4/10.0.0.1/tcp/1/p2p/{relay}/p2p-circuit");
        let circuit = circuit.parse().expect("an address");
        let who = Multiaddr::empty().with_p2p(PeerId::random()).expect("an address");
        assert_eq!(Origin::inbound(&circuit, &who), Origin::Relay(Some(relay)));
    }
}
