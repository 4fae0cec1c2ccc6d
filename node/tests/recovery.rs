//! A disk that fails under a running node: nothing is promised that is not kept, and it goes on.

mod disk;

use std::time::{Duration, Instant};

use disk::{Disk, Fault};
use golix::Suite;
use hypergolix_ipc::client::{HgxLink, LinkError, NewOptions, Obj};
use hypergolix_ipc::{Server, ServerConfig};
use hypergolix_node::config::Config;
use hypergolix_node::paths::Home;
use hypergolix_node::store::{Store, StoreConfig};
use hypergolix_node::{Node, NodeError, Unlocked};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const SECRET: &str = "correct horse battery staple";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node on a disk of ours.
struct Running {
    _folder: TempDir,
    port: u16,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), NodeError>>,
}

impl Running {
    async fn start(disk: &Disk, new: bool) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let home = Home::at(folder.path().join("home"));
        home.prepare().expect("a new home");
        let store = Store::with_backend(disk.clone(), StoreConfig::default()).expect("a store");
        let unlocked = if new {
            Unlocked::create(store, &home, SECRET, Suite::Suite3).expect("an account").0
        } else {
            Unlocked::unlock(store, &home, SECRET).expect("the account")
        };
        let server = Server::bind(ServerConfig::on_port(0)).await.expect("a free port");
        let port = server.port();
        let mut config = Config::default();
        config.lan = false;
        let node = Node::start(home, config, unlocked, server, Instant::now());
        let node = node.await.expect("a node");
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(node.run_until(async {
            // A test that fails drops it: that is a stop too.
            let _ = stopped.await;
        }));
        Self { _folder: folder, port, stop, ended }
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        self.ended.await.expect("no panic").expect("an ordered stop");
    }
}

async fn within<T>(what: &str, done: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, done).await.unwrap_or_else(|_| panic!("too long: {what}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_commit_is_refused_and_the_node_goes_on() {
    let disk = Disk::default();
    let node = Running::start(&disk, true).await;
    let link = HgxLink::connect(node.port).await.expect("it answers");
    let obj: Obj = link.new(&b"0"[..], NewOptions::default()).await.expect("an object");
    let (mut refused, mut kept) = (0, b"0".to_vec());
    for round in 1..=6_u64 {
        let state = round.to_string().into_bytes();
        {
            let mut disk = disk.state();
            let operation = disk.operations + 2 * round;
            let kind = std::io::ErrorKind::Other;
            disk.fault = Some(Fault { operation, for_ever: false, kind, torn: 100 });
        }
        for attempt in 0.. {
            obj.set_state(state.clone()).expect("it lives");
            match within("a push", obj.push()).await {
                Ok(()) => break,
                Err(LinkError::Refused(error)) => {
                    assert!(error.text.contains("nothing was saved"), "{error}");
                    refused += 1;
                }
                Err(error) => panic!("round {round}: {error}"),
            }
            assert!(attempt < 5, "round {round} is refused for ever");
        }
        kept = state;
        disk.state().fault = None;
    }
    assert!(refused > 0, "no push met a fault");
    within("a status", link.status()).await.map_or_else(
        |error| panic!("{error}"),
        |status| assert!(!status.contains("\"store_failures\":0,"), "{status}"),
    );
    let ghid = obj.ghid();
    node.stop().await;

    let node = Running::start(&disk, false).await;
    let link = HgxLink::connect(node.port).await.expect("it answers");
    let obj: Obj = link.get(ghid).await.expect("it is there");
    assert_eq!(obj.state().expect("it lives").to_vec(), kept);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_gone_ends_the_node_with_a_sentence() {
    let disk = Disk::default();
    let node = Running::start(&disk, true).await;
    let link = HgxLink::connect(node.port).await.expect("it answers");
    let obj: Obj = link.new(&b"kept"[..], NewOptions::default()).await.expect("an object");
    let ghid = obj.ghid();
    {
        let mut disk = disk.state();
        let (operation, kind) = (disk.operations, std::io::ErrorKind::Other);
        disk.fault = Some(Fault { operation, for_ever: true, kind, torn: 0 });
    }
    obj.set_state(&b"lost"[..]).expect("it lives");
    let pushing = tokio::spawn(async move { obj.push().await });
    let ended = within("the end", node.ended).await.expect("no panic");
    let sentence = ended.expect_err("there is no disk").to_string();
    assert!(sentence.contains("store"), "{sentence}");
    link.stop().await;
    let pushed = within("a push", pushing).await.expect("no panic");
    pushed.expect_err("it cannot have been saved");

    disk.state().fault = None;
    let node = Running::start(&disk, false).await;
    let link = HgxLink::connect(node.port).await.expect("it answers");
    let obj: Obj = link.get(ghid).await.expect("it is there");
    assert_eq!(&*obj.state().expect("it lives"), b"kept");
    node.stop().await;
}
