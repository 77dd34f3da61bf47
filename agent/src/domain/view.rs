//! The intent as clients see it.

use ashlar_protocol::{
    Connection, ConnectionState, FcAccess, Group, GroupSnapshot, GroupState, Host, HostCreated,
    HostSecrets, IscsiAccess, Job, JobState, Lun, Nsid, NvmeAccess, Pool, PoolState, Portal,
    PortalState, Problem, ProblemCode, Progress, Replacement, Snapshot, SnapshotState, Transport,
    Volume, VolumeState,
};
use ashlar_targetd_protocol::{NvmeFabric, PoolReport};
use uuid::Uuid;

use crate::domain::intent::{GroupEntry, HostEntry, Intent, PoolEntry, VolumeEntry};
use crate::domain::members;
use crate::domain::names;
use crate::domain::record::{
    ConnectionPhase, ConnectionRecord, GroupPhase, GroupSnapshotRecord, PoolPhase, PortalPhase,
    PortalRecord, RequestRecord, SnapshotPhase, SnapshotRecord, VolumePhase,
};
use crate::domain::site::{Listen, Site};

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
    let report = match look {
        Look::Report(report) => Some(report),
        Look::Busy | Look::Gone => None,
    };
    let usage = report.and_then(|report| report.usage);
    let state = match (record.phase, look) {
        (PoolPhase::Creating, _) => PoolState::Creating,
        (PoolPhase::Deleting(_), _) => PoolState::Deleting,
        (PoolPhase::Withdrawn, _) | (PoolPhase::Present, Look::Gone) => PoolState::Offline,
        (PoolPhase::Present, Look::Busy) => PoolState::Online,
        (PoolPhase::Present, Look::Report(report)) => match report.usage {
            None => PoolState::Offline,
            Some(_) if report.degraded => PoolState::Degraded,
            Some(_) => PoolState::Online,
        },
    };
    let told = match look {
        Look::Report(report) => record.told.after(&record.spec.watermarks, report),
        Look::Busy | Look::Gone => record.told,
    };
    let block = usage.map_or(0, |usage| usage.block.bytes().0);
    Pool {
        id,
        name: record.spec.name.clone(),
        disks: record.spec.disks.clone(),
        redundancy: record.spec.redundancy,
        members: report.map_or_else(Vec::new, |report| members::members(record, report)),
        sets: report.map_or_else(Vec::new, members::sets),
        spares: record.spares.clone(),
        replacing: record.replacing.as_ref().and_then(|replacing| {
            let disk = record.spec.disks.get(replacing.place as usize)?;
            Some(Replacement {
                disk: disk.clone(),
                by: replacing.by.clone(),
            })
        }),
        block_size: record.block_size,
        metadata_size: record.metadata_size,
        state,
        capacity: usage.map(|usage| usage.data_total * block),
        used: usage.map(|usage| usage.data_used * block),
        metadata_used: usage.map(|usage| usage.metadata_used * 4096),
        provisioned: entry.provisioned,
        thick: entry.thick,
        over_subscription: record.spec.over_subscription,
        reserved: record.spec.reserved,
        level: told.level(),
        watermarks: record.spec.watermarks,
        scrub_days: record.spec.scrub_days,
        scrubbed: record.scrubs.last,
        volumes: entry.volumes,
        snapshots: entry.snapshots,
        generation: record.generation,
    }
}

/// A volume.
pub fn volume(id: Uuid, entry: &VolumeEntry) -> Volume {
    let record = &entry.record;
    Volume {
        id,
        name: record.name.clone(),
        owner: record.owner.clone(),
        group: record.group,
        pool: record.pool,
        size: record.size,
        state: match record.phase {
            VolumePhase::Creating => VolumeState::Creating,
            VolumePhase::Adopting => VolumeState::Adopting,
            VolumePhase::Present => VolumeState::Available,
            VolumePhase::Reverting | VolumePhase::Replacing => VolumeState::Reverting,
            VolumePhase::Releasing => VolumeState::Releasing,
            VolumePhase::Clearing(_) | VolumePhase::Deleting => VolumeState::Deleting,
        },
        connections: entry.connections,
        snapshots: entry.snapshots,
        parent: record.parent,
        labels: record.labels.clone(),
        qos: record.qos.as_deref().copied(),
        provisioning: record.provisioning,
        created: record.created,
        generation: record.generation,
    }
}

/// A snapshot.
pub fn snapshot(id: Uuid, record: &SnapshotRecord) -> Snapshot {
    Snapshot {
        id,
        name: record.name.clone(),
        volume: record.volume,
        pool: record.pool,
        size: record.size,
        state: match record.phase {
            SnapshotPhase::Creating => SnapshotState::Creating,
            SnapshotPhase::Adopting => SnapshotState::Adopting,
            SnapshotPhase::Present => SnapshotState::Available,
            SnapshotPhase::Releasing => SnapshotState::Releasing,
            SnapshotPhase::Deleting => SnapshotState::Deleting,
        },
        labels: record.labels.clone(),
        group: record.group,
        created: record.created,
        generation: record.generation,
    }
}

