//! A persister and whoever talks to it, played by the tests: what it takes, keeps, hands over and
//! refuses.

#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::peer::{Peer, Thing, identity, pack, statement};
use common::{Disk, World, identity_of_suite_1};
use golix::object::{
    Container, Debinding, DynamicBinding, Request as Sealed, RequestBody, StaticBinding, Verified,
};
use golix::{ChainKey, Ghid, PrivateIdentity, Secret, Signer, Suite};
use hypergolix_engine::message::{Address, Cursor, Packed, Role, VERSION};
use hypergolix_engine::persister::{Policy, Quota};
use hypergolix_engine::{
    Control, Effect, LinkId, Message, Persister, PersisterConfig, Table, verdict,
};

fn world(config: PersisterConfig) -> (World, usize) {
    let mut world = World::new(0);
    let server = world.server(config);
    (world, server)
}

fn config(change: impl FnOnce(&mut PersisterConfig)) -> PersisterConfig {
    let mut config = PersisterConfig::default();
    change(&mut config);
    config
}

fn stored(disk: &Disk) -> usize {
    disk.0.keys().filter(|(table, _)| *table == Table::Objects).count()
}

fn holds(world: &World, node: usize, ghid: &Ghid) -> bool {
    world.nodes[node].disk.0.contains_key(&(Table::Objects, ghid.as_bytes().to_vec()))
}

fn events(heard: &[Message]) -> Vec<(Cursor, Ghid, Vec<Packed>)> {
    heard
        .iter()
        .filter_map(|message| match message {
            Message::Event { cursor, address: Address(address), objects } => {
                Some((*cursor, *address, objects.clone()))
            }
            _ => None,
        })
        .collect()
}

/// Publishes a step of a thing with everything it needs.
fn put(world: &mut World, peer: &Peer, thing: &Thing, step: u64) -> Vec<u32> {
    let (frame, container) = thing.step(step, format!("state {step}").as_bytes(), step as u8);
    peer.publish(world, vec![peer.gidc(), pack(&frame), pack(&container)])
}

fn static_object(me: &golix::PrivateIdentity, state: &[u8]) -> (Verified, Verified) {
    let secret = ChainKey::new(0, 0, [5; 32]).container_secret(&me.ghid());
    let container = Container::seal(me, &secret, [6; 32], state);
    (StaticBinding::make(me, container.ghid()), container)
}

/// A sealed request from one played identity to another.
fn request(from: u8, to: u8, number: u64) -> Verified {
    let body = RequestBody::Ack { request: Ghid::of(b"anything"), status: 0 };
    let mut ephemeral = [3; 64];
    ephemeral[..8].copy_from_slice(&number.to_be_bytes());
    Sealed::seal(&identity(from), identity(to).identity(), &body, ephemeral).expect("sealed")
}

/// Proves an identity unasked, as a node does to a persister.
fn prove(world: &mut World, peer: &Peer) {
    let proof = peer.proof(world);
    peer.say(world, proof);
}

#[test]
fn it_says_what_it_is_and_stores_for_everybody() {
    let (mut world, server) = world(PersisterConfig::default());
    let alice = Peer::link(&mut world, server, 1);
    let thing = Thing::new(&alice.me, 1);
    assert_eq!(put(&mut world, &alice, &thing, 1), [0, 0, 0]);
    // The same again is no mistake.
    assert_eq!(put(&mut world, &alice, &thing, 1), [0, 0, 0]);

    let bob = Peer::link(&mut world, server, 2);
    let (frame, container) = thing.step(1, b"state 1", 1);
    assert_eq!(bob.get(&mut world, thing.dynamic), [alice.gidc(), pack(&frame), pack(&container)]);
    assert_eq!(bob.get(&mut world, container.ghid()), [pack(&container)]);
    assert_eq!(bob.get(&mut world, alice.me.ghid()), [alice.gidc()]);
    assert_eq!(bob.get(&mut world, Ghid::of(b"nothing")), Vec::<Packed>::new());

    // A new frame takes the place of the old one and of its container.
    assert_eq!(put(&mut world, &alice, &thing, 2), [0, 0, 0]);
    assert!(!holds(&world, server, &frame.ghid()) && !holds(&world, server, &container.ghid()));
    // Older ones are refused.
    assert_eq!(put(&mut world, &alice, &thing, 1), [0, verdict::OLD_FRAME, verdict::UNBOUND]);
    assert!(alice.is_up(&world));
}

#[test]
fn what_left_before_a_commit_that_failed_hides_nothing() {
    let (mut world, server) = world(PersisterConfig::default());
    let alice = Peer::link(&mut world, server, 1);
    let (lost, kept) = (Thing::new(&alice.me, 1), Thing::new(&alice.me, 2));
    for thing in [&lost, &kept] {
        assert_eq!(put(&mut world, &alice, thing, 1), [0, 0, 0]);
    }
    let addresses = vec![Address(lost.dynamic), Address(kept.dynamic)];
    let mut seen = Vec::new();
    for _ in 0..2 {
        let alice = Peer::link(&mut world, server, 1);
        let bob = Peer::link(&mut world, server, 2);
        let subscribe =
            Message::Subscribe { addresses: addresses.clone(), cursor: seen.last().copied() };
        bob.say(&mut world, subscribe);
        let before = world.nodes[server].disk.clone();
        put(&mut world, &alice, &lost, 2);
        seen.extend(
            events(&bob.heard(&mut world))
                .iter()
                .map(|(cursor, ..)| *cursor)
                .filter(|it| it.seq > 0),
        );
        // The event is on its way, and the server dies with its commit.
        world.nodes[server].disk = before;
        world.restart(server);
    }
    let [first, second] = seen[..] else { panic!("an event in each life, not {seen:?}") };
    assert!(first.seq < second.seq);
    let alice = Peer::link(&mut world, server, 1);
    assert_eq!(put(&mut world, &alice, &kept, 2), [0, 0, 0]);
    for cursor in seen {
        let bob = Peer::link(&mut world, server, 2);
        let subscribe = Message::Subscribe { addresses: addresses.clone(), cursor: Some(cursor) };
        bob.say(&mut world, subscribe);
        let heard = events(&bob.heard(&mut world));
        assert_eq!(heard.iter().map(|(_, it, _)| *it).collect::<Vec<_>>(), [kept.dynamic]);
        assert!(heard[0].0.seq > cursor.seq);
    }
}

#[test]
fn events_leave_ahead_of_a_commit_unless_something_waits_on_their_link() {
    let event = |link: u64, seq: u64| {
        let cursor = Cursor { epoch: 1, seq };
        let message = Message::Event { cursor, address: Address(Ghid::of(b"it")), objects: vec![] };
        Effect::Send { link: LinkId(link), message }
    };
    let said = |link: u64| Effect::Send { link: LinkId(link), message: Message::Pong { id: 1 } };
    let of = |effects: &[Effect]| {
        let places = effects.iter().map(|effect| match effect {
            Effect::Send { link, message: Message::Event { cursor, .. } } => (link.0, cursor.seq),
            Effect::Send { link, .. } => (link.0, 0),
            other => panic!("{other:?}"),
        });
        places.collect::<Vec<_>>()
    };
    // Mail and what is sent outside of the feed's order wait for the commit: number 0.
    let mut effects =
        vec![event(1, 5), said(1), event(1, 6), event(2, 5), event(3, 0), event(3, 6), said(2)];
    let ahead = Persister::ahead_of_commit(&mut effects);
    assert_eq!(of(&ahead), [(1, 5), (2, 5)]);
    assert_eq!(of(&effects), [(1, 0), (1, 6), (3, 0), (3, 6), (2, 0)]);
}

fn located(heard: &[Message]) -> Vec<Vec<u8>> {
    let devices = heard.iter().filter_map(|message| match message {
        Message::Located { devices } => Some(devices.iter().map(|device| device.to_vec())),
        _ => None,
    });
    devices.flatten().collect()
}

