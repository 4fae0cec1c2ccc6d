//! Who may not speak to a node: other users of the machine, and web pages.

use std::process::{ExitCode, Stdio};

use hypergolix_tests::harness::{self, trial};
use hypergolix_tests::namespaces::Place;
use hypergolix_tests::process::{Home, Node};
use hypergolix_tests::wire::Wire;

/// `nobody`, everywhere.
const NOBODY: &str = "65534";

fn main() -> ExitCode {
    harness::main(false, |world| {
        if !world.root {
            println!("SKIPPED: becoming another user needs root");
        }
        vec![
            trial("another_user_is_refused", another_user_is_refused)
                .with_ignored_flag(!world.root),
            trial("any_origin_is_refused", any_origin_is_refused),
            trial("a_foreign_host_is_refused", a_foreign_host_is_refused),
            trial("local_hosts_are_accepted", local_hosts_are_accepted),
        ]
    })
}

fn node() -> Node {
    Home::new(&Place::here()).start()
}

fn another_user_is_refused() {
    let mut node = node();
    // The same handshake from the same program, once as ourselves and once as nobody.
    for (prefix, accepted) in [(&["--"][..], true), (&["--reuid", NOBODY, "--clear-groups"], false)]
    {
        let output = Place::here()
            .command("setpriv")
            .args(prefix)
            .args(["bash", "-c", HANDSHAKE, "bash", &node.port().to_string()])
            .stdin(Stdio::null())
            .output()
            .expect("setpriv runs");
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            answer.starts_with("HTTP/1.1 101"),
            accepted,
            "{prefix:?} got {answer:?} {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    node.assert_serves();
}

/// Sends a websocket handshake to port `$1` and prints the first line of the answer, if any.
const HANDSHAKE: &str = r#"
exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
printf 'GET / HTTP/1.1\r\nHost: localhost:%s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' "$1" >&3
printf 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n' >&3
read -r -t 5 line <&3; printf '%s' "$line"
"#;

fn any_origin_is_refused() {
    let mut node = node();
    for origin in
        ["http://localhost", "https://example.org", "null", "http://127.0.0.1:7772", "file://"]
    {
        refused(&node, &[("Origin", origin)]);
    }
    node.assert_serves();
}

fn a_foreign_host_is_refused() {
    let mut node = node();
    let port = node.port();
    for host in [
        "example.org".to_owned(),
        format!("example.org:{port}"),
        format!("localhost.example.org:{port}"),
        format!("127.0.0.1.nip.io:{port}"),
        format!("192.168.1.1:{port}"),
        String::new(),
    ] {
        refused(&node, &[("Host", &host)]);
    }
    node.assert_serves();
}

fn local_hosts_are_accepted() {
    let node = node();
    let port = node.port();
    for host in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")]
    {
        let wire = Wire::try_connect(&Place::here(), port, &[("Host", &host)]);
        assert_eq!(wire.expect(&host).whoami(), node.address());
    }
}

fn refused(node: &Node, headers: &[(&str, &str)]) {
    match Wire::try_connect(&Place::here(), node.port(), headers) {
        Ok(_) => panic!("accepted with {headers:?}"),
        Err(error) => assert!(!error.starts_with("cannot connect"), "{error}"),
    }
}
