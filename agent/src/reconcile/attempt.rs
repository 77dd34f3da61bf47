//! One attempt at bringing the kernel to the intent of one unit.

use ashlar_protocol::{Problem, ProblemCode};
use ashlar_targetd_protocol::{DesiredPool, DesiredVolume, PoolReport, Request, Response};
use uuid::Uuid;

use super::driver::Reconciler;
use super::failure::{Remedy, Trouble, trouble};
use super::render;
use crate::domain::Intent;
use crate::domain::record::Unit;
use crate::domain::settle::Span;
use crate::targetd::CallError;

/// How an attempt ended.
pub(super) enum End {
    /// The kernel has it; and of a pool, this.
    Settled(Option<PoolReport>),
    /// There is nothing left to bring about.
    Forgotten,
    /// It does not.
    Failed(Trouble),
}

/// A unit as it should be.
enum Desired {
    Pool(DesiredPool),
    Volume(DesiredVolume),
}

impl Reconciler {
    /// Tries once, and says for which generations.
    pub(super) async fn attempt(&self, unit: Unit) -> (Span, End) {
        if let Unit::Volume(id) = unit
            && let Err(problem) = self.pool_of(id).await
        {
            let span = self.shared.ledger.begin(unit);
            let remedy = Remedy::Withdraw;
            return (span, End::Failed(Trouble { problem, remedy }));
        }
        let permit = self.shared.permits.acquire().await;
        let (span, rendered) = {
            // The ledger learns of a change under the write lock, so under the read lock the
            // generation is that of what is rendered.
            let intent = self.shared.intent.read().await;
            let span = self.shared.ledger.begin(unit);
            (span, self.render(&intent, unit, span.tried))
        };
        let end = match rendered {
            Ok(Some(desired)) => self.apply(desired).await.unwrap_or_else(|error| {
                let object = unit.object();
                End::Failed(trouble(object, &error))
            }),
            Ok(None) => End::Forgotten,
            Err(problem) => {
                let remedy = Remedy::Withdraw;
                End::Failed(Trouble { problem, remedy })
            }
        };
        drop(permit);
        (span, end)
    }

    fn render(
        &self,
        intent: &Intent,
        unit: Unit,
        generation: u64,
    ) -> Result<Option<Desired>, Problem> {
        match unit {
            Unit::Pool(id) => {
                let pool = intent.pool(id);
                Ok(pool.map(|pool| Desired::Pool(render::pool(id, &pool.record, generation))))
            }
            Unit::Volume(id) => {
                let volume = render::volume(intent, &self.shared.site, id, generation)?;
                Ok(volume.map(Desired::Volume))
            }
        }
    }

    async fn apply(&self, desired: Desired) -> Result<End, CallError> {
        match desired {
            Desired::Pool(desired) => self.apply_pool(desired).await,
            Desired::Volume(desired) => {
                let volume = desired.id;
                let request = Request::ApplyVolume(Box::new(desired));
                let steps = self.applied(request, "apply-volume").await?;
                tracing::debug!(%volume, ?steps, "applied");
                Ok(End::Settled(None))
            }
        }
    }

    /// Applies a pool and looks at it.
    async fn apply_pool(&self, desired: DesiredPool) -> Result<End, CallError> {
        let (pool, absent) = (desired.id, desired.absent);
        let request = Request::ApplyPool(Box::new(desired));
        match self.applied(request, "apply-pool").await {
            Ok(steps) => tracing::info!(%pool, ?steps, "applied"),
            // It never was, and trying again would not help; its disks are free for another.
            Err(CallError::Failed(failure)) if absent && !failure.kind.retryable() => {
                tracing::warn!(%pool, %failure, "a withdrawn pool is forgotten as it is");
            }
            Err(error) => return Err(error),
        }
        match absent {
            true => Ok(End::Settled(None)),
            false => self
                .look(pool)
                .await
                .map(|report| End::Settled(Some(report))),
        }
    }

    async fn applied(
        &self,
        request: Request,
        name: &'static str,
    ) -> Result<Vec<String>, CallError> {
        match self.shared.targetd.call(request).await? {
            Response::Applied(report) => Ok(report.steps),
            _ => Err(CallError::Unexpected { request: name }),
        }
    }

    async fn look(&self, id: Uuid) -> Result<PoolReport, CallError> {
        match self
            .shared
            .targetd
            .call(Request::ObservePool { id })
            .await?
        {
            Response::Pool(report) if report.usage.is_some() => Ok(report),
            _ => Err(CallError::Unexpected {
                request: "observe-pool",
            }),
        }
    }

    /// Waits until the pool of a volume was tried.
    async fn pool_of(&self, volume: Uuid) -> Result<(), Problem> {
        let pool = {
            let intent = self.shared.intent.read().await;
            match intent.volume(volume) {
                Some(entry) => entry.record.pool,
                None => return Ok(()),
            }
        };
        let unit = Unit::Pool(pool);
        while !self.shared.ledger.settled(unit) {
            if let Some(problem) = self.shared.ledger.problem(unit) {
                let detail = format!("pool {pool} is not online: {}", problem.detail);
                let object = Unit::Volume(volume).object();
                return Err(Problem::new(ProblemCode::WrongState, detail).about(object));
            }
            self.shared.ledger.attempted(unit).await;
        }
        Ok(())
    }
}
