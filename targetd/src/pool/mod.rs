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
//! | `step`    | one step: how it reads, and what its failure means |
//! | `apply`   | taking the steps |
//! | `metadata` | a state of the thin metadata, held for the agent to read |

mod apply;
mod check;
mod layout;
mod metadata;
mod observe;
mod plan;
mod step;

use ashlar_kernel_iface::dm::{PoolMode, StatusFreshness, ThinPoolStatus, ThinPoolUsage};
use ashlar_targetd_protocol::{
    DesiredPool, Failure, FailureKind, PoolFormat, PoolReport, PoolUsage, Report, Sectors,
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
        let observed =
            observe(&self.kernel, desired).map_err(|error| unobserved(desired.id, &error))?;
        check(desired, &observed)?;
        let plan = plan(desired, &observed)?;
        let steps = apply::apply(&self.kernel, desired.id, &plan)?;
        if let Err(refusal) = self.new_pool_is_empty(desired) {
            self.take_back(desired.id, &plan);
            return Err(refusal);
        }
        tracing::info!(pool = %desired.id, steps = steps.len(), "pool is as desired");
        Ok(Report {
            generation: desired.generation,
            steps,
        })
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

fn unobserved(pool: Uuid, error: &KernelError) -> Failure {
    Failure::new(
        FailureKind::Kernel,
        format!("failed to observe pool {pool}: {error}"),
    )
}
