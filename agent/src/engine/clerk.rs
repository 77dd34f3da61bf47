//! The store thread: deciding, making durable, publishing.
//!
//! ```text
//! inbox ── up to BATCH messages ──► write lock ─► decide, stage, apply  (each)
//!                                                 commit: one fsync      (once)
//!                                                 ledger.want            (each)
//!                                   unlock ─────► answer                 (each)
//!                                   inbox empty ► catch up: the database copy
//! ```
//!
//! What only follows from the kernel's state (`settle`) is staged and rides along with the
//! next commit, or one of its own before long: a crash before that makes the next first lap
//! find it out again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ashlar_protocol::{ObjectKind, PoolLevel, Problem};
use ashlar_targetd_protocol::PoolReport;
use tokio::runtime::Handle;
use tokio::sync::{RwLock, mpsc};
use uuid::Uuid;

use super::catalog::Catalogs;
use super::desk::{Inbox, Looked, Message, Taken, Tell, WeakDesk};
use super::keeper::Keeper;
use super::watch::Seen;
use super::work::{Advance, Rule};
use crate::clock::now;
use crate::domain::decide::work;
use crate::domain::members;
use crate::domain::record::{GroupPhase, Key, SnapshotPhase, Unit, VolumePhase};
use crate::domain::settle::{self, Span};
use crate::domain::view::Look;
use crate::domain::{
    Command, Decision, Edit, Facts, Intent, OsRandom, Outcome, Record, Reply, RequestContext, Site,
    Undertaking, decide, outcome, watch,
};
use crate::reconcile::{DeskError, Ledger, PoolSeen, Reconciler};
use crate::targetd::Targetd;

/// Messages taken per commit. Twice the units in flight, so that a full house is one batch.
pub(super) const BATCH: usize = 128;
/// Longest time for which staged changes that nobody waits for are left to ride along.
const QUIET: Duration = Duration::from_secs(1);

/// What the store thread owns.
pub(super) struct Clerk {
    pub(super) keeper: Keeper,
    pub(super) intent: Arc<RwLock<Intent>>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) reconciler: Reconciler,
    pub(super) targetd: Targetd,
    pub(super) site: Arc<Site>,
    pub(super) seen: Arc<Seen>,
    /// Weak, so that the thread ends with the last of those who could ask.
    pub(super) desk: WeakDesk,
    pub(super) catalogs: Catalogs,
    pub(super) runtime: Handle,
    /// Whether a flush is on its way.
    pub(super) flushing: bool,
}

/// An answer, held back until its change is durable.
enum Held {
    Taken(Tell<Result<Taken, Problem>>, Accepted),
    Refused(Tell<Result<Taken, Problem>>, Problem),
    Begun(Tell<Result<bool, Problem>>, Result<bool, Problem>),
    Advanced(Tell<Result<u64, Problem>>, Result<u64, Problem>),
    Ended(Tell<Result<(), DeskError>>, Result<(), DeskError>),
    Settled(Tell<Result<bool, DeskError>>, Result<bool, DeskError>),
}

