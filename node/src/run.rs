//! The one loop: inputs, the engine, one commit, effects.
//!
//! A thread of its own has the store and the engine. It takes everything that waits, lets the
//! engine decide over one batch of the store, commits the batch, and only then answers and sends
//! (a server tells followers while it commits; `Persister::ahead_of_commit` says why it may).
//! What is decided together is durable together, so a busy node pays one commit for many requests
//! and an idle one waits for nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use golix::Ghid;
use golix::object::OpenedRequest;
use hypergolix_engine::{
    Effect, Entropy, Input, LinkId, Message, Signatures, Table, Time, Timer, View, ViewError, Write,
};
use hypergolix_ipc::{
    ConnectionId, ErrorCode, IpcError, Notice, Outgoing, Reply, Request, RequestToken,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, sleep_until};

use crate::brain::{Brain, Purpose};
use crate::crypto_pool::{CryptoPool, Done, Job};
use crate::ipc_service::Command;
use crate::network::{Network, NetworkEvent};
use crate::status::{About, Storage};
use crate::store::{Batch, Store, StoreError};

/// What applications did goes first, up to this many a turn; then the network gets its share.
const COMMANDS_PER_TURN: usize = 192;
const EVENTS_PER_TURN: usize = 64;

/// Bytes to write, to answer and to send after which a turn is committed even though more is waiting
/// (8 MiB; a state may be 10): bounds what a turn keeps in memory.
const BYTES_PER_TURN: usize = 8 * 1024 * 1024;

/// Signatures of suite 1 that a turn waits for, at about 15 ms of a core each: more of them would make
/// the first request wait for the last one's.
const SIGNATURES_PER_TURN: usize = 8;

/// Longest wait of the idle loop; only for housekeeping.
const IDLE_MAX: Duration = Duration::from_secs(3600);

/// Pauses between attempts to open a store that failed. A guess: a full disk or a device that was
/// away may come back within seconds, and applications wait meanwhile.
const REOPEN_PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// Failures of the store in a row, without [`HEALTHY`] between them, after which the node stops.
const FAILURES_MAX: u32 = 8;
const HEALTHY: Duration = Duration::from_secs(60);

/// How long refused applications have to read why before their connections end.
const FAREWELL: Duration = Duration::from_millis(500);

/// How often a disk that was full is tried again.
const RESERVE_RETRY: Duration = Duration::from_secs(10);

/// Deleted rows are forgotten for good this long after the first of them, once the node has been
/// idle for [`COMPACT_IDLE`]; a store larger than [`COMPACT_SMALL`] waits longer, because nothing
/// else happens for some seconds a gigabyte.
const COMPACT_AFTER: Duration = Duration::from_secs(3600);
const COMPACT_AFTER_LARGE: Duration = Duration::from_secs(24 * 3600);
const COMPACT_SMALL: u64 = 64 * 1024 * 1024;
const COMPACT_IDLE: Duration = Duration::from_secs(60);

/// Why the loop ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The store failed and cannot be opened again.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The store fails again and again.
    #[error("the store failed {FAILURES_MAX} times in a row, the last time because: {0}")]
    Failing(String),
    /// The engine cannot be started on what the store holds.
    #[error("the node cannot start on its store: {0}")]
    Engine(#[from] ViewError),
}

/// What the loop owns and what it is connected to.
#[derive(Debug)]
pub struct Parts {
    /// The store, open.
    pub store: Store,
    /// What decides.
    pub purpose: Purpose,
    /// What applications do.
    pub commands: mpsc::Receiver<Command>,
    /// What the network does.
    pub events: mpsc::Receiver<NetworkEvent>,
    /// The way to other devices.
    pub network: Network,
    /// When the process was started.
    pub started: Instant,
    /// Facts for `status`.
    pub about: About,
}

/// The operating system's randomness.
#[derive(Debug, Clone, Copy)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the system gives random numbers, as it did at the start");
    }
}

