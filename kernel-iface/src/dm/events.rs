//! The driver's count of all devices' events, as something to wait on.

use std::os::fd::{AsFd, BorrowedFd};

use super::ioctl::{Command, Control, Request};
use super::{DmError, DmOperation};
use crate::news::{News, NewsError};

/// A control node of its own, because the driver notes for each open one up to which event it was
/// told. Readable once any device has raised an event since: a thin pool that fills up to its
/// mark or changes its mode, a device that fails, and also any table that went live.
#[derive(Debug)]
pub struct DmEvents {
    control: Control,
}

impl DmEvents {
    /// Opens one; `ENOTTY` of a driver that is older than interface 4.37.
    pub(super) fn open() -> Result<DmEvents, DmError> {
        let events = DmEvents {
            control: Control::open()?,
        };
        events.arm()?;
        Ok(events)
    }

    fn arm(&self) -> Result<(), DmError> {
        let request = Request::new(DmOperation::Arm, Command::ArmPoll);
        self.control.call(&request).map(drop)
    }
}

impl AsFd for DmEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

impl News for DmEvents {
    /// The driver does not say whose events they were.
    fn take(&self) -> Result<bool, NewsError> {
        self.arm()?;
        Ok(true)
    }
}
