//! Files for a guest, as a disk that holds a tar archive.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

/// Packs a folder; the guest unpacks it with `tar -xf` from the disk's node.
pub fn pack(folder: &Path, archive: &Path) -> anyhow::Result<()> {
    let status = Command::new("tar")
        .args(["--owner=0", "--group=0", "--blocking-factor=256", "-cf"])
        .arg(archive)
        .arg("-C")
        .arg(folder)
        .arg(".")
        .status()
        .context("failed to start tar")?;
    ensure!(
        status.success(),
        "tar of {} ended with {status}",
        folder.display()
    );
    Ok(())
}
