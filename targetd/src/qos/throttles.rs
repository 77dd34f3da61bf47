//! What the kernel is to be told for a volume. Pure.

use ashlar_kernel_iface::blkio::{MOST_OPERATIONS, Throttle, Throttles};
use ashlar_targetd_protocol::{Qos, Rate};

use super::share::{Share, most};

/// The two directions of one kind of limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub(super) rate: Rate,
    pub(super) read: Throttle,
    pub(super) write: Throttle,
}

/// The kinds of limits of a volume.
pub(super) fn pairs(qos: &Qos) -> [Pair; 2] {
    [
        Pair {
            rate: qos.operations,
            read: Throttle::ReadOperations,
            write: Throttle::WriteOperations,
        },
        Pair {
            rate: qos.bytes,
            read: Throttle::ReadBytes,
            write: Throttle::WriteBytes,
        },
    ]
}

impl Pair {
    /// How a total is divided at present, if it is held.
    pub(super) fn share(&self, present: &Throttles) -> Option<Share> {
        let share = Share {
            read: *present.get(&self.read)?,
            write: *present.get(&self.write)?,
        };
        match self.rate {
            Rate::Total(total) if share.holds(total) => Some(share),
            Rate::Total(_) | Rate::Each { .. } => None,
        }
    }

    /// The limits to set, given the present ones.
    fn wanted(&self, present: &Throttles) -> (Option<u64>, Option<u64>) {
        match self.rate {
            Rate::Each { read, write } => (read, write),
            Rate::Total(total) => {
                let share = self.share(present).unwrap_or_else(|| Share::even(total));
                (Some(share.read), Some(share.write))
            }
        }
    }
}

/// The limits that hold `qos`. A total that the present ones hold stays divided as it is.
pub(super) fn wanted(qos: &Qos, present: &Throttles) -> Throttles {
    let mut throttles = Throttles::new();
    for pair in pairs(qos) {
        let (read, write) = pair.wanted(present);
        throttles.extend(read.map(|limit| (pair.read, limit)));
        throttles.extend(write.map(|limit| (pair.write, limit)));
    }
    throttles
}

/// Whether the present limits hold `qos`.
pub fn fit(qos: &Qos, present: &Throttles) -> bool {
    wanted(qos, present) == *present
}

/// What to set, and to what, on the way from one to the other: what becomes less first, so that
/// two that share a total never have more together.
pub(super) fn changes(from: &Throttles, to: &Throttles) -> Vec<(Throttle, Option<u64>)> {
    let limit = |of: &Throttles, throttle| of.get(&throttle).copied();
    let mut changes: Vec<_> = Throttle::ALL
        .into_iter()
        .map(|throttle| (throttle, limit(from, throttle), limit(to, throttle)))
        .filter(|(_, before, after)| before != after)
        .collect();
    let grows = |before: Option<u64>, after: Option<u64>| {
        after.unwrap_or(u64::MAX) > before.unwrap_or(u64::MAX)
    };
    changes.sort_by_key(|(_, before, after)| grows(*before, *after));
    let change = |(throttle, _, after)| (throttle, after);
    changes.into_iter().map(change).collect()
}

/// Whether the kernel can hold `qos`; the error says what it cannot.
pub fn possible(qos: &Qos) -> Result<(), String> {
    for pair in pairs(qos) {
        let largest = match pair.read {
            Throttle::ReadOperations => MOST_OPERATIONS,
            _ => u64::MAX - 1,
        };
        let fits = match pair.rate {
            Rate::Each { read, write } => {
                let fits =
                    |limit: Option<u64>| limit.is_none_or(|limit| (1..=largest).contains(&limit));
                fits(read) && fits(write)
            }
            Rate::Total(total) => total >= 2 && most(total) <= largest,
        };
        if !fits {
            return Err(format!(
                "{:?} of {} and {}",
                pair.rate, pair.read, pair.write
            ));
        }
    }
    Ok(())
}

/// Limits for people: "at most 100 reads, 4096 bytes written a second".
pub fn in_words(qos: &Qos) -> String {
    let mut words = Vec::new();
    for pair in pairs(qos) {
        match pair.rate {
            Rate::Each { read, write } => {
                words.extend(read.map(|limit| format!("{limit} {}", pair.read)));
                words.extend(write.map(|limit| format!("{limit} {}", pair.write)));
            }
            Rate::Total(total) => words.push(format!("{total} {} and {}", pair.read, pair.write)),
        }
    }
    match words.is_empty() {
        true => "no limit".to_owned(),
        false => format!("at most {} a second", words.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qos(operations: Rate) -> Qos {
        Qos {
            operations,
            bytes: Rate::default(),
        }
    }

    fn each(read: u64, write: u64) -> Qos {
        let limit = |limit| (limit > 0).then_some(limit);
        qos(Rate::Each {
            read: limit(read),
            write: limit(write),
        })
    }

    #[test]
    fn each_direction_fits_only_as_it_is() {
        let present = wanted(&each(100, 0), &Throttles::new());
        assert!(fit(&each(100, 0), &present));
        assert!(!fit(&each(100, 1), &present));
        assert!(!fit(&each(101, 0), &present));
        assert!(!fit(&Qos::default(), &present));
        assert!(fit(&Qos::default(), &Throttles::new()));
    }

    #[test]
    fn a_total_fits_however_it_is_divided() {
        let total = qos(Rate::Total(100));
        for (read, write, fits) in [
            (50, 50, true),
            (6, 100, true),
            (60, 60, false),
            (10, 10, false),
        ] {
            let present = wanted(&each(read, write), &Throttles::new());
            assert_eq!(fit(&total, &present), fits, "{read} and {write}");
        }
        assert!(!fit(&total, &Throttles::new()));
    }

    #[test]
    fn what_becomes_less_is_set_first() {
        let throttles = |read, write| wanted(&each(read, write), &Throttles::new());
        let (read, write) = (Throttle::ReadOperations, Throttle::WriteOperations);
        for (from, to, expected) in [
            (
                (10, 90),
                (90, 10),
                vec![(write, Some(10)), (read, Some(90))],
            ),
            (
                (90, 10),
                (10, 90),
                vec![(read, Some(10)), (write, Some(90))],
            ),
            ((5, 0), (0, 5), vec![(write, Some(5)), (read, None)]),
            ((5, 5), (5, 5), vec![]),
        ] {
            let (from, to) = (throttles(from.0, from.1), throttles(to.0, to.1));
            assert_eq!(changes(&from, &to), expected);
        }
    }

    #[test]
    fn what_the_kernel_would_take_for_something_else_is_impossible() {
        for qos in [
            each(u64::from(u32::MAX), 0),
            each(1 << 32, 0),
            qos(Rate::Total(1)),
            qos(Rate::Total(u64::from(u32::MAX))),
            qos(Rate::Each {
                read: Some(0),
                write: None,
            }),
        ] {
            assert!(possible(&qos).is_err(), "{qos:?}");
        }
        assert_eq!(possible(&each(1, u64::from(u32::MAX) - 1)), Ok(()));
        assert_eq!(possible(&Qos::default()), Ok(()));
    }

    #[test]
    fn limits_read_as_a_sentence() {
        assert_eq!(in_words(&Qos::default()), "no limit");
        assert_eq!(in_words(&each(100, 0)), "at most 100 reads a second");
        let both = Qos {
            operations: Rate::Total(10),
            bytes: Rate::Each {
                read: None,
                write: Some(4096),
            },
        };
        let text = "at most 10 reads and writes, 4096 bytes written a second";
        assert_eq!(in_words(&both), text);
    }
}
