//! Volumes: observe → plan → check → apply.
//!
//! ```text
//!   DesiredVolume ─► Goal ─┐
//!                          ├─► check ─► plan ─► apply ─► Report
//!   kernel ─► Observed ────┘  (rules)  (steps)  (kernel)
//! ```
//!
//! | file      | what |
//! |-----------|------|
//! | `observe` | what the kernel has |
//! | `check`   | the safety rules, pure |
//! | `plan`    | the steps from one to the other, pure |
//! | `step`    | one step: how it reads, and what its failure means |
//! | `apply`   | taking the steps |

mod apply;
mod check;
mod observe;
mod plan;
mod step;

use std::sync::Arc;

use ashlar_kernel_iface::dm::{StatusFreshness, ThinStatus};
use ashlar_targetd_protocol::{
    DataState, DesiredVolume, Exports, Failure, FailureKind, Report, Sectors, ThinId, VolumeReport,
};
use uuid::Uuid;

use crate::generations::{Generations, Intent};
use crate::kernel::{Kernel, KernelError};
use crate::locks::KeyLocks;
use crate::ours;
use crate::transport::Transports;

pub use check::check;
pub use observe::{ActiveDevice, ObservedDevice, ObservedVolume, observe};
pub use plan::{Plan, plan, subject};
pub use step::Step;

use apply::Applier;

/// What a volume should be, as far as it concerns the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Goal<'a> {
    /// The volume.
    pub id: Uuid,
    /// Its data; `None` for an orphan, of which nothing is known.
    pub thin: Option<ThinGoal>,
    /// Who may reach it.
    pub exports: &'a Exports,
    /// Whether the caller agreed that hosts are cut off.
    pub force: bool,
}

/// What a volume's data should be.
#[derive(Clone, Copy, Debug)]
pub struct ThinGoal {
    /// The pool.
    pub pool: Uuid,
    /// The thin device in it.
    pub thin_id: ThinId,
    /// Its size.
    pub size: Sectors,
    /// Whether it exists.
    pub data: DataState,
}

impl<'a> Goal<'a> {
    /// The goal that a desired state sets.
    pub fn of(desired: &'a DesiredVolume) -> Self {
        Goal {
            id: desired.id,
            thin: Some(ThinGoal {
                pool: desired.pool,
                thin_id: desired.thin_id,
                size: desired.size,
                data: desired.data,
            }),
            exports: &desired.exports,
            force: desired.force,
        }
    }

    /// Nothing of the volume in the kernel; its data, wherever it is, stays.
    pub fn orphan(id: Uuid, nothing: &'a Exports) -> Self {
        Goal {
            id,
            thin: None,
            exports: nothing,
            force: false,
        }
    }

    /// A device is active only while something is exported.
    fn needs_device(&self) -> bool {
        self.thin.is_some() && !self.exports.is_empty()
    }

    fn size(&self) -> Sectors {
        self.thin.map_or(Sectors(0), |thin| thin.size)
    }
}

/// All volumes. One apply per volume at a time, any number of volumes at once.
pub struct Volumes {
    kernel: Kernel,
    transports: Arc<Transports>,
    locks: KeyLocks<Uuid>,
    generations: Generations,
}

impl Volumes {
    /// Volumes on a kernel.
    pub fn new(kernel: Kernel, transports: Arc<Transports>) -> Self {
        Volumes {
            kernel,
            transports,
            locks: KeyLocks::default(),
            generations: Generations::default(),
        }
    }

    /// Brings a volume to its desired state.
    pub fn apply(&self, desired: &DesiredVolume) -> Result<Report, Failure> {
        let _alone = self.locks.lock(&desired.id);
        let intent = Intent {
            generation: desired.generation,
            accesses: desired.exports.accesses(),
            last: desired.data == DataState::Tombstone,
        };
        self.generations.accept(desired.id, intent)?;
        let steps = self.reconcile(&Goal::of(desired))?;
        Ok(Report {
            generation: desired.generation,
            steps,
        })
    }

    /// Takes an orphan's exports and device out of the kernel.
    pub fn unexport(&self, id: Uuid) -> Result<Report, Failure> {
        let _alone = self.locks.lock(&id);
        let steps = self.reconcile(&Goal::orphan(id, &Exports::default()))?;
        Ok(Report {
            generation: 0,
            steps,
        })
    }

    /// Looks at a volume. It may be changing meanwhile.
    pub fn report(&self, id: Uuid, pool: Uuid) -> Result<VolumeReport, Failure> {
        let exports = Exports::default();
        let observed = observe(&self.kernel, &self.transports, id, Some(pool), &exports)
            .map_err(|error| unobserved(id, &error))?;
        let active = observed.device.active();
        let mapped = match active {
            Some(_) => self.mapped(id).map_err(|error| unobserved(id, &error))?,
            None => None,
        };
        Ok(VolumeReport {
            active: active.map(|device| device.size),
            mapped,
            exported: observed.exports.exported(),
        })
    }

    fn reconcile(&self, goal: &Goal<'_>) -> Result<Vec<String>, Failure> {
        let pool = goal.thin.map(|thin| thin.pool);
        let observed = observe(&self.kernel, &self.transports, goal.id, pool, goal.exports)
            .map_err(|error| unobserved(goal.id, &error))?;
        let subject = subject(goal, &observed);
        check(goal, &subject, &observed)?;
        let plan = plan(goal, &subject, &observed);
        let applier = Applier {
            kernel: &self.kernel,
            transports: &self.transports,
            volume: goal.id,
        };
        let taken = applier.apply(&plan)?;
        tracing::info!(volume = %goal.id, steps = taken.len(), "volume is as desired");
        Ok(taken)
    }

    fn mapped(&self, id: Uuid) -> Result<Option<Sectors>, KernelError> {
        let name = ours::volume_device(id);
        Ok(
            match self.kernel.dm.thin_status(&name, StatusFreshness::AsIs)? {
                Some(ThinStatus::Good { mapped, .. }) => Some(mapped),
                Some(ThinStatus::Failed | ThinStatus::NotOpen) | None => None,
            },
        )
    }
}

fn unobserved(volume: Uuid, error: &KernelError) -> Failure {
    Failure {
        kind: FailureKind::Kernel,
        message: format!("failed to observe volume {volume}: {error}"),
    }
}
