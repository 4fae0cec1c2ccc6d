//! Somebody comes back after a year, with everything that was deleted meanwhile.

#![allow(missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::peer::Peer;
use common::{Disk, PASSWORD, World, record};
use golix::Ghid;
use golix::object::{Kind, Unverified};
use hypergolix_engine::message::{Address, Cursor, Packed};
use hypergolix_engine::{Control, Message, PersisterConfig, Table};
use hypergolix_ipc::{ApiId, ConnectionId, Notice, Reply, Request};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Objects by their addresses, of every state that was ever stored somewhere.
type Everything = BTreeMap<Vec<u8>, Vec<u8>>;

struct Past {
    world: World,
    server: usize,
    /// Alice's other device.
    second: usize,
    alice: ConnectionId,
    bob: ConnectionId,
    /// Deleted by Alice; `held` is held by Bob.
    live: Ghid,
    held: Ghid,
    fixed: Ghid,
    /// What was there before the deletions, and the disks of then.
    everything: Everything,
    disks: Vec<Disk>,
}

fn collect(world: &World, everything: &mut Everything) {
    for node in &world.nodes {
        let rows = node.disk.0.iter().filter(|((table, _), _)| *table == Table::Objects);
        everything.extend(rows.map(|((_, key), bytes)| (key.clone(), bytes.clone())));
    }
}

fn disconnect_all(world: &mut World) {
    while let Some((_, link)) = world.links.keys().next().copied() {
        world.disconnect(link);
    }
}

fn delete(world: &mut World, node: usize, app: ConnectionId, object: Ghid) {
    assert_eq!(world.ask(node, app, Request::Delete(object)), Ok(Reply::Done));
}

/// Alice has shared three objects with Bob, and deletes them while he is away for a year.
fn past() -> Past {
    let mut world = World::new(2);
    let server = world.server(PersisterConfig::default());
    let second = world.second_device(0, PASSWORD).expect("the right password");
    let (alice, bob) = (world.app(0, 1), world.app(1, 1));
    world.ask(1, bob, Request::RegisterApi(ApiId::JSON)).expect("registered");
    let mut everything = Everything::new();
    for (a, b) in [(0, server), (1, server), (second, server), (0, second)] {
        world.connect(a, b);
    }
    let live = world.new_object(0, alice, b"live 0");
    let held = world.new_object(0, alice, b"held 0");
    let Ok(Reply::Address(fixed)) = world.ask(0, alice, Request::New(record(b"fixed", false)))
    else {
        panic!("made")
    };
    let recipient = world.nodes[1].account.fingerprint();
    for object in [live, held, fixed] {
        // Also the requests as they wait in the mailbox.
        world.lazy = true;
        world.ask(0, alice, Request::Share { object, recipient }).expect("shared");
        collect(&world, &mut everything);
        world.lazy = false;
        world.open_requests();
    }
    for step in 1..4_u8 {
        world.push(0, alice, live, format!("live {step}").as_bytes());
        world.push(0, alice, held, format!("held {step}").as_bytes());
        collect(&world, &mut everything);
    }
    world.ask(1, bob, Request::Hold(held)).expect("held");
    world.advance(Duration::from_secs(10));
    assert_eq!(
        world.notices(1, bob).iter().filter(|it| matches!(it, Notice::Share { .. })).count(),
        3
    );
    assert_eq!(world.state(1, bob, live).expect("shared"), b"live 3");
    assert_eq!(world.state(1, bob, fixed).expect("shared"), b"fixed");
    collect(&world, &mut everything);
    let kinds = |kind| everything.values().filter(|it| kind_of(it) == Some(kind)).count();
    assert!(kinds(Kind::Request) >= 3 && kinds(Kind::DynamicBinding) >= 8);
    assert!(kinds(Kind::StaticBinding) >= 2 && kinds(Kind::Container) >= 9);
    let disks = world.nodes.iter().map(|node| node.disk.clone()).collect();

    disconnect_all(&mut world);
    for (a, b) in [(0, server), (second, server), (0, second)] {
        world.connect(a, b);
    }
    for object in [live, held, fixed] {
        delete(&mut world, 0, alice, object);
    }
    world.advance(Duration::from_secs(10));
    disconnect_all(&mut world);
    world.advance(YEAR);
    Past { world, server, second, alice, bob, live, held, fixed, everything, disks }
}

