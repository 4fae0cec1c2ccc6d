//! Every request of an application: what it answers, what others hear, and in which order.

#![allow(missing_docs)]

mod common;

use std::sync::Arc;

use common::peer::{Peer, Thing, identity, pack, shares};
use common::{World, record};
use golix::Ghid;
use hypergolix_engine::{Effect, Input, Table, limits};
use hypergolix_ipc::{
    ApiId, AppToken, ConnectionId, ErrorCode, IpcError, Notice, NoticeId, ObjectRecord, Reply,
    Request,
};

const FFFF: ErrorCode = ErrorCode::IpcError;
const GONE: ErrorCode = ErrorCode::DoesNotExist;

fn code(answer: Result<Reply, IpcError>) -> ErrorCode {
    answer.expect_err("refused").code
}

fn update(address: Ghid, state: &[u8]) -> ObjectRecord {
    ObjectRecord { address: Some(address), ..record(state, false) }
}

fn made(answer: Result<Reply, IpcError>) -> Ghid {
    match answer {
        Ok(Reply::Address(address)) => address,
        other => panic!("{other:?}"),
    }
}

fn got(answer: Result<Reply, IpcError>) -> ObjectRecord {
    match answer {
        Ok(Reply::Record(record)) => record,
        other => panic!("{other:?}"),
    }
}

fn token(world: &mut World, app: ConnectionId, asked: Option<AppToken>) -> AppToken {
    match world.ask(0, app, Request::RegisterToken(asked)) {
        Ok(Reply::Token(token)) => token,
        other => panic!("{other:?}"),
    }
}

/// Lets an application acknowledge everything that it was sent and did not answer.
fn wake(world: &mut World, node: usize, app: ConnectionId, from: u64) {
    world.nodes[node].silent.remove(&app);
    for notice in from..from + limits::NOTICES_IN_FLIGHT as u64 {
        let notice = NoticeId(notice);
        world.input(node, Input::AppAcknowledged { connection: app, notice, accepted: true });
    }
}

/// Makes an application silent, with as many notices under way as there may be.
fn fill(world: &mut World, node: usize, busy: ConnectionId, other: ConnectionId) {
    world.notices(node, busy);
    world.nodes[node].silent.insert(busy);
    let object = world.new_object(node, other, b"0");
    got(world.ask(node, busy, Request::Get(object)));
    for _ in 0..limits::NOTICES_IN_FLIGHT {
        world.push(node, other, object, b"1");
    }
    assert_eq!(world.notices(node, busy).len(), limits::NOTICES_IN_FLIGHT);
}

// Tokens and startup objects.

#[test]
fn tokens() {
    let mut world = World::new(1);
    let (a, b) = (world.app(0, 1), world.app(0, 2));
    for request in [
        Request::StartupObject,
        Request::SetStartup(Ghid::of(b"x")),
        Request::ClearStartup,
        Request::RegisterToken(Some(AppToken([9; 16]))),
    ] {
        assert_eq!(code(world.ask(0, a, request)), FFFF);
    }
    let of_a = token(&mut world, a, None);
    assert_ne!(of_a, AppToken::NULL);
    for asked in [None, Some(of_a), Some(AppToken([9; 16]))] {
        assert_eq!(code(world.ask(0, a, Request::RegisterToken(asked))), FFFF);
    }
    assert_eq!(code(world.ask(0, b, Request::RegisterToken(Some(of_a)))), FFFF);
    // A refused attempt changes nothing.
    let of_b = token(&mut world, b, None);
    assert_ne!(of_a, of_b);
    assert_eq!(world.ask(0, a, Request::StartupObject), Ok(Reply::Startup(None)));
    // Free as soon as its connection is gone, and known after a restart.
    world.input(0, Input::AppDisconnected { connection: a });
    let c = world.app(0, 3);
    token(&mut world, c, Some(of_a));
    world.restart(0);
    let d = world.app(0, 4);
    token(&mut world, d, Some(of_b));
    assert_eq!(
        world.ask(0, d, Request::Whoami),
        Ok(Reply::Fingerprint(world.nodes[0].account.fingerprint()))
    );
}

