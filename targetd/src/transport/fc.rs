//! SCSI over Fibre Channel: one LUN per volume or snapshot in the targets that ports of the box are.
//!
//! ```text
//!   what comes, downward; what goes, upward
//!   backstore, which iSCSI has, too
//!   target of a port, shared by all volumes
//!       ├── LUN, by a number among all that is served ─► backstore
//!       └── ACL of an initiator, shared by all volumes
//!               └── mapped LUN, by a number of that initiator's ─► LUN
//! ```
//!
//! **What is shared stays.** Neither a port's target nor an initiator's ACL goes with the last volume.
//! Whoever is on the ACL has a session with the port, not with a volume; without the ACL that ends, and
//! `tcm_fc` does not tell the initiator, which then sees nothing of what is mapped later. An ACL without
//! mapped LUNs shows nothing.
//!
//! **Nothing tells who uses a volume**, as the session is of all of them. So a mapped LUN goes when it
//! is no longer wanted, and what its initiator has under way fails.

mod plan;
mod step;

use std::collections::{BTreeMap, BTreeSet};

use ashlar_kernel_iface::lio::{BackstoreId, FcFabric, FcTarget, Lio, MappedLunState};
use ashlar_kernel_iface::tree::{Change, Errno, Tree, TreeError};
use ashlar_targetd_protocol as protocol;
use ashlar_targetd_protocol::{FailureKind, FcExport, Lun, ServedAt, Wwn};
use uuid::Uuid;

use super::names::Names;
use super::{ExportPlan, Exported, Subject, Survey, Transport, backstore};
use crate::kernel::{Kernel, KernelError};
use crate::locks::KeyLocks;
use crate::ours;
use crate::refusal::Refusal;

use plan::{added, check_desired, check_others, own, removed};
pub use step::{Mapping, Step, Unit};

/// Fibre Channel.
#[derive(Default)]
pub struct Fc {
    units: Names<Unit>,
    mappings: Names<Mapping>,
    /// A port's target comes with the first volume, an initiator's ACL with its first.
    ports: KeyLocks<Wwn>,
}

/// What the kernel has of a volume over Fibre Channel.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Not looked at where nothing is wanted or there.
    disk: backstore::Seen,
    /// Its ports, as far as they are targets.
    open: BTreeSet<Wwn>,
    /// LUNs that are its, or should be, and what they link to.
    units: BTreeMap<Unit, Option<BackstoreId>>,
    /// Likewise what initiators see.
    mappings: BTreeMap<Mapping, MappedLunState>,
}

impl Transport for Fc {
    type Desired = FcExport;
    type Observed = Observed;
    type Step = Step;

    fn survey(&self, tree: &dyn Tree) -> Result<Survey, TreeError> {
        let lio = Lio::new(tree);
        let mut survey = Survey::default();
        for fabric in FcFabric::ALL {
            for port in lio.fc_targets(fabric)? {
                self.learn(&lio.fc_target(fabric, port), (fabric, port), &mut survey)?;
            }
        }
        Ok(survey)
    }

    fn observe(
        &self,
        tree: &dyn Tree,
        volume: Uuid,
        desired: Option<&FcExport>,
    ) -> Result<Observed, TreeError> {
        let mut units = self.units.of(volume);
        let mut mappings = self.mappings.of(volume);
        let mut observed = Observed::default();
        if desired.is_none() && units.is_empty() && mappings.is_empty() {
            return Ok(observed);
        }
        observed.disk = backstore::Seen::observe(tree, volume)?;
        let lio = Lio::new(tree);
        if let Some(export) = desired {
            for port in &export.ports {
                let Some(fabric) = fabric_of(lio, *port)? else {
                    continue;
                };
                observed.open.insert(*port);
                units.insert(Unit::of(fabric, *port, export.unit));
                mappings.extend(wanted(fabric, *port, export));
            }
        }
        for unit in units {
            if let Some(link) = unit.target(lio).lun(unit.number).observe()? {
                observed.units.insert(unit, link);
            }
        }
        for mapping in mappings {
            let mapped = mapping
                .target(lio)
                .mapped_lun(mapping.initiator, mapping.lun);
            if let Some(state) = mapped.observe()? {
                observed.mappings.insert(mapping, state);
            }
        }
        Ok(own(volume, observed, desired))
    }

    fn exported(observed: &Observed) -> BTreeSet<protocol::Transport> {
        let mut seen = observed.mappings.values();
        let seen = seen.any(|mapped| mapped.write_protected.is_some());
        seen.then_some(protocol::Transport::Fc)
            .into_iter()
            .collect()
    }

    fn check(
        subject: &Subject<'_>,
        observed: &Observed,
        desired: Option<&FcExport>,
    ) -> Result<(), Refusal> {
        match desired {
            Some(export) => {
                check_desired(subject.what, export)?;
                check_others(subject.what.id(), observed, export)
            }
            None => Ok(()),
        }
    }

