//! Rules for volumes and snapshots that are made of what is in a pool already, and for letting
//! go of them without touching what they hold.
//!
//! ```text
//! thin device ── adopt ──► Adopting ──► Present ── release ──► Releasing ──► thin device
//!                             └── cannot be had ─────────────────┘
//! ```
//!
//! Nothing on this way destroys data.

use std::collections::BTreeSet;

use ashlar_protocol::volume::{GRANULARITY, MAX_SIZE};
use ashlar_protocol::{
    AdoptSnapshotSpec, AdoptSpec, ObjectKind, ObjectRef, Problem, ProblemCode, Provisioning, Qos,
    Unadoptable,
};
use ashlar_targetd_protocol::ThinRef;
use uuid::Uuid;

use super::connection::check_unconnected;
use super::data::check_idle;
use super::room::{self, Promise, check_room};
use super::snapshot::{self, check_taken};
use super::update::checked_qos;
use super::volume::{check_id, check_present, find, rounded};
use super::{
    Facts, Verdict, busy, check_online, check_unneeded, connections, missing, refuse, taken,
};
use crate::domain::change::Edit;
use crate::domain::intent::{Intent, VolumeEntry};
use crate::domain::record::{
    Record, SnapshotPhase, SnapshotRecord, Unit, VolumePhase, VolumeRecord,
};

/// Why no volume can be made of a thin device that maps nothing from `end` on.
pub fn unadoptable(intent: &Intent, thin: ThinRef, end: u64) -> Option<Unadoptable> {
    let Some(owner) = intent.owner_of_thin(thin) else {
        let most = intent.pool(thin.pool).map_or(0, room::most);
        let fits = end <= MAX_SIZE && end.next_multiple_of(GRANULARITY) <= most;
        return (!fits).then_some(Unadoptable::TooLarge);
    };
    let retired = match owner.kind {
        ObjectKind::Snapshot => intent
            .snapshot(owner.id)
            .is_some_and(|snapshot| snapshot.phase == SnapshotPhase::Deleting),
        _ => intent.volume(owner.id).is_some_and(|entry| {
            let deleted = matches!(
                entry.record.phase,
                VolumePhase::Clearing(_) | VolumePhase::Deleting
            );
            deleted || entry.record.retired.contains(&thin)
        }),
    };
    Some(match retired {
        true => Unadoptable::Retired,
        false => Unadoptable::Owned,
    })
}

