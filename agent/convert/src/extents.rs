//! What goes to the agent: extents, as anybody uploads them.
//!
//! Images know smaller pieces than that. A block of which any part is data is data, and a disk
//! that ends inside of a block is taken for as long as its blocks.

use std::io::{self, Write};

use ashlar_extents::{ALIGNMENT, Encoder, MAX_DATA};
use ashlar_image_formats::{Image, ImageError, Kind, Source};

/// Most bytes of data in a frame.
pub const MOST_DATA: usize = MAX_DATA as usize;

/// Data that is zero in pieces of this size becomes zeros: no pool gives room in smaller ones.
pub const ZERO_GRAIN: usize = 64 * 1024;

/// What ended the stream early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error("failed to hand on the disk's bytes")]
    Write(#[from] io::Error),
}

/// What extents are made of.
const BLOCK: usize = ALIGNMENT as usize;

/// Writes all of the image's disk.
pub(crate) fn stream<S: Source>(image: &mut Image<S>, out: impl Write) -> Result<(), StreamError> {
    let mut blocks = Blocks {
        frames: Frames {
            out,
            encoder: Encoder::new(),
        },
        offset: 0,
        bytes: vec![0; MOST_DATA],
        filled: 0,
    };
    while let Some(piece) = image.next(&mut blocks.bytes[blocks.filled..])? {
        match piece.kind {
            Kind::Data => blocks.data(piece.length as usize)?,
            kind @ (Kind::Zero | Kind::Hole) => blocks.none(kind, piece.length)?,
        }
    }
    blocks.end()?;
    Ok(())
}

/// Puts pieces of any size together to whole blocks.
struct Blocks<W> {
    frames: Frames<W>,
    /// Where `bytes` go, at a block's beginning.
    offset: u64,
    bytes: Vec<u8>,
    filled: usize,
}

impl<W: Write> Blocks<W> {
    /// So many bytes were put behind those that are there.
    fn data(&mut self, length: usize) -> io::Result<()> {
        self.filled += length;
        match self.filled == self.bytes.len() {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Nothing, of which only whole blocks can be told.
    fn none(&mut self, kind: Kind, length: u64) -> io::Result<()> {
        let missing = self.filled.next_multiple_of(BLOCK) - self.filled;
        let first = length.min(missing as u64);
        self.zeros(first as usize);
        if !self.filled.is_multiple_of(BLOCK) {
            return Ok(());
        }
        self.flush()?;
        let last = (length - first) % BLOCK as u64;
        let whole = length - first - last;
        if whole > 0 {
            self.frames.none(kind, self.offset, whole)?;
            self.offset += whole;
        }
        self.zeros(last as usize);
        Ok(())
    }

    fn zeros(&mut self, count: usize) {
        self.bytes[self.filled..self.filled + count].fill(0);
        self.filled += count;
    }

    fn flush(&mut self) -> io::Result<()> {
        self.frames.data(self.offset, &self.bytes[..self.filled])?;
        self.offset += self.filled as u64;
        self.filled = 0;
        Ok(())
    }

    fn end(mut self) -> io::Result<()> {
        self.zeros(self.filled.next_multiple_of(BLOCK) - self.filled);
        self.flush()?;
        self.frames.end(self.offset)
    }
}

struct Frames<W> {
    out: W,
    encoder: Encoder,
}

impl<W: Write> Frames<W> {
    /// Data and zeros, as they take turns.
    fn data(&mut self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (zero, length) = alike(offset, bytes);
            let (part, rest) = bytes.split_at(length);
            if zero {
                self.none(Kind::Zero, offset, length as u64)?;
            } else {
                let head = self.encoder.data(offset, part);
                self.out.write_all(&head)?;
                self.out.write_all(part)?;
            }
            (offset, bytes) = (offset + length as u64, rest);
        }
        Ok(())
    }

    /// Zeros, or what was never written.
    fn none(&mut self, kind: Kind, offset: u64, length: u64) -> io::Result<()> {
        let head = match kind {
            Kind::Hole => self.encoder.hole(offset, length),
            Kind::Zero | Kind::Data => self.encoder.zero(offset, length),
        };
        self.out.write_all(&head)
    }

    fn end(mut self, size: u64) -> io::Result<()> {
        self.out.write_all(&self.encoder.end(size).bytes)?;
        self.out.flush()
    }
}

/// Whether bytes begin with zeros, and how far they go on as they begin.
fn alike(offset: u64, bytes: &[u8]) -> (bool, usize) {
    let mut at = 0;
    let mut first = None;
    while at < bytes.len() {
        // Up to the next place where a piece begins.
        let place = (offset as usize + at) % ZERO_GRAIN;
        let end = bytes.len().min(at + ZERO_GRAIN - place);
        let zero = is_zero(&bytes[at..end]);
        if *first.get_or_insert(zero) != zero {
            break;
        }
        at = end;
    }
    (first.unwrap_or(false), at)
}

fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; ZERO_GRAIN] = [0; ZERO_GRAIN];
    *bytes == ZEROS[..bytes.len()]
}

#[cfg(test)]
mod tests {
    use ashlar_extents::{Decoder, Piece};

    use super::*;

    /// Bytes of data that come, and the size that is told.
    fn streamed(disk: &[u8]) -> (usize, u64) {
        let mut image = Image::open(disk.to_vec(), None, u64::MAX).unwrap();
        let mut out = Vec::new();
        stream(&mut image, &mut out).unwrap();
        let (mut decoder, mut rest) = (Decoder::new(1 << 30), &out[..]);
        let (mut whole, mut data) = (vec![0; disk.len() + BLOCK], 0);
        loop {
            match decoder.next(&mut rest).unwrap().unwrap() {
                Piece::Data { offset, bytes } => {
                    whole[offset as usize..][..bytes.len()].copy_from_slice(bytes);
                    data += bytes.len();
                }
                Piece::Zero { .. } | Piece::Hole { .. } => {}
                Piece::End { size, .. } => {
                    assert_eq!(whole[..disk.len()], *disk);
                    return (data, size);
                }
            }
        }
    }

    #[test]
    fn extents_are_of_whole_blocks_whatever_the_disk() {
        assert_eq!(streamed(&[]), (0, 0));
        assert_eq!(streamed(&[7; 5000]), (8192, 8192));
        let mut disk = vec![0; 3 * MOST_DATA + 700];
        disk[ZERO_GRAIN..ZERO_GRAIN + 3].fill(1);
        disk[2 * MOST_DATA - 5..2 * MOST_DATA + 5].fill(2);
        let size = 3 * MOST_DATA as u64 + 4096;
        assert_eq!(streamed(&disk), (3 * ZERO_GRAIN, size));
    }
}
