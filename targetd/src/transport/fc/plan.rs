//! From what is to what should be over Fibre Channel, and whether that may be. Pure.

use ashlar_kernel_iface::lio::BackstoreId;
use ashlar_targetd_protocol::{FailureKind, FcAccess, FcExport};
use uuid::Uuid;

use super::step::{Mapping, Step, Unit};
use super::{Observed, links_to};
use crate::refusal::Refusal;
use crate::transport::{Exported, Subject};

pub(super) fn check_desired(of: Exported, export: &FcExport) -> Result<(), Refusal> {
    let refused = |reason: String| Err(Refusal::new(FailureKind::Refused, reason));
    if export.ports.is_empty() {
        return refused(format!("{of} has no port of Fibre Channel"));
    }
    let mut initiators = export.initiators.iter();
    match initiators.find(|(_, access)| of.is_only_read() && !access.read_only) {
        Some((initiator, _)) => refused(format!("initiator {initiator} would write to {of}")),
        None => Ok(()),
    }
}

/// No number is taken that another volume has.
pub(super) fn check_others(
    volume: Uuid,
    observed: &Observed,
    export: &FcExport,
) -> Result<(), Refusal> {
    let foreign = |what: String| Err(Refusal::new(FailureKind::Foreign, what));
    for (unit, link) in &observed.units {
        if let Some(other) = link.as_ref().filter(|link| !is_own(volume, link)) {
            let (number, port) = (unit.number, unit.port);
            return foreign(format!("unit {number} of port {port} is {}", other.path()));
        }
    }
    let own = |mapping: &Mapping, number| {
        let at_port = |unit: &&Unit| unit.port == mapping.port && unit.number == number;
        number == export.unit || observed.units.keys().any(|unit| at_port(&unit))
    };
    for (mapping, mapped) in &observed.mappings {
        if let Some(number) = mapped.lun.filter(|number| !own(mapping, *number)) {
            return foreign(format!(
                "LUN {} of initiator {} at port {} is unit {number}",
                mapping.lun, mapping.initiator, mapping.port
            ));
        }
    }
    Ok(())
}

fn is_own(volume: Uuid, link: &BackstoreId) -> bool {
    *link == BackstoreId::for_volume(volume)
}

/// What goes, and what stands without it.
pub(super) fn removed(
    subject: &Subject<'_>,
    observed: &Observed,
    desired: Option<&FcExport>,
) -> (Vec<Step>, Observed) {
    let export = desired.filter(|_| observed.disk.bears(subject));
    let mut standing = observed.clone();
    standing.mappings.retain(|mapping, mapped| {
        // One that is not linked yet is right; one whose unit lost its backstore stays blind.
        let right = |export: &FcExport| match mapped.lun {
            Some(number) => number == export.unit && mapped.write_protected.is_some(),
            None => true,
        };
        export.is_some_and(|export| access(export, mapping).is_some() && right(export))
    });
    standing.units.retain(|unit, _| {
        export.is_some_and(|export| unit.number == export.unit && export.ports.contains(&unit.port))
    });
    let gone = |mapping: &&Mapping| !standing.mappings.contains_key(mapping);
    let unmapped = observed.mappings.keys().filter(gone);
    let gone = |unit: &&Unit| !standing.units.contains_key(unit);
    let units = observed.units.keys().filter(gone);
    let unmap = unmapped.map(|mapping| Step::Unmap(*mapping));
    let steps = unmap.chain(units.map(|unit| Step::RemoveUnit(*unit)));
    (steps.collect(), standing)
}

/// Without what another volume has by now: a number that was taken, or refused, before.
pub(super) fn own(volume: Uuid, mut observed: Observed, export: Option<&FcExport>) -> Observed {
    let desired = |number| export.is_some_and(|export| export.unit == number);
    observed.units.retain(|unit, link| {
        let own = link.as_ref().is_none_or(|link| is_own(volume, link));
        own || desired(unit.number)
    });
    let units: Vec<Unit> = observed.units.keys().copied().collect();
    observed.mappings.retain(|mapping, mapped| {
        let of = |number| {
            let mut units = units.iter();
            units.any(|unit| unit.port == mapping.port && unit.number == number)
        };
        let wanted = export.is_some_and(|export| access(export, mapping).is_some());
        wanted || mapped.lun.is_none_or(of)
    });
    observed
}

/// What an initiator is to have of a mapped LUN.
fn access<'e>(export: &'e FcExport, mapping: &Mapping) -> Option<&'e FcAccess> {
    let access = export.initiators.get(&mapping.initiator)?;
    (access.lun == mapping.lun && export.ports.contains(&mapping.port)).then_some(access)
}

/// What comes beside what stands.
pub(super) fn added(subject: &Subject<'_>, standing: &Observed, export: &FcExport) -> Vec<Step> {
    let disk = standing.disk.added(subject).into_iter();
    let mut steps: Vec<Step> = disk.map(Step::Disk).collect();
    for port in &export.ports {
        if !standing.open.contains(port) {
            steps.push(Step::Open(*port));
        }
        let mut units = standing.units.iter();
        if !units.any(|(unit, link)| unit.port == *port && link.is_some()) {
            steps.push(Step::CreateUnit(*port, export.unit));
        }
        for (initiator, access) in &export.initiators {
            let right = standing.mappings.iter().any(|(mapping, mapped)| {
                mapping.port == *port
                    && mapping.initiator == *initiator
                    && links_to(mapped, export.unit)
                    && mapped.write_protected == Some(access.read_only)
            });
            if !right {
                steps.push(Step::Map(*port, export.unit, *initiator, *access));
            }
        }
    }
    steps
}
