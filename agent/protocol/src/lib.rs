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
//! | [`firmware`]   | which firmware it runs, and updates of it |
//! | [`identity`]   | who the box is, whose it is, whom it lets in |
//! | [`pool`]       | pools on disks |
//! | [`redundancy`] | their disks that stand in for each other |
//! | [`volume`]     | volumes in pools |
//! | [`snapshot`]   | volumes as they were at an instant |
//! | [`qos`]        | how much a volume may do |
//! | [`statistics`] | what volumes and pools have done |
//! | [`thin`]       | what of their pool they take, and thin devices |
//! | [`group`]      | groups of volumes, and snapshots of all their members |
//! | [`host`]       | who may reach volumes, with their secrets |
//! | [`connection`] | a volume reachable by a host over a transport |
//! | [`portal`]     | the addresses at which volumes are served |
//! | [`job`]        | changes under way |
//! | [`bulk`]       | many changes in one request |
//! | [`event`]      | what happened, in order |
//! | [`audit`]      | who asked for what, and what came of it |
//! | [`problem`]    | errors |
//! | [`route`]      | the table of routes, and the least role for each |
//! | [`role`]       | what a certificate's bearer may do |
//! | [`page`]       | lists by cursor |
//! | [`labels`]     | what is noted beside an object |
//!
//! Ids are UUIDs chosen by the client, 16-byte strings in CBOR. Sizes are bytes.
//! Times are seconds since 1970-01-01 UTC. Unknown fields are refused.

pub mod audit;
pub mod bulk;
pub mod connection;
pub mod event;
pub mod firmware;
pub mod group;
pub mod host;
pub mod identity;
pub mod job;
pub mod labels;
pub mod name;
pub mod page;
pub mod pool;
pub mod portal;
pub mod problem;
pub mod qos;
pub mod redundancy;
pub mod role;
pub mod route;
pub mod snapshot;
pub mod statistics;
pub mod support;
pub mod system;
pub mod thin;
pub mod volume;

/// Names, numbers, states and secrets shared with targetd's protocol.
pub use ashlar_targetd_protocol::{
    ChapCredentials, ChapName, ChapSecret, DhGroup, DhHash, DhchapExchange, DhchapKey, DiskId,
    FcPort, Iqn, Lun, MemberState, NameError, Nqn, Nsid, PortalAddr, RaidLevel, SecretError,
    SetAction, ThinId, Transport, Wwn,
};
pub use audit::{AuditRecord, KEPT_CALLS};
pub use bulk::{BulkAnswer, BulkItem, BulkMethod, BulkPath, BulkReply, BulkSpec};
pub use connection::{
    Access, Connected, Connection, ConnectionSpec, ConnectionState, FcAccess, IscsiAccess,
    NotConnected, NvmeAccess,
};
pub use event::{Event, EventKind, KEPT_EVENTS, NotAKind};
pub use firmware::{ActivateSpec, Firmware, FirmwareSlot, NoSlot, RestartSpec, SlotName};
pub use group::{
    Group, GroupSnapshot, GroupSnapshotSpec, GroupSnapshotUpdate, GroupSource, GroupSpec,
    GroupState, GroupUpdate, MemberCopy, MemberSnapshot,
};
pub use host::{Authentication, Host, HostCreated, HostRotation, HostSecrets, HostSpec};
pub use identity::{
    Certificate, ClaimSecret, ClaimSpec, Identity, InstallSpec, Pem, Phase, RequestSpec, ResetSpec,
    RevocationList, SealSpec, Serial, ServerName, SigningRequest, Trust, TrustUpdate, TrustUpdated,
};
pub use job::{Job, JobResult, JobState, ObjectKind, ObjectRef, Progress, Sha256};
pub use labels::Labels;
pub use name::Name;
pub use page::Page;
pub use pool::{
    ImportSpec, Pool, PoolGrowth, PoolLevel, PoolSpec, PoolState, PoolUpdate, SCRUB_DAYS,
    Watermarks,
};
pub use portal::{Portal, PortalSpec, PortalState};
pub use problem::{Problem, ProblemCode};
pub use qos::Qos;
pub use redundancy::{
    Member, PoolSet, Redundancy, ReplaceSpec, Replacement, ScrubMode, ScrubSpec, Scrubbed,
};
pub use role::{ROLE_URI_PREFIX, Role, UnknownRole};
pub use route::{Method, Operation, ROUTES, Route};
pub use snapshot::{AdoptSnapshotSpec, Snapshot, SnapshotSpec, SnapshotState, SnapshotUpdate};
pub use statistics::{IoCounters, IoTotals, PoolStatistics, VolumeStatistics};
pub use support::SupportSpec;
pub use system::{
    Capabilities, Check, Disk, FreezeSpec, Frozen, Health, HealthStatus, System, ThawSpec,
};
pub use thin::{Extent, ExtentKind, ThinDevice, Unadoptable, Usage};
pub use volume::{
    AdoptSpec, Clear, ExtendSpec, MoveSpec, Parent, Provisioning, ReleaseSpec, RevertSpec,
    TransferSpec, Volume, VolumeSpec, VolumeState, VolumeUpdate,
};

/// Media type of bodies.
pub const MEDIA_TYPE: &str = "application/cbor";

/// Media type of streams: CBOR items one after the other (RFC 8742).
pub const SEQUENCE_MEDIA_TYPE: &str = "application/cbor-seq";

/// Media type of errors.
pub const PROBLEM_MEDIA_TYPE: &str = "application/concise-problem-details+cbor";

/// Request header holding a UUID that makes any call repeatable: the same id with the same
/// method, path and body gets the same answer; with another body it is a conflict.
pub const REQUEST_ID_HEADER: &str = "ashlar-request-id";

/// Largest request body, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// Deepest nesting in a request body.
pub const MAX_DEPTH: usize = 8;
