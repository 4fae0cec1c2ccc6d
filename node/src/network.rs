//! The network of a node: finds other devices, keeps one link to each, moves messages.
//!
//! One task owns the swarm; [`Network`] is its cloneable handle; what happens comes out of the
//! channel of [`NetworkEvent`]s. The wire, the limits and the timing are in `docs/network.md`.
//!
//! In reading order: `wire` (frames), `link` (one link's queue and task), `substream` (opening
//! and accepting it), `origin`, `places` and `muxer` (what each address may take), `behaviour` and
//! `transport` (what the swarm is made of), `address_book` (whom to dial when), `beacon` (discovery
//! beside mDNS), `dht` (route records), `gossip` (announcements), `ports` (whether they are free),
//! `event_loop` (the task), `limits`.

mod address_book;
mod beacon;
mod behaviour;
mod device_key;
mod dht;
mod dial_filter;
mod event_loop;
mod gossip;
pub mod limits;
mod link;
mod muxer;
mod nat;
mod origin;
mod places;
pub(crate) mod ports;
mod substream;
mod transport;
mod websocket;
mod wire;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use golix::Ghid;
use hypergolix_engine::announcement::Moved;
use hypergolix_engine::input::LinkId;
use hypergolix_engine::message::Message;
use hypergolix_engine::route::{Host, Route, Subject};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, Swarm, TransportError, noise, swarm};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use address_book::is_dialled;
pub use beacon::BEACON_PORT;
pub use device_key::{DeviceKeyError, load_or_create};
pub use dht::{DhtConfig, DhtMode, DhtStatus, Presence, RecordCaps};
pub use limits::RelayLimits;
pub use nat::{NatRole, Reach};
pub use websocket::{Certificate, CertificateError};
pub use wire::LINK_PROTOCOL;

use beacon::Beacon;
use behaviour::Behaviour;
use dial_filter::DialFilter;
use event_loop::{Dht, EventLoop};
use gossip::Orders;
use link::{End, Link, Outlet};
use origin::Pools;

/// What a network is started with.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// The device's key; its peer id is what other devices see and dial.
    pub device_key: Keypair,
    /// TCP and QUIC port; 0 takes any.
    pub listen_port: u16,
    /// Port and certificate of secure websockets.
    pub websocket: Option<(u16, Certificate)>,
    /// Own addresses to listen and announce on; empty takes all of them. With loopback addresses
    /// alone nothing leaves the machine.
    pub listen_hosts: Vec<IpAddr>,
    /// Whether to announce ourselves on the LAN and to listen for others, by all means below.
    pub lan: bool,
    /// Whether mDNS is one of them.
    pub mdns: bool,
    /// Whether our own beacon is one of them.
    pub beacon: bool,
    /// UDP port of the beacon; [`BEACON_PORT`] except in tests.
    pub beacon_port: u16,
    /// Devices to keep dialling, with or without a peer id at the end.
    pub peers: Vec<Multiaddr>,
    /// Persisters that this device may use.
    pub remotes: Vec<Target>,
    /// Whether only what is configured is dialled, and nobody who came to us: servers wait.
    pub waits: bool,
    /// What it does about NATs.
    pub nat: NatRole,
    /// Established connections that others opened.
    pub connections_in: u32,
    /// New inbound connections of one address prefix: at once, and a second.
    pub inbound: (u32, u32),
    /// Resident memory of the process, bytes, above which new connections are refused.
    pub memory_max: usize,
    /// The distributed hash table.
    pub dht: DhtConfig,
    /// Whether announcements are made, heard and passed on.
    pub gossip: bool,
}

/// A remote: where a persister is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// For people: host and port.
    pub name: String,
    /// Where to dial, one after the other.
    pub addresses: Vec<Multiaddr>,
}

impl Target {
    /// The remote at a host and a port, over QUIC and TCP, or over secure websockets.
    pub fn new(host: &str, port: u16, tls: bool) -> Self {
        let name = format!("{host} {port}");
        Self { name, addresses: event_loop::addresses(host, port, tls) }
    }
}

/// What a network dials by itself.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    /// Devices, with or without a peer id at the end.
    pub peers: Vec<Multiaddr>,
    /// Persisters that this device may use.
    pub remotes: Vec<Target>,
}

