//! The documented Python API, with the `hgx` client from PyPI against real nodes.
//!
//! One trial for each file `python/test_*.py` and each pair of suites; the trials of a pair share two
//! nodes, which found each other over the loopback interface alone. Without a Python the trials are listed as ignored, and the summary
//! says so.

use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};

use hypergolix_tests::harness;
use hypergolix_tests::namespaces::Place;
use hypergolix_tests::process::{Home, Node};
use hypergolix_tests::python::{self, Python};
use libtest_mimic::{Failed, Trial};

fn main() -> ExitCode {
    harness::main(true, |world| {
        let mut files: Vec<String> = std::fs::read_dir(python::folder())
            .expect("the folder of the Python tests")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with("test_") && name.strip_suffix(".py").is_some())
            .collect();
        files.sort();
        // Started by the first trial, so that listing costs nothing; stopped after the last.
        [[3, 3], [1, 3], [3, 1], [1, 1]]
            .map(|suites: [u8; 2]| (suites, Arc::<Mutex<Option<Nodes>>>::default()))
            .into_iter()
            .flat_map(|(suites, nodes)| {
                let files = files.clone();
                files.into_iter().map(move |file| (suites, Arc::clone(&nodes), file))
            })
            .map(|(suites, nodes, file)| {
                let python = world.python.clone();
                let missing = python.is_err();
                let name = file.trim_end_matches(".py");
                let name = match suites {
                    [3, 3] => name.to_owned(),
                    [alice, bob] => format!("{name}_suites_{alice}_{bob}"),
                };
                Trial::test(name, move || {
                    let python = python.map_err(Failed::from)?;
                    let environment = nodes
                        .lock()
                        .map_err(|_| "the nodes did not start")?
                        .get_or_insert_with(|| Nodes::start(suites))
                        .environment
                        .clone();
                    run(&python, &file, &environment)
                })
                .with_kind("python")
                .with_ignored_flag(missing)
            })
            .collect()
    })
}

/// Two users' nodes, and what the Python tests have to know about them.
struct Nodes {
    _running: Vec<Node>,
    environment: Vec<(String, String)>,
}

impl Nodes {
    fn start(suites: [u8; 2]) -> Self {
        let mut running = Vec::new();
        let mut environment = Vec::new();
        for (name, suite) in ["ALICE", "BOB"].into_iter().zip(suites) {
            let node = Home::new(&Place::here()).start_with_suite(suite);
            environment.push((format!("HGX_{name}_PORT"), node.port().to_string()));
            environment.push((format!("HGX_{name}_FINGERPRINT"), node.fingerprint().to_owned()));
            running.push(node);
        }
        Self { _running: running, environment }
    }
}

fn run(python: &Python, file: &str, environment: &[(String, String)]) -> Result<(), Failed> {
    let output = Command::new(python.executable())
        .arg(file)
        .current_dir(python::folder())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}\n{}", output.status, text).into())
}
