//! Long work under way in this process: how far it is, and whether it is to stop.
//!
//! ```text
//! Engine::begin ── durable: Running ──► Work ── meter: advance, is_cancelled ── finish ──► Ended
//!                                        └── dropped: it has failed as cut short
//! ```
//!
//! The request's record is what lasts; what is here is only as true as this process. Work whose
//! record is a unit's, because it goes on after a restart, is tracked alone ([`Works::track`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ashlar_protocol::{
    Job, JobResult, JobState, ObjectKind, ObjectRef, Problem, ProblemCode, Progress,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::desk::StoreDesk;
use super::{Engine, stopping};
use crate::domain::decide::work::{cancelled, cut_short};
use crate::domain::outcome::missing;
use crate::domain::settle::{self, Span};
use crate::domain::{Edit, Facts, Intent, RequestContext, Undertaking};
use crate::reconcile::DeskError;

/// Stands for a total that cannot be told.
const UNKNOWN: u64 = u64::MAX;

/// How far one piece of work is, and whether it is to stop. Cheap to clone, and to ask from
/// threads that block.
#[derive(Clone, Debug)]
pub struct Meter {
    shared: Arc<Gauge>,
}

#[derive(Debug)]
struct Gauge {
    done: AtomicU64,
    total: AtomicU64,
    cancel: CancellationToken,
    /// It is not cancelled any more.
    settled: Mutex<bool>,
    ended: CancellationToken,
}

impl Meter {
    fn new(from: Progress) -> Meter {
        let gauge = Gauge {
            done: AtomicU64::new(from.done),
            total: AtomicU64::new(from.total.unwrap_or(UNKNOWN)),
            cancel: CancellationToken::new(),
            settled: Mutex::default(),
            ended: CancellationToken::new(),
        };
        Meter {
            shared: Arc::new(gauge),
        }
    }

    /// So many bytes more are done.
    pub fn advance(&self, bytes: u64) {
        self.shared.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It is so many bytes in all.
    pub fn expect(&self, total: u64) {
        self.shared.total.store(total, Ordering::Relaxed);
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let total = self.shared.total.load(Ordering::Relaxed);
        Progress {
            done: self.shared.done.load(Ordering::Relaxed),
            total: (total != UNKNOWN).then_some(total),
        }
    }

    /// From now on it goes on to its end, whoever cancels it; unless somebody has.
    pub fn settle(&self) -> bool {
        let mut settled = self.settled();
        *settled = !self.is_cancelled();
        *settled
    }

    /// Has it stop, unless it is too late.
    fn cancel(&self) -> bool {
        let settled = self.settled();
        if !*settled {
            self.shared.cancel.cancel();
        }
        !*settled
    }

    fn settled(&self) -> MutexGuard<'_, bool> {
        let settled = self.shared.settled.lock();
        settled.expect("no holder of this lock panics")
    }

    /// Whether it is to stop.
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancel.is_cancelled()
    }

    /// Resolves when it has ended, and that is recorded. Cancel-safe.
    pub async fn ended(&self) {
        self.shared.ended.cancelled().await;
    }

    /// Cancelled when it is to stop.
    pub fn token(&self) -> CancellationToken {
        self.shared.cancel.clone()
    }

    /// Resolves when it is to stop. Cancel-safe.
    pub async fn cancelled(&self) {
        self.shared.cancel.cancelled().await;
    }
}

/// The long work under way, by job.
#[derive(Debug, Default)]
pub(crate) struct Works {
    under_way: Mutex<BTreeMap<Uuid, Meter>>,
}

/// Work that can be watched and cancelled until this is dropped.
#[derive(Debug)]
pub(crate) struct Tracked {
    job: Uuid,
    meter: Meter,
    works: Arc<Works>,
}

