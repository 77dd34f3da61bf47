//! Snapshots that hosts read: over iSCSI, and never written.

use std::collections::BTreeMap;

use ashlar_kernel_iface::dm::{DeviceMapper, SuspendFlags};
use ashlar_kernel_iface::model::SeenDisk;
use ashlar_targetd_protocol::{DataState, FailureKind, PoolFormat, SnapshotsKind, ThinId};

use crate::wanted::*;
use crate::world::{DISKS, World};

/// Volume 3 with a block of content and a snapshot of it, both idle.
fn furnished() -> World {
    let world = World::pooled();
    world.apply(&volume(3).new_data()).unwrap();
    world.write(3, 1);
    world.snapshots(&shots_of(&[3])).unwrap();
    world.kernel.take_log();
    world
}

fn read_by(hosts: &[&str]) -> Shots {
    shots_of(&[3]).present().read_by(hosts)
}

fn idle() -> Shots {
    shots_of(&[3]).present()
}

fn refused(world: &World, wanted: &Shots, kind: FailureKind) -> String {
    let before = world.picture();
    world.kernel.take_log();
    let failure = world.snapshots(wanted).unwrap_err();
    assert_eq!(failure.kind, kind, "{failure}");
    assert_eq!(world.calls(), Vec::<String>::new(), "{failure}");
    assert_eq!(world.picture(), before);
    failure.message
}

/// What a host sees once it has logged in to the snapshot.
fn seen(world: &World, host: &str) -> BTreeMap<u64, SeenDisk> {
    let target = snapshot_target(snapshot_id(103));
    let proof = chap(host, 1);
    let at = portal(0).socket();
    let login = world
        .kernel
        .iscsi_login(at, &target, &initiator(host), Some(&proof));
    login.unwrap()
}

#[test]
fn an_address_without_an_rdma_device_keeps_nobody_from_reading_over_iscsi() {
    let world = furnished();
    world.kernel.lose_rdma(portal(1).socket().ip());
    let failure = world
        .snapshots(&read_by(&["alpha"]).and_iser(1))
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Address, "{failure}");
    assert!(seen(&world, "alpha")[&0].write_protected);
}

#[test]
fn a_connected_snapshot_is_a_disk_of_its_own_that_takes_no_writes() {
    let world = furnished();
    let before = world.picture();
    world.apply(&volume(3).iscsi(&["alpha"])).unwrap();
    let alone = world.picture();
    world.snapshots(&read_by(&["alpha", "beta"])).unwrap();
    for host in ["alpha", "beta"] {
        let disk = &seen(&world, host)[&0];
        let device = world.kernel.dm().info(&snapshot_device(103));
        let device = device.unwrap().unwrap();
        assert!(device.read_only);
        assert_eq!(disk.device, device.number);
        assert_eq!(disk.serial, snapshot_id(103).simple().to_string());
        assert!(disk.write_protected);
        assert_eq!(disk.write_same, "0");
    }
    let again = world.snapshots(&read_by(&["alpha", "beta"])).unwrap();
    assert_eq!(again.steps, Vec::<String>::new());
    world
        .snapshots(&idle().cutting(&["alpha", "beta"]))
        .unwrap();
    assert_eq!(world.picture(), alone);
    world.apply(&volume(3)).unwrap();
    assert_eq!(world.picture(), before);
    assert_eq!(world.holds(103), Some(1));
}

#[test]
fn what_is_connected_and_held_stays_active_until_it_is_neither() {
    let world = furnished();
    let active = || world.active_snapshots() == [snapshot_id(103)];
    world.snapshots(&read_by(&["alpha"]).held()).unwrap();
    world.snapshots(&read_by(&["alpha"])).unwrap();
    assert!(active());
    world.snapshots(&idle().held()).unwrap();
    assert!(active());
    world.snapshots(&idle()).unwrap();
    assert!(!active());
}

