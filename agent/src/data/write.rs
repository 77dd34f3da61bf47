use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use ashlar_extents::{Decoder, ExtentsError, Piece};
use ashlar_protocol::{JobResult, ObjectRef, Problem, ProblemCode};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use sha2::{Digest, Sha256};

use super::buffer::Buffer;
use super::clear::Eraser;
use super::turn::Device;
use super::{BLOCK, CHUNK, Format, all_zero};

/// Why a body was not taken, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It has more than there is room for.
    #[error("the body goes past the {size} bytes that there are")]
    TooLong {
        /// The size of the device.
        size: u64,
    },
    /// It is not a stream of extents, or was changed on the way.
    #[error("the body is not a sound stream of extents: {0}")]
    Extents(#[from] ExtentsError),
    /// It is not wanted any more.
    #[error("the work was stopped")]
    Stopped,
    /// The device refused.
    #[error("failed to {action} {length} bytes at {offset}")]
    Device {
        /// What was tried.
        action: &'static str,
        /// From where.
        offset: u64,
        /// How much.
        length: u64,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

impl WriteError {
    fn is_no_space(&self) -> bool {
        matches!(self, WriteError::Device { source, .. }
            if source.raw_os_error() == Some(Errno::ENOSPC as i32))
    }
}

/// Why it was not, told of the object.
pub fn write_problem(object: ObjectRef, error: WriteError) -> Problem {
    let code = match &error {
        WriteError::TooLong { .. } | WriteError::Extents(ExtentsError::TooLarge { .. }) => {
            ProblemCode::OutOfRange
        }
        WriteError::Extents(_) => ProblemCode::MalformedRequest,
        WriteError::Stopped => ProblemCode::Interrupted,
        error if error.is_no_space() => ProblemCode::NoSpace,
        WriteError::Device { .. } => ProblemCode::KernelFailed,
    };
    let detail = match std::error::Error::source(&error) {
        Some(cause) => format!("{object}: {error}: {cause}"),
        None => format!("{object}: {error}"),
    };
    Problem::new(code, detail).about(object)
}

/// Told where everything before is written; says whether to go on.
pub type Step<'f> = &'f dyn Fn(u64) -> bool;

/// The end of a stream of extents.
#[derive(Clone, Copy, Debug)]
struct End {
    size: u64,
    digest: [u8; 32],
}

/// Writes a body to a device.
pub struct Writer<'f> {
    target: Target<'f>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Raw { at: u64, hash: Sha256 },
    Extents { decoder: Decoder, end: Option<End> },
}

impl<'f> Writer<'f> {
    /// Of a device of `size` bytes, whole blocks, from `offset` on, where a block begins.
    /// `step` is told how far it is now and then, and says whether to go on.
    pub fn new(
        device: impl Into<Device<'f>>,
        size: u64,
        (format, offset): (Format, u64),
        step: Step<'f>,
    ) -> Writer<'f> {
        let body = match format {
            Format::Raw => Body::Raw {
                at: offset,
                hash: Sha256::new(),
            },
            Format::Extents => Body::Extents {
                decoder: Decoder::new(size),
                end: None,
            },
        };
        Writer {
            target: Target::new(device.into(), size, offset, step),
            body,
        }
    }

    /// The body goes on like this.
    ///
    /// # Errors
    /// When it cannot be written; it is not to go on. Likewise below.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), WriteError> {
        match &mut self.body {
            Body::Raw { at, hash } => {
                let size = self.target.size;
                if bytes.len() as u64 > size - *at {
                    return Err(WriteError::TooLong { size });
                }
                hash.update(bytes);
                self.target.data(*at, bytes)?;
                *at += bytes.len() as u64;
            }
            Body::Extents { decoder, end } => {
                while let Some(piece) = decoder.next(&mut bytes)? {
                    match piece {
                        Piece::Data { offset, bytes } => self.target.data(offset, bytes)?,
                        Piece::Zero { offset, length } | Piece::Hole { offset, length } => {
                            self.target.zeros(offset, length)?;
                        }
                        Piece::End { size, digest } => *end = Some(End { size, digest }),
                    }
                }
            }
        }
        Ok(())
    }

    /// What is behind the end of the extents, which has come, is to be zeros.
    pub fn clear_behind(&mut self) -> Result<(), WriteError> {
        let size = self.target.size;
        match &self.body {
            Body::Extents { end: Some(end), .. } if end.size < size => {
                let begin = end.size;
                self.target.zeros(begin, size - begin)
            }
            _ => Ok(()),
        }
    }

    /// The body has ended; makes durable what it said.
    pub fn finish(mut self) -> Result<JobResult, WriteError> {
        let digest = match self.body {
            Body::Raw { hash, .. } => hash.finalize().into(),
            Body::Extents { decoder, end } => {
                decoder.finish()?;
                end.map(|end| end.digest).unwrap_or_default()
            }
        };
        self.target.settle()?;
        Ok(JobResult {
            written: Some(self.target.written),
            zeroed: Some(self.target.zeroed),
            sha256: Some(digest.into()),
            ..JobResult::default()
        })
    }

    /// Whether anything of the device may not be what it was.
    pub fn has_begun(&self) -> bool {
        self.target.begun
    }

    /// The body has broken off; makes durable what has come of it.
    pub fn abandon(mut self) -> Result<(), WriteError> {
        self.target.settle()
    }
}

