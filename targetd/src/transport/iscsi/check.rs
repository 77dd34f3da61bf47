//! The safety rules of iSCSI exports. Pure.

use std::collections::BTreeSet;

use ashlar_kernel_iface::lio::{BackstoreId, TargetState};
use ashlar_targetd_protocol::{Accesses, FailureKind, Iqn, IscsiAcl, IscsiExport};
use uuid::Uuid;

use super::plan::kept;
use super::{Observed, lun, tag};
use crate::ours;
use crate::refusal::Refusal;
use crate::transport::{Exported, Subject};

pub(super) fn check_desired(of: Exported, export: &IscsiExport) -> Result<(), Refusal> {
    let refused = |reason: String| Err(Refusal::new(FailureKind::Refused, reason));
    if ours::volume_of_target(export.target.as_str()) != Some(of.id()) {
        return refused(format!("target {} is not named after {of}", export.target));
    }
    if export.portals.is_empty() && export.iser.is_empty() {
        return refused(format!("target {} has no portal", export.target));
    }
    let writing = |(_, acl): &(&Iqn, &IscsiAcl)| of.is_only_read() && !acl.read_only;
    if let Some((initiator, _)) = export.initiators.iter().find(writing) {
        return refused(format!("initiator {initiator} would write to {of}"));
    }
    let one_sided = |(_, acl): &(&Iqn, &IscsiAcl)| acl.chap.is_none() && acl.mutual.is_some();
    match export.initiators.iter().find(one_sided) {
        Some((initiator, _)) => refused(format!(
            "initiator {initiator} would be proven to, and prove nothing itself"
        )),
        None => Ok(()),
    }
}

/// A target of ours holds nothing but what is made here.
pub(super) fn check_ours(volume: Uuid, name: &Iqn, target: &TargetState) -> Result<(), Refusal> {
    let foreign = |what: String| Err(Refusal::new(FailureKind::Foreign, what));
    if let Some(other) = target.tpgs.keys().find(|found| **found != tag()) {
        return foreign(format!("target {name} has a portal group {other}"));
    }
    for tpg in target.tpgs.values() {
        if let Some(other) = tpg.luns.keys().find(|found| **found != lun()) {
            return foreign(format!("target {name} has a LUN {other}"));
        }
        if let Some(Some(other)) = tpg.luns.get(&lun())
            && *other != BackstoreId::for_volume(volume)
        {
            return foreign(format!("LUN 0 of target {name} is {}", other.path()));
        }
        if let Some(other) = tpg.foreign.first() {
            return foreign(format!("target {name} holds {other}"));
        }
    }
    Ok(())
}

/// Who is logged in is asked first, unless the caller agreed to cut it off.
pub(super) fn check_unused(
    subject: &Subject<'_>,
    observed: &Observed,
    desired: Option<&IscsiExport>,
) -> Result<(), Refusal> {
    let mut users = cut_off(subject, observed, desired);
    users.retain(|initiator| !subject.cut.iscsi.contains(initiator));
    if users.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = users.iter().map(Iqn::as_str).collect();
    let reason = format!("{} is in use by {}", subject.what, names.join(", "));
    Err(Refusal {
        users: Accesses {
            iscsi: users,
            ..Accesses::default()
        },
        ..Refusal::new(FailureKind::InUse, reason)
    })
}

/// The initiators whose sessions the plan would end.
fn cut_off(
    subject: &Subject<'_>,
    observed: &Observed,
    desired: Option<&IscsiExport>,
) -> BTreeSet<Iqn> {
    let mut cut = BTreeSet::new();
    for (name, target) in &observed.targets {
        let stays = kept(subject, observed, desired, name);
        for (initiator, acl) in target.tpgs.values().flat_map(|tpg| &tpg.acls) {
            let listed = stays.is_some_and(|export| export.initiators.contains_key(initiator));
            if acl.logged_in && !listed {
                cut.insert(initiator.clone());
            }
        }
    }
    cut
}
