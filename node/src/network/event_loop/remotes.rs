//! Remotes: persisters that the user named. They are dialled until they answer, and again whenever
//! they are gone; who answers there may be used as a persister.

use std::time::{Duration, Instant};

use hypergolix_engine::input::LinkId;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};

use super::EventLoop;
use crate::network::address_book::{self, Source};
use crate::network::limits::TCP_HEAD_START;
use crate::network::{RemoteStatus, Target, Targets};

/// Pauses between dials of a remote: 1, 2, 4 s and so on up to this.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Pauses after a remote refused us, while it does so again and again: 1, 2, 4 s and so on up to this.
/// Whoever is admitted again sees it within that. Those who only lose the connection are dialled as ever:
/// a relay that was restarted is needed at once.
const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(10);

/// A link to a remote that refused us before and lives this long: it takes us. A farewell takes less.
const TAKEN: Duration = Duration::from_secs(3);

/// Longest text of an error that is shown.
const ERROR_MAX: usize = 200;

/// A remote, and what is known of it.
pub(super) struct Remote {
    target: Target,
    /// Who answered there last.
    pub(super) peer: Option<PeerId>,
    ways: Vec<Way>,
    error: Option<String>,
    /// How often it refused us, one time after the other.
    refusals: u32,
    /// On which link it did so last.
    refused: Option<LinkId>,
    /// Until when it is left alone for that.
    held_until: Option<Instant>,
}

/// One address of a remote. Each has its own pauses: where TCP is refused at once, QUIC is silent
/// for seconds.
struct Way {
    address: Multiaddr,
    dialing: Option<ConnectionId>,
    attempts: u32,
    dial_at: Instant,
}

impl Remote {
    pub(super) fn new(target: Target, now: Instant) -> Self {
        let ways = target.addresses.iter().map(|address| Way {
            address: address.clone(),
            dialing: None,
            attempts: 0,
            dial_at: if address_book::is_quic(address) { now + TCP_HEAD_START } else { now },
        });
        let ways = ways.collect();
        Self { target, peer: None, ways, error: None, refusals: 0, refused: None, held_until: None }
    }

    fn failed(&mut self, way: usize, error: &str, now: Instant) {
        let first = self.error.is_none();
        // Resolvers use several lines.
        let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
        self.error = Some(error.chars().take(ERROR_MAX).collect());
        if let Some(way) = self.ways.get_mut(way) {
            way.dialing = None;
            way.attempts = way.attempts.saturating_add(1);
            let pause = Duration::from_secs(1 << (way.attempts - 1).min(5)).min(PAUSE_MAX);
            way.dial_at = now + pause;
        }
        // Once an outage: the state is in `status`.
        if first {
            tracing::warn!(remote = %self.target.name, error, "a remote cannot be reached");
        }
    }

    /// When `way` may be dialled.
    fn dial_at(&self, way: &Way) -> Instant {
        self.held_until.map_or(way.dial_at, |until| until.max(way.dial_at))
    }

    /// Where it is dialled.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &Multiaddr> {
        self.target.addresses.iter()
    }

    fn way_of(&self, connection: ConnectionId) -> Option<usize> {
        self.ways.iter().position(|way| way.dialing == Some(connection))
    }
}

impl EventLoop {
    /// Whether a peer answered at a remote's address.
    pub(super) fn is_remote(&self, id: &PeerId) -> bool {
        self.remotes.iter().any(|remote| remote.peer == Some(*id))
    }

    fn is_connected(&self, peer: Option<PeerId>) -> bool {
        peer.and_then(|peer| self.peers.get(&peer)).is_some_and(|peer| !peer.connections.is_empty())
    }

    /// Whether dialling `way` gains something: any connection, or one over TCP instead of QUIC,
    /// where the end of the other side is noticed at once.
    fn is_wanted(&self, remote: &Remote, way: &Way) -> bool {
        let Some(peer) = remote.peer.and_then(|peer| self.peers.get(&peer)) else { return true };
        let mut connected = peer.connections.values();
        let quic = |address: &Multiaddr| address_book::is_quic(address);
        if quic(&way.address) {
            let spare = self.nat.wants_spare(&way.address)
                && connected.all(|connection| !quic(&connection.address));
            peer.connections.is_empty() || spare
        } else {
            connected.all(|connection| quic(&connection.address))
        }
    }

    /// When a remote has to be dialled.
    pub(super) fn next_remote(&self) -> Option<Instant> {
        self.remotes
            .iter()
            .flat_map(|remote| remote.ways.iter().map(move |way| (remote, way)))
            .filter(|(remote, way)| way.dialing.is_none() && self.is_wanted(remote, way))
            .map(|(remote, way)| remote.dial_at(way))
            .min()
    }

