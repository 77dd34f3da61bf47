//! Rules for volumes.

use std::collections::BTreeSet;

use ashlar_protocol::volume::{GRANULARITY, MAX_SIZE};
use ashlar_protocol::{Clear, ExtendSpec, ObjectKind, ObjectRef, Problem, ProblemCode, VolumeSpec};
use uuid::Uuid;

use super::data::{check_bandwidth, check_idle};
use super::room::{Promise, check_fill, check_room};
use super::thin::{self, Source};
use super::update::checked_qos;
use super::{
    Facts, Verdict, busy, check_online, check_unneeded, connections, missing, refuse, taken,
};
use crate::domain::change::Edit;
use crate::domain::intent::{Intent, VolumeEntry};
use crate::domain::record::{
    Clearing, GroupPhase, Growth, Record, Unit, VolumePhase, VolumeRecord,
};

pub(super) fn create(
    intent: &Intent,
    id: Uuid,
    spec: &VolumeSpec,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Verdict, Problem> {
    let object = Unit::Volume(id).object();
    let asked = spec.size.map(|size| rounded(object, size)).transpose()?;
    if let Some(entry) = intent.volume(id) {
        return existing(id, entry, spec, asked);
    }
    check_id(intent, object)?;
    let source = spec
        .source
        .map(|parent| thin::source(intent, object, spec.pool, parent))
        .transpose()?;
    let size = size(object, asked, source.as_ref())?;
    let promise = Promise {
        pool: spec.pool,
        provisioning: spec.provisioning,
        more: size,
        size,
    };
    check_room(intent, object, &promise)?;
    check_fill(intent, object, spec.pool, facts)?;
    check_online(object, spec.pool, facts)?;
    let qos = checked_qos(object, spec.qos, facts)?;
    let (thin_id, counter) = thin::next_thin(intent, object, spec.pool, facts)?;
    let record = VolumeRecord {
        name: spec.name.clone(),
        pool: spec.pool,
        thin_id,
        size,
        phase: VolumePhase::Creating,
        growth: Vec::new(),
        created: facts.now,
        generation,
        labels: spec.labels.clone(),
        parent: spec.source,
        family: source.as_ref().map(|source| source.family),
        origin: source.map(|source| source.origin),
        retired: BTreeSet::new(),
        moving: None,
        owner: None,
        group: None,
        qos,
        provisioning: spec.provisioning,
        purpose: None,
    };
    let edits = vec![counter, Edit::put(Record::Volume(id, record))];
    Ok(Verdict::Changed(edits, Some(Unit::Volume(id))))
}

/// An id stands for one object for good, as long as anything of it is left.
pub(super) fn check_id(intent: &Intent, object: ObjectRef) -> Result<(), Problem> {
    let id = object.id;
    let detail = if intent.snapshot(id).is_some() {
        format!("id {id} is a snapshot's")
    } else if let Some((snapshot, _)) = intent.snapshots_of(id, None).next() {
        format!("snapshot {snapshot} is of an earlier volume {id}")
    } else {
        return Ok(());
    };
    Err(refuse(ProblemCode::Duplicate, object, detail))
}

fn size(object: ObjectRef, asked: Option<u64>, source: Option<&Source>) -> Result<u64, Problem> {
    match (asked, source.map(|source| source.size)) {
        (Some(size), Some(least)) if size < least => {
            let detail = format!("size {size} is less than the source's {least} bytes");
            Err(refuse(ProblemCode::OutOfRange, object, detail))
        }
        (Some(size), _) | (None, Some(size)) => Ok(size),
        (None, None) => {
            let detail = "size is missing, and there is no source to take it from";
            Err(refuse(ProblemCode::InvalidField, object, detail))
        }
    }
}

fn existing(
    id: Uuid,
    entry: &VolumeEntry,
    spec: &VolumeSpec,
    asked: Option<u64>,
) -> Result<Verdict, Problem> {
    let there = &entry.record;
    let equal = there.name == spec.name
        && there.pool == spec.pool
        && there.parent == spec.source
        && there.provisioning == spec.provisioning
        && there.qos.as_deref().copied() == spec.qos.filter(|qos| !qos.is_unlimited())
        && asked.is_none_or(|size| there.size == size);
    match there.phase {
        _ if there.purpose.is_some() => Err(taken(ObjectKind::Volume, id)),
        VolumePhase::Clearing(_) | VolumePhase::Deleting => {
            Err(busy(ObjectKind::Volume, id, "deleted"))
        }
        VolumePhase::Releasing => Err(busy(ObjectKind::Volume, id, "released")),
        _ if !equal => Err(taken(ObjectKind::Volume, id)),
        VolumePhase::Adopting => Err(busy(ObjectKind::Volume, id, "adopted")),
        VolumePhase::Creating => Ok(Verdict::Underway(Unit::Volume(id))),
        VolumePhase::Present | VolumePhase::Reverting | VolumePhase::Replacing => {
            Ok(Verdict::Already(None))
        }
    }
}

pub(super) fn extend(
    intent: &Intent,
    id: Uuid,
    spec: &ExtendSpec,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Verdict, Problem> {
    let object = ObjectRef {
        kind: ObjectKind::Volume,
        id,
    };
    let size = rounded(object, spec.size)?;
    let entry = find(intent, id)?;
    check_present(id, entry)?;
    let present = entry.record.size;
    if size < present {
        let detail = format!("{object} has {present} bytes and does not shrink to {size}");
        return Err(refuse(ProblemCode::OutOfRange, object, detail));
    }
    // Without a connection no device is active, and the next one made has the new size. But what
    // is being retired is forgotten by an attempt of this generation or a later one.
    let concerned = entry.connections > 0 || !entry.record.retired.is_empty();
    let unit = concerned.then_some(Unit::Volume(id));
    if size == present {
        return Ok(Verdict::Already(unit));
    }
    check_idle(intent, object)?;
    // What is made of it has zeros beyond its present size.
    check_unneeded(intent, object)?;
    let promise = Promise {
        pool: entry.record.pool,
        provisioning: entry.record.provisioning,
        more: size - present,
        size,
    };
    check_room(intent, object, &promise)?;
    check_fill(intent, object, entry.record.pool, facts)?;
    let mut record = VolumeRecord {
        size,
        generation,
        ..entry.record.clone()
    };
    if unit.is_some() || !record.growth.is_empty() {
        let from = present;
        record.growth.push(Growth { generation, from });
    }
    Ok(Verdict::Changed(
        vec![Edit::put(Record::Volume(id, record))],
        unit,
    ))
}

/// Destroys a volume. Without `clearing` its data goes as it is, or as was asked before.
pub(super) fn delete(
    intent: &Intent,
    id: Uuid,
    clearing: Option<Clearing>,
    generation: u64,
) -> Result<Verdict, Problem> {
    let entry = find(intent, id)?;
    let unit = Unit::Volume(id);
    check_bandwidth(
        unit.object(),
        clearing.and_then(|clearing| clearing.bandwidth),
    )?;
    if entry.connections > 0 {
        let detail = format!("{} has {}", unit.object(), connections(entry.connections));
        return Err(refuse(ProblemCode::InUse, unit.object(), detail));
    }
    let clears = clearing.filter(|clearing| clearing.how != Clear::None);
    match entry.record.phase {
        VolumePhase::Deleting => return deleting(unit, clears),
        VolumePhase::Clearing(present) => match clearing {
            None => return Ok(Verdict::Underway(unit)),
            Some(clearing) if clearing.since(present.since) == present => {
                return Ok(Verdict::Underway(unit));
            }
            // What cannot be cleared, or takes too long, is got rid of like this.
            Some(_) => {}
        },
        // Nothing is destroyed that is not known to be its own, or is no longer to be.
        VolumePhase::Adopting | VolumePhase::Releasing => check_present(id, entry)?,
        // Only of what has its place for good it is known what there is to clear.
        VolumePhase::Reverting | VolumePhase::Replacing if clears.is_some() => {
            check_present(id, entry)?;
        }
        _ => check_not_copied(intent, id, &entry.record)?,
    }
    check_idle(intent, unit.object())?;
    check_unneeded(intent, unit.object())?;
    // A volume in the making may be deleted: it is how one that cannot be made is got rid of.
    // Nobody has written to it.
    let made = entry.record.phase != VolumePhase::Creating;
    let phase = match clears.filter(|_| made) {
        Some(clearing) => VolumePhase::Clearing(clearing.since(match entry.record.phase {
            VolumePhase::Clearing(present) => present.since,
            _ => generation,
        })),
        None => VolumePhase::Deleting,
    };
    let record = VolumeRecord {
        phase,
        generation,
        origin: None,
        group: None,
        ..entry.record.clone()
    };
    Ok(Verdict::Changed(
        vec![Edit::put(Record::Volume(id, record))],
        Some(unit),
    ))
}

/// It may be gone already.
fn deleting(unit: Unit, clears: Option<Clearing>) -> Result<Verdict, Problem> {
    match clears {
        None => Ok(Verdict::Underway(unit)),
        Some(_) => {
            let object = unit.object();
            let detail = format!("{object} is being deleted, and it is too late to clear it");
            Err(refuse(ProblemCode::Busy, object, detail))
        }
    }
}

/// A copy that is being made with others of its group stays with them.
fn check_not_copied(intent: &Intent, id: Uuid, record: &VolumeRecord) -> Result<(), Problem> {
    let group = record.group.and_then(|group| intent.group(group));
    match group.map(|entry| entry.record.phase) {
        Some(GroupPhase::Creating) => Err(busy(ObjectKind::Volume, id, "created")),
        Some(GroupPhase::Deleting) => Err(busy(ObjectKind::Volume, id, "deleted")),
        Some(GroupPhase::Present) | None => Ok(()),
    }
}

pub(super) fn find(intent: &Intent, id: Uuid) -> Result<&VolumeEntry, Problem> {
    intent
        .known_volume(id)
        .ok_or_else(|| missing(ObjectKind::Volume, id))
}

/// A volume in motion is left alone.
pub(crate) fn check_present(id: Uuid, entry: &VolumeEntry) -> Result<(), Problem> {
    let doing = match entry.record.phase {
        VolumePhase::Present => return Ok(()),
        VolumePhase::Creating => "created",
        VolumePhase::Adopting => "adopted",
        VolumePhase::Reverting | VolumePhase::Replacing => "reverted",
        VolumePhase::Releasing => "released",
        VolumePhase::Clearing(_) | VolumePhase::Deleting => "deleted",
    };
    Err(busy(ObjectKind::Volume, id, doing))
}

pub(super) fn rounded(object: ObjectRef, size: u64) -> Result<u64, Problem> {
    if (1..=MAX_SIZE).contains(&size) {
        // At most MAX_SIZE, which is a multiple itself.
        return Ok(size.next_multiple_of(GRANULARITY));
    }
    let detail = format!("size {size} is not from 1 to {MAX_SIZE} bytes");
    Err(refuse(ProblemCode::OutOfRange, object, detail))
}
