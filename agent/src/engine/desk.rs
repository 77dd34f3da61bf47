//! The store thread: deciding, making durable, publishing.
//!
//! ```text
//! inbox ── up to BATCH messages ──► write lock ─► decide, stage, apply  (each)
//!                                                 commit: one fsync      (once)
//!                                                 ledger.want            (each)
//!                                   unlock ─────► answer                 (each)
//! ```
//!
//! What only follows from the kernel's state (`settle`) is staged and rides along with the
//! next commit, or one of its own before long: a crash before that makes the next first lap
//! find it out again.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ashlar_protocol::{Problem, ProblemCode};
use ashlar_targetd_protocol::{DiskReport, PoolReport};
use tokio::runtime::Handle;
use tokio::sync::{RwLock, mpsc, oneshot};
use uuid::Uuid;

use super::stopping;
use crate::domain::record::Unit;
use crate::domain::settle::{self, Span};
use crate::domain::view::Look;
use crate::domain::{
    Command, Decision, Edit, Facts, Intent, Key, OsRandom, Outcome, Record, Reply, RequestContext,
    Site, decide, outcome,
};
use crate::reconcile::{Desk, DeskAnswer, DeskError, Ledger, Reconciler, Settled};
use crate::store::{Batch, StageError, Store};
use crate::targetd::Targetd;

/// Messages taken per commit. Twice the units in flight, so that a full house is one batch.
const BATCH: usize = 128;
/// Messages waiting. Two batches: one being committed and one to follow.
const QUEUE: usize = 2 * BATCH;
/// Longest time for which staged changes that nobody waits for are left to ride along.
const QUIET: Duration = Duration::from_secs(1);
/// Free bytes on the state disk below which it is reported.
const LOW: u64 = 64 << 20;

/// The handle by which the store thread is asked. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct StoreDesk {
    inbox: mpsc::Sender<Message>,
}

/// A command that was taken.
pub(super) struct Taken {
    pub(super) reply: Reply,
    /// What it was answered with when it was first asked.
    pub(super) stored: Option<Box<Outcome>>,
    /// Resolves when the kernel has it; absent when it has it already.
    pub(super) waiting: Option<oneshot::Receiver<Settled>>,
}

/// How the store is; `trouble` is a sentence when it is not well.
pub(super) struct StoreHealth {
    pub(super) trouble: Option<String>,
}

type Tell<T> = oneshot::Sender<T>;

enum Message {
    Command {
        command: Box<Command>,
        context: RequestContext,
        disks: Vec<DiskReport>,
        tell: Tell<Result<Taken, Problem>>,
    },
    Settle {
        unit: Unit,
        span: Span,
        report: Option<PoolReport>,
        tell: Tell<Result<(), DeskError>>,
    },
    Undo {
        unit: Unit,
        span: Span,
        problem: Problem,
        undo: Undo,
        tell: Tell<Result<bool, DeskError>>,
    },
    Health(Tell<StoreHealth>),
    /// What was staged some time ago is made durable, if nothing took it along.
    Flush,
    Stop,
}

type Undo = fn(&Intent, Unit, Span, &Problem) -> Vec<Edit>;

/// An answer, held back until its change is durable.
enum Held {
    Taken(Tell<Result<Taken, Problem>>, Accepted),
    Refused(Tell<Result<Taken, Problem>>, Problem),
    Settled(Tell<Result<(), DeskError>>, Result<(), DeskError>),
    Undone(Tell<Result<bool, DeskError>>, Result<bool, DeskError>),
}

/// What was decided about a command.
struct Accepted {
    reply: Reply,
    stored: Option<Box<Outcome>>,
    /// The generation of which unit the kernel is to have first.
    wait: Option<(Unit, u64)>,
}

impl StoreDesk {
    /// A desk, and the inbox for [`Clerk::run`].
    pub(super) fn new() -> (StoreDesk, Inbox) {
        let (inbox, messages) = mpsc::channel(QUEUE);
        (StoreDesk { inbox }, Inbox(messages))
    }

    /// A handle that does not keep the thread running.
    pub(super) fn downgrade(&self) -> WeakDesk {
        WeakDesk(self.inbox.downgrade())
    }

    pub(super) async fn command(
        &self,
        command: Command,
        context: RequestContext,
        disks: Vec<DiskReport>,
    ) -> Result<Taken, Problem> {
        let (tell, told) = oneshot::channel();
        let message = Message::Command {
            command: Box::new(command),
            context,
            disks,
            tell,
        };
        self.inbox.send(message).await.map_err(|_| stopping())?;
        told.await.map_err(|_| stopping())?
    }

