//! Hosts as network namespaces, joined by a bridge.
//!
//! ```text
//!   host 1            switch            host 2
//!   eth0 10.77.0.1 ── p1 ─ br0 ─ p2 ── eth0 10.77.0.2
//! ```
//!
//! A namespace lives as long as its anchor, a `cat` that ends when the test process does: nothing
//! has a name, nothing is left over. There is no default route, as on a cable between two machines.

use std::ffi::OsStr;
use std::future::Future;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::harness::run;
use crate::wait::{PATIENCE, wait_until};

/// Where processes and connections of a test live: a host, or the test's own namespace.
#[derive(Debug, Clone)]
pub struct Place {
    handle: Handle,
    host: Option<Arc<Host>>,
}

impl Place {
    /// The namespace the test process is in.
    pub fn here() -> Self {
        static RUNTIME: OnceLock<Runtime> = OnceLock::new();
        let runtime = RUNTIME.get_or_init(|| {
            Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("a runtime can be made")
        });
        Self { handle: runtime.handle().clone(), host: None }
    }

    /// Whether it is the namespace the test process is in.
    pub fn is_here(&self) -> bool {
        self.host.is_none()
    }

    /// A runtime whose sockets are in this place.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs a future in this place and waits for its value.
    ///
    /// # Panics
    /// When the future does.
    pub fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        let (send, receive) = mpsc::sync_channel(1);
        self.handle.spawn(async move {
            let _ = send.send(future.await);
        });
        receive.recv().expect("the future ended in a panic, printed above")
    }

    /// A command that runs in this place.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match &self.host {
            None => Command::new(program),
            Some(host) => {
                let mut command = Command::new("nsenter");
                command.args(["-t", &host.anchor.pid(), "-n", "--"]).arg(program);
                command
            }
        }
    }

    /// Bytes that went over the host's cable so far, both ways.
    ///
    /// # Panics
    /// When it has none.
    pub fn traffic(&self) -> u64 {
        let mut command = self.command("cat");
        let output = command.arg("/proc/net/dev").output().expect("cat runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix("eth0:"));
        let line = line.unwrap_or_else(|| panic!("no eth0: {output:?}"));
        let mut fields = line.split_whitespace().filter_map(|field| field.parse::<u64>().ok());
        // Received bytes are the first field, sent bytes the ninth.
        fields.next().expect("a count") + fields.nth(7).expect("a count")
    }

    /// Pulls the cable out of the switch.
    pub fn unplug(&self) {
        self.set_link("down");
    }

    /// Plugs the cable in again.
    pub fn plug(&self) {
        self.set_link("up");
    }

    /// Takes the host's address and gives it another.
    pub fn renumber(&self, address: &str) {
        let host = self.host.as_ref().expect("only hosts have addresses");
        host.anchor.ip(&["-4", "address", "flush", "dev", "eth0"]);
        host.anchor.ip(&["address", "add", &format!("{address}/24"), "brd", "+", "dev", "eth0"]);
    }

    /// Gives the host further addresses, as if it had a network for each.
    fn is_also_at(&self, addresses: &[String]) {
        for address in addresses {
            self.ip(&["address", "add", &format!("{address}/32"), "dev", "lo"]);
        }
    }

    /// Runs `ip` on the host.
    fn ip(&self, words: &[&str]) {
        self.host.as_ref().expect("only hosts have interfaces").anchor.ip(words);
    }

    fn set_link(&self, state: &str) {
        let host = self.host.as_ref().expect("only hosts have cables");
        host.switch.ip(&["link", "set", &host.port(), state]);
    }
}

/// One host of a [`Lan`].
#[derive(Debug)]
struct Host {
    number: u8,
    anchor: Anchor,
    switch: Arc<Anchor>,
    /// Ends the host's runtime when dropped.
    _running: tokio::sync::oneshot::Sender<()>,
}

impl Host {
    /// The switch's end of the cable.
    fn port(&self) -> String {
        format!("p{}", self.number)
    }
}

/// A switch that hosts are plugged into.
#[derive(Debug)]
pub struct Lan {
    switch: Arc<Anchor>,
    hosts: u8,
}

impl Default for Lan {
    fn default() -> Self {
        Self::new()
    }
}

impl Lan {
    /// A switch without hosts.
    pub fn new() -> Self {
        let switch = Anchor::new();
        switch.ip(&["link", "add", "br0", "type", "bridge"]);
        switch.ip(&["link", "set", "br0", "up"]);
        Self { switch: Arc::new(switch), hosts: 0 }
    }

    /// One more host, plugged in.
    pub fn host(&mut self) -> Place {
        self.hosts += 1;
        let place = plug_in(&self.switch, self.hosts, &format!("10.77.0.{}/24", self.hosts));
        self.switch.ip(&["link", "set", &format!("p{}", self.hosts), "master", "br0"]);
        place
    }
}

