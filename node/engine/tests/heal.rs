//! Peers whose state was damaged on purpose: each pair heals within two rounds of reconciliation.

#![allow(missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use common::{World, record};
use golix::Ghid;
use golix::persister::Head;
use hypergolix_engine::{Input, LinkId, PersisterConfig, Table, Timer, limits};
use hypergolix_ipc::{ApiId, ConnectionId, Reply, Request};

/// What was done to one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// What was under way to it is lost, and the link stays up.
    Lost,
    /// The same, and the link ends.
    LostAndEnded,
    /// Its store is what it was before the last changes.
    Restored,
    /// It no longer knows how far it has other feeds, nor they its own.
    NoCursors,
    /// Its cursors belong to feeds that there were before.
    OtherEpochs,
    /// Its cursors are ahead of what there is.
    Ahead,
    /// Feeds lack the numbers of addresses.
    NoFeed,
    /// Feeds lack the addresses altogether.
    NoFeedIndex,
    /// Frames of heads are missing.
    NoFrames,
    /// Containers of heads and static bindings are missing.
    NoContainers,
    /// Heads are missing.
    NoHeads,
}

const DAMAGES: [Damage; 11] = [
    Damage::Lost,
    Damage::LostAndEnded,
    Damage::Restored,
    Damage::NoCursors,
    Damage::OtherEpochs,
    Damage::Ahead,
    Damage::NoFeed,
    Damage::NoFeedIndex,
    Damage::NoFrames,
    Damage::NoContainers,
    Damage::NoHeads,
];

struct Pair {
    world: World,
    /// The two that compare.
    ends: [usize; 2],
    /// All links there are, by their ends.
    links: Vec<(usize, usize, LinkId)>,
    alice: ConnectionId,
    shared_with: Option<usize>,
    /// Objects of Alice.
    objects: Vec<Ghid>,
    /// Of these, what the two need not agree about.
    forgotten: Vec<usize>,
}

impl Pair {
    /// An author and a follower.
    fn nodes() -> Self {
        let mut pair = Self::new(World::new(2), [0, 1], Some(1));
        pair.link(0, 1);
        pair.begin()
    }

    /// An author, or a follower, and a server.
    fn server(node: usize) -> Self {
        let mut world = World::new(2);
        let server = world.server(PersisterConfig::default());
        let mut pair = Self::new(world, [node, server], Some(1));
        pair.link(0, server);
        pair.link(1, server);
        pair.begin()
    }

    /// Two servers; Alice is at the first.
    fn mirrors() -> Self {
        let mut world = World::new(1);
        let mirrored = |device: u8| {
            let mut config = PersisterConfig::default();
            config.mirrors = BTreeSet::from([vec![device; 38]]);
            config
        };
        let (first, second) = (world.server(mirrored(2)), world.server(mirrored(1)));
        let mut pair = Self::new(world, [first, second], None);
        pair.link(0, first);
        pair.link(first, second);
        pair.begin()
    }

    fn new(mut world: World, ends: [usize; 2], shared_with: Option<usize>) -> Self {
        let alice = world.app(0, 1);
        Self {
            world,
            ends,
            links: Vec::new(),
            alice,
            shared_with,
            objects: Vec::new(),
            forgotten: Vec::new(),
        }
    }

    fn link(&mut self, a: usize, b: usize) {
        let link = self.world.connect(a, b);
        self.links.push((a, b, link));
    }

    fn begin(mut self) -> Self {
        if let Some(bob) = self.shared_with {
            let app = self.world.app(bob, 1);
            let registered = self.world.ask(bob, app, Request::RegisterApi(ApiId::JSON));
            assert_eq!(registered, Ok(Reply::Done));
        }
        for number in 0..6 {
            self.make(&[number], true);
        }
        for number in 0..2 {
            self.make(&[number], false);
        }
        self.settle();
        assert_eq!(self.differences(), Vec::<String>::new(), "in step before anything is done");
        self
    }

    fn make(&mut self, state: &[u8], dynamic: bool) {
        let made = self.world.ask(0, self.alice, Request::New(record(state, dynamic)));
        let Ok(Reply::Address(object)) = made else { panic!("made: {made:?}") };
        self.objects.push(object);
        if let Some(bob) = self.shared_with {
            let recipient = self.world.nodes[bob].account.fingerprint();
            let shared = self.world.ask(0, self.alice, Request::Share { object, recipient });
            assert_eq!(shared, Ok(Reply::Done));
        }
    }

    fn settle(&mut self) {
        self.world.advance(2 * limits::PIECES_DELAY + 3 * limits::ANSWER_SCHEDULE);
    }

    /// What changes meanwhile: three objects several times, one dynamic and one static one are gone.
    fn change(&mut self) {
        for round in 10..13_u8 {
            for object in 0..3 {
                let address = self.objects[object];
                self.world.push(0, self.alice, address, &[round]);
            }
        }
        for object in [3, 6] {
            let address = self.objects[object];
            let deleted = self.world.ask(0, self.alice, Request::Delete(address));
            assert_eq!(deleted, Ok(Reply::Done));
        }
    }