    /// How the store is; `None` when it is closed.
    pub(super) async fn health(&self) -> Option<StoreHealth> {
        let (tell, told) = oneshot::channel();
        self.inbox.send(Message::Health(tell)).await.ok()?;
        told.await.ok()
    }

    /// Asks the thread to close the store and end.
    pub(super) async fn stop(&self) {
        // An error means that it has ended.
        drop(self.inbox.send(Message::Stop).await);
    }

    fn ask<T: Send + 'static>(
        &self,
        message: Message,
        told: oneshot::Receiver<Result<T, DeskError>>,
    ) -> DeskAnswer<T> {
        let inbox = self.inbox.clone();
        Box::pin(async move {
            inbox.send(message).await.map_err(|_| DeskError::Stopping)?;
            told.await.map_err(|_| DeskError::Stopping)?
        })
    }

    fn undo(&self, unit: Unit, span: Span, problem: Problem, undo: Undo) -> DeskAnswer<bool> {
        let (tell, told) = oneshot::channel();
        self.ask(
            Message::Undo {
                unit,
                span,
                problem,
                undo,
                tell,
            },
            told,
        )
    }
}

impl Desk for StoreDesk {
    fn settle(&self, unit: Unit, span: Span, report: Option<PoolReport>) -> DeskAnswer<()> {
        let (tell, told) = oneshot::channel();
        self.ask(
            Message::Settle {
                unit,
                span,
                report,
                tell,
            },
            told,
        )
    }

    fn withdraw(&self, unit: Unit, span: Span, problem: Problem) -> DeskAnswer<bool> {
        self.undo(unit, span, problem, settle::withdraw)
    }

    fn restore(&self, unit: Unit, span: Span, problem: Problem) -> DeskAnswer<bool> {
        self.undo(unit, span, problem, settle::restore)
    }
}

/// A [`StoreDesk`] that does not keep the thread running.
#[derive(Clone, Debug)]
pub(super) struct WeakDesk(mpsc::WeakSender<Message>);

impl WeakDesk {
    fn upgrade(&self) -> Option<StoreDesk> {
        self.0.upgrade().map(|inbox| StoreDesk { inbox })
    }
}

/// The receiving end of a [`StoreDesk`].
pub(super) struct Inbox(mpsc::Receiver<Message>);

/// What the store thread owns.
pub(super) struct Clerk {
    pub(super) store: Store,
    pub(super) intent: Arc<RwLock<Intent>>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) reconciler: Reconciler,
    pub(super) targetd: Targetd,
    pub(super) site: Arc<Site>,
    /// Weak, so that the thread ends with the last of those who could ask.
    pub(super) desk: WeakDesk,
    pub(super) runtime: Handle,
    /// Whether a flush is on its way.
    pub(super) flushing: bool,
}

/// What one batch has come to so far.
#[derive(Default)]
struct Round {
    held: Vec<Held>,
    wanted: Vec<(Unit, u64)>,
    durable: bool,
    /// Something was staged that nobody waits for.
    lazy: bool,
    stop: bool,
}

impl Clerk {
    /// Serves until told to stop, or until nobody is left to ask; then closes the store.
    pub(super) fn run(mut self, inbox: Inbox) {
        let Inbox(mut messages) = inbox;
        while let Some(first) = messages.blocking_recv() {
            let round = self.round(first, &mut messages);
            if round.lazy && !round.durable {
                self.flush_soon();
            }
            let stop = round.stop;
            self.answer(round.held);
            if stop {
                break;
            }
        }
        drop(messages);
        if let Err(error) = self.store.close() {
            tracing::error!(%error, "the store did not close; the next start repairs it");
        }
    }

