//! `hypergolix start server` and `hypergolix server`.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::CommandFactory;
use clap::error::ErrorKind;
use hypergolix_engine::PersisterConfig;
use hypergolix_engine::persister::{Policy, Quota};
use hypergolix_node::config::Verbosity;
use hypergolix_node::control::{self, Order};
use hypergolix_node::lock::{self, PidLock};
use hypergolix_node::network::{Certificate, RelayLimits};
use hypergolix_node::paths::Home;
use hypergolix_node::server::{CONNECTIONS_IN, Server, ServerOptions, control_path};
use hypergolix_node::shutdown::Signals;
use hypergolix_node::{paths, telemetry};
use libp2p::multiaddr::Protocol;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::Value;

use super::{Cli, PolicyName, ServerCommand, StartServerArgs, detach, say, status};

/// Threads of the runtime beside the loop's.
const WORKERS: usize = 2;

/// Starts a server.
pub fn start(args: StartServerArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    paths::set_private_umask();
    if args.tls_port == Some(args.port) {
        refuse(format!(
            "--tls-port {0}: that is what --port is for already; secure websockets need another port",
            args.port
        ));
    }
    let args = args.absolute()?;
    for mirror in &args.mirror {
        if !matches!(mirror.iter().last(), Some(Protocol::P2p(_))) {
            bail!(
                "--mirror {mirror}: the address has to end with /p2p/ and the peer id of the other \
                 server, which it prints when it is ready"
            );
        }
    }
    let control = control_path(&args.pidfile);
    if let Err(error) = SocketAddr::from_pathname(&control) {
        bail!(
            "the pid file {} cannot be used: the name of the socket beside it, {}, is too long or no \
             name ({error}); choose a shorter one",
            args.pidfile.display(),
            control.display()
        );
    }
    if args.foreground {
        if args.detached {
            // Fails only if we lead a session already, which is as good.
            let _ = rustix::process::setsid();
        }
        foreground(&args, started)
    } else {
        background(&args)
    }
}

fn refuse(reason: String) -> ! {
    let mut command = Cli::command();
    command.build();
    let start = command.find_subcommand_mut("start").expect("it is defined in Command");
    let server = start.find_subcommand_mut("server").expect("it is defined in Start");
    server.error(ErrorKind::ValueValidation, reason).exit()
}

fn background(args: &StartServerArgs) -> anyhow::Result<()> {
    let mut command = detach::myself()?;
    command.args(["start", "server"]).arg(&args.pidfile).args(["--foreground", "--detached"]);
    for (option, value) in
        [("--cachedir", &args.cachedir), ("--chdir", &args.chdir), ("--logdir", &args.logdir)]
    {
        if let Some(value) = value {
            command.arg(option).arg(value);
        }
    }
    command.args(["--host", &args.host, "--port", &args.port.to_string()]);
    if let Some(port) = args.tls_port {
        command.args(["--tls-port", &port.to_string()]);
    }
    for (option, path) in [("--tls-cert", &args.tls_cert), ("--tls-key", &args.tls_key)] {
        if let Some(path) = path {
            command.arg(option).arg(path);
        }
    }
    if args.debug {
        command.arg("--debug");
    }
    if args.traceur {
        command.arg("--traceur");
    }
    if let Some(verbosity) = args.verbosity {
        let value = clap::ValueEnum::to_possible_value(&verbosity);
        let value = value.ok_or_else(|| anyhow!("a verbosity without a name"))?;
        command.args(["--verbosity", value.get_name()]);
    }
    for mirror in &args.mirror {
        command.args(["--mirror", &mirror.to_string()]);
    }
    for peer in &args.addpeer {
        command.args(["--addpeer", &peer.to_string()]);
    }
    if args.no_gossip {
        command.arg("--no-gossip");
    }
    let policy = clap::ValueEnum::to_possible_value(&args.policy);
    let policy = policy.ok_or_else(|| anyhow!("a policy without a name"))?;
    command.args(["--policy", policy.get_name()]);
    for (option, value) in [
        ("--quota-bytes", args.quota_bytes),
        ("--quota-objects", args.quota_objects),
        ("--free-bytes", args.free_bytes),
        ("--connections", args.connections.map(u64::from)),
        ("--relay-circuits", args.relay_circuits),
        ("--relay-bytes", args.relay_bytes),
        ("--relay-minutes", args.relay_minutes),
    ] {
        if let Some(value) = value {
            command.args([option, &value.to_string()]);
        }
    }
    detach::until_ready(command, None, None)
}

