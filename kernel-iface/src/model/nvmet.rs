//! What directories, values and links mean below `nvmet/`.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use uuid::Uuid;

use super::attribute::{Attribute, Store, c_string, flag, line, number};
use super::configfs::NodeId;
use super::kind::Kind;
use super::{ModelState, Module};
use crate::tree::Errno;

/// The name of the discovery subsystem, which configfs cannot make.
const DISCOVERY: &str = "nqn.2014-08.org.nvmexpress.discovery";
/// Room for an address and for a service.
const TRADDR_ROOM: usize = 256;
const TRSVCID_ROOM: usize = 32;

/// Which directories may hold links.
pub(super) fn links(kind: Kind) -> bool {
    matches!(kind, Kind::AllowedHosts | Kind::PortSubsystems)
}

/// What a new directory would be.
pub(super) fn make(state: &mut ModelState, parent: NodeId, name: &str) -> Result<Kind, Errno> {
    match state.nodes.node(parent).kind {
        Kind::Subsystems if name == DISCOVERY => Err(Errno::EINVAL),
        Kind::Subsystems => Ok(Kind::Subsystem),
        Kind::Namespaces => match number(name, u64::from(u32::MAX))? {
            0 | 0xffff_ffff => Err(Errno::EINVAL),
            _ => Ok(Kind::Namespace),
        },
        Kind::Hosts => Ok(Kind::Host),
        Kind::Ports => {
            number(name, 65_535).map_err(|_| Errno::EINVAL)?;
            Ok(Kind::Port)
        }
        Kind::AnaGroups => match number(name, u64::from(u32::MAX))? {
            2..=128 => Ok(Kind::AnaGroup),
            _ => Err(Errno::EINVAL),
        },
        _ => Err(Errno::EPERM),
    }
}

/// What the kernel draws for a new object.
pub(super) fn made(state: &mut ModelState, id: NodeId) {
    match state.nodes.node(id).kind {
        Kind::Subsystem => {
            let serial = format!("{:020x}", state.draw());
            state.nodes.set_value(id, "attr_serial", serial);
        }
        Kind::Namespace => {
            let uuid = Uuid::from_u128(u128::from(state.draw()));
            state.nodes.set_value(id, "device_uuid", uuid.to_string());
        }
        Kind::AnaGroup => state.nodes.set_value(id, "ana_state", "inaccessible"),
        _ => {}
    }
}

/// What goes with an object.
pub(super) fn released(state: &mut ModelState, id: NodeId) {
    if state.nodes.node(id).kind == Kind::Namespace {
        disable(state, id);
    }
}

pub(super) fn allow_link(
    state: &mut ModelState,
    parent: NodeId,
    target: NodeId,
) -> Result<(), Errno> {
    let node = state.nodes.node(parent);
    let wanted = match node.kind {
        Kind::AllowedHosts => Kind::Host,
        _ => Kind::Subsystem,
    };
    if state.nodes.node(target).kind != wanted {
        return Err(Errno::EINVAL);
    }
    if wanted == Kind::Host {
        let subsystem = node.parent;
        if state.nodes.value(subsystem, "attr_allow_any_host") == "1" {
            return Err(Errno::EINVAL);
        }
    }
    if node.links.values().any(|linked| *linked == target) {
        return Err(Errno::EEXIST);
    }
    if wanted == Kind::Subsystem && node.links.is_empty() {
        listen(state, state.nodes.ancestor(parent, 1))?;
    }
    Ok(())
}

pub(super) fn drop_link(state: &mut ModelState, parent: NodeId, _target: NodeId) {
    let node = state.nodes.node(parent);
    if node.kind == Kind::PortSubsystems && node.links.is_empty() {
        let port = node.parent;
        if let Some(address) = address(state, port) {
            state.sockets.close_port(address);
        }
        state.nodes.node_mut(port).notes.remove("enabled");
    }
}

/// A port begins to listen when its first subsystem is linked.
fn listen(state: &mut ModelState, port: NodeId) -> Result<(), Errno> {
    if state.nodes.value(port, "addr_trtype") != "tcp" || !state.has_module(Module::NvmetTcp) {
        return Err(Errno::EINVAL);
    }
    let address = address(state, port).ok_or(Errno::EINVAL)?;
    state.sockets.open_port(address)?;
    let notes = &mut state.nodes.node_mut(port).notes;
    notes.insert("enabled", String::new());
    if state.nodes.value(port, "param_inline_data_size") == "-1" {
        state
            .nodes
            .set_value(port, "param_inline_data_size", "16384");
    }
    if state.nodes.value(port, "param_max_queue_size") == "-1" {
        state.nodes.set_value(port, "param_max_queue_size", "1024");
    }
    Ok(())
}

