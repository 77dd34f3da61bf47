//! A subsystem: `nvmet/subsystems/<nqn>`, what a host connects to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ashlar_targetd_protocol::{Nqn, Nsid};

use super::{Host, Namespace, NamespaceState};
use crate::tree::{Change, Name, Tree, TreeError, TreePath};

/// Why a text cannot be told to hosts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not 1 to {room} printable ASCII characters")]
pub struct TextError {
    text: String,
    room: usize,
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $room:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(String);

        impl TryFrom<&str> for $name {
            type Error = TextError;

            fn try_from(text: &str) -> Result<Self, TextError> {
                let printable = text.bytes().all(|b| (0x20..=0x7e).contains(&b));
                // A space at the end would not be told apart from the padding.
                let whole = !text.is_empty() && !text.ends_with(' ') && text.len() <= $room;
                if printable && whole {
                    Ok($name(text.to_owned()))
                } else {
                    Err(TextError { text: text.to_owned(), room: $room })
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(
    /// The serial number hosts are told: 1 to 20 printable characters.
    SerialNumber, 20
);
text!(
    /// The model number hosts are told: 1 to 40 printable characters.
    ModelNumber, 40
);

/// What the kernel has for a subsystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubsystemState {
    /// Any host may connect. Anything but `false` opens the subsystem to everyone.
    pub allow_any_host: bool,
    /// The serial number, without padding.
    pub serial: String,
    /// The model number.
    pub model: String,
    /// Controller ids are given from the first of these on.
    pub cntlid_min: u16,
    /// Controller ids are given up to this one.
    pub cntlid_max: u16,
    /// Its namespaces.
    pub namespaces: BTreeMap<Nsid, NamespaceState>,
    /// The hosts that may connect.
    pub allowed_hosts: BTreeSet<Name>,
}

/// A handle on one subsystem.
#[derive(Clone)]
pub struct Subsystem<'t> {
    tree: &'t dyn Tree,
    nqn: Name,
    path: TreePath,
}

impl<'t> Subsystem<'t> {
    pub(super) fn new(tree: &'t dyn Tree, nqn: &Nqn) -> Self {
        let nqn = Name::from(nqn);
        Subsystem {
            tree,
            path: TreePath::fixed("nvmet/subsystems").join(&nqn),
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

    /// Makes the subsystem; nobody may connect. EINVAL says that the name is the discovery
    /// subsystem's.
    pub fn create(&self) -> Result<Change, TreeError> {
        self.tree.ensure_dir(&self.path)
    }

    /// Lets any host connect, or only those allowed. EINVAL says that hosts are allowed by name.
    pub fn set_allow_any_host(&self, any: bool) -> Result<Change, TreeError> {
        let path = self.path.at("attr_allow_any_host");
        self.tree.set(&path, if any { "1" } else { "0" })
    }

    /// Sets the serial number; EINVAL once a host has asked for it.
    pub fn set_serial(&self, serial: &SerialNumber) -> Result<Change, TreeError> {
        self.tree.set(&self.path.at("attr_serial"), &serial.0)
    }

    /// Sets the model number; EINVAL once a host has asked for it.
    pub fn set_model(&self, model: &ModelNumber) -> Result<Change, TreeError> {
        self.tree.set(&self.path.at("attr_model"), &model.0)
    }

    /// Sets from which range controller ids are given, so that two boxes exporting the same
    /// subsystem never give the same one. `min` is 1 or more and not above `max`, else EINVAL.
    pub fn set_cntlid_range(&self, min: u16, max: u16) -> Result<Change, TreeError> {
        let (low, high) = (
            self.path.at("attr_cntlid_min"),
            self.path.at("attr_cntlid_max"),
        );
        let (min_text, max_text) = (min.to_string(), max.to_string());
        // The kernel refuses a range that is empty even for a moment.
        if self.tree.read_number(&high)? < i64::from(min) {
            let raised = self.tree.set(&high, &max_text)?;
            return Ok(raised.or(self.tree.set(&low, &min_text)?));
        }
        let moved = self.tree.set(&low, &min_text)?;
        Ok(moved.or(self.tree.set(&high, &max_text)?))
    }

    /// A namespace of this subsystem, whether it exists or not.
    pub fn namespace(&self, nsid: Nsid) -> Namespace<'t> {
        Namespace::new(self.tree, &self.path, nsid)
    }

    /// The namespaces that exist.
    pub fn namespaces(&self) -> Result<Vec<Nsid>, TreeError> {
        let names = self.tree.directories(&self.path.at("namespaces"))?;
        let nsid = |name: &Name| Nsid::try_from(name.as_str().parse::<u64>().ok()?).ok();
        Ok(names.iter().filter_map(nsid).collect())
    }

    /// Lets a host connect; it must exist. EINVAL while any host may connect.
    pub fn allow(&self, host: &Host<'_>) -> Result<Change, TreeError> {
        self.tree
            .ensure_link(&self.allowed(host.name()), host.path())
    }

    /// Lets a host connect no more. Its live connections stay until the port or the namespace
    /// goes.
    pub fn disallow(&self, host: &Host<'_>) -> Result<Change, TreeError> {
        self.tree.ensure_no_link(&self.allowed(host.name()))
    }

    /// What the kernel has, or `None` if there is no such subsystem.
    pub fn observe(&self) -> Result<Option<SubsystemState>, TreeError> {
        match self.read_state() {
            Err(error) if error.is_absent() && !self.tree.exists(&self.path)? => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Ends every connection and removes the subsystem. "In use" says that a port links to it,
    /// or that it has a namespace or an allowed host.
    pub fn remove(&self) -> Result<Change, TreeError> {
        self.tree.ensure_no_dir(&self.path)
    }

    fn allowed(&self, host: &Name) -> TreePath {
        self.path.at("allowed_hosts").join(host)
    }

    fn read_state(&self) -> Result<SubsystemState, TreeError> {
        let mut namespaces = BTreeMap::new();
        for nsid in self.namespaces()? {
            if let Some(state) = self.namespace(nsid).observe()? {
                namespaces.insert(nsid, state);
            }
        }
        let allowed = self.tree.list(&self.path.at("allowed_hosts"))?;
        Ok(SubsystemState {
            allow_any_host: self.tree.read_flag(&self.path.at("attr_allow_any_host"))?,
            serial: self.tree.read(&self.path.at("attr_serial"))?,
            model: self.tree.read(&self.path.at("attr_model"))?,
            cntlid_min: self.cntlid("attr_cntlid_min")?,
            cntlid_max: self.cntlid("attr_cntlid_max")?,
            namespaces,
            allowed_hosts: allowed.into_iter().map(|entry| entry.name).collect(),
        })
    }

    fn cntlid(&self, file: &'static str) -> Result<u16, TreeError> {
        let path = self.path.at(file);
        let number = self.tree.read_number(&path)?;
        u16::try_from(number)
            .map_err(|_| TreeError::unexpected(&path, &number.to_string(), "a controller id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_fits_its_field() {
        assert!(SerialNumber::try_from("0123456789abcdef0123").is_ok());
        for bad in ["", "0123456789abcdef01234", "tab\t", "ends "] {
            assert!(SerialNumber::try_from(bad).is_err(), "{bad:?}");
        }
    }
}
