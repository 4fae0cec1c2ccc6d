//! What a Hypergolix node decides. Pure: no IO, no clock, no global randomness.
//!
//! Everything that happens to a node is an [`Input`]; [`Engine::handle`] answers with an
//! [`Outcome`]: rows to write and [`Effect`]s. A node commits the writes of a batch of inputs in
//! one transaction and only then carries out the effects.

#![forbid(unsafe_code)]

pub mod effect;
pub mod input;
pub mod message;
pub mod timer;
pub mod view;

pub use effect::{Effect, Outcome};
pub use input::{Input, LinkId};
pub use message::Message;
pub use timer::Timer;
pub use view::{Entropy, Table, Time, View, ViewError, Write};
