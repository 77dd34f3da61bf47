//! What the main plans do, step by step and call by call, kept as text to be read.
//!
//! `UPDATE_GOLDEN=1` writes the files anew.

use std::fmt::Write as _;
use std::path::Path;

use ashlar_kernel_iface::model::ModelDisk;
use ashlar_targetd_protocol::{Bytes, Failure, PoolFormat, RaidLevel, Report};

use crate::wanted::*;
use crate::world::{DISKS, World};

/// The steps reported, then the kernel calls they were made of.
fn transcript(world: &World, apply: impl FnOnce() -> Result<Report, Failure>) -> String {
    world.kernel.take_log();
    let report = apply().unwrap();
    let mut text = String::from("steps:\n");
    for step in &report.steps {
        writeln!(text, "  {step}").unwrap();
    }
    text.push_str("\nkernel:\n");
    for call in world.kernel.take_log() {
        writeln!(text, "  {call}").unwrap();
    }
    text
}

fn check(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert_eq!(kept, found, "{name} is not what happens any more");
}

#[test]
fn the_main_plans_read_as_they_are_kept() {
    let world = World::bare();
    let disks = &DISKS[..1];
    let pool_of = |format| pool(1, disks, format);
    let step = |name: &str, wanted: Wanted| {
        check(name, &transcript(&world, || world.apply(&wanted)));
    };
    let pool_step = |name: &str, desired| {
        check(name, &transcript(&world, || world.apply_pool(&desired)));
    };
    pool_step("pool-create.txt", pool_of(PoolFormat::BlankOnly));
    step("volume-create.txt", volume(1).new_data());
    step("volume-attach-iscsi.txt", volume(1).iscsi(&["alpha"]));
    step(
        "volume-attach-nvme.txt",
        volume(1).iscsi(&["alpha"]).nvme(&["beta"]),
    );
    step(
        "volume-grow.txt",
        volume(1).sized(16).iscsi(&["alpha"]).nvme(&["beta"]),
    );
    let limited = || {
        let volume = volume(1).sized(16).iops(100, 200);
        volume.iscsi(&["alpha"]).nvme(&["beta"])
    };
    step("volume-limit.txt", limited());
    step(
        "volume-limit-total.txt",
        limited().iops(0, 50).total_bytes(1 << 20),
    );
    step("volume-detach-limited.txt", volume(1).sized(16));
    step("volume-attach-limited.txt", limited());
    step(
        "volume-unlimit.txt",
        volume(1).sized(16).iscsi(&["alpha"]).nvme(&["beta"]),
    );
    step(
        "volume-detach-iscsi.txt",
        volume(1).sized(16).nvme(&["beta"]),
    );
    step("volume-detach-last.txt", volume(1).sized(16));
    step("volume-delete.txt", volume(1).tombstone());
    pool_step("pool-deactivate.txt", absent(pool_of(PoolFormat::Never)));
    pool_step("pool-activate.txt", pool_of(PoolFormat::Never));
}

#[test]
fn a_move_reads_as_it_is_kept() {
    let world = World::with_two_pools();
    world.apply(&volume(1).new_data()).unwrap();
    let attached = |wanted: Wanted| wanted.iscsi(&["alpha"]).nvme(&["beta"]);
    world.apply(&attached(volume(1))).unwrap();
    let step = |name: &str, wanted: Wanted| {
        check(name, &transcript(&world, || world.apply(&attached(wanted))));
    };
    let moving = || volume(1).moving_to(8);
    step("move-begin.txt", moving().copied_as(20));
    step(
        "move-copy-again.txt",
        moving().copied_as(21).retiring(1, 20),
    );
    step("move-stop.txt", moving().copied_as(22).still());
    step("move-go-on.txt", moving().copied_as(22));
    step("move-stop-again.txt", moving().copied_as(23).still());
    let elsewhere = volume(1).in_pool(2).on_thin(8);
    let elsewhere = [1, 21, 22, 23]
        .into_iter()
        .fold(elsewhere, |wanted, thin| wanted.retiring(1, thin));
    step("move-switch.txt", elsewhere);

    world.apply(&volume(2).new_data()).unwrap();
    let moving = volume(2).moving_to(9).copied_as(30).still();
    world.apply(&attached(volume(2))).unwrap();
    world.apply(&attached(moving)).unwrap();
    step("move-give-up.txt", volume(2).retiring(2, 9).retiring(1, 30));
}

