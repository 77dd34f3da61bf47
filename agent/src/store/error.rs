//! What can go wrong, one type per operation.

use std::path::PathBuf;

use super::checkpoint::ReadError;
use super::disk::FileError;
use super::index::IndexError;
use super::journal::Scan;

/// The store did not open; nothing was lost by trying.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store {} is in use by another process", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A newer release wrote it.
    #[error("{file} has format version {version}, which this release does not know")]
    Newer {
        /// Which file.
        file: String,
        /// Its version.
        version: u32,
    },
    /// Committed records cannot be read from journal, checkpoints or database.
    #[error(
        "the store is damaged: {file} is unreadable at byte {offset}, generations {first} to \
         {last} are missing, and the database copy cannot replace them ({index})"
    )]
    Damaged {
        /// Where reading failed.
        file: String,
        /// Byte in it.
        offset: u64,
        /// First generation missing.
        first: u64,
        /// Last generation missing.
        last: u64,
        /// Why the database copy is no help.
        index: String,
    },
    /// No room to begin.
    #[error("the state disk is full: {0}")]
    StateDiskFull(#[source] FileError),
    /// A file operation failed.
    #[error(transparent)]
    File(FileError),
    /// The database copy could not be rebuilt.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl OpenError {
    /// [`OpenError::Damaged`] for the first loss of a scan that should reach `known`.
    pub(super) fn damaged(scan: &Scan, known: u64, index: &str) -> Self {
        let (file, offset, first, last) = match scan.lost.first() {
            Some(loss) => (loss.file.clone(), loss.offset, loss.first, loss.last),
            None => (
                "journal".to_owned(),
                0,
                scan.end + 1,
                known.max(scan.end + 1),
            ),
        };
        Self::Damaged {
            file,
            offset,
            first,
            last,
            index: index.to_owned(),
        }
    }
}

impl From<FileError> for OpenError {
    fn from(error: FileError) -> Self {
        match error.is_disk_full() {
            true => Self::StateDiskFull(error),
            false => Self::File(error),
        }
    }
}

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::File(error) => error.into(),
            ReadError::Index(error) => Self::Index(error),
            ReadError::Newer { file, version } => Self::Newer { file, version },
            ReadError::Damaged { file, offset } => Self::Damaged {
                file,
                offset,
                first: 0,
                last: 0,
                index: "it changed while it was read".to_owned(),
            },
        }
    }
}

/// A batch was not taken; nothing of it will ever show.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The state disk has no room; the store goes on with what it has.
    #[error("the state disk is full: {free} bytes free, {reserve} kept in reserve")]
    StateDiskFull {
        /// Bytes free; 0 when the system said so.
        free: u64,
        /// [`super::Options::reserve_bytes`].
        reserve: u64,
    },
    /// A batch beyond what one record may hold.
    #[error("a change of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Encoded bytes.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The journal could not be written; it is as it was before.
    #[error(transparent)]
    File(FileError),
    /// An earlier failure left the store unusable: end the process and start again.
    #[error("the store is unusable after an earlier failure")]
    Poisoned,
}

/// Staged batches may or may not be durable: the store is unusable and the process must end.
///
/// After a failed fsync the page cache shows data that the medium does not have, so neither
/// trying again nor reading back proves anything. The next start reads what is there.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The journal was not synced.
    #[error(transparent)]
    File(#[from] FileError),
    /// The journal is durable but the database copy did not follow.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// An earlier failure left the store unusable.
    #[error("the store is unusable after an earlier failure")]
    Poisoned,
}
