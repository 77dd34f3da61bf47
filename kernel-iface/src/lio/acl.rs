//! The ACL of an initiator, `…/acls/<initiator iqn>`, and the LUNs it sees.

use std::collections::BTreeMap;
use std::fmt;

use ashlar_targetd_protocol::{ChapCredentials, Iqn, Lun};
use zeroize::Zeroizing;

use super::TpgLun;
use super::lun::{directory, number, unlink_all};
use crate::tree::{Change, Errno, Name, Tree, TreeError, TreePath};

/// What the kernel reads as "none" in a name or secret.
const NONE: &str = "NULL";
/// The name of the link to the LUN; the kernel takes any.
const LINK: &str = "lun";

/// CHAP credentials read back from the kernel, which may hold what nobody here would set.
#[derive(Clone, PartialEq, Eq)]
pub struct ObservedChap {
    /// The name.
    pub name: String,
    secret: Zeroizing<String>,
}

impl ObservedChap {
    /// Whether these are the given credentials.
    pub fn is(&self, credentials: &ChapCredentials) -> bool {
        self.name == credentials.name.as_str() && *self.secret == credentials.secret.expose()
    }
}

impl fmt::Debug for ObservedChap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedChap")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What the kernel has for an ACL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclState {
    /// Whether the initiator must prove itself; `None`: as the portal group says.
    pub authentication: Option<bool>,
    /// How the initiator proves itself; `None` if a name or secret is missing.
    pub chap: Option<ObservedChap>,
    /// How the target proves itself to the initiator.
    pub mutual_chap: Option<ObservedChap>,
    /// The LUNs the initiator sees.
    pub mapped_luns: BTreeMap<Lun, MappedLunState>,
    /// The initiator is logged in.
    pub logged_in: bool,
}

/// What the kernel has for a mapped LUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedLunState {
    /// The LUN of the portal group it links to.
    pub lun: Option<Lun>,
    /// It refuses writes. `None`: the initiator does not see it, because it is not linked, or
    /// because its LUN lost its backstore since; then only linking it again helps.
    pub write_protected: Option<bool>,
}

/// Which of the two directions of CHAP.
#[derive(Clone, Copy)]
enum Direction {
    Initiator,
    Mutual,
}

impl Direction {
    fn files(self) -> (&'static str, &'static str) {
        match self {
            Direction::Initiator => ("auth/userid", "auth/password"),
            Direction::Mutual => ("auth/userid_mutual", "auth/password_mutual"),
        }
    }
}

/// A handle on one initiator's ACL.
#[derive(Clone)]
pub struct Acl<'t> {
    tree: &'t dyn Tree,
    path: TreePath,
}

impl<'t> Acl<'t> {
    pub(super) fn new(tree: &'t dyn Tree, tpg: &TreePath, initiator: &Iqn) -> Self {
        Acl {
            tree,
            path: tpg.at("acls").join(&Name::from(initiator)),
        }
    }

    /// Its directory.
    pub fn path(&self) -> &TreePath {
        &self.path
    }

    /// Makes the ACL, without secrets: as long as the portal group demands authentication, the
    /// initiator cannot log in.
    pub fn create(&self) -> Result<Change, TreeError> {
        self.tree.ensure_dir(&self.path)
    }

    /// Says whether the initiator must prove itself, whatever the portal group says.
    pub fn set_authentication(&self, required: bool) -> Result<Change, TreeError> {
        let value = if required { "1" } else { "0" };
        self.tree.set(&self.path.at("attrib/authentication"), value)
    }

    /// Sets how the initiator proves itself at its next login, or that it cannot.
    pub fn set_chap(&self, credentials: Option<&ChapCredentials>) -> Result<Change, TreeError> {
        self.set_credentials(Direction::Initiator, credentials)
    }

    /// Sets how the target proves itself to the initiator, or that it does not.
    pub fn set_mutual_chap(
        &self,
        credentials: Option<&ChapCredentials>,
    ) -> Result<Change, TreeError> {
        self.set_credentials(Direction::Mutual, credentials)
    }