#[test]
fn startup_objects() {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    let known = token(&mut world, app, None);
    assert_eq!(code(world.ask(0, app, Request::ClearStartup)), FFFF);
    let object = world.new_object(0, app, b"config");
    assert_eq!(world.ask(0, app, Request::SetStartup(object)), Ok(Reply::Done));
    assert_eq!(code(world.ask(0, app, Request::SetStartup(Ghid::of(b"other")))), FFFF);
    world.ask(0, app, Request::Delete(object)).expect("deleted");
    world.restart(0);
    let app = world.app(0, 2);
    token(&mut world, app, Some(known));
    // The address stays, also of an object that is gone.
    assert_eq!(world.ask(0, app, Request::StartupObject), Ok(Reply::Startup(Some(object))));
    assert_eq!(world.ask(0, app, Request::ClearStartup), Ok(Reply::Done));
    assert_eq!(world.ask(0, app, Request::StartupObject), Ok(Reply::Startup(None)));
    assert_eq!(world.ask(0, app, Request::SetStartup(Ghid::of(b"never seen"))), Ok(Reply::Done));
}

// Refusals.

#[test]
fn what_is_not_there() {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    let deleted = world.new_object(0, app, b"deleted");
    world.ask(0, app, Request::Delete(deleted)).expect("deleted");
    let recipient = identity(9).ghid();
    let me = world.nodes[0].account.fingerprint();
    let root = world.nodes[0].account.user_id();
    for object in [Ghid::of(b"unknown"), deleted, me, root] {
        for request in [
            Request::Get(object),
            Request::Update(update(object, b"x")),
            Request::Sync(object),
            Request::Freeze(object),
            Request::Hold(object),
            Request::Delete(object),
            Request::Share { object, recipient },
        ] {
            assert_eq!(code(world.ask(0, app, request.clone())), GONE, "{request:?}");
        }
        for _ in 0..2 {
            assert_eq!(world.ask(0, app, Request::Discard(object)), Ok(Reply::Done));
        }
    }
    assert_eq!(code(world.ask(0, app, Request::Update(record(b"no address", true)))), FFFF);
    for _ in 0..2 {
        assert_eq!(world.ask(0, app, Request::RegisterApi(ApiId::OBJ)), Ok(Reply::Done));
    }
    for _ in 0..2 {
        assert_eq!(world.ask(0, app, Request::DeregisterApi(ApiId::OBJ)), Ok(Reply::Done));
    }
}

#[test]
fn what_may_not_be_done() {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    let before = world.nodes[0].disk.0.clone();
    let mut private = record(b"x", true);
    private.private = true;
    let mut link = record(b"x", true);
    link.link = true;
    let too_large = record(&vec![0; hypergolix_ipc::limits::STATE_MAX + 1], true);
    for record in [private.clone(), link.clone(), too_large.clone()] {
        assert_eq!(code(world.ask(0, app, Request::New(record.clone()))), FFFF);
        let record = ObjectRecord { dynamic: false, ..record };
        assert_eq!(code(world.ask(0, app, Request::New(record))), FFFF);
    }
    assert_eq!(world.nodes[0].disk.0, before, "nothing stored");

    let fixed = made(world.ask(0, app, Request::New(record(b"fixed", false))));
    assert_eq!(code(world.ask(0, app, Request::Update(update(fixed, b"x")))), FFFF);
    assert_eq!(code(world.ask(0, app, Request::Freeze(fixed))), FFFF);

    let object = world.new_object(0, app, b"here");
    for record in [private, link, too_large] {
        let record = ObjectRecord { address: Some(object), ..record };
        assert_eq!(code(world.ask(0, app, Request::Update(record))), FFFF);
    }
    assert_eq!(world.state(0, app, object).expect("unchanged"), b"here");
    let me = world.nodes[0].account.fingerprint();
    for recipient in [me, object, fixed] {
        assert_eq!(code(world.ask(0, app, Request::Share { object, recipient })), FFFF);
    }
}

