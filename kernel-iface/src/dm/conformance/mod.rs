//! Recorded operations on device-mapper and disks, and who may open them: what the real kernel answered.
//!
//! A script is a text file of one operation a line, each with the answer a real kernel gave:
//!
//! ```text
//! create meta ASHLAR-meta = ok
//! load meta 0 8192 linear @/vda 2048 = ok
//! resume meta = ok
//! info meta = live
//! message pool create_thin 1 = EEXIST
//! table meta live = 0 8192 linear @/vda 2048
//! ```
//!
//! `@/vda` stands for the number of a disk, `@meta` for that of a device-mapper device, so that a
//! script holds on any machine. `backstore` has LIO open a device, `backstore-ro` only to read. [`check`] performs the operations on whatever is behind the
//! traits and tells the answers that differ; [`record`] writes them down.

use std::collections::BTreeMap;

use ashlar_targetd_protocol::{Bytes, Sectors, SetAction, ThinId};
use uuid::Uuid;

use super::{
    DeviceMapper, DmAccess, DmName, LegState, PoolMessage, RaidMessage, StatusFreshness,
    SuspendFlags, Table, TableSlot, Target,
};
use crate::block::{
    Access, BlockDevice, BlockError, Disks, PoolLabel, Tenure, format_disk, metadata_state,
    pool_size, probe, relabel_disk, wipe_disk, zero_metadata_superblock,
};
use crate::conformance::{Mismatch, ScriptError};
use crate::device::DeviceNumber;
use crate::lio::{BackstoreId, Lio};
use crate::tree::{Tree, TreeError};

use answer::{
    Answer, block_errno, content, describe, nothing_or, ok, said, state_name, statuses, totals,
};

mod answer;

/// Between two looks at an array.
const IDLE: std::time::Duration = std::time::Duration::from_millis(50);

/// What `format` writes.
const LABEL: PoolLabel = PoolLabel {
    pool: Uuid::from_u128(0xa5),
    index: 0,
    count: 1,
    metadata: Sectors(8192),
    block: Sectors(128),
    metadata_room: Sectors(8192),
    catalog: Sectors(0),
    tenure: Tenure {
        count: 0,
        holder: Uuid::nil(),
    },
    set: None,
};

/// The kernel a script runs on.
pub struct Stage<'a> {
    dm: &'a dyn DeviceMapper,
    disks: &'a dyn Disks,
    tree: &'a dyn Tree,
    /// Devices the script keeps open.
    open: BTreeMap<String, Box<dyn BlockDevice>>,
    /// Brings what goes over arrays to its end, where that takes no time.
    finish: &'a dyn Fn(),
}

/// Performs a script's operations in order. Answers those that went otherwise than recorded,
/// and how many there were.
pub fn check(stage: &mut Stage<'_>, script: &str) -> Result<(Vec<Mismatch>, usize), ScriptError> {
    let mut mismatches = Vec::new();
    let mut operations = 0;
    for (index, line) in script.lines().enumerate() {
        let Some((operation, recorded)) = operation(line) else {
            continue;
        };
        operations += 1;
        let answer = stage.answer(index + 1, operation)?;
        if answer != recorded {
            mismatches.push(Mismatch {
                line: index + 1,
                operation: operation.to_owned(),
                recorded: recorded.to_owned(),
                answer,
            });
        }
    }
    Ok((mismatches, operations))
}

/// Performs a script's operations in order and answers the script with what they answered.
pub fn record(stage: &mut Stage<'_>, script: &str) -> Result<String, ScriptError> {
    let mut text = String::new();
    for (index, line) in script.lines().enumerate() {
        match operation(line) {
            Some((operation, _)) => {
                let answer = stage.answer(index + 1, operation)?;
                text.push_str(&format!("{operation} = {answer}\n"));
            }
            None => text.push_str(&format!("{line}\n")),
        }
    }
    Ok(text)
}

/// The operation of a line and its recorded answer; `None` for comments and empty lines.
fn operation(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (operation, recorded) = line.split_once(" =").unwrap_or((line, ""));
    Some((operation.trim(), recorded.trim()))
}

impl<'a> Stage<'a> {
    /// A stage with nothing open.
    pub fn new(dm: &'a dyn DeviceMapper, disks: &'a dyn Disks, tree: &'a dyn Tree) -> Self {
        Stage {
            dm,
            disks,
            tree,
            open: BTreeMap::new(),
            finish: &|| (),
        }
    }

    /// The same where what goes over arrays ends when it is told to.
    pub fn finishing(mut self, finish: &'a dyn Fn()) -> Self {
        self.finish = finish;
        self
    }

