//! The task that owns the connection: it asks, pairs answers, applies notices, reconnects.
//!
//! Messages are applied in the order in which they arrive: an object exists before the next
//! message, which may be its first update, is looked at.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use futures::StreamExt;
use futures::stream::SplitStream;
use golix::Ghid;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::error::LinkError;
use super::obj::{Obj, PushMark};
use super::shares::Share;
use super::websocket::{Backoff, Websocket, connect};
use super::{Inner, Shared};
use crate::code::Code;
use crate::error::{ErrorCode, IpcError};
use crate::ids::RequestToken;
use crate::limits::CLOSE_DEADLINE;
use crate::message::{BodyError, Notice, Reply, Request, encode_refusal};
use crate::session::{AnswerError, AppReceived};

/// What the handles of a link ask of its task.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "lives for one hop, from a caller to the task")]
pub(super) enum Command {
    /// Ask the daemon, after everything that is queued.
    Ask(Request, Waiter),
    /// The last handle of an object is gone.
    Forget(Ghid),
}

/// What a handle gets back.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "lives for one hop, from the task to the caller")]
pub(super) enum Answer {
    Reply(Reply),
    Object(Obj),
}

impl Answer {
    /// A reply of the wrong kind cannot come out of the codec; this says so without a panic.
    #[expect(clippy::unused_self, reason = "it is consumed as the answer that it is not")]
    pub(super) fn unexpected(self) -> LinkError {
        LinkError::Damaged(BodyError::Acknowledgement)
    }
}

/// Who waits for an answer.
#[derive(Debug)]
pub(super) enum Waiter {
    /// A caller.
    Caller {
        mark: Option<PushMark>,
        answer: oneshot::Sender<Result<Answer, LinkError>>,
        /// Asked before, on a connection that was lost.
        repeated: bool,
    },
    /// The task itself, after a reconnect: an object may have changed meanwhile.
    Refetch(Ghid),
    /// Nobody.
    Nobody,
}

type Todo = VecDeque<(Request, Waiter)>;

/// Why a connection ended.
enum End {
    Lost,
    Stopped,
}

/// Runs until the link is stopped or its last handle is gone.
pub(super) async fn run(
    mut websocket: Websocket,
    inner: Weak<Inner>,
    shared: Arc<Shared>,
    mut commands: mpsc::Receiver<Command>,
    mut stop: watch::Receiver<bool>,
) {
    let mut todo = Todo::new();
    loop {
        let (sink, mut stream) = websocket.split();
        shared.wire.open(sink);
        shared.set_connected(true);
        let mut live = Live { todo, inner: &inner, shared: &shared };
        let end = tokio::select! {
            end = live.run(&mut stream, &mut commands) => end,
            error = shared.wire.write() => {
                tracing::debug!(%error, "cannot write to the daemon");
                End::Lost
            }
            _ = stop.wait_for(|stop| *stop) => End::Stopped,
        };
        todo = live.todo;
        shared.set_connected(false);
        let parts = shared.wire.close().map(super::wire::Live::into_parts);
        if let Some((session, sink)) = parts {
            if let (End::Stopped, Ok(websocket)) = (&end, sink.reunite(stream)) {
                close(websocket).await;
            }
            todo = unanswered(session.into_waiting(), todo, &shared);
        }
        if matches!(end, End::Stopped) {
            break;
        }
        tracing::info!("the connection to the daemon was lost; connecting again");
        match reconnect(&shared, &commands, &mut stop).await {
            Some(again) => websocket = again,
            None => break,
        }
        todo = repeat(todo, &shared);
    }
    // Whoever still waits learns that nobody will answer: the senders are dropped.
    shared.stopped();
}

/// What to ask again on the next connection. Requests that must not be carried out twice end here,
/// with an error that says so.
fn unanswered(asked: Vec<(Request, Waiter)>, unsent: Todo, shared: &Shared) -> Todo {
    let mut todo = Todo::new();
    for (request, waiter) in asked {
        match (request, waiter) {
            (
                Request::New(_) | Request::SetStartup(_) | Request::ClearStartup,
                Waiter::Caller { answer, .. },
            ) => {
                // A caller who is gone does not want to know.
                let _ = answer.send(Err(LinkError::ConnectionLost));
            }
            (request, Waiter::Caller { mark, answer, .. }) => {
                shared.wire.queue();
                todo.push_back((request, Waiter::Caller { mark, answer, repeated: true }));
            }
            // Asked anew, or settled by the end of the connection.
            (_, Waiter::Refetch(_) | Waiter::Nobody) => {}
        }
    }
    for (request, waiter) in unsent {
        match waiter {
            Waiter::Caller { .. } => todo.push_back((request, waiter)),
            Waiter::Refetch(_) | Waiter::Nobody => shared.wire.dequeue(),
        }
    }
    todo
}

