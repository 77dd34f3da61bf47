//! What directories, values and links mean below `target/`.

use std::net::SocketAddr;
use std::path::Path;

use super::attribute::{c_string, flag, line, number};
use super::configfs::NodeId;
use super::kind::Kind;
use super::{Holder, ModelState, Module};
use crate::tree::Errno;

/// Longest name of an iSCSI target.
const IQN_MAX: usize = 223;
/// Longest name of an HBA directory.
const HBA_MAX: usize = 63;
/// Room for each CHAP name and secret, with a terminating NUL.
const CHAP_ROOM: usize = 256;
/// Room for the unit serial number, with a terminating NUL.
const SERIAL_ROOM: usize = 254;
/// Room for a device path, with a terminating NUL.
const PATH_ROOM: usize = 512;

/// Which directories may hold links.
pub(super) fn links(kind: Kind) -> bool {
    matches!(kind, Kind::Lun | Kind::MappedLun)
}

/// What a new directory would be.
pub(super) fn make(state: &mut ModelState, parent: NodeId, name: &str) -> Result<Kind, Errno> {
    match state.nodes.node(parent).kind {
        Kind::Target => {
            let known = name == "iscsi" && state.has_module(Module::IscsiTarget);
            known.then_some(Kind::Iscsi).ok_or(Errno::EINVAL)
        }
        Kind::Core => make_hba(state, name),
        Kind::Hba => Ok(Kind::Backstore),
        Kind::BackstoreAlua => Ok(Kind::Inert),
        Kind::Iscsi if name.len() > IQN_MAX => Err(Errno::EINVAL),
        Kind::Iscsi => Ok(Kind::IscsiTarget),
        Kind::IscsiTarget => {
            let (_, tag) = name.split_once("tpgt_").ok_or(Errno::EINVAL)?;
            number(tag, 65_535).map_err(|_| Errno::EINVAL)?;
            Ok(Kind::Tpg)
        }
        Kind::Portals => make_portal(state, parent, name),
        Kind::Luns => lun_number(name).map(|_| Kind::Lun),
        Kind::Acls => Ok(Kind::Acl),
        Kind::Acl => lun_number(name).map(|_| Kind::MappedLun),
        _ => Err(Errno::EPERM),
    }
}

fn make_hba(state: &ModelState, name: &str) -> Result<Kind, Errno> {
    if name.len() > HBA_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let (plugin, id) = name.rsplit_once('_').ok_or(Errno::EINVAL)?;
    number(id, u64::MAX)?;
    let known = plugin == "iblock" && state.has_module(Module::TargetIblock);
    known.then_some(Kind::Hba).ok_or(Errno::EINVAL)
}

