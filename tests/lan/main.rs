//! Several hosts on one bridge: the promises a user of a LAN has.
//!
//! `HYPERGOLIX_KILL_ROUNDS` sets how often nodes are killed in mid-stream, 20 unless set.

use std::process::ExitCode;
use std::time::Duration;

use hypergolix_tests::harness::{self, trial};
use hypergolix_tests::namespaces::{Lan, Place};
use hypergolix_tests::process::{Home, Node};
use hypergolix_tests::wait::{pause, wait_until};
use hypergolix_tests::wire::{Address, Definition, STATE_MAX, Wire, fresh_api};

mod offline;
mod outage;
mod telemeter;

/// From the second node's start to both knowing each other.
const FOUND_MAX: Duration = Duration::from_secs(5);
/// From a link's coming up to both knowing each other again.
const FOUND_AGAIN_MAX: Duration = Duration::from_secs(10);
/// From being able to reach each other to the same state; also for shares that waited.
const CONVERGED_MAX: Duration = Duration::from_secs(5);
/// For a state of 10 MiB, twice: encrypted, stored and sent in a development build.
const LARGE_MAX: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    harness::main(true, |world| {
        let trials = vec![
            trial("discovery", discovery),
            trial("sharing_both_ways", sharing_both_ways),
            trial("three_nodes", three_nodes),
            trial("a_thousand_pushes", a_thousand_pushes),
            trial("restart", restart),
            trial("deletion", deletion),
            trial("large_states", large_states),
            trial("without_lan", without_lan),
            trial("share_to_offline", || offline::share_to_offline(offline::Sender::Stays)),
            trial("share_to_offline_and_restart", || {
                offline::share_to_offline(offline::Sender::Restarts);
            }),
            trial("share_to_offline_and_kill", || {
                offline::share_to_offline(offline::Sender::IsKilled);
            }),
            trial("share_before_meeting", offline::share_before_meeting),
            trial("share_without_application", offline::share_without_application),
            trial("unplug_and_replug", outage::unplug_and_replug),
            trial("many_objects_after_an_outage", outage::many_objects_after_an_outage),
            trial("a_loose_contact", outage::a_loose_contact),
            trial("started_without_a_cable", outage::started_without_a_cable),
            trial("another_address", outage::another_address),
            trial("asleep", outage::asleep),
            trial("killed_in_mid_stream", outage::killed_in_mid_stream),
        ];
        let mut trials: Vec<_> =
            trials.into_iter().map(|trial| trial.with_ignored_flag(!world.namespaces)).collect();
        let python = world.python.clone();
        trials.push(
            trial("telemeter", move || telemeter::telemeter(&python.expect("ignored without")))
                .with_ignored_flag(!world.namespaces || world.python.is_err()),
        );
        trials
    })
}

/// A host with a home and a running node, and one application.
struct Site {
    place: Place,
    home: Home,
    node: Node,
    app: Wire,
}

impl Site {
    fn new(lan: &mut Lan) -> Self {
        let place = lan.host();
        let home = Home::new(&place);
        let node = home.start();
        let app = node.connect();
        Self { place, home, node, app }
    }

    /// Starts the node again, and the application with it.
    fn start(place: Place, home: Home) -> Self {
        let node = home.start();
        let app = node.connect();
        Self { place, home, node, app }
    }

    fn address(&self) -> Address {
        self.node.address()
    }

    /// Ends the node in an orderly way.
    fn stop(self) -> (Place, Home) {
        assert!(self.node.stop().success(), "a node that is asked to stop ends well");
        (self.place, self.home)
    }

    /// Ends the node with SIGKILL.
    fn kill(self) -> (Place, Home) {
        self.node.kill();
        (self.place, self.home)
    }

    /// Waits until this node and another know each other.
    fn meets(&self, other: &Site, within: Duration) -> Duration {
        wait_until("the nodes to find each other", within, || {
            peers(&self.app) > 0 && peers(&other.app) > 0
        })
    }

    /// Makes an object that the other's application hears of.
    fn shared_with(&self, others: &[&Site], state: &[u8]) -> Address {
        let mut definition = Definition::new(state);
        definition.api = fresh_api();
        for other in others {
            other.app.register_api(definition.api);
        }
        let object = self.app.make(&definition).expect("an object");
        for other in others {
            self.app.share(object, other.address());
        }
        for other in others {
            assert_eq!(other.app.share_of(object, CONVERGED_MAX), self.address());
            let copy = other.app.get(object);
            assert_eq!((copy.author, copy.dynamic), (self.address(), true));
        }
        object
    }
}

