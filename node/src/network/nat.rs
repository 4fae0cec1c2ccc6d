//! What leads through NATs: relays (circuit relay version 2), hole punching (DCUtR) and tests of
//! reachability (AutoNAT version 2).
//!
//! Servers relay and test; nodes have themselves relayed by their remotes, punch and ask.

use std::time::Duration;

use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId, autonat, dcutr, relay};

use super::limits::RelayLimits;

/// Pause between two tests of an address that may be public.
const PROBE_PAUSE: Duration = Duration::from_secs(5);

/// Addresses of ours that are tested.
const PROBED_MAX: usize = 8;

/// What a device does about NATs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NatRole {
    /// Nothing: the LAN is all there is.
    None,
    /// It may be behind one: it has itself relayed by its remotes and punches holes.
    #[default]
    Client,
    /// Everybody reaches it: it relays for others, within these limits, and tests their addresses.
    Server(RelayLimits),
}

/// How a device is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// On this machine or a network that it is part of.
    Lan,
    /// Across networks, without help.
    Direct,
    /// Through a relay, which sees who talks to whom and nothing of what.
    Relayed,
}

impl Reach {
    /// The word in `hypergolix status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Direct => "direct",
            Self::Relayed => "relayed",
        }
    }
}

/// The swarm's part.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    server: Toggle<relay::Behaviour>,
    dial_back: Toggle<autonat::v2::server::Behaviour>,
    client: Toggle<relay::client::Behaviour>,
    dcutr: Toggle<dcutr::Behaviour>,
    probe: Toggle<autonat::v2::client::Behaviour>,
}

impl Behaviour {
    /// With the transport that goes with it.
    pub(super) fn new(key: &Keypair, role: NatRole) -> (Option<relay::client::Transport>, Self) {
        let local = key.public().to_peer_id();
        let limits = match role {
            NatRole::Server(limits) => Some(limits),
            NatRole::None | NatRole::Client => None,
        };
        let server = limits.map(|limits| {
            let config = relay::Config {
                max_reservations: limits.reservations,
                max_circuits: limits.circuits,
                max_circuits_per_peer: limits.circuits_per_peer,
                max_circuit_duration: limits.duration,
                max_circuit_bytes: limits.bytes,
                ..relay::Config::default()
            };
            relay::Behaviour::new(local, config)
        });
        let is_client = role == NatRole::Client;
        let (transport, client) = is_client.then(|| relay::client::new(local)).unzip();
        let probe = autonat::v2::client::Config::default()
            .with_max_candidates(PROBED_MAX)
            .with_probe_interval(PROBE_PAUSE);
        let probe = is_client.then(|| autonat::v2::client::Behaviour::new(rand::make_rng(), probe));
        let new = Self {
            dial_back: limits.map(|_| autonat::v2::server::Behaviour::default()).into(),
            server: server.into(),
            client: client.into(),
            dcutr: is_client.then(|| dcutr::Behaviour::new(local)).into(),
            probe: probe.into(),
        };
        (transport, new)
    }
}

/// A peer id in the middle of an address that leads through a relay: the relay's.
pub(super) fn relay_of(address: &libp2p::Multiaddr) -> Option<PeerId> {
    use libp2p::multiaddr::Protocol;
    let mut last = None;
    for part in address {
        match part {
            Protocol::P2p(peer) => last = Some(peer),
            Protocol::P2pCircuit => return last,
            _ => {}
        }
    }
    None
}
