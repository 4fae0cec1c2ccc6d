//! Our own UDP beacon: "device P listens on these ports", for networks that filter mDNS and for
//! machines that have only a loopback interface.
//!
//! An announcement is broadcast from one socket per interface address, so the answer comes back
//! to the one process that asked, also where several share the beacon's port. It names a device
//! key and a process, never an identity or an object. Nothing in it is believed: a dial proves
//! the device key.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::address_book::is_lan;
use super::limits::{BEACONS_PER_HOST, INTERFACES_MAX, PrefixLimiter};
use super::wire;

/// Where beacons are sent and heard.
pub const BEACON_PORT: u16 = 7773;

/// First element of every beacon.
const MAGIC: &str = "hypergolix";

/// Version of the beacon.
const VERSION: u16 = 1;

/// Longest beacon, bytes. Ours have about 80.
const BEACON_MAX: usize = 256;

/// Pauses between announcements after a start or a change, then [`REGULAR`].
const EAGER: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// Pause between announcements when nothing happens.
const REGULAR: Duration = Duration::from_secs(30);

/// Shortest pause between two announcements, whatever happens.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// Beacons heard that may wait; more are dropped.
const HEARD_MAX: usize = 256;

/// Commands that may wait; they are few.
const COMMANDS_MAX: usize = 64;

/// What a beacon says: a CBOR array of these seven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Announcement(
    /// [`MAGIC`].
    pub String,
    /// [`VERSION`].
    pub u16,
    /// Whether an answer is wanted.
    pub bool,
    /// The device: bytes of its libp2p PeerId.
    pub serde_bytes::ByteBuf,
    /// Random number of the process.
    pub u64,
    /// TCP port, 0 for none.
    pub u16,
    /// QUIC port, 0 for none.
    pub u16,
);

/// A beacon of another process.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    pub(super) peer: PeerId,
    pub(super) instance: u64,
    pub(super) tcp: u16,
    pub(super) quic: u16,
    /// Whether it wants an answer.
    pub(super) asks: bool,
    /// Where it came from; an answer goes there.
    pub(super) from: SocketAddr,
    via: Arc<UdpSocket>,
}

/// What the swarm's task tells the beacon.
#[derive(Debug)]
enum Command {
    /// Where we listen.
    Listen { interfaces: BTreeSet<Ipv4Addr>, tcp: u16, quic: u16 },
    /// Announce now and then eagerly.
    Hurry,
    /// Answer one announcement.
    Answer(Box<Heard>),
}

/// Handle to the beacon's task, which ends when this is dropped.
pub(super) struct Beacon {
    commands: mpsc::Sender<Command>,
    heard: mpsc::Receiver<Heard>,
    _stop: DropGuard,
}

impl Beacon {
    /// Starts the task. Without the port it still announces and hears answers.
    pub(super) fn start(peer: PeerId, instance: u64, port: u16) -> Self {
        let (commands, commands_rx) = mpsc::channel(COMMANDS_MAX);
        let (heard_tx, heard) = mpsc::channel(HEARD_MAX);
        let stop = CancellationToken::new();
        let task = Task {
            peer,
            instance,
            port,
            listen: (0, 0),
            sockets: BTreeMap::new(),
            ear: None,
            heard: heard_tx,
            limiter: Arc::new(Mutex::new(PrefixLimiter::new(BEACONS_PER_HOST, BEACONS_PER_HOST))),
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(task.run(commands_rx)));
        Self { commands, heard, _stop: stop.drop_guard() }
    }

    /// The next beacon heard. Cancel-safe.
    pub(super) async fn heard(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }

    /// Where we listen; begins eager announcements.
    pub(super) fn listen(&self, interfaces: BTreeSet<Ipv4Addr>, tcp: u16, quic: u16) {
        self.tell(Command::Listen { interfaces, tcp, quic });
    }

    /// Something was lost: announces eagerly again.
    pub(super) fn hurry(&self) {
        self.tell(Command::Hurry);
    }

    /// Answers one announcement, to its sender alone.
    pub(super) fn answer(&self, heard: Heard) {
        self.tell(Command::Answer(Box::new(heard)));
    }

