//! Who listens where.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ashlar_targetd_protocol::{FcPort, NvmePort};

use crate::tree::Errno;

/// The listening sockets of the kernel's targets.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    /// How many portals share each iSCSI socket.
    iscsi: BTreeMap<SocketAddr, u32>,
    nvmet: BTreeSet<SocketAddr>,
    /// RDMA has port numbers of its own. How many share each of iSER's, and nvmet's.
    iser: BTreeMap<SocketAddr, u32>,
    rdma: BTreeSet<SocketAddr>,
    /// Ports of Fibre Channel, each of one port of nvmet's.
    fc: BTreeSet<FcPort>,
    lost_fc: BTreeSet<FcPort>,
    lost: BTreeSet<IpAddr>,
    /// Where other processes listen.
    others: BTreeSet<SocketAddr>,
    without_rdma: BTreeSet<IpAddr>,
}

impl Sockets {
    pub(super) fn lose_address(&mut self, address: IpAddr) {
        self.lost.insert(address);
    }

    pub(super) fn find_address(&mut self, address: IpAddr) {
        self.lost.remove(&address);
    }

    pub(super) fn lost(&self) -> &BTreeSet<IpAddr> {
        &self.lost
    }

    pub(super) fn occupy(&mut self, address: SocketAddr) -> Result<(), Errno> {
        self.try_listen(address)?;
        self.others.insert(address);
        Ok(())
    }

    pub(super) fn vacate(&mut self, address: SocketAddr) {
        self.others.remove(&address);
    }

    /// Whether a socket of a process could listen over TCP.
    pub(super) fn try_listen(&self, address: SocketAddr) -> Result<(), Errno> {
        if self.lost.contains(&address.ip()) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        match self.taken(address) {
            true => Err(Errno::EADDRINUSE),
            false => Ok(()),
        }
    }

    pub(super) fn lose_rdma(&mut self, address: IpAddr) {
        self.without_rdma.insert(address);
    }

    pub(super) fn lose_fc_port(&mut self, port: FcPort) {
        self.lost_fc.insert(port);
    }

    pub(super) fn find_fc_port(&mut self, port: FcPort) {
        self.lost_fc.remove(&port);
    }

    /// Closes everything, as losing power does. Addresses that are not here stay so.
    pub(super) fn close_all(&mut self) {
        self.iscsi.clear();
        self.nvmet.clear();
        self.iser.clear();
        self.rdma.clear();
        self.fc.clear();
    }

    /// A portal shares the socket of its exact address, and opens one for a new address. LIO
    /// asks for `IP_FREEBIND`, so an address that is not here is no error.
    pub(super) fn open_portal(&mut self, address: SocketAddr) -> Result<(), Errno> {
        if !self.iscsi.contains_key(&address) && self.taken(address) {
            return Err(Errno::EADDRINUSE);
        }
        *self.iscsi.entry(address).or_default() += 1;
        Ok(())
    }

    pub(super) fn close_portal(&mut self, address: SocketAddr) {
        give_up(&mut self.iscsi, address);
    }

    /// A portal takes logins over RDMA, too, and shares what listens on its exact address.
    pub(super) fn open_iser(&mut self, address: SocketAddr) -> Result<(), Errno> {
        if !self.iser.contains_key(&address) {
            self.check_rdma(address)?;
        }
        *self.iser.entry(address).or_default() += 1;
        Ok(())
    }

    pub(super) fn close_iser(&mut self, address: SocketAddr) {
        give_up(&mut self.iser, address);
    }

    /// A port opens a socket of its own.
    pub(super) fn open_port(&mut self, port: NvmePort) -> Result<(), Errno> {
        match port {
            NvmePort::Tcp(address) => {
                self.try_listen(address.socket())?;
                self.nvmet.insert(address.socket());
            }
            NvmePort::Rdma(address) => {
                self.check_rdma(address.socket())?;
                self.rdma.insert(address.socket());
            }
            NvmePort::Fc(port) if self.lost_fc.contains(&port) => return Err(Errno::ENXIO),
            NvmePort::Fc(port) if !self.fc.insert(port) => return Err(Errno::EALREADY),
            NvmePort::Fc(_) => {}
        }
        Ok(())
    }

