//! What a thin pool keeps in its metadata: it outlives every table and every boot.

use std::collections::BTreeMap;

use ashlar_targetd_protocol::{Sectors, ThinId};

use crate::dm::{
    PoolDiscard, PoolFeatures, PoolMessage, PoolMode, ThinPool, ThinPoolUsage, ThinStatus,
};
use crate::tree::Errno;

/// Metadata blocks a fresh pool uses; the real number depends on the size.
const FRESH_METADATA: u64 = 10;
/// A metadata block, 4 KiB.
const METADATA_BLOCK: u64 = 8;

/// The metadata of one pool.
#[derive(Debug)]
pub(super) struct PoolMetadata {
    transaction_id: u64,
    /// Size of a data block; fixed when the pool was made.
    pub(super) block: Sectors,
    /// Data blocks the pool knows of; grows when a larger table is resumed, never shrinks.
    data_blocks: u64,
    thins: BTreeMap<ThinId, ThinDevice>,
}

#[derive(Clone, Copy, Debug, Default)]
struct ThinDevice {
    mapped_blocks: u64,
}

impl PoolMetadata {
    pub(super) fn format(block: Sectors) -> Self {
        PoolMetadata {
            transaction_id: 0,
            block,
            data_blocks: 0,
            thins: BTreeMap::new(),
        }
    }

    pub(super) fn has(&self, id: ThinId) -> bool {
        self.thins.contains_key(&id)
    }

    /// What a resumed pool table does to the metadata: `EINVAL` for a smaller pool.
    pub(super) fn resize(&mut self, length: Sectors) -> Result<(), Errno> {
        let blocks = length.0 / self.block.0;
        if blocks < self.data_blocks {
            return Err(Errno::EINVAL);
        }
        self.data_blocks = blocks;
        Ok(())
    }

    /// `in_use` says whether a table names a thin device.
    pub(super) fn message(
        &mut self,
        message: &PoolMessage,
        in_use: impl Fn(ThinId) -> bool,
    ) -> Result<(), Errno> {
        match *message {
            PoolMessage::CreateThin(id) => self.create(id, ThinDevice::default()),
            PoolMessage::CreateSnapshot { id, origin } => {
                if self.has(id) {
                    return Err(Errno::EEXIST);
                }
                let shared = *self.thins.get(&origin).ok_or(Errno::ENODATA)?;
                self.create(id, shared)
            }
            PoolMessage::Delete(id) => {
                if in_use(id) {
                    return Err(Errno::EBUSY);
                }
                self.thins.remove(&id).map(drop).ok_or(Errno::ENODATA)
            }
            PoolMessage::SetTransactionId { from, to } => {
                if from != self.transaction_id {
                    return Err(Errno::EINVAL);
                }
                self.transaction_id = to;
                Ok(())
            }
        }
    }

    fn create(&mut self, id: ThinId, device: ThinDevice) -> Result<(), Errno> {
        if self.has(id) {
            return Err(Errno::EEXIST);
        }
        self.thins.insert(id, device);
        Ok(())
    }

    /// As if the first `blocks` blocks of a thin device had been written. `ENOSPC` when the
    /// pool has not that many, `ENODATA` without the device.
    pub(super) fn write_thin(&mut self, id: ThinId, blocks: u64) -> Result<(), Errno> {
        let device = *self.thins.get(&id).ok_or(Errno::ENODATA)?;
        let more = blocks.saturating_sub(device.mapped_blocks);
        if self.data_used() + more > self.data_blocks {
            return Err(Errno::ENOSPC);
        }
        let mapped_blocks = device.mapped_blocks.max(blocks);
        self.thins.insert(id, ThinDevice { mapped_blocks });
        Ok(())
    }

    /// Blocks of snapshots are counted as if nothing were shared.
    fn data_used(&self) -> u64 {
        self.thins.values().map(|thin| thin.mapped_blocks).sum()
    }

    pub(super) fn usage(&self, pool: &ThinPool, metadata: Sectors) -> ThinPoolUsage {
        let PoolFeatures {
            ignore_discard,
            no_discard_passdown,
            read_only,
            error_if_no_space,
            skip_block_zeroing: _,
        } = pool.features;
        let full = self.data_used() >= self.data_blocks;
        ThinPoolUsage {
            transaction_id: self.transaction_id,
            metadata_used: FRESH_METADATA + self.thins.len() as u64,
            metadata_total: metadata.0 / METADATA_BLOCK,
            data_used: self.data_used(),
            data_total: self.data_blocks,
            held_root: false,
            mode: match (read_only, full) {
                (true, _) => PoolMode::ReadOnly,
                (false, true) => PoolMode::OutOfDataSpace,
                (false, false) => PoolMode::ReadWrite,
            },
            discard: match (ignore_discard, no_discard_passdown) {
                (true, _) => PoolDiscard::Ignored,
                (false, true) => PoolDiscard::Freed,
                (false, false) => PoolDiscard::PassedDown,
            },
            error_if_no_space,
            needs_check: false,
        }
    }

    pub(super) fn thin_status(&self, id: ThinId) -> ThinStatus {
        let blocks = self.thins.get(&id).map_or(0, |thin| thin.mapped_blocks);
        let mapped = Sectors(blocks * self.block.0);
        ThinStatus::Good {
            mapped,
            highest: mapped.0.checked_sub(1).map(Sectors),
        }
    }
}
