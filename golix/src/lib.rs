//! Golix: bytes, keys and rules. No clock, socket, file, thread or global randomness.
//!
//! Six kinds of object, each addressed by its hash and signed by its author, let strangers keep and
//! pass on what only the invited can read. This crate makes, reads, proves and opens them, and decides
//! what a persister keeps. Randomness and time come in as arguments; keeping and sending is up to the
//! caller.
//!
//! The parts, in reading order:
//!
//! | module | what |
//! | --- | --- |
//! | [`ghid`] | [`Ghid`]: the address of everything |
//! | `codec` | bounded big-endian fields; nothing may be left over |
//! | [`limits`] | every maximum of the format |
//! | `suite` | [`Suite`]: which algorithms; the only place where that is decided |
//! | `secret` | [`Secret`]: opens one container |
//! | `chain` | [`ChainKey`]: leads from one secret of a dynamic object to the next |
//! | `identity` | [`Identity`], [`Signer`] and [`PrivateIdentity`] |
//! | [`object`] | the six kinds: bytes → [`Unverified`](object::Unverified) → [`Verified`](object::Verified) |
//! | [`persister`] | what is admitted, kept, dropped and told to whom |
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod ghid;

mod codec;

pub mod limits;

mod suite;

mod secret;

mod chain;

mod identity;

pub mod object;

pub mod persister;

pub use chain::ChainKey;
pub use ghid::{Ghid, GhidError};
pub use identity::{Identity, ImportError, KeyFault, PrivateIdentity, SaltedSigner, Signer};
pub use secret::Secret;
pub use suite::Suite;
