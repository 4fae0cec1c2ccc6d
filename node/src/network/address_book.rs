//! Where devices were seen, and when to dial them again. Pure: time comes in.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::dial_filter::is_circuit;
use super::limits::{
    ADDRESSES_MAX, ADDRESSES_PER_PEER, DIAL_LAN, DIAL_WAN, LINK_STABLE, REFUSED_FOR,
    RELAY_HINT_DELAY, STRANGERS_PER_HOST,
};

/// Redialling stays eager this long.
const EAGER: Duration = Duration::from_secs(120);

/// Longest pause between two dials of a peer.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Shortest pause between two dials of a peer that keeps announcing itself.
const PAUSE_MIN: Duration = Duration::from_millis(500);

/// A stranger that is not heard of for this long is forgotten.
const STRANGER_TTL: Duration = Duration::from_secs(120);

/// Addresses of a peer that were proved last and that no announcement displaces.
const PROVEN_KEPT: usize = 4;

/// When both sides hear of each other, the smaller peer id dials at once and the other one after
/// this, so that one connection comes of it.
const COURTESY: Duration = Duration::from_millis(200);

/// Who says that a peer is at an address. A later one is better founded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// An announcement on the LAN, by anybody.
    Announced,
    /// A route record that its identity signed, or somebody who serves what is looked for.
    Found,
    /// Somebody that both use: a persister, or the peer through one.
    Hinted,
    /// The peer itself, over an authenticated connection.
    Peer,
    /// The configuration; never forgotten.
    Configured,
}

/// How an announced process compares with what was announced before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Instance {
    /// Nothing was announced before.
    First,
    /// The same process.
    Same,
    /// Another one: the device restarted, or somebody says so.
    Changed,
}

/// One dial that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) peer: PeerId,
    pub(super) tcp: Vec<Multiaddr>,
    pub(super) quic: Vec<Multiaddr>,
    /// Through relays.
    pub(super) circuits: Vec<Multiaddr>,
    /// How long it may take.
    pub(super) timeout: Duration,
}

#[derive(Debug)]
struct Known {
    address: Multiaddr,
    source: Source,
    /// When this peer really was there.
    proven: Option<Instant>,
    seen: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Away,
    Dialing,
    Connected,
}

#[derive(Debug)]
struct Entry {
    addresses: Vec<Known>,
    state: State,
    /// Fresh random number of the peer's process, if it sends beacons.
    instance: Option<u64>,
    /// Whether a connection ever stood.
    proven: bool,
    attempts: u32,
    /// Since when the peer is away and worth dialling.
    wanted: Instant,
    dial_at: Instant,
    dialed: Option<Instant>,
    refused_until: Option<Instant>,
    seen: Instant,
}

impl Entry {
    fn is_configured(&self) -> bool {
        self.addresses.iter().any(|known| known.source == Source::Configured)
    }

    /// The address to give up for a new one: never a configured one nor the
    /// [`PROVEN_KEPT`] proved last, so that made-up announcements cannot hide a peer.
    fn least_useful(&self) -> Option<usize> {
        let mut proofs: Vec<_> = self.addresses.iter().filter_map(|known| known.proven).collect();
        proofs.sort_unstable_by(|a, b| b.cmp(a));
        let kept = proofs.get(PROVEN_KEPT - 1).or(proofs.last()).copied();
        let safe = |proof: Instant| kept.is_some_and(|kept| proof >= kept);
        (0..self.addresses.len())
            .filter(|&index| {
                let known = &self.addresses[index];
                known.source != Source::Configured && !known.proven.is_some_and(safe)
            })
            // Proving an address is also seeing it.
            .min_by_key(|&index| self.addresses[index].seen)
    }

    fn pause(&self, now: Instant) -> Duration {
        let eager = match self.attempts {
            0 => return Duration::ZERO,
            1 => return Duration::from_millis(500),
            _ if self.proven || self.is_configured() => Duration::from_secs(1),
            // A stranger may be made up: 1, 2, 4 s and so on.
            attempts => Duration::from_secs(1 << (attempts - 2).min(5)),
        };
        let late = now.saturating_duration_since(self.wanted + EAGER) / 8;
        (eager + late).min(PAUSE_MAX)
    }
}

