//! The events kept, for those who list them, wait for them or stream them.
//!
//! ```text
//! store thread ── stage: numbered ── commit: durable ── publish ──► ring, newest id in a watch
//!                                                                      └─► readers, each at its own pace
//! ```
//!
//! A reader asks for what comes after the last id it has seen, so a slow one costs nothing but
//! its place: when the ring has moved past it, it is told that events are lost.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ashlar_protocol::{Event, KEPT_EVENTS, Page, Problem, ProblemCode};
use tokio::sync::watch;

use super::Engine;
use crate::domain::Record;
use crate::domain::record::EventRecord;

/// Where a reader of events begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// With the oldest kept.
    Beginning,
    /// After this one.
    Event(u64),
    /// With those to come.
    Newest,
}

/// The events kept.
#[derive(Debug)]
pub(crate) struct Events {
    ring: Mutex<VecDeque<Event>>,
    newest: watch::Sender<u64>,
}

impl Events {
    /// Of those that were stored, in order.
    pub(super) fn new(stored: VecDeque<Event>) -> Events {
        let newest = stored.back().map_or(0, |event| event.id);
        Events {
            ring: Mutex::new(stored),
            newest: watch::channel(newest).0,
        }
    }

    /// The newest event's id; 0 before the first.
    pub(super) fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    /// Shows events that are durable, and wakes who waits.
    pub(super) fn publish(&self, events: impl Iterator<Item = Event>) {
        let newest = {
            let mut ring = self.lock();
            ring.extend(events);
            let excess = ring.len().saturating_sub(KEPT_EVENTS);
            ring.drain(..excess);
            ring.back().map_or(0, |event| event.id)
        };
        self.newest.send_if_modified(|known| {
            let news = *known != newest;
            *known = newest;
            news
        });
    }

    /// The id to go on after, for a reader that begins so.
    fn place(&self, after: After) -> u64 {
        match after {
            After::Event(id) => id,
            After::Newest => self.newest(),
            After::Beginning => self.lock().front().map_or(0, |oldest| oldest.id - 1),
        }
    }

    /// Up to `limit` events after an id, and whether there are more.
    fn after(&self, id: u64, limit: usize) -> Result<(Vec<Event>, bool), Problem> {
        let ring = self.lock();
        let (oldest, newest) = match (ring.front(), ring.back()) {
            (Some(oldest), Some(newest)) => (oldest.id, newest.id),
            _ => (1, 0),
        };
        if id > newest || id.saturating_add(1) < oldest {
            return Err(lost(id, oldest, newest));
        }
        // Ids have no gaps, so they say where events are.
        let from = (id + 1 - oldest) as usize;
        let events: Vec<Event> = ring.iter().skip(from).take(limit).cloned().collect();
        let more = ring.len() > from + events.len();
        Ok((events, more))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.ring.lock().expect("no holder of this lock panics")
    }
}

fn lost(after: u64, oldest: u64, newest: u64) -> Problem {
    let detail = match after > newest {
        true => format!("event {after} is not of this box; the oldest kept is {oldest}"),
        false => format!("events after {after} are not kept any more; the oldest kept is {oldest}"),
    };
    Problem::new(ProblemCode::EventsLost, detail)
}

/// An event on the wire, from its number and its record.
pub(super) fn event(id: u64, record: EventRecord) -> Event {
    let EventRecord {
        time,
        kind,
        object,
        request,
        detail,
    } = record;
    Event {
        id,
        time,
        kind,
        object,
        request,
        detail,
    }
}

/// An event as it is stored.
pub(super) fn record(event: Event) -> Record {
    let Event {
        id,
        time,
        kind,
        object,
        request,
        detail,
    } = event;
    let record = EventRecord {
        time,
        kind,
        object,
        request,
        detail,
    };
    Record::Event(id, record)
}

/// A reader's place among the events.
#[derive(Debug)]
pub struct Reader {
    events: Arc<Events>,
    newest: watch::Receiver<u64>,
    last: u64,
}

impl Reader {
    /// Up to `limit` events, and whether more are there; none only when none are.
    ///
    /// # Errors
    /// When the next event is not kept any more.
    pub fn read(&mut self, limit: usize) -> Result<(Vec<Event>, bool), Problem> {
        let (events, more) = self.events.after(self.last, limit)?;
        self.last = events.last().map_or(self.last, |event| event.id);
        Ok((events, more))
    }

    /// Resolves when there are events to read. Cancel-safe. False when none will ever be.
    pub async fn news(&mut self) -> bool {
        let last = self.last;
        self.newest.wait_for(|newest| *newest != last).await.is_ok()
    }
}

impl Engine {
    /// A reader of events.
    ///
    /// # Errors
    /// When the event to go on after was never given, or the next one is not kept any more.
    pub fn events_after(&self, after: After) -> Result<Reader, Problem> {
        let events = Arc::clone(&self.shared.events);
        let last = events.place(after);
        events.after(last, 0)?;
        Ok(Reader {
            newest: events.newest.subscribe(),
            events,
            last,
        })
    }

    /// One page of events; after a wait of up to `wait` when there are none.
    ///
    /// # Errors
    /// As [`Engine::events_after`].
    pub async fn events(
        &self,
        after: After,
        limit: usize,
        wait: Duration,
    ) -> Result<Page<Event>, Problem> {
        let mut reader = self.events_after(after)?;
        // Whether it is news or the time is up: what is there is what is answered.
        drop(tokio::time::timeout(wait, reader.news()).await);
        let (items, more) = reader.read(limit)?;
        let next = more.then(|| reader.last.to_string());
        Ok(Page { items, next })
    }
}

#[cfg(test)]
mod tests {
    use ashlar_protocol::{EventKind, ObjectKind, ObjectRef};
    use uuid::Uuid;

    use super::*;

    fn numbered(id: u64) -> Event {
        let kind = ObjectKind::Volume;
        Event {
            id,
            time: 0,
            kind: EventKind::new(kind, "created"),
            object: ObjectRef {
                kind,
                id: Uuid::nil(),
            },
            request: None,
            detail: None,
        }
    }

    fn ids(read: Result<(Vec<Event>, bool), Problem>) -> (Vec<u64>, bool) {
        let (events, more) = read.unwrap();
        (events.iter().map(|event| event.id).collect(), more)
    }

    #[test]
    fn a_reader_gets_what_comes_after_its_place() {
        let events = Events::new(VecDeque::new());
        assert_eq!(ids(events.after(0, 10)), (vec![], false));
        events.publish((1..=5).map(numbered));
        assert_eq!(ids(events.after(0, 2)), (vec![1, 2], true));
        assert_eq!(ids(events.after(2, 3)), (vec![3, 4, 5], false));
        assert_eq!(ids(events.after(5, 3)), (vec![], false));
        assert_eq!(events.place(After::Beginning), 0);
        assert_eq!(events.place(After::Newest), 5);
    }

    #[test]
    fn the_oldest_go_first_and_who_wants_them_is_told() {
        let kept = KEPT_EVENTS as u64;
        let events = Events::new((1..=kept).map(numbered).collect());
        assert!(events.after(0, 1).is_ok());
        events.publish((kept + 1..=kept + 3).map(numbered));
        assert_eq!(events.place(After::Beginning), 3);
        assert_eq!(ids(events.after(3, 1)), (vec![4], true));
        for gone in [0, 2, kept + 4, u64::MAX] {
            let problem = events.after(gone, 1).unwrap_err();
            assert_eq!(problem.code, ProblemCode::EventsLost, "{gone}");
            assert!(problem.detail.contains("oldest kept is 4"), "{problem}");
        }
    }
}
