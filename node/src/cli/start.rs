//! `hypergolix start app`: in the background, or in the foreground.

use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use golix::{Ghid, Suite};
use hypergolix_engine::account::{self, RecoveryKey, UnlockError};
use hypergolix_engine::{Account, Write};
use hypergolix_ipc::{BindError, Server, ServerConfig};
use hypergolix_node::config::{Config, Instance};
use hypergolix_node::lock::{self, HomeLock, LockError};
use hypergolix_node::login;
use hypergolix_node::node;
use hypergolix_node::paths::{self, Home};
use hypergolix_node::run::OsEntropy;
use hypergolix_node::shutdown::Signals;
use hypergolix_node::store::Store;
use hypergolix_node::{Node, NodeError, Unlocked, telemetry};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use zeroize::Zeroizing;

use super::{StartArgs, detach, note, password, say};

/// Threads of the runtime beside the engine's: one for applications and one for the network.
const WORKERS: usize = 2;

/// Threads for what blocks; scrypt is one of them, looking up who connects the others.
const BLOCKING_MAX: usize = 8;

/// Opening a store that takes longer than this deserves a word.
const SLOW: Duration = Duration::from_secs(2);

/// How often something slow says that it goes on.
const PROGRESS: Duration = Duration::from_secs(2);

/// Starts the daemon.
pub fn run(args: StartArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    let user_id = match &args.user_id {
        Some(text) => Some(text.parse::<Ghid>().map_err(|error| {
            anyhow!(
                "the user id {text:?} is none: {error}; 'hypergolix config --whoami' shows yours"
            )
        })?),
        None => None,
    };
    paths::set_private_umask();
    let home = Home::from_env()?;
    if args.foreground {
        if args.detached {
            // Fails only if we lead a session already, which is as good.
            let _ = rustix::process::setsid();
        }
        foreground(&home, &args, user_id, started)
    } else {
        background(&home, &args)
    }
}

/// Starts itself as a child without a terminal, gives it the password through a pipe, and passes
/// on what it says until it is ready.
fn background(home: &Home, args: &StartArgs) -> anyhow::Result<()> {
    home.prepare()?;
    let config = Config::load(&home.config())?;
    if let Some(running) = lock::running(home)? {
        let home = home.path().display().to_string();
        return Err(LockError::Held { home, running: Some(running) }.into());
    }
    let new = !has_account(home, &config)?;
    if new && args.recovery_key && args.user_id.is_none() {
        bail!(NO_USER_ID);
    }
    let password = password::read(args.password_file.as_deref(), kind(args, new))?;

    let mut command = detach::myself()?;
    command.args(["start", "app", "--foreground", "--detached"]);
    if let Some(suite) = args.suite {
        command.args(["--suite", &suite.code().to_string()]);
    }
    if let Some(id) = &args.user_id {
        command.args(["--user-id", id]);
    }
    if args.recovery_key {
        command.arg("--recovery-key");
    }
    if let Some(port) = args.ipc_port {
        command.args(["--ipc-port", &port.to_string()]);
    }
    command.env(paths::HOME_VARIABLE, home.path()).current_dir(home.path());
    // Warnings about the password were given here already.
    detach::until_ready(command, Some(&password), Some("warning: a password of"))
}

fn kind(args: &StartArgs, new: bool) -> password::Kind {
    if args.recovery_key {
        password::Kind::Recovery
    } else if new && args.user_id.is_none() {
        password::Kind::New
    } else {
        password::Kind::Known
    }
}

const NO_USER_ID: &str = "there is no account in this home; say which one the recovery key opens with \
    --user-id ID";

/// Whether a start needs a password that exists, or a new one.
fn has_account(home: &Home, config: &Config) -> anyhow::Result<bool> {
    if !home.store().exists() {
        refuse_without_store(home, config)?;
        return Ok(false);
    }
    if config.instance.is_some() {
        return Ok(true);
    }
    let store = Unlocked::open_store(home, config)?;
    Ok(account::summary(&store.snapshot()?)?.is_some())
}

/// A home that had an account and lost it is not quietly given another.
pub(super) fn refuse_without_store(home: &Home, config: &Config) -> anyhow::Result<()> {
    let Some(lost) = config.instance else { return Ok(()) };
    bail!(
        "the account of this home is missing: {} says that it is the user id {}, but {} does not \
         hold it; restore a backup with 'hypergolix account import FILE', or move both away to create \
         another account",
        home.config().display(),
        lost.user_id,
        home.store().display()
    )
}

fn foreground(
    home: &Home,
    args: &StartArgs,
    user_id: Option<Ghid>,
    started: Instant,
) -> anyhow::Result<()> {
    protect_memory();
    home.prepare()?;
    let config = Config::load(&home.config())?;
    let mut home_lock = HomeLock::acquire(home)?;
    let _telemetry = telemetry::start(&home.logs(), config.verbosity, config.debug)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "starting");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_MAX)
        .thread_name("node")
        .enable_all()
        .build()
        .map_err(|error| anyhow!("the system gives no threads: {error}"))?;
    let outcome = runtime.block_on(serve(home, config, args, user_id, &mut home_lock, started));
    // Nothing that matters is left; what still blocks must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(200));
    if let Err(error) = &outcome {
        tracing::error!(%error, "ended");
    }
    outcome
}

