//! One signal to stop, an ordered stop, a deadline.
//!
//! The order: applications are let go first, so that nothing new is promised; then the engine
//! finishes what it took and the store is closed; then the network writes what is queued.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long stopping may take; `hypergolix stop app` waits a little longer.
pub const STOP_DEADLINE: Duration = Duration::from_secs(8);

/// The signals that end a daemon.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// A daemon without a terminal has nothing to do with the end of one.
    ignore_hangup: bool,
}

impl Signals {
    /// Starts to listen: from now on SIGTERM, SIGINT and SIGHUP do not end the process by
    /// themselves. Needs a tokio runtime.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen(ignore_hangup: bool) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            ignore_hangup,
        })
    }

    /// Waits for the first signal that ends the daemon; gives its name. Cancel-safe.
    pub async fn received(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => {
                    if !self.ignore_hangup {
                        return "SIGHUP";
                    }
                }
            }
        }
    }
}