impl Works {
    /// Makes a job's work known; `None` when it is under way already.
    pub(crate) fn track(self: &Arc<Self>, job: Uuid, from: Progress) -> Option<Tracked> {
        let mut under_way = self.lock();
        if under_way.contains_key(&job) {
            return None;
        }
        let meter = Meter::new(from);
        under_way.insert(job, meter.clone());
        Some(Tracked {
            job,
            meter,
            works: Arc::clone(self),
        })
    }

    fn meter(&self, job: Uuid) -> Option<Meter> {
        self.lock().get(&job).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Meter>> {
        let under_way = self.under_way.lock();
        under_way.expect("no holder of this lock panics")
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.works.lock().remove(&self.job);
        self.meter.shared.ended.cancel();
    }
}

/// What a request for long work came to.
#[derive(Debug)]
pub enum Begun {
    /// It is the caller's to do now.
    Work(Work),
    /// The same request came before; this is how it is.
    Before(Job),
}

/// Long work that is durably begun, and whose end is to be told. Dropped without that, it has
/// failed as cut short.
#[derive(Debug)]
pub struct Work {
    /// `None` once its end was told.
    tracked: Option<Tracked>,
    desk: StoreDesk,
    runtime: Handle,
}

impl Work {
    /// The job that it is.
    pub fn job(&self) -> Uuid {
        let tracked = self.tracked.as_ref();
        tracked.expect("only its end takes it").job
    }

    /// Its meter, to be told how far it is.
    pub fn meter(&self) -> Meter {
        let tracked = self.tracked.as_ref();
        tracked.expect("only its end takes it").meter.clone()
    }

    /// Makes its end durable. What was cancelled and did not succeed has failed for that.
    ///
    /// # Errors
    /// As `outcome`, as told to clients; or when the agent is stopping.
    pub async fn finish(self, outcome: Result<JobResult, Problem>) -> Result<JobResult, Problem> {
        self.finish_after(outcome, std::future::ready(())).await
    }

