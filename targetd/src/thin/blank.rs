//! Proving that a thin device holds nothing.
//!
//! A thin device that is there already, when it should be made, was either left by an attempt
//! whose answer was lost, or it is somebody's. The pool does not tell how much an inactive one
//! holds, so it is activated for a moment, read-only and under a name that is used for nothing
//! else.

use ashlar_kernel_iface::dm::{DmAccess, DmName, PoolMessage, StatusFreshness, ThinStatus};
use ashlar_kernel_iface::tree::{Change, Errno};
use ashlar_targetd_protocol::Sectors;
use uuid::Uuid;

use super::act::{Place, activate, tell};
use crate::kernel::{Kernel, KernelError};
use crate::ours;

/// Makes the thin device of a new volume. One that is there is as good if it holds nothing, and
/// [`KernelError::Occupied`] otherwise.
pub fn create_blank(kernel: &Kernel, volume: Uuid, place: &Place) -> Result<Change, KernelError> {
    let message = PoolMessage::CreateThin(place.id);
    let change = tell(kernel, place.pool, &message, Errno::EEXIST)?;
    if change == Change::Unchanged {
        prove_blank(kernel, volume, place)?;
    }
    Ok(change)
}

fn prove_blank(kernel: &Kernel, volume: Uuid, place: &Place) -> Result<(), KernelError> {
    let name = ours::probe_device(volume);
    // Left by whoever could not remove it.
    if kernel.dm.info(&name)?.is_some() {
        kernel.dm.remove(&name)?;
    }
    activate(kernel, &name, place, DmAccess::ReadOnly)?;
    let held = holds(kernel, &name);
    kernel.dm.remove(&name)?;
    match held? {
        Sectors(0) => Ok(()),
        mapped => Err(KernelError::Occupied {
            id: place.id,
            mapped,
        }),
    }
}

fn holds(kernel: &Kernel, name: &DmName) -> Result<Sectors, KernelError> {
    match kernel.dm.thin_status(name, StatusFreshness::Committed)? {
        Some(ThinStatus::Good { mapped, .. }) => Ok(mapped),
        // A pool that failed says nothing of its thin devices.
        Some(ThinStatus::Failed | ThinStatus::NotOpen) | None => {
            Err(KernelError::Inactive(name.clone()))
        }
    }
}

/// Removes what an earlier process left of its looks. One that cannot be removed now is in
/// nobody's way: the next look at the same volume removes it.
pub fn remove_probes(kernel: &Kernel) -> Result<(), KernelError> {
    for device in kernel.dm.list()? {
        if ours::probe_named(&device.name).is_none() || !ours::is_marked(&device.name, &device.uuid)
        {
            continue;
        }
        let Ok(name) = device.name.parse::<DmName>() else {
            continue;
        };
        match kernel.dm.remove(&name) {
            Ok(()) => tracing::info!(device = %name, "removed a probe that was left"),
            Err(error) => tracing::warn!(%error, "a probe stays"),
        }
    }
    Ok(())
}
