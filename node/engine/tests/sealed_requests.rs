//! Requests: what can be learnt from how they are answered, and what opening them costs.

mod common;

use std::time::Duration;

use common::World;
use common::peer::{Peer, Thing, identity, identity_of, pack, shares};
use golix::object::{Request as Golix, RequestBody};
use golix::{Ghid, Secret, Suite};
use hypergolix_engine::message::Packed;
use hypergolix_engine::{Message, Table, limits};
use hypergolix_ipc::{ApiId, Request};

fn handshake(number: u64) -> RequestBody {
    let secret = Secret::new(Suite::Suite3, [1; 32], [2; 16]);
    RequestBody::Handshake { target: Ghid::of(&number.to_be_bytes()), secret }
}

/// A handshake that opens, and five requests that come to nothing, each for another reason.
fn of_all_kinds(world: &World, peer: &Peer) -> Vec<(&'static str, Vec<Packed>)> {
    let recipient = identity_of(world, 0);
    let other = identity(9);
    let seal = |body: &RequestBody, recipient: &golix::Identity, seed: u8| {
        Golix::seal(&peer.me, recipient, body, [seed; 64]).expect("sealed")
    };
    // Everything that a stranger can check is right, and the box does not open.
    let mut broken = seal(&handshake(2), &recipient, 2).bytes()[..586].to_vec();
    broken[300] ^= 1;
    broken.push(1);
    let address = Ghid::of(&broken);
    broken.extend_from_slice(&address.as_bytes()[1..]);
    let outer = [&b"golix-3 garq outer\0"[..], address.as_bytes()].concat();
    broken.extend_from_slice(&Ghid::of(&outer).as_bytes()[1..]);
    let reserved = RequestBody::Arbitrary(vec![7; 100]);
    let answer = RequestBody::Ack { request: address, status: 0 };
    let with_author = |request| vec![peer.gidc(), request];
    vec![
        ("good", with_author(pack(&seal(&handshake(1), &recipient, 1)))),
        ("damaged inside", with_author(Packed::from(broken))),
        ("for somebody else", with_author(pack(&seal(&handshake(3), other.identity(), 3)))),
        ("of a reserved kind", with_author(pack(&seal(&reserved, &recipient, 5)))),
        ("an answer to nothing", with_author(pack(&seal(&answer, &recipient, 6)))),
        ("of an author that nobody knows", vec![pack(&seal(&handshake(4), &recipient, 4))]),
    ]
}

#[test]
fn the_answer_says_nothing_of_what_is_inside() {
    let mut world = World::new(1);
    world.lazy = true;
    let peer = Peer::link(&mut world, 0, 9);
    // The good one has consequences that its author may see: it comes from somebody to follow.
    for (kind, objects) in of_all_kinds(&world, &peer).into_iter().skip(1) {
        let count = objects.len();
        // It is answered while every request is still closed, so its content cannot matter.
        assert_eq!(peer.publish(&mut world, objects), vec![0; count], "{kind}");
        assert_eq!(world.opened, 0);
    }
    world.open_requests();
    assert_eq!(world.opened, 4, "what is for somebody else is not opened");
    world.answers_leave();
    assert_eq!(peer.heard(&mut world), [], "silence, for every reason alike");
    assert!(world.nodes[0].disk.0.keys().all(|(table, _)| *table != Table::Inbox));
}

#[test]
fn answers_leave_on_a_schedule() {
    for late in [0, 137, 999] {
        let mut world = World::new(1);
        world.advance(Duration::from_millis(late));
        let peer = Peer::link(&mut world, 0, 9);
        let good = of_all_kinds(&world, &peer).swap_remove(0).1;
        assert_eq!(peer.publish(&mut world, good), [0, 0]);
        peer.heard(&mut world);
        // What was shared is looked for at once; the node looks for its author anyway.
        peer.prove(&mut world);
        let answers = |world: &mut World| {
            let heard = peer.heard(world);
            heard.iter().filter(|message| matches!(message, Message::Publish { .. })).count()
        };
        let missing = Duration::from_millis(1_000 - late);
        world.advance(missing.saturating_sub(Duration::from_millis(1)));
        assert_eq!(answers(&mut world), 0, "{late}");
        world.advance(Duration::from_millis(1));
        assert_eq!(answers(&mut world), 1, "{late}");
    }
}

