//! One account on several devices.

mod common;

use std::time::Duration;

use common::peer::Peer;
use common::{PASSWORD, Seeded, World, record};
use golix::{Ghid, Suite};
use hypergolix_engine::account::{self, ScryptCost, UnlockError};
use hypergolix_engine::message::{Address, Cursor};
use hypergolix_engine::{Control, Message, PersisterConfig, Table, limits};
use hypergolix_ipc::{ApiId, AppToken, ConnectionId, Notice, ObjectRecord, Reply, Request};

fn token(world: &mut World, node: usize, app: ConnectionId, asked: Option<AppToken>) -> AppToken {
    match world.ask(node, app, Request::RegisterToken(asked)) {
        Ok(Reply::Token(token)) => token,
        other => panic!("token: {other:?}"),
    }
}

fn states(notices: &[Notice]) -> Vec<Vec<u8>> {
    let state = |notice: &Notice| match notice {
        Notice::Update(record) => Some(record.state.to_vec()),
        _ => None,
    };
    notices.iter().filter_map(state).collect()
}

fn settle(world: &mut World) {
    world.advance(limits::PIECES_DELAY + Duration::from_secs(2));
}

/// Two devices of one account, linked.
fn two() -> (World, usize) {
    let mut world = World::new(1);
    let second = world.second_device(0, PASSWORD).expect("the right password");
    world.connect(0, second);
    (world, second)
}

#[test]
fn a_second_device_gets_everything() {
    let mut world = World::new(2);
    let (alice, bob) = (world.app(0, 1), world.app(1, 1));
    world.ask(0, alice, Request::RegisterApi(ApiId::JSON)).expect("registered");
    let known = token(&mut world, 0, alice, None);
    let object = world.new_object(0, alice, b"public");
    world.push(0, alice, object, b"newer");
    let private = ObjectRecord { private: true, ..record(b"secret", true) };
    let Ok(Reply::Address(private)) = world.ask(0, alice, Request::New(private)) else {
        panic!("made")
    };
    let Ok(Reply::Address(fixed)) = world.ask(0, alice, Request::New(record(b"fixed", false)))
    else {
        panic!("made")
    };
    world.ask(0, alice, Request::SetStartup(object)).expect("set");
    // Something that bob shared: one is taken, another waits for an application that wants it.
    world.connect(0, 1);
    let recipient = world.nodes[0].account.fingerprint();
    let theirs = world.new_object(1, bob, b"theirs");
    world.ask(1, bob, Request::Share { object: theirs, recipient }).expect("shared");
    let other = ObjectRecord { api: ApiId([9; 64]), ..record(b"waits", true) };
    let Ok(Reply::Address(waits)) = world.ask(1, bob, Request::New(other)) else { panic!("made") };
    world.ask(1, bob, Request::Share { object: waits, recipient }).expect("shared");
    assert_eq!(world.notices(0, alice).len(), 1);
    settle(&mut world);

    let second = world.second_device(0, PASSWORD).expect("the right password");
    world.connect(0, second);
    settle(&mut world);
    let app = world.app(second, 1);
    assert_eq!(token(&mut world, second, app, Some(known)), known);
    let startup = world.ask(second, app, Request::StartupObject);
    assert_eq!(startup, Ok(Reply::Startup(Some(object))));
    for (address, state) in
        [(object, &b"newer"[..]), (private, b"secret"), (fixed, b"fixed"), (theirs, b"theirs")]
    {
        let found = world.state(second, app, address);
        assert_eq!(found.as_deref(), Ok(state), "{}", String::from_utf8_lossy(state));
    }
    world.ask(second, app, Request::RegisterApi(ApiId([9; 64]))).expect("registered");
    let told = world.notices(second, app);
    assert!(
        matches!(told.as_slice(), [Notice::Share { object, .. }] if *object == waits),
        "the one that waits, and not the one that was taken: {told:?}"
    );
    assert_eq!(world.state(second, app, waits).expect("shared"), b"waits");
    // It was taken: nobody is given it again, here or there.
    settle(&mut world);
    let late = world.app(0, 9);
    world.ask(0, late, Request::RegisterApi(ApiId([9; 64]))).expect("registered");
    assert!(world.notices(0, late).is_empty());
}

#[test]
fn both_write_and_both_hear() {
    let (mut world, second) = two();
    let (here, there) = (world.app(0, 1), world.app(second, 1));
    let object = world.new_object(0, here, b"0");
    assert_eq!(world.state(second, there, object).expect("here"), b"0");
    world.push(second, there, object, b"1");
    assert_eq!(states(&world.notices(0, here)), [b"1".to_vec()]);
    world.push(0, here, object, b"2");
    assert_eq!(states(&world.notices(second, there)), [b"2".to_vec()]);
    world.ask(second, there, Request::Delete(object)).expect("deleted");
    assert_eq!(world.notices(0, here), vec![Notice::Deleted(object)]);
    world.state(0, here, object).expect_err("deleted");
}

