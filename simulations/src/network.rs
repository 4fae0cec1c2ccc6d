//! Links between nodes: ordered streams that are slow, stall, break and are made again.
//!
//! Within a link messages arrive in order or not at all, as over TCP or QUIC; a lost packet is a
//! delay for everything behind it. When a link breaks, each direction loses what had not arrived by
//! a moment of its own, and each side notices later, at a time of its own. So around a break
//! messages are lost, repeated by the engines, and overtaken by those of the next link.

use std::collections::{BTreeMap, VecDeque};

use hypergolix_engine::LinkId;

use crate::Micros;
use crate::chance::Chance;
use crate::scenario;

/// Names a link of the world, on both sides.
pub type LinkKey = u64;

/// Two nodes, the lower number first.
pub type Pair = (usize, usize);

/// The two nodes as a pair.
pub fn pair(a: usize, b: usize) -> Pair {
    (a.min(b), a.max(b))
}

/// One side of a link.
#[derive(Debug)]
pub struct End {
    /// The node here.
    pub node: usize,
    /// The node's life that the link belongs to.
    pub life: u64,
    /// What the node's engine calls the link.
    pub id: LinkId,
    /// Its engine was told that the link is open.
    pub is_up: bool,
    /// Its engine was told that the link ended, or the node died.
    pub is_down: bool,
    /// Events sent from here that the other side has not confirmed.
    pub events: VecDeque<u64>,
    /// Publications sent from here that the other side has not answered.
    pub publications: usize,
    /// When the engine here learns that the link is open; nothing arrives before.
    up_at: Micros,
    /// When the last message towards this side arrives.
    last_arrival: Micros,
    /// Nothing arrives here after this moment.
    cutoff: Option<Micros>,
    /// Messages towards this side that a partition holds back.
    held: Vec<Vec<u8>>,
}

/// A link.
#[derive(Debug)]
pub struct Link {
    /// Both sides.
    pub ends: [End; 2],
    /// It carries nothing new.
    pub is_broken: bool,
    /// A partition swallows what is sent.
    is_stalled: bool,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    /// It arrives then.
    Arrives(Micros),
    /// It waits for the end of a partition, or the link's.
    Held,
    /// It never arrives.
    Lost,
}

/// All links, and which nodes can reach each other.
#[derive(Debug, Default)]
pub struct Network {
    links: BTreeMap<LinkKey, Link>,
    by_end: BTreeMap<(usize, LinkId), LinkKey>,
    /// The newest link of a pair that is not broken.
    current: BTreeMap<Pair, LinkKey>,
    /// Pairs that look for each other already.
    pub dialling: std::collections::BTreeSet<Pair>,
    /// The group of each node; different groups do not reach each other. Empty: no partition.
    groups: Vec<bool>,
    next: LinkKey,
}

impl End {
    /// An acknowledgement reached this side: of that event, and of all before it. `swallowed` is one
    /// that was sent last and is not counted here: then nothing is under way any more.
    pub fn acknowledged(&mut self, seq: u64, swallowed: bool) {
        match self.events.iter().position(|sent| *sent == seq) {
            Some(last) => drop(self.events.drain(..=last)),
            None if swallowed => self.events.clear(),
            None => {}
        }
    }
}

impl Network {
    /// Makes a link whose sides learn of it at `up_at`.
    pub fn open(&mut self, ends: [(usize, u64, LinkId); 2], up_at: [Micros; 2]) -> LinkKey {
        let key = self.next;
        self.next += 1;
        let end = |(node, life, id): (usize, u64, LinkId), up_at| End {
            node,
            life,
            id,
            is_up: false,
            is_down: false,
            events: VecDeque::new(),
            publications: 0,
            up_at,
            last_arrival: up_at,
            cutoff: None,
            held: Vec::new(),
        };
        let [first, second] = ends;
        for (node, _, id) in ends {
            self.by_end.insert((node, id), key);
        }
        self.current.insert(pair(first.0, second.0), key);
        let ends = [end(first, up_at[0]), end(second, up_at[1])];
        self.links.insert(key, Link { ends, is_broken: false, is_stalled: false });
        key
    }

    /// A link that at least one side has not let go of.
    pub fn get_mut(&mut self, key: LinkKey) -> Option<&mut Link> {
        self.links.get_mut(&key)
    }

    /// The link that a node calls `id`, and the node's side of it.
    pub fn find(&self, node: usize, id: LinkId) -> Option<(LinkKey, usize)> {
        let key = *self.by_end.get(&(node, id))?;
        let link = self.links.get(&key)?;
        Some((key, usize::from(link.ends[0].node != node)))
    }

    /// The link that two nodes use.
    pub fn current(&self, pair: Pair) -> Option<LinkKey> {
        self.current.get(&pair).copied()
    }

    /// Links that are not broken, oldest first.
    pub fn living(&self) -> Vec<LinkKey> {
        self.links.iter().filter(|(_, link)| !link.is_broken).map(|(key, _)| *key).collect()
    }

    /// Links that a life of a node takes part in.
    pub fn of_node(&self, node: usize) -> Vec<LinkKey> {
        self.links
            .iter()
            .filter(|(_, link)| link.ends.iter().any(|end| end.node == node && !end.is_down))
            .map(|(key, _)| *key)
            .collect()
    }

    /// Whether two nodes reach each other.
    pub fn reach(&self, (a, b): Pair) -> bool {
        self.groups.get(a) == self.groups.get(b)
    }

    /// Parts the nodes; an empty list joins them again.
    pub fn part(&mut self, groups: Vec<bool>) {
        self.groups = groups;
    }