/// Where a TCP port listens, or would.
pub(super) fn address(state: &ModelState, port: NodeId) -> Option<SocketAddr> {
    let ip: IpAddr = state.nodes.value(port, "addr_traddr").parse().ok()?;
    let service = number(state.nodes.value(port, "addr_trsvcid"), 65_535).ok()?;
    let family = match ip {
        IpAddr::V4(_) => "ipv4",
        IpAddr::V6(_) => "ipv6",
    };
    let agrees = state.nodes.value(port, "addr_adrfam") == family;
    agrees.then_some(SocketAddr::new(ip, service as u16))
}

/// What a write does.
pub(super) fn store(
    state: &mut ModelState,
    id: NodeId,
    attribute: &'static Attribute,
    text: &str,
) -> Result<(), Errno> {
    let file = attribute.file;
    let value = match state.nodes.node(id).kind {
        Kind::Subsystem => subsystem_value(state, id, attribute, text)?,
        Kind::Namespace => match namespace_value(state, id, attribute, text)? {
            Some(value) => value,
            None => return Ok(()),
        },
        Kind::Host => host_value(attribute, text)?,
        Kind::Port => {
            let value = port_value(state, id, attribute, text)?;
            follow_port(state, id, file, &value);
            value
        }
        Kind::Nvmet => line(text).to_owned(),
        _ => attribute.store.plain(text)?,
    };
    state.nodes.set_value(id, file, value);
    Ok(())
}

fn subsystem_value(
    state: &ModelState,
    id: NodeId,
    attribute: &Attribute,
    text: &str,
) -> Result<String, Errno> {
    let cntlid = |file| number(state.nodes.value(id, file), 65_535);
    match attribute.file {
        "attr_allow_any_host" => {
            let any = flag(text)?;
            let hosts = state.nodes.group(id, "allowed_hosts");
            if any && !state.nodes.node(hosts).links.is_empty() {
                return Err(Errno::EINVAL);
            }
            Ok(u32::from(any).to_string())
        }
        "attr_cntlid_min" | "attr_cntlid_max" => {
            let value = scanned_number(text)?;
            let empty = match attribute.file {
                "attr_cntlid_min" => value > cntlid("attr_cntlid_max")?,
                _ => value < cntlid("attr_cntlid_min")?,
            };
            if value == 0 || empty {
                return Err(Errno::EINVAL);
            }
            Ok(value.to_string())
        }
        "attr_serial" => printable(text, 20),
        "attr_model" => printable(text, 40),
        "attr_firmware" => printable(text, 8),
        "attr_ieee_oui" => match number(text, u64::from(u32::MAX))? {
            oui if oui < 1 << 24 => Ok(format!("{oui:#08x}")),
            _ => Err(Errno::EINVAL),
        },
        "attr_version" => {
            let parts: Vec<&str> = line(text).split('.').collect();
            let numeric = parts.iter().all(|part| part.parse::<u16>().is_ok());
            let version = numeric && (2..=3).contains(&parts.len());
            version.then(|| parts.join(".")).ok_or(Errno::EINVAL)
        }
        _ => attribute.store.plain(text),
    }
}

/// `sscanf("%hu")`: the digits at the start, cut to 16 bits.
fn scanned_number(text: &str) -> Result<u64, Errno> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let number: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    Ok(number & 0xffff)
}

fn printable(text: &str, room: usize) -> Result<String, Errno> {
    let text = line(text);
    let ascii = text.bytes().all(|b| (0x20..=0x7e).contains(&b));
    let fits = !text.is_empty() && text.len() <= room;
    (ascii && fits)
        .then(|| text.to_owned())
        .ok_or(Errno::EINVAL)
}

