//! A host's secrets: in the kernel once they are in every volume and snapshot the host is connected
//! to.
//!
//! Those are wanted together with the host and have drivers of their own; the host's waits for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use ashlar_protocol::{Problem, ProblemCode};
use uuid::Uuid;

use super::attempt::End;
use super::driver::{Desk, Reconciler};
use super::failure::{Remedy, Trouble};
use crate::domain::record::{ConnectionPhase, Unit};
use crate::domain::settle::Span;

impl Reconciler {
    /// Waits for what a host is connected to. `None` when the engine stops before that.
    pub(super) async fn attempt_host(
        &self,
        host: Uuid,
        desk: &Arc<dyn Desk>,
    ) -> Option<(Span, End)> {
        let (span, units, by_nvme) = {
            let intent = self.shared.intent.read().await;
            let span = self.shared.ledger.begin(Unit::Host(host));
            // Also of those that are being detached, and may have been rendered before.
            let units: BTreeSet<Unit> = intent
                .connections_of_host(host)
                .map(|(_, connection)| Unit::of(connection.of))
                .collect();
            let by_nvme = intent.connections_of_host(host).find(|(_, connection)| {
                connection.transport.is_nvme() && connection.phase == ConnectionPhase::Wanted
            });
            (span, units, by_nvme.map(|(_, c)| Unit::of(c.of)))
        };
        for unit in units {
            let waiting = self.shared.ledger.wait(unit, span.tried);
            // A closed channel means that no more was wanted of it, or that the engine is stopping.
            if let Ok(Err(problem)) = waiting.await {
                return Some((span, End::Failed(stuck(Unit::Host(host), &problem))));
            }
        }
        // The kernel keeps an NVMe host's keys once for all volumes. One that was under way since
        // before may have put the old ones back; none is any more, so another look is the last.
        if let Some(unit) = by_nvme {
            self.doubt(unit, desk).await;
            self.shared.ledger.attempted(unit).await;
            if let Some(problem) = self.shared.ledger.problem(unit) {
                return Some((span, End::Failed(stuck(Unit::Host(host), &problem))));
            }
        }
        // Nobody is told that it is done when all that ended is the waiting.
        (!*self.shared.stopped.borrow()).then_some((span, End::Settled(None)))
    }
}

/// Nothing is taken back, so those who wait are told at once.
pub(super) fn stuck(unit: Unit, problem: &Problem) -> Trouble {
    let object = unit.object();
    let detail = format!("not everywhere yet: {}", problem.detail);
    let remedy = match problem.code {
        ProblemCode::TargetdUnavailable => Remedy::Retry,
        _ => Remedy::Withdraw,
    };
    let problem = Problem {
        object: Some(object),
        detail,
        ..problem.clone()
    };
    Trouble::new(problem, remedy)
}
