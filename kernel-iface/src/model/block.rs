//! Disks: sparse bytes in memory, behind the same trait as the kernel's.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::fmt;

use ashlar_targetd_protocol::{Bytes, DiskId, IoCounters, Sectors};

use super::data::ThinData;
use super::{BlockDevice as Entry, Holder, ModelKernel, ModelState};
use crate::block::{
    Access, BlockDevice, BlockError, BlockOperation, Disk, DiskLookupError, Disks, OpenFile,
    check_span, disk_by_id,
};
use crate::device::DeviceNumber;
use crate::dm::DmName;
use crate::news::{News, NewsError};
use crate::tree::Errno;

/// The driver number of the model's disks, that of virtio on many machines.
const DISK_MAJOR: u32 = 254;
/// Each disk has room for fifteen partitions.
const MINORS: u32 = 16;
const PAGE: u64 = 4096;

/// A disk to put into the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelDisk {
    /// What identifies it.
    pub id: Option<DiskId>,
    /// Its size.
    pub size: Bytes,
    /// 512 bytes or 4 KiB.
    pub logical_block: Bytes,
}

impl ModelDisk {
    /// A blank disk with this serial number and 512-byte blocks.
    ///
    /// # Panics
    ///
    /// If the serial number has characters that disk ids have not.
    pub fn new(serial: &str, size: Bytes) -> Self {
        let id = format!("serial-{serial}").parse();
        ModelDisk {
            id: Some(id.expect("the serial number of a model disk is plain")),
            size,
            logical_block: Bytes(512),
        }
    }
}

/// A disk that is not plugged in.
#[derive(Debug)]
pub struct PulledDisk {
    disk: ModelDisk,
    pages: Pages,
    files: BTreeMap<u64, ThinData>,
}

/// The disks there are and what they hold; what was never written is zero.
#[derive(Debug, Default)]
pub(crate) struct Media {
    disks: BTreeMap<DeviceNumber, Medium>,
    /// What is on arrays, whatever disks they are on.
    arrays: BTreeMap<DeviceNumber, Pages>,
    /// What linear devices on arrays hold that were opened as files, by where they begin.
    array_files: BTreeMap<(DeviceNumber, u64), ThinData>,
    /// How many disks were ever plugged in.
    plugged: u32,
}

#[derive(Debug)]
struct Medium {
    disk: ModelDisk,
    kernel_name: String,
    /// Nothing can be read or written any more.
    broken: bool,
    pages: Pages,
    /// What linear devices on it hold that were opened as files, by where they begin.
    files: BTreeMap<u64, ThinData>,
}

#[derive(Debug, Default)]
struct Pages(BTreeMap<u64, Box<[u8; PAGE as usize]>>);

impl Pages {
    /// Calls `visit` with each page the stretch touches: its index, the range within the page
    /// and the range within the stretch.
    fn pages(
        at: u64,
        length: usize,
        mut visit: impl FnMut(u64, std::ops::Range<usize>, std::ops::Range<usize>),
    ) {
        let mut done = 0;
        while done < length {
            let position = at + done as u64;
            let within = (position % PAGE) as usize;
            let part = (PAGE as usize - within).min(length - done);
            visit(position / PAGE, within..within + part, done..done + part);
            done += part;
        }
    }

    fn read(&self, at: u64, buffer: &mut [u8]) {
        Self::pages(at, buffer.len(), |page, within, part| {
            match self.0.get(&page) {
                Some(bytes) => buffer[part].copy_from_slice(&bytes[within]),
                None => buffer[part].fill(0),
            }
        });
    }

    fn write(&mut self, at: u64, data: &[u8]) {
        Self::pages(at, data.len(), |page, within, part| {
            let fresh = || Box::new([0; PAGE as usize]);
            let bytes = self.0.entry(page).or_insert_with(fresh);
            bytes[within].copy_from_slice(&data[part]);
        });
    }

