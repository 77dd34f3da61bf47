//! Volumes that go to another pool while hosts use them.

use std::fs::File;
use std::os::unix::fs::FileExt;

use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{Failure, FailureKind, OpenObject, Request, Response};

use crate::wanted::*;
use crate::world::{CALLER, DISKS, World};

/// Volume 1 on thin device 1 of pool 1, with three blocks of content, to go to 8 of pool 2.
fn start(attached: bool) -> World {
    let world = World::with_two_pools();
    world.apply(&volume(1).new_data()).unwrap();
    world.write(1, 3);
    world.apply(&with(attached, volume(1))).unwrap();
    world
}

fn with(attached: bool, wanted: Wanted) -> Wanted {
    match attached {
        true => wanted.iscsi(&["alpha"]).nvme(&["beta"]),
        false => wanted,
    }
}

fn moving() -> Wanted {
    volume(1).moving_to(8)
}

fn moved() -> Wanted {
    volume(1).in_pool(2).on_thin(8)
}

/// A volume's way to the other pool, and back before it is there.
const STAGES: usize = 8;

fn stage(n: usize) -> Wanted {
    match n {
        0 => volume(1),
        1 => moving().copied_as(20),
        2 => moving().copied_as(21).retiring(1, 20),
        3 => moving().copied_as(22).still().retiring(1, 20),
        4 => moving().copied_as(22).retiring(1, 21),
        5 => moving().copied_as(23).still().retiring(1, 21),
        6 => moved().retiring(1, 1).retiring(1, 22).retiring(1, 23),
        7 => moved(),
        _ => panic!("there is no stage {n}"),
    }
}

fn given_up() -> Wanted {
    let mut wanted = volume(1).retiring(2, 8);
    for thin in 20..24 {
        wanted = wanted.retiring(1, thin);
    }
    wanted
}

/// How it is when a stage is reached.
fn check(world: &World, attached: bool, wanted: &Wanted) {
    let desired = &wanted.0;
    let still = desired.moving.is_some_and(|moving| moving.still);
    let picture = world.picture();
    let there = |name: &str| picture.iter().any(|line| line.contains(name));
    assert_eq!(there("device ashlar-move-"), desired.moving.is_some());
    let copy = desired.moving.and_then(|moving| moving.copy);
    assert_eq!(there("device ashlar-copy-"), copy.is_some());
    assert_eq!(there("device ashlar-vol-"), attached);
    if attached {
        assert_eq!(world.suspended(&volume_device(1)), still);
        assert_eq!(world.volume(wanted).exported.len(), 2);
    }
    if let Some(copy) = copy {
        assert_eq!(world.holds(copy.into()), Some(3));
    }
    for gone in &desired.retired {
        let pool = if gone.pool == pool_id(1) { 1 } else { 2 };
        assert_eq!(world.holds_in(pool, gone.thin_id.into()), None);
    }
    match desired.pool == pool_id(1) {
        true => assert_eq!(world.holds(1), Some(3)),
        false => assert!(world.holds_in(2, 8).is_some()),
    }
}

fn apply(world: &World, attached: bool, wanted: impl Fn() -> Wanted) -> Result<(), Failure> {
    world.apply(&with(attached, wanted())).map(drop)
}

#[test]
fn a_volume_goes_step_by_step_and_each_step_stands_still() {
    for attached in [false, true] {
        let world = start(attached);
        let before = world.picture();
        for n in 1..STAGES {
            apply(&world, attached, || stage(n)).unwrap();
            check(&world, attached, &stage(n));
            let again = world.apply(&with(attached, stage(n))).unwrap();
            // What is retired is asked of the pools until the agent knows that it is gone.
            assert_eq!(again.steps, Vec::<String>::new(), "stage {n}");
            check(&world, attached, &stage(n));
        }
        assert_eq!(world.picture(), before);
    }
}

