//! `hypergolix config`.

use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use clap::CommandFactory;
use clap::error::ErrorKind;
use data_encoding::HEXLOWER;
use hypergolix_engine::account;
use hypergolix_node::config::{Config, HGX, Instance, Remote};
use hypergolix_node::control::{self, Order};
use hypergolix_node::paths::Home;
use hypergolix_node::{Unlocked, lock, paths};
use libp2p::PeerId;
use serde_json::json;

use super::{Cli, ConfigArgs, Listen, Named, Only, note, say};

/// How long registering waits for a server to be connected.
const CONNECTING: Duration = Duration::from_secs(5);

/// Shows or changes the configuration.
pub fn run(args: ConfigArgs) -> anyhow::Result<()> {
    let changes = Changes::check(&args);
    paths::set_private_umask();
    let home = Home::from_env()?;
    if args.changes_something() {
        home.prepare()?;
    } else if home.exists() {
        home.check()?;
    }
    let config = if args.changes_something() {
        let (before, config) =
            Config::change(&home.config(), |config| changes.apply(&args, config))?;
        if config != before && lock::running(&home)?.is_some() {
            let told = control::ask(&home.control(), &Order::Reload);
            if told.is_err() || config.differs_in_what_takes_a_restart(&before) {
                note("note: Hypergolix is running; stop and start it to use the new configuration");
            }
        }
        config
    } else {
        Config::load(&home.config())?
    };
    if args.register {
        register(&home, &config, args.token.clone())?;
    }
    if args.whoami {
        whoami(&home, &config, args.json)?;
    }
    if args.show || (!args.whoami && !args.register && (args.json || !args.changes_something())) {
        if args.json {
            say(serde_json::to_string_pretty(&config)?);
        } else {
            say(readable(&home, &config));
        }
    }
    Ok(())
}

impl ConfigArgs {
    fn changes_something(&self) -> bool {
        self.only.is_some()
            || !(self.add.is_empty() && self.remove.is_empty())
            || !(self.addhost.is_empty() && self.removehost.is_empty())
            || !(self.addpeer.is_empty() && self.removepeer.is_empty())
            || self.lan
            || self.no_lan
            || !self.listen.is_empty()
            || self.dht
            || self.no_dht
            || self.debug
            || self.no_debug
            || self.verbosity.is_some()
            || self.ipc_port.is_some()
    }
}

/// What clap cannot check by itself.
struct Changes {
    add: Vec<Remote>,
    remove: Vec<(String, u16)>,
}

impl Changes {
    /// Ends the process with status 2 if an argument makes no sense.
    fn check(args: &ConfigArgs) -> Self {
        let add = args.addhost.chunks_exact(3).map(|words| {
            let remote = Remote {
                host: words[0].clone(),
                port: port("--addhost", &words[1]),
                tls: truth(&words[2]),
            };
            remote.check().unwrap_or_else(|reason| refuse(format!("--addhost: {reason}")));
            remote
        });
        let remove = args
            .removehost
            .chunks_exact(2)
            .map(|words| (words[0].clone(), port("--removehost", &words[1])));
        Self { add: add.collect(), remove: remove.collect() }
    }

    fn apply(&self, args: &ConfigArgs, config: &mut Config) {
        match args.only {
            Some(Only::Local) => config.remotes.clear(),
            Some(Only::Hgx) => config.remotes = config.named(HGX),
            None => {}
        }
        for Named::Hgx in &args.add {
            for remote in config.named(HGX) {
                config.add_remote(remote);
            }
        }
        for Named::Hgx in &args.remove {
            for remote in config.named(HGX) {
                config.remove_remote(&remote.host, remote.port);
            }
        }
        for remote in &self.add {
            config.add_remote(remote.clone());
        }
        for (host, port) in &self.remove {
            if !config.remove_remote(host, *port) {
                note(format_args!("note: {host} {port} was no remote"));
            }
        }
        for peer in &args.addpeer {
            if !config.peers.contains(peer) {
                config.peers.push(peer.clone());
            }
        }
        for peer in &args.removepeer {
            let before = config.peers.len();
            config.peers.retain(|other| other != peer);
            if config.peers.len() == before {
                note(format_args!("note: {peer} was not configured"));
            }
        }
        let switch = |setting: &mut bool, on: bool, off: bool| *setting = (*setting || on) && !off;
        switch(&mut config.lan, args.lan, args.no_lan);
        if !args.listen.is_empty() {
            config.listen = args
                .listen
                .iter()
                .filter_map(|listen| match listen {
                    Listen::Any => None,
                    Listen::On(address) => Some(*address),
                })
                .collect();
        }
        switch(&mut config.dht, args.dht, args.no_dht);
        switch(&mut config.debug, args.debug, args.no_debug);
        config.verbosity = args.verbosity.unwrap_or(config.verbosity);
        config.ipc_port = args.ipc_port.unwrap_or(config.ipc_port);
    }
}

fn port(flag: &str, text: &str) -> u16 {
    text.parse().unwrap_or_else(|_| {
        refuse(format!("{flag}: {text:?} is not a port; a port is a number from 1 to 65535"))
    })
}

