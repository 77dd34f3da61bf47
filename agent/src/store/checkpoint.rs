//! Checkpoint files: every entry at one generation, sorted by key.
//!
//! Written beside, synced, then renamed, so that a file by the final name is whole unless
//! the medium damaged it later. The end frame proves that it is.

use std::collections::{BTreeMap, btree_map};
use std::io::{self, BufReader, Read};
use std::iter::Peekable;
use std::vec;

use super::batch::{Batch, Key, Value};
use super::digest::Digest;
use super::disk::{Disk, FileError};
use super::frame::{self, Frame, Kind};

const MAGIC: &[u8; 8] = b"ASHLARCP";
const PREFIX: &str = "checkpoint-";
const TEMPORARY: &str = "checkpoint.tmp";
/// Entries are gathered into frames of about this many bytes.
const BLOCK: usize = 64 * 1024;

/// One entry, or why it could not be read.
pub(super) type Entry = Result<(Key, Value), ReadError>;

/// A checkpoint known to be whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) generation: u64,
    pub(super) bytes: u64,
}

/// Why entries could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("checkpoint {file} is damaged at byte {offset}")]
    Damaged { file: String, offset: u64 },
    #[error("{file} has format version {version}, which this release does not know")]
    Newer { file: String, version: u32 },
    #[error("failed to read the database copy: {0}")]
    Index(#[from] super::index::IndexError),
}

/// The file of the checkpoint at `generation`.
pub(super) fn name(generation: u64) -> String {
    format!("{PREFIX}{generation:020}")
}

/// Generations of all checkpoint files, ascending.
pub(super) fn list(names: &[String]) -> Vec<u64> {
    super::numbered(names, PREFIX)
}

/// Writes sorted `entries` as the durable checkpoint at `generation`.
pub(super) fn write(
    disk: &dyn Disk,
    generation: u64,
    entries: impl Iterator<Item = Entry>,
) -> Result<Checkpoint, ReadError> {
    let written = try_write(disk, generation, entries);
    if written.is_err() {
        // A half-written file takes room that may be what was missing; the next attempt or
        // start removes it if this fails too.
        let _ = disk.remove(TEMPORARY);
    }
    written
}

fn try_write(
    disk: &dyn Disk,
    generation: u64,
    entries: impl Iterator<Item = Entry>,
) -> Result<Checkpoint, ReadError> {
    let mut file = disk.create(TEMPORARY)?;
    let mut digest = Digest::default();
    let mut bytes = 0;
    let mut append = |kind, mark, payload: &[u8]| {
        let mut out = Vec::with_capacity(frame::FRAME_HEAD + payload.len());
        if bytes == 0 {
            out = frame::file_head(MAGIC);
        }
        let frame = Frame {
            kind,
            generation,
            mark,
            payload,
        };
        frame.encode(&mut out);
        bytes += out.len() as u64;
        file.append(&out)
    };
    let mut blocks = 0;
    let mut block = Batch::new();
    let mut held = 0;
    for entry in entries {
        let (key, value) = entry?;
        digest.add(&key, &value);
        held += key.len() + value.len();
        block.put(key, value);
        if held >= BLOCK {
            append(Kind::Block, blocks, &std::mem::take(&mut block).encode())?;
            blocks += 1;
            held = 0;
        }
    }
    append(Kind::Block, blocks, &block.encode())?;
    append(Kind::End, blocks + 1, &digest.encode())?;
    file.sync()?;
    disk.rename(TEMPORARY, &name(generation))?;
    disk.sync_names()?;
    Ok(Checkpoint { generation, bytes })
}

/// Reads a whole checkpoint to prove that it is intact.
pub(super) fn verify(disk: &dyn Disk, generation: u64) -> Result<Checkpoint, ReadError> {
    let mut entries = Entries::open(disk, generation)?;
    for entry in entries.by_ref() {
        entry?;
    }
    Ok(Checkpoint {
        generation,
        bytes: entries.offset,
    })
}

