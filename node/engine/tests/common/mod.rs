//! Engines, a map for a disk, and a queue for a network: everything in virtual time.

#![allow(dead_code, missing_docs)]

pub mod peer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use golix::{Ghid, PrivateIdentity, Suite};
use hypergolix_engine::account::{self, ScryptCost};
use hypergolix_engine::announcement::{MOVED_MAX, Moved};
use hypergolix_engine::route::{Host, Subject};
use hypergolix_engine::view::{Row, Table, Time, View, ViewError, Write};
use hypergolix_engine::{
    Account, Control, Effect, Engine, EngineConfig, Entropy, Input, LinkId, Message, Outcome,
    Persister, PersisterConfig, Signatures, Timer,
};
use hypergolix_ipc::{
    ApiId, ConnectionId, IpcError, Notice, NoticeId, ObjectRecord, Reply, Request, RequestToken,
};

/// A disk: what is in the map is durable; and how often it was read.
#[derive(Default, Clone)]
pub struct Disk(pub BTreeMap<(Table, Vec<u8>), Vec<u8>>, pub Arc<AtomicU64>);

impl Disk {
    pub fn apply(&mut self, writes: Vec<Write>) {
        for Write { table, key, value } in writes {
            match value {
                Some(value) => self.0.insert((table, key), value),
                None => self.0.remove(&(table, key)),
            };
        }
    }
}

impl View for Disk {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn range(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, ViewError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(self
            .0
            .range((table, start.to_vec())..(table, end.to_vec()))
            .take(limit)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect())
    }

    fn len(&self, table: Table) -> Result<u64, ViewError> {
        Ok(self.0.keys().filter(|(t, _)| *t == table).count() as u64)
    }
}

/// Reproducible bytes (splitmix64).
pub struct Seeded(pub u64);

impl Entropy for Seeded {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let z = (z ^ (z >> 31)).to_le_bytes();
            chunk.copy_from_slice(&z[..chunk.len()]);
        }
    }
}

pub const PASSWORD: &str = "a password of tests";

/// Accounts cost a scrypt each: make them once.
pub fn account(number: usize) -> (Account, Disk) {
    static MADE: OnceLock<Vec<(Account, Disk)>> = OnceLock::new();
    MADE.get_or_init(|| {
        (0..4)
            .map(|number| {
                let mut entropy = Seeded(1_000 + number);
                let (account, writes, _) =
                    account::create(PASSWORD, Suite::Suite3, ScryptCost::LOWEST, &mut entropy)
                        .expect("a good password");
                let mut disk = Disk::default();
                disk.apply(writes);
                (account, disk)
            })
            .collect()
    })[number]
        .clone()
}

/// Identities of suite 1, whose keys come from the vectors of the original library: making keys takes
/// seconds.
pub fn identity_of_suite_1(number: usize) -> PrivateIdentity {
    let text = include_str!("../../../../golix/tests/vectors/golix-suite1.json");
    let vectors: serde_json::Value = serde_json::from_str(text).expect("vectors");
    let keys = &vectors["identities"][["alice", "bob"][number]];
    let der = |key: &str| {
        let text = keys[key]["pkcs8_der_b64"].as_str().expect("text");
        data_encoding::BASE64.decode(text.as_bytes()).expect("base64")
    };
    let exchange = keys["exchange"]["private"].as_str().expect("text");
    let exchange = data_encoding::HEXLOWER.decode(exchange.as_bytes()).expect("hex");
    PrivateIdentity::from_suite1_keys(
        &der("signature"),
        &der("encryption"),
        exchange.try_into().expect("32 bytes"),
    )
    .expect("good keys")
}

pub fn account_of_suite_1(number: usize) -> (Account, Disk) {
    let identity = identity_of_suite_1(number);
    let mut entropy = Seeded(2_000 + number as u64);
    let (account, writes, _) =
        account::create_for(identity, PASSWORD, ScryptCost::LOWEST, &mut entropy)
            .expect("a good password");
    let mut disk = Disk::default();
    disk.apply(writes);
    (account, disk)
}

/// What decides at a node.
pub enum Brain {
    Node(Box<Engine>),
    Server(Box<Persister>),
}

