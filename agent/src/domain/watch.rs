//! What a look at a pool comes to: what is told of it, and for what the kernel is to wake us next.

use ashlar_targetd_protocol::PoolReport;
use uuid::Uuid;

use crate::domain::change::Edit;
use crate::domain::fill;
use crate::domain::intent::Intent;
use crate::domain::members;
use crate::domain::record::{PoolPhase, PoolRecord, Record};
use crate::domain::scrubs;

/// What a look changes. Nothing when all is as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The records.
    pub edits: Vec<Edit>,
    /// The generation in which the kernel is to have another low-water mark.
    pub generation: Option<u64>,
}

/// What is known beside what was seen.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Seconds since 1970.
    pub now: u64,
    /// Whether the kernel had its chance to have the pool.
    pub tried: bool,
    /// Whether a comparison of its disks has come to its end.
    pub scrubbed: bool,
}

/// Takes over what was seen of a pool. Whether the kernel had its chance to have it matters: before the first attempt after a start it has no pool, and that is no news.
///
/// The mark stays while a pool grows: what it is to be is known once the pool has.
pub fn seen(intent: &Intent, id: Uuid, report: &PoolReport, known: Known) -> Seen {
    let Some(pool) = intent.pool(id).map(|entry| &entry.record) else {
        return Seen::default();
    };
    let gone = report.usage.is_none() && !known.tried;
    if pool.phase != PoolPhase::Present || gone {
        return Seen::default();
    }
    let told = pool.told.after(&pool.spec.watermarks, report);
    let usage = report.usage.filter(|_| pool.growth.is_none());
    let mark = usage.and_then(|usage| fill::other_mark(pool, &told, &usage));
    let record = PoolRecord {
        told,
        scrubs: scrubs::after(pool, report, known.now, known.scrubbed),
        ..members::after(pool, report)
    };
    match mark {
        Some(mark) => marked(intent, id, record, mark),
        None if record == *pool => Seen::default(),
        None => Seen {
            edits: vec![Edit::put(Record::Pool(id, record))],
            generation: None,
        },
    }
}

fn marked(intent: &Intent, id: Uuid, pool: PoolRecord, mark: u64) -> Seen {
    let generation = intent.generation() + 1;
    let record = PoolRecord {
        low_water_blocks: mark,
        generation,
        ..pool
    };
    Seen {
        edits: vec![
            Edit::put(Record::Pool(id, record)),
            Edit::put(Record::Clock(generation)),
        ],
        generation: Some(generation),
    }
}

#[cfg(test)]
mod tests {
    use ashlar_protocol::PoolLevel;
    use ashlar_targetd_protocol::{PoolUsage, Sectors};

    use super::*;
    use crate::domain::event::events;
    use crate::domain::record::Standing;
    use crate::domain::samples::*;

    const KNOWN: Known = Known {
        now: 1_800_000_000,
        tried: true,
        scrubbed: false,
    };
    const UNTRIED: Known = Known {
        tried: false,
        ..KNOWN
    };
    const BLOCKS: u64 = CAPACITY / (64 << 10);

    fn report(used: u64) -> PoolReport {
        PoolReport {
            id: POOL,
            usage: Some(PoolUsage {
                transaction_id: 0,
                metadata_used: 0,
                metadata_total: 1000,
                data_used: used,
                data_total: BLOCKS,
                block: Sectors(128),
            }),
            degraded: false,
            sets: Vec::new(),
            looked: 0,
        }
    }

    fn gone() -> PoolReport {
        PoolReport {
            usage: None,
            ..report(0)
        }
    }

    /// Takes a look over; what is told, and the mark if it is another.
    fn look(world: &mut World, report: &PoolReport) -> (Vec<String>, Option<u64>) {
        let seen = seen(&world.intent, POOL, report, KNOWN);
        let told = events(&world.intent, &seen.edits, 7);
        for edit in &seen.edits {
            world.intent.apply(edit).unwrap();
        }
        let mark = pool(world).low_water_blocks;
        let told = told.iter().map(|event| event.kind.to_string());
        (told.collect(), seen.generation.map(|_| mark))
    }

    /// Smaller than its disk is, so that the kernel gets the mark for what it is.
    fn seen_once() -> World {
        let mut world = World::furnished();
        let expected = (Vec::new(), Some(BLOCKS / 4));
        assert_eq!(look(&mut world, &report(0)), expected);
        world
    }

    fn pool(world: &World) -> &PoolRecord {
        &world.intent.pool(POOL).unwrap().record
    }

    fn percent(percent: u64) -> u64 {
        BLOCKS * percent / 100
    }

    #[test]
    fn each_level_is_told_once_and_the_next_is_waited_for() {
        let world = &mut seen_once();
        let unchanged = (Vec::<String>::new(), None);
        assert_eq!(look(world, &report(percent(74))), unchanged);
        for (used, told, mark) in [
            (76, "pool.level-warn", BLOCKS - (BLOCKS * 9).div_ceil(10)),
            (
                91,
                "pool.level-critical",
                BLOCKS - (BLOCKS * 97).div_ceil(100),
            ),
            (98, "pool.level-stop", 1),
            (50, "pool.level-ok", BLOCKS - (BLOCKS * 3).div_ceil(4)),
        ] {
            let expected = (vec![told.to_owned()], Some(mark));
            assert_eq!(look(world, &report(percent(used))), expected, "{used}");
            assert_eq!(look(world, &report(percent(used))), unchanged, "{used}");
        }
    }

    #[test]
    fn another_mark_is_a_change_that_the_kernel_is_to_have() {
        let world = &mut World::furnished();
        let before = world.intent.generation();
        look(world, &report(percent(80)));
        assert_eq!(world.intent.generation(), before + 1);
        assert_eq!(pool(world).generation, before + 1);
    }

    #[test]
    fn a_pool_that_goes_and_comes_back_is_told() {
        let world = &mut seen_once();
        let generation = pool(world).generation;
        for (report, told) in [
            (gone(), "pool.offline"),
            (report(0), "pool.online"),
            (
                PoolReport {
                    degraded: true,
                    ..report(0)
                },
                "pool.degraded",
            ),
        ] {
            assert_eq!(look(world, &report), (vec![told.to_owned()], None));
        }
        assert_eq!(pool(world).generation, generation);
    }

    #[test]
    fn a_pool_that_was_not_tried_yet_is_not_gone() {
        let world = World::furnished();
        assert_eq!(seen(&world.intent, POOL, &gone(), UNTRIED), Seen::default());
        let full = seen(&world.intent, POOL, &report(BLOCKS), UNTRIED);
        assert!(
            full.generation.is_some(),
            "what it has is known all the same"
        );
    }

    #[test]
    fn nothing_is_told_of_a_pool_that_is_made_or_destroyed() {
        let world = &mut World::empty();
        world.does(crate::domain::samples::pool(POOL, &["serial-DISK0"]));
        let nothing = Seen::default();
        assert_eq!(seen(&world.intent, POOL, &report(BLOCKS), KNOWN), nothing);
        let other = uuid::Uuid::nil();
        assert_eq!(seen(&world.intent, other, &report(BLOCKS), KNOWN), nothing);
    }

    #[test]
    fn the_mark_stays_while_a_pool_grows() {
        let world = &mut World::furnished();
        world.does(grow(&["serial-DISK1"]));
        let (told, mark) = look(world, &report(percent(80)));
        assert_eq!((told, mark), (vec!["pool.level-warn".to_owned()], None));
        assert_eq!(pool(world).told.level(), PoolLevel::Warn);
        assert_eq!(pool(world).told.state, Standing::Online);
    }
}
