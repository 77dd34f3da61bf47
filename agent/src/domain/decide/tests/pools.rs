//! Pools that grow and go.

use ashlar_protocol::{PoolGrowth, PoolUpdate};
use ashlar_targetd_protocol::{PoolUsage, Sectors};

use super::*;
use crate::domain::record::{Destruction, Growing, PoolRecord};
use crate::domain::settle::settle;

fn record(world: &World) -> &PoolRecord {
    &world.intent.pool(POOL).unwrap().record
}

fn names(world: &World) -> Vec<&str> {
    let disks = &record(world).spec.disks;
    disks.iter().map(|disk| disk.as_str()).collect()
}

#[test]
fn a_pool_grows_by_disks_and_is_then_found_so() {
    let world = &mut World::furnished();
    let before = record(world).clone();
    let unit = Unit::Pool(POOL);
    assert_eq!(world.does(grow(&["serial-DISK1"])), Some(unit));
    let since = world.intent.generation();
    let there = record(world).clone();
    assert_eq!(names(world), ["serial-DISK0", "serial-DISK1"]);
    assert_eq!(there.metadata_rooms, [67 * MIB, 0]);
    assert_eq!(there.catalog, before.catalog);
    assert_eq!(there.metadata_size, before.metadata_size);
    // A quarter of 900 MiB and of all but 4 of 1024.
    assert_eq!(there.low_water_blocks, (900 + 1020) * 16 / 4);
    let growing = Growing {
        disks: 1,
        metadata_size: before.metadata_size,
        low_water_blocks: before.low_water_blocks,
        wipe: false,
        since,
    };
    assert_eq!(there.growth, Some(growing));
    joins(world, grow(&["serial-DISK1"]), unit);
    refuses(world, grow(&["serial-DISK2"]), Busy, "being grown");
    refuses(
        world,
        pool(id(1), &["serial-DISK1"]),
        InUse,
        &POOL.to_string(),
    );
    world.settle(unit);
    assert_eq!(record(world).growth, None);
    unchanged(world, grow(&["serial-DISK1"]));
    unchanged(world, grow(&["serial-DISK1", "serial-DISK0"]));
    world.does(grow(&["serial-DISK3", "serial-DISK2"]));
    assert_eq!(names(world).len(), 4);
}

#[test]
fn metadata_grow_with_the_disks_or_as_asked() {
    // As asked, and on the new disk.
    let world = &mut World::furnished();
    world.does(grown_with(|spec| {
        spec.metadata_size = Some(100 * MIB + 4096)
    }));
    assert_eq!(record(world).metadata_size, 100 * MIB + 4096);
    assert_eq!(record(world).metadata_rooms, [67 * MIB, 37 * MIB]);

    // By itself, when the disks are many times larger.
    let world = &mut World::furnished();
    world.disks[1].size.0 = 1 << 40;
    world.does(grow(&["serial-DISK1"]));
    // 64 bytes for each block of 64 KiB, less what there is.
    let rooms = &record(world).metadata_rooms;
    assert!((950..=960).contains(&(rooms[1] / MIB)), "{rooms:?}");
    let catalog = record(world).catalog.unwrap().size;
    assert_eq!(record(world).metadata_size, rooms[0] + rooms[1] - catalog);

    // Never beyond what the kernel uses.
    let world = &mut World::furnished();
    world.disks[1].size.0 = 1 << 50;
    world.does(grow(&["serial-DISK1"]));
    let size = record(world).metadata_size;
    assert!(
        (MAX_METADATA - MIB..=MAX_METADATA).contains(&size),
        "{size}"
    );
}

#[test]
fn where_metadata_are_stays_when_a_pool_grows_again() {
    let world = &mut World::furnished();
    for (disk, size) in [("serial-DISK1", 100), ("serial-DISK2", 150)] {
        world.does(Command::PoolGrow {
            id: POOL,
            spec: PoolGrowth {
                disks: vec![disk.parse().unwrap()],
                metadata_size: Some(size * MIB),
                wipe: false,
            },
        });
        world.settle(Unit::Pool(POOL));
    }
    let rooms = [67 * MIB, 36 * MIB, 50 * MIB];
    assert_eq!(record(world).metadata_rooms, rooms);
}

