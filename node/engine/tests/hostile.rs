//! What a linked peer may say, and what must not come of it.

#![allow(missing_docs)]

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::peer::{Peer, Thing, content, identity, identity_of, pack, shares, statement};
use common::{Disk, Seeded, World, record};
use golix::object::{Container, Debinding, DynamicBinding, RequestBody, StaticBinding, Verified};
use golix::{ChainKey, Ghid, Secret, Suite};
use hypergolix_engine::message::{Address, Cursor, LIST_MAX, OBJECTS_MAX, Packed, Role, VERSION};
use hypergolix_engine::{Entropy, Input, Message, Table, limits};
use hypergolix_ipc::{ApiId, ConnectionId, ErrorCode, Notice, Reply, Request};

/// Addresses that a node stores objects under.
fn stored(disk: &Disk) -> usize {
    disk.0.keys().filter(|(table, _)| *table == Table::Objects).count()
}

fn holds(world: &World, node: usize, ghid: &Ghid) -> bool {
    world.nodes[node].disk.0.contains_key(&(Table::Objects, ghid.as_bytes().to_vec()))
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

fn spoil(object: &Verified) -> Packed {
    let mut bytes = object.bytes().to_vec();
    *bytes.last_mut().expect("a signature") ^= 1;
    Packed::from(bytes)
}

/// A node with an application that takes JSON, and follows an object of the peer with this seed.
fn follower(seed: u8) -> (World, ConnectionId, Peer, Thing) {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    world.ask(0, app, Request::RegisterApi(ApiId::JSON)).expect("registered");
    let (peer, thing) = shares(&mut world, 0, seed);
    let notices = world.notices(0, app);
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert_eq!(world.state(0, app, thing.dynamic).expect("shared"), b"first");
    (world, app, peer, thing)
}

// Hello and proofs.

#[test]
fn a_bad_hello_ends_the_link() {
    let mut world = World::new(1);
    let reflected = Peer::silent(&mut world, 0, 1);
    let nonce = reflected.theirs;
    reflected.say(&mut world, Message::Hello { version: VERSION, role: Role::Node, nonce });
    assert!(!reflected.is_up(&world));

    let twice = Peer::link(&mut world, 0, 2);
    twice.say(&mut world, Message::Hello { version: VERSION, role: Role::Node, nonce: [5; 32] });
    assert!(!twice.is_up(&world));

    let early = Peer::silent(&mut world, 0, 3);
    early.say(&mut world, Message::Ping { id: 1 });
    assert!(!early.is_up(&world));

    let other = Peer::silent(&mut world, 0, 4);
    other
        .say(&mut world, Message::Hello { version: VERSION + 1, role: Role::Node, nonce: [5; 32] });
    assert!(!other.is_up(&world));
    assert_eq!(world.closed.len(), 4, "{:?}", world.closed);
}

/// A node looks for the recipient of a share.
fn seeker(seed: u8) -> (World, Ghid) {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    let object = world.new_object(0, app, b"state");
    let recipient = identity(seed).ghid();
    world.ask(0, app, Request::Share { object, recipient }).expect("promised");
    (world, object)
}

fn tags(messages: &[Message]) -> Vec<[u8; 16]> {
    messages
        .iter()
        .flat_map(|message| match message {
            Message::Interests { tags } => tags.clone(),
            _ => Vec::new(),
        })
        .collect()
}

fn published(messages: &[Message]) -> usize {
    messages.iter().filter(|message| matches!(message, Message::Publish { .. })).count()
}

#[test]
fn only_a_proof_made_for_this_link_counts() {
    let (mut world, _) = seeker(9);
    // The right one, for comparison.
    let peer = Peer::link(&mut world, 0, 9);
    let heard = peer.heard(&mut world);
    assert!(peer.looks_for(&tags(&heard), &peer.me.ghid()));
    assert_eq!(published(&heard), 0, "nothing before a proof");
    let good = peer.proof(&world);

    // Replayed on another link of the same devices.
    let again = Peer::link(&mut world, 0, 9);
    again.say(&mut world, good.clone());
    assert!(!again.is_up(&world));

    // By another identity, which nobody looks for.
    let other = Peer::link(&mut world, 0, 10);
    let proof = other.proof(&world);
    other.say(&mut world, proof);
    assert!(!other.is_up(&world));

    // Another identity's key under the right identity.
    let thief = Peer::link(&mut world, 0, 11);
    let Message::Proof { signature, .. } = thief.proof(&world) else { panic!("a proof") };
    let identity = peer.gidc();
    thief.say(&mut world, Message::Proof { identity, signature });
    assert!(!thief.is_up(&world));

    // In the other direction, and between other devices.
    for (from, to) in [(0, 1), (1, 0)] {
        let turned = Peer::link(&mut world, 0, 9);
        let devices = [world.nodes[0].device.clone(), turned.device.clone()];
        let said = if from == 0 {
            statement(&turned.theirs, &turned.nonce, &devices[0], &devices[1])
        } else {
            statement(&turned.nonce, &turned.theirs, &devices[0], &devices[to])
        };
        let signature = turned.me.sign_statement("hypergolix link proof", &said).into();
        turned.say(&mut world, Message::Proof { identity: turned.gidc(), signature });
        assert!(!turned.is_up(&world));
    }

    // No identity at all.
    let junk = Peer::link(&mut world, 0, 9);
    junk.say(
        &mut world,
        Message::Proof {
            identity: Packed::from(vec![1; 170]),
            signature: Packed::from(vec![0; 64]),
        },
    );
    assert!(!junk.is_up(&world));

    peer.heard(&mut world);
    peer.say(&mut world, good.clone());
    assert!(peer.is_up(&world));
    assert_eq!(published(&peer.heard(&mut world)), 1, "the share");
    // Twice is once.
    peer.say(&mut world, good);
    assert!(peer.is_up(&world));
    assert_eq!(published(&peer.heard(&mut world)), 0);
}

#[test]
fn a_node_proves_itself_once_and_to_nobody_who_does_not_ask() {
    let mut world = World::new(1);
    let me = world.nodes[0].account.fingerprint();
    let peer = Peer::link(&mut world, 0, 9);
    let heard = peer.heard(&mut world);
    assert_eq!(tags(&heard).len(), 1, "only other devices of its own are looked for: {heard:?}");
    let wrong =
        [peer.tag(&peer.me.ghid()), [0; 16], common::peer::tag(&peer.theirs, &peer.nonce, &me)];
    peer.say(&mut world, Message::Interests { tags: wrong.to_vec() });
    assert!(peer.heard(&mut world).is_empty());
    let tags = vec![peer.tag(&me); LIST_MAX];
    for _ in 0..100 {
        peer.say(&mut world, Message::Interests { tags: tags.clone() });
    }
    let heard = peer.heard(&mut world);
    assert_eq!(heard.len(), 1, "one proof");
    let Message::Proof { identity, signature } = &heard[0] else { panic!("{heard:?}") };
    let said = statement(&peer.theirs, &peer.nonce, &world.nodes[0].device, &peer.device);
    let identity = golix::Identity::from_bytes(identity).expect("an identity");
    assert_eq!(identity.ghid(), me);
    assert!(identity.verify_statement("hypergolix link proof", &said, &signature[..]));
}

#[test]
fn a_link_that_ends_is_not_read_any_more() {
    let (mut world, app, peer, thing) = follower(9);
    let (frame, container) = thing.step(2, b"second", 2);
    // Both arrive before the network has ended the link.
    let node = &mut world.nodes[0];
    let mut effects = Vec::new();
    for message in [
        Message::Hello { version: VERSION, role: Role::Node, nonce: [1; 32] },
        Message::Publish { id: 1, objects: vec![pack(&frame), pack(&container)] },
        Message::Ping { id: 1 },
        Message::Hello { version: VERSION, role: Role::Node, nonce: [1; 32] },
    ] {
        let input = Input::LinkMessage { link: peer.link, message };
        let outcome = node.engine.handle(input, world.now, &node.disk).expect("sound");
        node.disk.apply(outcome.writes);
        effects.extend(outcome.effects);
    }
    assert_eq!(effects.len(), 1, "one end of the link: {effects:?}");
    assert_eq!(world.state(0, app, thing.dynamic).expect("shared"), b"first");
}

// Objects.

#[test]
fn what_nobody_wants_is_not_stored() {
    let (mut world, app, _, followed) = follower(9);
    let own = world.new_object(0, app, b"own");
    let mallory = Peer::link(&mut world, 0, 66);
    let before = world.nodes[0].disk.0.clone();
    let thing = Thing::new(&mallory.me, 1);
    let (frame, container) = thing.step(1, b"x", 1);
    let mut objects = vec![mallory.gidc()];
    objects.extend((100..120).map(|seed| Packed::from(identity(seed).identity().encode())));
    objects.extend([
        pack(&frame),
        pack(&container),
        pack(&StaticBinding::make(&mallory.me, container.ghid())),
        pack(&container),
    ]);
    // Bindings and debindings of what others own.
    for target in [followed.dynamic, own, world.nodes[0].account.user_id(), followed.birth] {
        objects.push(pack(&StaticBinding::make(&mallory.me, target)));
        objects.push(pack(&Debinding::make(&mallory.me, target)));
    }
    objects.push(pack(&Debinding::make(&mallory.me, Ghid::of(b"nothing"))));
    objects.push(pack(&Debinding::make(&mallory.me, Debinding::make(&mallory.me, own).ghid())));
    let gidcs = 21;
    let results = mallory.publish(&mut world, objects);
    assert!(results[..gidcs].iter().all(|result| *result == 0));
    assert!(results[gidcs..].iter().all(|result| *result != 0), "{results:?}");
    assert_eq!(world.nodes[0].disk.0, before, "nothing was written");
    assert!(mallory.is_up(&world), "unwanted is not wrong");
}

#[test]
fn three_wrong_objects_end_the_link() {
    let mut world = World::new(1);
    for objects in [
        vec![Packed::from(vec![0; 100]); 3],
        vec![Packed::from(vec![]); OBJECTS_MAX],
        vec![Packed::from(b"GEOC".to_vec()); 4],
    ] {
        let peer = Peer::link(&mut world, 0, 9);
        peer.say(&mut world, Message::Publish { id: 1, objects });
        assert!(!peer.is_up(&world));
    }
    // A signature that does not fit counts too.
    let peer = Peer::link(&mut world, 0, 9);
    let (frame, _) = Thing::new(&peer.me, 1).step(1, b"x", 1);
    let objects = vec![peer.gidc(), spoil(&frame), spoil(&frame), spoil(&frame)];
    peer.say(&mut world, Message::Publish { id: 1, objects });
    assert!(!peer.is_up(&world));
}

#[test]
fn a_frame_without_its_container_changes_nothing() {
    let (mut world, app, peer, thing) = follower(9);
    let mallory = Peer::link(&mut world, 0, 66);
    let (frame, container) = thing.step(5, b"second", 2);
    let before = world.nodes[0].disk.0.clone();
    let other = thing.step(5, b"another", 3).1;
    for objects in [
        vec![pack(&frame)],
        vec![pack(&container)],
        vec![pack(&container), spoil(&container)],
        vec![pack(&frame), pack(&other)],
    ] {
        let results = mallory.publish(&mut world, objects);
        assert!(results.iter().all(|result| *result != 0), "{results:?}");
    }
    let results = mallory.publish(&mut world, vec![pack(&frame), spoil(&container)]);
    assert!(results.iter().all(|result| *result != 0), "{results:?}");
    assert_eq!(world.nodes[0].disk.0, before);
    assert_eq!(world.state(0, app, thing.dynamic).expect("still here"), b"first");
    assert!(world.notices(0, app).is_empty());
    // In any order, once both are there.
    assert_eq!(peer.publish(&mut world, vec![pack(&container), pack(&frame)])[1], 0);
    assert_eq!(states(&world.notices(0, app)), [b"second".to_vec()]);
}

#[test]
fn nobody_goes_back() {
    let (mut world, app, peer, thing) = follower(9);
    for step in [7, 3, 6, 7] {
        let (frame, container) = thing.step(step, format!("{step}").as_bytes(), 2);
        peer.publish(&mut world, vec![pack(&frame), pack(&container)]);
    }
    assert_eq!(states(&world.notices(0, app)), [b"7".to_vec()]);
    world.restart(0);
    let app = world.app(0, 2);
    let peer = Peer::link(&mut world, 0, 9);
    let (frame, container) = thing.step(6, b"6", 9);
    assert_ne!(peer.publish(&mut world, vec![pack(&frame), pack(&container)])[0], 0);
    assert_eq!(world.state(0, app, thing.dynamic).expect("kept"), b"7");
    // Also not after the object is gone.
    let gone = pack(&Debinding::make(&thing.me, thing.dynamic));
    assert_eq!(peer.publish(&mut world, vec![gone]), [0]);
    assert_eq!(world.notices(0, app), vec![Notice::Deleted(thing.dynamic)]);
    let (frame, container) = thing.step(9, b"9", 9);
    let request = peer.request(&world, &thing.handshake(9), 5);
    peer.publish(&mut world, vec![peer.gidc(), request, pack(&frame), pack(&container)]);
    world.state(0, app, thing.dynamic).expect_err("deleted stays deleted");
}

#[test]
fn forks_end_at_one_winner_on_every_order() {
    let thing = Thing::new(&identity(9), 9);
    let forks: Vec<_> =
        (0..12).map(|salt| thing.step(4, format!("{salt}").as_bytes(), salt)).collect();
    let winner = forks.iter().max_by_key(|(frame, _)| frame.ghid()).expect("some");
    for reverse in [false, true] {
        let (mut world, app, peer, thing) = follower(9);
        let mut order: Vec<_> = forks.iter().collect();
        if reverse {
            order.reverse();
        }
        for (frame, container) in order {
            peer.publish(&mut world, vec![pack(frame), pack(container)]);
        }
        let objects = peer.get(&mut world, thing.dynamic);
        assert!(objects.len() <= OBJECTS_MAX);
        assert!(objects.contains(&pack(&winner.0)) && objects.contains(&pack(&winner.1)));
        let seen = world.state(0, app, thing.dynamic).expect("the winner");
        assert_eq!(states(&world.notices(0, app)).last(), Some(&seen));
        // What it serves, another one takes, in one message.
        let mut third = World::new(2);
        third.nodes.swap(0, 1);
        let request = peer.request(&third, &thing.handshake(1), 2);
        let sender = Peer::link(&mut third, 0, 9);
        let request =
            if third.nodes[0].account.fingerprint() == third.nodes[1].account.fingerprint() {
                request
            } else {
                sender.request(&third, &thing.handshake(1), 2)
            };
        let mut message = vec![sender.gidc(), request];
        message.extend(objects);
        let results = sender.publish(&mut third, message);
        assert!(results.iter().all(|result| *result == 0), "{results:?}");
        let app = third.app(0, 1);
        assert_eq!(third.state(0, app, thing.dynamic).expect("the winner"), seen);
    }
}

#[test]
fn garbage_in_a_container_is_not_shown_and_ends_with_the_next_state() {
    let (mut world, app, peer, thing) = follower(9);
    let secret = Secret::new(Suite::Suite3, [1; 32], [2; 16]);
    let wrong_key = Container::seal(&peer.me, &secret, [3; 32], &content(b"hidden", true));
    let targets = [wrong_key.ghid(), thing.birth];
    let wrong_key =
        (DynamicBinding::next(&peer.me, thing.dynamic, 2 << 8, &targets).expect("made"), wrong_key);
    let too_large = vec![0; hypergolix_ipc::limits::STATE_MAX + 1];
    for (frame, container) in [
        wrong_key,
        thing.sealed(3, b"", 1),
        thing.sealed(4, b"no content of ours", 1),
        thing.sealed(5, &content(&too_large, true), 1),
    ] {
        assert_eq!(
            peer.publish(&mut world, vec![pack(&frame), pack(&container)]),
            [0, 0],
            "it is what its author signed"
        );
        assert!(world.notices(0, app).is_empty());
        // The source is asked, and says nothing.
        let token = hypergolix_ipc::RequestToken(2_000);
        let request = Request::Get(thing.dynamic);
        world.input(0, Input::AppRequest { connection: app, token, request });
        world.advance(limits::WAIT_FOR_LINKS);
        let error = world.nodes[0].answers.remove(&(app, token)).expect("answered");
        assert_eq!(error.expect_err("unreadable").code, ErrorCode::DoesNotExist);
    }
    let (frame, container) = thing.step(6, b"readable", 1);
    peer.publish(&mut world, vec![pack(&frame), pack(&container)]);
    assert_eq!(states(&world.notices(0, app)), [b"readable".to_vec()]);
    assert_eq!(world.state(0, app, thing.dynamic).expect("again"), b"readable");
}

#[test]
fn a_stranger_keeps_nothing_alive_and_takes_nothing_away() {
    let (mut world, app, peer, thing) = follower(9);
    let mallory = Peer::link(&mut world, 0, 66);
    let hold = pack(&StaticBinding::make(&mallory.me, thing.dynamic));
    let debinding = pack(&Debinding::make(&mallory.me, thing.dynamic));
    let early =
        pack(&Debinding::make(&mallory.me, StaticBinding::make(&peer.me, thing.dynamic).ghid()));
    let results = mallory.publish(&mut world, vec![mallory.gidc(), hold, debinding, early]);
    assert!(results[1..].iter().all(|result| *result != 0), "{results:?}");
    assert!(!holds(&world, 0, &mallory.me.ghid()));
    assert_eq!(world.state(0, app, thing.dynamic).expect("here"), b"first");
    let gone = pack(&Debinding::make(&thing.me, thing.dynamic));
    assert_eq!(peer.publish(&mut world, vec![gone]), [0]);
    assert_eq!(world.notices(0, app), vec![Notice::Deleted(thing.dynamic)]);
    world.state(0, app, thing.dynamic).expect_err("gone");
}

#[test]
fn a_static_object_is_bound_by_those_who_have_a_say() {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    world.ask(0, app, Request::RegisterApi(ApiId::JSON)).expect("registered");
    let peer = Peer::link(&mut world, 0, 9);
    let mallory = Peer::link(&mut world, 0, 66);
    let secret = Secret::new(Suite::Suite3, [1; 32], [2; 16]);
    let container = Container::seal(&peer.me, &secret, [3; 32], &content(b"fixed", false));
    let target = container.ghid();
    let binding = StaticBinding::make(&peer.me, target);
    let request = peer.request(&world, &RequestBody::Handshake { target, secret }, 1);
    let bundle = vec![peer.gidc(), request, pack(&binding), pack(&container)];
    assert_eq!(peer.publish(&mut world, bundle), [0, 0, 0, 0]);
    assert_eq!(world.notices(0, app).len(), 1);
    assert_eq!(world.state(0, app, target).expect("shared"), b"fixed");
    let hold = pack(&StaticBinding::make(&mallory.me, target));
    for objects in
        [vec![mallory.gidc(), hold.clone()], vec![mallory.gidc(), hold, pack(&container)]]
    {
        assert_ne!(mallory.publish(&mut world, objects)[1], 0);
    }
    let gone = pack(&Debinding::make(&peer.me, binding.ghid()));
    assert_eq!(peer.publish(&mut world, vec![gone]), [0]);
    assert_eq!(world.notices(0, app), vec![Notice::Deleted(target)]);
}

// Shares.

/// Every stranger knows the address: the recipients do.
#[test]
fn a_wrong_key_does_not_replace_a_right_one() {
    let (mut world, app, peer, thing) = follower(9);
    let own_dynamic = world.new_object(0, app, b"dynamic");
    let own_static = match world.ask(0, app, Request::New(record(b"static", false))) {
        Ok(Reply::Address(address)) => address,
        other => panic!("{other:?}"),
    };
    let frozen = match world.ask(0, app, Request::Freeze(thing.dynamic)) {
        Ok(Reply::Address(address)) => address,
        other => panic!("{other:?}"),
    };
    let mallory = Peer::link(&mut world, 0, 66);
    let mut number = 0;
    for target in [thing.dynamic, own_dynamic, own_static, frozen, world.nodes[0].account.user_id()]
    {
        for chain in [
            ChainKey::new(0, 0, [1; 32]),
            ChainKey::new(9, 1, [1; 32]),
            ChainKey::new(0, 1, [2; 32]),
        ] {
            for secret in [chain.to_handshake(), Secret::new(Suite::Suite3, [3; 32], [4; 16])] {
                number += 1;
                let body = RequestBody::Handshake { target, secret };
                let request = mallory.request(&world, &body, number);
                mallory.publish(&mut world, vec![mallory.gidc(), request]);
            }
        }
    }
    let (frame, container) = thing.step(2, b"second", 2);
    peer.publish(&mut world, vec![pack(&frame), pack(&container)]);
    for restart in [false, true] {
        let app = if restart {
            world.restart(0);
            world.app(0, 2)
        } else {
            app
        };
        assert_eq!(world.state(0, app, thing.dynamic).expect("followed"), b"second");
        assert_eq!(world.state(0, app, own_dynamic).expect("own"), b"dynamic");
        assert_eq!(world.state(0, app, own_static).expect("own"), b"static");
        assert_eq!(world.state(0, app, frozen).expect("frozen"), b"first");
        world.push(0, app, own_dynamic, b"dynamic");
    }
}

#[test]
fn a_wrong_key_that_came_first_is_replaced_by_the_right_one() {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    let mallory = Peer::link(&mut world, 0, 66);
    let thing = Thing::new(&identity(9), 9);
    let chain = ChainKey::new(0, 0, [1; 32]);
    let body = RequestBody::Handshake { target: thing.dynamic, secret: chain.to_handshake() };
    let request = mallory.request(&world, &body, 1);
    mallory.publish(&mut world, vec![mallory.gidc(), request]);
    let (_, thing) = shares(&mut world, 0, 9);
    assert_eq!(world.state(0, app, thing.dynamic).expect("readable"), b"first");
}

#[test]
fn junk_requests_look_stored_and_leave_nothing() {
    let (mut world, app, peer, thing) = follower(9);
    let before = world.nodes[0].disk.0.clone();
    let mallory = Peer::link(&mut world, 0, 66);
    let body = thing.handshake(1);
    // For somebody else; by an author that does not come along; not decryptable; reserved.
    let for_other =
        golix::object::Request::seal(&mallory.me, identity(9).identity(), &body, [1; 64])
            .expect("sealed");
    let authorless = mallory.request(&world, &body, 2);
    let own = golix::object::Request::seal(&mallory.me, &identity_of(&world, 0), &body, [3; 64])
        .expect("sealed");
    let reserved = mallory.request(&world, &RequestBody::Arbitrary(vec![1; 200]), 4);
    let ack = mallory.request(&world, &RequestBody::Ack { request: own.ghid(), status: 0 }, 5);
    let nak = mallory.request(&world, &RequestBody::Nak { request: own.ghid(), status: 0 }, 6);
    assert_eq!(mallory.publish(&mut world, vec![authorless]), [0]);
    for request in [pack(&for_other), reserved, ack, nak] {
        assert_eq!(mallory.publish(&mut world, vec![mallory.gidc(), request]), [0; 2]);
    }
    assert_eq!(world.nodes[0].disk.0, before);
    // A replay by a third party runs no handler, and looks like the others.
    let replay = peer.request(&world, &thing.handshake(1), 1);
    assert_eq!(mallory.publish(&mut world, vec![peer.gidc(), replay]), [0, 0]);
    assert_eq!(world.nodes[0].disk.0, before);
    assert!(world.notices(0, app).is_empty());
}

#[test]
fn only_the_recipient_answers_a_share() {
    let (mut world, _) = seeker(9);
    let app = world.app(0, 2);
    world.ask(0, app, Request::RegisterToken(None)).expect("a token");
    let object = world.new_object(0, app, b"mine");
    let recipient = identity(9).ghid();
    world.ask(0, app, Request::Share { object, recipient }).expect("promised");
    let peer = Peer::link(&mut world, 0, 9);
    peer.prove(&mut world);
    let requests: Vec<Ghid> = peer
        .heard(&mut world)
        .iter()
        .filter_map(|message| match message {
            Message::Publish { objects, .. } => Some(objects[1].to_vec()),
            _ => None,
        })
        .map(|bytes| golix::object::Unverified::parse(&bytes).expect("a request").ghid())
        .collect();
    assert_eq!(requests.len(), 2);
    let mallory = Peer::link(&mut world, 0, 66);
    for body in [
        RequestBody::Ack { request: requests[1], status: 0 },
        RequestBody::Nak { request: requests[1], status: 0 },
    ] {
        let forged = mallory.request(&world, &body, 1);
        mallory.publish(&mut world, vec![mallory.gidc(), forged]);
    }
    assert!(world.notices(0, app).is_empty());
    // The recipient's answer counts over any link, once.
    let answer = peer.request(&world, &RequestBody::Nak { request: requests[1], status: 0 }, 9);
    for _ in 0..2 {
        mallory.publish(&mut world, vec![peer.gidc(), answer.clone()]);
    }
    assert_eq!(world.notices(0, app), vec![Notice::ShareFailed { object, recipient }]);
}

#[test]
fn a_flood_of_shares_is_bounded() {
    let mut world = World::new(1);
    let peer = Peer::link(&mut world, 0, 9);
    let share = |world: &mut World, number: u64| {
        let target = Ghid::of(&number.to_be_bytes());
        let secret = Secret::new(Suite::Suite3, [1; 32], [2; 16]);
        let request = peer.request(world, &RequestBody::Handshake { target, secret }, number);
        peer.publish(world, vec![peer.gidc(), request])[1]
    };
    let max = limits::SHARES_WAITING_PER_SENDER as u64;
    for number in 0..max {
        assert_eq!(share(&mut world, number), 0);
    }
    world.answers_leave();
    let kept = |world: &World| {
        let rows = world.nodes[0].disk.0.keys();
        rows.filter(|(table, _)| *table != Table::Outbox).cloned().collect::<Vec<_>>()
    };
    let before = kept(&world);
    for number in max..max + 20 {
        assert_eq!(share(&mut world, number), 0, "it says nothing of what is inside");
    }
    assert_eq!(kept(&world), before, "of a refused share only the answer is kept");
    // Others are still heard.
    let (_, thing) = shares(&mut world, 0, 10);
    let app = world.app(0, 1);
    assert_eq!(world.state(0, app, thing.dynamic).expect("shared"), b"first");
}

// Messages that nobody asked for.

#[test]
fn answers_without_a_question_are_ignored() {
    let (mut world, app, peer, thing) = follower(9);
    let (frame, container) = thing.step(2, b"second", 2);
    peer.heard(&mut world);
    let before = world.nodes[0].disk.0.clone();
    for message in [
        Message::Published { id: 9, results: vec![0; OBJECTS_MAX] },
        Message::Published { id: u32::MAX, results: vec![] },
        Message::Object { id: 9, objects: vec![pack(&frame), pack(&container)] },
        Message::Pong { id: 5 },
        Message::EventAck { seq: 0 },
        Message::EventAck { seq: u64::MAX },
        Message::Need { ids: vec![[1; 32].into(); LIST_MAX] },
        Message::Unsubscribe { addresses: vec![Address(thing.dynamic); LIST_MAX] },
    ] {
        peer.say(&mut world, message);
    }
    assert!(peer.heard(&mut world).is_empty());
    assert_eq!(world.nodes[0].disk.0, before);
    assert!(peer.is_up(&world), "{:?}", world.closed);
    assert!(world.notices(0, app).is_empty());
}

#[test]
fn cursors_are_kept_for_devices_that_we_follow_only() {
    let (mut world, _, peer, _) = follower(9);
    let cursors = |world: &World| {
        world.nodes[0].disk.0.keys().filter(|(table, _)| *table == Table::Cursors).count()
    };
    let event = |seq| Message::Event {
        cursor: Cursor { epoch: 1, seq },
        address: Address(Ghid::of(b"x")),
        objects: vec![],
    };
    for seed in 60..90 {
        let stranger = Peer::link(&mut world, 0, seed);
        stranger.say(&mut world, event(u64::MAX));
        assert_eq!(stranger.heard(&mut world).last(), Some(&Message::EventAck { seq: u64::MAX }));
    }
    // Nor for those who call themselves persisters.
    for seed in 60..90 {
        let mut stranger = Peer::silent(&mut world, 0, seed);
        stranger.role = Role::Persister { epoch: 1 };
        stranger.greet(&mut world);
        stranger.say(&mut world, event(7));
    }
    assert_eq!(cursors(&world), 0);
    peer.say(&mut world, event(5));
    assert_eq!(cursors(&world), 1);
}

#[test]
fn comparisons_of_garbage_end_the_link_and_nothing_else() {
    let (mut world, app, ..) = follower(9);
    let mut entropy = Seeded(5);
    for round in 0..3_000_usize {
        let mut peer = Peer::silent(&mut world, 0, 66);
        peer.greet(&mut world);
        let mut body = vec![0; round % 200];
        entropy.fill(&mut body);
        if let Some(first) = body.first_mut()
            && round % 8 != 0
        {
            *first = 0x61;
        }
        let body = Packed::from(body);
        peer.say(&mut world, Message::Reconcile { body, subscriber: round % 3 != 0 });
        world.disconnect(peer.link);
        world.closed.clear();
    }
    let peer = Peer::link(&mut world, 0, 66);
    let body = Packed::from(vec![0x61; 2_000_000]);
    peer.say(&mut world, Message::Reconcile { body, subscriber: true });
    assert!(!peer.is_up(&world));
    assert!(world.ask(0, app, Request::Whoami).is_ok());
}

#[test]
fn a_comparison_over_addresses_that_nobody_knows_is_cheap() {
    let mut world = World::new(1);
    let peer = Peer::link(&mut world, 0, 66);
    for round in 0..90_u64 {
        let addresses = (0..LIST_MAX as u64)
            .map(|number| Address(Ghid::of(&(round << 32 | number).to_be_bytes())))
            .collect();
        let cursor = Some(Cursor { epoch: 0, seq: 0 });
        peer.say(&mut world, Message::Subscribe { addresses, cursor });
    }
    assert!(peer.is_up(&world), "{:?}", world.closed);
    let body = Packed::from(vec![0x61, 0, 0, 2, 0]);
    let before = world.nodes[0].disk.1.load(Ordering::Relaxed);
    peer.say(&mut world, Message::Reconcile { body, subscriber: true });
    let reads = world.nodes[0].disk.1.load(Ordering::Relaxed) - before;
    assert!(reads <= 8 * limits::SUBSCRIPTIONS_UNKNOWN as u64, "{reads} reads for one message");
}

#[test]
fn going_back_in_the_feed_ends_some_time() {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    let objects: Vec<Ghid> = (0..200).map(|_| world.new_object(0, app, b"state")).collect();
    let (mut honest, mut hostile) = (0, 0);
    let peer = Peer::link(&mut world, 0, 66);
    peer.say(&mut world, Message::Subscribe { addresses: vec![Address(objects[0])], cursor: None });
    let Some(Message::Event { cursor, .. }) = peer.heard(&mut world).pop() else { panic!("told") };
    let cursor = Some(Cursor { seq: 0, ..cursor });
    for round in 0..4 * limits::REWINDS_PER_LINK {
        let before = world.nodes[0].disk.1.load(Ordering::Relaxed);
        let addresses = vec![Address(Ghid::of(&round.to_be_bytes()))];
        peer.say(&mut world, Message::Subscribe { addresses, cursor });
        let reads = world.nodes[0].disk.1.load(Ordering::Relaxed) - before;
        *if round < limits::REWINDS_PER_LINK { &mut honest } else { &mut hostile } += reads;
    }
    assert!(hostile <= 4 * 3 * limits::REWINDS_PER_LINK as u64, "{honest} {hostile}");
    assert!(peer.is_up(&world));
}

#[test]
fn a_subscriber_that_never_acknowledges_is_sent_a_window() {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    let objects: Vec<Ghid> =
        (0..300).map(|number| world.new_object(0, app, format!("{number}").as_bytes())).collect();
    let peer = Peer::link(&mut world, 0, 66);
    for _ in 0..200 {
        let addresses = objects.iter().map(|object| Address(*object)).collect();
        peer.say(&mut world, Message::Subscribe { addresses, cursor: None });
    }
    for round in 0..5 {
        for object in &objects {
            world.push(0, app, *object, format!("{round}").as_bytes());
        }
    }
    let events: Vec<_> = peer
        .heard(&mut world)
        .into_iter()
        .filter_map(|message| match message {
            Message::Event { cursor, .. } => Some(cursor.seq),
            _ => None,
        })
        .collect();
    assert_eq!(events.len(), limits::EVENTS_IN_FLIGHT);
    // Acknowledged out of order: no new window. In order: what waited, once each.
    for _ in 0..1_000 {
        peer.say(&mut world, Message::EventAck { seq: 77 });
    }
    assert!(peer.heard(&mut world).is_empty());
    let mut open = events;
    let mut latest = std::collections::BTreeMap::new();
    let mut sent = open.len();
    while !open.is_empty() {
        for seq in std::mem::take(&mut open) {
            peer.say(&mut world, Message::EventAck { seq });
        }
        for message in peer.heard(&mut world) {
            if let Message::Event { cursor, address, objects } = message {
                open.push(cursor.seq);
                sent += 1;
                latest.insert(address, objects);
            }
        }
        assert!(sent < 1_000, "each address at most once beside the feed and once in it");
    }
    assert_eq!(latest.len(), 300);
    for object in &objects {
        assert_eq!(
            Some(&latest[&Address(*object)]),
            Some(&{
                let mut bundle = peer.get(&mut world, *object);
                bundle.remove(0);
                bundle
            })
        );
    }
}

#[test]
fn too_many_subscriptions_end_the_link() {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    let object = world.new_object(0, app, b"state");
    let peer = Peer::link(&mut world, 0, 66);
    for _ in 0..200 {
        let addresses = vec![Address(object); LIST_MAX];
        peer.say(&mut world, Message::Subscribe { addresses, cursor: None });
    }
    assert!(peer.is_up(&world), "one address is one subscription");
    let heard = peer.heard(&mut world);
    let events = heard.iter().filter(|message| matches!(message, Message::Event { .. })).count();
    assert_eq!(events, limits::EVENTS_IN_FLIGHT, "bounded by the window");
}

#[test]
fn unknown_addresses_that_are_let_go_count_no_more() {
    let mut world = World::new(1);
    let peer = Peer::link(&mut world, 0, 66);
    let unknown = |batch: usize| -> Vec<Address> {
        (0..limits::SUBSCRIPTIONS_UNKNOWN)
            .map(|number| Address(Ghid::of(format!("{batch} {number}").as_bytes())))
            .collect()
    };
    let subscribed = |world: &mut World| {
        peer.heard(world);
        peer.say(world, Message::Subscriptions { id: 5, after: None });
        peer.heard(world)
            .into_iter()
            .find_map(|message| match message {
                Message::Addresses { addresses, .. } => Some(addresses.len()),
                _ => None,
            })
            .expect("an answer")
    };
    for round in 0..3 {
        let addresses = unknown(round);
        for addresses in addresses.chunks(LIST_MAX) {
            let addresses = addresses.to_vec();
            peer.say(&mut world, Message::Subscribe { addresses, cursor: None });
        }
        let further = vec![Address(Ghid::of(b"one more"))];
        peer.say(&mut world, Message::Subscribe { addresses: further, cursor: None });
        assert_eq!(subscribed(&mut world), limits::SUBSCRIPTIONS_UNKNOWN.min(LIST_MAX));
        if round == 1 {
            peer.say(&mut world, Message::Disconnect { id: 6 });
        } else {
            peer.say(&mut world, Message::Unsubscribe { addresses });
        }
        assert_eq!(subscribed(&mut world), 0);
    }
}

#[test]
fn what_is_served_to_strangers_is_sealed() {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    let object = world.new_object(0, app, b"the plain state");
    let peer = Peer::link(&mut world, 0, 66);
    let (user_id, me) = (world.nodes[0].account.user_id(), world.nodes[0].account.fingerprint());
    for address in [object, user_id, me, Ghid::of(b"nothing")] {
        for object in peer.get(&mut world, address) {
            assert!(!object.windows(15).any(|window| window == b"the plain state"));
        }
    }
    assert!(peer.get(&mut world, Ghid::of(b"nothing")).is_empty());
    // Nobody moves the root of an account but its owner.
    let before = stored(&world.nodes[0].disk);
    let birth = Ghid::of(b"birth");
    let container =
        Container::seal(&peer.me, &Secret::new(Suite::Suite3, [1; 32], [2; 16]), [3; 32], b"root");
    DynamicBinding::next(&peer.me, user_id, 1 << 20, &[container.ghid(), birth])
        .expect_err("the address proves its owner");
    let gone = pack(&Debinding::make(&peer.me, user_id));
    assert_ne!(peer.publish(&mut world, vec![peer.gidc(), gone])[1], 0);
    assert_eq!(stored(&world.nodes[0].disk), before);
}

// Silence.

#[test]
fn one_silent_source_delays_nobody_for_long() {
    let (mut world, app, peer, thing) = follower(9);
    // It answers pings and nothing else.
    world.nodes[0].answers.clear();
    let mut asked = Vec::new();
    for number in 0..40_u16 {
        let token = hypergolix_ipc::RequestToken(1_000 + number);
        world.input(
            0,
            Input::AppRequest { connection: app, token, request: Request::Sync(thing.dynamic) },
        );
        asked.push(token);
        world.advance(Duration::from_millis(500));
        peer.say(&mut world, Message::Ping { id: 1 });
        // Each was answered after two seconds, although others came behind it.
        for (at, token) in asked.iter().enumerate() {
            let answered = world.nodes[0].answers.contains_key(&(app, *token));
            assert_eq!(answered, at + 4 <= asked.len(), "{at} of {}", asked.len());
        }
    }
    assert!(peer.is_up(&world));
}

#[test]
fn applications_hear_the_news_before_sync_is_answered() {
    let (mut world, app, peer, thing) = follower(9);
    world.nodes[0].spoken = Some(Vec::new());
    let token = hypergolix_ipc::RequestToken(500);
    peer.heard(&mut world);
    let request = Request::Sync(thing.dynamic);
    world.input(0, Input::AppRequest { connection: app, token, request });
    let Some(Message::Get { id, .. }) = peer.heard(&mut world).pop() else { panic!("asked") };
    let (frame, container) = thing.step(2, b"second", 2);
    peer.say(&mut world, Message::Object { id, objects: vec![pack(&frame), pack(&container)] });
    let spoken = world.nodes[0].spoken.take().expect("kept");
    assert!(
        matches!(
            spoken.as_slice(),
            [
                hypergolix_engine::Effect::Notify { .. },
                hypergolix_engine::Effect::Answer { answer: Ok(Reply::Done), .. }
            ]
        ),
        "{spoken:?}"
    );
}

// Everything twice, and everything broken.

#[test]
fn messages_that_come_twice_do_nothing_twice() {
    let mut world = World::new(2);
    world.twice = true;
    let (alice, bob) = (world.app(0, 1), world.app(1, 1));
    world.ask(0, alice, Request::RegisterToken(None)).expect("a token");
    world.ask(1, bob, Request::RegisterApi(ApiId::JSON)).expect("registered");
    let link = world.connect(0, 1);
    let recipient = world.nodes[1].account.fingerprint();
    let object = world.new_object(0, alice, b"0");
    world.ask(0, alice, Request::Share { object, recipient }).expect("shared");
    assert_eq!(world.notices(1, bob).len(), 1);
    world.answers_leave();
    assert_eq!(world.notices(0, alice), vec![Notice::ShareSucceeded { object, recipient }]);
    assert_eq!(world.state(1, bob, object).expect("shared"), b"0");
    for number in 1..50 {
        world.push(0, alice, object, format!("{number}").as_bytes());
    }
    let seen = states(&world.notices(1, bob));
    assert_eq!(seen.len(), 49);
    assert_eq!(seen.last().expect("some"), b"49");
    world.disconnect(link);
    world.push(0, alice, object, b"later");
    world.connect(0, 1);
    assert_eq!(states(&world.notices(1, bob)), [b"later".to_vec()]);
    world.ask(0, alice, Request::Delete(object)).expect("deleted");
    assert_eq!(world.notices(1, bob), vec![Notice::Deleted(object)]);
    assert!(world.closed.is_empty(), "{:?}", world.closed);
}

#[test]
fn broken_messages_never_panic_and_never_stop_the_node() {
    let (mut world, app, peer, thing) = follower(9);
    let (frame, container) = thing.step(2, b"second", 2);
    let ack = peer.request(&world, &RequestBody::Ack { request: frame.ghid(), status: 1 }, 3);
    let address = Address(thing.dynamic);
    let mut messages = vec![
        Message::Hello { version: VERSION, role: Role::Node, nonce: [1; 32] },
        Message::Interests { tags: vec![[1; 16]; 3] },
        peer.proof(&world),
        Message::Publish { id: 1, objects: vec![peer.gidc(), pack(&frame), pack(&container)] },
        Message::Publish { id: 1, objects: vec![peer.gidc(), ack] },
        Message::Published { id: 1, results: vec![0, 6, 1] },
        Message::Get { id: 1, address },
        Message::Object { id: 1, objects: vec![pack(&frame)] },
        Message::Subscribe { addresses: vec![address], cursor: None },
        Message::Subscribe { addresses: vec![address], cursor: Some(Cursor { epoch: 1, seq: 1 }) },
        Message::Unsubscribe { addresses: vec![address] },
        Message::Event {
            cursor: Cursor { epoch: u64::MAX, seq: u64::MAX },
            address,
            objects: vec![pack(&frame)],
        },
        Message::EventAck { seq: 1 },
        Message::Reconcile { body: Packed::from(vec![0x61, 0, 0, 2, 0]), subscriber: true },
        Message::Need { ids: vec![[1; 32].into()] },
        Message::Ping { id: 1 },
        Message::Pong { id: 1 },
    ];
    messages.extend(peer.heard(&mut world));
    world.disconnect(peer.link);
    let encoded: Vec<Vec<u8>> = messages.iter().map(Message::encode).collect();
    let mut entropy = Seeded(11);
    let mut random = |below: usize| {
        let mut bytes = [0; 8];
        entropy.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % below as u64) as usize
    };
    let mut peer = Peer::link(&mut world, 0, 9);
    let mut read = 0;
    for _ in 0..30_000 {
        let mut bytes = encoded[random(encoded.len())].clone();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] ^= 1 << random(8),
                1 => bytes[at] = random(256) as u8,
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, random(256) as u8),
            }
        }
        let Ok(message) = Message::decode(&bytes) else { continue };
        read += 1;
        world.input(0, Input::LinkMessage { link: peer.link, message });
        if !peer.is_up(&world) || random(200) == 0 {
            world.disconnect(peer.link);
            peer = Peer::link(&mut world, 0, 9);
        }
    }
    assert!(read > 1_000, "{read} of 30000 could be read");
    let seen = world.state(0, app, thing.dynamic).expect("still here");
    assert!(seen == b"first" || seen == b"second");
}

