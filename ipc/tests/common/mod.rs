//! A toy node: objects in memory, no rules but order.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use golix::Ghid;
use hypergolix_ipc::{
    ApiId, AppToken, ConnectionId, IpcError, Notice, NoticeId, ObjectRecord, Outgoing, Reply,
    Request, RequestToken, Server, ServerConfig, Service, frame,
};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// Longest wait of any test.
pub const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
pub struct Toy {
    state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    pub connections: HashMap<ConnectionId, App>,
    pub objects: HashMap<Ghid, ObjectRecord>,
    pub tokens: BTreeSet<AppToken>,
    pub startup: HashMap<AppToken, Ghid>,
    pub acknowledged: Vec<(ConnectionId, NoticeId, bool)>,
    pub ended: Vec<ConnectionId>,
    pub requests: Vec<Request>,
    /// Requests that are left unanswered from now on.
    pub mute: bool,
    next: u64,
}

pub struct App {
    pub outgoing: Outgoing,
    pub token: Option<AppToken>,
    pub apis: BTreeSet<ApiId>,
    pub tracks: BTreeSet<Ghid>,
}

pub fn me() -> Ghid {
    Ghid::of(b"the user of the toy node")
}

impl Toy {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds it")
    }
}

impl State {
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Tells every connection that tracks the object, except one.
    pub fn fan_out(&mut self, record: &ObjectRecord, except: Option<ConnectionId>) {
        let ghid = record.address.expect("stored objects have one");
        let notice = NoticeId(self.number());
        for (id, app) in &self.connections {
            if Some(*id) != except && app.tracks.contains(&ghid) {
                app.outgoing.notify(notice, Notice::Update(record.clone()));
            }
        }
    }

    fn object(&mut self, ghid: Ghid) -> Result<&mut ObjectRecord, IpcError> {
        self.objects.get_mut(&ghid).ok_or_else(|| IpcError::does_not_exist("no such object"))
    }

