//! Keeping the catalogs of pools.
//!
//! ```text
//! store thread: which entries changed, once durable ──► marked, by pool
//!                                  one task per pool: half a second later, as they are then ──►
//!                                  one record, or a checkpoint where nothing is known to be whole
//! ```
//!
//! Nobody waits for it: a task is there only while something is marked, and its I/O is done by a
//! thread of its own, so that a disk which hangs keeps nothing but its catalog. What fails makes the
//! catalog one that is not known to be whole: a checkpoint follows, and until then health tells.
//!
//! A catalog that another box wrote, or one newer than this box's store, is not written: see [`judge`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ashlar_targetd_protocol::{FailureKind, Request};
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, Notify, RwLock, watch};
use tokio::time::sleep;
use uuid::Uuid;

use crate::catalog::{
    Appended, Catalog, DeviceMedium, Owner, ReadError, WriteError, Writer, highest, read,
};
use crate::domain::catalog::{entry, page};
use crate::domain::record::{Key, PoolPhase, PoolRecord, Record};
use crate::domain::secrets::Random;
use crate::domain::{Intent, OsRandom};
use crate::reconcile::render;
use crate::store::Batch;
use crate::targetd::{CallError, Targetd};

/// For how long changes are gathered. Half of what a catalog may be behind.
const GATHER: Duration = Duration::from_millis(500);
/// First and longest pause after a failure.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Entries of catalogs, by pool.
pub(super) type Marks = BTreeSet<(Uuid, Key)>;

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
    /// The last generation that is known to be on the state disk.
    durable: AtomicU64,
    slots: Mutex<BTreeMap<Uuid, Slot>>,
}

/// One pool's.
#[derive(Default)]
struct Slot {
    marked: BTreeSet<Key>,
    /// Whether the catalog is as it was marked before, for all that is known.
    whole: bool,
    /// A task is at it.
    running: bool,
    trouble: Option<String>,
    /// Ends a pause.
    again: Arc<Notify>,
    /// What is known of the region; nothing until it was read. Whoever has it is alone at it.
    writer: Arc<AsyncMutex<Option<Writer>>>,
}

