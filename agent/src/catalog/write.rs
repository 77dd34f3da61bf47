//! Checkpoints and records.

use std::io;

use uuid::Uuid;

use super::frame::{self, Frame, Kind, MAX_PAYLOAD};
use super::medium::Medium;
use super::read::{Catalog, Head, Owner};
use super::{BLOCK, heads, side_size};
use crate::store::{Batch, Digest, Key, Value};

/// Entries are gathered into frames of about this many bytes.
const GATHERED: usize = 64 << 10;

/// Most bytes of entries in a checkpoint. With what records add, less than one change of the store
/// holds, so that whatever is written can be taken over at once.
pub const MAX_ENTRIES: u64 = 10 << 20;
/// The same with the records after it.
const MAX_WITH_RECORDS: u64 = 13 << 20;

/// Why a catalog is not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk refused.
    #[error("failed to {action} the catalog of pool {pool}")]
    Disk {
        /// Whose it is.
        pool: Uuid,
        /// What was tried.
        action: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// There is more to say than there is room.
    #[error(
        "the records of pool {pool} take more than the {room} bytes that its catalog has for them"
    )]
    Full {
        /// Whose it is.
        pool: Uuid,
        /// What a checkpoint may take.
        room: u64,
    },
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is durable.
    Durable,
    /// There is no room for it on this side, or nothing yet that it could follow: a checkpoint is
    /// due, which has it in it.
    CheckpointDue,
}

/// Writes the catalog of one pool. What it has not been told of a region it does not know, so only
/// one is ever at it.
#[derive(Debug)]
pub struct Writer {
    pool: Uuid,
    /// The side that counts, if any does.
    side: Option<u64>,
    /// The last sequence that may have been written.
    sequence: u64,
    /// Where records go on; absent until a checkpoint was written.
    tail: Option<Tail>,
}

#[derive(Clone, Copy, Debug)]
struct Tail {
    life: u64,
    place: u64,
    /// From the beginning of the side.
    at: u64,
    /// Bytes of entries and records so far.
    bytes: u64,
}

/// A checkpoint under way.
#[derive(Debug)]
pub struct Checkpoint {
    side: u64,
    life: u64,
    sequence: u64,
    blocks: u64,
    at: u64,
    digest: Digest,
    owner: Owner,
    batch: Batch,
    gathered: usize,
    bytes: u64,
}

impl Writer {
    /// Goes on after what a region was found to hold.
    pub fn new(pool: Uuid, found: Option<&Catalog>) -> Writer {
        Writer {
            pool,
            side: found.map(|catalog| catalog.side),
            sequence: found.map_or(0, |catalog| catalog.sequence),
            tail: None,
        }
    }

    /// Of a region that holds nothing whole, in which no sequence is higher.
    pub fn after(pool: Uuid, highest: u64) -> Writer {
        Writer {
            sequence: highest,
            ..Writer::new(pool, None)
        }
    }

    /// Appends a batch.
    ///
    /// # Errors
    /// When it is not durable; a checkpoint is due then.
    pub fn append(
        &mut self,
        medium: &mut impl Medium,
        batch: &Batch,
    ) -> Result<Appended, WriteError> {
        let (Some(side), Some(tail)) = (self.side, self.tail) else {
            return Ok(Appended::CheckpointDue);
        };
        let payload = batch.encode();
        let size = side_size(medium.size());
        let room = heads(size)[1].saturating_sub(tail.at);
        let bytes = tail.bytes + payload.len() as u64;
        if bytes > MAX_WITH_RECORDS || payload.len() > MAX_PAYLOAD {
            return Ok(Appended::CheckpointDue);
        }
        if frame::whole(payload.len()) as u64 > room {
            return Ok(Appended::CheckpointDue);
        }
        // Whatever becomes of it, this sequence is not used again.
        self.sequence += 1;
        self.tail = None;
        let frame = self.frame(Kind::Record, tail.life, tail.place, &payload);
        self.write(medium, side * size + tail.at, &frame)?;
        self.sync(medium)?;
        self.tail = Some(Tail {
            place: tail.place + 1,
            at: tail.at + frame.len() as u64,
            bytes,
            ..tail
        });
        Ok(Appended::Durable)
    }

    /// Begins a checkpoint on the side that does not count. `life` is drawn at random.
    pub fn begin(&mut self, life: u64, owner: Owner) -> Checkpoint {
        self.tail = None;
        self.sequence += 1;
        Checkpoint {
            side: self.side.map_or(0, |side| 1 - side),
            life,
            sequence: self.sequence,
            blocks: 0,
            at: BLOCK as u64,
            digest: Digest::default(),
            owner,
            batch: Batch::new(),
            gathered: 0,
            bytes: 0,
        }
    }