/// One remote.
#[derive(Debug, Clone)]
pub struct RemoteStatus {
    /// Host and port.
    pub name: String,
    /// Who answered there last.
    pub peer_id: Option<PeerId>,
    /// Whether a connection to it stands.
    pub connected: bool,
    /// Whether it is being dialled.
    pub dialing: bool,
    /// Dials that failed since it was reached last.
    pub attempts: u32,
    /// When it is dialled again.
    pub next_dial: Option<Duration>,
    /// Why it was not reached, or why it is gone.
    pub error: Option<String>,
}

impl NetworkConfig {
    /// The usual settings: any port, LAN discovery, nobody configured.
    pub fn new(device_key: Keypair) -> Self {
        Self {
            device_key,
            listen_port: 0,
            websocket: None,
            listen_hosts: Vec::new(),
            lan: true,
            mdns: true,
            beacon: true,
            beacon_port: BEACON_PORT,
            peers: Vec::new(),
            remotes: Vec::new(),
            waits: false,
            nat: NatRole::default(),
            connections_in: limits::CONNECTIONS_IN,
            inbound: (limits::INBOUND_BURST, limits::INBOUND_RATE),
            memory_max: limits::MEMORY_MAX,
            dht: DhtConfig::default(),
            gossip: true,
        }
    }
}

/// What the network tells the node. For one link: `LinkUp`, then messages and `Drained`, then
/// `LinkDown`; a new link to the same device comes after that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkEvent {
    /// A link is open in both directions.
    LinkUp {
        /// The link.
        link: LinkId,
        /// The other device: the bytes of its libp2p PeerId, proved by the connection.
        device: Vec<u8>,
        /// Whether it answered at the address of a remote.
        remote: bool,
    },
    /// A message arrived.
    Message {
        /// By which link.
        link: LinkId,
        /// The message.
        message: Message,
    },
    /// Everything sent so far was written.
    Drained {
        /// On which link.
        link: LinkId,
    },
    /// The DHT said where a subject is to be found. These devices are being dialled; there may be none.
    Found {
        /// What was looked for.
        subject: Subject,
        /// Who serves it, verified.
        routes: Vec<Route>,
    },
    /// Where others may find this device from now on, and which persisters it uses; only while it takes
    /// part in the DHT.
    Here {
        /// What it says of itself.
        route: Route,
    },
    /// A server announced that objects of an author moved, who is listened to.
    Announced {
        /// The author.
        author: Ghid,
        /// What moved.
        moved: Vec<Moved>,
        /// The server, and where it says it is.
        host: Host,
    },
    /// A link ended. What was queued for it is gone.
    LinkDown {
        /// Which.
        link: LinkId,
    },
}

/// Why a network does not start. An interface that is down or a beacon port in use is no reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The device key does not work.
    #[error("the device key cannot be used: {0}")]
    Key(#[from] noise::Error),
    /// Neither TCP nor QUIC can listen.
    #[error("port {port} cannot be listened on: {source}")]
    Listen {
        /// The configured port.
        port: u16,
        /// Why, for the first address.
        source: TransportError<std::io::Error>,
    },
    /// Another process has the port.
    #[error(
        "port {port} is in use ({transport} on {host}); stop the program that has it, or choose \
         another port"
    )]
    InUse {
        /// The configured port.
        port: u16,
        /// On which address.
        host: IpAddr,
        /// TCP or UDP, which QUIC goes over.
        transport: &'static str,
    },
    /// This computer has no such address.
    #[error("this computer has no address {host}; name one that it has, or listen on all of them")]
    NoSuchAddress {
        /// The configured address.
        host: IpAddr,
    },
    /// The port is for processes with more rights.
    #[error("port {port} is reserved by the system; choose one above 1023")]
    Reserved {
        /// The configured port.
        port: u16,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

/// The state of the network at one moment.
#[derive(Debug, Clone)]
pub struct NetworkStatus {
    /// Our device.
    pub peer_id: PeerId,
    /// Where we listen, one entry per interface address and transport.
    pub listen: Vec<Multiaddr>,
    /// Addresses of ours that a test from outside confirmed.
    pub external: Vec<Multiaddr>,
    /// Addresses of ours at relays, as others dial them.
    pub circuits: Vec<Multiaddr>,
    /// Devices with a link.
    pub peers: Vec<PeerStatus>,
    /// Addresses of devices remembered, at most [`limits::ADDRESSES_MAX`].
    pub addresses: usize,
    /// Dials under way, at most [`limits::DIALS_MAX`].
    pub dials: usize,
    /// The remotes.
    pub remotes: Vec<RemoteStatus>,
    /// The distributed hash table, unless it is switched off.
    pub dht: Option<DhtStatus>,
    /// Announcements, unless they are switched off.
    pub gossip: Option<GossipStatus>,
}

/// Announcements at one moment, and since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GossipStatus {
    /// Topics joined, at most 64.
    pub shards: u32,
    /// Authors listened to.
    pub listens: usize,
    /// Devices with which some topic is shared directly.
    pub mesh: usize,
    /// Servers that are visited for what they announced.
    pub visits: usize,
    /// Announcements of our own that somebody took.
    pub announced: u64,
    /// Announcements about authors who are listened to.
    pub heard: u64,
    /// Announcements that were good.
    pub passed_on: u64,
    /// Announcements that were late, double or too many.
    pub dropped: u64,
    /// Announcements that counted against whoever passed them on.
    pub refused: u64,
}

