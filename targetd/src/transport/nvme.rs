//! NVMe/TCP: one subsystem per volume, namespace 1, hosts by name.
//!
//! ```text
//!   what comes, downward; what goes, upward
//!   subsystem (serial, model, listed hosts only)
//!       ├── namespace 1 (device, UUID, NGUID) ── enable
//!       ├── allowed host ─► host (keys), shared by all volumes
//!       └── port ─► subsystem; the port is shared by all volumes
//! ```
//!
//! A subsystem is reachable once a port links to it, and that comes last.
//!
//! **Live connections.** nvmet offers no way to end one host's connections to a subsystem, and
//! does not tell in configfs whether there are any. A host that leaves the list cannot connect
//! again, but stays connected. So when the caller says force, the subsystem is taken from its
//! ports and put back: every connection ends, and those still listed come back by themselves.
//! When a subsystem goes, all connections to it end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use ashlar_kernel_iface::nvmet::{
    Host, HostState, ModelNumber, Namespace, NamespaceState, Nvmet, ObservedKey, Port, PortAddress,
    SerialNumber, Subsystem, SubsystemState,
};
use ashlar_kernel_iface::tree::{Change, Errno, Name, Tree, TreeError};
use ashlar_targetd_protocol as protocol;
use ashlar_targetd_protocol::{
    DhchapKey, FailureKind, Nqn, Nsid, NvmeExport, NvmeHost, PortId, PortalAddr,
};
use uuid::Uuid;

use super::names::Names;
use super::{ExportPlan, Subject, Survey, Transport};
use crate::kernel::{Kernel, KernelError};
use crate::locks::KeyLocks;
use crate::ours;
use crate::refusal::Refusal;

const MODEL: &str = "Ashlar";

/// The NVMe/TCP transport.
#[derive(Default)]
pub struct Nvme {
    names: Names<Nqn>,
    /// A port's directory comes with its first subsystem and goes with its last.
    ports: KeyLocks<PortId>,
    /// A host's directory comes with the first subsystem that allows it and goes with the last.
    hosts: KeyLocks<Nqn>,
}

/// What the kernel has of a volume over NVMe/TCP.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    subsystems: BTreeMap<Nqn, ObservedSubsystem>,
    /// The hosts that are desired, whoever uses them.
    hosts: BTreeMap<Nqn, HostState>,
}

#[derive(Clone, Debug)]
struct ObservedSubsystem {
    state: SubsystemState,
    /// The ports it is reachable at.
    ports: BTreeMap<PortId, PortAddress>,
}

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
    Publish(Nqn, PortId, PortalAddr),
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
                let how = match (&keys.key, &keys.controller_key) {
                    (None, _) => "without authentication",
                    (Some(_), None) => "with DH-HMAC-CHAP",
                    (Some(_), Some(_)) => "with DH-HMAC-CHAP both ways",
                };
                write!(f, "admit host {host} to subsystem {nqn} {how}")
            }
            Step::Publish(nqn, port, at) => {
                write!(f, "publish subsystem {nqn} at port {port}, {at}")
            }
        }
    }
}

fn nsid() -> Nsid {
    Nsid::try_from(1).expect("1 is in range")
}

/// The field has 20 characters, a UUID 32 digits; the NGUID carries all of it.
fn serial(volume: Uuid) -> String {
    volume.simple().to_string()[..20].to_owned()
}

impl Transport for Nvme {
    const KIND: protocol::Transport = protocol::Transport::NvmeTcp;
    type Desired = NvmeExport;
    type Observed = Observed;
    type Step = Step;

    fn survey(&self, tree: &dyn Tree) -> Result<Survey, TreeError> {
        let nvmet = Nvmet::new(tree);
        let mut survey = Survey::default();
        for name in nvmet.subsystems()? {
            let owner = ours::volume_of_subsystem(name.as_str());
            match (owner, name.as_str().parse::<Nqn>()) {
                (Some(volume), Ok(nqn)) => {
                    announce(&nvmet.subsystem(&nqn).namespace(nsid()));
                    self.names.add(volume, &nqn);
                    survey.volumes.insert(volume);
                }
                _ => survey.foreign.push(format!("NVMe subsystem {name}")),
            }
        }
        Ok(survey)
    }

