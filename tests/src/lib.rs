//! The real `hypergolix` binary, from outside.
//!
//! - [`harness`]: what every test target does first: build the binary, prepare Python, leave the
//!   machine's network.
//! - [`process`]: a node in a temporary home; its ready line; stopped on drop.
//! - [`wait`]: wait until a condition holds, with a deadline.
//! - [`clock`]: a clock that a test moves, with libfaketime.
//! - [`sybil`]: hostile devices of the DHT, and a trap for who believes them.
//! - [`crowd`]: many users in this process, who speak the link protocol by hand.
//! - [`wire`]: the application protocol by hand, byte by byte, independent of the crate under test.
//! - [`namespaces`]: hosts as network namespaces, joined by a bridge.
//! - [`python`]: a virtual environment with the `hgx` client from PyPI.
//!
//! The targets: `hgx.rs` (the documented Python API, with that client), `lan/` (several hosts on
//! one bridge), `servers/` (homes that meet only at servers), `nat/` (hosts behind routers that
//! translate addresses), `eclipse.rs` (a DHT full of hostile devices), `scale.rs` (many followers,
//! many objects), `devices.rs` (one account on several machines), `shell.rs` (the object API from a
//! shell), `crash.rs` (SIGKILL at random moments), `bad_input.rs`, `other_user.rs`.

#![forbid(unsafe_code)]

pub mod clock;
pub mod crowd;
pub mod harness;
pub mod namespaces;
pub mod process;
pub mod python;
pub mod sybil;
pub mod wait;
pub mod wire;
