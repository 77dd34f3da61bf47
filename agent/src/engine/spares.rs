//! Spares take the places of disks that have gone, by themselves.
//!
//! ```text
//! targetd is there, or told of a change; an event of a pool; the box is thawed ──► look
//! look ──┬── nothing is gone, or no spare can help: whatever changes that is told
//!        ├── could not look, or not take it yet ──────┐
//!        ├── a disk is gone for less than the delay ──┴── a timer ──► look
//!        └── for longer ──► replace, as an operator would ask
//! ```
//!
//! The delay is for a disk that is back soon, as after a cable was moved: it gets what it missed,
//! which takes a moment, where a spare gets all of its data. It is counted for each disk from when it
//! was first seen gone, and anew by each start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ashlar_protocol::{DiskId, Event, ObjectKind, Problem};
use ashlar_targetd_protocol::{PoolReport, Request, Response};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{Command, Engine, RequestContext};
use crate::domain::spares::{gone, replacement};
use crate::domain::view::Look;
use crate::kept::After;

/// Events read at once.
const EVENTS: usize = 256;

/// Before the disks of the box count as not to be had now: one may hang that others do not need.
const LISTED: Duration = Duration::from_secs(20);

/// Who asks, as jobs and records have it.
const SUBJECT: &str = "this box: a spare takes over";

