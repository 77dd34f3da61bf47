//! The safety rules of NVMe exports. Pure.

use ashlar_kernel_iface::nvmet::SubsystemState;
use ashlar_targetd_protocol::{FailureKind, Nqn, NvmeExport, NvmeHost};

use super::{nqn, nsid};
use crate::ours;
use crate::refusal::Refusal;
use crate::transport::Exported;

pub(super) fn check_desired(of: Exported, export: &NvmeExport) -> Result<(), Refusal> {
    let refused = |reason: String| Err(Refusal::new(FailureKind::Refused, reason));
    let name = &export.subsystem;
    if of.is_only_read() {
        // nvmet opens every device to write, and keeps no host from writing (Linux 6.12).
        let reason = format!("{of} is only read, and subsystem {name} cannot see to that");
        return Err(Refusal::new(FailureKind::Unsupported, reason));
    }
    if ours::volume_of_subsystem(name.as_str()) != Some(of.id()) {
        return refused(format!("subsystem {name} is not named after {of}"));
    }
    if export.ports.is_empty() {
        return refused(format!("subsystem {name} has no port"));
    }
    let one_sided =
        |(_, host): &(&Nqn, &NvmeHost)| host.key.is_none() && host.controller_key.is_some();
    match export.hosts.iter().find(one_sided) {
        Some((host, _)) => refused(format!(
            "host {host} would be proven to, and prove nothing itself"
        )),
        None => Ok(()),
    }
}

/// A subsystem of ours holds nothing but what is made here.
pub(super) fn check_ours(name: &Nqn, state: &SubsystemState) -> Result<(), Refusal> {
    let foreign = |what: String| Err(Refusal::new(FailureKind::Foreign, what));
    if let Some(other) = state.namespaces.keys().find(|found| **found != nsid()) {
        return foreign(format!("subsystem {name} has a namespace {other}"));
    }
    match state.allowed_hosts.iter().find(|host| nqn(host).is_none()) {
        Some(host) => foreign(format!("subsystem {name} allows {host:?}")),
        None => Ok(()),
    }
}
