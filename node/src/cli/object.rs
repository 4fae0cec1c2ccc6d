//! `hypergolix ls`, `get`, `put`, `share`, `unshare`, `watch`, `rm`: the object API from a shell.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use golix::Ghid;
use hypergolix_ipc::ApiId;
use hypergolix_ipc::client::{HgxLink, NewOptions, Obj, Update};
use hypergolix_ipc::limits::STATE_MAX;
use hypergolix_node::control::{self, Order};
use hypergolix_node::lock;
use hypergolix_node::paths::Home;
use serde_json::{Value, json};

use super::{GetArgs, LsArgs, PutArgs, RmArgs, ShareArgs, UnshareArgs, WatchArgs, note, say};

/// How long a daemon may take. It may have to fetch an object from somewhere else first.
const PATIENCE: Duration = Duration::from_secs(30);

/// The type of an object, as it is written on the command line.
pub fn api_id(text: &str) -> Result<ApiId, String> {
    Ok(match text {
        "obj" => ApiId::OBJ,
        "pickle" => ApiId::PICKLE,
        "json" => ApiId::JSON,
        _ => {
            let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
            let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
            ApiId(bytes.ok_or("it is obj, json, pickle, or 128 hexadecimal digits")?)
        }
    })
}

fn api_name(hex: &str) -> String {
    let known = [("obj", ApiId::OBJ), ("pickle", ApiId::PICKLE), ("json", ApiId::JSON)];
    let known = known.iter().find(|(_, api)| HEXLOWER_PERMISSIVE.encode(&api.0) == hex);
    known.map_or_else(
        || format!("api …{}", hex.get(hex.len().saturating_sub(8)..).unwrap_or(hex)),
        |(name, _)| (*name).to_owned(),
    )
}

/// `hypergolix ls`.
pub fn list(args: &LsArgs) -> anyhow::Result<()> {
    let home = running()?.0;
    let mut objects: Vec<Value> = Vec::new();
    let mut after = None;
    loop {
        let page = control::ask(&home.control(), &Order::Objects { after: after.take() })
            .map_err(|text| anyhow!(text))?;
        let Value::Array(page) = page else { bail!("the daemon's answer makes no sense") };
        let Some(last) = page.last() else { break };
        after = last["address"].as_str().map(ToOwned::to_owned);
        objects.extend(
            page.into_iter()
                .filter(|object| object["state"] != "account" && object["state"] != "deleted"),
        );
        if after.is_none() {
            break;
        }
    }
    if args.json {
        say(serde_json::to_string_pretty(&objects)?);
        return Ok(());
    }
    if objects.is_empty() {
        note("no objects");
    }
    for object in &objects {
        let text = |key: &str| object[key].as_str().unwrap_or_default();
        let about = match text("state") {
            "readable" => format!(
                "{:>9}  {}{}, {}{}",
                object["bytes"].as_u64().unwrap_or_default(),
                if object["dynamic"] == true { "dynamic" } else { "static" },
                if object["private"] == true { ", private" } else { "" },
                api_name(text("api")),
                if object["mine"] == true {
                    String::new()
                } else {
                    format!(", of {}", text("creator"))
                },
            ),
            "unreadable" => format!("{:>9}  its key is not here, or no longer", "-"),
            _ => format!("{:>9}  not here yet", "-"),
        };
        say(format_args!("{}  {about}", text("address")));
    }
    Ok(())
}

/// `hypergolix get`.
pub fn get(args: &GetArgs) -> anyhow::Result<()> {
    let (state, facts) = with_daemon(async |link| {
        let object: Obj = link.get(args.object).await?;
        let state = object.state()?;
        let facts = json!({
            "address": object.ghid().to_string(),
            "creator": object.binder().map(|binder| binder.to_string()),
            "mine": object.is_mine(),
            "dynamic": object.dynamic(),
            "private": object.private(),
            "api": HEXLOWER_PERMISSIVE.encode(&object.api_id().0),
            "base64": BASE64.encode(&state),
        });
        Ok((state, facts))
    })?;
    if args.json {
        say(serde_json::to_string_pretty(&facts)?);
        return Ok(());
    }
    let mut out = io::stdout().lock();
    let shown = if out.is_terminal() { shown(&state) } else { Cow::Borrowed(&state[..]) };
    out.write_all(&shown).and_then(|()| out.flush()).context("the state cannot be written")
}

/// What somebody else wrote, for a terminal: what would move its cursor, colour it or turn the
/// direction of its text is written out.
fn shown(state: &[u8]) -> Cow<'_, [u8]> {
    let acts = |c: char| {
        c.is_control() && !matches!(c, '\n' | '\t')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    match str::from_utf8(state) {
        Ok(text) if !text.contains(acts) => Cow::Borrowed(state),
        _ => {
            let mut safe = String::new();
            for c in String::from_utf8_lossy(state).chars() {
                if acts(c) { safe.extend(c.escape_default()) } else { safe.push(c) }
            }
            Cow::Owned(safe.into_bytes())
        }
    }
}

