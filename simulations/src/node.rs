//! A node: an engine, its queue of inputs, its commits, and the points at which it dies.

use std::collections::{BTreeMap, VecDeque};
use std::sync::OnceLock;
use std::time::Duration;

use golix::Suite;
use hypergolix_engine::account::{self, ScryptCost};
use hypergolix_engine::view::{Table, ViewError, Write};
use hypergolix_engine::{
    Account, Effect, Engine, EngineConfig, Input, LinkId, Message, Outcome, Persister,
    PersisterConfig, Signatures, Time, Timer,
};
use hypergolix_ipc::{ConnectionId, NoticeId};

use crate::Micros;
use crate::chance::Chance;
use crate::check::Checker;
use crate::disk::Disk;
use crate::mutants::Mutant;
use crate::scenario::NODES_MAX;
use crate::world::{Event, World};

/// Most effects of one input. The worlds here are small; more means that something runs away.
const EFFECTS_MAX: usize = 2_000;

/// Most inputs that wait for a node. As above.
const INBOX_MAX: usize = 20_000;

/// What decides at a node.
pub(crate) enum Brain {
    Node(Box<Engine>),
    Server(Box<Persister>),
}

impl Brain {
    fn handle(&mut self, input: Input, now: Time, disk: &Disk) -> Result<Outcome, ViewError> {
        match self {
            Self::Node(engine) => engine.handle(input, now, disk),
            Self::Server(persister) => persister.handle(input, now, disk),
        }
    }
}

/// Where a node dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// Whatever it does. If it is committing, the commit may or may not have become durable.
    Now,
    /// The next time after it decided, before the commit.
    BeforeCommit,
    /// The next time after a commit, before anything left the node.
    AfterCommit,
    /// The next time when some of what should leave the node has left.
    InEffects,
}

/// One node.
pub struct Node {
    pub(crate) account: Account,
    pub(crate) device: Vec<u8>,
    pub(crate) disk: Disk,
    /// `None` while it is down.
    pub(crate) engine: Option<Brain>,
    is_server: bool,
    /// How often it was started.
    pub(crate) life: u64,
    /// How many turns it took, over all lives.
    pub(crate) turns: u64,
    pub(crate) crash_at: Option<CrashPoint>,
    inbox: VecDeque<Input>,
    turn: Turn,
    timers: BTreeMap<Timer, u64>,
    next_timer: u64,
    next_link: u64,
    next_connection: u64,
}

enum Turn {
    None,
    Scheduled,
    /// What to do, and which notices applications took, once the commit is done.
    Committing(Vec<Effect>, Vec<(ConnectionId, NoticeId, bool)>),
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("life", &self.life)
            .field("turns", &self.turns)
            .finish_non_exhaustive()
    }
}

/// Accounts cost a scrypt each, so every world has the same ones.
fn made(number: usize, suite: Suite) -> (Account, Vec<Write>) {
    type Made = [OnceLock<(Account, Vec<Write>)>; NODES_MAX as usize];
    static SUITE_1: Made = [const { OnceLock::new() }; NODES_MAX as usize];
    static SUITE_3: Made = [const { OnceLock::new() }; NODES_MAX as usize];
    let made = match suite {
        Suite::Suite1 => &SUITE_1,
        Suite::Suite3 => &SUITE_3,
    };
    made[number]
        .get_or_init(|| {
            let mut chance = Chance::new(number as u64, "account");
            let (account, writes, _) = account::create(
                "a password of simulations",
                suite,
                ScryptCost::LOWEST,
                &mut chance,
            )
            .expect("a long password and an allowed cost");
            (account, writes)
        })
        .clone()
}

impl Node {
    /// Makes the signatures that an outcome left out, and puts them into rows and messages.
    fn sign(&mut self, outcome: &mut Outcome) {
        let mut signatures = Signatures::default();
        for object in std::mem::take(&mut outcome.unsigned) {
            signatures.insert(object, self.account.keys().sign(&object));
        }
        if !signatures.is_empty() {
            let writes = signatures.writes(&self.disk).expect("this disk can be read");
            self.disk.stage(writes);
            for effect in &mut outcome.effects {
                signatures.complete(effect);
            }
        }
    }

