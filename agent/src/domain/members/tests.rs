use ashlar_protocol::Redundancy;
use ashlar_targetd_protocol::Sectors;

use super::*;
use crate::domain::record::Unit;
use crate::domain::samples::{POOL, World, grow, id, mirrored, pool, replace, report};

use MemberState::{Failed, InSync, Missing, Rebuilding};

/// A pool of one set of three.
fn world() -> World {
    World::redundant(Redundancy::Raid1, 3)
}

fn record(world: &World) -> &PoolRecord {
    &world.intent.pool(POOL).unwrap().record
}

/// What is on record after that was told.
fn stale(world: &mut World, report: &PoolReport) -> Vec<(u32, MemberState)> {
    for edit in told(&world.intent, POOL, report) {
        world.intent.apply(&edit).unwrap();
    }
    let stale = &record(world).stale;
    stale
        .iter()
        .map(|(place, state)| (*place, *state))
        .collect()
}

#[test]
fn a_disk_is_stale_from_when_it_is_not_in_sync_until_it_is() {
    let world = &mut world();
    let generation = record(world).generation;
    for state in [Failed, Missing, Rebuilding] {
        let seen = stale(world, &report(&[&[InSync, state, InSync]]));
        assert_eq!(seen, [(1, state)]);
        let again = told(&world.intent, POOL, &report(&[&[InSync, state, InSync]]));
        assert_eq!(again, []);
    }
    assert_eq!(
        stale(world, &report(&[&[InSync, InSync, Failed]])),
        [(2, Failed)]
    );
    assert_eq!(stale(world, &report(&[&[InSync; 3]])), []);
    // Nothing that the kernel would have to be brought up to.
    assert_eq!(record(world).generation, generation);
}

#[test]
fn what_is_not_told_changes_nothing() {
    let world = &mut world();
    let seen = stale(world, &report(&[&[InSync, Failed, InSync]]));
    assert_eq!(seen, [(1, Failed)]);
    // It is not active; or what was seen is not the set that is on record.
    for nothing in [report(&[]), report(&[&[InSync; 2]])] {
        assert_eq!(told(&world.intent, POOL, &nothing), []);
    }
    assert_eq!(told(&world.intent, id(1), &report(&[&[InSync; 3]])), []);
    // Without redundancy there is nothing to be told.
    let world = &mut World::furnished();
    assert_eq!(told(&world.intent, POOL, &report(&[&[Failed]])), []);
}

#[test]
fn only_of_a_pool_that_stands_anything_is_kept() {
    let world = &mut World::empty();
    world.does(mirrored(Redundancy::Raid1, 2));
    let lame = report(&[&[InSync, Failed]]);
    assert_eq!(told(&world.intent, POOL, &lame), []);
    world.settle(Unit::Pool(POOL));
    assert_eq!(told(&world.intent, POOL, &lame).len(), 1);
}

#[test]
fn a_growing_pool_has_fewer_sets_than_it_is_to_have() {
    let world = &mut World::redundant(Redundancy::Raid1, 2);
    world.does(grow(&["serial-DISK2", "serial-DISK3"]));
    assert_eq!(stale(world, &report(&[&[InSync, Failed]])), [(1, Failed)]);
    world.settle(Unit::Pool(POOL));
    let both = report(&[&[InSync, InSync], &[Rebuilding, InSync]]);
    assert_eq!(stale(world, &both), [(2, Rebuilding)]);
}

#[test]
fn nothing_is_told_of_a_place_until_it_is_known_who_has_it() {
    let world = &mut world();
    world.sets = report(&[&[InSync, Failed, InSync]]).sets;
    assert_eq!(
        stale(world, &report(&[&[InSync, Failed, InSync]])),
        [(1, Failed)]
    );
    world.does(replace(1, "serial-DISK3"));
    let seen = stale(world, &report(&[&[Missing, Rebuilding, InSync]]));
    assert_eq!(seen, [(0, Missing), (1, Failed)]);
    world.settle(Unit::Pool(POOL));
    assert_eq!(stale(world, &report(&[&[InSync; 3]])), []);
}

#[test]
fn clients_see_each_disk_and_what_its_set_does() {
    let world = &mut World::redundant(Redundancy::Raid1, 2);
    world.does(grow(&["serial-DISK2", "serial-DISK3"]));
    world.settle(Unit::Pool(POOL));
    let mut seen = report(&[&[InSync, Failed], &[Rebuilding, InSync]]);
    seen.sets[1].action = SetAction::Rebuild;
    seen.sets[1].done = Sectors(2);
    seen.sets[1].mismatches = Sectors(1);
    let member = |n: u32, state| Member {
        disk: format!("serial-DISK{n}").parse().unwrap(),
        set: n / 2,
        state,
    };
    assert_eq!(
        members(record(world), &seen),
        [
            member(0, InSync),
            member(1, Failed),
            member(2, Rebuilding),
            member(3, InSync)
        ]
    );
    let set = |action, done, mismatches| PoolSet {
        action,
        done,
        total: 512_000,
        mismatches,
    };
    assert_eq!(
        sets(&seen),
        [
            set(SetAction::Idle, 0, 0),
            set(SetAction::Rebuild, 1024, 512)
        ]
    );
}

