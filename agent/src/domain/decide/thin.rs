//! What thin devices are made of, and their ids.

use std::collections::BTreeMap;

use ashlar_protocol::{ObjectRef, Parent, Problem, ProblemCode};
use ashlar_targetd_protocol::{ThinId, ThinRef};
use uuid::Uuid;

use super::data::check_idle;
use super::snapshot::{self, check_taken};
use super::volume::{self, check_present};
use super::{Facts, kernel_away, refuse};
use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::record::{Origin, Record, ThinCounter, Unit};

/// A thin id of a pool that was never given before, and the edit by which it is given.
pub(super) fn next_thin(
    intent: &Intent,
    object: ObjectRef,
    pool: Uuid,
    facts: &Facts<'_>,
) -> Result<(ThinId, Edit), Problem> {
    check_counted(object, pool, facts)?;
    another_thin(intent, object, pool)
}

/// The same, for what goes on in a pool that was checked when it began: the counter is past all
/// that is in the pool for good.
pub(super) fn another_thin(
    intent: &Intent,
    object: ObjectRef,
    pool: Uuid,
) -> Result<(ThinId, Edit), Problem> {
    let mut counter = intent.thin_counter(pool);
    let thin_id = next(intent, object, pool, &mut counter)?;
    Ok((thin_id, Edit::put(Record::ThinCounter(pool, counter))))
}

/// While it is not known which thin ids of a pool are taken, one given may be somebody's.
pub(super) fn check_counted(
    object: ObjectRef,
    pool: Uuid,
    facts: &Facts<'_>,
) -> Result<(), Problem> {
    match (facts.uncounted)(pool) {
        Some(_) if !facts.kernel => Err(kernel_away(object)),
        Some(problem) => Err(problem.about(object)),
        None => Ok(()),
    }
}

/// Steps over those that were adopted. The counter is not raised past them at once: one large id
/// would use up all below it.
fn next(
    intent: &Intent,
    object: ObjectRef,
    pool: Uuid,
    counter: &mut ThinCounter,
) -> Result<ThinId, Problem> {
    loop {
        let thin_id = ThinId::try_from(u64::from(counter.next)).map_err(|_| {
            let detail = format!("pool {pool} has given all its thin device ids");
            refuse(ProblemCode::NoSpace, object, detail)
        })?;
        counter.next += 1;
        if intent.owner_of_thin(ThinRef { pool, thin_id }).is_none() {
            return Ok(thin_id);
        }
    }
}

/// Thin ids for several objects of one change, in whatever pools.
pub(super) struct ThinIds<'a> {
    intent: &'a Intent,
    facts: &'a Facts<'a>,
    counters: BTreeMap<Uuid, ThinCounter>,
}

impl<'a> ThinIds<'a> {
    /// None given yet.
    pub(super) fn new(intent: &'a Intent, facts: &'a Facts<'a>) -> ThinIds<'a> {
        ThinIds {
            intent,
            facts,
            counters: BTreeMap::new(),
        }
    }

    /// One that was never given before.
    pub(super) fn next(&mut self, object: ObjectRef, pool: Uuid) -> Result<ThinId, Problem> {
        check_counted(object, pool, self.facts)?;
        let counter = self.counters.entry(pool);
        let counter = counter.or_insert_with(|| self.intent.thin_counter(pool));
        next(self.intent, object, pool, counter)
    }

    /// The edits by which they are given.
    pub(super) fn edits(self) -> impl Iterator<Item = Edit> {
        let counters = self.counters.into_iter();
        counters.map(|(pool, counter)| Edit::put(Record::ThinCounter(pool, counter)))
    }
}

/// What a volume can be made of.
pub(super) struct Source {
    /// Its thin device.
    pub(super) origin: Origin,
    /// Its size in bytes.
    pub(super) size: u64,
    /// What it may share data with.
    pub(super) family: Uuid,
}

/// Looks for what `object`, in `pool`, is to be made of.
pub(super) fn source(
    intent: &Intent,
    object: ObjectRef,
    pool: Uuid,
    parent: Parent,
) -> Result<Source, Problem> {
    let (id, of, thin_id, size, family) = match parent {
        Parent::Volume(id) => {
            let entry = volume::find(intent, id)?;
            check_present(id, entry)?;
            check_idle(intent, Unit::Volume(id).object())?;
            let record = &entry.record;
            let family = record.family(id);
            (id, record.pool, record.thin_id, record.size, family)
        }
        Parent::Snapshot(id) => {
            let record = snapshot::find(intent, id)?;
            check_taken(id, record)?;
            let family = record.family();
            (id, record.pool, record.thin_id, record.size, family)
        }
    };
    if of != pool {
        let detail = format!("{object} cannot be made in pool {pool} of what is in pool {of}");
        return Err(refuse(ProblemCode::InvalidField, object, detail));
    }
    let object = id;
    Ok(Source {
        origin: Origin { object, thin_id },
        size,
        family,
    })
}
