//! Pools whose disks stand in for each other.

use ashlar_protocol::{PoolLevel, PoolUpdate, Redundancy, ReplaceSpec, Watermarks};
use ashlar_targetd_protocol::{MemberState, SetAction, SetReport};

use super::*;
use crate::domain::decide::check_scrub;
use crate::domain::fill::low_water;
use crate::domain::members::told;
use crate::domain::record::{PoolRecord, Replacing, SetRecord};

use MemberState::{Failed, InSync, Missing, Rebuilding};
use Redundancy::{Raid1, Raid5, Raid6, Raid10};

fn record(world: &World) -> &PoolRecord {
    &world.intent.pool(POOL).unwrap().record
}

fn names(disks: std::ops::Range<usize>) -> Vec<String> {
    disks.map(|n| format!("serial-DISK{n}")).collect()
}

fn grown(disks: std::ops::Range<usize>) -> Command {
    let names = names(disks);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    grow(&names)
}

/// A raid1 pool of two disks, of which the second has failed.
fn lame() -> World {
    let mut world = World::redundant(Raid1, 2);
    world.sets = report(&[&[InSync, Failed]]).sets;
    world
}

#[test]
fn a_set_has_as_many_disks_as_its_level_takes() {
    let many = |n| {
        let mut world = World::empty();
        world.disks.extend((6..n).map(|n| {
            let mut disk = disks()[0].clone();
            disk.id = format!("serial-DISK{n}").parse().unwrap();
            disk
        }));
        world
    };
    for (redundancy, taken, refused) in [
        (Redundancy::None, vec![1, 2, 64], vec![65]),
        (Raid1, vec![2, 3, 32], vec![1, 33]),
        (Raid10, vec![4, 6, 32], vec![2, 3, 5, 34]),
        (Raid5, vec![3, 4, 32], vec![2, 33]),
        (Raid6, vec![4, 5, 32], vec![3, 33]),
    ] {
        for disks in taken {
            many(disks).does(mirrored(redundancy, disks));
        }
        for disks in refused {
            let words = format!("not {disks}");
            refuses(
                &mut many(disks),
                mirrored(redundancy, disks),
                InvalidField,
                &words,
            );
        }
    }
    let even = mirrored(Raid10, 5);
    refuses(
        &mut World::empty(),
        even,
        InvalidField,
        "an even number of 4 to 32",
    );
}

#[test]
fn a_set_has_the_room_of_its_smallest_disk_so_often_as_its_level_gives() {
    let least = 64 * MIB / 4096;
    for (redundancy, disks, times) in [(Raid1, 3, 1), (Raid10, 4, 2), (Raid5, 4, 3), (Raid6, 4, 2)]
    {
        let world = &mut World::empty();
        world.disks[1].size.0 = 500 * MIB;
        world.does(mirrored(redundancy, disks));
        let there = record(world);
        let smallest = 500 * MIB;
        let width = disks as u32;
        assert_eq!(there.sets, [SetRecord { width, smallest }]);
        // Less what labels take, and the array itself.
        let room = times * (500 - 4 - 1) * MIB;
        assert_eq!(
            there.metadata_size,
            (room / 10).min(least * 4096) / 4096 * 4096
        );
        let catalog = there.catalog.unwrap().size;
        let blocks = (room - there.metadata_size - catalog) / there.block_size;
        let mark = low_water(&Watermarks::default(), PoolLevel::Ok, blocks);
        assert_eq!(there.low_water_blocks, mark);
        assert_eq!(there.metadata_room(1), 0);
    }
}

#[test]
fn a_pool_with_redundancy_grows_by_whole_sets() {
    let world = &mut World::redundant(Raid5, 3);
    for disks in [3..4, 3..5] {
        refuses(
            world,
            grown(disks),
            InvalidField,
            "a set of raid5 has 3 to 32",
        );
    }
    world.does(grown(3..6));
    let widths: Vec<u32> = record(world).sets.iter().map(|set| set.width).collect();
    assert_eq!(widths, [3, 3]);
    refuses(world, replace(0, "serial-NEW"), Busy, "being grown");
    world.settle(Unit::Pool(POOL));
    unchanged(world, grown(3..6));
}

