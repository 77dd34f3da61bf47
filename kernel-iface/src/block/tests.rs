//! Disks in memory, cut off from power at every place, and filled with whatever comes.

use std::cell::RefCell;
use std::path::Path;

use ashlar_targetd_protocol::{Bytes, Sectors};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const MIB: u64 = 1 << 20;

#[derive(Clone, Debug)]
enum Done {
    Write(usize, Vec<u8>),
    Flush,
}

/// A disk in memory that remembers what was done to it.
#[derive(Debug)]
struct MemoryDisk {
    bytes: RefCell<Vec<u8>>,
    done: RefCell<Vec<Done>>,
    logical_block: u64,
}

impl MemoryDisk {
    fn zeroed(size: u64, logical_block: u64) -> Self {
        Self::holding(vec![0; size as usize], logical_block)
    }

    fn holding(bytes: Vec<u8>, logical_block: u64) -> Self {
        MemoryDisk {
            bytes: RefCell::new(bytes),
            done: RefCell::default(),
            logical_block,
        }
    }

    fn put(&self, at: usize, bytes: &[u8]) {
        self.bytes.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl BlockDevice for MemoryDisk {
    fn number(&self) -> DeviceNumber {
        DeviceNumber { major: 8, minor: 0 }
    }

    fn size(&self) -> Bytes {
        Bytes(self.bytes.borrow().len() as u64)
    }

    fn logical_block(&self) -> Bytes {
        Bytes(self.logical_block)
    }

    fn read_at(&self, at: Bytes, buffer: &mut [u8]) -> Result<(), BlockError> {
        check_span(self, BlockOperation::Read, at, buffer.len() as u64)?;
        buffer.copy_from_slice(&self.bytes.borrow()[at.0 as usize..][..buffer.len()]);
        Ok(())
    }

    fn write_at(&self, at: Bytes, data: &[u8]) -> Result<(), BlockError> {
        check_span(self, BlockOperation::Write, at, data.len() as u64)?;
        self.put(at.0 as usize, data);
        let write = Done::Write(at.0 as usize, data.to_vec());
        self.done.borrow_mut().push(write);
        Ok(())
    }

    fn discard(&self, at: Bytes, length: Bytes) -> Result<(), BlockError> {
        check_span(self, BlockOperation::Discard, at, length.0)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.done.borrow_mut().push(Done::Flush);
        Ok(())
    }
}

fn label() -> PoolLabel {
    PoolLabel {
        pool: Uuid::from_u128(0xa5),
        index: 0,
        count: 1,
        metadata: Sectors(8192),
        block: Sectors(128),
        metadata_room: Sectors(8192),
        catalog: Sectors(0),
        tenure: Tenure::default(),
        set: None,
    }
}

#[test]
fn a_formatted_disk_reads_back_its_pool() {
    for logical_block in [512, 4096] {
        let disk = MemoryDisk::zeroed(16 * MIB, logical_block);
        assert_eq!(probe(&disk).unwrap(), DiskContent::Blank);
        let partition = format_disk(&disk, &label()).unwrap();
        assert_eq!(
            partition,
            PoolPartition {
                start: Bytes(MIB),
                length: Bytes(14 * MIB),
            }
        );
        assert_eq!(partition.payload(), Some((Bytes(2 * MIB), Bytes(13 * MIB))));
        let content = DiskContent::Pool {
            label: label(),
            partition,
        };
        assert_eq!(probe(&disk).unwrap(), content);
    }
}

#[test]
fn a_disk_of_odd_size_is_used_up_to_its_last_whole_mebibyte() {
    let disk = MemoryDisk::zeroed(16 * MIB + 7 * 512, 512);
    let partition = format_disk(&disk, &label()).unwrap();
    assert_eq!(partition.length, Bytes(14 * MIB));
    assert!(matches!(probe(&disk).unwrap(), DiskContent::Pool { .. }));
}

#[test]
fn a_disk_without_room_for_data_is_refused() {
    let disk = MemoryDisk::zeroed(3 * MIB, 512);
    let refused = format_disk(&disk, &label());
    assert!(matches!(refused, Err(BlockError::TooSmall { .. })));
    assert!(disk.done.borrow().is_empty());
}

#[test]
fn either_copy_of_table_and_label_is_enough() {
    let disk = MemoryDisk::zeroed(16 * MIB, 512);
    let partition = format_disk(&disk, &label()).unwrap();
    let content = DiskContent::Pool {
        label: label(),
        partition,
    };
    disk.put(512, &[0; 512]);
    disk.put(MIB as usize, &[0; 4096]);
    assert_eq!(probe(&disk).unwrap(), content);
}

#[test]
fn a_wiped_disk_is_blank() {
    let disk = MemoryDisk::holding(vec![0x5a; 16 * MIB as usize], 512);
    assert_ne!(probe(&disk).unwrap(), DiskContent::Blank);
    wipe_disk(&disk).unwrap();
    assert_eq!(probe(&disk).unwrap(), DiskContent::Blank);
    format_disk(&disk, &label()).unwrap();
    wipe_disk(&disk).unwrap();
    assert_eq!(probe(&disk).unwrap(), DiskContent::Blank);
}

#[test]
fn a_wipe_spares_the_middle_of_the_disk() {
    let disk = MemoryDisk::holding(vec![0x5a; 16 * MIB as usize], 512);
    wipe_disk(&disk).unwrap();
    let bytes = disk.bytes.borrow();
    assert!(
        bytes[2 * MIB as usize..15 * MIB as usize]
            .iter()
            .all(|byte| *byte == 0x5a)
    );
}

#[test]
fn what_others_left_is_named_and_never_blank() {
    let cases: [(usize, &[u8], &str); 8] = [
        (0x438, b"\x53\xef", "an ext2, ext3 or ext4 file system"),
        (0, b"XFSB", "an XFS file system"),
        (0x200, b"LABELONE", "an LVM2 physical volume"),
        (0, b"LUKS\xba\xbe", "a LUKS encrypted device"),
        (0xff6, b"SWAPSPACE2", "swap space"),
        (0x10040, b"_BHRfS_M", "a Btrfs file system"),
        (510, b"\x55\xaa", "a boot sector or an MBR partition table"),
        (
            16 * MIB as usize - 0x10000,
            b"\xfc\x4e\x2b\xa9",
            "a member of a Linux RAID (md)",
        ),
    ];
    for (at, mark, name) in cases {
        let disk = MemoryDisk::zeroed(16 * MIB, 512);
        disk.put(at, mark);
        assert_eq!(probe(&disk).unwrap(), DiskContent::Foreign(name.to_owned()));
    }
}

#[test]
fn one_unknown_byte_near_an_end_is_not_blank() {
    for at in [0, MIB - 1, 15 * MIB, 16 * MIB - 1] {
        let disk = MemoryDisk::zeroed(16 * MIB, 512);
        disk.put(at as usize, &[1]);
        let content = DiskContent::Foreign("unknown data".to_owned());
        assert_eq!(probe(&disk).unwrap(), content, "{at}");
    }
}

#[test]
fn a_label_among_the_data_of_others_does_not_make_the_disk_ours() {
    let disk = MemoryDisk::zeroed(16 * MIB, 512);
    format_disk(&disk, &label()).unwrap();
    disk.put(0, &[0; 34 * 512]);
    disk.put(0x438, b"\x53\xef");
    assert!(matches!(probe(&disk).unwrap(), DiskContent::Foreign(_)));
}

#[test]
fn our_partition_without_a_label_is_not_taken_for_a_pool() {
    let disk = MemoryDisk::zeroed(16 * MIB, 512);
    format_disk(&disk, &label()).unwrap();
    disk.put(MIB as usize, &[0; MIB as usize]);
    let what = "an Ashlar partition without a readable label".to_owned();
    assert_eq!(probe(&disk).unwrap(), DiskContent::Foreign(what));
}

#[test]
fn a_hostile_table_is_only_called_unusual() {
    let disk = MemoryDisk::zeroed(16 * MIB, 512);
    format_disk(&disk, &label()).unwrap();
    disk.put(MIB as usize, &[0; MIB as usize]);
    for (entries, size) in [
        (128_u32, 64_u32),
        (u32::MAX, 128),
        (0, 128),
        (1024, u32::MAX),
    ] {
        for header in [512, 16 * MIB as usize - 512] {
            disk.put(header + 80, &entries.to_le_bytes());
            disk.put(header + 84, &size.to_le_bytes());
            // A correct checksum, so that nothing but the numbers is wrong.
            disk.put(header + 16, &[0; 4]);
            let crc = crc32fast::hash(&disk.bytes.borrow()[header..header + 92]);
            disk.put(header + 16, &crc.to_le_bytes());
        }
        let what = "a damaged or unusual GPT".to_owned();
        assert_eq!(probe(&disk).unwrap(), DiskContent::Foreign(what));
    }
}

#[test]
fn only_a_zero_superblock_counts_as_new_metadata() {
    let disk = MemoryDisk::zeroed(4 * MIB, 512);
    let at = Bytes(2 * MIB);
    let state = || metadata_state(&disk, at).unwrap();
    assert_eq!(state(), MetadataState::Zero);
    disk.put(2 * MIB as usize + 4095, &[1]);
    assert_eq!(state(), MetadataState::Unknown);
    disk.put(2 * MIB as usize + 32, &27_022_010_u64.to_le_bytes());
    assert_eq!(state(), MetadataState::Formatted);
    assert!(pool_size(&disk, at).unwrap().is_some());
    zero_metadata_superblock(&disk, at).unwrap();
    assert_eq!(state(), MetadataState::Zero);
    assert_eq!(pool_size(&disk, at).unwrap(), None);
}

/// The superblock of a pool of 5000 data blocks as `thin_restore` writes it.
fn restored() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let (xml, image) = (directory.path().join("xml"), directory.path().join("image"));
    let described = r#"<superblock uuid="" time="0" transaction="1" flags="0" version="2"
        data_block_size="128" nr_data_blocks="5000"></superblock>"#;
    std::fs::write(&xml, described).unwrap();
    let device = std::fs::File::create(&image).unwrap();
    device.set_len(4 * MIB).unwrap();
    let output = std::process::Command::new("thin_restore")
        .args([Path::new("-i"), &xml, Path::new("-o"), &image])
        .output();
    let output = output.unwrap_or_else(|error| {
        panic!("thin_restore: {error}; the Debian package thin-provisioning-tools has it")
    });
    assert!(output.status.success(), "{output:?}");
    std::fs::read(&image).unwrap()
}

#[test]
fn the_size_of_a_pool_is_where_other_tools_write_it() {
    let disk = MemoryDisk::zeroed(8 * MIB, 512);
    disk.put(2 * MIB as usize, &restored());
    // The root of a state that is held for a reader, which is no size.
    disk.put(2 * MIB as usize + 56, &7_u64.to_le_bytes());
    let size = PoolSize {
        data_blocks: 5000,
        metadata_blocks: 1024,
    };
    assert_eq!(pool_size(&disk, Bytes(2 * MIB)).unwrap(), Some(size));
}

#[test]
fn a_read_or_write_outside_the_disk_is_refused() {
    let disk = MemoryDisk::zeroed(MIB, 512);
    for (at, length) in [(MIB, 512), (u64::MAX - 511, 512), (1, 512), (0, 100)] {
        let refused = disk.read_at(Bytes(at), &mut vec![0; length]);
        assert!(matches!(refused, Err(BlockError::Span { .. })), "{at}");
    }
}

/// What a disk can hold after a power cut: everything flushed, and any of the sectors written
/// since, chosen by `keep`.
fn after_cut(before: &[u8], done: &[Done], cut: usize, mut keep: impl FnMut() -> bool) -> Vec<u8> {
    let mut bytes = before.to_vec();
    let lasting = done[..cut]
        .iter()
        .rposition(|step| matches!(step, Done::Flush));
    for (index, step) in done[..cut].iter().enumerate() {
        let Done::Write(at, data) = step else {
            continue;
        };
        let flushed = lasting.is_some_and(|flush| index < flush);
        for (sector, part) in data.chunks(512).enumerate() {
            if flushed || keep() {
                let at = at + sector * 512;
                bytes[at..at + part.len()].copy_from_slice(part);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whichever sectors of a format reached the disk, formatting for the same pool can go on.
    #[test]
    fn a_power_cut_while_formatting_leaves_nothing_unknown(
        seed in any::<u64>(),
        logical_block in prop_oneof![Just(512_u64), Just(4096)],
    ) {
        let disk = MemoryDisk::zeroed(4 * MIB, logical_block);
        let before = disk.bytes.borrow().clone();
        format_disk(&disk, &label()).unwrap();
        let done = disk.done.borrow().clone();
        let mut random = seed;
        for cut in 0..=done.len() {
            let bytes = after_cut(&before, &done, cut, || {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                random >> 63 == 1
            });
            let cut_disk = MemoryDisk::holding(bytes, logical_block);
            let content = probe(&cut_disk).unwrap();
            let known = match &content {
                DiskContent::Blank => true,
                DiskContent::Unfinished(found) | DiskContent::Pool { label: found, .. } => {
                    *found == label()
                }
                DiskContent::Foreign(_) => false,
            };
            prop_assert!(known, "{content:?} after {cut} of {} steps", done.len());
            if cut == done.len() {
                let whole = matches!(content, DiskContent::Pool { .. });
                prop_assert!(whole, "{content:?} after the last step");
            }
            format_disk(&cut_disk, &label()).unwrap();
            let content = probe(&cut_disk).unwrap();
            let whole = matches!(content, DiskContent::Pool { .. });
            prop_assert!(whole, "{content:?} after formatting again");
        }
    }

    /// Whichever sectors of a new label reached the disk, it has the old one or the new one.
    #[test]
    fn a_power_cut_while_relabelling_leaves_one_whole_label(
        seed in any::<u64>(),
        damaged in any::<bool>(),
    ) {
        let disk = MemoryDisk::zeroed(4 * MIB, 512);
        format_disk(&disk, &label()).unwrap();
        if damaged {
            disk.put(MIB as usize, &[7; 512]);
        }
        let before = disk.bytes.borrow().clone();
        disk.done.borrow_mut().clear();
        let grown = PoolLabel { count: 2, metadata: Sectors(16_384), ..label() };
        relabel_disk(&disk, &grown).unwrap();
        let done = disk.done.borrow().clone();
        let mut random = seed;
        for cut in 0..=done.len() {
            let bytes = after_cut(&before, &done, cut, || {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                random >> 63 == 1
            });
            let content = probe(&MemoryDisk::holding(bytes, 512)).unwrap();
            let found = match content {
                DiskContent::Pool { label, .. } => label,
                other => panic!("{other:?} after {cut} of {} steps", done.len()),
            };
            prop_assert!(found == grown || (found == label() && cut < done.len()), "{found:?}");
        }
    }

    #[test]
    fn no_bytes_on_a_disk_can_panic_the_probe(
        pieces in proptest::collection::vec((0..4096_u64, proptest::collection::vec(any::<u8>(), 1..600)), 0..8),
        formatted in any::<bool>(),
    ) {
        let disk = MemoryDisk::zeroed(4 * MIB, 512);
        if formatted {
            format_disk(&disk, &label()).unwrap();
        }
        for (sector, bytes) in pieces {
            // Around the header and its copy, where there is something to break.
            let at = [512 + sector as usize, 4 * MIB as usize - 512 - sector as usize * 4];
            at.iter().for_each(|at| disk.put(*at, &bytes[..bytes.len().min(512)]));
        }
        prop_assert!(probe(&disk).is_ok());
    }
}
