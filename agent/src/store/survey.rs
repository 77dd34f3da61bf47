//! What checkpoints and journal hold together, read once at start.

use std::sync::Arc;

use super::checkpoint::{self, Checkpoint, Entry, Merge, Overlay, ReadError};
use super::disk::Disk;
use super::error::OpenError;
use super::journal::{self, Record, Scan, ScanError};

/// Sorted entries from a checkpoint with journal records laid over them.
pub(super) type Entries = Merge<Box<dyn Iterator<Item = Entry>>>;

/// The files as they were found.
pub(super) struct Survey {
    /// Intact checkpoints, ascending, at most two.
    pub(super) checkpoints: Vec<Checkpoint>,
    /// Checkpoint files that cannot be used, and why.
    pub(super) damaged: Vec<(String, String)>,
    /// First generations of the segments, ascending.
    pub(super) firsts: Vec<u64>,
    /// The journal after the newest intact checkpoint.
    pub(super) scan: Scan,
}

/// Reads every file; changes nothing but leftovers of interrupted writes.
pub(super) fn survey(disk: &dyn Disk) -> Result<Survey, OpenError> {
    let names = disk.list()?;
    for name in names.iter().filter(|name| name.ends_with(".tmp")) {
        disk.remove(name)?;
    }
    let mut checkpoints = Vec::new();
    let mut damaged = Vec::new();
    for generation in checkpoint::list(&names).into_iter().rev() {
        if checkpoints.len() == 2 {
            disk.remove(&checkpoint::name(generation))?;
            continue;
        }
        match checkpoint::verify(disk, generation) {
            Ok(checkpoint) => checkpoints.insert(0, checkpoint),
            Err(ReadError::Newer { file, version }) => {
                return Err(OpenError::Newer { file, version });
            }
            Err(error) => damaged.push((checkpoint::name(generation), error.to_string())),
        }
    }
    let firsts = journal::list(&names);
    let floor = checkpoints.last().map_or(0, |newest| newest.generation);
    let scan = journal::scan(disk, &firsts, floor)?;
    Ok(Survey {
        checkpoints,
        damaged,
        firsts,
        scan,
    })
}

impl Survey {
    /// Nothing was ever written here.
    pub(super) fn is_empty(&self) -> bool {
        self.firsts.is_empty() && self.checkpoints.is_empty() && self.damaged.is_empty()
    }

    /// Generation of the newest intact checkpoint.
    pub(super) fn floor(&self) -> u64 {
        self.checkpoints
            .last()
            .map_or(0, |newest| newest.generation)
    }

    /// The last generation that the files know of.
    pub(super) fn end(&self) -> u64 {
        self.scan.end.max(self.floor())
    }

    /// Whether the journal's end can be seen: a segment is begun before the checkpoint that
    /// lets go of the ones before it, so one must be there.
    pub(super) fn end_is_known(&self) -> bool {
        self.firsts.last() > Some(&self.floor())
    }

    /// Whether checkpoint and journal hold every generation up to the end.
    pub(super) fn is_whole(&self) -> bool {
        self.scan.lost.is_empty() && self.firsts.contains(&(self.floor() + 1))
    }

    /// The entries at the end, streamed from the newest checkpoint.
    pub(super) fn entries(&self, disk: &dyn Disk) -> Result<Entries, ReadError> {
        merged(disk, self.checkpoints.last(), self.overlay(self.floor()))
    }

    /// The last change to each key after `generation`.
    pub(super) fn overlay(&self, generation: u64) -> Overlay {
        let records = self.scan.records.iter();
        overlay(records.filter(|record| record.generation > generation))
    }
}

/// Writes a checkpoint from the one before it and the closed segments since: files that no
/// longer change, so it runs beside commits.
pub(super) struct CheckpointJob {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) base: Option<Checkpoint>,
    pub(super) firsts: Vec<u64>,
    pub(super) target: u64,
}

impl CheckpointJob {
    /// The new checkpoint, durable.
    pub(super) fn run(&self) -> Result<Checkpoint, OpenError> {
        let disk = &*self.disk;
        let floor = self.base.map_or(0, |base| base.generation);
        let scan = journal::scan(disk, &self.firsts, floor)?;
        if !scan.continues(floor, self.target) {
            return Err(OpenError::damaged(
                &scan,
                self.target,
                "a checkpoint needs them",
            ));
        }
        let entries = merged(disk, self.base.as_ref(), overlay(scan.records.iter()))?;
        Ok(checkpoint::write(disk, self.target, entries)?)
    }
}

fn overlay<'a>(records: impl Iterator<Item = &'a Record>) -> Overlay {
    let mut overlay = Overlay::new();
    for (key, value) in records.flat_map(|record| record.batch.changes()) {
        overlay.insert(key.to_vec(), value.map(<[u8]>::to_vec));
    }
    overlay
}

fn merged(
    disk: &dyn Disk,
    base: Option<&Checkpoint>,
    overlay: Overlay,
) -> Result<Entries, ReadError> {
    let base: Box<dyn Iterator<Item = Entry>> = match base {
        Some(base) => Box::new(checkpoint::Entries::open(disk, base.generation)?),
        None => Box::new(std::iter::empty()),
    };
    Ok(Merge::new(base, overlay))
}

impl From<ScanError> for OpenError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::File(error) => error.into(),
            ScanError::Newer { file, version } => Self::Newer { file, version },
        }
    }
}
