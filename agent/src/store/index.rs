//! The sled copy of all entries: the only module that names sled.
//!
//! The copy answers reads and carries its own proof: one key holds the generation, the count
//! and the digest of all entries, written in the same transaction as they are. It is never
//! what makes a commit durable; `docs/decisions/store.md` says why.
//!
//! ```text
//! sled/          the database
//! sled.state     absent: closed cleanly · "in use": opened, not closed · "rescuing": being
//!                opened although it was not closed cleanly
//! sled.damaged/  the last copy that was put aside
//! ```

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use sled::Transactional;
use sled::transaction::{ConflictableTransactionError, TransactionError};

use super::batch::{Batch, Key, Value};
use super::checkpoint::{Entry, ReadError};
use super::digest::Digest;
use super::disk::{FileError, at};
use super::frame::number;

const ENTRIES: &str = "entries";
const STAMP: &str = "stamp";
const IN_USE: &str = "in use";
const RESCUING: &str = "rescuing";
/// Entries written at once while rebuilding.
const FILL: usize = 32;

/// A failed operation on the copy.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// sled said no.
    #[error("failed to {operation} the database {}: {source}", path.display())]
    Sled {
        /// The verb.
        operation: &'static str,
        /// Its directory.
        path: PathBuf,
        /// sled's answer.
        source: sled::Error,
    },
    /// Files around it.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What the copy claims to hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) generation: u64,
    pub(super) digest: Digest,
}

/// What was found in the copy's place.
pub(super) enum Probe {
    /// Nothing was ever there.
    Absent,
    /// Every entry was read and matches the stamp.
    Intact(Index),
    /// Not to be used; with the generation it had reached, as far as it can tell.
    Unusable { reason: String, seen: Option<u64> },
}

/// The open copy.
pub(super) struct Index {
    path: PathBuf,
    database: sled::Db,
    entries: sled::Tree,
    stamp_tree: sled::Tree,
    pub(super) stamp: Stamp,
}

impl Index {
    /// Opens and verifies the copy if it was closed cleanly.
    ///
    /// sled panics on some files that a power cut leaves, and a release build does not
    /// survive that; so a copy that was not closed is left alone.
    pub(super) fn probe(dir: &Path, cache_bytes: u64) -> Probe {
        if !sled_path(dir).exists() {
            return Probe::Absent;
        }
        if state(dir).is_some() {
            return unusable("it was not closed cleanly");
        }
        Self::try_open(dir, cache_bytes, IN_USE)
    }

    /// Opens and verifies a copy that was not closed cleanly, once: nothing else is left.
    pub(super) fn rescue(dir: &Path, cache_bytes: u64) -> Probe {
        match state(dir) {
            Some(state) if state == RESCUING => unusable("opening it did not end the last time"),
            _ => Self::try_open(dir, cache_bytes, RESCUING),
        }
    }

    fn try_open(dir: &Path, cache_bytes: u64, state: &str) -> Probe {
        let opened = panic::catch_unwind(AssertUnwindSafe(|| {
            set_state(dir, state)?;
            let index = Self::open(dir, cache_bytes)?;
            let found = index.digest()?;
            set_state(dir, IN_USE)?;
            Ok::<_, IndexError>((index, found))
        }));
        match opened {
            Ok(Ok((index, found))) if index.stamp.digest == found => Probe::Intact(index),
            Ok(Ok((index, _))) => Probe::Unusable {
                reason: "its entries do not match its digest".to_owned(),
                seen: Some(index.stamp.generation),
            },
            Ok(Err(error)) => unusable(&error.to_string()),
            Err(_) => unusable("opening it panicked"),
        }
    }

    /// Puts any old copy aside and writes a new one of `entries` at `generation`.
    pub(super) fn rebuild(
        dir: &Path,
        cache_bytes: u64,
        generation: u64,
        entries: impl Iterator<Item = Entry>,
    ) -> Result<Self, ReadError> {
        put_aside(dir).map_err(IndexError::from)?;
        set_state(dir, IN_USE).map_err(IndexError::from)?;
        let mut index = Self::open(dir, cache_bytes)?;
        let mut digest = Digest::default();
        let mut chunk = sled::Batch::default();
        for (place, entry) in entries.enumerate() {
            let (key, value) = entry?;
            digest.add(&key, &value);
            chunk.insert(key, value);
            if place % FILL == FILL - 1 {
                index.fill(std::mem::take(&mut chunk))?;
            }
        }
        index.fill(chunk)?;
        index.stamp = Stamp { generation, digest };
        let stamped = index.stamp_tree.insert(STAMP, index.stamp.encode());
        stamped.map_err(index.failed("stamp"))?;
        Ok(index)
    }