/// Why a catalog is not written.
enum Trouble {
    /// Trying again may help.
    Passing(String),
    /// Not before something else changes.
    Lasting(String),
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
                durable: AtomicU64::new(0),
                slots: Mutex::default(),
            }),
        }
    }

    /// These have changed, and are durable up to and with that generation.
    pub(super) fn changed(&self, marks: Marks, durable: u64) {
        self.shared.durable.fetch_max(durable, Ordering::AcqRel);
        if marks.is_empty() {
            return;
        }
        let mut slots = self.lock();
        for (pool, key) in marks {
            let slot = slots.entry(pool).or_default();
            slot.marked.insert(key);
            self.run_soon(pool, slot);
        }
    }

    /// A pool answers: if its catalog is not known to be whole it is written now.
    pub(super) fn wake(&self, pool: Uuid) {
        let mut slots = self.lock();
        let slot = slots.entry(pool).or_default();
        slot.again.notify_one();
        self.run_soon(pool, slot);
    }

    fn run_soon(&self, pool: Uuid, slot: &mut Slot) {
        if std::mem::replace(&mut slot.running, true) {
            return;
        }
        let catalogs = self.clone();
        let mut stopped = self.shared.stopped.clone();
        self.shared.runtime.spawn(async move {
            // What is broken off is whole on one side; the next start writes all of it.
            tokio::select! {
                () = catalogs.run(pool) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        });
    }

    /// Why the catalog of a pool is not as it should be.
    pub(super) fn trouble(&self, pool: Uuid) -> Option<String> {
        self.lock().get(&pool)?.trouble.clone()
    }

    /// Forgets a pool; waits until nothing is at its catalog.
    pub(crate) async fn forget(&self, pool: Uuid) {
        let slot = self.lock().remove(&pool);
        if let Some(slot) = slot {
            drop(slot.writer.lock().await);
        }
    }

    /// Writes the catalog of a pool that is taken over, whoever wrote it before.
    pub(crate) async fn take_over(&self, pool: Uuid) -> Result<(), String> {
        let lane = Arc::clone(&self.lock().entry(pool).or_default().writer);
        let mut writer = lane.lock().await;
        let written = self.checkpoint(pool, None, true).await;
        let mut slots = self.lock();
        let slot = slots.entry(pool).or_default();
        match written {
            Ok(new) => {
                *writer = Some(new);
                (slot.whole, slot.trouble) = (true, None);
                Ok(())
            }
            Err(Trouble::Passing(why) | Trouble::Lasting(why)) => Err(why),
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
            let Some(lane) = self.lane(pool) else { return };
            let mut writer = lane.lock().await;
            let Some((batch, whole)) = self.due(pool).await else {
                return;
            };
            let known = writer.take().filter(|_| whole);
            let written = match batch {
                Ok(batch) => self.write(pool, known, batch).await,
                Err(why) => Err(Trouble::Lasting(why)),
            };
            let failed = match written {
                Ok(now) => {
                    *writer = Some(now);
                    None
                }
                Err(trouble) => Some(trouble),
            };
            drop(writer);
            let Some(again) = self.note(pool, failed.as_ref()) else {
                return;
            };
            match failed {
                None => pause = PAUSE.0,
                Some(trouble) => {
                    // Cancel-safe: a wake-up that comes as the pause ends is kept.
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = again.notified() => {}
                    }
                    pause = match trouble {
                        Trouble::Passing(_) => (pause * 2).min(PAUSE.1),
                        Trouble::Lasting(_) => PAUSE.1,
                    };
                }
            }
        }
    }

    fn lane(&self, pool: Uuid) -> Option<Arc<AsyncMutex<Option<Writer>>>> {
        Some(Arc::clone(&self.lock().get(&pool)?.writer))
    }

    /// Notes how writing went; what ends a pause, if the pool is still there.
    fn note(&self, pool: Uuid, failed: Option<&Trouble>) -> Option<Arc<Notify>> {
        let mut slots = self.lock();
        let slot = slots.get_mut(&pool)?;
        slot.whole = failed.is_none();
        slot.trouble = failed.map(|trouble| match trouble {
            Trouble::Passing(why) | Trouble::Lasting(why) => why.clone(),
        });
        if let Some(why) = &slot.trouble {
            tracing::warn!(%pool, why, "the catalog is behind");
        }
        Some(Arc::clone(&slot.again))
    }

    /// What is to be written, as of one instant, and whether what was written before is known to
    /// be whole. Nothing when nothing is, which ends the task.
    async fn due(&self, pool: Uuid) -> Option<(Result<Batch, String>, bool)> {
        let intent = self.shared.intent.read().await;
        let mut slots = self.lock();
        let Some(entry) = intent.pool(pool) else {
            slots.remove(&pool);
            return None;
        };
        let slot = slots.get_mut(&pool)?;
        if !is_written(&entry.record) {
            slot.marked.clear();
            (slot.running, slot.whole, slot.trouble) = (false, false, None);
            return None;
        }
        let marked = std::mem::take(&mut slot.marked);
        if marked.is_empty() && slot.whole {
            slot.running = false;
            return None;
        }
        Some((self.batch(&intent, pool, &marked), slot.whole))
    }

    /// Entries as they are now, and how far the store is.
    fn batch(&self, intent: &Intent, pool: Uuid, marked: &BTreeSet<Key>) -> Result<Batch, String> {
        let mut batch = Batch::new();
        let durable = self.shared.durable.load(Ordering::Acquire);
        let clock = Record::Clock(durable);
        batch.put(
            clock.key().bytes(),
            clock.value().map_err(|error| chain(&error))?,
        );
        for key in marked {
            match entry(intent, pool, *key) {
                Some(record) => {
                    let value = record.value().map_err(|error| chain(&error))?;
                    batch.put(key.bytes(), value)
                }
                None => batch.delete(key.bytes()),
            };
        }
        Ok(batch)
    }

    async fn write(
        &self,
        pool: Uuid,
        known: Option<Writer>,
        batch: Batch,
    ) -> Result<Writer, Trouble> {
        let Some(mut writer) = known else {
            return self.checkpoint(pool, None, false).await;
        };
        let mut medium = self.open(pool).await?;
        let (writer, appended) = blocking(move || {
            let appended = writer.append(&mut medium, &batch);
            (writer, appended)
        })
        .await?;
        match appended.map_err(unwritten)? {
            Appended::Durable => Ok(writer),
            Appended::CheckpointDue => self.checkpoint(pool, Some(writer), false).await,
        }
    }

    /// Writes all there is, page by page, so that nobody waits for the intent, and with what has
    /// changed meanwhile.
    async fn checkpoint(
        &self,
        pool: Uuid,
        known: Option<Writer>,
        takes: bool,
    ) -> Result<Writer, Trouble> {
        let mut medium = self.open(pool).await?;
        let owner = self.owner().await?;
        let mut writer = match known {
            Some(writer) => writer,
            None => {
                let (found, last, back) = blocking(move || {
                    let found = read(&mut medium, pool);
                    let last = highest(&mut medium, pool);
                    (found, last, medium)
                })
                .await?;
                medium = back;
                resumed(pool, found, last, owner, takes)?
            }
        };
        let mut life = [0; 8];
        OsRandom.fill(&mut life);
        let mut checkpoint = writer.begin(u64::from_be_bytes(life), owner);
        let mut next = Some(Key::Pool(pool));
        while let Some(after) = next {
            let records;
            (records, next) = page(&*self.shared.intent.read().await, pool, after);
            let (back, added);
            (back, added) = blocking(move || {
                let added = records.into_iter().try_for_each(|record| {
                    let value = record
                        .value()
                        .map_err(|error| Trouble::Lasting(chain(&error)))?;
                    let key = record.key().bytes();
                    let added = writer.add(&mut medium, &mut checkpoint, key, value);
                    added.map_err(unwritten)
                });
                ((writer, medium, checkpoint), added)
            })
            .await?;
            (writer, medium, checkpoint) = back;
            added?;
        }
        let since = self.since(pool).await.map_err(Trouble::Lasting)?;
        let (writer, finished) = blocking(move || {
            let finished = writer.finish(&mut medium, checkpoint, &since);
            (writer, finished)
        })
        .await?;
        finished.map_err(unwritten)?;
        Ok(writer)
    }

    /// What has changed while pages were gathered.
    async fn since(&self, pool: Uuid) -> Result<Batch, String> {
        let intent = self.shared.intent.read().await;
        let mut slots = self.lock();
        let marked = slots
            .get_mut(&pool)
            .map(|slot| std::mem::take(&mut slot.marked));
        self.batch(&intent, pool, &marked.unwrap_or_default())
    }

    async fn owner(&self) -> Result<Owner, Trouble> {
        let intent = self.shared.intent.read().await;
        let site = intent.site();
        let id = site.map(|site| site.id);
        let id = id.ok_or_else(|| Trouble::Lasting("the box has no id yet".to_owned()))?;
        let generation = self.shared.durable.load(Ordering::Acquire);
        Ok(Owner { id, generation })
    }

    /// Opens the region, which is put together once more where it is not there.
    async fn open(&self, pool: Uuid) -> Result<DeviceMedium, Trouble> {
        let opened = match self.shared.targetd.open_catalog(pool, true).await {
            Err(CallError::Failed(failure)) if failure.kind == FailureKind::Missing => {
                self.raise(pool).await?;
                self.shared.targetd.open_catalog(pool, true).await
            }
            opened => opened,
        };
        let device = opened.map_err(|error| Trouble::Passing(chain(&error)))?;
        Ok(DeviceMedium::new(device))
    }

    async fn raise(&self, pool: Uuid) -> Result<(), Trouble> {
        let desired = {
            let intent = self.shared.intent.read().await;
            let generation = intent.generation();
            let entry = intent.pool(pool).zip(intent.site());
            entry.map(|(entry, site)| render::pool(pool, &entry.record, site.id, generation))
        };
        let desired = desired.ok_or_else(|| Trouble::Lasting("the pool is gone".to_owned()))?;
        let request = Request::ApplyCatalog(Box::new(desired));
        let raised = self.shared.targetd.call(request).await;
        raised
            .map(drop)
            .map_err(|error| Trouble::Passing(chain(&error)))
    }
}