/// One linked device.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// The device.
    pub peer_id: PeerId,
    /// Its link.
    pub link: LinkId,
    /// Where the link's connection goes.
    pub address: Multiaddr,
    /// How it goes there.
    pub reach: Reach,
    /// When the link came up.
    pub connected_since: Instant,
    /// Round trip of the last ping; none before the first.
    pub rtt: Option<Duration>,
    /// Bytes waiting to be written.
    pub queued: usize,
    /// Connections to the device; one in the long run.
    pub connections: usize,
}

impl PeerStatus {
    /// How long the link is up.
    pub fn connected_for(&self) -> Duration {
        self.connected_since.elapsed()
    }
}

/// What the handle and the tasks share.
#[derive(Debug)]
struct Shared {
    links: Mutex<HashMap<LinkId, Arc<Link>>>,
    status: Mutex<NetworkStatus>,
    gossip: Orders,
    pools: Pools,
}

impl Shared {
    fn links(&self) -> MutexGuard<'_, HashMap<LinkId, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> MutexGuard<'_, NetworkStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Handle to a running network; clones reach the same one.
#[derive(Debug, Clone)]
pub struct Network {
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
    targets: Arc<watch::Sender<Targets>>,
    orders: mpsc::Sender<Order>,
    reach: mpsc::Sender<(LinkId, PeerId)>,
}

/// What the node wants of the DHT.
#[derive(Debug)]
enum Order {
    /// Say this of ourselves from now on, and nothing else.
    Present(Vec<Presence>),
    /// Say that these addresses are published here, and no others.
    Publish(Vec<Ghid>),
    /// Look for a subject, dial who serves it, and say so.
    Seek(Subject),
    /// Only look.
    Find(Subject, oneshot::Sender<Vec<Route>>),
    /// Dial a device.
    Visit(Host),
    /// End the link to a device, and dial it no more, unless it is configured.
    Leave(PeerId),
}

/// Orders that may wait; more are dropped, and given again by who needs them.
const ORDERS_MAX: usize = 1_024;

impl Network {
    /// Starts listening, discovery and the swarm's task. Needs a tokio runtime.
    ///
    /// `events` bounds what may wait for the node; when it is full, links are read no further.
    ///
    /// # Errors
    /// [`NetworkError`].
    pub fn start(
        config: NetworkConfig,
        events: mpsc::Sender<NetworkEvent>,
    ) -> Result<Self, NetworkError> {
        let key = &config.device_key;
        let local = key.public().to_peer_id();
        let instance = getrandom::u64()?;
        let hosts = config.listen_hosts.as_slice();
        // Where others remember us from the last time.
        let port_before = config.dht.port_file.as_deref().and_then(dht::read_port);
        // mDNS speaks on every interface but loopback.
        let only_loopback = !hosts.is_empty() && hosts.iter().all(IpAddr::is_loopback);
        let mdns = config.lan && config.mdns && !only_loopback;
        let (relayed, behaviour) = Behaviour::new(key, mdns, &config);
        let filter = DialFilter::default();
        filter.refresh();
        let (websocket_port, certificate) = config.websocket.clone().unzip();
        let settings = swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(limits::IDLE_CONNECTION)
            .with_dial_concurrency_factor(DIAL_CONCURRENCY);
        let pools = Pools::new(config.memory_max);
        let mut swarm = Swarm::new(
            transport::build(key, relayed, filter.clone(), certificate, &pools.unread)?,
            behaviour,
            local,
            settings,
        );
        listen(&mut swarm, hosts, config.listen_port, port_before)?;
        if let Some(port) = websocket_port {
            listen_for_websockets(&mut swarm, hosts, port)?;
        }
        let beacon = (config.lan && config.beacon)
            .then(|| Beacon::start(local, instance, config.beacon_port));

        let status = NetworkStatus {
            peer_id: local,
            listen: Vec::new(),
            external: Vec::new(),
            circuits: Vec::new(),
            peers: Vec::new(),
            addresses: 0,
            dials: 0,
            remotes: Vec::new(),
            dht: None,
            gossip: None,
        };
        let shared = Arc::new(Shared {
            links: Mutex::default(),
            status: Mutex::new(status),
            gossip: Orders::default(),
            pools,
        });
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (targets, wanted) =
            watch::channel(Targets { peers: config.peers, remotes: config.remotes });
        let (reach, to_reach) = mpsc::channel(limits::REACH_QUEUE);
        let (orders, taken) = mpsc::channel(ORDERS_MAX);
        let dht = Dht::new(config.dht, taken);
        let event_loop = EventLoop::new(
            swarm,
            Arc::clone(&shared),
            Outlet::new(events),
            beacon,
            (wanted, to_reach),
            (config.nat, filter),
            dht,
        )
        .waiting(config.waits);
        tasks.spawn(event_loop.run(stop.clone()));
        tasks.close();
        Ok(Self { shared, stop, tasks, targets: Arc::new(targets), reach, orders })
    }

