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
    /// How far long work is; absent for what the kernel does in one go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What long work came to, once it has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<JobResult>,
    /// When it was accepted.
    pub created: u64,
}

/// How far long work is, in bytes of the object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Done; where to go on after a break.
    pub done: u64,
    /// Of so many; absent while it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// What long work came to. Which of these there are depends on the operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobResult {
    /// Bytes written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<u64>,
    /// Bytes made to read as zeros without being written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zeroed: Option<u64>,
    /// Bytes that were to be cleared and could not be, because others have them or had them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<u64>,
    /// SHA-256 of what was transferred, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
}

/// A SHA-256 in lower-case hexadecimal, as sha256sum prints it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(String);

impl Sha256 {
    /// The digest itself.
    pub fn bytes(&self) -> [u8; 32] {
        let digit = |at: usize| match self.0.as_bytes()[at] {
            letter @ b'a'..=b'f' => letter - b'a' + 10,
            number => number - b'0',
        };
        std::array::from_fn(|at| digit(2 * at) << 4 | digit(2 * at + 1))
    }
}

impl From<[u8; 32]> for Sha256 {
    fn from(digest: [u8; 32]) -> Sha256 {
        Sha256(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> String {
        digest.0
    }
}

impl TryFrom<String> for Sha256 {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Sha256, Self::Error> {
        let plain = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        match text.len() == 64 && text.bytes().all(plain) {
            true => Ok(Sha256(text)),
            false => Err("a SHA-256 is 64 hexadecimal digits in lower case"),
        }
    }
}

impl std::fmt::Display for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
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
    /// Given up because a client said so, and withdrawn.
    Cancelled,
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
    /// A snapshot.
    Snapshot,
    /// A group.
    Group,
    /// A group snapshot.
    GroupSnapshot,
    /// A portal.
    Portal,
    /// A host.
    Host,
    /// A connection.
    Connection,
    /// A job.
    Job,
    /// The box itself.
    System,
}

impl std::fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The derived kebab-case name is the one on the wire.
        self.serialize(f)
    }
}

impl std::fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            ObjectKind::Pool => "pool",
            ObjectKind::Volume => "volume",
            ObjectKind::Snapshot => "snapshot",
            ObjectKind::Group => "group",
            ObjectKind::GroupSnapshot => "group-snapshot",
            ObjectKind::Portal => "portal",
            ObjectKind::Host => "host",
            ObjectKind::Connection => "connection",
            ObjectKind::Job => "job",
            ObjectKind::System => "box",
        };
        write!(f, "{kind} {}", self.id)
    }
}
