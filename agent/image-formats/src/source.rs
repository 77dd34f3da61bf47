//! Where an image's bytes come from.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// An image's bytes, by place.
pub trait Source {
    /// Bytes of the image.
    fn length(&self) -> u64;

    /// Fills `buffer` with the bytes from `at`, all of them inside the length.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Source for Vec<u8> {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let part = usize::try_from(at)
            .ok()
            .and_then(|at| self.get(at..)?.get(..buffer.len()));
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// What a device opened with `O_DIRECT` asks of places, lengths and memory.
const ALIGNMENT: usize = 4096;

/// Bytes read at once, at most and at least: clusters need not lie in the order of the disk, so
/// that reading far ahead would read much in vain.
const CHUNK: usize = 256 * 1024;
const LEAST: usize = 64 * 1024;

/// A file or block device, also one that was opened with `O_DIRECT`.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    length: u64,
    chunk: RefCell<Chunk>,
}

/// The stretch of the file that was read last.
#[derive(Debug)]
struct Chunk {
    /// Longer than a chunk, so that one fits in aligned.
    memory: Vec<u8>,
    at: u64,
    filled: usize,
}

impl FileSource {
    /// The first `length` bytes of a file, which may be longer: a device is made of whole blocks.
    pub fn new(file: File, length: u64) -> FileSource {
        let chunk = RefCell::new(Chunk {
            memory: vec![0; CHUNK + ALIGNMENT],
            at: 0,
            filled: 0,
        });
        FileSource {
            file,
            length,
            chunk,
        }
    }
}

impl Source for FileSource {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, mut at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut chunk = self.chunk.borrow_mut();
        let mut left = buffer;
        while !left.is_empty() {
            let ready = chunk.from(&self.file, at, left.len(), self.length)?;
            let count = ready.len().min(left.len());
            let (now, later) = left.split_at_mut(count);
            now.copy_from_slice(&ready[..count]);
            (left, at) = (later, at + count as u64);
        }
        Ok(())
    }
}

impl Chunk {
    /// At least one byte from `at`, reading the chunk around it if it is another one.
    fn from(&mut self, file: &File, at: u64, need: usize, length: u64) -> io::Result<&[u8]> {
        let start = self.memory.as_ptr().align_offset(ALIGNMENT);
        let inside = at.checked_sub(self.at);
        if inside.is_none_or(|inside| inside >= self.filled as u64) {
            self.at = at / ALIGNMENT as u64 * ALIGNMENT as u64;
            self.filled = 0;
            let memory = &mut self.memory[start..start + CHUNK];
            let need = (need + (at - self.at) as usize).clamp(LEAST, CHUNK);
            let wanted = length.saturating_sub(self.at).min(need as u64) as usize;
            let wanted = wanted.next_multiple_of(ALIGNMENT);
            self.filled = fill(file, self.at, &mut memory[..wanted])?;
        }
        let inside = (at - self.at) as usize;
        let ready = &self.memory[start..start + self.filled];
        match ready.get(inside..) {
            Some(ready) if !ready.is_empty() => Ok(ready),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Reads until the buffer is full or the file ends. Only a file's end makes a read short by other
/// than whole blocks, so that alignment holds.
fn fill(file: &File, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if !filled.is_multiple_of(ALIGNMENT) {
            break;
        }
    }
    Ok(filled)
}
