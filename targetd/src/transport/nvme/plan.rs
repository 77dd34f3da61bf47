//! From what is to what should be over NVMe. Pure.

use std::path::PathBuf;

use ashlar_kernel_iface::nvmet::{HostState, NamespaceState, ObservedKey, PortAddress};
use ashlar_targetd_protocol::{DhchapKey, Nqn, NvmeExport, NvmeHost, PortId};

use super::step::Step;
use super::{MODEL, Observed, ObservedSubsystem, listed, nsid, serial};
use crate::transport::Subject;

/// Whether the namespace is on the volume's device and under its identity.
pub(super) fn namespace_right(subject: &Subject<'_>, state: &NamespaceState) -> bool {
    let node = subject
        .device
        .map(|number| PathBuf::from(format!("/dev/dm-{}", number.minor)));
    node.is_some()
        && state.device_path == node
        && state.uuid == subject.what.id()
        && state.nguid == *subject.what.id().as_bytes()
}

/// What goes from a subsystem that stays.
pub(super) fn trimmed(
    subject: &Subject<'_>,
    export: &NvmeExport,
    found: &ObservedSubsystem,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let name = &export.subsystem;
    let gone: Vec<Nqn> = listed(&found.state)
        .into_iter()
        .filter(|host| !export.hosts.contains_key(host))
        .collect();
    let cut = gone.iter().any(|host| subject.cut.nvme.contains(host));
    let withdrawn = found
        .ports
        .keys()
        .filter(|id| cut || !published(export, found, **id));
    steps.extend(withdrawn.map(|id| Step::Withdraw(name.clone(), *id)));
    steps.extend(
        gone.into_iter()
            .map(|host| Step::Dismiss(name.clone(), host)),
    );
    if let Some(namespace) = found.state.namespaces.get(&nsid())
        && namespace.enabled
        && !namespace_right(subject, namespace)
    {
        steps.push(Step::RemoveNamespace(name.clone()));
    }
    steps
}

/// Whether the subsystem is reachable at a desired port and its address.
pub(super) fn published(export: &NvmeExport, found: &ObservedSubsystem, id: PortId) -> bool {
    match (export.ports.get(&id), found.ports.get(&id)) {
        (Some(desired), Some(address)) => *address == PortAddress::from(*desired),
        _ => false,
    }
}

/// What goes when a subsystem goes.
pub(super) fn removed(name: &Nqn, found: &ObservedSubsystem) -> Vec<Step> {
    let mut steps = Vec::new();
    let ports = found.ports.keys();
    steps.extend(ports.map(|id| Step::Withdraw(name.clone(), *id)));
    if found.state.namespaces.contains_key(&nsid()) {
        steps.push(Step::RemoveNamespace(name.clone()));
    }
    let hosts = listed(&found.state).into_iter();
    steps.extend(hosts.map(|host| Step::Dismiss(name.clone(), host)));
    steps.push(Step::RemoveSubsystem(name.clone()));
    steps
}

/// What comes.
pub(super) fn added(subject: &Subject<'_>, observed: &Observed, export: &NvmeExport) -> Vec<Step> {
    let mut steps = Vec::new();
    let name = &export.subsystem;
    let found = observed.subsystems.get(name);
    let state = found.map(|found| &found.state);
    if state.is_none() {
        steps.push(Step::CreateSubsystem(name.clone()));
    }
    if state.is_none_or(|state| state.allow_any_host) {
        steps.push(Step::Restrict(name.clone()));
    }
    let serial = serial(subject.what.id());
    if !state.is_some_and(|state| state.serial == serial && state.model == MODEL) {
        steps.push(Step::Identify(name.clone(), serial));
    }
    let namespace = state.and_then(|state| state.namespaces.get(&nsid()));
    match namespace.filter(|namespace| namespace_right(subject, namespace)) {
        Some(right) if right.enabled && subject.grows => steps.push(Step::Revalidate(name.clone())),
        Some(right) if right.enabled => {}
        Some(_) => steps.push(Step::EnableNamespace(name.clone())),
        None => {
            steps.push(Step::CreateNamespace(name.clone()));
            steps.push(Step::EnableNamespace(name.clone()));
        }
    }
    steps.extend(admitted(observed, export));
    // Withdrawn by the same plan, or never published.
    let standing = |id: &PortId| found.is_some_and(|found| standing(subject, export, found, *id));
    let ports = export.ports.iter().filter(|(id, _)| !standing(id));
    steps.extend(ports.map(|(id, at)| Step::Publish(name.clone(), *id, *at)));
    steps
}

pub(super) fn standing(
    subject: &Subject<'_>,
    export: &NvmeExport,
    found: &ObservedSubsystem,
    id: PortId,
) -> bool {
    let withdrawn =
        trimmed(subject, export, found).contains(&Step::Withdraw(export.subsystem.clone(), id));
    published(export, found, id) && !withdrawn
}

/// The hosts whose entry or keys are not as desired.
pub(super) fn admitted(observed: &Observed, export: &NvmeExport) -> Vec<Step> {
    let on_list = observed
        .subsystems
        .get(&export.subsystem)
        .map(|found| listed(&found.state))
        .unwrap_or_default();
    let wanting = export.hosts.iter().filter(|(name, host)| {
        let right = observed
            .hosts
            .get(*name)
            .is_some_and(|state| keys_right(state, host));
        !(right && on_list.contains(*name))
    });
    wanting
        .map(|(name, host)| Step::Admit(export.subsystem.clone(), name.clone(), host.clone()))
        .collect()
}

pub(super) fn keys_right(state: &HostState, host: &NvmeHost) -> bool {
    let same =
        |desired: &Option<DhchapKey>, observed: &Option<ObservedKey>| match (desired, observed) {
            (Some(desired), Some(observed)) => observed.is(desired),
            (None, None) => true,
            _ => false,
        };
    same(&host.key, &state.key)
        && same(&host.controller_key, &state.controller_key)
        && state.exchange == Some(host.exchange)
}
