//! How the disks of a pool with redundancy are, as the kernel tells it.
//!
//! ```text
//! PoolReport ── told ──► edits: the record's `stale` ──► events
//!            └─ trouble ──► a sentence for who asks how the box is
//! ```
//!
//! What was told last is on record, because it has to be known when the kernel has nothing: a
//! disk that fell out of its set holds what is old, and may be readable again after a power cut.

use ashlar_protocol::{Member, PoolSet};
use ashlar_targetd_protocol::{MemberState, PoolReport, RaidLevel, SetAction, SetReport};
use uuid::Uuid;

use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::record::{PoolPhase, PoolRecord, Record};

/// What follows from a look at a pool: which of its disks miss data. Nothing when nothing was
/// told, or nothing new. The edits change nothing that the kernel is to have at once, so no unit
/// has to be brought up to them.
pub fn told(intent: &Intent, id: Uuid, report: &PoolReport) -> Vec<Edit> {
    let Some(pool) = intent.pool(id).map(|entry| &entry.record) else {
        return Vec::new();
    };
    match pool.phase {
        PoolPhase::Present => {}
        PoolPhase::Creating
        | PoolPhase::Withdrawn
        | PoolPhase::Exporting { .. }
        | PoolPhase::Deleting(_) => return Vec::new(),
    }
    let record = after(pool, report);
    match record == *pool {
        true => Vec::new(),
        false => vec![Edit::put(Record::Pool(id, record))],
    }
}

/// A pool of whose disks that was told.
pub fn after(pool: &PoolRecord, report: &PoolReport) -> PoolRecord {
    let mut stale = pool.stale.clone();
    let mut lost = pool.lost.clone();
    // Which of the two disks it is that has the place is not known until that has settled.
    let unsettled = pool.replacing.as_ref().map(|replacing| replacing.place);
    for seen in seen(pool, report).filter(|seen| Some(seen.place) != unsettled) {
        let place = seen.place;
        match seen.state {
            MemberState::InSync => {
                stale.remove(&place);
                lost.remove(&place);
            }
            // Whether it lacks anything is not told.
            MemberState::Resyncing => {}
            MemberState::Rebuilding | MemberState::Failed | MemberState::Missing => {
                let known = stale.insert(place, seen.state).is_some();
                if seen.usable {
                    lost.remove(&place);
                } else if !known {
                    lost.insert(place);
                }
            }
        }
    }
    PoolRecord {
        stale,
        lost,
        ..pool.clone()
    }
}

/// A disk of a pool as it was seen.
struct Seen {
    set: usize,
    place: u32,
    state: MemberState,
    /// Whether its set has all of its data without those that do not.
    usable: bool,
}

/// The disks that a report tells of. It has fewer sets than the record while the pool grows.
fn seen(pool: &PoolRecord, report: &PoolReport) -> impl Iterator<Item = Seen> {
    let ranges = pool.redundancy().map(|redundancy| {
        let ranges: Vec<_> = redundancy.ranges().collect();
        ranges
    });
    let sets = ranges.into_iter().flatten().zip(&report.sets).enumerate();
    // One of another width is not the set it is taken for.
    let sets = sets.filter(|(_, (range, told))| range.len() == told.members.len());
    sets.flat_map(|(set, (range, told))| {
        let level = pool.spec.redundancy.level();
        let usable = level.is_some_and(|level| level.survives(&whole(told)));
        range.zip(&told.members).map(move |(place, state)| Seen {
            set,
            place: place as u32,
            state: *state,
            usable,
        })
    })
}

/// Which disks of a set have what is written to it.
fn whole(set: &SetReport) -> Vec<bool> {
    set.members
        .iter()
        .map(|state| has_its_data(*state))
        .collect()
}

fn has_its_data(state: MemberState) -> bool {
    match state {
        MemberState::InSync | MemberState::Resyncing => true,
        MemberState::Rebuilding | MemberState::Failed | MemberState::Missing => false,
    }
}

/// The disks of a pool as clients see them.
pub fn members(pool: &PoolRecord, report: &PoolReport) -> Vec<Member> {
    let member = |seen: Seen| {
        let disk = pool.spec.disks.get(seen.place as usize)?;
        Some(Member {
            disk: disk.clone(),
            set: seen.set as u32,
            state: seen.state,
        })
    };
    seen(pool, report).filter_map(member).collect()
}

/// Its sets likewise.
pub fn sets(report: &PoolReport) -> Vec<PoolSet> {
    let set = |told: &SetReport| PoolSet {
        action: told.action,
        done: told.done.bytes().0,
        total: told.total.bytes().0,
        mismatches: told.mismatches.bytes().0,
    };
    report.sets.iter().map(set).collect()
}

/// What is wrong with the disks of a pool, set by set; nothing when all have their data.
pub fn trouble(pool: &PoolRecord, report: &PoolReport) -> Option<String> {
    let level = pool.spec.redundancy.level()?;
    let members = members(pool, report);
    let sets = report.sets.iter().enumerate().filter_map(|(number, set)| {
        let lame = members
            .iter()
            .filter(|member| member.set == number as u32 && !has_its_data(member.state));
        let lame: Vec<String> = lame
            .map(|member| format!("{} is {}", member.disk, words(member.state)))
            .collect();
        let rest = rest(level, set);
        let all = set.members.len();
        (!lame.is_empty()).then(|| {
            format!(
                "set {number}: {} of {all} disks not in sync, {}; {}; {rest}",
                lame.len(),
                lame.join(", "),
                progress(set)
            )
        })
    });
    let sets: Vec<String> = sets.collect();
    (!sets.is_empty()).then(|| sets.join(". "))
}

fn words(state: MemberState) -> &'static str {
    match state {
        MemberState::InSync => "in sync",
        MemberState::Rebuilding => "rebuilding",
        MemberState::Resyncing => "resyncing",
        MemberState::Failed => "failed",
        MemberState::Missing => "missing",
    }
}

fn progress(set: &SetReport) -> String {
    let percent = u128::from(set.done.0) * 100 / u128::from(set.total.0.max(1));
    match set.action {
        SetAction::Rebuild => format!("rebuilt to {percent} %"),
        SetAction::Idle
        | SetAction::Resync
        | SetAction::Check
        | SetAction::Repair
        | SetAction::Frozen => "nothing is being rebuilt".to_owned(),
    }
}

/// What a set that has not all of its disks can still lose.
fn rest(level: RaidLevel, set: &SetReport) -> &'static str {
    let whole = whole(set);
    let without = |place: usize| {
        let mut rest = whole.clone();
        rest[place] = false;
        level.survives(&rest)
    };
    let mut present = (0..whole.len()).filter(|place| whole[*place]);
    if !level.survives(&whole) {
        "it has not all of its data"
    } else if present.clone().all(without) {
        "it survives the loss of any other"
    } else if present.any(without) {
        "it does not survive the loss of just any other"
    } else {
        "it does not survive the loss of any other"
    }
}

#[cfg(test)]
mod tests;
