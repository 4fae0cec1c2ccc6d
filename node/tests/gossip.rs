//! Many followers of one author through servers that learn of its updates by gossip: a real node, real
//! servers and two hundred links on loopback, in one process.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use golix::object::{Object, Unverified};
use golix::{Ghid, Suite};
use hypergolix_engine::message::{Address, Role, VERSION};
use hypergolix_engine::{LinkId, Message, PersisterConfig};
use hypergolix_ipc::client::{HgxLink, NewOptions, Obj};
use hypergolix_ipc::{ApiId, Server as Applications, ServerConfig};
use hypergolix_node::config::{Config, Remote};
use hypergolix_node::control::{self, Order};
use hypergolix_node::network::{Network, NetworkConfig, NetworkEvent, RelayLimits, Target};
use hypergolix_node::paths::Home;
use hypergolix_node::server::{Server, ServerOptions};
use hypergolix_node::{Node, Unlocked};
use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Everything that is waited for happens within this, on a busy machine too; and long before servers or
/// nodes compare anything (ten minutes).
const PATIENCE: Duration = Duration::from_secs(60);

/// Servers, each of which knows only the one before it.
const SERVERS: usize = 5;

/// Of these the author uses the first ones.
const USED: usize = 2;

const FOLLOWERS: usize = 200;

const UPDATES: u64 = 5;

const SECRET: &str = "correct horse battery staple";

/// How long nothing is heard where there is no gossip: twenty times what it takes with it.
const SILENCE: Duration = Duration::from_secs(4);

/// Bytes of a state.
const STATE: usize = 100_000;

async fn within<T>(what: &str, done: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, done).await.unwrap_or_else(|_| panic!("too long: {what}"))
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    within(what, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

struct Persister {
    address: Multiaddr,
    control: PathBuf,
    _folder: TempDir,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Persister {
    async fn start(peers: Vec<Multiaddr>, gossip: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let control = folder.path().join("sock");
        let options = ServerOptions {
            cache: None,
            hosts: vec![Ipv4Addr::LOCALHOST.into()],
            port: 0,
            websocket: None,
            mirrors: Vec::new(),
            peers,
            gossip,
            persister: PersisterConfig::default(),
            connections: 256,
            relay: RelayLimits::default(),
        };
        let store = Server::open_store(None).unwrap();
        let key = Server::device_key(None).unwrap();
        let server = Server::start(options, store, key, &control, Instant::now()).await.unwrap();
        let addresses = server.addresses().await;
        let is_tcp = |at: &&Multiaddr| at.to_string().contains("/tcp/");
        let address = addresses.iter().find(is_tcp).unwrap().clone();
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            server.run_until(stopped).await.unwrap();
        });
        Self { address, control, _folder: folder, stop, ended }
    }

    /// One after the other, each with the one before it for a peer.
    async fn line(gossip: bool) -> Vec<Self> {
        let mut servers: Vec<Self> = Vec::new();
        for _ in 0..SERVERS {
            let before = servers.last().map(|server| server.address.clone());
            servers.push(Self::start(before.into_iter().collect(), gossip).await);
        }
        servers
    }

    fn port(&self) -> u16 {
        let port = |part| if let Protocol::Tcp(port) = part { Some(port) } else { None };
        self.address.iter().find_map(port).unwrap()
    }

    async fn figures(&self) -> BTreeMap<String, u64> {
        let control = self.control.clone();
        let answer = tokio::task::spawn_blocking(move || control::ask(&control, &Order::Status));
        let status = answer.await.unwrap().unwrap();
        let figures = status.as_object().unwrap().iter();
        figures.filter_map(|(name, figure)| Some((name.clone(), figure.as_u64()?))).collect()
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        within("a stop", self.ended).await.unwrap();
    }
}

/// Passes bytes on to a server, and counts those that go there.
async fn counted(server: u16) -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else {
                    return;
                };
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
                });
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(len) = from_client.read(&mut buffer).await
                    && len > 0
                    && to_server.write_all(&buffer[..len]).await.is_ok()
                {
                    counter.fetch_add(len as u64, Ordering::Relaxed);
                }
            });
        }
    });
    (port, count)
}

