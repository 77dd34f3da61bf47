//! Who asked for what, and what came of it: one record a call.
//!
//! ```text
//! Call::begin ── the call is answered ── end ──► journal of the system
//!                                          └───► thread: written ─► the caller has the answer
//!                                                        durable ─► those who list or follow
//! ```
//!
//! What is written outlives the agent, so nobody has an answer that there is no record of. A power cut
//! may take the records of the last moments; those changes are in the store, with who asked for them.
//! `docs/decisions/audit.md` says why it is so.

mod bound;
mod call;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ashlar_protocol::{AuditRecord, KEPT_CALLS, Page, Problem};
use tokio::sync::{mpsc, oneshot};

use crate::kept::{After, Kept, Numbered, Reader};

pub use call::{Asked, Call, Caller};
pub use writer::{AuditError, AuditTask};

use bound::Bound;
use writer::Message;

/// How long an answer waits for its record: a disk that hangs must not hang the box.
const PATIENCE: Duration = Duration::from_secs(5);

impl Numbered for AuditRecord {
    const KEPT: usize = KEPT_CALLS;
    const CALLED: &'static str = "audit record";

    fn id(&self) -> u64 {
        self.id
    }
}

/// The audit trail, for handlers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit {
    inbox: mpsc::Sender<Message>,
    kept: Arc<Kept<AuditRecord>>,
    trouble: Trouble,
    bound: Arc<Mutex<Bound>>,
}

/// Why records are not written, while they are not.
type Trouble = Arc<Mutex<Option<String>>>;

impl Audit {
    /// Opens the trail in `dir` and starts the thread that writes it.
    ///
    /// # Errors
    /// When the directory cannot be read or written.
    pub fn open(dir: &Path) -> Result<(Audit, AuditTask), AuditError> {
        writer::start(dir)
    }

    /// Why calls are not recorded, if they are not.
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock();
        trouble.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A reader of the records.
    ///
    /// # Errors
    /// When the one to go on after was never given, or the next one is not kept any more.
    pub fn after(&self, after: After) -> Result<Reader<AuditRecord>, Problem> {
        self.kept.reader(after)
    }

    /// One page of the records; after a wait of up to `wait` when there are none.
    ///
    /// # Errors
    /// As [`Audit::after`].
    pub async fn page(
        &self,
        after: After,
        limit: usize,
        wait: Duration,
    ) -> Result<Page<AuditRecord>, Problem> {
        self.kept.page(after, limit, wait).await
    }

    /// Whether the trail takes this record; of calls that fail it takes only so many of each caller.
    fn has_room_for(&self, record: &AuditRecord) -> bool {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        bound.takes(record, Instant::now())
    }

    /// Has a record written; its number is given by the trail. Returns once that is done, or cannot be.
    async fn write(&self, record: AuditRecord) {
        let (tell, written) = oneshot::channel();
        let message = Message::Record(Box::new(record), tell);
        let done = async {
            if self.inbox.send(message).await.is_ok() {
                // A thread that has ended has said why.
                drop(written.await);
            }
        };
        if tokio::time::timeout(PATIENCE, done).await.is_err() {
            let why = format!("calls are not recorded: not within {PATIENCE:?}");
            tracing::error!("{why}");
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        }
    }
}

#[cfg(test)]
mod tests;
