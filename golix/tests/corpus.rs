//! What fuzzing found worth keeping, through the same checks as in `golix/fuzz`, on any toolchain.

#[path = "../fuzz/src/lib.rs"]
mod golix_fuzz;

use std::path::Path;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus");

#[test]
#[expect(clippy::disallowed_methods, reason = "the inputs are files")]
#[expect(clippy::disallowed_macros, reason = "tests may say what they did")]
fn every_kept_input_passes() {
    for (name, check) in golix_fuzz::TARGETS {
        let inputs = std::fs::read_dir(Path::new(CORPUS).join(name)).expect("a folder a target");
        let mut count = 0;
        for input in inputs {
            check(&std::fs::read(input.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "{name} has no inputs");
        println!("{name}: {count}");
    }
}

#[test]
fn no_input_is_too_short() {
    for (_, check) in golix_fuzz::TARGETS {
        (0..4).for_each(|len| check(&vec![255; len]));
    }
}

#[test]
fn every_seed_passes() {
    let seeds = golix_fuzz::seeds();
    for (name, check) in golix_fuzz::TARGETS {
        let mut its = seeds.iter().filter(|(target, _)| *target == name).peekable();
        assert!(its.peek().is_some(), "{name} has no seeds");
        its.for_each(|(_, input)| check(input));
    }
}

/// Puts the seeds where `fuzz/run` begins: `cargo test -p golix --test corpus -- --ignored`.
#[test]
#[ignore = "writes files"]
#[expect(clippy::disallowed_methods, reason = "the inputs are files")]
fn write_seeds() {
    for (at, (name, input)) in golix_fuzz::seeds().into_iter().enumerate() {
        let folder = Path::new(CORPUS).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("seed-{at:03}")), input).unwrap();
    }
}
