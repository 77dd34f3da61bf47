//! Moving what volumes and snapshots hold, as long work.
//!
//! ```text
//! import   request ── Bytes, End ──► thread: Writer ──► device     told its end: job, answer
//! image    request ── Bytes, End ──► thread: Writer ──► a volume of the job's
//!          sandboxed process: its image ── extents ──► thread: Writer ──► device
//! export   thread: Reader ── Bytes ──► answer; the last one once the job has ended
//! ```
//!
//! A task of its own ends the job, whatever becomes of the request: only when the thread has let
//! go of the device.

mod export;
mod image;
mod import;

pub use export::{Broken, Download, Export};
pub use import::{Import, Upload, Uploading};
pub(super) use import::{Pieces, failed, reach};

use std::time::Duration;

use ashlar_protocol::{ObjectKind, ObjectRef, Problem, ProblemCode};
use tokio_util::sync::CancellationToken;

use super::{Engine, Meter};
use crate::data::{ReadError, Turn};

/// Pieces of a body under way between a request and its thread, of 1 MiB at most.
const UNDER_WAY: usize = 4;

/// A peer that neither gives nor takes anything for so long is gone.
const STALLED: Duration = Duration::from_secs(60);

impl Engine {
    /// A turn at the disks of an object's pool, for work on the object.
    pub(super) async fn turn(
        &self,
        object: ObjectRef,
        bandwidth: Option<u64>,
        meter: &Meter,
    ) -> Turn {
        let pool = {
            let intent = self.shared.intent.read().await;
            match object.kind {
                ObjectKind::Snapshot => intent.snapshot(object.id).map(|record| record.pool),
                _ => intent.volume(object.id).map(|entry| entry.record.pool),
            }
        };
        // What is gone meanwhile has a lane of its own.
        let pool = pool.unwrap_or_default();
        self.shared.lanes.turn(pool, bandwidth, meter.token())
    }
}

pub(super) fn read_problem(object: ObjectRef, error: &ReadError) -> Problem {
    let (code, cause) = match error {
        ReadError::Stopped => (ProblemCode::Interrupted, String::new()),
        ReadError::Device { source, .. } => (ProblemCode::KernelFailed, format!(": {source}")),
        ReadError::Unplanned(source) => (ProblemCode::Interrupted, format!(": {source}")),
    };
    Problem::new(code, format!("{object}: {error}{cause}")).about(object)
}

/// Nobody is there any more to give or take the rest. A client that goes away has cancelled;
/// one that we leave, since we are stopping, has been interrupted.
fn broken_off(object: ObjectRef, what: &str, leaving: &CancellationToken) -> Problem {
    let (code, why) = match leaving.is_cancelled() {
        true => (
            ProblemCode::Interrupted,
            "the connection was closed from here",
        ),
        false => (ProblemCode::Cancelled, "its client disconnected or stalled"),
    };
    let mut problem = Problem::new(code, format!("{object}: {why}; {what}")).about(object);
    problem.retryable = true;
    problem
}
