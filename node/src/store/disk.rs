//! The file of a store: how it comes into being, and what stands between it and redb.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::ops::Bound;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{BackendError, StorageBackend};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Durability;
use super::error::StoreError;

/// The first bytes of every redb file.
const REDB_MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";

/// Stands between the name of a store and a random number, in the name of a file that is being
/// written.
const UNPUBLISHED: &str = ".new-";

/// Only the user who runs the node may read or write a store.
const MODE: u32 = 0o600;

/// Opens the file of an existing store, or returns `None` if there is nothing under its name.
///
/// A symbolic link, a directory or a file that is not redb's is refused and not touched. Of a redb
/// file the permissions are reduced to the owner's.
pub(super) fn open(path: &Path) -> Result<Option<File>, StoreError> {
    let mut file = match options().open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            return Err(StoreError::NotOurs("a symbolic link".to_owned()));
        }
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            return Err(StoreError::NotOurs("a directory".to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(StoreError::NotOurs("not a regular file".to_owned()));
    }
    if metadata.len() == 0 {
        // We never leave an empty file behind (see `publish`), so this one has lost its content.
        return Err(StoreError::Damaged("the file is empty".to_owned()));
    }
    let mut magic = [0; REDB_MAGIC.len()];
    match file.read_exact(&mut magic) {
        Ok(()) if magic == REDB_MAGIC => {}
        Ok(()) => return Err(StoreError::NotOurs("it does not begin as one".to_owned())),
        Err(error) => return Err(error.into()),
    }
    if metadata.permissions().mode() & 0o777 != MODE {
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    Ok(Some(file))
}

/// Creates an empty file beside `path`, to be filled and then [published](publish).
pub(super) fn create_beside(path: &Path) -> Result<(PathBuf, File), StoreError> {
    let unique = u64::from_be_bytes(random()?);
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!("{UNPUBLISHED}{unique:016x}"));
    let beside = path.with_file_name(name);
    let file = options().create_new(true).mode(MODE).open(&beside)?;
    Ok((beside, file))
}

/// Gives a complete file its name, unless that is taken by now, and makes the name durable.
///
/// A store under its name is therefore always complete: a crash while it is created leaves
/// nothing, or a file under a name that nobody opens.
pub(super) fn publish(beside: &Path, path: &Path) -> Result<(), StoreError> {
    let linked = match fs::hard_link(beside, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Whoever was faster has removed ours already.
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.exists() => return Ok(()),
        // File systems without hard links. Two first starts at once can race here; the later one
        // wins, and neither has acknowledged anything yet.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
            ) =>
        {
            return replace(beside, path);
        }
        other => other,
    };
    let removed = fs::remove_file(beside);
    linked?;
    removed?;
    sync_directory(path)
}

/// Gives a complete file the name of another, which is gone then, and makes that durable.
pub(super) fn replace(beside: &Path, path: &Path) -> Result<(), StoreError> {
    fs::rename(beside, path)?;
    sync_directory(path)
}

/// Removes files that were [created beside](create_beside) `path` and never got its name, because
/// the process ended. To be called by who has locked `path`.
pub(super) fn remove_unpublished(path: &Path) {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return;
    };
    let prefix = format!("{name}{UNPUBLISHED}");
    for entry in fs::read_dir(directory(path)).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
            // Best effort: the next opening tries again.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Moves a damaged store out of the way and returns its new name.
///
/// # Errors
/// The operating system refuses.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    for number in 1..=u32::MAX {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".damaged-{number}"));
        let aside = path.with_file_name(name);
        if fs::symlink_metadata(&aside).is_err() {
            fs::rename(path, &aside)?;
            sync_directory(path)?;
            return Ok(aside);
        }
    }
    Err(StoreError::Io(io::ErrorKind::AlreadyExists.into()))
}

/// Bytes from the operating system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // NONBLOCK so that a FIFO under our name cannot hold the node; it means nothing to files.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.read(true).write(true).custom_flags(flags.bits().cast_signed());
    options
}

fn sync_directory(path: &Path) -> Result<(), StoreError> {
    Ok(File::open(directory(path))?.sync_all()?)
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Stands between redb and the storage, and lets nothing through until it is told to.
///
/// redb writes while it opens a file: a mark that the file is in use, and whatever its integrity
/// check repairs. Held back until the format version was read, none of it reaches a store of a
/// newer version, a damaged one, or a file that is not ours.
///
/// Afterwards it passes everything on, except that [`Durability::Os`] does not wait for flushes.
#[derive(Debug, Clone)]
pub(super) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    storage: Arc<dyn StorageBackend>,
    durability: Durability,
    released: AtomicBool,
    held: Mutex<Held>,
}

/// What redb has written so far, in order, and the length the storage would have.
#[derive(Debug)]
struct Held {
    len: u64,
    changes: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Len(u64),
    Sync,
}

