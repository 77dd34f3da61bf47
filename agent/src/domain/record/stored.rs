//! Records as bytes.

use ashlar_protocol::ROUTES;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    BoxRecord, ConnectionRecord, EventRecord, GroupRecord, GroupSnapshotRecord, HostRecord,
    PoolRecord, PortalRecord, RequestRecord, SnapshotRecord, ThinCounter, VolumeRecord,
};
use crate::domain::outcome::Outcome;

/// The schema this version writes.
pub const SCHEMA: u32 = 1;

/// The kind of keys that hold a number rather than an id.
const EVENT: u8 = 0x60;

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
    /// A portal.
    Portal(Uuid),
    /// A host.
    Host(Uuid),
    /// A group.
    Group(Uuid),
    /// A group snapshot.
    GroupSnapshot(Uuid),
    /// A volume.
    Volume(Uuid),
    /// A snapshot.
    Snapshot(Uuid),
    /// A connection.
    Connection(Uuid),
    /// A request.
    Request(Uuid),
    /// What a request was answered with.
    Answer(Uuid),
    /// Something that happened, by its number.
    Event(u64),
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
    /// A portal.
    Portal(Uuid, PortalRecord),
    /// A host.
    Host(Uuid, HostRecord),
    /// A group.
    Group(Uuid, GroupRecord),
    /// A group snapshot.
    GroupSnapshot(Uuid, GroupSnapshotRecord),
    /// A volume.
    Volume(Uuid, VolumeRecord),
    /// A snapshot.
    Snapshot(Uuid, SnapshotRecord),
    /// A connection.
    Connection(Uuid, ConnectionRecord),
    /// A request.
    Request(Uuid, RequestRecord),
    /// What a request was answered with. Read when it is repeated; the intent does without.
    Answer(Uuid, Outcome),
    /// Something that happened. Kept beside the intent.
    Event(u64, EventRecord),
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
    /// It is the record of a request that this version does not know how to make.
    #[error("request {id} is {operation:?}, which this version does not know")]
    Operation {
        /// The request.
        id: Uuid,
        /// What was asked.
        operation: String,
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
            Key::Portal(id) => (0x18, Some(id)),
            Key::Host(id) => (0x20, Some(id)),
            Key::Group(id) => (0x28, Some(id)),
            Key::GroupSnapshot(id) => (0x29, Some(id)),
            Key::Volume(id) => (0x30, Some(id)),
            Key::Snapshot(id) => (0x31, Some(id)),
            Key::Connection(id) => (0x40, Some(id)),
            Key::Request(id) => (0x50, Some(id)),
            Key::Answer(id) => (0x51, Some(id)),
            Key::Event(number) => {
                let mut bytes = vec![EVENT];
                bytes.extend(number.to_be_bytes());
                return bytes;
            }
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
        if *kind == EVENT {
            let number = rest.try_into().map_err(|_| unknown())?;
            return Ok(Key::Event(u64::from_be_bytes(number)));
        }
        let id = Uuid::from_slice(rest).map_err(|_| unknown())?;
        match kind {
            0x10 => Ok(Key::Pool(id)),
            0x11 => Ok(Key::ThinCounter(id)),
            0x18 => Ok(Key::Portal(id)),
            0x20 => Ok(Key::Host(id)),
            0x28 => Ok(Key::Group(id)),
            0x29 => Ok(Key::GroupSnapshot(id)),
            0x30 => Ok(Key::Volume(id)),
            0x31 => Ok(Key::Snapshot(id)),
            0x40 => Ok(Key::Connection(id)),
            0x50 => Ok(Key::Request(id)),
            0x51 => Ok(Key::Answer(id)),
            _ => Err(unknown()),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct Versioned<T> {
    pub(super) v: u32,
    pub(super) r: T,
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
            Record::Portal(id, _) => Key::Portal(*id),
            Record::Host(id, _) => Key::Host(*id),
            Record::Group(id, _) => Key::Group(*id),
            Record::GroupSnapshot(id, _) => Key::GroupSnapshot(*id),
            Record::Volume(id, _) => Key::Volume(*id),
            Record::Snapshot(id, _) => Key::Snapshot(*id),
            Record::Connection(id, _) => Key::Connection(*id),
            Record::Request(id, _) => Key::Request(*id),
            Record::Answer(id, _) => Key::Answer(*id),
            Record::Event(number, _) => Key::Event(*number),
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
            Record::Portal(_, r) => encode(r),
            Record::Host(_, r) => encode(r),
            Record::Group(_, r) => encode(r),
            Record::GroupSnapshot(_, r) => encode(r),
            Record::Volume(_, r) => encode(r),
            Record::Snapshot(_, r) => encode(r),
            Record::Connection(_, r) => encode(r),
            Record::Request(_, r) => encode(r),
            Record::Answer(_, r) => encode(r),
            Record::Event(_, r) => encode(r),
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
            Key::Portal(id) => Record::Portal(id, decode(key, value)?),
            Key::Host(id) => Record::Host(id, decode(key, value)?),
            Key::Group(id) => Record::Group(id, decode(key, value)?),
            Key::GroupSnapshot(id) => Record::GroupSnapshot(id, decode(key, value)?),
            Key::Volume(id) => Record::Volume(id, decode(key, value)?),
            Key::Snapshot(id) => Record::Snapshot(id, decode(key, value)?),
            Key::Connection(id) => Record::Connection(id, decode(key, value)?),
            Key::Request(id) => {
                let record = decode(key, value);
                Record::Request(
                    id,
                    record.map_err(|error| unknown(id, value).unwrap_or(error))?,
                )
            }
            Key::Answer(id) => Record::Answer(id, decode(key, value)?),
            Key::Event(number) => Record::Event(number, decode(key, value)?),
        })
    }
}

fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>, ashlar_codec::EncodeError> {
    ashlar_codec::to_vec(&Versioned {
        v: SCHEMA,
        r: record,
    })
}

/// Whether it is for what was asked that a request's record does not decode.
fn unknown(id: Uuid, value: &[u8]) -> Option<RecordError> {
    #[derive(Deserialize)]
    struct Asked {
        operation: String,
    }
    let limits = ashlar_codec::Limits::default();
    let Versioned { v, r: asked } =
        ashlar_codec::from_slice::<Versioned<Asked>>(value, &limits).ok()?;
    let operation = asked.operation;
    let known = ROUTES
        .iter()
        .any(|route| route.operation.to_string() == operation);
    (v <= SCHEMA && !known).then_some(RecordError::Operation { id, operation })
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
