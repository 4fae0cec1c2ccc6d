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
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "pid") {
                self.0.run(&["stop", "server", &path.display().to_string()], "");
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

#[test]
fn files_of_something_else_stay_as_they_are() {
    let place = Place::new();
    let port = free_port();
    let words = ["--port", &port];
    let file = |name: &str| place.0.file(name);
    let text = |name: &str| std::fs::read_to_string(file(name)).expect("it is there");
    std::fs::write(file("thesis.pid"), "my thesis\n").expect("ours");
    place.start("thesis.pid", &words).expect(1, &["thesis.pid", "something else"]);
    assert_eq!(text("thesis.pid"), "my thesis\n");
    std::fs::write(file("a.pid.sock"), "data\n").expect("ours");
    place.start("a.pid", &words).expect(1, &["a.pid.sock", "something else"]);
    assert_eq!(text("a.pid.sock"), "data\n");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        file("pipe.pid"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .expect("a pipe");
    place.stop("pipe.pid").expect(1, &["not a file"]);
    place.start("pipe.pid", &words).expect(1, &["not a file"]);
}

#[test]
fn nobody_else_is_stopped() {
    let place = Place::new();
    // A program that locks a file with a number in it, as many do.
    let mut program = std::process::Command::new("sleep").arg("600").spawn().expect("it runs");
    let locked = std::fs::File::create(place.0.file("other.pid")).expect("ours");
    locked.lock().expect("free");
    std::fs::write(place.0.file("other.pid"), format!("{}\n", program.id())).expect("ours");
    place.stop("other.pid").expect(1, &["no Hypergolix server", &program.id().to_string()]);
    assert!(program.try_wait().expect("a child can be asked").is_none());
    program.kill().expect("ours");
    program.wait().expect("it ends");
    drop(locked);
    std::fs::remove_file(place.0.file("other.pid")).expect("ours");

    let user = Home::new();
    let daemon = user.start("correct horse battery staple").expect("it starts");
    let pid_file = user.file("hypergolix.pid").display().to_string();
    user.run(&["stop", "server", &pid_file], "").expect(1, &["stop app"]);
    daemon.stop();
    let folder = user.path().display().to_string();
    let words = ["--port", &free_port(), "--cachedir", &folder];
    place.start("a.pid", &words).expect(1, &["home of a user"]);
}

#[test]
fn a_pid_file_has_a_socket_beside_it() {
    let place = Place::new();
    let long = format!("{}.pid", "x".repeat(120));
    place.start(&long, &["--port", &free_port()]).expect(1, &["too long", "shorter"]);
    assert!(!place.0.file(&long).exists());
}