#[test]
fn of_two_states_written_at_once_one_wins_everywhere_and_the_other_is_kept() {
    let (mut world, second) = two();
    let (here, there) = (world.app(0, 1), world.app(second, 1));
    let object = world.new_object(0, here, b"0");
    assert_eq!(world.state(second, there, object).expect("here"), b"0");
    let link = world.links.keys().map(|(_, link)| *link).max().expect("linked");
    world.disconnect(link);
    world.push(0, here, object, b"of the first");
    world.push(second, there, object, b"of the second");
    world.connect(0, second);
    settle(&mut world);
    let winner = world.state(0, here, object).expect("here");
    assert_eq!(world.state(second, there, object).expect("here"), winner);
    let lost: Vec<(usize, Vec<u8>)> = [(0, here), (second, there)]
        .into_iter()
        .flat_map(|(node, app)| match world.ask(node, app, Request::LostStates) {
            Ok(Reply::LostStates(lost)) => {
                lost.into_iter().map(move |lost| (node, lost.state.to_vec())).collect::<Vec<_>>()
            }
            other => panic!("lost states: {other:?}"),
        })
        .collect();
    let (loser, expected) = if winner == b"of the first" {
        (second, &b"of the second"[..])
    } else {
        (0, &b"of the first"[..])
    };
    assert_eq!(lost, [(loser, expected.to_vec())]);
    // What the other device knew is not lost, however much it wrote since.
    let link = world.links.keys().map(|(_, link)| *link).max().expect("linked");
    world.push(0, here, object, b"seen");
    world.disconnect(link);
    for state in [&b"a"[..], b"b", b"c"] {
        world.push(second, there, object, state);
    }
    world.connect(0, second);
    assert_eq!(world.state(0, here, object).expect("here"), b"c");
    let Ok(Reply::LostStates(again)) = world.ask(0, here, Request::LostStates) else {
        panic!("lost states")
    };
    assert_eq!(again.len(), lost.iter().filter(|(node, _)| *node == 0).count());
    // They are counted for the user, and go with the object.
    let counted = |world: &mut World| {
        [0, second].map(|node| {
            let figures = world.control(node, Control::Figures).expect("figures");
            let figures: serde_json::Value = serde_json::from_str(&figures).expect("JSON");
            figures["lost_states"].as_u64().expect("a figure")
        })
    };
    assert_eq!(counted(&mut world).iter().sum::<u64>(), 1);
    world.ask(0, here, Request::Delete(object)).expect("deleted");
    settle(&mut world);
    assert_eq!(counted(&mut world), [0, 0]);
    let rows = |node: usize| {
        let rows = world.nodes[node].disk.0.keys();
        rows.filter(|(table, row)| *table == Table::Account && row[0] == 6).count()
    };
    assert_eq!([rows(0), rows(second)], [0, 0]);
}

#[test]
fn a_lost_state_of_a_private_object_is_for_its_application_alone() {
    let (mut world, second) = two();
    let (here, there) = (world.app(0, 1), world.app(second, 1));
    let known = token(&mut world, 0, here, None);
    settle(&mut world);
    token(&mut world, second, there, Some(known));
    let private = |state| ObjectRecord { private: true, ..record(state, true) };
    let Ok(Reply::Address(object)) = world.ask(0, here, Request::New(private(b"0"))) else {
        panic!("made")
    };
    assert_eq!(world.state(second, there, object).expect("here"), b"0");
    let link = world.links.keys().map(|(_, link)| *link).max().expect("linked");
    world.disconnect(link);
    for (node, app, state) in [(0, here, &b"of the first"[..]), (second, there, b"of the second")] {
        let update = ObjectRecord { address: Some(object), ..private(state) };
        world.ask(node, app, Request::Update(update)).expect("written");
    }
    world.connect(0, second);
    settle(&mut world);
    let strangers = [world.app(0, 2), world.app(second, 2)];
    let lost = |world: &mut World, node, app| match world.ask(node, app, Request::LostStates) {
        Ok(Reply::LostStates(lost)) => lost,
        other => panic!("lost states: {other:?}"),
    };
    let mut seen = 0;
    for (node, app, stranger) in [(0, here, strangers[0]), (second, there, strangers[1])] {
        for state in lost(&mut world, node, app) {
            seen += 1;
            assert!(lost(&mut world, node, stranger).is_empty(), "not for another application");
            world.ask(node, stranger, Request::DismissLost(state.frame)).expect("answered");
            assert_eq!(lost(&mut world, node, app).len(), 1, "still kept");
            world.ask(node, app, Request::DismissLost(state.frame)).expect("answered");
            assert!(lost(&mut world, node, app).is_empty(), "dismissed");
        }
    }
    assert_eq!(seen, 1, "one of the two states lost");
}

#[test]
fn records_written_apart_are_merged() {
    let (mut world, second) = two();
    let link = world.links.keys().map(|(_, link)| *link).max().expect("linked");
    world.disconnect(link);
    let mut tokens = Vec::new();
    for (node, number) in [(0, 1), (second, 1), (0, 2), (second, 2)] {
        for app in 0..20 {
            let app = world.app(node, number * 100 + app);
            tokens.push(token(&mut world, node, app, None));
            world.input(node, hypergolix_engine::Input::AppDisconnected { connection: app });
        }
    }
    settle(&mut world);
    world.connect(0, second);
    settle(&mut world);
    settle(&mut world);
    for node in [0, second] {
        for (number, known) in tokens.iter().enumerate() {
            let app = world.app(node, 1_000 + number as u64);
            let known = world.ask(node, app, Request::RegisterToken(Some(*known)));
            assert!(known.is_ok(), "token {number} is unknown at {node}: {known:?}");
            world.input(node, hypergolix_engine::Input::AppDisconnected { connection: app });
        }
    }
}

