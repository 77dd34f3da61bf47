//! An authority and the identities under it as files.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Authority, Device, IssueError, Pair, Profile, Request, Validity};

const AUTHORITY: &str = "ca";

/// A directory with an authority in it, or to be made in it.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    overwrite: bool,
}

/// Why the directory was left as it was.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A name that is no plain file name.
    #[error("{name:?} cannot name an identity: letters, digits, '-', '_' and '.', not \"ca\"")]
    Name {
        /// The name.
        name: String,
    },
    /// Something is there already.
    #[error("{} exists; it is only overwritten when asked to", path.display())]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("failed to {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

/// Where an identity's two files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The certificate.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Directory {
    /// The directory at `path`, which need not exist yet. Existing files are kept.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Directory {
            path: path.into(),
            overwrite: false,
        }
    }

    /// The same directory, replacing existing files.
    pub fn overwriting(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// Makes the directory and an authority in it.
    ///
    /// # Errors
    /// [`DirectoryError::Exists`] when there is one; otherwise what went wrong.
    pub fn init(&self, name: &str, validity: Validity) -> Result<Paths, DirectoryError> {
        fs::create_dir_all(&self.path).map_err(|source| io_error("create", &self.path, source))?;
        let (_, pair) = Authority::create(name, validity)?;
        self.store(AUTHORITY, &pair)
    }

    /// Issues a certificate called `name`, which is also its common name.
    ///
    /// # Errors
    /// When there is no authority here, `name` is taken or not plain, or issuing fails.
    pub fn issue(
        &self,
        name: &str,
        profile: &Profile,
        validity: Validity,
    ) -> Result<Paths, DirectoryError> {
        check_name(name)?;
        let pair = self.authority()?.issue(name, profile, validity)?;
        self.store(name, &pair)
    }

    /// Signs a certificate (PEM) for a request's key, with the common name `name`. It is not kept
    /// here.
    ///
    /// # Errors
    /// When there is no authority here, `name` is not plain, or signing fails.
    pub fn sign(
        &self,
        name: &str,
        request: &Request,
        profile: &Profile,
        validity: Validity,
    ) -> Result<String, DirectoryError> {
        check_name(name)?;
        Ok(self.authority()?.sign(name, request, profile, validity)?)
    }

    /// Signs a box's identity (PEM). It is not kept here.
    ///
    /// # Errors
    /// When there is no authority here, or signing fails.
    pub fn sign_device(&self, device: &Device) -> Result<String, DirectoryError> {
        Ok(self.authority()?.sign_device(device)?)
    }

    /// Reads the authority.
    ///
    /// # Errors
    /// When it is not there or not whole.
    pub fn authority(&self) -> Result<Authority, DirectoryError> {
        let paths = self.paths(AUTHORITY);
        let certificate = read(&paths.certificate)?;
        let key = Zeroizing::new(read(&paths.key)?);
        Ok(Authority::from_pem(&certificate, &key)?)
    }

    /// Where `name`'s files are, or would be.
    pub fn paths(&self, name: &str) -> Paths {
        Paths {
            certificate: self.path.join(format!("{name}.pem")),
            key: self.path.join(format!("{name}.key")),
        }
    }

    fn store(&self, name: &str, pair: &Pair) -> Result<Paths, DirectoryError> {
        let paths = self.paths(name);
        if !self.overwrite {
            absent(&paths.certificate)?;
            absent(&paths.key)?;
        }
        self.write(&paths.key, &pair.key, 0o600)?;
        self.write(&paths.certificate, &pair.certificate, 0o644)?;
        Ok(paths)
    }

    fn write(&self, path: &Path, text: &str, mode: u32) -> Result<(), DirectoryError> {
        write(path, text, mode, self.overwrite)
    }
}

/// Writes a certificate where somebody wants it, replacing what is there.
///
/// # Errors
/// [`DirectoryError::Io`] with what went wrong.
pub fn write_certificate(path: &Path, certificate: &str) -> Result<(), DirectoryError> {
    write(path, certificate, 0o644, true)
}

/// Writes beside the place and moves there, so that nobody reads half a file and an old file's
/// wider mode does not survive.
fn write(path: &Path, text: &str, mode: u32, overwrite: bool) -> Result<(), DirectoryError> {
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if overwrite {
            fs::rename(&beside, path)
        } else {
            // Fails when the path exists, which a rename does not.
            fs::hard_link(&beside, path).and_then(|()| fs::remove_file(&beside))
        }
    };
    write().map_err(|source| io_error("write", path, source))
}

fn check_name(name: &str) -> Result<(), DirectoryError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() || name == AUTHORITY || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(DirectoryError::Name {
            name: name.to_owned(),
        });
    }
    Ok(())
}

fn absent(path: &Path) -> Result<(), DirectoryError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(io_error("look at", path, source)),
        Ok(_) => Err(DirectoryError::Exists {
            path: path.to_owned(),
        }),
    }
}

fn read(path: &Path) -> Result<String, DirectoryError> {
    fs::read_to_string(path).map_err(|source| io_error("read", path, source))
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> DirectoryError {
    DirectoryError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