    /// A server that was never started.
    pub fn server(number: usize) -> Self {
        // It has no account, and asks for none.
        let mut server = Self::new(0, Suite::Suite3);
        server.is_server = true;
        server.disk = Disk::default();
        server.device = format!("server {number}").into_bytes();
        server
    }

    /// A node that was never started.
    pub fn new(number: usize, suite: Suite) -> Self {
        let (account, writes) = made(number, suite);
        let mut disk = Disk::default();
        disk.stage(writes);
        disk.commit();
        Self {
            account,
            device: format!("device {number}").into_bytes(),
            disk,
            engine: None,
            is_server: false,
            life: 0,
            turns: 0,
            crash_at: None,
            inbox: VecDeque::new(),
            turn: Turn::None,
            timers: BTreeMap::new(),
            next_timer: 0,
            next_link: 0,
            next_connection: 0,
        }
    }

    /// Whether its process runs.
    pub fn is_up(&self) -> bool {
        self.engine.is_some()
    }

    /// Whether it runs and has nothing to do.
    pub fn is_at_rest(&self) -> bool {
        self.is_up() && matches!(self.turn, Turn::None) && self.inbox.is_empty()
    }

    pub(crate) fn link_id(&mut self) -> LinkId {
        self.next_link += 1;
        LinkId(self.next_link)
    }

    pub(crate) fn connection_id(&mut self) -> ConnectionId {
        self.next_connection += 1;
        ConnectionId(self.next_connection)
    }
}

