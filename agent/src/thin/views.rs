//! One held state of the metadata per pool, shared by those who read it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ashlar_targetd_protocol::Request;
use ashlar_thin_metadata::{Metadata, MetadataError};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio::time::Instant;
use uuid::Uuid;

use super::error::ThinError;
use super::source::MetadataFile;
use crate::targetd::{OpenMetadata, Targetd};

/// How long a state is held for whoever asks next.
pub(super) const IDLE: Duration = match cfg!(test) {
    true => Duration::from_millis(200),
    false => Duration::from_secs(2),
};
/// Walks of one question, when states are let go beneath it.
const ATTEMPTS: usize = 3;

/// Which state a question may be answered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// What is committed when it is asked.
    Now,
    /// Any, if it has what is asked for: that does not change.
    Any,
}

/// The views of all pools. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Views {
    targetd: Targetd,
    pools: Arc<Mutex<BTreeMap<Uuid, Arc<Slot>>>>,
}

/// A pool's.
#[derive(Debug, Default)]
struct Slot {
    /// Read by walks; written to renew or let go.
    view: Arc<RwLock<Option<View>>>,
    /// Counts walks, to see whether there were any.
    walks: AtomicU64,
}

/// A state that is held.
#[derive(Debug)]
struct View {
    metadata: OpenMetadata,
    /// When it was asked for: all that was committed before is in it.
    asked: Instant,
    /// The stream to targetd it is held by.
    epoch: u64,
}

type Guard = OwnedRwLockReadGuard<Option<View>, View>;

/// No state of a pool is held while this is. Whoever wants to read waits, so it is not for long.
#[derive(Debug)]
pub struct Unheld {
    _slot: OwnedRwLockWriteGuard<Option<View>>,
}

impl Views {
    /// None is held.
    pub fn new(targetd: Targetd) -> Self {
        Views {
            targetd,
            pools: Arc::default(),
        }
    }

