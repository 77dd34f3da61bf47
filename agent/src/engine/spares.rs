//! Spares take the places of disks that have gone, by themselves.
//!
//! ```text
//! start; event: a disk failed, is missing, is back; a pool has other spares, … ──► look
//! look ──┬── nothing is gone, or no spare can help
//!        ├── a disk is gone for less than the delay ── a timer ──► look
//!        └── for longer ──► replace, as an operator would ask
//! ```
//!
//! The delay is for a disk that is back soon, as after a cable was moved: it gets what it missed,
//! which takes a moment, where a spare gets all of its data. It is counted for each disk from when it
//! was first seen gone, and anew by each start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ashlar_protocol::{DiskId, Event, ObjectKind, Problem};
use ashlar_targetd_protocol::{Request, Response};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Command, Engine, RequestContext};
use crate::domain::spares::{gone, replacement};
use crate::domain::view::Look;
use crate::kept::After;

/// Events read at once.
const EVENTS: usize = 256;

/// Who asks, as jobs and records have it.
const SUBJECT: &str = "this box: a spare takes over";

/// After which events a pool may need a spare.
const CAUSES: &[&str] = &[
    "pool.member-failed",
    "pool.member-missing",
    "pool.member-rebuilding",
    "pool.member-in-sync",
    "pool.online",
    "pool.updated",
    "pool.grown",
    "pool.disk-replaced",
    "pool.replace-failed",
];

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
    /// Spares that could not be had, until somebody says otherwise.
    useless: BTreeSet<DiskId>,
}

impl Standby {
    async fn run(&mut self) {
        let Ok(mut events) = self.engine.events_after(After::Newest) else {
            return;
        };
        self.all_due().await;
        loop {
            let next = self.due.values().min().copied();
            // Cancel-safe: neither takes anything until it has ended.
            tokio::select! {
                news = events.news() => match (news, events.read(EVENTS)) {
                    (false, _) => return,
                    (true, Ok((read, _))) => read.iter().for_each(|event| self.hear(event)),
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

    fn hear(&mut self, event: &Event) {
        let (kind, pool) = (event.kind.as_str(), event.object.id);
        if event.object.kind != ObjectKind::Pool || !CAUSES.contains(&kind) {
            return;
        }
        match kind {
            "pool.replace-failed" => self.useless.extend(self.tried.remove(&pool)),
            "pool.updated" => self.useless.clear(),
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
                    self.due.insert(pool, Instant::now() + self.delay);
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
            return Ok(());
        };
        let Ok(Response::Disks(disks)) = self.engine.shared.targetd.call(Request::ListDisks).await
        else {
            return Ok(());
        };
        let spec = {
            let engine = self.engine.clone();
            let intent = engine.shared.intent.read().await;
            let Some(entry) = intent.pool(pool) else {
                return Ok(());
            };
            self.note_gone(pool, gone(&entry.record, &report));
            let (now, since) = (Instant::now(), &self.gone);
            let waited = |disk: &DiskId| {
                let since = since.get(&(pool, disk.clone()));
                since.is_some_and(|since| *since + self.delay <= now)
            };
            let useless = |spare: &DiskId| self.useless.contains(spare);
            replacement(&entry.record, &report, &disks, waited, useless)
        };
        if spec.is_none() {
            self.wait_for_gone(pool);
        }
        let Some(spec) = spec else { return Ok(()) };
        tracing::warn!(%pool, disk = %spec.disk, by = %spec.by, "a spare takes over");
        self.tried.insert(pool, spec.by.clone());
        let context = RequestContext {
            id: Uuid::new_v4(),
            digest: Sha256::digest(format!("{} {}", spec.disk, spec.by)).into(),
            subject: SUBJECT.to_owned(),
        };
        let command = Command::PoolReplace { id: pool, spec };
        // What comes of it is told by events, here as to everybody.
        let asked = self.engine.execute(command, context, Duration::ZERO);
        asked.await.map(drop)
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

    /// Has a pool looked at when the next of its disks has been gone for long enough.
    fn wait_for_gone(&mut self, pool: Uuid) {
        let now = Instant::now();
        let disks = self.gone.iter().filter(|((of, _), _)| *of == pool);
        let ends = disks.map(|(_, since)| *since + self.delay);
        if let Some(end) = ends.filter(|end| *end > now).min() {
            self.due.insert(pool, end);
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
