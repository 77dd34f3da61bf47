//! The unit that is written at once.
//!
//! | offset | length | what |
//! |--------|--------|------|
//! | 0      | 8      | `ASHLARCT` |
//! | 8      | 4      | CRC-32 of all that follows, payload included |
//! | 12     | 4      | length of the payload |
//! | 16     | 4      | version, 1 |
//! | 20     | 4      | kind |
//! | 24     | 8      | sequence |
//! | 32     | 8      | life |
//! | 40     | 16     | the pool's id |
//! | 56     | 8      | place on its side, from 0 |
//! | 64     |        | payload, then zeros to a whole block |
//!
//! Numbers are big-endian.

use uuid::Uuid;

use super::BLOCK;

const MAGIC: &[u8; 8] = b"ASHLARCT";
const HEAD: usize = 64;
/// The version that is written, and the newest that is read.
pub(super) const VERSION: u32 = 1;
/// Largest payload of one frame.
pub(super) const MAX_PAYLOAD: usize = 16 << 20;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A checkpoint's head: how many blocks it has, and the digest of their entries. Its sequence
    /// is that of the last record the checkpoint has in it.
    Head = 1,
    /// Entries of a checkpoint.
    Block = 2,
    /// What changed since the record before.
    Record = 3,
}

/// One checksummed unit of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) version: u32,
    pub(super) kind: Kind,
    pub(super) sequence: u64,
    pub(super) life: u64,
    pub(super) pool: Uuid,
    pub(super) place: u64,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Whole blocks.
    pub(super) fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("callers keep to MAX_PAYLOAD");
        let mut bytes = Vec::with_capacity(whole(self.payload.len()));
        bytes.extend(MAGIC);
        bytes.extend([0; 4]);
        bytes.extend(length.to_be_bytes());
        bytes.extend(self.version.to_be_bytes());
        bytes.extend((self.kind as u32).to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.life.to_be_bytes());
        bytes.extend(self.pool.as_bytes());
        bytes.extend(self.place.to_be_bytes());
        bytes.extend(self.payload);
        let crc = crc32fast::hash(&bytes[12..]);
        bytes[8..12].copy_from_slice(&crc.to_be_bytes());
        bytes.resize(whole(self.payload.len()), 0);
        bytes
    }

    /// The intact frame at the beginning of `bytes`, if there is one.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let payload = HEAD..HEAD + payload_length(bytes)?;
        let signed = bytes.get(12..payload.end)?;
        if crc32fast::hash(signed) != word(bytes, 8)? {
            return None;
        }
        Some(Frame {
            version: word(bytes, 16)?,
            kind: match word(bytes, 20)? {
                1 => Kind::Head,
                2 => Kind::Block,
                3 => Kind::Record,
                _ => return None,
            },
            sequence: long(bytes, 24)?,
            life: long(bytes, 32)?,
            pool: Uuid::from_slice(bytes.get(40..56)?).ok()?,
            place: long(bytes, 56)?,
            payload: bytes.get(payload)?,
        })
    }
}

/// Bytes that a frame takes whose head this is, if it looks like one.
pub(super) fn claimed_size(head: &[u8]) -> Option<usize> {
    payload_length(head).map(whole)
}

/// Bytes that a frame with such a payload takes.
pub(super) fn whole(payload: usize) -> usize {
    (HEAD + payload).next_multiple_of(BLOCK)
}

fn payload_length(head: &[u8]) -> Option<usize> {
    if !head.starts_with(MAGIC) {
        return None;
    }
    let length = word(head, 12)? as usize;
    (length <= MAX_PAYLOAD).then_some(length)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(super) fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

impl Frame<'_> {
    /// The life and the sequence that a record says it is of, whole or not.
    pub(super) fn claimed_record(bytes: &[u8]) -> Option<(u64, u64)> {
        let looks = bytes.starts_with(MAGIC) && word(bytes, 20)? == Kind::Record as u32;
        looks.then_some((long(bytes, 32)?, long(bytes, 24)?))
    }
}
