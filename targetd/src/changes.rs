//! How often the kernel has told something by itself, and who waits for it to do so again.
//!
//! Whoever waits is parked here and holds no thread. The one who counts up answers them all;
//! what does not come to that is answered or let go of when the server stops or the caller's
//! connection ends.

use std::sync::{Mutex, MutexGuard};

use ashlar_targetd_protocol::{Failure, FailureKind};

use crate::server::Caller;

/// The agent waits with one call; this leaves room for one that it gave up.
const MOST_PARKED: usize = 4;

/// What becomes of an answer: the count, or why there is none.
pub type Tell = Box<dyn FnOnce(Result<u64, Failure>) + Send>;

/// The count, from 1 on, and who waits.
pub struct Changes {
    state: Mutex<State>,
}

struct State {
    count: u64,
    parked: Vec<Parked>,
    stopping: bool,
}

struct Parked {
    caller: Caller,
    tell: Tell,
}

impl Default for Changes {
    fn default() -> Self {
        let state = State {
            count: 1,
            parked: Vec::new(),
            stopping: false,
        };
        Changes {
            state: Mutex::new(state),
        }
    }
}

impl Changes {
    /// Something changed: counts it and answers all who wait.
    pub fn count_up(&self) {
        let (count, parked) = {
            let mut state = self.lock();
            state.count += 1;
            (state.count, std::mem::take(&mut state.parked))
        };
        for Parked { tell, .. } in parked {
            tell(Ok(count));
        }
    }

    /// Tells the count as soon as it is another than `seen`, at once if it is.
    pub fn wait(&self, caller: Caller, seen: u64, tell: Tell) {
        let mut state = self.lock();
        let parked = state.parked.iter().filter(|other| other.caller == caller);
        let answer = if state.stopping {
            Err(stopping())
        } else if state.count != seen {
            Ok(state.count)
        } else if parked.count() >= MOST_PARKED {
            let detail = format!("{MOST_PARKED} calls of this connection wait already");
            Err(Failure::new(FailureKind::Refused, detail))
        } else {
            return state.parked.push(Parked { caller, tell });
        };
        drop(state);
        tell(answer);
    }

    /// Lets go of what a caller waits for whose connection has ended.
    pub fn forget(&self, caller: Caller) {
        let forgotten: Vec<Parked> = {
            let mut state = self.lock();
            let gone = state
                .parked
                .extract_if(.., |parked| parked.caller == caller);
            gone.collect()
        };
        // Outside the lock: with them may go the last who knows the caller.
        drop(forgotten);
    }

    /// Declines all who wait, and who come to.
    pub fn stop(&self) {
        let parked = {
            let mut state = self.lock();
            state.stopping = true;
            std::mem::take(&mut state.parked)
        };
        for Parked { tell, .. } in parked {
            tell(Err(stopping()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while holding this lock")
    }
}

fn stopping() -> Failure {
    Failure::new(FailureKind::Stopping, "targetd is stopping")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    type Answer = Result<u64, FailureKind>;

    fn ask(changes: &Changes, caller: u64, seen: u64) -> mpsc::Receiver<Answer> {
        let (tell, told) = mpsc::channel();
        let answer = move |answer: Result<u64, Failure>| {
            // Who asked may have gone.
            let _ = tell.send(answer.map_err(|failure| failure.kind));
        };
        changes.wait(Caller(caller), seen, Box::new(answer));
        told
    }

    #[test]
    fn who_has_seen_less_is_told_at_once_and_others_when_it_changes() {
        let changes = Changes::default();
        assert_eq!(ask(&changes, 1, 0).try_recv(), Ok(Ok(1)));
        let (first, second) = (ask(&changes, 1, 1), ask(&changes, 2, 1));
        assert_eq!(first.try_recv(), Err(mpsc::TryRecvError::Empty));
        changes.count_up();
        assert_eq!(first.try_recv(), Ok(Ok(2)));
        assert_eq!(second.try_recv(), Ok(Ok(2)));
        assert_eq!(ask(&changes, 1, 1).try_recv(), Ok(Ok(2)));
        // Of a daemon before this one.
        assert_eq!(ask(&changes, 1, 77).try_recv(), Ok(Ok(2)));
    }

    #[test]
    fn one_connection_does_not_park_without_end() {
        let changes = Changes::default();
        let kept: Vec<_> = (0..MOST_PARKED).map(|_| ask(&changes, 1, 1)).collect();
        let refused = ask(&changes, 1, 1);
        assert_eq!(refused.try_recv(), Ok(Err(FailureKind::Refused)));
        let other = ask(&changes, 2, 1);
        assert_eq!(other.try_recv(), Err(mpsc::TryRecvError::Empty));
        changes.count_up();
        assert!(kept.iter().all(|kept| kept.try_recv() == Ok(Ok(2))));
    }

    #[test]
    fn nothing_is_kept_for_who_has_gone() {
        let changes = Changes::default();
        let (gone, there) = (ask(&changes, 1, 1), ask(&changes, 2, 1));
        changes.forget(Caller(1));
        assert_eq!(gone.try_recv(), Err(mpsc::TryRecvError::Disconnected));
        assert_eq!(there.try_recv(), Err(mpsc::TryRecvError::Empty));
    }

    #[test]
    fn stopping_declines_who_waits_and_who_comes() {
        let changes = Changes::default();
        let waiting = ask(&changes, 1, 1);
        changes.stop();
        assert_eq!(waiting.try_recv(), Ok(Err(FailureKind::Stopping)));
        let late = ask(&changes, 1, 0);
        assert_eq!(late.try_recv(), Ok(Err(FailureKind::Stopping)));
    }
}
