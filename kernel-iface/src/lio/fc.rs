//! Targets on Fibre Channel: `target/<fabric>/<wwpn>/tpgt_1`, one for each port of the box.

use ashlar_targetd_protocol::{Lun, Wwn};

use super::lun::number;
use super::{MappedLun, TpgLun};
use crate::tree::{Change, Name, Tree, TreeError, TreePath};

/// What makes a port of the box a target: fabrics of LIO's with the same objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FcFabric {
    /// `tcm_fc`, on ports that the kernel's libfc drives.
    LibFc,
    /// `tcm_qla2xxx`.
    Qla2xxx,
}

impl FcFabric {
    /// All of them.
    pub const ALL: [FcFabric; 2] = [FcFabric::LibFc, FcFabric::Qla2xxx];

    /// That of ports with this driver, if there is any.
    pub fn of_driver(driver: &str) -> Option<FcFabric> {
        match driver {
            "fcoe" | "bnx2fc" | "qedf" => Some(FcFabric::LibFc),
            "qla2xxx" => Some(FcFabric::Qla2xxx),
            _ => None,
        }
    }

    /// The module that LIO has it from.
    pub fn module(self) -> &'static str {
        match self {
            FcFabric::LibFc => "tcm_fc",
            FcFabric::Qla2xxx => "tcm_qla2xxx",
        }
    }

    pub(super) fn path(self) -> TreePath {
        TreePath::fixed(match self {
            FcFabric::LibFc => "target/fc",
            FcFabric::Qla2xxx => "target/qla2xxx",
        })
    }
}

/// A handle on the target of one port, which all that is served there shares.
#[derive(Clone)]
pub struct FcTarget<'t> {
    tree: &'t dyn Tree,
    fabric: TreePath,
    path: TreePath,
    tpg: TreePath,
}

impl<'t> FcTarget<'t> {
    pub(super) fn new(tree: &'t dyn Tree, fabric: FcFabric, port: Wwn) -> Self {
        let path = fabric.path().join(&Name::formatted(port.colons()));
        FcTarget {
            tree,
            fabric: fabric.path(),
            tpg: path.at("tpgt_1"),
            path,
        }
    }

    /// Makes the fabric, the target and its portal group, and has the port take initiators. Nobody
    /// sees anything before it is mapped. EINVAL says that the fabric's module is not loaded: making
    /// it does not load that, as it does iSCSI's. With [`FcFabric::LibFc`] the kernel makes targets of ports that are not there, too.
    pub fn open(&self) -> Result<Change, TreeError> {
        let mut change = self.tree.ensure_dir(&self.fabric)?;
        change = change.or(self.tree.ensure_dir(&self.path)?);
        change = change.or(self.tree.ensure_dir(&self.tpg)?);
        match self.tree.exists(&self.enable())? {
            true => Ok(change.or(self.tree.set(&self.enable(), "1")?)),
            false => Ok(change),
        }
    }

    /// Whether it is there and takes initiators.
    pub fn is_open(&self) -> Result<bool, TreeError> {
        if !self.tree.exists(&self.tpg)? {
            return Ok(false);
        }
        match self.tree.exists(&self.enable())? {
            true => self.tree.read_flag(&self.enable()),
            false => Ok(true),
        }
    }

    /// A LUN of the portal group, whether it exists or not. Initiators see it under the number that
    /// it is mapped to.
    pub fn lun(&self, unit: Lun) -> TpgLun<'t> {
        TpgLun::new(self.tree, &self.tpg, unit)
    }

    /// The numbers of its LUNs.
    pub fn luns(&self) -> Result<Vec<Lun>, TreeError> {
        self.numbers(&self.tpg.at("lun"))
    }

    /// The initiators that it has ACLs for.
    pub fn initiators(&self) -> Result<Vec<Wwn>, TreeError> {
        let names = self.listed(&self.tpg.at("acls"))?;
        let initiator = |name: &Name| name.as_str().parse().ok();
        Ok(names.iter().filter_map(initiator).collect())
    }

    /// Makes the ACL of an initiator, with nothing for it to see.
    pub fn list(&self, initiator: Wwn) -> Result<Change, TreeError> {
        self.tree.ensure_dir(&self.acl(initiator))
    }

    /// A LUN as an initiator sees it, whether it exists or not.
    pub fn mapped_lun(&self, initiator: Wwn, lun: Lun) -> MappedLun<'t> {
        MappedLun::new(self.tree, &self.acl(initiator), lun)
    }

    /// What an initiator sees.
    pub fn mapped_luns(&self, initiator: Wwn) -> Result<Vec<Lun>, TreeError> {
        self.numbers(&self.acl(initiator))
    }

    fn acl(&self, initiator: Wwn) -> TreePath {
        let name = Name::formatted(initiator.colons());
        self.tpg.at("acls").join(&name)
    }

    fn enable(&self) -> TreePath {
        self.tpg.at("enable")
    }

    fn numbers(&self, parent: &TreePath) -> Result<Vec<Lun>, TreeError> {
        Ok(self.listed(parent)?.iter().filter_map(number).collect())
    }

    /// What is in a directory, if that is there.
    fn listed(&self, parent: &TreePath) -> Result<Vec<Name>, TreeError> {
        match self.tree.directories(parent) {
            Err(error) if error.is_absent() => Ok(Vec::new()),
            listed => listed,
        }
    }
}
