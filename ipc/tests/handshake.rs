//! Who may open a connection: headers, owners, numbers, time.

#![cfg(all(feature = "server", feature = "client"))]

mod common;

use std::time::{Duration, Instant};

use common::{PATIENCE, Raw, Toy, serve, toy};
use hypergolix_ipc::{BindError, Server, ServerConfig};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: chh8JQaagNjYqnfGbEVWRA==\r\nSec-WebSocket-Version: 13\r\n";

/// Sends a request and returns the status of the response; 0 if there is none.
async fn status(port: u16, request: &str) -> u16 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("connected");
    let mut response = Vec::new();
    let reading = async {
        while !response.windows(4).any(|four| four == b"\r\n\r\n") {
            if stream.read_buf(&mut response).await? == 0 {
                break;
            }
        }
        Ok::<_, std::io::Error>(())
    };
    let read = timeout(PATIENCE, reading).await.expect("an answer in time");
    let response = String::from_utf8(response).expect("text");
    assert!(!response.to_ascii_lowercase().contains("access-control"));
    // A reset after the answer is fine; a reset instead of one shows as 0.
    drop(read);
    response.split(' ').nth(1).map_or(0, |status| status.parse().expect("a number"))
}

#[tokio::test]
async fn exactly_five_of_eighteen_header_sets_pass() {
    let toy = Arc::new(Toy::default());
    let ours = "https://ours.example";
    let config =
        ServerConfig { allowed_origins: vec![ours.to_owned()], ..ServerConfig::on_port(0) };
    let server = serve(&toy, config).await;
    let p = server.port;
    let host = format!("Host: localhost:{p}\r\n");
    let sets = [
        (true, host.clone()),
        (true, format!("Host: LOCALHOST:{p}\r\n")),
        (true, format!("Host: 127.0.0.1:{p}\r\n")),
        (true, format!("Host: [::1]:{p}\r\n")),
        (true, format!("{host}Origin: {ours}\r\nSec-Fetch-Site: cross-site\r\n")),
        (false, format!("{host}Origin: https://evil.example\r\n")),
        (false, format!("{host}Origin: null\r\n")),
        (false, format!("{host}Origin: http://localhost:{}\r\n", p ^ 1)),
        (false, format!("{host}Origin: http://localhost:{p}\r\n")),
        (false, format!("{host}Origin: http://localhost.evil.example\r\n")),
        (false, format!("{host}Origin: http://evil.example/?localhost:{p}\r\n")),
        (false, format!("{host}Origin: chrome-extension://abcdefghijklmnop\r\n")),
        (false, format!("{host}Origin: {ours}.evil.example\r\n")),
        (false, format!("{host}Origin: {ours}\r\nOrigin: {ours}\r\n")),
        (false, format!("{host}Sec-Fetch-Site: cross-site\r\n")),
        (false, format!("Host: evil.example:{p}\r\n")),
        (false, format!("Host: localhost:{}\r\n", p ^ 1)),
        (false, String::new()),
    ];
    assert_eq!(sets.len(), 18);
    assert_eq!(sets.iter().filter(|(passes, _)| *passes).count(), 5);
    for (passes, headers) in sets {
        let got = status(p, &format!("GET / HTTP/1.1\r\n{headers}{UPGRADE}\r\n")).await;
        assert_eq!(got, if passes { 101 } else { 403 }, "{headers}");
    }
    let twice = format!("GET / HTTP/1.1\r\n{host}{host}{UPGRADE}\r\n");
    assert_eq!(status(p, &twice).await, 403);
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_an_upgrade_gets_403() {
    let (_, server) = toy().await;
    let p = server.port;
    for request in [
        format!("GET / HTTP/1.1\r\nHost: localhost:{p}\r\n\r\n"),
        format!("POST / HTTP/1.1\r\nHost: localhost:{p}\r\nContent-Length: 9\r\n\r\nsome body"),
        format!("OPTIONS / HTTP/1.1\r\nHost: localhost:{p}\r\n{UPGRADE}\r\n"),
        format!("GET /other HTTP/1.1\r\nHost: localhost:{p}\r\n{UPGRADE}\r\n"),
    ] {
        assert_eq!(status(p, &request).await, 403, "{request}");
    }
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(20_000));
    assert_eq!(status(p, &long).await, 400);
    assert_eq!(status(p, "\x16\x03\x01\x02\x00\x01\r\n\r\n").await, 400);
    Raw::connect(p).await.whoami().await;
    server.stop().await;
}

