//! Taking shares back.

#![allow(missing_docs)]

mod common;

use common::{PASSWORD, World};
use golix::{Ghid, Suite};
use hypergolix_engine::{PersisterConfig, limits};
use hypergolix_ipc::{ApiId, ConnectionId, ErrorCode, Notice, Reply, Request};

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

/// Alice has two devices, which are apart; all readers are gone for a while. What each device does then, and
/// what everybody has once all have met.
struct Apart {
    world: World,
    server: usize,
    second: usize,
    here: ConnectionId,
    there: ConnectionId,
    readers: [ConnectionId; 4],
    object: Ghid,
    of: [Ghid; 4],
    away: Vec<hypergolix_engine::LinkId>,
}

fn settle(world: &mut World) {
    for _ in 0..3 {
        world.advance(limits::PIECES_DELAY + std::time::Duration::from_secs(3));
    }
}

fn apart() -> Apart {
    let mut world = World::new(4);
    let server = world.server(PersisterConfig::default());
    let readers = [0, 1, 2, 3].map(|node| world.app(node, 1));
    let of = [0, 1, 2, 3].map(|node: usize| world.nodes[node].account.fingerprint());
    world.connect(0, server);
    let mut away = Vec::new();
    for (node, reader) in readers.iter().enumerate().skip(1) {
        world.ask(node, *reader, Request::RegisterApi(ApiId::JSON)).expect("registered");
        away.push(world.connect(node, server));
    }
    let object = world.new_object(0, readers[0], b"first");
    for recipient in &of[1..] {
        let share = Request::Share { object, recipient: *recipient };
        world.ask(0, readers[0], share).expect("shared");
    }
    settle(&mut world);
    let second = world.second_device(0, PASSWORD).expect("the right password");
    world.connect(second, server);
    settle(&mut world);
    let there = world.app(second, 1);
    assert_eq!(world.state(second, there, object).expect("fetched"), b"first");
    for (node, reader) in readers.iter().enumerate().skip(1) {
        assert_eq!(world.state(node, *reader, object).expect("shared"), b"first");
    }
    let links: Vec<_> = world.links.keys().map(|(_, link)| *link).collect();
    for link in links {
        world.disconnect(link);
    }
    let here = readers[0];
    Apart { world, server, second, here, there, readers, object, of, away: Vec::new() }
}

impl Apart {
    fn unshare(&mut self, node: usize, recipient: usize) {
        let app = if node == 0 { self.here } else { self.there };
        let request = Request::Unshare { object: self.object, recipient: self.of[recipient] };
        self.world.ask(node, app, request).expect("taken back");
    }

    fn push(&mut self, node: usize, state: &[u8]) {
        let app = if node == 0 { self.here } else { self.there };
        self.world.push(node, app, self.object, state);
    }

    fn meet(&mut self, order: &[usize]) {
        for node in order {
            let link = self.world.connect(*node, self.server);
            self.away.push(link);
            settle(&mut self.world);
        }
        settle(&mut self.world);
    }

    /// Who can read what was pushed last, and both devices of Alice in any case.
    fn reads(&mut self, state: &[u8]) -> Vec<usize> {
        for (node, app) in [(0, self.here), (self.second, self.there)] {
            let found = self.world.state(node, app, self.object);
            assert_eq!(found.as_deref(), Ok(state), "device {node}");
        }
        (1..4)
            .filter(|node| {
                let found = self.world.state(*node, self.readers[*node], self.object);
                found.is_ok_and(|found| found == state)
            })
            .collect()
    }
}

/// In which order everybody comes back.
const ORDERS: [[usize; 5]; 4] =
    [[0, 5, 1, 2, 3], [5, 0, 3, 2, 1], [1, 2, 3, 0, 5], [1, 5, 2, 0, 3]];