async fn serve(
    home: &Home,
    config: Config,
    args: &StartArgs,
    user_id: Option<Ghid>,
    home_lock: &mut HomeLock,
    started: Instant,
) -> anyhow::Result<()> {
    let mut signals = Signals::listen(args.detached)?;
    let node = tokio::select! {
        node = get_ready(home, config, args, user_id, home_lock, started) => node?,
        signal = signals.received() => bail!("ended by {signal} before it was ready"),
    };
    node.run_until(async {
        let signal = signals.received().await;
        tracing::info!(signal, "stopping");
    })
    .await?;
    tracing::info!("stopped");
    Ok(())
}

/// Everything up to the ready line. Whenever it is dropped or fails, what is on the disk is sound.
async fn get_ready(
    home: &Home,
    mut config: Config,
    args: &StartArgs,
    user_id: Option<Ghid>,
    home_lock: &mut HomeLock,
    started: Instant,
) -> anyhow::Result<Node> {
    // Nothing is created before there is a password for it.
    let (store, summary) = if home.store().exists() {
        let store = open_store(home, &config).await?;
        let summary = account::summary(&store.snapshot()?)?;
        (Some(store), summary)
    } else {
        (None, None)
    };
    if summary.is_none() {
        refuse_without_store(home, &config)?;
    }
    match (user_id, summary) {
        (Some(asked), Some(found)) if asked != found.user_id => bail!(
            "this home belongs to the user id {}; choose another home with {}",
            found.user_id,
            paths::HOME_VARIABLE
        ),
        _ => {}
    }
    let kind = kind(args, summary.is_none());
    if summary.is_none() && args.recovery_key && user_id.is_none() {
        bail!(NO_USER_ID);
    }
    let file = args.password_file.clone();
    let password =
        tokio::task::spawn_blocking(move || password::read(file.as_deref(), kind)).await??;

    let port = args.ipc_port.unwrap_or(config.ipc_port);
    let settings = ServerConfig {
        allowed_origins: config.allowed_origins.clone(),
        ..ServerConfig::on_port(port)
    };
    let server = Server::bind(settings).await.map_err(|error| port_error(&error))?;

    let joining = match (user_id, summary) {
        (Some(user_id), None) => Some(log_in(home, &config, user_id, &password, kind).await?),
        _ => None,
    };
    if let Some((account, _)) = &joining {
        check_suite(args.suite, account.suite())?;
    }
    let store = match store {
        Some(store) => store,
        None => open_store(home, &config).await?,
    };
    let suite = args.suite.unwrap_or(Suite::Suite3);
    let (unlocked, recovery) = match joining {
        Some((account, writes)) => (Unlocked::join(store, home, account, &writes)?, None),
        None => unlock(home, store, password, kind, suite).await?,
    };
    check_suite(args.suite, unlocked.suite())?;
    let instance = Instance { user_id: unlocked.user_id(), fingerprint: unlocked.fingerprint() };
    // Others may have changed the file since it was read.
    let path = home.config();
    let changed = move || Config::change(&path, |config| config.instance = Some(instance));
    let (_, now) = tokio::task::spawn_blocking(changed).await??;
    (config.peers, config.remotes) = (now.peers, now.remotes);
    config.instance = now.instance;
    if let Some(recovery) = recovery {
        introduce(&instance, &recovery);
    }

    let ipc_port = server.port();
    let node = Node::start(home.clone(), config, unlocked, server, started).await?;
    home_lock.set_ipc_port(ipc_port)?;
    say(format_args!(
        "ready fingerprint={} user-id={} ipc-port={ipc_port} pid={}",
        instance.fingerprint,
        instance.user_id,
        std::process::id()
    ));
    tracing::info!(ipc_port, fingerprint = %instance.fingerprint.short(), "ready");
    Ok(node)
}

/// An account has the suite that it was made with.
fn check_suite(asked: Option<Suite>, found: Suite) -> anyhow::Result<()> {
    if asked.is_some_and(|asked| asked != found) {
        bail!(
            "the account is of suite {}, which stays as it is; leave --suite out, or choose another \
             home with {} for another account",
            found.code(),
            paths::HOME_VARIABLE
        );
    }
    Ok(())
}

