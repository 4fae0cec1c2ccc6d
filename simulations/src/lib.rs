//! Many engines, one thread, virtual time, one seed.
//!
//! [`simulate`] runs one seed of a [`Scenario`]: nodes with the engine that ships, model
//! applications that create, push, share, hold and delete, a disk that forgets what was not
//! committed, a network that delays, breaks and parts. The [`Oracle`](check::Oracle) watches
//! everything that leaves an engine and knows what has to hold. After the faults everything heals,
//! and within a bounded time everybody has to agree. The same scenario and seed give the same run
//! on every machine, so a failure is its seed.
//!
//! In reading order: [`scenario`] (what is simulated), [`world`] (the clock and its events),
//! [`node`] (an engine, its queue and its crashes), [`disk`], [`network`], [`session`] (between
//! a node and an application), [`app`] (the model applications), [`check`] (what must hold), [`finish`] (healing and the last questions),
//! [`mutants`] (engines broken on purpose, to see that the checkers see), [`report`].

#![forbid(unsafe_code)]

pub mod app;
pub mod chance;
pub mod check;
pub mod disk;
pub mod finish;
pub mod mutants;
pub mod network;
pub mod node;
pub mod report;
pub mod run;
pub mod scenario;
pub mod session;
pub mod world;

pub use check::{Checker, Violation};
pub use mutants::Mutant;
pub use report::Stats;
pub use scenario::Scenario;
pub use world::{Outcome, simulate};

/// Virtual time since the start, microseconds.
pub type Micros = u64;
