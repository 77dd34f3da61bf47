use ashlar_protocol::{ProblemCode, Provisioning, Transport};
use ashlar_targetd_protocol::ThinId;

use super::*;
use crate::domain::Command;
use crate::domain::record::{Moving, Origin};
use crate::domain::samples::{self, *};

mod redundancy;

/// The kernel refused, and the volume has no device.
fn grounds() -> Grounds {
    Grounds {
        problem: Problem::new(ProblemCode::NoSpace, "no room"),
        users: Accesses::default(),
        device: Some(0),
    }
}

fn with_device(mib: u64) -> Grounds {
    Grounds {
        device: Some(mib * MIB),
        ..grounds()
    }
}

fn apply(world: &mut World, edits: &[Edit]) {
    for edit in edits {
        world.intent.apply(edit).unwrap();
    }
}

fn failed(world: &World, generation: u64) -> bool {
    let mut requests = world.intent.requests_between(generation - 1, generation);
    requests.next().unwrap().1.failed.is_some()
}

#[test]
fn what_was_asked_after_the_attempt_began_stays_under_way() {
    let mut world = World::furnished();
    world.does(detach(CONNECTION));
    let tried = world.intent.generation();
    world.does(attach(id(1), VOLUME, OTHER_HOST, Transport::Iscsi));
    world.does(detach(id(1)));
    let edits = settle(&world.intent, Unit::Volume(VOLUME), tried, None);
    assert_eq!(edits, [Edit::Remove(Key::Connection(CONNECTION))]);
}

#[test]
fn settling_twice_changes_nothing() {
    let mut world = World::furnished();
    world.does(volume(id(1), MIB));
    world.settle(Unit::Volume(id(1)));
    let generation = world.intent.generation();
    assert_eq!(
        settle(&world.intent, Unit::Volume(id(1)), generation, None),
        []
    );
    let pool = settle(&world.intent, Unit::Pool(POOL), generation, Some(CAPACITY));
    assert_eq!(pool, []);
    assert_eq!(
        settle(&world.intent, Unit::Volume(id(77)), generation, None),
        []
    );
}

#[test]
fn a_pool_that_grew_is_larger() {
    let world = World::furnished();
    let generation = world.intent.generation();
    let edits = settle(
        &world.intent,
        Unit::Pool(POOL),
        generation,
        Some(2 * CAPACITY),
    );
    let [Edit::Put(record)] = &edits[..] else {
        panic!("{edits:?}")
    };
    assert!(matches!(&**record, Record::Pool(_, p) if p.capacity == Some(2 * CAPACITY)));
}

#[test]
fn thin_ids_that_may_be_taken_are_not_given() {
    let mut world = World::furnished();
    let next = |world: &World| world.intent.thin_counter(POOL).next;
    assert_eq!(next(&world), 1);
    // Fewer than were given: some were deleted since.
    assert_eq!(skip_thin_ids(&world.intent, POOL, 1), None);
    assert_eq!(skip_thin_ids(&world.intent, id(7), 9), None);
    let edit = skip_thin_ids(&world.intent, POOL, 9).unwrap();
    apply(&mut world, &[edit]);
    world.does(volume(id(1), MIB));
    let given = world.intent.volume(id(1)).unwrap().record.thin_id;
    assert_eq!((given.value(), next(&world)), (9, 10));
    // The last id of all is somebody's.
    let edit = skip_thin_ids(&world.intent, POOL, 1 << 24).unwrap();
    apply(&mut world, &[edit]);
    let problem = world.decide(&volume(id(2), MIB)).unwrap_err();
    assert_eq!(problem.code, ProblemCode::NoSpace);
}

