//! `hypergolix status`.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{anyhow, bail};
use hypergolix_ipc::client::HgxLink;
use hypergolix_node::lock;
use hypergolix_node::paths::Home;
use serde_json::Value;

use super::{StatusArgs, say};

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Addresses in one line of text; `--json` has more of them.
const NAMED_MAX: usize = 3;

/// Asks the running daemon.
pub fn run(args: StatusArgs) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    if home.exists() {
        home.check()?;
    }
    let Some(running) = lock::running(&home)? else {
        bail!(
            "Hypergolix is not running on {}; start it with 'hypergolix start app'",
            home.path().display()
        );
    };
    let Some(port) = running.ipc_port else {
        bail!(
            "Hypergolix is running (process {}) but still starting; try again in a moment",
            running.pid
        );
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = async {
        let link = HgxLink::connect(port).await?;
        let status = link.status().await?;
        link.stop().await;
        anyhow::Ok(status)
    };
    let text = runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await }).map_err(
        |_| {
            anyhow!(
                "the daemon (process {}) does not answer within {PATIENCE:?}; its log is in {}",
                running.pid,
                home.logs().display()
            )
        },
    )??;
    let mut status: Value = serde_json::from_str(&text)?;
    // The question came on a connection of its own, which is no application.
    if let Some(count) = status["applications"].as_u64() {
        status["applications"] = count.saturating_sub(1).into();
    }
    if args.json {
        say(serde_json::to_string_pretty(&status)?);
    } else {
        say(readable(&status));
    }
    Ok(())
}

/// The same for people.
fn readable(status: &Value) -> String {
    let text = |key: &str| status[key].as_str().unwrap_or("-").to_owned();
    let number = |key: &str| status[key].as_u64().unwrap_or_default();
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // A string takes everything.
        let _ = writeln!(out, "{name:<13} {value}");
    };
    line("running", running(status));
    line("home", text("home"));
    line("fingerprint", text("fingerprint"));
    line("user id", text("user_id"));
    line("applications", format!("{} on port {}", number("applications"), number("ipc_port")));
    line("objects", format!("{} here, {} of them followed", number("objects"), number("followed")));
    line(
        "shares",
        format!(
            "{} under way, {} waiting for an application",
            number("shares_owed"),
            number("shares_waiting")
        ),
    );
    if number("lost_states") > 0 {
        let lost = number("lost_states");
        line(
            "lost states",
            format!("{lost}, written at once on two machines, until they are dismissed"),
        );
    }
    let remotes = status["remotes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if remotes.is_empty() {
        line("remotes", "none".to_owned());
    }
    for (index, remote) in remotes.iter().enumerate() {
        line(if index == 0 { "remotes" } else { "" }, self::remote(remote));
    }
    for server in status["servers_away"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let id = server["peer_id"].as_str().unwrap_or("-");
        line("", format!("not reached since the start: {id}{}", deletions(server)));
    }
    for server in status["servers_found"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let id = server["peer_id"].as_str().unwrap_or("-");
        let pending = server["pending"].as_u64().unwrap_or_default();
        line("", format!("used by other devices of yours: {id}, {pending} wait to be stored"));
    }
    for server in status["servers_of_others"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let figure = |name: &str| server[name].as_u64().unwrap_or_default();
        let id = server["peer_id"].as_str().unwrap_or("-");
        let (subscribed, mailed) = (figure("subscribed"), figure("mailed"));
        line("", format!("used by others: {id}, {subscribed} followed, {mailed} in mailboxes"));
    }
    line("storage", storage(status, "only deleting is possible"));
    line("device", text("peer_id"));
    if let Some(dht) = status["dht"].as_object() {
        let figure = |name: &str| dht.get(name).and_then(Value::as_u64).unwrap_or_default();
        line(
            "dht",
            format!(
                "{} devices known, {} of {} own records published, where {} others were is remembered",
                figure("peers"),
                figure("own_published"),
                figure("own"),
                number("places_remembered")
            ),
        );
    }
    let peers = status["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
    line("devices", format!("{} connected", peers.len()));
    for peer in peers {
        let rtt = peer["rtt_ms"].as_f64().map_or_else(String::new, |rtt| format!(", {rtt:.1} ms"));
        let since = duration(peer["connected_seconds"].as_u64().unwrap_or_default());
        let (id, address) = (peer["peer_id"].as_str(), peer["address"].as_str());
        let reach = match peer["reach"].as_str() {
            Some("lan") => "on the LAN",
            Some("relayed") => "through a relay",
            _ => "directly",
        };
        let at = address.unwrap_or("-");
        line("", format!("{} {reach} at {at} for {since}{rtt}", id.unwrap_or("-")));
    }
    out.trim_end().to_owned()
}

/// How long a process has run, and which.
pub(super) fn running(status: &Value) -> String {
    format!(
        "{} (Hypergolix {}, process {})",
        duration(status["uptime_seconds"].as_u64().unwrap_or_default()),
        status["version"].as_str().unwrap_or("-"),
        status["pid"].as_u64().unwrap_or_default()
    )
}

