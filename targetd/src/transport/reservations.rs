//! Persistent reservations of SCSI disks, as far as hosts want them to outlast a power cut.
//!
//! LIO writes them to a file for each disk and reads nothing back. So they are told to it when the disk
//! is made, before anybody sees it; and forgotten when the disk goes because nobody is connected any
//! more. What is read is the kernel's own writing, in a directory of ours.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use ashlar_kernel_iface::lio::{Backstore, Lio, registrations};
use ashlar_kernel_iface::tree::{Tree, TreeError};

use crate::prepare::RESERVATIONS;

/// Longest that is read: the kernel writes no more.
const MOST: u64 = 256 << 10;

/// Has the kernel take back what it wrote down of a disk. What cannot be had is told, and the disk is
/// served without: whoever relies on it registers again.
pub(super) fn restore(tree: &dyn Tree, backstore: &Backstore<'_>, serial: &str) {
    let path = match file(tree, serial) {
        Ok(path) => path,
        Err(error) => return tracing::warn!(serial, %error, "reservations are not restored"),
    };
    let mut written = String::new();
    let read = File::open(&path).and_then(|file| file.take(MOST).read_to_string(&mut written));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return tracing::warn!(serial, %error, "reservations are not restored"),
        Ok(_) => {}
    }
    for registration in registrations(&written) {
        if let Err(error) = backstore.restore_registration(&registration) {
            tracing::warn!(serial, %error, "a reservation is not restored");
        }
    }
}

/// Forgets what was written down of a disk.
pub(super) fn forget(tree: &dyn Tree, serial: &str) {
    let removed = file(tree, serial).map(std::fs::remove_file);
    match removed {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
        Ok(Err(error)) => tracing::warn!(serial, %error, "reservations are not forgotten"),
        Err(error) => tracing::warn!(serial, %error, "reservations are not forgotten"),
    }
}

fn file(tree: &dyn Tree, serial: &str) -> Result<PathBuf, TreeError> {
    let dbroot = Lio::new(tree).dbroot()?;
    Ok(dbroot.join(RESERVATIONS).join(format!("aptpl_{serial}")))
}
