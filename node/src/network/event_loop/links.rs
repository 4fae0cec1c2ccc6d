//! Connections and links of peers: one link a peer, opened by the smaller peer id.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hypergolix_engine::input::LinkId;
use libp2p::core::ConnectedPoint;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId, Stream};

use super::EventLoop;
use crate::network::address_book::{self, Source};
use crate::network::dial_filter::{DialFilter, is_circuit};
use crate::network::limits::{LINK_FRESH, LINK_FRESH_WAN, LINK_STABLE, REFUSED_FOR, TokenBucket};
use crate::network::link::{self, End, Ended, Link};
use crate::network::origin::Origin;
use crate::network::substream::Outcome;

/// Pauses before a link is opened again on a connection that still stands.
const REOPEN: [Duration; 5] = [
    Duration::from_millis(50),
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

/// What is known of one connection.
pub(super) struct Connection {
    pub(super) address: Multiaddr,
    /// Whether we opened it.
    pub(super) dialed: bool,
    pub(super) since: Instant,
}

/// The link of a peer.
pub(super) struct Current {
    pub(super) link: Arc<Link>,
    pub(super) connection: ConnectionId,
    pub(super) since: Instant,
}

/// A peer with a connection or a link.
pub(super) struct Peer {
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    pub(super) link: Option<Current>,
    pub(super) opening: Option<(ConnectionId, Instant)>,
    pub(super) reopen_at: Option<Instant>,
    reopens: usize,
    /// Whether a beacon says that the device restarted since the link came up.
    pub(super) restarted: bool,
    /// How long the last link lived.
    pub(super) lived: Duration,
    pub(super) links: TokenBucket,
    pub(super) rtt: Option<Duration>,
    /// Where it listens, as it says, until it has a link.
    pub(super) listens: Vec<Multiaddr>,
}

impl Peer {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            connections: BTreeMap::new(),
            link: None,
            opening: None,
            reopen_at: None,
            reopens: 0,
            restarted: false,
            lived: Duration::ZERO,
            links: TokenBucket::new(LINKS_BURST, LINKS_RATE, now),
            rtt: None,
            listens: Vec::new(),
        }
    }

    /// Whether the link's connection stands.
    pub(super) fn is_linked(&self) -> bool {
        let chosen = self.link.as_ref().map(|current| current.connection);
        chosen.is_some_and(|connection| self.connections.contains_key(&connection))
    }

    /// Whether the link need not move to this new connection: it came up just now, so both
    /// sides dialled, and no sooner on TCP than on QUIC.
    fn has_better_than(&self, new: ConnectionId, filter: &DialFilter, now: Instant) -> bool {
        let address = |id| self.connections.get(&id).map(|connection| &connection.address);
        let Some(current) = self.link.as_ref().filter(|_| self.is_linked()) else { return false };
        let (Some(old), Some(new)) = (address(current.connection), address(new)) else {
            return false;
        };
        let window = match (is_circuit(old), is_circuit(new)) {
            // No reason to leave a direct connection; if it is dead, its pings find out.
            (false, true) => return true,
            // The other side calls with the roles exchanged.
            (true, true) => LINK_STABLE,
            _ if filter.is_near(old) && filter.is_near(new) => LINK_FRESH,
            _ => LINK_FRESH_WAN,
        };
        let fresh = now - current.since < window;
        fresh && !self.restarted && rank(old) >= rank(new)
    }

    pub(super) fn lived(&self, now: Instant) -> Duration {
        self.link.as_ref().map_or(self.lived, |current| now - current.since)
    }
}

/// What a link prefers: TCP to QUIC, and either to a relay.
fn rank(address: &Multiaddr) -> u8 {
    match (is_circuit(address), address_book::is_tcp(address)) {
        (true, _) => 0,
        (false, false) => 1,
        (false, true) => 2,
    }
}

impl EventLoop {
    /// Opens again the links whose pause is over.
    pub(super) fn tick_links(&mut self, now: Instant) {
        let due: Vec<_> = self
            .peers
            .iter_mut()
            .filter(|(_, peer)| peer.reopen_at.is_some_and(|at| at <= now))
            .map(|(id, peer)| {
                peer.reopen_at = None;
                *id
            })
            .collect();
        for peer in due {
            self.open_link(peer, now);
        }
    }

    /// Whether the link of this pair is ours to open.
    pub(super) fn we_open(&self, peer: &PeerId) -> bool {
        self.local < *peer
    }

