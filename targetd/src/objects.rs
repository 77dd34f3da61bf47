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
    for device in kernel.dm.list()? {
        objects.note(&device.name, &device.uuid);
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