/// Starts to stand by, until the engine stops.
pub(super) fn start(engine: Engine, delay: Duration, mut stopped: watch::Receiver<bool>) {
    let mut standby = Standby {
        engine,
        delay,
        due: BTreeMap::new(),
        gone: BTreeMap::new(),
        tried: BTreeMap::new(),
        useless: BTreeSet::new(),
    };
    tokio::spawn(async move {
        // Nothing of it is needed any more: the next start begins anew.
        tokio::select! {
            () = standby.run() => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    });
}

struct Standby {
    engine: Engine,
    delay: Duration,
    /// When pools are to be looked at.
    due: BTreeMap<Uuid, Instant>,
    /// Since when disks of pools are gone.
    gone: BTreeMap<(Uuid, DiskId), Instant>,
    /// The spare that was last to have a place of a pool.
    tried: BTreeMap<Uuid, DiskId>,
    /// Spares that pools could not have, until somebody says otherwise of the pool.
    useless: BTreeSet<(Uuid, DiskId)>,
}

impl Standby {
    async fn run(&mut self) {
        let news = Arc::clone(&self.engine.shared.watcher.spares);
        let Ok(mut events) = self.engine.events_after(After::Newest) else {
            return;
        };
        loop {
            let next = self.due.values().min().copied();
            // Cancel-safe: none takes anything until it has ended.
            tokio::select! {
                () = news.notified() => self.all_due().await,
                news = events.news() => match (news, events.read(EVENTS)) {
                    (false, _) => return,
                    (true, Ok((read, _))) => {
                        for event in read {
                            self.hear(&event).await;
                        }
                    }
                    (true, Err(_lost)) => {
                        match self.engine.events_after(After::Newest) {
                            Ok(reader) => events = reader,
                            Err(_) => return,
                        }
                        self.all_due().await;
                    }
                },
                () = until(next) => self.look().await,
            }
        }
    }

    async fn all_due(&mut self) {
        let at = Instant::now();
        let intent = self.engine.shared.intent.read().await;
        let pools = intent.pools().iter();
        let spared = pools.filter(|(_, pool)| !pool.record.spares.is_empty());
        self.due = spared.map(|(id, _)| (*id, at)).collect();
    }

    async fn hear(&mut self, event: &Event) {
        let (kind, pool) = (event.kind.as_str(), event.object.id);
        if kind == "system.thawed" {
            return self.all_due().await;
        }
        if event.object.kind != ObjectKind::Pool {
            return;
        }
        match kind {
            "pool.replace-failed" => {
                let tried = self.tried.remove(&pool);
                self.useless.extend(tried.map(|spare| (pool, spare)));
            }
            "pool.disk-replaced" => drop(self.tried.remove(&pool)),
            "pool.updated" => self.useless.retain(|(of, _)| *of != pool),
            _ => {}
        }
        self.due.insert(pool, Instant::now());
    }

    /// Looks at the pools whose time has come.
    async fn look(&mut self) {
        let now = Instant::now();
        let ready: Vec<Uuid> = self
            .due
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(pool, _)| *pool)
            .collect();
        for pool in ready {
            self.due.remove(&pool);
            if let Err(problem) = self.help(pool).await {
                tracing::warn!(%pool, %problem, "no spare takes over yet");
                // Such as a set that is being made the same: nobody tells of its end.
                if problem.retryable {
                    self.not_yet(pool);
                }
            }
        }
    }

    /// Gives the place of a disk of a pool that has gone to a spare, if one has and one can.
    async fn help(&mut self, pool: Uuid) -> Result<(), Problem> {
        if !self.has_spares(pool).await {
            return Ok(());
        }
        let Look::Report(report) = self.engine.look_at_pool(pool).await else {
            self.not_yet(pool);
            return Ok(());
        };
        if !self.is_time(pool, &report).await {
            return Ok(());
        }
        let listed = self.engine.shared.targetd.call(Request::ListDisks);
        let Ok(Ok(Response::Disks(disks))) = timeout(LISTED, listed).await else {
            self.not_yet(pool);
            return Ok(());
        };
        let spec = {
            let engine = self.engine.clone();
            let intent = engine.shared.intent.read().await;
            let Some(entry) = intent.pool(pool) else {
                return Ok(());
            };
            let now = Instant::now();
            let waited = |disk: &DiskId| {
                let since = self.gone.get(&(pool, disk.clone()));
                since.is_some_and(|since| *since + self.delay <= now)
            };
            let useless = |spare: &DiskId| self.useless.contains(&(pool, spare.clone()));
            replacement(&entry.record, &report, &disks, waited, useless)
        };
        let Some(spec) = spec else { return Ok(()) };
        tracing::warn!(%pool, disk = %spec.disk, by = %spec.by, "a spare takes over");
        let by = spec.by.clone();
        let context = RequestContext {
            id: Uuid::new_v4(),
            digest: Sha256::digest(format!("{} {}", spec.disk, spec.by)).into(),
            subject: SUBJECT.to_owned(),
        };
        let command = Command::PoolReplace { id: pool, spec };
        // What comes of it is told by events, here as to everybody.
        let asked = self.engine.execute(command, context, Duration::ZERO);
        asked.await?;
        // One that was refused at once was not tried. What comes of it is heard after this.
        self.tried.insert(pool, by);
        Ok(())
    }

    /// Has a pool looked at once more for which nothing could be done now.
    fn not_yet(&mut self, pool: Uuid) {
        self.due.insert(pool, Instant::now() + self.delay);
    }

    /// Whether a disk of a pool has been gone for long enough. Has the pool looked at when the next has.
    async fn is_time(&mut self, pool: Uuid, report: &PoolReport) -> bool {
        let disks = {
            let intent = self.engine.shared.intent.read().await;
            let entry = intent.pool(pool);
            entry.map(|entry| gone(&entry.record, report))
        };
        self.note_gone(pool, disks.unwrap_or_default());
        let now = Instant::now();
        let disks = self.gone.iter().filter(|((of, _), _)| *of == pool);
        let ends = disks.map(|(_, since)| *since + self.delay);
        let (over, ahead): (Vec<Instant>, Vec<Instant>) = ends.partition(|end| *end <= now);
        if let Some(end) = ahead.into_iter().min() {
            self.due.insert(pool, end);
        }
        !over.is_empty()
    }

    /// Keeps since when disks of a pool are gone, and forgets those that are back.
    fn note_gone(&mut self, pool: Uuid, disks: BTreeSet<DiskId>) {
        self.gone
            .retain(|(of, disk), _| *of != pool || disks.contains(disk));
        let now = Instant::now();
        for disk in disks {
            self.gone.entry((pool, disk)).or_insert(now);
        }
    }

    async fn has_spares(&self, pool: Uuid) -> bool {
        let intent = self.engine.shared.intent.read().await;
        let entry = intent.pool(pool);
        entry.is_some_and(|entry| !entry.record.spares.is_empty())
    }
}

/// Resolves then, or never.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}
