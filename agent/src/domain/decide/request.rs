//! Request records: what makes a call safe to repeat.

use ashlar_protocol::{ObjectKind, ObjectRef, Problem, ProblemCode};

use super::{Facts, refuse};
use crate::domain::change::{Decision, Edit, Reply};
use crate::domain::command::RequestContext;
use crate::domain::intent::Intent;
use crate::domain::record::{Key, RequestRecord, Unit};

/// How many requests are remembered; the oldest go first, but for those under way.
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

/// Room for one more. A request under way stays, so that it is never done twice and can be
/// watched to its end; looking past it costs little, and few are under way for long.
pub(super) fn evictions(intent: &Intent, facts: &Facts<'_>) -> impl Iterator<Item = Edit> {
    let excess = (intent.requests().len() + 1).saturating_sub(KEPT_REQUESTS);
    let ended = intent
        .requests_by_age()
        .filter(|(_, record)| !record.works() && (facts.ended)(record));
    ended
        .take(excess)
        .flat_map(|(id, _)| [Key::Request(id), Key::Answer(id)].map(Edit::Remove))
}

pub(super) fn record(
    reply: &Reply,
    unit: Option<Unit>,
    generation: u64,
    facts: &Facts<'_>,
) -> RequestRecord {
    RequestRecord {
        digest: facts.request.digest,
        subject: facts.request.subject.clone(),
        operation: reply.operation,
        object: reply.object,
        unit,
        made: reply.made,
        generation,
        accepted: facts.now,
        failed: None,
        work: None,
    }
}
