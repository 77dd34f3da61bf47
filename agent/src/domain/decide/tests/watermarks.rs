//! What a pool past its watermarks takes, and changing them.

use ashlar_protocol::{
    GroupSnapshotSpec, GroupSource, GroupSpec, MemberCopy, MemberSnapshot, MoveSpec, Operation,
    Parent, PoolLevel, PoolUpdate, Watermarks,
};
use ashlar_targetd_protocol::{PoolUsage, Sectors};

use super::data::begin_as;
use super::*;
use crate::domain::decide::moving;
use crate::domain::decide::scratch::{self, Scratch};
use crate::domain::record::PoolRecord;

const GROUP: Uuid = Uuid::from_u128(0xe0);
const IDLE: Uuid = Uuid::from_u128(0xe1);
const OTHER_POOL: Uuid = Uuid::from_u128(0xa1);

/// A pool of 1000 blocks of which so many are in use, as seen.
fn used(blocks: u64) -> Option<PoolUsage> {
    Some(PoolUsage {
        transaction_id: 0,
        metadata_used: 10,
        metadata_total: 1000,
        data_used: blocks,
        data_total: 1000,
        block: Sectors(128),
    })
}

fn with_idle() -> World {
    let mut world = World::furnished();
    for command in [
        volume(IDLE, MIB),
        Command::GroupCreate {
            id: GROUP,
            spec: GroupSpec {
                name: "group".parse().unwrap(),
                volumes: vec![IDLE],
                source: None,
            },
        },
    ] {
        world.does(command);
        world.settle(Unit::Volume(IDLE));
    }
    world
}

fn record(world: &World) -> &PoolRecord {
    &world.intent.pool(POOL).unwrap().record
}

fn marks(warn: u32, critical: u32, stop: u32) -> Command {
    let watermarks = Some(Watermarks {
        warn,
        critical,
        stop,
    });
    let spec = PoolUpdate {
        watermarks,
        ..PoolUpdate::default()
    };
    Command::PoolUpdate { id: POOL, spec }
}

/// Whatever needs room.
fn needing_room() -> Vec<Command> {
    let name = || "new".parse().unwrap();
    let parent = Parent::Volume(IDLE);
    vec![
        volume(id(1), MIB),
        clone(id(1), parent, None),
        extend(IDLE, 2 * MIB),
        snapshot(id(1), IDLE),
        Command::GroupCreate {
            id: id(2),
            spec: GroupSpec {
                name: name(),
                volumes: Vec::new(),
                source: Some(GroupSource {
                    group: Some(GROUP),
                    group_snapshot: None,
                    volumes: vec![MemberCopy {
                        source: IDLE,
                        volume: id(3),
                    }],
                }),
            },
        },
        Command::GroupSnapshotCreate {
            id: id(2),
            spec: GroupSnapshotSpec {
                name: name(),
                group: GROUP,
                snapshots: vec![MemberSnapshot {
                    volume: IDLE,
                    snapshot: id(3),
                }],
            },
        },
    ]
}

#[test]
fn past_its_last_watermark_a_pool_takes_nothing_new() {
    let world = &mut with_idle();
    for blocks in [970, 1000] {
        world.seen = used(blocks);
        for command in needing_room() {
            let words = format!(
                "pool {POOL} takes nothing new from 97 % on: data {} %",
                blocks / 10
            );
            refuses(world, command, NoSpace, &words);
        }
    }
    world.seen = used(969);
    for command in needing_room() {
        assert!(world.decide(&command).is_ok(), "{command:?}");
    }
}

#[test]
fn metadata_count_for_it_as_well() {
    let world = &mut with_idle();
    world.seen = used(0).map(|usage| PoolUsage {
        metadata_used: 980,
        ..usage
    });
    refuses(
        world,
        volume(id(1), MIB),
        NoSpace,
        "data 0 %, metadata 98 %",
    );
}

#[test]
fn what_asks_for_no_room_goes_on() {
    let world = &mut with_idle();
    world.does(snapshot(id(5), IDLE));
    world.settle(Unit::Snapshot(id(5)));
    world.seen = used(1000);
    for command in [
        attach(id(1), IDLE, HOST, Transport::Iscsi),
        grow(&["serial-DISK1"]),
        Command::SnapshotDelete { id: id(5) },
        volume(IDLE, MIB),
        extend(IDLE, MIB),
    ] {
        assert!(world.decide(&command).is_ok(), "{command:?}");
    }
}

#[test]
fn nothing_moves_into_a_full_pool_nor_gets_room_for_an_image_there() {
    let world = &mut with_idle();
    world.does(pool(OTHER_POOL, &["serial-DISK1"]));
    world.settle(Unit::Pool(OTHER_POOL));
    world.seen = used(1000);
    let spec = MoveSpec {
        pool: OTHER_POOL,
        bandwidth: None,
    };
    let object = Unit::Volume(IDLE).object();
    let moves = begin_as(
        world,
        id(8),
        (Operation::VolumeMove, object),
        |intent, generation, facts| moving::begin(intent, IDLE, &spec, generation, facts),
    );
    let room = Scratch {
        id: id(3),
        pool: POOL,
        size: MIB,
    };
    let image = begin_as(
        world,
        id(9),
        (Operation::VolumeImport, object),
        |intent, generation, facts| scratch::create(intent, object, &room, generation, facts),
    );
    for refused in [moves, image] {
        assert_eq!(refused.unwrap_err().code, NoSpace);
    }
}

#[test]
fn watermarks_are_percents_in_their_order() {
    let world = &mut World::furnished();
    for (warn, critical, stop) in [(0, 90, 97), (75, 90, 101), (91, 90, 97), (75, 98, 97)] {
        let command = marks(warn, critical, stop);
        refuses(
            world,
            command,
            OutOfRange,
            &format!("{warn}, {critical} and {stop}"),
        );
    }
    assert!(world.decide(&marks(1, 1, 100)).is_ok());
    let mut spec = pool_spec(&["serial-DISK1"]);
    spec.watermarks.stop = 5;
    let create = Command::PoolCreate { id: id(1), spec };
    refuses(world, create, OutOfRange, "in their order");
}

#[test]
fn other_watermarks_hold_at_once_and_the_kernel_gets_its_mark() {
    let world = &mut World::furnished();
    world.seen = used(500);
    assert_eq!(world.does(marks(40, 50, 60)), Some(Unit::Pool(POOL)));
    let there = record(world);
    assert_eq!(there.told.level(), PoolLevel::Critical);
    assert_eq!(
        (there.low_water_blocks, there.generation),
        (400, world.intent.generation())
    );
    unchanged(world, marks(40, 50, 60));
    world.does(marks(30, 40, 50));
    refuses(world, volume(id(1), MIB), NoSpace, "from 50 % on");
    world.does(marks(75, 90, 97));
    assert_eq!(record(world).told.level(), PoolLevel::Ok);
    assert!(world.decide(&volume(id(1), MIB)).is_ok());
}

#[test]
fn a_pool_that_nobody_has_seen_is_judged_by_what_was_told() {
    let world = &mut World::furnished();
    world.seen = used(1000);
    world.does(marks(70, 80, 90));
    world.seen = None;
    refuses(world, volume(id(1), MIB), NoSpace, "data 100 %");
}
