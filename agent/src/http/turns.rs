//! How many requests are at work at once. Each role has its own share, so that those who may
//! only look cannot keep those who must act from being heard.

use std::sync::Arc;

use ashlar_protocol::{Problem, ProblemCode, Role};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests at work at once, over all connections. Each may hold a body, so this bounds memory
/// too: 288 bodies of 64 KiB are 18 MiB.
const AT_WORK: [(Role, usize); 3] = [(Role::Reader, 64), (Role::Operator, 192), (Role::Admin, 32)];

/// Those of each role that wait for events, once or in a stream. They hold no body.
const WAITING: usize = 64;

/// Volumes and snapshots that are read or written at once, for all roles together. Each has a
/// thread and a few MiB.
const TRANSFERS: usize = 8;

/// The turns there are.
pub(super) struct Turns {
    shares: [Share; 3],
    transfers: Arc<Semaphore>,
    bundles: Arc<Semaphore>,
}

struct Share {
    role: Role,
    work: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Turns {
    pub(super) fn new() -> Turns {
        let shares = AT_WORK.map(|(role, count)| Share {
            role,
            work: Arc::new(Semaphore::new(count)),
            waiting: Arc::new(Semaphore::new(WAITING)),
        });
        Turns {
            shares,
            transfers: Arc::new(Semaphore::new(TRANSFERS)),
            bundles: Arc::new(Semaphore::new(1)),
        }
    }

    /// A turn for reading or writing what a volume holds. It may take hours, so it takes none
    /// from those that are soon done.
    pub(super) fn transfer(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let permit = Arc::clone(&self.transfers).try_acquire_owned();
        permit.map_err(|_| {
            let detail = format!("{TRANSFERS} volumes are being read or written, the most at once");
            Problem::new(ProblemCode::TooManyRequests, detail)
        })
    }

    /// The turn for a support bundle.
    pub(super) fn bundle(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let permit = Arc::clone(&self.bundles).try_acquire_owned();
        permit.map_err(|_| {
            let detail = "another support bundle is being made, the most at once";
            Problem::new(ProblemCode::TooManyRequests, detail)
        })
    }

    /// A turn for a request of a role, given back when dropped. One that waits for events takes
    /// none from those that do something.
    pub(super) fn take(&self, role: Role, waits: bool) -> Result<OwnedSemaphorePermit, Problem> {
        let share = self.shares.iter().find(|share| share.role == role);
        let permit = share.and_then(|share| {
            let turns = if waits { &share.waiting } else { &share.work };
            Arc::clone(turns).try_acquire_owned().ok()
        });
        permit.ok_or_else(|| {
            let what = if waits {
                "waiting for events"
            } else {
                "under way"
            };
            let detail = format!("as many requests of role {role} as the agent takes are {what}");
            Problem::new(ProblemCode::TooManyRequests, detail)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_and_those_who_wait_take_no_turn_from_others() {
        let turns = Turns::new();
        let mut held = Vec::new();
        for waits in [true, false] {
            while let Ok(permit) = turns.take(Role::Reader, waits) {
                held.push(permit);
            }
            let refused = turns.take(Role::Reader, waits).unwrap_err();
            assert_eq!(refused.code, ProblemCode::TooManyRequests);
        }
        assert_eq!(held.len(), 64 + WAITING);
        for role in [Role::Operator, Role::Admin] {
            assert!(turns.take(role, false).is_ok());
            assert!(turns.take(role, true).is_ok());
        }
        let transfers: Vec<_> = (0..TRANSFERS).map(|_| turns.transfer().unwrap()).collect();
        let refused = turns.transfer().unwrap_err();
        assert_eq!(refused.code, ProblemCode::TooManyRequests);
        drop(transfers);
        let bundle = turns.bundle().unwrap();
        let refused = turns.bundle().unwrap_err();
        assert_eq!(refused.code, ProblemCode::TooManyRequests);
        drop(bundle);
        assert!(turns.bundle().is_ok());
        assert!(turns.transfer().is_ok());
        held.pop();
        assert!(turns.take(Role::Reader, false).is_ok());
    }
}
