//! Which targets or subsystems belong to which volume or snapshot.
//!
//! Their names begin with the box's name, which the agent chooses, so they do not follow from
//! its id alone. They are learned once at start and kept up with every step. A name is
//! remembered before its object is made and forgotten after it is gone, so none that exists is
//! ever missing here; one that does not exist does no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use uuid::Uuid;

/// Names by volume. Nearly always none or one.
pub(super) struct Names<N> {
    by_volume: Mutex<BTreeMap<Uuid, BTreeSet<N>>>,
}

impl<N> Default for Names<N> {
    fn default() -> Self {
        Names {
            by_volume: Mutex::new(BTreeMap::new()),
        }
    }
}

impl<N: Ord + Clone> Names<N> {
    /// Remembers a name.
    pub(super) fn add(&self, volume: Uuid, name: &N) {
        self.lock().entry(volume).or_default().insert(name.clone());
    }

    /// Forgets a name.
    pub(super) fn remove(&self, volume: Uuid, name: &N) {
        let mut by_volume = self.lock();
        if let Some(names) = by_volume.get_mut(&volume) {
            names.remove(name);
            if names.is_empty() {
                by_volume.remove(&volume);
            }
        }
    }

    /// The names of one volume.
    pub(super) fn of(&self, volume: Uuid) -> BTreeSet<N> {
        self.lock().get(&volume).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, BTreeSet<N>>> {
        self.by_volume
            .lock()
            .expect("nothing panics while holding this lock")
    }
}
