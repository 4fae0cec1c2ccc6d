//! Bad input: each has its clear answer, and the node serves on.

use std::hash::Hasher;
use std::path::PathBuf;
use std::process::{ExitCode, Output, Stdio};
use std::time::Duration;

use hypergolix_tests::harness::{self, trial};
use hypergolix_tests::namespaces::Place;
use hypergolix_tests::process::{Failure, Home, set_mode};
use hypergolix_tests::wait::PATIENCE;
use hypergolix_tests::wire::{Address, Definition, Refusal, STATE_MAX, fresh_api, message};
use tokio_tungstenite::tungstenite::Message;

/// `DoesNotExist` and `IPCError`; wire reference, section 4.1.
const DOES_NOT_EXIST: u16 = 0x0008;
const IPC_ERROR: u16 = 0xFFFF;

/// Every request code an application may send.
const CODES: [&[u8; 2]; 16] = [
    b"?I", b"+T", b"+A", b"-A", b">$", b"+$", b"-$", b">O", b"+O", b"!O", b"~O", b"@O", b"*O",
    b"#O", b"-O", b"XO",
];

fn main() -> ExitCode {
    harness::main(false, |world| {
        let root = world.root;
        vec![
            trial("frames_malformed_and_truncated", frames_malformed_and_truncated),
            trial("frames_with_unknown_codes", frames_with_unknown_codes),
            trial("frames_oversized", frames_oversized),
            trial("frames_random", frames_random),
            trial("requests_with_bad_bodies", requests_with_bad_bodies),
            trial("http_that_is_no_websocket", http_that_is_no_websocket),
            trial("states_over_the_maximum", states_over_the_maximum),
            trial("objects_unknown_and_deleted", objects_unknown_and_deleted),
            trial("pushes_that_are_not_allowed", pushes_that_are_not_allowed),
            trial("somebody_elses_object", somebody_elses_object),
            trial("private_objects", private_objects),
            trial("passwords", passwords),
            trial("user_ids", user_ids),
            trial("a_second_daemon_on_one_home", a_second_daemon_on_one_home),
            trial("a_port_in_use", a_port_in_use),
            trial("config_corrupt_or_unknown", config_corrupt_or_unknown),
            trial("command_lines", command_lines),
            trial("a_database_of_a_newer_version", a_database_of_a_newer_version),
            trial("a_database_that_is_none", a_database_that_is_none),
            trial("an_unreadable_home", move || an_unreadable_home(root)),
        ]
    })
}

fn home() -> Home {
    Home::new(&Place::here())
}

/// Asserts a refusal with this code, and with a text.
fn refused<T: std::fmt::Debug>(what: &str, code: u16, answer: Result<T, Refusal>) {
    match answer {
        Err(Refusal::Nak(found, text)) => {
            assert_eq!(found, code, "{what}: {text}");
            assert!(!text.is_empty(), "{what}: no text");
        }
        other => panic!("{what}: {other:?}"),
    }
}

/// Asserts that a start ended in status 1 or 2, with one of `words` in what it said, and no panic.
fn ended(what: &str, failure: &Failure, words: &[&str]) {
    let status = failure.status.unwrap_or_else(|| panic!("{what}: still running: {failure}"));
    said(what, status.code(), &failure.text, words);
}

fn said(what: &str, status: Option<i32>, text: &str, words: &[&str]) {
    assert!(matches!(status, Some(1 | 2)), "{what}: status {status:?}: {text}");
    let lower = text.to_lowercase();
    assert!(!lower.contains("panicked"), "{what}: {text}");
    for word in words {
        assert!(lower.contains(&word.to_lowercase()), "{what}: no {word:?} in: {text}");
    }
}

fn output_said(what: &str, output: &Output, words: &[&str]) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    said(what, output.status.code(), &String::from_utf8_lossy(&text), words);
}

// --- frames -----------------------------------------------------------------------------------

fn frames_malformed_and_truncated() {
    let mut node = home().start();
    let whoami = message(*b"?I", 7, b"");
    let mut version = whoami.clone();
    version[1] = 1;
    let mut frames: Vec<Message> = (0..6).map(|len| whoami[..len].to_vec()).map(binary).collect();
    frames.extend([binary(version), Message::Text("?I".into()), binary(b"garbage".to_vec())]);
    for frame in frames {
        let witness = node.connect();
        let wire = node.connect();
        wire.send(frame.clone());
        // Dropped with or without its connection; no other connection notices.
        wire.ask(*b"?I", b"");
        assert_eq!(witness.whoami(), node.address(), "after {frame:?}");
    }
    node.assert_serves();
}

