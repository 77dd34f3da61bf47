//! NVMe over TCP, RDMA and Fibre Channel: one subsystem per volume, namespace 1, hosts by name.
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
//! again, but stays connected. So when the caller agreed to cut it off, the subsystem is taken from
//! its ports and put back: every connection ends, and those still listed come back by themselves.
//! When a subsystem goes, all connections to it end.

mod act;
mod check;
mod plan;
mod step;

use std::collections::{BTreeMap, BTreeSet};

use ashlar_kernel_iface::nvmet::{HostState, Nvmet, PortAddress, SubsystemState};
use ashlar_kernel_iface::tree::{Change, Errno, Name, Tree, TreeError};
use ashlar_targetd_protocol as protocol;
use ashlar_targetd_protocol::{
    FailureKind, Nqn, Nsid, NvmeExport, NvmeFabric, NvmePort, PortId, PortalAddr, ServedAt,
};
use uuid::Uuid;

use super::names::Names;
use super::{ExportPlan, Exported, Subject, Survey, Transport};
use crate::kernel::{Kernel, KernelError};
use crate::locks::KeyLocks;
use crate::ours;
use crate::refusal::Refusal;

use act::{
    admit, announce, create_namespace, dismiss, identify, publish, remove_namespace, withdraw,
};
use check::{check_desired, check_ours};
use plan::{added, removed, trimmed};
pub use step::Step;

const MODEL: &str = "Ashlar";

/// NVMe, over whatever its ports are on.
#[derive(Default)]
pub struct Nvme {
    names: Names<Nqn>,
    /// A port's directory comes with its first subsystem and goes with its last.
    ports: KeyLocks<PortId>,
    /// A host's directory comes with the first subsystem that allows it and goes with the last.
    hosts: KeyLocks<Nqn>,
}

/// What the kernel has of a volume over NVMe.
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

fn nsid() -> Nsid {
    Nsid::try_from(1).expect("1 is in range")
}

/// The field has 20 characters, a UUID 32 digits; the NGUID carries all of it.
fn serial(volume: Uuid) -> String {
    volume.simple().to_string()[..20].to_owned()
}

impl Transport for Nvme {
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

    fn exported(observed: &Observed) -> BTreeSet<protocol::Transport> {
        let shown = observed.subsystems.values().filter(|subsystem| {
            let mut namespaces = subsystem.state.namespaces.values();
            namespaces.any(|found| found.enabled)
        });
        let ports = shown.flat_map(|subsystem| subsystem.ports.values());
        ports
            .filter_map(|port| match &*port.trtype {
                "tcp" => Some(protocol::Transport::NvmeTcp),
                "rdma" => Some(protocol::Transport::NvmeRdma),
                "fc" => Some(protocol::Transport::NvmeFc),
                _ => None,
            })
            .collect()
    }

    fn check(
        subject: &Subject<'_>,
        observed: &Observed,
        desired: Option<&NvmeExport>,
    ) -> Result<(), Refusal> {
        if let Some(export) = desired {
            check_desired(subject.what, export)?;
        }
        observed
            .subsystems
            .iter()
            .try_for_each(|(name, subsystem)| check_ours(name, &subsystem.state))
    }

    fn plan(
        subject: &Subject<'_>,
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

    fn run(&self, step: &Step, kernel: &Kernel, of: Exported) -> Result<Change, KernelError> {
        let volume = of.id();
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
                let node = kernel.node(&of.device())?;
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
        step.meaning(errno)
    }

    fn needs(step: &Step) -> Option<&'static str> {
        match step {
            // For want of a hash or group, whose modules are not among the features.
            Step::Admit(..) => None,
            Step::Publish(_, _, at) => Some(match at.fabric() {
                NvmeFabric::Tcp => "nvme-tcp",
                NvmeFabric::Rdma => "nvme-rdma",
                NvmeFabric::Fc => "nvme-fc",
            }),
            _ => Some("nvme-tcp"),
        }
    }

    fn listens(step: &Step) -> Option<(protocol::Transport, ServedAt)> {
        match step {
            Step::Publish(_, _, at) => Some((carried_by(at.fabric()), at.place())),
            _ => None,
        }
    }

    fn wanted(desired: &NvmeExport) -> Vec<(protocol::Transport, BTreeSet<ServedAt>)> {
        let fabrics = [NvmeFabric::Tcp, NvmeFabric::Rdma, NvmeFabric::Fc].into_iter();
        let places = |fabric| {
            let ports = desired.ports.values();
            let ports = ports.filter(move |at| at.fabric() == fabric);
            ports.map(|at| at.place()).collect()
        };
        fabrics
            .map(|fabric| (carried_by(fabric), places(fabric)))
            .collect()
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

fn carried_by(fabric: NvmeFabric) -> protocol::Transport {
    match fabric {
        NvmeFabric::Tcp => protocol::Transport::NvmeTcp,
        NvmeFabric::Rdma => protocol::Transport::NvmeRdma,
        NvmeFabric::Fc => protocol::Transport::NvmeFc,
    }
}

fn nqn(name: &Name) -> Option<Nqn> {
    name.as_str().parse().ok()
}

/// The hosts on a subsystem's list.
fn listed(state: &SubsystemState) -> BTreeSet<Nqn> {
    state.allowed_hosts.iter().filter_map(nqn).collect()
}

/// Whether some subsystem is reachable over TCP at an address.
pub(super) fn publishes_at(tree: &dyn Tree, at: PortalAddr) -> Result<bool, TreeError> {
    let nvmet = Nvmet::new(tree);
    let wanted = PortAddress::from(NvmePort::Tcp(at));
    for id in nvmet.ports()? {
        if nvmet.port(id).address()?.as_ref() == Some(&wanted) {
            return Ok(true);
        }
    }
    Ok(false)
}