/// At most [`ADDRESSES_MAX`] addresses of devices.
#[derive(Debug)]
pub(super) struct AddressBook {
    local: PeerId,
    peers: HashMap<PeerId, Entry>,
    count: usize,
}

impl AddressBook {
    pub(super) fn new(local: PeerId) -> Self {
        Self { local, peers: HashMap::new(), count: 0 }
    }

    /// Addresses remembered.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Notes that `peer` may be at `address`, heard of just now. Whether that was news.
    pub(super) fn learn(
        &mut self,
        peer: PeerId,
        address: &Multiaddr,
        source: Source,
        now: Instant,
    ) -> bool {
        let Some(address) = dialable(address) else { return false };
        // A relay announced on the LAN would be anybody's wish.
        let unwanted = is_circuit(&address) && source == Source::Announced;
        if peer == self.local || unwanted {
            return false;
        }
        if let Some(known) = self.known_mut(&peer, &address) {
            known.seen = now;
            known.source = known.source.max(source);
            self.stir(&peer, now);
            return false;
        }
        if !self.make_room(peer, &address, source) {
            return false;
        }
        let mut courtesy = if self.local < peer { Duration::ZERO } else { COURTESY };
        let first = !self.peers.contains_key(&peer);
        if source == Source::Hinted {
            courtesy += RELAY_HINT_DELAY;
        }
        let entry = self.peers.entry(peer).or_insert_with(|| Entry {
            addresses: Vec::new(),
            state: State::Away,
            instance: None,
            proven: false,
            attempts: 0,
            wanted: now,
            dial_at: now + courtesy,
            dialed: None,
            refused_until: None,
            seen: now,
        });
        entry.addresses.push(Known { address, source, proven: None, seen: now });
        self.count += 1;
        if !(first && source == Source::Hinted) {
            self.stir(&peer, now);
        }
        true
    }

    /// Notes the process that announces itself as `peer`.
    pub(super) fn instance(&mut self, peer: &PeerId, instance: u64, now: Instant) -> Instance {
        let Some(entry) = self.peers.get_mut(peer) else { return Instance::First };
        let before = entry.instance.replace(instance);
        if before == Some(instance) {
            return Instance::Same;
        }
        if entry.state == State::Away && entry.refused_until.is_none() {
            entry.attempts = 0;
            entry.wanted = now;
            entry.dial_at =
                entry.dialed.map_or(entry.dial_at, |dialed| now.max(dialed + PAUSE_MIN));
        }
        if before.is_some() { Instance::Changed } else { Instance::First }
    }

    /// The peer itself says that it is at `address`: forgets other ports of that host, which are
    /// those of an earlier process.
    pub(super) fn supersede(&mut self, peer: &PeerId, address: &Multiaddr) {
        let Some(address) = dialable(address).filter(|address| !is_circuit(address)) else {
            return;
        };
        let Some(entry) = self.peers.get_mut(peer) else { return };
        let before = entry.addresses.len();
        entry.addresses.retain(|known| {
            known.address == address
                || is_circuit(&known.address)
                || known.source == Source::Configured
                || known.address.iter().next() != address.iter().next()
                || is_tcp(&known.address) != is_tcp(&address)
        });
        self.count -= before - entry.addresses.len();
    }

