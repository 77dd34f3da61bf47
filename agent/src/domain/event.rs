//! Events: what a change of records means to whoever watches the box.
//!
//! They follow from the records before and after, whatever changed them: a client's command,
//! what the kernel answered, or a process that ended. So a new kind of record has to say here
//! what its changes mean, and nothing else ever has to remember to tell.

use ashlar_protocol::{
    Access, EventKind, Name, ObjectKind, ObjectRef, Operation, PoolLevel, ProblemCode,
};
use ashlar_targetd_protocol::{MemberState, ThinRef};
use uuid::Uuid;

use crate::domain::change::Edit;
use crate::domain::intent::Intent;
use crate::domain::record::{
    BoxRecord, ConnectionRecord, EventRecord, GroupPhase, GroupRecord, GroupSnapshotRecord,
    HostRecord, Key, PoolPhase, PoolRecord, PortalRecord, Record, RequestRecord, SnapshotPhase,
    SnapshotRecord, Standing, Told, VolumePhase, VolumeRecord, WorkPhase,
};

/// What `edits` mean, applied to `intent` at `now`. Each names a record once.
pub fn events(intent: &Intent, edits: &[Edit], now: u64) -> Vec<EventRecord> {
    // What comes with a pool is told as one event, when it is this box's: the others would leave
    // nothing else of what was told before.
    if edits.iter().any(|edit| comes(intent, edit)) {
        return Vec::new();
    }
    let mut scribe = Scribe {
        intent,
        cause: edits.iter().find_map(|edit| new_request(intent, edit)),
        now,
        written: Vec::new(),
    };
    for edit in edits {
        match edit {
            Edit::Put(record) => scribe.put(record),
            Edit::Remove(key) => scribe.removed(*key),
        }
    }
    scribe.written
}

/// Whether a pool comes by it that is taken over.
fn comes(intent: &Intent, edit: &Edit) -> bool {
    match edit {
        Edit::Put(record) => match &**record {
            Record::Pool(id, pool) => pool.import.is_some() && intent.pool(*id).is_none(),
            _ => false,
        },
        Edit::Remove(_) => false,
    }
}

/// The request that these edits are the acceptance of.
fn new_request(intent: &Intent, edit: &Edit) -> Option<Uuid> {
    match edit {
        Edit::Put(record) => match **record {
            Record::Request(id, _) if intent.request(id).is_none() => Some(id),
            _ => None,
        },
        Edit::Remove(_) => None,
    }
}

struct Scribe<'a> {
    intent: &'a Intent,
    cause: Option<Uuid>,
    now: u64,
    written: Vec<EventRecord>,
}