/// The entries of one checkpoint in order, then the proof that they are all there.
pub(super) struct Entries {
    file: String,
    generation: u64,
    input: BufReader<Box<dyn Read + Send>>,
    offset: u64,
    blocks: u64,
    block: vec::IntoIter<(Key, Option<Value>)>,
    digest: Digest,
    done: bool,
}

impl Entries {
    pub(super) fn open(disk: &dyn Disk, generation: u64) -> Result<Self, ReadError> {
        let file = name(generation);
        let mut input = BufReader::new(disk.open(&file)?);
        let mut head = Vec::new();
        let size = frame::FILE_HEAD as u64;
        let read = input.by_ref().take(size).read_to_end(&mut head);
        read.map_err(|source| read_failed(&file, source))?;
        if let Some(version) = frame::newer_version(MAGIC, &head) {
            return Err(ReadError::Newer { file, version });
        }
        if head != frame::file_head(MAGIC) {
            return Err(ReadError::Damaged { file, offset: 0 });
        }
        Ok(Self {
            file,
            generation,
            input,
            offset: size,
            blocks: 0,
            block: Vec::new().into_iter(),
            digest: Digest::default(),
            done: false,
        })
    }

    /// Reads the next frame: more entries, or the end.
    fn advance(&mut self) -> Result<(), ReadError> {
        let bytes = self.read_frame()?;
        let frame = Frame::parse(&bytes)
            .filter(|frame| frame.generation == self.generation && frame.mark == self.blocks)
            .ok_or_else(|| self.damaged())?;
        match frame.kind {
            Kind::Block => {
                let batch = Batch::decode(frame.payload).ok_or_else(|| self.damaged())?;
                self.block = batch.into_changes().collect::<Vec<_>>().into_iter();
            }
            Kind::End if Digest::decode(frame.payload) == Some(self.digest) => self.done = true,
            Kind::End | Kind::Record => return Err(self.damaged()),
        }
        self.blocks += 1;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn read_frame(&mut self) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; frame::FRAME_HEAD];
        self.fill(&mut bytes)?;
        let length = frame::payload_length(&bytes).ok_or_else(|| self.damaged())?;
        bytes.resize(frame::FRAME_HEAD + length, 0);
        self.fill(&mut bytes[frame::FRAME_HEAD..])?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ReadError> {
        self.input
            .read_exact(bytes)
            .map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => self.damaged(),
                _ => read_failed(&self.file, source),
            })
    }

    fn damaged(&self) -> ReadError {
        ReadError::Damaged {
            file: self.file.clone(),
            offset: self.offset,
        }
    }
}

impl Iterator for Entries {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            if let Some((key, value)) = self.block.next() {
                let value = value.unwrap_or_default();
                self.digest.add(&key, &value);
                return Some(Ok((key, value)));
            }
            if self.done {
                return None;
            }
            if let Err(error) = self.advance() {
                self.done = true;
                return Some(Err(error));
            }
        }
    }
}

fn read_failed(file: &str, source: io::Error) -> ReadError {
    ReadError::File(FileError {
        operation: "read",
        path: file.into(),
        source,
    })
}

/// The last change to each key; `None` deletes.
pub(super) type Overlay = BTreeMap<Key, Option<Value>>;

/// Sorted entries with later changes laid over them.
pub(super) struct Merge<I: Iterator<Item = Entry>> {
    base: Peekable<I>,
    overlay: Peekable<btree_map::IntoIter<Key, Option<Value>>>,
}

impl<I: Iterator<Item = Entry>> Merge<I> {
    pub(super) fn new(base: I, overlay: Overlay) -> Self {
        Self {
            base: base.peekable(),
            overlay: overlay.into_iter().peekable(),
        }
    }
}

impl<I: Iterator<Item = Entry>> Iterator for Merge<I> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            if let (Some(Ok((old, _))), Some((new, _))) = (self.base.peek(), self.overlay.peek()) {
                if old < new {
                    return self.base.next();
                }
                if old == new {
                    self.base.next();
                }
            } else if self.overlay.peek().is_none() || matches!(self.base.peek(), Some(Err(_))) {
                return self.base.next();
            }
            if let (key, Some(value)) = self.overlay.next()? {
                return Some(Ok((key, value)));
            }
        }
    }
}
