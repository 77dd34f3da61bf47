//! Ports and where they listen.

use std::net::{IpAddr, SocketAddr};

use ashlar_targetd_protocol::NvmeFabric;

use crate::model::attribute::{Attribute, line, number};
use crate::model::configfs::NodeId;
use crate::model::{ModelState, Module};
use crate::tree::Errno;

/// Room for an address and for a service.
const TRADDR_ROOM: usize = 256;
const TRSVCID_ROOM: usize = 32;

/// A port begins to listen when its first subsystem is linked.
pub(in crate::model) fn listen(state: &mut ModelState, port: NodeId) -> Result<(), Errno> {
    let (fabric, address) = address(state, port).ok_or(Errno::EINVAL)?;
    let module = match fabric {
        NvmeFabric::Tcp => Module::NvmetTcp,
        NvmeFabric::Rdma => Module::NvmetRdma,
    };
    if !state.has_module(module) {
        return Err(Errno::EINVAL);
    }
    state.sockets.open_port(fabric, address)?;
    let notes = &mut state.nodes.node_mut(port).notes;
    notes.insert("enabled", String::new());
    if state.nodes.value(port, "param_inline_data_size") == "-1" {
        state
            .nodes
            .set_value(port, "param_inline_data_size", "16384");
    }
    if state.nodes.value(port, "param_max_queue_size") == "-1" {
        let size = match fabric {
            NvmeFabric::Tcp => "1024",
            NvmeFabric::Rdma => "128",
        };
        state.nodes.set_value(port, "param_max_queue_size", size);
    }
    Ok(())
}

/// Where a port of TCP or RDMA listens, or would.
pub(in crate::model) fn address(
    state: &ModelState,
    port: NodeId,
) -> Option<(NvmeFabric, SocketAddr)> {
    let fabric = match state.nodes.value(port, "addr_trtype") {
        "tcp" => NvmeFabric::Tcp,
        "rdma" => NvmeFabric::Rdma,
        _ => return None,
    };
    let ip: IpAddr = state.nodes.value(port, "addr_traddr").parse().ok()?;
    let service = number(state.nodes.value(port, "addr_trsvcid"), 65_535).ok()?;
    let family = match ip {
        IpAddr::V4(_) => "ipv4",
        IpAddr::V6(_) => "ipv6",
    };
    let agrees = state.nodes.value(port, "addr_adrfam") == family;
    agrees.then_some((fabric, SocketAddr::new(ip, service as u16)))
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
