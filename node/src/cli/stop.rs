//! `hypergolix stop app`.

use anyhow::{anyhow, bail};
use hypergolix_node::lock;
use hypergolix_node::node::STOP_PATIENCE;
use hypergolix_node::paths::Home;
use rustix::process::{Pid, Signal, kill_process};

/// Asks the daemon to stop and waits until it is gone.
pub fn run() -> anyhow::Result<()> {
    let home = Home::from_env()?;
    if home.exists() {
        home.check()?;
    }
    // Only a locked pid file counts, so this is no process that got the number later.
    let Some(running) = lock::running(&home)? else {
        bail!("Hypergolix is not running on {}; there is nothing to stop", home.path().display());
    };
    let pid = i32::try_from(running.pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| anyhow!("the pid file names the process {}", running.pid))?;
    kill_process(pid, Signal::TERM)
        .map_err(|error| anyhow!("process {} cannot be stopped: {error}", running.pid))?;
    if !lock::wait_until_free(&home, STOP_PATIENCE)? {
        bail!(
            "process {} still runs {STOP_PATIENCE:?} after it was asked to stop; its log is in {}, \
             and 'kill -9 {}' loses nothing that was acknowledged",
            running.pid,
            home.logs().display(),
            running.pid
        );
    }
    Ok(())
}
