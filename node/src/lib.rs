//! A Hypergolix node: its store, its network, its application interface, and the loop between.
//!
//! In reading order: [`paths`] (files), [`config`] (choices), [`lock`] (one daemon a home),
//! [`store`] (what is remembered), [`network`] (other devices), [`ipc_service`] (applications),
//! [`run`] (the loop: inputs, engine, one commit, effects), [`status`] (what is shown),
//! [`telemetry`] (the log), [`shutdown`] (the end). [`Node`] wires them. The command line is the
//! binary's.

#![forbid(unsafe_code)]

pub mod config;
mod crypto_pool;
pub mod ipc_service;
pub mod lock;
pub mod network;
pub mod node;
pub mod paths;
pub mod run;
pub mod shutdown;
pub mod status;
pub mod store;
pub mod telemetry;

pub use node::{Node, NodeError, Unlocked};
