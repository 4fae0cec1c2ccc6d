//! What the rest of a node may rely on.

mod disk;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use disk::{Change, Disk};
use hypergolix_engine::{Table, View, Write};
use hypergolix_node::store::{Compaction, Durability, Store, StoreConfig, StoreError};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

fn put(key: &[u8], value: &[u8]) -> Write {
    Write { table: Table::Objects, key: key.to_vec(), value: Some(value.to_vec()) }
}

fn delete(key: &[u8]) -> Write {
    Write { table: Table::Objects, key: key.to_vec(), value: None }
}

fn commit(store: &mut Store, writes: &[Write]) {
    let mut batch = store.batch().expect("batch");
    batch.apply(writes.iter().cloned());
    batch.commit().expect("commit");
}

fn get(store: &Store, key: &[u8]) -> Option<Vec<u8>> {
    store.snapshot().expect("snapshot").get(Table::Objects, key).expect("get")
}

#[test]
fn a_store_may_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Store>();
    is_send::<hypergolix_node::store::Batch<'_>>();
    is_send::<hypergolix_node::store::Snapshot>();
}

#[test]
fn a_batch_reads_its_own_writes_and_others_do_not() {
    let mut store = Store::in_memory(StoreConfig::default()).expect("open");
    commit(&mut store, &[put(b"a", b"1"), put(b"b", b"2")]);
    let before = store.snapshot().expect("snapshot");

    let mut batch = store.batch().expect("batch");
    batch.apply([put(b"a", b"3"), delete(b"b"), put(b"c", b"4")]);
    assert_eq!(batch.get(Table::Objects, b"a").expect("get"), Some(b"3".to_vec()));
    assert_eq!(batch.get(Table::Objects, b"b").expect("get"), None);
    assert_eq!(batch.get(Table::Heads, b"a").expect("get"), None, "another table");
    assert_eq!(batch.len(Table::Objects).expect("len"), 2);
    assert_eq!(before.get(Table::Objects, b"a").expect("get"), Some(b"1".to_vec()));
    batch.commit().expect("commit");

    assert_eq!(before.get(Table::Objects, b"b").expect("get"), Some(b"2".to_vec()));
    assert_eq!(get(&store, b"a"), Some(b"3".to_vec()));
    assert_eq!(get(&store, b"b"), None);
}

#[test]
fn an_abandoned_batch_leaves_nothing() {
    let mut store = Store::in_memory(StoreConfig::default()).expect("open");
    let mut batch = store.batch().expect("batch");
    batch.apply([put(b"a", b"1")]);
    batch.abort();
    let mut batch = store.batch().expect("batch");
    batch.apply([put(b"b", b"1")]);
    drop(batch);
    assert_eq!(store.snapshot().expect("snapshot").len(Table::Objects).expect("len"), 0);
}

/// Reads through a batch against a map, with random writes in both layers.
#[test]
fn a_batch_is_an_ordered_map() {
    let mut store = Store::in_memory(StoreConfig::default()).expect("open");
    let random = &mut StdRng::seed_from_u64(11);
    let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let key = |random: &mut StdRng| {
        let len = random.random_range(0..3);
        (0..len).map(|_| random.random_range(b'a'..b'f')).collect::<Vec<u8>>()
    };
    for _ in 0..150 {
        let mut batch = store.batch().expect("batch");
        for _ in 0..random.random_range(0..8) {
            let key = key(random);
            if random.random_bool(0.5) {
                let value = vec![random.random()];
                batch.apply([put(&key, &value)]);
                model.insert(key, value);
            } else {
                batch.apply([delete(&key)]);
                model.remove(&key);
            }
            assert_eq!(batch.len(Table::Objects).expect("len"), model.len() as u64);
        }
        for _ in 0..20 {
            let (start, end, limit) = (key(random), key(random), random.random_range(0..9));
            let expected: Vec<_> = model
                .iter()
                .filter(|(key, _)| **key >= start && **key < end)
                .take(limit)
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            let found = batch.range(Table::Objects, &start, &end, limit).expect("range");
            assert_eq!(found, expected, "{start:?}..{end:?} limit {limit}");
            assert_eq!(batch.get(Table::Objects, &start).expect("get"), model.get(&start).cloned());
        }
        batch.commit().expect("commit");
    }
    let snapshot = store.snapshot().expect("snapshot");
    assert_eq!(snapshot.verify().expect("verify"), model.len() as u64);
}