#[test]
fn what_is_made_from_volumes_reads_as_it_is_kept() {
    let world = World::pooled();
    for n in 1..=2 {
        world.apply(&volume(n).new_data()).unwrap();
    }
    world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
    let step = |name: &str, wanted: Wanted| {
        check(name, &transcript(&world, || world.apply(&wanted)));
    };
    let shot = |name: &str, wanted: Shots| {
        check(name, &transcript(&world, || world.snapshots(&wanted)));
    };
    shot("snapshot-create.txt", shots_of(&[1]));
    shot("snapshot-hold.txt", shots_of(&[1]).present().held());
    shot("snapshot-release.txt", shots_of(&[1]).present());
    shot(
        "snapshot-attach.txt",
        shots_of(&[1]).present().read_by(&["gamma"]),
    );
    shot("snapshot-detach.txt", shots_of(&[1]).present());
    step("volume-clone.txt", volume(3).new_data().made_from(1, 1));
    let reverted = |wanted: Wanted| wanted.on_thin(9).retiring(1, 1);
    let attached = |wanted: Wanted| reverted(wanted).iscsi(&["alpha"]);
    let source = |wanted: Wanted| wanted.new_data().made_from(101, 101);
    step("volume-revert-attached.txt", source(attached(volume(1))));
    step("volume-replace.txt", attached(volume(1)).replacing());
    step("volume-retire.txt", attached(volume(1)));
    let idle = |wanted: Wanted| wanted.on_thin(10).retiring(1, 2);
    step("volume-revert.txt", source(idle(volume(2))));
    step("volume-hold.txt", idle(volume(2)).held());
    step("volume-create-again.txt", volume(4).on_thin(10).new_data());
    shot("snapshot-delete.txt", shots_of(&[1]).tombstone());
    let mut group = shots_of(&[1, 2]);
    for (member, thin_id) in group.0.members.iter_mut().zip([9_u64, 10]) {
        member.source.thin_id = thin_id.try_into().unwrap();
    }
    shot("group-snapshot.txt", group);
}

#[test]
fn pools_that_grow_and_go_read_as_they_are_kept() {
    let world = World::pooled();
    let before = pool(1, &DISKS, PoolFormat::Never);
    let disk = ModelDisk::new("DISK2", Bytes(384 << 20));
    world.kernel.add_disk(disk);
    let desired = growing(&before, "DISK2", PoolFormat::BlankOnly);
    check(
        "pool-grow.txt",
        &transcript(&world, || world.apply_pool(&desired)),
    );
    let desired = destroyed(grown(&desired), false);
    check(
        "pool-destroy.txt",
        &transcript(&world, || world.apply_pool(&desired)),
    );
}

#[test]
fn disks_that_stand_in_for_each_other_read_as_they_are_kept() {
    let world = World::bare();
    let disk = ModelDisk::new("DISK2", Bytes(256 << 20));
    world.kernel.add_disk(disk);
    let desired = redundant(RaidLevel::Raid1, &DISKS, PoolFormat::BlankOnly);
    check(
        "pool-create-raid.txt",
        &transcript(&world, || world.apply_pool(&desired)),
    );
    world.kernel.finish_arrays();
    let standing = redundant(RaidLevel::Raid1, &DISKS, PoolFormat::Never);
    let pulled = world.kernel.pull_disk(&standing.disks[1].id).unwrap();
    world.kernel.plug_disk(pulled);
    check(
        "pool-rejoin.txt",
        &transcript(&world, || world.apply_pool(&standing)),
    );
    world.kernel.finish_arrays();
    let desired = replacing(&standing, 0, "DISK2", PoolFormat::BlankOnly);
    check(
        "pool-replace.txt",
        &transcript(&world, || world.apply_pool(&desired)),
    );
}
