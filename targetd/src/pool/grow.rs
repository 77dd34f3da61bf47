//! Growing a pool by disks while it is in use. Pure.
//!
//! ```text
//!   label the new disks ─► extend data, extend metadata, grow the thin pool ─► label the others
//! ```
//!
//! The kernel notes the new size in the metadata in one transaction, when the thin pool is given
//! its new table. Until then the new disks hold nothing and the pool is what it was; from then on
//! it needs all of them. So a pool that lost power on the way is put together by what its
//! metadata say, from the disks it had or from all; in either case it goes on from there. The
//! labels of the disks it had say how many there are once that is true for good.

use std::collections::BTreeSet;

use ashlar_kernel_iface::block::DiskContent;
use ashlar_kernel_iface::dm::Table;
use ashlar_targetd_protocol::{DesiredPool, FailureKind, PoolFormat};

use super::check::{
    described, devices_are_ours, disk_is_not_in_use, disk_is_there, disks_under, label,
    numbers_make_sense, own_names, refused, thin_is_the_pools, thin_pool,
};
use super::layout::PoolTables;
use super::observe::{ActivePart, ObservedContent, ObservedDisk, ObservedPool};
use super::plan::{Plan, disk_ref, spec, tables};
use super::step::Step;
use crate::ours::PoolPart;
use crate::refusal::Refusal;

/// The pool as it was before it grows, if it does.
pub(super) fn before(desired: &DesiredPool) -> Option<DesiredPool> {
    let before = desired.grows_from?;
    let disks = desired.disks.iter().take(before.disks as usize);
    Some(DesiredPool {
        disks: disks.cloned().collect(),
        metadata: before.metadata,
        format: PoolFormat::Never,
        grows_from: None,
        ..desired.clone()
    })
}

/// What a pool that is not active and was to grow is to be activated as: what it was, unless its
/// metadata say that it has grown.
pub(super) fn standing(
    desired: &DesiredPool,
    observed: &ObservedPool,
) -> Result<DesiredPool, Refusal> {
    let before = sensible(desired)?;
    let first = observed.disks.first();
    let content = first.and_then(|disk| disk.content.as_ref());
    let blocks = content.and_then(|content| content.data_blocks);
    let was = tables(&before, &of_first(observed, before.disks.len())).ok();
    let had = was.map(|tables| tables.data.size().0 / desired.block.0);
    Ok(match (blocks, had) {
        (Some(blocks), Some(had)) if blocks > had => DesiredPool {
            format: PoolFormat::Never,
            ..desired.clone()
        },
        // Without its disks it is not activated either way.
        _ => before,
    })
}

fn of_first(observed: &ObservedPool, disks: usize) -> ObservedPool {
    let first = observed.disks.iter().take(disks);
    ObservedPool {
        disks: first.cloned().collect(),
        ..observed.clone()
    }
}

/// The pool as it was, if what is desired is a growth of it.
pub(super) fn sensible(desired: &DesiredPool) -> Result<DesiredPool, Refusal> {
    numbers_make_sense(desired)?;
    match before(desired) {
        Some(before)
            if !before.disks.is_empty()
                && before.disks.len() < desired.disks.len()
                && before.metadata <= desired.metadata =>
        {
            numbers_make_sense(&before)?;
            Ok(before)
        }
        _ => refused(
            FailureKind::Refused,
            format!("pool {} does not grow to what it is to be", desired.id),
        ),
    }
}

/// A pool that may grow, and how.
#[derive(Clone, Debug)]
pub(super) struct Growth {
    /// What writes to the new disks.
    pub disks: Plan,
    /// What gives them to the pool.
    pub devices: Plan,
    /// What the others are labelled with at last.
    pub labels: Plan,
    /// How many data blocks the pool has then.
    pub blocks: u64,
}

/// Whether a device of the pool is on the new disks already.
pub(super) fn has_begun(desired: &DesiredPool, observed: &ObservedPool) -> bool {
    let (data, meta) = (
        observed.active(PoolPart::Data),
        observed.active(PoolPart::Meta),
    );
    desired.grows_from.is_some_and(|before| {
        data.is_some_and(|data| data.table.lines().len() > before.disks as usize)
            || meta.is_some_and(|meta| meta.table.size() > before.metadata)
    })
}

/// How an active pool grows, if the rules allow it.
pub(super) fn grow(desired: &DesiredPool, observed: &ObservedPool) -> Result<Growth, Refusal> {
    devices_are_ours(observed)?;
    let before = sensible(desired)?;
    let (Some(thin), Some(meta), Some(data)) = (
        observed.active(PoolPart::Thin),
        observed.active(PoolPart::Meta),
        observed.active(PoolPart::Data),
    ) else {
        return refused(
            FailureKind::Missing,
            format!("pool {} is not active and cannot grow", desired.id),
        );
    };
    thin_is_the_pools(desired, observed, thin)?;
    members_are_the_pools(desired, &before, observed)?;
    let disks = newcomers(desired, &before, observed, data, meta)?;
    let was = tables(&before, &of_first(observed, before.disks.len()))?;
    let wanted = tables(desired, observed)?;
    devices_are_on_these(desired, (data, meta), &was, &wanted)?;
    Ok(Growth {
        disks,
        devices: devices(desired, (thin, data, meta), &wanted),
        labels: labels(desired, &before, observed),
        blocks: wanted.data.size().0 / desired.block.0,
    })
}

