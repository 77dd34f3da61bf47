use ashlar_targetd_protocol::Sectors;

use super::*;
use PoolLevel::{Critical, Ok, Stop, Warn};

fn usage(data_used: u64, metadata_used: u64) -> PoolUsage {
    PoolUsage {
        transaction_id: 0,
        metadata_used,
        metadata_total: 1000,
        data_used,
        data_total: 1000,
        block: Sectors(128),
    }
}

fn data(level: PoolLevel) -> Told {
    let data = Filled { level, percent: 1 };
    Told {
        data,
        ..Told::default()
    }
}

fn level(held: PoolLevel, used: u64) -> PoolLevel {
    let marks = Watermarks::default();
    data(held).filled(&marks, &usage(used, 0)).level()
}

#[test]
fn a_level_is_reached_at_its_mark() {
    for (used, reached) in [
        (0, Ok),
        (749, Ok),
        (750, Warn),
        (899, Warn),
        (900, Critical),
        (969, Critical),
        (970, Stop),
        (1000, Stop),
    ] {
        assert_eq!(level(Ok, used), reached, "{used}");
    }
}

#[test]
fn a_level_is_left_a_little_below_its_mark() {
    for (held, used, left) in [
        (Stop, 950, Stop),
        (Stop, 949, Critical),
        (Stop, 879, Warn),
        (Critical, 880, Critical),
        (Critical, 740, Warn),
        (Warn, 730, Warn),
        (Warn, 729, Ok),
        (Warn, 970, Stop),
    ] {
        assert_eq!(level(held, used), left, "{held:?} {used}");
    }
}

#[test]
fn low_marks_are_left_too() {
    let marks = Watermarks {
        warn: 1,
        critical: 2,
        stop: 3,
    };
    let after = |used| data(Warn).filled(&marks, &usage(used, 0)).level();
    assert_eq!((after(5), after(4)), (Warn, Ok));
}

#[test]
fn metadata_count_like_data_and_the_worse_of_both_holds() {
    let marks = Watermarks::default();
    let told = Told::default().filled(&marks, &usage(760, 910));
    let filled = |level, percent| Filled { level, percent };
    assert_eq!(told.data, filled(Warn, 76));
    assert_eq!(told.metadata, filled(Critical, 91));
    assert_eq!(told.level(), Critical);
    assert_eq!(told.percents(), "data 76 %, metadata 91 %");
    // Percents are of when the level changed.
    assert_eq!(told.filled(&marks, &usage(800, 950)), told);
}

#[test]
fn other_watermarks_judge_anew() {
    let lower = Watermarks {
        warn: 50,
        critical: 60,
        stop: 70,
    };
    let told = data(Warn);
    assert_eq!(
        told.anew(&Watermarks::default(), &usage(740, 0)).level(),
        Ok
    );
    assert_eq!(told.anew(&lower, &usage(740, 0)).level(), Stop);
}

#[test]
fn the_kernel_is_to_tell_of_the_next_level() {
    let marks = Watermarks::default();
    let mark = |level| low_water(&marks, level, 1000);
    assert_eq!([Ok, Warn, Critical, Stop].map(mark), [250, 100, 30, 1]);
    // When so many are free, the level is reached, and not one block earlier.
    for blocks in [1, 2, 3, 7, 99, 101, 16_337] {
        let free = low_water(&marks, Ok, blocks);
        let at = |free| Blocks {
            used: blocks - free,
            total: blocks,
        };
        assert!(free == 1 || at(free).judged(&marks, Ok) >= Warn, "{blocks}");
        assert!(free + 1 > blocks || at(free + 1).judged(&marks, Ok) == Ok);
    }
}

#[test]
fn a_pool_that_nobody_has_is_offline_and_its_levels_stay() {
    let told = data(Critical);
    let report = |usage, degraded| PoolReport {
        id: uuid::Uuid::nil(),
        usage,
        degraded,
        sets: Vec::new(),
        looked: 0,
    };
    let marks = Watermarks::default();
    let gone = told.after(&marks, &report(None, true));
    assert_eq!((gone.state, gone.level()), (Standing::Offline, Critical));
    let there = gone.after(&marks, &report(Some(usage(0, 0)), true));
    assert_eq!((there.state, there.level()), (Standing::Degraded, Ok));
}
