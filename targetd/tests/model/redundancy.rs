//! Pools whose disks stand in for each other.

use ashlar_kernel_iface::block::{Access, DiskContent, Disks, probe, wipe_disk};
use ashlar_kernel_iface::dm::DeviceMapper;
use ashlar_kernel_iface::model::{ModelDisk, Module};
use ashlar_targetd::ours::{self, PoolPart};
use ashlar_targetd_protocol::{
    Bytes, DesiredPool, DiskId, FailureKind, MemberState, PoolFormat, RaidLevel, Request, Response,
    Scrub, SetAction,
};
use proptest::prelude::*;

use crate::wanted::*;
use crate::world::World;

use MemberState::{Failed, InSync, Missing, Rebuilding, Resyncing};

const FOUR: [&str; 4] = ["DISK0", "DISK1", "DISK2", "DISK3"];
const NEW: &str = "DISK9";

/// Disks 0 to 7, and the one that comes.
fn bare() -> World {
    let world = World::bare();
    for n in 2..8 {
        let disk = ModelDisk::new(&format!("DISK{n}"), Bytes(256 << 20));
        world.kernel.add_disk(disk);
    }
    world.kernel.add_disk(ModelDisk::new(NEW, Bytes(384 << 20)));
    world
}

fn disks(level: RaidLevel) -> &'static [&'static str] {
    match level {
        RaidLevel::Raid1 => &FOUR[..2],
        RaidLevel::Raid5 => &FOUR[..3],
        RaidLevel::Raid10 | RaidLevel::Raid6 => &FOUR,
    }
}

fn standing(level: RaidLevel) -> DesiredPool {
    redundant(level, disks(level), PoolFormat::Never)
}

/// Pool 1 of a level, all of whose disks have their data, with a volume that a host uses.
fn furnished(level: RaidLevel) -> World {
    let world = bare();
    let pool = redundant(level, disks(level), PoolFormat::BlankOnly);
    world.apply_pool(&pool).unwrap();
    world.kernel.finish_arrays();
    let volume = volume(1).new_data().iscsi(&["alpha"]);
    world.apply(&volume).unwrap();
    world.write(1, 3);
    world
}

fn id(serial: &str) -> DiskId {
    format!("serial-{serial}").parse().unwrap()
}

/// Whoever uses a disk.
fn write_over(world: &World, serial: &str) {
    let number = world.kernel.disk_number(&id(serial)).unwrap();
    let disk = world.kernel.disks().open(number, Access::Shared).unwrap();
    disk.write_at(Bytes(0), &[0xa5; 4096]).unwrap();
}

fn holds(world: &World, serial: &str) -> DiskContent {
    let number = world.kernel.disk_number(&id(serial)).unwrap();
    let disk = world.kernel.disks().open(number, Access::Read).unwrap();
    probe(&*disk).unwrap()
}

fn members(world: &World) -> Vec<Vec<MemberState>> {
    let sets = world.pool().sets.into_iter();
    sets.map(|set| set.members).collect()
}

/// It is as desired, its volume is there, and nothing is held back or older than it was.
fn stands(world: &World, desired: &DesiredPool) {
    world.kernel.take_log();
    let report = world.apply_pool(desired).unwrap();
    assert_eq!(report.steps, Vec::<String>::new());
    assert_eq!(world.kernel.take_log(), Vec::new());
    assert_eq!(world.holds(1), Some(3));
    let dm = world.kernel.dm();
    for device in dm.list().unwrap() {
        let name = device.name.parse().unwrap();
        let info = dm.info(&name).unwrap().unwrap();
        assert!(!info.suspended && !info.inactive, "{name}");
    }
    assert_eq!(world.kernel.gone_back(), []);
}

