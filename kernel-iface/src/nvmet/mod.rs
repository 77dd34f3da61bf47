//! nvmet, the kernel's NVMe over Fabrics target, as typed objects below `nvmet/` of configfs.
//!
//! ```text
//! nvmet/subsystems/<nqn>                        Subsystem: what hosts connect to
//!     namespaces/<nsid>                         Namespace: a block device
//!     allowed_hosts/<host nqn> -> host          who may connect
//! nvmet/hosts/<host nqn>                        Host: DH-HMAC-CHAP keys, shared by all subsystems
//! nvmet/ports/<n>                               Port: an address; listens while a subsystem is linked
//!     subsystems/<nqn> -> subsystem             what is reachable there
//! ```
//!
//! Each type is a handle: it names an object and touches the kernel only when asked. `create`
//! and `remove` are idempotent and answer [`Change`](crate::tree::Change); `observe` answers
//! what the kernel has, as plain values.

mod host;
mod namespace;
mod port;
mod subsystem;

use ashlar_targetd_protocol::{Nqn, PortId};

use crate::tree::{Name, Tree, TreeError, TreePath};

pub use host::{Host, HostState, ObservedKey};
pub use namespace::{Namespace, NamespaceState};
pub use port::{Port, PortAddress, PortState};
pub use subsystem::{ModelNumber, SerialNumber, Subsystem, SubsystemState, TextError};

/// nvmet as a whole.
#[derive(Clone, Copy)]
pub struct Nvmet<'t> {
    tree: &'t dyn Tree,
}

impl<'t> Nvmet<'t> {
    /// nvmet on a tree rooted at configfs.
    pub fn new(tree: &'t dyn Tree) -> Self {
        Nvmet { tree }
    }

    /// A subsystem by its name, whether it exists or not.
    pub fn subsystem(&self, nqn: &Nqn) -> Subsystem<'t> {
        Subsystem::new(self.tree, nqn)
    }

    /// The names of every subsystem that exists, ours or not.
    pub fn subsystems(&self) -> Result<Vec<Name>, TreeError> {
        self.tree.directories(&TreePath::fixed("nvmet/subsystems"))
    }

    /// A host by its name, whether it exists or not.
    pub fn host(&self, nqn: &Nqn) -> Host<'t> {
        Host::new(self.tree, nqn)
    }

    /// The names of every host that exists, ours or not.
    pub fn hosts(&self) -> Result<Vec<Name>, TreeError> {
        self.tree.directories(&TreePath::fixed("nvmet/hosts"))
    }

    /// A port by its number, whether it exists or not.
    pub fn port(&self, id: PortId) -> Port<'t> {
        Port::new(self.tree, id)
    }

    /// The numbers of every port that exists, ours or not.
    pub fn ports(&self) -> Result<Vec<PortId>, TreeError> {
        let names = self.tree.directories(&TreePath::fixed("nvmet/ports"))?;
        let id = |name: &Name| PortId::try_from(name.as_str().parse::<u64>().ok()?).ok();
        Ok(names.iter().filter_map(id).collect())
    }
}
