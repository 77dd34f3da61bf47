//! Volumes made from others, put on other thin devices, and held for the agent.

use ashlar_kernel_iface::dm::{DeviceMapper, SuspendFlags};
use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{FailureKind, Sectors};

use crate::wanted::*;
use crate::world::{DISKS, World};

/// Blocks of 64 KiB, as sectors.
fn blocks(count: u64) -> Option<Sectors> {
    Some(Sectors(count * 128))
}

fn mapped(world: &World, wanted: Wanted) -> Option<Sectors> {
    let mapped = world.volume(&wanted).mapped;
    assert!(mapped.is_some(), "the device is not active");
    mapped
}

/// A clone of volume 1 as volume 2.
fn clone() -> Wanted {
    volume(2).new_data().made_from(1, 1)
}

/// Volume 1 with three blocks of content.
fn written(world: &World) {
    world.apply(&volume(1).new_data()).unwrap();
    world.write(1, 3);
}

#[test]
fn a_clone_of_an_idle_volume_costs_one_message() {
    let world = World::pooled();
    written(&world);
    world.kernel.take_log();
    world.apply(&clone()).unwrap();
    assert_eq!(world.calls(), ["message"]);
    world.apply(&clone().held()).unwrap();
    assert_eq!(mapped(&world, volume(2)), blocks(3));
}

#[test]
fn the_source_rests_while_it_is_cloned_and_goes_on_whatever_happens() {
    let world = World::pooled();
    written(&world);
    world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
    world.kernel.take_log();
    world.apply(&clone()).unwrap();
    assert_eq!(world.calls(), ["suspend", "message", "resume"]);
    world.apply(&volume(2).tombstone()).unwrap();

    world.kernel.fail_matching("create_snap", Errno::ENOSPC);
    let failure = world.apply(&clone()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NoSpace, "{failure}");
    assert!(!world.suspended(&volume_device(1)));
}

#[test]
fn a_source_that_a_killed_process_left_at_rest_goes_on() {
    for step in 1..3 {
        let world = World::pooled();
        written(&world);
        world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
        world.kernel.stop_after(step);
        world.apply(&clone()).unwrap_err();
        world.restart();
        assert!(world.suspended(&volume_device(1)));
        world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
        assert!(!world.suspended(&volume_device(1)));
        world.apply(&clone()).unwrap();
    }
}

#[test]
fn a_table_that_waits_at_the_source_does_not_become_live_by_a_clone() {
    let world = World::pooled();
    written(&world);
    world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
    // As far as loading the larger table.
    world.kernel.stop_after(1);
    world
        .apply(&volume(1).sized(16).iscsi(&["alpha"]))
        .unwrap_err();
    world.restart();
    world.apply(&clone()).unwrap();
    assert_eq!(world.volume(&volume(1)).active, Some(Sectors(8 * MIB)));
}

#[test]
fn a_new_volume_is_made_again_on_its_own_blank_thin_device() {
    let world = World::pooled();
    world.apply(&volume(1).new_data()).unwrap();
    world.restart();
    let before = world.picture();
    let again = world.apply(&volume(1).new_data()).unwrap();
    assert_eq!(again.steps, Vec::<String>::new());
    assert_eq!(world.picture(), before);
}

#[test]
fn a_volume_never_shows_what_a_thin_device_held_before() {
    let world = World::pooled();
    written(&world);
    let before = world.picture();
    // Volume 2 is given the thin device of volume 1.
    let stolen = volume(2).on_thin(1).new_data().iscsi(&["alpha"]);
    let failure = world.apply(&stolen).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Occupied, "{failure}");
    assert!(failure.message.contains("holds 384 sectors"), "{failure}");
    assert_eq!(world.picture(), before);
    world.apply(&volume(1).held()).unwrap();
    assert_eq!(mapped(&world, volume(1)), blocks(3));
}

#[test]
fn a_look_that_was_interrupted_leaves_nothing_behind() {
    let looks = {
        let world = World::pooled();
        world.apply(&volume(1).new_data()).unwrap();
        world.kernel.take_log();
        world.apply(&volume(1).new_data()).unwrap();
        world.calls().len() as u64
    };
    assert_eq!(looks, 5);
    for step in 0..looks {
        let world = World::pooled();
        world.apply(&volume(1).new_data()).unwrap();
        let before = world.picture();
        world.kernel.stop_after(step);
        world.apply(&volume(1).new_data()).unwrap_err();
        world.restart();
        assert_eq!(world.picture(), before, "step {step}");
        world.apply(&volume(1).new_data()).unwrap();
        assert_eq!(world.picture(), before, "step {step}");
    }
}

#[test]
fn a_look_that_could_not_be_ended_is_ended_by_the_next() {
    let world = World::pooled();
    world.apply(&volume(1).new_data()).unwrap();
    let before = world.picture();
    world
        .kernel
        .fail_matching("remove ashlar-probe", Errno::EBUSY);
    let failure = world.apply(&volume(1).new_data()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InUse, "{failure}");
    assert_eq!(world.objects().2, Vec::<String>::new());
    world.apply(&volume(1).new_data()).unwrap();
    assert_eq!(world.picture(), before);
}

