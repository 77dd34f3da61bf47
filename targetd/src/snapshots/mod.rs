//! Snapshots: observe → check → plan → apply.
//!
//! ```text
//!   origins ─► all rest ─► all thin devices made ─► all go on      one instant
//!                                    │
//!   held ─► a read-only device of each                             for the agent to open
//!   exported ─► the same, and its exports                          for hosts to read
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

use ashlar_targetd_protocol::{
    Accesses, DataState, DesiredSnapshot, DesiredSnapshots, Exports, Failure, FailureKind, Report,
};
use uuid::Uuid;

use crate::generations::{Generations, Intent, Kind, Object};
use crate::kernel::{Kernel, KernelError};
use crate::locks::KeyLocks;
use crate::ours;
use crate::thin::{self, ObservedDevice};
use crate::transport::{Exported, Subject, Transports, served_elsewhere};

pub use check::check;
pub use observe::{ObservedMember, ObservedSnapshots, observe};
pub use plan::{Plan, plan};
pub use step::{Shot, Step};

/// All snapshots. What belongs together is applied together, one apply at a time.
pub struct Snapshots {
    kernel: Kernel,
    transports: Arc<Transports>,
    locks: Arc<KeyLocks<Uuid>>,
    generations: Generations,
}

impl Snapshots {
    /// Snapshots on a kernel. The locks are shared with the volumes they are taken of.
    pub fn new(kernel: Kernel, transports: Arc<Transports>, locks: Arc<KeyLocks<Uuid>>) -> Self {
        Snapshots {
            kernel,
            transports,
            locks,
            generations: Generations::default(),
        }
    }

    /// Brings snapshots to their desired state.
    pub fn apply(&self, desired: &DesiredSnapshots) -> Result<Report, Failure> {
        let _alone = self.locks.lock_all(&objects(desired));
        let intent = Intent {
            generation: desired.generation,
            accesses: desired.members.iter().map(accesses).sum(),
            last: desired.data == DataState::Tombstone,
        };
        self.generations.accept(
            Object::new(Kind::Snapshots(desired.kind), desired.id),
            intent,
        )?;
        let observed = observe(&self.kernel, &self.transports, desired)
            .map_err(|error| unobserved(desired.id, &error))?;
        check(desired, &observed)?;
        let plan = plan(desired, &observed);
        let taken = apply::apply(&self.kernel, &self.transports, desired.id, &plan)?;
        // Exported are only those that are by themselves.
        let unserved = match &desired.members[..] {
            [member] => served_elsewhere(&member.exports, taken.refused)?,
            _ => Vec::new(),
        };
        let steps = taken.steps;
        tracing::info!(snapshots = %desired.id, steps = steps.len(), "snapshots are as desired");
        Ok(Report {
            generation: desired.generation,
            steps,
            unserved,
        })
    }

    /// Takes the exports and the device of a snapshot that nobody knows out of the kernel; its data
    /// stays. Without a device there is nothing that would be a snapshot's.
    pub fn unexport(&self, id: Uuid) -> Result<Vec<String>, Failure> {
        let _alone = self.locks.lock(&id);
        let failed = |error| unobserved(id, &error);
        let name = ours::snapshot_device(id);
        let device = thin::observe(&self.kernel, &name).map_err(failed)?;
        let mut steps = Vec::new();
        let last = match device {
            ObservedDevice::Absent => return Ok(Vec::new()),
            ObservedDevice::Empty => Step::RemoveEmpty(id),
            ObservedDevice::Active(device) => {
                steps.extend(plan::mending(id, &device));
                Step::Deactivate(id)
            }
            ObservedDevice::Foreign(message) => {
                let kind = FailureKind::Foreign;
                return Err(Failure::new(kind, message));
            }
        };
        let (nothing, nobody) = (Exports::default(), Accesses::default());
        let subject = Subject {
            what: Exported::Snapshot(id),
            device: None,
            grows: false,
            cut: &nobody,
            exports: &nothing,
        };
        let tree = self.kernel.tree();
        let exports = self.transports.observe(tree, id, &nothing);
        let exports = exports.map_err(|error| failed(error.into()))?;
        exports.check(&subject, &nothing)?;
        let exports = exports.plan(&subject, &nothing);
        let gone = exports.removals.into_iter().chain(exports.leftovers);
        steps.extend(gone.map(|step| Step::Export(id, step)));
        steps.push(last);
        let taken = apply::apply(&self.kernel, &self.transports, id, &Plan { steps })?;
        Ok(taken.steps)
    }
}

fn accesses(member: &DesiredSnapshot) -> usize {
    member.exports.accesses()
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
