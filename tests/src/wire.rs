//! The application protocol by hand, byte by byte.
//!
//! Deliberately not built on the `hypergolix-ipc` crate: a fault there must not hide itself here.
//! Sections are those of the wire reference. Every notice is acknowledged and kept for the test.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{
    Message, handshake::client::Request, protocol::WebSocketConfig,
};

use crate::namespaces::Place;
use crate::wait::PATIENCE;

/// Largest state of an object, bytes. Section 1.
pub const STATE_MAX: usize = 10_485_554;

/// Messages queued towards the node before a sender waits.
const QUEUE: usize = 1024;

/// An address as 65 bytes: hash algorithm and digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub [u8; 65]);

impl Address {
    /// "None".
    pub const NONE: Self = Self([0; 65]);

    /// Reads the URL-safe base64 form.
    ///
    /// # Panics
    /// When it is not an address.
    pub fn parse(text: &str) -> Self {
        let bytes = data_encoding::BASE64URL.decode(text.as_bytes());
        let bytes = bytes.unwrap_or_else(|error| panic!("not an address: {text}: {error}"));
        Self(bytes.try_into().expect("an address has 65 bytes"))
    }

    /// An address that nothing has.
    pub fn random() -> Self {
        let mut bytes: [u8; 65] = [0; 65].map(|_: u8| rand::random());
        bytes[0] = 1;
        Self(bytes)
    }

    /// The URL-safe base64 form.
    pub fn text(&self) -> String {
        data_encoding::BASE64URL.encode(&self.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text()[..8])
    }
}

/// An API id of 64 bytes as the wire has it, `00` in front.
pub fn api(last: u8) -> [u8; 65] {
    let mut id = [0; 65];
    id[64] = last;
    id
}

/// An API id that no other test uses.
pub fn fresh_api() -> [u8; 65] {
    let mut id = Address::random().0;
    id[0] = 0;
    id
}

/// An object definition. Section 5.
#[derive(Clone, PartialEq, Eq)]
pub struct Definition {
    /// Zeros when the application makes an object.
    pub address: Address,
    /// The creator.
    pub author: Address,
    /// Restricted to the application's token.
    pub private: bool,
    /// May be pushed.
    pub dynamic: bool,
    /// Past frames kept.
    pub legroom: u8,
    /// The API id, `00` in front.
    pub api: [u8; 65],
    /// The state is an address.
    pub link: bool,
    /// The state.
    pub state: Vec<u8>,
}

impl Definition {
    /// A public dynamic object of the bytes API.
    pub fn new(state: &[u8]) -> Self {
        Self {
            address: Address::NONE,
            author: Address::NONE,
            private: false,
            dynamic: true,
            legroom: 7,
            api: api(1),
            link: false,
            state: state.to_vec(),
        }
    }

    /// 200 bytes and the state.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(self.address.0);
        bytes.extend(self.author.0);
        bytes.extend([u8::from(self.private), u8::from(self.dynamic), self.legroom]);
        bytes.extend(self.api);
        bytes.push(u8::from(self.link));
        bytes.extend(&self.state);
        bytes
    }

    /// Reads what [`Definition::encode`] writes.
    ///
    /// # Panics
    /// On anything else: the node must not send it.
    pub fn decode(bytes: &[u8]) -> Self {
        assert!(bytes.len() >= 200 && bytes[0] == 0, "no definition: {} bytes", bytes.len());
        let array =
            |from: usize| -> [u8; 65] { bytes[from..from + 65].try_into().expect("65 bytes") };
        assert!(bytes[131] < 2 && bytes[132] < 2 && bytes[199] < 2, "flags are 0 or 1");
        Self {
            address: Address(array(1)),
            author: Address(array(66)),
            private: bytes[131] == 1,
            dynamic: bytes[132] == 1,
            legroom: bytes[133],
            api: array(134),
            link: bytes[199] == 1,
            state: bytes[200..].to_vec(),
        }
    }
}

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = String::from_utf8_lossy(&self.state[..self.state.len().min(32)]);
        write!(f, "{:?} by {:?}: {state:?}", self.address, self.author)
    }
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The node answered `NK` with this code and text.
    Nak(u16, String),
    /// The connection ended.
    Closed,
}

