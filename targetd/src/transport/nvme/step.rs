//! One change of an NVMe export.

use std::fmt;

use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{FailureKind, Nqn, NvmeHost, NvmePort, PortId};

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make the subsystem unreachable at a port and end the connections through it.
    Withdraw(Nqn, PortId),
    /// Disable and remove namespace 1.
    RemoveNamespace(Nqn),
    /// Take a host off the list, and forget it if it was on no other.
    Dismiss(Nqn, Nqn),
    /// Remove the subsystem.
    RemoveSubsystem(Nqn),
    /// Make the subsystem; nobody may connect.
    CreateSubsystem(Nqn),
    /// Listed hosts only.
    Restrict(Nqn),
    /// Tell hosts serial and model number.
    Identify(Nqn, String),
    /// Make namespace 1 on the volume's device, under the volume's identity.
    CreateNamespace(Nqn),
    /// Let the namespace open its device.
    EnableNamespace(Nqn),
    /// Tell hosts that the namespace grew.
    Revalidate(Nqn),
    /// Give a host its keys and put it on the list.
    Admit(Nqn, Nqn, NvmeHost),
    /// Make the subsystem reachable at a port.
    Publish(Nqn, PortId, NvmePort),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Withdraw(nqn, port) => write!(f, "withdraw subsystem {nqn} from port {port}"),
            Step::RemoveNamespace(nqn) => write!(f, "remove namespace 1 of subsystem {nqn}"),
            Step::Dismiss(nqn, host) => write!(f, "remove host {host} from subsystem {nqn}"),
            Step::RemoveSubsystem(nqn) => write!(f, "remove subsystem {nqn}"),
            Step::CreateSubsystem(nqn) => write!(f, "create subsystem {nqn}"),
            Step::Restrict(nqn) => write!(f, "restrict subsystem {nqn} to listed hosts"),
            Step::Identify(nqn, serial) => {
                write!(f, "set the serial number of subsystem {nqn} to {serial}")
            }
            Step::CreateNamespace(nqn) => write!(f, "create namespace 1 of subsystem {nqn}"),
            Step::EnableNamespace(nqn) => write!(f, "enable namespace 1 of subsystem {nqn}"),
            Step::Revalidate(nqn) => {
                write!(f, "announce the size of namespace 1 of subsystem {nqn}")
            }
            Step::Admit(nqn, host, keys) => {
                write!(f, "admit host {host} to subsystem {nqn} ")?;
                let how = match (&keys.key, &keys.controller_key) {
                    (None, _) => return f.write_str("without authentication"),
                    (Some(_), None) => "with DH-HMAC-CHAP",
                    (Some(_), Some(_)) => "with DH-HMAC-CHAP both ways",
                };
                write!(f, "{how}, by {}", keys.exchange)
            }
            Step::Publish(nqn, port, at) => {
                write!(f, "publish subsystem {nqn} at port {port}, {at}")
            }
        }
    }
}

impl Step {
    /// What the kernel's refusal means to the caller.
    pub(super) fn meaning(&self, errno: Errno) -> FailureKind {
        match (self, errno) {
            // The transport's module could not be loaded.
            (Step::Publish(..), Errno::EINVAL) => FailureKind::Unsupported,
            (Step::Publish(..), _) => FailureKind::Address,
            // There is no such hash or group, nor a module for it.
            (Step::Admit(..), Errno::EINVAL) => FailureKind::Unsupported,
            // The directory is not there before its module is.
            (Step::CreateSubsystem(_), Errno::ENOENT) => FailureKind::Unsupported,
            (_, Errno::EBUSY | Errno::ENOTEMPTY) => FailureKind::InUse,
            _ => FailureKind::Kernel,
        }
    }
}
