//! `hypergolix demo`: two nodes on this machine, as two people on one network have them.

use std::fs::{self, DirBuilder};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use data_encoding::HEXLOWER;
use golix::Ghid;
use hypergolix_ipc::ApiId;
use hypergolix_ipc::client::{HgxLink, JsonObj, NewOptions, TypedUpdates, Update};
use hypergolix_node::paths::{self, HOME_VARIABLE};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::{DemoArgs, say};

/// How long any one step may take: starting hashes a password, the rest is milliseconds.
const STEP_MAX: Duration = Duration::from_secs(15);

/// Pause between updates, so that one can watch.
const PACE: Duration = Duration::from_millis(200);

/// How long a node may take to stop before it is ended.
const STOP_MAX: Duration = Duration::from_secs(5);

/// The type of the demonstration's object.
fn api() -> ApiId {
    let mut id = [0; 64];
    let name = b"hypergolix demonstration";
    id[..name.len()].copy_from_slice(name);
    ApiId(id)
}

/// Runs the demonstration.
pub fn run(args: DemoArgs) -> anyhow::Result<()> {
    paths::set_private_umask();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the system gives no threads")?;
    let folder = Folder::create()?;
    let shown = runtime.block_on(async {
        tokio::select! {
            shown = show(&folder.0, args.updates) => shown,
            _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted; nothing is left behind")),
        }
    });
    drop(runtime);
    drop(folder);
    shown?;
    say("Both nodes are stopped and their homes removed. To start one of your own:\n");
    say("  hypergolix start app      # asks for a new password and creates your account");
    say("  hypergolix status");
    say("  hypergolix stop app");
    Ok(())
}

async fn show(folder: &Path, updates: u32) -> anyhow::Result<()> {
    say("Starting two nodes in temporary homes, as two people on one network would …");
    let started = Instant::now();
    let (alice, bob) = tokio::try_join!(
        TestNode::start("Alice", folder.join("alice")),
        TestNode::start("Bob", folder.join("bob"))
    )?;
    for node in [&alice, &bob] {
        say(format_args!("  {:<6} {}  port {}", node.name, node.fingerprint, node.port));
    }
    say(format_args!("Both are ready after {}.", time(started.elapsed())));
    let told = tell(&alice, &bob, updates).await;
    // Stopped in any case, and at the same time.
    tokio::join!(alice.stop(), bob.stop());
    told
}

async fn tell(alice: &TestNode, bob: &TestNode, updates: u32) -> anyhow::Result<()> {
    let at_alice = step("Alice's node answers", HgxLink::connect(alice.port)).await??;
    let at_bob = step("Bob's node answers", HgxLink::connect(bob.port)).await??;

    say("\nNothing was configured. They look for each other on the local network …");
    let looking = Instant::now();
    step("the nodes find each other", linked(&at_alice, &at_bob)).await.map_err(|error| {
        anyhow!("{error}; does a firewall block UDP on the loopback interface?")
    })??;
    say(format_args!("They are linked, {} after that.", time(looking.elapsed())));

    say("\nAlice's program makes an object and shares it with Bob …");
    let mut shares = step("Bob's program registers", at_bob.shares(api())).await??;
    let options = NewOptions { api_id: Some(api()), ..NewOptions::default() };
    let made = Instant::now();
    let greeting = Value::from("Hello, Bob!");
    let mine: JsonObj = step("the object is made", at_alice.new(&greeting, options)).await??;
    step("the share is taken", mine.share(at_bob.fingerprint())).await??;
    let share = step("the share arrives", shares.next())
        .await?
        .ok_or_else(|| anyhow!("Bob's node went away"))?;
    let theirs: JsonObj = step("Bob's program gets it", at_bob.get(share.ghid)).await??;
    let value = theirs.value()?;
    say(format_args!("Bob's program has it after {}: {value}", time(made.elapsed())));
    if share.origin != alice.fingerprint || value != greeting {
        bail!("what arrived is not what Alice has shared");
    }

    say(format_args!("\nAlice's program pushes {updates} updates:"));
    say("      acknowledged   at Bob's program");
    let mut arrivals = theirs.updates();
    let mut latencies = Vec::new();
    for number in 1..=updates {
        sleep(PACE).await;
        let value = Value::from(format!("update {number}"));
        mine.set(&value)?;
        let pushed = Instant::now();
        let (acknowledged, arrived) = tokio::join!(
            async {
                step("the push is acknowledged", mine.push()).await??;
                anyhow::Ok(pushed.elapsed())
            },
            async {
                step("the update arrives", arrival(&mut arrivals, &value)).await??;
                anyhow::Ok(pushed.elapsed())
            }
        );
        let (acknowledged, arrived) = (acknowledged?, arrived?);
        latencies.push(arrived);
        say(format_args!(
            "  {number:>3} {:>12}   {:>16}   {value}",
            time(acknowledged),
            time(arrived)
        ));
    }
    latencies.sort_unstable();
    let median = latencies.get(latencies.len() / 2).copied().unwrap_or_default();
    say(format_args!(
        "\nHalf of them arrived within {}: written to both disks, sealed for Alice and Bob alone.",
        time(median)
    ));
    tokio::join!(at_alice.stop(), at_bob.stop());
    Ok(())
}