fn kind_of(bytes: &[u8]) -> Option<Kind> {
    Unverified::parse(bytes).ok().map(|object| object.kind())
}

impl Past {
    /// Nothing of what is deleted is stored at these nodes.
    fn is_gone_at(&self, nodes: &[usize]) {
        for node in nodes {
            let disk = &self.world.nodes[*node].disk;
            for address in [self.live, self.fixed] {
                let key = address.as_bytes().to_vec();
                assert!(!disk.0.contains_key(&(Table::Heads, key.clone())), "a head at {node}");
                assert!(!disk.0.contains_key(&(Table::Objects, key)), "a container at {node}");
            }
            let rows = disk.0.iter().filter(|((table, _), _)| *table == Table::Objects);
            for ((_, key), bytes) in rows {
                let object = Unverified::parse(bytes).expect("sound").assume_verified();
                let of = match object.object() {
                    golix::object::Object::DynamicBinding(frame) => frame.dynamic(),
                    golix::object::Object::StaticBinding(binding) => binding.target(),
                    _ => continue,
                };
                assert!(of != self.live && of != self.fixed, "{key:?} at {node}");
            }
        }
    }

    fn is_gone_for(&mut self, node: usize, app: ConnectionId) {
        for address in [self.live, self.fixed] {
            assert!(self.world.state(node, app, address).is_err(), "{address} at {node}");
        }
    }

    /// A stranger says everything that there ever was, in both orders and one object a message, as
    /// something new and as an event.
    fn replay(&mut self, node: usize, seed: u8) {
        let order = |object: &Vec<u8>| match kind_of(object) {
            Some(Kind::Identity) => 0,
            Some(Kind::StaticBinding | Kind::DynamicBinding) => 1,
            Some(Kind::Container) => 2,
            _ => 3,
        };
        let mut objects: Vec<Vec<u8>> = self.everything.values().cloned().collect();
        objects.sort_by_key(order);
        let (requests, others): (Vec<_>, Vec<_>) =
            objects.into_iter().partition(|it| kind_of(it) == Some(Kind::Request));
        let mut backwards = others.clone();
        backwards.reverse();
        let pack = |objects: &[Vec<u8>]| -> Vec<Packed> {
            objects.iter().cloned().map(Packed::from).collect()
        };
        let mut messages = vec![
            pack(&others[..others.len().min(60)]),
            pack(&backwards[..60.min(backwards.len())]),
        ];
        messages.extend(others.chunks(1).chain(requests.chunks(1)).map(pack));
        for (number, objects) in messages.into_iter().enumerate() {
            let peer = Peer::link(&mut self.world, node, seed);
            let cursor = Cursor { epoch: 5, seq: number as u64 + 1 };
            let address = Address(self.live);
            let event = Message::Event { cursor, address, objects: objects.clone() };
            peer.say(&mut self.world, Message::Publish { id: 9, objects });
            if peer.is_up(&self.world) {
                peer.say(&mut self.world, event);
            }
            if peer.is_up(&self.world) {
                self.world.disconnect(peer.link);
            }
        }
        self.world.advance(Duration::from_secs(5));
    }
}