    /// A peer that is away gives a sign of life: no reason to wait long.
    fn stir(&mut self, peer: &PeerId, now: Instant) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        entry.seen = now;
        if entry.state == State::Away {
            let soon = entry.dialed.map_or(now + COURTESY, |dialed| dialed + 2 * PAUSE_MIN);
            entry.dial_at = entry.dial_at.min(soon.max(now));
        }
    }

    fn known_mut(&mut self, peer: &PeerId, address: &Multiaddr) -> Option<&mut Known> {
        let addresses = &mut self.peers.get_mut(peer)?.addresses;
        addresses.iter_mut().find(|known| known.address == *address)
    }

    /// Makes room for one more address, at the cost of what is worth less.
    fn make_room(&mut self, peer: PeerId, address: &Multiaddr, source: Source) -> bool {
        if let Some(entry) = self.peers.get_mut(&peer) {
            if entry.addresses.len() >= ADDRESSES_PER_PEER {
                let Some(worst) = entry.least_useful() else { return false };
                entry.addresses.remove(worst);
                self.count -= 1;
            }
        } else if source == Source::Announced {
            // One host may not fill the book with strangers.
            let host = ip_of(address);
            let strangers = self.peers.values().filter(|entry| {
                !entry.proven && entry.addresses.iter().any(|known| ip_of(&known.address) == host)
            });
            if strangers.count() >= STRANGERS_PER_HOST {
                return false;
            }
        }
        while self.count >= ADDRESSES_MAX {
            let victim = self
                .peers
                .iter()
                .filter(|(other, entry)| {
                    **other != peer && entry.state == State::Away && !entry.is_configured()
                })
                .min_by_key(|(_, entry)| (entry.proven, entry.attempts == 0, entry.seen))
                .map(|(victim, _)| *victim);
            let Some(victim) = victim else { return false };
            self.forget(&victim);
        }
        true
    }

    /// Whether the configuration names a device.
    pub(super) fn is_configured(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(Entry::is_configured)
    }

    /// A device is dialled no more.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        if let Some(entry) = self.peers.remove(peer) {
            self.count -= entry.addresses.len();
        }
    }

    /// A connection to `peer` stands; `dialed` is where we found it, if we did.
    pub(super) fn connected(&mut self, peer: &PeerId, dialed: Option<&Multiaddr>, now: Instant) {
        if let Some(address) = dialed {
            self.learn(*peer, address, Source::Peer, now);
            self.supersede(peer, address);
            if let Some(known) = dialable(address).and_then(|known| self.known_mut(peer, &known)) {
                known.proven = Some(now);
            }
        }
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.state = State::Connected;
            entry.proven = true;
            entry.seen = now;
        }
    }

    /// The last connection to `peer` is gone. `lived` is how long its last link was up.
    pub(super) fn lost(&mut self, peer: &PeerId, lived: Duration, now: Instant) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        if lived >= LINK_STABLE {
            entry.attempts = 0;
            entry.wanted = now;
        }
        if entry.state == State::Connected {
            entry.state = State::Away;
            entry.dial_at = now + entry.pause(now);
            entry.attempts = entry.attempts.saturating_add(1);
        }
    }

    /// Every address of the dial failed, or its time is over.
    pub(super) fn failed(&mut self, peer: &PeerId, now: Instant) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        if entry.state == State::Dialing {
            entry.state = State::Away;
            entry.attempts = entry.attempts.saturating_add(1);
            entry.dial_at = now.max(entry.dialed.unwrap_or(now) + entry.pause(now));
        }
    }

    /// Somebody else is at `address`.
    pub(super) fn disprove(&mut self, peer: &PeerId, address: &Multiaddr) {
        let Some(address) = dialable(address) else { return };
        let Some(entry) = self.peers.get_mut(peer) else { return };
        let before = entry.addresses.len();
        entry
            .addresses
            .retain(|known| known.address != address || known.source == Source::Configured);
        self.count -= before - entry.addresses.len();
        if entry.addresses.is_empty() {
            self.peers.remove(peer);
        }
    }

    /// A device is not to be dialled any more, unless the configuration says so.
    pub(super) fn drop_unless_configured(&mut self, peer: &PeerId) {
        if self.peers.get(peer).is_some_and(|entry| !entry.is_configured()) {
            self.forget(peer);
        }
    }

    /// An address is no longer in the configuration.
    pub(super) fn unconfigure(&mut self, peer: &PeerId, address: &Multiaddr) {
        if let Some(known) = dialable(address).and_then(|address| self.known_mut(peer, &address)) {
            known.source = Source::Announced;
        }
    }

    /// Leaves `peer` alone for [`REFUSED_FOR`].
    pub(super) fn refuse(&mut self, peer: &PeerId, now: Instant) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.refused_until = Some(now + REFUSED_FOR);
        }
    }

    /// Leaves `peer` alone for as long as it refuses us; `None` ends that.
    pub(super) fn hold(&mut self, peer: &PeerId, until: Option<Instant>) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.refused_until = until;
        }
    }

    /// Whether anything is known of `peer`.
    pub(super) fn knows(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// Peers to dial now, at most `room`: configured ones first, then those that were connected
    /// before, then the strangers heard of last.
    pub(super) fn due(&mut self, now: Instant, room: usize) -> Vec<Due> {
        let mut due: Vec<_> = self
            .peers
            .iter_mut()
            .filter(|(_, entry)| entry.next_dial().is_some_and(|at| at <= now))
            .collect();
        due.sort_by_key(|(_, entry)| {
            std::cmp::Reverse((entry.is_configured(), entry.proven, entry.seen))
        });
        due.truncate(room);
        due.into_iter()
            .map(|(peer, entry)| {
                entry.state = State::Dialing;
                entry.dialed = Some(now);
                let addresses = || entry.addresses.iter().map(|known| known.address.clone());
                let (circuits, direct): (Vec<_>, Vec<_>) = addresses().partition(is_circuit);
                let (tcp, quic) = direct.into_iter().partition(is_tcp);
                let lan = circuits.is_empty()
                    && addresses().all(|address| ip_of(&address).is_some_and(is_lan));
                let timeout = if lan { DIAL_LAN } else { DIAL_WAN };
                Due { peer: *peer, tcp, quic, circuits, timeout }
            })
            .collect()
    }

    /// When [`AddressBook::due`] will have something.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.peers.values().filter_map(Entry::next_dial).min()
    }

    /// Forgets strangers that went silent and refusals that are over.
    pub(super) fn expire(&mut self, now: Instant) {
        let silent: Vec<_> = self
            .peers
            .iter_mut()
            .filter_map(|(peer, entry)| {
                entry.refused_until = entry.refused_until.filter(|until| *until > now);
                let stranger = !entry.proven && !entry.is_configured();
                let silent = now.saturating_duration_since(entry.seen) > STRANGER_TTL;
                (stranger && silent && entry.state == State::Away).then_some(*peer)
            })
            .collect();
        for peer in silent {
            self.forget(&peer);
        }
    }
}

