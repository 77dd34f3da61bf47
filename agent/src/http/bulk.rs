//! Many changes in one request. Each is what it would be on its own: routed, allowed or not,
//! decided, answered. They run at once, so those that meet in the store share its fsyncs.

use std::sync::Arc;

use ashlar_protocol::bulk::{BulkAnswer, BulkItem, BulkReply, BulkSpec, MAX_ITEMS};
use ashlar_protocol::{Operation, Problem, ProblemCode, Role};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::body::decode;
use super::exchange::digest;
use super::operations::{self, Call};
use super::reply::Reply;
use super::{query, routing};
use crate::audit::{Asked, Call as Record, Caller};
use crate::engine::{Engine, RequestContext};

pub(super) async fn perform(
    engine: &Engine,
    call: &Call,
    role: Role,
    caller: &Arc<Caller>,
) -> Result<Reply, Problem> {
    let BulkSpec { items } = decode(&call.body)?;
    if !(1..=MAX_ITEMS).contains(&items.len()) {
        let detail = format!("items: 1 to {MAX_ITEMS} are taken, not {}", items.len());
        return Err(Problem::new(ProblemCode::InvalidField, detail));
    }
    let mut answers: Vec<Option<BulkAnswer>> = items.iter().map(|_| None).collect();
    let mut under_way = JoinSet::new();
    for (index, item) in items.into_iter().enumerate() {
        let (engine, caller) = (engine.clone(), Arc::clone(caller));
        let (asked, id) = (asked(&item), request_id(call.context.id, index));
        let part = part(call, role, id, item);
        under_way.spawn(async move {
            let record = Record::begin(engine.audit(), &caller, id, asked);
            let outcome = match part {
                Ok(part) => operations::perform(&engine, part).await,
                Err(problem) => Err(problem),
            };
            let (reply, code) = match outcome {
                Ok(reply) => (reply, None),
                Err(problem) => (Reply::problem(&problem), Some(problem.code)),
            };
            record.end(reply.status.as_u16(), code).await;
            (index, answer(reply).await)
        });
    }
    while let Some(done) = under_way.join_next().await {
        let (index, answer) = done.map_err(|error| internal(&error))?;
        answers[index] = Some(answer?);
    }
    let items = answers.into_iter().flatten().collect();
    Reply::ok(&BulkReply { items })
}

/// What an item asks for, whoever may ask it.
fn asked(item: &BulkItem) -> Asked {
    let (path, _) = target(item);
    let matched = routing::find(item.method.as_str(), path, Role::Admin).ok();
    Asked {
        operation: matched.map(|matched| matched.route.operation),
        object: matched.and_then(|matched| matched.id),
        changes: true,
    }
}

fn target(item: &BulkItem) -> (&str, Option<&str>) {
    let target = item.path.as_str();
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

/// An item as a request of its own.
fn part(bulk: &Call, role: Role, id: Uuid, item: BulkItem) -> Result<Call, Problem> {
    let (path, parameters) = target(&item);
    let matched = routing::find(item.method.as_str(), path, role)?;
    let route = matched.route;
    if route.operation == Operation::BulkChange {
        let detail = "a bulk request has no place in another";
        return Err(Problem::new(ProblemCode::InvalidField, detail));
    }
    let body = match &item.body {
        Some(body) => ashlar_codec::to_vec(body).map_err(|error| internal(&error))?,
        None => Vec::new(),
    };
    let context = RequestContext {
        id,
        digest: digest(route.method, item.path.as_str(), &body),
        subject: bulk.context.subject.clone(),
    };
    Ok(Call {
        operation: route.operation,
        id: matched.id,
        query: query::parse(route.operation, parameters)?,
        body: Bytes::from(body),
        context,
        wait: bulk.wait,
        closing: bulk.closing.clone(),
    })
}

/// The request id of an item: it follows from the whole request's, so that repeating that
/// repeats each item.
fn request_id(bulk: Uuid, index: usize) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(bulk.as_bytes());
    hash.update((index as u64).to_be_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

async fn answer(reply: Reply) -> Result<BulkAnswer, Problem> {
    let (status, body) = reply.into_parts().await;
    let body = match body.is_empty() {
        true => None,
        false => {
            let limits = ashlar_codec::Limits::default();
            let value = ashlar_codec::from_slice(&body, &limits);
            Some(value.map_err(|error| internal(&error))?)
        }
    };
    Ok(BulkAnswer { status, body })
}

fn internal(error: &dyn std::error::Error) -> Problem {
    Problem::new(ProblemCode::Internal, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_has_a_request_id_that_follows_from_the_whole() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(request_id(one, 0), request_id(one, 0));
        assert_ne!(request_id(one, 0), request_id(one, 1));
        assert_ne!(request_id(one, 0), request_id(other, 0));
    }
}
