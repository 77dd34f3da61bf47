//! What can be seen from outside of a box that its machine's own firmware starts.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ashlar_image::{ESP_OFFSET, Slot};

use crate::Site;

/// From power to a loader that has counted, three starts of a damaged slot included; and from an
/// agent that answers to a confirmed boot.
const PATIENCE: Duration = Duration::from_secs(240);

/// What a block of a slot's file system has in bytes.
const BLOCK: u64 = 4096;

/// The slots that were started since the machine was switched on.
///
/// # Errors
/// When the console cannot be read.
pub fn slots_started(site: &Site) -> anyhow::Result<Vec<String>> {
    let console = fs::read(site.appliance.console())?;
    let text = String::from_utf8_lossy(&console);
    let started = text.lines().filter_map(|line| {
        let slot = line.split_once("starting slot ")?.1;
        Some(slot.trim().to_owned())
    });
    Ok(started.collect())
}

/// Waits for these to be the kernel images on the ESP, whose names are the loader's counts.
///
/// # Errors
/// When they are others for too long.
pub fn await_entries(disk: &Path, expected: [&str; 2]) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let names = entries(disk)?;
        if names == expected {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "on the ESP is {names:?}");
        sleep(Duration::from_millis(200));
    }
}

/// The names of the kernel images on the ESP, in order.
///
/// # Errors
/// When the ESP cannot be read.
pub fn entries(disk: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new("mdir")
        .args(["-b", "-i"])
        .arg(format!("{}@@{ESP_OFFSET}", disk.display()))
        .arg("::/EFI/Linux")
        .output()
        .context("failed to start mdir")?;
    let listed = String::from_utf8_lossy(&output.stdout);
    let name = |line: &str| Some(PathBuf::from(line).file_name()?.to_str()?.to_owned());
    let mut names: Vec<_> = listed.lines().filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// What is in a kernel image on the ESP.
///
/// # Errors
/// When it cannot be read.
pub fn kernel_image(disk: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let output = Command::new("mtype")
        .arg("-i")
        .arg(format!("{}@@{ESP_OFFSET}", disk.display()))
        .arg(format!("::/EFI/Linux/{name}"))
        .output()
        .context("failed to start mtype")?;
    ensure!(output.status.success(), "{name}: {:?}", output.stderr);
    Ok(output.stdout)
}

/// Flips one byte in each MiB of a slot's file system: whichever is read first is found. How long
/// that is the kernel's command line of the image says.
///
/// # Errors
/// When that does not say, or the disk cannot be read or written.
pub fn damage(disk: &Path, slot: Slot, cmdline: &str) -> anyhow::Result<()> {
    let file = File::options().read(true).write(true).open(disk)?;
    let mut byte = [0];
    for offset in (0..blocks(cmdline)? * BLOCK).step_by(1 << 20) {
        let place = slot.offset() + offset + 2000;
        file.read_exact_at(&mut byte, place)?;
        byte[0] ^= 0x10;
        file.write_all_at(&byte, place)?;
    }
    Ok(file.sync_all()?)
}

/// Blocks of the file system, as the kernel is told.
fn blocks(cmdline: &str) -> anyhow::Result<u64> {
    let mut words = cmdline.split(' ');
    let verity = words.find_map(|word| word.strip_prefix("ashlar.verity="));
    let blocks = verity.and_then(|verity| verity.split(':').next());
    Ok(blocks.context("nothing to verify")?.parse()?)
}
