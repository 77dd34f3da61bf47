use std::io;

use thiserror::Error;

/// Why metadata could not be read.
#[derive(Debug, Error)]
pub enum MetadataError {
    /// The device did not give a block.
    #[error("failed to read metadata block {block}")]
    Read {
        /// Which.
        block: u64,
        /// Why.
        source: io::Error,
    },
    /// A block is not what it has to be.
    #[error("metadata block {block} {damage}")]
    Damaged {
        /// Which.
        block: u64,
        /// What is wrong with it.
        damage: Damage,
    },
    /// The kernel that wrote them knows something that is unknown here.
    #[error("the metadata have version {version} and features {features:#x}, which are unknown")]
    Unsupported {
        /// The superblock's version.
        version: u32,
        /// Its incompatible features.
        features: u32,
    },
    /// The pool has no such thin device.
    #[error("the pool has no thin device {0}")]
    NoDevice(u32),
    /// Too many other devices differ from this one to tell within the memory there is.
    #[error("too many devices are related with thin device {0} to tell what it has alone")]
    TooManyRelatives(u32),
}

impl MetadataError {
    pub(crate) fn damaged(block: u64, damage: Damage) -> Self {
        MetadataError::Damaged { block, damage }
    }
}

/// What is wrong with a block. Each reads on after "metadata block N".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    /// It has another magic number than a superblock.
    #[error("is no superblock of a thin pool")]
    Magic,
    /// Its checksum is another.
    #[error("has a wrong checksum")]
    Checksum,
    /// It is another block, or an earlier one.
    #[error("says that it is block {0}")]
    Misplaced(u64),
    /// Blocks have another size.
    #[error("gives a size of {0} sectors to metadata blocks")]
    MetadataBlock(u32),
    /// Data blocks have an impossible size.
    #[error("gives a size of {0} sectors to data blocks")]
    DataBlock(u32),
    /// It is named where there is no block.
    #[error("does not exist")]
    Outside,
    /// It is neither a leaf nor an internal node, or both.
    #[error("has the kind {0:#x}, which no node has")]
    Kind(u32),
    /// Its entries do not fit, or there are more than it says it has room for.
    #[error("says that it holds {entries} of {most} entries with values of {value} bytes")]
    Entries {
        /// Those it has.
        entries: u32,
        /// Those it says it has room for.
        most: u32,
        /// Size of a value.
        value: u32,
    },
    /// Keys do not ascend, or lie outside of what the node above says.
    #[error("has key {0} where it cannot be")]
    Key(u64),
    /// A leaf is where an internal node should be, or the other way round.
    #[error("is at the wrong depth of its tree")]
    Depth,
}
