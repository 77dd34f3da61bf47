//! On the way to another pool.

use ashlar_protocol::{JobResult, MoveSpec, Operation, PoolUpdate, Progress, VolumeUpdate};
use ashlar_targetd_protocol::ThinRef;

use super::*;
use crate::domain::Undertaking;
use crate::domain::decide::moving;
use crate::domain::decide::work::{self, begin, interrupted};
use crate::domain::record::{Moving, VolumeRecord};

const OTHER_POOL: Uuid = Uuid::from_u128(0xa1);
const JOB: Uuid = Uuid::from_u128(0x70b);

/// The furnished world with a second pool.
fn with_pool() -> World {
    let mut world = World::furnished();
    let unit = world.does(pool(OTHER_POOL, &["serial-DISK1"])).unwrap();
    world.settle(unit);
    world
}

fn spec(pool: Uuid) -> MoveSpec {
    MoveSpec {
        pool,
        bandwidth: None,
    }
}

/// Begins the job, or says why not.
fn asked(world: &mut World, volume: Uuid, spec: &MoveSpec) -> Result<(), Problem> {
    asked_as(JOB, world, volume, spec)
}

fn asked_as(job: Uuid, world: &mut World, volume: Uuid, spec: &MoveSpec) -> Result<(), Problem> {
    let request = RequestContext {
        id: job,
        digest: [7; 32],
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
        transports: &world.transports,
        site: &world.site,
        address: None,
        settled: &|_| true,
        trouble: &|unit| world.troubled.get(&unit).cloned(),
        missing: &|_| None,
        catalog: None,
        thin_end: None,
        uncounted: &|pool| world.uncounted.get(&pool).cloned(),
        ended: &|_| true,
    };
    let undertaking = Undertaking {
        operation: Operation::VolumeMove,
        object: Unit::Volume(volume).object(),
        progress: Progress::default(),
    };
    let rule = |intent: &Intent, generation, facts: &Facts<'_>| {
        moving::begin(intent, volume, spec, generation, facts)
    };
    let Decision::Change(change, _) = begin(&world.intent, &undertaking, rule, &facts)? else {
        panic!("it is new");
    };
    apply(world, change.edits);
    Ok(())
}

fn apply(world: &mut World, edits: Vec<Edit>) {
    for edit in edits {
        world.intent.apply(&edit).unwrap();
    }
}

type Rule<'a> = &'a dyn Fn(&Intent, u64) -> Result<Vec<Edit>, Problem>;

fn advanced(world: &mut World, rule: Rule<'_>) {
    let generation = world.intent.generation() + 1;
    let mut edits = rule(&world.intent, generation).unwrap();
    edits.push(Edit::put(Record::Clock(generation)));
    apply(world, edits);
}

fn copied(world: &mut World, still: bool) {
    advanced(world, &|intent, generation| {
        moving::copy(intent, VOLUME, JOB, still, generation)
    });
}

fn begun() -> World {
    let mut world = with_pool();
    asked(&mut world, VOLUME, &spec(OTHER_POOL)).unwrap();
    world
}

fn record(world: &World) -> &VolumeRecord {
    &world.intent.volume(VOLUME).unwrap().record
}

fn way(world: &World) -> Moving {
    record(world).moving.unwrap()
}

fn thin(pool: Uuid, id: u64) -> ThinRef {
    ThinRef {
        pool,
        thin_id: id.try_into().unwrap(),
    }
}

fn job(world: &World) -> RequestRecord {
    world.intent.request(JOB).unwrap().clone()
}

