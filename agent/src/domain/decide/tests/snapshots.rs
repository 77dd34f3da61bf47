//! Snapshots, clones and reverts.

use ashlar_protocol::{Connected, ConnectionSpec, Parent, TransferSpec};

use super::*;
use crate::domain::record::{SnapshotPhase, ThinCounter};
use crate::domain::settle::settle;

const SNAPSHOT: Uuid = Uuid::from_u128(0xe0);
const OTHER_POOL: Uuid = Uuid::from_u128(0xa1);

/// The furnished world with a snapshot of its volume, and a second pool.
fn with_snapshot() -> World {
    let mut world = World::furnished();
    for (command, unit) in [
        (snapshot(SNAPSHOT, VOLUME), Unit::Snapshot(SNAPSHOT)),
        (pool(OTHER_POOL, &["serial-DISK1"]), Unit::Pool(OTHER_POOL)),
    ] {
        assert_eq!(world.does(command), Some(unit));
        world.settle(unit);
    }
    world
}

fn made(world: &mut World, command: Command) {
    let unit = world.does(command).unwrap();
    world.settle(unit);
}

fn thin(world: &World, volume: Uuid) -> u32 {
    world.intent.volume(volume).unwrap().record.thin_id.value()
}

#[test]
fn a_snapshot_has_its_volumes_size_and_pool_and_a_thin_id_of_its_own() {
    let world = with_snapshot();
    let there = world.intent.snapshot(SNAPSHOT).unwrap();
    assert_eq!((there.volume, there.pool), (VOLUME, POOL));
    assert_eq!((there.size, there.origin_thin.value()), (10 * MIB, 0));
    assert_eq!(there.thin_id.value(), 1);
    assert_eq!(there.phase, SnapshotPhase::Present);
    assert_eq!(world.intent.volume(VOLUME).unwrap().snapshots, 1);
    assert_eq!(world.intent.pool(POOL).unwrap().snapshots, 1);
}

#[test]
fn a_snapshot_asked_for_again_is_found_or_taken() {
    let world = &mut with_snapshot();
    unchanged(world, snapshot(SNAPSHOT, VOLUME));
    made(world, volume(id(1), MIB));
    refuses(
        world,
        snapshot(SNAPSHOT, id(1)),
        AlreadyExists,
        "exists and is not",
    );
    world.does(snapshot(id(2), VOLUME));
    joins(world, snapshot(id(2), VOLUME), Unit::Snapshot(id(2)));
    world.does(Command::SnapshotDelete { id: id(2) });
    refuses(world, snapshot(id(2), VOLUME), Busy, "being deleted");
}

#[test]
fn an_id_stands_for_one_object() {
    let world = &mut with_snapshot();
    refuses(world, snapshot(VOLUME, VOLUME), Duplicate, "is a volume's");
    refuses(world, volume(SNAPSHOT, MIB), Duplicate, "is a snapshot's");
    // What is left of an earlier volume is never taken for a new one's.
    made(world, volume(id(1), MIB));
    made(world, snapshot(id(2), id(1)));
    made(world, Command::VolumeDelete { id: id(1) });
    refuses(world, volume(id(1), MIB), Duplicate, "of an earlier volume");
    made(world, Command::SnapshotDelete { id: id(2) });
    made(world, volume(id(1), MIB));
}

#[test]
fn a_clone_is_as_large_as_its_source_or_larger_and_of_its_pool() {
    let world = &mut with_snapshot();
    for (n, parent) in [(1, Parent::Snapshot(SNAPSHOT)), (2, Parent::Volume(VOLUME))] {
        refuses(
            world,
            clone(id(n), parent, Some(9 * MIB)),
            OutOfRange,
            "less than the source's",
        );
        refuses(
            world,
            clone(id(n), parent, Some(CAPACITY + 1)),
            NoSpace,
            "more than pool",
        );
        let Command::VolumeCreate {
            id: clone_id,
            mut spec,
        } = clone(id(n), parent, None)
        else {
            unreachable!("it is one")
        };
        spec.pool = OTHER_POOL;
        let elsewhere = Command::VolumeCreate { id: clone_id, spec };
        refuses(world, elsewhere, InvalidField, "cannot be made in pool");
        made(world, clone(id(n), parent, None));
        made(world, clone(id(n + 10), parent, Some(10 * MIB + 1)));
        let size = |v| world.intent.volume(v).unwrap().record.size;
        assert_eq!((size(id(n)), size(id(n + 10))), (10 * MIB, 11 * MIB));
        let there = &world.intent.volume(id(n)).unwrap().record;
        assert_eq!((there.parent, there.origin), (Some(parent), None));
    }
}