#[test]
fn room_for_metadata_stands_on_the_first_disk_of_a_set() {
    let world = &mut World::redundant(Raid1, 2);
    let rooms = |world: &World| {
        let there = record(world);
        let places = 0..there.spec.disks.len();
        let rooms: Vec<u64> = places.map(|place| there.metadata_room(place)).collect();
        rooms
    };
    let first = rooms(world)[0];
    assert_eq!(rooms(world), [first, 0]);
    let Command::PoolGrow { spec: mut more, .. } = grown(2..5) else {
        panic!("it grows")
    };
    let catalog = record(world).catalog.unwrap().size;
    more.metadata_size = Some(first - catalog + 50 * MIB);
    world.does(Command::PoolGrow {
        id: POOL,
        spec: more,
    });
    assert_eq!(rooms(world), [first, 0, 50 * MIB, 0, 0]);
}

#[test]
fn a_disk_gives_its_place_to_another_and_is_then_found_so() {
    let world = &mut lame();
    let unit = Unit::Pool(POOL);
    let before = record(world).clone();
    assert_eq!(world.does(replace(1, "serial-DISK4")), Some(unit));
    let since = world.intent.generation();
    let by: ashlar_targetd_protocol::DiskId = "serial-DISK4".parse().unwrap();
    let replacing = Replacing {
        place: 1,
        by: by.clone(),
        turn: 1,
        wipe: false,
        since,
    };
    assert_eq!(record(world).replacing, Some(replacing));
    // Until it has settled, the place is that of the disk before.
    assert_eq!(record(world).spec, before.spec);
    joins(world, replace(1, "serial-DISK4"), unit);
    for other in [replace(1, "serial-DISK5"), replace(0, "serial-DISK5")] {
        refuses(world, other, Busy, "being given another disk");
    }
    refuses(world, grown(2..4), Busy, "being given another disk");
    refuses(
        world,
        pool(id(1), &["serial-DISK4"]),
        InUse,
        "belongs to pool",
    );
    let renamed = Command::PoolUpdate {
        id: POOL,
        spec: PoolUpdate {
            name: Some("new".parse().unwrap()),
            ..PoolUpdate::default()
        },
    };
    // So that another attempt is made, which is of this generation.
    assert_eq!(world.does(renamed), Some(unit));

    world.settle(unit);
    let there = record(world);
    assert_eq!((there.spec.disks[1].clone(), there.turns(1).now), (by, 1));
    assert_eq!((there.turns(0).now, &there.replacing), (0, &None));
    assert_eq!(there.stale, [(1, Rebuilding)].into());
    unchanged(world, replace(1, "serial-DISK4"));
    // The disk before is nobody's now.
    world.does(pool(id(1), &["serial-DISK1"]));
}

#[test]
fn a_pool_whose_disks_were_replaced_is_still_the_one_that_was_asked_for() {
    let world = &mut lame();
    let renamed = |spec: &mut PoolSpec| spec.redundancy = Raid1;
    let asked = |disks: &[&str]| {
        let mut spec = pool_spec(disks);
        renamed(&mut spec);
        Command::PoolCreate { id: POOL, spec }
    };
    for by in ["serial-DISK4", "serial-DISK5"] {
        let disk = record(world).spec.disks[1].clone();
        let by = by.parse().unwrap();
        let spec = ReplaceSpec {
            disk,
            by,
            wipe: false,
        };
        world.does(Command::PoolReplace { id: POOL, spec });
        world.settle(Unit::Pool(POOL));
    }
    assert_eq!(record(world).turns(1).now, 2);
    unchanged(world, asked(&["serial-DISK0", "serial-DISK1"]));
    unchanged(world, asked(&["serial-DISK0", "serial-DISK5"]));
    let between = asked(&["serial-DISK0", "serial-DISK4"]);
    refuses(world, between, AlreadyExists, "is not as asked for");
    let other = pool(POOL, &["serial-DISK0", "serial-DISK1"]);
    refuses(world, other, AlreadyExists, "is not as asked for");
    // Only what was last is found so: before, somebody else had the place.
    let spec = ReplaceSpec {
        disk: "serial-DISK1".parse().unwrap(),
        by: "serial-DISK5".parse().unwrap(),
        wipe: false,
    };
    let long_ago = Command::PoolReplace { id: POOL, spec };
    refuses(world, long_ago, NotFound, "no disk serial-DISK1");
}

