//! What has to wait for long work, and what long work has to wait for.

use ashlar_protocol::{Operation, Parent, Progress, RevertSpec};

use super::*;
use crate::domain::decide::data::{export, import};
use crate::domain::decide::work::{self, Undertaking};
use crate::domain::record::Unit;

const SNAPSHOT: Uuid = Uuid::from_u128(0xe0);
const OTHER: Uuid = Uuid::from_u128(0xc5);
const JOB: Uuid = Uuid::from_u128(0x70b);

/// The furnished world with a snapshot of its volume, and a volume without connections.
fn world() -> World {
    let mut world = World::furnished();
    for (command, unit) in [
        (snapshot(SNAPSHOT, VOLUME), Unit::Snapshot(SNAPSHOT)),
        (volume(OTHER, 10 * MIB), Unit::Volume(OTHER)),
        (snapshot(id(0xe1), OTHER), Unit::Snapshot(id(0xe1))),
    ] {
        world.does(command);
        world.settle(unit);
    }
    world
}

fn begin(world: &mut World, operation: Operation, object: ObjectRef) {
    begin_as(world, JOB, (operation, object), |_, _, _| Ok(Vec::new())).unwrap();
}

/// Begins long work under a job of that id.
pub(super) fn begin_as(
    world: &mut World,
    job: Uuid,
    (operation, object): (Operation, ObjectRef),
    rule: impl FnOnce(&Intent, u64, &Facts<'_>) -> Result<Vec<Edit>, Problem>,
) -> Result<(), Problem> {
    let request = RequestContext {
        id: job,
        digest: [0; 32],
        subject: "tester".to_owned(),
    };
    let facts = Facts {
        request: &request,
        now: 1_800_000_000,
        kernel: world.kernel,
        disks: &[],
        usage: None,
        sets: &[],
        seen: &|_| world.seen,
        catalog: None,
        thin_end: None,
        transports: &BTreeSet::new(),
        site: &world.site,
        address: None,
        settled: &|_| true,
        trouble: &|_| None,
        uncounted: &|_| None,
        missing: &|_| None,
        ended: &|_| true,
    };
    let work = Undertaking {
        operation,
        object,
        progress: Progress::default(),
    };
    match work::begin(&world.intent, &work, rule, &facts)? {
        Decision::Change(change, _) => {
            for edit in &change.edits {
                world.intent.apply(edit).unwrap();
            }
            Ok(())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_volume_that_is_at_work_is_left_alone() {
    for operation in [Operation::VolumeImport, Operation::VolumeExport] {
        let world = &mut world();
        let object = Unit::Volume(OTHER).object();
        begin(world, operation, object);
        let back = Command::VolumeRevert {
            id: OTHER,
            spec: RevertSpec {
                snapshot: id(0xe1),
                interrupt: true,
            },
        };
        for command in [
            attach(id(1), OTHER, HOST, Transport::Iscsi),
            extend(OTHER, 11 * MIB),
            snapshot(id(2), OTHER),
            clone(id(3), Parent::Volume(OTHER), None),
            back,
            Command::VolumeDelete { id: OTHER },
        ] {
            refuses(world, command, Busy, "is at work on");
        }
        assert_eq!(import(&world.intent, OTHER, 0).unwrap_err().code, Busy);
        assert_eq!(export(&world.intent, object, 0).unwrap_err().code, Busy);
        // Others are not.
        world.does(extend(VOLUME, 11 * MIB));
    }
}

#[test]
fn a_snapshot_that_is_read_is_not_deleted_but_may_be_read_again() {
    let world = &mut world();
    let object = Unit::Snapshot(SNAPSHOT).object();
    begin(world, Operation::SnapshotExport, object);
    refuses(
        world,
        Command::SnapshotDelete { id: SNAPSHOT },
        Busy,
        "is at work on",
    );
    assert_eq!(export(&world.intent, object, 0), Ok(()));
    world.does(clone(id(3), Parent::Snapshot(SNAPSHOT), None));
}

#[test]
fn what_a_host_reaches_is_neither_read_nor_written_here() {
    let world = &world();
    let attached = Unit::Volume(VOLUME).object();
    for refused in [
        import(&world.intent, VOLUME, 0),
        export(&world.intent, attached, 0),
    ] {
        assert_eq!(refused.unwrap_err().code, InUse);
    }
    for (offset, allowed) in [
        (0, Ok(())),
        (4096, Ok(())),
        (10 * MIB, Ok(())),
        (1, Err(OutOfRange)),
        (512, Err(OutOfRange)),
        (10 * MIB + 4096, Err(OutOfRange)),
    ] {
        let code = |outcome: Result<(), Problem>| outcome.map_err(|problem| problem.code);
        assert_eq!(code(import(&world.intent, OTHER, offset)), allowed);
        let object = Unit::Snapshot(SNAPSHOT).object();
        assert_eq!(code(export(&world.intent, object, offset)), allowed);
    }
    assert_eq!(import(&world.intent, id(9), 0).unwrap_err().code, NotFound);
}
