//! What is stored of disks that stand in for each other.

use std::ops::Range;

use ashlar_protocol::{PoolSpec, Scrubbed};
use ashlar_targetd_protocol::{DiskId, Redundancy};
use serde::{Deserialize, Serialize};

use super::PoolRecord;

/// Disks of a pool that stand in for each other: those that follow the disks of the sets before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRecord {
    /// How many they are.
    pub width: u32,
    /// The size of the smallest that it was made on, in bytes. Others are used as far.
    pub smallest: u64,
}

/// A disk that is to take the place of another one. Until it has, that one can keep it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacing {
    /// The place among the pool's disks.
    pub place: u32,
    /// The disk that comes.
    pub by: DiskId,
    /// Its turn there; see [`Turns`].
    pub turn: u32,
    /// Whether what it holds may be overwritten.
    pub wipe: bool,
    /// The generation that brought it.
    pub since: u64,
}

/// The disks that ever were to have a place are counted, from 0. A disk that was given up before
/// it had it is counted too: what is labelled for it, or was made of it, is never taken for
/// another's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turns {
    /// Of the disk that has the place.
    pub now: u32,
    /// The last one that was counted.
    pub last: u32,
}

/// What is known of comparisons of a pool's disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrubs {
    /// When the pool was first seen to have something to compare, in seconds since 1970.
    pub first: Option<u64>,
    /// What the last one came to that was not interrupted.
    pub last: Option<Scrubbed>,
}

impl Scrubs {
    pub(super) fn is_default(&self) -> bool {
        *self == Scrubs::default()
    }
}

impl PoolRecord {
    /// How its disks stand in for each other; nothing when they do not.
    pub fn redundancy(&self) -> Option<Redundancy> {
        let level = self.spec.redundancy.level()?;
        let sets = self.sets.iter().map(|set| set.width).collect();
        Some(Redundancy { level, sets })
    }

    /// The set that has a place, and where that set begins and ends among the places.
    pub fn set_of(&self, place: u32) -> Option<(usize, Range<usize>)> {
        let redundancy = self.redundancy()?;
        let mut sets = redundancy.ranges().enumerate();
        sets.find(|(_, range)| range.contains(&(place as usize)))
    }

    /// The place of a disk.
    pub fn place_of(&self, disk: &DiskId) -> Option<u32> {
        let place = self.spec.disks.iter().position(|has| has == disk)?;
        u32::try_from(place).ok()
    }

    /// The disks that nobody else may have: its own, one that is to take the place of one, and those
    /// that wait.
    pub fn claimed_disks(&self) -> impl Iterator<Item = &DiskId> {
        let coming = self.replacing.iter().map(|replacing| &replacing.by);
        self.spec.disks.iter().chain(coming).chain(&self.spares)
    }

    /// Whether its disks are to become others than they are.
    pub fn is_changing_disks(&self) -> bool {
        self.growth.is_some() || self.replacing.is_some()
    }

    /// The turns at a place.
    pub fn turns(&self, place: u32) -> Turns {
        self.turns.get(&place).copied().unwrap_or_default()
    }

    /// What it was asked to be when it was made.
    pub fn first_spec(&self) -> PoolSpec {
        let mut spec = self.spec.clone();
        let places = spec.disks.iter_mut().enumerate();
        for (place, disk) in places {
            let former = self.former.get(&(place as u32));
            if let Some(first) = former.and_then(|former| former.first()) {
                disk.clone_from(first);
            }
        }
        if let Some(made_on) = self.made_on {
            spec.disks.truncate(made_on as usize);
        }
        spec
    }

    /// Whether the disk at a place is known to lack what was written to the others.
    pub fn lacks_data(&self, place: u32) -> bool {
        self.stale.contains_key(&place) && !self.lost.contains(&place)
    }

    /// Forgets what was to be of its disks beyond the first ones.
    pub fn keep_disks(&mut self, disks: u32) {
        let mut all = 0;
        self.sets.retain(|set| {
            all += set.width;
            all <= disks
        });
        self.stale.retain(|place, _| *place < disks);
        self.lost.retain(|place| *place < disks);
        self.spec.disks.truncate(disks as usize);
        self.metadata_rooms.truncate(disks as usize);
        self.catalog = self.catalog.filter(|catalog| catalog.place < disks);
    }
}