#[test]
fn a_volume_without_a_source_says_its_size() {
    let world = &mut World::furnished();
    let Command::VolumeCreate { id, mut spec } = volume(id(1), MIB) else {
        unreachable!("it is one")
    };
    spec.size = None;
    refuses(
        world,
        Command::VolumeCreate { id, spec },
        InvalidField,
        "size is missing",
    );
}

#[test]
fn a_clone_asked_for_again_is_found_or_taken() {
    let world = &mut with_snapshot();
    let of = Parent::Snapshot(SNAPSHOT);
    world.does(clone(id(1), of, None));
    joins(world, clone(id(1), of, None), Unit::Volume(id(1)));
    world.settle(Unit::Volume(id(1)));
    unchanged(world, clone(id(1), of, None));
    unchanged(world, clone(id(1), of, Some(10 * MIB)));
    let others = [
        clone(id(1), of, Some(11 * MIB)),
        clone(id(1), Parent::Volume(VOLUME), None),
        volume(id(1), 10 * MIB),
    ];
    for other in others {
        refuses(world, other, AlreadyExists, "exists and is not");
    }
    // As long as it is there, whatever became of what it was made of.
    made(world, Command::SnapshotDelete { id: SNAPSHOT });
    unchanged(world, clone(id(1), of, None));
}

#[test]
fn what_something_is_being_made_of_stays_as_it_is() {
    let makings = [
        (snapshot(id(1), VOLUME), VOLUME),
        (clone(id(1), Parent::Volume(VOLUME), None), VOLUME),
        (clone(id(1), Parent::Snapshot(SNAPSHOT), None), SNAPSHOT),
    ];
    for (making, of) in makings {
        let mut world = with_snapshot();
        made(&mut world, Command::VolumeDetachAll { id: VOLUME });
        let unit = world.does(making).unwrap();
        let changes = match of {
            VOLUME => vec![
                Command::VolumeDelete { id: VOLUME },
                extend(VOLUME, 20 * MIB),
                revert(VOLUME, SNAPSHOT, true),
            ],
            _ => vec![Command::SnapshotDelete { id: SNAPSHOT }],
        };
        for change in &changes {
            refuses(&mut world, change.clone(), Busy, "is being made of");
        }
        // More can be made of it at the same time.
        assert!(world.decide(&snapshot(id(2), VOLUME)).is_ok());
        world.settle(unit);
        for change in changes {
            assert!(world.decide(&change).is_ok(), "{change:?}");
        }
    }
}

#[test]
fn nothing_is_made_of_what_is_in_motion() {
    let mut world = with_snapshot();
    world.does(volume(id(1), MIB));
    let of_volume = |v| [snapshot(id(9), v), clone(id(9), Parent::Volume(v), None)];
    for command in of_volume(id(1)) {
        refuses(&mut world, command, Busy, "being created");
    }
    world.does(Command::VolumeDelete { id: id(1) });
    for command in of_volume(id(1)) {
        refuses(&mut world, command, Busy, "being deleted");
    }
    world.does(snapshot(id(2), VOLUME));
    let of_snapshot = |s| clone(id(9), Parent::Snapshot(s), None);
    refuses(&mut world, of_snapshot(id(2)), Busy, "being created");
    world.does(Command::SnapshotDelete { id: id(2) });
    refuses(&mut world, of_snapshot(id(2)), Busy, "being deleted");
    refuses(
        &mut world,
        revert(VOLUME, id(2), true),
        Busy,
        "being deleted",
    );

    world.does(revert(VOLUME, SNAPSHOT, true));
    for command in of_volume(VOLUME) {
        refuses(&mut world, command, Busy, "being reverted");
    }
    let attached = attach(id(9), VOLUME, OTHER_HOST, Transport::Iscsi);
    refuses(&mut world, attached, Busy, "being reverted");
    refuses(&mut world, extend(VOLUME, 20 * MIB), Busy, "being reverted");
}

#[test]
fn what_does_not_exist_is_no_source() {
    let world = &mut with_snapshot();
    let none = id(0x99);
    for command in [
        snapshot(id(1), none),
        clone(id(1), Parent::Volume(none), None),
        clone(id(1), Parent::Snapshot(none), None),
        clone(id(1), Parent::Volume(id(1)), None),
        revert(VOLUME, none, true),
        revert(none, SNAPSHOT, true),
        Command::SnapshotDelete { id: none },
    ] {
        refuses(world, command, NotFound, "does not exist");
    }
}

#[test]
fn a_volume_goes_back_to_its_own_snapshots_alone() {
    let world = &mut with_snapshot();
    made(world, volume(id(1), MIB));
    refuses(
        world,
        revert(id(1), SNAPSHOT, false),
        InvalidField,
        "is of volume",
    );
    made(world, clone(id(2), Parent::Snapshot(SNAPSHOT), None));
    refuses(
        world,
        revert(id(2), SNAPSHOT, false),
        InvalidField,
        "is of volume",
    );
}