    fn apart(&mut self, node: usize) {
        for (a, b, link) in std::mem::take(&mut self.links) {
            if a == node || b == node {
                self.world.disconnect(link);
            }
            self.links.push((a, b, link));
        }
    }

    /// Links that ended come up again.
    fn together(&mut self) {
        for (a, b, link) in std::mem::take(&mut self.links) {
            let up = self.world.links.contains_key(&(a, link));
            let link = if up { link } else { self.world.connect(a, b) };
            self.links.push((a, b, link));
        }
    }

    fn damage(&mut self, victim: usize, damage: Damage) {
        let before = self.world.nodes[victim].disk.clone();
        match damage {
            Damage::Lost | Damage::LostAndEnded => {
                self.world.deaf = Some(victim);
                self.change();
                if damage == Damage::LostAndEnded {
                    self.apart(victim);
                }
                self.world.deaf = None;
                return;
            }
            Damage::Restored => {
                self.change();
                self.settle();
                self.apart(victim);
                self.world.nodes[victim].disk = before;
                if self.ends == [0, 1] && victim == 0 {
                    // Nobody follows what is deleted: servers and own devices remember it.
                    self.forgotten = vec![3, 6];
                }
            }
            _ => {
                self.apart(victim);
                // What only the author has, and loses, nobody gives back.
                let only_copy = victim == 0
                    && matches!(damage, Damage::NoFrames | Damage::NoContainers | Damage::NoHeads);
                if !only_copy {
                    self.change();
                }
            }
        }
        let rows = &mut self.world.nodes[victim].disk.0;
        let objects: Vec<(usize, Ghid)> = self.objects.iter().copied().enumerate().collect();
        let head = |rows: &std::collections::BTreeMap<(Table, Vec<u8>), Vec<u8>>, object: &Ghid| {
            let row = rows.get(&(Table::Heads, object.as_bytes().to_vec()));
            row.map(|row| Head::decode(row).expect("a head"))
        };
        match damage {
            Damage::Lost | Damage::LostAndEnded | Damage::Restored => {}
            Damage::NoCursors => rows.retain(|(table, _), _| *table != Table::Cursors),
            Damage::OtherEpochs => {
                for ((table, _), row) in rows.iter_mut() {
                    if *table == Table::Cursors {
                        row[7] ^= 1;
                    }
                }
            }
            Damage::Ahead => {
                for ((table, _), row) in rows.iter_mut() {
                    if *table == Table::Cursors && row.len() == 16 {
                        row[12..].copy_from_slice(&[0, 1, 0, 0]);
                    }
                }
            }
            Damage::NoFeed | Damage::NoFeedIndex => {
                for (number, object) in objects {
                    let key = (Table::FeedIndex, object.as_bytes().to_vec());
                    if number % 2 == 0
                        && let Some(row) = rows.get(&key).cloned()
                    {
                        rows.remove(&(Table::Feed, row));
                        if damage == Damage::NoFeedIndex {
                            rows.remove(&key);
                        }
                    }
                }
            }
            Damage::NoFrames | Damage::NoContainers | Damage::NoHeads => {
                for (_, object) in objects {
                    let gone = match (head(rows, &object), damage) {
                        (Some(head), Damage::NoFrames) => (Table::Objects, head.frame),
                        (Some(head), Damage::NoContainers) => (Table::Objects, head.target),
                        (Some(_), _) => (Table::Heads, object),
                        (None, Damage::NoContainers) => (Table::Objects, object),
                        (None, _) => continue,
                    };
                    rows.remove(&(gone.0, gone.1.as_bytes().to_vec()));
                }
            }
        }
        self.world.restart(victim);
        if victim == 0 {
            self.alice = self.world.app(0, self.alice.0 + 10);
        }
        if self.shared_with == Some(victim) {
            let app = self.world.app(victim, 50);
            let registered = self.world.ask(victim, app, Request::RegisterApi(ApiId::JSON));
            assert_eq!(registered, Ok(Reply::Done));
        }
    }

    /// How often the store of a device was read.
    fn reads(&self, node: usize) -> u64 {
        self.world.nodes[node].disk.1.load(Ordering::Relaxed)
    }

    /// What the two do not agree about.
    fn differences(&self) -> Vec<String> {
        let mut differences = Vec::new();
        for (number, object) in self.objects.iter().enumerate() {
            let [one, other] = self.ends.map(|end| self.state(end, object));
            if one != other && !self.forgotten.contains(&number) {
                differences.push(format!("{number}: {one} and {other}"));
            }
        }
        differences
    }

    /// Everything that a device has of an object; its frame and whether it can be read and served.
    fn state(&self, node: usize, object: &Ghid) -> String {
        let rows = &self.world.nodes[node].disk.0;
        let stored = |ghid: &Ghid| rows.contains_key(&(Table::Objects, ghid.as_bytes().to_vec()));
        match rows.get(&(Table::Heads, object.as_bytes().to_vec())) {
            Some(row) => {
                let head = Head::decode(row).expect("a head");
                let whole = stored(&head.frame) && stored(&head.target);
                format!("counter {:x} {} whole {whole}", head.counter, head.frame.short())
            }
            None => format!("static {}", stored(object)),
        }
    }

