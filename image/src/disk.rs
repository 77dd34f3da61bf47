//! The appliance's disk: what is where on it.
//!
//! | partition        | MiB from | MiB | what |
//! |------------------|---------:|----:|------|
//! | `ashlar-esp`     |        1 | 192 | FAT: boot loader, one kernel image for each slot |
//! | `ashlar-factory` |      193 |  16 | ext4: what a box is given once, where it is made |
//! | `ashlar-root-a`  |      209 | 250 | erofs and its hashes: the firmware |
//! | `ashlar-root-b`  |      459 | 250 | the same, or another firmware |
//! | `ashlar-state`   |      709 | 256 | ext4: what makes one box different from another |

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::{self, Type};
use uuid::Uuid;

use crate::BuildError;
use crate::command::run;
use crate::filesystem::Ext4;
use crate::recipe::EPOCH;
use crate::slot::{Root, Slot};

const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;

const ESP: Span = Span {
    start: 1,
    length: 192,
};
const FACTORY: Span = ESP.next(16);
const ROOT_A: Span = FACTORY.next(SLOT_SIZE);
const ROOT_B: Span = ROOT_A.next(SLOT_SIZE);
/// Last, so that it can be made to end where a larger disk does.
const STATE: Span = ROOT_B.next(256);
/// MiB that a firmware may take, with its hashes.
const SLOT_SIZE: u64 = 250;
/// The second copy of the partition table takes less than one MiB.
const TOTAL: u64 = STATE.next(1).end();

/// Names of disks and partitions, of which the last byte says which: the same in every image.
const UUIDS: Uuid = Uuid::from_u128(0xa5a1_a400_0000_4000_8000_0000_0000_0000);
/// The FAT's serial number.
const ESP_SERIAL: &str = "a5a1a400";

/// A part of the disk, in MiB.
struct Span {
    start: u64,
    length: u64,
}

impl Span {
    /// What follows it.
    const fn next(&self, length: u64) -> Self {
        Self {
            start: self.end(),
            length,
        }
    }

    const fn end(&self) -> u64 {
        self.start + self.length
    }

    fn of(slot: Slot) -> Self {
        match slot {
            Slot::A => ROOT_A,
            Slot::B => ROOT_B,
        }
    }
}

/// Where a slot begins, in bytes.
pub(crate) fn offset(slot: Slot) -> u64 {
    Span::of(slot).start * MIB
}

/// Where the ESP begins, in bytes: `mdir -i DISK@@OFFSET` lists it.
pub const ESP_OFFSET: u64 = ESP.start * MIB;

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

    /// Makes the ESP of a directory's content.
    pub(crate) fn write_esp(&self, content: &Path) -> Result<(), BuildError> {
        let offset = (ESP.start * MIB / SECTOR).to_string();
        let kilobytes = (ESP.length * 1024).to_string();
        let mut format = Command::new("mkfs.vfat");
        // One sector a cluster: with larger ones there would be too few of them for FAT32.
        format
            .args(["-F", "32", "-s", "1", "-n", "ASHLAR-ESP", "-i", ESP_SERIAL])
            .args(["--invariant", "--offset", &offset]);
        run(format.arg(self.path).arg(kilobytes))?;
        for path in tree(content)? {
            let mut date = Command::new("touch");
            run(date.args(["-d", &format!("@{EPOCH}")]).arg(&path))?;
            let to = path.strip_prefix(content).unwrap_or(&path);
            let to = format!("::/{}", to.display());
            let mut copy = Command::new(if path.is_dir() { "mmd" } else { "mcopy" });
            copy.env("SOURCE_DATE_EPOCH", EPOCH)
                .env("TZ", "UTC")
                .arg("-i")
                .arg(format!("{}@@{ESP_OFFSET}", self.path.display()));
            if !path.is_dir() {
                copy.args(["-m", "-Q"]).arg(&path);
            }
            run(copy.arg(to))?;
        }
        Ok(())
    }

    /// Puts a firmware's root into a slot.
    pub(crate) fn write_root(&self, slot: Slot, root: &Root) -> Result<(), BuildError> {
        let room = SLOT_SIZE * MIB;
        if root.size > room {
            return Err(BuildError::TooLarge {
                what: "the root file system",
                needed: root.size,
                room,
            });
        }
        let mut image = File::open(&root.image).map_err(BuildError::io("open", &root.image))?;
        let mut disk = File::options()
            .write(true)
            .open(self.path)
            .map_err(BuildError::io("open", self.path))?;
        disk.seek(SeekFrom::Start(offset(slot)))
            .and_then(|_| io::copy(&mut image, &mut disk))
            .map_err(BuildError::io("write", self.path))?;
        Ok(())
    }

    /// Makes the state file system of a directory's content, or an empty one.
    pub(crate) fn write_state(&self, content: Option<&Path>) -> Result<(), BuildError> {
        let state = Ext4 {
            label: "ashlar-state",
            uuid: uuid(0x15),
            offset: STATE.start * MIB,
            size: STATE.length * MIB,
            journal: Some(8),
        };
        state.write(self.path, content)
    }

    /// Makes an empty file system for what the box is given where it is made, and only there.
    pub(crate) fn write_factory(&self) -> Result<(), BuildError> {
        let factory = Ext4 {
            label: "ashlar-factory",
            uuid: uuid(0x12),
            offset: FACTORY.start * MIB,
            size: FACTORY.length * MIB,
            journal: Some(4),
        };
        factory.write(self.path, None)
    }
}

