//! What one device of an account owes, its other devices deliver.

#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::peer::Peer;
use common::{Happened, PASSWORD, Seeded, World, record};
use golix::object::RequestBody;
use golix::{Ghid, Suite};
use hypergolix_engine::message::{Address, Packed};
use hypergolix_engine::{Control, LinkId, Message, PersisterConfig, Table, limits};
use hypergolix_ipc::{ApiId, ConnectionId, Notice, Reply, Request};
use serde::Serialize;

const SUITES: [[Suite; 2]; 3] = [
    [Suite::Suite3, Suite::Suite3],
    [Suite::Suite1, Suite::Suite3],
    [Suite::Suite3, Suite::Suite1],
];

fn settle(world: &mut World) {
    world.advance(limits::PIECES_DELAY + Duration::from_secs(2));
}

/// The longest that another device's debt is left to that device.
fn taken_over(world: &mut World) {
    world.advance(limits::OWED_TAKEOVER + 8 * limits::OWED_STAGGER);
    settle(world);
}

fn figure(world: &mut World, node: usize, name: &str) -> u64 {
    let status = world.control(node, Control::Figures).expect("figures");
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    status[name].as_u64().unwrap_or_else(|| panic!("{name} in {status}"))
}

/// Records of what is owed.
fn promises(world: &World, node: usize) -> usize {
    let rows = world.nodes[node].disk.0.keys();
    rows.filter(|(table, key)| *table == Table::Account && key[0] == 12).count()
}

/// Alice has two devices, the first of which made something; Bob is somewhere else.
struct Home {
    world: World,
    second: usize,
    between: LinkId,
    alice: ConnectionId,
    there: ConnectionId,
    bob: ConnectionId,
    to_bob: Ghid,
    object: Ghid,
}

impl Home {
    fn of(suites: [Suite; 2], dynamic: bool) -> Self {
        let mut world = World::of_suites(&suites);
        let (alice, bob) = (world.app(0, 1), world.app(1, 1));
        world.ask(0, alice, Request::RegisterToken(None)).expect("a token");
        world.ask(1, bob, Request::RegisterApi(ApiId::JSON)).expect("registered");
        let to_bob = world.nodes[1].account.fingerprint();
        let second = world.second_device(0, PASSWORD).expect("the right password");
        let between = world.connect(0, second);
        let there = world.app(second, 1);
        let made = world.ask(0, alice, Request::New(record(b"state", dynamic)));
        let Ok(Reply::Address(object)) = made else { panic!("made: {made:?}") };
        settle(&mut world);
        Self { world, second, between, alice, there, bob, to_bob, object }
    }

    fn new() -> Self {
        Self::of([Suite::Suite3, Suite::Suite3], true)
    }

    fn share(&mut self) {
        let share = Request::Share { object: self.object, recipient: self.to_bob };
        self.world.ask(0, self.alice, share).expect("promised");
    }

    /// The first device promises, tells the second, and is gone.
    fn promise_and_go(&mut self) {
        self.share();
        settle(&mut self.world);
        self.world.disconnect(self.between);
        assert_eq!(self.owed(), [1, 1]);
    }

    /// The first device is with the second again.
    fn comes_back(&mut self) {
        self.between = self.world.connect(0, self.second);
        settle(&mut self.world);
        settle(&mut self.world);
    }

    fn owed(&mut self) -> [u64; 2] {
        [0, self.second].map(|node| figure(&mut self.world, node, "shares_owed"))
    }

    fn nothing_is_left(&mut self) {
        assert_eq!(self.owed(), [0, 0]);
        assert_eq!([0, self.second].map(|node| promises(&self.world, node)), [0, 0]);
    }

    fn told(&mut self) -> Vec<Notice> {
        self.world.notices(1, self.bob)
    }

    fn told_once(&mut self) {
        let told = self.told();
        let object = self.object;
        assert!(
            matches!(told.as_slice(), [Notice::Share { object: shared, .. }] if *shared == object),
            "{told:?}"
        );
        assert_eq!(self.world.state(1, self.bob, object).expect("shared"), b"state");
    }

    fn maker_is_told_of_success(&mut self) {
        let (object, recipient) = (self.object, self.to_bob);
        let told = self.world.notices(0, self.alice);
        assert_eq!(told, vec![Notice::ShareSucceeded { object, recipient }]);
    }
}

