//! Journal segments: files of records, one per generation.
//!
//! ```text
//! journal-<first>   record first, first+1, …      closed: every record was synced
//! journal-<next>    record next, …                the last: its tail may be torn
//! ```
//!
//! Behind the last record are zeros, which the next records take the place of: a sync that need
//! not say where new bytes are is one flush of the disk and no commit of the file system's
//! journal.
//!
//! A record says which generation was durable when it was written. That tells a tail torn by
//! a power cut (nobody was promised those records) from damage to a promised one.

use super::batch::Batch;
use super::disk::{Disk, DiskFile, FileError};
use super::frame::{self, Frame, Kind};

const MAGIC: &[u8; 8] = b"ASHLARJN";
const PREFIX: &str = "journal-";
const TEMPORARY: &str = "journal.tmp";

/// One segment open for appending.
pub(super) struct Segment {
    file: Box<dyn DiskFile>,
    /// Bytes of whole records and the head.
    pub(super) bytes: u64,
    /// Bytes of zeros behind them.
    room: u64,
    /// How many are reserved at a time.
    ahead: u64,
    pub(super) first: u64,
}

/// Why an append did not happen.
pub(super) enum AppendError {
    /// The segment is as it was before.
    Clean(FileError),
    /// Part of the record may be left in it.
    Dirty(FileError),
}

/// Why a segment could not be made.
pub(super) enum CreateError {
    /// It does not exist.
    Clean(FileError),
    /// It may or may not exist after a power cut.
    Dirty(FileError),
}

impl Segment {
    /// Makes a durable segment that begins with the encoded `frames`.
    pub(super) fn create(
        disk: &dyn Disk,
        first: u64,
        frames: &[u8],
        ahead: u64,
    ) -> Result<Self, CreateError> {
        let written = || -> Result<_, FileError> {
            let mut segment = Self {
                file: disk.create(TEMPORARY)?,
                bytes: (frame::FILE_HEAD + frames.len()) as u64,
                room: 0,
                ahead,
                first,
            };
            segment.file.append(&frame::file_head(MAGIC))?;
            segment.file.append(frames)?;
            segment.reserve(ahead)?;
            segment.file.sync()?;
            disk.rename(TEMPORARY, &name(first))?;
            Ok(segment)
        };
        let segment = written().map_err(|error| {
            // What is half written takes room that may be what was missing; the next one
            // takes its place if it stays.
            let _ = disk.remove(TEMPORARY);
            CreateError::Clean(error)
        })?;
        disk.sync_names().map_err(CreateError::Dirty)?;
        Ok(segment)
    }

    pub(super) fn append(&mut self, record: &[u8]) -> Result<(), AppendError> {
        let length = record.len() as u64;
        if self.room < length {
            // The next sync makes this room durable, too.
            self.reserve(length + self.ahead)
                .map_err(AppendError::Dirty)?;
        }
        if let Err(error) = self.file.append(record) {
            self.room = 0;
            return Err(match self.file.truncate(self.bytes) {
                Ok(()) => AppendError::Clean(error),
                Err(_) => AppendError::Dirty(error),
            });
        }
        self.bytes += length;
        self.room = self.room.saturating_sub(length);
        Ok(())
    }

    /// Makes room, or does without it: that costs time and nothing else. Fails when the segment
    /// may not end where it did.
    fn reserve(&mut self, room: u64) -> Result<(), FileError> {
        self.room = room;
        if let Err(error) = self.file.reserve(room) {
            tracing::debug!(%error, "the journal goes on without room ahead");
            self.room = 0;
            self.file.truncate(self.bytes)?;
        }
        Ok(())
    }

    pub(super) fn sync(&mut self) -> Result<(), FileError> {
        self.file.sync()
    }
}

/// The file of the segment that begins with generation `first`.
pub(super) fn name(first: u64) -> String {
    format!("{PREFIX}{first:020}")
}

/// First generations of all segments, ascending.
pub(super) fn list(names: &[String]) -> Vec<u64> {
    super::numbered(names, PREFIX)
}

/// One record read back.
pub(super) struct Record {
    pub(super) generation: u64,
    pub(super) batch: Batch,
}

/// Promised records that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) file: String,
    /// Byte at which reading failed.
    pub(super) offset: u64,
    /// First and last generation missing.
    pub(super) first: u64,
    pub(super) last: u64,
}