#[test]
fn devices_that_never_meet_agree_through_a_server() {
    let mut world = World::new(1);
    let server = world.server(PersisterConfig::default());
    let here = world.app(0, 1);
    let known = token(&mut world, 0, here, None);
    let object = world.new_object(0, here, b"0");
    world.connect(0, server);
    settle(&mut world);
    let second = world.second_device(0, PASSWORD).expect("the right password");
    world.connect(second, server);
    settle(&mut world);
    let there = world.app(second, 1);
    assert_eq!(token(&mut world, second, there, Some(known)), known);
    assert_eq!(world.state(second, there, object).expect("fetched"), b"0");
    world.push(second, there, object, b"1");
    assert_eq!(world.state(0, here, object).expect("here"), b"1");
    assert_eq!(states(&world.notices(0, here)), [b"1".to_vec()]);
}

/// A device that has the account, and one that joined, which only ever meet at a server.
fn apart() -> (World, usize, usize) {
    let mut world = World::new(1);
    let server = world.server(PersisterConfig::default());
    world.connect(0, server);
    settle(&mut world);
    let second = world.second_device(0, PASSWORD).expect("the right password");
    (world, server, second)
}

fn figure(world: &mut World, node: usize, name: &str) -> u64 {
    let status = world.control(node, Control::Figures).expect("figures");
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    status[name].as_u64().unwrap_or_else(|| panic!("{name} in {status}"))
}

fn heads(world: &World, node: usize) -> usize {
    world.nodes[node].disk.0.keys().filter(|(table, _)| *table == Table::Heads).count()
}

#[test]
fn a_device_that_meets_only_a_server_knows_what_it_has_and_fetches_what_is_wanted() {
    let (mut world, server, second) = apart();
    let here = world.app(0, 1);
    let objects: Vec<Ghid> =
        (0..1_500_u16).map(|number| world.new_object(0, here, &number.to_be_bytes())).collect();
    let Ok(Reply::Address(fixed)) = world.ask(0, here, Request::New(record(b"fixed", false)))
    else {
        panic!("made")
    };
    world.ask(0, here, Request::Delete(objects[0])).expect("deleted");
    settle(&mut world);
    let link = world.connect(second, server);
    settle(&mut world);
    // All of them are known, and none was fetched.
    assert_eq!(figure(&mut world, second, "elsewhere"), 1_500);
    assert!(heads(&world, second) < 100, "{}", heads(&world, second));
    let there = world.app(second, 1);
    assert_eq!(world.state(second, there, objects[7]).expect("fetched"), 7_u16.to_be_bytes());
    assert_eq!(world.state(second, there, fixed).expect("fetched"), b"fixed");
    world.state(second, there, objects[0]).expect_err("deleted");
    assert_eq!(figure(&mut world, second, "elsewhere"), 1_498);
    // What was fetched there is not uploaded there again.
    let status = world.control(second, Control::Figures).expect("figures");
    assert!(status.contains("\"confirmed\":0,"), "{status}");
    // They are listed, page by page.
    let (mut listed, mut after) = (0, None);
    loop {
        let page = world.control(second, Control::Objects { after }).expect("a page");
        let page: Vec<serde_json::Value> = serde_json::from_str(&page).expect("JSON");
        let Some(last) = page.last() else { break };
        let text = last["address"].as_str().expect("an address");
        after = Some(text.parse().expect("an address"));
        listed += page.iter().filter(|it| it["state"] == "absent").count();
    }
    assert_eq!(listed, 1_498);
    // Alone, it says why it cannot show one.
    world.disconnect(link);
    let error = world.state(second, there, objects[8]).expect_err("not here");
    assert!(error.text.contains("not on this machine yet"), "{}", error.text);
    // Nothing is asked twice.
    world.restart(second);
    world.connect(second, server);
    settle(&mut world);
    assert_eq!(figure(&mut world, second, "elsewhere"), 1_498);
    assert!(world.closed.is_empty(), "{:?}", world.closed);
}

#[test]
fn what_one_device_changes_reaches_the_other_through_a_server_unasked() {
    let (mut world, server, second) = apart();
    let here = world.app(0, 1);
    let known = world.new_object(0, here, b"0");
    let doomed = world.new_object(0, here, b"doomed");
    let link = world.connect(second, server);
    settle(&mut world);
    let there = world.app(second, 1);
    assert_eq!(world.state(second, there, known).expect("fetched"), b"0");
    assert_eq!(figure(&mut world, second, "elsewhere"), 1);
    // New ones and changes come by themselves, and applications that have them hear of it.
    let new = world.new_object(0, here, b"new");
    world.push(0, here, known, b"1");
    assert_eq!(states(&world.notices(second, there)), [b"1".to_vec()]);
    world.disconnect(link);
    assert_eq!(world.state(second, there, new).expect("here"), b"new");
    // Also what happened while it was away, once each.
    world.push(0, here, new, b"newer");
    world.push(0, here, new, b"newest");
    world.ask(0, here, Request::Delete(doomed)).expect("deleted");
    let link = world.connect(second, server);
    settle(&mut world);
    assert_eq!(states(&world.notices(second, there)), [b"newest".to_vec()]);
    assert_eq!(figure(&mut world, second, "elsewhere"), 0, "it is gone");
    // And the other way round, over restarts.
    let theirs = world.new_object(second, there, b"theirs");
    world.push(second, there, known, b"2");
    assert_eq!(states(&world.notices(0, here)), [b"2".to_vec()]);
    world.restart(0);
    world.restart(server);
    world.disconnect(link);
    let here = world.app(0, 2);
    assert_eq!(world.state(0, here, theirs).expect("here"), b"theirs");
    world.ask(0, here, Request::Delete(theirs)).expect("deleted");
    world.connect(0, server);
    world.connect(second, server);
    settle(&mut world);
    assert!(world.notices(second, there).contains(&Notice::Deleted(theirs)));
}

