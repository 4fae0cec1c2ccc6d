//! Dials: TCP first, QUIC a little later, all addresses of a peer at once, with a deadline.

use std::time::{Duration, Instant};

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};

use super::EventLoop;
use crate::network::address_book::{self, Due};
use crate::network::dial_filter::is_circuit;
use crate::network::limits::{DIAL_LAN, DIALS_MAX, DIALS_PER_ATTEMPT, RELAY_PAUSE, TCP_HEAD_START};

/// Longest pause between dials of a configured address whose peer id is not known.
const CONFIGURED_PAUSE_MAX: Duration = Duration::from_secs(30);

/// One attempt to reach a peer: TCP first, QUIC a little later.
pub(super) struct Attempt {
    pub(super) pending: Vec<ConnectionId>,
    pub(super) quic: Vec<Multiaddr>,
    pub(super) quic_at: Instant,
    /// The turn of relays: when, and where.
    pub(super) circuits: Option<(Instant, Vec<Multiaddr>)>,
    pub(super) deadline: Instant,
}

/// A configured address without a peer id.
pub(super) struct Configured {
    pub(super) address: Multiaddr,
    pub(super) peer: Option<PeerId>,
    pub(super) dialing: Option<ConnectionId>,
    pub(super) attempts: u32,
    pub(super) dial_at: Instant,
}

impl Configured {
    pub(super) fn new(address: Multiaddr, now: Instant) -> Self {
        Self { address, peer: None, dialing: None, attempts: 0, dial_at: now }
    }

    pub(super) fn pause(&mut self, now: Instant) {
        self.attempts = self.attempts.saturating_add(1);
        let pause = Duration::from_secs(1 << self.attempts.min(5));
        self.dial_at = now + pause.min(CONFIGURED_PAUSE_MAX);
    }
}

impl EventLoop {
    /// When a dial has to begin or to be given up.
    pub(super) fn next_dial(&self) -> Option<Instant> {
        let room = self.attempts.len() < DIALS_MAX;
        let due = room.then(|| self.book.next_due()).flatten();
        let attempts = self.attempts.values().map(|attempt| {
            let quic = (!attempt.quic.is_empty()).then_some(attempt.quic_at);
            let circuits = attempt.circuits.as_ref().map(|(at, _)| *at);
            quic.into_iter().chain(circuits).fold(attempt.deadline, Instant::min)
        });
        let configured = self
            .configured
            .iter()
            .filter(|configured| configured.peer.is_none() && configured.dialing.is_none())
            .map(|configured| configured.dial_at);
        due.into_iter().chain(attempts).chain(configured).min()
    }

    /// Gives up what took too long and begins what is due.
    pub(super) fn tick_dials(&mut self, now: Instant) {
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
        self.tick_attempts(now);
        let room = DIALS_MAX.saturating_sub(self.attempts.len());
        if room > 0 {
            for due in self.book.due(now, room) {
                self.attempt(due, now);
            }
        }
        self.dial_configured(now);
    }

    /// Begins what is due of the attempts under way.
    fn tick_attempts(&mut self, now: Instant) {
        let behind: Vec<_> = self
            .attempts
            .iter_mut()
            .filter(|(_, attempt)| !attempt.quic.is_empty() && attempt.quic_at <= now)
            .map(|(peer, attempt)| (*peer, std::mem::take(&mut attempt.quic)))
            .collect();
        for (peer, quic) in behind {
            self.dial(peer, quic, false, now);
        }
        let relayed: Vec<_> = self
            .attempts
            .iter_mut()
            .filter_map(|(peer, attempt)| {
                let (_, circuits) = attempt.circuits.take_if(|(at, _)| *at <= now)?;
                Some((*peer, circuits))
            })
            .collect();
        for (peer, circuits) in relayed {
            self.dial(peer, circuits, false, now);
        }
    }