/// Waits until the update with this state arrives; an older one may come before it.
async fn arrival(updates: &mut TypedUpdates<Value>, expected: &Value) -> anyhow::Result<()> {
    loop {
        match updates.next().await {
            Some(Ok(Update::State(value))) if value == *expected => return Ok(()),
            Some(Ok(Update::State(_))) => {}
            Some(Ok(Update::Deleted)) | None => bail!("the object is gone"),
            Some(Err(error)) => return Err(error.into()),
        }
    }
}

/// Waits until two nodes have a link; there may be other nodes on the network.
async fn linked(one: &HgxLink, two: &HgxLink) -> anyhow::Result<()> {
    loop {
        let (one, two) = tokio::try_join!(status(one), status(two))?;
        let knows = |status: &Value, other: &Value| {
            let peers = status["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
            peers.iter().any(|peer| peer["peer_id"] == other["peer_id"])
        };
        if knows(&one, &two) && knows(&two, &one) {
            return Ok(());
        }
        sleep(Duration::from_millis(10)).await;
    }
}

async fn status(link: &HgxLink) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&link.status().await?)?)
}

async fn step<T>(what: &str, done: impl Future<Output = T>) -> anyhow::Result<T> {
    timeout(STEP_MAX, done)
        .await
        .map_err(|_| anyhow!("the demonstration failed: waited {STEP_MAX:?} until {what}"))
}

fn time(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{:.1} ms", duration.as_secs_f64() * 1e3)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// A node in a home of its own, ended at the latest when this is dropped.
struct TestNode {
    name: &'static str,
    child: Child,
    fingerprint: Ghid,
    port: u16,
}

impl TestNode {
    async fn start(name: &'static str, home: PathBuf) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("the path of this program is unknown")?;
        let mut child = Command::new(program)
            .args(["start", "app", "--foreground", "--ipc-port", "0"])
            .env(HOME_VARIABLE, &home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the node cannot be started")?;
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A node that ended already says why.
            let _ = stdin.write_all(format!("{}\n", HEXLOWER.encode(&random)).as_bytes()).await;
        }
        let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
            bail!("the node has no output");
        };
        let mut line = String::new();
        let mut stdout = BufReader::new(stdout);
        step("a node is ready", stdout.read_line(&mut line)).await??;
        let fact = |name: &str| {
            line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        let facts = fact("fingerprint")
            .and_then(|text| text.parse().ok())
            .zip(fact("ipc-port").and_then(|text| text.parse().ok()));
        let Some((fingerprint, port)) = facts else {
            let mut complaint = String::new();
            // Whatever came in time.
            let _ = timeout(STOP_MAX, stderr.read_to_string(&mut complaint)).await;
            bail!("{name}'s node did not start: {}", complaint.trim());
        };
        Ok(Self { name, child, fingerprint, port })
    }

    async fn stop(mut self) {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            // If it is gone already, so much the better.
            let _ = kill_process(pid, Signal::TERM);
        }
        if timeout(STOP_MAX, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// A temporary folder, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn create() -> anyhow::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)?;
        let name = format!("hypergolix-demo-{}", HEXLOWER.encode(&random));
        let path = std::env::temp_dir().join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| anyhow!("{} cannot be made: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            let _ = writeln!(
                std::io::stderr(),
                "hypergolix: {} could not be removed: {error}",
                self.0.display()
            );
        }
    }
}