/// Has all of a device of `size` bytes read as zeros, and durably: what was written to it is nothing
/// that anybody could go on with. What it takes in a pool of blocks of `block` bytes is given back if
/// that can be.
///
/// # Errors
/// When the device refuses; then some of it may be left.
pub fn wipe(device: Device<'_>, size: u64, block: u64) -> Result<(), WriteError> {
    // What is not discarded, for whatever reason, is found and overwritten below.
    let given_back = Eraser::new(device).discard((0, size), block, || Ok(()), |_| true);
    if let Err(error) = given_back {
        tracing::warn!(%error, "failed to give back what is to be cleared");
    }
    let mut target = Target::new(device, size, 0, &|_| true);
    target.overwrite(0, size)?;
    // A pool that was full refuses even this for a volume that has nothing mapped, until it has
    // noticed the room that was given back: with its next commit, which it makes each second.
    for _ in 0..COMMITS {
        match target.settle() {
            Err(error) if error.is_no_space() => thread::sleep(COMMIT),
            outcome => return outcome,
        }
    }
    target.settle()
}

/// How often a pool commits by itself.
const COMMIT: Duration = Duration::from_secs(1);
/// How many of them are waited for.
const COMMITS: u32 = 10;

/// A device, and what is gathered to be written to it.
pub(super) struct Target<'f> {
    device: Device<'f>,
    size: u64,
    buffer: Buffer,
    /// Where the buffer goes, and how much is in it.
    at: u64,
    filled: usize,
    reached: u64,
    begun: bool,
    pub(super) written: u64,
    pub(super) zeroed: u64,
    step: Step<'f>,
}

