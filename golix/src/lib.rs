//! Golix: bytes, keys and rules. No clock, socket, file, thread or global randomness.

mod chain;
mod codec;
pub mod ghid;
mod identity;
pub mod limits;
pub mod object;
pub mod persister;
mod secret;
mod suite;

pub use chain::ChainKey;
pub use ghid::{Ghid, GhidError};
pub use identity::{Identity, PrivateIdentity};
pub use secret::Secret;
pub use suite::Suite;
