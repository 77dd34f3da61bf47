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
//!
//! What the kernel refers to twice it does not discard, and the state of a pool's metadata that is
//! held to see what is mapped counts: none is held while anything is discarded. And a pool may take
//! discards without doing anything. So it is looked once more whether anything is mapped after
//! that, which is an error then.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use ashlar_protocol::{Clear, JobResult, ObjectRef, Problem, ProblemCode, Progress};
use ashlar_targetd_protocol::{OpenObject, ThinId};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::driver::Reconciler;
use super::failure::{Remedy, Trouble, trouble};
use crate::data::{Device, Eraser, Turn, WriteError, write_problem};
use crate::domain::Intent;
use crate::domain::record::{Clearing, Unit, VolumePhase};
use crate::targetd::OpenDevice;
use crate::thin::{Freshness, Owned, Stretch, Stretches, StretchesQuestion, Unheld, Views};

/// Volumes of one pool cleared at once. They take turns anyway.
const AT_ONCE: usize = 4;
/// Stretches asked for at once.
const PAGE: usize = 1024;

/// How far those under way are, and how many more there may be.
#[derive(Debug, Default)]
pub(super) struct Erasures {
    under_way: Mutex<BTreeMap<Unit, Progress>>,
    /// By pool.
    permits: Mutex<BTreeMap<Uuid, Arc<Semaphore>>>,
}

impl Erasures {
    fn note(&self, unit: Unit, progress: Option<Progress>) {
        let mut under_way = self.lock();
        match progress {
            Some(progress) => under_way.insert(unit, progress),
            None => under_way.remove(&unit),
        };
    }

