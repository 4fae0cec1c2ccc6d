//! `hypergolix account`: keys of the original library, backups, another password.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use data_encoding::{BASE64, BASE64URL, HEXLOWER_PERMISSIVE};
use golix::{Ghid, PrivateIdentity};
use hypergolix_engine::account::{self, UnlockError};
use hypergolix_node::backup;
use hypergolix_node::config::{Config, Instance};
use hypergolix_node::lock::HomeLock;
use hypergolix_node::paths::{self, Home};
use hypergolix_node::run::OsEntropy;
use hypergolix_node::store::Store;
use hypergolix_node::{NodeError, Unlocked};
use zeroize::Zeroizing;

use super::{ChangeArgs, ExportArgs, ImportArgs, note, password, say, start};

/// Longest file of keys, bytes: two private keys of RSA-4096 in hexadecimal are 10 kB.
const FILE_MAX: u64 = 64 * 1024;

/// Makes an account from a file: keys of the original library, or a backup.
pub fn import(args: &ImportArgs) -> anyhow::Result<()> {
    paths::set_private_umask();
    let home = Home::from_env()?;
    let mut file = File::open(&args.file)
        .with_context(|| args.file.display().to_string())
        .map_err(|error| anyhow!("the file cannot be read: {error:#}"))?;
    // Read once and in order: it may be a pipe.
    let mut start = Zeroizing::new(Vec::new());
    (&mut file).take(16).read_to_end(&mut start)?;
    let mut all = start.as_slice().chain(file);
    if backup::is_backup(&start) {
        restore(&home, args, &mut all)
    } else {
        import_keys(&home, args, &mut all)
    }
}

/// A home without an account, locked for this process. Its configuration may still say whose it was.
fn empty_home(home: &Home) -> anyhow::Result<(Config, HomeLock)> {
    home.prepare()?;
    let config = Config::load(&home.config())?;
    let lock = HomeLock::acquire(home)?;
    let taken = || {
        anyhow!(
            "this home has an account already, and keeps it; choose another home with {}",
            paths::HOME_VARIABLE
        )
    };
    if home.store().exists() {
        let store = Unlocked::open_store(home, &config)?;
        if account::summary(&store.snapshot()?)?.is_some() {
            return Err(taken());
        }
        store.close()?;
    }
    Ok((config, lock))
}

fn import_keys(home: &Home, args: &ImportArgs, file: &mut dyn Read) -> anyhow::Result<()> {
    let identity = read_identity(&args.file, file)?;
    let (config, _lock) = empty_home(home)?;
    start::refuse_without_store(home, &config)?;
    let password = password::read(args.password_file.as_deref(), password::Kind::New)?;
    let store = Unlocked::open_store(home, &config)?;
    let (unlocked, recovery) =
        Unlocked::import(store, home, &password, identity).map_err(|error| match error {
            NodeError::Create(reason) => anyhow!("{reason}; nothing was created, start again"),
            other => other.into(),
        })?;
    let instance = Instance { user_id: unlocked.user_id(), fingerprint: unlocked.fingerprint() };
    Config::change(&home.config(), |config| config.instance = Some(instance))?;
    start::introduce(&instance, &recovery);
    note("The keys are in the account now; delete the file, or keep it where nobody else can.");
    say(format_args!("imported fingerprint={} user-id={}", instance.fingerprint, instance.user_id));
    Ok(())
}

/// Fills an empty home, or one that lost its store, from a backup. Needs no password: nothing is opened.
fn restore(home: &Home, args: &ImportArgs, file: &mut dyn Read) -> anyhow::Result<()> {
    let shown = args.file.display();
    let rows = backup::read(file).map_err(|error| anyhow!("{shown}: {error}"))?;
    let (config, _lock) = empty_home(home)?;
    let mut store = Unlocked::open_store(home, &config)?;
    let mut batch = store.batch()?;
    let count = rows.len();
    batch.apply(rows);
    let own = account::restored(&batch, &mut OsEntropy)?;
    batch.apply(own);
    let Some(summary) = account::summary(&batch)? else {
        bail!("{shown}: there is no account in it");
    };
    let instance = Instance { user_id: summary.user_id, fingerprint: summary.fingerprint };
    if let Some(lost) = config.instance
        && lost != instance
    {
        bail!(
            "{shown} is a backup of the user id {}, but this home belongs to the user id {}; choose \
             another home with {}",
            instance.user_id,
            lost.user_id,
            paths::HOME_VARIABLE
        );
    }
    batch.commit()?;
    store.close()?;
    Config::change(&home.config(), |config| config.instance = Some(instance))?;
    say(format_args!(
        "restored fingerprint={} user-id={} rows={count}",
        instance.fingerprint, instance.user_id
    ));
    Ok(())
}

