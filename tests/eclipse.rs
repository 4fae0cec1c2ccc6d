//! A DHT whose neighbourhood of the record that matters is owned by hostile devices: nothing that they
//! make up is used, and whoever has another way to meet does.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use golix::{Ghid, Suite};
use hypergolix_engine::account::{self, Keys, ScryptCost};
use hypergolix_engine::route::{self, Host, Route, Subject};
use hypergolix_node::network::{DhtConfig, DhtMode, Network, NetworkConfig, NetworkEvent};
use hypergolix_node::run::OsEntropy;
use hypergolix_tests::harness::{self, trial};
use hypergolix_tests::namespaces::{Globe, Lan, Place};
use hypergolix_tests::process::{Home, Node, Server};
use hypergolix_tests::sybil::{Asked, Spot, Sybils, Trap, grind};
use hypergolix_tests::wait::{PATIENCE, pause, wait_for, wait_until};
use hypergolix_tests::wire::{Address, Definition, Wire, fresh_api};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

/// Hostile devices in all, unless twice as many are needed around midnight (UTC); of 220 with 200.
const SYBILS: &str = "HYPERGOLIX_ECLIPSE_SYBILS";
/// Honest ones beside 20, and beside 200 of them.
const HONEST: usize = 5;
const HONEST_OF_MANY: usize = 20;

/// From both nodes' start to the new state, whatever the DHT does.
const MET_MAX: Duration = Duration::from_secs(5);
/// How long somebody is looked for whom nothing leads to, and how often in it at most: at once, after
/// 10 s and after 20 s more.
const WATCHED: Duration = Duration::from_secs(29);
const LOOKUPS_MAX: usize = 2;
/// What was asked within this belongs to one lookup, which takes at most 10 s.
const ONE_LOOKUP: Duration = Duration::from_secs(5);
/// Pause between two looks at `status`: each is a process.
const POLL: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    harness::main(false, |world| {
        let trials = vec![
            trial("nobody_is_there", nobody_is_there),
            trial("nothing_made_up_is_used", nothing_made_up_is_used),
            trial("where_they_were", where_they_were),
            trial("a_server_in_common", a_server_in_common),
            trial("on_one_lan", on_one_lan),
        ];
        trials.into_iter().map(|trial| trial.with_ignored_flag(!world.namespaces)).collect()
    })
}

fn sybils() -> usize {
    let given = std::env::var(SYBILS).ok().and_then(|count| count.parse().ok());
    given.unwrap_or(hypergolix_tests::sybil::NEIGHBOURHOOD)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("before the year 500 million")
}

/// Where the records of a subject are, today and around midnight.
fn spots(subject: Subject) -> Vec<Spot> {
    let now = now();
    let epochs: BTreeSet<u32> =
        route::epochs_asked(now).into_iter().chain(route::epochs_written(now)).collect();
    epochs.into_iter().map(|epoch| subject.key(epoch)).collect()
}

fn identity_of(address: Address) -> Subject {
    Subject::Identity(Ghid::from_bytes(&address.0).expect("an address"))
}

/// An honest device of the DHT in this process.
struct Honest {
    network: Network,
    events: mpsc::Receiver<NetworkEvent>,
    address: Multiaddr,
    /// It lives as long as this.
    _place: Place,
}

impl Honest {
    fn start(place: &Place, host: &str, mode: DhtMode, peers: Vec<Multiaddr>) -> Self {
        let config = NetworkConfig {
            lan: false,
            listen_hosts: vec![host.parse().expect("an address")],
            memory_max: usize::MAX,
            connections_in: 1_024,
            inbound: (10_000, 10_000),
            peers,
            dht: DhtConfig { mode, ..DhtConfig::default() },
            ..NetworkConfig::new(Keypair::generate_ed25519())
        };
        let (sender, events) = mpsc::channel(1_024);
        let network = place.run(async move { Network::start(config, sender).expect("it starts") });
        let tcp =
            |address: &&Multiaddr| address.iter().any(|part| matches!(part, Protocol::Tcp(_)));
        let (address, _) =
            wait_for("an address", PATIENCE, || network.status().listen.iter().find(tcp).cloned());
        Self { network, events, address, _place: place.clone() }
    }

    fn known(&self) -> usize {
        self.network.status().dht.map_or(0, |dht| dht.peers)
    }
}

/// The DHT: some honest devices, the last of which knows all others, and is where nodes begin.
struct Dht {
    honest: Vec<Honest>,
    sybils: Option<Sybils>,
    hosts: (Place, Vec<String>),
    trap: Trap,
}

