//! Which application hears of what.

mod delivery;
mod registry;

use std::collections::{BTreeMap, BTreeSet};

use golix::Ghid;
use hypergolix_ipc::limits::LOST_STATES_MAX;
use hypergolix_ipc::{
    ApiId, AppToken, ConnectionId, IpcError, LostState, Reply, Request, RequestToken,
};

use crate::effect::Effect;
use crate::engine::Engine;
use crate::keyring::Record;
use crate::objects::{Answer, does_not_exist, elsewhere, ipc_error, revoked};
use crate::turn::Turn;
use crate::view::ViewError;
use delivery::Queue;

/// The applications connected now.
#[derive(Default)]
pub(crate) struct Apps {
    open: BTreeMap<ConnectionId, App>,
    trackers: BTreeMap<Ghid, BTreeSet<ConnectionId>>,
    /// Connections whose queue has something to send.
    busy: BTreeSet<ConnectionId>,
}

/// One application's connection; everything here ends with it.
#[derive(Default)]
struct App {
    token: Option<AppToken>,
    apis: BTreeSet<ApiId>,
    tracked: BTreeSet<Ghid>,
    queue: Queue,
}

impl Apps {
    pub(crate) fn connected(&mut self, connection: ConnectionId) {
        self.open.insert(connection, App::default());
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// Objects that some application hears of.
    pub(crate) fn tracked(&self) -> usize {
        self.trackers.len()
    }

    /// Notices that wait, or are under way, for all applications.
    pub(crate) fn notices(&self) -> usize {
        self.open.values().map(|app| app.queue.len()).sum()
    }

    pub(crate) fn token(&self, connection: ConnectionId) -> Option<AppToken> {
        self.open.get(&connection).and_then(|app| app.token)
    }

    fn with_token(&self, token: AppToken) -> Option<ConnectionId> {
        self.open
            .iter()
            .find(|(_, app)| app.token == Some(token))
            .map(|(connection, _)| *connection)
    }

    /// Connections that registered `api`, in the order of their connection.
    fn with_api(&self, api: ApiId) -> Vec<ConnectionId> {
        self.open
            .iter()
            .filter(|(_, app)| app.apis.contains(&api))
            .map(|(connection, _)| *connection)
            .collect()
    }

    fn takes(&self, connection: ConnectionId, api: ApiId) -> bool {
        self.open.get(&connection).is_some_and(|app| app.apis.contains(&api))
    }

    fn track(&mut self, connection: ConnectionId, address: Ghid) {
        if let Some(app) = self.open.get_mut(&connection) {
            app.tracked.insert(address);
            self.trackers.entry(address).or_default().insert(connection);
        }
    }

    pub(crate) fn untrack(&mut self, connection: ConnectionId, address: &Ghid) {
        if let Some(app) = self.open.get_mut(&connection) {
            app.tracked.remove(address);
            app.queue.forget_update(address);
        }
        if let Some(trackers) = self.trackers.get_mut(address) {
            trackers.remove(&connection);
            if trackers.is_empty() {
                self.trackers.remove(address);
            }
        }
    }

    fn trackers(&self, address: &Ghid) -> Vec<ConnectionId> {
        self.trackers.get(address).map(|set| set.iter().copied().collect()).unwrap_or_default()
    }
}

impl Engine {
    /// Answers a request of an application, now or when other devices have spoken.
    pub(crate) fn request(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        token: RequestToken,
        request: Request,
    ) -> Result<(), ViewError> {
        if !self.apps.open.contains_key(&connection) {
            // Its connection ended while the request was on its way.
            return Ok(());
        }
        let answer = match request {
            Request::Whoami => Ok(Reply::Fingerprint(self.me)),
            Request::RegisterToken(asked) => self.register_token(turn, connection, asked)?,
            Request::RegisterApi(api) => {
                answer(turn, connection, token, Ok(Reply::Done));
                self.register_api(connection, api);
                return Ok(());
            }
            Request::DeregisterApi(api) => {
                if let Some(app) = self.apps.open.get_mut(&connection) {
                    app.apis.remove(&api);
                }
                Ok(Reply::Done)
            }
            Request::StartupObject => self.startup(turn, connection)?,
            Request::SetStartup(object) => self.set_startup(turn, connection, Some(object))?,
            Request::ClearStartup => self.set_startup(turn, connection, None)?,
            Request::Get(address) => {
                return self.get_or_wait(turn, connection, token, address);
            }
            Request::New(record) => {
                let made = self.new_object(turn, connection, record)?;
                if let Ok(Reply::Address(address)) = &made {
                    self.apps.track(connection, *address);
                }
                made
            }
            Request::Update(record) => self.update_object(turn, connection, record)?,
            Request::Sync(address) => {
                let visible = self.visible(turn, connection, &address)?.is_some();
                if !visible && !self.follows.contains(&address) {
                    Err(does_not_exist(&address))
                } else {
                    self.sync_or_wait(turn, connection, token, address);
                    return Ok(());
                }
            }
            Request::Share { object, recipient } => {
                self.share(turn, connection, object, recipient)?
            }
            Request::Freeze(address) => self.freeze(turn, connection, address)?,
            Request::Hold(address) => self.hold(turn, connection, address)?,
            Request::Discard(address) => {
                self.apps.untrack(connection, &address);
                Ok(Reply::Done)
            }
            Request::Delete(address) => self.delete(turn, connection, address)?,
            Request::Status => Ok(Reply::Status(self.status_json(turn)?)),
            Request::Unshare { object, recipient } => {
                self.unshare(turn, connection, object, recipient)?
            }
            Request::LostStates => {
                Ok(Reply::LostStates(self.visible_lost_states(turn, connection)?))
            }
            Request::DismissLost(frame) => self.dismiss_lost(turn, connection, &frame)?,
        };
        self::answer(turn, connection, token, answer);
        Ok(())
    }