#[test]
fn trouble_names_the_disks_and_what_can_still_be_lost() {
    use Redundancy::*;
    let cases: [(Redundancy, &[MemberState], &[&str]); 9] = [
        (Raid1, &[InSync, InSync, InSync], &[]),
        (
            Raid1,
            &[InSync, Failed, InSync],
            &[
                "set 0: 1 of 3",
                "serial-DISK1 is failed",
                "survives the loss of any other",
            ],
        ),
        (
            Raid1,
            &[InSync, Failed],
            &["does not survive the loss of any other"],
        ),
        (
            Raid10,
            &[InSync, Missing, InSync, InSync],
            &[
                "serial-DISK1 is missing",
                "does not survive the loss of just any other",
            ],
        ),
        (
            Raid5,
            &[InSync, InSync, Missing],
            &["does not survive the loss of any other"],
        ),
        (
            Raid5,
            &[Failed, InSync, Missing],
            &["2 of 3", "it has not all of its data"],
        ),
        (
            Raid6,
            &[InSync, Rebuilding, InSync, InSync],
            &[
                "serial-DISK1 is rebuilding",
                "survives the loss of any other",
            ],
        ),
        (
            Raid6,
            &[Failed, Rebuilding, InSync, InSync],
            &["does not survive the loss of any other"],
        ),
        (None, &[], &[]),
    ];
    for (redundancy, states, words) in cases {
        let world = match redundancy {
            None => World::furnished(),
            _ => World::redundant(redundancy, states.len()),
        };
        let told = trouble(record(&world), &report(&[states]));
        assert_eq!(told.is_some(), !words.is_empty(), "{redundancy:?} {told:?}");
        for word in words {
            assert!(told.as_ref().unwrap().contains(word), "{told:?}: {word}");
        }
    }
}

#[test]
fn trouble_says_how_far_what_is_missed_is_rebuilt() {
    let world = World::redundant(Redundancy::Raid1, 2);
    let mut seen = report(&[&[InSync, Rebuilding]]);
    let said = |seen: &PoolReport| trouble(record(&world), seen).unwrap();
    assert!(said(&seen).contains("nothing is being rebuilt"));
    seen.sets[0].action = SetAction::Rebuild;
    seen.sets[0].done = Sectors(379);
    assert!(said(&seen).contains("rebuilt to 37 %"));
    let mut world = World::redundant(Redundancy::Raid1, 2);
    world.does(pool(id(1), &["serial-DISK2"]));
    world.does(grow(&["serial-DISK3", "serial-DISK4"]));
    world.settle(Unit::Pool(POOL));
    let both = report(&[&[Failed, InSync], &[InSync, Missing]]);
    let said = trouble(record(&world), &both).unwrap();
    assert!(
        said.contains("set 0: 1 of 2") && said.contains("set 1: 1 of 2"),
        "{said}"
    );
}

#[test]
fn what_went_when_its_set_was_gone_lacks_nothing() {
    let world = &mut World::redundant(Redundancy::Raid1, 2);
    let lacks = |world: &World| -> Vec<bool> {
        (0..2)
            .map(|place| record(world).lacks_data(place))
            .collect()
    };
    stale(world, &report(&[&[InSync, Failed]]));
    assert_eq!(lacks(world), [false, true]);
    // Nobody could write anything any more.
    let seen = stale(world, &report(&[&[Missing, Failed]]));
    assert_eq!(seen, [(0, Missing), (1, Failed)]);
    assert_eq!(lacks(world), [false, true]);
    stale(world, &report(&[&[InSync, Rebuilding]]));
    assert_eq!(lacks(world), [false, true]);
    // Both at once: either may speak for the set.
    let world = &mut World::redundant(Redundancy::Raid1, 2);
    stale(world, &report(&[&[Missing; 2]]));
    assert_eq!(lacks(world), [false, false]);
    // One is there again and in use: the other lacks what is written now.
    stale(world, &report(&[&[InSync, Missing]]));
    assert_eq!(lacks(world), [false, true]);
}

#[test]
fn what_is_made_the_same_again_tells_nothing_of_what_it_lacks() {
    let world = &mut world();
    let all = report(&[&[MemberState::Resyncing; 3]]);
    assert_eq!(told(&world.intent, POOL, &all), []);
    assert_eq!(trouble(record(world), &all), None);
    stale(world, &report(&[&[InSync, Rebuilding, InSync]]));
    assert_eq!(told(&world.intent, POOL, &all), []);
    assert_eq!(stale(world, &report(&[&[InSync; 3]])), []);
}
