//! Watches the network of a node without the node: prints links as they come and go.
//!
//! ```text
//! netprobe KEYFILE [--no-mdns] [--no-beacon] [--peer MULTIADDR] [--echo N]
//! ```
//!
//! Pings every linked device once a second and closes a link that is silent for two, as a node
//! does. `--echo N` measures N round trips on the first link and ends. `docs/network.md` says how
//! to run it in network namespaces.

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use hypergolix_engine::input::LinkId;
use hypergolix_engine::message::Message;
use hypergolix_node::network::{Network, NetworkConfig, NetworkEvent, load_or_create};
use libp2p::PeerId;
use tokio::sync::mpsc;

/// Silence after which a link is dead.
const SILENCE: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let key = PathBuf::from(arguments.next().ok_or("netprobe KEYFILE [options]")?);
    let mut config = NetworkConfig::new(load_or_create(&key)?);
    let mut echo = 0;
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().ok_or("an option lacks its value");
        match option.as_str() {
            "--no-mdns" => config.mdns = false,
            "--no-beacon" => config.beacon = false,
            "--peer" => config.peers.push(value()?.parse()?),
            "--echo" => echo = value()?.parse()?,
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    if std::env::var_os("RUST_LOG").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_writer(std::io::stderr)
            .init();
    }
    let (sender, events) = mpsc::channel(256);
    let network = Network::start(config, sender)?;
    say(&format!("start {}", network.peer_id()));
    if echo > 0 {
        measure(&network, events, echo).await;
    } else {
        watch(&network, events).await;
    }
    network.shutdown().await;
    Ok(())
}

/// One line: seconds since the epoch, what happened.
fn say(what: &str) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    println!("{:.3} {what}", now.as_secs_f64());
}

async fn watch(network: &Network, mut events: mpsc::Receiver<NetworkEvent>) {
    let mut heard: HashMap<LinkId, Instant> = HashMap::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            event = events.recv() => match event {
                None => return,
                Some(NetworkEvent::LinkUp { link, device, .. }) => {
                    let peer = PeerId::from_bytes(&device).map(|peer| peer.to_string());
                    say(&format!("up {} {}", link.0, peer.unwrap_or_default()));
                    heard.insert(link, Instant::now());
                }
                Some(NetworkEvent::Message { link, message }) => {
                    heard.insert(link, Instant::now());
                    if let Message::Ping { id } = message {
                        network.send(link, Message::Pong { id });
                    }
                }
                Some(
                    NetworkEvent::Drained { .. }
                    | NetworkEvent::Found { .. }
                    | NetworkEvent::Here { .. }
                    | NetworkEvent::Announced { .. },
                ) => {}
                Some(NetworkEvent::LinkDown { link }) => {
                    say(&format!("down {}", link.0));
                    heard.remove(&link);
                }
            },
            _ = tick.tick() => {
                for (link, at) in &heard {
                    if at.elapsed() > SILENCE {
                        network.close(*link, false);
                    } else {
                        network.send(*link, Message::Ping { id: 0 });
                    }
                }
            }
        }
    }
}

async fn measure(network: &Network, mut events: mpsc::Receiver<NetworkEvent>, rounds: u32) {
    let mut times = Vec::new();
    let mut sent = Instant::now();
    while let Some(event) = events.recv().await {
        match event {
            NetworkEvent::LinkUp { link, .. } => {
                sent = Instant::now();
                network.send(link, Message::Ping { id: 0 });
            }
            NetworkEvent::Message { link, message: Message::Pong { id } } => {
                times.push(sent.elapsed());
                if id == rounds {
                    break;
                }
                sent = Instant::now();
                network.send(link, Message::Ping { id: id + 1 });
            }
            NetworkEvent::Message { link, message: Message::Ping { id } } => {
                network.send(link, Message::Pong { id });
            }
            _ => {}
        }
    }
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    say(&format!("round trip p50 {:?} p99 {:?}", at(50), at(99)));
}
