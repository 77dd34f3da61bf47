use ashlar_targetd_protocol::Sectors;

use super::ioctl::{Answer, Command, Control, Request, flag, text, u32_at, u64_at};
use super::{
    DeviceMapper, DmAccess, DmError, DmEvents, DmInfo, DmName, DmOperation, DmUuid, ListedDevice,
    PoolMessage, RaidMessage, StatusFreshness, SuspendFlags, Table, TableLine, TableSlot, Target,
    TargetStatus,
};
use crate::device::DeviceNumber;
use crate::news::{News, NewsError};

/// Sent where the driver takes a udev cookie: nobody waits for udev (the low half is zero), and
/// its rules are told to neither probe the device nor build anything on top of it. A probe
/// would hold a volume open while it is being removed, and act on its tenant's bytes.
const QUIET_UDEV: u32 = {
    const DM_RULES: u32 = 0x01;
    const SUBSYSTEM_RULES: u32 = 0x02;
    const DISK_RULES: u32 = 0x04;
    const OTHER_RULES: u32 = 0x08;
    const LIBRARY_FALLBACK: u32 = 0x20;
    const PRIMARY_SOURCE: u32 = 0x40;
    (DM_RULES | SUBSYSTEM_RULES | DISK_RULES | OTHER_RULES | LIBRARY_FALLBACK | PRIMARY_SOURCE)
        << 16
};

/// `sizeof(struct dm_target_spec)`, and its parameters' place.
const SPEC: usize = 40;
const SPEC_KIND: std::ops::Range<usize> = 24..40;

/// The kernel's device-mapper.
#[derive(Debug)]
pub struct RealDm {
    control: Control,
}

impl RealDm {
    /// Opens the driver's control node; fails where the driver is absent or not permitted.
    pub fn open() -> Result<Self, DmError> {
        Control::open().map(|control| RealDm { control })
    }

    fn call(&self, request: &Request<'_>) -> Result<DmInfo, DmError> {
        let answer = self.control.call(request)?;
        info(answer).ok_or_else(|| request.malformed("name is not plain"))
    }

    /// The target lines of a table or its status: each line's spec, kind and text.
    fn lines(
        &self,
        operation: DmOperation,
        name: &DmName,
        flags: u32,
    ) -> Result<Vec<RawLine>, DmError> {
        let request = Request {
            flags,
            ..Request::about(operation, Command::TableStatus, name)
        };
        let answer = self.control.call(&request)?;
        raw_lines(&answer).ok_or_else(|| request.malformed("target out of range"))
    }
}

impl DeviceMapper for RealDm {
    fn version(&self) -> Result<[u32; 3], DmError> {
        let request = Request::new(DmOperation::Version, Command::Version);
        Ok(self.control.call(&request)?.version)
    }

