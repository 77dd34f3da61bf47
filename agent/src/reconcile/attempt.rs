//! One attempt at bringing the kernel to the intent of one unit.

use std::collections::BTreeSet;

use ashlar_protocol::{Problem, ProblemCode};
use ashlar_targetd_protocol::{
    DesiredPool, DesiredSnapshots, DesiredVolume, PoolReport, Report, Request, Response,
    SnapshotsKind,
};
use uuid::Uuid;

use super::driver::{PoolSeen, Reconciler};
use super::erasing::Erasure;
use super::failure::{Remedy, Trouble, trouble};
use super::render;
use crate::domain::Intent;
use crate::domain::record::Unit;
use crate::domain::settle::Span;
use crate::targetd::CallError;

/// How an attempt ended.
pub(super) enum End {
    /// The kernel has it; and of a pool, this.
    Settled(Option<PoolSeen>),
    /// The kernel has a volume as it is to be while it is cleared.
    Clears(Erasure),
    /// There is nothing left to bring about.
    Forgotten,
    /// It does not.
    Failed(Trouble),
}

/// A unit as it should be.
enum Desired {
    Pool(DesiredPool),
    Volume(Box<DesiredVolume>),
    Snapshots(DesiredSnapshots),
}

impl Reconciler {
    /// Tries once, and says for which generations.
    pub(super) async fn attempt(&self, unit: Unit) -> (Span, End) {
        if let Err(problem) = self.pools_of(unit).await {
            let span = self.shared.ledger.begin(unit);
            let remedy = match problem.code {
                ProblemCode::TargetdUnavailable => Remedy::Retry,
                _ => Remedy::Withdraw,
            };
            return (span, End::Failed(Trouble::new(problem, remedy)));
        }
        let permit = self.shared.permits.acquire().await;
        let (span, rendered, held, erasure) = {
            // The ledger learns of a change under the write lock, so under the read lock the
            // generation is that of what is rendered.
            let intent = self.shared.intent.read().await;
            let span = self.shared.ledger.begin(unit);
            let held = self.shared.holds.wants(unit);
            let erasure = Erasure::of(&intent, unit);
            (span, self.render(&intent, unit, span.tried), held, erasure)
        };
        let end = match rendered {
            Ok(Some(desired)) => self.apply(desired).await.unwrap_or_else(|error| {
                let object = unit.object();
                End::Failed(trouble(object, &error))
            }),
            Ok(None) => End::Forgotten,
            Err(problem) => End::Failed(Trouble::new(problem, Remedy::Withdraw)),
        };
        if held && matches!(end, End::Settled(_)) {
            self.shared.holds.applied(unit);
        }
        let end = match (end, erasure) {
            (End::Settled(_), Some(erasure)) => End::Clears(erasure),
            (end, _) => end,
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
        let site = &self.shared.site.as_of(intent);
        match unit {
            Unit::Pool(id) => {
                let pool = intent.pool(id);
                Ok(pool
                    .map(|pool| Desired::Pool(render::pool(id, &pool.record, site.id, generation))))
            }
            Unit::Volume(id) => {
                let volume = render::volume(intent, site, id, generation)?;
                Ok(volume.map(|volume| {
                    let held = volume.held || self.shared.holds.wants(unit);
                    Desired::Volume(Box::new(DesiredVolume { held, ..volume }))
                }))
            }
            Unit::Snapshot(id) => {
                let snapshot = render::snapshot(intent, site, id, generation)?;
                Ok(snapshot.map(|desired| self.held(desired)))
            }
            Unit::Group(id) => Ok(render::group(intent, id, generation).map(Desired::Snapshots)),
            // What is connected is applied by itself.
            Unit::Host(_) | Unit::Portal(_) => Ok(None),
            Unit::GroupSnapshot(id) => {
                let snapshots = render::group_snapshot(intent, id, generation);
                Ok(snapshots.map(|desired| self.held(desired)))
            }
        }
    }

    /// With the devices active that this process needs.
    fn held(&self, mut desired: DesiredSnapshots) -> Desired {
        for member in &mut desired.members {
            member.held |= self.shared.holds.wants(Unit::Snapshot(member.id));
        }
        Desired::Snapshots(desired)
    }

    async fn apply(&self, desired: Desired) -> Result<End, CallError> {
        match desired {
            Desired::Pool(desired) => self.apply_pool(desired).await,
            Desired::Volume(desired) => {
                let volume = desired.id;
                let request = Request::ApplyVolume(desired);
                let report = self.applied(request, "apply-volume").await?;
                self.shared
                    .addresses
                    .note(Unit::Volume(volume), &report.unserved);
                tracing::debug!(%volume, steps = ?report.steps, "applied");
                Ok(End::Settled(None))
            }
            Desired::Snapshots(desired) => {
                let snapshots = desired.id;
                let alone = desired.kind == SnapshotsKind::Snapshot;
                let request = Request::ApplySnapshots(Box::new(desired));
                let report = self.applied(request, "apply-snapshots").await?;
                if alone {
                    let unit = Unit::Snapshot(snapshots);
                    self.shared.addresses.note(unit, &report.unserved);
                }
                tracing::debug!(%snapshots, steps = ?report.steps, "applied");
                Ok(End::Settled(None))
            }
        }
    }

    /// Applies a pool and looks at it.
    async fn apply_pool(&self, desired: DesiredPool) -> Result<End, CallError> {
        let (pool, absent, takes) = (desired.id, desired.absent, desired.takes);
        let destroys = desired.destroy.is_some();
        // What a held state of its metadata refers to would count as in use. Where it cannot be let
        // go of, that the pool is not empty is the worst that is said.
        let _unheld = match absent {
            true => self.shared.thin.unheld(pool).await.ok(),
            false => None,
        };
        if absent {
            // Its device is not removed while it is open.
            self.shared.catalogs.forget(pool).await;
        }
        let request = Request::ApplyPool(Box::new(desired));
        match self.applied(request, "apply-pool").await {
            Ok(report) => tracing::info!(%pool, steps = ?report.steps, "applied"),
            // It never was, and trying again would not help; its disks are free for another.
            Err(CallError::Failed(failure)) if absent && !destroys && !failure.kind.retryable() => {
                tracing::warn!(%pool, %failure, "a withdrawn pool is forgotten as it is");
            }
            Err(error) => return Err(error),
        }
        match absent {
            true => Ok(End::Settled(None)),
            false => {
                // From here on a box that has its disks from before finds whose they are.
                if takes && let Err(why) = self.shared.catalogs.take_over(pool).await {
                    let detail = format!("failed to take over the catalog of pool {pool}: {why}");
                    let problem = Problem::new(ProblemCode::KernelFailed, detail);
                    let problem = problem.about(Unit::Pool(pool).object());
                    return Ok(End::Failed(Trouble::new(problem, Remedy::Retry)));
                }
                let report = self.look(pool).await?;
                Ok(End::Settled(Some(self.seen(pool, report).await)))
            }
        }
    }

    /// What there is of a pool that answers. Read after it was applied: nothing is made in it that
    /// is not asked for by this process from here on. So what it has learned once holds, and a pool
    /// that is applied once more, as for another low-water mark, is not read again.
    pub(super) async fn seen(&self, pool: Uuid, report: PoolReport) -> PoolSeen {
        let first_free = match self.shared.ledger.uncounted(pool) {
            // All that are taken are below the counter.
            None => Ok(0),
            Some(_) => {
                let first_free = self.shared.thin.first_free(pool).await;
                first_free.map_err(Problem::from)
            }
        };
        PoolSeen { report, first_free }
    }

    async fn applied(&self, request: Request, name: &'static str) -> Result<Report, CallError> {
        match self.shared.targetd.call(request).await? {
            Response::Applied(report) => Ok(report),
            _ => Err(CallError::Unexpected { request: name }),
        }
    }

    pub(super) async fn look(&self, id: Uuid) -> Result<PoolReport, CallError> {
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

    /// The size of a volume's device in bytes, 0 without one, or the capacity of a pool; `None`
    /// when it cannot be known.
    pub(super) async fn device(&self, unit: Unit) -> Option<u64> {
        let id = match unit {
            Unit::Volume(id) => id,
            Unit::Pool(id) => {
                let usage = self.look(id).await.ok()?.usage?;
                return Some(usage.data_total.saturating_mul(usage.block.bytes().0));
            }
            _ => return None,
        };
        let (pool, thin_id) = {
            let intent = self.shared.intent.read().await;
            let record = &intent.volume(id)?.record;
            (record.pool, record.thin_id)
        };
        let request = Request::ObserveVolume { id, pool, thin_id };
        match self.shared.targetd.call(request).await {
            Ok(Response::Volume(report)) => {
                Some(report.active.map_or(0, |sectors| sectors.bytes().0))
            }
            _ => None,
        }
    }

    /// Waits until the pool of what lives in one was tried.
    async fn pools_of(&self, unit: Unit) -> Result<(), Problem> {
        let pools = {
            let intent = self.shared.intent.read().await;
            homes(&intent, unit)
        };
        for pool in pools {
            self.pool_tried(pool, unit).await?;
        }
        Ok(())
    }

    async fn pool_tried(&self, pool: Uuid, unit: Unit) -> Result<(), Problem> {
        let below = Unit::Pool(pool);
        while !self.shared.ledger.settled(below) {
            if let Some(problem) = self.shared.ledger.problem(below) {
                if self.shared.ledger.serves(pool) {
                    return Ok(());
                }
                let detail = format!("pool {pool} is not online: {}", problem.detail);
                let code = match problem.code {
                    // Nothing is known of the pool but that it was not asked.
                    ProblemCode::TargetdUnavailable => ProblemCode::TargetdUnavailable,
                    _ => ProblemCode::WrongState,
                };
                return Err(Problem::new(code, detail).about(unit.object()));
            }
            self.shared.ledger.attempted(below).await;
        }
        Ok(())
    }
}

/// The pools that a unit lives in.
fn homes(intent: &Intent, unit: Unit) -> BTreeSet<Uuid> {
    match unit {
        Unit::Pool(_) | Unit::Host(_) | Unit::Portal(_) => BTreeSet::new(),
        Unit::Volume(id) => intent.volume(id).map_or_else(BTreeSet::new, |v| {
            let after = v.record.moving.map(|moving| moving.to.pool);
            after.into_iter().chain([v.record.pool]).collect()
        }),
        Unit::Snapshot(id) => intent.snapshot(id).map(|s| s.pool).into_iter().collect(),
        Unit::Group(id) => intent
            .volumes_of_group(id)
            .map(|(_, v)| v.record.pool)
            .collect(),
        Unit::GroupSnapshot(id) => intent.snapshots_of_group(id).map(|(_, s)| s.pool).collect(),
    }
}