impl Gate {
    /// A closed gate in front of `storage`.
    pub(super) fn new(
        storage: Arc<dyn StorageBackend>,
        durability: Durability,
    ) -> Result<Self, StoreError> {
        let held = Held { len: storage.len()?, changes: Vec::new() };
        Ok(Self(Arc::new(Inner {
            storage,
            durability,
            released: AtomicBool::new(false),
            held: Mutex::new(held),
        })))
    }

    /// Carries out what was held back, in its order, and opens the gate.
    ///
    /// # Errors
    /// The storage fails. The gate stays closed, and the storage is as if the power had failed.
    pub(super) fn release(&self) -> Result<(), StoreError> {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        for change in &held.changes {
            match change {
                Change::Write { offset, bytes } => self.0.storage.write(*offset, bytes)?,
                Change::Len(len) => self.0.storage.set_len(*len)?,
                Change::Sync => self.0.storage.sync_data()?,
            }
        }
        held.changes = Vec::new();
        self.0.released.store(true, Ordering::Release);
        Ok(())
    }

    /// What was held back so far, or `None` once the gate is open.
    fn held(&self) -> Option<MutexGuard<'_, Held>> {
        if self.0.released.load(Ordering::Acquire) {
            return None;
        }
        Some(self.0.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Held {
    /// Reads the storage as it would be with every change carried out.
    fn read(&self, storage: &dyn StorageBackend, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset + out.len() as u64;
        if end > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.fill(0);
        let stored = storage.len()?.clamp(offset, end) - offset;
        storage.read(offset, &mut out[..stored as usize])?;
        for change in &self.changes {
            match change {
                Change::Write { offset: at, bytes } => {
                    let (from, to) = (offset.max(*at), end.min(at + bytes.len() as u64));
                    if from < to {
                        out[(from - offset) as usize..(to - offset) as usize]
                            .copy_from_slice(&bytes[(from - at) as usize..(to - at) as usize]);
                    }
                }
                Change::Len(len) => {
                    let left = (*len).clamp(offset, end) - offset;
                    out[left as usize..].fill(0);
                }
                Change::Sync => {}
            }
        }
        Ok(())
    }
}

impl StorageBackend for Gate {
    fn len(&self) -> io::Result<u64> {
        match self.held() {
            Some(held) => Ok(held.len),
            None => self.0.storage.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.held() {
            Some(held) => held.read(&*self.0.storage, offset, out),
            None => self.0.storage.read(offset, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match self.held() {
            Some(mut held) => {
                held.len = len;
                held.changes.push(Change::Len(len));
                Ok(())
            }
            None => self.0.storage.set_len(len),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        match (self.held(), self.0.durability) {
            (Some(mut held), _) => {
                held.changes.push(Change::Sync);
                Ok(())
            }
            (None, Durability::Full) => self.0.storage.sync_data(),
            (None, Durability::Os) => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.held() {
            Some(mut held) => {
                held.len = held.len.max(offset + data.len() as u64);
                held.changes.push(Change::Write { offset, bytes: data.to_vec() });
                Ok(())
            }
            None => self.0.storage.write(offset, data),
        }
    }

    fn close(&self) -> io::Result<()> {
        // A clean stop leaves a durable file whatever the setting. A failed flush is reported
        // after the locks are gone.
        let flushed = match (self.held(), self.0.durability) {
            (None, Durability::Os) => self.0.storage.sync_data(),
            _ => Ok(()),
        };
        self.0.storage.close().and(flushed)
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.storage.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.storage.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.storage.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.storage.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.storage.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.storage.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    fn bytes(storage: &dyn StorageBackend) -> Vec<u8> {
        let mut out = vec![0; storage.len().expect("len") as usize];
        storage.read(0, &mut out).expect("read");
        out
    }

    /// A closed gate reads as if it were open, and changes nothing.
    #[test]
    fn what_is_held_back_is_visible_through_the_gate_only() {
        let storage = Arc::new(InMemoryBackend::new());
        storage.set_len(8).expect("len");
        storage.write(0, b"abcdefgh").expect("write");
        let gate = Gate::new(storage.clone(), Durability::Full).expect("gate");

        gate.write(2, b"XY").expect("write");
        gate.set_len(6).expect("shrink");
        gate.set_len(10).expect("grow");
        gate.write(5, b"Z").expect("write");
        let seen = b"abXYeZ\0\0\0\0";
        assert_eq!(bytes(&gate), seen);
        let mut middle = [0; 4];
        gate.read(3, &mut middle).expect("read");
        assert_eq!(&middle, b"YeZ\0");
        assert!(gate.read(8, &mut middle).is_err(), "behind the end");
        assert_eq!(bytes(&*storage), b"abcdefgh");

        gate.release().expect("release");
        assert_eq!(bytes(&*storage), seen);
        gate.write(0, b"W").expect("write");
        assert_eq!(bytes(&*storage)[0], b'W');
    }

    #[test]
    fn a_name_that_is_taken_is_not_overwritten() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("store");
        fs::write(&path, b"first").expect("write");
        let (beside, _file) = create_beside(&path).expect("create");
        publish(&beside, &path).expect("publish");
        assert_eq!(fs::read(&path).expect("read"), b"first");
        assert!(!beside.exists());
    }
}
