//! Nodes that meet only at persisters.

#![allow(missing_docs)]

mod common;

use std::collections::BTreeSet;

use std::time::Duration;

use common::World;
use common::peer::Peer;
use golix::object::{Request as Sealed, RequestBody};
use golix::{Ghid, Identity, Suite};
use hypergolix_engine::message::Packed;
use hypergolix_engine::persister::{Policy, Quota};
use hypergolix_engine::{Control, LinkId, Message, PersisterConfig, Table, limits, verdict};
use hypergolix_ipc::{ApiId, ConnectionId, Notice, Reply, Request};

struct Met {
    world: World,
    server: usize,
    alice: ConnectionId,
    bob: ConnectionId,
    object: Ghid,
    at_alice: LinkId,
    at_bob: LinkId,
}

fn states(notices: &[Notice]) -> Vec<Vec<u8>> {
    notices
        .iter()
        .filter_map(|notice| match notice {
            Notice::Update(record) => Some(record.state.to_vec()),
            _ => None,
        })
        .collect()
}

fn share(world: &mut World, alice: ConnectionId, object: Ghid) {
    let recipient = world.nodes[1].account.fingerprint();
    assert_eq!(world.ask(0, alice, Request::Share { object, recipient }), Ok(Reply::Done));
}

fn applications(world: &mut World) -> (ConnectionId, ConnectionId) {
    let (alice, bob) = (world.app(0, 1), world.app(1, 1));
    assert_eq!(world.ask(1, bob, Request::RegisterApi(ApiId::JSON)), Ok(Reply::Done));
    assert!(world.ask(0, alice, Request::RegisterToken(None)).is_ok());
    (alice, bob)
}

fn config(change: impl FnOnce(&mut PersisterConfig)) -> PersisterConfig {
    let mut config = PersisterConfig::default();
    change(&mut config);
    config
}

/// Alice shares with Bob, both of whom only know a server.
fn met() -> Met {
    let mut world = World::new(2);
    let server = world.server(PersisterConfig::default());
    let (alice, bob) = applications(&mut world);
    let at_alice = world.connect(0, server);
    let at_bob = world.connect(1, server);
    let object = world.new_object(0, alice, b"first");
    share(&mut world, alice, object);
    let origin = world.nodes[0].account.fingerprint();
    assert_eq!(world.notices(1, bob), vec![Notice::Share { object, origin, api: ApiId::JSON }]);
    assert_eq!(world.state(1, bob, object).expect("shared"), b"first");
    Met { world, server, alice, bob, object, at_alice, at_bob }
}

fn figure(world: &mut World, node: usize, name: &str) -> String {
    let status = world.control(node, Control::Figures).expect("figures");
    let from = status.split(&format!("\"{name}\":")).nth(1).expect("a figure");
    from.split([',', '}']).next().expect("a value").to_owned()
}

/// Dynamic objects at a node, without those that accounts keep for themselves.
fn objects_at(world: &World, node: usize) -> usize {
    let accounts: BTreeSet<Ghid> =
        world.nodes.iter().flat_map(|node| node.account.own_addresses()).collect();
    let heads = world.nodes[node].disk.0.keys().filter(|(table, _)| *table == Table::Heads);
    heads.filter(|(_, key)| Ghid::from_bytes(key).is_ok_and(|key| !accounts.contains(&key))).count()
}

fn rows(world: &World, node: usize, table: Table) -> usize {
    world.nodes[node].disk.0.keys().filter(|(other, _)| *other == table).count()
}

#[test]
fn a_share_and_its_updates_go_through_a_server() {
    let Met { mut world, server, alice, bob, object, .. } = met();
    assert!(world.closed.is_empty(), "{:?}", world.closed);
    for state in [&b"second"[..], b"third"] {
        world.push(0, alice, object, state);
    }
    let told = states(&world.notices(1, bob));
    assert_eq!(told.last().map(Vec::as_slice), Some(&b"third"[..]));
    // The answer came back, and nothing is left in mailboxes.
    world.advance(Duration::from_secs(3));
    let ended = world.notices(0, alice);
    assert!(
        ended.iter().any(|notice| matches!(notice, Notice::ShareSucceeded { .. })),
        "the application hears that it was taken: {ended:?}"
    );
    assert_eq!(rows(&world, 0, Table::Outbox), 0);
    assert_eq!(rows(&world, 1, Table::Outbox), 0);
    assert_eq!(rows(&world, server, Table::Requests), 0);
    assert_eq!(world.ask(0, alice, Request::Delete(object)), Ok(Reply::Done));
    assert!(world.notices(1, bob).contains(&Notice::Deleted(object)));
    assert!(world.state(1, bob, object).is_err());
    assert!(world.closed.is_empty(), "{:?}", world.closed);
}

