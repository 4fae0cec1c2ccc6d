//! A disk that fails at the n-th operation, for every n; and a file that rots.
//!
//! After any failure the application has been told no lie: what was acknowledged is there once the
//! disk works again, nothing is there that was not begun, and no panic and no wrong row ever comes
//! out of the store.
//!
//! `HYPERGOLIX_ROT_IMAGES` (default 400) is how many rotten files are tried of each kind.

mod disk;

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use disk::{Disk, Fault, Workload};
use hypergolix_engine::{Table, View};
use hypergolix_node::store::{Store, StoreConfig, StoreError};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Bytes of a page of redb.
const PAGE: usize = 4096;

/// Transactions of a run with faults.
const TRANSACTIONS: usize = 5;

/// A cache that holds next to nothing, so that reads reach the disk.
fn config() -> StoreConfig {
    StoreConfig { cache_bytes: 8 * PAGE, ..StoreConfig::default() }
}

/// What an application does and knows.
struct Session {
    workload: Workload,
    random: StdRng,
    /// The last transaction it was told is stored.
    acknowledged: usize,
    /// The last transaction it has begun.
    begun: usize,
    /// Whether it was ever told that the disk is full.
    full: bool,
}

impl Session {
    fn new() -> Self {
        let random = StdRng::seed_from_u64(7);
        Self { workload: Workload::new(12, 6000), random, acknowledged: 0, begun: 0, full: false }
    }

    /// Goes on as a node does: after a failure it reopens the store and continues with what is
    /// there. Gives up when reopening fails as well.
    fn run(&mut self, disk: &Disk) -> Result<(), String> {
        let open = Store::with_backend(disk.clone(), config());
        let Ok(mut store) = self.hear(open) else {
            return Ok(());
        };
        while self.workload.len() < TRANSACTIONS {
            let done = self.transact(&mut store);
            if self.hear(done).is_ok() {
                continue;
            }
            if !store.is_poisoned() || !matches!(store.batch(), Err(StoreError::Poisoned)) {
                return Err("usable: after a failure".to_owned());
            }
            let reopened = store.reopen();
            if self.hear(reopened).is_err() {
                if !store.is_poisoned() {
                    return Err("usable: after reopening failed".to_owned());
                }
                return Ok(());
            }
            // A read may fail now as well; then it is asked again.
            if let Ok(found) = self.workload.check(&store, self.acknowledged, self.begun) {
                // What the failed commit did is decided now.
                (self.acknowledged, self.begun) = (found, found);
                self.workload.after.truncate(found + 1);
            }
        }
        let closed = store.close();
        let _ = self.hear(closed);
        Ok(())
    }

    /// One transaction that decides upon what is stored, as the engine does.
    fn transact(&mut self, store: &mut Store) -> Result<(), StoreError> {
        let failed = |error: hypergolix_engine::ViewError| StoreError::Damaged(error.0);
        let mut batch = store.batch()?;
        for table in [Table::Meta, Table::Objects, Table::Pending] {
            let seen = batch.range(table, &[], &[0xFF; 32], usize::MAX).map_err(failed)?;
            let stored = self.workload.newest().iter().filter(|((other, _), _)| *other == table);
            let stored = stored.map(|(_, value)| &value[..]);
            assert!(seen.iter().map(|(_, value)| &value[..]).eq(stored), "a wrong row was read");
        }
        batch.apply(self.workload.next(&mut self.random));
        self.begun = self.workload.len();
        batch.commit()?;
        self.acknowledged = self.workload.len();
        Ok(())
    }

    fn hear<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.full |= matches!(result, Err(StoreError::Full));
        result
    }
}

/// A disk with an empty store on it.
fn created() -> Disk {
    let disk = Disk::default();
    drop(Store::with_backend(disk.clone(), config()).expect("create"));
    disk.state().operations = 0;
    disk
}