#[test]
fn a_pool_of_each_level_has_the_room_its_level_leaves() {
    for level in RaidLevel::ALL {
        let world = furnished(level);
        stands(&world, &standing(level));
        // 256 MiB each, less 3 for label and partition table and 1 for the set, and 4 of metadata.
        let stripes = u64::from(level.data_disks(disks(level).len() as u32));
        let usage = world.pool().usage.unwrap();
        assert_eq!(usage.data_total, (252 * stripes - 4) * 16, "{level}");
        assert_eq!(members(&world), [vec![InSync; disks(level).len()]]);
        world.reboot();
        world.apply_pool(&standing(level)).unwrap();
        // What was being written when the power went is made the same.
        assert_eq!(members(&world), [vec![Resyncing; disks(level).len()]]);
        world.kernel.finish_arrays();
        assert_eq!(members(&world), [vec![InSync; disks(level).len()]]);
        stands(&world, &standing(level));
    }
}

#[test]
fn a_new_set_says_that_its_disks_are_made_the_same() {
    let world = bare();
    let pool = redundant(
        RaidLevel::Raid5,
        disks(RaidLevel::Raid5),
        PoolFormat::BlankOnly,
    );
    world.apply_pool(&pool).unwrap();
    assert_eq!(members(&world), [vec![Resyncing; 3]]);
    assert_eq!(world.pool().sets[0].action, SetAction::Resync);
    // It goes on so, and with fewer disks, after a power cut.
    world.reboot();
    world.kernel.break_disk(&id("DISK1")).unwrap();
    world
        .apply_pool(&DesiredPool {
            format: PoolFormat::Never,
            ..pool
        })
        .unwrap();
    assert_eq!(members(&world), [vec![Resyncing, Missing, Resyncing]]);
}

#[test]
fn hosts_do_not_notice_that_disks_fail() {
    for level in RaidLevel::ALL {
        let world = furnished(level);
        let picture = world.picture();
        world.kernel.break_disk(&id("DISK1")).unwrap();
        assert_eq!(members(&world)[0][1], Failed);
        stands(&world, &standing(level));
        assert_eq!(world.picture(), picture);
        // Without it, until it is replaced.
        world.reboot();
        world.apply_pool(&standing(level)).unwrap();
        assert_eq!(members(&world)[0][1], Missing);
        world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
        stands(&world, &standing(level));
    }
}

#[test]
fn a_disk_that_was_pulled_is_missed_at_once_and_gets_what_it_missed() {
    for level in RaidLevel::ALL {
        let world = furnished(level);
        let pulled = world.kernel.pull_disk(&id("DISK1")).unwrap();
        assert_eq!(members(&world)[0][1], Missing);
        stands(&world, &standing(level));
        world.kernel.plug_disk(pulled);
        let report = world.apply_pool(&standing(level)).unwrap();
        assert!(!report.steps.is_empty());
        assert_eq!(members(&world)[0][1], Rebuilding);
        stands(&world, &standing(level));
        world.kernel.finish_arrays();
        assert_eq!(members(&world)[0][1], InSync);
        // What it missed it has: now it may stand in for the other.
        world.kernel.break_disk(&id("DISK0")).unwrap();
        world.reboot();
        world.apply_pool(&standing(level)).unwrap();
        stands(&world, &standing(level));
    }
}

#[test]
fn a_pool_that_came_up_without_a_disk_takes_it_when_it_comes() {
    let level = RaidLevel::Raid6;
    let world = furnished(level);
    let pulled = world.kernel.pull_disk(&id("DISK2")).unwrap();
    world.reboot();
    world.apply_pool(&standing(level)).unwrap();
    world.kernel.finish_arrays();
    assert_eq!(members(&world), [[InSync, InSync, Missing, InSync]]);
    world.kernel.plug_disk(pulled);
    world.apply_pool(&standing(level)).unwrap();
    assert_eq!(members(&world), [[InSync, InSync, Rebuilding, InSync]]);
    stands(&world, &standing(level));
}

