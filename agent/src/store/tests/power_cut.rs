//! Power cuts at every operation, with a second cut during or after the recovery.

use super::faulty_disk::{Cut, Deaf, FaultyDisk, Random};
use super::*;
use crate::store::disk::Disk;
use crate::store::error::{CommitError, StageError};

/// Commits of one run.
const COMMITS: u64 = 24;

/// Commits at random, with checkpoints that finish some commits after they began, until done
/// or until the power goes.
fn run(log: &mut Log, model: &mut Model, random: &mut Random) {
    let mut job = None;
    for _ in 0..COMMITS {
        for _ in 0..1 + random.below(3) {
            let batch = random_batch(random);
            model.batches.push(batch.clone());
            if log.stage(&batch).is_err() {
                return;
            }
        }
        match log.sync() {
            Ok(generation) => model.promised = generation,
            Err(_) => return,
        }
        job = match job.take() {
            None => match log.begin_checkpoint() {
                Ok(job) => job,
                Err(_) => return,
            },
            Some(job) if random.below(3) > 0 => Some(job),
            Some(job) => {
                log.adopt(job.run());
                None
            }
        };
    }
}

/// Opens, runs, loses power `at` operations later; what the next boot finds.
fn life(
    disk: &FaultyDisk,
    model: &mut Model,
    seed: u64,
    at: u64,
    cut: Cut,
) -> Result<FaultyDisk, String> {
    disk.cut_after(at);
    match open(disk) {
        Ok((mut log, entries)) => {
            model.check(&log, &entries)?;
            run(&mut log, model, &mut Random(seed));
        }
        Err(_) if disk.operations() >= at => {}
        Err(error) => return Err(error),
    }
    Ok(disk.after(cut))
}

fn survives(deaf: Deaf, seed: u64, at: u64, cut: Cut) -> Result<(), String> {
    let mut model = Model::default();
    let disk = life(&FaultyDisk::new(deaf), &mut model, seed, at, cut)?;
    // The second cut falls into the recovery or soon after it.
    let second = 1 + (at * 7 + seed) % 30;
    let disk = life(&disk, &mut model, seed + 1, second, cut)?;
    let disk = life(&disk, &mut model, seed + 2, 1000, cut)?;
    let (log, entries) = open(&disk)?;
    model.check(&log, &entries)
}

fn cuts(at: u64) -> [Cut; 7] {
    [
        Cut::Nothing,
        Cut::All,
        Cut::Lengths,
        Cut::Some(at),
        Cut::Some(at + 1000),
        Cut::Some(at + 2000),
        Cut::Some(at + 3000),
    ]
}

/// Operations of a run that nothing interrupts.
fn operations(seed: u64) -> u64 {
    let disk = FaultyDisk::new(Deaf::Nothing);
    let (mut log, _) = open(&disk).unwrap();
    run(&mut log, &mut Model::default(), &mut Random(seed));
    assert!(log.floor() > 0, "the script must reach its checkpoints");
    disk.operations()
}

/// Every cut of every kind; the first that loses something promised.
fn first_loss(deaf: Deaf, seeds: std::ops::Range<u64>) -> Option<String> {
    for seed in seeds {
        for at in 1..=operations(seed) {
            for cut in cuts(at) {
                if let Err(error) = survives(deaf, seed, at, cut) {
                    return Some(format!("seed {seed}, cut {at}, {cut:?}: {error}"));
                }
            }
        }
    }
    None
}

#[test]
fn no_power_cut_loses_what_was_promised() {
    assert_eq!(first_loss(Deaf::Nothing, 0..4), None);
}

#[test]
fn this_suite_notices_a_journal_that_is_not_synced() {
    assert!(first_loss(Deaf::Files("journal"), 0..2).is_some());
}

#[test]
fn this_suite_notices_a_checkpoint_that_is_not_synced() {
    assert!(first_loss(Deaf::Files("checkpoint"), 0..2).is_some());
}

#[test]
fn this_suite_notices_names_that_are_not_synced() {
    assert!(first_loss(Deaf::Names, 0..2).is_some());
}

#[test]
fn a_failed_sync_ends_all_use() {
    let disk = FaultyDisk::new(Deaf::Nothing);
    let (mut log, _) = open(&disk).unwrap();
    let batch = random_batch(&mut Random(1));
    log.stage(&batch).unwrap();
    disk.fail_next_sync();
    assert!(matches!(log.sync(), Err(CommitError::File(_))));
    assert!(matches!(log.sync(), Err(CommitError::Poisoned)));
    assert!(matches!(log.stage(&batch), Err(StageError::Poisoned)));
}

#[test]
fn a_record_seen_only_in_the_page_cache_is_written_again_before_it_counts() {
    let disk = FaultyDisk::new(Deaf::Nothing);
    let mut model = Model::default();
    let (mut log, _) = open(&disk).unwrap();
    for seed in 0..2 {
        let batch = random_batch(&mut Random(seed));
        model.batches.push(batch.clone());
        log.stage(&batch).unwrap();
        if seed == 1 {
            disk.fail_next_sync();
        }
        let _ = log.sync();
    }
    // The process starts again; the machine does not.
    let (log, entries) = open(&disk).unwrap();
    model.check(&log, &entries).unwrap();
    assert_eq!(model.promised, 2);
    let (log, entries) = open(&disk.after(Cut::Nothing)).unwrap();
    model.check(&log, &entries).unwrap();
}

#[test]
fn a_torn_group_commit_is_cut_and_not_taken_for_damage() {
    let disk = FaultyDisk::new(Deaf::Nothing);
    let (mut log, _) = open(&disk).unwrap();
    let mut long = Batch::new();
    long.put("a", vec![1; 2000]);
    let mut short = Batch::new();
    short.put("b", "2");
    log.stage(&short).unwrap();
    log.sync().unwrap();
    log.stage(&long).unwrap();
    log.stage(&short).unwrap();
    let torn = (0..200).filter_map(|seed| {
        let after = disk.after(Cut::Some(seed));
        let survey = survey(&after).unwrap();
        assert!(survey.is_whole());
        let (log, _) = open(&after).unwrap();
        (survey.scan.torn_bytes > 0).then(|| log.generation())
    });
    assert!(torn.into_iter().any(|generation| generation == 1));
}

#[test]
fn a_closed_segment_cut_short_is_damage_even_when_nothing_follows_it() {
    let disk = FaultyDisk::new(Deaf::Nothing);
    let (mut log, _) = open(&disk).unwrap();
    while log.begin_checkpoint().unwrap().is_none() {
        log.stage(&random_batch(&mut Random(5))).unwrap();
        log.sync().unwrap();
    }
    let closed = crate::store::journal::name(1);
    let bytes = disk.read(&closed).unwrap();
    let whole = survey(&disk).unwrap();
    assert!(whole.is_whole());
    // Behind its last record it has only zeros.
    let (_, end) = whole.scan.segments[0];
    assert!(bytes[end as usize..].iter().all(|byte| *byte == 0));
    let mut file = disk.create(&closed).unwrap();
    file.append(&bytes[..end as usize - 1]).unwrap();
    let survey = survey(&disk).unwrap();
    assert!(!survey.is_whole());
    assert_eq!(survey.scan.lost[0].last, log.generation());
}
