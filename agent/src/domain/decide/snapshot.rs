//! Rules for snapshots, and for going back to them.

use std::collections::BTreeSet;

use ashlar_protocol::{
    ObjectKind, ObjectRef, Problem, ProblemCode, Provisioning, RevertSpec, SnapshotSpec,
};
use ashlar_targetd_protocol::ThinRef;
use uuid::Uuid;

use super::connection::check_unconnected;
use super::data::check_idle;
use super::room::{Promise, check_fill, check_room};
use super::thin::next_thin;
use super::volume::{self, check_present};
use super::{
    Facts, Verdict, busy, check_online, check_unneeded, connections, missing, refuse, taken,
};
use crate::domain::change::Edit;
use crate::domain::intent::{Intent, VolumeEntry};
use crate::domain::record::{
    Origin, Record, SnapshotPhase, SnapshotRecord, Unit, VolumePhase, VolumeRecord,
};

pub(super) fn create(
    intent: &Intent,
    id: Uuid,
    spec: &SnapshotSpec,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Verdict, Problem> {
    if let Some(there) = intent.snapshot(id) {
        return existing(id, there, spec);
    }
    let object = Unit::Snapshot(id).object();
    check_id(intent, object)?;
    let entry = volume::find(intent, spec.volume)?;
    check_present(spec.volume, entry)?;
    check_idle(intent, Unit::Volume(spec.volume).object())?;
    let volume = &entry.record;
    check_online(object, volume.pool, facts)?;
    if volume.provisioning == Provisioning::Thick {
        let (pool, size) = (volume.pool, volume.size);
        let promise = Promise {
            pool,
            provisioning: volume.provisioning,
            more: size,
            size,
        };
        check_room(intent, object, &promise)?;
    }
    check_fill(intent, object, volume.pool, facts)?;
    let (thin_id, counter) = next_thin(intent, object, volume.pool, facts)?;
    let record = SnapshotRecord {
        name: spec.name.clone(),
        labels: spec.labels.clone(),
        volume: spec.volume,
        pool: volume.pool,
        thin_id,
        origin_thin: volume.thin_id,
        size: volume.size,
        phase: SnapshotPhase::Creating,
        group: None,
        family: volume.family,
        created: facts.now,
        generation,
        provisioning: volume.provisioning,
    };
    let edits = vec![counter, Edit::put(Record::Snapshot(id, record))];
    Ok(Verdict::Changed(edits, Some(Unit::Snapshot(id))))
}

fn existing(id: Uuid, there: &SnapshotRecord, spec: &SnapshotSpec) -> Result<Verdict, Problem> {
    let equal = there.name == spec.name && there.volume == spec.volume && there.group.is_none();
    match there.phase {
        SnapshotPhase::Releasing => Err(busy(ObjectKind::Snapshot, id, "released")),
        SnapshotPhase::Deleting => Err(busy(ObjectKind::Snapshot, id, "deleted")),
        _ if !equal => Err(taken(ObjectKind::Snapshot, id)),
        SnapshotPhase::Adopting => Err(busy(ObjectKind::Snapshot, id, "adopted")),
        SnapshotPhase::Creating => Ok(Verdict::Underway(Unit::Snapshot(id))),
        SnapshotPhase::Present => Ok(Verdict::Already(None)),
    }
}

pub(super) fn delete(intent: &Intent, id: Uuid, generation: u64) -> Result<Verdict, Problem> {
    let there = find(intent, id)?;
    let unit = Unit::Snapshot(id);
    if let Some(group) = there.group {
        let detail = format!("{} belongs to group snapshot {group}", unit.object());
        return Err(refuse(ProblemCode::InUse, unit.object(), detail));
    }
    if there.phase == SnapshotPhase::Deleting {
        return Ok(Verdict::Underway(unit));
    }
    if matches!(
        there.phase,
        SnapshotPhase::Adopting | SnapshotPhase::Releasing
    ) {
        // Nothing is destroyed that is not known to be its own, or is no longer to be.
        check_taken(id, there)?;
    }
    check_unconnected(intent, id)?;
    check_idle(intent, unit.object())?;
    check_unneeded(intent, unit.object())?;
    // One in the making may be deleted: it is how one that cannot be made is got rid of.
    let phase = SnapshotPhase::Deleting;
    let record = SnapshotRecord {
        phase,
        generation,
        ..there.clone()
    };
    let edits = vec![Edit::put(Record::Snapshot(id, record))];
    Ok(Verdict::Changed(edits, Some(unit)))
}

/// Gives a volume a thin device made of the snapshot's, in place of its own.
pub(super) fn revert(
    intent: &Intent,
    id: Uuid,
    spec: &RevertSpec,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Verdict, Problem> {
    let unit = Unit::Volume(id);
    let entry = volume::find(intent, id)?;
    let volume = &entry.record;
    if reverts_to(volume, spec.snapshot) {
        return Ok(Verdict::Underway(unit));
    }
    check_present(id, entry)?;
    check_idle(intent, unit.object())?;
    check_unneeded(intent, unit.object())?;
    if !volume.retired.is_empty() {
        // The one before is not gone yet, and a volume goes back one step at a time.
        return Err(busy(ObjectKind::Volume, id, "reverted"));
    }
    let snapshot = find(intent, spec.snapshot)?;
    check_snapshot(unit.object(), volume, spec.snapshot, snapshot)?;
    check_interrupt(unit.object(), entry, spec)?;
    check_online(unit.object(), volume.pool, facts)?;
    let (thin_id, counter) = next_thin(intent, unit.object(), volume.pool, facts)?;
    let before = ThinRef {
        pool: volume.pool,
        thin_id: volume.thin_id,
    };
    let record = VolumeRecord {
        thin_id,
        phase: VolumePhase::Reverting,
        origin: Some(Origin {
            object: spec.snapshot,
            thin_id: snapshot.thin_id,
        }),
        retired: BTreeSet::from([before]),
        generation,
        ..volume.clone()
    };
    let edits = vec![counter, Edit::put(Record::Volume(id, record))];
    Ok(Verdict::Changed(edits, Some(unit)))
}

fn reverts_to(volume: &VolumeRecord, snapshot: Uuid) -> bool {
    let origin = volume.origin.map(|origin| origin.object);
    let reverting = matches!(
        volume.phase,
        VolumePhase::Reverting | VolumePhase::Replacing
    );
    reverting && origin == Some(snapshot)
}

fn check_snapshot(
    object: ObjectRef,
    volume: &VolumeRecord,
    id: Uuid,
    snapshot: &SnapshotRecord,
) -> Result<(), Problem> {
    if snapshot.volume != object.id {
        let detail = format!("snapshot {id} is of volume {}", snapshot.volume);
        return Err(refuse(ProblemCode::InvalidField, object, detail));
    }
    if snapshot.pool != volume.pool {
        let (here, there) = (volume.pool, snapshot.pool);
        let detail = format!("{object} is in pool {here}, but snapshot {id} in pool {there}");
        return Err(refuse(ProblemCode::WrongState, object, detail));
    }
    check_taken(id, snapshot)
}

fn check_interrupt(
    object: ObjectRef,
    entry: &VolumeEntry,
    spec: &RevertSpec,
) -> Result<(), Problem> {
    if entry.connections == 0 || spec.interrupt {
        return Ok(());
    }
    let detail = format!(
        "{object} has {}, and they were not to be interrupted",
        connections(entry.connections)
    );
    Err(refuse(ProblemCode::InUse, object, detail))
}

/// A snapshot has no id of a volume.
pub(super) fn check_id(intent: &Intent, object: ObjectRef) -> Result<(), Problem> {
    if intent.volume(object.id).is_none() {
        return Ok(());
    }
    let detail = format!("id {} is a volume's", object.id);
    Err(refuse(ProblemCode::Duplicate, object, detail))
}

/// A snapshot in motion is left alone.
pub(crate) fn check_taken(id: Uuid, snapshot: &SnapshotRecord) -> Result<(), Problem> {
    let doing = match snapshot.phase {
        SnapshotPhase::Present => return Ok(()),
        SnapshotPhase::Creating => "created",
        SnapshotPhase::Adopting => "adopted",
        SnapshotPhase::Releasing => "released",
        SnapshotPhase::Deleting => "deleted",
    };
    Err(busy(ObjectKind::Snapshot, id, doing))
}

pub(super) fn find(intent: &Intent, id: Uuid) -> Result<&SnapshotRecord, Problem> {
    intent
        .snapshot(id)
        .ok_or_else(|| missing(ObjectKind::Snapshot, id))
}