pub(super) fn adopt(
    intent: &Intent,
    id: Uuid,
    spec: &AdoptSpec,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Verdict, Problem> {
    let object = Unit::Volume(id).object();
    let thin = ThinRef {
        pool: spec.pool,
        thin_id: spec.thin_id,
    };
    let asked = spec.size.map(|size| rounded(object, size)).transpose()?;
    if let Some(entry) = intent.volume(id) {
        return existing(id, entry, spec, thin, asked);
    }
    check_id(intent, object)?;
    let size = found(intent, object, thin, asked, facts)?;
    let promise = Promise {
        pool: thin.pool,
        provisioning: spec.provisioning,
        more: size,
        size,
    };
    check_room(intent, object, &promise)?;
    let record = VolumeRecord {
        name: spec.name.clone(),
        pool: thin.pool,
        thin_id: thin.thin_id,
        size,
        phase: VolumePhase::Adopting,
        growth: Vec::new(),
        created: facts.now,
        generation,
        labels: spec.labels.clone(),
        parent: None,
        // Nobody knows what it shares data with.
        family: Some(thin.pool),
        origin: None,
        retired: BTreeSet::new(),
        moving: None,
        owner: None,
        group: None,
        qos: checked_qos(object, spec.qos, facts)?,
        provisioning: spec.provisioning,
        purpose: None,
    };
    let edits = vec![Edit::put(Record::Volume(id, record))];
    Ok(Verdict::Changed(edits, Some(Unit::Volume(id))))
}

/// The size of a thin device that nobody has, as asked for or as it is found.
fn found(
    intent: &Intent,
    object: ObjectRef,
    thin: ThinRef,
    asked: Option<u64>,
    facts: &Facts<'_>,
) -> Result<u64, Problem> {
    if intent.pool(thin.pool).is_none() {
        return Err(missing(ObjectKind::Pool, thin.pool));
    }
    check_unowned(intent, object, thin)?;
    check_online(object, thin.pool, facts)?;
    size(object, thin, asked, seen_end(object, facts)?)
}

fn existing(
    id: Uuid,
    entry: &VolumeEntry,
    spec: &AdoptSpec,
    thin: ThinRef,
    asked: Option<u64>,
) -> Result<Verdict, Problem> {
    let there = &entry.record;
    let equal = there.name == spec.name
        && (there.pool, there.thin_id) == (thin.pool, thin.thin_id)
        && there.provisioning == spec.provisioning
        && there.qos.as_deref().copied() == spec.qos.filter(|qos: &Qos| !qos.is_unlimited())
        && asked.is_none_or(|size| there.size == size);
    match there.phase {
        _ if there.purpose.is_some() => Err(taken(ObjectKind::Volume, id)),
        VolumePhase::Releasing => Err(busy(ObjectKind::Volume, id, "released")),
        VolumePhase::Clearing(_) | VolumePhase::Deleting => {
            Err(busy(ObjectKind::Volume, id, "deleted"))
        }
        _ if !equal => Err(taken(ObjectKind::Volume, id)),
        VolumePhase::Adopting => Ok(Verdict::Underway(Unit::Volume(id))),
        VolumePhase::Creating => Err(busy(ObjectKind::Volume, id, "created")),
        VolumePhase::Present | VolumePhase::Reverting | VolumePhase::Replacing => {
            Ok(Verdict::Already(None))
        }
    }
}

fn check_unowned(intent: &Intent, object: ObjectRef, thin: ThinRef) -> Result<(), Problem> {
    match intent.owner_of_thin(thin) {
        Some(owner) => {
            let ThinRef { pool, thin_id } = thin;
            let detail = format!("thin device {thin_id} of pool {pool} belongs to {owner}");
            Err(refuse(ProblemCode::Duplicate, object, detail))
        }
        None => Ok(()),
    }
}

fn seen_end(object: ObjectRef, facts: &Facts<'_>) -> Result<u64, Problem> {
    match facts.thin_end {
        Some(seen) => seen.clone().map_err(|problem| problem.about(object)),
        // When that was asked it was somebody's, or its pool was not there.
        None => {
            let detail = format!("what {object} is to be made of has only now become free");
            Err(refuse(ProblemCode::Busy, object, detail))
        }
    }
}

fn size(object: ObjectRef, thin: ThinRef, asked: Option<u64>, end: u64) -> Result<u64, Problem> {
    let ThinRef { pool, thin_id } = thin;
    let of = format!("thin device {thin_id} of pool {pool}");
    if end > MAX_SIZE {
        let detail = format!("{of} ends at byte {end}, and a volume has {MAX_SIZE} at most");
        return Err(refuse(ProblemCode::OutOfRange, object, detail));
    }
    let least = end.next_multiple_of(GRANULARITY);
    match asked {
        Some(size) if size < end => {
            let detail = format!("size {size} is less than the {end} bytes at which {of} ends");
            Err(refuse(ProblemCode::OutOfRange, object, detail))
        }
        Some(size) => Ok(size),
        None if end == 0 => {
            let detail = format!("size is missing, and {of} maps nothing that would tell it");
            Err(refuse(ProblemCode::InvalidField, object, detail))
        }
        None => Ok(least),
    }
}

/// What else there is of it would be left without it: whoever lets go of it decides on that
/// first. A volume that is still being adopted is let go of as well: it is how one that cannot be
/// is got rid of.
pub(super) fn release(intent: &Intent, id: Uuid, generation: u64) -> Result<Verdict, Problem> {
    let entry = find(intent, id)?;
    let unit = Unit::Volume(id);
    match entry.record.phase {
        VolumePhase::Releasing => return Ok(Verdict::Underway(unit)),
        VolumePhase::Adopting => {}
        _ => check_present(id, entry)?,
    }
    let holding = match (entry.connections, entry.snapshots, entry.record.group) {
        (0, 0, None) => None,
        (0, 0, Some(group)) => Some(format!("is in group {group}")),
        (0, 1, _) => Some("has 1 snapshot".to_owned()),
        (0, snapshots, _) => Some(format!("has {snapshots} snapshots")),
        (count, ..) => Some(format!("has {}", connections(count))),
    };
    if let Some(holding) = holding {
        let detail = format!("{} {holding}", unit.object());
        return Err(refuse(ProblemCode::InUse, unit.object(), detail));
    }
    check_idle(intent, unit.object())?;
    check_unneeded(intent, unit.object())?;
    let record = VolumeRecord {
        phase: VolumePhase::Releasing,
        generation,
        ..entry.record.clone()
    };
    let edits = vec![Edit::put(Record::Volume(id, record))];
    Ok(Verdict::Changed(edits, Some(unit)))
}

/// Makes a snapshot of a volume of a thin device that nobody has, in the volume's pool.
pub(super) fn adopt_snapshot(
    intent: &Intent,
    id: Uuid,
    spec: &AdoptSnapshotSpec,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Verdict, Problem> {
    let object = Unit::Snapshot(id).object();
    let asked = spec.size.map(|size| rounded(object, size)).transpose()?;
    if let Some(there) = intent.snapshot(id) {
        return existing_snapshot(id, there, spec, asked);
    }
    snapshot::check_id(intent, object)?;
    let entry = find(intent, spec.volume)?;
    check_present(spec.volume, entry)?;
    check_idle(intent, Unit::Volume(spec.volume).object())?;
    let volume = &entry.record;
    let thin = ThinRef {
        pool: volume.pool,
        thin_id: spec.thin_id,
    };
    let size = found(intent, object, thin, asked, facts)?;
    if volume.provisioning == Provisioning::Thick {
        let promise = Promise {
            pool: thin.pool,
            provisioning: volume.provisioning,
            more: size,
            size,
        };
        check_room(intent, object, &promise)?;
    }
    let record = SnapshotRecord {
        name: spec.name.clone(),
        labels: spec.labels.clone(),
        volume: spec.volume,
        pool: thin.pool,
        thin_id: thin.thin_id,
        origin_thin: volume.thin_id,
        size,
        phase: SnapshotPhase::Adopting,
        group: None,
        // Nobody knows what it shares data with.
        family: Some(thin.pool),
        created: facts.now,
        generation,
        provisioning: volume.provisioning,
    };
    let edits = vec![Edit::put(Record::Snapshot(id, record))];
    Ok(Verdict::Changed(edits, Some(Unit::Snapshot(id))))
}

fn existing_snapshot(
    id: Uuid,
    there: &SnapshotRecord,
    spec: &AdoptSnapshotSpec,
    asked: Option<u64>,
) -> Result<Verdict, Problem> {
    let equal = there.name == spec.name
        && there.volume == spec.volume
        && there.thin_id == spec.thin_id
        && asked.is_none_or(|size| there.size == size);
    match there.phase {
        SnapshotPhase::Releasing => Err(busy(ObjectKind::Snapshot, id, "released")),
        SnapshotPhase::Deleting => Err(busy(ObjectKind::Snapshot, id, "deleted")),
        _ if !equal => Err(taken(ObjectKind::Snapshot, id)),
        SnapshotPhase::Adopting => Ok(Verdict::Underway(Unit::Snapshot(id))),
        SnapshotPhase::Creating => Err(busy(ObjectKind::Snapshot, id, "created")),
        SnapshotPhase::Present => Ok(Verdict::Already(None)),
    }
}

/// As for volumes.
pub(super) fn release_snapshot(
    intent: &Intent,
    id: Uuid,
    generation: u64,
) -> Result<Verdict, Problem> {
    let there = snapshot::find(intent, id)?;
    let unit = Unit::Snapshot(id);
    match there.phase {
        SnapshotPhase::Releasing => return Ok(Verdict::Underway(unit)),
        SnapshotPhase::Adopting => {}
        _ => check_taken(id, there)?,
    }
    if let Some(group) = there.group {
        let detail = format!("{} belongs to group snapshot {group}", unit.object());
        return Err(refuse(ProblemCode::InUse, unit.object(), detail));
    }
    check_unconnected(intent, id)?;
    check_idle(intent, unit.object())?;
    check_unneeded(intent, unit.object())?;
    let record = SnapshotRecord {
        phase: SnapshotPhase::Releasing,
        generation,
        ..there.clone()
    };
    let edits = vec![Edit::put(Record::Snapshot(id, record))];
    Ok(Verdict::Changed(edits, Some(unit)))
}
