//! The safety rules of volumes. Pure; each has a test with its name.

use ashlar_targetd_protocol::{DataState, FailureKind, SECTOR, ThinRef};

use super::Goal;
use super::observe::ObservedVolume;
use crate::qos;
use crate::refusal::Refusal;
use crate::thin::{ActiveDevice, ObservedDevice};
use crate::transport::Subject;

/// Whether the rules allow going from `observed` to `goal`.
pub fn check(
    goal: &Goal<'_>,
    subject: &Subject<'_>,
    observed: &ObservedVolume,
) -> Result<(), Refusal> {
    tombstone_has_no_exports(goal)?;
    tombstone_waits_until_nobody_reads(goal)?;
    present_data_is_not_retired(goal)?;
    only_present_data_moves(goal)?;
    size_is_possible(goal)?;
    limits_are_possible(goal)?;
    device_is_ours(goal, observed)?;
    size_never_shrinks(goal, observed)?;
    observed.exports.check(subject, goal.exports)?;
    pool_is_active(goal, observed)?;
    pool_after_is_active(goal, observed)
}

/// Data that hosts may reach is not destroyed.
fn tombstone_has_no_exports(goal: &Goal<'_>) -> Result<(), Refusal> {
    match goal.thin {
        Some(thin) if thin.data == DataState::Tombstone && !goal.exports.is_empty() => {
            Err(Refusal::new(
                FailureKind::Refused,
                format!("volume {} is to be destroyed and exported at once", goal.id),
            ))
        }
        _ => Ok(()),
    }
}

/// Whoever reads it through the agent has it open; it is destroyed when they are done.
fn tombstone_waits_until_nobody_reads(goal: &Goal<'_>) -> Result<(), Refusal> {
    match goal.thin {
        Some(thin) if thin.data == DataState::Tombstone && goal.held => Err(Refusal::new(
            FailureKind::InUse,
            format!("volume {} is to be destroyed and still needed", goal.id),
        )),
        _ => Ok(()),
    }
}

/// What the volume is, or is made from, is not what it was before.
fn present_data_is_not_retired(goal: &Goal<'_>) -> Result<(), Refusal> {
    let Some(thin) = goal.thin else {
        return Ok(());
    };
    let current = ThinRef {
        pool: thin.pool,
        thin_id: thin.thin_id,
    };
    if !goal.retired.contains(&current) {
        return Ok(());
    }
    Err(Refusal::new(
        FailureKind::Refused,
        format!(
            "thin device {} of pool {} is volume {} and to be destroyed at once",
            thin.thin_id, thin.pool, goal.id
        ),
    ))
}

/// What a volume moves with is neither what it is nor what it was, and what is still to be made
/// or is to be destroyed has nothing to move.
fn only_present_data_moves(goal: &Goal<'_>) -> Result<(), Refusal> {
    let (Some(thin), Some(moving)) = (goal.thin, goal.moving) else {
        return Ok(());
    };
    let pool = thin.pool;
    let here = |thin_id| ThinRef { pool, thin_id };
    let with = moving.copy.map(here).into_iter().chain([moving.to]);
    let current = here(thin.thin_id);
    let apart = with
        .clone()
        .all(|with| with != current && !goal.retired.contains(&with));
    let elsewhere = moving.to.pool != pool && (moving.copy.is_some() || !moving.still);
    if thin.data == DataState::Present && apart && elsewhere {
        return Ok(());
    }
    Err(Refusal::new(
        FailureKind::Refused,
        format!("volume {} cannot move as {moving:?}", goal.id),
    ))
}

/// The kernel does not ask: it takes a table of any length and counts its bytes in 63 bits.
fn size_is_possible(goal: &Goal<'_>) -> Result<(), Refusal> {
    const LARGEST: u64 = i64::MAX as u64 / SECTOR;
    match goal.thin {
        Some(thin)
            if thin.data != DataState::Tombstone && !(1..=LARGEST).contains(&thin.size.0) =>
        {
            Err(Refusal::new(
                FailureKind::Refused,
                format!("volume {} cannot have {}", goal.id, thin.size),
            ))
        }
        _ => Ok(()),
    }
}

/// The kernel takes numbers that mean something else to it.
fn limits_are_possible(goal: &Goal<'_>) -> Result<(), Refusal> {
    qos::possible(&goal.qos).map_err(|impossible| {
        let what = format!("volume {} cannot be limited to {impossible}", goal.id);
        Refusal::new(FailureKind::Refused, what)
    })
}

/// What has the volume's name and is not the volume is left alone.
fn device_is_ours(goal: &Goal<'_>, observed: &ObservedVolume) -> Result<(), Refusal> {
    let foreign = |what: String| Err(Refusal::new(FailureKind::Foreign, what));
    for aside in [&observed.copy, &observed.target] {
        if let ObservedDevice::Foreign(what) = aside {
            return foreign(what.clone());
        }
    }
    match (&observed.device, goal.thin) {
        (ObservedDevice::Foreign(what), _) => foreign(what.clone()),
        (ObservedDevice::Active(device), Some(thin)) => {
            let same_pool = observed.pool.is_none_or(|pool| pool == device.pool);
            let is_now = same_pool && device.thin_id == thin.thin_id;
            if is_now || goal.retired.iter().any(|old| observed.is_on(device, old)) {
                return Ok(());
            }
            foreign(format!(
                "device of volume {} is thin device {} of {}, not {} of pool {}",
                goal.id, device.thin_id, device.pool, thin.thin_id, thin.pool
            ))
        }
        (ObservedDevice::Absent | ObservedDevice::Empty | ObservedDevice::Active(_), _) => Ok(()),
    }
}

/// A smaller volume would cut off the end of somebody's data.
fn size_never_shrinks(goal: &Goal<'_>, observed: &ObservedVolume) -> Result<(), Refusal> {
    let stays = |device: &&ActiveDevice| goal.needs_device() && device.size > goal.size();
    match observed.device.active().filter(stays) {
        Some(device) => Err(Refusal::new(
            FailureKind::Refused,
            format!(
                "volume {} has {}, shrinking it to {} would cut off data",
                goal.id,
                device.size,
                goal.size()
            ),
        )),
        None => Ok(()),
    }
}

/// Creating, activating and destroying take a pool; taking exports away does not.
fn pool_is_active(goal: &Goal<'_>, observed: &ObservedVolume) -> Result<(), Refusal> {
    let Some(thin) = goal.thin else {
        return Ok(());
    };
    let needed = match thin.data {
        DataState::Provision | DataState::Tombstone => true,
        DataState::Present | DataState::Replace => goal.needs_device(),
    };
    if needed && observed.pool.is_none() {
        return Err(Refusal::new(
            FailureKind::Missing,
            format!("pool {} of volume {} is not active", thin.pool, goal.id),
        ));
    }
    Ok(())
}

/// A volume moves from a pool to another.
fn pool_after_is_active(goal: &Goal<'_>, observed: &ObservedVolume) -> Result<(), Refusal> {
    let missing = |pool| {
        let reason = format!("pool {pool} of volume {} is not active", goal.id);
        Err(Refusal::new(FailureKind::Missing, reason))
    };
    match (goal.thin, goal.moving) {
        (Some(thin), Some(_)) if observed.pool.is_none() => missing(thin.pool),
        (_, Some(moving)) if observed.pool_after.is_none() => missing(moving.to.pool),
        _ => Ok(()),
    }
}
