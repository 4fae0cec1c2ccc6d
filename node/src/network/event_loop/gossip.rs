//! Announcements at work: topics joined and left, messages judged and passed on, servers visited.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use golix::Ghid;
use hypergolix_engine::announcement::{self, Moved, SHARDS};
use hypergolix_engine::route::Host;
use libp2p::gossipsub::{Event, IdentTopic, MessageAcceptance};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::EventLoop;
use crate::network::address_book::{self, Source};
use crate::network::dht::now;
use crate::network::gossip::{Delivery, Judge, Judgement, shard_of, topic};
use crate::network::limits::{ADDRESSES_PER_PEER, VISIT, VISITS_MAX};
use crate::network::link::Outlet;
use crate::network::{GossipStatus, NetworkEvent};

/// Announcements that wait for a node that is busy.
const HEARD_MAX: usize = 1_024;

/// The state of gossip beside the library's.
pub(super) struct Gossip {
    judge: Judge,
    /// What the node is told, when it has time.
    heard: mpsc::Sender<NetworkEvent>,
    telling: JoinHandle<()>,
    /// What the node wants to pass on beside what it listens to.
    shards: u64,
    /// One bit for each topic that is joined.
    joined: u64,
    /// The counter of our last announcement.
    counter: u64,
    /// Servers that were not known before, and since when they are visited.
    visited: HashMap<PeerId, Instant>,
    figures: GossipStatus,
}

impl Gossip {
    /// Needs a tokio runtime.
    pub(super) fn new(outlet: Arc<Outlet>) -> Self {
        let (heard, mut taken) = mpsc::channel(HEARD_MAX);
        let telling = tokio::spawn(async move {
            while let Some(event) = taken.recv().await
                && outlet.send(event, 0).await
            {}
        });
        Self {
            judge: Judge::default(),
            heard,
            telling,
            shards: 0,
            joined: 0,
            counter: 0,
            visited: HashMap::new(),
            figures: GossipStatus::default(),
        }
    }
}

impl Drop for Gossip {
    fn drop(&mut self) {
        self.telling.abort();
    }
}

impl EventLoop {
    /// Takes up what the node ordered.
    pub(super) fn on_gossip_orders(&mut self, at: Instant) {
        let orders = self.shared.gossip.take();
        if orders.reset {
            self.gossip.judge.deafen();
            self.gossip.shards = 0;
        }
        let now = now();
        for (author, listens) in orders.listens {
            self.gossip.judge.listen(author, listens, now);
        }
        if let Some(shards) = orders.shards {
            self.gossip.shards = shards;
        }
        if self.join_topics() {
            self.publish();
        }
        for (author, moved) in orders.announcements {
            self.announce(&author, &moved);
        }
        for host in orders.visits {
            self.visit_announcer(&host, at);
        }
    }

    /// Joins the topics of those who are listened to, and the others that the node named; whether that
    /// changed anything.
    fn join_topics(&mut self) -> bool {
        let wanted = self.gossip.shards | self.gossip.judge.shards();
        let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() else { return false };
        for shard in 0..SHARDS {
            let (wanted, joined) = (wanted >> shard & 1, self.gossip.joined >> shard & 1);
            let topic = IdentTopic::new(topic(shard).into_string());
            match (wanted, joined) {
                (1, 0) => {
                    if let Err(error) = gossip.subscribe(&topic) {
                        tracing::warn!(%error, %topic, "a topic is not joined");
                    }
                }
                (0, 1) => drop(gossip.unsubscribe(&topic)),
                _ => {}
            }
        }
        std::mem::replace(&mut self.gossip.joined, wanted) != wanted
    }

    fn announce(&mut self, author: &Ghid, moved: &[Moved]) {
        let addresses: Vec<_> = self.whereabouts().iter().map(Multiaddr::to_vec).collect();
        let counter = now().max(self.gossip.counter + 1);
        self.gossip.counter = counter;
        let data = announcement::seal(author, counter, &self.local.to_bytes(), &addresses, moved);
        let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() else { return };
        match gossip.publish(topic(announcement::shard(author)), data) {
            Ok(_) => self.gossip.figures.announced += 1,
            // Nobody is there to hear it, or all of them are busy.
            Err(error) => tracing::debug!(%error, "not announced"),
        }
    }

