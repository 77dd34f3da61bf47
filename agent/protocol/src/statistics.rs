//! What volumes and pools have done, as the kernel counts it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use ashlar_targetd_protocol::{IoCounters, IoTotals};

/// What a volume has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeStatistics {
    /// The volume.
    pub id: Uuid,
    /// Whether its device is active, as it is while any host is connected.
    pub active: bool,
    /// Bytes of the pool it occupies, those it shares included; known while active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// What hosts have done with it since it became active; absent while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io: Option<IoCounters>,
}

/// What a pool holds and what its disks have done for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolStatistics {
    /// The pool.
    pub id: Uuid,
    /// Bytes for data; absent while it is not online, and so are the next four.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
    /// Bytes of data in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// Bytes of metadata in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_used: Option<u64>,
    /// I/O of its data since it became active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<IoCounters>,
    /// I/O of its metadata, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<IoCounters>,
    /// Sum of the sizes of its volumes in bytes.
    pub provisioned: u64,
    /// Bytes kept for thick volumes and their snapshots.
    pub thick: u64,
}
