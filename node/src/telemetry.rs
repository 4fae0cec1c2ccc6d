//! The log: files in the home, a new one every day, the last ones kept.
//!
//! Spans and fields: `application{connection}` around everything one application asks; `peer`,
//! `link`, `ghid`, `app` and `code` where there are such. Messages are constant, values are in
//! fields. Secrets and states are never logged, addresses in their short form.

use std::backtrace::Backtrace;
use std::path::Path;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{InitError, RollingFileAppender, Rotation};
use tracing_subscriber::EnvFilter;

use crate::config::Verbosity;

/// Days of logs kept.
pub const LOG_FILES_MAX: usize = 7;

/// Lines that may wait to be written; beyond that they are dropped and counted, not waited for.
const LINES_MAX: usize = 4_096;

/// Libraries that would write what passes through them, at their most talkative level.
const DISCREET: &str = "tungstenite=info,tokio_tungstenite=info,quinn=info,quinn_proto=info";

/// Logs an error every few seconds while an interface has no route, which is no error of ours.
const NOISY: &str = "libp2p_mdns=off";

/// Keeps the log's writer going; what is still waiting is written when it is dropped.
#[must_use = "nothing is logged after it is dropped"]
#[derive(Debug)]
pub struct Telemetry {
    _guard: WorkerGuard,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[error("the logs in {folder} cannot be written: {source}")]
pub struct TelemetryError {
    folder: String,
    source: InitError,
}

/// Starts logging into a folder, and sends panics there too instead of to a terminal that may be
/// gone.
///
/// # Errors
/// The folder cannot be written to.
pub fn start(
    folder: &Path,
    verbosity: Verbosity,
    debug: bool,
) -> Result<Telemetry, TelemetryError> {
    let files = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("hypergolix")
        .filename_suffix("log")
        .max_log_files(LOG_FILES_MAX)
        .build(folder)
        .map_err(|source| TelemetryError { folder: folder.display().to_string(), source })?;
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_MAX)
        .thread_name("log")
        .finish(files);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter(verbosity)))
        .with_ansi(false)
        .with_file(debug)
        .with_line_number(debug)
        .with_thread_names(debug)
        .with_writer(writer);
    // Fails only where a log exists already, as in tests: then that one goes on.
    let _ = subscriber.try_init();
    std::panic::set_hook(Box::new(move |panic| {
        let backtrace = if debug { Backtrace::force_capture() } else { Backtrace::disabled() };
        tracing::error!(%panic, %backtrace, "panic");
    }));
    Ok(Telemetry { _guard: guard })
}

/// What a verbosity lets through.
fn filter(verbosity: Verbosity) -> String {
    let own = |libraries: &str, level: &str| {
        let names =
            ["hypergolix", "hypergolix_node", "hypergolix_engine", "hypergolix_ipc", "golix"];
        let own = names.map(|name| format!("{name}={level}")).join(",");
        format!("{libraries},{DISCREET},{own}")
    };
    match verbosity {
        Verbosity::Extreme => own("trace", "trace"),
        Verbosity::Shouty => own("debug", "trace"),
        Verbosity::Louder => own("info", "debug"),
        Verbosity::Loud => own("warn", "info"),
        Verbosity::Normal => format!("warn,{NOISY}"),
        Verbosity::Quiet => format!("error,{NOISY}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn filters_parse() {
        for verbosity in Verbosity::value_variants() {
            let text = filter(*verbosity);
            EnvFilter::builder().parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }
}
