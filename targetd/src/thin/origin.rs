//! Holding I/O back while something is made from a thin device.
//!
//! dm-thin shares blocks by time: what is written to an active origin while a snapshot of it is
//! made could land in blocks that both have. So its device rests for that moment. It is not
//! flushed: what hosts were told is written is in the pool, and what still waits for room in a
//! full pool would be waited for.

use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::{DmName, SuspendFlags};
use ashlar_targetd_protocol::ThinSource;

use super::act::resume;
use super::device::observe;
use crate::kernel::{Kernel, KernelError};
use crate::ours;

/// An active device on the thin device that something is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its name.
    pub name: DmName,
    /// A second table waits. The resume would make it live, so it is dropped before.
    pub second_table: bool,
}

/// The device that must rest while something is made from `source`, if any is active on it: that
/// of the volume, or of the snapshot, which has the source's id.
pub fn observe_origin(
    kernel: &Kernel,
    pool: Option<DeviceNumber>,
    source: &ThinSource,
) -> Result<Option<Origin>, KernelError> {
    for name in [
        ours::volume_device(source.object),
        ours::snapshot_device(source.object),
    ] {
        if let Some(device) = observe(kernel, &name)?.active()
            && device.is_on(pool, source.thin_id)
        {
            return Ok(Some(Origin {
                name,
                second_table: device.second_table,
            }));
        }
    }
    Ok(None)
}

/// Does something while a device rests. It does I/O again whatever comes of it.
pub fn snapshot_with<T>(
    kernel: &Kernel,
    origin: Option<&DmName>,
    work: impl FnOnce() -> Result<T, KernelError>,
) -> Result<T, KernelError> {
    let Some(origin) = origin else {
        return work();
    };
    kernel.dm.suspend(origin, SuspendFlags::NO_FLUSH)?;
    let outcome = work();
    let resumed = resume(kernel, origin);
    let outcome = outcome?;
    resumed?;
    Ok(outcome)
}

/// Does something while a device rests, which it does from then on; unless that fails.
pub fn stop_with<T>(
    kernel: &Kernel,
    device: &DmName,
    work: impl FnOnce() -> Result<T, KernelError>,
) -> Result<T, KernelError> {
    kernel.dm.suspend(device, SuspendFlags::NO_FLUSH)?;
    work().inspect_err(|_| {
        // The first error is the one to tell. A device that stays at rest goes on, or rests
        // again, by whatever is applied next.
        let _ = resume(kernel, device);
    })
}
