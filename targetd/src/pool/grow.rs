//! Growing a pool by disks while it is in use. Pure.
//!
//! ```text
//!   label the new disks ─► extend metadata ─► extend data ─► label the others
//! ```
//!
//! The metadata come first, and a table of the thin pool with them: what counts the new data takes
//! room in the metadata, and the kernel, which would grow the data before the metadata if it was
//! given both, leaves a pool that needs repair when there is none.
//!
//! The kernel notes each new size in the metadata in a transaction of its own, when the thin pool is
//! given the table for it. Until the first of them the new disks hold nothing and the pool is what it
//! was; from then on it needs all of them. So a pool that lost power on the way is put together by
//! what its metadata say, from the disks it had or from all; in either case it goes on from there.
//! The labels of the disks it had say how many there are once that is true for good.

use std::collections::BTreeSet;

use ashlar_kernel_iface::block::{Disk, DiskContent, PoolLabel};
use ashlar_kernel_iface::dm::Table;
use ashlar_targetd_protocol::{
    Bytes, DesiredPool, FailureKind, PoolFormat, PoolUsage, Redundancy, Sectors,
};

use super::check::{
    described, devices_are_ours, disk_is_not_in_use, disk_is_there, disks_under, label,
    numbers_make_sense, own_names, refused, thin_is_the_pools, thin_pool,
};
use super::layout::PoolTables;
use super::observe::{ActivePart, ObservedContent, ObservedDisk, ObservedPool, sets};
use super::plan::{Plan, disk_ref, settled, spec, tables};
use super::step::Step;
use crate::ours::{Member, PoolPart};
use crate::refusal::Refusal;

/// The pool as it was before it grows, if it does.
pub(super) fn before(desired: &DesiredPool) -> Option<DesiredPool> {
    let before = desired.grows_from?;
    let disks = desired.disks.iter().take(before.disks as usize);
    let redundancy = desired.redundancy.as_ref().map(|redundancy| Redundancy {
        sets: redundancy.sets[..sets_before(redundancy, before.disks)].to_vec(),
        ..*redundancy
    });
    Some(DesiredPool {
        disks: disks.cloned().collect(),
        redundancy,
        metadata: before.metadata,
        format: PoolFormat::Never,
        grows_from: None,
        ..desired.clone()
    })
}

/// Whether a disk is none that a growing pool had; all are, of one that does not grow.
pub(super) fn comes(desired: &DesiredPool, index: usize) -> bool {
    let before = desired.grows_from;
    before.is_none_or(|before| index >= before.disks as usize)
}

/// How many sets a pool had that grows, if it has any and does.
pub(super) fn sets_had(desired: &DesiredPool) -> Option<usize> {
    let before = desired.grows_from?;
    Some(sets_before(desired.redundancy.as_ref()?, before.disks))
}

/// How many sets the first disks are.
fn sets_before(redundancy: &Redundancy, disks: u32) -> usize {
    let ends = redundancy.ranges().map(|range| range.end);
    ends.take_while(|end| *end <= disks as usize).count()
}

/// What a pool that is not active and was to grow is to be activated as: what it was, unless its
/// metadata say that it has grown. Then it needs all disks, and may be smaller than they are; how
/// large it is. `observed` is the pool as it was.
pub(super) fn standing(
    desired: &DesiredPool,
    before: &DesiredPool,
    observed: &ObservedPool,
) -> (DesiredPool, Option<Sectors>) {
    let size = observed.metadata.and_then(|found| found.size);
    let was = tables(before, observed).ok();
    let had = was.map(|tables| blocks(desired, tables.data.size()));
    match (size, had) {
        (Some(size), Some(had))
            if size.data_blocks > had
                || size.metadata_blocks > metadata_blocks(before.metadata) =>
        {
            let all = DesiredPool {
                format: PoolFormat::Never,
                ..desired.clone()
            };
            let large = size.data_blocks.saturating_mul(desired.block.0);
            (all, Some(Sectors(large)))
        }
        // Without its disks it is not activated either way.
        _ => (before.clone(), None),
    }
}

/// Whole data blocks.
fn blocks(desired: &DesiredPool, size: Sectors) -> u64 {
    size.0 / desired.block.0
}

