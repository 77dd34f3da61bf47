//! Taking over a pool by what its catalog says. Pure.
//!
//! A catalog comes from a disk, and a disk from anywhere. So nothing of it is believed: what it says
//! of the disks is what their labels say; sizes, names and thin ids go through the checks that a
//! creation has; and all of it is applied to an intent of its own before it is anybody's. What was
//! under way when it was written is brought to where nothing is made or destroyed that a host may
//! have used since: a catalog may be a second older than its pool.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_protocol::volume::{GRANULARITY, MAX_SIZE};
use ashlar_protocol::{Connected, ObjectRef, Problem, ProblemCode};
use ashlar_targetd_protocol::{DesiredPool, DiskId, ThinId, ThinRef};
use uuid::Uuid;

use crate::domain::change::Edit;
use crate::domain::decide::{check_spec, complete_secrets};
use crate::domain::intent::Intent;
use crate::domain::qos;
use crate::domain::record::{
    ConnectionPhase, ConnectionRecord, GroupPhase, GroupRecord, GroupSnapshotRecord, HostRecord,
    Importing, PoolPhase, PoolRecord, Record, SnapshotPhase, SnapshotRecord, ThinCounter, Told,
    Turns, Unit, VolumePhase, VolumeRecord,
};
use crate::domain::secrets::Random;

/// The generation of all that comes with a pool. It was promised to clients before, whoever it was
/// that promised it, so it is never taken back when the kernel cannot have it just now.
const PROMISED: u64 = 0;

/// Thin ids have 24 bits.
const MAX_THIN_ID: u32 = 0xff_ffff;

#[cfg(test)]
mod tests;

/// A catalog as it was found on the disks of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The pool as the labels of its disks say.
    pub labelled: DesiredPool,
    /// Places whose disk is missing, which a set can do without.
    pub missing: BTreeSet<u32>,
    /// Its records.
    pub records: Vec<Record>,
    /// Whether the box that had the pool let go of it, by the labels.
    pub released: bool,
    /// Whether it is known to lack its last changes.
    pub lost: bool,
}

/// Why a pool is not taken over without force; nothing when it was let go of.
pub fn check_released(pool: ObjectRef, released: bool, force: bool) -> Result<(), Problem> {
    if released || force {
        return Ok(());
    }
    let why = "was not let go of, so another box may be using its disks; to import it nevertheless takes force";
    Err(wrong(pool, why.to_owned()))
}

/// The edits that make a pool this box's.
///
/// # Errors
/// When it takes force, when what it has is here already, or when the catalog makes no sense;
/// nothing is to be changed.
pub fn import(
    intent: &Intent,
    id: Uuid,
    found: &Found,
    (force, generation): (bool, u64),
    random: &mut dyn Random,
) -> Result<Vec<Edit>, Problem> {
    let object = Unit::Pool(id).object();
    check_released(object, found.released, force)?;
    if found.lost && !force {
        let why = "has a damaged catalog, which lacks its last changes; to import it nevertheless takes force";
        return Err(wrong(object, why.to_owned()));
    }
    let mut parts = Parts::of(id, &found.records)?;
    parts.leave_out_what_is_here(intent, force)?;
    parts.check_thin_ids(object)?;
    let pool = taken_pool(intent, id, found, &parts, generation)?;
    let counter = ThinCounter {
        next: parts.next_thin(),
    };
    let mut edits = vec![
        Edit::put(Record::Pool(id, pool)),
        Edit::put(Record::ThinCounter(id, counter)),
    ];
    let (groups, wholes) = parts.taken_groups(intent);
    let hosts = parts.taken_hosts(intent, random);
    let parts = parts.settled(&groups, &wholes)?;
    let known: BTreeSet<Uuid> = hosts.keys().copied().collect();
    for (id, host) in hosts {
        edits.extend(host.map(|host| Edit::put(Record::Host(id, host))));
    }
    for (id, group) in groups
        .into_iter()
        .filter(|(id, _)| intent.group(*id).is_none())
    {
        let group = GroupRecord {
            generation: PROMISED,
            ..group
        };
        edits.push(Edit::put(Record::Group(id, group)));
    }
    for (id, whole) in wholes {
        if intent.group_snapshot(id).is_none() {
            let whole = GroupSnapshotRecord {
                generation: PROMISED,
                ..whole
            };
            edits.push(Edit::put(Record::GroupSnapshot(id, whole)));
        }
    }
    let volumes = parts.volumes.into_iter();
    edits.extend(volumes.map(|(id, volume)| Edit::put(Record::Volume(id, volume))));
    let snapshots = parts.snapshots.into_iter();
    edits.extend(snapshots.map(|(id, snapshot)| Edit::put(Record::Snapshot(id, snapshot))));
    for (id, connection) in parts.connections {
        if known.contains(&connection.host) {
            edits.push(Edit::put(Record::Connection(id, connection)));
        }
    }
    tried(intent, object, &edits)?;
    Ok(edits)
}

