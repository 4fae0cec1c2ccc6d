//! Links that go down and nodes that are killed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use golix::Ghid;
use hypergolix_ipc::ApiId;
use hypergolix_ipc::client::{HgxLink, LinkOptions, NewOptions, Obj, Update};
use hypergolix_tests::namespaces::{Lan, Place};
use hypergolix_tests::process::{Home, Node};
use hypergolix_tests::wait::{PATIENCE, pause, wait_until};
use hypergolix_tests::wire::Address;

use crate::{CONVERGED_MAX, FOUND_AGAIN_MAX, FOUND_MAX, Site, assert_never_back, numbers, peers};

/// How long the cable is out, and how many pushes are made meanwhile.
const OUTAGE: Duration = Duration::from_secs(10);
const PUSHES: u32 = 50;
/// Objects of a busy user.
const OBJECTS: usize = 200;

pub fn unplug_and_replug() {
    let mut lan = Lan::new();
    let (alice, bob) = (Site::new(&mut lan), Site::new(&mut lan));
    let object = alice.shared_with(&[&bob], b"0");
    alice.app.push(object, b"1");
    bob.app.update(object, b"1", FOUND_MAX);

    bob.place.unplug();
    let mut last = String::new();
    for count in 0..PUSHES {
        last = (2 + count).to_string();
        alice.app.push(object, last.as_bytes());
        pause(OUTAGE / PUSHES);
    }
    assert_eq!(bob.app.get(object).state, b"1", "the cable is out");
    bob.place.plug();
    let up = Instant::now();

    wait_until("the nodes to find each other again", FOUND_AGAIN_MAX, || {
        peers(&alice.app) > 0 && peers(&bob.app) > 0
    });
    let found = up.elapsed();
    bob.app.update(object, last.as_bytes(), FOUND_AGAIN_MAX);
    let converged = up.elapsed();
    println!("link up: connected after {found:?}, converged after {converged:?}");
    assert!(converged <= FOUND_AGAIN_MAX.min(found + CONVERGED_MAX), "{found:?} {converged:?}");
    assert_never_back(&numbers(&bob.app, object));

    // Both directions work again.
    let theirs = bob.shared_with(&[&alice], b"0");
    bob.app.push(theirs, b"1");
    alice.app.update(theirs, b"1", CONVERGED_MAX);
}

/// Many objects changed meanwhile; catching up costs what changed.
pub fn many_objects_after_an_outage() {
    let mut lan = Lan::new();
    let (alice, bob) = (Site::new(&mut lan), Site::new(&mut lan));
    let objects: Vec<Address> = (0..OBJECTS).map(|_| alice.shared_with(&[&bob], b"0")).collect();
    bob.place.unplug();
    for count in 1..=3 {
        for (number, &object) in objects.iter().enumerate() {
            if number % 4 != 0 {
                alice.app.push(object, count.to_string().as_bytes());
            }
        }
    }
    pause(OUTAGE / 2);
    bob.place.plug();
    let up = Instant::now();
    for (number, &object) in objects.iter().enumerate() {
        if number % 4 == 0 {
            assert!(bob.app.states(object).is_empty(), "nothing happened to it");
        } else {
            let left = FOUND_AGAIN_MAX.saturating_sub(up.elapsed());
            bob.app.update(object, b"3", left);
            assert_never_back(&numbers(&bob.app, object));
        }
    }
    println!("{OBJECTS} objects converged {:?} after the link came up", up.elapsed());
}

/// Short outages, pushes all the time.
pub fn a_loose_contact() {
    let mut lan = Lan::new();
    let (alice, bob) = (Site::new(&mut lan), Site::new(&mut lan));
    let object = alice.shared_with(&[&bob], b"0");
    let mut count = 0_u64;
    let mut push_for = |duration: Duration| {
        let begun = Instant::now();
        while begun.elapsed() < duration {
            count += 1;
            alice.app.push(object, count.to_string().as_bytes());
            pause(Duration::from_millis(5));
        }
        count
    };
    for _ in 0..6 {
        bob.place.unplug();
        push_for(Duration::from_millis(rand::random_range(50..1_500)));
        bob.place.plug();
        push_for(Duration::from_millis(rand::random_range(50..500)));
    }
    let last = push_for(Duration::from_millis(1)).to_string();
    bob.app.update(object, last.as_bytes(), CONVERGED_MAX);
    assert_never_back(&numbers(&bob.app, object));
}

