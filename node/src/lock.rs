//! One daemon a home, one server a pid file: the locked pid file.
//!
//! The file (`hypergolix.pid` in a home) holds the process id and, once it is known, the IPC port, a line each. It is
//! locked with `flock` for as long as the daemon lives and emptied, not removed, when it ends: what
//! it says counts only while it is locked.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::paths::Home;

/// How long a lock that somebody only looks at, or a file that is being written, is waited for.
const SETTLE: Duration = Duration::from_millis(500);
const SETTLE_STEP: Duration = Duration::from_millis(10);

/// What a pid file says, at most, bytes.
const FILE_MAX: u64 = 64;

/// The daemon that has a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// Its process.
    pub pid: u32,
    /// Its port for applications; `None` while it starts.
    pub ipc_port: Option<u16>,
}

/// Why a home cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another daemon has it.
    #[error(
        "Hypergolix is already running on {home} (process {}); stop it with 'hypergolix stop app', \
         or use another home with HYPERGOLIX_HOME",
        running.map_or_else(|| "unknown".to_owned(), |running| running.pid.to_string())
    )]
    Held {
        /// The home.
        home: String,
        /// Who, if it said so yet.
        running: Option<Running>,
    },
    /// The file cannot be used.
    #[error("the pid file {path} cannot be used: {source}")]
    Io {
        /// Which file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
}

/// The home is ours until this is dropped or the process ends, however it does.
#[derive(Debug)]
pub struct HomeLock(PidLock);

impl HomeLock {
    /// Takes the home for this process.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn acquire(home: &Home) -> Result<Self, LockError> {
        match PidLock::acquire(&home.pid_file()) {
            Ok(lock) => Ok(Self(lock)),
            Err(PidError::Held { running, .. }) => {
                Err(LockError::Held { home: home.path().display().to_string(), running })
            }
            Err(PidError::Foreign { path }) => {
                let source = io::Error::other("it is a file of something else; move it away");
                Err(LockError::Io { path, source })
            }
            Err(PidError::Io { path, source }) => Err(LockError::Io { path, source }),
        }
    }

    /// Writes the port down, for `status`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_ipc_port(&mut self, port: u16) -> io::Result<()> {
        self.0.say(Some(port))
    }
}

/// Why a pid file cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PidError {
    /// Another server has it.
    #[error(
        "a server with the pid file {path} is already running (process {}); stop it with \
         'hypergolix stop server {path}', or use another pid file",
        running.map_or_else(|| "unknown".to_owned(), |running| running.pid.to_string())
    )]
    Held {
        /// Which file.
        path: String,
        /// Who, if it said so yet.
        running: Option<Running>,
    },
    /// The file says something that no pid file says.
    #[error("{path} is a file of something else, which stays as it is; name another pid file")]
    Foreign {
        /// Which file.
        path: String,
    },
    /// The file cannot be used.
    #[error("the pid file {path} cannot be used: {source}")]
    Io {
        /// Which file.
        path: String,
        /// What the system says.
        source: io::Error,
    },
}

/// A pid file is ours until this is dropped or the process ends, however it does.
#[derive(Debug)]
pub struct PidLock(File);

impl PidLock {
    /// Takes the file for this process.
    ///
    /// # Errors
    /// [`PidError`].
    pub fn acquire(path: &Path) -> Result<Self, PidError> {
        let io_error = |source| PidError::Io { path: path.display().to_string(), source };
        let mut file = open(path, true).map_err(io_error)?;
        let patience = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                // Somebody may only be looking.
                Err(TryLockError::WouldBlock) if patience.elapsed() < SETTLE / 5 => {
                    std::thread::sleep(SETTLE_STEP);
                }
                Err(TryLockError::WouldBlock) => {
                    let running = running_at(path).map_err(io_error)?;
                    return Err(PidError::Held { path: path.display().to_string(), running });
                }
                Err(TryLockError::Error(source)) => return Err(io_error(source)),
            }
        }
        let said = read(&mut file).map_err(io_error)?;
        if !said.is_empty() && parse(&said).is_none() {
            return Err(PidError::Foreign { path: path.display().to_string() });
        }
        let mut lock = Self(file);
        lock.say(None).map_err(io_error)?;
        Ok(lock)
    }

    fn say(&mut self, port: Option<u16>) -> io::Result<()> {
        let port = port.map_or_else(String::new, |port| format!("{port}\n"));
        self.0.set_len(0)?;
        self.0.rewind()?;
        self.0.write_all(format!("{}\n{port}", std::process::id()).as_bytes())
    }
}