#[test]
fn what_a_disk_cannot_be_replaced_by_is_named() {
    let world = &mut lame();
    world.does(pool(id(1), &["serial-DISK3"]));
    world.disks[5].size.0 = (1 << 30) - 2 * MIB;
    for (command, code, words) in [
        (
            replace(1, "serial-DISK1"),
            InvalidField,
            "has that place already",
        ),
        (replace(9, "serial-DISK4"), NotFound, "no disk serial-DISK9"),
        (replace(1, "serial-DISK0"), InUse, "serial-DISK0 is one of"),
        (replace(1, "serial-DISK3"), InUse, "belongs to pool"),
        (replace(1, "serial-NONE"), NotFound, "no disk serial-NONE"),
        (replace(1, "serial-DISK5"), NoSpace, "its set uses"),
    ] {
        refuses(world, command, code, words);
    }
    // Within a MiB of it targetd has to say.
    world.disks[5].size.0 = (1 << 30) - MIB;
    assert!(world.decide(&replace(1, "serial-DISK5")).is_ok());
    world.disks[4].content = Some("an ext4 file system".to_owned());
    refuses(world, replace(1, "serial-DISK4"), NotBlank, "holds an ext4");
    let Command::PoolReplace { id, mut spec } = replace(1, "serial-DISK4") else {
        panic!("it replaces")
    };
    spec.wipe = true;
    let wiped = Command::PoolReplace { id, spec };
    assert!(world.decide(&wiped).is_ok());
    world.disks[4].in_use = true;
    refuses(world, wiped, InUse, "in use");
}

#[test]
fn only_where_disks_stand_in_for_each_other_one_is_replaced() {
    let world = &mut World::furnished();
    let plain = replace(0, "serial-DISK4");
    refuses(world, plain, WrongState, "no redundancy");
    let world = &mut lame();
    let trouble = Problem::new(KernelFailed, "it does not come up");
    world.troubled.insert(Unit::Pool(POOL), trouble);
    refuses(
        world,
        replace(1, "serial-DISK4"),
        WrongState,
        "does not come up",
    );
    world.troubled.clear();
    world.kernel = false;
    refuses(
        world,
        replace(1, "serial-DISK4"),
        TargetdUnavailable,
        "targetd",
    );
    let world = &mut World::empty();
    refuses(
        world,
        replace(1, "serial-DISK4"),
        NotFound,
        "does not exist",
    );
    world.does(mirrored(Raid1, 2));
    refuses(world, replace(1, "serial-DISK4"), Busy, "being created");
}

#[test]
fn no_disk_goes_that_its_set_cannot_do_without() {
    let cases: [(Redundancy, &[MemberState], u32, bool); 12] = [
        (Raid1, &[InSync, InSync], 1, true),
        (Raid1, &[InSync, Failed], 1, true),
        (Raid1, &[InSync, Failed], 0, false),
        (Raid1, &[InSync, Rebuilding], 0, false),
        (Raid10, &[Missing, InSync, InSync, InSync], 0, true),
        (Raid10, &[Missing, InSync, InSync, InSync], 1, false),
        (Raid10, &[Missing, InSync, InSync, InSync], 3, true),
        (Raid5, &[InSync, InSync, InSync], 2, true),
        (Raid5, &[InSync, Missing, InSync], 2, false),
        (Raid6, &[InSync, Missing, InSync, InSync], 0, true),
        (Raid6, &[Failed, Missing, InSync, InSync], 3, false),
        (Raid6, &[Failed, Missing, InSync, InSync], 1, true),
    ];
    for (redundancy, states, place, survives) in cases {
        let world = &mut World::redundant(redundancy, states.len());
        world.sets = report(&[states]).sets;
        let command = replace(place, "serial-DISK5");
        match survives {
            true => drop(world.does(command)),
            false => refuses(world, command, WrongState, "would not have all of its data"),
        }
    }
}