#[test]
fn what_a_device_promised_that_is_gone_for_good_another_one_delivers() {
    for suites in SUITES {
        for dynamic in [true, false] {
            let mut home = Home::of(suites, dynamic);
            home.promise_and_go();
            let second = home.second;
            home.world.connect(second, 1);
            settle(&mut home.world);
            assert_eq!(home.told(), [], "the device that promised it may have come as well");
            taken_over(&mut home.world);
            home.told_once();
            assert_eq!(home.owed(), [1, 0], "{suites:?}");
            // Should it come back all the same, it hears how that ended, and nothing comes twice.
            home.comes_back();
            home.nothing_is_left();
            home.maker_is_told_of_success();
            home.world.connect(0, 1);
            taken_over(&mut home.world);
            assert_eq!(home.told(), []);
        }
    }
}

#[test]
fn also_through_a_server_where_nobody_knew_the_recipient() {
    for suites in SUITES {
        let mut home = Home::of(suites, true);
        home.world.disconnect(home.between);
        let second = home.second;
        let server = home.world.server(PersisterConfig::default());
        let first = home.world.connect(0, server);
        home.world.connect(second, server);
        home.share();
        settle(&mut home.world);
        assert_eq!(home.owed(), [1, 1]);
        home.world.disconnect(first);
        taken_over(&mut home.world);
        let bobs = home.world.connect(1, server);
        taken_over(&mut home.world);
        home.told_once();
        assert_eq!(home.owed(), [1, 0], "{suites:?}");
        home.world.disconnect(bobs);
        home.world.connect(0, server);
        settle(&mut home.world);
        home.maker_is_told_of_success();
        home.nothing_is_left();
        home.world.connect(1, server);
        taken_over(&mut home.world);
        assert_eq!(home.told(), []);
    }
}

#[test]
fn a_device_that_has_not_got_the_object_leaves_the_request_in_the_mailbox() {
    let mut home = Home::new();
    home.world.disconnect(home.between);
    let server = home.world.server(PersisterConfig::default());
    let first = home.world.connect(0, server);
    let third = home.world.second_device(0, PASSWORD).expect("the right password");
    settle(&mut home.world);
    home.share();
    home.world.connect(third, server);
    settle(&mut home.world);
    assert_eq!(figure(&mut home.world, third, "elsewhere"), 1);
    home.world.disconnect(first);
    taken_over(&mut home.world);
    home.world.connect(1, server);
    settle(&mut home.world);
    home.told_once();
    assert_eq!(figure(&mut home.world, third, "shares_owed"), 0);
}

#[test]
fn when_two_devices_deliver_at_once_the_recipient_sees_one_request() {
    for suites in SUITES {
        // Met before, or by both devices on its own.
        for met in [true, false] {
            let mut home = Home::of(suites, true);
            let second = home.second;
            if met {
                let link = home.world.connect(0, 1);
                let share = |object| Request::Share { object, recipient: home.to_bob };
                let other = home.world.new_object(0, home.alice, b"other");
                home.world.ask(0, home.alice, share(other)).expect("shared");
                settle(&mut home.world);
                home.world.disconnect(link);
                home.world.notices(0, home.alice);
                home.told();
            }
            home.promise_and_go();
            home.world.lazy = true;
            home.world.connect(second, 1);
            home.world.advance(limits::OWED_TAKEOVER + 8 * limits::OWED_STAGGER);
            home.world.connect(0, 1);
            let waiting: Vec<Vec<u8>> =
                home.world.to_open.iter().map(|(_, _, request)| request.clone()).collect();
            assert_eq!(waiting.len(), 2, "one of each device");
            assert_eq!(waiting[0], waiting[1], "{suites:?}, {met}");
            home.world.open_requests();
            home.world.lazy = false;
            settle(&mut home.world);
            home.told_once();
            home.comes_back();
            home.nothing_is_left();
        }
    }
}

#[test]
fn a_mailbox_has_it_once() {
    for suites in SUITES {
        let mut home = Home::of(suites, true);
        home.world.disconnect(home.between);
        let second = home.second;
        let server = home.world.server(PersisterConfig::default());
        let bobs = home.world.connect(1, server);
        settle(&mut home.world);
        home.world.disconnect(bobs);
        home.world.connect(0, server);
        home.world.connect(second, server);
        home.share();
        taken_over(&mut home.world);
        let mailed = home.world.control(second, Control::Figures).expect("figures");
        assert!(mailed.contains("\"mailed\":1"), "the second left it there too: {mailed}");
        let mail = home.world.nodes[server].disk.0.keys();
        assert_eq!(mail.filter(|(table, _)| *table == Table::Requests).count(), 1, "{suites:?}");
        home.world.connect(1, server);
        settle(&mut home.world);
        home.told_once();
        home.nothing_is_left();
    }
}