/// The loop. Made on any thread, run on its own.
pub struct Loop {
    store: Store,
    purpose: Purpose,
    brain: Brain,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Receiver<NetworkEvent>,
    about: About,
    network: Network,
    started: Instant,
    runtime: Handle,
    device: Vec<u8>,
    /// Applications that the engine knows.
    apps: HashMap<ConnectionId, Outgoing>,
    /// The user or the operator waits for an answer; whether it is figures, to which the process has more.
    asking: HashMap<u64, (oneshot::Sender<Result<String, String>>, bool)>,
    next_question: u64,
    /// Links that the engine knows.
    links: HashSet<LinkId>,
    timers: Timers,
    pool: CryptoPool,
    queue: VecDeque<Work>,
    stopping: bool,
    failures: Failures,
    upkeep: Upkeep,
}

/// Something to be decided.
#[derive(Debug)]
enum Work {
    App(Command),
    Network(NetworkEvent),
    Timer(Timer),
    /// A request was opened.
    Done(u64, Option<Arc<OpenedRequest>>),
}

/// How a turn failed: nothing of it was spoken of.
#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error("an object could not be signed")]
    Signing,
}

#[derive(Debug, Default)]
struct Failures {
    total: u64,
    in_a_row: u32,
    last: Option<Instant>,
}

#[derive(Debug)]
struct Upkeep {
    last_work: Instant,
    /// Rows deleted since the last compaction, and when the first of them was.
    deletions: u64,
    deletions_since: Option<Instant>,
    reserve_tried: Option<Instant>,
}

