//! Sets of disks that stand in for each other, from what is to what should be. Pure.
//!
//! ```text
//!   disk ─┬► super (linear) ─┐
//!         └► leg (linear) ───┴─► set (raid) ─► metadata, data
//! ```
//!
//! The kernel knows which of a set's disks has what: it writes that on all of them, and goes by it.
//! Here it is only said which disk has which place. What must never happen is that a disk without
//! the data is read as one that has it. So
//!
//! - a disk has a place only with the label that says so;
//! - a disk that takes the place of another gets devices of its own, beside the former's, and is
//!   given to the set with the word that it is new;
//! - a set is not put together from disks of which the agent knows that they missed writes, if the
//!   others do not suffice.
//!
//! A disk that failed stays failed, until it was gone and is there again, or the set is given its
//! table anew for another: one that fails now and then would take the others' time for ever.

use std::collections::BTreeSet;
use std::ops::Range;

use ashlar_kernel_iface::block::ArrayAmendment;
use ashlar_kernel_iface::device::DeviceNumber;
use ashlar_kernel_iface::dm::{LegState, Raid, Table};
use ashlar_targetd_protocol::{DesiredPool, FailureKind, PoolFormat, RaidLevel, Sectors};

use super::check::{disk_is_there, label, refused};
use super::grow;
use super::members::{self, Candidate, Testimony, candidates, leg};
use super::observe::{ActivePart, ObservedPart, ObservedPool, sets};
use super::plan::{Plan, disk_ref, settled};
use super::step::{DiskRef, Reload, SetSpec, Step, Told};
use crate::ours::{Member, PoolPart};
use crate::refusal::Refusal;

/// Which sets of a pool that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Those it had.
    Former,
    /// Those that come, too.
    All,
}

/// What brings sets to what they should be.
#[derive(Clone, Debug, Default)]
pub(super) struct Raised {
    /// The steps; none without redundancy.
    pub plan: Plan,
    /// Devices of disks that have no place any more. Nothing depends on their going.
    pub left_over: Plan,
    /// Why a disk that was to take a place does not. The set serves without it.
    pub unplaced: Option<Refusal>,
}

/// What brings the sets to what they should be.
///
/// # Errors
/// When a set lacks too many of its disks, or a disk must not be labelled that is to be.
pub(super) fn plan(
    desired: &DesiredPool,
    observed: &ObservedPool,
    which: Which,
) -> Result<Raised, Refusal> {
    let Some(redundancy) = &desired.redundancy else {
        return Ok(Raised::default());
    };
    let mut seats = Vec::new();
    let had = grow::sets_had(desired);
    let count = match which {
        Which::Former => had.unwrap_or(redundancy.sets.len()),
        Which::All => redundancy.sets.len(),
    };
    for (number, range) in sets(redundancy).take(count) {
        let Some(leg) = leg(desired, observed, number) else {
            return refused(
                FailureKind::Missing,
                nobody(desired, observed, number, range),
            );
        };
        seats.push(Seats {
            desired,
            observed,
            number,
            level: redundancy.level,
            first: range.start,
            leg,
            candidates: candidates(desired, observed, range)?,
        });
    }
    let mut raised = Raised::default();
    let steps = &mut raised.plan.steps;
    steps.extend(seats.iter().flat_map(Seats::unusable));
    // The pool's first disk last of all: with its label the pool is one.
    steps.extend(seats.iter().rev().flat_map(Seats::labelled));
    for seats in &seats {
        let (taken, kept) = seats.raised()?;
        steps.extend(taken);
        raised.left_over.steps.extend(seats.left_over(&kept));
        let unplaced = seats.unplaced(&kept);
        raised.unplaced = raised.unplaced.or(unplaced);
    }
    Ok(raised)
}

/// What has sets go on that were left suspended, or with a table that was never used.
pub(super) fn resumed(observed: &ObservedPool) -> Plan {
    let sets = observed
        .parts
        .iter()
        .filter_map(|(part, found)| match (part, found) {
            (
                PoolPart::Set(_) | PoolPart::Super(_) | PoolPart::Leg(_),
                ObservedPart::Active(active),
            ) => Some(settled(*part, active)),
            _ => None,
        });
    Plan {
        steps: sets.flatten().collect(),
    }
}