/// Whatever the rules above forgot: an intent takes all of it, with what it needs of this box's.
fn tried(intent: &Intent, pool: ObjectRef, edits: &[Edit]) -> Result<(), Problem> {
    let mut scratch = Intent::default();
    let mut needed = Vec::new();
    for edit in edits {
        let Edit::Put(record) = edit else { continue };
        match &**record {
            Record::Connection(_, connection) => {
                let host = intent.host(connection.host);
                needed.extend(host.map(|h| Record::Host(connection.host, h.record.clone())));
            }
            Record::GroupSnapshot(_, whole) => {
                let group = intent.group(whole.group);
                needed.extend(group.map(|g| Record::Group(whole.group, g.record.clone())));
            }
            _ => {}
        }
    }
    let needed = needed.into_iter().map(Edit::put);
    for edit in needed.collect::<Vec<_>>().iter().chain(edits) {
        let taken = scratch.apply(edit);
        taken
            .map_err(|error| wrong(pool, format!("has a catalog that makes no sense: {error}")))?;
    }
    Ok(())
}

fn wrong(object: ObjectRef, why: String) -> Problem {
    Problem::new(ProblemCode::WrongState, format!("{object} {why}")).about(object)
}

/// What a catalog has, by kind.
struct Parts {
    id: Uuid,
    pool: PoolRecord,
    next: u32,
    hosts: BTreeMap<Uuid, HostRecord>,
    groups: BTreeMap<Uuid, GroupRecord>,
    wholes: BTreeMap<Uuid, GroupSnapshotRecord>,
    volumes: BTreeMap<Uuid, VolumeRecord>,
    snapshots: BTreeMap<Uuid, SnapshotRecord>,
    connections: BTreeMap<Uuid, ConnectionRecord>,
}

impl Parts {
    fn of(id: Uuid, records: &[Record]) -> Result<Parts, Problem> {
        let object = Unit::Pool(id).object();
        let pool = records.iter().find_map(|record| match record {
            Record::Pool(of, pool) if *of == id => Some(pool.clone()),
            _ => None,
        });
        let pool = pool.ok_or_else(|| {
            wrong(
                object,
                "has a catalog that does not have the pool".to_owned(),
            )
        })?;
        let mut parts = Parts {
            id,
            pool,
            next: 0,
            hosts: BTreeMap::new(),
            groups: BTreeMap::new(),
            wholes: BTreeMap::new(),
            volumes: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            connections: BTreeMap::new(),
        };
        for record in records {
            parts.add(record);
        }
        let nil = Uuid::nil();
        let nameless = parts.hosts.contains_key(&nil)
            || parts.groups.contains_key(&nil)
            || parts.wholes.contains_key(&nil)
            || parts.volumes.contains_key(&nil)
            || parts.snapshots.contains_key(&nil)
            || parts.connections.contains_key(&nil);
        let both = parts
            .volumes
            .keys()
            .find(|id| parts.snapshots.contains_key(id));
        match (nameless, both) {
            (true, _) => Err(wrong(
                object,
                "has a catalog with an object of no id".to_owned(),
            )),
            (false, Some(both)) => {
                let why = format!("has a catalog in which {both} is a volume and a snapshot");
                Err(wrong(object, why))
            }
            (false, None) => Ok(parts),
        }
    }

