//! Backstores: block devices as SCSI disks.

use super::device_attribute::unless_exported;
use crate::model::attribute::{c_string, line, number};
use crate::model::configfs::NodeId;
use crate::model::kind::Kind;
use crate::model::{Holder, ModelState, Module};
use crate::tree::Errno;
use std::path::Path;

/// Longest name of an HBA directory.
const HBA_MAX: usize = 63;
/// Room for the unit serial number, with a terminating NUL.
const SERIAL_ROOM: usize = 254;
/// Room for a device path, with a terminating NUL.
const PATH_ROOM: usize = 512;

pub(in crate::model) fn make_hba(state: &ModelState, name: &str) -> Result<Kind, Errno> {
    if name.len() > HBA_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let (plugin, id) = name.rsplit_once('_').ok_or(Errno::EINVAL)?;
    number(id, u64::MAX)?;
    let known = plugin == "iblock" && state.has_module(Module::TargetIblock);
    known.then_some(Kind::Hba).ok_or(Errno::EINVAL)
}

pub(in crate::model) fn link_backstore(
    state: &mut ModelState,
    lun: NodeId,
    target: NodeId,
) -> Result<(), Errno> {
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

pub(in crate::model) fn backstore_info(state: &ModelState, id: NodeId) -> String {
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

pub(in crate::model) fn store_backstore(
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

pub(in crate::model) fn store_wwn(
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

/// Registrations of reservations that are told to it, one after the other, before anybody sees it.
pub(in crate::model) fn store_registration(
    state: &mut ModelState,
    id: NodeId,
    file: &'static str,
    text: &str,
) -> Result<(), Errno> {
    let needed = ["initiator_node=", "target_node=", "sa_res_key="];
    if !needed.iter().all(|token| text.contains(token)) {
        return Err(Errno::EINVAL);
    }
    let backstore = state.nodes.ancestor(id, 1);
    unless_exported(state.nodes.node(backstore).linked > 0)?;
    let told = state.nodes.value(id, file).to_owned();
    state.nodes.set_value(id, file, format!("{told}{text}\n"));
    Ok(())
}

fn control(state: &mut ModelState, id: NodeId, option: &str) -> Result<(), Errno> {
    let node = state.nodes.node_mut(id);
    match option.split_once('=') {
        Some(("udev_path", _)) if node.device.is_some() => Err(Errno::EEXIST),
        // Options without a value of their type are ignored like unknown ones.
        Some(("udev_path", "")) => Ok(()),
        Some(("udev_path", path)) => {
            let kept: String = path.chars().take(PATH_ROOM - 1).collect();
            node.notes.insert("path", kept);
            Ok(())
        }
        Some(("readonly", value)) => {
            if let Ok(value) = number(value, u64::MAX) {
                node.notes.insert("readonly", value.to_string());
            }
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
    let number = state.devices.resolve(Path::new(path))?;
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