impl Brain {
    pub fn handle(
        &mut self,
        input: Input,
        now: Time,
        view: &dyn View,
    ) -> Result<Outcome, ViewError> {
        match self {
            Self::Node(engine) => engine.handle(input, now, view),
            Self::Server(persister) => persister.handle(input, now, view),
        }
    }

    pub fn is_server(&self) -> bool {
        matches!(self, Self::Server(_))
    }
}

pub struct Node {
    /// Answers and notices in the order in which they went out, while somebody looks.
    pub spoken: Option<Vec<Effect>>,
    pub engine: Brain,
    pub disk: Disk,
    /// Of a server: somebody's; it does not know it.
    pub account: Account,
    /// Of a server.
    pub config: Option<PersisterConfig>,
    /// Answers to the operator.
    pub controlled: Vec<Result<String, String>>,
    /// Devices that it was told to reach.
    pub reached: Vec<Vec<u8>>,
    pub searched: Vec<Ghid>,
    /// Published addresses that it looked for, and those that it publishes.
    pub looked_up: Vec<Ghid>,
    pub published: Vec<Ghid>,
    /// Persisters of others that it went to, and those that it left.
    pub visited: Vec<Host>,
    pub left: Vec<Vec<u8>>,
    /// Authors whose announcements it listens to.
    pub listens: BTreeSet<Ghid>,
    pub shards: u64,
    /// What it announced.
    pub announced: Vec<(Ghid, Vec<Moved>)>,
    /// Servers that it was told to visit for what they announced.
    pub called: Vec<Host>,
    pub device: Vec<u8>,
    pub answers: BTreeMap<(ConnectionId, RequestToken), Result<Reply, IpcError>>,
    pub notices: BTreeMap<ConnectionId, Vec<Notice>>,
    pub silent: BTreeSet<ConnectionId>,
    timers: BTreeMap<Timer, Time>,
    next_token: u16,
}

pub struct World {
    pub nodes: Vec<Node>,
    pub now: Time,
    queue: VecDeque<(usize, Input)>,
    /// (node, link) to the node at the other end.
    pub links: BTreeMap<(usize, LinkId), usize>,
    next_link: u64,
    seed: u64,
    pub closed: Vec<(usize, &'static str)>,
    /// Links to peers that a test plays itself, and what they were sent.
    pub played: BTreeMap<(usize, LinkId), Vec<Message>>,
    /// Messages of links (except hello) arrive twice.
    pub twice: bool,
    /// Messages to this node are lost while its links stay up.
    pub deaf: Option<usize>,
    pub crash: Option<Crash>,
    /// Nodes opened from now on look for identities that no link leads to.
    pub searches: bool,
    /// Requests are not opened by themselves.
    pub lazy: bool,
    /// Requests that wait to be opened: node, number, bytes.
    pub to_open: VecDeque<(usize, u64, Vec<u8>)>,
    /// How many were opened.
    pub opened: usize,
    /// What is said on links and what leads to it, while somebody looks.
    pub log: Option<Vec<Happened>>,
}

/// In the order in which it happened: whatever is said follows from the last that was heard.
#[derive(Debug, Clone)]
pub enum Happened {
    /// A node hears the next message of a link.
    Heard(usize, LinkId),
    /// Something else happens to a node.
    Other,
    /// A node says something.
    Said(usize, LinkId, Message),
}

/// A node dies at its `at`-th input: before its writes are durable, or after that and before
/// anything is said.
#[derive(Debug, Clone, Copy)]
pub struct Crash {
    pub node: usize,
    pub at: usize,
    pub durable: bool,
}

impl World {
    pub fn new(nodes: usize) -> Self {
        let mut world = Self {
            nodes: Vec::new(),
            now: Time::default(),
            queue: VecDeque::new(),
            links: BTreeMap::new(),
            next_link: 0,
            seed: 7,
            closed: Vec::new(),
            played: BTreeMap::new(),
            twice: false,
            deaf: None,
            crash: None,
            searches: false,
            lazy: false,
            to_open: VecDeque::new(),
            opened: 0,
            log: None,
        };
        for number in 0..nodes {
            let (account, disk) = account(number);
            let disk = Disk(disk.0, Arc::default());
            let node = world.open(number, account, disk, None);
            world.nodes.push(node);
        }
        world
    }

