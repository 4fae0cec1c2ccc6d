//! Announcements between servers: what is announced and how often, what is fetched and from whom.

#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::World;
use common::peer::{Peer, Thing, content, identity, pack};
use golix::Ghid;
use golix::object::Debinding;
use hypergolix_engine::announcement::{GONE, MOVED_MAX, Moved, Name};
use hypergolix_engine::message::{Address, Packed, Role};
use hypergolix_engine::persister::Policy;
use hypergolix_engine::route::Host;
use hypergolix_engine::{Control, Input, Message, PersisterConfig, Table, limits};

const ROUND: Duration = limits::ANNOUNCE_PAUSE;

/// Publishes a step of a thing with everything it needs.
fn put(world: &mut World, peer: &Peer, thing: &Thing, step: u64) -> Vec<u32> {
    peer.publish(world, bundle(peer, thing, step))
}

fn bundle(peer: &Peer, thing: &Thing, step: u64) -> Vec<Packed> {
    let (frame, container) =
        thing.sealed(step, &content(format!("state {step}").as_bytes(), true), step as u8);
    vec![peer.gidc(), pack(&frame), pack(&container)]
}

fn counter(step: u64) -> u64 {
    step << 8 | 1
}

fn moved(address: &Ghid, counter: u64) -> Moved {
    Moved { name: Name::of(address), counter }
}

fn follow(world: &mut World, peer: &Peer, author: Ghid, address: Ghid) {
    peer.say(world, Message::Subscribe { addresses: vec![Address(address)], cursor: None });
    peer.say(world, Message::Seek { identities: vec![Address(author)] });
    // It was told that nothing is known yet.
    peer.say(world, Message::EventAck { seq: 0 });
    peer.heard(world);
}

fn announce(world: &mut World, server: usize, author: Ghid, moved: Vec<Moved>, device: &[u8]) {
    let host = Host { device: device.to_vec(), addresses: vec![vec![4, 127, 0, 0, 1]] };
    world.input(server, Input::Announced { author, moved, host });
}

/// Questions that a played server was asked: their numbers.
fn gets(heard: &[Message], of: &Ghid) -> Vec<u32> {
    let of = Address(*of);
    heard
        .iter()
        .filter_map(|message| match message {
            Message::Get { id, address } if *address == of => Some(*id),
            _ => None,
        })
        .collect()
}

fn events(heard: &[Message]) -> Vec<Vec<Packed>> {
    heard
        .iter()
        .filter_map(|message| match message {
            Message::Event { objects, .. } => Some(objects.clone()),
            _ => None,
        })
        .collect()
}

/// The device of a played server.
fn device_of(seed: u8) -> Vec<u8> {
    vec![seed | 0x80; 38]
}

/// A server as another server sees it.
fn other_server(world: &mut World, node: usize, seed: u8) -> Peer {
    let mut peer = Peer::silent(world, node, seed);
    peer.role = Role::Persister { epoch: 9 };
    peer.greet(world);
    peer
}

fn figure(world: &mut World, server: usize, name: &str) -> u64 {
    let figures = world.control(server, Control::Figures).expect("figures");
    let figures: serde_json::Value = serde_json::from_str(&figures).expect("JSON");
    figures[name].as_u64().expect("a figure")
}

#[test]
fn what_a_node_publishes_is_announced_and_what_is_known_is_not() {
    let mut world = World::new(0);
    let server = world.server(PersisterConfig::default());
    let alice = Peer::link(&mut world, server, 1);
    let thing = Thing::new(&alice.me, 1);
    assert_eq!(put(&mut world, &alice, &thing, 1), [0, 0, 0]);
    assert!(world.nodes[server].announced.is_empty(), "a moment later");
    world.advance(ROUND);
    let me = alice.me.ghid();
    let first = (me, vec![moved(&thing.dynamic, counter(1))]);
    assert_eq!(world.nodes[server].announced, [first]);
    // The same again, and an older state, move nothing.
    put(&mut world, &alice, &thing, 1);
    world.advance(ROUND);
    assert_eq!(world.nodes[server].announced.len(), 1);
    // Deleted.
    let gone = Debinding::make(&alice.me, thing.dynamic);
    assert_eq!(alice.publish(&mut world, vec![pack(&gone)]), [0]);
    world.advance(ROUND);
    assert_eq!(world.nodes[server].announced[1], (me, vec![moved(&thing.dynamic, GONE)]));
    assert_eq!(world.nodes[server].shards, u64::MAX, "it passes on what others announce");
}

