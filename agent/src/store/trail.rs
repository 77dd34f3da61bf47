//! A bounded sequence of numbered entries, in files of its own: written once, never changed, and gone
//! when enough others have come.
//!
//! ```text
//! append ── written: outlives the process
//! sync ──── durable: outlives a power cut
//! open ──── what is intact, in order; the last file anew, so that nothing follows damage
//! ```
//!
//! Files in the directory: `trail-<number of the first entry>`, framed as the journal is.

use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, DiskFile, FileError, RealDisk};
use super::frame::{FILE_HEAD, Frame, Kind, file_head};
use super::numbered;

const MAGIC: &[u8; 8] = b"ASHTRAIL";
const PREFIX: &str = "trail-";
/// The last file while it is written anew.
const UNFINISHED: &str = "unfinished";

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct TrailBounds {
    /// Entries kept, at least.
    pub kept: u64,
    /// Entries of one file; so many more than `kept` there may be.
    pub file: u64,
}

/// An entry with its number, from 1.
pub type Entry = (u64, Vec<u8>);

/// An open trail. One thread owns it, and one process opens it at a time.
pub struct Trail {
    disk: Arc<dyn Disk>,
    bounds: TrailBounds,
    /// The first number of each file, ascending.
    files: Vec<u64>,
    /// The last one, open for appending. None after a failure: nothing is appended to what may be
    /// damaged.
    last: Option<Open>,
    newest: u64,
    /// Files came or went since the last sync.
    renamed: bool,
}

struct Open {
    file: Box<dyn DiskFile>,
    /// Bytes that are whole.
    whole: u64,
}

impl Trail {
    /// Opens the trail in `dir`, creating it if there is none, with what it has.
    ///
    /// # Errors
    /// When the directory cannot be had. Damage is no error: what it took is missing.
    pub fn open(dir: &Path, bounds: TrailBounds) -> Result<(Trail, Vec<Entry>), FileError> {
        Trail::on(Arc::new(RealDisk::open(dir)?), bounds)
    }

    pub(super) fn on(
        disk: Arc<dyn Disk>,
        bounds: TrailBounds,
    ) -> Result<(Trail, Vec<Entry>), FileError> {
        let names = disk.list()?;
        let mut trail = Trail {
            files: numbered(&names, PREFIX),
            disk,
            bounds,
            last: None,
            newest: 0,
            renamed: false,
        };
        let mut entries: Vec<Entry> = Vec::new();
        let mut of_last = 0;
        let mut unread = 0;
        for first in &trail.files {
            let before = entries.len();
            let bytes = match trail.disk.read(&name(*first)) {
                Ok(bytes) => bytes,
                // As damage. Which numbers it had is not known, so none of them is given again.
                Err(error) => {
                    tracing::warn!(%error, "entries of a trail cannot be read");
                    unread = first + bounds.file - 1;
                    of_last = 0;
                    continue;
                }
            };
            for frame in frames(&bytes) {
                let newest = entries.last().map_or(first - 1, |(number, _)| *number);
                if frame.generation > newest {
                    entries.push((frame.generation, frame.payload.to_vec()));
                }
            }
            of_last = entries.len() - before;
        }
        let named = trail.files.last().map_or(0, |first| first - 1);
        let known = entries.last().map_or(0, |(number, _)| *number);
        trail.newest = known.max(named).max(unread);
        // What cannot be written now can be later, in a file of its own.
        if of_last > 0
            && let Err(error) = trail.rewrite(&entries[entries.len() - of_last..])
        {
            tracing::warn!(%error, "the last file of a trail stays as it is");
        }
        let excess = entries.len().saturating_sub(bounds.kept as usize);
        entries.drain(..excess);
        Ok((trail, entries))
    }

    /// Writes an entry; its number. Of one that fails nothing remains.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn append(&mut self, payload: &[u8]) -> Result<u64, FileError> {
        let number = self.newest + 1;
        if self.is_due(number) {
            self.begin(number)?;
        }
        let open = self.last.as_mut().expect("it was begun when it was due");
        let mut bytes = Vec::new();
        encode(number, payload, &mut bytes);
        if let Err(error) = open.file.append(&bytes) {
            // What cannot be cut off is left behind with its file.
            if open.file.truncate(open.whole).is_err() {
                self.last = None;
            }
            return Err(error);
        }
        open.whole += bytes.len() as u64;
        self.newest = number;
        Ok(number)
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// When the disk fails; what was written since the last time may be lost.
    pub fn sync(&mut self) -> Result<(), FileError> {
        let synced = self.last.as_mut().map_or(Ok(()), |open| open.file.sync());
        if let Err(error) = synced {
            // The kernel forgets what it could not write, and says so once.
            self.last = None;
            return Err(error);
        }
        if self.renamed {
            self.disk.sync_names()?;
            self.renamed = false;
        }
        Ok(())
    }

    /// Whether what was appended since the last sync may be lost.
    pub fn is_broken(&self) -> bool {
        self.last.is_none()
    }

    fn is_due(&self, number: u64) -> bool {
        let first = self.files.last().copied().unwrap_or(number);
        self.last.is_none() || number - first >= self.bounds.file
    }

    /// Begins the file of `number`, and lets go of those that have nothing that is kept.
    fn begin(&mut self, number: u64) -> Result<(), FileError> {
        self.sync()?;
        let mut file = self.disk.create(&name(number))?;
        let head = file_head(MAGIC);
        file.append(&head)?;
        self.files.retain(|first| *first != number);
        self.files.push(number);
        self.renamed = true;
        let whole = head.len() as u64;
        self.last = Some(Open { file, whole });
        while let [first, second, ..] = self.files[..]
            && second + self.bounds.kept <= number
        {
            self.disk.remove(&name(first))?;
            self.files.remove(0);
        }
        Ok(())
    }

    /// Writes the last file anew, with those entries.
    fn rewrite(&mut self, entries: &[Entry]) -> Result<(), FileError> {
        let Some(first) = self.files.last().copied() else {
            return Ok(());
        };
        let mut file = self.disk.create(UNFINISHED)?;
        let mut bytes = file_head(MAGIC);
        for (number, payload) in entries {
            encode(*number, payload, &mut bytes);
        }
        file.append(&bytes)?;
        file.sync()?;
        self.disk.rename(UNFINISHED, &name(first))?;
        self.disk.sync_names()?;
        let whole = bytes.len() as u64;
        self.last = Some(Open { file, whole });
        Ok(())
    }
}

fn name(first: u64) -> String {
    format!("{PREFIX}{first}")
}

fn encode(number: u64, payload: &[u8], out: &mut Vec<u8>) {
    let frame = Frame {
        kind: Kind::Record,
        generation: number,
        mark: 0,
        payload,
    };
    frame.encode(out);
}

/// The intact frames of a file. Behind damage they are looked for: each has a checksum.
fn frames(bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    let mut at = FILE_HEAD;
    std::iter::from_fn(move || {
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match Frame::parse(rest) {
                Some(frame) => {
                    at += frame.size();
                    return Some(frame);
                }
                None => at += 1,
            }
        }
        None
    })
}
