//! Connections that are there to take places.

use std::time::Duration;

use futures::{StreamExt, stream};
use hypergolix_tests::namespaces::Place;
use hypergolix_tests::process::Server;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::hostile::Connection;
use crate::{CONNECTED_MAX, Scene, assert_grown, scale};

/// Places of the server here, a sixteenth of the usual.
const PLACES: usize = 256;
/// Connections that one address makes.
const ATTEMPTS: usize = 1_000;
/// Handshakes that are begun: a tenth.
const HALF_OPEN: usize = 500;

/// Everything that some addresses may take leaves room for others.
pub fn of_addresses(count: usize) {
    let places = PLACES * scale();
    let mut scene = Scene::new(&["--connections", &places.to_string()], Server::start_in_memory);
    let (user, usual) = scene.user().waits(&scene.honest);
    let alone = scene.connect();
    let memory = scene.server.resident();
    let attempts = ATTEMPTS * scale();
    let mut places_of: Vec<_> = (1..count).map(|_| scene.internet.home()).collect();
    places_of.push(scene.hostile.clone());
    let taken: Vec<_> = places_of.iter().flat_map(|place| take(&scene, place, attempts)).collect();
    let waited = scene.connect();
    println!(
        "{attempts} attempts each for {places} places, {} let in; somebody else is answered after \
         {alone:.1?}, then {waited:.1?}",
        taken.len()
    );
    let (_, waits) = user.waits(&scene.honest);
    drop(taken);
    assert!(waited <= CONNECTED_MAX, "{waited:?}");
    waits.compare(usual);
    assert_grown(&scene, memory, 64);
}

/// Makes connections from a place, and holds those that are let in.
fn take(scene: &Scene, place: &Place, attempts: usize) -> Vec<Connection> {
    let (server, id) = (scene.socket.clone(), scene.peer_id());
    place.run(async move {
        let open = (0..attempts).map(|_| async {
            // What is refused for its pace costs nothing; it comes again.
            let mut connection = Connection::open(&server, id).await.ok()?;
            let (_, opening) = connection.substream("/hgx/kad/1");
            connection.write(&opening).await.ok()?;
            Some(connection)
        });
        let open: Vec<_> = stream::iter(open).buffer_unordered(128).collect().await;
        let mut held = Vec::new();
        for mut connection in open.into_iter().flatten() {
            if !connection.ended_within(Duration::from_millis(1)).await {
                held.push(connection);
            }
        }
        held
    })
}

/// Handshakes that are begun and not ended.
pub fn half_open() {
    let scene = Scene::new(&[], Server::start_in_memory);
    let alone = scene.connect();
    let memory = scene.server.resident();
    let (server, count) = (scene.socket.clone(), HALF_OPEN * scale());
    let held = scene.hostile.run(async move {
        let open = (0..count).map(|number| {
            let server = &server;
            async move {
                let mut stream = TcpStream::connect(server).await.ok()?;
                if number % 2 == 0 {
                    stream.write_all(b"\x13/multistream/1.0.0\n\x07/noise\n").await.ok()?;
                }
                Some(stream)
            }
        });
        stream::iter(open).buffer_unordered(64).collect::<Vec<_>>().await
    });
    let waited = scene.connect();
    println!("{count} half-open: answered after {alone:.1?}, then {waited:.1?}");
    drop(held);
    assert!(waited <= CONNECTED_MAX, "{waited:?}");
    assert_grown(&scene, memory, 64);
}
