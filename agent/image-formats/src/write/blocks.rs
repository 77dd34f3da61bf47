//! Images made of large blocks, each there as a whole or not at all.

use std::io::{self, Write};

use super::{unplanned, zeros};

/// Which blocks of a disk have data.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    /// Bytes of a block.
    pub(super) block: u64,
    /// How many there are.
    pub(super) count: u64,
    used: Vec<u64>,
}

impl Blocks {
    pub(super) fn new(size: u64, block: u64) -> Blocks {
        let count = size.div_ceil(block);
        Blocks {
            block,
            count,
            used: vec![0; count.div_ceil(64) as usize],
        }
    }

    pub(super) fn add(&mut self, offset: u64, length: u64) {
        let last = (offset + length - 1) / self.block;
        for index in offset / self.block..=last {
            self.used[(index / 64) as usize] |= 1 << (index % 64);
        }
    }

    pub(super) fn has(&self, index: u64) -> bool {
        self.used[(index / 64) as usize] >> (index % 64) & 1 == 1
    }

    pub(super) fn used(&self) -> u64 {
        self.used
            .iter()
            .map(|part| u64::from(part.count_ones()))
            .sum()
    }
}

/// Writes the blocks that a plan promised, each behind the same few bytes, and an end.
#[derive(Debug)]
pub(super) struct BlockWriter<W> {
    pub(super) out: W,
    pub(super) blocks: Blocks,
    /// What is in front of each block.
    pub(super) before: Vec<u8>,
    /// What is behind all of them.
    pub(super) end: Vec<u8>,
    /// The first block that is not written yet.
    pub(super) next: u64,
    /// How much of the block before it is, while that is under way.
    pub(super) filled: Option<u64>,
}

impl<W: Write> BlockWriter<W> {
    pub(super) fn data(&mut self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (index, inside) = (offset / self.blocks.block, offset % self.blocks.block);
            let filled = match self.filled {
                Some(filled) if self.next == index + 1 => filled,
                _ => self.begin(index)?,
            };
            if inside < filled {
                return Err(unplanned("data does not come in order"));
            }
            zeros(&mut self.out, inside - filled)?;
            let count = (self.blocks.block - inside).min(bytes.len() as u64);
            let (now, later) = bytes.split_at(count as usize);
            self.out.write_all(now)?;
            self.filled = Some(inside + count);
            (offset, bytes) = (offset + count, later);
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.skip(self.blocks.count)?;
        self.out.write_all(&self.end)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn begin(&mut self, index: u64) -> io::Result<u64> {
        if index >= self.blocks.count || !self.blocks.has(index) {
            return Err(unplanned("there is more data than was planned"));
        }
        self.skip(index)?;
        self.out.write_all(&self.before)?;
        self.next = index + 1;
        self.filled = Some(0);
        Ok(0)
    }

    /// Ends the block under way; those up to `index` must have been left out on purpose.
    fn skip(&mut self, index: u64) -> io::Result<()> {
        if index < self.next {
            return Err(unplanned("data does not come in order"));
        }
        if (self.next..index).any(|skipped| self.blocks.has(skipped)) {
            return Err(unplanned("there is less data than was planned"));
        }
        if let Some(filled) = self.filled.take() {
            zeros(&mut self.out, self.blocks.block - filled)?;
        }
        self.next = index;
        Ok(())
    }
}
