//! One account on several machines, with real processes.

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use hypergolix_tests::harness::{self, trial};
use hypergolix_tests::namespaces::{Lan, Place};
use hypergolix_tests::process::{Failure, Home, Node};
use hypergolix_tests::wait::wait_until;
use hypergolix_tests::wire::{Address, Wire};

const SOON: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    harness::main(false, |_| {
        vec![
            trial("a_second_machine_logs_in_on_the_lan", || a_second_machine_logs_in_on_the_lan(3)),
            trial("a_second_machine_logs_in_on_the_lan_suite_1", || {
                a_second_machine_logs_in_on_the_lan(1);
            }),
            trial("both_machines_write", || both_machines_write(3)),
            trial("both_machines_write_suite_1", || both_machines_write(1)),
            trial("who_may_not_log_in", who_may_not_log_in),
            trial("another_password", || another_password(3)),
            trial("another_password_suite_1", || another_password(1)),
            trial("a_backup_that_is_old", || a_backup_that_is_old(3)),
            trial("a_backup_that_is_old_suite_1", || a_backup_that_is_old(1)),
            trial("what_is_no_backup", what_is_no_backup),
        ]
    })
}

/// The command that logs into `account` on another home.
fn login(home: &Home, account: &str) -> Command {
    let mut command = home.start_command();
    command.args(["--user-id", account]);
    command
}

fn joined(home: &Home, account: &str) -> Node {
    Node::launch(home, login(home, account))
        .unwrap_or_else(|failure| panic!("the login failed: {failure}"))
}

fn state(wire: &Wire, object: Address) -> Option<Vec<u8>> {
    wire.try_get(object).ok().map(|definition| definition.state)
}

fn eventually(wire: &Wire, object: Address, expected: &[u8]) {
    wait_until("the state arrives", SOON, || state(wire, object).as_deref() == Some(expected));
}

fn a_second_machine_logs_in_on_the_lan(suite: u8) {
    let mut lan = Lan::new();
    let first = Home::new(&lan.host()).start_with_suite(suite);
    let wire = first.connect();
    let token = wire.request(*b"+T", &[0; 16]).expect("a token");
    let object = wire.new_object(b"made on the first");
    wire.push(object, b"newer");
    wire.done(*b"+$", &object.0).expect("a startup object");

    let second = joined(&Home::new(&lan.host()), first.fact("user-id"));
    assert_eq!(second.fingerprint(), first.fingerprint());
    let there = second.connect();
    eventually(&there, object, b"newer");
    let other = second.connect();
    wait_until("the token is known", SOON, || other.request(*b"+T", &token).is_ok());
    assert_eq!(other.request(*b">$", b"").expect("a startup object"), object.0);
    // The account stays on this machine, with or without the first.
    let (home, pid) = (second.home().clone(), first.pid());
    first.stop();
    second.stop();
    let again = home.start();
    eventually(&again.connect(), object, b"newer");
    assert_ne!(again.pid(), pid);
}

fn both_machines_write(suite: u8) {
    let mut lan = Lan::new();
    let (here, there) = (lan.host(), lan.host());
    let first = Home::new(&here).start_with_suite(suite);
    let wire = first.connect();
    let object = wire.new_object(b"0");
    let second = joined(&Home::new(&there), first.fact("user-id"));
    let far = second.connect();
    eventually(&far, object, b"0");
    far.push(object, b"1");
    wire.update(object, b"1", SOON);
    wire.push(object, b"2");
    far.update(object, b"2", SOON);
    // Apart, both write.
    there.unplug();
    wire.push(object, b"of the first");
    far.push(object, b"of the second");
    there.plug();
    let mut winner = Vec::new();
    wait_until("both agree", Duration::from_secs(40), || {
        let (one, other) = (state(&wire, object), state(&far, object));
        winner = one.clone().unwrap_or_default();
        one == other && one.is_some()
    });
    let lost = |wire: &Wire| wire.request(*b"?L", b"").expect("lost states");
    let loser = if winner == b"of the first" { &far } else { &wire };
    let expected: &[u8] =
        if winner == b"of the first" { b"of the second" } else { b"of the first" };
    wait_until("what lost is reported", SOON, || lost(loser).ends_with(expected));
}

fn refused(failure: Result<Node, Failure>, words: &[&str]) {
    let Err(failure) = failure else { panic!("it started") };
    assert_eq!(failure.status.and_then(|status| status.code()), Some(1), "{failure}");
    for word in words {
        assert!(failure.text.contains(word), "no {word:?} in: {failure}");
    }
}