/// Everything the segments say about the generations after a base.
#[derive(Default)]
pub(super) struct Scan {
    base: u64,
    /// Readable records after the base, ascending.
    pub(super) records: Vec<Record>,
    /// The last generation known to have existed.
    pub(super) end: u64,
    /// What is missing after the base.
    pub(super) lost: Vec<Loss>,
    /// Bytes at the very end that were never promised and are dropped.
    pub(super) torn_bytes: u64,
    /// The last segment's intact frames.
    pub(super) tail: Vec<u8>,
    /// Bytes of each segment but for zeros behind its last record, by first generation.
    pub(super) segments: Vec<(u64, u64)>,
}

/// Why the journal could not be read at all.
pub(super) enum ScanError {
    File(FileError),
    Newer { file: String, version: u32 },
}

/// Reads the records after generation `base` from the segments beginning at `firsts`.
pub(super) fn scan(disk: &dyn Disk, firsts: &[u64], base: u64) -> Result<Scan, ScanError> {
    let mut scan = Scan {
        base,
        end: firsts.first().map_or(base, |first| base.min(first - 1)),
        ..Scan::default()
    };
    for (place, first) in firsts.iter().enumerate() {
        let file = name(*first);
        let bytes = disk.read(&file).map_err(ScanError::File)?;
        if let Some(version) = frame::newer_version(MAGIC, &bytes) {
            return Err(ScanError::Newer { file, version });
        }
        // A segment is begun only once all before it is durable.
        scan.skip_to(*first, &file, 0);
        scan.tail.clear();
        let end = scan.read_segment(&file, &bytes, place + 1 == firsts.len());
        scan.segments.push((*first, end as u64));
    }
    Ok(scan)
}

impl Scan {
    /// Whether every generation after `base` up to `end` was read.
    pub(super) fn continues(&self, base: u64, end: u64) -> bool {
        let after = self.records.iter().map(|record| record.generation);
        after
            .filter(|generation| *generation > base)
            .eq(base + 1..=end)
    }

    /// Where its last record ends.
    fn read_segment(&mut self, file: &str, bytes: &[u8], last: bool) -> usize {
        let mut offset = frame::FILE_HEAD;
        while offset < bytes.len() {
            if let Some((frame, batch)) = record_at(bytes, offset)
                && frame.generation == self.end + 1
            {
                self.tail.extend(&bytes[offset..offset + frame.size()]);
                self.end = frame.generation;
                offset += frame.size();
                if frame.generation > self.base {
                    let generation = frame.generation;
                    self.records.push(Record { generation, batch });
                }
                continue;
            }
            let rest = without_room(&bytes[offset..]).len();
            let Some((next, promised)) = self.resume(bytes, offset) else {
                self.torn_bytes = if last { rest } else { 0 } as u64;
                return offset;
            };
            if last && promised <= self.end {
                self.torn_bytes = rest as u64;
                return offset;
            }
            self.skip_to(next.1, file, offset as u64);
            offset = next.0;
        }
        offset
    }

    /// Behind a hole: the next record's offset and generation, and the highest generation
    /// that any later record knows durable.
    fn resume(&self, bytes: &[u8], hole: usize) -> Option<((usize, u64), u64)> {
        let mut next = None;
        let mut promised = 0;
        let mut offset = hole;
        while offset < bytes.len() {
            match record_at(bytes, offset) {
                Some((frame, _)) if frame.generation > self.end => {
                    next = next.or(Some((offset, frame.generation)));
                    promised = promised.max(frame.mark);
                    offset += frame.size();
                }
                _ => offset += 1,
            }
        }
        next.map(|next| (next, promised))
    }

    /// Notes as lost whatever lies between the end so far and generation `next`.
    fn skip_to(&mut self, next: u64, file: &str, offset: u64) {
        let (first, last) = (self.end + 1, next - 1);
        if last > self.base && first <= last {
            self.lost.push(Loss {
                file: file.to_owned(),
                offset,
                first,
                last,
            });
        }
        self.end = self.end.max(last);
    }
}

/// Without the zeros at the end.
fn without_room(bytes: &[u8]) -> &[u8] {
    let last = bytes.iter().rposition(|byte| *byte != 0);
    &bytes[..last.map_or(0, |last| last + 1)]
}

fn record_at(bytes: &[u8], offset: usize) -> Option<(Frame<'_>, Batch)> {
    let frame = Frame::parse(&bytes[offset..])?;
    let record = frame.kind == Kind::Record && frame.generation <= frame::LAST_GENERATION;
    Some((frame, record.then(|| Batch::decode(frame.payload))??))
}
