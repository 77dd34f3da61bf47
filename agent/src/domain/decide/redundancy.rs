//! How disks are laid out that stand in for each other.

use ashlar_protocol::{ObjectRef, Problem, ProblemCode, RaidLevel, Redundancy};
use ashlar_targetd_protocol::DiskReport;

use super::pool::room;
use super::refuse;
use crate::domain::record::SetRecord;

/// What an array keeps on each of its disks, rounded up: its superblock and its bitmap.
const MEMBER_OVERHEAD: u64 = 1 << 20;

/// A stretch of a pool that is laid out as one: a disk, or a set of them.
pub(super) struct Stretch {
    /// How many disks it is on.
    pub(super) disks: usize,
    /// Bytes it has for metadata and data together. targetd has the last word.
    pub(super) room: u64,
}

/// The stretches that disks make which come to a pool together.
pub(super) fn stretches(redundancy: Redundancy, disks: &[&DiskReport]) -> Vec<Stretch> {
    let rooms = disks.iter().map(|disk| room(disk));
    match redundancy.level() {
        None => rooms.map(|room| Stretch { disks: 1, room }).collect(),
        Some(level) => {
            let each = rooms.min().unwrap_or(0).saturating_sub(MEMBER_OVERHEAD);
            let room = each.saturating_mul(level.data_disks(disks.len() as u32).into());
            let disks = disks.len();
            vec![Stretch { disks, room }]
        }
    }
}

/// The set that disks make which come to a pool together; none without redundancy.
pub(super) fn set(redundancy: Redundancy, disks: &[&DiskReport]) -> Option<SetRecord> {
    redundancy.level()?;
    let smallest = disks.iter().map(|disk| disk.size.0).min()?;
    Some(SetRecord {
        width: disks.len() as u32,
        smallest,
    })
}

/// Whether so many disks make a set.
pub(super) fn check_width(
    object: ObjectRef,
    redundancy: Redundancy,
    disks: usize,
) -> Result<(), Problem> {
    let Some(level) = redundancy.level() else {
        return Ok(());
    };
    if u32::try_from(disks).is_ok_and(|width| level.takes(width)) {
        return Ok(());
    }
    let even = match level {
        RaidLevel::Raid10 => "an even number of ",
        RaidLevel::Raid1 | RaidLevel::Raid5 | RaidLevel::Raid6 => "",
    };
    let (least, most) = (level.least_disks(), RaidLevel::MOST_DISKS);
    let detail = format!("a set of {level} has {even}{least} to {most} disks, not {disks}");
    Err(refuse(ProblemCode::InvalidField, object, detail))
}