impl StartServerArgs {
    /// Paths as they are meant where the command was given.
    fn absolute(mut self) -> anyhow::Result<Self> {
        self.pidfile = std::path::absolute(&self.pidfile)?;
        let paths = [
            &mut self.cachedir,
            &mut self.chdir,
            &mut self.logdir,
            &mut self.tls_cert,
            &mut self.tls_key,
        ];
        for path in paths.into_iter().flatten() {
            *path = std::path::absolute(&*path)?;
        }
        Ok(self)
    }

    fn verbosity(&self) -> Verbosity {
        match (self.verbosity, self.traceur, self.debug) {
            (Some(verbosity), ..) => verbosity,
            (None, true, _) => Verbosity::Extreme,
            (None, false, true) => Verbosity::Louder,
            (None, false, false) => Verbosity::Normal,
        }
    }

    fn websocket(&self) -> anyhow::Result<Option<(u16, Certificate)>> {
        let Some(port) = self.tls_port else { return Ok(None) };
        let certificate = match (&self.tls_cert, &self.tls_key) {
            (Some(chain), Some(key)) => Certificate::load(chain, key)?,
            _ => Certificate::self_signed()?,
        };
        Ok(Some((port, certificate)))
    }

    fn relay(&self) -> RelayLimits {
        let usual = RelayLimits::default();
        let circuits = self.relay_circuits.and_then(|count| usize::try_from(count).ok());
        let duration = self.relay_minutes.map(|minutes| Duration::from_secs(60 * minutes));
        RelayLimits {
            circuits: circuits.unwrap_or(usual.circuits),
            bytes: self.relay_bytes.unwrap_or(usual.bytes),
            duration: duration.unwrap_or(usual.duration),
            ..usual
        }
    }

    fn persister(&self) -> PersisterConfig {
        let mut config = PersisterConfig::default();
        config.policy = match self.policy {
            PolicyName::Open => Policy::Open,
            PolicyName::Registered => Policy::Registered,
            PolicyName::Invited => Policy::Invited,
        };
        config.registered = Quota {
            bytes: self.quota_bytes.unwrap_or(Quota::REGISTERED.bytes),
            objects: self.quota_objects.unwrap_or(Quota::REGISTERED.objects),
        };
        config.unregistered = Quota {
            bytes: self
                .free_bytes
                .unwrap_or(Quota::UNREGISTERED.bytes)
                .min(config.registered.bytes),
            objects: Quota::UNREGISTERED.objects.min(config.registered.objects),
        };
        config
    }
}

fn foreground(args: &StartServerArgs, started: Instant) -> anyhow::Result<()> {
    if let Some(folder) = &args.cachedir {
        refuse_homes(folder)?;
    }
    let _lock = PidLock::acquire(&args.pidfile)?;
    for folder in [&args.cachedir, &args.logdir].into_iter().flatten() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    }
    let _telemetry = match &args.logdir {
        Some(folder) => {
            Some(telemetry::start(folder, args.verbosity(), args.debug || args.traceur)?)
        }
        None => None,
    };
    if let Some(folder) = &args.chdir {
        std::env::set_current_dir(folder)
            .with_context(|| format!("the folder {} cannot be entered", folder.display()))?;
    }
    raise_file_limit();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "starting");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("server")
        .enable_all()
        .build()
        .map_err(|error| anyhow!("the system gives no threads: {error}"))?;
    let outcome = runtime.block_on(serve(args, started));
    // Nothing that matters is left; what still blocks must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(200));
    if let Err(error) = &outcome {
        tracing::error!(%error, "ended");
    }
    outcome
}

/// The store of an app is no cache of a server.
fn refuse_homes(folder: &Path) -> anyhow::Result<()> {
    if Home::at(folder).config().exists() {
        bail!(
            "--cachedir {}: that is the home of a user, with their account; choose another folder",
            folder.display()
        );
    }
    Ok(())
}

