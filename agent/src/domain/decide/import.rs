//! Taking over a pool.

use ashlar_protocol::{ImportSpec, Problem, ProblemCode};
use uuid::Uuid;

use super::{Facts, Verdict, kernel_away, refuse};
use crate::domain::import;
use crate::domain::intent::Intent;
use crate::domain::record::Unit;
use crate::domain::secrets::Random;

/// A pool comes with all that its catalog has, in one change: after a power cut it is here with
/// all of it, or its disks are as they were.
pub(super) fn import(
    intent: &Intent,
    id: Uuid,
    spec: ImportSpec,
    generation: u64,
    facts: &Facts<'_>,
    random: &mut dyn Random,
) -> Result<Verdict, Problem> {
    let object = Unit::Pool(id).object();
    match intent.pool(id) {
        Some(there) if there.record.import.is_some() => {
            return Ok(Verdict::Underway(Unit::Pool(id)));
        }
        Some(_) => {
            let detail = format!("{object} is on this box already");
            return Err(refuse(ProblemCode::AlreadyExists, object, detail));
        }
        None => {}
    }
    let found = match facts.catalog {
        Some(Ok(found)) => found,
        Some(Err(problem)) => return Err(problem.clone()),
        None => return Err(kernel_away(object)),
    };
    let edits = import::import(intent, id, found, (spec.force, generation), random)?;
    Ok(Verdict::Changed(edits, Some(Unit::Pool(id))))
}
