//! Servers that go, come back, and lose everything.

use std::time::{Duration, Instant};

use hypergolix_tests::namespaces::Internet;
use hypergolix_tests::process::Server;
use hypergolix_tests::wait::{pause, wait_until};

use crate::{CONNECTED_MAX, CONVERGED_MAX, Site, server};

pub fn killed_and_started_again() {
    let mut internet = Internet::new();
    let (mut server, address) = server(&mut internet, &[]);
    let (alice, bob) =
        (Site::new(&mut internet, &[&address]), Site::new(&mut internet, &[&address]));
    let object = alice.shared_with(&bob, b"first");
    alice.stored();
    let bob = bob.stop();
    server.kill();
    alice.app.push(object, b"while the server was down");
    server.start_again();
    alice.connected();
    alice.stored();
    // What it acknowledged survives it, and its sender is gone.
    let alice = alice.stop();
    server.kill();
    server.start_again();
    let bob = Site::start(bob.0, bob.1);
    let waited = wait_until("the change", CONVERGED_MAX, || {
        bob.app.get(object).state == b"while the server was down"
    });
    println!("after {waited:?}");
    let alice = Site::start(alice.0, alice.1);
    alice.app.push(object, b"and on");
    bob.app.update(object, b"and on", CONVERGED_MAX);
}

pub fn wiped_and_filled_again() {
    let mut internet = Internet::new();
    let (mut server, address) = server(&mut internet, &[]);
    let (alice, bob) =
        (Site::new(&mut internet, &[&address]), Site::new(&mut internet, &[&address]));
    let object = alice.shared_with(&bob, b"first");
    for number in 0..200_u32 {
        alice.app.new_object(&number.to_be_bytes());
    }
    alice.stored();
    let bob = bob.stop();
    assert!(server.stop().success());
    server.wipe();
    server.start_again();
    let begun = Instant::now();
    alice.connected();
    alice.stored();
    println!("200 objects again after {:?}", begun.elapsed());
    alice.app.push(object, b"second");
    alice.stored();
    drop(alice);
    let bob = Site::start(bob.0, bob.1);
    wait_until("the change", CONVERGED_MAX, || bob.app.get(object).state == b"second");
}

pub fn two_servers_and_one_is_lost() {
    let mut internet = Internet::new();
    let (mut first, address) = server(&mut internet, &[]);
    let (_second, other) = server(&mut internet, &[]);
    let both = [address.as_str(), other.as_str()];
    let (alice, bob) = (Site::new(&mut internet, &both), Site::new(&mut internet, &both));
    alice.connected();
    bob.connected();
    let object = alice.shared_with(&bob, b"first");
    alice.stored();
    let bob = bob.stop();
    first.kill();
    alice.app.push(object, b"second");
    wait_until("the other server to have it", CONVERGED_MAX, || {
        alice
            .remotes()
            .iter()
            .any(|remote| remote["state"] == "connected" && remote["pending"] == 0)
    });
    let alice = alice.stop();
    let bob = Site::start(bob.0, bob.1);
    wait_until("the change", CONVERGED_MAX, || bob.app.get(object).state == b"second");
    let alice = Site::start(alice.0, alice.1);
    alice.app.push(object, b"third");
    bob.app.update(object, b"third", CONVERGED_MAX);
}

/// A stream of updates, while the server is killed again and again.
pub fn killed_in_mid_stream() {
    let mut internet = Internet::new();
    let (mut server, address) = server(&mut internet, &[]);
    let (alice, bob) =
        (Site::new(&mut internet, &[&address]), Site::new(&mut internet, &[&address]));
    let object = alice.shared_with(&bob, b"0");
    let mut count = 0_u64;
    for round in 0..8 {
        for _ in 0..50 {
            count += 1;
            alice.app.push(object, count.to_string().as_bytes());
        }
        pause(Duration::from_millis(37 * round % 150));
        server.kill();
        count += 1;
        alice.app.push(object, count.to_string().as_bytes());
        server.start_again();
        bob.app.update(object, count.to_string().as_bytes(), 2 * CONVERGED_MAX);
    }
    let states: Vec<u64> = bob
        .app
        .states(object)
        .iter()
        .map(|state| String::from_utf8_lossy(state).parse().expect("states are numbers"))
        .collect();
    for pair in states.windows(2) {
        assert!(pair[0] < pair[1], "{} came after {}", pair[1], pair[0]);
    }
    println!("{} of {count} states were seen", states.len());
}

/// Two servers hold the same; each user knows only one of them.
pub fn mirrors() {
    let mut internet = Internet::new();
    let (place, address) = internet.server();
    let (other_place, other) = internet.server();
    let mut first = Server::start(&place, &["--host", "ANY"]);
    let of = |server: &Server, address: &str| {
        let listen = server.fact("addresses").to_owned();
        let tcp = listen.split(',').find(|at| at.contains("/tcp/") && at.contains(address));
        tcp.expect("it listens").to_owned()
    };
    let mut second = Server::start(&other_place, &["--host", "ANY"]);
    let (at_first, at_second) = (of(&first, &address), of(&second, &other));
    for (server, mirror) in [(&mut first, &at_second), (&mut second, &at_first)] {
        assert!(server.stop().success());
        server.with_args(&["--mirror", mirror]);
        server.start_again();
    }
    let (alice, bob) = (Site::new(&mut internet, &[&address]), Site::new(&mut internet, &[&other]));
    alice.connected();
    bob.connected();
    let object = alice.shared_with(&bob, b"across");
    alice.app.push(object, b"and again");
    bob.app.update(object, b"and again", CONVERGED_MAX);
    wait_until("the answer", CONVERGED_MAX, || alice.node.status()["shares_owed"] == 0);
    let mirrored = |server: &Server| {
        let said = server.operate("status", &["--json"]);
        let said: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
        said["mirrors"][0]["connected"].clone()
    };
    assert_eq!(mirrored(&first), true);
    // One of them is lost, and comes back empty.
    second.kill();
    second.wipe();
    alice.app.push(object, b"meanwhile");
    wait_until("its operator to see it", CONVERGED_MAX, || mirrored(&first) == false);
    second.start_again();
    bob.app.update(object, b"meanwhile", CONNECTED_MAX + CONVERGED_MAX);
}
