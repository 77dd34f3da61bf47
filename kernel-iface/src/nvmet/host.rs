//! A host: `nvmet/hosts/<nqn>`. Its keys are the host's, for every subsystem that allows it.

use std::fmt;

use ashlar_targetd_protocol::{DhGroup, DhHash, DhchapExchange, DhchapKey, Nqn};
use zeroize::Zeroizing;

use crate::tree::{Change, Name, Tree, TreeError, TreePath};

/// What clears a key: the kernel tests for an empty string, and an empty write never reaches it,
/// so one NUL byte it is.
const CLEARED: &str = "\0";

/// The kernel's words for hashes.
const HASHES: [(DhHash, &str); 3] = [
    (DhHash::Sha256, "hmac(sha256)"),
    (DhHash::Sha384, "hmac(sha384)"),
    (DhHash::Sha512, "hmac(sha512)"),
];

/// The kernel's words for groups.
const GROUPS: [(DhGroup, &str); 6] = [
    (DhGroup::None, "null"),
    (DhGroup::Ffdhe2048, "ffdhe2048"),
    (DhGroup::Ffdhe3072, "ffdhe3072"),
    (DhGroup::Ffdhe4096, "ffdhe4096"),
    (DhGroup::Ffdhe6144, "ffdhe6144"),
    (DhGroup::Ffdhe8192, "ffdhe8192"),
];

fn word<T: PartialEq>(words: &[(T, &'static str)], value: &T) -> &'static str {
    let found = words.iter().find(|(known, _)| known == value);
    found.expect("each has a word").1
}

fn meaning<T: Copy>(words: &[(T, &str)], word: &str) -> Option<T> {
    let found = words.iter().find(|(_, known)| *known == word);
    found.map(|(value, _)| *value)
}

/// A key read back from the kernel, which may hold what nobody here would set.
#[derive(Clone, PartialEq, Eq)]
pub struct ObservedKey(Zeroizing<String>);

impl ObservedKey {
    /// Whether this is the given key.
    pub fn is(&self, key: &DhchapKey) -> bool {
        *self.0 == key.expose()
    }
}

impl fmt::Debug for ObservedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// What the kernel has for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostState {
    /// How the host proves itself.
    pub key: Option<ObservedKey>,
    /// How the subsystem proves itself to the host.
    pub controller_key: Option<ObservedKey>,
    /// How they prove it; `None` if the kernel names a hash or group unknown here.
    pub exchange: Option<DhchapExchange>,
}

/// A handle on one host.
#[derive(Clone)]
pub struct Host<'t> {
    tree: &'t dyn Tree,
    nqn: Name,
    path: TreePath,
}

impl<'t> Host<'t> {
    pub(super) fn new(tree: &'t dyn Tree, nqn: &Nqn) -> Self {
        let nqn = Name::from(nqn);
        Host {
            tree,
            path: TreePath::fixed("nvmet/hosts").join(&nqn),
            nqn,
        }
    }

    /// Its directory.
    pub fn path(&self) -> &TreePath {
        &self.path
    }

    pub(super) fn name(&self) -> &Name {
        &self.nqn
    }

    /// Makes the host, without a key: subsystems that allow it let it connect unauthenticated.
    pub fn create(&self) -> Result<Change, TreeError> {
        self.tree.ensure_dir(&self.path)
    }

    /// Sets how the host proves itself at its next connection, or that it does not have to.
    pub fn set_key(&self, key: Option<&DhchapKey>) -> Result<Change, TreeError> {
        self.set_secret(self.path.at("dhchap_key"), key)
    }

    /// Sets how the subsystem proves itself to the host, or that it does not.
    pub fn set_controller_key(&self, key: Option<&DhchapKey>) -> Result<Change, TreeError> {
        self.set_secret(self.path.at("dhchap_ctrl_key"), key)
    }

    /// Sets how it is proven from the next connection on. EINVAL says that the kernel has no such
    /// hash or group, nor a module for it. The group is what it may be built without, and comes
    /// first.
    pub fn set_exchange(&self, exchange: DhchapExchange) -> Result<Change, TreeError> {
        let hash = word(&HASHES, &exchange.hash);
        let group = word(&GROUPS, &exchange.group);
        let grouped = self.tree.set(&self.path.at("dhchap_dhgroup"), group)?;
        Ok(grouped.or(self.tree.set(&self.path.at("dhchap_hash"), hash)?))
    }

    /// What the kernel has, or `None` if there is no such host.
    pub fn observe(&self) -> Result<Option<HostState>, TreeError> {
        match self.read_state() {
            Err(error) if error.is_absent() && !self.tree.exists(&self.path)? => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Forgets the host and its keys. "In use" says that a subsystem still allows it.
    pub fn remove(&self) -> Result<Change, TreeError> {
        self.tree.ensure_no_dir(&self.path)
    }

    fn set_secret(&self, path: TreePath, key: Option<&DhchapKey>) -> Result<Change, TreeError> {
        match key {
            Some(key) => self.tree.set_secret(&path, key.expose()),
            None if self.tree.read_secret(&path)?.is_empty() => Ok(Change::Unchanged),
            None => {
                self.tree.write_secret(&path, CLEARED)?;
                Ok(Change::Changed)
            }
        }
    }

    fn read_state(&self) -> Result<HostState, TreeError> {
        Ok(HostState {
            key: self.observed_key(self.path.at("dhchap_key"))?,
            controller_key: self.observed_key(self.path.at("dhchap_ctrl_key"))?,
            exchange: self.read_exchange()?,
        })
    }

    fn read_exchange(&self) -> Result<Option<DhchapExchange>, TreeError> {
        let hash = meaning(&HASHES, &self.tree.read(&self.path.at("dhchap_hash"))?);
        let group = meaning(&GROUPS, &self.tree.read(&self.path.at("dhchap_dhgroup"))?);
        let both = hash.zip(group);
        Ok(both.map(|(hash, group)| DhchapExchange { hash, group }))
    }

    fn observed_key(&self, path: TreePath) -> Result<Option<ObservedKey>, TreeError> {
        let key = self.tree.read_secret(&path)?;
        Ok((!key.is_empty()).then_some(ObservedKey(key)))
    }
}
