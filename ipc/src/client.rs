//! The application's end: a link to the daemon, and objects that follow their updates.
//!
//! [`HgxLink`] is a cloneable handle; one task owns the connection behind it and reconnects when
//! it is lost. [`Obj`] is an object of plain bytes, [`JsonObj`] one of JSON, [`TypedObj`] one of
//! any serde type. Wire reference, sections 7 and 8.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use golix::Ghid;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};

use crate::ids::{ApiId, AppToken};
use crate::limits::{IN_FLIGHT_MAX, LEGROOM_DEFAULT};
use crate::message::{LostState, Reply, Request};
use crate::object_record::ObjectRecord;
use driver::{Answer, Command, Waiter};
use obj::{ObjCore, PushMark, check_size};
use wire::{Queue, Wire};

mod driver;
mod error;
mod json;
mod obj;
mod shares;
mod typed;
mod updates;
mod websocket;
mod wire;

pub use error::LinkError;
pub use json::JsonObj;
pub use obj::Obj;
pub use shares::{Share, Shares};
pub use typed::{TypedObj, TypedUpdates};
pub use updates::{Update, Updates};

/// A kind of object: how its state becomes bytes. [`Obj`], [`JsonObj`] and [`TypedObj`] are.
pub trait Object: Sized {
    /// What it holds.
    type State: ?Sized;

    /// The api id that new ones get unless told otherwise.
    const API_ID: ApiId;

    /// The state as bytes.
    ///
    /// # Errors
    /// [`LinkError::Unreadable`].
    fn pack(state: &Self::State) -> Result<Vec<u8>, LinkError>;

    /// Sees an object as one of this kind.
    ///
    /// # Errors
    /// [`LinkError::Unreadable`] if its state is something else.
    fn from_obj(obj: Obj) -> Result<Self, LinkError>;
}

/// What a new object is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewOptions {
    /// Its type; `None` takes [`Object::API_ID`].
    pub api_id: Option<ApiId>,
    /// Whether its state can change. Default: yes.
    pub dynamic: bool,
    /// Whether only this application may see it; needs a token. Default: no.
    pub private: bool,
    /// Past states that its record keeps the way to. Default: 7, as in the Python client.
    pub legroom: u8,
}

impl Default for NewOptions {
    fn default() -> Self {
        Self { api_id: None, dynamic: true, private: false, legroom: LEGROOM_DEFAULT }
    }
}

/// How to connect.
#[derive(Debug, Clone, Copy)]
pub struct LinkOptions {
    /// The daemon's port.
    pub port: u16,
    /// How long to try while no daemon answers. Zero tries once.
    pub patience: Duration,
    /// Refuse a daemon that belongs to another user of this machine.
    pub check_uid: bool,
}

impl Default for LinkOptions {
    /// Port 7772, one attempt.
    fn default() -> Self {
        Self { port: 7772, patience: Duration::ZERO, check_uid: true }
    }
}

/// A link to the daemon. Cheap to clone; all clones are one connection.
///
/// When the connection is lost the link connects again by itself, the first time at once, then up
/// to a second apart: it registers its token and api ids again, repeats what was under way, and
/// gets every object anew, so that handlers and updates go on. Calls made meanwhile wait. Only
/// what must not happen twice ([`HgxLink::new`], the startup object) fails with
/// [`LinkError::ConnectionLost`]. A share under way may arrive twice.
///
/// ```no_run
/// # async fn example() -> Result<(), hypergolix_ipc::client::LinkError> {
/// use hypergolix_ipc::ApiId;
/// use hypergolix_ipc::client::{HgxLink, JsonObj};
///
/// let link = HgxLink::connect(7772).await?;
/// println!("I am {}", link.fingerprint());
/// let mut shares = link.shares(ApiId::JSON).await?;
/// while let Some(share) = shares.next().await {
///     let obj: JsonObj = link.get(share.ghid).await?;
///     println!("{} shared {}", share.origin, obj.value()?);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct HgxLink(Arc<Inner>);

/// What the handles of a link share.
pub(crate) struct Inner {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
}

/// What the handles and the task of a link share.
struct Shared {
    port: u16,
    check_uid: bool,
    wire: Wire,
    registry: Mutex<Registry>,
    status: watch::Sender<LinkStatus>,
}

#[derive(Default)]
struct Registry {
    fingerprint: Option<Ghid>,
    token: Option<AppToken>,
    handlers: BTreeMap<ApiId, mpsc::Sender<Share>>,
    objects: HashMap<Ghid, Weak<ObjCore>>,
}

