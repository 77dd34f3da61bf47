//! Pools: observe → plan → check → apply.
//!
//! ```text
//!   disks ─► GPT, labels ─► meta (linear) ─┐
//!                       └─► data (linear) ─┴─► thin (thin-pool) ─► volumes
//! ```
//!
//! | file      | what |
//! |-----------|------|
//! | `observe` | what the kernel and the disks have |
//! | `check`   | the safety rules, pure |
//! | `layout`  | where metadata and data lie, pure |
//! | `plan`    | the steps from one to the other, pure |
//! | `grow`    | what is different while a pool grows, pure |
//! | `destroy` | what is different when it is destroyed, pure |
//! | `step`    | one step: how it reads, and what its failure means |
//! | `apply`   | taking the steps |
//! | `metadata` | a state of the thin metadata, held for the agent to read |

mod apply;
mod check;
mod destroy;
mod grow;
mod layout;
mod metadata;
mod observe;
mod plan;
mod step;

use ashlar_kernel_iface::dm::{PoolMode, StatusFreshness, ThinPoolStatus, ThinPoolUsage};
use ashlar_targetd_protocol::{
    DesiredPool, Failure, FailureKind, PoolDestruction, PoolFormat, PoolReport, PoolUsage, Report,
    Sectors,
};
use uuid::Uuid;

use crate::generations::{Generations, Intent, Kind, Object};
use crate::kernel::{Kernel, KernelError};
use crate::locks::KeyLocks;
use crate::ours::{self, PoolPart};

pub use check::check;
pub use metadata::Metadata;
pub use observe::{ActivePart, ObservedContent, ObservedDisk, ObservedPart, ObservedPool, observe};
pub use plan::{Plan, plan};
pub use step::{DiskRef, Step, ThinSpec};

/// All pools. One apply per pool at a time.
pub struct Pools {
    kernel: Kernel,
    locks: KeyLocks<Uuid>,
    generations: Generations,
}

impl Pools {
    /// Pools on a kernel.
    pub fn new(kernel: Kernel) -> Self {
        Pools {
            kernel,
            locks: KeyLocks::default(),
            generations: Generations::default(),
        }
    }

    /// Brings a pool to its desired state.
    pub fn apply(&self, desired: &DesiredPool) -> Result<Report, Failure> {
        let _alone = self.locks.lock(&desired.id);
        let intent = Intent {
            generation: desired.generation,
            accesses: 0,
            last: desired.absent,
        };
        self.generations
            .accept(Object::new(Kind::Pool, desired.id), intent)?;
        let steps = match desired.grows_from {
            Some(_) if !desired.absent => self.grow(desired)?,
            _ => match desired.destroy.filter(|_| desired.absent) {
                Some(PoolDestruction { force }) => self.destroy(desired, force)?,
                None => self.bring(desired)?,
            },
        };
        tracing::info!(pool = %desired.id, steps = steps.len(), "pool is as desired");
        Ok(Report {
            generation: desired.generation,
            steps,
        })
    }

    /// Brings a pool that does not grow to its desired state.
    fn bring(&self, desired: &DesiredPool) -> Result<Vec<String>, Failure> {
        let observed = self.observed(desired)?;
        check(desired, &observed)?;
        let plan = plan(desired, &observed)?;
        let steps = apply::apply(&self.kernel, desired.id, &plan)?;
        if let Err(refusal) = self.new_pool_is_empty(desired) {
            self.take_back(desired.id, &plan);
            return Err(refusal);
        }
        Ok(steps)
    }

    /// Grows a pool, which is brought up first: it serves whatever becomes of the new disks.
    ///
    /// Once a device was given a new disk the only way is forward, and what fails then may
    /// succeed later. Before that, what cannot be done to a new disk is final.
    fn grow(&self, desired: &DesiredPool) -> Result<Vec<String>, Failure> {
        let id = desired.id;
        grow::sensible(desired)?;
        let mut observed = self.observed(desired)?;
        let mut steps = Vec::new();
        if observed.active(PoolPart::Thin).is_none() {
            steps = self.bring(&grow::standing(desired, &observed)?)?;
            observed = self.observed(desired)?;
        }
        self.takes_changes(id)?;
        let begun = grow::has_begun(desired, &observed);
        let word = |failure| match begun {
            true => not_the_last_word(failure),
            false => last_word(failure),
        };
        let growth = grow::grow(desired, &observed).map_err(|refusal| word(refusal.into()))?;
        let disks = apply::apply(&self.kernel, id, &growth.disks);
        steps.extend(disks.map_err(word)?);
        let devices = apply::apply(&self.kernel, id, &growth.devices);
        steps.extend(devices.map_err(not_the_last_word)?);
        self.has_blocks(id, growth.blocks)?;
        let labels = apply::apply(&self.kernel, id, &growth.labels);
        steps.extend(labels.map_err(not_the_last_word)?);
        Ok(steps)
    }

    /// Destroys a pool. Unless it is forced, the pool is brought up first, if it has to be, to
    /// see that it is empty. Once its first disk is wiped the only way is forward.
    fn destroy(&self, desired: &DesiredPool, force: bool) -> Result<Vec<String>, Failure> {
        let id = desired.id;
        let observed = self.observed(desired)?;
        destroy::check(desired, &observed, force)?;
        let mut steps = Vec::new();
        if !force && destroy::is_whole(desired, &observed) {
            steps = self.bring(&destroy::standing(desired))?;
            self.is_empty(id)?;
        }
        let observed = self.observed(desired)?;
        steps.extend(apply::apply(
            &self.kernel,
            id,
            &destroy::devices(&observed),
        )?);
        let disks = destroy::disks(desired, &observed);
        let disks = apply::apply(&self.kernel, id, &disks);
        steps.extend(disks.map_err(not_the_last_word)?);
        Ok(steps)
    }

