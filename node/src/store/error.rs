//! What can go wrong with a store, and how redb's errors and panics become that.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use hypergolix_engine::ViewError;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A newer version of Hypergolix wrote this store. Its content was left as it is.
    #[error(
        "the store has format {found}, this version of Hypergolix reads formats up to {supported}; \
         nothing was changed, start the newer version again"
    )]
    Newer {
        /// The format of the store.
        found: u32,
        /// The newest format this version reads.
        supported: u32,
    },
    /// The file does not hold what was written to it. It is never served from.
    #[error(
        "the store is damaged ({0}); nothing is served from it and it is left as it is: put a backup \
         in its place"
    )]
    Damaged(String),
    /// Another process, or another part of this one, has the store open.
    #[error("the store is open in another process")]
    Locked,
    /// There is something else where the store should be. It was left as it is.
    #[error(
        "this is not a Hypergolix store, or its beginning is damaged ({0}); it is left as it is: move \
         it away if it is something else, or put a backup in its place"
    )]
    NotOurs(String),
    /// The disk is full: nothing was acknowledged. [`Store::reopen`](super::Store::reopen) and
    /// delete something.
    #[error("no space left on the disk of the store")]
    Full,
    /// The operating system refused a file operation.
    #[error("the store cannot be read or written: {0}")]
    Io(#[source] io::Error),
    /// An earlier operation failed; [`Store::reopen`](super::Store::reopen) first.
    #[error("the store has failed and was not opened again yet")]
    Poisoned,
    /// A [`Snapshot`](super::Snapshot) is still alive; try again without it.
    #[error("the store is being read by somebody else")]
    Busy,
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full,
            // Nothing asks for bytes behind the end of a file that has its length.
            io::ErrorKind::UnexpectedEof => Self::Damaged("the file is too short".to_owned()),
            // How redb says that it does not know the first bytes of a file.
            io::ErrorKind::InvalidData => Self::NotOurs(error.to_string()),
            _ => Self::Io(error),
        }
    }
}

impl From<StoreError> for ViewError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

/// A redb error as one of ours.
pub(super) fn from_redb(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => StoreError::Locked,
        redb::Error::Io(error) => error.into(),
        redb::Error::PreviousIo
        | redb::Error::DatabaseClosed
        | redb::Error::LockPoisoned(_)
        | redb::Error::TransactionPoisoned => StoreError::Poisoned,
        redb::Error::TransactionInProgress => StoreError::Busy,
        redb::Error::Backend(error) => StoreError::Io(io::Error::other(error)),
        redb::Error::Unsupported => StoreError::Io(io::ErrorKind::Unsupported.into()),
        redb::Error::UpgradeRequired(version) => {
            StoreError::NotOurs(format!("a redb file of version {version}"))
        }
        // Everything else contradicts what this module wrote: a table with other types, a missing
        // table, a page that cannot be.
        error => StoreError::Damaged(error.to_string()),
    }
}

/// Runs something that calls redb, which panics on pages that cannot be: damage, not a crash.
pub(super) fn guarded<T>(
    operation: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    // Unwind safe: after a panic the caller throws away everything the closure could have touched.
    catch_unwind(AssertUnwindSafe(operation)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("without a message");
        Err(StoreError::Damaged(format!("redb panicked: {message}")))
    })
}