#[test]
fn foreign_objects_belong_to_others() {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    let (peer, thing) = shares(&mut world, 0, 9);
    assert_eq!(world.state(0, app, thing.dynamic).expect("shared"), b"first");
    let answer = world.ask(0, app, Request::Update(update(thing.dynamic, b"x")));
    assert_eq!(code(answer), ErrorCode::InconsistentAuthor);
    assert_eq!(code(world.ask(0, app, Request::Delete(thing.dynamic))), FFFF);
    // What was refused changed nothing: news still arrive.
    let (frame, container) = thing.step(2, b"second", 2);
    peer.publish(&mut world, vec![pack(&frame), pack(&container)]);
    assert_eq!(world.notices(0, app).len(), 1);
}

#[test]
fn the_largest_state_goes_through() {
    let mut world = World::new(1);
    let (app, other) = (world.app(0, 1), world.app(0, 2));
    let state: Arc<[u8]> = vec![7; hypergolix_ipc::limits::STATE_MAX].into();
    for dynamic in [true, false] {
        let record = ObjectRecord { state: Arc::clone(&state), ..record(b"", dynamic) };
        let object = made(world.ask(0, app, Request::New(record.clone())));
        assert_eq!(got(world.ask(0, other, Request::Get(object))).state, state);
        if dynamic {
            let record = ObjectRecord { address: Some(object), ..record };
            assert_eq!(world.ask(0, app, Request::Update(record)), Ok(Reply::Done));
            assert_eq!(world.notices(0, other).len(), 1);
            let copy = made(world.ask(0, app, Request::Freeze(object)));
            assert_eq!(got(world.ask(0, app, Request::Get(copy))).state, state);
        }
    }
    let empty = world.new_object(0, app, b"");
    assert_eq!(world.state(0, app, empty).expect("empty"), b"");
}

#[test]
fn legroom_is_what_was_asked_for() {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    for (asked, pushed, expected) in
        [(0, 0, (7, 7)), (3, 0, (3, 3)), (3, 9, (3, 9)), (255, 1, (255, 1))]
    {
        let record = ObjectRecord { legroom: asked, ..record(b"x", true) };
        let object = made(world.ask(0, app, Request::New(record)));
        let first = got(world.ask(0, app, Request::Get(object)));
        let record = ObjectRecord { legroom: pushed, api: ApiId::ZERO, ..update(object, b"y") };
        world.ask(0, app, Request::Update(record)).expect("pushed");
        let second = got(world.ask(0, app, Request::Get(object)));
        assert_eq!((first.legroom, second.legroom), expected);
        // Everything else of the record stays what it was, whatever the push said.
        assert_eq!((second.api, second.dynamic, second.private), (ApiId::JSON, true, false));
        assert_eq!(second.author, Some(world.nodes[0].account.fingerprint()));
        assert_eq!(second.address, Some(object));
    }
}

// Who hears what, and when.

#[test]
fn a_push_is_answered_first_and_not_echoed() {
    let mut world = World::new(1);
    let apps: Vec<_> = (1..=3).map(|number| world.app(0, number)).collect();
    let object = world.new_object(0, apps[0], b"0");
    assert_eq!(world.state(0, apps[1], object).expect("public"), b"0");
    assert!(world.notices(0, apps[1]).is_empty(), "no update after a get");
    world.nodes[0].spoken = Some(Vec::new());
    world.push(0, apps[1], object, b"1");
    let spoken = world.nodes[0].spoken.take().expect("kept");
    match spoken.as_slice() {
        [
            Effect::Answer { connection: answered, .. },
            Effect::Notify { connection: told, body: Notice::Update(record), .. },
        ] => {
            assert_eq!((*answered, *told), (apps[1], apps[0]));
            assert_eq!(&record.state[..], b"1");
        }
        other => panic!("{other:?}"),
    }
    world.notices(0, apps[0]);
    // Tracking ends with discard and with the connection.
    world.ask(0, apps[0], Request::Discard(object)).expect("let go");
    assert_eq!(world.state(0, apps[2], object).expect("public"), b"1");
    world.input(0, Input::AppDisconnected { connection: apps[2] });
    world.push(0, apps[1], object, b"2");
    for app in &apps {
        assert!(world.notices(0, *app).is_empty());
    }
}