    fn answer(&mut self, id: ConnectionId, request: Request) -> Result<Reply, IpcError> {
        let number = self.number();
        let app = self.connections.get_mut(&id).expect("connected before");
        match request {
            Request::Whoami => Ok(Reply::Fingerprint(me())),
            Request::RegisterToken(token) => {
                let token = token.unwrap_or_else(|| {
                    let mut bytes = [7; 16];
                    bytes[..8].copy_from_slice(&number.to_be_bytes());
                    AppToken(bytes)
                });
                if app.token.is_some() {
                    return Err(IpcError::application("this connection has a token"));
                }
                let in_use = self.connections.values().any(|app| app.token == Some(token));
                if in_use {
                    return Err(IpcError::application("the token is in use"));
                }
                self.tokens.insert(token);
                self.connections.get_mut(&id).expect("connected").token = Some(token);
                Ok(Reply::Token(token))
            }
            Request::RegisterApi(api) => {
                app.apis.insert(api);
                Ok(Reply::Done)
            }
            Request::DeregisterApi(api) => {
                app.apis.remove(&api);
                Ok(Reply::Done)
            }
            Request::StartupObject => {
                let token = app.token.ok_or_else(|| IpcError::application("no token"))?;
                Ok(Reply::Startup(self.startup.get(&token).copied()))
            }
            Request::SetStartup(ghid) => {
                let token = app.token.ok_or_else(|| IpcError::application("no token"))?;
                self.startup.insert(token, ghid);
                Ok(Reply::Done)
            }
            Request::ClearStartup => {
                let token = app.token.ok_or_else(|| IpcError::application("no token"))?;
                self.startup.remove(&token);
                Ok(Reply::Done)
            }
            Request::Get(ghid) => {
                let record = self.object(ghid)?.clone();
                self.connections.get_mut(&id).expect("connected").tracks.insert(ghid);
                Ok(Reply::Record(record))
            }
            Request::New(mut record) => {
                let ghid = Ghid::of(&number.to_be_bytes());
                record.address = Some(ghid);
                record.author = Some(me());
                app.tracks.insert(ghid);
                self.objects.insert(ghid, record);
                Ok(Reply::Address(ghid))
            }
            Request::Update(update) => {
                let ghid = update.address.ok_or_else(|| IpcError::application("no address"))?;
                let record = self.object(ghid)?;
                record.state = update.state;
                Ok(Reply::Done)
            }
            Request::Sync(ghid) | Request::Hold(ghid) => self.object(ghid).map(|_| Reply::Done),
            Request::Share { object, .. } => self.object(object).map(|_| Reply::Done),
            Request::Freeze(ghid) => {
                let mut copy = self.object(ghid)?.clone();
                let ghid = Ghid::of(&copy.state);
                copy.address = Some(ghid);
                copy.dynamic = false;
                self.objects.insert(ghid, copy);
                Ok(Reply::Address(ghid))
            }
            Request::Discard(ghid) => {
                app.tracks.remove(&ghid);
                Ok(Reply::Done)
            }
            Request::Delete(ghid) => {
                self.object(ghid)?;
                self.objects.remove(&ghid);
                Ok(Reply::Done)
            }
            Request::LostStates => Ok(Reply::LostStates(Vec::new())),
            Request::DismissLost(_) | Request::Unshare { .. } => Ok(Reply::Done),
            Request::Status => Ok(Reply::Status(r#"{"toy":true}"#.to_owned())),
        }
    }

    /// What others are told because of a request that was answered.
    fn tell(&mut self, id: ConnectionId, request: &Request, reply: &Reply) {
        match (request, reply) {
            (Request::Update(update), Reply::Done) => {
                let ghid = update.address.expect("it was stored");
                let record = self.objects[&ghid].clone();
                self.fan_out(&record, Some(id));
            }
            (Request::New(record), Reply::Address(object)) if !record.private => {
                let notice = NoticeId(self.number());
                for (other, app) in &self.connections {
                    if *other != id && app.apis.contains(&record.api) {
                        let body = Notice::Share { object: *object, origin: me(), api: record.api };
                        app.outgoing.notify(notice, body);
                    }
                }
            }
            (Request::Delete(ghid), Reply::Done) => {
                let notice = NoticeId(self.number());
                for (other, app) in &mut self.connections {
                    if app.tracks.remove(ghid) && *other != id {
                        app.outgoing.notify(notice, Notice::Deleted(*ghid));
                    }
                }
            }
            _ => {}
        }
    }
}

impl Service for Toy {
    async fn connected(&self, connection: ConnectionId, outgoing: Outgoing) {
        let app = App { outgoing, token: None, apis: BTreeSet::new(), tracks: BTreeSet::new() };
        self.state().connections.insert(connection, app);
    }

    async fn request(&self, connection: ConnectionId, token: RequestToken, request: Request) {
        let mut state = self.state();
        state.requests.push(request.clone());
        let muted = state.mute && request != Request::Whoami;
        let answer = state.answer(connection, request.clone());
        if muted {
            return;
        }
        let outgoing = state.connections[&connection].outgoing.clone();
        outgoing.answer(token, answer.clone());
        if let Ok(reply) = answer {
            state.tell(connection, &request, &reply);
        }
    }

    async fn acknowledged(&self, connection: ConnectionId, notice: NoticeId, accepted: bool) {
        self.state().acknowledged.push((connection, notice, accepted));
    }

    async fn disconnected(&self, connection: ConnectionId) {
        let mut state = self.state();
        state.connections.remove(&connection);
        state.ended.push(connection);
    }
}

/// A server that runs until it is stopped or dropped.
pub struct Running {
    pub port: u16,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    pub async fn stop(mut self) {
        drop(self.stop.take());
        (&mut self.task).await.expect("the server does not panic");
    }

    /// Ends it without a word, as a crash does.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

pub async fn serve(toy: &Arc<impl Service>, config: ServerConfig) -> Running {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let server = loop {
        match Server::bind(config.clone()).await {
            Ok(server) => break server,
            // Connections of the server before may take a moment to go.
            Err(error) if tokio::time::Instant::now() > deadline => panic!("{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let port = server.port();
    let (stop, stopped) = oneshot::channel::<()>();
    let service = Arc::clone(toy);
    let task = tokio::spawn(server.run(service, async {
        let _ = stopped.await;
    }));
    Running { port, stop: Some(stop), task }
}

/// A server on any port, and the node behind it.
pub async fn toy() -> (Arc<Toy>, Running) {
    let toy = Arc::new(Toy::default());
    let running = serve(&toy, ServerConfig::on_port(0)).await;
    (toy, running)
}

/// Waits for a condition.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// An application that speaks bytes.
pub struct Raw {
    pub websocket: WebSocketStream<TcpStream>,
}

impl Raw {
    pub async fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        let (websocket, _) = client_async(format!("ws://localhost:{port}/"), stream)
            .await
            .expect("the handshake of a program passes");
        Self { websocket }
    }

    pub async fn send(&mut self, bytes: Vec<u8>) {
        self.websocket.send(Message::Binary(bytes.into())).await.expect("connected");
    }

    pub async fn ask(&mut self, token: u16, request: &Request) {
        self.send(request.encode(RequestToken(token))).await;
    }

    pub async fn message(&mut self) -> Message {
        tokio::time::timeout(PATIENCE, self.websocket.next())
            .await
            .expect("in time")
            .expect("connected")
            .expect("a message")
    }

    /// The next message: code, token, body.
    pub async fn next(&mut self) -> ([u8; 2], u16, Vec<u8>) {
        loop {
            if let Message::Binary(bytes) = self.message().await {
                let frame = frame::decode(&bytes).expect("the daemon sends headers");
                return (frame.code, frame.token.0, frame.body.to_vec());
            }
        }
    }

    /// The next message, which is a refusal.
    pub async fn refusal(&mut self) -> (u16, IpcError) {
        let (code, token, body) = self.next().await;
        assert_eq!(code, *b"NK");
        (token, IpcError::from_body(&body).expect("a named refusal"))
    }

    /// Makes a dynamic object and returns its address.
    pub async fn new_object(&mut self, state: &[u8]) -> Ghid {
        self.ask(1, &Request::New(record(state))).await;
        let (code, token, body) = self.next().await;
        assert_eq!((code, token), (*b"AK", 1));
        Ghid::from_bytes(&body).expect("an address")
    }

    pub async fn whoami(&mut self) {
        self.ask(0xfffe, &Request::Whoami).await;
        loop {
            let (code, token, body) = self.next().await;
            if (code, token) == (*b"AK", 0xfffe) {
                assert_eq!(body, me().as_bytes());
                return;
            }
        }
    }

    /// Reads until the end; the close code, if one came.
    pub async fn end(mut self) -> Option<u16> {
        let mut code = None;
        let reading = async {
            while let Some(Ok(message)) = self.websocket.next().await {
                if let Message::Close(Some(frame)) = message {
                    code = Some(u16::from(frame.code));
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("it ends");
        code
    }
}

pub fn record(state: &[u8]) -> ObjectRecord {
    ObjectRecord {
        address: None,
        author: None,
        private: false,
        dynamic: true,
        legroom: 7,
        api: ApiId::OBJ,
        link: false,
        state: state.into(),
    }
}

pub fn update(ghid: Ghid, state: &[u8]) -> ObjectRecord {
    ObjectRecord { address: Some(ghid), api: ApiId::ZERO, dynamic: false, ..record(state) }
}