#[test]
fn only_what_the_kernel_never_had_is_withdrawn() {
    let mut world = World::furnished();
    let applied = world.intent.generation();
    world.does(attach(id(1), VOLUME, OTHER_HOST, Transport::Iscsi));
    let tried = world.intent.generation();
    world.does(attach(id(2), VOLUME, OTHER_HOST, Transport::NvmeTcp));
    let span = Span { applied, tried };
    let edits = withdraw(&world.intent, Unit::Volume(VOLUME), span, &grounds());
    apply(&mut world, &edits);
    let phase = |c| world.intent.connection(c).unwrap().phase;
    assert_eq!(phase(CONNECTION), ConnectionPhase::Wanted);
    assert_eq!(phase(id(1)), ConnectionPhase::Withdrawn);
    assert_eq!(phase(id(2)), ConnectionPhase::Wanted);
    assert!(failed(&world, tried));
    assert!(!failed(&world, applied) && !failed(&world, tried + 1));
    // Its removal is a change of its own, for the kernel to be brought to.
    assert_eq!(
        world.intent.connection(id(1)).unwrap().generation,
        world.intent.generation()
    );
}

#[test]
fn a_withdrawn_volume_is_destroyed_and_its_request_failed() {
    let mut world = World::furnished();
    let applied = world.intent.generation();
    world.does(volume(id(1), MIB));
    let tried = world.intent.generation();
    let unit = Unit::Volume(id(1));
    let edits = withdraw(&world.intent, unit, Span { applied, tried }, &grounds());
    apply(&mut world, &edits);
    assert_eq!(
        world.intent.volume(id(1)).unwrap().record.phase,
        VolumePhase::Deleting
    );
    assert!(failed(&world, tried));
    world.settle(unit);
    assert!(world.intent.volume(id(1)).is_none());
}

#[test]
fn a_volume_that_exists_is_never_withdrawn() {
    let mut world = World::furnished();
    let span = Span {
        applied: 0,
        tried: world.intent.generation(),
    };
    world.does(detach(CONNECTION));
    world.settle(Unit::Volume(VOLUME));
    assert_eq!(
        withdraw(&world.intent, Unit::Volume(VOLUME), span, &grounds()),
        []
    );
    assert_eq!(
        withdraw(&world.intent, Unit::Pool(POOL), span, &grounds()),
        []
    );
}

#[test]
fn an_extension_the_kernel_refuses_leaves_the_size_as_it_was() {
    let mut world = World::furnished();
    let before = world.intent.clone();
    let size = |world: &World| world.intent.volume(VOLUME).unwrap().record.size;
    let applied = world.intent.generation();
    world.does(extend(VOLUME, 20 * MIB));
    world.does(extend(VOLUME, 30 * MIB));
    let tried = world.intent.generation();
    let unit = Unit::Volume(VOLUME);
    let span = Span { applied, tried };
    let edits = withdraw(&world.intent, unit, span, &with_device(10));
    apply(&mut world, &edits);
    assert_eq!(size(&world), 10 * MIB);
    assert!(failed(&world, tried) && failed(&world, tried - 1));
    assert_eq!(world.intent.pools(), before.pools());
    // Nothing is left to be given back.
    let edits = withdraw(&world.intent, unit, span, &with_device(10));
    assert_eq!(edits, []);
}

#[test]
fn a_device_that_grew_or_may_have_grown_keeps_its_size() {
    let mut world = World::furnished();
    let applied = world.intent.generation();
    world.does(extend(VOLUME, 20 * MIB));
    let tried = world.intent.generation();
    let span = Span { applied, tried };
    let unknown = Grounds {
        device: None,
        ..grounds()
    };
    for grounds in [with_device(20), unknown] {
        let edits = withdraw(&world.intent, Unit::Volume(VOLUME), span, &grounds);
        assert_eq!(edits, [], "{grounds:?}");
    }
    assert!(!failed(&world, tried));
}

#[test]
fn an_extension_asked_for_after_the_attempt_began_stays() {
    let mut world = World::furnished();
    let applied = world.intent.generation();
    world.does(extend(VOLUME, 20 * MIB));
    let tried = world.intent.generation();
    world.does(extend(VOLUME, 30 * MIB));
    let unit = Unit::Volume(VOLUME);
    let first = Span { applied, tried };
    let edits = withdraw(&world.intent, unit, first, &with_device(10));
    apply(&mut world, &edits);
    let size = |world: &World| world.intent.volume(VOLUME).unwrap().record.size;
    assert_eq!(size(&world), 30 * MIB);
    assert!(failed(&world, tried) && !failed(&world, tried + 1));
    // If that cannot be had either, the first size is the one the kernel has.
    let tried = tried + 1;
    let edits = withdraw(
        &world.intent,
        unit,
        Span { applied, tried },
        &with_device(10),
    );
    apply(&mut world, &edits);
    assert_eq!(size(&world), 10 * MIB);
}

