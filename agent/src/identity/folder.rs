//! Small files that are there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use ashlar_protocol::{Problem, ProblemCode};
use zeroize::Zeroizing;

/// A folder of our own.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

/// What could not be done to a file.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} {}", path.display())]
pub struct FolderError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Folder {
    pub(super) fn at(path: PathBuf) -> Folder {
        Folder(path)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// What is in a file; `None` if it is not there.
    pub(super) fn read(&self, name: &str) -> Result<Option<Zeroizing<String>>, FolderError> {
        match fs::read_to_string(self.path(name)) {
            Ok(text) => Ok(Some(Zeroizing::new(text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.error("read", name, source)),
        }
    }

    /// Puts a file in place of the one that is there. After a power cut it is either.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), FolderError> {
        let beside = self.path(&format!("{name}.new"));
        let written = (|| {
            let mut open = OpenOptions::new();
            let open = open.write(true).create(true).truncate(true).mode(0o600);
            let mut file = open.open(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, self.path(name))?;
            self.sync()
        })();
        written.map_err(|source| self.error("write", name, source))
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, name: &str) -> Result<(), FolderError> {
        let path = self.path(name);
        // On a disk that is only read, not even what is not there can be removed.
        let removed = match fs::exists(&path) {
            Ok(false) => Ok(()),
            Ok(true) => fs::remove_file(&path).and_then(|()| self.sync()),
            Err(error) => Err(error),
        };
        removed.map_err(|source| self.error("remove", name, source))
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn error(&self, action: &'static str, name: &str, source: io::Error) -> FolderError {
        FolderError {
            action,
            path: self.path(name),
            source,
        }
    }
}

impl From<FolderError> for Problem {
    fn from(error: FolderError) -> Problem {
        let code = match error.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ProblemCode::StateDiskFull,
            _ => ProblemCode::Internal,
        };
        Problem::new(code, format!("{error}: {}", error.source))
    }
}