#[test]
fn a_move_that_is_given_up_at_any_stage_leaves_nothing() {
    for attached in [false, true] {
        for n in 1..6 {
            let world = start(attached);
            let before = world.picture();
            (1..=n).for_each(|n| apply(&world, attached, || stage(n)).unwrap());
            apply(&world, attached, given_up).unwrap();
            check(&world, attached, &given_up());
            assert_eq!(world.picture(), before, "stage {n}");
        }
    }
}

/// Every call on the way from one state to the next can be the last of a process, or refused.
fn survives(attached: bool, before: usize, wanted: impl Fn() -> Wanted) {
    let begin = || {
        let world = start(attached);
        (1..=before).for_each(|n| apply(&world, attached, || stage(n)).unwrap());
        world.kernel.take_log();
        world
    };
    let world = begin();
    apply(&world, attached, &wanted).unwrap();
    let steps = world.calls().len() as u64;
    let arrived = world.picture();
    assert!(steps > 0);
    for step in 0..steps {
        for dies in [true, false] {
            let world = begin();
            match dies {
                true => world.kernel.stop_after(step),
                false => world.kernel.fail_step(step + 1, Errno::EIO),
            }
            apply(&world, attached, &wanted).unwrap_err();
            if dies {
                world.restart();
            }
            world.kernel.revive();
            apply(&world, attached, &wanted).unwrap();
            let again = world.apply(&with(attached, wanted())).unwrap();
            assert_eq!(again.steps, Vec::<String>::new(), "step {step}");
            assert_eq!(world.picture(), arrived, "step {step}");
            check(&world, attached, &wanted());
        }
    }
}

#[test]
fn every_call_of_a_move_can_be_the_last_or_refused() {
    for attached in [false, true] {
        for n in 1..STAGES - 1 {
            survives(attached, n - 1, || stage(n));
        }
        for n in 1..6 {
            survives(attached, n, given_up);
        }
    }
}

#[test]
fn a_volume_that_cannot_be_copied_goes_on() {
    for errno in [Errno::ENOSPC, Errno::EIO] {
        let world = start(true);
        apply(&world, true, moving).unwrap();
        world.kernel.fail_matching("create_snap", errno);
        apply(&world, true, || moving().copied_as(20).still()).unwrap_err();
        assert!(!world.suspended(&volume_device(1)));
    }
}

#[test]
fn a_copy_from_before_the_device_rests_is_not_taken_for_the_last_one() {
    let world = start(true);
    apply(&world, true, || moving().copied_as(20)).unwrap();
    world.write(1, 5);
    // Whoever made it was not heard.
    apply(&world, true, || moving().copied_as(20).still()).unwrap();
    assert!(world.suspended(&volume_device(1)));
    assert_eq!(world.holds(20), Some(5));

    // It went on, and nobody noticed.
    apply(&world, true, || moving().copied_as(20)).unwrap();
    world.write(1, 6);
    apply(&world, true, || moving().copied_as(20).still()).unwrap();
    assert_eq!(world.holds(20), Some(6));
}

#[test]
fn a_device_at_rest_goes_on_before_hosts_lose_it() {
    let world = start(true);
    apply(&world, true, || moving().copied_as(20).still()).unwrap();
    world.kernel.take_log();
    world.apply(&volume(1).retiring(2, 8)).unwrap();
    assert_eq!(world.calls()[0], "resume");

    // Never with what it was on before.
    let world = start(true);
    apply(&world, true, || moving().copied_as(20).still()).unwrap();
    world.kernel.take_log();
    let lost = moved().retiring(1, 1).retiring(1, 20);
    world.apply(&lost).unwrap();
    assert_eq!(world.calls()[..2], ["load", "resume"]);
}

#[test]
fn hosts_come_and_go_while_a_volume_is_copied() {
    let world = start(false);
    world.apply(&moving().copied_as(20)).unwrap();
    world
        .apply(&moving().copied_as(20).iscsi(&["alpha"]))
        .unwrap();
    world
        .apply(&moving().copied_as(21).iscsi(&["alpha"]))
        .unwrap();
    assert!(!world.suspended(&volume_device(1)));
    world.apply(&moving().copied_as(21)).unwrap();
    check(&world, false, &moving().copied_as(21));
}

