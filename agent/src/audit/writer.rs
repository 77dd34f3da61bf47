//! The thread that writes the trail: what there is at once, then one sync for all of it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use ashlar_codec::{Limits, from_slice, to_vec};
use ashlar_protocol::{AuditRecord, KEPT_CALLS};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use super::bound::Bound;
use super::{Audit, Trouble};
use crate::kept::Kept;
use crate::store::{Entry, FileError, Trail, TrailBounds};

const BOUNDS: TrailBounds = TrailBounds {
    kept: KEPT_CALLS as u64,
    file: 2_000,
};

/// Records that wait for the thread; more than calls are under way at once makes callers wait.
const INBOX: usize = 256;

/// So many records for one sync.
const BATCH: usize = 128;

/// A record is some 300 bytes.
const LIMITS: Limits = Limits {
    bytes: 4 << 10,
    depth: 3,
};

/// Why there is no audit trail.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Its directory.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its thread.
    #[error("failed to start the thread: {0}")]
    Thread(#[source] std::io::Error),
}

#[derive(Debug)]
pub(super) enum Message {
    Record(Box<AuditRecord>, oneshot::Sender<()>),
    Stop,
}

/// The thread behind an [`Audit`].
#[derive(Debug)]
pub struct AuditTask {
    inbox: mpsc::Sender<Message>,
    thread: JoinHandle<()>,
}

impl AuditTask {
    /// Has what was recorded so far made durable, and the trail closed.
    pub async fn stop(self) {
        // A thread that has ended takes no message.
        drop(self.inbox.send(Message::Stop).await);
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            error!("the audit thread did not end well");
        }
    }
}

pub(super) fn start(dir: &Path) -> Result<(Audit, AuditTask), AuditError> {
    let (trail, entries) = Trail::open(dir, BOUNDS)?;
    let records = entries.iter().filter_map(parse);
    let kept = Arc::new(Kept::new(records.collect()));
    let (inbox, messages) = mpsc::channel(INBOX);
    let trouble = Trouble::default();
    let mut writer = Writer {
        trail,
        kept: Arc::clone(&kept),
        trouble: Arc::clone(&trouble),
    };
    let thread = std::thread::Builder::new()
        .name("audit".to_owned())
        .spawn(move || writer.run(messages))
        .map_err(AuditError::Thread)?;
    let task = AuditTask {
        inbox: inbox.clone(),
        thread,
    };
    let audit = Audit {
        inbox,
        kept,
        trouble,
        bound: Arc::new(Mutex::new(Bound::new(Instant::now()))),
    };
    Ok((audit, task))
}

/// A record that was stored. One that a newer version wrote may say what this one does not know.
fn parse((number, payload): &Entry) -> Option<AuditRecord> {
    match from_slice::<AuditRecord>(payload, &LIMITS) {
        Ok(record) => Some(AuditRecord {
            id: *number,
            ..record
        }),
        Err(error) => {
            warn!(number, %error, "an audit record cannot be read");
            None
        }
    }
}

struct Writer {
    trail: Trail,
    kept: Arc<Kept<AuditRecord>>,
    trouble: Trouble,
}

/// Records for one sync.
#[derive(Default)]
struct Batch {
    written: Vec<AuditRecord>,
    /// Whether one could not be written.
    failed: bool,
}

impl Writer {
    fn run(&mut self, mut messages: mpsc::Receiver<Message>) {
        while let Some(first) = messages.blocking_recv() {
            let mut next = Some(first);
            let mut batch = Batch::default();
            while let Some(message) = next.take() {
                match message {
                    Message::Record(record, tell) => {
                        self.append(*record, &mut batch);
                        // Whoever asked may have gone.
                        tell.send(()).ok();
                    }
                    // What was handed over before is still written.
                    Message::Stop => messages.close(),
                }
                if batch.written.len() < BATCH {
                    next = messages.try_recv().ok();
                }
            }
            self.end(batch);
        }
    }

    /// Makes a batch durable and shows it. Of what may be lost nothing is shown: its numbers may be
    /// given again after a power cut.
    fn end(&mut self, batch: Batch) {
        match self.trail.sync() {
            Ok(()) => {
                if !batch.failed {
                    self.set(None);
                }
                self.kept.publish(batch.written.into_iter());
            }
            Err(error) => self.fail(&error),
        }
    }

    fn append(&mut self, record: AuditRecord, batch: &mut Batch) {
        let payload = to_vec(&record).expect("a record is plain");
        match self.trail.append(&payload) {
            Ok(id) => batch.written.push(AuditRecord { id, ..record }),
            Err(error) => {
                self.fail(&error);
                batch.failed = true;
                if self.trail.is_broken() {
                    batch.written.clear();
                }
            }
        }
    }

    /// The journal has the record; health says that the trail has not.
    fn fail(&self, error: &FileError) {
        error!(%error, "calls are not recorded");
        self.set(Some(format!("calls are not recorded: {error}")));
    }

    fn set(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}
