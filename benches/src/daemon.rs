//! Real daemons in temporary homes.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hypergolix_ipc::client::HgxLink;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

const PASSWORD: &str = "a password of benchmarks";

/// A running daemon; stopped on drop.
pub(crate) struct Daemon {
    home: Option<tempfile::TempDir>,
    child: Child,
    pub(crate) port: u16,
    /// From its start to its ready line.
    pub(crate) started_in: Duration,
}

impl Daemon {
    /// A new account in a new home.
    pub(crate) fn start(lan: bool) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        if !lan {
            config(home.path(), &["--no-lan"])?;
        }
        Self::run(home, &[])
    }

    /// A new account in a new home that reaches nobody but a server.
    pub(crate) fn with_server(server: &Server) -> anyhow::Result<Self> {
        Self::with_server_and(server, &[])
    }

    /// The same account in another home.
    pub(crate) fn second_machine(&self, server: &Server) -> anyhow::Result<Self> {
        let status = self.status()?;
        let account = status["user_id"].as_str().context("the account")?;
        Self::with_server_and(server, &["--user-id", account])
    }

    fn with_server_and(server: &Server, words: &[&str]) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        config(home.path(), &["--no-lan"])?;
        config(home.path(), &["--addhost", "127.0.0.1", &server.port()?, "False"])?;
        Self::run(home, words)
    }

    /// Asks its server for more room than strangers get.
    pub(crate) fn register(&self) -> anyhow::Result<()> {
        let waiting = Instant::now();
        while self.status()?["remotes"][0]["state"] != "connected" {
            anyhow::ensure!(waiting.elapsed() < Duration::from_secs(20), "no server is reached");
            std::thread::sleep(Duration::from_millis(20));
        }
        config(self.home.as_ref().context("a home")?.path(), &["--register"])
    }

    /// What `hypergolix status --json` says.
    pub(crate) fn status(&self) -> anyhow::Result<serde_json::Value> {
        let home = self.home.as_ref().context("a home")?;
        let asked = Command::new(binary()?)
            .env("HYPERGOLIX_HOME", home.path().join("home"))
            .args(["status", "--json"])
            .output()?;
        anyhow::ensure!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        Ok(serde_json::from_slice(&asked.stdout)?)
    }

    /// A new account of suite 1 in a new home.
    pub(crate) fn start_suite_1() -> anyhow::Result<Self> {
        Self::run(tempfile::tempdir()?, &["--suite", "1"])
    }

    fn run(home: tempfile::TempDir, words: &[&str]) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let begun = Instant::now();
        let mut child = Command::new(binary()?)
            .env("HYPERGOLIX_HOME", home.path().join("home"))
            .args(["start", "app", "--foreground", "--ipc-port", &port.to_string()])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        writeln!(child.stdin.take().context("its input")?, "{PASSWORD}")?;
        until_ready(&mut child)?;
        Ok(Self { home: Some(home), child, port, started_in: begun.elapsed() })
    }

    /// Stops it and starts it again on the same home.
    pub(crate) fn restart(mut self) -> anyhow::Result<Self> {
        let home = self.home.take().context("a home")?;
        self.stop();
        Self::run(home, &[])
    }

    pub(crate) async fn link(&self) -> anyhow::Result<HgxLink> {
        Ok(HgxLink::connect(self.port).await?)
    }

    /// Resident memory, MB.
    pub(crate) fn resident(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let kib: f64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .context("VmRSS")?
            .parse()?;
        Ok(kib * 1024.0 / 1e6)
    }

    /// Processor time used so far. Linux counts it in hundredths of a second.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu(&self.child)
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A running server in a temporary folder; stopped on drop.
pub(crate) struct Server {
    _folder: tempfile::TempDir,
    child: Child,
    /// Where it listens over TCP.
    pub(crate) address: Multiaddr,
    /// The same over QUIC.
    pub(crate) quic: Multiaddr,
}

impl Server {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut child = Command::new(binary()?)
            .env("HYPERGOLIX_HOME", folder.path().join("none"))
            .args(["start", "server"])
            .arg(folder.path().join("pid"))
            .args(["--foreground", "--host", "127.0.0.1", "--port", &free_port()?, "--cachedir"])
            .arg(folder.path().join("cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let ready = until_ready(&mut child)?;
        let address = |transport| crate::servers::address_of(&ready, transport);
        let (address, quic) = (address("/tcp/")?, address("/udp/")?);
        Ok(Self { _folder: folder, child, address, quic })
    }

    fn port(&self) -> anyhow::Result<String> {
        let port = self.address.iter().find_map(|part| match part {
            Protocol::Tcp(port) => Some(port.to_string()),
            _ => None,
        });
        port.context("a port")
    }

    /// Processor time used so far.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu(&self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nothing listens on.
fn free_port() -> anyhow::Result<String> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port().to_string())
}

/// Changes the configuration of a home.
fn config(folder: &Path, words: &[&str]) -> anyhow::Result<()> {
    let done = Command::new(binary()?)
        .env("HYPERGOLIX_HOME", folder.join("home"))
        .arg("config")
        .args(words)
        .output()?;
    anyhow::ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// Reads what a process says until it is ready; its ready line.
fn until_ready(child: &mut Child) -> anyhow::Result<String> {
    let mut output = BufReader::new(child.stdout.take().context("its output")?);
    loop {
        let mut text = String::new();
        if output.read_line(&mut text)? == 0 {
            bail!("it did not start");
        }
        if text.starts_with("ready ") {
            // Keep reading, or it would get a broken pipe.
            std::thread::spawn(move || output.lines().for_each(drop));
            return Ok(text);
        }
    }
}

fn cpu(child: &Child) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// Two daemons that are to find each other on this machine.
pub(crate) async fn pair() -> anyhow::Result<(Daemon, Daemon)> {
    tokio::task::spawn_blocking(|| anyhow::Ok((Daemon::start(true)?, Daemon::start(true)?))).await?
}

/// The release daemon beside this benchmark; built if it is not there.
fn binary() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("hypergolix");
    if !path.exists() {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let built =
            Command::new(cargo).args(["build", "--release", "-p", "hypergolix-node"]).status()?;
        anyhow::ensure!(built.success(), "the daemon does not build");
    }
    Ok(path)
}