#[test]
fn a_pool_that_lost_too_much_says_what_it_needs_and_comes_back_with_it() {
    for (level, lost) in [
        (RaidLevel::Raid1, &["DISK0", "DISK1"][..]),
        (RaidLevel::Raid10, &["DISK2", "DISK3"]),
        (RaidLevel::Raid5, &["DISK0", "DISK2"]),
        (RaidLevel::Raid6, &["DISK0", "DISK1", "DISK3"]),
    ] {
        let world = furnished(level);
        world.kernel.reboot();
        let pull = |serial: &&str| world.kernel.pull_disk(&id(serial)).unwrap();
        let pulled: Vec<_> = lost.iter().map(pull).collect();
        world.restart();
        let failure = world.apply_pool(&standing(level)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Missing);
        for serial in lost {
            assert!(failure.message.contains(serial), "{failure}");
        }
        assert_eq!(world.pool().usage, None);
        for disk in pulled {
            world.kernel.plug_disk(disk);
        }
        world.apply_pool(&standing(level)).unwrap();
        stands(&world, &standing(level));
        // The same while it is used: what is there says that the others failed.
        let pulled: Vec<_> = lost.iter().map(pull).collect();
        world.restart();
        for disk in pulled.into_iter().rev() {
            world.kernel.plug_disk(disk);
        }
        world.reboot();
        world.apply_pool(&standing(level)).unwrap();
        world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
        stands(&world, &standing(level));
    }
}

#[test]
fn a_disk_that_was_left_behind_never_speaks_for_the_others() {
    let level = RaidLevel::Raid1;
    // By what is written on it: it was getting what it had missed.
    let world = furnished(level);
    let pulled = world.kernel.pull_disk(&id("DISK1")).unwrap();
    world.write(1, 3);
    world.kernel.plug_disk(pulled);
    world.apply_pool(&standing(level)).unwrap();
    world.kernel.reboot();
    let other = world.kernel.pull_disk(&id("DISK0")).unwrap();
    world.restart();
    let failure = world.apply_pool(&standing(level)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Missing);
    assert!(failure.message.contains("DISK1 lacks"), "{failure}");
    world.kernel.plug_disk(other);
    world.apply_pool(&standing(level)).unwrap();
    stands(&world, &standing(level));

    // By what the agent knows: nobody wrote anything on it any more.
    let world = furnished(level);
    let pulled = world.kernel.pull_disk(&id("DISK1")).unwrap();
    world.kernel.reboot();
    let other = world.kernel.pull_disk(&id("DISK0")).unwrap();
    world.kernel.plug_disk(pulled);
    world.restart();
    let mut stale = standing(level);
    stale.disks[1].stale = true;
    let failure = world.apply_pool(&stale).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Missing);
    assert!(failure.message.contains("DISK1 lacks"), "{failure}");
    world.kernel.plug_disk(other);
    world.apply_pool(&stale).unwrap();
    world.kernel.finish_arrays();
    assert_eq!(members(&world), [[InSync, InSync]]);
    stands(&world, &stale);
    // Now it may, whatever the agent has not heard yet.
    world.kernel.reboot();
    world.kernel.break_disk(&id("DISK0")).unwrap();
    world.restart();
    assert!(world.apply_pool(&stale).is_err());
    world.apply_pool(&standing(level)).unwrap();
    stands(&world, &standing(level));
}

#[test]
fn what_went_first_speaks_for_nobody() {
    let level = RaidLevel::Raid5;
    let world = furnished(level);
    let first = world.kernel.pull_disk(&id("DISK0")).unwrap();
    let second = world.kernel.pull_disk(&id("DISK1")).unwrap();
    // Nobody saw which it was. The one that is left accuses both, and the first one nobody.
    world.kernel.plug_disk(first);
    world.reboot();
    let failure = world.apply_pool(&standing(level)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Missing);
    world.kernel.plug_disk(second);
    world.apply_pool(&standing(level)).unwrap();
    world.kernel.finish_arrays();
    stands(&world, &standing(level));
}

