//! Thin devices, as the pool's details of them say.

use crate::error::{Damage, MetadataError};
use crate::metadata::Metadata;
use crate::source::{BlockSource, long, word};

/// Bytes of a device's details.
pub(crate) const DETAILS: u32 = 24;
/// Ids have 24 bits.
const MOST_ID: u64 = (1 << 24) - 1;

/// A thin device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThinDevice {
    /// Its id in the pool.
    pub id: u32,
    /// Data blocks it maps, shared or not.
    pub mapped_blocks: u64,
    /// The pool's transaction in which it was made.
    pub transaction: u64,
    /// The pool's time when it was made.
    pub created: u32,
    /// The pool's time when it last was made, or a snapshot taken of it. Blocks that it mapped
    /// since then it has alone.
    pub snapshotted: u32,
}

impl ThinDevice {
    pub(crate) fn parse(id: u32, details: &[u8]) -> Self {
        ThinDevice {
            id,
            mapped_blocks: long(details, 0),
            transaction: long(details, 8),
            created: word(details, 16),
            snapshotted: word(details, 20),
        }
    }
}

impl<S: BlockSource> Metadata<S> {
    /// The thin devices from id `from` on, in order of id.
    ///
    /// # Errors
    /// When their tree cannot be read.
    pub fn devices(
        &self,
        from: u32,
    ) -> Result<impl Iterator<Item = Result<ThinDevice, MetadataError>> + '_, MetadataError> {
        let mut cursor = self.details(from.into())?;
        let mut next = move || {
            let Some((key, device)) = cursor.next(|details| ThinDevice::parse(0, details))? else {
                return Ok(None);
            };
            let id = self.id(key)?;
            Ok(Some(ThinDevice { id, ..device }))
        };
        let mut over = false;
        Ok(std::iter::from_fn(move || {
            let item = if over { None } else { next().transpose() };
            over = !matches!(item, Some(Ok(_)));
            item
        }))
    }

    /// The highest id that a thin device has; nothing when there is none. Costs the same
    /// however many there are.
    ///
    /// # Errors
    /// When their tree cannot be read.
    pub fn highest_device(&self) -> Result<Option<u32>, MetadataError> {
        let last = self.details_tree()?.last_key(self)?;
        last.map(|key| self.id(key)).transpose()
    }

    fn id(&self, key: u64) -> Result<u32, MetadataError> {
        match u32::try_from(key) {
            Ok(id) if key <= MOST_ID => Ok(id),
            _ => Err(MetadataError::damaged(
                self.details_root(),
                Damage::Key(key),
            )),
        }
    }

    /// One thin device.
    ///
    /// # Errors
    /// When there is no such device, or it cannot be read.
    pub fn device(&self, id: u32) -> Result<ThinDevice, MetadataError> {
        match self
            .details(id.into())?
            .next(|details| ThinDevice::parse(id, details))?
        {
            Some((key, device)) if key == u64::from(id) => Ok(device),
            _ => Err(MetadataError::NoDevice(id)),
        }
    }
}
