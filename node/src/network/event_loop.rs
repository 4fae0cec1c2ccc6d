//! The task that owns the swarm: connections, dials, discovery; one link per peer.
//!
//! Of a pair, the device with the smaller peer id opens the link's substream, on the connection
//! it likes best, and closes the others; the other device follows.

mod dht;
mod dialing;
mod gossip;
mod links;
mod nat;
mod remotes;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use hypergolix_engine::input::LinkId;
use libp2p::core::transport::ListenerId;
use libp2p::swarm::behaviour::NewListenAddr;
use libp2p::swarm::{ConnectionId, FromSwarm, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identify, mdns, ping};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::address_book::{self, AddressBook, Instance, Source};
use super::beacon::{Beacon, Heard};
use super::behaviour::{self, Behaviour, BehaviourEvent};
use super::dial_filter::{DialFilter, is_circuit};
use super::limits::{ADDRESSES_PER_PEER, MDNS_ENTRIES, REFUSED_FOR, SHUTDOWN};
use super::link::{End, Ended, Outlet};
use super::nat::NatRole;
use super::substream;
use super::wire::{LINK_PROTOCOL, NO_LINK_PROTOCOL};
use super::{PeerStatus, Shared, Targets};
pub(super) use dht::Dht;
use dialing::{Attempt, Configured};
use gossip::Gossip;
use links::Peer;
use nat::Nat;
use remotes::Remote;
pub(super) use remotes::addresses;

/// Pause between two looks at what expired.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

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

/// A flood is worth a line in the log this often.
const WARN_AGAIN: Duration = Duration::from_secs(60);

/// Processes with our own device key that are reported.
const COPIES_MAX: usize = 8;

/// Owns the swarm.
pub(super) struct EventLoop {
    swarm: Swarm<Behaviour>,
    local: PeerId,
    shared: Arc<Shared>,
    outlet: Arc<Outlet>,
    book: AddressBook,
    peers: HashMap<PeerId, Peer>,
    /// Connections that are for something else than a link.
    linkless: HashMap<ConnectionId, (PeerId, Multiaddr)>,
    dht: Dht,
    gossip: Gossip,
    attempts: HashMap<PeerId, Attempt>,
    configured: Vec<Configured>,
    remotes: Vec<Remote>,
    /// What is dialled now, except the remotes.
    targets: Targets,
    wanted: watch::Receiver<Targets>,
    to_reach: mpsc::Receiver<(LinkId, PeerId)>,
    nat: Nat,
    links: JoinSet<Ended>,
    next_link: u64,
    beacon: Option<Beacon>,
    waits: bool,
    listening: Listening,
    housekeeping: Instant,
    copies_seen: HashSet<u64>,
    mdns_warning: Option<Instant>,
}

impl EventLoop {
    pub(super) fn new(
        swarm: Swarm<Behaviour>,
        shared: Arc<Shared>,
        outlet: Outlet,
        beacon: Option<Beacon>,
        (mut wanted, to_reach): (watch::Receiver<Targets>, mpsc::Receiver<(LinkId, PeerId)>),
        (role, filter): (NatRole, DialFilter),
        dht: Dht,
    ) -> Self {
        let now = Instant::now();
        let local = *swarm.local_peer_id();
        let targets = wanted.borrow_and_update().clone();
        let outlet = Arc::new(outlet);
        let gossip = Gossip::new(Arc::clone(&outlet));
        let mut new = Self {
            swarm,
            local,
            shared,
            outlet,
            book: AddressBook::new(local),
            peers: HashMap::new(),
            linkless: HashMap::new(),
            dht,
            gossip,
            attempts: HashMap::new(),
            configured: Vec::new(),
            remotes: Vec::new(),
            targets: Targets::default(),
            wanted,
            to_reach,
            nat: Nat::new(role, filter),
            links: JoinSet::new(),
            next_link: 1,
            beacon,
            waits: false,
            listening: Listening::default(),
            housekeeping: now + HOUSEKEEPING,
            copies_seen: HashSet::new(),
            mdns_warning: None,
        };
        new.retarget(targets, now);
        new
    }

    /// Whether those who came to us are left to come again.
    pub(super) fn waiting(mut self, waits: bool) -> Self {
        self.waits = waits;
        self
    }