#[test]
fn a_pool_of_before_there_were_catalogs_has_none_when_it_grows() {
    let world = &mut World::furnished();
    let before = PoolRecord {
        catalog: None,
        metadata_rooms: Vec::new(),
        ..record(world).clone()
    };
    let edit = Edit::put(Record::Pool(POOL, before.clone()));
    world.intent.apply(&edit).unwrap();
    world.does(grow(&["serial-DISK1"]));
    assert_eq!(record(world).catalog, None);
    assert_eq!(record(world).metadata_rooms, [64 * MIB, 0]);
}

#[test]
fn a_pool_that_has_grown_is_still_the_one_that_was_asked_for() {
    let world = &mut World::furnished();
    for disk in ["serial-DISK1", "serial-DISK2"] {
        world.does(grow(&[disk]));
        world.settle(Unit::Pool(POOL));
    }
    unchanged(world, pool(POOL, &["serial-DISK0"]));
    unchanged(
        world,
        pool(POOL, &["serial-DISK0", "serial-DISK1", "serial-DISK2"]),
    );
    let other = pool(POOL, &["serial-DISK0", "serial-DISK1"]);
    refuses(world, other, AlreadyExists, "is not as asked for");
}

#[test]
fn a_pool_grows_by_no_more_data_than_its_metadata_can_count() {
    let world = &mut World::furnished();
    let usage = |metadata_used| {
        Some(PoolUsage {
            transaction_id: 1,
            metadata_used,
            metadata_total: 64 * MIB / 4096,
            data_used: 0,
            data_total: CAPACITY / 65_536,
            block: Sectors(128),
        })
    };
    world.usage = usage(64 * MIB / 4096 - 50);
    refuses(world, grow(&["serial-DISK1"]), NoSpace, "too few left");
    // Unless they grow, too.
    let larger = grown_with(|spec| spec.metadata_size = Some(80 * MIB));
    assert!(world.decide(&larger).is_ok());
    world.usage = usage(1000);
    world.does(grow(&["serial-DISK1"]));
}

#[test]
fn the_metadata_of_a_pool_grow_only_with_new_disks() {
    let world = &mut World::furnished();
    let same = |size| {
        let mut spec = growth(&["serial-DISK0"]);
        spec.metadata_size = Some(size);
        Command::PoolGrow { id: POOL, spec }
    };
    unchanged(world, same(record(world).metadata_size));
    refuses(world, same(100 * MIB), OutOfRange, "does not have yet");
}