/// What the node says of itself.
fn status(app: &Wire) -> serde_json::Value {
    let body = app.request(*b"?N", b"").expect("the node tells its state");
    serde_json::from_slice(&body).expect("the state is JSON")
}

/// Connected peers, as the node counts them.
fn peers(app: &Wire) -> u64 {
    let status = status(app);
    let peers = &status["peers"];
    peers
        .as_array()
        .map_or_else(|| peers.as_u64(), |peers| Some(peers.len() as u64))
        .unwrap_or_else(|| panic!("no peers in {status}"))
}

/// States that are numbers.
fn numbers(app: &Wire, object: Address) -> Vec<u64> {
    app.states(object)
        .iter()
        .map(|state| String::from_utf8_lossy(state).parse().expect("states are numbers"))
        .collect()
}

/// Each state came once, and none after a newer one.
fn assert_never_back(states: &[u64]) {
    for pair in states.windows(2) {
        assert!(pair[0] < pair[1], "{} came after {}", pair[1], pair[0]);
    }
}

fn discovery() {
    let mut lan = Lan::new();
    let one = Site::new(&mut lan);
    let two = Site::new(&mut lan);
    // The second is ready by now: what its start took is on top.
    let found = one.meets(&two, FOUND_MAX.saturating_sub(two.node.startup()));
    println!("found after {:?}", two.node.startup() + found);
}

fn sharing_both_ways() {
    let mut lan = Lan::new();
    let (alice, bob) = (Site::new(&mut lan), Site::new(&mut lan));
    let mine = alice.shared_with(&[&bob], b"from alice");
    let theirs = bob.shared_with(&[&alice], b"from bob");
    assert_eq!(bob.app.get(mine).state, b"from alice");
    assert_eq!(alice.app.get(theirs).state, b"from bob");
    for count in 0..10 {
        let state = count.to_string();
        alice.app.push(mine, state.as_bytes());
        bob.app.push(theirs, state.as_bytes());
        bob.app.update(mine, state.as_bytes(), CONVERGED_MAX);
        alice.app.update(theirs, state.as_bytes(), CONVERGED_MAX);
    }
}

fn three_nodes() {
    let mut lan = Lan::new();
    let (alice, bob, carol) = (Site::new(&mut lan), Site::new(&mut lan), Site::new(&mut lan));
    let sites = [&alice, &bob, &carol];
    let objects: Vec<Address> = sites
        .iter()
        .map(|author| {
            let others: Vec<&Site> =
                sites.into_iter().filter(|site| site.address() != author.address()).collect();
            author.shared_with(&others, b"0")
        })
        .collect();
    for count in 1..=10_u64 {
        for (author, &object) in sites.iter().zip(&objects) {
            author.app.push(object, count.to_string().as_bytes());
        }
    }
    for site in sites {
        for (author, &object) in sites.iter().zip(&objects) {
            if site.address() != author.address() {
                site.app.update(object, b"10", CONVERGED_MAX);
                assert_never_back(&numbers(&site.app, object));
            }
        }
    }
}

fn a_thousand_pushes() {
    let mut lan = Lan::new();
    let (alice, bob) = (Site::new(&mut lan), Site::new(&mut lan));
    let object = alice.shared_with(&[&bob], b"0");
    for count in 1..=1_000 {
        alice.app.push(object, count.to_string().as_bytes());
    }
    bob.app.update(object, b"1000", CONVERGED_MAX);
    let states = numbers(&bob.app, object);
    assert_never_back(&states);
    println!("{} of 1000 states were seen", states.len());
    assert_eq!(bob.app.get(object).state, b"1000");
}

