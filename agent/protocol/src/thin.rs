//! What volumes and snapshots take of their pool, and thin devices.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a volume or snapshot takes of its pool, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Its size.
    pub size: u64,
    /// What is mapped, shared or not.
    pub used: u64,
    /// What of it other volumes and snapshots map as well: its deletion would free the rest.
    /// Absent when too many are related with it to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<u64>,
}

/// Bytes that lie side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    /// Where they begin.
    pub offset: u64,
    /// How many.
    pub length: u64,
    /// What they are.
    pub kind: ExtentKind,
}

/// What an extent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExtentKind {
    /// Data.
    Data,
    /// It was data, and reads as zeros now.
    Hole,
}

/// A thin device of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThinDevice {
    /// Its id in the pool.
    pub thin_id: u32,
    /// What it maps, in bytes.
    pub used: u64,
    /// Where the last of that ends, in bytes: a volume of it is at least so large. Thin devices
    /// have no size of their own.
    pub end: u64,
    /// The volume it belongs to; with neither, nobody here made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Uuid>,
    /// The snapshot it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Uuid>,
    /// Whether a volume can be made of it as it is.
    pub adoptable: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Unadoptable>,
}

/// Why no volume can be made of a thin device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unadoptable {
    /// It belongs to a volume or snapshot.
    Owned,
    /// It belongs to one still, and is going to be destroyed.
    Retired,
    /// What it maps ends beyond what a volume of the pool can have.
    TooLarge,
}
