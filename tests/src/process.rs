//! A node in a temporary home: its ready line, its command line, its end.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::clock::Clock;
use crate::harness::{binary, run};
use crate::namespaces::Place;
use crate::wait::wait_for;
use crate::wire::{Address, Wire};

/// How long a node may take to say that it is ready: it hashes a password and opens its store.
const READY_MAX: Duration = Duration::from_secs(20);
/// How long a node may take to stop when it is asked to.
const STOP_MAX: Duration = Duration::from_secs(10);

/// The password of every account made here.
pub const PASSWORD: &str = "correct horse battery staple";

/// A user's home on one host: it outlives the nodes that run in it.
#[derive(Debug, Clone)]
pub struct Home {
    folder: Arc<TempDir>,
    place: Place,
    port: u16,
    clock: Option<Clock>,
}

impl Home {
    /// A new home on a host, with a port of its own.
    pub fn new(place: &Place) -> Self {
        let port = place.run(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
            let listener = listener.expect("a loopback interface has free ports");
            listener.local_addr().expect("a bound socket has an address").port()
        });
        Self::with_port(place, port)
    }

    /// A new home whose node listens for applications on `port`.
    pub fn with_port(place: &Place, port: u16) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("hypergolix-")
            .tempdir()
            .expect("temporary folders can be made");
        std::fs::write(folder.path().join("password"), PASSWORD).expect("the folder is ours");
        std::fs::create_dir(folder.path().join("home")).expect("the folder is ours");
        set_mode(&folder.path().join("home"), 0o700);
        if place.is_here() {
            // Tests do not speak on the network of the machine that runs them.
            let config = folder.path().join("home/hypergolix.json");
            std::fs::write(&config, r#"{"listen": ["127.0.0.1"]}"#).expect("the folder is ours");
            set_mode(&config, 0o600);
        }
        Self { folder: Arc::new(folder), place: place.clone(), port, clock: None }
    }

    /// The same home; what is run from now on goes by this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: &Clock) -> Self {
        self.clock = Some(clock.clone());
        self
    }

    /// The folder that `HYPERGOLIX_HOME` names.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// A file outside the home.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The file with the account's password.
    pub fn password_file(&self) -> PathBuf {
        self.beside("password")
    }

    /// The port for applications.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// A `hypergolix` command on this home, not yet run.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.place.command(binary());
        command.args(words).env("HYPERGOLIX_HOME", self.path()).stdin(Stdio::null());
        if let Some(clock) = &self.clock {
            clock.rule(&mut command);
        }
        command
    }

    /// Runs a `hypergolix` command on this home to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("the binary runs")
    }

    /// The command that starts the node in the foreground.
    pub fn start_command(&self) -> Command {
        let mut command = self.command(&["start", "app", "--foreground", "--password-file"]);
        command.arg(self.password_file()).arg("--ipc-port").arg(self.port.to_string());
        command
    }

    /// Starts the node and waits for its ready line.
    pub fn start(&self) -> Node {
        match self.try_start() {
            Ok(node) => node,
            Err(failure) => panic!("the node did not start: {failure}"),
        }
    }

    /// Starts a new node with an account of a suite, and waits for its ready line.
    pub fn start_with_suite(&self, suite: u8) -> Node {
        let mut command = self.start_command();
        command.args(["--suite", &suite.to_string()]);
        Node::launch(self, command)
            .unwrap_or_else(|failure| panic!("the node did not start: {failure}"))
    }

    /// Starts the node; gives what it said and its exit status if it ends instead.
    ///
    /// # Errors
    /// What the node wrote, when it ended or was not ready in time.
    pub fn try_start(&self) -> Result<Node, Failure> {
        Node::start(self.clone(), self.start_command())
    }
}

/// A node that did not become ready.
#[derive(Debug)]
pub struct Failure {
    /// Absent if it was still running and had to be killed.
    pub status: Option<ExitStatus>,
    /// What it wrote, both streams.
    pub text: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.status {
            Some(status) => write!(f, "{status}\n{}", self.text),
            None => write!(f, "no ready line within {READY_MAX:?}\n{}", self.text),
        }
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    home: Home,
    child: Child,
    ready_line: String,
    startup: Duration,
}

impl Node {
    /// Runs a command that starts a node in the foreground.
    ///
    /// # Errors
    /// What the node wrote, when it ended or was not ready in time.
    pub fn launch(home: &Home, command: Command) -> Result<Self, Failure> {
        Self::start(home.clone(), command)
    }