/// Whether a link has a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkStatus {
    /// Yes.
    Connected,
    /// No; it tries to get one.
    Connecting,
    /// No, and it never will.
    Stopped,
}

impl HgxLink {
    /// Connects to the daemon on a port of this machine; fails at once if none answers.
    ///
    /// # Errors
    /// [`LinkError::NoDaemon`], [`LinkError::NotOurDaemon`].
    pub async fn connect(port: u16) -> Result<Self, LinkError> {
        Self::connect_with(LinkOptions { port, ..LinkOptions::default() }).await
    }

    /// Connects to the daemon.
    ///
    /// # Errors
    /// [`LinkError::NoDaemon`], [`LinkError::NotOurDaemon`].
    pub async fn connect_with(options: LinkOptions) -> Result<Self, LinkError> {
        let deadline = Instant::now() + options.patience;
        let mut backoff = websocket::Backoff::default();
        let (websocket, fingerprint) = loop {
            sleep(backoff.next()).await;
            match websocket::connect(options.port, options.check_uid, None).await {
                Err(LinkError::NoDaemon { .. }) if Instant::now() < deadline => {}
                connected => break connected?,
            }
        };
        let shared = Arc::new(Shared {
            port: options.port,
            check_uid: options.check_uid,
            wire: Wire::default(),
            registry: Mutex::new(Registry {
                fingerprint: Some(fingerprint),
                ..Registry::default()
            }),
            status: watch::Sender::new(LinkStatus::Connected),
        });
        let (commands, commands_rx) = mpsc::channel(IN_FLIGHT_MAX);
        let (stop, stop_rx) = watch::channel(false);
        let inner = Arc::new(Inner { commands, shared: Arc::clone(&shared), stop });
        tokio::spawn(driver::run(websocket, Arc::downgrade(&inner), shared, commands_rx, stop_rx));
        Ok(Self(inner))
    }

    /// The fingerprint of the user, as the daemon said when the link connected.
    pub fn fingerprint(&self) -> Ghid {
        self.0.shared.fingerprint().expect("a link knows its user before it exists")
    }

    /// Asks the daemon who the user is.
    ///
    /// # Errors
    /// A refusal, or [`LinkError::Stopped`].
    pub async fn whoami(&self) -> Result<Ghid, LinkError> {
        match self.0.ask(Request::Whoami).await? {
            Answer::Reply(Reply::Fingerprint(fingerprint)) => Ok(fingerprint),
            answer => Err(answer.unexpected()),
        }
    }

    /// The application's token, once registered.
    pub fn token(&self) -> Option<AppToken> {
        self.0.shared.token()
    }

    /// Registers this application: with the token it got the first time, or with none to get a new
    /// one, which it should keep. Returns its startup object, if it has one.
    ///
    /// # Errors
    /// A refusal: the link has a token, the token is unknown, or in use by another connection.
    pub async fn register_token(&self, token: Option<AppToken>) -> Result<Option<Ghid>, LinkError> {
        match self.0.ask(Request::RegisterToken(token)).await? {
            Answer::Reply(Reply::Token(_)) => {}
            answer => return Err(answer.unexpected()),
        }
        if token.is_none() { Ok(None) } else { self.startup().await }
    }

    /// The application's startup object.
    ///
    /// # Errors
    /// A refusal: the link has no token.
    pub async fn startup(&self) -> Result<Option<Ghid>, LinkError> {
        match self.0.ask(Request::StartupObject).await? {
            Answer::Reply(Reply::Startup(startup)) => Ok(startup),
            answer => Err(answer.unexpected()),
        }
    }

    /// Declares an object that [`HgxLink::register_token`] returns at every start.
    ///
    /// # Errors
    /// A refusal: the link has no token, or there is a startup object already.
    pub async fn register_startup(&self, object: Ghid) -> Result<(), LinkError> {
        self.0.ask_done(Request::SetStartup(object)).await
    }

    /// Takes the declaration back.
    ///
    /// # Errors
    /// A refusal: the link has no token, or there is no startup object.
    pub async fn deregister_startup(&self) -> Result<(), LinkError> {
        self.0.ask_done(Request::ClearStartup).await
    }

