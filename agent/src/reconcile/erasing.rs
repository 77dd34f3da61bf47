//! Clearing what a volume holds before it is destroyed.
//!
//! ```text
//! Clearing ── applied: active, and nobody's ──► thread: page by page ── durable ──► cleared
//!                    ▲                               │ asked for something else, targetd is new
//!                    └── goes on where it was ◄──────┘
//! ```
//!
//! How far it is, only this process knows: the next one begins anew. That costs time and nothing
//! else, since the thin device is destroyed only when all of it is on record as cleared.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use ashlar_protocol::{Clear, JobResult, ObjectRef, Problem, ProblemCode, Progress};
use ashlar_targetd_protocol::{OpenObject, ThinId};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::driver::Reconciler;
use super::failure::{Remedy, Trouble, trouble};
use crate::data::{Device, Eraser, Turn, WriteError, write_problem};
use crate::domain::Intent;
use crate::domain::record::{Clearing, Unit, VolumePhase};
use crate::targetd::OpenDevice;
use crate::thin::{Freshness, Owned, Stretch, Stretches, StretchesQuestion, Views};

/// Volumes cleared at once. In one pool they take turns anyway.
pub(super) const AT_ONCE: usize = 4;
/// Stretches asked for at once.
const PAGE: usize = 1024;

/// How far those under way are.
#[derive(Debug, Default)]
pub(super) struct Erasures {
    under_way: Mutex<BTreeMap<Unit, Progress>>,
}

impl Erasures {
    fn note(&self, unit: Unit, progress: Option<Progress>) {
        let mut under_way = self.lock();
        match progress {
            Some(progress) => under_way.insert(unit, progress),
            None => under_way.remove(&unit),
        };
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Unit, Progress>> {
        let under_way = self.under_way.lock();
        under_way.expect("no holder of this lock panics")
    }
}

/// A volume to clear.
#[derive(Clone, Copy, Debug)]
pub(super) struct Erasure {
    id: Uuid,
    pool: Uuid,
    thin_id: ThinId,
    /// Up to here.
    end: u64,
    clearing: Clearing,
}

impl Erasure {
    /// What is to be cleared of a volume before it is destroyed.
    pub(super) fn of(intent: &Intent, unit: Unit) -> Option<Erasure> {
        let Unit::Volume(id) = unit else { return None };
        let volume = &intent.volume(id)?.record;
        let VolumePhase::Clearing(clearing) = volume.phase else {
            return None;
        };
        let block = intent.pool(volume.pool)?.record.block_size.max(1);
        let end = clearing.size.map(|size| {
            let blocks = size.div_ceil(block);
            blocks.saturating_mul(block).min(volume.size)
        });
        Some(Erasure {
            id,
            pool: volume.pool,
            thin_id: volume.thin_id,
            end: end.unwrap_or(volume.size),
            clearing,
        })
    }

    /// Whether what was done for `before` is done for this.
    fn continues(&self, before: &Erasure) -> bool {
        let same = self.clearing.how == before.clearing.how && self.end == before.end;
        same && (self.pool, self.thin_id) == (before.pool, before.thin_id)
    }
}

/// How far the driver of a volume is with clearing it.
#[derive(Clone, Debug, Default)]
pub(super) struct Erased {
    of: Option<Erasure>,
    /// Before this, everything is cleared.
    reached: u64,
    result: JobResult,
}

/// How clearing ended.
pub(super) enum Ending {
    /// All is cleared, durably.
    All(JobResult),
    /// Something changed: the volume is to be looked at once more.
    Changed,
    /// It is not.
    Failed(Trouble),
}

impl Reconciler {
    /// How far a volume is with being cleared, if it is just now.
    pub fn erasing(&self, unit: Unit) -> Option<Progress> {
        self.shared.erasures.lock().get(&unit).copied()
    }

