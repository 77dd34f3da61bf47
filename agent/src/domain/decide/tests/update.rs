//! Updates, limits, and what pools may be promised.

use ashlar_protocol::{
    Labels, PoolUpdate, Provisioning, Qos, SnapshotUpdate, VolumeSpec, VolumeUpdate,
};

use super::*;
use crate::domain::settle::settle;

/// A volume without connections, made in the furnished world.
const IDLE: Uuid = Uuid::from_u128(0xe1);

fn with_idle() -> World {
    let mut world = World::furnished();
    made(&mut world, volume(IDLE, MIB));
    world
}

fn made(world: &mut World, command: Command) {
    let unit = world.does(command).unwrap();
    world.settle(unit);
}

fn limits(qos: Qos) -> VolumeUpdate {
    VolumeUpdate {
        qos: Some(qos),
        ..VolumeUpdate::default()
    }
}

fn writes(write_iops: u64) -> Qos {
    Qos {
        write_iops: Some(write_iops),
        ..Qos::default()
    }
}

fn thick(id: Uuid, size: u64) -> Command {
    let spec = VolumeSpec {
        provisioning: Provisioning::Thick,
        ..VolumeSpec::blank("thick".parse().unwrap(), POOL, size)
    };
    Command::VolumeCreate { id, spec }
}

fn provisioned(id: Uuid, provisioning: Provisioning) -> Command {
    let provisioning = Some(provisioning);
    update(
        id,
        VolumeUpdate {
            provisioning,
            ..VolumeUpdate::default()
        },
    )
}

fn promises(over_subscription: Option<u32>, reserved: Option<u32>) -> Command {
    let spec = PoolUpdate {
        over_subscription,
        reserved,
        ..PoolUpdate::default()
    };
    Command::PoolUpdate { id: POOL, spec }
}

fn pool_entry(world: &World) -> (u64, u64, u64) {
    let entry = world.intent.pool(POOL).unwrap();
    (entry.provisioned, entry.thin, entry.thick)
}

#[test]
fn names_and_labels_change_without_the_kernel() {
    let world = &mut World::furnished();
    world.kernel = false;
    let labels = [("owner".to_owned(), "db".to_owned())];
    let labels: Labels = std::collections::BTreeMap::from(labels).try_into().unwrap();
    let spec = VolumeUpdate {
        name: Some("new".parse().unwrap()),
        labels: Some(labels.clone()),
        ..VolumeUpdate::default()
    };
    assert_eq!(world.does(update(VOLUME, spec.clone())), None);
    let record = &world.intent.volume(VOLUME).unwrap().record;
    assert_eq!(record.name.as_str(), "new");
    assert_eq!(record.labels, labels);
    assert_eq!(record.generation, world.intent.generation());
    unchanged(world, update(VOLUME, spec));
    unchanged(world, update(VOLUME, VolumeUpdate::default()));
}

#[test]
fn a_snapshot_is_renamed_and_labelled_once_it_is_there() {
    let world = &mut World::furnished();
    let change = |name: Option<&str>, labels: Option<Labels>| Command::SnapshotUpdate {
        id: id(1),
        spec: SnapshotUpdate {
            name: name.map(|name| name.parse().unwrap()),
            labels,
        },
    };
    let labels = [("why".to_owned(), "upgrade".to_owned())];
    let labels: Labels = std::collections::BTreeMap::from(labels).try_into().unwrap();
    refuses(world, change(Some("x"), None), NotFound, "does not exist");
    world.does(snapshot(id(1), VOLUME));
    refuses(world, change(Some("x"), None), Busy, "is being created");
    world.settle(Unit::Snapshot(id(1)));
    world.kernel = false;
    assert_eq!(world.does(change(None, Some(labels.clone()))), None);
    assert_eq!(world.does(change(Some("kept"), None)), None);
    let record = world.intent.snapshot(id(1)).unwrap();
    assert_eq!(record.name.as_str(), "kept");
    assert_eq!(record.labels, labels);
    assert_eq!(record.generation, world.intent.generation());
    unchanged(world, change(Some("kept"), Some(labels)));
    unchanged(world, change(None, None));
}

