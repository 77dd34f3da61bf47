//! From intent to desired state, one unit at a time. Pure.

use std::collections::BTreeMap;

use ashlar_protocol::{Problem, ProblemCode, Transport};
use ashlar_targetd_protocol::{
    Bytes, DataState, DesiredPool, DesiredVolume, Exports, IscsiAcl, IscsiExport, NvmeExport,
    NvmeHost, PoolDisk, PoolFormat, Sectors,
};
use uuid::Uuid;

use crate::domain::intent::Intent;
use crate::domain::names;
use crate::domain::record::{
    ConnectionPhase, HostRecord, PoolPhase, PoolRecord, Unit, VolumePhase,
};
use crate::domain::site::Site;

/// A pool as the kernel should have it.
pub fn pool(id: Uuid, record: &PoolRecord, generation: u64) -> DesiredPool {
    let disks = record.spec.disks.iter();
    DesiredPool {
        id,
        generation,
        disks: disks.map(|disk| PoolDisk { id: disk.clone() }).collect(),
        metadata: Sectors::within(Bytes(record.metadata_size)),
        block: Sectors::within(Bytes(record.block_size)),
        low_water_blocks: record.low_water_blocks,
        format: match (record.phase, record.spec.wipe) {
            (PoolPhase::Creating, true) => PoolFormat::Wipe,
            (PoolPhase::Creating, false) => PoolFormat::BlankOnly,
            (PoolPhase::Present | PoolPhase::Withdrawn, _) => PoolFormat::Never,
        },
        absent: record.phase == PoolPhase::Withdrawn,
    }
}

/// A volume as the kernel should have it, or `None` when it was forgotten.
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
    let cut = |phase| phase == ConnectionPhase::Cutting;
    Ok(Some(DesiredVolume {
        id,
        generation,
        pool: record.pool,
        thin_id: record.thin_id,
        size: Sectors::within(Bytes(record.size)),
        data: match record.phase {
            VolumePhase::Creating => DataState::Provision,
            VolumePhase::Present => DataState::Present,
            VolumePhase::Deleting => DataState::Tombstone,
        },
        exports: exports(intent, site, id)?,
        force: intent.connections_of(id, None).any(|(_, c)| cut(c.phase)),
    }))
}

fn exports(intent: &Intent, site: &Site, volume: Uuid) -> Result<Exports, Problem> {
    let iscsi: BTreeMap<_, _> = hosts(intent, volume, Transport::Iscsi)
        .filter_map(|host| Some((host.iqn.clone()?, acl(host))))
        .collect();
    let nvme: BTreeMap<_, _> = hosts(intent, volume, Transport::NvmeTcp)
        .filter_map(|host| Some((host.nqn.clone()?, nvme_host(host))))
        .collect();
    let unserved = (!iscsi.is_empty() && site.iscsi.portals.is_empty())
        .then_some(Transport::Iscsi)
        .or((!nvme.is_empty() && site.nvme_ports.is_empty()).then_some(Transport::NvmeTcp));
    if let Some(transport) = unserved {
        let object = Unit::Volume(volume).object();
        let detail =
            format!("{object} is connected over {transport}, but no address is configured");
        return Err(Problem::new(ProblemCode::Unsupported, detail).about(object));
    }
    Ok(Exports {
        iscsi: (!iscsi.is_empty()).then(|| IscsiExport {
            target: names::target(site.id, volume),
            portals: site.iscsi.portals.clone(),
            initiators: iscsi,
        }),
        nvme: (!nvme.is_empty()).then(|| NvmeExport {
            subsystem: names::subsystem(site.id, volume),
            ports: site.nvme_ports.clone(),
            hosts: nvme,
        }),
    })
}

/// Hosts that are to reach a volume over a transport.
fn hosts(intent: &Intent, volume: Uuid, transport: Transport) -> impl Iterator<Item = &HostRecord> {
    intent
        .connections_of(volume, None)
        .filter(move |(_, c)| c.transport == transport && c.phase == ConnectionPhase::Wanted)
        .filter_map(|(_, c)| Some(&intent.host(c.host)?.record))
}

fn acl(host: &HostRecord) -> IscsiAcl {
    IscsiAcl {
        chap: host.secrets.chap.clone(),
        mutual: host.secrets.chap_mutual.clone(),
    }
}

fn nvme_host(host: &HostRecord) -> NvmeHost {
    NvmeHost {
        key: host.secrets.dhchap.clone(),
        controller_key: host.secrets.dhchap_controller.clone(),
    }
}

#[cfg(test)]
mod tests;
