//! The object API from a shell, between two users.

use std::io::Write as _;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use hypergolix_tests::harness::{self, trial};
use hypergolix_tests::namespaces::Place;
use hypergolix_tests::process::Home;
use hypergolix_tests::wait::{wait_for, wait_until};
use serde_json::Value;

/// How long something may take that crosses a link.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    harness::main(false, |_| {
        vec![
            trial("an_object_from_its_creation_to_its_end", an_object_from_its_creation_to_its_end),
            trial("long_lists", long_lists),
            trial("what_cannot_be_done", what_cannot_be_done),
        ]
    })
}

/// Runs a command with `input`: what it printed and what it complained of.
fn shell(home: &Home, words: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
    let mut child = home
        .command(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // A command that refuses its words reads nothing.
    let _ = child.stdin.take().expect("piped").write_all(input);
    let output = child.wait_with_output().expect("it ends");
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The same, with text for an answer that has to come.
fn text(home: &Home, words: &[&str], input: &[u8]) -> String {
    let answer = shell(home, words, input).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    String::from_utf8(answer).expect("text").trim_end().to_owned()
}

fn listed(home: &Home) -> Vec<Value> {
    let list = text(home, &["ls", "--json"], b"");
    serde_json::from_str(&list).expect("a list")
}

fn an_object_from_its_creation_to_its_end() {
    let [alice, bob] = [Home::new(&Place::here()), Home::new(&Place::here())];
    let [alice_runs, bob_runs] = [alice.start(), bob.start()];
    assert_eq!(text(&alice, &["ls"], b""), "");

    // Any bytes, from standard input or a file.
    let bytes: Vec<u8> = (0..=255).collect();
    let object = text(&alice, &["put"], &bytes);
    assert_eq!(shell(&alice, &["get", &object], b"").as_deref(), Ok(&bytes[..]));
    let file = alice.beside("a file");
    std::fs::write(&file, b"{\"fixed\": true}").expect("the folder is ours");
    let file = file.to_str().expect("text");
    let fixed = text(&alice, &["put", "--static", "--api", "json", file], b"");
    let list = listed(&alice);
    assert_eq!(list.len(), 2);
    for (address, bytes, dynamic) in [(&object, 256, true), (&fixed, 15, false)] {
        let entry = list.iter().find(|entry| entry["address"] == **address).expect("it is listed");
        assert_eq!(entry["bytes"], bytes);
        assert_eq!((&entry["dynamic"], &entry["mine"]), (&dynamic.into(), &true.into()));
        assert_eq!(entry["creator"], alice_runs.fingerprint());
    }
    assert!(text(&alice, &["ls"], b"").contains("static, json"));

    // Somebody else waits for it, reads it and every state after.
    let wait = |words: &[&str]| {
        bob.command(words).stdout(Stdio::piped()).spawn().expect("the binary runs")
    };
    let shares = wait(&["watch", "--count", "1"]);
    text(&alice, &["share", &object, bob_runs.fingerprint()], b"");
    let told = shares.wait_with_output().expect("it ends");
    assert_eq!(
        String::from_utf8_lossy(&told.stdout).trim_end(),
        format!("{object} from {}", alice_runs.fingerprint())
    );
    assert_eq!(shell(&bob, &["get", &object], b"").as_deref(), Ok(&bytes[..]));
    let facts: Value = serde_json::from_str(&text(&bob, &["get", &object, "--json"], b"")).unwrap();
    assert_eq!(
        (&facts["mine"], &facts["creator"]),
        (&false.into(), &alice_runs.fingerprint().into())
    );
    let watch = wait(&["watch", &object]);
    // When it watches is not told, only that it is connected: the first states may be too early.
    wait_until("the watcher", PATIENCE, || bob_runs.status()["applications"] == 1);
    for state in [&b"one"[..], b"two", b"three"] {
        text(&alice, &["put", "--to", &object], state);
        wait_for("the new state", PATIENCE, || {
            (shell(&bob, &["get", &object], b"").ok()? == state).then_some(())
        });
    }
    let refused = shell(&bob, &["put", "--to", &object], b"mine").unwrap_err();
    assert!(refused.contains("belongs to somebody else"), "{refused}");

    text(&alice, &["rm", &object], b"");
    let watched = watch.wait_with_output().expect("it ends with the object");
    let watched = String::from_utf8_lossy(&watched.stdout).into_owned();
    assert!("one\ntwo\nthree\n".ends_with(&watched) && !watched.is_empty(), "{watched}");
    for home in [&alice, &bob] {
        assert!(shell(home, &["get", &object], b"").is_err());
    }
    assert_eq!(text(&alice, &["ls"], b"").lines().filter(|line| line.contains(&fixed)).count(), 1);
    for home in [&alice, &bob] {
        assert!(listed(home).iter().all(|entry| entry["address"] != *object));
    }
}

fn long_lists() {
    let home = Home::new(&Place::here());
    let node = home.start();
    let wire = node.connect();
    let mut made: Vec<String> =
        (0..300_u32).map(|number| wire.new_object(&number.to_be_bytes()).text()).collect();
    made.sort();
    let mut listed: Vec<String> = listed(&home)
        .iter()
        .map(|entry| entry["address"].as_str().expect("an address").to_owned())
        .collect();
    listed.sort();
    assert_eq!(listed, made);
    assert_eq!(text(&home, &["ls"], b"").lines().count(), 300);
}

fn what_cannot_be_done() {
    let home = Home::new(&Place::here());
    for words in [&["ls"][..], &["put"], &["watch"]] {
        let refused = shell(&home, words, b"").unwrap_err();
        assert!(refused.contains("start it with 'hypergolix start app'"), "{words:?}: {refused}");
    }
    let node = home.start();
    let unknown = node.fingerprint().to_owned();
    for words in [
        &["get", &unknown][..],
        &["rm", &unknown],
        &["watch", &unknown],
        &["put", "--to", &unknown],
        &["share", &unknown, &unknown],
        &["put", "/nowhere/at all"],
    ] {
        let refused = shell(&home, words, b"").unwrap_err();
        assert_eq!(refused.lines().count(), 1, "{words:?}: {refused}");
        assert!(refused.starts_with("hypergolix: "), "{words:?}: {refused}");
    }
    let refused = shell(&home, &["put"], &vec![0; 11 << 20]).unwrap_err();
    assert!(refused.contains("more than an object can hold"), "{refused}");
    for words in
        [&["get", "nonsense"][..], &["put", "--api", "xml"], &["put", "--static", "--to", &unknown]]
    {
        let status = home.run(words).status;
        assert_eq!(status.code(), Some(2), "{words:?}");
    }
}
