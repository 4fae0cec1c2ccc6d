//! The daemon's end: a websocket listener, and what a node has to answer.
//!
//! [`Server::bind`] takes the port, [`Server::run`] serves it. The node behind it is a
//! [`Service`]; it answers through the [`Outgoing`] of each connection. The rules of the wire
//! reference, section 9, that concern order, limits and endings are kept here; those that concern
//! what is answered are the service's.

use std::future::{Future, pending};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::ids::{ConnectionId, NoticeId, RequestToken};
use crate::limits::{CLOSE_DEADLINE, CONNECTIONS_MAX, REFUSALS_MAX};
use crate::message::Request;
use crate::peer;

mod handshake;
mod outgoing;
mod websocket;

pub use crate::peer::Owner;
pub use outgoing::Outgoing;

/// The port of the daemon unless told otherwise.
pub const PORT_DEFAULT: u16 = 7772;

/// Lookups of other processes' uids at the same time; each reads a list of a few milliseconds.
const LOOKUPS_MAX: usize = 4;

/// Ports tried when any will do and the IPv6 loopback address has none of them free.
const ANY_PORT_TRIES: usize = 16;

/// Pause after a connection could not be accepted (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a node does for applications. Every method may wait, but should only queue.
///
/// For each connection: `connected` first, then any number of `request` and `acknowledged`,
/// `disconnected` last.
pub trait Service: Send + Sync + 'static {
    /// An application connected; `outgoing` is the way back to it.
    fn connected(
        &self,
        connection: ConnectionId,
        outgoing: Outgoing,
    ) -> impl Future<Output = ()> + Send;

    /// An application asks. Returns once the request is queued; exactly one
    /// [`Outgoing::answer`] with this token follows, then or later. Requests of one connection
    /// come in order. May be dropped while it waits: the connection ended.
    fn request(
        &self,
        connection: ConnectionId,
        token: RequestToken,
        request: Request,
    ) -> impl Future<Output = ()> + Send;

    /// An application answered a notice. Not called for notices that are open when the
    /// connection ends.
    fn acknowledged(
        &self,
        connection: ConnectionId,
        notice: NoticeId,
        accepted: bool,
    ) -> impl Future<Output = ()> + Send;

    /// A connection is gone: its token, api ids and tracking are free at once.
    fn disconnected(&self, connection: ConnectionId) -> impl Future<Output = ()> + Send;
}

/// How to listen.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The port on 127.0.0.1 and ::1; 0 takes any.
    pub port: u16,
    /// Web pages that may connect: whole `Origin` values. None by default; `null` never.
    pub allowed_origins: Vec<String>,
    /// Refuse programs of other users of this machine. Only off in tests.
    pub check_uid: bool,
    /// Connections at the same time; the next one gets HTTP 503.
    pub connections_max: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            port: PORT_DEFAULT,
            allowed_origins: Vec::new(),
            check_uid: true,
            connections_max: CONNECTIONS_MAX,
        }
    }
}

impl ServerConfig {
    /// The default on another port.
    pub fn on_port(port: u16) -> Self {
        Self { port, ..Self::default() }
    }
}

/// Why the port cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Somebody else listens there.
    #[error(
        "port {port} is taken by {}; stop it, or choose another port with --ipc-port",
        owner.as_ref().map_or_else(|| "another program".to_owned(), ToString::to_string)
    )]
    InUse {
        /// The port.
        port: u16,
        /// Who, if the system tells.
        owner: Option<Owner>,
    },
    /// The system reserves it.
    #[error("port {port} is reserved by the system; choose one above 1023 with --ipc-port")]
    Denied {
        /// The port.
        port: u16,
    },
    /// Something else.
    #[error("cannot listen on port {port} of the loopback interface: {source}")]
    Failed {
        /// The port.
        port: u16,
        /// What the system says.
        source: std::io::Error,
    },
}

/// A listener that is bound but does not serve yet.
#[derive(Debug)]
pub struct Server {
    v4: TcpListener,
    v6: Option<TcpListener>,
    port: u16,
    config: ServerConfig,
}

/// What every connection of a server shares.
#[derive(Debug)]
struct Shared {
    port: u16,
    allowed_origins: Vec<String>,
    /// Whose connections are taken; `None` takes all.
    own_uid: Option<u32>,
    lookups: Semaphore,
}

impl Server {
    /// Takes the port on 127.0.0.1 and, where there is one, on ::1.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(config: ServerConfig) -> Result<Self, BindError> {
        let mut tries = if config.port == 0 { ANY_PORT_TRIES } else { 1 };
        loop {
            tries -= 1;
            let v4 = listen((Ipv4Addr::LOCALHOST, config.port).into()).await?;
            let port = v4.local_addr().map_or(config.port, |address| address.port());
            let v6 = match listen((Ipv6Addr::LOCALHOST, port).into()).await {
                Ok(v6) => Some(v6),
                Err(BindError::InUse { .. }) if tries > 0 => continue,
                Err(error @ (BindError::InUse { .. } | BindError::Denied { .. })) => {
                    return Err(error);
                }
                Err(BindError::Failed { source, .. }) => {
                    tracing::info!(error = %source, "not listening on ::1");
                    None
                }
            };
            return Ok(Self { v4, v6, port, config });
        }
    }

    /// The port that was taken.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Serves applications until `shutdown` completes, and then closes their connections.
    pub async fn run(self, service: Arc<impl Service>, shutdown: impl Future<Output = ()>) {
        let own_uid = if self.config.check_uid && peer::is_known_here() {
            peer::own_uid()
        } else {
            if self.config.check_uid {
                tracing::warn!("this system does not tell whose a connection is; all are taken");
            }
            None
        };
        let shared = Arc::new(Shared {
            port: self.port,
            allowed_origins: self.config.allowed_origins,
            own_uid,
            lookups: Semaphore::new(LOOKUPS_MAX),
        });
        let connections = Arc::new(Semaphore::new(self.config.connections_max));
        let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
        let next_id = AtomicU64::new(1);
        let (down_tx, down) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                accepted = self.v4.accept() => accepted,
                accepted = accept(self.v6.as_ref()) => accepted,
                Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a connection's task failed");
                    }
                    continue;
                }
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if let Ok(permit) = Arc::clone(&connections).try_acquire_owned() {
                let id = ConnectionId(next_id.fetch_add(1, Ordering::Relaxed));
                let served = websocket::serve(
                    stream,
                    address,
                    id,
                    Arc::clone(&shared),
                    Arc::clone(&service),
                    down.clone(),
                );
                let span = tracing::info_span!("application", connection = id.0);
                tasks.spawn(
                    async move {
                        served.await;
                        drop(permit);
                    }
                    .instrument(span),
                );
            } else if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                tracing::warn!(max = self.config.connections_max, "too many connections");
                tasks.spawn(async move {
                    websocket::refuse(stream, handshake::Refusal::Busy).await;
                    drop(permit);
                });
            }
        }
        drop((self.v4, self.v6));
        // Receivers live in the tasks; none left is fine.
        let _ = down_tx.send(true);
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(2 * CLOSE_DEADLINE, ended).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, BindError> {
    let port = address.port();
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) => Err(match error.kind() {
            ErrorKind::AddrInUse => BindError::InUse { port, owner: owner_of_port(port).await },
            ErrorKind::PermissionDenied => BindError::Denied { port },
            _ => BindError::Failed { port, source: error },
        }),
    }
}

async fn owner_of_port(port: u16) -> Option<Owner> {
    tokio::task::spawn_blocking(move || peer::owner_of_port(port)).await.ok().flatten()
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => pending().await,
    }
}
