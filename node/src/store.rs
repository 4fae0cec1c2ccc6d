//! What a node remembers: one redb file, opened by one process, written by one owner.
//!
//! The owner begins a [`Batch`], lets the engine read and write through it, commits, and only then
//! carries out effects. Every commit is durable when it returns ([`Durability::Full`]): two-phase,
//! so that a torn write can never be taken for a commit, and with redb's allocator state, so that
//! a store opens in a millisecond after a crash.
//!
//! Nothing is served from a file that is not what was written: redb's check of every page runs when
//! the store is opened, and every row carries a keyed checksum that is compared when it is read.
//! After any failure the store answers [`StoreError::Poisoned`] until [`Store::reopen`]; a failed
//! flush is never repeated, because the operating system may have dropped the pages it was for.
//!
//! `docs/store.md` describes the file.

mod batch;
mod checksum;
mod compact;
mod disk;
mod error;
mod migrate;
mod reserve;
mod tables;
mod view;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, Database, StorageBackend, WriteTransaction};

pub use batch::Batch;
pub use compact::Compaction;
pub use error::StoreError;
pub use view::Snapshot;

use checksum::Checksum;
use disk::Gate;
use error::{from_redb, guarded};
use reserve::Reserve;
use view::Reader;

/// How a store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Memory for pages, in bytes. Default 8 MiB: a laptop's working set of heads and feeds; a
    /// persister with many objects wants more (a guess, the bench of the store shows the effect).
    pub cache_bytes: usize,
    /// What an acknowledged commit survives. Default [`Durability::Full`].
    pub durability: Durability,
    /// Check every page when opening, about a second per gigabyte. Default true. Without it, damage
    /// shows when the page is read.
    pub check_integrity: bool,
    /// Space kept beside the file, in bytes, to be given up when the disk is full so that deleting
    /// still works. Default 16 MiB, more than the largest batch needs; 0 keeps none.
    pub reserve_bytes: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            cache_bytes: 8 << 20,
            durability: Durability::Full,
            check_integrity: true,
            reserve_bytes: 16 << 20,
        }
    }
}

/// What a commit survives once it has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// A power cut, on a disk that honours flushes: two flushes a commit.
    #[default]
    Full,
    /// The end of the process, however sudden: written to the operating system, never flushed
    /// before the store is closed. A power cut may lose commits or the whole store.
    ///
    /// This is not redb's `Durability::None`, which keeps commits in the memory of the process.
    Os,
}

/// How much of the truth about the storage is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    /// Every operation so far went well.
    Sound,
    /// Something failed that opening again may mend.
    Failed,
    /// Something read was not what had been written.
    Damaged,
}

impl Health {
    fn after(error: &StoreError) -> Self {
        match error {
            StoreError::Damaged(_) => Self::Damaged,
            _ => Self::Failed,
        }
    }
}

/// Where the bytes are, so that they can be opened again.
#[derive(Debug, Clone)]
enum Source {
    File(PathBuf),
    Backend(Arc<dyn StorageBackend>),
}

/// The store of a node. See the [module](self).
#[derive(Debug)]
pub struct Store {
    source: Source,
    config: StoreConfig,
    /// `None` after a reopening that failed.
    database: Option<Database>,
    checksum: Checksum,
    health: Health,
    /// Whether the disk was full when the store failed.
    full: bool,
    /// `None` without a file.
    reserve: Option<Reserve>,
}

impl Store {
    /// Opens the store at `path`, or creates it.
    ///
    /// A file that does not exist appears under its name only when it is complete. The file is
    /// readable by its owner only (mode 0600), and its lock is held until the store is dropped.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Newer`], [`StoreError::NotOurs`] (also for a symbolic
    /// link) and [`StoreError::Damaged`] leave the content of the file untouched.
    pub fn open(path: impl AsRef<Path>, config: StoreConfig) -> Result<Self, StoreError> {
        let path = path.as_ref();
        if disk::open(path)?.is_none() {
            let (beside, file) = disk::create_beside(path)?;
            let created = file_backend(file).and_then(initialise);
            if let Err(error) = created.and_then(|()| disk::publish(&beside, path)) {
                // Best effort: what is left has a name that nobody opens.
                let _ = std::fs::remove_file(&beside);
                return Err(error);
            }
        }
        Self::start(Source::File(path.to_owned()), config)
    }

