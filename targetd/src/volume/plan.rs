//! From what is to what should be, as steps. Pure.

use std::fmt;

use ashlar_targetd_protocol::{DataState, ThinRef};

use super::aside;
use super::observe::ObservedVolume;
use super::step::Step;
use super::{Goal, ThinGoal};
use crate::qos;
use crate::thin::{ActiveDevice, ObservedDevice};
use crate::transport::{ExportStep, Exported, Subject};

/// The steps in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Exports that go, and with them what holds the device.
    pub removals: Vec<Step>,
    /// What is left of those exports. It waits in the kernel, and so does the device, so both
    /// are done at once.
    pub leftovers: Vec<Step>,
    /// The device, and at last the data, if that goes.
    pub device: Vec<Step>,
    /// Exports that come.
    pub additions: Vec<Step>,
    /// What it moves with. Behind all that hosts wait for.
    pub aside: Vec<Step>,
    /// Data that was the volume's before. Last, so that a pool that is gone with it keeps
    /// nobody from the volume.
    pub retired: Vec<Step>,
}

impl Plan {
    /// All steps.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        let device = self.leftovers.iter().chain(&self.device);
        let all = self.removals.iter().chain(device).chain(&self.additions);
        all.chain(&self.aside).chain(&self.retired)
    }

    /// Whether all is as it should be.
    pub fn is_empty(&self) -> bool {
        self.steps().next().is_none()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps().try_for_each(|step| writeln!(f, "{step}"))
    }
}

/// The volume as its transports have to know it.
pub fn subject<'a>(goal: &Goal<'a>, observed: &ObservedVolume) -> Subject<'a> {
    let active = observed.device.active();
    Subject {
        what: Exported::Volume(goal.id),
        device: active.map(|device| device.number),
        grows: active.is_some_and(|device| grows(goal, device)),
        cut: goal.cut,
        exports: goal.exports,
    }
}

/// The steps from `observed` to `goal`.
pub fn plan(goal: &Goal<'_>, subject: &Subject<'_>, observed: &ObservedVolume) -> Plan {
    let exports = observed.exports.plan(subject, goal.exports);
    let steps = |steps: Vec<ExportStep>| steps.into_iter().map(Step::Export).collect();
    let waking = match exports.removals.is_empty() {
        true => Vec::new(),
        false => waking_steps(goal, observed),
    };
    let observed = &woken(observed, &waking);
    let mut removals = waking;
    removals.extend(lifting(goal, observed));
    removals.extend(exports.removals.into_iter().map(Step::Export));
    Plan {
        removals,
        leftovers: steps(exports.leftovers),
        device: device_steps(goal, observed),
        additions: steps(exports.additions),
        aside: aside::steps(goal, observed),
        retired: retired_steps(goal),
    }
}

/// What is taken from hosts waits for the I/O they have under way, so a device that rests goes
/// on before: never with what it was on before, once it is known that it is elsewhere.
fn waking_steps(goal: &Goal<'_>, observed: &ObservedVolume) -> Vec<Step> {
    let device = observed.device.active();
    let Some(device) = device.filter(|device| device.suspended && !goal.is_still()) else {
        return Vec::new();
    };
    let elsewhere = |thin: &ThinGoal| matches!(thin.data, DataState::Present | DataState::Replace);
    if let Some(thin) = goal.thin.filter(elsewhere)
        && !device.is_on(observed.pool, thin.thin_id)
    {
        return vec![Step::Swap(thin.place())];
    }
    let waiting = device.second_table.then_some(Step::DropSecondTable);
    waiting.into_iter().chain([Step::Resume]).collect()
}

/// What is observed once those steps are taken.
fn woken(observed: &ObservedVolume, waking: &[Step]) -> ObservedVolume {
    let mut observed = observed.clone();
    let (ObservedDevice::Active(device), Some(last)) = (&mut observed.device, waking.last()) else {
        return observed;
    };
    (device.suspended, device.second_table) = (false, false);
    if let (Step::Swap(place), Some(pool)) = (last, observed.pool) {
        (device.pool, device.thin_id) = (pool, place.id);
        device.size = place.size;
    }
    observed
}

