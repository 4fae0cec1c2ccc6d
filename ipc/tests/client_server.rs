//! A real websocket on loopback: bad input, floods, slow readers, order, endings.

#![cfg(all(feature = "server", feature = "client"))]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{PATIENCE, Raw, record, serve, toy, until, update};
use futures::{FutureExt as _, SinkExt, StreamExt};
use golix::Ghid;
use hypergolix_ipc::limits::{MESSAGE_MAX_IN, MESSAGE_MAX_OUT, STATE_MAX};
use hypergolix_ipc::{
    ApiId, ConnectionId, ErrorCode, Notice, NoticeId, ObjectRecord, Outgoing, Reply, Request,
    RequestToken, ServerConfig, Service, frame,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn damaged_requests_are_refused_and_the_connection_stays() {
    let (_, server) = toy().await;
    let mut app = Raw::connect(server.port).await;
    let whole = Request::Get(Ghid::of(b"x")).encode(RequestToken(5));
    for len in 6..whole.len() {
        app.send(whole[..len].to_vec()).await;
        let (token, error) = app.refusal().await;
        assert_eq!((token, error.code), (5, ErrorCode::IpcError));
    }
    let mut bad_address = whole.clone();
    bad_address[6] = 0;
    app.send(bad_address).await;
    assert_eq!(app.refusal().await.1.code, ErrorCode::IpcError);

    app.send(frame::begin(*b"??", RequestToken(6), 0)).await;
    let (token, error) = app.refusal().await;
    assert_eq!((token, error.code, error.text.as_str()), (6, ErrorCode::Unspecified, "b'??'"));

    // Answers to nothing are ignored.
    app.send(frame::begin(*b"AK", RequestToken(6), 0)).await;
    app.send(frame::begin(*b"NK", RequestToken(6), 0)).await;
    app.whoami().await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_the_protocol_ends_that_one_connection() {
    let (_, server) = toy().await;
    let mut other = Raw::connect(server.port).await;
    for (message, code) in [
        (Message::text("hello"), 1003),
        (Message::binary(vec![]), 1002),
        (Message::binary(vec![0, 0, b'?', b'I', 0]), 1002),
        (Message::binary(vec![0, 1, b'?', b'I', 0, 0]), 1002),
        (Message::binary(vec![0; MESSAGE_MAX_IN + 1]), 1009),
    ] {
        let mut app = Raw::connect(server.port).await;
        // The daemon may end the connection before it has read all of it.
        let sent = app.websocket.send(message).await;
        let got = app.end().await;
        assert!(got == Some(code) || (code == 1009 && sent.is_err() | got.is_none()), "{got:?}");
        other.whoami().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn large_states_up_to_the_limit() {
    let (toy, server) = toy().await;
    let mut app = Raw::connect(server.port).await;
    let largest = vec![b'x'; STATE_MAX];
    let ghid = app.new_object(&largest).await;
    app.ask(2, &Request::Get(ghid)).await;
    let (code, token, body) = app.next().await;
    assert_eq!((code, token), (*b"AK", 2));
    assert_eq!(body.len() + 6, MESSAGE_MAX_OUT);
    assert_eq!(ObjectRecord::decode(&body).expect("a definition").state.len(), STATE_MAX);

    for len in [STATE_MAX + 1, STATE_MAX + 206, MESSAGE_MAX_IN - 206] {
        app.ask(3, &Request::New(record(&vec![0; len]))).await;
        let (token, error) = app.refusal().await;
        assert_eq!((token, error.code), (3, ErrorCode::IpcError));
        assert!(error.text.contains("limit is 10485"), "{}", error.text);
    }
    app.whoami().await;
    assert_eq!(toy.state().objects.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn ten_thousand_random_frames() {
    let (toy, server) = toy().await;
    let mut good = Raw::connect(server.port).await;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let frames = prop_oneof![
        // Anything at all; most have the wrong version and end the connection.
        1 => proptest::collection::vec(any::<u8>(), 0..64),
        // The right version.
        30 => proptest::collection::vec(any::<u8>(), 4..300).prop_map(|mut bytes| {
            bytes.splice(0..0, [0, 0]);
            bytes
        }),
        // A known code.
        30 => (0..21_usize, proptest::collection::vec(any::<u8>(), 0..300)).prop_map(
            |(code, body)| {
                let mut bytes =
                    frame::begin(hypergolix_ipc::Code::ALL[code].bytes(), RequestToken(1), 0);
                bytes.extend(body);
                bytes
            }
        ),
    ];
    let mut app = Raw::connect(server.port).await;
    let mut connections = 1;
    for number in 0..10_000 {
        let bytes = frames.new_tree(&mut runner).expect("a frame").current();
        if app.websocket.send(Message::Binary(bytes.into())).await.is_err() {
            app = Raw::connect(server.port).await;
            connections += 1;
        }
        // Read what is there, so that nobody waits for us.
        while let Some(Some(Ok(_))) = app.websocket.next().now_or_never() {}
        if number % 1_000 == 0 {
            good.whoami().await;
        }
    }
    assert!(connections > 10);
    good.whoami().await;
    drop(app);
    until("only the good one is left", || toy.state().connections.len() == 1).await;
    server.stop().await;
}

#[tokio::test]
async fn requests_of_one_connection_are_answered_in_order() {
    let (toy, server) = toy().await;
    let mut app = Raw::connect(server.port).await;
    let ghid = app.new_object(b"").await;
    // Sent without reading, ten times what may be in flight.
    let (mut sink, mut stream) = app.websocket.split();
    let writer = tokio::spawn(async move {
        for number in 0..5_000_u16 {
            let push = Request::Update(update(ghid, &number.to_be_bytes()));
            let bytes = push.encode(RequestToken(number));
            sink.feed(Message::Binary(bytes.into())).await.expect("connected");
        }
        sink.flush().await.expect("connected");
    });
    for number in 0..5_000_u16 {
        let message = timeout(PATIENCE, stream.next()).await.expect("in time");
        let Some(Ok(Message::Binary(bytes))) = message else { panic!("an answer") };
        let frame = frame::decode(&bytes).expect("a header");
        assert_eq!((frame.code, frame.token.0), (*b"AK", number));
    }
    writer.await.expect("all sent");
    assert_eq!(*toy.state().objects[&ghid].state, 4_999_u16.to_be_bytes());
    server.stop().await;
}

#[tokio::test]
async fn the_answer_comes_before_what_follows_from_it() {
    let (toy, server) = toy().await;
    let mut app = Raw::connect(server.port).await;
    let mut other = Raw::connect(server.port).await;
    let ghid = app.new_object(b"0").await;
    for round in 0..100_u16 {
        // Both in flight at once, from two connections.
        other.ask(9, &Request::Get(ghid)).await;
        app.ask(round, &Request::Update(update(ghid, &round.to_be_bytes()))).await;
        let (code, token, body) = other.next().await;
        assert_eq!((code, token), (*b"AK", 9), "an update overtook the answer");
        let got = ObjectRecord::decode(&body).expect("a definition").state;
        if *got != round.to_be_bytes() {
            let (code, token, body) = other.next().await;
            assert_eq!(code, *b"!O");
            let new = ObjectRecord::decode(&body).expect("a definition").state;
            assert_eq!(*new, round.to_be_bytes());
            other
                .send(Notice::acknowledge(hypergolix_ipc::Code::Update, RequestToken(token)))
                .await;
        }
        other.ask(10, &Request::Discard(ghid)).await;
        assert_eq!(other.next().await.1, 10);
        assert_eq!(app.next().await, (*b"AK", round, vec![1]));
    }
    drop(toy);
    server.stop().await;
}

#[tokio::test]
async fn acknowledgements_reach_the_service() {
    let (toy, server) = toy().await;
    let mut app = Raw::connect(server.port).await;
    let ghid = app.new_object(b"0").await;
    let id = *toy.state().connections.keys().next().expect("one");
    let outgoing = toy.state().connections[&id].outgoing.clone();
    let notices = [
        (NoticeId(100), Notice::Update(update(ghid, b"1"))),
        (NoticeId(101), Notice::Deleted(ghid)),
        (NoticeId(102), Notice::ShareSucceeded { object: ghid, recipient: ghid }),
    ];
    for (notice, body) in notices {
        outgoing.notify(notice, body);
    }
    let mut tokens = Vec::new();
    for code in [b"!O", b"XO", b"^S"] {
        let (got, token, _) = app.next().await;
        assert_eq!(got, *code);
        tokens.push(token);
    }
    // In another order, and one refused without a reason.
    app.send(frame::begin(*b"NK", RequestToken(tokens[2]), 0)).await;
    app.send(frame::begin(*b"AK", RequestToken(tokens[0]), 0)).await;
    app.send(frame::begin(*b"AK", RequestToken(tokens[1]), 0)).await;
    until("all three arrive", || toy.state().acknowledged.len() >= 3).await;
    assert_eq!(
        toy.state().acknowledged,
        [(id, NoticeId(102), false), (id, NoticeId(100), true), (id, NoticeId(101), true)]
    );
    server.stop().await;
}

#[tokio::test]
async fn a_slow_reader_ends_with_the_newest_state() {
    let (toy, server) = toy().await;
    let mut writer = Raw::connect(server.port).await;
    let mut reader = Raw::connect(server.port).await;
    let ghid = writer.new_object(&[0; 4]).await;
    reader.ask(1, &Request::Get(ghid)).await;
    reader.next().await;
    // 200 MB of updates that nobody reads: far beyond every buffer.
    let mut state = vec![0; 100_000];
    for number in 1..=2_000_u32 {
        state[..4].copy_from_slice(&number.to_be_bytes());
        let record = update(ghid, &state);
        toy.state().fan_out(&record, None);
        if number % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut last = 0;
    let mut seen = 0;
    while last < 2_000 {
        let (code, token, body) = reader.next().await;
        assert_eq!(code, *b"!O");
        let record = ObjectRecord::decode(&body).expect("a definition");
        let number = u32::from_be_bytes(record.state[..4].try_into().expect("four"));
        assert!(number > last, "{number} after {last}");
        (last, seen) = (number, seen + 1);
        reader.send(Notice::acknowledge(hypergolix_ipc::Code::Update, RequestToken(token))).await;
    }
    assert!(seen < 2_000, "it was coalesced");
    let id = ConnectionId(2);
    until("every notice is settled", || {
        toy.state().acknowledged.iter().filter(|(by, ..)| *by == id).count() == 2_000
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn who_does_not_read_at_all_is_cut_off_and_others_are_not() {
    let (toy, server) = toy().await;
    let mut deaf = Raw::connect(server.port).await;
    deaf.whoami().await;
    let id = *toy.state().connections.keys().next().expect("one");
    let mut good = Raw::connect(server.port).await;
    // Different objects cannot be coalesced.
    for number in 0..1_000_u32 {
        let notice = Notice::Update(update(Ghid::of(&number.to_be_bytes()), &vec![0; 100_000]));
        let outgoing = toy.state().connections.get(&id).map(|app| app.outgoing.clone());
        let Some(outgoing) = outgoing else { break };
        outgoing.notify(NoticeId(u64::from(number)), notice);
        tokio::task::yield_now().await;
    }
    until("it is cut off", || toy.state().ended == [id]).await;
    good.whoami().await;
    server.stop().await;
}

/// A node that is busy: requests wait until it is let go.
struct Busy {
    free: Semaphore,
    outgoing: std::sync::Mutex<Option<Outgoing>>,
    gone: AtomicBool,
}

impl Service for Busy {
    async fn connected(&self, _: ConnectionId, outgoing: Outgoing) {
        *self.outgoing.lock().expect("no panic") = Some(outgoing);
    }

    async fn request(&self, _: ConnectionId, token: RequestToken, _: Request) {
        self.free.acquire().await.expect("never closed").forget();
        let outgoing = self.outgoing.lock().expect("no panic").clone();
        outgoing.expect("connected").answer(token, Ok(Reply::Done));
    }

    async fn acknowledged(&self, _: ConnectionId, _: NoticeId, _: bool) {}

    async fn disconnected(&self, _: ConnectionId) {
        self.gone.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn pings_are_answered_while_the_node_is_busy() {
    let busy = Arc::new(Busy {
        free: Semaphore::new(0),
        outgoing: std::sync::Mutex::default(),
        gone: AtomicBool::new(false),
    });
    let server = serve(&busy, ServerConfig::on_port(0)).await;
    let mut app = Raw::connect(server.port).await;
    for token in 0..100 {
        app.ask(token, &Request::Status).await;
    }
    app.websocket.send(Message::Ping(vec![1, 2, 3].into())).await.expect("connected");
    let Message::Pong(data) = app.message().await else { panic!("a pong comes first") };
    assert_eq!(data[..], [1, 2, 3]);
    busy.free.add_permits(100);
    for token in 0..100 {
        assert_eq!(app.next().await, (*b"AK", token, vec![1]));
    }
    // The end is noticed although a request waits.
    app.ask(0, &Request::Status).await;
    drop(app);
    until("the end is noticed", || busy.gone.load(Ordering::SeqCst)).await;
    server.stop().await;
}

#[tokio::test]
async fn tcp_ends_right_after_the_close_handshake() {
    let (toy, server) = toy().await;
    let mut app = Raw::connect(server.port).await;
    app.whoami().await;
    let begin = Instant::now();
    app.websocket.send(Message::Close(None)).await.expect("connected");
    assert_eq!(app.end().await, None);
    assert!(begin.elapsed() < Duration::from_millis(500));
    until("the service knows", || toy.state().ended.len() == 1).await;

    // The other way: the daemon closes, the application answers, TCP ends.
    let app = Raw::connect(server.port).await;
    until("it is connected", || toy.state().connections.len() == 1).await;
    let begin = Instant::now();
    let outgoing =
        toy.state().connections.values().next().map(|app| app.outgoing.clone()).expect("one");
    outgoing.close("a test");
    assert_eq!(app.end().await, Some(1008));
    assert!(begin.elapsed() < Duration::from_millis(500));

    // And when the daemon stops.
    let app = Raw::connect(server.port).await;
    let end = tokio::spawn(app.end());
    until("it is connected", || toy.state().connections.len() == 1).await;
    let begin = Instant::now();
    server.stop().await;
    assert_eq!(end.await.expect("no panic"), Some(1001));
    assert!(begin.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn an_application_that_let_go_of_an_object_is_disconnected() {
    let (toy, server) = toy().await;
    let mut app = Raw::connect(server.port).await;
    let ghid = app.new_object(b"0").await;
    let begin = Instant::now();
    toy.state().fan_out(&update(ghid, b"1"), None);
    assert_eq!(app.next().await.0, *b"!O");
    // What the Python client does when the object was collected: `-O`, and then silence.
    app.ask(7, &Request::Discard(ghid)).await;
    assert_eq!(app.next().await, (*b"AK", 7, vec![1]));
    assert_eq!(app.end().await, Some(1008));
    assert!(begin.elapsed() > Duration::from_secs(4));
    assert!(begin.elapsed() < Duration::from_secs(10));
    until("its token is free", || toy.state().ended.len() == 1).await;
    server.stop().await;
}

#[tokio::test]
async fn fragmented_messages_are_read() {
    use tokio_tungstenite::tungstenite::protocol::frame::Frame;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

    let (_, server) = toy().await;
    let mut app = Raw::connect(server.port).await;
    let bytes = Request::RegisterApi(ApiId::JSON).encode(RequestToken(3));
    let (first, rest) = bytes.split_at(10);
    let frames = [
        Frame::message(first.to_vec(), OpCode::Data(Data::Binary), false),
        Frame::message(rest.to_vec(), OpCode::Data(Data::Continue), true),
    ];
    for frame in frames {
        app.websocket.send(Message::Frame(frame)).await.expect("connected");
    }
    assert_eq!(app.next().await, (*b"AK", 3, vec![1]));
    server.stop().await;
}