/// What was decided about a command.
struct Accepted {
    reply: Reply,
    stored: Option<Box<Outcome>>,
    /// The generation of which unit the kernel is to have first.
    wait: Option<(Unit, u64)>,
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
            self.keeper.catch_up(messages.is_empty());
        }
        drop(messages);
        if let Err(error) = self.keeper.close() {
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
                desk.flush().await;
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
            self.keeper.commit();
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
                looked,
                tell,
            } => {
                let held = match self.decide(intent, &command, &context, &looked, round) {
                    Ok(accepted) => Held::Taken(tell, accepted),
                    Err(problem) => Held::Refused(tell, problem),
                };
                round.held.push(held);
            }
            Message::Settle {
                unit,
                span,
                seen,
                tell,
            } => {
                let report = seen.as_ref().map(|seen| seen.report.clone());
                let result = self.settle(intent, unit, span, seen);
                if let (Some(report), Ok(_)) = (report, &result) {
                    self.saw(intent, &report, round);
                }
                // The next step must not be taken before this one is durable.
                round.durable |= result == Ok(false);
                // Settling may leave more to do.
                let newest = match unit {
                    Unit::Volume(id) => intent.volume(id).map(|entry| entry.record.generation),
                    Unit::Snapshot(id) => intent.snapshot(id).map(|record| record.generation),
                    Unit::Pool(_)
                    | Unit::Group(_)
                    | Unit::GroupSnapshot(_)
                    | Unit::Host(_)
                    | Unit::Portal(_) => None,
                };
                let newer = newest.filter(|newest| *newest > span.tried);
                round.wanted.extend(newer.map(|newer| (unit, newer)));
                round.lazy = true;
                // What is not durable here is made once more, or withdrawn.
                round.durable |= matches!(unit, Unit::Pool(_));
                round
                    .held
                    .push(Held::Settled(tell, result.map_err(DeskError::from)));
            }
            Message::Cleared {
                unit,
                span,
                result,
                tell,
            } => {
                let edits = match unit {
                    Unit::Volume(id) => settle::cleared(intent, id, span, &result),
                    _ => Vec::new(),
                };
                let kept = self.keeper.stage(intent, &edits);
                // What is destroyed next is on record as cleared.
                round.durable = true;
                round
                    .held
                    .push(Held::Ended(tell, kept.map_err(DeskError::from)));
            }
            Message::Undo {
                unit,
                span,
                grounds,
                undo,
                tell,
            } => {
                let edits = undo(intent, unit, span, &grounds);
                let result = self
                    .keeper
                    .stage(intent, &edits)
                    .map(|()| !edits.is_empty());
                if let Ok(true) = result {
                    round.durable = true;
                    round.wanted.push((unit, intent.generation()));
                    tracing::warn!(object = %unit.object(), problem = %grounds.problem,
                        "a change was taken back");
                }
                round
                    .held
                    .push(Held::Settled(tell, result.map_err(DeskError::from)));
            }
            Message::Begin {
                work,
                context,
                rule,
                tell,
            } => {
                let result = self.begin(intent, &work, &context, rule, round);
                round.held.push(Held::Begun(tell, result));
            }
            Message::Advance { unit, rule, tell } => {
                let result = self.advance(intent, unit, rule, round);
                round.held.push(Held::Advanced(tell, result));
            }
            Message::End {
                job,
                progress,
                outcome,
                tell,
            } => {
                let edits = work::end(intent, job, progress, outcome);
                let result = self.keeper.stage(intent, &edits);
                if result.is_ok() {
                    round.wanted.extend(volumes_in(&edits));
                }
                round.durable = true;
                round
                    .held
                    .push(Held::Ended(tell, result.map_err(DeskError::from)));
            }
            Message::Saw(report) => self.saw(intent, &report, round),
            Message::Health(tell) => {
                // The asker may have gone.
                drop(tell.send(self.keeper.health()));
            }
            Message::Flush => {
                self.flushing = false;
                round.durable = true;
            }
            Message::Stop => round.stop = true,
        }
    }

    /// Takes over what was seen of a pool, and has the kernel told for what it is to wake us next.
    fn saw(&mut self, intent: &mut Intent, report: &PoolReport, round: &mut Round) {
        let pool = report.id;
        if intent.pool(pool).is_none() {
            return;
        }
        if !self.seen.note(report) {
            return;
        }
        let known = watch::Known {
            now: now(),
            tried: self.ledger.tried_pool(pool),
            scrubbed: self.seen.scrubbed(pool),
        };
        let seen = watch::seen(intent, pool, report, known);
        match self.keeper.stage(intent, &seen.edits) {
            Ok(()) => {
                if known.scrubbed {
                    self.seen.recorded(pool);
                }
                // Nobody is to hear of it twice.
                round.durable |= !seen.edits.is_empty();
                let unit = Unit::Pool(pool);
                round
                    .wanted
                    .extend(seen.generation.map(|newest| (unit, newest)));
            }
            Err(problem) => {
                tracing::warn!(%pool, %problem, "told at the next look at it");
            }
        }
    }

    /// Takes over that the kernel has a unit, and keeps the answers of those who asked for it;
    /// whether that was all.
    fn settle(
        &mut self,
        intent: &mut Intent,
        unit: Unit,
        span: Span,
        seen: Option<PoolSeen>,
    ) -> Result<bool, Problem> {
        let usage = seen.as_ref().and_then(|seen| seen.report.usage);
        let capacity = usage.map(|u| u.data_total.saturating_mul(u.block.bytes().0));
        let mut edits = settle::settle(intent, unit, span.tried, capacity);
        if let (Unit::Pool(pool), Some(seen)) = (unit, &seen)
            && let Ok(first_free) = seen.first_free
        {
            edits.extend(settle::skip_thin_ids(intent, pool, first_free));
        }
        self.keeper.stage(intent, &edits)?;
        if let (Unit::Pool(pool), Some(seen)) = (unit, &seen)
            && self.seen.note(&seen.report)
        {
            let told = members::told(intent, pool, &seen.report);
            self.keeper.stage(intent, &told)?;
        }
        if let (Unit::Pool(pool), Some(_)) = (unit, &seen) {
            self.catalogs.wake(pool);
        }
        if frees(&edits) && filling(intent) {
            self.ledger.news().notify_one();
        }
        if settle::goes_on(intent, unit, span.tried) {
            return Ok(false);
        }
        let look = seen.map_or(Look::Gone, |seen| Look::Report(seen.report));
        let asked = intent.requests_between(span.applied, span.tried);
        let asked = asked.filter(|(_, request)| request.unit == Some(unit));
        let answers: Vec<Edit> = asked
            .filter(|(_, request)| request.failed.is_none())
            .filter_map(|(id, request)| self.answer_of(intent, id, request.reply(), &look))
            .collect();
        self.keep(intent, &answers);
        Ok(true)
    }

    /// Stores answers. Without one, a repeated request is answered with its object as it is.
    fn keep(&mut self, intent: &mut Intent, answers: &[Edit]) {
        if let Err(problem) = self.keeper.stage(intent, answers) {
            tracing::warn!(%problem, "an answer could not be kept");
        }
    }

    /// The answer to a request, to be stored; none when its object is gone again.
    fn answer_of(&self, intent: &Intent, id: Uuid, reply: Reply, look: &Look) -> Option<Edit> {
        let outcome = outcome(intent, &self.site.as_of(intent), reply, look).ok()?;
        Some(Edit::put(Record::Answer(id, outcome)))
    }

    /// Decides a command and stages its change.
    fn decide(
        &mut self,
        intent: &mut Intent,
        command: &Command,
        context: &RequestContext,
        looked: &Looked,
        round: &mut Round,
    ) -> Result<Accepted, Problem> {
        let decision = self.judge(intent, context, looked, round, |facts| {
            decide(intent, command, facts, &mut OsRandom)
        });
        match decision? {
            Decision::Repeat(id) => self.repeated(intent, id),
            Decision::Change(change, reply) => {
                self.keeper.stage(intent, &change.edits)?;
                round.durable = true;
                let wait = change.unit.map(|unit| (unit, change.generation));
                round.wanted.extend(wait);
                if let Command::PoolImport { id, .. } = command {
                    self.ledger.forget_count(*id);
                    let along = come_along(&change.edits).into_iter();
                    round
                        .wanted
                        .extend(along.map(|unit| (unit, change.generation)));
                }
                if let Some((unit, generation)) = wait {
                    let along = wanted_along(intent, unit).into_iter();
                    round.wanted.extend(along.map(|unit| (unit, generation)));
                }
                // How full a pool is, is not known here: it is looked at when that is asked. What
                // another of the same batch makes of the object is no part of this answer.
                let stored = match wait {
                    None if reply.object.kind != ObjectKind::Pool => {
                        let site = self.site.as_of(intent);
                        outcome(intent, &site, reply, &Look::Gone).ok()
                    }
                    _ => None,
                };
                let answer = stored.clone();
                let answer = answer.map(|o| Edit::put(Record::Answer(context.id, o)));
                self.keep(intent, answer.as_slice());
                tracing::info!(request = %context.id, subject = context.subject,
                    object = %reply.object, operation = ?reply.operation,
                    generation = change.generation, "accepted");
                Ok(Accepted {
                    reply,
                    stored: stored.map(Box::new),
                    wait,
                })
            }
        }
    }

    /// Begins long work; whether it is new.
    fn begin(
        &mut self,
        intent: &mut Intent,
        work: &Undertaking,
        context: &RequestContext,
        rule: Rule,
        round: &mut Round,
    ) -> Result<bool, Problem> {
        let decision = self.judge(intent, context, &Looked::default(), round, |facts| {
            work::begin(intent, work, rule, facts)
        });
        match decision? {
            Decision::Repeat(_) => Ok(false),
            Decision::Change(change, reply) => {
                self.keeper.stage(intent, &change.edits)?;
                round.wanted.extend(volumes_in(&change.edits));
                round.durable = true;
                tracing::info!(request = %context.id, subject = context.subject,
                    object = %reply.object, operation = ?reply.operation,
                    generation = change.generation, "begun");
                Ok(true)
            }
        }
    }

    /// Changes what long work is done on; the generation of that.
    fn advance(
        &mut self,
        intent: &mut Intent,
        unit: Unit,
        rule: Advance,
        round: &mut Round,
    ) -> Result<u64, Problem> {
        let generation = intent.generation() + 1;
        let mut edits = rule(intent, generation)?;
        edits.push(Edit::put(Record::Clock(generation)));
        self.keeper.stage(intent, &edits)?;
        round.durable = true;
        round.wanted.push((unit, generation));
        Ok(generation)
    }

    /// Asks a rule, with the facts as they are.
    fn judge<T>(
        &self,
        intent: &Intent,
        context: &RequestContext,
        looked: &Looked,
        round: &Round,
        rule: impl FnOnce(&Facts<'_>) -> T,
    ) -> T {
        let ledger = &self.ledger;
        let addresses = self.reconciler.addresses();
        let pending: Vec<Unit> = round.wanted.iter().map(|(unit, _)| *unit).collect();
        let ended = |unit, generation| ledger.has(unit, generation) && !pending.contains(&unit);
        rule(&Facts {
            request: context,
            now: now(),
            kernel: self.targetd.is_up(),
            disks: &looked.disks,
            usage: looked.usage,
            sets: &looked.sets,
            seen: &|pool| self.seen.usage(pool),
            thin_end: looked.thin_end.as_ref(),
            catalog: looked.catalog.as_deref(),
            transports: &self.site.as_of(intent).transports(),
            site: &self.site,
            address: looked.address,
            lacking: &|transport, at| addresses.lacking(transport, at).is_some(),
            settled: &|unit| ledger.settled(unit) && !pending.contains(&unit),
            trouble: &|unit| ledger.trouble(unit),
            uncounted: &|pool| ledger.uncounted(pool),
            missing: &|feature| self.targetd.missing(feature),
            ended: &|request| {
                let unit = request.unit;
                unit.is_none_or(|unit| ended(unit, request.generation))
            },
        })
    }

    /// The answer to a request that was taken before.
    fn repeated(&mut self, intent: &Intent, id: Uuid) -> Result<Accepted, Problem> {
        let record = intent
            .request(id)
            .ok_or_else(|| super::internal("a repeated request has no record"))?;
        if let Some(problem) = &record.failed {
            return Err((**problem).clone());
        }
        // What was staged can be read once it is committed.
        self.keeper.commit();
        let wait = record.unit.map(|unit| (unit, record.generation));
        let reply = record.reply();
        let stored = self.keeper.answer(id);
        Ok(Accepted {
            reply,
            stored,
            wait,
        })
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
                Held::Begun(tell, result) => drop(tell.send(result)),
                Held::Advanced(tell, result) => drop(tell.send(result)),
                Held::Ended(tell, result) => drop(tell.send(result)),
                Held::Settled(tell, result) => drop(tell.send(result)),
            }
        }
    }
}

