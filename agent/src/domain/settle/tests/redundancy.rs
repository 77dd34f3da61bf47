//! Disks that were to stand in for others and cannot be had.

use ashlar_protocol::Redundancy;

use super::*;
use crate::domain::members::told;

#[test]
fn a_pool_whose_other_disk_cannot_be_had_keeps_the_one_it_has() {
    let refused = |code, device| Grounds {
        device,
        ..Grounds::new(Problem::new(code, "it holds something"))
    };
    let unit = Unit::Pool(POOL);
    let replacing = || {
        let mut world = World::redundant(Redundancy::Raid1, 2);
        let lame = report(&[&[MemberState::InSync, MemberState::Failed]]);
        world.sets = lame.sets.clone();
        let edits = told(&world.intent, POOL, &lame);
        apply(&mut world, &edits);
        let before = world.intent.pool(POOL).unwrap().record.clone();
        world.does(replace(1, "serial-DISK4"));
        (world, before)
    };
    let (mut world, before) = replacing();
    let tried = world.intent.generation();
    let span = Span { applied: 0, tried };
    // Not when nobody can tell what the pool is on, nor for what may pass, nor when it is too late.
    for (code, device) in [
        (ProblemCode::Cancelled, Some(CAPACITY)),
        (ProblemCode::NotBlank, None),
        (ProblemCode::KernelFailed, Some(CAPACITY)),
        (ProblemCode::TargetdUnavailable, Some(CAPACITY)),
    ] {
        let edits = withdraw(&world.intent, unit, span, &refused(code, device));
        assert_eq!(edits, [], "{code} {device:?}");
    }
    let grounds = refused(ProblemCode::NotBlank, Some(CAPACITY));
    let early = Span {
        applied: 0,
        tried: tried - 1,
    };
    assert_eq!(withdraw(&world.intent, unit, early, &grounds), []);
    let edits = withdraw(&world.intent, unit, span, &grounds);
    apply(&mut world, &edits);
    let after = world.intent.pool(POOL).unwrap().record.clone();
    assert_eq!(after.generation, world.intent.generation());
    let generation = before.generation;
    let same = PoolRecord {
        generation,
        ..after
    };
    // What is known of it included; but the turn of the other is not given again.
    let turns = [(1, Turns { now: 0, last: 1 })].into();
    assert_eq!(same, PoolRecord { turns, ..before });
    assert!(failed(&world, span.tried) && !failed(&world, 1));
    let free = "serial-DISK4".parse().unwrap();
    assert_eq!(world.intent.pool_of_disk(&free), None);
    // One that has the place keeps it.
    let (mut world, _) = replacing();
    world.settle(unit);
    assert_eq!(withdraw(&world.intent, unit, span, &grounds), []);
}

#[test]
fn a_set_that_cannot_come_is_forgotten_and_the_others_stay() {
    let mut world = World::redundant(Redundancy::Raid1, 2);
    let before = world.intent.pool(POOL).unwrap().record.clone();
    world.does(grow(&["serial-DISK2", "serial-DISK3", "serial-DISK4"]));
    let tried = world.intent.generation();
    let grounds = Grounds {
        device: Some(CAPACITY),
        ..Grounds::new(Problem::new(ProblemCode::NotBlank, "it holds something"))
    };
    let span = Span { applied: 0, tried };
    let edits = withdraw(&world.intent, Unit::Pool(POOL), span, &grounds);
    apply(&mut world, &edits);
    let after = &world.intent.pool(POOL).unwrap().record;
    assert_eq!(after.sets, before.sets);
    assert_eq!(after.spec, before.spec);
}
