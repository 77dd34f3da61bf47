//! One change of the kernel or of a disk on a pool's way to its desired state.

use std::collections::BTreeSet;
use std::fmt;

use ashlar_kernel_iface::block::{ArrayAmendment, PoolLabel};
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::Table;
use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{DiskId, FailureKind, RaidLevel, Sectors};

use crate::ours::{Member, PoolPart};
use crate::steps;

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make a disk blank.
    Wipe(DiskRef),
    /// Let the kernel make new metadata on a disk that is not yet labelled.
    ClearMetadata(DiskRef),
    /// Make a disk one that no set knows.
    ClearLeg(DiskRef),
    /// Write partition table and label.
    Format(DiskRef, PoolLabel),
    /// Make a linear device.
    Activate(PoolPart, Table),
    /// Make a set on the devices of its disks.
    ActivateSet(SetSpec),
    /// Give a set its table anew, so that the kernel looks at all of its disks. Meanwhile it does no
    /// I/O, and devices below it are put on other disks.
    ReloadSet(Reload),
    /// Make the thin pool on them.
    ActivateThin(ThinSpec),
    /// Give the thin pool a new table with other numbers; I/O pauses for a moment.
    Reload(ThinSpec),
    /// Give a linear device another table.
    Extend(PoolPart, Table),
    /// Give the thin pool all of the longer metadata device; I/O pauses for a moment.
    GrowMetadata(ThinSpec),
    /// Give the thin pool all of the longer data device; I/O pauses for a moment.
    Grow(ThinSpec),
    /// Say anew on a disk in use which part of the pool it is.
    Relabel(DiskRef, PoolLabel),
    /// Drop a table that was loaded and never used.
    DropSecondTable(PoolPart),
    /// Have a disk know what a set is to be put together by.
    Amend(DiskRef, ArrayAmendment),
    /// Have a disk know nothing of a set any more: what it has is too old.
    Forget(DiskRef),
    /// Let I/O go on.
    Resume(PoolPart),
    /// Remove a device; what is on the disks stays.
    Remove(PoolPart),
}

/// A disk, by what identifies it and by its number now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskRef {
    /// For people.
    pub id: DiskId,
    /// For the kernel.
    pub number: DeviceNumber,
}

/// An array of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSpec {
    /// Its number.
    pub number: u32,
    /// How its disks stand in for each other.
    pub level: RaidLevel,
    /// The size of what is on each of them.
    pub leg: Sectors,
    /// Its disks: for each place, how many had it before; nothing where none is there.
    pub legs: Vec<Option<u32>>,
    /// Places whose disk is new and gets its data from the others.
    pub rebuild: BTreeSet<u32>,
}

/// How a set is given its table anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Reload {
    /// What it is then.
    pub spec: SetSpec,
    /// Devices below it that are put on other disks meanwhile.
    pub moved: Vec<(PoolPart, Table)>,
    /// What its disks are to know before.
    pub told: Told,
}

/// What disks of a set are to know before the kernel looks at them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Those that know something else.
    pub amended: Vec<(DiskRef, ArrayAmendment)>,
    /// Those that are to know nothing.
    pub forgotten: Vec<DiskRef>,
}

impl fmt::Display for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reload set {}: {}", self.spec.number, self.spec)?;
        for (part, table) in &self.moved {
            write!(f, "; the {part} device is {table}")?;
        }
        for (disk, amendment) in &self.told.amended {
            f.write_str("; ")?;
            amended(f, disk, amendment)?;
        }
        for disk in &self.told.forgotten {
            write!(f, "; have disk {} know nothing of its set", disk.id)?;
        }
        Ok(())
    }
}

fn amended(f: &mut fmt::Formatter<'_>, disk: &DiskRef, amendment: &ArrayAmendment) -> fmt::Result {
    let failed = amendment.failed.count_ones();
    write!(
        f,
        "have disk {} know of {failed} failed disks of its set",
        disk.id
    )?;
    match amendment.resync {
        true => f.write_str(", which may not have been stopped in order"),
        false => Ok(()),
    }
}

