//! `hypergolix account import`, from outside: an identity of the original library moves in.

#![allow(missing_docs)]

mod daemon;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use daemon::{Home, Said};
use serde_json::{Value, json};

const SECRET: &str = "correct horse battery staple";

/// An identity of the vectors, as golix 0.1.6 saves it, in JSON.
fn keys(name: &str) -> (Value, String) {
    let text = include_str!("../../golix/tests/vectors/golix-suite1.json");
    let vectors: Value = serde_json::from_str(text).expect("vectors");
    let found = &vectors["identities"][name];
    let fingerprint = found["ghid_str"].as_str().expect("text").to_owned();
    let keys = json!({
        "ghid": fingerprint,
        "signature": found["signature"]["pkcs8_der_b64"],
        "encryption": found["encryption"]["pkcs8_der_b64"],
        "exchange": found["exchange"]["private"],
    });
    (keys, fingerprint)
}

fn write(home: &Home, text: &str) -> PathBuf {
    let path = home.file("../keys.json");
    fs::write(&path, text).expect("a file");
    path
}

fn import(home: &Home, keys: &Path, password: &str) -> Said {
    home.run(&["account", "import", &keys.to_string_lossy()], password)
}

fn refused(said: &Said, word: &str) {
    assert_eq!(said.status, Some(1), "{said:?}");
    assert!(said.text.contains(word) && !said.text.contains("panicked"), "{word}: {said:?}");
}

#[test]
fn the_identity_keeps_its_fingerprint_and_works() {
    let home = Home::new();
    let (keys, fingerprint) = keys("alice");
    let file = write(&home, &keys.to_string());
    let said = import(&home, &file, SECRET);
    assert_eq!(said.status, Some(0), "{said:?}");
    assert!(said.out.contains(&format!("fingerprint={fingerprint}")), "{said:?}");
    assert!(said.text.contains("recovery key"), "{said:?}");
    assert!(!said.text.contains(SECRET), "{said:?}");

    let daemon = home.start(SECRET).expect("it starts");
    assert_eq!(daemon.fact("fingerprint"), fingerprint);
    daemon.stop();
    // Once is enough.
    refused(&import(&home, &file, SECRET), "has an account already");
}

#[test]
fn a_pipe_is_as_good_as_a_file() {
    let home = Home::new();
    let (keys, fingerprint) = keys("alice");
    let password = home.file("../password");
    fs::write(&password, SECRET).expect("a file");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("ours");
    let password = password.display().to_string();
    let words = ["account", "import", "/dev/stdin", "--password-file", &password];
    home.run(&words, &keys.to_string()).expect(0, &[&fingerprint]);
    // And a backup of it.
    let file = home.file("../backup").display().to_string();
    home.run(&["account", "export", &file], "").expect(0, &["exported"]);
    let other = Home::new();
    let words = ["-c", "cat \"$1\" | \"$0\" account import /dev/stdin"];
    let mut command = std::process::Command::new("sh");
    command.args(words).args([env!("CARGO_BIN_EXE_hypergolix"), &file]);
    command.env("HYPERGOLIX_HOME", other.path());
    Said::from(command.output().expect("it runs")).expect(0, &["restored", &fingerprint]);
}

#[test]
fn what_is_no_set_of_keys_is_refused_and_changes_nothing() {
    let home = Home::new();
    let (alice, _) = keys("alice");
    let (bob, _) = keys("bob");
    let with = |name: &str, value: Value| {
        let mut keys = alice.clone();
        keys[name] = value;
        keys.to_string()
    };
    let without = |name: &str| {
        let mut keys = alice.clone();
        keys.as_object_mut().expect("an object").remove(name);
        keys.to_string()
    };
    let cases = [
        (String::new(), "should be a JSON object"),
        ("[1, 2]".to_owned(), "should be a JSON object"),
        (without("exchange"), "\"exchange\" is missing"),
        (with("exchange", json!("00ff")), "2 bytes long, not 32"),
        (with("signature", json!("%%%")), "neither base64 nor hexadecimal"),
        (with("signature", json!("AAAA")), "signature"),
        (with("encryption", bob["encryption"].clone()), "keys of different identities"),
        (with("ghid", bob["ghid"].clone()), "keys of different identities"),
        (with("encryption", alice["signature"].clone()), "encryption"),
    ];
    for (text, word) in cases {
        let file = write(&home, &text);
        refused(&import(&home, &file, SECRET), word);
    }
    refused(&import(&home, &home.file("nowhere.json"), SECRET), "cannot be read");
    assert!(!home.file("store.redb").exists());
    // And a password that is too short.
    let file = write(&home, &alice.to_string());
    refused(&import(&home, &file, "short"), "too short");
    assert_eq!(import(&home, &file, SECRET).status, Some(0));
}
