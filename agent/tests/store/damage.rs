//! Damaged files: what one copy lost another has, and nothing is lost in silence.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ashlar_agent::store::{DatabaseOutcome, OpenError, OpenReport, Store};
use tempfile::TempDir;

use crate::fixture::{
    Entries, SMALL, copied, copy, entries, files, filled, filled_from, open, put,
};

#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip(u64),
    Truncate(u64),
    Zero(u64),
    Remove,
}

impl Damage {
    /// Of every kind, at places all over a file of `length` bytes.
    fn all(path: &Path) -> Vec<Self> {
        let bytes = fs::read(path).unwrap();
        let length = bytes.len() as u64;
        let places = 12.min(length);
        let mut all = vec![Self::Remove];
        for place in 0..places {
            let at = place * length / places;
            all.extend([Self::Flip(at), Self::Truncate(at), Self::Zero(at)]);
        }
        // The last byte, and the last before the room of a journal.
        let last = bytes.iter().rposition(|byte| *byte != 0);
        for at in last
            .map(|at| at as u64)
            .into_iter()
            .chain(length.checked_sub(1))
        {
            all.extend([Self::Flip(at), Self::Truncate(at), Self::Zero(at)]);
        }
        all
    }

    fn inflict(self, path: &Path) {
        if matches!(self, Self::Remove) {
            return fs::remove_file(path).unwrap();
        }
        let mut bytes = fs::read(path).unwrap();
        match self {
            Self::Flip(at) => bytes[at as usize] ^= 0x40,
            Self::Truncate(at) => bytes.truncate(at as usize),
            Self::Zero(at) => {
                let end = bytes.len().min(at as usize + 600);
                bytes[at as usize..end].fill(0);
            }
            Self::Remove => {}
        }
        fs::write(path, bytes).unwrap();
    }
}

/// Damages each file beginning with `prefix` in every way, and hands each outcome over.
fn for_each_damage(
    prepared: &Path,
    prefix: &str,
    mut judge: impl FnMut(&str, Result<(Store, OpenReport), OpenError>, &TempDir),
) {
    let damaged = files(prepared, prefix);
    assert!(!damaged.is_empty(), "no file begins with {prefix}");
    for file in damaged {
        for damage in Damage::all(&prepared.join(&file)) {
            let dir = copied(prepared);
            damage.inflict(&dir.path().join(&file));
            let what = format!("{damage:?} of {}", file.display());
            judge(&what, Store::open(dir.path(), SMALL), &dir);
        }
    }
}

/// The store goes on as if nothing had been: it takes a commit, and the next start is calm.
fn goes_on(what: &str, mut store: Store, held: &Entries, dir: &Path) {
    assert_eq!(&entries(&store), held, "{what}");
    put(&mut store, 999);
    store.commit().unwrap();
    let held = entries(&store);
    store.close().unwrap();
    let (store, report) = open(dir);
    assert_eq!(entries(&store), held, "{what}");
    assert_eq!(
        report.database,
        DatabaseOutcome::Verified,
        "{what}: {report}"
    );
    assert!(
        report.is_clean() && report.torn_bytes == 0,
        "{what}: {report}"
    );
}

#[test]
fn any_damage_to_any_one_file_loses_nothing() {
    let (prepared, held) = filled(300);
    for prefix in ["sled/", "journal-", "checkpoint-"] {
        for_each_damage(prepared.path(), prefix, |what, opened, dir| match opened {
            Ok((store, _)) => goes_on(what, store, &held, dir.path()),
            Err(error) => panic!("{what}: {error}"),
        });
    }
}

#[test]
fn leftovers_of_a_torn_snapshot_lose_nothing() {
    let (prepared, held) = filled(50);
    let torn: [(&str, &[u8]); 4] = [
        ("snap.0000000000000100.generating", b""),
        ("snap.0000000000000100.generating", b"torn"),
        ("snap.0000000000000100", b""),
        ("snap.FFFFFFFFFFFFFF00", b"torn"),
    ];
    for (name, content) in torn {
        let dir = copied(prepared.path());
        fs::write(dir.path().join("sled").join(name), content).unwrap();
        let (store, _) = open(dir.path());
        goes_on(name, store, &held, dir.path());
    }
}