    /// Whether the nodes are parted.
    pub fn is_parted(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Sends a message towards side `to`.
    pub fn send(
        &mut self,
        key: LinkKey,
        to: usize,
        bytes: &[u8],
        now: Micros,
        chance: &mut Chance,
        settings: &scenario::Network,
    ) -> Sent {
        let Some(link) = self.links.get_mut(&key) else {
            return Sent::Lost;
        };
        if link.is_stalled {
            if link.is_broken {
                // What was held back before is lost, so nothing may arrive behind it.
                return Sent::Lost;
            }
            link.ends[to].held.push(bytes.to_vec());
            return Sent::Held;
        }
        let mut latency = chance.between(settings.latency_us);
        while chance.happens(settings.loss) {
            latency += chance.between(settings.retransmission) * 1_000;
        }
        let end = &mut link.ends[to];
        let at = (now + latency).max(end.last_arrival).max(end.up_at);
        end.last_arrival = at;
        if end.is_down || end.cutoff.is_some_and(|cutoff| at > cutoff) {
            return Sent::Lost;
        }
        Sent::Arrives(at)
    }

    /// Whether what was under way to side `to` arrives at `now`.
    pub fn arrives(&self, key: LinkKey, to: usize, now: Micros) -> bool {
        self.links.get(&key).is_some_and(|link| {
            let end = &link.ends[to];
            end.is_up && !end.is_down && end.cutoff.is_none_or(|cutoff| now <= cutoff)
        })
    }

    /// From now on a partition swallows what is sent over this link.
    pub fn stall(&mut self, key: LinkKey) {
        if let Some(link) = self.links.get_mut(&key) {
            link.is_stalled = true;
        }
    }

    /// The partition is over; returns what it held back, with the side that each is for.
    pub fn resume(&mut self, key: LinkKey) -> Vec<(usize, Vec<u8>)> {
        let Some(link) = self.links.get_mut(&key) else {
            return Vec::new();
        };
        link.is_stalled = false;
        let mut held = Vec::new();
        for (to, end) in link.ends.iter_mut().enumerate() {
            held.extend(std::mem::take(&mut end.held).into_iter().map(|bytes| (to, bytes)));
        }
        held
    }

    /// Breaks a link: nothing arrives at its sides after `cutoffs`. False if it was broken before.
    pub fn break_link(&mut self, key: LinkKey, cutoffs: [Micros; 2]) -> bool {
        let Some(link) = self.links.get_mut(&key) else {
            return false;
        };
        if link.is_broken {
            return false;
        }
        link.is_broken = true;
        let nodes = pair(link.ends[0].node, link.ends[1].node);
        for (end, cutoff) in link.ends.iter_mut().zip(cutoffs) {
            end.cutoff = Some(cutoff);
            end.held.clear();
        }
        if self.current.get(&nodes) == Some(&key) {
            self.current.remove(&nodes);
        }
        true
    }

    /// A side was told that the link ended, or died; the link is forgotten with its second side.
    pub fn side_down(&mut self, key: LinkKey, side: usize) {
        let Some(link) = self.links.get_mut(&key) else {
            return;
        };
        link.ends[side].is_down = true;
        if link.is_broken && link.ends.iter().all(|end| end.is_down) {
            for end in &link.ends {
                self.by_end.remove(&(end.node, end.id));
            }
            self.links.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> scenario::Network {
        let text = include_str!("../scenarios/partition.toml");
        crate::Scenario::from_toml(text).expect("a shipped scenario").network
    }

    #[test]
    fn a_stream_keeps_its_order_and_ends_at_the_cutoff() {
        let (mut network, settings) = (Network::default(), settings());
        let mut chance = Chance::new(1, "network");
        let key = network.open([(0, 0, LinkId(4)), (1, 0, LinkId(9))], [10, 20]);
        assert_eq!(network.find(1, LinkId(9)), Some((key, 1)));
        assert!(!network.arrives(key, 1, 30), "not told yet");
        network.get_mut(key).expect("open").ends[1].is_up = true;
        let mut last = 0;
        for now in 0..200 {
            let Sent::Arrives(at) = network.send(key, 1, b"x", now, &mut chance, &settings) else {
                panic!("the link is open")
            };
            assert!(at >= last && at >= 20);
            last = at;
        }
        assert!(network.break_link(key, [300, 300]));
        assert!(!network.break_link(key, [0, 0]));
        assert_eq!(network.current((0, 1)), None);
        assert!(network.arrives(key, 1, 300) && !network.arrives(key, 1, 301));
        assert_eq!(network.send(key, 1, b"x", 0, &mut chance, &settings), Sent::Lost);
        network.side_down(key, 0);
        network.side_down(key, 1);
        assert_eq!(network.find(0, LinkId(4)), None);
    }

    #[test]
    fn a_partition_holds_messages_back() {
        let (mut network, settings) = (Network::default(), settings());
        let mut chance = Chance::new(1, "network");
        let key = network.open([(0, 0, LinkId(0)), (1, 0, LinkId(0))], [0, 0]);
        network.part(vec![true, false]);
        assert!(!network.reach((0, 1)) && network.is_parted());
        network.stall(key);
        assert_eq!(network.send(key, 0, b"x", 0, &mut chance, &settings), Sent::Held);
        network.part(Vec::new());
        assert!(network.reach((0, 1)));
        assert_eq!(network.resume(key), [(0, b"x".to_vec())]);
        network.stall(key);
        network.break_link(key, [1_000_000, 1_000_000]);
        assert_eq!(network.send(key, 0, b"x", 0, &mut chance, &settings), Sent::Lost);
    }
}
