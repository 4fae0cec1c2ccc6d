//! A process that starts itself again, without a terminal, and waits until that is ready.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{anyhow, bail};
use zeroize::Zeroizing;

use super::{note, say};

/// This program, to be started again.
pub(super) fn myself() -> anyhow::Result<Command> {
    let program = std::env::current_exe()
        .map_err(|error| anyhow!("the path of this program is unknown: {error}"))?;
    Ok(Command::new(program))
}

/// Runs a child, gives it `secret` as its first line, and passes on what it says, except what
/// begins with `said_already`, until it is ready.
pub(super) fn until_ready(
    mut command: Command,
    secret: Option<&str>,
    said_already: Option<&str>,
) -> anyhow::Result<()> {
    let (output, child_output) = std::io::pipe()?;
    // One pipe for both streams keeps what is said in order.
    let mut child = command
        .stdin(if secret.is_some() { Stdio::piped() } else { Stdio::null() })
        .stderr(child_output.try_clone()?)
        .stdout(child_output)
        .spawn()
        .map_err(|error| anyhow!("the daemon cannot be started: {error}"))?;
    drop(command);
    if let (Some(mut stdin), Some(secret)) = (child.stdin.take(), secret) {
        let line = Zeroizing::new([secret.as_bytes(), b"\n"].concat());
        // A child that ended already says why.
        let _ = stdin.write_all(&line);
    }
    let mut failure = None;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line.starts_with("ready ") {
            say(line);
            return Ok(());
        }
        match line.strip_prefix("hypergolix: ") {
            Some(sentence) => failure = Some(sentence.to_owned()),
            None if said_already.is_some_and(|said| line.starts_with(said)) => {}
            None => note(line),
        }
    }
    let status = child.wait()?;
    bail!(failure.unwrap_or_else(|| format!("the daemon ended before it was ready ({status})")))
}
