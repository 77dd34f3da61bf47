//! A trail through power cuts, damage and disks without room.

use std::collections::BTreeSet;

use super::faulty_disk::{Cut, Deaf, FaultyDisk};
use super::*;
use crate::store::disk::Disk;
use crate::store::trail::{Entry, Trail, TrailBounds};

const SMALL: TrailBounds = TrailBounds { kept: 10, file: 4 };

fn on(disk: &FaultyDisk) -> Result<(Trail, Vec<Entry>), crate::store::FileError> {
    Trail::on(Arc::new(disk.clone()), SMALL)
}

/// Entry `number` says its number, long enough to tear.
fn payload(number: u64) -> Vec<u8> {
    format!("{number:0>700}").into_bytes()
}

fn entries(numbers: impl Iterator<Item = u64>) -> Vec<Entry> {
    numbers.map(|number| (number, payload(number))).collect()
}

/// Appends until the power goes, two for each sync; how many were written and synced.
fn write(disk: &FaultyDisk, (mut written, mut synced): (u64, u64)) -> (u64, u64) {
    let Ok((mut trail, found)) = on(disk) else {
        return (written, synced);
    };
    written = found.last().map_or(0, |(number, _)| *number);
    synced = written;
    for _ in 0..30 {
        match trail.append(&payload(written + 1)) {
            Ok(number) => written = number,
            Err(_) => break,
        }
        if written % 2 == 0 {
            match trail.sync() {
                Ok(()) => synced = written,
                Err(_) => break,
            }
        }
    }
    (written + 1, synced)
}

#[test]
fn the_newest_are_kept_in_order_and_few_files_hold_them() {
    let disk = FaultyDisk::new(Deaf::Nothing);
    let (mut trail, found) = on(&disk).unwrap();
    assert!(found.is_empty());
    for number in 1..=35 {
        assert_eq!(trail.append(&payload(number)).unwrap(), number);
    }
    trail.sync().unwrap();
    assert!(disk.list().unwrap().len() <= 4, "{:?}", disk.list());
    drop(trail);
    // Many starts do not make many files.
    for _ in 0..5 {
        assert_eq!(on(&disk).unwrap().1, entries(26..=35));
    }
    assert!(disk.list().unwrap().len() <= 4, "{:?}", disk.list());
}

#[test]
fn what_was_synced_survives_power_cuts_anywhere() {
    let whole = FaultyDisk::new(Deaf::Nothing);
    write(&whole, (0, 0));
    for at in 1..=whole.operations() {
        for cut in [
            Cut::Nothing,
            Cut::All,
            Cut::Lengths,
            Cut::Some(at),
            Cut::Some(at + 99),
        ] {
            if let Err(why) = survives(Deaf::Nothing, at, cut) {
                panic!("cut {cut:?} at {at}: {why}");
            }
        }
    }
}

fn survives(deaf: Deaf, at: u64, cut: Cut) -> Result<(), String> {
    let mut disk = FaultyDisk::new(deaf);
    let mut reached = (0, 0);
    // Of what was not synced some may be missing, and others behind it not.
    let mut missing = BTreeSet::new();
    // The second cut falls into the recovery or soon after it.
    for at in [at, 1 + at % 9] {
        disk.cut_after(at);
        reached = write(&disk, reached);
        disk = disk.after(cut);
        let found = on(&disk).map_err(|error| error.to_string())?.1;
        let (written, synced) = reached;
        let numbers: Vec<u64> = found.iter().map(|(number, _)| *number).collect();
        let newest = numbers.last().copied().unwrap_or(0);
        let oldest = (newest.max(synced) + 1).saturating_sub(SMALL.kept).max(1);
        let mut needed = (oldest..=synced).filter(|number| !missing.contains(number));
        let is_whole = needed.all(|number| numbers.contains(&number));
        let is_true = found == entries(numbers.iter().copied());
        if !is_whole || !is_true || newest > written {
            return Err(format!("{numbers:?} of {synced} to {written}"));
        }
        missing.extend((oldest..=newest).filter(|number| !numbers.contains(number)));
    }
    Ok(())
}

#[test]
fn the_test_sees_a_sync_that_is_left_out() {
    let whole = FaultyDisk::new(Deaf::Nothing);
    write(&whole, (0, 0));
    for deaf in [Deaf::Files("trail-"), Deaf::Names] {
        let mut cuts = 1..=whole.operations();
        let seen = cuts.any(|at| survives(deaf, at, Cut::Nothing).is_err());
        assert!(seen, "{deaf:?}");
    }
}

#[test]
fn an_entry_without_room_leaves_nothing_and_the_next_has_its_number() {
    let disk = FaultyDisk::new(Deaf::Nothing);
    let (mut trail, _) = on(&disk).unwrap();
    trail.append(&payload(1)).unwrap();
    disk.set_room(Some(100));
    for _ in 0..3 {
        trail.append(&payload(2)).unwrap_err();
    }
    disk.set_room(None);
    assert_eq!(trail.append(&payload(2)).unwrap(), 2);
    trail.sync().unwrap();
    disk.fail_next_sync();
    trail.append(&payload(3)).unwrap();
    trail.sync().unwrap_err();
    assert_eq!(trail.append(&payload(4)).unwrap(), 4);
    trail.sync().unwrap();
    let found = on(&disk.after(Cut::All)).unwrap().1;
    assert_eq!(found.last().unwrap(), &(4, payload(4)));
}

#[test]
fn a_trail_that_cannot_be_written_opens_and_is_written_later() {
    let disk = FaultyDisk::new(Deaf::Nothing);
    let (mut trail, _) = on(&disk).unwrap();
    for number in 1..=6 {
        trail.append(&payload(number)).unwrap();
    }
    trail.sync().unwrap();
    drop(trail);
    disk.set_room(Some(100));
    let (mut trail, found) = on(&disk).unwrap();
    assert_eq!(found, entries(1..=6));
    trail.append(&payload(7)).unwrap_err();
    disk.set_room(None);
    assert_eq!(trail.append(&payload(7)).unwrap(), 7);
    trail.sync().unwrap();
    assert_eq!(on(&disk.after(Cut::All)).unwrap().1, entries(1..=7));
}

#[test]
fn what_a_failed_sync_may_have_lost_is_told() {
    let disk = FaultyDisk::new(Deaf::Nothing);
    let (mut trail, _) = on(&disk).unwrap();
    for number in 1..=4 {
        trail.append(&payload(number)).unwrap();
    }
    disk.fail_next_sync();
    // The next file is not begun before this one is durable.
    trail.append(&payload(5)).unwrap_err();
    assert!(trail.is_broken());
}

#[test]
fn damage_takes_only_what_it_hits() {
    let dir = tempfile::tempdir().unwrap();
    let (mut trail, _) = Trail::open(dir.path(), SMALL).unwrap();
    for number in 1..=6 {
        trail.append(&payload(number)).unwrap();
    }
    trail.sync().unwrap();
    drop(trail);
    let file = dir.path().join("trail-1");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2 + 100;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (mut trail, found) = Trail::open(dir.path(), SMALL).unwrap();
    let numbers: Vec<u64> = found.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2, 4, 5, 6]);
    assert_eq!(trail.append(b"next").unwrap(), 7);
}
