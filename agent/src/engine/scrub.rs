//! Having the disks of a pool compared that should have the same.

use ashlar_protocol::{Pool, Problem, ScrubMode, ScrubSpec};
use ashlar_targetd_protocol::{FailureKind, Request, Response, Scrub, SetAction};
use uuid::Uuid;

use super::{Engine, RequestContext, internal};
use crate::domain::decide::check_scrub;
use crate::domain::record::Unit;
use crate::domain::view::Look;
use crate::reconcile::problem_of;
use crate::targetd::CallError;

impl Engine {
    /// Has the disks of each set of a pool compared, or ends that; the pool as it is then. The
    /// kernel does it by itself from then on, and what it comes to is no part of the intent: a
    /// power cut ends it.
    ///
    /// # Errors
    /// When the pool has no redundancy, or targetd refuses.
    pub async fn scrub(
        &self,
        id: Uuid,
        spec: ScrubSpec,
        context: &RequestContext,
    ) -> Result<Pool, Problem> {
        check_scrub(&*self.shared.intent.read().await, id)?;
        let (scrub, action) = match spec.mode {
            ScrubMode::Check => (Scrub::Check, Some(SetAction::Check)),
            ScrubMode::Repair => (Scrub::Repair, Some(SetAction::Repair)),
            ScrubMode::Stop => (Scrub::Stop, None),
        };
        if scrub == Scrub::Stop {
            self.shared.watcher.seen.stops(id);
        }
        let call = self.shared.targetd.call(Request::ScrubPool { id, scrub });
        match call.await {
            Ok(Response::Applied(_)) => {
                let object = Unit::Pool(id).object();
                tracing::info!(request = %context.id, subject = context.subject, %object,
                    mode = ?spec.mode, "scrubs");
            }
            Ok(_) => return Err(internal("targetd answered scrub-pool with something else")),
            // Whoever asks again, because an answer was lost, has what was asked for.
            Err(CallError::Failed(failure))
                if failure.kind == FailureKind::InUse && self.does(id, action).await => {}
            Err(error) => return Err(problem_of(Unit::Pool(id).object(), &error)),
        }
        self.pool(id).await
    }

    /// Whether that goes on in every set of a pool.
    async fn does(&self, id: Uuid, action: Option<SetAction>) -> bool {
        let Some(action) = action else { return false };
        match self.look_at_pool(id).await {
            Look::Report(report) => {
                let sets = report.sets;
                !sets.is_empty() && sets.iter().all(|set| set.action == action)
            }
            Look::Busy | Look::Gone => false,
        }
    }
}
