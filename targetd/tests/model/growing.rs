//! Pools that grow by disks while they are in use.

use ashlar_kernel_iface::block::{Access, DiskContent, Disks, probe, wipe_disk};
use ashlar_kernel_iface::dm::{DeviceMapper, DmName, SuspendFlags};
use ashlar_kernel_iface::model::ModelDisk;
use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd::ours::{self, PoolPart};
use ashlar_targetd_protocol::{Bytes, DesiredPool, FailureKind, PoolFormat};
use proptest::prelude::*;

use crate::wanted::*;
use crate::world::{DISKS, World};

/// The disk that comes: larger than the others.
const NEW: &str = "DISK2";

fn before() -> DesiredPool {
    pool(1, &DISKS, PoolFormat::Never)
}

fn growth(format: PoolFormat) -> DesiredPool {
    growing(&before(), NEW, format)
}

/// Pool 1 on two disks with a volume that a host uses, and a third disk.
fn furnished() -> World {
    let world = World::pooled();
    let disk = ModelDisk::new(NEW, Bytes(384 << 20));
    world.kernel.add_disk(disk);
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]))
        .unwrap();
    world.write(1, 3);
    world
}

/// What a disk holds at its edges.
fn holds(world: &World, serial: &str) -> DiskContent {
    let id = format!("serial-{serial}").parse().unwrap();
    let number = world.kernel.disk_number(&id).unwrap();
    let disk = world.kernel.disks().open(number, Access::Read).unwrap();
    probe(&*disk).unwrap()
}

/// Which disk of how many each says it is, with how much metadata.
fn labels(world: &World, serials: &[&str]) -> Vec<Option<(u32, u32, u64)>> {
    let label = |serial: &&str| match holds(world, serial) {
        DiskContent::Pool { label, .. } => Some((label.index, label.count, label.metadata.0 / MIB)),
        _ => None,
    };
    serials.iter().map(label).collect()
}

fn write_to(world: &World, serial: &str, at: u64) {
    let id = format!("serial-{serial}").parse().unwrap();
    let number = world.kernel.disk_number(&id).unwrap();
    let disk = world.kernel.disks().open(number, Access::Shared).unwrap();
    disk.write_at(Bytes(at), &[0xa5; 4096]).unwrap();
}

/// The pool has what three disks give, under the same volume.
fn has_grown(world: &World) {
    let usage = world.pool().usage.unwrap();
    // 256 + 256 + 384 MiB, less 3 MiB of each disk and two times 4 MiB of metadata.
    assert_eq!(usage.data_total, (896 - 9 - 8) * 16);
    assert_eq!(usage.metadata_total, 8 * 256);
    assert_eq!(world.holds(1), Some(3));
    let all = [DISKS[0], DISKS[1], NEW];
    let of_three = [Some((0, 3, 8)), Some((1, 3, 8)), Some((2, 3, 8))];
    assert_eq!(labels(world, &all), of_three);
}

#[test]
fn a_pool_grows_beneath_its_volumes_and_then_stands() {
    let world = furnished();
    let picture = world.picture();
    let desired = growth(PoolFormat::BlankOnly);
    assert!(!world.apply_pool(&desired).unwrap().steps.is_empty());
    assert_eq!(world.picture(), picture);
    has_grown(&world);
    assert!(world.apply_pool(&desired).unwrap().steps.is_empty());
    let standing = grown(&desired);
    assert!(world.apply_pool(&standing).unwrap().steps.is_empty());
    world.reboot();
    world.apply_pool(&standing).unwrap();
    has_grown(&world);
    // And once more, whatever is asked for.
    let disk = ModelDisk::new("DISK3", Bytes(64 << 20));
    world.kernel.add_disk(disk);
    let again = growing(&standing, "DISK3", PoolFormat::BlankOnly);
    world.apply_pool(&again).unwrap();
    assert_eq!(world.pool().usage.unwrap().metadata_total, 12 * 256);
}

#[test]
fn a_full_pool_that_grows_is_not_full_any_more() {
    let world = furnished();
    let total = world.pool().usage.unwrap().data_total;
    world.write(1, total);
    assert!(world.pool().degraded);
    world.apply_pool(&growth(PoolFormat::BlankOnly)).unwrap();
    assert!(!world.pool().degraded);
    world.write(1, total + 1);
}

