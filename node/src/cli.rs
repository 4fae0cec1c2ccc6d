//! The command line: what can be said, and who does it.

mod account;
mod config;
mod demo;
mod detach;
mod object;
mod password;
mod publish;
mod server;
mod start;
mod status;
mod stop;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use golix::{Ghid, Suite};
use hypergolix_ipc::ApiId;
use hypergolix_node::config::Verbosity;
use hypergolix_node::network::is_dialled;
use libp2p::Multiaddr;

/// Shares live, encrypted objects between the programs of different computers.
#[derive(Debug, Parser)]
#[command(name = "hypergolix", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a daemon.
    #[command(subcommand)]
    Start(Start),
    /// Stop a daemon, and wait until it is gone.
    #[command(subcommand)]
    Stop(Stop),
    /// Show what the running daemon is doing.
    Status(StatusArgs),
    /// Orders for a running server, by its operator.
    #[command(subcommand)]
    Server(ServerCommand),
    /// Show or change the configuration; a running daemon takes up remotes and peers at once, and
    /// everything else when it is restarted.
    Config(ConfigArgs),
    /// Keep the future states of an object of yours from somebody it was shared with. What they have
    /// read, they have; the others whom you shared it with read on. Whom these shared it with are cut
    /// off as well, until it is shared with them again.
    Unshare(UnshareArgs),
    /// List the objects of this user, and those that others shared with this user.
    Ls(LsArgs),
    /// Write the state of an object to standard output, as it is.
    Get(GetArgs),
    /// Make an object, or give one of yours a new state. Prints its address.
    Put(PutArgs),
    /// Let somebody read an object, now and in future.
    Share(ShareArgs),
    /// Say in the distributed hash table that an object is to be had here, so that those who have its key
    /// find it when its author and their servers are gone.
    Publish(PublishArgs),
    /// Print every new state of an object; without an object, every object that is shared with this
    /// user.
    Watch(WatchArgs),
    /// Delete an object of yours, everywhere, or give up one that you hold.
    Rm(RmArgs),
    /// Manage the account of this home.
    #[command(subcommand)]
    Account(Account),
    /// Show two nodes finding each other and sharing an object, in temporary homes; needs no
    /// configuration and leaves nothing behind.
    Demo(DemoArgs),
}

#[derive(Debug, Subcommand)]
enum Start {
    /// The daemon of this user; the first start creates an account.
    App(StartArgs),
    /// A persistence server, which stores and delivers for others what it cannot read.
    Server(Box<StartServerArgs>),
}

#[derive(Debug, Subcommand)]
enum Stop {
    /// The daemon of this user.
    App,
    /// A persistence server.
    Server {
        /// The pid file that it was started with.
        pidfile: PathBuf,
    },
}

/// Who may publish at a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PolicyName {
    /// Everybody; whoever registers may store more.
    Open,
    /// Whoever registers.
    Registered,
    /// Whoever registers with a token of the operator.
    Invited,
}

