//! Many seeds at once, and what is printed of those that fail.

use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;

use crate::check::{Checker, Violation};
use crate::mutants::Mutant;
use crate::report::Stats;
use crate::scenario::Scenario;
use crate::world::{Outcome, Trace, simulate};

/// As [`simulate`]; a panic is one more way to fail.
pub fn simulate_safely<'a>(
    scenario: &'a Scenario,
    seed: u64,
    mutant: Option<Mutant>,
    trace: Option<Trace<'a>>,
) -> Outcome {
    let run = AssertUnwindSafe(|| simulate(scenario, seed, mutant, trace));
    catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        let violation =
            Violation { checker: Checker::Sound, at: 0, text: format!("panicked: {text}") };
        Outcome { stats: Stats { seeds: 1, ..Stats::default() }, violation: Some(violation) }
    })
}

/// Runs seeds on `jobs` threads and hands over what came of each, in no particular order, until
/// `done` returns false.
pub fn run_seeds(
    scenario: &Scenario,
    seeds: Range<u64>,
    jobs: usize,
    mutant: Option<Mutant>,
    mut done: impl FnMut(u64, Outcome) -> bool,
) {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(64);
        for _ in 0..jobs.max(1) {
            let sender = sender.clone();
            let (next, stop, end) = (&next, &stop, seeds.end);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let outcome = simulate_safely(scenario, seed, mutant, None);
                    if sender.send((seed, outcome)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (seed, outcome) in receiver {
            if !done(seed, outcome) {
                stop.store(true, Ordering::Relaxed);
                break;
            }
        }
    });
}

/// A failing seed for people: what happened, and how to see it again.
#[derive(Debug)]
pub struct Failure<'a> {
    /// The scenario's file.
    pub path: &'a Path,
    /// The seed.
    pub seed: u64,
    /// The mutant in use.
    pub mutant: Option<Mutant>,
    /// What did not hold.
    pub violation: Violation,
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.violation)?;
        write!(
            f,
            "  cargo run --release -p hypergolix-simulations -- replay {} --seed {} --trace",
            self.path.display(),
            self.seed
        )?;
        if let Some(mutant) = self.mutant
            && let Some(value) = clap::ValueEnum::to_possible_value(&mutant)
        {
            write!(f, " --mutant {}", value.get_name())?;
        }
        Ok(())
    }
}