#[test]
fn nothing_lets_a_host_write_to_a_snapshot() {
    let world = furnished();
    let mut writing = read_by(&["alpha"]);
    let iscsi = writing.0.members[0].exports.iscsi.as_mut().unwrap();
    for acl in iscsi.initiators.values_mut() {
        acl.read_only = false;
    }
    let reason = refused(&world, &writing, FailureKind::Refused);
    assert!(reason.contains("would write to snapshot"), "{reason}");
    let mut nvme = idle();
    nvme.0.members[0].exports.nvme = volume(3).nvme(&["beta"]).0.exports.nvme;
    refused(&world, &nvme, FailureKind::Unsupported);
    let mut strange = read_by(&["alpha"]);
    strange.0.members[0].exports = volume(3).iscsi(&["alpha"]).0.exports;
    refused(&world, &strange, FailureKind::Refused);
}

#[test]
fn a_snapshot_that_hosts_can_reach_is_not_destroyed() {
    let world = furnished();
    world.snapshots(&read_by(&["alpha"])).unwrap();
    let mut doomed = read_by(&["alpha"]);
    doomed.0.data = DataState::Tombstone;
    refused(&world, &doomed, FailureKind::Refused);
    world.snapshots(&idle().tombstone()).unwrap();
    assert_eq!(world.holds(103), None);
}

#[test]
fn members_of_a_group_that_is_made_are_not_exported_as_snapshots() {
    let world = furnished();
    let mut copies = shots_of(&[3]).read_by(&["alpha"]);
    copies.0.kind = SnapshotsKind::Group;
    copies.0.members[0].thin_id = ThinId::try_from(200).unwrap();
    refused(&world, &copies, FailureKind::Refused);
}

/// What is said of all at once has generations of its own, so it may come late, and knows nothing
/// of who reads which.
#[test]
fn a_late_message_for_all_changes_nothing_of_one_that_is_read_or_held() {
    let world = World::pooled();
    for n in 1..=3 {
        world.apply(&volume(n).new_data()).unwrap();
    }
    let all = || shots_of(&[1, 2, 3]);
    world.snapshots(&all()).unwrap();
    let read = || shots_of(&[3]).present().read_by(&["alpha"]);
    world.snapshots(&read()).unwrap();
    seen(&world, "alpha");
    world.snapshots(&shots_of(&[2]).present().held()).unwrap();
    let before = world.picture();
    for late in [all(), all().present()] {
        let report = world.snapshots(&late).unwrap();
        assert_eq!(report.steps, Vec::<String>::new());
        assert_eq!(world.picture(), before);
    }
    for late in [all(), all().present(), all().tombstone()] {
        refused(&world, &late.read_by(&["alpha"]), FailureKind::Refused);
    }
    // Who reads is asked before all are destroyed.
    refused(&world, &all().tombstone(), FailureKind::InUse);
    assert_eq!(seen(&world, "alpha").len(), 1);
    world
        .snapshots(&all().tombstone().cutting(&["alpha"]))
        .unwrap();
    assert!(world.active_snapshots().is_empty());
    assert_eq!([101, 102, 103].map(|n| world.holds(n)), [None; 3]);
}

#[test]
fn who_reads_a_snapshot_is_asked_first() {
    let world = furnished();
    world.snapshots(&read_by(&["alpha", "beta"])).unwrap();
    seen(&world, "alpha");
    let reason = refused(&world, &idle(), FailureKind::InUse);
    assert!(reason.contains("is in use by"), "{reason}");
    refused(&world, &read_by(&["beta"]), FailureKind::InUse);
    world
        .snapshots(&read_by(&["beta"]).cutting(&["alpha"]))
        .unwrap();
    let again = world.snapshots(&read_by(&["beta"])).unwrap();
    assert_eq!(again.steps, Vec::<String>::new());
}

#[test]
fn access_is_not_lost_while_the_intent_stays() {
    let world = furnished();
    let at = |mut shots: Shots, generation| {
        shots.0.generation = generation;
        shots
    };
    world
        .snapshots(&at(read_by(&["alpha", "beta"]), 9))
        .unwrap();
    refused(&world, &at(read_by(&["alpha"]), 9), FailureKind::Refused);
    refused(&world, &at(idle(), 9), FailureKind::Refused);
    world.snapshots(&at(read_by(&["alpha"]), 10)).unwrap();
}

