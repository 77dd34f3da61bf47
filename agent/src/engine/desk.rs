//! The handle of the store thread, and what it is asked.

use std::sync::Arc;

use ashlar_protocol::{JobResult, Problem, Progress};
use ashlar_targetd_protocol::{AddressState, DiskReport, PoolReport, PoolUsage, SetReport};
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot};
use uuid::Uuid;

use super::clerk::BATCH;
use super::keeper::StoreHealth;
use super::stopping;
use super::work::{Advance, Rule};
use crate::domain::import::Found;
use crate::domain::record::Unit;
use crate::domain::settle::{self, Grounds, Span};
use crate::domain::{Command, Edit, Intent, Outcome, Reply, RequestContext, Undertaking};
use crate::reconcile::{Desk, DeskAnswer, DeskError, PoolSeen, Settled};

/// Messages waiting. Two batches: one being committed and one to follow.
const QUEUE: usize = 2 * BATCH;

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

/// What was looked at for a command before it is decided.
#[derive(Clone, Debug, Default)]
pub(super) struct Looked {
    /// The disks of the box, for a pool.
    pub(super) disks: Vec<DiskReport>,
    /// How full a pool that is to grow is, if it tells.
    pub(super) usage: Option<PoolUsage>,
    /// How the sets of a pool are that is to be given another disk, as far as it tells.
    pub(super) sets: Vec<SetReport>,
    /// Where what a thin device maps ends, for one that is to be adopted.
    pub(super) thin_end: Option<Result<u64, Problem>>,
    /// The catalog of a pool that is to be imported.
    pub(super) catalog: Option<Arc<Result<Found, Problem>>>,
    /// Nobody else looks at catalogs of pools that are not here until this was decided.
    pub(super) _alone: Option<Arc<OwnedMutexGuard<()>>>,
    /// How the address is at which a portal is to be.
    pub(super) address: Option<AddressState>,
}

pub(super) type Tell<T> = oneshot::Sender<T>;

/// What the store thread is asked.
pub(super) enum Message {
    Command {
        command: Box<Command>,
        context: RequestContext,
        looked: Looked,
        tell: Tell<Result<Taken, Problem>>,
    },
    Settle {
        unit: Unit,
        span: Span,
        seen: Option<PoolSeen>,
        tell: Tell<Result<bool, DeskError>>,
    },
    /// A volume was cleared.
    Cleared {
        unit: Unit,
        span: Span,
        result: JobResult,
        tell: Tell<Result<(), DeskError>>,
    },
    Undo {
        unit: Unit,
        span: Span,
        grounds: Box<Grounds>,
        undo: Undo,
        tell: Tell<Result<bool, DeskError>>,
    },
    /// Long work begins; whether it is new.
    Begin {
        work: Undertaking,
        context: RequestContext,
        rule: Rule,
        tell: Tell<Result<bool, Problem>>,
    },
    /// Long work goes on; the generation of that.
    Advance {
        unit: Unit,
        rule: Advance,
        tell: Tell<Result<u64, Problem>>,
    },
    /// Long work has ended.
    End {
        job: Uuid,
        progress: Progress,
        outcome: Result<JobResult, Problem>,
        tell: Tell<Result<(), DeskError>>,
    },
    /// A pool is no longer what was told of it.
    Saw(PoolReport),
    Health(Tell<StoreHealth>),
    /// What was staged some time ago is made durable, if nothing took it along.
    Flush,
    Stop,
}

/// One of the ways to take a change back.
pub(super) type Undo = fn(&Intent, Unit, Span, &Grounds) -> Vec<Edit>;

