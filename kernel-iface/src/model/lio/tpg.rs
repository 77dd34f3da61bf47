//! Portal groups, their portals and the keys of a login.

use std::net::SocketAddr;

use crate::model::attribute::{flag, number};
use crate::model::configfs::NodeId;
use crate::model::kind::Kind;
use crate::model::{ModelState, Module};
use crate::tree::Errno;

/// Whatever keeps a portal from listening, the kernel says EINVAL.
pub(in crate::model) fn make_portal(
    state: &mut ModelState,
    portals: NodeId,
    name: &str,
) -> Result<Kind, Errno> {
    let address: SocketAddr = name.parse().map_err(|_| Errno::EINVAL)?;
    let target = state.nodes.ancestor(portals, 2);
    let other_group = |tpg: &NodeId| {
        let Some(np) = state.nodes.node(*tpg).children.get("np") else {
            return false;
        };
        let mut portals = state.nodes.node(*np).children.keys();
        portals.any(|portal| portal.parse() == Ok(address))
    };
    if state.nodes.node(target).children.values().any(other_group) {
        return Err(Errno::EINVAL);
    }
    let opened = state.sockets.open_portal(address);
    opened.map(|()| Kind::Portal).map_err(|_| Errno::EINVAL)
}

/// 1 takes a portal's logins over RDMA, too, 0 no longer. Whoever writes 1 twice has to write 0
/// twice.
pub(in crate::model) fn store_iser(
    state: &mut ModelState,
    portal: NodeId,
    text: &str,
) -> Result<(), Errno> {
    match number(text, u64::from(u32::MAX))? {
        0 => close_iser(state, portal),
        1 => open_iser(state, portal),
        _ => Err(Errno::EINVAL),
    }
}

fn open_iser(state: &mut ModelState, portal: NodeId) -> Result<(), Errno> {
    if !state.has_module(Module::IbIsert) {
        return Err(Errno::EINVAL);
    }
    let address = address(state, portal)?;
    state.sockets.open_iser(address)?;
    let times = iser_opened(state, portal) + 1;
    note_iser(state, portal, times);
    Ok(())
}

fn close_iser(state: &mut ModelState, portal: NodeId) -> Result<(), Errno> {
    let times = iser_opened(state, portal);
    if times > 0 {
        let address = address(state, portal)?;
        state.sockets.close_iser(address);
        note_iser(state, portal, times - 1);
    }
    Ok(())
}

/// How often it was told to take RDMA.
fn iser_opened(state: &ModelState, portal: NodeId) -> u32 {
    let times = state.nodes.node(portal).notes.get("iser");
    times.map_or(0, |times| times.parse().unwrap_or_default())
}

fn note_iser(state: &mut ModelState, portal: NodeId, times: u32) {
    let notes = &mut state.nodes.node_mut(portal).notes;
    notes.insert("iser", times.to_string());
    let shown = times.min(1).to_string();
    state.nodes.set_value(portal, "iser", shown);
}

/// A portal goes, and what listens for RDMA with it.
pub(in crate::model) fn close_portal(state: &mut ModelState, portal: NodeId) {
    if let Ok(address) = address(state, portal) {
        for _ in 0..iser_opened(state, portal) {
            state.sockets.close_iser(address);
        }
        state.sockets.close_portal(address);
    }
}

fn address(state: &ModelState, portal: NodeId) -> Result<SocketAddr, Errno> {
    let name = &state.nodes.node(portal).name;
    name.parse().map_err(|_| Errno::EINVAL)
}

pub(in crate::model) fn store_tpg(
    state: &mut ModelState,
    id: NodeId,
    file: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let enabled = state.nodes.value(id, "enable") == "1";
    if file == "rtpi" {
        let port = number(text, 65_535)?;
        if port == 0 || enabled {
            return Err(Errno::EINVAL);
        }
        state.nodes.set_value(id, "rtpi", format!("{port:#x}"));
        return Ok(());
    }
    let enable = flag(text)?;
    if enable && !enabled && state.nodes.value(id, "rtpi") == "0x0" {
        let port = state.draw();
        state.nodes.set_value(id, "rtpi", format!("{port:#x}"));
    }
    if !enable {
        end_sessions(state, id);
    }
    let value = u32::from(enable).to_string();
    state.nodes.set_value(id, "enable", value);
    Ok(())
}

pub(in crate::model) fn store_tpg_attribute(
    state: &mut ModelState,
    id: NodeId,
    file: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let value = number(text, u64::from(u32::MAX))?;
    let taken = match file {
        "fabric_prot_type" => matches!(value, 0 | 1 | 3),
        _ => value <= 1,
    };
    if !taken {
        return Err(Errno::EINVAL);
    }
    match (file, value) {
        ("authentication", _) => {
            let param = state.nodes.group(state.nodes.ancestor(id, 1), "param");
            let methods = if value == 1 { "CHAP" } else { "CHAP,None" };
            state.nodes.set_value(param, "AuthMethod", methods);
        }
        ("generate_node_acls", 1) => state.nodes.set_value(id, "cache_dynamic_acls", "1"),
        ("cache_dynamic_acls", 0) if state.nodes.value(id, "generate_node_acls") == "1" => {
            return Ok(());
        }
        _ => {}
    }
    state.nodes.set_value(id, file, value.to_string());
    Ok(())
}

pub(in crate::model) fn store_parameter(
    state: &mut ModelState,
    id: NodeId,
    file: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let value = text.strip_suffix('\n').unwrap_or(text);
    let range = |min: u64, max: u64| {
        let number = number(value, u64::MAX).map_err(|_| Errno::EINVAL)?;
        let accepted = (min..=max).contains(&number);
        accepted.then_some(()).ok_or(Errno::EINVAL)
    };
    let words = |words: &[&str]| {
        let known = value.split(',').all(|word| words.contains(&word));
        known.then_some(()).ok_or(Errno::EINVAL)
    };
    match file {
        "AuthMethod" => words(&["CHAP", "None", "KRB5", "SPKM1", "SPKM2", "SRP"])?,
        "HeaderDigest" | "DataDigest" => words(&["CRC32C", "None"])?,
        "InitialR2T"
        | "ImmediateData"
        | "DataPDUInOrder"
        | "DataSequenceInOrder"
        | "IFMarker"
        | "OFMarker" => match value {
            "Yes" | "No" => {}
            _ => return Err(Errno::EINVAL),
        },
        "MaxRecvDataSegmentLength"
        | "MaxXmitDataSegmentLength"
        | "MaxBurstLength"
        | "FirstBurstLength" => range(512, 16_777_215)?,
        "DefaultTime2Wait" | "DefaultTime2Retain" => range(0, 3600)?,
        "MaxConnections" | "MaxOutstandingR2T" => range(1, 65_535)?,
        "ErrorRecoveryLevel" => range(0, 2)?,
        _ => {}
    }
    state.nodes.set_value(id, file, value);
    Ok(())
}

fn end_sessions(state: &mut ModelState, tpg: NodeId) {
    let acls = state.nodes.group(tpg, "acls");
    let acls: Vec<NodeId> = state.nodes.node(acls).children.values().copied().collect();
    for acl in acls {
        state.nodes.node_mut(acl).notes.remove("session");
    }
}
