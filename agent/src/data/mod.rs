//! What volumes and snapshots hold, on its way in or out.
//!
//! ```text
//! body ── Bytes ──► bounded channel ──► thread: Writer ── aligned ──► device, O_DIRECT
//! device ── aligned ──► thread: read ── Bytes ──► bounded channel ──► body
//! ```
//!
//! Devices block, so a thread is at each of them. It takes as much at once as the channel and a
//! buffer hold, a few MiB, however large the volume: whoever is slow makes the other wait.

mod buffer;
mod read;
mod write;

pub use read::{ReadError, Reader, Segment, Whole};
pub use write::{Step, WriteError, Writer};

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
