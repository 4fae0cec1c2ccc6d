//! Measures a server: how many states of 1 kB it stores a second, acknowledged when they are durable,
//! and how long a change takes to reach all of many followers. Server and clients are in one
//! process, on loopback.
//!
//! ```text
//! cargo run --release -p hypergolix-node --example serverprobe -- [PUBLISHERS] [STATES] [FOLLOWERS]
//! ```

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use golix::object::{Container, DynamicBinding};
use golix::{ChainKey, Ghid, PrivateIdentity, Suite};
use hypergolix_engine::message::{Address, Packed, Role, VERSION};
use hypergolix_engine::{LinkId, Message, PersisterConfig};
use hypergolix_node::network::{Network, NetworkConfig, NetworkEvent, RelayLimits};
use hypergolix_node::server::{Server, ServerOptions};
use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use tokio::sync::mpsc;

const WINDOW: usize = 32;

struct Client {
    network: Network,
    events: mpsc::Receiver<NetworkEvent>,
    link: LinkId,
}

impl Client {
    async fn connect(address: &Multiaddr) -> anyhow::Result<Self> {
        let (events, mut taken) = mpsc::channel(256);
        let config = NetworkConfig {
            lan: false,
            listen_hosts: vec![std::net::Ipv4Addr::LOCALHOST.into()],
            peers: vec![address.clone()],
            memory_max: usize::MAX,
            ..NetworkConfig::new(Keypair::generate_ed25519())
        };
        let network = Network::start(config, events)?;
        let link = loop {
            match taken.recv().await {
                Some(NetworkEvent::LinkUp { link, .. }) => break link,
                Some(_) => {}
                None => anyhow::bail!("the network ended"),
            }
        };
        let nonce = getrandom_nonce();
        network.send(link, Message::Hello { version: VERSION, nonce, role: Role::Node });
        Ok(Self { network, events: taken, link })
    }

    async fn next(&mut self) -> anyhow::Result<Message> {
        loop {
            match self.events.recv().await {
                Some(NetworkEvent::Message { message, .. }) => return Ok(message),
                Some(NetworkEvent::LinkDown { .. }) | None => anyhow::bail!("the link ended"),
                Some(_) => {}
            }
        }
    }
}

fn getrandom_nonce() -> [u8; 32] {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).expect("random numbers");
    nonce
}

