//! What is done once, before the first request.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ashlar_kernel_iface::lio::Lio;
use ashlar_kernel_iface::tree::{Errno, TreeError};

use crate::kernel::Kernel;

/// Why the kernel could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The directory for reservations could not be made.
    #[error("failed to make {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Its path cannot be told to the kernel.
    #[error("{0} is not plain text")]
    Path(PathBuf),
    /// The kernel refused it.
    #[error("failed to keep reservations in {path}: {source}")]
    Dbroot {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: TreeError,
    },
    /// The kernel refused the iSCSI fabric.
    #[error("failed to register the iSCSI fabric: {0}")]
    Fabric(TreeError),
}

/// Where LIO writes them in there. It makes no directories, and without this one it refuses every
/// persistent reservation, kept or not.
pub const RESERVATIONS: &str = "pr";

/// Lets LIO keep reservations in `dbroot`, then registers the iSCSI fabric, in this order: the
/// kernel looks for the directory when the first fabric comes. Without the modules for it there
/// is nothing to prepare; what needs them says so when asked.
pub fn prepare(kernel: &Kernel, dbroot: &Path) -> Result<(), PrepareError> {
    let kept = dbroot.join(RESERVATIONS);
    fs::create_dir_all(&kept).map_err(|source| PrepareError::Directory { path: kept, source })?;
    let text = dbroot
        .to_str()
        .ok_or_else(|| PrepareError::Path(dbroot.to_owned()))?;
    let lio = Lio::new(kernel.tree());
    match lio.set_dbroot(text) {
        Ok(_) => {}
        Err(error) if error.is_absent() => return Ok(()),
        Err(source) => {
            return Err(PrepareError::Dbroot {
                path: dbroot.to_owned(),
                source,
            });
        }
    }
    match lio.register_iscsi() {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.errno(), Some(Errno::EINVAL | Errno::ENOENT)) => {
            tracing::warn!(%error, "iSCSI is not available");
            Ok(())
        }
        Err(error) => Err(PrepareError::Fabric(error)),
    }
}
