//! Power cuts, simulated: every image a disk could hold afterwards must open, and hold exactly the
//! rows after one transaction that is not older than the last acknowledged one.
//!
//! A disk that honours flushes holds everything before the last one, and of the writes since then
//! any subset, in any order, each torn at any byte or at 512-byte sectors. The power is cut a second
//! time while the store recovers from the first cut.
//!
//! `HYPERGOLIX_POWER_LOSS_IMAGES` (default 2,000) is how many images are tried of each kind, and
//! `HYPERGOLIX_POWER_LOSS_SEED` the seed. Run 100,000 before taking a new version of redb.

mod disk;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use disk::{Change, Disk, Workload, carry_out};
use hypergolix_node::store::{Store, StoreConfig};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// Bytes a disk writes at once.
const SECTOR: usize = 512;

/// Transactions before the power fails.
const TRANSACTIONS: usize = 200;

/// What the disk and the application saw until the power failed.
struct History {
    /// The disk when the history begins: an empty store.
    base: Vec<u8>,
    changes: Vec<Change>,
    workload: Workload,
    /// How many changes had happened when transaction n began.
    begun: Vec<usize>,
    /// How many changes had happened when transaction n was acknowledged.
    acknowledged: Vec<usize>,
}

/// A disk that breaks a promise, to see whether the checks would notice.
#[derive(Clone, Copy, PartialEq)]
enum Cheat {
    Nothing,
    /// The disk says it has flushed, and has not.
    FlushIsIgnored,
    /// The application is told before the transaction is committed.
    AcknowledgedBeforeCommit,
}

fn record(random: &mut StdRng, cheat: Cheat) -> History {
    let disk = Disk::default();
    let mut store = Store::with_backend(disk.clone(), StoreConfig::default()).expect("create");
    let base = disk.state().bytes.clone();
    disk.state().log.clear();

    let mut workload = Workload::new(30, 3000);
    let (mut begun, mut acknowledged) = (vec![0], vec![0]);
    for _ in 0..TRANSACTIONS {
        begun.push(disk.state().log.len());
        let mut batch = store.batch().expect("batch");
        batch.apply(workload.next(random));
        batch.commit().expect("commit");
        acknowledged.push(match cheat {
            Cheat::AcknowledgedBeforeCommit => *begun.last().expect("just pushed"),
            Cheat::Nothing | Cheat::FlushIsIgnored => disk.state().log.len(),
        });
    }
    let mut changes = disk.state().log.clone();
    if cheat == Cheat::FlushIsIgnored {
        for change in &mut changes {
            if matches!(change, Change::Sync) {
                *change = Change::Write(0, Vec::new());
            }
        }
    }
    History { base, changes, workload, begun, acknowledged }
}

/// Adds to `image`, which holds everything flushed, what a power cut might leave of `unflushed`.
fn cut_power(mut image: Vec<u8>, unflushed: &[Change], random: &mut StdRng) -> Vec<u8> {
    let kept = [0.0, 0.1, 0.5, 0.9, 1.0][random.random_range(0..5)];
    let mut changes: Vec<&Change> = unflushed.iter().collect();
    if random.random_bool(0.5) {
        changes.shuffle(random);
    }
    for change in changes {
        if !random.random_bool(kept) {
            continue;
        }
        match change {
            Change::Write(offset, bytes) => match random.random_range(0..3) {
                0 => carry_out(&mut image, change),
                1 => {
                    let torn = bytes[..random.random_range(0..=bytes.len())].to_vec();
                    carry_out(&mut image, &Change::Write(*offset, torn));
                }
                _ => {
                    for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                        if random.random_bool(0.7) {
                            let at = offset + (number * SECTOR) as u64;
                            carry_out(&mut image, &Change::Write(at, sector.to_vec()));
                        }
                    }
                }
            },
            Change::Len(_) | Change::Sync => carry_out(&mut image, change),
        }
    }
    image
}

/// Where the changes after the last flush among `changes` begin.
fn unflushed(changes: &[Change]) -> usize {
    changes.iter().rposition(|change| matches!(change, Change::Sync)).map_or(0, |last| last + 1)
}

