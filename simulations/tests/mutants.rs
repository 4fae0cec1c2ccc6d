//! Engines broken on purpose: the checker that is there for it catches each, within 200 seeds.

use std::path::Path;

use hypergolix_simulations::run::run_seeds;
use hypergolix_simulations::{Mutant, Scenario, Violation};

const SEEDS: u64 = 200;

fn scenario(name: &str) -> Scenario {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name);
    let text = std::fs::read_to_string(&path).expect("a scenario of ours");
    Scenario::from_toml(&text).expect("a sound scenario")
}

/// The first violation within [`SEEDS`] seeds that one of the expected checkers reports, and all
/// that were reported before it.
fn first_caught(scenario: &Scenario, mutant: Mutant) -> (Option<(u64, Violation)>, Vec<String>) {
    let mut others = Vec::new();
    let mut caught = None;
    run_seeds(scenario, 0..SEEDS, 2, Some(mutant), |seed, outcome| {
        match outcome.violation {
            Some(violation) if mutant.caught_by().contains(&violation.checker) => {
                caught = Some((seed, violation));
                return false;
            }
            Some(violation) => others.push(format!("seed {seed}: {violation}")),
            None => {}
        }
        true
    });
    (caught, others)
}

#[test]
fn every_broken_engine_is_caught_by_its_checker() {
    let scenarios = [scenario("partition.toml"), scenario("lan.toml")];
    for mutant in Mutant::ALL {
        let mut others = Vec::new();
        let caught = scenarios.iter().find_map(|scenario| {
            let (caught, more) = first_caught(scenario, mutant);
            others.extend(more);
            caught
        });
        match caught {
            Some((seed, violation)) => println!("{mutant:?}: seed {seed}: {violation}"),
            None => panic!("{mutant:?} was not caught by {:?}; {others:?}", mutant.caught_by()),
        }
    }
}

#[test]
fn the_engine_that_ships_breaks_no_rule() {
    for name in ["lan.toml", "partition.toml"] {
        run_seeds(&scenario(name), 0..40, 2, None, |seed, outcome| {
            assert!(outcome.violation.is_none(), "{name}, seed {seed}: {:?}", outcome.violation);
            true
        });
    }
}
