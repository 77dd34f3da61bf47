//! Dividing a total between reads and writes. Pure.
//!
//! The kernel limits reads and writes, never both together. So a total is held as two limits,
//! which follow what the device is seen to do:
//!
//! - only one of the two runs into its limit: it gets all that the other leaves, and the other
//!   what it uses and a little to spare, so that it can begin at once when it has more to do;
//! - both do: the smaller grows until they are equal;
//! - neither does: all stays as it is.
//!
//! Together they are never less than the total and never more than [`most`] allows, in whatever
//! state they are left.

/// One limit for reads and one for writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Of reads in a second.
    pub read: u64,
    /// Of writes in a second.
    pub write: u64,
}

/// What was done in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Of this kind.
    pub done: u64,
    /// What one operation more would have added.
    pub grain: u64,
}

/// What the two limits may come to above the total: what one of them has to spare.
fn spare(total: u64) -> u64 {
    (total / 16).max(1)
}

/// The largest sum of the two limits.
pub fn most(total: u64) -> u64 {
    total.saturating_add(spare(total))
}

impl Share {
    /// Where a total begins.
    pub fn even(total: u64) -> Share {
        Share {
            read: total.div_ceil(2),
            write: (total / 2).max(1),
        }
    }

    /// Whether these limits hold a total.
    pub fn holds(self, total: u64) -> bool {
        let sum = self.read.saturating_add(self.write);
        self.read > 0 && self.write > 0 && (total..=most(total)).contains(&sum)
    }

    /// The limits that suit what reads and writes did under these.
    pub fn next(self, total: u64, reads: Use, writes: Use) -> Share {
        let next = match (presses(reads, self.read), presses(writes, self.write)) {
            (true, true) if self.read <= self.write => Share::grown(self.read, total),
            (true, true) => Share::grown(self.write, total).swapped(),
            (true, false) => Share::yielding(writes.done, total).swapped(),
            (false, true) => Share::yielding(reads.done, total),
            (false, false) => self,
        };
        // Each change begins a new slice of the kernel's time, which is not worth little.
        let little = spare(total) / 2;
        let same = |one: u64, other: u64| one.abs_diff(other) <= little;
        match same(next.read, self.read) && same(next.write, self.write) && self.holds(total) {
            true => self,
            false => next,
        }
    }

    /// Reads had `read`, the smaller part, and want more.
    fn grown(read: u64, total: u64) -> Share {
        let more = read.saturating_add(read.max(spare(total)));
        let read = more.min(total.div_ceil(2));
        Share {
            read,
            write: (total - read).max(1),
        }
    }

    /// Reads do `done` and want no more.
    fn yielding(done: u64, total: u64) -> Share {
        let done = done.min(total - 1);
        Share {
            read: done + spare(total),
            write: total - done,
        }
    }

    fn swapped(self) -> Share {
        Share {
            read: self.write,
            write: self.read,
        }
    }
}

/// Whether what was done is what the limit let through.
fn presses(used: Use, limit: u64) -> bool {
    let reached = used.done.saturating_add(used.grain);
    used.done > 0 && reached >= limit - limit / 10
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tenths of seconds between two looks would do as well.
    const LOOKS: u64 = 4;

    /// Steady demands, looked at for a while: what was done in the end, each second.
    fn settled(total: u64, reads: u64, writes: u64) -> (u64, u64) {
        let mut share = Share::even(total);
        let mut done = (0, 0);
        for _ in 0..64 {
            done = (reads.min(share.read), writes.min(share.write));
            let used = |done| Use { done, grain: LOOKS };
            share = share.next(total, used(done.0), used(done.1));
            assert!(share.holds(total), "{share:?} of {total}");
        }
        done
    }

    #[test]
    fn one_direction_alone_gets_nearly_all() {
        for total in [10, 100, 5_000, 1 << 30] {
            let (_, writes) = settled(total, 0, u64::MAX);
            assert!(writes >= total - total / 10, "{writes} of {total}");
            let (reads, _) = settled(total, u64::MAX, 0);
            assert!(reads >= total - total / 10, "{reads} of {total}");
        }
    }

    #[test]
    fn two_that_want_all_get_half_each() {
        for total in [10, 101, 5_000, 1 << 30] {
            let (reads, writes) = settled(total, u64::MAX, u64::MAX);
            assert!(reads.abs_diff(writes) <= 1, "{reads} and {writes}");
            assert_eq!(reads + writes, total);
        }
    }

    #[test]
    fn who_wants_little_gets_it_and_leaves_the_rest() {
        let (reads, writes) = settled(1_000, 100, u64::MAX);
        assert_eq!(reads, 100);
        assert!((895..=905).contains(&writes), "{writes}");
    }

    #[test]
    fn who_was_idle_is_soon_at_half() {
        let mut share = Share {
            read: 6,
            write: 100,
        };
        let full = |done| Use { done, grain: 1 };
        for _ in 0..4 {
            share = share.next(100, full(share.read), full(share.write));
        }
        assert!((47..=50).contains(&share.read), "{share:?}");
    }

    #[test]
    fn nothing_moves_while_nobody_runs_into_a_limit() {
        let share = Share {
            read: 6,
            write: 100,
        };
        let idle = Use::default();
        assert_eq!(share.next(100, idle, idle), share);
    }

    proptest! {
        #[test]
        fn the_total_is_held_whatever_is_done(
            total in 2..1_u64 << 50,
            looks in proptest::collection::vec((any::<u64>(), any::<u64>(), 0..100_u64), 1..50),
        ) {
            let mut share = Share::even(total);
            prop_assert!(share.holds(total));
            for (reads, writes, grain) in looks {
                // No more is done than is let through.
                let used = |demand: u64, limit: u64| Use { done: demand % (limit + 1), grain };
                let (read, write) = (used(reads, share.read), used(writes, share.write));
                share = share.next(total, read, write);
                prop_assert!(share.holds(total), "{:?} of {}", share, total);
            }
        }
    }
}
