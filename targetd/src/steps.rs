//! Taking steps, one after the other. No decisions: those are the plan's.

use std::fmt::Display;

use ashlar_kernel_iface::tree::{Change, Errno};
use ashlar_targetd_protocol::{Failure, FailureKind, ServedAt, Transport, Unserved};

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

    /// Where it has hosts come to and nothing else, if it does: nothing builds on it, so that what
    /// comes after it is done although it is refused.
    fn listens(&self) -> Option<(Transport, ServedAt)> {
        None
    }
}

/// What became of steps.
#[derive(Debug, Default)]
pub struct Taken {
    /// Those that changed something, in words.
    pub steps: Vec<String>,
    /// Addresses and ports that were refused.
    pub refused: Vec<Refused>,
}

impl Taken {
    fn refuses(&self, transport: Transport, at: ServedAt) -> bool {
        let mut refused = self.refused.iter().map(|one| &one.unserved);
        refused.any(|one| one.transport == transport && one.at == at)
    }

    /// And then these.
    pub fn extend(&mut self, more: Taken) {
        self.steps.extend(more.steps);
        self.refused.extend(more.refused);
    }
}

/// An address or a port that was refused.
#[derive(Debug)]
pub struct Refused {
    /// Which, and why.
    pub unserved: Unserved,
    /// What it means to the caller, if there is no other.
    pub kind: FailureKind,
}

/// Takes the steps for `object`, such as `volume 6ba7b810-…`. The first refusal ends it, but for those
/// of places, after which the others are tried; what was done stays, and the next plan goes on from
/// there.
pub fn take<'s, S: Step + 's>(
    kernel: &Kernel,
    object: &str,
    steps: impl IntoIterator<Item = &'s S>,
    run: impl Fn(&S) -> Result<Change, KernelError>,
) -> Result<Taken, Failure> {
    let (mut taken, mut failed) = (Taken::default(), None);
    for step in steps {
        let change = match run(step) {
            Ok(change) => change,
            Err(cause) => {
                let failure = failure(kernel, object, step, &cause);
                let Some((transport, at)) = step.listens() else {
                    return Err(failure);
                };
                tracing::debug!(object, %step, ?failure, "refused");
                if !is_of_place(&cause, at) {
                    failed.get_or_insert(failure);
                    continue;
                }
                // What comes of the first refusal says less.
                if taken.refuses(transport, at) {
                    continue;
                }
                taken.refused.push(Refused {
                    unserved: Unserved {
                        transport,
                        at,
                        absent: at.address().is_some() && is_absent(&cause),
                        message: failure.message,
                    },
                    kind: failure.kind,
                });
                continue;
            }
        };
        tracing::debug!(object, %step, ?change, "step");
        if change == Change::Changed {
            taken.steps.push(step.to_string());
        }
    }
    failed.map_or(Ok(taken), Err)
}

/// Whether the kernel refused for what the place is. An address is not there, something else listens
/// there, nothing carries the transport there, or (what TCP does not open, RDMA does not find) one of
/// these has kept it from being opened at all. A port is not there, nothing makes it a target, or
/// another has it.
fn is_of_place(cause: &KernelError, at: ServedAt) -> bool {
    let of_place = match at {
        ServedAt::Address(_) => matches!(
            cause.errno(),
            Some(Errno::EADDRINUSE | Errno::EINVAL | Errno::ENOENT | Errno::EACCES)
        ),
        ServedAt::Fc(_) | ServedAt::NvmeFc(_) => matches!(
            cause.errno(),
            Some(Errno::ENXIO | Errno::EALREADY | Errno::EINVAL | Errno::ENOENT)
        ),
    };
    of_place || is_absent(cause)
}

/// Whether the kernel refused for want of the address, or of a device that has it.
fn is_absent(cause: &KernelError) -> bool {
    matches!(cause.errno(), Some(Errno::EADDRNOTAVAIL | Errno::ENODEV))
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
