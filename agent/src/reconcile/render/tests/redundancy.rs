//! Pools whose disks stand in for each other.

use ashlar_protocol::Redundancy;
use ashlar_targetd_protocol::{MemberState, RaidLevel, Redundancy as Sets};

use super::*;
use crate::domain::members;

fn rendered_pool(world: &World) -> DesiredPool {
    super::pool(POOL, &world.intent.pool(POOL).unwrap().record, id(0xb0), 42)
}

#[test]
fn a_pool_is_on_sets_and_grows_by_whole_ones() {
    assert_eq!(rendered_pool(&World::furnished()).redundancy, None);
    let mut world = World::redundant(Redundancy::Raid10, 4);
    let redundancy = |sets: &[u32]| {
        Some(Sets {
            level: RaidLevel::Raid10,
            sets: sets.to_vec(),
        })
    };
    let made = rendered_pool(&world);
    assert_eq!(made.redundancy, redundancy(&[4]));
    let plain = |disk: &PoolDisk| disk.turn == 0 && disk.takes_place.is_none() && !disk.stale;
    assert!(made.disks.iter().all(plain));
    world.disks.extend((6..8).map(|n| {
        let mut disk = samples::disks()[0].clone();
        disk.id = format!("serial-DISK{n}").parse().unwrap();
        disk
    }));
    let more: Vec<String> = (4..8).map(|n| format!("serial-DISK{n}")).collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    world.does(samples::grow(&more));
    let growing = rendered_pool(&world);
    assert_eq!(growing.redundancy, redundancy(&[4, 4]));
    assert_eq!(growing.grows_from.map(|before| before.disks), Some(4));
    world.does(Command::PoolDelete {
        id: POOL,
        force: true,
    });
    let destroyed = rendered_pool(&world);
    assert!(destroyed.absent && destroyed.destroy.is_some());
    assert_eq!(destroyed.redundancy, redundancy(&[4, 4]));
}

#[test]
fn a_disk_takes_the_place_of_another_until_it_has_it() {
    let mut world = World::redundant(Redundancy::Raid1, 2);
    let id = |name: &str| name.parse::<DiskId>().unwrap();
    let place = |world: &World| {
        let disk = rendered_pool(world).disks[1].clone();
        (disk.id, disk.turn, disk.takes_place, disk.stale)
    };
    let before = (id("serial-DISK1"), 0, None, false);
    assert_eq!(place(&world), before);
    for (wipe, format) in [(false, PoolFormat::BlankOnly), (true, PoolFormat::Wipe)] {
        let Command::PoolReplace { id: pool, mut spec } = samples::replace(1, "serial-DISK4")
        else {
            panic!("it replaces")
        };
        spec.wipe = wipe;
        let mut world = world.clone();
        world.does(Command::PoolReplace { id: pool, spec });
        let expected = (id("serial-DISK4"), 1, Some(format), true);
        assert_eq!(place(&world), expected);
        assert_eq!(rendered_pool(&world).format, PoolFormat::Never);
    }
    world.does(samples::replace(1, "serial-DISK4"));
    let mut destroyed = world.clone();
    destroyed.does(Command::PoolDelete {
        id: POOL,
        force: true,
    });
    // Whose label is to go with the pool's.
    assert_eq!(place(&destroyed), before);
    world.settle(Unit::Pool(POOL));
    // It has nothing of what it should have until it is told that it has.
    assert_eq!(place(&world), (id("serial-DISK4"), 1, None, true));
    let whole = samples::report(&[&[MemberState::InSync; 2]]);
    for edit in members::told(&world.intent, POOL, &whole) {
        world.intent.apply(&edit).unwrap();
    }
    assert_eq!(place(&world), (id("serial-DISK4"), 1, None, false));
}

#[test]
fn disks_that_miss_data_are_said_to() {
    let mut world = World::redundant(Redundancy::Raid6, 4);
    use MemberState::{Failed, InSync, Rebuilding};
    let seen = samples::report(&[&[Failed, InSync, InSync, Rebuilding]]);
    for edit in members::told(&world.intent, POOL, &seen) {
        world.intent.apply(&edit).unwrap();
    }
    let desired = rendered_pool(&world);
    let stale: Vec<bool> = desired.disks.iter().map(|disk| disk.stale).collect();
    assert_eq!(stale, [true, false, false, true]);
}
