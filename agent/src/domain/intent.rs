//! All records in memory, with the indexes the rules need.
//!
//! [`Intent::apply`] is the only way to change it, and takes one [`Edit`]; the indexes follow
//! from the records alone. Every edit costs the logarithm of what is there at most.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included};

use ashlar_targetd_protocol::{DiskId, Iqn, Nqn};
use uuid::Uuid;

use crate::domain::change::Edit;
use crate::domain::record::{
    BoxRecord, ConnectionRecord, HostRecord, Key, PoolRecord, Record, RequestRecord, ThinCounter,
    VolumePhase, VolumeRecord,
};

/// A pool and what follows from its volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolEntry {
    /// As stored.
    pub record: PoolRecord,
    /// How many volumes it has.
    pub volumes: u64,
    /// Sum of their sizes in bytes.
    pub provisioned: u64,
}

/// A host and what follows from its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// As stored.
    pub record: HostRecord,
    /// How many connections it has.
    pub connections: u64,
}

/// A volume and what follows from its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeEntry {
    /// As stored.
    pub record: VolumeRecord,
    /// How many connections it has.
    pub connections: u64,
}

/// What the box is meant to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    site: Option<BoxRecord>,
    generation: u64,
    pools: BTreeMap<Uuid, PoolEntry>,
    thin_counters: BTreeMap<Uuid, ThinCounter>,
    hosts: BTreeMap<Uuid, HostEntry>,
    volumes: BTreeMap<Uuid, VolumeEntry>,
    connections: BTreeMap<Uuid, ConnectionRecord>,
    requests: BTreeMap<Uuid, RequestRecord>,

    pool_by_disk: BTreeMap<DiskId, Uuid>,
    host_by_iqn: BTreeMap<Iqn, Uuid>,
    host_by_nqn: BTreeMap<Nqn, Uuid>,
    connections_by_volume: BTreeSet<(Uuid, Uuid)>,
    requests_by_age: BTreeMap<u64, Uuid>,
    volumes_in_motion: BTreeSet<Uuid>,
}

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
    /// The box, once it was made.
    pub fn site(&self) -> Option<&BoxRecord> {
        self.site.as_ref()
    }

    /// The newest generation given.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// A pool.
    pub fn pool(&self, id: Uuid) -> Option<&PoolEntry> {
        self.pools.get(&id)
    }

    /// A pool's thin ids.
    pub fn thin_counter(&self, pool: Uuid) -> ThinCounter {
        let first = ThinCounter { next: 0 };
        self.thin_counters.get(&pool).copied().unwrap_or(first)
    }

    /// A host.
    pub fn host(&self, id: Uuid) -> Option<&HostEntry> {
        self.hosts.get(&id)
    }

    /// A volume.
    pub fn volume(&self, id: Uuid) -> Option<&VolumeEntry> {
        self.volumes.get(&id)
    }

    /// A connection.
    pub fn connection(&self, id: Uuid) -> Option<&ConnectionRecord> {
        self.connections.get(&id)
    }

    /// A request.
    pub fn request(&self, id: Uuid) -> Option<&RequestRecord> {
        self.requests.get(&id)
    }

    /// Pools in order of id.
    pub fn pools(&self) -> &BTreeMap<Uuid, PoolEntry> {
        &self.pools
    }

    /// Hosts in order of id.
    pub fn hosts(&self) -> &BTreeMap<Uuid, HostEntry> {
        &self.hosts
    }

    /// Volumes in order of id.
    pub fn volumes(&self) -> &BTreeMap<Uuid, VolumeEntry> {
        &self.volumes
    }

    /// Connections in order of id.
    pub fn connections(&self) -> &BTreeMap<Uuid, ConnectionRecord> {
        &self.connections
    }

    /// Requests in order of id.
    pub fn requests(&self) -> &BTreeMap<Uuid, RequestRecord> {
        &self.requests
    }

    /// Requests of the generations after `after` up to and with `upto`, oldest first.
    pub fn requests_between(
        &self,
        after: u64,
        upto: u64,
    ) -> impl Iterator<Item = (Uuid, &RequestRecord)> {
        // A range that ends before it begins would panic.
        self.requests_by_age
            .range((Excluded(after.min(upto)), Included(upto)))
            .filter_map(|(_, id)| Some((*id, self.requests.get(id)?)))
    }

    /// The oldest requests, `count` of them at most.
    pub fn oldest_requests(&self, count: usize) -> impl Iterator<Item = Uuid> {
        self.requests_by_age.values().take(count).copied()
    }

    /// Connections of one volume in order of id, those after `after`.
    pub fn connections_of(
        &self,
        volume: Uuid,
        after: Option<Uuid>,
    ) -> impl Iterator<Item = (Uuid, &ConnectionRecord)> {
        let from = match after {
            Some(after) => Excluded((volume, after)),
            None => Included((volume, Uuid::nil())),
        };
        self.connections_by_volume
            .range((from, Included((volume, Uuid::max()))))
            .filter_map(|(_, id)| Some((*id, self.connections.get(id)?)))
    }

    /// The pool a disk belongs to.
    pub fn pool_of_disk(&self, disk: &DiskId) -> Option<Uuid> {
        self.pool_by_disk.get(disk).copied()
    }

    /// The host of an iSCSI name.
    pub fn host_of_iqn(&self, iqn: &Iqn) -> Option<Uuid> {
        self.host_by_iqn.get(iqn).copied()
    }

    /// The host of an NVMe name.
    pub fn host_of_nqn(&self, nqn: &Nqn) -> Option<Uuid> {
        self.host_by_nqn.get(nqn).copied()
    }

    /// Volumes the kernel must know about: those with connections, and those being made or
    /// destroyed.
    pub fn volumes_in_kernel(&self) -> BTreeSet<Uuid> {
        let connected = self.connections_by_volume.iter().map(|(volume, _)| *volume);
        connected
            .chain(self.volumes_in_motion.iter().copied())
            .collect()
    }

    /// The whole intent as records, in an order in which it can be applied again.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let site = self.site.iter().cloned().map(Record::Box);
        let clock = std::iter::once(Record::Clock(self.generation));
        let pools = self
            .pools
            .iter()
            .map(|(id, e)| Record::Pool(*id, e.record.clone()));
        let counters = self
            .thin_counters
            .iter()
            .map(|(id, c)| Record::ThinCounter(*id, *c));
        let hosts = self
            .hosts
            .iter()
            .map(|(id, e)| Record::Host(*id, e.record.clone()));
        let volumes = self
            .volumes
            .iter()
            .map(|(id, e)| Record::Volume(*id, e.record.clone()));
        let connections = self
            .connections
            .iter()
            .map(|(id, c)| Record::Connection(*id, *c));
        let requests = self
            .requests
            .iter()
            .map(|(id, r)| Record::Request(*id, r.clone()));
        site.chain(clock)
            .chain(pools)
            .chain(counters)
            .chain(hosts)
            .chain(volumes)
            .chain(connections)
            .chain(requests)
    }

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
            Record::Host(id, host) => self.put_host(*id, host),
            Record::Volume(id, volume) => return self.put_volume(*id, volume),
            Record::Connection(id, connection) => return self.put_connection(*id, connection),
            Record::Request(id, request) => {
                self.remove_request(*id);
                self.requests_by_age.insert(request.generation, *id);
                self.requests.insert(*id, request.clone());
            }
            Record::Answer(..) => {}
        }
        Ok(())
    }

    fn remove(&mut self, key: Key) {
        match key {
            Key::Box => self.site = None,
            Key::Clock => self.generation = 0,
            Key::Pool(id) => {
                if let Some(old) = self.pools.remove(&id) {
                    for disk in &old.record.spec.disks {
                        self.pool_by_disk.remove(disk);
                    }
                }
            }
            Key::ThinCounter(id) => {
                self.thin_counters.remove(&id);
            }
            Key::Host(id) => {
                if let Some(old) = self.hosts.remove(&id) {
                    self.forget_host_names(&old.record);
                }
            }
            Key::Volume(id) => self.remove_volume(id),
            Key::Connection(id) => self.remove_connection(id),
            Key::Request(id) => self.remove_request(id),
            Key::Answer(_) => {}
        }
    }

    fn put_pool(&mut self, id: Uuid, record: &PoolRecord) {
        let (volumes, provisioned) = match self.pools.get(&id) {
            Some(old) => {
                for disk in &old.record.spec.disks {
                    self.pool_by_disk.remove(disk);
                }
                (old.volumes, old.provisioned)
            }
            None => (0, 0),
        };
        for disk in &record.spec.disks {
            self.pool_by_disk.insert(disk.clone(), id);
        }
        let record = record.clone();
        let entry = PoolEntry {
            record,
            volumes,
            provisioned,
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
    }

    fn put_volume(&mut self, id: Uuid, record: &VolumeRecord) -> Result<(), Dangling> {
        if !self.pools.contains_key(&record.pool) {
            let (record, missing) = (Key::Volume(id), Key::Pool(record.pool));
            return Err(Dangling { record, missing });
        }
        let connections = self.volumes.get(&id).map_or(0, |old| old.connections);
        self.remove_volume(id);
        if let Some(pool) = self.pools.get_mut(&record.pool) {
            pool.volumes += 1;
            pool.provisioned += record.size;
        }
        if record.phase != VolumePhase::Present {
            self.volumes_in_motion.insert(id);
        }
        let record = record.clone();
        self.volumes.insert(
            id,
            VolumeEntry {
                record,
                connections,
            },
        );
        Ok(())
    }

    fn remove_volume(&mut self, id: Uuid) {
        let Some(old) = self.volumes.remove(&id) else {
            return;
        };
        self.volumes_in_motion.remove(&id);
        if let Some(pool) = self.pools.get_mut(&old.record.pool) {
            pool.volumes -= 1;
            pool.provisioned -= old.record.size;
        }
    }

    fn put_connection(&mut self, id: Uuid, record: &ConnectionRecord) -> Result<(), Dangling> {
        let dangling = |missing| Dangling {
            record: Key::Connection(id),
            missing,
        };
        if !self.hosts.contains_key(&record.host) {
            return Err(dangling(Key::Host(record.host)));
        }
        if !self.volumes.contains_key(&record.volume) {
            return Err(dangling(Key::Volume(record.volume)));
        }
        self.remove_connection(id);
        if let Some(volume) = self.volumes.get_mut(&record.volume) {
            volume.connections += 1;
        }
        if let Some(host) = self.hosts.get_mut(&record.host) {
            host.connections += 1;
        }
        self.connections_by_volume.insert((record.volume, id));
        self.connections.insert(id, *record);
        Ok(())
    }

    fn remove_connection(&mut self, id: Uuid) {
        let Some(old) = self.connections.remove(&id) else {
            return;
        };
        self.connections_by_volume.remove(&(old.volume, id));
        if let Some(volume) = self.volumes.get_mut(&old.volume) {
            volume.connections -= 1;
        }
        if let Some(host) = self.hosts.get_mut(&old.host) {
            host.connections -= 1;
        }
    }

    fn remove_request(&mut self, id: Uuid) {
        if let Some(old) = self.requests.remove(&id) {
            self.requests_by_age.remove(&old.generation);
        }
    }
}

#[cfg(test)]
mod tests;
