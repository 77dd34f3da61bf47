//! What a thin device maps.

use crate::cursor::Cursor;
use crate::error::MetadataError;
use crate::metadata::Metadata;
use crate::source::{BlockSource, long};

/// Blocks of a thin device that lie on blocks of the pool in the same order, all mapped at the
/// same time. All numbers are in data blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first block in the thin device.
    pub begin: u64,
    /// How many.
    pub length: u64,
    /// The first block in the pool.
    pub data: u64,
    /// The pool's time when they were mapped.
    pub time: u32,
}

/// A mapping's value: 40 bits of the block, 24 of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub data: u64,
    pub time: u32,
}

impl Mapping {
    pub fn parse(value: &[u8]) -> Self {
        let value = long(value, 0);
        Mapping {
            data: value >> 24,
            time: (value & 0xff_ffff) as u32,
        }
    }
}

/// The extents of a thin device, in order; as long as they can be.
#[derive(Debug)]
pub struct Extents<'m, S> {
    cursor: Cursor<'m, S>,
    /// Begun, perhaps not at its end.
    pending: Option<Extent>,
    over: bool,
}

impl<S: BlockSource> Metadata<S> {
    /// What a thin device maps, from block `from` on.
    ///
    /// # Errors
    /// When there is no such device, or it cannot be read.
    pub fn extents(&self, device: u32, from: u64) -> Result<Extents<'_, S>, MetadataError> {
        Ok(Extents {
            cursor: Cursor::new(self, self.mappings(device)?, from),
            pending: None,
            over: false,
        })
    }
}

impl<S: BlockSource> Metadata<S> {
    /// The last block that a thin device maps, if it maps any. Costs one way down its tree.
    ///
    /// # Errors
    /// When there is no such device, or it cannot be read.
    pub fn last_block(&self, device: u32) -> Result<Option<u64>, MetadataError> {
        let tree = self.mappings(device)?;
        let mut subtree = tree.top;
        loop {
            let node = tree.node(self, subtree)?;
            match node.entries.checked_sub(1) {
                None => return Ok(None),
                Some(last) if node.leaf => return Ok(Some(node.key(last))),
                Some(last) => subtree = subtree.child(&node, last),
            }
        }
    }
}

impl<S: BlockSource> Extents<'_, S> {
    fn extent(&mut self) -> Result<Option<Extent>, MetadataError> {
        while let Some((key, mapping)) = self.cursor.next(Mapping::parse)? {
            match &mut self.pending {
                Some(extent) if extent.continues(key, mapping) => extent.length += 1,
                pending => {
                    let done = pending.replace(Extent {
                        begin: key,
                        length: 1,
                        data: mapping.data,
                        time: mapping.time,
                    });
                    if done.is_some() {
                        return Ok(done);
                    }
                }
            }
        }
        Ok(self.pending.take())
    }
}

impl Extent {
    fn continues(&self, key: u64, mapping: Mapping) -> bool {
        self.begin.checked_add(self.length) == Some(key)
            && self.data + self.length == mapping.data
            && self.time == mapping.time
    }
}

impl<S: BlockSource> Iterator for Extents<'_, S> {
    type Item = Result<Extent, MetadataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let item = self.extent().transpose();
        self.over = !matches!(item, Some(Ok(_)));
        item
    }
}