    /// Applies the batches of the generations up to `generation` in one transaction.
    pub(super) fn apply(&mut self, generation: u64, batches: &[Batch]) -> Result<(), IndexError> {
        let before = self.stamp;
        let outcome = (&self.entries, &self.stamp_tree).transaction(|(entries, stamp_tree)| {
            let mut stamp = Stamp {
                generation,
                ..before
            };
            for (key, value) in batches.iter().flat_map(Batch::changes) {
                let old = match value {
                    Some(value) => entries.insert(key, value)?,
                    None => entries.remove(key)?,
                };
                if let Some(old) = old {
                    stamp.digest.remove(key, &old);
                }
                if let Some(value) = value {
                    stamp.digest.add(key, value);
                }
            }
            stamp_tree.insert(STAMP, stamp.encode())?;
            Ok::<_, ConflictableTransactionError<std::convert::Infallible>>(stamp)
        });
        self.stamp = match outcome {
            Ok(stamp) => stamp,
            Err(TransactionError::Storage(source)) => return Err(self.failed("update")(source)),
            Err(TransactionError::Abort(never)) => match never {},
        };
        Ok(())
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Value>, IndexError> {
        let value = self.entries.get(key).map_err(self.failed("read"))?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// Entries whose key begins with `prefix`, in key order.
    pub(super) fn scan(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(Key, Value), IndexError>> + use<'_> {
        self.entries.scan_prefix(prefix).map(|entry| {
            let (key, value) = entry.map_err(self.failed("read"))?;
            Ok((key.to_vec(), value.to_vec()))
        })
    }

    /// Flushes and syncs the copy, so that the next start may trust it.
    pub(super) fn close(self, dir: &Path) -> Result<(), IndexError> {
        self.database.flush().map_err(self.failed("flush"))?;
        drop(self);
        await_release(&sled_path(dir))?;
        // sled's flush does not reach the medium.
        sync_tree(&sled_path(dir))?;
        remove_state(dir)?;
        Ok(())
    }

    fn open(dir: &Path, cache_bytes: u64) -> Result<Self, IndexError> {
        let path = sled_path(dir);
        // sled's files are as open as the umask lets them be; nobody gets past the directory.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(at("create directory", &path))?;
        let failed = |source| IndexError::Sled {
            operation: "open",
            path: path.clone(),
            source,
        };
        let database = sled::Config::new()
            .path(&path)
            .cache_capacity(cache_bytes)
            .flush_every_ms(None)
            .open()
            .map_err(failed)?;
        let entries = database.open_tree(ENTRIES).map_err(failed)?;
        let stamp_tree = database.open_tree(STAMP).map_err(failed)?;
        let stamp = stamp_tree.get(STAMP).map_err(failed)?;
        Ok(Self {
            database,
            entries,
            stamp_tree,
            stamp: stamp
                .and_then(|bytes| Stamp::decode(&bytes))
                .unwrap_or_default(),
            path,
        })
    }

    fn digest(&self) -> Result<Digest, IndexError> {
        let mut digest = Digest::default();
        for entry in &self.entries {
            let (key, value) = entry.map_err(self.failed("verify"))?;
            digest.add(&key, &value);
        }
        Ok(digest)
    }

    fn fill(&self, chunk: sled::Batch) -> Result<(), IndexError> {
        self.entries
            .apply_batch(chunk)
            .map_err(self.failed("rebuild"))
    }

    fn failed(&self, operation: &'static str) -> impl Fn(sled::Error) -> IndexError + use<> {
        let path = self.path.clone();
        move |source| IndexError::Sled {
            operation,
            path: path.clone(),
            source,
        }
    }
}

impl Stamp {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.generation.to_be_bytes().to_vec();
        bytes.extend(self.digest.encode());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            generation: number::<8>(bytes, 0)?,
            digest: Digest::decode(bytes.get(8..)?)?,
        })
    }
}

fn unusable(reason: &str) -> Probe {
    Probe::Unusable {
        reason: reason.to_owned(),
        seen: None,
    }
}

/// Waits until sled's last thread has let go of the files: it ends some time after the handle is
/// dropped, and whoever opened them at once would find them locked.
fn await_release(sled: &Path) -> Result<(), FileError> {
    let path = sled.join("db");
    let file = File::open(&path).map_err(at("open", &path))?;
    file.lock().map_err(at("lock", &path))
}

fn sled_path(dir: &Path) -> PathBuf {
    dir.join("sled")
}

fn state_path(dir: &Path) -> PathBuf {
    dir.join("sled.state")
}

/// `None` after a clean close; unreadable counts as in use.
fn state(dir: &Path) -> Option<String> {
    let path = state_path(dir);
    path.exists()
        .then(|| fs::read_to_string(&path).unwrap_or_default())
}

fn set_state(dir: &Path, state: &str) -> Result<(), FileError> {
    let path = state_path(dir);
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(at("open", &path))?;
    file.write_all(state.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(at("write", &path))?;
    sync(dir)
}

fn remove_state(dir: &Path) -> Result<(), FileError> {
    let path = state_path(dir);
    fs::remove_file(&path).map_err(at("remove", &path))?;
    sync(dir)
}

/// Keeps the rejected copy for whoever wants to know; the one before it goes.
fn put_aside(dir: &Path) -> Result<(), FileError> {
    let (path, aside) = (sled_path(dir), dir.join("sled.damaged"));
    if !path.exists() {
        return Ok(());
    }
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(at("remove", &aside))?;
    }
    fs::rename(&path, &aside).map_err(at("put aside", &path))
}

fn sync_tree(dir: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(dir).map_err(at("list", dir))? {
        let path = entry.map_err(at("list", dir))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            sync(&path)?;
        }
    }
    sync(dir)
}

fn sync(path: &Path) -> Result<(), FileError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(at("sync", path))
}
