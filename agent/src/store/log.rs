//! Journal and checkpoints together: what makes a commit durable.
//!
//! ```text
//!  stage ──► active segment ──sync──► durable
//!                 │ over its bound: rotate
//!                 ▼
//!           closed segments + newest checkpoint ──job──► next checkpoint
//!                                                         │
//!                    two checkpoints are kept, with all segments after the older
//! ```

use std::sync::Arc;

use super::batch::Batch;
use super::checkpoint::{self, Checkpoint, Entry};
use super::disk::{Disk, FileError};
use super::error::{CommitError, OpenError, StageError};
use super::frame::{Frame, Kind};
use super::journal::{self, AppendError, CreateError, Segment};
use super::survey::{CheckpointJob, Survey};

/// Largest encoded batch: what fits a frame, also of a release that knows no larger ones. All that
/// comes with a pool that is taken over is one.
const MAX_BATCH: usize = 15 << 20;
/// Largest entry, so that any one fits a checkpoint's block with what was gathered before it.
const MAX_ENTRY: usize = 8 << 20;

/// Bounds of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Journal bytes after which a checkpoint is due, at least.
    pub(super) segment_bytes: u64,
    /// Free bytes below which nothing more is taken.
    pub(super) reserve_bytes: u64,
    /// Bytes of zeros reserved for records at a time.
    pub(super) ahead_bytes: u64,
}

/// A record that was appended.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) generation: u64,
    pub(super) bytes: u64,
}

/// The open log.
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    bounds: Bounds,
    active: Segment,
    /// First generation and bytes of segments before the active one.
    closed: Vec<(u64, u64)>,
    /// Ascending, at most two.
    checkpoints: Vec<Checkpoint>,
    staged: u64,
    synced: u64,
    /// Journal bytes below which a failed checkpoint is not tried again.
    retry_at: u64,
    poisoned: bool,
}

impl Log {
    /// Goes on where whole files end.
    ///
    /// The last segment is written anew: what an earlier process left in the page cache
    /// after a failed fsync reads well and is not on the medium.
    pub(super) fn resume(
        disk: Arc<dyn Disk>,
        bounds: Bounds,
        survey: &Survey,
    ) -> Result<Self, OpenError> {
        let first = survey.firsts.last().copied().unwrap_or(1);
        let active = Segment::create(&*disk, first, &survey.scan.tail, bounds.ahead_bytes)?;
        put_aside(&*disk, survey.damaged.iter().map(|damaged| &damaged.0))?;
        let mut closed = survey.scan.segments.clone();
        closed.pop();
        Ok(Self {
            disk,
            bounds,
            active,
            closed,
            checkpoints: survey.checkpoints.clone(),
            staged: survey.end(),
            synced: survey.end(),
            retry_at: 0,
            poisoned: false,
        })
    }

    /// Starts over at `generation` from `entries`, with all earlier files put aside.
    pub(super) fn restart(
        disk: Arc<dyn Disk>,
        bounds: Bounds,
        generation: u64,
        entries: impl Iterator<Item = Entry>,
    ) -> Result<Self, OpenError> {
        let names = disk.list()?;
        let active = Segment::create(&*disk, generation + 1, &[], bounds.ahead_bytes)?;
        let checkpoint = checkpoint::write(&*disk, generation, entries)?;
        let keep = [journal::name(active.first), checkpoint::name(generation)];
        let old = journal::list(&names).into_iter().map(journal::name);
        let old = old.chain(checkpoint::list(&names).into_iter().map(checkpoint::name));
        let old: Vec<_> = old.filter(|name| !keep.contains(name)).collect();
        put_aside(&*disk, old.iter())?;
        Ok(Self {
            disk,
            bounds,
            active,
            closed: Vec::new(),
            checkpoints: vec![checkpoint],
            staged: generation,
            synced: generation,
            retry_at: 0,
            poisoned: false,
        })
    }

    /// The last generation known durable.
    pub(super) fn generation(&self) -> u64 {
        self.synced
    }

    /// The newest checkpoint's generation; 0 before the first.
    pub(super) fn floor(&self) -> u64 {
        self.checkpoints
            .last()
            .map_or(0, |newest| newest.generation)
    }

    /// Appends one record; durable after [`Log::sync`].
    pub(super) fn stage(&mut self, batch: &Batch) -> Result<Staged, StageError> {
        if self.poisoned {
            return Err(StageError::Poisoned);
        }
        let large = |(key, value): &(&[u8], Option<&[u8]>)| {
            key.len() + value.map_or(0, <[u8]>::len) > MAX_ENTRY
        };
        if let Some((key, value)) = batch.changes().find(large) {
            return Err(StageError::TooLarge {
                bytes: key.len() + value.map_or(0, <[u8]>::len),
                limit: MAX_ENTRY,
            });
        }
        let payload = batch.encode();
        if payload.len() > MAX_BATCH {
            return Err(StageError::TooLarge {
                bytes: payload.len(),
                limit: MAX_BATCH,
            });
        }
        self.check_space()?;
        let mut record = Vec::new();
        let frame = Frame {
            kind: Kind::Record,
            generation: self.staged + 1,
            mark: self.synced,
            payload: &payload,
        };
        frame.encode(&mut record);
        match self.active.append(&record) {
            Ok(()) => self.staged += 1,
            Err(AppendError::Clean(error)) => return Err(self.refused(error)),
            Err(AppendError::Dirty(error)) => {
                self.poisoned = true;
                return Err(self.refused(error));
            }
        }
        Ok(Staged {
            generation: self.staged,
            bytes: record.len() as u64,
        })
    }

