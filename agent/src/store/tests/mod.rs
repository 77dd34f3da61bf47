//! The log on a disk that forgets: power cuts, failed syncs, no space.

mod faulty_disk;
mod framing;
mod no_space;
mod power_cut;
mod trail;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::batch::{Batch, Key, Value};
use super::log::{Bounds, Log};
use super::survey::survey;
use faulty_disk::{FaultyDisk, Random};

type Entries = BTreeMap<Key, Value>;

/// Small enough that a script of a few dozen commits rotates and checkpoints often.
const BOUNDS: Bounds = Bounds {
    segment_bytes: 500,
    reserve_bytes: 0,
    ahead_bytes: 700,
};

/// Opens the log as [`super::Store::open`] does when there is no database copy.
fn open(disk: &FaultyDisk) -> Result<(Log, Entries), String> {
    open_with(disk, BOUNDS)
}

fn open_with(disk: &FaultyDisk, bounds: Bounds) -> Result<(Log, Entries), String> {
    let survey = survey(disk).map_err(|error| error.to_string())?;
    if !survey.is_empty() && !survey.is_whole() {
        return Err(format!("damaged: {:?}", survey.scan.lost));
    }
    let log =
        Log::resume(Arc::new(disk.clone()), bounds, &survey).map_err(|error| error.to_string())?;
    let entries = survey.entries(disk).map_err(|error| error.to_string())?;
    let entries = entries.collect::<Result<_, _>>();
    Ok((log, entries.map_err(|error| error.to_string())?))
}

/// What was asked of the log, batch by batch, and how far it promised durability.
#[derive(Clone, Default)]
struct Model {
    batches: Vec<Batch>,
    promised: u64,
}

impl Model {
    fn entries(&self, generation: u64) -> Entries {
        let mut entries = Entries::new();
        for batch in &self.batches[..generation as usize] {
            for (key, value) in batch.changes() {
                match value {
                    Some(value) => drop(entries.insert(key.to_vec(), value.to_vec())),
                    None => drop(entries.remove(key)),
                }
            }
        }
        entries
    }

    /// Whether `log` holds what was promised, and beyond it only what was asked, in order.
    fn check(&mut self, log: &Log, entries: &Entries) -> Result<(), String> {
        let (generation, promised) = (log.generation(), self.promised);
        if generation < promised {
            return Err(format!("{generation} is all that is left of {promised}"));
        }
        if generation > self.batches.len() as u64 {
            return Err(format!("{generation} was never asked for"));
        }
        if *entries != self.entries(generation) {
            return Err(format!("wrong entries at generation {generation}"));
        }
        self.batches.truncate(generation as usize);
        self.promised = generation;
        Ok(())
    }
}

fn random_batch(random: &mut Random) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..1 + random.below(3) {
        let key = format!("key-{}", random.below(20));
        match random.below(4) {
            0 => batch.delete(key),
            _ => {
                let byte = random.below(256) as u8;
                // Some values span several sectors, so that they can tear.
                let length = if random.below(10) == 0 { 1300 } else { 40 };
                batch.put(key, vec![byte; length])
            }
        };
    }
    batch
}
