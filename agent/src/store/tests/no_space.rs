//! A state disk without room: changes are refused, what is there stays.

use super::faulty_disk::{Cut, Deaf, FaultyDisk, Random};
use super::*;
use crate::store::disk::Disk;
use crate::store::error::StageError;

#[test]
fn a_record_that_does_not_fit_leaves_the_journal_as_it_was() {
    let mut random = Random(7);
    let batches: Vec<_> = (0..4).map(|_| random_batch(&mut random)).collect();
    for (room, ahead_bytes) in (0..60).flat_map(|room| [(room, 0), (room, 30)]) {
        let disk = FaultyDisk::new(Deaf::Nothing);
        let mut model = Model::default();
        let bounds = Bounds {
            ahead_bytes,
            ..BOUNDS
        };
        let (mut log, _) = open_with(&disk, bounds).unwrap();
        log.stage(&batches[0]).unwrap();
        disk.set_room(Some(room));
        let refused = log.stage(&batches[1]).unwrap_err();
        assert!(
            matches!(refused, StageError::StateDiskFull { .. }),
            "{refused}"
        );
        disk.set_room(None);
        log.stage(&batches[2]).unwrap();
        log.sync().unwrap();
        model.batches = vec![batches[0].clone(), batches[2].clone()];
        model.promised = 2;
        let (log, entries) = open(&disk.after(Cut::Nothing)).unwrap();
        model.check(&log, &entries).unwrap();
    }
}

#[test]
fn room_that_was_reserved_is_there_on_a_full_disk() {
    let disk = FaultyDisk::new(Deaf::Nothing);
    let mut model = Model::default();
    let (mut log, _) = open(&disk).unwrap();
    disk.set_room(Some(0));
    let batch = random_batch(&mut Random(7));
    model.batches.push(batch.clone());
    log.stage(&batch).unwrap();
    model.promised = log.sync().unwrap();
    let (log, entries) = open(&disk.after(Cut::Nothing)).unwrap();
    model.check(&log, &entries).unwrap();
}

#[test]
fn a_record_that_is_half_written_over_room_is_cut_off_again() {
    let mut random = Random(7);
    let batches: Vec<_> = (0..3).map(|_| random_batch(&mut random)).collect();
    for written in 0..60 {
        let disk = FaultyDisk::new(Deaf::Nothing);
        let mut model = Model::default();
        let (mut log, _) = open(&disk).unwrap();
        log.stage(&batches[0]).unwrap();
        disk.fail_next_write(written);
        assert!(matches!(log.stage(&batches[1]), Err(StageError::File(_))));
        log.stage(&batches[2]).unwrap();
        log.sync().unwrap();
        model.batches = vec![batches[0].clone(), batches[2].clone()];
        model.promised = 2;
        let (log, entries) = open(&disk.after(Cut::Nothing)).unwrap();
        model.check(&log, &entries).unwrap();
    }
}

#[test]
fn a_checkpoint_that_does_not_fit_is_tried_again_later() {
    let disk = FaultyDisk::new(Deaf::Nothing);
    let mut model = Model::default();
    let mut random = Random(3);
    let (mut log, _) = open(&disk).unwrap();
    let mut failures = 0;
    while log.floor() == 0 {
        let batch = random_batch(&mut random);
        model.batches.push(batch.clone());
        log.stage(&batch).unwrap();
        model.promised = log.sync().unwrap();
        if let Some(job) = log.begin_checkpoint().unwrap() {
            disk.set_room((failures < 3).then_some(50));
            let outcome = job.run();
            disk.set_room(None);
            failures += u32::from(outcome.is_err());
            log.adopt(outcome);
        }
        let names = disk.list().unwrap();
        assert!(!names.contains(&"checkpoint.tmp".to_owned()), "{names:?}");
    }
    assert_eq!(failures, 3);
    let (log, entries) = open(&disk.after(Cut::Nothing)).unwrap();
    model.check(&log, &entries).unwrap();
}

#[test]
fn a_segment_that_does_not_fit_is_tried_again_later() {
    let disk = FaultyDisk::new(Deaf::Nothing);
    let mut model = Model::default();
    let mut random = Random(3);
    let (mut log, _) = open(&disk).unwrap();
    for number in 0..200 {
        let batch = random_batch(&mut random);
        model.batches.push(batch.clone());
        log.stage(&batch).unwrap();
        model.promised = log.sync().unwrap();
        // Not enough for a segment's head.
        disk.set_room((number < 100).then_some(10));
        if let Some(job) = log.begin_checkpoint().unwrap() {
            log.adopt(job.run());
        }
        disk.set_room(None);
        assert!(number >= 100 || log.floor() == 0);
    }
    assert!(log.floor() > 0);
    let (log, entries) = open(&disk.after(Cut::Nothing)).unwrap();
    model.check(&log, &entries).unwrap();
}

#[test]
fn without_room_ahead_there_are_segments_and_records_all_the_same() {
    let disk = FaultyDisk::new(Deaf::Nothing);
    let mut model = Model::default();
    let mut random = Random(3);
    let (mut log, _) = open(&disk).unwrap();
    while log.floor() == 0 {
        let batch = random_batch(&mut random);
        model.batches.push(batch.clone());
        // What is written now fits in and hardly anything more.
        disk.set_room(Some(1700));
        log.stage(&batch).unwrap();
        model.promised = log.sync().unwrap();
        let job = log.begin_checkpoint().unwrap();
        disk.set_room(None);
        if let Some(job) = job {
            log.adopt(job.run());
        }
    }
    let (log, entries) = open(&disk.after(Cut::Nothing)).unwrap();
    model.check(&log, &entries).unwrap();
}