#[test]
fn a_disk_that_holds_something_joins_only_when_wiped() {
    let world = furnished();
    write_to(&world, NEW, 0);
    let picture = world.picture();
    world.kernel.take_log();
    let failure = world
        .apply_pool(&growth(PoolFormat::BlankOnly))
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotBlank);
    assert!(failure.message.contains("serial-DISK2 holds"), "{failure}");
    assert_eq!(world.kernel.take_log(), Vec::new());
    assert_eq!(world.picture(), picture);
    world.apply_pool(&growth(PoolFormat::Wipe)).unwrap();
    has_grown(&world);
}

#[test]
fn a_disk_of_another_pool_joins_only_when_wiped_and_never_in_use() {
    let world = furnished();
    let other = pool(2, &[NEW], PoolFormat::BlankOnly);
    world.apply_pool(&other).unwrap();
    for format in [PoolFormat::BlankOnly, PoolFormat::Wipe] {
        let failure = world.apply_pool(&growth(format)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::InUse, "{failure}");
    }
    world
        .apply_pool(&absent(pool(2, &[NEW], PoolFormat::Never)))
        .unwrap();
    let failure = world
        .apply_pool(&growth(PoolFormat::BlankOnly))
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotBlank);
    assert!(
        failure.message.contains(&pool_id(2).to_string()),
        "{failure}"
    );
    world.apply_pool(&growth(PoolFormat::Wipe)).unwrap();
    has_grown(&world);
}

#[test]
fn a_disk_that_is_not_there_leaves_the_pool_as_it_was() {
    let world = furnished();
    let desired = growing(&before(), "NOSUCH", PoolFormat::Wipe);
    // Also when it was not up.
    for _ in 0..2 {
        let failure = world.apply_pool(&desired).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Missing, "{failure}");
        assert!(world.pool().usage.is_some());
        let labels = labels(&world, &DISKS);
        assert_eq!(labels, [Some((0, 2, 4)), Some((1, 2, 4))]);
        world.reboot();
    }
    world.apply_pool(&before()).unwrap();
    assert_eq!(world.holds(1), Some(3));
}

#[test]
fn a_new_disk_that_cannot_be_written_is_final_and_what_follows_is_not() {
    let world = furnished();
    world.kernel.fail_matching("disk 254:32 write", Errno::EIO);
    let failure = world.apply_pool(&growth(PoolFormat::Wipe)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert!(world.apply_pool(&before()).unwrap().steps.is_empty());
    for part in [PoolPart::Meta, PoolPart::Thin, PoolPart::Data] {
        let device = ours::pool_device(pool_id(1), part);
        let load = format!("dm load {device}");
        world.kernel.fail_matching(&load, Errno::ENODEV);
        let failure = world.apply_pool(&growth(PoolFormat::Wipe)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Kernel, "{failure}");
    }
    world.apply_pool(&growth(PoolFormat::Wipe)).unwrap();
    has_grown(&world);
}

#[test]
fn what_an_attempt_left_on_a_disk_is_no_part_of_the_pool() {
    let world = furnished();
    world.kernel.stop_after(6);
    world
        .apply_pool(&growth(PoolFormat::BlankOnly))
        .unwrap_err();
    world.restart();
    assert!(labels(&world, &[NEW])[0].is_some());
    // It was given up, and another disk comes in its place.
    assert!(world.apply_pool(&before()).unwrap().steps.is_empty());
    let disk = ModelDisk::new("DISK3", Bytes(384 << 20));
    world.kernel.add_disk(disk);
    let third = growing(&before(), "DISK3", PoolFormat::BlankOnly);
    world.apply_pool(&third).unwrap();
    let fourth = growing(&grown(&third), NEW, PoolFormat::BlankOnly);
    let failure = world.apply_pool(&fourth).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NotBlank, "{failure}");
    let fourth = growing(&grown(&third), NEW, PoolFormat::Wipe);
    world.apply_pool(&fourth).unwrap();
    let all = labels(&world, &[DISKS[0], "DISK3", NEW]);
    assert_eq!(all, [Some((0, 4, 12)), Some((2, 4, 12)), Some((3, 4, 12))]);
}

/// A disk of 2 GiB, whose data take more metadata to count than the pool has so far.
fn large(world: &World) -> DesiredPool {
    let disk = ModelDisk::new("LARGE", Bytes(2 << 30));
    world.kernel.add_disk(disk);
    growing(&before(), "LARGE", PoolFormat::BlankOnly)
}

/// Without room for metadata on the new disk.
fn of_data_only(mut desired: DesiredPool) -> DesiredPool {
    desired.disks[2].metadata_room.0 = 0;
    desired.metadata = before().metadata;
    desired
}

