//! The distributed hash table with real swarms on loopback: found by almost everybody, also after half
//! of the devices left; nothing made up is believed or kept.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use golix::{Ghid, Suite};
use hypergolix_engine::account::{self, Keys, ScryptCost};
use hypergolix_engine::route::{self, Host, Route, Subject};
use hypergolix_node::network::{
    DhtConfig, DhtMode, Network, NetworkConfig, NetworkEvent, Presence, RecordCaps, limits,
};
use hypergolix_node::run::OsEntropy;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::kad::store::MemoryStore;
use libp2p::kad::{self, QueryResult, Quorum, Record, RecordKey};
use libp2p::swarm::{self, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, Transport as _, noise, tcp, yamux};
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

/// A device that speaks the DHT's protocol and nothing else, and says what it likes.
struct Hostile {
    swarm: Swarm<kad::Behaviour<MemoryStore>>,
    server: PeerId,
}

impl Hostile {
    fn new(server: PeerId, at: &Multiaddr) -> Self {
        // The smaller one of a pair opens the link: it does not even have to pretend that it has one.
        let key = std::iter::repeat_with(Keypair::generate_ed25519)
            .find(|key| key.public().to_peer_id() < server)
            .expect("about every second one");
        let local = key.public().to_peer_id();
        let transport = tcp::tokio::Transport::new(tcp::Config::default())
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(&key).unwrap())
            .multiplex(yamux::Config::default())
            .boxed();
        let mut settings = kad::Config::new(StreamProtocol::new("/hgx/kad/1"));
        settings.set_max_packet_size(1 << 20).set_query_timeout(Duration::from_secs(10));
        let store = MemoryStore::new(local);
        let mut kad = kad::Behaviour::with_config(local, store, settings);
        kad.add_address(&server, at.clone());
        let settings = swarm::Config::with_tokio_executor();
        Self { swarm: Swarm::new(transport, kad, local, settings), server }
    }

    /// Puts records at the server; returns when each was answered or failed.
    async fn put(&mut self, records: Vec<(Vec<u8>, Vec<u8>)>) {
        let kad = self.swarm.behaviour_mut();
        let mut left = 0;
        for (key, value) in records {
            let record =
                Record { key: RecordKey::new(&key), value, publisher: None, expires: None };
            kad.put_record_to(record, std::iter::once(self.server), Quorum::One);
            left += 1;
        }
        self.until_answered(left).await;
    }

    /// Says that it provides something; the library's own kind of record.
    async fn provide(&mut self, keys: usize) {
        let kad = self.swarm.behaviour_mut();
        for number in 0..keys {
            kad.start_providing(RecordKey::new(&number.to_be_bytes())).unwrap();
        }
        self.until_answered(keys).await;
    }

    async fn until_answered(&mut self, mut left: usize) {
        let answered = async {
            while left > 0 {
                let event = self.swarm.select_next_some().await;
                if let SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed {
                    result: QueryResult::PutRecord(_) | QueryResult::StartProviding(_),
                    step,
                    ..
                }) = event
                {
                    left -= usize::from(step.last);
                }
            }
        };
        tokio::time::timeout(PATIENCE, answered).await.expect("every query ends");
    }
}

/// What a record of a root looks like that a device made up.
fn made_up(number: usize, stamp: u64) -> (Vec<u8>, Vec<u8>) {
    let subject = root(number);
    let epoch = route::epoch_of(stamp);
    let host = Host { device: vec![7; 38], addresses: vec![vec![1; 20]] };
    let route = Route { host, persisters: Vec::new(), stamp };
    (subject.key(epoch).to_vec(), subject.seal(epoch, &route, None, [number as u8; 12]))
}