/// Whether the catalog of a pool is kept now. That of one that is being taken over is as it was
/// until it is taken.
fn is_written(record: &PoolRecord) -> bool {
    let stands = record.phase == PoolPhase::Present && record.import.is_none();
    stands && record.catalog.is_some()
}

/// The writer of a region in which that was found.
fn resumed(
    pool: Uuid,
    found: Result<Catalog, ReadError>,
    highest: u64,
    owner: Owner,
    takes: bool,
) -> Result<Writer, Trouble> {
    match found {
        Ok(found) => {
            if !takes {
                judge(written(&found), owner).map_err(Trouble::Lasting)?;
            }
            Ok(Writer::new(pool, Some(&found)))
        }
        // It is this pool's to write, whatever was there before the pool; and what nobody can
        // read any more is better written again.
        Err(ReadError::Absent { .. } | ReadError::Foreign { .. } | ReadError::Disk { .. }) => {
            Ok(Writer::after(pool, highest))
        }
        Err(error @ (ReadError::Newer { .. } | ReadError::Large { .. })) => {
            Err(Trouble::Lasting(chain(&error)))
        }
    }
}

/// Who wrote a catalog, and how far their store was when they did last.
fn written(found: &Catalog) -> Owner {
    let key = Key::Clock.bytes();
    let value = found.entries.get(&key);
    let clock = match value.map(|value| Record::parse(&key, value)) {
        Some(Ok(Record::Clock(generation))) => generation,
        _ => 0,
    };
    Owner {
        generation: found.owner.generation.max(clock),
        ..found.owner
    }
}