impl Scribe<'_> {
    fn put(&mut self, record: &Record) {
        let intent = self.intent;
        match record {
            Record::Box(site) => self.site(site),
            Record::Pool(id, pool) => {
                let before = intent.pool(*id).map(|entry| &entry.record);
                self.pool(*id, before, pool);
            }
            Record::Portal(id, portal) if intent.portal(*id).is_none() => {
                let detail = served(portal);
                self.of(
                    ObjectKind::Portal,
                    *id,
                    "created",
                    portal.generation,
                    &detail,
                );
            }
            Record::Portal(..) => {}
            Record::Host(id, host) => {
                let before = intent.host(*id).map(|entry| &entry.record);
                self.host(*id, before, host);
            }
            Record::Group(id, group) => {
                let before = intent.group(*id).map(|entry| &entry.record);
                self.group(*id, before, group);
            }
            Record::GroupSnapshot(id, whole) => {
                self.group_snapshot(*id, intent.group_snapshot(*id), whole);
            }
            // Who watches the box does not know of it.
            Record::Volume(_, volume) if volume.purpose.is_some() => {}
            Record::Volume(id, volume) => {
                let before = intent.volume(*id).map(|entry| &entry.record);
                self.volume(*id, before, volume);
            }
            Record::Snapshot(id, snapshot) => self.snapshot(*id, intent.snapshot(*id), snapshot),
            Record::Connection(id, connection) => {
                self.connection(*id, intent.connection(*id), connection);
            }
            Record::Request(id, request) => self.request(*id, intent.request(*id), request),
            Record::Clock(_) | Record::ThinCounter(..) | Record::Answer(..) | Record::Event(..) => {
            }
        }
    }

    fn removed(&mut self, key: Key) {
        let intent = self.intent;
        match key {
            Key::Pool(id) => {
                if let Some(entry) = intent.pool(id) {
                    let pool = &entry.record;
                    self.of(
                        ObjectKind::Pool,
                        id,
                        "deleted",
                        pool.generation,
                        &pool.spec.name,
                    );
                }
            }
            Key::Portal(id) => {
                if let Some(portal) = intent.portal(id) {
                    let detail = served(portal);
                    self.of(
                        ObjectKind::Portal,
                        id,
                        "deleted",
                        portal.generation,
                        &detail,
                    );
                }
            }
            Key::Host(id) => {
                if let Some(entry) = intent.host(id) {
                    let host = &entry.record;
                    self.of(ObjectKind::Host, id, "deleted", 0, &host.name);
                }
            }
            Key::Volume(id) => {
                if let Some(entry) = intent.known_volume(id) {
                    let volume = &entry.record;
                    // What is let go of without having been destroyed is there still.
                    let what = match volume.phase {
                        VolumePhase::Deleting => "deleted",
                        _ => "released",
                    };
                    let detail = match volume.phase {
                        VolumePhase::Deleting => volume.name.to_string(),
                        _ => held_by(&volume.name, volume.thin()),
                    };
                    self.of(ObjectKind::Volume, id, what, volume.generation, &detail);
                }
            }
            Key::Group(id) => {
                if let Some(entry) = intent.group(id) {
                    let group = &entry.record;
                    self.of(ObjectKind::Group, id, "deleted", 0, &group.name);
                }
            }
            Key::GroupSnapshot(id) => {
                if let Some(whole) = intent.group_snapshot(id) {
                    let kind = ObjectKind::GroupSnapshot;
                    self.of(kind, id, "deleted", whole.generation, &whole.name);
                }
            }
            Key::Snapshot(id) => {
                if let Some(snapshot) = intent.snapshot(id) {
                    let SnapshotRecord {
                        generation, name, ..
                    } = snapshot;
                    let kind = ObjectKind::Snapshot;
                    match snapshot.phase {
                        SnapshotPhase::Releasing => {
                            let detail = held_by(name, snapshot.thin());
                            self.of(kind, id, "released", *generation, &detail);
                        }
                        _ => self.of(kind, id, "deleted", *generation, name),
                    }
                }
            }
            Key::Connection(id) => {
                if let Some(connection) = intent.connection(id) {
                    let detail = ends(connection);
                    let generation = connection.generation;
                    self.of(ObjectKind::Connection, id, "deleted", generation, &detail);
                }
            }
            Key::Box
            | Key::Clock
            | Key::ThinCounter(_)
            | Key::Request(_)
            | Key::Answer(_)
            | Key::Event(_) => {}
        }
    }

    fn site(&mut self, site: &BoxRecord) {
        let before = self.intent.site();
        let ran = before.and_then(|before| before.firmware.as_ref());
        if let (Some(ran), Some(runs)) = (ran, &site.firmware)
            && ran != runs
        {
            let detail = Some(format!("from {ran} to {runs}"));
            let kind = ObjectKind::System;
            self.write(kind, site.id, "firmware-changed", None, detail);
        }
        let before = before.and_then(|before| before.frozen.as_ref());
        let what = match (before, &site.frozen) {
            (None, Some(_)) => "frozen",
            (Some(_), None) => "thawed",
            _ => return,
        };
        let reason = site.frozen.as_ref().and_then(|f| f.reason.as_ref());
        let detail = reason.map(ToString::to_string);
        self.write(ObjectKind::System, site.id, what, self.cause, detail);
    }

    fn pool(&mut self, id: Uuid, before: Option<&PoolRecord>, pool: &PoolRecord) {
        if let Some(before) = before {
            self.replaced(id, before, pool);
            self.members(id, before, pool);
        }
        self.pool_itself(id, before, pool);
        let scrubbed = before.and_then(|before| before.scrubs.last);
        if let Some(last) = pool.scrubs.last.filter(|last| Some(*last) != scrubbed) {
            let name = &pool.spec.name;
            let detail = format!("{name}: {} bytes differ", last.mismatches);
            self.write(ObjectKind::Pool, id, "scrubbed", None, Some(detail));
        }
        let before = before.map_or(Told::default(), |before| before.told);
        self.told(id, &before, pool);
    }

    /// What becomes of a pool without anyone having asked for it.
    fn told(&mut self, id: Uuid, before: &Told, pool: &PoolRecord) {
        let (kind, name, told) = (ObjectKind::Pool, &pool.spec.name, &pool.told);
        if told.state != before.state {
            let what = match told.state {
                Standing::Online => "online",
                Standing::Degraded => "degraded",
                Standing::Offline => "offline",
            };
            self.write(kind, id, what, None, Some(name.to_string()));
        }
        if told.level() != before.level() {
            let what = match told.level() {
                PoolLevel::Ok => "level-ok",
                PoolLevel::Warn => "level-warn",
                PoolLevel::Critical => "level-critical",
                PoolLevel::Stop => "level-stop",
            };
            let detail = format!("{name}: {}", told.percents());
            self.write(kind, id, what, self.cause, Some(detail));
        }
    }

    fn pool_itself(&mut self, id: Uuid, before: Option<&PoolRecord>, pool: &PoolRecord) {
        let made = before.is_none_or(|before| before.phase == PoolPhase::Creating);
        if before.is_some_and(|before| before.import.is_some()) {
            if pool.import.is_none() {
                let name = &pool.spec.name;
                self.of(ObjectKind::Pool, id, "imported", pool.generation, name);
            }
            return;
        }
        if let Some(before) = before
            && pool.phase == PoolPhase::Present
            && has_grown(before, pool)
        {
            let capacity = |pool: &PoolRecord| pool.capacity.unwrap_or(0);
            let (from, to) = (capacity(before), capacity(pool));
            let name = &pool.spec.name;
            let detail = format!("{name}: from {from} to {to} bytes");
            return self.of(ObjectKind::Pool, id, "grown", pool.generation, &detail);
        }
        let what = match pool.phase {
            PoolPhase::Present if made => "created",
            PoolPhase::Present if before.is_some_and(|b| pools_differ(b, pool)) => "updated",
            PoolPhase::Creating
            | PoolPhase::Present
            | PoolPhase::Withdrawn
            | PoolPhase::Deleting(_) => return,
        };
        self.of(ObjectKind::Pool, id, what, pool.generation, &pool.spec.name);
    }

    /// A disk has the place of another.
    fn replaced(&mut self, id: Uuid, before: &PoolRecord, pool: &PoolRecord) {
        let Some(replacing) = before.replacing.as_ref() else {
            return;
        };
        let disk = |pool: &PoolRecord| pool.spec.disks.get(replacing.place as usize).cloned();
        let Some(former) = disk(before) else { return };
        if disk(pool).as_ref() == Some(&replacing.by) {
            let name = &pool.spec.name;
            let detail = format!("{name}: disk {former} by {}", replacing.by);
            let since = replacing.since;
            self.of(ObjectKind::Pool, id, "disk-replaced", since, &detail);
        }
    }

    /// How disks are that stand in for each other. No request brought it about.
    fn members(&mut self, id: Uuid, before: &PoolRecord, pool: &PoolRecord) {
        for (place, disk) in (0..).zip(&pool.spec.disks) {
            let same = before.spec.disks.get(place as usize) == Some(disk);
            let was = before.stale.get(&place).filter(|_| same);
            let is = pool.stale.get(&place);
            if was == is {
                continue;
            }
            let what = match is.copied().unwrap_or(MemberState::InSync) {
                MemberState::InSync | MemberState::Resyncing => "member-in-sync",
                MemberState::Rebuilding => "member-rebuilding",
                MemberState::Failed => "member-failed",
                MemberState::Missing => "member-missing",
            };
            let detail = Some(format!("{}: disk {disk}", pool.spec.name));
            self.write(ObjectKind::Pool, id, what, None, detail);
        }
    }

    fn host(&mut self, id: Uuid, before: Option<&HostRecord>, host: &HostRecord) {
        let what = match before {
            None => "created",
            Some(before) if before.secrets != host.secrets => "rotated",
            Some(_) => "updated",
        };
        self.of(ObjectKind::Host, id, what, host.generation, &host.name);
    }

    fn volume(&mut self, id: Uuid, before: Option<&VolumeRecord>, volume: &VolumeRecord) {
        let VolumeRecord {
            generation, name, ..
        } = volume;
        let kind = ObjectKind::Volume;
        let was = before.map_or(VolumePhase::Creating, |before| before.phase);
        if volume.phase == VolumePhase::Present && was == VolumePhase::Creating {
            return self.of(kind, id, "created", *generation, name);
        }
        let Some(before) = before else { return };
        if volume.phase == VolumePhase::Present && was == VolumePhase::Adopting {
            // Of the request: what follows it has a generation of its own.
            let detail = held_by(name, volume.thin());
            self.of(kind, id, "adopted", before.generation, &detail);
        }
        // One that fails does so before this phase.
        if volume.phase == VolumePhase::Present && was == VolumePhase::Replacing {
            // Of the request: what follows it has a generation of its own.
            self.of(kind, id, "reverted", before.generation, name);
        }
        // Or else it is not to be cleared any more.
        let same = volume.generation == before.generation;
        if volume.phase == VolumePhase::Deleting && matches!(was, VolumePhase::Clearing(_)) && same
        {
            self.of(kind, id, "cleared", *generation, name);
        }
        // Smaller it only gets when an extension is taken back, which then has failed.
        if volume.size > before.size {
            let detail = format!("{name}: from {} to {} bytes", before.size, volume.size);
            self.of(kind, id, "extended", *generation, &detail);
        }
        if volume.pool != before.pool {
            self.of(kind, id, "moved", *generation, name);
        }
        if volume.owner != before.owner
            && let Some(owner) = &volume.owner
        {
            let detail = format!("{name}: to {owner}");
            self.of(kind, id, "transferred", *generation, &detail);
        }
        if volumes_differ(before, volume) {
            self.of(kind, id, "updated", *generation, name);
        }
    }

    fn group(&mut self, id: Uuid, before: Option<&GroupRecord>, group: &GroupRecord) {
        let made = before.is_none_or(|before| before.phase == GroupPhase::Creating);
        let what = match group.phase {
            GroupPhase::Present if made => "created",
            GroupPhase::Present => "updated",
            GroupPhase::Creating | GroupPhase::Deleting => return,
        };
        self.of(ObjectKind::Group, id, what, group.generation, &group.name);
    }

    fn group_snapshot(
        &mut self,
        id: Uuid,
        before: Option<&GroupSnapshotRecord>,
        whole: &GroupSnapshotRecord,
    ) {
        let made = before.is_none_or(|before| before.phase == GroupPhase::Creating);
        let what = match whole.phase {
            GroupPhase::Present if made => "created",
            GroupPhase::Present if before.is_some_and(|b| b.name != whole.name) => "updated",
            GroupPhase::Creating | GroupPhase::Present | GroupPhase::Deleting => return,
        };
        let kind = ObjectKind::GroupSnapshot;
        self.of(kind, id, what, whole.generation, &whole.name);
    }

    fn snapshot(&mut self, id: Uuid, before: Option<&SnapshotRecord>, snapshot: &SnapshotRecord) {
        let was = before.map_or(SnapshotPhase::Creating, |before| before.phase);
        if snapshot.phase == SnapshotPhase::Present && was == SnapshotPhase::Adopting {
            // Of the request: what follows it has a generation of its own.
            let generation = before.map_or(snapshot.generation, |before| before.generation);
            let detail = held_by(&snapshot.name, snapshot.thin());
            return self.of(ObjectKind::Snapshot, id, "adopted", generation, &detail);
        }
        let made = was == SnapshotPhase::Creating;
        let what = match snapshot.phase {
            SnapshotPhase::Present if made => "created",
            SnapshotPhase::Present if before.is_some_and(|b| b.name != snapshot.name) => "updated",
            SnapshotPhase::Present if before.is_some_and(|b| b.labels != snapshot.labels) => {
                "updated"
            }
            SnapshotPhase::Creating
            | SnapshotPhase::Adopting
            | SnapshotPhase::Present
            | SnapshotPhase::Releasing
            | SnapshotPhase::Deleting => return,
        };
        self.of(
            ObjectKind::Snapshot,
            id,
            what,
            snapshot.generation,
            &snapshot.name,
        );
    }

    fn connection(
        &mut self,
        id: Uuid,
        before: Option<&ConnectionRecord>,
        connection: &ConnectionRecord,
    ) {
        if before.is_none() {
            let generation = connection.generation;
            self.of(
                ObjectKind::Connection,
                id,
                "created",
                generation,
                &ends(connection),
            );
        }
    }

    /// A request's failure, and where long work is.
    fn request(&mut self, id: Uuid, before: Option<&RequestRecord>, request: &RequestRecord) {
        let failed_before = before.is_some_and(|before| before.failed.is_some());
        let phase = |record: &RequestRecord| record.work.as_ref().map(|work| work.phase);
        let (ending, detail) = match &request.failed {
            Some(_) if failed_before => return,
            Some(problem) if problem.code == ProblemCode::Cancelled => ("cancelled", None),
            Some(problem) => ("failed", Some(problem.detail.clone())),
            None if phase(request) == before.and_then(phase) => return,
            None => match phase(request) {
                Some(WorkPhase::Running) => ("begun", None),
                // Of what was never begun as such, its object has events.
                Some(WorkPhase::Ended) if before.and_then(phase).is_some() => ("done", None),
                Some(WorkPhase::Ended) | None => return,
            },
        };
        let ObjectRef { kind, id: object } = request.object;
        let what = format!("{}-{ending}", verb(request.operation, kind));
        self.write(kind, object, &what, Some(id), detail);
    }

    /// An event of an object whose last change was `generation`.
    fn of(
        &mut self,
        kind: ObjectKind,
        id: Uuid,
        what: &str,
        generation: u64,
        detail: &impl ToString,
    ) {
        let request = self.cause.or_else(|| self.intent.request_of(generation));
        self.write(kind, id, what, request, Some(detail.to_string()));
    }

    fn write(
        &mut self,
        kind: ObjectKind,
        id: Uuid,
        what: &str,
        request: Option<Uuid>,
        detail: Option<String>,
    ) {
        self.written.push(EventRecord {
            time: self.now,
            kind: EventKind::new(kind, what),
            object: ObjectRef { kind, id },
            request,
            detail,
        });
    }
}

