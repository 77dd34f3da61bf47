//! Pools: what may be taken, what is kept.

use ashlar_kernel_iface::block::{Access, Disks};
use ashlar_kernel_iface::model::ModelDisk;
use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{Bytes, DesiredPool, FailureKind, PoolFormat};

use crate::wanted::*;
use crate::world::{DISKS, World};

fn new() -> DesiredPool {
    pool(1, &DISKS, PoolFormat::BlankOnly)
}

fn standing() -> DesiredPool {
    pool(1, &DISKS, PoolFormat::Never)
}

/// What a refused state changes: nothing.
fn refused(world: &World, desired: &DesiredPool, kind: FailureKind) -> String {
    let before = world.picture();
    world.kernel.take_log();
    let failure = world.apply_pool(desired).unwrap_err();
    assert_eq!(failure.kind, kind, "{failure}");
    assert_eq!(world.kernel.take_log(), Vec::new(), "{failure}");
    assert_eq!(world.picture(), before);
    failure.message
}

fn scribble(world: &World, disk: usize, at: u64) {
    let number = world.kernel.disk_number(&new().disks[disk].id).unwrap();
    let disks = world.kernel.disks();
    let device = disks.open(number, Access::Exclusive).unwrap();
    device.write_at(Bytes(at), &[0xa5; 4096]).unwrap();
}

#[test]
fn a_pool_comes_once_and_then_stands() {
    let world = World::bare();
    assert!(!world.apply_pool(&new()).unwrap().steps.is_empty());
    assert!(world.apply_pool(&new()).unwrap().steps.is_empty());
    assert!(world.apply_pool(&standing()).unwrap().steps.is_empty());
    let usage = world.pool().usage.unwrap();
    assert_eq!(usage.data_used, 0);
    assert!(usage.data_total > 7000, "{usage:?}");
    let disks = world.disks();
    assert!(
        disks
            .iter()
            .all(|disk| disk.in_use && disk.pool == Some(pool_id(1)))
    );
}

#[test]
fn an_absent_pool_keeps_its_content() {
    let world = World::bare();
    let empty = world.picture();
    world.apply_pool(&new()).unwrap();
    world.apply(&volume(1).new_data()).unwrap();
    world.apply_pool(&absent(standing())).unwrap();
    assert_eq!(world.picture(), empty);
    assert_eq!(
        world.apply_pool(&absent(standing())).unwrap().steps.len(),
        0
    );
    world.apply_pool(&standing()).unwrap();
    world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
}

#[test]
fn a_stale_generation_of_a_pool_is_refused() {
    let world = World::bare();
    let mut newer = new();
    newer.generation = 5;
    world.apply_pool(&newer).unwrap();
    refused(&world, &absent(standing()), FailureKind::Refused);
}

#[test]
fn a_pool_in_use_is_not_deactivated() {
    let world = World::pooled();
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]))
        .unwrap();
    let failure = world.apply_pool(&absent(standing())).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InUse, "{failure}");
    assert!(world.pool().usage.is_some());
}

#[test]
fn never_means_no_disk_is_written() {
    let world = World::bare();
    refused(&world, &standing(), FailureKind::Missing);
}

#[test]
fn a_disk_that_holds_something_is_refused_unless_wiped() {
    let world = World::bare();
    scribble(&world, 1, 0);
    let message = refused(&world, &new(), FailureKind::NotBlank);
    assert!(message.contains("serial-DISK1"), "{message}");
    world
        .apply_pool(&pool(1, &DISKS, PoolFormat::Wipe))
        .unwrap();
    assert!(world.pool().usage.is_some());
}

#[test]
fn a_disk_of_another_pool_is_refused_unless_wiped() {
    let world = World::pooled();
    world.apply_pool(&absent(standing())).unwrap();
    refused(
        &world,
        &pool(2, &DISKS, PoolFormat::BlankOnly),
        FailureKind::NotBlank,
    );
    world
        .apply_pool(&pool(2, &DISKS, PoolFormat::Wipe))
        .unwrap();
    refused(&world, &standing(), FailureKind::InUse);
}

