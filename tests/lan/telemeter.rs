//! The telemeter program of the documentation, as it is printed there, between two hosts.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use hypergolix_tests::namespaces::{Lan, Place};
use hypergolix_tests::process::Home;
use hypergolix_tests::python::{Python, examples};

use crate::CONVERGED_MAX;

/// The port the program speaks to: it knows no other.
const PORT: u16 = 7772;
/// What the sender starts with.
const INTERVAL: Duration = Duration::from_secs(5);
/// What starting Python and the client may take, before it can pair.
const PYTHON_START: Duration = Duration::from_secs(3);
/// How far off an interval may be on a busy machine.
const JITTER: Duration = Duration::from_secs(1);

pub fn telemeter(python: &Python) {
    let mut lan = Lan::new();
    let (server, monitor) = (lan.host(), lan.host());
    let (one, two) = (Home::with_port(&server, PORT), Home::with_port(&monitor, PORT));
    let (telemeter_node, _monitor_node) = (one.start(), two.start());
    let fingerprint = telemeter_node.fingerprint();

    let sender = Program::start(python, &server, &[]);
    let first = sender.line_with("My fingerprint is: ", PYTHON_START + CONVERGED_MAX);
    assert_eq!(first.trim_end().rsplit(' ').next(), Some(fingerprint));

    let reader = Program::start(python, &monitor, &["--telereader", fingerprint]);
    // A status is pushed on every interval; the first after pairing is at most one away.
    let mut last = reader.status(PYTHON_START + INTERVAL);
    for _ in 0..2 {
        let next = reader.status(INTERVAL + JITTER);
        assert_gap(next - last, INTERVAL);
        last = next;
    }
    drop(reader);

    // Pairing again, this time with an interval, which takes effect from the next status on.
    let interval = Duration::from_millis(1_500);
    let reader =
        Program::start(python, &monitor, &["--telereader", fingerprint, "--interval", "1.5"]);
    let mut last = reader.status(PYTHON_START + INTERVAL);
    for _ in 0..4 {
        let next = reader.status(interval + JITTER);
        assert_gap(next - last, interval);
        last = next;
    }
}

fn assert_gap(gap: Duration, interval: Duration) {
    assert!(gap + JITTER > interval && gap < interval + JITTER, "{gap:?} instead of {interval:?}");
}

/// The program, and the lines it prints.
struct Program {
    child: Child,
    lines: Receiver<(Instant, String)>,
}

impl Program {
    fn start(python: &Python, place: &Place, arguments: &[&str]) -> Self {
        let mut child = place
            .command(python.executable())
            .args(["-u", "telemeter.py"])
            .args(arguments)
            .current_dir(examples().join("telemeter"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs");
        let stdout = BufReader::new(child.stdout.take().expect("the output is piped"));
        let (send, lines) = sync_channel(10_000);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send((Instant::now(), line)).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for a line that contains `part`.
    fn line_with(&self, part: &str, within: Duration) -> String {
        self.wait(part, within).1
    }

    fn wait(&self, part: &str, within: Duration) -> (Instant, String) {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok((at, line)) if line.contains(part) => return (at, line),
                Ok(_) => {}
                Err(error) => panic!("no {part:?} within {within:?}: {error}"),
            }
        }
    }

    /// Waits for a whole status; returns when its first line came.
    fn status(&self, within: Duration) -> Instant {
        let (at, _) = self.wait(" @ ", within);
        for part in ["CPU:", "%", "MEM:", "Avail:", "Used:", "DISK:", "Avail:", "Used:"] {
            self.wait(part, Duration::from_secs(1));
        }
        at
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
