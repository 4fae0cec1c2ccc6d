//! `Node`: the parts of a daemon, wired, started and stopped in order.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use golix::{Ghid, PrivateIdentity, Suite};
use hypergolix_engine::account::{self, AccountError, RecoveryKey, ScryptCost, UnlockError};
use hypergolix_engine::route::Subject;
use hypergolix_engine::{Account, EngineConfig, ViewError, Write};
use hypergolix_ipc::Server;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::brain::Purpose;
use crate::config::Config;
use crate::control::{ControlSocket, Reload};
use crate::ipc_service::{COMMANDS_MAX, Command, IpcService};
use crate::network::{
    self, DeviceKeyError, DhtConfig, DhtMode, Network, NetworkConfig, NetworkError, Presence,
};
use crate::paths::Home;
use crate::run::{Loop, OsEntropy, Parts, RunError};
use crate::shutdown::STOP_DEADLINE;
use crate::status::{About, Facts};
use crate::store::{Store, StoreConfig, StoreError};

/// Events of the network that may wait; beyond that links are read no further.
pub(crate) const EVENTS_MAX: usize = 256;

/// Stack of the engine's thread, bytes. Twice tokio's default, for deep debinding chains.
const STACK: usize = 4 * 1024 * 1024;

/// Why a node does not start, or ends by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The store cannot be opened.
    #[error("{path}: {source}")]
    Store {
        /// Its file.
        path: String,
        /// Why.
        source: StoreError,
    },
    /// The account cannot be made.
    #[error(transparent)]
    Create(#[from] AccountError),
    /// The account stays locked.
    #[error(transparent)]
    Unlock(#[from] UnlockError),
    /// The password cannot be changed.
    #[error(transparent)]
    Change(#[from] account::ChangeError),
    /// The store cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The device has no key.
    #[error(transparent)]
    DeviceKey(#[from] DeviceKeyError),
    /// The network does not start.
    #[error("the network does not start: {0}")]
    Network(#[from] NetworkError),
    /// The control socket cannot be listened on.
    #[error("the control socket cannot be made: {0}")]
    Control(#[source] std::io::Error),
    /// The loop did not start, or ended by itself.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The system gives no thread.
    #[error("the system gives no more threads: {0}")]
    Thread(#[source] std::io::Error),
    /// The loop ended without saying why: a fault of ours.
    #[error("an internal error ended the node; the log says where")]
    Panicked,
    /// The ordered stop took too long.
    #[error("stopping took longer than {STOP_DEADLINE:?}; what was acknowledged is safe")]
    SlowStop,
}

/// A store whose account is open.
#[derive(Debug)]
pub struct Unlocked {
    store: Store,
    account: Account,
}

impl Unlocked {
    /// Opens the store of a home. Blocks, for a second a gigabyte.
    ///
    /// # Errors
    /// [`NodeError::Store`].
    pub fn open_store(home: &Home, config: &Config) -> Result<Store, NodeError> {
        let settings =
            StoreConfig { durability: config.durability.into(), ..StoreConfig::default() };
        Store::open(home.store(), settings).map_err(|source| store_error(home, source))
    }

    /// Makes an account in a store that has none. Blocks for half a second, and for about two more
    /// in suite 1.
    ///
    /// # Errors
    /// [`NodeError::Create`], [`NodeError::Store`].
    pub fn create(
        store: Store,
        home: &Home,
        password: &str,
        suite: Suite,
    ) -> Result<(Self, RecoveryKey), NodeError> {
        Self::keep(
            store,
            home,
            account::create(password, suite, ScryptCost::DEFAULT, &mut OsEntropy)?,
        )
    }

    /// Makes an account for an identity that exists, in a store that has none.
    ///
    /// # Errors
    /// [`NodeError::Create`], [`NodeError::Store`].
    pub fn import(
        store: Store,
        home: &Home,
        password: &str,
        identity: PrivateIdentity,
    ) -> Result<(Self, RecoveryKey), NodeError> {
        Self::keep(
            store,
            home,
            account::create_for(identity, password, ScryptCost::DEFAULT, &mut OsEntropy)?,
        )
    }

    /// Joins an account that other devices have, in a store that has none.
    ///
    /// # Errors
    /// [`NodeError::Store`].
    pub fn join(
        mut store: Store,
        home: &Home,
        account: Account,
        writes: &[Write],
    ) -> Result<Self, NodeError> {
        let mut batch = store.batch().map_err(|source| store_error(home, source))?;
        batch.apply(writes.iter().cloned());
        batch.commit().map_err(|source| store_error(home, source))?;
        Ok(Self { store, account })
    }

    /// Gives the account another password. Blocks for half a second.
    ///
    /// # Errors
    /// [`ChangeError`](account::ChangeError), or the store failed.
    pub fn change_password(&mut self, home: &Home, password: &str) -> Result<(), NodeError> {
        let mut batch = self.store.batch().map_err(|source| store_error(home, source))?;
        let cost = ScryptCost::DEFAULT;
        let writes =
            account::change_password(&batch, &self.account, password, cost, &mut OsEntropy)?;
        batch.apply(writes);
        batch.commit().map_err(|source| store_error(home, source))
    }

    /// Closes the store.
    ///
    /// # Errors
    /// [`NodeError::Store`].
    pub fn close(self, home: &Home) -> Result<(), NodeError> {
        self.store.close().map_err(|source| store_error(home, source))
    }

    fn keep(
        mut store: Store,
        home: &Home,
        made: (Account, Vec<Write>, RecoveryKey),
    ) -> Result<(Self, RecoveryKey), NodeError> {
        let (account, writes, recovery) = made;
        let mut batch = store.batch().map_err(|source| store_error(home, source))?;
        batch.apply(writes);
        batch.commit().map_err(|source| store_error(home, source))?;
        Ok((Self { store, account }, recovery))
    }

    /// Opens the account of a store. Blocks for half a second.
    ///
    /// # Errors
    /// [`NodeError::Unlock`].
    pub fn unlock(store: Store, home: &Home, password: &str) -> Result<Self, NodeError> {
        let view = store.snapshot().map_err(|source| store_error(home, source))?;
        let account = account::unlock(&view, password)?;
        drop(view);
        Ok(Self { store, account })
    }

    /// Opens the account of a store with its recovery key.
    ///
    /// # Errors
    /// [`NodeError::Unlock`].
    pub fn recover(store: Store, home: &Home, key: &RecoveryKey) -> Result<Self, NodeError> {
        let view = store.snapshot().map_err(|source| store_error(home, source))?;
        let account = account::unlock_with_recovery_key(&view, key)?;
        drop(view);
        Ok(Self { store, account })
    }

    /// The suite of the account's identity.
    pub fn suite(&self) -> Suite {
        self.account.suite()
    }

    /// The address of the account's identity.
    pub fn fingerprint(&self) -> Ghid {
        self.account.fingerprint()
    }

    /// The address of the account's root object.
    pub fn user_id(&self) -> Ghid {
        self.account.user_id()
    }
}

/// What a node of this home and configuration listens on and dials.
///
/// # Errors
/// [`NodeError::DeviceKey`].
pub fn network_config(home: &Home, config: &Config) -> Result<NetworkConfig, NodeError> {
    let targets = config.targets();
    Ok(NetworkConfig {
        lan: config.lan,
        listen_hosts: config.listen.clone(),
        peers: targets.peers,
        remotes: targets.remotes,
        dht: DhtConfig {
            mode: if config.dht { DhtMode::Auto } else { DhtMode::Off },
            file: Some(home.path().join("dht.records")),
            port_file: config.dht.then(|| home.path().join("listen.port")),
            ..DhtConfig::default()
        },
        ..NetworkConfig::new(network::load_or_create(&home.device_key())?)
    })
}

fn store_error(home: &Home, source: StoreError) -> NodeError {
    NodeError::Store { path: home.store().display().to_string(), source }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    network: Network,
    commands: mpsc::Sender<Command>,
    ended: oneshot::Receiver<Result<(), RunError>>,
    server: JoinHandle<()>,
    server_stop: CancellationToken,
    _control: Option<ControlSocket>,
}

impl Node {
    /// Starts the network, the engine's thread and the application interface: when this returns,
    /// applications are answered. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn start(
        home: Home,
        config: Config,
        unlocked: Unlocked,
        server: Server,
        started: Instant,
    ) -> Result<Self, NodeError> {
        let Unlocked { store, account } = unlocked;
        let (events, events_taken) = mpsc::channel(EVENTS_MAX);
        let mut settings = network_config(&home, &config)?;
        settings.dht.presences = vec![
            Presence {
                subject: Subject::Identity(account.fingerprint()),
                keys: Some(account.keys()),
            },
            Presence { subject: Subject::Root(account.user_id()), keys: None },
        ];
        let network = Network::start(settings, events)?;
        let fingerprint = account.fingerprint();
        let control = home.control();
        let mut decides = EngineConfig::default();
        decides.searches = config.dht;
        let config = Arc::new(Mutex::new(config));
        let reload = reload(home.config(), Arc::clone(&config), network.clone());
        let facts = Facts {
            home,
            config,
            ipc_port: server.port(),
            started,
            fingerprint,
            network: network.clone(),
        };
        let (commands, commands_taken) = mpsc::channel(COMMANDS_MAX);
        let parts = Parts {
            store,
            purpose: Purpose::Node(account, decides),
            commands: commands_taken,
            events: events_taken,
            network: network.clone(),
            started,
            about: About::Node(facts),
        };
        let ended = spawn(parts).await?;
        // Without it the daemon takes up its configuration at the next start.
        let control = ControlSocket::listen(control, commands.clone(), Some(reload))
            .inspect_err(|error| tracing::warn!(%error, "there is no control socket"))
            .ok();
        let server_stop = CancellationToken::new();
        let service = Arc::new(IpcService::new(commands.clone(), fingerprint));
        let stop = server_stop.clone().cancelled_owned();
        let server = tokio::spawn(server.run(service, stop));
        Ok(Self { network, commands, ended, server, server_stop, _control: control })
    }

    /// Runs until `stop` completes, or something inside fails; then stops in order.
    ///
    /// # Errors
    /// What failed, or [`NodeError::SlowStop`].
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) -> Result<(), NodeError> {
        let early = tokio::select! {
            () = stop => None,
            ended = &mut self.ended => Some(end_of(ended)),
        };
        match tokio::time::timeout(STOP_DEADLINE, self.stop(early)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(NodeError::SlowStop),
        }
    }

    async fn stop(self, early: Option<Result<(), NodeError>>) -> Result<(), NodeError> {
        self.server_stop.cancel();
        if let Err(error) = self.server.await {
            tracing::error!(%error, "the application interface failed");
        }
        if let Some(outcome) = early {
            self.network.shutdown().await;
            return outcome;
        }
        // What was promised to applications is committed before the network stops, and the stop
        // of the engine is the last command, so nothing is left behind it.
        let _ = self.commands.send(Command::Stop).await;
        let outcome = end_of(self.ended.await);
        self.network.shutdown().await;
        outcome
    }
}

/// Takes up the peers and remotes of a configuration file; everything else needs a restart.
fn reload(path: PathBuf, config: Arc<Mutex<Config>>, network: Network) -> Arc<Reload> {
    Arc::new(move || {
        let new = Config::load(&path).map_err(|error| error.to_string())?;
        network.retarget(new.targets());
        let mut config = config.lock().unwrap_or_else(PoisonError::into_inner);
        (config.peers, config.remotes) = (new.peers, new.remotes);
        Ok(())
    })
}

/// Starts the loop on a thread of its own; when this returns, it takes what comes. What comes out
/// in the end says how it ended.
pub(crate) async fn spawn(
    parts: Parts,
) -> Result<oneshot::Receiver<Result<(), RunError>>, NodeError> {
    let runtime = tokio::runtime::Handle::current();
    let network = parts.network.clone();
    let (ready, is_ready) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name("engine".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            let _entered = runtime.enter();
            let outcome = Loop::new(parts).and_then(|engine| {
                // Whoever started us waits for this.
                let _ = ready.send(());
                engine.run()
            });
            // Nobody listens only if the whole process is about to end.
            let _ = end.send(outcome);
        })
        .map_err(NodeError::Thread)?;
    if is_ready.await.is_err() {
        network.shutdown().await;
        return Err(end_of(ended.await).err().unwrap_or(NodeError::Panicked));
    }
    Ok(ended)
}

pub(crate) fn end_of(
    ended: Result<Result<(), RunError>, oneshot::error::RecvError>,
) -> Result<(), NodeError> {
    match ended {
        Ok(outcome) => outcome.map_err(NodeError::from),
        Err(_) => Err(NodeError::Panicked),
    }
}

/// How long `hypergolix stop app` waits.
pub const STOP_PATIENCE: Duration = Duration::from_secs(10);
