//! A block device as a SCSI disk: `target/core/iblock_<hba>/<name>`.
//!
//! # One HBA directory per backstore
//!
//! LIO lets many devices live under one `iblock_<n>` directory, whose number the caller picks.
//! Making a device and dropping it take that HBA's `hba_access_mutex`, and the VFS holds the
//! directory's own lock across the whole `mkdir` or `rmdir`, so devices of one HBA come and go
//! one after another. Making and removing the HBA directory itself only links a small structure
//! into `target/core`. So every volume has an HBA directory of its own. Its number is computed
//! from the volume's id: nothing has to be listed to find a free one, and nothing remembered to
//! find it again. Should two ids ever share a number, their two devices share a directory, which
//! is slower and just as correct.
//!
//! # What still waits
//!
//! One thing no choice of directories avoids: dropping a device frees its default ALUA group,
//! which waits for an RCU grace period with the lock of the whole `target` subsystem held. One
//! backstore at a time goes, and every `mkdir` and `rmdir` of LIO waits for it. Only shorter
//! grace periods help (`rcu_expedited`, `rcutree.jiffies_till_first_fqs`). Everything else that
//! is slow here (linking and unlinking a LUN, removing a portal group) waits by itself, so that
//! volumes handled at once hardly notice each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::DeviceAttribute;
use crate::device::DeviceNumber;
use crate::tree::{Change, Errno, Name, Operation, Tree, TreeError, TreePath};

/// Longest device path iblock keeps, with its terminating NUL.
const PATH_ROOM: usize = 512;
const SERIAL_PREFIX: &str = "T10 VPD Unit Serial Number:";

/// Which backstore: the number of its HBA directory and its name below it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackstoreId {
    /// The `n` of `iblock_<n>`.
    pub hba: u64,
    /// The name of the device's directory.
    pub name: Name,
}

impl BackstoreId {
    /// The backstore of a volume, or of a snapshot, whose id is no volume's; by a rule that needs
    /// no memory.
    pub fn for_volume(volume: Uuid) -> BackstoreId {
        let (high, low) = volume.as_u64_pair();
        BackstoreId {
            hba: high ^ low,
            name: Name::formatted(format!("ashlar-vol-{volume}")),
        }
    }

    /// The backstore at a path such as a LUN links to.
    pub fn from_path(path: &TreePath) -> Option<BackstoreId> {
        let components: Vec<&str> = path.components().collect();
        let ["target", "core", hba, name] = components.as_slice() else {
            return None;
        };
        Some(BackstoreId {
            hba: hba_number(&Name::try_from(*hba).ok()?)?,
            name: Name::try_from(*name).ok()?,
        })
    }

    fn hba_path(&self) -> TreePath {
        TreePath::fixed("target/core").join(&Name::formatted(format!("iblock_{}", self.hba)))
    }

    /// Where the backstore is.
    pub fn path(&self) -> TreePath {
        self.hba_path().join(&self.name)
    }
}

/// The number of an HBA directory of iblock devices; `None` for HBAs of other kinds.
pub(super) fn hba_number(hba: &Name) -> Option<u64> {
    hba.as_str().strip_prefix("iblock_")?.parse().ok()
}

/// What the kernel has for a backstore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackstoreState {
    /// It holds its block device open and can be linked to.
    pub enabled: bool,
    /// At least one LUN links to it.
    pub exported: bool,
    /// The path it was told to open.
    pub device_path: Option<PathBuf>,
    /// The device it holds open.
    pub device: Option<DeviceNumber>,
    /// It refuses writes.
    pub read_only: bool,
    /// The serial number initiators recognise the disk by; empty until set.
    pub unit_serial: String,
    /// The attributes of [`DeviceAttribute::ALL`].
    pub attributes: BTreeMap<DeviceAttribute, i64>,
}

/// A handle on one backstore.
#[derive(Clone)]
pub struct Backstore<'t> {
    tree: &'t dyn Tree,
    id: BackstoreId,
    path: TreePath,
}

impl<'t> Backstore<'t> {
    pub(super) fn new(tree: &'t dyn Tree, id: &BackstoreId) -> Self {
        Backstore {
            tree,
            path: id.path(),
            id: id.clone(),
        }
    }

