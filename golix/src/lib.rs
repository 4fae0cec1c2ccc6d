//! Golix: bytes, keys and rules. No clock, socket, file, thread or global randomness.

pub mod ghid;

pub use ghid::{Ghid, GhidError};
