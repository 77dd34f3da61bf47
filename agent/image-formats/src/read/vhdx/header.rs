//! Headers, log and the table of regions.

use super::{FORMAT, MIB, damaged};
use crate::bytes::Fields;
use crate::detect::read as read_bytes;
use crate::read::{header, inside};
use crate::{ImageError, Source};

const KIB: u64 = 1024;
const SIGNATURE: &[u8; 8] = b"vhdxfile";
const HEADERS: [u64; 2] = [64 * KIB, 128 * KIB];
const HEADER: usize = 4096;
const REGIONS: [u64; 2] = [192 * KIB, 256 * KIB];
const REGION_TABLE: usize = 64 * 1024;
const MOST_REGIONS: u32 = 2047;

/// GUIDs as they are stored: the first three parts little-endian.
const TABLE: u128 = 0x6677_c22d_23f6_0042_9d64_115e_9bfd_4a08;
const METADATA: u128 = 0x06a2_7c8b_9047_9a4b_b8fe_575f_050f_886e;

#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    pub(super) at: u64,
    pub(super) length: u64,
}

#[derive(Debug)]
pub(super) struct Regions {
    pub(super) table: Region,
    pub(super) metadata: Region,
}

pub(super) fn read(source: &dyn Source) -> Result<Regions, ImageError> {
    let signature: [u8; 8] = header(source, FORMAT, "the signature", 0)?;
    if signature != *SIGNATURE {
        return Err(damaged("it has no vhdx signature"));
    }
    let newest = newest_header(source)?;
    check_log(source, &newest)?;
    let mut bytes = vec![0; REGION_TABLE];
    for at in REGIONS {
        inside(source, FORMAT, "the region table", at, REGION_TABLE as u64)?;
        read_bytes(source, at, &mut bytes)?;
        if bytes.starts_with(b"regi") && checksum_holds(&mut bytes) {
            return regions(source, &bytes);
        }
    }
    Err(damaged("neither of its region tables is sound"))
}

fn newest_header(source: &dyn Source) -> Result<[u8; HEADER], ImageError> {
    let mut newest: Option<[u8; HEADER]> = None;
    for at in HEADERS {
        let mut bytes: [u8; HEADER] = header(source, FORMAT, "a header", at)?;
        let sound = bytes.starts_with(b"head") && checksum_holds(&mut bytes);
        let sequence = |bytes: &[u8; HEADER]| Fields(bytes).le64(8);
        let newer = newest.is_none_or(|other| sequence(&bytes) > sequence(&other));
        if sound && newer {
            newest = Some(bytes);
        }
    }
    let newest = newest.ok_or_else(|| damaged("neither of its headers is sound"))?;
    match Fields(&newest).le16(66) {
        1 => Ok(newest),
        version => Err(ImageError::unsupported(
            FORMAT,
            format!("version {version}"),
        )),
    }
}

/// A log with entries holds changes that are not in the tables yet.
fn check_log(source: &dyn Source, newest: &[u8; HEADER]) -> Result<(), ImageError> {
    let fields = Fields(newest);
    let guid: [u8; 16] = fields.array(48);
    if guid == [0; 16] {
        return Ok(());
    }
    let (length, at) = (u64::from(fields.le32(68)), fields.le64(72));
    inside(source, FORMAT, "the log", at, length)?;
    for sector in (0..length).step_by(4096) {
        let entry: [u8; 64] = header(source, FORMAT, "the log", at + sector)?;
        if entry.starts_with(b"loge") && Fields(&entry).array(32) == guid {
            return Err(ImageError::unsupported(
                FORMAT,
                "changes in its log that were never brought in: it was not closed cleanly",
            ));
        }
    }
    Ok(())
}

/// CRC-32C of everything, its own four bytes taken as zero.
fn checksum_holds(bytes: &mut [u8]) -> bool {
    let stored = Fields(bytes).le32(4);
    bytes[4..8].fill(0);
    crc32c::crc32c(bytes) == stored
}

fn regions(source: &dyn Source, bytes: &[u8]) -> Result<Regions, ImageError> {
    let count = Fields(bytes).le32(8);
    if count > MOST_REGIONS {
        return Err(damaged("its region table has an impossible length"));
    }
    let (mut table, mut metadata) = (None, None);
    for entry in bytes[16..].chunks_exact(32).take(count as usize) {
        let fields = Fields(entry);
        let region = Region {
            at: fields.le64(16),
            length: fields.le32(24).into(),
        };
        let place = match u128::from_be_bytes(fields.array(0)) {
            TABLE => &mut table,
            METADATA => &mut metadata,
            _ if fields.le32(28) & 1 == 0 => continue,
            _ => return Err(ImageError::unsupported(FORMAT, "an unknown region")),
        };
        if region.at < MIB || !region.at.is_multiple_of(MIB) || place.is_some() {
            return Err(damaged("a region is out of place or there twice"));
        }
        inside(source, FORMAT, "a region", region.at, region.length)?;
        *place = Some(region);
    }
    match (table, metadata) {
        (Some(table), Some(metadata)) => Ok(Regions { table, metadata }),
        _ => Err(damaged("its table of blocks or its metadata is missing")),
    }
}
