//! Comparisons of pools' disks that begin by themselves.
//!
//! ```text
//! a pool is there, whole or changed; the box is thawed; it is time ──► look at what is due
//! due ──┬── the disks of another pool are being compared: its end is told
//!       ├── a disk misses data, or something goes on: tried once more after a while
//!       └── compare, as an operator would ask
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use ashlar_protocol::{Event, Problem, ProblemCode, ScrubMode, ScrubSpec};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Engine, RequestContext};
use crate::clock::now;
use crate::domain::record::Unit;
use crate::domain::scrubs::{due, rests};
use crate::domain::view::Look;
use crate::kept::After;

/// Events read at once.
const EVENTS: usize = 256;

/// Who asks, as records have it.
const SUBJECT: &str = "this box: it is time";

/// Starts to compare, until the engine stops. `day` is how long a day is.
pub(super) fn start(engine: Engine, day: Duration, mut stopped: watch::Receiver<bool>) {
    let mut schedule = Schedule {
        engine,
        day,
        tried: BTreeMap::new(),
    };
    tokio::spawn(async move {
        // Nothing of it is needed any more: the next start begins anew.
        tokio::select! {
            () = schedule.run() => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    });
}

struct Schedule {
    engine: Engine,
    day: Duration,
    /// When pools were tried last that are due.
    tried: BTreeMap<Uuid, Instant>,
}

impl Schedule {
    async fn run(&mut self) {
        let Ok(mut events) = self.engine.events_after(After::Newest) else {
            return;
        };
        loop {
            let next = Instant::now() + self.begin_what_is_due().await;
            // Cancel-safe: neither takes anything until it has ended.
            while !tokio::select! {
                () = tokio::time::sleep_until(next) => true,
                news = events.news() => match (news, events.read(EVENTS)) {
                    (false, _) => return,
                    (true, Ok((read, _))) => self.hear(&read),
                    (true, Err(_lost)) => match self.engine.events_after(After::Newest) {
                        Ok(reader) => {
                            events = reader;
                            true
                        }
                        Err(_) => return,
                    },
                },
            } {}
        }
    }

    /// Whether anything may be due now that was not, or could not be had.
    fn hear(&mut self, events: &[Event]) -> bool {
        let mut matters = false;
        for event in events {
            match event.kind.as_str() {
                "system.thawed" => self.tried.clear(),
                // What kept it from being compared may be over.
                "pool.online" | "pool.member-in-sync" | "pool.updated" => {
                    self.tried.remove(&event.object.id);
                }
                // The next pool's turn, or one that is new.
                "pool.scrubbed" | "pool.created" => {}
                _ => continue,
            }
            matters = true;
        }
        matters
    }

    /// Has the disks of one pool compared whose time has come; how long until the next one's has.
    async fn begin_what_is_due(&mut self) -> Duration {
        let (now, day) = (now(), self.day.as_secs());
        let pools: BTreeMap<Uuid, u64> = {
            let intent = self.engine.shared.intent.read().await;
            if intent.frozen().is_some() {
                return self.day;
            }
            let pools = intent.pools().iter();
            let due = pools.filter_map(|(id, pool)| Some((*id, due(&pool.record, now, day)?)));
            due.collect()
        };
        self.tried.retain(|pool, _| pools.contains_key(pool));
        let mut next = self.day;
        for (pool, due) in pools {
            let ahead = Duration::from_secs(due.saturating_sub(now));
            let tried = self.tried.get(&pool);
            let again = tried.map(|tried| (*tried + self.day).duration_since(Instant::now()));
            let ahead = again.map_or(ahead, |again| again.max(ahead));
            if !ahead.is_zero() {
                next = next.min(ahead);
            } else if self.engine.shared.watcher.seen.scrubs() {
                // Its end is told.
            } else {
                self.tried.insert(pool, Instant::now());
                if let Err(problem) = self.begin(pool).await {
                    tracing::info!(%pool, %problem, "its disks are not compared yet");
                }
            }
        }
        next
    }

    async fn begin(&self, pool: Uuid) -> Result<(), Problem> {
        match self.engine.look_at_pool(pool).await {
            Look::Report(report) if rests(&report) => {}
            Look::Report(_) | Look::Busy | Look::Gone => {
                let detail = "a disk misses data, or something goes on with them";
                let problem = Problem::new(ProblemCode::WrongState, detail);
                return Err(problem.about(Unit::Pool(pool).object()));
            }
        }
        let context = RequestContext {
            id: Uuid::new_v4(),
            digest: Sha256::digest(pool.as_bytes()).into(),
            subject: SUBJECT.to_owned(),
        };
        let spec = ScrubSpec {
            mode: ScrubMode::Check,
        };
        self.engine.scrub(pool, spec, &context).await.map(drop)
    }
}