    /// Its directory.
    pub fn path(&self) -> &TreePath {
        &self.path
    }

    /// Makes the HBA directory and the backstore in it, without a device yet. EINVAL says that
    /// the iblock module is missing.
    pub fn create(&self) -> Result<Change, TreeError> {
        let hba = self.tree.ensure_dir(&self.id.hba_path())?;
        Ok(hba.or(self.tree.ensure_dir(&self.path)?))
    }

    /// Says which device to open, until [`enable`](Self::enable) opens it; afterwards the kernel
    /// answers EEXIST. A path the kernel would misread (a comma ends it) is refused as EINVAL.
    pub fn set_device(&self, device: &Path) -> Result<(), TreeError> {
        self.control(device.to_str().and_then(plain_option), "udev_path")
    }

    /// Makes the disk refuse writes, or accept them; only before it is enabled has it effect.
    pub fn set_read_only(&self, read_only: bool) -> Result<(), TreeError> {
        self.control(Some(if read_only { "1" } else { "0" }), "readonly")
    }

    /// Opens the device for this backstore alone: EBUSY says that something holds it, ENOENT
    /// that its path leads nowhere, EINVAL that no device was set.
    pub fn enable(&self) -> Result<Change, TreeError> {
        match self.tree.write(&self.path.at("enable"), "1") {
            Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(Change::Unchanged),
            outcome => outcome.map(|()| Change::Changed),
        }
    }

    /// Sets the serial number initiators recognise the disk by (and the NAA identifier made from
    /// it). EINVAL while exported, EOVERFLOW past 253 bytes.
    pub fn set_unit_serial(&self, serial: &str) -> Result<Change, TreeError> {
        if self.unit_serial()? == serial {
            return Ok(Change::Unchanged);
        }
        self.tree
            .write(&self.path.at("wwn/vpd_unit_serial"), serial)?;
        Ok(Change::Changed)
    }

    /// Has the kernel take back a registration of a persistent reservation, as
    /// [`registrations`](super::registrations) has it. EINVAL while exported.
    pub fn restore_registration(&self, registration: &str) -> Result<(), TreeError> {
        let path = self.path.at("pr/res_aptpl_metadata");
        self.tree.write(&path, registration)
    }

    /// Sets one attribute.
    pub fn set_attribute(
        &self,
        attribute: DeviceAttribute,
        value: i64,
    ) -> Result<Change, TreeError> {
        let path = self.attribute_path(attribute);
        self.tree.set(&path, &value.to_string())
    }

