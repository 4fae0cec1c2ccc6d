//! A disk that forgets what was not committed.

use std::collections::BTreeMap;
use std::ops::Bound;

use hypergolix_engine::view::{Row, Table, View, ViewError, Write};

/// The rows of a node, with one open transaction on top.
///
/// Writes are visible at once, as the engine asks; [`Disk::roll_back`] undoes those since the last
/// [`Disk::commit`], as a crash does.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    tables: BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>,
    /// What the open transaction changed, oldest first: table, key, value before.
    undo: Vec<(Table, Vec<u8>, Option<Vec<u8>>)>,
}

impl Disk {
    /// Writes rows into the open transaction.
    pub fn stage(&mut self, writes: Vec<Write>) {
        for Write { table, key, value } in writes {
            let before = self.set(table, &key, value);
            self.undo.push((table, key, before));
        }
    }

    /// Whether the open transaction has written something.
    pub fn is_dirty(&self) -> bool {
        !self.undo.is_empty()
    }

    /// Makes the open transaction durable.
    pub fn commit(&mut self) {
        self.undo.clear();
    }

    /// Forgets the open transaction.
    pub fn roll_back(&mut self) {
        self.roll_back_to(0);
    }

    /// Forgets the later half of the open transaction's writes and keeps the rest, which no sound
    /// store does. For [`Mutant::TornCommit`](crate::Mutant::TornCommit).
    pub fn tear(&mut self) {
        self.roll_back_to(self.undo.len() / 2);
        self.undo.clear();
    }

    /// Removes every row of a table for which `lost` says so, durably. For mutants.
    pub fn lose(&mut self, table: Table, lost: impl Fn(&[u8]) -> bool) {
        if let Some(rows) = self.tables.get_mut(&table) {
            rows.retain(|key, _| !lost(key));
        }
    }

    fn roll_back_to(&mut self, len: usize) {
        while self.undo.len() > len {
            if let Some((table, key, before)) = self.undo.pop() {
                self.set(table, &key, before);
            }
        }
    }

    fn set(&mut self, table: Table, key: &[u8], value: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let rows = self.tables.entry(table).or_default();
        match value {
            Some(value) => match rows.get_mut(key) {
                Some(row) => Some(std::mem::replace(row, value)),
                None => rows.insert(key.to_vec(), value),
            },
            None => rows.remove(key),
        }
    }
}

impl View for Disk {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        Ok(self.tables.get(&table).and_then(|rows| rows.get(key)).cloned())
    }

    fn range(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, ViewError> {
        if start >= end {
            return Ok(Vec::new());
        }
        let Some(rows) = self.tables.get(&table) else {
            return Ok(Vec::new());
        };
        Ok(rows
            .range::<[u8], _>((Bound::Included(start), Bound::Excluded(end)))
            .take(limit)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn len(&self, table: Table) -> Result<u64, ViewError> {
        Ok(self.tables.get(&table).map_or(0, |rows| rows.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(key: u8, value: Option<u8>) -> Write {
        Write { table: Table::Meta, key: vec![key], value: value.map(|value| vec![value]) }
    }

    #[test]
    fn what_was_not_committed_is_gone() {
        let mut disk = Disk::default();
        disk.stage(vec![write(1, Some(1)), write(2, Some(2))]);
        disk.commit();
        disk.stage(vec![write(1, Some(9)), write(2, None), write(3, Some(3)), write(1, None)]);
        assert_eq!(disk.get(Table::Meta, &[1]).expect("sound"), None);
        assert_eq!(disk.range(Table::Meta, &[0], &[9], 9).expect("sound").len(), 1);
        assert!(disk.is_dirty());
        disk.roll_back();
        assert!(!disk.is_dirty());
        let rows = disk.range(Table::Meta, &[0], &[9], 9).expect("sound");
        assert_eq!(rows, [(vec![1], vec![1]), (vec![2], vec![2])]);
        assert_eq!(disk.range(Table::Meta, &[2], &[2], 9).expect("sound"), []);
    }
}
