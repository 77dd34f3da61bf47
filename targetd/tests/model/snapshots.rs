//! Snapshots: one instant, all or none, and what may be done to them.

use ashlar_kernel_iface::dm::DeviceMapper;
use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{FailureKind, Sectors};

use crate::wanted::*;
use crate::world::World;

/// What a refused state changes: nothing.
fn refused(world: &World, wanted: &Shots, kind: FailureKind) -> String {
    let before = world.picture();
    world.kernel.take_log();
    let failure = world.snapshots(wanted).unwrap_err();
    assert_eq!(failure.kind, kind, "{failure}");
    assert_eq!(world.calls(), Vec::<String>::new(), "{failure}");
    assert_eq!(world.picture(), before);
    failure.message
}

/// Volumes 1 to 3 with a block of content each, the first two in use by hosts.
fn furnished() -> World {
    let world = World::pooled();
    for n in 1..=3 {
        world.apply(&volume(n).new_data()).unwrap();
        world.write(u64::from(n), 1);
    }
    world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
    world.apply(&volume(2).nvme(&["beta"])).unwrap();
    world.kernel.take_log();
    world
}

fn group() -> Shots {
    shots_of(&[1, 2, 3])
}

/// What the group's snapshots hold.
fn held(world: &World) -> [Option<u64>; 3] {
    [101, 102, 103].map(|id| world.holds(id))
}

fn nothing_rests(world: &World) {
    for n in 1..=2 {
        assert!(!world.suspended(&volume_device(n)), "volume {n} rests");
    }
}

#[test]
fn a_snapshot_of_an_idle_volume_costs_one_message() {
    let world = furnished();
    world.snapshots(&shots_of(&[3])).unwrap();
    assert_eq!(world.calls(), ["message"]);
    assert_eq!(world.holds(103), Some(1));
    let again = world.snapshots(&shots_of(&[3])).unwrap();
    assert_eq!(again.steps, Vec::<String>::new());
    world.kernel.take_log();
    world.snapshots(&shots_of(&[3]).present()).unwrap();
    assert_eq!(world.calls(), Vec::<String>::new());
}

#[test]
fn a_volume_in_use_rests_for_its_snapshot_and_for_nothing_else() {
    let world = furnished();
    world.snapshots(&shots_of(&[1])).unwrap();
    assert_eq!(world.calls(), ["suspend", "message", "resume"]);
    world.write(1, 2);
    assert_eq!((world.holds(101), world.holds(1)), (Some(1), Some(2)));
    world.kernel.take_log();
    world.snapshots(&shots_of(&[1]).tombstone()).unwrap();
    assert_eq!(world.calls(), ["message"]);
}

#[test]
fn all_members_of_a_group_rest_before_the_first_snapshot_is_made() {
    let world = furnished();
    world.snapshots(&group()).unwrap();
    assert_eq!(
        world.calls(),
        [
            "suspend", "suspend", "message", "message", "message", "resume", "resume"
        ]
    );
    assert_eq!(held(&world), [Some(1); 3]);
    nothing_rests(&world);
}

#[test]
fn a_failure_in_the_middle_leaves_no_snapshot_and_nothing_at_rest() {
    for (call, errno, kind) in [
        ("create_snap 101", Errno::ENOSPC, FailureKind::NoSpace),
        ("create_snap 102", Errno::ENOSPC, FailureKind::NoSpace),
        ("create_snap 103", Errno::EIO, FailureKind::Kernel),
        (
            "suspend ashlar-vol-0b000000-0000-4000-8000-000000000001",
            Errno::EINTR,
            FailureKind::Kernel,
        ),
        (
            "suspend ashlar-vol-0b000000-0000-4000-8000-000000000002",
            Errno::EINTR,
            FailureKind::Kernel,
        ),
    ] {
        let world = furnished();
        world.kernel.fail_matching(call, errno);
        let failure = world.snapshots(&group()).unwrap_err();
        assert_eq!(failure.kind, kind, "{call}: {failure}");
        assert_eq!(held(&world), [None; 3], "{call}");
        nothing_rests(&world);
        world.snapshots(&group()).unwrap();
        assert_eq!(held(&world), [Some(1); 3], "{call}");
    }
}

#[test]
fn a_device_that_did_not_go_on_is_told_and_goes_on_with_the_next_attempt() {
    let world = furnished();
    world.kernel.fail_matching("dm resume", Errno::EIO);
    world.snapshots(&group()).unwrap_err();
    assert!(world.suspended(&volume_device(1)));
    assert!(!world.suspended(&volume_device(2)));
    // The instant was there: it is not taken again.
    world.write(2, 2);
    world.snapshots(&group()).unwrap();
    assert_eq!(held(&world), [Some(1); 3]);
    nothing_rests(&world);
}

