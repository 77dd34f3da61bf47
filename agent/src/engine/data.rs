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

use std::time::Duration;

use ashlar_extents::ExtentsError;
use ashlar_protocol::{ObjectRef, Problem, ProblemCode};
use nix::errno::Errno;
use tokio_util::sync::CancellationToken;

use crate::data::{ReadError, WriteError};

/// Pieces of a body under way between a request and its thread, of 1 MiB at most.
const UNDER_WAY: usize = 4;

/// A peer that neither gives nor takes anything for so long is gone.
const STALLED: Duration = Duration::from_secs(60);

pub(super) fn write_problem(object: ObjectRef, error: WriteError) -> Problem {
    let code = match &error {
        WriteError::TooLong { .. } | WriteError::Extents(ExtentsError::TooLarge { .. }) => {
            ProblemCode::OutOfRange
        }
        WriteError::Extents(_) => ProblemCode::MalformedRequest,
        WriteError::Stopped => ProblemCode::Interrupted,
        WriteError::Device { source, .. } => match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOSPC) => ProblemCode::NoSpace,
            _ => ProblemCode::KernelFailed,
        },
    };
    let detail = match std::error::Error::source(&error) {
        Some(cause) => format!("{object}: {error}: {cause}"),
        None => format!("{object}: {error}"),
    };
    Problem::new(code, detail).about(object)
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
