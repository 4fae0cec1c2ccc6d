//! A persister that does not do what it says: nobody goes back, everybody notices, and what is elsewhere
//! comes from there.

#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::peer::{Peer, Thing, pack};
use common::{Disk, PASSWORD, World};
use golix::Ghid;
use hypergolix_engine::message::{Address, Cursor, Packed};
use hypergolix_engine::{Control, Message, PersisterConfig, Table, limits, verdict};
use hypergolix_ipc::{ApiId, ConnectionId, Reply, Request};
use negentropy::{Id, Negentropy, NegentropyStorageVector};

const EPOCH: u64 = 7;

/// Alice and Bob share an object at an honest server, which is node 2.
fn met() -> (World, ConnectionId, ConnectionId, Ghid) {
    let mut world = World::new(2);
    let server = world.server(PersisterConfig::default());
    let (alice, bob) = (world.app(0, 1), world.app(1, 1));
    assert_eq!(world.ask(1, bob, Request::RegisterApi(ApiId::JSON)), Ok(Reply::Done));
    let object = world.new_object(0, alice, b"first");
    world.connect(0, server);
    world.connect(1, server);
    let recipient = world.nodes[1].account.fingerprint();
    assert_eq!(world.ask(0, alice, Request::Share { object, recipient }), Ok(Reply::Done));
    world.advance(3 * limits::ANSWER_SCHEDULE);
    assert_eq!(world.state(1, bob, object).expect("shared"), b"first");
    (world, alice, bob, object)
}

/// What a node's status says of the played persister.
fn said(world: &mut World, node: usize, peer: &Peer, figure: &str) -> u64 {
    said_of(world, node, &peer.device, figure)
}

fn said_of(world: &mut World, node: usize, device: &[u8], figure: &str) -> u64 {
    let status = world.control(node, Control::Figures).expect("figures");
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let device = data_encoding::HEXLOWER.encode(device);
    let persisters = status["persisters"].as_array().expect("persisters");
    let about = persisters.iter().find(|it| it["device"] == device).expect("it is linked");
    about[figure].as_u64().unwrap_or_else(|| panic!("{figure} in {about}"))
}

fn item(address: &Ghid, state: &Ghid) -> [u8; 32] {
    use sha2::{Digest, Sha512};
    let digest = Sha512::new().chain_update(address).chain_update(state).finalize();
    digest[..32].try_into().expect("32 of 64 bytes")
}

/// What a server with these items answers to a comparison.
fn compared(items: &[[u8; 32]], body: &[u8]) -> Message {
    let mut storage = NegentropyStorageVector::new();
    for item in items {
        storage.insert(0, Id::from_byte_array(*item)).expect("room");
    }
    storage.seal().expect("sealed");
    let mut negentropy = Negentropy::owned(storage, 60_000).expect("ready");
    let body = negentropy.reconcile(body).expect("a comparison");
    Message::Reconcile { body: Packed::from(body), subscriber: false }
}

/// How a played server answers.
struct Answers<'a> {
    /// What it says it has.
    items: &'a [[u8; 32]],
    /// What it shows to whoever asks.
    shown: &'a dyn Fn(Ghid) -> Vec<Packed>,
}

/// Answers whatever the node asks until it asks no more; what it published.
fn serve(world: &mut World, peer: &Peer, answers: &Answers<'_>) -> Vec<Vec<Packed>> {
    let mut published = Vec::new();
    loop {
        let heard = peer.heard(world);
        if heard.is_empty() {
            return published;
        }
        for message in heard {
            match message {
                Message::Publish { id, objects } => {
                    let results = vec![0; objects.len()];
                    published.push(objects);
                    peer.say(world, Message::Published { id, results });
                }
                Message::Reconcile { body, subscriber: true } => {
                    let answer = compared(answers.items, &body);
                    peer.say(world, answer);
                }
                Message::Get { id, address: Address(address) } => {
                    let objects = (answers.shown)(address);
                    peer.say(world, Message::Object { id, objects });
                }
                Message::Ping { id } => peer.say(world, Message::Pong { id }),
                _ => {}
            }
            assert!(published.len() < 10_000, "it never ends");
        }
    }
}

/// The same for some time.
fn serve_for(
    world: &mut World,
    peer: &Peer,
    answers: &Answers<'_>,
    rounds: u32,
) -> Vec<Vec<Packed>> {
    let mut published = serve(world, peer, answers);
    // Slower than the silence that a node bears with.
    let step = limits::REMOTE_SILENCE_MAX / 2;
    let mut left = rounds * limits::RECONCILE_INTERVAL;
    while !left.is_zero() {
        let by = step.min(left);
        world.advance(by);
        left -= by;
        published.extend(serve(world, peer, answers));
    }
    assert!(peer.is_up(world), "{:?}", world.closed);
    published
}