#[test]
fn what_a_revert_retires_is_forgotten_although_the_volume_was_changed_meanwhile() {
    let renamed = VolumeUpdate {
        name: Some("new".parse().unwrap()),
        ..VolumeUpdate::default()
    };
    for change in [update(IDLE, renamed), extend(IDLE, 2 * MIB)] {
        let world = &mut with_idle();
        for (command, unit) in [
            (snapshot(id(1), IDLE), Unit::Snapshot(id(1))),
            (revert(IDLE, id(1), false), Unit::Volume(IDLE)),
        ] {
            world.does(command);
            world.settle(unit);
        }
        let retiring = world.intent.generation();
        // Whether the kernel is told of the change, or of the revert alone.
        let told = match world.does(change) {
            Some(_) => world.intent.generation(),
            None => retiring,
        };
        for edit in settle(&world.intent, Unit::Volume(IDLE), told, None) {
            world.intent.apply(&edit).unwrap();
        }
        assert!(world.intent.volume(IDLE).unwrap().record.retired.is_empty());
    }
}

#[test]
fn limits_reach_the_kernel_only_where_hosts_are_connected() {
    let world = &mut with_idle();
    let unit = world.does(update(VOLUME, limits(writes(100))));
    assert_eq!(unit, Some(Unit::Volume(VOLUME)));
    assert_eq!(world.does(update(IDLE, limits(writes(100)))), None);
    let record = |world: &World| world.intent.volume(IDLE).unwrap().record.clone();
    assert_eq!(record(world).qos.as_deref(), Some(&writes(100)));
    // An empty one lifts them.
    assert_eq!(world.does(update(IDLE, limits(Qos::default()))), None);
    assert_eq!(record(world).qos, None);
    let for_nothing = Qos {
        per_gib: true,
        ..Qos::default()
    };
    unchanged(world, update(IDLE, limits(for_nothing)));
}

#[test]
fn limits_that_stand_already_are_waited_for_until_the_kernel_has_them() {
    let world = &mut World::furnished();
    world.does(update(VOLUME, limits(writes(100))));
    unchanged(world, update(VOLUME, limits(writes(100))));
    world.behind.insert(Unit::Volume(VOLUME));
    joins(
        world,
        update(VOLUME, limits(writes(100))),
        Unit::Volume(VOLUME),
    );
}

#[test]
fn limits_that_cannot_be_held_are_refused() {
    let world = &mut World::furnished();
    let both = Qos {
        total_iops: Some(100),
        ..writes(100)
    };
    for (qos, code, words) in [
        (writes(9), OutOfRange, "write_iops 9 is not from 10"),
        (both, InvalidField, "total_iops goes neither"),
    ] {
        refuses(world, update(VOLUME, limits(qos)), code, words);
        let spec = VolumeSpec {
            qos: Some(qos),
            ..VolumeSpec::blank("limited".parse().unwrap(), POOL, MIB)
        };
        refuses(
            world,
            Command::VolumeCreate { id: id(1), spec },
            code,
            words,
        );
    }
    world
        .missing
        .insert("blkio", "it is not mounted".to_owned());
    refuses(
        world,
        update(VOLUME, limits(writes(100))),
        Unsupported,
        "cannot be limited: it is not mounted",
    );
    // What limits nothing takes no kernel that limits.
    unchanged(world, update(VOLUME, limits(Qos::default())));
}

#[test]
fn a_volume_asked_for_with_other_limits_is_taken() {
    let world = &mut World::furnished();
    let spec = |qos| VolumeSpec {
        qos,
        ..VolumeSpec::blank("limited".parse().unwrap(), POOL, MIB)
    };
    let create = |qos| Command::VolumeCreate {
        id: id(1),
        spec: spec(qos),
    };
    made(world, create(Some(writes(100))));
    unchanged(world, create(Some(writes(100))));
    refuses(world, create(Some(writes(200))), AlreadyExists, "not as");
    refuses(world, create(None), AlreadyExists, "not as");
    refuses(world, thick(id(1), MIB), AlreadyExists, "not as");
}

#[test]
fn what_is_in_motion_is_not_updated() {
    let world = &mut World::furnished();
    let rename = |id| {
        let name = Some("new".parse().unwrap());
        update(
            id,
            VolumeUpdate {
                name,
                ..VolumeUpdate::default()
            },
        )
    };
    refuses(world, rename(id(9)), NotFound, "does not exist");
    world.does(volume(id(1), MIB));
    refuses(world, rename(id(1)), Busy, "being created");
    world.does(Command::VolumeDelete { id: id(1) });
    refuses(world, rename(id(1)), Busy, "being deleted");
}

