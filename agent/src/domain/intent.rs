//! All records in memory, with the indexes the rules need.
//!
//! [`Intent::apply`] is the only way to change it, and takes one [`Edit`]; the indexes follow
//! from the records alone. Every edit costs the logarithm of what is there at most.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included};

use ashlar_targetd_protocol::{DiskId, Iqn, Nqn};
use uuid::Uuid;

use crate::domain::record::{
    BoxRecord, ConnectionRecord, HostRecord, PoolRecord, Record, RequestRecord, ThinCounter,
    VolumeRecord,
};

mod apply;

pub use apply::Dangling;

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
}

#[cfg(test)]
mod tests;