impl Dht {
    fn on(globe: &mut Globe) -> Self {
        let count = sybils();
        let honest = if count < 100 { HONEST } else { HONEST_OF_MANY };
        let places = (0..honest).map(|_| globe.public()).collect();
        Self::of(places, globe.public_in_many(2 * count))
    }

    fn of(places: Vec<(Place, String)>, hosts: (Place, Vec<String>)) -> Self {
        let mut honest: Vec<Honest> = Vec::new();
        for (place, host) in places {
            let peers = honest.iter().map(|honest| honest.address.clone()).collect();
            honest.push(Honest::start(&place, &host, DhtMode::Server, peers));
        }
        let others = honest.len() - 1;
        wait_until("the honest ones to know one another", PATIENCE, || {
            honest[others].known() >= others
        });
        let trap = Trap::start(&hosts.0, &hosts.1[0]);
        Self { honest, sybils: None, hosts, trap }
    }

    fn bootstrap(&self) -> &Honest {
        self.honest.last().expect("there are some")
    }

    /// From now on the neighbourhood of these places is hostile; so are most devices.
    fn besiege(&mut self, spots: &[Spot], devices: &[PeerId]) {
        let started = Instant::now();
        let honest = self.honest.iter().map(|honest| honest.network.peer_id());
        let honest: Vec<PeerId> = honest.chain(devices.iter().copied()).collect();
        let keys = grind(spots, &honest, sybils());
        let count = keys.len();
        let ground = started.elapsed();
        let at: Vec<Multiaddr> = self.honest.iter().map(|honest| honest.address.clone()).collect();
        self.sybils = Some(Sybils::start(&self.hosts.0, &self.hosts.1, keys, &at));
        // Every honest device has their names by now; `status` says so up to ten seconds later.
        pause(Duration::from_millis(500));
        let others = self.honest.len() - 1;
        println!(
            "{count} Sybils beside {} honest devices: ground in {ground:?}, known after {:?}",
            others + 1,
            started.elapsed()
        );
    }

    fn sybils(&self) -> &Sybils {
        self.sybils.as_ref().expect("it is besieged")
    }

    /// Nobody went where only made-up records lead.
    fn assert_nobody_was_fooled(&self, nodes: &[&Node]) {
        assert_eq!(self.trap.visits(), 0, "somebody believed a record that was made up");
        let sybils: BTreeSet<String> =
            self.sybils().peers().iter().map(ToString::to_string).collect();
        for node in nodes {
            let status = node.status();
            for peer in status["peers"].as_array().expect("a list") {
                let id = peer["peer_id"].as_str().expect("a name");
                assert!(!sybils.contains(id), "a link to a Sybil: {peer}");
            }
        }
    }
}

struct Account {
    keys: Keys,
    ghid: Ghid,
}

impl Account {
    fn new() -> Self {
        let made = account::create("of a test", Suite::Suite3, ScryptCost::LOWEST, &mut OsEntropy);
        let (account, _, _) = made.expect("an account");
        Self { keys: account.keys(), ghid: account.fingerprint() }
    }
}

/// A route to a device that listens at `address`.
fn route_to(device: PeerId, address: &Multiaddr, stamp: u64) -> Route {
    let host = Host { device: device.to_bytes(), addresses: vec![address.to_vec()] };
    Route { host, persisters: Vec::new(), stamp }
}

fn seal(subject: Subject, epoch: u32, route: &Route, keys: Option<&Keys>) -> Vec<u8> {
    subject.seal(epoch, route, keys, hypergolix_tests::crowd::random())
}

/// What somebody can make up who knows the address that a record is about, and has seen others.
fn made_up(subject: Subject, trap: &Multiaddr, seen: Option<&[u8]>) -> Vec<Vec<u8>> {
    let now = now();
    let epoch = route::epoch_of(now);
    let mallory = Account::new();
    let route = route_to(PeerId::random(), trap, now);
    let by_mallory = seal(subject, epoch, &route, Some(&mallory.keys));
    let mut answers = vec![
        seal(subject, epoch, &route, None),
        seal(Subject::Identity(mallory.ghid), epoch, &route, Some(&mallory.keys)),
        by_mallory[..by_mallory.len() - 1].to_vec(),
        by_mallory.repeat(route::ENTRIES_MAX + 1),
        vec![0xff; route::RECORD_MAX + 1],
        Vec::new(),
        by_mallory,
    ];
    if let Some(seen) = seen {
        // The head, what is sealed, the signature.
        for byte in [10, 60, seen.len() / 2, seen.len() - 1] {
            let mut forged = seen.to_vec();
            forged[byte] ^= 1;
            answers.push(forged);
        }
    }
    answers
}