#[test]
fn a_failure_that_could_not_be_cleaned_up_is_cleaned_up_by_the_next_attempt() {
    let world = furnished();
    world.kernel.fail_matching("create_snap 103", Errno::EIO);
    world.kernel.fail_matching("delete 102", Errno::EIO);
    world.snapshots(&group()).unwrap_err();
    assert_eq!(held(&world), [Some(1), Some(1), None]);
    for n in 1..=3 {
        world.write(n, 2);
    }
    world.snapshots(&group()).unwrap();
    assert_eq!(held(&world), [Some(2); 3]);
    nothing_rests(&world);
}

/// Killed at any call, and again at any call of the next attempt, with writes in between: what
/// exists in the end is of one instant, or nothing is.
#[test]
fn whoever_is_killed_at_whatever_moment_the_instant_is_one() {
    let mut worlds = 0;
    for first in 0..8 {
        for second in 0..14 {
            let world = furnished();
            world.kernel.stop_after(first);
            let _ = world.snapshots(&group());
            world.restart();
            rewrite(&world, 2);
            world.kernel.stop_after(second);
            let _ = world.snapshots(&group());
            world.restart();
            rewrite(&world, 3);
            world.snapshots(&group()).unwrap();
            let found = held(&world);
            assert!(found[0].is_some(), "{first} {second}");
            assert_eq!(found, [found[0]; 3], "{first} {second}");
            let again = world.snapshots(&group()).unwrap();
            assert_eq!(again.steps, Vec::<String>::new());
            // What rests goes on with the volume's own apply, or with the snapshots'.
            nothing_rests(&world);
            worlds += 1;
        }
    }
    assert_eq!(worlds, 112);
}

/// More content for all, one after the other as one writer does.
fn rewrite(world: &World, blocks: u64) {
    for n in 1..=3 {
        world.write(n, blocks);
    }
}

#[test]
fn whoever_is_killed_while_snapshots_go_they_go_in_the_end() {
    for step in 0..3 {
        let world = furnished();
        world.snapshots(&group()).unwrap();
        world.kernel.stop_after(step);
        world.snapshots(&group().tombstone()).unwrap_err();
        world.restart();
        // What is left is the beginning of them.
        let left = held(&world)
            .iter()
            .take_while(|held| held.is_some())
            .count();
        assert_eq!(left as u64, 3 - step);
        world.snapshots(&group().tombstone()).unwrap();
        assert_eq!(held(&world), [None; 3]);
        let again = world.snapshots(&group().tombstone()).unwrap();
        assert_eq!(again.steps, Vec::<String>::new());
    }
}

#[test]
fn a_held_snapshot_is_active_and_takes_no_writes() {
    let world = furnished();
    world.snapshots(&group()).unwrap();
    let before = world.picture();
    let middle = || shots_of(&[2]).present().held();
    world.snapshots(&middle()).unwrap();
    let info = world.kernel.dm().info(&snapshot_device(102)).unwrap();
    let info = info.unwrap();
    assert!(info.live && info.read_only);
    assert_eq!(world.active_snapshots(), [snapshot_id(102)]);
    assert_eq!(
        world.snapshots(&middle()).unwrap().steps,
        Vec::<String>::new()
    );
    world.snapshots(&shots_of(&[2]).present()).unwrap();
    assert_eq!(world.picture(), before);
}

#[test]
fn a_snapshot_that_is_still_read_is_not_destroyed() {
    let world = furnished();
    world.snapshots(&shots_of(&[3])).unwrap();
    world.snapshots(&shots_of(&[3]).present().held()).unwrap();
    refused(
        &world,
        &shots_of(&[3]).tombstone().held(),
        FailureKind::InUse,
    );
    world.snapshots(&shots_of(&[3]).tombstone()).unwrap();
    assert_eq!(world.holds(103), None);
    assert!(world.active_snapshots().is_empty());
}

#[test]
fn a_missing_snapshot_is_never_taken_again() {
    let world = furnished();
    let failure = world
        .snapshots(&shots_of(&[3]).present().held())
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Missing, "{failure}");
    assert_eq!(world.holds(103), None);
    assert!(world.active_snapshots().is_empty());
}

#[test]
fn a_snapshot_outlives_its_volume_and_is_cloned_without_it() {
    let world = furnished();
    world.snapshots(&shots_of(&[3])).unwrap();
    world.apply(&volume(3).tombstone()).unwrap();
    assert_eq!(world.holds(103), Some(1));
    let mut clone = volume(4).new_data().made_from(3, 103);
    clone.0.source.as_mut().unwrap().object = snapshot_id(103);
    world.apply(&clone).unwrap();
    world.snapshots(&shots_of(&[3]).tombstone()).unwrap();
    assert_eq!(world.holds(4), Some(1));
}

#[test]
fn a_held_snapshot_rests_while_it_is_cloned() {
    let world = furnished();
    world.snapshots(&shots_of(&[3])).unwrap();
    world.snapshots(&shots_of(&[3]).present().held()).unwrap();
    let mut clone = volume(4).new_data().made_from(3, 103);
    clone.0.source.as_mut().unwrap().object = snapshot_id(103);
    world.kernel.take_log();
    world.apply(&clone).unwrap();
    assert_eq!(world.calls(), ["suspend", "message", "resume"]);
}