    /// Another pool's things, and the box's own, are no business of it.
    fn add(&mut self, record: &Record) {
        match record.clone() {
            Record::ThinCounter(of, counter) if of == self.id => self.next = counter.next,
            Record::Host(id, host) => drop(self.hosts.insert(id, host)),
            Record::Group(id, group) => drop(self.groups.insert(id, group)),
            Record::GroupSnapshot(id, whole) => drop(self.wholes.insert(id, whole)),
            Record::Volume(id, volume) if volume.pool == self.id => {
                self.volumes.insert(id, volume);
            }
            Record::Snapshot(id, snapshot) if snapshot.pool == self.id => {
                self.snapshots.insert(id, snapshot);
            }
            // What a host was about to lose is lost.
            Record::Connection(id, connection) if connection.phase == ConnectionPhase::Wanted => {
                self.connections.insert(id, connection);
            }
            _ => {}
        }
    }

    /// A volume that was on its way to another pool may be in the catalogs of both.
    fn leave_out_what_is_here(&mut self, intent: &Intent, force: bool) -> Result<(), Problem> {
        let here = |id: &Uuid| intent.volume(*id).is_some() || intent.snapshot(*id).is_some();
        let volume = self.volumes.keys().find(|id| here(id)).copied();
        let snapshot = self.snapshots.keys().find(|id| here(id)).copied();
        let connection = self
            .connections
            .keys()
            .find(|id| intent.connection(**id).is_some());
        let there = volume
            .map(|id| Unit::Volume(id).object())
            .or_else(|| snapshot.map(|id| Unit::Snapshot(id).object()))
            .map(|object| object.to_string())
            .or_else(|| connection.map(|id| format!("connection {id}")));
        if let Some(there) = there.filter(|_| !force) {
            let object = Unit::Pool(self.id).object();
            let detail = format!(
                "{there} is in the catalog of {object}, and on this box already; with force it is left out"
            );
            return Err(Problem::new(ProblemCode::AlreadyExists, detail).about(object));
        }
        self.volumes.retain(|id, _| !here(id));
        self.snapshots.retain(|id, _| !here(id));
        self.connections
            .retain(|id, _| intent.connection(*id).is_none());
        Ok(())
    }

    /// The thin devices that records of the pool have.
    fn thins(&self) -> impl Iterator<Item = (Uuid, ThinId)> {
        let pool = self.id;
        let volumes = self.volumes.iter().flat_map(move |(id, volume)| {
            let retired = volume.retired.iter().filter(move |thin| thin.pool == pool);
            let copies = volume.moving.into_iter().flat_map(|moving| moving.copies());
            let all = retired.map(|thin| thin.thin_id).chain(copies);
            all.chain([volume.thin_id]).map(|thin| (*id, thin))
        });
        let snapshots = self.snapshots.iter();
        volumes.chain(snapshots.map(|(id, snapshot)| (*id, snapshot.thin_id)))
    }

    /// No two share a thin device, for then two tenants would share data.
    fn check_thin_ids(&self, pool: ObjectRef) -> Result<(), Problem> {
        let mut owners = BTreeMap::new();
        for (id, thin) in self.thins() {
            if let Some(other) = owners.insert(thin, id) {
                let why = format!(
                    "has a catalog in which {other} and {id} have the same thin device {thin}"
                );
                return Err(wrong(pool, why));
            }
        }
        Ok(())
    }

    /// Past all that it names; what else is in the pool is counted when it is there.
    fn next_thin(&self) -> u32 {
        let past = self
            .thins()
            .map(|(_, thin)| thin.value().saturating_add(1))
            .max();
        self.next.min(MAX_THIN_ID + 1).max(past.unwrap_or(0))
    }

