//! Telemeter: one machine tells another how it is.
//!
//! ```text
//! cargo run -p hypergolix-examples --bin telemeter                                  the machine to watch
//! cargo run -p hypergolix-examples --bin telemeter -- --telereader FINGERPRINT      the one that watches
//! ```
//!
//! The first monitor that pairs is trusted, later ones are ignored; the monitor sets the interval.
//! Speaks the same objects as `telemeter.py`, so either side may be either language.

#![forbid(unsafe_code)]

mod dashboard;
mod sensor;

use std::time::Duration;

use clap::Parser;
use golix::Ghid;
use hypergolix_ipc::client::HgxLink;

/// One machine tells another how it is.
#[derive(Parser)]
struct Options {
    /// Port of the daemon.
    #[arg(long, default_value_t = 7772)]
    port: u16,
    /// Watch the telemeter with this fingerprint.
    #[arg(long)]
    telereader: Option<Ghid>,
    /// Seconds between two readings. A telereader asks the telemeter for it.
    #[arg(long)]
    interval: Option<f64>,
    /// Stop after so many readings instead of running for ever.
    #[arg(long)]
    readings: Option<usize>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let link = HgxLink::connect(options.port).await?;
    let readings = options.readings.unwrap_or(usize::MAX);
    if let Some(telemeter) = options.telereader {
        dashboard::run(&link, telemeter, options.interval, readings).await?;
    } else {
        let seconds = options.interval.filter(|seconds| seconds.is_finite()).unwrap_or(5.0);
        let interval = Duration::from_secs_f64(seconds.clamp(0.1, 86_400.0));
        sensor::run(&link, interval, readings).await?;
    }
    link.stop().await;
    Ok(())
}
