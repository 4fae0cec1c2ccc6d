//! `hypergolix account import`: an account for an identity that exists.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use data_encoding::{BASE64, BASE64URL, HEXLOWER_PERMISSIVE};
use golix::{Ghid, PrivateIdentity};
use hypergolix_engine::account;
use hypergolix_node::config::{Config, Instance};
use hypergolix_node::lock::HomeLock;
use hypergolix_node::paths::{self, Home};
use hypergolix_node::{NodeError, Unlocked};
use zeroize::Zeroizing;

use super::{ImportArgs, note, password, say, start};

/// Longest file of keys, bytes: two private keys of RSA-4096 in hexadecimal are 10 kB.
const FILE_MAX: u64 = 64 * 1024;

/// Makes an account with the keys of a file.
pub fn import(args: ImportArgs) -> anyhow::Result<()> {
    paths::set_private_umask();
    let home = Home::from_env()?;
    let identity = read_identity(&args.file)?;
    home.prepare()?;
    let mut config = Config::load(&home.config())?;
    let _lock = HomeLock::acquire(&home)?;
    let taken = || {
        anyhow!(
            "this home has an account already, and keeps it; choose another home with {}",
            paths::HOME_VARIABLE
        )
    };
    if config.instance.is_some() {
        return Err(taken());
    }
    if home.store().exists() {
        let store = Unlocked::open_store(&home, &config)?;
        if account::summary(&store.snapshot()?)?.is_some() {
            return Err(taken());
        }
        store.close()?;
    }
    let password = password::read(args.password_file.as_deref(), password::Kind::New)?;
    let store = Unlocked::open_store(&home, &config)?;
    let (unlocked, recovery) =
        Unlocked::import(store, &home, &password, identity).map_err(|error| match error {
            NodeError::Create(reason) => anyhow!("{reason}; nothing was created, start again"),
            other => other.into(),
        })?;
    let instance = Instance { user_id: unlocked.user_id(), fingerprint: unlocked.fingerprint() };
    config.instance = Some(instance);
    config.save(&home.config())?;
    start::introduce(&instance, &recovery);
    note("The keys are in the account now; delete the file, or keep it where nobody else can.");
    say(format_args!("imported fingerprint={} user-id={}", instance.fingerprint, instance.user_id));
    Ok(())
}

/// Reads the file: a JSON object of four texts.
fn read_identity(path: &Path) -> anyhow::Result<PrivateIdentity> {
    let shown = path.display();
    let mut text = Zeroizing::new(String::new());
    File::open(path)
        .and_then(|file| file.take(FILE_MAX + 1).read_to_string(&mut text))
        .with_context(|| shown.to_string())
        .map_err(|error| anyhow!("the file of keys cannot be read: {error:#}"))?;
    if text.len() as u64 > FILE_MAX {
        bail!("{shown} is too long for a file of keys: more than {FILE_MAX} bytes");
    }
    parse_identity(&text).map_err(|error| anyhow!("{shown} is no file of golix keys: {error}"))
}

fn parse_identity(text: &str) -> anyhow::Result<PrivateIdentity> {
    let fields: BTreeMap<String, String> = serde_json::from_str(text).map_err(|error| {
        anyhow!(
            "it should be a JSON object with the texts ghid, signature, encryption and exchange \
             ({error})"
        )
    })?;
    let fields: BTreeMap<_, _> =
        fields.into_iter().map(|(name, value)| (name, Zeroizing::new(value))).collect();
    let field = |name: &str| -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let value = fields.get(name).ok_or_else(|| anyhow!("{name:?} is missing"))?;
        decode(value).ok_or_else(|| anyhow!("{name:?} is neither base64 nor hexadecimal"))
    };
    let (signature, encryption) = (field("signature")?, field("encryption")?);
    let exchange = field("exchange")?;
    let exchange = <[u8; 32]>::try_from(&exchange[..])
        .map_err(|_| anyhow!("\"exchange\" is {} bytes long, not 32", exchange.len()))?;
    let identity = PrivateIdentity::from_suite1_keys(&signature, &encryption, exchange)?;
    let expected =
        Ghid::from_bytes(&field("ghid")?).map_err(|error| anyhow!("\"ghid\": {error}"))?;
    if identity.ghid() != expected {
        bail!(
            "its keys make the fingerprint {}, but it says {expected}; it was damaged, or keys of \
             different identities were mixed",
            identity.ghid()
        );
    }
    Ok(identity)
}

/// Base64 of either alphabet with padding, or hexadecimal; white space does not count.
fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let text: Zeroizing<String> =
        Zeroizing::new(text.chars().filter(|c| !c.is_whitespace()).collect());
    // What is hexadecimal could be base64, too; keys of these lengths never are both by chance.
    [&HEXLOWER_PERMISSIVE, &BASE64, &BASE64URL]
        .into_iter()
        .find_map(|encoding| encoding.decode(text.as_bytes()).ok())
        .map(Zeroizing::new)
}