/// `hypergolix start server`.
#[derive(Debug, Args)]
pub struct StartServerArgs {
    /// Where to write the process id; names the server to 'stop server' and 'server'.
    pub pidfile: PathBuf,
    /// Specify a directory to use as a persistent cache for files. If none is specified, will
    /// default to an in-memory-only cache, which is, quite obviously, rather volatile.
    #[arg(short, long)]
    pub cachedir: Option<PathBuf>,
    /// Specify the TCP host to use. AUTO determines the current local IP address and binds to
    /// that; ANY binds to all of them.
    #[arg(short = 'H', long, default_value = "localhost")]
    pub host: String,
    /// Specify the port to use, for TCP and for QUIC.
    #[arg(short, long, default_value_t = hypergolix_node::server::PORT_DEFAULT)]
    pub port: u16,
    /// Specify a port for secure websockets as well: what users add with TLS = True.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub tls_port: Option<u16>,
    /// The certificate chain for it, a PEM file. Without one it makes its own at each start.
    #[arg(long, value_name = "FILE", requires = "tls_port", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key of the certificate, a PEM file.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Once the daemon starts, chdir it into the specified full directory path.
    #[arg(long)]
    pub chdir: Option<PathBuf>,
    /// Specify a directory to use for logs. Without one nothing is logged.
    #[arg(long)]
    pub logdir: Option<PathBuf>,
    /// Enable debug mode. Sets verbosity to debug unless overridden.
    #[arg(long)]
    pub debug: bool,
    /// Enable thorough analysis: debug mode, and everything is logged unless overridden.
    #[arg(long)]
    pub traceur: bool,
    /// Specify the logging level.
    #[arg(short, long, value_name = "LEVEL")]
    pub verbosity: Option<Verbosity>,
    /// Hold the same as another server, whose address and peer id this is. Both sides say so.
    #[arg(long, value_name = "MULTIADDR", value_parser = device)]
    pub mirror: Vec<Multiaddr>,
    /// Join the distributed hash table that another server, or any device, at this address takes part
    /// in, and exchange announcements with it.
    #[arg(long, value_name = "MULTIADDR", value_parser = device)]
    pub addpeer: Vec<Multiaddr>,
    /// Neither announce to other servers what moves here, nor fetch what they announce.
    #[arg(long)]
    pub no_gossip: bool,
    /// Who may publish.
    #[arg(long, default_value = "open")]
    pub policy: PolicyName,
    /// Bytes that a registered user may store (default 1 GiB).
    #[arg(long, value_name = "N")]
    pub quota_bytes: Option<u64>,
    /// Objects that a registered user may store (default 100000).
    #[arg(long, value_name = "N")]
    pub quota_objects: Option<u64>,
    /// Bytes that any other user may store (default 10 MB).
    #[arg(long, value_name = "N")]
    pub free_bytes: Option<u64>,
    /// Connections that it accepts at one time (default 4096), half of them from one address.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(64..))]
    pub connections: Option<u32>,
    /// Connections that it relays at one time between users who cannot reach each other (default
    /// 1024; 0 for none).
    #[arg(long, value_name = "N")]
    pub relay_circuits: Option<u64>,
    /// Bytes that one of them may carry before it is made anew (default 1 GiB; 0 for no limit).
    #[arg(long, value_name = "N")]
    pub relay_bytes: Option<u64>,
    /// Minutes that one of them may last before it is made anew (default 60).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_440))]
    pub relay_minutes: Option<u64>,
    /// Stay in the foreground; print one line, `ready …`, once clients are answered.
    #[arg(long)]
    pub foreground: bool,
    /// Leave the terminal; how `start server` starts itself in the background.
    #[arg(long, hide = true, requires = "foreground")]
    pub detached: bool,
}

/// `hypergolix server`.
#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Show who stores how much.
    Users {
        /// The server's pid file.
        pidfile: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show how a server is doing.
    Status {
        /// The server's pid file.
        pidfile: PathBuf,
        /// Print JSON, with more figures.
        #[arg(long)]
        json: bool,
    },
    /// Register a user, or print a new token with which one user can register.
    Register {
        /// The server's pid file.
        pidfile: PathBuf,
        /// Whom to register; without, a token is made.
        #[arg(value_parser = fingerprint)]
        fingerprint: Option<String>,
        /// Take it back.
        #[arg(long, requires = "fingerprint")]
        undo: bool,
    },
    /// Say how much one user may store. A figure that is not given stays as it is; without figures, as
    /// much as usual.
    Quota {
        /// The server's pid file.
        pidfile: PathBuf,
        /// Whose quota.
        #[arg(value_parser = fingerprint)]
        fingerprint: String,
        /// Bytes.
        #[arg(long, value_name = "N")]
        bytes: Option<u64>,
        /// Objects.
        #[arg(long, value_name = "N")]
        objects: Option<u64>,
    },
    /// Refuse everything of a user.
    Ban {
        /// The server's pid file.
        pidfile: PathBuf,
        /// Whom to ban.
        #[arg(value_parser = fingerprint)]
        fingerprint: String,
        /// No longer.
        #[arg(long)]
        undo: bool,
    },
}

/// `hypergolix start app`.
#[derive(Debug, Args)]
pub struct StartArgs {
    /// Stay in the foreground; print one line, `ready …`, once applications are answered.
    #[arg(long)]
    pub foreground: bool,
    /// Read the password from the first line of this file.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// The secret that is read is the recovery key shown when the account was made, not the
    /// password.
    #[arg(long)]
    pub recovery_key: bool,
    /// Insist on this account.
    #[arg(long, value_name = "ID")]
    pub user_id: Option<String>,
    /// Cipher suite of a new account: 3 (Ed25519, AES-256-GCM; the default), or 1 (RSA-4096,
    /// AES-256-CTR), as the original Hypergolix has.
    #[arg(long, value_name = "N", value_parser = suite)]
    pub suite: Option<Suite>,
    /// Port for applications, this time; 0 takes any that is free.
    #[arg(long, value_name = "PORT")]
    pub ipc_port: Option<u16>,
    /// Leave the terminal; how `start app` starts itself in the background.
    #[arg(long, hide = true, requires = "foreground")]
    pub detached: bool,
}