fn restart() {
    let mut lan = Lan::new();
    let (alice, bob) = (Site::new(&mut lan), Site::new(&mut lan));
    let object = alice.shared_with(&[&bob], b"0");

    let (place, home) = bob.stop();
    alice.app.push(object, b"1");
    let bob = Site::start(place, home);
    // Offline it has what it had; then it hears of what it missed.
    let found = bob.app.get(object).state;
    if found != b"1" {
        assert_eq!(found, b"0");
        bob.app.update(object, b"1", CONVERGED_MAX);
    }

    let (place, home) = alice.stop();
    let alice = Site::start(place, home);
    assert_eq!(alice.app.get(object).state, b"1");
    alice.app.push(object, b"2");
    bob.app.update(object, b"2", CONVERGED_MAX);
}

fn deletion() {
    let mut lan = Lan::new();
    let (alice, bob) = (Site::new(&mut lan), Site::new(&mut lan));
    let gone = alice.shared_with(&[&bob], b"gone");
    let held = alice.shared_with(&[&bob], b"held");
    bob.app.done(*b"#O", &held.0).expect("any reader may hold");
    // The hold itself has to be known where the object is stored: at home it is.
    for object in [held, gone] {
        alice.app.done(*b"XO", &object.0).expect("the author deletes");
    }
    let deleted = bob.app.notice("the deletion", CONVERGED_MAX, |notice| {
        (&notice.code == b"XO").then(|| notice.object())
    });
    assert_eq!(deleted, gone);
    assert!(bob.app.try_get(gone).is_err(), "deleted at the author, gone at the recipient");
    assert!(alice.app.try_get(held).is_err(), "its author has no use for it");
    pause(Duration::from_millis(500));
    assert_eq!(bob.app.get(held).state, b"held");
    assert_eq!(bob.app.notices().iter().filter(|notice| &notice.code == b"XO").count(), 1);

    // So it is for a recipient who was away.
    let missed = alice.shared_with(&[&bob], b"missed");
    let (place, home) = bob.stop();
    alice.app.done(*b"XO", &missed.0).expect("the author deletes");
    let bob = Site::start(place, home);
    wait_until("the deletion", CONVERGED_MAX, || bob.app.try_get(missed).is_err());
    assert_eq!(bob.app.get(held).state, b"held");
}

/// States up to the largest reach the other side whole.
fn large_states() {
    let mut lan = Lan::new();
    let (alice, bob) = (Site::new(&mut lan), Site::new(&mut lan));
    let object = alice.shared_with(&[&bob], b"small");
    for len in [100_000, 1_000_000, STATE_MAX] {
        let state: Vec<u8> = (0..len).map(|_| rand::random()).collect();
        alice.app.push(object, &state);
        bob.app.update(object, &state, LARGE_MAX);
        assert!(bob.app.get(object).state == state);
    }
    let large = alice.shared_with(&[&bob], &vec![7; STATE_MAX]);
    assert_eq!(bob.app.get(large).state.len(), STATE_MAX);
    // Small ones are not held up for long by large ones.
    alice.app.push(large, &vec![8; STATE_MAX]);
    alice.app.push(object, b"small again");
    bob.app.update(object, b"small again", LARGE_MAX);
}

/// Told not to, nodes neither announce themselves nor listen; named peers are dialled all the same.
fn without_lan() {
    let mut lan = Lan::new();
    let places = [lan.host(), lan.host()];
    let homes = places.each_ref().map(Home::new);
    for home in &homes {
        let output = home.run(&["config", "--no-lan"]);
        assert!(output.status.success(), "{output:?}");
    }
    let [one, two] = homes.each_ref().map(Home::start);
    let (app, other) = (one.connect(), two.connect());
    pause(FOUND_MAX / 2);
    assert_eq!((peers(&app), peers(&other)), (0, 0), "nobody was to be found");

    let status = one.status();
    let peer = status["peer_id"].as_str().expect("a node has a peer id");
    let listen = status["listen"].as_array().expect("a node listens");
    let address = listen
        .iter()
        .filter_map(serde_json::Value::as_str)
        .find(|address| address.contains("/10.77.0.1/") && address.contains("/tcp/"))
        .unwrap_or_else(|| panic!("no address on the bridge among {listen:?}"));
    assert!(two.stop().success());
    let output = homes[1].run(&["config", "--addpeer", &format!("{address}/p2p/{peer}")]);
    assert!(output.status.success(), "{output:?}");
    let two = homes[1].start();
    let other = two.connect();
    wait_until("the named peer", FOUND_MAX, || peers(&app) > 0 && peers(&other) > 0);
}
