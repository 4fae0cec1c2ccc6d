//! Model applications: they create, push, share, hold, delete, read slowly, and come back.
//!
//! An application behaves as one on the Rust client does: after its connection was lost it
//! registers its token and its api id again and asks for every object again. What it had asked and
//! not heard of stays unknown; it does not ask twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use golix::Ghid;
use hypergolix_engine::Input;
use hypergolix_ipc::{
    ApiId, AppToken, ConnectionId, IpcError, Notice, ObjectRecord, Reply, Request,
};

use crate::Micros;
use crate::chance::Chance;
use crate::scenario::Scenario;
use crate::session::{Heard, Op, Session, State};
use crate::world::{Event, World};

/// Api ids in use: two, so that shares go to some applications and not to others.
pub const APIS: u64 = 2;

/// Most requests of a model application that wait for an answer.
const PENDING_MAX: usize = 256;

/// A model application, with what it remembers over its connections.
#[derive(Debug)]
pub struct App {
    pub(crate) node: usize,
    pub(crate) api: ApiId,
    pub(crate) session: Option<ConnectionId>,
    uses_token: bool,
    pub(crate) token: Option<AppToken>,
    handler_from: Micros,
    is_slow: bool,
    /// Its own objects that it knows of and did not delete.
    own: BTreeSet<Ghid>,
    /// Everything it ever heard of.
    known: BTreeSet<Ghid>,
    /// What it asks for again after a reconnect.
    tracked: BTreeSet<Ghid>,
    /// Its startup object (or that it has none), if it knows for certain.
    #[expect(clippy::option_option, reason = "known or not, and set or not")]
    startup: Option<Option<Ghid>>,
}

impl App {
    /// An application with a character of its own.
    pub fn new(node: usize, scenario: &Scenario, chance: &mut Chance) -> Self {
        let late = chance.happens(scenario.apps.late_handler);
        Self {
            node,
            api: api(chance.below(APIS)),
            session: None,
            uses_token: chance.happens(0.5),
            token: None,
            handler_from: if late { chance.below(scenario.active * 1_200) } else { 0 },
            is_slow: chance.happens(scenario.apps.slow),
            own: BTreeSet::new(),
            known: BTreeSet::new(),
            tracked: BTreeSet::new(),
            startup: Some(None),
        }
    }
}

/// The api ids in use.
pub fn api(number: u64) -> ApiId {
    let mut id = [0; 64];
    id[63] = 10 + (number % APIS) as u8;
    ApiId(id)
}

