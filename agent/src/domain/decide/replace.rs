//! Rules for disks that take the place of others, and for comparing disks.

use ashlar_protocol::pool::MAX_SPARES;
use ashlar_protocol::{
    DiskId, ObjectKind, ObjectRef, Problem, ProblemCode, RaidLevel, ReplaceSpec,
};
use ashlar_targetd_protocol::{DiskReport, MemberState, SetAction, SetReport};
use uuid::Uuid;

use super::pool::{find_present, free_disks};
use super::{Facts, Verdict, busy, check_online, kernel_away, refuse, system};
use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::record::{PoolRecord, Record, Replacing, SetRecord, Unit};

const MIB: u64 = 1 << 20;

/// A disk of a pool gives its place to another one. What the other disks of its set have is all
/// there is to rebuild it from, so it is judged by how they are just now.
pub(super) fn replace(
    intent: &Intent,
    id: Uuid,
    spec: &ReplaceSpec,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Verdict, Problem> {
    let there = find_present(intent, id)?;
    let object = Unit::Pool(id).object();
    let unit = Unit::Pool(id);
    let level = level_of(object, there)?;
    if spec.disk == spec.by {
        let detail = format!(
            "disk {} has that place already; another disk takes it, and then this one may come back",
            spec.by
        );
        return Err(refuse(ProblemCode::InvalidField, object, detail));
    }
    let place = there.place_of(&spec.disk);
    match &there.replacing {
        Some(under_way) if Some(under_way.place) == place && under_way.by == spec.by => {
            return Ok(Verdict::Underway(unit));
        }
        Some(_) => return Err(busy(ObjectKind::Pool, id, "given another disk")),
        None => {}
    }
    if there.growth.is_some() {
        return Err(busy(ObjectKind::Pool, id, "grown"));
    }
    let Some(place) = place else {
        if has_replaced(there, spec) {
            return Ok(Verdict::Already(Some(unit)));
        }
        let detail = format!("{object} has no disk {}", spec.disk);
        return Err(refuse(ProblemCode::NotFound, object, detail));
    };
    check_unclaimed(intent, object, there, spec)?;
    if !facts.kernel {
        return Err(kernel_away(object));
    }
    check_online(object, id, facts)?;
    let by = std::slice::from_ref(&spec.by);
    for disk in free_disks(object, by, spec.wipe, facts)? {
        check_size(object, there, place, disk)?;
    }
    check_survives(object, there, (level, place), facts.sets)?;
    let record = PoolRecord {
        generation,
        replacing: Some(Replacing {
            place,
            by: spec.by.clone(),
            turn: there.turns(place).last + 1,
            wipe: spec.wipe,
            since: generation,
        }),
        ..there.clone()
    };
    let edits = vec![Edit::put(Record::Pool(id, record))];
    Ok(Verdict::Changed(edits, Some(unit)))
}

/// Whether a pool can be told to compare its disks, or to stop that.
///
/// # Errors
/// When it is not there, has nothing to compare, or takes no changes.
pub fn check_scrub(intent: &Intent, id: Uuid) -> Result<(), Problem> {
    let object = Unit::Pool(id).object();
    if let Some(frozen) = intent.frozen() {
        return Err(system::refusal(object, frozen));
    }
    level_of(object, find_present(intent, id)?).map(drop)
}

fn level_of(object: ObjectRef, pool: &PoolRecord) -> Result<RaidLevel, Problem> {
    pool.spec.redundancy.level().ok_or_else(|| {
        let detail = format!("{object} has no redundancy: no disk of it stands in for another");
        refuse(ProblemCode::WrongState, object, detail)
    })
}

/// Whether the last to have a place before the disk that has it was the one that is to give it
/// up.
fn has_replaced(there: &PoolRecord, spec: &ReplaceSpec) -> bool {
    let place = there.place_of(&spec.by);
    let former = place.and_then(|place| there.former.get(&place));
    former.and_then(|former| former.last()) == Some(&spec.disk)
}

fn check_unclaimed(
    intent: &Intent,
    object: ObjectRef,
    there: &PoolRecord,
    spec: &ReplaceSpec,
) -> Result<(), Problem> {
    let by = &spec.by;
    let detail = match intent.pool_of_disk(by) {
        None => return Ok(()),
        Some(_) if there.spares.contains(by) => return Ok(()),
        Some(owner) if owner == object.id => format!("disk {by} is one of {object} already"),
        Some(owner) => format!("disk {by} belongs to pool {owner}"),
    };
    Err(refuse(ProblemCode::InUse, object, detail))
}

/// Whole MiB are used, so within one of them targetd has to say.
fn check_size(
    object: ObjectRef,
    there: &PoolRecord,
    place: u32,
    disk: &DiskReport,
) -> Result<(), Problem> {
    let set = there.set_of(place).and_then(|(set, _)| there.sets.get(set));
    match set {
        Some(set @ SetRecord { smallest, .. }) if !fits(set, disk) => {
            let detail = format!(
                "disk {} has {} bytes, and its set uses the {smallest} of its smallest",
                disk.id, disk.size.0
            );
            Err(refuse(ProblemCode::NoSpace, object, detail))
        }
        _ => Ok(()),
    }
}

fn fits(set: &SetRecord, disk: &DiskReport) -> bool {
    disk.size.0 / MIB + 1 >= set.smallest / MIB
}

/// Whether a disk is large enough for a place of a pool.
pub fn fits_place(pool: &PoolRecord, place: u32, disk: &DiskReport) -> bool {
    let set = pool.set_of(place).and_then(|(set, _)| pool.sets.get(set));
    set.is_some_and(|set| fits(set, disk))
}

/// Whether disks may wait for one of a pool's to go. Those that do so already are not looked at: they
/// may be missing just now.
pub(super) fn check_spares(
    intent: &Intent,
    object: ObjectRef,
    there: &PoolRecord,
    spares: &[DiskId],
    facts: &Facts<'_>,
) -> Result<(), Problem> {
    if !spares.is_empty() {
        level_of(object, there)?;
    }
    if spares.len() > MAX_SPARES {
        let detail = format!(
            "a pool has {MAX_SPARES} spares at most, not {}",
            spares.len()
        );
        return Err(refuse(ProblemCode::InvalidField, object, detail));
    }
    let mut new = Vec::new();
    for (at, spare) in spares.iter().enumerate() {
        if spares[..at].contains(spare) {
            let detail = format!("disk {spare} is named twice");
            return Err(refuse(ProblemCode::InvalidField, object, detail));
        }
        if there.spares.contains(spare) {
            continue;
        }
        if let Some(owner) = intent.pool_of_disk(spare) {
            let detail = format!("disk {spare} belongs to pool {owner}");
            return Err(refuse(ProblemCode::InUse, object, detail));
        }
        new.push(spare.clone());
    }
    if !new.is_empty() && !facts.kernel {
        return Err(kernel_away(object));
    }
    for disk in free_disks(object, &new, false, facts)? {
        if !there.sets.iter().any(|set| fits(set, disk)) {
            let detail = format!(
                "disk {} has {} bytes, and no set of the pool is on disks that small",
                disk.id, disk.size.0
            );
            return Err(refuse(ProblemCode::NoSpace, object, detail));
        }
    }
    Ok(())
}

/// What the set has without the disk is to be all of its data, as its disks are now. What was
/// told of them before does not count.
fn check_survives(
    object: ObjectRef,
    there: &PoolRecord,
    (level, place): (RaidLevel, u32),
    told: &[SetReport],
) -> Result<(), Problem> {
    let found = there.set_of(place).and_then(|(set, range)| {
        let told = told.get(set)?;
        let same = told.members.len() == range.len();
        same.then_some((set, place as usize - range.start, told))
    });
    let Some((set, at, told)) = found else {
        let detail = format!("targetd does not tell how the disks of {object} are just now");
        return Err(refuse(ProblemCode::TargetdUnavailable, object, detail));
    };
    let in_sync = |state: &MemberState| *state == MemberState::InSync;
    // Until they are the same, the others may not tell what is on this one.
    if told.action == SetAction::Resync {
        let detail = format!("the disks of set {set} of {object} are being made the same");
        return Err(refuse(ProblemCode::Busy, object, detail));
    }
    let mut whole: Vec<bool> = told.members.iter().map(in_sync).collect();
    whole[at] = false;
    if level.survives(&whole) {
        return Ok(());
    }
    let left = whole.iter().filter(|whole| **whole).count();
    let detail = format!(
        "set {set} of {object} would not have all of its data: without that disk {left} of {} are \
         in sync",
        whole.len()
    );
    Err(refuse(ProblemCode::WrongState, object, detail))
}
