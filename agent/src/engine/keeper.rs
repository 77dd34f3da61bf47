//! The store as the engine uses it: edits in, answers out, and an end to the process when it
//! can no longer be trusted.

use ashlar_protocol::{Problem, ProblemCode};
use uuid::Uuid;

use crate::domain::{Edit, Intent, Key, Outcome, Record};
use crate::store::{Batch, CommitError, StageError, Store};

/// Free bytes on the state disk below which it is reported.
const LOW: u64 = 64 << 20;

/// How the store is; `trouble` is a sentence when it is not well.
pub(super) struct StoreHealth {
    pub(super) trouble: Option<String>,
}

/// Keeps the intent and its store in step.
pub(super) struct Keeper {
    store: Store,
}

impl Keeper {
    /// Of an open store.
    pub(super) fn new(store: Store) -> Keeper {
        Keeper { store }
    }

    /// Journals the edits and takes them over; neither if there is no room.
    pub(super) fn stage(&mut self, intent: &mut Intent, edits: &[Edit]) -> Result<(), Problem> {
        if edits.is_empty() {
            return Ok(());
        }
        match self.store.stage(batch(edits)?) {
            Ok(_generation) => {}
            Err(StageError::Poisoned) => give_up(&StageError::Poisoned),
            Err(error @ StageError::StateDiskFull { .. }) => {
                return Err(Problem::new(ProblemCode::StateDiskFull, error.to_string()));
            }
            Err(error @ (StageError::TooLarge { .. } | StageError::File(_))) => {
                return Err(Problem::new(ProblemCode::Internal, error.to_string()));
            }
        }
        for edit in edits {
            intent
                .apply(edit)
                .expect("an edit refers only to what the intent it was decided on has");
        }
        Ok(())
    }

    /// Makes all that was staged durable.
    pub(super) fn commit(&mut self) {
        if let Err(error) = self.store.commit() {
            give_up(&error);
        }
    }

    /// What a request was answered with, as far as it is committed.
    pub(super) fn answer(&self, id: Uuid) -> Option<Box<Outcome>> {
        let key = Key::Answer(id).bytes();
        let value = match self.store.get(&key) {
            Ok(value) => value?,
            Err(error) => {
                tracing::error!(%error, request = %id, "an answer cannot be read");
                return None;
            }
        };
        match Record::parse(&key, &value) {
            Ok(Record::Answer(_, outcome)) => Some(Box::new(outcome)),
            Ok(_) => None,
            Err(error) => {
                tracing::error!(%error, request = %id, "an answer cannot be read");
                None
            }
        }
    }

    /// How the store is.
    pub(super) fn health(&self) -> StoreHealth {
        let trouble = match self.store.health() {
            Ok(health) if health.free_bytes < LOW => Some(format!(
                "the state disk has {} bytes left",
                health.free_bytes
            )),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        StoreHealth { trouble }
    }

    /// Commits what is staged, and marks the store as closed well.
    pub(super) fn close(self) -> Result<(), CommitError> {
        self.store.close()
    }
}

/// One journal record of those edits.
pub(super) fn batch(edits: &[Edit]) -> Result<Batch, Problem> {
    let mut batch = Batch::new();
    for edit in edits {
        match edit {
            Edit::Put(record) => {
                let value = record
                    .value()
                    .map_err(|error| Problem::new(ProblemCode::Internal, error.to_string()))?;
                batch.put(record.key().bytes(), value);
            }
            Edit::Remove(key) => {
                batch.delete(key.bytes());
            }
        }
    }
    Ok(batch)
}

/// Ends the process. After a failed fsync nobody knows what the disk has; the next start reads
/// it and goes on from there.
fn give_up(error: &dyn std::error::Error) -> ! {
    tracing::error!(%error, "the store failed; ending the process so that it is opened afresh");
    std::process::abort()
}
