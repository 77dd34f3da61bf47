use ashlar_protocol::{Problem, ProblemCode, Redundancy, Transport};

use super::*;
use crate::domain::members;
use crate::domain::record::Unit;
use crate::domain::samples::*;
use crate::domain::settle::{Grounds, Span, restore, settle, withdraw};
use crate::domain::{Command, Decision, decide::work};

/// Kinds and the last digits of objects and requests, as "volume.created c0 by f001".
fn told(intent: &Intent, edits: &[Edit]) -> Vec<String> {
    let events = events(intent, edits, 7);
    let line = |event: EventRecord| {
        let object = event.object.id.as_u128();
        match event.request {
            Some(request) => format!("{} {object:x} by {:x}", event.kind, request.as_u128()),
            None => format!("{} {object:x}", event.kind),
        }
    };
    events.into_iter().map(line).collect()
}

/// What a command's change tells; then it is applied.
fn does(world: &mut World, command: &Command) -> Vec<String> {
    let Ok(Decision::Change(change, _)) = world.decide(command) else {
        panic!("{command:?}")
    };
    applied(world, &change.edits)
}

fn applied(world: &mut World, edits: &[Edit]) -> Vec<String> {
    let told = told(&world.intent, edits);
    for edit in edits {
        world.intent.apply(edit).unwrap();
    }
    told
}

fn settled(world: &mut World, unit: Unit) -> Vec<String> {
    let edits = settle(
        &world.intent,
        unit,
        world.intent.generation(),
        Some(CAPACITY),
    );
    applied(world, &edits)
}

#[test]
fn a_pool_has_grown_once_the_kernel_has_it_and_not_when_it_fails() {
    let world = &mut World::furnished();
    let unit = Unit::Pool(POOL);
    assert_eq!(does(world, &grow(&["serial-DISK1"])), [""; 0]);
    assert_eq!(settled(world, unit), ["pool.grown a0 by f006"]);
    assert_eq!(settled(world, unit), [""; 0]);
    assert_eq!(does(world, &grow(&["serial-DISK2"])), [""; 0]);
    let tried = world.intent.generation();
    let grounds = Grounds {
        device: Some(CAPACITY),
        ..Grounds::new(Problem::new(ProblemCode::NotBlank, "it holds something"))
    };
    let span = Span { applied: 0, tried };
    let edits = withdraw(&world.intent, unit, span, &grounds);
    assert_eq!(applied(world, &edits), ["pool.grow-failed a0 by f007"]);
}

fn details(intent: &Intent, edits: &[Edit]) -> Vec<String> {
    let told = events(intent, edits, 0).into_iter();
    told.map(|event| format!("{} {}", event.kind, event.detail.unwrap_or_default()))
        .collect()
}

#[test]
fn how_the_disks_of_a_pool_become_is_told_and_which() {
    use MemberState::{Failed, InSync, Missing, Rebuilding};
    let world = &mut World::redundant(Redundancy::Raid1, 3);
    for (states, expected) in [
        ([InSync, InSync, InSync], vec![]),
        (
            [InSync, Failed, Missing],
            vec![
                "pool.member-failed pool: disk serial-DISK1",
                "pool.member-missing pool: disk serial-DISK2",
            ],
        ),
        ([InSync, Failed, Missing], vec![]),
        (
            [InSync, Failed, Rebuilding],
            vec!["pool.member-rebuilding pool: disk serial-DISK2"],
        ),
        (
            [InSync, InSync, InSync],
            vec![
                "pool.member-in-sync pool: disk serial-DISK1",
                "pool.member-in-sync pool: disk serial-DISK2",
            ],
        ),
    ] {
        let edits = members::told(&world.intent, POOL, &report(&[&states]));
        assert_eq!(details(&world.intent, &edits), expected);
        // No request brought it about.
        let caused = events(&world.intent, &edits, 0);
        assert!(caused.iter().all(|event| event.request.is_none()));
        applied(world, &edits);
    }
}