#[test]
fn one_instant_has_one_snapshot_of_an_object() {
    let world = furnished();
    refused(&world, &shots_of(&[]), FailureKind::Refused);
    refused(&world, &shots_of(&[1, 1]), FailureKind::Refused);
    let mut same_origin = shots_of(&[1, 2]);
    same_origin.0.members[1].source = same_origin.0.members[0].source;
    refused(&world, &same_origin, FailureKind::Refused);
    let mut of_itself = shots_of(&[1]);
    of_itself.0.members[0].source.thin_id = of_itself.0.members[0].thin_id;
    refused(&world, &of_itself, FailureKind::Refused);
}

#[test]
fn a_size_no_snapshot_can_have_is_refused() {
    let world = furnished();
    for size in [0, i64::MAX as u64 / 512 + 1, u64::MAX] {
        let mut wanted = shots_of(&[1]);
        wanted.0.members[0].size = Sectors(size);
        refused(&world, &wanted, FailureKind::Refused);
    }
}

#[test]
fn a_snapshots_device_that_is_not_ours_is_left_alone() {
    let world = furnished();
    world.snapshots(&shots_of(&[3])).unwrap();
    let mark = "other".parse().unwrap();
    let device = snapshot_device(103);
    world.kernel.dm().create(&device, &mark).unwrap();
    refused(
        &world,
        &shots_of(&[3]).present().held(),
        FailureKind::Foreign,
    );
    refused(&world, &shots_of(&[3]).tombstone(), FailureKind::Foreign);
    assert!(world.active_snapshots().is_empty());
    assert_eq!(world.objects().2, [format!("device {device}")]);
    let failure = world.unexport(snapshot_id(103)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Foreign, "{failure}");
}

#[test]
fn without_its_pool_a_snapshot_is_missing() {
    let world = World::bare();
    for wanted in [
        shots_of(&[1]),
        shots_of(&[1]).present().held(),
        shots_of(&[1]).tombstone(),
    ] {
        refused(&world, &wanted, FailureKind::Missing);
    }
}

#[test]
fn a_stale_generation_of_snapshots_is_refused() {
    let world = furnished();
    let at = |mut shots: Shots, generation| {
        shots.0.generation = generation;
        shots
    };
    world.snapshots(&at(shots_of(&[3]), 9)).unwrap();
    refused(
        &world,
        &at(shots_of(&[3]).tombstone(), 8),
        FailureKind::Refused,
    );
    // Holding is nobody's intent, so its coming and going has no generation.
    world.snapshots(&at(shots_of(&[3]).held(), 9)).unwrap();
    world.snapshots(&at(shots_of(&[3]), 9)).unwrap();
}

#[test]
fn a_group_snapshot_may_have_the_id_of_a_snapshot() {
    let world = furnished();
    let mut one = shots_of(&[3]);
    one.0.generation = 9;
    world.snapshots(&one).unwrap();
    let mut whole = shots_of(&[1, 2]);
    (whole.0.id, whole.0.generation) = (one.0.id, 8);
    world.snapshots(&whole).unwrap();
    assert_eq!(held(&world), [Some(1); 3]);
    whole.0.generation = 7;
    let stale = refused(&world, &whole.tombstone(), FailureKind::Refused);
    let of = format!("of group snapshot {} is stale: 8", one.0.id);
    assert!(stale.contains(&of), "{stale}");
}

#[test]
fn an_active_snapshot_that_nobody_knows_loses_its_device_and_keeps_its_data() {
    let world = furnished();
    let before = world.picture();
    world.snapshots(&shots_of(&[3])).unwrap();
    world.snapshots(&shots_of(&[3]).present().held()).unwrap();
    world.restart();
    assert_eq!(world.active_snapshots(), [snapshot_id(103)]);
    world.unexport(snapshot_id(103)).unwrap();
    assert_eq!(world.picture(), before);
    assert_eq!(world.holds(103), Some(1));
    assert_eq!(world.unexport(snapshot_id(103)).unwrap().steps.len(), 0);
}

#[test]
fn a_snapshots_device_left_half_made_or_at_rest_is_mended() {
    for step in 0..3 {
        let world = furnished();
        world.snapshots(&shots_of(&[3])).unwrap();
        world.kernel.stop_after(step);
        let held = || shots_of(&[3]).present().held();
        world.snapshots(&held()).unwrap_err();
        world.restart();
        world.snapshots(&held()).unwrap();
        assert_eq!(
            world.snapshots(&held()).unwrap().steps,
            Vec::<String>::new()
        );
        let dm = world.kernel.dm();
        let flags = ashlar_kernel_iface::dm::SuspendFlags::FLUSH;
        dm.suspend(&snapshot_device(103), flags).unwrap();
        world.snapshots(&held()).unwrap();
        assert!(!world.suspended(&snapshot_device(103)));
    }
}
