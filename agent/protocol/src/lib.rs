//! The Ashlar management protocol, version 1: the types of every request and reply.
//!
//! HTTP (1.1 or 2) over TLS 1.3 with client certificates; bodies are CBOR
//! (`application/cbor`), errors are concise problem details
//! (`application/concise-problem-details+cbor`, RFC 9290). The contract is
//! `protocol.cddl` beside this crate; these types are its Rust side.
//!
//! | module         | resource |
//! |----------------|----------|
//! | [`system`]     | the box: identity, version, health, capabilities; its disks |
//! | [`pool`]       | pools on disks |
//! | [`volume`]     | volumes in pools |
//! | [`host`]       | who may reach volumes, with their secrets |
//! | [`connection`] | a volume reachable by a host over a transport |
//! | [`job`]        | changes under way |
//! | [`problem`]    | errors |
//! | [`route`]      | the table of routes, and the least role for each |
//! | [`role`]       | what a certificate's bearer may do |
//! | [`page`]       | lists by cursor |
//!
//! Ids are UUIDs chosen by the client, 16-byte strings in CBOR. Sizes are bytes.
//! Times are seconds since 1970-01-01 UTC. Unknown fields are refused.

pub mod connection;
pub mod host;
pub mod job;
pub mod name;
pub mod page;
pub mod pool;
pub mod problem;
pub mod role;
pub mod route;
pub mod system;
pub mod volume;

/// Names, numbers and secrets shared with targetd's protocol.
pub use ashlar_targetd_protocol::{
    ChapCredentials, ChapName, ChapSecret, DhchapKey, DiskId, Iqn, Lun, NameError, Nqn, Nsid,
    PortalAddr, SecretError, Transport,
};
pub use connection::{Connection, ConnectionSpec, ConnectionState, IscsiAccess, NvmeAccess};
pub use host::{Authentication, Host, HostCreated, HostSecrets, HostSpec};
pub use job::{Job, JobState, ObjectKind, ObjectRef};
pub use name::Name;
pub use page::Page;
pub use pool::{Pool, PoolSpec, PoolState};
pub use problem::{Problem, ProblemCode};
pub use role::{ROLE_URI_PREFIX, Role, UnknownRole};
pub use route::{Method, Operation, ROUTES, Route};
pub use system::{Capabilities, Check, Disk, Health, HealthStatus, System};
pub use volume::{ExtendSpec, Volume, VolumeSpec, VolumeState};

/// Media type of bodies.
pub const MEDIA_TYPE: &str = "application/cbor";

/// Media type of errors.
pub const PROBLEM_MEDIA_TYPE: &str = "application/concise-problem-details+cbor";

/// Request header holding a UUID that makes any call repeatable: the same id with the same
/// method, path and body gets the same answer; with another body it is a conflict.
pub const REQUEST_ID_HEADER: &str = "ashlar-request-id";

/// Largest request body, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// Deepest nesting in a request body.
pub const MAX_DEPTH: usize = 8;