    /// The target's kind goes where a device's name does.
    fn target_version(&self, kind: &str) -> Result<Option<[u32; 3]>, DmError> {
        let Ok(kind) = kind.parse::<DmName>() else {
            return Ok(None);
        };
        let request = Request::about(DmOperation::TargetVersion, Command::TargetVersion, &kind);
        match self.control.call(&request) {
            Ok(answer) => version(&answer.data)
                .map(Some)
                .ok_or_else(|| request.malformed("version out of range")),
            Err(error) if error.errno() == Some(nix::errno::Errno::EINVAL) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self) -> Result<Vec<ListedDevice>, DmError> {
        let request = Request {
            flags: flag::WITH_UUID,
            ..Request::new(DmOperation::List, Command::ListDevices)
        };
        let answer = self.control.call(&request)?;
        listed(&answer.data).ok_or_else(|| request.malformed("device out of range"))
    }

    fn create(&self, name: &DmName, uuid: &DmUuid) -> Result<DmInfo, DmError> {
        self.call(&Request {
            uuid: Some(uuid),
            ..Request::about(DmOperation::Create, Command::Create, name)
        })
    }

    fn remove(&self, name: &DmName) -> Result<(), DmError> {
        let request = Request {
            cookie: QUIET_UDEV,
            ..Request::about(DmOperation::Remove, Command::Remove, name)
        };
        self.control.call(&request).map(drop)
    }

    fn load(&self, name: &DmName, table: &Table, access: DmAccess) -> Result<DmInfo, DmError> {
        let request = Request {
            flags: match access {
                DmAccess::ReadWrite => 0,
                DmAccess::ReadOnly => flag::READ_ONLY,
            },
            // A table with more than 2^32 lines cannot be held in memory.
            target_count: table.lines().len() as u32,
            payload: specs(table),
            detail: format!(" ({table})"),
            ..Request::about(DmOperation::Load, Command::TableLoad, name)
        };
        self.call(&request)
    }

    fn clear(&self, name: &DmName) -> Result<DmInfo, DmError> {
        self.call(&Request::about(
            DmOperation::Clear,
            Command::TableClear,
            name,
        ))
    }

    fn suspend(&self, name: &DmName, flags: SuspendFlags) -> Result<DmInfo, DmError> {
        self.call(&Request {
            flags: flag::SUSPEND | suspend_bits(flags),
            ..Request::about(DmOperation::Suspend, Command::Suspend, name)
        })
    }

    fn resume(&self, name: &DmName, flags: SuspendFlags) -> Result<DmInfo, DmError> {
        self.call(&Request {
            flags: suspend_bits(flags),
            cookie: QUIET_UDEV,
            ..Request::about(DmOperation::Resume, Command::Suspend, name)
        })
    }

    fn info(&self, name: &DmName) -> Result<Option<DmInfo>, DmError> {
        let request = Request::about(DmOperation::Info, Command::Status, name);
        match self.call(&request) {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.errno() == Some(nix::errno::Errno::ENXIO) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn table(&self, name: &DmName, slot: TableSlot) -> Result<Table, DmError> {
        let flags = match slot {
            TableSlot::Live => flag::STATUS_TABLE,
            TableSlot::Inactive => flag::STATUS_TABLE | flag::QUERY_INACTIVE,
        };
        let lines = self.lines(DmOperation::Table, name, flags | flag::NO_FLUSH)?;
        let lines = lines.into_iter().map(|line| {
            Target::parse(&line.kind, &line.text)
                .map(|target| TableLine {
                    start: line.start,
                    length: line.length,
                    target,
                })
                .ok_or_else(|| line.foreign(name))
        });
        Ok(Table::from_lines(lines.collect::<Result<_, _>>()?))
    }

    fn status(
        &self,
        name: &DmName,
        freshness: StatusFreshness,
    ) -> Result<Vec<TargetStatus>, DmError> {
        let flags = match freshness {
            StatusFreshness::Committed => 0,
            StatusFreshness::AsIs => flag::NO_FLUSH,
        };
        let lines = self.lines(DmOperation::Status, name, flags)?;
        let parse = |line: RawLine| {
            TargetStatus::parse(&line.kind, &line.text).ok_or_else(|| line.foreign(name))
        };
        lines.into_iter().map(parse).collect()
    }

    fn deps(&self, name: &DmName) -> Result<Vec<DeviceNumber>, DmError> {
        let request = Request::about(DmOperation::Deps, Command::TableDeps, name);
        let answer = self.control.call(&request)?;
        deps(&answer.data).ok_or_else(|| request.malformed("device out of range"))
    }

    fn message(&self, name: &DmName, message: &PoolMessage) -> Result<(), DmError> {
        self.say(name, message.to_string())
    }

    fn raid_message(&self, name: &DmName, message: RaidMessage) -> Result<(), DmError> {
        self.say(name, message.to_string())
    }

    fn news(&self) -> Result<Box<dyn News>, NewsError> {
        Ok(Box::new(DmEvents::open()?))
    }
}

impl RealDm {
    fn say(&self, name: &DmName, text: String) -> Result<(), DmError> {
        let mut payload = 0_u64.to_ne_bytes().to_vec();
        payload.extend_from_slice(text.as_bytes());
        payload.push(0);
        let request = Request {
            payload,
            detail: format!(" ({text})"),
            ..Request::about(DmOperation::Message, Command::TargetMessage, name)
        };
        self.control.call(&request).map(drop)
    }
}

fn suspend_bits(flags: SuspendFlags) -> u32 {
    let bit = |wanted: bool, bit: u32| if wanted { 0 } else { bit };
    bit(flags.flush, flag::NO_FLUSH) | bit(flags.lock_filesystem, flag::SKIP_LOCKFS)
}

/// `None` when the kernel answers with a name this crate would not have given.
fn info(answer: Answer) -> Option<DmInfo> {
    Some(DmInfo {
        number: DeviceNumber::from_dev(answer.dev),
        open_count: answer.open_count,
        event_nr: answer.event_nr,
        live: answer.has(flag::ACTIVE_PRESENT),
        inactive: answer.has(flag::INACTIVE_PRESENT),
        suspended: answer.has(flag::SUSPEND),
        read_only: answer.has(flag::READ_ONLY),
        name: answer.name.try_into().ok()?,
        uuid: answer.uuid,
    })
}

fn specs(table: &Table) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in table.lines() {
        let params = line.target.to_string();
        let next = (SPEC + params.len() + 1).next_multiple_of(8);
        let end = bytes.len() + next;
        bytes.extend_from_slice(&line.start.0.to_ne_bytes());
        bytes.extend_from_slice(&line.length.0.to_ne_bytes());
        bytes.extend_from_slice(&0_i32.to_ne_bytes());
        // Parameters of our targets are at most some 200 bytes.
        bytes.extend_from_slice(&(next as u32).to_ne_bytes());
        let mut kind = [0; SPEC_KIND.end - SPEC_KIND.start];
        kind[..line.target.kind().len()].copy_from_slice(line.target.kind().as_bytes());
        bytes.extend_from_slice(&kind);
        bytes.extend_from_slice(params.as_bytes());
        bytes.resize(end, 0);
    }
    bytes
}

struct RawLine {
    start: Sectors,
    length: Sectors,
    kind: String,
    text: String,
}

impl RawLine {
    fn foreign(self, device: &DmName) -> DmError {
        DmError::ForeignTarget {
            device: device.clone(),
            kind: self.kind,
            params: self.text,
        }
    }
}

/// Each `next` counts from the first spec, unlike when a table is loaded.
fn raw_lines(answer: &Answer) -> Option<Vec<RawLine>> {
    let mut lines = Vec::new();
    let mut at = 0;
    for _ in 0..answer.target_count {
        let spec = answer.data.get(at..)?;
        lines.push(RawLine {
            start: Sectors(u64_at(spec, 0)?),
            length: Sectors(u64_at(spec, 8)?),
            kind: text(spec.get(SPEC_KIND)?)?,
            text: text(spec.get(SPEC..)?)?,
        });
        let next = u32_at(spec, 20)? as usize;
        // Only forwards: a wrong answer must not become a long one.
        if next <= at {
            return (lines.len() == answer.target_count as usize).then_some(lines);
        }
        at = next;
    }
    Some(lines)
}

/// `struct dm_target_versions`: the place of the next, then the three numbers.
fn version(data: &[u8]) -> Option<[u32; 3]> {
    Some([u32_at(data, 4)?, u32_at(data, 8)?, u32_at(data, 12)?])
}

/// A device without a live table has no answer at all.
fn deps(data: &[u8]) -> Option<Vec<DeviceNumber>> {
    if data.is_empty() {
        return Some(Vec::new());
    }
    let count = u32_at(data, 0)? as usize;
    (0..count)
        .map(|index| u64_at(data, 8 + index * 8).map(DeviceNumber::from_dev))
        .collect()
}

/// `struct dm_name_list`: after the name, aligned to 8, the event number, flags, and the uuid
/// if flag 1 says so. An empty list is no answer at all, or a record with device number 0.
fn listed(data: &[u8]) -> Option<Vec<ListedDevice>> {
    const HAS_UUID: u32 = 1;
    let mut devices = Vec::new();
    let mut at = 0;
    if data.is_empty() {
        return Some(devices);
    }
    loop {
        let record = data.get(at..)?;
        let dev = u64_at(record, 0)?;
        if dev == 0 {
            return Some(devices);
        }
        let name = text(record.get(12..)?)?;
        let extra = (12 + name.len() + 1).next_multiple_of(8);
        let uuid = match u32_at(record, extra + 4) {
            Some(flags) if flags & HAS_UUID != 0 => text(record.get(extra + 8..)?)?,
            _ => String::new(),
        };
        devices.push(ListedDevice {
            name,
            uuid,
            number: DeviceNumber::from_dev(dev),
        });
        match u32_at(record, 8)? as usize {
            0 => return Some(devices),
            next => at = at.checked_add(next)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dm::Linear;

    fn linear(minor: u32, offset: u64) -> Target {
        Target::Linear(Linear {
            device: DeviceNumber { major: 8, minor },
            offset: Sectors(offset),
        })
    }

    #[test]
    fn specs_of_a_table_are_aligned_and_chained() {
        let table = Table::stacked([(Sectors(8), linear(0, 2048)), (Sectors(16), Target::Error)]);
        let bytes = specs(&table);
        let next = u32_at(&bytes, 20).unwrap() as usize;
        assert_eq!(next % 8, 0);
        assert_eq!(text(&bytes[SPEC..]).unwrap(), "8:0 2048");
        assert_eq!(u64_at(&bytes, next), Some(8));
        assert_eq!(text(&bytes[next + 24..next + 40]).unwrap(), "error");
        assert_eq!(
            next + u32_at(&bytes, next + 20).unwrap() as usize,
            bytes.len()
        );
    }

    #[test]
    fn truncated_answers_are_malformed_not_guessed() {
        let mut record = 0xfe00_u64.to_ne_bytes().to_vec();
        record.extend_from_slice(&0_u32.to_ne_bytes());
        record.extend_from_slice(b"name-without-nul");
        assert!(listed(&record).is_none());
        assert!(listed(&record[..6]).is_none());
        let mut counted = 2_u32.to_ne_bytes().to_vec();
        counted.extend_from_slice(&[0; 12]);
        assert!(deps(&counted).is_none());
    }

    #[test]
    fn nobody_waits_for_udev() {
        assert_eq!(QUIET_UDEV & 0xffff, 0);
        assert_ne!(QUIET_UDEV, 0);
    }
}