    fn observe(
        &self,
        tree: &dyn Tree,
        volume: Uuid,
        desired: Option<&NvmeExport>,
    ) -> Result<Observed, TreeError> {
        let nvmet = Nvmet::new(tree);
        let mut names = self.names.of(volume);
        names.extend(desired.map(|export| export.subsystem.clone()));
        let mut observed = Observed::default();
        for name in names {
            if let Some(found) = observe_subsystem(nvmet, &name)? {
                observed.subsystems.insert(name, found);
            }
        }
        for host in desired.iter().flat_map(|export| export.hosts.keys()) {
            // Another volume may be making or removing it.
            let _alone = self.hosts.lock(host);
            if let Some(state) = nvmet.host(host).observe()? {
                observed.hosts.insert(host.clone(), state);
            }
        }
        Ok(observed)
    }

    fn exported(observed: &Observed) -> bool {
        let reachable = |subsystem: &ObservedSubsystem| {
            !subsystem.ports.is_empty()
                && subsystem
                    .state
                    .namespaces
                    .values()
                    .any(|found| found.enabled)
        };
        observed.subsystems.values().any(reachable)
    }

    fn check(
        subject: &Subject,
        observed: &Observed,
        desired: Option<&NvmeExport>,
    ) -> Result<(), Refusal> {
        if let Some(export) = desired {
            check_desired(subject.id, export)?;
        }
        observed
            .subsystems
            .iter()
            .try_for_each(|(name, subsystem)| check_ours(name, &subsystem.state))
    }

    fn plan(
        subject: &Subject,
        observed: &Observed,
        desired: Option<&NvmeExport>,
    ) -> ExportPlan<Step> {
        let mut removals = Vec::new();
        for (name, subsystem) in &observed.subsystems {
            match desired.filter(|export| export.subsystem == *name) {
                Some(export) => removals.extend(trimmed(subject, export, subsystem)),
                None => removals.extend(removed(name, subsystem)),
            }
        }
        let additions = desired.map(|export| added(subject, observed, export));
        ExportPlan {
            removals,
            leftovers: Vec::new(),
            additions: additions.unwrap_or_default(),
        }
    }

    fn run(&self, step: &Step, kernel: &Kernel, volume: Uuid) -> Result<Change, KernelError> {
        let nvmet = Nvmet::new(kernel.tree());
        Ok(match step {
            Step::Withdraw(nqn, port) => {
                let _alone = self.ports.lock(port);
                withdraw(&nvmet.subsystem(nqn), &nvmet.port(*port))?
            }
            Step::RemoveNamespace(nqn) => remove_namespace(&nvmet.subsystem(nqn))?,
            Step::Dismiss(nqn, host) => {
                let _alone = self.hosts.lock(host);
                dismiss(&nvmet.subsystem(nqn), &nvmet.host(host))?
            }
            Step::RemoveSubsystem(nqn) => {
                let removed = nvmet.subsystem(nqn).remove()?;
                self.names.remove(volume, nqn);
                removed
            }
            Step::CreateSubsystem(nqn) => {
                self.names.add(volume, nqn);
                nvmet.subsystem(nqn).create()?
            }
            Step::Restrict(nqn) => nvmet.subsystem(nqn).set_allow_any_host(false)?,
            Step::Identify(nqn, serial) => identify(&nvmet.subsystem(nqn), serial)?,
            Step::CreateNamespace(nqn) => {
                let node = kernel.node(&ours::volume_device(volume))?;
                create_namespace(&nvmet.subsystem(nqn).namespace(nsid()), &node, volume)?
            }
            Step::EnableNamespace(nqn) => nvmet.subsystem(nqn).namespace(nsid()).enable()?,
            Step::Revalidate(nqn) => {
                nvmet.subsystem(nqn).namespace(nsid()).revalidate_size()?;
                Change::Changed
            }
            Step::Admit(nqn, host, keys) => {
                let _alone = self.hosts.lock(host);
                admit(&nvmet.subsystem(nqn), &nvmet.host(host), keys)?
            }
            Step::Publish(nqn, port, at) => {
                let _alone = self.ports.lock(port);
                publish(&nvmet.subsystem(nqn), &nvmet.port(*port), *at)?
            }
        })
    }

