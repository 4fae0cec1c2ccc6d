//! Networks in one process, over loopback: discovery, one link, order, bounds, reconnection.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use futures::io::{AsyncReadExt, AsyncWriteExt};
use hypergolix_engine::input::LinkId;
use hypergolix_engine::message::{MESSAGE_MAX, Message};
use hypergolix_node::network::{Network, NetworkConfig, NetworkEvent, Target, Targets, limits};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

/// Everything here happens within this, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(20);

/// A network and its events.
struct Node {
    network: Network,
    events: mpsc::Receiver<NetworkEvent>,
}

impl Node {
    fn start(config: NetworkConfig) -> Self {
        Self::start_with_room(config, 256)
    }

    fn start_with_room(config: NetworkConfig, room: usize) -> Self {
        let (sender, events) = mpsc::channel(room);
        Self { network: Network::start(config, sender).unwrap(), events }
    }

    /// The next event other than `Drained`.
    async fn next(&mut self) -> NetworkEvent {
        let next = async {
            loop {
                match self.events.recv().await.expect("the network runs") {
                    NetworkEvent::Drained { .. } => {}
                    event => return event,
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("an event")
    }

    async fn link(&mut self) -> (LinkId, PeerId) {
        match self.next().await {
            NetworkEvent::LinkUp { link, device, .. } => {
                (link, PeerId::from_bytes(&device).unwrap())
            }
            event => panic!("expected a link, got {event:?}"),
        }
    }

    async fn message(&mut self) -> (LinkId, Message) {
        match self.next().await {
            NetworkEvent::Message { link, message } => (link, message),
            event => panic!("expected a message, got {event:?}"),
        }
    }

    async fn down(&mut self) -> LinkId {
        match self.next().await {
            NetworkEvent::LinkDown { link } => link,
            event => panic!("expected the end of a link, got {event:?}"),
        }
    }

    /// No event but `Drained` for a while.
    async fn quiet(&mut self, period: Duration) {
        let deadline = tokio::time::Instant::now() + period;
        while let Ok(event) = tokio::time::timeout_at(deadline, self.events.recv()).await {
            assert!(matches!(event, Some(NetworkEvent::Drained { .. })), "{event:?}");
        }
    }

    async fn tcp_address(&self) -> Multiaddr {
        let loopback = |address: &&Multiaddr| address.to_string().starts_with("/ip4/127.0.0.1/tcp");
        wait(|| self.network.status().listen.iter().find(loopback).cloned()).await
    }
}

/// Waits until there is something.
async fn wait<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A device in a process whose memory is shared with other tests.
fn device() -> NetworkConfig {
    // Tests do not speak on the network of the machine that runs them.
    let listen_hosts = vec![Ipv4Addr::LOCALHOST.into()];
    let config = NetworkConfig::new(Keypair::generate_ed25519());
    NetworkConfig { memory_max: usize::MAX, listen_hosts, ..config }
}

/// A device that listens but looks for nobody.
fn alone() -> NetworkConfig {
    NetworkConfig { lan: false, ..device() }
}

/// A device that finds others by the beacon alone, on a port of this test's own.
fn beacon(port: u16) -> NetworkConfig {
    NetworkConfig { mdns: false, beacon_port: port, ..device() }
}

fn free_udp_port() -> u16 {
    UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

/// Two linked devices; the second dials the first.
async fn pair() -> (Node, Node, LinkId, LinkId) {
    let mut first = Node::start(alone());
    let address = first.tcp_address().await;
    let mut second = Node::start(NetworkConfig { peers: vec![address], ..alone() });
    let (one, device) = first.link().await;
    assert_eq!(device, second.network.peer_id());
    let (two, device) = second.link().await;
    assert_eq!(device, first.network.peer_id());
    (first, second, one, two)
}

fn object(len: usize, fill: u8) -> Message {
    Message::Object { id: 1, objects: vec![vec![fill; len].into()] }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_devices_find_each_other_by_beacon_and_talk() {
    let port = free_udp_port();
    let mut first = Node::start(beacon(port));
    let mut second = Node::start(beacon(port));
    let started = Instant::now();
    let (one, _) = first.link().await;
    let (two, _) = second.link().await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    for id in 0..1_000 {
        first.network.send(one, Message::Ping { id });
        second.network.send(two, Message::Pong { id });
    }
    for id in 0..1_000 {
        assert_eq!(second.message().await, (two, Message::Ping { id }));
        assert_eq!(first.message().await, (one, Message::Pong { id }));
    }
    // One link, and before long one connection.
    first.quiet(Duration::from_secs(1)).await;
    second.quiet(Duration::from_millis(10)).await;
    let status = first.network.status();
    assert_eq!(status.peers.len(), 1);
    assert_eq!(status.peers[0].link, one);
    assert_eq!(status.peers[0].connections, 1);
    assert!(status.peers[0].address.to_string().contains("/tcp/"), "TCP is preferred");
    first.network.shutdown().await;
    assert_eq!(second.down().await, two);
    second.network.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_message_passes_and_order_is_kept() {
    let (first, mut second, one, two) = pair().await;
    let messages =
        [object(10 * 1024 * 1024, 1), Message::Ping { id: 1 }, object(0, 2), object(70_000, 3)];
    for message in &messages {
        first.network.send(one, message.clone());
    }
    for message in messages {
        assert_eq!(second.message().await, (two, message));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_a_stop_arrives() {
    let (first, mut second, one, two) = pair().await;
    for id in 0..500 {
        first.network.send(one, Message::Ping { id });
    }
    first.network.shutdown().await;
    for id in 0..500 {
        assert_eq!(second.message().await, (two, Message::Ping { id }));
    }
    assert_eq!(second.down().await, two);
}

#[tokio::test(flavor = "multi_thread")]
async fn drained_follows_what_was_sent() {
    let (mut first, _second, one, _) = pair().await;
    first.network.send(one, Message::Ping { id: 0 });
    let drained = tokio::time::timeout(PATIENCE, first.events.recv()).await.unwrap();
    assert_eq!(drained, Some(NetworkEvent::Drained { link: one }));
}

/// A remote that refuses a device is dialled less and less; who takes it is not, and a change of the
/// configuration is a reason to ask again.
#[tokio::test(flavor = "multi_thread")]
async fn a_remote_that_refuses_is_left_alone() {
    let mut server = Node::start(NetworkConfig { waits: true, ..alone() });
    let address = server.tcp_address().await;
    let target = Target { name: "a server".to_owned(), addresses: vec![address] };
    let targets = Targets { peers: Vec::new(), remotes: vec![target.clone()] };
    let client = Node::start(NetworkConfig { remotes: vec![target], ..alone() });
    let began = Instant::now();
    let refuse = async {
        let mut links = 0;
        loop {
            if let Some(NetworkEvent::LinkUp { link, .. }) = server.events.recv().await {
                links += 1;
                server.network.send(link, Message::Refused { result: 0 });
                tokio::time::sleep(Duration::from_millis(50)).await;
                server.network.close(link, false);
                if links == 4 {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), refuse).await.unwrap();
    server.down().await;
    // After 1, 2 and 4 s more.
    assert!(began.elapsed() >= Duration::from_millis(6_900), "{:?}", began.elapsed());
    tokio::time::sleep(Duration::from_millis(500)).await;
    let status = client.network.status().remotes.remove(0);
    assert!(!status.connected && status.next_dial > Some(Duration::from_secs(5)), "{status:?}");
    assert!(status.error.as_ref().is_some_and(|error| error.contains("refuses")), "{status:?}");

    let began = Instant::now();
    client.network.retarget(targets);
    let (mut link, _) = server.link().await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // Who only loses the link is dialled as ever.
    let began = Instant::now();
    for _ in 0..3 {
        server.network.close(link, false);
        assert_eq!(server.down().await, link);
        link = server.link().await.0;
    }
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_link_comes_back_at_once() {
    let (mut first, mut second, mut one, mut two) = pair().await;
    for _ in 0..3 {
        let closed = Instant::now();
        first.network.close(one, false);
        assert_eq!(first.down().await, one);
        assert_eq!(second.down().await, two);
        (one, _) = first.link().await;
        (two, _) = second.link().await;
        assert!(closed.elapsed() < Duration::from_secs(4), "{:?}", closed.elapsed());
        first.network.send(one, Message::Ping { id: 5 });
        assert_eq!(second.message().await, (two, Message::Ping { id: 5 }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_misbehaved_stays_away() {
    let (mut first, mut second, one, two) = pair().await;
    first.network.close(one, true);
    assert_eq!(first.down().await, one);
    assert_eq!(second.down().await, two);
    first.quiet(Duration::from_secs(3)).await;
    assert!(first.network.status().peers.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_restarts_is_linked_again() {
    let port = free_udp_port();
    let mut stays = Node::start(beacon(port));
    let restarts = beacon(port);
    for _ in 0..3 {
        let mut node = Node::start(restarts.clone());
        let started = Instant::now();
        let (link, _) = stays.link().await;
        let (other, _) = node.link().await;
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        node.network.send(other, Message::Ping { id: 1 });
        assert_eq!(stays.message().await, (link, Message::Ping { id: 1 }));
        node.network.shutdown().await;
        assert_eq!(stays.down().await, link);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_with_the_same_key_replaces_the_link() {
    let mut stays = Node::start(alone());
    let config = NetworkConfig { peers: vec![stays.tcp_address().await], ..alone() };
    let old = Node::start(config.clone());
    let (first, _) = stays.link().await;
    // Later than two that dialled each other at once would come.
    tokio::time::sleep(limits::LINK_FRESH + Duration::from_millis(100)).await;
    let _new = Node::start(config);
    assert_eq!(stays.down().await, first);
    let (second, device) = stays.link().await;
    assert_ne!(first, second);
    assert_eq!(device, old.network.peer_id());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_grows_too_long_ends_the_link() {
    let first = Node::start_with_room(alone(), 8);
    let address = first.tcp_address().await;
    let mut second = Node::start(NetworkConfig { peers: vec![address], ..alone() });
    let (link, _) = second.link().await;
    // Nobody reads the first one's events.
    let mut sent: usize = 0;
    while second.network.status().peers.iter().any(|peer| peer.link == link) {
        second.network.send(link, object(1024 * 1024, 0));
        sent += 1;
        assert!(sent < 500, "the queue is not bounded");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(sent * 1024 * 1024 > limits::QUEUE_BYTES);
    assert_eq!(second.down().await, link);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_node_slows_its_peers_and_loses_nothing() {
    let mut first = Node::start_with_room(alone(), 4);
    let address = first.tcp_address().await;
    let mut second = Node::start(NetworkConfig { peers: vec![address], ..alone() });
    let (link, _) = second.link().await;
    for id in 0..2_000 {
        second.network.send(link, Message::Ping { id });
    }
    let (up, _) = first.link().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    for id in 0..2_000 {
        assert_eq!(first.message().await, (up, Message::Ping { id }));
    }
}

/// A stranger that speaks libp2p but not our frames.
mod stranger {
    use futures::StreamExt;
    use hypergolix_node::network::LINK_PROTOCOL;
    use libp2p::swarm::NetworkBehaviour;
    use libp2p::{Stream, Swarm, noise, tcp, yamux};

    use super::{Node, PATIENCE};

    #[derive(NetworkBehaviour)]
    pub struct Behaviour {
        pub streams: libp2p_stream::Behaviour,
    }

    pub fn swarm() -> Swarm<Behaviour> {
        libp2p::SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| Behaviour { streams: libp2p_stream::Behaviour::new() })
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(2 * PATIENCE))
            .build()
    }

    /// A link's substream to `node`, opened by whichever side has to.
    pub async fn link_to(node: &Node) -> Stream {
        let mut swarm = swarm();
        let mut control = swarm.behaviour().streams.new_control();
        let mut incoming = control.accept(LINK_PROTOCOL).unwrap();
        let node_id = node.network.peer_id();
        let we_open = *swarm.local_peer_id() < node_id;
        swarm.dial(node.tcp_address().await.with_p2p(node_id).unwrap()).unwrap();
        tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        if we_open {
            control.open_stream(node_id, LINK_PROTOCOL).await.unwrap()
        } else {
            incoming.next().await.unwrap().1
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_message_end_the_link_for_good() {
    let too_long = (MESSAGE_MAX as u32 + 1).to_be_bytes();
    for bytes in [&[0, 0, 0, 3, 1, 2, 3][..], &too_long, &[0xff; 4], &[0, 0, 0, 0]] {
        let mut node = Node::start(alone());
        let mut stream = stranger::link_to(&node).await;
        // V1 negotiation is lazy at the opener: the link is up once something was written.
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        let (link, device) = node.link().await;
        assert_eq!(node.down().await, link);
        let closed = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap();
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
        wait(|| {
            let peers = node.network.status().peers;
            peers.iter().all(|peer| peer.peer_id != device).then_some(())
        })
        .await;
        node.network.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_speaks_something_else_is_left_alone() {
    let node = Node::start(alone());
    let mut swarm = stranger::swarm();
    swarm.dial(node.tcp_address().await).unwrap();
    let closed = async {
        loop {
            let event = futures::StreamExt::select_next_some(&mut swarm).await;
            if matches!(event, libp2p::swarm::SwarmEvent::ConnectionClosed { .. }) {
                return;
            }
        }
    };
    tokio::time::timeout(limits::IDLE_CONNECTION + PATIENCE, closed).await.unwrap();
    assert!(node.network.status().peers.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_beacons_is_bounded_and_the_real_peer_is_found() {
    let port = free_udp_port();
    let mut node = Node::start(beacon(port));
    let flood = UdpSocket::bind("127.0.0.1:0").unwrap();
    for index in 0..1_000_u16 {
        // The beacon as docs/network.md gives it: a CBOR array of seven.
        let peer = PeerId::random().to_bytes();
        let mut bytes = vec![0x87, 0x6a];
        bytes.extend_from_slice(b"hypergolix");
        bytes.extend_from_slice(&[0x01, 0xf5, 0x58, peer.len() as u8]);
        bytes.extend_from_slice(&peer);
        bytes.extend_from_slice(&[0x19, 0x01, index as u8, 0x19, 0xea]);
        bytes.extend_from_slice(&[(index >> 8) as u8, 0x00]);
        flood.send_to(&bytes, ("127.0.0.1", port)).unwrap();
        flood.send_to(&bytes[..bytes.len() - 1], ("127.0.0.1", port)).unwrap();
        if index % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let status = wait(|| {
        let status = node.network.status();
        (status.addresses > 0).then_some(status)
    })
    .await;
    assert!(status.addresses <= limits::ADDRESSES_MAX, "{status:?}");
    assert!(status.dials <= limits::DIALS_MAX, "{status:?}");
    let mut other = Node::start(beacon(port));
    let started = Instant::now();
    let (_, device) = node.link().await;
    assert_eq!(device, other.network.peer_id());
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    other.link().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_lan_nothing_is_announced() {
    let port = free_udp_port();
    let mut hidden = Node::start(NetworkConfig { lan: false, ..beacon(port) });
    let mut seeker = Node::start(beacon(port));
    seeker.quiet(Duration::from_secs(2)).await;
    hidden.quiet(Duration::from_millis(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beacon_port_in_use_does_not_stop_the_network() {
    let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
    let node = Node::start(beacon(taken.local_addr().unwrap().port()));
    node.tcp_address().await;
    node.network.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tcp_there_is_quic() {
    let tcp = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let mut first = Node::start(NetworkConfig { listen_port: port, ..alone() });
    let quic = wait(|| {
        let listen = first.network.status().listen;
        listen.into_iter().find(|address| address.to_string().starts_with("/ip4/127.0.0.1/udp"))
    })
    .await;
    let mut second = Node::start(NetworkConfig { peers: vec![quic], ..alone() });
    let (one, _) = first.link().await;
    let (two, _) = second.link().await;
    first.network.send(one, object(3_000_000, 9));
    assert_eq!(second.message().await, (two, object(3_000_000, 9)));
}
