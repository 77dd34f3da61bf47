use std::io::{Read, Seek, SeekFrom};

use ashlar_targetd_protocol::Bytes;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::{OperatingSystem, Type};
use gpt::{GptConfig, GptDisk};
use uuid::Uuid;

use super::window::Window;
use super::{BlockDevice, BlockError};

/// The GPT type of the partition a pool lives in.
pub const PARTITION_TYPE: Uuid = Uuid::from_u128(0xee891e58_555c_4732_a89c_d907b017f133);
/// The GPT name of the partition a pool lives in.
pub const PARTITION_NAME: &str = "ashlar-pool";

/// The partition a pool lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolPartition {
    /// Where it begins on the disk.
    pub start: Bytes,
    /// How long it is.
    pub length: Bytes,
}

/// What a disk says about partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartitionTable {
    /// There is no GPT.
    None,
    /// There is one, with our partition alone.
    Ours(PoolPartition),
    /// There is one with this many partitions of others.
    Foreign(usize),
    /// There is something of a GPT that cannot be used.
    Damaged,
}

/// Reads the GPT, or its copy at the end where the first is damaged.
pub(super) fn read(device: &dyn BlockDevice) -> PartitionTable {
    let Some(block) = block_size(device) else {
        return PartitionTable::None;
    };
    match headers(device) {
        Headers::Absent => return PartitionTable::None,
        Headers::Strange => return PartitionTable::Damaged,
        Headers::Usual => {}
    }
    let config = GptConfig::new().writable(false).logical_block_size(block);
    match config.open_from_device(Window::new(device)) {
        Ok(disk) => partitions(&disk, block.as_u64(), device.size().0),
        Err(_) => PartitionTable::Damaged,
    }
}

fn partitions(disk: &GptDisk<Window<'_>>, block: u64, size: u64) -> PartitionTable {
    let used: Vec<_> = disk
        .partitions()
        .values()
        .filter(|part| part.is_used())
        .collect();
    let [part] = used.as_slice() else {
        return PartitionTable::Foreign(used.len());
    };
    let start = part.first_lba.checked_mul(block);
    let end = part
        .last_lba
        .checked_add(1)
        .and_then(|end| end.checked_mul(block));
    match (start, end) {
        _ if part.part_type_guid.guid != PARTITION_TYPE => PartitionTable::Foreign(1),
        (Some(start), Some(end)) if start < end && end <= size => {
            PartitionTable::Ours(PoolPartition {
                start: Bytes(start),
                length: Bytes(end - start),
            })
        }
        _ => PartitionTable::Damaged,
    }
}

/// Writes a GPT with our partition alone, and its copy, and the protective MBR.
pub(super) fn write(device: &dyn BlockDevice, partition: PoolPartition) -> Result<(), BlockError> {
    let failed = |reason: String| BlockError::PartitionTable {
        device: device.number(),
        reason,
    };
    let block = block_size(device)
        .ok_or_else(|| failed(format!("logical blocks of {}", device.logical_block())))?;
    let blocks = device.size().0 / block.as_u64();
    let mut window = Window::new(device);
    // An MBR counts in 32 bits; a larger disk is covered as far as they reach.
    let covered = u32::try_from(blocks - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(covered)
        .overwrite_lba0(&mut window)
        .map_err(|error| failed(error.to_string()))?;
    let kind = Type {
        guid: PARTITION_TYPE,
        os: OperatingSystem::Linux,
    };
    let (first, length) = (
        partition.start.0 / block.as_u64(),
        partition.length.0 / block.as_u64(),
    );
    let written = GptConfig::new()
        .writable(true)
        .logical_block_size(block)
        .create_from_device(window, None)
        .and_then(|mut disk| {
            disk.add_partition_at(PARTITION_NAME, 1, first, length, kind, 0)?;
            disk.write()
        });
    written.map_err(|error| failed(error.to_string()))?.commit()
}

fn block_size(device: &dyn BlockDevice) -> Option<LogicalBlockSize> {
    match device.logical_block().0 {
        512 => Some(LogicalBlockSize::Lb512),
        4096 => Some(LogicalBlockSize::Lb4096),
        _ => None,
    }
}

enum Headers {
    Absent,
    Strange,
    Usual,
}

/// Looks at both headers before the library does: it takes an entry size other than 128 for
/// impossible and any number of entries for right.
fn headers(device: &dyn BlockDevice) -> Headers {
    let block = device.logical_block().0;
    let mut window = Window::new(device);
    let places = [Some(block), device.size().0.checked_sub(block)];
    let mut seen = Headers::Absent;
    for place in places.into_iter().flatten() {
        let mut header = [0; 92];
        let read = window
            .seek(SeekFrom::Start(place))
            .and_then(|_| window.read_exact(&mut header));
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| header[at + byte]));
        if read.is_err() || !header.starts_with(b"EFI PART") {
            continue;
        }
        if !(1..=1024).contains(&word(80)) || word(84) != 128 {
            return Headers::Strange;
        }
        seen = Headers::Usual;
    }
    seen
}
