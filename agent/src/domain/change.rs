//! What a command comes to.

use ashlar_protocol::{ObjectRef, Operation};
use uuid::Uuid;

use crate::domain::record::{Key, Record, Unit};

/// One record put or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Written, whether or not it was there.
    Put(Box<Record>),
    /// Gone.
    Remove(Key),
}

impl Edit {
    /// Puts `record`.
    pub fn put(record: Record) -> Edit {
        Edit::Put(Box::new(record))
    }

    /// Which record it is about.
    pub fn key(&self) -> Key {
        match self {
            Edit::Put(record) => record.key(),
            Edit::Remove(key) => *key,
        }
    }
}

/// What to tell the client once all is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What was asked.
    pub operation: Operation,
    /// Of which object.
    pub object: ObjectRef,
    /// Whether the request made it.
    pub made: bool,
    /// The generation it brought.
    pub generation: u64,
}

/// A change to the intent: all of it becomes durable, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The records, in order.
    pub edits: Vec<Edit>,
    /// Its generation.
    pub generation: u64,
    /// What the kernel must be brought up to; absent when nothing.
    pub unit: Option<Unit>,
}

/// What a command comes to, when no rule forbids it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The request was taken before; its answer is its record's.
    Repeat(Uuid),
    /// Something changes; at the least, the request is remembered.
    Change(Change, Reply),
}
