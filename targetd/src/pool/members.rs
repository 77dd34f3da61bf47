//! Which disks can be members of a set, whose disks stand in for each other. Pure.

use std::collections::BTreeSet;
use std::ops::Range;

use ashlar_kernel_iface::block::{
    ARRAY_ROOM, ArrayKnowledge, ArrayState, CHUNK, DiskContent, PoolLabel, PoolPartition,
};
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::{Linear, Table, Target};
use ashlar_targetd_protocol::{Bytes, DesiredPool, FailureKind, PoolFormat, RaidLevel, Sectors};

use super::check::{self, disk_is_not_in_use, disk_is_there, label, refused};
use super::grow;
use super::observe::{ObservedContent, ObservedDisk, ObservedPool, sets};
use crate::refusal::Refusal;

/// How much of a stripe is on one disk.
pub(super) fn chunk() -> Sectors {
    Sectors::within(CHUNK)
}

/// What a disk that should be a member of a set is.
#[derive(Clone, Debug)]
pub(super) enum Candidate {
    /// It carries its label.
    Member {
        /// Where it is.
        site: Site,
        /// What its set knew when it was last written; nothing before it ever was.
        knows: Option<ArrayKnowledge>,
    },
    /// It is to be labelled.
    Newcomer {
        /// Where it will be.
        site: Site,
        /// What it holds goes.
        wipe: bool,
    },
    /// It cannot be used, and why.
    Away(Refusal),
}

/// A disk and its partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    device: DeviceNumber,
    partition: PoolPartition,
}

impl Site {
    /// The device for what the kernel writes about all disks of the set.
    pub(super) fn superblock(&self) -> Option<Table> {
        let (start, length) = self.partition.superblock()?;
        Some(self.linear(start, Sectors::within(length)))
    }

    /// The device for the set's content.
    pub(super) fn leg(&self, size: Sectors) -> Option<Table> {
        let (start, _) = self.partition.leg()?;
        Some(self.linear(start, size))
    }

    fn linear(&self, start: Bytes, length: Sectors) -> Table {
        let target = Linear {
            device: self.device,
            offset: Sectors::within(start),
        };
        Table::single(length, Target::Linear(target))
    }
}

impl Candidate {
    /// Where it is, if it can be used.
    pub(super) fn site(&self) -> Option<&Site> {
        match self {
            Candidate::Member { site, .. } | Candidate::Newcomer { site, .. } => Some(site),
            Candidate::Away(_) => None,
        }
    }

    /// Whether no array has used it yet.
    pub(super) fn is_new(&self) -> bool {
        match self {
            Candidate::Member { knows, .. } => knows.is_none(),
            Candidate::Newcomer { .. } => true,
            Candidate::Away(_) => false,
        }
    }

    /// What its set knew.
    pub(super) fn knows(&self) -> Option<ArrayKnowledge> {
        match self {
            Candidate::Member { knows, .. } => *knows,
            Candidate::Newcomer { .. } | Candidate::Away(_) => None,
        }
    }
}

/// What the disks of a set say of each other.
#[derive(Clone, Debug)]
pub(super) struct Testimony {
    /// Which of them have their data, and are there.
    pub whole: Vec<bool>,
    /// Those that lack more than the kernel would think.
    pub behind: BTreeSet<usize>,
    /// What counts; nothing while nothing is known.
    pub word: Option<ArrayKnowledge>,
    /// Whether all were made the same since the set is new.
    pub synced: bool,
}

