//! A target portal group: `target/iscsi/<iqn>/tpgt_<tag>`, what an initiator logs in to.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_targetd_protocol::{Iqn, Lun, PortalAddr, TpgTag};

use super::{Acl, AclState, BackstoreId, Portal, TpgAttribute, TpgLun, TpgParameter};
use crate::tree::{Change, Name, Tree, TreeError, TreePath};

/// What the kernel has for a portal group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpgState {
    /// Initiators can log in.
    pub enabled: bool,
    /// The attributes of [`TpgAttribute::ALL`].
    pub attributes: BTreeMap<TpgAttribute, i64>,
    /// Where it listens. A name that is not an address and port is in `foreign`.
    pub portals: BTreeSet<PortalAddr>,
    /// Those of its portals that take logins over RDMA, too.
    pub iser: BTreeSet<PortalAddr>,
    /// Its LUNs and the backstores they link to.
    pub luns: BTreeMap<Lun, Option<BackstoreId>>,
    /// Its ACLs by initiator.
    pub acls: BTreeMap<Iqn, AclState>,
    /// Portals, LUNs and ACLs whose names this project would not give.
    pub foreign: Vec<TreePath>,
}

/// A handle on one portal group.
#[derive(Clone)]
pub struct Tpg<'t> {
    tree: &'t dyn Tree,
    path: TreePath,
}

impl<'t> Tpg<'t> {
    pub(super) fn new(tree: &'t dyn Tree, target: &TreePath, tag: TpgTag) -> Self {
        Tpg {
            tree,
            path: target.join(&Name::formatted(format!("tpgt_{tag}"))),
        }
    }

    /// Its directory.
    pub fn path(&self) -> &TreePath {
        &self.path
    }

    /// Makes the portal group, disabled: nobody can log in yet. The target must exist.
    pub fn create(&self) -> Result<Change, TreeError> {
        self.tree.ensure_dir(&self.path)
    }

    /// Lets initiators log in.
    pub fn enable(&self) -> Result<Change, TreeError> {
        self.tree.set(&self.path.at("enable"), "1")
    }

    /// Ends every session and lets nobody log in.
    pub fn disable(&self) -> Result<Change, TreeError> {
        self.tree.set(&self.path.at("enable"), "0")
    }

    /// Sets one attribute.
    pub fn set_attribute(&self, attribute: TpgAttribute, value: i64) -> Result<Change, TreeError> {
        let path = self.attribute_path(attribute);
        self.tree.set(&path, &value.to_string())
    }

    /// Sets one key negotiated at login, for sessions from now on.
    pub fn set_parameter(&self, parameter: TpgParameter, value: &str) -> Result<Change, TreeError> {
        let path = self.path.at("param").at(parameter.file());
        self.tree.set(&path, value)
    }

    /// A portal of this group, whether it exists or not.
    pub fn portal(&self, address: PortalAddr) -> Portal<'t> {
        Portal::new(self.tree, &self.path, address)
    }

    /// Where the group listens, as far as its portals are addresses and ports.
    pub fn portals(&self) -> Result<BTreeSet<PortalAddr>, TreeError> {
        let names = self.tree.directories(&self.path.at("np"))?;
        let address = |name: &Name| name.as_str().parse().ok();
        Ok(names.iter().filter_map(address).collect())
    }

    /// A LUN of this group, whether it exists or not.
    pub fn lun(&self, lun: Lun) -> TpgLun<'t> {
        TpgLun::new(self.tree, &self.path, lun)
    }

    /// The ACL of an initiator, whether it exists or not.
    pub fn acl(&self, initiator: &Iqn) -> Acl<'t> {
        Acl::new(self.tree, &self.path, initiator)
    }

    /// What the kernel has, or `None` if there is no such portal group.
    pub fn observe(&self) -> Result<Option<TpgState>, TreeError> {
        match self.read_state() {
            Err(error) if error.is_absent() && !self.tree.exists(&self.path)? => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Removes the portal group with its portals gone first. "In use" says that it still has a
    /// portal, a LUN or an ACL.
    pub fn remove(&self) -> Result<Change, TreeError> {
        self.tree.ensure_no_dir(&self.path)
    }

    fn attribute_path(&self, attribute: TpgAttribute) -> TreePath {
        self.path.at("attrib").at(attribute.file())
    }

    fn read_state(&self) -> Result<TpgState, TreeError> {
        let mut state = TpgState {
            enabled: self.tree.read_flag(&self.path.at("enable"))?,
            attributes: BTreeMap::new(),
            portals: BTreeSet::new(),
            iser: BTreeSet::new(),
            luns: BTreeMap::new(),
            acls: BTreeMap::new(),
            foreign: Vec::new(),
        };
        for &attribute in TpgAttribute::ALL {
            let value = self.tree.read_number(&self.attribute_path(attribute))?;
            state.attributes.insert(attribute, value);
        }
        self.read_portals(&mut state)?;
        self.read_luns(&mut state)?;
        self.read_acls(&mut state)?;
        Ok(state)
    }

    fn read_portals(&self, state: &mut TpgState) -> Result<(), TreeError> {
        let directory = self.path.at("np");
        for name in self.tree.directories(&directory)? {
            let Ok(address) = name.as_str().parse() else {
                state.foreign.push(directory.join(&name));
                continue;
            };
            let has_iser = match self.portal(address).has_iser() {
                // It went meanwhile.
                Err(error) if error.is_absent() => continue,
                has_iser => has_iser?,
            };
            state.portals.insert(address);
            if has_iser {
                state.iser.insert(address);
            }
        }
        Ok(())
    }

    fn read_luns(&self, state: &mut TpgState) -> Result<(), TreeError> {
        let directory = self.path.at("lun");
        for name in self.tree.directories(&directory)? {
            match super::lun::number(&name) {
                Some(lun) => drop(state.luns.insert(lun, self.lun(lun).backstore()?)),
                None => state.foreign.push(directory.join(&name)),
            }
        }
        Ok(())
    }

    fn read_acls(&self, state: &mut TpgState) -> Result<(), TreeError> {
        let directory = self.path.at("acls");
        for name in self.tree.directories(&directory)? {
            let Ok(initiator) = name.as_str().parse::<Iqn>() else {
                state.foreign.push(directory.join(&name));
                continue;
            };
            if let Some(acl) = self.acl(&initiator).observe()? {
                state.acls.insert(initiator, acl);
            }
        }
        Ok(())
    }
}

/// The tag of a portal group's directory name.
pub(super) fn tag(name: &Name) -> Option<TpgTag> {
    let number: u64 = name.as_str().strip_prefix("tpgt_")?.parse().ok()?;
    TpgTag::try_from(number).ok()
}
