//! Homes in different networks that reach nothing but servers in a third one.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use hypergolix_tests::clock::Clock;
use hypergolix_tests::harness::{self, trial};
use hypergolix_tests::namespaces::{Internet, Place};
use hypergolix_tests::process::{Home, Node, Server};
use hypergolix_tests::wait::{pause, wait_until};
use hypergolix_tests::wire::{Address, Definition, Wire, fresh_api};
use serde_json::Value;

mod operator;
mod outage;

/// From being able to reach each other's server to the same state.
const CONVERGED_MAX: Duration = Duration::from_secs(10);
/// From a node's start, or its server's, to being connected to it.
const CONNECTED_MAX: Duration = Duration::from_secs(10);

/// From being connected to having what was shared meanwhile: the goal, for once asserted.
const OFFLINE_SHARE_MAX: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    harness::main(true, |world| {
        let trials = vec![
            trial("share_update_delete", || share_update_delete([3, 3])),
            trial("share_update_delete_suite_1", || share_update_delete([1, 1])),
            trial("never_there_together", || never_there_together([3, 3])),
            trial("never_there_together_suite_1", || never_there_together([1, 1])),
            trial("never_there_together_suites_1_3", || never_there_together([1, 3])),
            trial("never_there_together_suites_3_1", || never_there_together([3, 1])),
            trial("an_hour_later", an_hour_later).with_ignored_flag(!Clock::is_there()),
            trial("another_port", another_port),
            trial("in_memory", in_memory),
            trial("configured_while_running", configured_while_running),
            trial("an_unreachable_remote_is_named", an_unreachable_remote_is_named),
            trial("killed_and_started_again", outage::killed_and_started_again),
            trial("wiped_and_filled_again", outage::wiped_and_filled_again),
            trial("two_servers_and_one_is_lost", outage::two_servers_and_one_is_lost),
            trial("killed_in_mid_stream", outage::killed_in_mid_stream),
            trial("mirrors", outage::mirrors),
            trial("options", operator::options),
            trial("quota", operator::quota),
            trial("invitations_and_bans", operator::invitations_and_bans),
        ];
        trials
            .into_iter()
            .map(|trial| {
                let ignored = trial.has_ignored_flag() || !world.namespaces;
                trial.with_ignored_flag(ignored)
            })
            .collect()
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
    /// A new account that uses servers at these addresses.
    fn new(internet: &mut Internet, servers: &[&str]) -> Self {
        Self::of_suite(3, internet, servers)
    }

    fn of_suite(suite: u8, internet: &mut Internet, servers: &[&str]) -> Self {
        let place = internet.home();
        let home = Home::new(&place);
        config(&home, &["--verbosity", "loud"]);
        for server in servers {
            config(&home, &["--addhost", server, "7770", "False"]);
        }
        let node = home.start_with_suite(suite);
        let app = node.connect();
        Self { place, home, node, app }
    }

    fn start(place: Place, home: Home) -> Self {
        let node = home.start();
        let app = node.connect();
        Self { place, home, node, app }
    }

    fn address(&self) -> Address {
        self.node.address()
    }

    fn stop(self) -> (Place, Home) {
        assert!(self.node.stop().success(), "a node that is asked to stop ends well");
        (self.place, self.home)
    }

    fn remotes(&self) -> Vec<Value> {
        let status = self.node.status();
        status["remotes"].as_array().unwrap_or_else(|| panic!("no remotes in {status}")).clone()
    }

    /// Waits until every remote is connected.
    fn connected(&self) -> Duration {
        wait_until("every remote to be connected", CONNECTED_MAX, || {
            self.remotes().iter().all(|remote| remote["state"] == "connected")
        })
    }

    /// Waits until the servers have everything.
    fn stored(&self) {
        wait_until("everything to be stored at the servers", CONVERGED_MAX, || {
            self.remotes()
                .iter()
                .all(|remote| remote["state"] == "connected" && remote["pending"] == 0)
        });
    }

    /// Shares a new object with somebody who is away: its address and type. All of it is at the server.
    fn left_for(&self, recipient: Address, state: &[u8]) -> (Address, [u8; 65]) {
        let mut definition = Definition::new(state);
        definition.api = fresh_api();
        let object = self.app.make(&definition).expect("an object");
        self.app.share(object, recipient);
        wait_until("the share to be in the mailbox", CONVERGED_MAX, || {
            self.remotes()[0]["mailed"] == 1
        });
        self.stored();
        (object, definition.api)
    }

    /// Makes an object that the other's application hears of.
    fn shared_with(&self, other: &Site, state: &[u8]) -> Address {
        let mut definition = Definition::new(state);
        definition.api = fresh_api();
        other.app.register_api(definition.api);
        let object = self.app.make(&definition).expect("an object");
        self.app.share(object, other.address());
        assert_eq!(other.app.share_of(object, CONVERGED_MAX), self.address());
        // From now on the application hears of updates.
        wait_until("the object", CONVERGED_MAX, || other.app.try_get(object).is_ok());
        object
    }
}

fn config(home: &Home, words: &[&str]) {
    let words: Vec<&str> = ["config"].iter().chain(words).copied().collect();
    let output = home.run(&words);
    assert!(output.status.success(), "{words:?}: {output:?}");
}

/// A server on port 7770 of a host of its own, and its address.
fn server(internet: &mut Internet, args: &[&str]) -> (Server, String) {
    let (place, address) = internet.server();
    let args: Vec<&str> = ["--host", "ANY"].iter().chain(args).copied().collect();
    (Server::start(&place, &args), address)
}

fn share_update_delete(suites: [u8; 2]) {
    let mut internet = Internet::new();
    let (_server, address) = server(&mut internet, &[]);
    let [alice, bob] = suites.map(|suite| Site::of_suite(suite, &mut internet, &[&address]));
    println!("connected after {:?}, {:?}", alice.connected(), bob.connected());
    let object = alice.shared_with(&bob, b"first");
    assert_eq!(bob.app.get(object).state, b"first");
    for count in 0..20 {
        alice.app.push(object, count.to_string().as_bytes());
    }
    bob.app.update(object, b"19", CONVERGED_MAX);
    wait_until("the answer", CONVERGED_MAX, || alice.node.status()["shares_owed"] == 0);
    alice.app.done(*b"XO", &object.0).expect("the author deletes");
    let deleted = bob.app.notice("the deletion", CONVERGED_MAX, |notice| {
        (&notice.code == b"XO").then(|| notice.object())
    });
    assert_eq!(deleted, object);
    assert!(bob.app.try_get(object).is_err());
}

/// Sender and recipient are never online at the same time.
fn never_there_together([of_alice, of_bob]: [u8; 2]) {
    let mut internet = Internet::new();
    let (_server, address) = server(&mut internet, &[]);
    let bob = Site::of_suite(of_bob, &mut internet, &[&address]);
    bob.connected();
    let recipient = bob.address();
    let bob = bob.stop();

    let alice = Site::of_suite(of_alice, &mut internet, &[&address]);
    let (object, api) = alice.left_for(recipient, b"while you were out");
    let origin = alice.address();
    let alice = alice.stop();

    let bob = Site::start(bob.0, bob.1);
    bob.app.register_api(api);
    assert_eq!(bob.app.share_of(object, CONVERGED_MAX), origin);
    assert_eq!(bob.app.get(object).state, b"while you were out");
    wait_until("the answer to be at the server", CONVERGED_MAX, || {
        bob.node.status()["shares_owed"] == 0
    });
    let bob = bob.stop();

    let alice = Site::start(alice.0, alice.1);
    wait_until("the answer", CONVERGED_MAX, || alice.node.status()["shares_owed"] == 0);
    alice.app.push(object, b"changed");
    alice.stored();
    let alice = alice.stop();

    let bob = Site::start(bob.0, bob.1);
    let waited =
        wait_until("the change", CONVERGED_MAX, || bob.app.get(object).state == b"changed");
    println!("changed after {waited:?}");
    let bob = bob.stop();

    let alice = Site::start(alice.0, alice.1);
    alice.app.done(*b"XO", &object.0).expect("the author deletes");
    alice.connected();
    alice.stored();
    alice.stop();

    let bob = Site::start(bob.0, bob.1);
    wait_until("the deletion", CONVERGED_MAX, || bob.app.try_get(object).is_err());
}

/// The sender has been gone for an hour, on the clocks of the server, which ran all the time, and of
/// the recipient, when the recipient starts.
fn an_hour_later() {
    let clock = Clock::new();
    let mut internet = Internet::new();
    let (mut server, address) = server(&mut internet, &[]);
    assert!(server.stop().success());
    server.with_clock(&clock);
    server.start_again();
    let bob = Site::new(&mut internet, &[&address]);
    bob.connected();
    let recipient = bob.address();
    let (place, home) = bob.stop();
    let home = home.with_clock(&clock);

    let alice = Site::new(&mut internet, &[&address]);
    let (object, api) = alice.left_for(recipient, b"an hour ago");
    alice.stop();

    let before = clock.read();
    clock.set(Duration::from_secs(3600));
    assert!((3600..3660).contains(&(clock.read() - before)), "the clock moves");
    let bob = Site::start(place, home);
    bob.app.register_api(api);
    bob.connected();
    let connected = Instant::now();
    bob.app.share_of(object, OFFLINE_SHARE_MAX);
    assert_eq!(bob.app.get(object).state, b"an hour ago");
    let waited = connected.elapsed();
    println!("he has it {waited:?} after he was connected");
    // The server has seen the hour pass as well.
    assert!(server.stop().success());
    let last_line = server.last_log_line();
    let (stamp, _) = last_line.split_at(19);
    assert!(stamp > in_utc("+59 minutes").as_str(), "{last_line}");
    assert!(waited <= OFFLINE_SHARE_MAX, "{waited:?}");
}

/// A moment as it stands in logs, to the second.
fn in_utc(when: &str) -> String {
    let output = Command::new("date").args(["-u", "-d", when, "+%Y-%m-%dT%H:%M:%S"]).output();
    String::from_utf8(output.expect("there is a date").stdout).expect("text").trim().to_owned()
}

/// Not every server is on the usual port; QUIC and TCP are on the same one.
fn another_port() {
    let mut internet = Internet::new();
    let (place, address) = internet.server();
    let server = Server::start(&place, &["--host", "ANY", "--port", "7781"]);
    for listen in [format!("/ip4/{address}/tcp/7781/"), format!("/ip4/{address}/udp/7781/quic-v1/")]
    {
        assert!(server.fact("addresses").contains(&listen), "{}", server.fact("addresses"));
    }
    let place = internet.home();
    let home = Home::new(&place);
    config(&home, &["--addhost", &address, "7781", "False"]);
    let site = Site::start(place, home);
    site.connected();
    site.app.new_object(b"something");
    site.stored();
}

fn in_memory() {
    let mut internet = Internet::new();
    let (place, address) = internet.server();
    let mut server = Server::start_in_memory(&place, &["--host", "any"]);
    let (alice, bob) =
        (Site::new(&mut internet, &[&address]), Site::new(&mut internet, &[&address]));
    let object = alice.shared_with(&bob, b"volatile");
    // It comes back with nothing, not even its name, and is filled again.
    server.kill();
    server.start_again();
    alice.app.push(object, b"and back");
    bob.app.update(object, b"and back", 3 * CONVERGED_MAX);
    assert!(server.stop().success());
}

/// Remotes take effect at once.
fn configured_while_running() {
    let mut internet = Internet::new();
    let (_server, address) = server(&mut internet, &[]);
    let site = Site::new(&mut internet, &[]);
    assert!(site.remotes().is_empty());
    let object = site.app.new_object(b"made with no network at all");
    config(&site.home, &["--addhost", &address, "7770", "False"]);
    wait_until("the remote", CONNECTED_MAX, || site.remotes().len() == 1);
    site.connected();
    site.stored();
    assert_eq!(site.remotes()[0]["remote"], format!("{address} 7770"));
    config(&site.home, &["--removehost", &address, "7770"]);
    wait_until("the remote to be gone", CONNECTED_MAX, || {
        site.remotes().is_empty() && site.node.status()["links"] == 0
    });
    assert_eq!(site.app.get(object).state, b"made with no network at all");
    config(&site.home, &["--only", "local"]);
    assert!(site.remotes().is_empty());
}

fn an_unreachable_remote_is_named() {
    let mut internet = Internet::new();
    let (_place, address) = internet.server();
    let site = Site::new(&mut internet, &[&address, "10.99.0.1"]);
    site.app.new_object(b"kept at home");
    wait_until("the errors", CONNECTED_MAX, || {
        site.remotes().iter().all(|remote| remote["error"].is_string())
    });
    pause(Duration::from_secs(5));
    let remotes = site.remotes();
    let refused = &remotes[0];
    assert_eq!(refused["remote"], format!("{address} 7770"));
    assert!(refused["error"].as_str().is_some_and(|text| text.contains("refused")), "{refused}");
    assert!(refused["attempts"].as_u64().is_some_and(|count| (2..6).contains(&count)), "{refused}");
    assert_ne!(remotes[1]["state"], "connected");
    let text = site.home.run(&["status"]);
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(text.contains(&format!("{address} 7770: not reached")), "{text}");
    // A line an outage, not one an attempt.
    let mut lines = 0;
    for entry in std::fs::read_dir(site.home.path().join("logs")).expect("there are logs") {
        let log = std::fs::read_to_string(entry.expect("readable").path()).expect("readable");
        lines += log.lines().filter(|line| line.contains("remote")).count();
    }
    assert!((1..=4).contains(&lines), "{lines} lines");
}