#[test]
fn an_extension_that_the_kernel_has_is_not_given_back_with_a_later_one() {
    let mut world = World::furnished();
    world.does(extend(VOLUME, 20 * MIB));
    let applied = world.intent.generation();
    world.does(extend(VOLUME, 30 * MIB));
    let tried = world.intent.generation();
    let unit = Unit::Volume(VOLUME);
    let edits = settle(&world.intent, unit, applied, None);
    apply(&mut world, &edits);
    let edits = withdraw(
        &world.intent,
        unit,
        Span { applied, tried },
        &with_device(20),
    );
    apply(&mut world, &edits);
    assert_eq!(world.intent.volume(VOLUME).unwrap().record.size, 20 * MIB);
}

#[test]
fn a_withdrawn_pool_is_forgotten_with_its_disks() {
    let mut world = World::furnished();
    let applied = world.intent.generation();
    world.does(pool(id(1), &["serial-DISK1"]));
    let span = Span {
        applied,
        tried: world.intent.generation(),
    };
    let edits = withdraw(&world.intent, Unit::Pool(id(1)), span, &grounds());
    apply(&mut world, &edits);
    assert_eq!(
        world.intent.pool(id(1)).unwrap().record.phase,
        PoolPhase::Withdrawn
    );
    world.settle(Unit::Pool(id(1)));
    assert!(world.intent.pool(id(1)).is_none());
    assert_eq!(
        world.intent.pool_of_disk(&"serial-DISK1".parse().unwrap()),
        None
    );
}

#[test]
fn a_pool_whose_new_disks_cannot_be_had_is_what_it_was() {
    let refused = |code, device| Grounds {
        problem: Problem::new(code, "the disk is gone"),
        users: Accesses::default(),
        device,
    };
    let grown = || {
        let mut world = World::furnished();
        world.does(grow(&["serial-DISK1"]));
        world
    };
    let unit = Unit::Pool(POOL);
    let mut world = grown();
    let span = Span {
        applied: 0,
        tried: world.intent.generation(),
    };
    // Not when it may be larger already, nor for what may pass.
    for (code, device) in [
        (ProblemCode::Cancelled, Some(CAPACITY)),
        (ProblemCode::WrongState, None),
        (ProblemCode::WrongState, Some(2 * CAPACITY)),
        (ProblemCode::KernelFailed, Some(CAPACITY)),
        (ProblemCode::TargetdUnavailable, Some(CAPACITY)),
    ] {
        let edits = withdraw(&world.intent, unit, span, &refused(code, device));
        assert_eq!(edits, [], "{code} {device:?}");
    }
    let before = World::furnished().intent.pool(POOL).unwrap().record.clone();
    let grounds = refused(ProblemCode::WrongState, Some(CAPACITY));
    let edits = withdraw(&world.intent, unit, span, &grounds);
    apply(&mut world, &edits);
    let after = world.intent.pool(POOL).unwrap().record.clone();
    assert_eq!(after.generation, world.intent.generation());
    assert_eq!(after.metadata_room(0), before.metadata_room(0));
    let same = PoolRecord {
        generation: before.generation,
        metadata_rooms: before.metadata_rooms.clone(),
        ..after
    };
    assert_eq!(same.made_on, None);
    assert_eq!(same, before);
    assert!(failed(&world, span.tried));
    // The request that made the pool did not fail.
    assert!(!failed(&world, 1));
    let free = "serial-DISK1".parse().unwrap();
    assert_eq!(world.intent.pool_of_disk(&free), None);
    // Nor is one that has grown taken back.
    let mut world = grown();
    world.settle(unit);
    let edits = withdraw(&world.intent, unit, span, &grounds);
    assert_eq!(edits, []);
}

