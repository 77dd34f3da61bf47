//! What the safety rules forbid.

use ashlar_targetd_protocol::{Accesses, Failure, FailureKind};

/// A desired state that is not carried out, although the kernel might.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// What the caller can react to.
    pub kind: FailureKind,
    /// Which rule, about which object.
    pub reason: String,
    /// The hosts that use what they were to lose, if that is the rule.
    pub users: Accesses,
}

impl Refusal {
    pub(crate) fn new(kind: FailureKind, reason: impl Into<String>) -> Self {
        Refusal {
            kind,
            reason: reason.into(),
            users: Accesses::default(),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure {
            kind: refusal.kind,
            message: refusal.reason,
            users: refusal.users,
        }
    }
}