fn open(world: &World, object: OpenObject, write: bool) -> Result<File, FailureKind> {
    let answer = world.ask(CALLER, Request::OpenDevice { object, write });
    let answer = answer.map_err(|failure| failure.kind)?;
    assert!(matches!(answer.response, Response::Opened { .. }));
    Ok(answer.descriptor.unwrap().into())
}

#[test]
fn the_agent_reads_the_copy_and_writes_the_target() {
    let world = start(true);
    let (copy, target) = (
        OpenObject::Copy(volume_id(1)),
        OpenObject::Target(volume_id(1)),
    );
    for object in [copy, target] {
        assert_eq!(
            open(&world, object, false).unwrap_err(),
            FailureKind::Missing
        );
    }
    apply(&world, true, || moving().copied_as(20).still()).unwrap();
    assert_eq!(open(&world, copy, true).unwrap_err(), FailureKind::Refused);
    assert!(open(&world, copy, false).is_ok());
    let file = open(&world, target, true).unwrap();
    file.write_all_at(b"data", 4096).unwrap();
    // As long as it is open, it stays.
    let failure = world.apply(&with(true, given_up())).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InUse, "{failure}");
    assert!(!world.suspended(&volume_device(1)));
    drop(file);
    let switched = moved().retiring(1, 1).retiring(1, 20);
    world.apply(&with(true, switched)).unwrap();
    let mut read = [0; 4];
    let device = open(&world, OpenObject::Volume(volume_id(1)), false).unwrap();
    device.read_exact_at(&mut read, 4096).unwrap();
    assert_eq!(&read, b"data");
}

#[test]
fn a_target_never_holds_what_was_there_before() {
    let world = start(true);
    let pool = ashlar_targetd::ours::pool_device(pool_id(2), ashlar_targetd::ours::PoolPart::Thin);
    world
        .apply(&volume(3).in_pool(2).on_thin(8).new_data())
        .unwrap();
    let thin = 8.try_into().unwrap();
    world.kernel.write_thin(&pool, thin, 2).unwrap();
    let failure = apply(&world, true, moving).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Occupied, "{failure}");
}

#[test]
fn a_move_that_contradicts_itself_is_refused() {
    let here = |mut wanted: Wanted| {
        wanted.0.moving.as_mut().unwrap().to.pool = pool_id(1);
        wanted
    };
    for (wanted, kind) in [
        (moving().new_data(), FailureKind::Refused),
        (moving().tombstone(), FailureKind::Refused),
        (moving().retiring(2, 8), FailureKind::Refused),
        (moving().copied_as(1), FailureKind::Refused),
        (moving().copied_as(20).retiring(1, 20), FailureKind::Refused),
        (moving().still(), FailureKind::Refused),
        (here(moving()), FailureKind::Refused),
    ] {
        let world = start(false);
        world.kernel.take_log();
        let failure = world.apply(&wanted).unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        assert_eq!(world.calls(), Vec::<String>::new());
    }
}

#[test]
fn a_move_takes_both_pools() {
    let world = start(false);
    let format = ashlar_targetd_protocol::PoolFormat::Never;
    world
        .apply_pool(&absent(pool(2, &DISKS[1..], format)))
        .unwrap();
    let failure = world.apply(&moving()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Missing, "{failure}");
}

#[test]
fn what_an_unknown_volume_moved_with_is_taken_out() {
    let world = start(true);
    apply(&world, true, || moving().copied_as(20).still()).unwrap();
    world.restart();
    assert_eq!(
        world.objects(),
        (vec![pool_id(1), pool_id(2)], vec![volume_id(1)], vec![])
    );
    world.unexport(volume_id(1)).unwrap();
    let left = world.picture();
    assert!(
        !left.iter().any(|line| line.contains("0b000000")),
        "{left:?}"
    );
}