    /// What is discarded reads as zero here, which real disks need not promise.
    fn discard(&mut self, at: u64, length: u64) {
        let (first, last) = (at.div_ceil(PAGE), (at + length) / PAGE);
        let gone: Vec<u64> = self
            .0
            .range(first..last.max(first))
            .map(|(page, _)| *page)
            .collect();
        gone.iter().for_each(|page| drop(self.0.remove(page)));
    }
}

impl ModelKernel {
    /// Plugs in a disk: `/dev/vda`, then `/dev/vdb`, and so on.
    pub fn add_disk(&self, disk: ModelDisk) -> DeviceNumber {
        self.plug(PulledDisk {
            disk,
            pages: Pages::default(),
            files: BTreeMap::new(),
        })
    }

    fn plug(&self, pulled: PulledDisk) -> DeviceNumber {
        let PulledDisk { disk, pages, files } = pulled;
        let mut state = self.lock();
        let place = state.media.plugged;
        state.media.plugged += 1;
        let number = DeviceNumber {
            major: DISK_MAJOR,
            minor: place * MINORS,
        };
        let kernel_name = format!("vd{}", letters(place));
        let node = format!("/dev/{kernel_name}");
        state
            .devices
            .add(number, Entry::new(Sectors::within(disk.size)));
        state.devices.name(node, number);
        let medium = Medium {
            disk,
            kernel_name,
            broken: false,
            pages,
            files,
        };
        state.media.disks.insert(number, medium);
        state.listeners.disks.tell();
        number
    }

    /// As if a disk had failed: it is there, and reading and writing it gives `EIO`.
    pub fn break_disk(&self, id: &DiskId) -> Result<(), DiskLookupError> {
        let number = self.disk_number(id)?;
        let mut state = self.lock();
        if let Some(medium) = state.media.disks.get_mut(&number) {
            medium.broken = true;
        }
        state.use_arrays();
        Ok(())
    }

    /// Pulls a disk out, whoever uses it. What it holds stays on it.
    pub fn pull_disk(&self, id: &DiskId) -> Result<PulledDisk, DiskLookupError> {
        let number = self.disk_number(id)?;
        let mut state = self.lock();
        let medium = state.media.disks.remove(&number);
        state.listeners.disks.tell();
        state.use_arrays();
        let medium = medium.expect("a disk that has a number is plugged in");
        let Medium {
            disk, pages, files, ..
        } = medium;
        Ok(PulledDisk { disk, pages, files })
    }

    /// Plugs a disk in again, which gets another number, as on the kernel while the old one is
    /// held open.
    pub fn plug_disk(&self, pulled: PulledDisk) -> DeviceNumber {
        self.plug(pulled)
    }

    /// Everything that goes over arrays comes to its end at once.
    pub fn finish_arrays(&self) {
        self.lock().finish_arrays();
    }

    /// Arrays that were put together from legs that lack what was written to others.
    pub fn gone_back(&self) -> Vec<DmName> {
        self.lock().dm_gone_back()
    }

    /// The number of a disk that was plugged in.
    pub fn disk_number(&self, id: &DiskId) -> Result<DeviceNumber, DiskLookupError> {
        disk_by_id(&self.lock().plugged(), id).map(|disk| disk.number)
    }

    /// The disks as the kernel offers them.
    pub fn disks(&self) -> ModelDisks {
        ModelDisks(self.clone())
    }
}

/// `a` to `z`, then `aa` and on, as the kernel names its disks.
fn letters(place: u32) -> String {
    let last = char::from(b'a' + (place % 26) as u8);
    match place / 26 {
        0 => last.to_string(),
        rest => format!("{}{last}", letters(rest - 1)),
    }
}

impl ModelState {
    fn plugged(&self) -> Vec<Disk> {
        let disk = |(number, medium): (&DeviceNumber, &Medium)| {
            let entry = self.devices.device(*number)?;
            Some(Disk {
                kernel_name: medium.kernel_name.clone(),
                number: *number,
                id: medium.disk.id.clone(),
                size: medium.disk.size,
                logical_block: medium.disk.logical_block,
                rotational: false,
                read_only: entry.read_only,
                removable: false,
                users: self.users(*number, entry),
            })
        };
        self.media.disks.iter().filter_map(disk).collect()
    }

