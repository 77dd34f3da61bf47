//! Driving one unit until it has settled.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ashlar_protocol::{JobResult, Problem, ProblemCode};
use ashlar_targetd_protocol::PoolReport;
use tokio::runtime::Handle;
use tokio::sync::{RwLock, Semaphore, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::addresses::Addresses;
use super::attempt::End;
use super::erasing::{Ending, Erased, Erasures};
use super::failure::{Remedy, Trouble};
use super::holds::Holds;
use super::ledger::{Ledger, Next};
use super::portal::Underway;
use crate::domain::intent::VolumeEntry;
use crate::domain::record::{PoolPhase, SnapshotPhase, SnapshotRecord, Unit};
use crate::domain::settle::{Grounds, Span};
use crate::domain::{Intent, Site};
use crate::engine::Catalogs;
use crate::lanes::Lanes;
use crate::targetd::{IN_FLIGHT, Targetd};
use crate::thin::Views;

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
    /// The kernel has what was asked of `unit` in `span`; `seen` is a pool's. Whether that is
    /// all, or the unit is to be applied once more to get there.
    fn settle(&self, unit: Unit, span: Span, seen: Option<PoolSeen>) -> DeskAnswer<bool>;
    /// A volume was cleared, durably, as was asked of it up to `span`; it is to be destroyed now.
    fn cleared(&self, unit: Unit, span: Span, result: JobResult) -> DeskAnswer<()>;
    /// Takes back what was added in `span`; whether there was anything.
    fn withdraw(&self, unit: Unit, span: Span, grounds: Grounds) -> DeskAnswer<bool>;
    /// Gives back what was to be taken in `span`; whether there was anything.
    fn restore(&self, unit: Unit, span: Span, grounds: Grounds) -> DeskAnswer<bool>;
    /// Forgets what was added in `span` without a trace in the kernel; whether there was
    /// anything.
    fn forget(&self, unit: Unit, span: Span, grounds: Grounds) -> DeskAnswer<bool>;
}

