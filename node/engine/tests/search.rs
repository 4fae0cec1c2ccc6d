//! Whom a node looks for in the distributed hash table, and when.

#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::World;
use common::peer::pack;
use hypergolix_engine::message::{Address, Cursor, Role};
use hypergolix_engine::route::{Host, Route, Subject};
use hypergolix_engine::{Input, Message, PersisterConfig, Table};
use hypergolix_ipc::{ApiId, Request};

fn world() -> World {
    let mut world = World::new(2);
    world.searches = true;
    world.restart(0);
    world.restart(1);
    world
}

#[test]
fn who_is_owed_something_is_looked_for_until_a_link_leads_there() {
    let mut world = world();
    let (alice, bob) = (world.app(0, 1), world.app(1, 1));
    let him = world.nodes[1].account.fingerprint();
    world.ask(1, bob, Request::RegisterApi(ApiId::JSON)).expect("registered");
    world.advance(Duration::from_secs(60));
    assert!(world.nodes.iter().all(|node| node.searched.is_empty()), "nobody is needed");

    let object = world.new_object(0, alice, b"state");
    world.ask(0, alice, Request::Share { object, recipient: him }).expect("shared");
    assert!(world.nodes[0].searched.is_empty(), "he may come by himself");
    world.advance(Duration::from_secs(3));
    assert_eq!(world.nodes[0].searched, [him]);
    // Ever less often: after 10, 30, 70 and 150 s.
    world.advance(Duration::from_secs(160));
    let searched = world.nodes[0].searched.len();
    assert!((4..=6).contains(&searched), "{searched}");
    world.advance(Duration::from_secs(24 * 3_600));
    let searched = world.nodes[0].searched.len();
    assert!((40..70).contains(&searched), "{searched} in a day");

    let link = world.connect(0, 1);
    world.answers_leave();
    world.state(1, bob, object).expect("it was delivered");
    let before = world.nodes.iter().map(|node| node.searched.len()).sum::<usize>();
    world.advance(Duration::from_secs(3_600));
    assert_eq!(world.nodes.iter().map(|node| node.searched.len()).sum::<usize>(), before);

    // He follows what she made, so he looks for her when she is gone; she has nothing to say to him.
    world.disconnect(link);
    world.advance(Duration::from_secs(3));
    assert_eq!(world.nodes[1].searched, [world.nodes[0].account.fingerprint()]);
    assert_eq!(world.nodes[0].searched.len(), searched);
}

#[test]
fn what_is_owed_is_remembered_over_a_restart() {
    let mut world = world();
    let alice = world.app(0, 1);
    let him = world.nodes[1].account.fingerprint();
    let object = world.new_object(0, alice, b"state");
    world.ask(0, alice, Request::Share { object, recipient: him }).expect("shared");
    world.restart(0);
    world.advance(Duration::from_secs(3));
    assert_eq!(world.nodes[0].searched, [him]);
}

#[test]
fn very_many_are_looked_for_in_turns() {
    let mut world = world();
    let alice = world.app(0, 1);
    let object = world.new_object(0, alice, b"state");
    for number in 0..100_u8 {
        let recipient = golix::Ghid::from_address([number; 64]);
        world.ask(0, alice, Request::Share { object, recipient }).expect("shared");
    }
    world.advance(Duration::from_secs(3));
    assert_eq!(world.nodes[0].searched.len(), 16);
    world.advance(Duration::from_secs(20));
    let mut all = world.nodes[0].searched.clone();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 100);
}

#[test]
fn the_other_devices_of_the_account_are_looked_for() {
    let mut world = world();
    let me = world.nodes[0].account.fingerprint();
    world.advance(Duration::from_secs(60));
    assert!(world.nodes[0].searched.is_empty(), "there are none");
    let second = world.second_device(0, common::PASSWORD).expect("the password is right");
    world.advance(Duration::from_secs(3));
    assert_eq!(world.nodes[second].searched, [me]);
    let link = world.connect(0, second);
    let searched = world.nodes[second].searched.len();
    world.advance(Duration::from_secs(3_600));
    assert_eq!(world.nodes[second].searched.len(), searched, "it is there");
    assert!(world.nodes[0].searched.is_empty());
    world.disconnect(link);
    world.advance(Duration::from_secs(3));
    assert_eq!(world.nodes[0].searched, [me], "now both know");
}