#[test]
fn sender_and_recipient_are_never_there_together() {
    let mut world = World::new(2);
    let server = world.server(PersisterConfig::default());
    let (alice, bob) = applications(&mut world);
    // The server has seen Bob once.
    let link = world.connect(1, server);
    world.disconnect(link);
    let object = world.new_object(0, alice, b"first");
    share(&mut world, alice, object);
    let link = world.connect(0, server);
    world.push(0, alice, object, b"second");
    world.disconnect(link);
    assert_eq!(rows(&world, server, Table::Requests), 1);
    world.restart(server);

    let link = world.connect(1, server);
    assert_eq!(world.state(1, bob, object).expect("shared"), b"second");
    assert_eq!(world.notices(1, bob).len(), 1);
    world.advance(Duration::from_secs(3));
    world.disconnect(link);
    assert_eq!(rows(&world, 1, Table::Outbox), 0, "the answer is at the server");

    let link = world.connect(0, server);
    assert!(
        world
            .notices(0, alice)
            .iter()
            .any(|notice| matches!(notice, Notice::ShareSucceeded { .. }))
    );
    world.push(0, alice, object, b"third");
    world.disconnect(link);
    let link = world.connect(1, server);
    assert_eq!(states(&world.notices(1, bob)), [b"third".to_vec()]);
    world.disconnect(link);

    let link = world.connect(0, server);
    assert_eq!(world.ask(0, alice, Request::Delete(object)), Ok(Reply::Done));
    world.disconnect(link);
    world.connect(1, server);
    assert_eq!(world.notices(1, bob), [Notice::Deleted(object)]);
    assert!(world.closed.is_empty(), "{:?}", world.closed);
}

#[test]
fn a_recipient_whom_the_server_does_not_know_yet() {
    let mut world = World::new(2);
    let server = world.server(PersisterConfig::default());
    let (alice, bob) = applications(&mut world);
    let object = world.new_object(0, alice, b"first");
    world.connect(0, server);
    share(&mut world, alice, object);
    assert_eq!(rows(&world, 0, Table::Outbox), 1);
    assert_eq!(rows(&world, server, Table::Requests), 0);
    // Alice hears who Bob is when he comes.
    world.connect(1, server);
    assert_eq!(world.state(1, bob, object).expect("shared"), b"first");
    world.advance(Duration::from_secs(3));
    assert_eq!(rows(&world, 0, Table::Outbox), 0);
}

#[test]
fn a_wiped_server_is_filled_again() {
    let Met { mut world, server, alice, bob, object, .. } = met();
    let mut more = Vec::new();
    for number in 0..100_u8 {
        more.push(world.new_object(0, alice, &[number]));
    }
    let statics = {
        let record = common::record(b"static", false);
        match world.ask(0, alice, Request::New(record)) {
            Ok(Reply::Address(address)) => address,
            other => panic!("{other:?}"),
        }
    };
    share(&mut world, alice, statics);
    world.advance(Duration::from_secs(3));
    let before = rows(&world, server, Table::Objects);
    assert_eq!(world.ask(0, alice, Request::Delete(more[0])), Ok(Reply::Done));
    world.wipe(server);
    assert_eq!(rows(&world, server, Table::Objects), 0);
    // Bob alone fills it with what he follows.
    world.connect(1, server);
    assert!(objects_at(&world, server) >= 1);
    world.connect(0, server);
    world.advance(Duration::from_secs(3));
    assert_eq!(objects_at(&world, server), 100);
    assert!(rows(&world, server, Table::Objects) + 8 >= before);
    world.push(0, alice, object, b"again");
    assert_eq!(world.state(1, bob, object).expect("there"), b"again");
    assert_eq!(figure(&mut world, 0, "pending"), "0");
}

