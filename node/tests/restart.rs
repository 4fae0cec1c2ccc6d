//! Stop, start, same state; and what a daemon costs while nothing happens.

mod daemon;

use std::time::{Duration, Instant};

use daemon::{Daemon, Home};
use golix::Ghid;
use hypergolix_ipc::client::{HgxLink, LinkOptions, NewOptions, Obj, Update};

const SECRET: &str = "correct horse battery staple";

async fn link(node: &Daemon) -> HgxLink {
    HgxLink::connect(node.port()).await.expect("the node answers")
}

async fn make(link: &HgxLink, state: &[u8]) -> Obj {
    link.new(state, NewOptions::default()).await.expect("an object")
}

async fn state(link: &HgxLink, ghid: Ghid) -> Vec<u8> {
    let obj: Obj = link.get(ghid).await.expect("it is there");
    obj.state().expect("it lives").to_vec()
}

#[tokio::test]
async fn the_same_objects_after_a_restart_and_after_a_kill() {
    let home = Home::new();
    let mut objects = Vec::new();
    let mut fingerprint = None;
    for round in 0..4_u8 {
        let node = home.start(SECRET).expect("it starts");
        let link = link(&node).await;
        assert_eq!(*fingerprint.get_or_insert(link.fingerprint()), link.fingerprint());
        for (ghid, expected) in &objects {
            assert_eq!(state(&link, *ghid).await, *expected, "round {round}");
        }
        let obj = make(&link, &[round]).await;
        for step in 0..10 {
            obj.set_state(vec![round, step]).expect("it lives");
            obj.push().await.expect("a push");
        }
        objects.push((obj.ghid(), vec![round, 9]));
        if round % 2 == 0 {
            node.stop();
        } else {
            node.kill();
        }
    }
}

#[tokio::test]
async fn deleted_stays_deleted() {
    let home = Home::new();
    let node = home.start(SECRET).expect("it starts");
    let first = link(&node).await;
    let obj = make(&first, b"short-lived").await;
    let ghid = obj.ghid();
    obj.delete().await.expect("a deletion");
    node.kill();
    let node = home.start(SECRET).expect("it starts");
    let second = link(&node).await;
    second.get::<Obj>(ghid).await.expect_err("it was deleted");
    node.stop();
}

/// The client comes back by itself, and so do its objects.
#[tokio::test]
async fn applications_go_on_after_a_restart() {
    let home = Home::new();
    let node = home.start(SECRET).expect("it starts");
    let port = node.port().to_string();
    let options = LinkOptions { port: node.port(), ..LinkOptions::default() };
    let writer = HgxLink::connect_with(options).await.expect("the node answers");
    let reader = HgxLink::connect_with(options).await.expect("the node answers");
    let obj = make(&writer, b"0").await;
    let copy: Obj = reader.get(obj.ghid()).await.expect("it is there");
    let mut updates = copy.updates();
    node.kill();
    let node = home.start_with(&["--ipc-port", &port], SECRET).expect("it starts");
    obj.set_state(&b"1"[..]).expect("it lives");
    obj.push().await.expect("a push");
    let next = tokio::time::timeout(Duration::from_secs(10), updates.next()).await;
    assert!(matches!(next, Ok(Some(Update::State(state))) if *state == *b"1"));
    node.stop();
}

#[tokio::test]
async fn a_stop_commits_what_was_asked_before() {
    let home = Home::new();
    let node = home.start(SECRET).expect("it starts");
    let connection = link(&node).await;
    let mut answers = tokio::task::JoinSet::new();
    for number in 0..100_u8 {
        let connection = connection.clone();
        answers.spawn(async move {
            connection.new::<Obj>(&[number][..], NewOptions::default()).await.map(|obj| obj.ghid())
        });
    }
    // Whatever was answered by now has to be there, whatever was not may be.
    let mut known = Vec::new();
    known.extend(answers.join_next().await.expect("one").expect("no panic"));
    let stopping = tokio::task::spawn_blocking(move || node.stop());
    while let Some(answer) = answers.join_next().await {
        known.extend(answer.expect("no panic"));
    }
    stopping.await.expect("it stops");
    let node = home.start(SECRET).expect("it starts");
    let connection = link(&node).await;
    for ghid in known {
        state(&connection, ghid).await;
    }
    node.stop();
}

/// Half a second for everything after scrypt, which takes most of what is measured here; generous,
/// because tests run beside each other.
#[test]
fn ready_soon_and_small() {
    let home = Home::new();
    home.start(SECRET).expect("it starts").stop();
    let started = Instant::now();
    let node = home.start(SECRET).expect("it starts");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    std::thread::sleep(Duration::from_millis(500));
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).expect("it runs");
    let resident: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
        .expect("a size");
    println!("ready after {:?}, {resident} kB resident", node.startup);
    assert!(resident < 40_000, "{resident} kB");
    node.stop();
}