#[test]
fn a_disk_that_had_given_up_its_place_and_gets_it_back_gets_all_its_data() {
    for level in RaidLevel::ALL {
        for power in [false, true] {
            let world = furnished(level);
            let desired = replacing(&standing(level), 1, NEW, PoolFormat::BlankOnly);
            world.apply_pool(&desired).unwrap();
            world.kernel.finish_arrays();
            // The answer was lost, and then the new disk is: the agent thinks better of it.
            world.kernel.break_disk(&id(NEW)).unwrap();
            if power {
                world.reboot();
            }
            world.apply_pool(&standing(level)).unwrap();
            if power && level == RaidLevel::Raid6 {
                // After what is due anyway.
                assert_eq!(members(&world)[0][1], Missing);
                world.kernel.finish_arrays();
                world.apply_pool(&standing(level)).unwrap();
            }
            let state = members(&world)[0][1];
            assert!(state == Rebuilding || state == Resyncing, "{state:?}");
            world.kernel.finish_arrays();
            stands(&world, &standing(level));
            // The next one is not taken for that one.
            let mut again = replacing(&standing(level), 1, "DISK7", PoolFormat::BlankOnly);
            again.disks[1].turn = 2;
            world.apply_pool(&again).unwrap();
            assert_eq!(members(&world)[0][1], Rebuilding);
            stands(&world, &again);
        }
    }
}

#[test]
fn a_disk_that_cannot_take_a_place_keeps_no_pool_off() {
    let level = RaidLevel::Raid5;
    let world = furnished(level);
    write_over(&world, NEW);
    world.reboot();
    for (serial, kind) in [
        (NEW, FailureKind::NotBlank),
        ("NOWHERE", FailureKind::Missing),
    ] {
        let desired = replacing(&standing(level), 1, serial, PoolFormat::BlankOnly);
        let failure = world.apply_pool(&desired).unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        world.apply(&volume(1).iscsi(&["alpha"])).unwrap();
    }
    world.apply_pool(&standing(level)).unwrap();
    world.kernel.finish_arrays();
    stands(&world, &standing(level));
}

#[test]
fn a_passing_failure_amid_a_rebuild_is_no_end() {
    let level = RaidLevel::Raid5;
    let world = furnished(level);
    world.kernel.break_disk(&id("DISK2")).unwrap();
    let desired = replacing(&standing(level), 2, NEW, PoolFormat::BlankOnly);
    world.apply_pool(&desired).unwrap();
    let desired = replaced(&desired);
    let pulled = world.kernel.pull_disk(&id("DISK0")).unwrap();
    world.kernel.plug_disk(pulled);
    world.reboot();
    world.apply_pool(&desired).unwrap();
    world.kernel.finish_arrays();
    stands(&world, &desired);
}

#[test]
fn a_pool_that_was_made_is_not_made_anew_of_disks_that_forgot_it() {
    let level = RaidLevel::Raid1;
    let world = furnished(level);
    world.kernel.reboot();
    for serial in disks(level) {
        let number = world.kernel.disk_number(&id(serial)).unwrap();
        let disk = world
            .kernel
            .disks()
            .open(number, Access::Exclusive)
            .unwrap();
        disk.write_at(Bytes(2 << 20), &[0; 4096]).unwrap();
    }
    world.restart();
    let failure = world.apply_pool(&standing(level)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Missing);
    assert!(
        failure.message.contains("lost what the kernel knew"),
        "{failure}"
    );
}

#[test]
fn what_was_begun_in_part_is_begun_anew_while_a_pool_is_made() {
    let level = RaidLevel::Raid6;
    let world = bare();
    let pool = redundant(level, disks(level), PoolFormat::BlankOnly);
    world.apply_pool(&pool).unwrap();
    world.kernel.reboot();
    // The power went when the kernel had written on some.
    for serial in ["DISK1", "DISK3"] {
        let number = world.kernel.disk_number(&id(serial)).unwrap();
        let disk = world
            .kernel
            .disks()
            .open(number, Access::Exclusive)
            .unwrap();
        disk.write_at(Bytes(2 << 20), &[0; 4096]).unwrap();
    }
    world.restart();
    world.apply_pool(&pool).unwrap();
    assert_eq!(members(&world), [[Resyncing; 4]]);
}

