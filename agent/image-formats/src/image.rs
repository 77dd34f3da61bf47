//! An open image: its disk as extents, front to back.

use crate::detect::{detect, read};
use crate::packed::{Codec, LARGEST};
use crate::read::{Layout, Run, Where, open_layout};
use crate::{Format, ImageError, Source};

/// What a stretch of a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes, which are in the caller's buffer.
    Data,
    /// Zeros that somebody wrote.
    Zero,
    /// Nothing was ever written; reads as zeros.
    Hole,
}

/// A stretch of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it is.
    pub kind: Kind,
    /// First byte.
    pub offset: u64,
    /// Bytes; of data never more than the buffer has.
    pub length: u64,
}

/// An image that was found sound as far as its headers go.
pub struct Image<S> {
    source: S,
    format: Format,
    layout: Box<dyn Layout>,
    size: u64,
    at: u64,
    unit: Unit,
}

/// The compressed cluster that was unpacked last.
#[derive(Default)]
struct Unit {
    /// Where it begins on the disk.
    at: Option<u64>,
    packed: Vec<u8>,
    bytes: Vec<u8>,
}

impl<S: Source> Image<S> {
    /// Opens an image of `format`, or of the one whose signature it bears, whose disk has at most
    /// `limit` bytes.
    pub fn open(source: S, format: Option<Format>, limit: u64) -> Result<Image<S>, ImageError> {
        let format = match format {
            Some(format) => format,
            None => detect(&source)?,
        };
        let (layout, size) = open_layout(&source, format)?;
        if size > limit {
            return Err(ImageError::TooLarge {
                format,
                size,
                limit,
            });
        }
        Ok(Image {
            source,
            format,
            layout,
            size,
            at: 0,
            unit: Unit::default(),
        })
    }

    /// What it is.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes of the disk within.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next piece of the disk, `None` at its end. Data is put into `buffer`, as much as is
    /// there in a row; zeros and holes come as long as they are.
    pub fn next(&mut self, buffer: &mut [u8]) -> Result<Option<Piece>, ImageError> {
        let offset = self.at;
        if offset == self.size {
            return Ok(None);
        }
        let mut run = self.run(buffer.len() as u64)?;
        let kind = run.place.kind();
        loop {
            match kind {
                Kind::Data => {
                    let filled = (self.at - offset) as usize;
                    let room = (buffer.len() - filled) as u64;
                    run.length = run.length.min(room);
                    self.read(&run, &mut buffer[filled..filled + run.length as usize])?;
                }
                Kind::Zero | Kind::Hole => {}
            }
            self.at += run.length;
            let full = kind == Kind::Data && self.at - offset == buffer.len() as u64;
            if full || self.at == self.size {
                break;
            }
            run = self.run(buffer.len() as u64)?;
            if run.place.kind() != kind {
                break;
            }
        }
        let length = self.at - offset;
        Ok(Some(Piece {
            kind,
            offset,
            length,
        }))
    }

    /// What is at our place, not reaching over the disk's end. Clusters that lie in a row are one
    /// run, as long as more of them are `wanted`, so that they are read at once.
    fn run(&mut self, wanted: u64) -> Result<Run, ImageError> {
        let mut run = self.layout.run(&self.source, self.at)?;
        debug_assert!(run.length > 0);
        let left = self.size - self.at;
        while let Where::At(place) = run.place
            && run.length < wanted.min(left)
        {
            let next = self.layout.run(&self.source, self.at + run.length)?;
            match next.place {
                Where::At(other) if other == place + run.length => run.length += next.length,
                _ => break,
            }
        }
        run.length = run.length.min(left);
        Ok(run)
    }

    fn read(&mut self, run: &Run, buffer: &mut [u8]) -> Result<(), ImageError> {
        match run.place {
            Where::At(place) => self.copy(place, buffer),
            Where::Packed {
                codec,
                at,
                length,
                unit,
                unit_size,
            } => {
                if self.unit.at != Some(unit) {
                    self.unpack(codec, (at, length), (unit, unit_size))?;
                }
                let inside = (self.at - unit) as usize;
                buffer.copy_from_slice(&self.unit.bytes[inside..inside + buffer.len()]);
                Ok(())
            }
            Where::Zero | Where::Hole => Ok(()),
        }
    }

    fn copy(&self, at: u64, buffer: &mut [u8]) -> Result<(), ImageError> {
        let end = self.source.length();
        let inside = at
            .checked_add(buffer.len() as u64)
            .is_some_and(|last| last <= end);
        if !inside {
            return Err(ImageError::Truncated {
                format: self.format,
                what: "data",
                at,
                end,
            });
        }
        read(&self.source, at, buffer)
    }

    /// Unpacks a cluster: `(at, length)` in the image, `(unit, unit_size)` on the disk.
    fn unpack(
        &mut self,
        codec: Codec,
        (at, length): (u64, u64),
        (unit, unit_size): (u64, u64),
    ) -> Result<(), ImageError> {
        debug_assert!(length <= 2 * LARGEST && unit_size <= LARGEST);
        let end = self.source.length();
        let length = length.min(end.saturating_sub(at));
        self.unit.at = None;
        self.unit.packed.resize(length as usize, 0);
        self.unit.bytes.resize(unit_size as usize, 0);
        read(&self.source, at, &mut self.unit.packed)?;
        let unpacked = codec.unpack(&self.unit.packed, &mut self.unit.bytes);
        // The last cluster stands for what is left of the disk.
        let needed = unit_size.min(self.size - unit);
        if unpacked.is_none_or(|unpacked| (unpacked as u64) < needed) {
            let what = format!("the compressed cluster at byte {at} does not unpack");
            return Err(ImageError::damaged(self.format, what));
        }
        self.unit.at = Some(unit);
        Ok(())
    }
}