    /// Queues a message; never waits. On a link that is gone it goes nowhere; a queue longer than
    /// [`limits::QUEUE_BYTES`] ends the link.
    pub fn send(&self, link: LinkId, message: Message) {
        let link = self.shared.links().get(&link).map(Arc::clone);
        if let Some(link) = link {
            link.send(&message);
        }
    }

    /// Ends a link and its connection; dialling begins again at once. When the peer `misbehaved`,
    /// it is refused for [`limits::REFUSED_FOR`] instead.
    pub fn close(&self, link: LinkId, misbehaved: bool) {
        let link = self.shared.links().get(&link).map(Arc::clone);
        if let Some(link) = link {
            link.end(if misbehaved { End::Misbehaved } else { End::Closed });
        }
    }

    /// Dials other peers and remotes from now on; links to remotes that are no longer among them end.
    pub fn retarget(&self, targets: Targets) {
        self.targets.send_replace(targets);
    }

    /// Says in the DHT from now on where these subjects are to be found: at this device.
    pub fn present(&self, presences: Vec<Presence>) {
        self.order(Order::Present(presences));
    }

    /// The same for addresses that are published on purpose, and for nothing else.
    pub fn publish(&self, addresses: Vec<Ghid>) {
        self.order(Order::Publish(addresses));
    }

    /// Looks for a subject in the DHT, dials whoever serves it, and says so with
    /// [`NetworkEvent::Found`].
    pub fn seek(&self, subject: Subject) {
        self.order(Order::Seek(subject));
    }

