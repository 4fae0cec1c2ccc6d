//! A hostile device against a real server: everybody else is served, and memory stays bounded.
//!
//! How long the others wait is measured in the same run before the attack, so that the machine does
//! not matter. The attacks are a tenth of those of the threat model or less, unless the environment
//! says otherwise: `HYPERGOLIX_ATTACKS_SCALE=10 cargo test -p hypergolix-tests --test attacks`.

use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hypergolix_tests::crowd::{Author, Client, Crafted, percentile};
use hypergolix_tests::harness::{self, trial};
use hypergolix_tests::namespaces::{Internet, Place};
use hypergolix_tests::process::Server;
use libp2p::{Multiaddr, PeerId};

mod connections;
mod hostile;
mod objects;
mod substreams;

/// From dialling to being answered, while others take what they can.
const CONNECTED_MAX: Duration = Duration::from_secs(2);

/// Others wait so many times as long under attack, at most.
const SLOWER_MAX: u32 = 4;
/// What others may wait on any machine.
const WAIT_MAX: Duration = Duration::from_millis(250);

/// States that are stored, and read back, for one measurement.
const SAMPLES: usize = 60;

const MIB: u64 = 1 << 20;

fn main() -> ExitCode {
    harness::main(false, |world| {
        let trials = vec![
            trial("invalid_objects", objects::invalid_objects),
            trial("replay", objects::replay),
            trial("useless_identities", objects::useless_identities),
            trial("connections_of_one_address", || connections::of_addresses(1)),
            trial("connections_of_three_addresses", || connections::of_addresses(3)),
            trial("half_open", connections::half_open),
            trial("stalled_substreams", substreams::stalled),
            trial("crumbs", substreams::crumbs),
            trial("answers_that_nobody_reads", substreams::answers_that_nobody_reads),
        ];
        trials.into_iter().map(|trial| trial.with_ignored_flag(!world.namespaces)).collect()
    })
}

/// How many times larger the attacks are than usual.
fn scale() -> usize {
    std::env::var("HYPERGOLIX_ATTACKS_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// A server, somebody honest at one address and somebody who is not at another.
struct Scene {
    server: Server,
    address: Multiaddr,
    /// `host:port`.
    socket: String,
    honest: Place,
    hostile: Place,
    internet: Internet,
    /// One attack at a time: what others wait is measured.
    _turn: MutexGuard<'static, ()>,
}

impl Scene {
    fn new(args: &[&str], start: fn(&Place, &[&str]) -> Server) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut internet = Internet::new();
        let (place, host) = internet.server();
        let args: Vec<&str> = ["--host", "ANY"].iter().chain(args).copied().collect();
        let server = start(&place, &args);
        let address = format!("/ip4/{host}/tcp/7770").parse().expect("an address");
        Self {
            server,
            address,
            socket: format!("{host}:7770"),
            honest: internet.home(),
            hostile: internet.home(),
            internet,
            _turn: turn,
        }
    }

    fn peer_id(&self) -> PeerId {
        self.server.fact("peer-id").parse().expect("a peer id")
    }

    /// Somebody with an object at the server.
    fn user(&self) -> User {
        let server = self.address.clone();
        self.honest.run(async move { User::new(&server).await }).expect("a server takes users")
    }

    /// How long somebody new takes to be answered.
    fn connect(&self) -> Duration {
        let server = self.address.clone();
        let begun = Instant::now();
        let connected = self.honest.run(async move {
            let mut client = Client::connect(&server, None).await?;
            let nothing = client.get(Author::new([7; 64]).identity().ghid()).await?;
            client.close().await;
            anyhow::Ok(nothing)
        });
        assert!(connected.expect("somebody new is answered").is_empty());
        begun.elapsed()
    }
}

/// Somebody who stores states of an object and reads them back.
struct User {
    client: Client,
    author: Author,
    object: Crafted,
}

/// What 99 of 100 waited at most, to store and to read.
#[derive(Debug, Clone, Copy)]
struct Waits {
    store: Duration,
    read: Duration,
}

impl User {
    async fn new(server: &Multiaddr) -> anyhow::Result<Self> {
        let author = Author::new([7; 64]);
        let client = Client::connect(server, Some(author.identity())).await?;
        let object = author.craft();
        let mut user = Self { client, author, object };
        user.measure(5).await?;
        Ok(user)
    }

    async fn measure(&mut self, samples: usize) -> anyhow::Result<Waits> {
        let (mut stores, mut reads) = (Vec::new(), Vec::new());
        for _ in 0..samples {
            let state = self.author.next_state(&mut self.object, &[7; 100]);
            let frame = state[1].clone();
            let begun = Instant::now();
            self.client.store(state).await?;
            stores.push(begun.elapsed());
            let begun = Instant::now();
            let read = self.client.get(self.object.dynamic).await?;
            reads.push(begun.elapsed());
            anyhow::ensure!(read.contains(&frame), "not the newest state");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Waits { store: percentile(&mut stores, 99), read: percentile(&mut reads, 99) })
    }

    /// One measurement, in its place.
    fn waits(self, place: &Place) -> (Self, Waits) {
        let mut user = self;
        place.run(async move {
            let waits = user.measure(SAMPLES).await.expect("somebody honest is served");
            (user, waits)
        })
    }
}

impl Waits {
    /// Asserts that this is not much longer than `usual`.
    fn compare(self, usual: Self) {
        println!("p99 before: {usual:.1?}, under attack: {self:.1?}");
        for (now, before) in [(self.store, usual.store), (self.read, usual.read)] {
            assert!(now <= (SLOWER_MAX * before).max(WAIT_MAX), "{now:?} instead of {before:?}");
        }
    }
}

/// Asserts that memory grew by so many MiB at most.
fn assert_grown(scene: &Scene, before: u64, most: u64) {
    let grown = scene.server.resident().saturating_sub(before);
    println!("memory: {} MiB before, {} MiB more", before / MIB, grown / MIB);
    assert!(grown <= most * MIB, "{} MiB instead of {most}", grown / MIB);
}
