//! `hypergolix-simulations run SCENARIO --seeds A..B` and `replay SCENARIO --seed N --trace`.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use hypergolix_simulations::run::{Failure, run_seeds, simulate_safely};
use hypergolix_simulations::{Mutant, Scenario, Stats};
use indicatif::{ProgressBar, ProgressStyle};

/// Runs many Hypergolix engines under one seeded clock, disk and network, and checks what they
/// promise.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs seeds of a scenario; the status is 1 if a rule did not hold in one of them.
    Run {
        /// A TOML file, as in simulations/scenarios.
        scenario: PathBuf,
        /// Which seeds: FIRST..END, without END.
        #[arg(long, default_value = "0..1000", value_parser = seeds)]
        seeds: Range<u64>,
        /// Seeds at the same time. Default: as many as there are processors.
        #[arg(long)]
        jobs: Option<usize>,
        /// Stop after so many failing seeds.
        #[arg(long, default_value_t = 10)]
        failures: usize,
        /// Use an engine that is broken in this way.
        #[arg(long)]
        mutant: Option<Mutant>,
    },
    /// Runs one seed again.
    Replay {
        /// A TOML file, as in simulations/scenarios.
        scenario: PathBuf,
        /// Which seed.
        #[arg(long)]
        seed: u64,
        /// Print everything that happens.
        #[arg(long)]
        trace: bool,
        /// Use an engine that is broken in this way.
        #[arg(long)]
        mutant: Option<Mutant>,
    },
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let range = text.split_once("..").and_then(|(first, end)| {
        let range = first.parse().ok()?..end.parse().ok()?;
        (range.start < range.end).then_some(range)
    });
    range.ok_or_else(|| "expected FIRST..END, such as 0..1000".into())
}

fn main() -> ExitCode {
    match carry_out(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn load(path: &Path) -> anyhow::Result<Scenario> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the scenario {}", path.display()))?;
    match Scenario::from_toml(&text) {
        Ok(scenario) => Ok(scenario),
        Err(error) => bail!("the scenario {} is not valid: {error}", path.display()),
    }
}

fn carry_out(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Run { scenario: path, seeds, jobs, failures, mutant } => {
            let scenario = load(&path)?;
            let jobs = jobs
                .or_else(|| std::thread::available_parallelism().ok().map(Into::into))
                .unwrap_or(1);
            Ok(run(&path, &scenario, seeds, jobs, failures, mutant))
        }
        Command::Replay { scenario: path, seed, trace, mutant } => {
            let scenario = load(&path)?;
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            // Whoever closed standard output does not want to read on.
            let mut print = |line: &str| drop(writeln!(out, "{line}"));
            let outcome = simulate_safely(&scenario, seed, mutant, trace.then_some(&mut print));
            drop(out);
            println!("{}", outcome.stats);
            match &outcome.violation {
                Some(violation) => println!("seed {seed}: {violation}"),
                None => println!("seed {seed}: everything holds"),
            }
            Ok(outcome.violation.is_none())
        }
    }
}

fn run(
    path: &Path,
    scenario: &Scenario,
    seeds: Range<u64>,
    jobs: usize,
    failures_max: usize,
    mutant: Option<Mutant>,
) -> bool {
    println!("{}: {}", path.display(), scenario.about);
    let begun = Instant::now();
    let bar = ProgressBar::new(seeds.end - seeds.start);
    if let Ok(style) =
        ProgressStyle::with_template("{wide_bar} {pos}/{len} seeds, {per_sec}, {eta} left")
    {
        bar.set_style(style);
    }
    let mut total = Stats::default();
    let mut failing = 0;
    run_seeds(scenario, seeds, jobs, mutant, |seed, outcome| {
        total.add(&outcome.stats);
        bar.inc(1);
        if let Some(violation) = outcome.violation {
            failing += 1;
            bar.suspend(|| println!("{}", Failure { path, seed, mutant, violation }));
        }
        failing < failures_max
    });
    bar.finish_and_clear();
    println!("{total}");
    let seconds = begun.elapsed().as_secs_f64();
    println!("{:<22} {seconds:>12.1} s", "took");
    match failing {
        0 => println!("every rule held in every seed"),
        count => println!("{count} of {} seeds broke a rule", total.seeds),
    }
    failing == 0
}