    /// Adds another device of a node's account, which has nothing but the root object.
    pub fn second_device(&mut self, of: usize, password: &str) -> Result<usize, String> {
        let number = self.nodes.len();
        let user_id = self.nodes[of].account.user_id();
        let root = self.root(of);
        let mut entropy = Seeded(9_000 + number as u64);
        let (account, writes) = account::join(&user_id, &root, password, &mut entropy)
            .map_err(|error| error.to_string())?;
        let mut disk = Disk::default();
        disk.apply(writes);
        let node = self.open(number, account, disk, None);
        self.nodes.push(node);
        Ok(number)
    }

    /// Adds a device that a backup of a node was restored on.
    pub fn restored(&mut self, of: usize, backup: &Disk, entropy: &mut dyn Entropy) -> usize {
        let number = self.nodes.len();
        let mut disk = Disk(backup.0.clone(), Arc::default());
        let left_out = [Table::Cursors, Table::Feed, Table::FeedIndex, Table::Outbox];
        disk.0.retain(|(table, key), _| {
            let of_the_device = *table == Table::Meta && account::is_of_the_device(key);
            !of_the_device && !left_out.contains(table)
        });
        let writes = account::restored(&disk, entropy).expect("a sound backup");
        disk.apply(writes);
        let node = self.open(number, self.nodes[of].account.clone(), disk, None);
        self.nodes.push(node);
        number
    }

    /// What a device that holds an account's root gives to whoever asks for it.
    pub fn root(&mut self, of: usize) -> Vec<hypergolix_engine::message::Packed> {
        let user_id = self.nodes[of].account.user_id();
        let stranger = peer::Peer::link(self, of, 250);
        stranger.get(self, user_id)
    }

    /// Adds a server, with an empty disk.
    pub fn server(&mut self, config: PersisterConfig) -> usize {
        let number = self.nodes.len();
        let node = self.open(number, account(0).0, Disk::default(), Some(config));
        self.nodes.push(node);
        number
    }

    /// A server loses everything it stored, but not its device key.
    pub fn wipe(&mut self, number: usize) {
        self.nodes[number].disk = Disk::default();
        self.restart(number);
    }

    /// What the operator of a server, or the user of a node, is told.
    pub fn control(&mut self, number: usize, control: Control) -> Result<String, String> {
        self.input(number, Input::Control { id: 1, control });
        self.nodes[number].controlled.pop().expect("an answer")
    }

    /// One node of each suite named.
    pub fn of_suites(suites: &[Suite]) -> Self {
        let mut world = Self::new(0);
        for (number, suite) in suites.iter().enumerate() {
            let (account, disk) = match suite {
                Suite::Suite1 => account_of_suite_1(number),
                Suite::Suite3 => account(number),
            };
            let node = world.open(number, account, disk, None);
            world.nodes.push(node);
        }
        world
    }

    fn open(
        &mut self,
        number: usize,
        account: Account,
        mut disk: Disk,
        server: Option<PersisterConfig>,
    ) -> Node {
        self.seed += 1;
        let device = vec![number as u8; 38];
        let entropy = Box::new(Seeded(self.seed));
        let (engine, outcome) = match &server {
            None => {
                let mut config = EngineConfig::default();
                config.searches = self.searches;
                Engine::open(account.clone(), config, device.clone(), entropy, self.now, &disk)
                    .map(|(engine, outcome)| (Brain::Node(Box::new(engine)), outcome))
            }
            Some(config) => {
                Persister::open(config.clone(), device.clone(), entropy, self.now, &disk)
                    .map(|(persister, outcome)| (Brain::Server(Box::new(persister)), outcome))
            }
        }
        .expect("a sound disk");
        disk.apply(outcome.writes);
        let mut timers = BTreeMap::new();
        let mut published = Vec::new();
        let mut joined = 0;
        for effect in outcome.effects {
            match effect {
                Effect::OpenRequest { number: request, request: bytes } => {
                    let opened = account.keys().open(&bytes);
                    self.opened += 1;
                    let input = Input::RequestOpened { number: request, opened };
                    self.queue.push_back((number, input));
                }
                Effect::SetTimer { timer, at } => drop(timers.insert(timer, at)),
                Effect::Present { addresses } => published = addresses,
                Effect::JoinShards { shards } => joined = shards,
                other => panic!("not at the start: {other:?}"),
            }
        }
        Node {
            spoken: None,
            engine,
            disk,
            account,
            config: server,
            controlled: Vec::new(),
            reached: Vec::new(),
            searched: Vec::new(),
            looked_up: Vec::new(),
            published,
            visited: Vec::new(),
            left: Vec::new(),
            listens: BTreeSet::new(),
            shards: joined,
            announced: Vec::new(),
            called: Vec::new(),
            device,
            answers: BTreeMap::new(),
            notices: BTreeMap::new(),
            silent: BTreeSet::new(),
            timers,
            next_token: 0,
        }
    }

