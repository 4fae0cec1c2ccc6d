//! `Scenario`: what is simulated, as a TOML file says it.

use golix::Suite;
use serde::Deserialize;

/// A scenario. Times are milliseconds of virtual time unless the name says microseconds (`_us`);
/// pairs are the lowest and the highest value, chosen anew each time; `every` is the mean of an
/// exponential distribution, and 0 means never.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Scenario {
    /// One sentence for people.
    pub about: String,
    /// How many nodes.
    pub nodes: [u64; 2],
    /// How many servers beside them.
    #[serde(default)]
    pub servers: [u64; 2],
    /// Whether nodes reach nothing but servers.
    #[serde(default)]
    pub apart: bool,
    /// The suites of the nodes' identities, over and over; none means suite 3 everywhere. Suite 1 signs
    /// in 15 ms of real time, so a scenario with it is a small one.
    #[serde(default)]
    pub suites: Vec<u8>,
    /// How long applications act and things break.
    pub active: u64,
    /// How long everything may take to come to rest once everything is healed.
    pub settle_max: u64,
    /// Nothing changes for this long: at rest. Longer than a reconciliation interval.
    pub quiet: u64,
    /// The engines' reconciliation interval. The default of 600 s is longer than a run.
    pub reconcile: u64,
    /// The model applications.
    pub apps: Apps,
    /// The nodes' disks.
    pub disk: Disk,
    /// What is between the nodes.
    pub network: Network,
    /// What breaks.
    pub faults: Faults,
}

/// What the model applications are like.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Apps {
    /// How many on each node.
    pub per_node: [u64; 2],
    /// How often each does something.
    pub acts_every: u64,
    /// One way between an application and its node.
    pub latency_us: [u64; 2],
    /// Probability that an application reads slowly.
    pub slow: f64,
    /// How long a slow application takes to acknowledge a notice.
    pub slow_ack: [u64; 2],
    /// Probability that an application registers for shares only after a while.
    pub late_handler: f64,
    /// Probability that an application refuses a share, as one whose handler fails does.
    pub refuses: f64,
    /// Probability that an application ends its connection instead of acting.
    pub reconnects: f64,
    /// Probability of a large state.
    pub large_state: f64,
    /// How many bytes that has.
    pub large_bytes: [u64; 2],
    /// Most pushes in a row without waiting for answers.
    pub burst_max: u64,
    /// Probability that an application makes many objects, or shares all of its own with somebody,
    /// instead of acting once.
    pub floods: f64,
    /// Most objects made at once.
    pub flood_max: u64,
}

/// What a node's disk is like.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Disk {
    /// How long a commit takes.
    pub commit_us: [u64; 2],
    /// Probability of a commit that takes much longer: a busy disk, or a machine that slept.
    pub stalls: f64,
    /// How long such a commit takes.
    pub stall: [u64; 2],
    /// Most inputs of one commit.
    pub batch_max: u64,
}

/// What is between the nodes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Network {
    /// One way of a message.
    pub latency_us: [u64; 2],
    /// Probability that a message needs a retransmission. What follows it waits, as in a stream.
    pub loss: f64,
    /// What a retransmission costs.
    pub retransmission: [u64; 2],
    /// How long two nodes that can reach each other take to find each other.
    pub discovery: [u64; 2],
    /// How long a side takes to notice that a link broke.
    pub notice_break: [u64; 2],
    /// Probability that an event never arrives although its sender believes so: whatever a bug or
    /// a lost queue could do. Reconciliation has to find it.
    pub events_lost: f64,
    /// Probability that an event arrives a second time, late.
    pub events_repeated: f64,
}

/// What breaks, how often and for how long. Each happens to one node or pair at a time.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Faults {
    /// A node loses its process, at one of the points around a commit.
    pub crash_every: u64,
    /// How long it is down.
    pub down: [u64; 2],
    /// A link breaks and is made again.
    pub break_every: u64,
    /// A new link is made while the old one still lives.
    pub replace_every: u64,
    /// The nodes part into two groups.
    pub part_every: u64,
    /// How long they are parted.
    pub parted: [u64; 2],
    /// Whether a partition leaves one node at the servers and all others alone: then sender and
    /// recipient are never there together.
    #[serde(default)]
    pub shifts: bool,
    /// A server dies and loses everything it stored.
    #[serde(default)]
    pub wipe_every: u64,
    /// Probability that a partition swallows what is sent instead of breaking links.
    pub black_hole: f64,
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        let nodes = scenario.nodes;
        if nodes[0] < 1 || nodes[1] < nodes[0] || nodes[1] > NODES_MAX {
            return Err(format!("nodes: between 1 and {NODES_MAX}, the lower number first"));
        }
        let servers = scenario.servers;
        if servers[1] < servers[0] || servers[1] > SERVERS_MAX {
            return Err(format!("servers: at most {SERVERS_MAX}, the lower number first"));
        }
        if scenario.quiet <= scenario.reconcile {
            return Err("quiet has to be longer than reconcile, or nobody would wait for it".into());
        }
        if let Some(code) = scenario.suites.iter().find(|code| Suite::from_code(**code).is_none()) {
            return Err(format!("suites: there is no suite {code}"));
        }
        Ok(scenario)
    }

    /// The suite of a node's identity.
    pub(crate) fn suite(&self, node: usize) -> Suite {
        let code = self.suites.get(node % self.suites.len().max(1));
        code.and_then(|code| Suite::from_code(*code)).unwrap_or(Suite::Suite3)
    }
}

/// Most servers of a scenario.
pub const SERVERS_MAX: u64 = 5;

/// Most nodes of a scenario: their accounts are made once a process, 50 ms of scrypt each.
pub const NODES_MAX: u64 = 20;
