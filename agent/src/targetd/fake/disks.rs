//! Disks that stand in for each other.

use ashlar_targetd_protocol::{
    DesiredPool, Failure, FailureKind, MemberState, PoolDisk, PoolFormat, Response, Scrub, Sectors,
    SetAction, SetReport,
};
use uuid::Uuid;

use super::{Kernel, applied};

/// What a disk has room for, in sectors.
const EACH: u64 = 1 << 21;

/// Sectors that a pool has for metadata and data together.
pub(super) fn room(pool: &DesiredPool) -> u64 {
    match &pool.redundancy {
        None => pool.disks.len() as u64 * EACH,
        Some(redundancy) => {
            let data = |width: &u32| u64::from(redundancy.level.data_disks(*width)) * EACH;
            redundancy.sets.iter().map(data).sum()
        }
    }
}

impl Kernel {
    /// Disks that are new to a pool take the places of others, if they can be had.
    pub(super) fn take_places(&mut self, desired: &DesiredPool) -> Result<(), Failure> {
        let has = |disk: &PoolDisk| {
            let pool = self.pools.get(&desired.id);
            pool.is_some_and(|pool| pool.disks.iter().any(|had| had.id == disk.id))
        };
        let new = |disk: &&PoolDisk| disk.takes_place.is_some() && !has(disk);
        let mut taken = Vec::new();
        for disk in desired.disks.iter().filter(new) {
            let Some(there) = self.disks.iter().find(|there| there.id == disk.id) else {
                return Err(Failure::new(FailureKind::Missing, "no such disk"));
            };
            if there.content.is_some() && disk.takes_place != Some(PoolFormat::Wipe) {
                return Err(Failure::new(FailureKind::NotBlank, "it holds something"));
            }
            taken.push((disk.id.clone(), MemberState::Rebuilding));
        }
        self.lame.extend(taken);
        Ok(())
    }

    /// How the sets of a pool are.
    pub(super) fn sets(&self, pool: &DesiredPool) -> Vec<SetReport> {
        let action = self.actions.get(&pool.id).copied();
        let ranges = pool.redundancy.iter().flat_map(|all| all.ranges());
        let state = |disk: &PoolDisk| {
            let lame = self.lame.get(&disk.id).copied();
            lame.unwrap_or(MemberState::InSync)
        };
        let set = |range: std::ops::Range<usize>| SetReport {
            members: pool.disks[range].iter().map(state).collect(),
            action: action.unwrap_or(SetAction::Idle),
            done: Sectors(EACH / 4),
            total: Sectors(EACH),
            mismatches: Sectors(0),
        };
        ranges.map(set).collect()
    }

    pub(super) fn scrub(&mut self, pool: Uuid, scrub: Scrub) -> Result<Response, Failure> {
        let redundant = self
            .pools
            .get(&pool)
            .is_some_and(|pool| pool.redundancy.is_some());
        let busy = self.actions.contains_key(&pool);
        match scrub {
            _ if !redundant => return Err(Failure::new(FailureKind::Refused, "no sets")),
            Scrub::Check | Scrub::Repair if busy => {
                return Err(Failure::new(FailureKind::InUse, "something goes on"));
            }
            Scrub::Check => self.actions.insert(pool, SetAction::Check),
            Scrub::Repair => self.actions.insert(pool, SetAction::Repair),
            Scrub::Stop => self.actions.remove(&pool),
        };
        Ok(applied(0))
    }
}
