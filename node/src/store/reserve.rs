//! Space kept for the day the disk is full.
//!
//! Deleting needs new pages before it frees old ones, so on a full disk nothing could be deleted.
//! A file of zeros beside the store holds some space; it is given up when a commit finds the disk
//! full, and taken again when there is room.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::error::StoreError;

/// The space, and whether we have it.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: bool,
}

impl Reserve {
    /// The reserve of the store at `store`, taken if there is room for it.
    pub(super) fn take(store: &Path, bytes: u64) -> Self {
        let mut name = store.file_name().unwrap_or_default().to_owned();
        name.push(".reserve");
        let mut reserve = Self { path: store.with_file_name(name), bytes, held: false };
        // Without room the node starts all the same, as one that is low on space.
        let _ = reserve.restore();
        reserve
    }

    /// Whether the space is missing.
    pub(super) fn is_missing(&self) -> bool {
        self.bytes > 0 && !self.held
    }

    /// Gives the space up.
    pub(super) fn release(&mut self) {
        self.held = false;
        let _ = fs::remove_file(&self.path);
    }

    /// Takes the space (again).
    pub(super) fn restore(&mut self) -> Result<(), StoreError> {
        if self.bytes == 0 {
            self.release();
        } else if !self.held {
            if let Err(error) = self.allocate() {
                self.release();
                return Err(error.into());
            }
            self.held = true;
        }
        Ok(())
    }

    fn allocate(&self) -> io::Result<()> {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.len() == self.bytes) {
            return Ok(());
        }
        // Whatever else is there, a link for instance, makes way.
        let _ = fs::remove_file(&self.path);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP) => self.fill(file),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the space the hard way, on file systems that cannot promise it.
    fn fill(&self, mut file: File) -> io::Result<()> {
        const BLOCK: usize = 4096;
        let mut left = self.bytes;
        while left > 0 {
            let len = left.min(BLOCK as u64) as usize;
            file.write_all(&[0; BLOCK][..len])?;
            left -= len as u64;
        }
        file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_comes_and_goes() {
        let directory = tempfile::tempdir().expect("directory");
        let store = directory.path().join("store.redb");
        let file = directory.path().join("store.redb.reserve");
        let mut reserve = Reserve::take(&store, 100_000);
        assert!(!reserve.is_missing());
        assert_eq!(fs::metadata(&file).expect("metadata").len(), 100_000);
        reserve.release();
        assert!(reserve.is_missing() && !file.exists());
        reserve.restore().expect("restore");
        assert!(!reserve.is_missing() && file.exists());

        let reserve = Reserve::take(&store, 0);
        assert!(!reserve.is_missing() && !file.exists(), "switched off");
    }
}
