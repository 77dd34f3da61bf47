//! The safety rules of pools. Pure; each has a test with its name.

use std::collections::BTreeSet;

use ashlar_kernel_iface::block::{Disk, DiskContent, MetadataState, PoolLabel, SetLabel, Tenure};
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::{Target, ThinPool};
use ashlar_targetd_protocol::{
    DesiredPool, FailureKind, PoolDisk, PoolFormat, Redundancy, Sectors,
};

use super::grow;
use super::layout;
use super::members;
use super::observe::{ActivePart, ObservedContent, ObservedDisk, ObservedPart, ObservedPool, sets};
use crate::ours::PoolPart;
use crate::refusal::Refusal;

/// Largest catalog: 32 MiB.
const MAX_CATALOG: Sectors = Sectors(32 << 11);

/// Whether the rules allow going from `observed` to `desired`; growing has rules of its own, in
/// [`grow`](super::grow).
pub fn check(desired: &DesiredPool, observed: &ObservedPool) -> Result<(), Refusal> {
    devices_are_ours(observed)?;
    if desired.absent {
        return Ok(());
    }
    numbers_make_sense(desired)?;
    match observed.active(PoolPart::Thin) {
        Some(thin) => standing_pool_is_the_desired_one(desired, observed, thin),
        None => disks_can_be_used(desired, observed),
    }
}

pub(super) fn refused<T>(kind: FailureKind, reason: String) -> Result<T, Refusal> {
    Err(Refusal::new(kind, reason))
}

/// What has a pool's name and is not the pool is left alone.
pub(super) fn devices_are_ours(observed: &ObservedPool) -> Result<(), Refusal> {
    for part in observed.parts.values() {
        if let ObservedPart::Foreign(what) = part {
            return refused(FailureKind::Foreign, what.clone());
        }
    }
    Ok(())
}

pub(super) fn numbers_make_sense(desired: &DesiredPool) -> Result<(), Refusal> {
    let id = desired.id;
    let disks: BTreeSet<_> = desired.disks.iter().map(|disk| &disk.id).collect();
    if disks.is_empty() || disks.len() != desired.disks.len() {
        return refused(
            FailureKind::Refused,
            format!("pool {id} needs disks, and each only once"),
        );
    }
    let Sectors(block) = desired.block;
    if !(128..=2_097_152).contains(&block) || !block.is_multiple_of(128) {
        return refused(
            FailureKind::Refused,
            format!("pool {id} cannot have blocks of {}", desired.block),
        );
    }
    if desired.metadata.0 < 4096 || !desired.metadata.0.is_multiple_of(8) {
        return refused(
            FailureKind::Refused,
            format!("pool {id} cannot have metadata of {}", desired.metadata),
        );
    }
    sets_make_sense(desired)?;
    catalog_makes_sense(desired)?;
    let whole = |disk: &&PoolDisk| !disk.metadata_room.0.is_multiple_of(layout::ALIGNMENT.0);
    match desired.disks.iter().find(whole) {
        Some(disk) => refused(
            FailureKind::Refused,
            format!(
                "pool {id} cannot have room of {} for metadata on disk {}",
                disk.metadata_room, disk.id
            ),
        ),
        None => Ok(()),
    }
}

/// A pool has one catalog at most, in room that is there for it.
fn catalog_makes_sense(desired: &DesiredPool) -> Result<(), Refusal> {
    let with: Vec<_> = desired
        .disks
        .iter()
        .filter(|disk| disk.catalog.0 > 0)
        .collect();
    let fits = |disk: &&PoolDisk| {
        disk.catalog <= disk.metadata_room && disk.catalog.0.is_multiple_of(layout::ALIGNMENT.0)
    };
    match with.as_slice() {
        [] => Ok(()),
        [disk] if disk.catalog > MAX_CATALOG => refused(
            FailureKind::Refused,
            format!(
                "pool {} cannot have a catalog of {} on disk {}",
                desired.id, disk.catalog, disk.id
            ),
        ),
        [disk] if fits(disk) => Ok(()),
        [disk, ..] => refused(
            FailureKind::Refused,
            format!(
                "pool {} cannot have a catalog of {} on disk {}, and {} in all",
                desired.id,
                disk.catalog,
                disk.id,
                with.len()
            ),
        ),
    }
}