    fn meaning(step: &Step, errno: Errno) -> FailureKind {
        match (step, errno) {
            // The transport's module could not be loaded.
            (Step::Publish(..), Errno::EINVAL) => FailureKind::Unsupported,
            (Step::Publish(..), _) => FailureKind::Address,
            // The directory is not there before its module is.
            (Step::CreateSubsystem(_), Errno::ENOENT) => FailureKind::Unsupported,
            (_, Errno::EBUSY | Errno::ENOTEMPTY) => FailureKind::InUse,
            _ => FailureKind::Kernel,
        }
    }
}

/// Whoever let the device grow may have died before hosts were told, and the size that hosts
/// were told cannot be read back. The kernel tells them only if it differs.
fn announce(namespace: &Namespace<'_>) {
    let announced = match namespace.observe() {
        Ok(Some(state)) if state.enabled => namespace.revalidate_size(),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = announced {
        // It is going away.
        tracing::debug!(%error, "no size to announce");
    }
}

/// There are as many ports as addresses of the box, so asking each is cheap.
fn observe_subsystem(nvmet: Nvmet<'_>, name: &Nqn) -> Result<Option<ObservedSubsystem>, TreeError> {
    let subsystem = nvmet.subsystem(name);
    let Some(state) = subsystem.observe()? else {
        return Ok(None);
    };
    let mut ports = BTreeMap::new();
    for id in nvmet.ports()? {
        let port = nvmet.port(id);
        if port.reaches(&subsystem)?
            && let Some(address) = port.address()?
        {
            ports.insert(id, address);
        }
    }
    Ok(Some(ObservedSubsystem { state, ports }))
}

fn check_desired(volume: Uuid, export: &NvmeExport) -> Result<(), Refusal> {
    let refused = |reason: String| Err(Refusal::new(FailureKind::Refused, reason));
    let name = &export.subsystem;
    if ours::volume_of_subsystem(name.as_str()) != Some(volume) {
        return refused(format!(
            "subsystem {name} is not named after volume {volume}"
        ));
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
fn check_ours(name: &Nqn, state: &SubsystemState) -> Result<(), Refusal> {
    let foreign = |what: String| Err(Refusal::new(FailureKind::Foreign, what));
    if let Some(other) = state.namespaces.keys().find(|found| **found != nsid()) {
        return foreign(format!("subsystem {name} has a namespace {other}"));
    }
    match state.allowed_hosts.iter().find(|host| nqn(host).is_none()) {
        Some(host) => foreign(format!("subsystem {name} allows {host:?}")),
        None => Ok(()),
    }
}

fn nqn(name: &Name) -> Option<Nqn> {
    name.as_str().parse().ok()
}

/// The hosts on a subsystem's list.
fn listed(state: &SubsystemState) -> BTreeSet<Nqn> {
    state.allowed_hosts.iter().filter_map(nqn).collect()
}

/// Whether the namespace is on the volume's device and under its identity.
fn namespace_right(subject: &Subject, state: &NamespaceState) -> bool {
    let node = subject
        .device
        .map(|number| PathBuf::from(format!("/dev/dm-{}", number.minor)));
    node.is_some()
        && state.device_path == node
        && state.uuid == subject.id
        && state.nguid == *subject.id.as_bytes()
}

/// What goes from a subsystem that stays.
fn trimmed(subject: &Subject, export: &NvmeExport, found: &ObservedSubsystem) -> Vec<Step> {
    let mut steps = Vec::new();
    let name = &export.subsystem;
    let gone: Vec<Nqn> = listed(&found.state)
        .into_iter()
        .filter(|host| !export.hosts.contains_key(host))
        .collect();
    let cut = subject.force && !gone.is_empty();
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
fn published(export: &NvmeExport, found: &ObservedSubsystem, id: PortId) -> bool {
    match (export.ports.get(&id), found.ports.get(&id)) {
        (Some(desired), Some(address)) => *address == PortAddress::tcp(*desired),
        _ => false,
    }
}

/// What goes when a subsystem goes.
fn removed(name: &Nqn, found: &ObservedSubsystem) -> Vec<Step> {
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
fn added(subject: &Subject, observed: &Observed, export: &NvmeExport) -> Vec<Step> {
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
    let serial = serial(subject.id);
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

fn standing(subject: &Subject, export: &NvmeExport, found: &ObservedSubsystem, id: PortId) -> bool {
    let withdrawn =
        trimmed(subject, export, found).contains(&Step::Withdraw(export.subsystem.clone(), id));
    published(export, found, id) && !withdrawn
}

/// The hosts whose entry or keys are not as desired.
fn admitted(observed: &Observed, export: &NvmeExport) -> Vec<Step> {
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

fn keys_right(state: &HostState, host: &NvmeHost) -> bool {
    let same =
        |desired: &Option<DhchapKey>, observed: &Option<ObservedKey>| match (desired, observed) {
            (Some(desired), Some(observed)) => observed.is(desired),
            (None, None) => true,
            _ => false,
        };
    same(&host.key, &state.key) && same(&host.controller_key, &state.controller_key)
}

fn withdraw(subsystem: &Subsystem<'_>, port: &Port<'_>) -> Result<Change, TreeError> {
    let unlinked = port.unlink(subsystem)?;
    Ok(unlinked.or(unless_used(port.remove())?))
}

fn dismiss(subsystem: &Subsystem<'_>, host: &Host<'_>) -> Result<Change, TreeError> {
    let unlisted = subsystem.disallow(host)?;
    Ok(unlisted.or(unless_used(host.remove())?))
}

/// Other volumes may use the same port or host; only the kernel knows without counting them.
fn unless_used(removed: Result<Change, TreeError>) -> Result<Change, TreeError> {
    match removed {
        Err(error) if error.is_in_use() => Ok(Change::Unchanged),
        outcome => outcome,
    }
}

fn remove_namespace(subsystem: &Subsystem<'_>) -> Result<Change, TreeError> {
    subsystem.namespace(nsid()).remove()
}

fn identify(subsystem: &Subsystem<'_>, serial: &str) -> Result<Change, TreeError> {
    let serial = SerialNumber::try_from(serial).expect("20 hexadecimal digits");
    let model = ModelNumber::try_from(MODEL).expect("printable and short");
    let numbered = subsystem.set_serial(&serial)?;
    Ok(numbered.or(subsystem.set_model(&model)?))
}

fn create_namespace(
    namespace: &Namespace<'_>,
    node: &std::path::Path,
    volume: Uuid,
) -> Result<Change, TreeError> {
    let made = namespace.create()?;
    let placed = made.or(namespace.set_device(node)?);
    let named = placed.or(namespace.set_uuid(volume)?);
    Ok(named.or(namespace.set_nguid(*volume.as_bytes())?))
}

/// The keys come before the entry, so that nobody connects without them.
fn admit(subsystem: &Subsystem<'_>, host: &Host<'_>, keys: &NvmeHost) -> Result<Change, TreeError> {
    let known = host.create()?;
    let keyed = known.or(host.set_key(keys.key.as_ref())?);
    let mutual = keyed.or(host.set_controller_key(keys.controller_key.as_ref())?);
    Ok(mutual.or(subsystem.allow(host)?))
}

/// An empty port is not left behind when nothing can listen there.
fn publish(
    subsystem: &Subsystem<'_>,
    port: &Port<'_>,
    at: PortalAddr,
) -> Result<Change, TreeError> {
    let made = port.create()?;
    let addressed = port
        .set_address(&PortAddress::tcp(at))
        .and_then(|change| Ok(change.or(port.link(subsystem)?)));
    if addressed.is_err() {
        // The first error is the one to tell.
        let _ = unless_used(port.remove());
    }
    Ok(made.or(addressed?))
}