#[test]
fn a_disk_that_has_the_place_of_another_is_told_and_one_that_cannot_have_it() {
    let world = &mut World::redundant(Redundancy::Raid1, 2);
    let unit = Unit::Pool(POOL);
    assert_eq!(does(world, &replace(1, "serial-DISK4")), [""; 0]);
    let generation = world.intent.generation();
    let edits = settle(&world.intent, unit, generation, Some(CAPACITY));
    assert_eq!(
        details(&world.intent, &edits),
        [
            "pool.disk-replaced pool: disk serial-DISK1 by serial-DISK4",
            "pool.member-rebuilding pool: disk serial-DISK4"
        ]
    );
    let told = applied(world, &edits);
    assert_eq!(told[0], "pool.disk-replaced a0 by f002");
    assert_eq!(settled(world, unit), [""; 0]);
    assert_eq!(does(world, &replace(0, "serial-DISK5")), [""; 0]);
    let tried = world.intent.generation();
    let grounds = Grounds {
        device: Some(CAPACITY),
        ..Grounds::new(Problem::new(ProblemCode::NotBlank, "it holds something"))
    };
    let span = Span { applied: 0, tried };
    let edits = withdraw(&world.intent, unit, span, &grounds);
    // What became of the one that keeps its place meanwhile, is not known.
    let expected = [
        "pool.member-rebuilding a0",
        "pool.replace-failed a0 by f003",
    ];
    assert_eq!(applied(world, &edits), expected);
}

#[test]
fn a_pool_is_deleted_once_it_is_gone() {
    let world = &mut World::empty();
    let unit = Unit::Pool(POOL);
    world.does(pool(POOL, &["serial-DISK0"]));
    settled(world, unit);
    let command = Command::PoolDelete {
        id: POOL,
        force: false,
    };
    assert_eq!(does(world, &command), [""; 0]);
    assert_eq!(settled(world, unit), ["pool.deleted a0 by f002"]);
}

#[test]
fn an_object_is_created_once_it_was_made_and_its_request_is_named() {
    let world = &mut World::empty();
    assert_eq!(does(world, &pool(POOL, &["serial-DISK0"])), [""; 0]);
    assert_eq!(
        settled(world, Unit::Pool(POOL)),
        ["pool.created a0 by f001"]
    );
    assert_eq!(settled(world, Unit::Pool(POOL)), [""; 0]);
    assert_eq!(does(world, &host(HOST, 0)), ["host.created b0 by f002"]);
    assert_eq!(does(world, &volume(VOLUME, MIB)), [""; 0]);
    let unit = Unit::Volume(VOLUME);
    assert_eq!(settled(world, unit), ["volume.created c0 by f003"]);
    let attach = attach(CONNECTION, VOLUME, HOST, Transport::Iscsi);
    assert_eq!(does(world, &attach), ["connection.created d0 by f004"]);
    assert_eq!(settled(world, unit), [""; 0]);

    let extended = ["volume.extended c0 by f005"];
    assert_eq!(does(world, &extend(VOLUME, 2 * MIB)), extended);
    assert_eq!(
        does(
            world,
            &Command::ConnectionDelete {
                id: CONNECTION,
                force: false,
            }
        ),
        [""; 0]
    );
    assert_eq!(settled(world, unit), ["connection.deleted d0 by f006"]);
    assert_eq!(does(world, &Command::VolumeDelete { id: VOLUME }), [""; 0]);
    assert_eq!(settled(world, unit), ["volume.deleted c0 by f007"]);
    let rotate = Command::HostRotate {
        id: HOST,
        spec: Box::default(),
    };
    assert_eq!(does(world, &rotate), ["host.rotated b0 by f008"]);
    let forgotten = ["host.deleted b0 by f009"];
    assert_eq!(does(world, &Command::HostDelete { id: HOST }), forgotten);
}

#[test]
fn what_was_given_up_has_failed_and_says_why() {
    let world = &mut World::furnished();
    does(world, &volume(id(1), MIB));
    let generation = world.intent.generation();
    let span = Span {
        applied: generation - 1,
        tried: generation,
    };
    let unit = Unit::Volume(id(1));
    let problem = Problem::new(ProblemCode::NoSpace, "it is full");
    let edits = withdraw(&world.intent, unit, span, &Grounds::new(problem));
    let detail = events(&world.intent, &edits, 7).remove(0).detail;
    assert_eq!(detail.as_deref(), Some("it is full"));
    assert_eq!(applied(world, &edits), ["volume.create-failed 1 by f006"]);
    assert_eq!(settled(world, unit), ["volume.deleted 1"]);
}

