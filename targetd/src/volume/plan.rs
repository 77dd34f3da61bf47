//! From what is to what should be, as steps. Pure.

use std::fmt;

use ashlar_targetd_protocol::DataState;

use super::observe::{ActiveDevice, ObservedDevice, ObservedVolume};
use super::step::Step;
use super::{Goal, ThinGoal};
use crate::transport::Subject;

/// The steps in their order: exports that go, the device, exports that come; at last the data,
/// if it goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
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
    let mut steps: Vec<Step> = exports.removals.into_iter().map(Step::Export).collect();
    steps.extend(device_steps(goal, observed));
    steps.extend(exports.additions.into_iter().map(Step::Export));
    Plan { steps }
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