/// Which disks of a set have their data, by what is written on them. Three things the kernel does not
/// see to:
///
/// - It puts a set together from a disk that alone was left behind. So the word of a disk counts
///   only if nobody saw it miss anything (`stale`).
/// - It refuses one from disks that were called failed when too many were already, although nothing
///   was written to it after that. So the newest word counts that speaks of a set that could
///   be used.
/// - It takes a disk that is not called failed for whole, however old what is written on it, and one
///   that is called so for one that lacks no more than the bitmap says, although another may have
///   had its place meanwhile. So those that lag are told from the others. What is written last may
///   be on some of them only.
pub(super) fn testimony(level: RaidLevel, candidates: &[Candidate], stale: &[bool]) -> Testimony {
    let known = candidates.iter().zip(stale).enumerate();
    let known = known.filter_map(|(place, (candidate, stale))| {
        let knows = candidate.knows()?;
        Some((place, *stale, knows))
    });
    let mut known: Vec<(usize, bool, ArrayKnowledge)> = known.collect();
    known.sort_by_key(|(_, _, knows)| std::cmp::Reverse(knows.events));
    let lame = |place: usize| {
        let own = candidates.get(place).and_then(Candidate::knows);
        own.is_some_and(|knows| !knows.whole)
    };
    let usable = |failed: u64| {
        let whole = (0..candidates.len()).map(|place| !is_failed(failed, place) && !lame(place));
        level.survives(&whole.collect::<Vec<_>>())
    };
    // An older word counts only if all that newer ones accuse beyond it are here to answer.
    let answered = |word: &ArrayKnowledge| {
        let newer = known
            .iter()
            .filter(|(_, _, knows)| knows.events > word.events);
        let accused = newer.fold(0, |accused, (_, _, knows)| accused | knows.failed);
        let mut places = 0..candidates.len();
        places.all(|place| {
            let beyond = is_failed(accused, place) && !is_failed(word.failed, place);
            let here = candidates.get(place).and_then(Candidate::knows).is_some();
            !beyond || here
        })
    };
    let mut words = known.iter().filter(|(_, stale, _)| !stale);
    let newest = words.clone().next();
    let counts = |word: &ArrayKnowledge| usable(word.failed) && answered(word);
    let word = words.find(|(_, _, knows)| counts(knows)).or(newest);
    let Some((_, _, word)) = word else {
        // It is new, and so are all that are there; or none may speak.
        let whole = candidates.iter().map(|found| found.site().is_some());
        return Testimony {
            whole: whole.map(|there| there && known.is_empty()).collect(),
            behind: BTreeSet::new(),
            word: None,
            synced: known.is_empty(),
        };
    };
    let current = |place: &usize| {
        let knows = candidates.get(*place).and_then(Candidate::knows);
        knows.is_some_and(|knows| knows.events + 1 >= word.events)
    };
    let called_whole = |place: &usize| {
        let knows = candidates.get(*place).and_then(Candidate::knows);
        knows.is_some_and(|knows| knows.whole && !is_failed(word.failed, *place))
    };
    let behind = |place: &usize| match candidates.get(*place).and_then(Candidate::knows) {
        Some(_) if called_whole(place) => !current(place),
        // What it missed is to be in the bitmap still.
        Some(knows) => knows.events < word.cleared,
        None => false,
    };
    let places = || 0..candidates.len();
    Testimony {
        whole: places()
            .map(|place| called_whole(&place) && current(&place))
            .collect(),
        behind: places().filter(behind).collect(),
        word: Some(*word),
        synced: word.synced,
    }
}

fn is_failed(failed: u64, place: usize) -> bool {
    failed.checked_shr(place as u32).unwrap_or(0) & 1 == 1
}

/// The size of what a set has on each of its disks: what their labels say, or, for one that is
/// being made, what the smallest has room for.
pub(super) fn leg(desired: &DesiredPool, observed: &ObservedPool, set: u32) -> Option<Sectors> {
    let redundancy = desired.redundancy.as_ref()?;
    let (_, range) = sets(redundancy).find(|(number, _)| *number == set)?;
    let disks = observed.disks.get(range)?;
    let width = disks.len() as u32;
    let labelled = (0_u32..).zip(disks).find_map(|(place, found)| {
        let label = own_label(desired, found)?.set?;
        // What is left of another attempt says nothing of this one.
        let is_its = label.number == set && label.place == place && label.width == width;
        is_its.then_some(label.leg)
    });
    let smallest = || {
        let rooms = disks.iter().map(|found| {
            let (_, room) = found.content.as_ref()?.room?.leg()?;
            Some(Sectors::within(room))
        });
        rooms.collect::<Option<Vec<_>>>()?.into_iter().min()
    };
    labelled.or_else(smallest)
}

fn own_label<'o>(desired: &DesiredPool, found: &'o ObservedDisk) -> Option<&'o PoolLabel> {
    match &found.content.as_ref()?.holds {
        DiskContent::Pool { label, .. } | DiskContent::Unfinished(label) => {
            (label.pool == desired.id).then_some(label)
        }
        DiskContent::Blank | DiskContent::Foreign(_) => None,
    }
}

