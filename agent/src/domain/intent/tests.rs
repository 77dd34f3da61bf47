use std::collections::{BTreeMap, BTreeSet};

use ashlar_protocol::{Access, Clear, Connected, Parent, Problem, ProblemCode, Transport};
use ashlar_targetd_protocol::{Accesses, ThinRef};
use proptest::prelude::*;

use super::*;
use crate::domain::Edit;
use crate::domain::record::{Clearing, Key, PoolPhase, Record, SnapshotPhase, Unit, VolumePhase};
use crate::domain::samples::*;
use crate::domain::settle::{Grounds, Span, restore, settle, skip_thin_ids, withdraw};
use crate::domain::{Command, Decision};

/// One step of a life: a client's command, or what the kernel answers.
#[derive(Clone, Debug)]
enum Step {
    Command(Box<Command>),
    Settle(Unit),
    /// How many generations back the kernel is.
    Withdraw(Unit, u64),
    Restore(Unit, u64),
}

/// Thin devices that a pool holds before anything is made in it.
const FOUND: u64 = 4;

/// Few ids, so that commands meet.
fn few(base: u128) -> impl Strategy<Value = Uuid> {
    (0..3_u128).prop_map(move |n| id(base + n))
}

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Iscsi), Just(Transport::NvmeTcp)]
}

fn parent() -> impl Strategy<Value = Parent> {
    prop_oneof![
        few(0xc0).prop_map(Parent::Volume),
        few(0xe0).prop_map(Parent::Snapshot)
    ]
}

