//! Everything that works with suite 3 works with suite 1, and between them.

mod common;

use common::{World, record};
use golix::object::{Object, Unverified};
use golix::{Ghid, Suite};
use hypergolix_engine::Table;
use hypergolix_ipc::{ApiId, ConnectionId, Notice, Reply, Request};

const PAIRS: [[Suite; 2]; 3] = [
    [Suite::Suite1, Suite::Suite1],
    [Suite::Suite1, Suite::Suite3],
    [Suite::Suite3, Suite::Suite1],
];

fn start(suites: &[Suite]) -> (World, ConnectionId, ConnectionId) {
    let mut world = World::of_suites(suites);
    let (alice, bob) = (world.app(0, 1), world.app(1, 1));
    world.ask(0, alice, Request::RegisterToken(None)).expect("a token");
    world.ask(1, bob, Request::RegisterApi(ApiId::JSON)).expect("registered");
    (world, alice, bob)
}

fn new(world: &mut World, app: ConnectionId, state: &[u8], dynamic: bool) -> Ghid {
    match world.ask(0, app, Request::New(record(state, dynamic))) {
        Ok(Reply::Address(address)) => address,
        other => panic!("new: {other:?}"),
    }
}

/// Every object that a node stores is what it says, signature included.
fn all_verify(world: &World) {
    for node in &world.nodes {
        let stored = |ghid: &Ghid| {
            node.disk
                .0
                .get(&(Table::Objects, ghid.as_bytes().to_vec()))
                .map(|bytes| Unverified::parse(bytes).expect("well-formed"))
        };
        for (_, bytes) in node.disk.0.iter().filter(|((table, _), _)| *table == Table::Objects) {
            let object = Unverified::parse(bytes).expect("well-formed");
            let author = object.author().map(|author| {
                let identity = stored(&author).expect("its author is here");
                match identity.verify(None).expect("an identity").object() {
                    Object::Identity(identity) => identity.clone(),
                    other => panic!("{other:?}"),
                }
            });
            object.verify(author.as_ref()).expect("signed");
        }
    }
}

#[test]
fn objects_are_shared_updated_and_deleted() {
    for suites in PAIRS {
        let (mut world, alice, bob) = start(&suites);
        let link = world.connect(0, 1);
        let recipient = world.nodes[1].account.fingerprint();
        let object = new(&mut world, alice, b"first", true);
        world.ask(0, alice, Request::Share { object, recipient }).expect("shared");
        assert_eq!(world.notices(1, bob).len(), 1, "{suites:?}");
        world.answers_leave();
        assert_eq!(world.notices(0, alice), vec![Notice::ShareSucceeded { object, recipient }]);
        assert_eq!(world.state(1, bob, object).expect("shared"), b"first");
        for state in [&b"second"[..], b"third"] {
            world.push(0, alice, object, state);
            assert_eq!(world.state(1, bob, object).expect("shared"), state, "{suites:?}");
        }
        // Catching up after a while, a kept copy, and a copy that stays when the object goes.
        world.disconnect(link);
        world.push(0, alice, object, b"missed");
        world.push(0, alice, object, b"last");
        world.connect(0, 1);
        assert_eq!(world.state(1, bob, object).expect("shared"), b"last");
        let Ok(Reply::Address(copy)) = world.ask(1, bob, Request::Freeze(object)) else {
            panic!("frozen")
        };
        all_verify(&world);
        world.ask(0, alice, Request::Delete(object)).expect("deleted");
        world.state(1, bob, object).expect_err("deleted");
        assert_eq!(world.state(1, bob, copy).expect("kept"), b"last");
        all_verify(&world);
    }
}

#[test]
fn static_objects_are_shared_and_kept_over_a_restart() {
    for suites in PAIRS {
        let (mut world, alice, bob) = start(&suites);
        world.connect(0, 1);
        let recipient = world.nodes[1].account.fingerprint();
        let object = new(&mut world, alice, b"for ever", false);
        world.ask(0, alice, Request::Share { object, recipient }).expect("shared");
        assert_eq!(world.state(1, bob, object).expect("shared"), b"for ever", "{suites:?}");
        for node in [0, 1] {
            world.restart(node);
            let app = world.app(node, 7);
            assert_eq!(world.state(node, app, object).expect("kept"), b"for ever");
        }
        all_verify(&world);
    }
}

#[test]
fn shares_wait_for_whoever_is_away() {
    for suites in PAIRS {
        let (mut world, alice, bob) = start(&suites);
        let recipient = world.nodes[1].account.fingerprint();
        let object = new(&mut world, alice, b"first", true);
        world.ask(0, alice, Request::Share { object, recipient }).expect("promised");
        world.restart(0);
        let alice = world.app(0, 2);
        world.push(0, alice, object, b"second");
        world.connect(0, 1);
        assert_eq!(world.state(1, bob, object).expect("shared"), b"second", "{suites:?}");
        all_verify(&world);
    }
}

/// In suite 1 a key and a seed must never meet two containers (wire reference, section 15, 17).
#[test]
fn no_secret_seals_two_containers() {
    let (mut world, alice, _) = start(&[Suite::Suite1, Suite::Suite3]);
    let object = new(&mut world, alice, b"state", true);
    let mut payloads = std::collections::BTreeSet::new();
    let payload = |world: &World| {
        let rows = world.nodes[0].disk.0.iter();
        let containers = rows
            .filter(|((table, _), bytes)| *table == Table::Objects && bytes.starts_with(b"GEOC"));
        containers.map(|(_, bytes)| bytes[82..].to_vec()).collect::<Vec<_>>()
    };
    for round in 0..8 {
        // A restored backup: the same step, the same state, from the same chain.
        let backup = world.nodes[0].disk.clone();
        world.push(0, alice, object, b"the very same state");
        let states = payload(&world);
        let longest = states.iter().max_by_key(|payload| payload.len());
        assert!(payloads.insert(states.clone()), "round {round}: {longest:?}");
        world.nodes[0].disk = backup;
        world.restart(0);
        world.app(0, 1);
    }
    let copies: Vec<Ghid> =
        (0..3).map(|_| new(&mut world, ConnectionId(1), b"same", false)).collect();
    assert_eq!(copies.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
}
