//! What goes through a server: updates, fetches, logins, and how many objects it takes a second.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::future::try_join_all;
use hypergolix_engine::Message;
use hypergolix_ipc::ApiId;
use hypergolix_ipc::client::{HgxLink, NewOptions, Obj};
use hypergolix_tests::crowd::{Author, Client, percentile};
use libp2p::Multiaddr;
use tokio::time::sleep;

use crate::daemon::{Daemon, Server};
use crate::{Effort, latency, line, raw};

const SMALL: usize = 100;
/// The largest state: 10 MiB less 206 bytes.
const LARGE: usize = hypergolix_ipc::limits::STATE_MAX;
/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) async fn measure(effort: Effort) -> anyhow::Result<()> {
    println!("\nservers");
    updates(effort).await?;
    second_machine(effort).await?;
    admissions(effort).await
}

/// Push to callback, directly and through a server.
async fn updates(effort: Effort) -> anyhow::Result<()> {
    let times = effort.times(1_000);
    let (alice, bob) = crate::daemon::pair().await?;
    let mut direct = shared_updates(&alice, &bob, times).await?;
    drop((alice, bob));
    let server = Server::start()?;
    let (alice, bob) = (Daemon::with_server(&server)?, Daemon::with_server(&server)?);
    let mut through = shared_updates(&alice, &bob, times).await?;
    for daemon in [&alice, &bob] {
        let links = daemon.status()?["links"].as_u64();
        anyhow::ensure!(links == Some(1), "a daemon has {links:?} links, not only the server's");
    }
    spread("push to callback, direct", &mut direct);
    spread("push to callback, through a server", &mut through);
    let ratio =
        percentile(&mut through, 50).as_secs_f64() / percentile(&mut direct, 50).as_secs_f64();
    line(
        "through a server / direct, p50 (at most 1.5)",
        format!("{ratio:.2}x"),
        Some(ratio <= 1.5),
    );
    Ok(())
}

async fn shared_updates(
    alice: &Daemon,
    bob: &Daemon,
    times: usize,
) -> anyhow::Result<Vec<Duration>> {
    let (a, b) = (alice.link().await?, bob.link().await?);
    let object: Obj = a.new(&[7; SMALL][..], NewOptions::default()).await?;
    let mut shares = b.shares(ApiId::OBJ).await?;
    object.share(b.fingerprint()).await?;
    let share = tokio::time::timeout(PATIENCE, shares.next())
        .await
        .context("the share does not arrive")?
        .context("a share")?;
    let seen: Obj = b.get(share.ghid).await?;
    latency::far(&object, &seen, times).await
}

/// A login on a second machine, and objects that it fetches when they are wanted.
async fn second_machine(effort: Effort) -> anyhow::Result<()> {
    let server = Server::start()?;
    let first = Daemon::with_server(&server)?;
    first.register()?;
    let link = first.link().await?;
    let small = create(&link, effort.times(10_000), SMALL).await?;
    let large = create(&link, effort.times(20).min(20), LARGE).await?;
    let waiting = Instant::now();
    while first.status()?["remotes"][0]["pending"] != 0 {
        anyhow::ensure!(waiting.elapsed() < PATIENCE, "the server does not get everything");
        sleep(Duration::from_millis(100)).await;
    }
    let refused = &first.status()?["remotes"][0]["refused"];
    anyhow::ensure!(refused == 0, "the server refused {refused}");
    let count = small.len() + large.len();

    let mut logins = Vec::new();
    let mut second = first.second_machine(&server)?;
    logins.push(second.started_in);
    for _ in 1..effort.times(5).min(5) {
        second = first.second_machine(&server)?;
        logins.push(second.started_in);
    }
    let slowest = *logins.iter().max().context("logins")?;
    spread(&format!("login with {count} objects until ready"), &mut logins);
    line("the slowest (at most 2 s)", millis(slowest), Some(slowest <= Duration::from_secs(2)));
    let listing = Instant::now();
    while second.status()?["elsewhere"].as_u64().unwrap_or(0) < count as u64 {
        anyhow::ensure!(
            listing.elapsed() < PATIENCE,
            "the list does not arrive: {} of {count}",
            second.status()?["elsewhere"]
        );
        sleep(Duration::from_millis(10)).await;
    }
    line("from ready to knowing of all objects", millis(listing.elapsed()), None);

    let link = second.link().await?;
    let mut fetched = Vec::new();
    for address in small.iter().take(effort.times(200)) {
        fetched.push(fetch(&link, *address, SMALL).await?);
    }
    spread("cold fetch of 100 B by an application", &mut fetched);
    let mut raw = raw::transfers(LARGE, large.len()).await?;
    let mut got = over_a_link(&server.quic, &large).await?;
    let mut got_over_tcp = over_a_link(&server.address, &large).await?;
    let mut fetched = Vec::new();
    for address in &large {
        fetched.push(fetch(&link, *address, LARGE).await?);
    }
    spread("raw QUIC transfer of 10 MiB, libp2p", &mut raw);
    spread("10 MiB from a server over a link, QUIC", &mut got);
    spread("the same, TCP", &mut got_over_tcp);
    spread("cold fetch of 10 MiB by an application, stored", &mut fetched);
    let raw = percentile(&mut raw, 50).as_secs_f64();
    let share = raw / percentile(&mut got, 50).as_secs_f64() * 100.0;
    line(
        "over a link, of the raw speed (at least 70 %)",
        format!("{share:.0} %"),
        Some(share >= 70.0),
    );
    let share = raw / percentile(&mut fetched, 50).as_secs_f64() * 100.0;
    line(
        "by an application, of the raw speed (at least 70 %)",
        format!("{share:.0} %"),
        Some(share >= 70.0),
    );
    Ok(())
}

