//! Taking over a pool by what its catalog says. Pure.

use std::collections::BTreeSet;

use ashlar_protocol::{Connected, ObjectKind, ObjectRef, Problem, ProblemCode};
use uuid::Uuid;

use crate::domain::change::Edit;
use crate::domain::decide::complete_secrets;
use crate::domain::intent::Intent;
use crate::domain::record::{
    ConnectionPhase, HostRecord, PoolPhase, PoolRecord, Record, SnapshotRecord, Unit, VolumePhase,
    VolumeRecord,
};
use crate::domain::secrets::Random;

/// A catalog as it was found on the disks of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its records, ordered by key.
    pub records: Vec<Record>,
    /// Whether the box that had the pool let go of it.
    pub exported: bool,
    /// Whether it is known to lack its last changes.
    pub lost: bool,
}

/// The edits that make a pool this box's.
///
/// # Errors
/// When another box may be using it, or what it has is here already; nothing is to be changed.
pub fn import(
    intent: &Intent,
    id: Uuid,
    found: &Found,
    (force, generation): (bool, u64),
    random: &mut dyn Random,
) -> Result<Vec<Edit>, Problem> {
    let pool = Unit::Pool(id).object();
    check_left(pool, found, force)?;
    let mut edits = Vec::new();
    let needed = Needed::of(id, &found.records);
    for record in &found.records {
        let taken = match record.clone() {
            Record::Pool(of, record) if of == id => Some(Record::Pool(
                of,
                taken_pool(intent, pool, record, generation)?,
            )),
            Record::ThinCounter(of, counter) if of == id => Some(Record::ThinCounter(of, counter)),
            Record::Host(host, record) if needed.hosts.contains(&host) => {
                taken_host(intent, host, record, generation, random)?
            }
            // One that spans pools may be here already.
            Record::Group(group, mut record) if needed.groups.contains(&group) => {
                record.generation = generation;
                intent
                    .group(group)
                    .is_none()
                    .then_some(Record::Group(group, record))
            }
            Record::GroupSnapshot(whole, mut record) if needed.wholes.contains(&whole) => {
                record.generation = generation;
                let new = intent.group_snapshot(whole).is_none();
                new.then_some(Record::GroupSnapshot(whole, record))
            }
            Record::Volume(volume, record) if record.pool == id => {
                new(ObjectKind::Volume, volume, intent.volume(volume).is_none())?;
                Some(Record::Volume(volume, taken_volume(record, generation)))
            }
            Record::Snapshot(snapshot, record) if record.pool == id => {
                let there = intent.snapshot(snapshot).is_none();
                new(ObjectKind::Snapshot, snapshot, there)?;
                let record = SnapshotRecord {
                    generation,
                    ..record
                };
                Some(Record::Snapshot(snapshot, record))
            }
            // What a host was about to lose is lost.
            Record::Connection(connection, mut record)
                if record.phase == ConnectionPhase::Wanted
                    && needed.objects.contains(&record.of)
                    && needed.hosts.contains(&record.host) =>
            {
                let there = intent.connection(connection).is_none();
                new(ObjectKind::Connection, connection, there)?;
                record.generation = generation;
                Some(Record::Connection(connection, record))
            }
            _ => None,
        };
        edits.extend(taken.map(Edit::put));
    }
    match edits.iter().any(|edit| is_pool(edit, id)) {
        true => Ok(edits),
        false => {
            let detail = format!("the catalog of {pool} does not have the pool itself");
            Err(Problem::new(ProblemCode::WrongState, detail).about(pool))
        }
    }
}

fn is_pool(edit: &Edit, id: Uuid) -> bool {
    matches!(edit, Edit::Put(record) if matches!(**record, Record::Pool(of, _) if of == id))
}

/// A pool that nobody let go of may be in use elsewhere, and what a catalog lacks is missed.
fn check_left(pool: ObjectRef, found: &Found, force: bool) -> Result<(), Problem> {
    let why = match (found.exported, found.lost) {
        _ if force => return Ok(()),
        (true, false) => return Ok(()),
        (false, _) => "was not exported, so another box may be using its disks",
        (true, true) => "has a damaged catalog, which lacks its last changes",
    };
    let detail = format!("{pool} {why}; to import it nevertheless takes force");
    Err(Problem::new(ProblemCode::WrongState, detail).about(pool))
}

/// What is needed of what is in all catalogs.
#[derive(Default)]
struct Needed {
    objects: BTreeSet<Connected>,
    hosts: BTreeSet<Uuid>,
    groups: BTreeSet<Uuid>,
    wholes: BTreeSet<Uuid>,
}

impl Needed {
    fn of(pool: Uuid, records: &[Record]) -> Needed {
        let mut needed = Needed::default();
        let mut known = BTreeSet::new();
        for record in records {
            match record {
                Record::Host(id, _) => drop(known.insert(*id)),
                Record::Volume(id, volume) if volume.pool == pool => {
                    needed.objects.insert(Connected::Volume(*id));
                    needed.groups.extend(volume.group);
                }
                Record::Snapshot(id, snapshot) if snapshot.pool == pool => {
                    needed.objects.insert(Connected::Snapshot(*id));
                    needed.wholes.extend(snapshot.group);
                }
                // After all of those.
                Record::Connection(_, connection)
                    if needed.objects.contains(&connection.of)
                        && known.contains(&connection.host) =>
                {
                    needed.hosts.insert(connection.host);
                }
                Record::GroupSnapshot(..) | Record::Group(..) => {}
                _ => {}
            }
        }
        for record in records {
            if let Record::GroupSnapshot(id, whole) = record
                && needed.wholes.contains(id)
            {
                needed.groups.insert(whole.group);
            }
        }
        needed
    }
}