    pub(super) fn on_connected(
        &mut self,
        id: PeerId,
        connection: ConnectionId,
        endpoint: &ConnectedPoint,
        now: Instant,
    ) {
        let address = match endpoint {
            // The other side's address is its bare peer id; the relay's is ours.
            ConnectedPoint::Listener { local_addr, .. } if is_circuit(local_addr) => {
                local_addr.clone()
            }
            _ => endpoint.get_remote_address().clone(),
        };
        if endpoint.is_dialer() {
            self.dht.dialled.insert(connection, address.clone());
        }
        if self.swarm.behaviour().links.is_linkless(connection) {
            self.linkless.insert(connection, (id, address));
            return;
        }
        if self.is_test(&id, connection, endpoint.is_dialer()) {
            return;
        }
        self.attempts.remove(&id);
        if endpoint.is_dialer() {
            self.swarm.behaviour_mut().places.know(id);
        }
        self.book.connected(&id, endpoint.is_dialer().then_some(&address), now);
        for configured in &mut self.configured {
            if configured.dialing == Some(connection) {
                configured.dialing = None;
                configured.attempts = 0;
                configured.peer = Some(id);
            }
        }
        tracing::debug!(peer = %id, %address, dialer = endpoint.is_dialer(), "connected");
        self.remote_connected(id, connection, now);
        let peer = self.peers.entry(id).or_insert_with(|| Peer::new(now));
        let relayed = is_circuit(&address);
        let dialed = endpoint.is_dialer();
        peer.connections.insert(connection, Connection { address, dialed, since: now });
        self.nat_connected(id, endpoint, now);
        let Some(peer) = self.peers.get(&id) else { return };
        let chosen = peer.link.as_ref().filter(|_| peer.is_linked()).map(|c| c.connection);
        let spare =
            chosen.is_some_and(|chosen| self.is_spare(&id, &peer.connections, chosen, connection));
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if spare {
            self.swarm.behaviour_mut().links.keep(id, connection);
        } else if self.local < id {
            if peer.has_better_than(connection, &self.nat.filter, now) {
                // A relayed one is for hole punching; it ends when it is idle.
                if !relayed {
                    self.close_connection(id, connection);
                }
            } else if peer.opening.is_none_or(|(_, since)| now - since > OPENING_PATIENCE) {
                peer.reopen_at = None;
                peer.opening = Some((connection, now));
                self.swarm.behaviour_mut().links.open(id, connection);
            }
        }
        self.publish();
    }

