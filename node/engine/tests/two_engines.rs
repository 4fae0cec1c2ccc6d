//! Engines and a queue: share, update, delete, in virtual time.

#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::World;
use hypergolix_ipc::{ApiId, ErrorCode, Notice, Reply, Request};

fn states(notices: &[Notice]) -> Vec<Vec<u8>> {
    notices
        .iter()
        .filter_map(|notice| match notice {
            Notice::Update(record) => Some(record.state.to_vec()),
            _ => None,
        })
        .collect()
}

/// Node 1 has an application that takes JSON; node 0 shares an object with it.
fn shared() -> (World, golix::Ghid, hypergolix_ipc::ConnectionId, hypergolix_ipc::ConnectionId) {
    let mut world = World::new(2);
    let (alice, bob) = (world.app(0, 1), world.app(1, 1));
    world.connect(0, 1);
    assert_eq!(world.ask(1, bob, Request::RegisterApi(ApiId::JSON)), Ok(Reply::Done));
    let object = world.new_object(0, alice, b"first");
    let recipient = world.nodes[1].account.fingerprint();
    assert_eq!(world.ask(0, alice, Request::Share { object, recipient }), Ok(Reply::Done));
    let origin = world.nodes[0].account.fingerprint();
    assert_eq!(world.notices(1, bob), vec![Notice::Share { object, origin, api: ApiId::JSON }]);
    assert_eq!(world.state(1, bob, object).expect("shared"), b"first");
    (world, object, alice, bob)
}

#[test]
fn a_shared_object_updates_live() {
    let (mut world, object, alice, bob) = shared();
    world.push(0, alice, object, b"second");
    world.push(0, alice, object, b"third");
    assert_eq!(states(&world.notices(1, bob)), [b"second".to_vec(), b"third".to_vec()]);
    assert!(world.notices(0, alice).is_empty(), "no echo");
    assert!(world.closed.is_empty(), "{:?}", world.closed);
}

#[test]
fn an_outage_ends_with_the_last_state() {
    let (mut world, object, alice, bob) = shared();
    let link = *world.links.keys().map(|(_, link)| link).next().expect("a link");
    world.disconnect(link);
    for number in 0..50 {
        world.push(0, alice, object, format!("{number}").as_bytes());
    }
    assert!(world.notices(1, bob).is_empty());
    world.connect(0, 1);
    assert_eq!(states(&world.notices(1, bob)).last().expect("news"), b"49");
    world.restart(1);
    world.push(0, alice, object, b"while bob is away");
    let bob = world.app(1, 2);
    world.connect(0, 1);
    assert_eq!(world.state(1, bob, object).expect("kept"), b"while bob is away");
}

#[test]
fn a_share_waits_for_its_recipient_across_restarts() {
    let mut world = World::new(2);
    let alice = world.app(0, 1);
    let recipient = world.nodes[1].account.fingerprint();
    let objects: Vec<_> = (0..3)
        .map(|number| {
            let object = world.new_object(0, alice, format!("{number}").as_bytes());
            assert_eq!(world.ask(0, alice, Request::Share { object, recipient }), Ok(Reply::Done));
            object
        })
        .collect();
    world.restart(0);
    world.connect(0, 1);
    // Nobody takes the api id yet, and the recipient's node restarts, too.
    world.restart(1);
    let bob = world.app(1, 1);
    world.ask(1, bob, Request::RegisterApi(ApiId::JSON)).expect("registered");
    let shared: Vec<_> = world
        .notices(1, bob)
        .into_iter()
        .filter_map(|notice| match notice {
            Notice::Share { object, .. } => Some(object),
            _ => None,
        })
        .collect();
    assert_eq!(shared, objects, "in the order in which they were shared");
    let late = world.app(1, 2);
    world.ask(1, late, Request::RegisterApi(ApiId::JSON)).expect("registered");
    assert!(world.notices(1, late).is_empty(), "a share is delivered once");
}

