//! Groups and group snapshots.

use ashlar_protocol::{
    GroupSnapshotSpec, GroupSnapshotUpdate, GroupSource, GroupSpec, GroupUpdate, MemberCopy,
    MemberSnapshot, Parent,
};

use super::*;
use crate::domain::record::{GroupPhase, SnapshotPhase};
use crate::domain::settle::{Grounds, Span, withdraw};

const GROUP: Uuid = Uuid::from_u128(0x90);
const WHOLE: Uuid = Uuid::from_u128(0x91);
const SECOND: Uuid = Uuid::from_u128(0xc1);

/// The furnished world with a second volume, and a group of both.
fn with_group() -> World {
    let mut world = World::furnished();
    world.does(volume(SECOND, 2 * MIB));
    world.settle(Unit::Volume(SECOND));
    assert_eq!(world.does(group(GROUP, &[VOLUME, SECOND])), None);
    world
}

/// With a group snapshot besides.
fn with_snapshots() -> World {
    let mut world = with_group();
    let unit = world.does(whole(WHOLE, &[(VOLUME, 1), (SECOND, 2)]));
    assert_eq!(unit, Some(Unit::GroupSnapshot(WHOLE)));
    world.settle(Unit::GroupSnapshot(WHOLE));
    world
}

fn group(id: Uuid, volumes: &[Uuid]) -> Command {
    let spec = GroupSpec {
        name: "app".parse().unwrap(),
        volumes: volumes.to_vec(),
        source: None,
    };
    Command::GroupCreate { id, spec }
}

fn copies_of(source: GroupSource) -> Command {
    let spec = GroupSpec {
        name: "copy".parse().unwrap(),
        volumes: Vec::new(),
        source: Some(source),
    };
    Command::GroupCreate { id: id(0x95), spec }
}

fn of_group(pairs: &[(Uuid, u128)]) -> GroupSource {
    GroupSource {
        group: Some(GROUP),
        group_snapshot: None,
        volumes: copies(pairs),
    }
}

fn copies(pairs: &[(Uuid, u128)]) -> Vec<MemberCopy> {
    let copy = |(source, volume): &(Uuid, u128)| MemberCopy {
        source: *source,
        volume: id(*volume),
    };
    pairs.iter().map(copy).collect()
}

fn whole(id: Uuid, pairs: &[(Uuid, u128)]) -> Command {
    let new = |(volume, snapshot): &(Uuid, u128)| MemberSnapshot {
        volume: *volume,
        snapshot: Uuid::from_u128(*snapshot),
    };
    let spec = GroupSnapshotSpec {
        name: "before".parse().unwrap(),
        group: GROUP,
        snapshots: pairs.iter().map(new).collect(),
    };
    Command::GroupSnapshotCreate { id, spec }
}

fn update(add: &[Uuid], remove: &[Uuid]) -> Command {
    let update = GroupUpdate {
        name: None,
        add: add.to_vec(),
        remove: remove.to_vec(),
    };
    Command::GroupUpdate { id: GROUP, update }
}

fn members(world: &World, group: Uuid) -> Vec<Uuid> {
    let members = world.intent.volumes_of_group(group);
    members.map(|(id, _)| id).collect()
}

/// The kernel refused all that was asked of a unit.
fn withdrawn(world: &mut World, unit: Unit) {
    let span = Span {
        applied: 0,
        tried: world.intent.generation(),
    };
    let problem = Problem::new(NoSpace, "the pool is full");
    for edit in withdraw(&world.intent, unit, span, &Grounds::new(problem)) {
        world.intent.apply(&edit).unwrap();
    }
}

/// Whether the newest request was noted as failed.
fn newest_failed(world: &World) -> bool {
    let newest = world.intent.requests_by_age().last();
    newest.is_some_and(|(_, request)| request.failed.is_some())
}

/// A thin id given there may be somebody's.
#[test]
fn nothing_is_made_in_a_pool_of_which_it_is_not_known_what_it_has() {
    let mut world = with_snapshots();
    let problem = Problem::new(KernelFailed, "the metadata cannot be read");
    world.uncounted.insert(POOL, problem);
    let source = GroupSource {
        group: None,
        group_snapshot: Some(WHOLE),
        volumes: copies(&[(id(1), 21), (id(2), 22)]),
    };
    for command in [
        volume(id(20), MIB),
        clone(id(20), Parent::Volume(SECOND), None),
        clone(id(20), Parent::Snapshot(id(1)), None),
        snapshot(id(20), VOLUME),
        revert(VOLUME, id(1), true),
        whole(id(20), &[(VOLUME, 21), (SECOND, 22)]),
        copies_of(source),
    ] {
        refuses(&mut world, command, KernelFailed, "cannot be read");
    }
    // What is there is used, and taken away.
    world.does(attach(id(30), SECOND, OTHER_HOST, Transport::Iscsi));
    world.does(Command::GroupSnapshotDelete { id: WHOLE });
    world.kernel = false;
    refuses(&mut world, volume(id(20), MIB), TargetdUnavailable, "");
}

