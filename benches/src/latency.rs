//! Round trips, pushes, and how many pushes share a commit.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::future::try_join_all;
use hypergolix_ipc::ApiId;
use hypergolix_ipc::client::{HgxLink, NewOptions, Obj, Update};

use crate::daemon::Daemon;
use crate::floors::Floors;
use crate::{Effort, line, median, micros};

const STATE: [u8; 100] = [7; 100];
const MILLI: Duration = Duration::from_millis(1);

pub(crate) async fn measure(
    effort: Effort,
    floors: &Floors,
    alice: &Daemon,
    bob: &Daemon,
) -> anyhow::Result<()> {
    println!("\nlatency");
    let (a, b) = (alice.link().await?, bob.link().await?);
    let whoami = whoami(&a, effort.times(10_000)).await?;
    ratio("whoami / echo (at most 1.5)", whoami, floors.echo, 1.5);

    let object: Obj = a.new(&STATE[..], NewOptions::default()).await?;
    let push = pushes(&object, effort.times(3_000)).await?;
    let bound = floors.commit + MILLI / 2;
    bounded("push of 100 B acknowledged, p50 (a commit + 0.5 ms)", push, bound);

    let mut shares = b.shares(ApiId::OBJ).await?;
    object.share(b.fingerprint()).await?;
    let share = tokio::time::timeout(Duration::from_secs(20), shares.next())
        .await
        .context("the daemons do not find each other")?
        .context("a share")?;
    let seen: Obj = b.get(share.ghid).await?;
    let far = median(&mut far(&object, &seen, effort.times(2_000)).await?);
    let bound = 2 * floors.commit + MILLI;
    bounded("push to callback on another daemon, p50 (2 commits + 1 ms)", far, bound);
    object.delete().await?;

    let rounds = effort.times(100);
    let alone = {
        let object: Obj = a.new(&STATE[..], NewOptions::default()).await?;
        let begun = Instant::now();
        pushes(&object, rounds * 8).await?;
        rate(rounds * 8, begun.elapsed())
    };
    let mut objects = Vec::new();
    for _ in 0..64 {
        objects.push(a.new::<Obj>(&STATE[..], NewOptions::default()).await?);
    }
    let begun = Instant::now();
    try_join_all(objects.iter().map(|object| pushes(object, rounds))).await?;
    let together = rate(rounds * 64, begun.elapsed());
    line("pushes/s, one at a time", format!("{alone:.0}"), None);
    line("pushes/s, 64 objects at once", format!("{together:.0}"), None);
    let gain = together / alone;
    line("64 at once / one at a time (at least 8)", format!("{gain:.1}"), Some(gain >= 8.0));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "shown without digits")]
fn rate(times: usize, taken: Duration) -> f64 {
    times as f64 / taken.as_secs_f64()
}

async fn whoami(link: &HgxLink, times: usize) -> anyhow::Result<Duration> {
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        let begun = Instant::now();
        link.whoami().await?;
        taken.push(begun.elapsed());
    }
    Ok(median(&mut taken))
}

async fn pushes(object: &Obj, times: usize) -> anyhow::Result<Duration> {
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        let begun = Instant::now();
        object.set_state(STATE.to_vec())?;
        object.push().await?;
        taken.push(begun.elapsed());
    }
    Ok(median(&mut taken))
}

/// From before the push to the update in the other application, each time.
pub(crate) async fn far(object: &Obj, seen: &Obj, times: usize) -> anyhow::Result<Vec<Duration>> {
    let mut updates = seen.updates();
    let mut taken = Vec::with_capacity(times);
    for number in 0..times as u64 {
        let mut state = STATE.to_vec();
        state[..8].copy_from_slice(&number.to_be_bytes());
        object.set_state(state)?;
        let begun = Instant::now();
        let push = object.push();
        let arrived = async {
            loop {
                match updates.next().await {
                    Some(Update::State(state)) if state[..8] == number.to_be_bytes() => {
                        return Ok(begun.elapsed());
                    }
                    Some(Update::State(_)) => {}
                    Some(Update::Deleted) | None => anyhow::bail!("the object went away"),
                }
            }
        };
        let (pushed, arrived) = tokio::join!(push, arrived);
        pushed?;
        taken.push(arrived?);
    }
    Ok(taken)
}

fn ratio(what: &str, measured: Duration, floor: Duration, most: f64) {
    let ratio = measured.as_secs_f64() / floor.as_secs_f64();
    line(what, format!("{} = {ratio:.2}x", micros(measured)), Some(ratio <= most));
}

fn bounded(what: &str, measured: Duration, bound: Duration) {
    let text = format!("{} / {}", micros(measured), micros(bound));
    line(what, text, Some(measured <= bound));
}
