//! Rules for pools.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_protocol::{
    ObjectKind, ObjectRef, PoolGrowth, PoolLevel, PoolSpec, Problem, ProblemCode, Watermarks,
};
use ashlar_targetd_protocol::{DiskId, DiskReport, PoolUsage};
use uuid::Uuid;

use super::redundancy::{check_width, set, stretches};
use super::{Facts, Verdict, busy, check_online, kernel_away, missing, refuse, taken};
use crate::domain::change::Edit;
use crate::domain::fill::{level_within, low_water};
use crate::domain::intent::Intent;
use crate::domain::record::{
    CatalogRoom, Destruction, Growing, PoolPhase, PoolRecord, Record, Scrubs, ThinCounter, Told,
    Unit,
};

/// Most disks in a pool.
pub const MAX_DISKS: usize = 64;
/// Allocation unit when none is asked for, in bytes. Also the granule of block sizes.
pub const DEFAULT_BLOCK_SIZE: u64 = 64 << 10;
/// Least room for thin metadata, in bytes.
pub const MIN_METADATA: u64 = 2 << 20;
/// Most room for thin metadata that dm-thin uses, in bytes (15.8 GiB, whole 4 KiB blocks).
pub const MAX_METADATA: u64 = 16_965_120_000;

const MAX_BLOCK_SIZE: u64 = 1 << 30;
const METADATA_BLOCK: u64 = 4096;
/// Metadata that one mapped block costs, with room for its B-tree.
const METADATA_PER_BLOCK: u64 = 64;
/// Each volume costs metadata of its own; this much carries thousands.
const METADATA_FLOOR: u64 = 64 << 20;
/// What part of a pool its catalog is, within bounds, in bytes.
const CATALOG_SHARE: u64 = 256;
const MIN_CATALOG: u64 = 2 << 20;
const MAX_CATALOG: u64 = 32 << 20;
/// Pools with less room have none, in bytes.
const LEAST_CATALOGED: u64 = 64 << 20;
/// Percent.
const OVER_SUBSCRIPTION: std::ops::RangeInclusive<u32> = 100..=100_000;
/// Percent.
/// Ten years.
const MOST_SCRUB_DAYS: u32 = 3650;
const MOST_RESERVED: u32 = 99;
/// What labels and partition tables take from a disk, rounded up.
const DISK_OVERHEAD: u64 = 4 << 20;
/// Data begin at a multiple of it on every disk.
const MIB: u64 = 1 << 20;

