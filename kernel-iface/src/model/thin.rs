//! What a thin pool keeps in its metadata: it outlives every table and every boot.

use std::collections::BTreeMap;

use ashlar_targetd_protocol::{Sectors, ThinId};

use super::data::ThinData;
use super::thin_image::{ThinImage, ThinMappings, ThinMetadata};
use crate::dm::{
    PoolDiscard, PoolFeatures, PoolMessage, PoolMode, ThinPool, ThinPoolUsage, ThinStatus,
};
use crate::tree::Errno;

/// Metadata blocks a fresh pool uses; the real number depends on the size.
const FRESH_METADATA: u64 = 10;
/// A metadata block, 4 KiB.
const METADATA_BLOCK: u64 = 8;
/// Free metadata blocks below which the kernel raises an event, unless a quarter is less.
const METADATA_MARK: u64 = 1024;
/// Data blocks of which a metadata block holds the reference counts.
const COUNTED: u64 = 16_320;

/// The metadata of one pool.
#[derive(Debug)]
pub(super) struct PoolMetadata {
    transaction_id: u64,
    /// Size of a data block; fixed when the pool was made.
    pub(super) block: Sectors,
    /// Data blocks the pool knows of; grows when a larger table is resumed, never shrinks.
    data_blocks: u64,
    /// Metadata blocks it knows of, likewise.
    metadata_blocks: u64,
    /// Metadata blocks they were made with.
    metadata_at_first: u64,
    /// Metadata blocks in use besides those that are counted here; as a test said.
    metadata_filled: u64,
    /// Without room in the metadata nothing is changed any more, until they grow and a table is
    /// loaded.
    read_only: bool,
    /// A change failed midway: nothing is changed any more, whatever is loaded.
    needs_check: bool,
    thins: BTreeMap<ThinId, ThinDevice>,
    /// How many snapshots were taken.
    time: u32,
    /// How many thin devices were made that share nothing with others.
    families: u64,
    /// Data blocks by what is known of them; see [`ThinDevice::blocks`].
    data: BTreeMap<DataKey, (u64, u32)>,
    /// The state that is held for a reader.
    held: Option<ThinImage>,
    /// What was told of it.
    told: Told,
}

/// What a pool has told. Its marks are told once for each table that goes live.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    low_water: bool,
    full: bool,
    metadata: bool,
    read_only: bool,
}

/// A data block: the family it belongs to, where in the thin devices it is, and a digest of what
/// it holds.
type DataKey = (u64, u64, u64);

#[derive(Debug, Default)]
struct ThinDevice {
    /// As a test said; see [`ModelKernel::write_thin`](super::ModelKernel::write_thin).
    mapped_blocks: u64,
    /// What was written through a file; made when it is first opened.
    data: Option<ThinData>,
    /// It shares data with those of the same family only.
    family: u64,
    transaction_id: u64,
    created: u32,
    snapshotted: u32,
}

impl ThinDevice {
    /// Digests of the blocks that are mapped.
    fn blocks(&self, block: Sectors) -> Result<BTreeMap<u64, u64>, Errno> {
        let mut blocks: BTreeMap<_, _> = (0..self.mapped_blocks).map(|block| (block, 0)).collect();
        if let Some(data) = &self.data {
            blocks.extend(data.digests(block.bytes().0)?);
        }
        Ok(blocks)
    }

    fn mapped(&self, block: Sectors) -> u64 {
        let written = self.data.as_ref().map(|data| data.blocks(block.bytes().0));
        self.mapped_blocks.max(written.unwrap_or(0))
    }

    /// Another with the same content.
    fn copy(&self) -> Result<ThinDevice, Errno> {
        Ok(ThinDevice {
            mapped_blocks: self.mapped_blocks,
            data: self.data.as_ref().map(ThinData::copy).transpose()?,
            ..*self
        })
    }
}

impl PoolMetadata {
    pub(super) fn format(block: Sectors) -> Self {
        PoolMetadata {
            transaction_id: 0,
            block,
            data_blocks: 0,
            metadata_blocks: 0,
            metadata_at_first: 0,
            metadata_filled: 0,
            read_only: false,
            needs_check: false,
            thins: BTreeMap::new(),
            time: 0,
            families: 0,
            data: BTreeMap::new(),
            held: None,
            told: Told::default(),
        }
    }

