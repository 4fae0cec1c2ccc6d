//! How an application speaks to its Hypergolix node: one protocol, two ends.
//!
//! Bytes first, then meaning, then the two ends:
//!
//! - [`frame`]: the envelope of every message; [`Code`]: what a message is.
//! - [`Request`], [`Reply`], [`Notice`]: what it says, a typed variant a code; [`ObjectRecord`]: an
//!   object in them; [`IpcError`]: a refusal.
//! - [`session`]: one connection without IO, either end; [`limits`]: every maximum.
//! - `server`: a websocket listener for a node that implements `Service`.
//! - `client`: `HgxLink`, `Obj`, `JsonObj` and `TypedObj` for applications.
//!
//! Without the features `server` and `client` this crate does no IO.

#![forbid(unsafe_code)]

#[cfg(all(doctest, feature = "client"))]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(feature = "client")]
pub mod client;
mod code;
mod error;
pub mod frame;
mod ids;
pub mod limits;
pub mod message;
mod object_record;
#[cfg(any(feature = "server", feature = "client"))]
mod peer;
#[cfg(feature = "server")]
pub mod server;
pub mod session;

pub use code::{Code, python_notation};
pub use error::{ErrorCode, IpcError, NakError};
pub use frame::{Frame, FrameError};
pub use ids::{ApiId, AppToken, ConnectionId, NoticeId, RequestToken};
pub use message::{BodyError, LostState, Notice, Reply, Request};
pub use object_record::ObjectRecord;

#[cfg(feature = "server")]
pub use server::{BindError, Outgoing, Owner, Server, ServerConfig, Service};