    fn start(home: Home, mut command: Command) -> Result<Self, Failure> {
        let complaints = home.beside("stderr");
        let stderr = File::options()
            .create(true)
            .append(true)
            .open(&complaints)
            .expect("the folder is ours");
        let started = Instant::now();
        command.stderr(stderr);
        match until_ready(command) {
            Ok((child, ready_line)) => {
                Ok(Self { home, child, ready_line, startup: started.elapsed() })
            }
            Err(mut failure) => {
                failure.text += &std::fs::read_to_string(&complaints).unwrap_or_default();
                Err(failure)
            }
        }
    }

    /// A field of the ready line, such as `fingerprint`.
    pub fn fact(&self, name: &str) -> &str {
        fact(&self.ready_line, name)
    }

    /// The user's fingerprint, as text.
    pub fn fingerprint(&self) -> &str {
        self.fact("fingerprint")
    }

    /// The user's fingerprint, as bytes.
    pub fn address(&self) -> Address {
        Address::parse(self.fingerprint())
    }

    /// The home it runs in.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The port for applications.
    pub fn port(&self) -> u16 {
        self.home.port()
    }

    /// From the start of the process to the ready line.
    pub fn startup(&self) -> Duration {
        self.startup
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A new application connection.
    pub fn connect(&self) -> Wire {
        Wire::connect(self.home.place(), self.port())
    }

    /// What `hypergolix status --json` says.
    pub fn status(&self) -> Value {
        let output = self.home.run(&["status", "--json"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "status failed: {output:?}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("status: {error}: {text}"))
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        resident(self.pid())
    }

    /// Asserts that it runs and answers a new application.
    pub fn assert_serves(&mut self) {
        let ended = self.child.try_wait().expect("a child can be asked");
        assert_eq!(ended, None, "the node ended");
        let wire = self.connect();
        assert_eq!(wire.whoami(), self.address());
        let object = wire.new_object(b"still here");
        assert_eq!(wire.get(object).state, b"still here");
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        run(&["kill", "-s", name, &self.pid().to_string()]).expect("it runs");
    }

    /// Ends it with SIGKILL.
    pub fn kill(mut self) {
        self.end();
    }

    /// Ends it with `hypergolix stop app` and returns its exit status.
    pub fn stop(mut self) -> ExitStatus {
        let output = self.home.run(&["stop", "app"]);
        assert!(output.status.success(), "stop failed: {output:?}");
        let (status, _) = wait_for("the end of the node", STOP_MAX, || {
            self.child.try_wait().expect("a child can be asked")
        });
        status
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("--- {} ---", self.ready_line);
            print_tail(&self.home.beside("stderr"));
            for entry in std::fs::read_dir(self.home.path().join("logs")).into_iter().flatten() {
                print_tail(&entry.expect("a readable folder").path());
            }
        }
    }
}

/// Runs a process that says when it is ready, until it does.
fn until_ready(mut command: Command) -> Result<(Child, String), Failure> {
    let started = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary runs");
    let stdout = child.stdout.take().expect("the output is piped");
    let (send, lines) = mpsc::sync_channel(64);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // The process must not block on a reader that went away.
            let _ = send.try_send(line);
        }
    });
    let mut text = String::new();
    loop {
        match lines.recv_timeout(READY_MAX.saturating_sub(started.elapsed())) {
            Ok(line) if line.starts_with("ready ") => return Ok((child, line)),
            Ok(line) => text.extend([&line, "\n"]),
            Err(reason) => {
                let ended = reason == mpsc::RecvTimeoutError::Disconnected;
                if !ended {
                    let _ = child.kill();
                }
                let status = child.wait().expect("a child can be waited for");
                return Err(Failure { status: ended.then_some(status), text });
            }
        }
    }
}

/// A field of a ready line.
fn fact<'l>(ready_line: &'l str, name: &str) -> &'l str {
    ready_line
        .split_whitespace()
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("no {name}= in: {ready_line}"))
}

/// A persistence server in a temporary folder: running, or between two lives.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    place: Place,
    args: Vec<String>,
    running: Option<(Child, String)>,
    clock: Option<Clock>,
}

impl Server {
    /// Starts a server that keeps what it stores in its folder.
    pub fn start(place: &Place, args: &[&str]) -> Self {
        let mut server = Self::prepare_only(place, args);
        server.start_again();
        server
    }