impl World<'_> {
    pub(crate) fn app_connects(&mut self, number: usize) {
        let app = &self.apps[number];
        if app.session.is_some() {
            return;
        }
        let node = app.node;
        if !self.nodes[node].is_up() {
            let retry = self.chance.apps.between([20_000, 300_000]);
            self.after(retry, Event::AppConnects { app: number });
            return;
        }
        let connection = self.connect(node, Some(number));
        let app = &mut self.apps[number];
        app.session = Some(connection);
        let (uses_token, token, startup) = (app.uses_token, app.token, app.startup);
        let registers = self.now >= app.handler_from || self.is_calm;
        let (api, tracked) = (app.api, app.tracked.clone());
        if uses_token {
            self.ask(node, connection, Op::Token(token), Request::RegisterToken(token));
            let op = Op::Startup { learn: startup.is_none() };
            self.ask(node, connection, op, Request::StartupObject);
        }
        if registers {
            self.ask(node, connection, Op::Register(api), Request::RegisterApi(api));
        }
        for object in tracked {
            self.ask(node, connection, Op::Get(object), Request::Get(object));
        }
    }

    /// Opens a connection to a node.
    pub(crate) fn connect(&mut self, node: usize, app: Option<usize>) -> ConnectionId {
        let connection = self.nodes[node].connection_id();
        let latency = self.chance.apps.between(self.scenario.apps.latency_us);
        let session =
            Session { app, is_open: true, last_to_node: self.now + latency, ..Session::default() };
        self.sessions.insert((node, connection), session);
        let life = self.nodes[node].life;
        let input = Input::AppConnected { connection };
        self.after(latency, Event::ToNode { node, life, input });
        connection
    }

    pub(crate) fn app_hears(&mut self, node: usize, connection: ConnectionId, heard: Heard) {
        let Some(session) = self.sessions.get_mut(&(node, connection)) else {
            return;
        };
        let Some(number) = session.app else {
            self.asker_hears(node, connection, &heard);
            return;
        };
        let lost = !session.is_open && !session.drains;
        if matches!(heard, Heard::End) {
            self.sessions.remove(&(node, connection));
            self.app_lost_connection(number, connection);
            return;
        }
        if lost || self.apps[number].session != Some(connection) {
            return;
        }
        match heard {
            Heard::Answer(op, answer) => self.app_hears_answer(number, &op, answer),
            Heard::Notice(notice, body) => {
                let offer_refused = self.app_hears_notice(number, connection, &body);
                let app = &self.apps[number];
                let delay = if app.is_slow && !self.is_calm {
                    self.chance.apps.between(self.scenario.apps.slow_ack) * 1_000
                } else {
                    self.chance.apps.between([10, 2_000])
                };
                let latency = self.chance.apps.between(self.scenario.apps.latency_us);
                if let Some(session) = self.sessions.get_mut(&(node, connection)) {
                    // The acknowledgement is one more message of the stream to the node, but a
                    // slow handler does not hold up the application's other requests.
                    let at = session.last_to_node.max(self.now + latency) + delay;
                    let input =
                        Input::AppAcknowledged { connection, notice, accepted: !offer_refused };
                    let life = self.nodes[node].life;
                    self.at(at, Event::ToNode { node, life, input });
                }
            }
            Heard::End => {}
        }
    }

    fn app_lost_connection(&mut self, number: usize, connection: ConnectionId) {
        let app = &mut self.apps[number];
        if app.session == Some(connection) {
            app.session = None;
            let wait = self.chance.apps.between([1_000, 200_000]);
            self.after(wait, Event::AppConnects { app: number });
        }
    }

    fn app_hears_answer(&mut self, number: usize, op: &Op, answer: Result<Reply, IpcError>) {
        let app = &mut self.apps[number];
        match (op, answer) {
            (Op::New { .. }, Ok(Reply::Address(object))) => {
                app.own.insert(object);
                app.known.insert(object);
                app.tracked.insert(object);
            }
            (Op::Freeze { .. }, Ok(Reply::Address(copy))) => {
                app.known.insert(copy);
            }
            (Op::Get(object), Ok(_)) => {
                app.known.insert(*object);
                app.tracked.insert(*object);
            }
            (Op::Get(object) | Op::Discard(object) | Op::Delete(object), _) => {
                app.tracked.remove(object);
            }
            (Op::Token(_), Ok(Reply::Token(token))) => app.token = Some(token),
            (Op::Startup { learn: true }, Ok(Reply::Startup(object))) => app.startup = Some(object),
            (Op::Startup { learn: false }, Ok(Reply::Startup(object))) => {
                if let Some(known) = app.startup
                    && known != object
                {
                    let text = format!("an app's startup object was {known:?}, is {object:?}");
                    self.violation(crate::Checker::Acknowledged, text);
                }
            }
            (Op::SetStartup(object), Ok(_)) => app.startup = Some(*object),
            _ => {}
        }
    }

    /// Returns whether the application refuses.
    fn app_hears_notice(&mut self, number: usize, connection: ConnectionId, body: &Notice) -> bool {
        let node = self.apps[number].node;
        match body {
            Notice::Share { object, .. } => {
                let object = *object;
                if !self.is_calm && self.chance.apps.happens(self.scenario.apps.refuses) {
                    return true;
                }
                self.apps[number].known.insert(object);
                if self.chance.apps.happens(0.9) {
                    self.ask(node, connection, Op::Get(object), Request::Get(object));
                }
            }
            Notice::Deleted(object) => {
                self.apps[number].tracked.remove(object);
                self.apps[number].own.remove(object);
            }
            Notice::Update(_) | Notice::ShareSucceeded { .. } | Notice::ShareFailed { .. } => {}
        }
        false
    }

    pub(crate) fn app_will_act(&mut self, number: usize) {
        let wait = self.chance.apps.wait(self.scenario.apps.acts_every * 1_000);
        self.after(wait, Event::AppActs { app: number });
    }

    pub(crate) fn app_acts(&mut self, number: usize) {
        if self.is_calm {
            return;
        }
        self.app_will_act(number);
        let app = &self.apps[number];
        let (node, api) = (app.node, app.api);
        let Some(connection) = app.session else {
            return;
        };
        let Some(session) = self.sessions.get(&(node, connection)) else {
            return;
        };
        if !session.is_open || session.pending.len() > PENDING_MAX {
            return;
        }
        if self.now >= app.handler_from
            && !session.apis.contains_key(&api)
            && !session.pending.values().any(|op| *op == Op::Register(api))
        {
            self.ask(node, connection, Op::Register(api), Request::RegisterApi(api));
            return;
        }
        if self.chance.apps.happens(self.scenario.apps.reconnects) {
            self.app_leaves(number, node, connection);
            return;
        }
        let own: Vec<Ghid> = app.own.iter().copied().collect();
        if self.chance.apps.happens(self.scenario.apps.floods) {
            self.app_floods(number, connection, &own);
            return;
        }
        let app = &self.apps[number];
        let known: Vec<Ghid> = app.known.iter().copied().collect();
        let tracked: Vec<Ghid> = app.tracked.iter().copied().collect();
        let chance = &mut self.chance.apps;
        let (own, known, tracked) = (
            chance.pick(&own).copied(),
            chance.pick(&known).copied(),
            chance.pick(&tracked).copied(),
        );
        match (chance.below(100), own, known, tracked) {
            (0..45, Some(object), _, _) => self.app_pushes(node, connection, object),
            (45..67, _, Some(object), _) => self.app_shares(node, connection, object),
            (67..71, _, _, Some(object)) => {
                let at_least = self.oracle.newest_shown(node, &object);
                let op = Op::Freeze { object, at_least };
                self.ask(node, connection, op, Request::Freeze(object));
            }
            (71..75, _, Some(object), _) => {
                self.ask(node, connection, Op::Hold(object), Request::Hold(object));
            }
            (75..77, Some(object), _, _) | (77..80, _, Some(object), _) => {
                self.apps[number].own.remove(&object);
                self.ask(node, connection, Op::Delete(object), Request::Delete(object));
            }
            (80..85, _, Some(object), _) => {
                self.ask(node, connection, Op::Get(object), Request::Get(object));
            }
            (85..88, _, _, Some(object)) => {
                self.ask(node, connection, Op::Sync(object), Request::Sync(object));
            }
            (88..90, _, _, Some(object)) => {
                self.ask(node, connection, Op::Discard(object), Request::Discard(object));
            }
            (90..92, _, Some(object), _) => self.app_sets_startup(number, connection, object),
            (92, ..) => self.ask(node, connection, Op::Status, Request::Status),
            (93, ..) => {
                self.ask(node, connection, Op::Deregister(api), Request::DeregisterApi(api));
            }
            _ => self.app_creates(number, connection),
        }
    }

    /// The application ends its connection and comes back later.
    fn app_leaves(&mut self, number: usize, node: usize, connection: ConnectionId) {
        let latency = self.chance.apps.between(self.scenario.apps.latency_us);
        if let Some(session) = self.sessions.get_mut(&(node, connection)) {
            // It stays known: acknowledgements may still be on their way to the node.
            session.is_open = false;
            let unknown = std::mem::take(&mut session.pending);
            self.oracle.unanswered(node, unknown.into_values());
            let at = session.last_to_node.max(self.now + latency);
            session.left_at = Some(at);
            let life = self.nodes[node].life;
            self.at(at, Event::ToNode { node, life, input: Input::AppDisconnected { connection } });
            self.trace(|| format!("n{node} app {} leaves", connection.0));
            self.apps[number].session = None;
            let away = self.chance.apps.between([10_000, 1_500_000]);
            // Its node hears of the end before the application can be back.
            self.at((self.now + away).max(at), Event::AppConnects { app: number });
        }
    }

    fn app_creates(&mut self, number: usize, connection: ConnectionId) {
        let app = &self.apps[number];
        let (node, api) = (app.node, app.api);
        let has_token = app.token.is_some();
        let private = has_token && self.chance.apps.happens(0.1);
        let dynamic = self.chance.apps.happens(0.85);
        let serial = self.oracle.will_make(node, number, api, dynamic, private);
        let state = State { serial, number: 1 };
        let state = state.encode(self.padding());
        let record = record(None, api, private, dynamic, state);
        self.ask(node, connection, Op::New { serial, private }, Request::New(record));
    }

    /// Many objects at once, or many shares with one user.
    fn app_floods(&mut self, number: usize, connection: ConnectionId, own: &[Ghid]) {
        if self.chance.apps.happens(0.5) {
            for _ in 0..self.chance.apps.between([1, self.scenario.apps.flood_max]) {
                self.app_creates(number, connection);
            }
            return;
        }
        let node = self.apps[number].node;
        let recipient = self.chance.apps.below(self.users as u64) as usize;
        for object in own {
            self.app_shares_with(node, connection, *object, recipient);
        }
    }

    fn app_pushes(&mut self, node: usize, connection: ConnectionId, object: Ghid) {
        let burst = if self.chance.apps.happens(0.2) {
            self.chance.apps.between([2, self.scenario.apps.burst_max])
        } else {
            1
        };
        for _ in 0..burst {
            let Some((state, private, api)) = self.oracle.will_push(&object) else {
                return;
            };
            let bytes = state.encode(self.padding());
            let record = record(Some(object), api, private, true, bytes);
            let op = Op::Push { object, number: state.number };
            self.ask(node, connection, op, Request::Update(record));
        }
    }

    fn app_shares(&mut self, node: usize, connection: ConnectionId, object: Ghid) {
        let nodes = self.users as u64;
        let recipient = self.chance.apps.below(nodes) as usize;
        self.app_shares_with(node, connection, object, recipient);
    }

    fn app_shares_with(
        &mut self,
        node: usize,
        connection: ConnectionId,
        object: Ghid,
        recipient: usize,
    ) {
        if recipient == node || !self.oracle.may_share(node, recipient, &object) {
            return;
        }
        let fingerprint = self.nodes[recipient].account.fingerprint();
        let request = Request::Share { object, recipient: fingerprint };
        self.ask(node, connection, Op::Share { object, recipient }, request);
    }

    fn app_sets_startup(&mut self, number: usize, connection: ConnectionId, object: Ghid) {
        let app = &mut self.apps[number];
        // Without a token, or while it does not know what is set, the answer would be a refusal.
        let (Some(_), Some(current)) = (app.token, app.startup) else {
            return;
        };
        app.startup = None;
        let (node, op, request) = if current.is_some() {
            (app.node, Op::SetStartup(None), Request::ClearStartup)
        } else {
            (app.node, Op::SetStartup(Some(object)), Request::SetStartup(object))
        };
        self.ask(node, connection, op, request);
    }

    fn padding(&mut self) -> usize {
        if self.chance.apps.happens(self.scenario.apps.large_state) {
            self.chance.apps.between(self.scenario.apps.large_bytes) as usize
        } else {
            self.chance.apps.below(120) as usize
        }
    }
}

fn record(
    address: Option<Ghid>,
    api: ApiId,
    private: bool,
    dynamic: bool,
    state: Arc<[u8]>,
) -> ObjectRecord {
    ObjectRecord { address, author: None, private, dynamic, legroom: 7, api, link: false, state }
}