/// That no disk of a set says what the set is.
fn nobody(
    desired: &DesiredPool,
    observed: &ObservedPool,
    number: u32,
    range: Range<usize>,
) -> String {
    let why = observed.disks[range]
        .iter()
        .map(|found| match disk_is_there(found) {
            Ok(_) => format!("disk {} carries no label of it", found.id),
            Err(refusal) => refusal.reason,
        });
    lacking(desired, number, why.collect())
}

fn lacking(desired: &DesiredPool, number: u32, why: Vec<String>) -> String {
    format!(
        "set {number} of pool {} needs more of its disks: {}",
        desired.id,
        why.join("; ")
    )
}

/// How large a set is.
pub(super) fn size(level: RaidLevel, width: u32, leg: Sectors) -> Option<Sectors> {
    let stripes = u64::from(level.data_disks(width));
    leg.0.checked_mul(stripes).map(Sectors)
}

/// For each place of a set that has a disk, how many had it before.
type Turns = Vec<Option<u32>>;

/// A set and its disks.
struct Seats<'a> {
    desired: &'a DesiredPool,
    observed: &'a ObservedPool,
    number: u32,
    level: RaidLevel,
    /// The place of its first disk among the pool's.
    first: usize,
    /// The size of what it has on each.
    leg: Sectors,
    candidates: Vec<Candidate>,
}

