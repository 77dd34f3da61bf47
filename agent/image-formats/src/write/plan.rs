//! What must be known of a disk before its image is begun.

use super::blocks::Blocks;
use super::layout::Clusters;
use super::{vhd, vhdx};
use crate::Format;

const SECTOR: u64 = 512;

/// A disk that a format has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a disk of {size} bytes does not fit a {format} image: {why}")]
pub struct Unwritable {
    /// The format.
    pub format: Format,
    /// Bytes of the disk.
    pub size: u64,
    /// Which rule it breaks.
    pub why: &'static str,
}

/// A disk and where its data is, as far as the format wants to know.
#[derive(Clone, Debug)]
pub struct Plan {
    format: Format,
    size: u64,
    pub(super) needs: Needs,
}

#[derive(Clone, Debug)]
pub(super) enum Needs {
    /// Raw, and what is written as it comes.
    Nothing,
    Clusters(Clusters),
    Blocks(Blocks),
}

impl Plan {
    /// An empty disk of `size` bytes.
    pub fn new(format: Format, size: u64) -> Result<Plan, Unwritable> {
        let refused = |why| Err(Unwritable { format, size, why });
        if format != Format::Raw && !size.is_multiple_of(SECTOR) {
            return refused("it is not made of whole sectors");
        }
        let largest = match format {
            Format::Raw | Format::Qcow2 => 1 << 53,
            Format::Vmdk | Format::Vhdx => 64 << 40,
            Format::Vhd => vhd::LARGEST,
        };
        if size > largest {
            return refused("it is too large");
        }
        let needs = match format {
            Format::Raw | Format::Vmdk => Needs::Nothing,
            Format::Qcow2 => Needs::Clusters(Clusters::new(size)),
            Format::Vhd => Needs::Blocks(Blocks::new(size, vhd::BLOCK)),
            Format::Vhdx => Needs::Blocks(Blocks::new(size, vhdx::block(size))),
        };
        Ok(Plan {
            format,
            size,
            needs,
        })
    }

    /// The format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds data, which lies inside the disk and behind all that was added before.
    ///
    /// # Panics
    /// When it does not lie inside.
    pub fn add(&mut self, offset: u64, length: u64) {
        let end = offset.checked_add(length);
        assert!(end.is_some_and(|end| end <= self.size), "outside the disk");
        if length == 0 {
            return;
        }
        match &mut self.needs {
            Needs::Nothing => {}
            Needs::Clusters(clusters) => clusters.add(offset, length),
            Needs::Blocks(blocks) => blocks.add(offset, length),
        }
    }

    /// Bytes of the image; unknown when that depends on how well the data compresses.
    pub fn length(&self) -> Option<u64> {
        match (&self.needs, self.format) {
            (Needs::Nothing, Format::Raw) => Some(self.size),
            (Needs::Nothing, _) => None,
            (Needs::Clusters(clusters), _) => Some(clusters.length()),
            (Needs::Blocks(blocks), Format::Vhd) => Some(vhd::length(blocks)),
            (Needs::Blocks(blocks), _) => Some(vhdx::length(blocks)),
        }
    }
}