#[test]
fn a_connection_that_stays_after_all_is_not_created_again() {
    let world = &mut World::furnished();
    does(
        world,
        &Command::ConnectionDelete {
            id: CONNECTION,
            force: false,
        },
    );
    let generation = world.intent.generation();
    let span = Span {
        applied: generation - 1,
        tried: generation,
    };
    let problem = Problem::new(ProblemCode::InUse, "logged in");
    let edits = restore(
        &world.intent,
        Unit::Volume(VOLUME),
        span,
        &Grounds::new(problem),
    );
    assert_eq!(
        applied(world, &edits),
        ["connection.delete-failed d0 by f006"]
    );
}

#[test]
fn long_work_begins_and_ends() {
    let world = &mut World::furnished();
    does(world, &extend(VOLUME, 20 * MIB));
    let job = id(world.requests);
    let running = RequestRecord {
        generation: 99,
        work: Some(crate::domain::record::WorkRecord {
            phase: WorkPhase::Running,
            progress: Default::default(),
            result: None,
        }),
        ..world.intent.request(job).unwrap().clone()
    };
    let begin = [Edit::put(Record::Request(id(2), running))];
    assert_eq!(applied(world, &begin), ["volume.extend-begun c0 by 2"]);
    let end = |outcome| work::end(&world.intent, id(2), Default::default(), outcome);
    let cancelled = Err(work::cancelled(id(2)));
    let done = ["volume.extend-done c0 by 2"];
    assert_eq!(told(&world.intent, &end(Ok(Default::default()))), done);
    let stopped = ["volume.extend-cancelled c0 by 2"];
    assert_eq!(told(&world.intent, &end(cancelled)), stopped);
}

#[test]
fn a_failed_revert_is_no_revert() {
    let mut world = World::furnished();
    let record = world.intent.volume(VOLUME).unwrap().record.clone();
    let phased = |phase| {
        let record = record.clone();
        Edit::put(Record::Volume(VOLUME, VolumeRecord { phase, ..record }))
    };
    let reverting = phased(VolumePhase::Reverting);
    assert_eq!(applied(&mut world, &[reverting]), [""; 0]);
    let thin_id = ashlar_targetd_protocol::ThinId::try_from(77).unwrap();
    let back = VolumeRecord {
        thin_id,
        ..record.clone()
    };
    let undone = Edit::put(Record::Volume(VOLUME, back));
    assert_eq!(told(&world.intent, &[undone]), [""; 0]);
    let replacing = phased(VolumePhase::Replacing);
    assert_eq!(applied(&mut world, &[replacing]), [""; 0]);
    let done = Edit::put(Record::Volume(VOLUME, record.clone()));
    assert_eq!(told(&world.intent, &[done]), ["volume.reverted c0 by f004"]);
}

#[test]
fn other_changes_of_a_volume_are_updates() {
    let world = World::furnished();
    let record = world.intent.volume(VOLUME).unwrap().record.clone();
    let renamed = VolumeRecord {
        name: "other".parse().unwrap(),
        ..record.clone()
    };
    let edit = Edit::put(Record::Volume(VOLUME, renamed));
    assert_eq!(told(&world.intent, &[edit]), ["volume.updated c0 by f004"]);
    let same = Edit::put(Record::Volume(VOLUME, record));
    assert_eq!(told(&world.intent, &[same]), [""; 0]);
}

#[test]
fn a_volume_that_goes_to_another_owner_says_to_whom_and_is_no_update() {
    let world = &mut World::furnished();
    let connected = transfer(VOLUME, "billing", true);
    let Ok(Decision::Change(change, _)) = world.decide(&connected) else {
        panic!("nobody forbids it")
    };
    let detail = events(&world.intent, &change.edits, 7).remove(0).detail;
    let detail = detail.unwrap();
    assert!(detail.ends_with(": to billing"), "{detail}");
    let told = applied(world, &change.edits);
    assert_eq!(told, ["volume.transferred c0 by f006"]);
    // Whoever reached it through the owner before does so no longer.
    let cut = settled(world, Unit::Volume(VOLUME));
    assert_eq!(cut, ["connection.deleted d0 by f006"]);
    assert_eq!(does(world, &transfer(VOLUME, "billing", true)), [""; 0]);
}
