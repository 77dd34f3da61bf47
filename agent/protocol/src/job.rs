//! Jobs: changes under way.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::problem::Problem;
use crate::route::Operation;

/// A change. Every changing request is one; its id is the request id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The request id, the client's or one made for it.
    pub id: Uuid,
    /// What was asked.
    pub operation: Operation,
    /// What it changes.
    pub object: ObjectRef,
    /// How far it is.
    pub state: JobState,
    /// Why it failed, or what it is still being tried against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// When it was accepted.
    pub created: u64,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// Accepted and durable; the kernel does not have all of it yet.
    Running,
    /// Done.
    Succeeded,
    /// Given up and withdrawn; `problem` says why.
    Failed,
}

/// An object by kind and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its id.
    pub id: Uuid,
}

/// Kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// A pool.
    Pool,
    /// A volume.
    Volume,
    /// A host.
    Host,
    /// A connection.
    Connection,
    /// A job.
    Job,
}

impl std::fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            ObjectKind::Pool => "pool",
            ObjectKind::Volume => "volume",
            ObjectKind::Host => "host",
            ObjectKind::Connection => "connection",
            ObjectKind::Job => "job",
        };
        write!(f, "{kind} {}", self.id)
    }
}
