//! Opening: which of checkpoint, journal and database copy is believed.
//!
//! ```text
//! checkpoint + journal whole, and not behind the copy? ── yes ──► they are the truth:
//!   │ no                                                          compare the copy, or rebuild it
//!   ▼
//! copy intact, and the journal has all that follows it? ── yes ──► the copy is the truth:
//!   │ no                                                           write checkpoint + journal anew
//!   ▼
//! error: say what is missing; change nothing
//! ```

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use super::digest::Digest;
use super::disk::{Disk, RealDisk, at};
use super::error::OpenError;
use super::index::{Index, Probe};
use super::journal::Record;
use super::log::{Bounds, Log};
use super::report::{DatabaseOutcome, OpenReport};
use super::survey::{Survey, survey};
use super::{Batch, Options, Store};

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
            Probe::Intact(index) => match self.compare(index)? {
                Ok((index, outcome)) => return Ok((log, index, outcome)),
                Err(reason) => reason,
            },
        };
        let entries = self.survey.entries(&*self.disk)?;
        let cache = self.options.cache_bytes;
        let index = Index::rebuild(self.dir, cache, log.generation(), entries)?;
        Ok((log, index, DatabaseOutcome::Rebuilt { reason }))
    }

    /// Brings a sound copy up and compares it, or says why it cannot be used.
    fn compare(
        &self,
        mut index: Index,
    ) -> Result<Result<(Index, DatabaseOutcome), String>, OpenError> {
        let end = self.survey.end();
        if !self.survey.scan.continues(index.stamp.generation, end) && index.stamp.generation != end
        {
            return Ok(Err("it is older than the newest checkpoint".to_owned()));
        }
        let records = self.catch_up(&mut index)?;
        let mut truth = Digest::default();
        for entry in self.survey.entries(&*self.disk)? {
            let (key, value) = entry?;
            truth.add(&key, &value);
        }
        if index.stamp.digest != truth {
            return Ok(Err("it differs from checkpoint and journal".to_owned()));
        }
        let outcome = match records {
            0 => DatabaseOutcome::Verified,
            records => DatabaseOutcome::CaughtUp { records },
        };
        Ok(Ok((index, outcome)))
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
        let mut index = match probe {
            Probe::Intact(index) => index,
            Probe::Unusable { reason, .. } => return Err(damaged(&reason)),
            Probe::Absent => return Err(damaged("there is none")),
        };
        if !self.survey.scan.continues(index.stamp.generation, known) {
            let generation = index.stamp.generation;
            return Err(damaged(&format!("it ends at generation {generation}")));
        }
        self.catch_up(&mut index)?;
        let entries = index.scan(&[]).map(|entry| Ok(entry?));
        let log = Log::restart(self.disk.clone(), self.bounds(), known, entries)?;
        let reason = match self.survey.scan.lost.first() {
            Some(loss) => format!("{} was damaged at byte {}", loss.file, loss.offset),
            None => "checkpoint or journal ended before it".to_owned(),
        };
        Ok((log, index, DatabaseOutcome::Rescued { reason }))
    }

    /// Applies the records that `index` lacks, and says how many.
    fn catch_up(&self, index: &mut Index) -> Result<u64, OpenError> {
        let from = index.stamp.generation;
        let missing = |record: &&Record| record.generation > from;
        let records = self.survey.scan.records.iter().filter(missing);
        let batches: Vec<Batch> = records.map(|record| record.batch.clone()).collect();
        if !batches.is_empty() {
            index.apply(self.survey.end(), &batches)?;
        }
        Ok(batches.len() as u64)
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            segment_bytes: self.options.segment_bytes,
            reserve_bytes: self.options.reserve_bytes,
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
