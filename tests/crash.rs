//! SIGKILL at random moments: whatever an application was told is done, is done.
//!
//! Rounds: `HYPERGOLIX_CRASH_ROUNDS`, 20 unless set.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hypergolix_tests::harness::{self, trial};
use hypergolix_tests::namespaces::Place;
use hypergolix_tests::process::{Home, Node};
use hypergolix_tests::wait::pause;
use hypergolix_tests::wire::{Address, Definition, Refusal, Wire};

/// From the start of the process to the ready line, password included.
const RESTART_MAX: Duration = Duration::from_secs(2);
/// The same for a single restart, which other work on the machine may slow down.
const RESTART_BUSY_MAX: Duration = Duration::from_secs(8);

fn main() -> ExitCode {
    harness::main(false, |_| {
        vec![
            trial("pushes_survive", pushes_survive),
            trial("creations_and_deletions_survive", creations_and_deletions_survive),
            trial("tokens_and_startup_objects_survive", tokens_and_startup_objects_survive),
            trial("a_first_start_may_be_interrupted", a_first_start_may_be_interrupted),
        ]
    })
}

fn rounds() -> u32 {
    std::env::var("HYPERGOLIX_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// How long restarts after kills took.
#[derive(Default)]
struct Restarts(Vec<Duration>);

impl Restarts {
    /// Starts again after a kill.
    fn restart(&mut self, home: &Home) -> Node {
        let node = home.start();
        assert!(node.startup() <= RESTART_BUSY_MAX, "a restart took {:?}", node.startup());
        self.0.push(node.startup());
        node
    }

    /// Asserts that restarts are fast: the median, as the machine may be busy with other tests.
    fn assert_fast(mut self) {
        self.0.sort();
        let (median, slowest) = (self.0[self.0.len() / 2], self.0[self.0.len() - 1]);
        println!("restarts after a kill: median {median:?}, slowest {slowest:?}");
        assert!(median <= RESTART_MAX, "restarts take {median:?}");
    }
}

/// What an application does until it is told that the node was killed.
type Work<'a, T> = Box<dyn FnOnce(&AtomicBool) -> T + Send + 'a>;

/// Lets `work` run in threads until the node is killed at a random moment; gives their results.
fn until_killed<T: Send>(node: Node, work: Vec<Work<'_, T>>) -> Vec<T> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let over = &over;
        let threads: Vec<_> =
            work.into_iter().map(|work| scope.spawn(move || work(over))).collect();
        pause(Duration::from_millis(rand::random_range(5..400)));
        node.kill();
        over.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().expect("a worker does not panic")).collect()
    })
}

fn number(state: &[u8]) -> u64 {
    String::from_utf8_lossy(state).parse().expect("states are numbers")
}

fn pushes_survive() {
    let home = Home::new(&Place::here());
    let mut node = home.start();
    let mut restarts = Restarts::default();
    let objects: Vec<Address> = {
        let wire = node.connect();
        (0..8).map(|_| wire.new_object(b"0")).collect()
    };
    // The last state each object was acknowledged with.
    let mut kept: Vec<u64> = vec![0; objects.len()];
    for round in 0..rounds() {
        let work = objects
            .iter()
            .zip(&kept)
            .map(|(&object, &from)| {
                let wire = node.connect();
                let work: Work<'_, (u64, u64)> = Box::new(move |over| {
                    let (mut acknowledged, mut sent) = (from, from);
                    while !over.load(Ordering::Relaxed) {
                        sent += 1;
                        match wire.try_push(object, sent.to_string().as_bytes()) {
                            Ok(()) => acknowledged = sent,
                            Err(Refusal::Closed) => break,
                            Err(refusal) => panic!("refused: {refusal:?}"),
                        }
                    }
                    (acknowledged, sent)
                });
                work
            })
            .collect();
        let results = until_killed(node, work);
        node = restarts.restart(&home);
        let wire = node.connect();
        for ((&object, kept), (acknowledged, sent)) in objects.iter().zip(&mut kept).zip(results) {
            let found = number(&wire.get(object).state);
            assert!(
                (acknowledged..=sent).contains(&found),
                "round {round}: {found} after {acknowledged} was acknowledged and {sent} sent"
            );
            *kept = found;
        }
    }
    assert!(kept.iter().sum::<u64>() > u64::from(rounds()), "hardly anything was pushed");
}