/// An address at which a device can be dialled.
fn device(text: &str) -> Result<Multiaddr, String> {
    let address = text.parse::<Multiaddr>().map_err(|error| error.to_string())?;
    if is_dialled(&address) {
        return Ok(address);
    }
    Err("nothing can be dialled there; an address is of the form /ip4/192.0.2.1/tcp/7770, \
         /dns/example.org/udp/7770/quic-v1 or /dns/example.org/tcp/443/tls/ws, perhaps with /p2p/PEERID \
         behind it"
        .to_owned())
}

/// A user's fingerprint, as `config --whoami` prints it.
fn fingerprint(text: &str) -> Result<String, String> {
    match text.parse::<golix::Ghid>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{error}; 'hypergolix config --whoami' shows the user's")),
    }
}

fn suite(text: &str) -> Result<Suite, String> {
    let known = text.parse().ok().and_then(Suite::from_code);
    known.ok_or_else(|| "there are suites 1 and 3".to_owned())
}

/// `hypergolix unshare`.
#[derive(Debug, Args)]
pub struct UnshareArgs {
    /// The object's address.
    #[arg(value_name = "OBJECT")]
    pub object: Ghid,
    /// The other user's fingerprint.
    #[arg(value_name = "FINGERPRINT")]
    pub recipient: Ghid,
}

/// `hypergolix ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `hypergolix get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// The object's address.
    #[arg(value_name = "OBJECT")]
    pub object: Ghid,
    /// Print facts about it as JSON, with the state in base64.
    #[arg(long)]
    pub json: bool,
}

/// `hypergolix put`.
#[derive(Debug, Args)]
pub struct PutArgs {
    /// What it holds; without, or with -, from standard input. At most 10 MiB.
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Give this object of yours a new state instead of making one.
    #[arg(long, value_name = "OBJECT", conflicts_with_all = ["fixed", "api"])]
    pub to: Option<Ghid>,
    /// Make one whose state never changes.
    #[arg(long = "static")]
    pub fixed: bool,
    /// Its type: obj (bytes, the default), json, pickle, or 128 hexadecimal digits.
    #[arg(long, value_name = "API", value_parser = object::api_id)]
    pub api: Option<ApiId>,
}

/// `hypergolix share`.
#[derive(Debug, Args)]
pub struct ShareArgs {
    /// The object's address.
    #[arg(value_name = "OBJECT")]
    pub object: Ghid,
    /// The other user's fingerprint.
    #[arg(value_name = "FINGERPRINT")]
    pub recipient: Ghid,
}

/// `hypergolix publish`.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// The object's address; it has to be readable here, whoever made it.
    #[arg(value_name = "OBJECT", required_unless_present = "list")]
    pub object: Option<Ghid>,
    /// Take it back.
    #[arg(long, requires = "object")]
    pub remove: bool,
    /// Show what is published.
    #[arg(long, conflicts_with_all = ["object", "remove"])]
    pub list: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `hypergolix watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The object's address.
    #[arg(value_name = "OBJECT")]
    pub object: Option<Ghid>,
    /// The type of shares to take: obj (the default), json, pickle, or 128 hexadecimal digits. Only
    /// without an object.
    #[arg(long, value_name = "API", value_parser = object::api_id, conflicts_with = "object")]
    pub api: Option<ApiId>,
    /// End after this many.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Print a line of JSON for each, states in base64.
    #[arg(long)]
    pub json: bool,
}

/// `hypergolix rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// The object's address.
    #[arg(value_name = "OBJECT")]
    pub object: Ghid,
}