/// Nodes that start before their cable is plugged in.
pub fn started_without_a_cable() {
    let mut lan = Lan::new();
    let places = [lan.host(), lan.host()];
    for place in &places {
        place.unplug();
    }
    let [alice, bob] = places.map(|place| Site::start(place.clone(), Home::new(&place)));
    pause(Duration::from_secs(3));
    assert_eq!((peers(&alice.app), peers(&bob.app)), (0, 0), "both cables are out");
    alice.place.plug();
    bob.place.plug();
    let found = alice.meets(&bob, FOUND_AGAIN_MAX);
    println!("found {found:?} after the cables were in");
    alice.shared_with(&[&bob], b"hello");
}

/// A host that gets another address is found there.
pub fn another_address() {
    let mut lan = Lan::new();
    let (alice, bob) = (Site::new(&mut lan), Site::new(&mut lan));
    let object = alice.shared_with(&[&bob], b"0");
    bob.place.renumber("10.77.0.99");
    alice.app.push(object, b"1");
    bob.app.update(object, b"1", FOUND_AGAIN_MAX);
    alice.place.renumber("10.77.0.98");
    alice.app.push(object, b"2");
    bob.app.update(object, b"2", FOUND_AGAIN_MAX);
}

/// A notebook that is closed for a while.
pub fn asleep() {
    let mut lan = Lan::new();
    let (alice, bob) = (Site::new(&mut lan), Site::new(&mut lan));
    let object = alice.shared_with(&[&bob], b"0");
    bob.node.signal("STOP");
    for count in 1..=10 {
        alice.app.push(object, count.to_string().as_bytes());
        pause(OUTAGE / 10);
    }
    bob.node.signal("CONT");
    bob.app.update(object, b"10", CONVERGED_MAX);
    assert_never_back(&numbers(&bob.app, object));
    let theirs = bob.shared_with(&[&alice], b"0");
    bob.app.push(theirs, b"1");
    alice.app.update(theirs, b"1", CONVERGED_MAX);
}

/// An application that lives through restarts of its node.
#[derive(Clone)]
struct App {
    place: Place,
    link: HgxLink,
}

impl App {
    fn new(node: &Node) -> Self {
        let place = node.home().place().clone();
        let options = LinkOptions { port: node.port(), patience: PATIENCE, ..Default::default() };
        let link = place.run(async move { HgxLink::connect_with(options).await });
        Self { place, link: link.expect("the node accepts the link") }
    }

    /// Takes shares of an api id and records what their objects' states were.
    fn listen(&self, api: ApiId) -> Arc<Seen> {
        let seen = Arc::<Seen>::default();
        let (link, record) = (self.link.clone(), Arc::clone(&seen));
        self.place.run(async move {
            let mut shares = link.shares(api).await.expect("the node registers an api id");
            tokio::spawn(async move {
                while let Some(share) = shares.next().await {
                    record.shares.fetch_add(1, Ordering::Relaxed);
                    let obj: Obj = link.get(share.ghid).await.expect("a shared object is there");
                    record.add(&obj.state().expect("it is alive"));
                    let (record, mut updates) = (Arc::clone(&record), obj.updates());
                    tokio::spawn(async move {
                        // The handle is what keeps the object followed.
                        let _obj = obj;
                        while let Some(Update::State(state)) = updates.next().await {
                            record.add(&state);
                        }
                    });
                }
            });
        });
        seen
    }

    fn new_object(&self, api: ApiId, recipient: Ghid) -> Obj {
        let link = self.link.clone();
        self.place.run(async move {
            let options = NewOptions { api_id: Some(api), ..Default::default() };
            let obj: Obj = link.new(&b"0"[..], options).await.expect("an object");
            obj.share(recipient).await.expect("the node takes the share");
            obj
        })
    }