#[test]
fn it_tells_who_looks_for_an_identity_which_devices_proved_it() {
    let (mut world, server) = world(PersisterConfig::default());
    let alice = Peer::link(&mut world, server, 1);
    let bob = Peer::link(&mut world, server, 2);
    let wanted = vec![Address(alice.me.ghid()), Address(bob.me.ghid())];
    bob.say(&mut world, Message::Seek { identities: wanted.clone() });
    assert_eq!(located(&bob.heard(&mut world)), Vec::<Vec<u8>>::new(), "nobody proved anything");
    prove(&mut world, &alice);
    assert_eq!(located(&bob.heard(&mut world)), std::slice::from_ref(&alice.device));
    prove(&mut world, &bob);
    assert_eq!(located(&bob.heard(&mut world)), Vec::<Vec<u8>>::new(), "not of itself");
    assert_eq!(located(&alice.heard(&mut world)), Vec::<Vec<u8>>::new(), "it looks for nobody");
    // Who comes later is told at once, and only once.
    let carol = Peer::link(&mut world, server, 3);
    for _ in 0..2 {
        carol.say(&mut world, Message::Seek { identities: wanted.clone() });
    }
    let mut devices = vec![alice.device.clone(), bob.device.clone()];
    devices.sort();
    assert_eq!(located(&carol.heard(&mut world)), devices);
}

#[test]
fn of_an_identity_that_very_many_look_for_the_first_are_told() {
    let (mut world, server) = world(PersisterConfig::default());
    let alice = Peer::link(&mut world, server, 1);
    let mut seekers: Vec<Peer> = (2..80).map(|seed| Peer::link(&mut world, server, seed)).collect();
    for seeker in &seekers {
        let identities = vec![Address(alice.me.ghid())];
        seeker.say(&mut world, Message::Seek { identities });
    }
    prove(&mut world, &alice);
    let told = |world: &mut World, seeker: &Peer| !located(&seeker.heard(world)).is_empty();
    let count = seekers.iter().filter(|seeker| told(&mut world, seeker)).count();
    assert_eq!(count, hypergolix_engine::limits::SEEKERS_MAX);
    // Those that are gone make room.
    world.disconnect(seekers.remove(0).link);
    let late = Peer::link(&mut world, server, 90);
    late.say(&mut world, Message::Seek { identities: vec![Address(alice.me.ghid())] });
    assert!(told(&mut world, &late));
}

#[test]
fn it_keeps_everything_over_a_restart() {
    let (mut world, server) = world(PersisterConfig::default());
    let alice = Peer::link(&mut world, server, 1);
    let thing = Thing::new(&alice.me, 1);
    put(&mut world, &alice, &thing, 1);
    world.restart(server);
    let bob = Peer::link(&mut world, server, 2);
    assert_eq!(bob.get(&mut world, thing.dynamic).len(), 3);
}

#[test]
fn subscribers_hear_of_changes_and_the_publisher_does_not() {
    let (mut world, server) = world(PersisterConfig::default());
    let alice = Peer::link(&mut world, server, 1);
    let thing = Thing::new(&alice.me, 1);
    let bob = Peer::link(&mut world, server, 2);
    for peer in [&alice, &bob] {
        let addresses = vec![Address(thing.dynamic)];
        peer.say(&mut world, Message::Subscribe { addresses, cursor: None });
        peer.say(&mut world, Message::EventAck { seq: 0 });
        peer.heard(&mut world);
    }
    put(&mut world, &alice, &thing, 1);
    assert!(events(&alice.heard(&mut world)).is_empty(), "the publisher knows");
    let heard = events(&bob.heard(&mut world));
    assert_eq!(heard.len(), 1);
    let (cursor, address, objects) = &heard[0];
    assert_eq!((*address, objects.len()), (thing.dynamic, 3));
    bob.say(&mut world, Message::EventAck { seq: cursor.seq });

    // Somebody who comes back with a cursor hears of what changed since, of its newest state only.
    let cursor = *cursor;
    world.disconnect(bob.link);
    put(&mut world, &alice, &thing, 2);
    put(&mut world, &alice, &thing, 3);
    let bob = Peer::link(&mut world, server, 2);
    let addresses = vec![Address(thing.dynamic)];
    bob.say(&mut world, Message::Subscribe { addresses, cursor: Some(cursor) });
    let heard = events(&bob.heard(&mut world));
    assert_eq!(heard.len(), 1);
    assert!(heard[0].2.contains(&pack(&thing.step(3, b"state 3", 3).1)));
    bob.say(&mut world, Message::EventAck { seq: heard[0].0.seq });

    // Deletions are told.
    let gone = Debinding::make(&alice.me, thing.dynamic);
    assert_eq!(alice.publish(&mut world, vec![pack(&gone)]), [0]);
    assert_eq!(events(&bob.heard(&mut world))[0].2, [alice.gidc(), pack(&gone)]);
    assert_eq!(bob.get(&mut world, thing.dynamic), [alice.gidc(), pack(&gone)]);
    assert_eq!(put(&mut world, &alice, &thing, 4), [0, verdict::DEBOUND, verdict::UNBOUND]);
}

#[test]
fn a_static_object_that_is_deleted_is_told_by_its_own_address() {
    let (mut world, server) = world(PersisterConfig::default());
    let alice = Peer::link(&mut world, server, 1);
    let (binding, container) = static_object(&alice.me, b"static");
    let objects = vec![alice.gidc(), pack(&binding), pack(&container)];
    assert_eq!(alice.publish(&mut world, objects.clone()), [0, 0, 0]);
    let bob = Peer::link(&mut world, server, 2);
    assert_eq!(bob.get(&mut world, container.ghid()), objects);
    let addresses = vec![Address(container.ghid())];
    bob.say(&mut world, Message::Subscribe { addresses, cursor: None });
    bob.heard(&mut world);
    bob.say(&mut world, Message::EventAck { seq: 0 });
    let gone = Debinding::make(&alice.me, binding.ghid());
    assert_eq!(alice.publish(&mut world, vec![pack(&gone)]), [0]);
    assert!(!holds(&world, server, &container.ghid()));
    assert_eq!(events(&bob.heard(&mut world))[0].2, [pack(&gone)]);
    // It stays away, also after a restart.
    world.restart(server);
    let alice = Peer::link(&mut world, server, 1);
    assert_eq!(alice.publish(&mut world, objects), [0, verdict::DEBOUND, verdict::UNBOUND]);
    assert_eq!(alice.get(&mut world, container.ghid()), [pack(&gone)]);
}

#[test]
fn what_others_hold_survives_its_owner() {
    let (mut world, server) = world(PersisterConfig::default());
    let (alice, bob) = (Peer::link(&mut world, server, 1), Peer::link(&mut world, server, 2));
    let thing = Thing::new(&alice.me, 1);
    put(&mut world, &alice, &thing, 1);
    let hold = StaticBinding::make(&bob.me, thing.dynamic);
    assert_eq!(bob.publish(&mut world, vec![bob.gidc(), pack(&hold)]), [0, 0]);
    let gone = Debinding::make(&alice.me, thing.dynamic);
    assert_eq!(alice.publish(&mut world, vec![pack(&gone)]), [0]);
    assert!(bob.get(&mut world, thing.dynamic).len() > 3, "bob holds it");
    let released = Debinding::make(&bob.me, hold.ghid());
    assert_eq!(bob.publish(&mut world, vec![pack(&released)]), [0]);
    assert_eq!(stored_objects_of(&world, server, &alice.me.ghid()), 0, "what is left is no object");
}