    fn tell(&self, command: Command) {
        // Full only in a flood; the regular announcement makes up for what is dropped.
        let _ = self.commands.try_send(command);
    }
}

/// A socket and its reader.
struct Ear {
    socket: Arc<UdpSocket>,
    reader: AbortHandle,
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

struct Task {
    peer: PeerId,
    instance: u64,
    port: u16,
    /// TCP and QUIC port.
    listen: (u16, u16),
    /// One per address of an interface.
    sockets: BTreeMap<Ipv4Addr, Ear>,
    /// The shared port.
    ear: Option<Ear>,
    heard: mpsc::Sender<Heard>,
    limiter: Arc<Mutex<PrefixLimiter>>,
}

impl Task {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        self.ear = match self.open(Ipv4Addr::UNSPECIFIED, self.port) {
            Ok(ear) => Some(ear),
            Err(error) => {
                tracing::warn!(port = self.port, %error, "beacons of others are not heard here");
                None
            }
        };
        let mut step = 0;
        let mut last: Option<Instant> = None;
        let mut next: Option<Instant> = None;
        loop {
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = commands.recv() => match command {
                    None => return,
                    Some(Command::Answer(heard)) => {
                        self.send(&heard.via, heard.from, false).await;
                        continue;
                    }
                    Some(Command::Listen { interfaces, tcp, quic }) => {
                        self.listen = (tcp, quic);
                        self.set_interfaces(&interfaces);
                    }
                    Some(Command::Hurry) => {}
                },
                () = due => {
                    self.announce().await;
                    last = Some(Instant::now());
                    next = last.map(|at| at + EAGER.get(step).copied().unwrap_or(REGULAR));
                    step += 1;
                    continue;
                }
            }
            step = 0;
            let now = Instant::now();
            next = Some(last.map_or(now, |last| now.max(last + PAUSE_MIN)));
        }
    }

    fn set_interfaces(&mut self, interfaces: &BTreeSet<Ipv4Addr>) {
        self.sockets.retain(|address, _| interfaces.contains(address));
        for address in interfaces {
            if self.sockets.len() >= INTERFACES_MAX || self.sockets.contains_key(address) {
                continue;
            }
            match self.open(*address, 0) {
                Ok(ear) => {
                    self.sockets.insert(*address, ear);
                }
                Err(error) => tracing::debug!(%address, %error, "no beacon on an interface"),
            }
        }
    }

    fn open(&self, address: Ipv4Addr, port: u16) -> io::Result<Ear> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        if port != 0 {
            socket.set_reuse_address(true)?;
            #[cfg(unix)]
            socket.set_reuse_port(true)?;
        }
        socket.set_broadcast(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((address, port)).into())?;
        let socket = Arc::new(UdpSocket::from_std(socket.into())?);
        let reader = tokio::spawn(listen(
            Arc::clone(&socket),
            self.peer,
            self.instance,
            self.heard.clone(),
            Arc::clone(&self.limiter),
        ));
        Ok(Ear { socket, reader: reader.abort_handle() })
    }

    async fn announce(&self) {
        let broadcasts = directed_broadcasts();
        for (address, ear) in &self.sockets {
            // Bound to an interface's address, the limited broadcast leaves by that interface.
            let limited = (!address.is_loopback()).then_some(Ipv4Addr::BROADCAST);
            let directed = broadcasts
                .get(address)
                .copied()
                .or_else(|| address.is_loopback().then(|| Ipv4Addr::new(127, 255, 255, 255)));
            for target in limited.into_iter().chain(directed) {
                self.send(&ear.socket, SocketAddrV4::new(target, self.port).into(), true).await;
            }
        }
    }

    async fn send(&self, socket: &UdpSocket, to: SocketAddr, asks: bool) {
        let (tcp, quic) = self.listen;
        let bytes = encode(self.peer, self.instance, tcp, quic, asks);
        if let Err(error) = socket.send_to(&bytes, to).await {
            tracing::debug!(%to, %error, "a beacon was not sent");
        }
    }
}

