//! Adopting thin devices, and letting go of volumes.

use ashlar_protocol::{Provisioning, Qos, Unadoptable};
use ashlar_targetd_protocol::{ThinId, ThinRef};

use super::*;
use crate::domain::decide::adopt::unadoptable;
use crate::domain::record::{PoolRecord, Record, ThinCounter, VolumeRecord};

/// A volume without connections, made in the furnished world; its thin device is 1.
const IDLE: Uuid = Uuid::from_u128(0xe1);
const ADOPTED: Uuid = Uuid::from_u128(0xe2);

fn made(world: &mut World, command: Command) {
    let unit = world.does(command).unwrap();
    world.settle(unit);
}

fn with_idle() -> World {
    let mut world = World::furnished();
    made(&mut world, volume(IDLE, MIB));
    world.thin_end = Some(Ok(3 * MIB / 2));
    world
}

fn on(thin_id: u64) -> ThinRef {
    ThinRef {
        pool: POOL,
        thin_id: ThinId::try_from(thin_id).unwrap(),
    }
}

fn record(world: &World, id: Uuid) -> &VolumeRecord {
    &world.intent.volume(id).unwrap().record
}

fn adopt_with(edit: impl FnOnce(&mut AdoptSpec)) -> Command {
    let Command::VolumeAdopt { id, mut spec } = adopt(ADOPTED, 7, None) else {
        unreachable!("it is one")
    };
    edit(&mut spec);
    Command::VolumeAdopt { id, spec }
}

#[test]
fn an_adopted_volume_is_as_large_as_what_it_maps_or_larger() {
    for (end, asked, size) in [
        (1, None, MIB),
        (MIB, None, MIB),
        (3 * MIB / 2, None, 2 * MIB),
        (3 * MIB / 2, Some(3 * MIB / 2), 2 * MIB),
        (MIB, Some(5 * MIB), 5 * MIB),
        (0, Some(1), MIB),
    ] {
        let mut world = with_idle();
        world.thin_end = Some(Ok(end));
        let unit = world.does(adopt(ADOPTED, 7, asked));
        assert_eq!(unit, Some(Unit::Volume(ADOPTED)));
        let there = record(&world, ADOPTED);
        assert_eq!((there.size, there.thin_id), (size, on(7).thin_id));
        assert_eq!(there.phase, VolumePhase::Adopting);
        assert_eq!((there.parent, there.family), (None, Some(POOL)));
        assert!(world.intent.volumes_in_kernel().contains(&ADOPTED));
        let generation = there.generation;
        world.settle(Unit::Volume(ADOPTED));
        let there = record(&world, ADOPTED);
        assert_eq!(there.phase, VolumePhase::Present);
        assert!(there.generation > generation, "its device is to rest again");
        assert!(!world.intent.volumes_in_kernel().contains(&ADOPTED));
    }
}

#[test]
fn what_cannot_be_adopted_is_refused_and_said_why() {
    let world = &mut with_idle();
    for (thin, owner) in [(0, VOLUME), (1, IDLE)] {
        let words = format!("thin device {thin} of pool {POOL} belongs to volume {owner}");
        refuses(world, adopt(ADOPTED, thin, None), Duplicate, &words);
    }
    made(world, snapshot(id(1), IDLE));
    refuses(world, adopt(ADOPTED, 2, None), Duplicate, "to snapshot");
    refuses(
        world,
        adopt_with(|spec| spec.pool = id(9)),
        NotFound,
        "pool",
    );
    refuses(world, adopt(ADOPTED, 7, Some(0)), OutOfRange, "size 0");
    refuses(
        world,
        adopt(ADOPTED, 7, Some(MIB)),
        OutOfRange,
        "less than the 1572864 bytes at which thin device 7",
    );
    refuses(
        world,
        adopt(ADOPTED, 7, Some(CAPACITY + 1)),
        NoSpace,
        "more than pool",
    );
    refuses(world, adopt(id(1), 7, None), Duplicate, "is a snapshot's");
    let bad = Some(Qos {
        read_iops: Some(1),
        ..Qos::default()
    });
    let limited = adopt_with(|spec| spec.qos = bad);
    refuses(world, limited, OutOfRange, "qos");
    world.thin_end = Some(Ok(0));
    refuses(world, adopt(ADOPTED, 7, None), InvalidField, "maps nothing");
    for end in [MAX_SIZE + 1, u64::MAX] {
        world.thin_end = Some(Ok(end));
        refuses(world, adopt(ADOPTED, 7, None), OutOfRange, "ends at byte");
    }
    let missing = Problem::new(NotFound, "pool has no thin device 7");
    world.thin_end = Some(Err(missing));
    refuses(world, adopt(ADOPTED, 7, None), NotFound, "no thin device 7");
    world.troubled.insert(
        Unit::Pool(POOL),
        Problem::new(KernelFailed, "a disk is gone"),
    );
    refuses(world, adopt(ADOPTED, 7, None), WrongState, "a disk is gone");
    world.troubled.clear();
    world.thin_end = None;
    refuses(world, adopt(ADOPTED, 7, None), Busy, "only now become free");
}