#[test]
fn what_the_server_has_is_not_sent_twice() {
    let Met { mut world, server, alice, object, at_alice, .. } = met();
    world.advance(Duration::from_secs(3));
    for number in 0..50_u8 {
        world.new_object(0, alice, &[number]);
    }
    world.disconnect(at_alice);
    world.push(0, alice, object, b"meanwhile");
    let link = world.connect(0, server);
    assert_eq!(figure(&mut world, 0, "confirmed"), "1");
    world.disconnect(link);
    // The place is durable.
    world.restart(0);
    world.connect(0, server);
    assert_eq!(figure(&mut world, 0, "confirmed"), "0");
}

#[test]
fn damage_on_either_side_heals_with_a_comparison() {
    let Met { mut world, server, alice, bob, object, at_alice, at_bob } = met();
    for number in 0..10_u8 {
        world.new_object(0, alice, &[number]);
    }
    let backup = world.nodes[server].disk.clone();
    for number in 10..20_u8 {
        world.new_object(0, alice, &[number]);
    }
    // The server is restored from a backup, and Bob has lost how far he was.
    world.disconnect(at_alice);
    world.disconnect(at_bob);
    world.nodes[server].disk = backup;
    let left = objects_at(&world, server);
    world.restart(server);
    world.push(0, alice, object, b"second");
    world.nodes[1].disk.0.retain(|(table, _), _| *table != Table::Cursors);
    world.restart(1);
    let bob = world.app(1, bob.0 + 10);
    world.connect(0, server);
    world.connect(1, server);
    assert!(left < 20 && objects_at(&world, server) == 21);
    assert_eq!(world.state(1, bob, object).expect("there"), b"second");
}

#[test]
fn two_servers_and_one_is_lost() {
    let mut world = World::new(2);
    let first = world.server(PersisterConfig::default());
    let second = world.server(PersisterConfig::default());
    let (alice, bob) = applications(&mut world);
    for server in [first, second] {
        for node in [0, 1] {
            let link = world.connect(node, server);
            world.disconnect(link);
        }
    }
    let object = world.new_object(0, alice, b"first");
    share(&mut world, alice, object);
    let links = [first, second].map(|server| world.connect(0, server));
    for link in links {
        world.disconnect(link);
    }
    // Bob reaches only the second one.
    let link = world.connect(1, second);
    assert_eq!(world.state(1, bob, object).expect("shared"), b"first");
    world.advance(Duration::from_secs(3));
    world.disconnect(link);
    // Alice reaches both; and then the first one has nothing left for Bob either.
    let links = [first, second].map(|server| world.connect(0, server));
    world.advance(Duration::from_secs(3));
    assert_eq!(rows(&world, 0, Table::Outbox), 0);
    world.push(0, alice, object, b"second");
    for link in links {
        world.disconnect(link);
    }
    world.notices(1, bob);
    world.connect(1, first);
    assert_eq!(states(&world.notices(1, bob)), [b"second".to_vec()]);
    assert_eq!(rows(&world, first, Table::Requests), 0);
}

#[test]
fn a_quota_leaves_what_does_not_fit_pending_and_says_why() {
    let mut world = World::new(1);
    let server = world.server(config(|config| {
        config.unregistered = Quota { bytes: 4_000, objects: 100 };
    }));
    let alice = world.app(0, 1);
    let link = world.connect(0, server);
    for number in 0..20_u8 {
        world.new_object(0, alice, &[number]);
    }
    let status = world.control(0, Control::Figures).expect("figures");
    assert!(status.contains("quota"), "{status}");
    assert_ne!(figure(&mut world, 0, "refused"), "0");
    let answer = world.control(0, Control::Register { token: None }).expect("an answer");
    assert!(answer.contains("\"registered\":true"), "{answer}");
    assert_eq!(figure(&mut world, 0, "refused"), "0");
    assert_eq!(objects_at(&world, server), 20);
    world.disconnect(link);
    assert!(world.control(0, Control::Register { token: None }).is_err());
}

