//! Arrays: devices that stand in for each other, and what the kernel writes on each about all.
//!
//! What an array holds is kept once, beside its legs: the model tells which of them would have it,
//! and not how stripes and parities lie. A leg's superblock is real bytes on its medium, so it
//! survives a power cut, and is gone when the disk is.

use std::collections::BTreeSet;

use ashlar_targetd_protocol::{RaidLevel, Sectors, SetAction};

use super::super::{ModelState, Module};
use super::DmState;
use crate::device::DeviceNumber;
use crate::dm::{DmName, LegState, Raid, RaidMessage, RaidStatus, TableLine, Target};
use crate::tree::Errno;

/// md's own driver number; here the second number is the array's.
const ARRAY_MAJOR: u32 = 9;
const MAGIC: &[u8; 4] = b"DmRd";
/// Where the bitmap's own begins.
const BITMAP: usize = 4096;
const SUPERBLOCK: usize = BITMAP + 40;

/// What there is of an array beside its legs.
#[derive(Debug, Default)]
pub(super) struct Array {
    /// The newest state in which anything was written to it.
    events: u64,
    /// It lost more legs than it can: nothing is read or written any more.
    failed: bool,
}

/// An array as a table was made of it.
#[derive(Clone, Debug)]
pub(super) struct RaidSet {
    array: u32,
    events: u64,
    /// What that was when all legs were in sync.
    cleared: u64,
    raid: Raid,
    members: Vec<LegState>,
    action: SetAction,
    mismatches: Sectors,
    /// A leg is taken for one that has its data and missed writes.
    behind: bool,
    /// Of what is on one leg.
    length: Sectors,
}

/// What is written on each leg about all of them.
#[derive(Clone, Copy, Debug)]
struct Superblock {
    array: u32,
    role: u32,
    events: u64,
    /// Legs that were not there, or failed.
    failed: u64,
    /// Whether the leg has all of its data.
    whole: bool,
    /// Whether all legs were made the same since the array is new.
    synced: bool,
    /// What `events` was when the bitmap last forgot anything.
    cleared: u64,
}

impl Superblock {
    fn encode(self) -> [u8; SUPERBLOCK] {
        let mut bytes = [0; SUPERBLOCK];
        bytes[..4].copy_from_slice(MAGIC);
        // The number of devices on the kernel, which knows no number of the array.
        bytes[8..12].copy_from_slice(&self.array.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.role.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.events.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.failed.to_le_bytes());
        bytes[32..40].copy_from_slice(&reached(self.whole).to_le_bytes());
        bytes[40..48].copy_from_slice(&reached(self.synced).to_le_bytes());
        bytes[BITMAP..BITMAP + 4].copy_from_slice(b"bitm");
        bytes[BITMAP + 32..].copy_from_slice(&self.cleared.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; SUPERBLOCK]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes[at..at + 4].try_into().ok()?));
        let long = |at: usize| Some(u64::from_le_bytes(bytes[at..at + 8].try_into().ok()?));
        bytes.starts_with(MAGIC).then_some(Superblock {
            array: word(8)?,
            role: word(12)?,
            events: long(16)?,
            failed: long(24)?,
            whole: long(32)? == u64::MAX,
            synced: long(40)? == u64::MAX,
            cleared: long(BITMAP + 32)?,
        })
    }
}

/// How far it went that has an end; after that, there is none.
fn reached(end: bool) -> u64 {
    if end { u64::MAX } else { 0 }
}

impl RaidSet {
    pub(super) fn status(&self) -> RaidStatus {
        RaidStatus {
            level: self.raid.level,
            members: self.members.clone(),
            done: match self.action {
                SetAction::Idle => self.length,
                _ => Sectors(0),
            },
            total: self.length,
            action: self.action,
            mismatches: self.mismatches,
        }
    }

    /// What holds what the array does.
    pub(super) fn medium(&self) -> DeviceNumber {
        DeviceNumber {
            major: ARRAY_MAJOR,
            minor: self.array,
        }
    }

    fn resync(&mut self) {
        self.action = SetAction::Resync;
        let there = self.members.iter_mut();
        there
            .filter(|member| **member == LegState::InSync)
            .for_each(|member| *member = LegState::Partial);
    }

