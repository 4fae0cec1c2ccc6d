//! Waiting for conditions, never for time alone.

use std::time::{Duration, Instant};

/// How long anything local may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Waits until `condition` gives a value, and returns it with the time that took.
///
/// # Panics
/// After `deadline`, naming `what` was waited for.
pub fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> (T, Duration) {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return (value, started.elapsed());
        }
        assert!(started.elapsed() < deadline, "waited {deadline:?} for {what}");
        pause(POLL);
    }
}

/// Waits until `condition` holds; returns how long that took.
///
/// # Panics
/// After `deadline`, naming `what` was waited for.
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    wait_for(what, deadline, || condition().then_some(())).1
}

/// Lets time pass: for outages of a given length, and for what must not happen.
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
