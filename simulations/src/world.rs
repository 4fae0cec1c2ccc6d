//! `World`: the clock, its events, and the way between engines, applications and links.

use std::collections::BTreeMap;

use hypergolix_engine::{Effect, Input, LinkId, Message, Timer};
use hypergolix_ipc::ConnectionId;

use crate::Micros;
use crate::app::{App, Heard, Session};
use crate::chance::Chance;
use crate::check::{Checker, Oracle, Violation};
use crate::mutants::{Mutant, Mutation};
use crate::network::{LinkKey, Network, Pair, Sent, pair};
use crate::node::{Brief, CrashPoint, Node};
use crate::report::{Ms, Stats};
use crate::scenario::Scenario;

/// Most events of one seed; more means that something never comes to rest.
const EVENTS_MAX: u64 = 2_000_000;

/// What came of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// Figures.
    pub stats: Stats,
    /// The first rule that did not hold.
    pub violation: Option<Violation>,
}

/// Where the lines of a trace go.
pub type Trace<'a> = &'a mut dyn FnMut(&str);

/// Runs one seed of a scenario, with the engine that ships or a mutant of it.
pub fn simulate<'a>(
    scenario: &'a Scenario,
    seed: u64,
    mutant: Option<Mutant>,
    trace: Option<Trace<'a>>,
) -> Outcome {
    let mut world = World::new(scenario, seed, mutant, trace);
    world.run();
    world.stats.seeds = 1;
    Outcome { stats: world.stats, violation: world.oracle.violation }
}

/// What is due at some moment.
#[derive(Debug)]
pub(crate) enum Event {
    Start {
        node: usize,
    },
    Turn {
        node: usize,
        life: u64,
    },
    Committed {
        node: usize,
        life: u64,
    },
    Timer {
        node: usize,
        life: u64,
        timer: Timer,
        generation: u64,
    },
    /// Something that an application sent reaches its node.
    ToNode {
        node: usize,
        life: u64,
        input: Input,
    },
    /// Something that a node sent reaches an application.
    ToApp {
        node: usize,
        connection: ConnectionId,
        heard: Heard,
    },
    AppConnects {
        app: usize,
    },
    AppActs {
        app: usize,
    },
    Dial {
        pair: Pair,
    },
    LinkUp {
        key: LinkKey,
        side: usize,
    },
    LinkDown {
        key: LinkKey,
        side: usize,
    },
    Arrival {
        key: LinkKey,
        to: usize,
        bytes: Vec<u8>,
    },
    CrashDue,
    BreakDue,
    ReplaceDue,
    PartDue,
    PartEnds,
}

/// Streams of chance, one for each part of the world.
pub(crate) struct Chances {
    pub(crate) apps: Chance,
    pub(crate) disk: Chance,
    pub(crate) network: Chance,
    pub(crate) faults: Chance,
    pub(crate) mutant: Chance,
}

/// Everything there is.
pub struct World<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) seed: u64,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) chance: Chances,
    pub(crate) now: Micros,
    events: BTreeMap<(Micros, u64), Event>,
    next_event: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) apps: Vec<App>,
    pub(crate) sessions: BTreeMap<(usize, ConnectionId), Session>,
    pub(crate) oracle: Oracle,
    pub(crate) stats: Stats,
    /// The last commit that wrote, or notice: since then nothing changed.
    pub(crate) last_change: Micros,
    /// Nothing breaks and nobody acts any more.
    pub(crate) is_calm: bool,
    /// When a node's last link opened, for a mutant.
    pub(crate) link_up_at: BTreeMap<usize, Micros>,
    pub(crate) mutation: Mutation,
    trace: Option<Trace<'a>>,
}

impl std::fmt::Debug for World<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("seed", &self.seed).field("now", &self.now).finish()
    }
}

