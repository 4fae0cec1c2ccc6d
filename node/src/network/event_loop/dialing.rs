//! Dials: TCP first, QUIC a little later, all addresses of a peer at once, with a deadline.

use std::time::{Duration, Instant};

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};

use super::EventLoop;
use crate::network::address_book::{self, Due};
use crate::network::limits::{DIAL_LAN, DIALS_MAX, DIALS_PER_ATTEMPT, TCP_HEAD_START};

/// Longest pause between dials of a configured address whose peer id is not known.
const CONFIGURED_PAUSE_MAX: Duration = Duration::from_secs(30);

/// One attempt to reach a peer: TCP first, QUIC a little later.
pub(super) struct Attempt {
    pub(super) pending: Vec<ConnectionId>,
    pub(super) quic: Vec<Multiaddr>,
    pub(super) quic_at: Instant,
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
            if attempt.quic.is_empty() {
                attempt.deadline
            } else {
                attempt.deadline.min(attempt.quic_at)
            }
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
    }

    pub(super) fn attempt(&mut self, due: Due, now: Instant) {
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
    pub(super) fn dial(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        tcp: bool,
        now: Instant,
    ) {
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
        if attempt.pending.is_empty() && attempt.quic.is_empty() {
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