/// Opens an image, compares it, closes it. Returns what happened to the disk meanwhile.
fn recover(
    history: &History,
    image: Vec<u8>,
    acknowledged: usize,
    begun: usize,
    slowest: &mut Duration,
) -> Result<Vec<Change>, String> {
    let disk = Disk::holding(image);
    disk::no_panic(|| {
        let start = Instant::now();
        let store = Store::with_backend(disk.clone(), StoreConfig::default())
            .map_err(|error| format!("unopenable: {error}"))?;
        *slowest = (*slowest).max(start.elapsed());
        history.workload.check(&store, acknowledged, begun)?;
        store.close().map_err(|error| format!("unclosable: {error}"))
    })?;
    let changes = std::mem::take(&mut disk.state().log);
    Ok(changes)
}

/// What went wrong, by its first word, with the first example of each.
type Failures = BTreeMap<String, (usize, String)>;

fn note(failures: &mut Failures, failure: String) {
    let word = failure.split([':', ' ']).next().unwrap_or_default().to_owned();
    failures.entry(word).or_insert((0, failure)).0 += 1;
}

/// Tries `images` power cuts, and a second one during every recovery.
fn try_power_cuts(history: &History, images: usize, random: &mut StdRng) -> (Failures, Duration) {
    let mut moments: Vec<usize> =
        (0..images).map(|_| random.random_range(0..=history.changes.len())).collect();
    moments.sort_unstable();
    let (mut failures, mut slowest) = (Failures::new(), Duration::ZERO);
    // What is flushed only grows, so one pass over the history serves all moments.
    let (mut flushed, mut carried_out) = (history.base.clone(), 0);
    for moment in moments {
        let boundary = unflushed(&history.changes[..moment]);
        for change in &history.changes[carried_out..boundary] {
            carry_out(&mut flushed, change);
        }
        carried_out = boundary;
        let acknowledged = history.acknowledged.partition_point(|at| *at <= moment) - 1;
        let begun = history.begun.partition_point(|at| *at <= moment) - 1;

        let image = cut_power(flushed.clone(), &history.changes[boundary..moment], random);
        let changes = match recover(history, image.clone(), acknowledged, begun, &mut slowest) {
            Ok(changes) => changes,
            Err(failure) => {
                note(&mut failures, failure);
                continue;
            }
        };
        let moment = random.random_range(0..=changes.len());
        let boundary = unflushed(&changes[..moment]);
        let mut second = image;
        for change in &changes[..boundary] {
            carry_out(&mut second, change);
        }
        let second = cut_power(second, &changes[boundary..moment], random);
        if let Err(failure) = recover(history, second, acknowledged, begun, &mut slowest) {
            note(&mut failures, format!("again-{failure}"));
        }
    }
    (failures, slowest)
}

fn seed() -> u64 {
    disk::count("HYPERGOLIX_POWER_LOSS_SEED", 1) as u64
}

#[test]
fn nothing_acknowledged_is_lost() {
    let images = disk::count("HYPERGOLIX_POWER_LOSS_IMAGES", 2000);
    let random = &mut StdRng::seed_from_u64(seed());
    let history = record(random, Cheat::Nothing);
    let (failures, slowest) = try_power_cuts(&history, images, random);
    assert!(failures.is_empty(), "seed {}: {failures:#?}", seed());
    println!(
        "check power-loss: ok n={images}+{images} transactions={} changes={} worst={}us",
        history.workload.len(),
        history.changes.len(),
        slowest.as_micros(),
    );
}

/// The checks above are worth something only if they notice a disk that lies …
#[test]
fn a_disk_that_ignores_flushes_is_noticed() {
    let random = &mut StdRng::seed_from_u64(seed());
    let history = record(random, Cheat::FlushIsIgnored);
    let (failures, _) = try_power_cuts(&history, 100, random);
    assert!(!failures.is_empty());
    println!("check power-loss-control-flush: ok n=100 noticed={:?}", counts(&failures));
}

/// … and a node that speaks too early.
#[test]
fn an_early_acknowledgement_is_noticed() {
    let random = &mut StdRng::seed_from_u64(seed());
    let history = record(random, Cheat::AcknowledgedBeforeCommit);
    let (failures, _) = try_power_cuts(&history, 100, random);
    assert!(failures.contains_key("lost"), "{failures:?}");
    println!("check power-loss-control-ack: ok n=100 noticed={:?}", counts(&failures));
}

fn counts(failures: &Failures) -> BTreeMap<&str, usize> {
    failures.iter().map(|(word, (count, _))| (word.as_str(), *count)).collect()
}
