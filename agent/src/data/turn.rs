//! How background work gets at the disks of a pool: behind hosts, and no faster than it should.
//!
//! ```text
//! take ── its own pace ── its turn in the pool's lane ── hosts at work? then a rest ── I/O
//! ```
//!
//! One piece of background work is under way in a pool at a time, a chunk at most, so what else
//! is under way then is hosts'. While they are at work the lane rests four times as long as a
//! piece took: they have the disks for four fifths of the time at least, whatever scheduler and
//! however many disks there are, and background work still comes to its end.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::pace::Pace;

/// How often it is looked whether hosts are at work.
const LOOK: Duration = Duration::from_millis(100);
/// How many times as long as the piece before it a rest is.
const REST: u32 = 4;
/// The longest rest.
const LONGEST: Duration = Duration::from_secs(1);

/// The background work of one pool, a piece at a time.
#[derive(Debug, Default)]
pub struct Lane {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    looked: Option<Instant>,
    hosts: bool,
    /// How long the last piece took.
    last: Duration,
}

/// One piece of long work's way into a lane.
pub struct Turn {
    lane: Arc<Lane>,
    pace: Mutex<Pace>,
    hosts: Box<dyn Fn() -> bool + Send + Sync>,
    wait: Box<dyn Fn(Duration) + Send + Sync>,
    /// Whether hosts go first.
    yields: bool,
}

impl Turn {
    /// `hosts` says whether anything is under way in the pool, and `wait` waits, or less long
    /// when the work is not wanted any more.
    pub fn new(
        lane: Arc<Lane>,
        bandwidth: Option<u64>,
        hosts: impl Fn() -> bool + Send + Sync + 'static,
        wait: impl Fn(Duration) + Send + Sync + 'static,
    ) -> Turn {
        Turn {
            lane,
            pace: Mutex::new(Pace::new(bandwidth, Instant::now())),
            hosts: Box::new(hosts),
            wait: Box::new(wait),
            yields: true,
        }
    }

    /// For work that has to keep up with hosts: it is paced, and does not let them go first.
    pub fn beside_hosts(self) -> Turn {
        let yields = false;
        Turn { yields, ..self }
    }

    /// Waits for its turn to move so many bytes. It lasts until it is dropped.
    fn take(&self, bytes: u64) -> Held<'_> {
        let pause = self.pace().pause(bytes, Instant::now());
        if !pause.is_zero() {
            (self.wait)(pause);
        }
        let state = self.lane.state.lock();
        let mut state = state.expect("no holder of this lock panics");
        if self.yields && state.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            state.hosts = (self.hosts)();
            state.looked = Some(Instant::now());
        }
        if self.yields && state.hosts {
            (self.wait)((state.last * REST).min(LONGEST));
        }
        let begun = Instant::now();
        Held { state, begun }
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
    state: MutexGuard<'t, State>,
    begun: Instant,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.state.last = self.begun.elapsed();
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
        let _held = self.turn.map(|turn| turn.take(bytes));
        io(self.file)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::thread;

    use super::*;

    /// A turn, and how long it has waited.
    fn turn(lane: &Arc<Lane>, hosts: &Arc<AtomicBool>) -> (Turn, Arc<Mutex<Duration>>) {
        let waited = Arc::new(Mutex::new(Duration::ZERO));
        let (told, hosts) = (Arc::clone(&waited), Arc::clone(hosts));
        let turn = Turn::new(
            Arc::clone(lane),
            None,
            move || hosts.load(Ordering::Relaxed),
            move |pause| *told.lock().unwrap() += pause,
        );
        (turn, waited)
    }

    const PIECE: Duration = Duration::from_millis(5);

    #[test]
    fn hosts_have_four_fifths_of_the_time_and_nobody_waits_without_them() {
        let (lane, hosts) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (turn, waited) = turn(&lane, &hosts);
        let file = tempfile::tempfile().unwrap();
        let device = Device::behind(&file, &turn);
        let run = || {
            for _ in 0..10 {
                let piece = |_: &File| {
                    thread::sleep(PIECE);
                    Ok(())
                };
                device.io(1 << 20, piece).unwrap();
            }
        };
        run();
        assert_eq!(*waited.lock().unwrap(), Duration::ZERO);
        hosts.store(true, Ordering::Relaxed);
        thread::sleep(LOOK);
        run();
        assert!(*waited.lock().unwrap() >= PIECE * REST * 10, "{waited:?}");
    }

    #[test]
    fn one_piece_is_under_way_in_a_pool_at_a_time() {
        let lane = Arc::default();
        let hosts = Arc::new(AtomicBool::new(false));
        let (under_way, most) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                let (turn, _) = turn(&lane, &hosts);
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
}
