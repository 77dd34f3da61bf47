//! A LUN of a portal group: `…/tpgt_<tag>/lun/lun_<n>`, linked to a backstore.

use ashlar_targetd_protocol::Lun;

use super::{Backstore, BackstoreId};
use crate::tree::{Change, Name, Tree, TreeError, TreePath};

/// The name of the link to the backstore; the kernel takes any.
const LINK: &str = "backstore";

/// A handle on one LUN.
#[derive(Clone)]
pub struct TpgLun<'t> {
    tree: &'t dyn Tree,
    path: TreePath,
}

impl<'t> TpgLun<'t> {
    pub(super) fn new(tree: &'t dyn Tree, tpg: &TreePath, lun: Lun) -> Self {
        TpgLun {
            tree,
            path: tpg.at("lun").join(&directory(lun)),
        }
    }

    /// Its directory.
    pub fn path(&self) -> &TreePath {
        &self.path
    }

    /// Makes the LUN, empty.
    pub fn create(&self) -> Result<Change, TreeError> {
        self.tree.ensure_dir(&self.path)
    }

    /// Links an enabled backstore. ENODEV says that it is not enabled, EEXIST that the LUN
    /// links to another one.
    pub fn link(&self, backstore: &Backstore<'_>) -> Result<Change, TreeError> {
        let link = self.path.at(LINK);
        self.tree.ensure_link(&link, backstore.path())
    }

    /// The backstore it links to, under whatever name the link was given.
    pub fn backstore(&self) -> Result<Option<BackstoreId>, TreeError> {
        match self.tree.links(&self.path)?.first() {
            None => Ok(None),
            Some((name, target)) => match BackstoreId::from_path(target) {
                Some(backstore) => Ok(Some(backstore)),
                None => Err(TreeError::unexpected(
                    &self.path.join(name),
                    target.as_str(),
                    "an iblock backstore",
                )),
            },
        }
    }

    /// The backstore it links to, if it is there itself.
    pub fn observe(&self) -> Result<Option<Option<BackstoreId>>, TreeError> {
        match self.backstore() {
            Err(error) if error.is_absent() && !self.tree.exists(&self.path)? => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Unlinks the backstore, whatever the link's name, and waits until no command uses it.
    pub fn unlink(&self) -> Result<Change, TreeError> {
        unlink_all(self.tree, &self.path)
    }

    /// Removes the LUN after unlinking it. "In use" says that a mapped LUN links to it.
    pub fn remove(&self) -> Result<Change, TreeError> {
        let unlinked = self.unlink()?;
        Ok(unlinked.or(self.tree.ensure_no_dir(&self.path)?))
    }
}

/// The directory name of a LUN, plain or mapped.
pub(super) fn directory(lun: Lun) -> Name {
    Name::formatted(format!("lun_{lun}"))
}

/// The number of a LUN's directory name.
pub(super) fn number(name: &Name) -> Option<Lun> {
    let number: u64 = name.as_str().strip_prefix("lun_")?.parse().ok()?;
    Lun::try_from(number).ok()
}

/// Removes every link in a directory, if that exists.
pub(super) fn unlink_all(tree: &dyn Tree, directory: &TreePath) -> Result<Change, TreeError> {
    let entries = match tree.list(directory) {
        Err(error) if error.is_absent() => return Ok(Change::Unchanged),
        entries => entries?,
    };
    let links = entries
        .into_iter()
        .filter(|entry| entry.kind == crate::tree::EntryKind::Link);
    links
        .map(|entry| tree.ensure_no_link(&directory.join(&entry.name)))
        .try_fold(Change::Unchanged, |sum, change| Ok(sum.or(change?)))
}