#[test]
fn a_server_that_was_wiped_does_not_end_that() {
    let (mut world, server, second) = apart();
    let here = world.app(0, 1);
    let objects: Vec<Ghid> = (0..20_u8).map(|it| world.new_object(0, here, &[it])).collect();
    world.connect(second, server);
    settle(&mut world);
    assert_eq!(figure(&mut world, second, "elsewhere"), 20);
    world.wipe(server);
    world.connect(second, server);
    world.connect(0, server);
    settle(&mut world);
    let there = world.app(second, 1);
    for (number, object) in objects.iter().enumerate() {
        assert_eq!(world.state(second, there, *object).expect("there"), [number as u8]);
    }
    world.push(0, here, objects[0], b"after");
    assert_eq!(states(&world.notices(second, there)), [b"after".to_vec()]);
}

#[test]
fn accounts_of_suite_1_follow_themselves_too() {
    let mut world = World::of_suites(&[Suite::Suite1]);
    let server = world.server(PersisterConfig::default());
    world.connect(0, server);
    let here = world.app(0, 1);
    let object = world.new_object(0, here, b"0");
    settle(&mut world);
    let second = world.second_device(0, PASSWORD).expect("the right password");
    let link = world.connect(second, server);
    settle(&mut world);
    assert_eq!(figure(&mut world, second, "elsewhere"), 1);
    world.disconnect(link);
    world.push(0, here, object, b"1");
    world.connect(second, server);
    settle(&mut world);
    assert_eq!(figure(&mut world, second, "elsewhere"), 0);
    let there = world.app(second, 1);
    assert_eq!(world.state(second, there, object).expect("here"), b"1");
}

#[test]
fn a_password_is_changed_in_one_write() {
    let mut world = World::new(1);
    let account = world.nodes[0].account.clone();
    let mut entropy = Seeded(77);
    let writes = account::change_password(
        &world.nodes[0].disk,
        &account,
        "another long password",
        ScryptCost::LOWEST,
        &mut entropy,
    )
    .expect("changed");
    world.nodes[0].disk.apply(writes);
    let disk = &world.nodes[0].disk;
    let old = account::unlock(disk, PASSWORD);
    assert!(matches!(old, Err(UnlockError::WrongPassword)), "{old:?}");
    let new = account::unlock(disk, "another long password").expect("the new one");
    assert_eq!(new.fingerprint(), account.fingerprint());
    world.restart(0);
    assert!(world.second_device(0, PASSWORD).is_err());
    world.second_device(0, "another long password").expect("the new one");
}

#[test]
fn nobody_joins_with_a_wrong_password_or_another_root() {
    let mut world = World::new(2);
    let user_id = world.nodes[0].account.user_id();
    let (root, other) = (world.root(0), world.root(1));
    let join = |objects: &[_], password: &str| {
        account::join(&user_id, objects, password, &mut Seeded(1)).map(|_| ())
    };
    assert!(matches!(join(&root, "a wrong password"), Err(UnlockError::WrongPassword)));
    assert!(matches!(join(&other, PASSWORD), Err(UnlockError::Damaged(_))));
    assert!(matches!(join(&[], PASSWORD), Err(UnlockError::Damaged(_))));
    for missing in 0..root.len() {
        let mut part = root.clone();
        part.remove(missing);
        assert!(matches!(join(&part, PASSWORD), Err(UnlockError::Damaged(_))), "{missing}");
    }
    assert_eq!(account::root_counter(&user_id, &other), None);
    assert_eq!(account::root_counter(&user_id, &root), Some(256));
    join(&root, PASSWORD).expect("the right one");
    let _: Ghid = user_id;
}

#[test]
fn a_server_whose_list_never_ends_is_asked_no_further() {
    let mut world = World::new(1);
    let second = world.second_device(0, PASSWORD).expect("the right password");
    let server = Peer::persister(&mut world, second, 9, 7);
    server.say(&mut world, Message::Following { cursor: Cursor { epoch: 7, seq: 0 } });
    let asked = |world: &mut World| {
        server.heard(world).into_iter().find_map(|message| match message {
            Message::Owned { id, after, .. } => Some((id, after.map(|Address(after)| after))),
            _ => None,
        })
    };
    let low = Ghid::from_address([1; 64]);
    let high = Ghid::from_address([2; 64]);
    let (mut id, after) = asked(&mut world).expect("what the account has");
    assert_eq!(after, None);
    let page =
        |id, address| Message::Addresses { id, addresses: vec![Address(address)], more: true };
    for address in [low, high] {
        server.say(&mut world, page(id, address));
        let next = asked(&mut world).expect("the next page");
        assert_eq!(next.1, Some(address));
        id = next.0;
    }
    // Nobody asked for this one, and this one leads nowhere.
    server.say(&mut world, page(id + 1, Ghid::from_address([3; 64])));
    assert_eq!(asked(&mut world), None);
    server.say(&mut world, page(id, high));
    assert_eq!(asked(&mut world), None);
    server.say(&mut world, page(id, Ghid::from_address([4; 64])));
    assert_eq!(asked(&mut world), None);
}

