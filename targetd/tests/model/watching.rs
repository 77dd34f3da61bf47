//! What the kernel tells by itself reaches who waits for it.

use std::sync::mpsc;
use std::time::Duration;

use ashlar_kernel_iface::model::ModelDisk;
use ashlar_targetd_protocol::{Bytes, Failure, FailureKind, Request};

use crate::wanted::volume;
use crate::world::{DISKS, World};

/// Only what never comes takes so long.
const NEVER: Duration = Duration::from_secs(20);

/// A pool with a volume, and a targetd to which nothing was told yet.
fn watched() -> World {
    let world = World::pooled();
    world.apply(&volume(1).new_data()).unwrap();
    world.restart();
    assert_eq!(world.changed(0).recv(), Ok(Ok(1)));
    world
}

fn told(waiting: &mpsc::Receiver<Result<u64, Failure>>) -> u64 {
    waiting.recv_timeout(NEVER).unwrap().unwrap()
}

#[test]
fn a_pool_that_fills_up_is_told() {
    let world = watched();
    let waiting = world.changed(1);
    let total = world.pool().usage.unwrap().data_total;
    world.write(1, total - 16);
    world.write(1, total - 15);
    assert_eq!(told(&waiting), 2);
}

#[test]
fn a_disk_that_comes_is_told() {
    let world = watched();
    let waiting = world.changed(1);
    let disk = ModelDisk::new(&format!("{}B", DISKS[0]), Bytes(256 << 20));
    world.kernel.add_disk(disk);
    assert_eq!(told(&waiting), 2);
}

#[test]
fn what_happens_while_nobody_waits_is_told_to_who_comes_back() {
    let world = watched();
    world
        .kernel
        .add_disk(ModelDisk::new("DISK8", Bytes(256 << 20)));
    assert_eq!(told(&world.changed(1)), 2);
    let waiting = world.changed(2);
    world
        .kernel
        .add_disk(ModelDisk::new("DISK9", Bytes(256 << 20)));
    assert_eq!(told(&waiting), 3);
}

#[test]
fn who_is_no_connection_does_not_wait() {
    let refused = World::bare().answer(Request::AwaitChange { seen: 0 });
    assert_eq!(refused.unwrap_err().kind, FailureKind::Refused);
}
