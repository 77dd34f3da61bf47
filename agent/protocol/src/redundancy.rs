//! Disks of a pool that stand in for each other.

use ashlar_targetd_protocol::{DiskId, MemberState, RaidLevel, SetAction};
use serde::{Deserialize, Serialize};

/// How the disks of a pool stand in for each other. Those that it was made on are one set, and
/// so are those by which it grows each time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Redundancy {
    /// They do not: what is on a disk that fails is lost, and the pool with it.
    #[default]
    None,
    /// Each disk of a set has all of it: 2 to 32 disks.
    Raid1,
    /// Stripes over pairs of disks, the two of a pair with the same: an even number, 4 to 32.
    Raid10,
    /// Stripes with one parity, so any disk of a set can fail: 3 to 32.
    Raid5,
    /// Stripes with two parities, so any two disks of a set can fail: 4 to 32.
    Raid6,
}

impl Redundancy {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Redundancy::None
    }

    /// What a set does with what is written to it; nothing without redundancy.
    pub fn level(self) -> Option<RaidLevel> {
        match self {
            Redundancy::None => None,
            Redundancy::Raid1 => Some(RaidLevel::Raid1),
            Redundancy::Raid10 => Some(RaidLevel::Raid10),
            Redundancy::Raid5 => Some(RaidLevel::Raid5),
            Redundancy::Raid6 => Some(RaidLevel::Raid6),
        }
    }
}

/// What a client says to give the place of a disk to another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaceSpec {
    /// The disk of the pool that gives up its place, there or not.
    pub disk: DiskId,
    /// The disk that takes it.
    pub by: DiskId,
    /// Overwrite whatever that holds. Without it only a blank disk is taken.
    #[serde(default)]
    pub wipe: bool,
}

/// What a client says to have the disks of each set compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubSpec {
    /// What is done about those that differ.
    pub mode: ScrubMode,
}

/// What is done about disks that differ where they should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScrubMode {
    /// They are compared, and what differs is counted.
    Check,
    /// They are compared, counted and made the same.
    Repair,
    /// What was begun ends.
    Stop,
}

/// What a comparison of all disks of a pool came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scrubbed {
    /// When it ended, in seconds since 1970.
    pub time: u64,
    /// Bytes that differed where they should not.
    pub mismatches: u64,
}

/// A disk of a pool with redundancy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The disk.
    pub disk: DiskId,
    /// Its set, counted from 0.
    pub set: u32,
    /// How it is.
    pub state: MemberState,
}

/// A set of disks that stand in for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolSet {
    /// What the kernel does with all of it, beside what hosts do.
    pub action: SetAction,
    /// How far that is, in bytes.
    pub done: u64,
    /// Bytes it goes over.
    pub total: u64,
    /// Bytes that were found to differ where they should not, by the last scrub.
    pub mismatches: u64,
}

/// A disk that is to take the place of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    /// The disk that gives up its place.
    pub disk: DiskId,
    /// The one that is to have it.
    pub by: DiskId,
}
