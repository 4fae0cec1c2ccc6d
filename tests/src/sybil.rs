//! Hostile devices of the DHT: raw swarms that speak its protocol and say what a test tells them.
//!
//! Their keys are ground: per spot, twenty of them are nearer to it than any honest device, so a
//! writer puts its record at them alone, and a reader ends with them. They take every record and
//! keep none; they answer with what [`Sybils::says`] was given, or nothing, and name one another.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::future::BoxFuture;
use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::kad::store::{self, RecordStore};
use libp2p::kad::{self, ProviderRecord, Record, RecordKey};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{self, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, Transport, identify, noise, tcp, yamux};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use crate::namespaces::Place;
use crate::wait::{PATIENCE, wait_until};

/// Devices that a record is put at: the whole neighbourhood.
pub const NEIGHBOURHOOD: usize = 20;

/// Devices that each of them joins at: connections are files.
const JOINS: usize = 5;

/// A place in the DHT: the key of a record.
pub type Spot = [u8; 32];

/// Device keys, the first [`NEIGHBOURHOOD`] for each spot nearer to it than any of `honest`; the rest
/// of `count` lie anywhere.
pub fn grind(spots: &[Spot], honest: &[PeerId], count: usize) -> Vec<Keypair> {
    let mut keys = Vec::new();
    for spot in spots {
        let target = kad::KBucketKey::from(RecordKey::new(spot));
        let distance = |peer: PeerId| target.distance(&kad::KBucketKey::from(peer));
        let nearest = honest.iter().map(|peer| distance(*peer)).min();
        let ground = std::iter::repeat_with(Keypair::generate_ed25519).filter(|key| {
            nearest.is_none_or(|nearest| distance(key.public().to_peer_id()) < nearest)
        });
        keys.extend(ground.take(NEIGHBOURHOOD));
    }
    while keys.len() < count {
        keys.push(Keypair::generate_ed25519());
    }
    keys
}

/// One question for a record.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// When.
    pub at: Instant,
    /// Which of them was asked.
    pub sybil: usize,
    /// For what.
    pub spot: Spot,
}

#[derive(Debug, Default)]
struct State {
    /// What is answered for a spot, each in its turn; beside these, nothing.
    answers: BTreeMap<Spot, Vec<Vec<u8>>>,
    turn: usize,
    asked: Vec<Asked>,
    taken: BTreeMap<Spot, Vec<u8>>,
    /// Which of them knew which others.
    ready: BTreeSet<usize>,
}

/// The devices. They end when this is dropped.
#[derive(Debug)]
pub struct Sybils {
    state: Arc<Mutex<State>>,
    peers: Vec<PeerId>,
    _running: watch::Sender<()>,
}

impl Sybils {
    /// Starts a device per key; they share the addresses `hosts`, and join at devices of `at`, always
    /// at the last one.
    ///
    /// # Panics
    /// When they cannot listen, or do not get to know one another.
    pub fn start(place: &Place, hosts: &[String], keys: Vec<Keypair>, at: &[Multiaddr]) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let peers: Vec<PeerId> = keys.iter().map(|key| key.public().to_peer_id()).collect();
        let (running, stop) = watch::channel(());
        let (given, hosts, at) = (Arc::clone(&state), hosts.to_vec(), at.to_vec());
        place.run(async move {
            let mut swarms = Vec::new();
            for (number, key) in keys.iter().enumerate() {
                let host = &hosts[number % hosts.len()];
                swarms.push(listening(key, number, host, Arc::clone(&given)).await);
            }
            let known: Vec<(PeerId, Multiaddr)> = swarms
                .iter()
                .map(|swarm| {
                    let address = swarm.listeners().next().expect("it listens").clone();
                    (*swarm.local_peer_id(), address)
                })
                .collect();
            for (number, mut swarm) in swarms.into_iter().enumerate() {
                let local = *swarm.local_peer_id();
                for (peer, address) in known.iter().filter(|(peer, _)| *peer != local) {
                    swarm.behaviour_mut().kad.add_address(peer, address.clone());
                }
                // The last one, where nodes begin, and some others, each in its turn.
                let rest = &at[..at.len().saturating_sub(1)];
                let some = rest.iter().cycle().skip(number).take(rest.len().min(JOINS - 1));
                for address in at.last().into_iter().chain(some) {
                    swarm.dial(address.clone()).expect("an address that can be dialled");
                }
                let joined = at.len().min(JOINS);
                tokio::spawn(drive(swarm, number, joined, Arc::clone(&given), stop.clone()));
            }
        });
        let sybils = Self { state, peers, _running: running };
        let count = sybils.peers.len();
        wait_until("the Sybils to have joined", 2 * PATIENCE, || {
            sybils.lock().ready.len() == count
        });
        sybils
    }

    /// Their names.
    pub fn peers(&self) -> &[PeerId] {
        &self.peers
    }

    /// From now on they answer a question for a spot with one of these, or with nothing, in turn.
    pub fn says(&self, spot: Spot, answers: Vec<Vec<u8>>) {
        self.lock().answers.insert(spot, answers);
    }

    /// Questions for a spot so far.
    pub fn asked(&self, spot: &Spot) -> Vec<Asked> {
        self.lock().asked.iter().filter(|asked| asked.spot == *spot).copied().collect()
    }

    /// The record that was put last under a spot.
    pub fn taken(&self, spot: &Spot) -> Option<Vec<u8>> {
        self.lock().taken.get(spot).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panics")
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    kad: kad::Behaviour<Store>,
    identify: identify::Behaviour,
    /// So that it passes for one of us: what nodes open on connections that carry no link.
    streams: libp2p_stream::Behaviour,
}

