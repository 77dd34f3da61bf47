//! What the catalog of a pool has of the intent. Pure.
//!
//! The pool's own records, and those that others need to make sense of them: hosts, groups and
//! group snapshots are in the catalogs of all pools, whoever uses them. Secrets are in none.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use ashlar_protocol::{Connected, HostSecrets};
use uuid::Uuid;

use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::record::{HostRecord, Key, Record};

/// Objects looked at for one page of a checkpoint.
const PAGE: usize = 512;

/// The catalogs that a record is in, as it is now.
pub fn homes(intent: &Intent, key: Key) -> Vec<Uuid> {
    match key {
        Key::Pool(id) | Key::ThinCounter(id) => vec![id],
        Key::Host(_) | Key::Group(_) | Key::GroupSnapshot(_) => {
            intent.pools().keys().copied().collect()
        }
        Key::Volume(id) => intent
            .volume(id)
            .map(|v| v.record.pool)
            .into_iter()
            .collect(),
        Key::Snapshot(id) => intent.snapshot(id).map(|s| s.pool).into_iter().collect(),
        Key::Connection(id) => {
            let of = intent.connection(id).map(|connection| connection.of);
            of.and_then(|of| pool_of(intent, of)).into_iter().collect()
        }
        Key::Box | Key::Clock | Key::Request(_) | Key::Answer(_) | Key::Event(_) => Vec::new(),
    }
}

/// Whether edits of it are of no catalog, whatever they are.
pub fn is_kept_out(edit: &Edit) -> bool {
    matches!(
        edit.key(),
        Key::Box | Key::Clock | Key::Request(_) | Key::Answer(_) | Key::Event(_)
    )
}

/// A record as the catalog of a pool has it; nothing when it is not in it.
pub fn entry(intent: &Intent, pool: Uuid, key: Key) -> Option<Record> {
    if !homes(intent, key).contains(&pool) {
        return None;
    }
    match key {
        Key::Pool(id) => Some(Record::Pool(id, intent.pool(id)?.record.clone())),
        Key::ThinCounter(id) => Some(Record::ThinCounter(id, intent.thin_counter(id))),
        Key::Host(id) => Some(host(id, &intent.host(id)?.record)),
        Key::Group(id) => Some(Record::Group(id, intent.group(id)?.record.clone())),
        Key::GroupSnapshot(id) => Some(Record::GroupSnapshot(
            id,
            intent.group_snapshot(id)?.clone(),
        )),
        Key::Volume(id) => Some(Record::Volume(id, intent.volume(id)?.record.clone())),
        Key::Snapshot(id) => Some(Record::Snapshot(id, intent.snapshot(id)?.clone())),
        Key::Connection(id) => Some(Record::Connection(id, *intent.connection(id)?)),
        Key::Box | Key::Clock | Key::Request(_) | Key::Answer(_) | Key::Event(_) => None,
    }
}

/// A host without its secrets.
fn host(id: Uuid, record: &HostRecord) -> Record {
    let secrets = HostSecrets::default();
    let record = HostRecord {
        secrets,
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

/// How far a checkpoint has come: the last record that was looked at.
pub type Cursor = Key;

/// Some of the records of a pool's catalog, in the order of their keys' kinds, and where to go on;
/// nowhere at the end. However many objects there are, one page costs the same.
pub fn page(intent: &Intent, pool: Uuid, after: Cursor) -> (Vec<Record>, Option<Cursor>) {
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