impl<'a> World<'a> {
    fn new(
        scenario: &'a Scenario,
        seed: u64,
        mutant: Option<Mutant>,
        trace: Option<Trace<'a>>,
    ) -> Self {
        let mut faults = Chance::new(seed, "faults");
        let mut apps = Chance::new(seed, "apps");
        let count = faults.between(scenario.nodes) as usize;
        let nodes: Vec<Node> = (0..count).map(Node::new).collect();
        let mut model = Vec::new();
        for node in 0..count {
            for _ in 0..apps.between(scenario.apps.per_node) {
                model.push(App::new(node, scenario, &mut apps));
            }
        }
        let oracle = Oracle::new(nodes.iter().map(|node| node.account.fingerprint()).collect());
        Self {
            scenario,
            seed,
            mutant,
            chance: Chances {
                apps,
                disk: Chance::new(seed, "disk"),
                network: Chance::new(seed, "network"),
                faults,
                mutant: Chance::new(seed, "mutant"),
            },
            now: 0,
            events: BTreeMap::new(),
            next_event: 0,
            nodes,
            network: Network::default(),
            apps: model,
            sessions: BTreeMap::new(),
            oracle,
            stats: Stats::default(),
            last_change: 0,
            is_calm: false,
            link_up_at: BTreeMap::new(),
            mutation: Mutation::default(),
            trace,
        }
    }

    fn run(&mut self) {
        for node in 0..self.nodes.len() {
            let at = self.chance.faults.between([0, 500_000]);
            self.at(at, Event::Start { node });
        }
        for app in 0..self.apps.len() {
            let at = self.chance.apps.between([0, 600_000]);
            self.at(at, Event::AppConnects { app });
            self.app_will_act(app);
        }
        for event in [Event::CrashDue, Event::BreakDue, Event::ReplaceDue, Event::PartDue] {
            self.fault_comes_again(event);
        }
        self.run_until(self.scenario.active * 1_000);
        self.finish();
    }