/// How long each of some large objects takes over a link without a node behind it.
async fn over_a_link(server: &Multiaddr, objects: &[golix::Ghid]) -> anyhow::Result<Vec<Duration>> {
    let mut probe = Client::connect(server, None).await?;
    let mut got = Vec::new();
    for address in objects {
        let begun = Instant::now();
        let objects = probe.get(*address).await?;
        got.push(begun.elapsed());
        anyhow::ensure!(objects.iter().any(|object| object.len() > LARGE), "the object is there");
    }
    Ok(got)
}

async fn create(link: &HgxLink, count: usize, len: usize) -> anyhow::Result<Vec<golix::Ghid>> {
    let mut addresses = Vec::with_capacity(count);
    let at_once = if len > 1_000_000 { 1 } else { 64 };
    let state = vec![7; len];
    while addresses.len() < count {
        let now = at_once.min(count - addresses.len());
        let made = (0..now).map(|_| link.new::<Obj>(&state[..], NewOptions::default()));
        addresses.extend(try_join_all(made).await?.iter().map(Obj::ghid));
    }
    Ok(addresses)
}

async fn fetch(link: &HgxLink, address: golix::Ghid, len: usize) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let object: Obj = link.get(address).await?;
    let taken = begun.elapsed();
    anyhow::ensure!(object.state()?.len() == len, "the state is whole");
    Ok(taken)
}

/// States of 1 kB a second, acknowledged when they are durable.
async fn admissions(effort: Effort) -> anyhow::Result<()> {
    const PUBLISHERS: usize = 64;
    let each = effort.times(200);
    let server = Server::start()?;
    let mut ready = Vec::new();
    for _ in 0..PUBLISHERS {
        let author = Author::new([7; 64]);
        let mut object = author.craft();
        let states: Vec<_> =
            (0..each).map(|_| author.next_state(&mut object, &[7; 1_000])).collect();
        ready.push((Client::connect(&server.address, Some(author.identity())).await?, states));
    }
    let before = server.cpu()?;
    let begun = Instant::now();
    let tasks: Vec<_> =
        ready.into_iter().map(|(client, states)| tokio::spawn(publish(client, states))).collect();
    let mut taken = Vec::new();
    for task in tasks {
        taken.extend(task.await??);
    }
    let elapsed = begun.elapsed();
    let cpu = server.cpu()?.saturating_sub(before);
    #[expect(clippy::cast_precision_loss, reason = "shown without digits")]
    let count = taken.len() as f64;
    let rate = count / elapsed.as_secs_f64();
    spread("a state of 1 kB, stored durably, 64 publishers", &mut taken);
    line("states/s (at least 5000)", format!("{rate:.0}"), Some(rate >= 5_000.0));
    let alone = cpu.as_secs_f64() / count * 1e6;
    line("processor time of the server a state", format!("{alone:.0} us"), None);
    Ok(())
}

async fn publish(
    mut client: Client,
    states: Vec<Vec<hypergolix_engine::message::Packed>>,
) -> anyhow::Result<Vec<Duration>> {
    const UNDER_WAY: usize = 32;
    let mut waiting = std::collections::VecDeque::new();
    let mut taken = Vec::with_capacity(states.len());
    let mut states = states.into_iter();
    loop {
        while waiting.len() < UNDER_WAY
            && let Some(objects) = states.next()
        {
            waiting.push_back(Instant::now());
            client.publish(objects);
        }
        if waiting.is_empty() {
            client.close().await;
            return Ok(taken);
        }
        if let Message::Published { results, .. } = client.next().await? {
            anyhow::ensure!(results.iter().all(|result| *result == 0), "refused: {results:?}");
            taken.extend(waiting.pop_front().map(|at: Instant| at.elapsed()));
        }
    }
}

fn spread(what: &str, times: &mut [Duration]) {
    let (middle, worst) = (percentile(times, 50), percentile(times, 99));
    line(&format!("{what}, p50, p99"), format!("{}, {}", millis(middle), millis(worst)), None);
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// The address of a server in its ready line, over `tcp` or `udp`.
pub(crate) fn address_of(ready_line: &str, transport: &str) -> anyhow::Result<Multiaddr> {
    ready_line
        .split([' ', ',', '='])
        .find(|word| word.starts_with("/ip4/") && word.contains(transport))
        .context("an address in the ready line")?
        .parse()
        .context("an address")
}
