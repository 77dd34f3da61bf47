use ashlar_targetd_protocol::Bytes;

use super::{ARRAY_ROOM, BlockDevice, BlockError, PAYLOAD_START};

/// A block of thin metadata.
const BLOCK: usize = 4096;
/// The number dm-thin writes into its superblock.
const THIN_MAGIC: u64 = 27_022_010;
const MAGIC: std::ops::Range<usize> = 32..40;
/// What dm-raid begins its superblock with.
const ARRAY_MAGIC: &[u8] = b"DmRd";
const ARRAY_EVENTS: usize = 16;
const ARRAY_FAILED: usize = 24;
const ARRAY_RECOVERED: usize = 32;
const ARRAY_RESYNCED: usize = 40;
/// In the bitmap's own superblock, a block later.
const BITMAP_CLEARED: usize = 32;
/// Where the roots of the two space maps begin, in the superblock, and each with how many blocks
/// there are.
const DATA_BLOCKS: std::ops::Range<usize> = 64..72;
const METADATA_BLOCKS: std::ops::Range<usize> = 192..200;

/// What the first block of a thin pool's metadata says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataState {
    /// All zero: **the kernel formats it** when a pool is loaded on it.
    Zero,
    /// The superblock of a pool.
    Formatted,
    /// Something else: the kernel refuses it.
    Unknown,
}

/// Reads the first block of metadata that begin at `at`. To be asked before every load of an
/// existing pool: on [`MetadataState::Zero`] the load would make an empty pool of it.
pub fn metadata_state(device: &dyn BlockDevice, at: Bytes) -> Result<MetadataState, BlockError> {
    let mut block = [0; BLOCK];
    device.read_at(at, &mut block)?;
    Ok(if block.iter().all(|byte| *byte == 0) {
        MetadataState::Zero
    } else if block[MAGIC] == THIN_MAGIC.to_le_bytes() {
        MetadataState::Formatted
    } else {
        MetadataState::Unknown
    })
}

/// What stands where the kernel writes, on a disk of a set, about all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrayState {
    /// All zero: a disk that is new in its set.
    New,
    /// What the kernel wrote.
    Known(ArrayKnowledge),
    /// Something else, which **the kernel takes for a new disk**.
    Unknown,
}

/// What the kernel wrote on one disk of a set about all of them. It believes the one that was
/// written last, and puts a set together even from a disk that alone knows of nothing it missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayKnowledge {
    /// Counts what was written.
    pub events: u64,
    /// Places whose disk was not there, or had failed: the lowest bit is the first place.
    pub failed: u64,
    /// Whether the disk itself has all of its data.
    pub whole: bool,
    /// Whether all disks were made the same since the array is new.
    pub synced: bool,
    /// What `events` was when its bitmap last forgot anything: a disk that missed more lacks what is
    /// not in the bitmap any more.
    pub cleared: u64,
}

/// Reads what the kernel wrote about an array.
pub fn array_state(device: &dyn BlockDevice) -> Result<ArrayState, BlockError> {
    let mut block = [0; 2 * BLOCK];
    device.read_at(PAYLOAD_START, &mut block)?;
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&block[at..at + 8]);
        u64::from_le_bytes(number)
    };
    Ok(match block.starts_with(ARRAY_MAGIC) {
        true => ArrayState::Known(ArrayKnowledge {
            events: number(ARRAY_EVENTS),
            failed: number(ARRAY_FAILED),
            whole: number(ARRAY_RECOVERED) == u64::MAX,
            synced: number(ARRAY_RESYNCED) == u64::MAX,
            cleared: number(BLOCK + BITMAP_CLEARED),
        }),
        false if block[..BLOCK].iter().all(|byte| *byte == 0) => ArrayState::New,
        false => ArrayState::Unknown,
    })
}

/// What a disk of a set is to know of all of them, where what the kernel wrote is not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayAmendment {
    /// Places whose disk failed, and no others.
    pub failed: u64,
    /// Whether what was being written when the array was last used is to be made the same on all.
    /// The kernel does not see by itself that an array was not stopped in order; told so, it goes by
    /// its bitmap.
    pub resync: bool,
}

/// Has a disk know that. To be done only while no array is on it.
pub fn amend_array(device: &dyn BlockDevice, amendment: &ArrayAmendment) -> Result<(), BlockError> {
    let mut block = [0; BLOCK];
    device.read_at(PAYLOAD_START, &mut block)?;
    if !block.starts_with(ARRAY_MAGIC) {
        return Ok(());
    }
    let mut put = |at: usize, number: u64| {
        block[at..at + 8].copy_from_slice(&number.to_le_bytes());
    };
    put(ARRAY_FAILED, amendment.failed);
    if amendment.resync {
        put(ARRAY_RESYNCED, 0);
    }
    device.write_at(PAYLOAD_START, &block)?;
    device.flush()
}

/// Has a disk know nothing of an array any more: it gets all of its data from the others.
pub fn forget_array(device: &dyn BlockDevice) -> Result<(), BlockError> {
    device.write_at(PAYLOAD_START, &vec![0; ARRAY_ROOM.0 as usize])?;
    device.flush()
}

/// How large a pool is that its metadata describe. The kernel refuses it on less, and grows it
/// when it is put on more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSize {
    /// Blocks of data.
    pub data_blocks: u64,
    /// Blocks of 4 KiB of metadata.
    pub metadata_blocks: u64,
}

/// How large the pool is whose metadata begin at `at`; `None` when there is no pool.
pub fn pool_size(device: &dyn BlockDevice, at: Bytes) -> Result<Option<PoolSize>, BlockError> {
    let mut block = [0; BLOCK];
    device.read_at(at, &mut block)?;
    let number = |at: std::ops::Range<usize>| {
        let mut number = [0; 8];
        number.copy_from_slice(&block[at]);
        u64::from_le_bytes(number)
    };
    let formatted = block[MAGIC] == THIN_MAGIC.to_le_bytes();
    Ok(formatted.then(|| PoolSize {
        data_blocks: number(DATA_BLOCKS),
        metadata_blocks: number(METADATA_BLOCKS),
    }))
}

/// Lets the kernel make a new pool of the metadata that begin at `at`. **Destroys the pool that
/// was there**; never to be called but for a pool that is being made.
pub fn zero_metadata_superblock(device: &dyn BlockDevice, at: Bytes) -> Result<(), BlockError> {
    device.write_at(at, &[0; BLOCK])?;
    device.flush()
}
