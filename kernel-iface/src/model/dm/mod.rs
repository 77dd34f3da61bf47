//! Device-mapper: devices, their tables, and what loading and resuming one does.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_targetd_protocol::{Sectors, ThinId};

use super::data::ThinData;
use super::thin::PoolMetadata;
use super::thin_image::ThinImage;
use super::{BlockDevice, ModelState};
use crate::device::DeviceNumber;
use crate::dm::{
    DmAccess, DmInfo, DmName, DmUuid, ListedDevice, PoolMessage, Table, TableLine, TableSlot,
    Target, TargetStatus, Thin, ThinPool, ThinPoolStatus,
};
use crate::tree::Errno;

mod load;
mod raid;

/// The driver number device-mapper usually gets.
const DM_MAJOR: u32 = 253;
/// Where in the superblock of thin metadata the root of a held state stands, and the numbers of
/// blocks.
const HELD_ROOT: u64 = 56;
const DATA_BLOCKS: u64 = 64;
const METADATA_BLOCKS: u64 = 192;

/// All devices, and the metadata of all pools.
#[derive(Debug, Default)]
pub(crate) struct DmState {
    devices: BTreeMap<DmName, Device>,
    /// By the disk and the place on it where the metadata begin.
    pools: BTreeMap<(DeviceNumber, u64), PoolMetadata>,
    /// Origins that did I/O while a snapshot of them was made. The kernel allows it and lets
    /// both share what is written at that moment.
    careless: Vec<ThinId>,
    arrays: BTreeMap<u32, raid::Array>,
    gone_back: Vec<DmName>,
}

#[derive(Debug)]
struct Device {
    uuid: DmUuid,
    number: DeviceNumber,
    live: Option<Loaded>,
    inactive: Option<Loaded>,
    suspended: bool,
    /// Devices below, each opened once however many lines name it.
    opened: BTreeSet<DeviceNumber>,
}

#[derive(Clone, Debug)]
struct Loaded {
    table: Table,
    access: DmAccess,
    /// The array that it is, if it is one.
    raid: Option<raid::RaidSet>,
}

impl Device {
    /// The tables that keep devices below open.
    fn loaded(&self) -> impl Iterator<Item = &Loaded> {
        self.live.iter().chain(&self.inactive)
    }

    fn lines(&self) -> impl Iterator<Item = &TableLine> {
        self.loaded().flat_map(|loaded| loaded.table.lines())
    }

    /// The pool this device is, with its length.
    fn live_pool(&self) -> Option<(ThinPool, Sectors)> {
        match self.live.as_ref()?.table.lines() {
            [
                TableLine {
                    length,
                    target: Target::ThinPool(pool),
                    ..
                },
            ] => Some((*pool, *length)),
            _ => None,
        }
    }

    /// The thin device this is, with its length.
    fn live_thin(&self) -> Option<(Thin, Sectors)> {
        match self.live.as_ref()?.table.lines() {
            [
                TableLine {
                    length,
                    target: Target::Thin(thin),
                    ..
                },
            ] => Some((*thin, *length)),
            _ => None,
        }
    }
}

/// The devices a target stands on, in the order the kernel lists them.
fn below(target: &Target) -> Vec<DeviceNumber> {
    match target {
        Target::Error => vec![],
        Target::Linear(linear) => vec![linear.device],
        Target::Raid(raid) => {
            let legs = raid.legs.iter().flatten();
            legs.flat_map(|leg| [leg.meta, leg.data]).collect()
        }
        Target::ThinPool(pool) => vec![pool.metadata, pool.data],
        Target::Thin(thin) => vec![thin.pool],
    }
}

impl DmState {
    fn device(&self, name: &DmName) -> Result<&Device, Errno> {
        self.devices.get(name).ok_or(Errno::ENXIO)
    }

    fn device_mut(&mut self, name: &DmName) -> Result<&mut Device, Errno> {
        self.devices.get_mut(name).ok_or(Errno::ENXIO)
    }

    fn by_number(&self, number: DeviceNumber) -> Option<&Device> {
        self.devices.values().find(|device| device.number == number)
    }

    fn free_number(&self) -> DeviceNumber {
        let taken = |minor| {
            self.devices
                .values()
                .any(|device| device.number.minor == minor)
        };
        let minor = (0..).find(|minor| !taken(*minor));
        DeviceNumber {
            major: DM_MAJOR,
            minor: minor.expect("there are fewer devices than numbers"),
        }
    }