/// What an identity has stored, by the server's own count.
fn stored_objects_of(world: &World, server: usize, identity: &Ghid) -> u64 {
    let users = users(world, server);
    users.iter().find(|(id, ..)| *id == identity.to_string()).map_or(0, |(_, _, objects)| *objects)
}

/// (identity, bytes, objects) of every user.
fn users(world: &World, server: usize) -> Vec<(String, u64, u64)> {
    let mut world_objects = Vec::new();
    for ((table, key), value) in &world.nodes[server].disk.0 {
        if *table == Table::Users && key[0] == 0 {
            let user: std::collections::BTreeMap<String, cbor::Value> = cbor::map(value);
            let id = Ghid::from_bytes(&key[1..]).expect("a ghid").to_string();
            world_objects.push((id, user["bytes"].0, user["objects"].0));
        }
    }
    world_objects
}

/// Just enough of the rows.
mod cbor {
    use serde::Deserialize;

    #[derive(Default)]
    pub struct Value(pub u64);

    impl<'de> Deserialize<'de> for Value {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Any;
            impl serde::de::Visitor<'_> for Any {
                type Value = Value;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a number, a bool or nothing")
                }
                fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                    Ok(Value(value))
                }
                fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                    Ok(Value(value.into()))
                }
                fn visit_unit<E>(self) -> Result<Value, E> {
                    Ok(Value(0))
                }
                fn visit_none<E>(self) -> Result<Value, E> {
                    Ok(Value(0))
                }
            }
            deserializer.deserialize_any(Any)
        }
    }

    pub fn map(bytes: &[u8]) -> std::collections::BTreeMap<String, Value> {
        cbor4ii::serde::from_slice(bytes).expect("a row")
    }
}

#[test]
fn what_is_counted_is_what_is_stored() {
    let (mut world, server) = world(PersisterConfig::default());
    let alice = Peer::link(&mut world, server, 1);
    let things: Vec<Thing> = (0..5).map(|number| Thing::new(&alice.me, number)).collect();
    for step in 1..4 {
        for thing in &things {
            assert_eq!(put(&mut world, &alice, thing, step), [0, 0, 0]);
        }
    }
    let (binding, container) = static_object(&alice.me, b"static");
    alice.publish(&mut world, vec![pack(&binding), pack(&container)]);
    for thing in &things[..2] {
        let gone = Debinding::make(&alice.me, thing.dynamic);
        assert_eq!(alice.publish(&mut world, vec![pack(&gone)]), [0]);
    }
    let gone = Debinding::make(&alice.me, binding.ghid());
    alice.publish(&mut world, vec![pack(&gone)]);
    let truth: Vec<usize> = world.nodes[server]
        .disk
        .0
        .iter()
        .filter(|((table, _), value)| *table == Table::Objects && !value.starts_with(b"GIDC"))
        .map(|(_, value)| value.len())
        .collect();
    let (_, bytes, objects) = users(&world, server)[0].clone();
    let deletions = 3;
    assert_eq!(
        (bytes, objects),
        (truth.iter().sum::<usize>() as u64, truth.len() as u64 - deletions)
    );
}

#[test]
fn nobody_uses_up_the_quota_of_whom_he_sends_requests() {
    let (mut world, server) = world(PersisterConfig::default());
    let bob = Peer::link(&mut world, server, 2);
    prove(&mut world, &bob);
    bob.publish(&mut world, vec![bob.gidc()]);
    let mallory = Peer::link(&mut world, server, 1);
    prove(&mut world, &mallory);
    for number in 0..100 {
        let sealed = request(1, 2, number);
        assert_eq!(mallory.publish(&mut world, vec![pack(&sealed)]), [0]);
        let gone = Debinding::make(&bob.me, sealed.ghid());
        assert_eq!(bob.publish(&mut world, vec![pack(&gone)]), [0]);
    }
    assert!(rows(&world, server, Table::Debindings) >= 100, "they are handled");
    let bobs = users(&world, server).into_iter().find(|(id, ..)| *id == bob.me.ghid().to_string());
    assert_eq!(bobs, None, "nothing is counted for him");
    // What he deletes himself takes its space.
    let thing = Thing::new(&bob.me, 0);
    assert_eq!(put(&mut world, &bob, &thing, 1), [0, 0, 0]);
    let gone = Debinding::make(&bob.me, thing.dynamic);
    assert_eq!(bob.publish(&mut world, vec![pack(&gone)]), [0]);
    let (_, bytes, objects) = users(&world, server).pop().expect("bob");
    assert_eq!((bytes, objects), (gone.bytes().len() as u64, 0));
}

#[test]
fn requests_wait_for_their_recipient_and_for_nobody_else() {
    let (mut world, server) = world(PersisterConfig::default());
    let alice = Peer::link(&mut world, server, 1);
    let sealed = request(1, 2, 1);
    // Unknown here: neither bob nor his identity.
    let unknown = 1 + 0x0003;
    assert_eq!(alice.publish(&mut world, vec![pack(&sealed)]), [unknown]);
    let gidc = Packed::from(identity(2).identity().encode());
    assert_eq!(alice.publish(&mut world, vec![gidc, pack(&sealed)]), [0, 0]);

    // Whoever knows its address or subscribes to the recipient learns nothing of it.
    let mallory = Peer::link(&mut world, server, 3);
    prove(&mut world, &mallory);
    let bob_id = identity(2).ghid();
    let addresses = vec![Address(bob_id), Address(sealed.ghid())];
    mallory.say(&mut world, Message::Subscribe { addresses, cursor: None });
    let heard = events(&mallory.heard(&mut world));
    assert!(heard.iter().all(|(.., objects)| !objects.contains(&pack(&sealed))), "{heard:?}");
    assert!(mallory.get(&mut world, sealed.ghid()).is_empty());

    let bob = Peer::link(&mut world, server, 2);
    assert!(events(&bob.heard(&mut world)).is_empty());
    prove(&mut world, &bob);
    let heard = events(&bob.heard(&mut world));
    assert_eq!(heard.len(), 1, "what waited comes at once");
    assert_eq!((heard[0].1, &heard[0].2), (bob_id, &vec![pack(&sealed)]));
    assert_eq!(bob.get(&mut world, sealed.ghid()), [pack(&sealed)]);
    bob.say(&mut world, Message::EventAck { seq: 0 });
    // What comes later, comes at once too.
    let later = request(1, 2, 2);
    alice.publish(&mut world, vec![pack(&later)]);
    assert_eq!(events(&bob.heard(&mut world))[0].2, [pack(&later)]);
    // Not debound: they wait on, also over a restart.
    world.restart(server);
    let bob = Peer::link(&mut world, server, 2);
    prove(&mut world, &bob);
    assert_eq!(events(&bob.heard(&mut world)).len(), 2);
    // Nobody else removes them.
    let mallory = Peer::link(&mut world, server, 3);
    let theirs = Debinding::make(&mallory.me, sealed.ghid());
    let not_yours = 1 + 0x0007;
    assert_eq!(mallory.publish(&mut world, vec![mallory.gidc(), pack(&theirs)])[1], not_yours);
    let handled = Debinding::make(&bob.me, sealed.ghid());
    assert_eq!(bob.publish(&mut world, vec![pack(&handled)]), [0]);
    assert!(!holds(&world, server, &sealed.ghid()));
    // A replay does not come back.
    let alice = Peer::link(&mut world, server, 1);
    assert_eq!(alice.publish(&mut world, vec![pack(&sealed)]), [verdict::DEBOUND]);
}

