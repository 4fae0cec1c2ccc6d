//! Hello world: make an object, read it back, change it, share it if somebody is named.
//!
//! ```text
//! cargo run -p hypergolix-examples --bin hello_world -- [--port 7772] [--share FINGERPRINT]
//! ```

#![forbid(unsafe_code)]

use clap::Parser;
use golix::Ghid;
use hypergolix_ipc::client::{HgxLink, JsonObj, NewOptions};

/// Make an object, read it back, change it.
#[derive(Parser)]
struct Options {
    /// Port of the daemon.
    #[arg(long, default_value_t = 7772)]
    port: u16,
    /// Share the object with this user.
    #[arg(long)]
    share: Option<Ghid>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let link = HgxLink::connect(options.port).await?;
    println!("I am {}", link.fingerprint());

    let obj: JsonObj = link.new(&"Hello world!".into(), NewOptions::default()).await?;
    println!("made {} with state {}", obj.ghid(), obj.value()?);

    // Another handle, as another application would get it by its address.
    let again: JsonObj = link.get(obj.ghid()).await?;
    println!("read {}", again.value()?);

    obj.set(&"Hello world! Welcome to Hypergolix.".into())?;
    obj.push().await?;
    println!("now  {}", again.value()?);

    if let Some(recipient) = options.share {
        obj.share(recipient).await?;
        println!("shared with {}", recipient.short());
    }
    link.stop().await;
    Ok(())
}
