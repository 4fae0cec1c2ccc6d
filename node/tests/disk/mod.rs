//! A disk in memory that remembers what was done to it and fails when told to, and a workload
//! whose every state is known.

#![allow(dead_code, reason = "each test uses the part it needs")]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, Once};

use hypergolix_engine::{Table, View, Write};
use hypergolix_node::store::{Store, StoreError};
use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use redb::StorageBackend;

/// Something a disk was asked to change.
#[derive(Debug, Clone)]
pub enum Change {
    /// Bytes at an offset.
    Write(u64, Vec<u8>),
    /// A new length.
    Len(u64),
    /// Everything before this is durable.
    Sync,
}

/// Carries out `change` on the bytes of a disk.
pub fn carry_out(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, data) => {
            let (start, end) = (*offset as usize, *offset as usize + data.len());
            if end > bytes.len() {
                bytes.resize(end, 0);
            }
            bytes[start..end].copy_from_slice(data);
        }
        Change::Len(len) => bytes.resize(*len as usize, 0),
        Change::Sync => {}
    }
}

/// How a disk fails.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// The operation that fails, counting from 0.
    pub operation: u64,
    /// Whether all later ones fail as well.
    pub for_ever: bool,
    /// What the operating system says.
    pub kind: io::ErrorKind,
    /// How much of a failing write reaches the disk, in 256ths.
    pub torn: u8,
}

/// The disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

/// What a disk is made of.
#[derive(Debug, Default)]
pub struct State {
    /// What it holds, flushed or not.
    pub bytes: Vec<u8>,
    /// Every change, in order.
    pub log: Vec<Change>,
    /// Reads, writes, changes of length and flushes so far.
    pub operations: u64,
    /// What is going to fail.
    pub fault: Option<Fault>,
    /// How many bytes there is room for.
    pub capacity: Option<usize>,
}

impl Disk {
    /// A disk that holds these bytes.
    pub fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { bytes, ..State::default() })))
    }

    /// What the disk is made of.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds a disk")
    }

    /// The fault of this operation, if it is its turn.
    fn operate(state: &mut State) -> Option<Fault> {
        let operation = state.operations;
        state.operations += 1;
        state.fault.filter(|fault| {
            operation == fault.operation || fault.for_ever && operation > fault.operation
        })
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        if let Some(fault) = Self::operate(&mut state) {
            return Err(fault.kind.into());
        }
        let start = offset as usize;
        let stored = state.bytes.get(start..start + out.len());
        out.copy_from_slice(stored.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        if let Some(fault) = Self::operate(&mut state) {
            return Err(fault.kind.into());
        }
        if state.capacity.is_some_and(|capacity| len as usize > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.bytes.resize(len as usize, 0);
        state.log.push(Change::Len(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        if let Some(fault) = Self::operate(&mut state) {
            return Err(fault.kind.into());
        }
        state.log.push(Change::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let fault = Self::operate(&mut state);
        let written = match fault {
            Some(fault) => data.len() * usize::from(fault.torn) / 256,
            None => data.len(),
        };
        let change = Change::Write(offset, data[..written].to_vec());
        carry_out(&mut state.bytes, &change);
        state.log.push(change);
        fault.map_or(Ok(()), |fault| Err(fault.kind.into()))
    }
}

/// All rows of a store.
pub type Rows = BTreeMap<(Table, Vec<u8>), Arc<[u8]>>;

/// The row that says which transaction was the last.
const NUMBER: (Table, &[u8]) = (Table::Meta, b"transaction");

/// Random transactions, and the rows after each of them.
#[derive(Debug)]
pub struct Workload {
    /// Rows after transaction 0 (nothing), 1, 2, …
    pub after: Vec<Rows>,
    keys: u64,
    value_len_max: usize,
}

impl Workload {
    /// A workload over `keys` different keys with values up to `value_len_max` bytes.
    pub fn new(keys: u64, value_len_max: usize) -> Self {
        Self { after: vec![Rows::new()], keys, value_len_max }
    }

    /// How many transactions there were.
    pub fn len(&self) -> usize {
        self.after.len() - 1
    }

    /// The rows after the last transaction.
    pub fn newest(&self) -> &Rows {
        self.after.last().expect("the empty state is always there")
    }

    /// The writes of another transaction.
    pub fn next(&mut self, random: &mut StdRng) -> Vec<Write> {
        let mut rows = self.newest().clone();
        let mut writes = Vec::new();
        for _ in 0..random.random_range(1..20) {
            let table = Table::ALL[random.random_range(0..Table::ALL.len())];
            let key = random.random_range(0..self.keys).to_be_bytes().to_vec();
            let value = random.random_bool(0.7).then(|| {
                let mut value = vec![0; random.random_range(0..=self.value_len_max)];
                random.fill_bytes(&mut value);
                value
            });
            match &value {
                Some(value) => rows.insert((table, key.clone()), value.as_slice().into()),
                None => rows.remove(&(table, key.clone())),
            };
            writes.push(Write { table, key, value });
        }
        let number = (self.after.len() as u64).to_be_bytes().to_vec();
        rows.insert((NUMBER.0, NUMBER.1.to_vec()), number.as_slice().into());
        writes.push(Write { table: NUMBER.0, key: NUMBER.1.to_vec(), value: Some(number) });
        self.after.push(rows);
        writes
    }

    /// Compares a store with the state after the transaction that it says was its last.
    ///
    /// Returns that transaction if it is one from `acknowledged` to `started`, else what is wrong.
    pub fn check(
        &self,
        store: &Store,
        acknowledged: usize,
        started: usize,
    ) -> Result<usize, String> {
        let rows = all_rows(store).map_err(|error| format!("unreadable: {error}"))?;
        let number = rows.get(&(NUMBER.0, NUMBER.1.to_vec())).map_or(0, |number| {
            let number = number.as_ref().try_into().map(u64::from_be_bytes);
            number.map_or(usize::MAX, |number| number as usize)
        });
        if number < acknowledged {
            return Err(format!("lost: {acknowledged} was acknowledged, {number} is there"));
        }
        if number > started {
            return Err(format!("invented: {started} was begun, {number} is there"));
        }
        if rows != self.after[number] {
            return Err(format!("mixed: not the rows of {number}"));
        }
        Ok(number)
    }
}

/// Every row of a store, with the counts of its tables compared.
pub fn all_rows(store: &Store) -> Result<Rows, StoreError> {
    let damaged = |error: hypergolix_engine::ViewError| StoreError::Damaged(error.0);
    let snapshot = store.snapshot()?;
    let mut rows = Rows::new();
    for table in Table::ALL {
        let found = snapshot.range(table, &[], &[0xFF; 32], usize::MAX).map_err(damaged)?;
        let len = snapshot.len(table).map_err(damaged)?;
        if len != found.len() as u64 {
            return Err(StoreError::Damaged(format!("{table:?} counts {len} rows")));
        }
        rows.extend(found.into_iter().map(|(key, value)| ((table, key), value.into())));
    }
    Ok(rows)
}

/// Keeps panics inside redb, which the store catches, off the terminal.
pub fn hide_caught_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let shown = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic.location().is_some_and(|location| location.file().contains("/redb-")) {
                shown(panic);
            }
        }));
    });
}

/// Runs `body` and turns a panic that comes out of it into an error.
pub fn no_panic<T>(body: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    hide_caught_panics();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body))
        .unwrap_or_else(|_| Err("panicked".to_owned()))
}

/// A count from the environment.
pub fn count(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|count| count.parse().ok()).unwrap_or(default)
}