#[test]
fn connected_hosts_are_interrupted_only_when_that_was_said() {
    let world = &mut with_snapshot();
    refuses(
        world,
        revert(VOLUME, SNAPSHOT, false),
        InUse,
        "1 connection",
    );
    world.does(revert(VOLUME, SNAPSHOT, true));
    let mut world = with_snapshot();
    made(&mut world, Command::VolumeDetachAll { id: VOLUME });
    world.does(revert(VOLUME, SNAPSHOT, false));
}

#[test]
fn a_reverted_volume_keeps_its_size_and_gets_a_thin_device_of_its_own() {
    let world = &mut with_snapshot();
    made(world, extend(VOLUME, 20 * MIB));
    made(world, revert(VOLUME, SNAPSHOT, true));
    let there = world.intent.volume(VOLUME).unwrap();
    assert_eq!((there.record.size, there.connections), (20 * MIB, 1));
    assert_eq!(thin(world, VOLUME), 2);
    // The old one is still to go, one step at a time.
    refuses(
        world,
        revert(VOLUME, SNAPSHOT, true),
        Busy,
        "being reverted",
    );
    world.settle(Unit::Volume(VOLUME));
    made(world, revert(VOLUME, SNAPSHOT, true));
    assert_eq!(thin(world, VOLUME), 3);
    world.settle(Unit::Volume(VOLUME));
    // The snapshot it went back to may go, and others are of the new content.
    made(world, snapshot(id(1), VOLUME));
    assert_eq!(world.intent.snapshot(id(1)).unwrap().origin_thin.value(), 3);
    made(world, Command::SnapshotDelete { id: SNAPSHOT });
}

#[test]
fn a_revert_asked_for_again_waits_for_the_same_end_and_another_is_busy() {
    let world = &mut with_snapshot();
    made(world, snapshot(id(1), VOLUME));
    world.does(revert(VOLUME, SNAPSHOT, true));
    joins(world, revert(VOLUME, SNAPSHOT, true), Unit::Volume(VOLUME));
    refuses(world, revert(VOLUME, id(1), true), Busy, "being reverted");
    // So it is once the new thin device is there, and what it was made of stays.
    let generation = world.intent.generation();
    for edit in settle(&world.intent, Unit::Volume(VOLUME), generation, None) {
        world.intent.apply(&edit).unwrap();
    }
    joins(world, revert(VOLUME, SNAPSHOT, true), Unit::Volume(VOLUME));
    refuses(world, revert(VOLUME, id(1), true), Busy, "being reverted");
    let delete = Command::SnapshotDelete { id: SNAPSHOT };
    refuses(world, delete, Busy, "being made of");
}

#[test]
fn everything_is_deleted_in_any_order() {
    let order = |world: &mut World, ids: &[Uuid]| {
        for id in ids {
            let id = *id;
            let command = match world.intent.volume(id) {
                Some(_) => Command::VolumeDelete { id },
                None => Command::SnapshotDelete { id },
            };
            made(world, command);
        }
        assert!(world.intent.volumes().is_empty() && world.intent.snapshots().is_empty());
        assert_eq!(world.intent.pool(POOL).unwrap().snapshots, 0);
    };
    let (first, clone_id, second) = (SNAPSHOT, id(1), id(2));
    for ids in [
        [VOLUME, first, clone_id, second],
        [second, clone_id, first, VOLUME],
        [first, VOLUME, second, clone_id],
        [clone_id, second, VOLUME, first],
    ] {
        let mut world = with_snapshot();
        made(&mut world, clone(clone_id, Parent::Snapshot(first), None));
        made(&mut world, snapshot(second, clone_id));
        made(&mut world, Command::VolumeDetachAll { id: VOLUME });
        order(&mut world, &ids);
    }
}

#[test]
fn deleting_what_is_being_deleted_waits_for_the_same_end() {
    let world = &mut with_snapshot();
    world.does(Command::SnapshotDelete { id: SNAPSHOT });
    joins(
        world,
        Command::SnapshotDelete { id: SNAPSHOT },
        Unit::Snapshot(SNAPSHOT),
    );
}

#[test]
fn a_pool_without_thin_ids_left_takes_no_snapshot_and_no_revert() {
    let mut world = with_snapshot();
    let used_up = ThinCounter { next: 1 << 24 };
    let edit = Edit::put(Record::ThinCounter(POOL, used_up));
    world.intent.apply(&edit).unwrap();
    for command in [
        snapshot(id(1), VOLUME),
        clone(id(1), Parent::Snapshot(SNAPSHOT), None),
        revert(VOLUME, SNAPSHOT, true),
    ] {
        refuses(&mut world, command, NoSpace, "all its thin device ids");
    }
}