#[test]
fn a_disk_takes_the_place_of_another() {
    for level in RaidLevel::ALL {
        for broken in [true, false] {
            let world = furnished(level);
            if broken {
                world.kernel.break_disk(&id("DISK1")).unwrap();
            }
            let picture = world.picture();
            let desired = replacing(&standing(level), 1, NEW, PoolFormat::BlankOnly);
            world.apply_pool(&desired).unwrap();
            assert_eq!(members(&world)[0][1], Rebuilding);
            let devices = |name: &&String| name.contains("-super-") || name.contains("-leg-");
            let others = |names: std::collections::BTreeSet<String>| {
                let others = names.iter().filter(|name| !devices(name));
                others.cloned().collect::<Vec<_>>()
            };
            assert_eq!(others(world.picture()), others(picture));
            stands(&world, &desired);
            let desired = replaced(&desired);
            stands(&world, &desired);
            world.kernel.finish_arrays();
            world.reboot();
            world.apply_pool(&desired).unwrap();
            world.kernel.finish_arrays();
            assert_eq!(members(&world)[0][1], InSync);
            stands(&world, &desired);
            // What it was before has no place any more.
            let failure = world.apply_pool(&standing(level));
            assert_eq!(world.holds(1), Some(3), "{failure:?}");
        }
    }
}

#[test]
fn what_must_not_take_a_place_does_not() {
    let level = RaidLevel::Raid5;
    let world = furnished(level);
    world
        .kernel
        .add_disk(ModelDisk::new("SMALL", Bytes(200 << 20)));
    let coarse = ModelDisk {
        logical_block: Bytes(4096),
        ..ModelDisk::new("COARSE", Bytes(384 << 20))
    };
    world.kernel.add_disk(coarse);
    write_over(&world, NEW);
    let by = |serial, format| replacing(&standing(level), 1, serial, format);
    let cases = [
        (by(NEW, PoolFormat::BlankOnly), FailureKind::NotBlank),
        (by("SMALL", PoolFormat::Wipe), FailureKind::NoSpace),
        (by("COARSE", PoolFormat::Wipe), FailureKind::Unsupported),
        (by("NOWHERE", PoolFormat::Wipe), FailureKind::Missing),
        (by("DISK4", PoolFormat::Never), FailureKind::Missing),
        (by("DISK2", PoolFormat::Wipe), FailureKind::Refused),
    ];
    for (bad, kind) in cases {
        world.kernel.take_log();
        let failure = world.apply_pool(&bad).unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        assert_eq!(world.kernel.take_log(), Vec::new(), "{failure}");
        stands(&world, &standing(level));
    }
    world.apply_pool(&by(NEW, PoolFormat::Wipe)).unwrap();
}

#[test]
fn what_makes_no_sense_is_refused() {
    let world = furnished(RaidLevel::Raid5);
    let edit = |edit: &dyn Fn(&mut DesiredPool)| {
        let mut bad = standing(RaidLevel::Raid5);
        edit(&mut bad);
        bad
    };
    let sets = |sets: &[u32]| edit(&|bad| bad.redundancy.as_mut().unwrap().sets = sets.to_vec());
    let cases = [
        sets(&[]),
        sets(&[2]),
        sets(&[4]),
        sets(&[3, 3]),
        sets(&[u32::MAX, 4]),
        edit(&|bad| bad.redundancy = None),
        edit(&|bad| bad.redundancy.as_mut().unwrap().level = RaidLevel::Raid1),
        edit(&|bad| bad.redundancy.as_mut().unwrap().level = RaidLevel::Raid6),
        edit(&|bad| bad.disks[1].metadata_room = bad.disks[0].metadata_room),
        edit(&|bad| {
            bad.redundancy = None;
            bad.disks[0].stale = true;
        }),
        edit(&|bad| bad.disks.swap(0, 1)),
    ];
    for bad in cases {
        world.kernel.take_log();
        match world.apply_pool(&bad) {
            Err(failure) => assert_ne!(failure.kind, FailureKind::Kernel, "{failure}"),
            // Disks that stand where others should are none of the set's.
            Ok(report) => assert_eq!(report.steps, Vec::<String>::new()),
        }
        assert_eq!(world.kernel.take_log(), Vec::new(), "{bad:?}");
    }
    stands(&world, &standing(RaidLevel::Raid5));
}