#[test]
fn a_fast_author_is_announced_a_bounded_number_of_times() {
    let mut world = World::new(0);
    let server = world.server(PersisterConfig::default());
    let alice = Peer::link(&mut world, server, 1);
    let thing = Thing::new(&alice.me, 1);
    // A thousand updates in a second.
    for step in 1..=1_000 {
        put(&mut world, &alice, &thing, step);
        world.advance(Duration::from_millis(1));
    }
    world.advance(ROUND);
    let announced = std::mem::take(&mut world.nodes[server].announced);
    assert!((2..=11).contains(&announced.len()), "{}", announced.len());
    let counters: Vec<u64> = announced.iter().map(|(_, moved)| moved[0].counter).collect();
    assert!(counters.is_sorted() && counters.last() == Some(&counter(1_000)), "the last one is in");
    // A hundred objects at once: as many as are kept, four at a time.
    let things: Vec<Thing> = (2..102).map(|number| Thing::new(&alice.me, number)).collect();
    for thing in &things {
        put(&mut world, &alice, thing, 1);
    }
    world.advance(ROUND * 100);
    let announced = std::mem::take(&mut world.nodes[server].announced);
    assert_eq!(announced.len(), limits::ANNOUNCED_OBJECTS / MOVED_MAX);
    // Many authors: some a round, all in the end.
    for seed in 1..=40 {
        let peer = Peer::link(&mut world, server, seed);
        let thing = Thing::new(&peer.me, 1_000);
        put(&mut world, &peer, &thing, 1);
    }
    world.advance(ROUND);
    assert!(world.nodes[server].announced.len() <= 2 * limits::ANNOUNCEMENTS_AT_ONCE);
    world.advance(ROUND * 10);
    assert_eq!(world.nodes[server].announced.len(), 40);
}

#[test]
fn what_is_announced_is_fetched_once_and_told_to_followers() {
    let mut world = World::new(0);
    let server = world.server(PersisterConfig::default());
    let bob = Peer::link(&mut world, server, 2);
    let (alice, me) = (identity(1), identity(1).ghid());
    let thing = Thing::new(&alice, 1);
    // Nobody follows it: nothing happens.
    let first = other_server(&mut world, server, 11);
    let second = other_server(&mut world, server, 12);
    announce(&mut world, server, me, vec![moved(&thing.dynamic, counter(1))], &first.device);
    assert!(gets(&first.heard(&mut world), &thing.dynamic).is_empty());
    follow(&mut world, &bob, me, thing.dynamic);
    assert!(world.nodes[server].listens.contains(&me));
    announce(&mut world, server, me, vec![moved(&thing.dynamic, counter(1))], &first.device);
    announce(&mut world, server, me, vec![moved(&thing.dynamic, counter(1))], &second.device);
    announce(&mut world, server, me, vec![moved(&thing.dynamic, counter(1))], &first.device);
    let asked = gets(&first.heard(&mut world), &thing.dynamic);
    assert_eq!(asked.len(), 1, "one question, to the first");
    assert!(gets(&second.heard(&mut world), &thing.dynamic).is_empty());
    let played = Peer { me: alice.clone(), ..Peer::link(&mut world, server, 3) };
    let objects = bundle(&played, &thing, 1);
    first.say(&mut world, Message::Object { id: asked[0], objects: objects.clone() });
    let heard = bob.heard(&mut world);
    assert_eq!(events(&heard), [objects], "told once");
    // It is here: announced again, by whomever, it is not asked for, nor announced by this one.
    announce(&mut world, server, me, vec![moved(&thing.dynamic, counter(1))], &second.device);
    assert!(gets(&second.heard(&mut world), &thing.dynamic).is_empty());
    world.advance(ROUND);
    assert!(world.nodes[server].announced.is_empty());
    assert_eq!(figure(&mut world, server, "announced_fetched"), 1);
    // Somebody else's announcement about it is nothing.
    let mallory = identity(66).ghid();
    announce(&mut world, server, mallory, vec![moved(&thing.dynamic, counter(9))], &second.device);
    assert!(gets(&second.heard(&mut world), &thing.dynamic).is_empty());
    // The end of it.
    announce(&mut world, server, me, vec![moved(&thing.dynamic, GONE)], &second.device);
    let asked = gets(&second.heard(&mut world), &thing.dynamic);
    let gone = pack(&Debinding::make(&alice, thing.dynamic));
    let objects = vec![played.gidc(), gone.clone()];
    second.say(&mut world, Message::Object { id: asked[0], objects });
    assert!(events(&bob.heard(&mut world)).iter().any(|objects| objects.contains(&gone)));
    announce(&mut world, server, me, vec![moved(&thing.dynamic, GONE)], &first.device);
    assert!(gets(&first.heard(&mut world), &thing.dynamic).is_empty());
    // With the last one who looks for the author, nobody listens any more.
    world.disconnect(bob.link);
    assert!(world.nodes[server].listens.is_empty());
}

