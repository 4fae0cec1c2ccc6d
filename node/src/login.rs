//! A login on a device that has nothing of the account: finds its root object.
//!
//! Any device of the account, any persister and anybody else who holds the root gives it to whoever
//! asks for its address; it proves itself, and what it holds is sealed under the password.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use golix::Ghid;
use hypergolix_engine::message::{Address, Packed, VERSION};
use hypergolix_engine::route::Subject;
use hypergolix_engine::{LinkId, Message, Role, account};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::network::{Network, NetworkConfig, NetworkError, NetworkEvent, Targets};

/// How long others may take to answer. Enough for a server that sleeps and a LAN without multicast.
const PATIENCE: Duration = Duration::from_secs(15);

/// Once somebody has answered, others have this long to show a newer root.
const GRACE: Duration = Duration::from_millis(1_500);

/// The same once every server of the configuration is connected and everybody who is linked has
/// answered: only devices of the LAN may still come, and they link within 50 ms (`network.md`).
const GRACE_SETTLED: Duration = Duration::from_millis(250);

/// Pause before the DHT is asked and the configuration is looked at again, and between these.
const SEEK_PAUSE: Duration = Duration::from_secs(2);

/// Servers that are asked because devices of the account name them.
const SERVERS_MAX: usize = 8;

/// Events that may wait.
const EVENTS_MAX: usize = 64;

/// Why no root was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoginError {
    /// Nobody who was reached has it.
    #[error(
        "no device or server that holds this account was reached in {patience} s ({without} answered \
         that they do not have it); start Hypergolix where the account is, on the same LAN or with the \
         same server, name the server here with 'hypergolix config --addhost', and check the user id"
    )]
    NotFound {
        /// How long was waited, seconds.
        patience: u64,
        /// How many answered, and do not have it.
        without: usize,
    },
    /// The network does not start.
    #[error("the network does not start: {0}")]
    Network(#[from] NetworkError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

/// Asks everybody in reach for the root object at `user_id`; the newest that was shown. `targets`
/// says every now and then whom to dial: users add servers while they wait.
///
/// # Errors
/// [`LoginError`].
pub async fn fetch_root(
    config: NetworkConfig,
    user_id: Ghid,
    targets: impl Fn() -> Option<Targets>,
) -> Result<Vec<Packed>, LoginError> {
    let (events, mut taken) = mpsc::channel(EVENTS_MAX);
    let network = Network::start(config, events)?;
    let found = ask_around(&network, &mut taken, user_id, targets).await;
    network.shutdown().await;
    found
}

async fn ask_around(
    network: &Network,
    events: &mut mpsc::Receiver<NetworkEvent>,
    user_id: Ghid,
    targets: impl Fn() -> Option<Targets>,
) -> Result<Vec<Packed>, LoginError> {
    let mut deadline = Instant::now() + PATIENCE;
    let mut best: Option<(u64, Vec<Packed>)> = None;
    let mut without = 0;
    let mut asked: BTreeSet<LinkId> = BTreeSet::new();
    let mut unanswered: BTreeSet<LinkId> = BTreeSet::new();
    let mut settles_at = None;
    let mut seek_at = Instant::now() + SEEK_PAUSE;
    loop {
        let settled = settles_at.filter(|_| {
            unanswered.is_empty() && network.status().remotes.iter().all(|remote| remote.connected)
        });
        let until = deadline.min(seek_at).min(settled.unwrap_or(deadline));
        let event = match timeout_at(until, events.recv()).await {
            Ok(Some(event)) => event,
            Err(_) if settled.is_some_and(|at| at <= Instant::now()) => break,
            Err(_) if Instant::now() < deadline => {
                // Who serves the root is dialled; whoever answers is asked like anybody.
                network.seek(Subject::Root(user_id));
                if let Some(targets) = targets() {
                    network.retarget(targets);
                }
                seek_at = Instant::now() + SEEK_PAUSE;
                continue;
            }
            Ok(None) | Err(_) => break,
        };
        match event {
            NetworkEvent::LinkUp { link, .. } => {
                unanswered.insert(link);
                let mut nonce = [0; 32];
                getrandom::fill(&mut nonce)?;
                network.send(link, Message::Hello { version: VERSION, nonce, role: Role::Node });
            }
            NetworkEvent::Message { link, message } => match message {
                Message::Hello { .. } if asked.insert(link) => {
                    network.send(link, Message::Get { id: 1, address: Address(user_id) });
                }
                Message::Object { id: 1, objects } => {
                    unanswered.remove(&link);
                    let Some(counter) = account::root_counter(&user_id, &objects) else {
                        without += 1;
                        continue;
                    };
                    if best.is_none() {
                        deadline = Instant::now() + GRACE;
                        settles_at = Some(Instant::now() + GRACE_SETTLED);
                    }
                    if best.as_ref().is_none_or(|(newest, _)| counter > *newest) {
                        best = Some((counter, objects));
                    }
                }
                Message::Ping { id } => network.send(link, Message::Pong { id }),
                _ => {}
            },
            NetworkEvent::Found { routes, .. } => {
                // Its devices are being dialled; servers that they use have it, too.
                let mut servers = BTreeMap::new();
                for host in routes.into_iter().flat_map(|route| route.persisters) {
                    servers.entry(host.device.clone()).or_insert(host);
                }
                servers.into_values().take(SERVERS_MAX).for_each(|host| network.visit(host));
            }
            NetworkEvent::Drained { .. }
            | NetworkEvent::Here { .. }
            | NetworkEvent::Announced { .. } => {}
            NetworkEvent::LinkDown { link } => {
                unanswered.remove(&link);
            }
        }
    }
    let patience = PATIENCE.as_secs();
    best.map(|(_, objects)| objects).ok_or(LoginError::NotFound { patience, without })
}
