//! Taking shares back.

#![allow(missing_docs)]

mod common;

use common::{PASSWORD, World};
use golix::{Ghid, Suite};
use hypergolix_engine::{PersisterConfig, limits};
use hypergolix_ipc::{ApiId, ConnectionId, ErrorCode, Notice, Request};

struct Three {
    world: World,
    apps: [ConnectionId; 3],
    object: Ghid,
    of: [Ghid; 3],
}

/// Alice shares an object with bob and carol.
fn three(suites: [Suite; 3]) -> Three {
    let mut world =
        if suites.contains(&Suite::Suite1) { World::of_suites(&suites) } else { World::new(3) };
    let apps = [0, 1, 2].map(|node| world.app(node, 1));
    let of = [0, 1, 2].map(|node: usize| world.nodes[node].account.fingerprint());
    for node in [1, 2] {
        world.ask(node, apps[node], Request::RegisterApi(ApiId::JSON)).expect("registered");
        world.connect(0, node);
    }
    let object = world.new_object(0, apps[0], b"first");
    for recipient in [of[1], of[2]] {
        world.ask(0, apps[0], Request::Share { object, recipient }).expect("shared");
    }
    for node in [1, 2] {
        assert_eq!(world.state(node, apps[node], object).expect("shared"), b"first");
        assert_eq!(world.notices(node, apps[node]).len(), 1);
    }
    world.answers_leave();
    Three { world, apps, object, of }
}

fn unshare(three: &mut Three, recipient: usize) {
    let request = Request::Unshare { object: three.object, recipient: three.of[recipient] };
    three.world.ask(0, three.apps[0], request).expect("taken back");
}

#[test]
fn who_is_left_reads_on_and_who_is_not_sees_why() {
    for suites in [[Suite::Suite3; 3], [Suite::Suite1, Suite::Suite3, Suite::Suite3]] {
        let mut three = three(suites);
        unshare(&mut three, 1);
        let Three { mut world, apps, object, .. } = three;
        world.push(0, apps[0], object, b"second");
        assert_eq!(world.state(0, apps[0], object).expect("own"), b"second");
        assert_eq!(world.state(2, apps[2], object).expect("shared"), b"second", "{suites:?}");
        let shares = world.notices(2, apps[2]);
        let again = shares.iter().filter(|notice| matches!(notice, Notice::Share { .. })).count();
        assert_eq!(again, 0, "it is not shared anew: {shares:?}");
        let refused = world.state(1, apps[1], object).expect_err("taken back");
        assert_eq!(refused.code, ErrorCode::DoesNotExist);
        assert!(refused.text.contains("no longer shares"), "{refused:?}");
        // Also after restarts, and however many steps later.
        for node in 0..3 {
            world.restart(node);
        }
        for node in [1, 2] {
            world.connect(0, node);
        }
        let apps = [0, 1, 2].map(|node| world.app(node, 7));
        for number in 0..50_u8 {
            world.push(0, apps[0], object, &[number]);
        }
        assert_eq!(world.state(2, apps[2], object).expect("shared"), [49]);
        world.state(1, apps[1], object).expect_err("taken back");
    }
}

#[test]
fn shared_again_it_is_read_again() {
    let mut three = three([Suite::Suite3; 3]);
    unshare(&mut three, 1);
    let Three { mut world, apps, object, of } = three;
    world.state(1, apps[1], object).expect_err("taken back");
    world.ask(0, apps[0], Request::Share { object, recipient: of[1] }).expect("shared");
    assert_eq!(world.state(1, apps[1], object).expect("shared again"), b"first");
    // Twice over.
    for recipient in [of[2], of[1]] {
        world.ask(0, apps[0], Request::Unshare { object, recipient }).expect("taken back");
    }
    world.push(0, apps[0], object, b"alone");
    for node in [1, 2] {
        world.state(node, apps[node], object).expect_err("taken back");
    }
    assert_eq!(world.state(0, apps[0], object).expect("own"), b"alone");
}

#[test]
fn who_is_away_gets_the_new_key_later() {
    let mut three = three([Suite::Suite3; 3]);
    let links: Vec<_> = three.world.links.keys().map(|(_, link)| *link).collect();
    for link in links {
        three.world.disconnect(link);
    }
    unshare(&mut three, 1);
    let Three { mut world, apps, object, .. } = three;
    for number in 0..5_u8 {
        world.push(0, apps[0], object, &[number]);
    }
    world.restart(0);
    for node in [1, 2] {
        world.connect(0, node);
    }
    assert_eq!(world.state(2, apps[2], object).expect("shared"), [4]);
    world.state(1, apps[1], object).expect_err("taken back");
}

#[test]
fn it_works_through_a_server_and_on_every_device() {
    let mut three = three([Suite::Suite3; 3]);
    let links: Vec<_> = three.world.links.keys().map(|(_, link)| *link).collect();
    for link in links {
        three.world.disconnect(link);
    }
    let server = three.world.server(PersisterConfig::default());
    for node in 0..3 {
        three.world.connect(node, server);
    }
    unshare(&mut three, 1);
    let Three { mut world, apps, object, .. } = three;
    world.push(0, apps[0], object, b"second");
    world.advance(std::time::Duration::from_secs(3));
    assert_eq!(world.state(2, apps[2], object).expect("shared"), b"second");
    world.state(1, apps[1], object).expect_err("taken back");
    let second = world.second_device(0, PASSWORD).expect("the right password");
    world.connect(second, server);
    world.advance(limits::PIECES_DELAY + std::time::Duration::from_secs(3));
    let there = world.app(second, 1);
    assert_eq!(world.state(second, there, object).expect("own"), b"second");
    world.push(second, there, object, b"from the other device");
    assert_eq!(world.state(2, apps[2], object).expect("shared"), b"from the other device");
    world.state(1, apps[1], object).expect_err("taken back");
}

#[test]
fn what_cannot_be_taken_back() {
    let Three { mut world, apps, object, of } = three([Suite::Suite3; 3]);
    let taken = |world: &mut World, node: usize, object, recipient| {
        world.ask(node, apps[node], Request::Unshare { object, recipient }).expect_err("refused")
    };
    assert!(taken(&mut world, 0, object, Ghid::of(b"nobody")).text.contains("not shared"));
    assert_eq!(taken(&mut world, 1, object, of[2]).code, ErrorCode::InconsistentAuthor);
    assert_eq!(taken(&mut world, 0, Ghid::of(b"x"), of[1]).code, ErrorCode::DoesNotExist);
    world.ask(0, apps[0], Request::Unshare { object, recipient: of[1] }).expect("taken back");
    assert!(taken(&mut world, 0, object, of[1]).text.contains("not shared"));
}
