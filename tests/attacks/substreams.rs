//! Substreams that are not what they are for: nobody reads, nobody writes on.

use std::time::Duration;

use futures::future::join_all;
use hypergolix_engine::Message;
use hypergolix_engine::message::{Address, MESSAGE_MAX, Role, VERSION};
use hypergolix_tests::crowd::{Author, Client, random};
use hypergolix_tests::process::Server;
use hypergolix_tests::wait::pause;

use crate::hostile::{self, Connection, WINDOW_LEN};
use crate::{Scene, Waits, assert_grown, scale};

/// Connections of the attack: an eighth.
const CONNECTIONS: usize = 16;
/// Substreams of each: all that there may be, but for those of the server.
const SUBSTREAMS: usize = 60;

const LINK: &str = "/hypergolix/link/1";
/// What strangers may open.
const PROTOCOLS: [&str; 5] =
    ["/hgx/kad/1", "/ipfs/ping/1.0.0", "/ipfs/id/1.0.0", "/meshsub/1.1.0", LINK];

/// What memory may grow by, whatever strangers do with their substreams, MiB.
const MEMORY_MAX: u64 = 256;
/// And by answers that nobody reads: half of what a server may have. A quarter waits to be written.
const QUEUED_MAX: u64 = 1_024;
/// Connections that do not read, at most: as many as the threat model has.
const UNREAD_MAX: usize = 100;

/// A message of a link.
fn message(message: &Message) -> Vec<u8> {
    let body = message.encode();
    let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

/// Parts of messages, as long as they may be, on as many links and substreams as there may be.
pub fn stalled() {
    let scene = Scene::new(&[], Server::start_in_memory);
    let (_, usual) = scene.user().waits(&scene.honest);
    let memory = scene.server.resident();
    let (server, id) = (scene.socket.clone(), scene.peer_id());
    let count = 2 * CONNECTIONS * scale();
    let held = scene.hostile.run(async move {
        join_all((0..count).map(|_| async {
            let mut connection = Connection::open(&server, id).await.ok()?;
            for number in 0..SUBSTREAMS {
                let protocol = PROTOCOLS[number % (PROTOCOLS.len() - 1)];
                let (substream, mut bytes) = connection.substream(protocol);
                // The longest message there is, all but its end.
                bytes.extend(hostile::frame(substream, &[0xff, 0x7f]));
                bytes.extend(hostile::frame(substream, &[0; 16_000]));
                connection.write(&bytes).await.ok()?;
            }
            let (substream, mut bytes) = connection.substream(LINK);
            bytes.extend(hostile::frame(substream, &(MESSAGE_MAX as u32).to_be_bytes()));
            connection.write(&bytes).await.ok()?;
            let mut left = MESSAGE_MAX - 1;
            while left > 0 {
                // Slowly enough to be given more credit.
                let part = left.min(WINDOW_LEN / 4);
                connection.write(&hostile::frame(substream, &vec![0; part])).await.ok()?;
                left -= part;
                if connection.ended_within(Duration::from_millis(10)).await {
                    break;
                }
            }
            Some(connection)
        }))
        .await
    });
    compare(&scene, memory, usual, held);
}

/// Others are served and memory is bounded while all of these are held open.
fn compare(scene: &Scene, memory: u64, usual: Waits, held: Vec<Option<Connection>>) {
    let (_, waits) = scene.user().waits(&scene.honest);
    println!("{} connections", held.iter().flatten().count());
    assert_grown(scene, memory, MEMORY_MAX);
    waits.compare(usual);
}

/// Bytes that nobody reads, each in a frame of its own, which takes a hundred times its length.
pub fn crumbs() {
    let scene = Scene::new(&[], Server::start_in_memory);
    let (_, usual) = scene.user().waits(&scene.honest);
    let memory = scene.server.resident();
    let (server, id) = (scene.socket.clone(), scene.peer_id());
    let connections = CONNECTIONS / 4 * scale();
    let held = scene.hostile.run(async move {
        join_all((0..connections).map(|_| async {
            let mut connection = Connection::open(&server, id).await.ok()?;
            for _ in 0..30 {
                let (substream, bytes) = connection.substream("/hgx/kad/1");
                connection.write(&bytes).await.ok()?;
                // A question (FIND_NODE) and another one: nobody reads the answers.
                let question = [&[36, 8, 4, 18, 32][..], &[7; 32]].concat();
                let questions = question.repeat(WINDOW_LEN / 2 / question.len());
                for part in questions.chunks(4_096) {
                    let bytes = hostile::crumbs(substream, part);
                    let written = connection.write(&bytes);
                    // Nothing is read here: the server may stop reading too.
                    if tokio::time::timeout(Duration::from_secs(1), written).await.is_err() {
                        return Some(connection);
                    }
                }
            }
            Some(connection)
        }))
        .await
    });
    compare(&scene, memory, usual, held);
}

/// Peers that ask for a lot and do not read it.
pub fn answers_that_nobody_reads() {
    let scene = Scene::new(&[], Server::start_in_memory);
    let (_, usual) = scene.user().waits(&scene.honest);
    let (server, large) = (scene.address.clone(), Author::new([7; 64]));
    let mut object = large.craft();
    let address = object.dynamic;
    scene
        .hostile
        .run(async move {
            let mut client = Client::connect(&server, None).await?;
            client.store(large.next_state(&mut object, &vec![7; 8 << 20])).await?;
            client.close().await;
            anyhow::Ok(())
        })
        .expect("a large state is stored");
    let memory = scene.server.resident();
    let (server, id) = (scene.socket.clone(), scene.peer_id());
    let count = (3 * CONNECTIONS * scale()).min(UNREAD_MAX);
    let held = scene.hostile.run(async move {
        join_all((0..count).map(|_| async {
            let mut connection = Connection::open(&server, id).await.ok()?;
            let (substream, mut bytes) = connection.substream(LINK);
            let hello = Message::Hello { version: VERSION, nonce: random(), role: Role::Node };
            let mut told = message(&hello);
            for id in 0..3 {
                told.extend(message(&Message::Get { id, address: Address(address) }));
            }
            bytes.extend(hostile::frame(substream, &told));
            connection.write(&bytes).await.ok()?;
            Some(connection)
        }))
        .await
    });
    pause(Duration::from_secs(1));
    let (_, waits) = scene.user().waits(&scene.honest);
    println!("{} connections, {} MiB asked for", held.iter().flatten().count(), 24 * held.len());
    assert_grown(&scene, memory, QUEUED_MAX);
    waits.compare(usual);
    drop(held);
}