#[test]
fn the_sharing_application_hears_of_the_end() {
    let mut world = World::new(2);
    let alice = world.app(0, 1);
    world.ask(0, alice, Request::RegisterToken(None)).expect("a token");
    world.connect(0, 1);
    let object = world.new_object(0, alice, b"state");
    let recipient = world.nodes[1].account.fingerprint();
    world.ask(0, alice, Request::Share { object, recipient }).expect("shared");
    assert!(world.notices(0, alice).is_empty(), "answers leave on a schedule");
    world.answers_leave();
    assert_eq!(world.notices(0, alice), vec![Notice::ShareSucceeded { object, recipient }]);
}

#[test]
fn deletion_reaches_the_recipient_unless_it_holds() {
    for hold in [false, true] {
        for away in [false, true] {
            let (mut world, object, alice, bob) = shared();
            if hold {
                assert_eq!(world.ask(1, bob, Request::Hold(object)), Ok(Reply::Done));
            }
            if away {
                let link = *world.links.keys().map(|(_, link)| link).next().expect("a link");
                world.disconnect(link);
            }
            assert_eq!(world.ask(0, alice, Request::Delete(object)), Ok(Reply::Done));
            assert_eq!(
                world.state(0, alice, object).expect_err("deleted").code,
                ErrorCode::DoesNotExist
            );
            if away {
                assert!(world.notices(1, bob).is_empty());
                world.connect(0, 1);
            }
            let (told, kept) = (world.notices(1, bob), world.state(1, bob, object));
            if hold {
                assert!(told.is_empty(), "{told:?}");
                assert_eq!(kept.expect("held"), b"first");
                // Letting go of the hold is the end of it.
                assert_eq!(world.ask(1, bob, Request::Delete(object)), Ok(Reply::Done));
                world.state(1, bob, object).expect_err("gone");
            } else {
                assert_eq!(told, vec![Notice::Deleted(object)]);
                assert_eq!(kept.expect_err("gone").code, ErrorCode::DoesNotExist);
            }
        }
    }
}

#[test]
fn a_static_object_is_shared_and_deleted() {
    let mut world = World::new(2);
    let (alice, bob) = (world.app(0, 1), world.app(1, 1));
    world.connect(0, 1);
    world.ask(1, bob, Request::RegisterApi(ApiId::JSON)).expect("registered");
    let Ok(Reply::Address(object)) =
        world.ask(0, alice, Request::New(common::record(b"fixed", false)))
    else {
        panic!("made")
    };
    let recipient = world.nodes[1].account.fingerprint();
    world.ask(0, alice, Request::Share { object, recipient }).expect("shared");
    assert_eq!(world.notices(1, bob).len(), 1);
    assert_eq!(world.state(1, bob, object).expect("shared"), b"fixed");
    world.ask(0, alice, Request::Delete(object)).expect("deleted");
    assert_eq!(world.notices(1, bob), vec![Notice::Deleted(object)]);
}

#[test]
fn a_frozen_copy_is_one_state_only() {
    let (mut world, object, alice, bob) = shared();
    let Ok(Reply::Address(copy)) = world.ask(0, alice, Request::Freeze(object)) else {
        panic!("frozen")
    };
    assert_eq!(world.ask(0, alice, Request::Freeze(object)), Ok(Reply::Address(copy)));
    let Ok(Reply::Address(bobs)) = world.ask(1, bob, Request::Freeze(object)) else {
        panic!("frozen")
    };
    assert_eq!(bobs, copy, "the same state");
    world.push(0, alice, object, b"later");
    world.ask(0, alice, Request::Delete(object)).expect("deleted");
    assert_eq!(world.state(0, alice, copy).expect("kept"), b"first");
    assert_eq!(world.state(1, bob, copy).expect("kept"), b"first");
    world.restart(1);
    let bob = world.app(1, 3);
    assert_eq!(world.state(1, bob, copy).expect("kept"), b"first");
}

#[test]
fn holding_again_after_letting_go() {
    let (mut world, object, _, bob) = shared();
    for _ in 0..4 {
        assert_eq!(world.ask(1, bob, Request::Hold(object)), Ok(Reply::Done));
        assert_eq!(world.ask(1, bob, Request::Hold(object)), Ok(Reply::Done));
        assert_eq!(world.ask(1, bob, Request::Delete(object)), Ok(Reply::Done));
        assert_eq!(world.state(1, bob, object).expect("still shared"), b"first");
    }
}

