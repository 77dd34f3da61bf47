//! The region of a pool that is the agent's to write.

use std::fs::File;
use std::os::unix::fs::FileExt;

use ashlar_kernel_iface::model::ModelDisk;
use ashlar_targetd_protocol::{
    Bytes, DesiredPool, Failure, FailureKind, PoolFormat, RaidLevel, Report, Request, Response,
    Sectors,
};

use crate::wanted::*;
use crate::world::{CALLER, DISKS, World};

fn new() -> DesiredPool {
    cataloged(pool(1, &DISKS, PoolFormat::BlankOnly))
}

fn standing() -> DesiredPool {
    cataloged(pool(1, &DISKS, PoolFormat::Never))
}

fn open(world: &World, write: bool) -> Result<(Bytes, File), Failure> {
    let pool = pool_id(1);
    let answer = world.ask(CALLER, Request::OpenCatalog { pool, write })?;
    match answer.response {
        Response::Opened { size } => Ok((size, answer.descriptor.unwrap().into())),
        other => panic!("{other:?}"),
    }
}

fn apply(world: &World, desired: &DesiredPool) -> Result<Report, Failure> {
    match world.answer(Request::ApplyCatalog(Box::new(desired.clone())))? {
        Response::Applied(report) => Ok(report),
        other => panic!("{other:?}"),
    }
}

/// What was written is read again by `read`.
fn write(world: &World, bytes: &[u8]) {
    let (_, file) = open(world, true).unwrap();
    file.write_all_at(bytes, 4096).unwrap();
}

fn read(world: &World) -> [u8; 4] {
    let mut bytes = [0; 4];
    let (_, file) = open(world, false).unwrap();
    file.read_exact_at(&mut bytes, 4096).unwrap();
    bytes
}

#[test]
fn a_pool_has_its_catalog_beside_its_data() {
    let world = World::bare();
    world.apply_pool(&new()).unwrap();
    assert!(world.apply_pool(&standing()).unwrap().steps.is_empty());
    assert_eq!(open(&world, true).unwrap().0, Bytes(2 << 20));
    assert_eq!(world.pool().usage.unwrap().data_used, 0);
    let member = world.disks()[0].member.clone().unwrap();
    assert_eq!(member.catalog, Sectors(2 * MIB));
    assert_eq!(member.metadata_room, Sectors(6 * MIB));
    assert_eq!((member.index, member.count), (0, 2));
    assert!(member.complete && member.set.is_none());
}

#[test]
fn what_is_in_it_stays_when_the_pool_goes_and_comes() {
    let world = World::bare();
    world.apply_pool(&new()).unwrap();
    write(&world, b"kept");
    world.apply_pool(&absent(standing())).unwrap();
    assert_eq!(open(&world, true).unwrap_err().kind, FailureKind::Missing);
    world.apply_pool(&standing()).unwrap();
    assert_eq!(&read(&world), b"kept");
    world.reboot();
    world.apply_pool(&standing()).unwrap();
    assert_eq!(&read(&world), b"kept");
}

#[test]
fn it_is_read_before_the_pool_is_put_together_and_nothing_is_written() {
    let world = World::bare();
    world.apply_pool(&new()).unwrap();
    write(&world, b"kept");
    world.apply_pool(&absent(standing())).unwrap();
    world.kernel.take_log();
    let empty = world.picture();
    apply(&world, &standing()).unwrap();
    assert_eq!(&read(&world), b"kept");
    let log: Vec<String> = world
        .kernel
        .take_log()
        .iter()
        .map(|call| call.operation.clone())
        .collect();
    assert!(log.iter().all(|call| call.starts_with("dm")), "{log:?}");
    assert_eq!(world.pool().usage, None);
    assert!(apply(&world, &standing()).unwrap().steps.is_empty());
    apply(&world, &absent(standing())).unwrap();
    assert_eq!(world.picture(), empty);
    // The whole pool takes over what was put together for its catalog.
    apply(&world, &standing()).unwrap();
    world.apply_pool(&standing()).unwrap();
    assert_eq!(&read(&world), b"kept");
    let failure = apply(&world, &absent(standing())).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InUse, "{failure}");
}