#[tokio::test]
async fn one_connection_too_many_gets_503() {
    let toy = Arc::new(Toy::default());
    let config = ServerConfig { connections_max: 4, ..ServerConfig::on_port(0) };
    let server = serve(&toy, config).await;
    let p = server.port;
    let mut apps = Vec::new();
    for _ in 0..4 {
        apps.push(Raw::connect(p).await);
    }
    let request = format!("GET / HTTP/1.1\r\nHost: localhost:{p}\r\n{UPGRADE}\r\n");
    assert_eq!(status(p, &request).await, 503);
    for app in &mut apps {
        app.whoami().await;
    }
    apps.pop();
    let deadline = Instant::now() + PATIENCE;
    while status(p, &request).await != 101 {
        assert!(Instant::now() < deadline, "the place is not given to somebody else");
    }
    assert!(toy.state().connections.len() <= 4);
    server.stop().await;
}

#[tokio::test]
async fn a_handshake_has_five_seconds() {
    let (_, server) = toy().await;
    let begin = Instant::now();
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).await.expect("it listens");
    stream.write_all(b"GET / HTTP/1.1\r\nHost:").await.expect("connected");
    let read = timeout(PATIENCE, stream.read(&mut [0; 1])).await.expect("it ends");
    assert!(matches!(read, Ok(0) | Err(_)));
    assert!(begin.elapsed() > Duration::from_secs(4));
    assert!(begin.elapsed() < Duration::from_secs(7));
    server.stop().await;
}

#[tokio::test]
async fn both_loopback_addresses_are_served() {
    let (_, server) = toy().await;
    let Ok(stream) = TcpStream::connect(("::1", server.port)).await else {
        eprintln!("NOT TESTED: this machine has no ::1");
        return server.stop().await;
    };
    let url = format!("ws://localhost:{}/", server.port);
    let (websocket, _) =
        tokio_tungstenite::client_async(url, stream).await.expect("a program passes");
    Raw { websocket }.whoami().await;
    server.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_explained() {
    let (_, server) = toy().await;
    let error = Server::bind(ServerConfig::on_port(server.port)).await.expect_err("in use");
    assert!(matches!(error, BindError::InUse { .. }));
    let text = error.to_string();
    assert!(text.contains(&server.port.to_string()), "{text}");
    assert!(text.contains("--ipc-port"), "{text}");
    if cfg!(target_os = "linux") {
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    }
    server.stop().await;
}

/// The connection of another user is closed before a byte is said.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn another_user_is_not_let_in() {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};

    let (_, server) = toy().await;
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{p} || exit 9; \
         printf 'GET / HTTP/1.1\\r\\nHost: localhost:{p}\\r\\n{u}\\r\\n' >&3; cat <&3",
        p = server.port,
        u = UPGRADE.replace("\r\n", "\\r\\n"),
    );
    let run = |uid: Option<u32>| {
        let mut command = Command::new("/bin/bash");
        command.args(["-c", "timeout 3 /bin/bash -c \"$0\"; exit 0", &script]);
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        command.stdin(Stdio::null()).stderr(Stdio::null()).current_dir("/");
        tokio::task::spawn_blocking(move || command.output())
    };
    let ours = run(None).await.expect("no panic");
    let Ok(ours) = ours else {
        eprintln!("NOT TESTED: no /bin/bash here");
        return server.stop().await;
    };
    assert!(ours.stdout.starts_with(b"HTTP/1.1 101"), "our own user gets in");
    match run(Some(65_534)).await.expect("no panic") {
        Ok(theirs) => assert_eq!(theirs.stdout, b"", "another user gets nothing"),
        Err(error) => eprintln!("NOT TESTED: cannot run as another user ({error})"),
    }
    server.stop().await;
}
