//! Objects that are not worth anything.

use std::time::{Duration, Instant};

use hypergolix_engine::Message;
use hypergolix_engine::message::Packed;
use hypergolix_tests::crowd::{Author, Client};
use hypergolix_tests::process::Server;
use libp2p::Multiaddr;

use crate::{MIB, Scene, assert_grown, scale};

/// From the third invalid object to the end of the link.
const BANNED_MAX: Duration = Duration::from_secs(1);
/// How long an attack goes on, while others are measured.
const ATTACK: Duration = Duration::from_secs(3);
/// Devices that attack at one time, and messages of each that wait for their answer.
const DEVICES: usize = 4;
const WINDOW: usize = 32;

/// What the store may grow by, whatever identities come.
const DISK_MAX: u64 = 16;
/// What memory may grow by.
const MEMORY_MAX: u64 = 64;

/// Publishes what `objects` makes until `until` or the end of the link; how many messages were answered.
async fn flood(
    client: &mut Client,
    mut objects: impl FnMut() -> Vec<Packed>,
    until: Instant,
) -> usize {
    let (mut sent, mut answered) = (0, 0);
    while Instant::now() < until {
        while sent - answered < WINDOW {
            client.publish(objects());
            sent += 1;
        }
        match client.next().await {
            Ok(Message::Published { .. }) => answered += 1,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    answered
}

/// Objects with a broken signature end the link with the third; the next device does the same.
pub fn invalid_objects() {
    let scene = Scene::new(&[], Server::start);
    let (user, usual) = scene.user().waits(&scene.honest);
    let memory = scene.server.resident();
    let (server, period) = (scene.address.clone(), ATTACK * scale() as u32);
    let attack = scene.hostile.handle().spawn(async move { invalid(&server, period).await });
    let (_, waits) = user.waits(&scene.honest);
    let times = scene.hostile.run(async move { attack.await.expect("no panic") });
    let times = times.expect("a device that was not banned gets a link");
    let longest = times.iter().max().expect("at least one");
    println!("{} devices banned, after {longest:?} at most", times.len());
    assert!(*longest <= BANNED_MAX, "banned after {longest:?}");
    waits.compare(usual);
    assert_grown(&scene, memory, MEMORY_MAX);
}

async fn invalid(server: &Multiaddr, period: Duration) -> anyhow::Result<Vec<Duration>> {
    let until = Instant::now() + period;
    let author = Author::new([7; 64]);
    let mut broken = author.next_state(&mut author.craft(), &[7; 100]);
    let mut frame = broken[1].to_vec();
    let last = frame.len() - 1;
    frame[last] ^= 1;
    broken[1] = frame.into();
    let mut times = Vec::new();
    while Instant::now() < until {
        let mut client = Client::connect(server, None).await?;
        let begun = Instant::now();
        flood(&mut client, || broken.clone(), begun + 10 * BANNED_MAX).await;
        times.push(begun.elapsed());
        client.close().await;
    }
    Ok(times)
}

/// Valid objects, again and again.
pub fn replay() {
    let scene = Scene::new(&[], Server::start);
    let (user, usual) = scene.user().waits(&scene.honest);
    let author = Author::new([7; 64]);
    let state = author.next_state(&mut author.craft(), &[7; 100]);
    let memory = scene.server.resident();
    let attack: Vec<_> = (0..DEVICES)
        .map(|_| {
            let (server, state) = (scene.address.clone(), state.clone());
            let period = ATTACK * scale() as u32;
            scene.hostile.handle().spawn(async move {
                let mut client = Client::connect(&server, None).await?;
                let until = Instant::now() + period;
                let objects = std::iter::repeat_n(state, 16).flatten().collect::<Vec<_>>();
                let count = flood(&mut client, || objects.clone(), until).await * objects.len();
                client.close().await;
                anyhow::Ok(count)
            })
        })
        .collect();
    let (_, waits) = user.waits(&scene.honest);
    let disk = disk(&scene);
    let mut count = 0;
    for attack in attack {
        let done = scene.hostile.run(async move { attack.await.expect("no panic") });
        count += done.expect("a link");
    }
    println!("{count} objects replayed");
    waits.compare(usual);
    assert_grown(&scene, memory, MEMORY_MAX);
    assert_eq!(self::disk(&scene), disk, "a replay is not stored");
}

/// Identities cost nothing to make.
pub fn useless_identities() {
    let scene = Scene::new(&[], Server::start);
    let (user, usual) = scene.user().waits(&scene.honest);
    let (memory, disk) = (scene.server.resident(), disk(&scene));
    let attack: Vec<_> = (0..DEVICES)
        .map(|_| {
            let server = scene.address.clone();
            let period = ATTACK * scale() as u32;
            scene.hostile.handle().spawn(async move {
                let until = Instant::now() + period;
                let mut count = 0;
                while Instant::now() < until {
                    // What a link may leave begins anew with the next one.
                    let mut client = Client::connect(&server, None).await?;
                    for _ in 0..4 {
                        let objects = || -> Packed {
                            Author::new([7; 64]).identity().identity().encode().into()
                        };
                        let objects = std::iter::repeat_with(objects).take(64).collect::<Vec<_>>();
                        count += objects.len();
                        let id = client.publish(objects);
                        let answered = |message| match message {
                            Message::Published { id: other, .. } if other == id => Some(()),
                            _ => None,
                        };
                        client.await_for("an answer", answered).await?;
                    }
                    client.close().await;
                }
                anyhow::Ok(count)
            })
        })
        .collect();
    let (_, waits) = user.waits(&scene.honest);
    let mut count = 0;
    for attack in attack {
        let done = scene.hostile.run(async move { attack.await.expect("no panic") });
        count += done.expect("a link");
    }
    let grown = self::disk(&scene).saturating_sub(disk);
    println!("{count} identities, {} kB of disk", grown / 1_000);
    waits.compare(usual);
    assert_grown(&scene, memory, MEMORY_MAX);
    assert!(grown <= DISK_MAX * MIB, "{grown} bytes");
}

/// Bytes of the store.
fn disk(scene: &Scene) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let store = std::fs::metadata(scene.server.file("cache/store.redb")).expect("a store");
    512 * store.blocks()
}
