//! What `hypergolix status` and `hypergolix server status` show of the process, beside what engine and
//! persister say of themselves.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use golix::Ghid;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::network::{DhtStatus, GossipStatus, Network, NetworkStatus, RemoteStatus};
use crate::paths::Home;

/// What a node knows of itself.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Its files.
    pub home: Home,
    /// Its configuration: as it was started with, and the peers and remotes of today.
    pub config: Arc<Mutex<Config>>,
    /// Its port for applications.
    pub ipc_port: u16,
    /// When it was started.
    pub started: Instant,
    /// Its account's identity.
    pub fingerprint: Ghid,
    /// Its way to other devices.
    pub network: Network,
}

/// What a server knows of itself.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// When it was started.
    pub started: Instant,
    /// Its way to other devices.
    pub network: Network,
    /// Servers that it mirrors.
    pub mirrors: Vec<Multiaddr>,
    /// Devices that it was told to stay connected to.
    pub peers: Vec<Multiaddr>,
}

/// Whose process it is.
#[derive(Debug, Clone)]
pub enum About {
    /// A user's node.
    Node(Facts),
    /// A server.
    Server(ServerFacts),
}

impl About {
    /// Adds what the process knows to what its engine says, a JSON object. What is not JSON is returned
    /// as it is.
    pub fn complete(&self, engine: &str, storage: Storage) -> String {
        match self {
            Self::Node(facts) => facts.complete(engine, storage),
            Self::Server(facts) => facts.complete(engine, storage),
        }
    }
}

impl ServerFacts {
    fn complete(&self, persister: &str, storage: Storage) -> String {
        let Ok(mut facts) = serde_json::from_str::<Map<String, Value>>(persister) else {
            return persister.to_owned();
        };
        let network = self.network.status();
        let linked = |address: &Multiaddr| {
            let id = peer_of(address);
            let link = network.peers.iter().find(|peer| Some(peer.peer_id) == id);
            json!({
                "address": address.to_string(),
                "connected": link.is_some(),
                "connected_seconds": link.map(|link| link.connected_for().as_secs()),
            })
        };
        extend(&mut facts, process_facts(self.started, &network, storage));
        extend(
            &mut facts,
            json!({
                "mirrors": self.mirrors.iter().map(linked).collect::<Vec<_>>(),
                "peers": self.peers.iter().map(linked).collect::<Vec<_>>(),
            }),
        );
        Value::Object(facts).to_string()
    }
}

/// The device at the end of an address.
pub(crate) fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last()? {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    }
}

/// What only the owner of the store knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storage {
    /// Size of the store's file; `None` if the system does not tell.
    pub bytes: Option<u64>,
    /// Whether the disk was full and the reserve is in use.
    pub low_on_space: bool,
    /// Rows deleted whose remains are still in the file.
    pub deletions_not_compacted: u64,
    /// Times that the store was opened again after a failure.
    pub failures: u64,
}

impl Facts {
    fn complete(&self, engine: &str, storage: Storage) -> String {
        let Ok(mut facts) = serde_json::from_str::<Map<String, Value>>(engine) else {
            return engine.to_owned();
        };
        let network = self.network.status();
        let peers: Vec<Value> = network
            .peers
            .iter()
            .map(|peer| {
                json!({
                    "peer_id": peer.peer_id.to_string(),
                    "address": peer.address.to_string(),
                    "reach": peer.reach.name(),
                    "connected_seconds": peer.connected_for().as_secs(),
                    "rtt_ms": peer.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
                    "queued_bytes": peer.queued,
                })
            })
            .collect();
        let persisters = match facts.remove("persisters") {
            Some(Value::Array(persisters)) => persisters,
            _ => Vec::new(),
        };
        if let Some(Value::Array(others)) = facts.get_mut("servers_of_others") {
            *others = others.iter().filter_map(named).map(|(_, facts)| facts).collect();
        }
        let remotes: Vec<Value> =
            network.remotes.iter().map(|remote| remote_facts(remote, &persisters)).collect();
        let away = away(&network.remotes, &persisters);
        let found = found(&network.remotes, &persisters);
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let own = json!({
            "home": self.home.path().display().to_string(),
            "ipc_port": self.ipc_port,
            "external": texts(&network.external),
            "circuits": texts(&network.circuits),
            "peers": peers,
            "remotes": remotes,
            "servers_away": away,
            "servers_found": found,
            "addresses_known": network.addresses,
            "dials": network.dials,
            "config": {
                "durability": config.durability,
                "verbosity": config.verbosity,
                "debug": config.debug,
                "lan": config.lan,
                "remotes": config.remotes,
                "peers": config.peers,
            },
        });
        extend(&mut facts, process_facts(self.started, &network, storage));
        extend(&mut facts, own);
        Value::Object(facts).to_string()
    }
}

