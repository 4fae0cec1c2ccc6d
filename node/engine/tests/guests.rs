//! Guests at servers that are not open to everybody.

#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::World;
use common::peer::{Peer, Thing, identity, identity_of, pack};
use golix::object::{Debinding, Request as Sealed, RequestBody, Verified};
use golix::{Ghid, Identity};
use hypergolix_engine::message::{Address, Packed};
use hypergolix_engine::persister::Policy;
use hypergolix_engine::route::{Host, Route, Subject};
use hypergolix_engine::{Control, Input, Message, PersisterConfig, Table, limits, verdict};
use hypergolix_ipc::{ApiId, ConnectionId, Request};

const POLICIES: [Policy; 2] = [Policy::Registered, Policy::Invited];

fn server(world: &mut World, policy: Policy, registered: &[Ghid]) -> usize {
    let mut config = PersisterConfig::default();
    config.policy = policy;
    let server = world.server(config);
    for identity in registered {
        let order = Control::Admit { identity: *identity, registered: true };
        world.control(server, order).expect("admitted");
    }
    server
}

fn holds(world: &World, node: usize, ghid: &Ghid) -> bool {
    let disk = &world.nodes[node].disk.0;
    [Table::Heads, Table::Objects]
        .into_iter()
        .any(|table| disk.contains_key(&(table, ghid.as_bytes().to_vec())))
}

/// The DHT answers a node that looks for an identity: it uses this server.
fn found(world: &mut World, node: usize, identity: Ghid, server: usize) {
    let host = Host { device: world.nodes[server].device.clone(), addresses: vec![vec![1]] };
    let device = Host { device: vec![9], addresses: Vec::new() };
    let routes = vec![Route { host: device, persisters: vec![host], stamp: 1 }];
    world.input(node, Input::Found { subject: Subject::Identity(identity), routes });
    world.advance(limits::GUEST_DELAY + limits::SEARCH_DELAY);
}

/// Alice and Bob, who look for whom they do not reach.
fn two() -> (World, [ConnectionId; 2], [Ghid; 2]) {
    let mut world = World::new(2);
    world.searches = true;
    world.restart(0);
    world.restart(1);
    let apps = [0, 1].map(|node| world.app(node, 1));
    world.ask(1, apps[1], Request::RegisterApi(ApiId::JSON)).expect("registered");
    let of = [0, 1].map(|node| world.nodes[node].account.fingerprint());
    (world, apps, of)
}

#[test]
fn each_is_a_guest_where_only_the_other_is_registered() {
    for policy in POLICIES {
        let (mut world, [alice, bob], [her, him]) = two();
        let (hers, his) = (server(&mut world, policy, &[her]), server(&mut world, policy, &[him]));
        let at_hers = world.connect(0, hers);
        let at_his = world.connect(1, his);
        world.disconnect(at_his);
        let object = world.new_object(0, alice, b"first");
        world.ask(0, alice, Request::Share { object, recipient: him }).expect("shared");
        world.advance(Duration::from_secs(3));
        found(&mut world, 0, him, his);
        let as_guest = world.connect_as(0, his, false);
        assert!(!holds(&world, his, &object), "nothing is uploaded where we are guests");
        assert!(holds(&world, hers, &object));
        world.disconnect(as_guest);
        world.disconnect(at_hers);

        // He finds the request, fetches the object as a guest, and leaves his answer there.
        world.connect(1, his);
        world.answers_leave();
        world.advance(Duration::from_secs(3));
        assert!(!holds(&world, 1, &object));
        found(&mut world, 1, her, hers);
        let as_guest = world.connect_as(1, hers, false);
        assert_eq!(world.state(1, bob, object).expect("fetched"), b"first", "{policy:?}");
        world.connect(0, hers);
        world.answers_leave();
        world.advance(Duration::from_secs(2));
        for node in [0, 1] {
            let owed = world.nodes[node].disk.0.keys().any(|(table, _)| *table == Table::Outbox);
            assert!(!owed, "{policy:?}: {node} is done");
        }
        world.push(0, alice, object, b"second");
        assert_eq!(world.state(1, bob, object).expect("subscribed"), b"second");
        world.disconnect(as_guest);
        assert!(world.closed.is_empty(), "{:?}", world.closed);
    }
}

