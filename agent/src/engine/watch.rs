//! Watching: what becomes of pools by themselves, and of addresses.
//!
//! ```text
//! kernel ──► targetd: counts ──► AwaitChange ──┐
//! targetd is back, a pool could not be had ────┴─► look at each pool ──► store thread: told, mark
//! ```
//!
//! Nothing is asked again and again. What comes while a pool is looked at makes it be looked at
//! once more, however much it is. What was seen last stays in memory, where whoever decides finds
//! it; what was told of it is on record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ashlar_protocol::PoolLevel;
use ashlar_targetd_protocol::{PoolReport, PoolUsage, Request, Response};
use tokio::sync::{Mutex as Turn, Notify, RwLock, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::Engine;
use super::desk::StoreDesk;
use super::mend::{self, Mended};
use crate::clock::now;
use crate::domain::record::Unit;
use crate::domain::{Intent, Site, scrubs, watch as rules};
use crate::reconcile::{Desk, Ledger, Reconciler};
use crate::targetd::{CallError, Link, Targetd};

/// Pools looked at at once. A part of the calls that targetd takes, so that looking leaves
/// room for doing.
pub(super) const LOOKS: usize = 16;

/// Before a pool is looked at again that could not be.
const PAUSE: Duration = Duration::from_secs(1);

/// What pools looked like last.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pools: Mutex<BTreeMap<Uuid, SeenPool>>,
}

#[derive(Debug)]
struct SeenPool {
    report: PoolReport,
    /// A comparison of its disks has come to its end, which is not on record yet.
    scrubbed: bool,
    /// Nobody wants one that goes on.
    stopped: bool,
}

impl Seen {
    /// How full a pool was, if it was ever seen and was there.
    pub(super) fn usage(&self, pool: Uuid) -> Option<PoolUsage> {
        self.lock().get(&pool)?.report.usage
    }

    /// Keeps what was seen, unless something newer was; whether it was kept.
    pub(super) fn note(&self, report: &PoolReport) -> bool {
        let mut pools = self.lock();
        let Some(pool) = pools.get_mut(&report.id) else {
            let pool = SeenPool {
                report: report.clone(),
                scrubbed: false,
                stopped: false,
            };
            pools.insert(report.id, pool);
            return true;
        };
        if pool.report.looked > report.looked {
            return false;
        }
        pool.scrubbed |= !pool.stopped && scrubs::goes_on(&pool.report) && scrubs::rests(report);
        // Another one may begin then.
        pool.stopped &= scrubs::goes_on(report);
        pool.report.clone_from(report);
        true
    }

    /// No comparison of a pool's disks that goes on comes to its end: it is stopped.
    pub(super) fn stops(&self, pool: Uuid) {
        if let Some(pool) = self.lock().get_mut(&pool) {
            pool.stopped = true;
        }
    }

    /// Whether a comparison of a pool's disks has come to its end, which is not on record yet.
    pub(super) fn scrubbed(&self, pool: Uuid) -> bool {
        self.lock().get(&pool).is_some_and(|pool| pool.scrubbed)
    }

    /// It is on record.
    pub(super) fn recorded(&self, pool: Uuid) {
        if let Some(pool) = self.lock().get_mut(&pool) {
            pool.scrubbed = false;
        }
    }

    /// Whether disks of any pool were being compared.
    pub(super) fn scrubs(&self) -> bool {
        let pools = self.lock();
        pools.values().any(|pool| scrubs::goes_on(&pool.report))
    }

    fn keep(&self, pools: &BTreeSet<Uuid>) {
        self.lock().retain(|pool, _| pools.contains(pool));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, SeenPool>> {
        self.pools.lock().expect("no holder of this lock panics")
    }
}

/// What the watcher needs of the engine.
#[derive(Clone)]
pub(super) struct Watcher {
    pub(super) intent: Arc<RwLock<Intent>>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) targetd: Targetd,
    pub(super) desk: StoreDesk,
    pub(super) seen: Arc<Seen>,
    pub(super) mended: Arc<Mended>,
    pub(super) reconciler: Reconciler,
    pub(super) site: Arc<Site>,
    /// Told when a spare may be needed, or may have come.
    pub(super) spares: Arc<Notify>,
    /// Told when addresses may have come or gone.
    pub(super) addresses: Arc<Notify>,
    /// Held while the addresses are looked at.
    pub(super) looking: Arc<Turn<()>>,
}