pub(super) fn create(
    intent: &Intent,
    id: Uuid,
    spec: &PoolSpec,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Verdict, Problem> {
    if let Some(entry) = intent.pool(id) {
        let asked = |there: PoolSpec| PoolSpec {
            wipe: spec.wipe,
            ..there
        };
        let now = asked(entry.record.spec.clone());
        let equal = now == *spec || asked(entry.record.first_spec()) == *spec;
        return match entry.record.phase {
            PoolPhase::Withdrawn => Err(busy(ObjectKind::Pool, id, "withdrawn")),
            _ if !equal => Err(taken(ObjectKind::Pool, id)),
            PoolPhase::Deleting(_) => Err(busy(ObjectKind::Pool, id, "destroyed")),
            PoolPhase::Creating => Ok(Verdict::Underway(Unit::Pool(id))),
            PoolPhase::Present => Ok(Verdict::Already(Some(Unit::Pool(id)))),
        };
    }
    let object = ObjectRef {
        kind: ObjectKind::Pool,
        id,
    };
    check_disks(intent, object, &spec.disks, 0)?;
    check_width(object, spec.redundancy, spec.disks.len())?;
    check_size(object, &BLOCK_SIZES, spec.block_size)?;
    check_size(object, &METADATA_SIZES, spec.metadata_size)?;
    check_promises(object, spec)?;
    check_watermarks(object, &spec.watermarks)?;
    check_scrub_days(object, spec.scrub_days)?;
    if !facts.kernel {
        return Err(kernel_away(object));
    }
    let disks = free_disks(object, &spec.disks, spec.wipe, facts)?;
    check_not_left(object, &disks)?;
    let laid_out = stretches(spec.redundancy, &disks);
    let room = laid_out.iter().map(|stretch| stretch.room).sum();
    let first = laid_out.first().map_or(0, |stretch| stretch.room);
    let record = PoolRecord {
        sets: set(spec.redundancy, &disks).into_iter().collect(),
        ..lay_out(object, spec, (room, first), generation)?
    };
    let edits = vec![
        Edit::put(Record::Pool(id, record)),
        Edit::put(Record::ThinCounter(id, ThinCounter { next: 0 })),
    ];
    Ok(Verdict::Changed(edits, Some(Unit::Pool(id))))
}

/// A pool grows by disks beneath its volumes. What is written on them, and where, is decided
/// here: where data lie never changes, so the room for metadata on each new disk is for good.
pub(super) fn grow(
    intent: &Intent,
    id: Uuid,
    spec: &PoolGrowth,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Verdict, Problem> {
    let there = find_present(intent, id)?;
    let object = Unit::Pool(id).object();
    let has = |disk: &DiskId| there.spec.disks.contains(disk);
    let known = !spec.disks.is_empty() && spec.disks.iter().all(has);
    let other = spec
        .metadata_size
        .filter(|size| *size != there.metadata_size);
    match (there.growth, known, other) {
        (Some(_), true, None) => return Ok(Verdict::Underway(Unit::Pool(id))),
        (Some(_), _, _) => return Err(busy(ObjectKind::Pool, id, "grown")),
        (None, true, None) => return Ok(Verdict::Already(Some(Unit::Pool(id)))),
        (None, true, Some(size)) => {
            let detail = format!(
                "{object} has these disks and metadata of {} bytes, which become {size} only \
                 with disks that it does not have yet",
                there.metadata_size
            );
            return Err(refuse(ProblemCode::OutOfRange, object, detail));
        }
        (None, false, _) => {}
    }
    if there.replacing.is_some() {
        return Err(busy(ObjectKind::Pool, id, "given another disk"));
    }
    check_disks(intent, object, &spec.disks, there.spec.disks.len())?;
    check_width(object, there.spec.redundancy, spec.disks.len())?;
    check_size(object, &METADATA_SIZES, spec.metadata_size)?;
    if !facts.kernel {
        return Err(kernel_away(object));
    }
    check_online(object, id, facts)?;
    let disks = free_disks(object, &spec.disks, spec.wipe, facts)?;
    let record = grown(object, there, spec, (&disks[..], facts.usage), generation)?;
    let edits = vec![Edit::put(Record::Pool(id, record))];
    Ok(Verdict::Changed(edits, Some(Unit::Pool(id))))
}

fn grown(
    object: ObjectRef,
    there: &PoolRecord,
    spec: &PoolGrowth,
    (disks, usage): (&[&DiskReport], Option<PoolUsage>),
    generation: u64,
) -> Result<PoolRecord, Problem> {
    let capacity = there
        .capacity
        .ok_or_else(|| busy(ObjectKind::Pool, object.id, "created"))?;
    let had = there.spec.disks.len();
    let mut rooms: Vec<u64> = (0..had).map(|place| there.metadata_room(place)).collect();
    let new = stretches(there.spec.redundancy, disks);
    let of_catalog = there.catalog.map_or(0, |there| there.size);
    let rooms_had: u64 = rooms.iter().sum::<u64>() - of_catalog;
    let more: u64 = new.iter().map(|stretch| stretch.room).sum();
    let mut wanted = more_metadata(object, there, spec, (rooms_had, capacity, more))?;
    let mut data = 0;
    for stretch in new {
        let most = stretch.room / MIB * MIB;
        let taken = wanted.min(most);
        wanted -= taken;
        data += stretch.room - taken;
        // Of a set, all of it stands on the first disk.
        rooms.push(taken);
        rooms.resize(rooms.len() + stretch.disks - 1, 0);
    }
    if wanted > 0 || data < there.block_size {
        let detail = format!(
            "the new disks have {more} bytes, too few for what they are to hold of the metadata \
             and one block of {} bytes",
            there.block_size
        );
        return Err(refuse(ProblemCode::NoSpace, object, detail));
    }
    let metadata_size = match spec.metadata_size {
        Some(size) => size,
        None => match rooms.iter().sum::<u64>() - of_catalog {
            same if same == rooms_had => there.metadata_size,
            more => more.min(MAX_METADATA),
        },
    };
    // As targetd judges it, which has the last word; here before anything is changed.
    let blocks = (capacity + data) / there.block_size;
    if let Some(usage) = usage
        && !usage.can_count(blocks, metadata_size / METADATA_BLOCK)
    {
        let detail = format!(
            "{object} uses {} of {} blocks of metadata, and has too few left to count {blocks} \
             blocks of data in {metadata_size} bytes of them",
            usage.metadata_used, usage.metadata_total
        );
        return Err(refuse(ProblemCode::NoSpace, object, detail));
    }
    let level = usage.map_or(there.told.data.level, |usage| {
        level_within(there, &usage, blocks)
    });
    let mut record = PoolRecord {
        metadata_size,
        low_water_blocks: low_water(&there.spec.watermarks, level, blocks),
        generation,
        metadata_rooms: rooms,
        growth: Some(Growing {
            disks: had as u32,
            metadata_size: there.metadata_size,
            low_water_blocks: there.low_water_blocks,
            wipe: spec.wipe,
            since: generation,
        }),
        made_on: there.made_on.or(Some(had as u32)),
        ..there.clone()
    };
    record.spec.disks.extend(spec.disks.iter().cloned());
    record.sets.extend(set(there.spec.redundancy, disks));
    Ok(record)
}

/// How much room for metadata the new disks are to have, in whole MiB, where those before have
/// room for `rooms` and data.
fn more_metadata(
    object: ObjectRef,
    there: &PoolRecord,
    spec: &PoolGrowth,
    (rooms, capacity, more): (u64, u64, u64),
) -> Result<u64, Problem> {
    let whole = |bytes: u64| bytes / MIB * MIB;
    match spec.metadata_size {
        Some(size) if size < there.metadata_size => {
            let detail = format!(
                "metadata size {size} is less than the {} it has",
                there.metadata_size
            );
            Err(refuse(ProblemCode::OutOfRange, object, detail))
        }
        Some(size) => Ok(size.saturating_sub(rooms).next_multiple_of(MIB)),
        None => {
            let suits = default_metadata(capacity + rooms + more, there.block_size);
            Ok(whole(suits.saturating_sub(rooms).min(more / 10)))
        }
    }
}

/// A pool that was made.
pub(super) fn find_present(intent: &Intent, id: Uuid) -> Result<&PoolRecord, Problem> {
    let entry = intent
        .pool(id)
        .ok_or_else(|| missing(ObjectKind::Pool, id))?;
    match entry.record.phase {
        PoolPhase::Present if entry.record.import.is_some() => {
            Err(busy(ObjectKind::Pool, id, "imported"))
        }
        PoolPhase::Present => Ok(&entry.record),
        PoolPhase::Creating => Err(busy(ObjectKind::Pool, id, "created")),
        PoolPhase::Withdrawn => Err(busy(ObjectKind::Pool, id, "withdrawn")),
        PoolPhase::Deleting(_) => Err(busy(ObjectKind::Pool, id, "destroyed")),
    }
}

/// Only a pool that is empty is destroyed, as far as the intent knows; the kernel is asked what it
/// does not know.
pub(super) fn delete(
    intent: &Intent,
    id: Uuid,
    force: bool,
    generation: u64,
) -> Result<Verdict, Problem> {
    let since = match intent.pool(id).map(|entry| entry.record.phase) {
        Some(PoolPhase::Deleting(there)) if there.force || !force => {
            return Ok(Verdict::Underway(Unit::Pool(id)));
        }
        Some(PoolPhase::Deleting(there)) => there.since,
        _ => generation,
    };
    let there = match intent.pool(id) {
        Some(entry) if since < generation => &entry.record,
        _ => find_present(intent, id)?,
    };
    // What cannot grow, or get another disk, may still be given up as a whole.
    if there.growth.is_some() && !force {
        return Err(busy(ObjectKind::Pool, id, "grown"));
    }
    if there.replacing.is_some() && !force {
        return Err(busy(ObjectKind::Pool, id, "given another disk"));
    }
    check_empty(intent, id)?;
    let record = PoolRecord {
        phase: PoolPhase::Deleting(Destruction { force, since }),
        generation,
        ..there.clone()
    };
    let edits = vec![Edit::put(Record::Pool(id, record))];
    Ok(Verdict::Changed(edits, Some(Unit::Pool(id))))
}

fn check_empty(intent: &Intent, id: Uuid) -> Result<(), Problem> {
    let object = Unit::Pool(id).object();
    let Some(owner) = intent.owner_in_pool(id) else {
        return Ok(());
    };
    let (volumes, snapshots) = intent
        .pool(id)
        .map_or((0, 0), |entry| (entry.volumes, entry.snapshots));
    let detail = match (volumes, snapshots) {
        // Room for long work, or what is left behind by a move.
        (0, 0) => format!("{object} is in use for {owner}"),
        _ => format!("{object} has {volumes} volumes and {snapshots} snapshots"),
    };
    Err(refuse(ProblemCode::InUse, object, detail))
}

/// What a pool may be promised is told in percent. Less than all of it is reserved, not
/// subscribed: else making a thick volume thin could be too much.
/// What a pool is called and may be promised, when it is not asked for by a client.
pub(crate) fn check_spec(object: ObjectRef, spec: &PoolSpec) -> Result<(), Problem> {
    check_size(object, &BLOCK_SIZES, spec.block_size)?;
    check_size(object, &METADATA_SIZES, spec.metadata_size)?;
    check_promises(object, spec)?;
    check_watermarks(object, &spec.watermarks)
}

pub(super) fn check_promises(object: ObjectRef, spec: &PoolSpec) -> Result<(), Problem> {
    let PoolSpec {
        over_subscription,
        reserved,
        ..
    } = spec;
    let detail = if *over_subscription != 0 && !OVER_SUBSCRIPTION.contains(over_subscription) {
        format!("over_subscription {over_subscription} is neither 0 nor from 100 to 100000 percent")
    } else if *reserved > MOST_RESERVED {
        format!("reserved {reserved} is more than {MOST_RESERVED} percent")
    } else {
        return Ok(());
    };
    Err(refuse(ProblemCode::OutOfRange, object, detail))
}

/// A later watermark is no lower than one before, or else it would never be told.
pub(super) fn check_watermarks(object: ObjectRef, marks: &Watermarks) -> Result<(), Problem> {
    let Watermarks {
        warn,
        critical,
        stop,
    } = *marks;
    if 1 <= warn && warn <= critical && critical <= stop && stop <= 100 {
        return Ok(());
    }
    let detail = format!(
        "watermarks {warn}, {critical} and {stop} are not percents from 1 to 100 in their order"
    );
    Err(refuse(ProblemCode::OutOfRange, object, detail))
}

pub(super) fn check_scrub_days(object: ObjectRef, days: u32) -> Result<(), Problem> {
    if days <= MOST_SCRUB_DAYS {
        return Ok(());
    }
    let detail = format!("scrub_days {days} is more than {MOST_SCRUB_DAYS}");
    Err(refuse(ProblemCode::OutOfRange, object, detail))
}

/// Disks for a pool that has `had` already.
fn check_disks(
    intent: &Intent,
    object: ObjectRef,
    disks: &[DiskId],
    had: usize,
) -> Result<(), Problem> {
    let all = had + disks.len();
    if disks.is_empty() || all > MAX_DISKS {
        let detail = match had {
            0 => format!("a pool has 1 to {MAX_DISKS} disks, not {all}"),
            _ => format!("a pool grows by 1 disk or more to {MAX_DISKS} at most, not to {all}"),
        };
        return Err(refuse(ProblemCode::InvalidField, object, detail));
    }
    let mut seen = BTreeSet::new();
    for disk in disks {
        if !seen.insert(disk) {
            let detail = format!("disk {disk} is named twice");
            return Err(refuse(ProblemCode::InvalidField, object, detail));
        }
        if let Some(owner) = intent.pool_of_disk(disk) {
            let detail = match owner == object.id {
                true => format!("disk {disk} is one of {object} already"),
                false => format!("disk {disk} belongs to pool {owner}"),
            };
            return Err(refuse(ProblemCode::InUse, object, detail));
        }
    }
    Ok(())
}

/// What a size may be.
struct Sizes {
    what: &'static str,
    granule: u64,
    range: std::ops::RangeInclusive<u64>,
}

const BLOCK_SIZES: Sizes = Sizes {
    what: "block size",
    granule: DEFAULT_BLOCK_SIZE,
    range: DEFAULT_BLOCK_SIZE..=MAX_BLOCK_SIZE,
};
const METADATA_SIZES: Sizes = Sizes {
    what: "metadata size",
    granule: METADATA_BLOCK,
    range: MIN_METADATA..=MAX_METADATA,
};

fn check_size(object: ObjectRef, sizes: &Sizes, asked: Option<u64>) -> Result<(), Problem> {
    let Sizes {
        what,
        granule,
        range,
    } = sizes;
    match asked {
        Some(size) if !range.contains(&size) || size % granule != 0 => {
            let (least, most) = (range.start(), range.end());
            let detail = format!(
                "{what} {size} is not a multiple of {granule} bytes from {least} to {most}"
            );
            Err(refuse(ProblemCode::OutOfRange, object, detail))
        }
        _ => Ok(()),
    }
}

/// The disks with these ids, which may be taken.
pub(super) fn free_disks<'f>(
    object: ObjectRef,
    disks: &[DiskId],
    wipe: bool,
    facts: &Facts<'f>,
) -> Result<Vec<&'f DiskReport>, Problem> {
    let mut free = Vec::new();
    for id in disks {
        let Some(disk) = facts.disks.iter().find(|disk| disk.id == *id) else {
            let detail = format!("this box has no disk {id}");
            return Err(refuse(ProblemCode::NotFound, object, detail));
        };
        check_free(object, wipe, disk)?;
        free.push(disk);
    }
    Ok(free)
}