fn who_may_not_log_in() {
    let mut lan = Lan::new();
    let first = Home::new(&lan.host()).start();
    let home = Home::new(&lan.host());
    std::fs::write(home.password_file(), "not the right password\n").expect("a file");
    refused(Node::launch(&home, login(&home, first.fact("user-id"))), &["wrong password"]);
    assert!(!home.path().join("store.redb").exists(), "nothing was written");
    // Asked for an account of another suite, it writes nothing either.
    let right = std::fs::read_to_string(first.home().password_file()).expect("a file");
    std::fs::write(home.password_file(), right).expect("a file");
    let mut other_suite = login(&home, first.fact("user-id"));
    other_suite.args(["--suite", "1"]);
    refused(Node::launch(&home, other_suite), &["is of suite 3"]);
    assert!(!home.path().join("store.redb").exists(), "nothing was written");
    // Somebody else's address, and nobody's.
    let nobody = login(&home, first.fingerprint());
    refused(Node::launch(&home, nobody), &["no device or server", "check the user id"]);
}

fn hypergolix(home: &Home, words: &[&str], input: &str) -> (bool, String) {
    use std::io::Write as _;
    let mut child = home
        .command(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("piped");
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn another_password(suite: u8) {
    let home = Home::new(&Place::here());
    let old = std::fs::read_to_string(home.password_file()).expect("a password");
    let old = old.trim_end();
    let node = home.start_with_suite(suite);
    let fingerprint = node.fingerprint().to_owned();
    let (done, text) = hypergolix(&home, &["account", "password"], "a\nb\n");
    assert!(!done && text.contains("already running"), "{text}");
    node.stop();
    for (input, word) in [
        ("not the password\nanother good password\n".to_owned(), "wrong password"),
        (format!("{old}\nshort\n"), "8 characters"),
        (format!("{old}\n"), "empty"),
    ] {
        let (done, text) = hypergolix(&home, &["account", "password"], &input);
        assert!(!done && text.contains(word), "{word}: {text}");
    }
    let input = format!("{old}\nanother good password\n");
    let (done, text) = hypergolix(&home, &["account", "password"], &input);
    assert!(done && text.contains("the password was changed"), "{text}");
    refused(home.try_start(), &["wrong password"]);
    std::fs::write(home.password_file(), "another good password\n").expect("a file");
    let node = home.start();
    assert_eq!(node.fingerprint(), fingerprint);
}

fn a_backup_that_is_old(suite: u8) {
    let mut lan = Lan::new();
    let place = lan.host();
    let home = Home::new(&place);
    let node = home.start_with_suite(suite);
    let wire = node.connect();
    let object = wire.new_object(b"0");
    let still = wire.new_object(b"unchanged");
    drop(wire);
    node.stop();
    let backup = home.beside("backup");
    let backup = backup.to_str().expect("text");
    let (done, text) = hypergolix(&home, &["account", "export", backup], "");
    assert!(done, "{text}");
    let (done, text) = hypergolix(&home, &["account", "export", backup], "");
    assert!(!done && text.contains("exists"), "a backup is not written over: {text}");

    // A month goes by.
    let node = home.start();
    let wire = node.connect();
    for number in 1..40_u8 {
        wire.push(object, &[number]);
    }
    // The backup comes back on another machine, and writes before it hears of anything.
    let far = lan.host();
    far.unplug();
    let restored = Home::new(&far);
    let (done, text) = hypergolix(&restored, &["account", "import", backup], "");
    assert!(done && text.contains(node.fingerprint()), "{text}");
    std::fs::copy(home.password_file(), restored.password_file()).expect("the same password");
    let second = restored.start();
    let there = second.connect();
    there.push(object, b"pushed at once");
    there.push(still, b"changed");
    far.plug();
    // What had moved on stays where it is; what was written at once is kept; the rest arrives.
    eventually(&there, object, &[39]);
    eventually(&wire, still, b"changed");
    assert_eq!(state(&wire, object).as_deref(), Some(&[39][..]));
    let lost = there.request(*b"?L", b"").expect("lost states");
    assert!(lost.ends_with(b"pushed at once"), "{lost:?}");
    let (done, text) = hypergolix(&restored, &["account", "import", backup], "");
    assert!(!done && text.contains("already"), "{text}");
}

fn what_is_no_backup() {
    let home = Home::new(&Place::here());
    home.start().stop();
    let backup = home.beside("backup");
    let (done, text) =
        hypergolix(&home, &["account", "export", backup.to_str().expect("text")], "");
    assert!(done, "{text}");
    let good = std::fs::read(&backup).expect("a backup");
    let other = Home::new(&Place::here());
    let damaged = other.beside("damaged");
    for at in [10, 11, 100, good.len() / 2, good.len() - 1] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        std::fs::write(&damaged, bytes).expect("a file");
        let words = ["account", "import", damaged.to_str().expect("text")];
        let (done, text) = hypergolix(&other, &words, "");
        assert!(!done && (text.contains("damaged") || text.contains("is no")), "{at}: {text}");
        std::fs::write(&damaged, &good[..at]).expect("a file");
        let (done, text) = hypergolix(&other, &words, "");
        assert!(!done && (text.contains("damaged") || text.contains("is no")), "{at}: {text}");
    }
    assert!(!other.path().join("store.redb").exists());
}
