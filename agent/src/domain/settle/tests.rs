use ashlar_protocol::{ProblemCode, Transport};

use super::*;
use crate::domain::Command;
use crate::domain::samples::*;

fn problem() -> Problem {
    Problem::new(ProblemCode::NoSpace, "no room")
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
    world.does(Command::ConnectionDelete { id: CONNECTION });
    let tried = world.intent.generation();
    world.does(attach(id(1), VOLUME, OTHER_HOST, Transport::Iscsi));
    world.does(Command::ConnectionDelete { id: id(1) });
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
fn only_what_the_kernel_never_had_is_withdrawn() {
    let mut world = World::furnished();
    let applied = world.intent.generation();
    world.does(attach(id(1), VOLUME, OTHER_HOST, Transport::Iscsi));
    let tried = world.intent.generation();
    world.does(attach(id(2), VOLUME, OTHER_HOST, Transport::NvmeTcp));
    let span = Span { applied, tried };
    let edits = withdraw(&world.intent, Unit::Volume(VOLUME), span, &problem());
    apply(&mut world, &edits);
    let phase = |c| world.intent.connection(c).unwrap().phase;
    assert_eq!(phase(CONNECTION), ConnectionPhase::Wanted);
    assert_eq!(phase(id(1)), ConnectionPhase::Cutting);
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
    let edits = withdraw(&world.intent, unit, Span { applied, tried }, &problem());
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
    world.does(Command::ConnectionDelete { id: CONNECTION });
    world.settle(Unit::Volume(VOLUME));
    assert_eq!(
        withdraw(&world.intent, Unit::Volume(VOLUME), span, &problem()),
        []
    );
    assert_eq!(
        withdraw(&world.intent, Unit::Pool(POOL), span, &problem()),
        []
    );
}

#[test]
fn an_extension_is_never_taken_back() {
    let mut world = World::furnished();
    let applied = world.intent.generation();
    world.does(extend(VOLUME, 20 * MIB));
    let tried = world.intent.generation();
    let span = Span { applied, tried };
    assert_eq!(
        withdraw(&world.intent, Unit::Volume(VOLUME), span, &problem()),
        []
    );
    assert!(!failed(&world, tried));
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
    let edits = withdraw(&world.intent, Unit::Pool(id(1)), span, &problem());
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
fn a_host_that_did_not_let_go_is_given_back_its_connection_unless_it_was_to_be_cut_off() {
    let mut world = World::furnished();
    let applied = world.intent.generation();
    world.does(Command::ConnectionDelete { id: CONNECTION });
    let span = Span {
        applied,
        tried: world.intent.generation(),
    };
    let edits = restore(&world.intent, Unit::Volume(VOLUME), span, &problem());
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
        restore(&world.intent, Unit::Volume(VOLUME), span, &problem()),
        []
    );
}

#[test]
fn what_was_given_back_to_a_host_is_nothing_new_that_could_be_withdrawn() {
    let mut world = World::furnished();
    let applied = world.intent.generation();
    world.does(Command::ConnectionDelete { id: CONNECTION });
    let unit = Unit::Volume(VOLUME);
    let tried = world.intent.generation();
    let edits = restore(&world.intent, unit, Span { applied, tried }, &problem());
    apply(&mut world, &edits);
    let tried = world.intent.generation();
    let edits = withdraw(&world.intent, unit, Span { applied, tried }, &problem());
    assert_eq!(edits, []);
}
