//! The one door to the driver: `struct dm_ioctl` as bytes, and the call itself.
//!
//! The kernel copies the whole buffer in and out, so it is plain bytes here, read and
//! written at the offsets of `<linux/dm-ioctl.h>` with every read checked.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;

use super::{DmError, DmName, DmObject, DmOperation, DmUuid};

pub(super) const CONTROL: &str = "/dev/mapper/control";

/// `sizeof(struct dm_ioctl)`; also encoded in the ioctl numbers.
const HEADER: usize = 312;
const NAME: usize = 48;
const UUID: usize = 176;
const NAME_LEN: usize = 128;
const UUID_LEN: usize = 129;
/// Room for the answers of nearly every call, so that a second try is rare.
const FIRST_ROOM: usize = 4 << 10;
/// No honest answer is this big: 16 MiB is some 200,000 targets.
const MOST_ROOM: usize = 16 << 20;

/// Any 4.x driver accepts callers that speak 4.0.
const INTERFACE: [u32; 3] = [4, 0, 0];

pub(super) mod flag {
    pub const READ_ONLY: u32 = 1 << 0;
    pub const SUSPEND: u32 = 1 << 1;
    pub const STATUS_TABLE: u32 = 1 << 4;
    pub const ACTIVE_PRESENT: u32 = 1 << 5;
    pub const INACTIVE_PRESENT: u32 = 1 << 6;
    pub const BUFFER_FULL: u32 = 1 << 8;
    pub const SKIP_LOCKFS: u32 = 1 << 10;
    pub const NO_FLUSH: u32 = 1 << 11;
    pub const QUERY_INACTIVE: u32 = 1 << 12;
    /// On a list: tell each device's uuid too.
    pub const WITH_UUID: u32 = 1 << 14;
}

/// `DM_*_CMD` of the driver's header.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Command {
    Version = 0,
    ListDevices = 2,
    Create = 3,
    Remove = 4,
    Suspend = 6,
    Status = 7,
    TableLoad = 9,
    TableClear = 10,
    TableDeps = 11,
    TableStatus = 12,
    TargetMessage = 14,
    ArmPoll = 16,
    TargetVersion = 17,
}

/// One call to the driver.
pub(super) struct Request<'a> {
    pub operation: DmOperation,
    pub command: Command,
    pub name: Option<&'a DmName>,
    pub uuid: Option<&'a DmUuid>,
    pub flags: u32,
    /// The udev cookie; only suspend and remove read it.
    pub cookie: u32,
    pub target_count: u32,
    pub payload: Vec<u8>,
    /// What is said of the payload when the call is refused.
    pub detail: String,
}

impl<'a> Request<'a> {
    pub(super) fn new(operation: DmOperation, command: Command) -> Self {
        Request {
            operation,
            command,
            name: None,
            uuid: None,
            flags: 0,
            cookie: 0,
            target_count: 0,
            payload: Vec::new(),
            detail: String::new(),
        }
    }

    pub(super) fn about(operation: DmOperation, command: Command, name: &'a DmName) -> Self {
        Request {
            name: Some(name),
            ..Request::new(operation, command)
        }
    }

    fn object(&self) -> DmObject {
        self.name
            .map_or(DmObject::Driver, |name| DmObject::Device(name.clone()))
    }

    pub(super) fn malformed(&self, what: &'static str) -> DmError {
        DmError::Malformed {
            operation: self.operation,
            object: self.object(),
            what,
        }
    }

    fn encode(&self, room: usize) -> Vec<u8> {
        let mut buffer = vec![0; HEADER + self.payload.len().max(room)];
        // At most MOST_ROOM, far below 2^32.
        let size = buffer.len() as u32;
        let words: [u32; 10] = [
            INTERFACE[0],
            INTERFACE[1],
            INTERFACE[2],
            size,
            HEADER as u32,
            self.target_count,
            0,
            self.flags,
            self.cookie,
            0,
        ];
        for (word, bytes) in words.iter().zip(buffer.chunks_exact_mut(4)) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        if let Some(name) = self.name {
            buffer[NAME..][..name.as_str().len()].copy_from_slice(name.as_str().as_bytes());
        }
        if let Some(uuid) = self.uuid {
            buffer[UUID..][..uuid.as_str().len()].copy_from_slice(uuid.as_str().as_bytes());
        }
        buffer[HEADER..][..self.payload.len()].copy_from_slice(&self.payload);
        buffer
    }
}

/// The driver's answer: the header it filled in and the data behind it.
pub(super) struct Answer {
    pub version: [u32; 3],
    pub target_count: u32,
    pub open_count: u32,
    pub flags: u32,
    pub event_nr: u32,
    pub dev: u64,
    pub name: String,
    pub uuid: String,
    pub data: Vec<u8>,
}