fn unit() -> impl Strategy<Value = Unit> {
    prop_oneof![
        few(0xa0).prop_map(Unit::Pool),
        few(0xc0).prop_map(Unit::Volume),
        few(0xe0).prop_map(Unit::Snapshot),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let size = prop_oneof![Just(0), Just(MIB), Just(5 * MIB + 1), Just(CAPACITY + 1)];
    prop_oneof![
        (few(0xa0), 0..4_u32).prop_map(|(p, n)| pool(p, &[&format!("serial-DISK{n}")])),
        (few(0xc0), size.clone()).prop_map(|(v, size)| volume(v, size)),
        (few(0xc0), size.clone()).prop_map(|(v, size)| extend(v, size)),
        (few(0xc0), parent(), prop::option::of(size))
            .prop_map(|(v, parent, size)| clone(v, parent, size)),
        (few(0xe0), few(0xc0)).prop_map(|(s, v)| snapshot(s, v)),
        few(0xe0).prop_map(|id| Command::SnapshotDelete { id }),
        (few(0xc0), few(0xe0), any::<bool>()).prop_map(|(v, s, cut)| revert(v, s, cut)),
        few(0xc0).prop_map(|id| Command::VolumeDelete { id }),
        few(0xc0).prop_map(|id| Command::VolumeClear {
            id,
            clearing: Clearing {
                how: Clear::Zero,
                size: None,
                bandwidth: None,
                since: 0,
            },
        }),
        (few(0xc0), 0..2 * FOUND).prop_map(|(v, thin)| adopt(v, thin, None)),
        few(0xc0).prop_map(release),
        (few(0xe0), few(0xc0), 0..2 * FOUND)
            .prop_map(|(s, v, thin)| adopt_snapshot(s, v, thin, None)),
        few(0xe0).prop_map(|id| Command::SnapshotRelease { id }),
        few(0xc0).prop_map(|id| Command::VolumeDetachAll { id }),
        (few(0xb0), 0..3_u32).prop_map(|(h, n)| host(h, n)),
        few(0xb0).prop_map(|id| Command::HostRotate {
            id,
            spec: Box::default()
        }),
        few(0xb0).prop_map(|id| Command::HostDelete { id }),
        (few(0xd0), few(0xc0), few(0xb0), transport())
            .prop_map(|(c, v, h, transport)| attach(c, v, h, transport)),
        (few(0xd0), few(0xe0), few(0xb0)).prop_map(|(c, s, h)| read(c, s, h)),
        few(0xd0).prop_map(detach),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => command().prop_map(|command| Step::Command(Box::new(command))),
        4 => unit().prop_map(Step::Settle),
        1 => (unit(), 0..4_u64).prop_map(|(unit, back)| Step::Withdraw(unit, back)),
        1 => (unit(), 0..4_u64).prop_map(|(unit, back)| Step::Restore(unit, back)),
    ]
}

fn edits(world: &mut World, step: &Step) -> Vec<Edit> {
    let intent = &world.intent;
    let tried = intent.generation();
    let span = |back| Span {
        applied: tried.saturating_sub(back),
        tried,
    };
    let grounds = Grounds {
        problem: Problem::new(ProblemCode::KernelFailed, "no"),
        users: Accesses::default(),
        device: Some(0),
    };
    match step {
        Step::Command(command) if is_of_what_is_not(intent, command) => Vec::new(),
        Step::Command(command) => match world.decide(command) {
            Ok(Decision::Change(change, _)) => change.edits,
            Ok(Decision::Repeat(_)) | Err(_) => Vec::new(),
        },
        Step::Settle(unit) => settle(intent, *unit, tried, Some(CAPACITY)),
        Step::Withdraw(unit, back) => withdraw(intent, *unit, span(*back), &grounds),
        Step::Restore(unit, back) => restore(intent, *unit, span(*back), &grounds),
    }
}

/// A pool is counted before anything is made in it: what it holds is below its counter.
fn is_of_what_is_not(intent: &Intent, command: &Command) -> bool {
    let (pool, thin_id) = match command {
        Command::VolumeAdopt { spec, .. } => (Some(spec.pool), spec.thin_id),
        Command::SnapshotAdopt { spec, .. } => {
            let volume = intent.volume(spec.volume);
            (volume.map(|entry| entry.record.pool), spec.thin_id)
        }
        _ => return false,
    };
    pool.is_some_and(|pool| thin_id.value() >= intent.thin_counter(pool).next)
}

/// What must hold in every intent.
fn check(intent: &Intent) {
    let counted = |volume: Uuid| {
        let all = intent.connections.values();
        all.filter(|c| c.of == Connected::Volume(volume)).count() as u64
    };
    for (id, entry) in &intent.volumes {
        assert_eq!(entry.connections, counted(*id));
        assert!(intent.pools.contains_key(&entry.record.pool));
        let deleting = entry.record.phase == VolumePhase::Deleting;
        assert!(
            !deleting || entry.connections == 0,
            "a connected volume is being deleted"
        );
    }
    for (id, entry) in &intent.pools {
        let mine = || intent.volumes.values().filter(|v| v.record.pool == *id);
        assert_eq!(entry.volumes, mine().count() as u64);
        assert_eq!(
            entry.provisioned,
            mine().map(|v| v.record.size).sum::<u64>()
        );
        let snapshots = || intent.snapshots.values().filter(|s| s.pool == *id);
        assert_eq!(entry.snapshots, snapshots().count() as u64);
        let residents = entry.volumes + entry.snapshots;
        assert!(entry.record.phase != PoolPhase::Withdrawn || residents == 0);
        for disk in &entry.record.spec.disks {
            assert_eq!(intent.pool_by_disk.get(disk), Some(id));
        }
    }
    for (id, entry) in &intent.hosts {
        let mine = intent.connections.values().filter(|c| c.host == *id);
        assert_eq!(entry.connections, mine.count() as u64);
    }
    for connection in intent.connections.values() {
        let Connected::Snapshot(id) = connection.of else {
            continue;
        };
        let phase = intent.snapshots[&id].phase;
        assert_eq!(phase, SnapshotPhase::Present, "of a connected snapshot");
        assert_eq!(connection.access, Access::ReadOnly);
    }
    let by_object = intent.connections.iter().map(|(id, c)| (c.of, *id));
    assert_eq!(intent.connections_by_object, by_object.collect());
    let by_host = intent.connections.iter().map(|(id, c)| (c.host, *id));
    assert_eq!(intent.connections_by_host, by_host.collect());
    check_thin_devices(intent);
    let unique: BTreeSet<_> = intent
        .connections
        .values()
        .map(|c| (c.of, c.host, c.transport))
        .collect();
    assert_eq!(unique.len(), intent.connections.len(), "attached twice");
}

/// None belongs to two, and what something is being made of is there.
fn check_thin_devices(intent: &Intent) {
    let mut thin = BTreeSet::new();
    let mut take = |pool, thin_id| {
        let new = thin.insert(ThinRef { pool, thin_id });
        assert!(new, "a thin device belongs to two");
    };
    for (id, entry) in &intent.volumes {
        let volume = &entry.record;
        take(volume.pool, volume.thin_id);
        for retired in &volume.retired {
            take(retired.pool, retired.thin_id);
        }
        assert_eq!(
            entry.snapshots,
            intent.snapshots_of(*id, None).count() as u64
        );
        let reverting = matches!(
            volume.phase,
            VolumePhase::Reverting | VolumePhase::Replacing
        );
        assert!(volume.origin.is_none() || reverting || volume.phase == VolumePhase::Creating);
        assert_eq!(
            reverting,
            volume.origin.is_some() && !volume.retired.is_empty()
        );
        if let Some(origin) = volume.origin {
            let of = intent.volumes.get(&origin.object).map(|v| v.record.thin_id);
            let of = of.or(intent.snapshots.get(&origin.object).map(|s| s.thin_id));
            assert_eq!(of, Some(origin.thin_id), "made of what is gone");
            assert!(intent.made_of(origin.object).is_some());
        }
    }
    for snapshot in intent.snapshots.values() {
        take(snapshot.pool, snapshot.thin_id);
        if snapshot.phase == SnapshotPhase::Creating {
            let of = &intent.volumes[&snapshot.volume].record;
            assert_eq!(of.thin_id, snapshot.origin_thin, "made of what is gone");
            assert!(intent.made_of(snapshot.volume).is_some());
        }
    }
}

/// The intent of the same records, through their stored form and in the store's order.
fn replayed(intent: &Intent) -> Intent {
    let stored: BTreeMap<_, _> = intent
        .records()
        .map(|r| (r.key().bytes(), r.value().unwrap()))
        .collect();
    let mut replayed = Intent::default();
    for (key, value) in stored {
        let record = Record::parse(&key, &value).unwrap();
        replayed.apply(&Edit::put(record)).unwrap();
    }
    replayed
}

fn adopted(edit: &Edit) -> Option<((Uuid, ThinId), Uuid)> {
    let Edit::Put(record) = edit else {
        return None;
    };
    match &**record {
        Record::Volume(id, volume) if volume.phase == VolumePhase::Adopting => {
            Some(((volume.pool, volume.thin_id), *id))
        }
        Record::Snapshot(id, snapshot) if snapshot.phase == SnapshotPhase::Adopting => {
            Some(((snapshot.pool, snapshot.thin_id), *id))
        }
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_life_keeps_the_indexes_and_is_equal_when_replayed(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::empty();
        world.thin_end = Some(Ok(MIB));
        let mut thin = BTreeMap::new();
        let mut generation = 0;
        for step in &steps {
            for edit in edits(&mut world, step) {
                world.intent.apply(&edit).unwrap();
                // Whose it was before, if anyone's, has let go of it.
                if let Some((of, volume)) = adopted(&edit) {
                    thin.insert(of, volume);
                }
                if let Edit::Put(record) = &edit
                    && let Record::ThinCounter(pool, counter) = &**record
                    && counter.next == 0
                {
                    let counted = skip_thin_ids(&world.intent, *pool, FOUND as u32).unwrap();
                    world.intent.apply(&counted).unwrap();
                }
                if let Edit::Remove(Key::Pool(pool)) = edit {
                    thin.retain(|(of, _), _| *of != pool);
                }
            }
            check(&world.intent);
            prop_assert!(world.intent.generation() >= generation);
            generation = world.intent.generation();
            let volumes = world.intent.volumes.iter();
            let volumes = volumes.map(|(id, v)| (*id, v.record.pool, v.record.thin_id));
            let snapshots = world.intent.snapshots.iter();
            let snapshots = snapshots.map(|(id, s)| (*id, s.pool, s.thin_id));
            for (object, pool, thin_id) in volumes.chain(snapshots) {
                let owner = *thin.entry((pool, thin_id)).or_insert(object);
                prop_assert_eq!(owner, object, "a thin id was given again");
            }
        }
        prop_assert_eq!(&replayed(&world.intent), &world.intent);
    }
}

#[test]
fn removing_everything_leaves_no_index_behind() {
    let mut world = World::furnished();
    world.does(Command::VolumeDetachAll { id: VOLUME });
    world.settle(Unit::Volume(VOLUME));
    world.does(Command::VolumeDelete { id: VOLUME });
    world.settle(Unit::Volume(VOLUME));
    for host in [HOST, OTHER_HOST] {
        world.does(Command::HostDelete { id: host });
    }
    let keys: Vec<_> = world.intent.records().map(|record| record.key()).collect();
    for key in keys {
        world.intent.apply(&Edit::Remove(key)).unwrap();
    }
    assert_eq!(world.intent, Intent::default());
}

#[test]
fn a_record_whose_object_is_missing_is_refused() {
    let world = World::furnished();
    let volume = world.intent.volume(VOLUME).unwrap().record.clone();
    let dangling = Intent::default().apply(&Edit::put(Record::Volume(VOLUME, volume)));
    assert_eq!(
        dangling.unwrap_err().to_string(),
        format!("record Volume({VOLUME}) refers to Pool({POOL}), which does not exist")
    );
}

#[test]
fn the_kernel_needs_only_volumes_that_are_connected_or_in_motion() {
    let mut world = World::furnished();
    world.does(volume(id(1), MIB));
    world.does(volume(id(2), MIB));
    world.settle(Unit::Volume(id(2)));
    assert_eq!(world.intent.volumes_in_kernel(), [id(1), VOLUME].into());
}

#[test]
fn connections_of_a_volume_page_by_id() {
    let mut world = World::furnished();
    world.does(attach(id(1), VOLUME, OTHER_HOST, Transport::Iscsi));
    world.does(attach(id(2), VOLUME, OTHER_HOST, Transport::NvmeTcp));
    let ids = |after| {
        let all = world
            .intent
            .connections_of(Connected::Volume(VOLUME), after);
        all.map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(ids(None), [id(1), id(2), CONNECTION]);
    assert_eq!(ids(Some(id(1))), [id(2), CONNECTION]);
    assert!(ids(Some(CONNECTION)).is_empty());
}
