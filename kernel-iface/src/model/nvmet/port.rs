//! Ports and where they listen.

use std::net::{IpAddr, SocketAddr};

use ashlar_targetd_protocol::{NvmeFabric, NvmePort, PortalAddr};

use crate::model::attribute::{Attribute, line, number};
use crate::model::configfs::NodeId;
use crate::model::{ModelState, Module};
use crate::tree::Errno;

/// Room for an address and for a service.
const TRADDR_ROOM: usize = 256;
const TRSVCID_ROOM: usize = 32;

/// A port begins to listen when its first subsystem is linked.
pub(in crate::model) fn listen(state: &mut ModelState, port: NodeId) -> Result<(), Errno> {
    let address = address(state, port).ok_or(Errno::EINVAL)?;
    let (module, queue) = match address.fabric() {
        NvmeFabric::Tcp => (Module::NvmetTcp, "1024"),
        NvmeFabric::Rdma => (Module::NvmetRdma, "128"),
        NvmeFabric::Fc => (Module::NvmetFc, "1024"),
    };
    if !state.has_module(module) {
        return Err(Errno::EINVAL);
    }
    state.sockets.open_port(address)?;
    let notes = &mut state.nodes.node_mut(port).notes;
    notes.insert("enabled", String::new());
    let inline = match address.fabric() {
        NvmeFabric::Tcp | NvmeFabric::Rdma => "16384",
        NvmeFabric::Fc => "0",
    };
    if state.nodes.value(port, "param_inline_data_size") == "-1" {
        state
            .nodes
            .set_value(port, "param_inline_data_size", inline);
    }
    if state.nodes.value(port, "param_max_queue_size") == "-1" {
        state.nodes.set_value(port, "param_max_queue_size", queue);
    }
    Ok(())
}

/// Where a port listens, or would.
pub(in crate::model) fn address(state: &ModelState, port: NodeId) -> Option<NvmePort> {
    match state.nodes.value(port, "addr_trtype") {
        "tcp" => ip_address(state, port).map(NvmePort::Tcp),
        "rdma" => ip_address(state, port).map(NvmePort::Rdma),
        "fc" if state.nodes.value(port, "addr_adrfam") == "fc" => {
            let port = state.nodes.value(port, "addr_traddr").parse().ok()?;
            Some(NvmePort::Fc(port))
        }
        _ => None,
    }
}

fn ip_address(state: &ModelState, port: NodeId) -> Option<PortalAddr> {
    let ip: IpAddr = state.nodes.value(port, "addr_traddr").parse().ok()?;
    let service = number(state.nodes.value(port, "addr_trsvcid"), 65_535).ok()?;
    let family = match ip {
        IpAddr::V4(_) => "ipv4",
        IpAddr::V6(_) => "ipv6",
    };
    let agrees = state.nodes.value(port, "addr_adrfam") == family;
    let socket = SocketAddr::new(ip, service as u16);
    agrees.then(|| PortalAddr::try_from(socket).ok())?
}

pub(in crate::model) fn port_value(
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

/// What else changes with an attribute of a port.
pub(in crate::model) fn follow_port(state: &mut ModelState, id: NodeId, file: &str, value: &str) {
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
