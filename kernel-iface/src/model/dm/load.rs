//! Loading a table: what it stands on is opened, and each target checks what it checks.

use ashlar_targetd_protocol::Sectors;

use super::super::thin::PoolMetadata;
use super::super::{BlockDevice, Holder, ModelState, Module};
use super::{Device, Loaded, below, raid};
use crate::device::DeviceNumber;
use crate::dm::{DmAccess, DmName, Table, TableLine, Target, Thin, ThinPool};
use crate::tree::Errno;

/// A block of thin metadata, and the mark dm-thin leaves in the first.
const METADATA_BLOCK: usize = 4096;
const THIN_MAGIC: [u8; 8] = 27_022_010_u64.to_le_bytes();
/// Bounds of a pool's block size in sectors, which is also a multiple of the least.
const LEAST_BLOCK: u64 = 128;
const MOST_BLOCK: u64 = 2_097_152;

impl ModelState {
    pub(in crate::model) fn dm_load(
        &mut self,
        name: &DmName,
        table: &Table,
        access: DmAccess,
    ) -> Result<(), Errno> {
        let number = self.dm.device(name)?.number;
        let lines = table.lines();
        if lines.is_empty() || lines.iter().any(|line| line.length.0 == 0) {
            return Err(Errno::EINVAL);
        }
        let mut fresh = Vec::new();
        let first = self.devices.device(number).is_none();
        let constructed = lines
            .iter()
            .try_for_each(|line| self.construct(name, line, access, &mut fresh))
            .and_then(|()| match raid::single(lines) {
                Some((line, raid)) => self.construct_raid(line, raid).map(Some),
                None => Ok(None),
            });
        // The kernel works out the limits of I/O at the first load, and then at each resume.
        let outcome = constructed.and_then(|raid| match first {
            true => self.check_rooms(table).map(|()| raid),
            false => Ok(raid),
        });
        let raid = outcome.inspect_err(|_| {
            fresh
                .iter()
                .for_each(|below| self.devices.close_exclusive(*below));
        })?;
        if first {
            self.devices.add(number, BlockDevice::new(Sectors(0)));
            self.devices
                .name(format!("/dev/dm-{}", number.minor), number);
        }
        let device = self.dm.device_mut(name)?;
        device.opened.extend(fresh);
        device.inactive = Some(Loaded {
            table: table.clone(),
            access,
            raid,
        });
        self.close_unneeded(name)
    }

    /// Opens what a line stands on and checks what its target checks.
    fn construct(
        &mut self,
        name: &DmName,
        line: &TableLine,
        access: DmAccess,
        fresh: &mut Vec<DeviceNumber>,
    ) -> Result<(), Errno> {
        if let Target::ThinPool(pool) = &line.target
            && pool.metadata == pool.data
        {
            return Err(Errno::EINVAL);
        }
        for below in below(&line.target) {
            self.open_below(name, below, access, fresh)?;
        }
        match &line.target {
            Target::Error | Target::Linear(_) => Ok(()),
            // An array is the whole of its device.
            Target::Raid(_) if line.start.0 > 0 => Err(Errno::EINVAL),
            Target::Raid(_) => Ok(()),
            Target::ThinPool(pool) => self.construct_pool(name, pool),
            Target::Thin(thin) => self.construct_thin(thin),
        }
    }

    fn open_below(
        &mut self,
        name: &DmName,
        below: DeviceNumber,
        access: DmAccess,
        fresh: &mut Vec<DeviceNumber>,
    ) -> Result<(), Errno> {
        let device = self.dm.device(name)?;
        if below == device.number {
            return Err(Errno::EINVAL);
        }
        if device.opened.contains(&below) || fresh.contains(&below) {
            return Ok(());
        }
        let write = access == DmAccess::ReadWrite;
        self.devices
            .open_exclusive(below, &Holder::DeviceMapper, write)?;
        fresh.push(below);
        Ok(())
    }