    /// Walks over a pool's metadata.
    ///
    /// # Errors
    /// When they cannot be had or read.
    pub(super) async fn walk<T, W>(
        &self,
        pool: Uuid,
        freshness: Freshness,
        walk: W,
    ) -> Result<T, ThinError>
    where
        T: Send + 'static,
        W: Fn(&Metadata<MetadataFile<'_>>) -> Result<T, MetadataError> + Send + Sync + 'static,
    {
        let asked = Instant::now();
        let mut oldest = match freshness {
            Freshness::Now => Some(asked),
            Freshness::Any => None,
        };
        let walk = Arc::new(walk);
        for _ in 0..ATTEMPTS {
            let slot = self.slot(pool);
            let view = self.view(pool, &slot, oldest).await?;
            let (epoch, taken) = (view.epoch, view.asked);
            let answer = on_thread(view, Arc::clone(&walk)).await;
            self.note_walk(pool, &slot);
            // None at the end of the runtime, which nobody waits through.
            let answer = answer.ok_or(ThinError::LetGo { pool })?;
            if self.epoch() != Some(epoch) {
                // targetd let it go; what was read may be anything.
                oldest = Some(Instant::now());
                continue;
            }
            match answer {
                // It may have been made since.
                Err(MetadataError::NoDevice(_)) if taken < asked => oldest = Some(asked),
                answer => return answer.map_err(|source| ThinError::Read { pool, source }),
            }
        }
        Err(ThinError::LetGo { pool })
    }

    /// A view that is held and was asked for at `oldest` or later.
    async fn view(
        &self,
        pool: Uuid,
        slot: &Slot,
        oldest: Option<Instant>,
    ) -> Result<Guard, ThinError> {
        let good = |view: &View| {
            self.epoch() == Some(view.epoch) && oldest.is_none_or(|oldest| view.asked >= oldest)
        };
        let guard = Arc::clone(&slot.view).read_owned().await;
        if let Ok(guard) = take(guard, good) {
            return Ok(guard);
        }
        let mut guard = Arc::clone(&slot.view).write_owned().await;
        // Whoever waited along may have renewed it.
        if !guard.as_ref().is_some_and(good) {
            *guard = None;
            *guard = Some(self.open(pool).await?);
        }
        take(guard.downgrade(), |_| true).map_err(|_| ThinError::LetGo { pool })
    }

    async fn open(&self, pool: Uuid) -> Result<View, ThinError> {
        // Taken before it is asked: a newer stream would make it invalid, never the other way.
        let epoch = self.epoch().unwrap_or_default();
        let asked = Instant::now();
        let opened = self.targetd.open_metadata(pool).await;
        let metadata = opened.map_err(|source| ThinError::Open { pool, source })?;
        Ok(View {
            metadata,
            asked,
            epoch,
        })
    }

    fn epoch(&self) -> Option<u64> {
        self.targetd.greeting().map(|greeting| greeting.epoch)
    }

    fn slot(&self, pool: Uuid) -> Arc<Slot> {
        let mut pools = self.pools.lock().expect("no holder of this lock panics");
        Arc::clone(pools.entry(pool).or_default())
    }

    /// Has the view let go if no other walk follows for a while.
    fn note_walk(&self, pool: Uuid, slot: &Arc<Slot>) {
        let walk = slot.walks.fetch_add(1, Ordering::Relaxed) + 1;
        let (views, slot) = (self.clone(), Arc::clone(slot));
        tokio::spawn(async move {
            tokio::time::sleep(IDLE).await;
            if slot.walks.load(Ordering::Relaxed) == walk {
                views.let_go(pool, &slot).await;
            }
        });
    }

    /// Lets go of a pool's view, unless someone reads it.
    pub async fn rest(&self, pool: Uuid) {
        let slot = self.slot(pool);
        self.let_go(pool, &slot).await;
    }

    /// Waits until nobody reads a pool's metadata any more, and lets go of the state that is held.
    /// What is unmapped meanwhile is nobody else's to the kernel only then: it counts what that
    /// state refers to.
    ///
    /// # Errors
    /// When it may still be held.
    pub async fn unheld(&self, pool: Uuid) -> Result<Unheld, ThinError> {
        let slot = self.slot(pool);
        let mut guard = Arc::clone(&slot.view).write_owned().await;
        *guard = None;
        // Also when we know of none: an answer may have been lost.
        let released = self.targetd.call(Request::ReleaseMetadata { pool }).await;
        released.map_err(|source| ThinError::Held { pool, source })?;
        Ok(Unheld { _slot: guard })
    }

    async fn let_go(&self, pool: Uuid, slot: &Slot) {
        // Someone who is reading notes a walk of their own when they are done.
        let Ok(mut guard) = slot.view.try_write() else {
            return;
        };
        let Some(view) = guard.take() else {
            return;
        };
        if self.epoch() != Some(view.epoch) {
            return;
        }
        let released = self.targetd.call(Request::ReleaseMetadata { pool }).await;
        if let Err(error) = released {
            tracing::warn!(%pool, %error, "failed to let go of thin metadata");
        }
    }
}

fn take(
    guard: OwnedRwLockReadGuard<Option<View>>,
    good: impl Fn(&View) -> bool,
) -> Result<Guard, OwnedRwLockReadGuard<Option<View>>> {
    OwnedRwLockReadGuard::try_map(guard, |view| view.as_ref().filter(|view| good(view)))
}

/// Reads on a thread that may block; the view stays held meanwhile.
async fn on_thread<T, W>(view: Guard, walk: Arc<W>) -> Option<Result<T, MetadataError>>
where
    T: Send + 'static,
    W: Fn(&Metadata<MetadataFile<'_>>) -> Result<T, MetadataError> + Send + Sync + 'static,
{
    let walked = tokio::task::spawn_blocking(move || {
        let OpenMetadata {
            file,
            held_root,
            size,
        } = &view.metadata;
        walk(&Metadata::open(MetadataFile::new(file, *size), *held_root)?)
    });
    walked.await.ok()
}
