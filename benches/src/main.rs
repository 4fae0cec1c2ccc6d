//! The daemon's speed and memory, as ratios to floors measured in the same run.
//!
//! ```text
//! cargo run --release -p hypergolix-benches [-- --quick] [--suite-1 | --servers]
//! ```
//!
//! Real release daemons in temporary homes, real sockets. Single figures of a busy machine mean
//! little; ratios to what the same machine does at the same moment mean more.

#![forbid(unsafe_code)]

mod daemon;
mod floors;
mod latency;
mod memory;
mod raw;
mod servers;
mod suite1;

use std::fmt;
use std::time::Duration;

use clap::Parser;

/// Speed and memory of the daemon, as ratios to floors measured in the same run.
#[derive(Parser)]
struct Options {
    /// A tenth of the repetitions.
    #[arg(long)]
    quick: bool,
    /// Only what concerns accounts of suite 1.
    #[arg(long)]
    suite_1: bool,
    /// Only what goes through servers.
    #[arg(long)]
    servers: bool,
    /// Serve websocket echoes until the parent ends (used by the benchmark itself).
    #[arg(long, hide = true)]
    echo_server: bool,
}

/// How often things are repeated.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    divisor: usize,
}

impl Effort {
    pub(crate) fn times(self, full: usize) -> usize {
        (full / self.divisor).max(10)
    }
}

/// Prints one line of the report.
pub(crate) fn line(what: &str, value: impl fmt::Display, verdict: Option<bool>) {
    let verdict = match verdict {
        Some(true) => "ok",
        Some(false) => "MISSED",
        None => "",
    };
    println!("{what:<58} {value:>22}  {verdict}");
}

/// The middle of a list of times.
pub(crate) fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

pub(crate) fn micros(time: Duration) -> String {
    format!("{:.1} us", time.as_secs_f64() * 1e6)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if options.echo_server {
        return floors::serve_echo().await;
    }
    let effort = Effort { divisor: if options.quick { 10 } else { 1 } };
    if options.suite_1 {
        return suite1::measure(effort).await;
    }
    if options.servers {
        return servers::measure(effort).await;
    }
    let floors = floors::measure(effort).await?;
    let (alice, bob) = daemon::pair().await?;
    latency::measure(effort, &floors, &alice, &bob).await?;
    drop((alice, bob));
    suite1::measure(effort).await?;
    memory::measure(effort, &floors).await?;
    servers::measure(effort).await
}