    /// Clears a volume that is active, from where `erased` says it is.
    pub(super) async fn erase(&self, unit: Unit, erasure: Erasure, erased: &mut Erased) -> Ending {
        if !erased.of.is_some_and(|before| erasure.continues(&before)) {
            *erased = Erased::default();
        }
        erased.of = Some(erasure);
        let wake = self.shared.ledger.wake(unit);
        let permit = tokio::select! {
            permit = self.shared.erasing.acquire() => permit,
            () = wake.notified() => return Ending::Changed,
        };
        let object = OpenObject::Volume(erasure.id);
        let device = match self.shared.targetd.open_device(object, true).await {
            Ok(device) => device,
            Err(error) => return Ending::Failed(trouble(unit.object(), &error)),
        };
        let stop = CancellationToken::new();
        // Also when this is not awaited to its end.
        let _stopped = stop.clone().drop_guard();
        let bandwidth = erasure.clearing.bandwidth;
        let turn = self
            .shared
            .lanes
            .turn(erasure.pool, bandwidth, stop.clone());
        let erasing = Erasing {
            erasure,
            object: unit.object(),
            views: self.shared.thin.clone(),
            turn,
            stop: stop.clone(),
            tell: self.clone(),
            runtime: Handle::current(),
        };
        let from = erased.clone();
        let mut thread = spawn_blocking(move || erasing.run(device, from));
        let ended = tokio::select! {
            ended = &mut thread => ended,
            () = wake.notified() => {
                stop.cancel();
                thread.await
            }
        };
        self.shared.erasures.note(unit, None);
        drop(permit);
        let Ok((reached, outcome)) = ended else {
            let problem = Problem::new(ProblemCode::Internal, "the clearing thread failed");
            return Ending::Failed(Trouble::new(problem.about(unit.object()), Remedy::Retry));
        };
        *erased = reached;
        match outcome {
            Ok(()) => Ending::All(erased.result.clone()),
            Err(Stop::Unwanted) => Ending::Changed,
            Err(Stop::For(problem)) => Ending::Failed(Trouble::new(problem, Remedy::Retry)),
        }
    }
}

/// Why it did not come to its end.
enum Stop {
    /// Something else may be wanted.
    Unwanted,
    /// Anything else.
    For(Problem),
}

/// What the thread does.
struct Erasing {
    erasure: Erasure,
    object: ObjectRef,
    views: Views,
    turn: Turn,
    stop: CancellationToken,
    tell: Reconciler,
    runtime: Handle,
}

impl Erasing {
    fn run(self, device: OpenDevice, mut erased: Erased) -> (Erased, Result<(), Stop>) {
        let outcome = self.all(&device, &mut erased);
        (erased, outcome)
    }

    fn all(&self, device: &OpenDevice, erased: &mut Erased) -> Result<(), Stop> {
        if device.size < self.erasure.end {
            let detail = format!("{}: its device has {} bytes", self.object, device.size);
            let problem = Problem::new(ProblemCode::Internal, detail);
            return Err(Stop::For(problem.about(self.object)));
        }
        let eraser = Eraser::new(Device::behind(&device.file, &self.turn));
        // All that was written up to now is to be seen, and nobody writes any more.
        let mut freshness = Freshness::Now;
        let mut next = Some(erased.reached);
        while let Some(from) = next {
            let page = self.page(from, freshness)?;
            freshness = Freshness::Any;
            for stretch in &page.items {
                self.clear(&eraser, stretch, erased)?;
            }
            next = page.next;
        }
        eraser.finish().map_err(|error| self.stopped(error))?;
        erased.reached = self.erasure.end;
        Ok(())
    }

    fn page(&self, from: u64, freshness: Freshness) -> Result<Stretches<Owned>, Stop> {
        let question = StretchesQuestion {
            pool: self.erasure.pool,
            thin_id: self.erasure.thin_id,
            since: None,
            size: self.erasure.end,
            from,
            limit: PAGE,
            freshness,
        };
        let asked = self.runtime.block_on(self.views.owned(question));
        asked.map_err(|error| Stop::For(Problem::from(error).about(self.object)))
    }

    fn clear(
        &self,
        eraser: &Eraser<'_>,
        stretch: &Stretch<Owned>,
        erased: &mut Erased,
    ) -> Result<(), Stop> {
        let Stretch {
            offset,
            length,
            kind,
        } = *stretch;
        let mut step = |reached: u64| {
            erased.reached = reached;
            self.tell(reached);
            !self.stop.is_cancelled()
        };
        let (total, outcome) = match (self.erasure.clearing.how, kind) {
            (Clear::Zero, Owned::Alone) => {
                let outcome = eraser.zero(offset, length, &mut step);
                (&mut erased.result.written, outcome.map(|()| true))
            }
            // Whether others still have it, the kernel knows best.
            (Clear::Discard, _) => {
                let outcome = eraser.discard(offset, length, &mut step);
                (&mut erased.result.zeroed, outcome)
            }
            // To write would take other blocks and leave these as they are.
            (Clear::Zero, Owned::Shared) | (Clear::None, _) => {
                step(offset + length);
                (&mut erased.result.left, Ok(true))
            }
        };
        let done = erased.reached.saturating_sub(offset).min(length);
        match outcome {
            Ok(true) => add(total, length),
            Ok(false) => add(&mut erased.result.left, length),
            Err(error) => {
                add(total, done);
                return Err(self.stopped(error));
            }
        }
        Ok(())
    }

    fn tell(&self, done: u64) {
        let total = Some(self.erasure.end);
        let progress = Some(Progress { done, total });
        let unit = Unit::Volume(self.erasure.id);
        self.tell.shared.erasures.note(unit, progress);
    }

    fn stopped(&self, error: WriteError) -> Stop {
        match error {
            WriteError::Stopped => Stop::Unwanted,
            error => Stop::For(write_problem(self.object, error)),
        }
    }
}

fn add(total: &mut Option<u64>, more: u64) {
    *total = Some(total.unwrap_or_default() + more);
}