/// Rows of account records that devices share, by key.
fn records(world: &World, node: usize) -> std::collections::BTreeMap<Vec<u8>, Vec<u8>> {
    let travelling = [1, 3, 4, 5, 7, 8, 9, 12];
    let rows = world.nodes[node].disk.0.iter();
    rows.filter(|((table, key), _)| *table == Table::Account && travelling.contains(&key[0]))
        .map(|((_, key), row)| (key.clone(), row.clone()))
        .collect()
}

fn linked(world: &World, a: usize, b: usize) -> Option<hypergolix_engine::LinkId> {
    world.links.iter().find(|((node, _), other)| *node == a && **other == b).map(|((_, it), _)| *it)
}

#[test]
fn records_that_are_forgotten_leave_nothing_behind_and_stay_forgotten() {
    let mut world = World::new(2);
    let (alice, bob) = (world.app(0, 1), world.app(1, 1));
    world.ask(0, alice, Request::RegisterApi(ApiId::JSON)).expect("registered");
    let second = world.second_device(0, PASSWORD).expect("the right password");
    let home = world.connect(0, second);
    world.connect(0, 1);
    settle(&mut world);
    let before = records(&world, 0).len();
    let recipient = world.nodes[0].account.fingerprint();
    let theirs: Vec<Ghid> = (0..60_u8)
        .map(|number| {
            let object = world.new_object(1, bob, &[number]);
            world.ask(1, bob, Request::Share { object, recipient }).expect("shared");
            object
        })
        .collect();
    settle(&mut world);
    assert!(records(&world, 0) == records(&world, second));
    assert!(records(&world, 0).len() >= before + 120, "secrets and followed addresses");
    // The second device goes away with all of them, and makes something of its own there.
    world.disconnect(home);
    let there = world.app(second, 1);
    let own = token(&mut world, second, there, None);
    for object in &theirs {
        world.ask(1, bob, Request::Delete(*object)).expect("deleted");
    }
    settle(&mut world);
    let after = records(&world, 0).len();
    assert!(after <= before, "{before} before, {after} after");
    // Much happens, and restarts, before it comes back.
    world.restart(0);
    world.connect(0, 1);
    let alice = world.app(0, 2);
    for _ in 0..300 {
        let app = world.app(0, 3);
        token(&mut world, 0, app, None);
        world.input(0, hypergolix_engine::Input::AppDisconnected { connection: app });
    }
    settle(&mut world);
    world.restart(second);
    world.connect(0, second);
    settle(&mut world);
    settle(&mut world);
    assert!(records(&world, 0) == records(&world, second));
    assert_eq!(records(&world, second).len(), after + 301);
    for node in [0, second] {
        assert_eq!(figure(&mut world, node, "followed"), 0);
    }
    assert_eq!(token(&mut world, 0, alice, Some(own)), own, "what it made itself came along");
    assert!(world.closed.is_empty(), "{:?}", world.closed);
}

#[test]
fn three_devices_agree_about_records_in_whatever_order_they_meet() {
    for seed in 0..12 {
        let mut world = World::new(2);
        let mut devices = vec![0];
        for _ in 0..2 {
            devices.push(world.second_device(0, PASSWORD).expect("the right password"));
        }
        for pair in [(0, 1), (0, 2), (1, 2)] {
            world.connect(devices[pair.0], devices[pair.1]);
        }
        let apps: Vec<ConnectionId> = devices.iter().map(|node| world.app(*node, 1)).collect();
        // All of them know whom to share with.
        let known = world.connect(0, 1);
        let recipient = world.nodes[1].account.fingerprint();
        let objects: Vec<Ghid> = (0..4).map(|it| world.new_object(0, apps[0], &[it])).collect();
        for object in &objects {
            let share = Request::Share { object: *object, recipient };
            world.ask(0, apps[0], share).expect("shared");
        }
        settle(&mut world);
        world.disconnect(known);
        let mut entropy = common::Seeded(seed);
        for _ in 0..60 {
            let mut dice = [0; 4];
            hypergolix_engine::Entropy::fill(&mut entropy, &mut dice);
            let (node, app) = {
                let at = usize::from(dice[0]) % 3;
                (devices[at], apps[at])
            };
            let object = objects[usize::from(dice[1]) % objects.len()];
            match dice[2] % 6 {
                0 => drop(world.ask(node, app, Request::Share { object, recipient })),
                1 => drop(world.ask(node, app, Request::Unshare { object, recipient })),
                2 => settle(&mut world),
                3 => {
                    let fresh = world.app(node, 100 + u64::from(dice[3]));
                    token(&mut world, node, fresh, None);
                    let connection = fresh;
                    world.input(node, hypergolix_engine::Input::AppDisconnected { connection });
                }
                _ => {
                    let other = devices[usize::from(dice[3]) % 3];
                    match linked(&world, node, other) {
                        Some(link) => world.disconnect(link),
                        None if other != node => drop(world.connect(node, other)),
                        None => {}
                    }
                }
            }
        }
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            if linked(&world, devices[a], devices[b]).is_none() {
                world.connect(devices[a], devices[b]);
            }
        }
        for _ in 0..4 {
            settle(&mut world);
        }
        let first = records(&world, devices[0]);
        for device in &devices[1..] {
            assert!(records(&world, *device) == first, "seed {seed}");
        }
        // And they have come to rest.
        let frames: Vec<usize> = devices.iter().map(|node| heads(&world, *node)).collect();
        settle(&mut world);
        assert_eq!(frames, devices.iter().map(|node| heads(&world, *node)).collect::<Vec<_>>());
    }
}

