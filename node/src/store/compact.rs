//! Forgetting what was deleted, and giving its space back.

use std::path::Path;

use hypergolix_engine::Table;
use redb::{Builder, Database};

use super::checksum::Checksum;
use super::disk::{self, Gate};
use super::error::{StoreError, from_redb, guarded};
use super::view::Reader;
use super::{Source, Store, StoreConfig, begin_write, close, file_backend, tables};

/// What a compaction has achieved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compaction {
    /// Space was given back, and nothing of what was deleted is left.
    Forgotten,
    /// Space was given back. There was no room for a copy, or there is no file, so remains of what
    /// was deleted may be left.
    Shrunk,
}

impl Store {
    /// Copies every row into a new file that takes the place of the old one, so that nothing of
    /// what was deleted or overwritten is left in the files of the store.
    ///
    /// redb's own compaction moves pages within the file, and pages keep remains of deleted rows in
    /// their slack. A copy has none, and checks every row on the way. It needs space for the live
    /// rows and some seconds per gigabyte, during which nothing else happens. A crash leaves the
    /// old file or the new one under the name, both complete; [`open`](Self::open) removes the
    /// other. [`Snapshot`](super::Snapshot)s end.
    ///
    /// Without room for a copy it falls back to redb's compaction, which needs next to none: on a
    /// full disk it is what turns deleted rows into free space, since redb takes pages for free that
    /// the file system has yet to find a place for.
    ///
    /// # Errors
    /// [`StoreError::Busy`] without room for a copy, while a snapshot is alive. [`StoreError::Io`]:
    /// see [`is_poisoned`](Self::is_poisoned) for whether the store goes on as before.
    pub fn compact(&mut self) -> Result<Compaction, StoreError> {
        match &self.source {
            Source::Backend(_) => self.compact_in_place(),
            Source::File(path) => match self.compact_by_copy(&path.clone()) {
                Ok(()) => Ok(Compaction::Forgotten),
                Err(StoreError::Full) => self.compact_in_place(),
                Err(error) => Err(error),
            },
        }
    }

    fn compact_by_copy(&mut self, path: &Path) -> Result<(), StoreError> {
        let reader = self.reader()?;
        let (beside, file) = disk::create_beside(path)?;
        let copied = file_backend(file).and_then(|backend| {
            let gate = Gate::new(backend.clone(), self.config.durability)?;
            let (database, checksum) = create(gate, &self.config)?;
            let replaced = guarded(|| copy(&reader, &database, &checksum))
                .and_then(|()| Ok(backend.sync_data()?))
                .and_then(|()| disk::replace(&beside, path));
            match replaced {
                Ok(()) => Ok((database, checksum)),
                Err(error) => {
                    close(Some(database));
                    Err(error)
                }
            }
        });
        match copied {
            Ok((database, checksum)) => {
                drop(reader);
                // The new file has been locked since it was created, so the store always is.
                close(self.database.replace(database));
                self.checksum = checksum;
                Ok(())
            }
            Err(error) => {
                // Best effort: the next opening removes it too.
                let _ = std::fs::remove_file(&beside);
                let health = reader.health();
                drop(reader);
                self.worsen(health);
                Err(error)
            }
        }
    }

    fn compact_in_place(&mut self) -> Result<Compaction, StoreError> {
        if self.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        let database = self.database.as_mut().ok_or(StoreError::Poisoned)?;
        let compacted = guarded(|| {
            database.compact().map_err(from_redb)?;
            // Compaction leaves no allocator state; the next commit does.
            begin_write(database)?.commit().map_err(from_redb)
        });
        match compacted {
            Ok(()) => Ok(Compaction::Shrunk),
            Err(StoreError::Busy) => Err(StoreError::Busy),
            Err(error) => Err(self.fail(error)),
        }
    }
}

/// Creates an empty store with a checksum key of its own behind a gate that needs no closing.
pub(super) fn create(gate: Gate, config: &StoreConfig) -> Result<(Database, Checksum), StoreError> {
    let checksum_key = disk::random()?;
    gate.release()?;
    let database = guarded(|| {
        let mut builder = Builder::new();
        builder.set_cache_size(config.cache_bytes).create_with_backend(gate).map_err(from_redb)
    })?;
    let written = guarded(|| {
        let transaction = begin_write(&database)?;
        tables::create(&transaction, super::migrate::FORMAT, checksum_key)?;
        transaction.commit().map_err(from_redb)
    });
    match written {
        Ok(()) => Ok((database, Checksum::new(&checksum_key))),
        Err(error) => {
            close(Some(database));
            Err(error)
        }
    }
}

/// Copies all rows into an empty store, in one transaction.
fn copy(reader: &Reader, database: &Database, checksum: &Checksum) -> Result<(), StoreError> {
    let transaction = begin_write(database)?;
    for table in Table::ALL {
        let mut rows = transaction.open_table(tables::definition(table)).map_err(from_redb)?;
        reader.for_all(table, |key, value| {
            let stored = checksum.seal(table as u8, key, value);
            rows.insert(key, stored.as_slice()).map(drop).map_err(from_redb)
        })?;
    }
    transaction.commit().map_err(from_redb)
}
