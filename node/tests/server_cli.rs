//! `hypergolix start server` and its operator's commands, from outside: what they refuse.

mod daemon;

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use daemon::{Home, Said};

/// A port that is free for TCP and UDP, at least now.
fn free_port() -> String {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = tcp.local_addr().expect("bound").port();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port.to_string();
        }
    }
}

/// Where servers keep what they keep; those that still run when this is dropped are stopped.
struct Place(Home);

impl Place {
    fn new() -> Self {
        Self(Home::new())
    }

    fn pid_file(&self, name: &str) -> String {
        self.0.file(name).display().to_string()
    }

    fn start(&self, name: &str, words: &[&str]) -> Said {
        let pid_file = self.pid_file(name);
        let words: Vec<&str> =
            ["start", "server", &pid_file].into_iter().chain(words.iter().copied()).collect();
        self.0.run(&words, "")
    }

    fn stop(&self, name: &str) -> Said {
        self.0.run(&["stop", "server", &self.pid_file(name)], "")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.0.path()).into_iter().flatten().flatten() {
            if let Some(name) = entry.file_name().to_str().filter(|name| name.ends_with(".pid")) {
                self.stop(name);
            }
        }
    }
}

#[test]
fn a_port_in_use_is_an_error() {
    let place = Place::new();
    let (port, other, tls) = (free_port(), free_port(), free_port());
    let words = ["--host", "127.0.0.1", "--port", &port, "--tls-port", &tls];
    place.start("first.pid", &words).expect(0, &["ready"]);
    let said = [&format!("port {port} is in use")[..], "another port"];
    place.start("second.pid", &words).expect(1, &said);
    place.start("second.pid", &["--host", "ANY", "--port", &port]).expect(1, &said);
    let said = [&format!("port {tls} is in use")[..]];
    place.start("second.pid", &["--port", &other, "--tls-port", &tls]).expect(1, &said);
    place.start("second.pid", &["--port", &other, "--tls-port", &other]).expect(2, &["--tls-port"]);
    place.start("second.pid", &["--host", "192.0.2.1"]).expect(1, &["no address 192.0.2.1"]);
    // Once it is gone, however it went, its port is free.
    let pid = std::fs::read_to_string(place.pid_file("first.pid")).expect("a pid file");
    let pid = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
    place.start("first.pid", &words).expect(0, &["ready"]);
    place.stop("first.pid").expect(0, &[]);
}
