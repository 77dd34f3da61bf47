//! Why an image could not be built.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// Why an image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file or directory could not be read or written.
    #[error("failed to {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The bill of materials is not sound.
    #[error("failed to write the bill of materials: {why}")]
    Bill {
        /// What is wrong with it.
        why: String,
    },
    /// A tool could not be started.
    #[error("failed to start {program}; is its package installed?")]
    Start {
        /// The tool.
        program: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A tool failed.
    #[error("{program} failed ({status}): {complaint}")]
    Tool {
        /// The tool.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote to standard error.
        complaint: String,
    },
    /// The machine's apt names no Debian mirror.
    #[error("no Debian mirror in {}: need a source with component main", directory.display())]
    NoMirror {
        /// Where apt keeps its sources.
        directory: PathBuf,
    },
    /// The machine's keyring cannot verify the release the images are made of.
    #[error(
        "{} cannot verify Debian {suite}: install debian-archive-keyring 2023.3+deb12u2 or newer",
        keyring.display()
    )]
    Keyring {
        /// The keyring.
        keyring: PathBuf,
        /// The release.
        suite: &'static str,
    },
    /// A package tree lacks what the image is made of.
    #[error("no {what} in {}", tree.display())]
    Missing {
        /// What was looked for.
        what: String,
        /// Where.
        tree: PathBuf,
    },
    /// The partition table could not be written.
    #[error("failed to partition {}", disk.display())]
    Partition {
        /// The disk image.
        disk: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A partition's content is larger than the partition.
    #[error("{what} needs {needed} bytes, its partition has {room}")]
    TooLarge {
        /// The content.
        what: &'static str,
        /// Its size in bytes.
        needed: u64,
        /// The partition's size in bytes.
        room: u64,
    },
    /// What updates are verified with goes into each image, for everybody to read.
    #[error("{} is not certificates, and lists of revoked ones, in PEM and nothing else", path.display())]
    Authorities {
        /// Which file.
        path: PathBuf,
    },
    /// A box that had it would never take another update.
    #[error("a bundle takes the authority of those who sign the updates after it")]
    LastUpdate,
    /// Nobody can say which of two such versions is the newer.
    #[error("{version} is no version such as 1.2.3 or 1.2.3-rc.1")]
    Version {
        /// What was to be one.
        version: String,
    },
    /// A state file's path leads out of the state partition.
    #[error("{} is no plain relative path", path.display())]
    StatePath {
        /// The path.
        path: PathBuf,
    },
}

impl BuildError {
    /// Says what was tried on which path; for `map_err`.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}