/// Draws the same number again and again.
struct Always(u64);

impl hypergolix_engine::Entropy for Always {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.0.to_be_bytes();
            chunk.copy_from_slice(&number[8 - chunk.len()..]);
        }
    }
}

fn slot_of(world: &World, node: usize) -> u8 {
    world.nodes[node].disk.0[&(Table::Meta, b"device slot".to_vec())][0]
}

#[test]
fn a_restored_backup_never_has_a_slot_that_it_knows() {
    let mut world = World::new(1);
    let app = world.app(0, 1);
    let object = world.new_object(0, app, b"first");
    let backup = world.nodes[0].disk.clone();
    let head = &backup.0[&(Table::Heads, object.as_bytes().to_vec())];
    let head = golix::persister::Head::decode(head).expect("a head");
    for former in 1..=u8::MAX {
        // Other devices wrote as well, and their slots are known from their frames alone.
        for dice in 0..64 {
            let other = 192 + (former.wrapping_add(dice as u8) % 64);
            let mut disk = backup.clone();
            disk.0.insert((Table::Meta, b"device slot".to_vec()), vec![former]);
            let theirs =
                golix::persister::Head { counter: 9 << 8 | u64::from(other), ..head.clone() };
            let key = (Table::Heads, Ghid::of(b"theirs").as_bytes().to_vec());
            disk.0.insert(key, theirs.encode());
            let writes = account::restored(&disk, &mut Always(dice)).expect("sound");
            disk.apply(writes);
            let slot = disk.0[&(Table::Meta, b"device slot".to_vec())][0];
            assert!(slot != former && slot != other && slot > 191, "{slot}: {former} and {other}");
        }
    }
}

#[test]
fn an_old_backup_that_is_restored_and_pushes_at_once_forks_nothing_and_loses_nothing() {
    let mut world = World::new(1);
    let server = world.server(PersisterConfig::default());
    let app = world.app(0, 1);
    let object = world.new_object(0, app, b"first");
    world.connect(0, server);
    settle(&mut world);
    let start = world.nodes[0].disk.clone();
    let at_server = world.nodes[server].disk.clone();
    // Those that are drawn, and some that never are.
    for former in [1, 2, 77, 191].into_iter().chain(192..=u8::MAX) {
        let mut world = World::new(1);
        let server = world.server(PersisterConfig::default());
        world.nodes[server].disk = at_server.clone();
        world.restart(server);
        world.nodes[0].disk = start.clone();
        let slot = (Table::Meta, b"device slot".to_vec());
        world.nodes[0].disk.0.insert(slot, vec![former]);
        world.restart(0);
        let app = world.app(0, 1);
        world.connect(0, server);
        world.push(0, app, object, b"before the backup");
        let backup = world.nodes[0].disk.clone();
        // The same step as the next one of the backup, and more.
        for number in 0..=u8::from(former % 2 == 0) {
            world.push(0, app, object, &[number]);
        }
        settle(&mut world);
        // It draws what it had, if it can.
        let dice = u64::from(former.saturating_sub(192));
        let restored = world.restored(0, &backup, &mut Always(dice));
        let there = world.app(restored, 1);
        world.push(restored, there, object, b"of the backup");
        world.connect(restored, server);
        settle(&mut world);
        assert_ne!(slot_of(&world, restored), former);
        assert_eq!(slot_of(&world, 0), former, "nobody has to move");
        let heads: Vec<Vec<u8>> = [0, server, restored]
            .map(|node| {
                world.nodes[node].disk.0[&(Table::Heads, object.as_bytes().to_vec())].clone()
            })
            .to_vec();
        assert!(heads.iter().all(|head| *head == heads[0]), "slot {former}: all agree");
        let head = golix::persister::Head::decode(&heads[0]).expect("a head");
        assert_eq!(head.forks, [], "slot {former}");
        // What lost is reported where it was made, and by a device that was restored from a backup also
        // if it was made elsewhere: that device may be gone.
        let state = world.state(0, app, object).expect("own");
        let lost = [(0, app), (restored, there)].map(|(node, app)| {
            let lost = world.ask(node, app, Request::LostStates).expect("answered");
            format!("{lost:?}").matches("LostState {").count()
        });
        let wins = state == b"of the backup";
        assert_eq!(lost, if wins { [1, 1] } else { [0, 1] }, "slot {former}: {state:?}");
    }
}

fn part_all(world: &mut World) {
    let links: Vec<_> = world.links.keys().map(|(_, link)| *link).collect();
    for link in links {
        world.disconnect(link);
    }
}

fn lost(world: &mut World, node: usize, app: ConnectionId) -> Vec<Vec<u8>> {
    match world.ask(node, app, Request::LostStates) {
        Ok(Reply::LostStates(lost)) => lost.into_iter().map(|lost| lost.state.to_vec()).collect(),
        other => panic!("lost states: {other:?}"),
    }
}