/// Each kind of lie, and that none of them is believed or dialled; then the truth, which is.
fn nothing_made_up_is_used() {
    let mut globe = Globe::new();
    let mut dht = Dht::on(&mut globe);
    let bob = Account::new();
    let subject = Subject::Identity(bob.ghid);
    let today = spots(subject);
    dht.besiege(&today, &[]);
    let (place, host) = globe.public();
    let peers = vec![dht.bootstrap().address.clone()];
    let mut alice = Honest::start(&place, &host, DhtMode::Client, peers);
    wait_until("somebody to ask", PATIENCE, || alice.known() > 0);
    let find = |alice: &Honest, subject| {
        let network = alice.network.clone();
        place.run(async move { network.find(subject).await })
    };

    let now = now();
    let epoch = route::epoch_of(now);
    let trap = dht.trap.address().clone();
    let device = Keypair::generate_ed25519().public().to_peer_id();
    let true_at = |stamp| seal(subject, epoch, &route_to(device, &trap, stamp), Some(&bob.keys));
    let genuine = true_at(now);
    let mut answers = made_up(subject, &trap, Some(&genuine));
    // Bob's own, of another time.
    answers.push(true_at(now - route::LIFETIME - 1));
    answers.push(true_at(now + 2 * route::SKEW_MAX));
    let before = route_to(device, &trap, now);
    answers.push(seal(subject, epoch - 2, &before, Some(&bob.keys)));
    answers.push(seal(subject, epoch - 1, &before, Some(&bob.keys)));
    let kinds = answers.len();
    for spot in &today {
        dht.sybils().says(*spot, answers.clone());
    }
    for _ in 0..3 {
        let routes = find(&alice, subject);
        assert!(routes.is_empty(), "{routes:?}");
    }
    alice.network.seek(subject);
    let found = next_found(&place, &mut alice);
    assert!(found.is_empty(), "{found:?}");
    let asked: Vec<Asked> = today.iter().flat_map(|spot| dht.sybils().asked(spot)).collect();
    let who: BTreeSet<usize> = asked.iter().map(|asked| asked.sybil).collect();
    println!("{kinds} kinds of lies, {} answers of {} Sybils", asked.len(), who.len());
    assert!(who.len() >= 10 && asked.len() > 2 * kinds, "{} of {}", asked.len(), who.len());
    assert_eq!(dht.trap.visits(), 0);

    // Whoever knows a published address may say that it has it, and where: but not on our own machine,
    // nor in networks that are not ours.
    let published = Subject::Published(Ghid::of(b"published"));
    let inside = Trap::start(&place, "127.0.0.1");
    let addresses = [inside.address().clone()].into_iter().chain(
        [
            "/ip4/10.0.0.1/tcp/22",
            "/ip4/169.254.1.1/tcp/80",
            "/ip6/::1/tcp/25",
            "/dns/localhost/tcp/1",
        ]
        .map(|text| text.parse().expect("an address")),
    );
    let host = Host {
        device: PeerId::random().to_bytes(),
        addresses: addresses.map(|address: Multiaddr| address.to_vec()).collect(),
    };
    let claim = Route { host, persisters: Vec::new(), stamp: now };
    for spot in spots(published) {
        dht.sybils().says(spot, vec![seal(published, epoch, &claim, None)]);
    }
    alice.network.seek(published);
    let found = next_found(&place, &mut alice);
    println!("claims that were read: {}", found.len());
    pause(Duration::from_secs(1));
    let status = alice.network.status();
    assert_eq!((inside.visits(), status.dials), (0, 0), "an address inside was dialled");

    // The truth from one of them is enough, and the trap is one.
    for spot in &today {
        dht.sybils().says(*spot, vec![genuine.clone(), b"made up".to_vec()]);
    }
    let routes = find(&alice, subject);
    assert_eq!(routes.len(), 1);
    assert_eq!(routes[0].host.device, device.to_bytes());
    alice.network.seek(subject);
    wait_until("a dial to where Bob is", PATIENCE, || dht.trap.visits() > 0);
}

fn next_found(place: &Place, from: &mut Honest) -> Vec<Route> {
    let (sender, nobody) = mpsc::channel(1);
    drop(sender);
    let mut events = std::mem::replace(&mut from.events, nobody);
    let (events, routes) = place.run(async move {
        let found = async {
            loop {
                let event = events.recv().await.expect("it runs");
                if let NetworkEvent::Found { routes, .. } = event {
                    return routes;
                }
            }
        };
        let routes = tokio::time::timeout(2 * PATIENCE, found).await.expect("the lookup ends");
        (events, routes)
    });
    from.events = events;
    routes
}

