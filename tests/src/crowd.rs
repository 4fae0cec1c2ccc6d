//! Many users in this process: links to a server without nodes behind them.
//!
//! A [`Client`] speaks the link protocol by hand, over the network of a real node. An [`Author`]
//! makes objects that a node can read, and shares them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use golix::object::{Container, DynamicBinding, Request, RequestBody};
use golix::{ChainKey, Ghid, Identity, PrivateIdentity, Suite};
use hypergolix_engine::message::{Address, Packed, Role, VERSION};
use hypergolix_engine::{LinkId, Message, verdict};
use hypergolix_node::network::{Network, NetworkConfig, NetworkEvent};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::namespaces::Place;

/// How long a server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long a connection may take; a server takes 64 a second of one address.
const CONNECT_MAX: Duration = Duration::from_secs(60);

/// Random bytes.
pub fn random<const N: usize>() -> [u8; N] {
    [0; N].map(|_: u8| rand::random())
}

/// A link to a server, from a device of its own.
pub struct Client {
    network: Network,
    events: mpsc::Receiver<NetworkEvent>,
    link: LinkId,
    next_id: u32,
}

impl Client {
    /// Connects to a server and says hello; with an identity, proves it.
    ///
    /// # Errors
    /// The server is not reached or does not answer.
    pub async fn connect(
        server: &Multiaddr,
        identity: Option<&PrivateIdentity>,
    ) -> anyhow::Result<Self> {
        let (events, mut taken) = mpsc::channel(256);
        let config = NetworkConfig {
            lan: false,
            listen_hosts: vec![std::net::Ipv4Addr::LOCALHOST.into()],
            peers: vec![server.clone()],
            memory_max: usize::MAX,
            ..NetworkConfig::new(Keypair::generate_ed25519())
        };
        let network = Network::start(config, events)?;
        let up = async {
            loop {
                match taken.recv().await {
                    Some(NetworkEvent::LinkUp { link, device, .. }) => return Ok((link, device)),
                    Some(_) => {}
                    None => anyhow::bail!("the network ended"),
                }
            }
        };
        let (link, device) = timeout(CONNECT_MAX, up).await.context("no link")??;
        let ours = random();
        network.send(link, Message::Hello { version: VERSION, nonce: ours, role: Role::Node });
        let mut client = Self { network, events: taken, link, next_id: 0 };
        let theirs = client
            .await_for("hello", |message| match message {
                Message::Hello { nonce, .. } => Some(nonce),
                _ => None,
            })
            .await?;
        if let Some(identity) = identity {
            let us = client.network.peer_id();
            let statement = statement(&ours, &theirs, us, &device);
            client.send(Message::Proof {
                identity: identity.identity().encode().into(),
                signature: identity.sign_statement("hypergolix link proof", &statement).into(),
            });
        }
        Ok(client)
    }

    /// Queues a message.
    pub fn send(&self, message: Message) {
        self.network.send(self.link, message);
    }

