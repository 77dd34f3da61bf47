//! Which intent was last carried out, per object, since this process began.
//!
//! Desired states can overtake each other on their way. An older one would undo what a newer
//! one did, so it is refused; and so is one that takes access away although the intent, by its
//! generation, is the same as before.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard};

use ashlar_targetd_protocol::{FailureKind, SnapshotsKind};
use uuid::Uuid;

use crate::refusal::Refusal;

/// Objects that are gone and still remembered, against late messages that would make them again.
const MOST_GONE: usize = 1024;

/// An object by its whole name: objects of different kinds may have the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: Uuid,
}

/// What has generations of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A pool.
    Pool,
    /// A volume.
    Volume,
    /// Snapshots that are taken together.
    Snapshots(SnapshotsKind),
}

impl Object {
    /// An object of a kind.
    pub fn new(kind: Kind, id: Uuid) -> Self {
        Object { kind, id }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Pool => "pool",
            Kind::Volume => "volume",
            Kind::Snapshots(SnapshotsKind::Snapshot) => "snapshot",
            Kind::Snapshots(SnapshotsKind::Group) => "group",
            Kind::Snapshots(SnapshotsKind::GroupSnapshot) => "group snapshot",
        };
        write!(f, "{kind} {}", self.id)
    }
}

/// What was accepted last, per object.
#[derive(Default)]
pub struct Generations {
    accepted: Mutex<Accepted>,
}

#[derive(Default)]
struct Accepted {
    by_object: BTreeMap<Object, Intent>,
    gone: VecDeque<Object>,
}

/// What a desired state says of the intent behind it.
#[derive(Clone, Copy, Debug)]
pub struct Intent {
    /// Its generation.
    pub generation: u64,
    /// Hosts with access.
    pub accesses: usize,
    /// Whether the object is to be gone for good.
    pub last: bool,
}

impl Generations {
    /// Accepts a desired state of an object, or says why it is not the newest intent.
    pub fn accept(&self, object: Object, intent: Intent) -> Result<(), Refusal> {
        let mut accepted = self.lock();
        if let Some(before) = accepted.by_object.get(&object) {
            check(object, *before, intent)?;
        }
        accepted.by_object.insert(object, intent);
        if intent.last && !accepted.gone.contains(&object) {
            accepted.gone.push_back(object);
        }
        if accepted.gone.len() > MOST_GONE
            && let Some(oldest) = accepted.gone.pop_front()
        {
            accepted.by_object.remove(&oldest);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Accepted> {
        self.accepted
            .lock()
            .expect("nothing panics while holding this lock")
    }
}

fn check(object: Object, before: Intent, now: Intent) -> Result<(), Refusal> {
    let refused = |reason| Err(Refusal::new(FailureKind::Refused, reason));
    if now.generation < before.generation {
        return refused(format!(
            "generation {} of {object} is stale: {} was carried out",
            now.generation, before.generation
        ));
    }
    if now.generation == before.generation && now.accesses < before.accesses {
        return refused(format!(
            "{} hosts would lose access to {object} while the intent stayed at generation {}",
            before.accesses - now.accesses,
            now.generation
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent(generation: u64) -> Intent {
        Intent {
            generation,
            accesses: 0,
            last: true,
        }
    }

    #[test]
    fn what_is_remembered_of_gone_objects_is_bounded() {
        let generations = Generations::default();
        let volume = |n| Object::new(Kind::Volume, Uuid::from_u128(n));
        for n in 0..3 * MOST_GONE as u128 {
            generations.accept(volume(n), intent(1)).unwrap();
        }
        assert_eq!(generations.lock().by_object.len(), MOST_GONE);
        let newest = volume(3 * MOST_GONE as u128 - 1);
        assert!(generations.accept(newest, intent(0)).is_err());
    }

    #[test]
    fn objects_of_one_id_and_different_kinds_know_nothing_of_each_other() {
        use SnapshotsKind::{Group, GroupSnapshot, Snapshot};
        let generations = Generations::default();
        let kinds = [Snapshot, Group, GroupSnapshot].map(Kind::Snapshots);
        let kinds = [Kind::Pool, Kind::Volume].into_iter().chain(kinds);
        for (kind, generation) in kinds.zip((1..10).rev()) {
            let object = Object::new(kind, Uuid::from_u128(1));
            generations.accept(object, intent(generation)).unwrap();
            let stale = generations.accept(object, intent(0)).unwrap_err();
            let stale = format!("{stale:?}");
            assert!(stale.contains(&format!("of {object} is stale")), "{stale}");
        }
    }
}
