//! Taking steps, one after the other. No decisions: those are the plan's.

use ashlar_kernel_iface::dm::{
    DeviceMapper, DmAccess, DmError, PoolMessage, SuspendFlags, Table, Target, Thin,
};
use ashlar_kernel_iface::tree::{Change, Errno};
use ashlar_targetd_protocol::{Failure, FailureKind, Sectors, ThinId};
use std::thread;

use uuid::Uuid;

use super::plan::Plan;
use super::step::Step;
use crate::kernel::{Kernel, KernelError};
use crate::ours::{self, PoolPart};
use crate::transport::Transports;

/// Taking a step calls nothing deep.
const STACK: usize = 256 << 10;

type Taken = Result<Vec<String>, StepError>;

/// A step the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("failed to {step} for volume {volume}: {cause}")]
pub struct StepError {
    /// The volume.
    pub volume: Uuid,
    /// The step, boxed because it is large.
    pub step: Box<Step>,
    /// Why; its text is part of this one's.
    pub cause: KernelError,
}

impl From<StepError> for Failure {
    fn from(error: StepError) -> Failure {
        let errno = error.cause.errno();
        Failure {
            kind: errno.map_or(FailureKind::Kernel, |errno| error.step.meaning(errno)),
            message: error.to_string(),
        }
    }
}

/// Takes the steps of one volume.
pub(super) struct Applier<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) transports: &'a Transports,
    pub(super) volume: Uuid,
}

impl Applier<'_> {
    /// Takes the steps and answers those that changed something. The first refusal ends it; what
    /// was done stays, and the next plan goes on from there.
    pub(super) fn apply(&self, plan: &Plan) -> Result<Vec<String>, StepError> {
        let mut taken = self.take(&plan.removals)?;
        let (leftovers, device) = self.take_both(&plan.leftovers, &plan.device);
        taken.extend(leftovers?);
        taken.extend(device?);
        taken.extend(self.take(&plan.additions)?);
        Ok(taken)
    }

    fn take_both(&self, one: &[Step], other: &[Step]) -> (Taken, Taken) {
        if one.is_empty() || other.is_empty() || !self.kernel.at_once {
            return (self.take(one), self.take(other));
        }
        thread::scope(|scope| {
            let builder = thread::Builder::new().stack_size(STACK);
            match builder.spawn_scoped(scope, || self.take(one)) {
                Ok(beside) => {
                    let other = self.take(other);
                    (beside.join().expect("taking a step does not panic"), other)
                }
                // Without a thread for it, one after the other.
                Err(_) => (self.take(one), self.take(other)),
            }
        })
    }

    fn take(&self, steps: &[Step]) -> Taken {
        let mut taken = Vec::new();
        for step in steps {
            let change = self.run(step).map_err(|cause| StepError {
                volume: self.volume,
                step: Box::new(step.clone()),
                cause,
            })?;
            tracing::debug!(volume = %self.volume, %step, ?change, "step");
            if change == Change::Changed {
                taken.push(step.to_string());
            }
        }
        Ok(taken)
    }

    fn run(&self, step: &Step) -> Result<Change, KernelError> {
        let (kernel, volume) = (self.kernel, self.volume);
        let name = ours::volume_device(volume);
        let dm = &*kernel.dm;
        match step {
            Step::Export(step) => return self.transports.run(step, kernel, volume),
            Step::CreateThin { pool, id } => {
                let message = PoolMessage::CreateThin(*id);
                return tell(dm, *pool, &message, Errno::EEXIST);
            }
            Step::DeleteThin { pool, id } => {
                return tell(dm, *pool, &PoolMessage::Delete(*id), Errno::ENODATA);
            }
            Step::Activate { pool, id, size } => activate(kernel, volume, *pool, *id, *size)?,
            Step::Grow { pool, id, size } => {
                let table = thin_table(kernel, *pool, *id, *size)?;
                dm.load(&name, &table, DmAccess::ReadWrite)?;
                dm.resume(&name, SuspendFlags::NO_FLUSH)?;
            }
            Step::DropSecondTable => drop(dm.clear(&name)?),
            Step::Resume => drop(dm.resume(&name, SuspendFlags::NO_FLUSH)?),
            Step::RemoveEmpty | Step::Deactivate => dm.remove(&name)?,
        }
        Ok(Change::Changed)
    }
}

/// Sends a message; `already` is the errno that says it was so before.
fn tell(
    dm: &dyn DeviceMapper,
    pool: Uuid,
    message: &PoolMessage,
    already: Errno,
) -> Result<Change, KernelError> {
    match dm.message(&ours::pool_device(pool, PoolPart::Thin), message) {
        Err(error) if error.errno() == Some(already) => Ok(Change::Unchanged),
        outcome => Ok(outcome.map(|()| Change::Changed)?),
    }
}

/// A device whose table the kernel refuses is not left behind.
fn activate(
    kernel: &Kernel,
    volume: Uuid,
    pool: Uuid,
    id: ThinId,
    size: Sectors,
) -> Result<(), KernelError> {
    let name = ours::volume_device(volume);
    let table = thin_table(kernel, pool, id, size)?;
    kernel.dm.create(&name, &ours::device_uuid(&name))?;
    let live = kernel
        .dm
        .load(&name, &table, DmAccess::ReadWrite)
        .and_then(|_| kernel.dm.resume(&name, SuspendFlags::FLUSH));
    live.map(drop).map_err(|error: DmError| {
        // The first error is the one to tell.
        let _ = kernel.dm.remove(&name);
        KernelError::from(error)
    })
}

fn thin_table(
    kernel: &Kernel,
    pool: Uuid,
    id: ThinId,
    size: Sectors,
) -> Result<Table, KernelError> {
    let name = ours::pool_device(pool, PoolPart::Thin);
    let Some(info) = kernel.dm.info(&name)? else {
        return Err(KernelError::Inactive(name));
    };
    let thin = Thin {
        pool: info.number,
        id,
    };
    Ok(Table::single(size, Target::Thin(thin)))
}
