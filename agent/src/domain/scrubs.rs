//! Comparisons of the disks of pools: which count, and when the next is due.
//!
//! The kernel does not tell whether it came to the end. So one counts that was seen to go on, and in the
//! look after that to have ended without any disk missing data; one that somebody stopped does not. What
//! was seen before a start of this process counts for nothing: the power may have been cut.

use ashlar_protocol::Scrubbed;
use ashlar_targetd_protocol::{MemberState, PoolReport, SetAction};

use crate::domain::record::{PoolPhase, PoolRecord, Scrubs};

/// What is known of a pool's comparisons after it was seen so. `ended` says that one has come to its end.
pub fn after(pool: &PoolRecord, report: &PoolReport, now: u64, ended: bool) -> Scrubs {
    if pool.sets.is_empty() {
        return Scrubs::default();
    }
    let differing = || report.sets.iter().map(|set| set.mismatches.bytes().0).sum();
    Scrubs {
        first: pool.scrubs.first.or(Some(now)),
        last: match ended && !pool.is_changing_disks() {
            true => Some(Scrubbed {
                time: now,
                mismatches: differing(),
            }),
            false => pool.scrubs.last,
        },
    }
}

/// When the disks of a pool are to be compared next, in seconds since 1970, with so many seconds to a
/// day. A time that is still to come, because the clock was wrong, counts as now.
pub fn due(pool: &PoolRecord, now: u64, day: u64) -> Option<u64> {
    if pool.phase != PoolPhase::Present || pool.spec.scrub_days == 0 {
        return None;
    }
    let last = pool.scrubs.last.map(|last| last.time);
    let from = last.or(pool.scrubs.first)?.min(now);
    Some(from.saturating_add(u64::from(pool.spec.scrub_days).saturating_mul(day)))
}

/// Whether no disk misses data, and the kernel does nothing with any.
pub fn rests(report: &PoolReport) -> bool {
    let idle = |action| action == SetAction::Idle;
    is_whole(report) && report.sets.iter().all(|set| idle(set.action))
}

/// Whether disks are compared, and none misses data.
pub fn goes_on(report: &PoolReport) -> bool {
    let compares = |action| match action {
        SetAction::Check | SetAction::Repair => true,
        SetAction::Idle | SetAction::Resync | SetAction::Rebuild | SetAction::Frozen => false,
    };
    is_whole(report) && report.sets.iter().any(|set| compares(set.action))
}

fn is_whole(report: &PoolReport) -> bool {
    let mut members = report.sets.iter().flat_map(|set| &set.members);
    !report.sets.is_empty() && members.all(|state| *state == MemberState::InSync)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::PoolRecord;
    use crate::domain::samples::*;

    const DAY: u64 = 86_400;

    fn pool() -> PoolRecord {
        let world = World::redundant(ashlar_protocol::Redundancy::Raid1, 2);
        world.intent.pool(POOL).unwrap().record.clone()
    }

    fn seen(action: SetAction, mismatches: u64) -> PoolReport {
        let mut report = report(&[&[MemberState::InSync, MemberState::InSync]]);
        report.sets[0].action = action;
        report.sets[0].mismatches = ashlar_targetd_protocol::Sectors(mismatches);
        report
    }

    #[test]
    fn it_is_due_so_many_days_after_the_last_or_since_it_was_first_seen() {
        let mut pool = pool();
        assert_eq!(due(&pool, 1000, DAY), None, "it was not seen yet");
        let idle = seen(SetAction::Idle, 0);
        pool.scrubs = after(&pool, &idle, 1000, false);
        assert_eq!(due(&pool, 1000, DAY), Some(1000 + 30 * DAY));
        pool.spec.scrub_days = 1;
        assert_eq!(due(&pool, 1000, DAY), Some(1000 + DAY));
        pool.scrubs = after(&pool, &seen(SetAction::Idle, 8), 5000, true);
        let expected = Some(Scrubbed {
            time: 5000,
            mismatches: 4096,
        });
        assert_eq!(pool.scrubs.last, expected);
        assert_eq!(due(&pool, 6000, DAY), Some(5000 + DAY));
        assert_eq!(due(&pool, 400, DAY), Some(400 + DAY), "the clock was wrong");
        pool.scrubs = after(&pool, &idle, 9000, false);
        assert_eq!(pool.scrubs.last, expected);
        pool.spec.scrub_days = 0;
        assert_eq!(due(&pool, 9000, DAY), None);
    }

    #[test]
    fn one_goes_on_or_rests_only_while_no_disk_misses_data() {
        let cases = [
            (SetAction::Check, MemberState::InSync, (true, false)),
            (SetAction::Repair, MemberState::InSync, (true, false)),
            (SetAction::Idle, MemberState::InSync, (false, true)),
            (SetAction::Resync, MemberState::Resyncing, (false, false)),
            (SetAction::Frozen, MemberState::InSync, (false, false)),
            (SetAction::Idle, MemberState::Failed, (false, false)),
            (SetAction::Check, MemberState::Missing, (false, false)),
        ];
        for (action, member, expected) in cases {
            let mut report = seen(action, 0);
            report.sets[0].members[1] = member;
            let found = (goes_on(&report), rests(&report));
            assert_eq!(found, expected, "{action:?} {member:?}");
        }
    }

    #[test]
    fn what_ends_while_disks_are_to_change_does_not_count() {
        let mut world = World::redundant(ashlar_protocol::Redundancy::Raid1, 2);
        world.does(replace(1, "serial-DISK4"));
        let pool = &world.intent.pool(POOL).unwrap().record;
        let scrubs = after(pool, &seen(SetAction::Idle, 0), 1000, true);
        assert_eq!(scrubs.last, None);
    }
}
