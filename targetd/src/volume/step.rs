//! One change of the kernel on a volume's way to its desired state.

use std::fmt;

use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{FailureKind, Sectors, ThinId};
use uuid::Uuid;

use crate::transport::ExportStep;

/// One change. Prints as a line without secrets.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A change of an export.
    Export(ExportStep),
    /// Make the thin device in the pool, unless it is there.
    CreateThin {
        /// The pool.
        pool: Uuid,
        /// The thin device.
        id: ThinId,
    },
    /// Make the volume's device and let it do I/O.
    Activate {
        /// The pool.
        pool: Uuid,
        /// The thin device.
        id: ThinId,
        /// The size.
        size: Sectors,
    },
    /// Give the active device a larger table; I/O pauses for a moment.
    Grow {
        /// The pool.
        pool: Uuid,
        /// The thin device.
        id: ThinId,
        /// The size.
        size: Sectors,
    },
    /// Drop a table that was loaded and never used.
    DropSecondTable,
    /// Let I/O go on.
    Resume,
    /// Remove a device that never got a table.
    RemoveEmpty,
    /// Remove the device. The data stays in the pool.
    Deactivate,
    /// Destroy the data.
    DeleteThin {
        /// The pool.
        pool: Uuid,
        /// The thin device.
        id: ThinId,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Export(step) => step.fmt(f),
            Step::CreateThin { pool, id } => write!(f, "create thin device {id} of pool {pool}"),
            Step::Activate { pool, id, size } => {
                write!(f, "activate {size} of thin device {id} of pool {pool}")
            }
            Step::Grow { size, .. } => write!(f, "grow the device to {size}"),
            Step::DropSecondTable => write!(f, "drop the device's unused table"),
            Step::Resume => write!(f, "resume the device"),
            Step::RemoveEmpty => write!(f, "remove the device, which has no table"),
            Step::Deactivate => write!(f, "deactivate the device"),
            Step::DeleteThin { pool, id } => write!(f, "delete thin device {id} of pool {pool}"),
        }
    }
}

impl Step {
    /// What the kernel's refusal means to the caller.
    pub fn meaning(&self, errno: Errno) -> FailureKind {
        match (self, errno) {
            (Step::Export(step), _) => step.meaning(errno),
            (_, Errno::EBUSY) => FailureKind::InUse,
            (_, Errno::ENOSPC) => FailureKind::NoSpace,
            // The thin id, or the pool, was taken away in the meantime.
            (_, Errno::ENODATA | Errno::ENXIO) => FailureKind::Missing,
            _ => FailureKind::Kernel,
        }
    }
}