/// Fetches the account from whoever has it, and opens it. Nothing is written before it is open.
async fn log_in(
    home: &Home,
    config: &Config,
    user_id: Ghid,
    password: &Zeroizing<String>,
    kind: password::Kind,
) -> anyhow::Result<(Account, Vec<Write>)> {
    let targets = config.targets();
    if !config.lan && targets.remotes.is_empty() && targets.peers.is_empty() {
        bail!(
            "there is no account in this home, and nobody to ask for it: name a server with \
             'hypergolix config --addhost', or look on the local network with 'hypergolix config --lan'"
        );
    }
    note("looking for the account on the local network and on the configured servers …");
    // A server that is added meanwhile is asked, too. A file that is wrong is named in the end.
    let targets = || Config::load(&home.config()).ok().map(|config| config.targets());
    let root = login::fetch_root(node::network_config(home, config)?, user_id, targets).await?;
    let password = password.clone();
    let joined = tokio::task::spawn_blocking(move || match kind {
        password::Kind::Recovery => {
            let key = RecoveryKey::from_text(&password).ok_or(UnlockError::WrongPassword)?;
            account::join_with_recovery_key(&user_id, &root, &key, &mut OsEntropy)
        }
        password::Kind::Known | password::Kind::New | password::Kind::Replacement => {
            account::join(&user_id, &root, &password, &mut OsEntropy)
        }
    })
    .await?;
    joined.map_err(|error| match error {
        UnlockError::WrongPassword => {
            anyhow!("wrong {}; start again with the right one", kind.name())
        }
        other => anyhow!("the account cannot be opened: {other}"),
    })
}

async fn open_store(home: &Home, config: &Config) -> anyhow::Result<Store> {
    let (home, config) = (home.clone(), config.clone());
    let mut opening = tokio::task::spawn_blocking(move || Unlocked::open_store(&home, &config));
    let opened = if let Ok(opened) = tokio::time::timeout(SLOW, &mut opening).await {
        opened
    } else {
        note("checking the store, about a second for each gigabyte …");
        opening.await
    };
    Ok(opened??)
}

/// scrypt takes half a second and 128 MiB, on a thread of its own.
async fn unlock(
    home: &Home,
    store: Store,
    password: Zeroizing<String>,
    kind: password::Kind,
    suite: Suite,
) -> anyhow::Result<(Unlocked, Option<RecoveryKey>)> {
    let home = home.clone();
    let mut unlocking = tokio::task::spawn_blocking(move || match kind {
        password::Kind::New => {
            let made = Unlocked::create(store, &home, &password, suite);
            made.map(|(unlocked, recovery)| (unlocked, Some(recovery)))
        }
        password::Kind::Known | password::Kind::Replacement => {
            Ok((Unlocked::unlock(store, &home, &password)?, None))
        }
        password::Kind::Recovery => {
            // What is no key at all opens as little as a wrong one.
            let key = RecoveryKey::from_text(&password)
                .ok_or(NodeError::Unlock(UnlockError::WrongPassword))?;
            Ok((Unlocked::recover(store, &home, &key)?, None))
        }
    });
    let makes_rsa_keys = matches!((kind, suite), (password::Kind::New, Suite::Suite1));
    let unlocked = if makes_rsa_keys {
        // Nobody can say how long: the search for primes ends when it finds them.
        note("making two RSA keys of 4,096 bits; this takes some seconds …");
        let begun = Instant::now();
        loop {
            match tokio::time::timeout(PROGRESS, &mut unlocking).await {
                Ok(unlocked) => break unlocked?,
                Err(_) => {
                    note(format_args!("  still searching, {} s …", begun.elapsed().as_secs()));
                }
            }
        }
    } else {
        unlocking.await?
    };
    unlocked.map_err(|error| match error {
        NodeError::Create(reason) => anyhow!("{reason}; nothing was created, start again"),
        NodeError::Unlock(UnlockError::WrongPassword) => {
            anyhow!("wrong {}; start again with the right one", kind.name())
        }
        NodeError::Unlock(reason @ UnlockError::Damaged(_)) => {
            anyhow!("{reason}; the password may be right; restore the home from a backup")
        }
        NodeError::Unlock(reason @ UnlockError::HostileParameters) => {
            anyhow!("{reason}; it was not made by Hypergolix, restore the home from a backup")
        }
        other => other.into(),
    })
}

/// Says once what only now can be said.
pub fn introduce(instance: &Instance, recovery: &RecoveryKey) {
    note("A new account was created.");
    note(format_args!("  fingerprint   {}", instance.fingerprint));
    note("                (others share with it; not a secret)");
    note(format_args!("  user id       {}", instance.user_id));
    note("                (names the account; keep it with your password)");
    note(format_args!("  recovery key  {}", *recovery.to_text()));
    note(
        "                (opens the account without the password, with: start app --recovery-key;",
    );
    note("                shown only this once: write it down, keep it away from this computer)");
}

fn port_error(error: &BindError) -> anyhow::Error {
    match error {
        BindError::InUse { port, owner } => {
            let owner = owner.as_ref().map_or_else(String::new, |owner| format!(" by {owner}"));
            anyhow!(
                "port {port} is in use{owner}; stop that program, or choose another port with \
                 'hypergolix config --ipc-port PORT'"
            )
        }
        BindError::Denied { port } => anyhow!(
            "port {port} is reserved by the system; choose one above 1023 with \
             'hypergolix config --ipc-port PORT'"
        ),
        other => anyhow!("{other}"),
    }
}

/// No core dumps and no debuggers of other processes: they would contain every key. A system that
/// refuses is no reason not to start.
fn protect_memory() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(Resource::Core, none);
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
