//! Driving one unit until it has settled.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ashlar_protocol::{Problem, ProblemCode};
use ashlar_targetd_protocol::{Request, Response};
use tokio::runtime::Handle;
use tokio::sync::{RwLock, Semaphore, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::failure::{Remedy, Trouble, trouble};
use super::ledger::{Ledger, Next};
use super::render;
use crate::domain::record::Unit;
use crate::domain::settle::Span;
use crate::domain::{Intent, Site};
use crate::targetd::{CallError, IN_FLIGHT, Targetd};

/// Units being applied at once. A few calls are left for those who only look.
const APPLIES: usize = IN_FLIGHT - 4;
/// First and longest pause after a failed attempt.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How long a host may take to let go of what is being detached.
const GRACE: Duration = Duration::from_secs(3);
/// How long the kernel may refuse something new before it is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the store thread does for drivers.
pub trait Desk: Send + Sync + 'static {
    /// The kernel has `unit` as of `generation`; `capacity` is a pool's.
    fn settle(&self, unit: Unit, generation: u64, capacity: Option<u64>) -> DeskAnswer<()>;
    /// Takes back what was added in `span`; whether there was anything.
    fn withdraw(&self, unit: Unit, span: Span, problem: Problem) -> DeskAnswer<bool>;
    /// Gives back what was to be taken in `span`; whether there was anything.
    fn restore(&self, unit: Unit, span: Span, problem: Problem) -> DeskAnswer<bool>;
}

/// What a [`Desk`] answers, later.
pub type DeskAnswer<T> = Pin<Box<dyn Future<Output = Result<T, DeskError>> + Send>>;

/// Why the store thread did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    /// It stopped.
    #[error("the agent is stopping")]
    Stopping,
    /// It could not store it; nothing changed.
    #[error(transparent)]
    Problem(#[from] Problem),
}

/// What drivers share. Cheap to clone.
#[derive(Clone)]
pub struct Reconciler {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) intent: Arc<RwLock<Intent>>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) targetd: Targetd,
    pub(super) site: Arc<Site>,
    permits: Semaphore,
    stopped: watch::Receiver<bool>,
    /// What is older was promised by an earlier process, and is never taken back.
    pub(super) promised: u64,
}

/// How an attempt ended.
enum Attempt {
    Settled(Option<u64>),
    Forgotten,
    Failed(Trouble),
}

impl Reconciler {
    /// Drivers for an intent that was loaded at generation `promised`.
    pub fn new(
        intent: Arc<RwLock<Intent>>,
        ledger: Arc<Ledger>,
        targetd: Targetd,
        site: Arc<Site>,
        stopped: watch::Receiver<bool>,
        promised: u64,
    ) -> Reconciler {
        let permits = Semaphore::new(APPLIES);
        let shared = Shared {
            intent,
            ledger,
            targetd,
            site,
            permits,
            stopped,
            promised,
        };
        Reconciler {
            shared: Arc::new(shared),
        }
    }

