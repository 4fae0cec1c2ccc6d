//! Engines broken on purpose: each is caught, or the checkers are blind.

#![allow(missing_docs)]

use std::collections::BTreeSet;

use hypergolix_simulations::{Checker, Mutant, Scenario, simulate};

/// A broken engine is caught within 200 seeds, by a checker that is meant to.
fn is_caught(mutant: Mutant) {
    let text = include_str!("../scenarios/rough.toml");
    let scenario = Scenario::from_toml(text).expect("a shipped scenario");
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
