//! The superblock: where the trees begin.

use crate::error::{Damage, MetadataError};
use crate::source::{Block, checksum, long, word};

const MAGIC: u64 = 27_022_010;
const SALT: u32 = 160_774;
/// Sectors of a metadata block.
const METADATA_BLOCK: u32 = 8;
/// Sectors of the smallest data block, of which all are multiples.
const LEAST_DATA_BLOCK: u32 = 128;
const MOST_DATA_BLOCK: u32 = 2_097_152;

/// What is needed of a superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    /// Counts snapshots; each mapping carries the time at which it was made.
    pub time: u32,
    /// The number that users of the pool keep in step with their own records.
    pub transaction: u64,
    /// Block of the metadata snapshot's superblock, 0 when there is none.
    pub held_root: u64,
    pub mapping_root: u64,
    pub details_root: u64,
    /// Sectors.
    pub data_block: u32,
}

impl Superblock {
    /// Reads the one that was found in block `at`.
    pub fn parse(at: u64, block: &Block) -> Result<Self, MetadataError> {
        let damaged = |damage| Err(MetadataError::damaged(at, damage));
        if long(block, 32) != MAGIC {
            return damaged(Damage::Magic);
        }
        if word(block, 0) != checksum(block, SALT) {
            return damaged(Damage::Checksum);
        }
        if long(block, 8) != at {
            return damaged(Damage::Misplaced(long(block, 8)));
        }
        let (version, features) = (word(block, 40), word(block, 360));
        if !(1..=2).contains(&version) || features != 0 {
            return Err(MetadataError::Unsupported { version, features });
        }
        if word(block, 340) != METADATA_BLOCK {
            return damaged(Damage::MetadataBlock(word(block, 340)));
        }
        let data_block = word(block, 336);
        let possible = (LEAST_DATA_BLOCK..=MOST_DATA_BLOCK).contains(&data_block);
        if !possible || !data_block.is_multiple_of(LEAST_DATA_BLOCK) {
            return damaged(Damage::DataBlock(data_block));
        }
        Ok(Superblock {
            time: word(block, 44),
            transaction: long(block, 48),
            held_root: long(block, 56),
            mapping_root: long(block, 320),
            details_root: long(block, 328),
            data_block,
        })
    }
}