#[test]
fn a_volume_is_a_member_of_one_group_at_most() {
    let world = &mut with_group();
    refuses(
        world,
        group(id(1), &[VOLUME]),
        Duplicate,
        &GROUP.to_string(),
    );
    refuses(world, update(&[SECOND], &[]), Duplicate, "is a member");
    refuses(world, group(id(1), &[id(9)]), NotFound, "does not exist");
    world.does(volume(id(5), MIB));
    refuses(world, group(id(1), &[id(5)]), Busy, "being created");
    world.settle(Unit::Volume(id(5)));
    refuses(world, group(id(1), &[id(5), id(5)]), InvalidField, "twice");
}

#[test]
fn a_group_snapshot_is_renamed_and_its_snapshots_are_not() {
    let rename = |id: Uuid, name: Option<&str>| {
        let name = name.map(|name| name.parse().unwrap());
        let spec = GroupSnapshotUpdate { name };
        Command::GroupSnapshotUpdate { id, spec }
    };
    let world = &mut with_group();
    refuses(world, rename(WHOLE, Some("kept")), NotFound, "not exist");
    world.does(whole(WHOLE, &[(VOLUME, 1), (SECOND, 2)]));
    refuses(world, rename(WHOLE, Some("kept")), Busy, "being created");
    world.settle(Unit::GroupSnapshot(WHOLE));
    assert_eq!(world.does(rename(WHOLE, Some("kept"))), None);
    let record = world.intent.group_snapshot(WHOLE).unwrap();
    assert_eq!(record.name.as_str(), "kept");
    for (_, snapshot) in world.intent.snapshots_of_group(WHOLE) {
        assert_eq!(snapshot.name.as_str(), "before");
    }
    unchanged(world, rename(WHOLE, Some("kept")));
    unchanged(world, rename(WHOLE, None));
}

#[test]
fn a_group_has_256_members_at_most() {
    let world = &mut with_group();
    let many: Vec<Uuid> = (0..257).map(|n| id(0x1000 + n)).collect();
    refuses(world, group(id(1), &many), OutOfRange, "257 volumes");
    refuses(world, update(&many[..255], &[]), OutOfRange, "257 volumes");
}

#[test]
fn a_group_asked_for_again_is_found_or_taken() {
    let world = &mut with_group();
    unchanged(world, group(GROUP, &[SECOND, VOLUME]));
    refuses(
        world,
        group(GROUP, &[SECOND]),
        AlreadyExists,
        "not as asked",
    );
}

#[test]
fn members_come_and_go_without_the_kernel() {
    let world = &mut with_group();
    world.does(volume(id(5), MIB));
    world.settle(Unit::Volume(id(5)));
    assert_eq!(world.does(update(&[id(5)], &[VOLUME])), None);
    assert_eq!(members(world, GROUP), [id(5), SECOND]);
    refuses(world, update(&[], &[VOLUME]), NotFound, "no member");
    unchanged(world, update(&[], &[]));
    world.does(Command::VolumeDelete { id: id(5) });
    assert_eq!(members(world, GROUP), [SECOND]);
}

#[test]
fn a_dissolved_group_leaves_its_members() {
    let world = &mut with_group();
    assert_eq!(world.does(Command::GroupDelete { id: GROUP }), None);
    assert!(world.intent.group(GROUP).is_none());
    assert_eq!(world.intent.volume(VOLUME).unwrap().record.group, None);
    let again = Command::GroupDelete { id: GROUP };
    refuses(world, again, NotFound, "does not exist");
}

#[test]
fn a_group_with_group_snapshots_is_not_dissolved() {
    let world = &mut with_snapshots();
    let delete = Command::GroupDelete { id: GROUP };
    refuses(world, delete.clone(), InUse, "1 group snapshot");
    world.does(Command::GroupSnapshotDelete { id: WHOLE });
    world.settle(Unit::GroupSnapshot(WHOLE));
    world.does(delete);
}

#[test]
fn a_group_snapshot_has_one_snapshot_of_every_member() {
    let world = &mut with_group();
    let some = whole(WHOLE, &[(VOLUME, 1)]);
    refuses(world, some, InvalidField, "is not named");
    let other = whole(WHOLE, &[(VOLUME, 1), (SECOND, 2), (id(7), 3)]);
    refuses(world, other, InvalidField, "no member of the group");
    let same = whole(WHOLE, &[(VOLUME, 1), (SECOND, 1)]);
    refuses(world, same, InvalidField, "twice");
    let world = &mut with_snapshots();
    let thin: Vec<_> = world
        .intent
        .snapshots_of_group(WHOLE)
        .map(|(_, snapshot)| (snapshot.phase, snapshot.thin_id.value()))
        .collect();
    let present = SnapshotPhase::Present;
    assert_eq!(thin, [(present, 2), (present, 3)]);
}

