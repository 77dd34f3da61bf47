//! Rules for the volumes that jobs make for themselves.
//!
//! ```text
//! a job begins ──► Creating ──► Present ── the job ends, or its process ──► Deleting ──► forgotten
//! ```
//!
//! One is made with the job's own record and given back with its end, so none outlives its job,
//! whatever cuts that short.

use std::collections::BTreeSet;

use ashlar_protocol::{Labels, Name, ObjectRef, Problem, Provisioning};
use uuid::Uuid;

use super::room::{Promise, check_fill, check_room};
use super::{Facts, check_online, kernel_away, taken, thin, volume};
use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::record::{Purpose, Record, Unit, VolumePhase, VolumeRecord};

/// A volume that a job needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scratch {
    /// Its id, which nobody else is told.
    pub id: Uuid,
    /// Where it is to be.
    pub pool: Uuid,
    /// Bytes that it is to hold.
    pub size: u64,
}

/// Makes a volume for the job that is beginning, which is on `object`.
///
/// # Errors
/// When its pool is not there or has no room for it.
pub fn create(
    intent: &Intent,
    object: ObjectRef,
    scratch: &Scratch,
    generation: u64,
    facts: &Facts<'_>,
) -> Result<Vec<Edit>, Problem> {
    let Scratch { id, pool, size } = *scratch;
    let unit = Unit::Volume(id);
    if intent.volume(id).is_some() || intent.snapshot(id).is_some() {
        return Err(taken(unit.object().kind, id));
    }
    let size = volume::rounded(object, size)?;
    let promise = Promise {
        pool,
        provisioning: Provisioning::Thin,
        more: size,
        size,
    };
    check_room(intent, object, &promise)?;
    check_fill(intent, object, pool, facts)?;
    check_online(object, pool, facts)?;
    if !facts.kernel {
        return Err(kernel_away(object));
    }
    let (thin_id, counter) = thin::next_thin(intent, object, pool, facts)?;
    let record = VolumeRecord {
        name: name(),
        pool,
        thin_id,
        size,
        phase: VolumePhase::Creating,
        growth: Vec::new(),
        created: facts.now,
        generation,
        labels: Labels::default(),
        parent: None,
        family: None,
        origin: None,
        retired: BTreeSet::new(),
        moving: None,
        owner: None,
        group: None,
        qos: None,
        provisioning: Provisioning::Thin,
        purpose: Some(Purpose::Scratch(facts.request.id)),
    };
    Ok(vec![counter, Edit::put(Record::Volume(id, record))])
}

fn name() -> Name {
    "scratch".parse().expect("it is a name")
}

/// What those jobs made goes.
pub(super) fn given_back(intent: &Intent, jobs: &[Uuid]) -> Vec<Edit> {
    let generation = intent.generation() + 1;
    let made = jobs.iter().flat_map(|job| intent.volumes_of_job(*job));
    let mut edits: Vec<_> = made
        .filter(|(_, entry)| entry.record.phase != VolumePhase::Deleting)
        .map(|(id, entry)| {
            let record = VolumeRecord {
                phase: VolumePhase::Deleting,
                origin: None,
                generation,
                ..entry.record.clone()
            };
            Edit::put(Record::Volume(id, record))
        })
        .collect();
    if !edits.is_empty() {
        edits.push(Edit::put(Record::Clock(generation)));
    }
    edits
}