#[test]
fn a_pool_that_cannot_be_destroyed_is_kept_unless_it_may_be_gone_in_part() {
    let mut world = World::empty();
    let unit = Unit::Pool(POOL);
    world.does(pool(POOL, &["serial-DISK0"]));
    world.settle(unit);
    let before = world.intent.pool(POOL).unwrap().record.clone();
    world.does(Command::PoolDelete {
        id: POOL,
        force: false,
    });
    let span = Span {
        applied: 0,
        tried: world.intent.generation(),
    };
    let refused = |code| Grounds::new(Problem::new(code, "it holds something"));
    let later = refused(ProblemCode::KernelFailed);
    assert_eq!(withdraw(&world.intent, unit, span, &later), []);
    // What the kernel will not do later either is final, whatever its code.
    let mut never = refused(ProblemCode::KernelFailed);
    never.problem.retryable = false;
    assert_ne!(withdraw(&world.intent, unit, span, &never), []);
    let used = refused(ProblemCode::InUse);
    assert_ne!(withdraw(&world.intent, unit, span, &used), []);
    let edits = withdraw(&world.intent, unit, span, &refused(ProblemCode::NotBlank));
    apply(&mut world, &edits);
    let after = PoolRecord {
        generation: before.generation,
        ..world.intent.pool(POOL).unwrap().record.clone()
    };
    assert_eq!(after, before);
    assert!(failed(&world, span.tried) && !failed(&world, 1));
}

#[test]
fn a_host_that_did_not_let_go_is_given_back_its_connection_unless_it_was_to_be_cut_off() {
    let mut world = World::furnished();
    let applied = world.intent.generation();
    world.does(detach(CONNECTION));
    let span = Span {
        applied,
        tried: world.intent.generation(),
    };
    let edits = restore(&world.intent, Unit::Volume(VOLUME), span, &grounds());
    apply(&mut world, &edits);
    assert_eq!(
        world.intent.connection(CONNECTION).unwrap().phase,
        ConnectionPhase::Wanted
    );
    assert!(failed(&world, span.tried));

    world.does(Command::VolumeDetachAll { id: VOLUME });
    let span = Span {
        applied,
        tried: world.intent.generation(),
    };
    assert_eq!(
        restore(&world.intent, Unit::Volume(VOLUME), span, &grounds()),
        []
    );
}

#[test]
fn what_was_given_back_to_a_host_is_nothing_new_that_could_be_withdrawn() {
    let mut world = World::furnished();
    let applied = world.intent.generation();
    world.does(detach(CONNECTION));
    let unit = Unit::Volume(VOLUME);
    let tried = world.intent.generation();
    let edits = restore(&world.intent, unit, Span { applied, tried }, &grounds());
    apply(&mut world, &edits);
    let tried = world.intent.generation();
    let edits = withdraw(&world.intent, unit, Span { applied, tried }, &grounds());
    assert_eq!(edits, []);
}

fn thin(number: u64) -> ThinId {
    number.try_into().unwrap()
}

fn on(thin_id: u64) -> ThinRef {
    ThinRef {
        pool: POOL,
        thin_id: thin(thin_id),
    }
}

/// The furnished volume, to be given thin device 7 in place of its own, made of snapshot 1.
fn reverting() -> World {
    let mut world = World::furnished();
    let volume = &world.intent.volume(VOLUME).unwrap().record;
    let generation = world.intent.generation() + 1;
    let record = VolumeRecord {
        thin_id: thin(7),
        phase: VolumePhase::Reverting,
        origin: Some(Origin {
            object: id(1),
            thin_id: thin(5),
        }),
        retired: [on(0)].into(),
        generation,
        ..volume.clone()
    };
    let edits = [
        Edit::put(Record::Clock(generation)),
        Edit::put(Record::Volume(VOLUME, record)),
    ];
    apply(&mut world, &edits);
    world
}

fn record(world: &World) -> &VolumeRecord {
    &world.intent.volume(VOLUME).unwrap().record
}

/// The kernel has what was asked of the furnished volume; the one step, and nothing after it.
fn step(world: &mut World) {
    let generation = world.intent.generation();
    let edits = settle(&world.intent, Unit::Volume(VOLUME), generation, None);
    apply(world, &edits);
}

fn phase(world: &World) -> (VolumePhase, ThinId, BTreeSet<ThinRef>) {
    let record = record(world);
    (record.phase, record.thin_id, record.retired.clone())
}