/// A node with an account, and an application on it.
struct User {
    me: Ghid,
    link: HgxLink,
    folder: TempDir,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl User {
    /// A new account that uses the servers at these ports.
    async fn start(ports: &[u16]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), ports, &[]).await
    }

    /// The same in a folder that may have an account, linked to these devices as well.
    async fn start_in(folder: TempDir, ports: &[u16], peers: &[Multiaddr]) -> Self {
        let home = Home::at(folder.path().join("home"));
        home.prepare().unwrap();
        let mut config = Config::default();
        (config.lan, config.listen) = (false, vec![Ipv4Addr::LOCALHOST.into()]);
        config.peers = peers.to_vec();
        for port in ports {
            config.add_remote(Remote { host: "127.0.0.1".to_owned(), port: *port, tls: false });
        }
        let is_new = !home.store().exists();
        let store = Unlocked::open_store(&home, &config).unwrap();
        let unlocked = if is_new {
            Unlocked::create(store, &home, SECRET, Suite::Suite3).unwrap().0
        } else {
            Unlocked::unlock(store, &home, SECRET).unwrap()
        };
        let me = unlocked.fingerprint();
        let applications = Applications::bind(ServerConfig::on_port(0)).await.unwrap();
        let port = applications.port();
        let node = Node::start(home, config, unlocked, applications, Instant::now()).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            node.run_until(stopped).await.unwrap();
        });
        let link = HgxLink::connect(port).await.unwrap();
        Self { me, link, folder, stop, ended }
    }

    async fn stop(self) -> TempDir {
        self.link.stop().await;
        let _ = self.stop.send(());
        within("a stop", self.ended).await.unwrap();
        self.folder
    }
}

fn state(number: u64) -> Vec<u8> {
    // Nothing that would become smaller on the way.
    (0..STATE as u64).map(|place| ((place * 2_654_435_761 + number * 97) >> 7) as u8).collect()
}

/// Follows one object of an author at one server; says the counter of the newest frame that came.
struct Follower {
    newest: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Follower {
    async fn start(server: u16, author: Ghid, address: Ghid) -> Self {
        let (events, mut taken) = mpsc::channel(64);
        let config = NetworkConfig {
            lan: false,
            listen_hosts: vec![Ipv4Addr::LOCALHOST.into()],
            remotes: vec![Target::new("127.0.0.1", server, false)],
            memory_max: usize::MAX,
            ..NetworkConfig::new(Keypair::generate_ed25519())
        };
        let network = Network::start(config, events).unwrap();
        let link = within("a link", async {
            loop {
                if let Some(NetworkEvent::LinkUp { link, .. }) = taken.recv().await {
                    return link;
                }
            }
        })
        .await;
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).unwrap();
        let say = |message| network.send(link, message);
        say(Message::Hello { version: VERSION, nonce, role: Role::Node });
        say(Message::Subscribe { addresses: vec![Address(address)], cursor: None });
        say(Message::Seek { identities: vec![Address(author)] });
        say(Message::Ping { id: 1 });
        let (tell, newest) = watch::channel(0);
        let (ready, is_ready) = oneshot::channel();
        let task = tokio::spawn(follow(network.clone(), taken, link, address, tell, ready));
        within("a server that answers", is_ready).await.unwrap();
        Self { newest, task }
    }