/// Broadcast addresses by interface address. Systems that do not route the limited broadcast by
/// the socket's address need them.
fn directed_broadcasts() -> HashMap<Ipv4Addr, Ipv4Addr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces
        .into_iter()
        .filter_map(|interface| match interface.addr {
            if_addrs::IfAddr::V4(v4) => Some((v4.ip, v4.broadcast?)),
            if_addrs::IfAddr::V6(_) => None,
        })
        .collect()
}

async fn listen(
    socket: Arc<UdpSocket>,
    peer: PeerId,
    instance: u64,
    heard: mpsc::Sender<Heard>,
    limiter: Arc<Mutex<PrefixLimiter>>,
) {
    // One more than allowed, to see what is too long.
    let mut buffer = [0; BEACON_MAX + 1];
    loop {
        let (len, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // Errors of earlier sends come back here; a broken socket must not spin.
                tracing::debug!(%error, "no beacon could be read");
                tokio::time::sleep(PAUSE_MIN).await;
                continue;
            }
        };
        let Some(beacon) = decode(&buffer[..len]) else { continue };
        if beacon.peer == peer {
            if beacon.instance != instance {
                tracing::debug!(%from, "another process uses our device key");
            }
            continue;
        }
        let allowed =
            limiter.lock().unwrap_or_else(PoisonError::into_inner).allow(from.ip(), Instant::now());
        if allowed && is_near(from.ip()) {
            let Announced { peer, instance, tcp, quic, asks } = beacon;
            let via = Arc::clone(&socket);
            // Full: a flood; the peer announces itself again.
            let _ = heard.try_send(Heard { peer, instance, tcp, quic, asks, from, via });
        }
    }
}

/// Whether a beacon may come from there: a private address, or a network that we are in.
fn is_near(ip: IpAddr) -> bool {
    is_lan(ip)
        || if_addrs::get_if_addrs().unwrap_or_default().iter().any(|interface| {
            match (&interface.addr, ip) {
                (if_addrs::IfAddr::V4(ours), IpAddr::V4(theirs)) => {
                    (ours.ip.to_bits() ^ theirs.to_bits()) & ours.netmask.to_bits() == 0
                }
                _ => false,
            }
        })
}

/// What a valid beacon says.
#[derive(Debug, PartialEq, Eq)]
struct Announced {
    peer: PeerId,
    instance: u64,
    tcp: u16,
    quic: u16,
    asks: bool,
}

fn encode(peer: PeerId, instance: u64, tcp: u16, quic: u16, asks: bool) -> Vec<u8> {
    let peer = serde_bytes::ByteBuf::from(peer.to_bytes());
    let beacon = Announcement(MAGIC.to_owned(), VERSION, asks, peer, instance, tcp, quic);
    cbor4ii::serde::to_vec(Vec::new(), &beacon).expect("a beacon is plain data")
}

fn decode(bytes: &[u8]) -> Option<Announced> {
    if bytes.len() > BEACON_MAX || wire::scan(bytes).is_err() {
        return None;
    }
    let Announcement(magic, version, asks, peer, instance, tcp, quic) =
        cbor4ii::serde::from_slice(bytes).ok()?;
    if magic != MAGIC || version != VERSION || (tcp, quic) == (0, 0) {
        return None;
    }
    Some(Announced { peer: PeerId::from_bytes(&peer).ok()?, instance, tcp, quic, asks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beacon_comes_back_and_damage_does_not() {
        let peer = PeerId::random();
        let bytes = encode(peer, 7, 1_000, 2_000, true);
        assert!(bytes.len() < 100, "{}", bytes.len());
        let said = Announced { peer, instance: 7, tcp: 1_000, quic: 2_000, asks: true };
        assert_eq!(decode(&bytes), Some(said));
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None);
        }
        for bit in 0..8 * bytes.len() {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let _ = decode(&damaged);
        }
        assert_eq!(decode(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(decode(&encode(peer, 7, 0, 0, true)), None);
        assert_eq!(decode(&[0; BEACON_MAX + 1]), None);
    }
}
