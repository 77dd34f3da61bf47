//! The store on real files: what it keeps, what it refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ashlar_agent::store::{Batch, DatabaseOutcome, OpenError, Options, StageError, Store};

use crate::fixture::{SMALL, copied, entries, files, filled, open, put};

#[test]
fn a_new_store_is_empty_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (store, report) = open(&dir.path().join("state/store"));
    assert!(entries(&store).is_empty());
    assert_eq!((report.generation, report.entries), (0, 0));
    assert!(report.is_clean());
}

#[test]
fn committed_entries_are_there_after_a_clean_close() {
    let (dir, held) = filled(300);
    let (store, report) = open(dir.path());
    assert_eq!(entries(&store), held);
    assert_eq!(report.database, DatabaseOutcome::Verified);
    assert_eq!(report.generation, 300);
    assert_eq!(report.entries, held.len() as u64);
    assert!(report.checkpoint > 0 && report.is_clean(), "{report}");
}

#[test]
fn committed_entries_are_there_after_a_kill() {
    let (dir, _) = filled(100);
    let (mut store, _) = open(dir.path());
    for number in 100..150 {
        put(&mut store, number);
        store.commit().unwrap();
    }
    let held = entries(&store);
    let killed = copied(dir.path());
    let (store, report) = open(killed.path());
    assert_eq!(entries(&store), held);
    assert_eq!(report.generation, 150);
    assert!(
        matches!(report.database, DatabaseOutcome::Rebuilt { .. }),
        "{report}"
    );
    assert!(report.is_clean(), "{report}");
}

#[test]
fn staged_batches_show_with_the_commit_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let mut batch = Batch::new();
    batch.put("a", "1").put("b", "2").delete("a");
    assert_eq!(store.stage(batch).unwrap(), 1);
    assert_eq!(store.get(b"b").unwrap(), None);
    let mut batch = Batch::new();
    batch.put("ab", "3");
    assert_eq!(store.stage(batch).unwrap(), 2);
    assert_eq!(store.commit().unwrap(), 2);
    assert_eq!(store.get(b"a").unwrap(), None);
    assert_eq!(store.get(b"b").unwrap(), Some(b"2".to_vec()));
    let prefixed: Vec<_> = store.load_prefix(b"a").map(Result::unwrap).collect();
    assert_eq!(prefixed, [(b"ab".to_vec(), b"3".to_vec())]);
}

#[test]
fn what_is_durable_shows_when_it_is_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let mut batch = Batch::new();
    batch.put("a", "1");
    store.stage(batch).unwrap();
    assert_eq!(store.sync().unwrap(), 1);
    assert_eq!(store.get(b"a").unwrap(), None);
    assert!(store.behind() > 0);
    let (killed, report) = open(copied(dir.path()).path());
    assert_eq!(report.generation, 1);
    assert_eq!(killed.get(b"a").unwrap(), Some(b"1".to_vec()));
    // What is staged meanwhile is neither durable nor shown.
    let mut batch = Batch::new();
    batch.put("b", "2");
    store.stage(batch).unwrap();
    store.show().unwrap();
    assert_eq!(store.get(b"a").unwrap(), Some(b"1".to_vec()));
    assert_eq!(store.get(b"b").unwrap(), None);
    store.close().unwrap();
    let (store, report) = open(dir.path());
    assert_eq!(report.database, DatabaseOutcome::Verified);
    assert_eq!(store.get(b"b").unwrap(), Some(b"2".to_vec()));
}

#[test]
fn a_checkpoint_is_not_put_off_by_what_is_staged() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let mut number = 0;
    while store.health().unwrap().checkpoint == 0 {
        assert!(number < 2000, "no checkpoint");
        put(&mut store, number);
        store.sync().unwrap();
        put(&mut store, number + 1);
        store.show().unwrap();
        number += 2;
    }
}

#[test]
fn a_batch_over_the_limit_is_refused_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let mut batch = Batch::new();
    batch.put("big", vec![0; 9 << 20]);
    let error = store.stage(batch).unwrap_err();
    assert!(matches!(error, StageError::TooLarge { .. }), "{error}");
    put(&mut store, 1);
    assert_eq!(store.commit().unwrap(), 1);
}

#[test]
fn changes_are_refused_before_the_state_disk_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let reserve_bytes = u64::MAX;
    let options = Options {
        reserve_bytes,
        ..SMALL
    };
    let (mut store, _) = Store::open(dir.path(), options).unwrap();
    let mut batch = Batch::new();
    batch.put("a", "1");
    let error = store.stage(batch).unwrap_err();
    assert!(matches!(error, StageError::StateDiskFull { .. }), "{error}");
    assert!(error.to_string().starts_with("the state disk is full"));
    assert_eq!(store.commit().unwrap(), 0);
}

#[test]
fn two_processes_cannot_open_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = open(dir.path());
    let refused = Store::open(dir.path(), SMALL).err().unwrap();
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    drop(first);
    open(dir.path());
}

#[test]
fn only_the_owner_can_read_the_files() {
    let (dir, _) = filled(200);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let own = dir.path().join("own");
    drop(open(&own));
    assert_eq!(mode(&own), 0o700);
    assert_eq!(mode(&own.join("sled")), 0o700);
    for file in files(dir.path(), "") {
        let mode = mode(&dir.path().join(&file));
        // sled chooses its own modes, inside a directory of 0700.
        assert!(
            mode == 0o600 || file.starts_with("sled") || file.starts_with("own"),
            "{file:?}: {mode:o}"
        );
    }
}

#[test]
fn debug_output_of_a_batch_keeps_its_values() {
    let mut batch = Batch::new();
    batch.put("host/a", "chap-secret").delete("x");
    let shown = format!("{batch:?}");
    assert!(!shown.contains("chap-secret") && !shown.contains("host/a"));
}

#[test]
fn old_checkpoints_and_segments_are_let_go() {
    let (dir, _) = filled(1000);
    assert_eq!(files(dir.path(), "checkpoint-").len(), 2);
    assert!(files(dir.path(), "journal-").len() <= 4);
}

#[test]
fn a_store_of_a_newer_release_is_left_alone() {
    for prefix in ["journal-", "checkpoint-"] {
        let (dir, _) = filled(300);
        let path = dir.path().join(files(dir.path(), prefix).last().unwrap());
        let mut bytes = fs::read(&path).unwrap();
        bytes[11] = 2;
        let crc = crc32fast::hash(&bytes[..12]).to_be_bytes();
        bytes[12..16].copy_from_slice(&crc);
        fs::write(&path, &bytes).unwrap();
        let refused = Store::open(dir.path(), SMALL).err().unwrap();
        assert!(
            matches!(refused, OpenError::Newer { version: 2, .. }),
            "{refused}"
        );
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}