    /// Closes one connection and counts it as gone.
    pub(super) fn close_connection(&mut self, id: PeerId, connection: ConnectionId) {
        self.swarm.close_connection(connection);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.connections.remove(&connection);
        }
    }

    /// Closes every connection of a peer and counts it as gone, so that dialling begins at once.
    pub(super) fn disconnect(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        for connection in std::mem::take(&mut peer.connections).into_keys() {
            self.swarm.close_connection(connection);
        }
        self.on_alone(id, now);
    }

    pub(super) fn on_closed(&mut self, id: PeerId, connection: ConnectionId, now: Instant) {
        self.linkless.remove(&connection);
        self.dht.dialled.remove(&connection);
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
            // What was kept beside it is as dead as it is, and says so much later.
            if self.is_remote(&id) || self.waits {
                self.disconnect(id, now);
                self.publish();
                return;
            }
        }
        let Some(peer) = self.peers.get(&id) else { return };
        if peer.connections.is_empty() {
            self.on_alone(id, now);
        }
        self.publish();
    }

    /// A peer has no connection any more.
    pub(super) fn on_alone(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.opening = None;
        peer.reopen_at = None;
        let lived = peer.lived(now);
        self.visit_ended(&id);
        self.book.lost(&id, lived, now);
        self.remote_lost(&id, now);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if let Some(current) = &peer.link {
            current.link.connection_gone();
            if current.link.is_refused() {
                let link = current.link.id;
                self.remote_refused(&id, link, now);
            }
        } else {
            self.peers.remove(&id);
        }
        if let Some(beacon) = &self.beacon {
            beacon.hurry();
        }
    }

    /// A peer dialled for something else than a link: it counts as a connection of nobody.
    fn not_for_a_link(&mut self, id: PeerId, connection: ConnectionId, now: Instant) {
        self.swarm.behaviour_mut().links.forget(&id, connection);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.opening.is_some_and(|(opening, _)| opening == connection) {
            peer.opening = None;
        }
        let Some(Connection { address, .. }) = peer.connections.remove(&connection) else { return };
        self.linkless.insert(connection, (id, address));
        if peer.connections.is_empty() && peer.link.is_none() {
            // Who is known is dialled for a link, as if it had never been there.
            self.peers.remove(&id);
            self.book.lost(&id, Duration::ZERO, now);
        } else if self.we_open(&id) {
            self.open_link(id, now);
        }
    }

    /// Opens the link on the best connection: TCP before QUIC, the newest of them. One that stands
    /// moves only to something better: what was punched beside it may have been passed over while
    /// another one, which failed since, was tried.
    pub(super) fn open_link(&mut self, id: PeerId, now: Instant) {
        if !self.we_open(&id) {
            return;
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.opening.is_some() {
            return;
        }
        let current = peer.link.as_ref().and_then(|link| peer.connections.get(&link.connection));
        let current = current.map(|connection| rank(&connection.address));
        let best = peer
            .connections
            .iter()
            .filter(|(_, other)| current.is_none_or(|current| rank(&other.address) > current))
            .max_by_key(|(_, connection)| (rank(&connection.address), connection.since));
        if let Some((connection, _)) = best {
            let connection = *connection;
            peer.opening = Some((connection, now));
            self.swarm.behaviour_mut().links.open(id, connection);
        }
    }

    pub(super) fn on_substream(
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
            Outcome::NotWanted => self.not_for_a_link(id, connection, now),
            Outcome::Opened(_) | Outcome::Failed { .. } | Outcome::Accepted(_) => {}
        }
    }

    pub(super) fn start_link(
        &mut self,
        id: PeerId,
        connection: ConnectionId,
        stream: Stream,
        now: Instant,
    ) {
        let remote = self.is_remote(&id);
        let we_open = self.we_open(&id);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let previous = peer.link.take().map(|current| current.link);
        if let Some(previous) = &previous {
            previous.end(End::Replaced);
        }
        let origin = peer
            .connections
            .get(&connection)
            .map_or(Origin::Unknown, |connection| Origin::at(&connection.address));
        let link = Link::new(LinkId(self.next_link), id, &self.shared.pools, origin);
        self.swarm.behaviour_mut().places.linked(connection);
        self.next_link += 1;
        self.shared.links().insert(link.id, Arc::clone(&link));
        tracing::info!(peer = %id, link = link.id.0, "link up");
        let outlet = Arc::clone(&self.outlet);
        self.links.spawn(link::run(Arc::clone(&link), stream, previous, outlet, remote));
        peer.link = Some(Current { link, connection, since: now });
        peer.reopen_at = None;
        peer.restarted = false;
        let listens = std::mem::take(&mut peer.listens);

        // The opener closes all other connections; the other side those that the link outlived.
        let since = peer.connections.get(&connection).map_or(now, |chosen| chosen.since);
        let relayed =
            peer.connections.get(&connection).is_some_and(|chosen| is_circuit(&chosen.address));
        let surplus: Vec<_> = peer
            .connections
            .iter()
            .filter(|(other, state)| {
                **other != connection
                    && (we_open || state.since + LINK_FRESH < since)
                    // Holes are punched on it.
                    && !(relayed && is_circuit(&state.address))
            })
            .map(|(other, _)| *other)
            .collect();
        let Some(peer) = self.peers.get(&id) else { return };
        let spare = surplus
            .iter()
            .copied()
            .find(|other| self.is_spare(&id, &peer.connections, connection, *other));
        if let Some(spare) = spare {
            self.swarm.behaviour_mut().links.keep(id, spare);
        }
        for other in surplus {
            if Some(other) != spare {
                self.close_connection(id, other);
            }
        }
        for address in listens {
            self.learn(id, &address, Source::Peer, now);
            self.book.supersede(&id, &address);
        }
        self.publish();
    }

    pub(super) fn reopen_later(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.reopen_at = Some(now + REOPEN[peer.reopens.min(REOPEN.len() - 1)]);
        peer.reopens += 1;
    }

    /// The substream in `ended` is dropped here, after the connection was told to close.
    pub(super) fn on_link_end(&mut self, ended: Ended, now: Instant) {
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
            if ended.link.is_refused() {
                self.remote_refused(&id, ended.link.id, now);
            }
            match ended.end {
                End::Lost if !ended.link.is_refused() => self.reopen_later(id, now),
                End::Lost | End::Closed | End::Overflow => self.disconnect(id, now),
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
}