    pub(super) fn tick_remotes(&mut self, now: Instant) {
        self.note_taken(now);
        for index in 0..self.remotes.len() {
            for number in 0..self.remotes[index].ways.len() {
                let way = &self.remotes[index].ways[number];
                let wanted = self.is_wanted(&self.remotes[index], way);
                if way.dialing.is_some() || self.remotes[index].dial_at(way) > now || !wanted {
                    continue;
                }
                let address = way.address.clone();
                self.nat.filter.trust(&address);
                let quic = address_book::is_quic(&address);
                let opts = DialOpts::unknown_peer_id().address(address);
                // On QUIC the remote has to see the port on which others would reach us.
                let opts = if quic { opts.build() } else { opts.allocate_new_port().build() };
                let connection = opts.connection_id();
                self.swarm.behaviour_mut().links.expect(connection);
                match self.swarm.dial(opts) {
                    Ok(()) => self.remotes[index].ways[number].dialing = Some(connection),
                    Err(error) => self.remotes[index].failed(number, &error.to_string(), now),
                }
                self.publish();
            }
        }
    }

    /// A connection stands: perhaps a remote's. It may have a link already, as a device of the LAN;
    /// then that begins anew, because the node treats it otherwise.
    pub(super) fn remote_connected(&mut self, id: PeerId, connection: ConnectionId, now: Instant) {
        let known = self.is_remote(&id);
        for remote in &mut self.remotes {
            if remote.way_of(connection).is_none() {
                continue;
            }
            for way in &mut remote.ways {
                if way.dialing == Some(connection) {
                    way.dialing = None;
                }
                way.attempts = 0;
                let pause = if address_book::is_quic(&way.address) {
                    TCP_HEAD_START
                } else {
                    Duration::from_secs(1)
                };
                way.dial_at = now + pause;
            }
            remote.peer = Some(id);
            if remote.error.take().is_some() && remote.refusals == 0 {
                tracing::warn!(remote = %remote.target.name, "a remote is reached again");
            }
        }
        if !known && self.is_remote(&id) {
            self.dht_moved(now);
        }
        let linked = self.peers.get(&id).is_some_and(|peer| peer.link.is_some());
        if !known && linked && self.is_remote(&id) {
            self.disconnect(id, now);
        }
    }

    pub(super) fn remote_dial_failed(
        &mut self,
        connection: ConnectionId,
        error: &DialError,
        now: Instant,
    ) {
        for index in 0..self.remotes.len() {
            let Some(way) = self.remotes[index].way_of(connection) else { continue };
            let peer = self.remotes[index].peer;
            if self.is_connected(peer) {
                // The other way works; as long as it has no link, it may be about to be found dead.
                let linked = peer
                    .and_then(|peer| self.peers.get(&peer))
                    .is_some_and(super::links::Peer::is_linked);
                let pause = if linked { PAUSE_MAX } else { Duration::from_secs(1) };
                let way = &mut self.remotes[index].ways[way];
                (way.dialing, way.dial_at) = (None, now + pause);
            } else {
                self.remotes[index].failed(way, &plain(error), now);
            }
            self.publish();
        }
    }

    /// A link of a remote ended by itself.
    pub(super) fn remote_lost(&mut self, id: &PeerId, now: Instant) {
        for remote in &mut self.remotes {
            if remote.peer == Some(*id) {
                for way in &mut remote.ways {
                    way.dial_at = way.dial_at.min(now + Duration::from_secs(1));
                }
                remote.error.get_or_insert_with(|| "the connection was lost".to_owned());
                if let Some(until) = remote.held_until.filter(|until| *until > now) {
                    self.book.hold(id, Some(until));
                }
            }
        }
    }

    /// A remote said that it refuses us, and ended the link.
    pub(super) fn remote_refused(&mut self, id: &PeerId, link: LinkId, now: Instant) {
        for remote in self.remotes.iter_mut().filter(|remote| remote.peer == Some(*id)) {
            if remote.refused.replace(link) == Some(link) {
                continue;
            }
            if remote.refusals == 0 {
                tracing::warn!(remote = %remote.target.name, "a remote refuses us");
            }
            let pause = Duration::from_secs(1 << remote.refusals.min(5)).min(REFUSED_PAUSE_MAX);
            remote.refusals = remote.refusals.saturating_add(1);
            remote.held_until = Some(now + pause);
            remote.error = Some("it refuses this device".to_owned());
            self.book.hold(id, remote.held_until);
        }
    }