#[test]
fn a_held_volume_is_active_and_nobody_can_reach_it() {
    let world = World::pooled();
    let empty = world.picture();
    world.apply(&volume(1).new_data().held()).unwrap();
    let seen = world.volume(&volume(1));
    assert_eq!(seen.active, Some(Sectors(8 * MIB)));
    assert!(seen.exported.is_empty());
    world.apply(&volume(1).held().iscsi(&["alpha"])).unwrap();
    world.apply(&volume(1).held()).unwrap();
    assert!(world.volume(&volume(1)).active.is_some());
    world.apply(&volume(1)).unwrap();
    assert_eq!(world.picture(), empty);
}

#[test]
fn a_volume_that_is_still_needed_is_not_destroyed() {
    let world = World::pooled();
    written(&world);
    world.apply(&volume(1).held()).unwrap();
    let failure = world.apply(&volume(1).held().tombstone()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InUse, "{failure}");
    assert_eq!(mapped(&world, volume(1)), blocks(3));
    world.apply(&volume(1).tombstone()).unwrap();
}

/// Volume 1 on thin device 9, a snapshot's content, instead of 1.
fn reverted() -> Wanted {
    volume(1)
        .new_data()
        .on_thin(9)
        .made_from(5, 5)
        .retiring(1, 1)
}

/// The same, once that is known to be there.
fn replaced() -> Wanted {
    settled().replacing()
}

/// The same, once the volume is on it.
fn settled() -> Wanted {
    volume(1).on_thin(9).retiring(1, 1)
}

/// Three blocks in a snapshot (thin device 5), five in volume 1 since.
fn snapshotted(world: &World) {
    written(world);
    let snapshot = volume(5).new_data().made_from(1, 1);
    world.apply(&snapshot).unwrap();
    world.write(1, 5);
}

#[test]
fn a_revert_exchanges_the_data_beneath_what_is_exported() {
    let world = World::pooled();
    snapshotted(&world);
    let exported = |wanted: Wanted| wanted.iscsi(&["alpha"]).nvme(&["beta"]);
    world.apply(&exported(volume(1))).unwrap();
    assert_eq!(mapped(&world, volume(1)), blocks(5));
    let chap = chap("alpha", 1);
    let at = portal(0).socket();
    world
        .kernel
        .iscsi_login(at, &target(1), &initiator("alpha"), Some(&chap))
        .unwrap();
    let before = world.picture();
    world.kernel.take_log();

    for (wanted, calls, holds) in [
        (reverted(), &["message"][..], blocks(5)),
        (replaced(), &["load", "resume"], blocks(3)),
    ] {
        world.apply(&exported(wanted.clone())).unwrap();
        assert_eq!(world.calls(), calls);
        assert_eq!(world.picture(), before);
        assert_eq!(mapped(&world, volume(1)), holds);
        let again = world.apply(&exported(wanted)).unwrap();
        assert_eq!(again.steps, Vec::<String>::new());
        world.kernel.take_log();
    }
    // The old data goes once it is known that nothing needs it.
    world.kernel.take_log();
    world.apply(&exported(settled())).unwrap();
    assert_eq!(world.calls(), ["message"]);
    let again = world.apply(&exported(settled())).unwrap();
    assert_eq!(again.steps, Vec::<String>::new());
    let failure = world.apply(&volume(3).on_thin(1).held()).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Missing, "{failure}");
}

#[test]
fn a_revert_without_room_leaves_the_volume_as_it_was() {
    let world = World::pooled();
    snapshotted(&world);
    world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
    world.kernel.fail_matching("create_snap", Errno::ENOSPC);
    let failure = world.apply(&reverted().iscsi(&["alpha"])).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NoSpace, "{failure}");
    assert_eq!(mapped(&world, volume(1)), blocks(5));
    let back = world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
    assert_eq!(back.steps, Vec::<String>::new());
}

#[test]
fn while_what_takes_its_place_is_made_a_volume_stays_what_it_is() {
    let world = World::pooled();
    snapshotted(&world);
    // Nobody reached it before, or somebody did.
    for exported in [reverted().held(), reverted().iscsi(&["alpha"])] {
        world.apply(&exported).unwrap();
        assert_eq!(mapped(&world, volume(1)), blocks(5));
    }
    world.write(1, 6);
    let back = volume(1).retiring(1, 9).iscsi(&["alpha"]);
    world.apply(&back).unwrap();
    assert_eq!(mapped(&world, volume(1)), blocks(6));
    assert_eq!(world.holds(9), None);
}

#[test]
fn once_a_volume_is_on_what_takes_its_place_it_is_never_put_back_to_make_it() {
    let world = World::pooled();
    snapshotted(&world);
    for wanted in [reverted(), replaced(), reverted()] {
        world.apply(&wanted.iscsi(&["alpha"])).unwrap();
    }
    assert_eq!(mapped(&world, volume(1)), blocks(3));
}

