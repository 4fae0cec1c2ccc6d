//! Many followers of one object, and one follower of many objects.
//!
//! What has to hold is asserted; how fast it is and how much memory it takes is printed. Ten thousand
//! objects of two hundred users, with the optimised binary, take two to three minutes:
//!
//! ```text
//! cargo build --release -p hypergolix-node
//! HYPERGOLIX_TESTS_BINARY=$PWD/target/release/hypergolix HYPERGOLIX_SCALE_AUTHORS=200 \
//!     cargo test -p hypergolix-tests --test scale -- --test-threads 1
//! ```

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use golix::{Ghid, Identity};
use hypergolix_engine::Message;
use hypergolix_engine::message::Packed;
use hypergolix_tests::crowd::{Author, Client, Crafted, Relay, percentile, tcp_address};
use hypergolix_tests::harness::{self, trial};
use hypergolix_tests::namespaces::{Internet, Place};
use hypergolix_tests::process::{Home, Node, Server};
use hypergolix_tests::wait::{pause, wait_until};
use hypergolix_tests::wire::{Address, Wire, fresh_api};
use libp2p::Multiaddr;
use tokio::sync::{mpsc, watch};

/// How long anything may take that thousands take part in.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a node stays to leave its answers at the server.
const VISIT: Duration = Duration::from_secs(10);
/// Links that are being made at once.
const CONNECTING_AT_ONCE: usize = 16;

fn main() -> ExitCode {
    harness::main(false, |world| {
        let trials = vec![
            trial("a_thousand_followers", a_thousand_followers),
            trial("objects_of_many_users", objects_of_many_users),
        ];
        trials.into_iter().map(|trial| trial.with_ignored_flag(!world.namespaces)).collect()
    })
}

/// A number from the environment.
fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn kilobytes(bytes: u64, among: usize) -> String {
    format!("{:.1} kB", bytes as f64 / 1e3 / among as f64)
}

/// One object, a thousand links that follow it: each change reaches all of them.
fn a_thousand_followers() {
    const CHANGES: usize = 20;
    let count = number("HYPERGOLIX_SCALE_FOLLOWERS", 1_000);
    let here = Place::here();
    let server = Server::start(&here, &["--port", "0"]);
    let address = tcp_address(server.fact("addresses"));
    let alone = server.resident();
    let connecting = Instant::now();
    let to = address.clone();
    let followers =
        here.run(async move { Followers::connect(&to, count).await }).expect("all get a link");
    println!("{count} links in {:.1?}", connecting.elapsed());
    let linked = server.resident();
    let mut times = here
        .run(async move { followers.hear_changes(&address, CHANGES).await })
        .expect("each change reaches everybody");
    assert_eq!(times.len(), count * CHANGES);
    println!(
        "a change of one object reaches one of {count} followers after p50 {:.1?}, p99 {:.1?}, \
         the last one after {:.1?}",
        percentile(&mut times, 50),
        percentile(&mut times, 99),
        percentile(&mut times, 100),
    );
    println!(
        "memory of the server: {} alone, {} a link, {} more a follower",
        kilobytes(alone, 1),
        kilobytes(linked.saturating_sub(alone), count),
        kilobytes(server.resident().saturating_sub(linked), count),
    );
}

/// Who heard which frame, and when.
type Heard = (usize, Packed, Instant);

/// Links that will follow an object.
struct Followers {
    count: usize,
    object: watch::Sender<Option<Ghid>>,
    heard: mpsc::Receiver<Heard>,
}

impl Followers {
    async fn connect(server: &Multiaddr, count: usize) -> anyhow::Result<Self> {
        let (object, wanted) = watch::channel(None);
        let (hear, heard) = mpsc::channel(count);
        let links: Vec<_> = (0..count).map(|number| (number, hear.clone())).collect();
        let connected = stream::iter(links).map(|(number, hear)| {
            let wanted = wanted.clone();
            async move {
                let link = Client::connect(server, None).await?;
                tokio::spawn(follow(number, link, wanted, hear));
                anyhow::Ok(())
            }
        });
        connected.buffer_unordered(CONNECTING_AT_ONCE).try_collect::<Vec<()>>().await?;
        Ok(Self { count, object, heard })
    }