    pub(super) fn has(&self, id: ThinId) -> bool {
        self.thins.contains_key(&id)
    }

    /// What a resumed pool table does to the metadata, whose device has `metadata` sectors:
    /// `EINVAL` for a smaller pool, `ENOSPC` when there is no room to count more data blocks.
    /// As in the kernel the data come first, and what counts them is taken from the metadata as
    /// they were. Metadata that need a check keep their size without a word.
    pub(super) fn resize(&mut self, length: Sectors, metadata: Sectors) -> Result<(), Errno> {
        let (data, metadata) = (length.0 / self.block.0, metadata.0 / METADATA_BLOCK);
        if self.metadata_blocks == 0 {
            // The kernel made them on all of the device.
            self.metadata_blocks = metadata;
            self.metadata_at_first = metadata;
        }
        self.read_only = self.needs_check;
        (self.told.low_water, self.told.metadata) = (false, false);
        if data < self.data_blocks {
            return Err(Errno::EINVAL);
        }
        if data > self.data_blocks && !self.needs_check {
            let more = data.div_ceil(COUNTED) - self.data_blocks.div_ceil(COUNTED);
            if more > self.metadata_free() {
                self.fail();
                return Err(Errno::ENOSPC);
            }
            self.data_blocks = data;
        }
        if metadata < self.metadata_blocks {
            return Err(Errno::EINVAL);
        }
        if !self.needs_check {
            self.metadata_blocks = metadata;
        }
        Ok(())
    }

    /// Whether they can be read on a device of that size: what was written since they grew lies
    /// where they grew.
    pub(super) fn can_be_read(&self, metadata: Sectors) -> bool {
        let metadata = metadata.0 / METADATA_BLOCK;
        metadata >= self.metadata_blocks || self.metadata_blocks == self.metadata_at_first
    }

