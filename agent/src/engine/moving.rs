//! Bringing a volume to another pool while hosts use it, as long work.
//!
//! ```text
//! copy all ──► copy what changed ──► … ──► stop, copy the rest, switch ──► there
//!                    ▲                          │ hosts have waited for long enough
//!                    └────────── go on ◄────────┘
//! ```
//!
//! Every arrow is a durable change of the volume's record first, which its reconciliation then
//! brings to the kernel; in between a thread copies. Whatever ends this task ends the move: the
//! end of the job takes back all of it, unless the volume has been switched.

use std::pin::pin;
use std::time::Duration;

use ashlar_protocol::{JobResult, JobState, MoveSpec, ObjectRef, Operation, Problem, Progress};
use ashlar_targetd_protocol::{OpenObject, ThinId};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use uuid::Uuid;

use super::data::read_problem;
use super::work::Advance;
use super::{Answer, Begun, Engine, Meter, RequestContext, Work, internal, stopping};
use crate::data::{Copier, CopyError, Device, Turn, WriteError, write_problem};
use crate::domain::decide::moving;
use crate::domain::outcome::missing;
use crate::domain::record::Unit;
use crate::domain::{Facts, Intent, Outcome, Undertaking};
use crate::reconcile::problem_of;
use crate::targetd::OpenDevice;
use crate::thin::{Freshness, Stretch, StretchKind, Stretches, StretchesQuestion, Views};

/// Changes so small are left for when hosts wait.
const LITTLE: u64 = 64 << 20;
/// Most rounds before hosts are made to wait.
const ROUNDS: usize = 10;
/// How long hosts wait at most; they give up after 30 s.
const STILL: Duration = Duration::from_secs(10);
/// How often they are made to.
const TRIES: usize = 3;
/// How long what was given up may take to be gone, before that is left to reconciliation.
const TIDY: Duration = Duration::from_secs(30);
/// Stretches asked for at once.
const PAGE: usize = 1024;

impl Engine {
    /// Begins to bring a volume to another pool, and waits up to `wait` for it to be there.
    ///
    /// # Errors
    /// When a rule forbids it, or it failed within that time: then it is where it was.
    pub async fn move_volume(
        &self,
        id: Uuid,
        spec: MoveSpec,
        context: RequestContext,
        wait: Duration,
    ) -> Result<Answer, Problem> {
        let (object, job) = (Unit::Volume(id).object(), context.id);
        // A request that is dropped while this is under way leaves nothing that nobody is at.
        let begun = tokio::spawn(self.clone().begin_move(id, spec, context));
        let lost = |_| internal("the work has no beginning").about(object);
        begun.await.map_err(lost)??;
        self.worked(job, wait).await;
        let job = self.job(job).await?;
        match (job.state, &job.problem) {
            (JobState::Running, _) => Ok(Answer::Accepted(job)),
            (JobState::Failed | JobState::Cancelled, Some(problem)) => Err(problem.clone()),
            _ => Ok(Answer::Done(Outcome::Volume {
                volume: self.volume(id).await?,
                created: false,
            })),
        }
    }

    async fn begin_move(
        self,
        id: Uuid,
        spec: MoveSpec,
        context: RequestContext,
    ) -> Result<(), Problem> {
        let (object, job) = (Unit::Volume(id).object(), context.id);
        let undertaking = Undertaking {
            operation: Operation::VolumeMove,
            object,
            progress: Progress::default(),
        };
        let bandwidth = spec.bandwidth;
        let rule = move |intent: &Intent, generation: u64, facts: &Facts<'_>| {
            moving::begin(intent, id, &spec, generation, facts)
        };
        match self.begin(undertaking, context, Box::new(rule)).await? {
            Begun::Work(work) => {
                let mover = Mover {
                    engine: self.clone(),
                    id,
                    job,
                    meter: work.meter(),
                    bandwidth,
                };
                tokio::spawn(mover.run(work));
            }
            Begun::Before(_) => {}
        }
        Ok(())
    }
}