#[test]
fn what_a_device_wrote_before_it_was_gone_is_kept_by_a_backup_that_pushes_at_once() {
    let (mut world, server, _) = apart();
    let here = world.app(0, 1);
    let object = world.new_object(0, here, b"0");
    settle(&mut world);
    let backup = world.nodes[0].disk.clone();
    world.push(0, here, object, b"a month of work");
    // The device is gone; the server has what it wrote.
    part_all(&mut world);
    let restored = world.restored(0, &backup, &mut Seeded(7));
    let there = world.app(restored, 1);
    world.push(restored, there, object, b"at once");
    world.push(restored, there, object, b"and again");
    for _ in 0..2 {
        let link = world.connect(restored, server);
        settle(&mut world);
        assert_eq!(world.state(restored, there, object).expect("here"), b"and again");
        assert_eq!(lost(&mut world, restored, there), [b"a month of work".to_vec()]);
        world.disconnect(link);
    }
}

#[test]
fn a_state_that_others_have_and_the_winner_had_not_seen_is_kept() {
    // The server confirmed it; the other device was away, and wrote more.
    let (mut world, server, second) = apart();
    let (here, there) = (world.app(0, 1), world.app(second, 1));
    let object = world.new_object(0, here, b"0");
    let link = world.connect(second, server);
    settle(&mut world);
    assert_eq!(world.state(second, there, object).expect("fetched"), b"0");
    world.disconnect(link);
    world.push(0, here, object, b"stored at the server");
    settle(&mut world);
    for state in [&b"1"[..], b"2"] {
        world.push(second, there, object, state);
    }
    world.connect(second, server);
    settle(&mut world);
    assert_eq!(world.state(0, here, object).expect("here"), b"2");
    assert_eq!(lost(&mut world, 0, here), [b"stored at the server".to_vec()]);
    assert_eq!(lost(&mut world, second, there), Vec::<Vec<u8>>::new());
    // What was seen is not lost, although only the last of many states is heard of.
    world.push(0, here, object, b"seen");
    assert_eq!(world.state(second, there, object).expect("here"), b"seen");
    part_all(&mut world);
    for state in [&b"a"[..], b"b", b"c"] {
        world.push(second, there, object, state);
    }
    world.connect(second, server);
    settle(&mut world);
    world.connect(0, server);
    settle(&mut world);
    assert_eq!(world.state(0, here, object).expect("here"), b"c");
    assert_eq!(lost(&mut world, 0, here).len(), 1);
}

#[test]
fn of_three_devices_one_has_what_loses_and_its_writer_keeps_it() {
    let (mut world, second) = two();
    let third = world.second_device(0, PASSWORD).expect("the right password");
    world.connect(0, third);
    let (here, far) = (world.app(0, 1), world.app(third, 1));
    let object = world.new_object(0, here, b"0");
    settle(&mut world);
    assert_eq!(world.state(third, far, object).expect("here"), b"0");
    let link = world.links.keys().map(|(_, link)| *link).max().expect("linked");
    world.disconnect(link);
    world.push(0, here, object, b"seen by the second");
    let there = world.app(second, 1);
    assert_eq!(world.state(second, there, object).expect("here"), b"seen by the second");
    for state in [&b"1"[..], b"2", b"3"] {
        world.push(third, far, object, state);
    }
    world.connect(0, third);
    settle(&mut world);
    assert_eq!(world.state(0, here, object).expect("here"), b"3");
    assert_eq!(lost(&mut world, 0, here), [b"seen by the second".to_vec()]);
}

#[test]
fn a_device_that_joined_with_a_slot_that_is_taken_moves_on_before_anything_is_lost() {
    let mut world = World::new(1);
    let server = world.server(PersisterConfig::default());
    let here = world.app(0, 1);
    let known = token(&mut world, 0, here, None);
    let home = world.connect(0, server);
    settle(&mut world);
    let second = world.second_device(0, PASSWORD).expect("the right password");
    world.nodes[second].disk.0.insert((Table::Meta, b"device slot".to_vec()), vec![1]);
    world.restart(second);
    world.input(0, hypergolix_engine::Input::AppDisconnected { connection: here });
    // Both make records before they meet, so that the numbers of their changes are the same.
    world.disconnect(home);
    let mut tokens = vec![known];
    for number in 0..20 {
        for node in [0, second] {
            let app = world.app(node, 100 + number);
            tokens.push(token(&mut world, node, app, None));
            world.input(node, hypergolix_engine::Input::AppDisconnected { connection: app });
        }
    }
    settle(&mut world);
    world.connect(second, server);
    settle(&mut world);
    world.connect(0, server);
    for _ in 0..4 {
        settle(&mut world);
    }
    assert_ne!(slot_of(&world, second), slot_of(&world, 0));
    assert!(records(&world, 0) == records(&world, second));
    for (number, known) in tokens.iter().enumerate() {
        let app = world.app(0, 1_000 + number as u64);
        assert_eq!(token(&mut world, 0, app, Some(*known)), *known, "token {number}");
    }
}

#[test]
fn a_share_that_was_taken_does_not_come_back_from_a_device_that_only_looked_at_it() {
    let mut world = World::new(2);
    let bob = world.app(1, 1);
    let second = world.second_device(0, PASSWORD).expect("the right password");
    let home = world.connect(0, second);
    world.connect(0, 1);
    settle(&mut world);
    let recipient = world.nodes[0].account.fingerprint();
    for number in 0..10_u8 {
        let object = world.new_object(1, bob, &[number]);
        world.ask(1, bob, Request::Share { object, recipient }).expect("shared");
    }
    // The second device hears of them and sees for itself that they can be read; before anything of
    // that comes back an application takes them.
    world.advance(limits::PIECES_DELAY);
    let waiting = |world: &World, node| records(world, node).keys().filter(|it| it[0] == 4).count();
    assert_eq!(waiting(&world, second), 10);
    world.disconnect(home);
    let app = world.app(0, 2);
    world.ask(0, app, Request::RegisterApi(ApiId::JSON)).expect("registered");
    assert_eq!(world.notices(0, app).len(), 10);
    world.connect(0, second);
    for _ in 0..3 {
        settle(&mut world);
    }
    for node in [0, second] {
        assert_eq!(waiting(&world, node), 0);
        let late = world.app(node, 9);
        world.ask(node, late, Request::RegisterApi(ApiId::JSON)).expect("registered");
        assert!(world.notices(node, late).is_empty(), "at {node}");
    }
    assert!(world.notices(0, app).is_empty());
}