#[test]
fn a_reverted_volume_has_its_new_thin_device_before_it_is_on_it_and_then_loses_the_old_one() {
    let mut world = reverting();
    let unit = Unit::Volume(VOLUME);
    let reverted = world.intent.generation();
    let needs = Some(unit.object());
    assert_eq!(world.intent.made_of(id(1)), needs);

    step(&mut world);
    let replacing = (VolumePhase::Replacing, thin(7), [on(0)].into());
    assert_eq!(phase(&world), replacing);
    assert!(goes_on(&world.intent, unit, reverted));
    assert!(!goes_on(&world.intent, unit, reverted - 1));
    assert_eq!(record(&world).generation, reverted);

    step(&mut world);
    let present = (VolumePhase::Present, thin(7), [on(0)].into());
    assert_eq!(phase(&world), present);
    assert!(!goes_on(&world.intent, unit, world.intent.generation()));
    let generation = record(&world).generation;
    assert!(generation > reverted, "the kernel has more to do");
    assert!(world.intent.volumes_in_kernel().contains(&VOLUME));
    assert_eq!(world.intent.made_of(id(1)), None);

    step(&mut world);
    assert_eq!(phase(&world), (VolumePhase::Present, thin(7), [].into()));
}

/// Not even when something else that was asked of it is taken back.
#[test]
fn a_volume_that_hosts_may_have_on_its_new_thin_device_never_goes_back() {
    let mut world = World::furnished();
    let applied = world.intent.generation();
    let unit = Unit::Snapshot(id(1));
    world.does(samples::snapshot(id(1), VOLUME));
    world.settle(unit);
    world.does(extend(VOLUME, 20 * MIB));
    world.does(revert(VOLUME, id(1), true));
    let tried = world.intent.generation();
    step(&mut world);
    let mut growing = record(&world).clone();
    assert_eq!(growing.phase, VolumePhase::Replacing);
    growing.growth.push(Growth {
        generation: tried,
        from: 10 * MIB,
    });
    apply(&mut world, &[Edit::put(Record::Volume(VOLUME, growing))]);
    let span = Span { applied, tried };
    let edits = withdraw(&world.intent, Unit::Volume(VOLUME), span, &grounds());
    assert!(!edits.is_empty());
    apply(&mut world, &edits);
    let record = record(&world);
    assert_eq!(record.phase, VolumePhase::Replacing);
    assert_eq!((record.thin_id, record.size), (thin(2), 10 * MIB));
    assert!(!failed(&world, tried));
}

/// Nothing on the way of an adopted volume is ever a tombstone.
#[test]
fn an_adoption_that_failed_is_let_go_of_and_one_that_succeeded_is_not_taken_back() {
    let unit = Unit::Volume(id(1));
    let mut world = World::furnished();
    world.thin_end = Some(Ok(MIB));
    world.does(adopt(id(1), 7, None));
    let tried = world.intent.generation();
    let span = Span {
        applied: tried - 1,
        tried,
    };
    let mut failing = world.clone();
    let edits = withdraw(&failing.intent, unit, span, &grounds());
    apply(&mut failing, &edits);
    let phase = |world: &World| world.intent.volume(id(1)).map(|entry| entry.record.phase);
    assert_eq!(phase(&failing), Some(VolumePhase::Releasing));
    assert!(failed(&failing, tried));
    assert_eq!(forget(&failing.intent, unit, span, &grounds()), []);
    assert_eq!(withdraw(&failing.intent, unit, span, &grounds()), []);
    failing.settle(unit);
    assert_eq!(phase(&failing), None);
    world.settle(unit);
    assert_eq!(phase(&world), Some(VolumePhase::Present));
    assert_eq!(withdraw(&world.intent, unit, span, &grounds()), []);
    // What is to be released stays so, whatever the kernel says.
    world.does(release(id(1)));
    let tried = world.intent.generation();
    let span = Span {
        applied: tried - 1,
        tried,
    };
    for undo in [withdraw, restore, forget] {
        assert_eq!(undo(&world.intent, unit, span, &grounds()), []);
    }
}