    /// Starts the driver of a unit, when the ledger says so and only then.
    pub fn launch(&self, unit: Unit, desk: Arc<dyn Desk>, runtime: &Handle) {
        let reconciler = self.clone();
        let mut stopped = self.shared.stopped.clone();
        runtime.spawn(async move {
            // Cancelling a driver loses nothing: what it was doing is done again by the first
            // lap of the next start.
            tokio::select! {
                () = reconciler.drive(unit, desk) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
    }

    /// Drives a unit until it has settled.
    async fn drive(self, unit: Unit, desk: Arc<dyn Desk>) {
        let mut failing = Failing::default();
        loop {
            if !self.shared.targetd.up().await {
                return;
            }
            let span = self.shared.ledger.begin(unit);
            let outcome = match self.attempt(unit, span.tried).await {
                Attempt::Failed(trouble) => Err(trouble),
                Attempt::Forgotten => Ok(()),
                Attempt::Settled(capacity) => match desk.settle(unit, span.tried, capacity).await {
                    Ok(()) => Ok(()),
                    Err(DeskError::Stopping) => return,
                    Err(DeskError::Problem(problem)) => Err(Trouble {
                        problem,
                        remedy: Remedy::Retry,
                    }),
                },
            };
            match outcome {
                Ok(()) => match self.shared.ledger.applied(unit, span.tried) {
                    Next::Rest => return,
                    Next::Again => failing = Failing::default(),
                },
                Err(trouble) => {
                    if self
                        .remedy(unit, span, trouble, &mut failing, &*desk)
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
            }
        }
    }

    /// Does what can be done about a failure, and pauses if that is all.
    async fn remedy(
        &self,
        unit: Unit,
        span: Span,
        trouble: Trouble,
        failing: &mut Failing,
        desk: &dyn Desk,
    ) -> Result<(), DeskError> {
        let Trouble { problem, remedy } = trouble;
        failing.again();
        let recent = Span {
            applied: span.applied.max(self.shared.promised),
            ..span
        };
        let given_up = match remedy {
            Remedy::Retry => failing.longer_than(PATIENCE),
            Remedy::Restore => failing.longer_than(GRACE),
            Remedy::Withdraw => true,
        };
        tracing::warn!(object = %unit.object(), generation = span.tried, %problem, given_up,
            "an attempt failed");
        let changed = match (given_up, remedy) {
            (false, _) => Ok(false),
            (true, Remedy::Restore) => desk.restore(unit, recent, problem.clone()).await,
            (true, Remedy::Retry | Remedy::Withdraw) => {
                desk.withdraw(unit, recent, problem.clone()).await
            }
        };
        let changed = match changed {
            Ok(changed) => changed,
            Err(DeskError::Stopping) => return Err(DeskError::Stopping),
            Err(DeskError::Problem(unstored)) => {
                tracing::warn!(object = %unit.object(), problem = %unstored,
                    "a failed change could not be taken back yet");
                false
            }
        };
        if changed {
            *failing = Failing::default();
            return Ok(());
        }
        self.shared
            .ledger
            .failed(unit, span.tried, &problem, given_up);
        let wake = self.shared.ledger.wake(unit);
        // Cancel-safe: a wake-up that comes as the pause ends is kept by the Notify and ends
        // the next pause early, which costs one attempt.
        tokio::select! {
            () = tokio::time::sleep(failing.pause()) => {}
            () = wake.notified() => {}
        }
        Ok(())
    }

    async fn attempt(&self, unit: Unit, tried: u64) -> Attempt {
        let object = unit.object();
        let failed = |error: CallError| Attempt::Failed(trouble(object, &error));
        match unit {
            Unit::Pool(id) => match self.apply_pool(id, tried).await {
                Ok(Some(capacity)) => Attempt::Settled(capacity),
                Ok(None) => Attempt::Forgotten,
                Err(error) => failed(error),
            },
            Unit::Volume(id) => {
                if let Err(problem) = self.pool_of(id).await {
                    let remedy = Remedy::Withdraw;
                    return Attempt::Failed(Trouble { problem, remedy });
                }
                self.apply_volume(id, tried, failed).await
            }
        }
    }

    async fn apply_volume(
        &self,
        id: Uuid,
        tried: u64,
        failed: impl Fn(CallError) -> Attempt,
    ) -> Attempt {
        let Ok(_permit) = self.shared.permits.acquire().await else {
            return failed(CallError::Lost);
        };
        let rendered = {
            let intent = self.shared.intent.read().await;
            render::volume(&intent, &self.shared.site, id, tried)
        };
        let desired = match rendered {
            Ok(Some(desired)) => desired,
            Ok(None) => return Attempt::Forgotten,
            Err(problem) => {
                let remedy = Remedy::Withdraw;
                return Attempt::Failed(Trouble { problem, remedy });
            }
        };
        let request = Request::ApplyVolume(Box::new(desired));
        match self.shared.targetd.call(request).await {
            Ok(Response::Applied(report)) => {
                tracing::debug!(volume = %id, generation = tried, steps = ?report.steps, "applied");
                Attempt::Settled(None)
            }
            Ok(_) => failed(CallError::Unexpected {
                request: "apply-volume",
            }),
            Err(error) => failed(error),
        }
    }

    /// Applies a pool and learns its capacity; `None` when it was forgotten.
    async fn apply_pool(&self, id: Uuid, tried: u64) -> Result<Option<Option<u64>>, CallError> {
        let permit = self.shared.permits.acquire().await;
        let _permit = permit.map_err(|_| CallError::Lost)?;
        let desired = {
            let intent = self.shared.intent.read().await;
            match intent.pool(id) {
                Some(entry) => render::pool(id, &entry.record, tried),
                None => return Ok(None),
            }
        };
        let absent = desired.absent;
        let request = Request::ApplyPool(Box::new(desired));
        match self.shared.targetd.call(request).await {
            Ok(Response::Applied(report)) => {
                tracing::info!(pool = %id, generation = tried, steps = ?report.steps, "applied");
            }
            // It never was, and trying again would not help; its disks are free for another.
            Err(CallError::Failed(failure)) if absent && !failure.kind.retryable() => {
                tracing::warn!(pool = %id, %failure, "a withdrawn pool is forgotten as it is");
            }
            Err(error) => return Err(error),
            Ok(_) => {
                return Err(CallError::Unexpected {
                    request: "apply-pool",
                });
            }
        }
        if absent {
            return Ok(Some(None));
        }
        self.capacity(id).await.map(|capacity| Some(Some(capacity)))
    }

    async fn capacity(&self, id: Uuid) -> Result<u64, CallError> {
        let unexpected = CallError::Unexpected {
            request: "observe-pool",
        };
        match self
            .shared
            .targetd
            .call(Request::ObservePool { id })
            .await?
        {
            Response::Pool(report) => {
                let usage = report.usage.ok_or(unexpected)?;
                Ok(usage.data_total.saturating_mul(usage.block.bytes().0))
            }
            _ => Err(unexpected),
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

/// Failures in a row.
#[derive(Default)]
struct Failing {
    since: Option<Instant>,
    count: u32,
}

impl Failing {
    fn again(&mut self) {
        self.since.get_or_insert_with(Instant::now);
        self.count += 1;
    }

    fn longer_than(&self, limit: Duration) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= limit)
    }

    fn pause(&self) -> Duration {
        let doubled = PAUSE.0 * 2_u32.saturating_pow(self.count.saturating_sub(1).min(16));
        doubled.min(PAUSE.1)
    }
}
