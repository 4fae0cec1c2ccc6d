//! Links that go down and nodes that are killed.

use std::time::{Duration, Instant};

use hypergolix_tests::namespaces::Lan;
use hypergolix_tests::wait::{pause, wait_until};

use crate::{CONVERGED_MAX, FOUND_AGAIN_MAX, FOUND_MAX, Site, assert_never_back, numbers, peers};

/// How long the cable is out, and how many pushes are made meanwhile.
const OUTAGE: Duration = Duration::from_secs(10);
const PUSHES: u32 = 50;

pub fn unplug_and_replug() {
    let mut lan = Lan::new();
    let (alice, bob) = (Site::new(&mut lan), Site::new(&mut lan));
    let object = alice.shared_with(&[&bob], b"0");
    alice.app.push(object, b"1");
    bob.app.update(object, b"1", FOUND_MAX);

    bob.place.unplug();
    let mut last = String::new();
    for count in 0..PUSHES {
        last = (2 + count).to_string();
        alice.app.push(object, last.as_bytes());
        pause(OUTAGE / PUSHES);
    }
    assert_eq!(bob.app.get(object).state, b"1", "the cable is out");
    bob.place.plug();
    let up = Instant::now();

    wait_until(
        "the nodes to find each other again",
        FOUND_AGAIN_MAX,
        || peers(&alice.app) > 0 && peers(&bob.app) > 0,
    );
    let found = up.elapsed();
    bob.app.update(object, last.as_bytes(), FOUND_AGAIN_MAX);
    let converged = up.elapsed();
    println!("link up: connected after {found:?}, converged after {converged:?}");
    assert!(
        converged <= FOUND_AGAIN_MAX.min(found + CONVERGED_MAX),
        "{found:?} {converged:?}"
    );
    assert_never_back(&numbers(&bob.app, object));

    // Both directions work again.
    let theirs = bob.shared_with(&[&alice], b"0");
    bob.app.push(theirs, b"1");
    alice.app.update(theirs, b"1", CONVERGED_MAX);
}