    /// A LUN as this initiator sees it, whether it exists or not.
    pub fn mapped_lun(&self, lun: Lun) -> MappedLun<'t> {
        MappedLun::new(self.tree, &self.path, lun)
    }

    /// What the kernel has, or `None` if there is no such ACL.
    pub fn observe(&self) -> Result<Option<AclState>, TreeError> {
        match self.read_state() {
            Err(error) if error.is_absent() && !self.tree.exists(&self.path)? => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Ends the initiator's session and removes the ACL. "In use" says that it has a mapped LUN.
    pub fn remove(&self) -> Result<Change, TreeError> {
        self.tree.ensure_no_dir(&self.path)
    }

    fn set_credentials(
        &self,
        direction: Direction,
        credentials: Option<&ChapCredentials>,
    ) -> Result<Change, TreeError> {
        let (name_file, secret_file) = direction.files();
        let (name, secret) = match credentials {
            Some(chap) => (chap.name.as_str(), chap.secret.expose()),
            None => (NONE, NONE),
        };
        if credentials.is_none() && self.read_credentials(direction)?.is_none() {
            return Ok(Change::Unchanged);
        }
        // Written without a newline, which would become a part of the secret.
        let named = self.tree.set(&self.path.at(name_file), name)?;
        let kept = self.tree.set_secret(&self.path.at(secret_file), secret)?;
        Ok(named.or(kept))
    }

    fn read_credentials(&self, direction: Direction) -> Result<Option<ObservedChap>, TreeError> {
        let (name_file, secret_file) = direction.files();
        let name = self.tree.read(&self.path.at(name_file))?;
        let secret = self.tree.read_secret(&self.path.at(secret_file))?;
        let unset = |text: &str| text.is_empty() || text.starts_with(NONE);
        let complete = !unset(&name) && !unset(&secret);
        Ok(complete.then_some(ObservedChap { name, secret }))
    }

    fn read_state(&self) -> Result<AclState, TreeError> {
        let mut mapped_luns = BTreeMap::new();
        for lun in self.tree.directories(&self.path)?.iter().filter_map(number) {
            if let Some(state) = self.mapped_lun(lun).observe()? {
                mapped_luns.insert(lun, state);
            }
        }
        let info = self.tree.read(&self.path.at("info"))?;
        let authentication = self.path.at("attrib/authentication");
        Ok(AclState {
            authentication: match self.tree.read_number(&authentication)? {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            },
            chap: self.read_credentials(Direction::Initiator)?,
            mutual_chap: self.read_credentials(Direction::Mutual)?,
            mapped_luns,
            logged_in: !info.starts_with("No active iSCSI Session"),
        })
    }
}

/// A handle on one LUN as an initiator sees it: `…/acls/<initiator iqn>/lun_<n>`.
#[derive(Clone)]
pub struct MappedLun<'t> {
    tree: &'t dyn Tree,
    path: TreePath,
}

impl<'t> MappedLun<'t> {
    pub(super) fn new(tree: &'t dyn Tree, acl: &TreePath, lun: Lun) -> Self {
        MappedLun {
            tree,
            path: acl.join(&directory(lun)),
        }
    }

    /// Its directory.
    pub fn path(&self) -> &TreePath {
        &self.path
    }

    /// Makes the mapped LUN, empty.
    pub fn create(&self) -> Result<Change, TreeError> {
        self.tree.ensure_dir(&self.path)
    }

    /// Links a LUN of the same portal group that has its backstore; from here on the initiator
    /// sees it. EINVAL says that the LUN has none.
    pub fn link(&self, lun: &TpgLun<'_>) -> Result<Change, TreeError> {
        self.tree.ensure_link(&self.path.at(LINK), lun.path())
    }

    /// Makes the initiator's writes fail, or succeed. The LUN must be linked; the kernel keeps
    /// no value before that.
    pub fn set_write_protected(&self, protected: bool) -> Result<Change, TreeError> {
        let value = if protected { "1" } else { "0" };
        self.tree.set(&self.path.at("write_protect"), value)
    }

    /// What the kernel has, or `None` if there is no such mapped LUN.
    pub fn observe(&self) -> Result<Option<MappedLunState>, TreeError> {
        match self.read_state() {
            Err(error) if error.is_absent() && !self.tree.exists(&self.path)? => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Unlinks the LUN and removes this one: the initiator sees it no longer.
    pub fn remove(&self) -> Result<Change, TreeError> {
        let unlinked = unlink_all(self.tree, &self.path)?;
        Ok(unlinked.or(self.tree.ensure_no_dir(&self.path)?))
    }

    fn read_state(&self) -> Result<MappedLunState, TreeError> {
        let links = self.tree.links(&self.path)?;
        let lun = match links.first() {
            None => None,
            Some((_, target)) => Name::try_from(target.name()).ok().as_ref().and_then(number),
        };
        let path = self.path.at("write_protect");
        let write_protected = match self.tree.read(&path) {
            Ok(text) if text.is_empty() => None,
            Ok(_) => Some(self.tree.read_flag(&path)?),
            Err(error) if error.errno() == Some(Errno::ENODEV) => None,
            Err(error) => return Err(error),
        };
        Ok(MappedLunState {
            lun,
            write_protected,
        })
    }
}
