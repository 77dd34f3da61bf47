use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ashlar_protocol::{Name, Sha256};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(super) const VERSION: u32 = 1;

/// Larger than any of ours.
const MOST: u64 = 64 << 10;

/// What is known of a backup, beside its file as `FILE.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Of this form: 1.
    pub version: u32,
    /// Of which volume.
    pub volume: Uuid,
    /// What that was called.
    pub name: Name,
    /// The snapshot it is of.
    pub snapshot: Uuid,
    /// The snapshot it tells the differences from; a full backup when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Uuid>,
    /// The size of the snapshot, in bytes.
    pub size: u64,
    /// The length of the file, in bytes.
    pub length: u64,
    /// The digest at the end of the file.
    pub sha256: Sha256,
    /// When the snapshot was taken: seconds since 1970-01-01 UTC.
    pub taken: u64,
}

/// A backup: a file, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The stream of extents.
    pub file: PathBuf,
    /// What it is.
    pub manifest: Manifest,
}

/// What should be a manifest is none.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It cannot be read or written.
    #[error("failed to {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is no manifest of a backup", path.display())]
    NoManifest {
        /// Which file.
        path: PathBuf,
        /// Where it is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// It is of another form.
    #[error("{} has version {version}, {VERSION} is known", path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The file is not as long as it was.
    #[error("{} has {length} bytes where its manifest says {expected}", path.display())]
    Length {
        /// Which file.
        path: PathBuf,
        /// How long it is.
        length: u64,
        /// How long it should be.
        expected: u64,
    },
}

impl Manifest {
    /// Where the manifest of a file is.
    pub fn path(file: &Path) -> PathBuf {
        let mut path = file.as_os_str().to_owned();
        path.push(".json");
        PathBuf::from(path)
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// Where it is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

impl Backup {
    /// The backup in a file, by what is beside it.
    ///
    /// # Errors
    /// When either is not what it should be.
    pub fn open(file: &Path) -> Result<Backup, ManifestError> {
        let path = Manifest::path(file);
        let length = fs::metadata(&path).map_err(failed("look at", &path))?.len();
        let text = match length <= MOST {
            true => fs::read(&path).map_err(failed("read", &path))?,
            // That is not to be read at all.
            false => Vec::new(),
        };
        let manifest = match Manifest::parse(&text) {
            Ok(manifest) => manifest,
            Err(source) => return Err(ManifestError::NoManifest { path, source }),
        };
        if manifest.version != VERSION {
            let version = manifest.version;
            return Err(ManifestError::Version { path, version });
        }
        let length = fs::metadata(file).map_err(failed("look at", file))?.len();
        if length != manifest.length {
            return Err(ManifestError::Length {
                path: file.to_owned(),
                length,
                expected: manifest.length,
            });
        }
        let file = file.to_owned();
        Ok(Backup { file, manifest })
    }

    /// Writes the manifest: there, and whole, or not at all.
    pub(super) fn write(&self) -> Result<(), ManifestError> {
        let path = Manifest::path(&self.file);
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let mut text = serde_json::to_vec_pretty(&self.manifest).expect("a manifest is plain");
        text.push(b'\n');
        let write = || {
            let mut file = File::create(&partial)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&partial, &path)
        };
        write().map_err(|source| {
            drop(fs::remove_file(&partial));
            failed("write", &path)(source)
        })
    }
}

pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ManifestError {
    let path = path.to_owned();
    move |source| ManifestError::File {
        action,
        path,
        source,
    }
}
