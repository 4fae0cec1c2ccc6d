//! Real daemons in temporary homes.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hypergolix_ipc::client::HgxLink;

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
            let done = Command::new(binary()?)
                .env("HYPERGOLIX_HOME", home.path().join("home"))
                .args(["config", "--no-lan"])
                .output()?;
            anyhow::ensure!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        Self::run(home, &[])
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
            .spawn()?;
        writeln!(child.stdin.take().context("its input")?, "{PASSWORD}")?;
        let mut output = BufReader::new(child.stdout.take().context("its output")?);
        loop {
            let mut text = String::new();
            if output.read_line(&mut text)? == 0 {
                bail!("the daemon did not start");
            }
            if text.starts_with("ready ") {
                break;
            }
        }
        // Keep reading, or the daemon would get a broken pipe.
        std::thread::spawn(move || output.lines().for_each(drop));
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
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields: Vec<&str> =
            stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Duration::from_millis(ticks * 10))
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