impl Entry {
    fn next_dial(&self) -> Option<Instant> {
        match self.state {
            State::Away => Some(self.refused_until.map_or(self.dial_at, |t| t.max(self.dial_at))),
            State::Dialing | State::Connected => None,
        }
    }
}

/// The IP address that a multiaddr begins with.
pub(super) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// Whether a multiaddr is plain TCP (else, among dialable ones, QUIC).
pub(super) fn is_tcp(address: &Multiaddr) -> bool {
    matches!(address.iter().nth(1), Some(Protocol::Tcp(_))) && !is_circuit(address)
}

/// Whether a multiaddr is QUIC.
pub(super) fn is_quic(address: &Multiaddr) -> bool {
    matches!(address.iter().nth(2), Some(Protocol::QuicV1)) && !is_circuit(address)
}

/// Whether an address belongs to this machine or to a local network.
pub(super) fn is_lan(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// The addresses that we dial, without a trailing peer id: a host, then TCP, QUIC version 1 or
/// secure websocket, then perhaps a relay.
pub(super) fn dialable(address: &Multiaddr) -> Option<Multiaddr> {
    let mut parts: Vec<_> = address.iter().collect();
    if matches!(parts.last(), Some(Protocol::P2p(_))) {
        parts.pop();
    }
    let host = match parts.first()? {
        Protocol::Ip4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        // A link-local address needs its zone, which a multiaddr of a peer does not carry.
        Protocol::Ip6(ip) => {
            *ip != Ipv6Addr::UNSPECIFIED && !ip.is_multicast() && !ip.is_unicast_link_local()
        }
        Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) => true,
        _ => false,
    };
    if let [.., Protocol::P2p(_), Protocol::P2pCircuit] = parts.as_slice() {
        let relay: Multiaddr = parts[..parts.len() - 2].iter().cloned().collect();
        return dialable(&relay)
            .filter(|relay| !is_circuit(relay))
            .map(|_| parts.into_iter().collect());
    }
    let port = match &parts[1..] {
        [Protocol::Tcp(port), Protocol::Tls, Protocol::Ws(_)]
        | [Protocol::Tcp(port)]
        | [Protocol::Udp(port), Protocol::QuicV1] => *port,
        _ => 0,
    };
    (host && port != 0).then(|| parts.into_iter().collect())
}

/// Whether a device at this address is dialled: a host, then TCP, QUIC version 1 or secure websocket.
#[must_use]
pub fn is_dialled(address: &Multiaddr) -> bool {
    dialable(address).is_some()
}