#[test]
fn a_peer_that_was_away_brings_nothing_back() {
    let mut past = past();
    let (server, second) = (past.server, past.second);
    past.is_gone_at(&[0, second]);
    // Whoever recorded it all says it again: nothing moves.
    for node in [0, second, server] {
        past.replay(node, 40);
        past.is_gone_at(&[0, second]);
    }
    past.is_gone_at(&[server]);
    // Bob himself comes back, as he was, and meets everybody.
    past.world.nodes[1].disk = past.disks[1].clone();
    past.world.restart(1);
    past.bob = past.world.app(1, 50);
    past.world.notices(1, past.bob);
    for (a, b) in [(1, server), (1, 0), (1, second), (0, server), (second, server), (0, second)] {
        past.world.connect(a, b);
    }
    past.world.advance(Duration::from_secs(1_300));
    past.is_gone_at(&[0, 1, second, server]);
    let (alice, bob) = (past.alice, past.bob);
    let other = past.world.app(second, 51);
    for (node, app) in [(0, alice), (1, bob), (second, other)] {
        past.is_gone_for(node, app);
    }
    // What he holds is his to keep.
    assert_eq!(past.world.state(1, bob, past.held).expect("held"), b"held 3");
    assert!(past.world.state(0, alice, past.held).is_err(), "its owner let it go");
    // And now that he knows, nobody talks him into it either.
    past.replay(1, 41);
    past.is_gone_at(&[0, 1, second, server]);
    let told = past.world.notices(1, bob);
    assert!(
        !told.iter().any(|it| matches!(it, Notice::Share { .. } | Notice::Update(_))),
        "{told:?}"
    );
    assert_eq!(past.world.state(1, bob, past.held).expect("held"), b"held 3");
    // When he lets go, it is gone everywhere.
    delete(&mut past.world, 1, bob, past.held);
    past.world.advance(Duration::from_secs(1_300));
    past.replay(server, 42);
    let key = past.held.as_bytes().to_vec();
    for (number, node) in past.world.nodes.iter().enumerate() {
        assert!(!node.disk.0.contains_key(&(Table::Heads, key.clone())), "a head at {number}");
    }
}

#[test]
fn a_server_that_was_away_brings_nothing_back() {
    let mut past = past();
    let second = past.second;
    let old = past.server;
    // A new one that knows of nothing yet, one that mirrors the old one, and the old one as it was.
    let fresh = past.world.server(PersisterConfig::default());
    let mut config = PersisterConfig::default();
    config.mirrors.insert(past.world.nodes[old].device.clone());
    let mirror = past.world.server(config);
    past.world.nodes[old].disk = past.disks[old].clone();
    let device = past.world.nodes[mirror].device.clone();
    past.world.nodes[old].config.as_mut().expect("a server").mirrors.insert(device);
    past.world.restart(old);
    let mirroring = past.world.connect(old, mirror);
    assert!(past.world.nodes[mirror].disk.0.keys().any(|(table, _)| *table == Table::Heads));
    // Bob, who was away too, fills the new one before anybody who knows better is there.
    past.world.connect(1, fresh);
    past.world.connect(1, old);
    past.world.advance(Duration::from_secs(60));
    assert_eq!(past.world.state(1, past.bob, past.live).expect("he has not heard"), b"live 3");
    // Alice's other device alone: it tells everybody.
    past.world.connect(second, fresh);
    past.world.connect(second, old);
    past.world.advance(Duration::from_secs(1_300));
    past.is_gone_at(&[0, 1, second, old, fresh, mirror]);
    let bob = past.bob;
    past.is_gone_for(1, bob);
    assert_eq!(past.world.state(1, bob, past.held).expect("held"), b"held 3");
    assert!(past.world.notices(1, bob).contains(&Notice::Deleted(past.live)));
    // The same persister as it was, once more: all of them refuse what it has.
    past.world.disconnect(mirroring);
    past.world.nodes[old].disk = past.disks[old].clone();
    past.world.restart(old);
    for other in [mirror, 0, second, 1] {
        past.world.connect(other, old);
        past.is_gone_at(&[0, 1, second, fresh, mirror]);
    }
    past.world.advance(Duration::from_secs(1_300));
    past.is_gone_at(&[0, 1, second, old, fresh, mirror]);
    for server in [old, fresh, mirror] {
        past.replay(server, 43);
    }
    past.is_gone_at(&[0, 1, second, old, fresh, mirror]);
    // The device that told them says so of each that it reached.
    let status = past.world.control(second, Control::Figures).expect("figures");
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    for persister in status["persisters"].as_array().expect("a list") {
        assert_eq!(persister["deletions_confirmed"], 3, "{status}");
        assert_eq!(persister["deletions_unconfirmed"], 0, "{status}");
    }
}
