//! Reservations at relays, devices to reach through them, and the way from a relayed link to a
//! direct one.
//!
//! A node reserves at each of its remotes. Devices that use the same one dial each other there;
//! hole punching begins by itself on the relayed connection, and when a direct one stands the
//! link moves to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use hypergolix_engine::input::LinkId;
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, identify};

use super::EventLoop;
use crate::network::address_book::{self, Source};
use crate::network::dial_filter::{DialFilter, is_circuit};
use crate::network::limits::{ADDRESSES_PER_PEER, EXCHANGE_ROLES, EXCHANGES_AGAIN, EXCHANGES_MAX};
use crate::network::nat::{NatRole, Reach, relay_of};

/// Pauses between attempts to reserve at a relay: 1, 2, 4 s and so on up to this.
const RESERVE_PAUSE_MAX: Duration = Duration::from_secs(60);

/// A reservation at one relay.
struct Reservation {
    listener: Option<ListenerId>,
    /// How peers dial us there, once the relay has agreed.
    circuit: Option<Multiaddr>,
    attempts: u32,
    retry_at: Instant,
}

/// What the event loop knows of NATs and relays.
pub(super) struct Nat {
    pub(super) role: NatRole,
    pub(super) filter: DialFilter,
    /// Whether the remotes see us at an address that is not ours; none before the first said so.
    translated: Option<bool>,
    reservations: HashMap<PeerId, Reservation>,
    /// Relayed connections to be tried from our side: when, who, at which relay.
    exchanges: Vec<(Instant, PeerId, PeerId, usize)>,
    /// Addresses of ours that a test confirmed.
    external: BTreeSet<Multiaddr>,
}

impl Nat {
    pub(super) fn new(role: NatRole, filter: DialFilter) -> Self {
        Self {
            role,
            filter,
            translated: None,
            reservations: HashMap::new(),
            exchanges: Vec::new(),
            external: BTreeSet::new(),
        }
    }

    fn is_client(&self) -> bool {
        self.role == NatRole::Client
    }

    /// Whether a QUIC connection to a remote at `address` is worth keeping beside the link's: it
    /// keeps the NAT's UDP mapping, and the remote sees and says where that is.
    pub(super) fn wants_spare(&self, address: &Multiaddr) -> bool {
        self.is_client() && self.translated != Some(false) && !self.filter.is_near(address)
    }

    fn circuits(&self) -> Vec<Multiaddr> {
        self.reservations.values().filter_map(|reservation| reservation.circuit.clone()).collect()
    }
}

/// An address, through the relay there.
fn circuit_at(address: &Multiaddr, relay: PeerId) -> Multiaddr {
    let mut parts: Vec<_> = address.iter().collect();
    if matches!(parts.last(), Some(Protocol::P2p(_))) {
        parts.pop();
    }
    let at: Multiaddr = parts.into_iter().collect();
    at.with(Protocol::P2p(relay)).with(Protocol::P2pCircuit)
}

impl EventLoop {
    /// How a connection goes.
    pub(super) fn reach_of(&self, address: &Multiaddr) -> Reach {
        if is_circuit(address) {
            Reach::Relayed
        } else if self.nat.filter.is_near(address) {
            Reach::Lan
        } else {
            Reach::Direct
        }
    }

    /// Where we dialled a relay that we are connected to.
    fn address_of_relay(&self, relay: &PeerId) -> Option<Multiaddr> {
        let connections = self.peers.get(relay)?.connections.values();
        let dialed = connections.filter(|connection| connection.dialed);
        let best = dialed.max_by_key(|connection| address_book::is_tcp(&connection.address))?;
        Some(best.address.clone())
    }

    /// A device is to be reached through the persister of a link.
    pub(super) fn on_reach(&mut self, via: LinkId, device: PeerId, now: Instant) {
        let linked =
            |peer: &super::Peer| peer.link.as_ref().is_some_and(|current| current.link.id == via);
        let Some(relay) = self.peers.iter().find(|(_, peer)| linked(peer)).map(|(id, _)| *id)
        else {
            return;
        };
        if !self.nat.is_client() || device == relay {
            return;
        }
        let Some(address) = self.address_of_relay(&relay) else { return };
        if address_book::ip_of(&address).is_some_and(|ip| ip.is_loopback()) {
            return;
        }
        let circuit = circuit_at(&address, relay);
        tracing::debug!(peer = %device, %circuit, "heard of at a persister");
        self.learn(device, &circuit, Source::Hinted, now);
    }

    /// When a reservation or an exchange of roles is due.
    pub(super) fn next_nat(&self) -> Option<Instant> {
        let waiting = self.nat.reservations.iter().filter(|(relay, reservation)| {
            reservation.listener.is_none() && self.address_of_relay(relay).is_some()
        });
        let reservations = waiting.map(|(_, reservation)| reservation.retry_at);
        reservations.chain(self.nat.exchanges.iter().map(|(at, ..)| *at)).min()
    }

