//! Rules for group snapshots.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_protocol::{
    GroupSnapshotSpec, Labels, ObjectKind, ObjectRef, Problem, ProblemCode, Provisioning,
};
use uuid::Uuid;

use super::connection::check_unconnected;
use super::data::check_idle;
use super::group::{check_cover, check_once};
use super::room::{check_fill, check_rooms};
use super::thin::ThinIds;
use super::volume::check_present;
use super::{
    Facts, Verdict, busy, check_online, check_unneeded, group, missing, refuse, snapshot, taken,
};
use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::record::{
    GroupPhase, GroupSnapshotRecord, Record, SnapshotPhase, SnapshotRecord, Unit,
};
use crate::domain::settle::in_phase;

pub(super) fn create(
    intent: &Intent,
    id: Uuid,
    spec: &GroupSnapshotSpec,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Verdict, Problem> {
    if let Some(record) = intent.group_snapshot(id) {
        return existing(intent, id, record, spec);
    }
    group::find_present(intent, spec.group)?;
    let record = GroupSnapshotRecord {
        name: spec.name.clone(),
        group: spec.group,
        phase: GroupPhase::Creating,
        created: facts.now,
        generation,
    };
    let mut edits = vec![Edit::put(Record::GroupSnapshot(id, record))];
    edits.extend(members(
        intent,
        Unit::GroupSnapshot(id).object(),
        spec,
        generation,
        facts,
    )?);
    Ok(Verdict::Changed(edits, Some(Unit::GroupSnapshot(id))))
}

fn existing(
    intent: &Intent,
    id: Uuid,
    record: &GroupSnapshotRecord,
    spec: &GroupSnapshotSpec,
) -> Result<Verdict, Problem> {
    let there: BTreeSet<_> = intent
        .snapshots_of_group(id)
        .map(|(id, snapshot)| (snapshot.volume, id))
        .collect();
    let asked = spec.snapshots.iter();
    let asked: BTreeSet<_> = asked.map(|one| (one.volume, one.snapshot)).collect();
    let equal = record.name == spec.name && record.group == spec.group && there == asked;
    match record.phase {
        GroupPhase::Deleting => Err(busy(ObjectKind::GroupSnapshot, id, "deleted")),
        _ if !equal => Err(taken(ObjectKind::GroupSnapshot, id)),
        GroupPhase::Creating => Ok(Verdict::Underway(Unit::GroupSnapshot(id))),
        GroupPhase::Present => Ok(Verdict::Already(None)),
    }
}

/// A snapshot of every member.
fn members(
    intent: &Intent,
    whole: ObjectRef,
    spec: &GroupSnapshotSpec,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Vec<Edit>, Problem> {
    let volumes: BTreeMap<_, _> = intent.volumes_of_group(spec.group).collect();
    if volumes.is_empty() {
        let detail = format!("group {} has no members", spec.group);
        return Err(refuse(ProblemCode::WrongState, whole, detail));
    }
    check_once(whole, spec.snapshots.iter().map(|one| one.snapshot))?;
    check_once(whole, spec.snapshots.iter().map(|one| one.volume))?;
    let ids = volumes.keys().copied().collect();
    let named = spec.snapshots.iter().map(|one| one.volume);
    check_cover(whole, "group", &ids, named)?;
    let thick = volumes.values().map(|entry| &entry.record);
    let thick = thick.filter(|volume| volume.provisioning == Provisioning::Thick);
    let promised = thick.map(|volume| (volume.pool, volume.provisioning, volume.size));
    check_rooms(intent, whole, promised)?;
    let mut thin_ids = ThinIds::new(intent, facts);
    let mut edits = Vec::new();
    for one in &spec.snapshots {
        let new = Unit::Snapshot(one.snapshot).object();
        if one.snapshot.is_nil() {
            let detail = "snapshots: the nil UUID is no id of a snapshot";
            return Err(refuse(ProblemCode::InvalidField, whole, detail));
        }
        if intent.snapshot(one.snapshot).is_some() {
            return Err(taken(ObjectKind::Snapshot, one.snapshot));
        }
        snapshot::check_id(intent, new)?;
        let entry = volumes[&one.volume];
        check_present(one.volume, entry)?;
        check_idle(intent, Unit::Volume(one.volume).object())?;
        let volume = &entry.record;
        check_fill(intent, new, volume.pool, facts)?;
        check_online(new, volume.pool, facts)?;
        let record = SnapshotRecord {
            name: spec.name.clone(),
            labels: Labels::default(),
            volume: one.volume,
            pool: volume.pool,
            thin_id: thin_ids.next(new, volume.pool)?,
            origin_thin: volume.thin_id,
            size: volume.size,
            phase: SnapshotPhase::Creating,
            group: Some(whole.id),
            provisioning: volume.provisioning,
            family: volume.family,
            created: facts.now,
            generation,
        };
        edits.push(Edit::put(Record::Snapshot(one.snapshot, record)));
    }
    edits.extend(thin_ids.edits());
    Ok(edits)
}

pub(super) fn delete(intent: &Intent, id: Uuid, generation: u64) -> Result<Verdict, Problem> {
    let record = find(intent, id)?;
    let unit = Unit::GroupSnapshot(id);
    if record.phase == GroupPhase::Deleting {
        return Ok(Verdict::Underway(unit));
    }
    for (snapshot, _) in intent.snapshots_of_group(id) {
        let object = Unit::Snapshot(snapshot).object();
        check_unconnected(intent, snapshot)?;
        check_unneeded(intent, object)?;
        check_idle(intent, object)?;
    }
    let edits = in_phase(intent, id, record, GroupPhase::Deleting, generation);
    Ok(Verdict::Changed(edits, Some(unit)))
}

fn find(intent: &Intent, id: Uuid) -> Result<&GroupSnapshotRecord, Problem> {
    intent
        .group_snapshot(id)
        .ok_or_else(|| missing(ObjectKind::GroupSnapshot, id))
}

pub(super) fn find_present(intent: &Intent, id: Uuid) -> Result<&GroupSnapshotRecord, Problem> {
    let record = find(intent, id)?;
    match record.phase {
        GroupPhase::Creating => Err(busy(ObjectKind::GroupSnapshot, id, "created")),
        GroupPhase::Deleting => Err(busy(ObjectKind::GroupSnapshot, id, "deleted")),
        GroupPhase::Present => Ok(record),
    }
}
