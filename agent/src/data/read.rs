use std::io;
use std::os::unix::fs::FileExt;

use ashlar_extents::Encoder;
use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use super::buffer::Buffer;
use super::turn::Device;
use super::{CHUNK, Format, all_zero};

/// Shortest stretch of zeros that is told apart: the smallest block of a pool.
const GRAIN: usize = 64 << 10;

/// Why there is no more of a body.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nobody takes it any more.
    #[error("the work was stopped")]
    Stopped,
    /// What is mapped is not what it was when the image was planned.
    #[error("the image cannot be written as it was planned")]
    Unplanned(#[source] io::Error),
    /// The device refused.
    #[error("failed to read {length} bytes at {offset}")]
    Device {
        /// From where.
        offset: u64,
        /// How much.
        length: u64,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// A stretch of what is read, of whole blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
    /// Whether there is anything; otherwise it reads as zeros.
    pub mapped: bool,
}

/// Makes a body of stretches, in order.
pub trait Make {
    /// The next stretch; of raw bytes, right behind the one before.
    ///
    /// # Errors
    /// When it cannot be read, or nobody takes it; it is not to go on.
    fn segment(&mut self, segment: Segment) -> Result<(), ReadError>;

    /// That was all, of something of `size` bytes.
    ///
    /// # Errors
    /// When nobody takes it.
    fn finish(self: Box<Self>, size: u64) -> Result<Whole, ReadError>;
}

/// Where a body goes. Says no when nobody takes it any more.
pub type Send<'f> = &'f mut dyn FnMut(Bytes) -> bool;

/// Makes a body of what a device holds.
pub struct Reader<'f> {
    device: Device<'f>,
    buffer: Buffer,
    send: Send<'f>,
    form: Form,
    /// Zeros that were seen and not told yet.
    zeros: Option<(u64, u64)>,
    /// The piece before, which is sent once it is known not to be the last.
    held: Option<Bytes>,
    blank: Bytes,
}

enum Form {
    Raw(Sha256),
    Extents(Encoder),
}

/// The end of a body.
#[derive(Debug)]
pub struct Whole {
    /// What is still to be sent.
    pub last: Bytes,
    /// The digest, as its format has it.
    pub digest: [u8; 32],
}

impl<'f> Reader<'f> {
    /// Nothing is read yet.
    pub fn new(device: impl Into<Device<'f>>, format: Format, send: Send<'f>) -> Reader<'f> {
        let form = match format {
            Format::Raw => Form::Raw(Sha256::new()),
            Format::Extents => Form::Extents(Encoder::new()),
        };
        Reader {
            device: device.into(),
            buffer: Buffer::new(),
            send,
            form,
            zeros: None,
            held: None,
            blank: Bytes::from_static(&[0; GRAIN]),
        }
    }
}

impl Make for Reader<'_> {
    fn segment(&mut self, segment: Segment) -> Result<(), ReadError> {
        let Segment {
            offset,
            length,
            mapped,
        } = segment;
        if !mapped {
            return self.hole(offset, length);
        }
        for (at, length) in chunks(offset, length) {
            read_chunk(self.device, at, &mut self.buffer[..length])?;
            self.chunk(at, length)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, size: u64) -> Result<Whole, ReadError> {
        self.tell_zeros()?;
        match self.form {
            Form::Raw(hash) => Ok(Whole {
                last: self.held.unwrap_or_default(),
                digest: hash.finalize().into(),
            }),
            Form::Extents(encoder) => {
                if let Some(before) = self.held.take() {
                    sent((self.send)(before))?;
                }
                let end = encoder.end(size);
                Ok(Whole {
                    last: Bytes::copy_from_slice(&end.bytes),
                    digest: end.digest,
                })
            }
        }
    }
}

impl Reader<'_> {
    /// What is in the buffer: raw as it is, else with its zeros told apart.
    fn chunk(&mut self, at: u64, length: usize) -> Result<(), ReadError> {
        if let Form::Raw(hash) = &mut self.form {
            let bytes = Bytes::copy_from_slice(&self.buffer[..length]);
            hash.update(&bytes);
            return self.push(bytes);
        }
        let mut begin = 0;
        while begin < length {
            let zero = self.is_zero(begin, length);
            let mut end = begin;
            while end < length && self.is_zero(end, length) == zero {
                end = length.min(end + GRAIN);
            }
            let offset = at + begin as u64;
            match zero {
                true => self.zero(offset, (end - begin) as u64)?,
                false => self.data(offset, begin, end)?,
            }
            begin = end;
        }
        Ok(())
    }

    fn is_zero(&self, begin: usize, length: usize) -> bool {
        all_zero(&self.buffer[begin..length.min(begin + GRAIN)])
    }

    fn data(&mut self, offset: u64, begin: usize, end: usize) -> Result<(), ReadError> {
        self.tell_zeros()?;
        let Form::Extents(encoder) = &mut self.form else {
            return Ok(());
        };
        let data = &self.buffer[begin..end];
        let header = encoder.data(offset, data);
        let mut frame = BytesMut::with_capacity(header.len() + data.len());
        frame.put_slice(&header);
        frame.put_slice(data);
        self.push(frame.freeze())
    }

    fn zero(&mut self, offset: u64, length: u64) -> Result<(), ReadError> {
        match &mut self.zeros {
            Some((begin, so_far)) if *begin + *so_far == offset => *so_far += length,
            _ => {
                self.tell_zeros()?;
                self.zeros = Some((offset, length));
            }
        }
        Ok(())
    }

    fn tell_zeros(&mut self) -> Result<(), ReadError> {
        match (self.zeros.take(), &mut self.form) {
            (Some((offset, length)), Form::Extents(encoder)) => {
                let header = encoder.zero(offset, length);
                self.push(Bytes::copy_from_slice(&header))
            }
            _ => Ok(()),
        }
    }

    fn hole(&mut self, offset: u64, length: u64) -> Result<(), ReadError> {
        self.tell_zeros()?;
        if let Form::Extents(encoder) = &mut self.form {
            let header = encoder.hole(offset, length);
            return self.push(Bytes::copy_from_slice(&header));
        }
        let mut left = length;
        while left > 0 {
            let now = left.min(GRAIN as u64);
            let blank = self.blank.slice(..now as usize);
            if let Form::Raw(hash) = &mut self.form {
                hash.update(&blank);
            }
            self.push(blank)?;
            left -= now;
        }
        Ok(())
    }

    fn push(&mut self, bytes: Bytes) -> Result<(), ReadError> {
        match self.held.replace(bytes) {
            Some(before) => sent((self.send)(before)),
            None => Ok(()),
        }
    }
}

fn sent(taken: bool) -> Result<(), ReadError> {
    match taken {
        true => Ok(()),
        false => Err(ReadError::Stopped),
    }
}

/// Where the chunks of a stretch begin, and how long they are.
pub(super) fn chunks(offset: u64, length: u64) -> impl Iterator<Item = (u64, usize)> {
    let end = offset + length;
    let begin = (offset..end).step_by(CHUNK);
    begin.map(move |at| (at, (end - at).min(CHUNK as u64) as usize))
}

pub(super) fn read_chunk(device: Device<'_>, at: u64, chunk: &mut [u8]) -> Result<(), ReadError> {
    let length = chunk.len() as u64;
    let outcome = device.io(length, |file| file.read_exact_at(chunk, at));
    outcome.map_err(|source| ReadError::Device {
        offset: at,
        length,
        source,
    })
}