#[test]
fn a_failing_disk_makes_no_liar_of_the_store() {
    let intact = created();
    let base = intact.state().bytes.clone();
    Session::new().run(&intact).expect("nothing fails");
    let operations = intact.state().operations;

    let random = &mut StdRng::seed_from_u64(1);
    let (mut runs, mut full, mut slowest) = (0, 0, Duration::ZERO);
    let mut failures = BTreeMap::new();
    for operation in 0..operations {
        for for_ever in [false, true] {
            for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
                let fault = Fault { operation, for_ever, kind, torn: random.random() };
                let disk = Disk::holding(base.clone());
                disk.state().fault = Some(fault);
                let (mut session, start) = (Session::new(), Instant::now());
                let ended = disk::no_panic(|| {
                    session.run(&disk)?;
                    disk.state().fault = None;
                    let store = Store::with_backend(disk.clone(), config())
                        .map_err(|error| format!("unopenable: {error}"))?;
                    session.workload.check(&store, session.acknowledged, session.begun)
                });
                if let Err(failure) = ended {
                    failures.entry(failure).or_insert((0, fault)).0 += 1;
                }
                slowest = slowest.max(start.elapsed());
                full += usize::from(session.full);
                runs += 1;
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(full > 0, "a full disk is told from a broken one");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    println!(
        "check store-faults: ok n={runs} operations={operations} full={full} worst={}ms",
        slowest.as_millis()
    );
}

/// A file as it was written, an older version of it, and what it must hold.
struct Written {
    old: Vec<u8>,
    /// As the end of the process left it.
    crashed: Vec<u8>,
    /// As it was closed.
    closed: Vec<u8>,
    workload: Workload,
}

fn written() -> Written {
    let random = &mut StdRng::seed_from_u64(3);
    let disk = Disk::default();
    let mut workload = Workload::new(30, 3000);
    let mut store = Store::with_backend(disk.clone(), StoreConfig::default()).expect("create");
    let mut commit = |store: &mut Store| {
        let mut batch = store.batch().expect("batch");
        batch.apply(workload.next(random));
        batch.commit().expect("commit");
    };
    (0..40).for_each(|_| commit(&mut store));
    let old = disk.state().bytes.clone();
    (0..4).for_each(|_| commit(&mut store));
    let crashed = disk.state().bytes.clone();
    store.close().expect("close");
    let closed = disk.state().bytes.clone();
    Written { old, crashed, closed, workload }
}

/// What became of a rotten file.
fn serve(workload: &Workload, bytes: Vec<u8>) -> Result<&'static str, String> {
    let all = workload.len();
    disk::no_panic(|| {
        let disk = Disk::holding(bytes.clone());
        match Store::with_backend(disk.clone(), StoreConfig::default()) {
            Err(_) if disk.state().bytes == bytes => Ok("refused"),
            Err(error) => Err(format!("touched: {error}")),
            Ok(store) => match workload.check(&store, all, all) {
                Ok(_) => Ok("intact"),
                Err(noticed) if noticed.starts_with("unreadable") => Ok("unreadable"),
                Err(silent) => Err(silent),
            },
        }
    })
}

/// A way for a file to rot. Takes the file and what it was some commits ago.
type Rot = fn(&mut Vec<u8>, &[u8], &mut StdRng);

const ROT: [(&str, Rot); 5] = [
    ("bit", |bytes, _, random| {
        let at = random.random_range(0..bytes.len());
        bytes[at] ^= 1 << random.random_range(0..8);
    }),
    ("zeroed", |bytes, _, random| {
        let page = random.random_range(0..bytes.len() / PAGE) * PAGE;
        bytes[page..page + PAGE].fill(0);
    }),
    ("truncated", |bytes, _, random| {
        // A file without any byte has its own test.
        bytes.truncate(random.random_range(1..bytes.len()));
    }),
    ("swapped", |bytes, _, random| {
        let pages = bytes.len() / PAGE;
        let (one, other) = (random.random_range(0..pages), random.random_range(0..pages));
        for at in 0..PAGE {
            bytes.swap(one * PAGE + at, other * PAGE + at);
        }
    }),
    ("stale", |bytes, old, random| {
        // A write that never arrived. Not of the first page, which says what the last commit was.
        let page = random.random_range(1..old.len().min(bytes.len()) / PAGE) * PAGE;
        bytes[page..page + PAGE].copy_from_slice(&old[page..page + PAGE]);
    }),
];

#[test]
fn a_rotten_file_is_never_served_from() {
    let written = written();
    let images = disk::count("HYPERGOLIX_ROT_IMAGES", 400);
    for (name, rot) in ROT {
        let random = &mut StdRng::seed_from_u64(4);
        let (mut outcomes, mut failures) = (BTreeMap::new(), BTreeMap::new());
        for image in 0..images {
            let intact = if image % 2 == 0 { &written.closed } else { &written.crashed };
            let mut bytes = intact.clone();
            rot(&mut bytes, &written.old, random);
            match serve(&written.workload, bytes) {
                Ok(outcome) => *outcomes.entry(outcome).or_insert(0) += 1,
                Err(failure) => *failures.entry(failure).or_insert(0) += 1,
            }
        }
        assert!(failures.is_empty(), "{name}: {failures:#?}");
        println!("check store-rot-{name}: ok n={images} {outcomes:?}");
    }
}

/// Every bit of redb's header. One of them, after a crash, decides which of the last two commits is
/// the newer; a file alone cannot tell that it was flipped from that the last commit never came to
/// its end. It shows the whole commit before, nothing else.
#[test]
fn one_bit_of_the_header_counts() {
    const HEADER: usize = 320;
    const NEWER_COMMIT: usize = 9 * 8;
    let written = written();
    for (name, intact) in [("closed", &written.closed), ("crashed", &written.crashed)] {
        let mut outcomes = BTreeMap::new();
        let mut failures = BTreeMap::new();
        for bit in 0..HEADER * 8 {
            let mut bytes = intact.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match serve(&written.workload, bytes) {
                Ok(outcome) => *outcomes.entry(outcome).or_insert(0) += 1,
                Err(failure) => drop(failures.insert(bit, failure)),
            }
        }
        if let Some(failure) = failures.remove(&NEWER_COMMIT) {
            assert!(name == "crashed" && failure.starts_with("lost: 44"), "{name}: {failure}");
        }
        assert!(failures.is_empty(), "{name}: {failures:#?}");
        println!("check store-rot-header-{name}: ok n={} {outcomes:?}", HEADER * 8);
    }
}

/// Rot under a running node: redb checks pages only when it opens a file, the rows check themselves.
#[test]
fn a_row_that_rots_later_is_not_served_either() {
    let Written { crashed, workload, .. } = written();
    let (mut noticed, mut hidden) = (0, 0);
    for ((table, key), value) in workload.newest().iter().step_by(4) {
        // Only what can be found again by its content, and lies in one piece.
        let Some(needle) = value.get(..64.min(value.len())).filter(|needle| needle.len() >= 16)
        else {
            continue;
        };
        let disk = Disk::holding(crashed.clone());
        let mut store = Store::with_backend(disk.clone(), config()).expect("open");
        let places: Vec<usize> = disk
            .state()
            .bytes
            .windows(needle.len())
            .enumerate()
            .filter_map(|(at, window)| (window == needle).then_some(at))
            .collect();
        for at in places {
            disk.state().bytes[at] ^= 0x10;
        }
        let batch = store.batch().expect("batch");
        match disk::no_panic(|| Ok(batch.get(*table, key))).expect("no panic comes out") {
            // The page was still in the cache.
            Ok(served) => {
                assert_eq!(served.as_deref(), Some(&value[..]), "a wrong row was served");
                hidden += 1;
                continue;
            }
            Err(_) => noticed += 1,
        }
        assert!(matches!(batch.commit(), Err(StoreError::Poisoned)), "decided upon a wrong row");
        assert!(store.is_poisoned());
        assert!(matches!(store.reopen(), Err(StoreError::Damaged(_))), "does not mend");
        assert!(matches!(store.batch(), Err(StoreError::Poisoned)));
    }
    assert!(noticed > 20, "{noticed}");
    println!("check store-rot-running: ok n={noticed} cached={hidden}");
}