fn thin() -> DmName {
    ours::pool_device(pool_id(1), PoolPart::Thin)
}

/// What of a pool can be left half done; it has no catalog here.
const PARTS: [PoolPart; 3] = [PoolPart::Meta, PoolPart::Data, PoolPart::Thin];

fn runs(world: &World) {
    for part in PARTS {
        let device = ours::pool_device(pool_id(1), part);
        let info = world.kernel.dm().info(&device).unwrap().unwrap();
        assert!(!info.suspended && !info.inactive, "{device}: {info:?}");
    }
}

#[test]
fn data_that_cannot_be_counted_are_refused_before_anything_is_written() {
    let world = furnished();
    let desired = of_data_only(large(&world));
    world.kernel.fill_metadata(&thin(), 40).unwrap();
    world.kernel.take_log();
    let failure = world.apply_pool(&desired).unwrap_err();
    assert_eq!(failure.kind, FailureKind::NoSpace, "{failure}");
    assert_eq!(world.kernel.take_log(), Vec::new());
    assert_eq!(labels(&world, &["LARGE"]), [None]);
    assert!(world.apply_pool(&before()).unwrap().steps.is_empty());
    assert!(!world.pool().degraded);
}

#[test]
fn metadata_that_are_full_grow_before_the_data_do() {
    for free in [0, 1, 40] {
        let world = furnished();
        let desired = large(&world);
        world.kernel.fill_metadata(&thin(), free).unwrap();
        assert_eq!(world.pool().degraded, free == 0);
        world.apply_pool(&desired).unwrap();
        let usage = world.pool().usage.unwrap();
        assert_eq!(usage.metadata_total, 8 * 256);
        assert!(usage.data_total > 2 * 16_320, "{usage:?}");
        assert!(!world.pool().degraded);
        runs(&world);
    }
}

#[test]
fn what_fills_the_metadata_between_the_two_is_waited_for() {
    let world = furnished();
    let desired = large(&world);
    // Until the metadata have grown.
    let data = ours::pool_device(pool_id(1), PoolPart::Data);
    let load = format!("dm load {data}");
    world.kernel.fail_matching(&load, Errno::ENODEV);
    world.apply_pool(&desired).unwrap_err();
    assert_eq!(world.pool().usage.unwrap().metadata_total, 8 * 256);
    world.kernel.fill_metadata(&thin(), 20).unwrap();
    for reboot in [false, true] {
        if reboot {
            world.reboot();
        }
        let failure = world.apply_pool(&desired).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Kernel, "{failure}");
        assert!(failure.message.contains("too few left"), "{failure}");
        assert!(!world.pool().degraded);
        assert_eq!(world.holds(1), Some(3));
        runs(&world);
    }
}

#[test]
fn a_pool_that_needs_repair_does_not_grow() {
    let world = furnished();
    world.kernel.damage_metadata(&thin()).unwrap();
    world.kernel.take_log();
    let failure = world
        .apply_pool(&growth(PoolFormat::BlankOnly))
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert!(failure.message.contains("repair"), "{failure}");
    assert_eq!(world.kernel.take_log(), Vec::new());
    runs(&world);
}

#[test]
fn hosts_go_on_when_the_kernel_does_not_take_a_new_size() {
    // The metadata's, then the data's.
    for nth in [1, 2] {
        let world = furnished();
        let had = world.pool().usage.unwrap().data_total;
        let resume = format!("dm resume {}", thin());
        if nth == 2 {
            let data = ours::pool_device(pool_id(1), PoolPart::Data);
            let load = format!("dm load {data}");
            world.kernel.fail_matching(&load, Errno::ENODEV);
            world.apply_pool(&growth(PoolFormat::Wipe)).unwrap_err();
        }
        world.kernel.fail_matching(&resume, Errno::ENOMEM);
        let failure = world.apply_pool(&growth(PoolFormat::Wipe)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Kernel, "{failure}");
        assert_eq!(world.pool().usage.unwrap().data_total, had);
        runs(&world);
        world.apply_pool(&growth(PoolFormat::Wipe)).unwrap();
        has_grown(&world);
    }
}

#[test]
fn a_pool_that_was_left_suspended_goes_on_though_it_cannot_grow() {
    for part in PARTS {
        let world = furnished();
        write_to(&world, NEW, 0);
        let device = ours::pool_device(pool_id(1), part);
        world
            .kernel
            .dm()
            .suspend(&device, SuspendFlags::NO_FLUSH)
            .unwrap();
        let failure = world
            .apply_pool(&growth(PoolFormat::BlankOnly))
            .unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotBlank, "{failure}");
        runs(&world);
    }
}

