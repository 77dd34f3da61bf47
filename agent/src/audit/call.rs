//! A call, from when it comes until it has its answer or nobody waits for one.

use std::net::SocketAddr;
use std::time::Instant;

use ashlar_protocol::{AuditRecord, Method, Operation, ProblemCode, Role, Sha256};
use tracing::info;
use uuid::Uuid;

use super::Audit;
use crate::clock::now;
use crate::telemetry::messages;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The subject of its certificate.
    pub subject: String,
    /// The SHA-256 of its key, if it has shown a certificate.
    pub key_sha256: Option<Sha256>,
    /// What it may do, if anything.
    pub role: Option<Role>,
    /// From where.
    pub from: SocketAddr,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// If the table of routes has it.
    pub operation: Option<Operation>,
    /// The object that the path names.
    pub object: Option<Uuid>,
    /// Whether its method is for changes.
    pub changes: bool,
}

impl Asked {
    /// What a stranger may ask for.
    pub fn claim() -> Asked {
        Asked {
            operation: Some(Operation::IdentityClaim),
            object: None,
            changes: true,
        }
    }

    /// Whether it leaves a trace however it ends: it changes something, or reads what a volume holds.
    fn leaves_a_trace(self) -> bool {
        self.operation.map_or(self.changes, |operation| {
            let route = operation.route();
            route.method != Method::Get || route.path.ends_with("/data")
        })
    }
}

/// A call under way. One that is dropped, because its caller has left, is recorded without an answer.
pub struct Call {
    audit: Audit,
    start: Instant,
    /// Whether it is recorded however it ends.
    traced: bool,
    /// Whether its caller may have anything written.
    heard: bool,
    /// None once it is recorded.
    record: Option<AuditRecord>,
}

impl Call {
    /// Begins the record of a call.
    pub fn begin(audit: &Audit, caller: &Caller, request: Uuid, asked: Asked) -> Call {
        let record = AuditRecord {
            id: 0,
            time: 0,
            request,
            subject: caller.subject.clone(),
            key_sha256: caller.key_sha256.clone(),
            role: caller.role,
            from: caller.from.to_string(),
            operation: asked.operation,
            object: asked.object,
            status: None,
            code: None,
            ms: 0,
        };
        Call {
            audit: audit.clone(),
            start: Instant::now(),
            traced: asked.leaves_a_trace(),
            // Strangers must not be able to fill the trail.
            heard: caller.key_sha256.is_some(),
            record: Some(record),
        }
    }

    /// Of a stranger who has shown what entitles him to a change.
    #[must_use]
    pub fn heard(mut self) -> Call {
        self.heard = true;
        self
    }

    /// Records how it was answered, if that is to be recorded. Returns when it is written.
    pub async fn end(mut self, status: u16, code: Option<ProblemCode>) {
        let Some(mut record) = self.record.take() else {
            return;
        };
        (record.status, record.code) = (Some(status), code);
        let refused = matches!(code, Some(ProblemCode::Forbidden | ProblemCode::NoRole));
        if !self.heard || !(self.traced || refused) || !self.audit.has_room_for(&record) {
            return;
        }
        let (audit, record) = (self.audit.clone(), ended(record, self.start));
        // Its caller may leave meanwhile.
        let written = tokio::spawn(async move { audit.write(record).await });
        drop(written.await);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Some(record) = self.record.take() else {
            return;
        };
        if !self.traced || !self.heard {
            return;
        }
        let record = ended(record, self.start);
        let audit = self.audit.clone();
        // Without a runtime the agent has ended, and has told the journal.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { audit.write(record).await });
        }
    }
}

/// A record that is complete but for its number, told to the journal.
fn ended(mut record: AuditRecord, start: Instant) -> AuditRecord {
    record.time = now();
    record.ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let AuditRecord {
        request,
        subject,
        from,
        ms,
        ..
    } = &record;
    let operation = shown(record.operation);
    let object = shown(record.object);
    let role = shown(record.role);
    let key = shown(record.key_sha256.as_ref());
    let code = shown(record.code);
    let status = shown(record.status);
    info!(MESSAGE_ID = messages::CALL.id(), %request, subject, from, role, key, operation, object,
        status, code, ms, "{operation} of {subject} was answered {status}");
    record
}

/// Journal fields are always there, so that they can be named in the catalog.
fn shown(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
