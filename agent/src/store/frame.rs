//! The framing shared by journal and checkpoint files.
//!
//! ```text
//! file   = magic[8] version[4] crc[4] frame*
//! frame  = "AFRM" crc[4] length[4] kind[4] generation[8] mark[8] payload[length]
//! ```
//!
//! Numbers are big-endian. A frame's crc covers everything after itself.

const FRAME_MAGIC: &[u8; 4] = b"AFRM";
const VERSION: u32 = 1;

/// Bytes before the first frame of a file.
pub(super) const FILE_HEAD: usize = 16;
/// Bytes of a frame before its payload.
pub(super) const FRAME_HEAD: usize = 32;
/// No store gets this far; a number beyond it is damage, and one past it can be counted.
pub(super) const LAST_GENERATION: u64 = u64::MAX >> 1;
/// Largest payload of one frame.
pub(super) const MAX_PAYLOAD: usize = 16 << 20;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A journal record. `mark`: the generation known durable when it was written.
    Record = 1,
    /// Entries of a checkpoint. `mark`: the block's place, from 0.
    Block = 2,
    /// A checkpoint's last frame. `mark`: blocks before it; payload: the entries' digest.
    End = 3,
}

/// One checksummed unit of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) generation: u64,
    pub(super) mark: u64,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Bytes of the whole frame.
    pub(super) fn size(&self) -> usize {
        FRAME_HEAD + self.payload.len()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let length = u32::try_from(self.payload.len()).expect("callers keep to MAX_PAYLOAD");
        out.extend(FRAME_MAGIC);
        out.extend([0; 4]);
        out.extend(length.to_be_bytes());
        out.extend((self.kind as u32).to_be_bytes());
        out.extend(self.generation.to_be_bytes());
        out.extend(self.mark.to_be_bytes());
        out.extend(self.payload);
        let crc = crc32fast::hash(&out[start + 8..]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_be_bytes());
    }

    /// The intact frame at the start of `bytes`, if there is one.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let length = payload_length(bytes)?;
        let whole = bytes.get(..FRAME_HEAD + length)?;
        if crc32fast::hash(&whole[8..]) != number::<4>(whole, 4)? as u32 {
            return None;
        }
        Some(Self {
            kind: match number::<4>(whole, 12)? {
                1 => Kind::Record,
                2 => Kind::Block,
                3 => Kind::End,
                _ => return None,
            },
            generation: number::<8>(whole, 16)?,
            mark: number::<8>(whole, 24)?,
            payload: &whole[FRAME_HEAD..],
        })
    }
}

/// The payload length a frame's head claims, if it looks like one.
pub(super) fn payload_length(head: &[u8]) -> Option<usize> {
    if !head.starts_with(FRAME_MAGIC) {
        return None;
    }
    let length = number::<4>(head, 8)? as usize;
    (length <= MAX_PAYLOAD).then_some(length)
}

/// The first bytes of a file.
pub(super) fn file_head(magic: &[u8; 8]) -> Vec<u8> {
    let mut head = magic.to_vec();
    head.extend(VERSION.to_be_bytes());
    head.extend(crc32fast::hash(&head).to_be_bytes());
    head
}

/// The version of an intact head that a newer release wrote.
///
/// A damaged head is not newer: the frames behind it speak for themselves.
pub(super) fn newer_version(magic: &[u8; 8], bytes: &[u8]) -> Option<u32> {
    let head = bytes.get(..FILE_HEAD)?;
    let version = number::<4>(head, 8)? as u32;
    let intact = u64::from(crc32fast::hash(&head[..12])) == number::<4>(head, 12)?;
    (head.starts_with(magic) && intact && version > VERSION).then_some(version)
}

/// A big-endian number of `N` bytes.
pub(super) fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(N)?)?;
    Some(
        field
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    )
}
