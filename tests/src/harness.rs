//! What every test target does first.
//!
//! The targets bring their own `main`, because the process leaves the machine's network before the
//! first test: it runs itself again inside a network namespace that has only a loopback
//! interface (`unshare`, as root or within a user namespace). Nodes of a test then find each
//! other and nobody else, and nothing reaches the network outside. Where the machine allows no
//! namespaces the tests that need hosts are listed as ignored, and the others run in place.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;

use libtest_mimic::{Arguments, Trial};

use crate::python::{self, Python};

/// Set in the process that runs inside the namespace: `root`, `user` or `none`.
const INSIDE: &str = "HYPERGOLIX_TESTS_INSIDE";
/// The binary under test, when it is not the one built from this workspace.
const BINARY: &str = "HYPERGOLIX_TESTS_BINARY";

/// A network of its own, and processes that end with the test process, however it ends.
const UNSHARE: [&str; 6] = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];

/// What the machine offers to the tests.
#[derive(Debug, Clone)]
pub struct World {
    /// The process runs in a network namespace of its own and may make more of them.
    pub namespaces: bool,
    /// The process is root of the machine, so it can become another user.
    pub root: bool,
    /// A Python with the `hgx` client, or why there is none. Looked for only if asked to.
    pub python: Result<Python, String>,
}

/// Runs the trials that `list` names, in a network of their own. `wants_python` prepares the Python
/// environment first, while there is still a network to fetch it from.
pub fn main(wants_python: bool, list: impl FnOnce(&World) -> Vec<Trial>) -> ExitCode {
    let arguments = Arguments::from_args();
    let inside = std::env::var(INSIDE).ok();
    if inside.is_none() && !arguments.list {
        return outside(wants_python);
    }
    let inside = inside.unwrap_or_default();
    let world = World {
        namespaces: inside == "root" || inside == "user",
        root: rustix::process::getuid().is_root() && inside != "user",
        python: if wants_python { python::inherited() } else { Err("not asked for".into()) },
    };
    if world.namespaces {
        run(&["ip", "link", "set", "lo", "up"]).expect("a new namespace has a loopback interface");
    }
    let trials = list(&world);
    let ignored: Vec<String> = trials
        .iter()
        .filter(|trial| trial.has_ignored_flag())
        .map(|trial| trial.name().to_owned())
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        match &world.python {
            Ok(python) => println!("Python: {python}"),
            Err(reason) if wants_python => println!("SKIPPED: no Python ({reason})"),
            Err(_) => {}
        }
        if !world.namespaces {
            println!("SKIPPED: no network namespaces");
        }
        if !ignored.is_empty() {
            println!("not run: {}", ignored.join(", "));
        }
    }
    conclusion.exit_code()
}

/// Prepares everything that needs the network, then becomes the process inside the namespace.
fn outside(wants_python: bool) -> ExitCode {
    let mut command = None;
    let mut inside = "none";
    for (name, first) in [("root", &["unshare"][..]), ("user", &["unshare", "-Ur"][..])] {
        let unshare = [first, &UNSHARE].concat();
        if run(&[&unshare[..], &["ip", "link", "set", "lo", "up"]].concat()).is_ok() {
            inside = name;
            command = Some(unshare);
            break;
        }
    }
    let this = std::env::current_exe().expect("a running test has a path");
    let mut again = match command {
        Some(unshare) => {
            let mut wrapped = Command::new(unshare[0]);
            wrapped.args(&unshare[1..]).arg(this);
            wrapped
        }
        None => Command::new(this),
    };
    again.args(std::env::args_os().skip(1)).env(INSIDE, inside).env(BINARY, built());
    if wants_python {
        python::prepare(&mut again);
    }
    let error = again.exec();
    eprintln!("cannot run the tests again inside a namespace: {error}");
    ExitCode::FAILURE
}

/// The `hypergolix` binary under test.
pub fn binary() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(built)
}

/// Names the binary given in the environment, or builds it from this workspace.
fn built() -> PathBuf {
    if let Some(path) = std::env::var_os(BINARY) {
        return PathBuf::from(path);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // Exactly what `cargo test --workspace` has built already, with the same features: from there
    // nothing is built again.
    command
        .args(["test", "--workspace", "--no-run"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    // What cargo tells this test would look like a change to build scripts that watch it.
    for (name, _) in std::env::vars_os() {
        let own = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if own.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    let release = std::env::current_exe()
        .is_ok_and(|path| path.components().any(|part| part.as_os_str() == "release"));
    if release {
        command.arg("--release");
    }
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "the binary under test does not build");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "hypergolix")
        .filter(|message| message["profile"]["test"] == false)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the executable it built")
}

/// The folder of build results, for what tests keep between runs.
pub fn target_dir() -> PathBuf {
    let this = std::env::current_exe().expect("a running test has a path");
    this.ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .map_or_else(|| std::env::temp_dir().join("hypergolix-tests"), Path::to_path_buf)
}

/// Runs a command to its end, without input.
///
/// # Errors
/// What it wrote, or why it could not be started.
pub fn run(words: &[&str]) -> Result<String, String> {
    let output = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", words[0]))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(format!("{}: {text}{}", words.join(" "), String::from_utf8_lossy(&output.stderr)))
    }
}

/// A trial from a plain function; a panic is its failure.
pub fn trial(name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}
