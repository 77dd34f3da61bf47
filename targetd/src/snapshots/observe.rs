//! What the kernel has of snapshots.

use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_targetd_protocol::{DataState, DesiredSnapshot, DesiredSnapshots};

use crate::kernel::{Kernel, KernelError};
use crate::ours;
use crate::thin::{self, ActiveDevice, ObservedDevice, Origin};

/// What the kernel has of snapshots that belong together, in their order.
#[derive(Clone, Debug)]
pub struct ObservedSnapshots {
    /// Each of them.
    pub members: Vec<ObservedMember>,
}

/// What the kernel has of one snapshot.
#[derive(Clone, Debug)]
pub struct ObservedMember {
    /// The device of its pool, if the pool is active.
    pub pool: Option<DeviceNumber>,
    /// Its own device.
    pub device: ObservedDevice,
    /// What must rest while it is taken.
    pub origin: Option<Origin>,
}

impl ObservedMember {
    /// Its device, if that is active and on its thin device.
    pub fn active(&self, wanted: &DesiredSnapshot) -> Option<&ActiveDevice> {
        let device = self.device.active();
        device.filter(|device| device.is_on(self.pool, wanted.thin_id))
    }
}

/// Looks at snapshots: a handful of calls for each.
pub fn observe(
    kernel: &Kernel,
    desired: &DesiredSnapshots,
) -> Result<ObservedSnapshots, KernelError> {
    let taken = desired.data == DataState::Provision;
    let members = desired.members.iter().map(|member| {
        let pool = thin::pool_device(kernel, member.pool)?;
        Ok(ObservedMember {
            pool,
            device: thin::observe(kernel, &ours::snapshot_device(member.id))?,
            origin: match taken {
                true => thin::observe_origin(kernel, pool, &member.source)?,
                false => None,
            },
        })
    });
    Ok(ObservedSnapshots {
        members: members.collect::<Result<_, KernelError>>()?,
    })
}