#[test]
fn members_in_motion_are_not_taken_a_snapshot_of() {
    let world = &mut with_group();
    world.does(snapshot(id(1), SECOND));
    world.settle(Unit::Snapshot(id(1)));
    world.does(revert(SECOND, id(1), false));
    let asked = whole(WHOLE, &[(VOLUME, 2), (SECOND, 3)]);
    refuses(world, asked, Busy, "being reverted");
}

#[test]
fn snapshots_of_a_group_snapshot_go_together() {
    let world = &mut with_snapshots();
    let one = Command::SnapshotDelete { id: id(1) };
    refuses(world, one, InUse, &WHOLE.to_string());
    let delete = Command::GroupSnapshotDelete { id: WHOLE };
    let unit = Unit::GroupSnapshot(WHOLE);
    assert_eq!(world.does(delete.clone()), Some(unit));
    joins(world, delete, unit);
    world.settle(unit);
    assert!(world.intent.group_snapshot(WHOLE).is_none());
    assert!(world.intent.snapshots().is_empty());
}

#[test]
fn a_group_snapshot_is_kept_while_something_is_made_of_it() {
    let world = &mut with_snapshots();
    let source = GroupSource {
        group: None,
        group_snapshot: Some(WHOLE),
        volumes: copies(&[(id(1), 0x51), (id(2), 0x52)]),
    };
    let unit = Unit::Group(id(0x95));
    assert_eq!(world.does(copies_of(source)), Some(unit));
    let delete = Command::GroupSnapshotDelete { id: WHOLE };
    refuses(world, delete.clone(), Busy, "");
    world.settle(unit);
    world.does(delete);
}

#[test]
fn copies_of_a_group_are_its_members_once_all_are_made() {
    let world = &mut with_group();
    let command = copies_of(of_group(&[(VOLUME, 0x51), (SECOND, 0x52)]));
    let unit = Unit::Group(id(0x95));
    assert_eq!(world.does(command.clone()), Some(unit));
    let made = Command::VolumeDelete { id: id(0x51) };
    refuses(world, made, Busy, "being created");
    refuses(world, update(&[id(0x51)], &[]), Busy, "being created");
    joins(world, command, unit);
    world.settle(unit);
    assert_eq!(members(world, id(0x95)), [id(0x51), id(0x52)]);
    let copy = &world.intent.volume(id(0x52)).unwrap().record;
    assert_eq!((copy.phase, copy.size), (VolumePhase::Present, 2 * MIB));
    assert_eq!((copy.origin, copy.thin_id.value()), (None, 3));
}

#[test]
fn copies_are_of_all_members_and_have_new_ids() {
    let world = &mut with_group();
    let some = copies_of(of_group(&[(VOLUME, 0x51)]));
    refuses(world, some, InvalidField, "is not named");
    let same = copies_of(of_group(&[(VOLUME, 0x51), (SECOND, 0x51)]));
    refuses(world, same, InvalidField, "twice");
    let taken = copies_of(of_group(&[(VOLUME, 0x51), (SECOND, 0xc0)]));
    refuses(world, taken, AlreadyExists, "exists");
    let mut both = of_group(&[]);
    both.group_snapshot = Some(WHOLE);
    refuses(world, copies_of(both), InvalidField, "either");
}

#[test]
fn of_copies_that_cannot_be_made_nothing_stays() {
    let world = &mut with_group();
    world.does(copies_of(of_group(&[(VOLUME, 0x51), (SECOND, 0x52)])));
    let unit = Unit::Group(id(0x95));
    withdrawn(world, unit);
    let phase = world.intent.group(id(0x95)).unwrap().record.phase;
    assert_eq!(phase, GroupPhase::Deleting);
    assert!(newest_failed(world), "who asked for it is told");
    world.settle(unit);
    assert!(world.intent.group(id(0x95)).is_none());
    assert!(world.intent.volume(id(0x51)).is_none());
    assert_eq!(world.intent.volumes_in_kernel().len(), 1);
}

#[test]
fn of_a_group_snapshot_that_cannot_be_taken_nothing_stays() {
    let world = &mut with_group();
    world.does(whole(WHOLE, &[(VOLUME, 1), (SECOND, 2)]));
    let unit = Unit::GroupSnapshot(WHOLE);
    withdrawn(world, unit);
    assert!(newest_failed(world), "who asked for it is told");
    world.settle(unit);
    assert!(world.intent.snapshots().is_empty());
    assert!(world.intent.units_made_at_once().next().is_none());
}

#[test]
fn a_group_snapshot_stays_while_a_host_reads_a_snapshot_of_it() {
    let world = &mut with_snapshots();
    let unit = Unit::Snapshot(id(2));
    assert_eq!(world.does(read(id(3), id(2), HOST)), Some(unit));
    world.settle(unit);
    let delete = Command::GroupSnapshotDelete { id: WHOLE };
    refuses(world, delete.clone(), InUse, "has 1 connection");
    world.does(detach(id(3)));
    refuses(world, delete.clone(), InUse, "has 1 connection");
    world.settle(unit);
    assert_eq!(world.does(delete), Some(Unit::GroupSnapshot(WHOLE)));
}
