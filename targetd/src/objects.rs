//! A list of everything in the kernel, ours and foreign. For whole laps only: its cost grows
//! with the number of volumes.

use std::collections::BTreeSet;

use ashlar_targetd_protocol::Response;
use uuid::Uuid;

use crate::kernel::{Kernel, KernelError};
use crate::ours;
use crate::transport::Transports;

/// What carries our names, and what does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objects {
    /// Pools with any device.
    pub pools: BTreeSet<Uuid>,
    /// Volumes with a device, and volumes and snapshots with anything of an export.
    pub volumes: BTreeSet<Uuid>,
    /// Snapshots with a device.
    pub snapshots: BTreeSet<Uuid>,
    /// What is not ours, in words.
    pub foreign: Vec<String>,
}

impl From<Objects> for Response {
    fn from(objects: Objects) -> Response {
        Response::Objects {
            pools: objects.pools.into_iter().collect(),
            volumes: objects.volumes.into_iter().collect(),
            snapshots: objects.snapshots.into_iter().collect(),
            foreign: objects.foreign,
        }
    }
}

/// Lists everything.
pub fn list(kernel: &Kernel, transports: &Transports) -> Result<Objects, KernelError> {
    let survey = transports.survey(kernel.tree())?;
    let mut objects = Objects {
        volumes: survey.volumes,
        foreign: survey.foreign,
        ..Objects::default()
    };
    // The firmware's own: a verified root is a device of device-mapper.
    let root = kernel.modules.root();
    for device in kernel.dm.list()? {
        if root != Some(device.number) {
            objects.note(&device.name, &device.uuid);
        }
    }
    Ok(objects)
}

impl Objects {
    fn note(&mut self, name: &str, uuid: &str) {
        let ours = ours::is_marked(name, uuid);
        let volume = ours::volume_named(name).or_else(|| ours::moving_named(name));
        if let Some(volume) = volume.filter(|_| ours) {
            self.volumes.insert(volume);
        } else if let Some(snapshot) = ours::snapshot_named(name).filter(|_| ours) {
            self.snapshots.insert(snapshot);
        } else if let Some(pool) = ours::pool_named(name).filter(|_| ours) {
            self.pools.insert(pool);
        } else if !ours || ours::probe_named(name).is_none() {
            // A probe of ours is gone in a moment.
            self.foreign.push(format!("device {name}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ashlar_kernel_iface::device::DeviceNumber;
    use ashlar_kernel_iface::dm::DeviceMapper;
    use ashlar_kernel_iface::model::ModelKernel;

    use super::*;
    use crate::kernel::Modules;

    /// A system whose root is on this device.
    struct On(DeviceNumber);

    impl Modules for On {
        fn release(&self) -> String {
            String::new()
        }

        fn loaded(&self, _: &str) -> bool {
            true
        }

        fn root(&self) -> Option<DeviceNumber> {
            Some(self.0)
        }
    }

    #[test]
    fn what_the_system_runs_from_is_no_stranger() {
        let model = ModelKernel::new();
        for name in ["root", "other"] {
            let uuid = name.parse().unwrap();
            model.dm().create(&name.parse().unwrap(), &uuid).unwrap();
        }
        let mut kernel = Kernel::model(&model);
        let foreign = |kernel: &Kernel| list(kernel, &Transports::default()).unwrap().foreign;
        assert_eq!(foreign(&kernel), ["device other", "device root"]);
        let devices = kernel.dm.list().unwrap();
        let root = devices.iter().find(|device| device.name == "root").unwrap();
        kernel.modules = Arc::new(On(root.number));
        assert_eq!(foreign(&kernel), ["device other"]);
    }
}
