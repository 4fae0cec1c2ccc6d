//! `Server`: the parts of a persister, wired, started and stopped in order.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hypergolix_engine::PersisterConfig;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};

use crate::brain::Purpose;
use crate::control::ControlSocket;
use crate::ipc_service::{COMMANDS_MAX, Command};
use crate::network::ports::{self, Wanted};
use crate::network::{
    self, Certificate, DhtConfig, DhtMode, NatRole, Network, NetworkConfig, RecordCaps, RelayLimits,
};
use crate::node::{EVENTS_MAX, NodeError, end_of, spawn};
use crate::run::{Parts, RunError};
use crate::shutdown::STOP_DEADLINE;
use crate::status::{About, ServerFacts, peer_of};
use crate::store::{Store, StoreConfig};

/// The port of a server unless told otherwise, as documented.
pub const PORT_DEFAULT: u16 = 7770;

/// Connections that others open to a server, unless told otherwise. Each link takes some 100 kB.
pub const CONNECTIONS_IN: u32 = 4_096;

/// New connections from one address: at once, and a second. Many users may share one.
const INBOUND: (u32, u32) = (256, 64);

/// Resident memory above which a server takes no new connections, bytes.
const MEMORY_MAX: usize = 2 << 30;

/// Memory for pages of the store, bytes.
const CACHE: usize = 64 << 20;

/// How long a start waits for the system to say where we listen.
const LISTEN_TIME: Duration = Duration::from_secs(3);

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where it keeps what it stores; in memory without.
    pub cache: Option<PathBuf>,
    /// Own addresses to listen on; all of them if empty.
    pub hosts: Vec<IpAddr>,
    /// TCP and QUIC port; 0 takes any.
    pub port: u16,
    /// Port and certificate of secure websockets, beside `port`.
    pub websocket: Option<(u16, Certificate)>,
    /// Persisters to mirror, with their peer ids.
    pub mirrors: Vec<Multiaddr>,
    /// Devices to keep dialling, where the distributed hash table begins; servers among them exchange
    /// announcements with this one.
    pub peers: Vec<Multiaddr>,
    /// Whether it announces what moves, and hears what others announce.
    pub gossip: bool,
    /// Policy and quotas.
    pub persister: PersisterConfig,
    /// Connections that others may open; half of them from one address.
    pub connections: u32,
    /// What it relays for devices that cannot reach each other.
    pub relay: RelayLimits,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    network: Network,
    commands: mpsc::Sender<Command>,
    ended: oneshot::Receiver<Result<(), RunError>>,
    _control: ControlSocket,
}

/// The control socket that goes with a pid file.
pub fn control_path(pid_file: &Path) -> PathBuf {
    let mut name = pid_file.as_os_str().to_owned();
    name.push(".sock");
    name.into()
}

impl Server {
    /// Opens the store. Blocks, for a second a gigabyte.
    ///
    /// # Errors
    /// [`NodeError::Store`].
    pub fn open_store(cache: Option<&Path>) -> Result<Store, NodeError> {
        let config = StoreConfig { cache_bytes: CACHE, ..StoreConfig::default() };
        let (path, opened) = match cache {
            Some(folder) => {
                let path = folder.join("store.redb");
                (path.display().to_string(), Store::open(path, config))
            }
            None => ("memory".to_owned(), Store::in_memory(config)),
        };
        opened.map_err(|source| NodeError::Store { path, source })
    }

    /// The device key of a server: kept beside its store, or a new one each time.
    ///
    /// # Errors
    /// [`NodeError::DeviceKey`].
    pub fn device_key(cache: Option<&Path>) -> Result<Keypair, NodeError> {
        Ok(match cache {
            Some(folder) => network::load_or_create(&folder.join("device.key"))?,
            None => Keypair::generate_ed25519(),
        })
    }