    /// Blocks of data and of metadata.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.data_blocks, self.metadata_blocks)
    }

    fn metadata_used(&self) -> u64 {
        let counting = self.data_blocks.div_ceil(COUNTED);
        FRESH_METADATA + counting + self.thins.len() as u64 + self.metadata_filled
    }

    fn metadata_free(&self) -> u64 {
        self.metadata_blocks.saturating_sub(self.metadata_used())
    }

    /// Whether it has come to something that the kernel raises an event for: below the low-water
    /// mark of its table it looks when a block is taken, and so one block later; below a quarter
    /// of the metadata, or 4 MiB of them; and when it changes what it allows.
    pub(super) fn passes(&mut self, low_water: u64) -> bool {
        let free = self.data_blocks.saturating_sub(self.data_used());
        let before = self.told;
        self.told = Told {
            low_water: before.low_water || free < low_water,
            full: free == 0,
            metadata: self.metadata_free() < (self.metadata_blocks / 4).min(METADATA_MARK),
            read_only: self.read_only,
        };
        (self.told.low_water && !before.low_water)
            || (self.told.metadata && !before.metadata)
            || self.told.full != before.full
            || self.told.read_only != before.read_only
    }

    /// As if so much had been mapped that this many metadata blocks are free.
    pub(super) fn fill(&mut self, free: u64) {
        self.metadata_filled += self.metadata_free().saturating_sub(free);
        self.read_only |= free == 0;
    }

    /// As if a change of the metadata had failed midway.
    pub(super) fn fail(&mut self) {
        (self.read_only, self.needs_check) = (true, true);
    }

    /// `in_use` says whether a table names a thin device. `EOPNOTSUPP` when nothing is changed.
    pub(super) fn message(
        &mut self,
        message: &PoolMessage,
        in_use: impl Fn(ThinId) -> bool,
    ) -> Result<(), Errno> {
        if self.read_only {
            return Err(Errno::EOPNOTSUPP);
        }
        match *message {
            PoolMessage::CreateThin(id) => {
                self.families += 1;
                let device = ThinDevice {
                    family: self.families,
                    transaction_id: self.transaction_id,
                    created: self.time,
                    snapshotted: self.time,
                    ..ThinDevice::default()
                };
                self.create(id, device)
            }
            PoolMessage::CreateSnapshot { id, origin } => {
                if self.has(id) {
                    return Err(Errno::EEXIST);
                }
                self.note(origin)?;
                let origin = self.thins.get_mut(&origin).ok_or(Errno::ENODATA)?;
                let mut snapshot = origin.copy()?;
                self.time += 1;
                origin.snapshotted = self.time;
                snapshot.transaction_id = self.transaction_id;
                (snapshot.created, snapshot.snapshotted) = (self.time, self.time);
                self.create(id, snapshot)
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
            PoolMessage::ReserveMetadataSnap if self.held.is_some() => Err(Errno::EBUSY),
            PoolMessage::ReserveMetadataSnap => {
                self.held = Some(self.metadata()?.image());
                Ok(())
            }
            PoolMessage::ReleaseMetadataSnap => self.held.take().map(drop).ok_or(Errno::EINVAL),
        }
    }

    /// The state that is held for a reader.
    pub(super) fn held(&self) -> Option<&ThinImage> {
        self.held.as_ref()
    }

    /// What a reader sees. A block that has the same content as before, or as the same block of
    /// a device with a common origin, is the same data block.
    fn metadata(&mut self) -> Result<ThinMetadata, Errno> {
        let (block, time) = (self.block, self.time);
        let mut thins = BTreeMap::new();
        for (id, device) in &self.thins {
            let mut mappings = BTreeMap::new();
            for (at, digest) in device.blocks(block)? {
                let key = (device.family, at, digest);
                let next = (self.data.len() as u64, time);
                mappings.insert(at, *self.data.entry(key).or_insert(next));
            }
            let thin = ThinMappings {
                transaction_id: device.transaction_id,
                created: device.created,
                snapshotted: device.snapshotted,
                mappings,
            };
            thins.insert(*id, thin);
        }
        Ok(ThinMetadata {
            block,
            transaction_id: self.transaction_id,
            time,
            thins,
        })
    }

    /// What a thin device maps was mapped by now.
    fn note(&mut self, id: ThinId) -> Result<(), Errno> {
        let device = self.thins.get(&id).ok_or(Errno::ENODATA)?;
        for (at, digest) in device.blocks(self.block)? {
            let next = (self.data.len() as u64, self.time);
            self.data.entry((device.family, at, digest)).or_insert(next);
        }
        Ok(())
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
        let (used, block) = (self.data_used(), self.block);
        let device = self.thins.get_mut(&id).ok_or(Errno::ENODATA)?;
        let more = blocks.saturating_sub(device.mapped(block));
        if self.read_only && more > 0 {
            return Err(Errno::EIO);
        }
        if used + more > self.data_blocks {
            return Err(Errno::ENOSPC);
        }
        device.mapped_blocks = device.mapped_blocks.max(blocks);
        Ok(())
    }

    /// The same up to a byte of it.
    pub(super) fn write_to(&mut self, id: ThinId, end: u64) -> Result<(), Errno> {
        self.write_thin(id, end.div_ceil(self.block.bytes().0))
    }

    /// What a thin device holds, as a file.
    pub(super) fn data(&mut self, id: ThinId) -> Result<&mut ThinData, Errno> {
        let device = self.thins.get_mut(&id).ok_or(Errno::ENODATA)?;
        if device.data.is_none() {
            device.data = Some(ThinData::new()?);
        }
        device.data.as_mut().ok_or(Errno::ENODATA)
    }

    /// Whether a file of a thin device is still open.
    pub(super) fn is_open(&self, id: ThinId) -> bool {
        let data = self.thins.get(&id).and_then(|thin| thin.data.as_ref());
        data.is_some_and(ThinData::is_open)
    }

    /// Blocks of snapshots are counted as if nothing were shared.
    fn data_used(&self) -> u64 {
        self.thins
            .values()
            .map(|thin| thin.mapped(self.block))
            .sum()
    }

    pub(super) fn usage(&self, pool: &ThinPool) -> ThinPoolUsage {
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
            metadata_used: self.metadata_used().min(self.metadata_blocks),
            metadata_total: self.metadata_blocks,
            data_used: self.data_used(),
            data_total: self.data_blocks,
            held_root: self.held.as_ref().map(|image| image.held_root),
            mode: match (read_only || self.read_only, full) {
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
            needs_check: self.needs_check,
        }
    }

    pub(super) fn thin_status(&self, id: ThinId) -> ThinStatus {
        let blocks = self
            .thins
            .get(&id)
            .map_or(0, |thin| thin.mapped(self.block));
        let mapped = Sectors(blocks * self.block.0);
        ThinStatus::Good {
            mapped,
            highest: mapped.0.checked_sub(1).map(Sectors),
        }
    }
}