#[test]
fn what_one_device_delivered_the_others_forget() {
    let mut home = Home::new();
    let second = home.second;
    let link = home.world.connect(0, 1);
    let other = home.world.connect(second, 1);
    home.world.log = Some(Vec::new());
    home.share();
    taken_over(&mut home.world);
    home.told_once();
    home.maker_is_told_of_success();
    home.nothing_is_left();
    let delivers = |it: &&Happened| matches!(it, Happened::Said(node, _, Message::Publish { .. }) if *node != 1);
    let said = home.world.log.take().expect("it was kept");
    assert_eq!(said.iter().filter(delivers).count(), 1, "one device delivers it, once");
    home.world.disconnect(other);
    // The recipient answers to whichever device is there, here before that device has heard of it.
    home.world.disconnect(link);
    let into_the_second = u64::from(home.world.now.since_origin().subsec_millis());
    home.world.advance(Duration::from_millis(1_900 - into_the_second));
    home.object = home.world.new_object(0, home.alice, b"state");
    home.share();
    let link = home.world.connect(0, 1);
    home.told_once();
    home.world.disconnect(link);
    home.world.connect(second, 1);
    home.world.advance(Duration::from_millis(150));
    assert_eq!(home.owed(), [1, 0]);
    settle(&mut home.world);
    settle(&mut home.world);
    home.nothing_is_left();
    home.maker_is_told_of_success();
}

#[test]
fn an_answer_that_was_lost_is_given_again() {
    let mut home = Home::new();
    let second = home.second;
    let into_the_second = u64::from(home.world.now.since_origin().subsec_millis());
    home.world.advance(Duration::from_millis(1_900 - into_the_second));
    home.share();
    let link = home.world.connect(0, 1);
    home.told_once();
    home.world.disconnect(link);
    home.world.disconnect(home.between);
    // It comes to the device that has not heard of the share, and that forgets it.
    home.world.connect(second, 1);
    home.world.advance(Duration::from_millis(150));
    assert!(home.world.nodes[1].disk.0.keys().all(|(table, _)| *table != Table::Outbox));
    home.world.restart(second);
    home.comes_back();
    assert_eq!(home.owed(), [1, 1]);
    home.world.connect(second, 1);
    taken_over(&mut home.world);
    home.nothing_is_left();
    home.maker_is_told_of_success();
    assert_eq!(home.told(), []);
}

#[test]
fn what_is_taken_back_while_the_device_is_gone_that_promised_it_never_arrives() {
    let mut home = Home::new();
    home.promise_and_go();
    let second = home.second;
    let unshare = Request::Unshare { object: home.object, recipient: home.to_bob };
    home.world.ask(second, home.there, unshare).expect("taken back");
    home.world.connect(second, 1);
    taken_over(&mut home.world);
    assert_eq!(home.told(), []);
    assert_eq!(home.owed(), [1, 0]);
    home.comes_back();
    home.nothing_is_left();
    home.world.connect(0, 1);
    taken_over(&mut home.world);
    assert_eq!(home.told(), []);
    let told = home.world.notices(0, home.alice);
    assert!(matches!(told.as_slice(), [Notice::Update(_)]), "under the next key: {told:?}");
}

#[test]
fn what_is_deleted_while_that_device_is_gone_never_arrives() {
    for dynamic in [true, false] {
        let mut home = Home::of([Suite::Suite3, Suite::Suite3], dynamic);
        home.promise_and_go();
        let second = home.second;
        home.world.state(second, home.there, home.object).expect("here");
        home.world.ask(second, home.there, Request::Delete(home.object)).expect("deleted");
        home.world.connect(second, 1);
        taken_over(&mut home.world);
        assert_eq!(home.told(), []);
        home.comes_back();
        home.nothing_is_left();
        let (object, recipient) = (home.object, home.to_bob);
        let told = home.world.notices(0, home.alice);
        assert!(told.contains(&Notice::ShareFailed { object, recipient }), "{told:?}");
    }
}

