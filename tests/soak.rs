//! Alice and Bob in two networks, a server in a third, and each of the three killed at random.
//!
//! `HYPERGOLIX_SOAK_SECONDS` says for how long, `HYPERGOLIX_SOAK_SEED` when who is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use golix::Ghid;
use hypergolix_ipc::ApiId;
use hypergolix_ipc::client::{HgxLink, LinkError, LinkOptions, NewOptions, Obj, Update};
use hypergolix_tests::harness::{self, run, trial};
use hypergolix_tests::namespaces::{Internet, Place};
use hypergolix_tests::process::{Home, Node, Server};
use hypergolix_tests::wait::{pause, wait_until};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How long nodes are killed unless told otherwise.
const SECONDS: u64 = 25;
/// From the last restart to the same state everywhere.
const CONVERGED_MAX: Duration = Duration::from_secs(60);
/// How long an application waits for its daemon to come back.
const DAEMON_BACK: Duration = Duration::from_secs(30);
/// Room of the server's disk when it can be full.
const DISK: &str = "size=96m";

/// The types of what Alice and Bob share.
const STATUS: ApiId = ApiId([0x51; 64]);
const INTERVAL: ApiId = ApiId([0x52; 64]);
const EXTRA: ApiId = ApiId([0x53; 64]);

fn main() -> ExitCode {
    harness::main(false, |world| {
        let trials = vec![
            trial("each_is_killed_at_random", || soak(false)),
            trial("and_the_servers_disk_is_full_for_a_while", || soak(true)),
        ];
        trials.into_iter().map(|trial| trial.with_ignored_flag(!world.namespaces)).collect()
    })
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: a number")))
}

/// A daemon that is killed and started again.
struct Side {
    home: Home,
    node: Option<Node>,
}

impl Side {
    fn new(place: &Place, server: &str) -> Self {
        let home = Home::new(place);
        for words in [&["config", "-v", "loud"][..], &["config", "-ah", server, "7770", "False"]] {
            let output = home.run(words);
            assert!(output.status.success(), "{output:?}");
        }
        let node = Some(home.start());
        Self { home, node }
    }

    fn node(&self) -> &Node {
        self.node.as_ref().expect("it runs")
    }

    fn kill(&mut self) {
        self.node.take().expect("it runs").kill();
    }

    fn start(&mut self) {
        self.node = Some(self.home.start());
    }

    fn link(&self) -> HgxLink {
        let options =
            LinkOptions { port: self.home.port(), patience: DAEMON_BACK, ..LinkOptions::default() };
        self.home.place().run(async move { HgxLink::connect_with(options).await }).expect("a link")
    }
}

/// What the applications saw.
#[derive(Default)]
struct Seen {
    complaints: Mutex<Vec<String>>,
    /// Objects that were shared with Bob, and the last state that was acknowledged; none once their
    /// deletion was.
    extras: Mutex<BTreeMap<Ghid, Option<u64>>>,
    /// Shares that Bob's application was told of.
    shares: Mutex<BTreeSet<Ghid>>,
    callbacks: AtomicU64,
    pushes: AtomicU64,
}

impl Seen {
    fn complain(&self, text: String) {
        self.complaints.lock().expect("no panic").push(text);
    }
}

fn number(state: &[u8]) -> u64 {
    std::str::from_utf8(state).ok().and_then(|text| text.parse().ok()).expect("a number")
}

