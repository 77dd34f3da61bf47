//! How far the kernel is with each unit.
//!
//! A unit without an entry has settled: the kernel has all of it, or needs none of it. So the
//! ledger grows with what is under way, not with what exists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use ashlar_protocol::{Problem, ProblemCode};
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use crate::domain::record::Unit;
use crate::domain::settle::Span;
use crate::domain::view::Reached;

/// What is told to those who wait for a unit.
pub type Settled = Result<(), Problem>;

#[derive(Debug)]
struct Entry {
    /// The generation the kernel is to have.
    wanted: u64,
    /// The last one it is known to have.
    applied: u64,
    /// To be applied once more although nothing changed: targetd is a new one.
    doubted: bool,
    /// Whether a task drives it.
    driven: bool,
    /// Whether that is at work which the kernel does not do in one go.
    at_work: bool,
    /// What went wrong last.
    problem: Option<Box<Problem>>,
    /// Ends the pause before the next attempt.
    wake: Arc<Notify>,
    waiters: Vec<Waiter>,
    /// Told when the next attempt has ended, however.
    watchers: Vec<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Waiter {
    generation: u64,
    tell: oneshot::Sender<Settled>,
}

/// The units under way.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<BTreeMap<Unit, Entry>>,
    /// Those with a problem, so that telling how many there are does not take looking at all.
    troubled: Mutex<BTreeSet<Unit>>,
    /// Pools that were looked at: why it is not known that their thin ids are free from the
    /// counter on, unless it is.
    counts: Mutex<BTreeMap<Uuid, Result<(), Problem>>>,
    /// Pools that serve although an attempt at growing them has failed.
    serving: Mutex<BTreeSet<Uuid>>,
    /// Told when an attempt at a pool has failed. Of what did not come to be the kernel tells
    /// nothing.
    news: Notify,
    closed: AtomicBool,
    strangers: Mutex<Vec<String>>,
}

/// What the driver of a unit does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The kernel has all of it.
    Rest,
    /// More was asked for meanwhile.
    Again,
}

impl Ledger {
    /// Asks for `generation` of a unit. True when the caller is to start its driver.
    #[must_use = "a unit without a driver never settles"]
    pub fn want(&self, unit: Unit, generation: u64) -> bool {
        let mut entries = self.lock();
        // All before this change was applied, or there would be an entry.
        let entry = entries
            .entry(unit)
            .or_insert_with(|| Entry::new(generation, generation - 1));
        entry.wanted = entry.wanted.max(generation);
        entry.wake.notify_one();
        !std::mem::replace(&mut entry.driven, true)
    }

    /// Notes a unit of which the kernel may have anything: the process is new.
    pub fn recover(&self, unit: Unit, generation: u64) {
        let mut entries = self.lock();
        entries.insert(unit, Entry::new(generation, 0));
    }

    /// Asks for a unit to be applied once more. True when the caller is to start its driver.
    #[must_use = "a unit without a driver never settles"]
    pub fn doubt(&self, unit: Unit, generation: u64) -> bool {
        let mut entries = self.lock();
        let entry = entries
            .entry(unit)
            .or_insert_with(|| Entry::new(generation, generation));
        entry.doubted = true;
        entry.wake.notify_one();
        !std::mem::replace(&mut entry.driven, true)
    }

    /// Whether the kernel has `generation` of a unit.
    pub fn has(&self, unit: Unit, generation: u64) -> bool {
        let entries = self.lock();
        entries
            .get(&unit)
            .is_none_or(|entry| entry.applied >= generation)
    }

    /// Whether the kernel has all of a unit.
    pub fn settled(&self, unit: Unit) -> bool {
        let entries = self.lock();
        entries
            .get(&unit)
            .is_none_or(|entry| entry.applied >= entry.wanted)
    }

    /// Whether the kernel has a pool, or could not have it at the last attempt.
    pub fn tried_pool(&self, pool: Uuid) -> bool {
        let unit = Unit::Pool(pool);
        self.settled(unit) || self.problem(unit).is_some()
    }

    /// Where it is told that pools may not be what they were.
    pub fn news(&self) -> &Notify {
        &self.news
    }

    /// How far a unit is towards `generation`.
    pub fn reached(&self, unit: Unit, generation: u64) -> Reached {
        match self.lock().get(&unit) {
            Some(entry) if entry.applied < generation => {
                Reached::Underway(entry.problem.as_deref().cloned())
            }
            _ => Reached::All,
        }
    }

    /// Resolves when the kernel has `generation` of a unit, or an attempt at it has failed for
    /// good. A closed channel means that the engine is stopping.
    pub fn wait(&self, unit: Unit, generation: u64) -> oneshot::Receiver<Settled> {
        let (tell, told) = oneshot::channel();
        match self.lock().get_mut(&unit) {
            Some(_) if self.is_closed() => {}
            Some(entry) if entry.applied < generation => {
                entry.waiters.push(Waiter { generation, tell });
            }
            _ => drop(tell.send(Ok(()))),
        }
        told
    }