#[test]
fn a_kernel_without_arrays_gets_no_disk_written() {
    let world = World::without(&[Module::DmRaid]);
    world.kernel.take_log();
    let pool = redundant(RaidLevel::Raid1, &FOUR[..2], PoolFormat::BlankOnly);
    let failure = world.apply_pool(&pool).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unsupported);
    assert_eq!(world.kernel.take_log(), Vec::new());
}

#[test]
fn sets_are_gone_over_when_it_is_asked_for() {
    let world = furnished(RaidLevel::Raid6);
    let scrub = |scrub| {
        let id = pool_id(1);
        world.answer(Request::ScrubPool { id, scrub })
    };
    for asked in [Scrub::Check, Scrub::Repair] {
        assert!(matches!(scrub(asked), Ok(Response::Applied(_))));
        let action = world.pool().sets[0].action;
        assert_ne!(action, SetAction::Idle);
        assert_eq!(scrub(Scrub::Check).unwrap_err().kind, FailureKind::InUse);
        scrub(Scrub::Stop).unwrap();
        assert_eq!(world.pool().sets[0].action, SetAction::Idle);
        scrub(Scrub::Stop).unwrap();
    }
    let plain = World::pooled();
    let request = Request::ScrubPool {
        id: pool_id(1),
        scrub: Scrub::Check,
    };
    assert_eq!(
        plain.answer(request).unwrap_err().kind,
        FailureKind::Refused
    );
}

#[test]
fn a_pool_that_is_destroyed_leaves_blank_disks() {
    for level in RaidLevel::ALL {
        let world = furnished(level);
        world.apply(&volume(1).tombstone()).unwrap();
        world
            .apply_pool(&destroyed(standing(level), false))
            .unwrap();
        assert!(world.objects().0.is_empty());
        for serial in disks(level) {
            assert_eq!(holds(&world, serial), DiskContent::Blank);
        }
        // And may be made of them again.
        let pool = DesiredPool {
            id: pool_id(2),
            ..redundant(level, disks(level), PoolFormat::BlankOnly)
        };
        world.apply_pool(&pool).unwrap();
    }
}

#[test]
fn a_pool_grows_by_a_set() {
    for level in RaidLevel::ALL {
        let world = furnished(level);
        let picture = world.picture();
        let come = &["DISK4", "DISK5", "DISK6", "DISK7"];
        let desired = growing_by_set(&standing(level), come, PoolFormat::BlankOnly);
        world.apply_pool(&desired).unwrap();
        assert!(world.picture().is_superset(&picture));
        has_grown(&world, &desired);
        world.reboot();
        world.apply_pool(&grown(&desired)).unwrap();
        has_grown(&world, &desired);
    }
}

fn has_grown(world: &World, desired: &DesiredPool) {
    let redundancy = desired.redundancy.clone().unwrap();
    let widths = redundancy.sets.iter();
    let stripes: u32 = widths
        .map(|width| redundancy.level.data_disks(*width))
        .sum();
    let usage = world.pool().usage.unwrap();
    assert_eq!(usage.data_total, (252 * u64::from(stripes) - 8) * 16);
    assert_eq!(usage.metadata_total, 8 * 256);
    stands(world, desired);
    stands(world, &grown(desired));
    for disk in &desired.disks {
        let serial = disk.id.as_str().strip_prefix("serial-").unwrap();
        match holds(world, serial) {
            DiskContent::Pool { label, .. } => {
                assert_eq!(label.count as usize, desired.disks.len())
            }
            other => panic!("{serial} holds {other:?}"),
        }
    }
}

