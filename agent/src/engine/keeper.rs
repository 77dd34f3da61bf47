//! The store as the engine uses it: edits in, answers out, and an end to the process when it
//! can no longer be trusted.

use std::sync::Arc;

use ashlar_protocol::{Event, KEPT_EVENTS, Problem, ProblemCode};
use uuid::Uuid;

use super::catalog::{Catalogs, Marks};
use super::events::{Events, event, record};
use crate::clock::now;
use crate::domain::catalog::touched;
use crate::domain::event::events;
use crate::domain::record::EventRecord;
use crate::domain::{Edit, Intent, Key, Outcome, Record};
use crate::store::{Batch, CommitError, StageError, Store};
use crate::telemetry;

/// Free bytes on the state disk below which it is reported.
const LOW: u64 = 64 << 20;

/// Bytes of changes that may be missing in the copy while there is other work.
const MOST_BEHIND: u64 = 256 << 10;

/// How the store is; `trouble` is a sentence when it is not well.
pub(super) struct StoreHealth {
    pub(super) trouble: Option<String>,
}

/// Keeps the intent and its store in step.
pub(super) struct Keeper {
    store: Store,
    events: Arc<Events>,
    catalogs: Catalogs,
    /// What of catalogs has changed with what was staged.
    marks: Marks,
    /// The intent's generation, with what was staged.
    generation: u64,
    /// Staged with their changes, and shown once those are durable.
    unseen: Vec<Event>,
}

impl Keeper {
    /// Of an open store, and the events it has.
    pub(super) fn new(store: Store, events: Arc<Events>, catalogs: Catalogs) -> Keeper {
        Keeper {
            store,
            events,
            catalogs,
            marks: Marks::new(),
            generation: 0,
            unseen: Vec::new(),
        }
    }

    /// Journals the edits and takes them over; neither if there is no room.
    pub(super) fn stage(&mut self, intent: &mut Intent, edits: &[Edit]) -> Result<(), Problem> {
        if edits.is_empty() {
            return Ok(());
        }
        let events = self.numbered(events(intent, edits, now()));
        match self.store.stage(batch(edits, &events)?) {
            Ok(_generation) => self.unseen.extend(events),
            Err(StageError::Poisoned) => give_up(&StageError::Poisoned),
            Err(error @ StageError::StateDiskFull { .. }) => {
                return Err(Problem::new(ProblemCode::StateDiskFull, error.to_string()));
            }
            Err(error @ (StageError::TooLarge { .. } | StageError::File(_))) => {
                return Err(Problem::new(ProblemCode::Internal, error.to_string()));
            }
        }
        for edit in edits {
            self.marks.extend(touched(intent, edit));
            intent
                .apply(edit)
                .expect("an edit refers only to what the intent it was decided on has");
            self.marks.extend(touched(intent, edit));
        }
        self.generation = intent.generation();
        Ok(())
    }

    /// The store was opened at that generation.
    pub(super) fn starts_at(&mut self, generation: u64) {
        self.generation = generation;
        self.catalogs.changed(Marks::new(), generation);
    }

    /// Makes all that was staged durable.
    pub(super) fn commit(&mut self) {
        if let Err(error) = self.store.sync() {
            give_up(&error);
        }
        let marks = std::mem::take(&mut self.marks);
        self.catalogs.changed(marks, self.generation);
        if !self.unseen.is_empty() {
            self.unseen.iter().for_each(telemetry::tell);
            self.events.publish(self.unseen.drain(..));
        }
    }

    /// Takes what is durable into the copy that answers are read from, which nobody waits for:
    /// when there is nothing else to do, or has not been for long.
    pub(super) fn catch_up(&mut self, idle: bool) {
        if !idle && self.store.behind() < MOST_BEHIND {
            return;
        }
        if let Err(error) = self.store.show() {
            give_up(&error);
        }
    }

    fn numbered(&self, records: Vec<EventRecord>) -> Vec<Event> {
        let newest = self.unseen.last().map(|event| event.id);
        let first = newest.unwrap_or_else(|| self.events.newest()) + 1;
        let numbered = (first..).zip(records);
        numbered.map(|(id, record)| event(id, record)).collect()
    }

    /// What a request was answered with, as far as it is committed.
    pub(super) fn answer(&mut self, id: Uuid) -> Option<Box<Outcome>> {
        self.catch_up(true);
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
    pub(super) fn close(mut self) -> Result<(), CommitError> {
        self.commit();
        self.catch_up(true);
        self.store.close()
    }
}

/// One journal record of those edits and the events they are; each event takes the place of
/// the oldest one.
fn batch(edits: &[Edit], events: &[Event]) -> Result<Batch, Problem> {
    let mut batch = Batch::new();
    for edit in edits {
        match edit {
            Edit::Put(record) => put(&mut batch, record)?,
            Edit::Remove(key) => {
                batch.delete(key.bytes());
            }
        }
    }
    for event in events {
        put(&mut batch, &record(event.clone()))?;
        if let Some(oldest) = event.id.checked_sub(KEPT_EVENTS as u64) {
            batch.delete(Key::Event(oldest).bytes());
        }
    }
    Ok(batch)
}

fn put(batch: &mut Batch, record: &Record) -> Result<(), Problem> {
    let value = record
        .value()
        .map_err(|error| Problem::new(ProblemCode::Internal, error.to_string()))?;
    batch.put(record.key().bytes(), value);
    Ok(())
}

/// Ends the process. After a failed fsync nobody knows what the disk has; the next start reads
/// it and goes on from there.
fn give_up(error: &dyn std::error::Error) -> ! {
    tracing::error!(%error, "the store failed; ending the process so that it is opened afresh");
    std::process::abort()
}
