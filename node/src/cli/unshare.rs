//! `hypergolix unshare`.

use std::time::Duration;

use anyhow::{anyhow, bail};
use hypergolix_ipc::client::{HgxLink, Obj};
use hypergolix_node::lock;
use hypergolix_node::paths::Home;

use super::{UnshareArgs, say};

/// How long a daemon may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the running daemon.
pub fn run(args: &UnshareArgs) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    if home.exists() {
        home.check()?;
    }
    let Some(port) = lock::running(&home)?.and_then(|running| running.ipc_port) else {
        bail!(
            "Hypergolix is not running on {}; start it with 'hypergolix start app'",
            home.path().display()
        );
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = async {
        let link = HgxLink::connect(port).await?;
        let object: Obj = link.get(args.object).await?;
        object.unshare(args.recipient).await?;
        link.stop().await;
        anyhow::Ok(())
    };
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, asked).await })
        .map_err(|_| anyhow!("the daemon does not answer within {PATIENCE:?}"))??;
    say(format_args!("{} no longer reads new states of {}", args.recipient, args.object));
    Ok(())
}