#[test]
fn a_deletion_is_told_to_the_others() {
    for dynamic in [true, false] {
        let mut world = World::new(1);
        let apps: Vec<_> = (1..=3).map(|number| world.app(0, number)).collect();
        let object = made(world.ask(0, apps[0], Request::New(record(b"x", dynamic))));
        for app in &apps[1..] {
            got(world.ask(0, *app, Request::Get(object)));
        }
        world.ask(0, apps[2], Request::Discard(object)).expect("let go");
        // A hold of one's own does not stop it.
        assert_eq!(world.ask(0, apps[2], Request::Hold(object)), Ok(Reply::Done));
        world.nodes[0].spoken = Some(Vec::new());
        assert_eq!(world.ask(0, apps[0], Request::Delete(object)), Ok(Reply::Done));
        let spoken = world.nodes[0].spoken.take().expect("kept");
        assert!(matches!(spoken.as_slice(), [Effect::Answer { .. }, Effect::Notify { .. }]));
        assert!(world.notices(0, apps[0]).is_empty());
        assert_eq!(world.notices(0, apps[1]), vec![Notice::Deleted(object)]);
        assert!(world.notices(0, apps[2]).is_empty());
        for app in &apps {
            assert_eq!(code(world.ask(0, *app, Request::Get(object))), GONE);
            assert_eq!(code(world.ask(0, *app, Request::Delete(object))), GONE);
        }
    }
}

#[test]
fn a_frozen_copy_is_deleted_although_its_source_has_the_same_state() {
    let mut world = World::new(2);
    let (a, b, bob) = (world.app(0, 1), world.app(0, 2), world.app(1, 1));
    world.connect(0, 1);
    world.ask(1, bob, Request::RegisterApi(ApiId::JSON)).expect("registered");
    let object = world.new_object(0, a, b"state");
    let copy = made(world.ask(0, a, Request::Freeze(object)));
    assert_eq!(made(world.ask(0, b, Request::Freeze(object))), copy, "the same state");
    let recipient = world.nodes[1].account.fingerprint();
    for object in [object, copy] {
        world.ask(0, a, Request::Share { object, recipient }).expect("shared");
    }
    assert_eq!(world.notices(1, bob).len(), 2);
    for app in [a, b] {
        let record = got(world.ask(0, app, Request::Get(copy)));
        assert!(!record.dynamic);
    }
    got(world.ask(1, bob, Request::Get(copy)));
    got(world.ask(1, bob, Request::Get(object)));

    assert_eq!(world.ask(0, a, Request::Delete(copy)), Ok(Reply::Done));
    assert!(world.notices(0, a).is_empty());
    assert_eq!(world.notices(0, b), vec![Notice::Deleted(copy)]);
    assert_eq!(world.notices(1, bob), vec![Notice::Deleted(copy)]);
    for (node, app) in [(0, a), (0, b), (1, bob)] {
        assert_eq!(code(world.ask(node, app, Request::Get(copy))), GONE);
        assert_eq!(world.state(node, app, object).expect("the source lives"), b"state");
    }
    // And once more.
    assert_eq!(made(world.ask(0, a, Request::Freeze(object))), copy);
    world.ask(0, a, Request::Delete(object)).expect("deleted");
    assert_eq!(world.state(0, a, copy).expect("lives on"), b"state");
}

#[test]
fn own_objects_are_announced_to_the_other_applications() {
    let mut world = World::new(1);
    let (maker, taker, other) = (world.app(0, 1), world.app(0, 2), world.app(0, 3));
    for app in [maker, taker] {
        world.ask(0, app, Request::RegisterApi(ApiId::JSON)).expect("registered");
    }
    world.ask(0, other, Request::RegisterApi(ApiId::OBJ)).expect("registered");
    token(&mut world, maker, None);
    let origin = world.nodes[0].account.fingerprint();
    for dynamic in [true, false] {
        let object = made(world.ask(0, maker, Request::New(record(b"x", dynamic))));
        let expected = Notice::Share { object, origin, api: ApiId::JSON };
        assert_eq!(world.notices(0, taker), vec![expected]);
    }
    let private = ObjectRecord { private: true, ..record(b"x", true) };
    let object = made(world.ask(0, maker, Request::New(private)));
    for app in [maker, taker, other] {
        assert!(world.notices(0, app).is_empty());
    }
    // Made public by a push; it cannot go back.
    assert_eq!(code(world.ask(0, taker, Request::Get(object))), GONE);
    let answer = world.ask(0, taker, Request::Update(update(object, b"theirs")));
    assert_eq!(code(answer), GONE);
    assert_eq!(code(world.ask(0, taker, Request::Sync(object))), GONE);
    let kept = ObjectRecord { private: true, ..update(object, b"still private") };
    world.ask(0, maker, Request::Update(kept.clone())).expect("pushed");
    assert_eq!(code(world.ask(0, taker, Request::Get(object))), GONE);
    world.push(0, maker, object, b"public");
    assert_eq!(world.state(0, taker, object).expect("public"), b"public");
    assert_eq!(code(world.ask(0, maker, Request::Update(kept))), FFFF);
}

