//! From what is to what should be, as steps. Pure.

use std::fmt;

use ashlar_targetd_protocol::{DataState, DesiredSnapshot, DesiredSnapshots};

use super::observe::{ObservedMember, ObservedSnapshots};
use super::step::{Shot, Step};
use crate::thin::{ActiveDevice, ObservedDevice, Origin, Place};

/// The steps in their order: devices that go, snapshots that are taken, devices that come, data
/// that goes.
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

/// The steps from `observed`, which was checked, to `desired`.
pub fn plan(desired: &DesiredSnapshots, observed: &ObservedSnapshots) -> Plan {
    let data = desired.data;
    let pairs = || desired.members.iter().zip(&observed.members);
    let mut steps = Vec::new();
    steps.extend(pairs().filter_map(|(member, found)| removal(data, member, found)));
    // A device that is active on it proves that its thin device exists, and so that all do;
    // otherwise only trying tells.
    let proven = pairs().any(|(member, found)| found.active(member).is_some());
    if data == DataState::Provision && !proven {
        steps.extend(taking(desired, observed));
    }
    for (member, found) in pairs().filter(|(member, _)| stays(data, member)) {
        steps.extend(activation(member, found));
    }
    if data == DataState::Tombstone {
        // The last to be made is the first to go: whatever is left of them is the beginning.
        let delete = |member: &DesiredSnapshot| Step::Delete {
            pool: member.pool,
            id: member.thin_id,
        };
        steps.extend(desired.members.iter().rev().map(delete));
    }
    Plan { steps }
}

fn stays(data: DataState, member: &DesiredSnapshot) -> bool {
    member.held && data != DataState::Tombstone
}

/// Whether a device is the one a held snapshot has.
fn stands(member: &DesiredSnapshot, device: &ActiveDevice) -> bool {
    device.size == member.size && device.read_only
}

fn removal(data: DataState, member: &DesiredSnapshot, found: &ObservedMember) -> Option<Step> {
    match &found.device {
        ObservedDevice::Empty => Some(Step::RemoveEmpty(member.id)),
        ObservedDevice::Active(device) if stays(data, member) && stands(member, device) => None,
        ObservedDevice::Active(_) => Some(Step::Deactivate(member.id)),
        ObservedDevice::Absent | ObservedDevice::Foreign(_) => None,
    }
}

fn taking(desired: &DesiredSnapshots, observed: &ObservedSnapshots) -> Vec<Step> {
    let origins = || {
        observed
            .members
            .iter()
            .filter_map(|found| found.origin.as_ref())
    };
    let waiting = origins().filter(|origin| origin.second_table);
    let drop = |origin: &Origin| Step::DropSecondTableOf(origin.name.clone());
    let mut steps: Vec<_> = waiting.map(drop).collect();
    let shot = |member: &DesiredSnapshot| Shot {
        pool: member.pool,
        id: member.thin_id,
        of: member.source.thin_id,
    };
    steps.push(Step::Take {
        shots: desired.members.iter().map(shot).collect(),
        resting: origins().map(|origin| origin.name.clone()).collect(),
    });
    steps
}

fn activation(member: &DesiredSnapshot, found: &ObservedMember) -> Vec<Step> {
    let standing = found.active(member).filter(|device| stands(member, device));
    let Some(device) = standing else {
        let place = Place {
            pool: member.pool,
            id: member.thin_id,
            size: member.size,
        };
        return vec![Step::Activate(member.id, place)];
    };
    let mut steps = Vec::new();
    if device.second_table {
        steps.push(Step::DropSecondTable(member.id));
    }
    if device.suspended {
        steps.push(Step::Resume(member.id));
    }
    steps
}
