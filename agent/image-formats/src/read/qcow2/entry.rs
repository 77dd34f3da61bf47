//! Entries of qcow2's tables.

use super::header::{Header, damaged};
use crate::ImageError;

/// A place in the image, in entries of either table.
const PLACE: u64 = 0x00ff_ffff_ffff_fe00;
/// Set where the reference count is one.
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;

/// Parts of a cluster in an image with subclusters.
pub(super) const SUBCLUSTERS: u64 = 32;

/// Where the L2 table of an L1 entry is, if there is one.
pub(super) fn table_at(entry: u64, cluster: u64) -> Result<Option<u64>, ImageError> {
    let at = entry & PLACE;
    if entry & !(PLACE | COPIED) != 0 || !at.is_multiple_of(cluster) {
        return Err(damaged(format!("{entry:#x} is no entry of an L1 table")));
    }
    Ok((at != 0).then_some(at))
}

/// What an entry of an L2 table says of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cluster {
    Hole,
    Zero,
    At(u64),
    /// The stream begins at a byte and ends inside a sector.
    Packed {
        at: u64,
        length: u64,
    },
}

impl Cluster {
    pub(super) fn read(entry: u64, header: &Header) -> Result<Cluster, ImageError> {
        if entry & COMPRESSED != 0 {
            return packed(entry, header);
        }
        let known = PLACE | COPIED | if header.zero_clusters { ZERO } else { 0 };
        let at = entry & PLACE;
        if entry & !known != 0 || !at.is_multiple_of(header.cluster()) {
            return Err(unknown(entry));
        }
        Ok(match (entry & ZERO != 0, at) {
            (true, _) => Cluster::Zero,
            (false, 0) => Cluster::Hole,
            (false, at) => Cluster::At(at),
        })
    }
}

fn packed(entry: u64, header: &Header) -> Result<Cluster, ImageError> {
    let bits = 62 - (header.cluster_bits - 8);
    let at = entry & ((1 << bits) - 1);
    let sectors = (entry & (COMPRESSED - 1)) >> bits;
    if entry & COPIED != 0 || at < header.cluster() {
        return Err(unknown(entry));
    }
    let length = (sectors + 1) * 512 - at % 512;
    Ok(Cluster::Packed { at, length })
}

fn unknown(entry: u64) -> ImageError {
    damaged(format!("{entry:#x} is no entry of an L2 table"))
}

/// An entry of an L2 table with subclusters: below the entry proper, a bit for each that has
/// data, and above those a bit for each that is zero.
#[derive(Debug)]
pub(super) struct Subclusters {
    cluster: Cluster,
    data: u32,
    zero: u32,
}

impl Subclusters {
    pub(super) fn read(entry: u128, header: &Header) -> Result<Subclusters, ImageError> {
        let (entry, bits) = ((entry >> 64) as u64, entry as u64);
        let (data, zero) = (bits as u32, (bits >> 32) as u32);
        // The bit that stands for a whole cluster of zeros is not used here.
        if entry & (COMPRESSED | ZERO) == ZERO {
            return Err(unknown(entry));
        }
        let cluster = Cluster::read(entry, header)?;
        let sound = match cluster {
            Cluster::Packed { .. } => bits == 0,
            Cluster::At(_) => data & zero == 0,
            Cluster::Hole | Cluster::Zero => data == 0,
        };
        match sound {
            true => Ok(Subclusters {
                cluster,
                data,
                zero,
            }),
            false => Err(damaged(format!("{bits:#x} says nonsense of subclusters"))),
        }
    }

    /// What the subcluster is, and where the ones end that are alike.
    pub(super) fn from(&self, index: u64) -> (Cluster, u64) {
        let what = self.one(index);
        let alike = (index..SUBCLUSTERS).take_while(|other| self.one(*other) == what);
        (what, alike.last().unwrap_or(index) + 1)
    }

    fn one(&self, index: u64) -> Cluster {
        let set = |bits: u32| bits >> index & 1 == 1;
        match self.cluster {
            Cluster::Packed { .. } => self.cluster,
            _ if set(self.zero) => Cluster::Zero,
            _ if set(self.data) => self.cluster,
            _ => Cluster::Hole,
        }
    }
}