#[test]
fn a_device_that_was_away_brings_nothing_back() {
    let mut home = Home::new();
    let third = home.world.second_device(0, PASSWORD).expect("the right password");
    let away = home.world.connect(0, third);
    home.share();
    settle(&mut home.world);
    assert_eq!(promises(&home.world, third), 1);
    home.world.disconnect(away);
    home.world.connect(0, 1);
    settle(&mut home.world);
    home.told_once();
    home.nothing_is_left();
    // It meets the recipient first, then the others.
    home.world.restart(third);
    assert_eq!(figure(&mut home.world, third, "shares_owed"), 1);
    home.world.connect(third, 1);
    taken_over(&mut home.world);
    home.world.connect(third, home.second);
    for _ in 0..3 {
        settle(&mut home.world);
    }
    assert_eq!(home.told(), []);
    home.nothing_is_left();
    assert_eq!(figure(&mut home.world, third, "shares_owed"), 0);
    assert_eq!(promises(&home.world, third), 0);
}

#[test]
fn a_backup_knows_what_is_owed() {
    let mut home = Home::new();
    home.promise_and_go();
    let backup = home.world.nodes[0].disk.clone();
    let restored = home.world.restored(0, &backup, &mut Seeded(5));
    assert_eq!(figure(&mut home.world, restored, "shares_owed"), 1);
    home.world.connect(restored, 1);
    taken_over(&mut home.world);
    home.told_once();
    assert_eq!(figure(&mut home.world, restored, "shares_owed"), 0);
}

#[test]
fn the_device_that_promised_hears_of_a_refusal() {
    let mut home = Home::new();
    let refuses = common::peer::identity(9);
    home.to_bob = refuses.ghid();
    home.promise_and_go();
    let peer = Peer::link(&mut home.world, home.second, 9);
    peer.prove(&mut home.world);
    let published = (0..18).find_map(|_| {
        home.world.advance(Duration::from_secs(1));
        peer.heard(&mut home.world).into_iter().find_map(|message| match message {
            Message::Publish { id, objects } => Some((id, objects)),
            _ => None,
        })
    });
    let (id, objects) = published.expect("what is owed");
    let results = vec![0; objects.len()];
    peer.say(&mut home.world, Message::Published { id, results });
    let request = golix::object::Unverified::parse(&objects[1]).expect("a request").ghid();
    let nak = peer.request(&home.world, &RequestBody::Nak { request, status: 0 }, 6);
    peer.publish(&mut home.world, vec![peer.gidc(), nak]);
    assert_eq!(home.owed(), [1, 0]);
    home.comes_back();
    home.nothing_is_left();
    let (object, recipient) = (home.object, home.to_bob);
    let told = home.world.notices(0, home.alice);
    assert_eq!(told, vec![Notice::ShareFailed { object, recipient }]);
}

#[test]
fn a_key_that_another_device_changed_meanwhile_is_not_what_the_recipient_gets() {
    let mut home = Home::new();
    let carol = common::peer::identity(9).ghid();
    let with_carol = Request::Share { object: home.object, recipient: carol };
    home.world.ask(0, home.alice, with_carol).expect("promised");
    settle(&mut home.world);
    home.world.disconnect(home.between);
    home.share();
    let from_carol = Request::Unshare { object: home.object, recipient: carol };
    home.world.ask(home.second, home.there, from_carol).expect("taken back");
    home.comes_back();
    home.world.connect(home.second, 1);
    taken_over(&mut home.world);
    home.told_once();
    home.nothing_is_left();
}

#[test]
fn there_is_an_end_to_what_devices_are_told() {
    let mut home = Home::new();
    let most = limits::OWED_RECORDS as u64 + 3;
    for _ in 0..most {
        home.share();
    }
    settle(&mut home.world);
    assert_eq!(promises(&home.world, 0), limits::OWED_RECORDS);
    assert_eq!(home.owed(), [most, limits::OWED_RECORDS as u64]);
}

#[test]
fn what_was_owed_before_there_were_records_is_delivered_by_the_device_that_made_it() {
    #[derive(Serialize)]
    struct Before {
        object: Option<Address>,
        token: Option<[u8; 16]>,
        request: Option<Packed>,
        delivered: bool,
    }
    let mut home = Home::new();
    home.share();
    let before =
        Before { object: Some(Address(home.object)), token: None, request: None, delivered: false };
    let disk = &mut home.world.nodes[0].disk.0;
    disk.retain(|(table, key), _| *table != Table::Account || key[0] != 12);
    for (_, row) in disk.iter_mut().filter(|((table, _), _)| *table == Table::Outbox) {
        *row = cbor4ii::serde::to_vec(Vec::new(), &before).expect("plain data");
    }
    home.world.restart(0);
    home.comes_back();
    assert_eq!(home.owed(), [1, 0]);
    home.world.connect(0, 1);
    settle(&mut home.world);
    home.told_once();
    home.nothing_is_left();
}