fn nothing(_: Ghid) -> Vec<Packed> {
    Vec::new()
}

#[test]
fn somebody_elses_object_is_no_answer_and_the_right_one_comes_from_elsewhere() {
    let (mut world, alice, bob, object) = met();
    let at_bob = *world.links.keys().map(|(_, link)| link).max().expect("linked");
    world.disconnect(at_bob);
    world.push(0, alice, object, b"second");
    let hostile = Peer::persister(&mut world, 1, 9, EPOCH);
    serve(&mut world, &hostile, &Answers { items: &[], shown: &nothing });
    // An object of its own, which is in order in itself.
    let theirs = Thing::new(&hostile.me, 1);
    let (frame, container) = theirs.step(1, b"look here", 1);
    let answer = vec![hostile.gidc(), pack(&frame), pack(&container)];
    assert!(world.try_ask(1, bob, Request::Sync(object)).is_none(), "it waits for an answer");
    let shown = |_| answer.clone();
    serve(&mut world, &hostile, &Answers { items: &[], shown: &shown });
    assert_eq!(said(&mut world, 1, &hostile, "foreign_answers"), 1);
    assert_eq!(world.state(1, bob, object).expect("here"), b"first");
    // The same unasked.
    let event = Message::Event {
        cursor: Cursor { epoch: EPOCH, seq: 1 },
        address: Address(object),
        objects: answer.clone(),
    };
    hostile.say(&mut world, event);
    assert_eq!(said(&mut world, 1, &hostile, "foreign_answers"), 2);
    assert!(world.state(1, bob, theirs.dynamic).is_err());
    assert!(hostile.is_up(&world));
    // The honest one is asked as well.
    world.connect(1, 2);
    serve(&mut world, &hostile, &Answers { items: &[], shown: &shown });
    assert_eq!(world.state(1, bob, object).expect("here"), b"second");
}

#[test]
fn a_second_device_gets_the_right_object_although_another_server_answers_first() {
    let mut world = World::new(1);
    let server = world.server(PersisterConfig::default());
    let alice = world.app(0, 1);
    let object = world.new_object(0, alice, b"mine");
    world.connect(0, server);
    world.advance(3 * limits::PIECES_DELAY);
    let second = world.second_device(0, PASSWORD).expect("the right password");
    world.connect(second, server);
    world.advance(3 * limits::PIECES_DELAY);
    let hostile = Peer::persister(&mut world, second, 9, EPOCH);
    let theirs = Thing::new(&hostile.me, 1);
    let (frame, container) = theirs.step(1, b"look here", 1);
    let answer = vec![hostile.gidc(), pack(&frame), pack(&container)];
    let app = world.app(second, 1);
    // The honest one has answered, but it is waited for all.
    assert!(world.try_ask(second, app, Request::Get(object)).is_none());
    serve(&mut world, &hostile, &Answers { items: &[], shown: &|_| answer.clone() });
    assert_eq!(world.state(second, app, object).expect("fetched"), b"mine");
    assert_eq!(said(&mut world, second, &hostile, "foreign_answers"), 1);
}

/// Shows each of some objects as it was, and everything else as it is.
fn set_back(disk: &mut Disk, past: &Disk, objects: &[Ghid]) {
    let of_objects = |key: &[u8]| objects.iter().any(|object| object.as_bytes() == key);
    for ((table, key), value) in &past.0 {
        let old = match table {
            Table::Heads => of_objects(key),
            Table::Objects | Table::Holders => true,
            _ => false,
        };
        if old && (*table == Table::Heads || !disk.0.contains_key(&(*table, key.clone()))) {
            disk.0.insert((*table, key.clone()), value.clone());
        }
    }
}