/// What a host's secrets or a portal are brought to by being applied itself.
fn wanted_along(intent: &Intent, unit: Unit) -> Vec<Unit> {
    match unit {
        Unit::Host(host) => {
            let connections = intent.connections_of_host(host);
            connections.map(|(_, c)| Unit::of(c.of)).collect()
        }
        Unit::Portal(id) => {
            let transport = intent.portal(id).map(|portal| portal.spec.transport);
            let connections = intent.connections().values();
            let over = connections.filter(|c| Some(c.transport) == transport);
            over.map(|c| Unit::of(c.of)).collect()
        }
        Unit::Pool(_)
        | Unit::Volume(_)
        | Unit::Snapshot(_)
        | Unit::Group(_)
        | Unit::GroupSnapshot(_) => Vec::new(),
    }
}

/// What of a pool that is taken over the kernel is to have.
fn come_along(edits: &[Edit]) -> BTreeSet<Unit> {
    let records = edits.iter().filter_map(|edit| match edit {
        Edit::Put(record) => Some(&**record),
        Edit::Remove(_) => None,
    });
    let due = records.filter_map(|record| match record {
        Record::Connection(_, connection) => Some(Unit::of(connection.of)),
        Record::Volume(id, volume) => {
            let rests = volume.phase == VolumePhase::Present && volume.retired.is_empty();
            (!rests && volume.group.is_none()).then_some(Unit::Volume(*id))
        }
        Record::Snapshot(id, snapshot) => {
            let rests = snapshot.phase == SnapshotPhase::Present || snapshot.group.is_some();
            (!rests).then_some(Unit::Snapshot(*id))
        }
        Record::Group(id, group) if group.phase != GroupPhase::Present => Some(Unit::Group(*id)),
        Record::GroupSnapshot(id, whole) if whole.phase != GroupPhase::Present => {
            Some(Unit::GroupSnapshot(*id))
        }
        _ => None,
    });
    due.collect()
}

/// Whether edits forget what took room in a pool, and is gone from it.
fn frees(edits: &[Edit]) -> bool {
    let gone = |edit: &Edit| matches!(edit, Edit::Remove(Key::Volume(_) | Key::Snapshot(_)));
    edits.iter().any(gone)
}

/// Whether any pool is past a watermark.
fn filling(intent: &Intent) -> bool {
    let mut pools = intent.pools().values();
    pools.any(|pool| pool.record.told.level() != PoolLevel::Ok)
}

/// The volumes that edits of long work are to bring about in the kernel.
fn volumes_in(edits: &[Edit]) -> impl Iterator<Item = (Unit, u64)> {
    edits.iter().filter_map(|edit| match edit {
        Edit::Put(record) => match &**record {
            Record::Volume(id, volume) => Some((Unit::Volume(*id), volume.generation)),
            _ => None,
        },
        Edit::Remove(_) => None,
    })
}