/// Sets are of as many disks as their level takes, and together they are the pool's. Only a disk
/// of a set can be replaced, or lack what others have.
fn sets_make_sense(desired: &DesiredPool) -> Result<(), Refusal> {
    let id = desired.id;
    let Some(Redundancy { level, sets }) = &desired.redundancy else {
        let plain = |disk: &PoolDisk| disk.turn == 0 && disk.takes_place.is_none() && !disk.stale;
        return match desired.disks.iter().find(|disk| !plain(disk)) {
            Some(disk) => refused(
                FailureKind::Refused,
                format!("no disk stands in for disk {} of pool {id}", disk.id),
            ),
            None => Ok(()),
        };
    };
    if let Some(width) = sets.iter().find(|width| !level.takes(**width)) {
        return refused(
            FailureKind::Refused,
            format!("pool {id} cannot have a set of {width} disks in {level}"),
        );
    }
    let together: u64 = sets.iter().map(|width| u64::from(*width)).sum();
    let rooms = desired.redundancy.iter().flat_map(Redundancy::ranges);
    let elsewhere = rooms.flat_map(|range| range.skip(1)).any(|index| {
        let disk = desired.disks.get(index);
        disk.is_some_and(|disk| disk.metadata_room.0 > 0)
    });
    if together != desired.disks.len() as u64 || elsewhere {
        return refused(
            FailureKind::Refused,
            format!(
                "pool {id} cannot have sets of {sets:?} of its {} disks with such room for metadata",
                desired.disks.len()
            ),
        );
    }
    Ok(())
}

/// The thin pool a device is, if it is one.
pub(super) fn thin_pool(part: &ActivePart) -> Option<ThinPool> {
    match part.table.lines() {
        [line] => match line.target {
            Target::ThinPool(pool) => Some(pool),
            Target::Error | Target::Linear(_) | Target::Raid(_) | Target::Thin(_) => None,
        },
        _ => None,
    }
}

/// An active pool is on the desired disks and has the desired block size.
fn standing_pool_is_the_desired_one(
    desired: &DesiredPool,
    observed: &ObservedPool,
    thin: &ActivePart,
) -> Result<(), Refusal> {
    thin_is_the_pools(desired, observed, thin)?;
    let id = desired.id;
    let under = observed.active(PoolPart::Data).map(disks_under);
    let wanted: Option<Vec<DeviceNumber>> = match &desired.redundancy {
        Some(redundancy) => sets(redundancy)
            .map(|(number, _)| observed.active(PoolPart::Set(number)).map(|set| set.number))
            .collect(),
        None => observed
            .disks
            .iter()
            .map(|disk| disk.disk.as_ref().ok().map(|disk| disk.number))
            .collect(),
    };
    // A disk that is gone from the list while the pool runs on it is the kernel's news to tell.
    if wanted.is_some() && under != wanted {
        return refused(
            FailureKind::Refused,
            format!("pool {id} is active on other disks"),
        );
    }
    Ok(())
}

/// An active thin pool is on the pool's own devices and has its block size.
pub(super) fn thin_is_the_pools(
    desired: &DesiredPool,
    observed: &ObservedPool,
    thin: &ActivePart,
) -> Result<(), Refusal> {
    let number = |part| observed.active(part).map(|active| active.number);
    let id = desired.id;
    match thin_pool(thin) {
        Some(pool)
            if Some(pool.metadata) == number(PoolPart::Meta)
                && Some(pool.data) == number(PoolPart::Data) =>
        {
            if pool.block != desired.block {
                return refused(
                    FailureKind::Refused,
                    format!("pool {id} has blocks of {}, for good", pool.block),
                );
            }
            Ok(())
        }
        _ => refused(
            FailureKind::Foreign,
            format!("pool {id} is {}, which was not made here", thin.table),
        ),
    }
}

pub(super) fn disks_under(data: &ActivePart) -> Vec<DeviceNumber> {
    let lines = data.table.lines().iter();
    lines
        .filter_map(|line| match &line.target {
            Target::Linear(linear) => Some(linear.device),
            Target::Error | Target::Raid(_) | Target::Thin(_) | Target::ThinPool(_) => None,
        })
        .collect()
}

/// Of a pool with redundancy that was made, the sets say which disks they need.
fn disks_can_be_used(desired: &DesiredPool, observed: &ObservedPool) -> Result<(), Refusal> {
    if desired.redundancy.is_some() && desired.format == PoolFormat::Never {
        return Ok(());
    }
    let own = own_names(observed);
    for (index, found) in observed.disks.iter().enumerate() {
        let disk = disk_is_there(found)?;
        disk_is_not_in_use(disk, found, &own)?;
        if let Some(content) = &found.content {
            disk_may_be_used(desired, observed, index, content)?;
        }
    }
    complete_pool_gets_no_blank_disk(desired, observed)?;
    match desired.redundancy {
        Some(_) => Ok(()),
        None => metadata_is_not_lost(desired, observed),
    }
}

/// The kernel's names of the pool's own devices.
pub(super) fn own_names(observed: &ObservedPool) -> BTreeSet<String> {
    let numbers = observed.parts.values().filter_map(ObservedPart::number);
    numbers
        .map(|number| format!("dm-{}", number.minor))
        .collect()
}