    /// What the DHT says of a subject; nobody is dialled for a link.
    pub async fn find(&self, subject: Subject) -> Vec<Route> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Find(subject, answer));
        answered.await.unwrap_or_default()
    }

    /// Dials a device that was heard of.
    pub fn visit(&self, host: Host) {
        self.order(Order::Visit(host));
    }

    /// Lets go of a device that was visited, unless the configuration wants it.
    pub fn leave(&self, device: &[u8]) {
        if let Ok(device) = PeerId::from_bytes(device) {
            self.order(Order::Leave(device));
        }
    }

    /// Tells of announcements about an author from now on, or no longer.
    pub fn listen(&self, author: Ghid, listens: bool) {
        self.shared.gossip.listen(author, listens);
    }

    /// Passes announcements of these shards on, beside those of the authors that are listened to: one bit
    /// each.
    pub fn join_shards(&self, shards: u64) {
        self.shared.gossip.join(shards);
    }

    /// Announces that objects of an author moved, to whoever hears it.
    pub fn announce(&self, author: Ghid, moved: Vec<Moved>) {
        self.shared.gossip.announce(author, moved);
    }

    /// Connects for [`limits::VISIT`] to a server that announced something.
    pub fn visit_announcer(&self, host: Host) {
        self.shared.gossip.visit(host);
    }

    /// Forgets who is listened to and which shards were joined: a new engine begins.
    pub fn begin_gossip_anew(&self) {
        self.shared.gossip.reset();
    }

    fn order(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            tracing::debug!("too many orders for the DHT");
        }
    }

    /// Connects to a device that is linked to the persister of `via`, through it if need be. Beyond
    /// [`limits::REACH_QUEUE`] it is forgotten: the persister says so again with the next link.
    pub fn reach(&self, via: LinkId, device: &[u8]) {
        if let Ok(device) = PeerId::from_bytes(device) {
            let _ = self.reach.try_send((via, device));
        }
    }

    /// Where others may dial us: what a test from outside confirmed, what we listen on with a public
    /// address, and our places at relays.
    pub fn addresses(&self) -> Vec<Multiaddr> {
        let status = self.shared.status();
        let public =
            |address: &&Multiaddr| address_book::ip_of(address).is_some_and(dial_filter::is_global);
        let mut addresses: Vec<Multiaddr> = status.external.clone();
        addresses.extend(status.listen.iter().filter(public).cloned());
        addresses.sort_unstable();
        addresses.dedup();
        addresses.extend(status.circuits.iter().cloned());
        addresses
    }

    /// What the network is doing.
    pub fn status(&self) -> NetworkStatus {
        let mut status = self.shared.status().clone();
        let links = self.shared.links();
        for peer in &mut status.peers {
            peer.queued = links.get(&peer.link).map_or(0, |link| link.queued());
        }
        status
    }

    /// Our device's peer id.
    pub fn peer_id(&self) -> PeerId {
        self.shared.status().peer_id
    }

    /// Writes what is queued, for at most [`limits::SHUTDOWN`], and stops. No events follow.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

/// All addresses of a peer are dialled at once.
const DIAL_CONCURRENCY: std::num::NonZeroU8 =
    std::num::NonZeroU8::new(limits::ADDRESSES_PER_PEER as u8).expect("not zero");

const ALL: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

/// Listens for secure websockets on the given addresses or all of them; one that works is enough.
fn listen_for_websockets(
    swarm: &mut Swarm<Behaviour>,
    hosts: &[IpAddr],
    port: u16,
) -> Result<(), NetworkError> {
    let hosts = if hosts.is_empty() { &ALL } else { hosts };
    let mut refusal = None;
    let mut listens = false;
    for host in hosts {
        let address = Multiaddr::from(*host).with(Protocol::Tcp(port));
        match swarm.listen_on(address.with(Protocol::Tls).with(Protocol::Ws("/".into()))) {
            Ok(_) => listens = true,
            Err(error) => {
                refusal.get_or_insert(error);
            }
        }
    }
    match refusal {
        Some(source) if !listens => Err(NetworkError::Listen { port, source }),
        _ => Ok(()),
    }
}

/// Listens on the given addresses or all of them, TCP and QUIC; one that works is enough.
/// Instead of any port it takes the one `before`, where that is free.
fn listen(
    swarm: &mut Swarm<Behaviour>,
    hosts: &[IpAddr],
    port: u16,
    before: Option<u16>,
) -> Result<(), NetworkError> {
    let hosts = if hosts.is_empty() { &ALL } else { hosts };
    let mut refusal = None;
    let mut listens = false;
    for host in hosts {
        let host = Multiaddr::from(*host);
        let tcp = |port| host.clone().with(Protocol::Tcp(port));
        let quic = |port| host.clone().with(Protocol::Udp(port)).with(Protocol::QuicV1);
        let ways: [&dyn Fn(u16) -> Multiaddr; 2] = [&tcp, &quic];
        for address in ways {
            let before = before.filter(|_| port == 0);
            if before.is_some_and(|before| swarm.listen_on(address(before)).is_ok()) {
                listens = true;
                continue;
            }
            let address = address(port);
            match swarm.listen_on(address.clone()) {
                Ok(_) => listens = true,
                Err(error) => {
                    tracing::warn!(%address, %error, "not listening");
                    refusal.get_or_insert(error);
                }
            }
        }
    }
    match refusal {
        Some(source) if !listens => Err(NetworkError::Listen { port, source }),
        _ => Ok(()),
    }
}
