//! What targetd's refusals mean to a client.

use ashlar_protocol::{ObjectRef, Problem, ProblemCode};
use ashlar_targetd_protocol::{Accesses, Failure, FailureKind};

use crate::targetd::CallError;

/// A failure of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// As told to clients.
    pub problem: Problem,
    /// The hosts that do not let go, if that is the trouble and they are known.
    pub users: Accesses,
    /// What the driver does about it.
    pub remedy: Remedy,
}

/// What the driver of a unit does about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The same again, after a pause.
    Retry,
    /// The same again for a while; then what is in use stays, and what was added is taken back.
    Restore,
    /// What was added is taken back.
    Withdraw,
    /// What was added is forgotten, and nothing destroyed: what is there is somebody else's.
    Forget,
}

/// What `error` means to a client who only asked.
pub fn problem_of(object: ObjectRef, error: &CallError) -> Problem {
    trouble(object, error).problem
}

/// What `error` means for `object`.
pub fn trouble(object: ObjectRef, error: &CallError) -> Trouble {
    let (code, retryable, remedy) = match error {
        CallError::Failed(failure) => return refused(object, failure),
        CallError::Away(_) | CallError::Lost | CallError::Late(_) => {
            (ProblemCode::TargetdUnavailable, true, Remedy::Retry)
        }
        CallError::Unexpected { .. } => (ProblemCode::Internal, false, Remedy::Withdraw),
    };
    let mut problem = Problem::new(code, error.to_string()).about(object);
    problem.retryable = retryable;
    Trouble::new(problem, remedy)
}

impl Trouble {
    /// Trouble that no host is to blame for.
    pub fn new(problem: Problem, remedy: Remedy) -> Trouble {
        Trouble {
            problem,
            users: Accesses::default(),
            remedy,
        }
    }
}

fn refused(object: ObjectRef, failure: &Failure) -> Trouble {
    let code = match failure.kind {
        FailureKind::Unsupported => ProblemCode::Unsupported,
        FailureKind::InUse => ProblemCode::InUse,
        FailureKind::NotBlank => ProblemCode::NotBlank,
        FailureKind::Missing | FailureKind::Refused => ProblemCode::WrongState,
        FailureKind::NoSpace => ProblemCode::NoSpace,
        FailureKind::Foreign
        | FailureKind::Occupied
        | FailureKind::Address
        | FailureKind::Kernel => ProblemCode::KernelFailed,
        FailureKind::Stopping => ProblemCode::TargetdUnavailable,
    };
    let mut problem = Problem::new(code, failure.message.clone()).about(object);
    problem.retryable = failure.kind.retryable();
    let remedy = match (failure.kind, failure.kind.retryable()) {
        (FailureKind::InUse, _) => Remedy::Restore,
        (FailureKind::Occupied, _) => Remedy::Forget,
        (_, true) => Remedy::Retry,
        (_, false) => Remedy::Withdraw,
    };
    Trouble {
        users: failure.users.clone(),
        ..Trouble::new(problem, remedy)
    }
}

#[cfg(test)]
mod tests {
    use ashlar_protocol::ObjectKind;

    use super::*;

    const OBJECT: ObjectRef = ObjectRef {
        kind: ObjectKind::Volume,
        id: uuid::Uuid::nil(),
    };

    #[test]
    fn each_refusal_has_its_code_and_remedy() {
        for (kind, code, remedy) in [
            (
                FailureKind::Unsupported,
                ProblemCode::Unsupported,
                Remedy::Withdraw,
            ),
            (FailureKind::InUse, ProblemCode::InUse, Remedy::Restore),
            (
                FailureKind::Missing,
                ProblemCode::WrongState,
                Remedy::Withdraw,
            ),
            (
                FailureKind::NotBlank,
                ProblemCode::NotBlank,
                Remedy::Withdraw,
            ),
            (
                FailureKind::Refused,
                ProblemCode::WrongState,
                Remedy::Withdraw,
            ),
            (FailureKind::NoSpace, ProblemCode::NoSpace, Remedy::Withdraw),
            (
                FailureKind::Foreign,
                ProblemCode::KernelFailed,
                Remedy::Withdraw,
            ),
            (
                FailureKind::Occupied,
                ProblemCode::KernelFailed,
                Remedy::Forget,
            ),
            (
                FailureKind::Address,
                ProblemCode::KernelFailed,
                Remedy::Retry,
            ),
            (
                FailureKind::Kernel,
                ProblemCode::KernelFailed,
                Remedy::Retry,
            ),
            (
                FailureKind::Stopping,
                ProblemCode::TargetdUnavailable,
                Remedy::Retry,
            ),
        ] {
            let message = "failed to do it: EIO".to_owned();
            let trouble = trouble(OBJECT, &CallError::Failed(Failure::new(kind, message)));
            assert_eq!(
                (trouble.problem.code, trouble.remedy),
                (code, remedy),
                "{kind:?}"
            );
            assert_eq!(trouble.problem.detail, "failed to do it: EIO");
            assert_eq!(trouble.problem.object, Some(OBJECT));
        }
    }

    #[test]
    fn a_lost_call_is_tried_again() {
        let trouble = trouble(OBJECT, &CallError::Lost);
        assert_eq!(trouble.problem.code, ProblemCode::TargetdUnavailable);
        assert_eq!(trouble.remedy, Remedy::Retry);
    }
}
