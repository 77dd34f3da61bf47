//! Opening the device of a volume or a snapshot for the agent.
//!
//! For writing a device is opened alone, so that the kernel itself keeps what takes its devices
//! alone, an iSCSI backstore, from serving it meanwhile. That nobody connects over NVMe is the
//! agent's to see to.

use ashlar_kernel_iface::block::{Access, BlockError};
use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{Exports, Failure, FailureKind, OpenObject, Response};
use uuid::Uuid;

use super::Volumes;
use crate::kernel::KernelError;
use crate::ours;
use crate::refusal::Refusal;
use crate::server::Answer;
use crate::thin::{self, ActiveDevice, ObservedDevice};

impl Volumes {
    /// Opens a device that is active and ours.
    ///
    /// # Errors
    /// When it is not, or is to be written although it may not be.
    pub fn open(&self, object: OpenObject, write: bool) -> Result<Answer, Failure> {
        let (id, name) = match object {
            OpenObject::Volume(id) => (id, ours::volume_device(id)),
            OpenObject::Snapshot(id) => (id, ours::snapshot_device(id)),
            OpenObject::Copy(id) => (id, ours::copy_device(id)),
            OpenObject::Target(id) => (id, ours::target_device(id)),
        };
        // So that nothing is exported between the look and the opening.
        let _alone = self.locks.lock(&id);
        if write {
            self.check_writable(object)?;
        }
        let device = thin::observe(&self.kernel, &name)
            .map_err(|error| unopened(object, FailureKind::Kernel, &error))?;
        let device = usable(object, device)?;
        let access = match write {
            true => Access::Exclusive,
            false => Access::Read,
        };
        let opened = self.kernel.disks.open_file(device.number, access);
        let opened = opened.map_err(|error| unopened(object, kind(&error), &error))?;
        tracing::info!(%object, write, "handing out a device");
        let size = opened.size;
        Ok(Answer::with(Response::Opened { size }, opened.file))
    }

    fn check_writable(&self, object: OpenObject) -> Result<(), Failure> {
        let exported = match object {
            OpenObject::Volume(id) => self.exported(id),
            // Nobody knows of it but the agent.
            OpenObject::Target(_) => Ok(false),
            OpenObject::Snapshot(_) | OpenObject::Copy(_) => {
                let reason = format!("{object} cannot be written");
                return Err(Refusal::new(FailureKind::Refused, reason).into());
            }
        };
        match exported.map_err(|error| unopened(object, FailureKind::Kernel, &error))? {
            false => Ok(()),
            true => {
                let reason = format!("{object} is exported, so it is not opened for writing");
                Err(Refusal::new(FailureKind::InUse, reason).into())
            }
        }
    }

    fn exported(&self, id: Uuid) -> Result<bool, KernelError> {
        let observed = self
            .transports
            .observe(self.kernel.tree(), id, &Exports::default())?;
        Ok(!observed.exported().is_empty())
    }
}

fn usable(object: OpenObject, device: ObservedDevice) -> Result<ActiveDevice, Failure> {
    let (kind, reason) = match device {
        ObservedDevice::Active(device) if !device.suspended => return Ok(device),
        ObservedDevice::Active(_) => (FailureKind::InUse, format!("{object} is suspended")),
        ObservedDevice::Absent | ObservedDevice::Empty => {
            (FailureKind::Missing, format!("{object} is not active"))
        }
        ObservedDevice::Foreign(what) => (FailureKind::Foreign, what),
    };
    Err(Refusal::new(kind, reason).into())
}

fn kind(error: &BlockError) -> FailureKind {
    match error.errno() {
        Some(Errno::EBUSY) => FailureKind::InUse,
        Some(Errno::EOPNOTSUPP) => FailureKind::Unsupported,
        _ => FailureKind::Kernel,
    }
}

fn unopened(object: OpenObject, kind: FailureKind, error: &dyn std::error::Error) -> Failure {
    Failure::new(kind, format!("failed to open {object}: {error}"))
}
