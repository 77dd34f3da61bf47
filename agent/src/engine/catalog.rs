//! Keeping the catalogs of pools.
//!
//! ```text
//! store thread: which records changed ──► marked, by pool ──► one task per pool: half a second
//!                                                             later, as they are then: one record
//! ```
//!
//! Nobody waits for it. A task is there only while something is marked. What fails is written as
//! a checkpoint later; until then health tells.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ashlar_targetd_protocol::{Failure, FailureKind};
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, RwLock, watch};
use tokio::time::sleep;
use uuid::Uuid;

use crate::catalog::{Appended, DeviceMedium, ReadError, Writer, read};
use crate::domain::catalog::{entry, homes, is_kept_out, page};
use crate::domain::record::{Key, PoolPhase};
use crate::domain::secrets::Random;
use crate::domain::{Edit, Intent, OsRandom};
use crate::store::Batch;
use crate::targetd::{CallError, Targetd};

/// For how long changes are gathered. Half of what a catalog may be behind.
const GATHER: Duration = Duration::from_millis(500);
/// First and longest pause after a failure.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The key of what a catalog says of itself; no record's is like it.
const STATE: &[u8] = b"\0state";
const EXPORTED: &[u8] = b"exported";

/// Whether what was read from a catalog says that its box let go of it, which is then taken out.
pub(crate) fn was_exported(entries: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> bool {
    entries.remove(STATE).as_deref() == Some(EXPORTED)
}

/// The catalogs of all pools. Cheap to clone.
#[derive(Clone)]
pub struct Catalogs {
    shared: Arc<Shared>,
}

struct Shared {
    targetd: Targetd,
    intent: Arc<RwLock<Intent>>,
    runtime: Handle,
    stopped: watch::Receiver<bool>,
    slots: Mutex<BTreeMap<Uuid, Slot>>,
}

/// One pool's.
#[derive(Default)]
struct Slot {
    marked: BTreeSet<Vec<u8>>,
    /// A task is at it.
    running: bool,
    trouble: Option<String>,
    /// What is known of the region; nothing until it was read.
    writer: Arc<AsyncMutex<Option<Writer>>>,
}

impl Catalogs {
    /// Of the pools of an intent.
    pub(crate) fn new(
        targetd: Targetd,
        intent: Arc<RwLock<Intent>>,
        stopped: watch::Receiver<bool>,
    ) -> Catalogs {
        Catalogs {
            shared: Arc::new(Shared {
                targetd,
                intent,
                runtime: Handle::current(),
                stopped,
                slots: Mutex::default(),
            }),
        }
    }

    /// Marks what an edit changes; to be called before and after it is applied, as a record may
    /// pass from one pool to another.
    pub(super) fn mark(&self, intent: &Intent, edit: &Edit) {
        if is_kept_out(edit) {
            return;
        }
        for pool in homes(intent, edit.key()) {
            self.wake(intent, pool, Some(edit.key()));
        }
    }

    /// Has the catalog of a pool written that stands, if anything of it is not.
    pub(super) fn wake(&self, intent: &Intent, pool: Uuid, key: Option<Key>) {
        let record = intent.pool(pool).map(|entry| &entry.record);
        let writable = record
            .is_some_and(|record| record.catalog.is_some() && record.phase == PoolPhase::Present);
        let mut slots = self.lock();
        if !writable {
            return;
        }
        let slot = slots.entry(pool).or_default();
        slot.marked.extend(key.map(Key::bytes));
        if key.is_none() {
            // It stands again; whatever it was before is looked at anew.
            slot.marked.insert(Key::Pool(pool).bytes());
        }
        if !std::mem::replace(&mut slot.running, true) {
            let catalogs = self.clone();
            let mut stopped = self.shared.stopped.clone();
            self.shared.runtime.spawn(async move {
                // The next start writes all of it.
                tokio::select! {
                    () = catalogs.run(pool) => {}
                    _ = stopped.wait_for(|stopped| *stopped) => {}
                }
            });
        }
    }

    /// Why the catalog of a pool is not as it should be.
    pub(super) fn trouble(&self, pool: Uuid) -> Option<String> {
        self.lock().get(&pool)?.trouble.clone()
    }

    /// Writes all of the catalog of a pool that is to leave this box, and that it does. Nothing is
    /// at it any more when this returns.
    pub(crate) async fn export(&self, pool: Uuid) -> Result<(), CallError> {
        let writer = Arc::clone(&self.lock().entry(pool).or_default().writer);
        let mut writer = writer.lock().await;
        let written = self.checkpoint(pool, &mut writer, true).await;
        // What a pool knows of itself is not lost by letting go of it: it stays until it is written.
        written.map_err(|why| {
            let reason = format!("the catalog of pool {pool} is not written: {why}");
            CallError::Failed(Failure::new(FailureKind::Kernel, reason))
        })
    }

    /// Forgets a pool; waits until nothing is at its catalog.
    pub(crate) async fn forget(&self, pool: Uuid) {
        let slot = self.lock().remove(&pool);
        if let Some(slot) = slot {
            drop(slot.writer.lock().await);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Slot>> {
        self.shared
            .slots
            .lock()
            .expect("no holder of this lock panics")
    }

    /// Writes what is marked until nothing is.
    async fn run(self, pool: Uuid) {
        let mut pause = PAUSE.0;
        loop {
            sleep(GATHER).await;
            let (marked, writer) = {
                let mut slots = self.lock();
                let Some(slot) = slots.get_mut(&pool) else {
                    return;
                };
                if slot.marked.is_empty() {
                    slot.running = false;
                    return;
                }
                (std::mem::take(&mut slot.marked), Arc::clone(&slot.writer))
            };
            let mut writer = writer.lock().await;
            let result = self.write(pool, &mut writer, &marked).await;
            if result.is_err() {
                // What the region holds is not known any more.
                *writer = None;
            }
            drop(writer);
            let failed = result.is_err();
            {
                let mut slots = self.lock();
                let Some(slot) = slots.get_mut(&pool) else {
                    return;
                };
                if failed {
                    slot.marked.extend(marked);
                }
                slot.trouble = result.err();
                if let Some(why) = &slot.trouble {
                    tracing::warn!(%pool, why, "the catalog is behind");
                }
            }
            match failed {
                true => {
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
                false => pause = PAUSE.0,
            }
        }
    }

    /// Writes what is marked, as it is now, if the pool still stands.
    async fn write(
        &self,
        pool: Uuid,
        writer: &mut Option<Writer>,
        marked: &BTreeSet<Vec<u8>>,
    ) -> Result<(), String> {
        let batch = {
            let intent = self.shared.intent.read().await;
            let phase = intent.pool(pool).map(|entry| entry.record.phase);
            if phase != Some(PoolPhase::Present) {
                return Ok(());
            }
            self.batch(&intent, pool, marked)?
        };
        if let Some(writer) = writer {
            let mut medium = self.open(pool).await?;
            let appended = writer.append(&mut medium, &batch).map_err(|e| chain(&e))?;
            if appended == Appended::Durable {
                return Ok(());
            }
        }
        self.checkpoint(pool, writer, false).await
    }

    fn batch(
        &self,
        intent: &Intent,
        pool: Uuid,
        marked: &BTreeSet<Vec<u8>>,
    ) -> Result<Batch, String> {
        let mut batch = Batch::new();
        for bytes in marked {
            let key = Key::parse(bytes).map_err(|error| chain(&error))?;
            match entry(intent, pool, key) {
                Some(record) => {
                    let value = record.value().map_err(|error| chain(&error))?;
                    batch.put(bytes.clone(), value)
                }
                None => batch.delete(bytes.clone()),
            };
        }
        Ok(batch)
    }

    /// Writes all there is, page by page, so that nobody waits for the intent. What changes
    /// meanwhile is marked, and follows.
    async fn checkpoint(
        &self,
        pool: Uuid,
        writer: &mut Option<Writer>,
        exported: bool,
    ) -> Result<(), String> {
        let mut medium = self.open(pool).await?;
        let writer = match writer {
            Some(writer) => writer,
            None => {
                let found = match read(&mut medium, pool) {
                    Ok(found) => Some(found),
                    // It is this pool's to write, whatever was there before the pool.
                    Err(ReadError::Absent { .. } | ReadError::Foreign { .. }) => None,
                    Err(error @ (ReadError::Disk { .. } | ReadError::Newer { .. })) => {
                        return Err(chain(&error));
                    }
                };
                writer.insert(Writer::new(pool, found.as_ref()))
            }
        };
        let mut life = [0; 8];
        OsRandom.fill(&mut life);
        let mut checkpoint = writer.begin(u64::from_be_bytes(life));
        if exported {
            let added = writer.add(
                &mut medium,
                &mut checkpoint,
                STATE.to_vec(),
                EXPORTED.to_vec(),
            );
            added.map_err(|error| chain(&error))?;
        }
        let mut next = Some(Key::Pool(pool));
        while let Some(after) = next {
            let (records, more) = page(&*self.shared.intent.read().await, pool, after);
            next = more;
            for record in records {
                let value = record.value().map_err(|error| chain(&error))?;
                let key = record.key().bytes();
                let added = writer.add(&mut medium, &mut checkpoint, key, value);
                added.map_err(|error| chain(&error))?;
            }
        }
        writer
            .finish(&mut medium, checkpoint)
            .map_err(|error| chain(&error))
    }

    async fn open(&self, pool: Uuid) -> Result<DeviceMedium, String> {
        let device = self.shared.targetd.open_catalog(pool, true).await;
        device.map(DeviceMedium::new).map_err(|error| chain(&error))
    }
}

/// An error with its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