    /// Rounds of reconciliation until both hold the same, at most three.
    fn rounds(&mut self) -> usize {
        for round in 0..3 {
            if self.differences().is_empty() {
                return round;
            }
            // Links that came down come up at once, and both sides compare; else after a while.
            let down =
                self.links.iter().any(|(a, _, link)| !self.world.links.contains_key(&(*a, *link)));
            if down {
                self.together();
                self.settle();
            } else {
                self.world.advance(limits::RECONCILE_INTERVAL);
            }
        }
        3
    }
}

fn heals(name: &str, make: fn() -> Pair) {
    let mut failures = Vec::new();
    for damage in DAMAGES {
        for end in 0..2 {
            let mut pair = make();
            let victim = pair.ends[end];
            pair.damage(victim, damage);
            let rounds = pair.rounds();
            if rounds > 2 || !pair.differences().is_empty() {
                failures.push(format!("{damage:?} of {victim}: {:?}", pair.differences()));
                continue;
            }
            // What comes next goes its way again.
            pair.together();
            pair.world.push(0, pair.alice, pair.objects[0], b"next");
            pair.settle();
            if !pair.differences().is_empty() {
                failures.push(format!("{damage:?} of {victim}, next: {:?}", pair.differences()));
            }
            let next = pair.state(pair.ends[1], &pair.objects[0]);
            if !next.contains("whole true") {
                failures.push(format!("{damage:?} of {victim}, next: {next}"));
            }
        }
    }
    assert!(failures.is_empty(), "{name}:\n{}", failures.join("\n"));
}

#[test]
fn an_author_and_a_follower() {
    heals("nodes", Pair::nodes);
}

#[test]
fn an_author_and_a_server() {
    heals("author and server", || Pair::server(0));
}

#[test]
fn a_follower_and_a_server() {
    heals("follower and server", || Pair::server(1));
}

#[test]
fn two_servers() {
    heals("mirrors", Pair::mirrors);
}

/// More rows than are looked at beside two comparisons; all of them, or every other one, are damaged.
#[test]
fn so_do_stores_of_some_thousand_rows() {
    let at_server: fn() -> Pair = || Pair::server(0);
    for (make, damages) in [
        (at_server, &[Damage::NoFeedIndex, Damage::NoContainers][..]),
        (Pair::mirrors, &[Damage::NoFrames]),
    ] {
        let mut pair = make();
        pair.shared_with = None;
        for number in 0..2_200_u16 {
            pair.make(&number.to_be_bytes(), true);
        }
        pair.settle();
        assert_eq!(pair.differences(), Vec::<String>::new(), "in step before anything is done");
        let before: Vec<_> = pair.world.nodes.iter().map(|node| node.disk.clone()).collect();
        for damage in damages {
            for end in 0..2 {
                for (node, disk) in before.iter().enumerate() {
                    pair.world.nodes[node].disk = disk.clone();
                    pair.world.restart(node);
                }
                pair.alice = pair.world.app(0, pair.alice.0 + 10);
                pair.together();
                pair.settle();
                let victim = pair.ends[end];
                pair.damage(victim, *damage);
                let rounds = pair.rounds();
                let left = pair.differences().len();
                assert!(rounds <= 2 && left == 0, "{damage:?} of {victim}: {left} after {rounds}");
                let before = pair.reads(victim);
                pair.world.input(victim, Input::Timer(Timer::Scrub));
                let reads = pair.reads(victim) - before;
                assert!(reads <= 10 * limits::SCRUB_ROWS as u64, "{reads} reads in one slice");
            }
        }
    }
}

#[test]
fn where_nothing_is_missing_nothing_is_found() {
    for make in [Pair::nodes, || Pair::server(0), Pair::mirrors] {
        let mut pair = make();
        pair.change();
        pair.settle();
        // What the account lists of its own objects follows.
        pair.world.advance(limits::MANIFEST_DELAY);
        pair.settle();
        let last = |world: &World, node: usize| {
            let feed = world.nodes[node].disk.0.keys().filter(|(table, _)| *table == Table::Feed);
            feed.map(|(_, number)| number.clone()).max()
        };
        let before: Vec<_> = (0..pair.world.nodes.len()).map(|it| last(&pair.world, it)).collect();
        // Once all rows were looked at, nothing is read before the next comparison.
        pair.settle();
        let reads = pair.ends.map(|end| pair.reads(end));
        pair.world.advance(limits::RECONCILE_INTERVAL / 2);
        assert_eq!(pair.ends.map(|end| pair.reads(end)), reads);
        for _ in 0..3 {
            pair.world.advance(limits::RECONCILE_INTERVAL);
        }
        for node in 0..pair.world.nodes.len() {
            pair.world.restart(node);
        }
        pair.together();
        pair.settle();
        let after: Vec<_> = (0..pair.world.nodes.len()).map(|it| last(&pair.world, it)).collect();
        assert_eq!(before, after);
    }
}
