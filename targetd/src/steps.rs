//! Taking steps, one after the other. No decisions: those are the plan's.

use std::fmt::Display;

use ashlar_kernel_iface::tree::{Change, Errno};
use ashlar_targetd_protocol::{Failure, FailureKind};

use crate::kernel::KernelError;

/// One change of the kernel. Prints as a line without secrets.
pub trait Step: Display {
    /// What the kernel's refusal means to the caller.
    fn meaning(&self, errno: Errno) -> FailureKind;
}

/// Takes the steps for `object`, such as `volume 6ba7b810-…`, and answers those that changed something. The first refusal ends
/// it; what was done stays, and the next plan goes on from there.
pub fn take<'s, S: Step + 's>(
    object: &str,
    steps: impl IntoIterator<Item = &'s S>,
    run: impl Fn(&S) -> Result<Change, KernelError>,
) -> Result<Vec<String>, Failure> {
    let mut taken = Vec::new();
    for step in steps {
        let change = run(step).map_err(|cause| {
            let message = format!("failed to {step} for {object}: {cause}");
            Failure::new(kind(step, &cause), message)
        })?;
        tracing::debug!(object, %step, ?change, "step");
        if change == Change::Changed {
            taken.push(step.to_string());
        }
    }
    Ok(taken)
}

fn kind(step: &impl Step, cause: &KernelError) -> FailureKind {
    match cause {
        KernelError::Occupied { .. } => FailureKind::Occupied,
        _ => cause
            .errno()
            .map_or(FailureKind::Kernel, |errno| step.meaning(errno)),
    }
}
