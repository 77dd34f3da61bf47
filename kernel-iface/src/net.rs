//! The addresses of the box, and whether something can listen there.
//!
//! Which addresses there are is the network configuration's business, on whatever interfaces and
//! VLANs. The kernel tells when one comes or goes; what comes late is listened on then.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{NetlinkAddr, SockProtocol, SockaddrStorage};

use crate::news::{Netlink, News, NewsError};

/// The multicast groups of IPv4 and IPv6 addresses that come and go.
const ADDRESSES: u32 = (libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;
/// What is said of an address is not read: that something was said is enough.
const MESSAGE: usize = 8 << 10;

/// The kernel's network, as far as targets listen on it.
pub trait Network: Send + Sync {
    /// Those of `addresses` that no interface has. The unspecified ones are everywhere.
    ///
    /// # Errors
    /// When the kernel does not list those that interfaces have.
    fn absent(&self, addresses: &BTreeSet<IpAddr>) -> Result<BTreeSet<IpAddr>, Errno>;

    /// Whether something could listen at an address over TCP now.
    ///
    /// # Errors
    /// EADDRINUSE when something does, EADDRNOTAVAIL when no interface has the address.
    fn try_listen(&self, at: SocketAddr) -> Result<(), Errno>;

    /// Tells when addresses come and go.
    ///
    /// # Errors
    /// When the kernel does not tell.
    fn news(&self) -> Result<Box<dyn News>, NewsError>;
}

/// The running kernel's.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealNetwork;

impl Network for RealNetwork {
    fn absent(&self, addresses: &BTreeSet<IpAddr>) -> Result<BTreeSet<IpAddr>, Errno> {
        let mut absent = addresses.clone();
        absent.retain(|address| !address.is_unspecified());
        for interface in nix::ifaddrs::getifaddrs()? {
            if let Some(here) = interface.address.as_ref().and_then(ip) {
                absent.remove(&here);
            }
        }
        Ok(absent)
    }

    fn try_listen(&self, at: SocketAddr) -> Result<(), Errno> {
        if !self.absent(&[at.ip()].into())?.is_empty() {
            return Err(Errno::EADDRNOTAVAIL);
        }
        // Read, not tried: whoever tries needs sockets of the internet's, which this process is to
        // do without.
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            match std::fs::read_to_string(table) {
                Ok(text) if listeners(&text).any(|there| overlap(there, at)) => {
                    return Err(Errno::EADDRINUSE);
                }
                Ok(_) => {}
                // There is no IPv6.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
            }
        }
        Ok(())
    }

    fn news(&self) -> Result<Box<dyn News>, NewsError> {
        Ok(Box::new(AddressEvents::open()?))
    }
}

/// Where something listens, as the kernel lists its sockets: `SLOT: ADDRESS:PORT PEER:PORT STATE …`.
fn listeners(table: &str) -> impl Iterator<Item = SocketAddr> + '_ {
    const LISTEN: &str = "0A";
    table.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, _peer, state) = (words.next()?, words.next()?, words.next()?);
        (state == LISTEN).then_some(())?;
        let (address, port) = local.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let word = |text: &str| Some(u32::from_str_radix(text, 16).ok()?.to_ne_bytes());
        let address: IpAddr = match address.len() {
            8 => word(address)?.into(),
            32 => {
                let mut bytes = [0; 16];
                for (at, into) in bytes.chunks_exact_mut(4).enumerate() {
                    into.copy_from_slice(&word(address.get(8 * at..8 * at + 8)?)?);
                }
                bytes.into()
            }
            _ => return None,
        };
        Some(SocketAddr::new(address.to_canonical(), port))
    })
}

/// Whether two cannot both listen: the unspecified address stands for all of its family, and that of
/// IPv6 for IPv4, too.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: SocketAddr, narrow: SocketAddr| {
        wide.ip().is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
    };
    one.port() == other.port()
        && (one.ip() == other.ip() || covers(one, other) || covers(other, one))
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
    v4.or_else(|| Some(IpAddr::from(address.as_sockaddr_in6()?.ip())))
}

/// The socket on which the kernel tells of addresses. No privilege is needed to listen.
#[derive(Debug)]
struct AddressEvents(Netlink);

impl AddressEvents {
    fn open() -> Result<AddressEvents, NewsError> {
        Netlink::open(SockProtocol::NetlinkRoute, ADDRESSES).map(AddressEvents)
    }
}

impl AsFd for AddressEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl News for AddressEvents {
    fn take(&self) -> Result<bool, NewsError> {
        // Port 0 is the kernel.
        let of_kernel =
            |sender: Option<NetlinkAddr>, _: &[u8]| sender.is_some_and(|sender| sender.pid() == 0);
        self.0.take(&mut [0; MESSAGE], of_kernel)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

    use super::*;

    #[test]
    fn what_no_interface_has_is_absent_and_anyone_may_listen() {
        let elsewhere = IpAddr::from([192, 0, 2, 77]);
        let here = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::UNSPECIFIED.into()];
        let asked = BTreeSet::from_iter(here.into_iter().chain([elsewhere]));
        assert_eq!(RealNetwork.absent(&asked), Ok([elsewhere].into()));
        assert!(!RealNetwork.news().unwrap().take().unwrap());
    }

    #[test]
    fn what_listens_or_is_not_here_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        assert_eq!(RealNetwork.try_listen(at), Err(Errno::EADDRINUSE));
        drop(listener);
        assert_eq!(RealNetwork.try_listen(at), Ok(()));
        for (wide, narrow) in [
            ("[::]:0", "127.0.0.1"),
            ("0.0.0.0:0", "127.0.0.1"),
            ("[::1]:0", "::"),
        ] {
            let listener = TcpListener::bind(wide).unwrap();
            let at = SocketAddr::new(
                narrow.parse().unwrap(),
                listener.local_addr().unwrap().port(),
            );
            assert_eq!(RealNetwork.try_listen(at), Err(Errno::EADDRINUSE), "{wide}");
        }
        let elsewhere = "192.0.2.77:3260".parse().unwrap();
        let absent = RealNetwork.try_listen(elsewhere);
        assert_eq!(absent, Err(Errno::EADDRNOTAVAIL));
    }
}