/// What each disk of a set is.
///
/// # Errors
/// When a disk is to be labelled and must not be.
pub(super) fn candidates(
    desired: &DesiredPool,
    observed: &ObservedPool,
    range: Range<usize>,
) -> Result<Vec<Candidate>, Refusal> {
    let own = check::own_names(observed);
    range
        .map(|index| candidate(desired, observed, index, &own))
        .collect()
}

fn candidate(
    desired: &DesiredPool,
    observed: &ObservedPool,
    index: usize,
    own: &BTreeSet<String>,
) -> Result<Candidate, Refusal> {
    let found = &observed.disks[index];
    let usable = disk_is_there(found)
        .and_then(|disk| disk_is_not_in_use(disk, found, own).map(|()| disk.number));
    let (device, content) = match (usable, &found.content) {
        (Ok(device), Some(content)) => (device, content),
        (Ok(_), None) => return Ok(Candidate::Away(unlabelled(desired, found))),
        (Err(refusal), _) => return Ok(Candidate::Away(refusal)),
    };
    if let DiskContent::Pool { label, partition } = content.holds
        && is_its_label(desired, observed, index, label)
    {
        let site = Site { device, partition };
        return Ok(match content.array {
            ArrayState::New => Candidate::Member { site, knows: None },
            ArrayState::Known(knows) => Candidate::Member {
                site,
                knows: Some(knows),
            },
            ArrayState::Unknown => Candidate::Away(Refusal::new(
                FailureKind::Missing,
                format!("disk {} has lost what its set knows of it", found.id),
            )),
        });
    }
    let newcomer = newcomer(desired, observed, index, device, content);
    match (newcomer, desired.disks[index].takes_place) {
        // The others serve without it; what is wrong with it is told when they do.
        (Err(refusal), Some(_)) => Ok(Candidate::Away(refusal)),
        (newcomer, _) => newcomer,
    }
}

fn unlabelled(desired: &DesiredPool, found: &ObservedDisk) -> Refusal {
    Refusal::new(
        FailureKind::Missing,
        format!("disk {} carries no label of pool {}", found.id, desired.id),
    )
}

/// The labels of a pool that grows say how many disks it had or will have.
fn is_its_label(
    desired: &DesiredPool,
    observed: &ObservedPool,
    index: usize,
    on_disk: PoolLabel,
) -> bool {
    let before = grow::before(desired).filter(|before| index < before.disks.len());
    on_disk.places_as(&label(desired, observed, index))
        || before.is_some_and(|before| on_disk.places_as(&label(&before, observed, index)))
}

/// A disk that does not carry its label is labelled while the pool is made, or grows by it, or
/// when it takes the place of another.
fn newcomer(
    desired: &DesiredPool,
    observed: &ObservedPool,
    index: usize,
    device: DeviceNumber,
    content: &ObservedContent,
) -> Result<Candidate, Refusal> {
    let found = &observed.disks[index];
    let takes_place = desired.disks[index].takes_place;
    let format = match takes_place {
        Some(format) => format,
        None if grow::comes(desired, index) => desired.format,
        None => PoolFormat::Never,
    };
    if format == PoolFormat::Never {
        return Ok(Candidate::Away(unlabelled(desired, found)));
    }
    let wanted = label(desired, observed, index);
    let leg = wanted.set.map_or(Sectors(0), |set| set.leg);
    let wipe = grow::may_be_formatted(&wanted, format, found, content)?;
    let partition = content.room;
    let room = partition.and_then(|partition| Some(Sectors::within(partition.leg()?.1)));
    match (partition, room) {
        (Some(partition), Some(room)) if room >= leg && leg.0 > 0 => {
            if takes_place.is_some() {
                grow::blocks_are_small_enough(observed, index)?;
            }
            Ok(Candidate::Newcomer {
                site: Site { device, partition },
                wipe,
            })
        }
        _ => refused(
            FailureKind::NoSpace,
            format!(
                "disk {} is too small: its set has {leg} on each disk, beside {} for the kernel",
                found.id,
                Sectors::within(ARRAY_ROOM)
            ),
        ),
    }
}
