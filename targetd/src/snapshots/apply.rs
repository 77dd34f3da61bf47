//! Taking the steps of snapshots. No decisions: those are the plan's.

use ashlar_kernel_iface::dm::{DmAccess, PoolMessage};
use ashlar_kernel_iface::tree::{Change, Errno};
use ashlar_targetd_protocol::Failure;
use uuid::Uuid;

use super::instant;
use super::plan::Plan;
use super::step::Step;
use crate::kernel::{Kernel, KernelError};
use crate::ours::snapshot_device;
use crate::transport::{Exported, Transports};
use crate::{steps, thin};

/// Takes the steps in order. The first refusal ends it, but for that of an address; what was done
/// stays, and the next plan goes on from there.
pub fn apply(
    kernel: &Kernel,
    transports: &Transports,
    snapshots: Uuid,
    plan: &Plan,
) -> Result<steps::Taken, Failure> {
    let object = format!("snapshots {snapshots}");
    steps::take(kernel, &object, &plan.steps, |step| {
        run(kernel, transports, step)
    })
}

fn run(kernel: &Kernel, transports: &Transports, step: &Step) -> Result<Change, KernelError> {
    let dm = &*kernel.dm;
    match step {
        Step::Export(id, step) => return transports.run(step, kernel, Exported::Snapshot(*id)),
        Step::Take { shots, resting } => return instant::take(kernel, shots, resting),
        Step::Delete { pool, id } => {
            return thin::tell(kernel, *pool, &PoolMessage::Delete(*id), Errno::ENODATA);
        }
        Step::RemoveEmpty(id) | Step::Deactivate(id) => dm.remove(&snapshot_device(*id))?,
        Step::DropSecondTableOf(origin) => drop(dm.clear(origin)?),
        Step::DropSecondTable(id) => drop(dm.clear(&snapshot_device(*id))?),
        Step::Resume(id) => thin::resume(kernel, &snapshot_device(*id))?,
        Step::Activate(id, place) => {
            thin::activate(kernel, &snapshot_device(*id), place, DmAccess::ReadOnly)?;
        }
    }
    Ok(Change::Changed)
}
