//! Power cuts, torn and flipped bytes, disks that fail: what is read is what was once written.

use std::collections::BTreeMap;
use std::io;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::store::{Batch, Key, Value};

const POOL: Uuid = Uuid::from_u128(0xca7a);
const OWNER: Owner = Owner {
    id: Uuid::from_u128(0xb0),
    generation: 9,
};
/// Small, so that sides are full soon.
const SIZE: u64 = 128 << 10;
const SECTOR: usize = 512;

type Entries = BTreeMap<Key, Value>;

/// SplitMix64: the same seed, the same accident.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Bytes in memory, of which a power cut keeps what was synced, and any sectors of the rest.
#[derive(Clone)]
struct Memory {
    durable: Vec<u8>,
    current: Vec<u8>,
    operations: u64,
    /// The operation from which on nothing works any more.
    dies_at: Option<u64>,
    /// Blocks that cannot be read.
    unreadable: Vec<u64>,
}

impl Memory {
    fn new() -> Memory {
        Memory {
            durable: vec![0; SIZE as usize],
            current: vec![0; SIZE as usize],
            operations: 0,
            dies_at: None,
            unreadable: Vec::new(),
        }
    }

    fn works(&mut self) -> io::Result<()> {
        self.operations += 1;
        match self.dies_at {
            Some(at) if self.operations > at => Err(io::Error::from_raw_os_error(5)),
            _ => Ok(()),
        }
    }

    fn after_cut(&self, random: &mut Random) -> Memory {
        let mut kept = self.durable.clone();
        for at in (0..kept.len()).step_by(SECTOR) {
            if random.below(2) == 0 {
                kept[at..at + SECTOR].copy_from_slice(&self.current[at..at + SECTOR]);
            }
        }
        Memory {
            durable: kept.clone(),
            current: kept,
            ..Memory::new()
        }
    }
}

impl Medium for Memory {
    fn size(&self) -> u64 {
        SIZE
    }

    fn read_at(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let blocks = at / BLOCK as u64..(at + bytes.len() as u64).div_ceil(BLOCK as u64);
        if self.unreadable.iter().any(|block| blocks.contains(block)) {
            return Err(io::Error::from_raw_os_error(5));
        }
        bytes.copy_from_slice(&self.current[at as usize..at as usize + bytes.len()]);
        Ok(())
    }

    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        assert_eq!((at % BLOCK as u64, bytes.len() % BLOCK), (0, 0));
        // What fails may have been written in part.
        let done = self.works();
        let at = at as usize;
        self.current[at..at + bytes.len()].copy_from_slice(bytes);
        done
    }

    fn sync(&mut self) -> io::Result<()> {
        self.works()?;
        self.durable.clone_from(&self.current);
        Ok(())
    }
}

fn random_batch(random: &mut Random) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..1 + random.below(4) {
        let key = vec![0x30, random.below(24) as u8];
        match random.below(4) {
            0 => batch.delete(key),
            _ => batch.put(key, vec![random.next() as u8; random.below(400) as usize]),
        };
    }
    batch
}

fn applied(entries: &Entries, batch: &Batch) -> Entries {
    let mut entries = entries.clone();
    for (key, value) in batch.changes() {
        match value {
            Some(value) => entries.insert(key.to_vec(), value.to_vec()),
            None => entries.remove(key),
        };
    }
    entries
}

fn checkpoint(
    writer: &mut Writer,
    medium: &mut Memory,
    entries: &Entries,
    life: u64,
) -> Result<(), WriteError> {
    let mut checkpoint = writer.begin(life, OWNER);
    // As it was before, and what has changed since.
    let (mut before, mut since) = (entries.clone(), Batch::new());
    if let Some((key, value)) = before.pop_last() {
        since.put(key, value);
    }
    before.insert(vec![0x2f], vec![1]);
    since.delete(vec![0x2f]);
    for (key, value) in before {
        writer.add(medium, &mut checkpoint, key, value)?;
    }
    writer.finish(medium, checkpoint, &since)
}