    /// How long each change takes to each of the followers.
    async fn hear_changes(
        mut self,
        server: &Multiaddr,
        changes: usize,
    ) -> anyhow::Result<Vec<Duration>> {
        let author = Author::new([7; 64]);
        let mut object = author.craft();
        let mut publisher = Client::connect(server, None).await?;
        let first = author.next_state(&mut object, b"the first state");
        let frame = first[1].clone();
        publisher.store(first).await?;
        self.object.send_replace(Some(object.dynamic));
        // The answer to the subscription.
        self.all_hear(&frame, Instant::now()).await?;
        let mut times = Vec::new();
        for _ in 0..changes {
            let bundle = author.next_state(&mut object, &[7; 100]);
            let frame = bundle[1].clone();
            let begun = Instant::now();
            publisher.publish(bundle);
            times.extend(self.all_hear(&frame, begun).await?);
            let stored = |message| matches!(message, Message::Published { .. }).then_some(());
            publisher.await_for("an acknowledgement", stored).await?;
        }
        Ok(times)
    }

    /// Waits until everybody has heard of a frame, once.
    async fn all_hear(&mut self, frame: &Packed, begun: Instant) -> anyhow::Result<Vec<Duration>> {
        let mut left: BTreeSet<usize> = (0..self.count).collect();
        let mut times = Vec::with_capacity(self.count);
        while !left.is_empty() {
            let next = tokio::time::timeout(PATIENCE, self.heard.recv()).await;
            let next = next.with_context(|| format!("{} did not hear", left.len()))?;
            let (number, seen, at) = next.context("all links ended")?;
            ensure!(seen == *frame && left.remove(&number), "heard twice, or late");
            times.push(at.saturating_duration_since(begun));
        }
        Ok(times)
    }
}

/// Follows the object as soon as it is known, and says what is heard.
async fn follow(
    number: usize,
    mut link: Client,
    mut wanted: watch::Receiver<Option<Ghid>>,
    hear: mpsc::Sender<Heard>,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            changed = wanted.changed() => {
                changed?;
                if let Some(object) = *wanted.borrow_and_update() {
                    link.subscribe(object);
                }
            }
            message = link.next() => {
                if let Message::Event { cursor, mut objects, .. } = message? {
                    let at = Instant::now();
                    link.send(Message::EventAck { seq: cursor.seq });
                    ensure!(objects.len() > 1, "an event without a frame");
                    hear.send((number, objects.swap_remove(1), at)).await?;
                }
            }
        }
    }
}

/// A node follows what many users made: at rest, and after absences.
fn objects_of_many_users() {
    let authors = number("HYPERGOLIX_SCALE_AUTHORS", 20);
    let each = number("HYPERGOLIX_SCALE_OBJECTS", 50);
    let all = authors * each;
    let api = fresh_api();
    let mut internet = Internet::new();
    let (place, host) = internet.server();
    let mut server_process = Server::start(&place, &["--host", "ANY"]);
    let home = Home::new(&internet.home());
    let relay = Relay::start(home.place(), 7770, &format!("{host}:7770"));
    for words in [&["--addhost", "127.0.0.1", "7770", "False"][..], &["--no-lan"]] {
        let config = home.run(&[&["config"], words].concat());
        assert!(config.status.success(), "{config:?}");
    }
    let node = home.start();
    connected(&node);
    let app = node.connect();
    app.register_api(api);

    let elsewhere = internet.home();
    let server: Multiaddr = format!("/ip4/{host}/tcp/7770").parse().expect("an address");
    let recipient = Ghid::from_bytes(&node.address().0).expect("a fingerprint");
    let begun = Instant::now();
    let api_id = api[1..].try_into().expect("64 bytes");
    let to = server.clone();
    let mut made = elsewhere
        .run(async move { share_all(&to, authors, each, api_id, recipient).await })
        .expect("everything is shared");
    println!("{all} objects of {authors} users made and shared in {:.1?}", begun.elapsed());
    wait_until("everything to be here and the node to be at rest", PATIENCE, || {
        let status = node.status();
        status["followed"] == all
            && status["objects"] == all
            && status["shares_waiting"] == 0
            && status["requests_to_open"] == 0
    });
    println!("all of it followed after {:.1?}", begun.elapsed());
    println!("resident then: {}", kilobytes(node.resident(), 1));
    drop(app);
    assert!(node.stop().success());
    // A server takes a thousand requests of a user at once, answers to shares among them, and then
    // ten a second. Not to wait for that, it is started again between visits.
    for visit in 0.. {
        let node = home.start();
        let begun = Instant::now();
        let mut owed = u64::MAX;
        while owed > 0 && begun.elapsed() < VISIT {
            pause(Duration::from_millis(100));
            owed = node.status()["shares_owed"].as_u64().expect("a number");
        }
        assert!(node.stop().success());
        if owed == 0 {
            break;
        }
        assert!(visit < all / 500 + 2, "{owed} answers are still owed");
        assert!(server_process.stop().success());
        server_process.start_again();
    }

    // Back with nothing new, then with a hundred changes, near by and far away.
    for (changes, delay) in [(0, 0), (100, 0), (100, 100)] {
        let (to, state) = (server.clone(), format!("{changes} {delay}").into_bytes());
        let wanted = state.clone();
        let done = elsewhere.run(async move {
            let changed = change_some(&to, &mut made, changes.min(all), state).await?;
            anyhow::Ok((made, changed))
        });
        let (made_now, changed) = done.expect("the changes are stored");
        made = made_now;
        relay.set_delay(Duration::from_millis(delay));
        let node = home.start();
        let app = node.connect();
        caught_up(&app, &changed, &wanted);
        println!(
            "{} changes after an absence, {delay} ms one way: here {:.2?} after the connection",
            changed.len(),
            relay.connected().elapsed()
        );
        relay.set_delay(Duration::ZERO);
        assert!(node.status()["followed"] == all, "it still follows all of it");
        if delay > 0 {
            // Comparisons and tests of reachability, which send 100 kB on purpose, end meanwhile.
            pause(Duration::from_secs(12));
            let rest = Duration::from_secs(number("HYPERGOLIX_SCALE_REST", 10) as u64);
            let before = home.place().traffic();
            pause(rest);
            let idle = (home.place().traffic() - before) / rest.as_secs();
            println!(
                "at rest: {idle} B/s with all headers, {} resident",
                kilobytes(node.resident(), 1)
            );
        }
        drop(app);
        assert!(node.stop().success());
    }
}