    /// Opens the store in `backend`, or creates it if the backend is empty. For tests that break
    /// the disk; locking is the backend's.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn with_backend(
        backend: impl StorageBackend,
        config: StoreConfig,
    ) -> Result<Self, StoreError> {
        let backend: Arc<dyn StorageBackend> = Arc::new(backend);
        if backend.len()? == 0 {
            initialise(backend.clone())?;
        }
        Self::start(Source::Backend(backend), config)
    }

    /// A store that is gone when it is dropped: for a persister without a directory.
    ///
    /// # Errors
    /// None is known.
    pub fn in_memory(config: StoreConfig) -> Result<Self, StoreError> {
        Self::with_backend(InMemoryBackend::new(), config)
    }

    /// Moves the file of a damaged store beside itself, so that the next [`open`](Self::open)
    /// creates a new one. Returns where it is now.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn set_aside(path: impl AsRef<Path>) -> Result<PathBuf, StoreError> {
        disk::set_aside(path.as_ref())
    }

    /// Begins a batch over the rows of the last commit. Costs microseconds.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`] after a failure, until [`reopen`](Self::reopen).
    pub fn batch(&mut self) -> Result<Batch<'_>, StoreError> {
        let reader = self.reader().map_err(|error| self.fail(error))?;
        Ok(Batch::new(self, reader))
    }

    /// The rows of the last commit, for somebody who only wants to look.
    ///
    /// # Errors
    /// As [`batch`](Self::batch).
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Ok(Snapshot::new(self.reader()?))
    }

    /// Whether the store has failed and has to be [reopened](Self::reopen).
    pub fn is_poisoned(&self) -> bool {
        self.health != Health::Sound || self.database.is_none()
    }

    /// Closes the file and opens it again with the integrity check, whatever the configuration
    /// says; after damage was met, every row is compared with its checksum as well.
    ///
    /// Everything acknowledged is there afterwards. Of a commit that failed, all or nothing is.
    ///
    /// # Errors
    /// As [`open`](Self::open). The store stays poisoned and may be reopened again, which is worth
    /// it after [`StoreError::Io`] and [`StoreError::Full`].
    pub fn reopen(&mut self) -> Result<(), StoreError> {
        let suspect = self.health == Health::Damaged;
        close(self.database.take());
        if let (true, Some(reserve)) = (self.full, &mut self.reserve) {
            reserve.release();
        }
        let opened = open_source(&self.source, &self.config, true);
        let (database, checksum) = opened.map_err(|error| self.fail(error))?;
        if suspect {
            let reader = Reader::new(&database, checksum.clone());
            if let Err(error) = reader.and_then(|reader| reader.verify()) {
                close(Some(database));
                return Err(self.fail(error));
            }
        }
        self.database = Some(database);
        self.checksum = checksum;
        (self.health, self.full) = (Health::Sound, false);
        Ok(())
    }

    /// Whether the space kept for a full disk was given up. Until it is
    /// [restored](Self::restore_reserve), the node accepts only what makes the store smaller.
    pub fn is_low_on_space(&self) -> bool {
        self.reserve.as_ref().is_some_and(Reserve::is_missing)
    }

    /// Takes the space kept for a full disk again.
    ///
    /// # Errors
    /// [`StoreError::Full`] if there is no room for it yet.
    pub fn restore_reserve(&mut self) -> Result<(), StoreError> {
        self.reserve.as_mut().map_or(Ok(()), Reserve::restore)
    }

    /// Bytes of the file, live or not.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn file_bytes(&self) -> Result<u64, StoreError> {
        match &self.source {
            Source::File(path) => Ok(std::fs::metadata(path)?.len()),
            Source::Backend(backend) => Ok(backend.len()?),
        }
    }

    /// Closes the store and reports what dropping it would hide.
    ///
    /// # Errors
    /// The last bytes could not be written. What was acknowledged is safe with
    /// [`Durability::Full`].
    pub fn close(mut self) -> Result<(), StoreError> {
        let database = self.database.take();
        guarded(|| database.map_or(Ok(()), |database| database.close().map_err(from_redb)))
    }

    fn start(source: Source, config: StoreConfig) -> Result<Self, StoreError> {
        let (database, checksum) = open_source(&source, &config, config.check_integrity)?;
        let reserve = match &source {
            Source::File(path) => {
                disk::remove_unpublished(path);
                Some(Reserve::take(path, config.reserve_bytes))
            }
            Source::Backend(_) => None,
        };
        Ok(Self {
            source,
            config,
            database: Some(database),
            checksum,
            health: Health::Sound,
            full: false,
            reserve,
        })
    }

    fn reader(&self) -> Result<Reader, StoreError> {
        Reader::new(self.database()?, self.checksum.clone())
    }

    fn database(&self) -> Result<&Database, StoreError> {
        match (&self.database, self.health) {
            (Some(database), Health::Sound) => Ok(database),
            _ => Err(StoreError::Poisoned),
        }
    }

    /// Poisons the store because of `error`.
    fn fail(&mut self, error: StoreError) -> StoreError {
        self.full |= matches!(error, StoreError::Full);
        self.worsen(Health::after(&error));
        error
    }

    fn worsen(&mut self, health: Health) {
        self.health = self.health.max(health);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        close(self.database.take());
    }
}

/// Closes what is beyond reporting errors.
fn close(database: Option<Database>) {
    let _ = guarded(|| {
        drop(database);
        Ok(())
    });
}

