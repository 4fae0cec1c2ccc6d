//! The task that owns the swarm: connections, dials, discovery; one link per peer.
//!
//! Of a pair, the device with the smaller peer id opens the link's substream, on the connection
//! it likes best, and closes the others; the other device follows.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use hypergolix_engine::input::LinkId;
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
use libp2p::swarm::behaviour::NewListenAddr;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, FromSwarm, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Stream, Swarm, identify, mdns, ping};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::address_book::{self, AddressBook, Due, Source};
use super::beacon::{Beacon, Heard};
use super::behaviour::{self, Behaviour, BehaviourEvent};
use super::limits::{
    ADDRESSES_PER_PEER, DIALS_MAX, LINK_FRESH, LINK_STABLE, MDNS_ENTRIES, REFUSED_FOR, SHUTDOWN,
    TCP_HEAD_START, TokenBucket,
};
use super::link::{self, End, Ended, Link, Outlet};
use super::substream::{self, Outcome};
use super::wire::LINK_PROTOCOL;
use super::{PeerStatus, Shared};

/// Pauses before a link is opened again on a connection that still stands.
const REOPEN: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// A substream that takes longer to open than this does not stop another attempt.
const OPENING_PATIENCE: Duration = Duration::from_secs(1);

/// Links of one peer: at once, and a second.
const LINKS_BURST: u32 = 10;
const LINKS_RATE: u32 = 1;

/// Pause between two looks at what expired.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// Longest pause between dials of a configured address whose peer id is not known.
const CONFIGURED_PAUSE_MAX: Duration = Duration::from_secs(30);

/// What is known of one connection.
struct Connection {
    address: Multiaddr,
    since: Instant,
}

/// The link of a peer.
struct Current {
    link: Arc<Link>,
    connection: ConnectionId,
    since: Instant,
}

/// A peer with a connection or a link.
struct Peer {
    connections: BTreeMap<ConnectionId, Connection>,
    link: Option<Current>,
    opening: Option<(ConnectionId, Instant)>,
    reopen_at: Option<Instant>,
    reopens: usize,
    /// How long the last link lived.
    lived: Duration,
    links: TokenBucket,
    rtt: Option<Duration>,
}

impl Peer {
    fn new(now: Instant) -> Self {
        Self {
            connections: BTreeMap::new(),
            link: None,
            opening: None,
            reopen_at: None,
            reopens: 0,
            lived: Duration::ZERO,
            links: TokenBucket::new(LINKS_BURST, LINKS_RATE, now),
            rtt: None,
        }
    }

    /// Whether the link's connection stands.
    fn is_linked(&self) -> bool {
        let chosen = self.link.as_ref().map(|current| current.connection);
        chosen.is_some_and(|connection| self.connections.contains_key(&connection))
    }

    fn lived(&self, now: Instant) -> Duration {
        self.link.as_ref().map_or(self.lived, |current| now - current.since)
    }
}

/// One attempt to reach a peer: TCP first, QUIC a little later.
struct Attempt {
    pending: Vec<ConnectionId>,
    quic: Vec<Multiaddr>,
    quic_at: Instant,
    deadline: Instant,
}

/// A configured address without a peer id.
struct Configured {
    address: Multiaddr,
    peer: Option<PeerId>,
    dialing: Option<ConnectionId>,
    attempts: u32,
    dial_at: Instant,
}

/// Where a swarm listens.
#[derive(Default)]
struct Listening {
    addresses: BTreeMap<Multiaddr, ListenerId>,
}

impl Listening {
    fn ports(&self) -> (u16, u16) {
        let port = |tcp: bool| {
            self.addresses
                .keys()
                .filter(|address| address_book::ip_of(address).is_some_and(|ip| ip.is_ipv4()))
                .filter(|address| address_book::is_tcp(address) == tcp)
                .find_map(address_book::port_of)
                .unwrap_or(0)
        };
        (port(true), port(false))
    }
}

/// Owns the swarm.
pub(super) struct EventLoop {
    swarm: Swarm<Behaviour>,
    local: PeerId,
    shared: Arc<Shared>,
    outlet: Arc<Outlet>,
    book: AddressBook,
    peers: HashMap<PeerId, Peer>,
    attempts: HashMap<PeerId, Attempt>,
    configured: Vec<Configured>,
    links: JoinSet<Ended>,
    next_link: u64,
    beacon: Option<Beacon>,
    listening: Listening,
    housekeeping: Instant,
    copies_seen: HashSet<u64>,
}

