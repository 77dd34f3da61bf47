//! Taking edits, with the indexes following.

use ashlar_protocol::{Connected, ObjectRef, Provisioning};
use uuid::Uuid;

use super::{GroupEntry, HostEntry, Intent, PoolEntry, VolumeEntry, thins};
use crate::domain::change::Edit;
use crate::domain::record::{
    ConnectionRecord, GroupPhase, GroupRecord, GroupSnapshotRecord, HostRecord, Key, PoolRecord,
    Record, RequestRecord, SnapshotPhase, SnapshotRecord, Unit, VolumePhase, VolumeRecord,
};

/// A record that contradicts the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {record:?} refers to {missing:?}, which does not exist")]
pub struct Dangling {
    /// The record put or removed.
    pub record: Key,
    /// What it needs.
    pub missing: Key,
}

impl Intent {
    /// Takes one edit.
    ///
    /// # Errors
    /// When it refers to an object that does not exist. Edits from
    /// [`decide`](crate::domain::decide) never do; a damaged store may.
    pub fn apply(&mut self, edit: &Edit) -> Result<(), Dangling> {
        match edit {
            Edit::Put(record) => self.put(record),
            Edit::Remove(key) => {
                self.remove(*key);
                Ok(())
            }
        }
    }

    fn put(&mut self, record: &Record) -> Result<(), Dangling> {
        match record {
            Record::Box(site) => self.site = Some(site.clone()),
            Record::Clock(generation) => self.generation = *generation,
            Record::Pool(id, pool) => self.put_pool(*id, pool),
            Record::ThinCounter(id, counter) => {
                self.thin_counters.insert(*id, *counter);
            }
            Record::Portal(id, portal) => {
                self.portals.insert(*id, *portal);
            }
            Record::Host(id, host) => self.put_host(*id, host),
            Record::Group(id, group) => self.put_group(*id, group),
            Record::GroupSnapshot(id, snapshot) => return self.put_group_snapshot(*id, snapshot),
            Record::Volume(id, volume) => return self.put_volume(*id, volume),
            Record::Snapshot(id, snapshot) => return self.put_snapshot(*id, snapshot),
            Record::Connection(id, connection) => return self.put_connection(*id, connection),
            Record::Request(id, request) => self.put_request(*id, request),
            Record::Answer(..) | Record::Event(..) => {}
        }
        Ok(())
    }

    fn remove(&mut self, key: Key) {
        match key {
            Key::Box => self.site = None,
            Key::Clock => self.generation = 0,
            Key::Pool(id) => {
                if let Some(old) = self.pools.remove(&id) {
                    for disk in old.record.claimed_disks() {
                        self.pool_by_disk.remove(disk);
                    }
                }
            }
            Key::ThinCounter(id) => {
                self.thin_counters.remove(&id);
            }
            Key::Portal(id) => {
                self.portals.remove(&id);
            }
            Key::Host(id) => {
                if let Some(old) = self.hosts.remove(&id) {
                    self.forget_host_names(&old.record);
                }
            }
            Key::Group(id) => {
                self.groups.remove(&id);
                self.groups_in_motion.remove(&id);
            }
            Key::GroupSnapshot(id) => self.remove_group_snapshot(id),
            Key::Volume(id) => self.remove_volume(id),
            Key::Snapshot(id) => self.remove_snapshot(id),
            Key::Connection(id) => self.remove_connection(id),
            Key::Request(id) => self.remove_request(id),
            Key::Answer(_) | Key::Event(_) => {}
        }
    }

    fn put_pool(&mut self, id: Uuid, record: &PoolRecord) {
        let old = self.pools.remove(&id);
        for disk in old.iter().flat_map(|old| old.record.claimed_disks()) {
            self.pool_by_disk.remove(disk);
        }
        for disk in record.claimed_disks() {
            self.pool_by_disk.insert(disk.clone(), id);
        }
        let record = record.clone();
        let entry = match old {
            Some(old) => PoolEntry { record, ..old },
            None => PoolEntry {
                record,
                volumes: 0,
                provisioned: 0,
                thin: 0,
                thick: 0,
                snapshots: 0,
            },
        };
        self.pools.insert(id, entry);
    }