fn new(kind: ObjectKind, id: Uuid, is_new: bool) -> Result<(), Problem> {
    if is_new {
        return Ok(());
    }
    let object = ObjectRef { kind, id };
    let detail = format!("{object} is in the pool's catalog, and on this box already");
    Err(Problem::new(ProblemCode::AlreadyExists, detail).about(object))
}

fn taken_pool(
    intent: &Intent,
    pool: ObjectRef,
    record: PoolRecord,
    generation: u64,
) -> Result<PoolRecord, Problem> {
    if let Some((disk, owner)) = record
        .claimed_disks()
        .find_map(|disk| Some((disk, intent.pool_of_disk(disk)?)))
    {
        let detail = format!("disk {disk} belongs to pool {owner} on this box");
        return Err(Problem::new(ProblemCode::InUse, detail).about(pool));
    }
    if record.is_changing_disks() {
        let detail = format!("{pool} was being given disks; only the box that did can go on");
        return Err(Problem::new(ProblemCode::WrongState, detail).about(pool));
    }
    Ok(PoolRecord {
        phase: PoolPhase::Present,
        generation,
        ..record
    })
}

/// A host that is here already keeps its secrets; another gets new ones.
fn taken_host(
    intent: &Intent,
    id: Uuid,
    record: HostRecord,
    generation: u64,
    random: &mut dyn Random,
) -> Result<Option<Record>, Problem> {
    let object = Unit::Host(id).object();
    let conflict = |detail: String| Problem::new(ProblemCode::AlreadyExists, detail).about(object);
    if let Some(there) = intent.host(id) {
        let same = (&there.record.iqn, &there.record.nqn) == (&record.iqn, &record.nqn);
        return match same {
            true => Ok(None),
            false => Err(conflict(format!("{object} has other names on this box"))),
        };
    }
    let iqn = record.iqn.as_ref().and_then(|iqn| intent.host_of_iqn(iqn));
    let nqn = record.nqn.as_ref().and_then(|nqn| intent.host_of_nqn(nqn));
    if let Some(other) = iqn.or(nqn) {
        let detail = format!("{object} has a name that host {other} has on this box");
        return Err(conflict(detail));
    }
    let mut record = HostRecord {
        generation,
        ..record
    };
    complete_secrets(id, &mut record, random);
    Ok(Some(Record::Host(id, record)))
}

/// What a process was doing with it has ended with that.
fn taken_volume(mut record: VolumeRecord, generation: u64) -> VolumeRecord {
    let pool = record.pool;
    if let Some(moving) = record.moving.take() {
        let copies = moving.copies();
        record
            .retired
            .extend(copies.map(|thin_id| ashlar_targetd_protocol::ThinRef { pool, thin_id }));
    }
    // Another pool's may be anybody's here.
    record.retired.retain(|thin| thin.pool == pool);
    if record.purpose.take().is_some() {
        record.phase = VolumePhase::Deleting;
    }
    for growth in &mut record.growth {
        growth.generation = generation;
    }
    record.generation = generation;
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::OsRandom;
    use crate::domain::catalog::page;
    use crate::domain::record::Key;
    use crate::domain::samples::{HOST, POOL, World, attach, id, volume};

    /// The catalog of a pool with a volume that a host is connected to.
    fn found(exported: bool) -> Found {
        let mut world = World::furnished();
        world.does(volume(id(1), 8 << 20));
        world.settle(Unit::Volume(id(1)));
        world.does(attach(
            id(9),
            id(1),
            HOST,
            ashlar_protocol::Transport::Iscsi,
        ));
        let mut records = Vec::new();
        let mut next = Some(Key::Pool(POOL));
        while let Some(after) = next {
            let (some, more) = page(&world.intent, POOL, after);
            records.extend(some);
            next = more;
        }
        Found {
            records,
            exported,
            lost: false,
        }
    }

    #[test]
    fn all_of_a_pool_comes_with_it_and_its_hosts_get_new_secrets() {
        let mut intent = Intent::default();
        let edits = import(&intent, POOL, &found(true), (false, 7), &mut OsRandom).unwrap();
        edits.iter().for_each(|edit| intent.apply(edit).unwrap());
        assert_eq!(intent.pool(POOL).unwrap().volumes, 2);
        assert_eq!(intent.volume(id(1)).unwrap().record.generation, 7);
        assert_eq!(intent.connection(id(9)).unwrap().generation, 7);
        // Those that nobody of this pool needs stay away.
        assert_eq!(intent.hosts().len(), 1);
        let host = &intent.host(HOST).unwrap().record;
        assert!(host.secrets.chap.is_some(), "it must not be let in without");
    }

    #[test]
    fn what_was_not_exported_or_is_damaged_takes_force() {
        let intent = Intent::default();
        let damaged = Found {
            lost: true,
            ..found(true)
        };
        for found in [found(false), damaged] {
            let problem = import(&intent, POOL, &found, (false, 7), &mut OsRandom).unwrap_err();
            assert_eq!(problem.code, ProblemCode::WrongState, "{problem}");
            assert!(import(&intent, POOL, &found, (true, 7), &mut OsRandom).is_ok());
        }
    }

    #[test]
    fn what_is_here_already_is_not_taken_twice() {
        let mut world = World::furnished();
        let problem = import(&world.intent, POOL, &found(true), (true, 7), &mut OsRandom);
        assert_eq!(problem.unwrap_err().code, ProblemCode::InUse);
        world.intent = Intent::default();
        let edits = import(&world.intent, POOL, &found(true), (true, 7), &mut OsRandom).unwrap();
        for edit in edits.iter().filter(|edit| !is_pool(edit, POOL)).take(2) {
            world.intent.apply(edit).unwrap();
        }
        assert!(import(&world.intent, POOL, &found(true), (true, 8), &mut OsRandom).is_ok());
    }
}