/// What is said of every process.
fn process_facts(started: Instant, network: &NetworkStatus, storage: Storage) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_seconds": started.elapsed().as_secs(),
        "peer_id": network.peer_id.to_string(),
        "listen": texts(&network.listen),
        "dht": network.dht.map(dht_facts),
        "gossip": network.gossip.map(gossip_facts),
        "storage_bytes": storage.bytes,
        "low_on_space": storage.low_on_space,
        "deletions_not_compacted": storage.deletions_not_compacted,
        "store_failures": storage.failures,
    })
}

fn extend(facts: &mut Map<String, Value>, more: Value) {
    if let Value::Object(more) = more {
        facts.extend(more);
    }
}

fn texts(addresses: &[Multiaddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

/// The distributed hash table: how we take part, who is known, what is kept, what is said of us.
fn dht_facts(dht: DhtStatus) -> Value {
    json!({
        "serves": dht.serves,
        "peers": dht.peers,
        "records": dht.records,
        "record_bytes": dht.bytes,
        "refused": dht.refused,
        "own": dht.presences,
        "own_published": dht.published,
        "lookups": dht.finds,
    })
}

/// Announcements: topics, who is listened to, and what came of them since the start.
fn gossip_facts(gossip: GossipStatus) -> Value {
    json!({
        "topics": gossip.shards,
        "listens": gossip.listens,
        "neighbours": gossip.mesh,
        "visits": gossip.visits,
        "heard": gossip.heard,
        "passed_on": gossip.passed_on,
        "dropped": gossip.dropped,
        "refused": gossip.refused,
    })
}

/// Servers that were reached once and may be one of the remotes of which it is not known, since the
/// start, who answers there; as many as there are of these, the last one that was reached first.
fn away(remotes: &[RemoteStatus], persisters: &[Value]) -> Vec<Value> {
    let known: Vec<PeerId> = remotes.iter().filter_map(|remote| remote.peer_id).collect();
    persisters
        .iter()
        .filter_map(named)
        .filter(|(peer, _)| !known.contains(peer))
        .map(|(_, facts)| facts)
        .take(remotes.len() - known.len())
        .collect()
}

/// Servers that other devices of the account use, and this one therefore, too.
fn found(remotes: &[RemoteStatus], persisters: &[Value]) -> Vec<Value> {
    let known = |peer: &PeerId| remotes.iter().any(|remote| remote.peer_id == Some(*peer));
    let linked = persisters.iter().filter(|persister| persister.get("pending").is_some());
    linked.filter_map(named).filter(|(peer, _)| !known(peer)).map(|(_, facts)| facts).collect()
}

/// What the engine says of a device, with its name for people.
fn named(facts: &Value) -> Option<(PeerId, Value)> {
    let device = facts["device"].as_str()?;
    let device = data_encoding::HEXLOWER.decode(device.as_bytes()).ok()?;
    let peer = PeerId::from_bytes(&device).ok()?;
    let mut facts = facts.as_object()?.clone();
    facts.remove("device");
    facts.insert("peer_id".into(), peer.to_string().into());
    Some((peer, Value::Object(facts)))
}

/// One remote: how the network sees it, and how the engine does.
fn remote_facts(remote: &RemoteStatus, persisters: &[Value]) -> Value {
    let state = match (remote.connected, remote.dialing) {
        (true, _) => "connected",
        (false, true) => "connecting",
        (false, false) => "waiting",
    };
    let mut facts = json!({
        "remote": remote.name,
        "state": state,
        "peer_id": remote.peer_id.map(|peer| peer.to_string()),
        "attempts": remote.attempts,
        "next_dial_seconds": remote.next_dial.map(|pause| pause.as_secs_f64()),
        "error": remote.error,
    });
    let device = remote.peer_id.map(|peer| data_encoding::HEXLOWER.encode(&peer.to_bytes()));
    let of_device =
        |persister: &&Value| device.is_some() && persister["device"].as_str() == device.as_deref();
    if let (Some(Value::Object(more)), Value::Object(facts)) =
        (persisters.iter().find(of_device).cloned(), &mut facts)
    {
        facts.extend(more.into_iter().filter(|(name, _)| name != "device"));
    }
    facts
}