    /// Sends objects to be stored; the number of the answer.
    pub fn publish(&mut self, objects: Vec<Packed>) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        self.send(Message::Publish { id, objects });
        id
    }

    /// Follows an address from now on, beginning with its present state.
    pub fn subscribe(&self, address: Ghid) {
        let addresses = vec![Address(address)];
        self.send(Message::Subscribe { addresses, cursor: None });
    }

    /// What one address needs to be read; empty if the server does not have it.
    ///
    /// # Errors
    /// The link ended, or no answer came.
    pub async fn get(&mut self, address: Ghid) -> anyhow::Result<Vec<Packed>> {
        let id = self.next_id;
        self.next_id += 1;
        self.send(Message::Get { id, address: Address(address) });
        self.await_for("an object", |message| match message {
            Message::Object { id: answered, objects } if answered == id => Some(objects),
            _ => None,
        })
        .await
    }

    /// The next message. Pings are answered.
    ///
    /// # Errors
    /// The link ended.
    pub async fn next(&mut self) -> anyhow::Result<Message> {
        loop {
            match self.events.recv().await {
                Some(NetworkEvent::Message { message: Message::Ping { id }, .. }) => {
                    self.send(Message::Pong { id });
                }
                Some(NetworkEvent::Message { message, .. }) => return Ok(message),
                Some(NetworkEvent::LinkDown { .. }) | None => anyhow::bail!("the link ended"),
                Some(_) => {}
            }
        }
    }

    /// The first message that `take` takes; others are dropped.
    ///
    /// # Errors
    /// The link ended, or none came in half a minute.
    pub async fn await_for<T>(
        &mut self,
        what: &str,
        mut take: impl FnMut(Message) -> Option<T>,
    ) -> anyhow::Result<T> {
        let search = async {
            loop {
                if let Some(taken) = take(self.next().await?) {
                    return anyhow::Ok(taken);
                }
            }
        };
        timeout(ANSWER_MAX, search).await.with_context(|| format!("no {what}"))?
    }

    /// Stores objects and waits until they are durable. While a mailbox is full it tries again.
    ///
    /// # Errors
    /// The server refuses, or the link ended.
    pub async fn store(&mut self, objects: Vec<Packed>) -> anyhow::Result<()> {
        const NO_ROOM_NOW: u32 = 1;
        for _ in 0..600 {
            let id = self.publish(objects.clone());
            let results = self
                .await_for("an acknowledgement", |message| match message {
                    Message::Published { id: answered, results } if answered == id => Some(results),
                    _ => None,
                })
                .await?;
            if results.iter().all(|result| *result == 0) {
                return Ok(());
            }
            ensure!(results.contains(&NO_ROOM_NOW), "refused: {results:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("no room for a minute")
    }

    /// Leaves shares at the server until their recipient has handled all of them: in a full mailbox one
    /// gives way to others, and is left again, as nodes do.
    pub async fn store_until_handled(
        &mut self,
        mut shares: Vec<Vec<Packed>>,
    ) -> anyhow::Result<()> {
        for _ in 0..1_200 {
            let mut waiting = Vec::new();
            for objects in shares {
                let id = self.publish(objects.clone());
                let results = self
                    .await_for("an acknowledgement", |message| match message {
                        Message::Published { id: answered, results } if answered == id => {
                            Some(results)
                        }
                        _ => None,
                    })
                    .await?;
                if results.last() != Some(&verdict::DEBOUND) {
                    waiting.push(objects);
                }
            }
            if waiting.is_empty() {
                return Ok(());
            }
            shares = waiting;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("{} shares are not handled after two minutes", shares.len())
    }

    /// Ends the link and everything behind it.
    pub async fn close(self) {
        self.network.shutdown().await;
    }
}

/// What a proof signs: nonces and devices, the prover's first.
fn statement(ours: &[u8; 32], theirs: &[u8; 32], us: PeerId, them: &[u8]) -> Vec<u8> {
    let mut bytes = [*ours, *theirs].concat();
    for device in [&us.to_bytes(), them] {
        bytes.extend((device.len() as u64).to_be_bytes());
        bytes.extend(device);
    }
    bytes
}

/// A user of suite 3 who makes objects of the given API.
pub struct Author {
    identity: PrivateIdentity,
    api: [u8; 64],
}

/// One object of an author: what its next states are made of.
pub struct Crafted {
    /// Its address.
    pub dynamic: Ghid,
    birth: Ghid,
    chain: ChainKey,
    step: u64,
}

impl Author {
    /// A new user.
    pub fn new(api: [u8; 64]) -> Self {
        let identity = PrivateIdentity::from_seeds(Suite::Suite3, random(), random(), random());
        Self { identity, api }
    }

    /// The keys.
    pub fn identity(&self) -> &PrivateIdentity {
        &self.identity
    }

    /// A new object without a state.
    pub fn craft(&self) -> Crafted {
        let birth = Ghid::of(&random::<32>());
        let dynamic = DynamicBinding::dynamic_address(Suite::Suite3, &self.identity.ghid(), &birth);
        Crafted { dynamic, birth, chain: ChainKey::new(0, 0, random()), step: 0 }
    }

    /// The next state of an object: identity, frame, container.
    ///
    /// # Panics
    /// Never: the parts fit.
    pub fn next_state(&self, object: &mut Crafted, state: &[u8]) -> Vec<Packed> {
        object.step += 1;
        let dynamic = object.dynamic;
        let chain = object.chain.advance_to(&dynamic, object.step).expect("one step");
        let secret = chain.container_secret(&dynamic);
        // epoch 4, version, flags (dynamic), legroom, api id 64, state
        let mut content = vec![0, 0, 0, 0, 1, 1, 7];
        content.extend(self.api);
        content.extend(state);
        let container = Container::seal(&self.identity, &secret, random(), &content);
        // The first slot of a device is 1.
        let counter = object.step << 8 | 1;
        let targets = [container.ghid(), object.birth];
        let frame = DynamicBinding::next(&self.identity, dynamic, counter, &targets);
        object.chain = chain;
        vec![
            self.identity.identity().encode().into(),
            frame.expect("a proven address").bytes().to_vec().into(),
            container.bytes().to_vec().into(),
        ]
    }

    /// A share of an object: identity and request.
    ///
    /// # Panics
    /// When the recipient has unusable keys.
    pub fn share(&self, object: &Crafted, recipient: &Identity) -> Vec<Packed> {
        let body =
            RequestBody::Handshake { target: object.dynamic, secret: object.chain.to_handshake() };
        let request = Request::seal(&self.identity, recipient, &body, random());
        vec![
            self.identity.identity().encode().into(),
            request.expect("a recipient with keys").bytes().to_vec().into(),
        ]
    }
}

/// Carries TCP connections to another place, and may take its time. Stands for a long way.
#[derive(Debug, Clone)]
pub struct Relay {
    /// One way, milliseconds.
    delay: Arc<AtomicU64>,
    /// When the newest connection came.
    connected: Arc<Mutex<Option<Instant>>>,
}

impl Relay {
    /// Listens on `port` of the loopback interface of `place`, without delay.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn start(place: &Place, port: u16, to: &str) -> Self {
        let relay = Self { delay: Arc::default(), connected: Arc::default() };
        let (mine, to) = (relay.clone(), to.to_owned());
        place.run(async move {
            let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
            tokio::spawn(async move {
                while let Ok((near, _)) = listener.accept().await {
                    *mine.connected.lock().expect("no panics") = Some(Instant::now());
                    let Ok(far) = TcpStream::connect(&to).await else {
                        continue;
                    };
                    let (_, _) = (near.set_nodelay(true), far.set_nodelay(true));
                    let (near, far) = (near.into_split(), far.into_split());
                    tokio::spawn(mine.clone().carry(near.0, far.1));
                    tokio::spawn(mine.clone().carry(far.0, near.1));
                }
            });
        });
        relay
    }

    /// From now on everything takes so long, one way.
    pub fn set_delay(&self, delay: Duration) {
        self.delay.store(delay.as_millis() as u64, Ordering::Relaxed);
    }

    /// When the newest connection came.
    ///
    /// # Panics
    /// When there was none.
    pub fn connected(&self) -> Instant {
        self.connected.lock().expect("no panics").expect("a connection")
    }

    async fn carry(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let (send, mut queue) = mpsc::channel::<(tokio::time::Instant, Vec<u8>)>(1_024);
        let reader = async move {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = from.read(&mut buffer).await {
                let delay = Duration::from_millis(self.delay.load(Ordering::Relaxed));
                let due = tokio::time::Instant::now() + delay;
                if send.send((due, buffer[..read].to_vec())).await.is_err() {
                    break;
                }
            }
        };
        let writer = async {
            while let Some((due, bytes)) = queue.recv().await {
                tokio::time::sleep_until(due).await;
                if to.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            let _ = to.shutdown().await;
        };
        // The reader holds the only sender, so the writer ends after it.
        tokio::join!(reader, writer);
    }
}

/// The server's address over TCP, of those in its ready line.
///
/// # Panics
/// When it has none.
pub fn tcp_address(addresses: &str) -> Multiaddr {
    addresses
        .split(',')
        .find(|address| address.contains("/tcp/"))
        .and_then(|address| address.parse().ok())
        .unwrap_or_else(|| panic!("no TCP address in {addresses}"))
}

/// The time below which `percent` of the times are, in ascending order afterwards.
///
/// # Panics
/// When there are none.
pub fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}