/// The port of a TCP or UDP multiaddr.
pub(super) fn port_of(address: &Multiaddr) -> Option<u16> {
    match address.iter().nth(1)? {
        Protocol::Tcp(port) | Protocol::Udp(port) => Some(port),
        _ => None,
    }
}

/// `/ip…/tcp/port`.
pub(super) fn tcp(ip: IpAddr, port: u16) -> Multiaddr {
    Multiaddr::from(ip).with(Protocol::Tcp(port))
}

/// `/ip…/udp/port/quic-v1`.
pub(super) fn quic(ip: IpAddr, port: u16) -> Multiaddr {
    Multiaddr::from(ip).with(Protocol::Udp(port)).with(Protocol::QuicV1)
}

/// The peer id at the end of a multiaddr.
pub(super) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last()? {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    }
}

/// IPv4 addresses among the listen addresses `addresses`.
pub(super) fn ipv4_of(addresses: &BTreeSet<Multiaddr>) -> BTreeSet<std::net::Ipv4Addr> {
    addresses
        .iter()
        .filter_map(|address| match ip_of(address)? {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer greater than the local one, so that nothing is delayed by courtesy.
    fn book() -> (AddressBook, PeerId, Instant) {
        let (a, b) = (PeerId::random(), PeerId::random());
        (AddressBook::new(a.min(b)), a.max(b), Instant::now())
    }

    fn address(host: u8, port: u16) -> Multiaddr {
        tcp(IpAddr::from([10, 0, 0, host]), port)
    }

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn a_lost_peer_is_dialled_at_once_then_every_second_then_rarely() {
        let (mut book, peer, start) = book();
        book.learn(peer, &address(1, 1), Source::Announced, start);
        assert_eq!(book.due(start, 9).len(), 1);
        book.connected(&peer, Some(&address(1, 1)), start);
        assert!(book.next_due().is_none());

        let mut now = after(start, 60_000);
        book.lost(&peer, Duration::from_secs(60), now);
        let lost = now;
        let mut pauses = Vec::new();
        for _ in 0..400 {
            let due = book.next_due().unwrap();
            pauses.push(due - now);
            now = due;
            assert_eq!(book.due(now, 9)[0].peer, peer);
            book.failed(&peer, now);
        }
        assert_eq!(pauses[..4], [0, 1_000, 1_000, 1_000].map(Duration::from_millis));
        assert!(pauses.iter().all(|pause| *pause <= PAUSE_MAX));
        let dials = |from: u64, to: u64| {
            let mut at = lost;
            let times = pauses.iter().map(|pause| {
                at += *pause;
                (at - lost).as_secs()
            });
            times.filter(|time| (from..to).contains(time)).count()
        };
        assert!(dials(0, 120) >= 119);
        assert!((115..=125).contains(&dials(3_600, 7_200)), "{}", dials(3_600, 7_200));
    }

    #[test]
    fn a_link_that_keeps_dying_young_is_not_answered_at_once() {
        let (mut book, peer, start) = book();
        book.learn(peer, &address(1, 1), Source::Announced, start);
        let mut now = start;
        let mut dials = 0;
        while now < after(start, 600_000) {
            now = book.next_due().unwrap().max(now);
            book.due(now, 9);
            book.connected(&peer, Some(&address(1, 1)), now);
            book.lost(&peer, Duration::from_millis(5), now);
            dials += 1;
        }
        assert!(dials < 220, "{dials}");
    }

    #[test]
    fn a_sign_of_life_ends_a_long_pause_but_not_too_often() {
        let (mut book, peer, start) = book();
        book.learn(peer, &address(1, 1), Source::Announced, start);
        let mut now = start;
        for _ in 0..12 {
            now = book.next_due().unwrap().max(now);
            book.due(now, 9);
            book.failed(&peer, now);
        }
        assert!(book.next_due().unwrap() > after(now, 10_000));
        let heard = after(now, 5_000);
        book.learn(peer, &address(1, 1), Source::Announced, heard);
        assert!(book.next_due().unwrap() <= heard);
        book.due(heard, 9);
        book.failed(&peer, heard);
        book.learn(peer, &address(1, 1), Source::Announced, heard);
        assert!(book.next_due().unwrap() >= after(heard, 500));
    }

    #[test]
    fn everything_is_bounded_and_what_is_proven_stays() {
        let (mut book, peer, start) = book();
        book.learn(peer, &address(1, 1), Source::Announced, start);
        book.due(start, 9);
        book.connected(&peer, Some(&address(1, 1)), start);
        book.lost(&peer, Duration::ZERO, start);
        for index in 0..2_000_u16 {
            let now = after(start, 10 + u64::from(index));
            // Made-up addresses of the real peer, then made-up peers everywhere.
            book.learn(peer, &address(2, 1 + index), Source::Announced, now);
            let host = tcp(IpAddr::from([10, 1, (index >> 8) as u8, index as u8]), 9);
            book.learn(PeerId::random(), &host, Source::Announced, now);
            assert!(book.len() <= ADDRESSES_MAX);
        }
        let due = book.due(after(start, 5_000), 9);
        assert_eq!(due.len(), 9);
        assert_eq!(due[0].peer, peer, "known peers come first");
        assert_eq!(due[0].tcp.len(), ADDRESSES_PER_PEER);
        assert!(due[0].tcp.contains(&address(1, 1)));
        assert_eq!(due[0].timeout, DIAL_LAN);
    }

    #[test]
    fn one_host_does_not_fill_the_book_with_strangers() {
        let (mut book, _, now) = book();
        for port in 1..1_000 {
            book.learn(PeerId::random(), &address(1, port), Source::Announced, now);
        }
        assert_eq!(book.len(), STRANGERS_PER_HOST);
        assert!(book.learn(PeerId::random(), &address(2, 1), Source::Announced, now));
        book.expire(now + STRANGER_TTL + Duration::from_secs(1));
        assert_eq!(book.len(), 0);
    }

    #[test]
    fn a_peer_that_restarts_with_new_ports_stays_reachable() {
        let (mut book, peer, start) = book();
        for restart in 0..50_u16 {
            let now = after(start, 60_000 * u64::from(restart));
            let fresh = address(1, 1_000 + restart);
            assert!(book.learn(peer, &fresh, Source::Announced, now));
            let before = if restart == 0 { Instance::First } else { Instance::Changed };
            assert_eq!(book.instance(&peer, u64::from(restart), now), before);
            assert_eq!(book.instance(&peer, u64::from(restart), now), Instance::Same);
            let due = book.due(after(now, 500), 9);
            assert!(due[0].tcp.contains(&fresh));
            book.connected(&peer, Some(&fresh), now);
            book.lost(&peer, Duration::from_secs(50), after(now, 50_000));
            assert_eq!(book.len(), 1, "the old ports are forgotten");
        }
    }

    #[test]
    fn only_addresses_that_we_dial_are_kept() {
        for (text, kept) in [
            ("/ip4/10.0.0.1/tcp/1", true),
            ("/ip4/10.0.0.1/udp/1/quic-v1", true),
            ("/dns4/example.org/tcp/7770", true),
            ("/ip6/2001:db8::1/tcp/1", true),
            ("/ip4/10.0.0.1/tcp/0", false),
            ("/ip4/0.0.0.0/tcp/1", false),
            ("/ip4/255.255.255.255/tcp/1", false),
            ("/ip4/224.0.0.251/udp/1/quic-v1", false),
            ("/ip6/fe80::1/tcp/1", false),
            ("/ip4/10.0.0.1/udp/1", false),
            ("/ip4/10.0.0.1/tcp/1/ws", false),
            ("/memory/1", false),
            ("/ip4/10.0.0.1/tcp/1/tls/ws", true),
            (
                "/ip4/8.8.8.8/tcp/1/p2p/12D3KooWGFtEjFFzeGYTrLCNmw4ZBfVJ3j8pjM3Hyh3dm8ude7YG/p2p-circuit",
                true,
            ),
            ("/ip4/8.8.8.8/tcp/1/p2p-circuit", false),
        ] {
            let address: Multiaddr = text.parse().unwrap();
            assert_eq!(dialable(&address).is_some(), kept, "{text}");
            let with_peer = address.with(Protocol::P2p(PeerId::random()));
            assert_eq!(dialable(&with_peer).is_some(), kept, "{text}");
        }
    }
}