    pub(super) fn on_gossip(&mut self, event: Event, at: Instant) {
        let Event::Message { propagation_source: from, message_id, message } = event else {
            tracing::trace!(?event, "gossip");
            return;
        };
        let judgement = match message.source {
            Some(source) => {
                let shard = shard_of(&message.topic);
                let delivery = Delivery { shard, data: &message.data, source, from };
                self.gossip.judge.judge(delivery, now(), at)
            }
            None => Judgement::Wrong("without a source"),
        };
        let figures = &mut self.gossip.figures;
        let acceptance = match &judgement {
            Judgement::Good(_) => {
                figures.passed_on += 1;
                MessageAcceptance::Accept
            }
            Judgement::Useless(reason) => {
                tracing::debug!(%from, reason, "an announcement is dropped");
                figures.dropped += 1;
                MessageAcceptance::Ignore
            }
            Judgement::Wrong(reason) => {
                tracing::debug!(%from, reason, "an announcement is refused");
                figures.refused += 1;
                MessageAcceptance::Reject
            }
        };
        if let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() {
            gossip.report_message_validation_result(&message_id, &from, acceptance);
        }
        if let Judgement::Good(Some(heard)) = judgement {
            self.gossip.figures.heard += 1;
            let (author, moved, host) = (heard.author, heard.moved, heard.host);
            // Beyond that the node is far behind, and hears of it some other way.
            let _ = self.gossip.heard.try_send(NetworkEvent::Announced { author, moved, host });
        }
    }

    /// Connects to a server that announced something, if it is not where nobody has to dial for it.
    fn visit_announcer(&mut self, host: &Host, at: Instant) {
        let Ok(peer) = PeerId::from_bytes(&host.device) else { return };
        if self.peers.get(&peer).is_some_and(super::Peer::is_linked) {
            return;
        }
        let known = self.book.knows(&peer);
        if !known && self.gossip.visited.len() >= VISITS_MAX {
            tracing::debug!(%peer, "too many servers are visited");
            return;
        }
        // A machine that talks to nobody else may talk to itself.
        let mut listens = self.listening.addresses.keys().filter_map(address_book::ip_of);
        let alone = listens.all(|ip| ip.is_loopback());
        let addresses = host.addresses.iter().take(ADDRESSES_PER_PEER);
        for address in addresses.filter_map(|bytes| Multiaddr::try_from(bytes.clone()).ok()) {
            let own = alone && address_book::ip_of(&address).is_some_and(|ip| ip.is_loopback());
            if own || self.nat.filter.takes_from_strangers(&address) {
                self.learn(peer, &address, Source::Found, at);
            }
        }
        if !known && self.book.knows(&peer) {
            tracing::debug!(%peer, "visiting a server for what it announced");
            self.gossip.visited.insert(peer, at);
        }
    }

    /// Whether we came to a server for what it announced: like a remote it dials nobody for a link.
    pub(super) fn is_visited(&self, peer: &PeerId) -> bool {
        self.gossip.visited.contains_key(peer)
    }

    /// A visited server is gone: it is not dialled again for that.
    pub(super) fn visit_ended(&mut self, peer: &PeerId) {
        if self.gossip.visited.remove(peer).is_some() {
            self.book.drop_unless_configured(peer);
        }
    }

    /// Ends visits that took their time, and forgets what is too old.
    pub(super) fn tick_gossip(&mut self, at: Instant) {
        self.gossip.judge.expire(now(), at);
        let over = |since: &Instant| at.saturating_duration_since(*since) >= VISIT;
        let over: Vec<PeerId> = self
            .gossip
            .visited
            .iter()
            .filter(|(_, since)| over(since))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in over {
            self.visit_ended(&peer);
            // One that is configured, has become a remote, or came to us as well, stays.
            let ours = self
                .peers
                .get(&peer)
                .is_some_and(|peer| peer.connections.values().all(|connection| connection.dialed));
            if ours && !self.book.knows(&peer) && !self.is_remote(&peer) {
                self.disconnect(peer, at);
            }
        }
    }

    pub(super) fn gossip_status(&mut self) -> Option<GossipStatus> {
        let gossip = self.swarm.behaviour_mut().gossip.as_mut()?;
        Some(GossipStatus {
            shards: self.gossip.joined.count_ones(),
            listens: self.gossip.judge.listens(),
            mesh: gossip.all_mesh_peers().count(),
            visits: self.gossip.visited.len(),
            ..self.gossip.figures
        })
    }
}