fn uuid(number: u8) -> Uuid {
    Uuid::from_u128(UUIDS.as_u128() | u128::from(number))
}

/// All that is below a directory, each directory before what is in it, in an order that does not
/// depend on the file system that they are in.
fn tree(directory: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let listed = fs::read_dir(directory).map_err(BuildError::io("list", directory))?;
    let mut paths = Vec::new();
    for entry in listed {
        let path = entry.map_err(BuildError::io("list", directory))?.path();
        if path.is_dir() {
            paths.extend(tree(&path)?);
        }
        paths.push(path);
    }
    paths.sort();
    Ok(paths)
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
        .create_from_device(file, Some(UUIDS))
        .map_err(io::Error::other)?;
    disk.update_partitions(BTreeMap::new())
        .map_err(io::Error::other)?;
    for (index, (name, span, kind)) in (1..).zip(table()) {
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
    let mut partitions = disk.partitions().clone();
    for (number, partition) in (1..).zip(partitions.values_mut()) {
        partition.part_guid = uuid(number);
    }
    disk.update_partitions(partitions)
        .map_err(io::Error::other)?;
    disk.write().map_err(io::Error::other).map(drop)
}

/// Which partitions there are, for the cache's key.
pub(crate) fn layout() -> String {
    let part = |(name, span, kind): (&str, Span, Type)| {
        let (start, end) = (span.start, span.end());
        format!("{name} {start} {end} {}", kind.guid)
    };
    table().map(part).join("\n")
}

/// Types as the Discoverable Partitions Specification has them, where it has.
fn table() -> [(&'static str, Span, Type); 5] {
    let root = |slot: Slot| {
        let kind = partition_types::LINUX_ROOT_X64;
        (slot.partition(), Span::of(slot), kind)
    };
    [
        ("ashlar-esp", ESP, partition_types::EFI),
        ("ashlar-factory", FACTORY, partition_types::LINUX_FS),
        root(Slot::A),
        root(Slot::B),
        ("ashlar-state", STATE, partition_types::LINUX_FS),
    ]
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn partitions_follow_each_other_and_end_before_the_second_table() {
        let mut end = 1;
        for (name, span, _) in table() {
            assert_eq!(span.start, end, "{name}");
            end += span.length;
        }
        assert_eq!(end + 1, TOTAL);
    }

    #[test]
    fn two_disks_have_the_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = ["one", "two"].map(|name| {
            let path = directory.path().join(name);
            Disk::create(&path).unwrap();
            let mut bytes = vec![0; 64 << 10];
            let mut file = File::open(&path).unwrap();
            file.read_exact(&mut bytes[..32 << 10]).unwrap();
            file.seek(SeekFrom::End(-(32 << 10))).unwrap();
            file.read_exact(&mut bytes[32 << 10..]).unwrap();
            bytes
        });
        assert!(bytes[0] == bytes[1], "the partition tables differ");
        assert!(bytes[0].iter().any(|byte| *byte != 0));
    }

    const FILES: [&str; 4] = [
        "EFI/BOOT/BOOTX64.EFI",
        "EFI/Linux/ashlar-1-b+3.efi",
        "EFI/Linux/ashlar-2-a+3.efi",
        "loader/loader.conf",
    ];

    fn fill(content: &Path, files: &[&str]) {
        for file in files {
            let path = content.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, file.repeat(100)).unwrap();
        }
    }

    #[test]
    fn what_is_in_a_directory_has_one_order() {
        let directory = tempfile::tempdir().unwrap();
        fill(directory.path(), &FILES);
        let mut expected = vec!["EFI", "EFI/BOOT", "EFI/Linux", "loader"];
        expected.extend(FILES);
        expected.sort_unstable();
        let expected: Vec<_> = expected
            .iter()
            .map(|at| directory.path().join(at))
            .collect();
        assert_eq!(tree(directory.path()).unwrap(), expected);
    }

    #[test]
    fn two_esps_of_the_same_files_have_the_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let (mut files, mut esps) = (FILES, Vec::new());
        for name in ["one", "two"] {
            let content = directory.path().join(name);
            fill(&content, &files);
            files.reverse();
            let esp = directory.path().join(format!("{name}.img"));
            Disk::create(&esp).unwrap().write_esp(&content).unwrap();
            esps.push(esp);
        }
        let mut compare = Command::new("cmp");
        compare.arg(format!("--bytes={}", ESP.end() * MIB));
        run(compare.args(&esps)).unwrap();
        // Nor does the day count, on which both were made.
        for place in ["::/", "::/EFI", "::/EFI/Linux", "::/loader"] {
            let mut list = Command::new("mdir");
            list.env("TZ", "UTC").arg("-i");
            list.arg(format!("{}@@{ESP_OFFSET}", esps[0].display()));
            let listed = String::from_utf8(run(list.arg(place)).unwrap()).unwrap();
            let date = |word: &&str| word.len() == 10 && word.matches('-').count() == 2;
            let dates: Vec<_> = listed.split_whitespace().filter(date).collect();
            assert!(!dates.is_empty(), "{listed}");
            assert!(dates.iter().all(|date| *date == "2026-01-01"), "{listed}");
        }
    }

    #[test]
    fn a_firmware_larger_than_its_slot_is_refused() {
        let root = Root {
            image: "root.img".into(),
            blocks: 0,
            size: SLOT_SIZE * MIB + 1,
            hash: String::new(),
        };
        let refused = Disk::existing(Path::new("disk.img")).write_root(Slot::A, &root);
        assert!(matches!(refused, Err(BuildError::TooLarge { .. })));
    }
}
