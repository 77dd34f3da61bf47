//! Why a call failed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ashlar_protocol::{Operation, Problem};

/// A call that failed, and how.
#[derive(Clone, Debug)]
pub struct CallError {
    /// What was asked.
    pub operation: Operation,
    /// What came of it.
    pub failure: Failure,
}

/// Speaks with the voice of its failure, so that a chain of causes says each thing once.
impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.failure.source()
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

/// The three ways to fail: the appliance said no, it was not reached, or it made no sense.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// The appliance said no. Nothing was changed, unless the detail says so.
    #[error("{0}")]
    Problem(Problem),
    /// The appliance was not reached, or was lost. Whether a change was made is not known:
    /// repeat it under the same request id.
    #[error("failed to {action} {endpoint}")]
    Transport {
        /// What was tried.
        action: &'static str,
        /// With whom.
        endpoint: String,
        /// What went wrong.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing came back in time.
    #[error("{endpoint} did not answer within {} s", after.as_secs())]
    Timeout {
        /// Who.
        endpoint: String,
        /// For how long we waited.
        after: Duration,
    },
    /// What came back is not what the protocol says.
    #[error("{endpoint} answered with status {status}, {reason}")]
    Protocol {
        /// Who.
        endpoint: String,
        /// The HTTP status.
        status: u16,
        /// What was wrong with it.
        reason: String,
    },
}

impl CallError {
    /// The appliance's own words, when it said no.
    pub fn problem(&self) -> Option<&Problem> {
        match &self.failure {
            Failure::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// Whether the same call, under the same request id, may succeed later.
    pub fn retryable(&self) -> bool {
        match &self.failure {
            Failure::Problem(problem) => problem.retryable,
            Failure::Transport { .. } | Failure::Timeout { .. } => true,
            Failure::Protocol { .. } => false,
        }
    }
}