#[test]
fn a_file_is_private_locked_and_still_there_tomorrow() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("store.redb");
    let mut store = Store::open(&path, StoreConfig::default()).expect("create");
    let mode = fs::metadata(&path).expect("metadata").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let names = fs::read_dir(directory.path()).expect("list");
    let mut names: Vec<_> = names.map(|entry| entry.expect("entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["store.redb", "store.redb.reserve"]);
    assert!(matches!(Store::open(&path, StoreConfig::default()), Err(StoreError::Locked)));
    commit(&mut store, &[put(b"a", b"1")]);
    store.reopen().expect("reopen");
    assert_eq!(get(&store, b"a"), Some(b"1".to_vec()));
    store.close().expect("close");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
    let store = Store::open(&path, StoreConfig::default()).expect("open");
    assert_eq!(get(&store, b"a"), Some(b"1".to_vec()));
    let mode = fs::metadata(&path).expect("metadata").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_is_not_a_store_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().expect("directory");
    let real = directory.path().join("real");
    drop(Store::open(&real, StoreConfig::default()).expect("create"));
    let link = directory.path().join("link");
    symlink(&real, &link).expect("symlink");
    let dangling = directory.path().join("dangling");
    symlink(directory.path().join("nowhere"), &dangling).expect("symlink");
    let text = directory.path().join("text");
    fs::write(&text, b"dear diary, today").expect("write");
    let foreign = directory.path().join("foreign");
    let database = redb::Database::create(&foreign).expect("create");
    let transaction = database.begin_write().expect("begin");
    let table = redb::TableDefinition::<u64, u64>::new("theirs");
    transaction.open_table(table).expect("table").insert(1, 2).expect("insert");
    transaction.commit().expect("commit");
    drop(database);

    for path in [&link, &dangling, &text, &foreign, &directory.path().to_owned()] {
        let before = fs::read(path).ok();
        let opened = Store::open(path, StoreConfig::default());
        assert!(matches!(opened, Err(StoreError::NotOurs(_))), "{path:?}: {opened:?}");
        assert!(fs::read(path).ok() == before, "{path:?} was touched");
    }
    assert!(!directory.path().join("nowhere").exists());
}

#[test]
fn an_empty_file_is_not_a_new_store() {
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("store.redb");
    fs::write(&path, b"").expect("write");
    let opened = Store::open(&path, StoreConfig::default());
    assert!(matches!(opened, Err(StoreError::Damaged(_))), "{opened:?}");

    let aside = Store::set_aside(&path).expect("set aside");
    assert_eq!(aside, directory.path().join("store.redb.damaged-1"));
    drop(Store::open(&path, StoreConfig::default()).expect("create"));
    let aside = Store::set_aside(&path).expect("set aside");
    assert_eq!(aside, directory.path().join("store.redb.damaged-2"));
}

#[test]
fn a_commit_flushes_unless_told_otherwise_and_closing_always_does() {
    let flushes = |disk: &Disk| {
        disk.state().log.iter().filter(|change| matches!(change, Change::Sync)).count()
    };
    for durability in [Durability::Full, Durability::Os] {
        let disk = Disk::default();
        let config = StoreConfig { durability, ..StoreConfig::default() };
        let mut store = Store::with_backend(disk.clone(), config).expect("create");
        let before = flushes(&disk);
        commit(&mut store, &[put(b"a", b"1")]);
        let during = flushes(&disk) - before;
        let written = disk.state().bytes.clone();
        store.close().expect("close");
        assert!(flushes(&disk) > before + during, "closing flushes");
        match durability {
            Durability::Full => assert_eq!(during, 2),
            Durability::Os => assert_eq!(during, 0),
        }
        // What the operating system has is complete: the process may end at any moment.
        let store = Store::with_backend(Disk::holding(written), StoreConfig::default());
        assert_eq!(get(&store.expect("open"), b"a"), Some(b"1".to_vec()));
    }
}

#[test]
fn an_empty_batch_touches_nothing() {
    let disk = Disk::default();
    let mut store = Store::with_backend(disk.clone(), StoreConfig::default()).expect("create");
    let before = disk.state().log.len();
    store.batch().expect("batch").commit().expect("commit");
    assert_eq!(disk.state().log.len(), before);
}

/// Deleted bytes are gone from the files once the store was compacted.
#[test]
fn compaction_forgets() {
    const MARK: &[u8] = b"remember ";
    let marker = |number: u32| [MARK, &number.to_be_bytes()].concat();
    let config = StoreConfig { reserve_bytes: 0, ..StoreConfig::default() };
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("store.redb");
    let leftover = directory.path().join("store.redb.new-0123456789abcdef");
    fs::write(&leftover, b"a compaction that did not come to its end").expect("write");
    let mut store = Store::open(&path, config).expect("create");
    assert!(!leftover.exists());
    for first in (0..1000).step_by(100) {
        let numbers = first..first + 100;
        let rows: Vec<_> =
            numbers.map(|number: u32| put(&number.to_be_bytes(), &marker(number))).collect();
        commit(&mut store, &rows);
    }
    let rows: Vec<_> = (100..1000).map(|number: u32| delete(&number.to_be_bytes())).collect();
    commit(&mut store, &rows);

    let old = store.snapshot().expect("snapshot");
    let before = store.file_bytes().expect("len");
    assert_eq!(store.compact().expect("compact"), Compaction::Forgotten);
    assert!(store.file_bytes().expect("len") < before);
    assert!(old.verify().is_err(), "the old file is closed");
    assert_eq!(store.snapshot().expect("snapshot").verify().expect("verify"), 100);
    assert!(matches!(Store::open(&path, StoreConfig::default()), Err(StoreError::Locked)));

    let mut found = Vec::new();
    for entry in fs::read_dir(directory.path()).expect("list") {
        let bytes = fs::read(entry.expect("entry").path()).expect("read");
        let marks = bytes.windows(MARK.len() + 4).filter_map(|window| window.strip_prefix(MARK));
        found.extend(marks.map(|number| u32::from_be_bytes(number.try_into().expect("4 bytes"))));
    }
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, (0..100).collect::<Vec<_>>());

    commit(&mut store, &[put(b"after", b"1")]);
    store.reopen().expect("reopen");
    assert_eq!(store.snapshot().expect("snapshot").verify().expect("verify"), 101);
}