/// Blocks of 4 KiB.
fn metadata_blocks(size: Sectors) -> u64 {
    size.0 / 8
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
    /// What gives their room for metadata to the pool.
    pub metadata: Plan,
    /// What gives their room for data to it.
    pub data: Plan,
    /// What the others are labelled with at last.
    pub labels: Plan,
    /// How many data blocks the pool has then.
    pub blocks: u64,
    /// How many metadata blocks.
    pub metadata_blocks: u64,
}

impl Growth {
    /// Whether the kernel is to note a new size.
    pub(super) fn extends(&self) -> bool {
        let steps = self.metadata.steps.iter().chain(&self.data.steps);
        let extends = |step: &Step| {
            matches!(
                step,
                Step::Extend(..) | Step::GrowMetadata(_) | Step::Grow(_)
            )
        };
        steps.into_iter().any(extends)
    }
}

/// Whether a device of the pool is on the new disks already, or may be: one that is suspended was
/// about to.
pub(super) fn has_begun(desired: &DesiredPool, observed: &ObservedPool) -> bool {
    let parts = || {
        PoolPart::TOP
            .into_iter()
            .filter_map(|part| observed.active(part))
    };
    let (data, meta) = (
        observed.active(PoolPart::Data),
        observed.active(PoolPart::Meta),
    );
    desired.grows_from.is_some_and(|before| {
        let (had, new) = match &desired.redundancy {
            Some(redundancy) => {
                let had = sets_before(redundancy, before.disks);
                let new = sets(redundancy).skip(had);
                let new = new.filter_map(|(set, _)| observed.active(PoolPart::Set(set)));
                (had, new.map(|set| set.number).collect::<Vec<_>>())
            }
            None => {
                let had = before.disks as usize;
                let new = observed.disks.iter().skip(had);
                let new = new.filter_map(|found| Some(found.disk.as_ref().ok()?.number));
                (had, new.collect())
            }
        };
        let mut new = new.into_iter();
        parts().any(|part| part.suspended)
            || new.any(|new| parts().any(|part| disks_under(part).contains(&new)))
            || data.is_some_and(|data| data.table.lines().len() > had)
            || meta.is_some_and(|meta| meta.table.size() > before.metadata)
    })
}

/// What has hosts go on whatever becomes of the growth: no device of the pool stays suspended, and
/// no table waits, because whoever was to see to it died.
pub(super) fn resumed(desired: &DesiredPool, observed: &ObservedPool, usage: &PoolUsage) -> Plan {
    let mut steps = Vec::new();
    for part in [PoolPart::Meta, PoolPart::Data] {
        let active = observed.active(part);
        steps.extend(active.into_iter().flat_map(|active| settled(part, active)));
    }
    if let Some(thin) = observed.active(PoolPart::Thin) {
        if thin.suspended {
            steps.push(Step::Reload(spec(desired, size(desired, thin, usage))));
        } else {
            steps.extend(settled(PoolPart::Thin, thin));
        }
    }
    Plan { steps }
}

/// The size of the table of an active thin pool, or, when the kernel refused that for being larger
/// than it could make the pool, the size it has.
fn size(desired: &DesiredPool, thin: &ActivePart, usage: &PoolUsage) -> Sectors {
    let table = thin.table.size();
    match blocks(desired, table) > usage.data_total {
        true => Sectors(usage.data_total.saturating_mul(desired.block.0)),
        false => table,
    }
}

/// How an active pool grows that has `usage`, if the rules allow it.
pub(super) fn grow(
    desired: &DesiredPool,
    observed: &ObservedPool,
    usage: &PoolUsage,
) -> Result<Growth, Refusal> {
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
    let growth = Growth {
        disks,
        metadata: metadata(desired, (thin, meta), &wanted, usage),
        data: data_steps(desired, (thin, data), &wanted, usage),
        labels: labels(desired, &before, observed),
        blocks: blocks(desired, wanted.data.size()),
        metadata_blocks: metadata_blocks(wanted.meta.size()),
    };
    if growth.extends() {
        can_be_counted(desired, &growth, usage, growth.metadata_blocks)?;
    }
    Ok(growth)
}

