//! Pools that leave for another box, and those that come from one.

use std::collections::BTreeSet;

use ashlar_protocol::{Connected, ImportSpec, ObjectKind, ObjectRef, Problem, ProblemCode};
use uuid::Uuid;

use super::pool::find_present;
use super::{Facts, Verdict, busy, kernel_away, refuse, snapshot, volume};
use crate::domain::change::Edit;
use crate::domain::command::Command;
use crate::domain::import;
use crate::domain::intent::Intent;
use crate::domain::record::{Key, PoolPhase, PoolRecord, Record, Unit};
use crate::domain::secrets::Random;

/// A pool is let go of with all that it has, when nobody uses any of that and nothing is under
/// way. What it costs grows with what it has: all of it is forgotten.
pub(super) fn export(intent: &Intent, id: Uuid, generation: u64) -> Result<Verdict, Problem> {
    if let Some(PoolPhase::Exporting { .. }) = intent.pool(id).map(|entry| entry.record.phase) {
        return Ok(Verdict::Underway(Unit::Pool(id)));
    }
    let there = find_present(intent, id)?;
    let object = Unit::Pool(id).object();
    if there.catalog.is_none() {
        let detail = format!(
            "{object} has no catalog that another box could take it over by; it gets one when it grows"
        );
        return Err(refuse(ProblemCode::WrongState, object, detail));
    }
    if there.is_changing_disks() {
        return Err(busy(ObjectKind::Pool, id, "given other disks"));
    }
    check_at_rest(intent, id)?;
    let record = PoolRecord {
        phase: PoolPhase::Exporting { since: generation },
        generation,
        ..there.clone()
    };
    let edits = vec![Edit::put(Record::Pool(id, record))];
    Ok(Verdict::Changed(edits, Some(Unit::Pool(id))))
}

fn check_at_rest(intent: &Intent, pool: Uuid) -> Result<(), Problem> {
    let object = Unit::Pool(pool).object();
    let in_use = |by: ObjectRef, why: &str| {
        let detail = format!("{object} cannot be exported while {by} is {why}");
        Err(refuse(ProblemCode::InUse, object, detail))
    };
    for (id, entry) in volumes(intent, pool) {
        let volume = Unit::Volume(id).object();
        volume::check_present(id, entry)?;
        if entry.connections > 0 {
            return in_use(volume, "connected");
        }
        if intent.work_on(volume).is_some() || entry.record.purpose.is_some() {
            return in_use(volume, "worked on");
        }
        if entry.record.moving.is_some() || !entry.record.retired.is_empty() {
            return in_use(volume, "moved or reverted");
        }
    }
    for (id, record) in intent.snapshots().iter().filter(|(_, s)| s.pool == pool) {
        let taken = Unit::Snapshot(*id).object();
        snapshot::check_taken(*id, record)?;
        let of = Connected::Snapshot(*id);
        if intent.connections_of(of, None).next().is_some() {
            return in_use(taken, "connected");
        }
        if intent.work_on(taken).is_some() {
            return in_use(taken, "worked on");
        }
    }
    let coming = intent.volumes().iter().find(|(_, entry)| {
        let moving = entry.record.moving;
        moving.is_some_and(|moving| moving.to.pool == pool)
    });
    match (
        coming,
        groups(intent, pool).find(|group| spans(intent, *group, pool)),
    ) {
        (Some((id, _)), _) => in_use(Unit::Volume(*id).object(), "moved to it"),
        (None, Some(group)) => in_use(Unit::Group(group).object(), "of other pools, too"),
        (None, None) => Ok(()),
    }
}

fn volumes(
    intent: &Intent,
    pool: Uuid,
) -> impl Iterator<Item = (Uuid, &crate::domain::intent::VolumeEntry)> {
    let all = intent.volumes().iter();
    all.filter(move |(_, entry)| entry.record.pool == pool)
        .map(|(id, entry)| (*id, entry))
}

