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
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::change::Reply;
use crate::domain::outcome::Outcome;

/// The schema this version writes.
pub const SCHEMA: u32 = 1;

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

/// Where a record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The box.
    Box,
    /// The newest generation.
    Clock,
    /// A pool.
    Pool(Uuid),
    /// A pool's thin ids.
    ThinCounter(Uuid),
    /// A host.
    Host(Uuid),
    /// A volume.
    Volume(Uuid),
    /// A connection.
    Connection(Uuid),
    /// A request.
    Request(Uuid),
    /// What a request was answered with.
    Answer(Uuid),
}

/// A record with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The box.
    Box(BoxRecord),
    /// The newest generation given.
    Clock(u64),
    /// A pool.
    Pool(Uuid, PoolRecord),
    /// A pool's thin ids.
    ThinCounter(Uuid, ThinCounter),
    /// A host.
    Host(Uuid, HostRecord),
    /// A volume.
    Volume(Uuid, VolumeRecord),
    /// A connection.
    Connection(Uuid, ConnectionRecord),
    /// A request.
    Request(Uuid, RequestRecord),
    /// What a request was answered with. Read when it is repeated; the intent does without.
    Answer(Uuid, Outcome),
}

/// Why stored bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The key is none of ours.
    #[error("no record has the key {0:02x?}")]
    Key(Vec<u8>),
    /// The value does not decode.
    #[error("record {key:?} does not decode")]
    Value {
        /// Where it was found.
        key: Key,
        /// Why.
        #[source]
        source: ashlar_codec::DecodeError,
    },
    /// A newer version wrote it.
    #[error("record {key:?} has schema {found}, this version reads up to {SCHEMA}")]
    Schema {
        /// Where it was found.
        key: Key,
        /// Its schema.
        found: u32,
    },
}

impl Key {
    /// The key's bytes.
    pub fn bytes(self) -> Vec<u8> {
        let (kind, id) = match self {
            Key::Box => (0x01, None),
            Key::Clock => (0x02, None),
            Key::Pool(id) => (0x10, Some(id)),
            Key::ThinCounter(id) => (0x11, Some(id)),
            Key::Host(id) => (0x20, Some(id)),
            Key::Volume(id) => (0x30, Some(id)),
            Key::Connection(id) => (0x40, Some(id)),
            Key::Request(id) => (0x50, Some(id)),
            Key::Answer(id) => (0x51, Some(id)),
        };
        let mut bytes = vec![kind];
        bytes.extend(id.iter().flat_map(|id| id.as_bytes()));
        bytes
    }

    /// The key those bytes are.
    ///
    /// # Errors
    /// When they are none.
    pub fn parse(bytes: &[u8]) -> Result<Key, RecordError> {
        let unknown = || RecordError::Key(bytes.to_vec());
        let (kind, rest) = bytes.split_first().ok_or_else(unknown)?;
        if rest.is_empty() {
            return match kind {
                0x01 => Ok(Key::Box),
                0x02 => Ok(Key::Clock),
                _ => Err(unknown()),
            };
        }
        let id = Uuid::from_slice(rest).map_err(|_| unknown())?;
        match kind {
            0x10 => Ok(Key::Pool(id)),
            0x11 => Ok(Key::ThinCounter(id)),
            0x20 => Ok(Key::Host(id)),
            0x30 => Ok(Key::Volume(id)),
            0x40 => Ok(Key::Connection(id)),
            0x50 => Ok(Key::Request(id)),
            0x51 => Ok(Key::Answer(id)),
            _ => Err(unknown()),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u32,
    r: T,
}

/// Only the version, to tell a newer schema from damage.
#[derive(Deserialize)]
struct VersionOnly {
    v: u32,
}

impl Record {
    /// Where it is kept.
    pub fn key(&self) -> Key {
        match self {
            Record::Box(_) => Key::Box,
            Record::Clock(_) => Key::Clock,
            Record::Pool(id, _) => Key::Pool(*id),
            Record::ThinCounter(id, _) => Key::ThinCounter(*id),
            Record::Host(id, _) => Key::Host(*id),
            Record::Volume(id, _) => Key::Volume(*id),
            Record::Connection(id, _) => Key::Connection(*id),
            Record::Request(id, _) => Key::Request(*id),
            Record::Answer(id, _) => Key::Answer(*id),
        }
    }

    /// The value's bytes.
    ///
    /// # Errors
    /// Never for records that came from [`crate::domain::decide`]; their types all encode.
    pub fn value(&self) -> Result<Vec<u8>, ashlar_codec::EncodeError> {
        match self {
            Record::Box(r) => encode(r),
            Record::Clock(r) => encode(r),
            Record::Pool(_, r) => encode(r),
            Record::ThinCounter(_, r) => encode(r),
            Record::Host(_, r) => encode(r),
            Record::Volume(_, r) => encode(r),
            Record::Connection(_, r) => encode(r),
            Record::Request(_, r) => encode(r),
            Record::Answer(_, r) => encode(r),
        }
    }

    /// The record those bytes are.
    ///
    /// # Errors
    /// When key or value are damaged, or a newer version wrote them.
    pub fn parse(key: &[u8], value: &[u8]) -> Result<Record, RecordError> {
        let key = Key::parse(key)?;
        Ok(match key {
            Key::Box => Record::Box(decode(key, value)?),
            Key::Clock => Record::Clock(decode(key, value)?),
            Key::Pool(id) => Record::Pool(id, decode(key, value)?),
            Key::ThinCounter(id) => Record::ThinCounter(id, decode(key, value)?),
            Key::Host(id) => Record::Host(id, decode(key, value)?),
            Key::Volume(id) => Record::Volume(id, decode(key, value)?),
            Key::Connection(id) => Record::Connection(id, decode(key, value)?),
            Key::Request(id) => Record::Request(id, decode(key, value)?),
            Key::Answer(id) => Record::Answer(id, decode(key, value)?),
        })
    }
}

fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, ashlar_codec::EncodeError> {
    ashlar_codec::to_vec(&Versioned {
        v: SCHEMA,
        r: record,
    })
}

fn decode<T: DeserializeOwned>(key: Key, value: &[u8]) -> Result<T, RecordError> {
    let limits = ashlar_codec::Limits::default();
    let failed = |source| RecordError::Value { key, source };
    let VersionOnly { v } = ashlar_codec::from_slice(value, &limits).map_err(failed)?;
    if v > SCHEMA {
        return Err(RecordError::Schema { key, found: v });
    }
    let versioned: Versioned<T> = ashlar_codec::from_slice(value, &limits).map_err(failed)?;
    Ok(versioned.r)
}

#[cfg(test)]
mod tests;