/// What a worker that makes and deletes objects knows in the end.
#[derive(Default)]
struct Outcome {
    /// Acknowledged creations: the address and the number that is the state.
    made: Vec<(Address, u64)>,
    /// Acknowledged deletions.
    deleted: Vec<Address>,
    /// A deletion without an answer: both outcomes are right.
    unanswered: Option<Address>,
}

/// Makes objects numbered from `first`, and deletes one of `doomed` after every third.
fn make_and_delete(wire: &Wire, first: u64, doomed: &[Address], over: &AtomicBool) -> Outcome {
    let mut result = Outcome::default();
    let mut doomed = doomed.iter();
    for count in first.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        match wire.make(&Definition::new(count.to_string().as_bytes())) {
            Ok(object) => result.made.push((object, count)),
            Err(Refusal::Closed) => break,
            Err(refusal) => panic!("refused: {refusal:?}"),
        }
        if count % 3 == 0
            && let Some(&object) = doomed.next()
        {
            match wire.done(*b"XO", &object.0) {
                Ok(()) => result.deleted.push(object),
                Err(Refusal::Closed) => {
                    result.unanswered = Some(object);
                    break;
                }
                Err(refusal) => panic!("refused: {refusal:?}"),
            }
        }
    }
    result
}

fn creations_and_deletions_survive() {
    let home = Home::new(&Place::here());
    let mut node = home.start();
    let mut restarts = Restarts::default();
    let mut kept: HashMap<Address, u64> = HashMap::new();
    let mut next = 0;
    for round in 0..rounds() {
        let wire = node.connect();
        let doomed: Vec<Address> = kept.keys().copied().take(20).collect();
        let work: Work<'_, Outcome> =
            Box::new(move |over| make_and_delete(&wire, next, &doomed, over));
        let result = until_killed(node, vec![work]).remove(0);
        next = result.made.last().map_or(next, |(_, count)| count + 1);
        kept.extend(result.made);
        node = restarts.restart(&home);
        let wire = node.connect();
        for object in &result.deleted {
            kept.remove(object);
            let answer = wire.try_get(*object);
            assert!(matches!(answer, Err(Refusal::Nak(8, _))), "round {round}: {answer:?}");
        }
        if let Some(object) = result.unanswered
            && wire.try_get(object).is_err()
        {
            kept.remove(&object);
        }
        for (object, state) in &kept {
            assert_eq!(number(&wire.get(*object).state), *state, "round {round}");
        }
        // Looking at thousands of objects each round would be all this test does.
        if kept.len() > 300 {
            kept.clear();
        }
    }
    restarts.assert_fast();
}

fn tokens_and_startup_objects_survive() {
    let home = Home::new(&Place::here());
    let mut node = home.start();
    let mut restarts = Restarts::default();
    for _ in 0..rounds().min(5) {
        let (token, object) = {
            let wire = node.connect();
            let token = wire.request(*b"+T", &[0; 16]).expect("a new token");
            let object = wire.new_object(b"startup");
            wire.done(*b"+$", &object.0).expect("a startup object");
            (token, object)
        };
        node.kill();
        node = restarts.restart(&home);
        let wire = node.connect();
        assert_eq!(wire.request(*b"+T", &token).as_ref(), Ok(&token));
        assert_eq!(wire.request(*b">$", b""), Ok(object.0.to_vec()));
        assert_eq!(wire.get(object).state, b"startup");
    }
    restarts.assert_fast();
}

/// A kill during account creation leaves a home that either starts or says what to do.
fn a_first_start_may_be_interrupted() {
    for delay in [1, 20, 60, 150, 300, 500, 800] {
        let home = Home::new(&Place::here());
        let mut child = home
            .start_command()
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the binary runs");
        pause(Duration::from_millis(delay));
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
        home.start().assert_serves();
    }
}