#[test]
fn a_new_device_notices_every_old_state_of_its_own_objects() {
    let mut world = World::new(1);
    let server = world.server(PersisterConfig::default());
    let alice = world.app(0, 1);
    let state = |number: usize, round: u8| format!("{number}: {round}").into_bytes();
    let objects: Vec<Ghid> =
        (0..40).map(|number| world.new_object(0, alice, &state(number, 0))).collect();
    world.connect(0, server);
    world.advance(limits::MANIFEST_DELAY + Duration::from_secs(30));
    let mut past = vec![world.nodes[server].disk.clone()];
    for round in 1..=3 {
        for (number, object) in objects.iter().enumerate() {
            world.push(0, alice, *object, &state(number, round));
        }
        past.push(world.nodes[server].disk.clone());
    }
    // One is deleted meanwhile.
    let gone = world.new_object(0, alice, b"soon gone");
    assert_eq!(world.ask(0, alice, Request::Delete(gone)), Ok(Reply::Done));
    world.advance(limits::MANIFEST_DELAY + Duration::from_secs(30));
    let honest = world.nodes[server].disk.clone();
    let login = |world: &mut World| {
        world.restart(server);
        let second = world.second_device(0, PASSWORD).expect("the right password");
        world.connect_as(second, server, true);
        world.advance(3 * limits::PIECES_DELAY);
        let app = world.app(second, 1);
        (second, app)
    };
    let device = world.nodes[server].device.clone();
    let (second, app) = login(&mut world);
    for (number, object) in objects.iter().enumerate() {
        assert_eq!(world.state(second, app, *object).expect("fetched"), state(number, 3));
    }
    assert_eq!(said_of(&mut world, second, &device, "older_states"), 0, "of an honest server");
    // Each object at another moment of the past, and the list of all as it is.
    for (number, object) in objects.iter().enumerate() {
        let past = past[number % 3].clone();
        set_back(&mut world.nodes[server].disk, &past, &[*object]);
    }
    let (third, app) = login(&mut world);
    for (number, object) in objects.iter().enumerate() {
        let shown = world.state(third, app, *object).expect("fetched");
        assert_eq!(shown, state(number, (number % 3) as u8));
        let noticed = said_of(&mut world, third, &device, "older_states");
        assert_eq!(noticed, number as u64 + 1);
    }
    // An honest server, or the first device, heals that.
    let other = world.server(PersisterConfig::default());
    world.nodes[other].disk = honest;
    world.restart(other);
    world.connect_as(third, other, true);
    world.advance(Duration::from_secs(5));
    for (number, object) in objects.iter().enumerate() {
        assert_eq!(world.state(third, app, *object).expect("there"), state(number, 3));
    }
}

#[test]
fn what_it_acknowledges_and_does_not_have_is_told_and_not_uploaded_for_ever() {
    let mut world = World::new(1);
    let alice = world.app(0, 1);
    let object = world.new_object(0, alice, b"kept from others");
    let hostile = Peer::persister(&mut world, 0, 9, EPOCH);
    let forgets = Answers { items: &[], shown: &nothing };
    let of_object = |published: &[Vec<Packed>]| {
        let about = |objects: &&Vec<Packed>| {
            objects.iter().any(|bytes| {
                let frame = golix::object::Unverified::parse(bytes).expect("an object");
                matches!(frame.assume_verified().object(),
                    golix::object::Object::DynamicBinding(frame) if frame.dynamic() == object)
            })
        };
        published.iter().filter(about).count()
    };
    let first = serve_for(&mut world, &hostile, &forgets, 1);
    assert!(of_object(&first) >= 1, "it is uploaded");
    let rest = serve_for(&mut world, &hostile, &forgets, 10);
    assert!(said(&mut world, 0, &hostile, "withheld") >= 1);
    assert!((1..=4).contains(&of_object(&rest)), "{} times", of_object(&rest));
    let more = serve_for(&mut world, &hostile, &forgets, 5);
    assert_eq!(of_object(&more), 0);
    // A new state is sent there again, and elsewhere.
    let server = world.server(PersisterConfig::default());
    world.connect(0, server);
    world.push(0, alice, object, b"newer");
    assert_eq!(of_object(&serve(&mut world, &hostile, &forgets)), 1);
    let reader = Peer::link(&mut world, server, 8);
    assert!(reader.get(&mut world, object).len() >= 3);
}

#[test]
fn what_it_has_in_another_form_is_not_called_withheld() {
    let mut world = World::new(1);
    let alice = world.app(0, 1);
    world.new_object(0, alice, b"here and there");
    let honest = Peer::persister(&mut world, 0, 9, EPOCH);
    let stored = std::cell::RefCell::new(Vec::<Packed>::new());
    // Its comparisons name other states, but it shows what it was given.
    let shows = |_| stored.borrow().clone();
    for _ in 0..20 {
        let given = serve(&mut world, &honest, &Answers { items: &[], shown: &shows });
        stored.borrow_mut().extend(given.into_iter().flatten());
        let answers = Answers { items: &[], shown: &shows };
        let given = serve_for(&mut world, &honest, &answers, 1);
        stored.borrow_mut().extend(given.into_iter().flatten());
    }
    assert_eq!(said(&mut world, 0, &honest, "withheld"), 0);
}