/// Why a round did not come to its end.
enum Stop {
    /// Hosts have waited for long enough.
    Late,
    /// Anything else.
    For(Problem),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Stop {
        Stop::For(problem)
    }
}

/// Who brings one volume to another pool.
struct Mover {
    engine: Engine,
    id: Uuid,
    job: Uuid,
    meter: Meter,
    bandwidth: Option<u64>,
}

impl Mover {
    async fn run(self, work: Work) {
        let outcome = self.carry().await;
        if let Err(problem) = &outcome {
            tracing::warn!(volume = %self.id, %problem, "a move is given up");
        }
        let tidied = self.tidied();
        // It is told where it ended; nobody waits here.
        drop(work.finish_after(outcome, tidied).await);
    }

    /// Everything from the first copy to the arrival.
    async fn carry(&self) -> Result<JobResult, Problem> {
        self.next(false).await?;
        let mut written = 0;
        let mut before = u64::MAX;
        for round in 1.. {
            let brought = self
                .bring(None)
                .await
                .map_err(|stop| self.unhurried(stop))?;
            written += brought.written;
            let shrinks = brought.changed < before / 2;
            if round == ROUNDS || brought.changed <= LITTLE || !shrinks {
                break;
            }
            before = brought.changed;
            self.next(false).await?;
        }
        for _ in 0..TRIES {
            if let Some(brought) = self.switch().await? {
                written += brought.written;
                self.meter.expect(self.meter.progress().done);
                return Ok(JobResult {
                    written: Some(written),
                    ..JobResult::default()
                });
            }
            let brought = self
                .bring(None)
                .await
                .map_err(|stop| self.unhurried(stop))?;
            written += brought.written;
            before = brought.changed;
        }
        Err(moving::outrun(self.object(), before))
    }

    /// Stops the volume, brings over what is left, and puts it on its new place; nothing when
    /// that took too long and the volume goes on where it was.
    async fn switch(&self) -> Result<Option<Brought>, Problem> {
        let deadline = Instant::now() + STILL;
        // A change that is not asked for by then never is, as this is given up.
        match timeout_at(deadline, self.next(true)).await {
            Ok(stopped) => stopped?,
            Err(_elapsed) => return self.go_on().await.map(|()| None),
        }
        let mut bringing = pin!(self.bring(Some(deadline)));
        let outcome = tokio::select! {
            outcome = &mut bringing => outcome,
            () = sleep_until(deadline) => {
                self.go_on().await?;
                // Nothing may write to the target any more when the next round does.
                drop(bringing.await);
                return Ok(None);
            }
        };
        match outcome {
            Ok(brought) => self.arrive().await.map(|()| Some(brought)),
            Err(Stop::Late) => self.go_on().await.map(|()| None),
            Err(Stop::For(problem)) => Err(problem),
        }
    }

    /// From here on it is there, whatever becomes of this process.
    async fn arrive(&self) -> Result<(), Problem> {
        if self.meter.is_cancelled() {
            return Err(self.cancelled());
        }
        let (id, job) = (self.id, self.job);
        let generation = self
            .advance(Box::new(move |intent, generation| {
                moving::switch(intent, id, job, generation)
            }))
            .await?;
        let ledger = &self.engine.shared.ledger;
        loop {
            match ledger.wait(self.unit(), generation).await {
                Ok(Ok(())) => return Ok(()),
                // It is tried until it succeeds.
                Ok(Err(problem)) => {
                    tracing::error!(volume = %self.id, %problem, "hosts wait for a moved volume");
                }
                Err(_) => return Err(stopping()),
            }
        }
    }

    /// Has the next copy taken, of which less is new than of the one before.
    async fn next(&self, still: bool) -> Result<(), Problem> {
        let (id, job) = (self.id, self.job);
        self.change(Box::new(move |intent, generation| {
            moving::copy(intent, id, job, still, generation)
        }))
        .await
    }