/// Many devices of one network put very many records at a server, and whatever else comes to mind.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_records_is_bounded_and_harms_nobody() {
    let caps = RecordCaps { records: 400, bytes: 1 << 20, of_device: 32, of_prefix: 100 };
    let mut settings = config(DhtMode::Server, &[], Vec::new());
    settings.dht.caps = caps;
    let server = Device::start(settings);
    let at = server.address().await;
    let bootstrap = [at.clone()];
    let (keys, alice) = identity();
    let subject = Subject::Identity(alice);
    let own = vec![Presence { subject, keys: Some(keys) }, presence(root(0))];
    let honest = Device::start(config(DhtMode::Client, &bootstrap, own));
    wait("publication", || (honest.dht().published == 2).then_some(())).await;
    let reader = Device::start(config(DhtMode::Client, &bootstrap, Vec::new()));
    wait("a server", || (reader.dht().peers == 1).then_some(())).await;
    let local = server.network.peer_id();
    let now = now();
    let epochs = route::epochs_written(now).len();

    // Sound records of what nobody asks for: so many of each device, so many of its network.
    let mut devices: Vec<Hostile> = (0..5).map(|_| Hostile::new(local, &at)).collect();
    for (device, hostile) in devices.iter_mut().enumerate() {
        let numbers = (0..200).map(|number| 1_000 * (device + 1) + number);
        hostile.put(numbers.map(|number| made_up(number, now)).collect()).await;
    }
    // 200 a device are more than their pace, so not all were looked at.
    wait("the flood", || (server.dht().refused >= 900).then_some(())).await;
    assert!(server.dht().checked < 800, "{:?}", server.dht());
    let mut hostile = Hostile::new(local, &at);

    // What is malformed, oversized, of another key, forged, old, of the future.
    let (key, value) = made_up(1, now);
    let (other, _) = made_up(2, now);
    let mut bad: Vec<(Vec<u8>, Vec<u8>)> = vec![
        (key.clone(), Vec::new()),
        (key.clone(), vec![0; 10]),
        (key.clone(), vec![0xff; route::ENTRY_MAX]),
        (key.clone(), vec![0; route::RECORD_MAX + 1]),
        (other, value.clone()),
        (vec![1; 7], value.clone()),
        (Vec::new(), value.clone()),
        (key.clone(), value.repeat(route::ENTRIES_MAX + 1)),
        made_up(1, now - route::LIFETIME),
        made_up(1, now + 2 * route::SKEW_MAX),
    ];
    for byte in (7..value.len()).step_by(37) {
        let mut forged = value.clone();
        forged[byte] ^= 1;
        bad.push((key.clone(), forged));
    }
    // The honest device's own records, damaged: their keys are seen by whoever stores them.
    let honest_key = subject.key(route::epoch_of(now)).to_vec();
    bad.extend((0..20).map(|byte| (honest_key.clone(), vec![byte; 500])));
    let count = bad.len() as u64;
    hostile.put(bad).await;
    // Longer than any packet, and what the library would take.
    hostile.put(vec![(key, vec![0; 200 * 1024])]).await;
    hostile.provide(50).await;

    // 900 of the sound ones had no place, and none of the others.
    wait("refusals", || (server.dht().refused >= 900 + count).then_some(())).await;
    let status = server.dht();
    println!("{status:?}");
    assert!(status.records <= caps.of_prefix && status.bytes <= caps.bytes, "{status:?}");
    // Whoever came before stays.
    assert!(status.records > 2 * epochs);
    for subject in [subject, root(0)] {
        let routes = reader.network.find(subject).await;
        assert_eq!(routes.len(), 1, "{subject:?}");
        assert_eq!(routes[0].host.device, honest.network.peer_id().to_bytes());
    }
    assert!(reader.network.find(root(1)).await.is_empty());
}

/// A device brings one record again and again, and then whatever it likes: its signatures are checked
/// once, and at a pace.
#[tokio::test(flavor = "multi_thread")]
async fn replays_cost_no_signatures_and_floods_only_some() {
    let server = Device::start(config(DhtMode::Server, &[], Vec::new()));
    let at = server.address().await;
    let local = server.network.peer_id();
    let mut hostile = Hostile::new(local, &at);
    let record = made_up(1, now());
    for _ in 0..5 {
        hostile.put(vec![record.clone(); 10]).await;
    }
    wait("the replays", || (server.dht().refused == 49).then_some(())).await;
    assert_eq!(server.dht().checked, 1);

    let began = Instant::now();
    for batch in 1..=50 {
        let numbers = (0..20).map(|number| 100 * batch + number);
        hostile.put(numbers.map(|number| made_up(number, now())).collect()).await;
    }
    let seconds = u32::try_from(began.elapsed().as_secs()).unwrap();
    // Some fall by the wayside; what is counted is counted every few seconds.
    wait("the flood", || (server.dht().refused >= 500).then_some(())).await;
    let status = server.dht();
    println!("1,000 records in {seconds} s: {} checked", status.checked);
    let most = u64::from(limits::RECORDS_BURST + (seconds + 1) * limits::RECORDS_RATE);
    assert!(status.checked <= most, "{status:?}");
    // Somebody else's are looked at meanwhile.
    let mut honest = Hostile::new(local, &at);
    honest.put(vec![made_up(6_000, now())]).await;
    wait("one more", || (server.dht().checked == status.checked + 1).then_some(())).await;
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}
