//! Block devices: the disks of the box, what they hold, and our part of them.
//!
//! [`Disks`] is what the kernel offers: a list of whole disks, and bytes of a device at an
//! offset. [`RealDisks`] is the kernel; [`ModelKernel`](crate::model::ModelKernel) keeps sparse
//! disks in memory. Everything else is plain code over a [`BlockDevice`], and every byte it reads
//! is taken for hostile: reads are bounded, and nothing a disk says is used unchecked.
//!
//! | file         | what |
//! |--------------|------|
//! | `disk`       | a whole disk, and finding it by its lasting id |
//! | `probe`      | what a disk holds: nothing, a part of a pool, something else |
//! | `signature`  | the marks other formats leave |
//! | `partition`  | the GPT with our one partition |
//! | `label`      | which pool a disk belongs to |
//! | `layout`     | where all this is; writing it, wiping a disk |
//! | `superblock` | what the kernel writes: the first block of thin metadata, and of arrays |
//! | `uevent`     | disks that come, go and change, as the kernel tells it |
//!
//! ```text
//!   0        1 MiB       2 MiB                                       end
//!   │ GPT     │ label ×2  │ payload: metadata and data               │ GPT copy │
//! ```

use std::fmt::Debug;
use std::fs::File;

use ashlar_targetd_protocol::{Bytes, IoCounters};

use crate::device::DeviceNumber;
use crate::news::{News, NewsError};

mod aligned;
mod counters;
mod disk;
mod error;
mod ioctl;
mod label;
mod layout;
mod partition;
mod probe;
mod real;
mod signature;
mod superblock;
mod sysfs;
mod uevent;
mod window;

pub use disk::{Disk, DiskLookupError, disk_by_id};
pub use error::{BlockError, BlockOperation};
pub use label::{PoolLabel, SetLabel, Tenure};
pub use layout::{
    ARRAY_ROOM, CHUNK, LABEL_START, PAYLOAD_START, clear_leg, format_disk, relabel_disk, wipe_disk,
};
pub use partition::{PARTITION_NAME, PARTITION_TYPE, PoolPartition};
pub use probe::{DiskContent, probe};
pub use real::RealDisks;
pub use superblock::{
    ArrayAmendment, ArrayKnowledge, ArrayState, MetadataState, PoolSize, amend_array, array_state,
    forget_array, metadata_state, pool_size, zero_metadata_superblock,
};
pub use uevent::{DiskAction, DiskEvent, DiskEvents};

/// The block devices of the kernel.
pub trait Disks: Send + Sync {
    /// The whole disks of the box: no partitions, and nothing the kernel makes of other devices.
    fn list(&self) -> Result<Vec<Disk>, BlockError>;

    /// Opens any block device by its number.
    fn open(
        &self,
        device: DeviceNumber,
        access: Access,
    ) -> Result<Box<dyn BlockDevice>, BlockError>;

    /// What a device has done since the kernel made it.
    fn counters(&self, device: DeviceNumber) -> Result<IoCounters, BlockError>;

    /// Opens any block device by its number, as a file to be handed to another process.
    fn open_file(&self, device: DeviceNumber, access: Access) -> Result<OpenFile, BlockError>;

    /// Disks that come, go and change from now on.
    fn news(&self) -> Result<Box<dyn News>, NewsError>;
}

/// A block device as a file, past every cache, closed on exec.
#[derive(Debug)]
pub struct OpenFile {
    /// The file.
    pub file: File,
    /// The device's size.
    pub size: Bytes,
}

/// How a block device is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading, beside whoever uses it.
    Read,
    /// For reading and writing, alone: `EBUSY` while a file system, a device-mapper table or
    /// anyone else holds it or a part of it.
    Exclusive,
    /// For reading and writing, beside whoever uses it: for labels, which nobody else touches.
    Shared,
}

/// An open block device. Offsets and lengths are multiples of its logical block.
pub trait BlockDevice: Debug + Send {
    /// Its number.
    fn number(&self) -> DeviceNumber;

    /// Its size.
    fn size(&self) -> Bytes;

    /// The smallest piece it reads and writes: 512 bytes or 4 KiB.
    fn logical_block(&self) -> Bytes;

    /// Fills `buffer` from the device itself, past every cache.
    fn read_at(&self, at: Bytes, buffer: &mut [u8]) -> Result<(), BlockError>;

    /// Writes `data`. It lasts after [`BlockDevice::flush`].
    fn write_at(&self, at: Bytes, data: &[u8]) -> Result<(), BlockError>;

    /// Tells the device that a stretch holds nothing of worth. `EOPNOTSUPP` where it cannot.
    fn discard(&self, at: Bytes, length: Bytes) -> Result<(), BlockError>;

    /// Waits until everything written would survive a power cut.
    fn flush(&self) -> Result<(), BlockError>;
}

/// Refuses a stretch that leaves the device or is not of whole logical blocks. Both kinds of
/// devices call it first.
pub(crate) fn check_span(
    device: &dyn BlockDevice,
    operation: BlockOperation,
    at: Bytes,
    length: u64,
) -> Result<(), BlockError> {
    let block = device.logical_block().0;
    let inside =
        at.0.checked_add(length)
            .is_some_and(|end| end <= device.size().0);
    if inside && at.0.is_multiple_of(block) && length.is_multiple_of(block) {
        return Ok(());
    }
    Err(BlockError::Span {
        operation,
        device: device.number(),
        at,
        length: Bytes(length),
    })
}

#[cfg(test)]
mod tests;
