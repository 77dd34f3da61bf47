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
//! | `open`    | opening a device for the agent |
//! | `aside`   | the devices with which a volume moves |
//!
//! What a volume was made from, what it was on before (a revert, a move) and whether the agent
//! needs its device are part of the same plan, so that exports stand while the data beneath them
//! is exchanged.

mod apply;
mod aside;
mod check;
mod observe;
mod open;
mod plan;
mod step;

use std::collections::BTreeSet;
use std::sync::Arc;

use ashlar_kernel_iface::dm::{StatusFreshness, ThinStatus};
use ashlar_targetd_protocol::{
    Accesses, DataState, DesiredMove, DesiredVolume, Exports, Failure, FailureKind, Qos, Report,
    Sectors, ThinId, ThinRef, ThinSource, VolumeReport,
};
use uuid::Uuid;

use crate::generations::{Generations, Intent, Kind, Object};
use crate::kernel::{Kernel, KernelError};
use crate::locks::KeyLocks;
use crate::ours;
use crate::qos::Limiter;
use crate::thin::Place;
use crate::transport::{Transports, served_elsewhere};

pub use aside::Aside;
pub use check::check;
pub use observe::{ObservedVolume, observe};
pub use plan::{Plan, plan, subject};
pub use step::Step;

use apply::Applier;

static NOTHING_RETIRED: BTreeSet<ThinRef> = BTreeSet::new();

/// What a volume should be, as far as it concerns the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Goal<'a> {
    /// The volume.
    pub id: Uuid,
    /// Its data; `None` for an orphan, of which nothing is known.
    pub thin: Option<ThinGoal>,
    /// Thin devices that were the volume's before.
    pub retired: &'a BTreeSet<ThinRef>,
    /// What the agent needs to move it.
    pub moving: Option<DesiredMove>,
    /// Who may reach it.
    pub exports: &'a Exports,
    /// Whether the agent needs the device.
    pub held: bool,
    /// How much it may do: what hosts do is limited, and not what the agent does with a volume
    /// that no host reaches.
    pub qos: Qos,
    /// Those whom the caller agreed to cut off.
    pub cut: &'a Accesses,
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
    /// What it begins as, if not as zeros.
    pub source: Option<ThinSource>,
}

impl ThinGoal {
    fn place(&self) -> Place {
        Place {
            pool: self.pool,
            id: self.thin_id,
            size: self.size,
        }
    }

    /// As much of another thin device.
    fn place_on(&self, other: &ThinRef) -> Place {
        Place {
            pool: other.pool,
            id: other.thin_id,
            size: self.size,
        }
    }
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
                source: desired.source,
            }),
            retired: &desired.retired,
            moving: desired.moving,
            exports: &desired.exports,
            held: desired.held,
            qos: match desired.exports.is_empty() {
                true => Qos::default(),
                false => desired.qos,
            },
            cut: &desired.cut,
        }
    }

    /// Nothing of the volume in the kernel; its data, wherever it is, stays.
    pub fn orphan(id: Uuid, nothing: &'a Exports) -> Self {
        static NOBODY: Accesses = Accesses {
            iscsi: BTreeSet::new(),
            nvme: BTreeSet::new(),
        };
        Goal {
            id,
            thin: None,
            retired: &NOTHING_RETIRED,
            moving: None,
            exports: nothing,
            held: false,
            qos: Qos::default(),
            cut: &NOBODY,
        }
    }

    /// A device is active only while something is exported, or the agent needs it.
    fn needs_device(&self) -> bool {
        let live = |thin: ThinGoal| thin.data != DataState::Tombstone;
        self.thin.is_some_and(live) && (self.held || !self.exports.is_empty())
    }

    /// What it is made from, while it is to be made.
    fn source(&self) -> Option<&ThinSource> {
        let made = |thin: &&ThinGoal| thin.data == DataState::Provision;
        self.thin.as_ref().filter(made)?.source.as_ref()
    }

    /// Everything that this goal may hold up or change.
    fn objects(&self) -> BTreeSet<Uuid> {
        let source = self.source().map(|source| source.object);
        BTreeSet::from_iter(source.into_iter().chain([self.id]))
    }

    /// Whether its device is to do no I/O.
    fn is_still(&self) -> bool {
        self.moving.is_some_and(|moving| moving.still)
    }

    fn size(&self) -> Sectors {
        self.thin.map_or(Sectors(0), |thin| thin.size)
    }
}

/// All volumes. One apply per volume at a time, any number of volumes at once.
pub struct Volumes {
    kernel: Kernel,
    transports: Arc<Transports>,
    limiter: Limiter,
    locks: Arc<KeyLocks<Uuid>>,
    generations: Generations,
}

impl Volumes {
    /// Volumes on a kernel. The locks are shared with whatever else is made from volumes.
    pub fn new(
        kernel: Kernel,
        transports: Arc<Transports>,
        limiter: Limiter,
        locks: Arc<KeyLocks<Uuid>>,
    ) -> Self {
        Volumes {
            kernel,
            transports,
            limiter,
            locks,
            generations: Generations::default(),
        }
    }

    /// Brings a volume to its desired state.
    pub fn apply(&self, desired: &DesiredVolume) -> Result<Report, Failure> {
        let goal = Goal::of(desired);
        let _alone = self.locks.lock_all(&goal.objects());
        let intent = Intent {
            generation: desired.generation,
            accesses: desired.exports.accesses(),
            last: desired.data == DataState::Tombstone,
        };
        self.generations
            .accept(Object::new(Kind::Volume, desired.id), intent)?;
        let report = self.reconcile(&goal)?;
        Ok(Report {
            generation: desired.generation,
            ..report
        })
    }

    /// Takes an orphan's exports and device out of the kernel.
    pub fn unexport(&self, id: Uuid) -> Result<Report, Failure> {
        let _alone = self.locks.lock(&id);
        self.reconcile(&Goal::orphan(id, &Exports::default()))
    }

    /// Looks at a volume. It may be changing meanwhile.
    pub fn report(&self, id: Uuid) -> Result<VolumeReport, Failure> {
        let exports = Exports::default();
        let goal = Goal::orphan(id, &exports);
        let observed = observe(&self.kernel, &self.transports, &goal)
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

    fn reconcile(&self, goal: &Goal<'_>) -> Result<Report, Failure> {
        let mut observed = observe(&self.kernel, &self.transports, goal)
            .map_err(|error| unobserved(goal.id, &error))?;
        if let Some(device) = observed.device.active() {
            observed.throttles = self.limiter.throttles(device.number);
        }
        let subject = subject(goal, &observed);
        check(goal, &subject, &observed)?;
        let plan = plan(goal, &subject, &observed);
        let applier = Applier {
            kernel: &self.kernel,
            transports: &self.transports,
            limiter: &self.limiter,
            volume: goal.id,
        };
        let taken = applier.apply(&plan)?;
        // After a restart the limits are there, and nobody yet who divides totals.
        if let Some(device) = observed.device.active().filter(|_| goal.needs_device()) {
            self.limiter.govern(device.number, &goal.qos);
        }
        let unserved = served_elsewhere(goal.exports, taken.refused)?;
        tracing::info!(volume = %goal.id, steps = taken.steps.len(), unserved = unserved.len(),
            "volume is as desired");
        Ok(Report {
            generation: 0,
            steps: taken.steps,
            unserved,
        })
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
    Failure::new(
        FailureKind::Kernel,
        format!("failed to observe volume {volume}: {error}"),
    )
}