/// "data: thin device 7 of pool P"
fn held_by(name: &Name, thin: ThinRef) -> String {
    let ThinRef { pool, thin_id } = thin;
    format!("{name}: thin device {thin_id} of pool {pool}")
}

/// What a portal serves, and where.
fn served(portal: &PortalRecord) -> String {
    format!("{} at {}", portal.spec.transport, portal.spec.address)
}

/// "volume X to host Y over iscsi"
fn ends(connection: &ConnectionRecord) -> String {
    let ConnectionRecord {
        of,
        host,
        transport,
        access,
        ..
    } = connection;
    let how = match access {
        Access::ReadWrite => "",
        Access::ReadOnly => ", read-only",
    };
    format!("{of} to host {host} over {transport}{how}")
}

/// What an operation does to its object: `create` of `volume-create`.
fn verb(operation: Operation, kind: ObjectKind) -> String {
    let name = operation.to_string();
    let verb = name.strip_prefix(&format!("{kind}-"));
    verb.unwrap_or(&name).to_owned()
}

/// One that was to grow and is as it was fails, and does not grow.
fn has_grown(before: &PoolRecord, after: &PoolRecord) -> bool {
    let ended = before.growth.is_some() && after.growth.is_none();
    ended && before.spec.disks == after.spec.disks
}

