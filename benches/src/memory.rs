//! Creating many objects, resident memory, idle processor time, start.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use hypergolix_ipc::client::{HgxLink, NewOptions, Obj};

use crate::daemon::Daemon;
use crate::floors::Floors;
use crate::{Effort, line, median, micros};

const STATE: [u8; 100] = [7; 100];

pub(crate) async fn measure(effort: Effort, floors: &Floors) -> anyhow::Result<()> {
    println!("\nmemory and idle");
    let daemon = Daemon::start(true)?;
    let idle = daemon.resident()?;
    line("resident, idle (at most 40 MB)", megabytes(idle), Some(idle <= 40.0));
    let (cpu, span) =
        (daemon.cpu()?, Duration::from_secs(if effort.divisor == 1 { 60 } else { 20 }));
    tokio::time::sleep(span).await;
    let share = daemon.cpu()?.saturating_sub(cpu).as_secs_f64() / span.as_secs_f64() * 100.0;
    line(
        "processor while idle (below 0.5 % of a core)",
        format!("{share:.2} %"),
        Some(share < 0.5),
    );

    let link = daemon.link().await?;
    let objects = effort.times(10_000);
    let early = create(&link, 100).await?;
    create_many(&link, objects - 400).await?;
    let late = create(&link, 100).await?;
    let growth = late.as_secs_f64() / early.as_secs_f64();
    line(
        &format!("creating the {objects}th object / the 100th (at most 1.5)"),
        format!("{} = {growth:.2}x", micros(late)),
        Some(growth <= 1.5),
    );
    let full = daemon.resident()?;
    line(
        &format!("resident with {objects} objects (at most 60 MB)"),
        megabytes(full),
        Some(full <= 60.0),
    );

    let object: Obj = link.new(&STATE[..], NewOptions::default()).await?;
    let pushes = effort.times(100_000);
    let mut samples = Vec::new();
    for _ in 0..10 {
        for _ in 0..pushes / 10 {
            object.set_state(STATE.to_vec())?;
            object.push().await?;
        }
        samples.push(daemon.resident()?);
    }
    let drift = samples[9] - samples[1];
    line(
        &format!("resident after {pushes} pushes, against a fifth of them (flat)"),
        format!("{} ({drift:+.1} MB)", megabytes(samples[9])),
        Some(drift.abs() <= 4.0),
    );
    drop(link);

    let daemon = daemon.restart()?;
    let ready = daemon.started_in.saturating_sub(floors.scrypt);
    line(
        "start to ready, less scrypt (at most 0.5 s)",
        format!("{:.0} ms", ready.as_secs_f64() * 1e3),
        Some(ready <= Duration::from_millis(500)),
    );
    let restarted = daemon.resident()?;
    line(
        &format!("resident after a restart with {objects} objects (at most 60 MB)"),
        megabytes(restarted),
        Some(restarted <= 60.0),
    );
    Ok(())
}

async fn create(link: &HgxLink, times: usize) -> anyhow::Result<Duration> {
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        let begun = Instant::now();
        link.new::<Obj>(&STATE[..], NewOptions::default()).await?;
        taken.push(begun.elapsed());
    }
    Ok(median(&mut taken))
}

async fn create_many(link: &HgxLink, times: usize) -> anyhow::Result<()> {
    for _ in 0..times / 50 {
        try_join_all((0..50).map(|_| link.new::<Obj>(&STATE[..], NewOptions::default()))).await?;
    }
    Ok(())
}

fn megabytes(value: f64) -> String {
    format!("{value:.1} MB")
}