fn holds(world: &World, node: usize, ghid: &golix::Ghid) -> bool {
    let disk = &world.nodes[node].disk.0;
    [Table::Heads, Table::Objects]
        .into_iter()
        .any(|table| disk.contains_key(&(table, ghid.as_bytes().to_vec())))
}

/// Where a server is, as a record of somebody says.
fn names(world: &World, server: usize) -> Vec<Route> {
    let device = world.nodes[server].device.clone();
    let host = Host { device, addresses: vec![vec![1]] };
    let persisters = vec![host];
    vec![Route { host: Host { device: vec![9], addresses: Vec::new() }, persisters, stamp: 1 }]
}

/// The DHT answers a node that looks for an identity.
fn found(world: &mut World, node: usize, identity: golix::Ghid, server: usize) {
    let routes = names(world, server);
    world.input(node, Input::Found { subject: Subject::Identity(identity), routes });
}

/// Alice and Bob use different servers, and are never there together.
#[test]
fn author_and_reader_with_different_servers_share_through_the_reader_s_and_fetch_at_the_author_s() {
    let mut world = world();
    let (hers, his) =
        (world.server(PersisterConfig::default()), world.server(PersisterConfig::default()));
    let (alice, bob) = (world.app(0, 1), world.app(1, 1));
    let [her, him] = [0, 1].map(|node| world.nodes[node].account.fingerprint());
    world.ask(1, bob, Request::RegisterApi(ApiId::JSON)).expect("registered");
    // Both are known at their own servers.
    let at_hers = world.connect(0, hers);
    let at_his = world.connect(1, his);
    world.disconnect(at_his);
    let object = world.new_object(0, alice, b"first");
    world.new_object(0, alice, b"not his business");
    world.ask(0, alice, Request::Share { object, recipient: him }).expect("shared");
    world.advance(Duration::from_secs(3));
    assert_eq!(world.nodes[0].searched, [him]);
    found(&mut world, 0, him, his);
    assert!(world.nodes[0].visited.is_empty(), "his devices may come");
    world.advance(Duration::from_secs(4));
    assert_eq!(world.nodes[0].visited.len(), 1);
    let as_guest = world.connect_as(0, his, false);
    world.run();
    assert!(!holds(&world, his, &object), "nothing is uploaded where we are guests");
    world.disconnect(as_guest);
    world.disconnect(at_hers);

    // He finds the share in his mailbox, and the object where she left it.
    world.connect(1, his);
    world.answers_leave();
    world.advance(Duration::from_secs(3));
    assert!(world.nodes[1].searched.contains(&her));
    assert!(!holds(&world, 1, &object));
    found(&mut world, 1, her, hers);
    world.advance(Duration::from_secs(4));
    let as_guest = world.connect_as(1, hers, false);
    world.run();
    assert_eq!(world.state(1, bob, object).expect("fetched"), b"first");
    // Her server hears no more than that, and gets the answer for her.
    assert!(world.nodes[1].disk.0.keys().all(|(table, _)| *table != Table::Outbox), "answered");
    world.connect(0, hers);
    world.answers_leave();
    world.advance(Duration::from_secs(2));
    assert!(world.nodes[0].disk.0.keys().all(|(table, _)| *table != Table::Outbox), "settled");
    // New states come as they are made.
    world.push(0, alice, object, b"second");
    assert_eq!(world.state(1, bob, object).expect("subscribed"), b"second");

    // When nothing is followed there any more, the guest leaves.
    world.ask(0, alice, Request::Delete(object)).expect("deleted");
    assert!(world.state(1, bob, object).is_err(), "deletions come, too");
    world.advance(Duration::from_secs(60));
    assert_eq!(world.nodes[1].left, [world.nodes[hers].device.clone()]);
    world.disconnect(as_guest);
}

#[test]
fn nobody_sends_a_node_to_servers_for_others_sake() {
    let mut world = world();
    let server = world.server(PersisterConfig::default());
    let him = world.nodes[1].account.fingerprint();
    found(&mut world, 0, him, server);
    world.advance(Duration::from_secs(60));
    assert!(world.nodes[0].visited.is_empty(), "nobody looks for him");
    let alice = world.app(0, 1);
    let object = world.new_object(0, alice, b"state");
    world.ask(0, alice, Request::Share { object, recipient: him }).expect("shared");
    world.advance(Duration::from_secs(3));
    // At most four servers of one identity are visited.
    let mut routes = Vec::new();
    for number in 0..8_u8 {
        let mut route = names(&world, server).remove(0);
        route.persisters[0].device = vec![100 + number; 38];
        route.stamp = u64::from(number);
        routes.push(route);
    }
    world.input(0, Input::Found { subject: Subject::Identity(him), routes });
    world.advance(Duration::from_secs(8));
    let visited: Vec<u8> = world.nodes[0].visited.iter().map(|host| host.device[0]).collect();
    assert_eq!(visited, [107, 106, 105, 104]);
    // A server that nobody named is told nothing, whatever it says it is.
    let link = world.connect_as(0, server, false);
    world.run();
    assert!(!holds(&world, server, &him));
    world.disconnect(link);
}