#[test]
fn a_revert_that_failed_leaves_the_volume_as_it_was_and_what_was_made_is_destroyed() {
    let mut world = reverting();
    let tried = world.intent.generation();
    let span = Span {
        applied: tried - 1,
        tried,
    };
    let unit = Unit::Volume(VOLUME);
    let edits = withdraw(&world.intent, unit, span, &grounds());
    apply(&mut world, &edits);
    let there = record(&world);
    assert_eq!(
        (there.phase, there.thin_id),
        (VolumePhase::Present, thin(0))
    );
    assert_eq!(there.retired, [on(7)].into());
    assert_eq!(world.intent.made_of(id(1)), None);
    world.settle(unit);
    assert_eq!(record(&world).retired, [].into());
    // Once the new one is there, there is nothing to take back.
    let mut world = reverting();
    for _ in 0..3 {
        step(&mut world);
        assert_eq!(withdraw(&world.intent, unit, span, &grounds()), []);
    }
}

fn snapshot(phase: SnapshotPhase, generation: u64) -> Edit {
    let record = SnapshotRecord {
        provisioning: Provisioning::Thin,
        name: "snapshot".parse().unwrap(),
        labels: Default::default(),
        volume: VOLUME,
        pool: POOL,
        thin_id: thin(5),
        origin_thin: thin(0),
        size: 10 * MIB,
        phase,
        group: None,
        family: None,
        created: 1,
        generation,
    };
    Edit::put(Record::Snapshot(id(1), record))
}

#[test]
fn a_snapshot_in_the_making_keeps_its_volume_until_it_is_there_or_withdrawn() {
    let unit = Unit::Snapshot(id(1));
    let mut world = World::furnished();
    let tried = world.intent.generation() + 1;
    let edits = [
        Edit::put(Record::Clock(tried)),
        snapshot(SnapshotPhase::Creating, tried),
    ];
    apply(&mut world, &edits);
    assert_eq!(world.intent.made_of(VOLUME), Some(unit.object()));
    let mut other = world.clone();
    world.settle(unit);
    assert_eq!(world.intent.made_of(VOLUME), None);
    assert_eq!(
        world.intent.snapshot(id(1)).unwrap().phase,
        SnapshotPhase::Present
    );
    let span = Span {
        applied: tried - 1,
        tried,
    };
    assert_eq!(withdraw(&world.intent, unit, span, &grounds()), []);

    let edits = withdraw(&other.intent, unit, span, &grounds());
    apply(&mut other, &edits);
    assert_eq!(other.intent.made_of(VOLUME), None);
    let units: Vec<_> = other.intent.units_made_at_once().collect();
    assert_eq!(units, [Unit::Snapshot(id(1))]);
    other.settle(unit);
    assert_eq!(other.intent.snapshot(id(1)), None);
    assert_eq!(other.intent.volume(VOLUME).unwrap().snapshots, 0);
}

#[test]
fn a_volume_whose_thin_device_is_not_its_own_is_forgotten_and_never_destroyed() {
    let mut world = World::furnished();
    world.does(volume(id(1), MIB));
    let tried = world.intent.generation();
    // Whoever asked for it, an earlier process as well.
    let span = Span {
        applied: tried,
        tried,
    };
    let edits = forget(&world.intent, Unit::Volume(id(1)), span, &grounds());
    assert!(edits.contains(&Edit::Remove(Key::Volume(id(1)))));
    apply(&mut world, &edits);
    assert!(failed(&world, tried));
    assert_eq!(
        forget(&world.intent, Unit::Volume(VOLUME), span, &grounds()),
        []
    );
}

#[test]
fn of_two_hosts_the_one_that_lets_go_is_detached_and_the_other_is_told() {
    let mut world = World::furnished();
    world.does(attach(id(1), VOLUME, OTHER_HOST, Transport::Iscsi));
    world.settle(Unit::Volume(VOLUME));
    let applied = world.intent.generation();
    world.does(detach(CONNECTION));
    let told = world.intent.generation();
    world.does(detach(id(1)));
    let tried = world.intent.generation();
    // Asked again by somebody else, after the attempt began.
    world.does(detach(CONNECTION));
    let mut grounds = grounds();
    grounds.users.iscsi = [host_spec(0).iqn.unwrap()].into();
    let unit = Unit::Volume(VOLUME);
    let edits = restore(&world.intent, unit, Span { applied, tried }, &grounds);
    apply(&mut world, &edits);
    let phase = |c| world.intent.connection(c).unwrap().phase;
    assert_eq!(phase(CONNECTION), ConnectionPhase::Wanted);
    assert_eq!(phase(id(1)), ConnectionPhase::Detaching);
    assert!(failed(&world, told) && !failed(&world, tried) && failed(&world, tried + 1));
    world.settle(unit);
    assert!(world.intent.connection(id(1)).is_none());
}

