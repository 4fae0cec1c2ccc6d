//! What a Hypergolix node decides. Pure: no IO, no clock, no global randomness.
//!
//! Everything that happens to a node is an [`Input`]; [`Engine::handle`] answers with an
//! [`Outcome`]: rows to write and [`Effect`]s. A node commits the writes of a batch of inputs in
//! one transaction and only then carries out the effects.

#![forbid(unsafe_code)]

pub mod account;
pub mod announcement;
mod apps;
mod caches;
mod content;
pub mod control;
pub mod effect;
mod engine;
pub mod input;
mod keyring;
pub mod limits;
pub mod message;
mod objects;
mod pace;
pub mod persister;
pub mod route;
mod sharing;
mod shelf;
mod signer;
mod status;
mod sync;
pub mod timer;
mod turn;
pub mod verdict;
mod version_vector;
pub mod view;

pub use account::Account;
pub use control::Control;
pub use effect::{Effect, Outcome};
pub use engine::{Engine, EngineConfig};
pub use input::{Input, LinkId};
pub use message::{Message, Role};
pub use persister::{Persister, PersisterConfig};
pub use signer::Signatures;
pub use timer::Timer;
pub use view::{Entropy, Table, Time, View, ViewError, Write};