/// The disks it had carry its labels, those of before or those to be.
fn members_are_the_pools(
    desired: &DesiredPool,
    before: &DesiredPool,
    observed: &ObservedPool,
) -> Result<(), Refusal> {
    for (index, found) in observed.disks.iter().take(before.disks.len()).enumerate() {
        disk_is_there(found)?;
        let on_disk = match found.content.as_ref().map(|content| &content.holds) {
            Some(DiskContent::Pool { label, .. }) => Some(label),
            _ => None,
        };
        let known = [label(desired, index), label(before, index)];
        if !on_disk.is_some_and(|on_disk| known.contains(on_disk)) {
            return refused(
                FailureKind::Missing,
                format!(
                    "disk {} does not carry the label of number {index} of pool {}",
                    found.id, desired.id
                ),
            );
        }
    }
    Ok(())
}

/// The disks that come: what may be written to them, as steps.
fn newcomers(
    desired: &DesiredPool,
    before: &DesiredPool,
    observed: &ObservedPool,
    data: &ActivePart,
    meta: &ActivePart,
) -> Result<Plan, Refusal> {
    let own = own_names(observed);
    let under: BTreeSet<_> = disks_under(data)
        .into_iter()
        .chain(disks_under(meta))
        .collect();
    let mut steps = Vec::new();
    for (index, found) in observed.disks.iter().enumerate().skip(before.disks.len()) {
        let disk = disk_is_there(found)?;
        disk_is_not_in_use(disk, found, &own)?;
        let Some(content) = &found.content else {
            continue;
        };
        let wanted = label(desired, index);
        let labelled =
            matches!(&content.holds, DiskContent::Pool { label, .. } if *label == wanted);
        if labelled {
            continue;
        }
        // What the pool is on already was labelled before, and is never written over.
        if under.contains(&disk.number) {
            return refused(
                FailureKind::Missing,
                format!(
                    "disk {} carries no label of pool {} any more, which is on it",
                    found.id, desired.id
                ),
            );
        }
        let disk = disk_ref(found, disk);
        if may_be_formatted(desired, index, found, content)? {
            steps.push(Step::Wipe(disk.clone()));
        }
        steps.push(Step::Format(disk, wanted));
    }
    Ok(Plan { steps })
}

/// Whether a disk that comes is to be wiped first. It holds nothing of the pool, which runs
/// without it: what has a label of the pool is left from an attempt that was given up.
fn may_be_formatted(
    desired: &DesiredPool,
    index: usize,
    found: &ObservedDisk,
    content: &ObservedContent,
) -> Result<bool, Refusal> {
    if content.room.is_none() {
        return refused(
            FailureKind::NoSpace,
            format!("disk {} is too small for a pool", found.id),
        );
    }
    let wanted = label(desired, index);
    let holds = match &content.holds {
        DiskContent::Unfinished(label) if *label == wanted => None,
        other => described(other),
    };
    match (holds, desired.format) {
        (None, _) => Ok(false),
        (Some(_), PoolFormat::Wipe) => Ok(true),
        (Some(holds), PoolFormat::BlankOnly | PoolFormat::Never) => refused(
            FailureKind::NotBlank,
            format!("disk {} holds {holds}", found.id),
        ),
    }
}

/// The devices are on the disks the pool had or on all, and on nothing else.
fn devices_are_on_these(
    desired: &DesiredPool,
    (data, meta): (&ActivePart, &ActivePart),
    was: &PoolTables,
    wanted: &PoolTables,
) -> Result<(), Refusal> {
    let known = |table: &Table, was: &Table, wanted: &Table| table == was || table == wanted;
    if known(&data.table, &was.data, &wanted.data) && known(&meta.table, &was.meta, &wanted.meta) {
        return Ok(());
    }
    refused(
        FailureKind::Refused,
        format!("pool {} is active on other disks", desired.id),
    )
}

/// Data first: a pool whose metadata device is longer takes all of that the next time it is given
/// any table, and must be given that of its new size then.
fn devices(
    desired: &DesiredPool,
    (thin, data, meta): (&ActivePart, &ActivePart, &ActivePart),
    wanted: &PoolTables,
) -> Plan {
    let mut steps = extended(PoolPart::Data, data, &wanted.data);
    steps.extend(extended(PoolPart::Meta, meta, &wanted.meta));
    let spec = spec(desired, &wanted.data);
    let low_water = thin_pool(thin).map(|pool| pool.low_water_blocks);
    let grown = thin.table.size() == spec.size && low_water == Some(spec.low_water_blocks);
    match grown {
        true => steps.extend(settled(PoolPart::Thin, thin)),
        false => steps.push(Step::Grow(spec)),
    }
    Plan { steps }
}

fn extended(part: PoolPart, active: &ActivePart, wanted: &Table) -> Vec<Step> {
    match active.table == *wanted {
        true => settled(part, active),
        // A table that waits is replaced, and a device that is suspended resumed.
        false => vec![Step::Extend(part, wanted.clone())],
    }
}

fn settled(part: PoolPart, active: &ActivePart) -> Vec<Step> {
    let mut steps = Vec::new();
    if active.second_table {
        steps.push(Step::DropSecondTable(part));
    }
    if active.suspended {
        steps.push(Step::Resume(part));
    }
    steps
}

fn labels(desired: &DesiredPool, before: &DesiredPool, observed: &ObservedPool) -> Plan {
    let mut steps = Vec::new();
    for (index, found) in observed.disks.iter().take(before.disks.len()).enumerate() {
        let (Ok(disk), Some(content)) = (&found.disk, &found.content) else {
            continue;
        };
        let wanted = label(desired, index);
        match &content.holds {
            DiskContent::Pool { label, .. } if *label == wanted => {}
            _ => steps.push(Step::Relabel(disk_ref(found, disk), wanted)),
        }
    }
    Plan { steps }
}
