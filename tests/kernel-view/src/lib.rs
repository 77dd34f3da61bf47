//! What the kernel holds of ours, as lines that a scenario can name.

use anyhow::Context;
use ashlar_kernel_iface::blkio::Blkio;
use ashlar_kernel_iface::dm::{DeviceMapper, DmName, TableSlot};
use ashlar_kernel_iface::lio::{FcFabric, FcTarget, Lio, MappedLunState};
use ashlar_kernel_iface::nvmet::Nvmet;
use ashlar_kernel_iface::tree::Tree;
use ashlar_targetd_protocol::{DhchapExchange, Iqn, Nqn};
use uuid::Uuid;

/// One line per pool, volume, snapshot, limit, initiator and host, in order. Objects that are not ours are left
/// out; so are backstores and ports, which nobody outside can see.
pub fn view(tree: &dyn Tree, run: &dyn Tree, dm: &dyn DeviceMapper) -> anyhow::Result<Vec<String>> {
    let mut lines = devices(dm).context("listing devices")?;
    lines.extend(limits(run, dm).context("listing limits")?);
    lines.extend(initiators(tree).context("listing iSCSI targets")?);
    lines.extend(ports(tree).context("listing targets on Fibre Channel")?);
    lines.extend(hosts(tree).context("listing NVMe subsystems")?);
    lines.sort();
    Ok(lines)
}

fn devices(dm: &dyn DeviceMapper) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for device in dm.list()? {
        let name = device.name.as_str();
        if let Some(id) = between(name, "ashlar-pool-", "-thin") {
            lines.push(format!("pool {id}"));
        } else if let Some(id) = between(name, "ashlar-vol-", "") {
            let sectors = table_length(dm, &name.parse()?)?;
            lines.push(format!("volume {id} {sectors} sectors"));
        } else if let Some(id) = between(name, "ashlar-snap-", "") {
            let sectors = table_length(dm, &name.parse()?)?;
            lines.push(format!("snapshot {id} {sectors} sectors"));
        } else if let Some(id) = between(name, "ashlar-copy-", "") {
            lines.push(format!("copy {id}"));
        } else if let Some(id) = between(name, "ashlar-move-", "") {
            lines.push(format!("target {id}"));
        }
    }
    Ok(lines)
}

/// Limits of devices that are not ours are told, too: there should be none.
fn limits(run: &dyn Tree, dm: &dyn DeviceMapper) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    if !Blkio::new(run).is_there()? {
        return Ok(lines);
    }
    let devices = dm.list()?;
    for (number, throttles) in Blkio::new(run).limits()? {
        let device = devices.iter().find(|device| device.number == number);
        let volume = device.and_then(|device| between(device.name.as_str(), "ashlar-vol-", ""));
        let whose = volume.map_or_else(|| number.to_string(), |id| id.to_string());
        for (throttle, limit) in throttles {
            lines.push(format!("limit {whose} {limit} {throttle}"));
        }
    }
    Ok(lines)
}

fn table_length(dm: &dyn DeviceMapper, name: &DmName) -> anyhow::Result<u64> {
    let table = dm.table(name, TableSlot::Live)?;
    Ok(table.size().0)
}

fn initiators(tree: &dyn Tree) -> anyhow::Result<Vec<String>> {
    let lio = Lio::new(tree);
    let mut lines = Vec::new();
    for name in lio.targets()? {
        let (Some(id), Ok(iqn)) = (ours(name.as_str()), name.as_str().parse::<Iqn>()) else {
            continue;
        };
        let target = lio.target(&iqn);
        for tag in target.tpgs()? {
            let Some(state) = target.tpg(tag).observe()? else {
                continue;
            };
            for (initiator, acl) in state.acls {
                let proof = proof(acl.chap.is_some(), acl.mutual_chap.is_some());
                let protected = |mapped: &MappedLunState| mapped.write_protected == Some(true);
                let access = match acl.mapped_luns.values().any(protected) {
                    true => " read-only",
                    false => "",
                };
                lines.push(format!("iscsi {id} initiator {initiator}{proof}{access}"));
            }
        }
    }
    Ok(lines)
}

/// What each initiator sees at each port of Fibre Channel.
fn ports(tree: &dyn Tree) -> anyhow::Result<Vec<String>> {
    let lio = Lio::new(tree);
    let mut lines = Vec::new();
    for fabric in FcFabric::ALL {
        for port in lio.fc_targets(fabric)? {
            let target = lio.fc_target(fabric, port);
            for initiator in target.initiators()? {
                for lun in target.mapped_luns(initiator)? {
                    let mapped = target.mapped_lun(initiator, lun).observe()?;
                    let line = mapped.map(|mapped| fc_line(&target, &mapped)).transpose()?;
                    let seen = line.flatten();
                    lines.extend(seen.map(|(of, how)| {
                        format!("fc {of} port {port} initiator {initiator} LUN {lun}{how}")
                    }));
                }
            }
        }
    }
    Ok(lines)
}

/// Whose it is, and whether it is only read.
fn fc_line(
    target: &FcTarget<'_>,
    mapped: &MappedLunState,
) -> anyhow::Result<Option<(Uuid, &'static str)>> {
    let Some(unit) = mapped.lun else {
        return Ok(None);
    };
    let backstore = target.lun(unit).backstore()?;
    let of = backstore.and_then(|backstore| between(backstore.name.as_str(), "ashlar-vol-", ""));
    let how = match mapped.write_protected {
        Some(true) => " read-only",
        _ => "",
    };
    Ok(of.map(|of| (of, how)))
}

fn hosts(tree: &dyn Tree) -> anyhow::Result<Vec<String>> {
    let nvmet = Nvmet::new(tree);
    let mut lines = Vec::new();
    for name in nvmet.subsystems()? {
        let (Some(id), Ok(nqn)) = (ours(name.as_str()), name.as_str().parse::<Nqn>()) else {
            continue;
        };
        let Some(state) = nvmet.subsystem(&nqn).observe()? else {
            continue;
        };
        for host in state.allowed_hosts {
            let known = match host.as_str().parse::<Nqn>() {
                Ok(host) => nvmet.host(&host).observe()?,
                Err(_) => None,
            };
            let mut line = format!("nvme {id} host {host}");
            if let Some(known) = known {
                line += proof(known.key.is_some(), known.controller_key.is_some());
                let how = known.exchange.context("an unknown hash or group")?;
                if how != DhchapExchange::default() {
                    line += &format!(" by {how}");
                }
            }
            lines.push(line);
        }
    }
    Ok(lines)
}

fn proof(host: bool, target: bool) -> &'static str {
    match (host, target) {
        (false, _) => "",
        (true, false) => " authenticated",
        (true, true) => " authenticated both ways",
    }
}

/// The volume a target or subsystem belongs to: our names end in its id.
fn ours(name: &str) -> Option<Uuid> {
    Uuid::try_parse(name.rsplit(':').next()?).ok()
}

fn between(name: &str, prefix: &str, suffix: &str) -> Option<Uuid> {
    Uuid::try_parse(name.strip_prefix(prefix)?.strip_suffix(suffix)?).ok()
}
