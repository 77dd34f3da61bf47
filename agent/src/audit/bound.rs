//! How many calls without an effect are recorded of one caller: many at once would push out what matters.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ashlar_protocol::{AuditRecord, Sha256};
use tracing::warn;

/// Of one key in one span.
const FAILED: u32 = 20;

const SPAN: Duration = Duration::from_secs(60);

/// Counts what each key was refused in this span.
#[derive(Debug)]
pub(super) struct Bound {
    began: Instant,
    failed: BTreeMap<Option<Sha256>, u32>,
}

impl Bound {
    pub(super) fn new(now: Instant) -> Bound {
        let failed = BTreeMap::new();
        Bound { began: now, failed }
    }

    /// Whether a call is to be recorded. The first one that is not is told to the journal.
    pub(super) fn takes(&mut self, record: &AuditRecord, now: Instant) -> bool {
        if record.code.is_none() {
            return true;
        }
        if now.duration_since(self.began) >= SPAN {
            *self = Bound::new(now);
        }
        let count = self.failed.entry(record.key_sha256.clone()).or_default();
        *count = count.saturating_add(1);
        if *count == FAILED + 1 {
            let subject = &record.subject;
            warn!(subject, "more calls fail than are recorded");
        }
        *count <= FAILED
    }
}
