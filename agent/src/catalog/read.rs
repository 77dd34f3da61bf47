//! What a region holds.

use std::collections::BTreeMap;
use std::io;

use uuid::Uuid;

use super::frame::{self, Frame, Kind};
use super::medium::Medium;
use super::{BLOCK, MAX_REGION, heads, side_size};
use crate::store::{Batch, Digest, Key, Value};

/// No writer comes near it.
const MAX_SEQUENCE: u64 = 1 << 62;

/// Read at once where nothing is expected.
const SCAN: usize = 1 << 20;

/// A catalog that was read.
#[derive(Clone, PartialEq, Eq)]
pub struct Catalog {
    /// What is in it.
    pub entries: BTreeMap<Key, Value>,
    /// The sequence of the last record in it.
    pub sequence: u64,
    /// Whether it is known to lack what was written later.
    pub lost: bool,
    /// Who wrote its checkpoint.
    pub owner: Owner,
    /// The side it is on.
    pub(super) side: u64,
}

/// Who writes a catalog: only one box ever has a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The box.
    pub id: Uuid,
    /// The last generation of its store that was durable when it wrote.
    pub generation: u64,
}

/// Counts only: values may be private.
impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog")
            .field("entries", &self.entries.len())
            .field("sequence", &self.sequence)
            .field("lost", &self.lost)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The disk cannot be read.
    #[error("failed to read the catalog of pool {pool} at byte {at}")]
    Disk {
        /// Whose it is.
        pool: Uuid,
        /// Where.
        at: u64,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// Nothing that is whole is there.
    #[error("there is no whole catalog of pool {pool}")]
    Absent {
        /// Whose it should be.
        pool: Uuid,
    },
    /// It is another pool's.
    #[error("the catalog is of pool {found}, not of pool {pool}")]
    Foreign {
        /// Whose it should be.
        pool: Uuid,
        /// Whose it is.
        found: Uuid,
    },
    /// No catalog is as large.
    #[error("the catalog of pool {pool} has {size} bytes, more than any has")]
    Large {
        /// Whose it should be.
        pool: Uuid,
        /// Its bytes.
        size: u64,
    },
    /// A newer release wrote it.
    #[error(
        "the catalog of pool {pool} has format version {version}, which this release does not know"
    )]
    Newer {
        /// Whose it is.
        pool: Uuid,
        /// Its version.
        version: u32,
    },
}

/// A checkpoint's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) sequence: u64,
    pub(super) life: u64,
    pub(super) blocks: u64,
    /// How many of the records after it belong to it: without them it is as nothing ever was.
    pub(super) records: u64,
    pub(super) owner: Owner,
    pub(super) digest: Digest,
}

impl Head {
    pub(super) fn payload(&self) -> Vec<u8> {
        let mut payload = self.blocks.to_be_bytes().to_vec();
        payload.extend(self.records.to_be_bytes());
        payload.extend(self.owner.id.as_bytes());
        payload.extend(self.owner.generation.to_be_bytes());
        payload.extend(self.digest.encode());
        payload
    }

    fn of(frame: &Frame<'_>) -> Option<Head> {
        Some(Head {
            sequence: frame.sequence,
            life: frame.life,
            blocks: frame::long(frame.payload, 0)?,
            records: frame::long(frame.payload, 8)?,
            owner: Owner {
                id: Uuid::from_slice(frame.payload.get(16..32)?).ok()?,
                generation: frame::long(frame.payload, 32)?,
            },
            digest: Digest::decode(frame.payload.get(40..)?)?,
        })
    }
}

