//! What comes with a pool, and that whatever a catalog says leaves a store that opens.

use ashlar_protocol::{
    GroupSnapshotSpec, GroupSpec, HostSecrets, MemberSnapshot, ObjectKind, Transport,
};
use proptest::prelude::*;

use super::*;
use crate::domain::OsRandom;
use crate::domain::catalog::page;
use crate::domain::command::Command;
use crate::domain::record::Key;
use crate::domain::samples::{
    HOST, OTHER_HOST, POOL, VOLUME, World, attach, id, read, revert, snapshot, volume,
};
use crate::reconcile::render;

const MIB: u64 = 1 << 20;

/// A pool with a bit of everything, some of it under way.
fn world() -> World {
    let mut world = World::furnished();
    for n in 1..=3 {
        world.does(volume(id(n), 8 * MIB));
        world.settle(Unit::Volume(id(n)));
    }
    world.does(snapshot(id(4), id(1)));
    world.settle(Unit::Snapshot(id(4)));
    world.does(group(id(5), &[id(2), id(3)]));
    world.does(group_snapshot(
        id(6),
        id(5),
        &[(id(2), id(7)), (id(3), id(8))],
    ));
    world.settle(Unit::GroupSnapshot(id(6)));
    world.does(attach(id(9), id(2), HOST, Transport::Iscsi));
    world.does(read(id(10), id(4), OTHER_HOST));
    // Nobody knows whether these were done.
    world.does(volume(id(11), 4 * MIB));
    world.does(snapshot(id(12), id(3)));
    world.does(revert(id(1), id(4), true));
    world
}

fn group(id: Uuid, volumes: &[Uuid]) -> Command {
    let spec = GroupSpec {
        name: "group".parse().unwrap(),
        volumes: volumes.to_vec(),
        source: None,
    };
    Command::GroupCreate { id, spec }
}

fn group_snapshot(id: Uuid, group: Uuid, snapshots: &[(Uuid, Uuid)]) -> Command {
    let member = |(volume, snapshot): &(Uuid, Uuid)| MemberSnapshot {
        volume: *volume,
        snapshot: *snapshot,
    };
    let spec = GroupSnapshotSpec {
        name: "whole".parse().unwrap(),
        group,
        snapshots: snapshots.iter().map(member).collect(),
    };
    Command::GroupSnapshotCreate { id, spec }
}

/// Entries as a catalog has them.
fn entries(world: &World) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = Vec::new();
    let mut next = Some(Key::Pool(POOL));
    while let Some(after) = next {
        let (some, more) = page(&world.intent, POOL, after);
        entries.extend(some.iter().map(|r| (r.key().bytes(), r.value().unwrap())));
        next = more;
    }
    entries
}

