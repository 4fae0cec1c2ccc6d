//! What an operator does, and how their users notice.

use std::os::unix::fs::PermissionsExt;

use hypergolix_tests::namespaces::Internet;
use hypergolix_tests::process::Server;
use hypergolix_tests::wait::{PATIENCE, wait_until};
use hypergolix_tests::wire::{Definition, fresh_api};
use serde_json::Value;

use crate::{CONNECTED_MAX, CONVERGED_MAX, Site, server};

/// Every documented option.
pub fn options() {
    let mut internet = Internet::new();
    let (place, address) = internet.server();
    let mut server = Server::start(&place, &["--host", "Auto", "--port", "7799", "--debug"]);
    let listen = server.fact("addresses").to_owned();
    assert!(listen.contains(&format!("/ip4/{address}/tcp/7799")), "{listen}");
    assert!(listen.contains(&format!("/ip4/{address}/udp/7799/quic-v1")), "{listen}");
    assert!(!listen.contains("127.0.0.1"), "{listen}");
    let mode = |name: &str| {
        std::fs::metadata(server.file(name)).expect("there").permissions().mode() & 0o777
    };
    assert_eq!((mode("pid"), mode("pid.sock"), mode("cache/store.redb")), (0o600, 0o600, 0o600));
    // One server a pid file.
    let mut again = server.command(&["start", "server"]);
    let again = again.arg(server.pid_file()).output().expect("it runs");
    let text = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success() && text.contains("already running"), "{text}");
    assert!(server.stop().success());
    assert!(!server.file("pid.sock").exists());
    let output = server.operate("users", &[]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no server runs"), "{output:?}");
    let stopped =
        server.command(&["stop", "server"]).arg(server.pid_file()).output().expect("runs");
    assert!(!stopped.status.success());

    // In the background, as documented.
    let output = server
        .command(&["start", "server"])
        .arg(server.pid_file())
        .args(["--chdir", "/", "-v", "debug", "--traceur", "-p", "7798", "-H", "localhost"])
        .arg("-c")
        .arg(server.file("cache"))
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.starts_with("ready "), "{output:?}");
    assert!(text.contains("/ip4/127.0.0.1/tcp/7798"), "{text}");
    let pid = std::fs::read_to_string(server.pid_file()).expect("a pid file");
    let folder = std::fs::read_link(format!("/proc/{}/cwd", pid.trim())).expect("it runs");
    assert_eq!(folder.to_str(), Some("/"));
    let stopped =
        server.command(&["stop", "server"]).arg(server.pid_file()).output().expect("runs");
    assert!(stopped.status.success(), "{stopped:?}");
}

/// Says why something is not stored, and stores it when there is room.
pub fn quota() {
    let mut internet = Internet::new();
    let (server, address) = server(&mut internet, &["--free-bytes", "20000"]);
    let alice = Site::new(&mut internet, &[&address]);
    alice.connected();
    for number in 0..10_u8 {
        alice.app.new_object(&[number; 3_000]);
    }
    let refused = || {
        let remote = alice.remotes().remove(0);
        (remote["refused"].as_u64().unwrap_or_default(), remote["refusal"].clone())
    };
    wait_until("the refusal", CONVERGED_MAX, || refused().0 > 0);
    let (_, why) = refused();
    assert!(why.as_str().is_some_and(|text| text.contains("quota")), "{why}");
    let status = alice.home.run(&["status"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("the quota is used up"));
    let user = user(&server, &alice);
    assert!(user["bytes"].as_u64().is_some_and(|bytes| bytes <= 20_000), "{user}");
    // Everything is still here, of course.
    let output = alice.home.run(&["config", "--register"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("registered"), "{output:?}");
    wait_until("room", CONVERGED_MAX, || refused().0 == 0);
    alice.stored();
    let said = server.operate("status", &[]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("running") && said.contains("11 live objects"), "{said}");
    let figures = server.operate("status", &["--json"]);
    let figures: Value = serde_json::from_slice(&figures.stdout).expect("JSON");
    // And the root of the account.
    assert_eq!(figures["objects"], 10 + 1, "{figures}");
}

fn user(server: &Server, site: &Site) -> Value {
    let output = server.operate("users", &["--json"]);
    let users: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let users = users.as_array().expect("a list");
    let found = users.iter().find(|user| user["identity"] == site.node.fingerprint());
    found.cloned().unwrap_or_else(|| panic!("nobody of that name in {users:?}"))
}

pub fn invitations_and_bans() {
    let mut internet = Internet::new();
    let (server, address) = server(&mut internet, &["--policy", "invited"]);
    let (alice, bob) =
        (Site::new(&mut internet, &[&address]), Site::new(&mut internet, &[&address]));
    alice.connected();
    bob.connected();
    let output = alice.home.run(&["config", "--register"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("token"), "{output:?}");
    let output = server.operate("register", &[]);
    let token = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert_eq!(token.len(), 32, "{output:?}");
    let output = alice.home.run(&["config", "--register", "--token", &token]);
    assert!(output.status.success(), "{output:?}");
    let output = bob.home.run(&["config", "--register", "--token", &token]);
    assert!(!output.status.success(), "a token is for one: {output:?}");

    // Who is not invited can be shared with all the same.
    let mut definition = Definition::new(b"for the uninvited");
    definition.api = fresh_api();
    bob.app.register_api(definition.api);
    let object = alice.app.make(&definition).expect("an object");
    alice.app.share(object, bob.address());
    assert_eq!(bob.app.share_of(object, CONVERGED_MAX), alice.address());
    wait_until("the answer", CONVERGED_MAX, || alice.node.status()["shares_owed"] == 0);

    let output = server.operate("quota", &[alice.node.fingerprint(), "--bytes", "1"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("of 1 bytes") && text.contains("registered"), "{text}");
    let output = server.operate("ban", &[alice.node.fingerprint()]);
    assert!(output.status.success(), "{output:?}");
    wait_until("the ban to be known", CONNECTED_MAX, || {
        let remote = alice.remotes().remove(0);
        remote["refusal"].as_str().is_some_and(|text| text.contains("banned"))
    });
    assert!(String::from_utf8_lossy(&server.operate("users", &[]).stdout).contains("BANNED"));
    let output = server.operate("ban", &[alice.node.fingerprint(), "--undo"]);
    assert!(output.status.success(), "{output:?}");
    wait_until("the end of the ban to be known", PATIENCE, || {
        let remote = alice.remotes().remove(0);
        // The quota of one byte is still refused, and said.
        let banned = remote["refusal"].as_str().is_some_and(|text| text.contains("banned"));
        remote["state"] == "connected" && !banned
    });
    let output = server.operate("ban", &["nonsense"]);
    assert!(!output.status.success());
}
