//! From what is to what should be, as steps. Pure.

use std::fmt;

use ashlar_targetd_protocol::{DataState, DesiredSnapshot, DesiredSnapshots, SnapshotsKind};
use uuid::Uuid;

use super::observe::{ObservedMember, ObservedSnapshots};
use super::step::{Shot, Step};
use crate::thin::{ActiveDevice, ObservedDevice, Origin, Place};
use crate::transport::{ExportPlan, ExportStep};

/// The steps in their order: exports and devices that go, snapshots that are taken, devices and
/// exports that come, data that goes.
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
    let exports = |member: &DesiredSnapshot, found: &ObservedMember| {
        let subject = found.subject(member);
        found.exports.plan(&subject, &member.exports)
    };
    let mut steps = Vec::new();
    for (member, found) in pairs() {
        steps.extend(unexporting(member, found, exports(member, found)));
    }
    steps.extend(pairs().filter_map(|(member, found)| removal(desired, member, found)));
    // A device that is active on it proves that its thin device exists, and so that all do;
    // otherwise only trying tells.
    let proven = pairs().any(|(member, found)| found.active(member).is_some());
    if data == DataState::Provision && !proven {
        steps.extend(taking(desired, observed));
    }
    for (member, found) in pairs().filter(|(member, _)| stays(data, member)) {
        let exports = exports(member, found);
        let woken = !(exports.removals.is_empty() && exports.leftovers.is_empty());
        steps.extend(activation(member, found, woken));
        let additions = exports.additions.into_iter();
        steps.extend(additions.map(|step| Step::Export(member.id, step)));
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
    let needed = member.held || !member.exports.is_empty();
    needed && data != DataState::Tombstone
}

/// What is taken from hosts waits for the I/O they have under way, so a device that rests goes on
/// before.
fn unexporting(
    member: &DesiredSnapshot,
    found: &ObservedMember,
    exports: ExportPlan<ExportStep>,
) -> Vec<Step> {
    if exports.removals.is_empty() && exports.leftovers.is_empty() {
        return Vec::new();
    }
    let device = found.device.active();
    let mut steps = device.map_or_else(Vec::new, |device| mending(member.id, device));
    let gone = exports.removals.into_iter().chain(exports.leftovers);
    steps.extend(gone.map(|step| Step::Export(member.id, step)));
    steps
}

/// What lets an active device go on, if whoever had it rest died.
pub(super) fn mending(id: Uuid, device: &ActiveDevice) -> Vec<Step> {
    let mut steps = Vec::new();
    if device.second_table {
        steps.push(Step::DropSecondTable(id));
    }
    if device.suspended {
        steps.push(Step::Resume(id));
    }
    steps
}

fn removal(
    desired: &DesiredSnapshots,
    member: &DesiredSnapshot,
    found: &ObservedMember,
) -> Option<Step> {
    let data = desired.data;
    // Whoever needs a snapshot that stands says so of it by itself, and may have it open.
    let others = desired.kind == SnapshotsKind::GroupSnapshot && data != DataState::Tombstone;
    let standing = found.standing(member).is_some();
    match &found.device {
        ObservedDevice::Empty => Some(Step::RemoveEmpty(member.id)),
        ObservedDevice::Active(_) if (others || stays(data, member)) && standing => None,
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

fn activation(member: &DesiredSnapshot, found: &ObservedMember, woken: bool) -> Vec<Step> {
    match found.standing(member) {
        Some(_) if woken => Vec::new(),
        Some(device) => mending(member.id, device),
        None => {
            let place = Place {
                pool: member.pool,
                id: member.thin_id,
                size: member.size,
            };
            vec![Step::Activate(member.id, place)]
        }
    }
}
