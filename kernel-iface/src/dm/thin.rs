use std::fmt;

use ashlar_targetd_protocol::{Sectors, ThinId};

use crate::device::DeviceNumber;

/// The `thin` target: one thin device of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thin {
    /// The pool's device.
    pub pool: DeviceNumber,
    /// Which of its thin devices.
    pub id: ThinId,
}

/// How a thin device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThinStatus {
    /// It works.
    Good {
        /// Sectors that have blocks of the pool behind them.
        mapped: Sectors,
        /// The last sector that has; `None` when none has.
        highest: Option<Sectors>,
    },
    /// Its pool failed.
    Failed,
    /// The table is not live yet.
    NotOpen,
}

impl Thin {
    pub(super) fn parse(params: &str) -> Option<Self> {
        let mut words = params.split_ascii_whitespace();
        let thin = Thin {
            pool: words.next()?.parse().ok()?,
            id: ThinId::try_from(words.next()?.parse::<u64>().ok()?).ok()?,
        };
        // A third word is an external origin, which this crate never sets.
        words.next().is_none().then_some(thin)
    }
}

impl fmt::Display for Thin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.pool, self.id)
    }
}

impl ThinStatus {
    pub(super) fn parse(params: &str) -> Option<Self> {
        let mut words = params.split_ascii_whitespace();
        let status = match words.next()? {
            "Fail" => ThinStatus::Failed,
            "-" => ThinStatus::NotOpen,
            mapped => ThinStatus::Good {
                mapped: Sectors(mapped.parse().ok()?),
                highest: match words.next()? {
                    "-" => None,
                    sector => Some(Sectors(sector.parse().ok()?)),
                },
            },
        };
        words.next().is_none().then_some(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_the_kernel_prints_is_understood() {
        for (printed, meant) in [
            (
                "0 -",
                ThinStatus::Good {
                    mapped: Sectors(0),
                    highest: None,
                },
            ),
            (
                "2048 20479",
                ThinStatus::Good {
                    mapped: Sectors(2048),
                    highest: Some(Sectors(20479)),
                },
            ),
            ("Fail", ThinStatus::Failed),
            ("-", ThinStatus::NotOpen),
        ] {
            assert_eq!(ThinStatus::parse(printed), Some(meant));
        }
        for strange in ["", "1", "1 2 3", "x -", "Error"] {
            assert_eq!(ThinStatus::parse(strange), None, "{strange}");
        }
    }
}