/// A home, and its node.
struct Site {
    node: Node,
    app: Wire,
}

fn configure(home: &Home, words: &[&str]) {
    let output = home.run(&[&["config"], words].concat());
    assert!(output.status.success(), "{words:?}: {output:?}");
}

impl Site {
    fn start(home: &Home) -> Self {
        let node = home.start();
        let app = node.connect();
        Self { node, app }
    }

    fn new(place: &Place, words: &[&[&str]]) -> Self {
        let home = Home::new(place);
        configure(&home, &["--verbosity", "louder"]);
        for words in words {
            configure(&home, words);
        }
        Self::start(&home)
    }

    fn stop(self) -> Home {
        let home = self.node.home().clone();
        assert!(self.node.stop().success(), "a node that is asked to stop ends well");
        home
    }

    fn identity(&self) -> Subject {
        identity_of(self.node.address())
    }

    fn device(&self) -> PeerId {
        let id = self.node.status()["peer_id"].as_str().expect("a name").to_owned();
        id.parse().expect("a peer id")
    }

    fn has(&self, object: Address, state: &[u8], within: Duration) {
        wait_until("the state", within, || {
            self.app.try_get(object).is_ok_and(|definition| definition.state == state)
        });
    }

    fn stored(&self) {
        wait_until("everything to be stored", PATIENCE, || {
            pause(POLL);
            let remote = &self.node.status()["remotes"][0];
            remote["state"] == "connected" && remote["pending"] == 0
        });
    }
}

fn shared(alice: &Site, bob: &Site) -> Address {
    let mut definition = Definition::new(b"first");
    definition.api = fresh_api();
    bob.app.register_api(definition.api);
    let object = alice.app.make(&definition).expect("an object");
    alice.app.share(object, bob.node.address());
    bob.app.share_of(object, 2 * PATIENCE);
    bob.has(object, b"first", 2 * PATIENCE);
    object
}

/// From now on they believe in this DHT alone.
fn join(home: &Home, dht: &Dht) {
    configure(home, &["--dht"]);
    configure(home, &["--addpeer", &dht.bootstrap().address.to_string()]);
}

/// The Sybils lie about both, in all ways.
fn lie(dht: &Dht, subjects: &[Subject]) {
    for subject in subjects {
        for spot in spots(*subject) {
            let seen = dht.sybils().taken(&spot);
            dht.sybils().says(spot, made_up(*subject, dht.trap.address(), seen.as_deref()));
        }
    }
}

/// Both looked once, at least, and were lied to.
fn lied_to(dht: &Dht, subject: Subject) -> usize {
    spots(subject).iter().map(|spot| dht.sybils().asked(spot).len()).sum()
}

/// They met before, and nothing but the DHT told them where: now they remember.
fn where_they_were() {
    let mut globe = Globe::new();
    let (place, host) = globe.public();
    let before = Honest::start(&place, &host, DhtMode::Server, Vec::new());
    let peer = before.address.to_string();
    let words: [&[&str]; 2] = [&["--dht"], &["--addpeer", &peer]];
    let (alice, bob) = (Site::new(&globe.public().0, &words), Site::new(&globe.public().0, &words));
    let object = shared(&alice, &bob);
    wait_until("her place to be remembered", PATIENCE, || {
        pause(POLL);
        bob.node.status()["places_remembered"] == 1
    });
    let subjects = [alice.identity(), bob.identity()];
    let devices = [alice.device(), bob.device()];
    let (alice, bob) = (alice.stop(), bob.stop());
    let stopping = before.network.clone();
    place.run(async move { stopping.shutdown().await });

    let mut dht = Dht::on(&mut globe);
    let all: Vec<Spot> = subjects.into_iter().flat_map(spots).collect();
    dht.besiege(&all, &devices);
    lie(&dht, &subjects);
    for home in [&alice, &bob] {
        configure(home, &["--removepeer", &peer]);
        join(home, &dht);
    }
    let (alice, bob) = (Site::start(&alice), Site::start(&bob));
    let started = Instant::now();
    alice.app.push(object, b"second");
    bob.has(object, b"second", MET_MAX);
    println!("where they were: met after {:?}", started.elapsed());
    dht.assert_nobody_was_fooled(&[&alice.node, &bob.node]);
}

