//! Taking a volume's steps. No decisions: those are the plan's.

use std::thread;

use ashlar_kernel_iface::dm::{DmAccess, PoolMessage};
use ashlar_kernel_iface::tree::{Change, Errno};
use ashlar_targetd_protocol::Failure;
use uuid::Uuid;

use super::aside;
use super::plan::Plan;
use super::step::Step;
use crate::kernel::{Kernel, KernelError};
use crate::ours;
use crate::qos::Limiter;
use crate::steps;
use crate::thin;
use crate::transport::{Exported, Transports};

/// Taking a step calls nothing deep.
const STACK: usize = 256 << 10;

type Taken = Result<steps::Taken, Failure>;

/// Takes the steps of one volume.
pub(super) struct Applier<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) transports: &'a Transports,
    pub(super) limiter: &'a Limiter,
    pub(super) volume: Uuid,
}

impl Applier<'_> {
    /// Takes the steps. The first refusal ends it, but for that of an address; what was done stays,
    /// and the next plan goes on from there.
    pub(super) fn apply(&self, plan: &Plan) -> Taken {
        let mut taken = self.take(&plan.removals)?;
        let (leftovers, device) = self.take_both(&plan.leftovers, &plan.device);
        taken.extend(leftovers?);
        taken.extend(device?);
        taken.extend(self.take(&plan.additions)?);
        taken.extend(self.take(&plan.aside)?);
        taken.extend(self.take(&plan.retired)?);
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
        let object = format!("volume {}", self.volume);
        steps::take(self.kernel, &object, steps, |step| self.run(step))
    }

    fn run(&self, step: &Step) -> Result<Change, KernelError> {
        let (kernel, volume) = (self.kernel, self.volume);
        let name = ours::volume_device(volume);
        match step {
            Step::Export(step) => {
                return self.transports.run(step, kernel, Exported::Volume(volume));
            }
            Step::CreateThin(place) => return thin::create_blank(kernel, volume, place),
            Step::CreateSnapshot {
                pool,
                id,
                of,
                resting,
            } => {
                let message = PoolMessage::CreateSnapshot {
                    id: *id,
                    origin: *of,
                };
                return thin::snapshot_with(kernel, resting.as_ref(), || {
                    thin::tell(kernel, *pool, &message, Errno::EEXIST)
                });
            }
            Step::TakeCopy { pool, id, of, io } => {
                return aside::take_copy(kernel, &name, *pool, (*id, *of), *io);
            }
            Step::DeleteThin { pool, id } => {
                return thin::tell(kernel, *pool, &PoolMessage::Delete(*id), Errno::ENODATA);
            }
            Step::Limit(qos) => return Ok(self.limiter.limit(kernel.number(&name)?, qos)?),
            Step::Activate(place) => {
                thin::activate(kernel, &name, place, DmAccess::ReadWrite)?;
                self.limiter.forget(kernel.number(&name)?);
            }
            Step::ActivateAside(aside, place) => {
                thin::activate(kernel, &aside.device(volume), place, aside.access())?;
            }
            Step::DeactivateAside(aside) => kernel.dm.remove(&aside.device(volume))?,
            Step::Grow(place) | Step::Swap(place) => thin::swap(kernel, &name, place)?,
            Step::DropSecondTable => drop(kernel.dm.clear(&name)?),
            Step::DropSecondTableOf(origin) => drop(kernel.dm.clear(origin)?),
            Step::Resume => thin::resume(kernel, &name)?,
            Step::RemoveEmpty | Step::Deactivate => kernel.dm.remove(&name)?,
        }
        Ok(Change::Changed)
    }
}