impl Loop {
    /// Starts the engine on the store. Blocks for a few milliseconds; needs a tokio runtime to be
    /// entered.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn new(parts: Parts) -> Result<Self, RunError> {
        let Parts { mut store, purpose, commands, events, network, started, about } = parts;
        let device = network.peer_id().to_bytes();
        let now = Time::from_origin(started.elapsed());
        let (brain, effects) = start(&mut store, &purpose, &device, now)?;
        let pool = match &purpose {
            Purpose::Node(account, _) => CryptoPool::new(&account.keys()),
            Purpose::Server(_) => CryptoPool::idle(),
        };
        let mut new = Self {
            store,
            purpose,
            brain,
            commands,
            events,
            about,
            network,
            started,
            runtime: Handle::current(),
            device,
            apps: HashMap::new(),
            asking: HashMap::new(),
            next_question: 0,
            links: HashSet::new(),
            timers: Timers::default(),
            pool,
            queue: VecDeque::new(),
            stopping: false,
            failures: Failures::default(),
            upkeep: Upkeep {
                last_work: Instant::now(),
                deletions: 0,
                deletions_since: None,
                reserve_tried: None,
            },
        };
        for effect in effects {
            new.carry_out(effect);
        }
        Ok(new)
    }

    /// Runs until [`Command::Stop`], finishes what was taken before, and closes the store.
    ///
    /// # Errors
    /// [`RunError`]; the store is closed then too.
    pub fn run(mut self) -> Result<(), RunError> {
        while !(self.stopping && self.queue.is_empty()) {
            if self.queue.is_empty() {
                self.wait();
            }
            if self.queue.is_empty() {
                self.housekeeping();
                continue;
            }
            self.upkeep.last_work = Instant::now();
            let mut requests = Vec::new();
            if let Err(error) = self.turn(&mut requests) {
                self.recover(&error, requests)?;
            }
            if self.store.is_low_on_space() {
                self.housekeeping();
            }
        }
        self.store.close()?;
        Ok(())
    }

    fn now(&self) -> Time {
        Time::from_origin(self.started.elapsed())
    }

    /// Waits for something to do, or until housekeeping is due, and takes what there is.
    fn wait(&mut self) {
        let idle = if self.store.is_low_on_space() {
            RESERVE_RETRY
        } else if self.upkeep.deletions > 0 {
            COMPACT_IDLE
        } else {
            IDLE_MAX
        };
        let until_timer = self.timers.next().map(|at| at.since(self.now()));
        let deadline = tokio::time::Instant::now() + until_timer.map_or(idle, |due| due.min(idle));
        let mut commands = Vec::new();
        let mut event = None;
        let mut done = None;
        let runtime = self.runtime.clone();
        runtime.block_on(async {
            tokio::select! {
                biased;
                taken = self.commands.recv_many(&mut commands, COMMANDS_PER_TURN) => {
                    // Nobody is left who could ask for anything, not even to stop.
                    self.stopping |= taken == 0;
                }
                Some(taken) = self.events.recv() => event = Some(taken),
                taken = self.pool.finished() => done = Some(taken),
                () = sleep_until(deadline) => {}
            }
        });
        done = done.or_else(|| self.pool.try_finished());
        while let Some(finished) = done {
            self.finished(finished);
            done = self.pool.try_finished();
        }
        let now = self.now();
        while let Some(timer) = self.timers.due(now) {
            self.queue.push_back(Work::Timer(timer));
        }
        while commands.len() < COMMANDS_PER_TURN
            && let Ok(command) = self.commands.try_recv()
        {
            commands.push(command);
        }
        for command in commands {
            if matches!(command, Command::Stop) {
                self.stopping = true;
            } else {
                self.queue.push_back(Work::App(command));
            }
        }
        let mut events = 0;
        let mut next = event.or_else(|| self.events.try_recv().ok());
        while let Some(event) = next {
            self.queue.push_back(Work::Network(event));
            events += 1;
            next = if events < EVENTS_PER_TURN { self.events.try_recv().ok() } else { None };
        }
    }

    /// The pool did something, while no turn waits for it.
    fn finished(&mut self, done: Done) {
        match done {
            Done::Opened { number, opened } => self.queue.push_back(Work::Done(number, opened)),
            Done::Proven { link, proof: Some(message) } if self.links.contains(&link) => {
                self.network.send(link, message);
            }
            // The turn that wanted it failed.
            Done::Signed { .. } | Done::Proven { .. } => {}
        }
    }

    /// Decides, commits, speaks. `requests` becomes what applications asked in this turn.
    fn turn(&mut self, requests: &mut Vec<(ConnectionId, RequestToken)>) -> Result<(), TurnError> {
        let now = self.now();
        let low_on_space = self.store.is_low_on_space();
        let mut refusals = Vec::new();
        let mut effects = Vec::new();
        let mut bytes = 0;
        let mut deletions = 0;
        self.brain.set_low_on_space(low_on_space);
        let mut batch = self.store.batch()?;
        let mut unsigned = Vec::new();
        let mut behind = HashSet::new();
        while bytes < BYTES_PER_TURN
            && unsigned.len() < SIGNATURES_PER_TURN
            && let Some(work) = self.queue.pop_front()
        {
            let input = match work {
                Work::Timer(timer) => Input::Timer(timer),
                Work::Done(number, opened) => Input::RequestOpened { number, opened },
                Work::App(Command::Control(control, answer)) => {
                    let id = self.next_question;
                    self.next_question += 1;
                    let figures = control == hypergolix_engine::Control::Figures;
                    self.asking.insert(id, (answer, figures));
                    Input::Control { id, control }
                }
                Work::App(command) => match command_input(command, &mut self.apps) {
                    Some(input) => input,
                    None => continue,
                },
                Work::Network(event) => match event_input(event, &mut self.links) {
                    Some(input) => input,
                    None => continue,
                },
            };
            if low_on_space && self.brain.cannot_take_when_full(&input) {
                if let Input::AppRequest { connection, token, .. } = input {
                    refusals.push((connection, token));
                }
                continue;
            }
            if let Input::AppRequest { connection, token, .. } = &input {
                requests.push((*connection, *token));
            }
            if let Input::AppRequest { connection, request, .. } = &input {
                // Before anything was written, the last commit is all there is to see.
                let nothing_yet = batch.is_empty() && effects.is_empty();
                if !is_read(request) {
                    behind.insert(*connection);
                } else if (nothing_yet || !unsigned.is_empty()) && !behind.contains(connection) {
                    read(&mut self.brain, &self.apps, &mut batch, &mut effects, input, now)?;
                    continue;
                }
            }
            let outcome = self.brain.handle(input, now, &batch)?;
            bytes += outcome.writes.iter().map(write_len).sum::<usize>();
            bytes += outcome.effects.iter().map(effect_len).sum::<usize>();
            deletions += outcome.writes.iter().filter(|write| deletes(write)).count();
            batch.apply(outcome.writes);
            effects.extend(outcome.effects);
            unsigned.extend(outcome.unsigned);
        }
        let mut proofs = Vec::new();
        if !unsigned.is_empty() {
            let mut meanwhile = Meanwhile {
                brain: &mut self.brain,
                commands: &mut self.commands,
                apps: &self.apps,
                pool: &mut self.pool,
                queue: &mut self.queue,
                runtime: &self.runtime,
                stopping: &mut self.stopping,
                proofs: &mut proofs,
                behind,
                started: self.started,
            };
            meanwhile.sign(&mut batch, unsigned, &mut effects)?;
        }
        if batch.is_empty() {
            batch.abort();
        } else {
            for effect in self.brain.ahead_of_commit(&mut effects) {
                if let Effect::Send { link, message } = effect {
                    self.network.send(link, message);
                }
            }
            batch.commit()?;
        }
        if deletions > 0 {
            self.upkeep.deletions += deletions as u64;
            self.upkeep.deletions_since.get_or_insert_with(Instant::now);
        }
        for (connection, token) in refusals {
            self.answer(connection, token, Err(disk_full()));
        }
        for effect in effects {
            self.carry_out(effect);
        }
        for proof in proofs {
            self.finished(proof);
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Answer { connection, token, answer } => self.answer(connection, token, answer),
            Effect::Notify { connection, notice, body } => {
                if let Some(app) = self.apps.get(&connection) {
                    app.notify(notice, body);
                }
            }
            Effect::CloseApp { connection, reason } => {
                tracing::info!(app = connection.0, reason, "an application's connection is ended");
                if let Some(app) = self.apps.get(&connection) {
                    app.close(reason);
                }
            }
            Effect::Send { link, message } => self.network.send(link, message),
            Effect::Visit { host } => self.network.visit(host),
            Effect::Leave { device } => self.network.leave(&device),
            Effect::Search { subject } => self.network.seek(subject),
            Effect::Present { addresses } => self.network.publish(addresses),
            Effect::Reach { via, device } => self.network.reach(via, &device),
            Effect::Listen { author, listens } => self.network.listen(author, listens),
            Effect::JoinShards { shards } => self.network.join_shards(shards),
            Effect::Announce { author, moved } => self.network.announce(author, moved),
            Effect::VisitAnnouncer { host } => self.network.visit_announcer(host),
            Effect::CloseLink { link, reason, misbehaved } => {
                tracing::info!(link = link.0, reason, misbehaved, "a link is ended");
                self.network.close(link, misbehaved);
            }
            Effect::Controlled { id, answer } => {
                if let Some((asking, figures)) = self.asking.remove(&id) {
                    let answer = if figures { answer.map(|it| self.complete(it)) } else { answer };
                    // Whoever asked may be gone.
                    let _ = asking.send(answer);
                }
            }
            Effect::SetTimer { timer, at } => self.timers.set(timer, at),
            Effect::OpenRequest { number, request } => {
                self.pool.submit(Job::Open { number, request });
            }
            Effect::Prove { link, statement } => self.pool.submit(Job::Prove { link, statement }),
            Effect::Log { event, about } => tracing::info!(about, "{event}"),
        }
    }

    fn answer(
        &self,
        connection: ConnectionId,
        token: RequestToken,
        answer: Result<Reply, IpcError>,
    ) {
        let Some(app) = self.apps.get(&connection) else {
            return;
        };
        let answer = answer.map(|reply| match reply {
            Reply::Status(engine) => Reply::Status(self.complete(engine)),
            other => other,
        });
        app.answer(token, answer);
    }

    /// Adds to what a node says of itself what only the process knows.
    fn complete(&self, text: String) -> String {
        self.about.complete(&text, self.storage())
    }

    fn storage(&self) -> Storage {
        Storage {
            bytes: self.store.file_bytes().ok(),
            low_on_space: self.store.is_low_on_space(),
            deletions_not_compacted: self.upkeep.deletions,
            failures: self.failures.total,
        }
    }

    /// After a turn that failed: nothing of it was said to be done. Applications are told so and
    /// let go, links are ended, and a new engine starts on what the store holds.
    fn recover(
        &mut self,
        error: &TurnError,
        requests: Vec<(ConnectionId, RequestToken)>,
    ) -> Result<(), RunError> {
        tracing::error!(%error, requests = requests.len(), "the store failed; opening it again");
        self.failures.total += 1;
        let healthy = self.failures.last.is_none_or(|last| last.elapsed() > HEALTHY);
        self.failures.in_a_row = if healthy { 1 } else { self.failures.in_a_row + 1 };
        self.failures.last = Some(Instant::now());

        for (connection, token) in requests {
            self.answer(connection, token, Err(not_done(error)));
        }
        let apps: Vec<Outgoing> = self.apps.drain().map(|(_, app)| app).collect();
        self.runtime.spawn(async move {
            sleep(FAREWELL).await;
            for app in apps {
                app.close("the store failed and was opened again");
            }
        });
        for link in self.links.drain() {
            self.network.close(link, false);
        }
        self.timers = Timers::default();
        self.network.begin_gossip_anew();
        if self.failures.in_a_row > FAILURES_MAX {
            return Err(RunError::Failing(error.to_string()));
        }
        self.reopen()?;
        let now = self.now();
        // What was asked meanwhile was asked of an engine that is no more.
        self.asking.clear();
        let (brain, effects) = start(&mut self.store, &self.purpose, &self.device, now)?;
        self.brain = brain;
        for effect in effects {
            self.carry_out(effect);
        }
        tracing::warn!("the store is open again");
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), RunError> {
        let mut last = StoreError::Poisoned;
        for pause in REOPEN_PAUSES {
            std::thread::sleep(pause);
            match self.store.reopen() {
                Ok(()) => return Ok(()),
                Err(error @ (StoreError::Io(_) | StoreError::Full | StoreError::Poisoned)) => {
                    tracing::error!(%error, "the store cannot be opened again yet");
                    last = error;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.into())
    }

    /// What is done while nobody waits: forget what was deleted, make room again on a full disk.
    fn housekeeping(&mut self) {
        if self.store.is_low_on_space() {
            if self.upkeep.reserve_tried.is_some_and(|tried| tried.elapsed() < RESERVE_RETRY) {
                return;
            }
            self.upkeep.reserve_tried = Some(Instant::now());
            self.compact();
            match self.store.restore_reserve() {
                Ok(()) => tracing::warn!("there is space on the disk again"),
                Err(error) => tracing::warn!(%error, "the disk is still full"),
            }
            return;
        }
        self.upkeep.reserve_tried = None;
        let Some(since) = self.upkeep.deletions_since else {
            return;
        };
        let large = self.store.file_bytes().is_ok_and(|bytes| bytes > COMPACT_SMALL);
        let after = if large { COMPACT_AFTER_LARGE } else { COMPACT_AFTER };
        if since.elapsed() > after && self.upkeep.last_work.elapsed() > COMPACT_IDLE {
            self.compact();
        }
    }

    fn compact(&mut self) {
        let started = Instant::now();
        let compacted = self.store.compact();
        // Done or not, the next attempt comes after the next deletion.
        (self.upkeep.deletions, self.upkeep.deletions_since) = (0, None);
        match compacted {
            Ok(done) => tracing::info!(?done, took = ?started.elapsed(), "the store was compacted"),
            Err(error) => tracing::warn!(%error, "the store cannot be compacted"),
        }
    }
}

fn start(
    store: &mut Store,
    purpose: &Purpose,
    device: &[u8],
    now: Time,
) -> Result<(Brain, Vec<Effect>), RunError> {
    let mut batch = store.batch()?;
    let view: &dyn View = &batch;
    let (brain, outcome) = purpose.start(device, now, view)?;
    batch.apply(outcome.writes);
    batch.commit()?;
    Ok((brain, outcome.effects))
}

/// What goes on while a turn waits for its signatures.
struct Meanwhile<'a> {
    brain: &'a mut Brain,
    commands: &'a mut mpsc::Receiver<Command>,
    apps: &'a HashMap<ConnectionId, Outgoing>,
    pool: &'a mut CryptoPool,
    queue: &'a mut VecDeque<Work>,
    runtime: &'a Handle,
    stopping: &'a mut bool,
    proofs: &'a mut Vec<Done>,
    /// Applications with something else to be done first.
    behind: HashSet<ConnectionId>,
    started: Instant,
}