#[test]
fn a_disk_in_use_is_refused_even_if_it_is_to_be_wiped() {
    let world = World::pooled();
    refused(
        &world,
        &pool(2, &DISKS[..1], PoolFormat::Wipe),
        FailureKind::InUse,
    );
}

#[test]
fn wiping_again_does_not_wipe_the_pool_that_was_made() {
    let world = World::bare();
    let wipe = pool(1, &DISKS, PoolFormat::Wipe);
    world.apply_pool(&wipe).unwrap();
    world.apply(&volume(1).new_data()).unwrap();
    world.reboot();
    world.apply_pool(&wipe).unwrap();
    world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
}

#[test]
fn an_older_pool_of_the_same_id_is_neither_kept_nor_wiped() {
    for format in [PoolFormat::Wipe, PoolFormat::BlankOnly] {
        let world = World::pooled();
        world.apply(&volume(1).new_data()).unwrap();
        world.write(1, 3);
        world.reboot();
        let before = world.picture();
        let failure = world.apply_pool(&pool(1, &DISKS, format)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotBlank, "{failure}");
        assert!(failure.message.contains("3 blocks in use"), "{failure}");
        assert_eq!(world.picture(), before);
        // Whoever knows it finds it as it was, and keeps it when it is asked for anew.
        world.apply_pool(&standing()).unwrap();
        assert_eq!(world.holds(1), Some(3));
        let active = world.picture();
        let failure = world.apply_pool(&pool(1, &DISKS, format)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotBlank, "{failure}");
        assert_eq!(world.picture(), active);
    }
}

#[test]
fn lost_metadata_are_not_replaced_by_an_empty_pool() {
    let world = World::pooled();
    world.apply_pool(&absent(standing())).unwrap();
    let number = world.kernel.disk_number(&new().disks[0].id).unwrap();
    let disks = world.kernel.disks();
    let device = disks.open(number, Access::Exclusive).unwrap();
    device.write_at(Bytes(2 << 20), &[0; 4096]).unwrap();
    drop(device);
    refused(&world, &standing(), FailureKind::Missing);
}

#[test]
fn disks_keep_their_places() {
    let world = World::pooled();
    world.apply_pool(&absent(standing())).unwrap();
    let swapped = [DISKS[1], DISKS[0]];
    refused(
        &world,
        &pool(1, &swapped, PoolFormat::Never),
        FailureKind::Refused,
    );
    refused(
        &world,
        &pool(1, &DISKS[..1], PoolFormat::Never),
        FailureKind::Refused,
    );
}

#[test]
fn an_exchanged_disk_is_missed_not_formatted() {
    let world = World::pooled();
    world.apply_pool(&absent(standing())).unwrap();
    let number = world.kernel.disk_number(&new().disks[1].id).unwrap();
    let disks = world.kernel.disks();
    let device = disks.open(number, Access::Exclusive).unwrap();
    ashlar_kernel_iface::block::wipe_disk(&*device).unwrap();
    drop(device);
    refused(&world, &new(), FailureKind::Missing);
    refused(&world, &standing(), FailureKind::Missing);
}

#[test]
fn an_unknown_disk_is_missing() {
    let world = World::bare();
    let message = refused(
        &world,
        &pool(1, &["NOSUCH"], PoolFormat::Wipe),
        FailureKind::Missing,
    );
    assert!(message.contains("serial-NOSUCH"), "{message}");
}

#[test]
fn a_pool_has_room_for_its_metadata_or_is_refused() {
    let world = World::bare();
    let mut desired = new();
    desired.metadata = ashlar_targetd_protocol::Sectors(300 * MIB);
    refused(&world, &desired, FailureKind::NoSpace);
}

#[test]
fn numbers_the_kernel_would_refuse_are_refused_before() {
    let world = World::bare();
    for block in [0, 64, 129, 4_194_304] {
        let mut desired = new();
        desired.block = ashlar_targetd_protocol::Sectors(block);
        refused(&world, &desired, FailureKind::Refused);
    }
    refused(
        &world,
        &pool(1, &[], PoolFormat::BlankOnly),
        FailureKind::Refused,
    );
    refused(
        &world,
        &pool(1, &["DISK0", "DISK0"], PoolFormat::BlankOnly),
        FailureKind::Refused,
    );
}