    fn put_host(&mut self, id: Uuid, record: &HostRecord) {
        let connections = match self.hosts.remove(&id) {
            Some(old) => {
                self.forget_host_names(&old.record);
                old.connections
            }
            None => 0,
        };
        if let Some(iqn) = &record.iqn {
            self.host_by_iqn.insert(iqn.clone(), id);
        }
        if let Some(nqn) = &record.nqn {
            self.host_by_nqn.insert(nqn.clone(), id);
        }
        for wwpn in &record.wwpns {
            self.host_by_wwpn.insert(*wwpn, id);
        }
        let record = record.clone();
        self.hosts.insert(
            id,
            HostEntry {
                record,
                connections,
            },
        );
    }

    fn forget_host_names(&mut self, record: &HostRecord) {
        if let Some(iqn) = &record.iqn {
            self.host_by_iqn.remove(iqn);
        }
        if let Some(nqn) = &record.nqn {
            self.host_by_nqn.remove(nqn);
        }
        for wwpn in &record.wwpns {
            self.host_by_wwpn.remove(wwpn);
        }
    }

    fn put_volume(&mut self, id: Uuid, record: &VolumeRecord) -> Result<(), Dangling> {
        let pools = pools(record);
        if let Some(pool) = pools.clone().find(|pool| !self.pools.contains_key(pool)) {
            let (record, missing) = (Key::Volume(id), Key::Pool(pool));
            return Err(Dangling { record, missing });
        }
        let (connections, snapshots) = match self.volumes.get(&id) {
            Some(old) => (old.connections, old.snapshots),
            None => (0, self.snapshots_of(id, None).count() as u64),
        };
        self.remove_volume(id);
        if let Some(pool) = self.pools.get_mut(&record.pool) {
            pool.volumes += u64::from(record.purpose.is_none());
            pool.provisioned += record.size;
        }
        for pool in pools {
            if let Some(pool) = self.pools.get_mut(&pool) {
                *promised(pool, record.provisioning) += record.size;
            }
        }
        if in_motion(record) {
            self.volumes_in_motion.insert(id);
        }
        if let Some(group) = record.group {
            self.volumes_by_group.insert((group, id));
        }
        if let Some(purpose) = record.purpose {
            self.volumes_by_job.insert((purpose.job(), id));
        }
        if let Some(origin) = record.origin {
            let made = Unit::Volume(id).object();
            self.made_of.insert((origin.object, made));
        }
        let owner = Unit::Volume(id).object();
        let thins = thins::of_volume(record);
        self.thins.put(owner, record.family(id), thins);
        let record = record.clone();
        self.volumes.insert(
            id,
            VolumeEntry {
                record,
                connections,
                snapshots,
            },
        );
        Ok(())
    }

    fn remove_volume(&mut self, id: Uuid) {
        let Some(old) = self.volumes.remove(&id) else {
            return;
        };
        self.volumes_in_motion.remove(&id);
        let owner = Unit::Volume(id).object();
        let thins = thins::of_volume(&old.record);
        self.thins.remove(owner, old.record.family(id), thins);
        if let Some(group) = old.record.group {
            self.volumes_by_group.remove(&(group, id));
        }
        if let Some(purpose) = old.record.purpose {
            self.volumes_by_job.remove(&(purpose.job(), id));
        }
        if let Some(origin) = old.record.origin {
            let made = Unit::Volume(id).object();
            self.made_of.remove(&(origin.object, made));
        }
        if let Some(pool) = self.pools.get_mut(&old.record.pool) {
            pool.volumes -= u64::from(old.record.purpose.is_none());
            pool.provisioned -= old.record.size;
        }
        for pool in pools(&old.record) {
            if let Some(pool) = self.pools.get_mut(&pool) {
                *promised(pool, old.record.provisioning) -= old.record.size;
            }
        }
    }

