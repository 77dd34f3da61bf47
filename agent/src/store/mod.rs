//! A durable key-value store that knows nothing of what it keeps.
//!
//! ```text
//! stage(batch) ─► journal record  ┐
//! stage(batch) ─► journal record  ├ one thread owns the store
//! sync()       ─► one fsync ──────┼──► the caller may tell its clients
//! show()       ─► the sled copy   ┘
//!                   │ journal over its bound
//!                   └► a background thread writes a checkpoint from closed files
//! ```
//!
//! A batch is durable when `sync` returns, and not before, and shows in reads after `show`;
//! `commit` is both. Every batch is one generation.
//! Journal and checkpoints are the truth. The sled copy answers reads, is compared with them
//! at every start, and is rebuilt from them when it disagrees.
//!
//! Files in the directory: `lock`, `journal-<first generation>`, `checkpoint-<generation>`,
//! `sled/`, `sled.state`; and what was put aside: `damaged-…`, `sled.damaged/`. A [`Trail`] has a
//! directory of its own.

mod batch;
mod checkpoint;
mod digest;
mod disk;
mod error;
mod frame;
mod index;
mod journal;
mod log;
mod open;
mod report;
mod survey;
mod trail;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use checkpoint::Checkpoint;
use index::Index;
use log::Log;

pub use batch::{Batch, Key, Value};
pub(crate) use digest::Digest;
pub use disk::FileError;
pub use error::{CommitError, OpenError, StageError};
pub use index::IndexError;
pub use report::{DatabaseOutcome, OpenReport};
pub use trail::{Entry, Trail, TrailBounds};

/// Sizes to choose; the defaults suit a state partition of 256 MiB and more.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Journal bytes after which a checkpoint is written, at least.
    pub segment_bytes: u64,
    /// Free bytes on the state disk below which changes are refused, so that checkpoint and
    /// database always have room to finish.
    pub reserve_bytes: u64,
    /// Memory for sled's cache.
    pub cache_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 20,
            reserve_bytes: 16 << 20,
            cache_bytes: 4 << 20,
        }
    }
}

/// How the store is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// The last committed generation.
    pub generation: u64,
    /// Entries committed.
    pub entries: u64,
    /// Generation of the newest checkpoint; 0 before the first.
    pub checkpoint: u64,
    /// Journal bytes since it.
    pub journal_bytes: u64,
    /// Free bytes on the state disk.
    pub free_bytes: u64,
}

/// Batches shown in one transaction: what sled takes at once it needs memory for.
const AT_ONCE: usize = 32;

/// An open store. One thread owns it; a second process cannot open it.
///
/// Dropping it is safe at any moment, but only [`Store::close`] spares the next start the
/// rebuilding of the database copy.
pub struct Store {
    dir: PathBuf,
    log: Log,
    index: Index,
    /// Journalled, not yet synced.
    staged: Vec<Batch>,
    /// Durable, not yet in the database copy.
    synced: Vec<Batch>,
    /// Bytes of journal that the two have.
    behind: u64,
    checkpoint: Option<JoinHandle<Result<Checkpoint, OpenError>>>,
    /// Shared with a checkpoint under way, so that nobody opens the store beside it.
    lock: Arc<File>,
}