impl Seats<'_> {
    fn live(&self) -> Option<(&ActivePart, &Raid)> {
        let active = self.observed.active(PoolPart::Set(self.number))?;
        Some((active, active.table.raid()?))
    }

    fn member(&self, place: usize) -> Member {
        Member {
            set: self.number,
            // A set has few disks.
            place: place as u32,
            turn: self.desired.disks[self.first + place].turn,
        }
    }

    /// Places whose disk can be used.
    fn usable(&self) -> impl Iterator<Item = (Member, &Candidate)> {
        let places = self.candidates.iter().enumerate();
        places
            .filter(|(_, candidate)| candidate.site().is_some())
            .map(|(place, candidate)| (self.member(place), candidate))
    }

    /// Devices without a set on them that are not what they should be.
    fn unusable(&self) -> Vec<Step> {
        if self.live().is_some() {
            return Vec::new();
        }
        let own = self.observed.parts.iter().rev();
        let there = own.filter(|(part, found)| self.is_below(**part) && found.number().is_some());
        let stale = there.filter(|(part, found)| match found {
            ObservedPart::Active(active) => !self.is_wanted(**part, active),
            ObservedPart::Empty(_) | ObservedPart::Absent | ObservedPart::Foreign(_) => true,
        });
        stale.map(|(part, _)| Step::Remove(*part)).collect()
    }

    /// Whether it is a device of this set.
    fn is_below(&self, part: PoolPart) -> bool {
        match part {
            PoolPart::Super(member) | PoolPart::Leg(member) => member.set == self.number,
            PoolPart::Set(set) => set == self.number,
            PoolPart::Meta | PoolPart::Data | PoolPart::Thin | PoolPart::Catalog => false,
        }
    }

    fn is_wanted(&self, part: PoolPart, active: &ActivePart) -> bool {
        let mut used = self.usable();
        let own = used
            .find(|(member, _)| [PoolPart::Super(*member), PoolPart::Leg(*member)].contains(&part));
        let wanted = own.and_then(|(_, candidate)| self.table(part, candidate));
        !active.second_table && !active.suspended && wanted.as_ref() == Some(&active.table)
    }

    /// What makes its new disks its own.
    fn labelled(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (place, candidate) in self.candidates.iter().enumerate().rev() {
            let found = &self.observed.disks[self.first + place];
            let (Candidate::Newcomer { wipe, .. }, Ok(disk)) = (candidate, &found.disk) else {
                continue;
            };
            let disk = disk_ref(found, disk);
            if *wipe {
                steps.push(Step::Wipe(disk.clone()));
            }
            steps.push(Step::ClearLeg(disk.clone()));
            let label = label(self.desired, self.observed, self.first + place);
            steps.push(Step::Format(disk, label));
        }
        steps
    }

    /// What makes the set, or gives it disks, and which disks it has then: for each place, how many
    /// had it before.
    fn raised(&self) -> Result<(Vec<Step>, Turns), Refusal> {
        match self.live() {
            Some((active, raid)) => self.completed(active, raid),
            None => self.begun(),
        }
    }

    /// Why a disk that was to take a place does not.
    fn unplaced(&self, turns: &Turns) -> Option<Refusal> {
        let disks = self.desired.disks[self.first..].iter();
        let places = disks.zip(&self.candidates).zip(turns);
        let mut places = places.filter(|((disk, _), _)| disk.takes_place.is_some());
        places.find_map(|((disk, candidate), turn)| match candidate {
            Candidate::Away(refusal) => Some(refusal.clone()),
            Candidate::Member { .. } | Candidate::Newcomer { .. } if *turn != Some(disk.turn) => {
                Some(Refusal::new(
                    FailureKind::Kernel,
                    format!(
                        "disk {} waits until the disks of set {} are the same",
                        disk.id, self.number
                    ),
                ))
            }
            Candidate::Member { .. } | Candidate::Newcomer { .. } => None,
        })
    }

    /// Whether the set is being made: nothing was ever written to it.
    fn is_made(&self) -> bool {
        grow::comes(self.desired, self.first) && self.desired.format != PoolFormat::Never
    }

    fn begun(&self) -> Result<(Vec<Step>, Turns), Refusal> {
        let is_new = |candidate: &Candidate| candidate.site().is_none() || candidate.is_new();
        let all_new = self.candidates.iter().all(is_new);
        if all_new && !self.is_made() {
            let why = "its disks have lost what the kernel knew of them".to_owned();
            return refused(
                FailureKind::Missing,
                lacking(self.desired, self.number, vec![why]),
            );
        }
        let testimony = self.testimony();
        let mut steps = Vec::new();
        // What the kernel wrote on some of them is from an attempt that was cut short.
        let unsynced = |found: &Candidate| found.knows().is_none_or(|knows| !knows.synced);
        let again = self.is_made()
            && !all_new
            && self.candidates.iter().any(Candidate::is_new)
            && self.candidates.iter().all(unsynced);
        let (mut rebuild, mut out) = (BTreeSet::new(), BTreeSet::new());
        if again {
            steps.extend(
                self.disks(|candidate| !candidate.is_new())
                    .map(Step::ClearLeg),
            );
        } else if !all_new {
            self.suffices(&testimony)?;
            let told = self.told(&testimony, true);
            steps.extend(told.forgotten.into_iter().map(Step::Forget));
            steps.extend(
                told.amended
                    .into_iter()
                    .map(|(disk, what)| Step::Amend(disk, what)),
            );
            let lagging = self.lagging(&testimony);
            // Rebuilding ends the resync that is due, which reckons both parities anew.
            match self.level {
                RaidLevel::Raid6 => out = lagging,
                RaidLevel::Raid1 | RaidLevel::Raid10 | RaidLevel::Raid5 => rebuild = lagging,
            }
        }
        let used = self.usable();
        for (member, candidate) in used.filter(|(member, _)| !out.contains(&member.place)) {
            for part in [PoolPart::Super(member), PoolPart::Leg(member)] {
                let active = self.observed.active(part);
                if !active.is_some_and(|active| self.is_wanted(part, active)) {
                    steps.extend(self.activated(part, candidate));
                }
            }
        }
        let legs = self.candidates.iter().enumerate();
        let legs = legs.map(|(place, found)| {
            let member = self.member(place);
            let there = found.site().is_some() && !out.contains(&member.place);
            there.then_some(member.turn)
        });
        let legs: Turns = legs.collect();
        steps.push(Step::ActivateSet(self.spec(legs.clone(), rebuild)));
        Ok((steps, legs))
    }

    fn activated(&self, part: PoolPart, candidate: &Candidate) -> Option<Step> {
        Some(Step::Activate(part, self.table(part, candidate)?))
    }

    fn table(&self, part: PoolPart, candidate: &Candidate) -> Option<Table> {
        match part {
            PoolPart::Super(_) => candidate.site()?.superblock(),
            PoolPart::Leg(_) => candidate.site()?.leg(self.leg),
            PoolPart::Set(_)
            | PoolPart::Meta
            | PoolPart::Data
            | PoolPart::Thin
            | PoolPart::Catalog => None,
        }
    }

    fn spec(&self, legs: Vec<Option<u32>>, rebuild: BTreeSet<u32>) -> SetSpec {
        SetSpec {
            number: self.number,
            level: self.level,
            leg: self.leg,
            legs,
            rebuild,
        }
    }

    fn testimony(&self) -> Testimony {
        let disks = self.desired.disks[self.first..].iter();
        let stale: Vec<bool> = disks.map(|disk| disk.stale).collect();
        members::testimony(self.level, &self.candidates, &stale)
    }

    /// Places whose disk is there and gets all of its data from the others.
    fn lagging(&self, testimony: &Testimony) -> BTreeSet<u32> {
        let places = self.candidates.iter().enumerate();
        let lagging = places
            .filter(|(place, candidate)| candidate.is_new() || testimony.behind.contains(place));
        lagging.map(|(place, _)| place as u32).collect()
    }

    /// The disks that are there and are so.
    fn disks<'s>(&'s self, are: impl Fn(&Candidate) -> bool + 's) -> impl Iterator<Item = DiskRef> {
        let places = self.candidates.iter().enumerate();
        let places = places.filter(move |(_, found)| found.site().is_some() && are(found));
        places.filter_map(|(place, _)| self.disk(place))
    }

    fn disk(&self, place: usize) -> Option<DiskRef> {
        let found = &self.observed.disks[self.first + place];
        Some(disk_ref(found, found.disk.as_ref().ok()?))
    }

    /// A set is put together only from enough disks that have their data, as far as anyone knows.
    fn suffices(&self, testimony: &Testimony) -> Result<(), Refusal> {
        if self.level.survives(&testimony.whole) {
            return Ok(());
        }
        let disks = &self.desired.disks[self.first..];
        let lacks = self.candidates.iter().zip(disks).zip(&testimony.whole);
        let lacks = lacks.filter(|(_, whole)| !**whole);
        let lacks = lacks.map(|((found, disk), _)| match found {
            Candidate::Away(refusal) => refusal.reason.clone(),
            Candidate::Member { .. } | Candidate::Newcomer { .. } => {
                format!("disk {} lacks what was written without it", disk.id)
            }
        });
        let why = lacking(self.desired, self.number, lacks.collect());
        refused(FailureKind::Missing, why)
    }

    /// What the disks are to know before the kernel looks at them.
    fn told(&self, testimony: &Testimony, resync: bool) -> Told {
        let places = self.candidates.iter().enumerate();
        let mut told = Told::default();
        for (place, candidate) in places {
            let (Some(knows), Some(disk)) = (candidate.knows(), self.disk(place)) else {
                continue;
            };
            if testimony.behind.contains(&place) {
                told.forgotten.push(disk);
                continue;
            }
            let word = testimony.word.unwrap_or(knows);
            let failed = word.failed;
            // The kernel believes whoever was written last.
            if resync || (knows.events >= word.events && knows.failed != failed) {
                told.amended.push((disk, ArrayAmendment { failed, resync }));
            }
        }
        told
    }

    /// An active set gets the disks that it lacks and that are there, and keeps the others.
    fn completed(&self, active: &ActivePart, raid: &Raid) -> Result<(Vec<Step>, Turns), Refusal> {
        if raid.legs.len() != self.candidates.len() || raid.level != self.level {
            return refused(
                FailureKind::Foreign,
                format!(
                    "set {} is {}, which was not made here",
                    self.number, active.table
                ),
            );
        }
        let mut testimony = self.testimony();
        self.as_kernel_says(raid, &mut testimony);
        let lagging = self.lagging(&testimony);
        let (mut steps, mut moved) = (Vec::new(), Vec::new());
        let (mut legs, mut rebuild) = (Vec::new(), BTreeSet::new());
        let mut changed = false;
        for (place, candidate) in self.candidates.iter().enumerate() {
            let member = self.member(place);
            let live = raid.legs[place].map(|leg| leg.data);
            let own = self.observed.active(PoolPart::Leg(member));
            let is_live = live.is_some() && own.map(|own| own.number) == live;
            if candidate.site().is_none() {
                // A disk that is to give up its place keeps it until the other one has it.
                let waits = self.desired.disks[self.first + place].takes_place.is_some();
                changed |= live.is_some() && !is_live && !waits;
                legs.push(match waits {
                    true => self.turn_of(live, place),
                    false => is_live.then_some(member.turn),
                });
                continue;
            }
            let lags = lagging.contains(&member.place);
            let given = self.given(member, candidate, is_live);
            let is_given = !is_live || !given.moved.is_empty();
            if is_given && lags && self.level == RaidLevel::Raid6 && !testimony.synced {
                // Rebuilding would end the resync; once that has ended it comes.
                legs.push(self.turn_of(live, place));
                continue;
            }
            legs.push(Some(member.turn));
            changed |= is_given;
            rebuild.extend((is_given && lags).then_some(member.place));
            steps.extend(given.made);
            moved.extend(given.moved);
        }
        if changed {
            self.suffices(&testimony)?;
            let told = self.told(&testimony, false);
            steps.push(Step::ReloadSet(Reload {
                spec: self.spec(legs.clone(), rebuild),
                moved,
                told,
            }));
        } else {
            steps.extend(settled(PoolPart::Set(self.number), active));
        }
        Ok((steps, legs))
    }

    /// Of the disks that an active set uses, the kernel knows: what is written on them changes while
    /// it is read, on one after the other.
    fn as_kernel_says(&self, raid: &Raid, testimony: &mut Testimony) {
        let states = self.observed.legs.get(&self.number);
        for (place, state) in states.into_iter().flatten().enumerate() {
            let member = self.member(place);
            let leg = raid.legs.get(place).copied().flatten();
            let Some(candidate) = self.candidates.get(place) else {
                continue;
            };
            let is_used = |part, number| {
                let active = self.observed.active(part);
                let wanted = self.table(part, candidate);
                active.is_some_and(|active| {
                    Some(active.number) == number && Some(&active.table) == wanted.as_ref()
                })
            };
            let uses = is_used(PoolPart::Leg(member), leg.map(|leg| leg.data))
                && is_used(PoolPart::Super(member), leg.map(|leg| leg.meta));
            if !uses {
                continue;
            }
            testimony.behind.remove(&place);
            match state {
                LegState::InSync => testimony.whole[place] = true,
                // While all are made the same, they are all called so.
                LegState::Partial => {
                    testimony.whole[place] = candidate.knows().is_some_and(|knows| knows.whole);
                }
                LegState::Failed | LegState::Missing => testimony.whole[place] = false,
            }
        }
    }

    /// How many disks had a place before the one that has it in the active set.
    fn turn_of(&self, live: Option<DeviceNumber>, place: usize) -> Option<u32> {
        let parts = self.observed.parts.iter();
        let mut legs = parts.filter(|(_, found)| found.number().is_some_and(|n| Some(n) == live));
        legs.find_map(|(part, _)| match part {
            PoolPart::Leg(member)
                if member.set == self.number && member.place as usize == place =>
            {
                Some(member.turn)
            }
            _ => None,
        })
    }

    /// What gives a disk to an active set, as far as the set does not have it.
    fn given(&self, member: Member, candidate: &Candidate, is_live: bool) -> Given {
        let mut given = Given::default();
        for part in [PoolPart::Super(member), PoolPart::Leg(member)] {
            let Some(wanted) = self.table(part, candidate) else {
                continue;
            };
            match self.observed.parts.get(&part) {
                Some(ObservedPart::Active(active)) if active.table == wanted => {
                    given.made.extend(settled(part, active));
                }
                // It was away, and is another device now.
                Some(ObservedPart::Active(_)) if is_live => given.moved.push((part, wanted)),
                Some(ObservedPart::Active(_) | ObservedPart::Empty(_)) => {
                    given.made.push(Step::Remove(part));
                    given.made.push(Step::Activate(part, wanted));
                }
                Some(ObservedPart::Absent | ObservedPart::Foreign(_)) | None => {
                    given.made.push(Step::Activate(part, wanted));
                }
            }
        }
        given
    }

    /// Devices of disks that have no place any more.
    fn left_over(&self, turns: &Turns) -> Vec<Step> {
        let kept = |member: &Member| {
            let turn = turns.get(member.place as usize).copied().flatten();
            let comes = self.desired.disks.get(self.first + member.place as usize);
            turn == Some(member.turn) || comes.is_some_and(|disk| disk.turn == member.turn)
        };
        let parts = self.observed.parts.iter().rev();
        let left = parts.filter(|(part, found)| match part {
            PoolPart::Super(member) | PoolPart::Leg(member) => {
                member.set == self.number && !kept(member) && found.number().is_some()
            }
            PoolPart::Set(_)
            | PoolPart::Meta
            | PoolPart::Data
            | PoolPart::Thin
            | PoolPart::Catalog => false,
        });
        left.map(|(part, _)| Step::Remove(*part)).collect()
    }
}

/// What gives a disk to an active set.
#[derive(Default)]
struct Given {
    /// Devices that are made, or go on, while the set does I/O.
    made: Vec<Step>,
    /// Devices of it that are put on another disk while it does none.
    moved: Vec<(PoolPart, Table)>,
}
