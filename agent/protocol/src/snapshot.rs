//! Snapshots: what a volume was at an instant.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::labels::Labels;
use crate::name::Name;

/// What a client says to take a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotSpec {
    /// A label for people.
    pub name: Name,
    /// The volume, attached or not.
    pub volume: Uuid,
    /// What is to be noted beside it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// A snapshot. It never changes, and outlives its volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Its id.
    pub id: Uuid,
    /// Its label.
    pub name: Name,
    /// The volume, which may be gone.
    pub volume: Uuid,
    /// Its pool, the volume's.
    pub pool: Uuid,
    /// The volume's size when it was taken, in bytes.
    pub size: u64,
    /// What became of it.
    pub state: SnapshotState,
    /// What is noted beside it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// The group snapshot it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Uuid>,
    /// When it was asked for.
    pub created: u64,
    /// The generation of its last change.
    pub generation: u64,
}

/// What became of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotState {
    /// Being taken.
    Creating,
    /// There.
    Available,
    /// Being destroyed.
    Deleting,
}
