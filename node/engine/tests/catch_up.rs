//! What was missed comes with one round trip, whatever is followed.

#![allow(missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use common::{Happened, World};
use golix::Ghid;
use hypergolix_engine::message::Address;
use hypergolix_engine::{LinkId, Message, PersisterConfig};
use hypergolix_ipc::{ApiId, Reply, Request};

/// A message, who said it, and how many others had to arrive one after the other before.
struct Said {
    by: usize,
    depth: usize,
    message: Message,
}

/// How deep each message on a link stands.
fn depths(log: Vec<Happened>, link: LinkId) -> Vec<Said> {
    let mut under_way: BTreeMap<usize, VecDeque<usize>> = BTreeMap::new();
    let mut depth = 0;
    let mut all = Vec::new();
    for happened in log {
        match happened {
            Happened::Heard(node, at) if at == link => {
                let queue = under_way.get_mut(&node).expect("something was said to it");
                depth = queue.pop_front().expect("something was said to it");
            }
            Happened::Heard(..) | Happened::Other => depth = 0,
            Happened::Said(by, at, message) if at == link => {
                // Two ends: what one says is for the other.
                let other = if by == BOB { SERVER } else { BOB };
                under_way.entry(other).or_default().push_back(depth + 1);
                all.push(Said { by, depth: depth + 1, message });
            }
            Happened::Said(..) => {}
        }
    }
    all
}

const ALICE: usize = 0;
const BOB: usize = 1;
const SERVER: usize = 2;

#[test]
fn a_hundred_changes_after_an_hour_take_one_round_trip() {
    // More than one message of subscriptions.
    const OBJECTS: usize = 1_100;
    const CHANGES: usize = 100;
    let mut world = World::new(2);
    assert_eq!(world.server(PersisterConfig::default()), SERVER);
    let (alice, bob) = (world.app(ALICE, 1), world.app(BOB, 1));
    assert_eq!(world.ask(BOB, bob, Request::RegisterApi(ApiId::JSON)), Ok(Reply::Done));
    world.connect(ALICE, SERVER);
    let at_bob = world.connect(BOB, SERVER);
    let recipient = world.nodes[BOB].account.fingerprint();
    let mut objects = Vec::new();
    for number in 0..OBJECTS {
        let object = world.new_object(ALICE, alice, &number.to_be_bytes());
        assert_eq!(world.ask(ALICE, alice, Request::Share { object, recipient }), Ok(Reply::Done));
        objects.push(object);
        if number % 100 == 99 {
            // A server takes ten requests a second from one user.
            world.advance(Duration::from_secs(11));
        }
    }
    world.advance(Duration::from_secs(5));
    assert_eq!(
        world.state(BOB, bob, objects[OBJECTS - 1]).expect("shared"),
        (OBJECTS - 1).to_be_bytes()
    );

    world.disconnect(at_bob);
    let every = OBJECTS / CHANGES;
    let changed: BTreeSet<Ghid> = objects.iter().step_by(every).copied().collect();
    for object in &changed {
        world.push(ALICE, alice, *object, b"meanwhile");
    }
    world.advance(Duration::from_secs(3_600));

    world.log = Some(Vec::new());
    let link = world.connect(BOB, SERVER);
    let said = depths(world.log.take().expect("it was kept"), link);
    for object in &changed {
        assert_eq!(world.state(BOB, bob, *object).expect("followed"), b"meanwhile");
    }
    let subscriptions: Vec<&Said> =
        said.iter().filter(|said| matches!(said.message, Message::Subscribe { .. })).collect();
    let asked = subscriptions[0].depth;
    assert!(subscriptions.iter().all(|said| said.depth == asked), "all subscriptions at once");
    let mut events = BTreeMap::new();
    for said in &said {
        if let Message::Event { address: Address(address), .. } = &said.message
            && said.by == SERVER
        {
            assert_eq!(said.depth, asked + 1, "an event is the answer to a subscription");
            *events.entry(*address).or_insert(0) += 1;
        }
    }
    assert_eq!(events.keys().copied().collect::<BTreeSet<_>>(), changed);
    assert!(events.values().all(|times| *times == 1), "once each: {events:?}");
    // What changed meanwhile looks different on both sides, and is neither asked for nor uploaded.
    let more = said.iter().filter(|said| {
        matches!(said.message, Message::Need { .. } | Message::Publish { .. } | Message::Get { .. })
    });
    assert_eq!(more.count(), 0);
    let of = |node| said.iter().filter(|said| said.by == node).count();
    // The hundred and their acknowledgements, and what begins a link and compares.
    assert!(of(BOB) < CHANGES + 15, "{} messages of the node", of(BOB));
    assert!(of(SERVER) < CHANGES + 15, "{} messages of the server", of(SERVER));
}
