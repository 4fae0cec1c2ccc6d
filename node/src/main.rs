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
            let _ = writeln!(std::io::stderr(), "hypergolix: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes, except those that it has named already.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_named_once() {
        let cause = std::io::Error::other("the disk is on fire");
        let error = anyhow::Error::from(cause);
        assert_eq!(sentence(&error.context("no store")), "no store: the disk is on fire");
        let cause = anyhow::Error::msg("the disk is on fire");
        let named = cause.context("no store (the disk is on fire)");
        assert_eq!(sentence(&named), "no store (the disk is on fire)");
    }
}
