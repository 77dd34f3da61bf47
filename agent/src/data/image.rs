use std::io::{self, Write};

use ashlar_image_formats::{Plan, Writer};
use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use super::CHUNK;
use super::buffer::Buffer;
use super::read::{Make, ReadError, Segment, Send, Whole, chunks, read_chunk};
use super::turn::Device;

/// Makes an image of a disk of what a device holds.
pub struct ImageWriter<'f> {
    device: Device<'f>,
    buffer: Buffer,
    writer: Writer<Pieces<'f>>,
}

impl<'f> ImageWriter<'f> {
    /// Sends what comes before data. The plan has just the stretches that are mapped.
    ///
    /// # Errors
    /// When nobody takes it.
    pub fn begin(
        device: impl Into<Device<'f>>,
        plan: Plan,
        identity: [u8; 16],
        send: Send<'f>,
    ) -> Result<ImageWriter<'f>, ReadError> {
        let pieces = Pieces {
            send,
            filled: BytesMut::with_capacity(CHUNK),
            held: None,
            hash: Sha256::new(),
        };
        Ok(ImageWriter {
            device: device.into(),
            buffer: Buffer::new(),
            writer: Writer::new(plan, identity, pieces).map_err(broken)?,
        })
    }
}

impl Make for ImageWriter<'_> {
    fn segment(&mut self, segment: Segment) -> Result<(), ReadError> {
        if !segment.mapped {
            return Ok(());
        }
        for (at, length) in chunks(segment.offset, segment.length) {
            let chunk = &mut self.buffer[..length];
            read_chunk(self.device, at, chunk)?;
            self.writer.data(at, chunk).map_err(broken)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, _size: u64) -> Result<Whole, ReadError> {
        let mut pieces = self.writer.finish().map_err(broken)?;
        pieces.hand_on().map_err(broken)?;
        Ok(Whole {
            last: pieces.held.unwrap_or_default(),
            digest: pieces.hash.finalize().into(),
        })
    }
}

/// What is written, in pieces of a chunk.
struct Pieces<'f> {
    send: Send<'f>,
    filled: BytesMut,
    /// The piece before, which is sent once it is known not to be the last.
    held: Option<Bytes>,
    hash: Sha256,
}

impl Pieces<'_> {
    fn hand_on(&mut self) -> io::Result<()> {
        if self.filled.is_empty() {
            return Ok(());
        }
        let piece = self.filled.split().freeze();
        self.hash.update(&piece);
        let before = self.held.replace(piece);
        match before.is_none_or(|before| (self.send)(before)) {
            true => Ok(()),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK - self.filled.len());
        self.filled.put_slice(&bytes[..count]);
        if self.filled.len() == CHUNK {
            self.hand_on()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn broken(error: io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => ReadError::Stopped,
        _ => ReadError::Unplanned(error),
    }
}
