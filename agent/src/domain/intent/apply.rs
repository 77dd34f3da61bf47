//! Taking edits, with the indexes following.

use uuid::Uuid;

use super::{HostEntry, Intent, PoolEntry, VolumeEntry};
use crate::domain::change::Edit;
use crate::domain::record::{
    ConnectionRecord, HostRecord, Key, PoolRecord, Record, VolumePhase, VolumeRecord,
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
