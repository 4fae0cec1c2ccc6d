//! Places for connections that others open: no origin takes more than half of them, and when all are
//! taken, whoever comes from elsewhere takes one of the origin that has most.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

use super::limits::{PLACES_KNOWN, PLACES_RESERVED, PLACES_SHARE};
use super::origin::Origin;

/// Why a connection is denied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
enum Refusal {
    #[error("too many connections from this address")]
    Share,
    #[error("too many connections")]
    Full,
}

/// The swarm's part.
pub(super) struct Behaviour {
    places: Places<ConnectionId>,
    closing: VecDeque<(PeerId, ConnectionId)>,
}

impl Behaviour {
    pub(super) fn new(max: u32) -> Self {
        Self { places: Places::new(max as usize), closing: VecDeque::new() }
    }

    /// We dialled this device for a link: it is configured, of ours, or followed.
    pub(super) fn know(&mut self, peer: PeerId) {
        self.places.know(peer);
    }

    /// The connection has a link.
    pub(super) fn linked(&mut self, connection: ConnectionId) {
        if let Some(place) = self.places.taken.get_mut(&connection) {
            place.linked = true;
        }
    }
}

/// Who is there; [`Behaviour`] without the swarm.
struct Places<Id> {
    max: usize,
    taken: HashMap<Id, Place>,
    by_origin: HashMap<Origin, usize>,
    known: HashSet<PeerId>,
}

struct Place {
    peer: PeerId,
    origin: Origin,
    linked: bool,
}

impl<Id: Copy + Ord + std::hash::Hash> Places<Id> {
    fn new(max: usize) -> Self {
        Self { max, taken: HashMap::new(), by_origin: HashMap::new(), known: HashSet::new() }
    }

    fn know(&mut self, peer: PeerId) {
        if self.known.len() >= PLACES_KNOWN
            && let Some(other) = self.known.iter().next().copied()
        {
            self.known.remove(&other);
        }
        self.known.insert(peer);
    }

    fn count(&self, origin: &Origin) -> usize {
        self.by_origin.get(origin).copied().unwrap_or(0)
    }

    /// Whether there is a place, and whose it is until now.
    fn admit(&self, peer: &PeerId, origin: &Origin) -> Result<Option<(PeerId, Id)>, Refusal> {
        let known = self.known.contains(peer);
        let count = self.count(origin);
        if count >= self.max / PLACES_SHARE && !known {
            return Err(Refusal::Share);
        }
        if self.taken.len() < self.max {
            return Ok(None);
        }
        // Without a link first, then the newest: who has been there for long is of use.
        let victim = self
            .taken
            .iter()
            .filter(|(_, place)| !self.known.contains(&place.peer))
            .max_by_key(|(id, place)| (self.count(&place.origin), !place.linked, **id))
            .filter(|(_, place)| self.count(&place.origin) > count + 1);
        match victim {
            Some((id, place)) => Ok(Some((place.peer, *id))),
            None if known && self.taken.len() < self.max + PLACES_RESERVED => Ok(None),
            None => Err(Refusal::Full),
        }
    }

    fn take(&mut self, id: Id, peer: PeerId, origin: Origin) {
        *self.by_origin.entry(origin).or_default() += 1;
        self.taken.insert(id, Place { peer, origin, linked: false });
    }

    fn leave(&mut self, id: Id) {
        let Some(place) = self.taken.remove(&id) else { return };
        if let Some(count) = self.by_origin.get_mut(&place.origin) {
            *count -= 1;
            if *count == 0 {
                self.by_origin.remove(&place.origin);
            }
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let origin = Origin::inbound(local, remote);
        if let Some((peer, victim)) =
            self.places.admit(&peer, &origin).map_err(ConnectionDenied::new)?
        {
            tracing::debug!(%peer, "gives its place to somebody from elsewhere");
            self.places.leave(victim);
            self.closing.push_back((peer, victim));
        }
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint: ConnectedPoint::Listener { local_addr, send_back_addr },
                ..
            }) => {
                let origin = Origin::inbound(local_addr, send_back_addr);
                self.places.take(connection_id, peer_id, origin);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.places.leave(connection_id);
            }
            // The rest does not concern places; the enum is open upstream.
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        // Filled only by calls of the swarm, which polls afterwards.
        self.closing.pop_front().map_or(Poll::Pending, |(peer_id, connection)| {
            let connection = CloseConnection::One(connection);
            Poll::Ready(ToSwarm::CloseConnection { peer_id, connection })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(number: u8) -> Origin {
        Origin::Prefix([10, 0, 0, number].into())
    }

    /// Whether somebody gets in, and whose place it was.
    fn come(
        places: &mut Places<u32>,
        id: u32,
        peer: PeerId,
        from: u8,
    ) -> Result<Option<u32>, Refusal> {
        let victim = places.admit(&peer, &origin(from))?.map(|(_, id)| id);
        if let Some(id) = victim {
            places.leave(id);
        }
        places.take(id, peer, origin(from));
        Ok(victim)
    }

    #[test]
    fn no_origin_takes_more_than_half() {
        let mut places = Places::new(64);
        let taken = (0..1_000).filter(|id| come(&mut places, *id, PeerId::random(), 1).is_ok());
        assert_eq!(taken.count(), 32);
        assert!(come(&mut places, 1_000, PeerId::random(), 2).is_ok());
    }

    #[test]
    fn full_the_newest_without_a_link_of_the_heaviest_origin_gives_way() {
        let mut places = Places::new(64);
        for id in 0..64 {
            assert_eq!(come(&mut places, id, PeerId::random(), 1 + (id % 2) as u8), Ok(None));
        }
        for id in [59, 61, 63] {
            places.taken.get_mut(&id).expect("it is there").linked = true;
        }
        places.leave(0);
        assert_eq!(come(&mut places, 64, PeerId::random(), 3), Ok(None));
        assert_eq!(come(&mut places, 65, PeerId::random(), 4), Ok(Some(57)));
        assert_eq!(places.taken.len(), 64);
    }

    #[test]
    fn whom_we_know_gets_in_when_everybody_has_one_place() {
        let mut places = Places::new(64);
        for id in 0..64 {
            assert!(come(&mut places, id, PeerId::random(), id as u8).is_ok());
        }
        assert_eq!(come(&mut places, 64, PeerId::random(), 64), Err(Refusal::Full));
        for id in 0..PLACES_RESERVED as u32 {
            let friend = PeerId::random();
            places.know(friend);
            assert_eq!(come(&mut places, 65 + id, friend, 65 + id as u8), Ok(None));
        }
        let friend = PeerId::random();
        places.know(friend);
        assert_eq!(come(&mut places, 1_000, friend, 200), Err(Refusal::Full));
    }
}
