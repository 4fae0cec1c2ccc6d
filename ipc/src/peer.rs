//! Who is at the other end of a loopback connection, as far as `/proc` tells.
//!
//! The kernel lists every TCP socket of the network namespace with its owner's uid. Reading the
//! list takes milliseconds, needs no privilege, and works with every application there is.

#[cfg(feature = "server")]
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The state “listening” in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Who has a socket.
#[cfg(feature = "server")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The process, if we may see it.
    pub pid: Option<u32>,
    /// The process's name.
    pub name: Option<String>,
}

#[cfg(feature = "server")]
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.pid) {
            (Some(name), Some(pid)) => write!(f, "'{name}' (process {pid}, user {})", self.uid),
            (None, Some(pid)) => write!(f, "process {pid} of user {}", self.uid),
            _ => write!(f, "a program of user {}", self.uid),
        }
    }
}

/// Our own effective uid; `None` where `/proc` does not tell.
pub(crate) fn own_uid() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

/// The uid of the socket that is `local` at its own end and connected to `remote`; `None` if
/// there is no such socket or the list cannot be read.
pub(crate) fn uid_of_connection(local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    rows().find_map(|row| {
        let row = Row::parse(&row)?;
        (row.state != LISTEN && row.is_at(local) && row.is_connected_to(remote)).then_some(row.uid)
    })
}

/// Who listens on a port of the loopback interface, or of all interfaces.
#[cfg(feature = "server")]
pub(crate) fn owner_of_port(port: u16) -> Option<Owner> {
    let (uid, inode) = rows().find_map(|row| {
        let row = Row::parse(&row)?;
        (row.state == LISTEN && row.local_port() == Some(port)).then_some((row.uid, row.inode))
    })?;
    let pid = pid_of_socket(inode);
    let name = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    Some(Owner { uid, pid, name: name.map(|name| name.trim().to_owned()) })
}

/// Whether processes can be told apart on this system at all.
#[cfg(feature = "server")]
pub(crate) fn is_known_here() -> bool {
    std::fs::metadata("/proc/net/tcp").is_ok() && own_uid().is_some()
}

#[cfg(feature = "server")]
fn pid_of_socket(inode: u64) -> Option<u32> {
    let wanted = format!("socket:[{inode}]");
    std::fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let has_it = std::fs::read_dir(process.path().join("fd"))
            .ok()?
            .filter_map(Result::ok)
            .filter_map(|fd| std::fs::read_link(fd.path()).ok())
            .any(|link| link.as_os_str() == wanted.as_str());
        has_it.then_some(pid)
    })
}

fn rows() -> impl Iterator<Item = String> {
    ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().flat_map(|path| {
        let list = std::fs::read_to_string(path).unwrap_or_default();
        list.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    })
}

/// One line: `sl local remote state tx:rx tr:when retransmits uid timeout inode …`.
struct Row<'a> {
    local: &'a str,
    remote: &'a str,
    state: &'a str,
    uid: u32,
    #[cfg_attr(not(feature = "server"), expect(dead_code, reason = "only the server looks"))]
    inode: u64,
}

impl<'a> Row<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split_whitespace().skip(1);
        Some(Self {
            local: fields.next()?,
            remote: fields.next()?,
            state: fields.next()?,
            uid: fields.nth(3)?.parse().ok()?,
            inode: fields.nth(1)?.parse().ok()?,
        })
    }

    #[cfg(feature = "server")]
    fn local_port(&self) -> Option<u16> {
        u16::from_str_radix(self.local.split_once(':')?.1, 16).ok()
    }

    fn is_at(&self, address: SocketAddr) -> bool {
        spellings(address).iter().any(|text| text == self.local)
    }

    fn is_connected_to(&self, address: SocketAddr) -> bool {
        spellings(address).iter().any(|text| text == self.remote)
    }
}

/// How the kernel writes an address: native 32-bit words in hex; an IPv4 address may also be at
/// hand as an IPv6 one.
fn spellings(address: SocketAddr) -> Vec<String> {
    let port = address.port();
    match address.ip() {
        IpAddr::V4(ip) => {
            let word = u32::from_ne_bytes(ip.octets());
            vec![
                format!("{word:08X}:{port:04X}"),
                format!("{}:{port:04X}", words(ip.to_ipv6_mapped().octets())),
            ]
        }
        IpAddr::V6(ip) => vec![format!("{}:{port:04X}", words(ip.octets()))],
    }
}

fn words(octets: [u8; 16]) -> String {
    let (words, _) = octets.as_chunks::<4>();
    let [a, b, c, d] = [0, 1, 2, 3].map(|at| u32::from_ne_bytes(words[at]));
    format!("{a:08X}{b:08X}{c:08X}{d:08X}")
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn finds_our_own_connection() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let here = listener.local_addr().expect("bound");
            let stream = TcpStream::connect(here).expect("listening");
            let there = stream.local_addr().expect("connected");
            assert_eq!(uid_of_connection(there, here), own_uid());
            assert_eq!(uid_of_connection(here, there).map(|_| ()), Some(()));
            let stranger = SocketAddr::new(there.ip(), 1);
            assert_eq!(uid_of_connection(stranger, here), None);
        }
    }

    #[cfg(feature = "server")]
    #[test]
    fn finds_the_owner_of_a_port() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("any port");
        let owner = owner_of_port(listener.local_addr().expect("bound").port()).expect("ours");
        assert_eq!(owner.uid, own_uid().expect("linux"));
        assert_eq!(owner.pid, Some(std::process::id()));
    }
}