/// States of one object, ready to be published.
fn states(number: u64, count: u64, len: usize) -> (Ghid, Vec<Vec<Packed>>) {
    let mut seed = [1; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    let mut other = seed;
    other[31] = 2;
    let me = PrivateIdentity::from_seeds(Suite::Suite3, seed, other, seed);
    let birth = Ghid::of(&number.to_be_bytes());
    let dynamic = DynamicBinding::dynamic_address(Suite::Suite3, &me.ghid(), &birth);
    let chain = ChainKey::new(0, 0, [9; 32]);
    let state = vec![7; len];
    let bundles = (1..=count).map(|step| {
        let secret = chain.advance_to(&dynamic, step).expect("near").container_secret(&dynamic);
        let container = Container::seal(&me, &secret, getrandom_nonce(), &state);
        let targets = [container.ghid(), birth];
        let frame =
            DynamicBinding::next(&me, dynamic, step << 8 | 1, &targets).expect("a proven address");
        vec![
            Packed::from(me.identity().encode()),
            Packed::from(frame.bytes().to_vec()),
            Packed::from(container.bytes().to_vec()),
        ]
    });
    (dynamic, bundles.collect())
}

async fn publish(mut client: Client, bundles: Vec<Vec<Packed>>) -> anyhow::Result<Vec<Duration>> {
    let mut waiting: VecDeque<Instant> = VecDeque::new();
    let mut took = Vec::with_capacity(bundles.len());
    let mut bundles = bundles.into_iter().enumerate();
    loop {
        while waiting.len() < WINDOW
            && let Some((id, objects)) = bundles.next()
        {
            waiting.push_back(Instant::now());
            client.network.send(client.link, Message::Publish { id: id as u32, objects });
        }
        if waiting.is_empty() {
            return Ok(took);
        }
        if let Message::Published { results, .. } = client.next().await? {
            anyhow::ensure!(results.iter().all(|result| *result == 0), "refused: {results:?}");
            took.extend(waiting.pop_front().map(|at| at.elapsed()));
        }
    }
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1).map(|word| word.parse::<u64>());
    let mut arg = |usual| args.next().unwrap_or(Ok(usual));
    let (publishers, count, followers) = (arg(64)?, arg(200)?, arg(1_000)?);
    let folder = std::env::temp_dir().join(format!("serverprobe-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let options = ServerOptions {
        cache: Some(folder.clone()),
        hosts: vec![std::net::Ipv4Addr::LOCALHOST.into()],
        port: 0,
        websocket: None,
        peers: Vec::new(),
        mirrors: Vec::new(),
        gossip: true,
        persister: PersisterConfig::default(),
        relay: RelayLimits::default(),
    };
    let store = Server::open_store(Some(&folder))?;
    let key = Server::device_key(Some(&folder))?;
    let control = folder.join("sock");
    let server = Server::start(options, store, key, &control, Instant::now()).await?;
    let addresses = server.addresses().await;
    let is_tcp = |at: &&Multiaddr| at.to_string().contains("/tcp/");
    let address = addresses.iter().find(is_tcp).expect("it listens").clone();

    let mut ready = Vec::new();
    for number in 0..publishers {
        ready.push((Client::connect(&address).await?, states(number, count, 1_000).1));
    }
    let begun = Instant::now();
    let tasks: Vec<_> =
        ready.into_iter().map(|(client, bundles)| tokio::spawn(publish(client, bundles))).collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await??);
    }
    #[expect(clippy::cast_precision_loss, reason = "shown without digits")]
    let rate = took.len() as f64 / begun.elapsed().as_secs_f64();
    println!(
        "{publishers} publishers, states of 1 kB, durable: {rate:.0}/s, p50 {:?}, p99 {:?}",
        percentile(&mut took, 50),
        percentile(&mut took, 99)
    );

    let (dynamic, bundles) = states(1_000_000, 20, 100);
    let mut publisher = Client::connect(&address).await?;
    let (seen, mut all_seen) = mpsc::channel(1_024);
    for _ in 0..followers {
        let mut follower = Client::connect(&address).await?;
        let addresses = vec![Address(dynamic)];
        follower.network.send(follower.link, Message::Subscribe { addresses, cursor: None });
        let seen = seen.clone();
        tokio::spawn(async move {
            while let Ok(message) = follower.next().await {
                if let Message::Event { cursor, objects, .. } = message {
                    let ack = Message::EventAck { seq: cursor.seq };
                    follower.network.send(follower.link, ack);
                    if let Some(frame) = objects.get(1) {
                        let _ = seen.send(frame.to_vec()).await;
                    }
                }
            }
        });
    }
    let mut times = Vec::new();
    for (id, objects) in bundles.into_iter().enumerate() {
        let frame = objects[1].to_vec();
        let begun = Instant::now();
        publisher.network.send(publisher.link, Message::Publish { id: id as u32, objects });
        let mut heard: HashMap<Vec<u8>, u64> = HashMap::new();
        while heard.get(&frame).copied().unwrap_or(0) < followers {
            let Some(seen) = all_seen.recv().await else { break };
            *heard.entry(seen).or_default() += 1;
            times.push(begun.elapsed());
        }
        while !matches!(publisher.next().await?, Message::Published { .. }) {}
    }
    println!(
        "{followers} followers of one object: a change reaches one after p50 {:?}, p99 {:?}",
        percentile(&mut times, 50),
        percentile(&mut times, 99)
    );
    server.run_until(std::future::ready(())).await?;
    std::fs::remove_dir_all(folder)?;
    Ok(())
}
