//! What the store does in a second: commits by batch size, reads, and bytes on disk.
//!
//! `cargo bench -p hypergolix-node --bench store [DIRECTORY]`; the directory decides which disk is
//! measured, by default the current one.

#![expect(clippy::cast_precision_loss, reason = "numbers to be looked at")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use hypergolix_engine::{Table, View, Write};
use hypergolix_node::store::{Durability, Store, StoreConfig};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// Rows that one push writes: container, frame, head, high-water, feed, feed index, outbox, meta.
const PUSH: [(Table, usize); 8] = [
    (Table::Objects, 1000),
    (Table::Objects, 700),
    (Table::Heads, 90),
    (Table::HighWater, 16),
    (Table::Feed, 65),
    (Table::FeedIndex, 8),
    (Table::Outbox, 100),
    (Table::Meta, 8),
];

fn push(random: &mut StdRng) -> Vec<Write> {
    let row = |(table, len): (Table, usize)| {
        let (mut key, mut value) = (vec![0; 65], vec![0; len]);
        random.fill_bytes(&mut key);
        random.fill_bytes(&mut value);
        Write { table, key, value: Some(value) }
    };
    PUSH.into_iter().map(row).collect()
}

fn micros(total: Duration, n: usize) -> f64 {
    total.as_secs_f64() * 1e6 / n as f64
}

fn main() {
    // Cargo adds `--bench`.
    let directory = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let directory = directory.map_or_else(|| PathBuf::from("."), PathBuf::from);
    for durability in [Durability::Full, Durability::Os] {
        measure(&directory, durability);
    }
}

fn measure(directory: &std::path::Path, durability: Durability) {
    let scratch = tempfile::tempdir_in(directory).expect("a directory to write in");
    let path = scratch.path().join("store.redb");
    let config = StoreConfig { durability, reserve_bytes: 0, ..StoreConfig::default() };
    let mut store = Store::open(&path, config.clone()).expect("create");
    let random = &mut StdRng::seed_from_u64(1);

    let mut keys = Vec::new();
    for pushes in [1, 8, 64, 256] {
        let commits = 2000 / pushes + 8;
        let (mut inside, mut committing) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..commits {
            let inputs: Vec<_> = (0..pushes).map(|_| push(random)).collect();
            let start = Instant::now();
            let mut batch = store.batch().expect("batch");
            for writes in &inputs {
                // The engine reads about as many rows as it writes.
                for write in writes {
                    batch.get(write.table, &write.key).expect("get");
                }
                batch.apply(writes.iter().cloned());
            }
            inside += start.elapsed();
            let start = Instant::now();
            batch.commit().expect("commit");
            committing += start.elapsed();
            keys.extend(inputs.into_iter().map(|mut writes| writes.swap_remove(0).key));
        }
        let total = (inside + committing).as_secs_f64();
        println!(
            "{durability:?}: {pushes:4} pushes a commit: {:6.0} commits/s {:7.0} pushes/s, batch \
             {:6.0} us, commit {:6.0} us",
            commits as f64 / total,
            (commits * pushes) as f64 / total,
            micros(inside, commits),
            micros(committing, commits),
        );
    }

    let start = Instant::now();
    for _ in 0..10_000 {
        store.batch().expect("batch").commit().expect("commit");
    }
    println!("{durability:?}: empty batch {:.1} us", micros(start.elapsed(), 10_000));
    let batch = store.batch().expect("batch");
    let start = Instant::now();
    for _ in 0..50_000 {
        let key = &keys[random.random_range(0..keys.len())];
        assert!(batch.get(Table::Objects, key).expect("get").is_some());
    }
    println!(
        "{durability:?}: get {:.1} us of {} objects",
        micros(start.elapsed(), 50_000),
        keys.len()
    );
    drop(batch);

    let live = keys.len() * PUSH.iter().map(|(_, len)| 65 + len).sum::<usize>();
    let before = store.file_bytes().expect("length");
    let start = Instant::now();
    store.compact().expect("compact");
    println!(
        "{durability:?}: {} MB of rows in {} MB, {} MB after {:.2} s of compaction",
        live / 1_000_000,
        before / 1_000_000,
        store.file_bytes().expect("length") / 1_000_000,
        start.elapsed().as_secs_f64(),
    );
    drop(store);
    let start = Instant::now();
    drop(Store::open(&path, config).expect("open"));
    println!("{durability:?}: opened and checked in {:.1} ms", micros(start.elapsed(), 1) / 1e3);
}
