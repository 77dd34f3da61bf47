//! The block devices there are, and who holds them open.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ashlar_targetd_protocol::{IoCounters, Sectors};

use crate::device::DeviceNumber;
use crate::tree::Errno;

/// Who opened a device exclusively. The kernel lets the same holder open it again, and every
/// other exclusive opener gets EBUSY; openers that are not exclusive are not kept out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Device-mapper, for all of its tables together.
    DeviceMapper,
    /// One LIO backstore, by its path in configfs.
    Backstore(String),
    /// A process that opened with `O_EXCL`, or a mounted file system.
    Other(String),
}

/// One block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDevice {
    /// Its length.
    pub sectors: Sectors,
    /// It refuses to be opened for writing.
    pub read_only: bool,
    /// It can discard blocks.
    pub discard: bool,
    /// What it has done.
    pub io: IoCounters,
    opens: u32,
    holder: Option<(Holder, u32)>,
}

impl BlockDevice {
    /// A writable device that can discard blocks.
    pub fn new(sectors: Sectors) -> Self {
        BlockDevice {
            sectors,
            read_only: false,
            discard: true,
            io: IoCounters::default(),
            opens: 0,
            holder: None,
        }
    }

    /// How often it is open, exclusively or not.
    pub fn opens(&self) -> u32 {
        self.opens
    }

    /// Who holds it exclusively.
    pub fn holder(&self) -> Option<&Holder> {
        self.holder.as_ref().map(|(holder, _)| holder)
    }
}

/// All block devices of the model kernel. Disks are put here by tests, device-mapper devices by
/// the model of device-mapper; LIO and nvmet open them.
#[derive(Clone, Debug, Default)]
pub struct BlockDevices {
    devices: BTreeMap<DeviceNumber, BlockDevice>,
    nodes: BTreeMap<PathBuf, DeviceNumber>,
    files: BTreeSet<PathBuf>,
}

impl BlockDevices {
    /// Adds a device under its number; a device that had the number is replaced.
    pub fn add(&mut self, number: DeviceNumber, device: BlockDevice) {
        self.devices.insert(number, device);
    }

    /// Gives a device a node, such as `/dev/vda`; a device can have many.
    pub fn name(&mut self, node: impl Into<PathBuf>, number: DeviceNumber) {
        self.nodes.insert(node.into(), number);
    }

    /// Removes a device with its nodes. EBUSY while it is open, ENXIO if there is none.
    pub fn remove(&mut self, number: DeviceNumber) -> Result<(), Errno> {
        if self.device_mut(number)?.opens > 0 {
            return Err(Errno::EBUSY);
        }
        self.devices.remove(&number);
        self.nodes.retain(|_, named| *named != number);
        Ok(())
    }

    /// Which device a node is.
    pub fn lookup(&self, node: &Path) -> Option<DeviceNumber> {
        self.nodes.get(node).copied()
    }

    /// Makes a path lead to something that is no block device.
    pub fn name_file(&mut self, path: impl Into<PathBuf>) {
        self.files.insert(path.into());
    }

    /// Which device a path leads to, as the kernel looks when it opens one: ENOENT if nothing is
    /// there, ENOTBLK if it is no block device.
    pub fn resolve(&self, path: &Path) -> Result<DeviceNumber, Errno> {
        match self.lookup(path) {
            Some(number) => Ok(number),
            None if self.files.contains(path) => Err(Errno::ENOTBLK),
            None => Err(Errno::ENOENT),
        }
    }

    /// A device by its number.
    pub fn device(&self, number: DeviceNumber) -> Option<&BlockDevice> {
        self.devices.get(&number)
    }

    /// A device by its number, to change its size or flags. ENXIO if there is none.
    pub fn device_mut(&mut self, number: DeviceNumber) -> Result<&mut BlockDevice, Errno> {
        self.devices.get_mut(&number).ok_or(Errno::ENXIO)
    }

