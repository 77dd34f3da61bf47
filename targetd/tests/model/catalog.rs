//! The region of a pool that is the agent's to write.

use std::fs::File;
use std::os::unix::fs::FileExt;

use ashlar_kernel_iface::block::{Access, Disks};
use ashlar_kernel_iface::dm::DeviceMapper;
use ashlar_kernel_iface::model::ModelDisk;
use ashlar_targetd::ours::{self, PoolPart};
use ashlar_targetd_protocol::{
    Bytes, DesiredPool, Failure, FailureKind, PoolFormat, RaidLevel, Report, Request, Response,
    Sectors,
};

use uuid::Uuid;

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

/// The same for another box.
fn of(holder: u128, desired: &DesiredPool) -> DesiredPool {
    DesiredPool {
        holder: Uuid::from_u128(holder),
        ..desired.clone()
    }
}

/// The same for a box that takes the pool over.
fn taken_by(holder: u128, desired: &DesiredPool) -> DesiredPool {
    DesiredPool {
        takes: true,
        ..of(holder, desired)
    }
}

fn holders(world: &World) -> Vec<(u32, Uuid)> {
    let disks = world.disks().into_iter();
    let members = disks.filter_map(|disk| disk.member);
    members
        .map(|member| (member.tenure, member.holder))
        .collect()
}

#[test]
fn a_pool_that_was_taken_over_is_not_touched_by_the_box_that_had_it() {
    for (new, standing) in [
        (new(), standing()),
        (
            cataloged(redundant(RaidLevel::Raid1, &DISKS, PoolFormat::BlankOnly)),
            cataloged(redundant(RaidLevel::Raid1, &DISKS, PoolFormat::Never)),
        ),
    ] {
        let world = World::bare();
        world.apply_pool(&new).unwrap();
        assert_eq!(holders(&world), [(1, holder()), (1, holder())]);
        world.apply_pool(&absent(standing.clone())).unwrap();
        // Nor by another one that does not take it.
        world.kernel.take_log();
        for refused in [of(7, &standing), destroyed(of(7, &standing), true)] {
            let failure = world.apply_pool(&refused).unwrap_err();
            assert!(failure.message.contains("taken over by box"), "{failure}");
        }
        let failure = apply(&world, &of(7, &standing)).unwrap_err();
        assert!(failure.message.contains("taken over by box"), "{failure}");
        let other = Uuid::from_u128(7);
        world.apply_pool(&taken_by(7, &standing)).unwrap();
        assert_eq!(holders(&world), [(2, other), (2, other)]);
        assert!(
            world
                .apply_pool(&taken_by(7, &standing))
                .unwrap()
                .steps
                .is_empty()
        );
        world.apply_pool(&absent(of(7, &standing))).unwrap();
        let failure = world.apply_pool(&standing).unwrap_err();
        assert!(failure.message.contains("taken over by box"), "{failure}");
        world.apply_pool(&of(7, &standing)).unwrap();
    }
}

#[test]
fn a_pool_of_which_one_disk_was_taken_over_is_nobody_elses() {
    let other = Uuid::from_u128(7);
    let mut in_part = 0;
    for step in 0..40 {
        let world = World::bare();
        world.apply_pool(&new()).unwrap();
        world.apply_pool(&absent(standing())).unwrap();
        // Power goes at any step of the taking.
        world.kernel.stop_after(step);
        drop(world.apply_pool(&taken_by(7, &standing())));
        world.kernel.revive();
        world.reboot();
        let told = holders(&world);
        let whole = told.iter().all(|(_, holder)| *holder == other);
        if told.iter().any(|(_, holder)| *holder == other) {
            in_part += u32::from(!whole);
            let failure = world.apply_pool(&standing()).unwrap_err();
            assert!(failure.message.contains("taken over by box"), "{failure}");
            world.apply_pool(&taken_by(7, &standing())).unwrap();
            assert_eq!(holders(&world), [(2, other), (2, other)]);
        } else {
            world.apply_pool(&standing()).unwrap();
        }
    }
    assert!(in_part > 0, "no cut was between the two");
}

#[test]
fn what_older_firmware_left_out_of_a_label_is_no_reason_not_to_serve() {
    let world = World::bare();
    world.apply_pool(&new()).unwrap();
    world.apply_pool(&absent(standing())).unwrap();
    // Its record does not have the catalog any more.
    let mut bare = standing();
    bare.disks[0].catalog = Sectors(0);
    world.apply_pool(&bare).unwrap();
    assert_eq!(open(&world, true).unwrap_err().kind, FailureKind::Missing);
    // It grows the pool, with metadata where the catalog was, and labels the disks.
    world
        .kernel
        .add_disk(ModelDisk::new("DISK2", Bytes(256 << 20)));
    let mut grown = growing(&bare, "DISK2", PoolFormat::BlankOnly);
    grown.generation = 2;
    grown.metadata = Sectors(6 * MIB);
    grown.disks[2].metadata_room = Sectors(0);
    world.apply_pool(&grown).unwrap();
    assert_eq!(world.disks()[0].member.clone().unwrap().catalog, Sectors(0));
    // Whatever a record says then, nothing is written there.
    let mut wrong = growing(&standing(), "DISK2", PoolFormat::Never);
    wrong.grows_from = None;
    wrong.generation = 3;
    wrong.disks[2].metadata_room = Sectors(2 * MIB);
    wrong.metadata = Sectors(6 * MIB);
    drop(world.apply_pool(&wrong));
    assert_eq!(open(&world, true).unwrap_err().kind, FailureKind::Missing);
    world.reboot();
    drop(world.apply_pool(&wrong));
    assert_eq!(open(&world, true).unwrap_err().kind, FailureKind::Missing);
}

#[test]
fn what_a_catalog_says_goes_with_its_pool() {
    let world = World::bare();
    world.apply_pool(&new()).unwrap();
    // Of a device, the model keeps what is written as blocks apart from what is written as a file.
    let open = |access| {
        let name = ours::pool_device(pool_id(1), PoolPart::Catalog);
        let info = world.kernel.dm().info(&name).unwrap().unwrap();
        world.kernel.disks().open(info.number, access).unwrap()
    };
    let last = Bytes((2 << 20) - 4096);
    let mut bytes = [7; 4096];
    open(Access::Exclusive).write_at(last, &bytes).unwrap();
    world.apply_pool(&destroyed(standing(), false)).unwrap();
    world.apply_pool(&new()).unwrap();
    open(Access::Read).read_at(last, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 4096]);
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