    /// Resolves when the attempt under way at a unit has ended, however; at once when it has
    /// settled, is being worked at, or is being paused after a problem.
    pub async fn attempted(&self, unit: Unit) {
        let told = {
            let (tell, told) = oneshot::channel();
            if let Some(entry) = self.lock().get_mut(&unit)
                && (entry.applied < entry.wanted || entry.doubted)
                && entry.problem.is_none()
                && (!entry.at_work || entry.doubted)
            {
                entry.watchers.push(tell);
            }
            told
        };
        // An error means that there is nothing to wait for, or no longer.
        drop(told.await);
    }

    /// Resolves when each pool that could not be asked for, as targetd was away, was tried once
    /// more, however that ended.
    pub async fn pools_tried_again(&self) {
        let told: Vec<_> = {
            let mut entries = self.lock();
            let pools = entries.range_mut(Unit::Pool(Uuid::nil())..=Unit::Pool(Uuid::max()));
            let unasked = pools.filter(|(_, entry)| !self.is_closed() && entry.is_unasked());
            unasked
                .map(|(_, entry)| {
                    let (tell, told) = oneshot::channel();
                    entry.watchers.push(tell);
                    told
                })
                .collect()
        };
        for told in told {
            drop(told.await);
        }
    }

    /// What went wrong last with a unit that has not settled.
    pub fn problem(&self, unit: Unit) -> Option<Problem> {
        let entries = self.lock();
        let problem = entries.get(&unit)?.problem.as_deref();
        problem.cloned()
    }

    /// The same, unless it keeps nobody from using the unit.
    pub fn trouble(&self, unit: Unit) -> Option<Problem> {
        match unit {
            Unit::Pool(pool) if self.serves(pool) => None,
            _ => self.problem(unit),
        }
    }

    /// Whether a pool serves as it was although the last attempt at growing it has failed.
    pub(super) fn serves(&self, pool: Uuid) -> bool {
        self.serving().contains(&pool)
    }

    /// Notes whether it does.
    pub(super) fn note_serving(&self, pool: Uuid, serves: bool) {
        match serves {
            true => self.serving().insert(pool),
            false => self.serving().remove(&pool),
        };
    }