/// What a node does on a full disk: reads go on, deleting works, and so does writing afterwards.
#[test]
fn a_full_disk_is_survived() {
    let disk = Disk::default();
    let mut store = Store::with_backend(disk.clone(), StoreConfig::default()).expect("create");
    disk.state().capacity = Some(2 << 20);
    let value = vec![7; 10_000];
    let mut stored = 0u32;
    let error = loop {
        let mut batch = store.batch().expect("batch");
        batch.apply([put(&stored.to_be_bytes(), &value)]);
        match batch.commit() {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full), "{error:?}");
    // The reserve of a store with a file makes this room.
    disk.state().capacity = Some((2 << 20) + (1 << 20));
    store.reopen().expect("reopen");
    let there = store.snapshot().expect("snapshot").verify().expect("verify");
    assert!(there >= u64::from(stored), "{there} of {stored}");
    for number in 0..stored / 2 {
        commit(&mut store, &[delete(&number.to_be_bytes())]);
    }
    for number in 0..stored / 4 {
        commit(&mut store, &[put(&number.to_be_bytes(), &value)]);
    }
}

/// The same with a real file system, the reserve and compaction. Wants an empty directory on a small
/// file system of its own:
///
/// ```sh
/// unshare -rm sh -c 'mount -t tmpfs -o size=8m none /mnt &&
///     HYPERGOLIX_SMALL_DISK=/mnt cargo test -p hypergolix-node --test store small'
/// ```
#[test]
fn a_small_disk_is_survived() {
    let Some(directory) = std::env::var_os("HYPERGOLIX_SMALL_DISK") else { return };
    let path = std::path::Path::new(&directory).join("store.redb");
    let config = StoreConfig { reserve_bytes: 2 << 20, ..StoreConfig::default() };
    let mut store = Store::open(&path, config).expect("create");
    let value = vec![7; 30_000];
    let mut stored = 0u32;
    let error = loop {
        let mut batch = store.batch().expect("batch");
        batch.apply([put(&stored.to_be_bytes(), &value)]);
        match batch.commit() {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full), "{error:?}");
    assert!(!store.is_low_on_space());
    store.reopen().expect("reopen");
    assert!(store.is_low_on_space());
    let there = store.snapshot().expect("snapshot").verify().expect("verify");
    assert!(there >= u64::from(stored), "{there} of {stored}");
    for number in 0..stored / 2 {
        commit(&mut store, &[delete(&number.to_be_bytes())]);
    }
    store.compact().expect("compact");
    store.restore_reserve().expect("restore");
    assert!(!store.is_low_on_space());
    for number in 0..stored / 4 {
        commit(&mut store, &[put(&number.to_be_bytes(), &value)]);
    }
    let there = store.snapshot().expect("snapshot").verify().expect("verify");
    println!("check store-full-disk: ok n={stored} there={there}");
}
