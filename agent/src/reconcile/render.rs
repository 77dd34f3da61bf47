//! From intent to desired state, one unit at a time. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ashlar_protocol::{Access, Connected, Problem, ProblemCode, Transport};
use ashlar_targetd_protocol::{
    Accesses, Bytes, DataState, DesiredMove, DesiredPool, DesiredSnapshot, DesiredSnapshots,
    DesiredVolume, DiskId, Exports, FcAccess, FcExport, IscsiAcl, IscsiExport, NvmeExport,
    NvmeFabric, NvmeHost, PoolBefore, PoolDestruction, PoolDisk, PoolFormat, Qos, Sectors,
    SnapshotsKind, ThinSource, Wwn,
};
use uuid::Uuid;

use crate::domain::intent::Intent;
use crate::domain::names;
use crate::domain::qos;
use crate::domain::record::{
    ConnectionPhase, ConnectionRecord, Destruction, FcPlace, GroupPhase, HostRecord, Origin,
    PoolPhase, PoolRecord, SnapshotPhase, SnapshotRecord, VolumePhase, VolumeRecord,
};
use crate::domain::site::Site;

/// A pool as the kernel should have it.
pub fn pool(id: Uuid, record: &PoolRecord, holder: Uuid, generation: u64) -> DesiredPool {
    let disks = (0..).zip(&record.spec.disks);
    DesiredPool {
        id,
        generation,
        disks: disks
            .map(|(place, disk)| pool_disk(record, place, disk))
            .collect(),
        redundancy: record.redundancy(),
        metadata: Sectors::within(Bytes(record.metadata_size)),
        block: Sectors::within(Bytes(record.block_size)),
        low_water_blocks: record.low_water_blocks,
        format: match (record.phase, record.growth) {
            (PoolPhase::Creating, _) => taken(record.spec.wipe),
            (PoolPhase::Present, Some(growth)) => taken(growth.wipe),
            (PoolPhase::Present | PoolPhase::Withdrawn | PoolPhase::Deleting(_), _) => {
                PoolFormat::Never
            }
        },
        absent: match record.phase {
            PoolPhase::Creating | PoolPhase::Present => false,
            PoolPhase::Withdrawn | PoolPhase::Deleting(_) => true,
        },
        destroy: match record.phase {
            PoolPhase::Deleting(Destruction { force, .. }) => Some(PoolDestruction { force }),
            PoolPhase::Creating | PoolPhase::Present | PoolPhase::Withdrawn => None,
        },
        grows_from: record.growth.map(|growth| PoolBefore {
            disks: growth.disks,
            metadata: Sectors::within(Bytes(growth.metadata_size)),
        }),
        holder,
        takes: record.import.is_some(),
    }
}

/// A disk of a pool, or the one that is to take its place. That one has nothing of the pool's
/// data, and what it holds else may be overwritten only for a pool that stands.
fn pool_disk(record: &PoolRecord, place: u32, disk: &DiskId) -> PoolDisk {
    let room = Sectors::within(Bytes(record.metadata_room(place as usize)));
    let stands = record.phase == PoolPhase::Present;
    let catalog = record.catalog.filter(|catalog| catalog.place == place);
    let catalog = Sectors::within(Bytes(catalog.map_or(0, |catalog| catalog.size)));
    match &record.replacing {
        Some(replacing) if stands && replacing.place == place => PoolDisk {
            turn: replacing.turn,
            takes_place: Some(taken(replacing.wipe)),
            stale: true,
            catalog,
            ..PoolDisk::new(replacing.by.clone(), room)
        },
        // A pool that is given up has what it had.
        _ => PoolDisk {
            turn: record.turns(place).now,
            stale: record.lacks_data(place),
            catalog,
            ..PoolDisk::new(disk.clone(), room)
        },
    }
}

fn taken(wipe: bool) -> PoolFormat {
    match wipe {
        true => PoolFormat::Wipe,
        false => PoolFormat::BlankOnly,
    }
}

