//! Opening the devices of volumes and snapshots.

use std::sync::Arc;
use std::time::Duration;

use ashlar_protocol::{Problem, ProblemCode};
use ashlar_targetd_protocol::OpenObject;

use super::Engine;
use crate::domain::record::Unit;
use crate::reconcile::{HoldGuard, problem_of};
use crate::targetd::OpenDevice;

/// Longest wait for a device to become active.
const ACTIVE: Duration = Duration::from_secs(30);

/// A device that is open. It stays active until this is dropped; whoever was given the file has
/// closed it by then.
#[derive(Debug)]
pub struct Opened {
    /// The device. Closed before it is let go: fields are dropped in their order.
    pub device: OpenDevice,
    _hold: HoldGuard,
}

impl Engine {
    /// Has the device of a volume or a snapshot made active, and opens it. For writing it is
    /// opened alone, and while no host may reach it.
    ///
    /// # Errors
    /// When it does not exist, is not there in time, or may not be opened so.
    pub async fn open(&self, object: OpenObject, write: bool) -> Result<Opened, Problem> {
        let unit = match object {
            OpenObject::Volume(id) | OpenObject::Copy(id) | OpenObject::Target(id) => {
                Unit::Volume(id)
            }
            OpenObject::Snapshot(id) => Unit::Snapshot(id),
        };
        let desk = Arc::new(self.shared.desk.clone());
        let hold = self.shared.reconciler.hold(unit, desk);
        let hold = tokio::time::timeout(ACTIVE, hold).await.map_err(|_| {
            let detail = format!("{object} was not active within {} s", ACTIVE.as_secs());
            Problem::new(ProblemCode::TargetdUnavailable, detail).about(unit.object())
        })??;
        let device = self.shared.targetd.open_device(object, write).await;
        Ok(Opened {
            device: device.map_err(|error| problem_of(unit.object(), &error))?,
            _hold: hold,
        })
    }
}
