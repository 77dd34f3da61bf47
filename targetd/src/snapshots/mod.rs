//! Snapshots: observe → check → plan → apply.
//!
//! ```text
//!   origins ─► all rest ─► all thin devices made ─► all go on      one instant
//!                                    │
//!   held ─► a read-only device of each                             for the agent to open
//! ```
//!
//! | file      | what |
//! |-----------|------|
//! | `observe` | what the kernel has |
//! | `check`   | the safety rules, pure |
//! | `plan`    | the steps from one to the other, pure |
//! | `step`    | one step: how it reads, and what its failure means |
//! | `apply`   | taking the steps |
//! | `instant` | the one step that takes all snapshots, or none |

mod apply;
mod check;
mod instant;
mod observe;
mod plan;
mod step;

use std::collections::BTreeSet;
use std::sync::Arc;

use ashlar_targetd_protocol::{DataState, DesiredSnapshots, Failure, FailureKind, Report};
use uuid::Uuid;

use crate::generations::{Generations, Intent, Kind, Object};
use crate::kernel::{Kernel, KernelError};
use crate::locks::KeyLocks;
use crate::ours;
use crate::thin::{self, ObservedDevice};

pub use check::check;
pub use observe::{ObservedMember, ObservedSnapshots, observe};
pub use plan::{Plan, plan};
pub use step::{Shot, Step};

/// All snapshots. What belongs together is applied together, one apply at a time.
pub struct Snapshots {
    kernel: Kernel,
    locks: Arc<KeyLocks<Uuid>>,
    generations: Generations,
}

impl Snapshots {
    /// Snapshots on a kernel. The locks are shared with the volumes they are taken of.
    pub fn new(kernel: Kernel, locks: Arc<KeyLocks<Uuid>>) -> Self {
        Snapshots {
            kernel,
            locks,
            generations: Generations::default(),
        }
    }

    /// Brings snapshots to their desired state.
    pub fn apply(&self, desired: &DesiredSnapshots) -> Result<Report, Failure> {
        let _alone = self.locks.lock_all(&objects(desired));
        let intent = Intent {
            generation: desired.generation,
            accesses: 0,
            last: desired.data == DataState::Tombstone,
        };
        self.generations.accept(
            Object::new(Kind::Snapshots(desired.kind), desired.id),
            intent,
        )?;
        let observed =
            observe(&self.kernel, desired).map_err(|error| unobserved(desired.id, &error))?;
        check(desired, &observed)?;
        let plan = plan(desired, &observed);
        let steps = apply::apply(&self.kernel, desired.id, &plan)?;
        tracing::info!(snapshots = %desired.id, steps = steps.len(), "snapshots are as desired");
        Ok(Report {
            generation: desired.generation,
            steps,
        })
    }

    /// Removes the device of a snapshot that nobody knows; its data stays.
    pub fn deactivate(&self, id: Uuid) -> Result<Vec<String>, Failure> {
        let _alone = self.locks.lock(&id);
        let name = ours::snapshot_device(id);
        let device = thin::observe(&self.kernel, &name).map_err(|error| unobserved(id, &error))?;
        let step = match device {
            ObservedDevice::Absent => return Ok(Vec::new()),
            ObservedDevice::Empty => Step::RemoveEmpty(id),
            ObservedDevice::Active(_) => Step::Deactivate(id),
            ObservedDevice::Foreign(message) => {
                let kind = FailureKind::Foreign;
                return Err(Failure::new(kind, message));
            }
        };
        apply::apply(&self.kernel, id, &Plan { steps: vec![step] })
    }
}

/// Everything that applying this may hold up or change.
fn objects(desired: &DesiredSnapshots) -> BTreeSet<Uuid> {
    let taken = desired.data == DataState::Provision;
    let mut objects = BTreeSet::from([desired.id]);
    for member in &desired.members {
        objects.insert(member.id);
        objects.extend(taken.then_some(member.source.object));
    }
    objects
}

fn unobserved(snapshots: Uuid, error: &KernelError) -> Failure {
    Failure::new(
        FailureKind::Kernel,
        format!("failed to observe snapshots {snapshots}: {error}"),
    )
}