#[test]
fn an_event_that_was_lost_takes_no_room_for_ever() {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    let objects: Vec<Ghid> = (0..100).map(|it| world.new_object(0, app, &[it])).collect();
    let peer = Peer::link(&mut world, 0, 67);
    let addresses = objects.iter().map(|object| Address(*object)).collect();
    let cursor = Some(Cursor { epoch: 0, seq: 0 });
    peer.say(&mut world, Message::Subscribe { addresses, cursor });
    peer.heard(&mut world);
    for round in 0..10_u8 {
        for object in &objects {
            world.push(0, app, *object, &[round]);
        }
        let heard = peer.heard(&mut world).into_iter();
        let events: Vec<u64> = heard
            .filter_map(|message| match message {
                Message::Event { cursor, .. } => Some(cursor.seq),
                _ => None,
            })
            .collect();
        assert_eq!(events.len(), 100, "round {round}");
        // Only the last one arrived.
        peer.say(&mut world, Message::EventAck { seq: events[99] });
    }
}

#[test]
fn whoever_compares_without_end_is_let_go() {
    let mut world = World::new(1);
    let stranger = Peer::link(&mut world, 0, 9);
    let addresses: Vec<Address> =
        (0..1_000_u32).map(|number| Address(Ghid::of(&number.to_be_bytes()))).collect();
    stranger.say(&mut world, Message::Subscribe { addresses, cursor: None });
    let body = Packed::from(vec![0x61, 0, 0, 2, 0]);
    let mut sent = 0;
    while stranger.is_up(&world) {
        stranger.say(&mut world, Message::Reconcile { body: body.clone(), subscriber: true });
        sent += 1;
        assert!(sent < 1_000, "nobody ends it");
    }
}