/// Bytes a disk has for metadata and data together.
pub(super) fn room(disk: &DiskReport) -> u64 {
    disk.size.0.saturating_sub(DISK_OVERHEAD)
}

/// A pool takes nothing away: not from who uses a disk, and what is on it only when told to.
fn check_free(object: ObjectRef, wipe: bool, disk: &DiskReport) -> Result<(), Problem> {
    let id = &disk.id;
    if disk.in_use {
        let detail = format!("disk {id} is in use");
        return Err(refuse(ProblemCode::InUse, object, detail));
    }
    match &disk.content {
        Some(holds) if !wipe => {
            let detail = format!("disk {id} holds {holds}");
            Err(refuse(ProblemCode::NotBlank, object, detail))
        }
        _ => Ok(()),
    }
}

/// What is left of a pool of this very id looks like a new one, half made, and would show up in
/// its volumes.
fn check_not_left(object: ObjectRef, disks: &[&DiskReport]) -> Result<(), Problem> {
    let left = disks.iter().find(|disk| disk.pool == Some(object.id));
    match left {
        Some(DiskReport { id, content, .. }) => {
            let holds = content.as_deref().unwrap_or("a part of a pool");
            let detail =
                format!("disk {id} holds {holds} of this very id; a new pool takes another id");
            Err(refuse(ProblemCode::NotBlank, object, detail))
        }
        None => Ok(()),
    }
}