#[test]
fn room_that_is_made_is_used_at_once() {
    let mut world = World::new(1);
    let server = world.server(config(|config| {
        config.unregistered = Quota { bytes: 8_000, objects: 100 };
    }));
    let alice = world.app(0, 1);
    world.connect(0, server);
    let objects: Vec<Ghid> =
        (0..20_u8).map(|number| world.new_object(0, alice, &[number])).collect();
    let refused =
        |world: &mut World| -> usize { figure(world, 0, "refused").parse().expect("a number") };
    let before = (refused(&mut world), objects_at(&world, server));
    assert!(before.0 > 2, "{before:?}");
    for object in &objects[..3] {
        assert_eq!(world.ask(0, alice, Request::Delete(*object)), Ok(Reply::Done));
    }
    assert!(refused(&mut world) < before.0, "{before:?}");
    assert!(objects_at(&world, server) > before.1 - 3, "{before:?}");
    // The operator makes room, and nobody has to ask.
    let identity = world.nodes[0].account.fingerprint();
    let quota = Control::Quota { identity, bytes: Some(1_000_000), objects: None };
    world.control(server, quota).expect("done");
    assert_eq!(refused(&mut world), 0);
    assert_eq!(objects_at(&world, server), 17);
}

#[test]
fn a_share_that_was_refused_is_left_once_it_is_taken() {
    let mut world = World::new(2);
    let server = world.server(config(|config| config.policy = Policy::Registered));
    let (alice, bob) = applications(&mut world);
    let link = world.connect(1, server);
    world.disconnect(link);
    world.connect(0, server);
    let object = world.new_object(0, alice, b"first");
    share(&mut world, alice, object);
    assert_eq!(rows(&world, server, Table::Requests), 0);
    let answer = world.control(0, Control::Register { token: None }).expect("an answer");
    assert!(answer.contains("\"registered\":true"), "{answer}");
    assert_eq!(rows(&world, server, Table::Requests), 1, "it waits");
    world.connect(1, server);
    assert_eq!(world.state(1, bob, object).expect("shared"), b"first");
}

#[test]
fn who_may_not_publish_hears_of_it_and_may_be_shared_with_all_the_same() {
    let mut world = World::new(2);
    let server = world.server(config(|config| config.policy = Policy::Invited));
    let (alice, bob) = applications(&mut world);
    world.connect(0, server);
    world.connect(1, server);
    let answer = world.control(0, Control::Register { token: None }).expect("an answer");
    assert!(answer.contains("token"), "{answer}");
    let identity = world.nodes[0].account.fingerprint();
    world.control(server, Control::Admit { identity, registered: true }).expect("done");
    let object = world.new_object(0, alice, b"first");
    share(&mut world, alice, object);
    assert_eq!(world.state(1, bob, object).expect("shared"), b"first");
    world.advance(Duration::from_secs(3));
    assert_eq!(rows(&world, 0, Table::Outbox), 0);
    assert_eq!(rows(&world, server, Table::Requests), 0);
    // Bob cannot store anything there.
    world.new_object(1, bob, b"mine");
    let status = world.control(1, Control::Figures).expect("figures");
    assert!(status.contains("registered"), "{status}");
    let identity = world.nodes[1].account.fingerprint();
    world.control(server, Control::Ban { identity, banned: true }).expect("done");
    world.advance(Duration::from_secs(2));
    let status = world.control(1, Control::Figures).expect("figures");
    assert!(status.contains("banned"), "{status}");
}

#[test]
fn a_server_that_serves_old_states_moves_nobody_back() {
    let Met { mut world, server, alice, bob, object, at_alice, at_bob } = met();
    world.disconnect(at_alice);
    let old = world.nodes[server].disk.clone();
    let link = world.connect(0, server);
    world.push(0, alice, object, b"second");
    assert_eq!(states(&world.notices(1, bob)), [b"second".to_vec()]);
    world.disconnect(link);
    world.disconnect(at_bob);
    // A backup was restored there.
    world.nodes[server].disk = old;
    world.restart(server);
    world.connect(1, server);
    assert!(states(&world.notices(1, bob)).is_empty());
    assert_eq!(world.state(1, bob, object).expect("there"), b"second");
    // Bob brought it up to date again.
    let reader = common::peer::Peer::link(&mut world, server, 9);
    let there = reader.get(&mut world, object);
    assert!(there.len() >= 3);
    assert_eq!(figure(&mut world, 1, "pending"), "0");
}