#[test]
fn nothing_is_taken_in_a_pool_that_is_offline_or_without_targetd() {
    let mut world = with_snapshot();
    let commands = [
        snapshot(id(1), VOLUME),
        clone(id(1), Parent::Snapshot(SNAPSHOT), None),
        revert(VOLUME, SNAPSHOT, true),
    ];
    world.kernel = false;
    for command in &commands {
        refuses(&mut world, command.clone(), TargetdUnavailable, "targetd");
    }
    world.kernel = true;
    let gone = Problem::new(KernelFailed, "a disk is gone");
    world.troubled.insert(Unit::Pool(POOL), gone);
    for command in commands {
        refuses(&mut world, command, WrongState, "a disk is gone");
    }
}

#[test]
fn a_snapshot_is_connected_to_be_read_and_over_iscsi() {
    let world = &mut with_snapshot();
    let unit = Unit::Snapshot(SNAPSHOT);
    let before = world.intent.volume(VOLUME).unwrap().connections;
    made(world, read(id(1), SNAPSHOT, OTHER_HOST));
    unchanged(world, read(id(1), SNAPSHOT, OTHER_HOST));
    let there = world.intent.connection(id(1)).unwrap();
    assert_eq!(there.of, Connected::Snapshot(SNAPSHOT));
    assert_eq!(world.intent.volume(VOLUME).unwrap().connections, before);
    assert_eq!(world.intent.host(OTHER_HOST).unwrap().connections, 1);
    assert_eq!(world.intent.connected_snapshots(), [SNAPSHOT].into());
    let again = read(id(2), SNAPSHOT, OTHER_HOST);
    refuses(world, again, Duplicate, "attaches snapshot");
    // What one asks of the volume under that id is another thing.
    let volume = attach(id(1), VOLUME, OTHER_HOST, Transport::Iscsi);
    refuses(world, volume, AlreadyExists, "is not as asked for");
    let with = |change: &dyn Fn(&mut ConnectionSpec)| match read(id(3), SNAPSHOT, HOST) {
        Command::ConnectionCreate { id, mut spec } => {
            change(&mut spec);
            Command::ConnectionCreate { id, spec }
        }
        other => other,
    };
    let nvme = with(&|spec| spec.transport = Transport::NvmeTcp);
    refuses(world, nvme, Unsupported, "no read-only access");
    let writing = with(&|spec| spec.access = Access::ReadWrite);
    refuses(world, writing, InvalidField, "is only read");
    let nobody = with(&|spec| spec.of = Connected::Snapshot(id(77)));
    refuses(world, nobody, NotFound, "snapshot");
    assert_eq!(world.does(detach(id(1))), Some(unit));
    refuses(
        world,
        read(id(1), SNAPSHOT, OTHER_HOST),
        Busy,
        "being detached",
    );
    world.settle(unit);
    assert_eq!(world.intent.connection(id(1)), None);
    assert_eq!(world.intent.host(OTHER_HOST).unwrap().connections, 0);
    assert!(world.intent.connected_snapshots().is_empty());
}

#[test]
fn a_connected_snapshot_stays_whatever_becomes_of_its_volume() {
    let world = &mut with_snapshot();
    made(world, read(id(1), SNAPSHOT, OTHER_HOST));
    let (delete, release) = (
        Command::SnapshotDelete { id: SNAPSHOT },
        Command::SnapshotRelease { id: SNAPSHOT },
    );
    refuses(world, delete.clone(), InUse, "has 1 connection");
    refuses(world, release, InUse, "has 1 connection");
    let spec = TransferSpec {
        owner: "other".parse().unwrap(),
        interrupt: true,
    };
    let transfer = Command::VolumeTransfer { id: VOLUME, spec };
    refuses(world, transfer.clone(), InUse, "has 1 connection");
    // Both are read meanwhile, and neither minds.
    made(world, clone(id(2), Parent::Snapshot(SNAPSHOT), None));
    made(world, detach(CONNECTION));
    made(world, revert(VOLUME, SNAPSHOT, false));
    world.settle(Unit::Volume(VOLUME));
    world.settle(Unit::Volume(VOLUME));
    made(world, Command::VolumeDelete { id: VOLUME });
    assert!(world.intent.volume(VOLUME).is_none());
    assert_eq!(world.intent.connected_snapshots(), [SNAPSHOT].into());
    made(world, detach(id(1)));
    made(world, delete);
    assert_eq!(world.intent.snapshot(SNAPSHOT), None);
}

#[test]
fn a_snapshot_in_the_making_is_not_connected() {
    let world = &mut World::furnished();
    world.does(snapshot(SNAPSHOT, VOLUME));
    let early = read(id(1), SNAPSHOT, OTHER_HOST);
    refuses(world, early.clone(), Busy, "being created");
    world.settle(Unit::Snapshot(SNAPSHOT));
    assert_eq!(world.does(early), Some(Unit::Snapshot(SNAPSHOT)));
}
