//! Taking steps, one after the other. No decisions: those are the plan's.

use std::fmt::Display;

use ashlar_kernel_iface::tree::{Change, Errno};
use ashlar_targetd_protocol::{Failure, FailureKind};

use crate::features;
use crate::kernel::{Kernel, KernelError};

/// One change of the kernel. Prints as a line without secrets.
pub trait Step: Display {
    /// What the kernel's refusal means to the caller.
    fn meaning(&self, errno: Errno) -> FailureKind;

    /// What of the kernel's it needs, by its name among the features: a refusal may be for want
    /// of that, which the kernel does not say.
    fn needs(&self) -> Option<&'static str> {
        None
    }

    /// Whether nothing builds on it, so that what comes after it is done although it is refused.
    fn stands_alone(&self) -> bool {
        false
    }
}

/// Takes the steps for `object`, such as `volume 6ba7b810-…`, and answers those that changed
/// something. The refusal that ends it is answered, or the first one of steps that stand alone; what
/// was done stays, and the next plan goes on from there.
pub fn take<'s, S: Step + 's>(
    kernel: &Kernel,
    object: &str,
    steps: impl IntoIterator<Item = &'s S>,
    run: impl Fn(&S) -> Result<Change, KernelError>,
) -> Result<Vec<String>, Failure> {
    let (mut taken, mut refused) = (Vec::new(), None);
    for step in steps {
        let change = match run(step) {
            Ok(change) => change,
            Err(cause) => {
                let failure = failure(kernel, object, step, &cause);
                if !step.stands_alone() {
                    return Err(failure);
                }
                tracing::debug!(object, %step, ?failure, "refused");
                refused.get_or_insert(failure);
                continue;
            }
        };
        tracing::debug!(object, %step, ?change, "step");
        if change == Change::Changed {
            taken.push(step.to_string());
        }
    }
    refused.map_or(Ok(taken), Err)
}

fn failure(kernel: &Kernel, object: &str, step: &impl Step, cause: &KernelError) -> Failure {
    let kind = kind(step, cause);
    let mut message = format!("failed to {step} for {object}: {cause}");
    if kind == FailureKind::Unsupported
        && let Some(problem) = step
            .needs()
            .and_then(|name| features::problem(kernel, name))
    {
        message = format!("{message}: {problem}");
    }
    Failure::new(kind, message)
}

fn kind(step: &impl Step, cause: &KernelError) -> FailureKind {
    match cause {
        KernelError::Occupied { .. } => FailureKind::Occupied,
        _ => cause
            .errno()
            .map_or(FailureKind::Kernel, |errno| step.meaning(errno)),
    }
}