    /// Runs until `stop`, then writes what is queued for at most [`SHUTDOWN`].
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let shared = Arc::clone(&self.shared);
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
                    Ok(ended) => self.on_link_end(ended, Instant::now()),
                    Err(error) => tracing::error!(%error, "a link's task failed"),
                },
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                heard = beacon => match heard {
                    Some(heard) => self.on_beacon(heard),
                    None => self.beacon = None,
                },
                Some(order) = self.dht.orders.recv() => self.on_order(order, Instant::now()),
                () = shared.gossip.changed.notified() => self.on_gossip_orders(Instant::now()),
                Some(sealed) = self.dht.sealing.join_next() => self.on_sealed(sealed),
                Ok(()) = self.wanted.changed() => {
                    let targets = self.wanted.borrow_and_update().clone();
                    self.retarget(targets, Instant::now());
                }
                Some((via, device)) = self.to_reach.recv() => {
                    self.on_reach(via, device, Instant::now());
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
        for link in self.shared.links().values() {
            link.end(End::Shutdown);
        }
        let drain = async {
            loop {
                tokio::select! {
                    ended = self.links.join_next() => match ended {
                        // Its goodbye carries what the substream wrote last.
                        Some(Ok(ended)) => {
                            let _ = self.swarm.disconnect_peer_id(ended.link.peer);
                        }
                        Some(Err(_)) => {}
                        None => break,
                    },
                    _ = self.swarm.select_next_some() => {}
                }
            }
            let unlinked: Vec<_> = self.swarm.connected_peers().copied().collect();
            for peer in unlinked {
                let _ = self.swarm.disconnect_peer_id(peer);
            }
            while self.swarm.network_info().num_peers() > 0 {
                self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(SHUTDOWN, drain).await;
        self.shared.links().clear();
        self.keep_records_now().await;
    }

    // Time

    fn next_wake(&self) -> Instant {
        let dial = self.next_dial();
        let reopen = self.peers.values().filter_map(|peer| peer.reopen_at).min();
        [dial, reopen, self.next_remote(), self.next_nat(), self.next_dht()]
            .into_iter()
            .flatten()
            .fold(self.housekeeping, Instant::min)
    }

    fn tick(&mut self, now: Instant) {
        self.tick_dials(now);
        self.tick_remotes(now);
        self.tick_links(now);
        self.tick_dht(now);
        self.tick_nat(now);
        if self.housekeeping <= now {
            self.housekeeping = now + HOUSEKEEPING;
            self.book.expire(now);
            self.nat.filter.refresh();
            self.bound_mdns(now);
            self.keep_records();
            self.tick_gossip(now);
            self.publish();
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
                if self.on_circuit(listener_id, &address) {
                    return;
                }
                self.nat.filter.refresh();
                self.announce_listening(&address, true);
                tracing::debug!(%address, "listening");
                self.listening.addresses.insert(address, listener_id);
                self.on_listening();
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.announce_listening(&address, false);
                self.listening.addresses.remove(&address);
                self.on_listening();
            }
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                if self.on_circuit_closed(listener_id, now) {
                    return;
                }
                tracing::warn!(?addresses, ?reason, "a listener closed");
                for address in addresses {
                    self.listening.addresses.remove(&address);
                }
                self.on_listening();
            }
            SwarmEvent::ExternalAddrConfirmed { address } => {
                self.on_external(address, true);
                self.dht_moved(now);
            }
            SwarmEvent::ExternalAddrExpired { address } => {
                self.on_external(address, false);
                self.dht_moved(now);
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
            BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                connection_id,
            }) => {
                self.on_identified(peer_id, connection_id, &info, now);
            }
            BehaviourEvent::Kad(event) => self.on_kad(event, now),
            BehaviourEvent::Gossip(event) => self.on_gossip(event, now),
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
                self.bound_mdns(now);
            }
            BehaviourEvent::Nat(event) => tracing::trace!(?event, "about NATs"),
            BehaviourEvent::Mdns(mdns::Event::Expired(_)) | BehaviourEvent::Identify(_) => {}
        }
    }

    fn learn(&mut self, peer: PeerId, address: &Multiaddr, source: Source, now: Instant) {
        if !self.swarm.behaviour().links.refuses(&peer)
            && self.book.learn(peer, address, source, now)
        {
            tracing::debug!(%peer, %address, "found");
            self.dial_also(peer, address, now);
        }
        if self.peers.get(&peer).is_some_and(|peer| !peer.connections.is_empty()) {
            // It may have come to us before we knew where it listens.
            self.book.connected(&peer, None, now);
        }
    }

    /// A peer of the LAN that is not one of us: others use mDNS and libp2p too.
    fn refuse_foreign(&mut self, id: PeerId, now: Instant) {
        tracing::debug!(peer = %id, "does not speak the link protocol");
        self.swarm.behaviour_mut().links.refuse(id, REFUSED_FOR);
        self.book.refuse(&id, now);
        self.disconnect(id, now);
    }

    fn on_identified(
        &mut self,
        id: PeerId,
        connection: ConnectionId,
        info: &identify::Info,
        now: Instant,
    ) {
        if ![LINK_PROTOCOL, NO_LINK_PROTOCOL].iter().any(|name| info.protocols.contains(name)) {
            self.refuse_foreign(id, now);
            return;
        }
        if !self.waits {
            self.nat_identified(id, info, now);
        }
        let linkless = self.linkless.get(&connection).map(|(_, address)| address);
        let connections =
            self.peers.get(&id).into_iter().flat_map(|peer| peer.connections.values());
        let remote: Vec<_> = connections
            .map(|connection| &connection.address)
            .chain(linkless)
            .filter(|address| !is_circuit(address))
            .filter_map(address_book::ip_of)
            .collect();
        // Where it listens on this LAN, or at the address that it comes from; nobody else's.
        let believable = |address: &&Multiaddr| {
            let Some(ip) = address_book::ip_of(address).filter(|_| !is_circuit(address)) else {
                return false;
            };
            remote.iter().any(|remote| {
                let lan = address_book::is_lan(ip) && address_book::is_lan(*remote);
                ip == *remote || lan && (remote.is_loopback() || !ip.is_loopback())
            })
        };
        let listens: Vec<_> =
            info.listen_addrs.iter().filter(believable).take(ADDRESSES_PER_PEER).cloned().collect();
        self.dht_meets(id, connection, &info.protocols, &listens);
        let linked = self.peers.get(&id).is_some_and(Peer::is_linked);
        if self.waits {
            return;
        }
        if !linked && !self.book.knows(&id) {
            // It may have come for something else: it is worth dialling once it has a link.
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.listens = listens;
            }
            return;
        }
        for address in listens {
            self.learn(id, &address, Source::Peer, now);
            self.book.supersede(&id, &address);
        }
    }

    // Discovery

    fn on_beacon(&mut self, heard: Heard) {
        let now = Instant::now();
        let peer = heard.peer;
        if peer == self.local {
            if self.copies_seen.len() < COPIES_MAX && self.copies_seen.insert(heard.instance) {
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
        let instance = self.book.instance(&peer, heard.instance, now);
        let linked = self.peers.get_mut(&peer).filter(|peer| peer.is_linked());
        let unknown = linked.is_none() || instance == Instance::Changed;
        if let Some(linked) = linked {
            linked.restarted |= instance == Instance::Changed;
        }
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
        self.forget_refusals();
        self.dht_moved(Instant::now());
        self.publish();
    }

    /// The mDNS library keeps every announcement that it hears for as long as that says.
    fn bound_mdns(&mut self, now: Instant) {
        let mdns = &mut self.swarm.behaviour_mut().mdns;
        if mdns.as_ref().is_none_or(|mdns| mdns.discovered_nodes().len() < MDNS_ENTRIES) {
            return;
        }
        if self.mdns_warning.is_none_or(|at| now.saturating_duration_since(at) > WARN_AGAIN) {
            self.mdns_warning = Some(now);
            tracing::warn!("too many mDNS announcements; beginning anew");
        }
        *mdns = behaviour::responder(self.local).into();
        for (address, listener) in &self.listening.addresses {
            mdns.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr {
                listener_id: *listener,
                addr: address,
            }));
        }
    }

    // Status

    fn publish(&mut self) {
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
                    reach: self.reach_of(address),
                    connected_since: current.since,
                    rtt: peer.rtt,
                    queued: current.link.queued(),
                    connections: peer.connections.len(),
                })
            })
            .collect();
        let remotes = self.remote_status(Instant::now());
        let dht = self.dht_status();
        let gossip = self.gossip_status();
        let (external, circuits) = self.own_addresses();
        let mut status = self.shared.status();
        (status.external, status.circuits) = (external, circuits);
        status.listen = self.listening.addresses.keys().cloned().collect();
        status.peers = peers;
        status.addresses = self.book.len();
        status.dials = self.attempts.len();
        status.remotes = remotes;
        status.dht = dht;
        status.gossip = gossip;
    }
}
