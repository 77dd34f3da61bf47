use std::collections::BTreeSet;
use std::fmt;

use ashlar_targetd_protocol::{RaidLevel, Sectors, SetAction};

use crate::device::DeviceNumber;

/// The `raid` target: devices that stand in for each other, by the kernel's md drivers. What
/// tells which of them has what is written by the kernel at the beginning of each one's own
/// metadata device, and believed when the array is loaded again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raid {
    /// How they do.
    pub level: RaidLevel,
    /// How much of a stripe is on one device; zero without stripes, in raid1.
    pub chunk: Sectors,
    /// Legs that are new in their place and get their data from the others.
    pub rebuild: BTreeSet<u32>,
    /// Its devices, in their order; nothing for one that is not there.
    pub legs: Vec<Option<RaidLeg>>,
}

/// One device of an array, and the one where the kernel keeps what it knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaidLeg {
    /// For the kernel's superblock and the bitmap of what is being written: 4 KiB, and a bit for
    /// each 4 MiB of the array, or for each of its two-millionth parts. Superblock all zero: a
    /// new leg.
    pub meta: DeviceNumber,
    /// For the data.
    pub data: DeviceNumber,
}

/// What the kernel calls a level. Of the variants of a level it takes the one it takes itself when
/// none is named.
fn word(level: RaidLevel) -> &'static str {
    match level {
        RaidLevel::Raid1 => "raid1",
        RaidLevel::Raid10 => "raid10",
        RaidLevel::Raid5 => "raid5_ls",
        RaidLevel::Raid6 => "raid6_zr",
    }
}

fn level(word_: &str) -> Option<RaidLevel> {
    RaidLevel::ALL
        .into_iter()
        .find(|level| word(*level) == word_)
}

impl Raid {
    pub(super) fn parse(params: &str) -> Option<Self> {
        let mut words = params.split_ascii_whitespace();
        let level = level(words.next()?)?;
        let count: usize = words.next()?.parse().ok()?;
        let chunk = Sectors(words.next()?.parse().ok()?);
        let mut rebuild = BTreeSet::new();
        let mut seen = 1;
        while seen < count {
            seen += 2;
            match (words.next()?, words.next()?) {
                ("rebuild", leg) => drop(rebuild.insert(leg.parse().ok()?)),
                _ => return None,
            }
        }
        let devices: usize = words.next()?.parse().ok()?;
        let legs = (0..devices).map(|_| leg(words.next()?, words.next()?));
        let raid = Raid {
            level,
            chunk,
            rebuild,
            legs: legs.collect::<Option<_>>()?,
        };
        (seen == count && words.next().is_none()).then_some(raid)
    }
}

fn leg(meta: &str, data: &str) -> Option<Option<RaidLeg>> {
    match (meta, data) {
        ("-", "-") => Some(None),
        _ => Some(Some(RaidLeg {
            meta: meta.parse().ok()?,
            data: data.parse().ok()?,
        })),
    }
}

impl fmt::Display for Raid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = 1 + 2 * self.rebuild.len();
        write!(f, "{} {count} {}", word(self.level), self.chunk.0)?;
        for leg in &self.rebuild {
            write!(f, " rebuild {leg}")?;
        }
        write!(f, " {}", self.legs.len())?;
        self.legs.iter().try_for_each(|leg| match leg {
            Some(RaidLeg { meta, data }) => write!(f, " {meta} {data}"),
            None => f.write_str(" - -"),
        })
    }
}

/// How a leg of an array is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegState {
    /// It has its data.
    InSync,
    /// It is used and may lack data; while an array is resynced, all of its legs are said to.
    Partial,
    /// It could not be read or written.
    Failed,
    /// The array was loaded without it.
    Missing,
}

/// How an array is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaidStatus {
    /// How.
    pub level: RaidLevel,
    /// Its devices.
    pub members: Vec<LegState>,
    /// How far the kernel is over it.
    pub done: Sectors,
    /// Of how much.
    pub total: Sectors,
    /// What the kernel does with all of it.
    pub action: SetAction,
    /// Sectors that a check found to differ.
    pub mismatches: Sectors,
}