impl StoreDesk {
    /// A desk, and the inbox for [`Clerk::run`](super::clerk::Clerk::run).
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
        looked: Looked,
    ) -> Result<Taken, Problem> {
        let (tell, told) = oneshot::channel();
        let message = Message::Command {
            command: Box::new(command),
            context,
            looked,
            tell,
        };
        self.inbox.send(message).await.map_err(|_| stopping())?;
        told.await.map_err(|_| stopping())?
    }

    /// Begins long work; whether it is new.
    pub(super) async fn begin(
        &self,
        work: Undertaking,
        context: RequestContext,
        rule: Rule,
    ) -> Result<bool, Problem> {
        let (tell, told) = oneshot::channel();
        let message = Message::Begin {
            work,
            context,
            rule,
            tell,
        };
        self.inbox.send(message).await.map_err(|_| stopping())?;
        told.await.map_err(|_| stopping())?
    }

    /// Changes what long work is done on, and has the kernel brought up to that; the generation
    /// of it.
    pub(super) async fn advance(&self, unit: Unit, rule: Advance) -> Result<u64, Problem> {
        let (tell, told) = oneshot::channel();
        let message = Message::Advance { unit, rule, tell };
        self.inbox.send(message).await.map_err(|_| stopping())?;
        told.await.map_err(|_| stopping())?
    }

    /// Long work has ended.
    pub(super) fn end(
        &self,
        job: Uuid,
        progress: Progress,
        outcome: Result<JobResult, Problem>,
    ) -> DeskAnswer<()> {
        let (tell, told) = oneshot::channel();
        self.ask(
            Message::End {
                job,
                progress,
                outcome,
                tell,
            },
            told,
        )
    }

    /// Takes back what was added to a unit, because a client wants it so.
    pub(super) fn take_back(&self, unit: Unit, span: Span, problem: Problem) -> DeskAnswer<bool> {
        self.undo(unit, span, Grounds::new(problem), settle::withdraw)
    }

    /// Takes over what was seen of a pool.
    pub(super) async fn saw(&self, report: PoolReport) {
        // An error means that the store was closed; the next start looks again.
        drop(self.inbox.send(Message::Saw(report)).await);
    }

    /// How the store is; `None` when it is closed.
    pub(super) async fn health(&self) -> Option<StoreHealth> {
        let (tell, told) = oneshot::channel();
        self.inbox.send(Message::Health(tell)).await.ok()?;
        told.await.ok()
    }

    /// Has what was staged made durable.
    pub(super) async fn flush(&self) {
        // An error means that the store was closed, and everything committed.
        drop(self.inbox.send(Message::Flush).await);
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

    fn undo(&self, unit: Unit, span: Span, grounds: Grounds, undo: Undo) -> DeskAnswer<bool> {
        let (tell, told) = oneshot::channel();
        self.ask(
            Message::Undo {
                unit,
                span,
                grounds: Box::new(grounds),
                undo,
                tell,
            },
            told,
        )
    }
}

impl Desk for StoreDesk {
    fn settle(&self, unit: Unit, span: Span, seen: Option<PoolSeen>) -> DeskAnswer<bool> {
        let (tell, told) = oneshot::channel();
        self.ask(
            Message::Settle {
                unit,
                span,
                seen,
                tell,
            },
            told,
        )
    }

    fn cleared(&self, unit: Unit, span: Span, result: JobResult) -> DeskAnswer<()> {
        let (tell, told) = oneshot::channel();
        self.ask(
            Message::Cleared {
                unit,
                span,
                result,
                tell,
            },
            told,
        )
    }

    fn withdraw(&self, unit: Unit, span: Span, grounds: Grounds) -> DeskAnswer<bool> {
        self.undo(unit, span, grounds, settle::withdraw)
    }

    fn restore(&self, unit: Unit, span: Span, grounds: Grounds) -> DeskAnswer<bool> {
        self.undo(unit, span, grounds, settle::restore)
    }

    fn forget(&self, unit: Unit, span: Span, grounds: Grounds) -> DeskAnswer<bool> {
        self.undo(unit, span, grounds, settle::forget)
    }
}

/// A [`StoreDesk`] that does not keep the thread running.
#[derive(Clone, Debug)]
pub(super) struct WeakDesk(mpsc::WeakSender<Message>);

impl WeakDesk {
    pub(super) fn upgrade(&self) -> Option<StoreDesk> {
        self.0.upgrade().map(|inbox| StoreDesk { inbox })
    }
}

/// The receiving end of a [`StoreDesk`].
pub(super) struct Inbox(pub(super) mpsc::Receiver<Message>);
