//! Whether ports are free, before anything listens on them.
//!
//! libp2p listens with `SO_REUSEPORT`, so that it can dial from the same port, and with that the
//! system lets any number of processes of a user share one: each would get a part of the connections.
//! Plain sockets are bound first, and closed again; what they are refused is refused to us.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::Instant;

use super::{ALL, NetworkError};

/// How long a port may stay in use: by a process that was killed a moment ago.
const PATIENCE: Duration = Duration::from_secs(1);

/// Pause between two tries.
const STEP: Duration = Duration::from_millis(20);

/// What a port is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// TCP and QUIC.
    Plain,
    /// Secure websockets, over TCP.
    Websocket,
}

/// Waits until these ports are free on the given addresses, or on all of them; port 0 always is.
/// Addresses that this computer does not have are left out while there is another.
///
/// # Errors
/// [`NetworkError::InUse`], [`NetworkError::NoSuchAddress`], [`NetworkError::Reserved`].
pub(crate) async fn wait_until_free(
    hosts: &[IpAddr],
    ports: &[(u16, Wanted)],
) -> Result<(), NetworkError> {
    let hosts = if hosts.is_empty() { &ALL } else { hosts };
    let deadline = Instant::now() + PATIENCE;
    for &(port, wanted) in ports.iter().filter(|(port, _)| *port != 0) {
        loop {
            match check(hosts, port, wanted) {
                Err(NetworkError::InUse { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(STEP).await;
                }
                checked => break checked?,
            }
        }
    }
    Ok(())
}

fn check(hosts: &[IpAddr], port: u16, wanted: Wanted) -> Result<(), NetworkError> {
    let transports = match wanted {
        Wanted::Plain => &[(Type::STREAM, "TCP"), (Type::DGRAM, "UDP")][..],
        Wanted::Websocket => &[(Type::STREAM, "TCP")],
    };
    let mut missing = None;
    let mut found = false;
    for &host in hosts {
        for &(kind, transport) in transports {
            match bind(SocketAddr::new(host, port), kind).map_err(|error| error.kind()) {
                Err(ErrorKind::AddrInUse) => {
                    return Err(NetworkError::InUse { port, host, transport });
                }
                Err(ErrorKind::PermissionDenied) => return Err(NetworkError::Reserved { port }),
                Err(ErrorKind::AddrNotAvailable) => missing = Some(host),
                // Whoever listens in earnest says what else is wrong: IPv6 that is switched off is not.
                Ok(()) | Err(_) => found = true,
            }
        }
    }
    match missing {
        Some(host) if !found => Err(NetworkError::NoSuchAddress { host }),
        _ => Ok(()),
    }
}

/// Binds a socket as libp2p does, but for `SO_REUSEPORT`, and closes it. With `SO_REUSEADDR` TCP
/// connections of before that linger in `TIME_WAIT` are in nobody's way.
fn bind(address: SocketAddr, kind: Type) -> io::Result<()> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    if kind == Type::STREAM { socket.listen(1) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn what_is_in_use_is_named() {
        let tcp = TcpListener::bind((HERE, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        for hosts in [&[HERE][..], &ALL] {
            for wanted in [Wanted::Plain, Wanted::Websocket] {
                let refused = check(hosts, port, wanted).unwrap_err().to_string();
                assert!(refused.contains(&format!("port {port} is in use (TCP")), "{refused}");
            }
        }
        drop(tcp);
        let udp = UdpSocket::bind((HERE, 0)).unwrap();
        let port = udp.local_addr().unwrap().port();
        let refused = check(&[HERE], port, Wanted::Plain).unwrap_err().to_string();
        assert!(refused.contains(&format!("port {port} is in use (UDP")), "{refused}");
        check(&[HERE], port, Wanted::Websocket).unwrap();
    }

    #[test]
    fn listeners_that_would_share_are_no_exception() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&SocketAddr::new(HERE, 0).into()).unwrap();
        socket.listen(1).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        check(&[HERE], port, Wanted::Plain).unwrap_err();
    }

    #[test]
    fn a_connection_that_lingers_is_in_nobodys_way() {
        let listener = TcpListener::bind((HERE, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let theirs = std::net::TcpStream::connect((HERE, port)).unwrap();
        // Who closes first keeps the connection in TIME_WAIT.
        drop(listener.accept().unwrap());
        drop((theirs, listener));
        check(&[HERE], port, Wanted::Plain).unwrap();
    }

    #[test]
    fn addresses_of_others_are_named_unless_there_is_another() {
        // For documentation, so nobody has them.
        let (v4, v6) =
            (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
        let refused = check(&[v4.into()], 7770, Wanted::Plain).unwrap_err().to_string();
        assert!(refused.contains("192.0.2.1"), "{refused}");
        let free = UdpSocket::bind((HERE, 0)).unwrap().local_addr().unwrap().port();
        check(&[HERE, v6.into()], free, Wanted::Plain).unwrap();
    }

    #[tokio::test]
    async fn a_port_that_becomes_free_is_waited_for() {
        let udp = UdpSocket::bind((HERE, 0)).unwrap();
        let port = udp.local_addr().unwrap().port();
        let ports = [(port, Wanted::Plain)];
        let mut waits = std::pin::pin!(wait_until_free(&[HERE], &ports));
        assert!(futures::poll!(&mut waits).is_pending());
        drop(udp);
        waits.await.unwrap();
    }
}