#[test]
fn a_thick_one_needs_its_room() {
    let world = &mut with_idle();
    let mut pool = world.intent.pool(POOL).unwrap().record.clone();
    pool.spec.over_subscription = 100;
    let record = Record::Pool(POOL, PoolRecord { ..pool });
    world.intent.apply(&Edit::put(record)).unwrap();
    let thick = |size| {
        adopt_with(|spec| {
            spec.size = Some(size);
            spec.provisioning = Provisioning::Thick;
        })
    };
    refuses(world, thick(CAPACITY - 11 * MIB + 1), NoSpace, "promised");
    made(world, thick(CAPACITY - 11 * MIB));
}

#[test]
fn one_of_two_callers_has_it_and_a_repetition_is_found() {
    let world = &mut with_idle();
    world.does(adopt(ADOPTED, 7, None));
    joins(world, adopt(ADOPTED, 7, None), Unit::Volume(ADOPTED));
    let words = format!("belongs to volume {ADOPTED}");
    refuses(world, adopt(id(5), 7, None), Duplicate, &words);
    refuses(
        world,
        adopt(ADOPTED, 8, None),
        AlreadyExists,
        "not as asked",
    );
    refuses(world, volume(ADOPTED, MIB), AlreadyExists, "not as asked");
    let delete = Command::VolumeDelete { id: ADOPTED };
    refuses(world, delete, Busy, "being adopted");
    refuses(world, extend(ADOPTED, 9 * MIB), Busy, "being adopted");
    let attach = attach(id(6), ADOPTED, HOST, Transport::Iscsi);
    refuses(world, attach, Busy, "being adopted");
    world.settle(Unit::Volume(ADOPTED));
    unchanged(world, adopt(ADOPTED, 7, None));
    unchanged(world, adopt(ADOPTED, 7, Some(2 * MIB)));
    refuses(world, adopt(ADOPTED, 7, Some(3 * MIB)), AlreadyExists, "");
    // It is found without looking, which may not be possible any more.
    world.thin_end = None;
    unchanged(world, adopt(ADOPTED, 7, None));
}

#[test]
fn new_thin_devices_step_over_adopted_ones() {
    let world = &mut with_idle();
    world.does(adopt(ADOPTED, 3, None));
    world.does(adopt(id(5), 0xff_ffff, None));
    for (n, thin) in [(1, 2), (2, 4), (3, 5)] {
        made(world, volume(id(n), MIB));
        assert_eq!(record(world, id(n)).thin_id, on(thin).thin_id);
    }
    let counter = ThinCounter { next: 0xff_ffff };
    let counter = Edit::put(Record::ThinCounter(POOL, counter));
    world.intent.apply(&counter).unwrap();
    refuses(world, volume(id(4), MIB), NoSpace, "given all");
}

#[test]
fn a_volume_is_let_go_of_only_when_nothing_hangs_on_it() {
    let world = &mut with_idle();
    refuses(world, release(VOLUME), InUse, "has 1 connection");
    refuses(world, release(id(9)), NotFound, "not exist");
    for (n, words) in [(1, "has 1 snapshot"), (2, "has 2 snapshots")] {
        made(world, snapshot(id(n), IDLE));
        refuses(world, release(IDLE), InUse, words);
    }
    for n in [1, 2] {
        made(world, Command::SnapshotDelete { id: id(n) });
    }
    world.does(clone(id(3), ashlar_protocol::Parent::Volume(IDLE), None));
    refuses(world, release(IDLE), Busy, "is being made of");
    refuses(world, release(id(3)), Busy, "being created");
    world.settle(Unit::Volume(id(3)));
    assert_eq!(world.does(release(IDLE)), Some(Unit::Volume(IDLE)));
    joins(world, release(IDLE), Unit::Volume(IDLE));
    for command in [
        Command::VolumeDelete { id: IDLE },
        extend(IDLE, 9 * MIB),
        snapshot(id(4), IDLE),
        volume(IDLE, MIB),
        adopt(IDLE, 1, None),
    ] {
        refuses(world, command, Busy, "being released");
    }
    let words = format!("belongs to volume {IDLE}");
    refuses(world, adopt(ADOPTED, 1, None), Duplicate, &words);
    world.settle(Unit::Volume(IDLE));
    assert!(world.intent.volume(IDLE).is_none());
    assert_eq!(world.intent.owner_of_thin(on(1)), None);
    made(world, adopt(ADOPTED, 1, None));
    world.does(Command::VolumeDelete { id: ADOPTED });
    refuses(world, release(ADOPTED), Busy, "being deleted");
}

