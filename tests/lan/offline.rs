//! Shares with somebody who is not there.

use hypergolix_tests::namespaces::Lan;
use hypergolix_tests::process::Home;
use hypergolix_tests::wait::{PATIENCE, wait_until};
use hypergolix_tests::wire::{Definition, fresh_api};

use crate::{CONVERGED_MAX, FOUND_MAX, Site, status};

/// What happens to the sender's node between the share and its arrival.
#[derive(Clone, Copy)]
pub enum Sender {
    Stays,
    Restarts,
    IsKilled,
}

/// The share waits for its recipient, also through a restart of the sender's node.
pub fn share_to_offline(sender: Sender) {
    let mut lan = Lan::new();
    let (mut alice, bob) = (Site::new(&mut lan), Site::new(&mut lan));
    alice.meets(&bob, FOUND_MAX);
    let recipient = bob.address();
    let (place, home) = bob.stop();

    let mut definition = Definition::new(b"while you were out");
    definition.api = fresh_api();
    let object = alice.app.make(&definition).expect("an object");
    alice.app.share(object, recipient);
    match sender {
        Sender::Stays => {}
        Sender::Restarts => {
            let (place, home) = alice.stop();
            alice = Site::start(place, home);
        }
        Sender::IsKilled => {
            let (place, home) = alice.kill();
            alice = Site::start(place, home);
        }
    }
    let bob = Site::start(place, home);
    bob.app.register_api(definition.api);
    assert_eq!(bob.app.share_of(object, CONVERGED_MAX), alice.address());
    assert_eq!(bob.app.get(object).state, b"while you were out");
    alice.app.push(object, b"and now");
    bob.app.update(object, b"and now", CONVERGED_MAX);
}

/// The recipient has an account, but its node and the sender's never met.
pub fn share_before_meeting() {
    let mut lan = Lan::new();
    let place = lan.host();
    place.unplug();
    let home = Home::new(&place);
    let bob = Site::start(place, home);
    let recipient = bob.address();
    let (place, home) = bob.stop();
    place.plug();

    let alice = Site::new(&mut lan);
    let mut definition = Definition::new(b"hello, stranger");
    definition.api = fresh_api();
    let object = alice.app.make(&definition).expect("an object");
    alice.app.share(object, recipient);
    let bob = Site::start(place, home);
    bob.app.register_api(definition.api);
    assert_eq!(bob.app.share_of(object, CONVERGED_MAX), alice.address());
}

/// The recipient's node takes the share, and keeps it until somebody wants it.
pub fn share_without_application() {
    let mut lan = Lan::new();
    let (alice, mut bob) = (Site::new(&mut lan), Site::new(&mut lan));
    let mut definition = Definition::new(b"for whom it may concern");
    definition.api = fresh_api();
    let object = alice.app.make(&definition).expect("an object");
    alice.app.share(object, bob.address());
    wait_until("the delivery", PATIENCE, || status(&alice.app)["shares_owed"] == 0);
    // The sender need not be there any more, and the recipient's node may come and go.
    let origin = alice.address();
    drop(alice);
    for killed in [false, true] {
        let (place, home) = if killed { bob.kill() } else { bob.stop() };
        bob = Site::start(place, home);
        assert_eq!(bob.app.get(object).state, b"for whom it may concern");
    }
    bob.app.register_api(definition.api);
    assert_eq!(bob.app.share_of(object, CONVERGED_MAX), origin);
    // Once.
    let (place, home) = bob.stop();
    bob = Site::start(place, home);
    bob.app.register_api(definition.api);
    bob.app.whoami();
    assert!(bob.app.notices().is_empty(), "handed over twice");
}
