//! One request and its answer.

use std::time::Instant;

use ashlar_protocol::{Method, Operation, Problem, ProblemCode, Role};
use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::http::request::Parts;
use hyper::{Request, Response};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::connection::Standing;
use super::data::Transfer;
use super::headers::Form;
use super::listener::Shared;
use super::operations::{self, Call};
use super::reply::{Body, Reply};
use super::{body, bulk, data, headers, identity, query, routing, support};
use crate::audit::{Asked, Call as Record};
use crate::data::Shape;
use crate::engine::RequestContext;
use crate::identity::not_let_in;
use crate::tls::Peer;

/// Answers a request. Every answer carries a request id, the client's or one made for it.
pub(super) async fn answer(
    shared: &Shared,
    (peer, standing): (&Peer, &Standing),
    closing: &CancellationToken,
    request: Request<Incoming>,
) -> Response<Body> {
    let start = Instant::now();
    let (id, outcome) = match headers::request_id(request.headers()) {
        Ok(id) => (id, Ok(())),
        Err(problem) => (Uuid::new_v4(), Err(problem)),
    };
    let (asked, call) = record(shared, standing, &request, id);
    let peer = (peer, standing);
    let outcome = match outcome {
        Ok(()) => admit(shared, peer, closing, request, id).await,
        Err(problem) => Err(problem),
    };
    let (reply, code) = match outcome {
        Ok(reply) => (reply, None),
        Err(problem) => {
            log_problem(id, peer.0, asked.operation, &problem);
            (Reply::problem(&problem), Some(problem.code))
        }
    };
    let (status, ms) = (reply.status.as_u16(), start.elapsed().as_millis() as u64);
    debug!(request = %id, subject = peer.0.subject, operation = ?asked.operation, status, ms, "answered");
    call.end(status, code).await;
    reply.into_response(id)
}

/// Answers a request of somebody who is not let in any more, on a connection that is to end.
pub(super) async fn shut_out(
    shared: &Shared,
    (peer, standing): (&Peer, &Standing),
    request: &Request<Incoming>,
) -> Response<Body> {
    let id = headers::request_id(request.headers()).unwrap_or_else(|_| Uuid::new_v4());
    let (asked, call) = record(shared, standing, request, id);
    let problem = not_let_in();
    log_problem(id, peer, asked.operation, &problem);
    let reply = Reply::problem(&problem);
    call.end(reply.status.as_u16(), Some(problem.code)).await;
    reply.into_response(id)
}

/// What is asked, whoever may ask it, and the record of that.
fn record(
    shared: &Shared,
    standing: &Standing,
    request: &Request<Incoming>,
    id: Uuid,
) -> (Asked, Record) {
    let method = request.method().as_str();
    let matched = routing::find(method, request.uri().path(), Role::Admin).ok();
    let asked = Asked {
        operation: matched.map(|matched| matched.route.operation),
        object: matched.and_then(|matched| matched.id),
        changes: method != Method::Get.as_str(),
    };
    let record = Record::begin(shared.engine.audit(), &standing.caller, id, asked);
    (asked, record)
}

/// Finds out whether it is allowed, then does it.
async fn admit(
    shared: &Shared,
    (peer, standing): (&Peer, &Standing),
    closing: &CancellationToken,
    request: Request<Incoming>,
    id: Uuid,
) -> Result<Reply, Problem> {
    let found = permitted(peer, request.method().as_str(), request.uri().path())?;
    let peer = (peer, standing);
    perform(shared, peer, closing, request, id, found).await
}

/// What is asked, and as what role.
fn permitted(peer: &Peer, method: &str, path: &str) -> Result<(routing::Matched, Role), Problem> {
    let error = match &peer.role {
        Ok(role) => return Ok((routing::find(method, path, *role)?, *role)),
        Err(error) => error,
    };
    let none = || Problem::new(ProblemCode::NoRole, error.to_string());
    if peer.is_stranger() {
        let matched = routing::find(method, path, Role::Admin).map_err(|_| none())?;
        if identity::is_for_strangers(matched.route.operation) {
            return Ok((matched, Role::Reader));
        }
    }
    Err(none())
}