fn binary(bytes: Vec<u8>) -> Message {
    Message::Binary(bytes.into())
}

fn frames_with_unknown_codes() {
    let mut node = home().start();
    let wire = node.connect();
    for code in [*b"??", *b"ZZ", [0, 0], [0xFF, 0xFE], *b"^S", *b"^F"] {
        refused("an unknown code", 0, wire.request(code, b"").map(|_| ()));
    }
    // Answers nobody asked for are nothing.
    for code in [*b"AK", *b"NK"] {
        wire.send(binary(message(code, 9, &[1])));
    }
    assert_eq!(wire.whoami(), node.address());
    node.assert_serves();
}

fn frames_oversized() {
    let mut node = home().start();
    let wire = node.connect();
    let mut definition = Definition::new(&vec![7; STATE_MAX + 100_000]);
    refused("0.1 MB above the maximum", IPC_ERROR, wire.make(&definition));
    assert_eq!(wire.whoami(), node.address(), "the connection is kept");
    // Far above, the connection may go, but only this one.
    definition.state = vec![7; 40 << 20];
    let far = node.connect();
    far.ask(*b"+O", &definition.encode());
    assert_eq!(wire.whoami(), node.address());
    drop(far);
    node.assert_serves();
    assert!(node.resident() < 256 << 20, "resident: {} MB", node.resident() >> 20);
}

/// Half of them random through and through, half with a good header and a random body.
fn frames_random() {
    let mut node = home().start();
    let mut wire = node.connect();
    let mut connections = 1;
    for count in 0..10_000 {
        let len = rand::random_range(0..if count % 100 == 0 { 5_000 } else { 300 });
        let noise: Vec<u8> = (0..len).map(|_| rand::random()).collect();
        let frame = if count % 2 == 0 {
            noise
        } else {
            let code = CODES[rand::random_range(0..CODES.len())];
            message(*code, rand::random(), &noise)
        };
        wire.send(binary(frame));
        if count % 50 == 0 && wire.closed() {
            wire = node.connect();
            connections += 1;
        }
    }
    assert!(connections > 1 || !wire.closed(), "{connections} connections");
    // Let the node read what is still on its way.
    wire.closes_within(Duration::from_millis(200));
    node.assert_serves();
    assert!(node.resident() < 256 << 20, "resident: {} MB", node.resident() >> 20);
}

fn requests_with_bad_bodies() {
    let mut node = home().start();
    let wire = node.connect();
    let object = wire.new_object(b"good");
    let algorithm = [&[9][..], &object.0[1..]].concat();
    for code in [b">O", b"~O", b"*O", b"#O", b"-O", b"XO", b"+$"] {
        for body in [&b""[..], &object.0[..64], &algorithm] {
            let what = format!("{} with {} bytes", String::from_utf8_lossy(code), body.len());
            // Nothing to discard is no error.
            match wire.request(*code, body) {
                Ok(_) if code == b"-O" => {}
                answer => refused(&what, IPC_ERROR, answer),
            }
        }
    }
    for (code, body) in [
        (b"+T", &[1; 15][..]),
        (b"+T", &[1; 17]),
        (b"+A", &[0; 64]),
        (b"+A", &[7; 65]),
        (b"-A", &[0; 66]),
        (b"@O", &object.0),
        (b"@O", &[0; 129]),
        (b"+O", &[0; 199]),
        (b"!O", &[0; 199]),
    ] {
        let what = format!("{} with {} bytes", String::from_utf8_lossy(code), body.len());
        refused(&what, IPC_ERROR, wire.request(*code, body));
    }
    let mut link = Definition::new(&object.0);
    link.link = true;
    refused("a link", IPC_ERROR, wire.make(&link));
    let mut version = Definition::new(b"").encode();
    version[0] = 9;
    refused("another version", IPC_ERROR, wire.request(*b"+O", &version));
    assert_eq!(wire.get(object).state, b"good");
    node.assert_serves();
}

fn http_that_is_no_websocket() {
    let mut node = home().start();
    let port = node.port();
    for request in [
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "\r\n\r\n".to_owned(),
        "\0\0\0\0\0\0\0\0\r\n\r\n".to_owned(),
        format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000)),
        format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(10_000)),
        "SSH-2.0-OpenSSH_9.6\r\n".to_owned(),
    ] {
        Place::here().run(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
            let mut stream = stream.expect("the port is open");
            // It may hang up while it is written to.
            let _ = stream.write_all(request.as_bytes()).await;
            let mut answer = [0; 64];
            let read = tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await;
            let len = read.expect("an answer or an end").unwrap_or(0);
            let answer = String::from_utf8_lossy(&answer[..len]).into_owned();
            assert!(!answer.starts_with("HTTP/1.1 101"), "{answer}");
        });
    }
    node.assert_serves();
}

