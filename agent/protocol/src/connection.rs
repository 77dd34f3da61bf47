//! Connections: a volume, or a snapshot, reachable by a host over a transport.

use std::fmt;

use ashlar_targetd_protocol::{FcPort, Iqn, Lun, Nqn, Nsid, PortalAddr, Transport, Wwn};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ObjectKind, ObjectRef};

/// What is connected to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Connected {
    /// A volume.
    Volume(Uuid),
    /// A snapshot, which is only ever read.
    Snapshot(Uuid),
}

/// Why it is not said what is connected, or how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotConnected {
    /// Neither is named, or both are.
    #[error("a connection is of a volume or of a snapshot: name one of them")]
    NotOne,
    /// A snapshot is to be written.
    #[error("a snapshot is only read")]
    Written,
}

impl Connected {
    /// The one of the two that is named.
    ///
    /// # Errors
    /// When that is not one.
    pub fn one(volume: Option<Uuid>, snapshot: Option<Uuid>) -> Result<Connected, NotConnected> {
        match (volume, snapshot) {
            (Some(id), None) => Ok(Connected::Volume(id)),
            (None, Some(id)) => Ok(Connected::Snapshot(id)),
            (None, None) | (Some(_), Some(_)) => Err(NotConnected::NotOne),
        }
    }

    /// Its id; no volume has that of a snapshot.
    pub fn id(self) -> Uuid {
        match self {
            Connected::Volume(id) | Connected::Snapshot(id) => id,
        }
    }

    /// The volume, if it is one.
    pub fn volume(self) -> Option<Uuid> {
        match self {
            Connected::Volume(id) => Some(id),
            Connected::Snapshot(_) => None,
        }
    }

    /// The snapshot, if it is one.
    pub fn snapshot(self) -> Option<Uuid> {
        match self {
            Connected::Volume(_) => None,
            Connected::Snapshot(id) => Some(id),
        }
    }

    /// It as an object.
    pub fn object(self) -> ObjectRef {
        let kind = match self {
            Connected::Volume(_) => ObjectKind::Volume,
            Connected::Snapshot(_) => ObjectKind::Snapshot,
        };
        ObjectRef {
            kind,
            id: self.id(),
        }
    }
}

impl fmt::Display for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.object().fmt(f)
    }
}

/// What a client says to attach a volume or a snapshot to a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawSpec", into = "RawSpec")]
pub struct ConnectionSpec {
    /// What is connected; on the wire `volume` or `snapshot`.
    pub of: Connected,
    /// The host. It needs an iSCSI name for `iscsi` and `iser`, that of a port for `fc`, an NVMe name
    /// for the others.
    pub host: Uuid,
    /// How. One connection per volume or snapshot, host and transport.
    pub transport: Transport,
    /// What the host may do. Read-only takes `iscsi`, `iser` or `fc`. Absent: `read-write` for a volume; a
    /// snapshot has nothing but `read-only`.
    pub access: Access,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    volume: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snapshot: Option<Uuid>,
    host: Uuid,
    transport: Transport,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access: Option<Access>,
}

impl TryFrom<RawSpec> for ConnectionSpec {
    type Error = NotConnected;

    fn try_from(raw: RawSpec) -> Result<Self, NotConnected> {
        let of = Connected::one(raw.volume, raw.snapshot)?;
        let access = match (of, raw.access) {
            (Connected::Volume(_), access) => access.unwrap_or_default(),
            (Connected::Snapshot(_), None | Some(Access::ReadOnly)) => Access::ReadOnly,
            (Connected::Snapshot(_), Some(Access::ReadWrite)) => return Err(NotConnected::Written),
        };
        Ok(ConnectionSpec {
            of,
            host: raw.host,
            transport: raw.transport,
            access,
        })
    }
}

impl From<ConnectionSpec> for RawSpec {
    fn from(spec: ConnectionSpec) -> RawSpec {
        RawSpec {
            volume: spec.of.volume(),
            snapshot: spec.of.snapshot(),
            host: spec.host,
            transport: spec.transport,
            access: (!spec.access.is_full()).then_some(spec.access),
        }
    }
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
    /// The volume, if it is one of a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Uuid>,
    /// The snapshot, if it is one of a snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Uuid>,
    /// The host.
    pub host: Uuid,
    /// How.
    pub transport: Transport,
    /// What the host may do. Absent: `read-write`.
    #[serde(default, skip_serializing_if = "Access::is_full")]
    pub access: Access,
    /// What became of it.
    pub state: ConnectionState,
    /// For `iscsi` and `iser`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iscsi: Option<IscsiAccess>,
    /// For `fc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fc: Option<FcAccess>,
    /// For `nvme-tcp`, `nvme-rdma` and `nvme-fc`.
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
    /// The unit serial number (VPD page 0x80), stable for the life of what is connected.
    pub serial: String,
}

/// How to reach a volume over Fibre Channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FcAccess {
    /// The box's own ports, by name.
    pub ports: Vec<Wwn>,
    /// The logical unit, as this host sees it at each of them.
    pub lun: Lun,
    /// The unit serial number (VPD page 0x80), stable for the life of what is connected.
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
    /// Addresses to reach it at; none over Fibre Channel.
    pub portals: Vec<PortalAddr>,
    /// Ports of the box to reach it at over Fibre Channel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fc_ports: Vec<FcPort>,
}
