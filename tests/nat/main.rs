//! Hosts behind routers that translate addresses, and a server in a third network.

use std::process::ExitCode;
use std::time::Duration;

use hypergolix_tests::harness::{self, run, trial};
use hypergolix_tests::namespaces::{Globe, Nat, Place};
use hypergolix_tests::process::{Home, Node, Server};
use hypergolix_tests::wait::{pause, wait_until};
use hypergolix_tests::wire::{Address, Definition, Wire, fresh_api};
use serde_json::Value;

/// From a node's start to being connected to its server; from a change to its arrival.
const CONVERGED_MAX: Duration = Duration::from_secs(20);
/// From the first share to the best link that the routers allow.
const PUNCHED_MAX: Duration = Duration::from_secs(60);
/// From a server's restart to a link through it. Pauses between dials grow to 30 s, and both sides
/// have several.
const HEALED_MAX: Duration = Duration::from_secs(150);
/// From a start to being in the DHT, and from a share to a link.
const FOUND_MAX: Duration = Duration::from_secs(60);
/// How long a link that has to stay relayed is watched.
const WATCHED: Duration = Duration::from_secs(5);

/// Pause between two looks at `status`: each is a process.
const POLL: Duration = Duration::from_millis(250);

mod routes;

const KINDS: [(Nat, &str); 5] = [
    (Nat::None, "public"),
    (Nat::FullCone, "full_cone"),
    (Nat::Restricted, "restricted"),
    (Nat::PortRestricted, "port_restricted"),
    (Nat::Symmetric, "symmetric"),
];

fn main() -> ExitCode {
    harness::main(false, |world| {
        let can = world.namespaces && run(&["nft", "--version"]).is_ok();
        let mut trials = Vec::new();
        for (index, (left, one)) in KINDS.into_iter().enumerate() {
            for (right, other) in &KINDS[index..] {
                let right = *right;
                trials.push(trial(&format!("{one}_and_{other}"), move || pair(left, right)));
            }
        }
        trials.push(trial("relay_restarted", relay_restarted));
        trials.push(trial("found_in_the_dht", found_in_the_dht));
        trials.push(trial("logged_in_through_the_dht", routes::logged_in));
        trials.push(trial("logged_in_at_a_server_that_was_found", routes::logged_in_at_a_server));
        trials.push(trial("different_servers", routes::different_servers));
        trials.push(trial("a_peer_keeps_its_link", routes::a_peer_keeps_its_link));
        trials.push(trial("found_again_without_the_dht", routes::found_again));
        trials.push(trial("published_by_somebody_else", routes::published_by_somebody_else));
        trials.push(trial("only_quic", || only("tcp")));
        trials.push(trial("only_tcp", || only("udp")));
        trials.push(trial("only_secure_websocket", only_secure_websocket));
        trials.push(trial("no_websocket_there", no_websocket_there));
        trials.into_iter().map(|trial| trial.with_ignored_flag(!can)).collect()
    })
}

/// A host with a home and a running node, and one application.
struct Site {
    node: Node,
    app: Wire,
}

impl Site {
    /// A new account that uses a server.
    fn new(place: &Place, host: &str, port: &str, tls: &str) -> Self {
        let home = Home::new(place);
        for words in [
            ["config", "--verbosity", "louder"].as_slice(),
            &["config", "--addhost", host, port, tls],
        ] {
            let output = home.run(words);
            assert!(output.status.success(), "{words:?}: {output:?}");
        }
        let node = home.start();
        let app = node.connect();
        Self { node, app }
    }

    fn address(&self) -> Address {
        self.node.address()
    }

    fn remote(&self) -> Value {
        self.node.status()["remotes"][0].clone()
    }

    fn connected(&self) {
        wait_until("the remote to be connected", CONVERGED_MAX, || {
            self.remote()["state"] == "connected"
        });
    }

    /// How the other node is reached; `None` without a link to it.
    fn reach(&self, other: &Site) -> Option<String> {
        let device = other.node.status()["peer_id"].clone();
        let status = self.node.status();
        let peers = status["peers"].as_array().expect("status lists peers");
        let peer = peers.iter().find(|peer| peer["peer_id"] == device)?;
        peer["reach"].as_str().map(str::to_owned)
    }

    /// Makes an object that the other's application hears of.
    fn shared_with(&self, other: &Site, state: &[u8]) -> Address {
        let mut definition = Definition::new(state);
        definition.api = fresh_api();
        other.app.register_api(definition.api);
        let object = self.app.make(&definition).expect("an object");
        self.app.share(object, other.address());
        assert_eq!(other.app.share_of(object, CONVERGED_MAX), self.address());
        wait_until("the object", CONVERGED_MAX, || other.app.try_get(object).is_ok());
        object
    }
}

/// Two nodes behind routers, and their server.
struct World {
    globe: Globe,
    server: Server,
    alice: Site,
    bob: Site,
}