#[test]
fn a_share_that_came_to_two_devices_is_announced_once() {
    for taken_before_they_meet in [false, true] {
        let mut world = World::new(2);
        let server = world.server(PersisterConfig::default());
        let bob = world.app(1, 1);
        let second = world.second_device(0, PASSWORD).expect("the right password");
        let home = world.connect(0, second);
        settle(&mut world);
        world.disconnect(home);
        // Both are at the server, which hands a request to both.
        for node in [0, 1, second] {
            world.connect_as(node, server, true);
        }
        settle(&mut world);
        let app = world.app(second, 2);
        if taken_before_they_meet {
            world.ask(second, app, Request::RegisterApi(ApiId::JSON)).expect("registered");
        }
        let recipient = world.nodes[0].account.fingerprint();
        let object = world.new_object(1, bob, b"shared");
        world.ask(1, bob, Request::Share { object, recipient }).expect("shared");
        world.advance(limits::PIECES_DELAY / 2);
        let mut heard = world.notices(second, app).len();
        settle(&mut world);
        world.connect(0, second);
        settle(&mut world);
        world.ask(second, app, Request::RegisterApi(ApiId::JSON)).expect("registered");
        settle(&mut world);
        heard += world.notices(second, app).len();
        assert_eq!(heard, 1, "taken before they meet: {taken_before_they_meet}");
        for node in [0, second] {
            let late = world.app(node, 9);
            world.ask(node, late, Request::RegisterApi(ApiId::JSON)).expect("registered");
            assert!(world.notices(node, late).is_empty(), "at {node}");
        }
        // The same object shared again is another share.
        world.ask(1, bob, Request::Share { object, recipient }).expect("shared");
        settle(&mut world);
        assert_eq!(world.notices(second, app).len(), 1);
    }
}

#[test]
fn a_static_object_that_somebody_holds_is_deleted_on_every_device_of_its_author() {
    for away in [false, true] {
        let mut world = World::new(2);
        let server = world.server(PersisterConfig::default());
        let (here, carol) = (world.app(0, 1), world.app(1, 1));
        world.ask(1, carol, Request::RegisterApi(ApiId::JSON)).expect("registered");
        world.connect(0, server);
        world.connect(1, server);
        let Ok(Reply::Address(object)) = world.ask(0, here, Request::New(record(b"fixed", false)))
        else {
            panic!("made")
        };
        let recipient = world.nodes[1].account.fingerprint();
        world.ask(0, here, Request::Share { object, recipient }).expect("shared");
        settle(&mut world);
        let second = world.second_device(0, PASSWORD).expect("the right password");
        let link = world.connect(second, server);
        settle(&mut world);
        let there = world.app(second, 1);
        assert_eq!(world.state(second, there, object).expect("fetched"), b"fixed");
        world.ask(1, carol, Request::Hold(object)).expect("held");
        settle(&mut world);
        if away {
            world.disconnect(link);
        }
        world.ask(0, here, Request::Delete(object)).expect("deleted");
        if away {
            world.connect(second, server);
        }
        settle(&mut world);
        world.state(second, there, object).expect_err("deleted");
        assert_eq!(world.state(1, carol, object).expect("held"), b"fixed");
        let error = world.ask(second, there, Request::Share { object, recipient });
        error.expect_err("it cannot be shared on");
    }
}

#[test]
fn what_one_device_holds_stays_readable_there_when_another_hears_that_it_is_deleted() {
    for away in [false, true] {
        let mut world = World::new(2);
        let server = world.server(PersisterConfig::default());
        let (here, carol) = (world.app(0, 1), world.app(1, 1));
        world.ask(1, carol, Request::RegisterApi(ApiId::JSON)).expect("registered");
        world.connect(0, server);
        let link = world.connect(1, server);
        let object = world.new_object(0, here, b"kept");
        let recipient = world.nodes[1].account.fingerprint();
        world.ask(0, here, Request::Share { object, recipient }).expect("shared");
        settle(&mut world);
        let second = world.second_device(1, PASSWORD).expect("the right password");
        world.connect(second, server);
        settle(&mut world);
        world.ask(1, carol, Request::Hold(object)).expect("held");
        if away {
            settle(&mut world);
            world.disconnect(link);
        }
        world.ask(0, here, Request::Delete(object)).expect("deleted");
        settle(&mut world);
        if away {
            world.connect(1, server);
        }
        settle(&mut world);
        settle(&mut world);
        assert_eq!(world.state(1, carol, object).expect("held"), b"kept", "away: {away}");
        world.restart(1);
        let carol = world.app(1, 1);
        assert_eq!(world.state(1, carol, object).expect("held"), b"kept");
        world.ask(1, carol, Request::Delete(object)).expect("released");
        world.state(1, carol, object).expect_err("nobody holds it");
    }
}
