//! From what is to what should be over iSCSI. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_kernel_iface::lio::{
    AclState, BackstoreId, ObservedChap, TargetState, TpgAttribute, TpgState,
};
use ashlar_targetd_protocol::{ChapCredentials, Iqn, IscsiAcl, IscsiExport, PortalAddr};
use uuid::Uuid;

use super::step::Step;
use super::{ATTRIBUTES, Observed, lun, tag};
use crate::transport::Subject;

/// The desired export, if this target is its and can stay.
pub(super) fn kept<'a>(
    subject: &Subject<'_>,
    observed: &Observed,
    desired: Option<&'a IscsiExport>,
    name: &Iqn,
) -> Option<&'a IscsiExport> {
    desired.filter(|export| export.target == *name && observed.disk.bears(subject))
}

/// The LUN links to the volume's own backstore.
pub(super) fn lun_right(volume: Uuid, tpg: &TpgState) -> bool {
    tpg.luns.get(&lun()) == Some(&Some(BackstoreId::for_volume(volume)))
}

/// What goes from a target that stays.
pub(super) fn trimmed(export: &IscsiExport, target: &TargetState) -> Vec<Step> {
    let mut steps = Vec::new();
    let name = &export.target;
    for tpg in target.tpgs.values() {
        let gone = |(initiator, _): &(&Iqn, &AclState)| !export.initiators.contains_key(*initiator);
        let acls = tpg.acls.iter().filter(gone);
        steps.extend(acls.map(|(initiator, _)| Step::RemoveAcl(name.clone(), initiator.clone())));
        let portals = &tpg.portals - &listening(export);
        let portals = portals.into_iter();
        steps.extend(portals.map(|at| Step::ClosePortal(name.clone(), at)));
        let unasked = tpg.iser.difference(&export.iser);
        let standing = unasked.filter(|at| export.portals.contains(at));
        steps.extend(standing.map(|at| Step::CloseIser(name.clone(), *at)));
    }
    steps
}

/// What goes before a target can.
pub(super) fn emptied(name: &Iqn, target: &TargetState) -> Vec<Step> {
    let mut steps = Vec::new();
    for tpg in target.tpgs.values() {
        if tpg.enabled {
            steps.push(Step::Disable(name.clone()));
        }
        let acls = tpg.acls.keys();
        steps.extend(acls.map(|initiator| Step::RemoveAcl(name.clone(), initiator.clone())));
        let portals = tpg.portals.iter();
        steps.extend(portals.map(|at| Step::ClosePortal(name.clone(), *at)));
        if tpg.luns.contains_key(&lun()) {
            steps.push(Step::RemoveLun(name.clone()));
        }
    }
    steps
}

/// What comes.
pub(super) fn added(subject: &Subject<'_>, observed: &Observed, export: &IscsiExport) -> Vec<Step> {
    let mut steps = Vec::new();
    if subject.exports.fc.is_none() {
        steps.extend(observed.disk.added(subject).into_iter().map(Step::Disk));
    }
    let name = &export.target;
    let standing = kept(subject, observed, Some(export), name)
        .and_then(|_| observed.targets.get(name)?.tpgs.get(&tag()));
    let Some(tpg) = standing else {
        steps.push(Step::CreateTarget(name.clone()));
        steps.push(Step::Restrict(name.clone()));
        steps.push(Step::CreateLun(name.clone()));
        steps.extend(admitted(export, &BTreeMap::new()));
        steps.extend(opened(export, &BTreeSet::new(), &BTreeSet::new()));
        steps.push(Step::Enable(name.clone()));
        return steps;
    };
    let restricted =
        |(attribute, value): &(TpgAttribute, i64)| tpg.attributes.get(attribute) == Some(value);
    if !ATTRIBUTES.iter().all(restricted) {
        steps.push(Step::Restrict(name.clone()));
    }
    if !lun_right(subject.what.id(), tpg) {
        steps.push(Step::CreateLun(name.clone()));
    }
    steps.extend(admitted(export, &tpg.acls));
    steps.extend(opened(export, &tpg.portals, &tpg.iser));
    if !tpg.enabled {
        steps.push(Step::Enable(name.clone()));
    }
    steps
}

/// Where an export listens, over whatever it does.
fn listening(export: &IscsiExport) -> BTreeSet<PortalAddr> {
    &export.portals | &export.iser
}

/// The portals that come, beside those that are open, to TCP and to RDMA.
fn opened(
    export: &IscsiExport,
    tcp: &BTreeSet<PortalAddr>,
    rdma: &BTreeSet<PortalAddr>,
) -> Vec<Step> {
    let portals = &listening(export) - tcp;
    let portals = portals
        .into_iter()
        .map(|at| Step::OpenPortal(export.target.clone(), at));
    let iser = export.iser.difference(rdma);
    let iser = iser.map(|at| Step::OpenIser(export.target.clone(), *at));
    portals.chain(iser).collect()
}

/// The initiators whose ACL is not as desired.
pub(super) fn admitted(export: &IscsiExport, acls: &BTreeMap<Iqn, AclState>) -> Vec<Step> {
    let wanting = export.initiators.iter().filter(|(initiator, acl)| {
        !acls
            .get(*initiator)
            .is_some_and(|state| acl_right(state, acl))
    });
    wanting
        .map(|(initiator, acl)| Step::Admit(export.target.clone(), initiator.clone(), acl.clone()))
        .collect()
}

pub(super) fn acl_right(state: &AclState, acl: &IscsiAcl) -> bool {
    let same = |desired: &Option<ChapCredentials>, observed: &Option<ObservedChap>| match (
        desired, observed,
    ) {
        (Some(desired), Some(observed)) => observed.is(desired),
        (None, None) => true,
        _ => false,
    };
    let mapped = state.mapped_luns.get(&lun()).is_some_and(|mapped| {
        mapped.lun == Some(lun()) && mapped.write_protected == Some(acl.read_only)
    });
    state.authentication == Some(acl.chap.is_some())
        && same(&acl.chap, &state.chap)
        && same(&acl.mutual, &state.mutual_chap)
        && mapped
}