#[test]
fn a_slow_application_gets_the_last_state() {
    let (mut world, object, alice, bob) = shared();
    world.nodes[1].silent.insert(bob);
    for number in 0..1_000 {
        world.push(0, alice, object, format!("{number}").as_bytes());
    }
    assert_eq!(states(&world.notices(1, bob)).len(), hypergolix_engine::limits::NOTICES_IN_FLIGHT);
    world.nodes[1].silent.remove(&bob);
    for notice in 0..16 {
        world.input(
            1,
            hypergolix_engine::Input::AppAcknowledged {
                connection: bob,
                notice: hypergolix_ipc::NoticeId(notice + 1),
                accepted: true,
            },
        );
    }
    assert_eq!(states(&world.notices(1, bob)), [b"999".to_vec()]);
}

#[test]
fn a_third_device_is_served_by_the_one_that_shared() {
    let (mut world, object, alice, bob) = shared();
    let mut third = World::new(3);
    std::mem::swap(&mut world.nodes[0], &mut third.nodes[0]);
    std::mem::swap(&mut world.nodes[1], &mut third.nodes[1]);
    let mut world = third;
    let carol = world.app(2, 1);
    world.ask(2, carol, Request::RegisterApi(ApiId::JSON)).expect("registered");
    let ab = world.connect(0, 1);
    world.connect(1, 2);
    let recipient = world.nodes[2].account.fingerprint();
    world.ask(1, bob, Request::Share { object, recipient }).expect("shared on");
    assert_eq!(world.notices(2, carol).len(), 1);
    assert_eq!(world.state(2, carol, object).expect("shared"), b"first");
    world.push(0, alice, object, b"through bob");
    assert_eq!(states(&world.notices(2, carol)), [b"through bob".to_vec()]);
    world.disconnect(ab);
    world.connect(0, 2);
    world.push(0, alice, object, b"direct");
    assert_eq!(states(&world.notices(2, carol)), [b"direct".to_vec()]);
    assert_eq!(states(&world.notices(1, bob)).last().expect("told"), b"through bob");
}

#[test]
fn a_silent_link_is_given_up_and_an_idle_one_is_asked() {
    let (mut world, ..) = shared();
    world.advance(Duration::from_secs(120));
    assert!(world.closed.is_empty(), "{:?}", world.closed);
    assert_eq!(world.links.len(), 2);
}

#[test]
fn private_objects_exist_for_their_application_alone() {
    let mut world = World::new(1);
    let (owner, other) = (world.app(0, 1), world.app(0, 2));
    let mut private = common::record(b"secret", true);
    private.private = true;
    assert_eq!(
        world.ask(0, owner, Request::New(private.clone())).expect_err("no token").code,
        ErrorCode::IpcError
    );
    let Ok(Reply::Token(token)) = world.ask(0, owner, Request::RegisterToken(None)) else {
        panic!("a token")
    };
    let Ok(Reply::Address(object)) = world.ask(0, owner, Request::New(private)) else {
        panic!("made")
    };
    assert_eq!(world.state(0, owner, object).expect("own"), b"secret");
    let recipient = golix::Ghid::of(b"somebody");
    for request in [
        Request::Get(object),
        Request::Freeze(object),
        Request::Hold(object),
        Request::Delete(object),
        Request::Share { object, recipient },
    ] {
        let error = world.ask(0, other, request).expect_err("not theirs");
        assert_eq!(error.code, ErrorCode::DoesNotExist);
    }
    let error = world.ask(0, owner, Request::Share { object, recipient }).expect_err("private");
    assert_eq!(error.code, ErrorCode::IpcError);
    world.restart(0);
    let owner = world.app(0, 3);
    world.ask(0, owner, Request::RegisterToken(Some(token))).expect("known");
    assert_eq!(world.state(0, owner, object).expect("own"), b"secret");
    let other = world.app(0, 4);
    world.ask(0, other, Request::RegisterToken(Some(token))).expect_err("in use");
}

#[test]
fn many_updates_need_no_stored_key() {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    let object = world.new_object(0, app, b"0");
    for number in 1..3_000_u32 {
        world.push(0, app, object, number.to_string().as_bytes());
    }
    world.restart(0);
    let app = world.app(0, 2);
    assert_eq!(world.state(0, app, object).expect("readable"), b"2999");
    world.push(0, app, object, b"3000");
}
