//! A virtual environment with the `hgx` client from PyPI.
//!
//! `hgx` 0.1.0 runs unassisted on Python 3.6 only. On 3.7 and later a `.pth` file loads
//! `python/hgx_shim.py`: six lines outside the package, which stays as it is.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::target_dir;

/// Carries the interpreter, or the reason why there is none, into the namespace.
const INHERITED: &str = "HYPERGOLIX_TESTS_PYTHON";
/// An interpreter to use instead of those looked for.
const CHOSEN: &str = "HYPERGOLIX_PYTHON";
/// Set to 1, a machine without a usable Python fails the tests.
const REQUIRED: &str = "HYPERGOLIX_REQUIRE_PYTHON";

/// Tried in this order: the version the client was written for, then those that need less help.
const VERSIONS: [&str; 8] = ["3.6", "3.9", "3.8", "3.7", "3.10", "3.11", "3.12", "3.13"];

/// A Python interpreter that can `import hgx`.
#[derive(Debug, Clone)]
pub struct Python {
    executable: PathBuf,
    version: String,
}

impl std::fmt::Display for Python {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.version, self.executable.display())
    }
}

impl Python {
    /// The interpreter of the virtual environment.
    pub fn executable(&self) -> &Path {
        &self.executable
    }
}

/// The folder of the Python tests.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

/// The folder of the examples, whose Python programs are run too.
pub fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// Makes the environment and names it to `command`, which runs the tests.
pub(crate) fn prepare(command: &mut Command) {
    let found = match environment() {
        Ok(python) => format!("{}\n{}", python.version, python.executable.display()),
        Err(reason) => {
            eprintln!("=== SKIPPED: no Python for the hgx client: {reason} ===");
            format!("none\n{reason}")
        }
    };
    command.env(INHERITED, found);
}

/// What [`prepare`] found.
pub(crate) fn inherited() -> Result<Python, String> {
    let found = std::env::var(INHERITED).unwrap_or_else(|_| "none\nnot looked for".into());
    let (version, rest) = found.split_once('\n').unwrap_or(("none", ""));
    if version != "none" {
        return Ok(Python { executable: rest.into(), version: version.into() });
    }
    let required = std::env::var(REQUIRED).is_ok_and(|value| value == "1");
    assert!(!required, "{REQUIRED}=1, but there is no usable Python: {rest}");
    Err(rest.to_owned())
}

/// Finds an interpreter and installs the client beside it, once per version.
fn environment() -> Result<Python, String> {
    let mut reasons = Vec::new();
    for candidate in candidates() {
        let Some(version) = version_of(&candidate) else {
            continue;
        };
        match install(&candidate, &version) {
            Ok(executable) => {
                return Ok(Python { executable, version });
            }
            Err(reason) => reasons.push(format!("{version}: {reason}")),
        }
        // Without a package index every version fails in the same way, slowly.
        if reasons.len() == 2 {
            break;
        }
    }
    if reasons.is_empty() {
        reasons.push("no Python 3.6 to 3.13 found".into());
    }
    Err(reasons.join("; "))
}

/// Interpreters by name and in the folders of pyenv, best first.
fn candidates() -> Vec<PathBuf> {
    if let Some(chosen) = std::env::var_os(CHOSEN) {
        return vec![chosen.into()];
    }
    let installed: Vec<PathBuf> = std::env::var_os("HOME")
        .map(|home| Path::new(&home).join(".pyenv/versions"))
        .and_then(|folder| std::fs::read_dir(folder).ok())
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    let mut found = Vec::new();
    for version in VERSIONS {
        found.push(format!("python{version}").into());
        found.extend(
            installed
                .iter()
                .filter(|path| {
                    path.file_name()
                        .and_then(|name| name.to_str())
                        .is_some_and(|name| name.starts_with(&format!("{version}.")))
                })
                .map(|path| path.join("bin/python")),
        );
    }
    found.push("python3".into());
    found
}

/// `3.6` for an interpreter that runs and is one of [`VERSIONS`].
fn version_of(interpreter: &Path) -> Option<String> {
    let output = Command::new(interpreter)
        .args(["-c", "import ssl, sys, venv; print('%d.%d' % sys.version_info[:2])"])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let version = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && VERSIONS.contains(&version.as_str())).then_some(version)
}

/// The environment of one version below the build folder, made unless it is complete.
fn install(interpreter: &Path, version: &str) -> Result<PathBuf, String> {
    let websockets = match version {
        "3.6" => "websockets==9.1",
        "3.7" => "websockets==11.0.3",
        _ => "websockets==13.1",
    };
    let folder = target_dir().join("hgx-python");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let environment = folder.join(version);
    let executable = environment.join("bin/python");
    let shim = crate::python::folder();
    // Written last, with what was asked for: a change of either installs anew.
    let complete = environment.join("complete");
    let contents = format!("hgx==0.1.0 {websockets} psutil==5.9.8 {}", shim.display());

    let lock = File::create(folder.join(format!("{version}.lock")))
        .and_then(|file| file.lock().map(|()| file))
        .map_err(|error| format!("cannot lock {}: {error}", folder.display()))?;
    if std::fs::read_to_string(&complete).is_ok_and(|found| found == contents) {
        return Ok(executable);
    }
    eprintln!("installing hgx 0.1.0 for Python {version} into {}", environment.display());
    let _ = std::fs::remove_dir_all(&environment);
    checked(Command::new(interpreter).args(["-m", "venv"]).arg(&environment))?;
    let pip = ["-m", "pip", "--quiet", "--disable-pip-version-check", "install"];
    // Older pips know no current wheels and would compile instead.
    checked(Command::new(&executable).args(pip).args(["--upgrade", "pip"]))?;
    checked(Command::new(&executable).args(pip).args(["hgx==0.1.0", websockets, "psutil==5.9.8"]))?;
    if version != "3.6" {
        let packages = checked(
            Command::new(&executable)
                .args(["-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]),
        )?;
        let line = format!(
            "import sys; sys.path.append({:?}); import hgx_shim\n",
            shim.display().to_string()
        );
        std::fs::write(Path::new(packages.trim()).join("hgx_shim.pth"), line)
            .map_err(|error| error.to_string())?;
    }
    checked(
        Command::new(&executable).args(["-c", "import hgx, psutil; hgx.HGXLink(autostart=False)"]),
    )?;
    std::fs::write(&complete, contents).map_err(|error| error.to_string())?;
    drop(lock);
    Ok(executable)
}

/// Runs a command to its end; its last line of complaint is the error.
fn checked(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let last = complaint.lines().rev().find(|line| !line.trim().is_empty());
    Err(last.unwrap_or("failed without a word").to_owned())
}
