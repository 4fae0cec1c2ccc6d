//! The machine that watches.

use golix::Ghid;
use hypergolix_examples::{INTERVAL_API, PAIR_API, STATUS_API};
use hypergolix_ipc::client::{HgxLink, JsonObj, NewOptions, Update};

/// Pairs with a telemeter and prints its status until it has done so `readings` times.
pub async fn run(
    link: &HgxLink,
    telemeter: Ghid,
    interval: Option<f64>,
    readings: usize,
) -> anyhow::Result<()> {
    // Registered before pairing: the telemeter answers at once.
    let mut shares = link.shares(STATUS_API).await?;
    let options = NewOptions { api_id: Some(PAIR_API), ..NewOptions::default() };
    let pair: JsonObj = link.new(&"Hello world!".into(), options).await?;
    pair.share(telemeter).await?;
    if let Some(seconds) = interval {
        let options = NewOptions { api_id: Some(INTERVAL_API), ..NewOptions::default() };
        let wished: JsonObj = link.new(&seconds.into(), options).await?;
        wished.share(telemeter).await?;
    }
    println!("Waiting for {} …", telemeter.short());
    let status = loop {
        match shares.next().await {
            Some(share) if share.origin == telemeter => {
                break link.get::<JsonObj>(share.ghid).await?;
            }
            Some(_) => {}
            None => return Ok(()),
        }
    };
    println!("Incoming status: {}", status.ghid());
    let mut updates = status.updates();
    for _ in 0..readings {
        match updates.next().await {
            Some(Ok(Update::State(value))) => {
                println!("{}", value.as_str().unwrap_or("not a text"));
            }
            Some(Ok(Update::Deleted)) | None => break,
            Some(Err(error)) => eprintln!("an unreadable status: {error}"),
        }
    }
    Ok(())
}
