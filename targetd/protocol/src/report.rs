//! What targetd saw and did, and what went wrong.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::names::{DiskId, Transport};
use crate::units::{Bytes, Sectors};

/// The outcome of applying one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The desired state's generation.
    pub generation: u64,
    /// The steps taken, as readable lines without secrets. Empty when all was already so.
    pub steps: Vec<String>,
}

/// What the kernel has of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeReport {
    /// The device's size, or `None` when it is not active.
    pub active: Option<Sectors>,
    /// Blocks mapped, in sectors; known while active.
    pub mapped: Option<Sectors>,
    /// The transports it is exported over.
    pub exported: Vec<Transport>,
}

/// What the kernel has of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolReport {
    /// The pool.
    pub id: Uuid,
    /// Its fill, or `None` when it is not active.
    pub usage: Option<PoolUsage>,
    /// Whether new blocks are refused: the pool failed, is read-only or needs a check.
    pub degraded: bool,
}

/// How full a pool is, in its own blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolUsage {
    /// dm-thin's transaction id.
    pub transaction_id: u64,
    /// Metadata blocks in use (4 KiB each).
    pub metadata_used: u64,
    /// Metadata blocks there are.
    pub metadata_total: u64,
    /// Data blocks in use.
    pub data_used: u64,
    /// Data blocks there are.
    pub data_total: u64,
    /// Size of a data block.
    pub block: Sectors,
}

/// A disk of the box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskReport {
    /// Stable identity.
    pub id: DiskId,
    /// The kernel's name today, for people only.
    pub kernel_name: String,
    /// Its size.
    pub size: Bytes,
    /// Whether it spins.
    pub rotational: bool,
    /// Whether something (a mount, a pool, the system itself) has it open.
    pub in_use: bool,
    /// `None` when blank, else what it appears to hold, in words.
    pub content: Option<String>,
    /// The Ashlar pool whose label it carries.
    pub pool: Option<Uuid>,
}

/// A kernel facility and whether it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureReport {
    /// `device-mapper`, `thin-pool`, `iscsi`, `nvme-tcp`.
    pub name: String,
    /// Why it cannot be used, or `None` when it can.
    pub problem: Option<String>,
}

/// Why an object could not be brought to its desired state. Steps already taken stay taken;
/// sending the same state again goes on from there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{message}")]
pub struct Failure {
    /// What kind of trouble.
    pub kind: FailureKind,
    /// One readable line: verb, object, id, cause. Never a secret.
    pub message: String,
}

/// What a caller can react to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The kernel lacks a module or a feature.
    Unsupported,
    /// The object, its data or its disk is in use and force was not given.
    InUse,
    /// A pool, disk or thin device that should exist does not.
    Missing,
    /// A disk holds something, and wiping was not asked for.
    NotBlank,
    /// The desired state contradicts itself or breaks a safety rule.
    Refused,
    /// No room in the pool or on a disk.
    NoSpace,
    /// Something that is not ours stands where ours should.
    Foreign,
    /// A listening address cannot be had.
    Address,
    /// Anything else the kernel said no to.
    Kernel,
    /// targetd is stopping.
    Stopping,
}

impl FailureKind {
    /// Whether sending the same state again may succeed without anyone changing anything.
    pub fn retryable(self) -> bool {
        match self {
            FailureKind::InUse
            | FailureKind::Address
            | FailureKind::Kernel
            | FailureKind::Stopping => true,
            FailureKind::Unsupported
            | FailureKind::Missing
            | FailureKind::NotBlank
            | FailureKind::Refused
            | FailureKind::NoSpace
            | FailureKind::Foreign => false,
        }
    }
}