impl World<'_> {
    pub(crate) fn time(&self) -> Time {
        Time::from_origin(Duration::from_micros(self.now))
    }

    /// Starts a node on its disk.
    pub(crate) fn start(&mut self, number: usize) {
        if self.nodes[number].is_up() {
            return;
        }
        self.forget_rows(number);
        let now = self.time();
        let reconcile = Duration::from_millis(self.scenario.reconcile);
        let node = &mut self.nodes[number];
        node.life += 1;
        let life = node.life;
        let entropy = Chance::new(self.seed, &format!("entropy {number} {life}"));
        let (device, entropy) = (node.device.clone(), Box::new(entropy));
        let opened = if node.is_server {
            let mut config = PersisterConfig::default();
            config.reconcile_interval = reconcile;
            Persister::open(config, device, entropy, now, &node.disk)
                .map(|(persister, outcome)| (Brain::Server(Box::new(persister)), outcome))
        } else {
            let mut config = EngineConfig::default();
            config.reconcile_interval = reconcile;
            Engine::open(node.account.clone(), config, device, entropy, now, &node.disk)
                .map(|(engine, outcome)| (Brain::Node(Box::new(engine)), outcome))
        };
        let (engine, outcome) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.violation(Checker::Acknowledged, format!("n{number} cannot start: {error}"));
                return;
            }
        };
        node.engine = Some(engine);
        node.disk.stage(outcome.writes);
        node.disk.commit();
        self.trace(|| format!("n{number} starts, life {life}"));
        for effect in outcome.effects {
            self.carry_out(number, effect);
        }
        for other in 0..self.nodes.len() {
            if other != number {
                self.dial(crate::network::pair(number, other));
            }
        }
    }

    /// What a mutant forgets in a restart.
    fn forget_rows(&mut self, number: usize) {
        let disk = &mut self.nodes[number].disk;
        match self.mutant {
            Some(Mutant::ForgetsTombstones) => disk.lose(Table::Debindings, |_| true),
            Some(Mutant::ForgetsOutbox) => disk.lose(Table::Outbox, |_| true),
            // Records of kind 4 are shares that wait.
            Some(Mutant::ForgetsWaitingShares) => {
                disk.lose(Table::Account, |key| key.first() == Some(&4));
            }
            Some(Mutant::ForgetsFollows) => disk.lose(Table::Follows, |_| true),
            _ => {}
        }
    }

    /// Kills a node.
    pub(crate) fn crash(&mut self, number: usize, restart_after: Micros) {
        if !self.nodes[number].is_up() {
            return;
        }
        self.stats.crashes += 1;
        let durable = self.chance.faults.happens(0.5);
        let mutant = self.mutant;
        let node = &mut self.nodes[number];
        let mut made_durable = Vec::new();
        match std::mem::replace(&mut node.turn, Turn::None) {
            Turn::Committing(_, taken) if durable => {
                node.disk.commit();
                made_durable = taken;
            }
            _ if mutant == Some(Mutant::TornCommit) => node.disk.tear(),
            _ => node.disk.roll_back(),
        }
        node.engine = None;
        node.crash_at = None;
        node.inbox.clear();
        node.timers.clear();
        for (connection, notice, accepted) in made_durable {
            self.notice_was_taken(number, connection, notice, accepted);
        }
        self.trace(|| format!("n{number} dies"));
        for key in self.network.of_node(number) {
            self.break_link(key);
        }
        self.sessions_die(number);
        self.after(restart_after, Event::Start { node: number });
    }

    /// Something happened to a node.
    pub(crate) fn input(&mut self, number: usize, input: Input) {
        let node = &mut self.nodes[number];
        if !node.is_up() {
            return;
        }
        node.inbox.push_back(input);
        let waiting = node.inbox.len();
        if matches!(node.turn, Turn::None) {
            self.schedule_turn(number);
        }
        if waiting > INBOX_MAX {
            self.violation(Checker::Bounded, format!("{waiting} inputs wait for n{number}"));
        }
    }

    fn schedule_turn(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        node.turn = Turn::Scheduled;
        let life = node.life;
        let delay = self.chance.disk.between([5, 100]);
        self.after(delay, Event::Turn { node: number, life });
    }

    /// A node decides a batch of inputs and begins their commit.
    pub(crate) fn turn(&mut self, number: usize, life: u64) {
        if self.nodes[number].life != life || !matches!(self.nodes[number].turn, Turn::Scheduled) {
            return;
        }
        let now = self.time();
        let batch_max = self.chance.disk.between([1, self.scenario.disk.batch_max]);
        self.nodes[number].turns += 1;
        let mut effects = Vec::new();
        let mut taken = Vec::new();
        for _ in 0..batch_max {
            let Some(input) = self.nodes[number].inbox.pop_front() else {
                break;
            };
            self.trace(|| format!("n{number} <- {}", Brief(&input)));
            if let Input::AppAcknowledged { connection, notice, accepted } = &input {
                taken.push((*connection, *notice, *accepted));
            }
            let node = &mut self.nodes[number];
            let Some(engine) = &mut node.engine else {
                return;
            };
            let mut outcome = match engine.handle(input, now, &node.disk) {
                Ok(outcome) => outcome,
                Err(error) => {
                    self.violation(Checker::Acknowledged, format!("n{number}: {error}"));
                    return;
                }
            };
            node.disk.stage(std::mem::take(&mut outcome.writes));
            node.sign(&mut outcome);
            if outcome.effects.len() > EFFECTS_MAX {
                let text = format!("n{number}: one input led to {} effects", outcome.effects.len());
                self.violation(Checker::Bounded, text);
            }
            for effect in outcome.effects {
                let early = matches!(
                    (self.mutant, &effect),
                    (Some(Mutant::AckBeforeCommit), Effect::Answer { .. })
                        | (Some(Mutant::SendBeforeCommit), Effect::Send { .. })
                );
                if early {
                    self.carry_out(number, effect);
                } else {
                    effects.push(effect);
                }
            }
        }
        if matches!(self.nodes[number].engine, Some(Brain::Server(_))) {
            for effect in Persister::ahead_of_commit(&mut effects) {
                self.carry_out(number, effect);
            }
        }
        let dirty = self.nodes[number].disk.is_dirty();
        self.nodes[number].turn = Turn::Committing(effects, taken);
        if self.nodes[number].crash_at == Some(CrashPoint::BeforeCommit) && dirty {
            // Not `Committing`: nothing may have become durable.
            self.nodes[number].turn = Turn::None;
            self.crash_and_return(number);
            return;
        }
        if dirty {
            self.stats.commits += 1;
            self.last_change = self.now;
            let disk = &self.scenario.disk;
            let mut takes = self.chance.disk.between(disk.commit_us);
            if !self.is_calm && self.chance.disk.happens(disk.stalls) {
                takes += self.chance.disk.between(disk.stall) * 1_000;
            }
            self.after(takes, Event::Committed { node: number, life });
        } else {
            self.committed(number, life);
        }
    }

    /// A commit is durable: what was decided is said.
    pub(crate) fn committed(&mut self, number: usize, life: u64) {
        let node = &mut self.nodes[number];
        if node.life != life {
            return;
        }
        let Turn::Committing(effects, taken) = std::mem::replace(&mut node.turn, Turn::None) else {
            return;
        };
        let wrote = node.disk.is_dirty();
        node.disk.commit();
        for (connection, notice, accepted) in taken {
            self.notice_was_taken(number, connection, notice, accepted);
        }
        let mut say = effects.len();
        let dies = match self.nodes[number].crash_at {
            Some(CrashPoint::AfterCommit) if wrote => {
                say = 0;
                true
            }
            Some(CrashPoint::InEffects) if effects.len() > 1 => {
                say = self.chance.faults.between([1, effects.len() as u64 - 1]) as usize;
                true
            }
            _ => false,
        };
        for effect in effects.into_iter().take(say) {
            self.carry_out(number, effect);
        }
        if dies {
            self.crash_and_return(number);
        } else if matches!(self.nodes[number].turn, Turn::None)
            && !self.nodes[number].inbox.is_empty()
        {
            self.schedule_turn(number);
        }
    }

    fn crash_and_return(&mut self, number: usize) {
        let down = self.chance.faults.between(self.scenario.faults.down) * 1_000;
        self.crash(number, down);
    }

    pub(crate) fn set_timer(&mut self, number: usize, timer: Timer, at: Time) {
        let node = &mut self.nodes[number];
        node.next_timer += 1;
        let generation = node.next_timer;
        node.timers.insert(timer, generation);
        let life = node.life;
        let at = (at.since_origin().as_micros() as Micros).max(self.now);
        self.at(at, Event::Timer { node: number, life, timer, generation });
    }

    pub(crate) fn timer_due(&mut self, number: usize, life: u64, timer: Timer, generation: u64) {
        let node = &mut self.nodes[number];
        if node.life == life && node.timers.get(&timer) == Some(&generation) {
            node.timers.remove(&timer);
            self.input(number, Input::Timer(timer));
        }
    }
}

