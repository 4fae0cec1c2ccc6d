//! The distributed hash table: who is found there, and what follows from it.

use std::time::Duration;

use hypergolix_tests::namespaces::{Globe, Nat, Place};
use hypergolix_tests::process::{Home, Node, Server};
use hypergolix_tests::wait::{pause, wait_until};
use hypergolix_tests::wire::{Address, Definition, fresh_api};

use super::{CONVERGED_MAX, POLL, Site};

/// Lookups, pauses between them, and what follows.
const FOUND_MAX: Duration = Duration::from_secs(90);

/// Addresses are tested within seconds, and links would be lost as soon as they are.
const LINKED_FOR: Duration = Duration::from_secs(12);

/// Somebody who is always there, as the DHT's beginning; and the address to give to `--addpeer`.
pub fn bootstrap(globe: &mut Globe) -> (Server, String) {
    let (place, address) = globe.public();
    let server = Server::start(&place, &["--host", "ANY"]);
    let listens = server.fact("addresses").to_owned();
    let at = listens
        .split(',')
        .find(|listens| listens.contains("/tcp/") && listens.contains(&address))
        .expect("it listens there");
    let at = at.to_owned();
    (server, at)
}

/// A home that takes part in the DHT and knows one device that does.
pub fn home(place: &Place, bootstrap: &str) -> Home {
    let home = Home::new(place);
    for words in [
        &["config", "--verbosity", "louder"][..],
        &["config", "--dht"],
        &["config", "--addpeer", bootstrap],
    ] {
        let output = home.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
    home
}

impl Site {
    pub fn start(home: &Home) -> Self {
        let node = home.start();
        let app = node.connect();
        Self { node, app }
    }

    /// Waits until its records are in the DHT.
    pub fn published(&self) {
        wait_until("its records to be published", FOUND_MAX, || {
            pause(POLL);
            let dht = &self.node.status()["dht"];
            dht["own_published"].as_u64().is_some_and(|count| count >= 2)
                && dht["own_published"] == dht["own"]
        });
    }
}

/// Another machine, which knows a bootstrap, the user id and the password.
fn log_in(globe: &mut Globe, bootstrap: &str, account: &str) -> Site {
    let home = home(&globe.behind(Nat::None), bootstrap);
    let mut command = home.start_command();
    command.args(["--user-id", account]);
    let node = Node::launch(&home, command)
        .unwrap_or_else(|failure| panic!("the login failed: {failure}"));
    let app = node.connect();
    Site { node, app }
}

/// A second machine knows a bootstrap, the user id and the password; and then so does a third one,
/// while the first is gone.
pub fn logged_in() {
    let mut globe = Globe::new();
    let (_server, bootstrap) = bootstrap(&mut globe);
    let site = |globe: &mut Globe| Site::start(&home(&globe.behind(Nat::None), &bootstrap));
    let (alice, first) = (site(&mut globe), site(&mut globe));
    first.published();
    alice.published();
    let own = first.app.new_object(b"made on the first");
    let token = first.app.request(*b"+T", &[0; 16]).expect("a token");
    first.app.done(*b"+$", &own.0).expect("a startup object");
    let shared = alice.shared_with(&first, b"from alice");

    let account = first.node.fact("user-id").to_owned();
    let second = log_in(&mut globe, &bootstrap, &account);
    assert_eq!(second.address(), first.address());
    let restored = |site: &Site| {
        println!("restored after {:?}", site.has(own, b"made on the first"));
        println!("and what was shared after {:?}", site.has(shared, b"from alice"));
        let app = site.node.connect();
        wait_until("the token", FOUND_MAX, || app.request(*b"+T", &token).is_ok());
        assert_eq!(app.request(*b">$", b"").expect("a startup object"), own.0);
    };
    restored(&second);
    // Both write on, and hear of each other.
    second.app.push(own, b"changed on the second");
    first.app.update(own, b"changed on the second", FOUND_MAX);
    second.app.push(own, b"made on the first");
    first.app.update(own, b"made on the first", FOUND_MAX);
    second.published();
    assert!(first.node.stop().success());
    let third = log_in(&mut globe, &bootstrap, &account);
    assert_eq!(third.address(), second.address());
    restored(&third);
}

/// Two servers, the second of which joined the first one's hash table; their addresses, and where the
/// first one is for `--addpeer`.
fn two_servers(globe: &mut Globe) -> ([Server; 2], [String; 2], String) {
    let (one, peer) = bootstrap(globe);
    let (place, address) = globe.public();
    let other = Server::start(&place, &["--host", "ANY", "--addpeer", &peer]);
    let first = peer.split('/').nth(2).expect("an address begins with its host").to_owned();
    ([one, other], [first, address], peer)
}

/// A home that takes part in the DHT and uses a server, and knows nobody else.
fn home_at(place: &Place, server: &str) -> Home {
    let home = Home::new(place);
    for words in [
        &["config", "--verbosity", "louder"][..],
        &["config", "--dht"],
        &["config", "--addhost", server, "7770", "False"],
    ] {
        let output = home.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
    home
}

impl Site {
    /// Waits until its server has everything.
    fn stored(&self) {
        wait_until("everything to be stored", CONVERGED_MAX, || {
            let remote = self.remote();
            remote["state"] == "connected" && remote["pending"] == 0
        });
    }

    fn stop(self) -> Home {
        let home = self.node.home().clone();
        assert!(self.node.stop().success(), "a node that is asked to stop ends well");
        home
    }

    fn has(&self, object: Address, state: &[u8]) -> Duration {
        wait_until("the state", FOUND_MAX, || {
            self.app.try_get(object).is_ok_and(|definition| definition.state == state)
        })
    }

    fn owes_nothing(&self) {
        wait_until("what is owed to be delivered", FOUND_MAX, || {
            pause(POLL);
            self.node.status()["shares_owed"] == 0
        });
    }
}

/// Author and reader use a server each, are never there together, and know nothing of each other but the
/// reader's fingerprint.
pub fn different_servers() {
    let mut globe = Globe::new();
    let (_servers, [hers, his], _) = two_servers(&mut globe);
    let bob = Site::start(&home_at(&globe.behind(Nat::None), &his));
    bob.published();
    let recipient = bob.address();
    let bob = bob.stop();

    let alice = Site::start(&home_at(&globe.behind(Nat::None), &hers));
    alice.published();
    let origin = alice.address();
    let mut definition = Definition::new(b"left for him");
    definition.api = fresh_api();
    let object = alice.app.make(&definition).expect("an object");
    alice.app.share(object, recipient);
    let took = wait_until("the share to be in his mailbox", FOUND_MAX, || {
        pause(POLL);
        let status = alice.node.status();
        let servers = status["servers_of_others"].as_array().expect("a list");
        servers.iter().any(|server| server["mailed"] == 1)
    });
    println!("in his mailbox after {took:?}");
    alice.stored();
    let alice = alice.stop();

    let bob = Site::start(&bob);
    bob.app.register_api(definition.api);
    let started = std::time::Instant::now();
    assert_eq!(bob.app.share_of(object, FOUND_MAX), origin);
    println!("the share arrived after {:?}", started.elapsed());
    bob.has(object, b"left for him");
    bob.owes_nothing();
    let bob = bob.stop();

    let alice = Site::start(&alice);
    alice.owes_nothing();
    alice.app.push(object, b"changed");
    alice.stored();
    alice.stop();

    let bob = Site::start(&bob);
    println!("the change arrived after {:?}", bob.has(object, b"changed"));
}

/// The first machine is gone. The second one knows a bootstrap, the user id and the password, and not
/// which server the first one used.
pub fn logged_in_at_a_server() {
    let mut globe = Globe::new();
    let (_servers, [_, used], bootstrap) = two_servers(&mut globe);
    let first = Site::start(&home_at(&globe.behind(Nat::None), &used));
    first.published();
    let object = first.app.new_object(b"made on the first");
    first.stored();
    let account = first.node.fact("user-id").to_owned();
    let address = first.address();
    let first = first.stop();

    let second = log_in(&mut globe, &bootstrap, &account);
    assert_eq!(second.address(), address);
    println!("restored after {:?}", second.has(object, b"made on the first"));
    second.app.push(object, b"changed on the second");
    wait_until("it to be stored", FOUND_MAX, || {
        pause(POLL);
        let server = &second.node.status()["servers_found"][0];
        server["pending"] == 0 && server["confirmed"].as_u64() > Some(0)
    });
    second.stop();

    // The first comes back and hears of it from its server.
    let first = Site::start(&first);
    first.has(object, b"changed on the second");
}

/// Alice left a share for Bob at a server that takes no objects of hers, and is gone. Carol, who has the
/// object too, publishes it.
pub fn published_by_somebody_else() {
    let mut globe = Globe::new();
    let (place, address) = globe.public();
    let _server = Server::start(&place, &["--host", "ANY", "--free-bytes", "1"]);
    let mut site = || Site::start(&home_at(&globe.behind(Nat::None), &address));
    let (alice, bob, carol) = (site(), site(), site());
    bob.connected();
    let recipient = bob.address();
    let bob = bob.stop();
    let object = alice.shared_with(&carol, b"hers");
    alice.app.share(object, recipient);
    wait_until("the share to be in his mailbox", CONVERGED_MAX, || {
        alice.remote()["mailed"].as_u64() >= Some(1)
    });
    alice.stop();
    let publish = |site: &Site, words: &[&str]| {
        let text = object.text();
        let words: Vec<&str> = ["publish", &text].iter().chain(words).copied().collect();
        let output = site.node.home().run(&words);
        assert!(output.status.success(), "{output:?}");
    };
    publish(&carol, &[]);
    // It is remembered.
    let carol = Site::start(&carol.stop());
    wait_until("it to be known", CONVERGED_MAX, || carol.node.status()["dht"]["own"] == 3);
    carol.published();

    let bob = Site::start(&bob);
    let started = std::time::Instant::now();
    wait_until("the share to be known", FOUND_MAX, || bob.node.status()["followed"] == 1);
    let output = bob.node.home().run(&["get", &object.text()]);
    println!("found after {:?}", started.elapsed());
    assert_eq!(output.stdout, b"hers", "{output:?}");
    // What is taken back is said no longer.
    publish(&carol, &["--remove"]);
    wait_until("the end of it", CONVERGED_MAX, || carol.node.status()["dht"]["own"] == 2);
}

/// Two nodes that met through the DHT find each other again without it, in whatever order they come.
pub fn found_again() {
    let mut globe = Globe::new();
    let (server, bootstrap) = bootstrap(&mut globe);
    let mut site = || Site::start(&home(&globe.behind(Nat::None), &bootstrap));
    let (alice, bob) = (site(), site());
    alice.published();
    bob.published();
    let object = alice.shared_with(&bob, b"first");
    // The share comes with one message, and where its author is with a later one.
    wait_until("the author's place to be remembered", CONVERGED_MAX, || {
        pause(POLL);
        bob.node.status()["places_remembered"] == 1
    });
    drop(server);
    let (alice, bob) = (alice.stop(), bob.stop());
    // Whoever follows comes last,
    let (alice, bob) = (Site::start(&alice), Site::start(&bob));
    alice.app.push(object, b"second");
    println!("found again after {:?}", bob.has(object, b"second"));
    let (alice, bob) = (alice.stop(), bob.stop());
    // or first.
    let bob = Site::start(&bob);
    pause(Duration::from_secs(3));
    let alice = Site::start(&alice);
    alice.app.push(object, b"third");
    println!("found again after {:?}", bob.has(object, b"third"));
}

/// A server tests the addresses of those who are linked to it: that is no reason to lose the link.
pub fn a_peer_keeps_its_link() {
    let mut globe = Globe::new();
    let (server, bootstrap) = bootstrap(&mut globe);
    let id = server.fact("peer-id").to_owned();
    // One side of a pair opens the link, and that is chance: with four there is one of either kind.
    let sites: Vec<Site> =
        (0..4).map(|_| Site::start(&home(&globe.behind(Nat::None), &bootstrap))).collect();
    let since = |site: &Site| {
        let status = site.node.status();
        let peers = status["peers"].as_array().expect("a list");
        let peer = peers.iter().find(|peer| peer["peer_id"] == id.as_str())?;
        peer["connected_seconds"].as_u64()
    };
    for site in &sites {
        site.published();
    }
    pause(LINKED_FOR);
    for site in &sites {
        let linked = since(site);
        assert!(linked >= Some(LINKED_FOR.as_secs()), "{linked:?}");
    }
}