    async fn go_on(&self) -> Result<(), Problem> {
        let (id, job) = (self.id, self.job);
        tracing::warn!(volume = %id, "what was left took too long; the volume goes on");
        self.change(Box::new(move |intent, generation| {
            moving::go_on(intent, id, job, generation)
        }))
        .await
    }

    /// Changes the volume's record, and waits for the kernel to have it so.
    async fn change(&self, rule: Advance) -> Result<(), Problem> {
        let generation = self.advance(rule).await?;
        let waiting = self.engine.shared.ledger.wait(self.unit(), generation);
        tokio::select! {
            settled = waiting => settled.map_err(|_| stopping())?,
            () = self.meter.cancelled() => Err(self.cancelled()),
        }
    }

    async fn advance(&self, rule: Advance) -> Result<u64, Problem> {
        self.engine.shared.desk.advance(self.unit(), rule).await
    }

    async fn open(&self, object: OpenObject, write: bool) -> Result<OpenDevice, Problem> {
        let opened = self.engine.shared.targetd.open_device(object, write).await;
        opened.map_err(|error| problem_of(self.object(), &error))
    }

    /// Brings over what the present copy has and the one before has not, by `deadline`. Nothing
    /// is open any more after that: neither device could go.
    async fn bring(&self, deadline: Option<Instant>) -> Result<Brought, Stop> {
        let difference = self.difference().await?;
        let target = self.open(OpenObject::Target(self.id), true).await?;
        let copy = self.open(OpenObject::Copy(self.id), false).await?;
        let round = Round {
            views: self.engine.shared.thin.clone(),
            object: self.object(),
            meter: self.meter.clone(),
            turns: deadline.is_none().then(|| self.turns(&difference)),
            deadline,
            difference,
        };
        if difference.since.is_none() {
            let thin = round.views.device(difference.pool, difference.copy).await;
            let used = thin.map_err(Problem::from)?.used;
            self.meter.expect(used);
        }
        let runtime = Handle::current();
        let brought = spawn_blocking(move || round.run(&runtime, &copy, &target)).await;
        brought.map_err(|_| internal("the copying thread failed").about(self.object()))?
    }

    /// How a round that hosts do not wait for gets at the disks. In the first, nearly all goes
    /// over and hosts go first; those after it would never catch up with hosts like that.
    fn turns(&self, difference: &Difference) -> [Turn; 2] {
        let turn = |pool, bandwidth| {
            let lanes = &self.engine.shared.lanes;
            let turn = lanes.turn(pool, bandwidth, self.meter.token());
            match difference.since {
                None => turn,
                Some(_) => turn.beside_hosts(),
            }
        };
        [
            turn(difference.pool, None),
            turn(difference.to, self.bandwidth),
        ]
    }

    async fn difference(&self) -> Result<Difference, Problem> {
        let intent = self.engine.shared.intent.read().await;
        let entry = intent.volume(self.id);
        let record = &entry
            .ok_or_else(|| missing(self.object().kind, self.id))?
            .record;
        let moving = record.moving;
        let copy = moving.and_then(|moving| Some((moving.to.pool, moving.base, moving.copy?)));
        let (to, since, copy) = copy.ok_or_else(|| internal("there is no copy of the volume"))?;
        Ok(Difference {
            pool: record.pool,
            to,
            copy,
            since,
            size: record.size,
        })
    }

    /// Waits for a while until the kernel has nothing left that the volume does not need.
    fn tidied(&self) -> impl Future<Output = ()> + use<> {
        let (engine, unit) = (self.engine.clone(), self.unit());
        async move {
            let generation = engine.shared.intent.read().await.generation();
            let waiting = engine.shared.ledger.wait(unit, generation);
            drop(timeout(TIDY, waiting).await);
        }
    }

    fn unhurried(&self, stop: Stop) -> Problem {
        match stop {
            Stop::Late => internal("nobody waited").about(self.object()),
            Stop::For(problem) => problem,
        }
    }

    fn cancelled(&self) -> Problem {
        crate::domain::decide::work::cancelled(self.job)
    }