#[test]
fn a_copy_that_was_not_closed_is_rebuilt_without_being_opened() {
    let (prepared, held) = filled(100);
    let dir = copied(prepared.path());
    fs::write(dir.path().join("sled.state"), "in use").unwrap();
    let (store, report) = open(dir.path());
    assert!(
        matches!(&report.database, DatabaseOutcome::Rebuilt { reason } if reason.contains("closed")),
        "{report}"
    );
    goes_on("unclosed", store, &held, dir.path());
}

#[test]
fn a_sound_copy_of_another_state_is_not_believed() {
    let (older, _) = filled(100);
    let (other, _) = filled_from(1, 300);
    let (newer, held) = filled(300);
    for keep_copy_of in [&older, &other, &newer] {
        let dir = copied(newer.path());
        replace_copy(dir.path(), keep_copy_of.path());
        let (store, _) = open(dir.path());
        goes_on("another copy", store, &held, dir.path());
    }
}

/// A prepared store without its database copy.
fn without_copy(records: u32) -> (TempDir, Entries) {
    let (dir, held) = filled(records);
    fs::remove_dir_all(dir.path().join("sled")).unwrap();
    (dir, held)
}

#[test]
fn a_damaged_checkpoint_is_replaced_by_the_other_one() {
    let (prepared, held) = without_copy(300);
    for_each_damage(prepared.path(), "checkpoint-", |what, opened, dir| {
        let (store, report) = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        let gone = what.starts_with("Remove");
        assert!(gone || report.damaged.len() == 1, "{what}: {report}");
        goes_on(what, store, &held, dir.path());
    });
}

#[test]
fn a_damaged_journal_without_a_copy_is_refused_or_only_its_end_is_torn() {
    let (prepared, held) = without_copy(300);
    let last = files(prepared.path(), "journal-").pop().unwrap();
    let (mut whole, mut refused, mut torn) = (0, 0, 0);
    for_each_damage(
        prepared.path(),
        "journal-",
        |what, opened, _| match opened {
            Ok((store, _)) if entries(&store) == held => whole += 1,
            Ok((_, report)) => {
                // The end of the last segment cannot be told from a record under way.
                let at_end = what.ends_with(last.to_str().unwrap()) && !what.starts_with("Remove");
                let told = report.torn_bytes > 0 || what.starts_with("Truncate");
                assert!(at_end && told, "{what}: {report}");
                torn += 1;
            }
            Err(OpenError::Damaged { .. }) => refused += 1,
            Err(error) => panic!("{what}: {error}"),
        },
    );
    assert!(
        whole > 0 && refused > 0 && torn > 0,
        "{whole} {refused} {torn}"
    );
}

#[test]
fn a_file_numbered_beyond_every_generation_is_none_of_ours() {
    let (prepared, held) = filled(50);
    for name in ["journal", "checkpoint"] {
        fs::write(prepared.path().join(format!("{name}-{}", u64::MAX)), b"").unwrap();
    }
    let (store, _) = open(prepared.path());
    goes_on("beyond", store, &held, prepared.path());
}

/// A place in the last segment with promised records before and behind it.
fn middle_of_the_journal(dir: &Path) -> (PathBuf, u64) {
    let last = dir.join(files(dir, "journal-").pop().unwrap());
    let length = fs::metadata(&last).unwrap().len();
    assert!(length > 1000, "the last segment must hold several records");
    (last, length / 2)
}

#[test]
fn damage_in_the_middle_of_the_journal_is_refused_and_touches_nothing() {
    let (prepared, held) = without_copy(290);
    let (journal, middle) = middle_of_the_journal(prepared.path());
    let intact = fs::read(&journal).unwrap();
    Damage::Flip(middle).inflict(&journal);
    for _ in 0..2 {
        let error = Store::open(prepared.path(), SMALL).err().unwrap();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        let name = journal.file_name().unwrap().to_str().unwrap();
        assert!(error.to_string().contains(name), "{error}");
    }
    fs::write(&journal, intact).unwrap();
    let (store, _) = open(prepared.path());
    goes_on("repaired", store, &held, prepared.path());
}