#[test]
fn copy_follows_copy_until_the_volume_is_elsewhere() {
    let mut world = begun();
    assert_eq!(way(&world).to, thin(OTHER_POOL, 0));
    for (n, still) in [(1, false), (2, false), (3, true)] {
        copied(&mut world, still);
        let moving = way(&world);
        assert_eq!(moving.copy.map(u64::from), Some(n));
        assert_eq!(moving.base.map(u64::from), (n > 1).then(|| n - 1));
        assert_eq!(moving.still, still);
        let before = (1..n.saturating_sub(1)).map(|n| thin(POOL, n));
        assert_eq!(record(&world).retired, before.collect());
        world.settle(Unit::Volume(VOLUME));
        assert!(record(&world).retired.is_empty());
    }
    // In both pools there is room for it until it is there.
    let promised = |world: &World, pool| world.intent.pool(pool).unwrap().thin;
    assert_eq!(promised(&world, OTHER_POOL), 10 * MIB);
    assert_eq!(promised(&world, POOL), 10 * MIB);
    let entry = world.intent.pool(OTHER_POOL).unwrap();
    assert_eq!((entry.volumes, entry.provisioned), (0, 0));
    for n in 0..4 {
        let owner = world.intent.owner_of_thin(thin(POOL, n));
        assert_eq!(owner.map(|owner| owner.id), (n != 1).then_some(VOLUME));
    }

    let connection = world.intent.connection(CONNECTION).copied();
    advanced(&mut world, &|intent, generation| {
        moving::switch(intent, VOLUME, JOB, generation)
    });
    let there = record(&world);
    assert_eq!((there.pool, there.thin_id.value()), (OTHER_POOL, 0));
    assert_eq!(there.moving, None);
    assert_eq!(there.size, 10 * MIB);
    assert_eq!(there.retired, [0, 2, 3].map(|n| thin(POOL, n)).into());
    assert_eq!(world.intent.connection(CONNECTION).copied(), connection);
    assert_eq!(promised(&world, OTHER_POOL), 10 * MIB);
    assert_eq!(promised(&world, POOL), 0);
    world.settle(Unit::Volume(VOLUME));
    assert!(record(&world).retired.is_empty());
}

#[test]
fn a_move_that_ends_early_leaves_the_volume_where_it_was() {
    for stage in 0..4 {
        let mut world = with_pool();
        let before = world.intent.clone();
        asked(&mut world, VOLUME, &spec(OTHER_POOL)).unwrap();
        (0..stage).for_each(|n| copied(&mut world, n == 2));
        let edits = interrupted(&world.intent);
        apply(&mut world, edits);
        let there = record(&world);
        assert_eq!((there.pool, there.moving), (POOL, None));
        assert!(there.retired.contains(&thin(OTHER_POOL, 0)));
        assert_eq!(there.retired.len(), 1 + stage as usize);
        let failed = job(&world).failed.unwrap();
        assert_eq!(failed.code, Interrupted);
        assert!(failed.detail.contains("stays where it was"), "{failed}");
        world.settle(Unit::Volume(VOLUME));
        let settled = world.intent.volume(VOLUME).unwrap();
        let was = before.volume(VOLUME).unwrap();
        let unchanged = VolumeRecord {
            generation: settled.record.generation,
            ..was.record.clone()
        };
        assert_eq!(settled.record, unchanged);
        let room = |intent: &Intent| [POOL, OTHER_POOL].map(|id| intent.pool(id).unwrap().thin);
        assert_eq!(room(&world.intent), room(&before));
        // And can be asked for again.
        world
            .intent
            .apply(&Edit::Remove(Key::Request(JOB)))
            .unwrap();
        asked(&mut world, VOLUME, &spec(OTHER_POOL)).unwrap();
    }
}

#[test]
fn a_volume_that_was_switched_has_arrived_however_its_job_ends() {
    for ends in [
        interrupted,
        |intent: &Intent| {
            let cut = Err(work::cut_short(JOB));
            work::end(intent, JOB, Progress::default(), cut)
        },
        |intent: &Intent| {
            let done = Ok(JobResult::default());
            work::end(intent, JOB, Progress::default(), done)
        },
    ] {
        let mut world = begun();
        copied(&mut world, true);
        advanced(&mut world, &|intent, generation| {
            moving::switch(intent, VOLUME, JOB, generation)
        });
        let edits = ends(&world.intent);
        apply(&mut world, edits);
        assert_eq!(record(&world).pool, OTHER_POOL);
        let job = job(&world);
        assert_eq!(job.failed, None);
        assert!(!job.works());
    }
}

#[test]
fn a_volume_is_switched_only_from_rest() {
    let mut world = begun();
    copied(&mut world, true);
    advanced(&mut world, &|intent, generation| {
        moving::go_on(intent, VOLUME, JOB, generation)
    });
    assert!(!way(&world).still);
    let refused = moving::switch(&world.intent, VOLUME, JOB, 99).unwrap_err();
    assert_eq!(refused.code, Internal);
    // Nobody but its own job does anything to it.
    for rule in [moving::go_on, moving::switch] {
        let refused = rule(&world.intent, VOLUME, id(9), 99).unwrap_err();
        assert_eq!(refused.code, WrongState);
    }
}