#[test]
fn a_catalog_is_read_through_the_sets_it_stands_on() {
    let world = World::bare();
    let new = cataloged(redundant(RaidLevel::Raid1, &DISKS, PoolFormat::BlankOnly));
    let standing = cataloged(redundant(RaidLevel::Raid1, &DISKS, PoolFormat::Never));
    world.apply_pool(&new).unwrap();
    write(&world, b"kept");
    let set = world.disks()[1].member.clone().unwrap();
    assert_eq!(set.catalog, Sectors(2 * MIB));
    assert_eq!(set.set.unwrap().level, RaidLevel::Raid1);
    world.apply_pool(&absent(standing.clone())).unwrap();
    let empty = world.picture();
    apply(&world, &standing).unwrap();
    assert_eq!(open(&world, false).unwrap().0, Bytes(2 << 20));
    apply(&world, &absent(standing)).unwrap();
    assert_eq!(world.picture(), empty);
}

#[test]
fn a_pool_without_a_catalog_gets_it_with_a_disk_that_comes() {
    let world = World::bare();
    let before = pool(1, &DISKS, PoolFormat::BlankOnly);
    world.apply_pool(&before).unwrap();
    assert_eq!(
        apply(&world, &pool(1, &DISKS, PoolFormat::Never))
            .unwrap_err()
            .kind,
        FailureKind::Missing
    );
    world
        .kernel
        .add_disk(ModelDisk::new("DISK2", Bytes(256 << 20)));
    let mut desired = growing(&before, "DISK2", PoolFormat::BlankOnly);
    desired.generation = 2;
    let disk = desired.disks.last_mut().unwrap();
    disk.catalog = Sectors(2 * MIB);
    disk.metadata_room = Sectors(disk.metadata_room.0 + 2 * MIB);
    world.apply_pool(&desired).unwrap();
    write(&world, b"kept");
    world.reboot();
    desired.grows_from = None;
    desired.format = PoolFormat::Never;
    world.apply_pool(&desired).unwrap();
    assert_eq!(&read(&world), b"kept");
}

#[test]
fn metadata_that_grow_pass_the_catalog_by() {
    let world = World::bare();
    world.apply_pool(&new()).unwrap();
    write(&world, b"kept");
    world
        .kernel
        .add_disk(ModelDisk::new("DISK2", Bytes(256 << 20)));
    let mut desired = growing(&standing(), "DISK2", PoolFormat::BlankOnly);
    desired.generation = 2;
    world.apply_pool(&desired).unwrap();
    assert_eq!(&read(&world), b"kept");
    let usage = world.pool().usage.unwrap();
    assert_eq!(usage.metadata_total, 8 * MIB / 8);
}

#[test]
fn a_disk_of_another_pool_is_not_taken_for_one_of_this() {
    let world = World::bare();
    world
        .apply_pool(&cataloged(pool(1, &DISKS[..1], PoolFormat::BlankOnly)))
        .unwrap();
    world
        .apply_pool(&cataloged(pool(2, &DISKS[1..], PoolFormat::BlankOnly)))
        .unwrap();
    for n in [1, 2] {
        let disks = [DISKS[n as usize - 1]];
        world
            .apply_pool(&absent(cataloged(pool(n, &disks, PoolFormat::Never))))
            .unwrap();
    }
    let failure = apply(&world, &cataloged(pool(1, &DISKS[1..], PoolFormat::Never))).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Missing);
    assert!(failure.message.contains("serial-DISK1"), "{failure}");
}

#[test]
fn numbers_that_make_no_catalog_are_refused() {
    let world = World::bare();
    let mut two = new();
    two.disks[1].catalog = Sectors(2 * MIB);
    two.disks[1].metadata_room = Sectors(2 * MIB);
    let mut large = new();
    large.disks[0].catalog = Sectors(8 * MIB);
    let mut odd = new();
    odd.disks[0].catalog = Sectors(1024);
    for desired in [two, large, odd] {
        let failure = world.apply_pool(&desired).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    }
    // Nor is one made of what is not there, or is to change.
    assert_eq!(
        apply(&world, &new()).unwrap_err().kind,
        FailureKind::Refused
    );
    assert_eq!(
        apply(&world, &standing()).unwrap_err().kind,
        FailureKind::Missing
    );
}
