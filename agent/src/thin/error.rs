use ashlar_protocol::{Problem, ProblemCode};
use ashlar_targetd_protocol::FailureKind;
use ashlar_thin_metadata::MetadataError;
use thiserror::Error;
use uuid::Uuid;

use crate::targetd::CallError;

/// Why a pool's thin metadata tell nothing.
#[derive(Debug, Error)]
pub enum ThinError {
    /// targetd did not open them.
    #[error("failed to open the thin metadata of pool {pool}: {source}")]
    Open {
        /// Whose.
        pool: Uuid,
        /// Why.
        source: CallError,
    },
    /// targetd did not let go of them.
    #[error("failed to let go of the thin metadata of pool {pool}: {source}")]
    Held {
        /// Whose.
        pool: Uuid,
        /// Why.
        source: CallError,
    },
    /// They could not be read.
    #[error("failed to read the thin metadata of pool {pool}: {source}")]
    Read {
        /// Whose.
        pool: Uuid,
        /// Why.
        source: MetadataError,
    },
    /// The state was let go while it was read, more than once.
    #[error("the thin metadata of pool {pool} were let go while they were read")]
    LetGo {
        /// Whose.
        pool: Uuid,
    },
}

impl ThinError {
    /// Whether the pool has no such thin device.
    pub fn no_device(&self) -> bool {
        matches!(
            self,
            ThinError::Read {
                source: MetadataError::NoDevice(_),
                ..
            }
        )
    }
}

impl From<ThinError> for Problem {
    fn from(error: ThinError) -> Problem {
        let code = match &error {
            ThinError::Open { source, .. } | ThinError::Held { source, .. } => match source {
                CallError::Away(_) | CallError::Lost | CallError::Late(_) => {
                    ProblemCode::TargetdUnavailable
                }
                CallError::Failed(failure) => match failure.kind {
                    FailureKind::Unsupported => ProblemCode::Unsupported,
                    FailureKind::Missing => ProblemCode::WrongState,
                    _ => ProblemCode::KernelFailed,
                },
                CallError::Unexpected { .. } => ProblemCode::Internal,
            },
            ThinError::Read { .. } => ProblemCode::KernelFailed,
            ThinError::LetGo { .. } => ProblemCode::TargetdUnavailable,
        };
        Problem::new(code, error.to_string())
    }
}
