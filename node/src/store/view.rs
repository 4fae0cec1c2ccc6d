//! The engine's read access over one redb transaction.

use std::cell::{Cell, OnceCell};

use hypergolix_engine::view::Row;
use hypergolix_engine::{Table, View, ViewError};
use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTableMetadata};

use super::Health;
use super::checksum::Checksum;
use super::error::{StoreError, from_redb, guarded};
use super::tables::{self, Bytes, TABLES};

/// The committed rows of one moment. Later commits do not change what it shows.
///
/// The pages it shows cannot be reused while it lives, so keep it for one answer, not for a
/// connection. After the store was closed or reopened it answers with errors.
#[derive(Debug)]
pub struct Snapshot(Reader);

impl Snapshot {
    pub(super) fn new(reader: Reader) -> Self {
        Self(reader)
    }

    /// Reads every row and compares it with its checksum; returns how many there are.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] for the first row that differs.
    pub fn verify(&self) -> Result<u64, StoreError> {
        self.0.verify()
    }
}

impl View for Snapshot {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        View::get(&self.0, table, key)
    }

    fn range(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, ViewError> {
        self.0.range(table, start, end, limit)
    }

    fn len(&self, table: Table) -> Result<u64, ViewError> {
        View::len(&self.0, table)
    }
}

/// One read transaction with the tables opened so far, each row checked against its checksum.
///
/// Remembers whether a read failed: what was decided after that must not be committed.
pub(super) struct Reader {
    tables: [OnceCell<ReadOnlyTable<Bytes, Bytes>>; TABLES],
    /// `None` only while it is dropped.
    transaction: Option<ReadTransaction>,
    checksum: Checksum,
    health: Cell<Health>,
}

impl View for Reader {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        Ok(Reader::get(self, table, key)?)
    }

    fn range(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, ViewError> {
        let mut rows = Vec::new();
        if limit > 0 {
            self.for_each(table, start, end, |key, value| {
                rows.push((key.to_vec(), value.to_vec()));
                rows.len() < limit
            })?;
        }
        Ok(rows)
    }

    fn len(&self, table: Table) -> Result<u64, ViewError> {
        Ok(Reader::len(self, table)?)
    }
}

impl Reader {
    /// Begins a read transaction; a few microseconds, nothing is read yet.
    pub(super) fn new(database: &Database, checksum: Checksum) -> Result<Self, StoreError> {
        let transaction = guarded(|| database.begin_read().map_err(from_redb))?;
        Ok(Self {
            tables: Default::default(),
            transaction: Some(transaction),
            checksum,
            health: Cell::new(Health::Sound),
        })
    }

    /// The worst that any read so far has met.
    pub(super) fn health(&self) -> Health {
        self.health.get()
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|| {
            let Some(stored) = self.table(table)?.get(key).map_err(from_redb)? else {
                return Ok(None);
            };
            Ok(Some(self.unseal(table, key, stored.value())?.to_vec()))
        })
    }

    pub(super) fn contains(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        self.read(|| Ok(self.table(table)?.get(key).map_err(from_redb)?.is_some()))
    }

    /// Calls `visit` with rows in key order until it returns false or `end` is reached.
    pub(super) fn for_each(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        if start >= end {
            return Ok(());
        }
        self.read(|| {
            for row in self.table(table)?.range(start..end).map_err(from_redb)? {
                let (key, stored) = row.map_err(from_redb)?;
                if !visit(key.value(), self.unseal(table, key.value(), stored.value())?) {
                    break;
                }
            }
            Ok(())
        })
    }

    pub(super) fn len(&self, table: Table) -> Result<u64, StoreError> {
        self.read(|| self.table(table)?.len().map_err(from_redb))
    }

    /// Calls `visit` with every row of a table, in key order. An error of `visit` ends it, and is
    /// not held against the store.
    pub(super) fn for_all(
        &self,
        table: Table,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<u64, StoreError> {
        let mut rows = 0;
        let visited = self.read(|| {
            let opened = self.table(table)?;
            for row in opened.range::<&[u8]>(..).map_err(from_redb)? {
                let (key, stored) = row.map_err(from_redb)?;
                let value = self.unseal(table, key.value(), stored.value())?;
                if let Err(error) = visit(key.value(), value) {
                    return Ok(Err(error));
                }
                rows += 1;
            }
            if rows != opened.len().map_err(from_redb)? {
                return Err(StoreError::Damaged(format!("rows of {table:?} are missing")));
            }
            Ok(Ok(()))
        })?;
        visited.map(|()| rows)
    }

    pub(super) fn verify(&self) -> Result<u64, StoreError> {
        Table::ALL.into_iter().map(|table| self.for_all(table, |_, _| Ok(()))).sum()
    }

    fn table(&self, table: Table) -> Result<&ReadOnlyTable<Bytes, Bytes>, StoreError> {
        let cell = &self.tables[tables::index(table)];
        if let Some(opened) = cell.get() {
            return Ok(opened);
        }
        let transaction = self.transaction.as_ref().ok_or(StoreError::Poisoned)?;
        let opened = transaction.open_table(tables::definition(table)).map_err(from_redb)?;
        Ok(cell.get_or_init(|| opened))
    }

    fn unseal<'v>(
        &self,
        table: Table,
        key: &[u8],
        stored: &'v [u8],
    ) -> Result<&'v [u8], StoreError> {
        self.checksum
            .open(table as u8, key, stored)
            .ok_or_else(|| StoreError::Damaged(format!("a row of {table:?} fails its checksum")))
    }

    fn read<T>(&self, operation: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        guarded(operation).inspect_err(|error| {
            self.health.set(self.health.get().max(Health::after(error)));
        })
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("health", &self.health).finish_non_exhaustive()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // A panic inside redb can leave a lock behind that its own destructors stumble over.
        let parts = (std::mem::take(&mut self.tables), self.transaction.take());
        let _ = guarded(|| {
            drop(parts);
            Ok(())
        });
    }
}