#[test]
fn mailboxes_are_bounded_and_strangers_are_slow() {
    let (mut world, server) = world(PersisterConfig::default());
    let gidc = Packed::from(identity(2).identity().encode());
    let stranger = Peer::link(&mut world, server, 1);
    stranger.publish(&mut world, vec![gidc]);
    let results: Vec<u32> = (0..50)
        .map(|number| stranger.publish(&mut world, vec![pack(&request(1, 2, number))])[0])
        .collect();
    assert_eq!(results.iter().filter(|result| **result == 0).count(), 10);
    assert!(results[10..].iter().all(|result| *result == verdict::TOO_FAST));
    world.advance(Duration::from_secs(60));
    let again = Peer::link(&mut world, server, 1);
    let results: Vec<u32> = (50..100)
        .map(|number| again.publish(&mut world, vec![pack(&request(1, 2, number))])[0])
        .collect();
    assert_eq!(results.iter().filter(|result| **result == 0).count(), 10);

    let known = Peer::link(&mut world, server, 3);
    prove(&mut world, &known);
    let mut taken = 0;
    let mut full = 0;
    for number in 0..1_000 {
        match known.publish(&mut world, vec![pack(&request(3, 2, number))])[0] {
            0 => taken += 1,
            verdict::FULL => full += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!((taken, full), (980, 20), "a thousand wait, no more");
}

/// A mailbox that strangers filled, over as many links as that takes.
fn flooded() -> (World, usize, Vec<Verified>) {
    let (mut world, server) = world(PersisterConfig::default());
    let gidc = Packed::from(identity(2).identity().encode());
    let mut left = Vec::new();
    let mut number = 0;
    while left.len() < 1_000 {
        assert!(number < 100_000, "it never fills");
        let stranger = Peer::link(&mut world, server, 1);
        stranger.publish(&mut world, vec![gidc.clone()]);
        for _ in 0..10 {
            let sealed = request(1, 2, number);
            number += 1;
            if stranger.publish(&mut world, vec![pack(&sealed)]) == [0] {
                left.push(sealed);
            }
        }
        world.disconnect(stranger.link);
        world.advance(Duration::from_secs(1));
    }
    assert_eq!(rows(&world, server, Table::Requests), 1_000);
    (world, server, left)
}

fn rows(world: &World, node: usize, table: Table) -> usize {
    world.nodes[node].disk.0.keys().filter(|(other, _)| *other == table).count()
}

#[test]
fn a_flood_by_strangers_keeps_nobody_out_who_proved_an_identity() {
    let (mut world, server, left) = flooded();
    // Bob hears of none of it before he says who he is.
    let known = Peer::link(&mut world, server, 3);
    prove(&mut world, &known);
    let registered = Peer::link(&mut world, server, 4);
    prove(&mut world, &registered);
    registered.say(&mut world, Message::Register { id: 1, token: None });
    let (ask, shares) = (request(3, 2, 1), request(4, 2, 1));
    assert_eq!(known.publish(&mut world, vec![pack(&ask)]), [0]);
    assert_eq!(registered.publish(&mut world, vec![pack(&shares)]), [0]);
    assert_eq!(rows(&world, server, Table::Requests), 1_000, "it does not grow");
    assert!(!holds(&world, server, &left[0].ghid()), "the oldest of strangers gave way");
    assert!(!holds(&world, server, &left[1].ghid()));
    assert!(holds(&world, server, &left[2].ghid()));
    // The flood goes on, over a restart too: strangers take the places of strangers alone.
    world.restart(server);
    for number in 0..200 {
        let stranger = Peer::link(&mut world, server, 1);
        assert_eq!(stranger.publish(&mut world, vec![pack(&request(1, 2, 500_000 + number))]), [0]);
        world.disconnect(stranger.link);
        world.advance(Duration::from_secs(1));
    }
    for mail in [&ask, &shares] {
        assert!(holds(&world, server, &mail.ghid()));
    }
    // What was handled comes back to no mailbox, and takes nobody's place.
    let bob = Peer::link(&mut world, server, 2);
    prove(&mut world, &bob);
    let gone = Debinding::make(&bob.me, ask.ghid());
    assert_eq!(bob.publish(&mut world, vec![pack(&gone)]), [0]);
    assert_eq!(rows(&world, server, Table::Requests), 999, "there is room again");
    let known = Peer::link(&mut world, server, 3);
    prove(&mut world, &known);
    assert_eq!(known.publish(&mut world, vec![pack(&ask)]), [verdict::DEBOUND]);
    assert_eq!(rows(&world, server, Table::Requests), 999);
    assert_eq!(known.publish(&mut world, vec![pack(&request(3, 2, 2))]), [0]);
    assert_eq!(rows(&world, server, Table::Requests), 1_000);
    let replayed = known.publish(&mut world, vec![pack(&ask)]);
    assert_eq!(replayed, [verdict::DEBOUND]);
    assert!(holds(&world, server, &shares.ghid()));
}

#[test]
fn who_registered_finds_room_beside_many_who_only_proved_an_identity() {
    let (mut world, server) = world(PersisterConfig::default());
    let gidc = Packed::from(identity(2).identity().encode());
    let mallory = Peer::link(&mut world, server, 3);
    prove(&mut world, &mallory);
    mallory.publish(&mut world, vec![gidc]);
    for number in 0..1_000 {
        assert_eq!(mallory.publish(&mut world, vec![pack(&request(3, 2, number))]), [0]);
    }
    let refused = mallory.publish(&mut world, vec![pack(&request(3, 2, 1_000))]);
    assert_eq!(refused, [verdict::TOO_FAST], "an identity has one pace");
    world.advance(Duration::from_secs(10));
    let again = Peer::link(&mut world, server, 3);
    prove(&mut world, &again);
    let refused = again.publish(&mut world, vec![pack(&request(3, 2, 1_001))]);
    assert_eq!(refused, [verdict::FULL], "it displaces nobody, itself neither");
    let other = Peer::link(&mut world, server, 5);
    prove(&mut world, &other);
    assert_eq!(other.publish(&mut world, vec![pack(&request(5, 2, 1))]), [0]);
    let registered = Peer::link(&mut world, server, 4);
    prove(&mut world, &registered);
    registered.say(&mut world, Message::Register { id: 1, token: None });
    let results: Vec<u32> = (0..150)
        .map(|number| registered.publish(&mut world, vec![pack(&request(4, 2, number))])[0])
        .collect();
    assert_eq!(results.iter().filter(|result| **result == 0).count(), 100, "and then it is enough");
    assert_eq!(rows(&world, server, Table::Requests), 1_000);
    assert!(!holds(&world, server, &request(3, 2, 0).ghid()));
    assert!(holds(&world, server, &request(3, 2, 999).ghid()));
}

#[test]
fn a_proof_is_for_this_link_alone() {
    let (mut world, server) = world(PersisterConfig::default());
    let bob = Peer::link(&mut world, server, 2);
    let proof = bob.proof(&world);
    let mallory = Peer::link(&mut world, server, 3);
    mallory.say(&mut world, proof);
    assert!(!mallory.is_up(&world), "somebody else's proof");
    let mallory = Peer::link(&mut world, server, 4);
    let statement = statement(
        &mallory.nonce,
        &mallory.theirs,
        &mallory.device,
        &world.nodes[server].device.clone(),
    );
    let signature = mallory.me.sign_statement("hypergolix link proof", &statement).into();
    mallory.say(&mut world, Message::Proof { identity: bob.gidc(), signature });
    assert!(!mallory.is_up(&world), "bob's identity, mallory's signature");
}

#[test]
fn hijack_before_first_sight() {
    let (mut world, server) = world(PersisterConfig::default());
    let (alice, mallory) = (Peer::link(&mut world, server, 1), Peer::link(&mut world, server, 3));
    let thing = Thing::new(&alice.me, 1);
    // Mallory cannot even make a frame for Alice's address; one of her own thing says so at once.
    let stolen = Thing {
        me: mallory.me.clone(),
        birth: thing.birth,
        dynamic: thing.dynamic,
        chain: ChainKey::new(0, 0, [9; 32]),
    };
    let secret = stolen.chain.container_secret(&stolen.dynamic);
    let container = Container::seal(&mallory.me, &secret, [6; 32], b"mine");
    let targets = [container.ghid(), stolen.birth];
    assert!(DynamicBinding::next(&mallory.me, stolen.dynamic, 257, &targets).is_err());
    // Early debindings of strangers and floods of them do not matter either.
    for number in 0..70 {
        let other = identity(50 + number);
        let gidc = Packed::from(other.identity().encode());
        let early = Debinding::make(&other, thing.dynamic);
        mallory.publish(&mut world, vec![gidc, pack(&early)]);
    }
    assert_eq!(put(&mut world, &alice, &thing, 1), [0, 0, 0]);
    assert_eq!(alice.get(&mut world, thing.dynamic).len(), 3);
    // A stranger's debinding afterwards is refused.
    let theirs = Debinding::make(&mallory.me, thing.dynamic);
    let not_yours = 1 + 0x0007;
    assert_eq!(mallory.publish(&mut world, vec![mallory.gidc(), pack(&theirs)]), [0, not_yours]);
}

#[test]
fn a_frame_without_its_container_changes_nothing() {
    let (mut world, server) = world(PersisterConfig::default());
    let (alice, mallory) = (Peer::link(&mut world, server, 1), Peer::link(&mut world, server, 3));
    let thing = Thing::new(&alice.me, 1);
    put(&mut world, &alice, &thing, 1);
    let (frame, mut spoiled) = {
        let (frame, container) = thing.step(2, b"state 2", 2);
        (pack(&frame), pack(&container))
    };
    assert_eq!(mallory.publish(&mut world, vec![frame.clone()]), [verdict::UNBOUND]);
    let last = spoiled.len() - 1;
    spoiled[last] ^= 1;
    let results = mallory.publish(&mut world, vec![frame, spoiled]);
    assert_eq!(results[0], verdict::UNBOUND);
    let first = thing.step(1, b"state 1", 1);
    assert_eq!(alice.get(&mut world, thing.dynamic)[1..], [pack(&first.0), pack(&first.1)]);
}

/// A frame of suite 1 that proves nothing, for an address that is another's.
fn hijack(mallory: &PrivateIdentity, dynamic: Ghid, target: Ghid) -> Packed {
    let mut bytes = b"GOBD\0\0\0\x10\x01".to_vec();
    bytes.extend_from_slice(mallory.ghid().as_bytes());
    bytes.extend_from_slice(&u64::MAX.to_be_bytes());
    bytes.extend_from_slice(&130u16.to_be_bytes());
    for ghid in [target, Ghid::of(b"history"), dynamic] {
        bytes.extend_from_slice(ghid.as_bytes());
    }
    bytes.push(1);
    let ghid = Ghid::of(&bytes);
    bytes.extend_from_slice(&ghid.address());
    mallory.sign_object(&ghid, &mut bytes);
    Packed::from(bytes)
}

#[test]
fn a_frame_without_its_container_does_not_even_end_a_hijack() {
    let (mut world, server) = world(PersisterConfig::default());
    let alice = Peer::link(&mut world, server, 1);
    let thing = Thing::new(&alice.me, 1);
    let mallory = identity_of_suite_1(0);
    let loot =
        Container::seal(&mallory, &Secret::new(Suite::Suite1, [1; 32], [2; 16]), [0; 32], b"x");
    let gidc = Packed::from(mallory.identity().encode());
    let stolen = hijack(&mallory, thing.dynamic, loot.ghid());
    assert_eq!(alice.publish(&mut world, vec![gidc, stolen, pack(&loot)]), [0, 0, 0]);

    let (frame, container) = thing.step(1, b"state 1", 1);
    let alone = vec![alice.gidc(), pack(&frame)];
    assert_eq!(alice.publish(&mut world, alone)[1], verdict::UNBOUND);
    assert!(holds(&world, server, &loot.ghid()) && !holds(&world, server, &frame.ghid()));
    assert_eq!(put(&mut world, &alice, &thing, 1), [0, 0, 0]);
    assert!(holds(&world, server, &container.ghid()) && !holds(&world, server, &loot.ghid()));
    assert_eq!(alice.get(&mut world, thing.dynamic).len(), 3);
}

#[test]
fn deleted_things_stay_deleted_whatever_is_replayed() {
    let (mut world, server) = world(PersisterConfig::default());
    let mut all = Vec::new();
    {
        let alice = Peer::link(&mut world, server, 1);
        for number in 0..50 {
            let thing = Thing::new(&alice.me, number);
            put(&mut world, &alice, &thing, 1);
            put(&mut world, &alice, &thing, 2);
            let gone = Debinding::make(&alice.me, thing.dynamic);
            assert_eq!(alice.publish(&mut world, vec![pack(&gone)]), [0]);
            all.push(thing);
        }
        world.disconnect(alice.link);
    }
    let before = stored(&world.nodes[server].disk);
    for round in 0..5 {
        world.restart(server);
        let mallory = Peer::link(&mut world, server, 3);
        for thing in &all {
            for step in [1, 2] {
                let (frame, container) =
                    thing.step(step, format!("state {step}").as_bytes(), step as u8);
                let results = mallory.publish(&mut world, vec![pack(&frame), pack(&container)]);
                let refused = [verdict::DEBOUND, verdict::OLD_FRAME].contains(&results[0]);
                assert!(refused && results[1] == verdict::UNBOUND, "round {round}: {results:?}");
            }
        }
    }
    assert_eq!(stored(&world.nodes[server].disk), before);
}

#[test]
fn floods_of_identities_and_debindings_are_bounded() {
    let (mut world, server) = world(PersisterConfig::default());
    let mallory = Peer::link(&mut world, server, 3);
    for number in 0..200_u8 {
        let gidc = Packed::from(identity(number).identity().encode());
        mallory.publish(&mut world, vec![gidc]);
    }
    assert_eq!(stored(&world.nodes[server].disk), 10);
    // Of unknown targets one debinder has at most 64.
    let mut results = Vec::new();
    for number in 0..100_u64 {
        let early = Debinding::make(&mallory.me, Ghid::of(&number.to_be_bytes()));
        results.push(mallory.publish(&mut world, vec![mallory.gidc(), pack(&early)])[1]);
    }
    assert_eq!(results.iter().filter(|result| **result == 0).count(), 64);
}

/// Nobody's identity, but different from all others.
fn made_up(number: u32) -> (Ghid, Packed) {
    let seed = |kind: u8| {
        let mut seed = [kind; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        seed
    };
    let it = PrivateIdentity::from_seeds(Suite::Suite3, seed(1), seed(2), seed(3));
    (it.identity().ghid(), Packed::from(it.identity().encode()))
}

fn answer_pings(world: &mut World, peer: &Peer) {
    for message in peer.heard(world) {
        if let Message::Ping { id } = message {
            peer.say(world, Message::Pong { id });
        }
    }
}

/// Leaves made-up identities; how many were taken.
fn leave(world: &mut World, peer: &Peer, numbers: std::ops::Range<u32>) -> usize {
    let numbers: Vec<u32> = numbers.collect();
    let mut left = 0;
    for numbers in numbers.chunks(50) {
        let identities = numbers.iter().map(|number| made_up(*number).1).collect();
        left += peer.publish(world, identities).iter().filter(|result| **result == 0).count();
    }
    left
}

#[test]
fn identities_that_nothing_belongs_to_are_forgotten_before_they_are_many() {
    let (mut world, server) = world(PersisterConfig::default());
    // Somebody who stores something, somebody who has mail, and somebody who is here.
    let alice = Peer::link(&mut world, server, 1);
    assert_eq!(put(&mut world, &alice, &Thing::new(&alice.me, 1), 1), [0, 0, 0]);
    let recipient = Packed::from(identity(9).identity().encode());
    assert_eq!(alice.publish(&mut world, vec![recipient, pack(&request(1, 9, 1))]), [0, 0]);
    let bob = Peer::link(&mut world, server, 2);
    prove(&mut world, &bob);
    let first = made_up(0);
    let mut left = 0;
    for batch in 0..120 {
        // Each from a link of its own, and never too fast.
        let mallory = Peer::link(&mut world, server, 3);
        prove(&mut world, &mallory);
        left += leave(&mut world, &mallory, batch * 100..(batch + 1) * 100);
        world.disconnect(mallory.link);
        world.advance(Duration::from_secs(5));
        answer_pings(&mut world, &bob);
        world.advance(Duration::from_secs(5));
        answer_pings(&mut world, &bob);
    }
    assert_eq!(left, 12_000);
    let identities = |world: &World| stored(&world.nodes[server].disk) - 3;
    assert_eq!(identities(&world), 10_001, "with Alice's, which no longer waits in the line");
    assert!(!holds(&world, server, &first.0), "the oldest went");
    assert!(holds(&world, server, &made_up(11_999).0));
    for (number, why) in [(1, "stores something"), (9, "has mail"), (2, "is here")] {
        assert!(holds(&world, server, &identity(number).identity().ghid()), "{why}");
    }
    let rows = |world: &World| world.nodes[server].disk.0.len();
    let before = rows(&world);
    // What was forgotten comes again if somebody needs it, and the line survives a restart.
    world.restart(server);
    let mallory = Peer::link(&mut world, server, 3);
    prove(&mut world, &mallory);
    for number in 20_000..20_100 {
        assert_eq!(mallory.publish(&mut world, vec![made_up(number).1]), [0]);
    }
    assert!(rows(&world) <= before + 8, "{} rows, {before} before", rows(&world));
    assert_eq!(mallory.publish(&mut world, vec![first.1]), [0]);
    assert!(holds(&world, server, &first.0));
    // The server goes on telling of changes as before.
    let thing = Thing::new(&alice.me, 5);
    let alice = Peer::link(&mut world, server, 1);
    assert_eq!(put(&mut world, &alice, &thing, 1), [0, 0, 0]);
}

#[test]
fn another_link_brings_no_more_identities() {
    let (mut world, server) = world(PersisterConfig::default());
    let mut left = 0;
    for link in 0..40 {
        let mallory = Peer::link(&mut world, server, 3);
        prove(&mut world, &mallory);
        left += leave(&mut world, &mallory, link * 100..(link + 1) * 100);
        world.disconnect(mallory.link);
    }
    assert_eq!(left, 1_000, "of all strangers together");
    // Whoever registered brings them as before.
    let alice = Peer::link(&mut world, server, 1);
    prove(&mut world, &alice);
    alice.say(&mut world, Message::Register { id: 5, token: None });
    assert_eq!(alice.publish(&mut world, vec![made_up(77_777).1]), [0]);
}

#[test]
fn three_objects_that_do_not_verify_end_a_link() {
    let (mut world, server) = world(PersisterConfig::default());
    let mallory = Peer::link(&mut world, server, 3);
    let thing = Thing::new(&mallory.me, 1);
    let (frame, container) = thing.step(1, b"state", 1);
    let mut spoiled = pack(&frame);
    let last = spoiled.len() - 1;
    spoiled[last] ^= 1;
    let objects = vec![mallory.gidc(), spoiled, pack(&container)];
    for _ in 0..3 {
        mallory.say(&mut world, Message::Publish { id: 1, objects: objects.clone() });
    }
    assert!(!mallory.is_up(&world));
    assert_eq!(stored(&world.nodes[server].disk), 1, "the identity is one");
}

#[test]
fn quotas_are_kept_and_deleting_makes_room() {
    let quota = Quota { bytes: 3_000, objects: 100 };
    let (mut world, server) = world(config(|config| config.unregistered = quota));
    let alice = Peer::link(&mut world, server, 1);
    let things: Vec<Thing> = (0..10).map(|number| Thing::new(&alice.me, number)).collect();
    let taken = things.iter().take_while(|thing| put(&mut world, &alice, thing, 1) == [0, 0, 0]);
    let taken = taken.count();
    assert!((2..6).contains(&taken), "{taken}");
    let refused = put(&mut world, &alice, &things[9], 1);
    assert_eq!(refused[1], verdict::QUOTA);
    // What is there can still be updated: the new state takes the place of the old one.
    for step in 2..20 {
        assert_eq!(put(&mut world, &alice, &things[0], step), [0, 0, 0], "step {step}");
    }
    // Others are not concerned, and cannot spend somebody else's quota beyond its end.
    let bob = Peer::link(&mut world, server, 2);
    assert_eq!(put(&mut world, &bob, &Thing::new(&bob.me, 77), 1), [0, 0, 0]);
    let (frame, container) = things[9].step(1, b"state 1", 1);
    assert_eq!(bob.publish(&mut world, vec![pack(&frame), pack(&container)])[0], verdict::QUOTA);
    for thing in &things[..2] {
        let gone = Debinding::make(&alice.me, thing.dynamic);
        assert_eq!(alice.publish(&mut world, vec![pack(&gone)]), [0]);
    }
    assert_eq!(put(&mut world, &alice, &things[9], 1), [0, 0, 0]);
    // Registering makes room as well.
    prove(&mut world, &alice);
    alice.say(&mut world, Message::Register { id: 5, token: None });
    assert!(alice.heard(&mut world).contains(&Message::Registered { id: 5, result: 0 }));
    for thing in &things[2..] {
        assert_eq!(put(&mut world, &alice, thing, 2), [0, 0, 0]);
    }
}

#[test]
fn policies_say_who_may_publish() {
    let register = |world: &mut World, peer: &Peer, token: Option<&str>| {
        peer.heard(world);
        peer.say(world, Message::Register { id: 5, token: token.map(str::to_owned) });
        peer.heard(world)
            .into_iter()
            .find_map(|message| match message {
                Message::Registered { id: 5, result } => Some(result),
                _ => None,
            })
            .expect("a clear answer")
    };
    let (mut world, server) = world(config(|config| config.policy = Policy::Registered));
    let alice = Peer::link(&mut world, server, 1);
    let thing = Thing::new(&alice.me, 1);
    assert_eq!(put(&mut world, &alice, &thing, 1)[1], verdict::NOT_REGISTERED);
    assert_eq!(register(&mut world, &alice, None), verdict::NOT_PROVED);
    prove(&mut world, &alice);
    assert_eq!(register(&mut world, &alice, None), 0);
    assert_eq!(put(&mut world, &alice, &thing, 1), [0, 0, 0]);

    let mut world = World::new(0);
    let server = world.server(config(|config| config.policy = Policy::Invited));
    let alice = Peer::link(&mut world, server, 1);
    prove(&mut world, &alice);
    assert_eq!(register(&mut world, &alice, None), verdict::TOKEN_NEEDED);
    assert_eq!(register(&mut world, &alice, Some("guess")), verdict::TOKEN_WRONG);
    let answer = world.control(server, Control::Invite).expect("a token");
    let token = answer.split('"').nth(3).expect("a token").to_owned();
    world.restart(server);
    let alice = Peer::link(&mut world, server, 1);
    prove(&mut world, &alice);
    assert_eq!(register(&mut world, &alice, Some(&token)), 0);
    assert_eq!(put(&mut world, &alice, &thing, 1), [0, 0, 0]);
    // A token is good for one.
    let bob = Peer::link(&mut world, server, 2);
    prove(&mut world, &bob);
    assert_eq!(register(&mut world, &bob, Some(&token)), verdict::TOKEN_WRONG);
    assert_eq!(put(&mut world, &bob, &Thing::new(&bob.me, 2), 1)[1], verdict::NOT_REGISTERED);
    // Requests to somebody who is not registered are taken, and so is what ends them.
    let sealed = request(1, 2, 1);
    assert_eq!(alice.publish(&mut world, vec![pack(&sealed)]), [0]);
    let handled = Debinding::make(&bob.me, sealed.ghid());
    assert_eq!(bob.publish(&mut world, vec![pack(&handled)]), [0]);
}

#[test]
fn the_operator_admits_limits_and_bans() {
    let (mut world, server) = world(config(|config| config.policy = Policy::Invited));
    let alice = Peer::link(&mut world, server, 1);
    prove(&mut world, &alice);
    let identity = alice.me.ghid();
    let admitted = world.control(server, Control::Admit { identity, registered: true });
    assert!(admitted.expect("done").contains("\"registered\":true"));
    let thing = Thing::new(&alice.me, 1);
    assert_eq!(put(&mut world, &alice, &thing, 1), [0, 0, 0]);
    let order = Control::Quota { identity, bytes: Some(1_500), objects: None };
    assert!(world.control(server, order).expect("done").contains("\"bytes_max\":1500"));
    assert_eq!(put(&mut world, &alice, &Thing::new(&alice.me, 2), 1)[1], verdict::QUOTA);
    // What is not named stays as it is; with nothing named both are as usual.
    let order = Control::Quota { identity, bytes: None, objects: Some(7) };
    let answer = world.control(server, order).expect("done");
    assert!(answer.contains("\"bytes_max\":1500,\"objects_max\":7"), "{answer}");
    let order = Control::Quota { identity, bytes: None, objects: None };
    let answer = world.control(server, order).expect("done");
    assert!(!answer.contains("\"bytes_max\":1500") && !answer.contains("\"objects_max\":7"));
    let order = Control::Quota { identity, bytes: Some(1_500), objects: None };
    world.control(server, order).expect("done");
    assert!(
        world
            .control(server, Control::Users { after: None })
            .expect("a list")
            .contains(&identity.to_string())
    );

    world.control(server, Control::Ban { identity, banned: true }).expect("done");
    assert!(alice.heard(&mut world).contains(&Message::Refused { result: verdict::BANNED }));
    world.advance(Duration::from_secs(2));
    assert!(!alice.is_up(&world), "its links end");
    let alice = Peer::link(&mut world, server, 1);
    assert_eq!(put(&mut world, &alice, &thing, 2)[1], verdict::BANNED);
    prove(&mut world, &alice);
    assert!(alice.heard(&mut world).contains(&Message::Refused { result: verdict::BANNED }));
    world.advance(Duration::from_secs(2));
    world.control(server, Control::Ban { identity, banned: false }).expect("done");
    let alice = Peer::link(&mut world, server, 1);
    assert_eq!(put(&mut world, &alice, &thing, 2), [0, 0, 0]);
}

#[test]
fn questions_are_answered() {
    let (mut world, server) = world(PersisterConfig::default());
    let (alice, bob) = (Peer::link(&mut world, server, 1), Peer::link(&mut world, server, 2));
    let thing = Thing::new(&alice.me, 1);
    put(&mut world, &alice, &thing, 1);
    let (_, container) = thing.step(1, b"state 1", 1);
    let hold = StaticBinding::make(&bob.me, container.ghid());
    let own = StaticBinding::make(&alice.me, container.ghid());
    bob.publish(&mut world, vec![bob.gidc(), pack(&hold)]);
    alice.publish(&mut world, vec![pack(&own)]);
    let ask = |world: &mut World, message: Message| {
        bob.heard(world);
        bob.say(world, message);
        bob.heard(world).pop().expect("an answer")
    };
    let addresses = |ghids: &[Ghid]| ghids.iter().copied().map(Address).collect::<Vec<_>>();
    assert_eq!(
        ask(&mut world, Message::Bindings { id: 1, address: Address(container.ghid()) }),
        Message::Addresses {
            id: 1,
            addresses: addresses(&[own.ghid(), hold.ghid(), thing.dynamic]),
            more: false
        },
        "static before dynamic, the author's own first"
    );
    let subscribed = [thing.dynamic, Ghid::of(b"unknown")];
    let message = Message::Subscribe { addresses: addresses(&subscribed), cursor: None };
    bob.say(&mut world, message);
    let mut sorted = subscribed;
    sorted.sort_unstable();
    assert_eq!(
        ask(&mut world, Message::Subscriptions { id: 2, after: None }),
        Message::Addresses { id: 2, addresses: addresses(&sorted), more: false }
    );
    assert_eq!(
        ask(&mut world, Message::Subscriptions { id: 3, after: Some(Address(sorted[0])) }),
        Message::Addresses { id: 3, addresses: addresses(&sorted[1..]), more: false }
    );
    assert_eq!(
        ask(&mut world, Message::Exists { id: 4, addresses: addresses(&subscribed) }),
        Message::Existing { id: 4, exist: vec![true, false] }
    );
    let gone = Debinding::make(&alice.me, thing.dynamic);
    alice.publish(&mut world, vec![pack(&gone)]);
    assert_eq!(
        ask(&mut world, Message::Debindings { id: 5, address: Address(thing.dynamic) }),
        Message::Addresses { id: 5, addresses: addresses(&[gone.ghid()]), more: false }
    );
    assert_eq!(
        ask(&mut world, Message::Disconnect { id: 6 }),
        Message::Addresses { id: 6, addresses: vec![], more: false }
    );
    assert_eq!(
        ask(&mut world, Message::Subscriptions { id: 7, after: None }),
        Message::Addresses { id: 7, addresses: vec![], more: false }
    );
    assert_eq!(ask(&mut world, Message::Ping { id: 8 }), Message::Pong { id: 8 });
}

fn owned(world: &mut World, peer: &Peer, identity: Ghid, after: Option<Ghid>) -> (Vec<Ghid>, bool) {
    let (identity, after) = (Address(identity), after.map(Address));
    peer.heard(world);
    peer.say(world, Message::Owned { id: 5, identity, after });
    match peer.heard(world).pop() {
        Some(Message::Addresses { id: 5, addresses, more }) => {
            (addresses.into_iter().map(|Address(address)| address).collect(), more)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_who_proved_an_identity_hears_what_it_has() {
    let (mut world, server) = world(PersisterConfig::default());
    let alice = Peer::link(&mut world, server, 1);
    prove(&mut world, &alice);
    let me = alice.me.ghid();
    let things: Vec<Thing> = (0..1_030).map(|number| Thing::new(&alice.me, number)).collect();
    for thing in &things {
        put(&mut world, &alice, thing, 1);
    }
    let (binding, container) = static_object(&alice.me, b"static");
    alice.publish(&mut world, vec![pack(&binding), pack(&container)]);
    // Bob holds something of hers: it is on his list as well as on hers.
    let bob = Peer::link(&mut world, server, 2);
    prove(&mut world, &bob);
    let hold = StaticBinding::make(&bob.me, things[0].dynamic);
    assert_eq!(bob.publish(&mut world, vec![bob.gidc(), pack(&hold)]), [0, 0]);
    // Page by page, in order.
    let (first, more) = owned(&mut world, &alice, me, None);
    assert!(more && first.len() == 1_024 && first.is_sorted());
    let (rest, more) = owned(&mut world, &alice, me, first.last().copied());
    assert!(!more && rest.len() == 1_031 - 1_024);
    let mut expected: Vec<Ghid> = things.iter().map(|thing| thing.dynamic).collect();
    expected.push(container.ghid());
    expected.sort_unstable();
    assert!([first, rest].concat() == expected);
    assert_eq!(owned(&mut world, &bob, bob.me.ghid(), None), (vec![things[0].dynamic], false));
    // Nobody else.
    let mallory = Peer::link(&mut world, server, 9);
    for peer in [&mallory, &bob] {
        assert_eq!(owned(&mut world, peer, me, None), (vec![], false));
        peer.say(&mut world, Message::Own { cursor: None });
        peer.heard(&mut world);
    }
    put(&mut world, &alice, &things[1], 2);
    assert!(
        events(&mallory.heard(&mut world)).is_empty() && events(&bob.heard(&mut world)).is_empty()
    );
    // Her other device hears of it, and the list follows.
    let other = Peer::link(&mut world, server, 1);
    other.say(&mut world, Message::Own { cursor: None });
    assert!(other.heard(&mut world).is_empty(), "nothing before the proof");
    prove(&mut world, &other);
    assert!(matches!(other.heard(&mut world).as_slice(), [Message::Following { .. }]));
    put(&mut world, &alice, &things[1], 3);
    assert_eq!(events(&other.heard(&mut world)).len(), 1);
    let gone = [
        Debinding::make(&alice.me, things[1].dynamic),
        Debinding::make(&alice.me, binding.ghid()),
        Debinding::make(&alice.me, things[0].dynamic),
    ];
    assert_eq!(alice.publish(&mut world, gone.iter().map(pack).collect()), [0, 0, 0]);
    let (first, _) = owned(&mut world, &alice, me, None);
    let (rest, _) = owned(&mut world, &alice, me, first.last().copied());
    assert_eq!(first.len() + rest.len(), 1_028);
    assert!(!rest.contains(&things[0].dynamic) && !first.contains(&things[0].dynamic));
    assert_eq!(owned(&mut world, &bob, bob.me.ghid(), None).0, [things[0].dynamic], "he holds it");
}

#[test]
fn two_mirrors_hold_the_same() {
    let mut world = World::new(0);
    let mirrors = |device: u8| {
        config(|config| {
            config.policy = Policy::Registered;
            config.mirrors.insert(vec![device; 38]);
        })
    };
    let (first, second) = (world.server(mirrors(1)), world.server(mirrors(0)));
    let alice = Peer::link(&mut world, first, 1);
    prove(&mut world, &alice);
    alice.say(&mut world, Message::Register { id: 1, token: None });
    let things: Vec<Thing> = (0..20).map(|number| Thing::new(&alice.me, number)).collect();
    for thing in &things[..10] {
        put(&mut world, &alice, thing, 1);
    }
    // What was there before, and what comes after they met.
    let link = world.connect(first, second);
    for thing in &things[5..] {
        put(&mut world, &alice, thing, 2);
    }
    let sealed = request(1, 2, 1);
    let gidc = Packed::from(identity(2).identity().encode());
    assert_eq!(alice.publish(&mut world, vec![gidc, pack(&sealed)]), [0, 0]);
    let (binding, container) = static_object(&alice.me, b"static");
    assert_eq!(alice.publish(&mut world, vec![pack(&binding), pack(&container)]), [0, 0]);
    let same = |world: &World| {
        let objects = |node: usize| -> Vec<Vec<u8>> {
            let rows = world.nodes[node].disk.0.keys();
            rows.filter(|(table, _)| *table == Table::Objects).map(|(_, key)| key.clone()).collect()
        };
        assert!(objects(first) == objects(second));
        assert!(objects(first).len() > 30);
    };
    same(&world);
    // Bob's mail is at the other one too, and what he does there comes back.
    let bob = Peer::link(&mut world, second, 2);
    prove(&mut world, &bob);
    assert_eq!(events(&bob.heard(&mut world)).len(), 1);
    let handled = Debinding::make(&bob.me, sealed.ghid());
    assert_eq!(bob.publish(&mut world, vec![pack(&handled)]), [0]);
    assert!(!holds(&world, first, &sealed.ghid()));
    // Apart, deleted, together again.
    world.disconnect(link);
    for thing in &things[..5] {
        alice.publish(&mut world, vec![pack(&Debinding::make(&alice.me, thing.dynamic))]);
    }
    alice.publish(&mut world, vec![pack(&Debinding::make(&alice.me, binding.ghid()))]);
    world.connect(first, second);
    same(&world);
    // One is wiped and filled again.
    world.wipe(second);
    world.connect(first, second);
    same(&world);
    // Somebody who only says that it is a persister gets no list.
    let mut mallory = Peer::silent(&mut world, first, 9);
    mallory.role = Role::Persister { epoch: 1 };
    mallory.greet(&mut world);
    mallory.say(&mut world, Message::Mirror { cursor: None });
    let heard = mallory.heard(&mut world);
    assert_eq!(heard, [Message::Refused { result: verdict::NOT_HERE }]);
}

#[test]
fn other_versions_are_told_apart() {
    let (mut world, server) = world(PersisterConfig::default());
    let peer = Peer::silent(&mut world, server, 1);
    let hello = Message::Hello { version: VERSION + 1, nonce: [1; 32], role: Role::Node };
    peer.say(&mut world, hello);
    assert!(!peer.is_up(&world));
}

#[test]
fn on_a_full_disk_only_deletions_are_taken() {
    let (mut world, server) = world(PersisterConfig::default());
    let alice = Peer::link(&mut world, server, 1);
    let (thing, other) = (Thing::new(&alice.me, 1), Thing::new(&alice.me, 2));
    put(&mut world, &alice, &thing, 1);
    let full = |world: &mut World, is: bool| match &mut world.nodes[server].engine {
        common::Brain::Server(persister) => persister.set_low_on_space(is),
        common::Brain::Node(_) => panic!("it is a server"),
    };
    full(&mut world, true);
    let refused = verdict::DISK_FULL;
    assert_eq!(put(&mut world, &alice, &other, 1), [0, refused, refused]);
    assert_eq!(put(&mut world, &alice, &thing, 2), [0, refused, refused]);
    // What is there already is no news, and can be read and deleted.
    assert_eq!(put(&mut world, &alice, &thing, 1), [0, 0, 0]);
    assert_eq!(alice.get(&mut world, thing.dynamic).len(), 3);
    let gone = Debinding::make(&alice.me, thing.dynamic);
    assert_eq!(alice.publish(&mut world, vec![pack(&gone)]), [0]);
    full(&mut world, false);
    assert_eq!(put(&mut world, &alice, &other, 1), [0, 0, 0]);
}

#[test]
fn comparisons_of_strangers_wait_for_one_another_and_for_nobody_else() {
    let (mut world, server) = world(PersisterConfig::default());
    let follow = |world: &mut World, peer: &Peer| {
        for block in 0..8_u32 {
            let address = |number: u32| Address(Ghid::of(&(block << 16 | number).to_be_bytes()));
            let addresses = (0..1_024).map(address).collect();
            peer.say(
                world,
                Message::Subscribe { addresses, cursor: Some(Cursor { epoch: 0, seq: 0 }) },
            );
        }
    };
    // Messages until the link ends, of a hundred.
    let needs = |world: &mut World, peer: &Peer| {
        let ids = vec![serde_bytes::ByteArray::new([7; 32])];
        (0..100)
            .take_while(|_| {
                peer.say(world, Message::Need { ids: ids.clone() });
                peer.is_up(world)
            })
            .count()
    };
    let stranger = Peer::link(&mut world, server, 1);
    follow(&mut world, &stranger);
    let taken = needs(&mut world, &stranger);
    assert!((10..60).contains(&taken), "{taken}");
    let again = Peer::link(&mut world, server, 3);
    follow(&mut world, &again);
    assert_eq!(needs(&mut world, &again), 0, "it is the same flood");
    let registered = Peer::link(&mut world, server, 4);
    prove(&mut world, &registered);
    registered.say(&mut world, Message::Register { id: 1, token: None });
    follow(&mut world, &registered);
    assert_eq!(needs(&mut world, &registered), 100);
    world.advance(Duration::from_secs(60));
    let later = Peer::link(&mut world, server, 3);
    follow(&mut world, &later);
    assert!(needs(&mut world, &later) > 10, "and it ends");
}
