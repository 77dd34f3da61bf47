//! Pools: disks that give room to thin volumes.

use ashlar_targetd_protocol::DiskId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::name::Name;
use crate::redundancy::{Member, PoolSet, Redundancy, Replacement, Scrubbed};

/// What a client says to create a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolSpec {
    /// A label for people.
    pub name: Name,
    /// The disks, 1 to 64, each once. Their order is kept.
    pub disks: Vec<DiskId>,
    /// How they stand in for each other, as one set. It is for good.
    #[serde(default, skip_serializing_if = "Redundancy::is_none")]
    pub redundancy: Redundancy,
    /// Allocation unit in bytes: a multiple of 65,536 from 65,536 to 1,073,741,824.
    /// Absent: 65,536.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u64>,
    /// Room for thin metadata in bytes, a multiple of 4,096 from 2 MiB to 15.8 GiB.
    /// Absent: chosen from the disks' size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_size: Option<u64>,
    /// Overwrite whatever the disks hold. Without it only blank disks are taken.
    #[serde(default)]
    pub wipe: bool,
    /// How much the thin volumes may be promised together, in percent of what is there for
    /// them: 100 to 100,000, or 0 for any amount.
    #[serde(default, skip_serializing_if = "none_said")]
    pub over_subscription: u32,
    /// How much of the capacity no volume is promised, in percent: 0 to 99.
    #[serde(default, skip_serializing_if = "none_said")]
    pub reserved: u32,
    /// When it is told to be filling up, and when it takes nothing new.
    #[serde(default, skip_serializing_if = "Watermarks::are_default")]
    pub watermarks: Watermarks,
    /// Days from one comparison of its disks to the next, which then begins by itself: 1 to 3,650, or
    /// 0 for never. Without redundancy there is nothing to compare.
    #[serde(default = "scrub_days", skip_serializing_if = "is_scrub_days")]
    pub scrub_days: u32,
}

/// Days between comparisons of disks where nothing is said.
pub const SCRUB_DAYS: u32 = 30;

fn scrub_days() -> u32 {
    SCRUB_DAYS
}

fn is_scrub_days(days: &u32) -> bool {
    *days == SCRUB_DAYS
}

impl PoolSpec {
    /// One on disks, with all else as it is when nothing is said of it.
    pub fn on(name: Name, disks: Vec<DiskId>) -> PoolSpec {
        PoolSpec {
            name,
            disks,
            redundancy: Redundancy::None,
            block_size: None,
            metadata_size: None,
            wipe: false,
            over_subscription: 0,
            reserved: 0,
            watermarks: Watermarks::default(),
            scrub_days: SCRUB_DAYS,
        }
    }
}

fn none_said(percent: &u32) -> bool {
    *percent == 0
}

/// How full a pool is when something happens, in percent of its data and of its metadata alike,
/// whichever is fuller. Each is 1 to 100, and none is more than the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watermarks {
    /// It is told.
    pub warn: u32,
    /// It is told once more, as urgent.
    pub critical: u32,
    /// Nothing new is made in it, and nothing extended. Hosts go on writing.
    pub stop: u32,
}

impl Default for Watermarks {
    fn default() -> Watermarks {
        Watermarks {
            warn: 75,
            critical: 90,
            stop: 97,
        }
    }
}

impl Watermarks {
    fn are_default(&self) -> bool {
        *self == Watermarks::default()
    }
}

/// How full a pool is, by its watermarks. A level is left once the pool is a little less full
/// than where it was reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolLevel {
    /// There is room.
    #[default]
    Ok,
    /// It is filling up.
    Warn,
    /// It is nearly full.
    Critical,
    /// It takes nothing new.
    Stop,
}

/// What a client says to take a pool over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportSpec {
    /// Although the box that had it did not let go of it, or its catalog lacks its last changes.
    #[serde(default)]
    pub force: bool,
}

/// What a client says to add disks to a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolGrowth {
    /// The disks that come, each once; with those it has, at most 64. With redundancy they are
    /// one more set, of as many disks as that takes.
    pub disks: Vec<DiskId>,
    /// Room for thin metadata in bytes afterwards: at least what there is, else as in
    /// [`PoolSpec::metadata_size`]. Absent: as suits the size of all disks. Metadata never grow
    /// without new disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_size: Option<u64>,
    /// Overwrite whatever the new disks hold. Without it only blank disks are taken.
    #[serde(default)]
    pub wipe: bool,
}

/// What a client says to change a pool; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolUpdate {
    /// A new label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// As in [`PoolSpec::over_subscription`]. What was promised stays promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_subscription: Option<u32>,
    /// As in [`PoolSpec::reserved`], likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<u32>,
    /// As in [`PoolSpec::watermarks`], all three. They hold at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermarks: Option<Watermarks>,
    /// All disks that are to wait for one of its own to go, in the order in which they are taken; at
    /// most [`MAX_SPARES`], each once. A pool has them with redundancy only; those that come are blank,
    /// of no pool, and large enough for one of its sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spares: Option<Vec<DiskId>>,
    /// As in [`PoolSpec::scrub_days`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrub_days: Option<u32>,
}

/// Most spares of a pool.
pub const MAX_SPARES: usize = 16;

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Its id.
    pub id: Uuid,
    /// Its label.
    pub name: Name,
    /// Its disks in order.
    pub disks: Vec<DiskId>,
    /// How they stand in for each other.
    #[serde(default, skip_serializing_if = "Redundancy::is_none")]
    pub redundancy: Redundancy,
    /// How each of them is, in the same order; absent without redundancy and while it is not
    /// online.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
    /// What goes on in each set, in order; absent likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<PoolSet>,
    /// Disks that wait to take the place of one that goes, by themselves, in that order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spares: Vec<DiskId>,
    /// A disk that is to take the place of one of them, until it has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacing: Option<Replacement>,
    /// Allocation unit in bytes.
    pub block_size: u64,
    /// Room for thin metadata in bytes.
    pub metadata_size: u64,
    /// What became of it.
    pub state: PoolState,
    /// Bytes for data; absent while it is not online.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
    /// Bytes of data in use; absent while it is not online.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// Bytes of metadata in use; absent while it is not online.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_used: Option<u64>,
    /// Sum of the sizes of its volumes in bytes.
    pub provisioned: u64,
    /// Bytes kept for thick volumes and their snapshots.
    #[serde(default)]
    pub thick: u64,
    /// How much its thin volumes may be promised together, in percent of what is there for
    /// them; 0 for any amount.
    #[serde(default)]
    pub over_subscription: u32,
    /// How much of its capacity no volume is promised, in percent.
    #[serde(default)]
    pub reserved: u32,
    /// How full it is, by its watermarks, as far as it is known.
    #[serde(default)]
    pub level: PoolLevel,
    /// When it is told to be filling up, and when it takes nothing new.
    #[serde(default)]
    pub watermarks: Watermarks,
    /// Days from one comparison of its disks to the next; 0 for never by itself.
    #[serde(default = "scrub_days")]
    pub scrub_days: u32,
    /// What the last comparison of all its disks came to, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrubbed: Option<Scrubbed>,
    /// How many volumes it has.
    pub volumes: u64,
    /// How many snapshots it has.
    #[serde(default)]
    pub snapshots: u64,
    /// The generation of its last change.
    pub generation: u64,
}

/// What became of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolState {
    /// Being made.
    Creating,
    /// Serving.
    Online,
    /// Known, but not active in the kernel.
    Offline,
    /// Active, but refusing new blocks.
    Degraded,
    /// Being destroyed.
    Deleting,
}