/// A group with its members.
pub fn group(intent: &Intent, id: Uuid, entry: &GroupEntry) -> Group {
    let record = &entry.record;
    Group {
        id,
        name: record.name.clone(),
        volumes: intent.volumes_of_group(id).map(|(id, _)| id).collect(),
        state: match record.phase {
            GroupPhase::Creating => GroupState::Creating,
            GroupPhase::Present => GroupState::Available,
            GroupPhase::Deleting => GroupState::Deleting,
        },
        group_snapshots: entry.group_snapshots,
        created: record.created,
        generation: record.generation,
    }
}

/// A group snapshot with its snapshots.
pub fn group_snapshot(intent: &Intent, id: Uuid, record: &GroupSnapshotRecord) -> GroupSnapshot {
    GroupSnapshot {
        id,
        name: record.name.clone(),
        group: record.group,
        snapshots: intent.snapshots_of_group(id).map(|(id, _)| id).collect(),
        state: match record.phase {
            GroupPhase::Creating => GroupState::Creating,
            GroupPhase::Present => GroupState::Available,
            GroupPhase::Deleting => GroupState::Deleting,
        },
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
        wwpns: record.wwpns.clone(),
        authentication: record.authentication,
        dhchap: record.dhchap,
        connections: entry.connections,
        generation: record.generation,
    }
}

/// A host as told to the request that asked for it; with its secrets when that made them.
pub fn host_created(id: Uuid, entry: &HostEntry, made: bool) -> HostCreated {
    HostCreated {
        host: host(id, entry),
        secrets: match made {
            true => entry.record.secrets.clone(),
            false => HostSecrets::default(),
        },
    }
}

/// A portal, as far as it follows from the record.
pub fn portal(id: Uuid, record: &PortalRecord) -> Portal {
    Portal {
        id,
        address: record.spec.address,
        transport: record.spec.transport,
        configured: false,
        state: match record.phase {
            PortalPhase::Present => PortalState::Ready,
            PortalPhase::Removing => PortalState::Removing,
        },
        detail: None,
        generation: record.generation,
    }
}

/// A connection. `applied` says whether the kernel has it as recorded.
pub fn connection(id: Uuid, record: &ConnectionRecord, site: &Site, applied: bool) -> Connection {
    let state = match record.phase {
        ConnectionPhase::Wanted if applied && !site.is_shut(record.transport) => {
            ConnectionState::Ready
        }
        ConnectionPhase::Wanted => ConnectionState::Attaching,
        ConnectionPhase::Detaching | ConnectionPhase::Cutting | ConnectionPhase::Withdrawn => {
            ConnectionState::Detaching
        }
    };
    let of = record.of.id();
    let iscsi = match record.transport {
        Transport::Iscsi => Some(iscsi_access(site, &site.iscsi, of)),
        Transport::Iser => Some(iscsi_access(site, &site.iser, of)),
        Transport::Fc | Transport::NvmeTcp | Transport::NvmeRdma | Transport::NvmeFc => None,
    };
    let nvme = record.transport.nvme();
    let nvme = nvme.map(|fabric| nvme_access(site, fabric, of));
    Connection {
        id,
        volume: record.of.volume(),
        snapshot: record.of.snapshot(),
        host: record.host,
        transport: record.transport,
        access: record.access,
        state,
        iscsi,
        fc: record.fc.map(|place| FcAccess {
            ports: site.fc.iter().copied().collect(),
            lun: place.lun,
            serial: names::serial(of),
        }),
        nvme,
        generation: record.generation,
    }
}

fn iscsi_access(site: &Site, listen: &Listen, id: Uuid) -> IscsiAccess {
    IscsiAccess {
        target: names::target(site.id, id),
        lun: Lun::try_from(0).expect("0 is a LUN"),
        portals: listen.told(),
        serial: names::serial(id),
    }
}

fn nvme_access(site: &Site, fabric: NvmeFabric, volume: Uuid) -> NvmeAccess {
    let (portals, fc_ports) = match fabric {
        NvmeFabric::Tcp => (site.nvme.told(), Vec::new()),
        NvmeFabric::Rdma => (site.nvme_rdma.told(), Vec::new()),
        NvmeFabric::Fc => (Vec::new(), site.nvme_fc.iter().copied().collect()),
    };
    NvmeAccess {
        subsystem: names::subsystem(site.id, volume),
        nsid: Nsid::try_from(1).expect("1 is a namespace id"),
        uuid: volume,
        portals,
        fc_ports,
    }
}

/// A request as a job. `reached` is what its unit waits for, if the kernel does not have it,
/// and `progress` how far long work is just now.
pub fn job(id: Uuid, record: &RequestRecord, reached: Reached, progress: Option<Progress>) -> Job {
    let (state, problem) = match (&record.failed, reached) {
        (Some(problem), _) => (given_up(problem), Some((**problem).clone())),
        (None, _) if record.works() => (JobState::Running, None),
        (None, Reached::All) => (JobState::Succeeded, None),
        (None, Reached::Underway(problem)) => (JobState::Running, problem),
    };
    let work = record.work.as_ref();
    Job {
        id,
        operation: record.operation,
        object: record.object,
        state,
        problem,
        progress: progress.or(work.map(|work| work.progress)),
        result: work.and_then(|work| work.result.clone()),
        created: record.accepted,
    }
}

fn given_up(problem: &Problem) -> JobState {
    match problem.code {
        ProblemCode::Cancelled => JobState::Cancelled,
        _ => JobState::Failed,
    }
}

/// How far the kernel is with a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// It has what was asked.
    All,
    /// It does not, perhaps for this reason.
    Underway(Option<Problem>),
}