    /// Every device with its number.
    pub fn iter(&self) -> impl Iterator<Item = (DeviceNumber, &BlockDevice)> {
        self.devices
            .iter()
            .map(|(number, device)| (*number, device))
    }

    /// Opens a device without keeping others out. EACCES for writing to a read-only one.
    pub fn open(&mut self, number: DeviceNumber, write: bool) -> Result<(), Errno> {
        let device = self.device_mut(number)?;
        if write && device.read_only {
            return Err(Errno::EACCES);
        }
        device.opens += 1;
        Ok(())
    }

    /// Opens a device as `holder`. EBUSY if another holds it.
    pub fn open_exclusive(
        &mut self,
        number: DeviceNumber,
        holder: &Holder,
        write: bool,
    ) -> Result<(), Errno> {
        let device = self.device_mut(number)?;
        if device.holder().is_some_and(|current| current != holder) {
            return Err(Errno::EBUSY);
        }
        self.open(number, write)?;
        let device = self.device_mut(number)?;
        let (_, claims) = device.holder.get_or_insert_with(|| (holder.clone(), 0));
        *claims += 1;
        Ok(())
    }

    /// Closes what [`open`](Self::open) opened.
    pub fn close(&mut self, number: DeviceNumber) {
        if let Ok(device) = self.device_mut(number) {
            device.opens = device.opens.saturating_sub(1);
        }
    }

    /// Closes what [`open_exclusive`](Self::open_exclusive) opened.
    pub fn close_exclusive(&mut self, number: DeviceNumber) {
        self.close(number);
        if let Ok(device) = self.device_mut(number) {
            let claims = device.holder.take();
            device.holder = claims.and_then(|(holder, n)| (n > 1).then(|| (holder, n - 1)));
        }
    }

    /// Closes everything, as losing power does.
    pub(super) fn close_all(&mut self) {
        for device in self.devices.values_mut() {
            device.opens = 0;
            device.holder = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: DeviceNumber = DeviceNumber {
        major: 254,
        minor: 0,
    };

    fn devices() -> BlockDevices {
        let mut devices = BlockDevices::default();
        devices.add(DISK, BlockDevice::new(Sectors(2048)));
        devices.name("/dev/vda", DISK);
        devices
    }

    #[test]
    fn one_holder_opens_again_and_keeps_others_out() {
        let mut devices = devices();
        let (dm, other) = (Holder::DeviceMapper, Holder::Other("mount".into()));
        devices.open_exclusive(DISK, &dm, true).unwrap();
        devices.open_exclusive(DISK, &dm, true).unwrap();
        let refused = devices.open_exclusive(DISK, &other, true);
        assert_eq!(refused, Err(Errno::EBUSY));
        devices.open(DISK, true).unwrap();
        devices.close_exclusive(DISK);
        assert_eq!(devices.device(DISK).unwrap().holder(), Some(&dm));
        devices.close_exclusive(DISK);
        assert_eq!(devices.device(DISK).unwrap().holder(), None);
        assert_eq!(devices.device(DISK).unwrap().opens(), 1);
    }

    #[test]
    fn an_open_device_is_not_removed() {
        let mut devices = devices();
        devices.open(DISK, false).unwrap();
        assert_eq!(devices.remove(DISK), Err(Errno::EBUSY));
        devices.close(DISK);
        assert_eq!(devices.remove(DISK), Ok(()));
        assert_eq!(devices.lookup(Path::new("/dev/vda")), None);
        assert_eq!(devices.remove(DISK), Err(Errno::ENXIO));
    }

    #[test]
    fn a_read_only_device_is_opened_for_reading_only() {
        let mut devices = devices();
        devices.device_mut(DISK).unwrap().read_only = true;
        assert_eq!(devices.open(DISK, true), Err(Errno::EACCES));
        assert_eq!(devices.open(DISK, false), Ok(()));
    }
}