    /// Groups and group snapshots that the pool's own need. One that is here already is the same if
    /// it was made by the same name at the same time: it spans pools, of which another came first.
    fn taken_groups(
        &self,
        intent: &Intent,
    ) -> (
        BTreeMap<Uuid, GroupRecord>,
        BTreeMap<Uuid, GroupSnapshotRecord>,
    ) {
        let mut groups = self.groups.clone();
        groups.retain(|id, group| {
            let here = intent.group(*id).map(|entry| &entry.record);
            here.is_none_or(|here| (&here.name, here.created) == (&group.name, group.created))
        });
        for (id, group) in &mut groups {
            match intent.group(*id) {
                Some(here) => group.clone_from(&here.record),
                None if group.phase == GroupPhase::Creating => group.phase = GroupPhase::Present,
                None => {}
            }
        }
        let mut wholes = self.wholes.clone();
        wholes.retain(|id, whole| {
            let here = intent.group_snapshot(*id);
            groups.contains_key(&whole.group)
                && here.is_none_or(|here| {
                    (&here.name, here.created, here.group)
                        == (&whole.name, whole.created, whole.group)
                })
        });
        for (id, whole) in &mut wholes {
            match intent.group_snapshot(*id) {
                Some(here) => whole.clone_from(here),
                None if whole.phase == GroupPhase::Creating => whole.phase = GroupPhase::Present,
                None => {}
            }
        }
        let wanted: BTreeSet<Uuid> = self.snapshots.values().filter_map(|s| s.group).collect();
        wholes.retain(|id, _| wanted.contains(id));
        let members = self.volumes.values().filter_map(|volume| volume.group);
        let wanted: BTreeSet<Uuid> = members.chain(wholes.values().map(|w| w.group)).collect();
        groups.retain(|id, _| wanted.contains(id));
        (groups, wholes)
    }

    /// The hosts that are connected: nothing of those that are here already, which keep what they
    /// have; the others with new secrets. What cannot be the same host has no connection any more.
    fn taken_hosts(
        &self,
        intent: &Intent,
        random: &mut dyn Random,
    ) -> BTreeMap<Uuid, Option<HostRecord>> {
        let connected: BTreeSet<Uuid> = self.connections.values().map(|c| c.host).collect();
        let (mut iqns, mut nqns) = (BTreeSet::new(), BTreeSet::new());
        let mut taken = BTreeMap::new();
        for (id, host) in self.hosts.iter().filter(|(id, _)| connected.contains(id)) {
            if let Some(here) = intent.host(*id) {
                if (&here.record.iqn, &here.record.nqn) == (&host.iqn, &host.nqn) {
                    taken.insert(*id, None);
                }
                continue;
            }
            let iqn = host.iqn.as_ref();
            let nqn = host.nqn.as_ref();
            let known = iqn.is_some_and(|iqn| intent.host_of_iqn(iqn).is_some())
                || nqn.is_some_and(|nqn| intent.host_of_nqn(nqn).is_some());
            let twice = iqn.is_some_and(|iqn| !iqns.insert(iqn.clone()))
                || nqn.is_some_and(|nqn| !nqns.insert(nqn.clone()));
            if known || twice || (iqn.is_none() && nqn.is_none()) {
                continue;
            }
            let mut record = HostRecord {
                generation: PROMISED,
                secrets: Default::default(),
                ..host.clone()
            };
            complete_secrets(*id, &mut record, random);
            taken.insert(*id, Some(record));
        }
        taken
    }