#[test]
fn a_device_at_rest_goes_on_where_it_is_to_be_before_hosts_lose_it() {
    for (wanted, calls) in [
        (reverted(), &["resume"][..]),
        (replaced(), &["load", "resume"]),
    ] {
        let world = World::pooled();
        snapshotted(&world);
        world.apply(&reverted().iscsi(&["alpha"])).unwrap();
        let dm = world.kernel.dm();
        dm.suspend(&volume_device(1), SuspendFlags::NO_FLUSH)
            .unwrap();
        world.kernel.take_log();
        world.apply(&wanted).unwrap();
        assert_eq!(world.calls()[..calls.len()], *calls);
    }
}

#[test]
fn a_volume_that_is_extended_while_what_takes_its_place_is_made_grows_where_it_is() {
    let world = World::pooled();
    snapshotted(&world);
    world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
    let larger = reverted().sized(16).iscsi(&["alpha"]);
    world.apply(&larger).unwrap();
    let seen = world.volume(&volume(1));
    assert_eq!(
        (seen.active, seen.mapped),
        (Some(Sectors(16 * MIB)), blocks(5))
    );
}

#[test]
fn every_call_of_a_revert_can_be_the_last() {
    for exported in [false, true] {
        let with = |wanted: Wanted| match exported {
            true => wanted.iscsi(&["alpha"]),
            false => wanted,
        };
        for (before, wanted) in [
            (volume(1), reverted()),
            (reverted(), replaced()),
            (replaced(), settled()),
        ] {
            let start = || {
                let world = World::pooled();
                snapshotted(&world);
                world.apply(&with(volume(1))).unwrap();
                if before.0.thin_id != volume(1).0.thin_id {
                    world.apply(&with(reverted())).unwrap();
                }
                world.apply(&with(before.clone())).unwrap();
                world.kernel.take_log();
                world
            };
            let wanted = with(wanted);
            let steps = {
                let world = start();
                world.apply(&wanted).unwrap();
                world.calls().len() as u64
            };
            for step in 0..steps {
                let world = start();
                world.kernel.stop_after(step);
                world.apply(&wanted).unwrap_err();
                world.restart();
                world.apply(&wanted).unwrap();
                let again = world.apply(&wanted).unwrap();
                assert_eq!(again.steps, Vec::<String>::new(), "step {step}");
                world.apply(&settled().held()).unwrap();
                assert_eq!(mapped(&world, volume(1)), blocks(3), "step {step}");
            }
        }
    }
}

#[test]
fn what_a_volume_is_on_is_never_retired() {
    let world = World::pooled();
    written(&world);
    world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
    world.kernel.take_log();
    let contradiction = volume(1).iscsi(&["alpha"]).retiring(1, 1);
    let failure = world.apply(&contradiction).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert_eq!(world.calls(), Vec::<String>::new());
}

#[test]
fn a_device_on_a_thin_device_that_was_never_the_volumes_is_foreign() {
    let world = World::pooled();
    written(&world);
    world.apply(&volume(2).new_data()).unwrap();
    world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
    let other = volume(1).on_thin(2).retiring(1, 7).iscsi(&["alpha"]);
    let failure = world.apply(&other).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Foreign, "{failure}");
}

#[test]
fn a_volume_goes_to_another_pool_beneath_its_exports() {
    let world = World::bare();
    for n in [1, 2] {
        let disk = &DISKS[n - 1..n];
        let format = ashlar_targetd_protocol::PoolFormat::BlankOnly;
        world.apply_pool(&pool(n as u128, disk, format)).unwrap();
    }
    let exported = |wanted: Wanted| wanted.iscsi(&["alpha"]).nvme(&["beta"]);
    world.apply(&exported(volume(1).new_data())).unwrap();
    let before = world.picture();
    // A target for the copy, filled under another name.
    world.apply(&volume(8).in_pool(2).new_data()).unwrap();
    let moved = || exported(volume(1).in_pool(2).on_thin(8).retiring(1, 1));
    world.apply(&moved()).unwrap();
    assert_eq!(world.picture(), before);
    assert_eq!(world.apply(&moved()).unwrap().steps, Vec::<String>::new());

    // Its old pool can go now, and come back without the volume noticing.
    let format = ashlar_targetd_protocol::PoolFormat::Never;
    world
        .apply_pool(&absent(pool(1, &DISKS[..1], format)))
        .unwrap();
    world
        .apply(&exported(volume(1).in_pool(2).on_thin(8)))
        .unwrap();
}

#[test]
fn a_pool_that_is_gone_keeps_nobody_from_a_volume_that_left_it() {
    let world = World::pooled();
    world.apply(&volume(1).new_data()).unwrap();
    let moved = volume(1).retiring(7, 1).iscsi(&["alpha"]);
    let failure = world.apply(&moved).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Missing, "{failure}");
    assert_eq!(world.volume(&volume(1)).exported.len(), 1);
}
