//! The few file operations that journal and checkpoints need, as a trait.
//!
//! The trait is the seam at which tests put a disk that loses, tears and reorders whatever
//! was not synced. Names are plain file names inside one directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A failed file operation; its text names verb, path and cause.
#[derive(Debug, thiserror::Error)]
#[error("failed to {operation} {}: {source}", path.display())]
pub struct FileError {
    /// The verb.
    pub operation: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// The system's answer.
    pub source: io::Error,
}

impl FileError {
    /// Whether the state disk had no room (`ENOSPC`, `EDQUOT`).
    pub fn is_disk_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self.source.kind(), StorageFull | QuotaExceeded)
    }
}

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// One directory of files that only this process touches.
pub(super) trait Disk: Send + Sync {
    /// Names of all files, in no order.
    fn list(&self) -> Result<Vec<String>, FileError>;
    /// A new file for appending; an old one of that name is emptied.
    fn create(&self, name: &str) -> Result<Box<dyn DiskFile>, FileError>;
    /// Reads from the start.
    fn open(&self, name: &str) -> Result<Box<dyn Read + Send>, FileError>;
    /// Renames over `to`; durable after [`Disk::sync_names`].
    fn rename(&self, from: &str, to: &str) -> Result<(), FileError>;
    /// Removes a file; durable after [`Disk::sync_names`].
    fn remove(&self, name: &str) -> Result<(), FileError>;
    /// Makes creations, renames and removals durable.
    fn sync_names(&self) -> Result<(), FileError>;
    /// Bytes an unprivileged writer can still use.
    fn free_bytes(&self) -> Result<u64, FileError>;

    /// A whole file.
    fn read(&self, name: &str) -> Result<Vec<u8>, FileError> {
        let mut bytes = Vec::new();
        match self.open(name)?.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(source) => Err(FileError {
                operation: "read",
                path: name.into(),
                source,
            }),
        }
    }
}

/// A file open for appending.
pub(super) trait DiskFile: Send {
    /// Appends all of `bytes`, or fails with any part of them written.
    fn append(&mut self, bytes: &[u8]) -> Result<(), FileError>;
    /// Writes that many zeros behind what was appended, which the next appends take the place of:
    /// a sync of what has its place already has nothing to say about the file but the bytes.
    /// Fails with any part of them written.
    fn reserve(&mut self, len: u64) -> Result<(), FileError>;
    /// Cuts the file to `len` bytes, and what was reserved with them.
    fn truncate(&mut self, len: u64) -> Result<(), FileError>;
    /// Makes content and length durable.
    fn sync(&mut self) -> Result<(), FileError>;
}

/// A directory of the real file system; files are 0600, the directory is 0700.
pub(super) struct RealDisk {
    dir: PathBuf,
}

impl RealDisk {
    pub(super) fn open(dir: &Path) -> Result<Self, FileError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(at("create directory", dir))?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }
}

impl Disk for RealDisk {
    fn list(&self) -> Result<Vec<String>, FileError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(at("list", &self.dir))? {
            let entry = entry.map_err(at("list", &self.dir))?;
            names.extend(entry.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> Result<Box<dyn DiskFile>, FileError> {
        let path = self.dir.join(name);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(at("create", &path))?;
        let mut file = RealFile { path, file, end: 0 };
        file.truncate(0)?;
        Ok(Box::new(file))
    }

    fn open(&self, name: &str) -> Result<Box<dyn Read + Send>, FileError> {
        let path = self.dir.join(name);
        let file = File::open(&path).map_err(at("open", &path))?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), FileError> {
        let path = self.dir.join(from);
        fs::rename(&path, self.dir.join(to)).map_err(at("rename", &path))
    }

    fn remove(&self, name: &str) -> Result<(), FileError> {
        let path = self.dir.join(name);
        fs::remove_file(&path).map_err(at("remove", &path))
    }

    fn sync_names(&self) -> Result<(), FileError> {
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(at("sync directory", &self.dir))
    }

    fn free_bytes(&self) -> Result<u64, FileError> {
        let space = nix::sys::statvfs::statvfs(&self.dir)
            .map_err(|errno| at("measure free space of", &self.dir)(errno.into()))?;
        Ok(space.blocks_available() * space.fragment_size())
    }
}

struct RealFile {
    path: PathBuf,
    file: File,
    /// Where the next bytes go.
    end: u64,
}

impl DiskFile for RealFile {
    fn append(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.file
            .write_all_at(bytes, self.end)
            .map_err(at("append to", &self.path))?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn reserve(&mut self, len: u64) -> Result<(), FileError> {
        let mut at_byte = self.end;
        let end = self.end + len;
        while at_byte < end {
            let zeros = &ZEROS[..ZEROS.len().min((end - at_byte) as usize)];
            self.file
                .write_all_at(zeros, at_byte)
                .map_err(at("reserve room in", &self.path))?;
            at_byte += zeros.len() as u64;
        }
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> Result<(), FileError> {
        self.file.set_len(len).map_err(at("truncate", &self.path))?;
        self.end = len;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), FileError> {
        self.file.sync_data().map_err(at("sync", &self.path))
    }
}

/// Adds verb and path to an I/O error.
pub(super) fn at(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> FileError {
    move |source| FileError {
        operation,
        path: path.to_owned(),
        source,
    }
}
