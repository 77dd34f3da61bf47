use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

use ashlar_targetd_protocol::Bytes;

use super::{BlockDevice, BlockError};

/// A device as a stream, for a library that wants one: blocks are fetched as they are touched,
/// and writes stay in memory until [`Window::commit`]. It holds a bounded number of
/// blocks, so that no partition table on a disk can make it read the whole disk.
#[derive(Debug)]
pub(super) struct Window<'a> {
    device: &'a dyn BlockDevice,
    position: u64,
    blocks: BTreeMap<u64, Block>,
}

#[derive(Debug)]
struct Block {
    bytes: Vec<u8>,
    dirty: bool,
}

impl<'a> Window<'a> {
    /// 1 MiB: twenty times a usual GPT with its copy.
    const MOST: u64 = 1 << 20;

    pub(super) fn new(device: &'a dyn BlockDevice) -> Self {
        Window {
            device,
            position: 0,
            blocks: BTreeMap::new(),
        }
    }

    /// Writes what was changed, each run of neighbouring blocks at once.
    pub(super) fn commit(&mut self) -> Result<(), BlockError> {
        let size = self.device.logical_block().0;
        let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
        for (index, block) in self.blocks.iter().filter(|(_, block)| block.dirty) {
            match runs.last_mut() {
                Some((start, bytes)) if *start + bytes.len() as u64 == index * size => {
                    bytes.extend_from_slice(&block.bytes);
                }
                _ => runs.push((index * size, block.bytes.clone())),
            }
        }
        for (start, bytes) in &runs {
            self.device.write_at(Bytes(*start), bytes)?;
        }
        self.blocks
            .values_mut()
            .for_each(|block| block.dirty = false);
        Ok(())
    }

    /// The block under the position from there to its end, at most `length` bytes of it.
    /// Empty at the end of the device.
    fn piece(&mut self, length: usize) -> io::Result<(&mut Block, std::ops::Range<usize>)> {
        let size = self.device.logical_block().0;
        let index = self.position / size;
        if !self.blocks.contains_key(&index) {
            if (self.blocks.len() as u64 + 1) * size > Self::MOST {
                return Err(io::Error::other("the partition table is too large"));
            }
            let mut bytes = vec![0; size as usize];
            self.device
                .read_at(Bytes(index * size), &mut bytes)
                .map_err(io::Error::other)?;
            self.blocks.insert(
                index,
                Block {
                    bytes,
                    dirty: false,
                },
            );
        }
        let start = (self.position % size) as usize;
        let end = (start + length).min(size as usize);
        self.position += (end - start) as u64;
        let block = self.blocks.get_mut(&index).expect("it was put there above");
        Ok((block, start..end))
    }

    fn at_end(&self) -> bool {
        self.position >= self.device.size().0
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at_end() || buffer.is_empty() {
            return Ok(0);
        }
        let (block, range) = self.piece(buffer.len())?;
        buffer[..range.len()].copy_from_slice(&block.bytes[range.clone()]);
        Ok(range.len())
    }
}

impl Write for Window<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.at_end() || data.is_empty() {
            return Ok(0);
        }
        let (block, range) = self.piece(data.len())?;
        block.bytes[range.clone()].copy_from_slice(&data[..range.len()]);
        block.dirty = true;
        Ok(range.len())
    }

    /// The library's idea of when to write is not ours: see [`Window::commit`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let moved = |from: u64, by: i64| from.checked_add_signed(by);
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => moved(self.device.size().0, by),
            SeekFrom::Current(by) => moved(self.position, by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