impl Meanwhile<'_> {
    /// Signs, puts the signatures in, and answers whoever only wants to read: from what is committed,
    /// because nothing of this turn may be spoken of yet.
    fn sign(
        &mut self,
        batch: &mut Batch<'_>,
        unsigned: Vec<Ghid>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), TurnError> {
        let mut wanted: HashSet<Ghid> = unsigned.into_iter().collect();
        for object in &wanted {
            self.pool.submit(Job::Sign { object: *object });
        }
        let mut signatures = Signatures::default();
        while !wanted.is_empty() {
            match self.next() {
                Next::Done(Done::Signed { object, signature }) => {
                    if wanted.remove(&object) {
                        signatures.insert(object, signature.ok_or(TurnError::Signing)?);
                    }
                }
                Next::Done(Done::Opened { number, opened }) => {
                    self.queue.push_back(Work::Done(number, opened));
                }
                Next::Done(proof @ Done::Proven { .. }) => self.proofs.push(proof),
                Next::Command(Command::Request(connection, token, request))
                    if is_read(&request)
                        && self.apps.contains_key(&connection)
                        && !self.behind.contains(&connection) =>
                {
                    let input = Input::AppRequest { connection, token, request };
                    let now = Time::from_origin(self.started.elapsed());
                    read(self.brain, self.apps, batch, effects, input, now)?;
                }
                Next::Command(Command::Stop) => *self.stopping = true,
                Next::Command(command) => {
                    // What one application asks is done in its order.
                    self.behind.extend(command.connection());
                    self.queue.push_back(Work::App(command));
                }
            }
        }
        let signed = signatures.writes(batch)?;
        batch.apply(signed);
        for effect in effects {
            signatures.complete(effect);
        }
        Ok(())
    }

    fn next(&mut self) -> Next {
        let (pool, commands) = (&mut *self.pool, &mut *self.commands);
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                Some(command) = commands.recv() => Next::Command(command),
                done = pool.finished() => Next::Done(done),
            }
        })
    }
}

