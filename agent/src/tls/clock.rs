//! The time that certificates are judged by.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// When this program was written, at the earliest: 2026-11-01.
const WRITTEN: u64 = 1_793_491_200;

/// The machine's clock, but never before what is known to be past: a box whose clock has lost its
/// battery begins long ago, and would find every certificate to be of the future. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    past: Arc<AtomicU64>,
}

impl Clock {
    /// One that knows no more than this program.
    pub fn new() -> Clock {
        Clock {
            past: Arc::new(AtomicU64::new(WRITTEN)),
        }
    }

    /// So many seconds since 1970 are past. What says so must not be this clock, which may be wrong.
    pub fn raise(&self, past: u64) {
        self.past.fetch_max(past, Ordering::Relaxed);
    }

    /// What is known to be past, in seconds since 1970.
    pub fn past(&self) -> u64 {
        self.past.load(Ordering::Relaxed)
    }

    /// Since 1970.
    pub fn now(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.unwrap_or_default()
            .max(Duration::from_secs(self.past()))
    }

    /// The same in seconds.
    pub fn seconds(&self) -> i64 {
        i64::try_from(self.now().as_secs()).unwrap_or(i64::MAX)
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_never_before_what_is_past() {
        let clock = Clock::new();
        let now = clock.now().as_secs();
        assert!(now >= WRITTEN);
        clock.raise(now + 1000);
        clock.raise(5);
        assert_eq!(clock.now().as_secs(), now + 1000);
    }
}