#[test]
fn two_servers_and_their_users() {
    // Alice's server is linked to Bob's for announcements, and mirrors nothing.
    let mut world = World::new(0);
    let (hers, his) =
        (world.server(PersisterConfig::default()), world.server(PersisterConfig::default()));
    world.connect(hers, his);
    let alice = Peer::link(&mut world, hers, 1);
    let bob = Peer::link(&mut world, his, 2);
    let thing = Thing::new(&alice.me, 1);
    follow(&mut world, &bob, alice.me.ghid(), thing.dynamic);
    for step in 1..=3 {
        put(&mut world, &alice, &thing, step);
        world.advance(ROUND);
        let announced = std::mem::take(&mut world.nodes[hers].announced);
        let device = world.nodes[hers].device.clone();
        for (author, moved) in announced {
            announce(&mut world, his, author, moved, &device);
        }
        let heard = events(&bob.heard(&mut world));
        assert_eq!(heard, [bundle(&alice, &thing, step)]);
        bob.say(&mut world, Message::EventAck { seq: step + 1 });
    }
    assert_eq!(figure(&mut world, his, "announced_fetched"), 3);
    assert_eq!(figure(&mut world, his, "announced"), 0);
}

#[test]
fn a_server_that_is_not_linked_is_visited_and_one_that_fails_is_replaced() {
    let mut world = World::new(0);
    let server = world.server(PersisterConfig::default());
    let bob = Peer::link(&mut world, server, 2);
    let (alice, me) = (identity(1), identity(1).ghid());
    let thing = Thing::new(&alice, 1);
    follow(&mut world, &bob, me, thing.dynamic);
    let news = vec![moved(&thing.dynamic, counter(1))];
    let (first, second) = (device_of(11), device_of(12));
    announce(&mut world, server, me, news.clone(), &first);
    announce(&mut world, server, me, news.clone(), &second);
    let visited = std::mem::take(&mut world.nodes[server].called);
    assert_eq!(visited.len(), 1);
    assert_eq!(visited[0].device, first);
    // It does not come; the next one does.
    world.advance(limits::FETCH_PATIENCE + Duration::from_secs(1));
    assert_eq!(world.nodes[server].called[0].device, second);
    let peer = other_server(&mut world, server, 12);
    let asked = gets(&peer.heard(&mut world), &thing.dynamic);
    assert_eq!(asked.len(), 1, "as soon as it is there");
    // A third one announces it too; the second goes without an answer.
    let third = other_server(&mut world, server, 13);
    announce(&mut world, server, me, news, &third.device);
    assert!(gets(&third.heard(&mut world), &thing.dynamic).is_empty());
    world.disconnect(peer.link);
    let asked = gets(&third.heard(&mut world), &thing.dynamic);
    assert_eq!(asked.len(), 1);
    let played = Peer { me: alice.clone(), ..Peer::link(&mut world, server, 3) };
    let objects = bundle(&played, &thing, 1);
    third.say(&mut world, Message::Object { id: asked[0], objects });
    assert_eq!(events(&bob.heard(&mut world)).len(), 1);
    world.advance(limits::FETCH_PATIENCE * 2);
    assert_eq!(figure(&mut world, server, "announced_fetched"), 1);
}

#[test]
fn who_announces_what_it_does_not_have_is_not_listened_to() {
    let mut world = World::new(0);
    let server = world.server(PersisterConfig::default());
    let bob = Peer::link(&mut world, server, 2);
    let me = identity(1).ghid();
    let things: Vec<Thing> = (0..10).map(|number| Thing::new(&identity(1), number)).collect();
    for thing in &things {
        follow(&mut world, &bob, me, thing.dynamic);
    }
    let liar = other_server(&mut world, server, 11);
    let mut asked = 0;
    for thing in &things {
        announce(&mut world, server, me, vec![moved(&thing.dynamic, counter(5))], &liar.device);
        for id in gets(&liar.heard(&mut world), &thing.dynamic) {
            asked += 1;
            liar.say(&mut world, Message::Object { id, objects: Vec::new() });
        }
    }
    assert_eq!(asked, limits::FAULTS_MAX);
    assert!(liar.is_up(&world));
    // An answer that nobody asked for changes nothing.
    let played = Peer { me: identity(1), ..Peer::link(&mut world, server, 3) };
    let objects = bundle(&played, &things[0], 5);
    liar.say(&mut world, Message::Object { id: 9_999, objects });
    assert!(!world.nodes[server].disk.0.keys().any(|(table, _)| *table == Table::Heads));
    // Much later it is heard again.
    world.advance(limits::FAULTS_FORGOTTEN + Duration::from_secs(1));
    let bob = Peer::link(&mut world, server, 2);
    follow(&mut world, &bob, me, things[0].dynamic);
    let liar = other_server(&mut world, server, 11);
    announce(&mut world, server, me, vec![moved(&things[0].dynamic, counter(5))], &liar.device);
    assert_eq!(gets(&liar.heard(&mut world), &things[0].dynamic).len(), 1);
}