/// A transaction as every commit of a store is.
fn begin_write(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut transaction = database.begin_write().map_err(from_redb)?;
    transaction
        .set_durability(redb::Durability::Immediate)
        .map_err(|error| StoreError::Damaged(error.to_string()))?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// Writes an empty store into an empty backend and closes it.
fn initialise(backend: Arc<dyn StorageBackend>) -> Result<(), StoreError> {
    let gate = Gate::new(backend, Durability::Full)?;
    let (database, _) = compact::create(gate, &StoreConfig::default())?;
    guarded(|| database.close().map_err(from_redb))
}

/// Opens an existing store, and lets redb write to it only once it is known to be one of ours.
fn open_source(
    source: &Source,
    config: &StoreConfig,
    check_integrity: bool,
) -> Result<(Database, Checksum), StoreError> {
    let backend = match source {
        Source::Backend(backend) => backend.clone(),
        Source::File(path) => match disk::open(path)? {
            Some(file) => file_backend(file)?,
            None => return Err(StoreError::Io(io::ErrorKind::NotFound.into())),
        },
    };
    if backend.len()? == 0 {
        return Err(StoreError::Damaged("the file is empty".to_owned()));
    }
    let gate = Gate::new(backend, config.durability)?;
    let database = guarded(|| {
        Builder::new()
            .set_cache_size(config.cache_bytes)
            .set_check_integrity_on_open(check_integrity)
            .create_with_backend(gate.clone())
            .map_err(from_redb)
    })?;
    let prepared = guarded(|| {
        let own = tables::Own::read(&database)?;
        migrate::check(own.format)?;
        gate.release()?;
        migrate::migrate(&database, own.format)?;
        Ok(own.checksum)
    });
    match prepared {
        Ok(checksum) => Ok((database, checksum)),
        Err(error) => {
            close(Some(database));
            Err(error)
        }
    }
}

fn file_backend(file: std::fs::File) -> Result<Arc<dyn StorageBackend>, StoreError> {
    Ok(Arc::new(FileBackend::new(file).map_err(from_redb)?))
}

#[cfg(test)]
mod tests {
    use hypergolix_engine::{Table, View as _};

    use super::*;

    fn with_format(path: &Path, format: u32) {
        drop(Store::open(path, StoreConfig::default()).expect("create"));
        let database = Database::open(path).expect("open");
        let transaction = begin_write(&database).expect("begin");
        tables::create(&transaction, format, [1; Checksum::KEY_LEN]).expect("write");
        transaction.commit().expect("commit");
    }

    #[test]
    fn a_store_of_a_newer_version_is_named_and_left_alone() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("store.redb");
        with_format(&path, migrate::FORMAT + 1);
        let before = std::fs::read(&path).expect("read");
        for check_integrity in [true, false] {
            let config = StoreConfig { check_integrity, ..StoreConfig::default() };
            let opened = Store::open(&path, config).expect_err("a newer format");
            assert!(matches!(opened, StoreError::Newer { found: 5, supported: 4 }), "{opened:?}");
            let message = opened.to_string();
            assert!(message.contains("format 5") && message.contains("up to 4"), "{message}");
            assert!(std::fs::read(&path).expect("read") == before, "the file was touched");
        }
    }

    #[test]
    fn a_store_of_an_older_version_is_brought_up_to_date() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("store.redb");
        with_format(&path, 1);
        let database = Database::open(&path).expect("open");
        let transaction = begin_write(&database).expect("begin");
        transaction.delete_table(tables::definition(Table::Inbox)).expect("delete");
        transaction.commit().expect("commit");
        drop(database);
        for _ in 0..2 {
            let mut store = Store::open(&path, StoreConfig::default()).expect("open");
            let batch = store.batch().expect("batch");
            assert_eq!(batch.get(Table::Inbox, b"x").expect("readable"), None);
            drop(batch);
            store.close().expect("close");
            let database = Database::open(&path).expect("open");
            let own = tables::Own::read(&database).expect("read");
            assert_eq!(own.format, migrate::FORMAT);
        }
    }

    #[test]
    fn a_format_that_never_existed_is_damage() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("store.redb");
        with_format(&path, 0);
        let opened = Store::open(&path, StoreConfig::default());
        assert!(matches!(opened, Err(StoreError::Damaged(_))), "{opened:?}");
    }

    #[test]
    fn a_full_disk_costs_the_reserve() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("store.redb");
        let config = StoreConfig { reserve_bytes: 1 << 20, ..StoreConfig::default() };
        let mut store = Store::open(&path, config).expect("create");
        assert!(!store.is_low_on_space());
        store.fail(StoreError::Io(io::ErrorKind::Other.into()));
        store.reopen().expect("reopen");
        assert!(!store.is_low_on_space(), "another failure");
        store.fail(StoreError::Full);
        assert!(store.is_poisoned());
        store.reopen().expect("reopen");
        assert!(store.is_low_on_space());
        store.restore_reserve().expect("restore");
        assert!(!store.is_low_on_space());
    }
}
