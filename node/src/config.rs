//! `hypergolix.json`: what a user has chosen, in words a user can edit.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use golix::Ghid;
use libp2p::Multiaddr;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::network::{Target, Targets};
use crate::store;

/// The port for applications unless told otherwise, as documented.
pub const IPC_PORT_DEFAULT: u16 = 7772;

/// The named remote that the documentation knows.
pub const HGX: &str = "hgx";

/// A config is shorter than this, bytes.
const FILE_MAX: u64 = 1024 * 1024;

/// Everything that can be chosen. Keys that are missing take their defaults; keys that are unknown
/// are refused, because a misspelt setting must not be a setting that silently does nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Config {
    /// TCP port on the loopback interface for applications. Default 7772.
    pub ipc_port: u16,
    /// Persistence servers in use. Default none: data stays on this machine and its peers.
    pub remotes: Vec<Remote>,
    /// What the names of remotes mean.
    pub named_remotes: BTreeMap<String, Vec<Remote>>,
    /// How much is logged. Default `normal`: warnings and errors.
    pub verbosity: Verbosity,
    /// Whether logs also say where in the source they were written, with backtraces. Default no.
    pub debug: bool,
    /// Whether to announce this device on the local network and to look for others. Default yes.
    pub lan: bool,
    /// Addresses of this device to listen and announce on. Default none: all of them. With
    /// 127.0.0.1 alone nothing leaves the machine.
    pub listen: Vec<IpAddr>,
    /// Whether to take part in the distributed hash table: records say, to whoever
    /// knows the fingerprint, where this device is. Default no.
    pub dht: bool,
    /// Devices to keep dialling, as multiaddresses.
    pub peers: Vec<Multiaddr>,
    /// Web pages that may use the IPC port: whole `Origin` values. Default none.
    pub allowed_origins: Vec<String>,
    /// What an acknowledged change survives. Default `full`: a power cut.
    pub durability: Durability,
    /// Whose home this is, once there is an account. Worth writing down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
}

/// A persistence server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remote {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Secure websocket, or QUIC and TCP otherwise.
    pub tls: bool,
}

/// How much is logged, in the documented words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Verbosity {
    /// Everything, of all libraries.
    Extreme,
    /// Everything of Hypergolix, much of the libraries.
    Shouty,
    /// What Hypergolix does, in detail.
    #[value(alias = "debug")]
    #[serde(alias = "debug")]
    Louder,
    /// What Hypergolix does.
    #[value(alias = "info")]
    #[serde(alias = "info")]
    Loud,
    /// Warnings.
    #[value(alias = "warning")]
    #[serde(alias = "warning")]
    Normal,
    /// Errors.
    #[value(alias = "error")]
    #[serde(alias = "error")]
    Quiet,
}

/// What an acknowledged change survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// A power cut.
    Full,
    /// The end of the process, however sudden; a power cut may lose the store.
    Os,
}

impl From<Durability> for store::Durability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Full => Self::Full,
            Durability::Os => Self::Os,
        }
    }
}

/// Whose home this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// The address of the account's root object: with the password it is the account.
    #[serde(with = "ghid_text")]
    pub user_id: Ghid,
    /// The address of the account's identity: what others share with.
    #[serde(with = "ghid_text")]
    pub fingerprint: Ghid,
}

impl Default for Config {
    fn default() -> Self {
        let hgx = Remote { host: "hgx.hypergolix.com".to_owned(), port: 443, tls: true };
        Self {
            ipc_port: IPC_PORT_DEFAULT,
            remotes: Vec::new(),
            named_remotes: BTreeMap::from([(HGX.to_owned(), vec![hgx])]),
            verbosity: Verbosity::Normal,
            debug: false,
            lan: true,
            listen: Vec::new(),
            dht: false,
            peers: Vec::new(),
            allowed_origins: Vec::new(),
            durability: Durability::Full,
            instance: None,
        }
    }
}

/// Why there is no config.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read or written.
    #[error("the config {} cannot be used: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file holds something else, or a key that does not exist.
    #[error(
        "the config {} is wrong in line {line}, column {column}: {reason}; mend it, or move it \
         away to start with the defaults (it records your user id)",
        path.display()
    )]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        reason: String,
    },
}

impl Config {
    /// Reads a config; the defaults if there is no such file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let io_error = |source| ConfigError::Io { path: path.to_owned(), source };
        match fs::metadata(path) {
            Ok(found) if found.len() > FILE_MAX => {
                return Err(io_error(io::Error::other("it is far too long")));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(io_error(error)),
        }
        let bytes = fs::read(path).map_err(io_error)?;
        Self::parse(&bytes).map_err(|(line, column, reason)| ConfigError::Wrong {
            path: path.to_owned(),
            line,
            column,
            reason,
        })
    }