enum Next {
    Done(Done),
    Command(Command),
}

/// What can be answered while a turn waits for signatures: requests that write nothing.
fn is_read(request: &Request) -> bool {
    matches!(
        request,
        Request::Get(_)
            | Request::StartupObject
            | Request::Discard(_)
            | Request::RegisterApi(_)
            | Request::DeregisterApi(_)
    )
}

/// Answers such a request at once, from what is committed. All else that follows from it, notices for
/// example, waits with the effects of the turn.
fn read(
    brain: &mut Brain,
    apps: &HashMap<ConnectionId, Outgoing>,
    batch: &mut Batch<'_>,
    effects: &mut Vec<Effect>,
    input: Input,
    now: Time,
) -> Result<(), TurnError> {
    let outcome = brain.handle(input, now, batch.committed()?)?;
    // A checkpoint of a chain of keys, at most.
    let writes = !outcome.writes.is_empty();
    batch.apply(outcome.writes);
    for effect in outcome.effects {
        match effect {
            Effect::Answer { connection, token, answer } if !writes => {
                if let Some(app) = apps.get(&connection) {
                    app.answer(token, answer);
                }
            }
            other => effects.push(other),
        }
    }
    Ok(())
}

/// A command as an input; `None` for connections that the engine does not know (any more).
fn command_input(command: Command, apps: &mut HashMap<ConnectionId, Outgoing>) -> Option<Input> {
    match command {
        Command::Connected(connection, outgoing) => {
            apps.insert(connection, outgoing);
            Some(Input::AppConnected { connection })
        }
        Command::Request(connection, token, request) => apps
            .contains_key(&connection)
            .then_some(Input::AppRequest { connection, token, request }),
        Command::Acknowledged(connection, notice, accepted) => apps
            .contains_key(&connection)
            .then_some(Input::AppAcknowledged { connection, notice, accepted }),
        Command::Disconnected(connection) => {
            apps.remove(&connection).map(|_| Input::AppDisconnected { connection })
        }
        Command::Stop | Command::Control(..) => None,
    }
}

