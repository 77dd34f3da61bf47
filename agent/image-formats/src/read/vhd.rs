//! vhd: a footer at the end, and for a dynamic disk a table of blocks.
//!
//! The disk's size is the footer's "current size". QEMU reads the geometry's product instead for
//! some makers' images; the two differ only where that product is smaller, and would lose data.

use crate::bytes::Fields;
use crate::read::window::Window;
use crate::read::{Layout, Run, Where, header, inside};
use crate::{Format, ImageError, Source};

const FORMAT: Format = Format::Vhd;
const SECTOR: u64 = 512;
const FOOTER: &[u8; 8] = b"conectix";
const DYNAMIC: &[u8; 8] = b"cxsparse";
const UNUSED: u32 = u32::MAX;

/// Where a table of 32-bit sectors ends.
const LARGEST_DISK: u64 = 2 << 40;
/// Bytes of a block; makers write 512 KiB or 2 MiB.
const BLOCKS: std::ops::RangeInclusive<u64> = 4096..=256 << 20;

const VERSION: u32 = 0x0001_0000;

#[derive(Debug)]
struct Fixed;

#[derive(Debug)]
struct Dynamic {
    block: u64,
    /// Bytes of the map of written sectors in front of each block; unwritten ones are zero in
    /// the block as well.
    map: u64,
    table: u64,
    window: Window,
}

/// Whichever kind the footer says.
pub(super) fn open(source: &dyn Source) -> Result<(Box<dyn Layout>, u64), ImageError> {
    let Some(at) = source.length().checked_sub(SECTOR) else {
        return Err(damaged("it is shorter than a footer"));
    };
    let footer: [u8; 512] = header(source, FORMAT, "the footer", at)?;
    let fields = Fields(&footer);
    if !footer.starts_with(FOOTER) {
        return Err(damaged(
            "it does not end with a footer; it may be cut short",
        ));
    }
    if checksum(&footer, 64) != fields.be32(64) {
        return Err(damaged("its footer's checksum is wrong"));
    }
    if fields.be32(12) != VERSION {
        return Err(ImageError::unsupported(FORMAT, "an unknown version"));
    }
    let size = fields.be64(48);
    if size > LARGEST_DISK || !size.is_multiple_of(SECTOR) {
        return Err(damaged("its disk has an impossible size"));
    }
    match fields.be32(60) {
        2 if size == at => Ok((Box::new(Fixed), size)),
        2 => Err(damaged("its disk is not as long as its footer says")),
        3 => Ok((Box::new(dynamic(source, fields.be64(16), size)?), size)),
        4 => Err(ImageError::OtherFile {
            format: FORMAT,
            what: "a parent",
        }),
        kind => Err(ImageError::unsupported(FORMAT, format!("the type {kind}"))),
    }
}

fn dynamic(source: &dyn Source, at: u64, size: u64) -> Result<Dynamic, ImageError> {
    let bytes: [u8; 1024] = header(source, FORMAT, "the header", at)?;
    let fields = Fields(&bytes);
    if !bytes.starts_with(DYNAMIC) {
        return Err(damaged("its header has no signature"));
    }
    if checksum(&bytes, 36) != fields.be32(36) {
        return Err(damaged("its header's checksum is wrong"));
    }
    if fields.be32(24) != VERSION {
        return Err(ImageError::unsupported(FORMAT, "an unknown version"));
    }
    let (table, entries) = (fields.be64(16), u64::from(fields.be32(28)));
    let block = u64::from(fields.be32(32));
    if !block.is_power_of_two() || !BLOCKS.contains(&block) {
        return Err(damaged("its block size is impossible"));
    }
    let needed = size.div_ceil(block);
    if entries < needed || !table.is_multiple_of(SECTOR) {
        return Err(damaged("its table of blocks is too small or out of place"));
    }
    inside(source, FORMAT, "the table of blocks", table, needed * 4)?;
    Ok(Dynamic {
        block,
        map: (block / SECTOR).div_ceil(8).next_multiple_of(SECTOR),
        table,
        window: Window::new(FORMAT, "part of the table of blocks"),
    })
}

/// The complement of the bytes' sum, the checksum's own not counted.
fn checksum(bytes: &[u8], own: usize) -> u32 {
    let others = bytes.iter().enumerate();
    let others = others.filter(|(at, _)| !(own..own + 4).contains(at));
    !others.map(|(_, byte)| u32::from(*byte)).sum::<u32>()
}

fn damaged(what: &str) -> ImageError {
    ImageError::damaged(FORMAT, what)
}

impl Layout for Fixed {
    fn run(&mut self, source: &dyn Source, at: u64) -> Result<Run, ImageError> {
        Ok(Run {
            length: source.length() - at,
            place: Where::At(at),
        })
    }
}

impl Layout for Dynamic {
    fn run(&mut self, source: &dyn Source, at: u64) -> Result<Run, ImageError> {
        let inside = at % self.block;
        let place = self.table + at / self.block * 4;
        let sector = u32::from_be_bytes(self.window.entry(source, place)?);
        Ok(Run {
            length: self.block - inside,
            place: match sector {
                UNUSED => Where::Hole,
                sector => Where::At(u64::from(sector) * SECTOR + self.map + inside),
            },
        })
    }
}