/// Three devices of Alice, a server and Bob, who come and go.
struct Wanderers {
    world: World,
    devices: Vec<usize>,
    apps: Vec<ConnectionId>,
    server: usize,
    bob: ConnectionId,
    recipient: Ghid,
}

impl Wanderers {
    fn new() -> Self {
        let mut world = World::new(2);
        let mut devices = vec![0];
        for _ in 0..2 {
            devices.push(world.second_device(0, PASSWORD).expect("the right password"));
        }
        let apps = devices.iter().map(|node| world.app(*node, 1)).collect();
        let bob = world.app(1, 1);
        world.ask(1, bob, Request::RegisterApi(ApiId::JSON)).expect("registered");
        let recipient = world.nodes[1].account.fingerprint();
        let server = world.server(PersisterConfig::default());
        Self { world, devices, apps, server, bob, recipient }
    }

    fn linked(&self, a: usize, b: usize) -> Option<LinkId> {
        let mut links = self.world.links.iter();
        links.find(|((node, _), other)| *node == a && **other == b).map(|((_, link), _)| *link)
    }

    fn toggle(&mut self, a: usize, b: usize) {
        match self.linked(a, b) {
            Some(link) => self.world.disconnect(link),
            None => drop(self.world.connect(a, b)),
        }
    }

    fn all_meet(&mut self, at_the_server: bool) {
        let ends = [&self.devices[..], &[1, self.server]].concat();
        for (number, a) in ends.iter().enumerate() {
            for b in &ends[..number] {
                let apart = at_the_server && *a == 1;
                if !apart && self.linked(*a, *b).is_none() {
                    self.world.connect(*a, *b);
                }
            }
        }
        for _ in 0..3 {
            taken_over(&mut self.world);
        }
    }
}

#[test]
fn whoever_comes_and_goes_everything_arrives_once_and_nothing_stays_owed() {
    for seed in 0..24 {
        // Bob is met by himself, or only through the server; half of the time things end before.
        let (at_the_server, ends) = (seed % 2 == 1, seed % 4 > 1);
        let mut all = Wanderers::new();
        let mut entropy = Seeded(seed);
        let mut shared = Vec::new();
        for _ in 0..50 {
            let mut dice = [0; 4];
            hypergolix_engine::Entropy::fill(&mut entropy, &mut dice);
            let at = usize::from(dice[1]) % 3;
            let device = all.devices[at];
            match dice[0] % 8 {
                0 | 1 => {
                    let object = all.world.new_object(device, all.apps[at], &dice);
                    let share = Request::Share { object, recipient: all.recipient };
                    all.world.ask(device, all.apps[at], share).expect("promised");
                    shared.push(object);
                }
                2 if !at_the_server => all.toggle(device, 1),
                2 | 3 => all.toggle(device, all.server),
                4 => all.toggle(device, all.devices[(at + 1) % 3]),
                5 => all.toggle(1, all.server),
                6 => {
                    all.world.restart(device);
                    all.apps[at] = all.world.app(device, 100 + u64::from(dice[2]));
                }
                _ if ends && dice[3] < 100 && !shared.is_empty() => {
                    let object = shared[usize::from(dice[2]) % shared.len()];
                    let unshare = Request::Unshare { object, recipient: all.recipient };
                    let request = if dice[3] < 50 { Request::Delete(object) } else { unshare };
                    // Not every device has it.
                    drop(all.world.try_ask(device, all.apps[at], request));
                }
                _ => all.world.advance(Duration::from_millis(100 * u64::from(dice[3]))),
            }
        }
        all.all_meet(at_the_server);
        let mut told: Vec<Ghid> = all
            .world
            .notices(1, all.bob)
            .iter()
            .filter_map(|notice| match notice {
                Notice::Share { object, .. } => Some(*object),
                _ => None,
            })
            .collect();
        told.sort_unstable();
        shared.sort_unstable();
        if ends {
            shared.retain(|object| told.contains(object));
        }
        assert_eq!(told, shared, "seed {seed}");
        for device in all.devices.clone() {
            assert_eq!(figure(&mut all.world, device, "shares_owed"), 0, "seed {seed}, {device}");
            assert_eq!(promises(&all.world, device), 0, "seed {seed}, {device}");
        }
    }
}