impl<'f> Target<'f> {
    pub(super) fn new(device: Device<'f>, size: u64, offset: u64, step: Step<'f>) -> Target<'f> {
        Target {
            device,
            size,
            buffer: Buffer::new(),
            at: offset,
            filled: 0,
            reached: offset,
            begun: false,
            written: 0,
            zeroed: 0,
            step,
        }
    }

    pub(super) fn data(&mut self, offset: u64, mut bytes: &[u8]) -> Result<(), WriteError> {
        if offset != self.at + self.filled as u64 {
            self.flush()?;
            self.at = offset;
        }
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.filled));
            self.buffer[self.filled..][..now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == CHUNK {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes what is gathered. Only the end of a raw body is no whole block; then the rest of
    /// that block stays as it is.
    fn flush(&mut self) -> Result<(), WriteError> {
        let filled = std::mem::take(&mut self.filled);
        if filled == 0 {
            return Ok(());
        }
        let (at, end) = (self.at, self.at + filled as u64);
        self.begun = true;
        if filled.is_multiple_of(BLOCK) && all_zero(&self.buffer[..filled]) {
            self.clear(at, filled as u64)?;
        } else {
            let whole = self.complete(filled)?;
            let bytes = &self.buffer[..whole];
            let write = |file: &File| file.write_all_at(bytes, at);
            let outcome = self.device.io(whole as u64, write);
            outcome.map_err(refused("write", at, whole as u64))?;
            self.written += filled as u64;
        }
        self.reach(end)
    }

    fn complete(&mut self, filled: usize) -> Result<usize, WriteError> {
        let whole = filled.next_multiple_of(BLOCK);
        if whole != filled {
            let begin = whole - BLOCK;
            let mut block = Buffer::new();
            let at = self.at + begin as u64;
            let read = |file: &File| file.read_exact_at(&mut block[..BLOCK], at);
            let outcome = self.device.io(BLOCK as u64, read);
            outcome.map_err(refused("read", at, BLOCK as u64))?;
            self.buffer[filled..whole].copy_from_slice(&block[filled - begin..BLOCK]);
        }
        Ok(whole)
    }

    pub(super) fn zeros(&mut self, offset: u64, length: u64) -> Result<(), WriteError> {
        self.flush()?;
        self.begun = true;
        self.clear(offset, length)?;
        self.reach(offset + length)
    }

    fn reach(&mut self, end: u64) -> Result<(), WriteError> {
        self.at = end;
        self.reached = end;
        match (self.step)(end) {
            true => Ok(()),
            false => Err(WriteError::Stopped),
        }
    }

    /// Makes a stretch read as zeros, taking no room for it if that can be.
    fn clear(&mut self, offset: u64, length: u64) -> Result<(), WriteError> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let punch = |file: &File| Ok(fallocate(file, flags, offset as i64, length as i64));
        match self.device.io(0, punch) {
            Ok(Ok(())) => {
                self.zeroed += length;
                Ok(())
            }
            Ok(Err(Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::ENODEV | Errno::EINVAL)) => {
                self.overwrite(offset, offset + length)
            }
            Ok(Err(errno)) => Err(refused("clear", offset, length)(errno.into())),
            Err(error) => Err(refused("clear", offset, length)(error)),
        }
    }

    /// Writes zeros, but only where there is something else: what was never written takes no
    /// room, and looking at it costs next to nothing.
    fn overwrite(&mut self, begin: u64, end: u64) -> Result<(), WriteError> {
        for at in (begin..end).step_by(CHUNK) {
            let length = (end - at).min(CHUNK as u64);
            let chunk = &mut self.buffer[..length as usize];
            // What takes no room is not at the disks, and nothing to be paced; what is there is
            // accounted for as it is overwritten.
            let read = |file: &File| file.read_exact_at(chunk, at);
            let outcome = self.device.io(0, read);
            outcome.map_err(refused("read", at, length))?;
            if all_zero(chunk) {
                self.zeroed += length;
            } else {
                chunk.fill(0);
                let write = |file: &File| file.write_all_at(chunk, at);
                let outcome = self.device.io(2 * length, write);
                outcome.map_err(refused("clear", at, length))?;
                self.written += length;
            }
            self.reach(at + length)?;
        }
        Ok(())
    }

    /// Writes the rest, and has the device keep everything.
    pub(super) fn settle(&mut self) -> Result<(), WriteError> {
        self.flush()?;
        let outcome = self.device.io(0, File::sync_data);
        outcome.map_err(refused("make durable", 0, self.reached))
    }
}

pub(super) fn refused(
    action: &'static str,
    offset: u64,
    length: u64,
) -> impl FnOnce(io::Error) -> WriteError {
    move |source| WriteError::Device {
        action,
        offset,
        length,
        source,
    }
}
