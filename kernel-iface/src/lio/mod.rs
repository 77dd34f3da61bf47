//! LIO, the kernel's SCSI target, as typed objects below `target/` of configfs.
//!
//! ```text
//! target/dbroot                                 where reservations are kept
//! target/core/iblock_<hba>/<name>               Backstore: a block device as a SCSI disk
//! target/<fc, qla2xxx>/<wwpn>/tpgt_1            FcTarget: a port of Fibre Channel, with the same inside
//! target/iscsi                                  the fabric; mkdir loads its module
//! target/iscsi/<iqn>                            Target
//! target/iscsi/<iqn>/tpgt_<tag>                 Tpg: what initiators log in to
//!     np/<address>:<port>                       Portal: where it listens, over RDMA as well
//!     lun/lun_<n>           -> backstore        TpgLun
//!     acls/<initiator iqn>                      Acl: who may log in, and the CHAP secrets
//!     acls/<initiator iqn>/lun_<n> -> lun       MappedLun: what that initiator sees
//! ```
//!
//! Each type is a handle: it names an object and touches the kernel only when asked. `create`
//! and `remove` are idempotent and answer [`Change`]; `observe` answers what the kernel has,
//! as plain values. The order in which objects come and go is the kernel's: a backstore
//! outlives its LUNs, a LUN its mapped LUNs; the wrong order answers "in use"
//! ([`TreeError::is_in_use`]).

mod acl;
mod attribute;
mod backstore;
mod fc;
mod gate;
mod lun;
mod portal;
mod reservation;
mod target;
mod tpg;

use std::path::PathBuf;

use ashlar_targetd_protocol::{Iqn, Wwn};

use crate::tree::{Change, Name, Tree, TreeError, TreePath};

pub use acl::{Acl, AclState, MappedLun, MappedLunState, ObservedChap};
pub use attribute::{DeviceAttribute, TpgAttribute, TpgParameter};
pub use backstore::{Backstore, BackstoreId, BackstoreState};
pub use fc::{FcFabric, FcTarget};
pub use gate::PortalGates;
pub use lun::TpgLun;
pub use portal::Portal;
pub use reservation::registrations;
pub use target::{Target, TargetState};
pub use tpg::{Tpg, TpgState};

/// LIO as a whole.
#[derive(Clone, Copy)]
pub struct Lio<'t> {
    tree: &'t dyn Tree,
}

impl<'t> Lio<'t> {
    /// LIO on a tree rooted at configfs.
    pub fn new(tree: &'t dyn Tree) -> Self {
        Lio { tree }
    }

    /// Where the kernel keeps reservations that survive power loss.
    pub fn dbroot(&self) -> Result<PathBuf, TreeError> {
        self.tree.read(&dbroot()).map(PathBuf::from)
    }

    /// Moves the reservations. The directory must exist, and no backstore may: once there is
    /// one the kernel answers EINVAL.
    pub fn set_dbroot(&self, directory: &str) -> Result<Change, TreeError> {
        if self.tree.read(&dbroot())? == directory {
            return Ok(Change::Unchanged);
        }
        // The newline is needed: the kernel copies as many bytes as were written, and without
        // one the end of a longer former value would stay behind the new one.
        self.tree.write(&dbroot(), &format!("{directory}\n"))?;
        Ok(Change::Changed)
    }

    /// Registers the iSCSI fabric, which loads its module: EINVAL says there is none.
    pub fn register_iscsi(&self) -> Result<Change, TreeError> {
        self.tree.ensure_dir(&fabric())
    }

    /// A backstore by its identity, whether it exists or not.
    pub fn backstore(&self, id: &BackstoreId) -> Backstore<'t> {
        Backstore::new(self.tree, id)
    }

    /// Every iblock backstore that exists, ours or not.
    pub fn backstores(&self) -> Result<Vec<BackstoreId>, TreeError> {
        let core = TreePath::fixed("target/core");
        let mut found = Vec::new();
        for hba in self.tree.directories(&core)? {
            if let Some(number) = backstore::hba_number(&hba) {
                let names = self.tree.directories(&core.join(&hba))?;
                found.extend(
                    names
                        .into_iter()
                        .map(|name| BackstoreId { hba: number, name }),
                );
            }
        }
        Ok(found)
    }

    /// An iSCSI target by its name, whether it exists or not.
    pub fn target(&self, iqn: &Iqn) -> Target<'t> {
        Target::new(self.tree, &fabric(), &Name::from(iqn))
    }

    /// The names of every iSCSI target that exists, ours or not.
    pub fn targets(&self) -> Result<Vec<Name>, TreeError> {
        let mut names = self.tree.directories(&fabric())?;
        names.retain(|name| name.as_str() != "discovery_auth");
        Ok(names)
    }

    /// The target of a port of Fibre Channel, whether it exists or not.
    pub fn fc_target(&self, fabric: FcFabric, port: Wwn) -> FcTarget<'t> {
        FcTarget::new(self.tree, fabric, port)
    }

    /// The ports that are targets of a fabric, ours or not.
    pub fn fc_targets(&self, fabric: FcFabric) -> Result<Vec<Wwn>, TreeError> {
        let names = match self.tree.directories(&fabric.path()) {
            Err(error) if error.is_absent() => return Ok(Vec::new()),
            names => names?,
        };
        let port = |name: &Name| name.as_str().parse().ok();
        Ok(names.iter().filter_map(port).collect())
    }

    /// Where a link in this tree leads, if that is a backstore.
    pub fn backstore_at(&self, path: &TreePath) -> Option<BackstoreId> {
        BackstoreId::from_path(path)
    }
}

fn dbroot() -> TreePath {
    TreePath::fixed("target/dbroot")
}

fn fabric() -> TreePath {
    TreePath::fixed("target/iscsi")
}
