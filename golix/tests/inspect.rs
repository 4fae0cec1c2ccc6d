//! The example `inspect`, as a person runs it: on objects of both suites, and on broken ones.

#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "it runs a program")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use data_encoding::{BASE64, HEXLOWER};
use golix::object::{
    Container, Debinding, DynamicBinding, Request, RequestBody, StaticBinding, Verified,
};
use golix::{Ghid, PrivateIdentity, Secret, Suite};

/// `cargo test` builds the examples before the tests, beside them; `cargo test --test inspect` does not.
static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
    let tests = std::env::current_exe().unwrap();
    let profile = tests.parent().and_then(Path::parent).expect("target/PROFILE/deps");
    let program = profile.join("examples").join("inspect");
    if !program.exists() {
        let arguments = ["build", "--quiet", "--package", "golix", "--example", "inspect"];
        let built = Command::new(env!("CARGO")).args(arguments).status().unwrap();
        assert!(built.success() && program.exists(), "{} is missing", program.display());
    }
    program
});

fn run(arguments: &[&Path], input: &[u8]) -> Output {
    let mut child = Command::new(&*PROGRAM)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it has read all.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Exit status, and all that it said.
fn say(arguments: &[&Path], input: &[u8]) -> (i32, String) {
    let output = run(arguments, input);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("inspect-{name}"));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn people(suite: Suite) -> [PrivateIdentity; 2] {
    match suite {
        Suite::Suite1 => {
            let text = include_str!("vectors/golix-negative.json");
            let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
            let identities = vectors["identities"].as_object().unwrap();
            let mut people = identities.values().take(2).map(|it| {
                let text = |key: &str, field: &str| it[key][field].as_str().unwrap().as_bytes();
                let rsa = |key| BASE64.decode(text(key, "pkcs8_der_b64")).unwrap();
                let exchange = HEXLOWER.decode(text("exchange", "private")).unwrap();
                let exchange = exchange.try_into().unwrap();
                let (signature, encryption) = (rsa("signature"), rsa("encryption"));
                PrivateIdentity::from_suite1_keys(&signature, &encryption, exchange).unwrap()
            });
            [people.next().unwrap(), people.next().unwrap()]
        }
        Suite::Suite3 => [1, 2].map(|seed| {
            let [a, b, c] = [seed, seed + 100, seed + 200].map(|seed| [seed; 32]);
            PrivateIdentity::from_seeds(suite, a, b, c)
        }),
    }
}

fn objects(me: &PrivateIdentity, you: &PrivateIdentity) -> Vec<(&'static str, Verified)> {
    let secret = Secret::new(me.suite(), [7; 32], [8; 16]);
    let container = Container::seal(me, &secret, [9; 32], b"attack at dawn");
    let (target, body) = (container.ghid(), RequestBody::Arbitrary(b"hello".to_vec()));
    vec![
        ("encrypted container", container),
        ("static binding", StaticBinding::make(me, target)),
        ("frame of a dynamic binding", DynamicBinding::first(me, target)),
        ("debinding", Debinding::make(me, target)),
        ("request", Request::seal(me, you.identity(), &body, [10; 64]).unwrap()),
    ]
}

#[test]
fn objects_of_both_suites() {
    for suite in Suite::ALL {
        let folder = Folder::new(&format!("suite{}", suite.code()));
        let [alice, bob] = people(suite);
        let alices = folder.file("alice", &alice.identity().encode());
        let bobs = folder.file("bob", &bob.identity().encode());
        let (status, text) = say(&[&alices], b"");
        assert!(
            status == 0 && text.contains("GIDC") && text.contains("verifies       yes"),
            "{text}"
        );
        assert!(text.contains(&alice.ghid().to_string()), "{text}");

        for (name, object) in objects(&alice, &bob) {
            let file = folder.file(name, object.bytes());
            let (status, text) = say(&[&file, &bobs, &alices], b"");
            assert_eq!(status, 0, "{text}");
            for part in
                [name, &object.ghid().to_string(), &format!("{} bytes", object.bytes().len())]
            {
                assert!(text.contains(part), "no {part} in {text}");
            }
            // Who signed it, if anybody.
            let Some(author) = object.author() else { continue };
            assert!(text.contains(&author.to_string()) && text.contains("signed it"), "{text}");
            let (status, text) = say(&[&file, &bobs], b"");
            assert!(status == 2 && text.contains("AUTHOR_UNKNOWN"), "{text}");

            let mut forged = object.bytes().to_vec();
            *forged.last_mut().unwrap() ^= 1;
            let (status, text) = say(&[&folder.file("forged", &forged), &alices], b"");
            assert!(status == 1 && text.contains("SIGNATURE"), "{text}");
        }
    }
}

#[test]
fn what_is_broken_is_named() {
    let folder = Folder::new("broken");
    let [alice, bob] = people(Suite::Suite3);
    let container = objects(&alice, &bob).remove(0).1.bytes().to_vec();
    let edit = |at: usize, value: u8| {
        let mut bytes = container.clone();
        bytes[at] = value;
        bytes
    };
    for (rule, bytes) in [
        ("MAGIC", edit(0, b'X')),
        ("VERSION", edit(7, 15)),
        ("SUITE", edit(8, 2)),
        ("GHID_ALGO", edit(9, 0)),
        ("LENGTH", edit(74, 1)),
        ("HASH", edit(90, !container[90])),
        ("TRUNCATED", container[..100].to_vec()),
        ("TRAILING", [&container[..], b"x"].concat()),
        ("MAGIC", b"nothing at all!".to_vec()),
        ("MAGIC", Vec::new()),
        ("TRAILING", [&Secret::new(Suite::Suite3, [1; 32], [2; 16]).to_bytes()[..], b"x"].concat()),
        ("KEY_EXC", {
            let mut bytes = alice.to_bytes().to_vec();
            bytes.copy_within(37..69, 69);
            bytes
        }),
    ] {
        let (status, text) = say(&[&folder.file("broken", &bytes)], b"");
        assert!(status == 1 && text.contains(&format!("({rule})")), "{rule}: {text}");
    }
    let missing = folder.0.join("missing");
    let (status, text) = say(&[&missing], b"");
    assert!(status == 1 && text.contains("missing: "), "{text}");
    let (status, text) = say(&[&folder.file("good", &container), &folder.file("no", b"no")], b"");
    assert!(status == 1 && text.contains("no identity"), "{text}");
    let (status, text) = say(&[], b"");
    assert!(status == 1 && text.starts_with("usage: "), "{text}");
}

#[test]
fn texts_and_standard_input() {
    let [alice, bob] = people(Suite::Suite3);
    let folder = Folder::new("texts");
    let alices = folder.file("alice", BASE64.encode(&alice.identity().encode()).as_bytes());
    let binding = objects(&alice, &bob).remove(1).1;
    let wrapped = |text: String| {
        let lines: Vec<_> = text.as_bytes().chunks(64).map(<[u8]>::to_vec).collect();
        [lines.join(&b'\n'), b"\n".to_vec()].concat()
    };
    for text in [HEXLOWER.encode(binding.bytes()), BASE64.encode(binding.bytes())] {
        let (status, text) = say(&[Path::new("-"), &alices], &wrapped(text));
        assert!(status == 0 && text.contains("its binder signed it"), "{text}");
    }
    let address = Ghid::of(b"something");
    let (status, text) = say(&[Path::new("-")], format!("{address}\n").as_bytes());
    assert!(status == 0 && text.contains(&address.short()), "{text}");
}

#[test]
fn secrets_are_not_shown() {
    let [alice, _] = people(Suite::Suite3);
    let secret = Secret::new(Suite::Suite1, [0xab; 32], [0xcd; 16]);
    let (status, text) = say(&[Path::new("-")], &secret.to_bytes());
    assert!(status == 0 && text.contains("secret, 53 bytes"), "{text}");
    assert!(!text.contains("abab") && !text.contains("cdcd"), "{text}");
    let (status, text) = say(&[Path::new("-")], &alice.to_bytes());
    assert!(status == 0 && text.contains(&alice.ghid().to_string()), "{text}");
    assert!(!text.contains("0101"), "{text}");
}
