//! The header of a sparse extent, and the footer that replaces it in a stream.

use super::{FORMAT, SECTOR, descriptor};
use crate::bytes::Fields;
use crate::packed::LARGEST;
use crate::read::{header, inside};
use crate::{ImageError, Source};

const MAGIC: &[u8; 4] = b"KDMV";
const COWD: &[u8; 4] = b"COWD";
const SE_SPARSE: &[u8; 8] = b"\xbe\xba\xfe\xca\0\0\0\0";
const TEXT: &[u8] = b"# Disk";

const ZEROED_GRAINS: u32 = 1 << 2;
const COMPRESSED: u32 = 1 << 16;
const DEFLATE: u16 = 1;

/// The directory's place when the footer has the true one.
const AT_END: u64 = u64::MAX;
const FOOTER_MARKER: u32 = 3;

/// 64 TiB, more than the format's makers allow.
const LARGEST_DISK: u64 = 64 << 40;

#[derive(Debug)]
pub(super) struct Header {
    /// Bytes of the disk.
    pub(super) size: u64,
    /// Bytes of a grain.
    pub(super) grain: u64,
    /// Where the directory is.
    pub(super) directory: u64,
    pub(super) entries: u64,
    pub(super) compressed: bool,
    pub(super) zeroed_grains: bool,
}

impl Header {
    /// Bytes of the disk that one table maps.
    pub(super) fn span(&self) -> u64 {
        self.grain * self.entries
    }
}

pub(super) fn read(source: &dyn Source) -> Result<Header, ImageError> {
    signature(source)?;
    let first = sector(source, "the header", 0)?;
    let fields = Fields(&first);
    let (capacity, at, length) = (fields.le64(12), fields.le64(28), fields.le64(36));
    descriptor::check(source, at, length, capacity)?;
    if fields.le64(56) != AT_END {
        return parse(source, &first);
    }
    let last = footer(source)?;
    if Fields(&last).le64(12) != capacity || Fields(&last).le64(56) == AT_END {
        return Err(damaged("its footer contradicts its header"));
    }
    parse(source, &last)
}

fn signature(source: &dyn Source) -> Result<(), ImageError> {
    let first: [u8; 8] = header(source, FORMAT, "the header", 0)?;
    if first.starts_with(MAGIC) {
        return Ok(());
    }
    if first.starts_with(TEXT) {
        return Err(ImageError::OtherFile {
            format: FORMAT,
            what: "it is a descriptor of extents elsewhere",
        });
    }
    if first.starts_with(COWD) || first == *SE_SPARSE {
        return Err(unsupported("the layout of a hypervisor's redo log"));
    }
    Err(damaged("it has no vmdk signature"))
}

/// Between a marker and the stream's end marker, in the last three sectors.
fn footer(source: &dyn Source) -> Result<[u8; 512], ImageError> {
    let Some(at) = source.length().checked_sub(3 * SECTOR) else {
        return Err(damaged("it has no footer"));
    };
    let marker = sector(source, "the footer's marker", at)?;
    let footer = sector(source, "the footer", at + SECTOR)?;
    let end = sector(source, "the end marker", at + 2 * SECTOR)?;
    let marked = Fields(&marker).le32(12) == FOOTER_MARKER && Fields(&marker).le32(8) == 0;
    if !marked || !footer.starts_with(MAGIC) || end.iter().any(|byte| *byte != 0) {
        return Err(damaged("its footer is missing; it may be cut short"));
    }
    Ok(footer)
}

fn parse(source: &dyn Source, bytes: &[u8; 512]) -> Result<Header, ImageError> {
    let fields = Fields(bytes);
    let (version, flags) = (fields.le32(4), fields.le32(8));
    if !(1..=3).contains(&version) {
        return Err(unsupported(format!("version {version}")));
    }
    let compressed = flags & COMPRESSED != 0;
    let method = fields.le16(77);
    if compressed && method != DEFLATE {
        return Err(unsupported(format!("the compression method {method}")));
    }
    let (capacity, grain) = (fields.le64(12), fields.le64(20));
    if !grain.is_power_of_two() || !(8..=LARGEST / SECTOR).contains(&grain) {
        return Err(damaged("its grains are not between 4 KiB and 2 MiB"));
    }
    if capacity > LARGEST_DISK / SECTOR {
        return Err(damaged("its disk is larger than 64 TiB"));
    }
    let entries = u64::from(fields.le32(44));
    if !entries.is_power_of_two() || !(1..=65_536).contains(&entries) {
        return Err(damaged("its grain tables have an impossible length"));
    }
    let directory = fields.le64(56);
    if directory == 0 || directory > u64::MAX / SECTOR {
        return Err(damaged("it has no grain directory"));
    }
    let header = Header {
        size: capacity * SECTOR,
        grain: grain * SECTOR,
        directory: directory * SECTOR,
        entries,
        compressed,
        zeroed_grains: flags & ZEROED_GRAINS != 0,
    };
    let tables = header.size.div_ceil(header.span());
    let what = "the grain directory";
    inside(source, FORMAT, what, header.directory, tables * 4)?;
    Ok(header)
}

fn sector(source: &dyn Source, what: &'static str, at: u64) -> Result<[u8; 512], ImageError> {
    header(source, FORMAT, what, at)
}

fn damaged(what: &str) -> ImageError {
    ImageError::damaged(FORMAT, what)
}

fn unsupported(what: impl Into<String>) -> ImageError {
    ImageError::unsupported(FORMAT, what)
}