#[test]
fn what_was_told_before_is_no_reason_to_let_a_disk_go() {
    let world = &mut World::redundant(Raid1, 2);
    let seen = report(&[&[InSync, Failed]]);
    for edit in told(&world.intent, POOL, &seen) {
        world.intent.apply(&edit).unwrap();
    }
    for told in [Vec::new(), report(&[&[InSync; 3]]).sets] {
        world.sets = told;
        let command = replace(1, "serial-DISK4");
        refuses(world, command, TargetdUnavailable, "does not tell");
    }
    // Each set is judged by itself.
    let world = &mut World::redundant(Raid1, 2);
    world.does(grown(2..4));
    world.settle(Unit::Pool(POOL));
    world.sets = report(&[&[Failed, InSync], &[InSync, InSync]]).sets;
    refuses(
        world,
        replace(1, "serial-DISK4"),
        WrongState,
        "set 0 of pool",
    );
    world.does(replace(3, "serial-DISK4"));
}

#[test]
fn while_disks_are_made_the_same_none_goes() {
    let world = &mut World::redundant(Raid5, 3);
    let set = |states: &[MemberState], action| {
        let [set] = &report(&[states]).sets[..] else {
            panic!("one")
        };
        vec![SetReport {
            action,
            ..set.clone()
        }]
    };
    let whole = [InSync; 3];
    world.sets = set(&whole, SetAction::Resync);
    refuses(
        world,
        replace(1, "serial-DISK4"),
        Busy,
        "being made the same",
    );
    for action in [SetAction::Check, SetAction::Idle, SetAction::Frozen] {
        world.sets = set(&whole, action);
        assert!(world.decide(&replace(1, "serial-DISK4")).is_ok());
    }
    // Nor one that has none: rebuilding would end what makes the others the same.
    world.sets = set(&[InSync, Failed, InSync], SetAction::Resync);
    let another = replace(1, "serial-DISK4");
    refuses(world, another, Busy, "being made the same");
}

#[test]
fn a_pool_that_is_given_another_disk_is_destroyed_only_by_force() {
    let world = &mut lame();
    world.does(replace(1, "serial-DISK4"));
    let destroy = |force| Command::PoolDelete { id: POOL, force };
    refuses(world, destroy(false), Busy, "being given another disk");
    world.does(destroy(true));
    refuses(world, replace(1, "serial-DISK4"), Busy, "being destroyed");
    world.settle(Unit::Pool(POOL));
    for disk in ["serial-DISK0", "serial-DISK1", "serial-DISK4"] {
        assert_eq!(world.intent.pool_of_disk(&disk.parse().unwrap()), None);
    }
}

#[test]
fn disks_are_compared_where_there_are_some_to_compare() {
    let scrub = |world: &World| check_scrub(&world.intent, POOL).map_err(|problem| problem.code);
    assert_eq!(scrub(&World::empty()), Err(NotFound));
    assert_eq!(scrub(&World::furnished()), Err(WrongState));
    let world = &mut World::redundant(Raid1, 2);
    assert_eq!(scrub(world), Ok(()));
    let site = BoxRecord {
        id: id(0xb),
        nvme_ports: Default::default(),
        rdma_ports: Default::default(),
        fc_ports: Default::default(),
        frozen: None,
        firmware: None,
        managed: Default::default(),
        shut: Default::default(),
    };
    world.intent.apply(&Edit::put(Record::Box(site))).unwrap();
    world.does(Command::SystemFreeze {
        id: id(0xb),
        spec: FreezeSpec { reason: None },
    });
    assert_eq!(scrub(world), Err(Frozen));
}
