//! The machine that is watched.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use golix::Ghid;
use hypergolix_examples::{INTERVAL_API, PAIR_API, STATUS_API};
use hypergolix_ipc::client::{HgxLink, JsonObj, NewOptions, Share};
use sysinfo::{Disks, System};
use tokio::sync::watch;

/// Nobody makes us measure more often.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Measures and pushes until it has done so `readings` times.
pub async fn run(link: &HgxLink, interval: Duration, readings: usize) -> anyhow::Result<()> {
    println!("My fingerprint is: {}", link.fingerprint());
    let options = NewOptions { api_id: Some(STATUS_API), ..NewOptions::default() };
    let status: JsonObj = link.new(&"Hello world!".into(), options).await?;
    let paired = Arc::new(Mutex::new(None));
    let (set_interval, mut interval) = watch::channel(interval);

    let (pairing, shown) = (Arc::clone(&paired), status.clone());
    link.register_share_handler(PAIR_API, move |share| {
        let (pairing, shown) = (Arc::clone(&pairing), shown.clone());
        async move {
            // Trust on first pairing; the same monitor may pair again.
            if pair(&pairing, share.origin) {
                println!("paired with {}", share.origin.short());
                if let Err(error) = shown.share(share.origin).await {
                    eprintln!("the status could not be shared: {error}");
                }
            }
        }
    })
    .await?;

    let asking = link.clone();
    link.register_share_handler(INTERVAL_API, move |share: Share| {
        let (asking, set_interval) = (asking.clone(), set_interval.clone());
        let trusted = is_paired(&paired, share.origin);
        async move {
            if trusted && let Err(error) = follow_interval(&asking, share.ghid, set_interval).await
            {
                eprintln!("the interval could not be read: {error}");
            }
        }
    })
    .await?;

    let mut system = System::new();
    for _ in 0..readings {
        let reading = measure(&mut system);
        status.set(&reading.clone().into())?;
        status.push().await?;
        println!("Logged:\n{reading}");
        let pause = *interval.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = interval.changed() => {}
        }
    }
    Ok(())
}

/// Remembers the first monitor; whether `origin` is it.
fn pair(paired: &Mutex<Option<Ghid>>, origin: Ghid) -> bool {
    let mut paired = paired.lock().unwrap_or_else(PoisonError::into_inner);
    *paired.get_or_insert(origin) == origin
}

fn is_paired(paired: &Mutex<Option<Ghid>>, origin: Ghid) -> bool {
    *paired.lock().unwrap_or_else(PoisonError::into_inner) == Some(origin)
}

/// Takes the interval from an object of the monitor, now and whenever it changes.
async fn follow_interval(
    link: &HgxLink,
    ghid: Ghid,
    set_interval: watch::Sender<Duration>,
) -> anyhow::Result<()> {
    let wished: JsonObj = link.get(ghid).await?;
    let take = move |value: &serde_json::Value| {
        if let Some(seconds) = value.as_f64().filter(|seconds| seconds.is_finite()) {
            let wish = Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0)).max(INTERVAL_MIN);
            set_interval.send_replace(wish);
            println!("interval: {wish:?}");
        }
    };
    take(&wished.value()?);
    let mut updates = wished.updates();
    tokio::spawn(async move {
        // The object is kept as long as its updates are read.
        let _kept = wished;
        while let Some(update) = updates.next().await {
            if let Ok(hypergolix_ipc::client::Update::State(value)) = update {
                take(&value);
            }
        }
    });
    Ok(())
}

fn measure(system: &mut System) -> String {
    system.refresh_cpu_usage();
    system.refresh_memory();
    let mut text = String::from("CPU:\n----------\n");
    for cpu in system.cpus() {
        writeln!(text, "  {:.1}%", cpu.cpu_usage()).expect("a string takes everything");
    }
    let (total, available) = (system.total_memory(), system.available_memory());
    text.push_str(&section("MEM", available, total));
    let (total, available) = Disks::new_with_refreshed_list()
        .iter()
        .find(|disk| disk.mount_point() == std::path::Path::new("/"))
        .map_or((0, 0), |disk| (disk.total_space(), disk.available_space()));
    text.push_str(&section("DISK", available, total));
    text
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn section(name: &str, available: u64, total: u64) -> String {
    let used = total.saturating_sub(available) as f64 / total.max(1) as f64 * 100.0;
    format!(
        "{name}:\n----------\n  Avail: {:.2} GiB\n  Total: {:.2} GiB\n  Used:  {used:.1}%\n",
        available as f64 / f64::from(1 << 30),
        total as f64 / f64::from(1 << 30),
    )
}
