//! Shares of what was deleted meanwhile: nothing of them stays.

#![allow(missing_docs)]

mod common;

use common::World;
use hypergolix_ipc::{ApiId, Reply, Request};

fn figure(world: &mut World, node: usize, app: hypergolix_ipc::ConnectionId, name: &str) -> u64 {
    let Ok(Reply::Status(json)) = world.ask(node, app, Request::Status) else { panic!("a status") };
    let (_, rest) = json.split_once(&format!("\"{name}\":")).expect("the figure");
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

/// Found by the simulator: such a share waited for ever and counted against its sender's limit.
#[test]
fn a_share_of_what_its_owner_deleted_does_not_wait_for_ever() {
    for dynamic in [true, false] {
        let mut world = World::new(2);
        let (alice, bob) = (world.app(0, 1), world.app(1, 1));
        let fingerprints = [0, 1].map(|node| world.nodes[node].account.fingerprint());
        world.ask(0, alice, Request::RegisterApi(ApiId::JSON)).expect("registered");
        world.ask(1, bob, Request::RegisterApi(ApiId::JSON)).expect("registered");
        let link = world.connect(0, 1);
        let Ok(Reply::Address(object)) =
            world.ask(0, alice, Request::New(common::record(b"state", dynamic)))
        else {
            panic!("made")
        };
        let share = |recipient| Request::Share { object, recipient };
        world.ask(0, alice, share(fingerprints[1])).expect("shared");
        world.state(1, bob, object).expect("shared");
        world.disconnect(link);
        if dynamic {
            world.push(0, alice, object, b"a frame that the other side never saw");
        }
        world.ask(0, alice, Request::Delete(object)).expect("deleted");
        world.ask(1, bob, share(fingerprints[0])).expect("not heard of the deletion");
        world.connect(0, 1);
        world.answers_leave();
        world.state(0, alice, object).expect_err("deleted");
        world.state(1, bob, object).expect_err("deleted");
        for (node, app) in [(0, alice), (1, bob)] {
            for name in ["shares_waiting", "shares_owed", "followed"] {
                assert_eq!(figure(&mut world, node, app, name), 0, "{name} of {node}, {dynamic}");
            }
        }
    }
}
