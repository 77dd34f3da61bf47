//! How background work gets at the disks of a pool: behind hosts, and no faster than it should.
//!
//! ```text
//! its own pace ── the line ── hosts at work? then a rest ──┐
//! its own pace ── (what keeps up with hosts) ──────────────┴── the disks ── I/O
//! ```
//!
//! One piece of background work is at the disks of a pool at a time, so what else is under way
//! then is hosts'. While they are at work whoever is first in line rests four times as long as
//! the piece before it took, a second at most: hosts have the disks for most of the time, whatever
//! scheduler and however many disks there are, and background work still comes to its end. Nobody
//! rests at the disks, and both are had in the order in which they were asked for, so nobody
//! waits for longer than it takes all others to do one piece each.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::pace::Pace;

/// How often it is looked whether hosts are at work.
const LOOK: Duration = Duration::from_millis(100);
/// How long that may take. Where it cannot be told nobody is made to wait.
const LOOKING: Duration = Duration::from_secs(1);
/// How many times as long as the piece before it a rest is.
const REST: u32 = 4;
/// The longest rest.
const LONGEST: Duration = Duration::from_secs(1);

/// The background work of one pool, a piece at a time.
#[derive(Debug)]
pub struct Lane {
    /// Whoever lets hosts go first.
    line: Semaphore,
    /// Whoever does I/O.
    disks: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    looked: Option<Instant>,
    hosts: bool,
    /// How long the last piece of those in line took.
    last: Duration,
}

impl Default for Lane {
    fn default() -> Lane {
        Lane {
            line: Semaphore::new(1),
            disks: Semaphore::new(1),
            state: Mutex::default(),
        }
    }
}

impl Lane {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

/// Says whether anything is under way in a pool, later.
pub type Look = Pin<Box<dyn Future<Output = bool> + Send>>;

/// One piece of long work's way into a lane.
pub struct Turn {
    lane: Arc<Lane>,
    pace: Mutex<Pace>,
    look: Box<dyn Fn() -> Look + Send + Sync>,
    stop: CancellationToken,
    runtime: Handle,
    /// Whether hosts go first.
    yields: bool,
}

impl Turn {
    /// For work that is not wanted any more once `stop` is cancelled: it waits for nothing then,
    /// and sees for itself why. To be made within a runtime, and used where a thread may block.
    pub fn new(
        lane: Arc<Lane>,
        bandwidth: Option<u64>,
        stop: CancellationToken,
        look: impl Fn() -> Look + Send + Sync + 'static,
    ) -> Turn {
        Turn {
            lane,
            pace: Mutex::new(Pace::new(bandwidth, Instant::now())),
            look: Box::new(look),
            stop,
            runtime: Handle::current(),
            yields: true,
        }
    }

    /// For work that has to keep up with hosts: it is paced, and does not let them go first.
    pub fn beside_hosts(self) -> Turn {
        let yields = false;
        Turn { yields, ..self }
    }

    /// Waits for its turn to move so many bytes. It lasts until it is dropped.
    async fn take(&self, bytes: u64) -> Held<'_> {
        let pause = self.pace().pause(bytes, Instant::now());
        self.wait(tokio::time::sleep(pause)).await;
        let line = match self.yields {
            true => self.wait(self.lane.line.acquire()).await,
            false => None,
        };
        if line.is_some() && self.hosts().await {
            let rest = (self.lane.state().last * REST).min(LONGEST);
            self.wait(tokio::time::sleep(rest)).await;
        }
        let disks = self.wait(self.lane.disks.acquire()).await;
        Held {
            lane: &self.lane,
            // None is closed, ever.
            line: line.and_then(Result::ok),
            _disks: disks.and_then(Result::ok),
            begun: Instant::now(),
        }
    }

    /// Waits for something, unless the work is not wanted any more.
    async fn wait<F: Future>(&self, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = self.stop.cancelled() => None,
        }
    }

    /// Whether hosts are at work, as was seen just now. For whoever is first in line.
    async fn hosts(&self) -> bool {
        let looked = self.lane.state().looked;
        if looked.is_some_and(|looked| looked.elapsed() < LOOK) {
            return self.lane.state().hosts;
        }
        let Some(seen) = self.wait(timeout(LOOKING, (self.look)())).await else {
            return false;
        };
        let hosts = seen.unwrap_or(false);
        let mut state = self.lane.state();
        (state.looked, state.hosts) = (Some(Instant::now()), hosts);
        hosts
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().expect("no holder of this lock panics")
    }
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Turn({:?})", self.pace())
    }
}

struct Held<'t> {
    lane: &'t Lane,
    line: Option<SemaphorePermit<'t>>,
    _disks: Option<SemaphorePermit<'t>>,
    begun: Instant,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.line.is_some() {
            self.lane.state().last = self.begun.elapsed();
        }
    }
}

/// A device, and how its I/O is done.
#[derive(Clone, Copy, Debug)]
pub struct Device<'f> {
    file: &'f File,
    turn: Option<&'f Turn>,
}

impl<'f> From<&'f File> for Device<'f> {
    /// At once, whoever else is at work.
    fn from(file: &'f File) -> Device<'f> {
        Device { file, turn: None }
    }
}

