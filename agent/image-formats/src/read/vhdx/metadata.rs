//! What a vhdx says of its disk.

use super::header::Region;
use super::{FORMAT, MIB, damaged};
use crate::bytes::Fields;
use crate::detect::read as read_bytes;
use crate::{ImageError, Source};

const TABLE: u64 = 64 * 1024;
const MOST_ITEMS: u16 = 2047;
/// No item that is read is longer.
const LONGEST: u32 = 1 << 20;

/// GUIDs as they are stored: the first three parts little-endian.
const PARAMETERS: u128 = 0x3767_a1ca_36fa_434d_b3b6_33f0_aa44_e76b;
const SIZE: u128 = 0x2442_a52f_1bcd_7648_b211_5dbe_d83b_f4b8;
const SECTOR: u128 = 0x1dbf_4181_6fa9_0947_ba47_f233_a8fa_ab5f;
const PHYSICAL_SECTOR: u128 = 0xc748_a3cd_5d44_7144_9cc9_e988_5251_c556;
const IDENTIFIER: u128 = 0xab12_cabe_e6b2_2345_93ef_c309_e000_c746;
const PARENT: u128 = 0x2d5f_d3a8_0bb3_4d45_abf7_d3d8_4834_ab0c;

const HAS_PARENT: u32 = 2;
const REQUIRED: u32 = 4;
const LARGEST_DISK: u64 = 64 << 40;

#[derive(Debug)]
pub(super) struct Disk {
    /// Bytes of the disk.
    pub(super) size: u64,
    pub(super) block: u64,
    /// Bytes of a logical sector.
    pub(super) sector: u64,
}

pub(super) fn read(source: &dyn Source, region: Region) -> Result<Disk, ImageError> {
    if region.length < TABLE {
        return Err(damaged("its metadata is too short"));
    }
    let mut table = vec![0; TABLE as usize];
    read_bytes(source, region.at, &mut table)?;
    let count = Fields(&table).le16(10);
    if !table.starts_with(b"metadata") || count > MOST_ITEMS {
        return Err(damaged("its metadata has no sound table"));
    }
    let (mut parameters, mut size, mut sector) = (None, None, None);
    for entry in table[32..].chunks_exact(32).take(count.into()) {
        let fields = Fields(entry);
        let item = Item {
            at: fields.le32(16),
            length: fields.le32(20),
            region,
        };
        match u128::from_be_bytes(fields.array(0)) {
            PARAMETERS => parameters = Some(item.read::<8>(source)?),
            SIZE => size = Some(u64::from_le_bytes(item.read(source)?)),
            SECTOR => sector = Some(u32::from_le_bytes(item.read(source)?)),
            PARENT => return Err(needs_parent()),
            PHYSICAL_SECTOR | IDENTIFIER => {}
            _ if fields.le32(24) & REQUIRED == 0 => {}
            _ => return Err(ImageError::unsupported(FORMAT, "unknown metadata")),
        }
    }
    let (Some(parameters), Some(size), Some(sector)) = (parameters, size, sector) else {
        return Err(damaged("its metadata does not say its sizes"));
    };
    let parameters = Fields(&parameters);
    if parameters.le32(4) & HAS_PARENT != 0 {
        return Err(needs_parent());
    }
    disk(size, parameters.le32(0).into(), sector.into())
}

fn disk(size: u64, block: u64, sector: u64) -> Result<Disk, ImageError> {
    if !block.is_power_of_two() || !(MIB..=256 * MIB).contains(&block) {
        return Err(damaged("its block size is impossible"));
    }
    if !matches!(sector, 512 | 4096) {
        return Err(damaged("its sector size is impossible"));
    }
    if size > LARGEST_DISK || !size.is_multiple_of(sector) {
        return Err(damaged("its disk has an impossible size"));
    }
    Ok(Disk {
        size,
        block,
        sector,
    })
}

/// Where an item is, in its region.
struct Item {
    at: u32,
    length: u32,
    region: Region,
}

impl Item {
    fn read<const N: usize>(&self, source: &dyn Source) -> Result<[u8; N], ImageError> {
        let end = u64::from(self.at) + self.length.max(N as u32) as u64;
        if (self.length as usize) < N || self.length > LONGEST || end > self.region.length {
            return Err(damaged("an item of its metadata is out of place"));
        }
        let mut bytes = [0; N];
        read_bytes(source, self.region.at + u64::from(self.at), &mut bytes)?;
        Ok(bytes)
    }
}

fn needs_parent() -> ImageError {
    ImageError::OtherFile {
        format: FORMAT,
        what: "a parent",
    }
}
