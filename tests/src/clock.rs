//! A clock that a test moves, also under processes that run: libfaketime, preloaded.
//!
//! The binary under test has no hook for that; what it reads is what the C library says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

/// Where distributions put the library for programs with threads.
const LIBRARIES: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
];

/// A clock that several processes share. Wall clock and monotonic clock move together.
#[derive(Debug, Clone)]
pub struct Clock {
    library: &'static Path,
    folder: Arc<TempDir>,
}

impl Clock {
    /// Whether libfaketime is installed.
    pub fn is_there() -> bool {
        library().is_some()
    }

    /// A clock that shows the time of the machine.
    ///
    /// # Panics
    /// Where libfaketime is not installed.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folders can be made");
        let clock = Self { library: library().expect("libfaketime"), folder: Arc::new(folder) };
        clock.set(Duration::ZERO);
        clock
    }

    /// Moves it to so much later than the machine's time.
    pub fn set(&self, later: Duration) {
        // Readers see the old time or the new one, never half a file.
        let new = self.folder.path().join("new");
        std::fs::write(&new, format!("+{}\n", later.as_secs())).expect("the folder is ours");
        std::fs::rename(new, self.file()).expect("the folder is ours");
    }

    /// Makes a process, not yet started, go by this clock.
    pub fn rule(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", self.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.file())
            .env("FAKETIME_NO_CACHE", "1");
    }

    /// What a process that starts now reads, seconds since 1970.
    ///
    /// # Panics
    /// When `date` says something else.
    pub fn read(&self) -> u64 {
        let mut command = Command::new("date");
        self.rule(command.arg("+%s"));
        let output = command.output().expect("there is a date");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.trim().parse().unwrap_or_else(|_| panic!("no time: {output:?}"))
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("time")
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

fn library() -> Option<&'static Path> {
    LIBRARIES.into_iter().map(Path::new).find(|path| path.exists())
}