/// `hypergolix account`.
#[derive(Debug, Subcommand)]
pub enum Account {
    /// Make an account in this home for an identity that exists, or restore a backup.
    ///
    /// FILE is what 'account export' wrote, or it holds the private keys of an identity made with the original golix library, as a JSON
    /// object: ghid, signature, encryption and exchange as golix saves them, each in base64 or
    /// hexadecimal. The identity keeps its fingerprint.
    Import(ImportArgs),
    /// Write a backup of this home's account to a file.
    ///
    /// Everything is in it but this device's own key. It is as sealed as the home itself: whoever has
    /// it needs the password too. Hypergolix has to be stopped meanwhile.
    Export(ExportArgs),
    /// Change the password. The recovery key stays as it is.
    Password(ChangeArgs),
}

/// `hypergolix account export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// A new file.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `hypergolix account password`.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Read the present password from the first line of this file.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// The secret that is read first is the recovery key, not the password.
    #[arg(long)]
    pub recovery_key: bool,
    /// Read the new password from the first line of this file.
    #[arg(long, value_name = "FILE")]
    pub new_password_file: Option<PathBuf>,
}

/// `hypergolix account import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Where the keys are.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Read the new account's password from the first line of this file.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// `hypergolix status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `hypergolix demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How many updates to push.
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub updates: u32,
}

/// Names of remotes that `--only` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Only {
    /// None at all.
    Local,
    /// The public one.
    Hgx,
}

/// Names of remotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Named {
    /// The public one.
    Hgx,
}

/// An address to listen on, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// All of them.
    Any,
    /// This one.
    On(std::net::IpAddr),
}

impl std::str::FromStr for Listen {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("any") { Ok(Self::Any) } else { text.parse().map(Self::On) }
    }
}

/// `hypergolix config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Use only a single, named remote (or no remote).
    #[arg(short, long, value_name = "REMOTE", help_heading = "Remotes",
          conflicts_with_all = ["add", "remove", "addhost", "removehost"])]
    pub only: Option<Only>,
    /// Add a named remote. Cannot be combined with --only.
    #[arg(short, long, value_name = "REMOTE", help_heading = "Remotes")]
    pub add: Vec<Named>,
    /// Remove a named remote. Cannot be combined with --only.
    #[arg(short, long, value_name = "REMOTE", help_heading = "Remotes")]
    pub remove: Vec<Named>,
    /// Add a remote host (also -ah), of form "hostname port TLS", such as: 192.168.0.1 7770 False.
    /// Cannot be combined with --only.
    #[arg(long, num_args = 3, value_names = ["HOST", "PORT", "TLS"], help_heading = "Remotes",
          action = clap::ArgAction::Append)]
    pub addhost: Vec<String>,
    /// Remove a remote host (also -rh), of form "hostname port". Cannot be combined with --only.
    #[arg(long, num_args = 2, value_names = ["HOST", "PORT"], help_heading = "Remotes",
          action = clap::ArgAction::Append)]
    pub removehost: Vec<String>,
    /// Keep dialling a device.
    #[arg(long, value_name = "MULTIADDR", value_parser = device, help_heading = "Devices")]
    pub addpeer: Vec<Multiaddr>,
    /// No longer dial a device.
    #[arg(long, value_name = "MULTIADDR", help_heading = "Devices")]
    pub removepeer: Vec<Multiaddr>,
    /// Look for devices on the local network.
    #[arg(long, conflicts_with = "no_lan", help_heading = "Devices")]
    pub lan: bool,
    /// Listen and announce on these addresses of this device only, such as: 127.0.0.1. ANY takes
    /// all of them, which is the default.
    #[arg(long, value_name = "ADDRESS", num_args = 1.., help_heading = "Devices")]
    pub listen: Vec<Listen>,
    /// Do not look for devices on the local network.
    #[arg(long, help_heading = "Devices")]
    pub no_lan: bool,
    /// Take part in the distributed hash table.
    #[arg(long, conflicts_with = "no_dht", help_heading = "Devices")]
    pub dht: bool,
    /// Do not take part in the distributed hash table.
    #[arg(long, help_heading = "Devices")]
    pub no_dht: bool,
    /// Enable debug mode: logs say where they were written, and panics have backtraces.
    #[arg(long, conflicts_with = "no_debug", help_heading = "Runtime")]
    pub debug: bool,
    /// Clear debug mode.
    #[arg(long, help_heading = "Runtime")]
    pub no_debug: bool,
    /// Specify the logging level.
    #[arg(short, long, value_name = "LEVEL", help_heading = "Runtime")]
    pub verbosity: Option<Verbosity>,
    /// Configure which port to use for Hypergolix IPC (also -ipc). Applications have to be told.
    #[arg(long, value_name = "PORT", help_heading = "Runtime",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub ipc_port: Option<u16>,
    /// Print the fingerprint and user ID for the current Hypergolix configuration.
    #[arg(long)]
    pub whoami: bool,
    /// Register the current user with every remote that is connected, to store more there.
    #[arg(long)]
    pub register: bool,
    /// What the operator of a remote gave you to register with.
    #[arg(long, value_name = "TOKEN", requires = "register")]
    pub token: Option<String>,
    /// Print the configuration.
    #[arg(long)]
    pub show: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Reads the command line; ends the process with status 2 and an explanation if it makes no