/// A pool has room in its metadata for what counts its data.
pub(super) fn can_be_counted(
    desired: &DesiredPool,
    growth: &Growth,
    usage: &PoolUsage,
    metadata: u64,
) -> Result<(), Refusal> {
    if usage.can_count(growth.blocks, metadata) {
        return Ok(());
    }
    refused(
        FailureKind::NoSpace,
        format!(
            "pool {} uses {} of {metadata} blocks of metadata and has too few left to count {} \
             blocks of data",
            desired.id, usage.metadata_used, growth.blocks
        ),
    )
}

/// The new disks that an attempt labelled which comes to nothing, and are blank again: the pool
/// runs without them.
pub(super) fn given_back(desired: &DesiredPool, observed: &ObservedPool) -> Plan {
    let had = match before(desired) {
        Some(before) if stands_as_before(desired, &before, observed) => before.disks.len(),
        _ => return Plan::default(),
    };
    let mut steps = Vec::new();
    for (index, found) in observed.disks.iter().enumerate().skip(had) {
        let (Ok(disk), Some(content)) = (&found.disk, &found.content) else {
            continue;
        };
        let wanted = label(desired, observed, index);
        let labelled = match &content.holds {
            DiskContent::Pool { label, .. } | DiskContent::Unfinished(label) => {
                label.places_as(&wanted)
            }
            DiskContent::Blank | DiskContent::Foreign(_) => false,
        };
        if labelled && disk.users.is_empty() {
            steps.push(Step::Wipe(disk_ref(found, disk)));
        }
    }
    Plan { steps }
}

/// Whether an active pool is on the disks it had and nothing else.
fn stands_as_before(desired: &DesiredPool, before: &DesiredPool, observed: &ObservedPool) -> bool {
    let was = tables(before, &of_first(observed, before.disks.len())).ok();
    let is = |part, table: Option<&Table>| {
        let active = observed.active(part);
        active.is_some_and(|active| Some(&active.table) == table && !active.second_table)
    };
    observed.active(PoolPart::Thin).is_some()
        && !has_begun(desired, observed)
        && is(PoolPart::Data, was.as_ref().map(|was| &was.data))
        && is(PoolPart::Meta, was.as_ref().map(|was| &was.meta))
}