/// Pushes 1, 2, 3 and so on; returns the last that was acknowledged.
async fn count(obj: Obj, pause: Duration, stop: Arc<AtomicBool>, seen: Arc<Seen>) -> u64 {
    let mut last = 0;
    while !stop.load(Ordering::Relaxed) {
        obj.set_state((last + 1).to_string().into_bytes()).expect("it is alive");
        match obj.push().await {
            Ok(()) => {
                last += 1;
                seen.pushes.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => seen.complain(format!("a push failed: {error}")),
        }
        tokio::time::sleep(pause).await;
    }
    last
}

/// Sees to it that what an application is told never goes back.
async fn watch(obj: Obj, who: &'static str, seen: Arc<Seen>) {
    let mut updates = obj.updates();
    let mut last = number(&obj.state().expect("it is alive"));
    while let Some(update) = updates.next().await {
        let Update::State(state) = update else {
            seen.complain(format!("{who} was told of a deletion"));
            return;
        };
        let now = number(&state);
        // The same again is allowed: the daemon may have ended before it knew that it was heard.
        if now < last {
            seen.complain(format!("{who} was told {now} after {last}"));
        }
        last = now;
        seen.callbacks.fetch_add(1, Ordering::Relaxed);
    }
}

/// Makes objects, shares, changes and deletes them.
async fn extras(link: HgxLink, bob: Ghid, stop: Arc<AtomicBool>, seen: Arc<Seen>) {
    let options = || NewOptions { api_id: Some(EXTRA), ..NewOptions::default() };
    let mut round = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(400)).await;
        round += 1;
        let obj: Obj = match link.new(&b"0"[..], options()).await {
            Ok(obj) => obj,
            // There may be one or not: the application has to look.
            Err(LinkError::ConnectionLost) => continue,
            Err(error) => {
                seen.complain(format!("an object was not made: {error}"));
                continue;
            }
        };
        let done = async {
            obj.share(bob).await?;
            seen.extras.lock().expect("no panic").insert(obj.ghid(), Some(0));
            if round.is_multiple_of(3) {
                obj.set_state(round.to_string().into_bytes())?;
                obj.push().await?;
                seen.extras.lock().expect("no panic").insert(obj.ghid(), Some(round));
            }
            if round.is_multiple_of(4) {
                obj.delete().await?;
                seen.extras.lock().expect("no panic").insert(obj.ghid(), None);
            }
            Ok::<(), LinkError>(())
        };
        match done.await {
            // A deletion that was repeated because the connection was lost finds nothing.
            Err(LinkError::Refused(error)) if round.is_multiple_of(4) => {
                assert!(error.text.contains("not exist") || obj.is_dead(), "{error}");
                seen.extras.lock().expect("no panic").insert(obj.ghid(), None);
            }
            Err(error) => seen.complain(format!("an extra: {error}")),
            Ok(()) => {}
        }
    }
}

