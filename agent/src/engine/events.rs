//! The events kept.
//!
//! ```text
//! store thread ── stage: numbered ── commit: durable ── publish ──► those who list or stream them
//! ```

use std::sync::Arc;
use std::time::Duration;

use ashlar_protocol::{Event, KEPT_EVENTS, Page, Problem};

use super::Engine;
use crate::domain::Record;
use crate::domain::record::EventRecord;
use crate::kept::{After, Kept, Numbered, Reader};

impl Numbered for Event {
    const KEPT: usize = KEPT_EVENTS;
    const CALLED: &'static str = "event";

    fn id(&self) -> u64 {
        self.id
    }
}

/// The events kept.
pub(crate) type Events = Kept<Event>;

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

impl Engine {
    /// A reader of events.
    ///
    /// # Errors
    /// When the event to go on after was never given, or the next one is not kept any more.
    pub fn events_after(&self, after: After) -> Result<Reader<Event>, Problem> {
        Arc::clone(&self.shared.events).reader(after)
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
        self.shared.events.page(after, limit, wait).await
    }
}