/// A volume as the kernel should have it, or `None` when it was forgotten, and while it is made,
/// or unmade, with the others of its group.
///
/// # Errors
/// When a connection needs an address and none is configured. Rendering the volume without
/// that export would take it from hosts that were promised it.
pub fn volume(
    intent: &Intent,
    site: &Site,
    id: Uuid,
    generation: u64,
) -> Result<Option<DesiredVolume>, Problem> {
    let Some(record) = intent.volume(id).map(|entry| &entry.record) else {
        return Ok(None);
    };
    if with_others(intent, record) {
        return Ok(None);
    }
    Ok(Some(DesiredVolume {
        id,
        generation,
        pool: record.pool,
        thin_id: record.thin_id,
        size: Sectors::within(Bytes(record.size)),
        data: match record.phase {
            VolumePhase::Creating | VolumePhase::Reverting => DataState::Provision,
            VolumePhase::Replacing => DataState::Replace,
            VolumePhase::Adopting
            | VolumePhase::Present
            | VolumePhase::Releasing
            | VolumePhase::Clearing(_) => DataState::Present,
            VolumePhase::Deleting => DataState::Tombstone,
        },
        source: record.origin.map(source),
        retired: record.retired.clone(),
        moving: record.moving.map(|moving| DesiredMove {
            to: moving.to,
            copy: moving.copy,
            still: moving.still,
        }),
        exports: exports(intent, site, Connected::Volume(id))?,
        qos: match &record.qos {
            Some(qos) => qos::effective(qos, record.size),
            None => Qos::default(),
        },
        held: match record.phase {
            // Only trying tells that the thin device is there and can be read.
            VolumePhase::Adopting => true,
            VolumePhase::Clearing(_) => true,
            _ => false,
        },
        cut: cut(intent, site, Connected::Volume(id)),
    }))
}

/// Whether the kernel has a volume only together with all members of its group.
pub(super) fn with_others(intent: &Intent, record: &VolumeRecord) -> bool {
    let moves = matches!(record.phase, VolumePhase::Creating | VolumePhase::Deleting);
    let group = record.group.filter(|_| moves);
    let group = group.and_then(|group| intent.group(group));
    group.is_some_and(|entry| entry.record.phase != GroupPhase::Present)
}

/// A snapshot by itself as the kernel should have it; nothing when it was forgotten, and while it
/// is made, or unmade, with the others of its group snapshot.
///
/// # Errors
/// As for a volume.
pub fn snapshot(
    intent: &Intent,
    site: &Site,
    id: Uuid,
    generation: u64,
) -> Result<Option<DesiredSnapshots>, Problem> {
    let Some(record) = intent.snapshot(id) else {
        return Ok(None);
    };
    if record.group.is_some() && record.phase != SnapshotPhase::Present {
        return Ok(None);
    }
    let of = Connected::Snapshot(id);
    let member = DesiredSnapshot {
        exports: exports(intent, site, of)?,
        // As for a volume.
        held: record.phase == SnapshotPhase::Adopting,
        cut: cut(intent, site, of),
        ..member(id, record)
    };
    Ok(Some(DesiredSnapshots {
        kind: SnapshotsKind::Snapshot,
        id,
        generation,
        members: vec![member],
        data: snapshot_data(record.phase),
    }))
}

/// The members of a group as they are made, or unmade, all at once; nothing when they stand.
pub fn group(intent: &Intent, id: Uuid, generation: u64) -> Option<DesiredSnapshots> {
    let data = match intent.group(id)?.record.phase {
        GroupPhase::Creating => DataState::Provision,
        GroupPhase::Present => return None,
        GroupPhase::Deleting => DataState::Tombstone,
    };
    let copies = intent.volumes_of_group(id).filter_map(|(id, entry)| {
        let record = &entry.record;
        Some(DesiredSnapshot {
            id,
            pool: record.pool,
            thin_id: record.thin_id,
            size: Sectors::within(Bytes(record.size)),
            source: source(record.origin?),
            exports: Exports::default(),
            held: false,
            cut: Accesses::default(),
        })
    });
    Some(DesiredSnapshots {
        kind: SnapshotsKind::Group,
        id,
        generation,
        members: copies.collect(),
        data,
    })
}