/// The new value, or `None` when the write is an action that was done here.
fn namespace_value(
    state: &mut ModelState,
    id: NodeId,
    attribute: &Attribute,
    text: &str,
) -> Result<Option<String>, Errno> {
    let enabled = state.nodes.value(id, "enable") == "1";
    let while_disabled = |errno| if enabled { Err(errno) } else { Ok(()) };
    match attribute.file {
        "enable" => {
            if flag(text)? {
                enable(state, id)?;
            } else {
                disable(state, id);
            }
            Ok(None)
        }
        "revalidate_size" => match flag(text)? {
            true if enabled => Ok(None),
            _ => Err(Errno::EINVAL),
        },
        "device_path" => {
            while_disabled(Errno::EBUSY)?;
            let path = line(text);
            let path = (!path.is_empty()).then(|| path.to_owned());
            path.map(Some).ok_or(Errno::EINVAL)
        }
        "device_uuid" => {
            while_disabled(Errno::EBUSY)?;
            let uuid = text.get(..36).and_then(|text| text.parse::<Uuid>().ok());
            let uuid = uuid.map(|uuid| uuid.to_string());
            uuid.map(Some).ok_or(Errno::EINVAL)
        }
        "device_nguid" => {
            while_disabled(Errno::EBUSY)?;
            nguid(text).map(|bytes| Some(Uuid::from_bytes(bytes).to_string()))
        }
        "buffered_io" => {
            let value = Store::Bool.plain(text)?;
            while_disabled(Errno::EINVAL)?;
            Ok(Some(value))
        }
        _ => attribute.store.plain(text).map(Some),
    }
}

/// 16 bytes of two digits each, single dashes or colons allowed between them.
fn nguid(text: &str) -> Result<[u8; 16], Errno> {
    let mut rest = text;
    let mut bytes = [0; 16];
    for byte in &mut bytes {
        let digits = rest.get(..2).ok_or(Errno::EINVAL)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Errno::EINVAL);
        }
        *byte = u8::from_str_radix(digits, 16).map_err(|_| Errno::EINVAL)?;
        rest = &rest[2..];
        rest = rest.strip_prefix(['-', ':']).unwrap_or(rest);
    }
    Ok(bytes)
}

fn enable(state: &mut ModelState, id: NodeId) -> Result<(), Errno> {
    if state.nodes.node(id).device.is_some() {
        return Ok(());
    }
    let path = state.nodes.value(id, "device_path");
    if path == "(null)" {
        return Err(Errno::EINVAL);
    }
    let number = state.devices.resolve(Path::new(path))?;
    state.devices.open(number, true)?;
    state.nodes.node_mut(id).device = Some(number);
    state.nodes.set_value(id, "enable", "1");
    Ok(())
}

fn disable(state: &mut ModelState, id: NodeId) {
    if let Some(device) = state.nodes.node_mut(id).device.take() {
        state.devices.close(device);
    }
    state.nodes.set_value(id, "enable", "0");
}

fn host_value(attribute: &Attribute, text: &str) -> Result<String, Errno> {
    if !matches!(attribute.file, "dhchap_key" | "dhchap_ctrl_key") {
        return attribute.store.plain(text);
    }
    let text = c_string(text);
    if text.is_empty() {
        return Ok(String::new());
    }
    // Nothing after the hash is looked at before a host connects.
    let hash = text
        .strip_prefix("DHHC-1:")
        .and_then(|rest| rest.split(':').next())
        .ok_or(Errno::EINVAL)?;
    match hash.parse::<u8>() {
        Ok(0..=3) => Ok(text.trim().to_owned()),
        _ => Err(Errno::EINVAL),
    }
}

/// What else changes with an attribute of a port.
fn follow_port(state: &mut ModelState, id: NodeId, file: &str, value: &str) {
    let mut set = |file, value: &str| state.nodes.set_value(id, file, value);
    match (file, value) {
        ("addr_trtype", "tcp") => set("addr_tsas", "none"),
        ("addr_trtype", "rdma") => set("addr_tsas", "connected"),
        ("addr_trtype", _) => set("addr_tsas", ""),
        ("addr_tsas", "tls1.3") => set("addr_treq", "required"),
        ("addr_tsas", "none") => set("addr_treq", "not specified"),
        _ => {}
    }
}

fn port_value(
    state: &ModelState,
    id: NodeId,
    attribute: &Attribute,
    text: &str,
) -> Result<String, Errno> {
    let room = match attribute.file {
        "addr_traddr" => TRADDR_ROOM,
        "addr_trsvcid" => TRSVCID_ROOM,
        _ => usize::MAX,
    };
    if text.len() > room {
        return Err(Errno::EINVAL);
    }
    if state.nodes.node(id).notes.contains_key("enabled") {
        return Err(Errno::EACCES);
    }
    match attribute.file {
        "addr_traddr" | "addr_trsvcid" => {
            let word = text.split_whitespace().next();
            word.map(str::to_owned).ok_or(Errno::EINVAL)
        }
        "addr_tsas" => match (state.nodes.value(id, "addr_trtype"), line(text)) {
            ("tcp", security @ ("none" | "tls1.3")) => Ok(security.to_owned()),
            ("rdma", pairs @ "connected") => Ok(pairs.to_owned()),
            _ => Err(Errno::EINVAL),
        },
        _ => attribute.store.plain(text),
    }
}