#[test]
fn holds_and_their_ends_reach_the_server() {
    let Met { mut world, server, alice, bob, object, .. } = met();
    assert_eq!(world.ask(1, bob, Request::Hold(object)), Ok(Reply::Done));
    assert_eq!(world.ask(0, alice, Request::Delete(object)), Ok(Reply::Done));
    assert_eq!(objects_at(&world, server), 1, "bob holds it");
    assert_eq!(world.state(1, bob, object).expect("held"), b"first");
    assert_eq!(world.ask(1, bob, Request::Delete(object)), Ok(Reply::Done));
    assert_eq!(objects_at(&world, server), 0);
}

#[test]
fn a_persister_of_nobodys_choice_is_told_nothing() {
    let mut world = World::new(1);
    let alice = world.app(0, 1);
    world.new_object(0, alice, b"mine");
    let mut peer = common::peer::Peer::silent(&mut world, 0, 9);
    peer.role = hypergolix_engine::Role::Persister { epoch: 7 };
    peer.greet(&mut world);
    world.advance(Duration::from_secs(5));
    assert!(peer.heard(&mut world).is_empty());
}

#[test]
fn accounts_of_both_suites_share_through_a_server() {
    for suites in [[Suite::Suite1, Suite::Suite3], [Suite::Suite3, Suite::Suite1]] {
        let mut world = World::of_suites(&suites);
        let server = world.server(PersisterConfig::default());
        let (alice, bob) = applications(&mut world);
        for node in [1, 0] {
            let link = world.connect(node, server);
            world.disconnect(link);
        }
        let object = world.new_object(0, alice, b"first");
        share(&mut world, alice, object);
        let link = world.connect(0, server);
        world.push(0, alice, object, b"second");
        world.disconnect(link);
        let link = world.connect(1, server);
        world.advance(Duration::from_secs(3));
        assert_eq!(world.state(1, bob, object).expect("shared"), b"second", "{suites:?}");
        world.disconnect(link);
        world.connect(0, server);
        world.connect(1, server);
        world.advance(Duration::from_secs(3));
        assert_eq!(rows(&world, 0, Table::Outbox), 0, "{suites:?}");
        assert_eq!(rows(&world, server, Table::Requests), 0, "{suites:?}");
        assert_eq!(world.ask(0, alice, Request::Delete(object)), Ok(Reply::Done));
        assert!(world.state(1, bob, object).is_err(), "{suites:?}");
        assert!(world.closed.is_empty(), "{:?}", world.closed);
    }
}

#[test]
fn a_deletion_meets_somebody_who_fills_a_wiped_server() {
    for hold in [false, true] {
        let Met { mut world, server, alice, bob, object, at_alice, at_bob } = met();
        world.advance(Duration::from_secs(3));
        if hold {
            assert_eq!(world.ask(0, alice, Request::Hold(object)), Ok(Reply::Done));
        }
        world.disconnect(at_alice);
        world.disconnect(at_bob);
        assert_eq!(world.ask(0, alice, Request::Delete(object)), Ok(Reply::Done));
        world.wipe(server);
        let link = world.connect(0, server);
        world.disconnect(link);
        world.connect(1, server);
        assert!(world.state(1, bob, object).is_err(), "hold: {hold}");
    }
}

#[test]
fn devices_that_share_a_server_reach_each_other() {
    let met = met();
    let (alice, bob) = (&met.world.nodes[0], &met.world.nodes[1]);
    // Bob follows what Alice shared with him; she owed him something.
    assert!(bob.reached.contains(&alice.device), "{:?}", bob.reached);
    let own = [&alice.reached, &bob.reached]
        .iter()
        .all(|reached| reached.iter().all(|device| [&alice.device, &bob.device].contains(&device)));
    assert!(own && !alice.reached.contains(&alice.device) && !bob.reached.contains(&bob.device));
}