#[test]
fn damage_in_the_middle_of_the_journal_is_repaired_from_the_copy_and_reported() {
    let (prepared, held) = filled(290);
    let (journal, middle) = middle_of_the_journal(prepared.path());
    Damage::Flip(middle).inflict(&journal);
    let (store, report) = open(prepared.path());
    assert!(
        matches!(report.database, DatabaseOutcome::Rescued { .. }),
        "{report}"
    );
    assert!(!report.is_clean());
    goes_on("rescued", store, &held, prepared.path());
}

#[test]
fn a_rescue_takes_from_the_journal_what_the_copy_lacks() {
    let (behind, _) = filled(288);
    let (prepared, held) = filled(290);
    let (journal, middle) = middle_of_the_journal(prepared.path());
    Damage::Flip(middle).inflict(&journal);
    replace_copy(prepared.path(), behind.path());
    let (store, report) = open(prepared.path());
    assert!(
        matches!(report.database, DatabaseOutcome::Rescued { .. }),
        "{report}"
    );
    goes_on("behind", store, &held, prepared.path());
}

#[test]
fn a_copy_too_old_for_a_rescue_is_refused() {
    let (behind, _) = filled(200);
    let (prepared, _) = filled(290);
    let (journal, middle) = middle_of_the_journal(prepared.path());
    Damage::Flip(middle).inflict(&journal);
    replace_copy(prepared.path(), behind.path());
    let error = Store::open(prepared.path(), SMALL).err().unwrap();
    assert!(
        error.to_string().contains("ends at generation 200"),
        "{error}"
    );
}

fn replace_copy(dir: &Path, with: &Path) {
    fs::remove_dir_all(dir.join("sled")).unwrap();
    copy(&with.join("sled"), &dir.join("sled"));
}

#[test]
fn both_checkpoints_lost_are_rescued_by_the_copy_and_refused_without_it() {
    for (with_copy, (prepared, held)) in [(true, filled(300)), (false, without_copy(300))] {
        for file in files(prepared.path(), "checkpoint-") {
            Damage::Zero(20).inflict(&prepared.path().join(file));
        }
        match (with_copy, Store::open(prepared.path(), SMALL)) {
            (true, Ok((store, report))) => {
                assert!(matches!(report.database, DatabaseOutcome::Rescued { .. }));
                goes_on("rescued", store, &held, prepared.path());
            }
            (false, Err(OpenError::Damaged { .. })) => {}
            (_, other) => panic!("{with_copy}: {:?}", other.map(|opened| opened.1)),
        }
    }
}

#[test]
fn a_cut_in_the_rescue_is_rescued_again() {
    let (prepared, held) = filled(290);
    let (journal, middle) = middle_of_the_journal(prepared.path());
    Damage::Flip(middle).inflict(&journal);
    // An unclosed copy may be used while the journal shows how far it must reach.
    fs::write(prepared.path().join("sled.state"), "in use").unwrap();
    let dir = copied(prepared.path());
    let (store, report) = open(dir.path());
    assert!(matches!(report.database, DatabaseOutcome::Rescued { .. }));
    goes_on("unclosed", store, &held, dir.path());
    // But not a second time if the first attempt never came back.
    fs::write(prepared.path().join("sled.state"), "rescuing").unwrap();
    let error = Store::open(prepared.path(), SMALL).err().unwrap();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[test]
fn losing_the_whole_journal_is_not_taken_for_a_new_store() {
    let (prepared, held) = filled(300);
    for file in files(prepared.path(), "") {
        let name = file.to_str().unwrap();
        if name.starts_with("journal-") || name.starts_with("checkpoint-") {
            fs::remove_file(prepared.path().join(&file)).unwrap();
        }
    }
    let unclosed = copied(prepared.path());
    File::create(unclosed.path().join("sled.state")).unwrap();
    let error = Store::open(unclosed.path(), SMALL).err().unwrap();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    let (store, report) = open(prepared.path());
    assert!(matches!(report.database, DatabaseOutcome::Rescued { .. }));
    goes_on("rescued", store, &held, prepared.path());
}