#[test]
fn a_new_disk_that_cannot_be_read_keeps_no_pool_from_serving() {
    let world = furnished();
    world
        .kernel
        .break_disk(&growth(PoolFormat::Wipe).disks[2].id)
        .unwrap();
    for _ in 0..2 {
        let failure = world.apply_pool(&growth(PoolFormat::Wipe)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
        assert!(failure.message.contains("cannot be read"), "{failure}");
        assert_eq!(world.holds(1), Some(3));
        runs(&world);
        world.reboot();
    }
    world.apply_pool(&before()).unwrap();
}

#[test]
fn a_disk_with_larger_blocks_than_hosts_know_of_does_not_join() {
    let world = furnished();
    let mut disk = ModelDisk::new("4KN", Bytes(384 << 20));
    disk.logical_block = Bytes(4096);
    world.kernel.add_disk(disk);
    world.kernel.take_log();
    let failure = world
        .apply_pool(&growing(&before(), "4KN", PoolFormat::Wipe))
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unsupported, "{failure}");
    assert_eq!(world.kernel.take_log(), Vec::new());
}

#[test]
fn disks_of_a_growth_that_comes_to_nothing_are_blank_again() {
    let world = furnished();
    let disk = ModelDisk::new("DISK3", Bytes(384 << 20));
    world.kernel.add_disk(disk);
    let mut both = growing(
        &grown(&growth(PoolFormat::Wipe)),
        "DISK3",
        PoolFormat::BlankOnly,
    );
    both.grows_from = growth(PoolFormat::Wipe).grows_from;
    let third = both.disks[3].id.clone();
    world.kernel.stop_after(6);
    world.apply_pool(&both).unwrap_err();
    world.restart();
    assert!(labels(&world, &[NEW])[0].is_some());
    world.kernel.break_disk(&third).unwrap();
    let failure = world.apply_pool(&both).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert_eq!(holds(&world, NEW), DiskContent::Blank);
    world.apply_pool(&growth(PoolFormat::BlankOnly)).unwrap();
    has_grown(&world);
    // Never while the pool is on them.
    world.apply_pool(&both).unwrap_err();
    has_grown(&world);
}

#[test]
fn a_grown_pool_is_missed_without_one_of_its_disks() {
    let world = furnished();
    let desired = growth(PoolFormat::Wipe);
    world.apply_pool(&desired).unwrap();
    world.reboot();
    let id = format!("serial-{NEW}").parse().unwrap();
    let number = world.kernel.disk_number(&id).unwrap();
    let disk = world.kernel.disks().open(number, Access::Exclusive);
    wipe_disk(&*disk.unwrap()).unwrap();
    for desired in [grown(&desired), desired, before()] {
        let failure = world.apply_pool(&desired).unwrap_err();
        assert_ne!(failure.kind, FailureKind::NoSpace, "{failure}");
        assert_eq!(world.pool().usage, None, "{failure}");
    }
    assert_eq!(holds(&world, NEW), DiskContent::Blank);
}

#[test]
fn a_label_that_is_gone_under_a_running_pool_is_not_written_anew() {
    let world = furnished();
    world.apply_pool(&growth(PoolFormat::Wipe)).unwrap();
    write_to(&world, NEW, 1 << 20);
    write_to(&world, NEW, 3 << 19);
    world.kernel.take_log();
    let failure = world.apply_pool(&growth(PoolFormat::Wipe)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Kernel, "{failure}");
    assert_eq!(world.kernel.take_log(), Vec::new());
}

#[test]
fn what_is_no_growth_is_refused() {
    let world = furnished();
    let good = growth(PoolFormat::BlankOnly);
    let edit = |edit: &dyn Fn(&mut DesiredPool)| {
        let mut bad = good.clone();
        edit(&mut bad);
        bad
    };
    let from = |disks, metadata| {
        edit(&|bad| {
            let before = bad.grows_from.as_mut().unwrap();
            before.disks = disks;
            before.metadata.0 = metadata;
        })
    };
    let cases = [
        from(0, 4 * MIB),
        from(3, 4 * MIB),
        from(2, 9 * MIB),
        edit(&|bad| bad.metadata.0 = 9 * MIB),
        edit(&|bad| bad.disks[2].metadata_room.0 = 7),
        edit(&|bad| bad.disks.swap(0, 1)),
        edit(&|bad| bad.block.0 = 256),
    ];
    for bad in cases {
        world.kernel.take_log();
        let failure = world.apply_pool(&bad).unwrap_err();
        assert_ne!(failure.kind, FailureKind::Kernel, "{failure}");
        assert_eq!(world.kernel.take_log(), Vec::new(), "{failure}");
    }
}