    /// Kills a node and starts it again from its disk.
    pub fn restart(&mut self, number: usize) {
        let links: Vec<LinkId> =
            self.links.keys().filter(|(node, _)| *node == number).map(|(_, link)| *link).collect();
        for link in links {
            self.disconnect(link);
        }
        self.played.retain(|(node, _), _| *node != number);
        self.queue.retain(|(node, _)| *node != number);
        let (account, disk) = (self.nodes[number].account.clone(), self.nodes[number].disk.clone());
        let config = self.nodes[number].config.clone();
        let mut node = self.open(number, account, disk, config);
        let before = &mut self.nodes[number];
        // What was said before it died was heard.
        node.answers = std::mem::take(&mut before.answers);
        node.notices = std::mem::take(&mut before.notices);
        node.next_token = before.next_token;
        self.nodes[number] = node;
    }

    pub fn connect(&mut self, a: usize, b: usize) -> LinkId {
        self.connect_as(a, b, true)
    }

    /// A link between two; whether a server among them counts as a remote of the other.
    pub fn connect_as(&mut self, a: usize, b: usize, remote: bool) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert((a, link), b);
        self.links.insert((b, link), a);
        for (node, other) in [(a, b), (b, a)] {
            let device = self.nodes[other].device.clone();
            let remote = remote && self.nodes[other].engine.is_server();
            self.queue.push_back((node, Input::LinkUp { link, device, remote }));
        }
        self.run();
        link
    }

