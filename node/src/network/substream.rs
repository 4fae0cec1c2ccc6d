//! The swarm's part of the link protocol: opens the substream on a chosen connection, accepts the
//! other side's, refuses peers and floods of connections.
//!
//! `libp2p-stream` does the same for any connection of a peer at random and keeps a channel for
//! every connection it ever saw; a link wants the connection that the node chose.

use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, StreamUpgradeError, SubstreamProtocol, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol};

use super::address_book::ip_of;
use super::limits::{PrefixLimiter, REFUSED_MAX};
use super::wire::LINK_PROTOCOL;

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
    pub(super) fn new((burst, rate): (u32, u32)) -> Self {
        Self {
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

    fn admit(&self, peer: &PeerId) -> Result<Handler, ConnectionDenied> {
        if self.refuses(peer) {
            return Err(ConnectionDenied::new(Refusal::Peer));
        }
        Ok(Handler::default())
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
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.admit(&peer)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.admit(&peer)
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        outcome: Outcome,
    ) {
        self.events.push_back(ToSwarm::GenerateEvent(Event { peer, connection, outcome }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Event, Order>> {
        // Filled only by calls that the swarm or its owner makes, and both poll afterwards.
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Outcomes of one connection that may wait for the swarm; more inbound substreams are dropped.
const OUTCOMES_MAX: usize = 4;

/// One connection's part.
#[derive(Debug, Default)]
pub(super) struct Handler {
    /// Whether [`Order::Keep`] came.
    kept: bool,
    /// Whether [`Order::Open`] came and its substream was not asked for yet.
    asked: bool,
    /// Whether a substream is being negotiated.
    opening: bool,
    outcomes: VecDeque<Outcome>,
}

impl Handler {
    fn accepted(&mut self, stream: Stream) {
        if self.outcomes.len() < OUTCOMES_MAX {
            self.outcomes.push_back(Outcome::Accepted(stream));
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Order;
    type ToBehaviour = Outcome;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(LINK_PROTOCOL), ())
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
                protocol: SubstreamProtocol::new(ReadyUpgrade::new(LINK_PROTOCOL), ()),
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
                self.outcomes.push_back(Outcome::Opened(protocol));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.opening = false;
                let foreign = matches!(error, StreamUpgradeError::NegotiationFailed);
                self.outcomes.push_back(Outcome::Failed { foreign });
            }
            // The rest concerns addresses and protocols of others; the enum is open upstream.
            _ => {}
        }
    }
}
