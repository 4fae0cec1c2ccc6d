//! What applications ask, on its way to the engine's thread.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use golix::Ghid;
use hypergolix_engine::Control;
use hypergolix_ipc::{
    ConnectionId, ErrorCode, IpcError, NoticeId, Outgoing, Reply, Request, RequestToken, Service,
};
use tokio::sync::{mpsc, oneshot};

/// Something that applications did.
#[derive(Debug)]
pub enum Command {
    /// One connected; this is the way back.
    Connected(ConnectionId, Outgoing),
    /// One asks.
    Request(ConnectionId, RequestToken, Request),
    /// One answered a notice.
    Acknowledged(ConnectionId, NoticeId, bool),
    /// One is gone.
    Disconnected(ConnectionId),
    /// The user or the operator asks, past applications.
    Control(Control, oneshot::Sender<Result<String, String>>),
    /// Nothing more comes: the node stops.
    Stop,
}

impl Command {
    /// Whose it is.
    pub(crate) fn connection(&self) -> Option<ConnectionId> {
        match self {
            Self::Connected(connection, _)
            | Self::Request(connection, ..)
            | Self::Acknowledged(connection, ..)
            | Self::Disconnected(connection) => Some(*connection),
            Self::Control(..) | Self::Stop => None,
        }
    }
}

/// Commands that may wait for the engine; beyond that connections are not read. Bytes are bounded
/// by the server, connection by connection.
pub const COMMANDS_MAX: usize = 1_024;

/// The node as the application interface sees it.
#[derive(Debug)]
pub struct IpcService {
    commands: mpsc::Sender<Command>,
    fingerprint: Ghid,
    /// For what is answered here.
    connections: Mutex<HashMap<ConnectionId, Outgoing>>,
}

impl IpcService {
    /// Passes everything on, except the question who the user is, whose answer never changes.
    pub fn new(commands: mpsc::Sender<Command>, fingerprint: Ghid) -> Self {
        Self { commands, fingerprint, connections: Mutex::default() }
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<ConnectionId, Outgoing>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(
        &self,
        connection: ConnectionId,
        token: RequestToken,
        answer: Result<Reply, IpcError>,
    ) {
        let outgoing = self.connections().get(&connection).cloned();
        if let Some(outgoing) = outgoing {
            outgoing.answer(token, answer);
        }
    }
}

impl Service for IpcService {
    async fn connected(&self, connection: ConnectionId, outgoing: Outgoing) {
        self.connections().insert(connection, outgoing.clone());
        // An engine that is gone takes nothing more; its connections are about to end.
        let _ = self.commands.send(Command::Connected(connection, outgoing)).await;
    }

    async fn request(&self, connection: ConnectionId, token: RequestToken, request: Request) {
        if matches!(request, Request::Whoami) {
            self.answer(connection, token, Ok(Reply::Fingerprint(self.fingerprint)));
            return;
        }
        let command = Command::Request(connection, token, request);
        if self.commands.send(command).await.is_err() {
            let stopping = IpcError::new(ErrorCode::Unspecified, "Hypergolix is stopping");
            self.answer(connection, token, Err(stopping));
        }
    }

    async fn acknowledged(&self, connection: ConnectionId, notice: NoticeId, accepted: bool) {
        let _ = self.commands.send(Command::Acknowledged(connection, notice, accepted)).await;
    }

    async fn disconnected(&self, connection: ConnectionId) {
        self.connections().remove(&connection);
        let _ = self.commands.send(Command::Disconnected(connection)).await;
    }
}