    /// The names of devices that hold another open.
    pub(super) fn holders(&self, number: DeviceNumber) -> Vec<String> {
        let above = self
            .devices
            .values()
            .filter(|device| device.opened.contains(&number));
        above
            .map(|device| format!("dm-{}", device.number.minor))
            .collect()
    }

    /// Where a byte of a live device made of linear stretches really is.
    pub(super) fn below(&self, number: DeviceNumber, at: u64) -> Option<(DeviceNumber, u64)> {
        let live = self.by_number(number)?.live.as_ref()?;
        if let Some(set) = &live.raid {
            return Some((set.medium(), at));
        }
        live.table.lines().iter().find_map(|line| {
            let within = at.checked_sub(line.start.bytes().0)?;
            match line.target {
                Target::Linear(linear) if within < line.length.bytes().0 => {
                    Some((linear.device, linear.offset.bytes().0 + within))
                }
                _ => None,
            }
        })
    }

    /// Whether a device or one below it is suspended: whoever reads from it waits.
    pub(super) fn holds_back(&self, number: DeviceNumber) -> bool {
        self.by_number(number).is_some_and(|device| {
            let mut below = device.opened.iter();
            device.suspended || below.any(|below| self.holds_back(*below))
        })
    }

    /// The thin device that a device is, and its pool.
    pub(super) fn thin_of(&self, number: DeviceNumber) -> Option<(ThinPool, ThinId)> {
        let live = self.by_number(number)?.live.as_ref()?;
        match live.table.lines() {
            [line] => match line.target {
                Target::Thin(thin) => Some((self.by_number(thin.pool)?.live_pool()?.0, thin.id)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether a device on a thin device does I/O.
    fn runs(&self, pool: DeviceNumber, id: ThinId) -> bool {
        let on = |device: &Device| {
            let live = device.live.iter().flat_map(|live| live.table.lines());
            let named = Target::Thin(Thin { pool, id });
            !device.suspended && live.map(|line| &line.target).any(|target| *target == named)
        };
        self.devices.values().any(on)
    }

    /// Whether any table of any device names a thin device.
    fn thin_in_use(&self, pool: DeviceNumber, id: ThinId) -> bool {
        let named = Target::Thin(Thin { pool, id });
        self.devices
            .values()
            .any(|device| device.lines().any(|line| line.target == named))
    }
}

impl ModelState {
    /// Every table is gone, and with it every device; metadata stay, being on disk.
    pub(super) fn power_off_dm(&mut self) {
        for device in std::mem::take(&mut self.dm.devices).into_values() {
            // Nothing is open after a power cut; a device without a table has no entry.
            let _ = self.devices.remove(device.number);
        }
    }

    pub(super) fn dm_list(&self) -> Vec<ListedDevice> {
        let listed = |(name, device): (&DmName, &Device)| ListedDevice {
            name: name.to_string(),
            uuid: device.uuid.to_string(),
            number: device.number,
        };
        self.dm.devices.iter().map(listed).collect()
    }

    pub(super) fn dm_table(&self, name: &DmName, slot: TableSlot) -> Result<Table, Errno> {
        let device = self.dm.device(name)?;
        let loaded = match slot {
            TableSlot::Live => device.live.as_ref(),
            TableSlot::Inactive => device.inactive.as_ref(),
        };
        Ok(loaded
            .map(|loaded| loaded.table.clone())
            .unwrap_or_default())
    }

    pub(super) fn dm_suspend(&mut self, name: &DmName) -> Result<(), Errno> {
        self.dm.device_mut(name)?.suspended = true;
        Ok(())
    }

    pub(super) fn dm_write_thin(
        &mut self,
        pool: &DmName,
        id: ThinId,
        blocks: u64,
    ) -> Result<(), Errno> {
        let (pool, _) = self.dm.device(pool)?.live_pool().ok_or(Errno::EINVAL)?;
        self.metadata_mut(&pool)?.write_thin(id, blocks)?;
        self.tell_of(&pool);
        Ok(())
    }

    pub(super) fn dm_fill_metadata(&mut self, pool: &DmName, free: u64) -> Result<(), Errno> {
        let (pool, _) = self.dm.device(pool)?.live_pool().ok_or(Errno::EINVAL)?;
        self.metadata_mut(&pool)?.fill(free);
        self.tell_of(&pool);
        Ok(())
    }

    pub(super) fn dm_damage_metadata(&mut self, pool: &DmName) -> Result<(), Errno> {
        let (pool, _) = self.dm.device(pool)?.live_pool().ok_or(Errno::EINVAL)?;
        self.metadata_mut(&pool)?.fail();
        self.tell_of(&pool);
        Ok(())
    }

    pub(super) fn dm_info(&self, name: &DmName) -> Result<DmInfo, Errno> {
        let device = self.dm.device(name)?;
        let entry = self.devices.device(device.number);
        let read_only = |loaded: &Loaded| loaded.access == DmAccess::ReadOnly;
        Ok(DmInfo {
            name: name.clone(),
            uuid: device.uuid.to_string(),
            number: device.number,
            open_count: entry.map_or(0, BlockDevice::opens)
                + u32::from(self.is_lent(device.number)),
            event_nr: 0,
            live: device.live.is_some(),
            inactive: device.inactive.is_some(),
            suspended: device.suspended,
            read_only: device.live.as_ref().is_some_and(read_only),
        })
    }

    pub(super) fn dm_create(&mut self, name: &DmName, uuid: &DmUuid) -> Result<(), Errno> {
        let taken = |(other, device): (&DmName, &Device)| other == name || device.uuid == *uuid;
        if self.dm.devices.iter().any(taken) {
            return Err(Errno::EBUSY);
        }
        let device = Device {
            uuid: uuid.clone(),
            number: self.dm.free_number(),
            live: None,
            inactive: None,
            suspended: false,
            opened: BTreeSet::new(),
        };
        self.dm.devices.insert(name.clone(), device);
        Ok(())
    }

    pub(super) fn dm_remove(&mut self, name: &DmName) -> Result<(), Errno> {
        let number = self.dm.device(name)?.number;
        if self.is_lent(number) {
            return Err(Errno::EBUSY);
        }
        // A device that never had a table has no entry to be open.
        if self.devices.remove(number) == Err(Errno::EBUSY) {
            return Err(Errno::EBUSY);
        }
        self.throttled.forget(number);
        self.listeners.mapper.tell();
        if let Some(device) = self.dm.devices.remove(name) {
            for below in device.opened {
                self.devices.close_exclusive(below);
            }
        }
        Ok(())
    }

    pub(super) fn dm_clear(&mut self, name: &DmName) -> Result<(), Errno> {
        self.dm.device_mut(name)?.inactive = None;
        self.close_unneeded(name)
    }

    /// The content of a live thin device, and its size.
    pub(super) fn thin_data(
        &mut self,
        number: DeviceNumber,
    ) -> Result<(&ThinData, Sectors), Errno> {
        let device = self.dm.by_number(number).ok_or(Errno::EOPNOTSUPP)?;
        let (thin, size) = device.live_thin().ok_or(Errno::EOPNOTSUPP)?;
        let pool = self.dm.by_number(thin.pool).and_then(Device::live_pool);
        let (pool, _) = pool.ok_or(Errno::EIO)?;
        let data = self.metadata_mut(&pool)?.data(thin.id)?;
        Ok((data, size))
    }

    /// What a reader finds on the metadata device of a pool, while a state is held.
    pub(super) fn held_metadata(&self, number: DeviceNumber) -> Option<&ThinImage> {
        let mut pools = self.dm.devices.values().filter_map(Device::live_pool);
        let (pool, _) = pools.find(|(pool, _)| pool.metadata == number)?;
        self.metadata(&pool).ok()?.held()
    }

    /// Whether a file of a thin device is still open.
    fn is_lent(&self, number: DeviceNumber) -> bool {
        let thin = self.dm.by_number(number).and_then(Device::live_thin);
        let metadata = thin.and_then(|(thin, _)| {
            let (pool, _) = self.dm.by_number(thin.pool)?.live_pool()?;
            Some((self.metadata(&pool).ok()?, thin.id))
        });
        metadata.is_some_and(|(metadata, id)| metadata.is_open(id))
    }

    /// Closes devices below that no table of a device names any more.
    fn close_unneeded(&mut self, name: &DmName) -> Result<(), Errno> {
        let device = self.dm.device_mut(name)?;
        let needed: BTreeSet<_> = device
            .lines()
            .flat_map(|line| below(&line.target))
            .collect();
        let unneeded: Vec<_> = device.opened.difference(&needed).copied().collect();
        device.opened = needed;
        for below in unneeded {
            self.devices.close_exclusive(below);
        }
        Ok(())
    }

    pub(super) fn dm_resume(&mut self, name: &DmName) -> Result<(), Errno> {
        let device = self.dm.device_mut(name)?;
        let next = device.inactive.take();
        if let Some(next) = &next {
            // Until the new table is found good.
            device.suspended = true;
            let rooms = self.check_rooms(&next.table);
            if rooms.is_err() {
                self.close_unneeded(name)?;
                return rooms;
            }
        }
        let device = self.dm.device_mut(name)?;
        if let Some(next) = next {
            device.live = Some(next);
            self.listeners.mapper.tell();
            self.start_raid(name)?;
        } else if device.live.is_some() {
            self.retry_legs(name)?;
        } else {
            let answer = if device.suspended {
                Err(Errno::EINVAL)
            } else {
                Ok(())
            };
            return answer;
        }
        let device = self.dm.device_mut(name)?;
        let (number, pool) = (device.number, device.live_pool());
        let (size, access) = match &device.live {
            Some(live) => (live.table.size(), live.access),
            None => return Err(Errno::EINVAL),
        };
        self.close_unneeded(name)?;
        let entry = self.devices.device_mut(number)?;
        entry.sectors = size;
        entry.read_only = access == DmAccess::ReadOnly;
        if let Some((pool, length)) = pool {
            let metadata = self.devices.device(pool.metadata).ok_or(Errno::EIO)?;
            let metadata = metadata.sectors;
            let resized = self.metadata_mut(&pool)?.resize(length, metadata);
            // What was done before it failed is undone by the kernel, or was never committed.
            let (data, metadata) = self.metadata(&pool)?.size();
            self.write_media(pool.metadata, DATA_BLOCKS, &data.to_le_bytes())?;
            self.write_media(pool.metadata, METADATA_BLOCKS, &metadata.to_le_bytes())?;
            resized?;
        }
        self.dm.device_mut(name)?.suspended = false;
        Ok(())
    }

    pub(super) fn dm_message(&mut self, name: &DmName, message: &PoolMessage) -> Result<(), Errno> {
        let device = self.dm.device(name)?;
        let (number, pool) = (device.number, device.live_pool());
        let (pool, _) = pool.ok_or(Errno::EINVAL)?;
        let used = match *message {
            PoolMessage::Delete(id) => self.dm.thin_in_use(number, id).then_some(id),
            _ => None,
        };
        let metadata = self.metadata_mut(&pool)?;
        metadata.message(message, |id| used == Some(id))?;
        let held = metadata.held().map_or(0, |image| image.held_root);
        self.write_media(pool.metadata, HELD_ROOT, &held.to_le_bytes())?;
        if let PoolMessage::CreateSnapshot { origin, .. } = *message
            && self.dm.runs(number, origin)
        {
            self.dm.careless.push(origin);
        }
        Ok(())
    }

    pub(super) fn dm_careless(&self) -> Vec<ThinId> {
        self.dm.careless.clone()
    }

    pub(super) fn dm_status(&self, name: &DmName) -> Result<Vec<TargetStatus>, Errno> {
        let device = self.dm.device(name)?;
        let lines = device.live.iter().flat_map(|live| live.table.lines());
        lines
            .map(|line| match &line.target {
                Target::Error | Target::Linear(_) => Ok(TargetStatus::Plain),
                Target::Raid(_) => {
                    let set = device.live.as_ref().and_then(|live| live.raid.as_ref());
                    let set = set.ok_or(Errno::EIO)?;
                    Ok(TargetStatus::Raid(set.status()))
                }
                Target::ThinPool(pool) => {
                    let usage = self.metadata(pool)?.usage(pool);
                    Ok(TargetStatus::ThinPool(ThinPoolStatus::Good(usage)))
                }
                Target::Thin(thin) => {
                    let pool = self.dm.by_number(thin.pool).and_then(Device::live_pool);
                    let (pool, _) = pool.ok_or(Errno::EIO)?;
                    let status = self.metadata(&pool)?.thin_status(thin.id);
                    Ok(TargetStatus::Thin(status))
                }
            })
            .collect()
    }

    pub(super) fn dm_deps(&self, name: &DmName) -> Result<Vec<DeviceNumber>, Errno> {
        let device = self.dm.device(name)?;
        let mut deps = Vec::new();
        for line in device.live.iter().flat_map(|live| live.table.lines()) {
            for number in below(&line.target) {
                if !deps.contains(&number) {
                    // The kernel lists the last opened first.
                    deps.insert(0, number);
                }
            }
        }
        Ok(deps)
    }
}