    /// Those of a pool, so that none that is slow holds up another.
    fn permits(&self, pool: Uuid) -> Arc<Semaphore> {
        let permits = self.permits.lock();
        let mut permits = permits.expect("no holder of this lock panics");
        // Of pools nobody waits in, nothing is remembered.
        permits.retain(|_, permits| Arc::strong_count(permits) > 1);
        let new = || Arc::new(Semaphore::new(AT_ONCE));
        Arc::clone(permits.entry(pool).or_insert_with(new))
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
    /// Of the pool.
    block: u64,
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
            block,
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
    done: Done,
}

/// What is cleared. Only when it is durable is it anything to go on from.
#[derive(Clone, Debug, Default)]
struct Done {
    /// Before this, everything is.
    reached: u64,
    result: JobResult,
    /// Whether the device does not take what it was told.
    refused: bool,
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
        let permits = self.shared.erasures.permits(erasure.pool);
        let permit = tokio::select! {
            permit = permits.acquire() => permit,
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
        let (lanes, pool) = (&self.shared.lanes, erasure.pool);
        let turn = match erasure.clearing.how {
            Clear::Discard => lanes.turn_for_room(pool, bandwidth, stop.clone()),
            Clear::Zero | Clear::None => lanes.turn(pool, bandwidth, stop.clone()),
        };
        let erasing = Erasing {
            erasure,
            object: unit.object(),
            views: self.shared.thin.clone(),
            turn,
            stop: stop.clone(),
            tell: self.clone(),
            runtime: Handle::current(),
        };
        let from = erased.done.clone();
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
        let Ok((done, outcome)) = ended else {
            let problem = Problem::new(ProblemCode::Internal, "the clearing thread failed");
            return Ending::Failed(Trouble::new(problem.about(unit.object()), Remedy::Retry));
        };
        erased.done = done;
        match outcome {
            Ok(()) => Ending::All(erased.done.result.clone()),
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
    /// Goes on from what is durable; what is then.
    fn run(self, device: OpenDevice, from: Done) -> (Done, Result<(), Stop>) {
        let eraser = Eraser::new(Device::behind(&device.file, &self.turn));
        let mut done = from.clone();
        let outcome = self.all(&eraser, device.size, &mut done);
        if let Err(error) = eraser.finish() {
            return (from, outcome.and(Err(self.stopped(error))));
        }
        let looks = self.erasure.clearing.how == Clear::Discard && !done.refused;
        let ended = match outcome {
            Ok(()) if looks => match self.look_again() {
                Ok(()) => (done, Ok(())),
                // It is begun anew: only what is mapped still is told once more.
                Err(stop) => (Done::default(), Err(stop)),
            },
            outcome => (done, outcome),
        };
        // The pool has nothing back of what is destroyed next as long as this is held.
        self.runtime.block_on(self.views.rest(self.erasure.pool));
        ended
    }

    fn all(&self, eraser: &Eraser<'_>, size: u64, done: &mut Done) -> Result<(), Stop> {
        if size < self.erasure.end {
            let detail = format!("{}: its device has {size} bytes", self.object);
            let problem = Problem::new(ProblemCode::Internal, detail);
            return Err(Stop::For(problem.about(self.object)));
        }
        self.stretches(done.reached, |stretch| self.clear(eraser, &stretch, done))?;
        done.reached = self.erasure.end;
        Ok(())
    }

    /// All that is mapped from somewhere on.
    fn stretches(
        &self,
        from: u64,
        mut each: impl FnMut(Stretch<Owned>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        // All that was written up to now is to be seen, and nobody writes any more.
        let mut freshness = Freshness::Now;
        let mut next = Some(from);
        while let Some(from) = next {
            let page = self.page(from, freshness)?;
            freshness = Freshness::Any;
            page.items.into_iter().try_for_each(&mut each)?;
            next = page.next;
        }
        Ok(())
    }

    /// Whether nothing is mapped any more of what was discarded.
    fn look_again(&self) -> Result<(), Stop> {
        let mut still = 0;
        self.stretches(0, |stretch| {
            still += stretch.length - self.rest(&stretch);
            Ok(())
        })?;
        if still == 0 {
            return Ok(());
        }
        let detail = format!(
            "{}: the pool took the discards, but {still} bytes are still mapped",
            self.object
        );
        let problem = Problem::new(ProblemCode::KernelFailed, detail);
        Err(Stop::For(problem.about(self.object)))
    }

    /// How much of a stretch is in the last block of the volume, if there is no whole one: the
    /// kernel takes no note of discards of parts.
    fn rest(&self, stretch: &Stretch<Owned>) -> u64 {
        let ends = stretch.offset + stretch.length == self.erasure.end;
        match ends {
            true => stretch.length.min(self.erasure.end % self.erasure.block),
            false => 0,
        }
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

    /// Lets the kernel see that nobody else has what is discarded, if nobody has.
    fn unheld(&self) -> io::Result<Unheld> {
        let unheld = self.views.unheld(self.erasure.pool);
        self.runtime.block_on(unheld).map_err(io::Error::other)
    }

    fn clear(
        &self,
        eraser: &Eraser<'_>,
        stretch: &Stretch<Owned>,
        done: &mut Done,
    ) -> Result<(), Stop> {
        let Stretch {
            offset,
            length,
            kind,
        } = *stretch;
        let mut step = |reached: u64| {
            done.reached = reached;
            self.tell(reached);
            !self.stop.is_cancelled()
        };
        let (mut cleared, mut rest) = (length, 0);
        let (total, outcome) = match (self.erasure.clearing.how, kind) {
            (Clear::Zero, Owned::Alone) => {
                let outcome = eraser.zero(offset, length, &mut step);
                (&mut done.result.written, outcome.map(|()| true))
            }
            // Whether others still have it, the kernel knows best.
            (Clear::Discard, _) => {
                rest = self.rest(stretch);
                cleared -= rest;
                let (whole, block) = ((offset, cleared), self.erasure.block);
                let outcome = eraser.discard(whole, block, || self.unheld(), &mut step);
                (&mut done.result.zeroed, outcome)
            }
            // To write would take other blocks and leave these as they are.
            (Clear::Zero, Owned::Shared) | (Clear::None, _) => {
                step(offset + length);
                (&mut done.result.left, Ok(true))
            }
        };
        match outcome {
            Ok(true) => add(total, cleared),
            Ok(false) => {
                done.refused = true;
                rest = length;
            }
            Err(error) => {
                add(total, done.reached.saturating_sub(offset).min(cleared));
                return Err(self.stopped(error));
            }
        }
        if rest > 0 {
            add(&mut done.result.left, rest);
        }
        done.reached = offset + length;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_is_slow_holds_no_other_up() {
        let erasures = Erasures::default();
        let [slow, other] = [1, 2].map(Uuid::from_u128);
        let permits = erasures.permits(slow);
        let taken = permits.try_acquire_many(AT_ONCE as u32).unwrap();
        assert!(erasures.permits(slow).try_acquire().is_err());
        assert!(erasures.permits(other).try_acquire().is_ok());
        drop(taken);
        assert!(erasures.permits(slow).try_acquire().is_ok());
    }
}