    fn serving(&self) -> MutexGuard<'_, BTreeSet<Uuid>> {
        self.serving.lock().expect("no holder of this lock panics")
    }

    /// Tells all who wait, and who will, that nothing more comes.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for entry in self.lock().values_mut() {
            entry.waiters.clear();
            entry.watchers.clear();
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// How many units have a problem, and the first with its own.
    pub fn troubled(&self) -> (usize, Option<(Unit, Problem)>) {
        let (count, first) = {
            let troubled = self.marked();
            (troubled.len(), troubled.first().copied())
        };
        let first = first.and_then(|unit| Some((unit, self.problem(unit)?)));
        (count, first)
    }

    fn marked(&self) -> MutexGuard<'_, BTreeSet<Unit>> {
        self.troubled.lock().expect("no holder of this lock panics")
    }

    /// Why it is not known that the thin ids of a pool are free from its counter on, unless it
    /// is. What this process has learned holds for as long as it has the pool: nobody else makes
    /// thin devices.
    pub fn uncounted(&self, pool: Uuid) -> Option<Problem> {
        match self.counts().get(&pool) {
            Some(counted) => counted.clone().err(),
            None => {
                let detail = format!("pool {pool} was not looked at yet");
                Some(Problem::new(ProblemCode::Busy, detail))
            }
        }
    }

    /// Notes whether a pool's thin ids are known.
    pub(super) fn note_count(&self, pool: Uuid, counted: Result<(), Problem>) {
        self.counts().insert(pool, counted);
    }

    /// A pool comes in which somebody else may have made thin devices.
    pub fn forget_count(&self, pool: Uuid) {
        self.counts().remove(&pool);
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<Uuid, Result<(), Problem>>> {
        self.counts.lock().expect("no holder of this lock panics")
    }

    /// What the last lap found in the kernel that the intent does not account for, in words.
    pub fn strangers(&self) -> Vec<String> {
        self.found().clone()
    }

    /// Notes what a lap found.
    pub(super) fn meet(&self, strangers: Vec<String>) {
        *self.found() = strangers;
    }

    fn found(&self) -> MutexGuard<'_, Vec<String>> {
        self.strangers
            .lock()
            .expect("no holder of this lock panics")
    }

    /// What the driver should try now; what came before this is no longer in doubt.
    pub(super) fn begin(&self, unit: Unit) -> Span {
        let mut entries = self.lock();
        match entries.get_mut(&unit) {
            Some(entry) => {
                entry.doubted = false;
                entry.at_work = false;
                Span {
                    applied: entry.applied,
                    tried: entry.wanted,
                }
            }
            None => Span {
                applied: 0,
                tried: 0,
            },
        }
    }

    /// Has the driver of a unit try once more after this.
    pub(super) fn again(&self, unit: Unit) {
        if let Some(entry) = self.lock().get_mut(&unit) {
            entry.doubted = true;
        }
    }

    /// The attempt is over, and long work follows: nobody waits for that who only waits for what
    /// the kernel says.
    pub(super) fn works(&self, unit: Unit) {
        if let Some(entry) = self.lock().get_mut(&unit) {
            entry.at_work = true;
            if entry.problem.take().is_some() {
                self.marked().remove(&unit);
            }
            if !entry.doubted {
                entry.watchers.clear();
            }
        }
    }

    /// The kernel has the unit as of `tried`.
    pub(super) fn applied(&self, unit: Unit, tried: u64) -> Next {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(&unit) else {
            return Next::Rest;
        };
        entry.applied = entry.applied.max(tried);
        if entry.problem.take().is_some() {
            self.marked().remove(&unit);
        }
        entry.watchers.clear();
        entry.tell(tried, &Ok(()));
        if entry.applied >= entry.wanted && !entry.doubted {
            entries.remove(&unit);
            return Next::Rest;
        }
        Next::Again
    }

    /// An attempt failed and will be repeated. Those who wait are told if it is for good.
    pub(super) fn failed(&self, unit: Unit, tried: u64, problem: &Problem, for_good: bool) {
        if let Some(entry) = self.lock().get_mut(&unit) {
            entry.problem = Some(Box::new(problem.clone()));
            self.marked().insert(unit);
            if matches!(unit, Unit::Pool(_)) {
                self.news.notify_one();
            }
            entry.watchers.clear();
            if for_good {
                entry.tell(tried, &Err(problem.clone()));
            }
        }
    }

    /// Has everything that is in trouble tried once more now.
    pub fn wake_troubled(&self) {
        let troubled = self.marked().clone();
        for unit in troubled {
            self.wake(unit).notify_one();
        }
    }

    /// Ends a pause early.
    pub(super) fn wake(&self, unit: Unit) -> Arc<Notify> {
        match self.lock().get(&unit) {
            Some(entry) => Arc::clone(&entry.wake),
            None => Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Unit, Entry>> {
        self.entries.lock().expect("no holder of this lock panics")
    }
}

impl Entry {
    fn new(wanted: u64, applied: u64) -> Entry {
        Entry {
            wanted,
            applied,
            doubted: false,
            driven: false,
            at_work: false,
            problem: None,
            wake: Arc::default(),
            waiters: Vec::new(),
            watchers: Vec::new(),
        }
    }

    /// Whether nothing is known of it but that targetd was away.
    fn is_unasked(&self) -> bool {
        let code = self.problem.as_ref().map(|problem| problem.code);
        code == Some(ProblemCode::TargetdUnavailable)
    }

    fn tell(&mut self, upto: u64, news: &Settled) {
        let due = self
            .waiters
            .extract_if(.., |waiter| waiter.generation <= upto);
        for waiter in due {
            // Whoever waited may be past its deadline.
            drop(waiter.tell.send(news.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::task::{Context, Waker};

    fn ended(waiting: &mut (impl Future + Unpin)) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        std::pin::Pin::new(waiting).poll(&mut context).is_ready()
    }

    #[test]
    fn who_waits_for_pools_waits_for_those_that_could_not_be_asked_for() {
        let ledger = Ledger::default();
        let [lost, broken, other] = [1, 2, 3].map(Uuid::from_u128);
        let away = Problem::new(ProblemCode::TargetdUnavailable, "gone");
        let bad = Problem::new(ProblemCode::WrongState, "no disk");
        for (unit, problem) in [
            (Unit::Pool(lost), &away),
            (Unit::Pool(broken), &bad),
            (Unit::Volume(other), &away),
        ] {
            assert!(ledger.want(unit, 1));
            ledger.failed(unit, 1, problem, false);
        }
        let mut waiting = Box::pin(ledger.pools_tried_again());
        assert!(!ended(&mut waiting));
        ledger.failed(Unit::Pool(lost), 1, &bad, false);
        assert!(ended(&mut waiting));
        // All the others were asked for.
        assert!(ended(&mut Box::pin(ledger.pools_tried_again())));
    }

    #[test]
    fn nobody_waits_for_pools_once_all_is_over() {
        let ledger = Ledger::default();
        let pool = Unit::Pool(Uuid::nil());
        assert!(ledger.want(pool, 1));
        let away = Problem::new(ProblemCode::TargetdUnavailable, "gone");
        ledger.failed(pool, 1, &away, false);
        let mut before = Box::pin(ledger.pools_tried_again());
        assert!(!ended(&mut before));
        ledger.close();
        assert!(ended(&mut before));
        assert!(ended(&mut Box::pin(ledger.pools_tried_again())));
    }
}