/// What to ask on a new connection: api ids, then what was under way, then every object again.
fn repeat(todo: Todo, shared: &Shared) -> Todo {
    let mut again = Todo::new();
    let (apis, objects) = shared.tracked();
    for _ in 0..apis.len() + objects.len() {
        shared.wire.queue();
    }
    again.extend(apis.into_iter().map(|api| (Request::RegisterApi(api), Waiter::Nobody)));
    again.extend(todo);
    again.extend(objects.into_iter().map(|ghid| (Request::Get(ghid), Waiter::Refetch(ghid))));
    again
}

async fn reconnect(
    shared: &Shared,
    commands: &mpsc::Receiver<Command>,
    stop: &mut watch::Receiver<bool>,
) -> Option<Websocket> {
    let mut backoff = Backoff::default();
    loop {
        let attempt = async {
            sleep(backoff.next()).await;
            connect(shared.port, shared.check_uid, shared.token()).await
        };
        let connected = tokio::select! {
            connected = attempt => connected,
            _ = stop.wait_for(|stop| *stop) => return None,
        };
        if commands.is_closed() {
            return None;
        }
        match connected {
            Ok((websocket, fingerprint)) if Some(fingerprint) == shared.fingerprint() => {
                return Some(websocket);
            }
            Ok((_, fingerprint)) => {
                tracing::warn!(%fingerprint, "the daemon now belongs to another user; waiting");
            }
            Err(LinkError::NoDaemon { .. }) => {}
            Err(error) => tracing::warn!(%error, "cannot connect again; trying on"),
        }
    }
}

async fn close(mut websocket: Websocket) {
    let goodbye = async {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        if websocket.close(Some(frame)).await.is_ok() {
            while let Some(Ok(_)) = websocket.next().await {}
        }
    };
    // Dropping the socket ends it either way.
    let _ = timeout(CLOSE_DEADLINE, goodbye).await;
}

/// One connection.
struct Live<'a> {
    /// To ask before any new command; every entry is counted by [`super::wire::Wire::queue`].
    todo: Todo,
    inner: &'a Weak<Inner>,
    shared: &'a Shared,
}