    fn users(&self, number: DeviceNumber, entry: &Entry) -> Vec<String> {
        match entry.holder() {
            None => Vec::new(),
            Some(Holder::DeviceMapper) => self.dm.holders(number),
            Some(Holder::Backstore(path)) => vec![path.clone()],
            Some(Holder::Other(who)) => vec![who.clone()],
        }
    }

    /// The size of a logical block, and the disk and offset that really hold a stretch.
    pub(super) fn place(
        &self,
        device: DeviceNumber,
        at: u64,
    ) -> Result<(DeviceNumber, u64), Errno> {
        let is_medium =
            self.media.disks.contains_key(&device) || self.media.arrays.contains_key(&device);
        if is_medium {
            return Ok((device, at));
        }
        let (below, at) = self.dm.below(device, at).ok_or(Errno::EIO)?;
        self.place(below, at)
    }

    /// Reads a device or what it stands on. Thin devices hold nothing in the model: `EIO`.
    pub(super) fn read_media(
        &self,
        device: DeviceNumber,
        at: u64,
        buffer: &mut [u8],
    ) -> Result<(), Errno> {
        let (disk, at) = self.place(device, at)?;
        if let Some(pages) = self.media.arrays.get(&disk) {
            let works = self.dm.array_works(disk);
            works.then(|| pages.read(at, buffer)).ok_or(Errno::EIO)?;
            return Ok(());
        }
        let medium = self.media.disks.get(&disk);
        let medium = medium.filter(|medium| !medium.broken).ok_or(Errno::EIO)?;
        medium.pages.read(at, buffer);
        Ok(())
    }

    /// Writes a device or what it stands on. A thin device only notes how far it was written.
    pub(super) fn write_media(
        &mut self,
        device: DeviceNumber,
        at: u64,
        data: &[u8],
    ) -> Result<(), Errno> {
        if let Some((pool, id)) = self.dm.thin_of(device) {
            let end = at + data.len() as u64;
            self.metadata_mut(&pool)?.write_to(id, end)?;
            self.tell_of(&pool);
            return Ok(());
        }
        let (disk, at) = self.place(device, at)?;
        if self.media.arrays.contains_key(&disk) {
            self.use_array_on(disk);
        }
        self.pages_mut(disk)?.write(at, data);
        Ok(())
    }

    fn discard_media(&mut self, device: DeviceNumber, at: u64, length: u64) -> Result<(), Errno> {
        let (disk, at) = self.place(device, at)?;
        if self.media.arrays.contains_key(&disk) && !self.array_discards(disk) {
            return Err(Errno::EOPNOTSUPP);
        }
        self.pages_mut(disk)?.discard(at, length);
        Ok(())
    }

    fn pages_mut(&mut self, medium: DeviceNumber) -> Result<&mut Pages, Errno> {
        if let Some(pages) = self.media.arrays.get_mut(&medium) {
            return self
                .dm
                .array_works(medium)
                .then_some(pages)
                .ok_or(Errno::EIO);
        }
        let disk = self.media.disks.get_mut(&medium);
        let disk = disk.filter(|disk| !disk.broken).ok_or(Errno::EIO)?;
        Ok(&mut disk.pages)
    }

    /// What a linear device holds that is opened as a file. What is read and written by the
    /// kernel's own readers is not in it, nor the other way round.
    fn linear_data(&mut self, device: DeviceNumber) -> Result<&ThinData, Errno> {
        let (medium, at) = self.place(device, 0)?;
        if medium == device {
            return Err(Errno::EIO);
        }
        if self.media.arrays.contains_key(&medium) {
            self.dm
                .array_works(medium)
                .then_some(())
                .ok_or(Errno::EIO)?;
            let files = &mut self.media.array_files;
            return file_at(files, (medium, at));
        }
        let disk = self.media.disks.get_mut(&medium);
        let disk = disk.filter(|disk| !disk.broken).ok_or(Errno::EIO)?;
        file_at(&mut disk.files, at)
    }

