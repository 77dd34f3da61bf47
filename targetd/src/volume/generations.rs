//! Which intent was last carried out, per volume, since this process began.
//!
//! Desired states can overtake each other on their way. An older one would undo what a newer
//! one did, so it is refused; and so is one that takes access away although the intent, by its
//! generation, is the same as before.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use ashlar_targetd_protocol::{DataState, DesiredVolume, FailureKind};
use uuid::Uuid;

use crate::refusal::Refusal;

/// Destroyed volumes remembered, against late messages that would make them again.
const MOST_DESTROYED: usize = 1024;

/// What was accepted last, per volume.
#[derive(Default)]
pub struct Generations {
    accepted: Mutex<Accepted>,
}

#[derive(Default)]
struct Accepted {
    by_volume: BTreeMap<Uuid, Last>,
    destroyed: VecDeque<Uuid>,
}

#[derive(Clone, Copy)]
struct Last {
    generation: u64,
    /// Hosts and initiators with access.
    accesses: usize,
}

impl Generations {
    /// Accepts a desired state, or says why it is not the newest intent.
    pub fn accept(&self, desired: &DesiredVolume) -> Result<(), Refusal> {
        let mut accepted = self
            .accepted
            .lock()
            .expect("nothing panics while holding this lock");
        let next = Last {
            generation: desired.generation,
            accesses: accesses(desired),
        };
        if let Some(last) = accepted.by_volume.get(&desired.id) {
            check(desired.id, *last, next)?;
        }
        accepted.by_volume.insert(desired.id, next);
        if desired.data == DataState::Tombstone && !accepted.destroyed.contains(&desired.id) {
            accepted.destroyed.push_back(desired.id);
        }
        if accepted.destroyed.len() > MOST_DESTROYED
            && let Some(oldest) = accepted.destroyed.pop_front()
        {
            accepted.by_volume.remove(&oldest);
        }
        Ok(())
    }
}

fn accesses(desired: &DesiredVolume) -> usize {
    let iscsi = desired.exports.iscsi.as_ref();
    let nvme = desired.exports.nvme.as_ref();
    iscsi.map_or(0, |export| export.initiators.len()) + nvme.map_or(0, |export| export.hosts.len())
}

fn check(volume: Uuid, last: Last, next: Last) -> Result<(), Refusal> {
    let refused = |reason| Err(Refusal::new(FailureKind::Refused, reason));
    if next.generation < last.generation {
        return refused(format!(
            "generation {} of volume {volume} is stale: {} was carried out",
            next.generation, last.generation
        ));
    }
    if next.generation == last.generation && next.accesses < last.accesses {
        return refused(format!(
            "volume {volume} would lose access of {} hosts while the intent stayed at \
             generation {}",
            last.accesses - next.accesses,
            last.generation
        ));
    }
    Ok(())
}
