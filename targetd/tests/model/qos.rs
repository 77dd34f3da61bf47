//! What volumes may do, and that it never becomes another volume's limit.

use std::time::{Duration, Instant};

use ashlar_kernel_iface::dm::DeviceMapper;
use ashlar_kernel_iface::model::Module;
use ashlar_kernel_iface::tree::Errno;
use ashlar_targetd_protocol::{FailureKind, PoolFormat, Rate};

use crate::wanted::*;
use crate::world::{DISKS, World};

fn limit(n: u32, limit: u64, what: &str) -> String {
    format!("limit ashlar-vol-{} {limit} {what}", volume_id(n))
}

#[test]
fn limits_stand_before_anyone_reaches_the_volume() {
    let world = World::pooled();
    let wanted = volume(1).new_data().iops(100, 0).iscsi(&["alpha"]);
    world.kernel.take_log();
    world.apply(&wanted).unwrap();
    assert_eq!(world.limits(), [limit(1, 100, "reads")]);
    let log = world.kernel.take_log();
    let place = |text: &str| {
        let found = log.iter().position(|step| step.operation.contains(text));
        found.unwrap_or_else(|| panic!("no {text} in {log:?}"))
    };
    assert!(place("read_iops_device") < place("mkdir target/core"));
}

#[test]
fn a_change_of_limits_touches_nothing_else() {
    let world = World::pooled();
    let wanted = || volume(1).iscsi(&["alpha"]).nvme(&["beta"]);
    world.apply(&wanted().new_data().iops(100, 100)).unwrap();
    world.kernel.take_log();
    let report = world.apply(&wanted().iops(100, 0)).unwrap();
    assert_eq!(
        report.steps,
        ["limit the device: at most 100 reads a second"]
    );
    assert_eq!(world.kernel.take_log().len(), 1);
    assert_eq!(world.limits(), [limit(1, 100, "reads")]);
    let report = world.apply(&wanted()).unwrap();
    assert_eq!(report.steps, ["limit the device: no limit"]);
    assert_eq!(world.limits(), Vec::<String>::new());
}

#[test]
fn a_volume_that_is_not_active_costs_no_call_for_its_limits() {
    let world = World::pooled();
    world.apply(&volume(1).new_data()).unwrap();
    world.kernel.take_log();
    let report = world.apply(&volume(1).iops(1, 1)).unwrap();
    assert_eq!(report.steps, Vec::<String>::new());
    assert!(world.kernel.take_log().is_empty());
}

#[test]
fn limits_are_lifted_before_a_device_goes() {
    let world = World::pooled();
    let wanted = volume(1).new_data().iops(100, 100).iscsi(&["alpha"]);
    world.apply(&wanted).unwrap();
    let report = world.apply(&volume(1).iops(100, 100)).unwrap();
    assert_eq!(report.steps[0], "limit the device: no limit");
    assert_eq!(world.limits(), Vec::<String>::new());
}

#[test]
fn the_next_device_of_a_number_has_no_limits() {
    let world = World::pooled();
    let number = |n| {
        let name = format!("ashlar-vol-{}", volume_id(n)).parse().unwrap();
        world.kernel.dm().info(&name).unwrap().unwrap().number
    };
    let limited = volume(1).new_data().iops(100, 100).iscsi(&["alpha"]);
    world.apply(&limited).unwrap();
    let first = number(1);
    world.apply(&volume(1)).unwrap();
    world
        .apply(&volume(2).new_data().iscsi(&["alpha"]))
        .unwrap();
    assert_eq!(number(2), first);
    assert_eq!(world.limits(), Vec::<String>::new());
    let again = world.apply(&volume(2).iscsi(&["alpha"])).unwrap();
    assert_eq!(again.steps, Vec::<String>::new());
}

#[test]
fn limits_left_by_an_earlier_process_are_corrected() {
    let world = World::pooled();
    let wanted = |read| volume(1).iops(read, 0).iscsi(&["alpha"]);
    world.apply(&wanted(100).new_data()).unwrap();
    world.restart();
    let report = world.apply(&wanted(100)).unwrap();
    assert_eq!(report.steps, Vec::<String>::new());
    world.restart();
    world.apply(&wanted(7)).unwrap();
    assert_eq!(world.limits(), [limit(1, 7, "reads")]);
    world.restart();
    world.apply(&wanted(0)).unwrap();
    assert_eq!(world.limits(), Vec::<String>::new());
}

#[test]
fn a_power_cut_brings_limits_back() {
    let world = World::pooled();
    let wanted = || volume(1).iops(100, 200).iscsi(&["alpha"]);
    world.apply(&wanted().new_data()).unwrap();
    let before = world.limits();
    world.reboot();
    assert_eq!(world.limits(), Vec::<String>::new());
    world
        .apply_pool(&pool(1, &DISKS, PoolFormat::Never))
        .unwrap();
    world.apply(&wanted()).unwrap();
    assert_eq!(world.limits(), before);
}