#[test]
fn the_block_size_of_a_pool_is_for_good() {
    let world = World::pooled();
    let mut desired = standing();
    desired.block = ashlar_targetd_protocol::Sectors(256);
    refused(&world, &desired, FailureKind::Refused);
}

#[test]
fn the_low_water_mark_moves_while_the_pool_runs() {
    let world = World::pooled();
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]))
        .unwrap();
    let mut desired = standing();
    desired.low_water_blocks = 99;
    let report = world.apply_pool(&desired).unwrap();
    assert_eq!(report.steps, ["set the low water to 99 blocks"]);
    assert!(world.apply_pool(&desired).unwrap().steps.is_empty());
}

#[test]
fn a_crash_anywhere_while_a_pool_is_made_is_recovered() {
    for format in [PoolFormat::BlankOnly, PoolFormat::Wipe] {
        let steps = {
            let world = World::bare();
            scribble_if_wiped(&world, format);
            world.kernel.take_log();
            world.apply_pool(&pool(1, &DISKS, format)).unwrap();
            world.kernel.take_log().len() as u64
        };
        assert!(steps > 10, "{steps}");
        for step in 0..steps {
            let world = World::bare();
            scribble_if_wiped(&world, format);
            world.kernel.stop_after(step);
            assert!(
                world.apply_pool(&pool(1, &DISKS, format)).is_err(),
                "{step}"
            );
            // Half of the time the power goes too.
            if step % 2 == 0 {
                world.restart();
            } else {
                world.reboot();
            }
            world.apply_pool(&pool(1, &DISKS, format)).unwrap();
            assert!(world.apply_pool(&standing()).unwrap().steps.is_empty());
            world
                .apply(&volume(1).new_data().iscsi(&["alpha"]))
                .unwrap();
        }
    }
}

fn scribble_if_wiped(world: &World, format: PoolFormat) {
    if format == PoolFormat::Wipe {
        scribble(world, 0, 0);
        scribble(world, 0, 2 << 20);
        scribble(world, 1, 1 << 20);
    }
}

/// A blank disk like the others, and pool 1 is unknown to the kernel.
fn is_gone(world: &World) {
    let disks = world.disks();
    assert!(
        disks
            .iter()
            .all(|disk| !disk.in_use && disk.pool.is_none() && disk.content.is_none()),
        "{disks:?}"
    );
    assert_eq!(world.pool().usage, None);
    assert_eq!(world.picture(), World::bare().picture());
}

#[test]
fn a_destroyed_pool_leaves_blank_disks_for_another() {
    let world = World::pooled();
    world.apply(&volume(1).new_data()).unwrap();
    world.apply(&volume(1).tombstone()).unwrap();
    let desired = destroyed(standing(), false);
    assert!(!world.apply_pool(&desired).unwrap().steps.is_empty());
    is_gone(&world);
    assert!(world.apply_pool(&desired).unwrap().steps.is_empty());
    world
        .apply_pool(&pool(2, &DISKS, PoolFormat::BlankOnly))
        .unwrap();
    // It never takes what is another pool's by now.
    let picture = world.picture();
    assert!(world.apply_pool(&desired).unwrap().steps.is_empty());
    assert_eq!(world.picture(), picture);
}

#[test]
fn a_pool_that_holds_anything_is_destroyed_only_by_force() {
    let world = World::pooled();
    world.apply(&volume(1).new_data()).unwrap();
    world.write(1, 3);
    for active in [true, false] {
        if !active {
            world.reboot();
        }
        let failure = world.apply_pool(&destroyed(standing(), false)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotBlank, "{failure}");
        assert!(failure.message.contains("3 blocks"), "{failure}");
        assert_eq!(world.holds(1), Some(3));
    }
    world.apply_pool(&destroyed(standing(), true)).unwrap();
    is_gone(&world);
}

#[test]
fn a_pool_in_use_is_not_destroyed_even_by_force() {
    let world = World::pooled();
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]))
        .unwrap();
    for force in [false, true] {
        refused_in_use(&world, &destroyed(standing(), force));
    }
}

