//! One change of an export over Fibre Channel.

use std::fmt;

use ashlar_kernel_iface::lio::{FcFabric, FcTarget, Lio};
use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{FailureKind, FcAccess, Lun, Wwn};

use crate::transport::backstore;

/// A LUN of a port's target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unit {
    fabric: FcFabric,
    /// The port.
    pub port: Wwn,
    /// Its number there.
    pub number: Lun,
}

impl Unit {
    pub(super) fn of(fabric: FcFabric, port: Wwn, number: Lun) -> Unit {
        Unit {
            fabric,
            port,
            number,
        }
    }

    pub(super) fn target(self, lio: Lio<'_>) -> FcTarget<'_> {
        lio.fc_target(self.fabric, self.port)
    }
}

/// A LUN as an initiator sees it at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mapping {
    fabric: FcFabric,
    /// The port.
    pub port: Wwn,
    /// Who sees it.
    pub initiator: Wwn,
    /// As what.
    pub lun: Lun,
}

impl Mapping {
    pub(super) fn of(fabric: FcFabric, port: Wwn, initiator: Wwn, lun: Lun) -> Mapping {
        Mapping {
            fabric,
            port,
            initiator,
            lun,
        }
    }

    pub(super) fn target(self, lio: Lio<'_>) -> FcTarget<'_> {
        lio.fc_target(self.fabric, self.port)
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Change the disk itself.
    Disk(backstore::Step),
    /// Take it from an initiator.
    Unmap(Mapping),
    /// Take the backstore out of a port's target.
    RemoveUnit(Unit),
    /// Make a port a target.
    Open(Wwn),
    /// Make a LUN of a port's target on the backstore.
    CreateUnit(Wwn, Lun),
    /// Show that LUN to an initiator.
    Map(Wwn, Lun, Wwn, FcAccess),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Disk(step) => step.fmt(f),
            Step::Unmap(mapping) => {
                let Mapping {
                    port,
                    initiator,
                    lun,
                    ..
                } = mapping;
                write!(
                    f,
                    "take LUN {lun} at port {port} from initiator {initiator}"
                )
            }
            Step::RemoveUnit(Unit { port, number, .. }) => {
                write!(f, "remove unit {number} of port {port}")
            }
            Step::Open(port) => write!(f, "make port {port} a target"),
            Step::CreateUnit(port, number) => write!(f, "create unit {number} of port {port}"),
            Step::Map(port, number, initiator, access) => {
                let lun = access.lun;
                write!(
                    f,
                    "show unit {number} at port {port} to initiator {initiator} as LUN {lun}"
                )?;
                match access.read_only {
                    true => f.write_str(", read-only"),
                    false => Ok(()),
                }
            }
        }
    }
}

impl Step {
    /// What the kernel's refusal means to the caller.
    pub(super) fn meaning(&self, errno: Errno) -> FailureKind {
        match (self, errno) {
            (Step::Disk(step), errno) => step.meaning(errno),
            // Its module is not loaded.
            (Step::Open(_), Errno::EINVAL | Errno::ENOENT) => FailureKind::Unsupported,
            (Step::Open(_) | Step::CreateUnit(..) | Step::Map(..), _) => FailureKind::Address,
            (_, Errno::EBUSY | Errno::ENOTEMPTY) => FailureKind::InUse,
            _ => FailureKind::Kernel,
        }
    }
}
