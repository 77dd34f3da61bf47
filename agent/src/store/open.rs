//! Opening: which of checkpoint, journal and database copy is believed.
//!
//! ```text
//! checkpoint + journal whole, and not behind the copy? ── yes ──► they are the truth:
//!   │ no                                                          compare the copy, or rebuild it
//!   ▼
//! copy intact, and the journal has all that follows it? ── yes ──► the copy is the truth:
//!   │ no                                                           write all three anew
//!   ▼
//! error: say what is missing; change nothing
//! ```

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use super::checkpoint::{self, Entry, Merge};
use super::digest::Digest;
use super::disk::{Disk, RealDisk, at};
use super::error::OpenError;
use super::index::{Index, Probe, Stamp};
use super::log::{Bounds, Log};
use super::report::{DatabaseOutcome, OpenReport};
use super::survey::{Survey, survey};
use super::{Options, Store};

pub(super) fn open(dir: &Path, options: Options) -> Result<(Store, OpenReport), OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir)?);
    let lock = lock(dir)?;
    let opening = Opening {
        dir,
        options,
        survey: survey(&*disk)?,
        disk,
    };
    let (log, index, database) = opening.open()?;
    let survey = opening.survey;
    let report = OpenReport {
        generation: log.generation(),
        entries: index.stamp.digest.entries,
        checkpoint: survey.floor(),
        records: survey.scan.records.len() as u64,
        torn_bytes: survey.scan.torn_bytes,
        damaged: survey.damaged,
        database,
    };
    let store = Store {
        dir: dir.to_owned(),
        lock: Arc::new(lock),
        log,
        index,
        staged: Vec::new(),
        synced: Vec::new(),
        behind: 0,
        checkpoint: None,
    };
    Ok((store, report))
}

struct Opening<'a> {
    dir: &'a Path,
    options: Options,
    survey: Survey,
    disk: Arc<dyn Disk>,
}

type Opened = (Log, Index, DatabaseOutcome);

impl Opening<'_> {
    fn open(&self) -> Result<Opened, OpenError> {
        let probe = Index::probe(self.dir, self.options.cache_bytes);
        let new = self.survey.is_empty() && matches!(probe, Probe::Absent);
        let ahead = seen(&probe) > self.survey.end();
        if new || (self.survey.is_whole() && !ahead) {
            self.trust_files(probe)
        } else {
            self.trust_index(probe)
        }
    }

    fn trust_files(&self, probe: Probe) -> Result<Opened, OpenError> {
        let log = Log::resume(self.disk.clone(), self.bounds(), &self.survey)?;
        let reason = match probe {
            Probe::Absent => "there was none".to_owned(),
            Probe::Unusable { reason, .. } => reason,
            Probe::Intact(index) if index.stamp == self.truth()? => {
                return Ok((log, index, DatabaseOutcome::Verified));
            }
            // Behind is as bad as different: a clean close leaves nothing behind, and sled goes
            // on to lose what is written after a place that it failed to read.
            Probe::Intact(_) => "it differs from checkpoint and journal".to_owned(),
        };
        let index = self.rebuild(log.generation(), self.survey.entries(&*self.disk)?)?;
        Ok((log, index, DatabaseOutcome::Rebuilt { reason }))
    }

    /// What a copy must say to be used.
    fn truth(&self) -> Result<Stamp, OpenError> {
        let mut digest = Digest::default();
        for entry in self.survey.entries(&*self.disk)? {
            let (key, value) = entry?;
            digest.add(&key, &value);
        }
        Ok(Stamp {
            generation: self.survey.end(),
            digest,
        })
    }

    fn trust_index(&self, probe: Probe) -> Result<Opened, OpenError> {
        let probe = match probe {
            // Without the journal's end nobody knows what an unclosed copy lacks.
            Probe::Unusable { .. } if self.survey.end_is_known() => {
                Index::rescue(self.dir, self.options.cache_bytes)
            }
            probe => probe,
        };
        let known = seen(&probe).max(self.survey.end());
        let damaged = |why: &str| OpenError::damaged(&self.survey.scan, known, why);
        let old = match probe {
            Probe::Intact(index) => index,
            Probe::Unusable { reason, .. } => return Err(damaged(&reason)),
            Probe::Absent => return Err(damaged("there is none")),
        };
        let reached = old.stamp.generation;
        if !self.survey.scan.continues(reached, known) {
            return Err(damaged(&format!("it ends at generation {reached}")));
        }
        let base = old.scan(&[]).map(|entry| Ok(entry?));
        let entries = Merge::new(base, self.survey.overlay(reached));
        let log = Log::restart(self.disk.clone(), self.bounds(), known, entries)?;
        drop(old);
        let index = self.rebuild(known, checkpoint::Entries::open(&*self.disk, known)?)?;
        let reason = match self.survey.scan.lost.first() {
            Some(loss) => format!("{} was damaged at byte {}", loss.file, loss.offset),
            None => "checkpoint or journal ended before it".to_owned(),
        };
        Ok((log, index, DatabaseOutcome::Rescued { reason }))
    }

    fn rebuild(
        &self,
        generation: u64,
        entries: impl Iterator<Item = Entry>,
    ) -> Result<Index, OpenError> {
        let cache = self.options.cache_bytes;
        Ok(Index::rebuild(self.dir, cache, generation, entries)?)
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            segment_bytes: self.options.segment_bytes,
            reserve_bytes: self.options.reserve_bytes,
            ahead_bytes: self.options.segment_bytes / 4,
        }
    }
}

/// The generation a copy had reached, as far as it can tell.
fn seen(probe: &Probe) -> u64 {
    match probe {
        Probe::Absent => 0,
        Probe::Intact(index) => index.stamp.generation,
        Probe::Unusable { seen, .. } => seen.unwrap_or(0),
    }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(at("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::Locked { path }),
        Err(fs::TryLockError::Error(source)) => Err(at("lock", &path)(source).into()),
    }
}
