//! A port: `nvmet/ports/<n>`, an address that listens while a subsystem is linked to it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ashlar_targetd_protocol::{NvmePort, PortId, PortalAddr};

use super::Subsystem;
use crate::tree::{Change, Name, Tree, TreeError, TreePath};

/// What the service is where there are none: the kernel takes no empty one.
const NO_SERVICE: &str = "none";

/// The four attributes that make an address. The kernel refuses to change them (EACCES) while
/// a subsystem is linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortAddress {
    /// The transport: `tcp`, `rdma`, `fc`, `loop`.
    pub trtype: String,
    /// The family: `ipv4`, `ipv6`, `ib`, `fc`.
    pub adrfam: String,
    /// The address within the family.
    pub traddr: String,
    /// The service: a port number for IP transports.
    pub trsvcid: String,
}

impl From<NvmePort> for PortAddress {
    fn from(port: NvmePort) -> PortAddress {
        match port {
            NvmePort::Tcp(address) => PortAddress::of_ip("tcp", address),
            NvmePort::Rdma(address) => PortAddress::of_ip("rdma", address),
            NvmePort::Fc(port) => PortAddress {
                trtype: "fc".to_owned(),
                adrfam: "fc".to_owned(),
                traddr: port.to_string(),
                trsvcid: NO_SERVICE.to_owned(),
            },
        }
    }
}

impl PortAddress {
    fn of_ip(trtype: &str, address: PortalAddr) -> PortAddress {
        let socket = address.socket();
        let adrfam = match socket.ip() {
            IpAddr::V4(_) => "ipv4",
            IpAddr::V6(_) => "ipv6",
        };
        PortAddress {
            trtype: trtype.to_owned(),
            adrfam: adrfam.to_owned(),
            traddr: socket.ip().to_string(),
            trsvcid: socket.port().to_string(),
        }
    }

    fn files(&self) -> [(&'static str, &str); 4] {
        [
            ("addr_trtype", &self.trtype),
            ("addr_adrfam", &self.adrfam),
            ("addr_traddr", &self.traddr),
            ("addr_trsvcid", &self.trsvcid),
        ]
    }
}

/// What the kernel has for a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortState {
    /// Where it listens, or would; the fields are empty until set.
    pub address: PortAddress,
    /// The subsystems reachable there.
    pub subsystems: BTreeSet<Name>,
}

/// A handle on one port.
#[derive(Clone)]
pub struct Port<'t> {
    tree: &'t dyn Tree,
    path: TreePath,
}

impl<'t> Port<'t> {
    pub(super) fn new(tree: &'t dyn Tree, id: PortId) -> Self {
        Port {
            tree,
            path: TreePath::fixed("nvmet/ports").join(&Name::formatted(id.to_string())),
        }
    }

    /// Its directory.
    pub fn path(&self) -> &TreePath {
        &self.path
    }

    /// Makes the port, without an address.
    pub fn create(&self) -> Result<Change, TreeError> {
        self.tree.ensure_dir(&self.path)
    }

    /// Sets where it listens. EACCES while a subsystem is linked and the address differs.
    pub fn set_address(&self, address: &PortAddress) -> Result<Change, TreeError> {
        let files = address.files().into_iter();
        files
            .map(|(file, value)| self.tree.set(&self.path.at(file), value))
            .try_fold(Change::Unchanged, |sum, change| Ok(sum.or(change?)))
    }

    /// Makes a subsystem reachable; the first one makes the port listen, and loads the
    /// transport's module. EINVAL says that there is no such module or address family,
    /// EADDRINUSE and EADDRNOTAVAIL what they say, ENODEV that no RDMA device has the address;
    /// ENXIO that there is no such port of Fibre Channel, EALREADY that another one has it.
    pub fn link(&self, subsystem: &Subsystem<'_>) -> Result<Change, TreeError> {
        self.tree
            .ensure_link(&self.reachable(subsystem), subsystem.path())
    }

    /// Ends the connections to a subsystem through this port; after the last one the port
    /// stops listening.
    pub fn unlink(&self, subsystem: &Subsystem<'_>) -> Result<Change, TreeError> {
        self.tree.ensure_no_link(&self.reachable(subsystem))
    }

    /// What the kernel has, or `None` if there is no such port.
    pub fn observe(&self) -> Result<Option<PortState>, TreeError> {
        match self.read_state() {
            Err(error) if error.is_absent() && !self.tree.exists(&self.path)? => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Where it listens, or would, without listing what is reachable there; `None` if there is
    /// no such port.
    pub fn address(&self) -> Result<Option<PortAddress>, TreeError> {
        match self.read_address() {
            Err(error) if error.is_absent() && !self.tree.exists(&self.path)? => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Whether a subsystem is reachable here, without listing those that are.
    pub fn reaches(&self, subsystem: &Subsystem<'_>) -> Result<bool, TreeError> {
        self.tree.exists(&self.reachable(subsystem))
    }

    /// Removes the port. "In use" says that a subsystem is linked.
    pub fn remove(&self) -> Result<Change, TreeError> {
        self.tree.ensure_no_dir(&self.path)
    }

    fn reachable(&self, subsystem: &Subsystem<'_>) -> TreePath {
        self.path.at("subsystems").join(subsystem.name())
    }

    fn read_address(&self) -> Result<PortAddress, TreeError> {
        let read = |file| self.tree.read(&self.path.at(file));
        Ok(PortAddress {
            trtype: read("addr_trtype")?,
            adrfam: read("addr_adrfam")?,
            traddr: read("addr_traddr")?,
            trsvcid: read("addr_trsvcid")?,
        })
    }

    fn read_state(&self) -> Result<PortState, TreeError> {
        let linked = self.tree.list(&self.path.at("subsystems"))?;
        Ok(PortState {
            address: self.read_address()?,
            subsystems: linked.into_iter().map(|entry| entry.name).collect(),
        })
    }
}
