//! Servers that others use are found in the distributed hash table.

use std::time::Duration;

use hypergolix_tests::namespaces::{Internet, Place};
use hypergolix_tests::process::{Home, Node, Server};
use hypergolix_tests::wait::{pause, wait_until};
use hypergolix_tests::wire::{Definition, fresh_api};

use super::{Site, config};

/// Lookups, pauses between them, and what follows.
const FOUND_MAX: Duration = Duration::from_secs(90);

const POLL: Duration = Duration::from_millis(250);

/// Where a server is, for `--addpeer`.
fn listens_at(server: &Server, address: &str) -> String {
    let listens = server.fact("addresses");
    let tcp = |listens: &&str| listens.contains("/tcp/") && listens.contains(address);
    listens.split(',').find(tcp).expect("it listens there").to_owned()
}

/// Two servers, the second of which joined the first one's hash table; and their addresses.
fn two_servers(internet: &mut Internet) -> ([Server; 2], [String; 2]) {
    let (one, first) = internet.server();
    let (other, second) = internet.server();
    let one = Server::start(&one, &["--host", "ANY"]);
    let peer = listens_at(&one, &first);
    let other = Server::start(&other, &["--host", "ANY", "--addpeer", &peer]);
    ([one, other], [first, second])
}

/// A home that takes part in the DHT and uses one server.
fn dht_home(place: &Place, server: Option<&str>) -> Home {
    let home = Home::new(place);
    config(&home, &["--verbosity", "louder"]);
    config(&home, &["--dht"]);
    if let Some(server) = server {
        config(&home, &["--addhost", server, "7770", "False"]);
    }
    home
}

fn published(site: &Site) {
    wait_until("its records to be published", FOUND_MAX, || {
        pause(POLL);
        let dht = &site.node.status()["dht"];
        dht["own_published"].as_u64().is_some_and(|count| count >= 2)
            && dht["own_published"] == dht["own"]
    });
}

/// Author and reader use a server each, never meet, and know nothing else of each other but the reader's
/// fingerprint.
pub fn different_servers() {
    let mut internet = Internet::new();
    let (_servers, [hers, his]) = two_servers(&mut internet);
    let site = |internet: &mut Internet, server: &str| {
        let place = internet.home();
        let home = dht_home(&place, Some(server));
        Site::start(place, home)
    };
    let bob = site(&mut internet, &his);
    bob.connected();
    published(&bob);
    let recipient = bob.address();
    let bob = bob.stop();

    let alice = site(&mut internet, &hers);
    alice.connected();
    published(&alice);
    let origin = alice.address();
    let mut definition = Definition::new(b"left for him");
    definition.api = fresh_api();
    let object = alice.app.make(&definition).expect("an object");
    alice.app.share(object, recipient);
    let took = wait_until("the share to be in his mailbox", FOUND_MAX, || {
        pause(POLL);
        let status = alice.node.status();
        status["servers_of_others"]
            .as_array()
            .is_some_and(|servers| servers.iter().any(|server| server["mailed"] == 1))
    });
    println!("in his mailbox after {took:?}");
    alice.stored();
    let alice = alice.stop();

    let bob = Site::start(bob.0, bob.1);
    bob.app.register_api(definition.api);
    let started = std::time::Instant::now();
    assert_eq!(bob.app.share_of(object, FOUND_MAX), origin);
    println!("the share arrived after {:?}", started.elapsed());
    wait_until("the object", FOUND_MAX, || {
        bob.app.try_get(object).is_ok_and(|definition| definition.state == b"left for him")
    });
    wait_until("the answer to be on its way", FOUND_MAX, || {
        pause(POLL);
        bob.node.status()["shares_owed"] == 0
    });

    let alice = Site::start(alice.0, alice.1);
    wait_until("the answer", FOUND_MAX, || {
        pause(POLL);
        alice.node.status()["shares_owed"] == 0
    });
    alice.app.push(object, b"changed");
    bob.app.update(object, b"changed", FOUND_MAX);
    // Without her: he restarts and is told what she does next when both are there again.
    let bob = bob.stop();
    alice.app.push(object, b"changed again");
    alice.stored();
    alice.stop();
    let bob = Site::start(bob.0, bob.1);
    wait_until("the change", FOUND_MAX, || bob.app.get(object).state == b"changed again");
}

/// The first machine is gone; the second one knows a bootstrap, the user id and the password, and not which
/// server the first one used.
pub fn logged_in_at_a_server_that_was_found() {
    let mut internet = Internet::new();
    let (servers, [known, used]) = two_servers(&mut internet);
    let bootstrap = listens_at(&servers[0], &known);
    let place = internet.home();
    let home = dht_home(&place, Some(&used));
    let first = Site::start(place, home);
    first.connected();
    published(&first);
    let object = first.app.new_object(b"made on the first");
    first.stored();
    let account = first.node.fact("user-id").to_owned();
    let address = first.address();
    let first = first.stop();

    let place = internet.home();
    let home = dht_home(&place, None);
    config(&home, &["--addpeer", &bootstrap]);
    let mut command = home.start_command();
    command.args(["--user-id", &account]);
    let node = Node::launch(&home, command)
        .unwrap_or_else(|failure| panic!("the login failed: {failure}"));
    let app = node.connect();
    let second = Site { place, home, node, app };
    assert_eq!(second.address(), address);
    let took = wait_until("what the account has", FOUND_MAX, || {
        second.app.try_get(object).is_ok_and(|object| object.state == b"made on the first")
    });
    println!("restored after {took:?}");
    second.app.push(object, b"changed on the second");

    // The first comes back and hears of it through its server.
    let first = Site::start(first.0, first.1);
    wait_until("the change", FOUND_MAX, || {
        first.app.try_get(object).is_ok_and(|object| object.state == b"changed on the second")
    });
}