/// How large its store is; `full` says what a full disk means.
pub(super) fn storage(status: &Value, full: &str) -> String {
    let mut text = bytes(status["storage_bytes"].as_u64().unwrap_or_default());
    if status["low_on_space"] == true {
        let _ = write!(text, ", THE DISK IS FULL: {full}");
    }
    let failures = status["store_failures"].as_u64().unwrap_or_default();
    if failures > 0 {
        let _ = write!(text, ", failed {failures} times");
    }
    text
}

/// One remote in a line.
fn remote(facts: &Value) -> String {
    let name = facts["remote"].as_str().unwrap_or("-");
    let number = |key: &str| facts[key].as_u64().unwrap_or_default();
    let mut text = match facts["state"].as_str() {
        Some("connected") => format!("{name}: connected"),
        Some("connecting") if facts["attempts"] == 0 => format!("{name}: connecting"),
        _ => {
            let pause = facts["next_dial_seconds"].as_f64().unwrap_or_default().ceil();
            if pause > 0.0 {
                format!("{name}: not reached, tried again in {pause} s")
            } else {
                format!("{name}: not reached, tried again now")
            }
        }
    };
    if let Some(error) = facts["error"].as_str() {
        let _ = write!(text, " ({error})");
    }
    // A server that has answered has figures, if only zeros.
    if facts["state"] == "connected" && facts["pending"].is_null() {
        text += ", but no Hypergolix server has answered there";
    } else if facts["state"] == "connected" {
        let _ = match number("pending") {
            0 => write!(text, ", nothing waits to be stored"),
            pending => write!(text, ", {pending} wait to be stored"),
        };
        let _ = write!(text, ", {} confirmed", number("confirmed"));
        if number("mailed") > 0 {
            let _ = write!(text, ", {} shares and answers in mailboxes", number("mailed"));
        }
    }
    text += &deletions(facts);
    if number("refused") > 0 {
        let _ = write!(text, ", {} REFUSED", number("refused"));
    }
    if number("mail_refused") > 0 {
        let _ = write!(text, ", {} shares and answers NOT TAKEN", number("mail_refused"));
    }
    if let Some(refusal) = facts["refusal"].as_str() {
        let _ = write!(text, ": {refusal}");
    }
    if number("older_states") > 0 {
        let _ = write!(text, ", sent {} older states, which were ignored", number("older_states"));
    }
    for (key, sentence) in [
        ("foreign_answers", "answers with something else"),
        ("withheld", "states that it says it has and does not show"),
        ("set_back", "times its feed had gone back"),
    ] {
        if number(key) > 0 {
            let _ = write!(text, ", {} {sentence}", number(key));
        }
    }
    text
}

/// Which deletions a server has confirmed; nothing if there was none.
fn deletions(facts: &Value) -> String {
    let number = |key: &str| facts[key].as_u64().unwrap_or_default();
    let (confirmed, open) = (number("deletions_confirmed"), number("deletions_unconfirmed"));
    if confirmed + open == 0 {
        return String::new();
    }
    let mut text = format!(", {confirmed} of {} deletions confirmed", confirmed + open);
    if open > 0 {
        let named =
            facts["unconfirmed_deletions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let named: Vec<&str> = named.iter().filter_map(Value::as_str).take(NAMED_MAX).collect();
        let more = if open > named.len() as u64 { ", …" } else { "" };
        let _ = write!(text, " (not yet: {}{more})", named.join(", "));
    }
    text
}

pub(super) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

fn bytes(count: u64) -> String {
    match count {
        0..=9_999 => format!("{count} bytes"),
        10_000..=9_999_999 => format!("{} kB", count / 1_000),
        _ => format!("{} MB", count / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(duration(5), "5 s");
        assert_eq!(duration(125), "2 min 5 s");
        assert_eq!(duration(3_725), "1 h 2 min");
        assert_eq!(duration(90_000), "1 d 1 h");
        assert_eq!(bytes(4_096), "4096 bytes");
        assert_eq!(bytes(1_589_248), "1589 kB");
    }

    #[test]
    fn deletions_are_counted_and_named() {
        let facts = |confirmed: u64, open: &[&str]| {
            serde_json::json!({
                "deletions_confirmed": confirmed,
                "deletions_unconfirmed": open.len(),
                "unconfirmed_deletions": open,
            })
        };
        assert_eq!(deletions(&facts(0, &[])), "");
        assert_eq!(deletions(&facts(2, &[])), ", 2 of 2 deletions confirmed");
        let text = deletions(&facts(1, &["a", "b", "c", "d"]));
        assert_eq!(text, ", 1 of 5 deletions confirmed (not yet: a, b, c, …)");
    }

    #[test]
    fn whoever_answers_need_not_be_a_server() {
        let mut facts = serde_json::json!({ "remote": "a 1", "state": "connected" });
        assert_eq!(remote(&facts), "a 1: connected, but no Hypergolix server has answered there");
        facts["pending"] = 0.into();
        facts["confirmed"] = 3.into();
        assert_eq!(remote(&facts), "a 1: connected, nothing waits to be stored, 3 confirmed");
    }

    #[test]
    fn missing_facts_are_no_failure() {
        assert!(readable(&serde_json::json!({})).contains("0 connected"));
    }
}
