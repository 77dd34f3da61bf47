//! qcow2's header: what is read and what is refused.

use crate::bytes::Fields;
use crate::packed::Codec;
use crate::read::{header, inside};
use crate::{Format, ImageError, Source};

const FORMAT: Format = Format::Qcow2;
const MAGIC: u32 = 0x5146_49fb;

/// QEMU's own limits: clusters from 512 bytes to 2 MiB, an L1 table of 32 MiB.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
const L1_ENTRIES: u64 = 4 << 20;

/// Incompatible features. A dirty image has wrong reference counts, which nobody reads here.
const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const SUBCLUSTERS: u64 = 1 << 4;

#[derive(Debug)]
pub(super) struct Header {
    /// Bytes of the disk.
    pub(super) size: u64,
    pub(super) cluster_bits: u32,
    /// Where the L1 table is.
    pub(super) l1: u64,
    /// Version 2 knows no zero clusters.
    pub(super) zero_clusters: bool,
    pub(super) subclusters: bool,
    pub(super) codec: Codec,
}

impl Header {
    pub(super) fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes of the disk that one L2 table maps.
    pub(super) fn span(&self) -> u64 {
        let entry_bits = if self.subclusters { 4 } else { 3 };
        1 << (2 * self.cluster_bits - entry_bits)
    }
}

pub(super) fn read(source: &dyn Source) -> Result<Header, ImageError> {
    let bytes: [u8; 72] = header(source, FORMAT, "the header", 0)?;
    let fields = Fields(&bytes);
    if fields.be32(0) != MAGIC {
        return Err(damaged("it has no qcow2 signature"));
    }
    if fields.be64(8) != 0 {
        let what = "a backing file";
        return Err(ImageError::OtherFile {
            format: FORMAT,
            what,
        });
    }
    match fields.be32(32) {
        0 => {}
        1 => return Err(encrypted("AES")),
        2 => return Err(encrypted("LUKS")),
        _ => return Err(encrypted("an unknown method")),
    }
    let features = match fields.be32(4) {
        2 => Features::version_2(),
        3 => Features::read(source)?,
        version => return Err(unsupported(format!("version {version}"))),
    };
    let cluster_bits = fields.be32(20);
    if !CLUSTER_BITS.contains(&cluster_bits) {
        return Err(damaged(
            "its cluster size is not between 512 bytes and 2 MiB",
        ));
    }
    if features.subclusters && cluster_bits < 14 {
        return Err(damaged("its clusters are too small for subclusters"));
    }
    let header = Header {
        size: fields.be64(24),
        cluster_bits,
        l1: fields.be64(40),
        zero_clusters: features.zero_clusters,
        subclusters: features.subclusters,
        codec: features.codec,
    };
    check_table(source, &header, fields.be32(36).into())?;
    Ok(header)
}

/// The L1 table must be whole and large enough for the disk.
fn check_table(source: &dyn Source, header: &Header, entries: u64) -> Result<(), ImageError> {
    if header.size > i64::MAX as u64 {
        return Err(damaged("its disk is larger than any can be"));
    }
    let needed = header.size.div_ceil(header.span());
    if entries > L1_ENTRIES || needed > L1_ENTRIES {
        return Err(damaged("its L1 table is larger than 32 MiB"));
    }
    if entries < needed {
        return Err(damaged("its L1 table is too small for its disk"));
    }
    if !header.l1.is_multiple_of(header.cluster()) || (header.l1 == 0 && needed > 0) {
        return Err(damaged("its L1 table is not at a cluster's beginning"));
    }
    inside(source, FORMAT, "the L1 table", header.l1, needed * 8)
}

/// What version 3 may add.
struct Features {
    zero_clusters: bool,
    subclusters: bool,
    codec: Codec,
}

impl Features {
    fn version_2() -> Features {
        Features {
            zero_clusters: false,
            subclusters: false,
            codec: Codec::Deflate,
        }
    }

    fn read(source: &dyn Source) -> Result<Features, ImageError> {
        let bytes: [u8; 32] = header(source, FORMAT, "the header", 72)?;
        let fields = Fields(&bytes);
        let (incompatible, length) = (fields.be64(0), fields.be32(28));
        if !(104..=4096).contains(&length) || !length.is_multiple_of(8) {
            return Err(damaged("its header has an impossible length"));
        }
        let known = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | SUBCLUSTERS;
        if incompatible & !known != 0 {
            let unknown = incompatible & !known;
            return Err(unsupported(format!("the features {unknown:#x}")));
        }
        if incompatible & DATA_FILE != 0 {
            return Err(ImageError::OtherFile {
                format: FORMAT,
                what: "an external data file",
            });
        }
        if incompatible & CORRUPT != 0 {
            return Err(damaged("it says so itself"));
        }
        Ok(Features {
            zero_clusters: true,
            subclusters: incompatible & SUBCLUSTERS != 0,
            codec: codec(source, length, incompatible & COMPRESSION != 0)?,
        })
    }
}

fn codec(source: &dyn Source, length: u32, other: bool) -> Result<Codec, ImageError> {
    let method = match length {
        104 => 0,
        _ => header::<1>(source, FORMAT, "the header", 104)?[0],
    };
    match (method, other) {
        (0, false) => Ok(Codec::Deflate),
        (1, true) => Ok(Codec::Zstd),
        (0, true) | (1, false) => Err(damaged("it contradicts itself about its compression")),
        (method, _) => Err(unsupported(format!("the compression method {method}"))),
    }
}

pub(super) fn damaged(what: impl Into<String>) -> ImageError {
    ImageError::damaged(FORMAT, what)
}

fn unsupported(what: String) -> ImageError {
    ImageError::unsupported(FORMAT, what)
}

fn encrypted(method: &'static str) -> ImageError {
    ImageError::Encrypted {
        format: FORMAT,
        method,
    }
}