async fn perform(
    shared: &Shared,
    (peer, standing): (&Peer, &Standing),
    closing: &CancellationToken,
    request: Request<Incoming>,
    id: Uuid,
    (matched, role): (routing::Matched, Role),
) -> Result<Reply, Problem> {
    let (parts, mut incoming) = request.into_parts();
    let operation = matched.route.operation;
    let form = headers::answers(&parts.headers, operation)?;
    let query = query::parse(operation, parts.uri.query())?;
    let wait = headers::wait(&parts.headers)?;
    let waits = form == Form::Sequence || !query.wait.is_zero();
    if data::moves(operation) {
        let shape = match operation {
            Operation::VolumeImport => {
                let shape = data::shape(&parts.headers, &query);
                if shape.is_err() {
                    data::waste(&mut incoming).await;
                }
                Some(shape?)
            }
            Operation::FirmwareInstall => {
                let checked = data::check_bundle(&parts.headers);
                if checked.is_err() {
                    data::waste(&mut incoming).await;
                }
                checked?;
                None
            }
            _ => None,
        };
        let media = shape.map_or("", Shape::media_type);
        let transfer = Transfer {
            operation,
            id: matched.id.unwrap_or_default(),
            query,
            context: RequestContext {
                id,
                // The body is not there yet; what it is goes for it.
                digest: digest(matched.route.method, target(&parts), media.as_bytes()),
                subject: peer.subject.clone(),
            },
            closing: closing.clone(),
            permit: shared.turns.transfer()?,
        };
        return match shape {
            None if operation == Operation::FirmwareInstall => {
                data::install(&shared.engine, transfer, incoming).await
            }
            Some(shape) => data::import(&shared.engine, transfer, shape, incoming).await,
            None => data::export(&shared.engine, transfer).await,
        };
    }
    let permit = shared.turns.take(role, waits)?;
    let body = match matched.route.method {
        Method::Put | Method::Post => {
            headers::check_content_type(&parts.headers)?;
            body::read(incoming, shared.listen.request_timeout).await?
        }
        Method::Get | Method::Delete if incoming.is_end_stream() => Bytes::new(),
        Method::Get | Method::Delete => {
            return Err(Problem::new(
                ProblemCode::MalformedRequest,
                format!("{} takes no body", matched.route.method.as_str()),
            ));
        }
    };
    let context = RequestContext {
        id,
        digest: digest(matched.route.method, target(&parts), &body),
        subject: peer.subject.clone(),
    };
    let call = Call {
        operation,
        id: matched.id,
        query,
        body,
        context,
        wait,
        closing: closing.clone(),
    };
    // A body may have taken its time, and a change must not come behind what has shut its bearer out:
    // whoever seals or resets the box waits until nothing else is changed, and lets nobody in then.
    let alone = matches!(
        operation,
        Operation::IdentitySeal | Operation::IdentityReset
    );
    let changes = matched.route.method != Method::Get && !alone;
    let _under_way = match changes {
        true => Some(shared.sealing.read().await),
        false => None,
    };
    if !standing.is_in() {
        return Err(not_let_in());
    }
    if form == Form::Sequence {
        return operations::stream(&shared.engine, &call, permit);
    }
    let reply = match operation {
        Operation::BulkChange => bulk::perform(&shared.engine, &call, role, &standing.caller).await,
        Operation::SupportBundle => support::perform(shared, &call),
        operation if identity::is_of(operation) => {
            identity::perform(shared, call, (peer, standing)).await
        }
        _ => operations::perform(&shared.engine, call).await,
    };
    drop(permit);
    reply
}

fn target(parts: &Parts) -> &str {
    let target = parts.uri.path_and_query();
    target.map_or("/", |target| target.as_str())
}

/// What makes two requests under one id the same: method, path with query, and body. The
/// lengths keep one from flowing into the next.
pub(super) fn digest(method: Method, target: &str, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [method.as_str().as_bytes(), target.as_bytes(), body] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn log_problem(id: Uuid, peer: &Peer, operation: Option<Operation>, problem: &Problem) {
    let subject = &peer.subject;
    if problem.code.status() >= 500 {
        warn!(request = %id, subject, ?operation, %problem, "failed");
    } else if peer.is_stranger() {
        // Strangers must not be able to fill the log.
        debug!(request = %id, subject, ?operation, %problem, "refused");
    } else {
        info!(request = %id, subject, ?operation, %problem, "refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_covers_method_path_and_body() {
        let one = digest(Method::Put, "/v1/volumes/a", b"x");
        assert_eq!(one, digest(Method::Put, "/v1/volumes/a", b"x"));
        for other in [
            digest(Method::Post, "/v1/volumes/a", b"x"),
            digest(Method::Put, "/v1/volumes/b", b"x"),
            digest(Method::Put, "/v1/volumes/a", b"y"),
            digest(Method::Put, "/v1/volumes/ax", b""),
        ] {
            assert_ne!(one, other);
        }
    }
}
