//! The management port.
//!
//! ```text
//! listener ─ gate ─ TLS handshake ─ connection ─┬─ exchange ─┬─ headers, query, body
//!  accept    caps    peer, role      HTTP/1.1    │            ├─ routing: path, method, role
//!                                    or HTTP/2   │            ├─ operations ─ Engine
//!                                                │            ├─ identity ─ Identity
//!                                                │            ├─ support ─ what is gathered for helpers
//!                                                └─ …         └─ reply: CBOR or a problem
//! ```
//!
//! One task per connection, one future per request in it. The table of routes is
//! [`ashlar_protocol::ROUTES`]; nothing else decides what a path means or who may use it.

mod body;
mod bulk;
mod connection;
mod data;
mod exchange;
mod gate;
mod headers;
mod identity;
mod listener;
mod operations;
mod query;
mod reply;
mod routing;
mod sequence;
mod support;
mod turns;

pub use listener::{BindError, Server};

use ashlar_protocol::{Operation, Problem, Role};
use hyper::http::request::Parts;
use uuid::Uuid;

/// What the head of a request asks for, and the id in its path. All that is decided before the
/// body is read, in one call without a connection, for throwing anything at it.
#[doc(hidden)]
pub fn understand(head: &Parts, role: Role) -> Result<(Operation, Option<Uuid>), Problem> {
    headers::request_id(&head.headers)?;
    let matched = routing::find(head.method.as_str(), head.uri.path(), role)?;
    headers::answers(&head.headers, matched.route.operation)?;
    let query = query::parse(matched.route.operation, head.uri.query())?;
    headers::wait(&head.headers)?;
    match matched.route.operation {
        Operation::VolumeImport => drop(data::shape(&head.headers, &query)?),
        Operation::FirmwareInstall => data::check_bundle(&head.headers)?,
        operation if data::moves(operation) => {}
        _ => headers::check_content_type(&head.headers)?,
    }
    Ok((matched.route.operation, matched.id))
}