/// A request of the node: `!O`, `@O`, `^S`, `^F` or `XO`.
#[derive(Debug, Clone)]
pub struct Notice {
    /// When it arrived.
    pub at: Instant,
    /// Two characters.
    pub code: [u8; 2],
    /// The rest.
    pub body: Vec<u8>,
}

impl Notice {
    /// The object it is about.
    pub fn object(&self) -> Address {
        let from = usize::from(&self.code == b"!O");
        Address(self.body[from..from + 65].try_into().expect("65 bytes"))
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    next_token: u16,
    answers: HashMap<u16, Result<Vec<u8>, Refusal>>,
    notices: Vec<Notice>,
    closed: bool,
    /// What the node sent that no node may send.
    violation: Option<String>,
}

/// A connection to a node.
#[derive(Debug)]
pub struct Wire {
    shared: Arc<Shared>,
    sink: mpsc::Sender<Message>,
    place: Place,
}

impl Wire {
    /// Connects to `localhost:port` of a place.
    ///
    /// # Panics
    /// When the node does not accept it.
    pub fn connect(place: &Place, port: u16) -> Self {
        Self::try_connect(place, port, &[]).expect("the node accepts a connection")
    }

    /// Connects with further header lines; `Host` among them replaces the usual one.
    ///
    /// # Errors
    /// What the websocket library says.
    pub fn try_connect(place: &Place, port: u16, headers: &[(&str, &str)]) -> Result<Self, String> {
        let mut request = Request::builder()
            .uri(format!("ws://localhost:{port}/"))
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            request = request.header("Host", format!("localhost:{port}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).map_err(|error| error.to_string())?;
        let connected = place.run(async move {
            let stream = TcpStream::connect(("127.0.0.1", port)).await;
            let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
            let config = WebSocketConfig::default()
                .max_message_size(Some(64 << 20))
                .max_frame_size(Some(64 << 20));
            tokio_tungstenite::client_async_with_config(request, stream, Some(config))
                .await
                .map_err(|error| error.to_string())
        });
        let (stream, _) = connected?;
        let shared = Arc::new(Shared::default());
        let (sink, mut outgoing) = mpsc::channel(QUEUE);
        let (mut write, mut read) = stream.split();
        let acknowledge = sink.clone();
        let theirs = Arc::clone(&shared);
        place.handle().spawn(async move {
            while let Some(message) = outgoing.recv().await {
                if write.send(message).await.is_err() {
                    break;
                }
            }
        });
        place.handle().spawn(async move {
            while let Some(Ok(message)) = read.next().await {
                let received = match message {
                    Message::Binary(bytes) => theirs.received(&bytes),
                    Message::Text(text) => Err(format!("a text frame: {text}")),
                    _ => Ok(None),
                };
                match received {
                    // A full queue means that the test floods; its notices stay open then.
                    Ok(Some(answer)) => drop(acknowledge.try_send(Message::Binary(answer.into()))),
                    Ok(None) => {}
                    Err(violation) => {
                        theirs.lock().violation = Some(violation);
                        break;
                    }
                }
            }
            theirs.lock().closed = true;
            theirs.changed.notify_all();
        });
        Ok(Self { shared, sink, place: place.clone() })
    }

    /// Sends any message, well-formed or not.
    pub fn send(&self, message: Message) {
        let sink = self.sink.clone();
        let sent =
            self.place.run(async move { tokio::time::timeout(PATIENCE, sink.send(message)).await });
        assert!(sent.is_ok(), "the node does not read");
    }

    /// Sends a request under the next token and returns that.
    pub fn ask(&self, code: [u8; 2], body: &[u8]) -> u16 {
        let token = {
            let mut state = self.shared.lock();
            state.next_token = state.next_token.wrapping_add(1);
            state.next_token
        };
        self.send(Message::Binary(message(code, token, body).into()));
        token
    }

    /// Waits for the answer to a request.
    ///
    /// # Errors
    /// The node refused, or the connection ended.
    ///
    /// # Panics
    /// When there is no answer in time.
    pub fn answer(&self, token: u16) -> Result<Vec<u8>, Refusal> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.lock();
        loop {
            state.check();
            if let Some(answer) = state.answers.remove(&token) {
                return answer;
            }
            if state.closed {
                return Err(Refusal::Closed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no answer within {PATIENCE:?}");
            state = self.shared.changed.wait_timeout(state, left).expect("no panic holds it").0;
        }
    }

    /// A request and its answer.
    ///
    /// # Errors
    /// The node refused, or the connection ended.
    pub fn request(&self, code: [u8; 2], body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let token = self.ask(code, body);
        self.answer(token)
    }

    /// Whether the node ended the connection.
    pub fn closed(&self) -> bool {
        self.shared.lock().closed
    }

    /// Waits until the node has ended the connection, for a while.
    pub fn closes_within(&self, duration: Duration) -> bool {
        let deadline = Instant::now() + duration;
        let mut state = self.shared.lock();
        while !state.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.shared.changed.wait_timeout(state, left).expect("no panic holds it").0;
        }
        true
    }

    /// All notices so far.
    pub fn notices(&self) -> Vec<Notice> {
        self.shared.lock().notices.clone()
    }

    /// Waits for a notice that `wanted` finds, among those that came and those to come.
    ///
    /// # Panics
    /// When it does not come in time.
    pub fn notice<T>(
        &self,
        what: &str,
        within: Duration,
        wanted: impl FnMut(&Notice) -> Option<T>,
    ) -> T {
        let found = self.try_notice(within, wanted);
        found.unwrap_or_else(|| panic!("{what} did not come within {within:?}"))
    }

    /// As [`Wire::notice`], but says when it did not come.
    pub fn try_notice<T>(
        &self,
        within: Duration,
        mut wanted: impl FnMut(&Notice) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + within;
        let mut seen = 0;
        let mut state = self.shared.lock();
        loop {
            state.check();
            while let Some(notice) = state.notices.get(seen) {
                if let Some(found) = wanted(notice) {
                    return Some(found);
                }
                seen += 1;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.closed {
                return None;
            }
            state = self.shared.changed.wait_timeout(state, left).expect("no panic holds it").0;
        }
    }

    /// Waits until an object has had this state sent.
    pub fn update(&self, object: Address, state: &[u8], within: Duration) {
        let what = format!("the state {:?}", String::from_utf8_lossy(state));
        self.notice(&what, within, |notice| {
            (&notice.code == b"!O" && notice.object() == object && notice.body[200..] == *state)
                .then_some(())
        });
    }

    /// Waits for a share of an object; returns its origin.
    pub fn share_of(&self, object: Address, within: Duration) -> Address {
        self.notice("the share", within, |notice| {
            (&notice.code == b"@O" && notice.object() == object)
                .then(|| Address(notice.body[65..130].try_into().expect("65 bytes")))
        })
    }

    /// All states of an object that came, in order.
    pub fn states(&self, object: Address) -> Vec<Vec<u8>> {
        self.shared
            .lock()
            .notices
            .iter()
            .filter(|notice| &notice.code == b"!O" && notice.object() == object)
            .map(|notice| notice.body[200..].to_vec())
            .collect()
    }

    /// `?I`.
    pub fn whoami(&self) -> Address {
        address(&self.request(*b"?I", b"").expect("whoami is never refused"))
    }

    /// `+O`, a public dynamic object of the bytes API.
    pub fn new_object(&self, state: &[u8]) -> Address {
        self.make(&Definition::new(state)).expect("the node makes an object")
    }

    /// `+O`.
    ///
    /// # Errors
    /// The node refused, or the connection ended.
    pub fn make(&self, definition: &Definition) -> Result<Address, Refusal> {
        self.request(*b"+O", &definition.encode()).map(|body| address(&body))
    }

    /// `>O`.
    ///
    /// # Errors
    /// The node refused, or the connection ended.
    pub fn try_get(&self, object: Address) -> Result<Definition, Refusal> {
        self.request(*b">O", &object.0).map(|body| Definition::decode(&body))
    }

    /// `>O` of an object that is there.
    pub fn get(&self, object: Address) -> Definition {
        self.try_get(object).expect("the object is there")
    }

    /// `!O` as the Python client sends it: without dynamic byte and API id.
    ///
    /// # Errors
    /// The node refused, or the connection ended.
    pub fn try_push(&self, object: Address, state: &[u8]) -> Result<(), Refusal> {
        let mut definition = Definition::new(state);
        definition.address = object;
        definition.dynamic = false;
        definition.api = [0; 65];
        self.done(*b"!O", &definition.encode())
    }

    /// `!O` of an own dynamic object.
    pub fn push(&self, object: Address, state: &[u8]) {
        self.try_push(object, state).expect("the node takes the push");
    }

    /// `@O`.
    pub fn share(&self, object: Address, recipient: Address) {
        self.done(*b"@O", &[object.0, recipient.0].concat()).expect("the node takes the share");
    }

    /// `+A`.
    pub fn register_api(&self, api: [u8; 65]) {
        self.done(*b"+A", &api).expect("the node registers an API id");
    }

    /// A request that is answered with `01`.
    ///
    /// # Errors
    /// The node refused, or the connection ended.
    ///
    /// # Panics
    /// On any other answer, which would break the Python client.
    pub fn done(&self, code: [u8; 2], body: &[u8]) -> Result<(), Refusal> {
        let answer = self.request(code, body)?;
        assert_eq!(answer, [1], "the answer to {:?}", String::from_utf8_lossy(&code));
        Ok(())
    }
}

impl State {
    /// Panics in the test, not in the task that read it.
    fn check(&self) {
        if let Some(violation) = &self.violation {
            panic!("the node sent {violation}");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic holds it")
    }

    /// Files a message; returns the acknowledgement if it is a notice.
    fn received(&self, bytes: &[u8]) -> Result<Option<Vec<u8>>, String> {
        // Section 9, rules 1 and 9: the Python client does not survive less, or more.
        if bytes.len() < 6 || bytes[..2] != [0, 0] || bytes.len() > 10 << 20 {
            return Err(format!("a bad frame: {} bytes, {:?}", bytes.len(), bytes.get(..6)));
        }
        let code = [bytes[2], bytes[3]];
        let token = u16::from_be_bytes([bytes[4], bytes[5]]);
        let body = bytes[6..].to_vec();
        let mut state = self.lock();
        let answer = match &code {
            b"AK" => {
                state.answers.insert(token, Ok(body));
                None
            }
            b"NK" => {
                let [high, low, text @ ..] = body.as_slice() else {
                    return Err(format!("a refusal without a code: {body:?}"));
                };
                let text = String::from_utf8(text.to_vec()).map_err(|error| error.to_string())?;
                let code = u16::from_be_bytes([*high, *low]);
                state.answers.insert(token, Err(Refusal::Nak(code, text)));
                None
            }
            _ => {
                let results = [b"^S", b"^F"].contains(&&code);
                state.notices.push(Notice { at: Instant::now(), code, body });
                let body: &[u8] = if results { b"" } else { &[1] };
                Some(message(*b"AK", token, body))
            }
        };
        self.changed.notify_all();
        Ok(answer)
    }
}

/// A message: version, code, token, body. Section 2.
pub fn message(code: [u8; 2], token: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(code);
    bytes.extend(token.to_be_bytes());
    bytes.extend(body);
    bytes
}

fn address(body: &[u8]) -> Address {
    Address(body.try_into().unwrap_or_else(|_| panic!("{} bytes for an address", body.len())))
}
