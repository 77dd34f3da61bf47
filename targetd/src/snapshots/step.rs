//! One change of the kernel on the way of snapshots to their desired state.

use std::fmt;

use ashlar_kernel_iface::dm::DmName;
use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{FailureKind, ServedAt, ThinId, Transport};
use uuid::Uuid;

use crate::steps;
use crate::thin::{self, Place};
use crate::transport::ExportStep;

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A change of an export of a snapshot.
    Export(Uuid, ExportStep),
    /// Remove the device of a snapshot that never got a table.
    RemoveEmpty(Uuid),
    /// Remove the device of a snapshot. Its data stays in the pool.
    Deactivate(Uuid),
    /// Drop a table that was loaded into an origin and never used.
    DropSecondTableOf(DmName),
    /// Take all snapshots at one instant, or none.
    Take {
        /// The snapshots.
        shots: Vec<Shot>,
        /// The devices whose I/O rests meanwhile.
        resting: Vec<DmName>,
    },
    /// Drop a table that was loaded into the device of a snapshot and never used.
    DropSecondTable(Uuid),
    /// Let I/O of a snapshot go on.
    Resume(Uuid),
    /// Make the device of a snapshot, read-only.
    Activate(Uuid, Place),
    /// Destroy the data.
    Delete {
        /// The pool.
        pool: Uuid,
        /// The thin device.
        id: ThinId,
    },
}

/// One thin device made from another of its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shot {
    /// The pool.
    pub pool: Uuid,
    /// The new thin device.
    pub id: ThinId,
    /// The one whose content it gets.
    pub of: ThinId,
}

impl fmt::Display for Shot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shot { pool, id, of } = self;
        write!(f, "thin device {id} of pool {pool} from {of}")
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Export(_, step) => step.fmt(f),
            Step::RemoveEmpty(id) => {
                write!(f, "remove the device of snapshot {id}, which has no table")
            }
            Step::Deactivate(id) => write!(f, "deactivate snapshot {id}"),
            Step::DropSecondTableOf(device) => write!(f, "drop the unused table of {device}"),
            Step::Take { shots, resting } => {
                write!(f, "create {}", listed(shots))?;
                match resting.as_slice() {
                    [] => Ok(()),
                    [one] => write!(f, " while {one} rests"),
                    several => write!(f, " while {} rest", listed(several)),
                }
            }
            Step::DropSecondTable(id) => write!(f, "drop the unused table of snapshot {id}"),
            Step::Resume(id) => write!(f, "resume snapshot {id}"),
            Step::Activate(id, place) => write!(f, "activate snapshot {id}: {place}, read-only"),
            Step::Delete { pool, id } => write!(f, "delete thin device {id} of pool {pool}"),
        }
    }
}

fn listed<T: fmt::Display>(items: &[T]) -> String {
    let words: Vec<String> = items.iter().map(T::to_string).collect();
    words.join(", ")
}

impl steps::Step for Step {
    fn meaning(&self, errno: Errno) -> FailureKind {
        match self {
            Step::Export(_, step) => step.meaning(errno),
            _ => thin::meaning(errno),
        }
    }
    fn needs(&self) -> Option<&'static str> {
        match self {
            Step::Export(_, step) => step.needs(),
            _ => None,
        }
    }

    fn listens(&self) -> Option<(Transport, ServedAt)> {
        match self {
            Step::Export(_, step) => step.listens(),
            _ => None,
        }
    }
}
