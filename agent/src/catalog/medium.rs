//! The region, as what reads and writes it sees it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::BLOCK;
use crate::data::Buffer;
use crate::targetd::OpenDevice;

/// A region. Offsets and lengths are whole blocks.
pub trait Medium {
    /// Its bytes.
    fn size(&self) -> u64;
    /// Fills `bytes`.
    ///
    /// # Errors
    /// As the disk says.
    fn read_at(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()>;
    /// Writes `bytes`; durable after [`Medium::sync`].
    ///
    /// # Errors
    /// As the disk says; any part of them may have been written.
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes all that was written durable.
    ///
    /// # Errors
    /// As the disk says; then nothing is known of what was written.
    fn sync(&mut self) -> io::Result<()>;
}

/// A region on a device that was opened past every cache.
#[derive(Debug)]
pub struct DeviceMedium {
    file: File,
    size: u64,
    buffer: Buffer,
}

impl DeviceMedium {
    /// The region that all of a device is.
    pub fn new(device: OpenDevice) -> DeviceMedium {
        DeviceMedium {
            file: device.file,
            size: device.size,
            buffer: Buffer::new(),
        }
    }
}

impl Medium for DeviceMedium {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let pieces = bytes.chunks_mut(self.buffer.len());
        let mut from = at;
        for piece in pieces {
            let aligned = &mut self.buffer[..piece.len().next_multiple_of(BLOCK)];
            self.file.read_exact_at(aligned, from)?;
            piece.copy_from_slice(&aligned[..piece.len()]);
            from += piece.len() as u64;
        }
        Ok(())
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut to = at;
        for piece in bytes.chunks(self.buffer.len()) {
            let aligned = &mut self.buffer[..piece.len()];
            aligned.copy_from_slice(piece);
            self.file.write_all_at(aligned, to)?;
            to += piece.len() as u64;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}