/// All states there were, and which of them is durable.
struct History {
    states: Vec<Entries>,
    durable: usize,
}

impl History {
    fn now(&self) -> &Entries {
        self.states.last().expect("it begins with one")
    }
}

/// Writes batches until done, or until the power goes.
fn write(medium: &mut Memory, writer: &mut Writer, history: &mut History, random: &mut Random) {
    for _ in 0..40 {
        let batch = random_batch(random);
        history.states.push(applied(history.now(), &batch));
        let appended = writer.append(medium, &batch);
        let done = match appended {
            Ok(Appended::CheckpointDue) => checkpoint(writer, medium, history.now(), random.next()),
            other => other.map(|_| ()),
        };
        if done.is_err() {
            return;
        }
        history.durable = history.states.len() - 1;
    }
}

/// Which of the states from the durable one on was read.
fn found(history: &History, catalog: &Catalog) -> Option<usize> {
    let mut later = history.states.iter().enumerate().skip(history.durable);
    later
        .find(|(_, state)| **state == catalog.entries)
        .map(|(at, _)| at)
}

/// A history of several lives, in which power goes at some operation of each.
fn lives(seed: u64, cuts: &[u64]) -> Result<(), String> {
    let mut random = Random(seed);
    let mut medium = Memory::new();
    let mut history = History {
        states: vec![Entries::new()],
        durable: 0,
    };
    for cut in cuts {
        let catalog = match read(&mut medium, POOL) {
            Ok(catalog) => Some(catalog),
            Err(ReadError::Absent { .. }) if history.durable == 0 => None,
            Err(error) => return Err(format!("{error} after {}", history.durable)),
        };
        if let Some(catalog) = &catalog {
            let at = found(&history, catalog).ok_or("what is read never was, or is too old")?;
            if catalog.lost {
                return Err("a power cut was taken for damage".to_owned());
            }
            history.states.truncate(at + 1);
            history.durable = at;
        }
        let mut writer = Writer::new(POOL, catalog.as_ref());
        medium.dies_at = Some(*cut);
        write(&mut medium, &mut writer, &mut history, &mut random);
        medium = medium.after_cut(&mut random);
    }
    Ok(())
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_durable() {
    for seed in 0..6 {
        for cut in 0..130 {
            lives(seed, &[cut, 1000]).unwrap_or_else(|why| panic!("seed {seed}, cut {cut}: {why}"));
        }
    }
}

proptest! {
    #[test]
    fn so_it_is_however_often_power_goes(
        seed in any::<u64>(),
        cuts in proptest::collection::vec(0..150_u64, 1..8),
    ) {
        prop_assert_eq!(lives(seed, &cuts), Ok(()));
    }

    #[test]
    fn damage_is_told_or_costs_the_last_records_only(
        seed in any::<u64>(),
        at in 0..SIZE as usize,
        length in 1..9000_usize,
        flip in 1..=255_u8,
    ) {
        let (mut medium, history) = written(seed);
        let end = (at + length).min(SIZE as usize);
        medium.current[at..end].iter_mut().for_each(|byte| *byte ^= flip);
        // A record takes a block at least.
        judge(&mut medium, &history, (end - at).div_ceil(BLOCK) as u64 + 1)?;
    }

    #[test]
    fn so_it_is_with_what_cannot_be_read(
        seed in any::<u64>(),
        blocks in proptest::collection::vec(0..SIZE / BLOCK as u64, 1..4),
    ) {
        let (mut medium, history) = written(seed);
        let damaged = blocks.len() as u64;
        medium.unreadable = blocks;
        judge(&mut medium, &history, damaged)?;
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
        let mut medium = Memory::new();
        medium.current[..bytes.len()].copy_from_slice(&bytes);
        drop(read(&mut medium, POOL));
    }
}

/// A region that was written for a while.
fn written(seed: u64) -> (Memory, History) {
    let mut random = Random(seed);
    let mut medium = Memory::new();
    let mut history = History {
        states: vec![Entries::new()],
        durable: 0,
    };
    let mut writer = Writer::new(POOL, None);
    write(&mut medium, &mut writer, &mut history, &mut random);
    assert_eq!(history.durable, 40);
    (medium, history)
}

/// What is read was once so; and if it is older than without the last record, that is told.
fn judge(medium: &mut Memory, history: &History, damaged: u64) -> Result<(), TestCaseError> {
    let Ok(catalog) = read(medium, POOL) else {
        return Ok(());
    };
    let states = &history.states;
    let was = states.iter().rposition(|state| *state == catalog.entries);
    let was = was.ok_or_else(|| TestCaseError::fail("what is read never was"))?;
    // All that is written after a place is either damaged or tells.
    let told = catalog.lost || was + 1 + damaged as usize >= states.len();
    prop_assert!(told, "{was} of {}", states.len());
    Ok(())
}

#[test]
fn one_damaged_head_costs_nothing() {
    for head in 0..2 {
        let (mut medium, history) = written(7);
        let whole = read(&mut medium, POOL).unwrap();
        let size = side_size(SIZE);
        medium.unreadable = vec![(whole.side * size + heads(size)[head]) / BLOCK as u64];
        let catalog = read(&mut medium, POOL).unwrap();
        assert_eq!((&catalog.entries, catalog.lost), (history.now(), false));
    }
}

#[test]
fn a_damaged_checkpoint_leaves_the_one_before_and_is_told() {
    let (mut medium, history) = written(7);
    let whole = read(&mut medium, POOL).unwrap();
    medium.unreadable = vec![whole.side * side_size(SIZE) / BLOCK as u64 + 1];
    let catalog = read(&mut medium, POOL).unwrap();
    assert!(catalog.lost && history.states.contains(&catalog.entries));
    // Who goes on from there does not write over it, and is what counts then.
    medium.unreadable.clear();
    let mut writer = Writer::new(POOL, Some(&catalog));
    checkpoint(&mut writer, &mut medium, &Entries::new(), 1).unwrap();
    assert_eq!(read(&mut medium, POOL).unwrap().entries, Entries::new());
}

#[test]
fn a_catalog_of_another_pool_is_not_taken_for_this_ones() {
    let (mut medium, _) = written(7);
    let other = Uuid::from_u128(1);
    let error = read(&mut medium, other).unwrap_err();
    assert!(
        matches!(error, ReadError::Foreign { found: POOL, .. }),
        "{error}"
    );
    // A pool that is made where another one was is its own.
    let mut writer = Writer::new(other, None);
    checkpoint(&mut writer, &mut medium, &Entries::new(), 1).unwrap();
    assert_eq!(read(&mut medium, other).unwrap().entries, Entries::new());
}

#[test]
fn records_that_do_not_fit_are_refused_and_what_was_there_stays() {
    let (mut medium, history) = written(7);
    let found = read(&mut medium, POOL).unwrap();
    let mut writer = Writer::new(POOL, Some(&found));
    let large: Entries = (0..40).map(|n| (vec![n], vec![n; 4000])).collect();
    let error = checkpoint(&mut writer, &mut medium, &large, 3).unwrap_err();
    assert!(matches!(error, WriteError::Full { .. }), "{error}");
    assert_eq!(read(&mut medium, POOL).unwrap().entries, *history.now());
}

#[test]
fn a_newer_format_is_neither_read_nor_taken_for_damage() {
    let (mut medium, _) = written(7);
    let frame = frame::Frame {
        version: 2,
        kind: frame::Kind::Head,
        sequence: 1,
        life: 1,
        pool: POOL,
        place: 0,
        payload: b"whatever",
    };
    medium.write_at(0, &frame.encode()).unwrap();
    let error = read(&mut medium, POOL).unwrap_err();
    assert!(
        matches!(error, ReadError::Newer { version: 2, .. }),
        "{error}"
    );
}
