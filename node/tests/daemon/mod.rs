//! The real binary on temporary homes, for the tests of the command line.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long a node may take to stop.
const STOP_MAX: Duration = Duration::from_secs(10);

/// A temporary home.
pub struct Home(TempDir);

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Exit status; `None` after a signal.
    pub status: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Both streams.
    pub text: String,
}

/// A node in the foreground, ended at the latest when this is dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    ready: String,
    /// What it said on standard error until it was ready.
    pub said: String,
    /// From its start to its ready line.
    pub startup: Duration,
}

impl Home {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folders can be made");
        let home = Self(folder);
        std::fs::create_dir(home.path()).expect("the folder is ours");
        set_mode(&home.path(), 0o700);
        home
    }

    /// Keeps nodes of this home off the network, unless it has a config already: nothing here is
    /// about other devices, and tests send nothing to strangers.
    pub fn keep_quiet(&self) {
        let config = self.file("hypergolix.json");
        if self.path().is_dir() && !config.exists() {
            std::fs::write(&config, "{\n  \"lan\": false\n}\n").expect("ours");
            set_mode(&config, 0o600);
        }
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("home")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hypergolix"));
        command.args(words).env("HYPERGOLIX_HOME", self.path());
        command
    }

    /// Runs a command to its end with `input` as its standard input.
    pub fn run(&self, words: &[&str], input: &str) -> Said {
        let mut child = self
            .command(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stdin = child.stdin.take().expect("piped");
        // It may have ended without reading.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("it ends").into()
    }

    /// Runs a command whose output nobody reads.
    pub fn run_closed(&self, words: &[&str]) -> Said {
        let mut child = self
            .command(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        drop(child.stdout.take());
        child.wait_with_output().expect("it ends").into()
    }

    pub fn config(&self, words: &[&str]) -> Said {
        let words: Vec<&str> = ["config"].iter().chain(words).copied().collect();
        self.run(&words, "")
    }

    /// Starts a node on any port with its password on standard input.
    pub fn start(&self, password: &str) -> Result<Daemon, Said> {
        self.start_with(&[], password)
    }

    /// Starts a node on any port, unless `words` name one.
    pub fn start_with(&self, words: &[&str], password: &str) -> Result<Daemon, Said> {
        self.keep_quiet();
        let mut command = self.command(&["start", "app", "--foreground"]);
        if !words.contains(&"--ipc-port") {
            command.args(["--ipc-port", "0"]);
        }
        command.args(words);
        Daemon::start(command, password)
    }
}

impl Daemon {
    fn start(mut command: Command, password: &str) -> Result<Self, Said> {
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stdin = child.stdin.take().expect("piped");
        let _ = stdin.write_all(format!("{password}\n").as_bytes());
        drop(stdin);
        let mut ready = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut ready).expect("text");
        let startup = started.elapsed();
        let mut stderr = child.stderr.take().expect("piped");
        let mut said = String::new();
        if !ready.starts_with("ready ") {
            stderr.read_to_string(&mut said).expect("text");
            let status = child.wait().expect("it ends").code();
            let text = ready.clone() + &said;
            return Err(Said { status, out: ready, text });
        }
        // What it said before it was ready is in the pipe; nothing follows.
        let mut buffer = [0; 4096];
        if startup_notes_exist(&stderr) {
            let len = stderr.read(&mut buffer).expect("text");
            said = String::from_utf8_lossy(&buffer[..len]).into_owned();
        }
        Ok(Self { child, ready, said, startup })
    }

    /// A field of the ready line.
    pub fn fact(&self, name: &str) -> &str {
        let prefix = format!("{name}=");
        let found = self.ready.split_whitespace().find_map(|word| word.strip_prefix(&prefix));
        found.unwrap_or_else(|| panic!("no {name} in {}", self.ready))
    }

    pub fn port(&self) -> u16 {
        self.fact("ipc-port").parse().expect("a port")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop; its exit status has to be 0.
    pub fn stop(mut self) {
        self.signal(rustix::process::Signal::TERM);
        let deadline = Instant::now() + STOP_MAX;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                assert!(status.success(), "{status}");
                return;
            }
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it with SIGKILL.
    pub fn kill(mut self) {
        self.end();
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a pid"), signal).expect("it runs");
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

impl Said {
    /// Asserts an exit status and words, in any case; and that it is one sentence, no panic.
    pub fn expect(&self, status: i32, words: &[&str]) {
        assert_eq!(self.status, Some(status), "{}", self.text);
        assert!(!self.text.contains("panicked"), "{}", self.text);
        for word in words {
            self.says(word);
        }
    }

    pub fn says(&self, word: &str) {
        let lower = self.text.to_lowercase();
        assert!(lower.contains(&word.to_lowercase()), "no {word:?} in: {}", self.text);
    }

    pub fn expect_success(self) -> Self {
        self.expect(0, &[]);
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let text = out.clone() + &String::from_utf8_lossy(&output.stderr);
        Self { status: output.status.code(), out, text }
    }
}

/// Whether there is something to read right now.
fn startup_notes_exist(pipe: &std::process::ChildStderr) -> bool {
    rustix::io::ioctl_fionread(pipe).is_ok_and(|len| len > 0)
}

fn set_mode(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
}
