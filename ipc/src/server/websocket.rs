//! One connection: from accepted TCP to its end.
//!
//! Four loops share one task. The reader decodes and never waits for the node unless two queues
//! are full; the dispatcher hands requests to the [`Service`] in order; the writer empties the
//! outgoing queue; the watchdog ends connections that owe an acknowledgement.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use super::handshake::{Refusal, judge};
use super::outgoing::{InFlight, Item, Outgoing};
use super::{Service, Shared};
use crate::ids::{ConnectionId, NoticeId, RequestToken};
use crate::limits::{
    CLOSE_DEADLINE, FRAGMENT, HANDSHAKE_DEADLINE, HTTP_HEAD_MAX, IN_FLIGHT_MAX, MESSAGE_MAX_IN,
    READ_BUFFER, REQUEST_BYTES_MAX, REQUESTS_QUEUED_MAX, WRITE_DEADLINE,
};
use crate::message::Request;
use crate::peer;
use crate::session::{DaemonReceived, DaemonSession, LetGo, Overdue};

type Websocket = WebSocketStream<TcpStream>;

/// Why a connection ends.
enum End {
    /// The application closed it, or is gone. Nothing more to say.
    Gone,
    /// We end it, with this close code and reason.
    Close(CloseCode, String),
}

/// Serves one connection until it ends.
pub(super) async fn serve<S: Service>(
    stream: TcpStream,
    address: SocketAddr,
    id: ConnectionId,
    shared: Arc<Shared>,
    service: Arc<S>,
    mut shutdown: watch::Receiver<bool>,
) {
    let Some(mut websocket) = open(stream, address, &shared).await else {
        return;
    };
    tracing::debug!("an application connected");

    let outgoing = Outgoing::new(id);
    service.connected(id, outgoing.clone()).await;
    let end = {
        let (sink, stream) = (&mut websocket).split();
        let connection = Connection {
            id,
            outgoing: &outgoing,
            service: &*service,
            session: Mutex::new(DaemonSession::new()),
            deadlines: Notify::new(),
        };
        tokio::select! {
            end = connection.run(sink, stream) => end,
            _ = shutdown.wait_for(|down| *down) => {
                End::Close(CloseCode::Away, "the daemon stops".to_owned())
            }
        }
    };
    // First of all, so that its token is free when the application comes back.
    service.disconnected(id).await;
    outgoing.close("gone");
    match end {
        End::Gone => tracing::debug!("an application disconnected"),
        End::Close(code, reason) => {
            tracing::info!(reason, "an application's connection is closed");
            close(websocket, code, reason).await;
        }
    }
}

/// Answers an upgrade request with a refusal, and ends the connection.
pub(super) async fn refuse(mut stream: TcpStream, refusal: Refusal) {
    let talk = async {
        stream.write_all(refusal.response().as_bytes()).await?;
        stream.shutdown().await?;
        // Unread bytes would turn the end into a reset, which takes the response with it.
        let mut scrap = [0; 1024];
        for _ in 0..64 {
            if stream.read(&mut scrap).await? == 0 {
                break;
            }
        }
        Ok::<_, std::io::Error>(())
    };
    // Whoever is refused and does not listen gets no second try: the outcome does not matter.
    let _ = timeout(CLOSE_DEADLINE, talk).await;
}

/// Everything before the first frame.
async fn open(stream: TcpStream, address: SocketAddr, shared: &Shared) -> Option<Websocket> {
    let deadline = tokio::time::Instant::now() + HANDSHAKE_DEADLINE;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    if let Some(own) = shared.own_uid {
        let here = stream.local_addr().ok()?;
        let permit = shared.lookups.acquire().await.ok()?;
        let found = tokio::task::spawn_blocking(move || peer::uid_of_connection(address, here));
        let uid = timeout_at(deadline, found).await.ok()?.ok()?;
        drop(permit);
        if uid != Some(own) {
            tracing::warn!(?uid, "refused a connection of another user of this machine");
            return None;
        }
    }
    let (stream, refusal) = match timeout_at(deadline, upgrade(stream, shared)).await {
        Ok(Ok(Ok(websocket))) => return Some(websocket),
        Ok(Ok(Err(refused))) => refused,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a connection ended before its handshake");
            return None;
        }
        Err(_) => {
            tracing::debug!("a connection took too long over its handshake");
            return None;
        }
    };
    tracing::warn!(%refusal, "refused a handshake");
    refuse(stream, refusal).await;
    None
}

type Upgraded = Result<Websocket, (TcpStream, Refusal)>;

