//! `hypergolix`: the command line of a node.

#![forbid(unsafe_code)]

mod cli;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = cli::parse();
    // A panic is our fault; it is in the log, and here it becomes a sentence like any other.
    let outcome = catch_unwind(AssertUnwindSafe(|| cli::run(command)))
        .unwrap_or_else(|_| Err(anyhow::anyhow!("an internal error; the log says where")));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There may be no terminal any more.
            let _ = writeln!(std::io::stderr(), "hypergolix: {error}");
            ExitCode::FAILURE
        }
    }
}