/// What another box wrote is newer than what this one knows, whatever its labels say; and so is
/// what this box itself wrote before its store was put back to what it was.
fn judge(found: Owner, own: Owner) -> Result<(), String> {
    if found.id != own.id {
        return Err(format!(
            "it was written by box {}, and is left as that wrote it",
            found.id
        ));
    }
    if found.generation > own.generation {
        return Err(format!(
            "it is of generation {}, and this box's store is older, of {}: it is left as it is",
            found.generation, own.generation
        ));
    }
    Ok(())
}

/// Does I/O on a thread for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Trouble> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Trouble::Passing(format!("it was cut short: {error}")))
}

fn unwritten(error: WriteError) -> Trouble {
    match error {
        WriteError::Full { .. } => Trouble::Lasting(chain(&error)),
        WriteError::Disk { .. } => Trouble::Passing(chain(&error)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_box_or_a_newer_store_wrote_is_left_alone() {
        let own = |generation| Owner {
            id: Uuid::from_u128(1),
            generation,
        };
        let other = Owner {
            id: Uuid::from_u128(2),
            generation: 1,
        };
        assert_eq!(judge(own(7), own(7)), Ok(()));
        assert_eq!(judge(own(6), own(7)), Ok(()));
        assert!(
            judge(own(8), own(7))
                .unwrap_err()
                .contains("store is older")
        );
        assert!(judge(other, own(7)).unwrap_err().contains("by box"));
    }
}