    /// Starts the network and the loop: when this returns, clients are answered. Needs a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn start(
        options: ServerOptions,
        store: Store,
        key: Keypair,
        control: &Path,
        started: Instant,
    ) -> Result<Self, NodeError> {
        let websocket = options.websocket.as_ref().map(|(port, _)| (*port, Wanted::Websocket));
        let wanted: Vec<_> = [(options.port, Wanted::Plain)].into_iter().chain(websocket).collect();
        ports::wait_until_free(&options.hosts, &wanted).await.map_err(NodeError::Network)?;
        let (events, events_taken) = mpsc::channel(EVENTS_MAX);
        let network = Network::start(
            NetworkConfig {
                listen_port: options.port,
                websocket: options.websocket,
                listen_hosts: options.hosts.clone(),
                lan: false,
                waits: true,
                nat: NatRole::Server(options.relay),
                peers: [options.mirrors.as_slice(), &options.peers].concat(),
                gossip: options.gossip,
                connections_in: options.connections,
                inbound: INBOUND,
                memory_max: MEMORY_MAX,
                dht: DhtConfig {
                    mode: DhtMode::Server,
                    file: options.cache.as_deref().map(|folder| folder.join("dht.records")),
                    port_file: None,
                    caps: RecordCaps::SERVER,
                    presences: Vec::new(),
                },
                ..NetworkConfig::new(key)
            },
            events,
        )?;
        let (commands, commands_taken) = mpsc::channel(COMMANDS_MAX);
        let mut persister = options.persister;
        persister.mirrors =
            options.mirrors.iter().filter_map(peer_of).map(PeerId::to_bytes).collect();
        let facts = ServerFacts {
            started,
            network: network.clone(),
            mirrors: options.mirrors,
            peers: options.peers,
        };
        let parts = Parts {
            store,
            purpose: Purpose::Server(persister),
            commands: commands_taken,
            events: events_taken,
            network: network.clone(),
            started,
            about: About::Server(facts),
        };
        let ended = spawn(parts).await?;
        let control = ControlSocket::listen(control.to_owned(), commands.clone(), None);
        let control = match control {
            Ok(control) => control,
            Err(source) => {
                network.shutdown().await;
                return Err(NodeError::Control(source));
            }
        };
        Ok(Self { network, commands, ended, _control: control })
    }

    /// Where it listens, peer id included, once the system has said so: of each host both TCP and QUIC,
    /// and nothing new for a moment.
    pub async fn addresses(&self) -> Vec<Multiaddr> {
        let asked = Instant::now();
        let mut before = Vec::new();
        loop {
            let status = self.network.status();
            let tcp = hosts(&status.listen, |part| matches!(part, Protocol::Tcp(_)));
            let quic = hosts(&status.listen, |part| *part == Protocol::QuicV1);
            let complete = !tcp.is_empty() && tcp == quic && status.listen == before;
            if complete || asked.elapsed() > LISTEN_TIME {
                let id = Protocol::P2p(status.peer_id);
                return status.listen.into_iter().map(|a| a.with(id.clone())).collect();
            }
            before = status.listen;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its device.
    pub fn peer_id(&self) -> PeerId {
        self.network.peer_id()
    }

    /// Runs until `stop` completes, or something inside fails; then stops in order.
    ///
    /// # Errors
    /// What failed, or [`NodeError::SlowStop`].
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) -> Result<(), NodeError> {
        let early = tokio::select! {
            () = stop => None,
            ended = &mut self.ended => Some(end_of(ended)),
        };
        let ordered = async {
            if let Some(outcome) = early {
                self.network.shutdown().await;
                return outcome;
            }
            let _ = self.commands.send(Command::Stop).await;
            let outcome = end_of(self.ended.await);
            self.network.shutdown().await;
            outcome
        };
        match tokio::time::timeout(STOP_DEADLINE, ordered).await {
            Ok(outcome) => outcome,
            Err(_) => Err(NodeError::SlowStop),
        }
    }
}

/// The hosts of those addresses that have a part of some kind; without hosts that only one link knows.
fn hosts(addresses: &[Multiaddr], kind: impl Fn(&Protocol<'_>) -> bool) -> BTreeSet<IpAddr> {
    let of_kind = addresses.iter().filter(|address| address.iter().any(|part| kind(&part)));
    let hosts = of_kind.flat_map(Multiaddr::iter).filter_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) if !ip.is_unicast_link_local() => Some(IpAddr::V6(ip)),
        _ => None,
    });
    hosts.collect()
}