/// They use one server, and are never there together.
fn a_server_in_common() {
    let mut globe = Globe::new();
    let (place, host) = globe.public();
    let _server = Server::start(&place, &["--host", "ANY"]);
    let words: [&[&str]; 1] = [&["--addhost", &host, "7770", "False"]];
    let (alice, bob) = (Site::new(&globe.public().0, &words), Site::new(&globe.public().0, &words));
    let object = shared(&alice, &bob);
    let subjects = [alice.identity(), bob.identity()];
    let devices = [alice.device(), bob.device()];
    let (alice, bob) = (alice.stop(), bob.stop());

    let mut dht = Dht::on(&mut globe);
    let all: Vec<Spot> = subjects.into_iter().flat_map(spots).collect();
    dht.besiege(&all, &devices);
    lie(&dht, &subjects);
    join(&alice, &dht);
    join(&bob, &dht);
    let alice = Site::start(&alice);
    alice.app.push(object, b"second");
    alice.stored();
    dht.assert_nobody_was_fooled(&[&alice.node]);
    alice.stop();
    let bob = Site::start(&bob);
    let started = Instant::now();
    bob.has(object, b"second", MET_MAX);
    println!("a server in common: arrived after {:?}", started.elapsed());
    dht.assert_nobody_was_fooled(&[&bob.node]);
}

/// They are in one network, with the Sybils.
fn on_one_lan() {
    let mut lan = Lan::new();
    let (alice, bob) = (Site::new(&lan.host(), &[]), Site::new(&lan.host(), &[]));
    let object = shared(&alice, &bob);
    let subjects = [alice.identity(), bob.identity()];
    let devices = [alice.device(), bob.device()];
    let (alice, bob) = (alice.stop(), bob.stop());

    let honest = (3..5).map(|number| (lan.host(), format!("10.77.0.{number}"))).collect();
    let mut dht = Dht::of(honest, (lan.host(), vec!["10.77.0.5".to_owned()]));
    let all: Vec<Spot> = subjects.into_iter().flat_map(spots).collect();
    dht.besiege(&all, &devices);
    lie(&dht, &subjects);
    join(&alice, &dht);
    join(&bob, &dht);
    let (alice, bob) = (Site::start(&alice), Site::start(&bob));
    let started = Instant::now();
    alice.app.push(object, b"second");
    bob.has(object, b"second", MET_MAX);
    println!("on one LAN: met after {:?}", started.elapsed());
    dht.assert_nobody_was_fooled(&[&alice.node, &bob.node]);
}

/// Nothing but the DHT could bring them together: nobody is found, what is owed stays owed, and it is
/// not asked again and again.
fn nobody_is_there() {
    let mut globe = Globe::new();
    let mut dht = Dht::on(&mut globe);
    let words: [&[&str]; 1] = [&["--dht"]];
    let (alice, bob) = (Site::new(&globe.public().0, &words), Site::new(&globe.public().0, &words));
    let subject = bob.identity();
    let today = spots(subject);
    dht.besiege(&today, &[alice.device(), bob.device()]);
    join(bob.node.home(), &dht);
    wait_until("Bob to be written down", 2 * PATIENCE, || {
        today.iter().any(|spot| dht.sybils().taken(spot).is_some())
    });
    lie(&dht, &[subject]);
    join(alice.node.home(), &dht);
    wait_until("Alice to have somebody to ask", PATIENCE, || {
        pause(POLL);
        alice.node.status()["dht"]["peers"].as_u64() >= Some(20)
    });
    let object = alice.app.new_object(b"for him");
    alice.app.share(object, bob.node.address());
    wait_until("the first lookup", PATIENCE, || lied_to(&dht, subject) > 0);
    pause(WATCHED);

    let mut asked: Vec<Instant> =
        today.iter().flat_map(|spot| dht.sybils().asked(spot)).map(|asked| asked.at).collect();
    asked.sort_unstable();
    let mut begun: Vec<Instant> = Vec::new();
    let mut last: Option<Instant> = None;
    for at in &asked {
        if last.is_none_or(|last| *at - last > ONE_LOOKUP) {
            begun.push(*at);
        }
        last = Some(*at);
    }
    let times: Vec<Duration> = begun.iter().map(|at| *at - begun[0]).collect();
    println!("asked {} times, in lookups after {times:?}", asked.len());
    assert!(times.len() <= LOOKUPS_MAX, "{times:?}");
    assert!(times.windows(2).all(|pair| pair[1] >= pair[0] + Duration::from_secs(9)), "{times:?}");
    let status = alice.node.status();
    assert_eq!(status["shares_owed"], 1, "{status}");
    let peers: Vec<&str> = status["peers"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|p| p["peer_id"].as_str())
        .collect();
    assert!(!peers.contains(&bob.device().to_string().as_str()), "{peers:?}");
    dht.assert_nobody_was_fooled(&[&alice.node, &bob.node]);
}
