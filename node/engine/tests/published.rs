//! Addresses that are published, and objects that nobody else in reach has.

#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::peer::{Peer, Thing, pack};
use common::{World, record};
use golix::Ghid;
use hypergolix_engine::limits::{LOOKUP_WAIT, PUBLISHED_MAX};
use hypergolix_engine::persister::Quota;
use hypergolix_engine::route::{Host, Route, Subject};
use hypergolix_engine::{Control, Input, Message, PersisterConfig, Table};
use hypergolix_ipc::{ApiId, ConnectionId, Reply, Request};

const BOB: usize = 1;
const CAROL: usize = 2;

fn world(nodes: usize) -> World {
    let mut world = World::new(nodes);
    world.searches = true;
    for node in 0..nodes {
        world.restart(node);
    }
    world
}

fn publish(world: &mut World, node: usize, address: Ghid) -> Result<String, String> {
    world.control(node, Control::Publish { address })
}

fn list(world: &mut World, node: usize) -> String {
    world.control(node, Control::Published).expect("a list")
}

#[test]
fn what_is_published_is_said_and_survives_until_it_is_taken_back() {
    let mut world = world(1);
    let app = world.app(0, 1);
    let object = world.new_object(0, app, b"state");
    let other = world.new_object(0, app, b"other");
    assert_eq!(list(&mut world, 0), "[]");
    assert!(publish(&mut world, 0, object).expect("published").contains("\"new\":true"));
    assert!(publish(&mut world, 0, object).expect("again").contains("\"new\":false"));
    publish(&mut world, 0, other).expect("published");
    let mut both = vec![object, other];
    both.sort_unstable();
    assert_eq!(world.nodes[0].published, both);
    assert!(list(&mut world, 0).contains(&object.to_string()));
    world.restart(0);
    assert_eq!(world.nodes[0].published, both);
    // A stolen disk does not show what is published.
    for ((table, key), value) in &world.nodes[0].disk.0 {
        for row in [key, value].into_iter().filter(|_| *table == Table::Account) {
            assert!(!row.windows(64).any(|part| part == &object.as_bytes()[1..]));
        }
    }
    world.control(0, Control::Unpublish { address: other }).expect("taken back");
    assert_eq!(world.nodes[0].published, [object]);
    let refused = world.control(0, Control::Unpublish { address: other }).expect_err("not twice");
    assert!(refused.contains("not published"), "{refused}");
    // It ends with the object.
    let app = world.app(0, 1);
    world.ask(0, app, Request::Get(object)).expect("it is there");
    world.ask(0, app, Request::Delete(object)).expect("deleted");
    assert!(world.nodes[0].published.is_empty());
    assert_eq!(list(&mut world, 0), "[]");
    world.restart(0);
    assert!(world.nodes[0].published.is_empty());
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut world = world(1);
    let app = world.app(0, 1);
    let refused = publish(&mut world, 0, Ghid::of(b"nothing")).expect_err("unknown");
    assert!(refused.contains("no object"), "{refused}");
    let me = world.nodes[0].account.fingerprint();
    let root = world.nodes[0].account.user_id();
    assert!(publish(&mut world, 0, me).is_err() && publish(&mut world, 0, root).is_err());
    // Up to a limit, and with a free place again.
    let objects: Vec<Ghid> =
        (0..=PUBLISHED_MAX).map(|number| world.new_object(0, app, &number.to_be_bytes())).collect();
    for object in &objects[..PUBLISHED_MAX] {
        publish(&mut world, 0, *object).expect("there is room");
    }
    let last = objects[PUBLISHED_MAX];
    let refused = publish(&mut world, 0, last).expect_err("full");
    assert!(refused.contains("1000") && refused.contains("--remove"), "{refused}");
    world.control(0, Control::Unpublish { address: objects[3] }).expect("taken back");
    publish(&mut world, 0, last).expect("there is room again");

    let mut off = World::new(1);
    let app = off.app(0, 1);
    let object = off.new_object(0, app, b"state");
    let refused = publish(&mut off, 0, object).expect_err("the DHT is off");
    assert!(refused.contains("--dht"), "{refused}");
    assert_eq!(list(&mut off, 0), "[]");
}

/// Bob has a share of Alice's and nothing of the object: it came through the mailbox of a server that did
/// not take more of her, and she is gone. Carol has the object.
fn with_nothing_but_the_key(fixed: bool) -> (World, Ghid, ConnectionId) {
    let mut world = world(3);
    let mut config = PersisterConfig::default();
    config.unregistered = Quota { bytes: 0, objects: 0 };
    let server = world.server(config);
    let [alice, bob, carol] = [0, 1, 2].map(|node| world.app(node, 1));
    for (node, app) in [(1, bob), (2, carol)] {
        world.ask(node, app, Request::RegisterApi(ApiId::JSON)).expect("registered");
    }
    let made = world.ask(0, alice, Request::New(record(b"state", !fixed)));
    let Ok(Reply::Address(object)) = made else { panic!("{made:?}") };
    for node in 1..3 {
        let recipient = world.nodes[node].account.fingerprint();
        world.ask(0, alice, Request::Share { object, recipient }).expect("shared");
    }
    let link = world.connect(0, 2);
    world.disconnect(link);
    assert_eq!(world.state(2, carol, object).expect("it came"), b"state");
    // He is known there before something is left for him.
    let known = world.connect(1, server);
    world.disconnect(known);
    let link = world.connect(0, server);
    world.disconnect(link);
    let link = world.connect(1, server);
    world.advance(Duration::from_secs(2));
    world.disconnect(link);
    assert!(world.notices(1, bob).is_empty(), "there is nothing to show yet");
    world.nodes[1].looked_up.clear();
    (world, object, bob)
}

