//! Where each format keeps what a place of the disk holds.
//!
//! A layout answers one question, for a place of the disk: what is there and how far does that
//! go. Its tables stay in the image; what it remembers is a window of each.

mod qcow2;
mod raw;
mod vhd;
mod vhdx;
mod vmdk;
mod window;

use crate::image::Kind;
use crate::packed::Codec;
use crate::{Format, ImageError, Source};

/// The tables of an open image.
pub(crate) trait Layout {
    /// What the disk holds from `at`, which is inside of it. The run may reach over its end.
    fn run(&mut self, source: &dyn Source, at: u64) -> Result<Run, ImageError>;
}

/// A stretch of the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Bytes, at least one.
    pub(crate) length: u64,
    pub(crate) place: Where,
}

/// Where a stretch's bytes are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Where {
    /// In the image from here on, in a row.
    At(u64),
    /// In a compressed cluster.
    Packed {
        codec: Codec,
        /// First byte of the stream in the image.
        at: u64,
        /// Most bytes that it can have.
        length: u64,
        /// Where on the disk the cluster begins.
        unit: u64,
        /// Bytes of the disk that it stands for.
        unit_size: u64,
    },
    /// Nowhere: zeros that were written.
    Zero,
    /// Nowhere: never written.
    Hole,
}

impl Where {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Where::At(_) | Where::Packed { .. } => Kind::Data,
            Where::Zero => Kind::Zero,
            Where::Hole => Kind::Hole,
        }
    }
}

/// Reads and checks the headers; returns the disk's size, too.
pub(crate) fn open_layout(
    source: &dyn Source,
    format: Format,
) -> Result<(Box<dyn Layout>, u64), ImageError> {
    Ok(match format {
        Format::Raw => (Box::new(raw::Raw), source.length()),
        Format::Qcow2 => boxed(qcow2::open(source)?),
        Format::Vmdk => boxed(vmdk::open(source)?),
        Format::Vhd => vhd::open(source)?,
        Format::Vhdx => boxed(vhdx::open(source)?),
    })
}

fn boxed<L: Layout + 'static>((layout, size): (L, u64)) -> (Box<dyn Layout>, u64) {
    (Box::new(layout), size)
}

/// Reads a header of `N` bytes, which must be there.
fn header<const N: usize>(
    source: &dyn Source,
    format: Format,
    what: &'static str,
    at: u64,
) -> Result<[u8; N], ImageError> {
    let mut bytes = [0; N];
    inside(source, format, what, at, N as u64)?;
    crate::detect::read(source, at, &mut bytes)?;
    Ok(bytes)
}

/// Refuses what reaches over the image's end.
fn inside(
    source: &dyn Source,
    format: Format,
    what: &'static str,
    at: u64,
    length: u64,
) -> Result<(), ImageError> {
    let end = source.length();
    match at.checked_add(length) {
        Some(last) if last <= end => Ok(()),
        _ => Err(ImageError::Truncated {
            format,
            what,
            at,
            end,
        }),
    }
}
