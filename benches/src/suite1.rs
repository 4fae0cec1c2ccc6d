//! A daemon whose account has suite 1: what it answers while it signs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hypergolix_ipc::client::{HgxLink, NewOptions, Obj};

use crate::daemon::Daemon;
use crate::{Effort, line, median, micros};

const STATE: [u8; 100] = [7; 100];

/// What 99 of 100 answers take at most while signatures are made.
const P99_MAX: Duration = Duration::from_millis(5);

/// Objects pushed without a pause, so that a signature is always under way.
const WRITERS: usize = 4;

pub(crate) async fn measure(effort: Effort) -> anyhow::Result<()> {
    println!("\nsuite 1");
    let begun = Instant::now();
    let daemon = tokio::task::spawn_blocking(Daemon::start_suite_1).await??;
    line("suite 1: a new account (keys, scrypt) until ready", micros(begun.elapsed()), None);
    let reader = daemon.link().await?;
    let read: Obj = reader.new(&STATE[..], NewOptions::default()).await?;
    let address = read.ghid();
    // The client answers from memory while somebody has the object.
    drop(read);

    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let link = daemon.link().await?;
        let stop = Arc::clone(&stop);
        writers.push(tokio::spawn(write(link, stop)));
    }
    // Every writer has begun.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut whoamis = Vec::new();
    let mut gets = Vec::new();
    for _ in 0..effort.times(4_000) {
        let begun = Instant::now();
        reader.whoami().await?;
        whoamis.push(begun.elapsed());
        let begun = Instant::now();
        reader.get::<Obj>(address).await?;
        gets.push(begun.elapsed());
        // Not in step with the signatures.
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut pushes = Vec::new();
    for writer in writers {
        pushes.extend(writer.await??);
    }
    line("suite 1: pushes during this", pushes.len(), Some(pushes.len() > 10));
    line("suite 1: push of 100 B, acknowledged", micros(median(&mut pushes)), None);
    for (what, times) in [("whoami", &mut whoamis), ("get", &mut gets)] {
        let middle = median(times);
        let p99 = times[times.len() * 99 / 100];
        line(
            &format!("suite 1: {what} while it signs, median / p99 (at most 5 ms)"),
            format!("{} / {}", micros(middle), micros(p99)),
            Some(p99 <= P99_MAX),
        );
    }
    Ok(())
}

/// Pushes one object until told to stop; how long each push took.
async fn write(link: HgxLink, stop: Arc<AtomicBool>) -> anyhow::Result<Vec<Duration>> {
    let object: Obj = link.new(&STATE[..], NewOptions::default()).await?;
    let mut taken = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        object.set_state(vec![taken.len() as u8; 100])?;
        let begun = Instant::now();
        object.push().await?;
        taken.push(begun.elapsed());
    }
    Ok(taken)
}