    /// Makes everything staged durable.
    pub(super) fn sync(&mut self) -> Result<u64, CommitError> {
        if self.poisoned {
            return Err(CommitError::Poisoned);
        }
        if let Err(error) = self.active.sync() {
            self.poisoned = true;
            return Err(error.into());
        }
        self.synced = self.staged;
        Ok(self.synced)
    }

    /// Refuses all further use.
    pub(super) fn poison(&mut self) {
        self.poisoned = true;
    }

    /// Begins a new segment and hands out the job to checkpoint the ones before it, if the
    /// journal has grown to its bound. One job at a time; its end goes to [`Log::adopt`].
    /// Not while anything is staged and not synced.
    pub(super) fn begin_checkpoint(&mut self) -> Result<Option<CheckpointJob>, CommitError> {
        if self.poisoned {
            return Err(CommitError::Poisoned);
        }
        let base = self.checkpoints.last().copied();
        if self.staged != self.synced || !self.checkpoint_is_due() {
            return Ok(None);
        }
        if self.active.first <= self.synced {
            let ahead = self.bounds.ahead_bytes;
            match Segment::create(&*self.disk, self.synced + 1, &[], ahead) {
                Ok(next) => {
                    let closed = std::mem::replace(&mut self.active, next);
                    self.closed.push((closed.first, closed.bytes));
                }
                Err(CreateError::Clean(error)) => {
                    self.postpone_checkpoint(&error);
                    return Ok(None);
                }
                Err(CreateError::Dirty(error)) => {
                    self.poisoned = true;
                    return Err(error.into());
                }
            }
        }
        let floor = self.floor();
        let firsts = self.closed.iter().map(|closed| closed.0);
        Ok(Some(CheckpointJob {
            disk: self.disk.clone(),
            base,
            firsts: firsts.filter(|first| *first > floor).collect(),
            target: self.synced,
        }))
    }

    /// Whether the journal has grown to its bound.
    pub(super) fn checkpoint_is_due(&self) -> bool {
        self.journal_bytes() >= self.checkpoint_bound().max(self.retry_at)
    }

    /// Takes over a job's checkpoint and lets go of what it replaces.
    pub(super) fn adopt(&mut self, outcome: Result<Checkpoint, OpenError>) {
        match outcome {
            Ok(checkpoint) => {
                self.retry_at = 0;
                self.checkpoints.push(checkpoint);
                self.prune();
            }
            Err(error) => self.postpone_checkpoint(&error),
        }
    }

    /// Bytes of journal since the newest checkpoint.
    pub(super) fn journal_bytes(&self) -> u64 {
        let floor = self.floor();
        let closed = self.closed.iter().filter(|closed| closed.0 > floor);
        self.active.bytes + closed.map(|closed| closed.1).sum::<u64>()
    }

    /// Bytes free on the state disk.
    pub(super) fn free_bytes(&self) -> Result<u64, FileError> {
        self.disk.free_bytes()
    }

    /// A checkpoint costs its own size, so it waits for a journal in proportion to it.
    fn checkpoint_bound(&self) -> u64 {
        let newest = self.checkpoints.last().map_or(0, |newest| newest.bytes);
        self.bounds.segment_bytes.max(newest / 2)
    }

    fn postpone_checkpoint(&mut self, error: &dyn std::error::Error) {
        self.retry_at = self.journal_bytes() + self.bounds.segment_bytes;
        tracing::warn!(%error, "checkpoint postponed; the journal grows on");
    }

    fn check_space(&self) -> Result<(), StageError> {
        let reserve = self.bounds.reserve_bytes;
        match self.disk.free_bytes() {
            Ok(free) if free < reserve => Err(StageError::StateDiskFull { free, reserve }),
            Ok(_) => Ok(()),
            Err(error) => Err(StageError::File(error)),
        }
    }

    fn refused(&self, error: FileError) -> StageError {
        match error.is_disk_full() {
            true => StageError::StateDiskFull {
                free: 0,
                reserve: self.bounds.reserve_bytes,
            },
            false => StageError::File(error),
        }
    }

    /// Removes what neither kept checkpoint needs. A file that stays is only in the way of
    /// space, so failing is no error.
    fn prune(&mut self) {
        if self.checkpoints.len() < 2 {
            return;
        }
        let mut gone = Vec::new();
        while self.checkpoints.len() > 2 {
            gone.push(checkpoint::name(self.checkpoints.remove(0).generation));
        }
        let kept = self.checkpoints[0].generation;
        while self
            .second_segment()
            .is_some_and(|second| second <= kept + 1)
        {
            gone.push(journal::name(self.closed.remove(0).0));
        }
        for name in gone {
            if let Err(error) = self.disk.remove(&name) {
                tracing::warn!(%error, "an old file of the store stays");
            }
        }
    }

    /// Where the segment after the oldest closed one begins.
    fn second_segment(&self) -> Option<u64> {
        self.closed.first()?;
        Some(self.closed.get(1).map_or(self.active.first, |next| next.0))
    }
}

impl From<CreateError> for OpenError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Clean(error) | CreateError::Dirty(error) => error.into(),
        }
    }
}

fn put_aside<'a>(
    disk: &dyn Disk,
    names: impl Iterator<Item = &'a String>,
) -> Result<(), OpenError> {
    for name in names {
        disk.rename(name, &format!("damaged-{name}"))?;
    }
    Ok(disk.sync_names()?)
}