async fn serve(args: &StartServerArgs, started: Instant) -> anyhow::Result<()> {
    let mut signals = Signals::listen(args.detached)?;
    let hosts = hosts(&args.host)?;
    let cache = args.cachedir.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let store = Server::open_store(cache.as_deref())?;
        anyhow::Ok((store, Server::device_key(cache.as_deref())?))
    });
    let (store, key) = tokio::select! {
        opened = opened => opened??,
        signal = signals.received() => bail!("ended by {signal} before it was ready"),
    };
    let options = ServerOptions {
        cache: args.cachedir.clone(),
        hosts,
        port: args.port,
        websocket: args.websocket()?,
        mirrors: args.mirror.clone(),
        peers: args.addpeer.clone(),
        gossip: !args.no_gossip,
        persister: args.persister(),
        connections: args.connections.unwrap_or(CONNECTIONS_IN),
        relay: args.relay(),
    };
    let control = control_path(&args.pidfile);
    let server = Server::start(options, store, key, &control, started).await?;
    let addresses: Vec<String> = server.addresses().await.iter().map(ToString::to_string).collect();
    say(format_args!(
        "ready peer-id={} addresses={} pid={}",
        server.peer_id(),
        addresses.join(","),
        std::process::id()
    ));
    tracing::info!(addresses = addresses.join(","), "ready");
    server
        .run_until(async {
            let signal = signals.received().await;
            tracing::info!(signal, "stopping");
        })
        .await?;
    tracing::info!("stopped");
    Ok(())
}

