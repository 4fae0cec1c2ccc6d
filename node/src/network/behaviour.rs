//! Everything that runs on a connection: limits, identify, ping, mDNS, the link's substream, lookups and
//! announcements.

use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId, identify, kad, mdns, memory_connection_limits, ping, relay};

use super::dht::{self, Records};
use super::gossip::{self, Gossipsub};
use super::{NetworkConfig, limits, nat, places, substream};

/// Time between pings that measure the round trip; a dead link is noticed by the link's own.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// The swarm's behaviour. Limits come first: what they deny costs the others nothing.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    pub(super) links: substream::Behaviour,
    pub(super) places: places::Behaviour,
    pub(super) identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(super) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(super) kad: Toggle<kad::Behaviour<Records>>,
    pub(super) gossip: Toggle<Gossipsub>,
    nat: nat::Behaviour,
}

impl Behaviour {
    /// With the transport for connections through relays.
    pub(super) fn new(
        key: &Keypair,
        mdns: bool,
        config: &NetworkConfig,
    ) -> (Option<relay::client::Transport>, Self) {
        // One address must not be able to take all places with handshakes that it never ends.
        let of_one_address =
            config.inbound.0 + config.inbound.1 * limits::DIAL_WAN.as_secs() as u32;
        let pending = of_one_address + limits::CONNECTIONS_PENDING;
        let limits = ConnectionLimits::default()
            .with_max_established_outgoing(Some(limits::CONNECTIONS_OUT))
            .with_max_pending_incoming(Some(pending))
            .with_max_pending_outgoing(Some(limits::CONNECTIONS_PENDING))
            .with_max_established_per_peer(Some(limits::CONNECTIONS_PER_PEER));
        let identify = identify::Config::new("/hypergolix/1".to_owned(), key.public())
            .with_agent_version(concat!("hypergolix/", env!("CARGO_PKG_VERSION")).to_owned())
            .with_cache_size(0);
        let (relayed, nat) = nat::Behaviour::new(key, config.nat);
        let new = Self {
            limits: connection_limits::Behaviour::new(limits),
            memory: memory_connection_limits::Behaviour::with_max_bytes(config.memory_max),
            links: substream::Behaviour::new(
                key.public().to_peer_id(),
                config.inbound,
                config.waits,
            ),
            places: places::Behaviour::new(config.connections_in),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_INTERVAL)),
            mdns: mdns.then(|| responder(key.public().to_peer_id())).flatten().into(),
            kad: dht::behaviour(key.public().to_peer_id(), &config.dht).into(),
            gossip: config.gossip.then(|| gossip::behaviour(key)).flatten().into(),
            nat,
        };
        (relayed, new)
    }
}

/// A fresh mDNS responder; `None`, with a line in the log, where the system has none.
pub(super) fn responder(local: PeerId) -> Option<mdns::tokio::Behaviour> {
    let config = mdns::Config {
        ttl: limits::MDNS_TTL,
        query_interval: limits::MDNS_QUERY,
        enable_ipv6: false,
    };
    match mdns::tokio::Behaviour::new(config, local) {
        Ok(responder) => Some(responder),
        Err(error) => {
            tracing::warn!(%error, "mDNS does not start here");
            None
        }
    }
}
