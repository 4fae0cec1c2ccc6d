//! `hypergolix publish`: addresses that are provided on purpose in the distributed hash table.

use anyhow::{anyhow, bail};
use hypergolix_node::control::{self, Order};
use serde_json::Value;

use super::{PublishArgs, note, object, say};

/// Publishes an address, takes it back, or shows what is published.
pub fn run(args: &PublishArgs) -> anyhow::Result<()> {
    let home = object::running()?.0;
    let ask = |order| control::ask(&home.control(), &order).map_err(|text| anyhow!(text));
    let Some(address) = args.object else {
        let Value::Array(list) = ask(Order::Published)? else {
            bail!("the daemon's answer makes no sense")
        };
        if args.json {
            say(serde_json::to_string_pretty(&list)?);
            return Ok(());
        }
        if list.is_empty() {
            note("nothing is published");
        }
        for published in &list {
            let away =
                if published["here"] == true { "" } else { "  (not on this device any more)" };
            say(format_args!("{}{away}", published["address"].as_str().unwrap_or_default()));
        }
        return Ok(());
    };
    let address = address.to_string();
    let done =
        ask(if args.remove { Order::Unpublish { address } } else { Order::Publish { address } })?;
    if args.json {
        say(serde_json::to_string_pretty(&done)?);
    } else if args.remove {
        note("taken back; who looks for it may still be sent here for a day");
    } else if done["new"] == true {
        note("published; whoever knows the address and has its key finds it here");
    } else {
        note("it was published already");
    }
    Ok(())
}
