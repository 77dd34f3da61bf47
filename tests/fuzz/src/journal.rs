//! A store whose files were damaged: nothing that was never acknowledged comes out of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use arbitrary::{Result, Unstructured};
use ashlar_agent::store::{Batch, OpenError, Options, Store};
use tempfile::TempDir;

pub(crate) type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

const COMMITS: u64 = 40;
const MOST_DAMAGE: usize = 6;

/// Several segments and two checkpoints within [`COMMITS`].
const SMALL: Options = Options {
    segment_bytes: 1500,
    reserve_bytes: 0,
    cache_bytes: 1 << 20,
};

/// No checkpoint comes due.
const WIDE: Options = Options {
    segment_bytes: 4 << 20,
    ..SMALL
};

/// Takes the bytes for a list of damages to the files of a small store, does them, and opens it.
///
/// # Panics
/// When it opens with anything but the state after one of its commits, or opens differently the
/// second time.
pub fn run(data: &[u8]) {
    let history = history();
    let mut files = history.files.clone();
    let mut input = Unstructured::new(data);
    for _ in 0..MOST_DAMAGE {
        if input.is_empty() || damage(&mut files, &mut input).is_err() {
            break;
        }
    }
    let dir = scratch();
    for (name, bytes) in &files {
        fs::write(dir.path().join(name), bytes).expect("there is room");
    }
    let Some((generation, entries)) = opened(dir.path()) else {
        return;
    };
    let state = history.states.get(generation as usize);
    assert_eq!(
        state,
        Some(&entries),
        "that never was at generation {generation}"
    );
    assert_eq!(
        opened(dir.path()),
        Some((generation + 1, with_mark(entries)))
    );
}

/// The generation a store opens at and its entries; `None` when it says that it is damaged. The
/// second time there is one more commit.
pub(crate) fn opened(dir: &Path) -> Option<(u64, Entries)> {
    let mut store = match Store::open(dir, WIDE) {
        Ok((store, _)) => store,
        Err(OpenError::Damaged { .. } | OpenError::Newer { .. }) => return None,
        Err(error) => panic!("{error}"),
    };
    let entries = store.load().map(|entry| entry.expect("it was just read"));
    let found = (store.generation(), entries.collect());
    let mut batch = Batch::new();
    batch.put(MARK, MARK);
    store.stage(batch).expect("there is room");
    store.commit().expect("there is room");
    Some(found)
}

const MARK: &[u8] = b"opened";

/// What [`opened`] leaves behind.
pub(crate) fn with_mark(mut entries: Entries) -> Entries {
    entries.insert(MARK.to_vec(), MARK.to_vec());
    entries
}

/// In memory where that can be: nothing here asks what a power cut leaves.
pub(crate) fn scratch() -> TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory
        .or_else(|_| tempfile::tempdir())
        .expect("there is a disk")
}

fn damage(files: &mut BTreeMap<String, Vec<u8>>, input: &mut Unstructured<'_>) -> Result<()> {
    let names: Vec<String> = files.keys().cloned().collect();
    let name = input.choose(&names)?;
    let bytes = files.get_mut(name).expect("it is one of the names");
    let at = input.int_in_range(0..=bytes.len())?;
    let length = usize::from(input.arbitrary::<u8>()?);
    let end = bytes.len().min(at + length);
    match input.arbitrary::<u8>()? % 7 {
        0 => bytes.truncate(at),
        1 => bytes[at..end].fill(0),
        2 => bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0x40),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let piece = input.bytes(length.min(input.len()))?.to_vec();
            bytes.splice(at..at, piece).for_each(drop);
        }
        5 => {
            let piece = bytes[at..end].to_vec();
            let to = input.int_in_range(0..=bytes.len())?;
            bytes.splice(to..to, piece).for_each(drop);
        }
        _ => drop(files.remove(name)),
    }
    Ok(())
}

/// What a store went through.
struct History {
    /// Journal and checkpoints at its end; the database copy is left out.
    files: BTreeMap<String, Vec<u8>>,
    /// Its entries by generation.
    states: Vec<Entries>,
}

fn history() -> &'static History {
    static HISTORY: OnceLock<History> = OnceLock::new();
    HISTORY.get_or_init(|| {
        let dir = scratch();
        let states = live(dir.path());
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(dir.path()).expect("it is ours") {
            let path = entry.expect("it is ours").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.starts_with("journal-") || name.starts_with("checkpoint-") {
                files.insert(name, fs::read(&path).expect("it is ours"));
            }
        }
        assert!(files.len() >= 4, "{:?}", files.keys());
        History { files, states }
    })
}

/// A life of puts and deletes, closed now and then so that checkpoints end when they are due.
fn live(dir: &Path) -> Vec<Entries> {
    let open = || Store::open(dir, SMALL).expect("it is whole").0;
    let mut store = open();
    let mut states = vec![Entries::new()];
    for number in 0..COMMITS {
        let mut batch = Batch::new();
        batch.put(
            format!("volume/{}", number % 9),
            number.to_be_bytes().repeat(9),
        );
        if number % 4 == 3 {
            batch.delete(format!("volume/{}", (number + 5) % 9));
        }
        store.stage(batch).expect("there is room");
        store.commit().expect("there is room");
        states.push(
            store
                .load()
                .map(|entry| entry.expect("it is whole"))
                .collect(),
        );
        if number % 10 == 9 {
            store.close().expect("there is room");
            store = open();
        }
    }
    store.close().expect("there is room");
    states
}

/// Each kind of damage to each file, in three places.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![Vec::new()];
    for file in 0..4 {
        for kind in 0..7 {
            let at = 40 * file + 15 * kind;
            seeds.push(vec![file, at, 0, 40, kind, b'A', b'F', b'R', b'M', 0, 1]);
        }
    }
    seeds
}
