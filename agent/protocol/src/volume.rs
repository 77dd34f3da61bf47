//! Volumes.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::name::Name;

/// Sizes are rounded up to multiples of this, in bytes (1 MiB).
pub const GRANULARITY: u64 = 1 << 20;

/// Largest volume, in bytes (256 TiB less one granule).
pub const MAX_SIZE: u64 = (256 << 40) - GRANULARITY;

/// What a client says to create a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeSpec {
    /// A label for people.
    pub name: Name,
    /// The pool it lives in.
    pub pool: Uuid,
    /// Its size in bytes, 1 to [`MAX_SIZE`] and no more than the pool's capacity,
    /// rounded up to [`GRANULARITY`].
    pub size: u64,
}

/// A new, larger size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtendSpec {
    /// The new size in bytes, rounded up to [`GRANULARITY`]. The present size changes nothing.
    pub size: u64,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Its id. Serial number, NGUID and UUID seen by hosts derive from it.
    pub id: Uuid,
    /// Its label.
    pub name: Name,
    /// Its pool.
    pub pool: Uuid,
    /// Its size in bytes.
    pub size: u64,
    /// What became of it.
    pub state: VolumeState,
    /// How many connections it has.
    pub connections: u64,
    /// When it was created.
    pub created: u64,
    /// The generation of its last change.
    pub generation: u64,
}

/// What became of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeState {
    /// Being made.
    Creating,
    /// There.
    Available,
    /// Being destroyed.
    Deleting,
}