    fn parse(bytes: &[u8]) -> Result<Self, (usize, usize, String)> {
        // A derived struct would also take an array, field by field.
        if bytes.trim_ascii_start().first().is_none_or(|first| *first != b'{') {
            return Err((1, 1, "an object in braces should start here".to_owned()));
        }
        let config: Self = serde_json::from_slice(bytes).map_err(|error| {
            let text = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            let reason = text.strip_suffix(&place).unwrap_or(&text).to_owned();
            (error.line().max(1), error.column().max(1), reason)
        })?;
        let wrong = |reason: String| Err((1, 1, reason));
        if config.ipc_port == 0 {
            return wrong("ipc_port has to be a port from 1 to 65535".to_owned());
        }
        for remote in config.remotes.iter().chain(config.named_remotes.values().flatten()) {
            if let Err(reason) = remote.check() {
                return wrong(reason);
            }
        }
        Ok(config)
    }

    /// Writes the config: whole or not at all, mode 0600, on disk when this returns.
    ///
    /// # Errors
    /// [`ConfigError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), ConfigError> {
        let mut text = serde_json::to_vec_pretty(self).expect("a config is plain data");
        text.push(b'\n');
        replace(path, &text).map_err(|source| ConfigError::Io { path: path.to_owned(), source })
    }

    /// Changes the config that is there now, and nobody else meanwhile: under a lock on a file beside
    /// it. Blocks while another process changes it. Returns what it was before, and what it is.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn change(
        path: &Path,
        change: impl FnOnce(&mut Self),
    ) -> Result<(Self, Self), ConfigError> {
        let io_error = |source| ConfigError::Io { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        let lock = options.open(path.with_extension("lock")).map_err(io_error)?;
        // Closing the file lets go of it.
        lock.lock().map_err(io_error)?;
        let before = Self::load(path)?;
        let mut after = before.clone();
        change(&mut after);
        if after != before || !path.exists() {
            after.save(path)?;
        }
        Ok((before, after))
    }

    /// Uses a remote, unless it is in use already.
    pub fn add_remote(&mut self, remote: Remote) {
        self.remotes.retain(|other| !other.is_at(&remote.host, remote.port));
        self.remotes.push(remote);
    }

    /// No longer uses a remote; `false` if it was not in use.
    pub fn remove_remote(&mut self, host: &str, port: u16) -> bool {
        let before = self.remotes.len();
        self.remotes.retain(|remote| !remote.is_at(host, port));
        self.remotes.len() < before
    }

    /// What the network dials by itself.
    pub fn targets(&self) -> Targets {
        let target = |remote: &Remote| Target::new(&remote.host, remote.port, remote.tls);
        Targets { peers: self.peers.clone(), remotes: self.remotes.iter().map(target).collect() }
    }

    /// The same, except for what a running daemon takes up at once.
    pub fn differs_in_what_takes_a_restart(&self, other: &Self) -> bool {
        let mut same = other.clone();
        same.peers.clone_from(&self.peers);
        same.remotes.clone_from(&self.remotes);
        same.named_remotes.clone_from(&self.named_remotes);
        *self != same
    }

    /// The remotes behind a name.
    pub fn named(&self, name: &str) -> Vec<Remote> {
        self.named_remotes.get(name).cloned().unwrap_or_default()
    }
}

/// The address that a host is given by, if it is not a name.
fn address(host: &str) -> Option<std::net::IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

impl Remote {
    /// Checks what a user typed.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self) -> Result<(), String> {
        if !is_host(&self.host) {
            let reason = format!("{:?} is not a host name or address", self.host);
            if let Some((host, port)) = self.host.rsplit_once(':')
                && is_host(host)
                && port.parse::<u16>().is_ok()
            {
                return Err(format!("{reason}; the port is a word of its own: {host} {port}"));
            }
            return Err(reason);
        }
        if self.port == 0 {
            return Err("port 0 is none; a port is a number from 1 to 65535".to_owned());
        }
        Ok(())
    }

    fn is_at(&self, host: &str, port: u16) -> bool {
        // Addresses have several spellings, and IPv6 ones may stand in brackets.
        let same = match (address(&self.host), address(host)) {
            (Some(own), Some(other)) => own == other,
            _ => self.host.eq_ignore_ascii_case(host),
        };
        same && self.port == port
    }
}

impl std::fmt::Display for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.host, self.port, if self.tls { "TLS" } else { "without TLS" })
    }
}