/// A link is a file, and a server has many.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// The addresses behind `--host`; none means all.
fn hosts(host: &str) -> anyhow::Result<Vec<IpAddr>> {
    if host.eq_ignore_ascii_case("any") {
        return Ok(Vec::new());
    }
    if host.eq_ignore_ascii_case("auto") {
        return Ok(vec![default_address()?]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let found: Vec<IpAddr> = (host, 0)
        .to_socket_addrs()
        .map_err(|error| anyhow!("--host {host}: no such address: {error}"))?
        .map(|address| address.ip())
        .collect();
    Ok(found)
}

/// The address of the interface that the default route goes through. Connecting a datagram socket
/// asks the system for the route and sends nothing.
fn default_address() -> anyhow::Result<IpAddr> {
    let routes: [(IpAddr, IpAddr); 2] = [
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    ];
    for (from, to) in routes {
        let address = UdpSocket::bind((from, 0))
            .and_then(|socket| socket.connect((to, 9)).and_then(|()| socket.local_addr()));
        if let Ok(address) = address
            && !address.ip().is_loopback()
            && !address.ip().is_unspecified()
        {
            return Ok(address.ip());
        }
    }
    // Without a default route, the one interface that there is.
    if_addrs::get_if_addrs()
        .unwrap_or_default()
        .into_iter()
        .map(|interface| interface.ip())
        .find(|ip| !ip.is_loopback() && ip.is_ipv4())
        .ok_or_else(|| anyhow!("--host AUTO: this computer has no address; name one, or use ANY"))
}

/// Orders of the operator.
pub fn run(command: ServerCommand) -> anyhow::Result<()> {
    match command {
        ServerCommand::Users { pidfile, json } => {
            let users = users(&pidfile)?;
            if json {
                say(serde_json::to_string_pretty(&users)?);
            } else {
                if users.is_empty() {
                    say("nobody has stored anything yet");
                }
                for user in &users {
                    say(readable(user));
                }
            }
        }
        ServerCommand::Status { pidfile, json } => {
            let said = ask(&pidfile, &Order::Status)?;
            say(if json { serde_json::to_string_pretty(&said)? } else { doing(&said) });
        }
        ServerCommand::Register { pidfile, fingerprint: None, .. } => {
            let made = ask(&pidfile, &Order::Invite)?;
            say(made["token"].as_str().unwrap_or_default());
        }
        ServerCommand::Register { pidfile, fingerprint: Some(identity), undo } => {
            say(readable(&ask(&pidfile, &Order::Admit { identity, registered: !undo })?));
        }
        ServerCommand::Quota { pidfile, fingerprint: identity, bytes, objects } => {
            say(readable(&ask(&pidfile, &Order::Quota { identity, bytes, objects })?));
        }
        ServerCommand::Ban { pidfile, fingerprint: identity, undo } => {
            say(readable(&ask(&pidfile, &Order::Ban { identity, banned: !undo })?));
        }
    }
    Ok(())
}

/// All users, page by page.
fn users(pidfile: &Path) -> anyhow::Result<Vec<Value>> {
    let mut users: Vec<Value> = Vec::new();
    loop {
        let after = users.last().and_then(|user| user["identity"].as_str()).map(str::to_owned);
        match ask(pidfile, &Order::Users { after })? {
            Value::Array(page) if !page.is_empty() => users.extend(page),
            _ => return Ok(users),
        }
    }
}

/// How a server is doing, for people.
fn doing(figures: &Value) -> String {
    let number = |key: &str| figures[key].as_u64().unwrap_or_default();
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // A string takes everything.
        let _ = writeln!(out, "{name:<13} {value}");
    };
    line("running", status::running(figures));
    line("device", figures["peer_id"].as_str().unwrap_or("-").to_owned());
    line("links", format!("{} devices connected", number("links")));
    line(
        "stores",
        format!(
            "{} live objects, {} deletions, {} requests in mailboxes",
            number("objects"),
            number("debindings"),
            number("requests_waiting")
        ),
    );
    line("storage", status::storage(figures, "only deletions are taken"));
    for (key, name) in [("mirrors", "mirrors"), ("peers", "peers")] {
        for (index, server) in figures[key].as_array().into_iter().flatten().enumerate() {
            let address = server["address"].as_str().unwrap_or("-");
            let state = match server["connected_seconds"].as_u64() {
                Some(since) => format!("connected for {}", status::duration(since)),
                None => "NOT CONNECTED".to_owned(),
            };
            line(if index == 0 { name } else { "" }, format!("{address}: {state}"));
        }
    }
    if let Some(gossip) = figures["gossip"].as_object() {
        let figure = |name: &str| gossip.get(name).and_then(Value::as_u64).unwrap_or_default();
        line(
            "announcements",
            format!(
                "{} servers to exchange them with, {} made, {} heard, {} objects fetched",
                figure("neighbours"),
                number("announced"),
                number("announcements_heard"),
                number("announced_fetched")
            ),
        );
    }
    if let Some(dht) = figures["dht"].as_object() {
        let figure = |name: &str| dht.get(name).and_then(Value::as_u64).unwrap_or_default();
        line("dht", format!("{} devices known, {} records", figure("peers"), figure("records")));
    }
    out.trim_end().to_owned()
}

fn ask(pidfile: &Path, order: &Order) -> anyhow::Result<Value> {
    let pidfile: PathBuf = std::path::absolute(pidfile)?;
    if lock::running_at(&pidfile)?.is_none() {
        bail!(
            "no server runs with the pid file {}; start it with 'hypergolix start server {}'",
            pidfile.display(),
            pidfile.display()
        );
    }
    control::ask(&control_path(&pidfile), order).map_err(|sentence| anyhow!(sentence))
}

fn readable(user: &Value) -> String {
    let number = |key: &str| user[key].as_u64().unwrap_or_default();
    let mut words = Vec::new();
    if user["registered"] == true {
        words.push("registered");
    }
    if user["banned"] == true {
        words.push("BANNED");
    }
    format!(
        "{}  {} of {} bytes, {} of {} objects{}{}",
        user["identity"].as_str().unwrap_or("-"),
        number("bytes"),
        number("bytes_max"),
        number("objects"),
        number("objects_max"),
        if words.is_empty() { "" } else { ", " },
        words.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_in_any_case() {
        for any in ["ANY", "any", "Any"] {
            assert!(hosts(any).unwrap().is_empty());
        }
        assert!(hosts("localhost").unwrap().contains(&Ipv4Addr::LOCALHOST.into()));
        assert_eq!(hosts("127.0.0.1").unwrap(), [IpAddr::from(Ipv4Addr::LOCALHOST)]);
        assert!(hosts("no.such.host.invalid").is_err());
    }
}