/// What the kernel has of a pool.
#[derive(Clone, Debug)]
pub struct PoolSeen {
    /// As targetd sees it.
    pub report: PoolReport,
    /// A thin id from which on all are free but those that the counter has given, or why none is
    /// known.
    pub first_free: Result<u32, Problem>,
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
    pub(super) thin: Views,
    pub(super) site: Arc<Site>,
    pub(super) addresses: Addresses,
    pub(super) portals: Underway,
    pub(super) permits: Semaphore,
    pub(super) holds: Holds,
    pub(super) lanes: Lanes,
    pub(super) catalogs: Catalogs,
    pub(super) erasures: Erasures,
    pub(super) stopped: watch::Receiver<bool>,
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
        (thin, lanes, catalogs): (Views, Lanes, Catalogs),
        site: Arc<Site>,
        stopped: watch::Receiver<bool>,
        promised: u64,
    ) -> Reconciler {
        let permits = Semaphore::new(APPLIES);
        let shared = Shared {
            intent,
            ledger,
            targetd,
            thin,
            site,
            addresses: Addresses::default(),
            portals: Underway::default(),
            permits,
            holds: Holds::default(),
            lanes,
            catalogs,
            erasures: Erasures::default(),
            stopped,
            promised,
            laps: watch::channel(0).0,
        };
        Reconciler {
            shared: Arc::new(shared),
        }
    }

    /// Addresses that could not be had.
    pub fn addresses(&self) -> &Addresses {
        &self.shared.addresses
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
        let (mut failing, mut lacking) = (Failing::default(), Failing::default());
        let mut erased = Erased::default();
        loop {
            if !self.shared.targetd.is_up() {
                failing.unheard();
            }
            if !self.shared.targetd.up().await {
                return;
            }
            let (span, end) = match unit {
                Unit::Host(host) => match self.attempt_host(host, &desk).await {
                    Some(attempt) => attempt,
                    None => return,
                },
                Unit::Portal(portal) => match self.attempt_portal(portal).await {
                    Some(attempt) => attempt,
                    None => return,
                },
                _ => self.attempt(unit).await,
            };
            let outcome = match end {
                End::Failed(trouble) => Err(trouble),
                End::Forgotten => Ok(None),
                End::Clears(erasure) => {
                    self.shared.ledger.works(unit);
                    match self.erase(unit, erasure, &mut erased).await {
                        Ending::Changed => continue,
                        Ending::Failed(trouble) => Err(trouble),
                        Ending::All(result) => match desk.cleared(unit, span, result).await {
                            Ok(()) => {
                                failing = Failing::default();
                                continue;
                            }
                            Err(DeskError::Stopping) => return,
                            Err(DeskError::Problem(problem)) => {
                                Err(Trouble::new(problem, Remedy::Retry))
                            }
                        },
                    }
                }
                End::Settled(seen) => {
                    let counted = seen.as_ref().map(PoolSeen::counted);
                    match desk.settle(unit, self.recent(span), seen).await {
                        Ok(true) => {
                            let uncounted = self.note_count(unit, counted);
                            Ok(uncounted.or_else(|| self.shared.addresses.asks_again(unit)))
                        }
                        Ok(false) => {
                            failing = Failing::default();
                            continue;
                        }
                        Err(DeskError::Stopping) => return,
                        Err(DeskError::Problem(problem)) => {
                            Err(Trouble::new(problem, Remedy::Retry))
                        }
                    }
                }
            };
            match outcome {
                Ok(None) => match self.shared.ledger.applied(unit, span.tried) {
                    Next::Rest => return,
                    Next::Again => failing = Failing::default(),
                },
                Ok(Some(problem)) => {
                    tracing::warn!(object = %unit.object(), %problem, "is not all it is to be yet");
                    self.shared.ledger.again(unit);
                    self.shared.ledger.applied(unit, span.tried);
                    // What was asked for is there, so nobody's patience is used up.
                    failing = Failing::default();
                    lacking.again(true);
                    self.pause(unit, &lacking).await;
                }
                Err(trouble) => {
                    if let Unit::Pool(pool) = unit {
                        self.keep_serving(pool, span, &*desk).await;
                    }
                    if trouble.problem.code != ProblemCode::TargetdUnavailable {
                        self.mend_origins(unit, &desk).await;
                    }
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

    /// Notes whether the thin ids of a pool are known, and answers why they are not.
    fn note_count(&self, unit: Unit, counted: Option<Result<(), Problem>>) -> Option<Problem> {
        if let (Unit::Pool(pool), Some(counted)) = (unit, &counted) {
            self.shared.ledger.note_count(pool, counted.clone());
        }
        counted?.err()
    }

    /// A pool that was to get disks and does not is what it was, if it answers, and serves so. Its thin
    /// ids are learnt as if it had settled, but nothing of what was asked for has.
    async fn keep_serving(&self, pool: Uuid, span: Span, desk: &dyn Desk) {
        let stands = {
            let intent = self.shared.intent.read().await;
            let record = intent.pool(pool).map(|entry| &entry.record);
            record.is_some_and(|pool| {
                let serves = pool.is_changing_disks() || pool.redundancy().is_some();
                pool.phase == PoolPhase::Present && serves
            })
        };
        let report = match stands {
            true => self.look(pool).await.ok(),
            false => None,
        };
        self.shared.ledger.note_serving(pool, report.is_some());
        let Some(report) = report else { return };
        if self.shared.ledger.uncounted(pool).is_none() {
            return;
        }
        let seen = self.seen(pool, report).await;
        let counted = Some(seen.counted());
        let before = Span {
            applied: span.applied,
            tried: span.applied,
        };
        let unit = Unit::Pool(pool);
        if let Ok(true) = desk.settle(unit, before, Some(seen)).await {
            self.note_count(unit, counted);
        }
    }

    /// Has whatever a unit is made of applied once more: it rests while that is done, and what
    /// failed may be that it went on. Nobody else would notice before the next attempt, and there
    /// may be none.
    async fn mend_origins(&self, unit: Unit, desk: &Arc<dyn Desk>) {
        let origins = origins(&*self.shared.intent.read().await, unit);
        for origin in origins {
            self.doubt(origin, desk).await;
        }
    }

    /// Has a unit applied once more, as it is now.
    pub async fn doubt(&self, unit: Unit, desk: &Arc<dyn Desk>) {
        // The ledger learns of a change under the write lock. So nothing newer can have settled,
        // which targetd would not let go back.
        let intent = self.shared.intent.read().await;
        if self.shared.ledger.doubt(unit, intent.generation()) {
            self.launch(unit, Arc::clone(desk), &Handle::current());
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
        let Trouble {
            problem,
            users,
            remedy,
        } = trouble;
        failing.again(problem.code != ProblemCode::TargetdUnavailable);
        let recent = self.recent(span);
        let given_up = match remedy {
            Remedy::Retry => failing.longer_than(PATIENCE),
            Remedy::Restore => failing.longer_than(GRACE),
            Remedy::Withdraw | Remedy::Forget => true,
        };
        tracing::warn!(object = %unit.object(), generation = span.tried, %problem, given_up,
            "an attempt failed");
        let changed = match given_up {
            false => Ok(false),
            true => {
                let grounds = Grounds {
                    problem: problem.clone(),
                    users,
                    device: self.device(unit).await,
                };
                undo(unit, recent, grounds, remedy, desk).await
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
        self.pause(unit, failing).await;
        Ok(())
    }

    async fn pause(&self, unit: Unit, failing: &Failing) {
        let wake = self.shared.ledger.wake(unit);
        // Cancel-safe: a wake-up that comes as the pause ends is kept by the Notify and ends
        // the next pause early, which costs one attempt.
        tokio::select! {
            () = tokio::time::sleep(failing.pause()) => {}
            () = wake.notified() => {}
        }
    }
}

impl PoolSeen {
    fn counted(&self) -> Result<(), Problem> {
        self.first_free.clone().map(drop)
    }
}

/// What a unit is being made of.
fn origins(intent: &Intent, unit: Unit) -> BTreeSet<Unit> {
    let unit_of = |object| match intent.volume(object) {
        Some(_) => Unit::Volume(object),
        None => Unit::Snapshot(object),
    };
    let of_volume = |entry: &VolumeEntry| entry.record.origin.map(|origin| unit_of(origin.object));
    let of_snapshot = |snapshot: &SnapshotRecord| {
        let making = snapshot.phase == SnapshotPhase::Creating;
        making.then_some(Unit::Volume(snapshot.volume))
    };
    match unit {
        Unit::Pool(_) | Unit::Host(_) | Unit::Portal(_) => BTreeSet::new(),
        Unit::Volume(id) => intent.volume(id).and_then(of_volume).into_iter().collect(),
        Unit::Snapshot(id) => intent
            .snapshot(id)
            .and_then(of_snapshot)
            .into_iter()
            .collect(),
        Unit::Group(id) => intent
            .volumes_of_group(id)
            .filter_map(|(_, entry)| of_volume(entry))
            .collect(),
        Unit::GroupSnapshot(id) => intent
            .snapshots_of_group(id)
            .filter_map(|(_, snapshot)| of_snapshot(snapshot))
            .collect(),
    }
}

/// Takes back what cannot be had, and says whether there was anything.
async fn undo(
    unit: Unit,
    span: Span,
    grounds: Grounds,
    remedy: Remedy,
    desk: &dyn Desk,
) -> Result<bool, DeskError> {
    match remedy {
        Remedy::Forget => desk.forget(unit, span, grounds).await,
        Remedy::Retry | Remedy::Withdraw => desk.withdraw(unit, span, grounds).await,
        Remedy::Restore => match desk.restore(unit, span, grounds.clone()).await? {
            true => Ok(true),
            // Without anything to give back, what was added is what cannot be had.
            false => desk.withdraw(unit, span, grounds).await,
        },
    }
}

/// Failures in a row, and for how long the kernel has refused. Time in which nobody could ask
/// it does not count: it has not refused anything then.
#[derive(Default)]
struct Failing {
    refused: Duration,
    last: Option<Instant>,
    count: u32,
}

impl Failing {
    /// Once more; because the kernel refused, or because it was not heard.
    fn again(&mut self, heard: bool) {
        self.count += 1;
        if !heard {
            return self.unheard();
        }
        let now = Instant::now();
        let since = self.last.replace(now);
        self.refused += since.map_or(Duration::ZERO, |since| now - since);
    }

    fn unheard(&mut self) {
        self.last = None;
    }

    fn longer_than(&self, limit: Duration) -> bool {
        self.refused >= limit
    }

    fn pause(&self) -> Duration {
        let doubled = PAUSE.0 * 2_u32.saturating_pow(self.count.saturating_sub(1).min(16));
        doubled.min(PAUSE.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_time_in_which_the_kernel_refuses_uses_up_patience() {
        let mut failing = Failing::default();
        let wait = |seconds| tokio::time::advance(Duration::from_secs(seconds));
        failing.again(true);
        wait(50).await;
        failing.again(true);
        wait(1000).await;
        // It was away at some time since, so nothing is known of all that time.
        failing.again(false);
        wait(1000).await;
        failing.unheard();
        failing.again(true);
        assert_eq!(failing.refused, Duration::from_secs(50));
        wait(70).await;
        assert!(!failing.longer_than(PATIENCE));
        failing.again(true);
        assert!(failing.longer_than(PATIENCE));
    }
}