#[test]
fn requests_are_opened_at_a_bounded_rate() {
    let mut world = World::new(1);
    let peer = Peer::link(&mut world, 0, 9);
    let mut full = 0;
    for number in 0..3_000 {
        let request = peer.request(&world, &handshake(number), number);
        // Without its author's identity nothing comes of it, which saves time here.
        full += peer.publish(&mut world, vec![request])[0] as usize;
    }
    assert_eq!(world.opened, 1_000, "a burst, while no time passes");
    assert_eq!(full, 2_000 - limits::INBOX_PER_DEVICE, "the rest has to come again");
    world.advance(Duration::from_millis(40));
    assert!((1_039..=1_041).contains(&world.opened), "{}", world.opened);
}

#[test]
fn strangers_make_room_for_those_we_know() {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    world.ask(0, app, Request::RegisterApi(ApiId::JSON)).expect("registered");
    let (peer, _) = shares(&mut world, 0, 9);
    world.notices(0, app);
    world.lazy = true;
    let mut taken = 0;
    for seed in 100..132 {
        let stranger = Peer::link(&mut world, 0, seed);
        for number in 0..40 {
            let request = stranger.request(&world, &handshake(number), number);
            taken += usize::from(stranger.publish(&mut world, vec![request]) == [0]);
        }
    }
    assert_eq!(taken, limits::INBOX_REQUESTS, "then it is full");
    let thing = Thing::new(&peer.me, 77);
    let (frame, container) = thing.step(1, b"first", 1);
    let request = peer.request(&world, &thing.handshake(1), 77);
    let objects = vec![peer.gidc(), request, pack(&frame), pack(&container)];
    assert_eq!(peer.publish(&mut world, objects), [0; 4]);
    // Those we know come first, after what is being opened already.
    for _ in 0..=limits::OPENING_AT_ONCE {
        world.open_next();
    }
    assert_eq!(world.notices(0, app).len(), 1);
}

#[test]
fn a_request_that_was_answered_for_survives_a_crash() {
    let mut world = World::new(1);
    world.lazy = true;
    let peer = Peer::link(&mut world, 0, 9);
    let thing = Thing::new(&peer.me, 1);
    let (frame, container) = thing.step(1, b"first", 1);
    let request = peer.request(&world, &thing.handshake(1), 1);
    let objects = vec![peer.gidc(), request, pack(&frame), pack(&container)];
    assert_eq!(peer.publish(&mut world, objects), [0; 4]);
    world.to_open.clear();
    world.lazy = false;
    world.restart(0);
    world.run();
    let app = world.app(0, 5);
    assert_eq!(world.state(0, app, thing.dynamic).expect("shared"), b"first");
}

#[test]
fn an_outer_field_that_is_wrong_keeps_nothing() {
    let mut world = World::new(1);
    let peer = Peer::link(&mut world, 0, 9);
    let mut request = peer.request(&world, &handshake(1), 1).into_vec();
    *request.last_mut().expect("long") ^= 1;
    let before = world.nodes[0].disk.0.clone();
    assert_eq!(peer.publish(&mut world, vec![peer.gidc(), Packed::from(request)]), [0, 3]);
    assert_eq!(world.nodes[0].disk.0, before);
    let two = vec![peer.request(&world, &handshake(1), 1), peer.request(&world, &handshake(2), 2)];
    peer.say(&mut world, Message::Publish { id: 1, objects: two });
    assert!(!peer.is_up(&world), "a message has one request");
    assert_eq!(world.nodes[0].disk.0, before);
}