    pub(super) fn add_array_media(&mut self, number: DeviceNumber) {
        self.media.arrays.entry(number).or_default();
    }
}

fn file_at<K: Ord>(files: &mut BTreeMap<K, ThinData>, at: K) -> Result<&ThinData, Errno> {
    match files.entry(at) {
        MapEntry::Occupied(there) => Ok(there.into_mut()),
        MapEntry::Vacant(vacant) => Ok(vacant.insert(ThinData::new()?)),
    }
}

/// The model kernel's disks.
#[derive(Clone)]
pub struct ModelDisks(ModelKernel);

impl ModelDisks {
    /// Thin and linear devices are files, and so is the metadata device of a pool of which a state
    /// is held; of the others the kernel's own readers are modelled.
    fn thin_file(&self, device: DeviceNumber, access: Access) -> Result<OpenFile, Errno> {
        let mut state = self.0.lock();
        state.faults.alive()?;
        let entry = state.devices.device(device).ok_or(Errno::ENXIO)?;
        if access != Access::Read && entry.read_only {
            return Err(Errno::EACCES);
        }
        if access == Access::Exclusive && entry.holder().is_some() {
            return Err(Errno::EBUSY);
        }
        let sectors = entry.sectors;
        if let Some(image) = state.held_metadata(device) {
            let size = sectors.bytes();
            let file = ThinData::holding(&image.bytes)?.open(size.0, access)?;
            return Ok(OpenFile { file, size });
        }
        if state.dm.thin_of(device).is_none() {
            let size = sectors.bytes();
            let file = state.linear_data(device)?.open(size.0, access)?;
            return Ok(OpenFile { file, size });
        }
        let (data, sectors) = state.thin_data(device)?;
        let size = sectors.bytes();
        let file = data.open(size.0, access)?;
        Ok(OpenFile { file, size })
    }
}

impl Disks for ModelDisks {
    fn open_file(&self, device: DeviceNumber, access: Access) -> Result<OpenFile, BlockError> {
        self.thin_file(device, access)
            .map_err(|errno| BlockError::Refused {
                operation: BlockOperation::Open,
                device,
                errno,
            })
    }

    fn news(&self) -> Result<Box<dyn News>, NewsError> {
        let operation = "make";
        let listening = self.0.lock().listeners.disks.listen();
        listening
            .map(|news| Box::new(news) as Box<dyn News>)
            .map_err(|errno| NewsError::Socket { operation, errno })
    }

    fn list(&self) -> Result<Vec<Disk>, BlockError> {
        let state = self.0.lock();
        state.faults.alive().map_err(|errno| BlockError::Sysfs {
            path: "/sys/block".into(),
            errno,
        })?;
        Ok(state.plugged())
    }

    fn open(
        &self,
        device: DeviceNumber,
        access: Access,
    ) -> Result<Box<dyn BlockDevice>, BlockError> {
        let refused = |errno| BlockError::Refused {
            operation: BlockOperation::Open,
            device,
            errno,
        };
        let mut state = self.0.lock();
        state.faults.alive().map_err(refused)?;
        if state.devices.device(device).is_none() {
            return Err(BlockError::Sysfs {
                path: device.sysfs(),
                errno: Errno::ENOENT,
            });
        }
        match access {
            Access::Read => state.devices.open(device, false),
            Access::Shared => state.devices.open(device, true),
            Access::Exclusive => {
                // Each opening is a holder of its own, unlike a driver's.
                let holder = Holder::Other(format!("opener {}", state.draw()));
                state.devices.open_exclusive(device, &holder, true)
            }
        }
        .map_err(refused)?;
        let sectors = state.devices.device(device).map(|entry| entry.sectors);
        let block = state.place(device, 0).ok();
        let block = block.and_then(|(disk, _)| state.media.disks.get(&disk));
        let opened = OpenDevice {
            logical_block: block.map_or(Bytes(512), |medium| medium.disk.logical_block),
            size: sectors.unwrap_or_default().bytes(),
            kernel: self.0.clone(),
            number: device,
            access,
        };
        Ok(Box::new(opened))
    }