/// Besides what has events of its own, and what only says how far it grows.
fn pools_differ(before: &PoolRecord, after: &PoolRecord) -> bool {
    let PoolRecord {
        metadata_size,
        low_water_blocks,
        phase,
        growth,
        made_on,
        generation,
        told,
        scrubs,
        ..
    } = *before;
    let mut after = PoolRecord {
        metadata_size,
        low_water_blocks,
        phase,
        growth,
        made_on,
        generation,
        told,
        scrubs,
        metadata_rooms: before.metadata_rooms.clone(),
        sets: before.sets.clone(),
        replacing: before.replacing.clone(),
        former: before.former.clone(),
        turns: before.turns.clone(),
        stale: before.stale.clone(),
        lost: before.lost.clone(),
        ..after.clone()
    };
    // A spare that has got a place is told so.
    if after.spec.disks != before.spec.disks {
        after.spares.clone_from(&before.spares);
    }
    after.spec.disks.clone_from(&before.spec.disks);
    after != *before
}

/// Besides what has events of its own, and what only says how far the volume is.
fn volumes_differ(before: &VolumeRecord, after: &VolumeRecord) -> bool {
    let after = VolumeRecord {
        owner: before.owner.clone(),
        pool: before.pool,
        thin_id: before.thin_id,
        size: before.size,
        phase: before.phase,
        growth: before.growth.clone(),
        origin: before.origin,
        retired: before.retired.clone(),
        moving: before.moving,
        generation: before.generation,
        ..after.clone()
    };
    after != *before
}

#[cfg(test)]
mod tests;
