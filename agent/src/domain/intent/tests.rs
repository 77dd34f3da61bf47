use std::collections::{BTreeMap, BTreeSet};

use ashlar_protocol::{Problem, ProblemCode, Transport};
use proptest::prelude::*;

use super::*;
use crate::domain::Edit;
use crate::domain::record::{Key, Record, VolumePhase};
use crate::domain::record::{PoolPhase, Unit};
use crate::domain::samples::*;
use crate::domain::settle::{Span, restore, settle, withdraw};
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

/// Few ids, so that commands meet.
fn few(base: u128) -> impl Strategy<Value = Uuid> {
    (0..3_u128).prop_map(move |n| id(base + n))
}

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Iscsi), Just(Transport::NvmeTcp)]
}

fn unit() -> impl Strategy<Value = Unit> {
    prop_oneof![
        few(0xa0).prop_map(Unit::Pool),
        few(0xc0).prop_map(Unit::Volume)
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let size = prop_oneof![Just(0), Just(MIB), Just(5 * MIB + 1), Just(CAPACITY + 1)];
    prop_oneof![
        (few(0xa0), 0..4_u32).prop_map(|(p, n)| pool(p, &[&format!("serial-DISK{n}")])),
        (few(0xc0), size.clone()).prop_map(|(v, size)| volume(v, size)),
        (few(0xc0), size).prop_map(|(v, size)| extend(v, size)),
        few(0xc0).prop_map(|id| Command::VolumeDelete { id }),
        few(0xc0).prop_map(|id| Command::VolumeDetachAll { id }),
        (few(0xb0), 0..3_u32).prop_map(|(h, n)| host(h, n)),
        few(0xb0).prop_map(|id| Command::HostDelete { id }),
        (few(0xd0), few(0xc0), few(0xb0), transport())
            .prop_map(|(c, v, h, transport)| attach(c, v, h, transport)),
        few(0xd0).prop_map(|id| Command::ConnectionDelete { id }),
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
    let problem = Problem::new(ProblemCode::KernelFailed, "no");
    match step {
        Step::Command(command) => match world.decide(command) {
            Ok(Decision::Change(change, _)) => change.edits,
            Ok(Decision::Repeat(_)) | Err(_) => Vec::new(),
        },
        Step::Settle(unit) => settle(intent, *unit, tried, Some(CAPACITY)),
        Step::Withdraw(unit, back) => withdraw(intent, *unit, span(*back), &problem),
        Step::Restore(unit, back) => restore(intent, *unit, span(*back), &problem),
    }
}

/// What must hold in every intent.
fn check(intent: &Intent) {
    let counted = |volume: Uuid| {
        let all = intent.connections.values();
        all.filter(|c| c.volume == volume).count() as u64
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
        let ids: BTreeSet<_> = mine().map(|v| v.record.thin_id).collect();
        assert_eq!(ids.len() as u64, entry.volumes, "a thin id was given twice");
        assert!(entry.record.phase != PoolPhase::Withdrawn || entry.volumes == 0);
        for disk in &entry.record.spec.disks {
            assert_eq!(intent.pool_by_disk.get(disk), Some(id));
        }
    }
    for (id, entry) in &intent.hosts {
        let mine = intent.connections.values().filter(|c| c.host == *id);
        assert_eq!(entry.connections, mine.count() as u64);
    }
    let unique: BTreeSet<_> = intent
        .connections
        .values()
        .map(|c| (c.volume, c.host, c.transport))
        .collect();
    assert_eq!(unique.len(), intent.connections.len(), "attached twice");
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_life_keeps_the_indexes_and_is_equal_when_replayed(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::empty();
        let mut thin = BTreeMap::new();
        let mut generation = 0;
        for step in &steps {
            for edit in edits(&mut world, step) {
                world.intent.apply(&edit).unwrap();
                if let Edit::Remove(Key::Pool(pool)) = edit {
                    thin.retain(|(of, _), _| *of != pool);
                }
            }
            check(&world.intent);
            prop_assert!(world.intent.generation() >= generation);
            generation = world.intent.generation();
            for (volume, entry) in &world.intent.volumes {
                let key = (entry.record.pool, entry.record.thin_id);
                let born = entry.record.created;
                let owner = *thin.entry(key).or_insert((*volume, born));
                prop_assert_eq!(owner, (*volume, born), "a thin id was given again");
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
        let all = world.intent.connections_of(VOLUME, after);
        all.map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(ids(None), [id(1), id(2), CONNECTION]);
    assert_eq!(ids(Some(id(1))), [id(2), CONNECTION]);
    assert!(ids(Some(CONNECTION)).is_empty());
}