async fn listening(
    key: &Keypair,
    number: usize,
    host: &str,
    state: Arc<Mutex<State>>,
) -> Swarm<Behaviour> {
    let local = key.public().to_peer_id();
    let ip: IpAddr = host.parse().expect("an address");
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let transport = FromOneAddress { tcp, ip }
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key).expect("a device key"))
        .multiplex(yamux::Config::default())
        .boxed();
    let mut settings = kad::Config::new(StreamProtocol::new("/hgx/kad/1"));
    settings
        .set_max_packet_size(1 << 20)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_periodic_bootstrap_interval(None);
    let mut kad = kad::Behaviour::with_config(local, Store { number, state }, settings);
    kad.set_mode(Some(kad::Mode::Server));
    let identify = identify::Config::new("/hypergolix/1".to_owned(), key.public());
    let behaviour = Behaviour {
        kad,
        identify: identify::Behaviour::new(identify),
        streams: libp2p_stream::Behaviour::new(),
    };
    let settings =
        swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(300));
    let mut swarm = Swarm::new(transport, behaviour, local, settings);
    swarm
        .listen_on(format!("/ip4/{host}/tcp/0").parse().expect("an address"))
        .expect("the host has the address");
    while !matches!(swarm.select_next_some().await, SwarmEvent::NewListenAddr { .. }) {}
    swarm
}

async fn drive(
    mut swarm: Swarm<Behaviour>,
    number: usize,
    joins: usize,
    state: Arc<Mutex<State>>,
    mut stop: watch::Receiver<()>,
) {
    let mut control = swarm.behaviour().streams.new_control();
    let mut streams =
        control.accept(StreamProtocol::new("/hypergolix/no-link/1")).expect("it is accepted once");
    let mut identified = BTreeSet::new();
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            Some((_, stream)) = streams.next() => drop(stream),
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Sent { peer_id, .. })) => {
                    identified.insert(peer_id);
                    if identified.len() >= joins {
                        state.lock().expect("no panics").ready.insert(number);
                    }
                }
                SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::InboundRequest {
                    request: kad::InboundRequest::PutRecord { record: Some(record), .. },
                })) => {
                    if let Ok(spot) = Spot::try_from(record.key.as_ref()) {
                        state.lock().expect("no panics").taken.insert(spot, record.value);
                    }
                }
                _ => {}
            },
        }
    }
}

/// Dials from the address that it listens at: only that one is believed of it.
struct FromOneAddress {
    tcp: tcp::tokio::Transport,
    ip: IpAddr,
}

type TcpStream = tcp::tokio::TcpStream;

impl Transport for FromOneAddress {
    type Output = TcpStream;
    type Error = io::Error;
    type ListenerUpgrade = <tcp::tokio::Transport as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<TcpStream>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.tcp.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.tcp.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let mut parts = address.iter();
        let (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) = (parts.next(), parts.next())
        else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let (from, to) = (SocketAddr::new(self.ip, 0), SocketAddr::new(ip.into(), port));
        Ok(Box::pin(async move {
            let socket = TcpSocket::new_v4()?;
            socket.bind(from)?;
            Ok(tcp::tokio::TcpStream(socket.connect(to).await?))
        }))
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.get_mut().tcp).poll(cx)
    }
}

/// Keeps nothing, says what it was told.
struct Store {
    number: usize,
    state: Arc<Mutex<State>>,
}

impl RecordStore for Store {
    type RecordsIter<'a> = std::iter::Empty<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        let spot = Spot::try_from(key.as_ref()).ok()?;
        let mut state = self.state.lock().expect("no panics");
        state.asked.push(Asked { at: Instant::now(), sybil: self.number, spot });
        state.turn += 1;
        let turn = state.turn;
        let answers = state.answers.get(&spot)?;
        // One more turn: nothing at all.
        let value = answers.get(turn % (answers.len() + 1))?.clone();
        Some(Cow::Owned(Record::new(key.clone(), value)))
    }

    fn put(&mut self, _: Record) -> store::Result<()> {
        Ok(())
    }

    fn remove(&mut self, _: &RecordKey) {}

    fn records(&self) -> Self::RecordsIter<'_> {
        std::iter::empty()
    }

    fn add_provider(&mut self, _: ProviderRecord) -> store::Result<()> {
        Ok(())
    }

    fn providers(&self, _: &RecordKey) -> Vec<ProviderRecord> {
        Vec::new()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, _: &RecordKey, _: &PeerId) {}
}

/// An address that only made-up records name: who comes there believed one.
#[derive(Debug)]
pub struct Trap {
    address: Multiaddr,
    visits: Arc<Mutex<usize>>,
}

impl Trap {
    /// Listens on any port.
    ///
    /// # Panics
    /// When the host does not have the address.
    pub fn start(place: &Place, host: &str) -> Self {
        let visits = Arc::new(Mutex::new(0));
        let (count, host) = (Arc::clone(&visits), host.to_owned());
        let address = place.run(async move {
            let listener = TcpListener::bind((host.as_str(), 0)).await.expect("a free port");
            let port = listener.local_addr().expect("it is bound").port();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    *count.lock().expect("no panics") += 1;
                    drop(stream);
                }
            });
            format!("/ip4/{host}/tcp/{port}").parse().expect("an address")
        });
        Self { address, visits }
    }

    /// Where it is.
    pub fn address(&self) -> &Multiaddr {
        &self.address
    }

    /// Connections that came.
    ///
    /// # Panics
    /// Never.
    pub fn visits(&self) -> usize {
        *self.visits.lock().expect("no panics")
    }
}
