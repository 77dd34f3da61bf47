//! Driving one unit until it has settled.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ashlar_protocol::Problem;
use ashlar_targetd_protocol::PoolReport;
use tokio::runtime::Handle;
use tokio::sync::{RwLock, Semaphore, watch};
use tokio::time::Instant;

use super::attempt::End;
use super::failure::{Remedy, Trouble};
use super::ledger::{Ledger, Next};
use crate::domain::record::Unit;
use crate::domain::settle::Span;
use crate::domain::{Intent, Site};
use crate::targetd::{IN_FLIGHT, Targetd};

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
    /// The kernel has what was asked of `unit` in `span`; `report` is a pool's.
    fn settle(&self, unit: Unit, span: Span, report: Option<PoolReport>) -> DeskAnswer<()>;
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
    pub(super) permits: Semaphore,
    stopped: watch::Receiver<bool>,
    /// What is older was promised by an earlier process, and is never taken back.
    pub(super) promised: u64,
    /// Laps done.
    pub(super) laps: watch::Sender<u64>,
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
            laps: watch::channel(0).0,
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
            let (span, end) = self.attempt(unit).await;
            let outcome = match end {
                End::Failed(trouble) => Err(trouble),
                End::Forgotten => Ok(()),
                End::Settled(report) => match desk.settle(unit, self.recent(span), report).await {
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

    /// Of a span, what this process was asked for.
    fn recent(&self, span: Span) -> Span {
        let applied = span.applied.max(self.shared.promised);
        Span { applied, ..span }
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
        let recent = self.recent(span);
        let given_up = match remedy {
            Remedy::Retry => failing.longer_than(PATIENCE),
            Remedy::Restore => failing.longer_than(GRACE),
            Remedy::Withdraw => true,
        };
        tracing::warn!(object = %unit.object(), generation = span.tried, %problem, given_up,
            "an attempt failed");
        let changed = match (given_up, remedy) {
            (false, _) => Ok(false),
            // Without anything to give back, what was added is what cannot be had.
            (true, Remedy::Restore) => match desk.restore(unit, recent, problem.clone()).await {
                Ok(false) => desk.withdraw(unit, recent, problem.clone()).await,
                restored => restored,
            },
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
