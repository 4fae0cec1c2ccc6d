//! Runs every file under `vectors/` by its shape: valid objects must come out byte for byte and say
//! what the file says, broken ones must be refused by the rule they are named for.
//!
//! `cargo test -p golix --test vectors -- --nocapture` shows how many of each there were.

mod vector_files;

use vector_files::{negative, original, own};

#[test]
fn every_file_has_a_known_shape() {
    assert!(!vector_files::files().is_empty());
}

#[test]
fn own_identities() {
    own::identities();
}

#[test]
fn own_secrets_and_chains() {
    own::secrets_and_chains();
}

#[test]
fn own_containers() {
    own::containers();
}

#[test]
fn own_bindings() {
    own::bindings();
}

#[test]
fn own_requests() {
    own::requests();
}

#[test]
fn own_negatives() {
    own::negatives();
}

#[test]
fn original_identities() {
    original::identities();
}

#[test]
fn original_addresses_and_secrets() {
    original::addresses_and_secrets();
}

#[test]
fn original_containers() {
    original::containers();
}

#[test]
fn original_bindings() {
    original::bindings();
}

#[test]
fn original_frames() {
    original::frames();
}

#[test]
fn original_requests() {
    original::requests();
}

#[test]
fn original_agreements() {
    original::agreements();
}

#[test]
fn original_objects_of_suite_0() {
    original::suite0();
}

#[test]
fn original_scenarios() {
    original::scenarios();
}

#[test]
fn negatives() {
    negative::negatives();
}