    /// While it is resynced its legs have what was written to it.
    fn survives(&self) -> bool {
        let has = |member: &LegState| match member {
            LegState::InSync => true,
            LegState::Partial => self.action == SetAction::Resync,
            LegState::Failed | LegState::Missing => false,
        };
        let whole: Vec<bool> = self.members.iter().map(has).collect();
        self.raid.level.survives(&whole)
    }
}

fn in_sync(members: &[LegState]) -> Vec<bool> {
    let whole = members.iter().map(|member| *member == LegState::InSync);
    whole.collect()
}

impl DmState {
    /// Whether an array can still be read.
    pub(in crate::model) fn array_works(&self, medium: DeviceNumber) -> bool {
        let array = self.arrays.get(&medium.minor);
        array.is_some_and(|array| !array.failed)
    }
}

impl ModelState {
    /// What the kernel checks of an array, and how it takes it to be by what is on its legs.
    pub(super) fn construct_raid(
        &mut self,
        line: &TableLine,
        raid: &Raid,
    ) -> Result<RaidSet, Errno> {
        if !self.has_module(Module::DmRaid) {
            return Err(Errno::EINVAL);
        }
        // At most what a table's text names.
        let width = raid.legs.len() as u32;
        let stripes = u64::from(raid.level.data_disks(width));
        if stripes == 0 || !line.length.0.is_multiple_of(stripes) {
            return Err(Errno::EINVAL);
        }
        let length = Sectors(line.length.0 / stripes);
        for leg in raid.legs.iter().flatten() {
            self.check_room(leg.data, Sectors(0), length)?;
        }
        let mut set = RaidSet {
            array: 0,
            events: 0,
            cleared: 0,
            raid: raid.clone(),
            members: Vec::new(),
            action: SetAction::Idle,
            mismatches: Sectors(0),
            behind: false,
            length,
        };
        self.assemble(&mut set)?;
        Ok(set)
    }

    fn assemble(&mut self, set: &mut RaidSet) -> Result<(), Errno> {
        let legs = set.raid.legs.clone();
        // What cannot be read is passed over, and so is what is not there.
        let read = legs.iter().map(|leg| {
            let leg = leg.as_ref()?;
            let mut bytes = [0; SUPERBLOCK];
            self.read_media(leg.meta, 0, &mut bytes).ok()?;
            Some(Superblock::decode(&bytes))
        });
        let read: Vec<Option<Option<Superblock>>> = read.collect();
        let new: BTreeSet<u32> = (0..)
            .zip(&read)
            .filter(|(_, read)| matches!(read, Some(None)))
            .map(|(role, _)| role)
            .collect();
        let known = read.iter().flatten().flatten();
        let Some(freshest) = known.max_by_key(|known| known.events).copied() else {
            return self.begin(set, new.len() == legs.len());
        };
        if !new.is_subset(&set.raid.rebuild) {
            return Err(Errno::EINVAL);
        }
        let array = self.dm.arrays.get(&freshest.array);
        let written = array.map_or(freshest.events, |array| array.events);
        for (role, read) in (0_u32..).zip(&read) {
            let leg = &legs[role as usize];
            let member = match read {
                None if leg.is_none() => LegState::Missing,
                None => LegState::Failed,
                Some(_) if set.raid.rebuild.contains(&role) => LegState::Partial,
                Some(None) => LegState::Partial,
                Some(Some(known)) if known.role != role => return Err(Errno::EINVAL),
                Some(Some(known)) => match known.whole && freshest.failed >> role & 1 == 0 {
                    true => {
                        // What was written last may be on some of them only.
                        set.behind |= known.events + 1 < written;
                        LegState::InSync
                    }
                    false => {
                        // What it missed is not in the bitmap any more.
                        set.behind |= known.events < freshest.cleared;
                        LegState::Partial
                    }
                },
            };
            set.members.push(member);
        }
        set.array = freshest.array;
        set.events = freshest.events;
        set.cleared = freshest.cleared;
        if set.members.contains(&LegState::Partial) {
            set.action = SetAction::Rebuild;
        }
        if !set.raid.level.survives(&in_sync(&set.members)) {
            return Err(Errno::EINVAL);
        }
        if !freshest.synced {
            set.resync();
        }
        Ok(())
    }

