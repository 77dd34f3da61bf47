//! The marks other formats leave in the first and last MiB of a device.
//!
//! They only make the description better: a device with no known mark and any byte that is not
//! zero still counts as holding something.

/// Where a mark is, counted from the front or back from the end.
enum Place {
    Start(usize),
    End(usize),
}

use Place::{End, Start};

#[rustfmt::skip]
const MARKS: &[(Place, &[u8], &str)] = &[
    (Start(0), b"LUKS\xba\xbe", "a LUKS encrypted device"),
    (Start(0), b"XFSB", "an XFS file system"),
    (Start(0x438), b"\x53\xef", "an ext2, ext3 or ext4 file system"),
    (Start(0x10040), b"_BHRfS_M", "a Btrfs file system"),
    (Start(0x10034), b"ReIsErFs", "a ReiserFS file system"),
    (Start(0x10034), b"ReIsEr2Fs", "a ReiserFS file system"),
    (Start(0x400), b"\x10\x20\xf5\xf2", "an F2FS file system"),
    (Start(0x8001), b"CD001", "an ISO 9660 file system"),
    (Start(3), b"NTFS    ", "an NTFS file system"),
    (Start(3), b"EXFAT   ", "an exFAT file system"),
    (Start(0x36), b"FAT1", "a FAT file system"),
    (Start(0x52), b"FAT32   ", "a FAT file system"),
    (Start(0), b"hsqs", "a squashfs image"),
    (Start(0), b"verity\0\0", "dm-verity hashes"),
    (Start(0xff6), b"SWAPSPACE2", "swap space"),
    (Start(0xff6), b"SWAP-SPACE", "swap space"),
    (Start(0x000), b"LABELONE", "an LVM2 physical volume"),
    (Start(0x200), b"LABELONE", "an LVM2 physical volume"),
    (Start(0x400), b"LABELONE", "an LVM2 physical volume"),
    (Start(0x600), b"LABELONE", "an LVM2 physical volume"),
    (Start(0x0000), b"\xfc\x4e\x2b\xa9", "a member of a Linux RAID (md)"),
    (Start(0x1000), b"\xfc\x4e\x2b\xa9", "a member of a Linux RAID (md)"),
    (End(0x02000), b"\xfc\x4e\x2b\xa9", "a member of a Linux RAID (md)"),
    (End(0x10000), b"\xfc\x4e\x2b\xa9", "a member of a Linux RAID (md)"),
    (End(0x200), b"\xde\x11\xde\x11", "a member of a firmware RAID (DDF)"),
    (End(0x400), b"Intel Raid ISM Cfg Sig. ", "a member of a firmware RAID (IMSM)"),
    (Start(0x20), b"\xba\x52\x9c\x01", "thin pool metadata"),
    (Start(0), b"BlueStore block device", "a Ceph OSD"),
    (Start(0x1018), b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca", "a bcache device"),
];

/// Whether a disk begins with a boot sector or an MBR partition table. One of the latter also
/// protects every GPT.
pub(super) fn has_boot_signature(head: &[u8]) -> bool {
    head.get(510..512) == Some(b"\x55\xaa")
}

/// What the first mark found stands for.
pub(super) fn recognise(head: &[u8], tail: &[u8]) -> Option<&'static str> {
    let found = |place: &Place, mark: &[u8]| {
        let at = match place {
            Start(offset) => head.get(*offset..),
            End(distance) => tail
                .len()
                .checked_sub(*distance)
                .and_then(|at| tail.get(at..)),
        };
        at.is_some_and(|bytes| bytes.starts_with(mark))
    };
    MARKS
        .iter()
        .find(|(place, mark, _)| found(place, mark))
        .map(|(_, _, name)| *name)
}