/// Whatever keeps a portal from listening, the kernel says EINVAL.
fn make_portal(state: &mut ModelState, portals: NodeId, name: &str) -> Result<Kind, Errno> {
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

fn lun_number(name: &str) -> Result<u64, Errno> {
    let digits = name.strip_prefix("lun_").ok_or(Errno::EINVAL)?;
    number(digits, u64::MAX)
}

/// What a new object remembers from the start.
pub(super) fn made(state: &mut ModelState, id: NodeId) {
    if state.nodes.node(id).kind == Kind::Acl {
        let tpg = state.nodes.ancestor(id, 2);
        let attrib = state.nodes.group(tpg, "attrib");
        let depth = state.nodes.value(attrib, "default_cmdsn_depth").to_owned();
        state.nodes.set_value(id, "cmdsn_depth", depth);
    }
}

/// What goes with an object.
pub(super) fn released(state: &mut ModelState, id: NodeId) {
    let node = state.nodes.node(id);
    match node.kind {
        Kind::Backstore => {
            if let Some(device) = node.device {
                state.devices.close_exclusive(device);
            }
        }
        Kind::Portal => {
            if let Ok(address) = node.name.parse() {
                state.sockets.close_portal(address);
            }
        }
        _ => {}
    }
}

pub(super) fn allow_link(
    state: &mut ModelState,
    parent: NodeId,
    target: NodeId,
) -> Result<(), Errno> {
    match state.nodes.node(parent).kind {
        Kind::Lun => link_backstore(state, parent, target),
        _ => link_lun(state, parent, target),
    }
}

fn link_backstore(state: &mut ModelState, lun: NodeId, target: NodeId) -> Result<(), Errno> {
    let backstore = state.nodes.node(target);
    if backstore.kind != Kind::Backstore {
        return Err(Errno::EFAULT);
    }
    if backstore.device.is_none() {
        return Err(Errno::ENODEV);
    }
    if !state.nodes.node(lun).links.is_empty() {
        return Err(Errno::EEXIST);
    }
    Ok(())
}

fn link_lun(state: &mut ModelState, mapped: NodeId, target: NodeId) -> Result<(), Errno> {
    let lun = state.nodes.node(target);
    if lun.kind != Kind::Lun {
        return Err(Errno::EFAULT);
    }
    let same_group = state.nodes.ancestor(mapped, 3) == state.nodes.ancestor(target, 2);
    if lun.links.is_empty() || !same_group {
        return Err(Errno::EINVAL);
    }
    if state.nodes.node(mapped).notes.contains_key("access") {
        return Err(Errno::EINVAL);
    }
    let attrib = state.nodes.group(state.nodes.ancestor(target, 2), "attrib");
    let protected = state.nodes.value(attrib, "prod_mode_write_protect");
    let protected = protected.to_owned();
    let notes = &mut state.nodes.node_mut(mapped).notes;
    notes.insert("access", protected);
    Ok(())
}

pub(super) fn drop_link(state: &mut ModelState, parent: NodeId, _target: NodeId) {
    if state.nodes.node(parent).kind == Kind::MappedLun {
        state.nodes.node_mut(parent).notes.remove("access");
        return;
    }
    // A LUN that loses its backstore takes access from every initiator that saw it, although
    // their links stay.
    let sees = |links: &std::collections::BTreeMap<String, NodeId>| {
        links.values().any(|target| *target == parent)
    };
    let mapped = state.nodes.of_kind(Kind::MappedLun);
    let blinded: Vec<NodeId> = mapped
        .filter(|(_, node)| sees(&node.links))
        .map(|(id, _)| id)
        .collect();
    for mapped in blinded {
        state.nodes.node_mut(mapped).notes.remove("access");
    }
}

/// What an attribute reads as.
pub(super) fn show(state: &ModelState, id: NodeId, file: &str) -> Result<String, Errno> {
    let node = state.nodes.node(id);
    match (node.kind, file) {
        (Kind::Target, "dbroot") => Ok(state.dbroot.clone()),
        (Kind::Backstore, "info") => Ok(backstore_info(state, id)),
        (Kind::BackstoreWwn, "vpd_unit_serial") => {
            let serial = state.nodes.value(id, "vpd_unit_serial");
            let line = format!("T10 VPD Unit Serial Number: {serial}");
            Ok(line.trim_end().to_owned())
        }
        (Kind::Lun, _) if node.links.is_empty() => Err(Errno::ENODEV),
        (Kind::Acl, "info") => Ok(match node.notes.get("session") {
            Some(session) => format!("InitiatorName: {session}"),
            None => format!(
                "No active iSCSI Session for Initiator Endpoint: {}",
                node.name
            ),
        }),
        (Kind::MappedLun, _) => Ok(node.notes.get("access").cloned().unwrap_or_default()),
        _ => Ok(state.nodes.value(id, file).to_owned()),
    }
}

fn backstore_info(state: &ModelState, id: NodeId) -> String {
    let node = state.nodes.node(id);
    let status = if node.linked > 0 {
        "ACTIVATED"
    } else {
        "DEACTIVATED"
    };
    let attrib = state.nodes.group(id, "attrib");
    let path = match node.notes.get("path") {
        Some(path) => format!("  UDEV PATH: {path}"),
        None => String::new(),
    };
    let read_only = node.notes.get("readonly").map_or("0", String::as_str);
    let (name, numbers) = match node.device {
        Some(number) => (
            format!("iBlock device: {number}"),
            format!(
                "Major: {} Minor: {}  CLAIMED: IBLOCK",
                number.major, number.minor
            ),
        ),
        None => (String::new(), "Major: 0 Minor: 0".to_owned()),
    };
    format!(
        "Status: {status}  Max Queue Depth: 0  SectorSize: {}  HwMaxSectors: {}\n        \
         {name}{path}  readonly: {read_only}\n        {numbers}",
        state.nodes.value(attrib, "block_size"),
        state.nodes.value(attrib, "hw_max_sectors"),
    )
}

/// What a write does, for attributes whose rule needs to know more than the text.
pub(super) fn store(
    state: &mut ModelState,
    id: NodeId,
    file: &'static str,
    text: &str,
) -> Result<(), Errno> {
    match state.nodes.node(id).kind {
        Kind::Target => store_dbroot(state, text),
        Kind::Hba => Err(Errno::EINVAL),
        Kind::Backstore => store_backstore(state, id, file, text),
        Kind::BackstoreAttrib => store_device_attribute(state, id, file, text),
        Kind::BackstoreWwn => store_wwn(state, id, file, text),
        Kind::Auth => store_auth(state, id, file, text),
        Kind::Tpg => store_tpg(state, id, file, text),
        Kind::TpgAttrib => store_tpg_attribute(state, id, file, text),
        Kind::TpgParam => store_parameter(state, id, file, text),
        Kind::AclAttrib => store_acl_attribute(state, id, file, text),
        Kind::MappedLun => store_write_protect(state, id, text),
        Kind::Lun if state.nodes.node(id).links.is_empty() => Err(Errno::ENODEV),
        _ => {
            state.nodes.set_value(id, file, line(text));
            Ok(())
        }
    }
}

/// The kernel copies as many bytes as were written over what was there: without a newline, which
/// it turns into the terminating NUL, the end of a longer former value stays.
fn store_dbroot(state: &mut ModelState, text: &str) -> Result<(), Errno> {
    if state.nodes.of_kind(Kind::Backstore).next().is_some() {
        return Err(Errno::EINVAL);
    }
    let directory = line(text);
    if !directory.starts_with('/') {
        return Err(Errno::ENOENT);
    }
    let rest = match text.ends_with('\n') {
        true => "",
        false => state.dbroot.get(directory.len()..).unwrap_or_default(),
    };
    state.dbroot = format!("{directory}{rest}");
    Ok(())
}

fn store_backstore(
    state: &mut ModelState,
    id: NodeId,
    file: &'static str,
    text: &str,
) -> Result<(), Errno> {
    match file {
        "control" => text
            .split([',', '\n'])
            .try_for_each(|option| control(state, id, option)),
        "enable" => enable_backstore(state, id, text),
        _ => {
            state.nodes.set_value(id, file, line(text));
            Ok(())
        }
    }
}

fn control(state: &mut ModelState, id: NodeId, option: &str) -> Result<(), Errno> {
    let node = state.nodes.node_mut(id);
    match option.split_once('=') {
        Some(("udev_path", _)) if node.device.is_some() => Err(Errno::EEXIST),
        Some(("udev_path", "")) => Err(Errno::EINVAL),
        Some(("udev_path", path)) => {
            let kept: String = path.chars().take(PATH_ROOM - 1).collect();
            node.notes.insert("path", kept);
            Ok(())
        }
        Some(("readonly", value)) => {
            let value = number(value, u64::MAX)?;
            node.notes.insert("readonly", value.to_string());
            Ok(())
        }
        // Unknown options are ignored.
        _ => Ok(()),
    }
}

fn enable_backstore(state: &mut ModelState, id: NodeId, text: &str) -> Result<(), Errno> {
    if !text.contains('1') {
        return Err(Errno::EINVAL);
    }
    let node = state.nodes.node(id);
    if node.device.is_some() {
        return Err(Errno::EEXIST);
    }
    let path = node.notes.get("path").ok_or(Errno::EINVAL)?;
    let write = node.notes.get("readonly").is_none_or(|value| value == "0");
    let number = state.devices.lookup(Path::new(path)).ok_or(Errno::ENOENT)?;
    let holder = Holder::Backstore(state.nodes.path(id));
    state.devices.open_exclusive(number, &holder, write)?;
    let discard = state.devices.device(number).is_some_and(|d| d.discard);
    state.nodes.node_mut(id).device = Some(number);
    state.nodes.set_value(id, "enable", "1");
    configure_attributes(state, id, discard);
    Ok(())
}

fn configure_attributes(state: &mut ModelState, id: NodeId, discard: bool) {
    let attrib = state.nodes.group(id, "attrib");
    let mut set = |file, value: &str| state.nodes.set_value(attrib, file, value);
    set("block_size", "512");
    set("hw_block_size", "512");
    set("hw_queue_depth", "128");
    set("queue_depth", "128");
    set("hw_max_sectors", "8192");
    set("optimal_sectors", "8192");
    set("max_write_same_len", "65535");
    if discard {
        set("max_unmap_lba_count", "8192");
        set("max_unmap_block_desc_count", "1");
        set("unmap_granularity", "128");
    }
}

fn store_device_attribute(
    state: &mut ModelState,
    id: NodeId,
    file: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let backstore = state.nodes.ancestor(id, 1);
    let exported = state.nodes.node(backstore).linked > 0;
    let value = match file {
        "emulate_tpu" | "emulate_tpws" => {
            let on = flag(text)?;
            can_unmap(state, id, backstore, on)?;
            u64::from(on)
        }
        "unmap_zeroes_data" => {
            let on = flag(text)?;
            unless_exported(exported)?;
            can_unmap(state, id, backstore, on)?;
            u64::from(on)
        }
        "emulate_model_alias" => {
            unless_exported(exported)?;
            u64::from(flag(text)?)
        }
        "emulate_tas" | "force_pr_aptpl" => {
            let on = flag(text)?;
            unless_exported(exported)?;
            u64::from(on)
        }
        // The device has a cache or has not; only "no emulation" is accepted.
        "emulate_write_cache" => match flag(text)? {
            true => return Err(Errno::EINVAL),
            false => 0,
        },
        "emulate_rest_reord" => match flag(text)? {
            true => return Err(Errno::ENOSYS),
            false => 0,
        },
        "alua_support" | "pgr_support" => match flag(text)? {
            true => 1,
            false => return Err(Errno::ENOSYS),
        },
        "block_size" => {
            let size = number(text, u64::from(u32::MAX))?;
            unless_exported(exported)?;
            match size {
                512 | 1024 | 2048 | 4096 => size,
                _ => return Err(Errno::EINVAL),
            }
        }
        "queue_depth" | "optimal_sectors" => {
            let value = number(text, u64::from(u32::MAX))?;
            unless_exported(exported)?;
            let limit = if file == "queue_depth" {
                "hw_queue_depth"
            } else {
                "hw_max_sectors"
            };
            let limit = number(state.nodes.value(id, limit), u64::MAX)?;
            let least = u64::from(file == "queue_depth");
            if !(least..=limit).contains(&value) {
                return Err(Errno::EINVAL);
            }
            value
        }
        "emulate_ua_intlck_ctrl" => {
            let value = number(text, u64::from(u32::MAX))?;
            if value > 2 {
                return Err(Errno::EINVAL);
            }
            unless_exported(exported)?;
            value
        }
        // Deprecated or not offered by iblock: taken and ignored.
        _ => return Ok(()),
    };
    state.nodes.set_value(id, file, value.to_string());
    Ok(())
}

fn unless_exported(exported: bool) -> Result<(), Errno> {
    if exported { Err(Errno::EINVAL) } else { Ok(()) }
}

/// Discards are offered only on an open device that has them.
fn can_unmap(state: &ModelState, attrib: NodeId, backstore: NodeId, on: bool) -> Result<(), Errno> {
    if !on || state.nodes.value(attrib, "max_unmap_block_desc_count") != "0" {
        return Ok(());
    }
    match state.nodes.node(backstore).device {
        None => Err(Errno::ENODEV),
        Some(_) => Err(Errno::ENOSYS),
    }
}

fn store_wwn(
    state: &mut ModelState,
    id: NodeId,
    file: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let room = match file {
        "vendor_id" => 9,
        "product_id" => 17,
        "revision" => 5,
        "company_id" => {
            let oui = number(text, u64::from(u32::MAX))?;
            if oui >= 1 << 24 {
                return Err(Errno::EOVERFLOW);
            }
            state.nodes.set_value(id, file, format!("{oui:#08x}"));
            return Ok(());
        }
        _ => SERIAL_ROOM,
    };
    let text = c_string(text);
    let kept = text.trim();
    let length = if file == "vpd_unit_serial" {
        text
    } else {
        kept
    }
    .len();
    if length >= room {
        return Err(Errno::EOVERFLOW);
    }
    if file != "vpd_unit_serial" && !kept.bytes().all(|b| (0x20..=0x7e).contains(&b)) {
        return Err(Errno::EINVAL);
    }
    let backstore = state.nodes.ancestor(id, 1);
    unless_exported(state.nodes.node(backstore).linked > 0)?;
    state.nodes.set_value(id, file, kept);
    Ok(())
}

/// Names and secrets are kept as written, a newline too; `NULL` at their start means none.
fn store_auth(
    state: &mut ModelState,
    id: NodeId,
    file: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let of_acl = state.nodes.node(state.nodes.ancestor(id, 1)).kind == Kind::Acl;
    if of_acl && text.len() >= CHAP_ROOM {
        return Err(Errno::EINVAL);
    }
    let kept: String = c_string(text).chars().take(CHAP_ROOM - 1).collect();
    state.nodes.set_value(id, file, kept);
    let set = |file| is_set(state.nodes.value(id, file));
    let mutual = set("userid_mutual") && set("password_mutual");
    let mutual = u32::from(mutual).to_string();
    state.nodes.set_value(id, "authenticate_target", mutual);
    Ok(())
}

/// Whether a CHAP name or secret counts as set.
pub(super) fn is_set(text: &str) -> bool {
    !text.is_empty() && !text.starts_with("NULL")
}

fn store_tpg(
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

fn end_sessions(state: &mut ModelState, tpg: NodeId) {
    let acls = state.nodes.group(tpg, "acls");
    let acls: Vec<NodeId> = state.nodes.node(acls).children.values().copied().collect();
    for acl in acls {
        state.nodes.node_mut(acl).notes.remove("session");
    }
}

fn store_tpg_attribute(
    state: &mut ModelState,
    id: NodeId,
    file: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let value = number(text, u64::from(u32::MAX))?;
    if value > 1 {
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

fn store_acl_attribute(
    state: &mut ModelState,
    id: NodeId,
    file: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let value = match (file, text.trim_end_matches('\n')) {
        ("authentication", "-1") => "-1".to_owned(),
        ("authentication", _) => match number(text, u64::from(u32::MAX))? {
            value @ (0 | 1) => value.to_string(),
            _ => return Err(Errno::EINVAL),
        },
        // Zero means never.
        _ => match number(text, u64::from(u32::MAX))? {
            value @ (0 | 3..=60) => value.to_string(),
            _ => return Err(Errno::EINVAL),
        },
    };
    state.nodes.set_value(id, file, value);
    Ok(())
}

fn store_write_protect(state: &mut ModelState, id: NodeId, text: &str) -> Result<(), Errno> {
    let value = number(text, u64::MAX)?;
    if value > 1 {
        return Err(Errno::EINVAL);
    }
    // Without a linked LUN there is nothing to keep it in, and the kernel says nothing.
    if let Some(access) = state.nodes.node_mut(id).notes.get_mut("access") {
        *access = value.to_string();
    }
    Ok(())
}

fn store_parameter(
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
