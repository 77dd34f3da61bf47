use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use ashlar_targetd_protocol::{Bytes, IoCounters};

use super::aligned::AlignedBuffer;
use super::sysfs::Sysfs;
use super::{
    Access, BlockDevice, BlockError, BlockOperation, Disk, DiskEvents, Disks, OpenFile, check_span,
    ioctl,
};
use crate::device::DeviceNumber;
use crate::news::{News, NewsError};

/// Most bytes moved by one system call.
const CHUNK: usize = 1 << 20;

/// The kernel's block devices.
#[derive(Debug)]
pub struct RealDisks {
    sysfs: Sysfs,
    dev: PathBuf,
}

impl RealDisks {
    /// The block devices of the running kernel.
    pub fn new() -> Self {
        RealDisks {
            sysfs: Sysfs::of_kernel(),
            dev: PathBuf::from("/dev"),
        }
    }
}

impl Default for RealDisks {
    fn default() -> Self {
        RealDisks::new()
    }
}

impl Disks for RealDisks {
    fn list(&self) -> Result<Vec<Disk>, BlockError> {
        self.sysfs.disks()
    }

    fn open(
        &self,
        device: DeviceNumber,
        access: Access,
    ) -> Result<Box<dyn BlockDevice>, BlockError> {
        let file = self.open_node(device, access)?;
        RealDevice::measure(file, device).map(|device| Box::new(device) as Box<dyn BlockDevice>)
    }

    fn open_file(&self, device: DeviceNumber, access: Access) -> Result<OpenFile, BlockError> {
        let RealDevice { file, size, .. } =
            RealDevice::measure(self.open_node(device, access)?, device)?;
        Ok(OpenFile { file, size })
    }

    fn counters(&self, device: DeviceNumber) -> Result<IoCounters, BlockError> {
        self.sysfs.counters(device)
    }

    fn news(&self) -> Result<Box<dyn News>, NewsError> {
        Ok(Box::new(DiskEvents::open()?))
    }
}

impl RealDisks {
    fn open_node(&self, device: DeviceNumber, access: Access) -> Result<File, BlockError> {
        let path = self.dev.join(self.sysfs.node_name(device)?);
        let (write, excl) = match access {
            Access::Read => (false, 0),
            Access::Exclusive => (true, libc::O_EXCL),
            Access::Shared => (true, 0),
        };
        let refused = |error| BlockError::refused(BlockOperation::Open, device, &error);
        let file = OpenOptions::new()
            .read(true)
            .write(write)
            .custom_flags(libc::O_DIRECT | excl)
            .open(&path)
            .map_err(refused)?;
        // The name was looked up first; the number must still be behind it.
        let metadata = file.metadata().map_err(refused)?;
        if DeviceNumber::from_dev(metadata.rdev()) != device {
            return Err(BlockError::Refused {
                operation: BlockOperation::Open,
                device,
                errno: nix::errno::Errno::ENXIO,
            });
        }
        Ok(file)
    }
}

/// A block device opened past the page cache, so that it never shows what a table above it
/// has changed since.
#[derive(Debug)]
struct RealDevice {
    file: File,
    number: DeviceNumber,
    size: Bytes,
    logical_block: Bytes,
}

impl RealDevice {
    fn measure(file: File, number: DeviceNumber) -> Result<Self, BlockError> {
        let refused = |errno| BlockError::Refused {
            operation: BlockOperation::Measure,
            device: number,
            errno,
        };
        Ok(RealDevice {
            size: Bytes(ioctl::size(&file).map_err(refused)?),
            logical_block: Bytes(ioctl::logical_block(&file).map_err(refused)?),
            file,
            number,
        })
    }
}

impl BlockDevice for RealDevice {
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
        let mut aligned = AlignedBuffer::zeroed(buffer.len().min(CHUNK));
        for (index, chunk) in buffer.chunks_mut(CHUNK).enumerate() {
            let bytes = &mut aligned.bytes()[..chunk.len()];
            self.file
                .read_exact_at(bytes, at.0 + (index * CHUNK) as u64)
                .map_err(|error| BlockError::refused(BlockOperation::Read, self.number, &error))?;
            chunk.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn write_at(&self, at: Bytes, data: &[u8]) -> Result<(), BlockError> {
        check_span(self, BlockOperation::Write, at, data.len() as u64)?;
        let mut aligned = AlignedBuffer::zeroed(data.len().min(CHUNK));
        for (index, chunk) in data.chunks(CHUNK).enumerate() {
            let bytes = &mut aligned.bytes()[..chunk.len()];
            bytes.copy_from_slice(chunk);
            self.file
                .write_all_at(bytes, at.0 + (index * CHUNK) as u64)
                .map_err(|error| BlockError::refused(BlockOperation::Write, self.number, &error))?;
        }
        Ok(())
    }

    fn discard(&self, at: Bytes, length: Bytes) -> Result<(), BlockError> {
        check_span(self, BlockOperation::Discard, at, length.0)?;
        ioctl::discard(&self.file, at.0, length.0).map_err(|errno| BlockError::Refused {
            operation: BlockOperation::Discard,
            device: self.number,
            errno,
        })
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.file
            .sync_all()
            .map_err(|error| BlockError::refused(BlockOperation::Flush, self.number, &error))
    }
}
