//! Connections: a volume reachable by a host over a transport.

use ashlar_targetd_protocol::{Iqn, Lun, Nqn, Nsid, PortalAddr, Transport};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a client says to attach a volume to a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionSpec {
    /// The volume.
    pub volume: Uuid,
    /// The host. It needs an iSCSI name for `iscsi`, an NVMe name for the others.
    pub host: Uuid,
    /// How. One connection per volume, host and transport.
    pub transport: Transport,
    /// What the host may do. Read-only takes `iscsi`. Absent: `read-write`.
    #[serde(default, skip_serializing_if = "Access::is_full")]
    pub access: Access,
}

/// What a host may do with a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read and write.
    #[default]
    ReadWrite,
    /// Read: its writes fail.
    ReadOnly,
}

impl Access {
    /// Whether it may write.
    pub fn is_full(&self) -> bool {
        *self == Access::ReadWrite
    }
}

/// A connection, with all an initiator needs but the secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// Its id.
    pub id: Uuid,
    /// The volume.
    pub volume: Uuid,
    /// The host.
    pub host: Uuid,
    /// How.
    pub transport: Transport,
    /// What the host may do. Absent: `read-write`.
    #[serde(default, skip_serializing_if = "Access::is_full")]
    pub access: Access,
    /// What became of it.
    pub state: ConnectionState,
    /// For `iscsi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iscsi: Option<IscsiAccess>,
    /// For `nvme-tcp` and `nvme-rdma`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvme: Option<NvmeAccess>,
    /// The generation of its last change.
    pub generation: u64,
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionState {
    /// Being made.
    Attaching,
    /// The host may connect.
    Ready,
    /// Being taken away.
    Detaching,
}

/// How to reach a volume over iSCSI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IscsiAccess {
    /// The target's name.
    pub target: Iqn,
    /// The logical unit.
    pub lun: Lun,
    /// Addresses to reach it at.
    pub portals: Vec<PortalAddr>,
    /// The unit serial number (VPD page 0x80), stable for the volume's life.
    pub serial: String,
}

/// How to reach a volume over NVMe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NvmeAccess {
    /// The subsystem's name.
    pub subsystem: Nqn,
    /// The namespace.
    pub nsid: Nsid,
    /// The namespace's UUID, which is the volume's id; its NGUID has the same 16 bytes.
    pub uuid: Uuid,
    /// Addresses to reach it at.
    pub portals: Vec<PortalAddr>,
}
