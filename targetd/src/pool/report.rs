//! How the sets of a pool are.

use std::collections::BTreeSet;

use ashlar_kernel_iface::dm::{LegState, RaidStatus};
use ashlar_targetd_protocol::{MemberState, SetAction, SetReport};
use uuid::Uuid;

use super::observe::{ActivePart, ObservedPart, observe_part};
use crate::kernel::{Kernel, KernelError};
use crate::ours::{self, PoolPart};

/// Looks at the active sets, of which there are as many as there are devices of their names.
pub(super) fn sets(kernel: &Kernel, pool: Uuid) -> Result<Vec<SetReport>, KernelError> {
    let mut sets = Vec::new();
    let mut users = None;
    for number in 0.. {
        let part = PoolPart::Set(number);
        let ObservedPart::Active(active) = observe_part(kernel, pool, part)? else {
            break;
        };
        let users = match &users {
            Some(users) => users,
            None => users.insert(users_of_disks(kernel)?),
        };
        let name = ours::pool_device(pool, part);
        // What is no array is none of ours, and neither is what comes after.
        let Some(status) = kernel.dm.raid_status(&name)? else {
            break;
        };
        sets.push(report(&active, status, users));
    }
    Ok(sets)
}

/// The kernel's names of what is on the disks that are there.
fn users_of_disks(kernel: &Kernel) -> Result<BTreeSet<String>, KernelError> {
    let disks = kernel.disks.list()?;
    Ok(disks.into_iter().flat_map(|disk| disk.users).collect())
}

/// A disk that was pulled is missing at once; the kernel notices when it next uses it.
fn report(active: &ActivePart, status: RaidStatus, users: &BTreeSet<String>) -> SetReport {
    let legs = active.table.raid().map(|raid| &raid.legs[..]);
    let legs = legs.unwrap_or_default().iter();
    // A new array, or one that was not stopped in order, says so of all of its legs, and begins with
    // it some time later.
    let resynced =
        status.action == SetAction::Resync || !status.members.contains(&LegState::InSync);
    let members = legs.zip(&status.members).map(|(leg, member)| {
        let there = leg.is_some_and(|leg| users.contains(&format!("dm-{}", leg.data.minor)));
        match member {
            _ if !there => MemberState::Missing,
            LegState::InSync => MemberState::InSync,
            LegState::Partial if resynced => MemberState::Resyncing,
            LegState::Partial => MemberState::Rebuilding,
            LegState::Failed => MemberState::Failed,
            LegState::Missing => MemberState::Missing,
        }
    });
    SetReport {
        members: members.collect(),
        action: status.action,
        done: status.done,
        total: status.total,
        mismatches: status.mismatches,
    }
}
