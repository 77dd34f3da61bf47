//! An iSCSI target: `target/iscsi/<iqn>`.

use std::collections::BTreeMap;

use ashlar_targetd_protocol::TpgTag;

use super::{Tpg, TpgState};
use crate::tree::{Change, Name, Tree, TreeError, TreePath};

/// What the kernel has for a target: its portal groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetState {
    /// The portal groups by tag.
    pub tpgs: BTreeMap<TpgTag, TpgState>,
}

/// A handle on one iSCSI target.
#[derive(Clone)]
pub struct Target<'t> {
    tree: &'t dyn Tree,
    path: TreePath,
}

impl<'t> Target<'t> {
    pub(super) fn new(tree: &'t dyn Tree, fabric: &TreePath, name: &Name) -> Self {
        Target {
            tree,
            path: fabric.join(name),
        }
    }

    /// Its directory.
    pub fn path(&self) -> &TreePath {
        &self.path
    }

    /// Makes the target, without a portal group. The fabric must be registered.
    pub fn create(&self) -> Result<Change, TreeError> {
        self.tree.ensure_dir(&self.path)
    }

    /// A portal group of this target, whether it exists or not.
    pub fn tpg(&self, tag: TpgTag) -> Tpg<'t> {
        Tpg::new(self.tree, &self.path, tag)
    }

    /// The tags of the portal groups that exist.
    pub fn tpgs(&self) -> Result<Vec<TpgTag>, TreeError> {
        let names = self.tree.directories(&self.path)?;
        Ok(names.iter().filter_map(super::tpg::tag).collect())
    }

    /// What the kernel has, or `None` if there is no such target.
    pub fn observe(&self) -> Result<Option<TargetState>, TreeError> {
        if !self.tree.exists(&self.path)? {
            return Ok(None);
        }
        let mut tpgs = BTreeMap::new();
        for tag in self.tpgs()? {
            if let Some(state) = self.tpg(tag).observe()? {
                tpgs.insert(tag, state);
            }
        }
        Ok(Some(TargetState { tpgs }))
    }

    /// Removes the target. "In use" says that it has a portal group.
    pub fn remove(&self) -> Result<Change, TreeError> {
        self.tree.ensure_no_dir(&self.path)
    }
}
