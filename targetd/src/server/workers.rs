//! Threads that execute requests: started when there is work, gone after a while without.
//!
//! Nearly all of a request's time is waiting inside the kernel, so many run at once on a few
//! cores. At most [`MOST_THREADS`] do; beyond that work queues, and beyond [`MOST_QUEUED`] the
//! connection that brings more is not read.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// As many as the kernel was seen to profit from.
pub const MOST_THREADS: usize = 64;
/// Requests are at most a few kilobytes decoded, so this is a few megabytes.
const MOST_QUEUED: usize = 1024;
/// Plans are short and nothing recurses deeply.
const STACK: usize = 256 << 10;
const IDLE: Duration = Duration::from_secs(10);

type Work = Box<dyn FnOnce(Turn) + Send>;

/// Whether work is to be done or to be declined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Do it.
    Go,
    /// The server stops: answer that, do nothing.
    Stopping,
}

/// The threads and what waits for them.
#[derive(Default)]
pub struct Workers {
    state: Mutex<State>,
    /// Work arrived, or the end did.
    work: Condvar,
    /// A place in the queue became free, or a thread left.
    room: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Work>,
    threads: usize,
    idle: usize,
    stopping: bool,
}

impl Workers {
    /// Hands over work; waits while the queue is full. Once stopping, the work is called with
    /// [`Turn::Stopping`] at once.
    pub fn submit(self: &Arc<Self>, work: Work) {
        let mut state = self.lock();
        while state.queue.len() >= MOST_QUEUED && !state.stopping {
            state = wait(&self.room, state);
        }
        if state.stopping {
            drop(state);
            return work(Turn::Stopping);
        }
        state.queue.push_back(work);
        let short_of_hands = state.queue.len() > state.idle && state.threads < MOST_THREADS;
        if short_of_hands {
            state.threads += 1;
        }
        drop(state);
        self.work.notify_one();
        if short_of_hands && let Err(error) = self.start_thread() {
            self.without_thread(&error);
        }
    }

    /// Declines what has not begun and waits for what has.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        let declined: Vec<Work> = state.queue.drain(..).collect();
        drop(state);
        self.work.notify_all();
        self.room.notify_all();
        for work in declined {
            work(Turn::Stopping);
        }
        let mut state = self.lock();
        while state.threads > 0 {
            state = wait(&self.room, state);
        }
    }

    fn start_thread(self: &Arc<Self>) -> io::Result<()> {
        let workers = Arc::clone(self);
        let builder = thread::Builder::new()
            .name("worker".to_owned())
            .stack_size(STACK);
        builder.spawn(move || workers.run()).map(drop)
    }

    /// Work waits for a thread that is busy, or, without any, is declined: nothing may be left
    /// in the queue with nobody to take it.
    fn without_thread(&self, error: &io::Error) {
        tracing::error!(%error, "failed to start a worker thread");
        let mut state = self.lock();
        state.threads -= 1;
        let stranded: Vec<Work> = match state.threads {
            0 => state.queue.drain(..).collect(),
            _ => Vec::new(),
        };
        drop(state);
        for work in stranded {
            work(Turn::Stopping);
        }
    }

    fn run(&self) {
        while let Some(work) = self.next() {
            work(Turn::Go);
        }
        self.room.notify_all();
    }

    /// The next work; `None` when this thread is to leave.
    fn next(&self) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if let Some(work) = state.queue.pop_front() {
                self.room.notify_one();
                return Some(work);
            }
            if state.stopping {
                state.threads -= 1;
                return None;
            }
            state.idle += 1;
            let (woken, timeout) = self
                .work
                .wait_timeout(state, IDLE)
                .expect("nothing panics while holding this lock");
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.queue.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while holding this lock")
    }
}

fn wait<'a>(condition: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    condition
        .wait(state)
        .expect("nothing panics while holding this lock")
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn as_many_run_at_once_as_there_may_be_threads() {
        let workers = Arc::new(Workers::default());
        let all_here = Arc::new(Barrier::new(MOST_THREADS + 1));
        for _ in 0..MOST_THREADS {
            let all_here = Arc::clone(&all_here);
            workers.submit(Box::new(move |_| {
                all_here.wait();
            }));
        }
        all_here.wait();
        workers.stop();
    }

    #[test]
    fn stopping_finishes_what_began_and_declines_the_rest() {
        let workers = Arc::new(Workers::default());
        let (tell, told) = mpsc::channel();
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        for _ in 0..MOST_THREADS {
            let (tell, held) = (tell.clone(), Arc::clone(&held));
            workers.submit(Box::new(move |turn| {
                tell.send(None).unwrap();
                held.lock().unwrap().recv().unwrap();
                tell.send(Some(turn)).unwrap();
            }));
        }
        for _ in 0..MOST_THREADS {
            assert_eq!(told.recv().unwrap(), None);
        }
        let late = tell.clone();
        workers.submit(Box::new(move |turn| late.send(Some(turn)).unwrap()));
        let stopping = {
            let workers = Arc::clone(&workers);
            thread::spawn(move || workers.stop())
        };
        assert_eq!(told.recv().unwrap(), Some(Turn::Stopping));
        for _ in 0..MOST_THREADS {
            release.send(()).unwrap();
            assert_eq!(told.recv().unwrap(), Some(Turn::Go));
        }
        stopping.join().unwrap();
        let late = tell.clone();
        workers.submit(Box::new(move |turn| late.send(Some(turn)).unwrap()));
        assert_eq!(told.recv().unwrap(), Some(Turn::Stopping));
    }
}