/// Homes that reach servers and not one another, as behind routers of the Internet.
///
/// ```text
///   home 1                 router                     server 1
///   eth0 10.79.1.1 ── p1 10.79.1.254
///   eth0 10.79.2.1 ── p2 10.79.2.254
///                     br0 10.79.0.254 ── p101 ── eth0 10.79.0.1
/// ```
///
/// Nobody has a route from one home to another, and broadcasts stay where they are.
#[derive(Debug)]
pub struct Internet {
    router: Arc<Anchor>,
    homes: u8,
    servers: u8,
}

impl Default for Internet {
    fn default() -> Self {
        Self::new()
    }
}

/// Ports of servers are numbered from here on.
const SERVER_PORTS: u8 = 100;

impl Internet {
    /// A router and nobody else.
    pub fn new() -> Self {
        let router = Anchor::new();
        router.ip(&["link", "set", "lo", "up"]);
        router.ip(&["link", "add", "br0", "type", "bridge"]);
        router.ip(&["link", "set", "br0", "up"]);
        router.ip(&["address", "add", "10.79.0.254/24", "dev", "br0"]);
        router.run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        Self { router: Arc::new(router), homes: 0, servers: 0 }
    }

    /// One more network with one host.
    pub fn home(&mut self) -> Place {
        self.homes += 1;
        let number = self.homes;
        let place = plug_in(&self.router, number, &format!("10.79.{number}.1/24"));
        let gateway = format!("10.79.{number}.254");
        let port = format!("p{number}");
        self.router.ip(&["address", "add", &format!("{gateway}/24"), "dev", &port]);
        place.ip(&["route", "add", "10.79.0.0/24", "via", &gateway]);
        place
    }

    /// One more host that everybody reaches, and its address.
    pub fn server(&mut self) -> (Place, String) {
        self.servers += 1;
        let address = format!("10.79.0.{}", self.servers);
        let number = SERVER_PORTS + self.servers;
        let place = plug_in(&self.router, number, &format!("{address}/24"));
        self.router.ip(&["link", "set", &format!("p{number}"), "master", "br0"]);
        place.ip(&["route", "add", "default", "via", "10.79.0.254"]);
        (place, address)
    }
}

/// How a router translates addresses (the names of RFC 3489).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nat {
    /// Not at all: the host has a public address.
    None,
    /// One outer port for an inner one, open to everybody.
    FullCone,
    /// The same, open to hosts that were written to.
    Restricted,
    /// The same, open to ports that were written to.
    PortRestricted,
    /// Another outer port for everybody who is written to.
    Symmetric,
}

/// Networks with public addresses of their own, and hosts in them, behind routers or not.
///
/// ```text
///   host                router 1               core              server
///   192.168.1.2 ── 192.168.1.1  5.0.1.1 ── 5.0.1.254
///                                          5.0.2.254 ── 5.0.2.1
/// ```
#[derive(Debug)]
pub struct Globe {
    core: Arc<Anchor>,
    networks: u8,
    routers: Vec<Arc<Anchor>>,
}

impl Default for Globe {
    fn default() -> Self {
        Self::new()
    }
}

impl Globe {
    /// A core without networks.
    pub fn new() -> Self {
        let core = Anchor::new();
        core.ip(&["link", "set", "lo", "up"]);
        core.run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        Self { core: Arc::new(core), networks: 0, routers: Vec::new() }
    }

    /// One more host with a public address, and that.
    pub fn public(&mut self) -> (Place, String) {
        let (number, address) = self.network();
        let place = plug_in(&self.core, number, &format!("{address}/24"));
        self.connect(number);
        place.ip(&["route", "add", "default", "via", &format!("5.0.{number}.254")]);
        (place, address)
    }

    /// One more public host, which has an address in each of `count` networks; these addresses.
    pub fn public_in_many(&mut self, count: usize) -> (Place, Vec<String>) {
        let (place, address) = self.public();
        let addresses: Vec<String> =
            (0..count).map(|number| format!("6.{}.{}.1", number / 256, number % 256)).collect();
        place.is_also_at(&addresses);
        self.core.ip(&["route", "add", "6.0.0.0/8", "via", &address]);
        (place, addresses)
    }

    /// One more host behind a router of its own.
    pub fn behind(&mut self, nat: Nat) -> Place {
        if nat == Nat::None {
            return self.public().0;
        }
        let (number, address) = self.network();
        let router = Arc::new(Anchor::new());
        router.ip(&["link", "set", "lo", "up"]);
        cable(&self.core, number, &router, &format!("{address}/24"));
        self.connect(number);
        router.ip(&["route", "add", "default", "via", &format!("5.0.{number}.254")]);
        router.run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
        let host = format!("192.168.{number}.2");
        let place = plug_in(&router, 1, &format!("{host}/24"));
        let gateway = format!("192.168.{number}.1");
        router.ip(&["address", "add", &format!("{gateway}/24"), "dev", "p1"]);
        place.ip(&["route", "add", "default", "via", &gateway]);
        router.run(&["nft", &rules(nat, &host)]);
        self.routers.push(router);
        place
    }

