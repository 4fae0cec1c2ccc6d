//! One input at work: stored state as it will be, what to write, what to do afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::effect::{Effect, Outcome};
use crate::view::{Entropy, Row, Table, Time, View, ViewError, Write};

/// The stored state with this input's own writes on top.
pub(crate) struct Turn<'a> {
    view: &'a dyn View,
    entropy: &'a mut dyn Entropy,
    now: Time,
    staged: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
    effects: Vec<Effect>,
    /// Buckets of account records that changed.
    buckets: BTreeSet<u8>,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(view: &'a dyn View, entropy: &'a mut dyn Entropy, now: Time) -> Self {
        Self {
            view,
            entropy,
            now,
            staged: BTreeMap::new(),
            effects: Vec::new(),
            buckets: BTreeSet::new(),
        }
    }

    pub(crate) fn now(&self) -> Time {
        self.now
    }

    pub(crate) fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }

    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        // The map is keyed by owned bytes; a turn stages a dozen rows, so the copy is cheap.
        match self.staged.get(&(table, key.to_vec())) {
            Some(staged) => Ok(staged.clone()),
            None => self.view.get(table, key),
        }
    }

    /// Bytes of a value, without the value.
    pub(crate) fn size(&self, table: Table, key: &[u8]) -> Result<Option<usize>, ViewError> {
        match self.staged.get(&(table, key.to_vec())) {
            Some(staged) => Ok(staged.as_ref().map(Vec::len)),
            None => self.view.size(table, key),
        }
    }

    /// Rows with `start <= key < end`, this turn's writes included.
    pub(crate) fn range(
        &self,
        table: Table,
        start: &[u8],
        end: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, ViewError> {
        if start >= end {
            return Ok(Vec::new());
        }
        let staged: Vec<_> = self
            .staged
            .range((
                Bound::Included((table, start.to_vec())),
                Bound::Excluded((table, end.to_vec())),
            ))
            .collect();
        let stored = self.view.range(table, start, end, limit.saturating_add(staged.len()))?;
        if staged.is_empty() {
            return Ok(stored);
        }
        let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = stored.into_iter().collect();
        for ((_, key), value) in staged {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(rows.into_iter().take(limit).collect())
    }

    /// Rows whose key begins with `prefix`.
    pub(crate) fn prefixed(
        &self,
        table: Table,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<Row>, ViewError> {
        self.range(table, prefix, &after_prefix(prefix), limit)
    }

    pub(crate) fn len(&self, table: Table) -> Result<u64, ViewError> {
        self.view.len(table)
    }

    pub(crate) fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.staged.insert((table, key.into()), Some(value.into()));
    }

    pub(crate) fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.staged.insert((table, key.into()), None);
    }

    /// An account record of this bucket changed.
    pub(crate) fn touch_bucket(&mut self, bucket: u8) {
        self.buckets.insert(bucket);
    }

    pub(crate) fn take_buckets(&mut self) -> BTreeSet<u8> {
        std::mem::take(&mut self.buckets)
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(crate) fn log(&mut self, event: &'static str, about: impl Into<String>) {
        self.effects.push(Effect::Log { event, about: about.into() });
    }

    pub(crate) fn finish(self) -> Outcome {
        let writes = self
            .staged
            .into_iter()
            .map(|((table, key), value)| Write { table, key, value })
            .collect();
        Outcome { writes, unsigned: Vec::new(), effects: self.effects }
    }
}

/// The first key after every key that begins with `prefix`.
pub(crate) fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // Only 0xff bytes: longer than any key in use.
    vec![u8::MAX; 256]
}

/// Joins the parts of a key.
pub(crate) fn key(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}