#[test]
fn whoever_is_killed_at_whatever_step_it_is_so_in_the_end() {
    let mut kills = 0;
    for step in 0.. {
        let world = furnished();
        world.kernel.stop_after(step);
        if world.snapshots(&read_by(&["alpha"])).is_ok() {
            break;
        }
        kills += 1;
        world.restart();
        world.snapshots(&read_by(&["alpha"])).unwrap();
        let again = world.snapshots(&read_by(&["alpha"])).unwrap();
        assert_eq!(again.steps, Vec::<String>::new(), "{step}");
        let disk = &seen(&world, "alpha")[&0];
        assert!(disk.write_protected, "{step}");
        assert_eq!(disk.write_same, "0", "{step}");
    }
    assert!(kills > 21, "{kills}");
    let mut kills = 0;
    for step in 0.. {
        let world = furnished();
        let before = world.picture();
        world.snapshots(&read_by(&["alpha"])).unwrap();
        world.kernel.stop_after(step);
        if world.snapshots(&idle()).is_ok() {
            break;
        }
        kills += 1;
        world.restart();
        world.snapshots(&idle()).unwrap();
        assert_eq!(world.picture(), before, "{step}");
    }
    assert!(kills > 7, "{kills}");
}

#[test]
fn a_connected_snapshot_rests_while_it_is_cloned_and_goes_on_before_it_is_taken_away() {
    let world = furnished();
    world.snapshots(&read_by(&["alpha"])).unwrap();
    let mut clone = volume(4).new_data().made_from(3, 103);
    clone.0.source.as_mut().unwrap().object = snapshot_id(103);
    world.kernel.take_log();
    world.apply(&clone).unwrap();
    assert_eq!(world.calls(), ["suspend", "message", "resume"]);
    let dm = world.kernel.dm();
    let rest = || drop(dm.suspend(&snapshot_device(103), SuspendFlags::NO_FLUSH));
    rest();
    let report = world.snapshots(&read_by(&["alpha"])).unwrap();
    assert_eq!(report.steps.len(), 1, "{:?}", report.steps);
    assert!(!world.suspended(&snapshot_device(103)));
    rest();
    let report = world.snapshots(&idle()).unwrap();
    assert!(report.steps[0].starts_with("resume"), "{:?}", report.steps);
}

#[test]
fn a_power_cut_leaves_what_was_connected_to_be_connected_again() {
    let world = furnished();
    world.snapshots(&read_by(&["alpha"])).unwrap();
    let before = world.picture();
    world.reboot();
    let again = pool(1, &DISKS, PoolFormat::Never);
    world.apply_pool(&again).unwrap();
    world.snapshots(&read_by(&["alpha"])).unwrap();
    assert_eq!(world.picture(), before);
    assert!(seen(&world, "alpha")[&0].write_protected);
}

#[test]
fn a_connected_snapshot_that_nobody_knows_loses_all_but_its_data() {
    let world = furnished();
    let before = world.picture();
    world.snapshots(&read_by(&["alpha"])).unwrap();
    world.restart();
    assert_eq!(world.active_snapshots(), [snapshot_id(103)]);
    assert!(world.objects().1.contains(&snapshot_id(103)));
    seen(&world, "alpha");
    let failure = world.unexport(snapshot_id(103)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InUse, "{failure}");
    // Its session ends with the next power cut, or with the host's leaving.
    let world = furnished();
    world.snapshots(&read_by(&["alpha"])).unwrap();
    world.unexport(snapshot_id(103)).unwrap();
    assert_eq!(world.picture(), before);
    assert_eq!(world.holds(103), Some(1));
    assert_eq!(world.unexport(snapshot_id(103)).unwrap().steps.len(), 0);
}
