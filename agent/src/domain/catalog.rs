//! What the catalog of a pool has of the intent. Pure.
//!
//! The pool's own records, and those that these need to make sense: the hosts that are connected to
//! something in it, the groups and group snapshots that something in it belongs to. Of hosts and
//! groups it has the names, of no secret anything.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use ashlar_protocol::{Connected, HostSecrets};
use uuid::Uuid;

use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::record::{HostRecord, Key, Record};

/// Objects looked at for one page of a checkpoint.
const PAGE: usize = 512;

/// The entries of catalogs that change with an edit, by pool, as far as they are as the intent is now:
/// to be asked before and after it is applied, since a record may pass from one pool to another.
pub fn touched(intent: &Intent, edit: &Edit) -> BTreeSet<(Uuid, Key)> {
    let key = edit.key();
    let mut touched = BTreeSet::new();
    match key {
        Key::Pool(id) | Key::ThinCounter(id) => drop(touched.insert((id, key))),
        Key::Host(id) => {
            let connections = intent.connections_of_host(id);
            let pools = connections.filter_map(|(_, connection)| pool_of(intent, connection.of));
            touched.extend(pools.map(|pool| (pool, key)));
        }
        Key::Group(id) => {
            touched.extend(pools_of_group(intent, id).map(|pool| (pool, key)));
        }
        Key::GroupSnapshot(id) => {
            let pools = pools_of_group_snapshot(intent, id);
            touched.extend(pools.map(|pool| (pool, key)));
        }
        Key::Volume(id) => {
            if let Some(entry) = intent.volume(id) {
                let pool = entry.record.pool;
                touched.insert((pool, key));
                touched.extend(entry.record.group.map(|group| (pool, Key::Group(group))));
                if let Some(other) = goes_to(edit).filter(|other| *other != pool) {
                    for (connection, record) in intent.connections_of(Connected::Volume(id), None) {
                        for of in [Key::Connection(connection), Key::Host(record.host)] {
                            touched.extend([(pool, of), (other, of)]);
                        }
                    }
                }
            }
        }
        Key::Snapshot(id) => {
            if let Some(snapshot) = intent.snapshot(id) {
                touched.insert((snapshot.pool, key));
                if let Some(whole) = snapshot.group {
                    touched.insert((snapshot.pool, Key::GroupSnapshot(whole)));
                    let group = intent.group_snapshot(whole).map(|whole| whole.group);
                    touched.extend(group.map(|group| (snapshot.pool, Key::Group(group))));
                }
            }
        }
        Key::Connection(id) => {
            if let Some(connection) = intent.connection(id)
                && let Some(pool) = pool_of(intent, connection.of)
            {
                touched.insert((pool, key));
                touched.insert((pool, Key::Host(connection.host)));
            }
        }
        Key::Box
        | Key::Clock
        | Key::Portal(_)
        | Key::Request(_)
        | Key::Answer(_)
        | Key::Event(_) => {}
    }
    touched
}

/// The pool that an edit says a volume is in.
fn goes_to(edit: &Edit) -> Option<Uuid> {
    match edit {
        Edit::Put(record) => match &**record {
            Record::Volume(_, volume) => Some(volume.pool),
            _ => None,
        },
        Edit::Remove(_) => None,
    }
}