/// An event as an input; `None` for links that the engine does not know (any more).
fn event_input(event: NetworkEvent, links: &mut HashSet<LinkId>) -> Option<Input> {
    match event {
        NetworkEvent::LinkUp { link, device, remote } => {
            links.insert(link);
            Some(Input::LinkUp { link, device, remote })
        }
        NetworkEvent::Message { link, message } => {
            links.contains(&link).then_some(Input::LinkMessage { link, message })
        }
        NetworkEvent::Here { route } => Some(Input::Here { route }),
        NetworkEvent::Found { subject, routes } => Some(Input::Found { subject, routes }),
        NetworkEvent::Drained { .. } => None,
        NetworkEvent::Announced { author, moved, host } => {
            Some(Input::Announced { author, moved, host })
        }
        NetworkEvent::LinkDown { link } => links.remove(&link).then_some(Input::LinkDown { link }),
    }
}

fn disk_full() -> IpcError {
    IpcError::new(
        ErrorCode::Unspecified,
        "nothing was saved: the disk is full; free some space, or delete objects",
    )
}

fn not_done(error: &TurnError) -> IpcError {
    match error {
        TurnError::Store(StoreError::Full) => disk_full(),
        other => IpcError::new(ErrorCode::Unspecified, format!("nothing was saved: {other}")),
    }
}

