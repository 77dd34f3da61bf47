//! Volumes that jobs make for themselves.

use ashlar_protocol::{Operation, Progress};

use super::data::begin_as;
use super::*;
use crate::domain::decide::data::{ImageRoom, import_image};
use crate::domain::decide::scratch::{self, Scratch};
use crate::domain::decide::work;
use crate::domain::event::events;

const IDLE: Uuid = Uuid::from_u128(0xe1);
const HIDDEN: Uuid = Uuid::from_u128(0xe2);

fn world() -> World {
    let mut world = World::furnished();
    world.does(volume(IDLE, MIB));
    world.settle(Unit::Volume(IDLE));
    world
}

/// Begins to import into the idle volume, with room of so many bytes.
fn begin(world: &mut World, job: Uuid, hidden: Uuid, size: u64) -> Result<(), Problem> {
    let object = Unit::Volume(IDLE).object();
    let made = Scratch {
        id: hidden,
        pool: POOL,
        size,
    };
    begin_as(
        world,
        job,
        (Operation::VolumeImport, object),
        |intent, generation, facts| scratch::create(intent, object, &made, generation, facts),
    )
}

fn pool_entry(world: &World) -> (u64, u64) {
    let entry = world.intent.pool(POOL).unwrap();
    (entry.volumes, entry.provisioned)
}

fn apply(world: &mut World, edits: &[Edit]) {
    for edit in edits {
        world.intent.apply(edit).unwrap();
    }
}

#[test]
fn it_takes_room_but_nothing_can_be_done_with_it() {
    let world = &mut world();
    let (volumes, provisioned) = pool_entry(world);
    begin(world, id(1), HIDDEN, MIB + 1).unwrap();
    world.settle(Unit::Volume(HIDDEN));
    let size = world.intent.volume(HIDDEN).unwrap().record.size;
    assert!(size > MIB);
    assert_eq!(pool_entry(world), (volumes, provisioned + size));
    assert!(world.intent.known_volume(HIDDEN).is_none());
    for command in [
        attach(id(2), HIDDEN, HOST, Transport::Iscsi),
        extend(HIDDEN, 10 * MIB),
        snapshot(id(3), HIDDEN),
        clone(id(4), ashlar_protocol::Parent::Volume(HIDDEN), None),
        transfer(HIDDEN, "web", true),
        Command::VolumeDetachAll { id: HIDDEN },
        Command::VolumeDelete { id: HIDDEN },
    ] {
        refuses(world, command, NotFound, "does not exist");
    }
    refuses(world, volume(HIDDEN, MIB), AlreadyExists, "exists");
}

#[test]
fn it_goes_with_its_job_alone() {
    let world = &mut world();
    begin(world, id(1), HIDDEN, MIB).unwrap();
    begin(world, id(2), id(0xe3), MIB).unwrap();
    world.settle(Unit::Volume(HIDDEN));
    let problem = Problem::new(Interrupted, "the body broke off");
    let edits = work::end(&world.intent, id(1), Progress::default(), Err(problem));
    // Nobody is told of it.
    let told = events(&world.intent, &edits, 0);
    assert!(told.iter().all(|event| event.object.id == IDLE), "{told:?}");
    apply(world, &edits);
    let phase = |world: &World, id| world.intent.volume(id).map(|entry| entry.record.phase);
    assert_eq!(phase(world, HIDDEN), Some(VolumePhase::Deleting));
    assert_eq!(phase(world, id(0xe3)), Some(VolumePhase::Creating));
    assert_eq!(
        work::end(
            &world.intent,
            id(1),
            Progress::default(),
            Ok(Default::default())
        ),
        []
    );
    world.settle(Unit::Volume(HIDDEN));
    assert_eq!(phase(world, HIDDEN), None);
}

#[test]
fn none_is_left_of_a_process_that_ended() {
    let world = &mut world();
    let before = pool_entry(world);
    for n in [1, 2] {
        begin(world, id(n), id(0xe0 + 2 * n), MIB).unwrap();
    }
    let edits = work::interrupted(&world.intent);
    apply(world, &edits);
    for n in [1, 2] {
        world.settle(Unit::Volume(id(0xe0 + 2 * n)));
    }
    assert_eq!(pool_entry(world), before);
    assert_eq!(work::interrupted(&world.intent), []);
}

#[test]
fn an_image_takes_as_much_room_as_it_is_long_or_may_be() {
    for (length, size) in [(Some(3 * MIB), 3 * MIB), (None, 66 * MIB)] {
        let world = &mut world();
        let object = Unit::Volume(IDLE).object();
        let scratch = HIDDEN;
        let room = ImageRoom { scratch, length };
        let begun = begin_as(
            world,
            id(1),
            (Operation::VolumeImport, object),
            |intent, generation, facts| import_image(intent, IDLE, room, generation, facts),
        );
        assert_eq!(begun, Ok(()));
        assert_eq!(world.intent.volume(HIDDEN).unwrap().record.size, size);
    }
}

#[test]
fn without_room_or_a_kernel_the_job_does_not_begin() {
    let world = &mut world();
    let code = |outcome: Result<(), Problem>| outcome.unwrap_err().code;
    assert_eq!(code(begin(world, id(1), HIDDEN, 10 * CAPACITY)), NoSpace);
    assert_eq!(code(begin(world, id(1), HIDDEN, 0)), OutOfRange);
    assert_eq!(code(begin(world, id(1), VOLUME, MIB)), AlreadyExists);
    world.kernel = false;
    let away = code(begin(world, id(1), HIDDEN, MIB));
    assert_eq!(away, TargetdUnavailable);
    assert!(world.intent.request(id(1)).is_none());
}
