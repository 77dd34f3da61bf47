//! vhdx: regions, one of which is a table of blocks.
//!
//! ```text
//! signature ── two headers, the newer counts ── log, must be empty
//!           └─ region table ── metadata: sizes, parent or none
//!                           └─ table of blocks ── block
//! ```

mod header;
mod metadata;

use crate::read::window::Window;
use crate::read::{Layout, Run, Where, inside};
use crate::{Format, ImageError, Source};

const FORMAT: Format = Format::Vhdx;
const MIB: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Vhdx {
    block: u64,
    /// Blocks between two entries that tell of a bitmap of sectors instead of a block.
    ratio: u64,
    table: u64,
    window: Window,
}

pub(super) fn open(source: &dyn Source) -> Result<(Vhdx, u64), ImageError> {
    let regions = header::read(source)?;
    let disk = metadata::read(source, regions.metadata)?;
    let ratio = (1 << 23) * disk.sector / disk.block;
    let blocks = disk.size.div_ceil(disk.block);
    let entries = blocks + blocks.saturating_sub(1) / ratio;
    if regions.table.length / 8 < entries {
        return Err(damaged("its table of blocks is too small for its disk"));
    }
    let what = "the table of blocks";
    inside(source, FORMAT, what, regions.table.at, entries * 8)?;
    let layout = Vhdx {
        block: disk.block,
        ratio,
        table: regions.table.at,
        window: Window::new(FORMAT, "part of the table of blocks"),
    };
    Ok((layout, disk.size))
}

impl Layout for Vhdx {
    fn run(&mut self, source: &dyn Source, at: u64) -> Result<Run, ImageError> {
        let (block, within) = (at / self.block, at % self.block);
        let place = self.table + (block + block / self.ratio) * 8;
        let entry = u64::from_le_bytes(self.window.entry(source, place)?);
        let start = entry & !(MIB - 1);
        Ok(Run {
            length: self.block - within,
            place: match entry & 7 {
                0 | 1 | 3 => Where::Hole,
                2 => Where::Zero,
                6 => {
                    inside(source, FORMAT, "a block", start, self.block.min(MIB))?;
                    Where::At(start + within)
                }
                7 => {
                    return Err(ImageError::OtherFile {
                        format: FORMAT,
                        what: "a parent, for part of a block",
                    });
                }
                _ => return Err(damaged(format!("{entry:#x} is no entry of its table"))),
            },
        })
    }
}

fn damaged(what: impl Into<String>) -> ImageError {
    ImageError::damaged(FORMAT, what)
}