fn write_len(write: &Write) -> usize {
    write.key.len() + write.value.as_ref().map_or(0, Vec::len)
}

/// Bytes of states and objects in an effect; what surrounds them is small.
fn effect_len(effect: &Effect) -> usize {
    match effect {
        Effect::Answer { answer: Ok(Reply::Record(record)), .. }
        | Effect::Notify { body: Notice::Update(record), .. } => record.state.len(),
        Effect::Send {
            message:
                Message::Publish { objects, .. }
                | Message::Object { objects, .. }
                | Message::Event { objects, .. },
            ..
        } => objects.iter().map(|object| object.len()).sum(),
        _ => 0,
    }
}

fn deletes(write: &Write) -> bool {
    write.value.is_none() && write.table == Table::Objects
}

/// When which timer is due.
#[derive(Debug, Default)]
struct Timers {
    by_time: BTreeSet<(Time, Timer)>,
    by_name: BTreeMap<Timer, Time>,
}

impl Timers {
    fn set(&mut self, timer: Timer, at: Time) {
        if let Some(before) = self.by_name.insert(timer, at) {
            self.by_time.remove(&(before, timer));
        }
        self.by_time.insert((at, timer));
    }

    fn next(&self) -> Option<Time> {
        self.by_time.first().map(|(at, _)| *at)
    }

    fn due(&mut self, now: Time) -> Option<Timer> {
        let (at, timer) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.by_time.pop_first();
        self.by_name.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn a_timer_that_is_set_again_moves() {
        let mut timers = Timers::default();
        timers.set(Timer::Waiting, at(1));
        timers.set(Timer::Reconcile(LinkId(1)), at(2));
        timers.set(Timer::Waiting, at(3));
        assert_eq!(timers.next(), Some(at(2)));
        assert_eq!(timers.due(at(1)), None);
        assert_eq!(timers.due(at(5)), Some(Timer::Reconcile(LinkId(1))));
        assert_eq!(timers.due(at(5)), Some(Timer::Waiting));
        assert_eq!(timers.due(at(5)), None);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn links_that_are_not_known_are_not_heard() {
        let mut links = HashSet::new();
        let link = LinkId(7);
        let message = Message::Ping { id: 1 };
        let heard = NetworkEvent::Message { link, message };
        assert!(event_input(heard.clone(), &mut links).is_none());
        assert!(
            event_input(NetworkEvent::LinkUp { link, device: vec![], remote: false }, &mut links)
                .is_some()
        );
        assert!(event_input(heard, &mut links).is_some());
        assert!(event_input(NetworkEvent::LinkDown { link }, &mut links).is_some());
        assert!(event_input(NetworkEvent::LinkDown { link }, &mut links).is_none());
    }
}
