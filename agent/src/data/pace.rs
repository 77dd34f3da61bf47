use std::time::{Duration, Instant};

/// Keeps work to so many bytes a second.
#[derive(Debug)]
pub struct Pace {
    rate: Option<u64>,
    begun: Instant,
    passed: u64,
}

/// What was not used up is not saved up for longer than this.
const SAVED: Duration = Duration::from_secs(1);

impl Pace {
    /// From now on; as fast as may be without a rate.
    pub fn new(rate: Option<u64>, now: Instant) -> Pace {
        Pace {
            rate,
            begun: now,
            passed: 0,
        }
    }

    /// How long to wait before so many bytes more.
    pub fn pause(&mut self, bytes: u64, now: Instant) -> Duration {
        let Some(rate) = self.rate.filter(|rate| *rate > 0) else {
            return Duration::ZERO;
        };
        let due = self.begun + Pace::time(self.passed, rate);
        if now.saturating_duration_since(due) > SAVED {
            (self.begun, self.passed) = (now, 0);
        }
        self.passed = self.passed.saturating_add(bytes);
        let due = self.begun + Pace::time(self.passed - bytes, rate);
        due.saturating_duration_since(now)
    }

    /// A century at most, which no instant is too far from.
    fn time(bytes: u64, rate: u64) -> Duration {
        const CENTURY: u128 = 3_155_760_000_000_000_000;
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
        Duration::from_nanos(u64::try_from(nanos.min(CENTURY)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paused(pace: &mut Pace, bytes: u64, at: Instant) -> u128 {
        pace.pause(bytes, at).as_millis()
    }

    #[test]
    fn so_many_bytes_a_second_pass() {
        let now = Instant::now();
        let mut pace = Pace::new(Some(1000), now);
        // The first does not wait: what it costs, the next one waits for.
        assert_eq!(paused(&mut pace, 500, now), 0);
        assert_eq!(paused(&mut pace, 1000, now), 500);
        assert_eq!(paused(&mut pace, 1, now + Duration::from_millis(500)), 1000);
    }

    #[test]
    fn time_in_which_nothing_passes_is_not_made_up_for() {
        let now = Instant::now();
        let mut pace = Pace::new(Some(1000), now);
        paused(&mut pace, 1000, now);
        let later = now + Duration::from_secs(100);
        assert_eq!(paused(&mut pace, 1000, later), 0);
        assert_eq!(paused(&mut pace, 1000, later), 1000);
    }

    #[test]
    fn nothing_waits_without_a_rate_and_any_rate_is_borne() {
        let now = Instant::now();
        let mut pace = Pace::new(None, now);
        assert_eq!(paused(&mut pace, u64::MAX, now), 0);
        let mut pace = Pace::new(Some(1), now);
        paused(&mut pace, u64::MAX, now);
        assert!(paused(&mut pace, 1, now) > 0);
    }
}
