//! vmdk: one sparse extent with its descriptor inside.
//!
//! ```text
//! header, descriptor ── directory ── table ── grain, or marker and compressed grain
//! stream-optimized: the directory is at the end, and a footer says where
//! ```

mod descriptor;
mod header;

use header::Header;

use crate::bytes::Fields;
use crate::packed::Codec;
use crate::read::window::Window;
use crate::read::{Layout, Run, Where};
use crate::{Format, ImageError, Source};

const FORMAT: Format = Format::Vmdk;
const SECTOR: u64 = 512;

/// A table's entry of a grain of zeros, where the header says that there are such.
const ZEROED: u32 = 1;

/// The place on the disk and the length, in front of a compressed grain.
const MARKER: u64 = 12;

#[derive(Debug)]
pub(super) struct Vmdk {
    header: Header,
    directory: Window,
    table: Window,
}

pub(super) fn open(source: &dyn Source) -> Result<(Vmdk, u64), ImageError> {
    let header = header::read(source)?;
    let size = header.size;
    let layout = Vmdk {
        header,
        directory: Window::new(FORMAT, "part of the grain directory"),
        table: Window::new(FORMAT, "part of a grain table"),
    };
    Ok((layout, size))
}

impl Layout for Vmdk {
    fn run(&mut self, source: &dyn Source, at: u64) -> Result<Run, ImageError> {
        let (grain, span) = (self.header.grain, self.header.span());
        let place = self.header.directory + at / span * 4;
        let table = u32::from_le_bytes(self.directory.entry(source, place)?);
        if table == 0 {
            return Ok(Run {
                length: span - at % span,
                place: Where::Hole,
            });
        }
        let place = u64::from(table) * SECTOR + at % span / grain * 4;
        let entry = u32::from_le_bytes(self.table.entry(source, place)?);
        let inside = at % grain;
        Ok(Run {
            length: grain - inside,
            place: match entry {
                0 => Where::Hole,
                ZEROED if self.header.zeroed_grains => Where::Zero,
                sector if self.header.compressed => self.packed(source, sector, at - inside)?,
                sector => Where::At(u64::from(sector) * SECTOR + inside),
            },
        })
    }
}

impl Vmdk {
    /// The compressed grain that begins at `unit` on the disk.
    fn packed(&self, source: &dyn Source, sector: u32, unit: u64) -> Result<Where, ImageError> {
        let at = u64::from(sector) * SECTOR;
        let marker: [u8; MARKER as usize] = super::header(source, FORMAT, "a grain", at)?;
        let (lba, length) = (Fields(&marker).le64(0), u64::from(Fields(&marker).le32(8)));
        if lba.checked_mul(SECTOR) != Some(unit) {
            let what = format!("the grain at byte {at} is of another place of the disk");
            return Err(ImageError::damaged(FORMAT, what));
        }
        // What does not compress grows by a little.
        if length == 0 || length > self.header.grain + self.header.grain / 2 {
            let what = format!("the grain at byte {at} has an impossible length");
            return Err(ImageError::damaged(FORMAT, what));
        }
        super::inside(source, FORMAT, "a grain", at + MARKER, length)?;
        Ok(Where::Packed {
            codec: Codec::Zlib,
            at: at + MARKER,
            length,
            unit,
            unit_size: self.header.grain,
        })
    }
}
