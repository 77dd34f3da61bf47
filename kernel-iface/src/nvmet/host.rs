//! A host: `nvmet/hosts/<nqn>`. Its keys are the host's, for every subsystem that allows it.

use std::fmt;

use ashlar_targetd_protocol::{DhchapKey, Nqn};
use zeroize::Zeroizing;

use crate::tree::{Change, Name, Tree, TreeError, TreePath};

/// What clears a key: the kernel tests for an empty string, and an empty write never reaches it,
/// so one NUL byte it is.
const CLEARED: &str = "\0";

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// The kernel's word for it.
            pub fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }

            /// What a word of the kernel means.
            pub fn from_word(word: &str) -> Option<$name> {
                match word {
                    $($word => Some($name::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

words!(
    /// The hash of the challenge-response exchange.
    DhHash {
        /// SHA-256, the default.
        Sha256 => "hmac(sha256)",
        /// SHA-384.
        Sha384 => "hmac(sha384)",
        /// SHA-512.
        Sha512 => "hmac(sha512)",
    }
);
words!(
    /// The Diffie-Hellman group that keeps recorded exchanges from being searched for the key.
    DhGroup {
        /// No exchange, the default.
        Null => "null",
        /// 2048 bits.
        Ffdhe2048 => "ffdhe2048",
        /// 3072 bits.
        Ffdhe3072 => "ffdhe3072",
        /// 4096 bits.
        Ffdhe4096 => "ffdhe4096",
        /// 6144 bits.
        Ffdhe6144 => "ffdhe6144",
        /// 8192 bits.
        Ffdhe8192 => "ffdhe8192",
    }
);

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
    /// The hash; `None` if the kernel names one unknown here.
    pub hash: Option<DhHash>,
    /// The group; `None` if the kernel names one unknown here.
    pub group: Option<DhGroup>,
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

    /// Sets the hash of the exchange.
    pub fn set_hash(&self, hash: DhHash) -> Result<Change, TreeError> {
        self.tree.set(&self.path.at("dhchap_hash"), hash.word())
    }

    /// Sets the Diffie-Hellman group of the exchange.
    pub fn set_group(&self, group: DhGroup) -> Result<Change, TreeError> {
        self.tree.set(&self.path.at("dhchap_dhgroup"), group.word())
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
            hash: DhHash::from_word(&self.tree.read(&self.path.at("dhchap_hash"))?),
            group: DhGroup::from_word(&self.tree.read(&self.path.at("dhchap_dhgroup"))?),
        })
    }

    fn observed_key(&self, path: TreePath) -> Result<Option<ObservedKey>, TreeError> {
        let key = self.tree.read_secret(&path)?;
        Ok((!key.is_empty()).then_some(ObservedKey(key)))
    }
}
