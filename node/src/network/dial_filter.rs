//! Which addresses are dialled, whoever asks for it.
//!
//! Strangers name addresses: in the DHT, as hole punching candidates, to have them tested. A
//! dial to a private address would scan our own network for them. So every dial passes here:
//! public addresses and those of our own subnets may be dialled, others only where the configuration,
//! an announcement on the LAN or an earlier connection vouches for the host.

use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

use libp2p::core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, Transport};

use super::limits::TRUSTED_HOSTS;

/// An interface's address and its mask.
pub(super) type Subnet = (IpAddr, IpAddr);

/// What may be dialled. Clones share one state.
#[derive(Debug, Clone, Default)]
pub(super) struct DialFilter {
    state: Arc<RwLock<State>>,
}

#[derive(Debug, Default)]
struct State {
    subnets: Vec<Subnet>,
    trusted: HashSet<Multiaddr>,
    order: VecDeque<Multiaddr>,
}

impl DialFilter {
    /// Looks at this machine's interfaces again.
    pub(super) fn refresh(&self) {
        let subnets = if_addrs::get_if_addrs().unwrap_or_default();
        let subnets = subnets.into_iter().map(|interface| match interface.addr {
            if_addrs::IfAddr::V4(v4) => (v4.ip.into(), v4.netmask.into()),
            if_addrs::IfAddr::V6(v6) => (v6.ip.into(), v6.netmask.into()),
        });
        self.set_subnets(subnets.collect());
    }

    fn set_subnets(&self, subnets: Vec<Subnet>) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).subnets = subnets;
    }

    /// From now on the host of `address` may be dialled. The oldest of [`TRUSTED_HOSTS`] gives way.
    pub(super) fn trust(&self, address: &Multiaddr) {
        let Some(host) = host(address) else { return };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.trusted.insert(host.clone()) {
            state.order.push_back(host);
            if state.order.len() > TRUSTED_HOSTS
                && let Some(oldest) = state.order.pop_front()
            {
                state.trusted.remove(&oldest);
            }
        }
    }

    /// Whether an address is on this machine or one of its subnets.
    pub(super) fn is_near(&self, address: &Multiaddr) -> bool {
        let Some(ip) = super::address_book::ip_of(address) else { return false };
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        ip.is_loopback() || is_in(ip, &state.subnets)
    }

    /// Whether an address that a stranger names may be dialled.
    pub(super) fn takes_from_strangers(&self, address: &Multiaddr) -> bool {
        let Some(ip) = super::address_book::ip_of(address) else { return false };
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        // Loopback is in a subnet of ours, and still nobody else's business.
        is_global(ip) || (!ip.is_loopback() && is_in(ip, &state.subnets))
    }

    /// Whether an address is dialled: what strangers may name, and hosts that something vouches for.
    pub(super) fn passes(&self, address: &Multiaddr) -> bool {
        let trusted = host(address).is_some_and(|host| {
            self.state.read().unwrap_or_else(PoisonError::into_inner).trusted.contains(&host)
        });
        trusted || self.takes_from_strangers(address)
    }
}

/// The first part of an address: an IP address or a name.
fn host(address: &Multiaddr) -> Option<Multiaddr> {
    address.iter().next().map(|first| std::iter::once(first).collect())
}

fn is_in(ip: IpAddr, subnets: &[Subnet]) -> bool {
    subnets.iter().any(|subnet| match (ip, subnet) {
        (IpAddr::V4(ip), (IpAddr::V4(own), IpAddr::V4(mask))) => {
            let mask = mask.to_bits();
            mask != 0 && ip.to_bits() & mask == own.to_bits() & mask
        }
        (IpAddr::V6(ip), (IpAddr::V6(own), IpAddr::V6(mask))) => {
            let mask = mask.to_bits();
            mask != 0 && ip.to_bits() & mask == own.to_bits() & mask
        }
        _ => false,
    })
}

/// Whether an address can be anybody's on the Internet.
pub(super) fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_global_v4(ip),
        IpAddr::V6(ip) => is_global_v6(ip),
    }
}

fn is_global_v4(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    // 100.64.0.0/10 belongs to providers' own NATs (RFC 6598), 198.18.0.0/15 to measurements.
    let shared = first == 100 && second & 0xc0 == 64 || first == 198 && second & 0xfe == 18;
    let reserved = first == 0 || first >= 240;
    !(shared
        || reserved
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast())
}

