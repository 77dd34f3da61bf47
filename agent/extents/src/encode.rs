use sha2::{Digest, Sha256};

use crate::frame::{Frame, HEADER, Kind};
use crate::{ALIGNMENT, DIGEST, MAX_DATA};

/// Makes frames, and remembers what the end has to say.
#[derive(Debug, Default)]
pub struct Encoder {
    hash: Sha256,
    /// Where the last extent ended.
    at: u64,
}

/// The last frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// As it is sent.
    pub bytes: [u8; HEADER + DIGEST],
    /// The digest in it.
    pub digest: [u8; DIGEST],
}

impl Encoder {
    /// At the beginning of a stream.
    pub fn new() -> Encoder {
        Encoder::default()
    }

    /// What goes before `data`.
    ///
    /// # Panics
    /// If the extent is not one, or not behind the one before it; likewise below.
    pub fn data(&mut self, offset: u64, data: &[u8]) -> [u8; HEADER] {
        let length = data.len() as u64;
        assert!(length <= MAX_DATA, "{length} bytes in one frame");
        let header = self.extent(Kind::Data, offset, length);
        self.hash.update(data);
        header
    }

    /// An extent that was written as zeros.
    pub fn zero(&mut self, offset: u64, length: u64) -> [u8; HEADER] {
        self.extent(Kind::Zero, offset, length)
    }

    /// An extent that was never written.
    pub fn hole(&mut self, offset: u64, length: u64) -> [u8; HEADER] {
        self.extent(Kind::Hole, offset, length)
    }

    /// The end of the content of something of `size` bytes.
    pub fn end(self, size: u64) -> End {
        assert!(self.at <= size, "an extent ends at {} of {size}", self.at);
        let frame = Frame {
            kind: Kind::End,
            offset: size,
            length: DIGEST as u64,
        };
        let digest: [u8; DIGEST] = self.hash.finalize().into();
        let mut bytes = [0; HEADER + DIGEST];
        bytes[..HEADER].copy_from_slice(&frame.bytes());
        bytes[HEADER..].copy_from_slice(&digest);
        End { bytes, digest }
    }

    fn extent(&mut self, kind: Kind, offset: u64, length: u64) -> [u8; HEADER] {
        assert!(offset >= self.at && length > 0, "{length} at {offset}");
        assert!(offset.is_multiple_of(ALIGNMENT) && length.is_multiple_of(ALIGNMENT));
        self.at = offset + length;
        let header = Frame {
            kind,
            offset,
            length,
        }
        .bytes();
        self.hash.update(header);
        header
    }
}
