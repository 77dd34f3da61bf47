//! The safety rules of snapshots. Pure; each has a test with its name.

use std::collections::BTreeSet;

use ashlar_targetd_protocol::{
    DataState, DesiredSnapshot, DesiredSnapshots, FailureKind, SECTOR, SnapshotsKind,
};

use super::observe::{ObservedMember, ObservedSnapshots};
use crate::refusal::Refusal;
use crate::thin::ObservedDevice;

/// Whether the rules allow going from `observed` to `desired`.
pub fn check(desired: &DesiredSnapshots, observed: &ObservedSnapshots) -> Result<(), Refusal> {
    each_is_of_another(desired)?;
    for (member, found) in desired.members.iter().zip(&observed.members) {
        only_a_snapshot_by_itself_is_exported(desired.kind, member)?;
        tombstone_has_no_exports(desired.data, member)?;
        tombstone_waits_until_nobody_reads(desired.data, member)?;
        size_is_possible(member)?;
        device_is_ours(member, found)?;
        found
            .exports
            .check(&found.subject(member), &member.exports)?;
        pool_is_active(desired.data, member, found)?;
    }
    Ok(())
}

fn refused<T>(kind: FailureKind, reason: String) -> Result<T, Refusal> {
    Err(Refusal::new(kind, reason))
}

/// One instant has one snapshot of an object, and a snapshot is nothing's origin but its own
/// successors'.
fn each_is_of_another(desired: &DesiredSnapshots) -> Result<(), Refusal> {
    let count = desired.members.len();
    let distinct = |keys: BTreeSet<_>| keys.len() == count;
    let members = desired.members.iter();
    let made: BTreeSet<_> = members
        .clone()
        .map(|member| (member.pool, member.thin_id))
        .collect();
    let origins: BTreeSet<_> = members
        .clone()
        .map(|member| (member.pool, member.source.thin_id))
        .collect();
    let ids: BTreeSet<_> = members.map(|member| member.id).collect();
    let apart = made.is_disjoint(&origins) && ids.len() == count;
    if count > 0 && apart && distinct(made) && distinct(origins) {
        return Ok(());
    }
    refused(
        FailureKind::Refused,
        format!(
            "snapshots {} are not one each of different volumes",
            desired.id
        ),
    )
}

/// What is made, or destroyed, with others is exported by itself: volumes as the volumes they
/// become, and snapshots in the order of what is said of each.
fn only_a_snapshot_by_itself_is_exported(
    kind: SnapshotsKind,
    member: &DesiredSnapshot,
) -> Result<(), Refusal> {
    if kind == SnapshotsKind::Snapshot || member.exports.is_empty() {
        return Ok(());
    }
    refused(
        FailureKind::Refused,
        format!("{} is to be exported with others at once", member.id),
    )
}

/// Data that hosts may reach is not destroyed.
fn tombstone_has_no_exports(data: DataState, member: &DesiredSnapshot) -> Result<(), Refusal> {
    if data != DataState::Tombstone || member.exports.is_empty() {
        return Ok(());
    }
    refused(
        FailureKind::Refused,
        format!(
            "snapshot {} is to be destroyed and exported at once",
            member.id
        ),
    )
}

/// Whoever reads it through the agent has it open; it is destroyed when they are done.
fn tombstone_waits_until_nobody_reads(
    data: DataState,
    member: &DesiredSnapshot,
) -> Result<(), Refusal> {
    if data != DataState::Tombstone || !member.held {
        return Ok(());
    }
    refused(
        FailureKind::InUse,
        format!("snapshot {} is to be destroyed and still needed", member.id),
    )
}

/// The kernel does not ask: it takes a table of any length and counts its bytes in 63 bits.
fn size_is_possible(member: &DesiredSnapshot) -> Result<(), Refusal> {
    const LARGEST: u64 = i64::MAX as u64 / SECTOR;
    if (1..=LARGEST).contains(&member.size.0) {
        return Ok(());
    }
    refused(
        FailureKind::Refused,
        format!("snapshot {} cannot have {}", member.id, member.size),
    )
}

/// What has the snapshot's name and is not the snapshot is left alone.
fn device_is_ours(member: &DesiredSnapshot, found: &ObservedMember) -> Result<(), Refusal> {
    match &found.device {
        ObservedDevice::Foreign(what) => refused(FailureKind::Foreign, what.clone()),
        ObservedDevice::Active(device) if found.active(member).is_none() => refused(
            FailureKind::Foreign,
            format!(
                "device of snapshot {} is thin device {} of {}, not {} of pool {}",
                member.id, device.thin_id, device.pool, member.thin_id, member.pool
            ),
        ),
        ObservedDevice::Absent | ObservedDevice::Empty | ObservedDevice::Active(_) => Ok(()),
    }
}

/// Taking, activating and destroying take a pool.
fn pool_is_active(
    data: DataState,
    member: &DesiredSnapshot,
    found: &ObservedMember,
) -> Result<(), Refusal> {
    let active = member.held || !member.exports.is_empty();
    let needed = data != DataState::Present || active;
    if !needed || found.pool.is_some() {
        return Ok(());
    }
    refused(
        FailureKind::Missing,
        format!(
            "pool {} of snapshot {} is not active",
            member.pool, member.id
        ),
    )
}