impl Live<'_> {
    async fn run(
        &mut self,
        stream: &mut SplitStream<Websocket>,
        commands: &mut mpsc::Receiver<Command>,
    ) -> End {
        loop {
            let has_room = self.ask();
            tokio::select! {
                message = stream.next() => {
                    let bytes = match message {
                        Some(Ok(Message::Binary(bytes))) => bytes,
                        Some(Ok(Message::Text(_))) => {
                            tracing::warn!("a text message from the daemon");
                            return End::Lost;
                        }
                        Some(Ok(_)) => continue,
                        Some(Err(error)) => {
                            tracing::debug!(%error, "the connection broke off");
                            return End::Lost;
                        }
                        None => return End::Lost,
                    };
                    match self.shared.wire.with(|live| live.session.receive(&bytes)) {
                        Some(Ok(received)) => {
                            if let Some(bytes) = self.handle(received) {
                                self.shared.wire.send(bytes);
                                self.shared.wire.has_room().await;
                            }
                        }
                        Some(Err(error)) => {
                            tracing::warn!(%error, "not a message from a daemon");
                            return End::Lost;
                        }
                        None => return End::Lost,
                    }
                }
                command = commands.recv(), if self.todo.is_empty() && has_room => match command {
                    Some(Command::Ask(request, waiter)) => self.todo.push_back((request, waiter)),
                    Some(Command::Forget(ghid)) => {
                        self.forget(ghid);
                        self.shared.wire.dequeue();
                    }
                    None => return End::Stopped,
                },
            }
        }
    }

    /// Asks what is to be asked, as far as there is room; tells whether there is more.
    fn ask(&mut self) -> bool {
        let todo = &mut self.todo;
        let wire = &self.shared.wire;
        let (asked, has_room) = wire
            .with(|live| {
                let mut asked = false;
                while live.session.has_room()
                    && let Some((request, waiter)) = todo.pop_front()
                {
                    live.ask(request, waiter);
                    wire.dequeue();
                    asked = true;
                }
                (asked, live.session.has_room())
            })
            .unwrap_or_default();
        if asked {
            wire.wake();
        }
        has_room
    }

    /// The last handle of an object is gone: no more updates, unless it is wanted again.
    fn forget(&mut self, ghid: Ghid) {
        let (todo, shared) = (&mut self.todo, self.shared);
        // Under the wire's lock: no request for the object can slip in between.
        shared.wire.with(|live| {
            let get = Request::Get(ghid);
            let wanted = live.session.requests().any(|request| *request == get)
                || todo.iter().any(|(request, _)| *request == get);
            if !wanted && shared.object(ghid).is_none() {
                shared.forget(ghid);
                shared.wire.queue();
                todo.push_back((Request::Discard(ghid), Waiter::Nobody));
            }
        });
    }

    /// Applies a message; returns what to send back.
    fn handle(&mut self, received: AppReceived<Waiter>) -> Option<Vec<u8>> {
        match received {
            AppReceived::Answer { request, waiter, answer } => {
                self.answered(request, waiter, answer);
                None
            }
            AppReceived::Notice { token, notice } => Some(self.noticed(token, notice)),
            AppReceived::Refused(bytes) => {
                tracing::debug!("a request of the daemon that an application does not serve");
                Some(bytes)
            }
            AppReceived::Stray => None,
        }
    }

    fn answered(&mut self, request: Request, waiter: Waiter, answer: Result<Reply, AnswerError>) {
        match waiter {
            Waiter::Caller { mark, answer: caller, repeated } => {
                let result = match answer {
                    Ok(reply) => Ok(self.succeeded(request, reply, mark)),
                    // The first attempt did it.
                    Err(AnswerError::Refused(IpcError {
                        code: ErrorCode::DoesNotExist, ..
                    })) if repeated && matches!(request, Request::Delete(_)) => {
                        Ok(self.succeeded(request, Reply::Done, mark))
                    }
                    Err(error) => Err(error.into()),
                };
                // A caller who is gone does not want to know.
                let _ = caller.send(result);
            }
            Waiter::Refetch(ghid) => self.refetched(ghid, answer),
            Waiter::Nobody => {
                if let Err(error) = answer {
                    tracing::warn!(code = ?request.code(), %error, "the daemon refused");
                }
            }
        }
    }

    fn succeeded(&mut self, request: Request, reply: Reply, mark: Option<PushMark>) -> Answer {
        match (request, reply) {
            (Request::Get(asked), Reply::Record(record)) => {
                // The address in the answer is the one that counts.
                let ghid = record.address.unwrap_or(asked);
                if let Some(obj) = self.shared.object(ghid) {
                    obj.core().refetched(&record.state);
                    return Answer::Object(obj);
                }
                self.adopt(ghid, record)
            }
            (Request::New(mut record), Reply::Address(ghid)) => {
                record.author = self.shared.fingerprint();
                self.adopt(ghid, record)
            }
            (Request::Update(record), Reply::Done) => {
                let obj = record.address.and_then(|ghid| self.shared.object(ghid));
                if let (Some(obj), Some(mark)) = (obj, mark) {
                    obj.core().pushed(&record, mark);
                }
                Answer::Reply(Reply::Done)
            }
            (Request::Discard(ghid) | Request::Delete(ghid), Reply::Done) => {
                if let Some(obj) = self.shared.object(ghid) {
                    obj.core().let_go();
                }
                self.shared.forget(ghid);
                Answer::Reply(Reply::Done)
            }
            (Request::RegisterToken(_), Reply::Token(token)) => {
                self.shared.set_token(token);
                Answer::Reply(Reply::Token(token))
            }
            (_, reply) => Answer::Reply(reply),
        }
    }

    /// Makes an object known; the next message may be its first update.
    fn adopt(&self, ghid: Ghid, record: crate::ObjectRecord) -> Answer {
        match self.inner.upgrade() {
            Some(inner) => {
                let obj = Obj::from_record(inner, ghid, record);
                self.shared.track(ghid, &obj);
                Answer::Object(obj)
            }
            // Every handle is gone, so nobody waits for this either.
            None => Answer::Reply(Reply::Address(ghid)),
        }
    }

    fn refetched(&mut self, ghid: Ghid, answer: Result<Reply, AnswerError>) {
        let Some(obj) = self.shared.object(ghid) else {
            return;
        };
        match answer {
            Ok(Reply::Record(record)) => obj.core().refetched(&record.state),
            Ok(_) => {}
            Err(AnswerError::Refused(IpcError { code: ErrorCode::DoesNotExist, .. })) => {
                self.shared.forget(ghid);
                obj.core().deleted();
            }
            Err(error) => tracing::warn!(%ghid, %error, "cannot follow an object any more"),
        }
    }

    fn noticed(&mut self, token: RequestToken, notice: Notice) -> Vec<u8> {
        let code = notice.code();
        match notice {
            Notice::Update(record) => {
                if record.link {
                    let error = IpcError::application("links are not supported");
                    return encode_refusal(token, &error);
                }
                let Some(ghid) = record.address else {
                    let error = IpcError::application("an update without an address");
                    return encode_refusal(token, &error);
                };
                match self.shared.object(ghid) {
                    Some(obj) => obj.core().updated(&record.state),
                    None => self.forget(ghid),
                }
            }
            Notice::Share { object, origin, api } => {
                let share = Share { ghid: object, origin, api_id: api };
                if !self.shared.deliver(share) {
                    let error = IpcError::application("no handler takes this share");
                    return encode_refusal(token, &error);
                }
            }
            Notice::Deleted(ghid) => {
                if let Some(obj) = self.shared.object(ghid) {
                    self.shared.forget(ghid);
                    obj.core().deleted();
                }
            }
            Notice::ShareSucceeded { object, recipient } => {
                tracing::debug!(%object, %recipient, "a share was taken");
            }
            Notice::ShareFailed { object, recipient } => {
                tracing::info!(%object, %recipient, "a share was not taken");
            }
        }
        debug_assert!(!matches!(code, Code::Ack | Code::Nak));
        Notice::acknowledge(code, token)
    }
}
