//! The swarm's part of the link protocol: opens the substream on a chosen connection, accepts the
//! other side's, refuses peers and floods of connections.
//!
//! Not every connection is for a link: lookups in the DHT dial whoever lies on the way. The side that
//! dialled knows, and says so with the name of the substream that it opens or accepts.
//!
//! `libp2p-stream` does the same for any connection of a peer at random and keeps a channel for
//! every connection it ever saw; a link wants the connection that the node chose.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::behaviour::{ConnectionClosed, DialFailure, ListenFailure};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, StreamUpgradeError, SubstreamProtocol, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol};

use super::address_book::ip_of;
use super::dial_filter::is_circuit;
use super::limits::{PrefixLimiter, REFUSED_MAX};
use super::wire::{LINK_PROTOCOL, NO_LINK_PROTOCOL};

/// What happened to a link's substream.
#[derive(Debug)]
pub(super) struct Event {
    pub peer: PeerId,
    pub connection: ConnectionId,
    pub outcome: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    /// The substream that we asked for is open.
    Opened(Stream),
    /// It did not open; `foreign` when the peer does not speak the link protocol.
    Failed { foreign: bool },
    /// The peer opened one.
    Accepted(Stream),
    /// The peer dialled for something else than a link.
    NotWanted,
}

/// Why a connection is denied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum Refusal {
    #[error("this peer is refused for a while")]
    Peer,
    #[error("too many connections from this address")]
    Rate,
}

pub(super) struct Behaviour {
    events: VecDeque<ToSwarm<Event, Order>>,
    refused: HashMap<PeerId, Instant>,
    inbound: PrefixLimiter,
    local: PeerId,
    waits: bool,
    /// Our dials that want a link.
    expected: HashSet<ConnectionId>,
    /// Connections for links, by peer. Whatever else is dialled to these is for the link too.
    linked: HashMap<PeerId, HashSet<ConnectionId>>,
    /// Connections that we dialled for something else.
    linkless: HashSet<ConnectionId>,
}

/// What a connection's handler is told.
#[derive(Debug)]
pub(super) enum Order {
    /// To open the substream.
    Open,
    /// To keep the connection, whether it is used or not.
    Keep,
}

impl Behaviour {
    /// `inbound`: new connections of one address prefix, at once and a second.
    /// A server that only `waits` dials nobody for a link but whom it is told to: it tests addresses of
    /// others, and looks around in the DHT.
    pub(super) fn new(local: PeerId, (burst, rate): (u32, u32), waits: bool) -> Self {
        Self {
            local,
            waits,
            expected: HashSet::new(),
            linked: HashMap::new(),
            linkless: HashSet::new(),
            events: VecDeque::new(),
            refused: HashMap::new(),
            inbound: PrefixLimiter::new(burst, rate),
        }
    }

