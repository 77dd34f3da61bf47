//! A namespace: `nvmet/subsystems/<nqn>/namespaces/<nsid>`, a block device.
//!
//! What identifies it (path, UUID, NGUID) can be changed only while it is disabled; the kernel
//! answers EBUSY otherwise.

use std::path::{Path, PathBuf};

use ashlar_targetd_protocol::Nsid;
use uuid::Uuid;

use crate::tree::{Change, Errno, Name, Operation, Tree, TreeError, TreePath};

/// What the kernel has for a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceState {
    /// It holds its device open and hosts can use it.
    pub enabled: bool,
    /// The path of its device, if one was set.
    pub device_path: Option<PathBuf>,
    /// The UUID hosts know it by; the kernel makes one up until it is set.
    pub uuid: Uuid,
    /// The NGUID hosts know it by, all zero until it is set.
    pub nguid: [u8; 16],
    /// The group of namespaces whose reachability changes together.
    pub ana_group: u32,
}

/// A handle on one namespace.
#[derive(Clone)]
pub struct Namespace<'t> {
    tree: &'t dyn Tree,
    path: TreePath,
}

impl<'t> Namespace<'t> {
    pub(super) fn new(tree: &'t dyn Tree, subsystem: &TreePath, nsid: Nsid) -> Self {
        Namespace {
            tree,
            path: subsystem
                .at("namespaces")
                .join(&Name::formatted(nsid.to_string())),
        }
    }

    /// Its directory.
    pub fn path(&self) -> &TreePath {
        &self.path
    }

    /// Makes the namespace, disabled.
    pub fn create(&self) -> Result<Change, TreeError> {
        self.tree.ensure_dir(&self.path)
    }

    /// Sets the device [`enable`](Self::enable) opens. A path that is not absolute or not text
    /// of one line is refused as EINVAL.
    pub fn set_device(&self, device: &Path) -> Result<Change, TreeError> {
        let path = self.path.at("device_path");
        let whole = |text: &&str| text.starts_with('/') && !text.contains(char::is_control);
        match device.to_str().filter(whole) {
            Some(text) => self.tree.set(&path, text),
            None => Err(TreeError::refused(
                Operation::Write(device.to_string_lossy().into_owned()),
                &path,
                Errno::EINVAL,
            )),
        }
    }

    /// Sets the UUID.
    pub fn set_uuid(&self, uuid: Uuid) -> Result<Change, TreeError> {
        let text = uuid.hyphenated().to_string();
        self.tree.set(&self.path.at("device_uuid"), &text)
    }

    /// Sets the NGUID.
    pub fn set_nguid(&self, nguid: [u8; 16]) -> Result<Change, TreeError> {
        // The kernel prints an NGUID in the form of a UUID, and accepts it so.
        let text = Uuid::from_bytes(nguid).hyphenated().to_string();
        self.tree.set(&self.path.at("device_nguid"), &text)
    }

    /// Sets the group of namespaces whose reachability changes together, 1 to 128.
    pub fn set_ana_group(&self, group: u32) -> Result<Change, TreeError> {
        self.tree
            .set(&self.path.at("ana_grpid"), &group.to_string())
    }

    /// Opens the device and shows the namespace to hosts. ENOENT says that the path leads
    /// nowhere.
    pub fn enable(&self) -> Result<Change, TreeError> {
        self.tree.set(&self.path.at("enable"), "1")
    }

    /// Takes the namespace from hosts, waits for their commands and closes the device. The kernel
    /// does this with the lock of all of nvmet held across RCU grace periods: one namespace at a
    /// time. To remove a namespace, [`remove`](Self::remove) it as it is.
    pub fn disable(&self) -> Result<Change, TreeError> {
        self.tree.set(&self.path.at("enable"), "0")
    }

    /// Looks at the size of the device again and tells hosts if it changed. EINVAL while
    /// disabled.
    pub fn revalidate_size(&self) -> Result<(), TreeError> {
        self.tree.write(&self.path.at("revalidate_size"), "1")
    }

    /// What the kernel has, or `None` if there is no such namespace.
    pub fn observe(&self) -> Result<Option<NamespaceState>, TreeError> {
        match self.read_state() {
            Err(error) if error.is_absent() && !self.tree.exists(&self.path)? => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Removes the namespace, which disables it on the way, without the lock that
    /// [`disable`](Self::disable) holds: namespaces removed at once do not wait for each other.
    pub fn remove(&self) -> Result<Change, TreeError> {
        self.tree.ensure_no_dir(&self.path)
    }

    fn read_state(&self) -> Result<NamespaceState, TreeError> {
        let device_path = self.tree.read(&self.path.at("device_path"))?;
        let group = self.tree.read_number(&self.path.at("ana_grpid"))?;
        Ok(NamespaceState {
            enabled: self.tree.read_flag(&self.path.at("enable"))?,
            // The kernel prints a path that was never set as "(null)".
            device_path: device_path
                .starts_with('/')
                .then(|| PathBuf::from(device_path)),
            uuid: self.identifier("device_uuid")?,
            nguid: self.identifier("device_nguid")?.into_bytes(),
            ana_group: u32::try_from(group).unwrap_or_default(),
        })
    }

    fn identifier(&self, file: &'static str) -> Result<Uuid, TreeError> {
        let path = self.path.at(file);
        let text = self.tree.read(&path)?;
        Uuid::try_parse(&text).map_err(|_| TreeError::unexpected(&path, &text, "a UUID"))
    }
}
