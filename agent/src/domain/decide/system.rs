//! Rules for the box itself.

use ashlar_protocol::{FreezeSpec, Frozen, ObjectRef, Problem, ProblemCode};

use super::{Verdict, refuse};
use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::record::{BoxRecord, Record};

/// Frozen already keeps its first reason: who froze it still relies on it.
pub(super) fn freeze(intent: &Intent, spec: &FreezeSpec, now: u64) -> Verdict {
    if intent.frozen().is_some() {
        return Verdict::Already(None);
    }
    let frozen = Frozen {
        since: now,
        reason: spec.reason.clone(),
    };
    set(intent, Some(frozen))
}

pub(super) fn thaw(intent: &Intent) -> Verdict {
    match intent.frozen() {
        Some(_) => set(intent, None),
        None => Verdict::Already(None),
    }
}

fn set(intent: &Intent, frozen: Option<Frozen>) -> Verdict {
    let Some(site) = intent.site() else {
        return Verdict::Already(None);
    };
    let record = BoxRecord {
        frozen,
        ..site.clone()
    };
    Verdict::Changed(vec![Edit::put(Record::Box(record))], None)
}

/// The answer to a change of a frozen box.
pub(super) fn refusal(object: ObjectRef, frozen: &Frozen) -> Problem {
    let detail = match &frozen.reason {
        Some(reason) => format!("{object} cannot be changed: the box is frozen ({reason})"),
        None => format!("{object} cannot be changed: the box is frozen"),
    };
    refuse(ProblemCode::Frozen, object, detail)
}