    fn unit(&self) -> Unit {
        Unit::Volume(self.id)
    }

    fn object(&self) -> ObjectRef {
        self.unit().object()
    }
}

/// What a round has to bring over.
#[derive(Clone, Copy)]
struct Difference {
    pool: Uuid,
    to: Uuid,
    copy: ThinId,
    since: Option<ThinId>,
    size: u64,
}

/// What a round has brought over, in bytes.
#[derive(Clone, Copy, Default)]
struct Brought {
    changed: u64,
    written: u64,
}

/// What the copying thread does.
struct Round {
    views: Views,
    object: ObjectRef,
    meter: Meter,
    /// At the disks of either pool; at once when hosts wait.
    turns: Option<[Turn; 2]>,
    deadline: Option<Instant>,
    difference: Difference,
}

impl Round {
    fn run(
        &self,
        runtime: &Handle,
        copy: &OpenDevice,
        target: &OpenDevice,
    ) -> Result<Brought, Stop> {
        let size = self.difference.size;
        if copy.size != size || target.size != size {
            return Err(internal("a device has another size than its volume").into());
        }
        let goes_on = |_| !self.is_late() && !self.meter.is_cancelled();
        let (from, to) = match &self.turns {
            Some([from, to]) => (
                Device::behind(&copy.file, from),
                Device::behind(&target.file, to),
            ),
            None => (Device::from(&copy.file), Device::from(&target.file)),
        };
        let mut copier = Copier::new(from, to, size, &goes_on);
        let mut changed = 0;
        let mut next = Some(0);
        while let Some(from) = next {
            let page = runtime.block_on(self.page(from))?;
            let more: u64 = page.items.iter().map(|stretch| stretch.length).sum();
            changed += more;
            self.expect(more);
            for stretch in &page.items {
                self.stretch(&mut copier, stretch)
                    .map_err(|error| self.stopped(error))?;
            }
            next = page.next;
        }
        let written = copier.finish().map_err(|error| self.stopped(error))?;
        match self.is_late() {
            true => Err(Stop::Late),
            false => Ok(Brought { changed, written }),
        }
    }

    fn stretch(&self, copier: &mut Copier<'_>, stretch: &Stretch) -> Result<(), CopyError> {
        let Stretch {
            offset,
            length,
            kind,
        } = *stretch;
        match kind {
            StretchKind::Hole => {
                copier.zeros(offset, length)?;
                self.meter.advance(length);
                Ok(())
            }
            StretchKind::Data => copier.data(offset, length, |piece| self.meter.advance(piece)),
        }
    }

    /// What differs from a byte on.
    async fn page(&self, from: u64) -> Result<Stretches, Stop> {
        let question = StretchesQuestion {
            pool: self.difference.pool,
            thin_id: self.difference.copy,
            since: self.difference.since,
            size: self.difference.size,
            from,
            limit: PAGE,
            freshness: match from {
                // A copy that was taken again has the id that the one before it had.
                0 => Freshness::Now,
                // That state, or a later one.
                _ => Freshness::Any,
            },
        };
        let asked = self.views.stretches(question);
        let page = match self.deadline {
            Some(deadline) => timeout_at(deadline, asked).await.map_err(|_| Stop::Late)?,
            None => asked.await,
        };
        page.map_err(|error| Stop::For(Problem::from(error).about(self.object)))
    }

    /// At least so much more than was done.
    fn expect(&self, more: u64) {
        let Progress { done, total } = self.meter.progress();
        let least = done.saturating_add(more);
        self.meter
            .expect(total.map_or(least, |total| total.max(least)));
    }

    fn is_late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn stopped(&self, error: CopyError) -> Stop {
        match error {
            CopyError::Write(WriteError::Stopped) if self.is_late() => Stop::Late,
            CopyError::Write(error) => Stop::For(write_problem(self.object, error)),
            CopyError::Read(error) => Stop::For(read_problem(self.object, &error)),
        }
    }
}
