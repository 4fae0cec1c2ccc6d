//! Frames per second through the codec, and round trips per second over a real websocket beside a
//! plain echo over the same library.

use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::{SinkExt, StreamExt};
use golix::Ghid;
use hypergolix_ipc::client::HgxLink;
use hypergolix_ipc::{
    ApiId, ConnectionId, NoticeId, ObjectRecord, Outgoing, Reply, Request, RequestToken, Server,
    ServerConfig, Service, frame,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, client_async};

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    for size in [100, 10_000] {
        let request = Request::Update(ObjectRecord {
            address: Some(Ghid::of(b"object")),
            author: None,
            private: false,
            dynamic: true,
            legroom: 7,
            api: ApiId::OBJ,
            link: false,
            state: vec![0; size].into(),
        });
        let bytes = request.encode(RequestToken(1));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("encode update of {size} B"), |b| {
            b.iter(|| black_box(&request).encode(RequestToken(1)));
        });
        group.bench_function(format!("decode update of {size} B"), |b| {
            b.iter(|| {
                let frame = frame::decode(black_box(&bytes)).expect("our own");
                Request::decode(frame.code, frame.body).expect("our own")
            });
        });
    }
    group.finish();
}

/// Knows who is logged in, and nothing else.
#[derive(Default)]
struct Whoami(Mutex<Vec<Outgoing>>);

impl Service for Whoami {
    async fn connected(&self, _: ConnectionId, outgoing: Outgoing) {
        self.0.lock().expect("no panic").push(outgoing);
    }

    async fn request(&self, connection: ConnectionId, token: RequestToken, _: Request) {
        let apps = self.0.lock().expect("no panic");
        let app = apps.iter().find(|app| app.connection() == connection).expect("connected");
        app.answer(token, Ok(Reply::Fingerprint(Ghid::of(b"me"))));
    }

    async fn acknowledged(&self, _: ConnectionId, _: NoticeId, _: bool) {}

    async fn disconnected(&self, _: ConnectionId) {}
}

/// Times `rounds` of `round`, one after the other, in a task as an application would run them.
fn time<F>(runtime: &Runtime, rounds: u64, round: impl Fn() -> F + Send + 'static) -> Duration
where
    F: Future<Output = ()> + Send,
{
    let task = runtime.spawn(async move {
        let begin = Instant::now();
        for _ in 0..rounds {
            round().await;
        }
        begin.elapsed()
    });
    runtime.block_on(task).expect("no panic")
}

fn round_trips(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = c.benchmark_group("round trip");

    let echo = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("any port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("one comes");
            stream.set_nodelay(true).expect("a socket");
            let mut websocket = accept_async(stream).await.expect("ours");
            while let Some(Ok(message)) = websocket.next().await {
                websocket.send(message).await.expect("connected");
            }
        });
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        let websocket = client_async(format!("ws://{address}/"), stream).await.expect("ours").0;
        Arc::new(tokio::sync::Mutex::new(websocket))
    });
    group.bench_function("echo", |b| {
        b.iter_custom(|rounds| {
            let echo = Arc::clone(&echo);
            time(&runtime, rounds, move || {
                let echo = Arc::clone(&echo);
                async move {
                    let mut echo = echo.lock().await;
                    echo.send(Message::binary(vec![0; 71])).await.expect("connected");
                    echo.next().await.expect("connected").expect("a message");
                }
            })
        });
    });

    let link = runtime.block_on(async {
        let server = Server::bind(ServerConfig::on_port(0)).await.expect("any port");
        let port = server.port();
        tokio::spawn(server.run(Arc::new(Whoami::default()), std::future::pending()));
        HgxLink::connect(port).await.expect("our own")
    });
    group.bench_function("whoami", |b| {
        b.iter_custom(|rounds| {
            let link = link.clone();
            time(&runtime, rounds, move || {
                let link = link.clone();
                async move {
                    link.whoami().await.expect("answered");
                }
            })
        });
    });
    group.finish();
}

criterion_group!(benches, codec, round_trips);
criterion_main!(benches);
