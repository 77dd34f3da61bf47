//! Stores on real files to test with.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ashlar_agent::store::{Batch, OpenReport, Options, Store};
use tempfile::TempDir;

pub type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// Small enough for several checkpoints within a few hundred records.
pub const SMALL: Options = Options {
    segment_bytes: 8 << 10,
    reserve_bytes: 0,
    cache_bytes: 1 << 20,
};

pub fn open(dir: &Path) -> (Store, OpenReport) {
    Store::open(dir, SMALL).expect("the store opens")
}

pub fn entries(store: &Store) -> Entries {
    store.load().map(|entry| entry.unwrap()).collect()
}

pub fn put(store: &mut Store, number: u32) {
    let mut batch = Batch::new();
    let value = number.to_be_bytes().repeat(20);
    batch.put(format!("volume/{:03}", number % 40), value);
    if number.is_multiple_of(5) {
        batch.delete(format!("volume/{:03}", (number + 7) % 40));
    }
    store.stage(batch).unwrap();
}

/// A cleanly closed store of `records` commits, opened several times on the way, and what it
/// holds.
pub fn filled(records: u32) -> (TempDir, Entries) {
    filled_from(0, records)
}

/// The same with values of another history when `first` differs.
pub fn filled_from(first: u32, records: u32) -> (TempDir, Entries) {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    for number in first..first + records {
        put(&mut store, number);
        store.commit().unwrap();
        if number % 45 == 44 {
            store.close().unwrap();
            store = open(dir.path()).0;
        }
    }
    let held = entries(&store);
    assert_eq!(store.generation(), u64::from(records));
    store.close().unwrap();
    (dir, held)
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

pub fn copied(from: &Path) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(from, dir.path());
    dir
}

/// Paths of files whose path within `dir` begins with `prefix`, sorted.
pub fn files(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, found),
                false => found.push(path),
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, &mut found);
    let within = |path: &PathBuf| path.strip_prefix(dir).unwrap().to_owned();
    let mut found: Vec<_> = found.iter().map(within).collect();
    found.retain(|path| path.to_str().unwrap().starts_with(prefix));
    found.sort();
    found
}