    /// From now on nothing of a protocol (`tcp` or `udp`) passes between networks.
    pub fn block(&self, protocol: &str) {
        self.core.run(&[
            "nft",
            &format!(
                "add table ip block; add chain ip block forward \
                 {{ type filter hook forward priority 0; }}; \
                 add rule ip block forward meta l4proto {protocol} drop"
            ),
        ]);
    }

    /// From now on nothing for a port of a protocol passes between networks.
    pub fn block_port(&self, protocol: &str, port: u16) {
        self.core.run(&[
            "nft",
            &format!(
                "add table ip block; add chain ip block forward \
                 {{ type filter hook forward priority 0; }}; \
                 add rule ip block forward {protocol} dport {port} drop"
            ),
        ]);
    }

    fn network(&mut self) -> (u8, String) {
        self.networks += 1;
        (self.networks, format!("5.0.{}.1", self.networks))
    }

    /// The core's end of a cable.
    fn connect(&self, number: u8) {
        let gateway = format!("5.0.{number}.254/24");
        self.core.ip(&["address", "add", &gateway, "dev", &format!("p{number}")]);
    }
}

/// A router as `nft` sets it up. What is for the router itself is dropped, as home routers do: a
/// refusal would tell the sender to give up, and leave an entry that takes the port.
fn rules(nat: Nat, host: &str) -> String {
    let random = if nat == Nat::Symmetric { "fully-random" } else { "" };
    let inward = match nat {
        Nat::FullCone => format!("iifname eth0 dnat to {host}"),
        Nat::Restricted => format!("iifname eth0 ip saddr @contacted dnat to {host}"),
        Nat::None | Nat::PortRestricted | Nat::Symmetric => "counter".to_owned(),
    };
    format!(
        "add table ip nat
         add set ip nat contacted {{ type ipv4_addr; flags dynamic,timeout; timeout 2m; }}
         add chain ip nat post {{ type nat hook postrouting priority 100; }}
         add rule ip nat post oifname eth0 masquerade {random}
         add chain ip nat pre {{ type nat hook prerouting priority -100; }}
         add rule ip nat pre {inward}
         add chain ip nat input {{ type filter hook input priority 0; }}
         add rule ip nat input iifname eth0 drop
         add chain ip nat forward {{ type filter hook forward priority 0; policy drop; }}
         add rule ip nat forward iifname p1 oifname eth0 update @contacted {{ ip daddr }}
         add rule ip nat forward iifname p1 accept
         add rule ip nat forward ct state established,related accept
         add rule ip nat forward iifname eth0 ct status dnat accept"
    )
}

/// A new host whose `eth0` is port `p<number>` of a switch or router.
fn plug_in(switch: &Arc<Anchor>, number: u8, address: &str) -> Place {
    let anchor = Anchor::new();
    anchor.ip(&["link", "set", "lo", "up"]);
    cable(switch, number, &anchor, address);
    let (handle, running) = runtime_in(&anchor);
    let host = Host { number, anchor, switch: Arc::clone(switch), _running: running };
    Place { handle, host: Some(Arc::new(host)) }
}

/// Makes port `p<number>` of a switch or router, and `eth0` of a host at its other end.
fn cable(switch: &Anchor, number: u8, host: &Anchor, address: &str) {
    let port = format!("p{number}");
    let pid = host.pid();
    switch.ip(&["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
    switch.ip(&["link", "set", &port, "up"]);
    host.ip(&["address", "add", address, "brd", "+", "dev", "eth0"]);
    host.ip(&["link", "set", "eth0", "up"]);
}

/// A thread inside the namespace with a runtime of its own: its sockets are the host's.
fn runtime_in(anchor: &Anchor) -> (Handle, tokio::sync::oneshot::Sender<()>) {
    let namespace = std::fs::File::open(anchor.path()).expect("the anchor has a namespace");
    let (send, receive) = mpsc::sync_channel(1);
    let (running, stop) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        use std::os::fd::AsFd;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("the namespace is ours");
        let runtime =
            Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        send.send(runtime.handle().clone()).expect("the test waits for the handle");
        let _ = runtime.block_on(stop);
    });
    (receive.recv().expect("the thread sends its handle"), running)
}

/// A process that keeps a network namespace alive.
#[derive(Debug)]
struct Anchor {
    child: Child,
}

impl Anchor {
    fn new() -> Self {
        let child = Command::new("unshare")
            .args(["--net", "--", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("unshare runs: the harness has tried it");
        let anchor = Self { child };
        let ours = std::fs::read_link("/proc/self/ns/net").expect("a process has namespaces");
        wait_until("a network namespace", PATIENCE, || {
            std::fs::read_link(anchor.path()).is_ok_and(|theirs| theirs != ours)
        });
        anchor
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.child.id())
    }

    /// Runs `ip` in the namespace.
    fn ip(&self, words: &[&str]) {
        self.run(&[&["ip"], words].concat());
    }

    /// Runs a program in the namespace.
    fn run(&self, words: &[&str]) {
        let pid = self.pid();
        let mut all = vec!["nsenter", "-t", &pid, "-n", "--"];
        all.extend(words);
        if let Err(error) = run(&all) {
            panic!("{error}");
        }
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