#[test]
fn requests_that_come_too_fast_for_a_server_hold_up_nothing_else() {
    let Met { mut world, alice, object, at_alice, at_bob, .. } = met();
    world.disconnect(at_alice);
    world.disconnect(at_bob);
    let busy = Peer::persister(&mut world, 0, 9, 7);
    // Takes everything but requests; how many of these came, and how many frames.
    let serve = |world: &mut World| {
        let (mut requests, mut frames) = (0, 0);
        loop {
            let heard = busy.heard(world);
            if heard.is_empty() {
                return (requests, frames);
            }
            for message in heard {
                let Message::Publish { id, objects } = message else { continue };
                let is =
                    |magic: &[u8; 4]| objects.iter().filter(|it| it.starts_with(magic)).count();
                (requests, frames) = (requests + is(b"GARQ"), frames + is(b"GOBD"));
                let result = |bytes: &[u8]| {
                    if bytes.starts_with(b"GARQ") { verdict::TOO_FAST } else { verdict::STORED }
                };
                let results = objects.iter().map(|bytes| result(bytes)).collect();
                busy.say(world, Message::Published { id, results });
            }
        }
    };
    assert_eq!(serve(&mut world).0, 1, "the share, which Bob has not answered yet");
    world.push(0, alice, object, b"second");
    assert_eq!(serve(&mut world), (0, 1), "at once");
    let mut again = 0;
    for _ in 0..5 {
        // It is there.
        busy.say(&mut world, Message::Pong { id: 0 });
        world.advance(limits::UPLOADS_PAUSE / 4);
        again += serve(&mut world).0;
    }
    assert_eq!(again, 1, "later");
}

#[test]
fn what_gave_way_in_a_full_mailbox_is_left_again() {
    let mut world = World::new(2);
    let server = world.server(PersisterConfig::default());
    let (alice, bob) = applications(&mut world);
    // The server has seen Bob once.
    let link = world.connect(1, server);
    world.disconnect(link);
    world.connect(0, server);
    let object = world.new_object(0, alice, b"first");
    share(&mut world, alice, object);
    let waits = |world: &World| {
        let rows = world.nodes[server].disk.0.keys();
        rows.filter(|(table, _)| *table == Table::Requests).cloned().collect::<BTreeSet<_>>()
    };
    let alices = waits(&world);
    assert_eq!(alices.len(), 1);

    let row = (Table::Objects, world.nodes[1].account.fingerprint().as_bytes().to_vec());
    let recipient = Identity::from_bytes(&world.nodes[server].disk.0[&row]).expect("an identity");
    let leave = |world: &mut World, peer: &Peer, number: u64| {
        let body = RequestBody::Ack { request: Ghid::of(b"anything"), status: 0 };
        let mut ephemeral = [3; 64];
        ephemeral[..8].copy_from_slice(&number.to_be_bytes());
        let sealed = Sealed::seal(&peer.me, &recipient, &body, ephemeral).expect("sealed");
        assert_eq!(peer.publish(world, vec![Packed::from(sealed.bytes().to_vec())]), [0]);
    };
    let many = Peer::link(&mut world, server, 3);
    let proof = many.proof(&world);
    many.say(&mut world, proof);
    for number in 1..1_000 {
        leave(&mut world, &many, number);
    }
    assert!(waits(&world).is_superset(&alices));
    let registered = Peer::link(&mut world, server, 4);
    let proof = registered.proof(&world);
    registered.say(&mut world, proof);
    registered.say(&mut world, Message::Register { id: 1, token: None });
    leave(&mut world, &registered, 0);
    assert!(waits(&world).is_disjoint(&alices), "it gave way");

    world.advance(Duration::from_secs(600));
    assert!(waits(&world).is_superset(&alices), "it was left again");
    assert_eq!(waits(&world).len(), 1_000);
    world.connect(1, server);
    // Requests that it can make nothing of go before it.
    world.advance(Duration::from_secs(10));
    assert_eq!(world.state(1, bob, object).expect("shared"), b"first");
}