/// A record as the catalog of a pool has it; nothing when it is not in it.
pub fn entry(intent: &Intent, pool: Uuid, key: Key) -> Option<Record> {
    match key {
        Key::Pool(id) if id == pool => Some(Record::Pool(id, intent.pool(id)?.record.clone())),
        Key::ThinCounter(id) if id == pool => {
            Some(Record::ThinCounter(id, intent.thin_counter(id)))
        }
        Key::Host(id) => {
            let mut connections = intent.connections_of_host(id);
            let needed = connections.any(|(_, c)| pool_of(intent, c.of) == Some(pool));
            needed.then_some(host(id, &intent.host(id)?.record))
        }
        Key::Group(id) => {
            let needed = pools_of_group(intent, id).any(|of| of == pool);
            needed.then_some(Record::Group(id, intent.group(id)?.record.clone()))
        }
        Key::GroupSnapshot(id) => {
            let needed = pools_of_group_snapshot(intent, id).any(|of| of == pool);
            let whole = intent.group_snapshot(id)?.clone();
            needed.then_some(Record::GroupSnapshot(id, whole))
        }
        Key::Volume(id) => {
            let volume = &intent.volume(id)?.record;
            (volume.pool == pool).then(|| Record::Volume(id, volume.clone()))
        }
        Key::Snapshot(id) => {
            let snapshot = intent.snapshot(id)?;
            (snapshot.pool == pool).then(|| Record::Snapshot(id, snapshot.clone()))
        }
        Key::Connection(id) => {
            let connection = intent.connection(id)?;
            let here = pool_of(intent, connection.of) == Some(pool);
            here.then_some(Record::Connection(id, *connection))
        }
        Key::Pool(_)
        | Key::ThinCounter(_)
        | Key::Box
        | Key::Clock
        | Key::Portal(_)
        | Key::Request(_)
        | Key::Answer(_)
        | Key::Event(_) => None,
    }
}

/// A host without its secrets.
fn host(id: Uuid, record: &HostRecord) -> Record {
    let record = HostRecord {
        secrets: HostSecrets::default(),
        ..record.clone()
    };
    Record::Host(id, record)
}

fn pool_of(intent: &Intent, of: Connected) -> Option<Uuid> {
    match of {
        Connected::Volume(id) => intent.volume(id).map(|volume| volume.record.pool),
        Connected::Snapshot(id) => intent.snapshot(id).map(|snapshot| snapshot.pool),
    }
}

/// The pools of its members, and of what was taken of it.
fn pools_of_group(intent: &Intent, group: Uuid) -> impl Iterator<Item = Uuid> {
    let members = intent.volumes_of_group(group);
    let members = members.map(|(_, entry)| entry.record.pool);
    let wholes = intent.group_snapshots_of(group);
    members.chain(wholes.flat_map(|whole| pools_of_group_snapshot(intent, whole)))
}

fn pools_of_group_snapshot(intent: &Intent, whole: Uuid) -> impl Iterator<Item = Uuid> {
    let snapshots = intent.snapshots_of_group(whole);
    snapshots.map(|(_, snapshot)| snapshot.pool)
}

/// Some of the records of a pool's catalog, in the order of their keys' kinds, and where to go on;
/// nowhere at the end. However many objects there are, one page costs the same.
pub fn page(intent: &Intent, pool: Uuid, after: Key) -> (Vec<Record>, Option<Key>) {
    let (keys, next) = match after {
        Key::Pool(_) => (vec![after, Key::ThinCounter(pool)], Key::Host(Uuid::nil())),
        Key::Host(id) => keys(intent.hosts(), id, Key::Host, Key::Group),
        Key::Group(id) => keys(intent.groups(), id, Key::Group, Key::GroupSnapshot),
        Key::GroupSnapshot(id) => {
            let all = intent.group_snapshots();
            keys(all, id, Key::GroupSnapshot, Key::Volume)
        }
        Key::Volume(id) => keys(intent.volumes(), id, Key::Volume, Key::Snapshot),
        Key::Snapshot(id) => keys(intent.snapshots(), id, Key::Snapshot, Key::Connection),
        Key::Connection(id) => keys(intent.connections(), id, Key::Connection, |_| Key::Clock),
        _ => return (Vec::new(), None),
    };
    let records = keys.into_iter().filter_map(|key| entry(intent, pool, key));
    (records.collect(), (next != Key::Clock).then_some(next))
}

/// A page of one kind's keys, and where to go on: behind them, or with the next kind. No id is
/// nil.
fn keys<T>(
    all: &BTreeMap<Uuid, T>,
    after: Uuid,
    key: fn(Uuid) -> Key,
    next: fn(Uuid) -> Key,
) -> (Vec<Key>, Key) {
    let range = all.range((Excluded(after), Unbounded));
    let ids: Vec<Uuid> = range.take(PAGE).map(|(id, _)| *id).collect();
    let on = match ids.last() {
        Some(last) if ids.len() == PAGE => key(*last),
        _ => next(Uuid::nil()),
    };
    (ids.into_iter().map(key).collect(), on)
}
