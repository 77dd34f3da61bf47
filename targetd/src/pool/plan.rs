//! From what is to what should be, as steps. Pure.

use std::fmt;

use ashlar_kernel_iface::block::{Disk, DiskContent, PoolPartition};
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::{Table, Target};
use ashlar_targetd_protocol::{DesiredPool, FailureKind, Sectors};

use super::check::{catalog_is_labelled, label, thin_pool};
use super::layout::{self, Place, PoolTables};
use super::members;
use super::observe::{ActivePart, ObservedDisk, ObservedPart, ObservedPool, sets};
use super::sets::size;
use super::step::{DiskRef, Step, ThinSpec};
use crate::ours::PoolPart;
use crate::refusal::Refusal;

/// Stands for a set that is not active yet.
const NOT_YET: DeviceNumber = DeviceNumber { major: 0, minor: 0 };

/// The steps in their order: devices that go, disks, devices that come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

/// The steps from `observed`, which was checked, to `desired`.
///
/// # Errors
/// When the disks have no room for the pool; nothing was planned then.
pub fn plan(desired: &DesiredPool, observed: &ObservedPool) -> Result<Plan, Refusal> {
    plan_at(desired, observed, None)
}

/// The same with the thin pool as large as its metadata say, where that is less than there is
/// room for.
pub(super) fn plan_at(
    desired: &DesiredPool,
    observed: &ObservedPool,
    size: Option<Sectors>,
) -> Result<Plan, Refusal> {
    if desired.absent {
        return Ok(Plan {
            steps: removed(observed),
        });
    }
    if let Some(thin) = observed.active(PoolPart::Thin) {
        return Ok(Plan {
            steps: standing(desired, observed, thin),
        });
    }
    let tables = tables(desired, observed)?;
    let mut steps = stale(observed, &tables);
    steps.extend(formatted(desired, observed));
    steps.extend(activated(desired, observed, tables, size));
    Ok(Plan { steps })
}

/// The thin pool goes before what it stands on.
fn removed(observed: &ObservedPool) -> Vec<Step> {
    let parts = observed.parts.iter().rev();
    parts
        .filter(|(_, found)| **found != ObservedPart::Absent)
        .map(|(part, _)| Step::Remove(*part))
        .collect()
}

/// What was begun with its devices and given up is dropped, from the lowest on.
fn standing(desired: &DesiredPool, observed: &ObservedPool, thin: &ActivePart) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in [PoolPart::Meta, PoolPart::Data] {
        let active = observed.active(part);
        steps.extend(active.into_iter().flat_map(|active| settled(part, active)));
    }
    let low_water = thin_pool(thin).map(|pool| pool.low_water_blocks);
    if low_water != Some(desired.low_water_blocks) {
        // A table that waits is replaced, and a device that is suspended resumed.
        steps.push(Step::Reload(spec(desired, thin.table.size())));
        return steps;
    }
    steps.extend(settled(PoolPart::Thin, thin));
    steps
}

/// An active device with the right table does I/O, and no other table waits.
pub(super) fn settled(part: PoolPart, active: &ActivePart) -> Vec<Step> {
    let mut steps = Vec::new();
    if active.second_table {
        steps.push(Step::DropSecondTable(part));
    }
    if active.suspended {
        steps.push(Step::Resume(part));
    }
    steps
}

pub(super) fn spec(desired: &DesiredPool, size: Sectors) -> ThinSpec {
    ThinSpec {
        size,
        block: desired.block,
        low_water_blocks: desired.low_water_blocks,
    }
}

/// The tables of the pool's lower devices.
pub(super) fn tables(
    desired: &DesiredPool,
    observed: &ObservedPool,
) -> Result<PoolTables, Refusal> {
    places(desired, observed)
        .and_then(|disks| layout::tables(&disks, desired.metadata, desired.block))
        .ok_or_else(|| {
            Refusal::new(
                FailureKind::NoSpace,
                format!("the disks have no room for pool {}", desired.id),
            )
        })
}

/// The disks, or with redundancy the sets.
fn places(desired: &DesiredPool, observed: &ObservedPool) -> Option<Vec<Place>> {
    if let Some(redundancy) = &desired.redundancy {
        let places = sets(redundancy).map(|(number, range)| {
            let leg = members::leg(desired, observed, number)?;
            let active = observed.active(PoolPart::Set(number));
            Some(Place {
                device: active.map_or(NOT_YET, |active| active.number),
                start: Sectors(0),
                length: size(redundancy.level, redundancy.sets[number as usize], leg)?,
                metadata_room: desired.disks.get(range.start)?.metadata_room,
                catalog: desired.disks.get(range.start)?.catalog,
            })
        });
        return places.collect();
    }
    let disks = observed.disks.iter().zip(&desired.disks);
    let places = disks.map(|(found, wanted)| {
        let (device, partition) = placed(found)?;
        Place::on_disk(device, &partition, wanted)
    });
    places.collect()
}

/// The partition a disk has, or will have.
fn placed(found: &ObservedDisk) -> Option<(DeviceNumber, PoolPartition)> {
    let (disk, content) = (found.disk.as_ref().ok()?, found.content.as_ref()?);
    let partition = match content.holds {
        DiskContent::Pool { partition, .. } if labelled(found) => partition,
        _ => content.room?,
    };
    Some((disk.number, partition))
}

/// Whether a disk carries a complete label; `check` made sure that it is this pool's, unless it
/// is to be wiped.
fn labelled(found: &ObservedDisk) -> bool {
    matches!(
        found.content.as_ref().map(|content| &content.holds),
        Some(DiskContent::Pool { .. })
    )
}

