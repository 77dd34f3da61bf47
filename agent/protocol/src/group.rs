//! Groups of volumes, and snapshots of all their members at one instant.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::name::Name;

/// Most volumes of a group. All of them are held back at once while a snapshot is taken.
pub const MAX_MEMBERS: usize = 256;

/// What a client says to create a group: of volumes that exist, or of new ones that begin as
/// the members of another group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// A label for people.
    pub name: Name,
    /// Volumes that join it, at most [`MAX_MEMBERS`], each once and in no other group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Uuid>,
    /// Whose copies are its members; then `volumes` is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<GroupSource>,
}

/// What the members of a new group begin as, all of one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSource {
    /// A group, as it is now; this or `group_snapshot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Uuid>,
    /// A group snapshot; this or `group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_snapshot: Option<Uuid>,
    /// For each member of the source, all of them, the new volume.
    pub volumes: Vec<MemberCopy>,
}

/// A volume of a new group, and what it begins as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberCopy {
    /// The member of the source: a volume of a group, a snapshot of a group snapshot.
    pub source: Uuid,
    /// The new volume's id. It has the source's name.
    pub volume: Uuid,
}

/// What is to change of a group. What is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupUpdate {
    /// Another label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Volumes that join it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Uuid>,
    /// Volumes that leave it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<Uuid>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its id.
    pub id: Uuid,
    /// Its label.
    pub name: Name,
    /// Its members, in order of id.
    pub volumes: Vec<Uuid>,
    /// What became of it.
    pub state: GroupState,
    /// How many group snapshots it has.
    pub group_snapshots: u64,
    /// When it was created.
    pub created: u64,
    /// The generation of its last change.
    pub generation: u64,
}

/// What a client says to take a snapshot of every member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSnapshotSpec {
    /// A label for people; the snapshots have it too.
    pub name: Name,
    /// The group.
    pub group: Uuid,
    /// For each member, all of them, its snapshot.
    pub snapshots: Vec<MemberSnapshot>,
}

/// What is to change of a group snapshot. What is absent stays, and so do its snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSnapshotUpdate {
    /// Another label; the snapshots keep theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
}

/// A snapshot that is to be taken of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberSnapshot {
    /// The member.
    pub volume: Uuid,
    /// The snapshot's id.
    pub snapshot: Uuid,
}

/// A snapshot of every member of a group, all of one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSnapshot {
    /// Its id.
    pub id: Uuid,
    /// Its label.
    pub name: Name,
    /// The group. It may have other members now.
    pub group: Uuid,
    /// Its snapshots, in order of id.
    pub snapshots: Vec<Uuid>,
    /// What became of it.
    pub state: GroupState,
    /// When it was created.
    pub created: u64,
    /// The generation of its last change.
    pub generation: u64,
}

/// What became of a group or a group snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupState {
    /// Being made.
    Creating,
    /// There.
    Available,
    /// Being destroyed.
    Deleting,
}
