//! What differs between two thin devices that were one once.

use crate::cursor::{Cursor, Head};
use crate::error::MetadataError;
use crate::extents::Mapping;
use crate::metadata::Metadata;
use crate::source::BlockSource;

/// Blocks in which the second of two devices differs from the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The first block in the thin devices.
    pub begin: u64,
    /// How many.
    pub length: u64,
    /// How they differ.
    pub change: Change,
}

/// How a block differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The second maps it, the first does not.
    Added,
    /// Both map it, to different data.
    Changed,
    /// Only the first maps it: in the second it reads as zeros.
    Removed,
}

/// The differences between two devices, in order; as long as they can be.
#[derive(Debug)]
pub struct Differences<'m, S> {
    first: Cursor<'m, S>,
    second: Cursor<'m, S>,
    /// Begun, perhaps not at its end.
    pending: Option<Difference>,
    over: bool,
}

impl<S: BlockSource> Metadata<S> {
    /// In what `second` differs from `first`, from block `from` on. Reads only nodes that the two
    /// do not share.
    ///
    /// # Errors
    /// When there is no such device, or it cannot be read.
    pub fn differences(
        &self,
        first: u32,
        second: u32,
        from: u64,
    ) -> Result<Differences<'_, S>, MetadataError> {
        Ok(Differences {
            first: Cursor::new(self, self.mappings(first)?, from),
            second: Cursor::new(self, self.mappings(second)?, from),
            pending: None,
            over: false,
        })
    }
}

impl<S: BlockSource> Differences<'_, S> {
    fn difference(&mut self) -> Result<Option<Difference>, MetadataError> {
        while let Some((key, change)) = self.block()? {
            match &mut self.pending {
                Some(run) if run.continues(key, change) => run.length += 1,
                pending => {
                    let done = pending.replace(Difference {
                        begin: key,
                        length: 1,
                        change,
                    });
                    if done.is_some() {
                        return Ok(done);
                    }
                }
            }
        }
        Ok(self.pending.take())
    }

    /// The next block that differs.
    fn block(&mut self) -> Result<Option<(u64, Change)>, MetadataError> {
        loop {
            let found = match (self.first.head(), self.second.head()) {
                (None, None) => return Ok(None),
                (Some(head), None) => self.removed(head)?,
                (None, Some(head)) => self.added(head)?,
                (Some(first), Some(second)) => self.compare(first, second)?,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    fn compare(
        &mut self,
        first: Head,
        second: Head,
    ) -> Result<Option<(u64, Change)>, MetadataError> {
        match (first, second) {
            (Head::Subtree(one), Head::Subtree(other)) if one.block == other.block => {
                self.first.skip();
                self.second.skip();
                Ok(None)
            }
            (Head::Entry(key), Head::Entry(other)) if key == other => {
                let data = |cursor: &Cursor<'_, S>| cursor.value().map(Mapping::parse);
                let same = data(&self.first).map(|mapping| mapping.data)
                    == data(&self.second).map(|mapping| mapping.data);
                self.first.skip();
                self.second.skip();
                Ok((!same).then_some((key, Change::Changed)))
            }
            // The one that begins lower goes first; at the same key the higher node, which may
            // have the other beneath it.
            _ if first.low() < second.low()
                || first.low() == second.low() && first.height() >= second.height() =>
            {
                self.removed(first)
            }
            _ => self.added(second),
        }
    }

    fn removed(&mut self, head: Head) -> Result<Option<(u64, Change)>, MetadataError> {
        Ok(take(&mut self.first, head)?.map(|key| (key, Change::Removed)))
    }

    fn added(&mut self, head: Head) -> Result<Option<(u64, Change)>, MetadataError> {
        Ok(take(&mut self.second, head)?.map(|key| (key, Change::Added)))
    }
}

/// Steps over an entry and tells its key, or opens a node.
fn take<S: BlockSource>(
    cursor: &mut Cursor<'_, S>,
    head: Head,
) -> Result<Option<u64>, MetadataError> {
    match head {
        Head::Entry(key) => {
            cursor.skip();
            Ok(Some(key))
        }
        Head::Subtree(_) => cursor.open().map(|()| None),
    }
}

impl Difference {
    fn continues(&self, key: u64, change: Change) -> bool {
        self.change == change && self.begin.checked_add(self.length) == Some(key)
    }
}

impl<S: BlockSource> Iterator for Differences<'_, S> {
    type Item = Result<Difference, MetadataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let item = self.difference().transpose();
        self.over = !matches!(item, Some(Ok(_)));
        item
    }
}