fn published_by(world: &World, node: usize) -> Vec<Route> {
    let host = Host { device: world.nodes[node].device.clone(), addresses: vec![vec![1]] };
    vec![Route { host, persisters: Vec::new(), stamp: 1 }]
}

fn asks(
    world: &mut World,
    app: ConnectionId,
    object: Ghid,
) -> Option<Result<Reply, hypergolix_ipc::IpcError>> {
    world.try_ask(BOB, app, Request::Get(object))
}

fn answer(world: &mut World) -> Result<Reply, hypergolix_ipc::IpcError> {
    let answers = std::mem::take(&mut world.nodes[BOB].answers);
    assert_eq!(answers.len(), 1);
    answers.into_values().next().expect("one")
}

fn is_state(answer: &Result<Reply, hypergolix_ipc::IpcError>) -> bool {
    matches!(answer, Ok(Reply::Record(record)) if &record.state[..] == b"state")
}

#[test]
fn who_has_the_key_finds_the_object_at_whoever_publishes_it() {
    for fixed in [false, true] {
        let (mut world, object, app) = with_nothing_but_the_key(fixed);
        publish(&mut world, CAROL, object).expect("she can read it, so she may publish it");
        assert!(asks(&mut world, app, object).is_none(), "it is looked for");
        assert_eq!(world.nodes[BOB].looked_up, [object]);
        let routes = published_by(&world, CAROL);
        world.input(BOB, Input::Found { subject: Subject::Published(object), routes });
        let link = world.connect(BOB, CAROL);
        assert!(is_state(&answer(&mut world)), "static: {fixed}");
        let carol = world.nodes[CAROL].device.clone();
        assert_eq!(world.nodes[BOB].left, [carol], "she is nobody that it knows");
        world.disconnect(link);
        assert!(is_state(&asks(&mut world, app, object).expect("it is here")));
    }
}

#[test]
fn a_share_whose_object_never_came_finds_it_by_itself() {
    let (mut world, object, app) = with_nothing_but_the_key(false);
    publish(&mut world, CAROL, object).expect("published");
    world.advance(Duration::from_secs(15));
    assert_eq!(world.nodes[BOB].looked_up, [object]);
    let routes = published_by(&world, CAROL);
    world.input(BOB, Input::Found { subject: Subject::Published(object), routes });
    world.connect(BOB, CAROL);
    let told = world.notices(BOB, app);
    assert!(matches!(told.as_slice(), [hypergolix_ipc::Notice::Share { .. }]), "{told:?}");
    world.advance(Duration::from_secs(3_600));
    assert_eq!(world.nodes[BOB].looked_up, [object], "it is here");
}

#[test]
fn a_lookup_in_vain_ends_and_is_not_repeated_at_once() {
    let (mut world, object, app) = with_nothing_but_the_key(false);
    // What this account has no key of is not looked for: nobody learns what it asks.
    assert!(asks(&mut world, app, Ghid::of(b"unknown")).is_some_and(|answer| answer.is_err()));
    assert!(asks(&mut world, app, object).is_none());
    assert!(asks(&mut world, app, object).is_none(), "a second one waits beside the first");
    assert_eq!(world.nodes[BOB].looked_up, [object]);
    world.input(BOB, Input::Found { subject: Subject::Published(object), routes: Vec::new() });
    let answers = std::mem::take(&mut world.nodes[BOB].answers);
    assert_eq!(answers.len(), 2);
    assert!(answers.values().all(Result::is_err));
    assert!(asks(&mut world, app, object).expect("at once").is_err());
    assert_eq!(world.nodes[BOB].looked_up, [object]);
    world.advance(Duration::from_secs(11));
    assert!(asks(&mut world, app, object).is_none());
    assert_eq!(world.nodes[BOB].looked_up, [object, object]);
    // Nobody answers: it ends by itself.
    let routes = published_by(&world, CAROL);
    world.input(BOB, Input::Found { subject: Subject::Published(object), routes });
    world.advance(LOOKUP_WAIT);
    assert!(answer(&mut world).is_err());
    assert_eq!(world.nodes[BOB].left.len(), 1);
}

#[test]
fn whoever_claims_to_publish_it_and_sends_something_else_is_no_harm() {
    let (mut world, object, app) = with_nothing_but_the_key(false);
    assert!(asks(&mut world, app, object).is_none());
    let mut liar = Peer::silent(&mut world, BOB, 5);
    let mut routes = published_by(&world, CAROL);
    let host = Host { device: liar.device.clone(), addresses: Vec::new() };
    routes.push(Route { host, persisters: Vec::new(), stamp: 2 });
    world.input(BOB, Input::Found { subject: Subject::Published(object), routes });
    assert!(liar.heard(&mut world).is_empty(), "it did not say hello");
    liar.greet(&mut world);
    let heard = liar.heard(&mut world);
    let asked = heard.into_iter().find_map(|message| match message {
        Message::Get { id, address } => Some((id, address.0)),
        _ => None,
    });
    let (id, address) = asked.expect("it is asked");
    assert_eq!(address, object);
    let (frame, container) = Thing::new(&liar.me, 9).step(1, b"something else", 1);
    let objects = vec![liar.gidc(), pack(&frame), pack(&container)];
    let before = world.nodes[BOB].disk.0.len();
    liar.say(&mut world, Message::Object { id, objects });
    assert_eq!(world.nodes[BOB].disk.0.len(), before);
    assert!(!world.nodes[BOB].disk.0.contains_key(&(Table::Heads, object.as_bytes().to_vec())));
    assert!(world.nodes[BOB].answers.is_empty(), "somebody else may have it");
    world.connect(BOB, CAROL);
    assert!(is_state(&answer(&mut world)));
}