    /// Remotes that refused us and keep the link now.
    fn note_taken(&mut self, now: Instant) {
        for remote in self.remotes.iter_mut().filter(|remote| remote.refusals > 0) {
            let link = remote.peer.and_then(|peer| self.peers.get(&peer)?.link.as_ref());
            if link.is_some_and(|link| link.since + TAKEN <= now && !link.link.is_refused()) {
                (remote.refusals, remote.held_until) = (0, None);
                tracing::warn!(remote = %remote.target.name, "a remote takes us again");
            }
        }
    }

    /// Something changed, here or in the configuration: whoever refused us is asked again at once.
    pub(super) fn forget_refusals(&mut self) {
        for remote in self.remotes.iter_mut().filter(|remote| remote.refusals > 0) {
            (remote.refusals, remote.held_until) = (0, None);
            if let Some(peer) = &remote.peer {
                self.book.hold(peer, None);
            }
        }
    }

    /// The configuration changed: what is new is dialled, what is gone is let go of.
    pub(super) fn retarget(&mut self, targets: Targets, now: Instant) {
        let mut before = std::mem::take(&mut self.remotes);
        for target in targets.remotes {
            let kept = before.iter().position(|remote| remote.target == target);
            self.remotes.push(match kept {
                Some(index) => before.swap_remove(index),
                None => Remote::new(target, now),
            });
        }
        for peer in before.into_iter().filter_map(|remote| remote.peer) {
            if !self.is_remote(&peer) {
                self.disconnect(peer, now);
                self.book.drop_unless_configured(&peer);
            }
        }
        for address in &targets.peers {
            if self.targets.peers.contains(address) {
                continue;
            }
            match address_book::peer_of(address) {
                Some(peer) => {
                    self.book.learn(peer, address, Source::Configured, now);
                }
                None => self.configured.push(super::Configured::new(address.clone(), now)),
            }
        }
        for address in &self.targets.peers {
            if targets.peers.contains(address) {
                continue;
            }
            self.configured.retain(|configured| configured.address != *address);
            if let Some(peer) = address_book::peer_of(address) {
                self.book.unconfigure(&peer, address);
            }
        }
        self.forget_refusals();
        self.forget_reservations();
        self.dht_moved(now);
        self.targets = Targets { peers: targets.peers, remotes: Vec::new() };
        self.publish();
    }

    pub(super) fn remote_status(&self, now: Instant) -> Vec<RemoteStatus> {
        self.remotes
            .iter()
            .map(|remote| {
                let connected = self.is_connected(remote.peer);
                let waiting = remote.ways.iter().all(|way| way.dialing.is_none());
                let soonest = remote.ways.iter().map(|way| remote.dial_at(way)).min();
                RemoteStatus {
                    name: remote.target.name.clone(),
                    peer_id: remote.peer,
                    connected,
                    dialing: !connected && !waiting,
                    attempts: remote.ways.iter().map(|way| way.attempts).max().unwrap_or(0),
                    next_dial: soonest
                        .filter(|_| !connected)
                        .map(|at| at.saturating_duration_since(now)),
                    error: remote.error.clone(),
                }
            })
            .collect()
    }
}

/// The cause of a failed dial, without the addresses and layers around it.
fn plain(error: &DialError) -> String {
    match error {
        DialError::Transport(failures) => {
            let text: Option<String> = failures.first().map(|(_, failure)| {
                let mut cause: &dyn std::error::Error = failure;
                while let Some(source) = cause.source() {
                    cause = source;
                }
                cause.to_string()
            });
            text.unwrap_or_else(|| "no address works".to_owned())
        }
        other => other.to_string(),
    }
}

/// Multiaddresses of a host and a port, in the order in which they are tried.
pub(crate) fn addresses(host: &str, port: u16, tls: bool) -> Vec<Multiaddr> {
    use libp2p::multiaddr::Protocol;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let host = match bare.parse::<std::net::IpAddr>() {
        Ok(ip) => Multiaddr::from(ip),
        Err(_) => Multiaddr::empty().with(Protocol::Dns(bare.to_owned().into())),
    };
    if tls {
        let tcp = host.with(Protocol::Tcp(port));
        return vec![tcp.with(Protocol::Tls).with(Protocol::Ws("/".into()))];
    }
    let tcp = host.clone().with(Protocol::Tcp(port));
    vec![tcp, host.with(Protocol::Udp(port)).with(Protocol::QuicV1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_become_addresses() {
        let text = |host, tls| {
            addresses(host, 7770, tls).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            text("10.0.0.1", false),
            ["/ip4/10.0.0.1/tcp/7770", "/ip4/10.0.0.1/udp/7770/quic-v1"]
        );
        assert_eq!(text("[::1]", false)[0], "/ip6/::1/tcp/7770");
        assert_eq!(text("example.org", false)[0], "/dns/example.org/tcp/7770");
        assert_eq!(text("example.org", true), ["/dns/example.org/tcp/7770/tls/ws"]);
    }
}