    /// A link whose other end is the test.
    pub fn play(&mut self, node: usize, device: Vec<u8>, remote: bool) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.played.insert((node, link), Vec::new());
        self.input(node, Input::LinkUp { link, device, remote });
        link
    }

    pub fn disconnect(&mut self, link: LinkId) {
        self.played.retain(|(node, played), _| {
            if *played == link {
                self.queue.push_back((*node, Input::LinkDown { link }));
            }
            *played != link
        });
        let ends: Vec<usize> =
            self.links.keys().filter(|(_, l)| *l == link).map(|(node, _)| *node).collect();
        for node in ends {
            self.links.remove(&(node, link));
            self.queue.push_back((node, Input::LinkDown { link }));
        }
        self.queue.retain(
            |(_, input)| !matches!(input, Input::LinkMessage { link: l, .. } if *l == link),
        );
        self.run();
    }

    pub fn app(&mut self, node: usize, connection: u64) -> ConnectionId {
        let connection = ConnectionId(connection);
        self.queue.push_back((node, Input::AppConnected { connection }));
        self.run();
        connection
    }

    pub fn input(&mut self, node: usize, input: Input) {
        self.queue.push_back((node, input));
        self.run();
    }

    pub fn ask(
        &mut self,
        node: usize,
        connection: ConnectionId,
        request: Request,
    ) -> Result<Reply, IpcError> {
        self.try_ask(node, connection, request)
            .expect("every request is answered once the network is quiet")
    }

    /// `None` if the node died over it, or other devices have to answer first.
    pub fn try_ask(
        &mut self,
        node: usize,
        connection: ConnectionId,
        request: Request,
    ) -> Option<Result<Reply, IpcError>> {
        self.nodes[node].next_token += 1;
        let token = RequestToken(self.nodes[node].next_token);
        self.queue.push_back((node, Input::AppRequest { connection, token, request }));
        self.run();
        self.nodes[node].answers.remove(&(connection, token))
    }

    pub fn status(&mut self, node: usize, connection: ConnectionId) -> String {
        match self.ask(node, connection, Request::Status) {
            Ok(Reply::Status(status)) => status,
            other => panic!("status: {other:?}"),
        }
    }

    pub fn new_object(&mut self, node: usize, connection: ConnectionId, state: &[u8]) -> Ghid {
        match self.ask(node, connection, Request::New(record(state, true))) {
            Ok(Reply::Address(address)) => address,
            other => panic!("new object: {other:?}"),
        }
    }

    pub fn push(&mut self, node: usize, connection: ConnectionId, address: Ghid, state: &[u8]) {
        let record = ObjectRecord { address: Some(address), ..record(state, false) };
        assert_eq!(self.ask(node, connection, Request::Update(record)), Ok(Reply::Done));
    }

    pub fn state(
        &mut self,
        node: usize,
        connection: ConnectionId,
        address: Ghid,
    ) -> Result<Vec<u8>, IpcError> {
        match self.ask(node, connection, Request::Get(address)) {
            Ok(Reply::Record(record)) => Ok(record.state.to_vec()),
            Ok(other) => panic!("get: {other:?}"),
            Err(error) => Err(error),
        }
    }

    pub fn notices(&mut self, node: usize, connection: ConnectionId) -> Vec<Notice> {
        self.nodes[node].notices.remove(&connection).unwrap_or_default()
    }

    /// The scheduled moment at which answers to requests leave.
    pub fn answers_leave(&mut self) {
        self.advance(hypergolix_engine::limits::ANSWER_SCHEDULE);
    }

    /// Moves the clock, firing timers on the way.
    pub fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        loop {
            let due = self
                .nodes
                .iter()
                .enumerate()
                .flat_map(|(number, node)| {
                    node.timers.iter().map(move |(timer, at)| (*at, number, *timer))
                })
                .min()
                .filter(|(at, ..)| *at <= until);
            let Some((at, number, timer)) = due else { break };
            self.now = self.now.max(at);
            self.nodes[number].timers.remove(&timer);
            self.queue.push_back((number, Input::Timer(timer)));
            self.run();
        }
        self.now = until;
    }

    pub fn run(&mut self) {
        let mut steps = 0;
        while let Some((number, input)) = self.queue.pop_front() {
            steps += 1;
            assert!(steps < 1_000_000, "the engines never come to rest");
            if let Input::LinkMessage { link, .. } = &input
                && !self.links.contains_key(&(number, *link))
                && !self.played.contains_key(&(number, *link))
            {
                continue;
            }
            if let Some(log) = &mut self.log {
                log.push(match &input {
                    Input::LinkMessage { link, .. } => Happened::Heard(number, *link),
                    _ => Happened::Other,
                });
            }
            let node = &mut self.nodes[number];
            let mut outcome =
                node.engine.handle(input, self.now, &node.disk).expect("a sound disk");
            sign(&node.account, &mut outcome);
            if let Some(crash) = &mut self.crash
                && crash.node == number
            {
                crash.at -= 1;
                if crash.at == 0 {
                    if crash.durable {
                        node.disk.apply(outcome.writes);
                    }
                    self.crash = None;
                    self.restart(number);
                    continue;
                }
            }
            node.disk.apply(outcome.writes);
            for effect in outcome.effects {
                self.carry_out(number, effect);
            }
        }
    }

    fn carry_out(&mut self, number: usize, effect: Effect) {
        if let Some(spoken) = &mut self.nodes[number].spoken
            && matches!(effect, Effect::Answer { .. } | Effect::Notify { .. })
        {
            spoken.push(effect.clone());
        }
        match effect {
            Effect::Answer { connection, token, answer } => {
                let before = self.nodes[number].answers.insert((connection, token), answer);
                assert!(before.is_none(), "one answer a request");
            }
            Effect::Notify { connection, notice, body } => {
                self.nodes[number].notices.entry(connection).or_default().push(body);
                if !self.nodes[number].silent.contains(&connection) {
                    self.acknowledge(number, connection, notice);
                }
            }
            Effect::Send { link, message } => {
                if let Some(log) = &mut self.log {
                    log.push(Happened::Said(number, link, message.clone()));
                }
                if let Some(heard) = self.played.get_mut(&(number, link)) {
                    heard.push(message);
                } else if let Some(other) = self.links.get(&(number, link))
                    && self.deaf != Some(*other)
                {
                    let bytes = message.encode();
                    let message =
                        Message::decode(&bytes).expect("what an engine sends can be read");
                    if self.twice && !matches!(message, Message::Hello { .. }) {
                        let message = message.clone();
                        self.queue.push_back((*other, Input::LinkMessage { link, message }));
                    }
                    self.queue.push_back((*other, Input::LinkMessage { link, message }));
                }
            }
            Effect::CloseLink { link, reason, .. } => {
                self.closed.push((number, reason));
                self.disconnect(link);
            }
            Effect::SetTimer { timer, at } => {
                self.nodes[number].timers.insert(timer, at);
            }
            Effect::Reach { device, .. } => self.nodes[number].reached.push(device),
            Effect::Controlled { answer, .. } => self.nodes[number].controlled.push(answer),
            Effect::Prove { link, statement } => {
                let message = self.nodes[number].account.keys().prove(&statement);
                self.carry_out(number, Effect::Send { link, message });
            }
            Effect::OpenRequest { number: request, request: bytes } => {
                self.to_open.push_back((number, request, bytes.to_vec()));
                if !self.lazy {
                    self.open_one();
                }
            }
            Effect::Visit { host } => self.nodes[number].visited.push(host),
            Effect::Leave { device } => self.nodes[number].left.push(device),
            Effect::Search { subject: Subject::Identity(identity) } => {
                self.nodes[number].searched.push(identity);
            }
            Effect::Search { subject } => self.nodes[number].looked_up.push(subject.address()),
            Effect::Present { addresses } => self.nodes[number].published = addresses,
            Effect::Listen { author, listens } => {
                let listening = &mut self.nodes[number].listens;
                let changed =
                    if listens { listening.insert(author) } else { listening.remove(&author) };
                assert!(changed, "said twice");
            }
            Effect::JoinShards { shards } => self.nodes[number].shards = shards,
            Effect::Announce { author, moved } => {
                assert!((1..=MOVED_MAX).contains(&moved.len()));
                self.nodes[number].announced.push((author, moved));
            }
            Effect::VisitAnnouncer { host } => self.nodes[number].called.push(host),
            Effect::CloseApp { .. } | Effect::Log { .. } => {}
        }
    }

    fn open_one(&mut self) {
        if let Some((node, number, bytes)) = self.to_open.pop_front() {
            self.opened += 1;
            let opened = self.nodes[node].account.keys().open(&bytes);
            self.queue.push_back((node, Input::RequestOpened { number, opened }));
        }
    }

    /// Opens the oldest that waits, and what follows from it.
    pub fn open_next(&mut self) {
        self.open_one();
        self.run();
    }

    /// Opens what waits, and all that follows from it.
    pub fn open_requests(&mut self) {
        while !self.to_open.is_empty() {
            self.open_one();
            self.run();
        }
    }

    fn acknowledge(&mut self, node: usize, connection: ConnectionId, notice: NoticeId) {
        let input = Input::AppAcknowledged { connection, notice, accepted: true };
        self.queue.push_back((node, input));
    }
}

/// Makes the signatures that an outcome left out, and puts them in.
fn sign(account: &Account, outcome: &mut Outcome) {
    let mut signatures = Signatures::default();
    for object in std::mem::take(&mut outcome.unsigned) {
        let signature = account.keys().sign(&object);
        signatures.insert(object, signature);
    }
    if signatures.is_empty() {
        return;
    }
    // What was made in this turn is among what it writes.
    let mut after = Disk::default();
    after.apply(outcome.writes.clone());
    let writes = signatures.writes(&after).expect("a sound disk");
    outcome.writes.extend(writes);
    for effect in &mut outcome.effects {
        signatures.complete(effect);
    }
}

pub fn record(state: &[u8], dynamic: bool) -> ObjectRecord {
    ObjectRecord {
        address: None,
        author: None,
        private: false,
        dynamic,
        legroom: 7,
        api: ApiId::JSON,
        link: false,
        state: Arc::from(state),
    }
}