fn is_global_v6(ip: Ipv6Addr) -> bool {
    // An IPv4 address in disguise: mapped, translated (RFC 6052) or 6to4 (RFC 3056).
    let [a, b, c, ..] = ip.segments();
    let bits = ip.to_bits();
    let within = match (a, b) {
        _ if ip.to_ipv4_mapped().is_some() => ip.to_ipv4_mapped(),
        (0x64, 0xff9b) => Some(Ipv4Addr::from_bits(bits as u32)),
        (0x2002, _) => Some(Ipv4Addr::from_bits(u32::from(b) << 16 | u32::from(c))),
        _ => None,
    };
    if let Some(within) = within {
        return is_global_v4(within);
    }
    // 2000::/3 is all that was given out.
    a & 0xe000 == 0x2000
}

/// A transport that dials only what the filter lets through.
#[derive(Debug)]
pub(super) struct Filtered<T> {
    inner: T,
    filter: DialFilter,
}

impl<T> Filtered<T> {
    pub(super) fn new(inner: T, filter: DialFilter) -> Self {
        Self { inner, filter }
    }
}

impl<T: Transport + Unpin> Transport for Filtered<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        if !self.filter.passes(&address) {
            tracing::debug!(%address, "not dialled: a private address that nobody vouches for");
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.inner.dial(address, opts)
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.get_mut().inner).poll(cx)
    }
}

/// Whether an address leads through a relay.
pub(super) fn is_circuit(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().expect("an address")
    }

    fn filter() -> DialFilter {
        let filter = DialFilter::default();
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        filter.set_subnets(vec![
            (ip("127.0.0.1"), ip("255.0.0.0")),
            (ip("192.168.7.20"), ip("255.255.255.0")),
            (ip("fd00:1::20"), ip("ffff:ffff:ffff:ffff::")),
        ]);
        filter
    }

    #[test]
    fn strangers_name_public_addresses_and_those_of_our_subnets() {
        let filter = filter();
        for (text, taken) in [
            ("/ip4/8.8.8.8/tcp/1", true),
            ("/ip4/8.8.8.8/udp/1/quic-v1", true),
            ("/ip4/192.168.7.99/tcp/1", true),
            ("/ip6/fd00:1::99/tcp/1", true),
            ("/ip6/2a00::1/tcp/1", true),
            ("/ip4/192.168.8.99/tcp/1", false),
            ("/ip4/10.0.0.1/tcp/1", false),
            ("/ip4/172.16.0.1/udp/1/quic-v1", false),
            ("/ip4/127.0.0.1/tcp/1", false),
            ("/ip4/169.254.1.1/tcp/1", false),
            ("/ip4/100.64.0.1/tcp/1", false),
            ("/ip4/0.0.0.0/tcp/1", false),
            ("/ip4/224.0.0.1/tcp/1", false),
            ("/ip4/255.255.255.255/tcp/1", false),
            ("/ip6/::1/tcp/1", false),
            ("/ip6/fe80::1/tcp/1", false),
            ("/ip6/fd00:2::1/tcp/1", false),
            ("/ip6/::ffff:10.0.0.1/tcp/1", false),
            ("/ip6/64:ff9b::10.0.0.1/tcp/1", false),
            ("/ip6/2002:a00:1::1/tcp/1", false),
            ("/dns4/printer.local/tcp/80", false),
        ] {
            assert_eq!(filter.takes_from_strangers(&address(text)), taken, "{text}");
            assert_eq!(filter.passes(&address(text)), taken, "{text}");
        }
    }

    #[test]
    fn what_somebody_vouches_for_is_dialled() {
        let filter = filter();
        filter.trust(&address("/ip4/10.0.0.1/tcp/7770"));
        filter.trust(&address("/dns/nas.local/tcp/7770"));
        assert!(filter.passes(&address("/ip4/10.0.0.1/udp/9/quic-v1")));
        assert!(filter.passes(&address("/dns/nas.local/tcp/7771")));
        assert!(!filter.passes(&address("/ip4/10.0.0.2/tcp/7770")));
        assert!(!filter.takes_from_strangers(&address("/ip4/10.0.0.1/tcp/7770")));
        for number in 0..2 * TRUSTED_HOSTS {
            filter.trust(&address(&format!("/dns/host{number}/tcp/1")));
        }
        assert!(!filter.passes(&address("/ip4/10.0.0.1/tcp/7770")), "bounded");
    }

    #[test]
    fn near_is_what_needs_no_router() {
        let filter = filter();
        assert!(filter.is_near(&address("/ip4/192.168.7.1/tcp/1")));
        assert!(filter.is_near(&address("/ip4/127.0.0.1/tcp/1")));
        assert!(!filter.is_near(&address("/ip4/192.168.8.1/tcp/1")));
        assert!(!filter.is_near(&address("/dns/example.org/tcp/1")));
    }
}