#[test]
fn what_may_not_move() {
    let refused = |world: &mut World, volume, spec: MoveSpec, code, text: &str| {
        let before = world.intent.clone();
        let problem = asked(world, volume, &spec).unwrap_err();
        assert_eq!(problem.code, code, "{problem}");
        assert!(problem.detail.contains(text), "{problem}");
        assert_eq!(world.intent, before);
    };
    let mut world = with_pool();
    let none = MoveSpec {
        bandwidth: Some(0),
        ..spec(OTHER_POOL)
    };
    refused(&mut world, VOLUME, none, OutOfRange, "bandwidth 0");
    refused(&mut world, VOLUME, spec(POOL), WrongState, "already");
    refused(&mut world, VOLUME, spec(id(9)), NotFound, "does not exist");
    refused(
        &mut world,
        id(9),
        spec(OTHER_POOL),
        NotFound,
        "does not exist",
    );
    for pool in [POOL, OTHER_POOL] {
        let trouble = Problem::new(KernelFailed, "its disk is gone");
        world.troubled.insert(Unit::Pool(pool), trouble);
        refused(
            &mut world,
            VOLUME,
            spec(OTHER_POOL),
            WrongState,
            "its disk is gone",
        );
        world.troubled.clear();
    }
    let mut tight = with_pool();
    tight.does(Command::PoolUpdate {
        id: OTHER_POOL,
        spec: PoolUpdate {
            reserved: Some(99),
            ..PoolUpdate::default()
        },
    });
    refused(
        &mut tight,
        VOLUME,
        spec(OTHER_POOL),
        NoSpace,
        "more than pool",
    );
    let mut snapped = with_pool();
    let unit = snapped.does(snapshot(id(0xe0), VOLUME)).unwrap();
    refused(
        &mut snapped,
        VOLUME,
        spec(OTHER_POOL),
        Busy,
        "is being made of",
    );
    snapped.settle(unit);
    refused(&mut snapped, VOLUME, spec(OTHER_POOL), InUse, "1 snapshot");
    let mut deleted = with_pool();
    deleted.does(volume(id(0xc1), MIB));
    refused(
        &mut deleted,
        id(0xc1),
        spec(OTHER_POOL),
        Busy,
        "being created",
    );
    let mut grown = with_pool();
    grown.does(extend(VOLUME, 20 * MIB));
    refused(&mut grown, VOLUME, spec(OTHER_POOL), Busy, "being extended");
    let mut frozen = frozen();
    refused(&mut frozen, VOLUME, spec(OTHER_POOL), Frozen, "is frozen");
    for pool in [POOL, OTHER_POOL] {
        let mut uncounted = with_pool();
        let problem = Problem::new(KernelFailed, "the metadata cannot be read");
        uncounted.uncounted.insert(pool, problem);
        refused(
            &mut uncounted,
            VOLUME,
            spec(OTHER_POOL),
            KernelFailed,
            "cannot be read",
        );
    }
}

#[test]
fn what_may_be_done_meanwhile() {
    let mut world = begun();
    copied(&mut world, false);
    let thick = VolumeUpdate {
        provisioning: Some(ashlar_protocol::Provisioning::Thick),
        ..VolumeUpdate::default()
    };
    for command in [
        extend(VOLUME, 20 * MIB),
        snapshot(id(0xe0), VOLUME),
        adopt_snapshot(id(0xe0), VOLUME, 7, None),
        clone(id(0xc1), ashlar_protocol::Parent::Volume(VOLUME), None),
        update(VOLUME, thick),
    ] {
        refuses(&mut world, command, Busy, "is at work on");
    }
    let mut unused = begun();
    unused.does(detach(CONNECTION));
    unused.settle(Unit::Volume(VOLUME));
    for command in [Command::VolumeDelete { id: VOLUME }, release(VOLUME)] {
        refuses(&mut unused, command, Busy, "is at work on");
    }
    let again = asked_as(id(9), &mut world, VOLUME, &spec(OTHER_POOL));
    assert_eq!(again.unwrap_err().code, Busy);
    // Hosts come and go, and names change.
    let other = attach(id(0xd1), VOLUME, OTHER_HOST, Transport::NvmeTcp);
    world.does(other.clone());
    world.settle(Unit::Volume(VOLUME));
    world.does(detach(id(0xd1)));
    world.settle(Unit::Volume(VOLUME));
    world.does(update(
        VOLUME,
        VolumeUpdate {
            name: Some("other".parse().unwrap()),
            ..VolumeUpdate::default()
        },
    ));
    assert!(way(&world).copy.is_some());

    // But for the moment in which it rests.
    copied(&mut world, true);
    for command in [
        other,
        detach(CONNECTION),
        Command::VolumeDetachAll { id: VOLUME },
    ] {
        let problem = world.decide(&command).unwrap_err();
        assert_eq!(problem.code, Busy, "{problem}");
        assert!(problem.retryable);
    }
}
