//! Clearing what is destroyed.

use ashlar_protocol::{Clear, JobResult, JobState, Parent};

use super::*;
use crate::domain::record::Clearing;
use crate::domain::settle::{Span, cleared};
use crate::domain::view::{self, Reached};

/// A volume without connections, made in the furnished world.
const IDLE: Uuid = Uuid::from_u128(0xe1);

fn clear(id: Uuid, how: Clear) -> Command {
    let clearing = Clearing {
        how,
        size: None,
        bandwidth: None,
        since: 0,
    };
    Command::VolumeClear { id, clearing }
}

fn world() -> World {
    let mut world = World::furnished();
    world.does(volume(IDLE, MIB));
    world.settle(Unit::Volume(IDLE));
    world
}

fn phase(world: &World) -> VolumePhase {
    world.intent.volume(IDLE).unwrap().record.phase
}

/// The kernel has it, and it is cleared.
fn is_cleared(world: &mut World, tried: u64, result: &JobResult) -> bool {
    let span = Span { applied: 0, tried };
    let edits = cleared(&world.intent, IDLE, span, result);
    for edit in &edits {
        world.intent.apply(edit).unwrap();
    }
    !edits.is_empty()
}

#[test]
fn it_is_destroyed_only_once_it_is_cleared_and_nothing_leads_back() {
    let world = &mut world();
    let unit = Unit::Volume(IDLE);
    refuses(world, clear(VOLUME, Clear::Zero), InUse, "has 1 connection");
    assert_eq!(world.does(clear(IDLE, Clear::Zero)), Some(unit));
    assert!(matches!(phase(world), VolumePhase::Clearing(_)));
    // Its being active, which it has to be, says nothing.
    world.settle(unit);
    assert!(matches!(phase(world), VolumePhase::Clearing(_)));
    for command in [
        attach(id(1), IDLE, HOST, Transport::Iscsi),
        extend(IDLE, 2 * MIB),
        snapshot(id(1), IDLE),
        clone(id(1), Parent::Volume(IDLE), None),
        transfer(IDLE, "web", false),
        volume(IDLE, MIB),
    ] {
        refuses(world, command, Busy, "being deleted");
    }
    joins(world, Command::VolumeDelete { id: IDLE }, unit);
    joins(world, clear(IDLE, Clear::Zero), unit);
    let generation = world.intent.generation();
    assert!(is_cleared(world, generation, &JobResult::default()));
    assert_eq!(phase(world), VolumePhase::Deleting);
    refuses(world, clear(IDLE, Clear::Zero), Busy, "too late");
    joins(world, clear(IDLE, Clear::None), unit);
    world.settle(unit);
    assert!(world.intent.volume(IDLE).is_none());
}

#[test]
fn how_it_is_cleared_can_be_changed_until_it_is() {
    let world = &mut world();
    world.does(clear(IDLE, Clear::Zero));
    let before = world.intent.generation();
    world.does(clear(IDLE, Clear::Discard));
    // What was done for the first is not what is wanted now.
    assert!(!is_cleared(world, before, &JobResult::default()));
    let VolumePhase::Clearing(clearing) = phase(world) else {
        panic!("{:?}", phase(world));
    };
    assert_eq!(clearing.how, Clear::Discard);
    world.does(clear(IDLE, Clear::None));
    assert_eq!(phase(world), VolumePhase::Deleting);
}

#[test]
fn nothing_that_was_never_written_is_cleared_and_nothing_takes_for_ever() {
    let world = &mut world();
    let slow = Clearing {
        how: Clear::Zero,
        size: None,
        bandwidth: Some(1),
        since: 0,
    };
    let slow = Command::VolumeClear {
        id: IDLE,
        clearing: slow,
    };
    refuses(world, slow, OutOfRange, "bandwidth 1");
    world.does(volume(id(1), MIB));
    world.does(clear(id(1), Clear::Zero));
    let there = world.intent.volume(id(1)).unwrap();
    assert_eq!(there.record.phase, VolumePhase::Deleting);
}

fn does_as(world: &mut World, request: Uuid, command: &Command) {
    match world.decide_as(request, command) {
        Ok(Decision::Change(change, _)) => {
            for edit in &change.edits {
                world.intent.apply(edit).unwrap();
            }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_cleared_is_told_with_the_job() {
    let world = &mut world();
    // What had the id before is told nothing.
    let before = id(0x70a);
    does_as(world, before, &Command::VolumeDelete { id: IDLE });
    world.settle(Unit::Volume(IDLE));
    world.does(volume(IDLE, MIB));
    world.settle(Unit::Volume(IDLE));
    let request = id(0x70b);
    does_as(world, request, &clear(IDLE, Clear::Zero));
    let result = JobResult {
        written: Some(7 << 16),
        left: Some(1 << 16),
        ..JobResult::default()
    };
    let generation = world.intent.generation();
    assert!(is_cleared(world, generation, &result));
    assert_eq!(world.intent.request(before).unwrap().work, None);
    let record = world.intent.request(request).unwrap();
    // It is done when the kernel has it all.
    let job = view::job(request, record, Reached::Underway(None), None);
    assert_eq!((job.state, &job.result), (JobState::Running, &Some(result)));
    assert!(!record.works());
}

#[test]
fn all_who_asked_for_it_are_told() {
    let world = &mut world();
    let [first, second] = [id(0x70a), id(0x70b)];
    does_as(world, first, &clear(IDLE, Clear::Zero));
    does_as(world, second, &clear(IDLE, Clear::Discard));
    let generation = world.intent.generation();
    assert!(is_cleared(world, generation, &JobResult::default()));
    for request in [first, second] {
        assert!(world.intent.request(request).unwrap().work.is_some());
    }
}