    pub(super) fn check_rooms(&self, table: &Table) -> Result<(), Errno> {
        let room = |line: &TableLine| match &line.target {
            Target::Error | Target::Thin(_) | Target::Raid(_) => Ok(()),
            Target::Linear(linear) => self.check_room(linear.device, linear.offset, line.length),
            Target::ThinPool(pool) => self.check_room(pool.data, Sectors(0), line.length),
        };
        table.lines().iter().try_for_each(room)
    }

    /// `EINVAL` for a stretch that leaves the device.
    pub(super) fn check_room(
        &self,
        on: DeviceNumber,
        at: Sectors,
        length: Sectors,
    ) -> Result<(), Errno> {
        let there = self
            .devices
            .device(on)
            .map_or(Sectors(0), |entry| entry.sectors);
        let end = at.0.checked_add(length.0);
        if end.is_some_and(|end| end <= there.0) {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }

    fn construct_pool(&mut self, name: &DmName, pool: &ThinPool) -> Result<(), Errno> {
        let sizes = LEAST_BLOCK..=MOST_BLOCK;
        if !sizes.contains(&pool.block.0) || !pool.block.0.is_multiple_of(LEAST_BLOCK) {
            return Err(Errno::EINVAL);
        }
        if !self.has_module(Module::DmThinPool) {
            return Err(Errno::EINVAL);
        }
        let is_same = |line: &TableLine| match &line.target {
            Target::ThinPool(other) => other.metadata == pool.metadata,
            _ => false,
        };
        let other =
            |(holder, device): (&DmName, &Device)| holder != name && device.lines().any(is_same);
        if self.dm.devices.iter().any(other) {
            return Err(Errno::EBUSY);
        }
        // A table for a pool that is there already changes its length, not its block size.
        let already = self.dm.device(name)?.lines().any(is_same);
        let device = self.devices.device(pool.metadata).ok_or(Errno::EIO)?;
        let size = device.sectors;
        let metadata = self.open_metadata(pool)?;
        if !metadata.can_be_read(size) {
            return Err(Errno::EIO);
        }
        if !already && metadata.block != pool.block {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    /// Reads the superblock, and formats metadata whose first block is zero.
    fn open_metadata(&mut self, pool: &ThinPool) -> Result<&mut PoolMetadata, Errno> {
        let mut block = [0; METADATA_BLOCK];
        self.read_media(pool.metadata, 0, &mut block)?;
        let place = self.place(pool.metadata, 0)?;
        if block.iter().all(|byte| *byte == 0) {
            block[32..40].copy_from_slice(&THIN_MAGIC);
            self.write_media(pool.metadata, 0, &block)?;
            self.dm
                .pools
                .insert(place, PoolMetadata::format(pool.block));
        } else if block[32..40] != THIN_MAGIC {
            return Err(Errno::ENOTBLK);
        }
        self.dm.pools.get_mut(&place).ok_or(Errno::ENOTBLK)
    }

    fn construct_thin(&mut self, thin: &Thin) -> Result<(), Errno> {
        let device = self.dm.by_number(thin.pool).ok_or(Errno::EINVAL)?;
        let (pool, _) = device.live_pool().ok_or(Errno::EINVAL)?;
        if device.suspended {
            return Err(Errno::EINVAL);
        }
        if self.metadata(&pool)?.has(thin.id) {
            Ok(())
        } else {
            Err(Errno::ENODATA)
        }
    }

    pub(super) fn metadata(&self, pool: &ThinPool) -> Result<&PoolMetadata, Errno> {
        let place = self.place(pool.metadata, 0)?;
        self.dm.pools.get(&place).ok_or(Errno::EIO)
    }

    pub(in crate::model) fn metadata_mut(
        &mut self,
        pool: &ThinPool,
    ) -> Result<&mut PoolMetadata, Errno> {
        let place = self.place(pool.metadata, 0)?;
        self.dm.pools.get_mut(&place).ok_or(Errno::EIO)
    }
}