/// The disks it had carry its labels, those of before or those to be.
fn members_are_the_pools(
    desired: &DesiredPool,
    before: &DesiredPool,
    observed: &ObservedPool,
) -> Result<(), Refusal> {
    let goes_on = desired.redundancy.is_some() && has_begun(desired, observed);
    for (index, found) in observed.disks.iter().take(before.disks.len()).enumerate() {
        // Once it has begun, its sets see to what they can do without.
        match disk_is_there(found) {
            Err(_) if goes_on => continue,
            there => drop(there?),
        }
        let on_disk = match found.content.as_ref().map(|content| &content.holds) {
            Some(DiskContent::Pool { label, .. }) => Some(label),
            _ => None,
        };
        let known = [
            label(desired, observed, index),
            label(before, observed, index),
        ];
        let is_known = |on_disk: &PoolLabel| known.iter().any(|label| on_disk.places_as(label));
        if !on_disk.is_some_and(is_known) {
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
    let had = observed.disks.iter().take(before.disks.len());
    let largest = largest_block(had);
    let goes_on = desired.redundancy.is_some() && has_begun(desired, observed);
    let mut steps = Vec::new();
    for (index, found) in observed.disks.iter().enumerate().skip(before.disks.len()) {
        let disk = match disk_is_there(found) {
            Err(_) if goes_on => continue,
            there => there?,
        };
        disk_is_not_in_use(disk, found, &own)?;
        let Some(content) = &found.content else {
            continue;
        };
        let wanted = label(desired, observed, index);
        let labelled =
            matches!(&content.holds, DiskContent::Pool { label, .. } if label.places_as(&wanted));
        if labelled {
            continue;
        }
        // Its set does without it, if it has to.
        if goes_on {
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
        no_larger_blocks(found, disk, largest)?;
        let disk = disk_ref(found, disk);
        if may_be_formatted(&wanted, desired.format, found, content)? {
            steps.push(Step::Wipe(disk.clone()));
        }
        if desired.redundancy.is_some() {
            steps.push(Step::ClearLeg(disk.clone()));
        }
        steps.push(Step::Format(disk, wanted));
    }
    Ok(Plan { steps })
}

fn largest_block<'o>(disks: impl Iterator<Item = &'o ObservedDisk>) -> Bytes {
    let blocks = disks.filter_map(|found| Some(found.disk.as_ref().ok()?.logical_block));
    blocks.max().unwrap_or(Bytes(512))
}

fn no_larger_blocks(found: &ObservedDisk, disk: &Disk, largest: Bytes) -> Result<(), Refusal> {
    if disk.logical_block <= largest {
        return Ok(());
    }
    refused(
        FailureKind::Unsupported,
        format!(
            "disk {} has blocks of {}, and volumes of the pool promise hosts {largest}",
            found.id, disk.logical_block
        ),
    )
}

/// A disk that takes the place of another has no larger blocks than the others.
pub(super) fn blocks_are_small_enough(
    observed: &ObservedPool,
    index: usize,
) -> Result<(), Refusal> {
    let others = observed.disks.iter().enumerate();
    let others = others.filter(|(other, _)| *other != index);
    let largest = largest_block(others.map(|(_, found)| found));
    let found = &observed.disks[index];
    no_larger_blocks(found, disk_is_there(found)?, largest)
}

/// The sets that an attempt made which comes to nothing, with all their devices.
pub(super) fn lowered(desired: &DesiredPool, observed: &ObservedPool) -> Plan {
    let (Some(redundancy), Some(before)) = (&desired.redundancy, desired.grows_from) else {
        return Plan::default();
    };
    if has_begun(desired, observed) {
        return Plan::default();
    }
    let had = sets_before(redundancy, before.disks) as u32;
    let parts = observed.parts.iter().rev();
    let new = parts.filter(|(part, found)| match part {
        PoolPart::Super(Member { set, .. })
        | PoolPart::Leg(Member { set, .. })
        | PoolPart::Set(set) => *set >= had && found.number().is_some(),
        PoolPart::Meta | PoolPart::Data | PoolPart::Thin | PoolPart::Catalog => false,
    });
    Plan {
        steps: new.map(|(part, _)| Step::Remove(*part)).collect(),
    }
}

/// Whether a disk that comes is to be wiped first. It holds nothing of the pool, which runs
/// without it: what has a label of the pool is left from an attempt that was given up.
pub(super) fn may_be_formatted(
    wanted: &PoolLabel,
    format: PoolFormat,
    found: &ObservedDisk,
    content: &ObservedContent,
) -> Result<bool, Refusal> {
    if content.room.is_none() {
        return refused(
            FailureKind::NoSpace,
            format!("disk {} is too small for a pool", found.id),
        );
    }
    let holds = match &content.holds {
        DiskContent::Unfinished(label) if label.places_as(wanted) => None,
        other => described(other),
    };
    match (holds, format) {
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

/// The thin pool is given a table of the size it has: with any, the kernel takes all of the
/// metadata device.
fn metadata(
    desired: &DesiredPool,
    (thin, meta): (&ActivePart, &ActivePart),
    wanted: &PoolTables,
    usage: &PoolUsage,
) -> Plan {
    let mut steps = extended(PoolPart::Meta, meta, &wanted.meta);
    if usage.metadata_total < metadata_blocks(wanted.meta.size()) {
        let size = size(desired, thin, usage);
        steps.push(Step::GrowMetadata(spec(desired, size)));
    }
    Plan { steps }
}

fn data_steps(
    desired: &DesiredPool,
    (thin, data): (&ActivePart, &ActivePart),
    wanted: &PoolTables,
    usage: &PoolUsage,
) -> Plan {
    let mut steps = extended(PoolPart::Data, data, &wanted.data);
    let spec = spec(desired, wanted.data.size());
    let low_water = thin_pool(thin).map(|pool| pool.low_water_blocks);
    let grown = thin.table.size() == spec.size
        && usage.data_total >= blocks(desired, spec.size)
        && low_water == Some(spec.low_water_blocks);
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

fn labels(desired: &DesiredPool, before: &DesiredPool, observed: &ObservedPool) -> Plan {
    let mut steps = Vec::new();
    for (index, found) in observed.disks.iter().take(before.disks.len()).enumerate() {
        let (Ok(disk), Some(content)) = (&found.disk, &found.content) else {
            continue;
        };
        let wanted = label(desired, observed, index);
        match &content.holds {
            DiskContent::Pool { label, .. } if *label == wanted => {}
            _ => steps.push(Step::Relabel(disk_ref(found, disk), wanted)),
        }
    }
    Plan { steps }
}