/// Reads the head of the HTTP request and answers it, unless it is to be refused.
async fn upgrade(mut stream: TcpStream, shared: &Shared) -> std::io::Result<Upgraded> {
    let mut head = Vec::with_capacity(1024);
    let end = loop {
        if let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if head.len() >= HTTP_HEAD_MAX {
            return Ok(Err((stream, Refusal::Malformed("the head is too long"))));
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    match judge(&head[..end], shared.port, &shared.allowed_origins) {
        Err(refusal) => Ok(Err((stream, refusal))),
        Ok(response) => {
            stream.write_all(response.as_bytes()).await?;
            let config = WebSocketConfig::default()
                .read_buffer_size(READ_BUFFER)
                .write_buffer_size(READ_BUFFER)
                .max_write_buffer_size(2 * FRAGMENT + READ_BUFFER)
                .max_message_size(Some(MESSAGE_MAX_IN))
                .max_frame_size(Some(MESSAGE_MAX_IN));
            let rest = head.split_off(end);
            let websocket =
                WebSocketStream::from_partially_read(stream, rest, Role::Server, Some(config));
            Ok(Ok(websocket.await))
        }
    }
}

/// Says goodbye, waits a moment for the answer, and ends TCP.
async fn close(mut websocket: Websocket, code: CloseCode, reason: String) {
    let goodbye = async {
        let mut reason = reason;
        reason.truncate(120);
        websocket.close(Some(CloseFrame { code, reason: reason.into() })).await?;
        while let Some(message) = websocket.next().await {
            message?;
        }
        Ok::<_, Error>(())
    };
    // Dropping the socket ends it either way.
    let _ = timeout(CLOSE_DEADLINE, goodbye).await;
}

/// A request on its way to the service, with the room its bytes take.
type Queued = (RequestToken, Request, OwnedSemaphorePermit);

/// Acknowledgements on their way to the service.
type Acknowledged = (Vec<NoticeId>, bool);

struct Connection<'a, S> {
    id: ConnectionId,
    outgoing: &'a Outgoing,
    service: &'a S,
    session: Mutex<DaemonSession>,
    /// The session's deadline may have changed.
    deadlines: Notify,
}

impl<S: Service> Connection<'_, S> {
    async fn run(
        &self,
        sink: SplitSink<&mut Websocket, Message>,
        stream: SplitStream<&mut Websocket>,
    ) -> End {
        let (requests, requests_rx) = mpsc::channel(REQUESTS_QUEUED_MAX);
        let (acknowledged, acknowledged_rx) = mpsc::channel(REQUESTS_QUEUED_MAX);
        tokio::select! {
            end = self.read(stream, requests, acknowledged) => end,
            end = self.write(sink) => end,
            end = self.watch() => end,
            reason = self.outgoing.closing() => End::Close(CloseCode::Policy, reason.to_owned()),
            () = self.dispatch(requests_rx) => pending().await,
            () = self.acknowledge(acknowledged_rx) => pending().await,
        }
    }

    async fn read(
        &self,
        mut stream: SplitStream<&mut Websocket>,
        requests: mpsc::Sender<Queued>,
        acknowledged: mpsc::Sender<Acknowledged>,
    ) -> End {
        let room = Arc::new(Semaphore::new(REQUEST_BYTES_MAX));
        loop {
            let bytes = match stream.next().await {
                Some(Ok(Message::Binary(bytes))) => bytes,
                // The library has queued the answers to pings and to the close frame; the next
                // read sends them.
                Some(Ok(
                    Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_),
                )) => continue,
                Some(Ok(Message::Text(_))) => {
                    return End::Close(
                        CloseCode::Unsupported,
                        "a text message; this protocol has binary messages only".to_owned(),
                    );
                }
                Some(Err(Error::Capacity(error))) => {
                    return End::Close(CloseCode::Size, error.to_string());
                }
                Some(Err(error @ (Error::Protocol(_) | Error::Utf8(_)))) => {
                    tracing::debug!(%error, "a connection broke off");
                    return End::Close(CloseCode::Protocol, error.to_string());
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a connection broke off");
                    return End::Gone;
                }
                None => return End::Gone,
            };
            let received = self.session().receive(&bytes, Instant::now());
            match received {
                Ok(DaemonReceived::Request { token, request }) => {
                    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    drop(bytes);
                    let Ok(permit) = Arc::clone(&room).acquire_many_owned(len).await else {
                        return End::Gone;
                    };
                    if requests.send((token, request, permit)).await.is_err() {
                        return End::Gone;
                    }
                }
                Ok(DaemonReceived::Refused { token, error }) => {
                    tracing::info!(%error, "refused a damaged request");
                    self.outgoing.answer(token, Err(error));
                }
                Ok(DaemonReceived::Acknowledged { notices, accepted }) => {
                    self.deadlines.notify_one();
                    if !accepted {
                        tracing::debug!("an application refused a notice");
                    }
                    if acknowledged.send((notices, accepted)).await.is_err() {
                        return End::Gone;
                    }
                }
                Ok(DaemonReceived::Stray) => {
                    tracing::debug!("an answer to nothing that was asked");
                }
                Err(error) => return End::Close(CloseCode::Protocol, error.to_string()),
            }
        }
    }

    /// Hands requests to the service in order, at most [`IN_FLIGHT_MAX`] unanswered.
    async fn dispatch(&self, mut requests: mpsc::Receiver<Queued>) {
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
        while let Some((token, request, bytes)) = requests.recv().await {
            let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else {
                return;
            };
            self.outgoing.begin(token, InFlight { _bytes: bytes, _request: permit });
            self.service.request(self.id, token, request).await;
        }
    }

    async fn acknowledge(&self, mut acknowledged: mpsc::Receiver<Acknowledged>) {
        while let Some((notices, accepted)) = acknowledged.recv().await {
            for notice in notices {
                self.service.acknowledged(self.id, notice, accepted).await;
            }
        }
    }

    async fn write(&self, mut sink: SplitSink<&mut Websocket, Message>) -> End {
        loop {
            let items = self.outgoing.next(FRAGMENT).await;
            for notice in self.outgoing.take_undeliverable() {
                self.service.acknowledged(self.id, notice, false).await;
            }
            let writing = async {
                for item in items {
                    let Some(bytes) = self.encode(item) else {
                        return Err(End::Close(
                            CloseCode::Policy,
                            "the application does not acknowledge what it is told".to_owned(),
                        ));
                    };
                    send(&mut sink, bytes).await.map_err(|_| End::Gone)?;
                }
                sink.flush().await.map_err(|_| End::Gone)
            };
            match timeout(WRITE_DEADLINE, writing).await {
                Ok(Ok(())) => {}
                Ok(Err(end)) => return end,
                Err(_) => {
                    return End::Close(
                        CloseCode::Policy,
                        "the application does not read what it is sent".to_owned(),
                    );
                }
            }
            let waits = {
                let mut session = self.session();
                session.flushed(Instant::now());
                session.open_notices() > 0
            };
            if waits {
                self.deadlines.notify_one();
            }
        }
    }

    fn encode(&self, item: Item) -> Option<Vec<u8>> {
        let now = Instant::now();
        match item {
            Item::Answer(token, answer) => Some(self.session().answer(token, &answer, now)),
            Item::Notice(notices, notice) => self.session().notify(notices, &notice, now),
        }
    }

    /// Returns when an acknowledgement is overdue.
    async fn watch(&self) -> End {
        loop {
            let deadline = self.session().deadline();
            if let Some(at) = deadline {
                // Woken early by a change, or late by the deadline: look again either way.
                let _ = timeout_at(at.into(), self.deadlines.notified()).await;
            } else {
                self.deadlines.notified().await;
            }
            let overdue = self.session().overdue(Instant::now());
            match overdue {
                None => {}
                Some(Overdue::LetGo(subject)) => {
                    match subject {
                        LetGo::Object(object) => tracing::warn!(
                            %object,
                            "an application hangs: it let go of an object that it still got \
                             updates of. It must keep a reference to every object it gets, or \
                             discard it. Its connection is closed; restart the application"
                        ),
                        LetGo::Handler(api) => tracing::warn!(
                            ?api,
                            "an application hangs: it was told of a share that it has no handler \
                             for. Its connection is closed; restart the application"
                        ),
                    }
                    return End::Close(
                        CloseCode::Policy,
                        "the application let go of an object or handler that is in use".to_owned(),
                    );
                }
                Some(Overdue::Silent) => {
                    return End::Close(
                        CloseCode::Policy,
                        "the application does not acknowledge what it is told".to_owned(),
                    );
                }
            }
        }
    }

    fn session(&self) -> MutexGuard<'_, DaemonSession> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes one message, a long one in fragments.
async fn send(sink: &mut SplitSink<&mut Websocket, Message>, bytes: Vec<u8>) -> Result<(), Error> {
    if bytes.len() <= FRAGMENT {
        return sink.feed(Message::Binary(bytes.into())).await;
    }
    let bytes = Bytes::from(bytes);
    let mut at = 0;
    while at < bytes.len() {
        let end = bytes.len().min(at + FRAGMENT);
        let opcode = if at == 0 { Data::Binary } else { Data::Continue };
        let last = end == bytes.len();
        let frame = Frame::message(bytes.slice(at..end), OpCode::Data(opcode), last);
        sink.send(Message::Frame(frame)).await?;
        at = end;
    }
    Ok(())
}
