//! Rules for pools.

use std::collections::BTreeSet;

use ashlar_protocol::{ObjectKind, ObjectRef, PoolSpec, Problem, ProblemCode};
use ashlar_targetd_protocol::DiskReport;
use uuid::Uuid;

use super::{Facts, Verdict, busy, kernel_away, missing, refuse, taken};
use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::record::{PoolPhase, PoolRecord, Record, ThinCounter, Unit};

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
/// Percent.
const OVER_SUBSCRIPTION: std::ops::RangeInclusive<u32> = 100..=100_000;
/// Percent.
const MOST_RESERVED: u32 = 99;
/// What labels and partition tables take from a disk, rounded up.
const DISK_OVERHEAD: u64 = 4 << 20;

pub(super) fn create(
    intent: &Intent,
    id: Uuid,
    spec: &PoolSpec,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Verdict, Problem> {
    if let Some(entry) = intent.pool(id) {
        let equal = PoolSpec {
            wipe: spec.wipe,
            ..entry.record.spec.clone()
        } == *spec;
        return match entry.record.phase {
            PoolPhase::Withdrawn => Err(busy(ObjectKind::Pool, id, "withdrawn")),
            _ if !equal => Err(taken(ObjectKind::Pool, id)),
            PoolPhase::Creating => Ok(Verdict::Underway(Unit::Pool(id))),
            PoolPhase::Present => Ok(Verdict::Already(Some(Unit::Pool(id)))),
        };
    }
    let object = ObjectRef {
        kind: ObjectKind::Pool,
        id,
    };
    check_disks(intent, object, spec)?;
    check_sizes(object, spec)?;
    check_promises(object, spec)?;
    if !facts.kernel {
        return Err(kernel_away(object));
    }
    let room = room(object, spec, facts)?;
    let record = lay_out(object, spec, room, generation)?;
    let edits = vec![
        Edit::put(Record::Pool(id, record)),
        Edit::put(Record::ThinCounter(id, ThinCounter { next: 0 })),
    ];
    Ok(Verdict::Changed(edits, Some(Unit::Pool(id))))
}

/// A pool that was made.
pub(super) fn find_present(intent: &Intent, id: Uuid) -> Result<&PoolRecord, Problem> {
    let entry = intent
        .pool(id)
        .ok_or_else(|| missing(ObjectKind::Pool, id))?;
    match entry.record.phase {
        PoolPhase::Present => Ok(&entry.record),
        PoolPhase::Creating => Err(busy(ObjectKind::Pool, id, "created")),
        PoolPhase::Withdrawn => Err(busy(ObjectKind::Pool, id, "withdrawn")),
    }
}

/// What a pool may be promised is told in percent. Less than all of it is reserved, not
/// subscribed: else making a thick volume thin could be too much.
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

fn check_disks(intent: &Intent, object: ObjectRef, spec: &PoolSpec) -> Result<(), Problem> {
    if !(1..=MAX_DISKS).contains(&spec.disks.len()) {
        let detail = format!(
            "a pool has 1 to {MAX_DISKS} disks, not {}",
            spec.disks.len()
        );
        return Err(refuse(ProblemCode::InvalidField, object, detail));
    }
    let mut seen = BTreeSet::new();
    for disk in &spec.disks {
        if !seen.insert(disk) {
            let detail = format!("disk {disk} is named twice");
            return Err(refuse(ProblemCode::InvalidField, object, detail));
        }
        if let Some(owner) = intent.pool_of_disk(disk) {
            let detail = format!("disk {disk} belongs to pool {owner}");
            return Err(refuse(ProblemCode::InUse, object, detail));
        }
    }
    Ok(())
}

fn check_sizes(object: ObjectRef, spec: &PoolSpec) -> Result<(), Problem> {
    let checks = [
        (
            "block size",
            spec.block_size,
            DEFAULT_BLOCK_SIZE,
            DEFAULT_BLOCK_SIZE,
            MAX_BLOCK_SIZE,
        ),
        (
            "metadata size",
            spec.metadata_size,
            METADATA_BLOCK,
            MIN_METADATA,
            MAX_METADATA,
        ),
    ];
    for (what, asked, granule, least, most) in checks {
        let Some(size) = asked else { continue };
        if !(least..=most).contains(&size) || size % granule != 0 {
            let detail = format!(
                "{what} {size} is not a multiple of {granule} bytes from {least} to {most}"
            );
            return Err(refuse(ProblemCode::OutOfRange, object, detail));
        }
    }
    Ok(())
}

/// Bytes the disks have for metadata and data together.
fn room(object: ObjectRef, spec: &PoolSpec, facts: &Facts<'_>) -> Result<u64, Problem> {
    let mut room = 0_u64;
    for id in &spec.disks {
        let Some(disk) = facts.disks.iter().find(|disk| disk.id == *id) else {
            let detail = format!("this box has no disk {id}");
            return Err(refuse(ProblemCode::NotFound, object, detail));
        };
        check_free(object, spec, disk)?;
        room = room.saturating_add(disk.size.0.saturating_sub(DISK_OVERHEAD));
    }
    Ok(room)
}

/// A new pool takes nothing away: not from who uses a disk, and what is on it only when told
/// to. What is left of a pool of this very id looks like this one, half made, and would show
/// up in its volumes.
fn check_free(object: ObjectRef, spec: &PoolSpec, disk: &DiskReport) -> Result<(), Problem> {
    let id = &disk.id;
    if disk.in_use {
        let detail = format!("disk {id} is in use");
        return Err(refuse(ProblemCode::InUse, object, detail));
    }
    match &disk.content {
        Some(holds) if !spec.wipe => {
            let detail = format!("disk {id} holds {holds}");
            Err(refuse(ProblemCode::NotBlank, object, detail))
        }
        Some(holds) if disk.pool == Some(object.id) => {
            let detail =
                format!("disk {id} holds {holds} of this very id; a new pool takes another id");
            Err(refuse(ProblemCode::NotBlank, object, detail))
        }
        _ => Ok(()),
    }
}

fn lay_out(
    object: ObjectRef,
    spec: &PoolSpec,
    room: u64,
    generation: u64,
) -> Result<PoolRecord, Problem> {
    let block_size = spec.block_size.unwrap_or(DEFAULT_BLOCK_SIZE);
    let metadata_size = spec
        .metadata_size
        .unwrap_or_else(|| default_metadata(room, block_size));
    let data_blocks = room.saturating_sub(metadata_size) / block_size;
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
        low_water_blocks: (data_blocks / 20).max(1),
        phase: PoolPhase::Creating,
        capacity: None,
        generation,
    })
}

/// Enough to map every block, at most a tenth of the disks, and something for each volume.
fn default_metadata(room: u64, block_size: u64) -> u64 {
    let mapping = room / block_size * METADATA_PER_BLOCK;
    let wanted = mapping.max(METADATA_FLOOR).min(room / 10);
    let whole = wanted / METADATA_BLOCK * METADATA_BLOCK;
    whole.clamp(MIN_METADATA, MAX_METADATA)
}
