//! One transaction: the writes of a batch of inputs, readable before they are durable.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use hypergolix_engine::view::Row;
use hypergolix_engine::{Table, View, ViewError, Write};
use redb::Database;

use super::Store;
use super::checksum::Checksum;
use super::error::{StoreError, from_redb, guarded};
use super::tables::{self, TABLES};
use super::view::Reader;

/// The writes of several inputs that become durable together, or not at all.
///
/// Reads see the rows of the last commit with the writes of this batch over them. The writes are
/// kept in memory and reach redb in [`commit`](Self::commit), sorted: beginning and abandoning a
/// batch costs microseconds, a row that is written ten times is stored once, and each table is
/// opened once. The node bounds what a batch holds by the inputs it takes into one.
#[derive(Debug)]
pub struct Batch<'store> {
    store: &'store mut Store,
    /// `None` only once the batch is over.
    reader: Option<Reader>,
    pending: Pending,
}

/// Rows to write (`Some`) or to delete (`None`), by table and key.
type Pending = [BTreeMap<Vec<u8>, Change>; TABLES];

#[derive(Debug)]
struct Change {
    value: Option<Vec<u8>>,
    /// Whether the last commit has this row, once somebody had to know.
    stored: OnceCell<bool>,
}

impl<'store> Batch<'store> {
    pub(super) fn new(store: &'store mut Store, reader: Reader) -> Self {
        Self { store, reader: Some(reader), pending: Pending::default() }
    }

    /// Adds writes; later ones win. Visible to reads at once.
    pub fn apply(&mut self, writes: impl IntoIterator<Item = Write>) {
        for Write { table, key, value } in writes {
            let rows = &mut self.pending[tables::index(table)];
            if let Some(change) = rows.get_mut(&key) {
                change.value = value;
            } else {
                rows.insert(key, Change { value, stored: OnceCell::new() });
            }
        }
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.pending.iter().all(BTreeMap::is_empty)
    }

    /// Makes the writes durable: when this returns, a crash or a power cut loses none of them.
    /// Without writes it returns at once.
    ///
    /// # Errors
    /// Nothing may be acknowledged and nothing sent: all of the writes are stored or none, and
    /// which of the two shows only after [`Store::reopen`]. Until then the store answers
    /// [`StoreError::Poisoned`], also here if one of the reads before has failed.
    pub fn commit(mut self) -> Result<(), StoreError> {
        self.finish();
        let database = self.store.database()?;
        if self.is_empty() {
            return Ok(());
        }
        let checksum = &self.store.checksum;
        let committed = guarded(|| write(database, checksum, &self.pending));
        committed.map_err(|error| self.store.fail(error))
    }

    /// Forgets the writes.
    pub fn abort(self) {}

    /// Ends the read transaction. If one of its reads has failed, so has the store.
    fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.store.worsen(reader.health());
        }
    }

    /// The rows of the last commit, without the writes of this batch.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`] once the batch is over.
    pub fn committed(&self) -> Result<&dyn View, StoreError> {
        Ok(self.reader()?)
    }

    fn reader(&self) -> Result<&Reader, StoreError> {
        self.reader.as_ref().ok_or(StoreError::Poisoned)
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.finish();
    }
}

impl View for Batch<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        match self.pending[tables::index(table)].get(key) {
            Some(change) => Ok(change.value.clone()),
            None => Ok(self.reader()?.get(table, key)?),
        }
    }

    fn range(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, ViewError> {
        let mut rows = Vec::new();
        if start >= end || limit == 0 {
            return Ok(rows);
        }
        let mut changes =
            self.pending[tables::index(table)].range::<[u8], _>((included(start), excluded(end)));
        let mut change = changes.next();
        self.reader()?.for_each(table, start, end, |key, value| {
            while let Some((changed, new)) = change.filter(|(changed, _)| changed.as_slice() <= key)
            {
                change = changes.next();
                if let Some(new) = &new.value {
                    rows.push((changed.clone(), new.clone()));
                }
                if changed.as_slice() == key || rows.len() == limit {
                    return rows.len() < limit;
                }
            }
            rows.push((key.to_vec(), value.to_vec()));
            rows.len() < limit
        })?;
        let left = change.into_iter().chain(changes);
        let left = left.filter_map(|(key, new)| Some((key.clone(), new.value.clone()?)));
        rows.extend(left.take(limit - rows.len()));
        Ok(rows)
    }

    fn len(&self, table: Table) -> Result<u64, ViewError> {
        let reader = self.reader()?;
        let mut len = reader.len(table)?;
        for (key, change) in &self.pending[tables::index(table)] {
            let stored = if let Some(stored) = change.stored.get() {
                *stored
            } else {
                let stored = reader.contains(table, key)?;
                *change.stored.get_or_init(|| stored)
            };
            len = len + u64::from(change.value.is_some()) - u64::from(stored);
        }
        Ok(len)
    }
}

fn included(key: &[u8]) -> std::ops::Bound<&[u8]> {
    std::ops::Bound::Included(key)
}

fn excluded(key: &[u8]) -> std::ops::Bound<&[u8]> {
    std::ops::Bound::Excluded(key)
}

fn write(database: &Database, checksum: &Checksum, pending: &Pending) -> Result<(), StoreError> {
    let transaction = super::begin_write(database)?;
    for (table, changes) in Table::ALL.into_iter().zip(pending) {
        if changes.is_empty() {
            continue;
        }
        let mut rows = transaction.open_table(tables::definition(table)).map_err(from_redb)?;
        for (key, change) in changes {
            let key = key.as_slice();
            match &change.value {
                Some(value) => {
                    let len = Checksum::LEN + value.len();
                    let mut stored = rows.insert_reserve(key, len).map_err(from_redb)?;
                    checksum.seal_into(table as u8, key, value, stored.as_mut());
                }
                None => {
                    rows.remove(key).map_err(from_redb)?;
                }
            }
        }
    }
    transaction.commit().map_err(from_redb)
}