#[test]
fn a_set_that_cannot_come_leaves_blank_disks() {
    let level = RaidLevel::Raid1;
    let world = furnished(level);
    let picture = world.picture();
    let come = &["DISK4", "DISK5"];
    let desired = growing_by_set(&standing(level), come, PoolFormat::BlankOnly);
    world.kernel.break_disk(&id("DISK5")).unwrap();
    world.apply_pool(&desired).unwrap_err();
    assert_eq!(world.picture(), picture);
    assert_eq!(holds(&world, "DISK4"), DiskContent::Blank);
    stands(&world, &standing(level));
}

/// Whatever is done to a pool, by how many calls.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Make,
    Replace,
    Rejoin,
    Grow,
    Destroy,
}

const DEEDS: [Deed; 5] = [
    Deed::Make,
    Deed::Replace,
    Deed::Rejoin,
    Deed::Grow,
    Deed::Destroy,
];

fn begin(deed: Deed, level: RaidLevel) -> (World, DesiredPool) {
    let stood = standing(level);
    let world = match deed {
        Deed::Make => bare(),
        Deed::Replace | Deed::Rejoin | Deed::Grow | Deed::Destroy => furnished(level),
    };
    let desired = match deed {
        Deed::Make => redundant(level, disks(level), PoolFormat::BlankOnly),
        Deed::Replace => {
            world.kernel.break_disk(&id("DISK1")).unwrap();
            replacing(&stood, 1, NEW, PoolFormat::BlankOnly)
        }
        Deed::Rejoin => {
            let pulled = world.kernel.pull_disk(&id("DISK1")).unwrap();
            world.kernel.plug_disk(pulled);
            stood
        }
        Deed::Grow => growing_by_set(
            &stood,
            &["DISK4", "DISK5", "DISK6", "DISK7"],
            PoolFormat::BlankOnly,
        ),
        Deed::Destroy => {
            world.apply(&volume(1).tombstone()).unwrap();
            destroyed(stood, false)
        }
    };
    (world, desired)
}

fn ends(world: &World, deed: Deed, desired: &DesiredPool) {
    match deed {
        Deed::Make => {
            assert!(world.apply_pool(desired).unwrap().steps.is_empty());
            world.apply(&volume(1).new_data()).unwrap();
            world.write(1, 3);
            stands(
                world,
                &DesiredPool {
                    format: PoolFormat::Never,
                    ..desired.clone()
                },
            );
        }
        Deed::Replace => {
            stands(world, desired);
            stands(world, &replaced(desired));
        }
        Deed::Rejoin => stands(world, desired),
        Deed::Grow => has_grown(world, desired),
        Deed::Destroy => {
            assert!(world.objects().0.is_empty());
            for serial in &FOUR {
                assert_eq!(holds(world, serial), DiskContent::Blank);
            }
        }
    }
}

#[test]
fn a_crash_anywhere_is_recovered() {
    for deed in DEEDS {
        let level = RaidLevel::Raid5;
        let (world, desired) = begin(deed, level);
        world.kernel.take_log();
        world.apply_pool(&desired).unwrap();
        let calls = world.kernel.take_log().len() as u64;
        assert!(calls > 5, "{deed:?} {calls}");
        for call in 0..calls {
            for power in [false, true] {
                let (world, desired) = begin(deed, level);
                world.kernel.stop_after(call);
                assert!(world.apply_pool(&desired).is_err(), "{deed:?} {call}");
                match power {
                    true => world.reboot(),
                    false => world.restart(),
                }
                let again = world.apply_pool(&desired);
                assert!(again.is_ok(), "{deed:?} {call} {power}: {again:?}");
                ends(&world, deed, &desired);
            }
        }
    }
}