    fn answer(&mut self, line: usize, operation: &str) -> Result<String, ScriptError> {
        let malformed = |reason: &str| ScriptError {
            line,
            reason: format!("{reason}: {operation:?}"),
        };
        let (verb, rest) = operation.split_once(' ').ok_or(malformed("no object"))?;
        let (object, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        if verb == "target" {
            let version = self.dm.target_version(object);
            let there = said(version, |version| version.is_some().to_string());
            return Ok(there.unwrap_or_else(|errno| errno));
        }
        // Disks go by number, devices by name; only the latter also have verbs of their own.
        let answer = match object.starts_with('@') {
            true => {
                let device = self.number(object).ok_or(malformed("no such device"))?;
                self.on_disk(verb, object, device)
            }
            false => {
                let name = object.parse().map_err(|_| malformed("no name"))?;
                self.on_device(verb, &name, rest)
            }
        };
        let answer = answer.ok_or(malformed("not an operation"))?;
        Ok(answer.unwrap_or_else(|errno| errno))
    }

    /// `None` for what is no operation, or does not parse.
    fn on_device(&self, verb: &str, name: &DmName, rest: &str) -> Option<Answer> {
        let flags = SuspendFlags::FLUSH;
        Some(match verb {
            "create" => ok(self.dm.create(name, &rest.parse().ok()?)),
            "remove" => ok(self.dm.remove(name)),
            "load" => ok(self.dm.load(name, &self.table(rest)?, DmAccess::ReadWrite)),
            "load-ro" => ok(self.dm.load(name, &self.table(rest)?, DmAccess::ReadOnly)),
            "clear" => ok(self.dm.clear(name)),
            "suspend" => ok(self.dm.suspend(name, flags)),
            "resume" => ok(self.dm.resume(name, flags)),
            "info" => said(self.dm.info(name), |info| describe(info.as_ref())),
            "table" => {
                let slot = match rest {
                    "live" => TableSlot::Live,
                    "inactive" => TableSlot::Inactive,
                    _ => return None,
                };
                said(self.dm.table(name, slot), |table| self.print(table))
            }
            "status" => said(self.dm.status(name, StatusFreshness::Committed), statuses),
            "totals" => {
                let status = self.dm.pool_status(name, StatusFreshness::Committed);
                said(status, totals)
            }
            "deps" => said(self.dm.deps(name), |deps| {
                let names = deps.iter().map(|device| self.symbol(*device));
                nothing_or(names.collect::<Vec<_>>().join(" "))
            }),
            "message" => ok(self.dm.message(name, &message(rest)?)),
            "scrub" => ok(self.dm.raid_message(name, raid_message(rest)?)),
            "await" => self.idle(name),
            "backstore" => self.opens(name, false),
            "backstore-ro" => self.opens(name, true),
            _ => return None,
        })
    }

    /// Waits until nothing goes over an array any more. The kernel begins with it some time after
    /// it said so of its legs.
    fn idle(&self, name: &DmName) -> Answer {
        (self.finish)();
        loop {
            let status = said(self.dm.raid_status(name), |status| status)?;
            let Some(status) = status else {
                return Ok("no array".to_owned());
            };
            let rests = status.action == SetAction::Idle;
            if rests && !status.members.contains(&LegState::Partial) {
                return Ok("idle".to_owned());
            }
            std::thread::sleep(IDLE);
        }
    }

    /// Has LIO open a device, to write or only to read, and close it again.
    fn opens(&self, name: &DmName, read_only: bool) -> Answer {
        let info = said(self.dm.info(name), |info| info.map(|info| info.node()))?;
        let node = info.ok_or("absent".to_owned())?;
        let lio = Lio::new(self.tree);
        let backstore = lio.backstore(&BackstoreId::for_volume(LABEL.pool));
        let made = backstore.create();
        let told = made.and_then(|_| backstore.set_device(&node));
        let told = told.and_then(|()| backstore.set_read_only(read_only));
        let opened = told.and_then(|()| backstore.enable());
        let errno = |error: TreeError| match error.errno() {
            Some(errno) => format!("{errno:?}"),
            None => error.to_string(),
        };
        backstore.remove().map(drop).map_err(errno)?;
        opened.map(|_| "ok".to_owned()).map_err(errno)
    }

    fn on_disk(&mut self, verb: &str, object: &str, device: DeviceNumber) -> Option<Answer> {
        let answer = match verb {
            "open" => self.keep_open(object, device, Access::Read),
            "open-exclusive" => self.keep_open(object, device, Access::Exclusive),
            "close" => {
                self.open.remove(object);
                Ok(())
            }
            "clear" => self.change(device, |disk| disk.write_at(Bytes(0), &[0; 1 << 20])),
            "zero" => self.change(device, |disk| zero_metadata_superblock(disk, Bytes(0))),
            "scribble" => self.change(device, |disk| disk.write_at(Bytes(0), &[7; 4096])),
            "discard" => self.change(device, |disk| disk.discard(Bytes(4 << 20), Bytes(1 << 20))),
            "format" => self.change(device, |disk| format_disk(disk, &LABEL).map(drop)),
            "wipe" => self.change(device, wipe_disk),
            "relabel" => self.change_beside(device, |disk| relabel_disk(disk, &LABEL)),
            "metadata" => {
                let state = self.look(device, |disk| metadata_state(disk, Bytes(0)));
                return Some(state.map(state_name));
            }
            "blocks" => {
                let size = self.look(device, |disk| pool_size(disk, Bytes(0)));
                let none = || "none".to_owned();
                return Some(size.map(|size| size.map_or_else(none, answer::size)));
            }
            "probe" => return Some(self.look(device, probe).map(|found| content(&found))),
            "size" => {
                let size = self.look(device, |disk| Ok(disk.size()));
                return Some(size.map(|size| size.to_string()));
            }
            _ => return None,
        };
        Some(answer.map(|()| "ok".to_owned()))
    }

    fn keep_open(
        &mut self,
        object: &str,
        device: DeviceNumber,
        access: Access,
    ) -> Result<(), String> {
        let opened = self.disks.open(device, access);
        let opened = opened.map_err(|error| block_errno(&error))?;
        self.open.insert(object.to_owned(), opened);
        Ok(())
    }

    fn look<T>(
        &self,
        device: DeviceNumber,
        look: impl FnOnce(&dyn BlockDevice) -> Result<T, BlockError>,
    ) -> Result<T, String> {
        let opened = self.disks.open(device, Access::Read);
        let answer = opened.and_then(|disk| look(&*disk));
        answer.map_err(|error| block_errno(&error))
    }

    fn change(
        &self,
        device: DeviceNumber,
        change: impl FnOnce(&dyn BlockDevice) -> Result<(), BlockError>,
    ) -> Result<(), String> {
        self.change_by(device, Access::Exclusive, change)
    }

    /// Beside whoever uses it.
    fn change_beside(
        &self,
        device: DeviceNumber,
        change: impl FnOnce(&dyn BlockDevice) -> Result<(), BlockError>,
    ) -> Result<(), String> {
        self.change_by(device, Access::Shared, change)
    }

    fn change_by(
        &self,
        device: DeviceNumber,
        access: Access,
        change: impl FnOnce(&dyn BlockDevice) -> Result<(), BlockError>,
    ) -> Result<(), String> {
        let opened = self.disks.open(device, access);
        let answer = opened.and_then(|disk| change(&*disk));
        answer.map_err(|error| block_errno(&error))
    }

    /// `@/vda`, `@meta` or a plain number.
    fn number(&self, reference: &str) -> Option<DeviceNumber> {
        let Some(name) = reference.strip_prefix('@') else {
            return reference.parse().ok();
        };
        match name.strip_prefix('/') {
            Some(disk) => {
                let disks = self.disks.list().ok()?;
                let named = disks.iter().find(|found| found.kernel_name == disk);
                named.map(|disk| disk.number)
            }
            None => self
                .dm
                .info(&name.parse().ok()?)
                .ok()?
                .map(|info| info.number),
        }
    }

    fn symbol(&self, number: DeviceNumber) -> String {
        let devices = self.dm.list().unwrap_or_default();
        let disks = self.disks.list().unwrap_or_default();
        let device = devices.iter().find(|device| device.number == number);
        let disk = disks.iter().find(|disk| disk.number == number);
        match (device, disk) {
            (Some(device), _) => format!("@{}", device.name),
            (None, Some(disk)) => format!("@/{}", disk.kernel_name),
            (None, None) => number.to_string(),
        }
    }

    /// Lines of `LENGTH KIND PARAMETERS` after the start, separated by `;`; `empty` for none.
    fn table(&self, text: &str) -> Option<Table> {
        if text == "empty" {
            return Some(Table::default());
        }
        let line = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let (_start, length) = (words.next()?, words.next()?.parse().ok()?);
            let kind = words.next()?;
            let params: Option<Vec<String>> = words
                .map(|word| match word.starts_with('@') {
                    true => self.number(word).map(|number| number.to_string()),
                    false => Some(word.to_owned()),
                })
                .collect();
            Some((Sectors(length), Target::parse(kind, &params?.join(" "))?))
        };
        let lines: Option<Vec<_>> = text.split(';').map(line).collect();
        lines.map(Table::stacked)
    }