    /// All of it where nothing is under way that depends on what was known before.
    fn settled(
        mut self,
        groups: &BTreeMap<Uuid, GroupRecord>,
        wholes: &BTreeMap<Uuid, GroupSnapshotRecord>,
    ) -> Result<Parts, Problem> {
        let object = Unit::Pool(self.id).object();
        let all: BTreeSet<Uuid> = self
            .volumes
            .keys()
            .chain(self.snapshots.keys())
            .copied()
            .collect();
        for (id, volume) in &mut self.volumes {
            settle_volume(volume, groups);
            check_size(object, Unit::Volume(*id).object(), volume.size)?;
            if volume
                .qos
                .as_ref()
                .is_some_and(|qos| qos::check(qos).is_err())
            {
                let why = format!("has a catalog with a volume {id} of no sensible limits");
                return Err(wrong(object, why));
            }
            check_revert(object, *id, volume, &all)?;
        }
        for (id, snapshot) in &mut self.snapshots {
            settle_snapshot(snapshot, wholes);
            check_size(object, Unit::Snapshot(*id).object(), snapshot.size)?;
        }
        let (volumes, snapshots) = (&self.volumes, &self.snapshots);
        let mut pairs = BTreeSet::new();
        self.connections.retain(|_, connection| {
            connection.generation = PROMISED;
            let there = match connection.of {
                Connected::Volume(id) => volumes
                    .get(&id)
                    .is_some_and(|volume| volume.phase == VolumePhase::Present),
                Connected::Snapshot(id) => snapshots
                    .get(&id)
                    .is_some_and(|snapshot| snapshot.phase == SnapshotPhase::Present),
            };
            there && pairs.insert((connection.of, connection.host, connection.transport))
        });
        Ok(self)
    }
}

/// What a process was doing with it has ended with that. What was being made may be there and in
/// use, so it is never made again; where it is not there it is told to be missing.
fn settle_volume(volume: &mut VolumeRecord, groups: &BTreeMap<Uuid, GroupRecord>) {
    let pool = volume.pool;
    if let Some(moving) = volume.moving.take() {
        let copies = moving.copies().map(|thin_id| ThinRef { pool, thin_id });
        volume.retired.extend(copies);
    }
    // Another pool's may be anybody's here.
    volume.retired.retain(|thin| thin.pool == pool);
    volume.growth.clear();
    if volume.purpose.take().is_some() {
        volume.phase = VolumePhase::Deleting;
    }
    match volume.phase {
        VolumePhase::Creating | VolumePhase::Adopting => volume.phase = VolumePhase::Present,
        VolumePhase::Present
        | VolumePhase::Reverting
        | VolumePhase::Replacing
        | VolumePhase::Releasing
        | VolumePhase::Clearing(_)
        | VolumePhase::Deleting => {}
    }
    if volume.phase != VolumePhase::Reverting {
        volume.origin = None;
    }
    // Members of a group are destroyed with it, and by themselves when it is not there.
    let group = volume.group.and_then(|group| groups.get(&group));
    let together = group.is_some_and(|group| match group.phase {
        GroupPhase::Present => volume.phase != VolumePhase::Deleting,
        GroupPhase::Deleting => volume.phase == VolumePhase::Deleting,
        GroupPhase::Creating => false,
    });
    if !together {
        volume.group = None;
    }
    volume.generation = PROMISED;
}

fn settle_snapshot(snapshot: &mut SnapshotRecord, wholes: &BTreeMap<Uuid, GroupSnapshotRecord>) {
    match snapshot.phase {
        SnapshotPhase::Creating | SnapshotPhase::Adopting => {
            snapshot.phase = SnapshotPhase::Present;
        }
        SnapshotPhase::Present | SnapshotPhase::Releasing | SnapshotPhase::Deleting => {}
    }
    let whole = snapshot.group.and_then(|whole| wholes.get(&whole));
    if whole.is_none_or(|whole| whole.phase.of_snapshots() != snapshot.phase) {
        snapshot.group = None;
    }
    snapshot.generation = PROMISED;
}

fn check_size(pool: ObjectRef, object: ObjectRef, size: u64) -> Result<(), Problem> {
    if size > 0 && size <= MAX_SIZE && size.is_multiple_of(GRANULARITY) {
        return Ok(());
    }
    let why = format!("has a catalog in which {object} has {size} bytes, which none can have");
    Err(wrong(pool, why))
}

