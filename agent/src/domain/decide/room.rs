//! What a pool may be promised.
//!
//! ```text
//! capacity ├─ reserved ─┼─ thick volumes and their snapshots ─┼─ thin volumes × over-subscription ─┤
//! ```
//!
//! The kernel gives blocks to whoever writes first. So what is kept for thick volumes is kept by
//! promising thin ones no more than the rest, as many times over as the pool allows.

use std::collections::BTreeMap;

use ashlar_protocol::{ObjectKind, ObjectRef, PoolLevel, Problem, ProblemCode, Provisioning};
use uuid::Uuid;

use super::{Facts, busy, missing, refuse};
use crate::domain::fill;
use crate::domain::intent::{Intent, PoolEntry};
use crate::domain::record::{PoolPhase, PoolRecord};

/// Nothing new is made in a pool past its last watermark, and nothing extended, so that what room
/// is left is there for who writes to what it has. Judged by what was seen of it last, so that
/// nobody has to look.
pub(super) fn check_fill(
    intent: &Intent,
    object: ObjectRef,
    pool: Uuid,
    facts: &Facts<'_>,
) -> Result<(), Problem> {
    let Some(entry) = intent.pool(pool) else {
        return Err(missing(ObjectKind::Pool, pool));
    };
    let PoolRecord { spec, told, .. } = &entry.record;
    let (level, percents) = match (facts.seen)(pool) {
        Some(usage) => {
            let now = told.filled(&spec.watermarks, &usage);
            (now.level(), fill::percents(&usage))
        }
        None => (told.level(), told.percents()),
    };
    match level {
        PoolLevel::Ok | PoolLevel::Warn | PoolLevel::Critical => Ok(()),
        PoolLevel::Stop => {
            let detail = format!(
                "pool {pool} takes nothing new from {} % on: {percents}",
                spec.watermarks.stop
            );
            Err(refuse(ProblemCode::NoSpace, object, detail))
        }
    }
}

/// What is to be promised in addition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    pub(super) pool: Uuid,
    /// To what kind of volume.
    pub(super) provisioning: Provisioning,
    /// Bytes.
    pub(super) more: u64,
    /// Size of the object it is promised to, in bytes.
    pub(super) size: u64,
}

/// Whether a pool can promise something to `object`.
pub(super) fn check_room(
    intent: &Intent,
    object: ObjectRef,
    promise: &Promise,
) -> Result<(), Problem> {
    let pool = promise.pool;
    let entry = intent
        .pool(pool)
        .ok_or_else(|| missing(ObjectKind::Pool, pool))?;
    let capacity = match (entry.record.phase, entry.record.capacity) {
        (PoolPhase::Withdrawn, _) => return Err(busy(ObjectKind::Pool, pool, "withdrawn")),
        (PoolPhase::Deleting(_), _) => return Err(busy(ObjectKind::Pool, pool, "destroyed")),
        (PoolPhase::Exporting { .. }, _) => return Err(busy(ObjectKind::Pool, pool, "exported")),
        (PoolPhase::Present, Some(capacity)) => capacity,
        (PoolPhase::Creating | PoolPhase::Present, _) => {
            return Err(busy(ObjectKind::Pool, pool, "created"));
        }
    };
    overdrawn(entry, capacity, promise).map_or(Ok(()), |detail| {
        Err(refuse(ProblemCode::NoSpace, object, detail))
    })
}

/// Whether pools can promise something to each of several objects of one change, as one.
///
/// Where some are thick and some thin, all of a pool's are counted as thick: with them it has
/// room in any case.
pub(super) fn check_rooms(
    intent: &Intent,
    whole: ObjectRef,
    objects: impl Iterator<Item = (Uuid, Provisioning, u64)>,
) -> Result<(), Problem> {
    let mut promises: BTreeMap<Uuid, Promise> = BTreeMap::new();
    for (pool, provisioning, size) in objects {
        let promise = promises.entry(pool).or_insert(Promise {
            pool,
            provisioning,
            more: 0,
            size,
        });
        promise.more = promise.more.saturating_add(size);
        promise.size = promise.size.max(size);
        if provisioning == Provisioning::Thick {
            promise.provisioning = provisioning;
        }
    }
    promises
        .values()
        .try_for_each(|promise| check_room(intent, whole, promise))
}

/// Why a pool cannot promise so much.
fn overdrawn(entry: &PoolEntry, capacity: u64, promise: &Promise) -> Option<String> {
    let spec = &entry.record.spec;
    let Promise { pool, size, .. } = promise;
    let usable = usable(entry, capacity);
    if *size > usable {
        let reserved = match spec.reserved {
            0 => String::new(),
            percent => format!(", {percent} % of its capacity being reserved"),
        };
        return Some(format!(
            "size {size} is more than pool {pool} has: {usable} bytes{reserved}"
        ));
    }
    let more = |kind| match promise.provisioning == kind {
        true => promise.more,
        false => 0,
    };
    let thick = entry.thick.saturating_add(more(Provisioning::Thick));
    let Some(rest) = usable.checked_sub(thick) else {
        return Some(format!(
            "pool {pool} would keep {thick} bytes for thick volumes of the {usable} it has"
        ));
    };
    let thin = entry.thin.saturating_add(more(Provisioning::Thin));
    match percent(rest, spec.over_subscription) {
        allowed if spec.over_subscription > 0 && thin > allowed => Some(format!(
            "pool {pool} would have promised {thin} bytes to thin volumes, of {allowed} that its \
             over-subscription of {} % allows",
            spec.over_subscription
        )),
        _ => None,
    }
}

/// What a pool can promise at most; nothing while that is not known.
pub(super) fn most(entry: &PoolEntry) -> u64 {
    let capacity = entry.record.capacity;
    capacity.map_or(0, |capacity| usable(entry, capacity))
}

fn usable(entry: &PoolEntry, capacity: u64) -> u64 {
    capacity - percent(capacity, entry.record.spec.reserved)
}

fn percent(of: u64, percent: u32) -> u64 {
    let part = u128::from(of) * u128::from(percent) / 100;
    u64::try_from(part).unwrap_or(u64::MAX)
}
