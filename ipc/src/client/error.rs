//! What can go wrong for an application.

use std::io;

use crate::error::{IpcError, NakError};
use crate::limits::STATE_MAX;
use crate::message::BodyError;
use crate::session::AnswerError;

/// Why a call of the client failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// No daemon answers.
    #[error(
        "no Hypergolix daemon answers on port {port} ({source}); start one with \
         'hypergolix start app'"
    )]
    NoDaemon {
        /// The port.
        port: u16,
        /// What the system says.
        source: io::Error,
    },
    /// What listens there is not a Hypergolix daemon, or did not let us in.
    #[error("what answers on port {port} is not our Hypergolix daemon: {reason}")]
    NotOurDaemon {
        /// The port.
        port: u16,
        /// What it did.
        reason: String,
    },
    /// The connection was lost while a request was under way that must not be repeated blindly:
    /// it may have happened, or not.
    #[error("the connection to the daemon was lost; the request may have been carried out or not")]
    ConnectionLost,
    /// The link was stopped.
    #[error("this link to Hypergolix was stopped")]
    Stopped,
    /// The daemon refused.
    #[error("{0}")]
    Refused(IpcError),
    /// The daemon refused in a way that has no name.
    #[error("{0}")]
    Unnamed(NakError),
    /// The daemon agreed, but its reply is damaged.
    #[error("the daemon's reply is damaged: {0}")]
    Damaged(BodyError),
    /// The object was deleted or discarded.
    #[error("the object is dead: it was deleted or discarded")]
    DeadObject,
    /// The object is static, or somebody else's.
    #[error("the object cannot be changed: it is static, or belongs to somebody else")]
    LocallyImmutable,
    /// The object is private.
    #[error("a private object cannot be shared")]
    Unsharable,
    /// The state is larger than a daemon can hand out.
    #[error("a state of {0} bytes is too large; the limit is {STATE_MAX} bytes")]
    StateTooLarge(usize),
    /// The state is not what this kind of object holds.
    #[error("the state cannot be read or written as JSON: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl From<AnswerError> for LinkError {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Refused(error) => LinkError::Refused(error),
            AnswerError::Unnamed(error) => LinkError::Unnamed(error),
            AnswerError::Damaged(error) => LinkError::Damaged(error),
        }
    }
}