/// What an author made.
type Made = Vec<(Author, Vec<Crafted>)>;

/// Waits until the node is connected to its only server.
fn connected(node: &Node) {
    wait_until("the server to be connected", PATIENCE, || {
        node.status()["remotes"][0]["state"] == "connected"
    });
}

/// Authors make objects at the server and leave a share of each in the recipient's mailbox.
async fn share_all(
    server: &Multiaddr,
    authors: usize,
    each: usize,
    api: [u8; 64],
    recipient: Ghid,
) -> anyhow::Result<Made> {
    let mut first = Client::connect(server, None).await?;
    let gidc = first.get(recipient).await?;
    let gidc = gidc.first().context("the server knows the recipient")?;
    let recipient = Identity::from_bytes(gidc).context("an identity")?;
    first.close().await;
    let mut made = Vec::new();
    while made.len() < authors {
        let some = (made.len()..authors.min(made.len() + 8)).map(|_| async {
            let author = Author::new(api);
            let mut link = Client::connect(server, Some(author.identity())).await?;
            let mut objects = Vec::new();
            let mut shares = Vec::new();
            for _ in 0..each {
                let mut object = author.craft();
                link.store(author.next_state(&mut object, &[7; 100])).await?;
                shares.push(author.share(&object, &recipient));
                objects.push(object);
            }
            link.store_until_handled(shares).await?;
            link.close().await;
            anyhow::Ok((author, objects))
        });
        made.extend(try_join_all(some).await?);
    }
    Ok(made)
}

/// New states of some objects, the one with the last address among them.
async fn change_some(
    server: &Multiaddr,
    made: &mut Made,
    count: usize,
    state: Vec<u8>,
) -> anyhow::Result<Vec<Ghid>> {
    let mut link = Client::connect(server, None).await?;
    let last = made.iter().flat_map(|(_, objects)| objects).map(|object| object.dynamic).max();
    let mut changed = Vec::new();
    for (author, objects) in made.iter_mut() {
        for (number, object) in objects.iter_mut().enumerate() {
            // One of every other author's.
            if Some(object.dynamic) == last || (number == 0 && changed.len() + 1 < count) {
                link.store(author.next_state(object, &state)).await?;
                changed.push(object.dynamic);
            }
        }
    }
    link.close().await;
    Ok(changed)
}

/// Waits until all of these objects have a state.
fn caught_up(app: &Wire, objects: &[Ghid], state: &[u8]) {
    let mut left: Vec<Address> = objects.iter().map(|ghid| Address(*ghid.as_bytes())).collect();
    wait_until("the changes", PATIENCE, || {
        while let Some(object) = left.last() {
            if app.get(*object).state != state {
                return false;
            }
            left.pop();
        }
        true
    });
}
