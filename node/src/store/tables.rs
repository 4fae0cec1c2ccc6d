//! Tables of the file: names, and the rows the store keeps for itself.
//!
//! `docs/store.md` describes them byte by byte.

use hypergolix_engine::Table;
use redb::{ReadTransaction, ReadableDatabase, TableDefinition, WriteTransaction};

use super::checksum::Checksum;
use super::error::{StoreError, from_redb};

/// Keys and values of every table are bytes.
pub(super) type Bytes = &'static [u8];

/// How many tables the engine has.
pub(super) const TABLES: usize = Table::ALL.len();

/// The store's own rows. The engine has no name for this table, so it cannot touch it.
const OWN: TableDefinition<Bytes, Bytes> = TableDefinition::new("store");
/// Stands for [`OWN`] where the engine's tables have their discriminant.
const OWN_ID: u8 = 255;
/// Row of [`OWN`]: the format version, 4 bytes big-endian. Its name and layout never change, so
/// that every version can tell what a newer one wrote.
const FORMAT: &[u8] = b"format";
/// Row of [`OWN`]: the key of [`Checksum`], 16 random bytes.
const CHECKSUM_KEY: &[u8] = b"checksum key";

/// Where a table's rows are. Part of the disk format: names stay when variants are renamed.
pub(super) fn definition(table: Table) -> TableDefinition<'static, Bytes, Bytes> {
    TableDefinition::new(match table {
        Table::Meta => "meta",
        Table::Objects => "objects",
        Table::Heads => "heads",
        Table::Holders => "holders",
        Table::Debindings => "debindings",
        Table::HighWater => "high-water",
        Table::Requests => "requests",
        Table::Feed => "feed",
        Table::FeedIndex => "feed-index",
        Table::Account => "account",
        Table::Outbox => "outbox",
        Table::Follows => "follows",
        Table::Cursors => "cursors",
        Table::Pending => "pending",
        Table::Users => "users",
        Table::Graves => "graves",
        Table::Deletions => "deletions",
        Table::Owned => "owned",
        Table::Elsewhere => "elsewhere",
        Table::Inbox => "inbox",
    })
}

/// Where a table stands in arrays of [`TABLES`].
pub(super) fn index(table: Table) -> usize {
    table as usize
}

/// What the store's own rows say.
#[derive(Debug)]
pub(super) struct Own {
    /// The format version.
    pub(super) format: u32,
    /// The checksum of all other rows.
    pub(super) checksum: Checksum,
}

impl Own {
    /// Reads the rows of an opened file.
    ///
    /// # Errors
    /// [`StoreError::NotOurs`] if there are none, [`StoreError::Damaged`] if they are not intact.
    pub(super) fn read(database: &redb::Database) -> Result<Self, StoreError> {
        let transaction = database.begin_read().map_err(from_redb)?;
        let format = read_row(&transaction, FORMAT)?;
        let key = read_row(&transaction, CHECKSUM_KEY)?;
        Ok(Self { format: u32::from_be_bytes(format), checksum: Checksum::new(&key) })
    }
}

/// Writes the rows of a new store and creates its tables.
pub(super) fn create(
    transaction: &WriteTransaction,
    format: u32,
    checksum_key: [u8; Checksum::KEY_LEN],
) -> Result<(), StoreError> {
    let unkeyed = Checksum::unkeyed();
    let mut own = transaction.open_table(OWN).map_err(from_redb)?;
    for (key, value) in [(FORMAT, &format.to_be_bytes()[..]), (CHECKSUM_KEY, &checksum_key)] {
        own.insert(key, unkeyed.seal(OWN_ID, key, value).as_slice()).map_err(from_redb)?;
    }
    for table in Table::ALL {
        transaction.open_table(definition(table)).map_err(from_redb)?;
    }
    Ok(())
}

/// Creates the tables that an older format does not have, and says which format it is now.
pub(super) fn add_missing(transaction: &WriteTransaction, format: u32) -> Result<(), StoreError> {
    for table in Table::ALL {
        transaction.open_table(definition(table)).map_err(from_redb)?;
    }
    let value = Checksum::unkeyed().seal(OWN_ID, FORMAT, &format.to_be_bytes());
    let mut own = transaction.open_table(OWN).map_err(from_redb)?;
    own.insert(FORMAT, value.as_slice()).map_err(from_redb)?;
    Ok(())
}

fn read_row<const N: usize>(
    transaction: &ReadTransaction,
    key: &[u8],
) -> Result<[u8; N], StoreError> {
    let own = match transaction.open_table(OWN) {
        Ok(own) => own,
        Err(redb::TableError::TableDoesNotExist(_)) => {
            return Err(StoreError::NotOurs("a redb file of another program".to_owned()));
        }
        Err(error) => return Err(from_redb(error)),
    };
    let stored = own.get(key).map_err(from_redb)?;
    stored
        .and_then(|stored| {
            let value = Checksum::unkeyed().open(OWN_ID, key, stored.value())?;
            value.try_into().ok()
        })
        .ok_or_else(|| StoreError::Damaged(format!("row {:?}", String::from_utf8_lossy(key))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use redb::TableHandle;

    use super::*;

    #[test]
    fn every_table_has_a_place_of_its_own() {
        let names: BTreeSet<String> =
            Table::ALL.iter().map(|table| definition(*table).name().to_owned()).collect();
        assert_eq!(names.len(), TABLES);
        assert!(!names.contains(OWN.name()));
        for (position, table) in Table::ALL.into_iter().enumerate() {
            assert_eq!(index(table), position);
        }
    }
}
