//! A Hypergolix node: its store, its network, its application interface, and the loop between.
//!
//! In reading order: [`paths`] (files), [`config`] (choices), [`lock`] (one daemon a home),
//! [`store`] (what is remembered), [`network`] (other devices), [`ipc_service`] (applications),
//! [`brain`] (what decides), [`run`] (the loop: inputs, one commit, effects), [`control`] (orders of
//! the command line), [`status`] (what is shown), [`telemetry`] (the log), [`shutdown`] (the end).
//! [`Node`] and [`Server`] wire them. The command line is the
//! binary's.

#![forbid(unsafe_code)]

pub mod backup;
pub mod brain;
pub mod config;
pub mod control;
mod crypto_pool;
pub mod ipc_service;
pub mod lock;
pub mod login;
pub mod network;
pub mod node;
pub mod paths;
pub mod run;
pub mod server;
pub mod shutdown;
pub mod status;
pub mod store;
pub mod telemetry;

pub use node::{Node, NodeError, Unlocked};
pub use server::{Server, ServerOptions};
