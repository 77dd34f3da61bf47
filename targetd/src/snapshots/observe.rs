//! What the kernel has of snapshots.

use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_targetd_protocol::{DataState, DesiredSnapshot, DesiredSnapshots, SnapshotsKind};

use crate::kernel::{Kernel, KernelError};
use crate::ours;
use crate::thin::{self, ActiveDevice, ObservedDevice, Origin};
use crate::transport::{Exported, ObservedExports, Subject, Transports};

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
    /// Its exports.
    pub exports: ObservedExports,
}

impl ObservedMember {
    /// Its device, if that is active and on its thin device.
    pub fn active(&self, wanted: &DesiredSnapshot) -> Option<&ActiveDevice> {
        let device = self.device.active();
        device.filter(|device| device.is_on(self.pool, wanted.thin_id))
    }

    /// Its device, if that is as it is to be.
    pub fn standing(&self, wanted: &DesiredSnapshot) -> Option<&ActiveDevice> {
        let device = self.active(wanted);
        device.filter(|device| device.size == wanted.size && device.read_only)
    }

    /// The snapshot as its transports have to know it.
    pub fn subject<'a>(&self, wanted: &'a DesiredSnapshot) -> Subject<'a> {
        Subject {
            what: Exported::Snapshot(wanted.id),
            device: self.standing(wanted).map(|device| device.number),
            grows: false,
            cut: &wanted.cut,
            exports: &wanted.exports,
        }
    }
}

/// Whether this decides about the exports of its members. Those of a group snapshot that stands
/// have generations of their own, which only what is said of each by itself goes by; those of one
/// that is destroyed go with it. Members of a group are volumes.
pub(super) fn decides_about_exports(desired: &DesiredSnapshots) -> bool {
    match desired.kind {
        SnapshotsKind::Snapshot => true,
        SnapshotsKind::GroupSnapshot => desired.data == DataState::Tombstone,
        SnapshotsKind::Group => false,
    }
}

/// Looks at snapshots: a handful of calls for each.
pub fn observe(
    kernel: &Kernel,
    transports: &Transports,
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
            exports: match decides_about_exports(desired) {
                true => transports.observe(kernel.tree(), member.id, &member.exports)?,
                false => ObservedExports::default(),
            },
        })
    });
    Ok(ObservedSnapshots {
        members: members.collect::<Result<_, KernelError>>()?,
    })
}
