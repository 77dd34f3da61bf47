//! Snapshots: what a volume was at an instant.

use ashlar_targetd_protocol::ThinId;
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

/// What is to change of a snapshot; what is absent stays. What it holds never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotUpdate {
    /// Another label for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// All that is to be noted beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

/// A thin device that a snapshot is to be, with all that it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptSnapshotSpec {
    /// A label for people.
    pub name: Name,
    /// The volume it is one of; the thin device is in the same pool.
    pub volume: Uuid,
    /// The thin device's id there. It belongs to nothing else.
    pub thin_id: ThinId,
    /// The snapshot's size in bytes, as when a volume is made of a thin device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// What is to be noted beside it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// A snapshot. What it holds never changes, and it outlives its volume.
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
    /// Being looked at, and taken as it is found.
    Adopting,
    /// There.
    Available,
    /// Being let go of; its data stays.
    Releasing,
    /// Being destroyed.
    Deleting,
}