    /// Whether something new can listen for RDMA. What overlaps with what is open without being the
    /// same cannot be assigned.
    fn check_rdma(&self, address: SocketAddr) -> Result<(), Errno> {
        let overlaps =
            |open: &SocketAddr| reaches_by_rdma(*open, address) || reaches_by_rdma(address, *open);
        let mut open = self.iser.keys().chain(&self.rdma);
        if self.lost.contains(&address.ip()) {
            Err(Errno::EADDRNOTAVAIL)
        } else if self.without_rdma.contains(&address.ip()) {
            Err(Errno::ENODEV)
        } else if self.iser.contains_key(&address) || self.rdma.contains(&address) {
            Err(Errno::EADDRINUSE)
        } else if open.any(overlaps) {
            Err(Errno::EADDRNOTAVAIL)
        } else {
            Ok(())
        }
    }

    pub(super) fn close_port(&mut self, port: NvmePort) {
        match port {
            NvmePort::Tcp(address) => self.nvmet.remove(&address.socket()),
            NvmePort::Rdma(address) => self.rdma.remove(&address.socket()),
            NvmePort::Fc(port) => self.fc.remove(&port),
        };
    }

    pub(super) fn iscsi_listens(&self, address: SocketAddr) -> bool {
        self.iscsi.keys().any(|open| reaches(*open, address))
    }

    pub(super) fn iser_listens(&self, address: SocketAddr) -> bool {
        self.iser.keys().any(|open| reaches_by_rdma(*open, address))
    }

    fn taken(&self, address: SocketAddr) -> bool {
        let mut open = self.iscsi.keys().chain(&self.nvmet).chain(&self.others);
        open.any(|open| overlap(*open, address))
    }
}

/// One of those who share an address leaves it.
fn give_up(open: &mut BTreeMap<SocketAddr, u32>, address: SocketAddr) {
    if let Some(sharing) = open.get_mut(&address) {
        *sharing -= 1;
        if *sharing == 0 {
            open.remove(&address);
        }
    }
}

/// Whether a connection to `address` arrives at a socket that listens on `open`.
pub(super) fn reaches(open: SocketAddr, address: SocketAddr) -> bool {
    open.port() == address.port() && (open.ip() == address.ip() || covers(open.ip(), address.ip()))
}

/// The same over RDMA, where each family has wildcards of its own.
pub(super) fn reaches_by_rdma(open: SocketAddr, address: SocketAddr) -> bool {
    open.is_ipv4() == address.is_ipv4() && reaches(open, address)
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    reaches(one, other) || reaches(other, one)
}

/// The unspecified address stands for all of its family; that of IPv6 for IPv4 too.
fn covers(wide: IpAddr, narrow: IpAddr) -> bool {
    wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn portals_share_a_socket_and_ports_do_not() {
        let mut sockets = Sockets::default();
        sockets.open_portal(at("10.0.0.1:3260")).unwrap();
        sockets.open_portal(at("10.0.0.1:3260")).unwrap();
        let taken = Err(Errno::EADDRINUSE);
        assert_eq!(sockets.open_portal(at("0.0.0.0:3260")), taken);
        assert_eq!(sockets.open_portal(at("[::]:3260")), taken);
        let portal = "10.0.0.1:3260".parse().unwrap();
        assert_eq!(sockets.open_port(NvmePort::Tcp(portal)), taken);
        sockets.open_port(NvmePort::Rdma(portal)).unwrap();
        assert_eq!(sockets.open_port(NvmePort::Rdma(portal)), taken);
        assert_eq!(sockets.open_iser(at("10.0.0.1:3260")), taken);
        sockets.close_portal(at("10.0.0.1:3260"));
        assert!(sockets.iscsi_listens(at("10.0.0.1:3260")));
        sockets.close_portal(at("10.0.0.1:3260"));
        assert_eq!(sockets.open_portal(at("[::]:3260")), Ok(()));
    }
}
