//! Devices that this process needs although no host may reach them.
//!
//! ```text
//! hold(unit) ── counted ──► the unit is applied once more, held ──► HoldGuard
//! dropped: the last one has the unit applied once more, and its device goes
//! ```
//!
//! Nothing of it is stored: whatever a process held, the first lap of the next one lets go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use ashlar_protocol::{Problem, ProblemCode};
use tokio::runtime::Handle;

use super::driver::{Desk, Reconciler};
use super::render::with_others;
use crate::domain::decide::check_taken;
use crate::domain::outcome::missing;
use crate::domain::record::Unit;

/// What is held, by unit.
#[derive(Debug, Default)]
pub(super) struct Holds {
    held: Mutex<BTreeMap<Unit, Held>>,
}

#[derive(Debug, Default)]
struct Held {
    count: usize,
    /// Whether the kernel has it so.
    active: bool,
}

impl Holds {
    /// Whether a unit's device is needed.
    pub(super) fn wants(&self, unit: Unit) -> bool {
        self.lock().contains_key(&unit)
    }

    /// The kernel has a unit, as it was wanted when this was rendered.
    pub(super) fn applied(&self, unit: Unit) {
        if let Some(held) = self.lock().get_mut(&unit) {
            held.active = true;
        }
    }

    fn is_active(&self, unit: Unit) -> bool {
        self.lock().get(&unit).is_some_and(|held| held.active)
    }

    fn add(&self, unit: Unit) {
        self.lock().entry(unit).or_default().count += 1;
    }

    /// Whether that was the last one.
    fn remove(&self, unit: Unit) -> bool {
        let mut held = self.lock();
        let Some(entry) = held.get_mut(&unit) else {
            return false;
        };
        entry.count -= 1;
        let last = entry.count == 0;
        if last {
            held.remove(&unit);
        }
        last
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Unit, Held>> {
        self.held.lock().expect("no holder of this lock panics")
    }
}

/// Keeps a unit's device active until it is dropped. What was opened of it is closed before.
pub struct HoldGuard {
    unit: Unit,
    reconciler: Reconciler,
    desk: Arc<dyn Desk>,
    runtime: Handle,
}

impl Reconciler {
    /// Has a unit's device made active and kept so.
    ///
    /// # Errors
    /// When there is no such unit, a snapshot is in motion, a volume is so with its group, or the
    /// kernel refuses. Waits for as long as targetd is away.
    pub async fn hold(&self, unit: Unit, desk: Arc<dyn Desk>) -> Result<HoldGuard, Problem> {
        self.shared.holds.add(unit);
        // From here on it is taken back if this is not awaited to its end.
        let guard = HoldGuard {
            unit,
            reconciler: self.clone(),
            desk,
            runtime: Handle::current(),
        };
        // An attempt under way may have been rendered before; then there is another.
        while !self.shared.holds.is_active(unit) {
            self.check_known(unit).await?;
            self.doubt(unit, &guard.desk).await;
            self.shared.ledger.attempted(unit).await;
            match self.shared.ledger.problem(unit) {
                Some(problem) if !self.shared.holds.is_active(unit) => return Err(problem),
                _ => {}
            }
        }
        Ok(guard)
    }

    async fn check_known(&self, unit: Unit) -> Result<(), Problem> {
        let intent = self.shared.intent.read().await;
        let object = unit.object();
        // What is made, or unmade, with others is not brought about by itself.
        let known = match unit {
            Unit::Volume(id) => intent.volume(id).map(|entry| {
                if !with_others(&intent, &entry.record) {
                    return Ok(());
                }
                let detail = format!("{object} is being changed with all members of its group");
                Err(Problem::new(ProblemCode::Busy, detail).about(object))
            }),
            Unit::Snapshot(id) => intent.snapshot(id).map(|record| check_taken(id, record)),
            Unit::Pool(_)
            | Unit::Group(_)
            | Unit::GroupSnapshot(_)
            | Unit::Host(_)
            | Unit::Portal(_) => None,
        };
        known.unwrap_or_else(|| Err(missing(object.kind, object.id)))
    }
}

impl Drop for HoldGuard {
    fn drop(&mut self) {
        if !self.reconciler.shared.holds.remove(self.unit) {
            return;
        }
        let (reconciler, unit) = (self.reconciler.clone(), self.unit);
        let desk = Arc::clone(&self.desk);
        self.runtime
            .spawn(async move { reconciler.doubt(unit, &desk).await });
    }
}

impl std::fmt::Debug for HoldGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HoldGuard({:?})", self.unit)
    }
}