/// Something for the trace, in a few words.
pub(crate) struct Brief<'a, T>(pub(crate) &'a T);

impl std::fmt::Display for Brief<'_, Input> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Input::AppRequest { connection, token, request } => {
                let code = request.code();
                write!(f, "app {} asks {}: {code:?}", connection.0, token.0)
            }
            Input::LinkMessage { link, message } => {
                write!(f, "link {}: {}", link.0, Brief(message))
            }
            other => write!(f, "{other:?}"),
        }
    }
}

impl std::fmt::Display for Brief<'_, Message> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Message::Hello { .. } => write!(f, "Hello"),
            Message::Interests { tags } => write!(f, "Interests of {}", tags.len()),
            Message::Proof { .. } => write!(f, "Proof"),
            Message::Publish { id, objects } => {
                write!(f, "Publish {id}, {} objects", objects.len())
            }
            Message::Published { id, results } => write!(f, "Published {id}: {results:?}"),
            Message::Get { id, address } => write!(f, "Get {id} {}", address.0.short()),
            Message::Object { id, objects } => write!(f, "Object {id}, {} objects", objects.len()),
            Message::Subscribe { addresses, cursor } => {
                write!(f, "Subscribe after {:?}:", cursor.map(|cursor| cursor.seq))?;
                addresses.iter().try_for_each(|address| write!(f, " {}", address.0.short()))
            }
            Message::Unsubscribe { addresses } => {
                write!(f, "Unsubscribe")?;
                addresses.iter().try_for_each(|address| write!(f, " {}", address.0.short()))
            }
            Message::Event { cursor, address, objects } => {
                let (seq, count) = (cursor.seq, objects.len());
                write!(f, "Event {seq} {}, {count} objects", address.0.short())
            }
            Message::Reconcile { body, subscriber } => {
                write!(f, "Reconcile, {} bytes, from subscriber: {subscriber}", body.len())
            }
            Message::Need { ids } => write!(f, "Need of {}", ids.len()),
            other => write!(f, "{other:?}"),
        }
    }
}