#[test]
fn thick_volumes_and_their_snapshots_keep_their_size() {
    let world = &mut World::furnished();
    made(world, thick(id(1), 100 * MIB));
    assert_eq!(pool_entry(world), (110 * MIB, 10 * MIB, 100 * MIB));
    assert_eq!(world.does(extend(id(1), 200 * MIB)), None);
    assert_eq!(pool_entry(world), (210 * MIB, 10 * MIB, 200 * MIB));
    made(world, snapshot(id(2), id(1)));
    assert_eq!(pool_entry(world), (210 * MIB, 10 * MIB, 400 * MIB));
    // A clone is what it is asked to be.
    made(
        world,
        clone(id(3), ashlar_protocol::Parent::Volume(id(1)), None),
    );
    assert_eq!(pool_entry(world), (410 * MIB, 210 * MIB, 400 * MIB));
    assert_eq!(world.does(provisioned(id(1), Provisioning::Thin)), None);
    assert_eq!(pool_entry(world), (410 * MIB, 410 * MIB, 200 * MIB));
    // The snapshot was taken of a thick volume, and stays so.
    made(world, Command::SnapshotDelete { id: id(2) });
    assert_eq!(pool_entry(world), (410 * MIB, 410 * MIB, 0));
    assert_eq!(world.does(provisioned(id(1), Provisioning::Thick)), None);
    assert_eq!(pool_entry(world), (410 * MIB, 210 * MIB, 200 * MIB));
    made(world, Command::VolumeDelete { id: id(1) });
    assert_eq!(pool_entry(world), (210 * MIB, 210 * MIB, 0));
}

#[test]
fn what_is_kept_is_never_more_than_there_is() {
    let world = &mut World::furnished();
    let most = CAPACITY / MIB * MIB;
    made(world, thick(id(1), most / 2));
    refuses(world, thick(id(2), most), NoSpace, "would keep");
    made(world, volume(id(3), most));
    refuses(
        world,
        provisioned(id(3), Provisioning::Thick),
        NoSpace,
        "would keep",
    );
    made(world, snapshot(id(4), id(1)));
    refuses(world, snapshot(id(5), id(1)), NoSpace, "would keep");
    refuses(world, extend(id(1), most), NoSpace, "would keep");
    // Thin volumes need nothing kept.
    made(world, snapshot(id(6), id(3)));
}

#[test]
fn thin_volumes_are_promised_what_the_pool_allows() {
    let world = &mut World::furnished();
    let most = CAPACITY / MIB * MIB;
    made(world, volume(id(1), most));
    // What was promised stays promised, and nothing more is.
    assert_eq!(world.does(promises(Some(100), None)), None);
    refuses(
        world,
        volume(id(2), MIB),
        NoSpace,
        "over-subscription of 100 %",
    );
    refuses(
        world,
        extend(VOLUME, 11 * MIB),
        NoSpace,
        "over-subscription",
    );
    world.does(promises(Some(200), None));
    made(world, volume(id(2), MIB));
    // What is kept for others is not promised twice.
    refuses(world, thick(id(3), most / 2), NoSpace, "over-subscription");
    world.does(promises(Some(0), None));
    made(world, thick(id(3), most / 2));
}

#[test]
fn what_is_reserved_is_promised_to_nobody() {
    let world = &mut World::furnished();
    world.does(promises(None, Some(50)));
    refuses(world, volume(id(1), CAPACITY / 2 + MIB), NoSpace, "50 % of");
    made(world, thick(id(1), CAPACITY / 4));
    refuses(
        world,
        thick(id(2), CAPACITY / 4 + 2 * MIB),
        NoSpace,
        "would keep",
    );
    unchanged(world, promises(None, Some(50)));
    for (command, words) in [
        (promises(Some(99), None), "over_subscription 99"),
        (promises(Some(100_001), None), "over_subscription 100001"),
        (promises(None, Some(100)), "reserved 100"),
    ] {
        refuses(world, command, OutOfRange, words);
    }
}

#[test]
fn a_pool_in_the_making_is_not_updated() {
    let world = &mut World::empty();
    refuses(world, promises(None, None), NotFound, "does not exist");
    world.does(pool(POOL, &["serial-DISK0"]));
    refuses(world, promises(None, Some(1)), Busy, "being created");
}
