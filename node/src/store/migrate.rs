//! Format versions, and the way from each to the next.

use redb::Database;

use super::error::{StoreError, from_redb};
use super::{begin_write, tables};

/// The format this version writes.
///
/// | format | what it added |
/// |---|---|
/// | 1 | the first |
/// | 2 | table `inbox` |
/// | 3 | tables `users` and `graves` |
/// | 4 | tables `deletions`, `owned` and `elsewhere` |
pub(super) const FORMAT: u32 = 4;

/// Whether this version can read a store of format `found`.
///
/// # Errors
/// [`StoreError::Newer`] if a later version wrote the store, [`StoreError::Damaged`] if none did.
pub(super) fn check(found: u32) -> Result<(), StoreError> {
    match found {
        1..=FORMAT => Ok(()),
        0 => Err(StoreError::Damaged("format 0 never existed".to_owned())),
        found => Err(StoreError::Newer { found, supported: FORMAT }),
    }
}

/// Brings a store of format `found`, which [`check`] let pass, to [`FORMAT`].
///
/// A step from one format to the next is a function of its own and one transaction that ends by
/// writing the new format version, so that an interrupted migration goes on where it stopped.
/// So far every step only added tables, which one transaction does for all steps at once.
///
/// # Errors
/// Whatever a step meets.
pub(super) fn migrate(database: &Database, found: u32) -> Result<(), StoreError> {
    check(found)?;
    if found < FORMAT {
        let transaction = begin_write(database)?;
        tables::add_missing(&transaction, FORMAT)?;
        transaction.commit().map_err(from_redb)?;
    }
    Ok(())
}