#[test]
fn of_two_devices_that_take_it_from_different_readers_both_are_obeyed() {
    for order in ORDERS {
        for pushes in [[0, 0], [0, 3], [2, 1]] {
            let mut all = apart();
            for number in 0..pushes[0] {
                all.push(0, &[number]);
            }
            for number in 0..pushes[1] {
                all.push(all.second, &[10 + number]);
            }
            all.unshare(0, 1);
            all.unshare(all.second, 2);
            all.meet(&order);
            // The state that won is under a key that neither of the two has.
            let now = all.world.state(0, all.here, all.object).expect("own");
            assert_eq!(all.reads(&now), [3], "{order:?} {pushes:?}");
            for node in [0, all.second] {
                all.push(node, b"next");
                settle(&mut all.world);
                assert_eq!(all.reads(b"next"), [3], "{order:?} {pushes:?}, by {node}");
                all.push(node, &[99]);
                settle(&mut all.world);
            }
            // And it has come to rest.
            let frames = |world: &World| {
                let heads = world.nodes[all.server].disk.0.iter();
                heads
                    .filter(|((table, _), _)| *table == hypergolix_engine::Table::Heads)
                    .map(|(_, head)| head.clone())
                    .collect::<Vec<_>>()
            };
            let before = frames(&all.world);
            settle(&mut all.world);
            assert_eq!(before, frames(&all.world));
        }
    }
}

#[test]
fn a_state_that_wins_under_the_old_key_does_not_undo_it() {
    for order in ORDERS {
        let mut all = apart();
        all.unshare(0, 1);
        for number in 0..4 {
            all.push(all.second, &[number]);
        }
        all.meet(&order);
        assert_eq!(all.reads(&[3]), [2, 3], "{order:?}");
        all.push(all.second, b"next");
        settle(&mut all.world);
        assert_eq!(all.reads(b"next"), [2, 3], "{order:?}");
        let lost = all.world.ask(0, all.here, Request::LostStates).expect("answered");
        // The state that was sealed anew was known to who wrote on: nobody wrote anything that lost.
        assert_eq!(format!("{lost:?}").matches("LostState {").count(), 0, "what lost: {lost:?}");
    }
}

#[test]
fn both_take_it_from_the_same_reader() {
    let mut all = apart();
    all.unshare(0, 1);
    all.unshare(all.second, 1);
    all.meet(&[0, 5, 1, 2, 3]);
    assert_eq!(all.reads(b"first"), [2, 3]);
    all.push(0, b"next");
    settle(&mut all.world);
    assert_eq!(all.reads(b"next"), [2, 3]);
}

#[test]
fn the_other_device_goes_on_before_the_records_of_a_new_epoch_reach_it() {
    let mut all = apart();
    let first = all.world.connect(0, all.server);
    all.world.connect(all.second, all.server);
    settle(&mut all.world);
    all.unshare(0, 1);
    // It is gone before its records have left.
    all.world.disconnect(first);
    let found = all.world.state(all.second, all.there, all.object);
    assert_eq!(found.as_deref(), Ok(&b"first"[..]));
    all.push(all.second, b"next");
    let last = [b"after that".to_vec(), b"and that".to_vec()];
    for state in &last {
        all.push(all.second, state);
    }
    all.meet(&[1, 2, 3]);
    assert!(all.world.state(1, all.readers[1], all.object).is_err(), "it was taken from this one");
    let found = all.world.state(2, all.readers[2], all.object);
    assert_eq!(found.as_deref(), Ok(&last[1][..]));
    all.meet(&[0]);
    assert_eq!(all.reads(&last[1]), [2, 3]);
    all.push(0, b"at last");
    settle(&mut all.world);
    assert_eq!(all.reads(b"at last"), [2, 3]);
}

#[test]
fn what_was_held_can_be_let_go_of_after_it_was_taken_back() {
    let Three { mut world, apps, object, of } = three([Suite::Suite3; 3]);
    world.ask(1, apps[1], Request::Hold(object)).expect("held");
    world.ask(0, apps[0], Request::Unshare { object, recipient: of[1] }).expect("taken back");
    world.push(0, apps[0], object, b"second");
    world.state(1, apps[1], object).expect_err("its key is not here");
    assert_eq!(world.ask(1, apps[1], Request::Delete(object)), Ok(Reply::Done));
    let again = world.ask(1, apps[1], Request::Delete(object)).expect_err("nothing is held");
    assert_eq!(again.code, ErrorCode::DoesNotExist);
    world.ask(0, apps[0], Request::Delete(object)).expect("deleted");
    world.state(1, apps[1], object).expect_err("deleted");
}
