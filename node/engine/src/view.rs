//! What the engine may ask of stored state, and how it says what to write.

use std::fmt;
use std::time::Duration;

/// The tables of a node. Keys and values are bytes; their layout is in `docs/store.md`.
///
/// The discriminant is part of the disk format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Single rows by name: format version, key slots, feed epoch, counters.
    Meta = 0,
    /// Golix objects by address (a frame by its frame address).
    Objects = 1,
    /// Dynamic bindings: dynamic address to the current head.
    Heads = 2,
    /// Who holds what: target, holder.
    Holders = 3,
    /// What was debound: target, debinding.
    Debindings = 4,
    /// The newest frame ever accepted of a dynamic address; survives its deletion.
    HighWater = 5,
    /// Requests by recipient: recipient, request.
    Requests = 6,
    /// The feed: sequence number to the address that changed last.
    Feed = 7,
    /// The last feed sequence number of an address.
    FeedIndex = 8,
    /// Sealed account records by blinded key.
    Account = 9,
    /// What is still owed to somebody: recipient, request.
    Outbox = 10,
    /// Addresses followed, by author.
    Follows = 11,
    /// Cursors into the feeds of other devices.
    Cursors = 12,
    /// Rows the rules keep for bounded collection.
    Pending = 13,
    /// Messages whose request waits to be opened, by number.
    Inbox = 14,
    /// Of a persister: what it knows of identities, and tokens given out.
    Users = 15,
    /// Of a persister: address, the debinding that ended a static binding of it.
    Graves = 16,
    /// What this account deleted, and which persisters confirmed it.
    Deletions = 17,
    /// Of a persister: owner, address.
    Owned = 18,
    /// Own addresses that a persister has and this device has not: address.
    Elsewhere = 19,
}

impl Table {
    /// Every table, in the order of their discriminants.
    pub const ALL: [Table; 20] = [
        Table::Meta,
        Table::Objects,
        Table::Heads,
        Table::Holders,
        Table::Debindings,
        Table::HighWater,
        Table::Requests,
        Table::Feed,
        Table::FeedIndex,
        Table::Account,
        Table::Outbox,
        Table::Follows,
        Table::Cursors,
        Table::Pending,
        Table::Inbox,
        Table::Users,
        Table::Graves,
        Table::Deletions,
        Table::Owned,
        Table::Elsewhere,
    ];
}

/// Stored state could not be read: the node has to close the store, check it and reopen.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the store cannot be read: {0}")]
pub struct ViewError(pub String);

/// A row and its key.
pub type Row = (Vec<u8>, Vec<u8>);

/// Read access to stored state, with every write of earlier inputs visible.
pub trait View {
    /// The value under `key`.
    ///
    /// # Errors
    /// The store cannot be read.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError>;

    /// Bytes of the value under `key`. A store that can tell without reading them all does.
    ///
    /// # Errors
    /// The store cannot be read.
    fn size(&self, table: Table, key: &[u8]) -> Result<Option<usize>, ViewError> {
        Ok(self.get(table, key)?.map(|value| value.len()))
    }

    /// Rows with `start <= key < end` in key order, at most `limit` of them.
    ///
    /// # Errors
    /// The store cannot be read.
    fn range(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, ViewError>;

    /// Number of rows in a table. May be an estimate.
    ///
    /// # Errors
    /// The store cannot be read.
    fn len(&self, table: Table) -> Result<u64, ViewError>;
}

/// One row to write (`Some`) or to delete (`None`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which table.
    pub table: Table,
    /// The row's key.
    pub key: Vec<u8>,
    /// The new value, or `None` to delete.
    pub value: Option<Vec<u8>>,
}

/// A source of random bytes: the operating system in a node, a seed in a simulation.
pub trait Entropy: Send {
    /// Fills `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);
}

/// Monotonic time since some moment before the engine started. Never the wall clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(Duration);

impl Time {
    /// A moment that lies `since` after the origin.
    pub fn from_origin(since: Duration) -> Self {
        Self(since)
    }

    /// How far this moment lies after the origin.
    pub fn since_origin(self) -> Duration {
        self.0
    }

    /// Time from `earlier` to this moment; zero if it lies in the future.
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;

    fn add(self, rhs: Duration) -> Time {
        Time(self.0.saturating_add(rhs))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{:?}", self.0)
    }
}
