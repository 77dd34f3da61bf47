//! Rules for changing what is there without making or destroying anything.

use ashlar_protocol::{
    GroupSnapshotUpdate, ObjectRef, PoolUpdate, Problem, ProblemCode, Provisioning, Qos,
    SnapshotUpdate, VolumeUpdate,
};
use uuid::Uuid;

use super::data::check_idle;
use super::room::{Promise, check_room};
use super::volume::{check_present, find};
use super::{Facts, Verdict, check_taken, group_snapshot, pool, refuse, replace, snapshot};
use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::record::{
    GroupSnapshotRecord, PoolRecord, Record, SnapshotRecord, Unit, VolumeRecord,
};
use crate::domain::{fill, qos};

pub(super) fn volume(
    intent: &Intent,
    id: Uuid,
    spec: &VolumeUpdate,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Verdict, Problem> {
    let object = Unit::Volume(id).object();
    let entry = find(intent, id)?;
    check_present(id, entry)?;
    let there = &entry.record;
    let mut record = there.clone();
    if let Some(name) = &spec.name {
        record.name = name.clone();
    }
    if let Some(labels) = &spec.labels {
        record.labels = labels.clone();
    }
    if let Some(qos) = spec.qos {
        record.qos = checked_qos(object, Some(qos), facts)?;
    }
    if let Some(provisioning) = spec.provisioning {
        check_provisioning(intent, object, there, provisioning)?;
        record.provisioning = provisioning;
    }
    // Of all this the kernel has only limits, and those only of an active device.
    let unit = (entry.connections > 0 && spec.qos.is_some()).then_some(Unit::Volume(id));
    if record == *there {
        return Ok(Verdict::Already(unit));
    }
    let unit = unit.filter(|_| record.qos != there.qos);
    // What is being retired is forgotten by an attempt of this generation or a later one.
    let retires = !there.retired.is_empty();
    let unit = unit.or_else(|| retires.then_some(Unit::Volume(id)));
    record.generation = generation;
    let edits = vec![Edit::put(Record::Volume(id, record))];
    Ok(Verdict::Changed(edits, unit))
}

/// Limits as they are stored.
pub(super) fn checked_qos(
    object: ObjectRef,
    qos: Option<Qos>,
    facts: &Facts<'_>,
) -> Result<Option<Box<Qos>>, Problem> {
    let Some(qos) = qos.filter(|qos| !qos.is_unlimited()) else {
        return Ok(None);
    };
    qos::check(&qos).map_err(|error| {
        let code = match error {
            qos::QosError::Range { .. } => ProblemCode::OutOfRange,
            qos::QosError::TotalAndParts(_) => ProblemCode::InvalidField,
        };
        refuse(code, object, format!("qos: {error}"))
    })?;
    match (facts.missing)("blkio") {
        Some(why) => {
            let detail = format!("{object} cannot be limited: {why}");
            Err(refuse(ProblemCode::Unsupported, object, detail))
        }
        None => Ok(Some(Box::new(qos))),
    }
}

/// Thick becomes thin whenever it likes: what is kept for it is more than what is promised.
fn check_provisioning(
    intent: &Intent,
    object: ObjectRef,
    there: &VolumeRecord,
    provisioning: Provisioning,
) -> Result<(), Problem> {
    if provisioning == there.provisioning {
        return Ok(());
    }
    // On its way from one pool to another, it has room in both.
    check_idle(intent, object)?;
    if provisioning.is_thin() {
        return Ok(());
    }
    let promise = Promise {
        pool: there.pool,
        provisioning,
        more: there.size,
        size: there.size,
    };
    check_room(intent, object, &promise)
}

/// The kernel has nothing of this.
pub(super) fn snapshot(
    intent: &Intent,
    id: Uuid,
    spec: &SnapshotUpdate,
    generation: u64,
) -> Result<Verdict, Problem> {
    let there = snapshot::find(intent, id)?;
    check_taken(id, there)?;
    let name = spec.name.as_ref().unwrap_or(&there.name);
    let labels = spec.labels.as_ref().unwrap_or(&there.labels);
    if (name, labels) == (&there.name, &there.labels) {
        return Ok(Verdict::Already(None));
    }
    let record = SnapshotRecord {
        name: name.clone(),
        labels: labels.clone(),
        generation,
        ..there.clone()
    };
    let edits = vec![Edit::put(Record::Snapshot(id, record))];
    Ok(Verdict::Changed(edits, None))
}

/// Nor of this.
pub(super) fn group_snapshot(
    intent: &Intent,
    id: Uuid,
    spec: &GroupSnapshotUpdate,
    generation: u64,
) -> Result<Verdict, Problem> {
    let there = group_snapshot::find_present(intent, id)?;
    let Some(name) = spec.name.as_ref().filter(|name| **name != there.name) else {
        return Ok(Verdict::Already(None));
    };
    let record = GroupSnapshotRecord {
        name: name.clone(),
        generation,
        ..there.clone()
    };
    let edits = vec![Edit::put(Record::GroupSnapshot(id, record))];
    Ok(Verdict::Changed(edits, None))
}

pub(super) fn pool(
    intent: &Intent,
    id: Uuid,
    spec: &PoolUpdate,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Verdict, Problem> {
    let there = pool::find_present(intent, id)?;
    let mut wanted = there.spec.clone();
    if let Some(name) = &spec.name {
        wanted.name = name.clone();
    }
    if let Some(percent) = spec.over_subscription {
        wanted.over_subscription = percent;
    }
    if let Some(percent) = spec.reserved {
        wanted.reserved = percent;
    }
    if let Some(watermarks) = spec.watermarks {
        wanted.watermarks = watermarks;
    }
    if let Some(days) = spec.scrub_days {
        wanted.scrub_days = days;
    }
    let object = Unit::Pool(id).object();
    pool::check_promises(object, &wanted)?;
    pool::check_watermarks(object, &wanted.watermarks)?;
    pool::check_scrub_days(object, wanted.scrub_days)?;
    let spares = match &spec.spares {
        Some(spares) => {
            replace::check_spares(intent, object, there, spares, facts)?;
            spares.clone()
        }
        None => there.spares.clone(),
    };
    if wanted == there.spec && spares == there.spares {
        return Ok(Verdict::Already(None));
    }
    // That its disks are others is settled by an attempt of this generation or a later one.
    let unit = there.is_changing_disks().then_some(Unit::Pool(id));
    let marks = wanted.watermarks;
    let mut record = PoolRecord {
        spec: wanted,
        generation,
        spares,
        ..there.clone()
    };
    let seen = (facts.seen)(id).filter(|_| marks != there.spec.watermarks);
    let mark = seen.and_then(|usage| {
        record.told = there.told.anew(&marks, &usage);
        fill::other_mark(&record, &record.told, &usage)
    });
    record.low_water_blocks = mark.unwrap_or(record.low_water_blocks);
    // The kernel tells of the next level only once it has the mark for it.
    let unit = unit.or(mark.map(|_| Unit::Pool(id)));
    let edits = vec![Edit::put(Record::Pool(id, record))];
    Ok(Verdict::Changed(edits, unit))
}
