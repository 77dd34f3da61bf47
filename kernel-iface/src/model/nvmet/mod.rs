//! What directories, values and links mean below `nvmet/`.

pub(super) mod attributes;
mod namespace;
mod port;
mod subsystem;

use uuid::Uuid;

use super::ModelState;
use super::attribute::{Attribute, line, number};
use super::configfs::NodeId;
use super::kind::Kind;
use crate::tree::Errno;

use namespace::{disable, namespace_value};
pub(super) use port::address;
use port::{follow_port, listen, port_value};
use subsystem::{host_value, subsystem_value};

/// The name of the discovery subsystem, which configfs cannot make.
const DISCOVERY: &str = "nqn.2014-08.org.nvmexpress.discovery";

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