impl RaidStatus {
    pub(super) fn parse(params: &str) -> Option<Self> {
        let mut words = params.split_ascii_whitespace();
        let level = level(words.next()?)?;
        let count: usize = words.next()?.parse().ok()?;
        let members = words.next()?.chars().map(member);
        let members = members.collect::<Option<Vec<_>>>()?;
        let (done, total) = words.next()?.split_once('/')?;
        let action = match words.next()? {
            "idle" => SetAction::Idle,
            "resync" => SetAction::Resync,
            "recover" => SetAction::Rebuild,
            "check" => SetAction::Check,
            "repair" => SetAction::Repair,
            "frozen" => SetAction::Frozen,
            _ => return None,
        };
        let status = RaidStatus {
            level,
            done: Sectors(done.parse().ok()?),
            total: Sectors(total.parse().ok()?),
            action,
            mismatches: Sectors(words.next()?.parse().ok()?),
            members,
        };
        // What follows is about reshaping and journals, which are not used.
        (status.members.len() == count).then_some(status)
    }
}

/// `a` is what has a part of its data, and what is not used at all is `-`.
fn member(health: char) -> Option<LegState> {
    match health {
        'A' => Some(LegState::InSync),
        'a' => Some(LegState::Partial),
        'D' => Some(LegState::Failed),
        '-' => Some(LegState::Missing),
        _ => None,
    }
}

/// What an array can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RaidMessage {
    /// Compare all of its devices. `EBUSY` while anything else goes over it.
    Check,
    /// Compare them and make them the same. Likewise.
    Repair,
    /// Give up what goes over it. Linux 6.12 does, and answers `EINVAL`.
    Idle,
}

impl fmt::Display for RaidMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RaidMessage::Check => "check",
            RaidMessage::Repair => "repair",
            RaidMessage::Idle => "idle",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(printed: &str) -> RaidStatus {
        RaidStatus::parse(printed).unwrap()
    }

    #[test]
    fn an_array_says_how_its_devices_are() {
        let whole = status("raid1 2 AA 8192/8192 idle 0 0 -");
        assert_eq!(whole.members, [LegState::InSync; 2]);
        assert_eq!(whole.action, SetAction::Idle);
        let reduced = status("raid5_ls 4 AaD- 128/8192 recover 0 0 -");
        assert_eq!(
            reduced.members,
            [
                LegState::InSync,
                LegState::Partial,
                LegState::Failed,
                LegState::Missing
            ]
        );
        assert_eq!(reduced.action, SetAction::Rebuild);
        assert_eq!((reduced.done, reduced.total), (Sectors(128), Sectors(8192)));
        let checked = status("raid6_zr 4 AAAA 128/8192 check 24 0 -");
        assert_eq!(checked.mismatches, Sectors(24));
    }

    #[test]
    fn a_status_of_another_shape_is_not_guessed_at() {
        for strange in [
            "",
            "raid0 2 AA 8/8 idle 0 0 -",
            "raid1 3 AA 8/8 idle 0 0 -",
            "raid1 2 AX 8/8 idle 0 0 -",
            "raid1 2 AA 8 idle 0 0 -",
            "raid1 2 AA 8/8 dance 0 0 -",
            "raid1 2 AA 8/8 idle",
        ] {
            assert_eq!(RaidStatus::parse(strange), None, "{strange}");
        }
    }

    #[test]
    fn what_was_not_loaded_here_is_no_array_of_ours() {
        for strange in [
            "",
            "raid1 3 0 nosync 2 253:0 253:1 253:2 253:3",
            "raid1 1 0 2 253:0 253:1 253:2",
            "raid1 1 0 1 253:0 - 253:1",
            "raid4 1 128 3 - - - - - -",
        ] {
            assert_eq!(Raid::parse(strange), None, "{strange}");
        }
    }
}