fn world(left: Nat, right: Nat, blocked: Option<&str>) -> World {
    let mut globe = Globe::new();
    let (place, address) = globe.public();
    let server = Server::start(&place, &["--host", "ANY"]);
    let (alice, bob) = (globe.behind(left), globe.behind(right));
    if let Some(protocol) = blocked {
        globe.block(protocol);
    }
    let alice = Site::new(&alice, &address, "7770", "False");
    let bob = Site::new(&bob, &address, "7770", "False");
    alice.connected();
    bob.connected();
    World { globe, server, alice, bob }
}

/// Waits until both sides say that they reach each other so.
fn reached(alice: &Site, bob: &Site, how: &str, within: Duration) {
    let took = wait_until(&format!("a {how} link"), within, || {
        pause(POLL);
        [alice.reach(bob), bob.reach(alice)].iter().all(|reach| reach.as_deref() == Some(how))
    });
    println!("{how} after {took:?}");
}

fn pair(left: Nat, right: Nat) {
    let mut world = world(left, right, None);
    let (alice, bob) = (&world.alice, &world.bob);
    let object = alice.shared_with(bob, b"first");
    // A symmetric router shows everybody another port, and a port-restricted one, or another
    // symmetric one, waits for one that it knows.
    let strict = [left, right].iter().all(|nat| *nat >= Nat::PortRestricted);
    let relayed = strict && (left == Nat::Symmetric || right == Nat::Symmetric);
    if relayed {
        reached(alice, bob, "relayed", PUNCHED_MAX);
        pause(WATCHED);
        reached(alice, bob, "relayed", PUNCHED_MAX);
    } else {
        reached(alice, bob, "direct", PUNCHED_MAX);
        // Nobody is left to carry it.
        world.server.kill();
    }
    alice.app.push(object, b"second");
    bob.app.update(object, b"second", CONVERGED_MAX);
}

/// Two nodes know the address of somebody who is always there, and each other's fingerprint.
fn found_in_the_dht() {
    let mut globe = Globe::new();
    let (server, bootstrap) = routes::bootstrap(&mut globe);
    let mut site = || Site::start(&routes::home(&globe.behind(Nat::None), &bootstrap));
    let (alice, bob) = (site(), site());
    alice.published();
    bob.published();
    let object = alice.shared_with(&bob, b"first");
    reached(&alice, &bob, "direct", FOUND_MAX);
    drop(server);
    alice.app.push(object, b"second");
    bob.app.update(object, b"second", CONVERGED_MAX);
}

/// The server, and relay, dies and comes back: so does the link.
fn relay_restarted() {
    let mut world = world(Nat::Symmetric, Nat::Symmetric, None);
    let (alice, bob) = (&world.alice, &world.bob);
    let object = alice.shared_with(bob, b"first");
    reached(alice, bob, "relayed", PUNCHED_MAX);
    world.server.kill();
    wait_until("the link to end", HEALED_MAX, || alice.reach(bob).is_none());
    alice.app.push(object, b"second");
    world.server.start_again();
    reached(alice, bob, "relayed", HEALED_MAX);
    bob.app.update(object, b"second", CONVERGED_MAX);
}

/// One of the two transports is filtered.
fn only(blocked: &str) {
    let world = world(Nat::PortRestricted, Nat::PortRestricted, Some(blocked));
    let (alice, bob) = (&world.alice, &world.bob);
    let object = alice.shared_with(bob, b"first");
    let linked = || [alice.reach(bob), bob.reach(alice)].iter().all(Option::is_some);
    wait_until("a link", PUNCHED_MAX, linked);
    if blocked == "tcp" {
        reached(alice, bob, "direct", PUNCHED_MAX);
    }
    alice.app.push(object, b"second");
    bob.app.update(object, b"second", CONVERGED_MAX);
    drop(world.globe);
}

/// A network that lets nothing out but TCP to the port of HTTPS.
fn only_secure_websocket() {
    let mut globe = Globe::new();
    let (place, address) = globe.public();
    let server = Server::start(&place, &["--host", "ANY", "--tls-port", "443"]);
    let listen = format!("/ip4/{address}/tcp/443/tls/ws/");
    assert!(server.fact("addresses").contains(&listen), "{}", server.fact("addresses"));
    let (alice, bob) = (globe.behind(Nat::Symmetric), globe.behind(Nat::Symmetric));
    globe.block("udp");
    globe.block_port("tcp", 7770);
    let alice = Site::new(&alice, &address, "443", "True");
    let bob = Site::new(&bob, &address, "443", "True");
    alice.connected();
    bob.connected();
    let object = alice.shared_with(&bob, b"first");
    reached(&alice, &bob, "relayed", PUNCHED_MAX);
    let large: Vec<u8> = (0..3_000_000_u32).map(|byte| byte as u8).collect();
    alice.app.push(object, &large);
    bob.app.update(object, &large, CONVERGED_MAX);
}

/// What answers at the port is something else: `status` says so.
fn no_websocket_there() {
    let mut globe = Globe::new();
    let (place, address) = globe.public();
    let _server = Server::start(&place, &["--host", "ANY"]);
    let site = Site::new(&globe.behind(Nat::PortRestricted), &address, "7770", "True");
    wait_until("the reason", CONVERGED_MAX, || {
        let remote = site.remote();
        let error = remote["error"].as_str().unwrap_or_default();
        remote["state"] != "connected" && error.contains("does not speak TLS")
    });
}
