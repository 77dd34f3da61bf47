//! Disks that stand in for each other.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a pool's disks stand in for each other. They form sets, each one array of its own; the
/// pool is on one set after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redundancy {
    /// How, in every set.
    pub level: RaidLevel,
    /// How many of the pool's disks each set has, in their order. Together they are all.
    pub sets: Vec<u32>,
}

impl Redundancy {
    /// Where each set begins and ends among the pool's disks.
    pub fn ranges(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let mut end = 0;
        self.sets.iter().map(move |width| {
            let start = end;
            end += *width as usize;
            start..end
        })
    }
}

/// What a set does with what is written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RaidLevel {
    /// Each disk has all of it.
    Raid1,
    /// Stripes over pairs of disks; the two of a pair have the same.
    Raid10,
    /// Stripes with one parity: any disk can fail.
    Raid5,
    /// Stripes with two parities: any two disks can fail.
    Raid6,
}

impl RaidLevel {
    /// All of them.
    pub const ALL: [RaidLevel; 4] = [
        RaidLevel::Raid1,
        RaidLevel::Raid10,
        RaidLevel::Raid5,
        RaidLevel::Raid6,
    ];

    /// Most disks in a set.
    pub const MOST_DISKS: u32 = 32;

    /// Fewest disks in a set.
    pub fn least_disks(self) -> u32 {
        match self {
            RaidLevel::Raid1 => 2,
            RaidLevel::Raid10 | RaidLevel::Raid6 => 4,
            RaidLevel::Raid5 => 3,
        }
    }

    /// Whether a set may have so many disks.
    pub fn takes(self, width: u32) -> bool {
        let whole = match self {
            RaidLevel::Raid10 => width.is_multiple_of(2),
            RaidLevel::Raid1 | RaidLevel::Raid5 | RaidLevel::Raid6 => true,
        };
        whole && (self.least_disks()..=Self::MOST_DISKS).contains(&width)
    }

    /// How many disks' room a set of so many disks has, that may be.
    pub fn data_disks(self, width: u32) -> u32 {
        match self {
            RaidLevel::Raid1 => 1,
            RaidLevel::Raid10 => width / 2,
            RaidLevel::Raid5 => width.saturating_sub(1),
            RaidLevel::Raid6 => width.saturating_sub(2),
        }
    }

    /// Whether a set has all of its data while only these of its disks have theirs.
    pub fn survives(self, whole: &[bool]) -> bool {
        let lost = whole.iter().filter(|whole| !**whole).count();
        match self {
            RaidLevel::Raid1 => lost < whole.len(),
            RaidLevel::Raid10 => whole.chunks(2).all(|pair| pair.contains(&true)),
            RaidLevel::Raid5 => lost <= 1,
            RaidLevel::Raid6 => lost <= 2,
        }
    }
}

impl fmt::Display for RaidLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RaidLevel::Raid1 => "raid1",
            RaidLevel::Raid10 => "raid10",
            RaidLevel::Raid5 => "raid5",
            RaidLevel::Raid6 => "raid6",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_survives_what_its_level_promises() {
        use RaidLevel::*;
        let cases: [(RaidLevel, &[bool], bool); 12] = [
            (Raid1, &[true, false, false], true),
            (Raid1, &[false, false], false),
            (Raid10, &[true, false, false, true], true),
            (Raid10, &[true, true, false, false], false),
            (Raid10, &[true, true, true, true], true),
            (Raid5, &[true, true, true], true),
            (Raid5, &[true, false, true], true),
            (Raid5, &[true, false, false], false),
            (Raid6, &[true, true, false, false], true),
            (Raid6, &[true, false, false, false], false),
            (Raid6, &[true, true, true, false, false], true),
            (Raid6, &[true, true, false, false, false], false),
        ];
        for (level, whole, survives) in cases {
            assert_eq!(level.survives(whole), survives, "{level} {whole:?}");
        }
    }

    #[test]
    fn a_set_has_as_many_disks_as_its_level_takes() {
        let taken = |level: RaidLevel| {
            let taken = (0..40).filter(move |width| level.takes(*width));
            let widths: Vec<u32> = taken.collect();
            (widths[0], widths[1], widths.last().copied())
        };
        assert_eq!(taken(RaidLevel::Raid1), (2, 3, Some(32)));
        assert_eq!(taken(RaidLevel::Raid10), (4, 6, Some(32)));
        assert_eq!(taken(RaidLevel::Raid5), (3, 4, Some(32)));
        assert_eq!(taken(RaidLevel::Raid6), (4, 5, Some(32)));
    }

    #[test]
    fn sets_follow_each_other() {
        let redundancy = Redundancy {
            level: RaidLevel::Raid5,
            sets: vec![3, 4],
        };
        let ranges: Vec<_> = redundancy.ranges().collect();
        assert_eq!(ranges, [0..3, 3..7]);
    }
}
