use std::fmt;

use nix::errno::Errno;

use super::DmName;

/// What was asked of device-mapper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmOperation {
    /// Ask for the driver's version.
    Version,
    /// Ask for the version of a target's driver.
    TargetVersion,
    /// List all devices.
    List,
    /// Create a device.
    Create,
    /// Remove a device.
    Remove,
    /// Load an inactive table.
    Load,
    /// Drop the inactive table.
    Clear,
    /// Suspend I/O.
    Suspend,
    /// Make the inactive table live and let I/O go on.
    Resume,
    /// Ask what a device is.
    Info,
    /// Read a table back.
    Table,
    /// Ask a device's targets how they are.
    Status,
    /// List the devices a device stands on.
    Deps,
    /// Send a message to a target.
    Message,
    /// Ask to be woken by the next event of any device.
    Arm,
}

impl fmt::Display for DmOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DmOperation::Version => "ask the version of",
            DmOperation::TargetVersion => "ask the version of target",
            DmOperation::List => "list",
            DmOperation::Create => "create",
            DmOperation::Remove => "remove",
            DmOperation::Load => "load a table into",
            DmOperation::Clear => "clear the inactive table of",
            DmOperation::Suspend => "suspend",
            DmOperation::Resume => "resume",
            DmOperation::Info => "inspect",
            DmOperation::Table => "read the table of",
            DmOperation::Status => "read the status of",
            DmOperation::Deps => "list the devices under",
            DmOperation::Message => "send a message to",
            DmOperation::Arm => "wait for events of",
        })
    }
}

/// Which device an operation was about; the version and the list are about none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DmObject {
    /// The driver itself.
    Driver,
    /// One device, by name.
    Device(DmName),
}

impl fmt::Display for DmObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DmObject::Driver => f.write_str("device-mapper"),
            DmObject::Device(name) => name.fmt(f),
        }
    }
}

/// Why a device-mapper operation failed.
#[derive(Debug, thiserror::Error)]
pub enum DmError {
    /// `/dev/mapper/control` cannot be opened: no driver, or no privilege.
    #[error("failed to open {path}")]
    Control {
        /// The control node.
        path: &'static str,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// The kernel said no.
    #[error("failed to {operation} {object}{detail}: {errno}")]
    Refused {
        /// What was asked.
        operation: DmOperation,
        /// Of which device.
        object: DmObject,
        /// The message sent or the table loaded, led by a space, or nothing.
        detail: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The kernel's answer does not have the shape its header file promises.
    #[error("failed to {operation} {object}: the answer is malformed ({what})")]
    Malformed {
        /// What was asked.
        operation: DmOperation,
        /// Of which device.
        object: DmObject,
        /// What was wrong with it.
        what: &'static str,
    },
    /// The device holds a target, or parameters of one, that this crate does not write.
    #[error("{device} holds a target that is not understood: {kind} {params}")]
    ForeignTarget {
        /// The device.
        device: DmName,
        /// The target's type.
        kind: String,
        /// Its parameters, as the kernel prints them.
        params: String,
    },
}

impl DmError {
    /// The kernel's answer, where it gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            DmError::Refused { errno, .. } => Some(*errno),
            DmError::Control { source, .. } => source.raw_os_error().map(Errno::from_raw),
            DmError::Malformed { .. } | DmError::ForeignTarget { .. } => None,
        }
    }

    /// Whether the object is in use (on creation: whether its name or uuid is taken).
    pub fn is_busy(&self) -> bool {
        self.errno() == Some(Errno::EBUSY)
    }
}