/// A disk that is there and could be read, if it was to be.
pub(super) fn disk_is_there(found: &ObservedDisk) -> Result<&Disk, Refusal> {
    let disk = found.disk.as_ref();
    let disk = disk.map_err(|error| Refusal::new(FailureKind::Missing, error.to_string()))?;
    match &found.unread {
        Some(error) => refused(
            FailureKind::Kernel,
            format!("disk {} cannot be read: {error}", found.id),
        ),
        None => Ok(disk),
    }
}

/// A disk that something else uses is never taken, whatever the caller says.
pub(super) fn disk_is_not_in_use(
    disk: &Disk,
    found: &ObservedDisk,
    own: &BTreeSet<String>,
) -> Result<(), Refusal> {
    match disk.users.iter().find(|user| !own.contains(*user)) {
        Some(user) => refused(
            FailureKind::InUse,
            format!("disk {} is in use by {user}", found.id),
        ),
        None if disk.read_only => refused(
            FailureKind::Refused,
            format!("disk {} is read-only", found.id),
        ),
        None => Ok(()),
    }
}

/// The label that a disk of the pool carries.
pub(super) fn label(desired: &DesiredPool, observed: &ObservedPool, index: usize) -> PoolLabel {
    let set = set_label(desired, observed, index);
    let first = set.map_or(index, |set| index - set.place as usize);
    // A message of 1 MiB holds far fewer than 2^32 disks.
    PoolLabel {
        pool: desired.id,
        index: index as u32,
        count: desired.disks.len() as u32,
        metadata: desired.metadata,
        block: desired.block,
        metadata_room: desired.disks[first].metadata_room,
        catalog: desired.disks[first].catalog,
        tenure: tenure(desired, observed),
        set,
    }
}

/// Who has the pool by what its disks say.
fn told_tenure(desired: &DesiredPool, observed: &ObservedPool) -> Tenure {
    let labels = observed
        .disks
        .iter()
        .filter_map(|found| match &found.content {
            Some(ObservedContent {
                holds: DiskContent::Pool { label, .. },
                ..
            }) if label.pool == desired.id => Some(label.tenure),
            _ => None,
        });
    labels.max().unwrap_or_default()
}

/// What its disks are to say of who has it. Only those that say where a catalog is do.
fn tenure(desired: &DesiredPool, observed: &ObservedPool) -> Tenure {
    let told = told_tenure(desired, observed);
    let holder = desired.holder;
    match told {
        _ if !desired.has_catalog() => Tenure::default(),
        Tenure { count, .. } if count > 0 && told.holder == holder => told,
        Tenure { count, .. } => Tenure {
            count: count.saturating_add(1),
            holder,
        },
    }
}

/// A pool that another box has, or that was let go of, is not touched before it is taken over.
pub(super) fn pool_is_this_boxs(
    desired: &DesiredPool,
    observed: &ObservedPool,
) -> Result<(), Refusal> {
    let told = told_tenure(desired, observed);
    let id = desired.id;
    if desired.takes || told.count == 0 || told.holder == desired.holder {
        return Ok(());
    }
    match told.holder {
        nobody if nobody.is_nil() => refused(
            FailureKind::Refused,
            format!("pool {id} was let go of, by what its disks say"),
        ),
        other => refused(
            FailureKind::Refused,
            format!("pool {id} was taken over by box {other}, by what its disks say"),
        ),
    }
}

/// The disks on which the catalog is say so, and say that no metadata are there. Older firmware
/// may have given the room to them.
pub(super) fn catalog_is_labelled(
    desired: &DesiredPool,
    observed: &ObservedPool,
) -> Result<(), Refusal> {
    let mut says = 0;
    for (index, found) in observed.disks.iter().enumerate() {
        let Some(ObservedContent {
            holds: DiskContent::Pool { label: on_disk, .. },
            ..
        }) = &found.content
        else {
            continue;
        };
        let wanted = label(desired, observed, index);
        if wanted.catalog.0 == 0 || !on_disk.places_as(&wanted) {
            continue;
        }
        if on_disk.catalog != wanted.catalog {
            return refused(
                FailureKind::Missing,
                format!(
                    "disk {} of pool {} says of no such catalog",
                    found.id, desired.id
                ),
            );
        }
        says += 1;
    }
    match says {
        0 => refused(
            FailureKind::Missing,
            format!("no disk says where the catalog of pool {} is", desired.id),
        ),
        _ => Ok(()),
    }
}

fn set_label(desired: &DesiredPool, observed: &ObservedPool, index: usize) -> Option<SetLabel> {
    let redundancy = desired.redundancy.as_ref()?;
    let (number, range) = sets(redundancy).find(|(_, range)| range.contains(&index))?;
    Some(SetLabel {
        level: redundancy.level,
        number,
        place: (index - range.start) as u32,
        width: range.len() as u32,
        leg: members::leg(desired, observed, number).unwrap_or_default(),
        turn: desired.disks[index].turn,
    })
}