impl Store {
    /// Opens the store in `dir`, creating it if there is none, and repairs what it can.
    ///
    /// # Errors
    /// When it is in use, written by a newer release, lacks committed records that nothing
    /// can replace, or the disk fails.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, OpenReport), OpenError> {
        open::open(dir, options)
    }

    /// Every entry that shows, in key order.
    pub fn load(&self) -> impl Iterator<Item = Result<(Key, Value), IndexError>> + '_ {
        self.index.scan(&[])
    }

    /// Entries that show whose key begins with `prefix`, in key order.
    pub fn load_prefix(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(Key, Value), IndexError>> + use<'_> {
        self.index.scan(prefix)
    }

    /// The value of `key` that shows.
    ///
    /// # Errors
    /// When sled cannot read it.
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>, IndexError> {
        self.index.get(key)
    }

    /// Appends `batch` to the journal and answers with its generation.
    ///
    /// It is durable after the next [`Store::sync`] and shows after [`Store::show`];
    /// [`Store::commit`] is both. A change that nobody waits
    /// for can be staged and left to ride along with the next one that is.
    ///
    /// # Errors
    /// The batch is not taken; earlier ones are unharmed.
    pub fn stage(&mut self, batch: Batch) -> Result<u64, StageError> {
        let staged = self.log.stage(&batch)?;
        self.staged.push(batch);
        self.behind += staged.bytes;
        Ok(staged.generation)
    }

    /// Makes everything staged durable, at the cost of one fsync, and answers with the last
    /// generation.
    ///
    /// # Errors
    /// The store is unusable from then on and the process must end: see [`CommitError`].
    pub fn sync(&mut self) -> Result<u64, CommitError> {
        if self.staged.is_empty() {
            return Ok(self.log.generation());
        }
        let generation = self.log.sync()?;
        self.synced.append(&mut self.staged);
        Ok(generation)
    }

    /// Shows reads what is durable. Nothing but reads waits for it.
    ///
    /// # Errors
    /// As [`Store::sync`].
    pub fn show(&mut self) -> Result<(), CommitError> {
        if self.log.checkpoint_is_due() {
            // A checkpoint is of what is durable, and there may always be something that is not.
            self.sync()?;
        }
        if self.synced.is_empty() {
            return Ok(());
        }
        let mut generation = self.log.generation() - self.synced.len() as u64;
        for batches in self.synced.chunks(AT_ONCE) {
            generation += batches.len() as u64;
            if let Err(error) = self.index.apply(generation, batches) {
                self.log.poison();
                return Err(error.into());
            }
        }
        self.synced.clear();
        self.behind = 0;
        self.advance_checkpoint()
    }

    /// Makes everything staged durable and visible.
    ///
    /// # Errors
    /// As [`Store::sync`].
    pub fn commit(&mut self) -> Result<u64, CommitError> {
        let generation = self.sync()?;
        self.show()?;
        Ok(generation)
    }

    /// How many bytes of changes do not show yet, but for those of a moment.
    pub fn behind(&self) -> u64 {
        self.behind
    }

    /// The last committed generation.
    pub fn generation(&self) -> u64 {
        self.log.generation()
    }

    /// How the store is doing.
    ///
    /// # Errors
    /// When the state disk's free space cannot be asked for.
    pub fn health(&self) -> Result<Health, FileError> {
        Ok(Health {
            generation: self.log.generation(),
            entries: self.index.stamp.digest.entries,
            checkpoint: self.log.floor(),
            journal_bytes: self.log.journal_bytes(),
            free_bytes: self.log.free_bytes()?,
        })
    }

    /// Commits what is staged, waits for a checkpoint under way, and marks the database copy
    /// as fit to be used by the next start.
    ///
    /// # Errors
    /// As [`Store::commit`]; the copy is then rebuilt by the next start.
    pub fn close(mut self) -> Result<(), CommitError> {
        self.commit()?;
        self.finish_checkpoint();
        Ok(self.index.close(&self.dir)?)
    }

    /// Takes over a finished checkpoint, and starts one when it is due and none is running.
    fn advance_checkpoint(&mut self) -> Result<(), CommitError> {
        if self
            .checkpoint
            .as_ref()
            .is_some_and(|job| !job.is_finished())
        {
            return Ok(());
        }
        self.finish_checkpoint();
        if let Some(job) = self.log.begin_checkpoint()? {
            let lock = self.lock.clone();
            self.checkpoint = Some(thread::spawn(move || {
                let outcome = job.run();
                drop(lock);
                outcome
            }));
        }
        Ok(())
    }

    fn finish_checkpoint(&mut self) {
        if let Some(job) = self.checkpoint.take() {
            let outcome = job
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            self.log.adopt(outcome);
        }
    }
}

/// Numbers of the files named `prefix` and a number, ascending.
fn numbered(names: &[String], prefix: &str) -> Vec<u64> {
    let numbers = names.iter().filter_map(|name| name.strip_prefix(prefix));
    let mut numbers: Vec<u64> = numbers.filter_map(|number| number.parse().ok()).collect();
    numbers.retain(|number| (1..=frame::LAST_GENERATION).contains(number));
    numbers.sort_unstable();
    numbers
}

#[cfg(test)]
mod tests;