impl EventLoop {
    pub(super) fn new(
        swarm: Swarm<Behaviour>,
        shared: Arc<Shared>,
        outlet: Outlet,
        beacon: Option<Beacon>,
        peers: &[Multiaddr],
    ) -> Self {
        let now = Instant::now();
        let local = *swarm.local_peer_id();
        let mut book = AddressBook::new(local);
        let mut configured = Vec::new();
        for address in peers {
            match address_book::peer_of(address) {
                Some(peer) => {
                    book.learn(peer, address, Source::Configured, now);
                }
                None => configured.push(Configured {
                    address: address.clone(),
                    peer: None,
                    dialing: None,
                    attempts: 0,
                    dial_at: now,
                }),
            }
        }
        Self {
            swarm,
            local,
            shared,
            outlet: Arc::new(outlet),
            book,
            peers: HashMap::new(),
            attempts: HashMap::new(),
            configured,
            links: JoinSet::new(),
            next_link: 1,
            beacon,
            listening: Listening::default(),
            housekeeping: now + HOUSEKEEPING,
            copies_seen: HashSet::new(),
        }
    }

    /// Runs until `stop`, then writes what is queued for at most [`SHUTDOWN`].
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            self.tick(Instant::now());
            let wake = self.next_wake();
            let beacon = async {
                match &mut self.beacon {
                    Some(beacon) => beacon.heard().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = self.links.join_next() => match ended {
                    Ok(ended) => self.on_link_end(&ended, Instant::now()),
                    Err(error) => tracing::error!(%error, "a link's task failed"),
                },
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                heard = beacon => match heard {
                    Some(heard) => self.on_beacon(heard),
                    None => self.beacon = None,
                },
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
        for link in self.shared.links().values() {
            link.end(End::Shutdown);
        }
        let drain = async {
            while !self.links.is_empty() {
                tokio::select! {
                    _ = self.links.join_next() => {}
                    _ = self.swarm.select_next_some() => {}
                }
            }
            // The goodbye of a connection carries what its substreams wrote last.
            let connected: Vec<_> = self.swarm.connected_peers().copied().collect();
            for peer in connected {
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            while self.swarm.network_info().num_peers() > 0 {
                self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(SHUTDOWN, drain).await;
        self.shared.links().clear();
    }

    /// Whether the link of this pair is ours to open.
    fn we_open(&self, peer: &PeerId) -> bool {
        self.local < *peer
    }

    // Time

    fn next_wake(&self) -> Instant {
        let mut wake = self.housekeeping;
        if self.attempts.len() < DIALS_MAX {
            wake = self.book.next_due().map_or(wake, |at| at.min(wake));
        }
        for attempt in self.attempts.values() {
            let quic = (!attempt.quic.is_empty()).then_some(attempt.quic_at);
            wake = wake.min(attempt.deadline).min(quic.unwrap_or(wake));
        }
        for configured in &self.configured {
            if configured.peer.is_none() && configured.dialing.is_none() {
                wake = wake.min(configured.dial_at);
            }
        }
        for peer in self.peers.values() {
            wake = wake.min(peer.reopen_at.unwrap_or(wake));
        }
        wake
    }

    fn tick(&mut self, now: Instant) {
        let late: Vec<_> = self
            .attempts
            .iter()
            .filter(|(_, attempt)| attempt.deadline <= now)
            .map(|(peer, _)| *peer)
            .collect();
        for peer in late {
            // Aborts the pending dials; there is no connection, or the attempt would be over.
            self.attempts.remove(&peer);
            let _ = self.swarm.disconnect_peer_id(peer);
            self.book.failed(&peer, now);
        }
        let behind: Vec<_> = self
            .attempts
            .iter_mut()
            .filter(|(_, attempt)| !attempt.quic.is_empty() && attempt.quic_at <= now)
            .map(|(peer, attempt)| (*peer, std::mem::take(&mut attempt.quic)))
            .collect();
        for (peer, quic) in behind {
            self.dial(peer, quic, false, now);
        }
        let room = DIALS_MAX.saturating_sub(self.attempts.len());
        if room > 0 {
            for due in self.book.due(now, room) {
                self.attempt(due, now);
            }
        }
        self.dial_configured(now);
        let reopen: Vec<_> = self
            .peers
            .iter_mut()
            .filter(|(_, peer)| peer.reopen_at.is_some_and(|at| at <= now))
            .map(|(id, peer)| {
                peer.reopen_at = None;
                *id
            })
            .collect();
        for peer in reopen {
            self.open_link(peer, now);
        }
        if self.housekeeping <= now {
            self.housekeeping = now + HOUSEKEEPING;
            self.book.expire(now);
            self.bound_mdns();
            self.publish();
        }
    }

    // Dialling

    fn attempt(&mut self, due: Due, now: Instant) {
        let Due { peer, tcp, quic, timeout } = due;
        let quic_at = if tcp.is_empty() { now } else { now + TCP_HEAD_START };
        let attempt = Attempt { pending: Vec::new(), quic, quic_at, deadline: now + timeout };
        self.attempts.insert(peer, attempt);
        if tcp.is_empty() {
            let quic = self.attempts.get_mut(&peer).map(|a| std::mem::take(&mut a.quic));
            self.dial(peer, quic.unwrap_or_default(), false, now);
        } else {
            self.dial(peer, tcp, true, now);
        }
    }

    /// Dials some addresses of a peer at once. TCP uses a fresh port: the old one may still
    /// belong to a dead connection.
    fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, tcp: bool, now: Instant) {
        let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addresses);
        let opts = if tcp { opts.allocate_new_port().build() } else { opts.build() };
        let connection = opts.connection_id();
        match self.swarm.dial(opts) {
            Ok(()) => {
                if let Some(attempt) = self.attempts.get_mut(&peer) {
                    attempt.pending.push(connection);
                }
            }
            Err(error) => {
                tracing::debug!(%peer, %error, "not dialled");
                self.attempt_over(peer, now);
            }
        }
    }

    fn dial_configured(&mut self, now: Instant) {
        for configured in &mut self.configured {
            if configured.peer.is_some_and(|peer| !self.book.knows(&peer)) {
                configured.peer = None;
            }
            let idle = configured.peer.is_none() && configured.dialing.is_none();
            if !idle || configured.dial_at > now {
                continue;
            }
            let address = configured.address.clone();
            let opts = DialOpts::unknown_peer_id().address(address).allocate_new_port().build();
            let connection = opts.connection_id();
            match self.swarm.dial(opts) {
                Ok(()) => configured.dialing = Some(connection),
                Err(_) => configured.pause(now),
            }
        }
    }

    /// A dial of the attempt failed: QUIC is next, or the attempt is over.
    fn attempt_over(&mut self, peer: PeerId, now: Instant) {
        let Some(attempt) = self.attempts.get_mut(&peer) else { return };
        if !attempt.pending.is_empty() {
            return;
        }
        let quic = std::mem::take(&mut attempt.quic);
        if quic.is_empty() {
            self.attempts.remove(&peer);
            self.book.failed(&peer, now);
        } else {
            self.dial(peer, quic, false, now);
        }
    }

    // The swarm

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        let now = Instant::now();
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event, now),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, &endpoint, now);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, .. } => {
                self.on_closed(peer_id, connection_id, now);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.on_dial_error(connection_id, &error, now);
            }
            SwarmEvent::NewListenAddr { listener_id, address } => {
                tracing::debug!(%address, "listening");
                self.listening.addresses.insert(address, listener_id);
                self.on_listening();
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.listening.addresses.remove(&address);
                self.on_listening();
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::warn!(?addresses, ?reason, "a listener closed");
                for address in addresses {
                    self.listening.addresses.remove(&address);
                }
                self.on_listening();
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(from = %send_back_addr, %error, "an inbound connection failed");
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::debug!(%error, "a listener had an error");
            }
            // The rest says nothing that we act on; the enum is open upstream.
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent, now: Instant) {
        match event {
            BehaviourEvent::Links(substream::Event { peer, connection, outcome }) => {
                self.on_substream(peer, connection, outcome, now);
            }
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identified(peer_id, &info, now);
            }
            BehaviourEvent::Ping(ping::Event { peer, result: Ok(rtt), .. }) => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.rtt = Some(rtt);
                }
                self.publish();
            }
            BehaviourEvent::Ping(ping::Event { peer, connection, result: Err(error) }) => {
                if matches!(error, ping::Failure::Timeout) {
                    tracing::debug!(%peer, "a connection does not answer");
                    self.swarm.close_connection(connection);
                }
            }
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    self.learn(peer, &address, Source::Announced, now);
                }
                self.bound_mdns();
            }
            BehaviourEvent::Mdns(mdns::Event::Expired(_)) | BehaviourEvent::Identify(_) => {}
        }
    }

    fn learn(&mut self, peer: PeerId, address: &Multiaddr, source: Source, now: Instant) {
        if !self.swarm.behaviour().links.refuses(&peer)
            && self.book.learn(peer, address, source, now)
        {
            tracing::debug!(%peer, %address, "found");
        }
    }

    fn on_connected(
        &mut self,
        id: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
        now: Instant,
    ) {
        self.attempts.remove(&id);
        let address = endpoint.get_remote_address().clone();
        self.book.connected(&id, endpoint.is_dialer().then_some(&address), now);
        for configured in &mut self.configured {
            if configured.dialing == Some(connection) {
                configured.dialing = None;
                configured.attempts = 0;
                configured.peer = Some(id);
            }
        }
        tracing::debug!(peer = %id, %address, dialer = endpoint.is_dialer(), "connected");
        let peer = self.peers.entry(id).or_insert_with(|| Peer::new(now));
        peer.connections.insert(connection, Connection { address, since: now });
        if self.local < id {
            let age = peer.link.as_ref().map(|current| now - current.since);
            if peer.is_linked() && age.is_some_and(|age| age < LINK_FRESH) {
                self.close_connection(id, connection);
            } else if peer.opening.is_none_or(|(_, since)| now - since > OPENING_PATIENCE) {
                peer.reopen_at = None;
                peer.opening = Some((connection, now));
                self.swarm.behaviour_mut().links.open(id, connection);
            }
        }
        self.publish();
    }

    /// Closes one connection and counts it as gone.
    fn close_connection(&mut self, id: PeerId, connection: ConnectionId) {
        self.swarm.close_connection(connection);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.connections.remove(&connection);
        }
    }

    /// Closes every connection of a peer and counts it as gone, so that dialling begins at once.
    fn disconnect(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        for connection in std::mem::take(&mut peer.connections).into_keys() {
            self.swarm.close_connection(connection);
        }
        self.on_alone(id, now);
    }

    fn on_closed(&mut self, id: PeerId, connection: ConnectionId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.connections.remove(&connection).is_none() {
            return;
        }
        if peer.opening.is_some_and(|(opening, _)| opening == connection) {
            peer.opening = None;
            peer.reopen_at = Some(now);
        }
        if let Some(current) = &peer.link
            && current.connection == connection
        {
            current.link.connection_gone();
        }
        if peer.connections.is_empty() {
            self.on_alone(id, now);
        }
        self.publish();
    }

    /// A peer has no connection any more.
    fn on_alone(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.opening = None;
        peer.reopen_at = None;
        self.book.lost(&id, peer.lived(now), now);
        if let Some(current) = &peer.link {
            current.link.connection_gone();
        } else {
            self.peers.remove(&id);
        }
        if let Some(beacon) = &self.beacon {
            beacon.hurry();
        }
    }

    fn on_dial_error(&mut self, connection: ConnectionId, error: &DialError, now: Instant) {
        tracing::trace!(%error, "a dial failed");
        for configured in &mut self.configured {
            if configured.dialing == Some(connection) {
                configured.dialing = None;
                configured.pause(now);
            }
        }
        let found = self.attempts.iter_mut().find_map(|(peer, attempt)| {
            let index = attempt.pending.iter().position(|pending| *pending == connection)?;
            attempt.pending.remove(index);
            Some(*peer)
        });
        let Some(peer) = found else { return };
        if let DialError::WrongPeerId { address, .. } | DialError::LocalPeerId { address } = error {
            self.book.disprove(&peer, address);
            for configured in &mut self.configured {
                if address_book::dialable(address).as_ref() == Some(&configured.address) {
                    configured.peer = None;
                }
            }
        }
        self.attempt_over(peer, now);
    }

    // Links

    /// Opens the link on the best connection: TCP before QUIC, the newest of them.
    fn open_link(&mut self, id: PeerId, now: Instant) {
        if !self.we_open(&id) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.opening.is_some() || peer.is_linked() {
            return;
        }
        let best = peer.connections.iter().max_by_key(|(_, connection)| {
            (address_book::is_tcp(&connection.address), connection.since)
        });
        if let Some((connection, _)) = best {
            let connection = *connection;
            peer.opening = Some((connection, now));
            self.swarm.behaviour_mut().links.open(id, connection);
        }
    }

    fn on_substream(
        &mut self,
        id: PeerId,
        connection: ConnectionId,
        outcome: Outcome,
        now: Instant,
    ) {
        let we_open = self.we_open(&id);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if !peer.connections.contains_key(&connection) {
            return;
        }
        let ours = peer.opening.is_some_and(|(opening, _)| opening == connection);
        match outcome {
            Outcome::Opened(stream) if ours => {
                peer.opening = None;
                self.start_link(id, connection, stream, now);
            }
            Outcome::Failed { foreign: true } => self.refuse_foreign(id, now),
            Outcome::Failed { foreign: false } if ours => {
                peer.opening = None;
                self.reopen_later(id, now);
            }
            Outcome::Accepted(stream) if !we_open && peer.links.try_take(now) => {
                self.start_link(id, connection, stream, now);
            }
            Outcome::Opened(_) | Outcome::Failed { .. } | Outcome::Accepted(_) => {}
        }
    }

    fn start_link(&mut self, id: PeerId, connection: ConnectionId, stream: Stream, now: Instant) {
        let we_open = self.we_open(&id);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let previous = peer.link.take().map(|current| current.link);
        if let Some(previous) = &previous {
            previous.end(End::Replaced);
        }
        let link = Link::new(LinkId(self.next_link), id);
        self.next_link += 1;
        self.shared.links().insert(link.id, Arc::clone(&link));
        tracing::info!(peer = %id, link = link.id.0, "link up");
        let outlet = Arc::clone(&self.outlet);
        self.links.spawn(link::run(Arc::clone(&link), stream, previous, outlet));
        peer.link = Some(Current { link, connection, since: now });
        peer.reopen_at = None;

        // The opener closes all other connections; the other side those that the link outlived.
        let since = peer.connections.get(&connection).map_or(now, |chosen| chosen.since);
        let surplus: Vec<_> = peer
            .connections
            .iter()
            .filter(|(other, state)| {
                **other != connection && (we_open || state.since + LINK_FRESH < since)
            })
            .map(|(other, _)| *other)
            .collect();
        for other in surplus {
            self.close_connection(id, other);
        }
        self.publish();
    }

    fn reopen_later(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.reopen_at = Some(now + REOPEN[peer.reopens.min(REOPEN.len() - 1)]);
        peer.reopens += 1;
    }

    fn on_link_end(&mut self, ended: &Ended, now: Instant) {
        let id = ended.link.peer;
        tracing::info!(peer = %id, link = ended.link.id.0, reason = ?ended.end, "link down");
        self.shared.links().remove(&ended.link.id);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if ended.end == End::Misbehaved {
            self.swarm.behaviour_mut().links.refuse(id, REFUSED_FOR);
            self.book.refuse(&id, now);
        }
        let current = peer.link.take_if(|current| current.link.id == ended.link.id);
        if current.is_some() {
            peer.lived = ended.lived;
            if ended.lived >= LINK_STABLE {
                peer.reopens = 0;
            }
            match ended.end {
                End::Lost => self.reopen_later(id, now),
                End::Closed | End::Overflow => self.disconnect(id, now),
                End::Misbehaved | End::Replaced | End::Shutdown => {}
            }
        }
        if ended.end == End::Misbehaved {
            self.disconnect(id, now);
        }
        if self
            .peers
            .get(&id)
            .is_some_and(|peer| peer.connections.is_empty() && peer.link.is_none())
        {
            self.peers.remove(&id);
        }
        self.publish();
    }

    /// A peer of the LAN that is not one of us: others use mDNS and libp2p too.
    fn refuse_foreign(&mut self, id: PeerId, now: Instant) {
        tracing::debug!(peer = %id, "does not speak the link protocol");
        self.swarm.behaviour_mut().links.refuse(id, REFUSED_FOR);
        self.book.refuse(&id, now);
        self.disconnect(id, now);
    }

    fn on_identified(&mut self, id: PeerId, info: &identify::Info, now: Instant) {
        if !info.protocols.contains(&LINK_PROTOCOL) {
            self.refuse_foreign(id, now);
            return;
        }
        let here =
            |address: &Multiaddr| address_book::ip_of(address).is_some_and(|ip| ip.is_loopback());
        let neighbour = self
            .peers
            .get(&id)
            .is_some_and(|peer| peer.connections.values().any(|known| here(&known.address)));
        let addresses = info.listen_addrs.iter().filter(|address| neighbour || !here(address));
        for address in addresses.take(ADDRESSES_PER_PEER) {
            self.learn(id, address, Source::Peer, now);
        }
        // It may have come to us before we knew where it listens.
        if self.peers.get(&id).is_some_and(|peer| !peer.connections.is_empty()) {
            self.book.connected(&id, None, now);
        }
    }

    // Discovery

    fn on_beacon(&mut self, heard: Heard) {
        let now = Instant::now();
        let peer = heard.peer;
        if peer == self.local {
            if self.copies_seen.len() < 8 && self.copies_seen.insert(heard.instance) {
                tracing::warn!(from = %heard.from, "another node uses our device key");
            }
            return;
        }
        let ip = heard.from.ip();
        let tcp = (heard.tcp != 0).then(|| address_book::tcp(ip, heard.tcp));
        let quic = (heard.quic != 0).then(|| address_book::quic(ip, heard.quic));
        for address in tcp.iter().chain(&quic) {
            self.learn(peer, address, Source::Announced, now);
        }
        let restarted = self.book.instance(&peer, heard.instance, now);
        let unknown = restarted || !self.peers.get(&peer).is_some_and(Peer::is_linked);
        if heard.asks
            && unknown
            && !self.swarm.behaviour().links.refuses(&peer)
            && let Some(beacon) = &self.beacon
        {
            beacon.answer(heard);
        }
    }

    fn on_listening(&mut self) {
        if let Some(beacon) = &self.beacon {
            let addresses: BTreeSet<_> = self.listening.addresses.keys().cloned().collect();
            let (tcp, quic) = self.listening.ports();
            beacon.listen(address_book::ipv4_of(&addresses), tcp, quic);
        }
        self.publish();
    }

    /// The mDNS library keeps every announcement that it hears for as long as that says.
    fn bound_mdns(&mut self) {
        let mdns = &mut self.swarm.behaviour_mut().mdns;
        if mdns.as_ref().is_none_or(|mdns| mdns.discovered_nodes().len() < MDNS_ENTRIES) {
            return;
        }
        tracing::warn!("too many mDNS announcements; beginning anew");
        *mdns = behaviour::responder(self.local).into();
        for (address, listener) in &self.listening.addresses {
            mdns.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr {
                listener_id: *listener,
                addr: address,
            }));
        }
    }

    // Status

    fn publish(&self) {
        let peers = self
            .peers
            .iter()
            .filter_map(|(id, peer)| {
                let current = peer.link.as_ref()?;
                let address = &peer.connections.get(&current.connection)?.address;
                Some(PeerStatus {
                    peer_id: *id,
                    link: current.link.id,
                    address: address.clone(),
                    connected_since: current.since,
                    rtt: peer.rtt,
                    queued: current.link.queued(),
                    connections: peer.connections.len(),
                })
            })
            .collect();
        let mut status = self.shared.status();
        status.listen = self.listening.addresses.keys().cloned().collect();
        status.peers = peers;
        status.addresses = self.book.len();
        status.dials = self.attempts.len();
    }
}

impl Configured {
    fn pause(&mut self, now: Instant) {
        self.attempts = self.attempts.saturating_add(1);
        let pause = Duration::from_secs(1 << self.attempts.min(5));
        self.dial_at = now + pause.min(CONFIGURED_PAUSE_MAX);
    }
}