/// What a label says of whose the disk is, in words.
pub(super) fn described(content: &DiskContent) -> Option<String> {
    match content {
        DiskContent::Pool { label, .. } => Some(format!("a part of pool {}", label.pool)),
        DiskContent::Unfinished(label) => {
            Some(format!("an unfinished part of pool {}", label.pool))
        }
        DiskContent::Foreign(what) => Some(what.clone()),
        DiskContent::Blank => None,
    }
}

fn disk_may_be_used(
    desired: &DesiredPool,
    observed: &ObservedPool,
    index: usize,
    content: &ObservedContent,
) -> Result<(), Refusal> {
    let found = &observed.disks[index];
    let (id, pool) = (&found.id, desired.id);
    let holds = match &content.holds {
        DiskContent::Pool { label: on_disk, .. } | DiskContent::Unfinished(on_disk)
            if on_disk.pool == pool =>
        {
            return label_is_the_desired_one(desired, observed, index, content, on_disk);
        }
        other => described(other),
    };
    if holds.is_none() {
        return unlabelled(desired, found, content, None);
    }
    unlabelled(desired, found, content, holds).map_err(|refusal| Refusal {
        reason: format!("disk {id}: {}", refusal.reason),
        ..refusal
    })
}

/// A disk of the pool is put in its place, or not at all.
fn label_is_the_desired_one(
    desired: &DesiredPool,
    observed: &ObservedPool,
    index: usize,
    content: &ObservedContent,
    on_disk: &PoolLabel,
) -> Result<(), Refusal> {
    let found = &observed.disks[index];
    let before = grow::before(desired).filter(|before| index < before.disks.len());
    let outgrown = before.is_some_and(|before| on_disk.places_as(&label(&before, observed, index)));
    if !on_disk.places_as(&label(desired, observed, index)) && !outgrown {
        return refused(
            FailureKind::Refused,
            format!(
                "disk {} is number {} of {} of pool {} with metadata of {} and blocks of {}",
                found.id,
                on_disk.index,
                on_disk.count,
                on_disk.pool,
                on_disk.metadata,
                on_disk.block
            ),
        );
    }
    match content.holds {
        DiskContent::Unfinished(_) => unlabelled(desired, found, content, None),
        _ => Ok(()),
    }
}

/// Only a pool that is being made gets a disk without its label, and only a wipe takes one that
/// holds something.
fn unlabelled(
    desired: &DesiredPool,
    found: &ObservedDisk,
    content: &ObservedContent,
    holds: Option<String>,
) -> Result<(), Refusal> {
    match (desired.format, holds) {
        (PoolFormat::Never, _) => refused(
            FailureKind::Missing,
            format!("disk {} carries no label of pool {}", found.id, desired.id),
        ),
        (PoolFormat::BlankOnly, Some(holds)) => {
            refused(FailureKind::NotBlank, format!("it holds {holds}"))
        }
        _ if content.room.is_none() => refused(
            FailureKind::NoSpace,
            format!("disk {} is too small for a pool", found.id),
        ),
        (PoolFormat::BlankOnly | PoolFormat::Wipe, _) => Ok(()),
    }
}

/// The first disk is labelled last. Once it is, a disk without a label was exchanged, and what
/// was on the one before it is missed.
fn complete_pool_gets_no_blank_disk(
    desired: &DesiredPool,
    observed: &ObservedPool,
) -> Result<(), Refusal> {
    let complete = |disk: &&ObservedDisk| match disk.content.as_ref().map(|found| &found.holds) {
        Some(DiskContent::Pool { label, .. }) => label.pool == desired.id,
        _ => false,
    };
    if observed.disks.first().filter(complete).is_none() {
        return Ok(());
    }
    match observed.disks.iter().find(|disk| !complete(disk)) {
        Some(disk) => refused(
            FailureKind::Missing,
            format!("disk {} carries no label of pool {}", disk.id, desired.id),
        ),
        None => Ok(()),
    }
}

/// Metadata that reads as zero would become an empty pool; that is right only while the pool is
/// being made.
pub(super) fn metadata_is_not_lost(
    desired: &DesiredPool,
    observed: &ObservedPool,
) -> Result<(), Refusal> {
    match (desired.format, observed.metadata.map(|found| found.state)) {
        (PoolFormat::Never, Some(MetadataState::Zero | MetadataState::Unknown)) => refused(
            FailureKind::Missing,
            format!(
                "the metadata of pool {} are gone; a new pool is not made in their place",
                desired.id
            ),
        ),
        _ => Ok(()),
    }
}
