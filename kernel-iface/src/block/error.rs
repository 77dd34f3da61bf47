use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use ashlar_targetd_protocol::Bytes;
use nix::errno::Errno;

use crate::device::DeviceNumber;

/// What was asked of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockOperation {
    /// Open it.
    Open,
    /// Ask its size and geometry.
    Measure,
    /// Read.
    Read,
    /// Write.
    Write,
    /// Discard.
    Discard,
    /// Flush.
    Flush,
}

impl fmt::Display for BlockOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BlockOperation::Open => "open",
            BlockOperation::Measure => "measure",
            BlockOperation::Read => "read",
            BlockOperation::Write => "write",
            BlockOperation::Discard => "discard",
            BlockOperation::Flush => "flush",
        })
    }
}

/// Why something about a block device failed.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The kernel said no.
    #[error("failed to {operation} block device {device}: {errno}")]
    Refused {
        /// What was asked.
        operation: BlockOperation,
        /// Of which device.
        device: DeviceNumber,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A stretch that leaves the device, or is not made of whole logical blocks.
    #[error("cannot {operation} {length} at {at} of block device {device}")]
    Span {
        /// What was asked.
        operation: BlockOperation,
        /// Of which device.
        device: DeviceNumber,
        /// Where the stretch begins.
        at: Bytes,
        /// How long it is.
        length: Bytes,
    },
    /// A file about block devices could not be read.
    #[error("failed to read {path}: {errno}")]
    Sysfs {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A file about block devices says something unheard of.
    #[error("{path} holds {found:?}, which is not {expected}")]
    Strange {
        /// The file.
        path: PathBuf,
        /// What it says, cut to 80 characters.
        found: String,
        /// What was expected, in words.
        expected: &'static str,
    },
    /// The partition table could not be written.
    #[error("failed to write a partition table to block device {device}: {reason}")]
    PartitionTable {
        /// The disk.
        device: DeviceNumber,
        /// What the partition library says.
        reason: String,
    },
    /// The disk has no room for anything beside our own structures.
    #[error("block device {device} of {size} is too small for a pool")]
    TooSmall {
        /// The disk.
        device: DeviceNumber,
        /// Its size.
        size: Bytes,
    },
}

impl BlockError {
    pub(crate) fn refused(
        operation: BlockOperation,
        device: DeviceNumber,
        source: &io::Error,
    ) -> Self {
        BlockError::Refused {
            operation,
            device,
            errno: errno(source),
        }
    }

    pub(super) fn sysfs(path: &Path, source: &io::Error) -> Self {
        BlockError::Sysfs {
            path: path.to_owned(),
            errno: errno(source),
        }
    }

    pub(super) fn strange(path: &Path, found: &str, expected: &'static str) -> Self {
        BlockError::Strange {
            path: path.to_owned(),
            found: found.chars().take(80).collect(),
            expected,
        }
    }

    /// The kernel's answer, where it gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            BlockError::Refused { errno, .. } | BlockError::Sysfs { errno, .. } => Some(*errno),
            BlockError::Span { .. }
            | BlockError::Strange { .. }
            | BlockError::PartitionTable { .. }
            | BlockError::TooSmall { .. } => None,
        }
    }
}

/// An error without a number (a file that ended early) is an I/O error to us.
fn errno(source: &io::Error) -> Errno {
    source.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