    fn put_group(&mut self, id: Uuid, record: &GroupRecord) {
        let group_snapshots = self.groups.get(&id).map_or(0, |old| old.group_snapshots);
        match record.phase {
            GroupPhase::Present => self.groups_in_motion.remove(&id),
            GroupPhase::Creating | GroupPhase::Deleting => self.groups_in_motion.insert(id),
        };
        let entry = GroupEntry {
            record: record.clone(),
            group_snapshots,
        };
        self.groups.insert(id, entry);
    }

    fn put_group_snapshot(
        &mut self,
        id: Uuid,
        record: &GroupSnapshotRecord,
    ) -> Result<(), Dangling> {
        self.remove_group_snapshot(id);
        let Some(group) = self.groups.get_mut(&record.group) else {
            let (record, missing) = (Key::GroupSnapshot(id), Key::Group(record.group));
            return Err(Dangling { record, missing });
        };
        group.group_snapshots += 1;
        if record.phase != GroupPhase::Present {
            self.group_snapshots_in_motion.insert(id);
        }
        self.group_snapshots_by_group.insert((record.group, id));
        self.group_snapshots.insert(id, record.clone());
        Ok(())
    }

    fn remove_group_snapshot(&mut self, id: Uuid) {
        let Some(old) = self.group_snapshots.remove(&id) else {
            return;
        };
        self.group_snapshots_in_motion.remove(&id);
        self.group_snapshots_by_group.remove(&(old.group, id));
        if let Some(group) = self.groups.get_mut(&old.group) {
            group.group_snapshots -= 1;
        }
    }

    fn put_snapshot(&mut self, id: Uuid, record: &SnapshotRecord) -> Result<(), Dangling> {
        if !self.pools.contains_key(&record.pool) {
            let (record, missing) = (Key::Snapshot(id), Key::Pool(record.pool));
            return Err(Dangling { record, missing });
        }
        self.remove_snapshot(id);
        if let Some(pool) = self.pools.get_mut(&record.pool) {
            pool.snapshots += 1;
            pool.thick += kept(record);
        }
        if let Some(volume) = self.volumes.get_mut(&record.volume) {
            volume.snapshots += 1;
        }
        self.snapshots_by_volume.insert((record.volume, id));
        if let Some(whole) = record.group {
            self.snapshots_by_group.insert((whole, id));
        }
        // Those of a group are in motion with it.
        if record.phase != SnapshotPhase::Present && record.group.is_none() {
            self.snapshots_in_motion.insert(id);
        }
        if record.phase == SnapshotPhase::Creating {
            self.made_of.insert(made_of(id, record));
        }
        let owner = Unit::Snapshot(id).object();
        let thin = record.thin();
        self.thins.put(owner, record.family(), [thin]);
        self.snapshots.insert(id, record.clone());
        Ok(())
    }

    fn remove_snapshot(&mut self, id: Uuid) {
        let Some(old) = self.snapshots.remove(&id) else {
            return;
        };
        if let Some(pool) = self.pools.get_mut(&old.pool) {
            pool.snapshots -= 1;
            pool.thick -= kept(&old);
        }
        if let Some(volume) = self.volumes.get_mut(&old.volume) {
            volume.snapshots -= 1;
        }
        let owner = Unit::Snapshot(id).object();
        let thin = old.thin();
        self.thins.remove(owner, old.family(), [thin]);
        self.snapshots_by_volume.remove(&(old.volume, id));
        if let Some(whole) = old.group {
            self.snapshots_by_group.remove(&(whole, id));
        }
        self.snapshots_in_motion.remove(&id);
        self.made_of.remove(&made_of(id, &old));
    }