/// `hypergolix put`.
pub fn put(args: &PutArgs) -> anyhow::Result<()> {
    let mut state = Vec::new();
    let limit = STATE_MAX as u64 + 1;
    let read = match args.file.as_deref().filter(|file| file.as_os_str() != "-") {
        Some(file) => File::open(file).and_then(|file| file.take(limit).read_to_end(&mut state)),
        None => io::stdin().lock().take(limit).read_to_end(&mut state),
    };
    read.with_context(|| match &args.file {
        Some(file) => format!("{} cannot be read", file.display()),
        None => "standard input cannot be read".to_owned(),
    })?;
    if state.len() > STATE_MAX {
        bail!("that is more than an object can hold; the most is {STATE_MAX} bytes");
    }
    let address = with_daemon(async |link| {
        if let Some(address) = args.to {
            let object: Obj = link.get(address).await?;
            object.set_state(state.clone())?;
            object.push().await?;
            return Ok(address);
        }
        let options =
            NewOptions { api_id: args.api, dynamic: !args.fixed, ..NewOptions::default() };
        let object: Obj = link.new(&state[..], options).await?;
        Ok(object.ghid())
    })?;
    say(address);
    Ok(())
}

/// `hypergolix share`.
pub fn share(args: &ShareArgs) -> anyhow::Result<()> {
    with_daemon(async |link| {
        let object: Obj = link.get(args.object).await?;
        object.share(args.recipient).await?;
        Ok(())
    })?;
    note("shared; it arrives as soon as the other side, or a server of theirs, is reached");
    Ok(())
}

/// `hypergolix unshare`.
pub fn unshare(args: &UnshareArgs) -> anyhow::Result<()> {
    with_daemon(async |link| {
        let object: Obj = link.get(args.object).await?;
        object.unshare(args.recipient).await?;
        Ok(())
    })?;
    say(format_args!("{} no longer reads new states of {}", args.recipient, args.object));
    Ok(())
}

/// `hypergolix rm`.
pub fn remove(args: &RmArgs) -> anyhow::Result<()> {
    with_daemon(async |link| {
        let object: Obj = link.get(args.object).await?;
        object.delete().await?;
        Ok(())
    })
}

/// `hypergolix watch`.
pub fn watch(args: &WatchArgs) -> anyhow::Result<()> {
    let (_, port) = running()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let watching = async {
        let link = HgxLink::connect(port).await?;
        match args.object {
            Some(object) => watch_object(&link, object, args).await,
            None => watch_shares(&link, args).await,
        }
    };
    runtime.block_on(async {
        tokio::select! {
            ended = watching => ended,
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    })
}

async fn watch_object(link: &HgxLink, address: Ghid, args: &WatchArgs) -> anyhow::Result<()> {
    let object: Obj = link.get(address).await?;
    let mut updates = object.updates();
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        match updates.next().await {
            Some(Update::State(state)) if args.json => {
                print(&json!({ "base64": BASE64.encode(&state) }).to_string().into_bytes())?;
            }
            Some(Update::State(state)) if io::stdout().is_terminal() => print(&shown(&state))?,
            Some(Update::State(state)) => print(&state)?,
            Some(Update::Deleted) if args.json => {
                return print(&json!({ "deleted": true }).to_string().into_bytes());
            }
            Some(Update::Deleted) => {
                note("it was deleted");
                return Ok(());
            }
            None => bail!("the daemon is gone"),
        }
        left -= 1;
    }
    Ok(())
}

async fn watch_shares(link: &HgxLink, args: &WatchArgs) -> anyhow::Result<()> {
    let mut shares = link.shares(args.api.unwrap_or(ApiId::OBJ)).await?;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(share) = shares.next().await else { bail!("the daemon is gone") };
        let (address, origin) = (share.ghid.to_string(), share.origin.to_string());
        if args.json {
            print(&json!({ "address": address, "origin": origin }).to_string().into_bytes())?;
        } else {
            print(format!("{address} from {origin}").as_bytes())?;
        }
        left -= 1;
    }
    Ok(())
}

/// A line on standard output. Whoever reads it may go away: then there is nothing left to do.
fn print(line: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written =
        out.write_all(line).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    written.context("nobody reads the updates any more")
}

/// The home of the daemon that runs, and its port for applications.
pub fn running() -> anyhow::Result<(Home, u16)> {
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
    Ok((home, port))
}

/// Asks the running daemon.
fn with_daemon<T>(ask: impl AsyncFnOnce(&HgxLink) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let (_, port) = running()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = async {
        let link = HgxLink::connect(port).await?;
        let answer = ask(&link).await?;
        link.stop().await;
        anyhow::Ok(answer)
    };
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, asked).await })
        .map_err(|_| anyhow!("the daemon does not answer within {PATIENCE:?}"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_at_the_mercy_of_others() {
        for plain in ["21.5 °C\n\tok", ""] {
            assert_eq!(shown(plain.as_bytes()), plain.as_bytes());
        }
        assert_eq!(shown(b"\x1b]0;root\x07\r#"), &b"\\u{1b}]0;root\\u{7}\\r#"[..]);
        assert_eq!(shown("a\u{202e}b\u{9b}".as_bytes()), &b"a\\u{202e}b\\u{9b}"[..]);
        assert_eq!(shown(b"\xffa"), "\u{fffd}a".as_bytes());
    }

    #[test]
    fn types_have_names_or_digits() {
        assert_eq!(api_id("json"), Ok(ApiId::JSON));
        let digits = format!("{:0>128}", "3");
        assert_eq!(api_id(&digits), Ok(ApiId::JSON));
        assert_eq!(api_name(&digits), "json");
        assert_eq!(api_name(&"ab".repeat(64)), "api …abababab");
        for wrong in ["", "JSON", "ab", &"g".repeat(128), &"0".repeat(130)] {
            assert!(api_id(wrong).is_err(), "{wrong}");
        }
    }
}
