//! What follows from the kernel's answers.
//!
//! ```text
//!             settle                  settle
//! Creating ───────────► Present      Deleting, Detaching, Cutting, Withdrawn ──────► forgotten
//!    │ withdraw                         ▲
//!    └──────────────────────────────────┘   Detaching ── restore ──► Wanted
//! ```
//!
//! `settle` follows from what the kernel has and may be repeated, so its edits need not be
//! durable before anyone acts on them, but for a pool's: one in the making is withdrawn when
//! it cannot be had, one that was made never is. `withdraw` and `restore` must be durable.

use ashlar_protocol::{Operation, Problem};
use uuid::Uuid;

use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::record::{
    ConnectionPhase, ConnectionRecord, Key, PoolPhase, PoolRecord, Record, RequestRecord, Unit,
    VolumePhase, VolumeRecord,
};

/// Generations of which the kernel refused: after `applied`, up to and with `tried`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The last generation the kernel is known to have.
    pub applied: u64,
    /// The generation it was asked for.
    pub tried: u64,
}

impl Span {
    fn contains(self, generation: u64) -> bool {
        self.applied < generation && generation <= self.tried
    }
}

/// The kernel has `unit` as of `generation`. `capacity` is a pool's, in bytes.
pub fn settle(intent: &Intent, unit: Unit, generation: u64, capacity: Option<u64>) -> Vec<Edit> {
    match unit {
        Unit::Pool(id) => settle_pool(intent, id, generation, capacity),
        Unit::Volume(id) => settle_volume(intent, id, generation),
    }
}

fn settle_pool(intent: &Intent, id: Uuid, generation: u64, capacity: Option<u64>) -> Vec<Edit> {
    let Some(entry) = intent.pool(id) else {
        return Vec::new();
    };
    let pool = &entry.record;
    if pool.generation > generation {
        return Vec::new();
    }
    match pool.phase {
        PoolPhase::Withdrawn => vec![
            Edit::Remove(Key::Pool(id)),
            Edit::Remove(Key::ThinCounter(id)),
        ],
        PoolPhase::Present if capacity.is_none() || capacity == pool.capacity => Vec::new(),
        PoolPhase::Creating | PoolPhase::Present => {
            let phase = PoolPhase::Present;
            let record = PoolRecord {
                phase,
                capacity,
                ..pool.clone()
            };
            vec![Edit::put(Record::Pool(id, record))]
        }
    }
}

fn settle_volume(intent: &Intent, id: Uuid, generation: u64) -> Vec<Edit> {
    let mut edits: Vec<_> = intent
        .connections_of(id, None)
        .filter(|(_, c)| c.phase != ConnectionPhase::Wanted && c.generation <= generation)
        .map(|(connection, _)| Edit::Remove(Key::Connection(connection)))
        .collect();
    let Some(entry) = intent.volume(id) else {
        return edits;
    };
    let volume = &entry.record;
    if volume.generation <= generation {
        match volume.phase {
            VolumePhase::Creating => {
                let phase = VolumePhase::Present;
                let record = VolumeRecord {
                    phase,
                    ..volume.clone()
                };
                edits.push(Edit::put(Record::Volume(id, record)));
            }
            VolumePhase::Deleting => edits.push(Edit::Remove(Key::Volume(id))),
            VolumePhase::Present => {}
        }
    }
    edits
}

/// The kernel cannot have what was added to `unit` in `span`: it is taken back, and the
/// requests that added it have failed. Nothing to do when nothing was added.
pub fn withdraw(intent: &Intent, unit: Unit, span: Span, problem: &Problem) -> Vec<Edit> {
    let generation = intent.generation() + 1;
    let edits = match unit {
        Unit::Pool(id) => withdraw_pool(intent, id, span, generation),
        Unit::Volume(id) => withdraw_volume(intent, id, span, generation),
    };
    // No process told anyone of a pool before it was made.
    let applied = match unit {
        Unit::Pool(_) => 0,
        Unit::Volume(_) => span.applied,
    };
    let span = Span { applied, ..span };
    let operations = [
        Operation::PoolCreate,
        Operation::VolumeCreate,
        Operation::ConnectionCreate,
    ];
    concluded(intent, edits, unit, span, problem, &operations)
}

fn withdraw_pool(intent: &Intent, id: Uuid, span: Span, generation: u64) -> Vec<Edit> {
    match intent.pool(id).map(|entry| &entry.record) {
        Some(pool) if pool.phase == PoolPhase::Creating && pool.generation <= span.tried => {
            let phase = PoolPhase::Withdrawn;
            let record = PoolRecord {
                phase,
                generation,
                ..pool.clone()
            };
            vec![Edit::put(Record::Pool(id, record))]
        }
        _ => Vec::new(),
    }
}

fn withdraw_volume(intent: &Intent, id: Uuid, span: Span, generation: u64) -> Vec<Edit> {
    if let Some(volume) = intent.volume(id).map(|entry| &entry.record)
        && volume.phase == VolumePhase::Creating
        && span.contains(volume.generation)
    {
        let phase = VolumePhase::Deleting;
        let record = VolumeRecord {
            phase,
            generation,
            ..volume.clone()
        };
        return vec![Edit::put(Record::Volume(id, record))];
    }
    rephase(
        intent,
        id,
        span,
        ConnectionPhase::Wanted,
        ConnectionPhase::Cutting,
        generation,
    )
}

/// Hosts still use what `unit` was to take from them in `span`: they keep it, and the requests
/// to take it have failed. Nothing to do when nothing was to be taken.
pub fn restore(intent: &Intent, unit: Unit, span: Span, problem: &Problem) -> Vec<Edit> {
    // One that the kernel has: what comes back is nothing new that could be withdrawn.
    let generation = span.applied;
    let edits = match unit {
        Unit::Pool(_) => Vec::new(),
        Unit::Volume(id) => {
            let (from, to) = (ConnectionPhase::Detaching, ConnectionPhase::Wanted);
            rephase(intent, id, span, from, to, generation)
        }
    };
    concluded(
        intent,
        edits,
        unit,
        span,
        problem,
        &[Operation::ConnectionDelete],
    )
}

fn rephase(
    intent: &Intent,
    volume: Uuid,
    span: Span,
    from: ConnectionPhase,
    to: ConnectionPhase,
    generation: u64,
) -> Vec<Edit> {
    intent
        .connections_of(volume, None)
        .filter(|(_, c)| c.phase == from && span.contains(c.generation))
        .map(|(id, c)| {
            let record = ConnectionRecord {
                phase: to,
                generation,
                ..*c
            };
            Edit::put(Record::Connection(id, record))
        })
        .collect()
}

/// Adds what both have in common: the clock, and the requests for `operations`, which failed.
fn concluded(
    intent: &Intent,
    mut edits: Vec<Edit>,
    unit: Unit,
    span: Span,
    problem: &Problem,
    operations: &[Operation],
) -> Vec<Edit> {
    if edits.is_empty() {
        return edits;
    }
    edits.push(Edit::put(Record::Clock(intent.generation() + 1)));
    let failed = Some(Box::new(problem.clone()));
    edits.extend(
        intent
            .requests_between(span.applied, span.tried)
            .filter(|(_, request)| request.unit == Some(unit) && request.failed.is_none())
            .filter(|(_, request)| operations.contains(&request.operation))
            .map(|(id, request)| {
                let record = RequestRecord {
                    failed: failed.clone(),
                    ..request.clone()
                };
                Edit::put(Record::Request(id, record))
            }),
    );
    edits
}

#[cfg(test)]
mod tests;
