//! What volumes and snapshots hold, on its way in or out.
//!
//! ```text
//! body ── Bytes ──► bounded channel ──► thread: Writer ── aligned ──► device, O_DIRECT
//! device ── aligned ──► thread: read ── Bytes ──► bounded channel ──► body
//! device ── aligned ──► thread: copy ── aligned ──► another device
//! ```
//!
//! Devices block, so a thread is at each of them, and lets hosts go first. It takes as much at once
//! as the channel and a buffer hold, a few MiB, however large the volume: whoever is slow makes the
//! other wait.

mod buffer;
mod clear;
mod copy;
mod image;
mod pace;
mod read;
mod turn;
mod write;

pub use ashlar_image_formats::Format as ImageFormat;
pub(crate) use buffer::Buffer;
pub use clear::Eraser;
pub use copy::{Copier, CopyError};
pub use image::ImageWriter;
pub use read::{Make, ReadError, Reader, Segment, Whole};
pub use turn::{Device, Lane, Turn};
pub use write::{Step, WriteError, Writer, wipe, write_problem};

/// How a body says what a volume holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The bytes themselves.
    Raw,
    /// Data, zeros and holes, with a checksum.
    Extents,
}

impl Format {
    /// What bodies of it are called.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Raw => "application/octet-stream",
            Format::Extents => ashlar_extents::MEDIA_TYPE,
        }
    }
}

/// What a body is, or is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// What the volume holds, as it goes.
    Stream(Format),
    /// An image of a disk, in that format; its signature says which when nobody does.
    Image(Option<ImageFormat>),
}

impl Shape {
    /// What bodies that are images are called.
    pub const IMAGE: &'static str = "application/vnd.ashlar.image";

    /// All that bodies are called.
    pub const MEDIA_TYPES: [&'static str; 3] = [
        "application/octet-stream",
        ashlar_extents::MEDIA_TYPE,
        Shape::IMAGE,
    ];

    /// What bodies of it are called.
    pub fn media_type(self) -> &'static str {
        match self {
            Shape::Stream(format) => format.media_type(),
            Shape::Image(_) => Shape::IMAGE,
        }
    }
}

/// Bytes read or written at once.
const CHUNK: usize = 1 << 20;

/// What direct I/O is aligned to.
const BLOCK: usize = ashlar_extents::ALIGNMENT as usize;

fn all_zero(bytes: &[u8]) -> bool {
    // Compared in one go with itself shifted by one, which is as fast as memory.
    match bytes.split_first() {
        Some((first, rest)) => *first == 0 && bytes[..rest.len()] == *rest,
        None => true,
    }
}

#[cfg(test)]
mod tests;
