//! `World`: the clock, its events, and the way between engines, applications and links.

mod faults;
mod links;

use std::collections::BTreeMap;

use hypergolix_engine::{Effect, Input, Timer};
use hypergolix_ipc::ConnectionId;

use crate::Micros;
use crate::app::App;
use crate::chance::Chance;
use crate::check::{Checker, Oracle, Violation};
use crate::mutants::{Mutant, Mutation};
use crate::network::{LinkKey, Network, Pair};
use crate::node::{Brief, Node};
use crate::report::{Ms, Stats};
use crate::scenario::Scenario;
use crate::session::{Heard, Session};

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
    WipeDue,
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
    /// Users' nodes, then servers.
    pub(crate) nodes: Vec<Node>,
    /// How many are users'.
    pub(crate) users: usize,
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
        let mut nodes: Vec<Node> =
            (0..count).map(|number| Node::new(number, scenario.suite(number))).collect();
        let servers = if scenario.servers[1] > 0 { faults.between(scenario.servers) } else { 0 };
        nodes.extend((0..servers as usize).map(|number| Node::server(count + number)));
        let mut model = Vec::new();
        for node in 0..count {
            for _ in 0..apps.between(scenario.apps.per_node) {
                model.push(App::new(node, scenario, &mut apps));
            }
        }
        let users = nodes.iter().take(count);
        let oracle = Oracle::new(users.map(|node| node.account.fingerprint()).collect());
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
            users: count,
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
        for event in
            [Event::CrashDue, Event::BreakDue, Event::ReplaceDue, Event::PartDue, Event::WipeDue]
        {
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
            Event::CrashDue
            | Event::BreakDue
            | Event::ReplaceDue
            | Event::PartDue
            | Event::WipeDue => {
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
            Effect::Prove { link, statement } => {
                let message = self.nodes[number].account.keys().prove(&statement);
                self.engine_sends(number, link, &message);
            }
            Effect::OpenRequest { number: request, request: bytes } => {
                let opened = self.nodes[number].account.keys().open(&bytes);
                let (life, delay) =
                    (self.nodes[number].life, self.chance.disk.between([20, 2_000]));
                let input = Input::RequestOpened { number: request, opened };
                self.after(delay, Event::ToNode { node: number, life, input });
            }
            // Nobody asks.
            // Who meets whom is the scenario's to say.
            Effect::Search { .. }
            | Effect::Visit { .. }
            | Effect::Leave { .. }
            | Effect::Present { .. }
            | Effect::Reach { .. }
            | Effect::Listen { .. }
            | Effect::JoinShards { .. }
            | Effect::Announce { .. }
            | Effect::VisitAnnouncer { .. }
            | Effect::Controlled { .. } => {}
            Effect::Log { event, about } => {
                self.trace(|| format!("n{number} logs: {event} {about}"));
            }
        }
    }
}
