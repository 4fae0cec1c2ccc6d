//! The way of a message, and the life of a link as its two engines see it.

use hypergolix_engine::{Input, LinkId, Message};

use super::{Event, World};
use crate::Micros;
use crate::check::Checker;
use crate::network::{LinkKey, Pair, Sent, pair};

impl World<'_> {
    pub(crate) fn dial_all(&mut self) {
        for pair in self.pairs() {
            self.dial(pair);
        }
    }

    /// Whether two nodes may meet at all.
    fn meets(&self, (a, b): Pair) -> bool {
        let servers = [a, b].iter().filter(|node| **node >= self.users).count();
        servers == 1 || (servers == 0 && !self.scenario.apart)
    }

    /// All that may meet.
    pub(crate) fn pairs(&self) -> Vec<Pair> {
        let count = self.nodes.len();
        let all = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
        all.filter(|pair| self.meets(*pair)).collect()
    }

    /// Two nodes look for each other, unless they do already.
    pub(crate) fn dial(&mut self, pair: Pair) {
        if self.meets(pair) && self.network.dialling.insert(pair) {
            let takes = self.chance.network.between(self.scenario.network.discovery) * 1_000;
            self.after(takes, Event::Dial { pair });
        }
    }

    pub(super) fn dialled(&mut self, (a, b): Pair) {
        self.network.dialling.remove(&(a, b));
        let both_up = self.nodes[a].is_up() && self.nodes[b].is_up();
        if both_up && self.network.reach((a, b)) && self.network.current((a, b)).is_none() {
            self.open_link((a, b));
        }
    }

    pub(super) fn open_link(&mut self, (a, b): Pair) {
        let ends = [a, b].map(|node| (node, self.nodes[node].life, self.nodes[node].link_id()));
        let latency = self.scenario.network.latency_us;
        let up_at = [(); 2].map(|()| self.now + self.chance.network.between(latency));
        let key = self.network.open(ends, up_at);
        self.trace(|| format!("link {key}: n{a} ({:?}) - n{b} ({:?})", ends[0].2, ends[1].2));
        for (side, at) in up_at.into_iter().enumerate() {
            self.at(at, Event::LinkUp { key, side });
        }
    }

    pub(super) fn link_up(&mut self, key: LinkKey, side: usize) {
        let Some(link) = self.network.get_mut(key) else {
            return;
        };
        let other = link.ends[1 - side].node;
        let (device, remote) = (self.nodes[other].device.clone(), other >= self.users);
        let broken = link.is_broken;
        let end = &mut link.ends[side];
        if end.is_down || broken {
            return;
        }
        end.is_up = true;
        let (node, id) = (end.node, end.id);
        self.link_up_at.insert(node, self.now);
        self.input(node, Input::LinkUp { link: id, device, remote });
    }

    /// Breaks a link; its nodes look for each other again.
    pub(crate) fn break_link(&mut self, key: LinkKey) {
        let cutoffs = [(); 2].map(|()| self.now + self.chance.network.below(100_000));
        self.break_link_at(key, cutoffs);
    }

    fn break_link_at(&mut self, key: LinkKey, cutoffs: [Micros; 2]) {
        if self.network.break_link(key, cutoffs) {
            self.stats.breaks += 1;
            self.trace(|| format!("link {key} breaks"));
        }
        let Some(link) = self.network.get_mut(key) else {
            return;
        };
        let nodes = link.ends.each_ref().map(|end| (end.node, end.life));
        for (side, (node, life)) in nodes.into_iter().enumerate() {
            let alive = self.nodes[node].is_up() && self.nodes[node].life == life;
            if alive {
                let notices = self.scenario.network.notice_break;
                let noticed = self.now + self.chance.network.between(notices) * 1_000;
                self.at(noticed.max(cutoffs[side]), Event::LinkDown { key, side });
            } else {
                self.network.side_down(key, side);
            }
        }
        self.dial(pair(nodes[0].0, nodes[1].0));
    }

    pub(super) fn link_down(&mut self, key: LinkKey, side: usize) {
        let Some(link) = self.network.get_mut(key) else {
            return;
        };
        let end = &link.ends[side];
        let (node, life, id) = (end.node, end.life, end.id);
        let told = end.is_up && !end.is_down && self.nodes[node].life == life;
        self.network.side_down(key, side);
        if told {
            self.input(node, Input::LinkDown { link: id });
        }
    }

    /// An engine ends a link.
    pub(super) fn close_link(&mut self, number: usize, id: LinkId, reason: &str, misbehaved: bool) {
        if misbehaved {
            let text = format!("n{number} accuses an honest node: {reason}");
            self.violation(Checker::Sound, text);
        }
        let Some((key, side)) = self.network.find(number, id) else {
            return;
        };
        self.trace(|| format!("n{number} ends link {key}: {reason}"));
        let mut cutoffs = [(); 2].map(|()| self.now + self.chance.network.below(100_000));
        cutoffs[side] = self.now;
        self.break_link_at(key, cutoffs);
        self.at(self.now, Event::LinkDown { key, side });
    }

    pub(super) fn engine_sends(&mut self, number: usize, id: LinkId, message: &Message) {
        let Some((key, side)) = self.network.find(number, id) else {
            return;
        };
        let settings = &self.scenario.network;
        let lost = matches!(message, Message::Event { .. })
            && !self.is_calm
            && self.chance.network.happens(settings.events_lost);
        if let Message::Event { cursor, .. } = message
            && lost
        {
            let message = Message::EventAck { seq: cursor.seq };
            self.trace(|| format!("n{number} ~> {} (swallowed)", cursor.seq));
            if let Some(link) = self.network.get_mut(key) {
                link.ends[side].acknowledged(cursor.seq, true);
            }
            self.input(number, Input::LinkMessage { link: id, message });
            return;
        }
        self.count_in_flight(number, key, side, message);
        let bytes = message.encode();
        self.stats.messages += 1;
        self.stats.bytes += bytes.len() as u64;
        let to = 1 - side;
        let repeated = matches!(message, Message::Event { .. })
            && self.chance.network.happens(settings.events_repeated);
        let copy = repeated.then(|| bytes.clone());
        let at = self.send(key, to, bytes);
        if let (Some(bytes), Some(at)) = (copy, at) {
            let late = at + self.chance.network.below(2_000_000);
            self.at(late, Event::Arrival { key, to, bytes });
        }
    }

    pub(super) fn send(&mut self, key: LinkKey, to: usize, bytes: Vec<u8>) -> Option<Micros> {
        let settings = &self.scenario.network;
        match self.network.send(key, to, &bytes, self.now, &mut self.chance.network, settings) {
            Sent::Arrives(at) => {
                self.at(at, Event::Arrival { key, to, bytes });
                Some(at)
            }
            Sent::Held | Sent::Lost => None,
        }
    }

    /// Windows of the link protocol, seen from outside.
    fn count_in_flight(&mut self, number: usize, key: LinkKey, side: usize, message: &Message) {
        use hypergolix_engine::limits::{EVENTS_IN_FLIGHT, PUBLISHES_IN_FLIGHT};
        let Some(link) = self.network.get_mut(key) else {
            return;
        };
        let end = &mut link.ends[side];
        match message {
            Message::Event { cursor, .. } => end.events.push_back(cursor.seq),
            Message::Publish { .. } => end.publications += 1,
            _ => {}
        }
        if end.events.len() > EVENTS_IN_FLIGHT || end.publications > PUBLISHES_IN_FLIGHT {
            let (events, publications) = (end.events.len(), end.publications);
            let text = format!("n{number}: {events} events, {publications} publications under way");
            self.violation(Checker::Bounded, text);
        }
    }

    pub(super) fn arrival(&mut self, key: LinkKey, to: usize, bytes: &[u8]) {
        if !self.network.arrives(key, to, self.now) {
            return;
        }
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(error) => {
                self.violation(Checker::Sound, format!("an engine sent what is {error}"));
                return;
            }
        };
        let Some(link) = self.network.get_mut(key) else {
            return;
        };
        let end = &mut link.ends[to];
        match &message {
            Message::EventAck { seq } => end.acknowledged(*seq, false),
            Message::Published { .. } => end.publications = end.publications.saturating_sub(1),
            _ => {}
        }
        let (node, life, id) = (end.node, end.life, end.id);
        if self.nodes[node].life == life {
            self.input(node, Input::LinkMessage { link: id, message });
        }
    }
}