impl<'f> Device<'f> {
    /// Behind hosts, and at a pace.
    pub fn behind(file: &'f File, turn: &'f Turn) -> Device<'f> {
        let turn = Some(turn);
        Device { file, turn }
    }

    /// Does something that moves so many bytes.
    pub(super) fn io<T>(
        &self,
        bytes: u64,
        io: impl FnOnce(&File) -> io::Result<T>,
    ) -> io::Result<T> {
        let _held = self
            .turn
            .map(|turn| turn.runtime.block_on(turn.take(bytes)));
        io(self.file)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::thread;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    const PIECE: Duration = Duration::from_millis(5);
    /// Far longer than anything takes that does not wait.
    const LONG: Duration = Duration::from_millis(700);

    fn runtime() -> Runtime {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(2).enable_time().build().unwrap()
    }

    fn turn(runtime: &Runtime, lane: &Arc<Lane>, hosts: &Arc<AtomicBool>) -> Turn {
        let _entered = runtime.enter();
        let (lane, hosts) = (Arc::clone(lane), Arc::clone(hosts));
        Turn::new(lane, None, CancellationToken::new(), move || {
            let hosts = hosts.load(Ordering::Relaxed);
            Box::pin(async move { hosts })
        })
    }

    /// Does a piece that takes so long; how long it took with the wait before it.
    fn piece(turn: &Turn, takes: Duration) -> Duration {
        let begun = Instant::now();
        let file = tempfile::tempfile().unwrap();
        let io = |_: &File| {
            thread::sleep(takes);
            Ok(())
        };
        Device::behind(&file, turn).io(1 << 20, io).unwrap();
        begun.elapsed()
    }

    #[test]
    fn hosts_have_most_of_the_time_and_nobody_waits_without_them() {
        let (runtime, lane) = (runtime(), Arc::default());
        let hosts = Arc::new(AtomicBool::new(false));
        let turn = turn(&runtime, &lane, &hosts);
        let run = || (0..10).map(|_| piece(&turn, PIECE)).sum::<Duration>();
        run();
        let before = lane.state().last;
        assert!(before >= PIECE && !lane.state().hosts);
        hosts.store(true, Ordering::Relaxed);
        thread::sleep(LOOK);
        let took = run();
        assert!(took >= PIECE * (REST + 1) * 10, "{took:?}");
    }

    #[test]
    fn one_piece_is_under_way_in_a_pool_at_a_time() {
        let (runtime, lane) = (runtime(), Arc::default());
        let hosts = Arc::new(AtomicBool::new(false));
        let (under_way, most) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for number in 0..4 {
                let turn = turn(&runtime, &lane, &hosts);
                let turn = match number {
                    0 => turn.beside_hosts(),
                    _ => turn,
                };
                let (under_way, most) = (&under_way, &most);
                scope.spawn(move || {
                    let file = tempfile::tempfile().unwrap();
                    let device = Device::behind(&file, &turn);
                    for _ in 0..5 {
                        let piece = |_: &File| {
                            let now = under_way.fetch_add(1, Ordering::SeqCst) + 1;
                            most.fetch_max(now, Ordering::SeqCst);
                            thread::sleep(Duration::from_millis(1));
                            under_way.fetch_sub(1, Ordering::SeqCst);
                            Ok(())
                        };
                        device.io(4096, piece).unwrap();
                    }
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn nobody_goes_twice_while_another_waits() {
        let (runtime, lane) = (runtime(), Arc::default());
        let hosts = Arc::new(AtomicBool::new(false));
        let (greedy, patient) = (turn(&runtime, &lane, &hosts), turn(&runtime, &lane, &hosts));
        let (over, pieces) = (AtomicBool::new(false), AtomicU32::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    piece(&greedy, PIECE);
                    pieces.fetch_add(1, Ordering::Relaxed);
                }
            });
            piece(&patient, PIECE);
            let before = pieces.load(Ordering::Relaxed);
            for _ in 0..20 {
                piece(&patient, Duration::ZERO);
            }
            let since = pieces.load(Ordering::Relaxed) - before;
            over.store(true, Ordering::Relaxed);
            assert!(since <= 22, "{since}");
        });
    }

    #[test]
    fn what_keeps_up_with_hosts_does_not_wait_while_others_rest() {
        let (runtime, lane) = (runtime(), Arc::default());
        let hosts = Arc::new(AtomicBool::new(true));
        let resting = turn(&runtime, &lane, &hosts);
        piece(&resting, Duration::from_millis(300));
        let beside = turn(&runtime, &lane, &hosts).beside_hosts();
        thread::scope(|scope| {
            let rests = scope.spawn(|| piece(&resting, PIECE));
            thread::sleep(Duration::from_millis(50));
            let took = piece(&beside, PIECE);
            assert!(took < LONG, "{took:?}");
            assert!(!rests.is_finished());
            let rested = rests.join().unwrap();
            assert!(rested >= LONGEST, "{rested:?}");
        });
    }

    #[test]
    fn nobody_waits_for_what_is_not_told_or_when_not_wanted() {
        let (runtime, lane) = (runtime(), Arc::<Lane>::default());
        let entered = runtime.enter();
        let stop = CancellationToken::new();
        let silent = || -> Look { Box::pin(std::future::pending()) };
        let turn = Turn::new(Arc::clone(&lane), None, stop.clone(), silent);
        drop(entered);
        let took = piece(&turn, PIECE);
        assert!(took >= LOOKING && took < LOOKING * 4, "{took:?}");
        // Another is at the disks, and this is not wanted any more.
        let held = lane.disks.try_acquire().unwrap();
        thread::scope(|scope| {
            let waits = scope.spawn(|| piece(&turn, PIECE));
            thread::sleep(Duration::from_millis(50));
            assert!(!waits.is_finished());
            stop.cancel();
            waits.join().unwrap();
        });
        drop(held);
    }
}
