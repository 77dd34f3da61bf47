//! Rules for long work: what is not done by the kernel in one go but by this process, bit by
//! bit, and ends with it.
//!
//! ```text
//! begin ──► Running ── end ──► Ended: succeeded, failed or cancelled
//!              └── the process ended ── interrupted ──► Ended: failed, to be asked for again
//! ```

use ashlar_protocol::{
    JobResult, Method, ObjectKind, ObjectRef, Operation, Problem, ProblemCode, Progress,
};
use uuid::Uuid;

use super::{Facts, moving, refuse, request, scratch, system};
use crate::domain::change::{Change, Decision, Edit, Reply};
use crate::domain::intent::Intent;
use crate::domain::record::{Record, RequestRecord, WorkPhase, WorkRecord};

/// Long work to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undertaking {
    /// What was asked.
    pub operation: Operation,
    /// The object it changes.
    pub object: ObjectRef,
    /// Where it begins and, if that can be told, where it ends, in bytes.
    pub progress: Progress,
}

/// Whether it is about who the box is and whom it lets in, which no freeze is to keep from being
/// changed: someone may have to be shut out just then.
fn concerns_identity(operation: Operation) -> bool {
    use Operation as Op;
    matches!(
        operation,
        Op::IdentityInstall | Op::IdentitySeal | Op::IdentityClaim | Op::TrustUpdate
    )
}

/// What beginning long work comes to. `rule` says what changes with it, given the intent and
/// the new generation.
///
/// # Errors
/// When `rule` forbids it, or the request id was used for something else.
pub fn begin(
    intent: &Intent,
    work: &Undertaking,
    rule: impl FnOnce(&Intent, u64, &Facts<'_>) -> Result<Vec<Edit>, Problem>,
    facts: &Facts<'_>,
) -> Result<Decision, Problem> {
    if let Some(known) = intent.request(facts.request.id) {
        return request::repeated(known, facts.request);
    }
    let operation = work.operation;
    let changes = operation.route().method != Method::Get && !concerns_identity(operation);
    if let Some(frozen) = intent.frozen().filter(|_| changes) {
        return Err(system::refusal(work.object, frozen));
    }
    let generation = intent.generation() + 1;
    let mut edits = rule(intent, generation, facts)?;
    let reply = Reply {
        operation: work.operation,
        object: work.object,
        made: true,
        generation,
    };
    edits.push(Edit::put(Record::Clock(generation)));
    edits.extend(request::evictions(intent, facts));
    let record = RequestRecord {
        work: Some(WorkRecord {
            phase: WorkPhase::Running,
            progress: work.progress,
            result: None,
        }),
        ..request::record(&reply, None, generation, facts)
    };
    edits.push(Edit::put(Record::Request(facts.request.id, record)));
    let change = Change {
        edits,
        generation,
        unit: None,
    };
    Ok(Decision::Change(change, reply))
}

/// Long work has ended, so far and like this, and what it had made for itself goes. Nothing to
/// do when it had already.
///
/// A volume that was on its way to another pool stays where it is. One that is there already
/// has arrived, whatever became of those who brought it.
pub fn end(
    intent: &Intent,
    id: Uuid,
    progress: Progress,
    outcome: Result<JobResult, Problem>,
) -> Vec<Edit> {
    let mut edits = ended(intent, id, progress, outcome);
    if !edits.is_empty() {
        edits.extend(scratch::given_back(intent, &[id]));
    }
    edits
}

fn ended(
    intent: &Intent,
    id: Uuid,
    progress: Progress,
    outcome: Result<JobResult, Problem>,
) -> Vec<Edit> {
    let Some(record) = intent.request(id).filter(|record| record.works()) else {
        return Vec::new();
    };
    let mut edits = Vec::new();
    let mut outcome = outcome;
    if record.operation == Operation::VolumeMove {
        let generation = intent.generation() + 1;
        match moving::given_up(intent, record.object.id, id, generation) {
            Some(edit) => {
                edits.extend([Edit::put(Record::Clock(generation)), edit]);
                outcome = outcome.map_err(|problem| stayed(id, problem));
            }
            None => outcome = outcome.or_else(|_| Ok(JobResult::default())),
        }
    }
    let (result, failed) = match outcome {
        Ok(result) => (Some(result), None),
        Err(problem) => (None, Some(Box::new(problem))),
    };
    let work = WorkRecord {
        phase: WorkPhase::Ended,
        progress,
        result,
    };
    let record = RequestRecord {
        failed,
        work: Some(work),
        ..record.clone()
    };
    edits.push(Edit::put(Record::Request(id, record)));
    edits
}

/// The process that was at it has ended, and with it all its long work and what that had made.
pub fn interrupted(intent: &Intent) -> Vec<Edit> {
    let all = intent.requests().iter();
    let left = all.filter_map(|(id, record)| match &record.work {
        Some(work) if work.phase == WorkPhase::Running => Some((*id, work.progress)),
        _ => None,
    });
    let left: Vec<_> = left.collect();
    let ended = left.iter().flat_map(|(id, progress)| {
        let operation = intent.request(*id).map(|record| record.operation);
        let problem = match operation {
            Some(Operation::FirmwareInstall) => lost_sight_of(*id),
            _ => cut_short(*id),
        };
        ended(intent, *id, *progress, Err(problem))
    });
    let jobs: Vec<_> = left.iter().map(|(id, _)| *id).collect();
    ended.chain(scratch::given_back(intent, &jobs)).collect()
}

/// Why long work that nobody is at any more has failed.
pub fn cut_short(id: Uuid) -> Problem {
    let detail = format!("job {id} was cut short; what it did until then stays");
    about(id, ProblemCode::Interrupted, detail)
}

/// What the updater is at goes on without us.
fn lost_sight_of(id: Uuid) -> Problem {
    let detail = format!(
        "job {id} was lost sight of; whether the update was installed is told by the firmware"
    );
    about(id, ProblemCode::Interrupted, detail)
}

/// What is cut short otherwise leaves what it did.
fn stayed(id: Uuid, problem: Problem) -> Problem {
    let detail = format!("job {id} was cut short; the volume stays where it was");
    match problem.code {
        ProblemCode::Interrupted => about(id, ProblemCode::Interrupted, detail),
        _ => problem,
    }
}

/// Why a job that a client cancelled has failed.
pub fn cancelled(id: Uuid) -> Problem {
    about(
        id,
        ProblemCode::Cancelled,
        format!("job {id} was cancelled"),
    )
}

fn about(id: Uuid, code: ProblemCode, detail: String) -> Problem {
    let kind = ObjectKind::Job;
    refuse(code, ObjectRef { kind, id }, detail)
}