#[test]
fn what_its_own_rules_refuse_is_no_fault_of_the_other_server() {
    let mut config = PersisterConfig::default();
    config.policy = Policy::Registered;
    let mut world = World::new(0);
    let server = world.server(config);
    let bob = Peer::link(&mut world, server, 2);
    let (alice, me) = (identity(1), identity(1).ghid());
    let other = other_server(&mut world, server, 11);
    let played = Peer { me: alice.clone(), ..Peer::link(&mut world, server, 3) };
    for number in 0..10 {
        let thing = Thing::new(&alice, number);
        follow(&mut world, &bob, me, thing.dynamic);
        announce(&mut world, server, me, vec![moved(&thing.dynamic, counter(1))], &other.device);
        let asked = gets(&other.heard(&mut world), &thing.dynamic);
        assert_eq!(asked.len(), 1, "{number}");
        let objects = bundle(&played, &thing, 1);
        other.say(&mut world, Message::Object { id: asked[0], objects });
    }
    assert_eq!(figure(&mut world, server, "objects"), 0, "policies hold for what is fetched");
}

#[test]
fn a_node_listens_only_while_nothing_leads_to_an_author() {
    let mut world = World::new(1);
    let (alice, thing) = common::peer::shares(&mut world, 0, 1);
    let me = alice.me.ghid();
    let app = world.app(0, 1);
    world.advance(limits::LISTEN_DELAY);
    assert!(world.nodes[0].listens.is_empty(), "a link leads to her");
    // She is gone, and nobody is there at all: nobody to hear it from.
    world.disconnect(alice.link);
    world.advance(limits::LISTEN_DELAY);
    assert!(world.nodes[0].listens.is_empty());
    // Somebody is there who is no use otherwise.
    let _stranger = Peer::link(&mut world, 0, 77);
    world.advance(limits::LISTEN_DELAY);
    assert!(world.nodes[0].listens.contains(&me));
    // A server announces; it is not linked.
    let device = device_of(11);
    announce(&mut world, 0, me, vec![moved(&thing.dynamic, counter(1))], &device);
    assert!(world.nodes[0].called.is_empty(), "it is here");
    announce(&mut world, 0, me, vec![moved(&thing.dynamic, counter(2))], &device);
    assert_eq!(world.nodes[0].called[0].device, device);
    let server = other_server(&mut world, 0, 11);
    let heard = server.heard(&mut world);
    let asked = gets(&heard, &thing.dynamic);
    assert_eq!(asked.len(), 1);
    assert!(
        !heard
            .iter()
            .any(|message| matches!(message, Message::Proof { .. } | Message::Seek { .. })),
        "it is told nothing else: {heard:?}"
    );
    let objects = bundle(&alice, &thing, 2);
    server.say(&mut world, Message::Object { id: asked[0], objects });
    assert_eq!(world.state(0, app, thing.dynamic), Ok(b"state 2".to_vec()));
    // A persister of its own listens for it.
    let _persister = Peer::persister(&mut world, 0, 12, 5);
    world.advance(limits::LISTEN_DELAY);
    assert!(world.nodes[0].listens.is_empty());
}

#[test]
fn who_has_what_it_announced_is_not_blamed_for_what_another_one_announced_meanwhile() {
    let mut world = World::new(0);
    let server = world.server(PersisterConfig::default());
    let bob = Peer::link(&mut world, server, 2);
    let (alice, me) = (identity(1), identity(1).ghid());
    let thing = Thing::new(&alice, 1);
    follow(&mut world, &bob, me, thing.dynamic);
    let played = Peer { me: alice.clone(), ..Peer::link(&mut world, server, 3) };
    let first = other_server(&mut world, server, 12);
    let second = other_server(&mut world, server, 13);
    for round in 0..6 {
        let step = 2 * round + 1;
        let news = |step| vec![moved(&thing.dynamic, counter(step))];
        announce(&mut world, server, me, news(step), &first.device);
        let asked = gets(&first.heard(&mut world), &thing.dynamic);
        assert_eq!(asked.len(), 1, "round {round}");
        // The author's next state reaches the other server while the answer is on its way.
        announce(&mut world, server, me, news(step + 1), &second.device);
        let objects = bundle(&played, &thing, step);
        first.say(&mut world, Message::Object { id: asked[0], objects });
        let asked = gets(&second.heard(&mut world), &thing.dynamic);
        assert_eq!(asked.len(), 1, "round {round}");
        let objects = bundle(&played, &thing, step + 1);
        second.say(&mut world, Message::Object { id: asked[0], objects });
        bob.heard(&mut world);
        bob.say(&mut world, Message::EventAck { seq: u64::MAX });
        world.advance(Duration::from_millis(200));
    }
}