/// The snapshots of a group snapshot as they are made, or unmade, all at once; nothing when they
/// stand: what hosts and this process need of each is said of it by itself, and would overtake, or
/// be overtaken by, what was said of all.
pub fn group_snapshot(intent: &Intent, id: Uuid, generation: u64) -> Option<DesiredSnapshots> {
    let record = intent.group_snapshot(id)?;
    if record.phase == GroupPhase::Present {
        return None;
    }
    let snapshots = intent.snapshots_of_group(id);
    Some(DesiredSnapshots {
        kind: SnapshotsKind::GroupSnapshot,
        id,
        generation,
        members: snapshots.map(|(id, record)| member(id, record)).collect(),
        data: snapshot_data(record.phase.of_snapshots()),
    })
}

fn snapshot_data(phase: SnapshotPhase) -> DataState {
    match phase {
        SnapshotPhase::Creating => DataState::Provision,
        SnapshotPhase::Adopting | SnapshotPhase::Present | SnapshotPhase::Releasing => {
            DataState::Present
        }
        SnapshotPhase::Deleting => DataState::Tombstone,
    }
}

/// A snapshot that nobody needs active.
fn member(id: Uuid, record: &SnapshotRecord) -> DesiredSnapshot {
    DesiredSnapshot {
        id,
        pool: record.pool,
        thin_id: record.thin_id,
        size: Sectors::within(Bytes(record.size)),
        source: source(record.origin()),
        exports: Exports::default(),
        held: false,
        cut: Accesses::default(),
    }
}

fn source(origin: Origin) -> ThinSource {
    ThinSource {
        object: origin.object,
        thin_id: origin.thin_id,
    }
}

/// The hosts that may be cut off. The kernel ends an iSCSI host's sessions, by either of its
/// transports, and no other's; but those of an NVMe host only together with everybody's.
fn cut(intent: &Intent, site: &Site, of: Connected) -> Accesses {
    let mut cut = Accesses::default();
    for (_, connection) in intent.connections_of(of, None) {
        let Some(host) = intent.host(connection.host).map(|entry| &entry.record) else {
            continue;
        };
        match (connection.transport, connection.phase) {
            // Whoever took the last portal away agreed to that.
            (transport, ConnectionPhase::Wanted) if site.is_shut(transport) => {
                match transport.is_nvme() {
                    false => cut.iscsi.extend(host.iqn.clone()),
                    true => cut.nvme.extend(host.nqn.clone()),
                }
            }
            // What goes over Fibre Channel is never asked about.
            (_, ConnectionPhase::Wanted | ConnectionPhase::Detaching)
            | (Transport::Fc, ConnectionPhase::Cutting | ConnectionPhase::Withdrawn)
            | (
                Transport::NvmeTcp | Transport::NvmeRdma | Transport::NvmeFc,
                ConnectionPhase::Withdrawn,
            ) => {}
            // What it has by the one that is let go of is not to end for the one that never came.
            (Transport::Iscsi | Transport::Iser, ConnectionPhase::Withdrawn)
                if lets_go(intent, of, connection.host) => {}
            (
                Transport::Iscsi | Transport::Iser,
                ConnectionPhase::Cutting | ConnectionPhase::Withdrawn,
            ) => {
                cut.iscsi.extend(host.iqn.clone());
            }
            (
                Transport::NvmeTcp | Transport::NvmeRdma | Transport::NvmeFc,
                ConnectionPhase::Cutting,
            ) => {
                cut.nvme.extend(host.nqn.clone());
            }
        }
    }
    cut
}

/// Whether a host is to let go of a target by itself.
fn lets_go(intent: &Intent, of: Connected, host: Uuid) -> bool {
    intent.connections_of(of, None).any(|(_, connection)| {
        connection.host == host
            && matches!(connection.transport, Transport::Iscsi | Transport::Iser)
            && connection.phase == ConnectionPhase::Detaching
    })
}

