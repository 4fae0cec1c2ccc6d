//! Backups of an account: every row that makes it, in one file.
//!
//! ```text
//! "HGXBACKUP" | version 1 | rows, each in CBOR: [table, key, value] | SHA-512 of all before
//! ```
//!
//! Objects and records are as sealed as in the store: whoever has the file needs the password, and
//! sees addresses, sizes and who shares with whom. What belongs to the device and to its links (its
//! slot, its place in others' feeds, the epoch of its own) is left out: a restored account is a device
//! of its own, that signs under another slot than the one it was taken from. So nothing it writes ever
//! collides with what that one wrote since.

use std::io::{self, Read, Write};

use hypergolix_engine::{Table, View, ViewError, Write as Row};
use serde_bytes::ByteBuf;
use sha2::{Digest, Sha512};

const MAGIC: &[u8; 9] = b"HGXBACKUP";
const VERSION: u8 = 1;
const HASH_LEN: usize = 64;

/// Rows read at once.
const ROWS: usize = 256;

/// Tables whose rows are no backup's business.
const LEFT_OUT: [Table; 2] = [Table::Cursors, Table::Inbox];

/// Why a backup could not be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Not a backup.
    #[error("it is no backup of a Hypergolix account")]
    NotABackup,
    /// Of a later version.
    #[error("it was made by a later version of Hypergolix (format {0}); use that one")]
    Newer(u8),
    /// Cut off, or changed since.
    #[error("it is damaged or incomplete; take another copy")]
    Damaged,
}

/// Whether bytes begin as a backup does.
#[must_use]
pub fn is_backup(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Writes a backup of what `view` shows; returns how many rows it has.
///
/// # Errors
/// [`BackupError`].
pub fn write(view: &dyn View, out: &mut dyn Write) -> Result<usize, BackupError> {
    let mut out = Hashing { out, hash: Sha512::new() };
    out.write_all(MAGIC)?;
    out.write_all(&[VERSION])?;
    let mut rows = 0;
    for table in Table::ALL.into_iter().filter(|table| !LEFT_OUT.contains(table)) {
        let mut start = Vec::new();
        loop {
            let read = view.range(table, &start, &[u8::MAX; 256], ROWS)?;
            let Some((last, _)) = read.last() else { break };
            start.clone_from(last);
            start.push(0);
            for (key, value) in read {
                if table == Table::Meta && hypergolix_engine::account::is_of_the_device(&key) {
                    continue;
                }
                let row = (table as u8, ByteBuf::from(key), ByteBuf::from(value));
                let row = cbor4ii::serde::to_vec(Vec::new(), &row).map_err(io::Error::other)?;
                out.write_all(&(row.len() as u32).to_be_bytes())?;
                out.write_all(&row)?;
                rows += 1;
            }
        }
    }
    let Hashing { out, hash } = out;
    out.write_all(&hash.finalize())?;
    Ok(rows)
}

/// Reads a backup, all of it: the rows to write into an empty store.
///
/// # Errors
/// [`BackupError`]; nothing of a file that is not whole is returned.
pub fn read(file: &mut dyn Read) -> Result<Vec<Row>, BackupError> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let rest = bytes.strip_prefix(MAGIC).ok_or(BackupError::NotABackup)?;
    let (&version, rest) = rest.split_first().ok_or(BackupError::Damaged)?;
    if version != VERSION {
        return Err(BackupError::Newer(version));
    }
    let (mut rest, hash) =
        rest.split_at_checked(rest.len().saturating_sub(HASH_LEN)).ok_or(BackupError::Damaged)?;
    if Sha512::digest(&bytes[..bytes.len() - hash.len()])[..] != *hash {
        return Err(BackupError::Damaged);
    }
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let (len, after) = rest.split_first_chunk::<4>().ok_or(BackupError::Damaged)?;
        let len = u32::from_be_bytes(*len) as usize;
        let (row, after) = after.split_at_checked(len).ok_or(BackupError::Damaged)?;
        let (table, key, value): (u8, ByteBuf, ByteBuf) =
            cbor4ii::serde::from_slice(row).map_err(|_| BackupError::Damaged)?;
        let table = Table::ALL.into_iter().find(|known| *known as u8 == table);
        rows.push(Row {
            table: table.ok_or(BackupError::Damaged)?,
            key: key.into_vec(),
            value: Some(value.into_vec()),
        });
        rest = after;
    }
    Ok(rows)
}

/// Hashes what goes through it.
struct Hashing<'a> {
    out: &'a mut dyn Write,
    hash: Sha512,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
