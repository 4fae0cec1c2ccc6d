//! `hypergolix stop app` and `hypergolix stop server`.

use std::path::Path;

use anyhow::{anyhow, bail};
use hypergolix_node::control;
use hypergolix_node::lock::{self, Running};
use hypergolix_node::node::STOP_PATIENCE;
use hypergolix_node::paths::Home;
use hypergolix_node::server::control_path;
use rustix::process::{Pid, Signal, kill_process};

/// Asks the daemon to stop and waits until it is gone.
pub fn app() -> anyhow::Result<()> {
    let home = Home::from_env()?;
    if home.exists() {
        home.check()?;
    }
    // Only a locked pid file counts, so this is no process that got the number later.
    let Some(running) = lock::running(&home)? else {
        bail!("Hypergolix is not running on {}; there is nothing to stop", home.path().display());
    };
    let logs = format!("its log is in {}", home.logs().display());
    stop(&home.pid_file(), running, &logs)
}

/// Asks a server to stop and waits until it is gone.
pub fn server(pid_file: &Path) -> anyhow::Result<()> {
    let Some(running) = lock::running_at(pid_file)? else {
        bail!("no server runs with the pid file {}; there is nothing to stop", pid_file.display());
    };
    if running.ipc_port.is_some() {
        bail!(
            "{} is no server's, but a user's: 'hypergolix stop app' stops it",
            pid_file.display()
        );
    }
    if !is_server(pid_file, running.pid)? {
        bail!(
            "{} is locked, but process {} is no Hypergolix server, so it was not stopped",
            pid_file.display(),
            running.pid
        );
    }
    stop(pid_file, running, "its log is where --logdir said")
}

/// Whether a process listens beside the pid file, or, while it starts, is this program.
fn is_server(pid_file: &Path, pid: u32) -> anyhow::Result<bool> {
    let control = control_path(&std::path::absolute(pid_file)?);
    let program = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let own = program("self");
    Ok(control::listener(&control) == Some(pid)
        || (own.is_some() && own == program(&pid.to_string())))
}

fn stop(pid_file: &Path, running: Running, logs: &str) -> anyhow::Result<()> {
    let pid = i32::try_from(running.pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| anyhow!("the pid file names the process {}", running.pid))?;
    kill_process(pid, Signal::TERM)
        .map_err(|error| anyhow!("process {} cannot be stopped: {error}", running.pid))?;
    if !lock::wait_until_free(pid_file, STOP_PATIENCE)? {
        bail!(
            "process {} still runs {STOP_PATIENCE:?} after it was asked to stop; {logs}, and \
             'kill -9 {}' loses nothing that was acknowledged",
            running.pid,
            running.pid
        );
    }
    Ok(())
}