    /// The same, not yet started.
    pub fn prepare_only(place: &Place, args: &[&str]) -> Self {
        let mut server = Self::prepare(place, args);
        let cache = server.folder.path().join("cache").display().to_string();
        server.args.extend(["--cachedir".to_owned(), cache]);
        server
    }

    /// Starts a server that forgets everything when it ends.
    pub fn start_in_memory(place: &Place, args: &[&str]) -> Self {
        let mut server = Self::prepare(place, args);
        server.start_again();
        server
    }

    fn prepare(place: &Place, args: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("hypergolix-server-")
            .tempdir()
            .expect("temporary folders can be made");
        let mut args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let logs = folder.path().join("logs").display().to_string();
        args.extend(["--logdir".to_owned(), logs, "--verbosity".to_owned(), "loud".to_owned()]);
        Self { folder, place: place.clone(), args, running: None, clock: None }
    }

    /// Starts it again after [`kill`](Self::kill) or [`stop`](Self::stop).
    pub fn start_again(&mut self) {
        let mut command = self.command(&["start", "server"]);
        command.arg(self.pid_file()).arg("--foreground").args(&self.args);
        command.stderr(File::create(self.folder.path().join("stderr")).expect("ours"));
        match until_ready(command) {
            Ok(running) => self.running = Some(running),
            Err(failure) => panic!(
                "the server did not start: {failure}{}",
                std::fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
            ),
        }
    }

    /// Goes by this clock from the next start on.
    pub fn with_clock(&mut self, clock: &Clock) {
        self.clock = Some(clock.clone());
    }

    /// With other arguments from the next start on.
    pub fn with_args(&mut self, args: &[&str]) {
        self.args.extend(args.iter().map(ToString::to_string));
    }

    /// A `hypergolix` command in its place, not yet run.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.place.command(binary());
        command.args(words).env("HYPERGOLIX_HOME", self.folder.path().join("none"));
        command.stdin(Stdio::null());
        if let Some(clock) = &self.clock {
            clock.rule(&mut command);
        }
        command
    }

    /// Runs `hypergolix server WORD PIDFILE …` to its end.
    pub fn operate(&self, word: &str, more: &[&str]) -> Output {
        let mut command = self.command(&["server", word]);
        command.arg(self.pid_file()).args(more).output().expect("the binary runs")
    }

    /// Its pid file.
    pub fn pid_file(&self) -> PathBuf {
        self.folder.path().join("pid")
    }

    /// A file of its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The newest line of its log.
    pub fn last_log_line(&self) -> String {
        let logs = std::fs::read_dir(self.folder.path().join("logs")).expect("it logs");
        let newest = logs.map(|entry| entry.expect("readable").path()).max().expect("a log");
        let text = std::fs::read_to_string(newest).expect("a readable log");
        text.lines().last().expect("a line").to_owned()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        resident(self.running.as_ref().expect("it runs").0.id())
    }

    /// A field of the ready line, such as `addresses`.
    pub fn fact(&self, name: &str) -> &str {
        fact(&self.running.as_ref().expect("it runs").1, name)
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends it with `hypergolix stop server`.
    pub fn stop(&mut self) -> ExitStatus {
        let output =
            self.command(&["stop", "server"]).arg(self.pid_file()).output().expect("it runs");
        assert!(output.status.success(), "stop failed: {output:?}");
        let (mut child, _) = self.running.take().expect("it runs");
        let ended = || child.try_wait().expect("a child can be asked");
        wait_for("the end of the server", STOP_MAX, ended).0
    }

    /// Takes away everything it stored, except its device key; it must not run.
    pub fn wipe(&self) {
        assert!(self.running.is_none(), "a running server has its files open");
        for name in ["store.redb", "store.redb.reserve"] {
            let _ = std::fs::remove_file(self.folder.path().join("cache").join(name));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            print_tail(&self.folder.path().join("stderr"));
            for entry in std::fs::read_dir(self.folder.path().join("logs")).into_iter().flatten() {
                print_tail(&entry.expect("a readable folder").path());
            }
        }
    }
}

/// Resident memory of a process, bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"));
    status
        .expect("a running process has a status")
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
        .map_or(0, |kibibytes: u64| kibibytes * 1024)
}

/// Prints the end of a log, for failures.
fn print_tail(path: &Path) {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    eprintln!("--- {}", path.display());
    for line in &lines[lines.len().saturating_sub(40)..] {
        eprintln!("{line}");
    }
}

/// Sets the permissions of a file or folder.
pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .expect("what we made is ours");
}