    /// Makes an object. Returns once it is durable.
    ///
    /// # Errors
    /// [`LinkError::StateTooLarge`], [`LinkError::Unreadable`], a refusal, or
    /// [`LinkError::ConnectionLost`]: there may be such an object now, or not.
    #[expect(clippy::new_ret_no_self, reason = "the documented name of the call")]
    pub async fn new<O: Object>(
        &self,
        state: &O::State,
        options: NewOptions,
    ) -> Result<O, LinkError> {
        let state = O::pack(state)?;
        check_size(&state)?;
        let record = ObjectRecord {
            address: None,
            author: None,
            private: options.private,
            dynamic: options.dynamic,
            legroom: options.legroom,
            api: options.api_id.unwrap_or(O::API_ID),
            link: false,
            state: state.into(),
        };
        match self.0.ask(Request::New(record)).await? {
            Answer::Object(obj) => O::from_obj(obj),
            answer @ Answer::Reply(_) => Err(answer.unexpected()),
        }
    }

    /// Gets an object; from now on it follows its updates. An object that this link has already
    /// is returned as it is.
    ///
    /// # Errors
    /// A refusal: unknown, deleted, or not for this user or application.
    pub async fn get<O: Object>(&self, ghid: Ghid) -> Result<O, LinkError> {
        O::from_obj(self.0.get(ghid).await?)
    }

    /// Takes shares of an api id. An earlier handler of that api id ends.
    ///
    /// # Errors
    /// A refusal, or [`LinkError::Stopped`].
    pub async fn shares(&self, api_id: ApiId) -> Result<Shares, LinkError> {
        let (sender, receiver) = mpsc::channel(shares::SHARES_MAX);
        // In place before the daemon knows: shares follow its answer at once.
        self.0.shared.registry().handlers.insert(api_id, sender.clone());
        let registered = self.0.ask_done(Request::RegisterApi(api_id)).await;
        if registered.is_err() {
            let mut registry = self.0.shared.registry();
            if registry.handlers.get(&api_id).is_some_and(|now| now.same_channel(&sender)) {
                registry.handlers.remove(&api_id);
            }
        }
        registered.map(|()| Shares(receiver))
    }

    /// Calls `handler` for every share of an api id, one at a time, in order; replaces an earlier
    /// handler.
    ///
    /// # Errors
    /// As [`HgxLink::shares`].
    pub async fn register_share_handler<F, R>(
        &self,
        api_id: ApiId,
        mut handler: F,
    ) -> Result<(), LinkError>
    where
        F: FnMut(Share) -> R + Send + 'static,
        R: Future<Output = ()> + Send,
    {
        let mut shares = self.shares(api_id).await?;
        tokio::spawn(async move {
            while let Some(share) = shares.next().await {
                handler(share).await;
            }
        });
        Ok(())
    }

    /// Takes no more shares of an api id.
    ///
    /// # Errors
    /// A refusal, or [`LinkError::Stopped`].
    pub async fn deregister_share_handler(&self, api_id: ApiId) -> Result<(), LinkError> {
        let result = self.0.ask_done(Request::DeregisterApi(api_id)).await;
        self.0.shared.registry().handlers.remove(&api_id);
        result
    }

    /// What the daemon says about itself, JSON text.
    ///
    /// # Errors
    /// A refusal: only this project's daemon knows the request.
    pub async fn status(&self) -> Result<String, LinkError> {
        match self.0.ask(Request::Status).await? {
            Answer::Reply(Reply::Status(text)) => Ok(text),
            answer => Err(answer.unexpected()),
        }
    }

    /// States of own objects that lost because two devices of the user wrote at once, oldest first: the
    /// other one's is the object's state everywhere. Dismiss them once they are dealt with.
    ///
    /// # Errors
    /// A refusal: only this project's daemon knows the request.
    pub async fn lost_states(&self) -> Result<Vec<LostState>, LinkError> {
        match self.0.ask(Request::LostStates).await? {
            Answer::Reply(Reply::LostStates(lost)) => Ok(lost),
            answer => Err(answer.unexpected()),
        }
    }

    /// Forgets a lost state; by its [`frame`](LostState::frame).
    ///
    /// # Errors
    /// A refusal: only this project's daemon knows the request.
    pub async fn dismiss_lost(&self, frame: Ghid) -> Result<(), LinkError> {
        self.0.ask_done(Request::DismissLost(frame)).await
    }

    /// Whether there is a connection, and its changes.
    pub fn connection(&self) -> watch::Receiver<LinkStatus> {
        self.0.shared.status.subscribe()
    }