#[test]
fn what_a_pool_cannot_grow_by_is_named() {
    let world = &mut World::furnished();
    world.does(pool(id(1), &["serial-DISK2"]));
    let many: Vec<String> = (0..64).map(|n| format!("serial-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let cases = [
        (grow(&[]), InvalidField, "by 1 disk or more"),
        (grow(&many), InvalidField, "not to 65"),
        (
            grow(&["serial-DISK1", "serial-DISK1"]),
            InvalidField,
            "named twice",
        ),
        (grow(&["serial-DISK2"]), InUse, "belongs to pool"),
        (
            grow(&["serial-DISK0", "serial-DISK1"]),
            InUse,
            "serial-DISK0 is one of",
        ),
        (grow(&["serial-NONE"]), NotFound, "no disk serial-NONE"),
        (
            grown_with(|spec| spec.metadata_size = Some(32 * MIB)),
            OutOfRange,
            "is less than",
        ),
        (
            grown_with(|spec| spec.metadata_size = Some(65 * MIB + 1)),
            OutOfRange,
            "multiple of 4096",
        ),
        (
            grown_with(|spec| spec.metadata_size = Some(2000 * MIB)),
            NoSpace,
            "too few",
        ),
    ];
    for (command, code, words) in cases {
        refuses(world, command, code, words);
    }
    let other = Command::PoolGrow {
        id: id(1),
        spec: growth(&["serial-DISK1"]),
    };
    refuses(world, other, Busy, "being created");
    world.disks[1].content = Some("an ext4 file system".to_owned());
    refuses(world, grow(&["serial-DISK1"]), NotBlank, "holds an ext4");
    assert!(world.decide(&grown_with(|spec| spec.wipe = true)).is_ok());
    world.disks[1].in_use = true;
    refuses(world, grown_with(|spec| spec.wipe = true), InUse, "in use");
}

#[test]
fn a_pool_that_is_not_online_does_not_grow() {
    let world = &mut World::furnished();
    let trouble = Problem::new(KernelFailed, "disk 3 is gone");
    world.troubled.insert(Unit::Pool(POOL), trouble);
    refuses(world, grow(&["serial-DISK1"]), WrongState, "disk 3 is gone");
    world.troubled.clear();
    world.kernel = false;
    refuses(
        world,
        grow(&["serial-DISK1"]),
        TargetdUnavailable,
        "targetd",
    );
}

#[test]
fn a_growing_pool_that_is_renamed_still_ends_to_grow() {
    let world = &mut World::furnished();
    world.does(grow(&["serial-DISK1"]));
    let tried = world.intent.generation();
    let renamed = Command::PoolUpdate {
        id: POOL,
        spec: PoolUpdate {
            name: Some("new".parse().unwrap()),
            ..PoolUpdate::default()
        },
    };
    // So that another attempt is made, which is of this generation.
    assert_eq!(world.does(renamed), Some(Unit::Pool(POOL)));
    let early = settle(&world.intent, Unit::Pool(POOL), tried, Some(CAPACITY));
    assert_eq!(early, []);
    world.settle(Unit::Pool(POOL));
    assert_eq!(record(world).growth, None);
}

fn empty() -> World {
    let mut world = World::empty();
    world.does(pool(POOL, &["serial-DISK0"]));
    world.settle(Unit::Pool(POOL));
    world
}

fn destroy(force: bool) -> Command {
    Command::PoolDelete { id: POOL, force }
}

#[test]
fn an_empty_pool_is_destroyed_and_its_disks_are_free() {
    let world = &mut empty();
    let unit = Unit::Pool(POOL);
    assert_eq!(world.does(destroy(false)), Some(unit));
    joins(world, destroy(false), unit);
    for command in [
        pool(POOL, &["serial-DISK0"]),
        volume(id(1), MIB),
        grow(&["serial-DISK1"]),
    ] {
        refuses(world, command, Busy, "being destroyed");
    }
    refuses(world, pool(id(1), &["serial-DISK0"]), InUse, "belongs to");
    // More may be said while it is under way, and less is no other thing.
    let since = world.intent.generation();
    assert_eq!(world.does(destroy(true)), Some(unit));
    joins(world, destroy(false), unit);
    let destruction = Destruction { force: true, since };
    assert_eq!(record(world).phase, PoolPhase::Deleting(destruction));
    world.settle(unit);
    assert!(world.intent.pool(POOL).is_none());
    refuses(world, destroy(false), NotFound, "does not exist");
    world.does(pool(id(1), &["serial-DISK0"]));
}

#[test]
fn a_pool_with_anything_in_it_is_not_destroyed() {
    let world = &mut World::furnished();
    for force in [false, true] {
        refuses(world, destroy(force), InUse, "1 volumes and 0 snapshots");
    }
    let world = &mut empty();
    world.does(grow(&["serial-DISK1"]));
    refuses(world, destroy(false), Busy, "being grown");
    // Whatever becomes of the growth.
    assert_eq!(world.does(destroy(true)), Some(Unit::Pool(POOL)));
    world.settle(Unit::Pool(POOL));
    assert!(world.intent.pool(POOL).is_none());
    let world = &mut World::empty();
    refuses(world, destroy(true), NotFound, "does not exist");
    world.does(pool(POOL, &["serial-DISK0"]));
    refuses(world, destroy(true), Busy, "being created");
}