    /// Adds an entry, of a key that no other one has.
    ///
    /// # Errors
    /// When the disk refuses or has no room for it; the side before still counts.
    pub fn add(
        &self,
        medium: &mut impl Medium,
        checkpoint: &mut Checkpoint,
        key: Key,
        value: Value,
    ) -> Result<(), WriteError> {
        checkpoint.digest.add(&key, &value);
        let length = key.len() + value.len();
        checkpoint.gathered += length;
        checkpoint.bytes += length as u64;
        if checkpoint.bytes > MAX_ENTRIES {
            return Err(self.full(MAX_ENTRIES));
        }
        checkpoint.batch.put(key, value);
        match checkpoint.gathered < GATHERED {
            true => Ok(()),
            false => self.put_block(medium, checkpoint),
        }
    }

    /// Has the checkpoint count from now on, with what has changed since its first entry was added:
    /// only with that it is as everything was at one instant, so it is written before.
    ///
    /// # Errors
    /// As for [`Writer::add`].
    pub fn finish(
        &mut self,
        medium: &mut impl Medium,
        mut checkpoint: Checkpoint,
        since: &Batch,
    ) -> Result<(), WriteError> {
        self.put_block(medium, &mut checkpoint)?;
        let payload = since.encode();
        let size = side_size(medium.size());
        let (first, place) = (checkpoint.sequence, checkpoint.blocks + 1);
        let (mut place, mut at) = (place, checkpoint.at);
        let bytes = checkpoint.bytes + payload.len() as u64;
        if !payload.is_empty() {
            let length = frame::whole(payload.len()) as u64;
            let room = heads(size)[1].saturating_sub(at);
            if bytes > MAX_WITH_RECORDS || length > room {
                return Err(self.full(room.min(MAX_WITH_RECORDS)));
            }
            self.sequence += 1;
            let frame = self.frame(Kind::Record, checkpoint.life, place, &payload);
            self.write(medium, checkpoint.side * size + at, &frame)?;
            (place, at) = (place + 1, at + length);
        }
        self.sync(medium)?;
        let Checkpoint {
            side,
            life,
            blocks,
            digest,
            owner,
            ..
        } = checkpoint;
        let head = Head {
            sequence: first,
            life,
            blocks,
            records: u64::from(!payload.is_empty()),
            owner,
            digest,
        };
        let frame = Frame {
            version: frame::VERSION,
            kind: Kind::Head,
            sequence: first,
            life,
            pool: self.pool,
            place: 0,
            payload: &head.payload(),
        };
        let frame = frame.encode();
        for at in heads(size) {
            self.write(medium, side * size + at, &frame)?;
            self.sync(medium)?;
        }
        self.side = Some(side);
        self.tail = Some(Tail {
            life,
            place,
            at,
            bytes,
        });
        Ok(())
    }

    fn put_block(
        &self,
        medium: &mut impl Medium,
        checkpoint: &mut Checkpoint,
    ) -> Result<(), WriteError> {
        let batch = std::mem::take(&mut checkpoint.batch);
        checkpoint.gathered = 0;
        checkpoint.blocks += 1;
        let bytes = Frame {
            version: frame::VERSION,
            kind: Kind::Block,
            sequence: checkpoint.sequence,
            life: checkpoint.life,
            pool: self.pool,
            place: checkpoint.blocks,
            payload: &batch.encode(),
        }
        .encode();
        let size = side_size(medium.size());
        // The rest is for records, or else there would be a checkpoint for each of them.
        let room = size / 4 * 3;
        let end = checkpoint.at + bytes.len() as u64;
        if end > room {
            return Err(self.full(room));
        }
        self.write(medium, checkpoint.side * size + checkpoint.at, &bytes)?;
        checkpoint.at = end;
        Ok(())
    }

    fn full(&self, room: u64) -> WriteError {
        WriteError::Full {
            pool: self.pool,
            room,
        }
    }

    fn frame(&self, kind: Kind, life: u64, place: u64, payload: &[u8]) -> Vec<u8> {
        Frame {
            version: frame::VERSION,
            kind,
            sequence: self.sequence,
            life,
            pool: self.pool,
            place,
            payload,
        }
        .encode()
    }

    fn write(&self, medium: &mut impl Medium, at: u64, bytes: &[u8]) -> Result<(), WriteError> {
        medium.write_at(at, bytes).map_err(self.failed("write"))
    }

    fn sync(&self, medium: &mut impl Medium) -> Result<(), WriteError> {
        medium.sync().map_err(self.failed("sync"))
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> WriteError + use<> {
        let pool = self.pool;
        move |source| WriteError::Disk {
            pool,
            action,
            source,
        }
    }
}
