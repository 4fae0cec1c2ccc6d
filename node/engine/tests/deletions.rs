//! Deletions: who has confirmed them, and that nobody brings anything back.

#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::{World, record};
use golix::Ghid;
use hypergolix_engine::persister::{Policy, Quota};
use hypergolix_engine::{Control, PersisterConfig};
use hypergolix_ipc::{ConnectionId, Reply, Request};
use serde_json::Value;

/// What a node says of a server: deletions confirmed, outstanding, and those named.
fn confirmed(world: &mut World, node: usize, server: usize) -> (u64, u64, Vec<String>) {
    let status = world.control(node, Control::Figures).expect("figures");
    let status: Value = serde_json::from_str(&status).expect("JSON");
    let device = data_encoding::HEXLOWER.encode(&world.nodes[server].device);
    let persisters = status["persisters"].as_array().expect("a list");
    let facts = persisters.iter().find(|facts| facts["device"] == device.as_str());
    let facts = facts.unwrap_or_else(|| panic!("nothing of {device} in {status}"));
    let number = |key: &str| facts[key].as_u64().unwrap_or_else(|| panic!("{key} in {facts}"));
    let named = facts["unconfirmed_deletions"].as_array().expect("a list");
    let named = named.iter().map(|ghid| ghid.as_str().expect("text").to_owned()).collect();
    (number("deletions_confirmed"), number("deletions_unconfirmed"), named)
}

fn make(world: &mut World, app: ConnectionId, count: u8) -> Vec<Ghid> {
    (0..count).map(|number| world.new_object(0, app, &[number])).collect()
}

fn delete(world: &mut World, node: usize, app: ConnectionId, address: Ghid) {
    assert_eq!(world.ask(node, app, Request::Delete(address)), Ok(Reply::Done));
}

fn fixed(world: &mut World, app: ConnectionId) -> Ghid {
    match world.ask(0, app, Request::New(record(b"fixed", false))) {
        Ok(Reply::Address(address)) => address,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_server_confirms_for_itself_and_after_restarts() {
    let mut world = World::new(1);
    let (first, second) =
        (world.server(PersisterConfig::default()), world.server(PersisterConfig::default()));
    let app = world.app(0, 1);
    let objects = make(&mut world, app, 4);
    let fixed = fixed(&mut world, app);
    let links = [first, second].map(|server| world.connect(0, server));
    assert_eq!(confirmed(&mut world, 0, first), (0, 0, vec![]));
    delete(&mut world, 0, app, objects[0]);
    delete(&mut world, 0, app, fixed);
    for server in [first, second] {
        assert_eq!(confirmed(&mut world, 0, server), (2, 0, vec![]));
    }
    // One is away.
    world.disconnect(links[1]);
    delete(&mut world, 0, app, objects[1]);
    for _ in 0..2 {
        assert_eq!(confirmed(&mut world, 0, first), (3, 0, vec![]));
        assert_eq!(confirmed(&mut world, 0, second), (2, 1, vec![objects[1].to_string()]));
        world.restart(0);
    }
    world.connect(0, second);
    assert_eq!(confirmed(&mut world, 0, second), (3, 0, vec![]));
}

#[test]
fn what_a_server_lost_it_has_not_confirmed() {
    let mut world = World::new(1);
    let server = world.server(PersisterConfig::default());
    let app = world.app(0, 1);
    let link = world.connect(0, server);
    let objects = make(&mut world, app, 3);
    let backup = world.nodes[server].disk.clone();
    for object in objects {
        delete(&mut world, 0, app, object);
    }
    assert_eq!(confirmed(&mut world, 0, server), (3, 0, vec![]));
    // Restored from a backup: its epoch is the same. It says so in the comparison, and is told.
    world.disconnect(link);
    world.nodes[server].disk = backup;
    world.restart(server);
    let link = world.connect(0, server);
    assert_eq!(confirmed(&mut world, 0, server), (3, 0, vec![]));
    // Wiped, and full: it confirms nothing.
    world.disconnect(link);
    world.nodes[server].config.as_mut().expect("a server").policy = Policy::Registered;
    world.wipe(server);
    let link = world.connect(0, server);
    let (has, open, named) = confirmed(&mut world, 0, server);
    assert_eq!((has, open, named.len()), (0, 3, 3));
    let status = world.control(0, Control::Figures).expect("figures");
    assert!(status.contains("registered"), "{status}");
    world.disconnect(link);
    world.restart(0);
    assert_eq!(confirmed(&mut world, 0, server).1, 3);
    world.connect(0, server);
    let answer = world.control(0, Control::Register { token: None }).expect("an answer");
    assert!(answer.contains("\"registered\":true"), "{answer}");
    assert_eq!(confirmed(&mut world, 0, server), (3, 0, vec![]));
}

#[test]
fn deletions_are_taken_over_quota_and_all_of_them_by_a_server_that_was_wiped() {
    let mut world = World::new(1);
    let mut config = PersisterConfig::default();
    config.unregistered = Quota { bytes: 120_000, objects: 300 };
    let server = world.server(config);
    let app = world.app(0, 1);
    let link = world.connect(0, server);
    let objects = make(&mut world, app, 120);
    // More than anybody may leave there of things that nobody knows.
    for object in &objects[..100] {
        delete(&mut world, 0, app, *object);
    }
    assert_eq!(confirmed(&mut world, 0, server), (100, 0, vec![]));
    world.disconnect(link);
    world.wipe(server);
    world.connect(0, server);
    world.advance(Duration::from_secs(60));
    assert_eq!(confirmed(&mut world, 0, server), (100, 0, vec![]));
    // And what is made afterwards is not behind them.
    let new = world.new_object(0, app, b"new");
    let reader = common::peer::Peer::link(&mut world, server, 9);
    assert_eq!(reader.get(&mut world, new).len(), 3);
}

#[test]
fn a_hold_that_ends_is_a_deletion_until_it_is_held_again() {
    let mut world = World::new(1);
    let server = world.server(PersisterConfig::default());
    let app = world.app(0, 1);
    world.connect(0, server);
    let object = make(&mut world, app, 1)[0];
    let Ok(Reply::Address(copy)) = world.ask(0, app, Request::Freeze(object)) else {
        panic!("frozen")
    };
    delete(&mut world, 0, app, copy);
    assert_eq!(confirmed(&mut world, 0, server), (1, 0, vec![]));
    // The same state again, and so the same binding.
    assert_eq!(world.ask(0, app, Request::Freeze(object)), Ok(Reply::Address(copy)));
    assert_eq!(confirmed(&mut world, 0, server), (0, 0, vec![]));
    delete(&mut world, 0, app, copy);
    delete(&mut world, 0, app, object);
    assert_eq!(confirmed(&mut world, 0, server), (2, 0, vec![]));
}

#[test]
fn servers_that_are_new_each_time_are_not_remembered_for_ever() {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    let object = make(&mut world, app, 1)[0];
    delete(&mut world, 0, app, object);
    for _ in 0..20 {
        let server = world.server(PersisterConfig::default());
        let link = world.connect(0, server);
        // It was never heard of, and so nobody has to be told that it is gone.
        assert_eq!(confirmed(&mut world, 0, server).1, 0);
        world.disconnect(link);
    }
    let status = world.control(0, Control::Figures).expect("figures");
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["persisters"].as_array().expect("a list").len(), 16);
}
