//! Pools that lack disks get them when they are there again.
//!
//! The kernel tells of a disk that comes, and nobody else brings it to its pool: what is asked of the
//! pool has not changed. So a pool that lacks disks is applied once more whenever the disks that
//! could help it are others than the last time, and only then: an attempt that came to nothing does
//! not lead to another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use ashlar_protocol::DiskId;
use ashlar_targetd_protocol::{DiskReport, MemberState, PoolReport, SetAction};
use uuid::Uuid;

use crate::domain::Intent;
use crate::domain::record::PoolPhase;

/// What each pool that lacks disks was last applied for.
#[derive(Debug, Default)]
pub(super) struct Mended {
    last: Mutex<BTreeMap<Uuid, Chance>>,
}

/// What may help a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chance {
    /// Disks of it that are there and that nothing is on.
    disks: BTreeSet<DiskId>,
    /// Whether a set is being made the same, after which more can be done.
    resyncs: bool,
}

impl Mended {
    /// Whether a pool is to be applied once more for this.
    pub(super) fn is_new(&self, pool: Uuid, chance: Chance) -> bool {
        let is_one = !chance.disks.is_empty();
        let last = self.lock().insert(pool, chance.clone());
        is_one && last != Some(chance)
    }

    /// A pool lacks nothing.
    pub(super) fn is_whole(&self, pool: Uuid) {
        self.lock().remove(&pool);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Chance>> {
        self.last.lock().expect("no holder of this lock panics")
    }
}

/// The disks of a pool that lacks some, as far as is seen; nothing when it lacks none, or is not
/// to have them.
pub(super) fn lacking(intent: &Intent, report: &PoolReport) -> Option<BTreeSet<DiskId>> {
    let pool = &intent.pool(report.id)?.record;
    let lame = |state: &MemberState| match state {
        MemberState::InSync | MemberState::Resyncing | MemberState::Rebuilding => false,
        MemberState::Failed | MemberState::Missing => true,
    };
    let mut members = report.sets.iter().flat_map(|set| &set.members);
    let lacks = report.usage.is_none() || members.any(lame);
    let stands = pool.phase == PoolPhase::Present;
    (stands && lacks).then(|| pool.spec.disks.iter().cloned().collect())
}

/// What could help it.
pub(super) fn chance(
    lacking: &BTreeSet<DiskId>,
    report: &PoolReport,
    disks: &[DiskReport],
) -> Chance {
    let free = disks.iter().filter(|disk| !disk.in_use);
    let disks = free.filter(|disk| lacking.contains(&disk.id));
    Chance {
        disks: disks.map(|disk| disk.id.clone()).collect(),
        resyncs: report
            .sets
            .iter()
            .any(|set| set.action == SetAction::Resync),
    }
}

#[cfg(test)]
mod tests {
    use ashlar_protocol::Redundancy;
    use ashlar_targetd_protocol::{PoolUsage, Sectors};

    use super::*;
    use crate::domain::samples::{POOL, World, report};

    use MemberState::{Failed, InSync, Missing, Rebuilding};

    /// A pool that serves.
    fn seen(members: [MemberState; 2]) -> PoolReport {
        let usage = PoolUsage {
            transaction_id: 0,
            metadata_used: 0,
            metadata_total: 1000,
            data_used: 0,
            data_total: 1000,
            block: Sectors(128),
        };
        PoolReport {
            usage: Some(usage),
            ..report(&[&members])
        }
    }

    fn disk(serial: &str, in_use: bool) -> DiskReport {
        let template = World::empty().disks[0].clone();
        DiskReport {
            id: format!("serial-{serial}").parse().unwrap(),
            in_use,
            ..template
        }
    }

    #[test]
    fn a_pool_is_applied_once_more_for_each_disk_that_comes() {
        let world = World::redundant(Redundancy::Raid1, 2);
        let seen = report(&[&[InSync, Missing]]);
        let lacking = lacking(&world.intent, &seen).unwrap();
        let mended = Mended::default();
        let tried = |disks: &[DiskReport]| mended.is_new(POOL, chance(&lacking, &seen, disks));
        let used = disk("DISK0", true);
        assert!(!tried(std::slice::from_ref(&used)));
        assert!(!tried(&[used.clone(), disk("DISK7", false)]));
        let back = [used.clone(), disk("DISK1", false)];
        assert!(tried(&back));
        // It came to nothing.
        assert!(!tried(&back));
        assert!(!tried(std::slice::from_ref(&used)));
        assert!(tried(&back));
    }

    #[test]
    fn what_lacks_nothing_is_left_alone() {
        let world = World::redundant(Redundancy::Raid1, 2);
        for whole in [[InSync, InSync], [InSync, Rebuilding]] {
            assert_eq!(lacking(&world.intent, &seen(whole)), None);
        }
        for lame in [[InSync, Failed], [Missing, InSync]] {
            assert!(lacking(&world.intent, &seen(lame)).is_some());
        }
        // One that is not there at all lacks whatever there is.
        let gone = report(&[]);
        assert!(lacking(&world.intent, &gone).is_some());
    }

    #[test]
    fn the_end_of_a_resync_is_another_chance() {
        let world = World::redundant(Redundancy::Raid6, 4);
        let mut seen = report(&[&[InSync, InSync, InSync, Missing]]);
        seen.sets[0].action = SetAction::Resync;
        let lacking = lacking(&world.intent, &seen).unwrap();
        let mended = Mended::default();
        let back = [disk("DISK3", false)];
        assert!(mended.is_new(POOL, chance(&lacking, &seen, &back)));
        seen.sets[0].action = SetAction::Idle;
        assert!(mended.is_new(POOL, chance(&lacking, &seen, &back)));
        assert!(!mended.is_new(POOL, chance(&lacking, &seen, &back)));
    }
}
