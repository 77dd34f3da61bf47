//! Namespaces.

use std::path::Path;

use uuid::Uuid;

use crate::model::ModelState;
use crate::model::attribute::{Attribute, Store, flag, line};
use crate::model::configfs::NodeId;
use crate::tree::Errno;

/// The new value, or `None` when the write is an action that was done here.
pub(in crate::model) fn namespace_value(
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

pub(in crate::model) fn disable(state: &mut ModelState, id: NodeId) {
    if let Some(device) = state.nodes.node_mut(id).device.take() {
        state.devices.close(device);
    }
    state.nodes.set_value(id, "enable", "0");
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