    fn counters(&self, device: DeviceNumber) -> Result<IoCounters, BlockError> {
        let state = self.0.lock();
        let gone = |errno| BlockError::Sysfs {
            path: device.sysfs(),
            errno,
        };
        state.faults.alive().map_err(gone)?;
        let entry = state.devices.device(device);
        entry.map(|entry| entry.io).ok_or(gone(Errno::ENOENT))
    }
}

/// A device open in the model; closed when dropped, as a file is.
struct OpenDevice {
    kernel: ModelKernel,
    number: DeviceNumber,
    access: Access,
    size: Bytes,
    logical_block: Bytes,
}

impl fmt::Debug for OpenDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "model device {} ({:?})", self.number, self.access)
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        let mut state = self.kernel.lock();
        match self.access {
            Access::Read | Access::Shared => state.devices.close(self.number),
            Access::Exclusive => state.devices.close_exclusive(self.number),
        }
    }
}

impl OpenDevice {
    fn refused(&self, operation: BlockOperation, errno: Errno) -> BlockError {
        BlockError::Refused {
            operation,
            device: self.number,
            errno,
        }
    }

    fn step(
        &self,
        operation: BlockOperation,
        line: String,
        change: impl FnOnce(&mut ModelState) -> Result<(), Errno>,
    ) -> Result<(), BlockError> {
        let outcome = self.kernel.lock().step(line, change);
        outcome.map_err(|errno| self.refused(operation, errno))
    }

    fn check_writable(&self, operation: BlockOperation) -> Result<(), BlockError> {
        match self.access {
            Access::Exclusive | Access::Shared => Ok(()),
            Access::Read => Err(self.refused(operation, Errno::EBADF)),
        }
    }
}

impl BlockDevice for OpenDevice {
    fn number(&self) -> DeviceNumber {
        self.number
    }

    fn size(&self) -> Bytes {
        self.size
    }

    fn logical_block(&self) -> Bytes {
        self.logical_block
    }

    fn read_at(&self, at: Bytes, buffer: &mut [u8]) -> Result<(), BlockError> {
        check_span(self, BlockOperation::Read, at, buffer.len() as u64)?;
        let mut state = self.kernel.lock();
        // Nobody waits here.
        let held_back = state.dm.holds_back(self.number);
        let read = state.faults.alive().and_then(|()| match held_back {
            true => Err(Errno::EIO),
            false => state.read_media(self.number, at.0, buffer),
        });
        let io = |entry: &mut Entry| entry.io.reads.count(buffer.len() as u64);
        state.devices.device_mut(self.number).map(io).ok();
        read.map_err(|errno| self.refused(BlockOperation::Read, errno))
    }

    fn write_at(&self, at: Bytes, data: &[u8]) -> Result<(), BlockError> {
        check_span(self, BlockOperation::Write, at, data.len() as u64)?;
        self.check_writable(BlockOperation::Write)?;
        let line = format!("disk {} write {} at {}", self.number, data.len(), at.0);
        self.step(BlockOperation::Write, line, |state| {
            state.write_media(self.number, at.0, data)?;
            let entry = state.devices.device_mut(self.number)?;
            entry.io.writes.count(data.len() as u64);
            Ok(())
        })
    }

    fn discard(&self, at: Bytes, length: Bytes) -> Result<(), BlockError> {
        check_span(self, BlockOperation::Discard, at, length.0)?;
        self.check_writable(BlockOperation::Discard)?;
        let line = format!("disk {} discard {} at {}", self.number, length.0, at.0);
        self.step(BlockOperation::Discard, line, |state| {
            state.discard_media(self.number, at.0, length.0)
        })
    }

    fn flush(&self) -> Result<(), BlockError> {
        let line = format!("disk {} flush", self.number);
        self.step(BlockOperation::Flush, line, |_| Ok(()))
    }
}