/// The store of a home whose daemon does not run.
fn own_store(home: &Home) -> anyhow::Result<(Config, HomeLock, Store)> {
    home.check()?;
    let config = Config::load(&home.config())?;
    let lock = HomeLock::acquire(home)?;
    if !home.store().exists() {
        bail!("there is no account in this home; 'hypergolix start app' creates one");
    }
    let store = Unlocked::open_store(home, &config)?;
    Ok((config, lock, store))
}

/// Writes a backup.
pub fn export(args: &ExportArgs) -> anyhow::Result<()> {
    paths::set_private_umask();
    let home = Home::from_env()?;
    let (_, _lock, store) = own_store(&home)?;
    let shown = args.file.display();
    let view = store.snapshot()?;
    let rows = write_new(&args.file, |out| {
        backup::write(&view, out).map_err(|error| anyhow!("{shown} cannot be written: {error}"))
    })?;
    drop(view);
    store.close()?;
    say(format_args!("exported rows={rows}"));
    Ok(())
}

/// Writes a new file, on disk when this returns; a part of one does not stay.
fn write_new<T>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let shown = path.display();
    let refused = |error: std::io::Error| anyhow!("{shown} cannot be written: {error}");
    let mut out = BufWriter::new(File::create_new(path).map_err(refused)?);
    let written = write(&mut out).and_then(|result| {
        out.flush().and_then(|()| out.get_ref().sync_all()).map_err(refused)?;
        Ok(result)
    });
    if written.is_err() {
        // Best effort; why it was not written is what counts.
        let _ = std::fs::remove_file(path);
    }
    written
}

/// Changes the password.
pub fn change_password(args: &ChangeArgs) -> anyhow::Result<()> {
    paths::set_private_umask();
    let home = Home::from_env()?;
    let (_, _lock, store) = own_store(&home)?;
    let kind = if args.recovery_key { password::Kind::Recovery } else { password::Kind::Known };
    let (present, new) =
        password::read_two(args.password_file.as_deref(), kind, args.new_password_file.as_deref())?;
    let unlocked = match kind {
        password::Kind::Recovery => match account::RecoveryKey::from_text(&present) {
            Some(key) => Unlocked::recover(store, &home, &key),
            None => bail!("wrong recovery key; nothing was changed"),
        },
        password::Kind::Known | password::Kind::New | password::Kind::Replacement => {
            Unlocked::unlock(store, &home, &present)
        }
    };
    let mut unlocked = unlocked.map_err(|error| match error {
        NodeError::Unlock(UnlockError::WrongPassword) => {
            anyhow!("wrong {}; nothing was changed", kind.name())
        }
        other => other.into(),
    })?;
    unlocked.change_password(&home, &new)?;
    unlocked.close(&home)?;
    say("the password was changed");
    note("Other devices of the account ask for the new one from their next start on.");
    Ok(())
}

/// Reads the file: a JSON object of four texts.
fn read_identity(path: &Path, file: &mut dyn Read) -> anyhow::Result<PrivateIdentity> {
    let shown = path.display();
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_MAX + 1)
        .read_to_string(&mut text)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_file_does_not_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup");
        let failed: anyhow::Result<()> = write_new(&path, |out| {
            out.write_all(&[0; 10_000])?;
            bail!("the disk is full")
        });
        assert_eq!(failed.unwrap_err().to_string(), "the disk is full");
        assert!(!path.exists());
        write_new(&path, |out| Ok(out.write_all(b"all of it")?)).unwrap();
        // What was there before stays.
        write_new(&path, |_| Ok(())).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"all of it");
    }
}
