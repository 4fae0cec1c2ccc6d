//! Where a node keeps its files: one folder, its owner's alone.
//!
//! | file | what |
//! | --- | --- |
//! | `hypergolix.json` | [`Config`](crate::config::Config) |
//! | `hypergolix.lock` | empty; locked while the configuration is changed |
//! | `hypergolix.pid` | process id and IPC port of the running daemon, locked while it runs |
//! | `hypergolix.sock` | where the command line speaks to the running daemon |
//! | `store.redb`, `store.redb.reserve` | [`Store`](crate::store::Store) |
//! | `device.key` | this device's network key |
//! | `logs/` | one file a day |

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::process::{geteuid, umask};

/// Names the home when it is not `~/.hypergolix`.
pub const HOME_VARIABLE: &str = "HYPERGOLIX_HOME";

/// Permission bits that a secret must not have: everything for group and others.
const OTHERS: u32 = 0o077;

/// The folder of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

/// Why a folder cannot be a home.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// Neither `HYPERGOLIX_HOME` nor the user's folder is known.
    #[error("the user's folder is unknown; set {HOME_VARIABLE} to a folder for Hypergolix")]
    Unknown,
    /// The system refuses.
    #[error("the home {} cannot be used: {source}; choose another with {HOME_VARIABLE}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something else has the name.
    #[error("the home {} is not a folder; choose another with {HOME_VARIABLE}", .0.display())]
    NotAFolder(PathBuf),
    /// It belongs to another user.
    #[error("{} belongs to user {owner}; every user needs a home of their own", path.display())]
    Foreign {
        /// Which file or folder.
        path: PathBuf,
        /// The user id it belongs to.
        owner: u32,
    },
    /// Others may look into it or write to it.
    #[error(
        "{} is open to other users (mode {mode:04o}); close it with: chmod {} {}",
        path.display(), if *folder { "700" } else { "600" }, path.display()
    )]
    Open {
        /// Which file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Whether it is a folder.
        folder: bool,
    },
}

impl Home {
    /// The home that the environment names: `HYPERGOLIX_HOME`, or `~/.hypergolix`.
    ///
    /// # Errors
    /// [`HomeError::Unknown`], [`HomeError::Io`].
    pub fn from_env() -> Result<Self, HomeError> {
        let named = std::env::var_os(HOME_VARIABLE).filter(|name| !name.is_empty());
        let path = match named {
            Some(name) => PathBuf::from(name),
            None => std::env::home_dir()
                .filter(|folder| !folder.as_os_str().is_empty())
                .ok_or(HomeError::Unknown)?
                .join(".hypergolix"),
        };
        std::path::absolute(&path).map(Self).map_err(|source| HomeError::Io { path, source })
    }

    /// The home at a path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Makes the folder if there is none (mode 0700), and checks it and the secrets in it.
    ///
    /// # Errors
    /// [`HomeError`]. A folder or secret that is open to others is refused rather than closed:
    /// somebody may have been there already, and its owner should know.
    pub fn prepare(&self) -> Result<(), HomeError> {
        let folder = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        match fs::metadata(&self.0) {
            Ok(found) if !found.is_dir() => return Err(HomeError::NotAFolder(self.0.clone())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                folder(&self.0).map_err(|source| self.refused(source))?;
            }
            Err(error) => return Err(self.refused(error)),
        }
        self.check()?;
        folder(&self.logs()).map_err(|source| HomeError::Io { path: self.logs(), source })?;
        for secret in [self.logs(), self.store(), self.device_key()] {
            check(&secret)?;
        }
        tighten(&self.config())
    }

    /// Checks the folder itself without changing anything.
    ///
    /// # Errors
    /// [`HomeError`], also where there is no such folder.
    pub fn check(&self) -> Result<(), HomeError> {
        match fs::metadata(&self.0) {
            Ok(found) if !found.is_dir() => Err(HomeError::NotAFolder(self.0.clone())),
            Ok(_) => check(&self.0),
            Err(error) => Err(self.refused(error)),
        }
    }

    /// Whether there is anything under this name.
    pub fn exists(&self) -> bool {
        fs::symlink_metadata(&self.0).is_ok()
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// `hypergolix.json`.
    pub fn config(&self) -> PathBuf {
        self.0.join("hypergolix.json")
    }

    /// `hypergolix.pid`.
    pub fn pid_file(&self) -> PathBuf {
        self.0.join("hypergolix.pid")
    }

    /// `hypergolix.sock`.
    pub fn control(&self) -> PathBuf {
        self.0.join("hypergolix.sock")
    }

    /// `store.redb`.
    pub fn store(&self) -> PathBuf {
        self.0.join("store.redb")
    }

    /// `device.key`.
    pub fn device_key(&self) -> PathBuf {
        self.0.join("device.key")
    }

    /// `logs/`.
    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    fn refused(&self, source: io::Error) -> HomeError {
        HomeError::Io { path: self.0.clone(), source }
    }
}

/// Makes every file that this process creates its owner's alone, whatever the shell says.
pub fn set_private_umask() {
    umask(Mode::from_raw_mode(OTHERS));
}

/// Checks that a file or folder, if there is one, is ours alone.
fn check(path: &Path) -> Result<(), HomeError> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(HomeError::Io { path: path.to_owned(), source }),
    };
    if found.uid() != geteuid().as_raw() {
        return Err(HomeError::Foreign { path: path.to_owned(), owner: found.uid() });
    }
    let mode = found.mode() & 0o7777;
    if mode & OTHERS == 0 {
        Ok(())
    } else {
        Err(HomeError::Open { path: path.to_owned(), mode, folder: found.is_dir() })
    }
}

/// The config holds no secrets, and an editor may have saved it with the shell's umask: closed
/// without a word, unless others could have changed it.
fn tighten(path: &Path) -> Result<(), HomeError> {
    match check(path) {
        Err(HomeError::Open { mode, .. }) if mode & 0o022 == 0 => {
            fs::set_permissions(path, Permissions::from_mode(0o600))
                .map_err(|source| HomeError::Io { path: path.to_owned(), source })
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_new_home_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("a/home"));
        home.prepare().unwrap();
        assert_eq!(mode(home.path()), 0o700);
        assert_eq!(mode(&home.logs()), 0o700);
        home.prepare().unwrap();
    }

    #[test]
    fn what_is_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        home.prepare().unwrap();
        for path in [home.path().to_owned(), home.store()] {
            if !path.exists() {
                fs::write(&path, "secret").unwrap();
            }
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
            let error = home.prepare().unwrap_err().to_string();
            assert!(error.contains("0755") && error.contains("chmod"), "{error}");
            let closed = if path.is_dir() { 0o700 } else { 0o600 };
            fs::set_permissions(&path, Permissions::from_mode(closed)).unwrap();
            home.prepare().unwrap();
        }
    }

    #[test]
    fn a_readable_config_is_closed_and_a_writable_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        home.prepare().unwrap();
        fs::write(home.config(), "{}").unwrap();
        fs::set_permissions(home.config(), Permissions::from_mode(0o644)).unwrap();
        home.prepare().unwrap();
        assert_eq!(mode(&home.config()), 0o600);
        fs::set_permissions(home.config(), Permissions::from_mode(0o666)).unwrap();
        assert!(matches!(home.prepare(), Err(HomeError::Open { .. })));
    }

    #[test]
    fn a_file_is_no_home() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(Home::at(&file).prepare(), Err(HomeError::NotAFolder(_))));
        assert!(matches!(Home::at(file.join("below")).prepare(), Err(HomeError::Io { .. })));
    }
}