    fn print(&self, table: Table) -> String {
        let text = table.to_string();
        let words = text.split(' ').map(|word| {
            let number = word.parse::<DeviceNumber>();
            number.map_or(word.to_owned(), |number| self.symbol(number))
        });
        nothing_or(words.collect::<Vec<_>>().join(" "))
    }
}

fn raid_message(text: &str) -> Option<RaidMessage> {
    match text {
        "check" => Some(RaidMessage::Check),
        "repair" => Some(RaidMessage::Repair),
        "idle" => Some(RaidMessage::Idle),
        _ => None,
    }
}

fn message(text: &str) -> Option<PoolMessage> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let id = |word: &str| ThinId::try_from(word.parse::<u64>().ok()?).ok();
    match words.as_slice() {
        ["create_thin", one] => id(one).map(PoolMessage::CreateThin),
        ["create_snap", one, origin] => Some(PoolMessage::CreateSnapshot {
            id: id(one)?,
            origin: id(origin)?,
        }),
        ["reserve_metadata_snap"] => Some(PoolMessage::ReserveMetadataSnap),
        ["release_metadata_snap"] => Some(PoolMessage::ReleaseMetadataSnap),
        ["delete", one] => id(one).map(PoolMessage::Delete),
        ["set_transaction_id", from, to] => Some(PoolMessage::SetTransactionId {
            from: from.parse().ok()?,
            to: to.parse().ok()?,
        }),
        _ => None,
    }
}