// --- objects ----------------------------------------------------------------------------------

fn states_over_the_maximum() {
    let mut node = home().start();
    let wire = node.connect();
    let largest = vec![b'x'; STATE_MAX];
    let object = wire.make(&Definition::new(&largest)).expect("the largest state");
    assert_eq!(wire.get(object).state.len(), STATE_MAX);
    let more = vec![b'x'; STATE_MAX + 1];
    refused("one byte more, new", IPC_ERROR, wire.make(&Definition::new(&more)));
    refused("one byte more, pushed", IPC_ERROR, wire.try_push(object, &more));
    wire.push(object, b"small again");
    assert_eq!(wire.get(object).state, b"small again");
    node.assert_serves();
}

fn objects_unknown_and_deleted() {
    let mut node = home().start();
    let wire = node.connect();
    let deleted = wire.new_object(b"soon gone");
    wire.done(*b"XO", &deleted.0).expect("a deletion");
    for (what, object) in [("unknown", Address::random()), ("deleted", deleted)] {
        for code in [b">O", b"*O", b"#O", b"XO"] {
            let what = format!("{} of an {what} object", String::from_utf8_lossy(code));
            refused(&what, DOES_NOT_EXIST, wire.request(*code, &object.0));
        }
        refused(
            &format!("a push of an {what} object"),
            DOES_NOT_EXIST,
            wire.try_push(object, b"x"),
        );
        let share = [object.0, Address::random().0].concat();
        refused(&format!("a share of an {what} object"), DOES_NOT_EXIST, wire.done(*b"@O", &share));
        wire.done(*b"-O", &object.0).expect("a discard always works");
    }
    node.assert_serves();
}

fn pushes_that_are_not_allowed() {
    let mut node = home().start();
    let wire = node.connect();
    let mut definition = Definition::new(b"for ever");
    definition.dynamic = false;
    let fixed = wire.make(&definition).expect("a static object");
    refused("a push of a static object", IPC_ERROR, wire.try_push(fixed, b"changed"));
    refused("a frozen static object", IPC_ERROR, wire.request(*b"*O", &fixed.0));
    assert_eq!(wire.get(fixed).state, b"for ever");

    let object = wire.new_object(b"public");
    let mut push = Definition::new(b"private");
    push.address = object;
    push.private = true;
    refused("a public object made private", IPC_ERROR, wire.request(*b"!O", &push.encode()));
    assert_eq!(wire.get(object).state, b"public");
    node.assert_serves();
}

fn somebody_elses_object() {
    let mut alice = home().start();
    let mut bob = home().start();
    let (sender, recipient) = (alice.connect(), bob.connect());
    let mut definition = Definition::new(b"alice's");
    definition.api = fresh_api();
    recipient.register_api(definition.api);
    let object = sender.make(&definition).expect("an object");
    refused("an object never shared", DOES_NOT_EXIST, recipient.try_get(object));
    sender.share(object, bob.address());
    recipient.share_of(object, PATIENCE);
    assert_eq!(recipient.get(object).author, alice.address());
    match recipient.try_push(object, b"bob's") {
        Err(Refusal::Nak(7 | IPC_ERROR, text)) => assert!(!text.is_empty()),
        other => panic!("a push of somebody else's object: {other:?}"),
    }
    refused("a deletion of somebody else's object", IPC_ERROR, recipient.done(*b"XO", &object.0));
    assert_eq!(sender.get(object).state, b"alice's");
    alice.assert_serves();
    bob.assert_serves();
}

fn private_objects() {
    let mut node = home().start();
    let (owner, other) = (node.connect(), node.connect());
    let mut definition = Definition::new(b"secret");
    definition.private = true;
    refused("a private object without a token", IPC_ERROR, owner.make(&definition));
    owner.request(*b"+T", &[0; 16]).expect("a token");
    other.request(*b"+T", &[0; 16]).expect("a token");
    let object = owner.make(&definition).expect("a private object");
    let share = [object.0, node.address().0].concat();
    refused("a shared private object", IPC_ERROR, owner.done(*b"@O", &share));
    for code in [b">O", b"*O", b"#O", b"XO"] {
        let what = format!("{} by another application", String::from_utf8_lossy(code));
        refused(&what, DOES_NOT_EXIST, other.request(*code, &object.0));
    }
    refused("a push by another application", DOES_NOT_EXIST, other.try_push(object, b"x"));
    refused("a share by another application", DOES_NOT_EXIST, other.done(*b"@O", &share));
    assert_eq!(owner.get(object).state, b"secret");
    node.assert_serves();
}