fn refused_in_use(world: &World, desired: &DesiredPool) {
    let picture = world.picture();
    let failure = world.apply_pool(desired).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InUse, "{failure}");
    assert_eq!(world.picture(), picture);
    assert!(world.disks().iter().all(|disk| disk.pool.is_some()));
}

#[test]
fn a_pool_whose_disk_is_missing_is_destroyed_only_by_force() {
    let world = World::pooled();
    world.apply_pool(&absent(standing())).unwrap();
    let desired = |force| destroyed(pool(1, &["DISK0", "GONE"], PoolFormat::Never), force);
    refused(&world, &desired(false), FailureKind::Missing);
    world.apply_pool(&desired(true)).unwrap();
    // What is not named is not touched.
    let pools: Vec<_> = world.disks().iter().map(|disk| disk.pool).collect();
    assert_eq!(pools, [None, Some(pool_id(1))]);
}

#[test]
fn a_pool_whose_disk_cannot_be_read_is_destroyed_only_by_force() {
    for broken in 0..2 {
        let world = World::pooled();
        world.apply_pool(&absent(standing())).unwrap();
        world.kernel.break_disk(&new().disks[broken].id).unwrap();
        refused(&world, &destroyed(standing(), false), FailureKind::Missing);
        world.apply_pool(&destroyed(standing(), true)).unwrap();
        let other = &world.disks()[1 - broken];
        assert_eq!((other.pool, other.in_use), (None, false), "{other:?}");
    }
}

#[test]
fn a_disk_that_cannot_be_wiped_keeps_no_other_from_it_by_force() {
    let world = World::pooled();
    for force in [false, true] {
        world.kernel.fail_matching("disk 254:0 write", Errno::EIO);
        let outcome = world.apply_pool(&destroyed(standing(), force));
        match force {
            true => drop(outcome.unwrap()),
            false => assert_eq!(outcome.unwrap_err().kind, FailureKind::Kernel),
        }
    }
    let pools: Vec<_> = world.disks().iter().map(|disk| disk.pool).collect();
    assert_eq!(pools, [Some(pool_id(1)), None]);
}

#[test]
fn a_pool_whose_first_disk_holds_something_else_is_destroyed_only_by_force() {
    let world = World::pooled();
    world.apply_pool(&absent(standing())).unwrap();
    for at in [0, 1 << 20, 3 << 19] {
        scribble(&world, 0, at);
    }
    refused(&world, &destroyed(standing(), false), FailureKind::Missing);
    world.apply_pool(&destroyed(standing(), true)).unwrap();
    assert_eq!(world.disks()[1].content, None);
    // What nobody knows is not wiped.
    assert!(world.disks()[0].content.is_some());
}

#[test]
fn a_pool_that_grows_is_destroyed_by_force() {
    let world = World::pooled();
    world
        .kernel
        .add_disk(ModelDisk::new("DISK2", Bytes(384 << 20)));
    let growing = growing(&standing(), "DISK2", PoolFormat::BlankOnly);
    world.kernel.stop_after(9);
    world.apply_pool(&growing).unwrap_err();
    world.restart();
    world.apply_pool(&destroyed(growing, true)).unwrap();
    let disks = world.disks();
    assert!(disks.iter().all(|disk| disk.content.is_none()), "{disks:?}");
}

#[test]
fn a_crash_anywhere_while_a_pool_is_destroyed_is_recovered() {
    let steps = {
        let world = World::pooled();
        world.kernel.take_log();
        world.apply_pool(&destroyed(standing(), false)).unwrap();
        world.kernel.take_log().len() as u64
    };
    assert!(steps > 8, "{steps}");
    for step in 0..steps {
        for power in [false, true] {
            let world = World::pooled();
            world.kernel.stop_after(step);
            world.apply_pool(&destroyed(standing(), false)).unwrap_err();
            if power {
                world.reboot();
            } else {
                world.restart();
            }
            world.apply_pool(&destroyed(standing(), false)).unwrap();
            is_gone(&world);
        }
    }
}