#[test]
fn a_host_that_is_known_not_to_let_go_is_given_back_what_an_earlier_process_was_to_take() {
    let mut world = World::furnished();
    world.does(detach(CONNECTION));
    let promised = world.intent.generation();
    let span = Span {
        applied: promised,
        tried: promised,
    };
    let unit = Unit::Volume(VOLUME);
    assert_eq!(restore(&world.intent, unit, span, &grounds()), []);
    let mut grounds = grounds();
    grounds.users.iscsi = [host_spec(0).iqn.unwrap()].into();
    let edits = restore(&world.intent, unit, span, &grounds);
    apply(&mut world, &edits);
    let phase = world.intent.connection(CONNECTION).unwrap().phase;
    assert_eq!(phase, ConnectionPhase::Wanted);
}

/// It would wait for their I/O, and that for the volume.
#[test]
fn nothing_is_taken_from_hosts_while_a_volume_is_at_rest() {
    for still in [false, true] {
        let mut world = World::furnished();
        world.does(attach(id(0xd1), VOLUME, OTHER_HOST, Transport::NvmeTcp));
        let tried = world.intent.generation();
        let moving = Moving {
            job: id(0x70b),
            to: on(7),
            base: None,
            copy: Some(thin(8)),
            still,
        };
        let resting = VolumeRecord {
            moving: Some(moving),
            ..record(&world).clone()
        };
        apply(&mut world, &[Edit::put(Record::Volume(VOLUME, resting))]);
        let span = Span {
            applied: tried - 1,
            tried,
        };
        let edits = withdraw(&world.intent, Unit::Volume(VOLUME), span, &grounds());
        assert_eq!(edits.is_empty(), still);
    }
}

/// The furnished world with a snapshot that a host is to read.
fn connected_snapshot() -> (World, Unit, Span) {
    let mut world = World::furnished();
    let unit = Unit::Snapshot(id(1));
    world.does(samples::snapshot(id(1), VOLUME));
    world.settle(unit);
    let applied = world.intent.generation();
    world.does(read(id(2), id(1), OTHER_HOST));
    let tried = world.intent.generation();
    (world, unit, Span { applied, tried })
}

#[test]
fn a_connection_of_a_snapshot_that_cannot_be_made_goes_and_the_snapshot_stays() {
    let (mut world, unit, span) = connected_snapshot();
    let edits = withdraw(&world.intent, unit, span, &grounds());
    apply(&mut world, &edits);
    let phase = world.intent.connection(id(2)).unwrap().phase;
    assert_eq!(phase, ConnectionPhase::Withdrawn);
    assert!(failed(&world, span.tried));
    world.settle(unit);
    assert_eq!(world.intent.connection(id(2)), None);
    let phase = world.intent.snapshot(id(1)).unwrap().phase;
    assert_eq!(phase, SnapshotPhase::Present);
}

#[test]
fn a_host_that_reads_a_snapshot_and_does_not_let_go_is_given_it_back() {
    let (mut world, unit, _) = connected_snapshot();
    world.settle(unit);
    let applied = world.intent.generation();
    world.does(detach(id(2)));
    let tried = world.intent.generation();
    let span = Span { applied, tried };
    let edits = restore(&world.intent, unit, span, &grounds());
    apply(&mut world, &edits);
    let phase = world.intent.connection(id(2)).unwrap().phase;
    assert_eq!(phase, ConnectionPhase::Wanted);
    assert!(failed(&world, tried));
    let span = Span {
        applied,
        tried: world.intent.generation(),
    };
    assert_eq!(withdraw(&world.intent, unit, span, &grounds()), []);
}