fn found(world: &World, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<Found, ()> {
    let record = &world.intent.pool(POOL).unwrap().record;
    let records = entries.iter().map(|(key, value)| Record::parse(key, value));
    Ok(Found {
        labelled: render::pool(POOL, record, id(0xb0), 0),
        missing: BTreeSet::new(),
        records: records.collect::<Result<_, _>>().map_err(drop)?,
        released: false,
        lost: false,
    })
}

fn taken(intent: &Intent, found: &Found) -> Result<Vec<Edit>, Problem> {
    import(intent, POOL, found, (true, 77), &mut OsRandom)
}

fn applied(edits: &[Edit]) -> Intent {
    let mut intent = Intent::default();
    edits.iter().for_each(|edit| intent.apply(edit).unwrap());
    intent
}

#[test]
fn all_of_a_pool_comes_and_nothing_is_made_or_destroyed_again() {
    let world = world();
    let found = found(&world, &entries(&world)).unwrap();
    let intent = applied(&taken(&Intent::default(), &found).unwrap());
    let pool = intent.pool(POOL).unwrap();
    assert_eq!(pool.record.import, Some(Importing { since: 77 }));
    assert_eq!(pool.record.capacity, None);
    let before = &world.intent;
    assert_eq!(intent.volumes().len(), before.volumes().len());
    assert_eq!(intent.snapshots().len(), before.snapshots().len());
    assert_eq!(intent.connections().len(), before.connections().len());
    assert_eq!(intent.thin_counter(POOL), before.thin_counter(POOL));
    let phase = |id| intent.volume(id).unwrap().record.phase;
    // It may be there, with what a host wrote since.
    assert_eq!(phase(id(11)), VolumePhase::Present);
    assert_eq!(
        intent.snapshot(id(12)).unwrap().phase,
        SnapshotPhase::Present
    );
    assert_eq!(phase(id(1)), VolumePhase::Reverting);
    assert_eq!(intent.volume(id(2)).unwrap().record.group, Some(id(5)));
    assert_eq!(intent.snapshot(id(7)).unwrap().group, Some(id(6)));
    assert_eq!(intent.group_snapshot(id(6)).unwrap().group, id(5));
    let records = intent.volumes().values();
    assert!(
        records
            .clone()
            .all(|entry| entry.record.generation == PROMISED)
    );
}

#[test]
fn hosts_get_new_secrets_and_only_those_that_are_connected_come() {
    let mut world = world();
    world.does(Command::HostCreate {
        id: id(99),
        spec: crate::domain::samples::host_spec(7),
    });
    let entries = entries(&world);
    let found = found(&world, &entries).unwrap();
    let nothing = HostSecrets::default();
    for record in &found.records {
        if let Record::Host(_, host) = record {
            assert_eq!(host.secrets, nothing);
        }
    }
    let intent = applied(&taken(&Intent::default(), &found).unwrap());
    assert!(intent.host(id(99)).is_none());
    let host = &intent.host(HOST).unwrap().record;
    assert!(host.secrets.chap.is_some(), "it must not be let in without");
    assert_ne!(
        host.secrets,
        world.intent.host(HOST).unwrap().record.secrets
    );
}

#[test]
fn what_was_not_let_go_of_or_is_damaged_takes_force() {
    let world = world();
    let whole = found(&world, &entries(&world)).unwrap();
    let damaged = Found {
        released: true,
        lost: true,
        ..whole.clone()
    };
    let intent = Intent::default();
    for found in [&whole, &damaged] {
        let problem = import(&intent, POOL, found, (false, 7), &mut OsRandom).unwrap_err();
        assert_eq!(problem.code, ProblemCode::WrongState, "{problem}");
        assert!(taken(&intent, found).is_ok());
    }
    let released = Found {
        released: true,
        ..whole
    };
    assert!(import(&intent, POOL, &released, (false, 7), &mut OsRandom).is_ok());
}

#[test]
fn what_is_here_already_stays_and_is_left_out_by_force_only() {
    let world = world();
    let found = Found {
        released: true,
        ..found(&world, &entries(&world)).unwrap()
    };
    // Another pool of this box has the volume.
    let mut here = Intent::default();
    let record = world.intent.pool(POOL).unwrap().record.clone();
    let other = PoolRecord {
        spec: crate::domain::samples::pool_spec(&["serial-OTHER"]),
        ..record
    };
    let theirs = VolumeRecord {
        pool: id(0xaa),
        ..world.intent.volume(id(2)).unwrap().record.clone()
    };
    here.apply(&Edit::put(Record::Pool(id(0xaa), other)))
        .unwrap();
    here.apply(&Edit::put(Record::Volume(id(2), theirs.clone())))
        .unwrap();
    let problem = import(&here, POOL, &found, (false, 7), &mut OsRandom).unwrap_err();
    assert_eq!(problem.code, ProblemCode::AlreadyExists, "{problem}");
    let edits = taken(&here, &found).unwrap();
    edits.iter().for_each(|edit| here.apply(edit).unwrap());
    assert_eq!(here.volume(id(2)).unwrap().record, theirs);
    assert!(here.connection(id(9)).is_none());
    assert!(here.volume(VOLUME).is_some());
}

#[test]
fn what_labels_and_catalog_say_of_the_disks_must_be_the_same() {
    let world = world();
    let found = found(&world, &entries(&world)).unwrap();
    let edit = |change: fn(&mut PoolRecord)| {
        let mut found = found.clone();
        for record in &mut found.records {
            if let Record::Pool(_, pool) = record {
                change(pool);
            }
        }
        taken(&Intent::default(), &found).unwrap_err()
    };
    for problem in [
        edit(|pool| pool.spec.disks[0] = "serial-FREE".parse().unwrap()),
        edit(|pool| pool.block_size = 0),
        edit(|pool| pool.metadata_size += 4096),
        edit(|pool| pool.metadata_rooms[0] -= MIB),
        edit(|pool| pool.catalog = None),
        edit(|pool| {
            pool.sets.push(crate::domain::record::SetRecord {
                width: 2,
                smallest: 1,
            })
        }),
        edit(|pool| pool.spec.watermarks.warn = 1000),
    ] {
        assert_ne!(problem.code, ProblemCode::Internal, "{problem}");
    }
}

#[test]
fn no_two_have_the_same_thin_device() {
    let world = world();
    let mut found = found(&world, &entries(&world)).unwrap();
    let thin = world.intent.volume(id(2)).unwrap().record.thin_id;
    for record in &mut found.records {
        if let Record::Snapshot(of, snapshot) = record
            && *of == id(4)
        {
            snapshot.thin_id = thin;
        }
    }
    let problem = taken(&Intent::default(), &found).unwrap_err();
    assert!(problem.detail.contains("same thin device"), "{problem}");
}

/// What becomes of an entry.
#[derive(Clone, Debug)]
enum Change {
    Drop,
    /// One id is another one.
    Swap(usize, usize),
    /// A byte is another one.
    Flip(usize, u8),
    /// It is there under another one's id.
    Rename(usize),
}

fn changes() -> impl Strategy<Value = Vec<(usize, Change)>> {
    let change = prop_oneof![
        Just(Change::Drop),
        (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Change::Swap(from, to)),
        (any::<usize>(), 1..=255_u8).prop_map(|(at, flip)| Change::Flip(at, flip)),
        any::<usize>().prop_map(Change::Rename),
    ];
    proptest::collection::vec((any::<usize>(), change), 1..8)
}

/// Every id that is anywhere in the world.
fn ids() -> Vec<Uuid> {
    let numbered = (0..13).map(id);
    numbered
        .chain([POOL, HOST, OTHER_HOST, VOLUME, Uuid::nil()])
        .collect()
}

fn replaced(bytes: &mut [u8], from: Uuid, to: Uuid) {
    let places = bytes.len().saturating_sub(15);
    for at in 0..places {
        if bytes[at..at + 16] == *from.as_bytes() {
            bytes[at..at + 16].copy_from_slice(to.as_bytes());
        }
    }
}

fn changed(entries: &mut Vec<(Vec<u8>, Vec<u8>)>, at: usize, change: &Change) {
    let ids = ids();
    let at = at % entries.len();
    let (key, value) = &mut entries[at];
    match change {
        Change::Drop => drop(entries.remove(at)),
        Change::Swap(from, to) => {
            replaced(value, ids[from % ids.len()], ids[to % ids.len()]);
        }
        Change::Flip(place, flip) => {
            let place = place % value.len();
            value[place] ^= flip;
        }
        Change::Rename(to) => {
            if key.len() == 17 {
                key[1..].copy_from_slice(ids[to % ids.len()].as_bytes());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever a disk carries is refused, or leaves a store that opens: what is journalled is read
    /// again in the order of its keys, and everything in it is there.
    #[test]
    fn no_catalog_keeps_the_store_from_opening(changes in changes()) {
        let world = world();
        let mut all = entries(&world);
        for (at, change) in &changes {
            if !all.is_empty() {
                changed(&mut all, *at, change);
            }
        }
        let Ok(found) = found(&world, &all) else { return Ok(()) };
        // On an empty box, and on one that has the hosts and groups already.
        let mut other = Intent::default();
        for host in [HOST, OTHER_HOST] {
            let record = world.intent.host(host).unwrap().record.clone();
            other.apply(&Edit::put(Record::Host(host, record))).unwrap();
        }
        let record = world.intent.group(id(5)).unwrap().record.clone();
        other.apply(&Edit::put(Record::Group(id(5), record))).unwrap();
        for mut intent in [Intent::default(), other] {
            let Ok(edits) = taken(&intent, &found) else { continue };
            let mut stored = BTreeMap::new();
            for record in intent.records() {
                stored.insert(record.key().bytes(), record.value().unwrap());
            }
            for edit in &edits {
                intent.apply(edit).map_err(|error| TestCaseError::fail(error.to_string()))?;
                let Edit::Put(record) = edit else { panic!("nothing goes") };
                stored.insert(record.key().bytes(), record.value().unwrap());
            }
            let mut again = Intent::default();
            for (key, value) in &stored {
                let record = Record::parse(key, value).unwrap();
                let taken = again.apply(&Edit::put(record));
                taken.map_err(|error| TestCaseError::fail(error.to_string()))?;
            }
            prop_assert_eq!(&again, &intent);
            sound(&intent)?;
        }
    }
}

/// What a creation would have seen to.
fn sound(intent: &Intent) -> Result<(), TestCaseError> {
    let mut thins = BTreeSet::new();
    for (id, entry) in intent.volumes() {
        let volume = &entry.record;
        prop_assert!(!id.is_nil() && intent.snapshot(*id).is_none());
        prop_assert_eq!(volume.pool, POOL);
        prop_assert!(volume.size > 0 && volume.size <= MAX_SIZE);
        prop_assert!(thins.insert(volume.thin_id));
        prop_assert!(volume.retired.iter().all(|thin| thin.pool == POOL));
        prop_assert!(volume.retired.iter().all(|thin| thins.insert(thin.thin_id)));
        prop_assert!(volume.moving.is_none() && volume.purpose.is_none());
        prop_assert!(
            volume
                .group
                .is_none_or(|group| intent.group(group).is_some())
        );
    }
    for snapshot in intent.snapshots().values() {
        prop_assert!(thins.insert(snapshot.thin_id));
        let whole = snapshot.group.map(|whole| intent.group_snapshot(whole));
        prop_assert!(whole.is_none_or(|whole| whole.is_some()));
    }
    let next = intent.thin_counter(POOL).next;
    prop_assert!(thins.iter().all(|thin| thin.value() < next));
    let object = ObjectRef {
        kind: ObjectKind::Pool,
        id: POOL,
    };
    prop_assert!(check_spec(object, &intent.pool(POOL).unwrap().record.spec).is_ok());
    Ok(())
}