// --- starting ---------------------------------------------------------------------------------

fn passwords() {
    let short = home();
    for password in ["", "\n", "short"] {
        std::fs::write(short.password_file(), password).expect("the folder is ours");
        let failure = short.try_start().expect_err("a password too short");
        ended("a password too short", &failure, &["password"]);
    }
    let missing = home();
    std::fs::remove_file(missing.password_file()).expect("the folder is ours");
    ended("no password file", &missing.try_start().expect_err("no password"), &["password"]);

    let account = home();
    let object = {
        let node = account.start();
        let object = node.connect().new_object(b"kept");
        node.stop();
        object
    };
    let right = std::fs::read(account.password_file()).expect("the file is there");
    std::fs::write(account.password_file(), "not the password at all").expect("ours");
    ended("a wrong password", &account.try_start().expect_err("a wrong password"), &["password"]);
    std::fs::write(account.password_file(), right).expect("ours");
    let mut node = account.start();
    assert_eq!(node.connect().get(object).state, b"kept");
    node.assert_serves();
}

fn user_ids() {
    let home = home();
    for id in ["nonsense", "AQAAA", "", &Address::random().text()[1..]] {
        let mut command = home.start_command();
        let output = command.args(["--user-id", id]).output().expect("the binary runs");
        output_said("a malformed user id", &output, &["user"]);
    }
}

fn a_second_daemon_on_one_home() {
    let home = home();
    let mut first = home.start();
    let failure = home.try_start().expect_err("a second daemon");
    ended("a second daemon", &failure, &["running"]);
    first.assert_serves();
    // On another port it is the same home all the same.
    let output = home
        .command(&["start", "app", "--foreground", "--password-file"])
        .arg(home.password_file())
        .args(["--ipc-port", "0"])
        .output()
        .expect("the binary runs");
    output_said("a second daemon on another port", &output, &["running"]);
    first.assert_serves();
}

fn a_port_in_use() {
    let one = home();
    let two = Home::with_port(&Place::here(), one.port());
    let mut first = one.start();
    let failure = two.try_start().expect_err("a port in use");
    let port = one.port().to_string();
    // Which port, and what to do about it.
    ended("a port in use", &failure, &[&port, "in use", "--ipc-port"]);
    first.assert_serves();
}

fn config_corrupt_or_unknown() {
    let home = home();
    home.start().stop();
    let path = home.path().join("hypergolix.json");
    let good = std::fs::read_to_string(&path).expect("the first start writes a config");
    serde_json::from_str::<serde_json::Value>(&good).expect("the config is JSON");

    let lines: Vec<&str> = good.lines().collect();
    assert!(lines.len() > 2, "a config for people has lines: {good}");
    let mut corrupt = lines.clone();
    corrupt[1] = "  \"this is\" not JSON,";
    std::fs::write(&path, corrupt.join("\n")).expect("ours");
    for words in [&["config", "--show"][..], &["config", "--whoami"]] {
        output_said("a corrupt config", &home.run(words), &["line 2", "hypergolix.json"]);
    }
    ended("a corrupt config", &home.try_start().expect_err("a corrupt config"), &["line 2"]);

    let mut unknown = lines.clone();
    let key = "  \"colour_of_the_sky\": \"blue\",";
    unknown.insert(1, key);
    std::fs::write(&path, unknown.join("\n")).expect("ours");
    let failure = home.try_start().expect_err("an unknown key");
    ended("an unknown key", &failure, &["colour_of_the_sky"]);

    for content in ["", "[]", "null", "{", "\0\u{1}"] {
        std::fs::write(&path, content).expect("ours");
        let failure = home.try_start().expect_err("no config");
        ended(&format!("config {content:?}"), &failure, &["hypergolix.json"]);
    }
    std::fs::write(&path, &good).expect("ours");
    home.start().assert_serves();
}