/// While the volume may go back to what it was on, nothing of that is destroyed; nor in the
/// same breath in which it leaves it.
fn retired_steps(goal: &Goal<'_>) -> Vec<Step> {
    let keeps = |data| matches!(data, DataState::Provision | DataState::Replace);
    if goal.thin.is_none_or(|thin| keeps(thin.data)) {
        return Vec::new();
    }
    let delete = |before: &ThinRef| Step::DeleteThin {
        pool: before.pool,
        id: before.thin_id,
    };
    goal.retired.iter().map(delete).collect()
}

/// Exports that go are not held up by I/O that limits hold back, and a device that goes leaves
/// no limits to whichever gets its number.
fn lifting(goal: &Goal<'_>, observed: &ObservedVolume) -> Option<Step> {
    let lifts = goal.qos.is_unlimited() && !observed.throttles.is_empty();
    lifts.then_some(Step::Limit(goal.qos))
}

/// Nobody reaches a device before its limits stand.
fn limiting(goal: &Goal<'_>, observed: &ObservedVolume) -> Option<Step> {
    let limits = !goal.qos.is_unlimited() && !qos::fit(&goal.qos, &observed.throttles);
    limits.then_some(Step::Limit(goal.qos))
}

fn device_steps(goal: &Goal<'_>, observed: &ObservedVolume) -> Vec<Step> {
    let mut steps = Vec::new();
    if observed.device == ObservedDevice::Empty {
        steps.push(Step::RemoveEmpty);
    }
    if let Some(thin) = goal.thin.filter(|thin| provisions(thin, observed)) {
        steps.extend(provision_steps(&thin, observed));
    }
    match (
        observed.device.active(),
        goal.thin.filter(|_| goal.needs_device()),
    ) {
        (Some(device), Some(thin)) => {
            steps.extend(standing_steps(goal, &thin, device, observed));
        }
        (Some(_), None) => steps.push(Step::Deactivate),
        (None, Some(thin)) => {
            let before = before(goal, &thin).map(|before| thin.place_on(before));
            steps.push(Step::Activate(before.unwrap_or_else(|| thin.place())));
        }
        (None, None) => {}
    }
    steps.extend(limiting(goal, observed));
    if let Some(thin) = goal.thin.filter(|thin| thin.data == DataState::Tombstone) {
        steps.push(Step::DeleteThin {
            pool: thin.pool,
            id: thin.thin_id,
        });
    }
    steps
}

/// A device that is active on it proves that the thin device exists; otherwise only trying
/// tells.
fn provisions(thin: &ThinGoal, observed: &ObservedVolume) -> bool {
    let stands = |device: &ActiveDevice| device.is_on(observed.pool, thin.thin_id);
    thin.data == DataState::Provision && !observed.device.active().is_some_and(stands)
}

fn provision_steps(thin: &ThinGoal, observed: &ObservedVolume) -> Vec<Step> {
    let Some(source) = thin.source else {
        return vec![Step::CreateThin(thin.place())];
    };
    let mut steps = Vec::new();
    if let Some(origin) = observed.origin.iter().find(|origin| origin.second_table) {
        steps.push(Step::DropSecondTableOf(origin.name.clone()));
    }
    steps.push(Step::CreateSnapshot {
        pool: thin.pool,
        id: thin.thin_id,
        of: source.thin_id,
        resting: observed.origin.as_ref().map(|origin| origin.name.clone()),
    });
    steps
}

fn grows(goal: &Goal<'_>, device: &ActiveDevice) -> bool {
    goal.needs_device() && device.size < goal.size()
}

/// What a volume is on while what takes its place is being made.
fn before<'a>(goal: &Goal<'a>, thin: &ThinGoal) -> Option<&'a ThinRef> {
    let making = thin.data == DataState::Provision;
    goal.retired.first().filter(|_| making)
}

fn standing_steps(
    goal: &Goal<'_>,
    thin: &ThinGoal,
    device: &ActiveDevice,
    observed: &ObservedVolume,
) -> Vec<Step> {
    let before = before(goal, thin).filter(|before| observed.is_on(device, before));
    let place = match before {
        Some(before) => thin.place_on(before),
        None => thin.place(),
    };
    // A table that waits is replaced, and a device that is suspended resumed, by either.
    if before.is_none() && !device.is_on(observed.pool, thin.thin_id) {
        return vec![Step::Swap(place)];
    }
    if device.size < thin.size {
        return vec![Step::Grow(place)];
    }
    let mut steps = Vec::new();
    if device.second_table {
        steps.push(Step::DropSecondTable);
    }
    if device.suspended && !goal.is_still() {
        steps.push(Step::Resume);
    }
    steps
}