    /// What the kernel has, or `None` if there is no such backstore.
    pub fn observe(&self) -> Result<Option<BackstoreState>, TreeError> {
        match self.read_state() {
            Err(error) if error.is_absent() && !self.tree.exists(&self.path)? => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Whether its HBA directory exists, which a backstore half made or half removed can leave.
    pub fn has_hba(&self) -> Result<bool, TreeError> {
        self.tree.exists(&self.id.hba_path())
    }

    /// Closes the device and removes the backstore, and its HBA directory if it was the last
    /// there. "In use" says that a LUN still links to it.
    pub fn remove(&self) -> Result<Change, TreeError> {
        let device = self.tree.ensure_no_dir(&self.path)?;
        match self.tree.ensure_no_dir(&self.id.hba_path()) {
            // Another device shares the directory.
            Err(error) if error.errno() == Some(Errno::ENOTEMPTY) => Ok(device),
            outcome => outcome.map(|hba| device.or(hba)),
        }
    }

    fn control(&self, value: Option<&str>, option: &'static str) -> Result<(), TreeError> {
        let path = self.path.at("control");
        match value {
            Some(value) => self.tree.write(&path, &format!("{option}={value}")),
            None => Err(TreeError::refused(
                Operation::Write(format!("{option}=…")),
                &path,
                Errno::EINVAL,
            )),
        }
    }

    fn attribute_path(&self, attribute: DeviceAttribute) -> TreePath {
        self.path.at("attrib").at(attribute.file())
    }

    fn unit_serial(&self) -> Result<String, TreeError> {
        let path = self.path.at("wwn/vpd_unit_serial");
        let text = self.tree.read(&path)?;
        match text.strip_prefix(SERIAL_PREFIX) {
            Some(serial) => Ok(serial.trim().to_owned()),
            None => Err(TreeError::unexpected(&path, &text, "a unit serial number")),
        }
    }

    fn read_state(&self) -> Result<BackstoreState, TreeError> {
        let path = self.path.at("info");
        let text = self.tree.read(&path)?;
        let info = Info::parse(&text)
            .ok_or_else(|| TreeError::unexpected(&path, &text, "the state of an iblock device"))?;
        let mut attributes = BTreeMap::new();
        for &attribute in DeviceAttribute::ALL {
            let value = self.tree.read_number(&self.attribute_path(attribute))?;
            attributes.insert(attribute, value);
        }
        Ok(BackstoreState {
            enabled: self.tree.read_flag(&self.path.at("enable"))?,
            exported: info.exported,
            device_path: info.device_path,
            device: info.device,
            read_only: info.read_only,
            unit_serial: self.unit_serial()?,
            attributes,
        })
    }
}

/// A text that the kernel's option parser takes whole.
fn plain_option(value: &str) -> Option<&str> {
    let whole = value.starts_with('/')
        && value.len() < PATH_ROOM
        && !value.contains(|c: char| c == ',' || c.is_whitespace() || c.is_control());
    whole.then_some(value)
}

/// The `info` file, the only place that tells the open device's number. It reads, for instance:
///
/// ```text
/// Status: ACTIVATED  Max Queue Depth: 128  SectorSize: 512  HwMaxSectors: 2560
///         iBlock device: dm-3  UDEV PATH: /dev/dm-3  readonly: 0
///         Major: 253 Minor: 3  CLAIMED: IBLOCK
/// ```
struct Info {
    exported: bool,
    device_path: Option<PathBuf>,
    device: Option<DeviceNumber>,
    read_only: bool,
}

impl Info {
    fn parse(text: &str) -> Option<Info> {
        let word_after = |key: &str| {
            let (_, rest) = text.split_once(key)?;
            rest.split_whitespace().next()
        };
        let device = DeviceNumber {
            major: word_after("Major: ")?.parse().ok()?,
            minor: word_after("Minor: ")?.parse().ok()?,
        };
        Some(Info {
            exported: word_after("Status: ")? == "ACTIVATED",
            device_path: word_after("UDEV PATH: ").map(PathBuf::from),
            device: text.contains("CLAIMED: IBLOCK").then_some(device),
            read_only: word_after("readonly: ")? != "0",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hba_number_follows_from_the_volume() {
        let volume = Uuid::from_u128(0x1111_1111_1111_1111_2222_2222_2222_2222);
        let id = BackstoreId::for_volume(volume);
        assert_eq!(id.hba, 0x3333_3333_3333_3333);
        assert_eq!(BackstoreId::from_path(&id.path()), Some(id));
        assert_eq!(
            BackstoreId::from_path(&TreePath::fixed("target/core/fileio_0/x")),
            None
        );
    }

    #[test]
    fn info_tells_the_device_only_while_it_is_open() {
        let open = "Status: ACTIVATED  Max Queue Depth: 128  SectorSize: 512  HwMaxSectors: 2560\n        iBlock device: dm-3  UDEV PATH: /dev/dm-3  readonly: 0\n        Major: 253 Minor: 3  CLAIMED: IBLOCK";
        let info = Info::parse(open).unwrap();
        assert!(info.exported && !info.read_only);
        assert_eq!(info.device_path, Some(PathBuf::from("/dev/dm-3")));
        assert_eq!(info.device, Some("253:3".parse().unwrap()));
        let closed = "Status: DEACTIVATED  Max Queue Depth: 0  SectorSize: 0  HwMaxSectors: 0\n          readonly: 1\n        Major: 0 Minor: 0";
        let info = Info::parse(closed).unwrap();
        assert!(!info.exported && info.read_only);
        assert_eq!((info.device_path, info.device), (None, None));
        assert!(Info::parse("something else").is_none());
    }

    #[test]
    fn a_device_path_cannot_carry_further_options() {
        assert!(plain_option("/dev/mapper/ashlar-vol-1").is_some());
        for bad in ["/dev/a,readonly=1", "/dev/a\nforce=1", "dev/a", "/dev/a b"] {
            assert!(plain_option(bad).is_none(), "{bad:?}");
        }
    }
}