#[test]
fn one_that_is_still_being_adopted_can_be_let_go_of() {
    let world = &mut with_idle();
    world.does(adopt(ADOPTED, 7, None));
    world.does(release(ADOPTED));
    assert_eq!(record(world, ADOPTED).phase, VolumePhase::Releasing);
    world.settle(Unit::Volume(ADOPTED));
    assert!(world.intent.volume(ADOPTED).is_none());
}

#[test]
fn a_list_says_what_can_be_adopted() {
    let world = &mut with_idle();
    let why = |world: &World, thin, end| unadoptable(&world.intent, on(thin), end);
    for (thin, end, reason) in [
        (0, 0, Some(Unadoptable::Owned)),
        (7, 0, None),
        (7, CAPACITY, None),
        (7, CAPACITY + 1, Some(Unadoptable::TooLarge)),
        (7, u64::MAX, Some(Unadoptable::TooLarge)),
    ] {
        assert_eq!(why(world, thin, end), reason, "{thin} {end}");
    }
    made(world, snapshot(id(1), VOLUME));
    assert_eq!(why(world, 2, 0), Some(Unadoptable::Owned));
    world.does(Command::SnapshotDelete { id: id(1) });
    world.does(Command::VolumeDelete { id: IDLE });
    for thin in [1, 2] {
        assert_eq!(why(world, thin, 0), Some(Unadoptable::Retired));
    }
    let mut reverted = record(world, VOLUME).clone();
    reverted.retired = [on(8)].into();
    let edit = Edit::put(Record::Volume(VOLUME, reverted));
    world.intent.apply(&edit).unwrap();
    assert_eq!(why(world, 8, 0), Some(Unadoptable::Retired));
}

#[test]
fn a_snapshot_is_adopted_and_let_go_of_likewise() {
    let world = &mut with_idle();
    let adopting = |thin, size| adopt_snapshot(ADOPTED, IDLE, thin, size);
    refuses(world, adopting(0, None), Duplicate, "belongs to volume");
    refuses(world, adopting(7, Some(MIB)), OutOfRange, "less than");
    refuses(
        world,
        adopt_snapshot(ADOPTED, id(9), 7, None),
        NotFound,
        "not exist",
    );
    refuses(
        world,
        adopt_snapshot(VOLUME, IDLE, 7, None),
        Duplicate,
        "is a volume's",
    );
    let unit = Unit::Snapshot(ADOPTED);
    assert_eq!(world.does(adopting(7, None)), Some(unit));
    joins(world, adopting(7, None), unit);
    refuses(world, adopting(8, None), AlreadyExists, "not as asked");
    refuses(
        world,
        snapshot(ADOPTED, IDLE),
        AlreadyExists,
        "not as asked",
    );
    let delete = Command::SnapshotDelete { id: ADOPTED };
    refuses(world, delete.clone(), Busy, "being adopted");
    refuses(world, revert(IDLE, ADOPTED, false), Busy, "being adopted");
    world.settle(unit);
    unchanged(world, adopting(7, None));
    let there = world.intent.snapshot(ADOPTED).unwrap();
    assert_eq!((there.size, there.family), (2 * MIB, Some(POOL)));
    assert_eq!(there.generation, world.intent.generation());
    let parent = ashlar_protocol::Parent::Snapshot(ADOPTED);
    world.does(clone(id(3), parent, None));
    let release = Command::SnapshotRelease { id: ADOPTED };
    refuses(world, release.clone(), Busy, "is being made of");
    world.settle(Unit::Volume(id(3)));
    assert_eq!(world.does(release.clone()), Some(unit));
    joins(world, release.clone(), unit);
    for command in [delete, snapshot(ADOPTED, IDLE), adopting(7, None)] {
        refuses(world, command, Busy, "being released");
    }
    world.settle(unit);
    assert_eq!(world.intent.owner_of_thin(on(7)), None);
    refuses(world, release, NotFound, "not exist");
}
