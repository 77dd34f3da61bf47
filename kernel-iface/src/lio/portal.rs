//! A portal: `…/tpgt_<tag>/np/<address>:<port>`, where a portal group listens.
//!
//! Many portal groups can share one address; the kernel opens its socket for the first and
//! closes it after the last. What happens to one of them at the same moment as another is made
//! matters: see [`PortalGates`](super::PortalGates).
//!
//! A portal takes logins over TCP, and over RDMA as well when it is told so; never over RDMA alone.

use ashlar_targetd_protocol::PortalAddr;

use crate::tree::{Change, Name, Tree, TreeError, TreePath};

/// A handle on one portal.
#[derive(Clone)]
pub struct Portal<'t> {
    tree: &'t dyn Tree,
    address: PortalAddr,
    path: TreePath,
}

impl<'t> Portal<'t> {
    pub(super) fn new(tree: &'t dyn Tree, tpg: &TreePath, address: PortalAddr) -> Self {
        Portal {
            tree,
            address,
            // An IPv6 address is bracketed, as the kernel wants it.
            path: tpg.at("np").join(&Name::formatted(address.to_string())),
        }
    }

    /// Its directory.
    pub fn path(&self) -> &TreePath {
        &self.path
    }

    /// Where it listens.
    pub fn address(&self) -> PortalAddr {
        self.address
    }

    /// Listens. EINVAL says that something else holds the port. An address that this box does
    /// not have is no error: the portal listens once the address comes.
    pub fn create(&self) -> Result<Change, TreeError> {
        self.tree.ensure_dir(&self.path)
    }

    /// Whether it takes logins over RDMA, too.
    pub fn has_iser(&self) -> Result<bool, TreeError> {
        self.tree.read_flag(&self.iser())
    }

    /// Takes logins over RDMA, too. EINVAL says that there is no module for it, EADDRINUSE and
    /// EADDRNOTAVAIL what they say, ENODEV that no RDMA device has the address.
    pub fn open_iser(&self) -> Result<Change, TreeError> {
        self.tree.set(&self.iser(), "1")
    }

    /// Takes no more logins over RDMA. Sessions that came that way go on.
    pub fn close_iser(&self) -> Result<Change, TreeError> {
        self.tree.set(&self.iser(), "0")
    }

    /// Stops listening for this portal group, over RDMA, too.
    pub fn remove(&self) -> Result<Change, TreeError> {
        self.tree.ensure_no_dir(&self.path)
    }

    fn iser(&self) -> TreePath {
        self.path.at("iser")
    }
}
