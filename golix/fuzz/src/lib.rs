//! What must hold for any bytes: one function a fuzz target, without the fuzzer.
//!
//! `golix/tests/corpus.rs` runs the committed inputs through the same functions.
//!
//! A fuzzer does not find a SHA-512 by itself. So where an object is read, the first byte of an input
//! is a recipe ([`forge`]): which fields to mend before the object is read. And what is read is
//! written again by code of this folder, which shares nothing with the code under test.

mod cast;
mod forge;
mod letter;
mod objects;
mod persister;
mod seeds;
mod texts;

pub use letter::letter;
pub use objects::{
    container, debinding, dynamic_binding, identity, request, static_binding, verify,
};
pub use persister::{rows, rules};
pub use seeds::seeds;
pub use texts::{ghid_bytes, ghid_text, private_identity, secret};

/// A target by its name, which is also that of its folder in `corpus/`.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 14] = [
    ("ghid_bytes", ghid_bytes),
    ("ghid_text", ghid_text),
    ("identity", identity),
    ("container", container),
    ("static_binding", static_binding),
    ("dynamic_binding", dynamic_binding),
    ("debinding", debinding),
    ("request", request),
    ("secret", secret),
    ("private_identity", private_identity),
    ("letter", letter),
    ("verify", verify),
    ("rows", rows),
    ("rules", rules),
];