#[test]
fn an_orphan_leaves_without_limits() {
    let world = World::pooled();
    let wanted = volume(1).new_data().iops(5, 5).iscsi(&["alpha"]);
    world.apply(&wanted).unwrap();
    world.unexport(volume_id(1)).unwrap();
    assert_eq!(world.limits(), Vec::<String>::new());
}

#[test]
fn without_the_controller_only_limits_are_refused() {
    let world = World::without(&[Module::Blkio]);
    world
        .apply_pool(&pool(1, &DISKS, PoolFormat::BlankOnly))
        .unwrap();
    world
        .apply(&volume(1).new_data().iscsi(&["alpha"]))
        .unwrap();
    let limited = volume(1).iops(100, 100).iscsi(&["alpha"]);
    let failure = world.apply(&limited).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unsupported, "{failure}");
}

#[test]
fn limits_the_kernel_cannot_hold_are_refused() {
    let world = World::pooled();
    let wanted = || volume(1).new_data().iscsi(&["alpha"]);
    let mut impossible = wanted();
    impossible.0.qos.operations = Rate::Total(1);
    for wanted in [wanted().iops(u64::from(u32::MAX), 0), impossible] {
        let failure = world.apply(&wanted).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    }
}

/// Lets the volume's device move bytes for a while, up to its limits, and divides its total
/// meanwhile. Answers what it moved in the last quarter of a second.
fn run(world: &World, start: &mut Instant, reads: u64, writes: u64) -> (u64, u64) {
    const QUARTER: Duration = Duration::from_millis(250);
    let name = format!("ashlar-vol-{}", volume_id(1)).parse().unwrap();
    let number = world.kernel.dm().info(&name).unwrap().unwrap().number;
    let let_through = |demand: u64, what: &str| {
        let limit = world.limits().iter().find_map(|line| {
            let rest = line.strip_suffix(what)?;
            rest.trim_end().rsplit(' ').next()?.parse::<u64>().ok()
        });
        demand.min(limit.unwrap() / 4)
    };
    let mut moved = (0, 0);
    for _ in 0..20 {
        moved = (
            let_through(reads, "bytes read"),
            let_through(writes, "bytes written"),
        );
        let mut state = world.kernel.lock();
        let device = state.devices.device_mut(number).unwrap();
        for (totals, bytes) in [
            (&mut device.io.reads, moved.0),
            (&mut device.io.writes, moved.1),
        ] {
            (0..bytes / 4096).for_each(|_| totals.count(4096));
        }
        drop(state);
        *start += QUARTER;
        world.look(*start);
    }
    moved
}

#[test]
fn a_total_follows_what_the_device_does() {
    const TOTAL: u64 = 8 << 20;
    let world = World::pooled();
    let wanted = || volume(1).total_bytes(TOTAL).nvme(&["alpha"]);
    world.apply(&wanted().new_data()).unwrap();
    let mut now = Instant::now();
    let quarter = TOTAL / 4;
    let (_, written) = run(&world, &mut now, 0, u64::MAX);
    assert!(written >= quarter - quarter / 10, "{written}");
    let (read, written) = run(&world, &mut now, u64::MAX, u64::MAX);
    assert!(read.abs_diff(written) < quarter / 10, "{read}, {written}");
    assert!(read + written <= quarter + quarter / 10);
    let (read, _) = run(&world, &mut now, u64::MAX, 0);
    assert!(read >= quarter - quarter / 10, "{read}");
    // However it is divided, it is as desired; a new process goes on from there.
    assert!(world.apply(&wanted()).unwrap().steps.is_empty());
    world.restart();
    assert!(world.apply(&wanted()).unwrap().steps.is_empty());
    let (_, written) = run(&world, &mut now, 0, u64::MAX);
    assert!(written >= quarter - quarter / 10, "{written}");
}

#[test]
fn a_total_that_cannot_be_divided_stays_held() {
    let world = World::pooled();
    let wanted = volume(1).new_data().total_bytes(8 << 20).nvme(&["alpha"]);
    world.apply(&wanted).unwrap();
    let before = world.limits();
    let mut now = Instant::now();
    world.look(now);
    now += Duration::from_millis(250);
    world.kernel.fail_matching("blkio", Errno::EIO);
    run(&world, &mut now, 0, u64::MAX);
    assert_ne!(world.limits(), before);
    // A volume that has gone is looked at no more.
    world.apply(&volume(1)).unwrap();
    world.look(now);
    assert_eq!(world.limits(), Vec::<String>::new());
}
