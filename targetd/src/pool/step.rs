//! One change of the kernel or of a disk on a pool's way to its desired state.

use std::fmt;

use ashlar_kernel_iface::block::PoolLabel;
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::Table;
use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{DiskId, FailureKind, Sectors};

use crate::ours::PoolPart;
use crate::steps;

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make a disk blank.
    Wipe(DiskRef),
    /// Let the kernel make new metadata on a disk that is not yet labelled.
    ClearMetadata(DiskRef),
    /// Write partition table and label.
    Format(DiskRef, PoolLabel),
    /// Make one of the two linear devices.
    Activate(PoolPart, Table),
    /// Make the thin pool on them.
    ActivateThin(ThinSpec),
    /// Give the thin pool a new table with other numbers; I/O pauses for a moment.
    Reload(ThinSpec),
    /// Give one of the two linear devices a longer table.
    Extend(PoolPart, Table),
    /// Give the thin pool all of the longer metadata device; I/O pauses for a moment.
    GrowMetadata(ThinSpec),
    /// Give the thin pool all of the longer data device; I/O pauses for a moment.
    Grow(ThinSpec),
    /// Say anew on a disk in use which part of the pool it is.
    Relabel(DiskRef, PoolLabel),
    /// Drop a table that was loaded and never used.
    DropSecondTable(PoolPart),
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
            Step::ActivateThin(_) => Some(PoolPart::Thin),
            Step::Wipe(_)
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