/// What the agent keeps of what it sees: which disks lack data.
fn learn(world: &World, desired: &mut DesiredPool) {
    let Some(set) = world.pool().sets.pop() else {
        return;
    };
    // In one that has lost too much nothing is written any more that anyone could lack.
    let level = desired.redundancy.as_ref().unwrap().level;
    let has = |member: &MemberState| matches!(member, InSync | Resyncing);
    let whole: Vec<bool> = set.members.iter().map(has).collect();
    if !level.survives(&whole) {
        return;
    }
    for (disk, member) in desired.disks.iter_mut().zip(set.members) {
        match member {
            InSync => disk.stale = false,
            Rebuilding | Failed | Missing => disk.stale = true,
            Resyncing => {}
        }
    }
}

fn levels() -> impl Strategy<Value = RaidLevel> {
    proptest::sample::select(&RaidLevel::ALL[..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Killed and cut off from power any number of times, it gets there, and then stands.
    #[test]
    fn it_converges_through_any_accidents(
        level in levels(),
        deed in proptest::sample::select(&DEEDS[..]),
        accidents in proptest::collection::vec((0..40_u64, any::<bool>()), 0..5),
    ) {
        let (world, desired) = begin(deed, level);
        for (after, power) in accidents {
            world.kernel.stop_after(after);
            let _ = world.apply_pool(&desired);
            match power {
                true => world.reboot(),
                false => world.restart(),
            }
        }
        if let Err(failure) = world.apply_pool(&desired) {
            // What two parities are due after a power cut comes first.
            prop_assert!(level == RaidLevel::Raid6, "{}", failure);
            prop_assert_eq!(failure.kind, FailureKind::Kernel);
            world.kernel.finish_arrays();
            world.apply_pool(&desired).unwrap();
        }
        ends(&world, deed, &desired);
    }

    /// Disks come and go, power too; whatever is acknowledged is there whenever the pool is.
    #[test]
    fn what_was_written_is_never_forgotten(
        level in levels(),
        happens in proptest::collection::vec((0..6_u8, 0..4_usize), 1..16),
    ) {
        let world = furnished(level);
        let mut desired = standing(level);
        let mut away = std::collections::BTreeMap::new();
        for (what, which) in happens {
            let serials = disks(level);
            let serial = serials[which % serials.len()];
            match what {
                0 | 1 => {
                    if let Ok(disk) = world.kernel.pull_disk(&id(serial)) {
                        away.insert(serial, disk);
                    }
                }
                2 => {
                    if let Some(disk) = away.remove(serial) {
                        world.kernel.plug_disk(disk);
                    }
                }
                3 => world.kernel.finish_arrays(),
                4 => world.reboot(),
                _ => world.kernel.stop_after(which as u64),
            }
            if what == 5 {
                let _ = world.apply_pool(&desired);
                world.restart();
            }
            learn(&world, &mut desired);
            // It comes up, or says what it lacks.
            match world.apply_pool(&desired) {
                Ok(_) => prop_assert_eq!(world.holds(1), Some(3)),
                Err(failure) => prop_assert_ne!(failure.kind, FailureKind::Refused, "{}", failure),
            }
            learn(&world, &mut desired);
            prop_assert_eq!(world.kernel.gone_back(), []);
        }
        let set = ours::pool_device(pool_id(1), PoolPart::Set(0));
        if let Some(info) = world.kernel.dm().info(&set).unwrap() {
            prop_assert!(!info.suspended);
        }
    }
}

#[test]
fn a_label_of_another_turn_is_no_member() {
    let level = RaidLevel::Raid1;
    let world = furnished(level);
    let desired = replacing(&standing(level), 1, NEW, PoolFormat::BlankOnly);
    world.apply_pool(&desired).unwrap();
    world.kernel.finish_arrays();
    let desired = replaced(&desired);
    world.reboot();
    // The disk it was is given back its place by hand, without having been labelled for it.
    let mut back = desired.clone();
    back.disks[1].id = id("DISK1");
    world.apply_pool(&back).unwrap();
    world.kernel.finish_arrays();
    assert_eq!(members(&world), [[InSync, Missing]]);
    let number = world.kernel.disk_number(&id("DISK1")).unwrap();
    let disk = world
        .kernel
        .disks()
        .open(number, Access::Exclusive)
        .unwrap();
    wipe_disk(&*disk).unwrap();
}