    /// Has staged changes committed before long, even if nothing else comes.
    fn flush_soon(&mut self) {
        if std::mem::replace(&mut self.flushing, true) {
            return;
        }
        let desk = self.desk.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(QUIET).await;
            if let Some(desk) = desk.upgrade() {
                // An error means that the store was closed, and everything committed.
                drop(desk.inbox.send(Message::Flush).await);
            }
        });
    }

    /// Takes `first` and what else is there, and makes it durable.
    fn round(&mut self, first: Message, messages: &mut mpsc::Receiver<Message>) -> Round {
        let lock = Arc::clone(&self.intent);
        let mut intent = lock.blocking_write();
        let mut round = Round::default();
        let mut next = Some(first);
        let mut count = 0;
        while let Some(message) = next.take() {
            self.take(&mut intent, message, &mut round);
            count += 1;
            if count < BATCH && !round.stop {
                next = messages.try_recv().ok();
            }
        }
        if round.durable {
            self.commit();
        }
        // Still locked, so that nobody sees a change before the ledger knows of it.
        for (unit, generation) in round.wanted.drain(..) {
            if self.ledger.want(unit, generation) {
                // Without a desk the engine is gone, and the next one does it.
                if let Some(desk) = self.desk.upgrade() {
                    self.reconciler.launch(unit, Arc::new(desk), &self.runtime);
                }
            }
        }
        round
    }

    fn take(&mut self, intent: &mut Intent, message: Message, round: &mut Round) {
        match message {
            Message::Command {
                command,
                context,
                disks,
                tell,
            } => {
                let held = match self.decide(intent, &command, &context, &disks, round) {
                    Ok(accepted) => Held::Taken(tell, accepted),
                    Err(problem) => Held::Refused(tell, problem),
                };
                round.held.push(held);
            }
            Message::Settle {
                unit,
                span,
                report,
                tell,
            } => {
                let result = self.settle(intent, unit, span, report);
                round.lazy = true;
                round
                    .held
                    .push(Held::Settled(tell, result.map_err(DeskError::from)));
            }
            Message::Undo {
                unit,
                span,
                problem,
                undo,
                tell,
            } => {
                let edits = undo(intent, unit, span, &problem);
                let result = self.stage(intent, &edits).map(|()| !edits.is_empty());
                if let Ok(true) = result {
                    round.durable = true;
                    round.wanted.push((unit, intent.generation()));
                    tracing::warn!(object = %unit.object(), %problem, "a change was taken back");
                }
                round
                    .held
                    .push(Held::Undone(tell, result.map_err(DeskError::from)));
            }
            Message::Health(tell) => {
                // The asker may have gone.
                drop(tell.send(self.health()));
            }
            Message::Flush => {
                self.flushing = false;
                round.durable = true;
            }
            Message::Stop => round.stop = true,
        }
    }

    /// Takes over that the kernel has a unit, and keeps the answers of those who asked for it.
    fn settle(
        &mut self,
        intent: &mut Intent,
        unit: Unit,
        span: Span,
        report: Option<PoolReport>,
    ) -> Result<(), Problem> {
        let usage = report.as_ref().and_then(|report| report.usage);
        let capacity = usage.map(|u| u.data_total.saturating_mul(u.block.bytes().0));
        let edits = settle::settle(intent, unit, span.tried, capacity);
        self.stage(intent, &edits)?;
        let look = report.map_or(Look::Gone, Look::Report);
        let asked = intent.requests_between(span.applied, span.tried);
        let asked = asked.filter(|(_, request)| request.unit == Some(unit));
        let answers: Vec<Edit> = asked
            .filter(|(_, request)| request.failed.is_none())
            .filter_map(|(id, request)| self.answer_of(intent, id, request.reply(), &look))
            .collect();
        self.keep(intent, &answers);
        Ok(())
    }

    /// Stores answers. Without one, a repeated request is answered with its object as it is.
    fn keep(&mut self, intent: &mut Intent, answers: &[Edit]) {
        if let Err(problem) = self.stage(intent, answers) {
            tracing::warn!(%problem, "an answer could not be kept");
        }
    }

    /// The answer to a request, to be stored; none when its object is gone again.
    fn answer_of(&self, intent: &Intent, id: Uuid, reply: Reply, look: &Look) -> Option<Edit> {
        let outcome = outcome(intent, &self.site, reply, look).ok()?;
        Some(Edit::put(Record::Answer(id, outcome)))
    }

    /// Decides a command and stages its change.
    fn decide(
        &mut self,
        intent: &mut Intent,
        command: &Command,
        context: &RequestContext,
        disks: &[DiskReport],
        round: &mut Round,
    ) -> Result<Accepted, Problem> {
        let ledger = Arc::clone(&self.ledger);
        let pending: Vec<Unit> = round.wanted.iter().map(|(unit, _)| *unit).collect();
        let settled = |unit| ledger.settled(unit) && !pending.contains(&unit);
        let facts = Facts {
            request: context,
            now: now(),
            kernel: self.targetd.is_up(),
            disks,
            transports: &self.site.transports(),
            settled: &settled,
            trouble: &|unit| ledger.problem(unit),
        };
        match decide(intent, command, &facts, &mut OsRandom)? {
            Decision::Repeat(id) => self.repeated(intent, id),
            Decision::Change(change, reply) => {
                self.stage(intent, &change.edits)?;
                round.durable = true;
                let wait = change.unit.map(|unit| (unit, change.generation));
                round.wanted.extend(wait);
                if wait.is_none() {
                    let answer = self.answer_of(intent, context.id, reply, &Look::Gone);
                    self.keep(intent, answer.as_slice());
                }
                tracing::info!(request = %context.id, subject = context.subject,
                    object = %reply.object, operation = ?reply.operation,
                    generation = change.generation, "accepted");
                Ok(Accepted {
                    reply,
                    stored: None,
                    wait,
                })
            }
        }
    }

    /// The answer to a request that was taken before.
    fn repeated(&mut self, intent: &Intent, id: Uuid) -> Result<Accepted, Problem> {
        let record = intent
            .request(id)
            .ok_or_else(|| super::internal("a repeated request has no record"))?;
        if let Some(problem) = &record.failed {
            return Err((**problem).clone());
        }
        // What was staged shows in the store once it is committed.
        self.commit();
        let wait = record.unit.map(|unit| (unit, record.generation));
        let reply = record.reply();
        let stored = self.stored_answer(id);
        Ok(Accepted {
            reply,
            stored,
            wait,
        })
    }

    fn stored_answer(&self, id: Uuid) -> Option<Box<Outcome>> {
        let key = Key::Answer(id).bytes();
        let value = match self.store.get(&key) {
            Ok(value) => value?,
            Err(error) => {
                tracing::error!(%error, request = %id, "an answer cannot be read");
                return None;
            }
        };
        match Record::parse(&key, &value) {
            Ok(Record::Answer(_, outcome)) => Some(Box::new(outcome)),
            Ok(_) => None,
            Err(error) => {
                tracing::error!(%error, request = %id, "an answer cannot be read");
                None
            }
        }
    }

    /// Journals the edits and takes them over; neither if there is no room.
    fn stage(&mut self, intent: &mut Intent, edits: &[Edit]) -> Result<(), Problem> {
        if edits.is_empty() {
            return Ok(());
        }
        match self.store.stage(batch(edits)?) {
            Ok(_generation) => {}
            Err(StageError::Poisoned) => give_up(&StageError::Poisoned),
            Err(error @ StageError::StateDiskFull { .. }) => {
                return Err(Problem::new(ProblemCode::StateDiskFull, error.to_string()));
            }
            Err(error @ (StageError::TooLarge { .. } | StageError::File(_))) => {
                return Err(Problem::new(ProblemCode::Internal, error.to_string()));
            }
        }
        for edit in edits {
            intent
                .apply(edit)
                .expect("an edit refers only to what the intent it was decided on has");
        }
        Ok(())
    }

    fn commit(&mut self) {
        if let Err(error) = self.store.commit() {
            give_up(&error);
        }
    }

    fn answer(&self, held: Vec<Held>) {
        for held in held {
            // Whoever asked may have gone.
            match held {
                Held::Taken(
                    tell,
                    Accepted {
                        reply,
                        stored,
                        wait,
                    },
                ) => {
                    let waiting = wait.map(|(unit, generation)| self.ledger.wait(unit, generation));
                    drop(tell.send(Ok(Taken {
                        reply,
                        stored,
                        waiting,
                    })));
                }
                Held::Refused(tell, problem) => drop(tell.send(Err(problem))),
                Held::Settled(tell, result) => drop(tell.send(result)),
                Held::Undone(tell, result) => drop(tell.send(result)),
            }
        }
    }

    fn health(&self) -> StoreHealth {
        let trouble = match self.store.health() {
            Ok(health) if health.free_bytes < LOW => Some(format!(
                "the state disk has {} bytes left",
                health.free_bytes
            )),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        StoreHealth { trouble }
    }
}

/// One journal record of those edits.
pub(super) fn batch(edits: &[Edit]) -> Result<Batch, Problem> {
    let mut batch = Batch::new();
    for edit in edits {
        match edit {
            Edit::Put(record) => {
                let value = record
                    .value()
                    .map_err(|error| Problem::new(ProblemCode::Internal, error.to_string()))?;
                batch.put(record.key().bytes(), value);
            }
            Edit::Remove(key) => {
                batch.delete(key.bytes());
            }
        }
    }
    Ok(batch)
}

/// Ends the process. After a failed fsync nobody knows what the disk has; the next start reads
/// it and goes on from there.
fn give_up(error: &dyn std::error::Error) -> ! {
    tracing::error!(%error, "the store failed; ending the process so that it is opened afresh");
    std::process::abort()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