    fn begin(&mut self, set: &mut RaidSet, complete: bool) -> Result<(), Errno> {
        if !complete {
            return Err(Errno::EINVAL);
        }
        set.array = self.draw() as u32;
        set.members = vec![LegState::InSync; set.raid.legs.len()];
        set.resync();
        Ok(())
    }

    /// An array goes live: what it is is written on its legs.
    pub(super) fn start_raid(&mut self, name: &DmName) -> Result<(), Errno> {
        let Some(set) = self.live_raid(name) else {
            return Ok(());
        };
        let (array, events, medium) = (set.array, set.events, set.medium());
        let behind = std::mem::take(&mut set.behind);
        self.add_array_media(medium);
        let known = self.dm.arrays.entry(array).or_default();
        if events < known.events || behind {
            // Acknowledged writes are gone.
            self.dm.gone_back.push(name.clone());
        }
        let known = self.dm.arrays.entry(array).or_default();
        known.failed = false;
        self.write_superblocks(name)
    }

    fn live_raid(&mut self, name: &DmName) -> Option<&mut RaidSet> {
        let device = self.dm.devices.get_mut(name)?;
        device.live.as_mut()?.raid.as_mut()
    }

    fn write_superblocks(&mut self, name: &DmName) -> Result<(), Errno> {
        let Some(set) = self.live_raid(name) else {
            return Ok(());
        };
        set.events += 1;
        if set.members.iter().all(|member| *member == LegState::InSync) {
            set.cleared = set.events;
        }
        let set = set.clone();
        let array = self.dm.arrays.entry(set.array).or_default();
        if !array.failed {
            array.events = set.events;
        }
        let is_gone = |member: &LegState| match member {
            LegState::Missing | LegState::Failed => true,
            LegState::InSync | LegState::Partial => false,
        };
        let members = || (0_u32..).zip(&set.members);
        let failed = members().filter(|(_, member)| is_gone(member));
        let failed = failed.fold(0, |failed, (role, _)| failed | 1 << role);
        for (role, member) in members() {
            let leg = set.raid.legs[role as usize];
            let Some(leg) = leg.filter(|_| !is_gone(member)) else {
                continue;
            };
            let superblock = Superblock {
                array: set.array,
                role,
                events: set.events,
                failed,
                whole: *member == LegState::InSync || set.action == SetAction::Resync,
                synced: set.action != SetAction::Resync,
                cleared: set.cleared,
            };
            self.write_media(leg.meta, 0, &superblock.encode())?;
        }
        Ok(())
    }

    /// A live array that is resumed without a new table tries legs again that failed.
    pub(super) fn retry_legs(&mut self, name: &DmName) -> Result<(), Errno> {
        let Some(set) = self.live_raid(name) else {
            return Ok(());
        };
        let mut set = set.clone();
        for (leg, member) in set.raid.legs.iter().zip(&mut set.members) {
            let mut byte = [0];
            let readable = leg.is_some_and(|leg| self.read_media(leg.meta, 0, &mut byte).is_ok());
            if *member == LegState::Failed && readable {
                *member = LegState::Partial;
                set.action = SetAction::Rebuild;
            }
        }
        if let Some(there) = self.live_raid(name) {
            *there = set;
        }
        self.write_superblocks(name)
    }

    /// A disk does nothing any more: as if all arrays had just been used.
    pub(in crate::model) fn use_arrays(&mut self) {
        let names: Vec<DmName> = self.dm.devices.keys().cloned().collect();
        for name in names {
            self.use_array(&name);
        }
    }

