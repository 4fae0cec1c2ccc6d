//! The distributed hash table with real swarms on loopback: found by almost everybody, also after half
//! of the devices left; nothing made up is believed or kept.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use golix::{Ghid, Suite};
use hypergolix_engine::account::{self, Keys, ScryptCost};
use hypergolix_engine::route::{self, Subject};
use hypergolix_node::network::{
    DhtConfig, DhtMode, Network, NetworkConfig, NetworkEvent, Presence,
};
use hypergolix_node::run::OsEntropy;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

/// Everything that is waited for happens within this, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(60);

/// Devices of the large test.
const DEVICES: usize = 50;

/// Lookups before and after half of them left.
const TRIES: usize = 200;

struct Device {
    network: Network,
    events: mpsc::Receiver<NetworkEvent>,
}

impl Device {
    fn start(config: NetworkConfig) -> Self {
        let (sender, events) = mpsc::channel(1_024);
        Self { network: Network::start(config, sender).unwrap(), events }
    }

    fn dht(&self) -> hypergolix_node::network::DhtStatus {
        self.network.status().dht.expect("it takes part")
    }

    async fn address(&self) -> Multiaddr {
        let loopback = |address: &&Multiaddr| address.to_string().starts_with("/ip4/127.0.0.1/tcp");
        wait("an address", || self.network.status().listen.iter().find(loopback).cloned()).await
    }
}

async fn wait<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn config(mode: DhtMode, peers: &[Multiaddr], presences: Vec<Presence>) -> NetworkConfig {
    NetworkConfig {
        lan: false,
        listen_hosts: vec![Ipv4Addr::LOCALHOST.into()],
        memory_max: usize::MAX,
        connections_in: 1_024,
        inbound: (10_000, 10_000),
        peers: peers.to_vec(),
        dht: DhtConfig { mode, presences, ..DhtConfig::default() },
        ..NetworkConfig::new(Keypair::generate_ed25519())
    }
}

fn root(number: usize) -> Subject {
    Subject::Root(Ghid::of(&number.to_be_bytes()))
}

fn presence(subject: Subject) -> Presence {
    Presence { subject, keys: None }
}

fn identity() -> (Keys, Ghid) {
    let made =
        account::create("a password of tests", Suite::Suite3, ScryptCost::LOWEST, &mut OsEntropy);
    let (account, _, _) = made.unwrap();
    (account.keys(), account.fingerprint())
}

fn p95(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() * 95 / 100]
}

