//! Rules for volumes.

use ashlar_protocol::volume::{GRANULARITY, MAX_SIZE};
use ashlar_protocol::{ExtendSpec, ObjectKind, ObjectRef, Problem, ProblemCode, VolumeSpec};
use ashlar_targetd_protocol::ThinId;
use uuid::Uuid;

use super::{Facts, Verdict, busy, check_online, connections, missing, refuse, taken};
use crate::domain::change::Edit;
use crate::domain::intent::{Intent, VolumeEntry};
use crate::domain::record::{PoolPhase, Record, ThinCounter, Unit, VolumePhase, VolumeRecord};

pub(super) fn create(
    intent: &Intent,
    id: Uuid,
    spec: &VolumeSpec,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Verdict, Problem> {
    let object = ObjectRef {
        kind: ObjectKind::Volume,
        id,
    };
    let size = rounded(object, spec.size)?;
    if let Some(entry) = intent.volume(id) {
        return existing(id, entry, spec, size);
    }
    check_room(intent, object, spec.pool, size)?;
    check_online(object, spec.pool, facts)?;
    let ThinCounter { next } = intent.thin_counter(spec.pool);
    let thin_id = ThinId::try_from(u64::from(next)).map_err(|_| {
        let detail = format!("pool {} has given all its thin device ids", spec.pool);
        refuse(ProblemCode::NoSpace, object, detail)
    })?;
    let record = VolumeRecord {
        name: spec.name.clone(),
        pool: spec.pool,
        thin_id,
        size,
        phase: VolumePhase::Creating,
        created: facts.now,
        generation,
    };
    let edits = vec![
        Edit::put(Record::ThinCounter(
            spec.pool,
            ThinCounter { next: next + 1 },
        )),
        Edit::put(Record::Volume(id, record)),
    ];
    Ok(Verdict::Changed(edits, Some(Unit::Volume(id))))
}

fn existing(
    id: Uuid,
    entry: &VolumeEntry,
    spec: &VolumeSpec,
    size: u64,
) -> Result<Verdict, Problem> {
    let there = &entry.record;
    let equal = there.name == spec.name && there.pool == spec.pool && there.size == size;
    match there.phase {
        VolumePhase::Deleting => Err(busy(ObjectKind::Volume, id, "deleted")),
        _ if !equal => Err(taken(ObjectKind::Volume, id)),
        VolumePhase::Creating => Ok(Verdict::Underway(Unit::Volume(id))),
        VolumePhase::Present => Ok(Verdict::Already(None)),
    }
}

pub(super) fn extend(
    intent: &Intent,
    id: Uuid,
    spec: &ExtendSpec,
    generation: u64,
) -> Result<Verdict, Problem> {
    let object = ObjectRef {
        kind: ObjectKind::Volume,
        id,
    };
    let size = rounded(object, spec.size)?;
    let entry = find(intent, id)?;
    match entry.record.phase {
        VolumePhase::Creating => return Err(busy(ObjectKind::Volume, id, "created")),
        VolumePhase::Deleting => return Err(busy(ObjectKind::Volume, id, "deleted")),
        VolumePhase::Present => {}
    }
    let present = entry.record.size;
    if size < present {
        let detail = format!("{object} has {present} bytes and does not shrink to {size}");
        return Err(refuse(ProblemCode::OutOfRange, object, detail));
    }
    // Without a connection no device is active, and the next one made has the new size.
    let unit = (entry.connections > 0).then_some(Unit::Volume(id));
    if size == present {
        return Ok(Verdict::Already(unit));
    }
    check_room(intent, object, entry.record.pool, size)?;
    let record = VolumeRecord {
        size,
        generation,
        ..entry.record.clone()
    };
    Ok(Verdict::Changed(
        vec![Edit::put(Record::Volume(id, record))],
        unit,
    ))
}

pub(super) fn delete(intent: &Intent, id: Uuid, generation: u64) -> Result<Verdict, Problem> {
    let entry = find(intent, id)?;
    let unit = Unit::Volume(id);
    if entry.connections > 0 {
        let detail = format!("{} has {}", unit.object(), connections(entry.connections));
        return Err(refuse(ProblemCode::InUse, unit.object(), detail));
    }
    if entry.record.phase == VolumePhase::Deleting {
        return Ok(Verdict::Underway(unit));
    }
    // A volume in the making may be deleted: it is how one that cannot be made is got rid of.
    let phase = VolumePhase::Deleting;
    let record = VolumeRecord {
        phase,
        generation,
        ..entry.record.clone()
    };
    Ok(Verdict::Changed(
        vec![Edit::put(Record::Volume(id, record))],
        Some(unit),
    ))
}

pub(super) fn find(intent: &Intent, id: Uuid) -> Result<&VolumeEntry, Problem> {
    intent
        .volume(id)
        .ok_or_else(|| missing(ObjectKind::Volume, id))
}

fn rounded(object: ObjectRef, size: u64) -> Result<u64, Problem> {
    if (1..=MAX_SIZE).contains(&size) {
        // At most MAX_SIZE, which is a multiple itself.
        return Ok(size.next_multiple_of(GRANULARITY));
    }
    let detail = format!("size {size} is not from 1 to {MAX_SIZE} bytes");
    Err(refuse(ProblemCode::OutOfRange, object, detail))
}

fn check_room(intent: &Intent, object: ObjectRef, pool: Uuid, size: u64) -> Result<(), Problem> {
    let entry = intent
        .pool(pool)
        .ok_or_else(|| missing(ObjectKind::Pool, pool))?;
    let capacity = match (entry.record.phase, entry.record.capacity) {
        (PoolPhase::Withdrawn, _) => return Err(busy(ObjectKind::Pool, pool, "withdrawn")),
        (PoolPhase::Present, Some(capacity)) => capacity,
        (PoolPhase::Creating | PoolPhase::Present, _) => {
            return Err(busy(ObjectKind::Pool, pool, "created"));
        }
    };
    if size > capacity {
        let detail = format!("size {size} is more than pool {pool} has: {capacity} bytes");
        return Err(refuse(ProblemCode::NoSpace, object, detail));
    }
    Ok(())
}