/// A volume that is being reverted has the thin device it was on, and what the other is made of.
fn check_revert(
    pool: ObjectRef,
    id: Uuid,
    volume: &VolumeRecord,
    all: &BTreeSet<Uuid>,
) -> Result<(), Problem> {
    let sound = match volume.phase {
        VolumePhase::Reverting => {
            let origin = volume
                .origin
                .is_some_and(|origin| all.contains(&origin.object));
            origin && volume.retired.len() == 1
        }
        VolumePhase::Replacing => volume.retired.len() == 1,
        _ => true,
    };
    match sound {
        true => Ok(()),
        false => {
            let why = format!("has a catalog in which volume {id} is reverted to nothing");
            Err(wrong(pool, why))
        }
    }
}

/// The pool's record, of which the labels say where it is, and the catalog what it is called and
/// what it may be promised.
fn taken_pool(
    intent: &Intent,
    id: Uuid,
    found: &Found,
    parts: &Parts,
    generation: u64,
) -> Result<PoolRecord, Problem> {
    let object = Unit::Pool(id).object();
    let there = &parts.pool;
    if there.is_changing_disks() {
        let why =
            "was being given disks when its catalog was written; only the box that did can go on";
        return Err(wrong(object, why.to_owned()));
    }
    check_spec(object, &there.spec)?;
    let places = there.spec.disks.len() as u32;
    let mut record = PoolRecord {
        phase: PoolPhase::Present,
        capacity: None,
        generation,
        growth: None,
        replacing: None,
        former: BTreeMap::new(),
        spares: Vec::new(),
        told: Told::default(),
        made_on: there.made_on.filter(|made_on| *made_on <= places),
        import: Some(Importing { since: generation }),
        ..there.clone()
    };
    record.spec.wipe = false;
    record.stale.retain(|place, _| *place < places);
    record.lost.retain(|place| *place < places);
    record.turns.retain(|place, _| *place < places);
    for turns in record.turns.values_mut() {
        let Turns { now, last } = *turns;
        turns.last = last.clamp(now, now.saturating_add(1 << 10));
    }
    as_labelled(object, &record, found)?;
    let owned = |disk: &DiskId| Some((disk.clone(), intent.pool_of_disk(disk)?));
    let taken = record.claimed_disks().find_map(owned);
    match taken {
        Some((disk, owner)) => {
            let detail = format!("disk {disk} belongs to pool {owner} on this box");
            Err(Problem::new(ProblemCode::InUse, detail).about(object))
        }
        None => Ok(record),
    }
}

/// What the catalog says of the pool's disks is what the disks say.
fn as_labelled(pool: ObjectRef, record: &PoolRecord, found: &Found) -> Result<(), Problem> {
    let is = &found.labelled;
    let differs = |what: &str| {
        let why = format!("has a catalog that says something else of its {what} than its disks do");
        Err(wrong(pool, why))
    };
    if record.spec.disks.len() != is.disks.len() {
        return differs("disks");
    }
    for (place, (id, is)) in (0_u32..).zip(record.spec.disks.iter().zip(&is.disks)) {
        let room = record.metadata_room(place as usize);
        let catalog = record.catalog.filter(|catalog| catalog.place == place);
        let catalog = catalog.map_or(0, |catalog| catalog.size);
        let turn = record.turns(place).now;
        let same = (id, turn) == (&is.id, is.turn) || found.missing.contains(&place);
        if !same || (room, catalog) != (is.metadata_room.bytes().0, is.catalog.bytes().0) {
            return differs("disks");
        }
    }
    let plain = record.sets.is_empty() && record.stale.is_empty() && record.lost.is_empty();
    if record.redundancy() != is.redundancy || (is.redundancy.is_none() && !plain) {
        return differs("redundancy");
    }
    let layout = (is.metadata.bytes().0, is.block.bytes().0);
    if (record.metadata_size, record.block_size) != layout {
        return differs("layout");
    }
    Ok(())
}