    fn put_connection(&mut self, id: Uuid, record: &ConnectionRecord) -> Result<(), Dangling> {
        let dangling = |missing| Dangling {
            record: Key::Connection(id),
            missing,
        };
        if !self.hosts.contains_key(&record.host) {
            return Err(dangling(Key::Host(record.host)));
        }
        match record.of {
            Connected::Volume(volume) if !self.volumes.contains_key(&volume) => {
                return Err(dangling(Key::Volume(volume)));
            }
            Connected::Snapshot(snapshot) if !self.snapshots.contains_key(&snapshot) => {
                return Err(dangling(Key::Snapshot(snapshot)));
            }
            Connected::Volume(_) | Connected::Snapshot(_) => {}
        }
        self.remove_connection(id);
        if let Some(volume) = self.connected_volume(record) {
            volume.connections += 1;
        }
        if let Some(host) = self.hosts.get_mut(&record.host) {
            host.connections += 1;
        }
        self.connections_by_object.insert((record.of, id));
        self.connections_by_host.insert((record.host, id));
        if let Some(place) = record.fc {
            self.fc_units.insert((place.unit, id));
            self.fc_luns.insert((record.host, place.lun));
        }
        self.connections.insert(id, *record);
        Ok(())
    }

    fn remove_connection(&mut self, id: Uuid) {
        let Some(old) = self.connections.remove(&id) else {
            return;
        };
        self.connections_by_object.remove(&(old.of, id));
        self.connections_by_host.remove(&(old.host, id));
        if let Some(place) = old.fc {
            self.fc_units.remove(&(place.unit, id));
            self.fc_luns.remove(&(old.host, place.lun));
        }
        if let Some(volume) = self.connected_volume(&old) {
            volume.connections -= 1;
        }
        if let Some(host) = self.hosts.get_mut(&old.host) {
            host.connections -= 1;
        }
    }

    fn connected_volume(&mut self, record: &ConnectionRecord) -> Option<&mut VolumeEntry> {
        self.volumes.get_mut(&record.of.volume()?)
    }

    fn put_request(&mut self, id: Uuid, request: &RequestRecord) {
        self.remove_request(id);
        self.requests_by_age.insert(request.generation, id);
        if request.works() {
            self.work.insert((request.object, id));
        }
        self.requests.insert(id, request.clone());
    }

    fn remove_request(&mut self, id: Uuid) {
        if let Some(old) = self.requests.remove(&id) {
            self.work.remove(&(old.object, id));
            self.requests_by_age.remove(&old.generation);
        }
    }
}

/// What a pool has promised to volumes of a kind.
fn promised(pool: &mut PoolEntry, provisioning: Provisioning) -> &mut u64 {
    match provisioning {
        Provisioning::Thin => &mut pool.thin,
        Provisioning::Thick => &mut pool.thick,
    }
}

/// What is kept in its pool for a snapshot.
fn kept(record: &SnapshotRecord) -> u64 {
    match record.provisioning {
        Provisioning::Thin => 0,
        Provisioning::Thick => record.size,
    }
}

/// Where room is kept for a volume: in its pool, and in the one it goes to.
fn pools(record: &VolumeRecord) -> impl Iterator<Item = Uuid> + Clone {
    let after = record.moving.map(|moving| moving.to.pool);
    [record.pool].into_iter().chain(after)
}

/// Whether the kernel must know of a volume by itself, connected or not.
fn in_motion(record: &VolumeRecord) -> bool {
    match record.phase {
        VolumePhase::Present => !record.retired.is_empty() || record.moving.is_some(),
        VolumePhase::Adopting
        | VolumePhase::Reverting
        | VolumePhase::Replacing
        | VolumePhase::Releasing
        | VolumePhase::Clearing(_) => true,
        // Those of a group are made with it.
        VolumePhase::Creating | VolumePhase::Deleting => record.group.is_none(),
    }
}

/// A snapshot's entry among what is being made of its volume.
fn made_of(id: Uuid, record: &SnapshotRecord) -> (Uuid, ObjectRef) {
    (record.volume, Unit::Snapshot(id).object())
}