    pub(super) fn tick_nat(&mut self, now: Instant) {
        let due: Vec<PeerId> = self
            .nat
            .reservations
            .iter()
            .filter(|(_, reservation)| {
                reservation.listener.is_none() && reservation.retry_at <= now
            })
            .map(|(relay, _)| *relay)
            .collect();
        for relay in due {
            let Some(address) = self.address_of_relay(&relay) else { continue };
            let listening = self.swarm.listen_on(circuit_at(&address, relay));
            let Some(reservation) = self.nat.reservations.get_mut(&relay) else { continue };
            match listening {
                Ok(listener) => reservation.listener = Some(listener),
                Err(error) => tracing::debug!(%relay, %error, "no reservation"),
            }
            reservation.put_off(now);
        }
        let (due, later) =
            std::mem::take(&mut self.nat.exchanges).into_iter().partition(|(at, ..)| *at <= now);
        self.nat.exchanges = later;
        let due: Vec<(Instant, PeerId, PeerId, usize)> = due;
        for (_, peer, relay, attempt) in due {
            self.exchange_roles(peer, relay, attempt, now);
        }
    }

    /// Dials a peer that came to us through a relay, through the same; and some times more while that
    /// leads to nothing better, because what is punched depends on moments.
    fn exchange_roles(&mut self, id: PeerId, relay: PeerId, attempt: usize, now: Instant) {
        let Some(peer) = self.peers.get(&id) else { return };
        let all_relayed = peer.connections.values().all(|connection| {
            is_circuit(&connection.address) && (attempt > 0 || !connection.dialed)
        });
        let Some(address) = self.address_of_relay(&relay).filter(|_| all_relayed) else { return };
        if let Some(pause) = EXCHANGES_AGAIN.get(attempt) {
            self.nat.exchanges.push((now + *pause, id, relay, attempt + 1));
        }
        tracing::debug!(peer = %id, "punching with the roles exchanged");
        self.dial_aside(id, vec![circuit_at(&address, relay)]);
    }