impl Watcher {
    /// Starts to watch, until the engine stops.
    pub(super) fn start(self, stopped: &watch::Receiver<bool>) {
        let mut stopped = stopped.clone();
        tokio::spawn(async move {
            // Nothing of it is needed any more: the next start looks at everything.
            tokio::select! {
                () = listen(&self.targetd, [self.ledger.news(), &self.spares, &self.addresses]) => {}
                () = self.look() => {}
                () = self.watch_addresses() => {}
                () = self.serve_again() => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
    }

    /// Looks at all pools whenever there are news.
    async fn look(&self) {
        let (mut looks, mut due, mut under) = (JoinSet::new(), BTreeSet::new(), BTreeSet::new());
        loop {
            while let Some(pool) = due.difference(&under).next().copied()
                && looks.len() < LOOKS
            {
                due.remove(&pool);
                under.insert(pool);
                let watcher = self.clone();
                looks.spawn(async move {
                    watcher.look_at(pool).await;
                    pool
                });
            }
            // Cancel-safe: a notification that comes in between is kept by the Notify, and a look
            // that has ended by the JoinSet.
            tokio::select! {
                () = self.ledger.news().notified() => due.extend(self.pools().await),
                Some(looked) = looks.join_next() => match looked {
                    Ok(pool) => drop(under.remove(&pool)),
                    Err(error) => tracing::error!(%error, "a look at a pool did not end well"),
                },
            }
        }
    }

    async fn pools(&self) -> BTreeSet<Uuid> {
        let intent = self.intent.read().await;
        let pools: BTreeSet<Uuid> = intent.pools().keys().copied().collect();
        self.seen.keep(&pools);
        pools
    }

    /// Takes over what was seen of a pool, whoever looked. The store thread is only asked when it
    /// is news.
    pub(super) async fn saw(&self, report: &PoolReport) {
        if !self.seen.note(report) {
            return;
        }
        let news = {
            let intent = self.intent.read().await;
            let known = rules::Known {
                now: now(),
                tried: self.ledger.tried_pool(report.id),
                scrubbed: self.seen.scrubbed(report.id),
            };
            rules::seen(&intent, report.id, report, known)
        };
        if !news.edits.is_empty() {
            self.desk.saw(report.clone()).await;
        }
    }

    /// That nobody can be asked is no news of a pool.
    async fn look_at(&self, id: Uuid) {
        match self.targetd.call(Request::ObservePool { id }).await {
            Ok(Response::Pool(report)) => {
                self.saw(&report).await;
                self.mend(&report).await;
            }
            Ok(_) => {
                tracing::error!(pool = %id, "targetd answered observe-pool with something else")
            }
            Err(error @ CallError::Failed(_)) => {
                // The kernel does not tell again.
                tracing::warn!(pool = %id, %error, "a pool was not looked at, and is to be again");
                tokio::time::sleep(PAUSE).await;
                self.ledger.news().notify_one();
            }
            Err(error) => tracing::debug!(pool = %id, %error, "a pool was not looked at"),
        }
    }

    /// Has a pool applied once more that lacks disks, when there are others that could help.
    async fn mend(&self, report: &PoolReport) {
        let pool = report.id;
        let lacking = mend::lacking(&*self.intent.read().await, report);
        let Some(lacking) = lacking else {
            return self.mended.is_whole(pool);
        };
        let Ok(Response::Disks(disks)) = self.targetd.call(Request::ListDisks).await else {
            return;
        };
        if self
            .mended
            .is_new(pool, mend::chance(&lacking, report, &disks))
        {
            let desk: Arc<dyn Desk> = Arc::new(self.desk.clone());
            self.reconciler.doubt(Unit::Pool(pool), &desk).await;
        }
    }
}

impl Engine {
    /// Looks once more at the pools that take nothing new; whether there are any.
    pub(super) async fn look_for_room(&self) -> bool {
        let full: Vec<Uuid> = {
            let intent = self.shared.intent.read().await;
            let pools = intent.pools().iter();
            let full = pools.filter(|(_, pool)| pool.record.told.level() == PoolLevel::Stop);
            full.map(|(id, _)| *id).collect()
        };
        for pool in &full {
            // What it has come to is noted.
            self.look_at_pool(*pool).await;
        }
        !full.is_empty()
    }
}

/// Passes on what targetd is told, and that it is there.
async fn listen(targetd: &Targetd, news: [&Notify; 3]) {
    let mut link = targetd.link();
    loop {
        let epoch = match link.wait_for(|link| matches!(link, Link::Up(_))).await {
            Ok(up) => epoch(&up),
            // Nobody keeps the stream any more.
            Err(_) => return,
        };
        let mut seen = 0;
        let error = loop {
            match targetd.changed(seen).await {
                Ok(count) => {
                    seen = count;
                    news.iter().for_each(|each| each.notify_one());
                }
                Err(error) => break error,
            }
        };
        tracing::debug!(%error, "not told of changes for now");
        // With the next stream all begins anew.
        if link
            .wait_for(|now| self::epoch(now) != epoch)
            .await
            .is_err()
        {
            return;
        }
    }
}

fn epoch(link: &Link) -> Option<u64> {
    match link {
        Link::Up(greeting) => Some(greeting.epoch),
        Link::Away(_) => None,
    }
}