/// Devices that were left without a table or with another one, without a thin pool on them.
fn stale(observed: &ObservedPool, tables: &PoolTables) -> Vec<Step> {
    let is_stale = |part: &PoolPart| match observed.parts.get(part) {
        Some(ObservedPart::Empty(_)) => true,
        Some(ObservedPart::Active(active)) => !usable(*part, active, tables),
        _ => false,
    };
    let parts = PoolPart::TOP.into_iter().rev();
    parts.filter(is_stale).map(Step::Remove).collect()
}

fn usable(part: PoolPart, active: &ActivePart, tables: &PoolTables) -> bool {
    let table = match part {
        PoolPart::Meta => &tables.meta,
        PoolPart::Data => &tables.data,
        PoolPart::Catalog => match &tables.catalog {
            Some(table) => table,
            None => return false,
        },
        PoolPart::Super(_) | PoolPart::Leg(_) | PoolPart::Set(_) | PoolPart::Thin => return true,
    };
    active.table == *table && !active.second_table && !active.suspended
}

/// The first disk is labelled last, and its metadata are cleared before: once it carries the
/// label, whatever stands in the metadata is the pool's.
fn formatted(desired: &DesiredPool, observed: &ObservedPool) -> Vec<Step> {
    let pool = desired.id;
    let mut steps = Vec::new();
    if desired.redundancy.is_some() {
        // Its disks were labelled with their sets.
        return steps;
    }
    for (index, found) in observed.disks.iter().enumerate().rev() {
        let (Ok(disk), Some(content)) = (&found.disk, &found.content) else {
            continue;
        };
        let disk = disk_ref(found, disk);
        match &content.holds {
            DiskContent::Pool { label, .. } if label.pool == pool => continue,
            DiskContent::Unfinished(label) if label.pool == pool => {}
            DiskContent::Blank => {}
            DiskContent::Pool { .. } | DiskContent::Unfinished(_) | DiskContent::Foreign(_) => {
                steps.push(Step::Wipe(disk.clone()));
            }
        }
        if index == 0 {
            steps.push(Step::ClearMetadata(disk.clone()));
        }
        steps.push(Step::Format(disk, label(desired, observed, index)));
    }
    steps
}

pub(super) fn disk_ref(found: &ObservedDisk, disk: &Disk) -> DiskRef {
    DiskRef {
        id: found.id.clone(),
        number: disk.number,
    }
}

fn activated(
    desired: &DesiredPool,
    observed: &ObservedPool,
    tables: PoolTables,
    size: Option<Sectors>,
) -> Vec<Step> {
    let all = tables.data.size();
    let spec = spec(desired, size.map_or(all, |size| size.min(all)));
    let mut steps = Vec::new();
    for (part, table) in [
        (PoolPart::Meta, tables.meta.clone()),
        (PoolPart::Data, tables.data.clone()),
    ] {
        let usable = |active: &ActivePart| usable(part, active, &tables);
        if !observed.active(part).is_some_and(usable) {
            steps.push(Step::Activate(part, table));
        }
    }
    steps.push(Step::ActivateThin(spec));
    steps
}

/// The disks of a pool that is taken over say so.
pub(super) fn taken(desired: &DesiredPool, observed: &ObservedPool) -> Plan {
    let mut steps = Vec::new();
    for (index, found) in observed.disks.iter().enumerate() {
        let (Ok(disk), Some(content)) = (&found.disk, &found.content) else {
            continue;
        };
        let wanted = label(desired, observed, index);
        match &content.holds {
            DiskContent::Pool { label, .. }
                if label.places_as(&wanted) && label.tenure != wanted.tenure =>
            {
                steps.push(Step::Relabel(disk_ref(found, disk), wanted));
            }
            _ => {}
        }
    }
    Plan { steps }
}

/// Whether metadata that are in use reach into what is to be the catalog.
fn reached(observed: &ObservedPool, catalog: &Table) -> bool {
    let lines = |table: &Table| -> Vec<(DeviceNumber, u64, u64)> {
        let lines = table.lines().iter();
        let linear = lines.filter_map(|line| match &line.target {
            Target::Linear(linear) => {
                let begin = linear.offset.0;
                Some((linear.device, begin, begin + line.length.0))
            }
            _ => None,
        });
        linear.collect()
    };
    let catalog = lines(catalog);
    let used = [PoolPart::Meta, PoolPart::Data].into_iter();
    let mut used = used
        .filter_map(|part| observed.active(part))
        .flat_map(|active| lines(&active.table));
    used.any(|(device, begin, end)| {
        catalog
            .iter()
            .any(|(of, from, to)| *of == device && begin < *to && *from < end)
    })
}

/// The device of the catalog, if there is none yet that can be used.
///
/// # Errors
/// As for [`plan`].
pub(super) fn catalog(desired: &DesiredPool, observed: &ObservedPool) -> Result<Plan, Refusal> {
    let tables = tables(desired, observed)?;
    catalog_is_labelled(desired, observed)?;
    if tables
        .catalog
        .as_ref()
        .is_some_and(|table| reached(observed, table))
    {
        return Err(Refusal::new(
            FailureKind::Refused,
            format!("pool {} is in use where its catalog would be", desired.id),
        ));
    }
    let part = PoolPart::Catalog;
    let mut steps = Vec::new();
    match observed.parts.get(&part) {
        Some(ObservedPart::Active(active)) if usable(part, active, &tables) => {
            return Ok(Plan::default());
        }
        Some(ObservedPart::Active(_) | ObservedPart::Empty(_)) => steps.push(Step::Remove(part)),
        Some(ObservedPart::Absent | ObservedPart::Foreign(_)) | None => {}
    }
    steps.extend(tables.catalog.map(|table| Step::Activate(part, table)));
    Ok(Plan { steps })
}