fn lay_out(
    object: ObjectRef,
    spec: &PoolSpec,
    (room, first): (u64, u64),
    generation: u64,
) -> Result<PoolRecord, Problem> {
    let block_size = spec.block_size.unwrap_or(DEFAULT_BLOCK_SIZE);
    let metadata_size = spec
        .metadata_size
        .unwrap_or_else(|| default_metadata(room, block_size));
    let catalog = catalog(room, first, metadata_size, block_size);
    let of_catalog = catalog.map_or(0, |catalog| catalog.size);
    let data_blocks = room.saturating_sub(metadata_size + of_catalog) / block_size;
    if data_blocks == 0 {
        let detail = format!(
            "the disks have {room} bytes, too few for {metadata_size} bytes of metadata and one \
             block of {block_size} bytes"
        );
        return Err(refuse(ProblemCode::NoSpace, object, detail));
    }
    Ok(PoolRecord {
        spec: spec.clone(),
        block_size,
        metadata_size,
        low_water_blocks: low_water(&spec.watermarks, PoolLevel::Ok, data_blocks),
        phase: PoolPhase::Creating,
        capacity: None,
        generation,
        metadata_rooms: match of_catalog {
            0 => Vec::new(),
            more => vec![metadata_size.next_multiple_of(MIB) + more],
        },
        growth: None,
        made_on: None,
        sets: Vec::new(),
        replacing: None,
        former: BTreeMap::new(),
        turns: BTreeMap::new(),
        stale: BTreeMap::new(),
        lost: BTreeSet::new(),
        told: Told::default(),
        spares: Vec::new(),
        scrubs: Scrubs::default(),
        catalog,
        import: None,
    })
}

/// A catalog for a pool of so much room, behind the metadata on its first disk or set; there is none
/// in what is too small for it to matter.
fn catalog(room: u64, first: u64, metadata: u64, block: u64) -> Option<CatalogRoom> {
    let size = (room / CATALOG_SHARE / MIB * MIB).clamp(MIN_CATALOG, MAX_CATALOG);
    let before = metadata.checked_next_multiple_of(MIB)?.checked_add(size)?;
    let fits = before <= first && room.saturating_sub(before) >= block;
    (fits && room >= LEAST_CATALOGED).then_some(CatalogRoom { place: 0, size })
}

/// Enough to map every block, at most a tenth of the disks, and something for each volume.
fn default_metadata(room: u64, block_size: u64) -> u64 {
    let mapping = room / block_size * METADATA_PER_BLOCK;
    let wanted = mapping.max(METADATA_FLOOR).min(room / 10);
    let whole = wanted / METADATA_BLOCK * METADATA_BLOCK;
    whole.clamp(MIN_METADATA, MAX_METADATA)
}
