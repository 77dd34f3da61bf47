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
    /// Volumes with a device or anything of an export.
    pub volumes: BTreeSet<Uuid>,
    /// What is not ours, in words.
    pub foreign: Vec<String>,
}

impl From<Objects> for Response {
    fn from(objects: Objects) -> Response {
        Response::Objects {
            pools: objects.pools.into_iter().collect(),
            volumes: objects.volumes.into_iter().collect(),
            foreign: objects.foreign,
        }
    }
}

/// Lists everything.
pub fn list(kernel: &Kernel, transports: &Transports) -> Result<Objects, KernelError> {
    let survey = transports.survey(kernel.tree())?;
    let mut objects = Objects {
        pools: BTreeSet::new(),
        volumes: survey.volumes,
        foreign: survey.foreign,
    };
    for device in kernel.dm.list()? {
        let volume = ours::volume_named(&device.name);
        let pool = ours::pool_named(&device.name);
        match (is_ours(&device.name, &device.uuid), volume, pool) {
            (true, Some(volume), _) => drop(objects.volumes.insert(volume)),
            (true, None, Some(pool)) => drop(objects.pools.insert(pool)),
            _ => objects.foreign.push(format!("device {}", device.name)),
        }
    }
    Ok(objects)
}

fn is_ours(name: &str, uuid: &str) -> bool {
    name.parse()
        .is_ok_and(|name| ours::device_uuid(&name).as_str() == uuid)
}
