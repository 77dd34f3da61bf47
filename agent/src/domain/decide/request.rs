//! Request records: what makes a call safe to repeat.

use ashlar_protocol::{ObjectKind, ObjectRef, Problem, ProblemCode};

use super::{Facts, refuse};
use crate::domain::change::{Decision, Edit, Reply};
use crate::domain::command::RequestContext;
use crate::domain::intent::Intent;
use crate::domain::record::{Key, Record, RequestRecord, Unit};

/// How many requests are remembered; the oldest go first.
pub const KEPT_REQUESTS: usize = 10_000;

/// The answer to a request id that was used before.
pub(super) fn repeated(
    known: &RequestRecord,
    request: &RequestContext,
) -> Result<Decision, Problem> {
    if known.digest == request.digest && known.subject == request.subject {
        return Ok(Decision::Repeat(request.id));
    }
    let job = ObjectRef {
        kind: ObjectKind::Job,
        id: request.id,
    };
    let detail = format!("request id {} was used for another request", request.id);
    Err(refuse(ProblemCode::RequestIdReused, job, detail))
}

/// Room for one more.
pub(super) fn evictions(intent: &Intent) -> impl Iterator<Item = Edit> {
    let excess = (intent.requests().len() + 1).saturating_sub(KEPT_REQUESTS);
    let oldest = intent.oldest_requests(excess);
    oldest.flat_map(|id| [Key::Request(id), Key::Answer(id)].map(Edit::Remove))
}

pub(super) fn record(
    reply: &Reply,
    unit: Option<Unit>,
    generation: u64,
    facts: &Facts<'_>,
) -> Record {
    let record = RequestRecord {
        digest: facts.request.digest,
        subject: facts.request.subject.clone(),
        operation: reply.operation,
        object: reply.object,
        unit,
        made: reply.made,
        generation,
        accepted: facts.now,
        failed: None,
    };
    Record::Request(facts.request.id, record)
}
