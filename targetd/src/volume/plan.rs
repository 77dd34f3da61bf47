//! From what is to what should be, as steps. Pure.

use std::fmt;

use ashlar_targetd_protocol::DataState;

use super::observe::{ActiveDevice, ObservedDevice, ObservedVolume};
use super::step::Step;
use super::{Goal, ThinGoal};
use crate::transport::{ExportStep, Subject};

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
}

impl Plan {
    /// All steps.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        let device = self.leftovers.iter().chain(&self.device);
        self.removals.iter().chain(device).chain(&self.additions)
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
pub fn subject(goal: &Goal<'_>, observed: &ObservedVolume) -> Subject {
    let active = observed.device.active();
    Subject {
        id: goal.id,
        device: active.map(|device| device.number),
        grows: active.is_some_and(|device| grows(goal, device)),
        force: goal.force,
    }
}

/// The steps from `observed` to `goal`.
pub fn plan(goal: &Goal<'_>, subject: &Subject, observed: &ObservedVolume) -> Plan {
    let exports = observed.exports.plan(subject, goal.exports);
    let steps = |steps: Vec<ExportStep>| steps.into_iter().map(Step::Export).collect();
    Plan {
        removals: steps(exports.removals),
        leftovers: steps(exports.leftovers),
        device: device_steps(goal, observed),
        additions: steps(exports.additions),
    }
}

fn device_steps(goal: &Goal<'_>, observed: &ObservedVolume) -> Vec<Step> {
    let mut steps = Vec::new();
    if observed.device == ObservedDevice::Empty {
        steps.push(Step::RemoveEmpty);
    }
    if let Some(thin) = goal.thin.filter(|thin| provisions(thin, observed)) {
        steps.push(Step::CreateThin {
            pool: thin.pool,
            id: thin.thin_id,
        });
    }
    match (
        observed.device.active(),
        goal.thin.filter(|_| goal.needs_device()),
    ) {
        (Some(device), Some(thin)) => steps.extend(standing_steps(goal, &thin, device)),
        (Some(_), None) => steps.push(Step::Deactivate),
        (None, Some(thin)) => steps.push(Step::Activate {
            pool: thin.pool,
            id: thin.thin_id,
            size: thin.size,
        }),
        (None, None) => {}
    }
    if let Some(thin) = goal.thin.filter(|thin| thin.data == DataState::Tombstone) {
        steps.push(Step::DeleteThin {
            pool: thin.pool,
            id: thin.thin_id,
        });
    }
    steps
}

/// An active device proves that its thin device exists; otherwise only trying tells.
fn provisions(thin: &ThinGoal, observed: &ObservedVolume) -> bool {
    thin.data == DataState::Provision && observed.device.active().is_none()
}

fn grows(goal: &Goal<'_>, device: &ActiveDevice) -> bool {
    goal.needs_device() && device.size < goal.size()
}

fn standing_steps(goal: &Goal<'_>, thin: &ThinGoal, device: &ActiveDevice) -> Vec<Step> {
    let mut steps = Vec::new();
    if grows(goal, device) {
        // A table that waits is replaced, and a device that is suspended resumed.
        steps.push(Step::Grow {
            pool: thin.pool,
            id: thin.thin_id,
            size: thin.size,
        });
        return steps;
    }
    if device.second_table {
        steps.push(Step::DropSecondTable);
    }
    if device.suspended {
        steps.push(Step::Resume);
    }
    steps
}