    /// The same, but its end is told only after `rest`, which is what it leaves to be done.
    ///
    /// # Errors
    /// Likewise.
    pub(super) async fn finish_after(
        mut self,
        outcome: Result<JobResult, Problem>,
        rest: impl Future<Output = ()>,
    ) -> Result<JobResult, Problem> {
        let tracked = self.tracked.take().expect("only its end takes it");
        let outcome = match tracked.meter.is_cancelled() {
            true => outcome.map_err(|_| cancelled(tracked.job)),
            false => outcome,
        };
        conclude(&self.desk, &tracked, outcome.clone()).await?;
        rest.await;
        outcome
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let Some(tracked) = self.tracked.take() else {
            return;
        };
        let (desk, job) = (self.desk.clone(), tracked.job);
        let problem = match tracked.meter.is_cancelled() {
            true => cancelled(job),
            false => cut_short(job),
        };
        self.runtime.spawn(async move {
            // Without the store thread, the next start finds it cut short.
            drop(conclude(&desk, &tracked, Err(problem)).await);
        });
    }
}

/// Has the end of work recorded; only then it is let go of.
async fn conclude(
    desk: &StoreDesk,
    tracked: &Tracked,
    outcome: Result<JobResult, Problem>,
) -> Result<(), Problem> {
    let ended = desk.end(tracked.job, tracked.meter.progress(), outcome);
    ended.await.map_err(|error| match error {
        DeskError::Stopping => stopping(),
        DeskError::Problem(problem) => problem,
    })
}

/// What may change as long work begins, as [`decide`](crate::domain::decide) has it for commands.
pub type Rule = Box<dyn FnOnce(&Intent, u64, &Facts<'_>) -> Result<Vec<Edit>, Problem> + Send>;

/// What changes as long work goes on, given the new generation.
pub(super) type Advance = Box<dyn FnOnce(&Intent, u64) -> Result<Vec<Edit>, Problem> + Send>;

impl Engine {
    /// Begins long work: durable, and a job, before this returns. Not to be dropped before that:
    /// nobody would tell the end of what is durable by then.
    ///
    /// # Errors
    /// When `rule` forbids it.
    pub async fn begin(
        &self,
        work: Undertaking,
        context: RequestContext,
        rule: Rule,
    ) -> Result<Begun, Problem> {
        let job = context.id;
        let Some(tracked) = self.shared.works.track(job, work.progress) else {
            return self.job(job).await.map(Begun::Before);
        };
        // Tracked first: what is durable can be cancelled.
        // A rule is asked once only.
        self.look_for_room().await;
        match self.shared.desk.begin(work, context, rule).await? {
            true => Ok(Begun::Work(Work {
                tracked: Some(tracked),
                desk: self.shared.desk.clone(),
                runtime: Handle::current(),
            })),
            false => self.job(job).await.map(Begun::Before),
        }
    }

    /// Cancels a job, and waits up to `wait` for it to end; answers with the job when it is
    /// still ending.
    ///
    /// # Errors
    /// When there is none, it has ended otherwise, or it is not one that can be cancelled.
    pub async fn cancel(&self, id: Uuid, wait: Duration) -> Result<Option<Job>, Problem> {
        let job = self.job(id).await?;
        if job.state != JobState::Running {
            return cancelled_already(&job);
        }
        let Some(meter) = self.shared.works.meter(id) else {
            self.take_back(&job).await?;
            return cancelled_already(&self.job(id).await?);
        };
        if !meter.cancel() {
            return Err(refused(&job, "cannot be cancelled any more"));
        }
        tracing::info!(job = %id, object = %job.object, "cancelled");
        let ended = tokio::time::timeout(wait, meter.shared.ended.cancelled()).await;
        let job = self.job(id).await?;
        match ended {
            Ok(()) => cancelled_already(&job),
            Err(_elapsed) => Ok(Some(job)),
        }
    }

    /// Takes back what a job is adding, if that is what it does.
    async fn take_back(&self, job: &Job) -> Result<(), Problem> {
        let (unit, added) = {
            let intent = self.shared.intent.read().await;
            let record = intent.request(job.id);
            let record = record.ok_or_else(|| missing(ObjectKind::Job, job.id))?;
            let adds = record.made && settle::ADDING.contains(&record.operation);
            match record.unit.filter(|_| adds) {
                Some(unit) => (unit, record.generation),
                None => {
                    return Err(refused(
                        job,
                        "takes something away or grows it, which is not taken back",
                    ));
                }
            }
        };
        // What came after it is not its own, even if it has just been done.
        let span = Span {
            applied: added - 1,
            tried: added,
        };
        let desk = &self.shared.desk;
        match desk.take_back(unit, span, cancelled(job.id)).await {
            Ok(_) => Ok(()),
            Err(DeskError::Stopping) => Err(stopping()),
            Err(DeskError::Problem(problem)) => Err(problem),
        }
    }

    /// Waits up to `wait` for long work to end, if it is under way here.
    pub(super) async fn worked(&self, job: Uuid, wait: Duration) {
        if let Some(meter) = self.shared.works.meter(job) {
            // Whether it has ended is told by its record.
            drop(tokio::time::timeout(wait, meter.ended()).await);
        }
    }

    /// How far long work is just now, if it is under way here.
    pub(super) fn progress(&self, job: Uuid) -> Option<Progress> {
        let meter = self.shared.works.meter(job)?;
        Some(meter.progress())
    }
}

fn cancelled_already(job: &Job) -> Result<Option<Job>, Problem> {
    match job.state {
        JobState::Cancelled => Ok(None),
        JobState::Running => Err(refused(job, "cannot be cancelled any more")),
        JobState::Succeeded | JobState::Failed => Err(refused(job, "has ended")),
    }
}

fn refused(job: &Job, why: &str) -> Problem {
    let object = ObjectRef {
        kind: ObjectKind::Job,
        id: job.id,
    };
    Problem::new(ProblemCode::WrongState, format!("{object} {why}")).about(object)
}
