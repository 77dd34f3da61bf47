use super::CHUNK;
use super::buffer::Buffer;
use super::read::{ReadError, read_chunk};
use super::turn::Device;
use super::write::{Step, Target, WriteError};

/// Why a device was not copied, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// What is copied.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What it is copied to.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Copies from one device to another of the same size.
pub struct Copier<'f> {
    from: Device<'f>,
    buffer: Buffer,
    target: Target<'f>,
}

impl<'f> Copier<'f> {
    /// Nothing is copied yet. `step` is told how far it is now and then, and says whether to go
    /// on.
    pub fn new(from: Device<'f>, to: Device<'f>, size: u64, step: Step<'f>) -> Copier<'f> {
        Copier {
            from,
            buffer: Buffer::new(),
            target: Target::new(to, size, 0, step),
        }
    }

    /// The next stretch, of whole blocks. `pass` is told of every piece of it before.
    ///
    /// # Errors
    /// When it cannot be copied, or is not wanted any more; it is not to go on. Likewise below.
    pub fn data(
        &mut self,
        offset: u64,
        length: u64,
        mut pass: impl FnMut(u64),
    ) -> Result<(), CopyError> {
        let end = offset + length;
        for at in (offset..end).step_by(CHUNK) {
            let length = (end - at).min(CHUNK as u64);
            pass(length);
            let chunk = &mut self.buffer[..length as usize];
            read_chunk(self.from, at, chunk)?;
            self.target.data(at, chunk)?;
        }
        Ok(())
    }

    /// A stretch of zeros.
    pub fn zeros(&mut self, offset: u64, length: u64) -> Result<(), CopyError> {
        Ok(self.target.zeros(offset, length)?)
    }

    /// Makes durable all that was copied; how much was written.
    pub fn finish(mut self) -> Result<u64, CopyError> {
        self.target.settle()?;
        Ok(self.target.written)
    }
}