    /// Pushes ever higher numbers; `acknowledged` is the last that was.
    fn stream(&self, obj: Obj, acknowledged: &Arc<AtomicU64>, over: &Arc<AtomicBool>) {
        let (acknowledged, over) = (Arc::clone(acknowledged), Arc::clone(over));
        self.place.handle().spawn(async move {
            for number in 1_u64.. {
                obj.set_state(number.to_string().into_bytes()).expect("it is alive");
                obj.push().await.expect("pushes are repeated until they are taken");
                acknowledged.store(number, Ordering::SeqCst);
                if over.load(Ordering::SeqCst) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            over.store(false, Ordering::SeqCst);
        });
    }
}

/// What the callbacks of the receiving application were called with.
#[derive(Default)]
struct Seen {
    shares: AtomicU64,
    states: Mutex<Vec<u64>>,
}

impl Seen {
    fn add(&self, state: &[u8]) {
        let number = String::from_utf8_lossy(state).parse().expect("states are numbers");
        self.states.lock().expect("no panic holds it").push(number);
    }

    fn last(&self) -> Option<u64> {
        self.states.lock().expect("no panic holds it").last().copied()
    }
}

/// A node that is killed and started again in the same home.
struct Victim {
    home: Home,
    node: Option<Node>,
}

impl Victim {
    fn new(place: &Place) -> Self {
        let home = Home::new(place);
        let node = Some(home.start());
        Self { home, node }
    }

    fn node(&self) -> &Node {
        self.node.as_ref().expect("it runs between rounds")
    }

    fn kill_and_restart(&mut self) {
        self.node.take().expect("it runs between rounds").kill();
        self.node = Some(self.home.start());
    }
}

pub fn killed_in_mid_stream() {
    let rounds = std::env::var("HYPERGOLIX_KILL_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20);
    let mut lan = Lan::new();
    let mut victims = [Victim::new(&lan.host()), Victim::new(&lan.host())];
    let [alice, bob] = [0, 1].map(|which: usize| App::new(victims[which].node()));
    let api = ApiId(Address::random().0[1..].try_into().expect("64 bytes"));
    let seen = bob.listen(api);
    let obj = alice.new_object(api, bob.link.fingerprint());
    let address = Address(*obj.ghid().as_bytes());
    wait_until("the share", PATIENCE, || seen.last().is_some());

    let (acknowledged, over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    alice.stream(obj, &acknowledged, &over);
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        pause(Duration::from_millis(rand::random_range(100..600)));
        let before = acknowledged.load(Ordering::SeqCst);
        victims[round % 2].kill_and_restart();
        // The acknowledged is there at once, and at the other side soon.
        let found = victims[0].node().connect().get(address).state;
        let found: u64 = String::from_utf8_lossy(&found).parse().expect("a number");
        assert!(found >= before, "round {round}: {found} after {before} was acknowledged");
        let target = acknowledged.load(Ordering::SeqCst).max(found);
        let what = format!("state {target} in round {round}");
        let taken = wait_until(&what, CONVERGED_MAX, || seen.last() >= Some(target));
        slowest = slowest.max(taken);
    }
    over.store(true, Ordering::SeqCst);
    wait_until("the last push", PATIENCE, || !over.load(Ordering::SeqCst));
    let last = acknowledged.load(Ordering::SeqCst);
    wait_until("the last state", CONVERGED_MAX, || seen.last() == Some(last));
    // A link that connects again gets its objects anew, maybe to what it has.
    let mut states = seen.states.lock().expect("no panic holds it").clone();
    states.dedup();
    assert_never_back(&states);
    println!("{rounds} rounds, {last} pushes, converged within {slowest:?} of each restart");

    // The share handler, too, is registered with the restarted node.
    let shares = seen.shares.load(Ordering::Relaxed);
    let _obj = alice.new_object(api, bob.link.fingerprint());
    wait_until("another share", CONVERGED_MAX, || seen.shares.load(Ordering::Relaxed) > shares);
}
