//! How full a pool is, judged by its watermarks.
//!
//! ```text
//!   ok ──── warn ────── critical ────── stop ──── full
//!        ▲ reached at once         │ left only a little below, so that a pool which hovers about
//!        └─────────────────────────┘ a mark is not told of each time, nor its table loaded anew
//! ```
//!
//! The kernel raises one event for each table when data fall short of its low-water mark. So the
//! mark is that of the next level, and moves when a level is reached or left.

use ashlar_protocol::{PoolLevel, Watermarks};
use ashlar_targetd_protocol::{PoolReport, PoolUsage};

use crate::domain::record::{Filled, PoolRecord, Standing, Told};

/// How far below a mark a level is left, in tenths of a percent; of a low mark, half of it.
const EASE: u64 = 20;
/// A low-water mark that is this part of the pool away from where it should be is near enough:
/// how many blocks there are is only estimated until the pool is made.
const NEAR: u64 = 200;

/// Blocks in use, and all of them.
#[derive(Clone, Copy)]
struct Blocks {
    used: u64,
    total: u64,
}

impl Blocks {
    fn data(usage: &PoolUsage) -> Blocks {
        Blocks {
            used: usage.data_used,
            total: usage.data_total,
        }
    }

    fn metadata(usage: &PoolUsage) -> Blocks {
        Blocks {
            used: usage.metadata_used,
            total: usage.metadata_total,
        }
    }

    /// In whole percent, rounded down.
    fn percent(self) -> u32 {
        let percent = u128::from(self.used) * 100 / u128::from(self.total.max(1));
        u32::try_from(percent).unwrap_or(u32::MAX)
    }

    /// Whether so many tenths of a percent are in use.
    fn reach(self, tenths: u64) -> bool {
        u128::from(self.used) * 1000 >= u128::from(self.total) * u128::from(tenths)
    }

    /// The highest level of which `mark`, made of its percents, is reached.
    fn level(self, watermarks: &Watermarks, mark: impl Fn(u64) -> u64) -> PoolLevel {
        let levels = [PoolLevel::Stop, PoolLevel::Critical, PoolLevel::Warn];
        let reached = |level: &PoolLevel| {
            let percent = threshold(watermarks, *level);
            percent.is_some_and(|percent| self.reach(mark(u64::from(percent))))
        };
        levels.into_iter().find(reached).unwrap_or(PoolLevel::Ok)
    }

    /// The level, where it was `held` before.
    fn judged(self, watermarks: &Watermarks, held: PoolLevel) -> PoolLevel {
        let plain = self.level(watermarks, |percent| percent * 10);
        let eased = self.level(watermarks, |percent| percent * 10 - EASE.min(percent * 5));
        held.min(eased).max(plain)
    }
}

/// The percent from which on a level holds; none for the lowest.
fn threshold(watermarks: &Watermarks, level: PoolLevel) -> Option<u32> {
    match level {
        PoolLevel::Ok => None,
        PoolLevel::Warn => Some(watermarks.warn),
        PoolLevel::Critical => Some(watermarks.critical),
        PoolLevel::Stop => Some(watermarks.stop),
    }
}

fn next(level: PoolLevel) -> Option<PoolLevel> {
    match level {
        PoolLevel::Ok => Some(PoolLevel::Warn),
        PoolLevel::Warn => Some(PoolLevel::Critical),
        PoolLevel::Critical => Some(PoolLevel::Stop),
        PoolLevel::Stop => None,
    }
}

/// Free blocks of so many at which the kernel is to raise its event, for data at a level: those
/// of the next one. Past the last it is the kernel's own when the pool is full.
pub fn low_water(watermarks: &Watermarks, level: PoolLevel, blocks: u64) -> u64 {
    let percent = next(level).and_then(|next| threshold(watermarks, next));
    let used = u128::from(blocks) * u128::from(percent.unwrap_or(100));
    // No more than all of them.
    let used = u64::try_from(used.div_ceil(100)).unwrap_or(blocks);
    blocks.saturating_sub(used).max(1)
}

/// The mark that the kernel is to have for what a pool has come to, unless the one it has is near.
pub fn other_mark(pool: &PoolRecord, told: &Told, usage: &PoolUsage) -> Option<u64> {
    let blocks = usage.data_total;
    let mark = low_water(&pool.spec.watermarks, told.data.level, blocks);
    let near = mark.abs_diff(pool.low_water_blocks) <= blocks / NEAR;
    (!near).then_some(mark)
}

/// The data's level as it will be with so many blocks.
pub fn level_within(pool: &PoolRecord, usage: &PoolUsage, blocks: u64) -> PoolLevel {
    let blocks = Blocks {
        total: blocks,
        ..Blocks::data(usage)
    };
    blocks.judged(&pool.spec.watermarks, pool.told.data.level)
}

impl Told {
    /// What there is to tell of a pool that looks so. Percents are those at which a level was
    /// reached or left.
    pub fn after(self, watermarks: &Watermarks, report: &PoolReport) -> Told {
        let state = match report.usage {
            None => Standing::Offline,
            Some(_) if report.degraded => Standing::Degraded,
            Some(_) => Standing::Online,
        };
        match &report.usage {
            Some(usage) => Told {
                state,
                ..self.filled(watermarks, usage)
            },
            None => Told { state, ..self },
        }
    }

    /// The same of what is in use alone.
    pub fn filled(self, watermarks: &Watermarks, usage: &PoolUsage) -> Told {
        let filled = |before: Filled, blocks: Blocks| {
            let level = blocks.judged(watermarks, before.level);
            match level == before.level {
                true => before,
                false => Filled {
                    level,
                    percent: blocks.percent(),
                },
            }
        };
        Told {
            data: filled(self.data, Blocks::data(usage)),
            metadata: filled(self.metadata, Blocks::metadata(usage)),
            ..self
        }
    }

    /// The same by other watermarks: where a level was held before counts for nothing.
    pub fn anew(self, watermarks: &Watermarks, usage: &PoolUsage) -> Told {
        let blank = Told {
            state: self.state,
            ..Told::default()
        };
        blank.filled(watermarks, usage)
    }

    /// The pool's level: the worse of data and metadata.
    pub fn level(&self) -> PoolLevel {
        self.data.level.max(self.metadata.level)
    }

    /// "data 91 %, metadata 3 %", as it was when the levels were told.
    pub fn percents(&self) -> String {
        format!(
            "data {} %, metadata {} %",
            self.data.percent, self.metadata.percent
        )
    }
}

/// The same as it is now.
pub fn percents(usage: &PoolUsage) -> String {
    let (data, metadata) = (Blocks::data(usage), Blocks::metadata(usage));
    format!(
        "data {} %, metadata {} %",
        data.percent(),
        metadata.percent()
    )
}

#[cfg(test)]
mod tests;