// Shares.

#[test]
fn shares_follow_the_answer_to_the_registration_once_and_in_order() {
    let mut world = World::new(1);
    let peer = Peer::link(&mut world, 0, 9);
    let things: Vec<_> = (0..5).map(|number| Thing::new(&peer.me, number)).collect();
    for (number, thing) in things.iter().enumerate() {
        let (frame, container) = thing.step(1, b"x", 1);
        let request = peer.request(&world, &thing.handshake(1), number as u64);
        let bundle = vec![peer.gidc(), request, pack(&frame), pack(&container)];
        assert_eq!(peer.publish(&mut world, bundle), [0; 4]);
    }
    world.restart(0);
    let app = world.app(0, 1);
    world.ask(0, app, Request::RegisterApi(ApiId::OBJ)).expect("registered");
    assert!(world.notices(0, app).is_empty());
    world.nodes[0].spoken = Some(Vec::new());
    world.ask(0, app, Request::RegisterApi(ApiId::JSON)).expect("registered");
    let spoken = world.nodes[0].spoken.take().expect("kept");
    assert!(matches!(spoken[0], Effect::Answer { .. }));
    let told: Vec<Ghid> = spoken[1..]
        .iter()
        .map(|effect| match effect {
            Effect::Notify { body: Notice::Share { object, origin, .. }, .. } => {
                assert_eq!(*origin, peer.me.ghid());
                *object
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, things.iter().map(|thing| thing.dynamic).collect::<Vec<_>>());
    world.notices(0, app);
    world.ask(0, app, Request::RegisterApi(ApiId::JSON)).expect("again");
    let late = world.app(0, 2);
    world.ask(0, late, Request::RegisterApi(ApiId::JSON)).expect("registered");
    for app in [app, late] {
        assert!(world.notices(0, app).is_empty());
    }
    // Sharing again runs the handlers again, of everybody who registered.
    let peer = Peer::link(&mut world, 0, 9);
    let request = peer.request(&world, &things[2].handshake(1), 99);
    peer.publish(&mut world, vec![peer.gidc(), request]);
    for app in [app, late] {
        assert_eq!(world.notices(0, app).len(), 1);
    }
}

#[test]
fn a_slow_application_gets_the_share_that_another_took() {
    let mut world = World::new(1);
    let (quick, slow, maker) = (world.app(0, 1), world.app(0, 2), world.app(0, 3));
    fill(&mut world, 0, slow, maker);
    for app in [quick, slow] {
        world.ask(0, app, Request::RegisterApi(ApiId::JSON)).expect("registered");
    }
    let (_, thing) = shares(&mut world, 0, 9);
    assert_eq!(world.notices(0, quick).len(), 1);
    assert!(world.notices(0, slow).is_empty());
    wake(&mut world, 0, slow, 0);
    let told = world.notices(0, slow);
    assert!(
        matches!(told.as_slice(), [Notice::Share { object, .. }] if *object == thing.dynamic),
        "{told:?}"
    );
}

#[test]
fn no_share_after_deregistering() {
    let mut world = World::new(1);
    let (busy, maker) = (world.app(0, 1), world.app(0, 2));
    fill(&mut world, 0, busy, maker);
    world.ask(0, busy, Request::RegisterApi(ApiId::JSON)).expect("registered");
    let (_, thing) = shares(&mut world, 0, 9);
    world.new_object(0, maker, b"own");
    world.ask(0, busy, Request::DeregisterApi(ApiId::JSON)).expect("deregistered");
    wake(&mut world, 0, busy, 0);
    assert!(world.notices(0, busy).is_empty(), "it would never answer");
    // The share waits for the next one.
    let next = world.app(0, 3);
    world.ask(0, next, Request::RegisterApi(ApiId::JSON)).expect("registered");
    let told = world.notices(0, next);
    assert!(matches!(told.as_slice(), [Notice::Share { object, .. }] if *object == thing.dynamic));
}

#[test]
fn a_share_in_hand_when_its_application_ends_goes_to_the_next() {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    world.nodes[0].silent.insert(app);
    world.ask(0, app, Request::RegisterApi(ApiId::JSON)).expect("registered");
    shares(&mut world, 0, 9);
    assert_eq!(world.notices(0, app).len(), 1);
    world.input(0, Input::AppDisconnected { connection: app });
    let next = world.app(0, 2);
    world.ask(0, next, Request::RegisterApi(ApiId::JSON)).expect("registered");
    assert_eq!(world.notices(0, next).len(), 1);
}

#[test]
fn results_of_shares_go_to_applications_with_a_token() {
    let mut world = World::new(2);
    let (named, nameless) = (world.app(0, 1), world.app(0, 2));
    let known = token(&mut world, named, None);
    let recipient = world.nodes[1].account.fingerprint();
    let object = world.new_object(0, named, b"x");
    for app in [named, nameless] {
        world.ask(0, app, Request::Share { object, recipient }).expect("promised");
    }
    // It ended and came back meanwhile.
    world.input(0, Input::AppDisconnected { connection: named });
    let named = world.app(0, 3);
    token(&mut world, named, Some(known));
    world.connect(0, 1);
    world.answers_leave();
    assert_eq!(world.notices(0, named), vec![Notice::ShareSucceeded { object, recipient }]);
    assert!(world.notices(0, nameless).is_empty());
}

#[test]
fn a_share_of_what_is_deleted_before_it_is_taken_fails() {
    for seen in [false, true] {
        let mut world = World::new(1);
        let app = world.app(0, 1);
        token(&mut world, app, None);
        let object = world.new_object(0, app, b"x");
        let recipient = identity(9).ghid();
        world.ask(0, app, Request::Share { object, recipient }).expect("promised");
        if seen {
            // The link ends before it is stored there.
            let peer = Peer::link(&mut world, 0, 9);
            peer.prove(&mut world);
            world.disconnect(peer.link);
        }
        world.ask(0, app, Request::Delete(object)).expect("deleted");
        assert_eq!(world.notices(0, app), vec![Notice::ShareFailed { object, recipient }]);
        assert!(world.status(0, app).contains("\"shares_owed\":0"));
    }
}

// Nothing grows.

#[test]
fn nothing_grows_with_connections_links_and_pushes() {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    let object = world.new_object(0, app, b"0");
    let recipient = identity(200).ghid();
    world.ask(0, app, Request::Share { object, recipient }).expect("promised");
    world.push(0, app, object, b"0");
    let before = world.status(0, app);
    let rows = world.nodes[0].disk.0.len();
    for number in 0..10_000 {
        let other = world.app(0, 10 + number);
        got(world.ask(0, other, Request::Get(object)));
        world.ask(0, other, Request::RegisterApi(ApiId::JSON)).expect("registered");
        world.input(0, Input::AppDisconnected { connection: other });
        let mut peer = Peer::silent(&mut world, 0, 60);
        if number % 3 > 0 {
            peer.greet(&mut world);
        }
        if number % 3 > 1 {
            let addresses = vec![hypergolix_engine::message::Address(object)];
            let cursor = None;
            peer.say(&mut world, hypergolix_engine::Message::Subscribe { addresses, cursor });
        }
        world.disconnect(peer.link);
        world.nodes[0].notices.clear();
    }
    for number in 0..20_000_u32 {
        world.push(0, app, object, &number.to_be_bytes());
    }
    assert_eq!(world.status(0, app), before);
    // A sealed checkpoint of the chain is all that comes with updates.
    assert!(world.nodes[0].disk.0.len() <= rows + 1);
    let feed = world.nodes[0].disk.0.keys().filter(|(table, _)| *table == Table::Feed).count();
    assert_eq!(feed, 1);
}