    /// Ends the connection. Everything asked afterwards fails with [`LinkError::Stopped`].
    pub async fn stop(&self) {
        self.0.stop.send_replace(true);
        // The sender lives as long as we do.
        let _ = self.connection().wait_for(|status| *status == LinkStatus::Stopped).await;
    }
}

impl fmt::Debug for HgxLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HgxLink")
            .field("port", &self.0.shared.port)
            .field("status", &*self.0.shared.status.borrow())
            .finish_non_exhaustive()
    }
}

impl Inner {
    async fn ask(&self, request: Request) -> Result<Answer, LinkError> {
        self.ask_marked(request, None).await
    }

    async fn ask_done(&self, request: Request) -> Result<(), LinkError> {
        match self.ask(request).await? {
            Answer::Reply(Reply::Done) => Ok(()),
            answer => Err(answer.unexpected()),
        }
    }

    async fn ask_push(&self, record: ObjectRecord, mark: PushMark) -> Result<(), LinkError> {
        match self.ask_marked(Request::Update(record), Some(mark)).await? {
            Answer::Reply(Reply::Done) => Ok(()),
            answer => Err(answer.unexpected()),
        }
    }

    async fn ask_marked(
        &self,
        request: Request,
        mark: Option<PushMark>,
    ) -> Result<Answer, LinkError> {
        let (answer, answered) = oneshot::channel();
        let waiter = Waiter::Caller { mark, answer, repeated: false };
        let queue = self.shared.wire.ask_at_once(request, waiter);
        if let Some(Queue { request, waiter, counted }) = queue {
            let command = Command::Ask(request, waiter);
            self.commands.send(command).await.map_err(|_| LinkError::Stopped)?;
            counted.handed_over();
        }
        answered.await.map_err(|_| LinkError::Stopped)?
    }

    async fn get(&self, ghid: Ghid) -> Result<Obj, LinkError> {
        if let Some(obj) = self.shared.object(ghid) {
            return Ok(obj);
        }
        match self.ask(Request::Get(ghid)).await? {
            Answer::Object(obj) => Ok(obj),
            answer @ Answer::Reply(_) => Err(answer.unexpected()),
        }
    }
}

impl Shared {
    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fingerprint(&self) -> Option<Ghid> {
        self.registry().fingerprint
    }

    fn token(&self) -> Option<AppToken> {
        self.registry().token
    }

    fn set_token(&self, token: AppToken) {
        self.registry().token = Some(token);
    }

    fn set_connected(&self, connected: bool) {
        self.status.send_replace(if connected {
            LinkStatus::Connected
        } else {
            LinkStatus::Connecting
        });
    }

    fn stopped(&self) {
        let objects = {
            let mut registry = self.registry();
            registry.handlers.clear();
            std::mem::take(&mut registry.objects)
        };
        objects.values().filter_map(Weak::upgrade).for_each(|core| core.ended());
        self.status.send_replace(LinkStatus::Stopped);
    }

    /// The last handle of an object is gone.
    fn let_go(&self, commands: &mpsc::Sender<Command>, ghid: Ghid) {
        self.wire.queue();
        if commands.try_send(Command::Forget(ghid)).is_err() {
            // With a full queue the daemon learns of it at the object's next update.
            self.wire.dequeue();
        }
    }

    /// An object that a handle exists of.
    fn object(&self, ghid: Ghid) -> Option<Obj> {
        let core = self.registry().objects.get(&ghid)?.upgrade()?;
        (!core.is_dead()).then(|| Obj::from_core(core))
    }

    fn track(&self, ghid: Ghid, obj: &Obj) {
        self.registry().objects.insert(ghid, Arc::downgrade(obj.core()));
    }

    fn forget(&self, ghid: Ghid) {
        self.registry().objects.remove(&ghid);
    }

    /// Everything to register and to get again after a reconnect.
    fn tracked(&self) -> (Vec<ApiId>, Vec<Ghid>) {
        let mut registry = self.registry();
        registry.objects.retain(|_, core| core.strong_count() > 0);
        let apis = registry.handlers.keys().copied().collect();
        (apis, registry.objects.keys().copied().collect())
    }

    /// Hands a share to its handler; `false` if there is none that takes it.
    fn deliver(&self, share: Share) -> bool {
        let handler = self.registry().handlers.get(&share.api_id).cloned();
        handler.is_some_and(|handler| handler.try_send(share).is_ok())
    }
}
