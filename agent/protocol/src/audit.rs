//! Audit: who asked for what, and what came of it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::Sha256;
use crate::problem::ProblemCode;
use crate::role::Role;
use crate::route::Operation;

/// How many calls are kept; the oldest go first.
pub const KEPT_CALLS: usize = 10_000;

/// A call that changes something, reads what a volume holds, or was refused for want of a role.
/// Nothing of its body or its answer is in here, so no secret can be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    /// Counts the calls that are kept, from 1. Where a number is missing, a record was lost.
    pub id: u64,
    /// When it ended.
    pub time: u64,
    /// Its request id.
    pub request: Uuid,
    /// Who asked: the subject of the certificate.
    pub subject: String,
    /// The SHA-256 of the certificate's key (DER SubjectPublicKeyInfo), by which it is denied;
    /// absent of who has shown none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_sha256: Option<Sha256>,
    /// What the certificate allows, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// From where, as `ADDRESS:PORT`.
    pub from: String,
    /// What was asked for, if the box knows such a thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// The object that the path names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<Uuid>,
    /// The HTTP status of the answer; absent when the caller left before there was one. What it
    /// asked for may have been done all the same, or go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it was refused or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ProblemCode>,
    /// How long it took until the answer began, in milliseconds.
    pub ms: u64,
}