#[test]
fn what_it_says_it_has_and_never_sends_is_told() {
    let (mut world, alice, bob, object) = met();
    world.push(0, alice, object, b"second");
    let hostile = Peer::persister(&mut world, 1, 9, EPOCH);
    // A state that Bob has not, and that nobody ever shows him.
    let claims = [item(&object, &Ghid::of(b"a frame"))];
    let answers = Answers { items: &claims, shown: &nothing };
    serve_for(&mut world, &hostile, &answers, 1);
    assert_eq!(world.state(1, bob, object).expect("from the honest one"), b"second");
    serve_for(&mut world, &hostile, &answers, 2);
    assert!(said(&mut world, 1, &hostile, "withheld") >= 1);
}

#[test]
fn an_old_state_moves_nobody_back_and_is_told_however_it_comes() {
    let (mut world, alice, bob, object) = met();
    let old = Peer::link(&mut world, 2, 8).get(&mut world, object);
    world.push(0, alice, object, b"second");
    let hostile = Peer::persister(&mut world, 1, 9, EPOCH);
    let shown = |_| old.clone();
    serve(&mut world, &hostile, &Answers { items: &[], shown: &shown });
    // Asked, and unasked.
    assert!(world.try_ask(1, bob, Request::Sync(object)).is_none());
    serve(&mut world, &hostile, &Answers { items: &[], shown: &shown });
    let event = Message::Event {
        cursor: Cursor { epoch: EPOCH, seq: 1 },
        address: Address(object),
        objects: old.clone(),
    };
    hostile.say(&mut world, event);
    assert_eq!(said(&mut world, 1, &hostile, "older_states"), 2);
    assert_eq!(world.state(1, bob, object).expect("here"), b"second");
}

#[test]
fn a_place_in_a_feed_that_does_not_exist_holds_nothing_up() {
    let (mut world, alice, bob, object) = met();
    let hostile = Peer::persister(&mut world, 1, 9, EPOCH);
    let event = |seq| Message::Event {
        cursor: Cursor { epoch: EPOCH, seq },
        address: Address(object),
        objects: Vec::new(),
    };
    hostile.say(&mut world, event(u64::MAX));
    world.disconnect(hostile.link);
    // Next time its feed is where it really is.
    let hostile = Peer::persister(&mut world, 1, 9, EPOCH);
    let at = Cursor { epoch: EPOCH, seq: 5 };
    hostile.say(&mut world, Message::Following { cursor: at });
    assert_eq!(said(&mut world, 1, &hostile, "set_back"), 1);
    world.push(0, alice, object, b"second");
    assert_eq!(world.state(1, bob, object).expect("here"), b"second");
    // From there on as if nothing had been.
    world.disconnect(hostile.link);
    let hostile = Peer::persister(&mut world, 1, 9, EPOCH);
    let named = hostile.heard(&mut world).into_iter().find_map(|message| match message {
        Message::Own { cursor } => cursor,
        _ => None,
    });
    assert_eq!(named, Some(at));
}

#[test]
fn a_share_that_a_server_says_was_handled_is_owed_until_its_recipient_says_so() {
    let (mut world, alice, bob, _) = met();
    for link in world.links.keys().map(|(_, link)| *link).collect::<Vec<_>>() {
        world.disconnect(link);
    }
    let hostile = Peer::persister(&mut world, 0, 9, EPOCH);
    let second = world.new_object(0, alice, b"second");
    let recipient = world.nodes[1].account.fingerprint();
    assert_eq!(world.ask(0, alice, Request::Share { object: second, recipient }), Ok(Reply::Done));
    let mut requests = 0;
    for _ in 0..30 {
        for message in hostile.heard(&mut world) {
            match message {
                Message::Publish { id, objects } => {
                    let is_request = |bytes: &Packed| bytes.starts_with(b"GARQ");
                    let result = |bytes| if is_request(bytes) { verdict::DEBOUND } else { 0 };
                    requests += objects.iter().filter(|bytes| is_request(bytes)).count();
                    let results = objects.iter().map(result).collect();
                    hostile.say(&mut world, Message::Published { id, results });
                }
                Message::Reconcile { body, subscriber: true } => {
                    hostile.say(&mut world, compared(&[], &body));
                }
                // A debinding of it there is, but it is not the recipient's.
                Message::Get { id, address: Address(address) } => {
                    let debinding = golix::object::Debinding::make(&*hostile.me, address);
                    let objects = vec![hostile.gidc(), pack(&debinding)];
                    hostile.say(&mut world, Message::Object { id, objects });
                }
                Message::Ping { id } => hostile.say(&mut world, Message::Pong { id }),
                _ => {}
            }
        }
        world.advance(Duration::from_secs(2));
    }
    assert_eq!(requests, 1);
    assert_eq!(said(&mut world, 0, &hostile, "withheld"), 1);
    world.connect(0, 1);
    world.advance(3 * limits::ANSWER_SCHEDULE);
    assert_eq!(world.state(1, bob, second).expect("shared"), b"second");
}