    fn is_empty(&self, id: Uuid) -> Result<(), Failure> {
        match self.report(id)?.usage {
            Some(usage) if usage.data_used == 0 => Ok(()),
            Some(usage) => Err(Failure::new(
                FailureKind::NotBlank,
                format!(
                    "pool {id} has {} blocks in use by thin devices that nobody knows",
                    usage.data_used
                ),
            )),
            None => Err(Failure::new(
                FailureKind::Refused,
                format!("pool {id} does not say whether it holds anything"),
            )),
        }
    }

    fn observed(&self, desired: &DesiredPool) -> Result<ObservedPool, Failure> {
        observe(&self.kernel, desired).map_err(|error| unobserved(desired.id, &error))
    }

    /// The kernel passes over a new size when it takes no change of the metadata.
    fn takes_changes(&self, id: Uuid) -> Result<(), Failure> {
        let name = ours::pool_device(id, PoolPart::Thin);
        let status = self.kernel.dm.pool_status(&name, StatusFreshness::AsIs);
        let status = status.map_err(|error| unobserved(id, &error.into()))?;
        match status {
            Some(ThinPoolStatus::Good(usage))
                if usage.mode != PoolMode::ReadOnly && !usage.needs_check =>
            {
                Ok(())
            }
            _ => Err(Failure::new(
                FailureKind::Refused,
                format!("pool {id} takes no changes and cannot grow; its metadata need repair"),
            )),
        }
    }

    fn has_blocks(&self, id: Uuid, wanted: u64) -> Result<(), Failure> {
        match self.report(id)?.usage {
            Some(usage) if usage.data_total >= wanted => Ok(()),
            usage => Err(Failure::new(
                FailureKind::Kernel,
                format!(
                    "pool {id} has {} blocks after it was given {wanted}",
                    usage.map_or(0, |usage| usage.data_total)
                ),
            )),
        }
    }

    /// A pool in the making that is complete was left so by an attempt whose answer was lost, and
    /// is empty; or it is an older one of the same id. That one is neither kept, because what it
    /// holds would show up in new volumes, nor wiped: nobody meant it.
    fn new_pool_is_empty(&self, desired: &DesiredPool) -> Result<(), Failure> {
        let id = desired.id;
        if desired.absent || desired.format == PoolFormat::Never {
            return Ok(());
        }
        match self.report(id)?.usage {
            Some(usage) if usage.data_used > 0 => Err(Failure::new(
                FailureKind::NotBlank,
                format!(
                    "the disks hold an older pool {id} with {} blocks in use; a new pool takes \
                     another id",
                    usage.data_used
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Removes the devices that a plan made, as far as that goes.
    fn take_back(&self, id: Uuid, made: &Plan) {
        let parts = made.steps.iter().rev().filter_map(Step::activates);
        let back = Plan {
            steps: parts.map(Step::Remove).collect(),
        };
        if let Err(failure) = apply::apply(&self.kernel, id, &back) {
            tracing::warn!(%failure, "a pool that is not wanted stays active");
        }
    }

    /// Looks at a pool.
    pub fn report(&self, id: Uuid) -> Result<PoolReport, Failure> {
        self.status(id).map_err(|error| unobserved(id, &error))
    }

    fn status(&self, id: Uuid) -> Result<PoolReport, KernelError> {
        let parts = observe::observe_parts(&self.kernel, id)?;
        let Some(ObservedPart::Active(thin)) = parts.get(&PoolPart::Thin) else {
            return Ok(PoolReport {
                id,
                usage: None,
                degraded: false,
            });
        };
        let block = check::thin_pool(thin).map_or(Sectors(0), |pool| pool.block);
        let name = ours::pool_device(id, PoolPart::Thin);
        let status = self.kernel.dm.pool_status(&name, StatusFreshness::AsIs)?;
        Ok(match status {
            Some(ThinPoolStatus::Good(usage)) => PoolReport {
                id,
                degraded: usage.mode != PoolMode::ReadWrite || usage.needs_check,
                usage: Some(reported(usage, block)),
            },
            Some(ThinPoolStatus::Failed) | None => PoolReport {
                id,
                usage: None,
                degraded: true,
            },
        })
    }
}

fn reported(usage: ThinPoolUsage, block: Sectors) -> PoolUsage {
    PoolUsage {
        transaction_id: usage.transaction_id,
        metadata_used: usage.metadata_used,
        metadata_total: usage.metadata_total,
        data_used: usage.data_used,
        data_total: usage.data_total,
        block,
    }
}

/// A new disk that cannot be written is not waited for.
fn last_word(failure: Failure) -> Failure {
    match failure.kind {
        FailureKind::Kernel => Failure {
            kind: FailureKind::Refused,
            ..failure
        },
        _ => failure,
    }
}

/// Whatever the kernel said, it may be asked again.
fn not_the_last_word(failure: Failure) -> Failure {
    Failure {
        kind: FailureKind::Kernel,
        ..failure
    }
}

fn unobserved(pool: Uuid, error: &KernelError) -> Failure {
    Failure::new(
        FailureKind::Kernel,
        format!("failed to observe pool {pool}: {error}"),
    )
}