/// Reads the catalog of a pool.
///
/// # Errors
/// When there is none that is whole, or what there is is not this pool's or of this release.
pub fn read(medium: &mut impl Medium, pool: Uuid) -> Result<Catalog, ReadError> {
    let size = medium.size();
    if size > MAX_REGION {
        return Err(ReadError::Large { pool, size });
    }
    let mut region = Region { medium, pool };
    let mut sides = Vec::new();
    let mut why = ReadError::Absent { pool };
    for side in 0..2 {
        match region.head(side) {
            Ok(Some(head)) => sides.push((side, head)),
            Ok(None) => {}
            Err(error) => why = error,
        }
    }
    // A newer release may have written the newest.
    if let ReadError::Newer { .. } = why {
        return Err(why);
    }
    sides.sort_by_key(|(_, head)| std::cmp::Reverse(head.sequence));
    for (older, (side, head)) in sides.into_iter().enumerate() {
        match region.side(side, head) {
            Ok(Some(catalog)) => {
                let lost = catalog.lost || older > 0;
                return Ok(Catalog { lost, ..catalog });
            }
            Ok(None) => {}
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// The highest sequence that a head of this pool has, whatever is behind it: where there is no whole
/// catalog, the next one begins after it.
pub fn highest(medium: &mut impl Medium, pool: Uuid) -> u64 {
    let size = side_size(medium.size());
    let mut region = Region { medium, pool };
    let places = (0..2).flat_map(|side| heads(size).map(|at| side * size + at));
    let found = places.filter_map(|at| region.head_at(at).ok().flatten());
    found.map(|head| head.sequence).max().unwrap_or(0)
}

struct Region<'m, M> {
    medium: &'m mut M,
    pool: Uuid,
}

impl<M: Medium> Region<'_, M> {
    /// The newest intact head of a side.
    fn head(&mut self, side: u64) -> Result<Option<Head>, ReadError> {
        let size = side_size(self.medium.size());
        let mut newest: Option<Head> = None;
        let mut why = None;
        for at in heads(size) {
            let found = self.head_at(side * size + at);
            match found {
                Ok(Some(head)) if newest.is_none_or(|there| there.sequence < head.sequence) => {
                    newest = Some(head);
                }
                Ok(_) => {}
                Err(newer @ ReadError::Newer { .. }) => return Err(newer),
                Err(error) => why = Some(error),
            }
        }
        match (newest, why) {
            (None, Some(why)) => Err(why),
            (newest, _) => Ok(newest),
        }
    }

    fn head_at(&mut self, at: u64) -> Result<Option<Head>, ReadError> {
        let pool = self.pool;
        let bytes = self.bytes(at, BLOCK)?;
        let Some(frame) = Frame::parse(&bytes) else {
            return Ok(None);
        };
        if frame.pool != pool {
            let found = frame.pool;
            return Err(ReadError::Foreign { pool, found });
        }
        if frame.version > frame::VERSION {
            let version = frame.version;
            return Err(ReadError::Newer { pool, version });
        }
        Ok((frame.kind == Kind::Head && frame.sequence < MAX_SEQUENCE)
            .then(|| Head::of(&frame))
            .flatten())
    }

    /// What a side holds, if its checkpoint is whole.
    fn side(&mut self, side: u64, head: Head) -> Result<Option<Catalog>, ReadError> {
        let size = side_size(self.medium.size());
        let (begin, end) = (side * size, side * size + heads(size)[1]);
        let mut at = begin + BLOCK as u64;
        let mut entries = BTreeMap::new();
        let mut digest = Digest::default();
        for place in 1..=head.blocks {
            let expected = Expected {
                kind: Kind::Block,
                sequence: head.sequence,
                life: head.life,
                place,
            };
            let Some((batch, next)) = self.batch(at, end, expected)? else {
                return Ok(None);
            };
            for (key, value) in batch.into_changes() {
                let value = value.unwrap_or_default();
                digest.add(&key, &value);
                entries.insert(key, value);
            }
            at = next;
        }
        if digest != head.digest || digest.entries != entries.len() as u64 {
            return Ok(None);
        }
        let mut sequence = head.sequence;
        let mut place = head.blocks.saturating_add(1);
        let mut unread = false;
        loop {
            let expected = Expected {
                kind: Kind::Record,
                sequence: sequence.saturating_add(1),
                life: head.life,
                place,
            };
            let (batch, next) = match self.batch(at, end, expected) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                // There may have been one, and more after it.
                Err(_) => {
                    unread = true;
                    break;
                }
            };
            for (key, value) in batch.into_changes() {
                match value {
                    Some(value) => entries.insert(key, value),
                    None => entries.remove(&key),
                };
            }
            (at, sequence, place) = (next, sequence + 1, place + 1);
        }
        if sequence - head.sequence < head.records {
            return Ok(None);
        }
        let lost = unread || self.goes_on(at, end, head.life, sequence);
        Ok(Some(Catalog {
            entries,
            sequence,
            lost,
            owner: head.owner,
            side,
        }))
    }

    /// The batch of the frame at a place, and where it ends, if that is the one expected.
    fn batch(
        &mut self,
        at: u64,
        end: u64,
        expected: Expected,
    ) -> Result<Option<(Batch, u64)>, ReadError> {
        if at + BLOCK as u64 > end {
            return Ok(None);
        }
        let mut bytes = self.bytes(at, BLOCK)?;
        let Some(size) = frame::claimed_size(&bytes).filter(|size| at + *size as u64 <= end) else {
            return Ok(None);
        };
        if size > BLOCK {
            bytes = self.bytes(at, size)?;
        }
        let frame = Frame::parse(&bytes).filter(|frame| expected.is(frame, self.pool));
        let batch = frame.and_then(|frame| Batch::decode(frame.payload));
        Ok(batch.map(|batch| (batch, at + size as u64)))
    }

    /// Whether a record follows somewhere that was written after the next one. The next one alone
    /// may have been torn by a power cut.
    fn goes_on(&mut self, from: u64, end: u64, life: u64, sequence: u64) -> bool {
        let later = |block: &[u8]| {
            let record = Frame::claimed_record(block);
            record.is_some_and(|(of, number)| of == life && number > sequence.saturating_add(1))
        };
        let mut at = from;
        while at < end {
            let length = SCAN.min((end - at) as usize);
            let found = match self.bytes(at, length) {
                Ok(bytes) => bytes.chunks(BLOCK).any(later),
                // What cannot be read is between blocks that can.
                Err(_) => (at..at + length as u64)
                    .step_by(BLOCK)
                    .any(|at| self.bytes(at, BLOCK).is_ok_and(|block| later(&block))),
            };
            if found {
                return true;
            }
            at += length as u64;
        }
        false
    }

    fn bytes(&mut self, at: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; length];
        let pool = self.pool;
        let read = self.medium.read_at(at, &mut bytes);
        read.map_err(|source| ReadError::Disk { pool, at, source })?;
        Ok(bytes)
    }
}

/// What a frame is to be.
struct Expected {
    kind: Kind,
    sequence: u64,
    life: u64,
    place: u64,
}

impl Expected {
    fn is(&self, frame: &Frame<'_>, pool: Uuid) -> bool {
        frame.version == frame::VERSION
            && frame.kind == self.kind
            && frame.sequence == self.sequence
            && frame.life == self.life
            && frame.place == self.place
            && frame.pool == pool
    }
}