    async fn reaches(&mut self, counter: u64) {
        let newest = self.newest.wait_for(|newest| *newest >= counter);
        within("an update", newest).await.expect("the follower lives");
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    network: Network,
    mut events: mpsc::Receiver<NetworkEvent>,
    link: LinkId,
    address: Ghid,
    tell: watch::Sender<u64>,
    ready: oneshot::Sender<()>,
) {
    let mut ready = Some(ready);
    while let Some(event) = events.recv().await {
        let NetworkEvent::Message { message, .. } = event else { continue };
        match message {
            Message::Pong { id: 1 } => drop(ready.take().map(|ready| ready.send(()))),
            Message::Ping { id } => network.send(link, Message::Pong { id }),
            Message::Event { cursor, address: Address(of), objects } => {
                network.send(link, Message::EventAck { seq: cursor.seq });
                if of == address {
                    tell.send_modify(|newest| *newest = (*newest).max(newest_frame(&objects)));
                }
            }
            _ => {}
        }
    }
}

/// The counter of the frame among some objects, if its state is there too.
fn newest_frame(objects: &[hypergolix_engine::message::Packed]) -> u64 {
    let objects: Vec<Unverified> =
        objects.iter().filter_map(|bytes| Unverified::parse(bytes).ok()).collect();
    let frame = |object: &Unverified| match object.clone().assume_verified().object() {
        Object::DynamicBinding(frame)
            if objects.iter().any(|other| other.ghid() == frame.target()) =>
        {
            Some(frame.counter())
        }
        _ => None,
    };
    objects.iter().filter_map(frame).max().unwrap_or(0)
}

/// The author's object, and what it was told at the servers that it uses.
async fn upload(author: &User, servers: &[Persister]) -> Obj {
    let obj: Obj = author.link.new(state(0).as_slice(), NewOptions::default()).await.unwrap();
    for server in &servers[..USED] {
        until("an upload", async || server.figures().await["objects"] >= 2).await;
    }
    obj
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_reaches_two_hundred_followers_through_servers_that_heard_of_it() {
    let servers = Persister::line(true).await;
    let mut proxies = Vec::new();
    for server in &servers[..USED] {
        proxies.push(counted(server.port()).await);
    }
    let ports: Vec<u16> = proxies.iter().map(|(port, _)| *port).collect();
    let author = User::start(&ports).await;
    let obj = upload(&author, &servers).await;
    let address = obj.ghid();

    let mut followers = Vec::new();
    for number in 0..FOLLOWERS {
        let server = servers[number % SERVERS].port();
        followers.push(Follower::start(server, author.me, address).await);
    }
    // Topics have to be heard of along the line before anything passes: a second or two.
    let mut step = 1;
    until("the topics", async || {
        step += 1;
        obj.set_state(state(step)).unwrap();
        obj.push().await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        followers.iter().all(|follower| *follower.newest.borrow() > 0)
    })
    .await;
    for follower in &mut followers {
        follower.reaches(step << 8).await;
    }
    let uploaded = || proxies.iter().map(|(_, count)| count.load(Ordering::Relaxed)).sum::<u64>();
    let before = uploaded();
    let mut fetched_before = Vec::new();
    for server in &servers {
        fetched_before.push(server.figures().await["announced_fetched"]);
    }

    let mut took = Vec::new();
    for _ in 0..UPDATES {
        step += 1;
        let begun = Instant::now();
        obj.set_state(state(step)).unwrap();
        within("a push", obj.push()).await.unwrap();
        for follower in &mut followers {
            follower.reaches(step << 8).await;
        }
        took.push(begun.elapsed());
    }
    let uploaded = uploaded() - before;
    println!("{FOLLOWERS} followers of {SERVERS} servers, states of {STATE} bytes: {took:?}");
    println!("uploaded {uploaded} bytes for {UPDATES} updates at {USED} servers");

    // Once to each server that the author uses, and something for the envelope.
    let once = (STATE as u64) * UPDATES * USED as u64;
    assert!((once..once * 5 / 4).contains(&uploaded), "{uploaded} bytes");
    for (number, server) in servers.iter().enumerate() {
        let figures = server.figures().await;
        let fetched = figures["announced_fetched"] - fetched_before[number];
        println!("server {number}: {figures:?}");
        if number < USED {
            assert!(fetched <= UPDATES, "{fetched}");
        } else {
            assert_eq!(fetched, UPDATES, "each update once, at server {number}");
            assert_eq!(figures["announced"], 0, "what came by gossip is not announced again");
        }
    }
    drop(followers);
    author.stop().await;
    for server in servers {
        server.stop().await;
    }
}

/// What the test above shows comes from gossip, and from nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn without_gossip_servers_that_the_author_does_not_use_hear_of_nothing() {
    let servers = Persister::line(false).await;
    let ports: Vec<u16> = servers[..USED].iter().map(Persister::port).collect();
    let author = User::start(&ports).await;
    let obj = upload(&author, &servers).await;
    let mut followers = Vec::new();
    for server in &servers {
        followers.push(Follower::start(server.port(), author.me, obj.ghid()).await);
    }
    let mut step = 1;
    let begun = Instant::now();
    while begun.elapsed() < SILENCE {
        step += 1;
        obj.set_state(state(step)).unwrap();
        within("a push", obj.push()).await.unwrap();
        for follower in &mut followers[..USED] {
            follower.reaches(step << 8).await;
        }
    }
    for (server, follower) in servers.iter().zip(&followers).skip(USED) {
        assert_eq!(*follower.newest.borrow(), 0);
        assert_eq!(server.figures().await["announcements_heard"], 0);
    }
    drop(followers);
    author.stop().await;
    for server in servers {
        server.stop().await;
    }
}

/// A node that no server serves and no link leads to its author hears of an update through a server that
/// it does not use, and asks the one that announced it.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_server_asks_whoever_announced() {
    let servers = Persister::line(true).await;
    let alice = User::start(&[servers[0].port()]).await;
    let bob = User::start(&[servers[0].port()]).await;
    let obj: Obj = alice.link.new(&b"0"[..], NewOptions::default()).await.unwrap();
    let mut shares = bob.link.shares(ApiId::OBJ).await.unwrap();
    obj.share(bob.me).await.unwrap();
    within("a share", shares.next()).await.unwrap();

    // From now on Bob has no server of his own, and a link to the far end of the line.
    let folder = bob.stop().await;
    let bob = User::start_in(folder, &[], &[servers[SERVERS - 1].address.clone()]).await;
    let copy: Obj = bob.link.get(obj.ghid()).await.unwrap();
    let mut step = 0;
    until("an update", async || {
        step += 1;
        obj.set_state(step.to_string().into_bytes()).unwrap();
        obj.push().await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        &*copy.state().unwrap() != b"0"
    })
    .await;
    let last = step.to_string().into_bytes();
    within("the last update", async {
        while *copy.state().unwrap() != *last {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let status: serde_json::Value =
        serde_json::from_str(&bob.link.status().await.unwrap()).unwrap();
    println!("{step} updates until Bob listened");
    assert!(status["announced_fetched"].as_u64().unwrap() > 0, "{status}");
    assert_eq!(status["gossip"]["listens"], 1, "{status}");
    assert_eq!(status["remotes"].as_array().map(Vec::len), Some(0));
    bob.stop().await;
    alice.stop().await;
    for server in servers {
        server.stop().await;
    }
}
