//! A portal: `…/tpgt_<tag>/np/<address>:<port>`, where a portal group listens.
//!
//! Many portal groups can share one address; the kernel opens its socket for the first and
//! closes it after the last. Making two of them at the same moment makes the kernel bind twice
//! and one of them fail with EINVAL, so whoever creates portals serializes that per address.

use ashlar_targetd_protocol::PortalAddr;

use crate::tree::{Change, Name, Tree, TreeError, TreePath};

/// A handle on one portal.
#[derive(Clone)]
pub struct Portal<'t> {
    tree: &'t dyn Tree,
    path: TreePath,
}

impl<'t> Portal<'t> {
    pub(super) fn new(tree: &'t dyn Tree, tpg: &TreePath, address: PortalAddr) -> Self {
        Portal {
            tree,
            // An IPv6 address is bracketed, as the kernel wants it.
            path: tpg.at("np").join(&Name::formatted(address.to_string())),
        }
    }

    /// Its directory.
    pub fn path(&self) -> &TreePath {
        &self.path
    }

    /// Listens. The kernel answers EINVAL to whatever keeps it from that: an address this box
    /// does not have, a port something else holds.
    pub fn create(&self) -> Result<Change, TreeError> {
        self.tree.ensure_dir(&self.path)
    }

    /// Stops listening for this portal group.
    pub fn remove(&self) -> Result<Change, TreeError> {
        self.tree.ensure_no_dir(&self.path)
    }
}