fn request(from: u8, to: &Identity, number: u64) -> Verified {
    let body = RequestBody::Ack { request: Ghid::of(b"anything"), status: 0 };
    let mut ephemeral = [3; 64];
    ephemeral[..8].copy_from_slice(&number.to_be_bytes());
    Sealed::seal(&identity(from), to, &body, ephemeral).expect("sealed")
}

/// As mail comes: the sender's identity, the recipient's, the request.
fn mail(peer: &Peer, to: &Identity, request: &Verified) -> Vec<Packed> {
    vec![peer.gidc(), Packed::from(to.encode()), pack(request)]
}

#[test]
fn a_guest_fetches_and_leaves_mail_for_who_is_registered_and_does_nothing_else() {
    for policy in POLICIES {
        let mut world = World::new(1);
        let her = world.nodes[0].account.fingerprint();
        let server = server(&mut world, policy, &[her]);
        let alice = world.app(0, 1);
        let object = world.new_object(0, alice, b"served");
        let home = world.connect(0, server);
        world.disconnect(home);
        let to_her = identity_of(&world, 0);

        let guest = Peer::link(&mut world, server, 5);
        // What is served there: by address, and as it changes.
        assert!(!guest.get(&mut world, object).is_empty());
        let addresses = vec![Address(object)];
        guest.say(&mut world, Message::Subscribe { addresses, cursor: None });
        let told = |message: &Message| matches!(message, Message::Event { .. });
        assert!(guest.heard(&mut world).iter().any(told));
        // Nothing of its own is taken.
        let thing = Thing::new(&guest.me, 1);
        let (frame, container) = thing.step(1, b"own", 1);
        let results = guest.publish(&mut world, vec![guest.gidc(), pack(&frame), pack(&container)]);
        assert_eq!(results[1], verdict::NOT_REGISTERED);
        assert!(!holds(&world, server, &thing.dynamic));

        // Mail for her, as fast as strangers may.
        let burst = 10;
        for number in 0..burst + 3 {
            let sealed = request(5, &to_her, number);
            let results = guest.publish(&mut world, mail(&guest, &to_her, &sealed));
            let expected = if number < burst { verdict::STORED } else { verdict::TOO_FAST };
            assert_eq!(results[2], expected, "{policy:?} {number}");
        }
        // She gets it, and ends it.
        let kept = |world: &World| {
            world.nodes[server].disk.0.keys().filter(|it| it.0 == Table::Requests).count()
        };
        assert_eq!(kept(&world) as u64, burst);
        world.connect(0, server);
        world.advance(Duration::from_secs(3));
        assert_eq!(kept(&world), 0);

        // It is no mailbox between two who are not registered, whether they say who they are or not.
        world.advance(Duration::from_secs(60));
        let (carol, dave) = (identity(6), identity(7));
        let stranger = Peer::link(&mut world, server, 6);
        let known = Peer::link(&mut world, server, 7);
        let proof = known.proof(&world);
        known.say(&mut world, proof);
        for (peer, to) in [(&stranger, dave.identity()), (&known, carol.identity())] {
            let sealed = request(5, to, 1);
            let results = peer.publish(&mut world, mail(peer, to, &sealed));
            assert_eq!(results[2], verdict::NOT_REGISTERED, "{policy:?}");
            assert!(!holds(&world, server, &sealed.ghid()));
        }
        // Who is registered may write to everybody, and whoever has such a request may end it.
        let order = Control::Admit { identity: carol.ghid(), registered: true };
        world.control(server, order).expect("admitted");
        let proof = stranger.proof(&world);
        stranger.say(&mut world, proof);
        let sealed = request(6, dave.identity(), 2);
        let results = stranger.publish(&mut world, mail(&stranger, dave.identity(), &sealed));
        assert_eq!(results[2], verdict::STORED);
        let handled = Debinding::make(&dave, sealed.ghid());
        assert_eq!(known.publish(&mut world, vec![pack(&handled)]), [verdict::STORED]);
        assert!(!holds(&world, server, &sealed.ghid()));
    }
}

#[test]
fn a_server_that_is_open_takes_mail_for_everybody() {
    let mut world = World::new(0);
    let server = server(&mut world, Policy::Open, &[]);
    let stranger = Peer::link(&mut world, server, 6);
    let to = identity(7);
    let sealed = request(6, to.identity(), 1);
    let results = stranger.publish(&mut world, mail(&stranger, to.identity(), &sealed));
    assert_eq!(results[2], verdict::STORED);
}