impl SetSpec {
    /// Which disk of which set is at each place that has one.
    pub fn members(&self) -> impl Iterator<Item = Option<Member>> {
        (0..).zip(&self.legs).map(|(place, turn)| {
            turn.map(|turn| Member {
                set: self.number,
                place,
                turn,
            })
        })
    }
}

impl fmt::Display for SetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} disks of {}",
            self.level,
            self.legs.len(),
            self.leg
        )?;
        let gone = (0..).zip(&self.legs).filter(|(_, leg)| leg.is_none());
        for (place, _) in gone {
            write!(f, ", without number {place}")?;
        }
        for place in &self.rebuild {
            write!(f, ", number {place} new")?;
        }
        Ok(())
    }
}

/// A thin pool on the pool's two linear devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThinSpec {
    /// Size of the data.
    pub size: Sectors,
    /// Size of a block.
    pub block: Sectors,
    /// Free blocks below which the kernel raises an event.
    pub low_water_blocks: u64,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Wipe(disk) => write!(f, "wipe disk {}", disk.id),
            Step::ClearMetadata(disk) => write!(f, "clear the metadata on disk {}", disk.id),
            Step::ClearLeg(disk) => write!(f, "clear disk {} for a set", disk.id),
            Step::ActivateSet(spec) => write!(f, "activate set {}: {spec}", spec.number),
            Step::ReloadSet(reload) => reload.fmt(f),
            Step::Amend(disk, amendment) => amended(f, disk, amendment),
            Step::Forget(disk) => write!(f, "have disk {} know nothing of its set", disk.id),
            Step::Format(disk, label) => write!(
                f,
                "make disk {} number {} of {} of the pool",
                disk.id, label.index, label.count
            ),
            Step::Activate(part, table) => write!(f, "activate the {part} device: {table}"),
            Step::ActivateThin(spec) => write!(
                f,
                "activate the thin pool of {} in blocks of {}, low water at {} blocks",
                spec.size, spec.block, spec.low_water_blocks
            ),
            Step::Reload(spec) => {
                write!(f, "set the low water to {} blocks", spec.low_water_blocks)
            }
            Step::Extend(part, table) => write!(f, "extend the {part} device: {table}"),
            Step::GrowMetadata(_) => f.write_str("grow the metadata of the thin pool"),
            Step::Grow(spec) => write!(
                f,
                "grow the thin pool to {}, low water at {} blocks",
                spec.size, spec.low_water_blocks
            ),
            Step::Relabel(disk, label) => write!(
                f,
                "label disk {} as number {} of {} of the pool",
                disk.id, label.index, label.count
            ),
            Step::DropSecondTable(part) => write!(f, "drop the unused table of the {part} device"),
            Step::Resume(part) => write!(f, "resume the {part} device"),
            Step::Remove(part) => write!(f, "remove the {part} device"),
        }
    }
}

impl Step {
    /// The device that it makes.
    pub(super) fn activates(&self) -> Option<PoolPart> {
        match self {
            Step::Activate(part, _) => Some(*part),
            Step::ActivateSet(spec) => Some(PoolPart::Set(spec.number)),
            Step::ActivateThin(_) => Some(PoolPart::Thin),
            Step::Wipe(_)
            | Step::ClearLeg(_)
            | Step::ReloadSet(..)
            | Step::Amend(..)
            | Step::Forget(_)
            | Step::ClearMetadata(_)
            | Step::Format(..)
            | Step::Reload(_)
            | Step::Extend(..)
            | Step::GrowMetadata(_)
            | Step::Grow(_)
            | Step::Relabel(..)
            | Step::DropSecondTable(_)
            | Step::Resume(_)
            | Step::Remove(_) => None,
        }
    }
}

impl steps::Step for Step {
    fn meaning(&self, errno: Errno) -> FailureKind {
        match errno {
            Errno::EBUSY => FailureKind::InUse,
            Errno::ENXIO | Errno::ENODEV => FailureKind::Missing,
            _ => FailureKind::Kernel,
        }
    }
}