/// A device is at a place and uses a server.
fn is_at(world: &mut World, node: usize, place: u8, stamp: u64) -> Route {
    let host = Host { device: world.nodes[node].device.clone(), addresses: vec![vec![place]] };
    let server = Host { device: vec![place; 38], addresses: vec![vec![place]] };
    let route = Route { host, persisters: vec![server], stamp };
    world.input(node, Input::Here { route: route.clone() });
    route
}

#[test]
fn where_others_were_is_tried_first_after_a_restart() {
    let mut world = world();
    let (alice, bob) = (world.app(0, 1), world.app(1, 1));
    let [her, him] = [0, 1].map(|node| world.nodes[node].account.fingerprint());
    world.ask(1, bob, Request::RegisterApi(ApiId::JSON)).expect("registered");
    is_at(&mut world, 0, 50, 1);
    let object = world.new_object(0, alice, b"state");
    world.ask(0, alice, Request::Share { object, recipient: him }).expect("shared");
    let link = world.connect(0, 1);
    world.answers_leave();
    assert_eq!(world.state(1, bob, object).expect("it came"), b"state");
    // She moves while they are linked.
    let hers = is_at(&mut world, 0, 51, 2);
    world.disconnect(link);

    // Nobody has to be looked up.
    world.restart(1);
    world.advance(Duration::from_secs(3));
    assert_eq!(world.nodes[1].visited.as_slice(), std::slice::from_ref(&hers.host));
    assert!(world.nodes[1].searched.is_empty());
    let link = world.connect(0, 1);
    world.advance(Duration::from_secs(600));
    assert!(world.nodes[1].searched.is_empty());
    assert_eq!(world.nodes[1].visited.len(), 1, "her server is not needed");
    // What she said is sealed.
    for ((table, key), value) in &world.nodes[1].disk.0 {
        let shown = |row: &[u8]| row.windows(20).any(|part| part == [51; 20]);
        assert!(!shown(key) && !shown(value), "{table:?}");
    }

    // She is not there: her server, which she named, and then everybody is asked.
    world.disconnect(link);
    world.restart(1);
    world.advance(Duration::from_secs(7));
    assert_eq!(world.nodes[1].visited, [hers.host, hers.persisters[0].clone()]);
    world.advance(Duration::from_secs(2));
    assert_eq!(world.nodes[1].searched, [her]);
    // What the DHT says, later than she did, is remembered as well; what is older is not.
    let device = world.nodes[0].device.clone();
    let moved = |place: u8, stamp: u64| {
        let host = Host { device: device.clone(), addresses: vec![vec![place]] };
        vec![Route { host, persisters: Vec::new(), stamp }]
    };
    for (place, stamp) in [(60, 9), (61, 8)] {
        let routes = moved(place, stamp);
        world.input(1, Input::Found { subject: Subject::Identity(her), routes });
    }
    world.restart(1);
    world.advance(Duration::from_secs(3));
    assert_eq!(world.nodes[1].visited.as_slice(), std::slice::from_ref(&moved(60, 9)[0].host));

    // When nothing is followed there any more it is forgotten.
    world.connect(0, 1);
    world.ask(0, alice, Request::Delete(object)).expect("deleted");
    world.advance(Duration::from_secs(600));
    world.restart(1);
    world.advance(Duration::from_secs(60));
    assert!(world.nodes[1].visited.is_empty() && world.nodes[1].searched.is_empty());
}