impl Answer {
    fn decode(buffer: &[u8]) -> Option<Self> {
        let word = |index: usize| u32_at(buffer, index * 4);
        let (size, start) = (word(3)? as usize, word(4)? as usize);
        // A full buffer is reported with a data size that may be that of the header alone.
        let data = buffer.get(start..size.max(start)).unwrap_or_default();
        Some(Answer {
            version: [word(0)?, word(1)?, word(2)?],
            target_count: word(5)?,
            open_count: word(6)?,
            flags: word(7)?,
            event_nr: word(8)?,
            dev: u64_at(buffer, 40)?,
            name: text(buffer.get(NAME..NAME + NAME_LEN)?)?,
            uuid: text(buffer.get(UUID..UUID + UUID_LEN)?)?,
            data: data.to_vec(),
        })
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

/// The open control node.
#[derive(Debug)]
pub(super) struct Control(File);

impl Control {
    pub(super) fn open() -> Result<Self, DmError> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(CONTROL)
            .map(Control)
            .map_err(|source| DmError::Control {
                path: CONTROL,
                source,
            })
    }

    /// Makes one call, again with more room while the driver says the answer did not fit.
    /// Only calls that change nothing are made again.
    pub(super) fn call(&self, request: &Request<'_>) -> Result<Answer, DmError> {
        let mut room = FIRST_ROOM;
        loop {
            let mut buffer = request.encode(room);
            ioctl(&self.0, request.command, &mut buffer).map_err(|errno| DmError::Refused {
                operation: request.operation,
                object: request.object(),
                detail: request.detail.clone(),
                errno,
            })?;
            let answer =
                Answer::decode(&buffer).ok_or_else(|| request.malformed("header out of range"))?;
            if !answer.has(flag::BUFFER_FULL) {
                return Ok(answer);
            }
            let repeatable = !matches!(request.command, Command::TargetMessage);
            if !repeatable || room >= MOST_ROOM {
                return Err(request.malformed("it does not fit the buffer"));
            }
            room *= 4;
        }
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn ioctl(control: &File, command: Command, buffer: &mut [u8]) -> Result<(), Errno> {
    let number = nix::request_code_readwrite!(0xfd, command as u8, HEADER);
    // SAFETY: the driver reads and writes the buffer up to the `data_size` in its header,
    // which `Request::encode` set to the buffer's length; the buffer is exclusively borrowed
    // for the call, any bytes are valid in it, and nothing keeps the pointer.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), number, buffer.as_mut_ptr()) };
    Errno::result(result).map(drop)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(field.try_into().ok()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_ne_bytes(field.try_into().ok()?))
}

/// The text before the first NUL; `None` without a NUL or when it is not UTF-8.
pub(super) fn text(field: &[u8]) -> Option<String> {
    let end = field.iter().position(|byte| *byte == 0)?;
    String::from_utf8(field[..end].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_where_the_header_file_puts_them() {
        let name: DmName = "ashlar-test".parse().unwrap();
        let uuid: DmUuid = "ASHLAR-test".parse().unwrap();
        let buffer = Request {
            uuid: Some(&uuid),
            flags: flag::SUSPEND,
            cookie: 7,
            target_count: 3,
            payload: vec![9; 5],
            ..Request::about(DmOperation::Create, Command::Create, &name)
        }
        .encode(16);
        assert_eq!(buffer.len(), HEADER + 16);
        assert_eq!(u32_at(&buffer, 12), Some(HEADER as u32 + 16));
        assert_eq!(u32_at(&buffer, 16), Some(HEADER as u32));
        assert_eq!(u32_at(&buffer, 20), Some(3));
        assert_eq!(u32_at(&buffer, 28), Some(flag::SUSPEND));
        assert_eq!(u32_at(&buffer, 32), Some(7));
        assert_eq!(buffer[HEADER..][..6], [9, 9, 9, 9, 9, 0]);
        let answer = Answer::decode(&buffer).unwrap();
        assert_eq!(answer.name, "ashlar-test");
        assert_eq!(answer.uuid, "ASHLAR-test");
        assert_eq!(answer.data.len(), 16);
    }

    #[test]
    fn an_answer_that_points_outside_itself_yields_no_data() {
        let name: DmName = "x".parse().unwrap();
        let mut buffer =
            Request::about(DmOperation::Status, Command::TableStatus, &name).encode(64);
        for (size, start) in [(u32::MAX, 312), (400, 5000), (10, 312)] {
            buffer[12..16].copy_from_slice(&u32::to_ne_bytes(size));
            buffer[16..20].copy_from_slice(&u32::to_ne_bytes(start));
            assert_eq!(Answer::decode(&buffer).unwrap().data, Vec::<u8>::new());
        }
        assert!(Answer::decode(&buffer[..100]).is_none());
    }
}
