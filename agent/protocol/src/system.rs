//! The box itself.

use ashlar_targetd_protocol::{DiskId, Transport};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::name::Name;

/// Identity, version and capabilities.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// The box's id, made at first start and kept for life.
    pub id: Uuid,
    /// The box's name from its configuration.
    pub name: Name,
    /// The agent's version.
    pub version: String,
    /// The protocol version.
    pub protocol: u32,
    /// The kernel's release; absent while targetd is away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Present while it takes no changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Frozen>,
}

/// Why the box takes no changes, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frozen {
    /// Since when.
    pub since: u64,
    /// What was said for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Name>,
}

/// The body of `POST /v1/system/freeze`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeSpec {
    /// What for, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Name>,
}

/// The body of `POST /v1/system/thaw`: an empty map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThawSpec {}

/// What the box can do, and its limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Transports that can be connected over now.
    pub transports: Vec<Transport>,
    /// Volume sizes are rounded up to multiples of this.
    pub volume_granularity: u64,
    /// Largest volume in bytes.
    pub volume_max: u64,
    /// Whether volumes grow while attached.
    pub online_extend: bool,
    /// Whether one volume can be connected to several hosts.
    pub multiattach: bool,
    /// Whether volumes can be limited now.
    pub qos: bool,
    /// Most items in one page of a list.
    pub page_max: u64,
    /// Largest request body in bytes.
    pub body_max: u64,
}

/// How the box is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The worst of the checks.
    pub status: HealthStatus,
    /// The single checks.
    pub checks: Vec<Check>,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What was looked at: `store`, `targetd`, `kernel/…`, `pool/…`, `reconcile`;
    /// `frozen` while it is, `certificate` when the box's own is to be renewed.
    pub name: String,
    /// How it is.
    pub status: HealthStatus,
    /// A sentence when it is not `ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// From best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthStatus {
    /// All is well.
    Ok,
    /// Serving, but something needs attention.
    Degraded,
    /// Not serving.
    Failed,
}

/// A disk of the box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Stable identity.
    pub id: DiskId,
    /// The kernel's name today, for people only.
    pub kernel_name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it spins.
    pub rotational: bool,
    /// Whether something has it open.
    pub in_use: bool,
    /// What it appears to hold; absent when blank.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The Ashlar pool whose label it carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Uuid>,
}
