//! The management port.
//!
//! ```text
//! listener ─ gate ─ TLS handshake ─ connection ─┬─ exchange ─┬─ headers, query, body
//!  accept    caps    peer, role      HTTP/1.1    │            ├─ routing: path, method, role
//!                                    or HTTP/2   │            ├─ operations ─ Engine
//!                                                └─ …         └─ reply: CBOR or a problem
//! ```
//!
//! One task per connection, one future per request in it. The table of routes is
//! [`ashlar_protocol::ROUTES`]; nothing else decides what a path means or who may use it.

mod body;
mod connection;
mod exchange;
mod gate;
mod headers;
mod listener;
mod operations;
mod query;
mod reply;
mod routing;

pub use listener::{BindError, Server};