/// Whether a text is an address, an IPv6 one perhaps in brackets, or a name as DNS has them: labels of
/// letters, digits, `-` and `_`, 63 bytes each.
fn is_host(text: &str) -> bool {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    if bare.unwrap_or(text).parse::<Ipv6Addr>().is_ok() || text.parse::<Ipv4Addr>().is_ok() {
        return true;
    }
    let inner = |c: char| c.is_alphanumeric() || "-_".contains(c);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

/// Temporary file, flush, rename, flush of the folder.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    let written = (|| {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // Best effort; the name says whose it was.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// A [`Ghid`] as its text.
mod ghid_text {
    use golix::Ghid;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(ghid: &Ghid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(ghid)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Ghid, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hypergolix.json");
        assert_eq!(Config::load(&path).unwrap(), Config::default());
        let config = Config {
            verbosity: Verbosity::Extreme,
            debug: true,
            peers: vec!["/ip4/10.0.0.1/tcp/4001".parse().unwrap()],
            durability: Durability::Os,
            instance: Some(Instance { user_id: Ghid::of(b"u"), fingerprint: Ghid::of(b"f") }),
            ..Config::default()
        };
        config.save(&path).unwrap();
        assert_eq!(Config::load(&path).unwrap(), config);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn changes_at_once_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hypergolix.json");
        std::thread::scope(|scope| {
            for port in 1..=20 {
                let path = &path;
                scope.spawn(move || {
                    let remote = Remote { host: "example.org".into(), port, tls: false };
                    Config::change(path, |config| config.add_remote(remote)).unwrap();
                });
            }
        });
        assert_eq!(Config::load(&path).unwrap().remotes.len(), 20);
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let cases: [(&str, usize, &str); 9] = [
            ("", 1, "braces"),
            ("[]", 1, "braces"),
            ("null", 1, "braces"),
            ("{", 1, "EOF"),
            ("{\n  \"colour\": 1\n}", 2, "colour"),
            ("{\n  \"ipc_port\": 7772,\n  \"debug\" false\n}", 3, "expected"),
            ("{\n  \"ipc_port\": 99999\n}", 2, "99999"),
            ("{\"ipc_port\": 0}", 1, "65535"),
            ("{\"verbosity\": \"whispering\"}", 1, "whispering"),
        ];
        for (text, expected, word) in cases {
            let (line, _, reason) = Config::parse(text.as_bytes()).unwrap_err();
            assert_eq!(line, expected, "{text}: {reason}");
            assert!(reason.contains(word), "{text}: {reason}");
        }
    }

    #[test]
    fn one_address_in_two_spellings_is_one_remote() {
        let mut config = Config::default();
        for host in ["[::1]", "::1", "0:0::1", "Example.org", "example.ORG"] {
            config.add_remote(Remote { host: host.into(), port: 7770, tls: false });
        }
        assert_eq!(config.remotes.len(), 2);
        assert!(config.remove_remote("[0::1]", 7770) && config.remotes.len() == 1);
    }

    #[test]
    fn hosts() {
        let check = |host: &str| Remote { host: host.into(), port: 7770, tls: false }.check();
        for host in
            ["a", "localhost", "example.org", "example.org.", "192.168.0.1", "::1", "[fe80::1]"]
        {
            check(host).unwrap();
        }
        for host in ["my_host-2.lan", "exämple.org", "xn--exmple-cua.org", "127.1"] {
            check(host).unwrap();
        }
        let long = "a".repeat(64);
        for host in
            ["", ".", "...", "-", "%", "[", "[]", "a b", "-a", "a-", "a..b", ".a", "[a]", &long]
        {
            check(host).unwrap_err();
        }
        for host in ["fe80::1%eth0", "[127.0.0.1]", "http://example.org", "a:b", "a:70000"] {
            assert!(!check(host).unwrap_err().contains("word of its own"), "{host}");
        }
        for host in ["example.org:7770", "1.2.3.4:443", "[::1]:7770"] {
            let (name, port) = host.rsplit_once(':').unwrap();
            let said = check(host).unwrap_err();
            assert!(said.ends_with(&format!("word of its own: {name} {port}")), "{said}");
        }
    }

    #[test]
    fn remotes_are_known_by_host_and_port() {
        let mut config = Config::default();
        let remote = |tls| Remote { host: "Example.org".into(), port: 7770, tls };
        config.add_remote(remote(false));
        config.add_remote(remote(true));
        assert_eq!(config.remotes, [remote(true)]);
        assert!(!config.remove_remote("example.org", 7771));
        assert!(config.remove_remote("example.ORG", 7770));
        assert!(config.remotes.is_empty());
    }
}