/// sense.
pub fn parse() -> Cli {
    Cli::parse_from(documented_flags(std::env::args_os()))
}

/// Does what was asked.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Start(Start::App(args)) => start::run(args),
        Command::Start(Start::Server(args)) => server::start(*args),
        Command::Stop(Stop::App) => stop::app(),
        Command::Stop(Stop::Server { pidfile }) => stop::server(&pidfile),
        Command::Server(command) => server::run(command),
        Command::Status(args) => status::run(args),
        Command::Config(args) => config::run(args),
        Command::Publish(args) => publish::run(&args),
        Command::Unshare(args) => object::unshare(&args),
        Command::Ls(args) => object::list(&args),
        Command::Get(args) => object::get(&args),
        Command::Put(args) => object::put(&args),
        Command::Share(args) => object::share(&args),
        Command::Watch(args) => object::watch(&args),
        Command::Rm(args) => object::remove(&args),
        Command::Account(Account::Import(args)) => account::import(&args),
        Command::Account(Account::Export(args)) => account::export(&args),
        Command::Account(Account::Password(args)) => account::change_password(&args),
        Command::Demo(args) => demo::run(args),
    }
}

/// `config` documents flags of one dash and several letters, which clap cannot have.
fn documented_flags(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.collect();
    if args.get(1).is_some_and(|command| command == "config") {
        for arg in &mut args[2..] {
            let long = match arg.to_str() {
                Some("-ah") => "--addhost",
                Some("-rh") => "--removehost",
                Some("-ipc") => "--ipc-port",
                _ => continue,
            };
            *arg = long.into();
        }
    }
    args
}

/// Prints to standard output. That nobody reads it any more is no failure.
fn say(text: impl std::fmt::Display) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints to standard error, likewise.
fn note(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parsed(words: &[&str]) -> Result<ConfigArgs, clap::Error> {
        let args = ["hypergolix", "config"].iter().chain(words).map(OsString::from);
        let Command::Config(args) = Cli::try_parse_from(documented_flags(args))?.command else {
            panic!("config was asked for")
        };
        Ok(args)
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_documented_flag() {
        let args = parsed(&[
            "-ah",
            "192.168.0.1",
            "7770",
            "False",
            "--addhost",
            "b",
            "1",
            "True",
            "-rh",
            "c",
            "2",
            "-a",
            "hgx",
            "-r",
            "hgx",
            "--debug",
            "-v",
            "shouty",
            "-ipc",
            "7773",
        ])
        .unwrap();
        assert_eq!(args.addhost, ["192.168.0.1", "7770", "False", "b", "1", "True"]);
        assert_eq!(args.removehost, ["c", "2"]);
        assert_eq!((args.add, args.remove), (vec![Named::Hgx], vec![Named::Hgx]));
        assert_eq!(args.ipc_port, Some(7773));
        assert_eq!(args.verbosity, Some(Verbosity::Shouty));
        assert_eq!(parsed(&["-o", "local"]).unwrap().only, Some(Only::Local));
        assert_eq!(parsed(&["-v", "warning"]).unwrap().verbosity, Some(Verbosity::Normal));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in [
            &["-o", "local", "-a", "hgx"][..],
            &["--only", "hgx", "-rh", "a", "1"],
            &["--debug", "--no-debug"],
            &["-ah", "a", "1"],
            &["-ipc", "0"],
            &["-a", "nowhere"],
            &["--addpeer", "nonsense"],
            &["--addpeer", ""],
            &["--addpeer", "/ip4/192.0.2.1/tcp/0"],
            &["--addpeer", "/ip4/192.0.2.1/udp/7770/quic"],
            &["--addpeer", "/ip4/192.0.2.1"],
        ] {
            let error = parsed(words).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words:?}");
        }
    }
}
