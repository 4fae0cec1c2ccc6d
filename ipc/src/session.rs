//! One connection without IO: which message answers which, and what is overdue.
//!
//! Both ends number their own requests; `AK` and `NK` always refer to the receiver's. The daemon's
//! end is a [`DaemonSession`], the application's an [`AppSession`]. Time is passed in.
//! Wire reference, sections 3 and 8.4.

mod app;
mod daemon;

pub use app::{AnswerError, AppReceived, AppSession};
pub use daemon::{DaemonReceived, DaemonSession, LetGo, Overdue};