    /// Dials beside whatever connection there is. Nothing hangs on the outcome.
    fn dial_aside(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addresses);
        let opts = opts.build();
        self.swarm.behaviour_mut().links.expect(opts.connection_id());
        if let Err(error) = self.swarm.dial(opts) {
            tracing::debug!(%peer, %error, "not dialled");
        }
    }

    /// A connection stands: perhaps one to a relay, or through one.
    pub(super) fn nat_connected(&mut self, id: PeerId, endpoint: &ConnectedPoint, now: Instant) {
        if !self.nat.is_client() {
            return;
        }
        let address = endpoint.get_remote_address();
        match endpoint {
            ConnectedPoint::Dialer { .. } if !is_circuit(address) && self.is_remote(&id) => {
                let loopback = address_book::ip_of(address).is_some_and(|ip| ip.is_loopback());
                if !loopback {
                    let reservation = self.nat.reservations.entry(id).or_insert(Reservation {
                        listener: None,
                        circuit: None,
                        attempts: 0,
                        retry_at: now,
                    });
                    reservation.retry_at = reservation.retry_at.min(now + Duration::from_secs(1));
                }
            }
            ConnectedPoint::Listener { local_addr, .. } if is_circuit(local_addr) => {
                if let Some(relay) = relay_of(local_addr)
                    && self.nat.exchanges.len() < EXCHANGES_MAX
                    && self.nat.exchanges.iter().all(|(_, other, ..)| *other != id)
                {
                    self.nat.exchanges.push((now + EXCHANGE_ROLES, id, relay, 0));
                }
            }
            _ => {}
        }
    }

    /// A reservation was granted: whether this was one.
    pub(super) fn on_circuit(&mut self, listener: ListenerId, address: &Multiaddr) -> bool {
        if !is_circuit(address) {
            return false;
        }
        let found = self
            .nat
            .reservations
            .iter()
            .find(|(_, reservation)| reservation.listener == Some(listener));
        if let Some(relay) = found.map(|(relay, _)| *relay)
            && let Some(at) = self.address_of_relay(&relay)
            && let Some(reservation) = self.nat.reservations.get_mut(&relay)
        {
            reservation.circuit = Some(circuit_at(&at, relay).with(Protocol::P2p(self.local)));
            reservation.attempts = 0;
            tracing::debug!(%relay, "relayed");
            self.publish();
        }
        true
    }

    /// A listener closed: whether it was a reservation. It is asked for again.
    pub(super) fn on_circuit_closed(&mut self, listener: ListenerId, now: Instant) -> bool {
        for (relay, reservation) in &mut self.nat.reservations {
            if reservation.listener == Some(listener) {
                tracing::debug!(%relay, "a reservation is over");
                (reservation.listener, reservation.circuit) = (None, None);
                reservation.put_off(now);
                self.publish();
                return true;
            }
        }
        false
    }

    /// Only remotes of the configuration are asked to relay.
    pub(super) fn forget_reservations(&mut self) {
        let known: BTreeSet<PeerId> =
            self.remotes.iter().filter_map(|remote| remote.peer).collect();
        self.nat.reservations.retain(|relay, _| known.contains(relay));
    }

    /// A test says that an address of ours works, or no longer does.
    pub(super) fn on_external(&mut self, address: Multiaddr, works: bool) {
        if is_circuit(&address) {
            return;
        }
        tracing::debug!(%address, works, "an external address");
        if works && self.nat.external.len() < ADDRESSES_PER_PEER {
            self.nat.external.insert(address);
        } else {
            self.nat.external.remove(&address);
        }
        self.publish();
    }

    /// A peer said who it is and where it listens.
    pub(super) fn nat_identified(&mut self, id: PeerId, info: &identify::Info, now: Instant) {
        if !self.nat.is_client() {
            return;
        }
        let Some(peer) = self.peers.get(&id) else { return };
        if self.is_remote(&id) {
            if let Some(seen) = address_book::ip_of(&info.observed_addr)
                && !is_circuit(&info.observed_addr)
            {
                let mut own = self.listening.addresses.keys().filter_map(address_book::ip_of);
                self.nat.translated = Some(!own.any(|ip| ip == seen));
            }
            return;
        }
        let relayed = !peer.connections.is_empty()
            && peer.connections.values().all(|connection| is_circuit(&connection.address));
        if !relayed {
            return;
        }
        // It may be public, or in our own network.
        let addresses: Vec<Multiaddr> = info
            .listen_addrs
            .iter()
            .filter_map(address_book::dialable)
            .filter(|address| !is_circuit(address) && self.nat.filter.takes_from_strangers(address))
            .take(ADDRESSES_PER_PEER)
            .collect();
        if addresses.is_empty() {
            return;
        }
        for address in &addresses {
            self.book.learn(id, address, Source::Hinted, now);
        }
        self.book.connected(&id, None, now);
        self.dial_aside(id, addresses);
    }

    /// A connection that only tests whether we, or whoever asked us, can be reached: a server
    /// dials nobody else, and its clients' remotes dial for nothing else.
    pub(super) fn is_test(
        &self,
        id: &PeerId,
        connection: libp2p::swarm::ConnectionId,
        dialer: bool,
    ) -> bool {
        let ours = self.configured.iter().any(|dial| dial.dialing == Some(connection))
            || self.attempts.get(id).is_some_and(|dial| dial.pending.contains(&connection));
        match self.nat.role {
            NatRole::Server(_) => dialer && !ours,
            NatRole::Client => !dialer && (self.is_remote(id) || self.is_visited(id)),
            NatRole::None => false,
        }
    }

    /// Our own addresses: those a test confirmed, and those at relays.
    pub(super) fn own_addresses(&self) -> (Vec<Multiaddr>, Vec<Multiaddr>) {
        (self.nat.external.iter().cloned().collect(), self.nat.circuits())
    }

    /// Says where a server is reached: a reservation without an address is none.
    pub(super) fn announce_listening(&mut self, address: &Multiaddr, listens: bool) {
        let loopback = address_book::ip_of(address).is_none_or(|ip| ip.is_loopback());
        if !matches!(self.nat.role, NatRole::Server(_)) || loopback {
            return;
        }
        if listens {
            self.swarm.add_external_address(address.clone());
        } else {
            self.swarm.remove_external_address(address);
        }
    }

    /// Whether a connection is worth keeping beside the link's: of a persister and a node, one on
    /// QUIC.
    pub(super) fn is_spare(
        &self,
        id: &PeerId,
        connections: &BTreeMap<libp2p::swarm::ConnectionId, super::links::Connection>,
        chosen: libp2p::swarm::ConnectionId,
        other: libp2p::swarm::ConnectionId,
    ) -> bool {
        let address = |connection| connections.get(&connection).map(|state| &state.address);
        let (Some(chosen), Some(spare)) = (address(chosen), address(other)) else { return false };
        let pair = match self.nat.role {
            NatRole::Server(_) => true,
            NatRole::Client => self.is_remote(id) && self.nat.wants_spare(spare),
            NatRole::None => false,
        };
        let first = connections
            .iter()
            .find(|(_, state)| address_book::is_quic(&state.address))
            .map(|(connection, _)| *connection);
        pair && address_book::is_tcp(chosen) && address_book::is_quic(spare) && first == Some(other)
    }
}

impl Reservation {
    fn put_off(&mut self, now: Instant) {
        let pause = Duration::from_secs(1 << self.attempts.min(6)).min(RESERVE_PAUSE_MAX);
        self.attempts = self.attempts.saturating_add(1);
        self.retry_at = now + pause;
    }
}