#[test]
fn a_device_speaks_only_of_itself_and_of_whom_it_proved() {
    let mut world = world();
    let stranger = common::peer::Peer::link(&mut world, 0, 5);
    let host = Host { device: stranger.device.clone(), addresses: vec![vec![1]] };
    let mut route = Route { host, persisters: Vec::new(), stamp: 1 };
    let say = |route: &Route| Message::Route { route: route.encode().into() };
    let before = world.nodes[0].disk.0.len();
    stranger.say(&mut world, say(&route));
    assert!(stranger.is_up(&world));
    route.host.device[0] ^= 1;
    stranger.say(&mut world, say(&route));
    assert!(!stranger.is_up(&world), "it speaks of somebody else");
    assert_eq!(world.nodes[0].disk.0.len(), before);
}

#[test]
fn a_device_that_says_without_end_where_it_is_is_written_down_some_times() {
    let mut world = world();
    let (peer, _) = common::peer::shares(&mut world, 0, 5);
    for stamp in 1..=1_000_u16 {
        let addresses = vec![stamp.to_be_bytes().to_vec()];
        let host = Host { device: peer.device.clone(), addresses };
        let route = Route { host, persisters: Vec::new(), stamp: stamp.into() };
        peer.say(&mut world, Message::Route { route: route.encode().into() });
    }
    assert!(peer.is_up(&world), "a machine may move about");
    world.disconnect(peer.link);
    world.restart(0);
    world.advance(Duration::from_secs(3));
    let places: Vec<_> = world.nodes[0].visited.iter().map(|host| &host.addresses).collect();
    assert_eq!(places, [&vec![8_u16.to_be_bytes().to_vec()]]);
}

#[test]
fn a_server_of_others_is_told_nothing_but_what_is_fetched_there() {
    let mut world = world();
    let (peer, thing) = common::peer::shares(&mut world, 0, 5);
    let author = peer.me.ghid();
    let link = peer.link;
    // Something of our own, and something owed to somebody else.
    let app = world.app(0, 1);
    let own = world.new_object(0, app, b"own");
    let him = world.nodes[1].account.fingerprint();
    world.ask(0, app, Request::Share { object: own, recipient: him }).expect("shared");
    world.disconnect(link);
    world.answers_leave();

    let mut server = common::peer::Peer::silent(&mut world, 0, 6);
    server.role = Role::Persister { epoch: 7 };
    let host = Host { device: server.device.clone(), addresses: Vec::new() };
    let device = Host { device: vec![9], addresses: Vec::new() };
    let routes = vec![Route { host: device, persisters: vec![host], stamp: 1 }];
    world.input(0, Input::Found { subject: Subject::Identity(author), routes });
    server.greet(&mut world);
    assert!(server.heard(&mut world).is_empty(), "its devices have their time");
    world.advance(Duration::from_secs(4));
    let heard = server.heard(&mut world);
    for message in &heard {
        match message {
            Message::Subscribe { addresses, .. } => {
                let addresses: Vec<_> = addresses.iter().map(|address| address.0).collect();
                assert_eq!(addresses, [thing.dynamic]);
            }
            Message::Reconcile { subscriber: true, .. } => {}
            // What answers the author's share, in the author's mailbox.
            Message::Publish { objects, .. } => assert_eq!(objects.len(), 3),
            other => panic!("it need not know: {other:?}"),
        }
    }
    assert!(heard.iter().any(|message| matches!(message, Message::Subscribe { .. })));

    // What it says beside that is no order.
    let devices = vec![vec![1; 38].into()];
    server.say(&mut world, Message::Located { devices });
    assert!(world.nodes[0].reached.is_empty());
    let (frame, container) = thing.step(2, b"second", 2);
    let cursor = Cursor { epoch: 7, seq: 1 };
    let address = Address(thing.dynamic);
    let objects = vec![pack(&frame), pack(&container)];
    server.say(&mut world, Message::Event { cursor, address, objects });
    assert_eq!(world.state(0, app, thing.dynamic).expect("fetched"), b"second");
    let stranger = common::peer::Thing::new(&server.me, 1);
    let (frame, container) = stranger.step(1, b"not asked for", 1);
    let objects = vec![server.gidc(), pack(&frame), pack(&container)];
    let cursor = Cursor { epoch: 7, seq: 2 };
    server.say(&mut world, Message::Event { cursor, address: Address(stranger.dynamic), objects });
    assert!(!holds(&world, 0, &stranger.dynamic));
    // A new object of ours is not its business either.
    server.heard(&mut world);
    world.new_object(0, app, b"another");
    world.advance(Duration::from_secs(1));
    assert!(
        server.heard(&mut world).iter().all(|message| !matches!(message, Message::Publish { .. }))
    );
}