fn command_lines() {
    let home = home();
    for (words, said) in [
        (&["strat", "app"][..], "strat"),
        (&["start"], "app"),
        (&["start", "app", "--colour", "blue"], "--colour"),
        (&["start", "app", "--ipc-port", "99999"], "99999"),
        (&["start", "app", "--ipc-port", "many"], "many"),
        (&["config", "--verbosity", "whispering"], "whispering"),
        (&["config", "--addhost", "example.org"], "addhost"),
        (&["config", "--addhost", "example.org", "port", "True"], "port"),
        (&["config", "--addhost", "example.org", "7770", "Maybe"], "maybe"),
        (&["config", "--only", "local", "--add", "hgx"], "--add"),
        (&["config", "--add", "nowhere"], "nowhere"),
        (&["config", "--debug", "--no-debug"], "--no-debug"),
        (&["stop", "app"], "running"),
        (&["status"], "running"),
    ] {
        output_said(&words.join(" "), &home.run(words), &[said]);
    }
    home.start().assert_serves();
}

/// The file in a home that is a redb database.
fn database(home: &Home) -> PathBuf {
    let mut folders = vec![home.path()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("the home is readable").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read(&path).is_ok_and(|bytes| bytes.starts_with(b"redb")) {
                return path;
            }
        }
    }
    panic!("no database in the home");
}

/// Writes the format version that `docs/store.md` describes: a row that no version moves.
fn a_database_of_a_newer_version() {
    const STORE: redb::TableDefinition<&[u8], &[u8]> = redb::TableDefinition::new("store");
    let home = home();
    home.start().stop();
    let path = database(&home);
    let with_format = |format: u32| {
        // SipHash-1-3 under a key of zeros is what the standard library happens to use.
        let mut checksum = std::hash::DefaultHasher::new();
        checksum.write(&[255]);
        checksum.write(&6_u64.to_be_bytes());
        checksum.write(b"format");
        checksum.write(&format.to_be_bytes());
        let row = [&checksum.finish().to_be_bytes()[..], &format.to_be_bytes()].concat();
        let file = redb::Database::open(&path).expect("the node has let go of it");
        let transaction = file.begin_write().expect("a transaction");
        let mut table = transaction.open_table(STORE).expect("the store's own table");
        let old =
            table.insert(&b"format"[..], &row[..]).expect("a row").map(|old| old.value().to_vec());
        drop(table);
        transaction.commit().expect("a commit");
        (row, old.expect("the row was there"))
    };
    let (_, old) = with_format(99);
    let format = u32::from_be_bytes(old[8..].try_into().expect("4 bytes"));
    let failure = home.try_start().expect_err("a newer database");
    ended("a database of a newer version", &failure, &["newer", "99"]);
    let (new, _) = with_format(format);
    assert_eq!(new, old, "the row is described as it is");
    home.start().assert_serves();
}

fn a_database_that_is_none() {
    let home = home();
    home.start().stop();
    let path = database(&home);
    let good = std::fs::read(&path).expect("readable");
    for bad in [&b""[..], b"not a database", &good[..good.len() / 2]] {
        std::fs::write(&path, bad).expect("ours");
        let failure = home.try_start().expect_err("no database");
        let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name");
        ended("no database", &failure, &[name]);
    }
    std::fs::write(&path, good).expect("ours");
    home.start().assert_serves();
}

/// As root nothing is unreadable: then a user without rights tries, where that is possible.
fn an_unreadable_home(root: bool) {
    let home = home();
    let folder = home.path();
    let file = home.beside("file");
    std::fs::write(&file, "not a folder").expect("ours");
    let output = home
        .start_command()
        .env("HYPERGOLIX_HOME", file.join("below"))
        .output()
        .expect("the binary runs");
    output_said("a home below a file", &output, &["file"]);

    set_mode(&folder, 0o000);
    let output = if root {
        set_mode(folder.parent().expect("it has one"), 0o755);
        set_mode(&home.password_file(), 0o644);
        let binary = harness::binary();
        // Where nobody may even run the binary there is nothing to see.
        let runs = Place::here()
            .command("setpriv")
            .args(["--reuid", "65534", "--clear-groups"])
            .arg(binary)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .is_ok_and(|output| output.status.success());
        if !runs {
            eprintln!("SKIPPED: nobody may not run {}", binary.display());
            set_mode(&folder, 0o700);
            return;
        }
        Place::here()
            .command("setpriv")
            .args(["--reuid", "65534", "--clear-groups"])
            .arg(binary)
            .args(["start", "app", "--foreground", "--password-file"])
            .arg(home.password_file())
            .env("HYPERGOLIX_HOME", &folder)
            .stdin(Stdio::null())
            .output()
            .expect("the binary runs")
    } else {
        home.start_command().output().expect("the binary runs")
    };
    output_said("an unreadable home", &output, &[&folder.display().to_string()]);
    set_mode(&folder, 0o700);
    home.start().assert_serves();
}
