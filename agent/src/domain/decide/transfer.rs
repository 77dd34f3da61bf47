//! Rules for giving volumes to others.

use ashlar_protocol::{Problem, ProblemCode, TransferSpec};
use uuid::Uuid;

use super::volume::{check_present, find};
use super::{Verdict, connection, connections, refuse};
use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::record::{Record, Unit, VolumeRecord};

/// Notes a volume's new owner and takes it from every host: whoever has it next brings hosts and
/// secrets of their own. Its snapshots go with it, so they are to be detached before.
pub(super) fn volume(
    intent: &Intent,
    id: Uuid,
    spec: &TransferSpec,
    generation: u64,
) -> Result<Verdict, Problem> {
    let unit = Unit::Volume(id);
    let entry = find(intent, id)?;
    check_present(id, entry)?;
    if entry.connections > 0 && !spec.interrupt {
        let detail = format!(
            "{} has {}, and interrupt is not true",
            unit.object(),
            connections(entry.connections)
        );
        return Err(refuse(ProblemCode::InUse, unit.object(), detail));
    }
    // Through them the hosts of whoever had it would still read what was in it.
    for (snapshot, _) in intent.snapshots_of(id, None) {
        connection::check_unconnected(intent, snapshot)?;
    }
    let (mut edits, unit) = match connection::delete_all(intent, id, generation)? {
        Verdict::Already(unit) => (Vec::new(), unit),
        Verdict::Underway(unit) => (Vec::new(), Some(unit)),
        Verdict::Changed(edits, unit) => (edits, unit),
    };
    if entry.record.owner.as_ref() != Some(&spec.owner) {
        let record = VolumeRecord {
            owner: Some(spec.owner.clone()),
            generation,
            ..entry.record.clone()
        };
        edits.insert(0, Edit::put(Record::Volume(id, record)));
    }
    Ok(match (edits.is_empty(), unit) {
        (true, Some(unit)) => Verdict::Underway(unit),
        (true, None) => Verdict::Already(None),
        (false, unit) => Verdict::Changed(edits, unit),
    })
}