    pub(super) fn attempt(&mut self, due: Due, now: Instant) {
        let Due { peer, tcp, quic, circuits, timeout } = due;
        // Outside the LAN QUIC needs fewer round trips and passes more NATs.
        let far = !quic.iter().all(|address| self.nat.filter.is_near(address));
        let quic_at = if tcp.is_empty() || far { now } else { now + TCP_HEAD_START };
        let first = tcp.is_empty() && quic.is_empty();
        let circuits_at = if first { now } else { now + RELAY_PAUSE };
        let circuits = (!circuits.is_empty()).then_some((circuits_at, circuits));
        let deadline = now + timeout;
        let attempt = Attempt { pending: Vec::new(), quic, quic_at, circuits, deadline };
        self.attempts.insert(peer, attempt);
        if !tcp.is_empty() {
            self.dial(peer, tcp, true, now);
        }
        // What is due at once.
        self.tick_attempts(now);
    }

    /// Dials some addresses of a peer at once. TCP uses a fresh port: the old one may still
    /// belong to a dead connection.
    pub(super) fn dial(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        tcp: bool,
        now: Instant,
    ) {
        for address in &addresses {
            self.nat.filter.trust(address);
        }
        let opts = DialOpts::peer_id(peer).condition(PeerCondition::Always).addresses(addresses);
        let opts = if tcp { opts.allocate_new_port().build() } else { opts.build() };
        let connection = opts.connection_id();
        self.swarm.behaviour_mut().links.expect(connection);
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

    pub(super) fn dial_configured(&mut self, now: Instant) {
        for configured in &mut self.configured {
            if configured.peer.is_some_and(|peer| !self.book.knows(&peer)) {
                configured.peer = None;
            }
            let idle = configured.peer.is_none() && configured.dialing.is_none();
            if !idle || configured.dial_at > now {
                continue;
            }
            let address = configured.address.clone();
            self.nat.filter.trust(&address);
            let opts = DialOpts::unknown_peer_id().address(address).allocate_new_port().build();
            let connection = opts.connection_id();
            self.swarm.behaviour_mut().links.expect(connection);
            match self.swarm.dial(opts) {
                Ok(()) => configured.dialing = Some(connection),
                Err(_) => configured.pause(now),
            }
        }
    }

    /// Adds an address that was heard of while its peer is being dialled.
    pub(super) fn dial_also(&mut self, peer: PeerId, address: &Multiaddr, now: Instant) {
        let Some(attempt) = self.attempts.get_mut(&peer) else { return };
        let Some(address) = address_book::dialable(address) else { return };
        if attempt.pending.len() >= DIALS_PER_ATTEMPT {
            return;
        }
        attempt.deadline = attempt.deadline.max(now + DIAL_LAN);
        if address_book::is_tcp(&address) {
            self.dial(peer, vec![address], true, now);
        } else {
            if is_circuit(&address) {
                let circuits = attempt.circuits.get_or_insert_with(|| (now + RELAY_PAUSE, vec![]));
                circuits.1.push(address);
                return;
            }
            if attempt.quic.is_empty() {
                attempt.quic_at = now + TCP_HEAD_START;
            }
            attempt.quic.push(address);
        }
    }

    /// A dial of the attempt failed; with the last one, the attempt did.
    fn attempt_over(&mut self, peer: PeerId, now: Instant) {
        let Some(attempt) = self.attempts.get(&peer) else { return };
        // The turn of QUIC comes with time, not sooner: a device that restarts is refused on its
        // old ports at once and announces the new ones a moment later.
        let over = attempt.quic.is_empty() && attempt.circuits.is_none();
        if attempt.pending.is_empty() && over {
            self.attempts.remove(&peer);
            self.book.failed(&peer, now);
        }
    }

    pub(super) fn on_dial_error(
        &mut self,
        connection: ConnectionId,
        error: &DialError,
        now: Instant,
    ) {
        tracing::trace!(%error, "a dial failed");
        self.remote_dial_failed(connection, error, now);
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
}
