use ashlar_targetd_protocol::Bytes;

use super::{BlockDevice, BlockError};

/// A block of thin metadata.
const BLOCK: usize = 4096;
/// The number dm-thin writes into its superblock.
const THIN_MAGIC: u64 = 27_022_010;
const MAGIC: std::ops::Range<usize> = 32..40;
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
