use std::fmt;

use ashlar_targetd_protocol::Sectors;

use super::{Linear, Raid, RaidStatus, Thin, ThinPool, ThinPoolStatus, ThinStatus};

/// What a device is made of, from its first sector to its last without a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    lines: Vec<TableLine>,
}

/// One stretch of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableLine {
    /// Where it begins.
    pub start: Sectors,
    /// How long it is.
    pub length: Sectors,
    /// What is there.
    pub target: Target,
}

/// What a stretch of a device does with I/O.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Fails it.
    Error,
    /// Passes it to a stretch of another device.
    Linear(Linear),
    /// Spreads it over devices that stand in for each other.
    Raid(Raid),
    /// A pool of blocks; its own I/O goes to the data device.
    ThinPool(ThinPool),
    /// A thin device of a pool.
    Thin(Thin),
}

/// How a stretch of a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetStatus {
    /// Targets that have nothing to tell.
    Plain,
    /// Devices that stand in for each other.
    Raid(RaidStatus),
    /// A pool.
    ThinPool(ThinPoolStatus),
    /// A thin device.
    Thin(ThinStatus),
}

impl Table {
    /// A device of one stretch.
    pub fn single(length: Sectors, target: Target) -> Self {
        Table::stacked([(length, target)])
    }

    /// A device of several stretches, one after the other.
    pub fn stacked(parts: impl IntoIterator<Item = (Sectors, Target)>) -> Self {
        let mut start = Sectors(0);
        let lines = parts
            .into_iter()
            .map(|(length, target)| {
                let line = TableLine {
                    start,
                    length,
                    target,
                };
                start = Sectors(start.0.saturating_add(length.0));
                line
            })
            .collect();
        Table { lines }
    }

    pub(super) fn from_lines(lines: Vec<TableLine>) -> Self {
        Table { lines }
    }

    /// The array that a device is, if it is one and nothing else.
    pub fn raid(&self) -> Option<&Raid> {
        match self.lines.as_slice() {
            [line] => match &line.target {
                Target::Raid(raid) => Some(raid),
                Target::Error | Target::Linear(_) | Target::ThinPool(_) | Target::Thin(_) => None,
            },
            _ => None,
        }
    }

    /// The stretches in order.
    pub fn lines(&self) -> &[TableLine] {
        &self.lines
    }

    /// The device's size.
    pub fn size(&self) -> Sectors {
        let end = |line: &TableLine| line.start.0.saturating_add(line.length.0);
        Sectors(self.lines.last().map_or(0, end))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.lines.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            let (start, length, kind) = (line.start.0, line.length.0, line.target.kind());
            write!(f, "{separator}{start} {length} {kind} {}", line.target)?;
        }
        Ok(())
    }
}

impl Target {
    /// The name of the target's driver.
    pub fn kind(&self) -> &'static str {
        match self {
            Target::Error => "error",
            Target::Linear(_) => "linear",
            Target::Raid(_) => "raid",
            Target::ThinPool(_) => "thin-pool",
            Target::Thin(_) => "thin",
        }
    }

    /// Reads back what [`Target::kind`] and `Display` wrote. `None` for anything else.
    pub fn parse(kind: &str, params: &str) -> Option<Self> {
        match kind {
            "error" => params.trim().is_empty().then_some(Target::Error),
            "linear" => Linear::parse(params).map(Target::Linear),
            "raid" => Raid::parse(params).map(Target::Raid),
            "thin-pool" => ThinPool::parse(params).map(Target::ThinPool),
            "thin" => Thin::parse(params).map(Target::Thin),
            _ => None,
        }
    }
}

/// The target's parameters as the kernel reads them.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Error => Ok(()),
            Target::Linear(linear) => linear.fmt(f),
            Target::Raid(raid) => raid.fmt(f),
            Target::ThinPool(pool) => pool.fmt(f),
            Target::Thin(thin) => thin.fmt(f),
        }
    }
}

impl TargetStatus {
    /// Reads a target's status line. `None` for a shape or a target that is not known.
    pub fn parse(kind: &str, params: &str) -> Option<Self> {
        match kind {
            "error" | "linear" => Some(TargetStatus::Plain),
            "raid" => RaidStatus::parse(params).map(TargetStatus::Raid),
            "thin-pool" => ThinPoolStatus::parse(params).map(TargetStatus::ThinPool),
            "thin" => ThinStatus::parse(params).map(TargetStatus::Thin),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use ashlar_targetd_protocol::{RaidLevel, ThinId};
    use proptest::prelude::*;

    use super::*;
    use crate::device::DeviceNumber;
    use crate::dm::{PoolFeatures, RaidLeg};

    fn devnum() -> impl Strategy<Value = DeviceNumber> {
        (0..4096_u32, 0..0x10_0000_u32).prop_map(|(major, minor)| DeviceNumber { major, minor })
    }

    fn features() -> impl Strategy<Value = PoolFeatures> {
        any::<[bool; 5]>().prop_map(|[zero, ignore, down, read_only, error]| PoolFeatures {
            skip_block_zeroing: zero,
            ignore_discard: ignore,
            no_discard_passdown: down,
            read_only,
            error_if_no_space: error,
        })
    }

    fn raid() -> impl Strategy<Value = Target> {
        let leg = (devnum(), devnum()).prop_map(|(meta, data)| RaidLeg { meta, data });
        let legs = proptest::collection::vec(proptest::option::of(leg), 0..8);
        let level = proptest::sample::select(&RaidLevel::ALL[..]);
        let rebuild = proptest::collection::btree_set(0..40_u32, 0..3);
        (level, any::<u64>(), rebuild, legs).prop_map(|(level, chunk, rebuild, legs)| {
            Target::Raid(Raid {
                level,
                chunk: Sectors(chunk),
                rebuild,
                legs,
            })
        })
    }

    fn target() -> impl Strategy<Value = Target> {
        let linear = (devnum(), any::<u64>()).prop_map(|(device, offset)| {
            Target::Linear(Linear {
                device,
                offset: Sectors(offset),
            })
        });
        let thin = (devnum(), 0..0x100_0000_u64).prop_map(|(pool, id)| {
            Target::Thin(Thin {
                pool,
                id: ThinId::try_from(id).unwrap(),
            })
        });
        let pool = (devnum(), devnum(), any::<u64>(), any::<u64>(), features()).prop_map(
            |(metadata, data, block, low_water_blocks, features)| {
                Target::ThinPool(ThinPool {
                    metadata,
                    data,
                    block: Sectors(block),
                    low_water_blocks,
                    features,
                })
            },
        );
        prop_oneof![Just(Target::Error), linear, raid(), thin, pool]
    }

    proptest! {
        #[test]
        fn what_a_target_prints_parses_to_the_same_target(target in target()) {
            let parsed = Target::parse(target.kind(), &target.to_string());
            prop_assert_eq!(parsed, Some(target));
        }

        #[test]
        fn no_text_from_the_kernel_can_panic_the_parser(params in "\\PC{0,60}") {
            for kind in ["error", "linear", "raid", "thin", "thin-pool", "crypt"] {
                let _ = (Target::parse(kind, &params), TargetStatus::parse(kind, &params));
            }
        }
    }

    #[test]
    fn stretches_follow_each_other_without_a_gap() {
        let table = Table::stacked([(Sectors(8), Target::Error), (Sectors(16), Target::Error)]);
        assert_eq!(table.lines()[1].start, Sectors(8));
        assert_eq!(table.size(), Sectors(24));
        assert_eq!(table.to_string(), "0 8 error ; 8 16 error ");
        assert_eq!(Table::default().size(), Sectors(0));
    }
}