fn truth(text: &str) -> bool {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => true,
        "false" | "f" | "no" | "n" | "0" => false,
        _ => refuse(format!("--addhost: TLS has to be True or False, not {text:?}")),
    }
}

fn refuse(reason: String) -> ! {
    let mut command = Cli::command();
    command.build();
    let config = command.find_subcommand_mut("config").expect("it is defined in Command");
    config.error(ErrorKind::ValueValidation, reason).exit()
}

fn whoami(home: &Home, config: &Config, as_json: bool) -> anyhow::Result<()> {
    let Some(instance) = instance(home, config)? else {
        bail!(
            "there is no account in {} yet; 'hypergolix start app' creates one",
            home.path().display()
        );
    };
    let Instance { user_id, fingerprint } = instance;
    if as_json {
        let facts = json!({
            "fingerprint": fingerprint.to_string(),
            "user_id": user_id.to_string(),
        });
        say(serde_json::to_string_pretty(&facts)?);
    } else {
        say(format_args!("fingerprint  {fingerprint}\nuser id      {user_id}"));
    }
    Ok(())
}

/// Asks every connected remote to register this account, and says what each answered.
fn register(home: &Home, config: &Config, token: Option<String>) -> anyhow::Result<()> {
    if config.remotes.is_empty() {
        bail!(
            "there is no server to register with; add one with 'hypergolix config --addhost HOST \
             PORT TLS'"
        );
    }
    if lock::running(home)?.is_none() {
        bail!("Hypergolix is not running; start it with 'hypergolix start app', then register");
    }
    let ask = |order| control::ask(&home.control(), &order).map_err(|text| anyhow!(text));
    // A daemon that has just been started, or told of a remote, may still be connecting.
    let asked = Instant::now();
    let answers = loop {
        match ask(Order::Register { token: token.clone() }) {
            Err(_) if asked.elapsed() < CONNECTING => std::thread::sleep(CONNECTING / 10),
            answers => break answers?,
        }
    };
    let status = ask(Order::Status)?;
    let mut registered = false;
    for answer in answers.as_array().map(Vec::as_slice).unwrap_or_default() {
        let bytes = HEXLOWER.decode(answer["device"].as_str().unwrap_or_default().as_bytes());
        let peer = bytes.ok().and_then(|bytes| PeerId::from_bytes(&bytes).ok());
        let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
        let remotes = status["remotes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let name = remotes.iter().find(|remote| remote["peer_id"].as_str() == Some(&peer));
        let name = name.and_then(|remote| remote["remote"].as_str()).unwrap_or(&peer);
        say(format_args!("{name}: {}", answer["answer"].as_str().unwrap_or("no answer")));
        registered |= answer["registered"] == true;
    }
    if !registered {
        bail!("no server registered this account");
    }
    Ok(())
}

/// The config's record, or the store's where a config was lost.
fn instance(home: &Home, config: &Config) -> anyhow::Result<Option<Instance>> {
    if config.instance.is_some() || !home.store().exists() {
        return Ok(config.instance);
    }
    if let Some(running) = lock::running(home)? {
        bail!("Hypergolix is running (process {}); ask 'hypergolix status'", running.pid);
    }
    let store = Unlocked::open_store(home, config)?;
    let summary = account::summary(&store.snapshot()?)?;
    Ok(summary.map(|found| Instance { user_id: found.user_id, fingerprint: found.fingerprint }))
}

fn readable(home: &Home, config: &Config) -> String {
    let yes = |is: bool| if is { "yes" } else { "no" };
    let list = |items: Vec<String>| {
        if items.is_empty() { "none".to_owned() } else { items.join("\n             ") }
    };
    let word = |value: serde_json::Result<serde_json::Value>| {
        value.ok().and_then(|value| Some(value.as_str()?.to_owned())).unwrap_or_default()
    };
    let mut lines = vec![
        format!("file         {}", home.config().display()),
        format!("ipc port     {}", config.ipc_port),
        format!("remotes      {}", list(config.remotes.iter().map(ToString::to_string).collect())),
        format!("peers        {}", list(config.peers.iter().map(ToString::to_string).collect())),
        format!("lan          {}", yes(config.lan)),
        format!("listen       {}", listens(config)),
        format!("dht          {}", yes(config.dht)),
        format!("verbosity    {}", word(serde_json::to_value(config.verbosity))),
        format!("debug        {}", yes(config.debug)),
        format!("durability   {}", word(serde_json::to_value(config.durability))),
    ];
    if !config.allowed_origins.is_empty() {
        lines.push(format!("origins      {}", list(config.allowed_origins.clone())));
    }
    match config.instance {
        Some(instance) => {
            lines.push(format!("fingerprint  {}", instance.fingerprint));
            lines.push(format!("user id      {}", instance.user_id));
        }
        None => lines.push("account      none yet; 'hypergolix start app' creates one".to_owned()),
    }
    lines.join("\n")
}

fn listens(config: &Config) -> String {
    if config.listen.is_empty() {
        return "ANY".to_owned();
    }
    config.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