    /// Opens the link's substream on one connection; answered by an [`Event`].
    pub(super) fn open(&mut self, peer: PeerId, connection: ConnectionId) {
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: Order::Open,
        });
    }

    /// Keeps a connection although nothing is sent over it.
    pub(super) fn keep(&mut self, peer: PeerId, connection: ConnectionId) {
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: Order::Keep,
        });
    }

    /// A dial that is to become a link. Every other one is for something else.
    pub(super) fn expect(&mut self, connection: ConnectionId) {
        self.expected.insert(connection);
    }

    /// Whether we dialled this for something else than a link.
    pub(super) fn is_linkless(&self, connection: ConnectionId) -> bool {
        self.linkless.contains(&connection)
    }

    /// The peer dialled this for something else.
    pub(super) fn forget(&mut self, peer: &PeerId, connection: ConnectionId) {
        if let Some(connections) = self.linked.get_mut(peer) {
            connections.remove(&connection);
            if connections.is_empty() {
                self.linked.remove(peer);
            }
        }
    }

    /// Denies every connection of `peer` until `period` has passed.
    pub(super) fn refuse(&mut self, peer: PeerId, period: Duration) {
        let now = Instant::now();
        self.refused.retain(|_, until| *until > now);
        if self.refused.len() >= REFUSED_MAX {
            let soonest = self.refused.iter().min_by_key(|(_, until)| **until);
            if let Some(peer) = soonest.map(|(peer, _)| *peer) {
                self.refused.remove(&peer);
            }
        }
        self.refused.insert(peer, now + period);
    }

    /// Whether `peer` is refused now.
    pub(super) fn refuses(&self, peer: &PeerId) -> bool {
        self.refused.get(peer).is_some_and(|until| *until > Instant::now())
    }

    fn admit(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        link: bool,
        counts: bool,
    ) -> Result<Handler, ConnectionDenied> {
        if self.refuses(&peer) {
            return Err(ConnectionDenied::new(Refusal::Peer));
        }
        // What others dialled counts once it has a link: only they know what it is for.
        if counts {
            self.linked.entry(peer).or_default().insert(connection);
        } else if !link {
            self.linkless.insert(connection);
        }
        // Who would open the link says that there is none.
        let asked = !link && self.local < peer;
        Ok(Handler { link, kept: false, asked, opening: false, outcomes: VecDeque::new() })
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let allowed = ip_of(remote).is_none_or(|ip| self.inbound.allow(ip, Instant::now()));
        if allowed { Ok(()) } else { Err(ConnectionDenied::new(Refusal::Rate)) }
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        // Nobody comes through a relay but for a link; and what is punched beside it, perhaps before
        // the link stands, is for the link too.
        self.admit(peer, connection, true, is_circuit(local))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        let link =
            self.expected.remove(&connection) || (!self.waits && self.linked.contains_key(&peer));
        self.admit(peer, connection, link, link)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.linkless.remove(&connection_id);
                self.forget(&peer_id, connection_id);
            }
            FromSwarm::DialFailure(DialFailure { connection_id, .. }) => {
                self.expected.remove(&connection_id);
                self.linkless.remove(&connection_id);
                self.linked.retain(|_, connections| {
                    connections.remove(&connection_id);
                    !connections.is_empty()
                });
            }
            FromSwarm::ListenFailure(ListenFailure {
                connection_id, peer_id: Some(peer), ..
            }) => {
                self.forget(&peer, connection_id);
            }
            // The rest does not concern single connections; the enum is open upstream.
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        outcome: Outcome,
    ) {
        if matches!(outcome, Outcome::Opened(_) | Outcome::Accepted(_)) {
            self.linked.entry(peer).or_default().insert(connection);
        }
        self.events.push_back(ToSwarm::GenerateEvent(Event { peer, connection, outcome }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Event, Order>> {
        // Filled only by calls that the swarm or its owner makes, and both poll afterwards.
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Outcomes of one connection that may wait for the swarm; more inbound substreams are dropped.
const OUTCOMES_MAX: usize = 4;

/// The names that a substream may have: the link's, and the one that says that there is none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    link: bool,
    none: bool,
}

impl UpgradeInfo for Names {
    type Info = StreamProtocol;
    type InfoIter = std::iter::Chain<
        std::option::IntoIter<StreamProtocol>,
        std::option::IntoIter<StreamProtocol>,
    >;

    fn protocol_info(&self) -> Self::InfoIter {
        let link = self.link.then_some(LINK_PROTOCOL);
        link.into_iter().chain(self.none.then_some(NO_LINK_PROTOCOL))
    }
}

impl InboundUpgrade<Stream> for Names {
    type Output = Option<Stream>;
    type Error = Infallible;
    type Future = Ready<Result<Option<Stream>, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((name == LINK_PROTOCOL).then_some(stream)))
    }
}

impl OutboundUpgrade<Stream> for Names {
    type Output = Option<Stream>;
    type Error = Infallible;
    type Future = Ready<Result<Option<Stream>, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((name == LINK_PROTOCOL).then_some(stream)))
    }
}

/// One connection's part.
#[derive(Debug)]
pub(super) struct Handler {
    /// Whether the connection may carry a link.
    link: bool,
    /// Whether [`Order::Keep`] came.
    kept: bool,
    /// Whether [`Order::Open`] came and its substream was not asked for yet.
    asked: bool,
    /// Whether a substream is being negotiated.
    opening: bool,
    outcomes: VecDeque<Outcome>,
}

impl Handler {
    fn accepted(&mut self, stream: Option<Stream>) {
        if self.outcomes.len() < OUTCOMES_MAX {
            self.outcomes.push_back(stream.map_or(Outcome::NotWanted, Outcome::Accepted));
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Order;
    type ToBehaviour = Outcome;
    type InboundProtocol = Names;
    type OutboundProtocol = Names;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(Names { link: self.link, none: true }, ())
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Outcome>> {
        if let Some(outcome) = self.outcomes.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(outcome));
        }
        if self.asked && !self.opening {
            self.asked = false;
            self.opening = true;
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(Names { link: self.link, none: true }, ()),
            });
        }
        Poll::Pending
    }

    fn connection_keep_alive(&self) -> bool {
        self.kept
    }

    fn on_behaviour_event(&mut self, order: Order) {
        match order {
            Order::Open => self.asked = true,
            Order::Keep => self.kept = true,
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol, ..
            }) => {
                self.accepted(protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol, ..
            }) => {
                self.opening = false;
                if self.link {
                    self.outcomes.push_back(protocol.map_or(Outcome::NotWanted, Outcome::Opened));
                }
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.opening = false;
                if !self.link {
                    return;
                }
                let foreign = matches!(error, StreamUpgradeError::NegotiationFailed);
                self.outcomes.push_back(Outcome::Failed { foreign });
            }
            // The rest concerns addresses and protocols of others; the enum is open upstream.
            _ => {}
        }
    }
}