fn soak(full: bool) {
    let seconds = setting("HYPERGOLIX_SOAK_SECONDS").unwrap_or(SECONDS);
    let seed = setting("HYPERGOLIX_SOAK_SEED").unwrap_or_else(|| rand::rng().random());
    println!("HYPERGOLIX_SOAK_SEED={seed} repeats the kills");
    let mut chance = StdRng::seed_from_u64(seed);

    let mut internet = Internet::new();
    let (place, address) = internet.server();
    let mut server = Server::prepare_only(&place, &["--host", "ANY"]);
    let cache = server.file("cache");
    if full {
        std::fs::create_dir(&cache).expect("the folder is ours");
        run(&["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", cache.to_str().expect("text")])
            .expect("a disk of its own");
    }
    server.start_again();
    let (here, there) = (internet.home(), internet.home());
    let (mut alice, mut bob) = (Side::new(&here, &address), Side::new(&there, &address));

    let seen: Arc<Seen> = Arc::default();
    let stop: Arc<AtomicBool> = Arc::default();
    let (of_alice, of_bob) = (alice.link(), bob.link());
    let (she, he) = (of_alice.fingerprint(), of_bob.fingerprint());
    let counted = |link: HgxLink, api: ApiId, other: Ghid| async move {
        let options = NewOptions { api_id: Some(api), ..NewOptions::default() };
        let obj: Obj = link.new(&b"0"[..], options).await?;
        obj.share(other).await?;
        Ok::<Obj, LinkError>(obj)
    };
    // As in the telemeter: one tells its status, the other how often it wants it.
    let status = here.run(counted(of_alice.clone(), STATUS, he)).expect("an object");
    let interval = there.run(counted(of_bob.clone(), INTERVAL, she)).expect("an object");
    let received = |place: &Place, link: &HgxLink, api: ApiId| {
        let link = link.clone();
        place.run(async move {
            let mut shares = link.shares(api).await?;
            let share = shares.next().await.expect("the link is not stopped");
            link.get::<Obj>(share.ghid).await
        })
    };
    let at_bob = received(&there, &of_bob, STATUS).expect("the status");
    let at_alice = received(&here, &of_alice, INTERVAL).expect("the interval");
    there.handle().spawn(watch(at_bob.clone(), "Bob", Arc::clone(&seen)));
    here.handle().spawn(watch(at_alice.clone(), "Alice", Arc::clone(&seen)));
    let told = Arc::clone(&seen);
    let mut shares = {
        let link = of_bob.clone();
        there.run(async move { link.shares(EXTRA).await }).expect("shares")
    };
    there.handle().spawn(async move {
        while let Some(share) = shares.next().await {
            told.shares.lock().expect("no panic").insert(share.ghid);
        }
    });
    let pushing = [(&here, &status, 50), (&there, &interval, 400)].map(|(place, obj, pause)| {
        let pause = Duration::from_millis(pause);
        place.handle().spawn(count(obj.clone(), pause, Arc::clone(&stop), Arc::clone(&seen)))
    });
    let making =
        here.handle().spawn(extras(of_alice.clone(), he, Arc::clone(&stop), Arc::clone(&seen)));

    let mut kills = [0; 3];
    let begun = Instant::now();
    let whole = Duration::from_secs(seconds);
    // In the middle, for a tenth of the time.
    let (fills, empties) = (whole * 9 / 20, whole * 11 / 20);
    let filler = cache.join("filler");
    while begun.elapsed() < whole {
        if full && begun.elapsed() > fills && begun.elapsed() < empties && !filler.exists() {
            fill(&filler);
        }
        if begun.elapsed() >= empties {
            let _ = std::fs::remove_file(&filler);
        }
        let who = chance.random_range(0..3);
        kills[who] += 1;
        let away = Duration::from_millis(chance.random_range(0..2_000));
        let on = Duration::from_millis(chance.random_range(300..3_000));
        match who {
            0 => alice.kill(),
            1 => bob.kill(),
            _ => server.kill(),
        }
        pause(away);
        match who {
            0 => alice.start(),
            1 => bob.start(),
            _ => server.start_again(),
        }
        pause(on);
    }
    let _ = std::fs::remove_file(&filler);
    stop.store(true, Ordering::Relaxed);
    let [last, last_interval] = pushing.map(|pushing| here.run(pushing).expect("no panic"));
    here.run(making).expect("no panic");

    // Both agree, on everything that was acknowledged.
    let state = |obj: &Obj| obj.state().map_or(0, |state| number(&state));
    let converged = wait_until("the same state on both sides", CONVERGED_MAX, || {
        state(&at_bob) == last && state(&at_alice) == last_interval
    });
    let expected = seen.extras.lock().expect("no panic").clone();
    let read = |ghid: Ghid| {
        let link = of_bob.clone();
        there.run(async move {
            let obj: Obj = link.get(ghid).await.ok()?;
            Some(number(&obj.state().ok()?))
        })
    };
    for (ghid, state) in &expected {
        wait_until(&format!("{ghid} to be {state:?}"), CONVERGED_MAX, || read(*ghid) == *state);
        if state.is_some() {
            wait_until(&format!("the share of {ghid}"), CONVERGED_MAX, || {
                seen.shares.lock().expect("no panic").contains(ghid)
            });
        }
    }
    println!(
        "{seconds} s, killed: Alice {}, Bob {}, the server {}; {} pushes acknowledged, {} callbacks, \
         {} objects shared, {} deleted; same state {:.1} s after the last",
        kills[0],
        kills[1],
        kills[2],
        seen.pushes.load(Ordering::Relaxed),
        seen.callbacks.load(Ordering::Relaxed),
        expected.len(),
        expected.values().filter(|state| state.is_none()).count(),
        converged.as_secs_f64(),
    );
    let complaints = seen.complaints.lock().expect("no panic");
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert!(
        bob.node().status()["store_failures"] == 0 && alice.node().status()["store_failures"] == 0
    );
    if full {
        server.kill();
        run(&["umount", cache.to_str().expect("text")]).expect("nobody uses it");
    }
}

/// Takes all the room that a disk has.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).expect("a file without bytes");
    let block = vec![0; 64 << 10];
    while file.write_all(&block).is_ok() {}
    let _ = file.write_all(&block[..4 << 10]);
}
