//! The devices with which a volume moves to another pool while it is in use.
//!
//! ```text
//! volume ── device ── thin device                  what hosts use
//!                        └─ taken ─ copy ── device ──► the agent reads
//!                 target in the other pool ── device ◄── the agent writes
//! ```
//!
//! Copy follows copy, each with less that is new, until one is taken and the volume's device
//! rests from then on. When that is brought over too, a swap puts the device on the target.

use std::fmt;

use ashlar_kernel_iface::dm::{DmAccess, DmName, PoolMessage};
use ashlar_kernel_iface::tree::{Change, Errno};
use ashlar_targetd_protocol::ThinId;
use uuid::Uuid;

use super::observe::ObservedVolume;
use super::step::{CopyIo, Step};
use super::{Goal, ThinGoal};
use crate::kernel::{Kernel, KernelError};
use crate::ours;
use crate::thin::{self, ActiveDevice, ObservedDevice, Place};

/// A device beside the volume's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// What is read.
    Copy,
    /// What is written.
    Target,
}

impl Aside {
    /// Its name.
    pub fn device(self, volume: Uuid) -> DmName {
        match self {
            Aside::Copy => ours::copy_device(volume),
            Aside::Target => ours::target_device(volume),
        }
    }

    pub(super) fn access(self) -> DmAccess {
        match self {
            Aside::Copy => DmAccess::ReadOnly,
            Aside::Target => DmAccess::ReadWrite,
        }
    }
}

impl fmt::Display for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Aside::Copy => "the copy",
            Aside::Target => "the target",
        })
    }
}

/// The steps from the devices there are to those there should be.
pub(super) fn steps(goal: &Goal<'_>, observed: &ObservedVolume) -> Vec<Step> {
    let mut steps = target_steps(goal, observed);
    steps.extend(copy_steps(goal, observed));
    steps
}

fn target_steps(goal: &Goal<'_>, observed: &ObservedVolume) -> Vec<Step> {
    let found = &observed.target;
    let Some((thin, moving)) = goal.thin.zip(goal.moving) else {
        return removal(Aside::Target, found);
    };
    let place = Place {
        pool: moving.to.pool,
        id: moving.to.thin_id,
        size: thin.size,
    };
    let on = |device: &&ActiveDevice| device.is_on(observed.pool_after, place.id);
    let proven = found.active().filter(on);
    if proven.is_some_and(|device| stands(Aside::Target, device, &thin)) {
        return Vec::new();
    }
    let mut steps = removal(Aside::Target, found);
    if proven.is_none() {
        steps.push(Step::CreateThin(place));
    }
    steps.push(Step::ActivateAside(Aside::Target, place));
    steps
}

fn copy_steps(goal: &Goal<'_>, observed: &ObservedVolume) -> Vec<Step> {
    let found = &observed.copy;
    let wanted = goal.thin.zip(goal.moving).and_then(|(thin, moving)| {
        let id = moving.copy?;
        Some((thin, Place { id, ..thin.place() }))
    });
    let Some((thin, place)) = wanted else {
        return removal(Aside::Copy, found);
    };
    let io = match (goal.needs_device(), goal.is_still()) {
        (false, _) => CopyIo::None,
        (true, false) => CopyIo::Rests,
        (true, true) => CopyIo::Stops,
    };
    let on = |device: &&ActiveDevice| device.is_on(observed.pool, place.id);
    // One that was taken of a device which went on since lacks what came then.
    let went_on = io == CopyIo::Stops && !observed.device.active().is_some_and(|d| d.suspended);
    let proven = found.active().filter(on).filter(|_| !went_on);
    if proven.is_some_and(|device| stands(Aside::Copy, device, &thin)) {
        return Vec::new();
    }
    let mut steps = removal(Aside::Copy, found);
    if proven.is_none() {
        steps.push(Step::TakeCopy {
            pool: place.pool,
            id: place.id,
            of: thin.thin_id,
            io,
        });
    }
    steps.push(Step::ActivateAside(Aside::Copy, place));
    steps
}

fn removal(aside: Aside, found: &ObservedDevice) -> Vec<Step> {
    match found {
        ObservedDevice::Absent | ObservedDevice::Foreign(_) => Vec::new(),
        ObservedDevice::Empty | ObservedDevice::Active(_) => vec![Step::DeactivateAside(aside)],
    }
}

fn stands(aside: Aside, device: &ActiveDevice, thin: &ThinGoal) -> bool {
    let read_only = aside.access() == DmAccess::ReadOnly;
    let spoilt = device.suspended || device.second_table;
    device.size == thin.size && device.read_only == read_only && !spoilt
}

/// Takes a copy of a volume whose device, if any is active, is `device`.
pub(super) fn take_copy(
    kernel: &Kernel,
    device: &DmName,
    pool: Uuid,
    (id, origin): (ThinId, ThinId),
    io: CopyIo,
) -> Result<Change, KernelError> {
    let message = PoolMessage::CreateSnapshot { id, origin };
    let take = || thin::tell(kernel, pool, &message, Errno::EEXIST);
    match io {
        CopyIo::None => take(),
        CopyIo::Rests => thin::snapshot_with(kernel, Some(device), take),
        // The one that is there already may have been taken before the device went on.
        CopyIo::Stops => thin::stop_with(kernel, device, || match take()? {
            Change::Changed => Ok(Change::Changed),
            Change::Unchanged => {
                let gone = PoolMessage::Delete(id);
                let _ = thin::tell(kernel, pool, &gone, Errno::ENODATA)?;
                take()
            }
        }),
    }
}
