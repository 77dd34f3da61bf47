//! What the kernel has of a volume.

use std::collections::BTreeMap;

use ashlar_kernel_iface::blkio::Throttles;
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_targetd_protocol::ThinRef;
use uuid::Uuid;

use super::Goal;
use crate::kernel::{Kernel, KernelError};
use crate::ours;
use crate::thin::{self, ActiveDevice, ObservedDevice, Origin};
use crate::transport::{ObservedExports, Transports};

/// What the kernel has of a volume. Never mistaken for what is desired: devices are numbers here,
/// and sizes are those of live tables.
#[derive(Clone, Debug)]
pub struct ObservedVolume {
    /// The device of its pool, if the pool is active.
    pub pool: Option<DeviceNumber>,
    /// The devices of the pools it was in before, of those that are active.
    pub pools_before: BTreeMap<Uuid, DeviceNumber>,
    /// Its own device.
    pub device: ObservedDevice,
    /// The device by which a copy of it is read.
    pub copy: ObservedDevice,
    /// The device of the pool it moves to, if that pool is active.
    pub pool_after: Option<DeviceNumber>,
    /// The device by which its new place is written.
    pub target: ObservedDevice,
    /// What must rest while it is made from its source.
    pub origin: Option<Origin>,
    /// The limits of its device.
    pub throttles: Throttles,
    /// Its exports.
    pub exports: ObservedExports,
}

impl ObservedVolume {
    /// Whether a device is on a thin device that was the volume's before.
    pub fn is_on(&self, device: &ActiveDevice, before: &ThinRef) -> bool {
        device.is_on(self.pools_before.get(&before.pool).copied(), before.thin_id)
    }
}

/// Looks at a volume. A handful of calls, however many volumes there are.
pub fn observe(
    kernel: &Kernel,
    transports: &Transports,
    goal: &Goal<'_>,
) -> Result<ObservedVolume, KernelError> {
    let pool = match goal.thin {
        Some(thin) => thin::pool_device(kernel, thin.pool)?,
        None => None,
    };
    Ok(ObservedVolume {
        pool,
        pools_before: pools_before(kernel, goal)?,
        device: thin::observe(kernel, &ours::volume_device(goal.id))?,
        copy: thin::observe(kernel, &ours::copy_device(goal.id))?,
        pool_after: match goal.moving {
            Some(moving) => thin::pool_device(kernel, moving.to.pool)?,
            None => None,
        },
        target: thin::observe(kernel, &ours::target_device(goal.id))?,
        origin: match goal.source() {
            Some(source) => thin::observe_origin(kernel, pool, source)?,
            None => None,
        },
        throttles: Throttles::new(),
        exports: transports.observe(kernel.tree(), goal.id, goal.exports)?,
    })
}

fn pools_before(
    kernel: &Kernel,
    goal: &Goal<'_>,
) -> Result<BTreeMap<Uuid, DeviceNumber>, KernelError> {
    let mut pools = BTreeMap::new();
    for before in goal.retired {
        if let Some(number) = thin::pool_device(kernel, before.pool)? {
            pools.insert(before.pool, number);
        }
    }
    Ok(pools)
}
