//! All records in memory, with the indexes the rules need.
//!
//! [`Intent::apply`] is the only way to change it, and takes one [`Edit`]; the indexes follow
//! from the records alone. Every edit costs the logarithm of what is there at most.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};

use ashlar_protocol::{Connected, Frozen, ObjectKind, ObjectRef};
use ashlar_targetd_protocol::{DiskId, Iqn, Lun, Nqn, ThinId, ThinRef, Wwn};
use uuid::Uuid;

use crate::domain::record::{
    BoxRecord, ConnectionRecord, GroupRecord, GroupSnapshotRecord, HostRecord, PoolRecord,
    PortalRecord, Record, RequestRecord, SnapshotRecord, ThinCounter, Unit, VolumeRecord,
};

mod apply;
mod thins;

pub use apply::Dangling;

use thins::Thins;

/// A pool and what follows from its volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolEntry {
    /// As stored.
    pub record: PoolRecord,
    /// How many volumes it has that clients know of.
    pub volumes: u64,
    /// Sum of the sizes of all in bytes, likewise below.
    pub provisioned: u64,
    /// Sum of the sizes of its thin volumes in bytes.
    pub thin: u64,
    /// Sum of the sizes of its thick volumes and their snapshots in bytes.
    pub thick: u64,
    /// How many snapshots it has.
    pub snapshots: u64,
}

/// A host and what follows from its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEntry {
    /// As stored.
    pub record: HostRecord,
    /// How many connections it has.
    pub connections: u64,
}

/// A group and what follows from its group snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEntry {
    /// As stored.
    pub record: GroupRecord,
    /// How many group snapshots it has.
    pub group_snapshots: u64,
}

/// A volume and what follows from its connections and snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeEntry {
    /// As stored.
    pub record: VolumeRecord,
    /// How many connections it has.
    pub connections: u64,
    /// How many snapshots it has.
    pub snapshots: u64,
}

/// What the box is meant to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    site: Option<BoxRecord>,
    generation: u64,
    pools: BTreeMap<Uuid, PoolEntry>,
    thin_counters: BTreeMap<Uuid, ThinCounter>,
    portals: BTreeMap<Uuid, PortalRecord>,
    hosts: BTreeMap<Uuid, HostEntry>,
    groups: BTreeMap<Uuid, GroupEntry>,
    group_snapshots: BTreeMap<Uuid, GroupSnapshotRecord>,
    volumes: BTreeMap<Uuid, VolumeEntry>,
    snapshots: BTreeMap<Uuid, SnapshotRecord>,
    connections: BTreeMap<Uuid, ConnectionRecord>,
    requests: BTreeMap<Uuid, RequestRecord>,

    pool_by_disk: BTreeMap<DiskId, Uuid>,
    host_by_iqn: BTreeMap<Iqn, Uuid>,
    host_by_nqn: BTreeMap<Nqn, Uuid>,
    host_by_wwpn: BTreeMap<Wwn, Uuid>,
    /// Numbers over Fibre Channel, of what is served and of what each host sees.
    fc_units: BTreeSet<(Lun, Uuid)>,
    fc_luns: BTreeSet<(Uuid, Lun)>,
    connections_by_object: BTreeSet<(Connected, Uuid)>,
    connections_by_host: BTreeSet<(Uuid, Uuid)>,
    requests_by_age: BTreeMap<u64, Uuid>,
    work: BTreeSet<(ObjectRef, Uuid)>,
    volumes_in_motion: BTreeSet<Uuid>,
    /// Jobs, each with the volumes that end with it.
    volumes_by_job: BTreeSet<(Uuid, Uuid)>,
    snapshots_by_volume: BTreeSet<(Uuid, Uuid)>,
    snapshots_in_motion: BTreeSet<Uuid>,
    groups_in_motion: BTreeSet<Uuid>,
    group_snapshots_in_motion: BTreeSet<Uuid>,
    volumes_by_group: BTreeSet<(Uuid, Uuid)>,
    snapshots_by_group: BTreeSet<(Uuid, Uuid)>,
    group_snapshots_by_group: BTreeSet<(Uuid, Uuid)>,
    /// Origins, each with what is being made of it.
    made_of: BTreeSet<(Uuid, ObjectRef)>,
    thins: Thins,
}

impl Intent {
    /// The box, once it was made.
    pub fn site(&self) -> Option<&BoxRecord> {
        self.site.as_ref()
    }