/// Looks for devices' subjects from other devices; how many were found, and how long it took.
async fn look_around(devices: &[(usize, Device)]) -> (usize, Vec<Duration>) {
    let (mut found, mut times) = (0, Vec::new());
    for number in 0..TRIES {
        // A different pair each time.
        let from = number % devices.len();
        let step = 1 + number / devices.len() % (devices.len() - 1);
        let (wanted, target) = &devices[(from + step) % devices.len()];
        let asked = Instant::now();
        let routes = devices[from].1.network.find(root(*wanted)).await;
        times.push(asked.elapsed());
        let device = target.network.peer_id().to_bytes();
        found += usize::from(routes.iter().any(|route| route.host.device == device));
    }
    (found, times)
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_devices_find_each_other_also_after_half_of_them_left() {
    let first = Device::start(config(DhtMode::Server, &[], vec![presence(root(0))]));
    let bootstrap = first.address().await;
    let mut devices = vec![(0, first)];
    for number in 1..DEVICES {
        let presences = vec![presence(root(number))];
        let config = config(DhtMode::Server, std::slice::from_ref(&bootstrap), presences);
        devices.push((number, Device::start(config)));
    }
    for (number, device) in &devices {
        wait("a routing table", || (device.dht().peers >= 20).then_some(())).await;
        wait("publication", || (device.dht().published == 1).then_some(())).await;
        assert!(device.dht().serves, "{number}");
    }
    let (found, mut times) = look_around(&devices).await;
    println!("{DEVICES} devices: {found} of {TRIES} found, p95 {:?}", p95(&mut times));
    assert!(found * 100 >= TRIES * 99, "{found} of {TRIES}");

    // Half of them leave, the one that all others began with among them.
    for (_, device) in devices.drain(..DEVICES / 2) {
        device.network.shutdown().await;
    }
    let (found, mut times) = look_around(&devices).await;
    println!("half of them left: {found} of {TRIES} found, p95 {:?}", p95(&mut times));
    assert!(found * 100 >= TRIES * 99, "{found} of {TRIES}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_that_know_only_a_server_and_a_fingerprint_get_a_link() {
    let server = Device::start(config(DhtMode::Server, &[], Vec::new()));
    let bootstrap = [server.address().await];
    let (keys, alice) = identity();
    let subject = Subject::Identity(alice);
    let own = vec![Presence { subject, keys: Some(keys) }];
    let one = Device::start(config(DhtMode::Client, &bootstrap, own));
    let mut two = Device::start(config(DhtMode::Client, &bootstrap, Vec::new()));
    wait("publication", || (one.dht().published == 1).then_some(())).await;
    wait("a server", || (two.dht().peers == 1).then_some(())).await;
    assert!(!one.dht().serves && !two.dht().serves);
    assert_eq!(server.dht().records, route::epochs_written(now()).len());
    two.network.seek(subject);
    let found = async {
        let (mut told, mut linked) = (false, false);
        while !(told && linked) {
            match two.events.recv().await.expect("it runs") {
                NetworkEvent::Found { subject: found, routes } => {
                    assert_eq!(found, subject);
                    assert_eq!(routes.len(), 1);
                    assert_eq!(routes[0].host.device, one.network.peer_id().to_bytes());
                    told = true;
                }
                NetworkEvent::LinkUp { device, .. } => {
                    linked |= device == one.network.peer_id().to_bytes();
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("a link");
    // Somebody else is not found, and nobody else's record was made up.
    assert!(two.network.find(Subject::Identity(Ghid::of(b"nobody"))).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_leave_no_links_behind() {
    let server = Device::start(config(DhtMode::Server, &[], Vec::new()));
    let bootstrap = [server.address().await];
    let mut others = Vec::new();
    for number in 0..6 {
        let presences = vec![presence(root(number))];
        others.push(Device::start(config(DhtMode::Server, &bootstrap, presences)));
    }
    for device in &others {
        wait("publication", || (device.dht().published == 1).then_some(())).await;
        wait("a routing table", || (device.dht().peers >= 6).then_some(())).await;
    }
    let linked = |device: &Device| -> Vec<PeerId> {
        device.network.status().peers.iter().map(|peer| peer.peer_id).collect()
    };
    for number in 0..6 {
        let routes = others[(number + 1) % 6].network.find(root(number)).await;
        assert_eq!(routes.len(), 1);
    }
    for device in &others {
        assert_eq!(linked(device), [server.network.peer_id()], "only who is configured");
    }
    assert_eq!(linked(&server).len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_survive_the_restart_of_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dht.records");
    let mut kept = config(DhtMode::Server, &[], Vec::new());
    kept.dht.file = Some(file.clone());
    let server = Device::start(kept.clone());
    let bootstrap = [server.address().await];
    let one = Device::start(config(DhtMode::Client, &bootstrap, vec![presence(root(1))]));
    wait("publication", || (one.dht().published == 1).then_some(())).await;
    one.network.shutdown().await;
    assert_eq!(server.dht().records, route::epochs_written(now()).len());
    server.network.shutdown().await;

    let server = Device::start(kept);
    let bootstrap = [server.address().await];
    let two = Device::start(config(DhtMode::Client, &bootstrap, Vec::new()));
    wait("a server", || (two.dht().peers == 1).then_some(())).await;
    let routes = two.network.find(root(1)).await;
    assert_eq!(routes.len(), 1);
    assert_eq!(routes[0].host.device, one.network.peer_id().to_bytes());
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}
