//! One change of the kernel on a volume's way to its desired state.

use std::fmt;

use ashlar_kernel_iface::dm::DmName;
use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{FailureKind, Qos, ServedAt, ThinId, Transport};
use uuid::Uuid;

use super::aside::Aside;
use crate::qos;
use crate::steps;
use crate::thin::{self, Place};
use crate::transport::ExportStep;

/// One change. Prints as a line without secrets.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A change of an export.
    Export(ExportStep),
    /// Make the thin device in the pool, unless it is there and blank.
    CreateThin(Place),
    /// Make the thin device with the content of another, unless it is there.
    CreateSnapshot {
        /// The pool.
        pool: Uuid,
        /// The thin device.
        id: ThinId,
        /// The one whose content it gets.
        of: ThinId,
        /// The device whose I/O rests meanwhile.
        resting: Option<DmName>,
    },
    /// Make the volume's device and let it do I/O.
    Activate(Place),
    /// Give the active device a larger table; I/O pauses for a moment.
    Grow(Place),
    /// Put the active device on another thin device; I/O pauses for a moment.
    Swap(Place),
    /// Make the thin device with what the volume holds now.
    TakeCopy {
        /// The pool.
        pool: Uuid,
        /// The thin device.
        id: ThinId,
        /// The volume's own.
        of: ThinId,
        /// What becomes of the volume's I/O.
        io: CopyIo,
    },
    /// Make a device beside the volume's own.
    ActivateAside(Aside, Place),
    /// Remove a device beside the volume's own. What it is on stays.
    DeactivateAside(Aside),
    /// Limit what the device may do.
    Limit(Qos),
    /// Drop a table that was loaded and never used.
    DropSecondTable,
    /// The same of another device, which is about to rest.
    DropSecondTableOf(DmName),
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

/// What becomes of the I/O of a volume while a copy of it is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyIo {
    /// There is none, as no device is active.
    None,
    /// It rests meanwhile.
    Rests,
    /// It rests from then on.
    Stops,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Export(step) => step.fmt(f),
            Step::CreateThin(Place { pool, id, .. }) => {
                write!(f, "create thin device {id} of pool {pool}")
            }
            Step::CreateSnapshot {
                pool,
                id,
                of,
                resting,
            } => {
                write!(f, "create thin device {id} of pool {pool} from {of}")?;
                match resting {
                    Some(device) => write!(f, " while {device} rests"),
                    None => Ok(()),
                }
            }
            Step::TakeCopy { pool, id, of, io } => {
                write!(f, "create thin device {id} of pool {pool} from {of}")?;
                match io {
                    CopyIo::None => Ok(()),
                    CopyIo::Rests => write!(f, " while the device rests"),
                    CopyIo::Stops => write!(f, " and let the device rest"),
                }
            }
            Step::ActivateAside(aside, place) => write!(f, "activate {place} as {aside}"),
            Step::DeactivateAside(aside) => write!(f, "deactivate {aside}"),
            Step::Activate(place) => write!(f, "activate {place}"),
            Step::Grow(place) => write!(f, "grow the device to {}", place.size),
            Step::Swap(place) => write!(f, "put the device on {place}"),
            Step::Limit(limits) => write!(f, "limit the device: {}", qos::in_words(limits)),
            Step::DropSecondTable => write!(f, "drop the device's unused table"),
            Step::DropSecondTableOf(device) => write!(f, "drop the unused table of {device}"),
            Step::Resume => write!(f, "resume the device"),
            Step::RemoveEmpty => write!(f, "remove the device, which has no table"),
            Step::Deactivate => write!(f, "deactivate the device"),
            Step::DeleteThin { pool, id } => write!(f, "delete thin device {id} of pool {pool}"),
        }
    }
}

impl steps::Step for Step {
    fn meaning(&self, errno: Errno) -> FailureKind {
        match (self, errno) {
            (Step::Export(step), _) => step.meaning(errno),
            // The controller's files are missing.
            (Step::Limit(_), Errno::ENOENT) => FailureKind::Unsupported,
            _ => thin::meaning(errno),
        }
    }

    fn needs(&self) -> Option<&'static str> {
        match self {
            Step::Export(step) => step.needs(),
            Step::Limit(_) => Some("blkio"),
            _ => None,
        }
    }

    fn listens(&self) -> Option<(Transport, ServedAt)> {
        match self {
            Step::Export(step) => step.listens(),
            _ => None,
        }
    }
}
