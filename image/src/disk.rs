//! The appliance's disk: what is where on it.
//!
//! | partition      | MiB from | MiB | what |
//! |----------------|---------:|----:|------|
//! | `ashlar-esp`   |        1 |  64 | FAT: boot loader, kernel, initial file system |
//! | `ashlar-root`  |       65 | 512 | ext4, read-only in use: the firmware |
//! | `ashlar-state` |      577 | 256 | ext4: what makes one box different from another |

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::Command;

use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types;

use crate::BuildError;
use crate::boot::Boot;
use crate::command::run;
use crate::filesystem::Ext4;

const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;

/// Name of the root partition and label of its file system.
pub(crate) const ROOT_NAME: &str = "ashlar-root";

const ESP: Span = Span {
    start: 1,
    length: 64,
};
const ROOT: Span = Span {
    start: 65,
    length: 512,
};
const STATE: Span = Span {
    start: 577,
    length: 256,
};
/// The second copy of the partition table takes less than one MiB.
const TOTAL: u64 = 577 + 256 + 1;

/// A part of the disk, in MiB.
struct Span {
    start: u64,
    length: u64,
}

/// A disk image in the making.
pub(crate) struct Disk<'a> {
    path: &'a Path,
}

impl<'a> Disk<'a> {
    /// Makes an empty, partitioned disk.
    pub(crate) fn create(path: &'a Path) -> Result<Self, BuildError> {
        let file = File::create(path).map_err(BuildError::io("create", path))?;
        file.set_len(TOTAL * MIB)
            .map_err(BuildError::io("size", path))?;
        partition(path).map_err(|source| BuildError::Partition {
            disk: path.to_owned(),
            source,
        })?;
        Ok(Self { path })
    }

    /// A disk that is there already.
    pub(crate) fn existing(path: &'a Path) -> Self {
        Self { path }
    }

    /// Fills the ESP: the loader, and one entry with this kernel command line.
    pub(crate) fn write_esp(&self, boot: &Boot, cmdline: &str) -> Result<(), BuildError> {
        let offset = (ESP.start * MIB / SECTOR).to_string();
        let kilobytes = (ESP.length * 1024).to_string();
        let mut format = Command::new("mkfs.vfat");
        // One sector a cluster: with larger ones there would be too few of them for FAT32.
        format.args([
            "-F",
            "32",
            "-s",
            "1",
            "-n",
            "ASHLAR-ESP",
            "--offset",
            &offset,
        ]);
        run(format.arg(self.path).arg(kilobytes))?;
        let directory = tempfile::tempdir().map_err(BuildError::io("create", Path::new("/tmp")))?;
        let stage = directory.path();
        fill_esp(stage, boot, cmdline)?;
        let mut copy = Command::new("mcopy");
        copy.args(["-s", "-Q", "-i"])
            .arg(format!("{}@@{}", self.path.display(), ESP.start * MIB));
        run(copy
            .arg(stage.join("EFI"))
            .arg(stage.join("loader"))
            .arg("::/"))
        .map(drop)
    }

    /// Makes the root file system of a directory's content.
    pub(crate) fn write_root(&self, content: &Path) -> Result<(), BuildError> {
        let root = Ext4 {
            label: ROOT_NAME,
            offset: ROOT.start * MIB,
            size: ROOT.length * MIB,
            journal: false,
        };
        root.write(self.path, content)
    }

    /// Makes the state file system of a directory's content.
    pub(crate) fn write_state(&self, content: &Path) -> Result<(), BuildError> {
        let state = Ext4 {
            label: "ashlar-state",
            offset: STATE.start * MIB,
            size: STATE.length * MIB,
            journal: true,
        };
        state.write(self.path, content)
    }
}

fn partition(path: &Path) -> io::Result<()> {
    let blocks = u32::try_from(TOTAL * MIB / SECTOR - 1).unwrap_or(u32::MAX);
    let mut file = File::options().read(true).write(true).open(path)?;
    ProtectiveMBR::with_lb_size(blocks)
        .overwrite_lba0(&mut file)
        .map_err(io::Error::other)?;
    let mut disk = gpt::GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(file, None)
        .map_err(io::Error::other)?;
    disk.update_partitions(BTreeMap::new())
        .map_err(io::Error::other)?;
    let spans = [
        ("ashlar-esp", ESP, partition_types::EFI),
        (ROOT_NAME, ROOT, partition_types::LINUX_ROOT_X64),
        ("ashlar-state", STATE, partition_types::LINUX_FS),
    ];
    for (index, (name, span, kind)) in (1..).zip(spans) {
        let sectors = |mib: u64| mib * MIB / SECTOR;
        disk.add_partition_at(
            name,
            index,
            sectors(span.start),
            sectors(span.length),
            kind,
            0,
        )
        .map_err(io::Error::other)?;
    }
    disk.write().map_err(io::Error::other).map(drop)
}

fn fill_esp(stage: &Path, boot: &Boot, cmdline: &str) -> Result<(), BuildError> {
    let entry = format!(
        "title Ashlar\nlinux /EFI/ashlar/linux\ninitrd /EFI/ashlar/initrd\noptions {cmdline}\n"
    );
    // No menu, and nobody at the console edits the command line.
    let loader = "timeout 0\neditor no\n";
    for directory in ["EFI/BOOT", "EFI/ashlar", "loader/entries"] {
        let directory = stage.join(directory);
        fs::create_dir_all(&directory).map_err(BuildError::io("create", &directory))?;
    }
    for (from, to) in [
        (&boot.loader, "EFI/BOOT/BOOTX64.EFI"),
        (&boot.kernel, "EFI/ashlar/linux"),
        (&boot.initrd, "EFI/ashlar/initrd"),
    ] {
        fs::copy(from, stage.join(to)).map_err(BuildError::io("copy", from))?;
    }
    for (to, text) in [
        ("loader/loader.conf", loader),
        ("loader/entries/ashlar.conf", &entry),
    ] {
        let to = stage.join(to);
        fs::write(&to, text).map_err(BuildError::io("write", &to))?;
    }
    Ok(())
}