    fn plan(
        subject: &Subject<'_>,
        observed: &Observed,
        desired: Option<&FcExport>,
    ) -> ExportPlan<Step> {
        let (removals, standing) = removed(subject, observed, desired);
        let additions = desired.map(|export| added(subject, &standing, export));
        ExportPlan {
            removals,
            leftovers: Vec::new(),
            additions: additions.unwrap_or_default(),
        }
    }

    fn run(&self, step: &Step, kernel: &Kernel, of: Exported) -> Result<Change, KernelError> {
        let volume = of.id();
        let lio = Lio::new(kernel.tree());
        Ok(match step {
            Step::Disk(step) => step.run(kernel, of)?,
            Step::Unmap(mapping) => {
                let target = mapping.target(lio);
                let removed = target.mapped_lun(mapping.initiator, mapping.lun).remove()?;
                self.mappings.remove(volume, mapping);
                removed
            }
            Step::RemoveUnit(unit) => {
                let removed = unit.target(lio).lun(unit.number).remove()?;
                self.units.remove(volume, unit);
                removed
            }
            Step::Open(port) => {
                let target = lio.fc_target(kernel.fc_fabric(*port)?, *port);
                let _alone = self.ports.lock(port);
                target.open()?
            }
            Step::CreateUnit(port, number) => {
                let unit = Unit::of(kernel.fc_fabric(*port)?, *port, *number);
                self.units.add(volume, &unit);
                let lun = unit.target(lio).lun(*number);
                let made = lun.create()?;
                made.or(lun.link(&lio.backstore(&BackstoreId::for_volume(volume)))?)
            }
            Step::Map(port, number, initiator, access) => {
                let fabric = kernel.fc_fabric(*port)?;
                let mapping = Mapping::of(fabric, *port, *initiator, access.lun);
                self.mappings.add(volume, &mapping);
                let target = mapping.target(lio);
                let listed = {
                    let _alone = self.ports.lock(port);
                    target.list(*initiator)?
                };
                let mapped = target.mapped_lun(*initiator, access.lun);
                let made = listed.or(mapped.create()?);
                let linked = made.or(mapped.link(&target.lun(*number))?);
                linked.or(mapped.set_write_protected(access.read_only)?)
            }
        })
    }

    fn meaning(step: &Step, errno: Errno) -> FailureKind {
        step.meaning(errno)
    }

    fn needs(_step: &Step) -> Option<&'static str> {
        Some("fc")
    }

    fn listens(step: &Step) -> Option<(protocol::Transport, ServedAt)> {
        match step {
            Step::Open(port) | Step::CreateUnit(port, _) | Step::Map(port, ..) => {
                Some((protocol::Transport::Fc, ServedAt::Fc(*port)))
            }
            Step::Disk(_) | Step::Unmap(_) | Step::RemoveUnit(_) => None,
        }
    }

    fn wanted(desired: &FcExport) -> Vec<(protocol::Transport, BTreeSet<ServedAt>)> {
        let ports = desired.ports.iter().copied().map(ServedAt::Fc);
        vec![(protocol::Transport::Fc, ports.collect())]
    }
}

impl Fc {
    /// Remembers what a port serves of ours.
    fn learn(
        &self,
        target: &FcTarget<'_>,
        (fabric, port): (FcFabric, Wwn),
        survey: &mut Survey,
    ) -> Result<(), TreeError> {
        let mut owners = BTreeMap::new();
        for number in target.luns()? {
            let backstore = target.lun(number).backstore()?;
            let owner = backstore
                .as_ref()
                .and_then(|id| ours::volume_named(id.name.as_str()));
            match owner {
                Some(volume) => {
                    self.units.add(volume, &Unit::of(fabric, port, number));
                    survey.volumes.insert(volume);
                    owners.insert(number, volume);
                }
                None => survey.foreign.push(format!("LUN {number} of port {port}")),
            }
        }
        for initiator in target.initiators()? {
            for lun in target.mapped_luns(initiator)? {
                let mapped = target.mapped_lun(initiator, lun).observe()?;
                let number = mapped.and_then(|mapped| mapped.lun);
                if let Some(volume) = number.and_then(|number| owners.get(&number)) {
                    let mapping = Mapping::of(fabric, port, initiator, lun);
                    self.mappings.add(*volume, &mapping);
                }
            }
        }
        Ok(())
    }
}

/// What makes a port a target, if it is one.
fn fabric_of(lio: Lio<'_>, port: Wwn) -> Result<Option<FcFabric>, TreeError> {
    for fabric in FcFabric::ALL {
        if lio.fc_target(fabric, port).is_open()? {
            return Ok(Some(fabric));
        }
    }
    Ok(None)
}

/// What initiators are to see at a port.
fn wanted(fabric: FcFabric, port: Wwn, export: &FcExport) -> impl Iterator<Item = Mapping> {
    let initiators = export.initiators.iter();
    initiators.map(move |(initiator, access)| Mapping::of(fabric, port, *initiator, access.lun))
}

/// The number of a unit that is there, as a mapped LUN links to it.
fn links_to(mapped: &MappedLunState, number: Lun) -> bool {
    mapped.lun == Some(number)
}