    /// Answers `>O` if the object is here.
    pub(crate) fn try_get(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        address: &Ghid,
    ) -> Answer {
        Ok(match self.visible(turn, connection, address)? {
            Some(resolved) => {
                self.apps.track(connection, *address);
                Ok(Reply::Record(Self::record_of(resolved)))
            }
            None if self.is_revoked(turn, address)? => Err(revoked(address)),
            None if Self::is_elsewhere(turn, address)? => Err(elsewhere(address)),
            None => Err(does_not_exist(address)),
        })
    }

    /// The lost states of objects that `connection` may get, as many as fit into an answer.
    fn visible_lost_states(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
    ) -> Result<Vec<LostState>, ViewError> {
        let mut visible = Vec::new();
        let mut room = LOST_STATES_MAX;
        for lost in self.lost_states(turn)? {
            if lost.state.len() <= room && self.visible(turn, connection, &lost.object)?.is_some() {
                room -= lost.state.len();
                visible.push(lost);
            }
        }
        Ok(visible)
    }

    /// Forgets a lost state; one that `connection` may not see is as one that is not there.
    fn dismiss_lost(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        frame: &Ghid,
    ) -> Answer {
        let Some(lost) = self.keyring.get(turn, Record::Lost, frame.as_bytes())? else {
            return Ok(Ok(Reply::Done));
        };
        let object = lost.get(..Ghid::LEN).and_then(|object| Ghid::from_bytes(object).ok());
        let object = object.ok_or(ViewError("the record of a lost state is damaged".into()))?;
        if self.visible(turn, connection, &object)?.is_some() {
            self.keyring.forget(turn, Record::Lost, frame.as_bytes())?;
        }
        Ok(Ok(Reply::Done))
    }

    fn register_token(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        asked: Option<AppToken>,
    ) -> Answer {
        if self.apps.token(connection).is_some() {
            return Ok(Err(ipc_error("this connection has a token already")));
        }
        let token = match asked {
            Some(token) => {
                if !registry::is_issued(&self.keyring, turn, token)? {
                    return Ok(Err(ipc_error("this token was never issued to this user")));
                }
                if self.apps.with_token(token).is_some() {
                    return Ok(Err(ipc_error("this token is in use by another application")));
                }
                token
            }
            None => registry::issue(&self.keyring, turn)?,
        };
        if let Some(app) = self.apps.open.get_mut(&connection) {
            app.token = Some(token);
        }
        Ok(Ok(Reply::Token(token)))
    }

    fn startup(&mut self, turn: &Turn<'_>, connection: ConnectionId) -> Answer {
        let Some(token) = self.apps.token(connection) else {
            return Ok(Err(no_token()));
        };
        Ok(Ok(Reply::Startup(registry::startup(&self.keyring, turn, token)?)))
    }

    fn set_startup(
        &mut self,
        turn: &mut Turn<'_>,
        connection: ConnectionId,
        object: Option<Ghid>,
    ) -> Answer {
        let Some(token) = self.apps.token(connection) else {
            return Ok(Err(no_token()));
        };
        let current = registry::startup(&self.keyring, turn, token)?;
        match (current, object) {
            (Some(_), Some(_)) => {
                return Ok(Err(ipc_error(
                    "this application has a startup object already; deregister it first",
                )));
            }
            (None, None) => {
                return Ok(Err(ipc_error("this application has no startup object")));
            }
            (Some(_), None) | (None, Some(_)) => {}
        }
        registry::set_startup(&self.keyring, turn, token, object)?;
        Ok(Ok(Reply::Done))
    }

    pub(crate) fn disconnected(&mut self, connection: ConnectionId) {
        let Some(app) = self.apps.open.remove(&connection) else {
            return;
        };
        self.apps.busy.remove(&connection);
        for address in &app.tracked {
            if let Some(trackers) = self.apps.trackers.get_mut(address) {
                trackers.remove(&connection);
                if trackers.is_empty() {
                    self.apps.trackers.remove(address);
                }
            }
        }
        for share in app.queue.shares() {
            self.shares.put_back(share, connection);
        }
        self.links.stop_waiting(connection);
        self.lookups.stop_waiting(connection);
        // Another application may have registered the same api id meanwhile.
        self.deliver_waiting_shares();
    }
}

/// Queues an answer.
pub(crate) fn answer(
    turn: &mut Turn<'_>,
    connection: ConnectionId,
    token: RequestToken,
    answer: Result<Reply, IpcError>,
) {
    turn.effect(Effect::Answer { connection, token, answer });
}

fn no_token() -> IpcError {
    ipc_error("this needs an application token; register one first")
}
