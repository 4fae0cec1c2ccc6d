//! Whom a node looks for in the distributed hash table, and when.

#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::World;
use hypergolix_ipc::{ApiId, Request};

fn world() -> World {
    let mut world = World::new(2);
    world.searches = true;
    world.restart(0);
    world.restart(1);
    world
}

#[test]
fn who_is_owed_something_is_looked_for_until_a_link_leads_there() {
    let mut world = world();
    let (alice, bob) = (world.app(0, 1), world.app(1, 1));
    let him = world.nodes[1].account.fingerprint();
    world.ask(1, bob, Request::RegisterApi(ApiId::JSON)).expect("registered");
    world.advance(Duration::from_secs(60));
    assert!(world.nodes.iter().all(|node| node.searched.is_empty()), "nobody is needed");

    let object = world.new_object(0, alice, b"state");
    world.ask(0, alice, Request::Share { object, recipient: him }).expect("shared");
    assert!(world.nodes[0].searched.is_empty(), "he may come by himself");
    world.advance(Duration::from_secs(3));
    assert_eq!(world.nodes[0].searched, [him]);
    // Ever less often: after 10, 30, 70 and 150 s.
    world.advance(Duration::from_secs(160));
    let searched = world.nodes[0].searched.len();
    assert!((4..=6).contains(&searched), "{searched}");
    world.advance(Duration::from_secs(24 * 3_600));
    let searched = world.nodes[0].searched.len();
    assert!((40..70).contains(&searched), "{searched} in a day");

    let link = world.connect(0, 1);
    world.answers_leave();
    world.state(1, bob, object).expect("it was delivered");
    let before = world.nodes.iter().map(|node| node.searched.len()).sum::<usize>();
    world.advance(Duration::from_secs(3_600));
    assert_eq!(world.nodes.iter().map(|node| node.searched.len()).sum::<usize>(), before);

    // He follows what she made, so he looks for her when she is gone; she has nothing to say to him.
    world.disconnect(link);
    world.advance(Duration::from_secs(3));
    assert_eq!(world.nodes[1].searched, [world.nodes[0].account.fingerprint()]);
    assert_eq!(world.nodes[0].searched.len(), searched);
}

#[test]
fn what_is_owed_is_remembered_over_a_restart() {
    let mut world = world();
    let alice = world.app(0, 1);
    let him = world.nodes[1].account.fingerprint();
    let object = world.new_object(0, alice, b"state");
    world.ask(0, alice, Request::Share { object, recipient: him }).expect("shared");
    world.restart(0);
    world.advance(Duration::from_secs(3));
    assert_eq!(world.nodes[0].searched, [him]);
}

#[test]
fn very_many_are_looked_for_in_turns() {
    let mut world = world();
    let alice = world.app(0, 1);
    let object = world.new_object(0, alice, b"state");
    for number in 0..100_u8 {
        let recipient = golix::Ghid::from_address([number; 64]);
        world.ask(0, alice, Request::Share { object, recipient }).expect("shared");
    }
    world.advance(Duration::from_secs(3));
    assert_eq!(world.nodes[0].searched.len(), 16);
    world.advance(Duration::from_secs(20));
    let mut all = world.nodes[0].searched.clone();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 100);
}