impl Drop for PidLock {
    fn drop(&mut self) {
        // What an unlocked file says does not count, so failing changes nothing.
        let _ = self.0.set_len(0);
    }
}

/// The daemon that has the home now; `None` if there is none.
///
/// # Errors
/// The pid file cannot be read.
pub fn running(home: &Home) -> io::Result<Option<Running>> {
    running_at(&home.pid_file())
}

/// The process that has a pid file now; `None` if there is none.
///
/// # Errors
/// The file cannot be read.
pub fn running_at(path: &Path) -> io::Result<Option<Running>> {
    let mut file = match open(path, false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let patience = Instant::now();
    loop {
        match file.try_lock_shared() {
            // Free. Closing the file lets go of it.
            Ok(()) => return Ok(None),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if let Some(running) = parse(&read(&mut file)?) {
            return Ok(Some(running));
        }
        if patience.elapsed() > SETTLE {
            return Err(io::Error::other("it is locked, and does not say by which process"));
        }
        std::thread::sleep(SETTLE_STEP);
    }
}

/// Waits until nobody has a pid file; `false` when the time runs out.
///
/// # Errors
/// The file cannot be read.
pub fn wait_until_free(path: &Path, patience: Duration) -> io::Result<bool> {
    let started = Instant::now();
    let file = match open(path, false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    loop {
        match file.try_lock_shared() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if started.elapsed() < patience => {
                std::thread::sleep(SETTLE_STEP);
            }
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// What a pid file says, and one byte more than any says.
fn read(file: &mut File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The inverse of [`PidLock::say`]: a process, and perhaps a port, each on a line of its own.
fn parse(bytes: &[u8]) -> Option<Running> {
    let lines = str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (pid, ipc_port) = match lines.split_once('\n') {
        Some((pid, port)) => (pid, Some(port.parse().ok()?)),
        None => (lines, None),
    };
    Some(Running { pid: pid.parse().ok()?, ipc_port })
}

/// Opens a file and nothing else: a pipe would block.
fn open(path: &Path, create: bool) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .write(create)
        .create(create)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_a_home() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        assert_eq!(running(&home).unwrap(), None);
        let mut lock = HomeLock::acquire(&home).unwrap();
        let pid = std::process::id();
        assert_eq!(running(&home).unwrap(), Some(Running { pid, ipc_port: None }));
        lock.set_ipc_port(7772).unwrap();
        assert_eq!(running(&home).unwrap(), Some(Running { pid, ipc_port: Some(7772) }));
        let error = HomeLock::acquire(&home).unwrap_err();
        assert!(error.to_string().contains(&pid.to_string()), "{error}");
        assert!(!wait_until_free(&home.pid_file(), Duration::from_millis(20)).unwrap());
        drop(lock);
        assert!(wait_until_free(&home.pid_file(), Duration::ZERO).unwrap());
        assert_eq!(running(&home).unwrap(), None);
        HomeLock::acquire(&home).unwrap();
    }

    #[test]
    fn files_of_something_else_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        for text in ["my thesis\n", "4711", "4711\nnotes\n", "4711\n7772\n\n", "-1\n", "\n"] {
            std::fs::write(&path, text).unwrap();
            let refused = PidLock::acquire(&path).unwrap_err();
            assert!(matches!(refused, PidError::Foreign { .. }), "{text:?}: {refused}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        for text in ["", "4711\n", "4711\n7772\n"] {
            std::fs::write(&path, text).unwrap();
            PidLock::acquire(&path).unwrap();
        }
    }

    #[test]
    fn what_a_dead_daemon_left_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        std::fs::write(home.pid_file(), "1\n7772\n").unwrap();
        assert_eq!(running(&home).unwrap(), None);
        HomeLock::acquire(&home).unwrap();
    }
}