    /// Why no changes are taken, while that is so.
    pub fn frozen(&self) -> Option<&Frozen> {
        self.site.as_ref()?.frozen.as_ref()
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

    /// A portal.
    pub fn portal(&self, id: Uuid) -> Option<&PortalRecord> {
        self.portals.get(&id)
    }

    /// A host.
    pub fn host(&self, id: Uuid) -> Option<&HostEntry> {
        self.hosts.get(&id)
    }

    /// A volume, clients' or not.
    pub fn volume(&self, id: Uuid) -> Option<&VolumeEntry> {
        self.volumes.get(&id)
    }

    /// A volume that clients know of.
    pub fn known_volume(&self, id: Uuid) -> Option<&VolumeEntry> {
        let entry = self.volumes.get(&id);
        entry.filter(|entry| entry.record.purpose.is_none())
    }

    /// The volumes that end with a job.
    pub fn volumes_of_job(&self, job: Uuid) -> impl Iterator<Item = (Uuid, &VolumeEntry)> {
        pairs_of(&self.volumes_by_job, job, None)
            .filter_map(|id| Some((id, self.volumes.get(&id)?)))
    }

    /// A group.
    pub fn group(&self, id: Uuid) -> Option<&GroupEntry> {
        self.groups.get(&id)
    }

    /// A group snapshot.
    pub fn group_snapshot(&self, id: Uuid) -> Option<&GroupSnapshotRecord> {
        self.group_snapshots.get(&id)
    }

    /// A snapshot.
    pub fn snapshot(&self, id: Uuid) -> Option<&SnapshotRecord> {
        self.snapshots.get(&id)
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

    /// Portals in order of id.
    pub fn portals(&self) -> &BTreeMap<Uuid, PortalRecord> {
        &self.portals
    }

    /// Hosts in order of id.
    pub fn hosts(&self) -> &BTreeMap<Uuid, HostEntry> {
        &self.hosts
    }

    /// Volumes in order of id.
    pub fn volumes(&self) -> &BTreeMap<Uuid, VolumeEntry> {
        &self.volumes
    }

    /// Groups in order of id.
    pub fn groups(&self) -> &BTreeMap<Uuid, GroupEntry> {
        &self.groups
    }

    /// Group snapshots in order of id.
    pub fn group_snapshots(&self) -> &BTreeMap<Uuid, GroupSnapshotRecord> {
        &self.group_snapshots
    }

    /// Snapshots in order of id.
    pub fn snapshots(&self) -> &BTreeMap<Uuid, SnapshotRecord> {
        &self.snapshots
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

    /// Requests, the oldest first.
    pub fn requests_by_age(&self) -> impl Iterator<Item = (Uuid, &RequestRecord)> {
        let ids = self.requests_by_age.values();
        ids.filter_map(|id| Some((*id, self.requests.get(id)?)))
    }

    /// The request that brought a generation, if it did and is remembered.
    pub fn request_of(&self, generation: u64) -> Option<Uuid> {
        self.requests_by_age.get(&generation).copied()
    }

    /// A job of long work on an object that is under way.
    pub fn work_on(&self, object: ObjectRef) -> Option<Uuid> {
        let jobs = (object, Uuid::nil())..=(object, Uuid::max());
        self.work.range(jobs).next().map(|(_, job)| *job)
    }

    /// Connections of one volume or snapshot in order of id, those after `after`.
    pub fn connections_of(
        &self,
        of: Connected,
        after: Option<Uuid>,
    ) -> impl Iterator<Item = (Uuid, &ConnectionRecord)> {
        pairs_of(&self.connections_by_object, of, after)
            .filter_map(|id| Some((id, self.connections.get(&id)?)))
    }

    /// Connections of one host in order of id.
    pub fn connections_of_host(
        &self,
        host: Uuid,
    ) -> impl Iterator<Item = (Uuid, &ConnectionRecord)> {
        pairs_of(&self.connections_by_host, host, None)
            .filter_map(|id| Some((id, self.connections.get(&id)?)))
    }

    /// Snapshots of one volume in order of id, those after `after`. They may outlive it.
    pub fn snapshots_of(
        &self,
        volume: Uuid,
        after: Option<Uuid>,
    ) -> impl Iterator<Item = (Uuid, &SnapshotRecord)> {
        pairs_of(&self.snapshots_by_volume, volume, after)
            .filter_map(|id| Some((id, self.snapshots.get(&id)?)))
    }

    /// Members of a group in order of id.
    pub fn volumes_of_group(&self, group: Uuid) -> impl Iterator<Item = (Uuid, &VolumeEntry)> {
        pairs_of(&self.volumes_by_group, group, None)
            .filter_map(|id| Some((id, self.volumes.get(&id)?)))
    }

    /// Group snapshots of a group in order of id.
    pub fn group_snapshots_of(&self, group: Uuid) -> impl Iterator<Item = Uuid> {
        pairs_of(&self.group_snapshots_by_group, group, None)
    }

    /// Snapshots of a group snapshot in order of id.
    pub fn snapshots_of_group(
        &self,
        group_snapshot: Uuid,
    ) -> impl Iterator<Item = (Uuid, &SnapshotRecord)> {
        pairs_of(&self.snapshots_by_group, group_snapshot, None)
            .filter_map(|id| Some((id, self.snapshots.get(&id)?)))
    }

    /// One of those that are being made of a volume or snapshot, which must not change or go
    /// away before they are.
    pub fn made_of(&self, origin: Uuid) -> Option<ObjectRef> {
        let mut after = self.made_of.range((Included((origin, FIRST)), Unbounded));
        let (of, made) = after.next()?;
        (*of == origin).then_some(*made)
    }

    /// The volume or snapshot that has a thin device, or is to have it.
    pub fn owner_of_thin(&self, thin: ThinRef) -> Option<ObjectRef> {
        self.thins.owner(thin)
    }

    /// One of those that have a thin device in a pool, if any does.
    pub fn owner_in_pool(&self, pool: Uuid) -> Option<ObjectRef> {
        let thin_id = self.thins.of_pool(pool).next()?;
        self.owner_of_thin(ThinRef { pool, thin_id })
    }

    /// Thin devices of a pool that may share data with one of `family`, and that one itself.
    pub fn relatives(&self, family: Uuid, pool: Uuid) -> Vec<ThinId> {
        // A family of the pool's id is of unknown origin, and related with anything.
        if family == pool {
            return self.thins.of_pool(pool).collect();
        }
        let unknown = self.thins.family(pool, pool);
        self.thins.family(family, pool).chain(unknown).collect()
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

    /// The host of a port on Fibre Channel.
    pub fn host_of_wwpn(&self, wwpn: Wwn) -> Option<Uuid> {
        self.host_by_wwpn.get(&wwpn).copied()
    }

    /// The numbers by which a host sees what it has over Fibre Channel, in order.
    pub fn fc_luns_of(&self, host: Uuid) -> impl Iterator<Item = Lun> {
        let first = Lun::try_from(0).expect("0 is a LUN");
        let luns = self.fc_luns.range((Included((host, first)), Unbounded));
        luns.take_while(move |(of, _)| *of == host)
            .map(|(_, lun)| *lun)
    }

    /// The numbers of what is served over Fibre Channel, in order, some more than once.
    pub fn fc_units(&self) -> impl DoubleEndedIterator<Item = Lun> {
        self.fc_units.iter().map(|(unit, _)| *unit)
    }

    /// Volumes the kernel must know about: those with connections, and those being made,
    /// reverted or destroyed.
    pub fn volumes_in_kernel(&self) -> BTreeSet<Uuid> {
        self.connected()
            .filter_map(Connected::volume)
            .chain(self.volumes_in_motion.iter().copied())
            .collect()
    }

    /// Snapshots with connections.
    pub fn connected_snapshots(&self) -> BTreeSet<Uuid> {
        self.connected().filter_map(Connected::snapshot).collect()
    }

    fn connected(&self) -> impl Iterator<Item = Connected> {
        self.connections_by_object.iter().map(|(of, _)| *of)
    }

    /// What is being made or destroyed at one instant: snapshots, group snapshots, and groups
    /// whose members are copies.
    pub fn units_made_at_once(&self) -> impl Iterator<Item = Unit> {
        let snapshots = self.snapshots_in_motion.iter().copied();
        let groups = self.groups_in_motion.iter().copied();
        let group_snapshots = self.group_snapshots_in_motion.iter().copied();
        snapshots
            .map(Unit::Snapshot)
            .chain(groups.map(Unit::Group))
            .chain(group_snapshots.map(Unit::GroupSnapshot))
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
        let portals = self.portals.iter();
        let portals = portals.map(|(id, portal)| Record::Portal(*id, *portal));
        let hosts = self
            .hosts
            .iter()
            .map(|(id, e)| Record::Host(*id, e.record.clone()));
        let groups = self
            .groups
            .iter()
            .map(|(id, e)| Record::Group(*id, e.record.clone()));
        let group_snapshots = self
            .group_snapshots
            .iter()
            .map(|(id, g)| Record::GroupSnapshot(*id, g.clone()));
        let volumes = self
            .volumes
            .iter()
            .map(|(id, e)| Record::Volume(*id, e.record.clone()));
        let snapshots = self
            .snapshots
            .iter()
            .map(|(id, s)| Record::Snapshot(*id, s.clone()));
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
            .chain(portals)
            .chain(hosts)
            .chain(groups)
            .chain(group_snapshots)
            .chain(volumes)
            .chain(snapshots)
            .chain(connections)
            .chain(requests)
    }
}

/// Sorts before every object.
const FIRST: ObjectRef = ObjectRef {
    kind: ObjectKind::Pool,
    id: Uuid::nil(),
};

/// The seconds of those pairs whose first is `first`, from after `after` on.
fn pairs_of<F: Copy + Ord>(
    pairs: &BTreeSet<(F, Uuid)>,
    first: F,
    after: Option<Uuid>,
) -> impl Iterator<Item = Uuid> {
    let from = match after {
        Some(after) => Excluded((first, after)),
        None => Included((first, Uuid::nil())),
    };
    let range = pairs.range((from, Included((first, Uuid::max()))));
    range.map(|(_, second)| *second)
}

#[cfg(test)]
mod tests;
