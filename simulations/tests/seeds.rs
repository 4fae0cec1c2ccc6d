//! Seeds of the shipped scenarios, seeds that once failed, and engines that have to be caught.

#![allow(missing_docs)]

use std::collections::BTreeSet;

use hypergolix_simulations::{Checker, Mutant, Scenario, simulate};

const LAN: &str = include_str!("../scenarios/lan.toml");
const PARTITION: &str = include_str!("../scenarios/partition.toml");
const ROUGH: &str = include_str!("../scenarios/rough.toml");
const CROWD: &str = include_str!("../scenarios/crowd.toml");

fn scenario(text: &str) -> Scenario {
    Scenario::from_toml(text).expect("a shipped scenario")
}

fn holds(text: &str, seeds: impl IntoIterator<Item = u64>) {
    let scenario = scenario(text);
    for seed in seeds {
        let outcome = simulate(&scenario, seed, None, None);
        assert!(outcome.violation.is_none(), "seed {seed}: {}", outcome.violation.expect("one"));
        assert!(outcome.stats.requests > 0 && outcome.stats.commits > 0);
    }
}

#[test]
fn lan_holds() {
    holds(LAN, 0..20);
}

#[test]
fn partition_holds() {
    holds(PARTITION, 0..20);
}

#[test]
fn rough_holds() {
    holds(ROUGH, 0..10);
}

/// What was wrong when they failed. A change of a scenario changes what its seeds mean.
#[test]
fn seeds_that_once_failed() {
    // A refused deletion ended the updates of the application that had asked for it.
    holds(ROUGH, [2, 45, 102]);
    holds(LAN, [38, 43, 53]);
    // A share that waited for a slow application was gone once a quicker one had taken it.
    holds(CROWD, [198]);
    // A share of what was deleted meanwhile waited for ever and counted against its sender.
    holds(ROUGH, [5, 27, 41]);
    holds(LAN, [340, 834]);
}

#[test]
fn a_seed_is_a_run() {
    let scenario = scenario(ROUGH);
    let run = |seed| {
        let mut lines = Vec::new();
        let mut trace = |line: &str| lines.push(line.to_owned());
        let outcome = simulate(&scenario, seed, None, Some(&mut trace));
        (lines, outcome.stats.events)
    };
    let (first, again, other) = (run(1), run(1), run(2));
    assert!(first == again, "the same seed, another run");
    assert!(first.0 != other.0, "another seed, the same run");
}

/// A broken engine is caught within 200 seeds, by a checker that is meant to.
fn is_caught(mutant: Mutant) {
    let scenario = scenario(ROUGH);
    let mut others = BTreeSet::new();
    for seed in 0..200 {
        match simulate(&scenario, seed, Some(mutant), None).violation {
            Some(violation) if mutant.caught_by().contains(&violation.checker) => return,
            Some(violation) => drop(others.insert(violation.checker)),
            None => {}
        }
    }
    panic!("{mutant:?} was caught by {others:?} only");
}

macro_rules! caught {
    ($($name:ident: $mutant:ident,)*) => {
        $(
            #[test]
            fn $name() {
                is_caught(Mutant::$mutant);
            }
        )*

        const TESTED: &[Mutant] = &[$(Mutant::$mutant),*];
    };
}

caught! {
    answers_before_the_commit: AckBeforeCommit,
    sends_before_the_commit: SendBeforeCommit,
    half_a_commit: TornCommit,
    events_lost_for_ever: EventsLostForEver,
    old_states: OldState,
    deaf_after_a_reconnect: DeafAfterReconnect,
    forgets_tombstones: ForgetsTombstones,
    forgets_the_outbox: ForgetsOutbox,
    forgets_waiting_shares: ForgetsWaitingShares,
    forgets_follows: ForgetsFollows,
    answers_twice: AnswersTwice,
    answers_never: AnswersNever,
    swaps_shares: SwapsShares,
    repeats_shares: RepeatsShares,
    no_window: NoWindow,
    shows_the_deleted: ShowsDeleted,
    chatters: Chatters,
    accuses: Accuses,
}

#[test]
fn every_mutant_is_tested_and_every_checker_needed() {
    assert_eq!(TESTED, Mutant::ALL);
    let alone: BTreeSet<Checker> = Mutant::ALL
        .iter()
        .filter_map(|mutant| match mutant.caught_by() {
            [checker] => Some(*checker),
            _ => None,
        })
        .collect();
    assert_eq!(
        alone.len(),
        Checker::ALL.len(),
        "each checker alone catches some mutant: {alone:?}"
    );
}
