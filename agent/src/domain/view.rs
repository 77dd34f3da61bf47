//! The intent as clients see it.

use ashlar_protocol::{
    Connection, ConnectionState, Host, HostCreated, HostSecrets, IscsiAccess, Job, JobState, Lun,
    Nsid, NvmeAccess, Pool, PoolState, Transport, Volume, VolumeState,
};
use ashlar_targetd_protocol::PoolReport;
use uuid::Uuid;

use crate::domain::intent::{HostEntry, PoolEntry, VolumeEntry};
use crate::domain::names;
use crate::domain::record::{
    ConnectionPhase, ConnectionRecord, PoolPhase, RequestRecord, VolumePhase,
};
use crate::domain::site::Site;

/// What the kernel says of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// This, just now.
    Report(PoolReport),
    /// It is too busy to say, but brought the pool up.
    Busy,
    /// It cannot be asked, or does not have the pool.
    Gone,
}

/// A pool, looked at just now.
pub fn pool(id: Uuid, entry: &PoolEntry, look: &Look) -> Pool {
    let record = &entry.record;
    let usage = match look {
        Look::Report(report) => report.usage,
        Look::Busy | Look::Gone => None,
    };
    let state = match (record.phase, look) {
        (PoolPhase::Creating, _) => PoolState::Creating,
        (PoolPhase::Withdrawn, _) | (PoolPhase::Present, Look::Gone) => PoolState::Offline,
        (PoolPhase::Present, Look::Busy) => PoolState::Online,
        (PoolPhase::Present, Look::Report(report)) => match report.usage {
            None => PoolState::Offline,
            Some(_) if report.degraded => PoolState::Degraded,
            Some(_) => PoolState::Online,
        },
    };
    let block = usage.map_or(0, |usage| usage.block.bytes().0);
    Pool {
        id,
        name: record.spec.name.clone(),
        disks: record.spec.disks.clone(),
        block_size: record.block_size,
        metadata_size: record.metadata_size,
        state,
        capacity: usage.map(|usage| usage.data_total * block),
        used: usage.map(|usage| usage.data_used * block),
        metadata_used: usage.map(|usage| usage.metadata_used * 4096),
        provisioned: entry.provisioned,
        volumes: entry.volumes,
        generation: record.generation,
    }
}

/// A volume.
pub fn volume(id: Uuid, entry: &VolumeEntry) -> Volume {
    let record = &entry.record;
    Volume {
        id,
        name: record.name.clone(),
        pool: record.pool,
        size: record.size,
        state: match record.phase {
            VolumePhase::Creating => VolumeState::Creating,
            VolumePhase::Present => VolumeState::Available,
            VolumePhase::Deleting => VolumeState::Deleting,
        },
        connections: entry.connections,
        created: record.created,
        generation: record.generation,
    }
}

/// A host, without its secrets.
pub fn host(id: Uuid, entry: &HostEntry) -> Host {
    let record = &entry.record;
    Host {
        id,
        name: record.name.clone(),
        iqn: record.iqn.clone(),
        nqn: record.nqn.clone(),
        authentication: record.authentication,
        connections: entry.connections,
        generation: record.generation,
    }
}

/// A host as told to the request that asked for it; with its secrets when that made it.
pub fn host_created(id: Uuid, entry: &HostEntry, made: bool) -> HostCreated {
    HostCreated {
        host: host(id, entry),
        secrets: match made {
            true => entry.record.secrets.clone(),
            false => HostSecrets::default(),
        },
    }
}

/// A connection. `applied` says whether the kernel has it as recorded.
pub fn connection(id: Uuid, record: &ConnectionRecord, site: &Site, applied: bool) -> Connection {
    let state = match record.phase {
        ConnectionPhase::Wanted if applied => ConnectionState::Ready,
        ConnectionPhase::Wanted => ConnectionState::Attaching,
        ConnectionPhase::Detaching | ConnectionPhase::Cutting => ConnectionState::Detaching,
    };
    let (iscsi, nvme) = match record.transport {
        Transport::Iscsi => (Some(iscsi_access(site, record.volume)), None),
        Transport::NvmeTcp => (None, Some(nvme_access(site, record.volume))),
    };
    Connection {
        id,
        volume: record.volume,
        host: record.host,
        transport: record.transport,
        state,
        iscsi,
        nvme,
        generation: record.generation,
    }
}

fn iscsi_access(site: &Site, volume: Uuid) -> IscsiAccess {
    IscsiAccess {
        target: names::target(site.id, volume),
        lun: Lun::try_from(0).expect("0 is a LUN"),
        portals: site.iscsi.told(),
        serial: names::serial(volume),
    }
}

fn nvme_access(site: &Site, volume: Uuid) -> NvmeAccess {
    NvmeAccess {
        subsystem: names::subsystem(site.id, volume),
        nsid: Nsid::try_from(1).expect("1 is a namespace id"),
        uuid: volume,
        portals: site.nvme.told(),
    }
}

/// A request as a job. `progress` is what its unit waits for, if the kernel does not have it.
pub fn job(id: Uuid, record: &RequestRecord, progress: Progress) -> Job {
    let (state, problem) = match (&record.failed, progress) {
        (Some(problem), _) => (JobState::Failed, Some((**problem).clone())),
        (None, Progress::Done) => (JobState::Succeeded, None),
        (None, Progress::Underway(problem)) => (JobState::Running, problem),
    };
    Job {
        id,
        operation: record.operation,
        object: record.object,
        state,
        problem,
        created: record.accepted,
    }
}

/// How far the kernel is with a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It has what was asked.
    Done,
    /// It does not, perhaps for this reason.
    Underway(Option<ashlar_protocol::Problem>),
}
