//! What is stored: one versioned CBOR value per record, under a key that sorts by kind and id.
//!
//! A key is one kind byte and, but for singletons, a 16-byte id, both big-endian. Kinds are
//! numbered so that a scan in key order meets an object after all that it refers to.
//! A value is the map `{"v": schema, "r": record}`; `golden/` has one of each kind.

use std::collections::BTreeMap;

use ashlar_protocol::{
    Authentication, HostSecrets, Name, ObjectRef, Operation, PoolSpec, Problem, Transport,
};
use ashlar_targetd_protocol::{Iqn, Nqn, PortId, PortalAddr, ThinId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::change::Reply;

mod stored;

pub use stored::{Key, Record, RecordError, SCHEMA};

/// The box itself. Made at first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxRecord {
    /// Its id for life; part of the names of targets.
    pub id: Uuid,
    /// nvmet port numbers by address. A number once given belongs to its address for good,
    /// since the kernel refuses to change the address of a port in use.
    pub nvme_ports: BTreeMap<PortalAddr, PortId>,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRecord {
    /// As asked.
    pub spec: PoolSpec,
    /// Allocation unit in bytes.
    pub block_size: u64,
    /// Room for thin metadata in bytes.
    pub metadata_size: u64,
    /// Free blocks at which the kernel raises its event.
    pub low_water_blocks: u64,
    /// Where it is in its life.
    pub phase: PoolPhase,
    /// Bytes for data, once the kernel told.
    pub capacity: Option<u64>,
    /// The generation of its last change.
    pub generation: u64,
}

/// Where a pool is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolPhase {
    /// Its disks may be formatted.
    Creating,
    /// It was made; its disks are never formatted again.
    Present,
    /// Its creation failed; it is to leave the kernel and be forgotten.
    Withdrawn,
}

/// Thin ids of a pool. None is given twice while the pool lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThinCounter {
    /// The next one; past the largest when they are used up.
    pub next: u32,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Its label.
    pub name: Name,
    /// Its iSCSI name.
    pub iqn: Option<Iqn>,
    /// Its NVMe name.
    pub nqn: Option<Nqn>,
    /// Whether it must prove who it is.
    pub authentication: Authentication,
    /// Its secrets, given or generated.
    pub secrets: HostSecrets,
    /// The generation of its last change.
    pub generation: u64,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// Its label.
    pub name: Name,
    /// Its pool.
    pub pool: Uuid,
    /// Its thin device.
    pub thin_id: ThinId,
    /// Its size in bytes.
    pub size: u64,
    /// Where it is in its life.
    pub phase: VolumePhase,
    /// When it was created, in seconds since 1970.
    pub created: u64,
    /// The generation of its last change.
    pub generation: u64,
}

/// Where a volume is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumePhase {
    /// Its thin device may be created.
    Creating,
    /// Its thin device exists and is never created again.
    Present,
    /// Its data is to be destroyed.
    Deleting,
}

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRecord {
    /// The volume.
    pub volume: Uuid,
    /// The host.
    pub host: Uuid,
    /// How.
    pub transport: Transport,
    /// Where it is in its life.
    pub phase: ConnectionPhase,
    /// The generation of its last change.
    pub generation: u64,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionPhase {
    /// The host is to have access.
    Wanted,
    /// The host is to lose access, unless it uses it.
    Detaching,
    /// The host is to lose access, using it or not.
    Cutting,
}

/// A changing request, which is a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// SHA-256 over method, path and body.
    #[serde(with = "serde_bytes")]
    pub digest: [u8; 32],
    /// Who asked.
    pub subject: String,
    /// What was asked.
    pub operation: Operation,
    /// The object it changes.
    pub object: ObjectRef,
    /// What the kernel must have for it to be done; absent when nothing.
    pub unit: Option<Unit>,
    /// Whether it made the object, rather than found it in the making.
    pub made: bool,
    /// The generation it brought; orders requests.
    pub generation: u64,
    /// When it was accepted, in seconds since 1970.
    pub accepted: u64,
    /// Why it was given up.
    pub failed: Option<Box<Problem>>,
}

impl RequestRecord {
    /// What to tell the client once all is done.
    pub fn reply(&self) -> Reply {
        Reply {
            operation: self.operation,
            object: self.object,
            made: self.made,
        }
    }
}

/// What is reconciled as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A pool on its disks.
    Pool(Uuid),
    /// A volume with its exports.
    Volume(Uuid),
}

impl Unit {
    /// The object of that id.
    pub fn object(self) -> ObjectRef {
        use ashlar_protocol::ObjectKind;
        match self {
            Unit::Pool(id) => ObjectRef {
                kind: ObjectKind::Pool,
                id,
            },
            Unit::Volume(id) => ObjectRef {
                kind: ObjectKind::Volume,
                id,
            },
        }
    }
}

#[cfg(test)]
mod tests;