/// How many calls change something while a pool grows.
fn calls(format: PoolFormat) -> u64 {
    let world = furnished();
    write_to_if_wiped(&world, format);
    world.kernel.take_log();
    world.apply_pool(&growth(format)).unwrap();
    world.kernel.take_log().len() as u64
}

fn write_to_if_wiped(world: &World, format: PoolFormat) {
    if format == PoolFormat::Wipe {
        write_to(world, NEW, 0);
    }
}

#[test]
fn a_crash_anywhere_while_a_pool_grows_is_recovered() {
    for format in [PoolFormat::BlankOnly, PoolFormat::Wipe] {
        let steps = calls(format);
        assert!(steps > 15, "{steps}");
        for step in 0..steps {
            for power in [false, true] {
                let world = furnished();
                write_to_if_wiped(&world, format);
                world.kernel.stop_after(step);
                assert!(world.apply_pool(&growth(format)).is_err(), "{step}");
                if power {
                    world.reboot();
                } else {
                    world.restart();
                }
                world.apply_pool(&growth(format)).unwrap();
                has_grown(&world);
                let standing = grown(&growth(format));
                assert!(world.apply_pool(&standing).unwrap().steps.is_empty());
                if power {
                    world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
                }
            }
        }
    }
}

/// After a crash the growth may be given up, unless the pool is larger already.
#[test]
fn a_growth_given_up_anywhere_leaves_the_pool_as_it_was_or_grown() {
    let steps = calls(PoolFormat::BlankOnly);
    let small = World::pooled().pool().usage.unwrap().data_total;
    let mut given_up = 0;
    for step in 0..steps {
        let world = furnished();
        world.kernel.stop_after(step);
        world
            .apply_pool(&growth(PoolFormat::BlankOnly))
            .unwrap_err();
        world.reboot();
        let number = world
            .kernel
            .disk_number(&growth(PoolFormat::Never).disks[2].id);
        // The disk fails.
        let disks = world.kernel.disks();
        let disk = disks.open(number.unwrap(), Access::Exclusive).unwrap();
        disk.write_at(Bytes(0), &[7; 2 << 20]).unwrap();
        drop(disk);
        match world.apply_pool(&growth(PoolFormat::BlankOnly)) {
            // The pool never was on it.
            Err(_) if world.pool().usage.is_some() => {
                given_up += 1;
                assert_eq!(world.pool().usage.unwrap().data_total, small);
                assert!(world.apply_pool(&before()).unwrap().steps.is_empty());
                world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
            }
            // It needs it.
            Err(failure) => assert_ne!(failure.kind, FailureKind::NotBlank, "{failure}"),
            Ok(report) => panic!("{step}: {report:?}"),
        }
    }
    assert!(given_up > 5 && given_up < steps, "{given_up} of {steps}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Killed and cut off from power any number of times, it gets there, and then stands.
    #[test]
    fn a_growing_pool_converges_through_any_accidents(
        accidents in proptest::collection::vec((0..24_u64, any::<bool>()), 0..5),
        wipe in any::<bool>(),
    ) {
        let format = if wipe { PoolFormat::Wipe } else { PoolFormat::BlankOnly };
        let world = furnished();
        write_to_if_wiped(&world, format);
        let desired = growth(format);
        for (after, power) in accidents {
            world.kernel.stop_after(after);
            let _ = world.apply_pool(&desired);
            if power {
                world.reboot();
            } else {
                world.restart();
            }
        }
        world.apply_pool(&desired).unwrap();
        has_grown(&world);
        world.kernel.take_log();
        prop_assert!(world.apply_pool(&desired).unwrap().steps.is_empty());
        prop_assert!(world.apply_pool(&grown(&desired)).unwrap().steps.is_empty());
        prop_assert_eq!(world.kernel.take_log(), Vec::new());
        let thin = ours::pool_device(pool_id(1), PoolPart::Thin);
        prop_assert!(!world.kernel.dm().info(&thin).unwrap().unwrap().suspended);
    }
}
