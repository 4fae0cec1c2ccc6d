//! Format versions, and the way from each to the next.

use redb::Database;

use super::error::StoreError;

/// The format this version writes.
pub(super) const FORMAT: u32 = 1;

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
/// Format 1 is the first, so there is no step yet.
///
/// # Errors
/// Whatever a step meets.
pub(super) fn migrate(_database: &Database, found: u32) -> Result<(), StoreError> {
    check(found)
}