    /// Works off events up to a moment; stops early once a rule did not hold.
    pub(crate) fn run_until(&mut self, until: Micros) {
        while self.oracle.violation.is_none() {
            let Some(entry) = self.events.first_entry() else {
                break;
            };
            let (at, _) = *entry.key();
            if at > until {
                break;
            }
            let event = entry.remove();
            self.now = at;
            self.stats.events += 1;
            if self.stats.events > EVENTS_MAX {
                self.violation(Checker::Bounded, "the nodes never come to rest".into());
                break;
            }
            self.happens(event);
        }
        self.now = self.now.max(until);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Start { node } => self.start(node),
            Event::Turn { node, life } => self.turn(node, life),
            Event::Committed { node, life } => self.committed(node, life),
            Event::Timer { node, life, timer, generation } => {
                self.timer_due(node, life, timer, generation);
            }
            Event::ToNode { node, life, mut input } => {
                if self.nodes[node].life == life && self.reads(node, &mut input) {
                    self.input(node, input);
                }
            }
            Event::ToApp { node, connection, heard } => self.app_hears(node, connection, heard),
            Event::AppConnects { app } => self.app_connects(app),
            Event::AppActs { app } => self.app_acts(app),
            Event::Dial { pair } => self.dialled(pair),
            Event::LinkUp { key, side } => self.link_up(key, side),
            Event::LinkDown { key, side } => self.link_down(key, side),
            Event::Arrival { key, to, bytes } => self.arrival(key, to, &bytes),
            Event::CrashDue | Event::BreakDue | Event::ReplaceDue | Event::PartDue => {
                if !self.is_calm {
                    self.fault(&event);
                    self.fault_comes_again(event);
                }
            }
            Event::PartEnds => self.join(),
        }
    }

    /// Something of an application reaches its node; false if its connection was over before.
    fn reads(&mut self, node: usize, input: &mut Input) -> bool {
        if let Input::AppAcknowledged { connection, accepted, .. } = input
            && let Some(session) = self.sessions.get_mut(&(node, *connection))
        {
            session.unread = session.unread.saturating_sub(1);
            // Applications refuse what they were told in better times no more.
            *accepted |= self.is_calm;
            return session.left_at.is_none_or(|left_at| self.now < left_at);
        }
        true
    }

    pub(crate) fn at(&mut self, at: Micros, event: Event) {
        self.next_event += 1;
        self.events.insert((at.max(self.now), self.next_event), event);
    }

    pub(crate) fn after(&mut self, delay: Micros, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(crate) fn trace(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace(&format!("{} {}", Ms(self.now), line()));
        }
    }

    pub(crate) fn violation(&mut self, checker: Checker, text: String) {
        self.oracle.violated(checker, self.now, text);
    }

    // Faults.

    fn fault_comes_again(&mut self, event: Event) {
        let faults = &self.scenario.faults;
        let every = match event {
            Event::CrashDue => faults.crash_every,
            Event::BreakDue => faults.break_every,
            Event::ReplaceDue => faults.replace_every,
            _ => faults.part_every,
        };
        if every > 0 {
            let wait = self.chance.faults.wait(every * 1_000);
            self.after(wait, event);
        }
    }

    fn fault(&mut self, event: &Event) {
        match event {
            Event::CrashDue => {
                let number = self.chance.faults.below(self.nodes.len() as u64) as usize;
                let point = match self.chance.faults.below(4) {
                    0 => CrashPoint::Now,
                    1 => CrashPoint::BeforeCommit,
                    2 => CrashPoint::AfterCommit,
                    _ => CrashPoint::InEffects,
                };
                self.trace(|| format!("fault: n{number} will die {point:?}"));
                if point == CrashPoint::Now {
                    let down = self.chance.faults.between(self.scenario.faults.down) * 1_000;
                    self.crash(number, down);
                } else if self.nodes[number].is_up() {
                    self.nodes[number].crash_at = Some(point);
                }
            }
            Event::BreakDue => {
                let living = self.network.living();
                if let Some(key) = self.chance.faults.pick(&living).copied() {
                    self.break_link(key);
                }
            }
            Event::ReplaceDue => {
                let living = self.network.living();
                if let Some(key) = self.chance.faults.pick(&living).copied()
                    && let Some(link) = self.network.get_mut(key)
                {
                    let nodes = pair(link.ends[0].node, link.ends[1].node);
                    if self.network.reach(nodes) {
                        self.open_link(nodes);
                        self.break_link(key);
                    }
                }
            }
            _ => self.part(),
        }
    }

    fn part(&mut self) {
        if self.network.is_parted() || self.nodes.len() < 2 {
            return;
        }
        let groups: Vec<bool> =
            self.nodes.iter().map(|_| self.chance.faults.happens(0.5)).collect();
        self.trace(|| format!("fault: partition {groups:?}"));
        self.stats.partitions += 1;
        self.network.part(groups);
        for key in self.network.living() {
            let Some(link) = self.network.get_mut(key) else {
                continue;
            };
            let nodes = pair(link.ends[0].node, link.ends[1].node);
            if self.network.reach(nodes) {
                continue;
            }
            if self.chance.faults.happens(self.scenario.faults.black_hole) {
                self.network.stall(key);
            } else {
                self.break_link(key);
            }
        }
        let lasts = self.chance.faults.between(self.scenario.faults.parted) * 1_000;
        self.after(lasts, Event::PartEnds);
    }

    pub(crate) fn join(&mut self) {
        if !self.network.is_parted() {
            return;
        }
        self.trace(|| "the partition is over".into());
        self.network.part(Vec::new());
        for key in self.network.living() {
            for (to, bytes) in self.network.resume(key) {
                self.send(key, to, bytes);
            }
        }
        self.dial_all();
    }

    // Links.

    pub(crate) fn dial_all(&mut self) {
        for a in 0..self.nodes.len() {
            for b in a + 1..self.nodes.len() {
                self.dial((a, b));
            }
        }
    }

    /// Two nodes look for each other, unless they do already.
    pub(crate) fn dial(&mut self, pair: Pair) {
        if self.network.dialling.insert(pair) {
            let takes = self.chance.network.between(self.scenario.network.discovery) * 1_000;
            self.after(takes, Event::Dial { pair });
        }
    }

    fn dialled(&mut self, (a, b): Pair) {
        self.network.dialling.remove(&(a, b));
        let both_up = self.nodes[a].is_up() && self.nodes[b].is_up();
        if both_up && self.network.reach((a, b)) && self.network.current((a, b)).is_none() {
            self.open_link((a, b));
        }
    }

    fn open_link(&mut self, (a, b): Pair) {
        let ends = [a, b].map(|node| (node, self.nodes[node].life, self.nodes[node].link_id()));
        let latency = self.scenario.network.latency_us;
        let up_at = [(); 2].map(|()| self.now + self.chance.network.between(latency));
        let key = self.network.open(ends, up_at);
        self.trace(|| format!("link {key}: n{a} ({:?}) - n{b} ({:?})", ends[0].2, ends[1].2));
        for (side, at) in up_at.into_iter().enumerate() {
            self.at(at, Event::LinkUp { key, side });
        }
    }

    fn link_up(&mut self, key: LinkKey, side: usize) {
        let Some(link) = self.network.get_mut(key) else {
            return;
        };
        let device = self.nodes[link.ends[1 - side].node].device.clone();
        let broken = link.is_broken;
        let end = &mut link.ends[side];
        if end.is_down || broken {
            return;
        }
        end.is_up = true;
        let (node, id) = (end.node, end.id);
        self.link_up_at.insert(node, self.now);
        self.input(node, Input::LinkUp { link: id, device });
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

    fn link_down(&mut self, key: LinkKey, side: usize) {
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
    fn close_link(&mut self, number: usize, id: LinkId, reason: &str, misbehaved: bool) {
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

    fn engine_sends(&mut self, number: usize, id: LinkId, message: &Message) {
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

    fn send(&mut self, key: LinkKey, to: usize, bytes: Vec<u8>) -> Option<Micros> {
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

    fn arrival(&mut self, key: LinkKey, to: usize, bytes: &[u8]) {
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
            Message::EventAck { seq } if end.events.front() == Some(seq) => {
                end.events.pop_front();
            }
            Message::Published { .. } => end.publications = end.publications.saturating_sub(1),
            _ => {}
        }
        let (node, life, id) = (end.node, end.life, end.id);
        if self.nodes[node].life == life {
            self.input(node, Input::LinkMessage { link: id, message });
        }
    }

    // Effects.

    pub(crate) fn carry_out(&mut self, number: usize, effect: Effect) {
        if let Some(effect) = self.tamper(number, effect) {
            self.carry_out_as_it_is(number, effect);
        }
    }

    pub(crate) fn carry_out_as_it_is(&mut self, number: usize, effect: Effect) {
        match effect {
            Effect::Answer { connection, token, answer } => {
                self.engine_answers(number, connection, token, answer);
            }
            Effect::Notify { connection, notice, body } => {
                self.engine_notifies(number, connection, notice, body);
            }
            Effect::CloseApp { connection, reason } => {
                self.trace(|| format!("n{number} ends app {}: {reason}", connection.0));
                self.session_ends(number, connection);
            }
            Effect::Send { link, message } => {
                self.trace(|| format!("n{number} -> link {}: {}", link.0, Brief(&message)));
                self.engine_sends(number, link, &message);
            }
            Effect::CloseLink { link, reason, misbehaved } => {
                self.close_link(number, link, reason, misbehaved);
            }
            Effect::SetTimer { timer, at } => self.set_timer(number, timer, at),
            Effect::Log { event, about } => {
                self.trace(|| format!("n{number} logs: {event} {about}"));
            }
        }
    }
}
