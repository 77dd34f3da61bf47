//! Volumes.

use ashlar_targetd_protocol::ThinId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::labels::Labels;
use crate::name::Name;
use crate::qos::Qos;

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
    /// rounded up to [`GRANULARITY`]. With a source it may be larger than that, and is as
    /// large when absent; otherwise it must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// What it begins as: a volume or snapshot of the same pool. All zeros when absent, and so
    /// is what a larger volume has beyond its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Parent>,
    /// What is to be noted beside it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// How much it may do. Nothing is limited when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<Qos>,
    /// Whether its whole size is kept for it in the pool.
    #[serde(default, skip_serializing_if = "Provisioning::is_thin")]
    pub provisioning: Provisioning,
}

impl VolumeSpec {
    /// A volume that begins as zeros.
    pub fn blank(name: Name, pool: Uuid, size: u64) -> VolumeSpec {
        VolumeSpec {
            name,
            pool,
            size: Some(size),
            source: None,
            labels: Labels::default(),
            qos: None,
            provisioning: Provisioning::Thin,
        }
    }
}

/// Whether the whole size of a volume is kept for it in the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provisioning {
    /// No: it takes room as it is written.
    #[default]
    Thin,
    /// Yes: and so is that of each of its snapshots, whose blocks it cannot write again.
    Thick,
}

impl Provisioning {
    /// Whether nothing is kept.
    pub fn is_thin(&self) -> bool {
        *self == Provisioning::Thin
    }
}

/// What a client says to change a volume; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeUpdate {
    /// A new label for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// All that is to be noted beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// All its limits; an empty one lifts them. Connections are not touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<Qos>,
    /// Whether its whole size is kept for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning: Option<Provisioning>,
}

/// A thin device that a volume is to be, with all that it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptSpec {
    /// A label for people.
    pub name: Name,
    /// The pool it is in.
    pub pool: Uuid,
    /// Its id there. It belongs to nothing else.
    pub thin_id: ThinId,
    /// The volume's size in bytes, rounded up to [`GRANULARITY`]: what the thin device maps ends
    /// within it, and where that is, rounded up, is the size when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// What is to be noted beside it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// How much it may do. Nothing is limited when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<Qos>,
    /// Whether its whole size is kept for it in the pool.
    #[serde(default, skip_serializing_if = "Provisioning::is_thin")]
    pub provisioning: Provisioning,
}

/// Nothing is said of a release, of a volume or a snapshot, but that it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseSpec {}

/// A new, larger size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtendSpec {
    /// The new size in bytes, rounded up to [`GRANULARITY`]. The present size changes nothing.
    pub size: u64,
}

/// A snapshot to go back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevertSpec {
    /// One of this volume. What the volume has beyond its size becomes zeros; the volume keeps
    /// its own size.
    pub snapshot: Uuid,
    /// Whether the content may change beneath hosts that are connected.
    #[serde(default)]
    pub interrupt: bool,
}

/// Whom a volume is to belong to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferSpec {
    /// Noted beside it.
    pub owner: Name,
    /// Whether hosts that are connected are cut off.
    #[serde(default)]
    pub interrupt: bool,
}

/// Where a volume is to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveSpec {
    /// Another pool.
    pub pool: Uuid,
    /// Bytes a second to copy at most; as fast as may be when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<u64>,
}

/// What is done with the data of a volume before it is destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clear {
    /// Nothing: it is given back to the pool as it is.
    None,
    /// The disks are told that it is not needed.
    Discard,
    /// It is overwritten with zeros.
    Zero,
}

impl std::str::FromStr for Clear {
    type Err = String;

    fn from_str(text: &str) -> Result<Clear, String> {
        match text {
            "none" => Ok(Clear::None),
            "discard" => Ok(Clear::Discard),
            "zero" => Ok(Clear::Zero),
            _ => Err("it is none, discard or zero".to_owned()),
        }
    }
}

impl std::fmt::Display for Clear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Clear::None => "none",
            Clear::Discard => "discard",
            Clear::Zero => "zero",
        })
    }
}

/// What a volume began as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parent {
    /// A volume, as it was then.
    Volume(Uuid),
    /// A snapshot.
    Snapshot(Uuid),
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Its id. Serial number, NGUID and UUID seen by hosts derive from it.
    pub id: Uuid,
    /// Its label.
    pub name: Name,
    /// Whom it was last transferred to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Name>,
    /// The group it is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Uuid>,
    /// Its pool.
    pub pool: Uuid,
    /// Its size in bytes.
    pub size: u64,
    /// What became of it.
    pub state: VolumeState,
    /// How many connections it has.
    pub connections: u64,
    /// How many snapshots it has.
    #[serde(default)]
    pub snapshots: u64,
    /// What it began as, which may be gone; absent when it began as zeros.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// What is noted beside it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// How much it may do; absent when nothing is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<Qos>,
    /// Whether its whole size is kept for it in the pool.
    #[serde(default)]
    pub provisioning: Provisioning,
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
    /// Being looked at, and taken as it is found.
    Adopting,
    /// Being given back the content of a snapshot.
    Reverting,
    /// Being let go of; its data stays.
    Releasing,
    /// Being destroyed.
    Deleting,
}
