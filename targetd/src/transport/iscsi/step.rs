//! One change of an iSCSI export.

use std::fmt;

use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{FailureKind, Iqn, IscsiAcl, PortalAddr};

use crate::transport::backstore;

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// End all sessions, let nobody in.
    Disable(Iqn),
    /// Take the LUN from an initiator, end its session, forget it.
    RemoveAcl(Iqn, Iqn),
    /// Stop listening for this target.
    ClosePortal(Iqn, PortalAddr),
    /// Stop listening for this target over RDMA, and go on over TCP.
    CloseIser(Iqn, PortalAddr),
    /// Take the backstore out of the portal group.
    RemoveLun(Iqn),
    /// Remove portal group and target.
    RemoveTarget(Iqn),
    /// Change the disk itself.
    Disk(backstore::Step),
    /// Make the target and its portal group, disabled.
    CreateTarget(Iqn),
    /// Listed initiators only, with CHAP.
    Restrict(Iqn),
    /// Make LUN 0 on the backstore.
    CreateLun(Iqn),
    /// List an initiator, with its credentials, and show it LUN 0.
    Admit(Iqn, Iqn, IscsiAcl),
    /// Listen for this target.
    OpenPortal(Iqn, PortalAddr),
    /// Listen over RDMA as well.
    OpenIser(Iqn, PortalAddr),
    /// Let initiators log in.
    Enable(Iqn),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Disable(target) => write!(f, "disable target {target}"),
            Step::RemoveAcl(target, initiator) => {
                write!(f, "remove initiator {initiator} from target {target}")
            }
            Step::ClosePortal(target, at) => write!(f, "close portal {at} of target {target}"),
            Step::CloseIser(target, at) => {
                write!(f, "close portal {at} of target {target} to RDMA")
            }
            Step::RemoveLun(target) => write!(f, "remove LUN 0 of target {target}"),
            Step::RemoveTarget(target) => write!(f, "remove target {target}"),
            Step::Disk(step) => step.fmt(f),
            Step::CreateTarget(target) => write!(f, "create target {target}"),
            Step::Restrict(target) => {
                write!(
                    f,
                    "restrict target {target} to listed initiators, with CHAP"
                )
            }
            Step::CreateLun(target) => write!(f, "create LUN 0 of target {target}"),
            Step::Admit(target, initiator, acl) => {
                let how = match (&acl.chap, &acl.mutual) {
                    (None, _) => "without authentication",
                    (Some(_), None) => "with CHAP",
                    (Some(_), Some(_)) => "with mutual CHAP",
                };
                write!(f, "admit initiator {initiator} to target {target} {how}")?;
                match acl.read_only {
                    true => f.write_str(", read-only"),
                    false => Ok(()),
                }
            }
            Step::OpenPortal(target, at) => write!(f, "open portal {at} of target {target}"),
            Step::OpenIser(target, at) => {
                write!(f, "open portal {at} of target {target} to RDMA")
            }
            Step::Enable(target) => write!(f, "enable target {target}"),
        }
    }
}

impl Step {
    /// What the kernel's refusal means to the caller.
    pub(super) fn meaning(&self, errno: Errno) -> FailureKind {
        match (self, errno) {
            // The module for RDMA could not be loaded.
            (Step::OpenIser(..), Errno::EINVAL) => FailureKind::Unsupported,
            (Step::OpenPortal(..) | Step::OpenIser(..), _) => FailureKind::Address,
            (Step::Disk(step), errno) => step.meaning(errno),
            // The directory is not there before its module is.
            (Step::CreateTarget(_), Errno::ENOENT | Errno::EINVAL) => FailureKind::Unsupported,
            (_, Errno::EBUSY | Errno::ENOTEMPTY) => FailureKind::InUse,
            _ => FailureKind::Kernel,
        }
    }
}