fn exports(intent: &Intent, site: &Site, of: Connected) -> Result<Exports, Problem> {
    let (mut iscsi, mut nvme) = (BTreeMap::new(), BTreeMap::new());
    let mut fc: Option<FcExport> = None;
    let (mut portals, mut iser) = (BTreeSet::new(), BTreeSet::new());
    let mut ports = BTreeMap::new();
    let mut unserved = None;
    for (connection, host) in hosts(intent, of) {
        let transport = connection.transport;
        if site.is_shut(transport) {
            continue;
        }
        // The kernel lists hosts for a target or a subsystem, not for its portals or ports.
        match transport {
            Transport::Iscsi => portals.extend(&site.iscsi.portals),
            Transport::Iser => iser.extend(&site.iser.portals),
            Transport::Fc => {}
            Transport::NvmeTcp => ports.extend(site.ports_of(NvmeFabric::Tcp)),
            Transport::NvmeRdma => ports.extend(site.ports_of(NvmeFabric::Rdma)),
            Transport::NvmeFc => ports.extend(site.ports_of(NvmeFabric::Fc)),
        }
        if let Some(place) = connection.fc {
            let export = fc.get_or_insert_with(|| FcExport {
                ports: site.fc.clone(),
                unit: place.unit,
                initiators: BTreeMap::new(),
            });
            export
                .initiators
                .extend(fc_initiators(connection, place, host));
        } else if transport.is_nvme() {
            nvme.extend(host.nqn.clone().map(|nqn| (nqn, nvme_host(host))));
        } else {
            iscsi.extend(host.iqn.clone().map(|iqn| (iqn, acl(connection, host))));
        }
        unserved = unserved.or((!site.serves(transport)).then_some(transport));
    }
    if let Some(transport) = unserved {
        let object = of.object();
        let detail =
            format!("{object} is connected over {transport}, but no address is configured");
        return Err(Problem::new(ProblemCode::Unsupported, detail).about(object));
    }
    Ok(Exports {
        fc,
        iscsi: (!iscsi.is_empty()).then(|| IscsiExport {
            target: names::target(site.id, of.id()),
            portals,
            iser,
            initiators: iscsi,
        }),
        nvme: (!nvme.is_empty()).then(|| NvmeExport {
            subsystem: names::subsystem(site.id, of.id()),
            ports,
            hosts: nvme,
        }),
    })
}

/// Hosts that are to reach a volume or a snapshot, each with its connection.
fn hosts(intent: &Intent, of: Connected) -> impl Iterator<Item = (&ConnectionRecord, &HostRecord)> {
    intent
        .connections_of(of, None)
        .filter(|(_, c)| c.phase == ConnectionPhase::Wanted)
        .filter_map(|(_, c)| Some((c, &intent.host(c.host)?.record)))
}

fn acl(connection: &ConnectionRecord, host: &HostRecord) -> IscsiAcl {
    IscsiAcl {
        read_only: connection.access == Access::ReadOnly,
        chap: host.secrets.chap.clone(),
        mutual: host.secrets.chap_mutual.clone(),
    }
}

/// Each port of a host sees it by the same number.
fn fc_initiators(
    connection: &ConnectionRecord,
    place: FcPlace,
    host: &HostRecord,
) -> impl Iterator<Item = (Wwn, FcAccess)> {
    let access = FcAccess {
        lun: place.lun,
        read_only: connection.access == Access::ReadOnly,
    };
    host.wwpns.iter().map(move |wwpn| (*wwpn, access))
}

fn nvme_host(host: &HostRecord) -> NvmeHost {
    NvmeHost {
        key: host.secrets.dhchap.clone(),
        controller_key: host.secrets.dhchap_controller.clone(),
        exchange: host.dhchap,
    }
}

#[cfg(test)]
mod tests;