/// Groups that have something in a pool.
fn groups(intent: &Intent, pool: Uuid) -> impl Iterator<Item = Uuid> {
    let of_volumes = volumes(intent, pool).filter_map(|(_, entry)| entry.record.group);
    let wholes = wholes(intent, pool).into_iter();
    let of_snapshots = wholes.filter_map(|id| Some(intent.group_snapshot(id)?.group));
    let all: BTreeSet<Uuid> = of_volumes.chain(of_snapshots).collect();
    all.into_iter()
}

/// Group snapshots that have something in a pool.
fn wholes(intent: &Intent, pool: Uuid) -> BTreeSet<Uuid> {
    let own = intent.snapshots().values().filter(|s| s.pool == pool);
    own.filter_map(|snapshot| snapshot.group).collect()
}

fn spans(intent: &Intent, group: Uuid, pool: Uuid) -> bool {
    let mut members = intent.volumes_of_group(group);
    let wholes = intent.group_snapshots().iter();
    let mut taken = wholes
        .filter(|(_, whole)| whole.group == group)
        .flat_map(|(id, _)| intent.snapshots_of_group(*id));
    members.any(|(_, entry)| entry.record.pool != pool)
        || taken.any(|(_, snapshot)| snapshot.pool != pool)
}

/// The pool that is being exported of which a command would change something. Nothing that was
/// promised is to be left behind.
pub(super) fn leaving(intent: &Intent, command: &Command) -> Option<Uuid> {
    let object = command.object();
    let of_volume = |id| intent.volume(id).map(|entry| entry.record.pool);
    let of_snapshot = |id| intent.snapshot(id).map(|record| record.pool);
    let pool = match command {
        Command::ConnectionCreate { spec, .. } => match spec.of {
            Connected::Volume(id) => of_volume(id),
            Connected::Snapshot(id) => of_snapshot(id),
        },
        Command::SnapshotCreate { spec, .. } => of_volume(spec.volume),
        Command::GroupSnapshotCreate { spec, .. } => {
            let mut members = intent.volumes_of_group(spec.group);
            members.find_map(|(_, entry)| exporting(intent, entry.record.pool))
        }
        _ => match object.kind {
            ObjectKind::Volume => of_volume(object.id),
            ObjectKind::Snapshot => of_snapshot(object.id),
            _ => None,
        },
    };
    exporting(intent, pool?)
}

fn exporting(intent: &Intent, pool: Uuid) -> Option<Uuid> {
    let phase = intent.pool(pool)?.record.phase;
    matches!(phase, PoolPhase::Exporting { .. }).then_some(pool)
}

/// What is forgotten with a pool that has left.
pub fn gone_with(intent: &Intent, pool: Uuid) -> Vec<Edit> {
    let snapshots = intent.snapshots().iter().filter(|(_, s)| s.pool == pool);
    let snapshots = snapshots.map(|(id, _)| Key::Snapshot(*id));
    let volumes = volumes(intent, pool).map(|(id, _)| Key::Volume(id));
    let wholes = wholes(intent, pool).into_iter().map(Key::GroupSnapshot);
    let groups = groups(intent, pool).map(Key::Group);
    let own = [Key::ThinCounter(pool), Key::Pool(pool)];
    let keys = snapshots
        .chain(volumes)
        .chain(wholes)
        .chain(groups)
        .chain(own);
    keys.map(Edit::Remove).collect()
}

/// A pool comes with all that its catalog has, at once.
pub(super) fn import(
    intent: &Intent,
    id: Uuid,
    spec: ImportSpec,
    generation: u64,
    facts: &Facts<'_>,
    random: &mut dyn Random,
) -> Result<Verdict, Problem> {
    let object = Unit::Pool(id).object();
    if intent.pool(id).is_some() {
        let detail = format!("{object} is on this box already");
        return Err(refuse(ProblemCode::AlreadyExists, object, detail));
    }
    let found = match facts.catalog {
        Some(Ok(found)) => found,
        Some(Err(problem)) => return Err(problem.clone()),
        None => return Err(kernel_away(object)),
    };
    let edits = import::import(intent, id, found, (spec.force, generation), random)?;
    Ok(Verdict::Changed(edits, Some(Unit::Pool(id))))
}