    /// What is on an array is about to be written: legs that cannot be are noticed.
    pub(in crate::model) fn use_array_on(&mut self, medium: DeviceNumber) {
        let devices = self.dm.devices.iter();
        let on = devices.filter(|(_, device)| {
            let set = device.live.as_ref().and_then(|live| live.raid.as_ref());
            set.is_some_and(|set| set.medium() == medium)
        });
        let names: Vec<DmName> = on.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.use_array(&name);
        }
    }

    fn use_array(&mut self, name: &DmName) {
        let Some(set) = self.live_raid(name).cloned() else {
            return;
        };
        let works = |device| self.read_media(device, 0, &mut [0]).is_ok();
        let legs = set.raid.legs.iter().zip(&set.members);
        let failed: Vec<bool> = legs
            .map(|(leg, member)| match (leg, member) {
                (Some(leg), LegState::InSync | LegState::Partial) => {
                    !(works(leg.data) && works(leg.meta))
                }
                (None, _) | (Some(_), LegState::Failed | LegState::Missing) => false,
            })
            .collect();
        let Some(live) = self.live_raid(name).filter(|_| failed.contains(&true)) else {
            return;
        };
        let before = live.members.clone();
        let members = live.members.iter_mut().zip(&failed);
        for (member, _) in members.filter(|(_, failed)| **failed) {
            *member = LegState::Failed;
        }
        let works = live.survives();
        let keeps_last = match live.raid.level {
            RaidLevel::Raid1 | RaidLevel::Raid10 => true,
            RaidLevel::Raid5 | RaidLevel::Raid6 => false,
        };
        if !works && keeps_last {
            // The last one is not called failed; it merely fails.
            live.members = before;
        }
        if !live.members.contains(&LegState::Partial) {
            live.action = SetAction::Idle;
        }
        self.dm.arrays.entry(set.array).or_default().failed = !works;
        self.listeners.mapper.tell();
        // On those that are left; if they cannot be written either, that is another failure.
        let _ = self.write_superblocks(name);
    }

    /// Of parities, the kernel does not trust disks to make discarded ones zero.
    pub(in crate::model) fn array_discards(&self, medium: DeviceNumber) -> bool {
        let devices = self.dm.devices.values();
        let mut sets = devices.filter_map(|device| device.live.as_ref()?.raid.as_ref());
        let set = sets.find(|set| set.medium() == medium);
        set.is_some_and(|set| match set.raid.level {
            RaidLevel::Raid1 | RaidLevel::Raid10 => true,
            RaidLevel::Raid5 | RaidLevel::Raid6 => false,
        })
    }

    /// Everything that goes over arrays comes to its end.
    pub(in crate::model) fn finish_arrays(&mut self) {
        let names: Vec<DmName> = self.dm.devices.keys().cloned().collect();
        for name in names {
            if let Some(set) = self.live_raid(&name) {
                set.action = SetAction::Idle;
                for member in &mut set.members {
                    if *member == LegState::Partial {
                        *member = LegState::InSync;
                    }
                }
                self.listeners.mapper.tell();
                // The legs were written a moment ago.
                let _ = self.write_superblocks(&name);
            }
        }
    }

    pub(in crate::model) fn dm_raid_message(
        &mut self,
        name: &DmName,
        message: RaidMessage,
    ) -> Result<(), Errno> {
        self.dm.device(name)?;
        let set = self.live_raid(name).ok_or(Errno::EINVAL)?;
        let action = match message {
            RaidMessage::Check => SetAction::Check,
            RaidMessage::Repair => SetAction::Repair,
            RaidMessage::Idle => SetAction::Idle,
        };
        match (set.action, action) {
            (SetAction::Idle, _) => set.action = action,
            (SetAction::Check | SetAction::Repair, SetAction::Idle) => set.action = action,
            // What has to be done goes on by itself.
            (SetAction::Resync | SetAction::Rebuild, SetAction::Idle) => {}
            _ => return Err(Errno::EBUSY),
        }
        match message {
            // It is done, and called no message nevertheless.
            RaidMessage::Idle => Err(Errno::EINVAL),
            RaidMessage::Check | RaidMessage::Repair => Ok(()),
        }
    }

    /// Arrays that were put together from what was older than what they had: what was written
    /// in between is lost.
    pub(in crate::model) fn dm_gone_back(&self) -> Vec<DmName> {
        self.dm.gone_back.clone()
    }
}

/// The array that a table is, if it is one.
pub(super) fn single(lines: &[TableLine]) -> Option<(&TableLine, &Raid)> {
    match lines {
        [line] => match &line.target {
            Target::Raid(raid) => Some((line, raid)),
            Target::Error | Target::Linear(_) | Target::ThinPool(_) | Target::Thin(_) => None,
        },
        _ => None,
    }
}
